"""What a person is about to sign, as a short difference from what is published.

What decides is shown in words: releases with their hashes, keys, thresholds, caps and dates. Every field beyond those that this
program writes is shown as it stands, so that nobody who changed a draft can have it signed unseen. The digest beside it binds the text
to the bytes, and two people compare it to know that they sign the same.

Where very many releases come or go, `summary` counts those of them that decide nothing: the ones that no device would choose now.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tuf.api.metadata import DelegatedRole, Delegations, Role, Root, TargetFile, Targets

from hillhold_signer import encoding
from hillhold_signer.documents import in_words
from hillhold_signer.durations import show_duration
from hillhold_signer.layout import is_segment
from hillhold_signer.products import Caps, caps_of
from hillhold_signer.releases import check_kept, understood
from hillhold_signer.rotation import is_list
from hillhold_verifier.metadata import REVOKED_IMAGE_KEYS
from hillhold_verifier.release import Patch, Release
from hillhold_verifier.times import show_time

GRACE: Final = "x-hillhold-offline-grace"

_CAPS: Final = ("hardware", "max_security_counter", "max_offline_grace")
_PLAIN: Final = (
    "v",
    "hardware",
    "version",
    "security_counter",
    "format",
    "kind",
    "component",
    "sbom",
    "source",
    "notes",
    "provenance",
)
"""Fields of a release from which nothing follows for other releases."""
_PATCH: Final = ("v", "algorithm", "base", "base_length", "makes")
_RELEASE: Final = (
    *("v", "hardware", "version", "security_counter", "format", "kind", "component", "withdrawn"),
    *("requires", "set", "downgrade_from"),
)

Label = Callable[[str], str]
"""Turns a key id into what a person recognises."""
MAX_LINES: Final = 40
"""Files that decide nothing and are still shown one by one."""


def label(people: Mapping[str, str]) -> Label:
    """Return the labelling that names people, with the start of the key id."""
    return lambda keyid: f"{people.get(keyid, 'unnamed key')} ({keyid[:16]})"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is different.

    Attributes:
        mark: "+", "-", "~", "!" (a field that this program does not write) or a blank.
        what: `version`, `expires`, `demo`, `threshold`, `key`, `image key`, `line`, `caps`, `grace`, `target` or `field`.
        name: what it is about: a role, a path, a key id, a field.
        before, after: as JSON; None where there was or is nothing.
        text: in words, one line.
        decides: whether people must see it by itself, however many there are.
    """

    mark: str
    what: str
    name: str
    before: object
    after: object
    text: str
    decides: bool = True

    def __str__(self) -> str:
        """The line that people see."""
        return f"{self.mark} {self.text}"


def difference(role: str, old: Root | Targets | None, new: Root | Targets, show: Label) -> list[Change]:
    """Return what is different, in the order in which people are shown it.

    Args:
        old: what is published; None shows all of `new` as added.
        show: labels key ids.

    Raises:
        ReleaseRefused: a target entry that no device would understand, other bytes under an old path, a withdrawal undone.
    """
    before = f"version {old.version}" if old else "nothing"
    text = f"{role}: version {new.version} after {before}"
    found = [Change(" ", "version", role, old.version if old else None, new.version, text)]
    was = show_time(encoding.unix(old.expires)) if old else None
    found += _value("expires", "expires", was, show_time(encoding.unix(new.expires)))
    if isinstance(new, Root):
        found += _root(old if isinstance(old, Root) else None, new, show)
    else:
        found += _targets(old if isinstance(old, Targets) else None, new, show)
    return found


def summary(changes: Iterable[Change], limit: int = MAX_LINES) -> list[str]:
    """Return the lines that people see.

    Whatever decides is among them: all but the releases, patches and other files that come or go and that no device would choose. Where
    there are more of these than `limit`, they are counted.
    """
    changes = list(changes)
    minor = [change for change in changes if not change.decides]
    if len(minor) <= limit:
        return [str(change) for change in changes]
    lines = [str(change) for change in changes if change.decides]
    for mark, words in (("+", "come"), ("-", "go")):
        if some := [change.name for change in minor if change.mark == mark]:
            lines.append(f"{mark} {len(some)} more files {words}, from {some[0]} to {some[-1]} (--full shows each)")
    return lines


def _root(old: Root | None, new: Root, show: Label) -> Iterator[Change]:
    if new.unrecognized_fields.get("x-hillhold-demo"):
        was = old.unrecognized_fields.get("x-hillhold-demo") if old else None
        yield Change(" ", "demo", "root", was, True, "DEMO: example keys, whose private parts are public")
    for name, role in new.roles.items():
        before = old.roles[name] if old else None
        yield from _value("threshold", f"{name} threshold", _threshold(before), _threshold(role) or "")
        yield from _keys(name, set(before.keyids) if before else set(), set(role.keyids), show)
        yield from _fields(f"{name} role", before.unrecognized_fields if before else {}, role.unrecognized_fields)
    named = {keyid for role in new.roles.values() for keyid in role.keyids}
    for keyid in sorted(new.keys.keys() - named, key=show):
        yield Change("!", "key", keyid, None, keyid, f"key of no role: {show(keyid)}")
    if not new.consistent_snapshot:
        yield Change("!", "field", "consistent_snapshot", None, False, "consistent_snapshot: false")
    past, fields = old.unrecognized_fields if old else {}, new.unrecognized_fields
    known: tuple[str, ...] = ("x-hillhold-demo",)
    if all(is_list(item.get(REVOKED_IMAGE_KEYS, [])) for item in (past, fields)):
        known = (*known, REVOKED_IMAGE_KEYS)
        yield from _image_keys(set(past.get(REVOKED_IMAGE_KEYS, [])), set(fields.get(REVOKED_IMAGE_KEYS, [])))
    yield from _fields("root", past, fields, known)


def _image_keys(old: set[str], new: set[str]) -> Iterator[Change]:
    for digest in sorted(new - old):
        yield Change("+", "image key", digest, None, digest, f"revoked image key: fingerprint {digest}")
    for digest in sorted(old - new):
        text = f"image key no longer revoked, though devices may have dropped it: fingerprint {digest}"
        yield Change("!", "image key", digest, digest, None, text)


def _targets(old: Targets | None, new: Targets, show: Label) -> Iterator[Change]:
    yield from _delegations(old, new, show)
    was = old.unrecognized_fields.get(GRACE, 0) if old else 0
    grace = new.unrecognized_fields.get(GRACE, 0)
    if was or grace:
        yield from _value("grace", "offline grace", show_duration(was) if old else None, show_duration(grace))
    yield from _fields(new.type, old.unrecognized_fields if old else {}, new.unrecognized_fields, (GRACE,))
    before = old.targets if old else {}
    if old:
        check_kept(old, new)
    heard = _deciding(before) if old else frozenset()
    for path in sorted(before.keys() - new.targets.keys()):
        yield Change("-", "target", path, before[path].to_dict(), None, path, path in heard)
    decide = _deciding(new.targets)
    # Patches, which only carry what their release says, last.
    for path, target in sorted(new.targets.items(), key=lambda item: (item[0].endswith(".patch"), item[0])):
        if path not in before:
            yield Change("+", "target", path, None, target.to_dict(), _describe(target), path in decide)
        elif before[path] != target:
            text = _describe(target, before[path])
            yield Change("~", "target", path, before[path].to_dict(), target.to_dict(), text)


def _deciding(targets: Mapping[str, TargetFile]) -> frozenset[str]:
    """Return the paths that devices act on: what each would choose now, and whatever says more than a plain release or patch does."""
    found: set[str] = set()
    best: dict[tuple[str, str], Release] = {}
    for path, target in targets.items():
        item = understood(target)
        custom = target.custom if isinstance(target.custom, dict) else {}
        known = _PATCH if isinstance(item, Patch) else _PLAIN
        more = set(custom.get("hillhold", {})) - set(known), set(custom) - {"hillhold"}, set(target.hashes) - {"sha256"}
        if any(more) or set(target.unrecognized_fields) - {"custom"}:
            found.add(path)
        if isinstance(item, Release) and item.withdrawn is None:
            for place in ((hardware, item.component) for hardware in item.hardware):
                best[place] = max(item, best.get(place, item), key=lambda one: (one.version, one.path))
    return frozenset(found) | {item.path for item in best.values()}


def _delegations(old: Targets | None, new: Targets, show: Label) -> Iterator[Change]:
    before, after = _roles(old.delegations if old else None), _roles(new.delegations)
    for name in sorted(before.keys() - after.keys()):
        yield Change("-", "line", name, before[name].to_dict(), None, f"product line {name}")
    for name in sorted(after):
        role, was = after[name], before.get(name)
        if role == was:
            continue
        mark = "+" if was is None else " "
        yield Change(mark, "line", name, was.to_dict() if was else None, role.to_dict(), f"product line {name}")
        yield from _caps(name, caps_of(old, name) if old and was else None, caps_of(new, name))
        yield from _value("threshold", f"{name} threshold", _threshold(was), _threshold(role) or "")
        yield from _keys(name, set(was.keyids) if was else set(), set(role.keyids), show)
        if role.paths != [f"{name}/*/*"] or not role.terminating:
            text = (
                f"{name} paths: {_json(role.paths or role.path_hash_prefixes)}, terminating: {_json(role.terminating)}"
            )
            yield Change("!", "line", name, None, role.paths, text)
        past, fields = was.unrecognized_fields if was else {}, role.unrecognized_fields
        yield from _fields(f"{name} delegation", past, fields, ("x-hillhold",))
        yield from _fields(f"{name} caps", past.get("x-hillhold", {}), fields.get("x-hillhold", {}), _CAPS)
    if new.delegations is not None:
        named = {keyid for role in after.values() for keyid in role.keyids}
        for keyid in sorted(new.delegations.keys.keys() - named, key=show):
            yield Change("!", "key", keyid, None, keyid, f"key of no line: {show(keyid)}")
        past = old.delegations.unrecognized_fields if old and old.delegations else {}
        yield from _fields("delegations", past, new.delegations.unrecognized_fields)


def _caps(name: str, old: Caps | None, new: Caps) -> Iterator[Change]:
    for words, value in _words_of(new).items():
        yield from _value("caps", f"{name} {words}", _words_of(old)[words] if old else None, value)


def _words_of(caps: Caps) -> dict[str, str]:
    return {
        "hardware": ", ".join(caps.hardware),
        "highest security counter": str(caps.max_security_counter),
        "longest offline grace": show_duration(caps.max_offline_grace),
    }


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
        base = found.base.hex()[:16] if found.base_length else "nothing"
        facts = [f"{found.algorithm} patch of {size} from {base} to {found.makes}"]
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


def _fields(
    what: str, old: Mapping[str, object], new: Mapping[str, object], known: tuple[str, ...] = ()
) -> Iterator[Change]:
    """Whatever stands or stood there beyond what is shown in words."""
    for name in sorted({*old, *new} - set(known)):
        text = f"{what} {name}: {_json(new[name])}" if name in new else f"{what} {name}: gone"
        yield Change("!", "field", f"{what} {name}", old.get(name), new.get(name), text)


def _keys(name: str, old: set[str], new: set[str], show: Label) -> Iterator[Change]:
    for keyid in sorted(old - new, key=show):
        yield Change("-", "key", name, keyid, None, f"{name} key {show(keyid)}")
    for keyid in sorted(new - old, key=show):
        yield Change("+", "key", name, None, keyid, f"{name} key {show(keyid)}")


def _value(what: str, name: str, old: str | None, new: str) -> list[Change]:
    if old == new:
        return []
    if old is None:
        return [Change("+", what, name, None, new, f"{name}: {new}")]
    return [Change("~", what, name, old, new, f"{name}: {old} -> {new}")]


def _threshold(role: Role | None) -> str | None:
    return f"{role.threshold} of {len(role.keyids)}" if role else None
