"""What the page shows: of a service that has been at work for a month."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from hashlib import sha256
from html import unescape
from pathlib import Path

import httpx
import pytest
from tuf.api.metadata import TargetFile

from hillhold_signer.difference import MAX_LINES
from hillhold_signer.drafts import Drafts
from hillhold_signer.encoding import copied, utc
from hillhold_signer.log.proof import Proof
from hillhold_signer.requests import open_request
from hillhold_signer.revocation import Revoked, write_revoked
from pagehouse import DAY, HOSTILE, LOG_SIGNER, House, infested, key, lived_in
from workshop import image, statement


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, str]]:
    """Nothing is changed in it."""
    with House(tmp_path_factory.mktemp("house")) as house, house.served() as url:
        lived_in(house)
        yield house, url


@pytest.fixture
def ada(lived: tuple[House, str]) -> Iterator[httpx.Client]:
    with lived[0].visitor(lived[1], "ada") as client:
        yield client


def words(answer: httpx.Response) -> str:
    """The text of a page, as a line."""
    assert answer.status_code == 200, answer.text
    return plain(answer.text)


def plain(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html.replace("<wbr>", ""))).split())


def section(answer: httpx.Response, name: str) -> str:
    """The text of one section."""
    found = re.search(
        rf'<section aria-labelledby="{name}">(.*?)</section>\s*(?=<section aria|</main>)', answer.text, re.S
    )
    assert found, answer.text
    return plain(found[1])


def card(answer: httpx.Response, role: str) -> str:
    found = re.search(rf'<article [^>]*"draft-/drafts/{role}">(.*?)</article>', answer.text, re.S)
    assert found, answer.text
    return plain(found[1])


def test_the_overview_says_what_waits_for_whom(ada: httpx.Client) -> None:
    found = ada.get("/")
    pump = card(found, "pump")
    assert "pump version 6 1 of 2 signatures Four eyes: met" in pump
    assert f"Signed (1 of 2) Grace {key('grace').public_key.keyid[:16]} 18 hours ago" in pump
    assert re.search(r"Can still sign Alan [0-9a-f]{16} Margaret [0-9a-f]{16} Submitted by ci \(machine\)", pump)
    assert "Since 2026-01-30 00:00 UTC (18 hours ago)" in pump
    assert "waits for you" not in pump
    assert "waits for you" in card(found, "targets")
    assert "Four eyes: Alan or Grace must be among them" in card(found, "targets")
    assert "2 of them wait for you." in words(found)


def test_what_is_stuck_says_why(ada: httpx.Client) -> None:
    found = section(ada.get("/"), "stuck")
    assert "monitor version 2 2 of 2 signatures" in found
    assert "not published, 18 hours ago: the object store refused it: no space left" in found
    assert "pump" not in found


def test_expiry_is_said_in_words(ada: httpx.Client, lived: tuple[House, str]) -> None:
    house, _ = lived
    soon = "timestamp 6 2026-01-31 00:00 UTC (in 6 hours) In time"
    assert soon in section(ada.get("/"), "expires")
    now = house.now
    try:
        house.now = now + 2 * 3600
        assert "(in 4 hours) Expires soon" in section(ada.get("/"), "expires")
        house.now = now + 7 * 3600
        assert "timestamp 6 2026-01-31 00:00 UTC (60 minutes ago) Expired" in section(ada.get("/"), "expires")
    finally:
        house.now = now


def test_publications_say_whether_devices_have_them(tmp_path: Path) -> None:
    with House(tmp_path) as house, house.served() as url:
        for who in ("ada", "grace"):
            house.sign(who, "root", "targets")
        house.publish(exported=False)
        with house.visitor(url, "ada") as client:
            house.now += 30
            assert "root 1, targets 1" in section(client.get("/"), "publications")
            assert "Not exported yet" in section(client.get("/"), "publications")
            house.now += 3600
            assert "Not exported since 60 minutes ago" in section(client.get("/"), "publications")


def test_a_draft_shows_the_difference_the_digest_and_the_command(ada: httpx.Client, lived: tuple[House, str]) -> None:
    found = ada.get("/drafts/pump")
    digest = lived[0].repository.state().drafts["pump"].digest
    text = words(found)
    assert "Against what is published, version 5. This version would expire 2026-07-31" in text
    assert "added pump/1.3.0/app.bin security release, for nrf51-a and nrf52-b" in text
    assert text.count("added pump/1.3.0/app.bin.") == 3
    assert f"compare it before you say yes: {digest}" in text
    assert f"hillhold sign --service {lived[1]} --role pump --key file:YOUR-KEY.pem --root 1.root.json" in text
    assert "ci (machine) command: release add, version: 1.3.0, file: app.bin" in section(found, "made")


def test_the_request_of_a_draft_can_be_signed_elsewhere(ada: httpx.Client, lived: tuple[House, str]) -> None:
    answer = ada.get("/drafts/pump/request")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="pump.request"'
    request = open_request(answer.content)
    assert request.draft.digest == lived[0].repository.state().drafts["pump"].digest


def test_a_root_after_another_shows_both_quorums(tmp_path: Path) -> None:
    with House(tmp_path) as house, house.served() as url:
        for who in ("ada", "grace"):
            house.sign(who, "root", "targets")
        house.publish()
        with house.repository.edit(house.now) as edit:
            root = copied(edit.state.root())
            root.version, root.expires = root.version + 1, utc(house.now + 400 * DAY)
            Drafts(house.repository.layout).save("root", root, edit.state.after("root"))
        house.made("ada", "root", "renewed")
        house.sign("grace", "root")
        with house.visitor(url, "ada") as client:
            text = words(client.get("/drafts/root"))
    assert "old root 1 of 2, new root 1 of 2 signatures" in text
    assert "By the keys of the old root Signed (1 of 2) Grace" in text
    assert "By the keys of the new root Signed (1 of 2) Grace" in text


def test_many_files_that_decide_nothing_are_counted_and_shown_on_demand(tmp_path: Path) -> None:
    with House(tmp_path) as house, house.served() as url:
        house.line("pump", "grace", "alan")
        house.release("pump", "1.0.0")
        with house.repository.edit(house.now) as edit:
            line = copied(edit.state.line("pump"))
            for number in range(MAX_LINES + 10):
                target = next(iter(line.targets.values()))
                other = copied_target(target, f"pump/0.0.{number}/app.bin", f"0.0.{number}")
                line.targets[other.path] = other
            Drafts(house.repository.layout).save("pump", line, edit.state.after("pump"))
        house.made("ci", "pump", "many")
        with house.visitor(url, "ada") as client:
            few, all_ = words(client.get("/drafts/pump")), words(client.get("/drafts/pump?full=true"))
    assert f"{MAX_LINES + 10} more files come or go" in few
    assert "pump/0.0.3/app.bin" not in few
    assert "pump/1.0.0/app.bin" in few
    assert "pump/0.0.3/app.bin" in all_


def copied_target(target: TargetFile, path: str, version: str) -> TargetFile:
    value = deepcopy(target.to_dict())
    value["custom"]["hillhold"]["version"] = version
    return TargetFile.from_dict(value, path)


def test_a_difference_that_may_not_be_made_is_no_reason_to_sign(tmp_path: Path) -> None:
    with House(tmp_path) as house, house.served() as url:
        lived_in(house)
        with house.repository.edit(house.now) as edit:
            line = copied(edit.state.line("pump"))
            del line.targets["pump/1.2.0/app.bin"]  # which is withdrawn, and could come back so
            Drafts(house.repository.layout).save("pump", line, edit.state.after("pump"))
        with house.visitor(url, "ada") as client:
            text = words(client.get("/drafts/pump"))
    assert "so do not sign this: target pump/1.2.0/app.bin: expected withdrawn, as before" in text
    assert "How to sign" not in text
    assert "The service does not know" not in text


def test_releases_say_all_that_is_known_of_them(ada: httpx.Client) -> None:
    text = words(ada.get("/lines/pump"))
    assert "Releases (4) 1 to 4 of 4, highest version first. app 1.3.0 Draft security" in text
    assert "app 1.2.0 Withdrawn Published feature Withdrawn: stops at 40 degrees" in text
    assert "devices on 1.2.0 step down to it" in text
    assert re.search(r"from 1.0.0: \d+ bytes, \d+ % of the whole from 1.1.0: \d+ bytes", text)
    said = statement(image("1.2.0", edits=40))
    assert f"Provenance ({len(said)} bytes) {sha256(said).hexdigest()}" in text
    assert "Release notes (16 bytes)" in text
    assert "SBOM, spdx (54 bytes)" in text
    assert "Built from git+https://git.example/pump@4f1c2a" in text
    assert "Submitted by ci (machine) , 2026-01-02" in text
    assert "Version of its role 5 (drafted: 6 )" in text
    assert "/releases/pump/1.3.0/app.bin/proof" not in ada.get("/lines/pump").text  # it is in no log yet
    assert ada.get("/releases/pump/1.0.0/app.bin/proof").content == b"proof of pump/1.0.0/app.bin"
    assert ada.get("/releases/pump/1.3.0/app.bin/proof").status_code == 404


def test_long_lists_of_releases_have_pages(tmp_path: Path) -> None:
    with House(tmp_path) as house, house.served() as url:
        house.line("pump", "grace", "alan")
        for number in range(22):
            house.release("pump", f"1.{number}.0")
        with house.visitor(url, "ada") as client:
            first, second = words(client.get("/lines/pump")), words(client.get("/lines/pump?page=2"))
            assert client.get("/lines/pump?page=3").status_code == 404
            assert client.get("/lines/pump?page=0").status_code == 400
    assert "1 to 20 of 22" in first
    assert "app 1.21.0" in first
    assert "app 1.1.0" not in first
    assert "21 to 22 of 22, highest version first. app 1.1.0" in second


def test_keys_say_who_holds_them_and_which_are_revoked(tmp_path: Path) -> None:
    with House(tmp_path) as house, house.served() as url:
        house.line("pump", "grace", "alan")
        for who, roles in {"ada": ("root", "targets"), "grace": ("root", "targets", "pump"), "alan": ("pump",)}.items():
            house.sign(who, *roles)
        house.publish()
        gone = key("grace").public_key.keyid
        write_revoked(house.repository.layout, Revoked(gone, "lost on a train", house.now))
        house.now += DAY
        house.release("pump", "1.0.0")
        with house.visitor(url, "ada") as client:
            keys, overview = words(client.get("/keys")), client.get("/")
    assert f"Grace account grace root, targets, pump {gone[:16]}" in keys
    assert "Revoked 24 hours ago: lost on a train" in keys
    assert "pump 2 of 2 Alan, Grace" in keys
    assert "ada person administrator of everything 1 Active" in keys
    assert "Act now The key of Grace" in words(overview)
    assert "still trusted in root, targets, pump: lost on a train" in words(overview)
    assert "Too few are left who can sign" in section(overview, "stuck")


def test_drafts_that_clash_are_stuck_and_say_how_to_go_on(tmp_path: Path) -> None:
    with House(tmp_path) as house, house.served() as url:
        house.line("pump", "grace", "alan")
        with house.repository.edit(house.now) as edit:
            after = edit.state.after("pump")
            for grace in (1, 2):
                line = copied(edit.state.line("pump"))
                line.unrecognized_fields["x-hillhold-offline-grace"] = grace * DAY
                Drafts(house.repository.layout).save("pump", line, after)
        with house.visitor(url, "ada") as client:
            stuck, page = section(client.get("/"), "stuck"), words(client.get("/drafts/pump"))
            assert client.get("/drafts/pump/request").status_code == 409
    assert "of pump do not go together" in stuck
    assert "drop one" in page
    assert "How to sign" not in page


def test_who_made_a_draft_cannot_be_its_only_signer(tmp_path: Path) -> None:
    with House(tmp_path) as house, house.served() as url:
        house.line("pump", "grace", threshold=1)
        house.made("ada", "pump", "new")
        house.release("pump", "1.0.0", by="grace")
        with house.visitor(url, "ada") as client:
            text = section(client.get("/"), "stuck")
    assert "pump version 1" in text
    assert "Nobody is left who could sign and does not stand behind it" in text


def test_the_log_is_shown_newest_first_in_pages_and_by_kind(ada: httpx.Client, lived: tuple[House, str]) -> None:
    first = ada.get("/log")
    text = words(first)
    assert "Entries 302" in text
    assert f"hillhold log verify {lived[1]}/log --key {LOG_SIGNER.verifier.vkey}" in text
    indices = [int(found) for found in re.findall(r'href="/log/entries/(\d+)"', first.text)]
    assert indices == list(range(301, 251, -1))
    seen, at = indices, first
    while found := re.search(r'href="(/log\?before=\d+)"', at.text):
        at = ada.get(found[1])
        seen += [int(index) for index in re.findall(r'href="/log/entries/(\d+)"', at.text)]
    assert seen == list(range(301, -1, -1))
    refusals = words(ada.get("/log?kind=refusal"))
    assert (
        "300 2026-01-13 12:00 UTC (17 days ago) Refusal alan what signature on pump, reason on another draft"
        in refusals
    )
    assert "Submission ci" not in refusals
    assert ada.get("/log?kind=nothing").status_code == 404
    assert "None of this kind" in words(ada.get("/log?kind=configuration"))


def test_an_entry_comes_with_a_proof_that_verifies(ada: httpx.Client) -> None:
    assert "Entry 300 of the log" in words(ada.get("/log/entries/300"))
    proof = Proof.parse(ada.get("/log/entries/300/proof").content)
    assert proof.extra is not None
    assert proof.verify(proof.extra, [LOG_SIGNER.verifier]).checkpoint.size == 302
    assert ada.get("/log/entries/302").status_code == 404
    assert ada.get("/log/entries/x").status_code == 400


def test_an_empty_service_has_all_its_pages(tmp_path: Path) -> None:
    with House(tmp_path) as house, house.served() as url, house.visitor(url, "ada") as client:
        text = words(client.get("/"))
        assert "Nothing is published yet." in text
        assert "There is no line that you may see." in words(client.get("/lines"))
        assert "root 2 of 3 Ada, Grace, Margaret" in words(client.get("/keys")).replace(" draft", "")
        assert "The log is empty." in words(client.get("/log"))
        assert client.get("/log/entries/0").status_code == 404


def test_nothing_that_somebody_wrote_breaks_out(tmp_path: Path) -> None:
    with House(tmp_path) as house, house.served() as url:
        infested(house)
        with house.visitor(url, "ada") as client:
            for path in (
                "/",
                "/drafts/pump",
                "/drafts/monitor",
                "/drafts/targets",
                "/lines",
                "/lines/pump",
                "/keys",
                "/log",
            ):
                html = client.get(path).raise_for_status().text
                assert "<script" not in html
                assert "<img src=x" not in html
                assert all(char == "\n" or char.isprintable() for char in html), path
            assert "&lt;script&gt;" in client.get("/drafts/pump").text
            assert HOSTILE[-1] in client.get("/drafts/pump").text
