"""`hillhold.toml`, a repository's settings, and `people.toml`, the names of the people behind key ids.

`hillhold.toml` is written once, by `init`; a person may edit durations and URIs in it. `people.toml` is written by the program,
sorted by key id, so that two people's additions merge. Neither is published, and neither decides what is trusted: keys and
thresholds stand in the metadata.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hillhold_signer.ceremony import Expiry
from hillhold_signer.durations import parse_duration, show_duration
from hillhold_signer.encoding import check_text
from hillhold_signer.errors import ConfigRefused

FORMAT: Final = 1
MAX_CONFIG: Final = 1024 * 1024
"""Bytes of either file: some thousand people."""

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
    top = _toml(data, "hillhold.toml")
    if top.get("format") != FORMAT:
        raise ConfigRefused("hillhold.toml format", expected=FORMAT, got=repr(top.get("format"))[:40])
    demo, expires, online = top.get("demo"), top.get("expires"), top.get("online")
    if not isinstance(demo, bool) or not isinstance(expires, dict) or not isinstance(online, dict):
        raise ConfigRefused("hillhold.toml", expected="demo, [expires] and [online]", got="something else")
    seconds = {role: parse_duration(expires.get(role), f"expires of {role}") for role in _ROLES}
    if not all(isinstance(uri, str) and uri for uri in online.values()):
        raise ConfigRefused("hillhold.toml [online]", expected="a key URI for each key id", got="something else")
    return Config(demo, Expiry(**seconds), {keyid: str(uri) for keyid, uri in online.items()})


def show_people(people: Mapping[str, str]) -> bytes:
    """Return `people.toml`; raises `ContentRefused` for a name with control characters."""
    lines = [f"{_quote(keyid)} = {_quote(check_text(name, 'name'))}" for keyid, name in sorted(people.items())]
    return "\n".join(["# Who holds which key, by TUF key id.", *lines, ""]).encode()


def parse_people(data: bytes) -> dict[str, str]:
    """Parse `people.toml`; raises `ConfigRefused`."""
    top = _toml(data, "people.toml")
    if not all(isinstance(name, str) for name in top.values()):
        raise ConfigRefused("people.toml", expected="a name for each key id", got="something else")
    return {keyid: str(name) for keyid, name in top.items()}


def _toml(data: bytes, what: str) -> dict[str, object]:
    try:
        return tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigRefused(what, expected="TOML", got=str(error)[:120]) from error


def _quote(text: str) -> str:
    """A TOML basic string: without control characters, JSON's escapes are TOML's."""
    return json.dumps(text, ensure_ascii=False)
