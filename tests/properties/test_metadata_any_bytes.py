"""Any bytes, and valid files changed anywhere: a `MetadataError` or a value, and no refusal of `trust` but its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge import Repo, compact
from hillhold_verifier.canonical import MAX_DEPTH, MAX_INTEGER, loads
from hillhold_verifier.errors import MetadataError, Refused
from hillhold_verifier.metadata import Envelope, parse_root, parse_snapshot, parse_targets, parse_time, parse_timestamp
from hillhold_verifier.release import parse_target
from hillhold_verifier.roles import Root, Snapshot, Targets, Timestamp
from hillhold_verifier.trust import current
from holder import NOW, fresh, take

Parsed = Envelope[Root] | Envelope[Timestamp] | Envelope[Snapshot] | Envelope[Targets]
PARSERS: dict[str, Callable[[bytes], Parsed]] = {
    "root": parse_root,
    "timestamp": parse_timestamp,
    "snapshot": parse_snapshot,
    "targets": parse_targets,
    "line": lambda data: parse_targets(data, "pump"),
}
roles = st.sampled_from(sorted(PARSERS))
junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["sha256", "root", "0" * 64]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@cache
def valid(role: str) -> bytes:
    repo = Repo()
    image = b"image"
    repo.add_patch(repo.add_release("1.1.0", image, downgrade_from=["2.0.0"], withdrawn="x"), b"base", b"patch")
    repo.publish()
    return repo.files[role]


def tame(data: object) -> None:
    """What `loads` lets through is within the limits."""

    def check(value: object, depth: int) -> None:
        assert depth <= MAX_DEPTH
        if isinstance(value, dict):
            for name, item in value.items():
                name.encode()
                check(item, depth + 1)
        elif isinstance(value, list):
            for item in value:
                check(item, depth + 1)
        elif isinstance(value, str):
            value.encode()
        elif value is not None and not isinstance(value, bool):
            assert isinstance(value, int)
            assert abs(value) <= MAX_INTEGER

    check(data, 0)


def judged(parse: Callable[[bytes], Parsed], data: bytes) -> Parsed | None:
    """Parse, and hold what came to what it promises; None where it was refused."""
    try:
        envelope = parse(data)
    except MetadataError:
        return None
    assert envelope.raw == data
    assert envelope.signed.version >= 1
    assert len({signature.keyid for signature in envelope.signatures}) == len(envelope.signatures)
    envelope.payload.decode()
    if isinstance(envelope.signed, Targets):
        for target in envelope.signed.targets.values():
            try:
                parse_target(target)
            except MetadataError:
                continue
    return envelope


@given(roles, st.binary(max_size=200))
def test_any_bytes(role: str, data: bytes) -> None:
    assert judged(PARSERS[role], data) is None or data


@given(st.text(st.sampled_from('[]{}",:0123456789.eE+-\\utrnfals \n\ud800é')))
def test_any_json_soup(text: str) -> None:
    try:
        tame(loads(text.encode(errors="surrogatepass")))
    except MetadataError:
        return


@given(junk)
def test_any_json_value(value: object) -> None:
    data = json.dumps(value).encode()
    try:
        tame(loads(data))
    except MetadataError:
        return


@given(roles, st.data())
def test_valid_files_with_bytes_changed(role: str, data: st.DataObject) -> None:
    raw = bytearray(valid(role))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "drop", "insert", "double"])):
            case "flip":
                raw[at] ^= data.draw(st.integers(1, 255))
            case "cut":
                del raw[at:]
            case "drop":
                del raw[at : at + data.draw(st.integers(1, 40))]
            case "insert":
                raw[at:at] = data.draw(
                    st.sampled_from([b"[", b'"', b"9" * 30, b"\\ud800", b"\xff", b"{}", b",", b"1e9", b"\n"])
                )
            case _:
                raw[at:at] = raw[at : at + 60]
        if not raw:
            return
    judged(PARSERS[role], bytes(raw))


def places(value: object, way: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [way] if way else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        found += places(item, (*way, name))
    return found


@given(roles, st.data(), junk)
def test_valid_files_with_a_value_replaced(role: str, data: st.DataObject, value: object) -> None:
    whole = json.loads(valid(role))
    way = data.draw(st.sampled_from(places(whole)))
    at = whole
    for step in way[:-1]:
        at = at[step]
    at[way[-1]] = value
    judged(PARSERS[role], json.dumps(whole).encode())


@given(roles.filter(lambda role: role != "root"), st.data(), junk)
def test_signed_files_with_a_value_replaced_meet_only_refusals(role: str, data: st.DataObject, value: object) -> None:
    """The worst case: the right keys signed anything at all, and honest listers list it."""
    repo = Repo()
    repo.add_release("1.1.0", b"image")
    repo.publish()
    signed = json.loads(repo.files[role])["signed"]
    way = data.draw(st.sampled_from([way for way in places(signed) if way != ("version",)]))

    def edit(body: dict[str, object]) -> None:
        at: object = body
        for step in way[:-1]:
            at = at[step]  # type: ignore[index]
        at[way[-1]] = json.loads(json.dumps(value))  # type: ignore[index]

    try:
        made = getattr(repo, role)(version=1, edit=edit)
    except (UnicodeEncodeError, TypeError):
        return  # nothing that could be signed
    files = {**repo.files, role: made}
    if role in ("targets", "line"):
        files["snapshot"] = repo.snapshot(**{role: made})
    if role != "timestamp":
        files["timestamp"] = repo.timestamp(snapshot=files["snapshot"])
    try:
        current(take(fresh(repo), files), "pump", NOW)
    except Refused:
        return


@given(st.text() | st.from_regex(r"\A\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z\Z"))
def test_any_date(text: str) -> None:
    try:
        assert isinstance(parse_time(text), int)
    except MetadataError:
        return


@pytest.mark.parametrize("role", sorted(PARSERS))
@pytest.mark.parametrize(
    "data",
    [
        b"[" * 65_000,
        b'{"a":' * 10_000,
        b"9" * 8_000,
        b'"' + b"\\ud800" * 1_000 + b'"',
        b"{" + b'"a":1,' * 1_000 + b'"a":1}',
        b" " * 8_000,
    ],
    ids=lambda data: repr(data[:8]),
)
def test_hostile_shapes(role: str, data: bytes) -> None:
    with pytest.raises(MetadataError):
        PARSERS[role](data)
    with pytest.raises(MetadataError):
        PARSERS[role](compact({"signatures": [], "signed": {}})[:-2] + b'"a":' + data + b"}}")
