"""Where a request goes and what goes with it: certificates, redirects, passwords, proxies, and what `open_source` takes for what."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hillhold_verifier.bundle import BundleSource
from hillhold_verifier.errors import BundleError, HillholdError, MisuseError, OperationalError
from hillhold_verifier.sources import DirectorySource, open_source
from hillhold_verifier.sources_http import HttpSource
from web import Handler, Web, serve, status

TREE = {"metadata/timestamp.json": b"t"}
TIMESTAMP = "timestamp.json"
PASSWORD = "geheim:@/wort"


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def get(url: str, ca_file: Path | None = None) -> bytes | None:
    return HttpSource(url, ca_file=ca_file, sleep=lambda _: None).metadata(TIMESTAMP)


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def redirect(to: str, number: int = 302) -> Callable[[Handler], object]:
    return status(number, Location=to)


# --- TLS --------------------------------------------------------------------------------------------------------------


class Authority:
    """A certificate that vouches for itself, as a server and as a CA."""

    def __init__(self, folder: Path, *names: x509.GeneralName) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test server")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(key, hashes.SHA256())
        )
        self.file = folder / "ca.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        private = folder / "server.pem"
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.file, private)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, x509.IPAddress(ipaddress.ip_address("127.0.0.1")))


def test_a_server_with_a_certificate_that_nobody_here_knows(authority: Authority) -> None:
    with Web(TREE, context=authority.context) as web:
        with pytest.raises(OperationalError, match=f"^{web.url}metadata/{TIMESTAMP}: certificate verify failed: self"):
            get(web.url)
        assert web.seen == []
        assert get(web.url, authority.file) == b"t"


def test_the_environment_may_name_the_certificates(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with Web(TREE, context=authority.context) as web:
        assert get(web.url) == b"t"


def test_a_certificate_for_another_host(tmp_path: Path) -> None:
    other = Authority(tmp_path, x509.DNSName("example.org"))
    with Web(TREE, context=other.context) as web:
        with pytest.raises(OperationalError, match="certificate verify failed: IP address mismatch"):
            get(web.url, other.file)
        assert web.seen == []


def test_a_server_that_speaks_no_tls(authority: Authority) -> None:
    with Web(TREE) as web, pytest.raises(OperationalError, match=f"^https://127.0.0.1:{web.port}/fw/"):
        get(web.url.replace("http:", "https:"), authority.file)


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_ca_file_that_is_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    with pytest.raises(OperationalError, match=r"CA file .*ca\.pem: "):
        HttpSource("https://example.org/", ca_file=tmp_path / "ca.pem")


# --- redirects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(number: int) -> None:
    with Web(TREE) as web, Web(TREE) as other:
        web.faults = [redirect(f"{other.url}metadata/{TIMESTAMP}?grant=1", number)]
        assert get(web.url) == b"t"
        assert [one.path for one in other.seen] == [f"/fw/metadata/{TIMESTAMP}?grant=1"]
        web.faults = [redirect("../metadata/timestamp.json", number)]
        assert get(web.url) == b"t"


def test_not_for_ever() -> None:
    with Web(TREE) as web:
        web.faults = [redirect("timestamp.json")] * 5
        assert get(web.url) == b"t"
        web.faults = [redirect("timestamp.json")] * 6
        with pytest.raises(OperationalError, match="more than 5 redirects"):
            get(web.url)


def test_a_redirect_never_leads_from_https_to_http(authority: Authority) -> None:
    with Web(TREE, context=authority.context) as web, Web(TREE) as plain:
        web.faults = [redirect(f"{plain.url}metadata/{TIMESTAMP}")]
        with pytest.raises(OperationalError, match="redirected from https to http, which is not followed"):
            get(web.url, authority.file)
        assert plain.seen == []
        plain.faults = [redirect(f"{web.url}metadata/{TIMESTAMP}")]
        assert get(plain.url, authority.file) == b"t"


@pytest.mark.parametrize(
    "to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[", "http://h:x/", "javascript:x", "/\t"]
)
def test_a_redirect_to_nowhere(to: str) -> None:
    with Web(TREE) as web:
        web.faults = [redirect(to)]
        with pytest.raises(OperationalError, match=rf"{TIMESTAMP}: redirected to "):
            get(web.url)
        web.faults = [status(302)]
        with pytest.raises(OperationalError, match="redirected to "):
            get(web.url)


def test_what_a_redirect_grants_is_not_shown() -> None:
    with Web({}) as web, Web({}) as other:
        web.faults = [redirect(f"http://u:{'p'}w@127.0.0.1:{other.port}/x?grant=geheim#geheim")]
        other.faults = [redirect("ftp://x/")]
        with pytest.raises(OperationalError) as caught:
            get(web.url)
        assert str(caught.value) == f"http://127.0.0.1:{other.port}/x: redirected to one with another scheme"
        assert "Authorization" not in other.seen[0].headers


# --- passwords --------------------------------------------------------------------------------------------------------


def test_a_password_goes_to_its_server_alone() -> None:
    with Web(TREE) as web, Web(TREE) as other:
        url = web.url.replace("//", "//ada:geheim%3A%40%2Fwort@")
        web.faults = [serve, redirect("timestamp.json"), serve, redirect(f"{other.url}metadata/{TIMESTAMP}")]
        for _ in range(3):
            assert get(url) == b"t"
        assert [one.headers.get("Authorization") for one in web.seen] == [basic(f"ada:{PASSWORD}")] * 4
        assert [one.headers.get("Authorization") for one in other.seen] == [None]


def test_a_password_is_in_no_error() -> None:
    with Web({}) as web:
        good = web.url.replace("//", "//ada:geheim@")
        source = HttpSource(good, sleep=lambda _: None)
        web.faults = [status(401), status(500), *[status(503)] * 5, redirect("http://["), redirect("ftp://x")]
        errors: list[HillholdError] = []
        for _ in range(4):
            with pytest.raises(OperationalError) as caught:
                source.metadata(TIMESTAMP)
            errors.append(caught.value)
    with pytest.raises(OperationalError) as refused:
        source.metadata(TIMESTAMP)
    bad = [
        "http://ada:geheim@/",
        "http://ada:geheim@h:port/",
        "http://ada:geheim@h/?a",
        "http://ada:geheim@h/ ",
        "http://ada:geheim@[/",
    ]
    for url in (*bad, "ftp://ada:geheim@h/"):
        with pytest.raises(MisuseError) as misuse:
            open_source(url)
        errors.append(misuse.value)
    for error in (*errors, refused.value):
        assert "geheim" not in str(error)
        assert error.__cause__ is None
    assert "geheim" not in repr(vars(source))


# --- proxies ----------------------------------------------------------------------------------------------------------


def test_a_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with Web(TREE) as proxy:
        monkeypatch.setenv("http_proxy", f"http://eve:geheim@127.0.0.1:{proxy.port}")
        assert get("http://repository.example/fw/") is None
        (seen,) = proxy.seen
        assert seen.path == "http://repository.example/fw/metadata/timestamp.json"
        assert seen.headers["Proxy-Authorization"] == basic("eve:geheim")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert get(proxy.url) == b"t"
        assert proxy.asked[1] == f"metadata/{TIMESTAMP}"


def test_a_proxy_for_https_sees_no_request(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    with Web({}) as proxy:
        monkeypatch.setenv("https_proxy", f"http://eve:geheim@127.0.0.1:{proxy.port}")
        with pytest.raises(OperationalError, match=r"^https://ada\.example/fw/metadata/timestamp\.json: ") as caught:
            get("https://ada:wort@ada.example/fw/", authority.file)
        assert "geheim" not in str(caught.value)
        assert "wort" not in str(caught.value)
        assert proxy.seen == [], "CONNECT is no GET"


@pytest.mark.parametrize("proxy", ["http://eve:geheim@h:port", "http:eve:geheim", "geheim://"])
def test_a_malformed_proxy_is_not_repeated(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(OperationalError, match=r"timestamp\.json: ") as caught:
        get("http://127.0.0.1:1/")
    assert "geheim" not in str(caught.value)


# --- what a source is -------------------------------------------------------------------------------------------------


def test_a_folder_a_bundle_and_a_url(tmp_path: Path) -> None:
    (tmp_path / "repo/public/metadata").mkdir(parents=True)
    (tmp_path / "x.hillhold").write_bytes(b"PK\x05\x06" + bytes(18))
    assert isinstance(open_source(str(tmp_path / "repo")), DirectorySource)
    assert isinstance(open_source(str(tmp_path / "x.hillhold")), BundleSource)
    for url in ("http://h", "https://h/a/b", "HTTP://u@h:80/", "https://[::1]:8443/fw/"):
        assert isinstance(open_source(url), HttpSource), url


@pytest.mark.parametrize(
    "text",
    ["ftp://h/", "file:///x", "s3://bucket/x", "http://", "http:///x", "https://h/x?y", "http://h/#x", "http://h:0/"],
)
def test_a_url_that_is_none(text: str) -> None:
    with pytest.raises(MisuseError, match=r"URL of a repository: expected http\(s\)://HOST"):
        open_source(text)


def test_a_file_or_folder_that_is_no_repository(tmp_path: Path) -> None:
    (tmp_path / "app.bin").write_bytes(b"firmware")
    with pytest.raises(BundleError, match="expected a zip archive"):
        open_source(str(tmp_path / "app.bin"))
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(OperationalError, match="not a repository"):
            open_source(str(path))


def test_a_server_is_asked_below_its_path_only() -> None:
    with Web(TREE, public="/a%20b/c/") as web:
        assert get(web.url.rstrip("/")) is None
        assert get(web.url + "//") is None
        assert [one.path for one in web.seen] == [f"/a%20b/c/metadata/{TIMESTAMP}"] * 2
