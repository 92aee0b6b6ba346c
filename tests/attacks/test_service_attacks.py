"""What somebody can do to the signing service over HTTP: each is refused, and what is drafted, signed and published stays as it is."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from securesystemslib.signer import CryptoSigner

from hillhold_signer import NamedKey, Team, add_product, example_signer
from hillhold_signer.keyfiles import generate
from hillhold_signer.log.events import Kind
from hillhold_signer.requests import open_request, sign_request
from hillhold_signer.revocation import Revoked, write_revoked
from hillhold_signer.service import accounts, tokens, wire
from hillhold_signer.service.access import EVERY, Role
from servicekit import Kit, make_kit, sign, states, submit, until, upload
from wirekit import raw, request, statuses
from witness import Auditor, Device, check_published, quiet
from workshop import image, online, pump, sign_all


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


def made(client: httpx.Client, key: str = "release-1", role: str = "pump") -> dict[str, Any]:
    """A good signature on what is drafted now, not handed in."""
    answer = client.get(f"/v1/requests/{role}")
    assert answer.status_code == 200
    value: dict[str, Any] = json.loads(sign_request(open_request(answer.content), example_signer(key)).data())
    return value


def hand_in(client: httpx.Client, *values: object) -> httpx.Response:
    texts = [json.dumps(value, sort_keys=True, separators=(",", ":")) for value in values]
    return client.post("/v1/signatures", json={"signatures": texts})


def unsigned(client: httpx.Client) -> None:
    """The draft is there, with no signature, and nothing was published."""
    assert client.get("/v1/status").json()["roles"]["pump"]["signatures"] == "0 of 2"
    assert states(client)["1.0.0"] == "drafted"


# --- signatures ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"sig": ""},
        {"sig": "00"},
        {"sig": "00" * 64},
        {"sig": "ab" * 60_000},
        {"sig": "zz" * 64},
        {"role": "valve"},
        {"role": "root"},
        {"role": "snapshot"},
        {"role": "../pump"},
        {"role": "pump\x00"},
        {"version": 1},
        {"version": 10**400},
        {"version": -1},
        {"version": True},
        {"sha256": "0" * 64},
        {"keyid": "0" * 64},
        {"keyid": example_signer("release-2").public_key.keyid},
        {"keyid": example_signer("root-1").public_key.keyid},
        {"v": 2},
        {"hillhold": "request"},
        {"more": 1},
    ],
    ids=lambda change: str(change)[:40],
)
def test_a_signature_that_was_changed_in_any_field_is_refused(ada: httpx.Client, change: dict[str, object]) -> None:
    answer = hand_in(ada, {**made(ada), **change})
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    unsigned(ada)


def test_a_signature_with_any_bit_flipped_is_refused(ada: httpx.Client) -> None:
    good = made(ada)
    for at in range(0, 512, 37):
        sig = bytearray.fromhex(good["sig"])
        sig[at // 8] ^= 1 << at % 8
        assert hand_in(ada, {**good, "sig": sig.hex()}).status_code == 422
    unsigned(ada)


def test_one_bad_signature_among_good_ones_lets_none_in(ada: httpx.Client) -> None:
    good = made(ada)
    assert hand_in(ada, good, {**good, "sig": "00" * 64}).status_code == 422
    unsigned(ada)


@pytest.mark.parametrize(
    "text", ["", "{", "null", "[]", "\ufeff{}", "\x00", "[" * 5000, '{"a":' * 5000, "1e400", "x" * 65_537]
)
def test_what_is_no_signature_file_is_refused(ada: httpx.Client, text: str) -> None:
    answer = ada.post("/v1/signatures", json={"signatures": [text]})
    assert answer.status_code == 422, answer.text
    unsigned(ada)


def test_a_signature_on_an_older_draft_or_on_what_is_published_is_refused(
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
        assert hand_in(ada, new).status_code == 409
        assert submit(ci, image("1.2.0", seed=3)).status_code == 201
        assert hand_in(ada, new).status_code == 409
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
            accounts.add_key(unit.connection, name, signer.public_key.keyid)
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


# --- names ------------------------------------------------------------------------------------------------------------------------------

ODD = [
    "..",
    ".",
    "../..",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/log.pem",
    "%2e%2e%2flog.pem",
    "..%5c..%5clog.pem",
    "..%c0%af..%c0%aflog.pem",
    "%00",
    "pump%00",
    "pump%0a",
    "pump%0d%0aSet-Cookie:%20a=b",
    "%1b%5b2J",
    "%7f",
    "%e2%80%ae",
    "%ff%fe",
    "%ed%a0%80",
    "PUMP",
    "-pump",
    ".pending",
    "a" * 5000,
    "pump/" * 500,
    "//etc/passwd",
    "%2fetc%2fpasswd",
    "C:%5c",
    "~root",
    "pump;x",
    "pump?x=../..",
]


def test_no_name_leads_anywhere_else(kit: Kit, url: str) -> None:
    places = [
        "/v1/requests/{}",
        "/v1/requests/{}/difference",
        "/v1/lines/{}/releases",
        "/v1/lines/pump/releases/{}",
        "/v1/releases/{}/proof",
        "/v1/releases/pump/{}/proof",
        "/v1/blobs/{}",
        "/v1/uploads/{}",
        "/log/tile/{}",
        "/log/{}",
        "/repository/{}",
        "/repository/metadata/{}",
        "/repository/targets/{}",
        "/{}",
    ]
    secret = (kit.settings.folder / "log.pem").read_bytes().splitlines()[1]
    token = kit.account("root", (Role.AUDITOR, EVERY), (Role.ADMINISTRATOR, EVERY), (Role.SUBMITTER, EVERY))
    for place in places:
        for name in ODD:
            answer = raw(url, request("GET", place.format(name), token=token))
            (status,) = statuses(answer) or [0]
            assert 400 <= status < 500 or (status == 200 and name in ("pump?x=../..", ".")), (place, name, answer[:300])
            assert secret not in answer
            assert b"Set-Cookie" not in answer
            assert b"root:" not in answer


def test_what_is_not_for_devices_is_not_served_to_them(kit: Kit, url: str) -> None:
    hidden = kit.settings.folder / "public" / "metadata" / ".timestamp.json.part"
    hidden.write_bytes(b"half")
    for name in ("service.toml", "log.pem", "hillhold.db", "blobs", "metadata/.timestamp.json.part", "metadata/", ""):
        assert httpx.get(f"{url}/repository/{name}").status_code == 404, name
    assert httpx.get(f"{url}/repository/metadata/1.root.json").status_code == 200


@pytest.mark.parametrize(
    "text", ["\x00", "a\nb", "\x1b[2J", "\u202e", "\ud800", "../x", "a/b", "\\", "é", "a" * 500, "", " "]
)
def test_names_in_bodies_are_checked(kit: Kit, url: str, text: str) -> None:
    with kit.client(url, "ci") as ci:
        digest = upload(ci, b"x")
        good = {"sha256": digest, "file_name": "app.bin"}
        bodies: list[dict[str, Any]] = [
            {"images": [{**good, "file_name": text}]},
            {"images": [{**good, "component": text}]},
            {"images": [{**good, "requires": {text: "1.0.0"}}]},
            {"images": [{**good, "requires": {"app": text}}]},
            {"images": [{**good, "downgrade_from": [text]}]},
            {"images": [{**good, "sha256": text}]},
            {"images": [good], "hardware": [text]},
            {"images": [good], "set": text},
            {"images": [good], "kind": text},
            {"images": [good], "provenance": text},
            {"images": [good], "sbom": [{"name": text, "sha256": digest}]},
            {"images": [good], "notes": {"name": text, "sha256": digest}},
            {"images": [good], text: 1},
            {"images": [good], "source": text},
        ]
        for body in bodies:
            data = json.dumps(body).encode()
            answer = ci.post("/v1/lines/pump/releases", content=data, headers={"Content-Type": "application/json"})
            assert answer.status_code == 422, (body, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.text.isprintable()
        assert list(states(ci)) == ["1.0.0"]


# --- too much ---------------------------------------------------------------------------------------------------------------------------

JSON = "Content-Type: application/json"


def post(url: str, token: str, body: bytes, *headers: str, path: str = "/v1/signatures") -> bytes:
    return raw(url, request("POST", path, JSON, f"Content-Length: {len(body)}", *headers, token=token, body=body))


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 500_000,
        b'{"signatures":' * 50_000,
        b'{"signatures":["' + b"[" * 60_000 + b'"]}',
        b'{"signatures":[' + b"9" * 500_000 + b"]}",
        b'{"signatures":[1e999999999]}',
        b'{"signatures":[NaN,Infinity]}',
        b'{"signatures":[' + b'"",' * 200_000 + b'""]}',
        b'{"signatures":["\\ud800"]}',
        b'{"signatures":["\\u0000"]}',
        b'{"signatures":["\xff\xfe"]}',
        b"\xff" * 1000,
        b"",
        b"{" + b'"a":1,' * 100_000 + b'"a":1}',
    ],
    ids=lambda body: repr(body[:20]),
)
def test_bodies_that_are_too_much_or_no_json_are_refused(kit: Kit, url: str, ada: httpx.Client, body: bytes) -> None:
    answer = post(url, kit.tokens["ada"], body)
    (status,) = statuses(answer)
    assert status in (400, 422), answer[:300]
    assert b"application/problem+json" in answer
    assert len(answer) < 5000
    unsigned(ada)


def test_a_body_beyond_its_limit_is_refused_declared_or_not(kit: Kit, url: str) -> None:
    token = kit.tokens["ada"]
    assert statuses(post(url, token, b" " * (1 << 20) + b"{}")) == [413]
    chunks = request("POST", "/v1/signatures", JSON, "Transfer-Encoding: chunked", token=token)

    def endless() -> Iterator[bytes]:
        yield chunks
        for _ in range(64):
            yield b"100000\r\n" + b" " * 0x100000 + b"\r\n"

    answer = raw(url, endless())
    assert statuses(answer)[:1] in ([413], [])  # it was ended before all was sent, and the answer may be lost by that
    declared = request("POST", "/v1/signatures", JSON, f"Content-Length: {1 << 40}", token=token)
    assert statuses(raw(url, declared)) == [413]
    assert httpx.get(f"{url}/healthz").status_code == 200


def test_long_bodies_of_nobody_are_not_read(url: str) -> None:
    for token in (None, f"hh_{'0' * 24}_{'0' * 64}"):
        head = request("POST", "/v1/changes", JSON, f"Content-Length: {20 << 20}", token=token)
        assert statuses(raw(url, head)) == [401]  # and none of it was sent


def test_heads_without_end_are_refused(url: str) -> None:
    endless = b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"X-A: " + b"a" * (4 << 20)
    assert statuses(raw(url, endless)) in ([431], [])
    many = b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200_000
    assert statuses(raw(url, many)) in ([431], [])
    long = b"GET /" + b"a" * (4 << 20)
    assert statuses(raw(url, long)) in ([431], [])
    assert httpx.get(f"{url}/healthz").status_code == 200


def test_a_head_that_never_comes_ends_its_connection(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "HEAD", 0.5)
    for begin in (b"", b"G", b"GET /healthz HTTP/1.1\r\nHost: a\r\n"):
        assert statuses(raw(url, begin)) == [408]
    assert httpx.get(f"{url}/healthz").status_code == 200


# --- HTTP -------------------------------------------------------------------------------------------------------------------------------

SMUGGLED = b"GET /v1/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v1/signatures HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/signatures HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        b"POST /v1/signatures HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 40\r\n\r\n",
        b"POST /v1/signatures HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 40\r\n\r\n",
        b"POST /v1/signatures HTTP/1.1\r\nHost: a\r\nContent-Length: +0\r\n\r\n",
        b"POST /v1/signatures HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/signatures HTTP/1.1\r\nHost: a\r\nContent-Length: 0x10\r\n\r\n",
        b"POST /v1/signatures HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /v1/signatures HTTP/1.1\r\nHost: a\r\nContent-Length : 0\r\n\r\n",
        b"POST /v1/signatures HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"POST /v1/signatures HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST /v1/signatures HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\x0b: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/signatures HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
        b"POST /v1/signatures HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        b"POST /v1/signatures HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n\r\n",
        b"GET /v1/status\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"GET \x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"FOO /v1/status HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /v1/status HTTP/9.9\r\nHost: a\r\n\r\n",
        b"CONNECT evil:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_requests_of_two_meanings_are_no_requests(url: str, head: bytes) -> None:
    found = statuses(raw(url, head + SMUGGLED))
    assert 404 not in found  # what came after it was never looked at
    assert len(found) <= 1
    assert set(found) <= {400, 401, 405, 422}


@pytest.mark.parametrize(
    "method", ["OPTIONS", "HEAD", "TRACE", "PUT", "DELETE", "PATCH", "POST", "PROPFIND", "SUBSCRIBE", "M-SEARCH"]
)
def test_other_methods_are_refused(kit: Kit, url: str, method: str) -> None:
    for path in (
        "/v1/status",
        "/v1/lines/pump/releases",
        "/log/checkpoint",
        "/repository/metadata/1.root.json",
        "/healthz",
        "/x",
    ):
        if (method, path) in (("HEAD", "/repository/metadata/1.root.json"), ("POST", "/v1/lines/pump/releases")):
            continue
        answer = raw(url, request(method, path, token=kit.tokens["boss"]))
        assert statuses(answer) in ([405], [404]), (path, answer[:200])
        if method != "HEAD":
            assert b"application/problem+json" in answer, path


def test_afterwards_all_goes_on(kit: Kit, url: str, ada: httpx.Client, tmp_path: Path) -> None:
    until(lambda: kit.data.objects.length("public/metadata/timestamp.json"))
    device, auditor = Device(kit.data.objects, tmp_path / "device"), Auditor(kit)
    with kit.client(url, "grace") as grace:
        assert sign(ada, "release-1").status_code == 200
        assert sign(grace, "release-2").status_code == 200
    until(lambda: states(ada)["1.0.0"] == "available")
    quiet(kit)
    assert device.look("pump/1.0.0/app.bin")
    auditor.check("pump/1.0.0/app.bin")
    check_published(kit, tmp_path / "tree")
    with kit.data.reading() as unit:
        assert not unit.repository.state().drafts
    assert not kit.failures
