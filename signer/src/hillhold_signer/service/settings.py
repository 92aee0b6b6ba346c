"""Settings of a service: `service.toml` in its folder, which may be empty.

    database = "postgresql://hillhold@db/hillhold"       # by default hillhold.db in the folder
    objects = "s3://firmware/hillhold"                   # by default the folder itself
    max_upload = "1GiB"
    keep = "7d"                                          # how long files stay that nothing names
    proxies = ["10.0.0.0/24"]                            # load balancers whose headers count
    url = "https://hillhold.example"                     # by which people reach it; by default, as they asked
    renew = true                                         # false: another job renews timestamp and snapshot

    [options]                                            # of the object store, as obstore knows them
    endpoint = "http://127.0.0.1:9000"
    allow_http = "true"

    [tls]
    certificate = "tls.pem"
    key = "tls.key"
    clients = "clients.pem"                              # CA of client certificates

    [[issuer]]                                           # OpenID Connect
    url = "https://token.actions.githubusercontent.com"
    audience = "hillhold"
    max_age = "1h"                                       # since a token was issued

Secrets are not among them: a password of the database comes with PGPASSWORD or a pgpass file, keys of an object store with its usual
environment variables, the passphrases of keys with `--passphrase-fd`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from hillhold_signer.durations import parse_duration
from hillhold_signer.errors import ConfigRefused
from hillhold_signer.service.blobs import MIN_KEEP
from hillhold_signer.service.oidc import DEFAULT_ALGORITHMS, MAX_AGE, Issuer
from hillhold_signer.storage import read_optional

FILE: Final = "service.toml"
MAX_FILE: Final = 64 * 1024
"""Bytes of the settings."""
MAX_UPLOAD: Final = 1 << 30
"""Bytes of a file that is handed in, by default: an image, or what came with it."""

KEEP: Final = 7 * 86_400
"""Seconds for which files stay that nothing names, by default."""

_SIZE: Final = re.compile(r"([1-9][0-9]{0,8})(KiB|MiB|GiB)")
_UNITS: Final[Mapping[str, int]] = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of a server that speaks TLS itself; `clients` is the CA of client certificates."""

    certificate: Path
    key: Path
    clients: Path | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one replica.

    Attributes:
        folder: where the settings are, and what has no other place.
        database: URL.
        objects: URL of an object store; None for the folder.
        options: of the object store, as `obstore` knows them.
        max_upload: bytes of a file.
        keep: seconds for which files stay that nothing names, and uploads that nobody goes on with.
        proxies: addresses or networks of load balancers.
        url: by which people reach the page, without a slash at its end; None for what each asked for.
        renew: whether this service renews timestamp and snapshot.
    """

    folder: Path
    database: str
    objects: str | None = None
    options: Mapping[str, str] | None = None
    max_upload: int = MAX_UPLOAD
    keep: int = KEEP
    proxies: tuple[str, ...] = ()
    renew: bool = True
    tls: Tls | None = None
    issuers: tuple[Issuer, ...] = ()
    url: str | None = None

    @property
    def log_key(self) -> Path:
        """The private key of the log."""
        return self.folder / "log.pem"


def read_settings(folder: Path) -> Settings:
    """Return the settings of a service's folder; raises `ConfigRefused`, `StorageError`."""
    what = str(folder / FILE)
    data = read_optional(folder / FILE, MAX_FILE)
    if data is None:  # else a database would be made in whatever folder was named
        hint = "`hillhold service init` makes a service"
        raise ConfigRefused(f"{folder}", expected=f"the folder of a service, with {FILE}", got="none", hint=hint)
    try:
        found = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigRefused(what, expected="TOML", got=str(error)[:120]) from error
    taken = _Taken(found, what)
    settings = Settings(
        folder,
        taken.text("database") or f"sqlite:///{(folder / 'hillhold.db').absolute()}",
        taken.text("objects"),
        taken.texts("options"),
        _size(taken.text("max_upload") or "1GiB", f"{what} max_upload"),
        _keep(taken.text("keep") or "7d", f"{what} keep"),
        taken.list("proxies"),
        taken.flag("renew"),
        _tls(taken.table("tls"), folder, what),
        tuple(_issuer(item, what) for item in taken.tables("issuer")),
        _address(taken.text("url"), what),
    )
    taken.check_empty()
    return settings


def _address(url: str | None, what: str) -> str | None:
    if url is None:
        return None
    parts = urlsplit(url)
    if (
        parts.scheme not in ("http", "https")
        or not parts.netloc
        or parts.path.strip("/")
        or parts.query
        or parts.fragment
    ):
        raise ConfigRefused(f"{what} url", expected="https://HOST, without a path", got=url[:80])
    return f"{parts.scheme}://{parts.netloc}"


def _tls(table: Mapping[str, Any] | None, folder: Path, what: str) -> Tls | None:
    if table is None:
        return None
    taken = _Taken(table, f"{what} [tls]")
    certificate, key, clients = taken.text("certificate"), taken.text("key"), taken.text("clients")
    taken.check_empty()
    if certificate is None or key is None:
        raise ConfigRefused(f"{what} [tls]", expected="certificate and key", got="one of them, or none")
    return Tls(folder / certificate, folder / key, folder / clients if clients else None)


def _issuer(table: Mapping[str, Any], what: str) -> Issuer:
    taken = _Taken(table, f"{what} [[issuer]]")
    url, audience, algorithms = taken.text("url"), taken.text("audience"), taken.list("algorithms")
    age = taken.text("max_age")
    taken.check_empty()
    if url is None or audience is None:
        raise ConfigRefused(f"{what} [[issuer]]", expected="url and audience", got="one of them, or none")
    max_age = MAX_AGE if age is None else parse_duration(age, f"{what} [[issuer]] max_age")
    return Issuer(url, audience, algorithms or DEFAULT_ALGORITHMS, max_age)


def _keep(text: str, what: str) -> int:
    seconds = parse_duration(text, what)
    if seconds < MIN_KEEP:  # for what is under way (`blobs`)
        raise ConfigRefused(what, expected="at least 1d", got=text)
    return seconds


def _size(text: str, what: str) -> int:
    if (match := _SIZE.fullmatch(text)) is None:
        raise ConfigRefused(what, expected='a size such as "64MiB"', got=repr(text)[:40])
    return int(match[1]) * _UNITS[match[2]]


class _Taken:
    """A table whose fields are taken one by one, each of its type; what is left is not known."""

    def __init__(self, table: Mapping[str, Any], what: str) -> None:
        self._left, self._what = dict(table), what

    def text(self, name: str) -> str | None:
        found: str | None = self._take(name, str, "text", None)
        return found

    def flag(self, name: str) -> bool:
        return bool(self._take(name, bool, "true or false", True))

    def table(self, name: str) -> Mapping[str, Any] | None:
        found: Mapping[str, Any] | None = self._take(name, dict, "a table", None)
        return found

    def texts(self, name: str) -> Mapping[str, str] | None:
        found = self.table(name)
        if found is not None and not all(isinstance(value, str) for value in found.values()):
            raise ConfigRefused(f"{self._what} [{name}]", expected="texts", got="something else")
        return found

    def list(self, name: str) -> tuple[str, ...]:
        found = self._take(name, list, "a list of texts", [])
        if not all(isinstance(value, str) for value in found):
            raise ConfigRefused(f"{self._what} {name}", expected="a list of texts", got="something else")
        return tuple(found)

    def tables(self, name: str) -> tuple[Mapping[str, Any], ...]:
        found = self._take(name, list, f"tables [[{name}]]", [])
        if not all(isinstance(value, dict) for value in found):
            raise ConfigRefused(f"{self._what} {name}", expected=f"tables [[{name}]]", got="something else")
        return tuple(found)

    def check_empty(self) -> None:
        if self._left:
            raise ConfigRefused(self._what, expected="settings that there are", got=repr(next(iter(self._left)))[:80])

    def _take(self, name: str, kind: type[Any], expected: str, default: Any) -> Any:
        value = self._left.pop(name, default)
        if value is not default and type(value) is not kind:
            raise ConfigRefused(f"{self._what} {name}", expected=expected, got=repr(value)[:80])
        return value
