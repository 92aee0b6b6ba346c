"""Where the keys of timestamp and snapshot are: URIs that only the service's own machine may set.

Whoever drafts a root over HTTP names the places of new keys in the ceremony file, which may be right on another machine alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from securesystemslib.signer import CryptoSigner, Key
from tuf.api.metadata import Root

from hillhold_signer.config import show_config
from hillhold_signer.errors import KeyRefused
from hillhold_signer.keys import SCHEME, load_signer, uri_path
from hillhold_signer.log.events import Kind
from hillhold_signer.service.registry import OPERATOR
from hillhold_signer.service.unit import Unit
from hillhold_signer.storage import write_file
from hillhold_verifier.errors import HillholdError


@dataclass(frozen=True, slots=True)
class OnlineKey:
    """A key of timestamp or snapshot.

    Attributes:
        role, keyid: which it is.
        drafted: a root that is not published yet names it.
        uri: where it is; None where nobody said.
        problem: why it cannot be opened here; None where it can.
    """

    role: str
    keyid: str
    drafted: bool
    uri: str | None
    problem: str | None


def online_keys(unit: Unit, ask: Callable[[str], str]) -> tuple[OnlineKey, ...]:
    """Return the online keys of the published root and of a drafted one, each tried; raises `RepositoryRefused`, `StorageError`."""
    uris = unit.repository.config().online
    found = []
    for role, key, drafted in _named(unit):
        uri = uris.get(key.keyid)
        problem = "no URI" if uri is None else _problem(uri, key, ask)
        found.append(OnlineKey(role, key.keyid, drafted, uri, problem))
    return tuple(found)


def missing_files(unit: Unit) -> list[str]:
    """Return the URIs of online keys whose file is not on this machine; raises `RepositoryRefused`, `StorageError`."""
    found = []
    for uri in unit.repository.config().online.values():
        scheme, _, rest = uri.partition(":")
        path = uri_path(uri) if scheme == SCHEME else Path(rest) if scheme == CryptoSigner.SCHEME else None
        if path is not None and not path.is_file():
            found.append(uri)
    return found


def move_keys(unit: Unit, uris: Mapping[str, str], ask: Callable[[str], str]) -> None:
    """Write down where keys are, by role; what is there must be a key that root, or a drafted one, names for that role.

    Raises:
        KeyRefused: another key, or none that opens; nothing was changed.
        RepositoryRefused, StorageError: the repository.
    """
    moved = {}
    for role, uri in uris.items():
        named = [key for name, key, _ in _named(unit) if name == role]
        right = [key for key in named if _problem(uri, key, ask) is None]
        if not right:
            keyids = " or ".join(key.keyid[:16] for key in named) or "one that a root names"
            got = (_problem(uri, named[0], ask) if named else None) or "no root yet"
            raise KeyRefused(f"key of {role}", expected=f"{keyids} at {uri}", got=got)
        moved[right[0].keyid] = uri
    config = unit.repository.config()
    write_file(unit.repository.layout.config, show_config(replace(config, online={**config.online, **moved})))
    for keyid, uri in sorted(moved.items()):
        unit.record(
            Kind.CONFIGURATION,
            OPERATOR,
            what=f"place of the online key {keyid[:16]}",
            sha256=sha256(uri.encode()).hexdigest(),
        )


def _named(unit: Unit) -> Iterator[tuple[str, Key, bool]]:
    """Role, key, and whether only a draft names it."""
    state = unit.repository.state()
    seen: set[tuple[str, str]] = set()
    for root, drafted in ((state.published_root, False), (state.newest("root"), True)):
        if not isinstance(root, Root):
            continue
        for role in ("snapshot", "timestamp"):
            for keyid in root.roles[role].keyids:
                if (role, keyid) not in seen:
                    seen.add((role, keyid))
                    yield role, root.get_key(keyid), drafted


def _problem(uri: str, key: Key, ask: Callable[[str], str]) -> str | None:
    try:
        load_signer(uri, key, ask)
    except HillholdError as error:
        return str(error)
    return None
