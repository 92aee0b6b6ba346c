"""What a person is about to sign, as a short difference from what is published.

Only what decides is shown: releases with their hashes, keys, thresholds, caps and dates. The digest beside it binds the text to the
bytes, and two people compare it to know that they sign the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from tuf.api.metadata import DelegatedRole, Delegations, Role, Root, TargetFile, Targets

from hillhold_signer import encoding
from hillhold_signer.durations import show_duration
from hillhold_signer.products import caps_of
from hillhold_signer.releases import understood
from hillhold_verifier.release import Patch
from hillhold_verifier.times import show_time

GRACE: Final = "x-hillhold-offline-grace"

Label = Callable[[str], str]
"""Turns a key id into what a person recognises."""


def label(people: Mapping[str, str]) -> Label:
    """Return the labelling that names people, with the start of the key id."""
    return lambda keyid: f"{people.get(keyid, 'unnamed key')} ({keyid[:16]})"


def difference(role: str, old: Root | Targets | None, new: Root | Targets, show: Label) -> list[str]:
    """Return the lines of a difference, each starting with "+", "-", "~" or a blank.

    Args:
        old: what is published; None shows all of `new` as added.
        show: labels key ids.

    Raises:
        ReleaseRefused: a target entry that no device would understand.
    """
    before = f"version {old.version}" if old else "nothing"
    lines = [f"  {role}: version {new.version} after {before}"]
    was = show_time(encoding.unix(old.expires)) if old else None
    lines += _value("expires", was, show_time(encoding.unix(new.expires)))
    if isinstance(new, Root):
        lines += _root(old if isinstance(old, Root) else None, new, show)
    else:
        lines += _targets(old if isinstance(old, Targets) else None, new, show)
    return lines


def _root(old: Root | None, new: Root, show: Label) -> Iterator[str]:
    if new.unrecognized_fields.get("x-hillhold-demo"):
        yield "  DEMO: example keys, whose private parts are public"
    for name, role in new.roles.items():
        before = old.roles[name] if old else None
        yield from _value(f"{name} threshold", _threshold(before), _threshold(role) or "")
        yield from _keys(name, set(before.keyids) if before else set(), set(role.keyids), show)


def _targets(old: Targets | None, new: Targets, show: Label) -> Iterator[str]:
    yield from _delegations(old, new, show)
    was = old.unrecognized_fields.get(GRACE, 0) if old else 0
    grace = new.unrecognized_fields.get(GRACE, 0)
    if was or grace:
        yield from _value("offline grace", show_duration(was) if old else None, show_duration(grace))
    before = old.targets if old else {}
    for path in sorted(before.keys() - new.targets.keys()):
        yield f"- {path}"
    for path, target in sorted(new.targets.items()):
        if path not in before:
            yield f"+ {_describe(target)}"
        elif before[path] != target:
            yield f"~ {_describe(target)}"


def _delegations(old: Targets | None, new: Targets, show: Label) -> Iterator[str]:
    before, after = _roles(old.delegations if old else None), _roles(new.delegations)
    for name in sorted(before.keys() - after.keys()):
        yield f"- product line {name}"
    for name in sorted(after):
        role, was = after[name], before.get(name)
        mark = "+" if was is None else " "
        if role == was:
            continue
        yield f"{mark} product line {name}"
        caps = caps_of(new, name)
        past = caps_of(old, name) if old and was else None
        yield from _value(f"{name} hardware", ", ".join(past.hardware) if past else None, ", ".join(caps.hardware))
        most = str(past.max_security_counter) if past else None
        yield from _value(f"{name} highest security counter", most, str(caps.max_security_counter))
        grace = show_duration(past.max_offline_grace) if past else None
        yield from _value(f"{name} longest offline grace", grace, show_duration(caps.max_offline_grace))
        yield from _value(f"{name} threshold", _threshold(was), _threshold(role) or "")
        yield from _keys(name, set(was.keyids) if was else set(), set(role.keyids), show)


def _roles(delegations: Delegations | None) -> Mapping[str, DelegatedRole]:
    return (delegations.roles if delegations else None) or {}


def _describe(target: TargetFile) -> str:
    found = understood(target)
    if isinstance(found, Patch):
        return f"{target.path}: patch of {found.length} bytes, sha256 {found.sha256.hex()}"
    facts = [
        f"{found.kind} release",
        f"for {', '.join(sorted(found.hardware))}",
        f"component {found.component}",
        f"security counter {found.security_counter}",
        f"{found.length} bytes",
        f"sha256 {found.sha256.hex()}",
    ]
    if found.withdrawn is not None:
        facts.insert(0, f"WITHDRAWN ({found.withdrawn})")
    return f"{target.path}: {', '.join(facts)}"


def _keys(name: str, old: set[str], new: set[str], show: Label) -> Iterator[str]:
    yield from (f"- {name} key {text}" for text in sorted(map(show, old - new)))
    yield from (f"+ {name} key {text}" for text in sorted(map(show, new - old)))


def _value(name: str, old: str | None, new: str) -> list[str]:
    if old == new:
        return []
    return [f"~ {name}: {old} -> {new}"] if old is not None else [f"+ {name}: {new}"]


def _threshold(role: Role | None) -> str | None:
    return f"{role.threshold} of {len(role.keyids)}" if role else None
