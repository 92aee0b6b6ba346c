"""Two drafts of the same role become one: a three-way merge, the same on every machine.

What only one side changed since the base is taken; what both changed alike is taken; what both changed differently is a clash, which
names the thing and both values. The parts that are merged one by one:

    targets by path                     delegations and roles by name, keys by key id
    key ids, hardware, revoked image keys as sets        other fields by name
    expiry: the later                   version: the caller's

A target and a key are never mixed from two sides; nor is anything that both sides added.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tuf.api.metadata import Targets

from hillhold_signer.errors import MergeRefused
from hillhold_signer.releases import releases_of, same_place
from hillhold_verifier import canonical
from hillhold_verifier.metadata import REVOKED_IMAGE_KEYS
from hillhold_verifier.release import Release

Value = Mapping[str, Any]
"""The JSON of `signed`."""

_NONE: Final = object()
_SETS: Final = ("keyids", "hardware", REVOKED_IMAGE_KEYS)
_WHOLE: Final = (("targets",), ("keys",), ("delegations", "keys"))
"""Maps whose entries are taken whole from one side or the other."""
_OPEN: Final = (*_WHOLE, ("delegations",), ("delegations", "roles"))
"""Maps to which both sides may add where the base has none."""


def merge(base: Value | None, left: Value, right: Value) -> dict[str, Any]:
    """Return what both sides made of `base`.

    Args:
        base: what both grew from; None where both are first versions, made independently.

    Returns:
        The merged value, with the version of `left`. `merge(b, x, y)` and `merge(b, y, x)` differ in nothing else.

    Raises:
        MergeRefused: both changed the same thing differently, or the result makes no sense.
    """
    sides = [_by_name(side) for side in (base or {}, left, right)]
    dates = [str(side.get("expires", "")) for side in (left, right)]
    for side in sides:
        side.pop("version", None)
        side.pop("expires", None)
    found = _map((), *sides)
    # A field that is called `roles` means something in these two places only.
    of = sides if found.get("_type") == "root" else [side.get("delegations") or {} for side in sides]
    part = found if found.get("_type") == "root" else found.get("delegations")
    if isinstance(part, dict) and isinstance(part.get("roles"), dict):
        _settle_keys(part, of)
        _check_thresholds(part["roles"])
    return {**_as_listed(found, base), "version": left["version"], "expires": max(dates)}


def check_releases(line: str, base: Value | None, left: Value, right: Value) -> None:
    """Refuse a merged line in which a release of one side and one of the other do not go together, by the rules of `add`.

    Raises:
        MergeRefused: the same version twice in the same place, or a higher version with a lower security counter.
    """
    old = set((base or {}).get("targets", {}))
    ours, theirs = ([item for item in _releases(side) if item.path not in old] for side in (left, right))
    there = {item.path for item in ours} & {item.path for item in theirs}
    for one in (item for item in ours if item.path not in there):
        for other in same_place([item for item in theirs if item.path not in there], one.hardware, one.component):
            low, high = sorted((one, other), key=lambda item: (item.version, item.path))
            if low.version == high.version:
                got = f"{one.path} and {other.path}"
                raise MergeRefused(f"version {low.version} of {line}", expected="one release for a device", got=got)
            if high.security_counter < low.security_counter:
                got = f"{high.security_counter}, after {low.security_counter} of {low.path}"
                raise MergeRefused(f"security counter of {high.path}", expected="none that goes down", got=got)


def _releases(side: Value) -> Sequence[Release]:
    return releases_of(Targets.from_dict(copy.deepcopy(dict(side))))


def _map(path: tuple[str, ...], base: Value, left: Value, right: Value) -> dict[str, Any]:
    found = {}
    for name in sorted({*base, *left, *right}):
        value = _one((*path, name), base.get(name, _NONE), left.get(name, _NONE), right.get(name, _NONE))
        if value is not _NONE:
            found[name] = value
    return found


def _one(path: tuple[str, ...], base: Any, left: Any, right: Any) -> Any:
    if left == right or right == base:
        return left
    if left == base:
        return right
    if path == (REVOKED_IMAGE_KEYS,) and base is _NONE:
        base = []
    if path[-1] in _SETS and all(_is_set(item) for item in (base, left, right)):
        return sorted((set(base) & set(left) & set(right)) | ((set(left) | set(right)) - set(base)))
    if isinstance(left, dict) and isinstance(right, dict) and path[:-1] not in _WHOLE:
        if isinstance(base, dict):
            return _map(path, base, left, right)
        if base is _NONE and path in _OPEN:
            return _map(path, {}, left, right)
    raise MergeRefused(_words(path), expected="one change", got=f"{_show(left)} and {_show(right)}")


def _is_set(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _by_name(side: Value) -> dict[str, Any]:
    """Return a copy of one side in which delegated roles stand by name."""
    found = dict(side)
    delegations = found.get("delegations")
    if isinstance(delegations, dict) and isinstance(roles := delegations.get("roles"), list):
        found["delegations"] = {**delegations, "roles": {role["name"]: role for role in roles}}
    return found


def _as_listed(found: dict[str, Any], base: Value | None) -> dict[str, Any]:
    """Undo `_by_name`: delegated roles in the order of the base, then new ones by name."""
    delegations = found.get("delegations")
    if isinstance(delegations, dict) and isinstance(roles := delegations.get("roles"), dict):
        before = [role["name"] for role in ((base or {}).get("delegations") or {}).get("roles", [])]
        order = {name: place for place, name in enumerate(before)}
        names = sorted(roles, key=lambda name: (order.get(name, len(order)), name))
        found["delegations"] = {**delegations, "roles": [roles[name] for name in names]}
    return found


def _settle_keys(found: dict[str, Any], sides: Sequence[Value]) -> None:
    """Keep exactly the keys that a merged role needs, though a side that needed one no more had removed it, or left it for another role."""
    keys = {keyid: key for side in sides for keyid, key in (side.get("keys") or {}).items()}
    used = {keyid for side in sides for role in (side.get("roles") or {}).values() for keyid in role["keyids"]}
    needed = {keyid for role in found["roles"].values() for keyid in role["keyids"]}
    kept = {keyid: key for keyid, key in (found.get("keys") or {}).items() if keyid not in used - needed}
    found["keys"] = {**kept, **{keyid: keys[keyid] for keyid in needed if keyid in keys}}


def _check_thresholds(roles: Value) -> None:
    for name, role in roles.items():
        most = len(role["keyids"])
        if not 1 <= role["threshold"] <= most:
            raise MergeRefused(f"threshold of {name}", expected=f"1 to {most}, as many keys", got=role["threshold"])


def _words(path: tuple[str, ...]) -> str:
    """Name the place: "target pump/1.0.0/app.bin", "pump: threshold"."""
    if path[0] == "targets":
        return f"target {path[1]}"
    inner = path[1:] if path[0] == "delegations" else path
    kind, *rest = inner
    if kind == "roles" and rest:
        return f"{rest[0]}: {' '.join(rest[1:])}" if rest[1:] else f"product line {rest[0]}"
    return " ".join(inner)


def _show(value: object) -> str:
    if value is _NONE:
        return "nothing"
    return canonical.dumps(value).decode()[:400]
