"""The agent under anything: it never raises, its answers can be read, its memory is bounded, and only what was authenticated changes.

What may change is what authentic content on this line makes of it: the messages below include the repository's own files and image, in
any order and cut in any way, so that a run may get as far as a mark; what runs, what is confirmed and the counter never change without
the image's own test, whatever is said.
"""

from __future__ import annotations

import tracemalloc
from hashlib import sha256

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import CLOCK
from hillhold_verifier.agent import APPLY, METADATA
from hillhold_verifier.mcuboot import parse_image
from hillhold_verifier.smp import HILLHOLD_GROUP, Group, ImageCommand, Message, Op, encode
from hillhold_verifier.smp_console import encode_console
from hillhold_verifier.wire import base_name, deflate
from staged import NEW, OLD, answers, check, fresh, stage

# --- any bytes --------------------------------------------------------------------------------------------------------

MARKERS = st.sampled_from([b"\x06\x09", b"\x04\x14", b"\n", b"\r\n", b"AAAA", b"ABAAAAAAAAAAAA==", b"\x06", b"\x04"])
NOISE = st.lists(st.one_of(st.binary(max_size=300), MARKERS), max_size=12)


@settings(max_examples=60, deadline=None)
@given(pieces=NOISE)
def test_any_bytes_on_the_line(pieces: list[bytes]) -> None:
    bench = fresh()
    before = bench.facts()
    for piece in pieces:
        answers(bench, piece)
    assert bench.facts() == before
    assert bench.held() == stage().held()
    bench.feed(b"\n")
    assert bench.status()["running"], "it still answers"


@settings(max_examples=60, deadline=None)
@given(packet=st.binary(min_size=1, max_size=400), header=st.booleans(), data=st.data())
def test_any_bytes_in_a_frame(packet: bytes, header: bool, data: st.DataObject) -> None:
    bench = fresh()
    if header:  # a right header before any body
        group, command = data.draw(st.sampled_from([0, 1, HILLHOLD_GROUP])), data.draw(st.integers(0, 8))
        op = data.draw(st.sampled_from([0, 2]))
        packet = bytes([8 | op, 0, *len(packet).to_bytes(2), *group.to_bytes(2), 0, command]) + packet
    assert len(answers(bench, encode_console(packet))) <= 1
    check(bench)


# --- any messages -----------------------------------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.integers(-2, 6), st.sampled_from([700, 2048, len(OLD), len(NEW), 2**16, 2**31, 2**32, 2**64 - 1])
)
HASHES = st.sampled_from(
    [sha256(NEW).digest(), sha256(OLD).digest(), parse_image(NEW).sha256, parse_image(OLD).sha256, b"", bytes(32)]
)
VALUES = st.one_of(
    NUMBERS, HASHES, st.binary(max_size=200), st.text(max_size=20), st.booleans(), st.none(), st.floats(allow_nan=False)
)
NAMES = st.sampled_from(["off", "data", "len", "sha", "image", "hash", "confirm", "f", "o", "n", "l", "b", "d", "slot"])
BODIES = st.dictionaries(st.one_of(NAMES, st.text(max_size=6)), VALUES, max_size=8)
NESTED = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner), max_leaves=8
)


@st.composite
def any_message(draw: st.DrawFn) -> Message:
    """A well-formed message: any group and command, often those that exist."""
    group = draw(st.one_of(st.sampled_from([0, 1, HILLHOLD_GROUP]), st.integers(0, 65535)))
    command = draw(st.one_of(st.integers(0, 6), st.integers(0, 255)))
    body: dict[str, object] = draw(BODIES)
    if draw(st.integers(0, 9)) == 0:
        body = {"d": draw(NESTED)}
    return Message(draw(st.sampled_from(Op)), group, command, draw(st.integers(0, 255)), body, draw(st.integers(0, 1)))


@st.composite
def plausible_message(draw: st.DrawFn) -> Message:
    """A step of an update, as it should be, or with one thing wrong."""
    repo, kind = (
        stage().repo,
        draw(st.sampled_from(["metadata", "metadata", "upload", "upload", "state", "apply", "erase"])),
    )
    sequence = draw(st.integers(0, 255))
    if kind == "metadata":
        number = draw(st.integers(0, 4))
        raw = repo.files[("root", "timestamp", "snapshot", "targets", "line")[number]]
        packed = deflate(raw, b"")
        at, end = draw(st.sampled_from([(0, 900), (0, 300), (300, 1200), (900, 1800)]))
        body: dict[str, object] = {"f": number, "o": at, "d": packed[at:end]}
        if at == 0:
            body |= {"n": len(packed), "l": len(raw), "b": base_name(b"")}
        group, command, op = HILLHOLD_GROUP, METADATA, Op.WRITE
    elif kind == "upload":
        content = draw(
            st.sampled_from([NEW, OLD, repo.blobs[f"pump/1.1.0/app.bin.{sha256(OLD).hexdigest()[:16]}.patch"]])
        )
        at = draw(st.sampled_from([0, 0, 850, 1700, 2550, 3400, 4250, 5100]))
        body = {"off": at, "data": content[at : at + 850]}
        if at == 0:
            body |= {"image": 0, "len": len(content), "sha": sha256(content).digest()}
        group, command, op = Group.IMAGE, ImageCommand.UPLOAD, Op.WRITE
    elif kind == "state":
        body = {"hash": draw(HASHES), "confirm": draw(st.booleans())}
        group, command, op = Group.IMAGE, ImageCommand.STATE, Op.WRITE
    elif kind == "apply":
        body, group, command, op = {}, HILLHOLD_GROUP, APPLY, Op.WRITE
    else:
        body, group, command, op = {}, Group.IMAGE, ImageCommand.ERASE, Op.WRITE
    if draw(st.integers(0, 5)) == 0 and body:
        body[draw(st.sampled_from(sorted(body)))] = draw(VALUES)
    return Message(op, group, command, sequence, body, draw(st.integers(0, 1)))


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    how_far=st.sampled_from(["start", "metadata", "marked"]), messages=st.lists(any_message(), min_size=1, max_size=12)
)
def test_any_well_formed_messages(how_far: str, messages: list[Message]) -> None:
    bench = fresh(how_far)
    for message in messages:
        packet = encode(message)
        found = answers(bench, encode_console(packet))
        requests = message.op in (Op.READ, Op.WRITE) and len(packet) <= 1024
        assert len(found) == requests
        for answer in found:
            assert (answer.op, answer.group, answer.command) == (message.op + 1, message.group, message.command)
            assert (answer.sequence, answer.version) == (message.sequence, message.version)
    check(bench)
    bench.power_cycle()
    check(bench)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    how_far=st.sampled_from(["start", "metadata", "sent", "marked"]),
    messages=st.lists(plausible_message(), min_size=1, max_size=20),
    resets=st.sets(st.integers(0, 19), max_size=2),
)
def test_the_steps_of_an_update_in_any_order(how_far: str, messages: list[Message], resets: set[int]) -> None:
    bench = fresh(how_far)
    check(bench)
    for number, message in enumerate(messages):
        if number in resets:
            bench.power_cycle()
        answers(bench, encode_console(encode(message)))
        check(bench)
    bench.power_cycle()
    check(bench)


def test_the_steps_reach_a_mark_when_they_come_in_order() -> None:
    """The property above is about something: these very messages, in the right order, are an update."""
    bench, repo = fresh(), stage().repo
    for number, role in ((1, "timestamp"), (2, "snapshot"), (3, "targets"), (4, "line")):
        packed = deflate(repo.files[role], b"")
        for at in range(0, len(packed), 900):
            body: dict[str, object] = {"f": number, "o": at, "d": packed[at : at + 900]}
            body |= {} if at else {"n": len(packed), "l": len(repo.files[role]), "b": base_name(b"")}
            assert "err" not in bench.own(Op.WRITE, METADATA, body)
    for at in range(0, len(NEW), 850):
        body = {"off": at, "data": NEW[at : at + 850]}
        body |= {} if at else {"image": 0, "len": len(NEW), "sha": sha256(NEW).digest()}
        assert "err" not in bench.image(ImageCommand.UPLOAD, body)
    bench.image(ImageCommand.STATE, {"hash": parse_image(NEW).sha256, "confirm": False})
    assert bench.facts().mark == sha256(NEW).digest()
    check(bench)
    bench.power_cycle()
    assert bench.facts().trial
    check(bench)


def test_memory_is_bounded_whatever_comes() -> None:
    bench = fresh()
    bench.status()
    body: dict[str, object] = {"f": 4, "n": 500_000, "l": 500_000, "b": base_name(b""), "d": bytes(900)}
    tracemalloc.start()
    for _ in range(5):
        bench.own(Op.WRITE, METADATA, body)
        for at in range(900, 100_000, 900):
            bench.own(Op.WRITE, METADATA, {"f": 4, "o": at, "d": bytes(900)})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 1024 * 1024
    assert bench.clock == CLOCK
    check(bench)
