"""What somebody can do to the signing service over HTTP: each is refused, and what is drafted, signed and published stays as it is."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from securesystemslib.signer import CryptoSigner

from approver import hand_in, made, unsigned
from hillhold_signer import NamedKey, Team, add_product, example_signer
from hillhold_signer.keyfiles import generate
from hillhold_signer.log.events import Kind
from hillhold_signer.requests import open_request, sign_request
from hillhold_signer.revocation import Revoked, write_revoked
from hillhold_signer.service import accounts, tokens
from hillhold_signer.service.access import EVERY, Role
from servicekit import Kit, make_kit, sign, states, submit, until
from witness import Auditor, quiet
from workshop import image, online, pump, sign_all

pytestmark = pytest.mark.slow


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    """A service with a draft of `pump` that nobody has signed, and a line `valve` that somebody else has."""
    made = make_kit(tmp_path / "service", None, None, "valve")
    made.account("vera", (Role.SIGNER, "valve"), (Role.SUBMITTER, "valve"))
    yield made
    made.data.database.close()


@pytest.fixture
def url(kit: Kit) -> Iterator[str]:
    with kit.running() as found:
        with kit.client(found, "ci") as ci:
            assert submit(ci, image("1.0.0")).status_code == 201
        yield found


@pytest.fixture
def ada(kit: Kit, url: str) -> Iterator[httpx.Client]:
    with kit.client(url, "ada") as client:
        yield client


# --- signatures ---------------------------------------------------------------------------------------------------------------------


def test_a_signature_on_an_older_draft_is_refused_and_one_on_what_is_published_counts_for_nothing_new(
    kit: Kit, url: str, ada: httpx.Client
) -> None:
    old = made(ada)
    with kit.client(url, "ci") as ci, kit.client(url, "grace") as grace:
        assert submit(ci, image("1.1.0", seed=2)).status_code == 201
        assert hand_in(ada, old).status_code == 409
        unsigned(ada)
        new = made(ada)
        assert hand_in(ada, new).status_code == 200
        assert sign(grace, "release-2").status_code == 200
        until(lambda: states(ada)["1.1.0"] == "available")
        for _ in range(2):
            again = hand_in(ada, new)  # whose answer may have been lost
            assert (again.status_code, again.json()["attached"][0]["signatures"]) == (200, "published")
            if "1.2.0" not in states(ada):
                assert submit(ci, image("1.2.0", seed=3)).status_code == 201
        assert ada.get("/v1/status").json()["roles"]["pump"]["signatures"] == "0 of 2"


def test_a_revoked_key_signs_nothing_more(kit: Kit, ada: httpx.Client) -> None:
    keyid = example_signer("release-1").public_key.keyid
    with kit.data.writing() as unit:
        write_revoked(unit.repository.layout, Revoked(keyid, "a laptop was stolen", unit.now))
    assert hand_in(ada, made(ada)).status_code == 422
    unsigned(ada)


def test_the_same_signature_from_eight_at_once_is_one(kit: Kit, ada: httpx.Client) -> None:
    good = made(ada)
    together = threading.Barrier(8)

    def send(_: int) -> httpx.Response:
        together.wait()
        return hand_in(ada, good)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(8)))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert sum(not answer.json()["attached"][0]["repeated"] for answer in answers) == 1
    quiet(kit)
    assert Auditor(kit).counted()["signature", good["sha256"], good["keyid"]] == 1


def test_a_forged_signature_is_in_the_log(kit: Kit, ada: httpx.Client) -> None:
    hand_in(ada, {**made(ada), "sig": "00" * 64})
    quiet(kit)
    found = [event for event in Auditor(kit).read() if event.kind is Kind.REFUSAL]
    assert [event.actor for event in found] == ["ada"]
    assert "verifies" in str(found[0].fields["reason"])


def test_forty_signers_at_once_lose_no_signature(tmp_path: Path) -> None:
    kit = make_kit(tmp_path / "service")
    signers = [CryptoSigner(generate("ed25519")) for _ in range(40)]
    names = [f"signer-{number}" for number in range(40)]
    with kit.data.writing() as unit:
        team = Team(tuple(NamedKey(name, signer.public_key) for name, signer in zip(names, signers, strict=True)), 20)
        add_product(unit.repository, replace(pump(), name="big", team=team), unit.now)
        sign_all(unit.repository, "targets-1", "targets-2")
        for signer in signers[:20]:
            unit.repository.sign(signer)
        unit.repository.publish(online(), unit.now)
    for name in names:
        kit.account(name, (Role.SIGNER, "big"))
    with kit.data.writing() as unit:
        for name, signer in zip(names, signers, strict=True):
            accounts.add_key(unit.connection, None, name, signer.public_key.keyid)
    with kit.running() as url, kit.client(url, "ci") as ci:
        assert submit(ci, image("1.0.0"), "big").status_code == 201
        with kit.client(url, names[0]) as first:
            request_file = open_request(first.get("/v1/requests/big").content)
        files = [sign_request(request_file, signer).data().decode() for signer in signers]
        together = threading.Barrier(40)

        def send(number: int) -> httpx.Response:
            with kit.client(url, names[number]) as client:
                together.wait()
                return client.post("/v1/signatures", json={"signatures": [files[number]]})

        with ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(send, range(40)))
        taken = {signer.public_key.keyid for signer, answer in zip(signers, answers, strict=True) if answer.is_success}
        late = [answer for answer in answers if not answer.is_success]
        assert {answer.status_code for answer in late} <= {409, 422}, [
            answer.text for answer in late
        ]  # it was published by then
        assert len(taken) >= 20
        until(lambda: states(ci, "big") == {"1.0.0": "available"})
        quiet(kit)
        data = kit.data.objects.read("public/metadata/2.big.json", 1 << 20)
        assert data
        assert {item["keyid"] for item in json.loads(data.data)["signatures"]} == taken
        told = {act[2] for act, number in Auditor(kit).counted().items() if act[0] == "signature" and number == 1}
        assert told == taken
    assert not kit.failures
    kit.data.database.close()


# --- who may --------------------------------------------------------------------------------------------------------------------------


def test_a_token_of_another_line_does_nothing_on_this_one(kit: Kit, url: str, ada: httpx.Client) -> None:
    good = made(ada)
    with kit.client(url, "vera") as vera:
        tried = [
            vera.get("/v1/requests/pump"),
            vera.get("/v1/requests/pump/difference"),
            vera.get("/v1/lines/pump/releases"),
            vera.get("/v1/lines/pump/releases/1.0.0"),
            vera.get("/v1/releases/pump/1.0.0/app.bin/proof"),
            submit(vera, image("1.1.0"), "pump"),
            hand_in(vera, good),
            vera.post("/v1/publications", json={"roles": ["pump"]}),
            vera.post("/v1/publications", json={"renew": True}),
            vera.get("/v1/publications"),
            vera.get("/log/checkpoint"),
            vera.get("/log/tile/0/000.p/1"),
        ]
        assert {answer.status_code for answer in tried} == {403}
        assert "pump" not in vera.get("/v1/status").json()["roles"]
        assert "1.0.0" not in vera.get("/v1/status").text
    unsigned(ada)
    quiet(kit)
    denied = [event for event in Auditor(kit).read() if event.kind is Kind.REFUSAL]
    assert len(denied) == len(tried)
    assert {event.actor for event in denied} == {"vera"}


def test_too_many_denied_attempts_are_one_entry_with_their_number(tmp_path: Path) -> None:
    kit = make_kit(tmp_path / "service")
    kit.account("vera", (Role.SIGNER, "valve"))
    with kit.running() as url, kit.client(url, "vera") as vera:
        for _ in range(50):
            assert vera.get("/v1/requests/pump").status_code == 403
        quiet(kit)
        assert len([event for event in Auditor(kit).read() if event.kind is Kind.REFUSAL]) == 20
    with kit.running():
        quiet(kit)
        found = [event for event in Auditor(kit).read() if event.kind is Kind.REFUSAL]
    assert str(found[-1].fields["reason"]).startswith("30 more")
    kit.data.database.close()


def test_tokens_that_work_no_more_are_refused_alike_and_recorded(kit: Kit, url: str) -> None:
    with kit.data.writing() as unit:
        accounts.create(unit.connection, "alan", machine=False, now=unit.now)
        accounts.grant(unit.connection, "alan", Role.SIGNER, EVERY)

        def issued(lifetime: int, now: int) -> tokens.Issued:
            return tokens.issue(unit.connection, None, "alan", label="x", lifetime=lifetime, now=now, random=os.urandom)

        expired, revoked, good = issued(60, unit.now - 61), issued(600, unit.now), issued(600, unit.now)
        tokens.revoke(unit.connection, None, revoked.token.id, unit.now)
    flipped = good.text[:-1] + ("0" if good.text[-1] != "0" else "1")
    with httpx.Client(base_url=url) as client:

        def ask(token: str) -> httpx.Response:
            return client.get("/v1/status", headers={"Authorization": f"Bearer {token}"})

        assert ask(good.text).status_code == 200
        for token in (expired.text, revoked.text, flipped, "hh_", good.text.upper(), f"{good.text} x", "a.b.c"):
            answer = ask(token)
            assert answer.status_code == 401, token
            assert "Bearer" in answer.headers["www-authenticate"]
            assert token == "hh_" or token not in answer.text
        with kit.data.writing() as unit:
            accounts.disable(unit.connection, "alan", now=unit.now)
        assert ask(good.text).status_code == 401
        assert client.get("/v1/status").status_code == 401
    quiet(kit)
    failed = [event for event in Auditor(kit).read() if event.kind is Kind.FAILED_LOGIN]
    assert len(failed) == 8  # who says nothing has not tried
    secrets = [token.rpartition("_")[2] for token in (expired.text, revoked.text, good.text)]
    assert not [event for event in failed if any(secret in str(event.fields) for secret in secrets)]
