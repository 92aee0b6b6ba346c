"""What a person is about to sign, as a short difference from what is published.

What decides is shown in words: releases with their hashes, keys, thresholds, caps and dates. Every field beyond those that this
program writes is shown as it stands, so that nobody who changed a draft can have it signed unseen. The digest beside it binds the text
to the bytes, and two people compare it to know that they sign the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from tuf.api.metadata import DelegatedRole, Delegations, Role, Root, TargetFile, Targets

from hillhold_signer import encoding
from hillhold_signer.documents import in_words
from hillhold_signer.durations import show_duration
from hillhold_signer.layout import is_segment
from hillhold_signer.products import caps_of
from hillhold_signer.releases import check_kept, understood
from hillhold_verifier.release import Patch, Release
from hillhold_verifier.times import show_time

GRACE: Final = "x-hillhold-offline-grace"

_CAPS: Final = ("hardware", "max_security_counter", "max_offline_grace")
_PATCH: Final = ("v", "algorithm", "base", "base_length", "makes")
_RELEASE: Final = (
    *("v", "hardware", "version", "security_counter", "format", "kind", "component", "withdrawn"),
    *("requires", "set", "downgrade_from"),
)

Label = Callable[[str], str]
"""Turns a key id into what a person recognises."""


def label(people: Mapping[str, str]) -> Label:
    """Return the labelling that names people, with the start of the key id."""
    return lambda keyid: f"{people.get(keyid, 'unnamed key')} ({keyid[:16]})"


def difference(role: str, old: Root | Targets | None, new: Root | Targets, show: Label) -> list[str]:
    """Return the lines of a difference, each starting with "+", "-", "~", "!" (a field that this program does not write) or a blank.

    Args:
        old: what is published; None shows all of `new` as added.
        show: labels key ids.

    Raises:
        ReleaseRefused: a target entry that no device would understand, other bytes under an old path, a withdrawal undone.
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
        yield from _others(f"{name} role", role.unrecognized_fields, ())
    named = {keyid for role in new.roles.values() for keyid in role.keyids}
    yield from (f"! key of no role: {show(keyid)}" for keyid in sorted(new.keys.keys() - named))
    if not new.consistent_snapshot:
        yield "! consistent_snapshot: false"
    yield from _others("root", new.unrecognized_fields, ("x-hillhold-demo",))


def _targets(old: Targets | None, new: Targets, show: Label) -> Iterator[str]:
    yield from _delegations(old, new, show)
    was = old.unrecognized_fields.get(GRACE, 0) if old else 0
    grace = new.unrecognized_fields.get(GRACE, 0)
    if was or grace:
        yield from _value("offline grace", show_duration(was) if old else None, show_duration(grace))
    before = old.targets if old else {}
    if old:
        check_kept(old, new)
    for path in sorted(before.keys() - new.targets.keys()):
        yield f"- {path}"
    for path, target in sorted(new.targets.items()):
        if path not in before:
            yield f"+ {_describe(target)}"
        elif before[path] != target:
            yield f"~ {_describe(target, before[path])}"
    yield from _others(new.type, new.unrecognized_fields, (GRACE,))


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
        if role.paths != [f"{name}/*/*"] or not role.terminating:
            yield f"! {name} paths: {_json(role.paths or role.path_hash_prefixes)}, terminating: {_json(role.terminating)}"
        yield from _others(f"{name} delegation", role.unrecognized_fields, ("x-hillhold",))
        yield from _others(f"{name} caps", role.unrecognized_fields.get("x-hillhold", {}), _CAPS)
    if new.delegations is not None:
        named = {keyid for role in after.values() for keyid in role.keyids}
        yield from (f"! key of no line: {show(keyid)}" for keyid in sorted(new.delegations.keys.keys() - named))
        yield from _others("delegations", new.delegations.unrecognized_fields, ())


def _roles(delegations: Delegations | None) -> Mapping[str, DelegatedRole]:
    return (delegations.roles if delegations else None) or {}


def _describe(target: TargetFile, before: TargetFile | None = None) -> str:
    """A target in words; of one that was listed before, also what it no longer says."""
    facts = _facts(target)
    gone = [fact for fact in _facts(before) if fact not in facts] if before else []
    was = f"; before: {', '.join(gone)}" if gone else ""
    return f"{target.path}: {', '.join(facts)}{was}"


def _facts(target: TargetFile) -> list[str]:
    found = understood(target)
    custom = target.custom if isinstance(target.custom, dict) else {}
    said = custom.get("hillhold", {})
    known: tuple[str, ...]
    size = f"{target.length} bytes"
    if isinstance(found, Release):
        words = _came_with(said)
        known = (*_RELEASE, *words)
        facts = [*_release(found), *(text for texts in words.values() for text in texts), size]
    elif isinstance(found, Patch):
        known = _PATCH
        facts = [f"{found.algorithm} patch of {size} from {found.base.hex()[:16]} to {found.makes}"]
    else:
        known, facts = (), ["a file that devices ignore", size]
    return [
        *facts,
        f"sha256 {target.hashes['sha256']}",
        *_others("", said, known),
        *_others("custom", custom, ("hillhold",)),
        *_others("target", target.unrecognized_fields, ("custom",)),
        *_others("hash", target.hashes, ("sha256",)),
    ]


def _release(found: Release) -> list[str]:
    return [
        *([] if found.withdrawn is None else [f"WITHDRAWN ({_quoted(found.withdrawn)})"]),
        f"{found.kind} release",
        f"for {' and '.join(map(_name, sorted(found.hardware)))}",
        f"component {_name(found.component)}",
        *([] if found.format == "mcuboot" else [f"format {found.format}"]),
        f"security counter {found.security_counter}",
        *(f"requires {_name(name)} {least} or later" for name, least in sorted(found.requires.items())),
        *([] if found.set is None else [f"installed only with the rest of the set {_name(found.set)}"]),
        *(f"STEP DOWN from {version}" for version in sorted(found.downgrade_from)),
    ]


def _name(text: str) -> str:
    return text if is_segment(text) else _quoted(text)


def _quoted(text: str) -> str:
    """What somebody wrote, in quotes that it cannot end: it is not to read like a fact beside it."""
    return json.dumps(text, ensure_ascii=False)


def _came_with(said: Mapping[str, object]) -> dict[str, list[str]]:
    words = in_words(said)
    source = said.get("source")
    return {**words, "source": [f"built from {_quoted(source)}"]} if isinstance(source, str) else words


def _others(what: str, fields: Mapping[str, object], known: tuple[str, ...]) -> list[str]:
    """Whatever stands there beyond what is shown in words."""
    return [
        f"! {what} {name}: {_json(value)}".replace("!  ", "! ")
        for name, value in sorted(fields.items())
        if name not in known
    ]


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _keys(name: str, old: set[str], new: set[str], show: Label) -> Iterator[str]:
    yield from (f"- {name} key {text}" for text in sorted(map(show, old - new)))
    yield from (f"+ {name} key {text}" for text in sorted(map(show, new - old)))


def _value(name: str, old: str | None, new: str) -> list[str]:
    if old == new:
        return []
    return [f"~ {name}: {old} -> {new}"] if old is not None else [f"+ {name}: {new}"]


def _threshold(role: Role | None) -> str | None:
    return f"{role.threshold} of {len(role.keyids)}" if role else None
