"""Who signed a file, signature by signature, and what is odd about a role's keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hillhold_verifier.audit.report import Quorum, SignatureReport
from hillhold_verifier.errors import short
from hillhold_verifier.keys import SCHEMES, Key
from hillhold_verifier.metadata import ROOT, TARGETS, Envelope, Signed
from hillhold_verifier.roles import Role, Root


def quorum(envelope: Envelope[Signed], delegator: str, role: Role, keys: Mapping[str, Key]) -> Quorum:
    """Judge each signature as `trust.verify` does, which decides."""
    counted = set[bytes]()
    found = []
    for signature in envelope.signatures:
        key = keys.get(signature.keyid)
        if key is None:
            found.append(SignatureReport(signature.keyid, None, None, "unknown key"))
            continue
        if signature.keyid not in role.keyids:
            state = "not of this role"
        elif key.fingerprint(SCHEMES) is None:
            state = "unusable here"
        elif (fingerprint := envelope.signer(signature, key, SCHEMES)) is None:
            state = "invalid"
        else:
            state = "counted already" if fingerprint in counted else "valid"
            counted.add(fingerprint)
        found.append(SignatureReport(signature.keyid, key.keytype, key.scheme, state))
    return Quorum(delegator, role.threshold, _distinct(role, keys), len(counted), tuple(found))


def _distinct(role: Role, keys: Mapping[str, Key]) -> int:
    """Keys that this role has, whatever their ids; those that are unusable here cannot be told apart otherwise than by id."""
    known = {keyid: keys[keyid] for keyid in role.keyids if keyid in keys}
    return len({key.fingerprint(SCHEMES) or keyid for keyid, key in known.items()})


def key_warnings(name: str, role: Role, keys: Mapping[str, Key]) -> Iterator[str]:
    """What a device puts up with, and somebody should look at."""
    seen: dict[bytes, str] = {}
    for keyid in role.keyids:
        if (key := keys.get(keyid)) is None:
            yield f"role {name} names key {keyid[:16]}, which is not stated"
        elif (fingerprint := key.fingerprint(SCHEMES)) is None:
            yield f"role {name}: key {keyid[:16]} ({key.keytype}, {key.scheme}) cannot be used on this machine"
        elif (first := seen.setdefault(fingerprint, keyid)) != keyid:
            yield f"role {name}: keys {first[:16]} and {keyid[:16]} are the same key, which counts once"
    if name in (ROOT, TARGETS) and role.threshold == 1:
        yield f"role {name} needs one signature only: whoever has one of its keys has all devices"


def root_changes(old: Root, new: Root) -> Iterator[str]:
    """In words: what a new root changes of keys and thresholds, and of the image keys that it revokes."""
    for name, role in new.roles.items():
        was = old.roles[name]
        # A key is what it is, not what its id says: an id may come to name another key.
        gone, come = _named(was, old.keys), _named(role, new.keys)
        yield from (f"{name}: key {keyid[:16]} removed" for keyid, key in gone.items() if come.get(keyid) != key)
        yield from (f"{name}: key {keyid[:16]} added" for keyid, key in come.items() if gone.get(keyid) != key)
        if was.threshold != role.threshold:
            yield f"{name}: threshold {was.threshold}, now {role.threshold}"
    before, after = old.revoked_image_keys, new.revoked_image_keys
    yield from (f"image key {short(item)} revoked" for item in sorted(after - before))
    yield from (f"image key {short(item)} no longer revoked" for item in sorted(before - after))


def _named(role: Role, keys: Mapping[str, Key]) -> dict[str, Key | None]:
    return {keyid: keys.get(keyid) for keyid in role.keyids}
