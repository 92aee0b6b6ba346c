"""The rules of trust, as pure steps: what a device holds, and what it holds after one more file.

    root  ->  timestamp  ->  snapshot  ->  targets  ->  the product's line role          (TUF 5.3 to 5.6)

Each `update_*` takes what is held and the bytes of a file, and returns what is held then, or raises and changes nothing. Files may come
in any order: a step whose lister is not held and valid *now* is refused. `current` says whether the whole chain holds now.

Beyond TUF 1.0 (DESIGN §4):

- A floor remembers the keys that set it, and counts only while those still meet the delegator's threshold, judged at each use.
  A stolen key that signs version 2⁵³ locks nobody out once it is replaced (TUF 5.3.11 clears files; this clears exactly the claim).
- Floors rise on authenticated metadata even if it has expired; only `current` judges the expiry of anything but root.
- `now` is the later of the clock and the time floor: the highest `x-hillhold-issued` of an authenticated timestamp.
- Versions that timestamp or snapshot merely claim count while the claimant's signatures still verify.
- An expired timestamp or snapshot is still accepted within the line's `offline_grace`, as far as its delegation allows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from hillhold_verifier.checks import check_content, check_expiry, check_version, is_listed
from hillhold_verifier.errors import MissingError, RollbackError, SignatureError
from hillhold_verifier.keys import SCHEMES, Key
from hillhold_verifier.metadata import (
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    Envelope,
    Signed,
    parse_root,
    parse_snapshot,
    parse_targets,
    parse_timestamp,
)
from hillhold_verifier.roles import Delegation, MetaFile, Role, Root, Snapshot, Targets, Timestamp

LINE: Final = "line"
"""Name of the floor of the product's line role, whatever the product is called."""
MAX_SHOWN: Final = 4
"""Signature schemes in a message."""


@dataclass(frozen=True, slots=True)
class Floor:
    """The lowest value that is still accepted, and the keys (`Key.fingerprint`) that set it."""

    value: int
    keys: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class Trust:
    """What a device holds: files that it authenticated when it accepted them, and floors.

    Attributes:
        root, timestamp, snapshot, targets, line: the held file of each role.
        floors: by role, `LINE` for the line role.
        time_floor: Unix seconds.
        schemes: signature schemes that count here; fewer while an unconfirmed image runs (DESIGN §4, "Trial").
        hashed: listers have to name files by hash (DESIGN §4, "Current"); TUF itself leaves it to them.
    """

    root: Envelope[Root]
    timestamp: Envelope[Timestamp] | None = None
    snapshot: Envelope[Snapshot] | None = None
    targets: Envelope[Targets] | None = None
    line: Envelope[Targets] | None = None
    floors: Mapping[str, Floor] = field(default_factory=lambda: MappingProxyType({}))
    time_floor: Floor | None = None
    schemes: frozenset[str] = SCHEMES
    hashed: bool = True
    _holds: dict[str, bool] = field(default_factory=dict, init=False, compare=False, repr=False)

    def now(self, clock: int | None) -> int:
        """Return the later of `clock` (None: the device has none) and the time floor, in Unix seconds."""
        root = self.root.signed
        return max(clock or 0, _standing(self.time_floor, root.roles[TIMESTAMP], root.keys))


@dataclass(frozen=True, slots=True)
class Current:
    """A chain that holds now. `grace_used`: seconds by which timestamp or snapshot have expired."""

    product: str
    now: int
    root: Root
    delegation: Delegation
    line: Targets
    grace_used: int


def update_root(trust: Trust, data: bytes) -> Trust:
    """Take the next root (TUF 5.3.3 to 5.3.8); held files stay, and are judged under it from now on.

    Raises:
        MetadataError: malformed.
        SignatureError: too few signatures under the held root or under the new one itself.
        RollbackError: not the version after the held one.
    """
    new = parse_root(data)
    old = trust.root.signed
    verify(new, ROOT, old.roles[ROOT], old.keys, trust.schemes)
    verify(new, ROOT, new.signed.roles[ROOT], new.signed.keys, trust.schemes)
    new = _bare(new, (old.roles[ROOT], old.keys), (new.signed.roles[ROOT], new.signed.keys))
    if new.signed.version != old.version + 1:
        raise RollbackError("root version", expected=old.version + 1, got=new.signed.version)
    for name, role in new.signed.roles.items():
        _check_usable(name, role, new.signed.keys, trust.schemes)
    return replace(trust, root=new)


def update_timestamp(trust: Trust, data: bytes, clock: int | None) -> Trust:
    """Take a timestamp (TUF 5.4); one of the held version changes nothing, unless the held one is gone.

    Raises:
        MetadataError, SignatureError, RollbackError: as the names say.
        ExpiredError: the held root has expired.
    """
    new = parse_timestamp(data)
    role = _unexpired_root(trust, clock).roles[TIMESTAMP]
    signers = verify(new, TIMESTAMP, role, trust.root.signed.keys, trust.schemes)
    new = _bare(new, (role, trust.root.signed.keys))
    _check_floor(trust, TIMESTAMP, role, trust.root.signed.keys, new.signed.version)
    held = held_timestamp(trust)
    # Not where the floor alone has that version: what set it may have expired by a clock that was wrong, and was not kept.
    if held and new.signed.version == held.signed.version:
        return trust
    if held and new.signed.snapshot.version < held.signed.snapshot.version:
        raise RollbackError(
            "snapshot version in timestamp",
            expected=f"at least {held.signed.snapshot.version}",
            got=new.signed.snapshot.version,
        )
    time_floor = trust.time_floor
    if new.signed.issued > _standing(time_floor, role, trust.root.signed.keys):
        time_floor = Floor(new.signed.issued, signers)
    return replace(
        trust, timestamp=new, floors=_raised(trust, TIMESTAMP, new.signed.version, signers), time_floor=time_floor
    )


def update_snapshot(trust: Trust, data: bytes, clock: int | None) -> Trust:
    """Take the snapshot that the held timestamp lists (TUF 5.5).

    Raises:
        MetadataError, SignatureError, RollbackError, ExpiredError: as for the timestamp.
        MissingError: no valid timestamp is held.
        MismatchError: not the file that the timestamp lists.
    """
    root = _unexpired_root(trust, clock)
    lister = _need(held_timestamp(trust), TIMESTAMP)
    new = _listed(data, SNAPSHOT, lister.signed.snapshot, parse_snapshot, trust)
    role = root.roles[SNAPSHOT]
    signers = verify(new, SNAPSHOT, role, root.keys, trust.schemes)
    _check_floor(trust, SNAPSHOT, role, root.keys, new.signed.version)
    if (held := trust.snapshot) and verifies(held, role, root.keys, trust.schemes):
        _check_claims(held.signed, new.signed)
    return replace(trust, snapshot=new, floors=_raised(trust, SNAPSHOT, new.signed.version, signers))


def update_targets(trust: Trust, data: bytes, clock: int | None) -> Trust:
    """Take the top-level targets that the held snapshot lists (TUF 5.6); raises as `update_snapshot` does."""
    root = _unexpired_root(trust, clock)
    lister = _need(held_snapshot(trust), SNAPSHOT)
    new = _listed(data, TARGETS, lister.signed.meta[TARGETS], parse_targets, trust)
    role = root.roles[TARGETS]
    signers = verify(new, TARGETS, role, root.keys, trust.schemes)
    _check_floor(trust, TARGETS, role, root.keys, new.signed.version)
    return replace(trust, targets=new, floors=_raised(trust, TARGETS, new.signed.version, signers))


def update_line(trust: Trust, product: str, data: bytes, clock: int | None) -> Trust:
    """Take the product's line role that the held snapshot lists, under the held targets' delegation (TUF 5.6.7).

    Raises as `update_snapshot` does; `MissingError` also where targets delegate no such line or snapshot lists none.
    """
    _unexpired_root(trust, clock)
    listing, delegation, keys = _line_terms(trust, product)
    new = _listed(data, product, listing, lambda data: parse_targets(data, product), trust)
    signers = verify(new, product, delegation.role, keys, trust.schemes)
    _check_floor(trust, LINE, delegation.role, keys, new.signed.version)
    return replace(trust, line=new, floors=_raised(trust, LINE, new.signed.version, signers))


def missing(trust: Trust, product: str) -> tuple[str, MetaFile] | None:
    """Return the role whose listed file is not held, and its listing; None where the chain is complete.

    Raises:
        MissingError: no valid timestamp is held, or the chain lists no such line.
    """
    timestamp = _need(held_timestamp(trust), TIMESTAMP)
    if not (snapshot := held_snapshot(trust)):
        return SNAPSHOT, timestamp.signed.snapshot
    if not held_targets(trust):
        return TARGETS, snapshot.signed.meta[TARGETS]
    listing, delegation, keys = _line_terms(trust, product)
    line = trust.line if trust.line and is_listed(trust.line, listing, hashed=trust.hashed) else None
    if line and verifies(line, delegation.role, keys, trust.schemes):
        return None
    return product, listing


def current(trust: Trust, product: str, clock: int | None) -> Current:
    """Return the chain if it holds now (DESIGN §4, "Current").

    Raises:
        MissingError: a file of the chain is missing, not the one listed, or no longer verifies.
        ExpiredError: a file has expired, beyond any grace.
    """
    if gap := missing(trust, product):
        raise MissingError(f"{gap[0]} metadata", expected=f"version {gap[1].version}", got="none that is valid")
    timestamp, snapshot = _need(trust.timestamp, TIMESTAMP), _need(trust.snapshot, SNAPSHOT)
    targets, line = _need(trust.targets, TARGETS), _need(trust.line, product)
    delegation = _line_terms(trust, product)[1]
    now = trust.now(clock)
    for role, expires in (
        (ROOT, trust.root.signed.expires),
        (TARGETS, targets.signed.expires),
        (product, line.signed.expires),
    ):
        check_expiry(role, expires, now)
    grace = min(line.signed.offline_grace, delegation.max_offline_grace)
    for role, expires in ((TIMESTAMP, timestamp.signed.expires), (SNAPSHOT, snapshot.signed.expires)):
        check_expiry(role, expires + grace, now)
    first = min(timestamp.signed.expires, snapshot.signed.expires)
    # What expires at this very second has expired (TUF 5.4.4), so that grace is used from the first second on.
    used = max(1, now - first) if now >= first else 0
    return Current(product, now, trust.root.signed, delegation, line.signed, used)


def verify(
    envelope: Envelope[Signed], name: str, role: Role, keys: Mapping[str, Key], schemes: frozenset[str] = SCHEMES
) -> frozenset[bytes]:
    """Return the keys of `role` with a valid signature (TUF 5.3.4 and its like); distinct keys count, not key ids.

    Raises:
        SignatureError: fewer than the threshold.
    """
    distinct = set[bytes]()
    for signature in envelope.signatures:
        if signature.keyid in role.keyids and (key := keys.get(signature.keyid)):
            fingerprint = envelope.signer(signature, key, schemes)
            if fingerprint is not None:
                distinct.add(fingerprint)
    if len(distinct) < role.threshold:
        got = f"{len(distinct)}{_unusable(role, keys, schemes)}"
        raise SignatureError(f"{name} signatures", expected=f"{role.threshold} valid", got=got)
    return frozenset(distinct)


def _listed(
    data: bytes, name: str, listing: MetaFile, parse: Callable[[bytes], Envelope[Signed]], trust: Trust
) -> Envelope[Signed]:
    """Parse a file that its lister names; what it does not name no parser sees."""
    check_content(data, name, listing, hashed=trust.hashed)
    new = parse(data)
    check_version(new, name, listing)
    return new


def _bare(envelope: Envelope[Signed], *signers: tuple[Role, Mapping[str, Key]]) -> Envelope[Signed]:
    """The file in its written form, with none but valid signatures by `signers`.

    No lister names root and timestamp by hash: whoever carries them could add white space, fields and signatures, and so fill a device's
    memory for ever with what he chose.
    """
    kept = tuple(
        signature
        for signature in envelope.signatures
        if any(
            signature.keyid in role.keyids
            and (key := keys.get(signature.keyid))
            and envelope.signer(signature, key, SCHEMES)
            for role, keys in signers
        )
    )
    return envelope.with_signatures(kept)


def verifies(envelope: Envelope[Signed], role: Role, keys: Mapping[str, Key], schemes: frozenset[str]) -> bool:
    """Say whether `verify` would find enough signatures."""
    try:
        verify(envelope, "", role, keys, schemes)
    except SignatureError:
        return False
    return True


def _standing(floor: Floor | None, role: Role, keys: Mapping[str, Key]) -> int:
    """The floor's value, or 0 once the keys that set it no longer meet the role's threshold."""
    if floor is None:
        return 0
    # By what the keys are, not by their ids: metadata may give a new key the id of the old one, and one key two ids.
    staying = {keys[keyid].identity() for keyid in role.keyids if keyid in keys} & floor.keys
    return floor.value if len(staying) >= role.threshold else 0


def _check_floor(trust: Trust, name: str, role: Role, keys: Mapping[str, Key], version: int) -> None:
    floor = _standing(trust.floors.get(name), role, keys)
    if version < floor:
        raise RollbackError(f"{name} version", expected=f"at least {floor}", got=version)


def _raised(trust: Trust, name: str, version: int, keys: frozenset[bytes]) -> Mapping[str, Floor]:
    return MappingProxyType({**trust.floors, name: Floor(version, keys)})


def _check_claims(held: Snapshot, new: Snapshot) -> None:
    """TUF 5.5.5: no role that was listed is dropped, or goes back."""
    for name, was in held.meta.items():
        listed = new.meta.get(name)
        if listed is None or listed.version < was.version:
            got = f"{listed.version}" if listed else "none"
            raise RollbackError(f"{name} version in snapshot", expected=f"at least {was.version}", got=got)


def _check_usable(name: str, role: Role, keys: Mapping[str, Key], schemes: frozenset[str]) -> None:
    """A root whose keys this device cannot use would lock it out of every later file."""
    usable = {keys[keyid].fingerprint(schemes) for keyid in role.keyids if keyid in keys} - {None}
    if len(usable) < role.threshold <= len(role.keyids):
        raise SignatureError(
            f"keys of role {name} in the new root",
            expected=f"{role.threshold} of an algorithm that this device can use",
            got=f"{len(usable)}{_unusable(role, keys, schemes)}",
        )


def _unusable(role: Role, keys: Mapping[str, Key], schemes: frozenset[str]) -> str:
    """Words for those keys of a role that this device cannot use; none where it can use all."""
    found = [key for keyid in role.keyids if (key := keys.get(keyid)) and key.fingerprint(schemes) is None]
    names = sorted({key.scheme[:40] for key in found})[:MAX_SHOWN]
    return f"; {len(found)} of the role's keys cannot be used on this device ({', '.join(names)})" if found else ""


def _unexpired_root(trust: Trust, clock: int | None) -> Root:
    check_expiry(ROOT, trust.root.signed.expires, trust.now(clock))
    return trust.root.signed


def _need(envelope: Envelope[Signed] | None, name: str) -> Envelope[Signed]:
    if envelope is None:
        raise MissingError(f"{name} metadata", expected="one that is valid under the held root", got="none")
    return envelope


def held_timestamp(trust: Trust) -> Envelope[Timestamp] | None:
    """Return the held timestamp, if it verifies under the held root."""
    return trust.timestamp if _holds(trust, TIMESTAMP, trust.timestamp, None) else None


def held_snapshot(trust: Trust) -> Envelope[Snapshot] | None:
    """Return the held snapshot, if it verifies and is the one that the held timestamp lists."""
    lister = held_timestamp(trust)
    return trust.snapshot if lister and _holds(trust, SNAPSHOT, trust.snapshot, lister.signed.snapshot) else None


def held_targets(trust: Trust) -> Envelope[Targets] | None:
    """Return the held top-level targets, if they verify and are the ones that the held snapshot lists."""
    lister = held_snapshot(trust)
    return trust.targets if lister and _holds(trust, TARGETS, trust.targets, lister.signed.meta[TARGETS]) else None


def _holds(trust: Trust, name: str, held: Envelope[Signed] | None, listing: MetaFile | None) -> bool:
    """The held file is the listed one and verifies under the held root; asked of one `Trust`, the answer stays the same."""
    if held is None:
        return False
    if name not in trust._holds:
        root = trust.root.signed
        listed = listing is None or is_listed(held, listing, hashed=trust.hashed)
        trust._holds[name] = listed and verifies(held, root.roles[name], root.keys, trust.schemes)
    return trust._holds[name]


def _line_terms(trust: Trust, product: str) -> tuple[MetaFile, Delegation, Mapping[str, Key]]:
    """How the chain lists the line, and what it delegates to it."""
    snapshot = _need(held_snapshot(trust), SNAPSHOT).signed
    targets = _need(held_targets(trust), TARGETS).signed
    for delegation in targets.delegations:
        if delegation.name == product and f"{product}/*/*" in delegation.paths and product in snapshot.meta:
            return snapshot.meta[product], delegation, targets.keys
    raise MissingError("product line", expected=f"a delegation to {product}, listed in snapshot", got="none")
