"""What there is to know of product lines: what is published of them, and what is drafted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from tuf.api.metadata import DelegatedRole, Targets

from hillhold_signer.difference import GRACE
from hillhold_signer.image_keys import image_keys
from hillhold_signer.keys import fingerprint
from hillhold_signer.products import Caps, caps_of
from hillhold_signer.releases import releases_of
from hillhold_signer.repository import Repository
from hillhold_signer.revocation import revoked_image_keys
from hillhold_signer.state import State

Where = Literal["published", "drafted", "changed", "retired"]


@dataclass(frozen=True, slots=True)
class Delegated:
    """What targets say of a line: its caps, and by key id whose signatures it needs.

    Attributes:
        where: `published` as it stands; `drafted`: in the draft of targets only; `changed`: that draft says something else of it, which
            is what the rest holds; `retired`: that draft has it no more.
    """

    where: Where
    caps: Caps
    threshold: int
    keyids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """A line as one pair of targets and its own role have it.

    Attributes:
        version: of its role; 0 where that is not there.
        people: name, key id and fingerprint of each key, by name.
        grace: seconds, the offline grace that the line itself has set.
        releases: how many are listed; `newest`: the highest version of each component that is not withdrawn.
    """

    version: int
    caps: Caps
    grace: int
    threshold: int
    people: tuple[tuple[str, str, str], ...]
    releases: int
    newest: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Overview:
    """A line: as it is published (None: not yet), as it is to be (None: retired), and the fingerprints of its image keys.

    `revoked` are those of the image keys that are revoked.
    """

    published: Facts | None
    newest: Facts | None
    image_keys: tuple[str, ...]
    revoked: tuple[str, ...] = ()


def overview(repository: Repository, product: str) -> Overview:
    """Return what there is to know of one line.

    Raises:
        ProductRefused: no such line.
        MergeRefused: its drafts, or those of targets, do not go together.
        RepositoryRefused, StorageError: the repository.
    """
    state, people = repository.state(), repository.people()
    before = state.published("targets")
    published = None
    if isinstance(before, Targets) and product in _roles(before):
        published = _facts(before, cast("Targets | None", state.published(product)), product, people)
    if published is not None and product not in state.products():
        newest = None
    else:
        newest = _facts(state.targets(), state.line(product), product, people)
    keys = image_keys(repository.layout, product)
    gone = revoked_image_keys(repository.layout, state)
    dropped = tuple(key.fingerprint.hex() for key in keys if key.key_hash.hex() in gone)
    return Overview(published, newest, tuple(key.fingerprint.hex() for key in keys), dropped)


def delegated(state: State) -> dict[str, Delegated]:
    """Return all lines by name; their own roles are not read, so that many lines cost little.

    Raises:
        MergeRefused: the drafts of targets do not go together.
        RepositoryRefused: there are no targets.
    """
    new, old = state.targets(), state.published("targets")
    before, after = _roles(old) if isinstance(old, Targets) else {}, _roles(new)
    found = {}
    for name, role in sorted({**before, **after}.items()):
        where: Where = "published"
        if name not in after:
            where = "retired"
        elif name not in before:
            where = "drafted"
        elif before[name] != role:
            where = "changed"
        source = new if name in after else cast("Targets", old)
        found[name] = Delegated(where, caps_of(source, name), role.threshold, tuple(role.keyids))
    return found


def _facts(targets: Targets, line: Targets | None, name: str, people: Mapping[str, str]) -> Facts:
    role, keys = _roles(targets)[name], targets.delegations.keys if targets.delegations else {}
    team = sorted((people.get(keyid, "unnamed key"), keyid, fingerprint(keys[keyid])) for keyid in role.keyids)
    releases = releases_of(line) if line is not None else ()
    newest = {item.component: str(item.version) for item in releases if item.withdrawn is None}  # lowest version first
    grace = line.unrecognized_fields.get(GRACE, 0) if line is not None else 0
    version = line.version if line is not None else 0
    return Facts(version, caps_of(targets, name), grace, role.threshold, tuple(team), len(releases), newest)


def _roles(targets: Targets) -> Mapping[str, DelegatedRole]:
    return (targets.delegations.roles if targets.delegations else None) or {}
