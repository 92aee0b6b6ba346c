"""The ceremony file: who holds root and targets, which keys are online, how long things last. Reviewed by people before `hillhold init`.

    [root]                              # offline, by quorum
    threshold = 2
    expires = "52w"
    keys = [
        { name = "Ada Lovelace", file = "ada.pub" },
        { name = "Grace Hopper", file = "grace.pub" },
    ]

    [targets]                           # offline, by quorum: says which product lines there are
    threshold = 2
    expires = "52w"
    keys = [ … ]

    [lines]                             # each product line's role; its keys come with `hillhold product add`
    expires = "26w"

    [snapshot]                          # online: the public key, and the URI by which `publish` signs
    expires = "2w"
    key = { file = "snapshot.pub", uri = "file:snapshot.pem" }

    [timestamp]
    expires = "1d"
    key = { file = "timestamp.pub", uri = "file:timestamp.pem" }

Paths are relative to the ceremony file. Unknown names are refused: a typing error must not turn into a default.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from securesystemslib.signer import Key
from tuf.api.metadata import Role, Root

from hillhold_signer.durations import parse_duration
from hillhold_signer.encoding import check_text, utc
from hillhold_signer.errors import CeremonyRefused, ConfigRefused
from hillhold_signer.examples import refuse_public
from hillhold_signer.keys import SCHEME, fingerprint, load_public, uri_path
from hillhold_signer.storage import read_file

MAX_CEREMONY: Final = 256 * 1024
"""Bytes of a ceremony file."""
MAX_TEAM: Final = 64
"""Keys of one role: as many signatures as a device reads."""
MAX_PERSON: Final = 100
"""Characters of a person's name."""

ONLINE_NAME: Final = "online"
"""What the online keys are called."""

_EXPIRES: Final = {"root": "52w", "targets": "52w", "lines": "26w", "snapshot": "2w", "timestamp": "1d"}


@dataclass(frozen=True, slots=True)
class NamedKey:
    """A public key, and the person who holds it."""

    name: str
    key: Key


@dataclass(frozen=True, slots=True)
class Team:
    """The keys of a role, and how many of them must sign."""

    keys: tuple[NamedKey, ...]
    threshold: int

    def names(self) -> dict[str, str]:
        """Return names by key id."""
        return {item.key.keyid: item.name for item in self.keys}

    def check(self, what: str, *, demo: bool) -> None:
        """Refuse a team that does not make sense.

        Raises:
            CeremonyRefused: no key, too many, one key twice, a threshold that cannot be met.
            PublicKeyMaterialRefused: an example key outside a demo.
            ContentRefused: control characters in a name.
        """
        if not 1 <= len(self.keys) <= MAX_TEAM:
            raise CeremonyRefused(f"keys of {what}", expected=f"1 to {MAX_TEAM}", got=len(self.keys))
        if not 1 <= self.threshold <= len(self.keys):
            raise CeremonyRefused(f"threshold of {what}", expected=f"1 to {len(self.keys)}", got=self.threshold)
        seen: dict[str, str] = {}
        for item in self.keys:
            check_text(item.name, f"name in {what}")
            if not 1 <= len(item.name) <= MAX_PERSON:
                raise CeremonyRefused(f"name in {what}", expected=f"1 to {MAX_PERSON} characters", got=len(item.name))
            refuse_public(item.key, demo=demo)
            mark = fingerprint(item.key)
            if mark in seen:
                got = f"the same key for {seen[mark]} and {item.name}"
                raise CeremonyRefused(f"keys of {what}", expected="each key once", got=got)
            seen[mark] = item.name
        check_names(self.keys, what)


def check_known(item: NamedKey, people: Mapping[str, str]) -> None:
    """Refuse another name for a key than the one under which it is known; raises `CeremonyRefused`."""
    known = people.get(item.key.keyid, item.name)
    if known != item.name and known != ONLINE_NAME:
        hint = f"name it so; or, if that is wrong, correct it in people/{item.key.keyid[:16]}…"
        raise CeremonyRefused(f"name of the key {item.key.keyid[:16]}", expected=known, got=item.name[:80], hint=hint)


def check_names(keys: Iterable[NamedKey], what: str) -> None:
    """Refuse two keys under one name: people read names, and would take the one for the other.

    Raises:
        CeremonyRefused: it is so, or one key has two names.
    """
    by_name: dict[str, str] = {}
    by_key: dict[str, str] = {}
    for item in keys:
        if (key := by_name.setdefault(item.name.casefold(), item.key.keyid)) != item.key.keyid:
            got = f"two of {item.name}: {key[:16]} and {item.key.keyid[:16]}"
            raise CeremonyRefused(f"names in {what}", expected="one key for each name", got=got)
        if (name := by_key.setdefault(item.key.keyid, item.name)) != item.name:
            got = f"{name} and {item.name} for {item.key.keyid[:16]}"
            raise CeremonyRefused(f"names in {what}", expected="one name for each key", got=got)


@dataclass(frozen=True, slots=True)
class OnlineKey:
    """A key by which `publish` signs: the public key, and the URI of the private one."""

    key: Key
    uri: str


@dataclass(frozen=True, slots=True)
class Expiry:
    """How long each role lasts after it was drafted or made, in seconds."""

    root: int = parse_duration(_EXPIRES["root"])
    targets: int = parse_duration(_EXPIRES["targets"])
    lines: int = parse_duration(_EXPIRES["lines"])
    snapshot: int = parse_duration(_EXPIRES["snapshot"])
    timestamp: int = parse_duration(_EXPIRES["timestamp"])

    def of(self, role: str) -> int:
        """Return the seconds of `role`; any name that is not a top-level role is a product line."""
        known = {"root": self.root, "targets": self.targets, "snapshot": self.snapshot, "timestamp": self.timestamp}
        return known.get(role, self.lines)


@dataclass(frozen=True, slots=True)
class Ceremony:
    """What a repository is made from."""

    root: Team
    targets: Team
    snapshot: OnlineKey
    timestamp: OnlineKey
    expiry: Expiry = Expiry()

    def check(self, *, demo: bool) -> None:
        """Refuse a ceremony that does not make sense; raises as `Team.check` does."""
        self.root.check("root", demo=demo)
        self.targets.check("targets", demo=demo)
        check_names((*self.root.keys, *self.targets.keys), "root and targets")
        offline = {fingerprint(item.key): item.name for team in (self.root, self.targets) for item in team.keys}
        for role, online in (("snapshot", self.snapshot), ("timestamp", self.timestamp)):
            refuse_public(online.key, demo=demo)
            check_text(online.uri, f"uri of {role}")
            if holder := offline.get(fingerprint(online.key)):
                raise CeremonyRefused(f"key of {role}", expected="a key of its own", got=f"the offline key of {holder}")

    def online(self) -> dict[str, str]:
        """Return the URIs of the online keys by key id."""
        return {item.key.keyid: item.uri for item in (self.snapshot, self.timestamp)}

    def names(self) -> dict[str, str]:
        """Return names by key id; the online keys are called so."""
        names = dict.fromkeys(self.online(), ONLINE_NAME)
        return names | self.root.names() | self.targets.names()

    def root_after(self, old: Root | None, now: int, *, demo: bool) -> Root:
        """Return the root that this ceremony makes, after another one or as the first.

        Args:
            now: Unix seconds.
        """
        teams = {
            "root": ([item.key for item in self.root.keys], self.root.threshold),
            "targets": ([item.key for item in self.targets.keys], self.targets.threshold),
            "snapshot": ([self.snapshot.key], 1),
            "timestamp": ([self.timestamp.key], 1),
        }
        return Root(
            version=old.version + 1 if old else 1,
            expires=utc(now + self.expiry.root),
            keys={key.keyid: key for keys, _ in teams.values() for key in keys},
            roles={name: Role(sorted(key.keyid for key in keys), count) for name, (keys, count) in teams.items()},
            consistent_snapshot=True,
            unrecognized_fields={"x-hillhold-demo": True} if demo else {},
        )


def read_ceremony(path: Path) -> Ceremony:
    """Read a ceremony file and the public keys that it names.

    Raises:
        CeremonyRefused: malformed, or something unknown or missing in it.
        KeyRefused, StorageError: a key file that cannot be read.
    """
    try:
        text = read_file(path, MAX_CEREMONY).decode()
    except UnicodeDecodeError as error:
        raise CeremonyRefused(f"{path}", expected="UTF-8", got=f"byte {error.start} that is not") from error
    return parse_ceremony(text, path.parent, load_public)


def parse_ceremony(text: str, folder: Path, load_key: Callable[[Path], Key]) -> Ceremony:
    """Parse a ceremony file.

    Args:
        folder: what paths in it are relative to.
        load_key: reads a public key file.

    Raises:
        CeremonyRefused: malformed, or something unknown or missing in it; what `load_key` raises.
    """
    try:
        top = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise CeremonyRefused("ceremony file", expected="TOML", got=str(error)[:120]) from error
    _only(top, set(_EXPIRES), "ceremony file")
    sections = {name: _table(top, name, "ceremony file") for name in _EXPIRES if name in top or name != "lines"}
    expiry = {name: _expires(sections.get(name, {}), name) for name in _EXPIRES}
    _only(sections.get("lines", {}), {"expires"}, "[lines]")
    return Ceremony(
        root=_team(sections["root"], "root", folder, load_key),
        targets=_team(sections["targets"], "targets", folder, load_key),
        snapshot=_online(sections["snapshot"], "snapshot", folder, load_key),
        timestamp=_online(sections["timestamp"], "timestamp", folder, load_key),
        expiry=Expiry(**expiry),
    )


def _expires(section: Mapping[str, object], name: str) -> int:
    try:
        seconds = parse_duration(section.get("expires", _EXPIRES[name]), f"expires of {name}")
    except ConfigRefused as error:
        raise CeremonyRefused(error.what, expected=error.expected, got=error.got) from error
    if seconds == 0:
        raise CeremonyRefused(f"expires of {name}", expected="more than nothing", got="0")
    return seconds


def _team(section: Mapping[str, object], what: str, folder: Path, load_key: Callable[[Path], Key]) -> Team:
    _only(section, {"threshold", "expires", "keys"}, f"[{what}]")
    threshold = section.get("threshold")
    if not isinstance(threshold, int) or isinstance(threshold, bool):
        raise CeremonyRefused(f"threshold of {what}", expected="an integer", got=repr(threshold)[:40])
    keys = section.get("keys")
    if not isinstance(keys, list) or len(keys) > MAX_TEAM:
        raise CeremonyRefused(f"keys of {what}", expected=f"a list of at most {MAX_TEAM}", got=type(keys).__name__)
    found = []
    for item in keys:
        if not isinstance(item, dict):
            raise CeremonyRefused(f"keys of {what}", expected='{ name = "…", file = "…" }', got=repr(item)[:40])
        _only(item, {"name", "file"}, f"key of {what}")
        path = folder / _text(item, "file", f"key of {what}")
        found.append(NamedKey(_text(item, "name", f"key of {what}"), load_key(path)))
    return Team(tuple(found), threshold)


def _online(section: Mapping[str, object], what: str, folder: Path, load_key: Callable[[Path], Key]) -> OnlineKey:
    _only(section, {"expires", "key"}, f"[{what}]")
    item = _table(section, "key", f"[{what}]")
    _only(item, {"file", "uri"}, f"key of {what}")
    uri = check_text(_text(item, "uri", f"key of {what}"), f"uri of {what}")
    if uri.partition(":")[0] == SCHEME:
        uri = f"{SCHEME}:{(folder / uri_path(uri)).resolve().as_posix()}"
    return OnlineKey(load_key(folder / _text(item, "file", f"key of {what}")), uri)


def _table(section: Mapping[str, object], name: str, what: str) -> dict[str, object]:
    found = section.get(name)
    if not isinstance(found, dict):
        raise CeremonyRefused(f"{what}: {name}", expected="a table", got="none" if found is None else repr(found)[:40])
    return found


def _text(section: Mapping[str, object], name: str, what: str) -> str:
    found = section.get(name)
    if not isinstance(found, str) or not found or "\0" in found:
        raise CeremonyRefused(f"{what}: {name}", expected="text", got="none" if found is None else repr(found)[:40])
    return found


def _only(section: Mapping[str, object], known: set[str], what: str) -> None:
    unknown: Sequence[str] = sorted(set(section) - known)
    if unknown:
        raise CeremonyRefused(what, expected=f"only {', '.join(sorted(known))}", got=repr(unknown[0])[:40])
