"""The page of a real service: sign-in by its authenticator, drafts by its flow, refusals in its log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path

import httpx
import pytest

from hillhold_signer import example_signer
from hillhold_signer.errors import ConfigRefused
from hillhold_signer.log.events import Event, Kind
from hillhold_signer.log.proof import Proof
from hillhold_signer.service import accounts
from hillhold_signer.service.foureyes import satisfied
from hillhold_signer.service.page.data import read_overview
from hillhold_signer.service.service import Service
from hillhold_signer.service.settings import read_settings
from hillhold_signer.service.tables import EVENTS
from servicekit import Kit, make_kit, never_asked, sign, states, submit, until
from servicekit import serving as served
from workshop import image


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    made = make_kit(tmp_path / "service", None, None, "monitor")
    yield made
    made.data.database.close()


@contextmanager
def at_page(kit: Kit, url: str, name: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, headers={"Origin": url, "Accept": "text/html"}) as client:
        assert client.post("/sign-in", data={"token": kit.tokens[name]}).status_code == 303
        yield client


def recorded(kit: Kit, kind: Kind) -> list[Event]:
    """Events that are not in the log yet, since nothing runs that puts them there."""
    with kit.data.database.snapshot() as connection:
        events = [Event.decode(row.entry) for row in connection.execute(EVENTS.select())]
    return [event for event in events if event.kind is kind]


@contextmanager
def idle(kit: Kit) -> Iterator[str]:
    """A replica that does nothing by itself."""
    service = Service(kit.settings, never_asked, lambda *_: None)
    service.worker.start = lambda: None  # type: ignore[method-assign]
    with served(service) as url:
        yield url


def test_a_build_is_seen_from_its_draft_to_the_proof_that_it_is_in_the_log(kit: Kit) -> None:
    with (
        kit.running() as url,
        at_page(kit, url, "grace") as page,
        kit.client(url, "ci") as ci,
        kit.client(url, "ada") as ada,
        kit.client(url, "grace") as grace,
    ):
        assert submit(ci, image("1.0.0")).status_code == 201
        draft = page.get("/drafts/pump")
        assert "waits for you" in draft.text
        assert "pump/1.0.0/app.bin" in draft.text
        assert "ci (machine)" in draft.text
        assert page.get("/drafts/pump/request").content == grace.get("/v1/requests/pump").content
        sign(ada, "release-1")
        assert "1 of 2 signatures" in page.get("/").text
        sign(grace, "release-2")
        until(lambda: states(ci) == {"1.0.0": "available"})
        assert "Nothing waits for a signature." in page.get("/").text
        assert "app 1.0.0" in page.get("/lines/pump").text
        until(lambda: page.get("/releases/pump/1.0.0/app.bin/proof").status_code == 200)
        proof = page.get("/releases/pump/1.0.0/app.bin/proof").content
        assert proof == grace.get("/v1/releases/pump/1.0.0/app.bin/proof").content
        assert Proof.parse(proof).extra
    with kit.running() as url, at_page(kit, url, "auditor") as page:
        until(lambda: "Submission" in page.get("/log?kind=submission").text)
        assert page.get("/log/entries/0/proof").status_code == 200
    assert kit.failures == []


def test_the_page_and_the_publisher_judge_four_eyes_alike(kit: Kit) -> None:
    def judged() -> tuple[bool, bool]:
        with kit.data.reading() as unit:
            reader = accounts.principal(unit.connection, accounts.find(unit.connection, "auditor").id, ())
            assert reader
            found = read_overview(unit, reader)
            eyes = next(item.eyes for item in found.roles if item.status.role == "pump")
            return satisfied(unit, "pump"), eyes is None or bool(eyes.met)

    with idle(kit) as url, kit.client(url, "grace") as grace, kit.client(url, "ada") as ada:
        assert submit(grace, image("1.0.0")).status_code == 201
        assert judged() == (False, False)
        sign(grace, "release-2")
        assert judged() == (False, False)
        sign(ada, "release-1")
        assert judged() == (True, True)
        with kit.data.writing() as unit:
            accounts.disable(unit.connection, "ada", now=unit.now)
        assert judged() == (False, False)


def test_a_draft_says_whose_signature_is_not_somebody_else_s_and_what_to_do(kit: Kit) -> None:
    keyid = example_signer("release-1").public_key.keyid
    with idle(kit) as url, kit.client(url, "grace") as grace, at_page(kit, url, "auditor") as page:
        assert submit(grace, image("1.0.0")).status_code == 201
        assert "Four eyes: release-1 must be among them" in page.get("/drafts/pump").text
        with kit.data.writing() as unit:
            by = accounts.principal(unit.connection, accounts.find(unit.connection, "grace").id, ())
            accounts.remove_key(unit.connection, "ada", keyid)
            accounts.add_key(unit.connection, by, "ada", keyid)
        text = page.get("/drafts/pump").text
        assert "Nobody is left who could sign and does not stand behind it" in text
        assert "noted by who stands behind it" in text
        with kit.client(url, "ada") as ada:
            sign(ada, "release-1")
        said = "Four eyes: ada's key was noted by grace, who drafted this: let another administrator or the operator note it"
        assert said in unescape(page.get("/drafts/pump").text)
        with kit.data.writing() as unit:
            accounts.remove_key(unit.connection, "ada", keyid)
            accounts.add_key(unit.connection, None, "ada", keyid)
        assert "Four eyes: met" in page.get("/drafts/pump").text


def test_failed_sign_ins_and_denied_pages_are_recorded(kit: Kit) -> None:
    with idle(kit) as url, at_page(kit, url, "ada") as page:
        wrong = f"hh_{'0' * 24}_{'0' * 64}"
        for token in (wrong, "eyJhbGciOiJub25lIn0.e30.", ""):
            assert page.post("/sign-in", data={"token": token}).status_code == 401
        events = recorded(kit, Kind.FAILED_LOGIN)
        assert [event.fields["reason"] for event in events] == ["an unknown token", *["a token of another form"] * 2]
        assert page.get("/log").status_code == 403
        assert page.get("/lines/monitor").status_code == 403
        assert page.get("/lines/pump").status_code == 200
        (first, second) = recorded(kit, Kind.REFUSAL)
        assert (first.actor, first.fields["what"], second.fields["what"]) == ("ada", "page /log", "page /lines/monitor")


def test_whoever_guesses_tokens_has_to_wait(kit: Kit) -> None:
    with idle(kit) as url, httpx.Client(base_url=url, headers={"Origin": url}) as page:
        answers = [page.post("/sign-in", data={"token": "hh_guess"}) for _ in range(25)]
        assert {answer.status_code for answer in answers[:20]} == {401}
        assert {answer.status_code for answer in answers[21:]} == {429}
        assert int(answers[-1].headers["Retry-After"]) >= 1


def test_a_browser_gets_pages_for_errors_and_programs_get_json(kit: Kit) -> None:
    with idle(kit) as url, at_page(kit, url, "ada") as page:
        answer = page.get("/nothing")
        assert (answer.status_code, "There is no such page" in answer.text) == (404, True)
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert page.get("/v1/nothing").headers["Content-Type"] == "application/problem+json"
        assert page.get("/nothing", headers={"Accept": "*/*"}).headers["Content-Type"] == "application/problem+json"
        assert page.get("/v1/status").status_code == 401  # a session is for the page alone
        assert page.get("/log/checkpoint").status_code == 401


@pytest.mark.parametrize("url", ["hillhold.example", "https://hillhold.example/page", "javascript:x", "https://h?x"])
def test_an_address_that_is_none_is_refused(tmp_path: Path, url: str) -> None:
    (tmp_path / "service.toml").write_text(f'url = "{url}"\n')
    with pytest.raises(ConfigRefused):
        read_settings(tmp_path)
    (tmp_path / "service.toml").write_text('url = "https://hillhold.example:8443/"\n')
    assert read_settings(tmp_path).url == "https://hillhold.example:8443"
