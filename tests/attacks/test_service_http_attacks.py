"""What somebody can send to the signing service: each is refused, the draft stays as it is, and in the end all goes its way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from approver import hand_in, made, unsigned
from hillhold_signer import example_signer
from hillhold_signer.service import wire
from hillhold_signer.service.access import EVERY, Role
from servicekit import Kit, make_kit, sign, states, submit, until, upload
from wirekit import raw, request, statuses
from witness import Auditor, Device, check_published, quiet
from workshop import image

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    """A service with a draft of `pump` that nobody has signed."""
    made = make_kit(tmp_path_factory.mktemp("attacked") / "service")
    yield made
    made.data.database.close()


@pytest.fixture(scope="module")
def url(kit: Kit) -> Iterator[str]:
    with kit.running() as found:
        with kit.client(found, "ci") as ci:
            assert submit(ci, image("1.0.0")).status_code == 201
        yield found


@pytest.fixture(scope="module")
def ada(kit: Kit, url: str) -> Iterator[httpx.Client]:
    with kit.client(url, "ada") as client:
        yield client


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
