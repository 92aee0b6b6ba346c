"""`hillhold.toml`, a repository's settings, and `people/`, the names of the people behind key ids.

`hillhold.toml` is written once, by `init`; a person may edit durations and URIs in it. A name is a file of its own, `people/KEYID.X`,
where X comes from the name: two people who write down the same key under two names at once do not write the same file, and both
names are shown. A person may edit a name in its file. Neither is published, and neither decides what is trusted: keys and thresholds
stand in the metadata.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import Final

from hillhold_signer.ceremony import MAX_PERSON, Expiry
from hillhold_signer.durations import parse_duration, show_duration
from hillhold_signer.encoding import check_text
from hillhold_signer.errors import ConfigRefused, ContentRefused
from hillhold_signer.layout import Layout
from hillhold_signer.memo import Memo
from hillhold_signer.storage import list_folder, read_optional, write_file

FORMAT: Final = 1
MAX_CONFIG: Final = 1024 * 1024
"""Bytes of `hillhold.toml`."""
MAX_PEOPLE: Final = 4096
"""Names."""

GIT_FILES: Final = {
    ".gitattributes": b"* -text\n/public/** -diff -merge\n/drafts/** -diff\n/staged/** -diff\n",
    ".gitignore": b".lock\n.*.tmp\n",
    "staged/.keep": b"",
}
"""What lets a repository live in Git, which is not needed: no line endings changed, no conflict marks written into metadata, and
`staged` never empty (when a folder vanishes on one side of a merge, Git moves what the other side added to it elsewhere)."""

_PERSON: Final = re.compile(r"([0-9a-f]{64})\.[0-9a-f]{1,64}")

_ROLES: Final = ("root", "targets", "lines", "snapshot", "timestamp")


@dataclass(frozen=True, slots=True)
class Config:
    """A repository's settings.

    Attributes:
        demo: example keys are allowed, and the root says so to everyone.
        expiry: how long each role lasts.
        online: where the private part of each online key is, URIs by key id; root says which of them sign.
    """

    demo: bool
    expiry: Expiry
    online: Mapping[str, str]


def show_config(config: Config) -> bytes:
    """Return `hillhold.toml`; raises `ContentRefused` for a URI with control characters."""
    lines = [
        "# A Hillhold repository. Keys and thresholds are in the metadata, not here.",
        f"format = {FORMAT}",
        f"demo = {'true' if config.demo else 'false'}",
        "",
        "[expires]  # how long each role lasts; `lines` is every product line",
        *(f'{role} = "{show_duration(config.expiry.of(role))}"' for role in _ROLES),
        "",
        "[online]  # where the keys are that `publish` and `refresh` sign with, by key id; root says which of them sign",
        *(f"{_quote(keyid)} = {_quote(check_text(uri, 'key URI'))}" for keyid, uri in sorted(config.online.items())),
        "",
    ]
    return "\n".join(lines).encode()


def parse_config(data: bytes) -> Config:
    """Parse `hillhold.toml`.

    Raises:
        ConfigRefused: malformed, of another format, or something missing.
    """
    return _PARSED.get(data, len(data), lambda: _parsed(data))


def _parsed(data: bytes) -> Config:
    top = _toml(data, "hillhold.toml")
    if top.get("format") != FORMAT:
        raise ConfigRefused("hillhold.toml format", expected=FORMAT, got=repr(top.get("format"))[:40])
    demo, expires, online = top.get("demo"), top.get("expires"), top.get("online")
    if not isinstance(demo, bool) or not isinstance(expires, dict) or not isinstance(online, dict):
        raise ConfigRefused("hillhold.toml", expected="demo, [expires] and [online]", got="something else")
    seconds = {role: parse_duration(expires.get(role), f"expires of {role}") for role in _ROLES}
    if not all(isinstance(uri, str) and uri for uri in online.values()):
        raise ConfigRefused("hillhold.toml [online]", expected="a key URI for each key id", got="something else")
    return Config(demo, Expiry(**seconds), MappingProxyType({keyid: str(uri) for keyid, uri in online.items()}))


_PARSED: Final[Memo[Config]] = Memo(4 * MAX_CONFIG)


def read_people(layout: Layout) -> dict[str, str]:
    """Return names by key id; where a key has several, all of them.

    Raises:
        ConfigRefused: a name that is malformed, or too many.
        StorageError: one cannot be read.
    """
    files = list_folder(layout.people)
    if len(files) > MAX_PEOPLE:
        raise ConfigRefused("people", expected=f"at most {MAX_PEOPLE} files", got=len(files))
    found: dict[str, set[str]] = {}
    for file in files:
        if match := _PERSON.fullmatch(file):
            data = read_optional(layout.people / file, 4 * MAX_PERSON + 2) or b""
            found.setdefault(match[1], set()).add(parse_person(data, f"people/{file[:16]}…"))
    return {keyid: " or ".join(sorted(names)) for keyid, names in found.items()}


def write_people(layout: Layout, people: Mapping[str, str]) -> None:
    """Write down who holds which key; raises `ContentRefused` for a name with control characters, `StorageError`."""
    for keyid, name in people.items():
        data = check_text(name, "name").encode()
        write_file(layout.people / f"{keyid}.{sha256(data).hexdigest()[:16]}", data + b"\n")


def parse_person(data: bytes, what: str) -> str:
    """Return the name in a file of `people`; raises `ConfigRefused`."""
    try:
        name = check_text(data.decode().strip("\r\n"), what)
    except (UnicodeDecodeError, ContentRefused) as error:
        raise ConfigRefused(what, expected="a name in UTF-8", got=f"{error}"[:120]) from error
    if not 1 <= len(name) <= MAX_PERSON:
        raise ConfigRefused(what, expected=f"a name of 1 to {MAX_PERSON} characters", got=len(name))
    return name


def _toml(data: bytes, what: str) -> dict[str, object]:
    try:
        return tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigRefused(what, expected="TOML", got=str(error)[:120]) from error


def _quote(text: str) -> str:
    """A TOML basic string: without control characters, JSON's escapes are TOML's."""
    return json.dumps(text, ensure_ascii=False)
