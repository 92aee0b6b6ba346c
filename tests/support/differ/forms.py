"""What is wrong with the form of a metadata file, by the number of the difference that says so (`differences`).

Written from TUF 4 and the numbered list, not from the verifier's parser. python-tuf finds much of this itself, but not all of it, and not
always when it reads the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, TypeAlias

from forge import Object

Problem: TypeAlias = tuple[int, str]
Problems: TypeAlias = Iterator[Problem]

OWN_FIELDS, AMBIGUOUS, HASHED, FORM, LIMIT, LISTED = 2, 5, 6, 9, 10, 15
DIGITS: Final = {"sha256": 64, "sha512": 128}
MAX_DEPTH, MAX_INTEGER = 16, 2**53 - 1
MAX_NAME, MAX_ENTRIES, MAX_SIGNATURES, MAX_SIGNATURE, MAX_TARGET = 256, 4096, 64, 16384, 2**32
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_SPECIFICATION: Final = re.compile(r"1\.\d+(\.\d+)?", re.ASCII)


def problems(data: bytes, value: object, kind: str) -> list[Problem]:
    """All that is wrong with the file `data`, which says `value` and should be of `kind`."""
    return [*ambiguities(data), *_file(value, kind)]


def ambiguities(data: bytes) -> Problems:
    """What JSON implementations do not agree on."""
    found: list[str] = []

    def pairs(items: list[tuple[str, object]]) -> Object:
        if len({name for name, _ in items}) != len(items):
            found.append("a key twice")
        return dict(items)

    def number(text: str) -> int:
        value = int(text)
        if abs(value) > MAX_INTEGER:
            found.append("a large integer")
        return value

    def loose(text: str) -> float:
        found.append("a float")
        return 0.0

    try:
        value = json.loads(
            data.decode(), object_pairs_hook=pairs, parse_int=number, parse_float=loose, parse_constant=loose
        )
        deep = _depth(value) > MAX_DEPTH
    except (ValueError, RecursionError) as error:
        # Not JSON at all, which python-tuf finds itself.
        found.append(str(error))
        deep = False
    if deep:
        found.append("deep nesting")
    elif not found and b"\\u" in data and not _is_whole(value):
        found.append("a lone surrogate")
    for what in found:
        yield AMBIGUOUS, what


def _is_whole(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _depth(value: object) -> int:
    """Brackets around what is deepest."""
    level, depth = [value], -1
    while level and depth <= MAX_DEPTH:
        depth += 1
        level = [
            inner
            for item in level
            for inner in (item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())
        ]
    return depth


def _file(value: object, kind: str) -> Problems:
    if not isinstance(value, dict):
        yield FORM, "no object"
        return
    signatures = value.get("signatures")
    if not isinstance(signatures, list):
        yield FORM, "signatures"
    else:
        if len(signatures) > MAX_SIGNATURES:
            yield LIMIT, "signatures"
        for item in signatures:
            yield from _texts(item, "keyid")
            yield from _texts(item, "sig", limit=MAX_SIGNATURE)
    signed = value.get("signed")
    if not isinstance(signed, dict):
        yield FORM, "signed"
        return
    yield from _texts(signed, "_type", "spec_version", "expires")
    if isinstance(signed.get("spec_version"), str) and not _SPECIFICATION.fullmatch(signed["spec_version"]):
        yield FORM, "spec_version"
    yield from _date(signed.get("expires"), FORM)
    yield from _natural(signed, "version", 1)
    yield from {"root": _root, "timestamp": _timestamp, "snapshot": _snapshot, "targets": _targets}[kind](signed)


def _root(signed: Object) -> Problems:
    if not isinstance(signed.get("consistent_snapshot", True), bool):
        yield FORM, "consistent_snapshot"
    yield from _keys(signed.get("keys"))
    roles = signed.get("roles")
    for name in ("root", "timestamp", "snapshot", "targets"):
        yield from _role(roles.get(name) if isinstance(roles, dict) else None)


def _timestamp(signed: Object) -> Problems:
    if signed.get("x-hillhold-issued") is not None:
        yield from _date(signed["x-hillhold-issued"], OWN_FIELDS)
    meta = signed.get("meta")
    yield from _meta_file(meta.get("snapshot.json") if isinstance(meta, dict) else None)


def _snapshot(signed: Object) -> Problems:
    meta = signed.get("meta")
    if not isinstance(meta, dict):
        yield FORM, "meta"
        return
    yield from _few(meta)
    if "targets.json" not in meta or not all(name.endswith(".json") for name in meta):
        yield LISTED, "names in meta"
    for item in meta.values():
        yield from _meta_file(item)


def _targets(signed: Object) -> Problems:
    yield from _natural(signed, "x-hillhold-offline-grace", 0, OWN_FIELDS, optional=True)
    targets = signed.get("targets")
    if not isinstance(targets, dict):
        yield FORM, "targets"
        return
    yield from _few(targets)
    for path, item in targets.items():
        if not 1 <= len(path) <= MAX_NAME:
            yield LIMIT, "path"
        yield from _natural(item, "length", 0)
        if isinstance(item, dict) and isinstance(item.get("length"), int) and item["length"] > MAX_TARGET:
            yield LIMIT, "length"
        yield from _hashes(item.get("hashes") if isinstance(item, dict) else None)
    if "delegations" in signed:
        yield from _delegations(signed["delegations"])


def _delegations(below: object) -> Problems:
    if not isinstance(below, dict):
        yield FORM, "delegations"
        return
    yield from _keys(below.get("keys"))
    if ("roles" in below) == ("succinct_roles" in below):
        yield FORM, "roles and succinct_roles"
    if "succinct_roles" in below:
        succinct = below["succinct_roles"]
        yield from _role(succinct)
        yield from _natural(succinct, "bit_length", 1)
        yield from _texts(succinct, "name_prefix")
    if "roles" in below:
        roles = below["roles"]
        if not isinstance(roles, list):
            yield FORM, "roles"
            return
        yield from _few(roles)
        for role in roles:
            yield from _delegation(role)


def _delegation(role: object) -> Problems:
    yield from _role(role)
    yield from _texts(role, "name")
    if not isinstance(role, dict):
        return
    if not isinstance(role.get("terminating"), bool):
        yield FORM, "terminating"
    if ("paths" in role) == ("path_hash_prefixes" in role):
        yield FORM, "paths and path_hash_prefixes"
    for name in ("paths", "path_hash_prefixes"):
        if name in role:
            yield from _array(role[name], FORM)
    if "x-hillhold" in role:
        caps = role["x-hillhold"]
        if not isinstance(caps, dict):
            yield OWN_FIELDS, "x-hillhold"
            return
        yield from _array(caps.get("hardware", []), OWN_FIELDS)
        for name in ("max_security_counter", "max_offline_grace"):
            yield from _natural(caps, name, 0, OWN_FIELDS, optional=True)


def _keys(keys: object) -> Problems:
    if not isinstance(keys, dict):
        yield FORM, "keys"
        return
    yield from _few(keys)
    for key in keys.values():
        yield from _texts(key, "keytype", "scheme")
        if not isinstance(key, dict) or not isinstance(key.get("keyval"), dict):
            yield FORM, "keyval"


def _role(role: object) -> Problems:
    yield from _natural(role, "threshold", 1)
    yield from _array(role.get("keyids") if isinstance(role, dict) else None, FORM)


def _meta_file(item: object) -> Problems:
    yield from _natural(item, "version", 1)
    yield from _natural(item, "length", 0, optional=True)
    if isinstance(item, dict) and "hashes" in item:
        yield from _hashes(item["hashes"])


def _hashes(hashes: object) -> Problems:
    if not isinstance(hashes, dict):
        yield FORM, "hashes"
        return
    if not hashes.keys() & DIGITS.keys():
        yield HASHED, "no hash that is known here"
    for name, digits in DIGITS.items():
        text = hashes.get(name, "0" * digits)
        if not isinstance(text, str) or not re.fullmatch(f"[0-9a-f]{{{digits}}}", text):
            yield FORM, name


def _date(text: Any, number: int) -> Problems:
    if not isinstance(text, str) or not _DATE.fullmatch(text) or not _is_in_the_calendar(text):
        yield number, "date"


def _is_in_the_calendar(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _texts(item: object, *names: str, limit: int = MAX_NAME) -> Problems:
    for name in names:
        text = item.get(name) if isinstance(item, dict) else None
        if not isinstance(text, str):
            yield FORM, name
        elif len(text) > limit:
            yield LIMIT, name


def _natural(item: object, name: str, least: int, number: int = FORM, *, optional: bool = False) -> Problems:
    if not isinstance(item, dict):
        yield number, name
    elif name in item or not optional:
        value = item.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            yield number, name


def _array(items: object, number: int) -> Problems:
    """An array of names."""
    if not isinstance(items, list):
        yield number, "no array"
        return
    yield from _few(items)
    for text in items:
        if not isinstance(text, str):
            yield number, "no text"
        elif len(text) > MAX_NAME:
            yield LIMIT if number == FORM else number, "name"


def _few(items: list[Any] | Object) -> Problems:
    if len(items) > MAX_ENTRIES:
        yield LIMIT, "entries"
