"""What one root may change of the one before, so that no old file comes back to life (DESIGN §4, "Floors").

A device remembers the highest version of timestamp and snapshot for as long as the keys that signed it are trusted. So

- when one key of an online role goes, or its threshold rises, all keys of that role go: otherwise files that the remaining key signed
  long ago are the newest that the device knows of;
- the keys of timestamp and snapshot are replaced together: what one of them listed stays believable through the other;
- a new online key is one that no root has named before, for any role;
- a revoked key (one that somebody else may have) is out of every role, a product line's too, before anything else is published, and
  the online keys are replaced in the same publication.

These are checked when root is drafted, and again before it is published, whoever made the draft.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from tuf.api.metadata import Root, Targets

from hillhold_signer.errors import RepositoryRefused, RotationRefused
from hillhold_verifier.metadata import MAX_REVOKED, REVOKED_IMAGE_KEYS

ONLINE: Final = ("snapshot", "timestamp")

_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")
_NEW_KEYS: Final = "make new keys for snapshot and timestamp, and name both in the ceremony file"


def check_roots(history: Sequence[Root], new: Root) -> None:
    """Refuse a root whose online keys are not those of the one before, nor all new.

    Args:
        history: all roots before it, oldest first; none for a first root.

    Raises:
        RotationRefused: see the module's text.
    """
    if not history:
        return
    old = history[-1]
    replaced = [role for role in ONLINE if _replaced(role, old, new)]
    if len(replaced) == 1:
        other = next(role for role in ONLINE if role not in replaced)
        what = f"keys of {replaced[0]} and {other}"
        raise RotationRefused(
            what, expected="both replaced", got=f"those of {other} stay or some of them", hint=_NEW_KEYS
        )
    named = {keyid for root in history for role in root.roles.values() for keyid in role.keyids}
    for role in ONLINE:
        for keyid in sorted(set(new.roles[role].keyids) - set(old.roles[role].keyids)):
            if keyid in named:
                got = f"{keyid[:16]}, which an earlier root named"
                raise RotationRefused(f"new key of {role}", expected="one that is new", got=got, hint=_NEW_KEYS)


def online_replaced(old: Root, new: Root) -> bool:
    """Say whether no key of timestamp and snapshot stays."""
    return all(not set(old.roles[role].keyids) & set(new.roles[role].keyids) for role in ONLINE)


def check_revoked(revoked: Mapping[str, str], old: tuple[Root, Targets] | None, new: tuple[Root, Targets]) -> None:
    """Refuse a publication that leaves a revoked key trusted, or takes one away without replacing the online keys.

    Args:
        revoked: what the keys are called, by key id.
        old: what is published, root and targets; None before the first publication.
        new: what would be.

    Raises:
        RotationRefused: it does.
    """
    trusted = {keyid: places for keyid, places in named_keys(*new).items() if keyid in revoked}
    if trusted:
        where = "; ".join(f"{revoked[keyid]} in {', '.join(places)}" for keyid, places in sorted(trusted.items()))
        hint = (
            "`hillhold root rotate` and `hillhold product team` take it away; `hillhold status` says what is left to do"
        )
        raise RotationRefused("revoked keys", expected="none trusted any more", got=where, hint=hint)
    if old and revoked.keys() & named_keys(*old).keys() and not online_replaced(old[0], new[0]):
        raise RotationRefused(
            "publication that takes a revoked key away",
            expected="new keys of snapshot and timestamp with it",
            got="the old ones",
            hint=f"`hillhold root rotate`: {_NEW_KEYS}",
        )


def named_keys(root: Root, targets: Targets) -> dict[str, list[str]]:
    """Return where each key is trusted: names of roles and product lines, by key id."""
    found: dict[str, list[str]] = {}
    delegated = targets.delegations.roles if targets.delegations else None
    for name, role in {**root.roles, **(delegated or {})}.items():
        for keyid in role.keyids:
            found.setdefault(keyid, []).append(name)
    return found


def named_image_keys(root: Root) -> tuple[str, ...]:
    """Return the fingerprints that a root names as revoked.

    Raises:
        RepositoryRefused: the field has another form, which no device would read.
    """
    found = root.unrecognized_fields.get(REVOKED_IMAGE_KEYS, [])
    if not is_list(found):
        raise RepositoryRefused(f"root {REVOKED_IMAGE_KEYS}", expected="sorted fingerprints", got=repr(found)[:80])
    return tuple(found)


def is_list(value: object) -> bool:
    """Say whether a value is what devices read as a list of revoked image keys."""
    return (
        isinstance(value, list)
        and len(value) <= MAX_REVOKED
        and all(isinstance(item, str) and _FINGERPRINT.fullmatch(item) for item in value)
        and value == sorted(set(value))
    )


def keep_named(new: Root, *before: Root) -> None:
    """Have `new` name every image key that roots before it name; raises as `named_image_keys`."""
    found = sorted({item for root in (*before, new) for item in named_image_keys(root)})
    if found:
        new.unrecognized_fields[REVOKED_IMAGE_KEYS] = found


def _replaced(role: str, old: Root, new: Root) -> bool:
    """Say whether a role has all new keys; raises `RotationRefused` where it should have, and has not."""
    before, after = old.roles[role], new.roles[role]
    kept = set(before.keyids) & set(after.keyids)
    if not kept:
        return True
    if kept != set(before.keyids) or after.threshold > before.threshold:
        why = "its threshold rises" if kept == set(before.keyids) else "one of them goes"
        got = f"{', '.join(sorted(keyid[:16] for keyid in kept))} stays"
        raise RotationRefused(f"keys of {role}", expected=f"all replaced, since {why}", got=got, hint=_NEW_KEYS)
    return False
