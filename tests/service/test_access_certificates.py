"""Client certificates: over a real uvicorn with TLS, and behind a load balancer."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from cryptography import x509

from hillhold_signer.errors import ConfigRefused
from hillhold_signer.service import identities, tls
from hillhold_signer.service.access import UnauthenticatedRefused
from hillhold_signer.service.certificates import Peer, Proxies, claims, der
from papers import Ca, Paper
from register import DAY, NOW, SUBMITTER, Register

SPIFFE = x509.UniformResourceIdentifier("spiffe://acme/ci/pump")
PROXY = "10.0.0.7"


@pytest.fixture
def ca(tmp_path: Path) -> Ca:
    return Ca(tmp_path, "ca", NOW)


@pytest.fixture
def today(tmp_path: Path) -> Ca:
    """For real handshakes, which OpenSSL judges by the machine's clock."""
    return Ca(tmp_path, "today", int(time.time()))


# --- over TLS -------------------------------------------------------------------------------------------------------------------------


async def show_peer(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers with what it is told of its client."""
    assert scope["type"] == "http"
    pem = tls.peer_certificate(scope)
    said = sha256(der(pem)).hexdigest() if pem else None
    told = scope.get("extensions", {}).get("tls", {})
    body = json.dumps({"sha256": said, "version": told.get("tls_version")}).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def serving(loop: str = "asyncio", **settings: Any) -> Iterator[int]:
    """A real uvicorn in a thread; gives its port."""
    config = uvicorn.Config(show_peer, "127.0.0.1", 0, loop=loop, lifespan="off", log_config=None, **settings)
    config.log_level = "critical"
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            thread = threading.Thread(target=lambda: runner.run(server.serve([listener])))
            thread.start()
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            try:
                yield listener.getsockname()[1]
            finally:
                server.should_exit = True
                thread.join()


def ask(port: int, ca: Ca, paper: Paper | None, count: int = 1, version: ssl.TLSVersion | None = None) -> list[Any]:
    """What the application was told, for each request on one connection."""
    context = ssl.create_default_context(cafile=str(ca.file))
    if version:
        context.minimum_version = context.maximum_version = version
    if paper:
        context.load_cert_chain(paper.file, paper.key)
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    found = []
    try:
        for _ in range(count):
            connection.request("GET", "/", headers={"Client-Cert": ":AAAA:"})
            found.append(json.loads(connection.getresponse().read()))
    finally:
        connection.close()
    return found


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_uvicorn_hands_the_clients_certificate_on(today: Ca, loop: str) -> None:
    server, client = today.issue_server(), today.issue("ci", SPIFFE)
    mark = sha256(client.der).hexdigest()
    with serving(loop, **tls.settings(server.file, server.key, today.file)) as port:
        assert [one["sha256"] for one in ask(port, today, client, count=3)] == [mark] * 3
        assert ask(port, today, None) == [{"sha256": None, "version": 0x0304}]
        (old,) = ask(port, today, client, version=ssl.TLSVersion.TLSv1_2)
        assert old == {"sha256": mark, "version": 0x0303}
        other = today.issue("other")
        assert ask(port, today, other)[0]["sha256"] == sha256(other.der).hexdigest()


def test_a_connection_that_is_resumed_has_the_certificate_of_the_first(today: Ca) -> None:
    server, client = today.issue_server(), today.issue("ci", SPIFFE)
    context = ssl.create_default_context(cafile=str(today.file))
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # whose session is there after the handshake
    context.load_cert_chain(client.file, client.key)

    def connect(port: int, session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool | None, bytes]:
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as found,
        ):
            found.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            said = b"".join(iter(lambda: found.recv(65_536), b""))
            return found.session, found.session_reused, said

    with serving(**tls.settings(server.file, server.key, today.file)) as port:
        session, reused, said = connect(port, None)
        assert not reused
        _, reused, again = connect(port, session)
    assert reused
    assert sha256(client.der).hexdigest().encode() in said
    assert sha256(client.der).hexdigest().encode() in again


def test_a_certificate_of_another_ca_or_date_or_use_gets_no_connection(today: Ca, tmp_path: Path) -> None:
    server = today.issue_server()
    (tmp_path / "other").mkdir()
    imposter = Ca(tmp_path / "other", "today", int(time.time()))
    wrong = [
        imposter.issue("ci", SPIFFE),
        today.issue("expired", now=int(time.time()) - 2 * DAY),
        today.issue("future", now=int(time.time()) + 2 * DAY),
        server,
    ]
    with serving(**tls.settings(server.file, server.key, today.file)) as port:
        for paper in wrong:
            with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
                ask(port, today, paper)
        assert ask(port, today, None)  # and it still serves


def test_without_a_ca_of_clients_no_certificate_is_asked_for(today: Ca) -> None:
    server, client = today.issue_server(), today.issue("ci")
    with serving(**tls.settings(server.file, server.key)) as port:
        assert ask(port, today, client)[0]["sha256"] is None


def test_without_tls_there_is_no_certificate() -> None:
    with serving(http=tls.TlsProtocol) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/")
        assert json.loads(connection.getresponse().read()) == {"sha256": None, "version": None}
        connection.close()


# --- what a certificate says ----------------------------------------------------------------------------------------------------------


def test_a_certificate_is_known_by_its_fingerprint_or_its_uri(ca: Ca) -> None:
    register = Register()
    for name in ("ci", "nightly"):
        register.account(name, SUBMITTER, machine=True)
    paper, other = ca.issue("a", SPIFFE), ca.issue("b")
    identities.add_identity(register.connection, None, "ci", "x509", "uri=spiffe://acme/ci/pump")
    identities.add_identity(register.connection, None, "nightly", "x509", f"sha256={sha256(other.der).hexdigest()}")
    assert identities.check(register.connection, "x509", claims(paper.der, NOW)).name == "ci"
    assert identities.check(register.connection, "x509", claims(other.der, NOW)).name == "nightly"
    for stranger in (
        ca.issue("c"),
        ca.issue("d", x509.UniformResourceIdentifier("spiffe://acme/ci/pump2")),
        ca.issue("e", x509.DNSName("spiffe.acme")),
        ca.issue("f", SPIFFE, x509.UniformResourceIdentifier("spiffe://acme/ci/ventilator")),
    ):
        with pytest.raises(UnauthenticatedRefused, match="no account"):
            identities.check(register.connection, "x509", claims(stranger.der, NOW))
    register.close()


def test_a_connection_does_not_outlast_its_certificate(ca: Ca) -> None:
    paper = ca.issue("a")
    for now in (NOW - DAY // 2, NOW, NOW + DAY // 2):
        assert claims(paper.der, now)
    for now in (NOW - DAY // 2 - 1, NOW + DAY // 2 + 1):
        with pytest.raises(UnauthenticatedRefused, match="not valid now"):
            claims(paper.der, now)


def test_bytes_that_are_no_certificate_are_refused(ca: Ca) -> None:
    data = ca.issue("a", SPIFFE).der
    for wrong in (b"", b"\x30", data[:-1], data + b"\0", b"\x30\x82\xff\xff" + data, bytes(len(data))):
        with pytest.raises(UnauthenticatedRefused, match="malformed"):
            claims(wrong, NOW)
    with pytest.raises(UnauthenticatedRefused, match="too long"):
        claims(ca.issue("long", pads=20_000).der, NOW)


def test_any_changed_byte_is_refused_or_another_fingerprint(ca: Ca) -> None:
    data = ca.issue("a", SPIFFE).der
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]
        try:
            said = claims(changed, NOW)
        except UnauthenticatedRefused:
            continue
        assert said["sha256"] != sha256(data).hexdigest()


# --- behind a proxy -------------------------------------------------------------------------------------------------------------------


def wrapped(data: bytes) -> bytes:
    return b":" + base64.b64encode(data) + b":"


def test_a_proxys_word_on_the_client_counts(ca: Ca) -> None:
    data = ca.issue("a").der
    headers = [(b"client-cert", wrapped(data)), (b"x-forwarded-for", b"198.51.100.9, 192.0.2.7")]
    for proxies in (Proxies([PROXY]), Proxies(["10.0.0.0/24"]), Proxies(["192.168.0.0/16", "10.0.0.7/32"])):
        for address in (PROXY, f"::ffff:{PROXY}"):
            assert proxies.peer(address, b"the proxy's own", headers) == Peer("192.0.2.7", data)
    assert Proxies([PROXY]).peer(PROXY, b"the proxy's own", []) == Peer(PROXY, None)


@pytest.mark.parametrize("address", ["10.0.0.8", "10.0.1.7", "127.0.0.1", "::1", "", "x", f"{PROXY} ", "2001:db8::1"])
def test_nobody_elses_word_does(ca: Ca, address: str) -> None:
    """Else anyone could say that they have a certificate, or write another address into the log."""
    headers = [(b"client-cert", wrapped(ca.issue("a").der)), (b"x-forwarded-for", b"192.0.2.7")]
    for proxies in (Proxies([PROXY]), Proxies()):
        known = address in ("10.0.0.8", "10.0.1.7", "127.0.0.1", "::1", "2001:db8::1")
        assert proxies.peer(address, None, headers) == Peer(address if known else "unknown", None)


def test_what_a_client_puts_before_the_proxys_word_does_not_count() -> None:
    def address(*values: bytes, proxies: Sequence[str] = (PROXY, "10.0.0.9")) -> str:
        return Proxies(proxies).peer(PROXY, None, [(b"x-forwarded-for", value) for value in values]).address

    assert address(b"1.1.1.1, 2.2.2.2") == "2.2.2.2"
    assert address(b"1.1.1.1", b"2.2.2.2") == "2.2.2.2"
    assert address(b"1.1.1.1, 2.2.2.2, 10.0.0.9") == "2.2.2.2"  # two proxies
    assert address(b"10.0.0.9") == "10.0.0.9"
    assert address(b"1.1.1.1, <script>") == address(b"") == address(b"1.1.1.1,") == "unknown"
    assert address(b"1.1.1.1, fe80::1%\x1b[2J") == "fe80::1"
    assert address(b", ".join([b"1.1.1.1"] * 5000 + [b"2.2.2.2"])) == "2.2.2.2"


def test_a_proxys_certificate_that_is_malformed_or_there_twice_is_refused_and_never_none(ca: Ca) -> None:
    data = ca.issue("a").der
    good = (b"client-cert", wrapped(data))
    with pytest.raises(UnauthenticatedRefused, match="two certificates"):
        Proxies([PROXY]).peer(PROXY, None, [good, good])
    for wrong in (
        b"",
        b"::",
        wrapped(data)[1:],
        wrapped(data)[:-1],
        b":" + base64.b64encode(data)[:-3] + b":",
        b":%00:",
    ):
        found = Proxies([PROXY]).peer(PROXY, None, [(b"client-cert", wrong)])
        assert found.certificate is not None
        with pytest.raises(UnauthenticatedRefused, match="malformed"):
            claims(found.certificate, NOW)


@pytest.mark.parametrize("network", ["", "x", "10.0.0.1/24", "10.0.0.0/33", "localhost"])
def test_a_proxy_is_named_by_its_address(network: str) -> None:
    with pytest.raises(ConfigRefused, match="proxy"):
        Proxies([network])
