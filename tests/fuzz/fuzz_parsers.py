"""Fuzz targets for metadata: any bytes are refused by the parser's own error, or mean what a second reading of them says."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from typing import Final, cast

from forge import canon
from fuzz_input import Input
from hillhold_verifier import canonical
from hillhold_verifier.canonical import MAX_DEPTH, MAX_INTEGER
from hillhold_verifier.delegations import delegations_for, matches
from hillhold_verifier.errors import MetadataError, RecordError, WireError
from hillhold_verifier.keys import SCHEMES
from hillhold_verifier.metadata import Envelope, max_bytes, parse_root, parse_snapshot, parse_targets, parse_timestamp
from hillhold_verifier.release import Patch, Release, parse_target, patch_path
from hillhold_verifier.roles import Delegation, Role, Root, Snapshot, TargetFile, Targets, Timestamp
from hillhold_verifier.state import FORMAT, MAGIC, decode_record, encode_record
from hillhold_verifier.wire import DICTIONARY_1, deflate, inflate

Parsed = Envelope[Root] | Envelope[Timestamp] | Envelope[Snapshot] | Envelope[Targets]
PARSERS: Final[dict[str, Callable[[bytes], Parsed]]] = {
    "root": parse_root,
    "timestamp": parse_timestamp,
    "snapshot": parse_snapshot,
    "targets": parse_targets,
    "pump": lambda data: parse_targets(data, "pump"),
}
CHECKED: Final = 6
"""Keys and signatures of one file that are tried with each other."""


# --- JSON -------------------------------------------------------------------------------------------------------------


def allowed_json(data: bytes) -> object:
    """Parse by `json` alone, and refuse by `ValueError` what FORMAT.md refuses."""

    def refuse(text: str) -> object:
        raise ValueError(text)

    def integer(text: str) -> int:
        if len(text) > 20 or abs(value := int(text)) > MAX_INTEGER:
            raise ValueError(text)
        return value

    def object_of(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len({name for name, _ in pairs}) < len(pairs):
            raise ValueError("a key twice")
        return dict(pairs)

    def check(value: object, depth: int) -> None:
        inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
        if depth > MAX_DEPTH:
            raise ValueError("too deep")
        for item in inner:
            check(item, depth + 1)
        if isinstance(value, str):
            value.encode()

    try:
        found: object = json.loads(
            data.decode(), parse_int=integer, parse_float=refuse, parse_constant=refuse, object_pairs_hook=object_of
        )
    except RecursionError:
        raise ValueError("too deep") from None
    check(found, 0)
    return found


def fuzz_canonical(data: bytes) -> None:
    """What is accepted is what `json` reads within the limits, and its written form is canonical of itself."""
    try:
        value = canonical.loads(data)
    except MetadataError:
        try:
            found = allowed_json(data)
        except ValueError:
            return
        raise AssertionError(f"refused, but well-formed: {found!r}") from None
    assert canon(value) == canon(allowed_json(data))
    assert canonical.canonical(value) == canon(value)
    written = canonical.dumps(value)
    assert canon(canonical.loads(written)) == canon(value)
    assert canonical.dumps(canonical.loads(written)) == written
    again, payload = canonical.parse_file(data)
    assert canon(again) == canon(value)
    if payload is not None:
        assert payload == canon(cast("dict[str, object]", value)["signed"])
        assert data == written


# --- metadata ---------------------------------------------------------------------------------------------------------


def fuzz_metadata(data: bytes) -> None:
    """As the file of any role: refused, or read as written; its keys and signatures are tried, its targets read."""
    for role, parse in PARSERS.items():
        try:
            envelope = parse(data)
        except MetadataError:
            continue
        signed = cast("dict[str, object]", cast("dict[str, object]", json.loads(data))["signed"])
        assert len(data) <= max_bytes(role)
        assert envelope.raw == data
        assert envelope.payload == canon(signed)
        assert envelope.signed.version == signed["version"] >= 1  # type: ignore[operator]
        bare = envelope.with_signatures(envelope.signatures[:2])
        assert bare.with_signatures(bare.signatures).raw == bare.raw
        assert parse(bare.raw).signed == envelope.signed
        match envelope.signed:
            case Root(keys=keys) | Targets(keys=keys):
                for key in list(keys.values())[:CHECKED]:
                    for signature in envelope.signatures[:CHECKED]:
                        assert envelope.signer(signature, key, SCHEMES) in (None, key.fingerprint(SCHEMES))
        if isinstance(envelope.signed, Targets):
            for target in envelope.signed.targets.values():
                judge_target(target)
            for path in ("pump/1.0.0/app.bin", "a", *list(envelope.signed.targets)[:3]):
                found = delegations_for(envelope.signed, path)
                assert all(not delegation.terminating for delegation in found[:-1])


def judge_target(target: TargetFile) -> None:
    """A release or patch says what its fields say, each in its one form."""
    try:
        found = parse_target(target)
    except MetadataError:
        return
    if found is None:
        assert target.custom is None
        return
    fields = cast("dict[str, object]", target.custom)
    assert (found.path, found.length, found.sha256) == (target.path, target.length, target.hashes["sha256"])
    if isinstance(found, Patch):
        assert (fields["makes"], fields["base"], fields["algorithm"], fields["base_length"]) == (
            *(found.makes, found.base.hex(), found.algorithm),
            found.base_length,
        )
        assert found.path == patch_path(found.makes, found.base)
    else:
        judge_release(found, fields)


def judge_release(found: Release, fields: dict[str, object]) -> None:
    product, version, file = found.path.split("/")
    assert product == found.product
    assert version == str(found.version) == fields["version"]
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9._+-]*", part) for part in (product, version, file))
    assert fields["hardware"] == sorted(found.hardware) != []
    assert 0 <= found.security_counter == fields["security_counter"] <= 2**32 - 1  # type: ignore[operator]
    assert fields.get("component", "app") == found.component
    assert fields.get("crit", []) == sorted(found.crit)
    assert fields.get("withdrawn") == found.withdrawn
    assert fields.get("set") == found.set
    assert (fields["format"], fields["kind"]) == (found.format, found.kind)
    assert fields.get("downgrade_from", []) == sorted(map(str, found.downgrade_from))
    assert fields.get("requires", {}) == {name: str(least) for name, least in found.requires.items()}


def fuzz_release(data: bytes) -> None:
    """The bytes are `[path, custom.hillhold]`."""
    with suppress(MetadataError):
        match canonical.loads(data):
            case [str(path), custom]:
                judge_target(TargetFile(path, 5, {"sha256": bytes(32)}, custom))


def fuzz_delegations(data: bytes) -> None:
    """A wildcard means the same as in a table of all prefixes, which takes the product of both lengths."""
    source = Input(data)
    pattern, path = (source.chunk(source.byte()).decode("latin-1") for _ in range(2))
    if source.below(2):  # letters of which few are other than wildcards
        pattern = "".join("*?a/"[ord(char) % 4] for char in pattern)
        path = "".join("ab/"[ord(char) % 3] for char in path)
    prefix = source.chunk(2).hex()[: source.below(5)]
    role = Role(("k",), 1)
    assert matches(Delegation("x", role, (pattern,), (), True, frozenset(), 0, 0), path) == by_table(pattern, path)
    by_hash = Delegation("x", role, (), (prefix,), True, frozenset(), 0, 0)
    assert matches(by_hash, path) == sha256(path.encode()).hexdigest().startswith(prefix)


def by_table(pattern: str, path: str) -> bool:
    row = [True] + [False] * len(path)  # of which prefixes of `path` the pattern so far matches
    for char in pattern:
        after = [row[0] and char == "*"]
        for at, letter in enumerate(path, 1):
            if char == "*":
                after.append(row[at] or (after[-1] and letter != "/"))
            else:
                after.append(row[at - 1] and (char == letter or (char == "?" and letter != "/")))
        row = after
    return row[-1]


# --- the wire and the state -------------------------------------------------------------------------------------------


def fuzz_wire(data: bytes) -> None:
    """What inflates to the announced length is what `zlib` alone makes of it; nothing else does."""
    source = Input(data)
    base = (b"", b'{"signatures":[]}', DICTIONARY_1, b"x" * 40_000)[source.below(4)]
    kind, length = source.below(4), source.below(4096)
    packed = source.rest()
    if kind:  # a stream that is whole, for a length that is right, nearly right, or any
        content, packed = packed, deflate(packed, base)
        length = (len(content), len(content) + source.below(3) - 1, length)[kind - 1]
    whole, rest, right = b"", packed, True
    try:
        for at in range(0, length or 1, 16_384):
            place = at * len(base) // (length or 1)
            oracle = zlib.decompressobj(-15, DICTIONARY_1 + base[max(0, place - 4096) : place + 20_480])
            whole += oracle.decompress(rest)
            rest = oracle.unused_data
            right = right and oracle.eof and len(whole) == min(at + 16_384, length)
        right = right and not rest
    except zlib.error:
        right = False
    try:
        found = inflate(packed, base, length)
    except WireError:
        assert not right
        return
    assert right
    assert found == whole
    assert inflate(deflate(found, base), base, length) == found


def record(sequence: int, body: bytes, version: int = FORMAT) -> bytes:
    """A record whose checksum is right, from its definition."""
    whole = MAGIC + version.to_bytes(2) + sequence.to_bytes(8) + len(body).to_bytes(4) + body
    return whole + sha256(whole).digest()


def fuzz_state(data: bytes) -> None:
    """A record, or (behind a byte 1) a body under a right checksum; what is read is written, and read again the same."""
    raw = record(3, data[1:]) if data[:1] == b"\1" else data
    try:
        sequence, state = decode_record(raw)
    except RecordError:
        return
    written = encode_record(sequence, state)
    assert decode_record(written) == (sequence, state)
    assert encode_record(*decode_record(written)) == written
    assert len(written) <= 4 * len(raw)
