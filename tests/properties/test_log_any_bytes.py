"""Any bytes where a log, a note, a proof or an event should be: they parse, or the reader's own refusal says why not."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st

from hillhold_signer.errors import EntryRefused, FileRefused, LogRefused, NoteRefused, ProofRefused
from hillhold_signer.log import Event, Proof, Verifier
from hillhold_signer.log.checkpoint import read_checkpoint
from hillhold_signer.log.note import read_note
from hillhold_signer.log.tiles import Tile, decode_bundle, encode_bundle
from logs import MemoryStore, check, filled

BASE64 = st.binary(max_size=80).map(base64.b64encode)
LINES = st.lists(
    st.sampled_from(
        [
            *(
                b"log.example/hillhold",
                b"0",
                b"1",
                b"01",
                b"",
                b"c2sp.org/tlog-proof@v1",
                b"index 0",
                b"index 1",
                b"extra ",
            ),
            *(b"\xe2\x80\x94 name ", b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", b"\xff", b"pending"),
        ]
    )
    | BASE64
    | BASE64.map(lambda data: b"\xe2\x80\x94 log.example/hillhold " + data),
    max_size=12,
).map(lambda lines: b"\n".join([*lines, b""]))


@given(st.binary(max_size=200) | LINES)
def test_notes_and_checkpoints(data: bytes) -> None:
    try:
        note = read_note(data)
    except NoteRefused:
        return
    assert data.startswith(note.text)
    try:
        read = read_checkpoint(data)
    except NoteRefused:
        return
    assert read.checkpoint.text == note.text


@given(st.binary(max_size=200) | LINES | LINES.map(lambda data: b"c2sp.org/tlog-proof@v1\nindex 3\n" + data))
def test_proofs(data: bytes) -> None:
    try:
        proof = Proof.parse(data)
    except ProofRefused:
        return
    assert proof.data == data


KEYLIKE = st.binary(max_size=40).map(lambda data: f"a+00000000+{base64.b64encode(data).decode()}")


@given(st.text(max_size=100) | st.text("+abc019=/ ", max_size=60) | KEYLIKE)
def test_vkeys(text: str) -> None:
    try:
        found = Verifier.parse(text)
    except NoteRefused:
        return
    assert found.vkey == text


@given(st.text(max_size=60) | st.text("tile/x0123456789.penris", max_size=40).map(lambda text: f"tile/{text}"))
def test_paths(text: str) -> None:
    try:
        tile = Tile.parse(text)
    except LogRefused:
        return
    assert tile.path == text


@given(st.binary(max_size=60), st.integers(0, 5))
def test_bundles(data: bytes, count: int) -> None:
    try:
        entries = decode_bundle(data, count, "bundle")
    except LogRefused:
        return
    assert encode_bundle(entries) == data


@given(st.binary(max_size=200))
def test_events(data: bytes) -> None:
    try:
        event = Event.decode(data)
    except EntryRefused:
        return
    assert event.encode() == data


BASE = MemoryStore()
filled(BASE, 3, 260)


@given(st.sampled_from(sorted(BASE.files)), st.binary(max_size=100), st.integers(0, 9000), st.integers(0, 200))
def test_a_log_with_any_bytes_in_it(name: str, data: bytes, at: int, cut: int) -> None:
    held = BASE.files[name]
    changed = held[:at] + data + held[at + cut :]
    if changed == held:
        return
    try:
        check(MemoryStore({**BASE.files, name: changed}))
    except (LogRefused, NoteRefused, FileRefused):
        return
    raise AssertionError(f"{name} was changed, and nobody noticed")
