"""The model of a serial line: how fast bytes come, in which packets, what is done to them, and that a run can be repeated."""

from __future__ import annotations

import random
from dataclasses import asdict
from itertools import pairwise
from math import sqrt
from statistics import mean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hillhold_bootsim.line import MAX_QUEUE, Direction, LineModel
from hillhold_bootsim.linefaults import LineFaults
from hillhold_verifier.errors import MisuseError

BOARD, HOST = Direction.TO_BOARD, Direction.TO_HOST
BYTE = 10 / 115200
LATER = 1e9
EVERYTHING = LineFaults(errors=0.02, drops=0.02, bursts=0.01, burst_length=7, noise=0.02)


def pull_all(line: LineModel, way: Direction) -> list[tuple[float, bytes]]:
    """Go from event to event; what came out at each."""
    found = []
    while (now := line.next_event()) is not None:
        data = line.pull(way, now)
        assert data, "an event at which nothing came"
        found.append((now, data))
    return found


def through(data: bytes, faults: LineFaults, seed: int = 0, way: Direction = BOARD, **options: Any) -> bytes:
    """All that comes out, at the end of time."""
    line = LineModel(to_board=faults, to_host=faults, seed=seed, **options)
    out = b""
    while data:
        data = data[line.push(way, data, 0.0) :]
        out += line.pull(way, LATER)
    return out


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("baud", [1200, 115200, 4_000_000])
@pytest.mark.parametrize("start", [0.0, 1_700_000.123])
def test_a_byte_is_there_when_its_ten_bits_are_over_and_not_before(baud: int, start: float) -> None:
    line, byte = LineModel(baud), 10 / baud
    assert line.next_event() is None
    assert line.push(BOARD, b"abcd", start) == 4
    assert line.pull(BOARD, start + 0.99 * byte) == b""
    assert line.pull(BOARD, start + 1.01 * byte) == b"a"
    assert line.pull(BOARD, start + 1.99 * byte) == b""
    assert line.pull(BOARD, start + 3.5 * byte) == b"bc"
    assert line.next_event() == pytest.approx(start + 4 * byte, abs=byte / 100)
    assert line.pull(BOARD, line.next_event() or 0) == b"d"
    assert line.next_event() is None


def test_what_is_pushed_meanwhile_waits_for_the_wire_and_each_direction_has_its_own() -> None:
    line = LineModel()
    line.push(BOARD, b"x" * 100, 0.0)
    line.push(BOARD, b"y" * 10, 50 * BYTE)
    line.push(HOST, b"z" * 5, 50 * BYTE)
    assert line.pull(BOARD, 105.5 * BYTE) == b"x" * 100 + b"y" * 5
    assert line.pull(HOST, 54.5 * BYTE) == b"z" * 4
    assert line.pull(BOARD, 109.5 * BYTE) == b"y" * 4


def test_a_wire_that_was_free_does_not_hurry() -> None:
    line = LineModel()
    line.push(BOARD, b"x", 0.0)
    line.push(BOARD, b"y", 5.0)
    assert line.pull(BOARD, 5.0 + BYTE / 2) == b"x"
    assert line.pull(BOARD, 5.0 + BYTE) == b"y"


def test_events_are_the_ends_of_pushes() -> None:
    line = LineModel()
    line.push(BOARD, b"x" * 200, 0.0)
    line.push(BOARD, b"y" * 50, 0.001)
    times, pieces = zip(*pull_all(line, BOARD), strict=True)
    assert pieces == (b"x" * 200, b"y" * 50)
    assert times == pytest.approx((200 * BYTE, 250 * BYTE))


def test_a_line_is_as_fast_as_its_baud_rate() -> None:
    """The end of a long upload is where the rate says, however it was pushed."""
    line, now = LineModel(), 0.0
    for _ in range(4000):
        line.push(BOARD, bytes(64), now)
        now = line.next_event() or now
        assert line.pull(BOARD, now)
    assert now == pytest.approx(4000 * 64 * BYTE, rel=1e-9)


# --- the adapter ------------------------------------------------------------------------------------------------------


def test_an_adapter_hands_over_full_packets_and_the_rest_when_its_timer_is_over() -> None:
    line = LineModel(latency=0.016)
    line.push(HOST, bytes(150), 1.0)
    times, pieces = zip(*pull_all(line, HOST), strict=True)
    assert [len(piece) for piece in pieces] == [62, 62, 26]
    assert times == pytest.approx((1 + 62 * BYTE, 1 + 124 * BYTE, 1 + 125 * BYTE + 0.016))


def test_a_timer_that_is_shorter_than_a_packet_makes_shorter_packets() -> None:
    """2 ms are 24 byte times at 115200: with the first byte, 24 of them."""
    line = LineModel(latency=0.002, packet=64)
    line.push(HOST, bytes(100), 0.0)
    times, pieces = zip(*pull_all(line, HOST), strict=True)
    assert [len(piece) for piece in pieces] == [24, 24, 24, 24, 4]
    assert times[0] == pytest.approx(BYTE + 0.002)
    assert times[-1] == pytest.approx(97 * BYTE + 0.002)


@pytest.mark.parametrize("start", [0.0, 12345.678, 1_700_000_000.1])
def test_a_byte_that_comes_just_when_the_timer_is_over_still_goes_with_it(start: float) -> None:
    """Whatever the last digits of a float say."""
    for count in range(1, 50):
        line = LineModel(latency=count * BYTE)
        for _ in range(60):
            line.push(HOST, b"x", start)
        assert len(pull_all(line, HOST)[0][1]) == count + 1


def test_a_byte_that_comes_in_time_goes_with_the_packet_that_waits() -> None:
    line = LineModel(latency=0.016)
    line.push(HOST, b"a", 0.0)
    line.push(HOST, b"b", 0.010)
    line.push(HOST, b"c", 0.020)
    assert line.pull(HOST, BYTE + 0.0159) == b""
    assert line.pull(HOST, BYTE + 0.0161) == b"ab"
    assert line.pull(HOST, 0.020 + BYTE + 0.0161) == b"c"


def test_the_adapter_is_at_the_hosts_end_only() -> None:
    line = LineModel(latency=0.016)
    line.push(BOARD, b"a", 0.0)
    assert line.pull(BOARD, BYTE * 1.01) == b"a"


# --- faults -----------------------------------------------------------------------------------------------------------


def test_a_line_without_faults_changes_nothing() -> None:
    data = random.Random(1).randbytes(100_000)
    for latency in (0.0, 0.002):
        line = LineModel(latency=latency)
        for way in Direction:
            out, left = b"", data
            while left:
                left = left[line.push(way, left, 0.0) :]
                out += line.pull(way, LATER)
            assert out == data
            counts = line.counts(way)
            assert (counts.received, counts.delivered) == (100_000, 100_000)
            assert set(asdict(counts).values()) == {0, 100_000}


@given(
    st.binary(max_size=400),
    st.lists(st.integers(0, 60), max_size=30),
    st.sampled_from([0.0, 0.002, 10 * BYTE, 11 * BYTE]),
    st.integers(0, 9),
)
def test_pieces_do_not_matter(data: bytes, cuts: list[int], latency: float, seed: int) -> None:
    """Neither what comes out, nor when; nor how it was pulled. A timer may be over just when a byte comes."""
    options: Any = {"latency": latency, "seed": seed, "to_host": EVERYTHING}
    whole, cut = LineModel(**options), LineModel(**options)
    whole.push(HOST, data, 0.0)
    at = 0
    for size in (*cuts, len(data)):
        at += cut.push(HOST, data[at : at + size], 0.0)
    for tick in range(0, 1000, 7):
        now = (tick + 0.5) * BYTE
        expected = whole.pull(HOST, now)
        halfway = cut.pull(HOST, now - 3.3 * BYTE)
        assert halfway + cut.pull(HOST, now) == expected
    assert whole.counts(HOST) == cut.counts(HOST)
    assert whole.next_event() is None


def test_the_same_seed_gives_the_same_bytes_and_another_one_others() -> None:
    data = bytes(5000)
    first = through(data, EVERYTHING, 1)
    assert first == through(data, EVERYTHING, 1)
    assert len({first, through(data, EVERYTHING, 2), through(data, EVERYTHING, 1, HOST)}) == 3
    # Anchors: a case that was found once can be run again with a later version.
    spoiled = through(bytes(100_000), LineFaults(errors=1e-4))
    assert [(index, byte) for index, byte in enumerate(spoiled) if byte][:4] == [
        (12575, 2),
        (15303, 2),
        (52844, 16),
        (54859, 16),
    ]


def test_a_further_kind_of_fault_leaves_the_others_where_they_are() -> None:
    data = bytes(20_000)
    alone = through(data, LineFaults(errors=1e-3))
    noisy = through(data, LineFaults(errors=1e-3, drops=1e-3), way=BOARD)
    line = LineModel(to_board=LineFaults(errors=1e-3, drops=1e-3))
    line.push(BOARD, data, 0.0)
    assert len(noisy) == len(data) - line.counts(BOARD).dropped < len(data)
    assert line.counts(BOARD).errors == len(data) - alone.count(0)


def test_faults_go_by_the_bytes_and_not_by_the_time() -> None:
    data = random.Random(2).randbytes(2000)
    line = LineModel(to_board=EVERYTHING, baud=9600)
    out, now = b"", 0.0
    for at in range(0, len(data), 100):
        line.push(BOARD, data[at : at + 100], now)
        now += 3600
        out += line.pull(BOARD, now)
    assert out == through(data, EVERYTHING, baud=115200)


@pytest.mark.parametrize("rate", [1e-4, 1e-2, 0.3])
def test_rates_are_what_they_say(rate: float) -> None:
    """Within five standard deviations of a binomial distribution; with fixed seeds this either always holds, or never."""
    count = min(int(4000 / rate), 1_000_000)
    data = bytes(count)
    bound = 5 * sqrt(count * rate * (1 - rate))
    flipped = through(data, LineFaults(errors=rate))
    assert len(flipped) == count
    assert abs(count - flipped.count(0) - count * rate) < bound
    assert abs(count - len(through(data, LineFaults(drops=rate))) - count * rate) < bound
    assert abs(len(through(data, LineFaults(noise=rate))) - count - count * rate) < bound


def test_faults_have_no_memory() -> None:
    """Distances between errors are geometric: mean 1/p, and as many shorter than the median as longer."""
    flipped = through(bytes(1_000_000), LineFaults(errors=0.01), seed=3)
    places = [index for index, byte in enumerate(flipped) if byte]
    gaps = [after - before for before, after in pairwise(places)]
    assert mean(gaps) == pytest.approx(100, rel=0.05)
    assert sum(gap <= 69 for gap in gaps) / len(gaps) == pytest.approx(0.5, abs=0.03)
    assert gaps.count(1) / len(gaps) == pytest.approx(0.01, abs=0.005)


def test_an_error_is_one_bit_and_every_bit_has_its_turn() -> None:
    flipped = through(bytes(50_000), LineFaults(errors=0.05))
    bits = [byte for byte in flipped if byte]
    assert set(bits) == {1 << bit for bit in range(8)}
    assert all(bits.count(1 << bit) == pytest.approx(len(bits) / 8, rel=0.25) for bit in range(8))


def test_a_burst_spoils_or_loses_all_its_bytes() -> None:
    data = bytes(200_000)
    line = LineModel(to_board=LineFaults(bursts=1e-3, burst_length=20))
    out, left = b"", data
    while left:
        left = left[line.push(BOARD, left, 0.0) :]
        out += line.pull(BOARD, LATER)
    counts = line.counts(BOARD)
    # A burst keeps the next one from beginning while it lasts.
    assert counts.bursts == pytest.approx(200_000 / 1020, rel=0.3)
    assert counts.burst_spoiled + counts.burst_lost == counts.bursts * 20
    assert 0.3 < counts.burst_lost / (counts.bursts * 20) < 0.7
    assert len(out) == len(data) - counts.burst_lost
    spoiled = out.translate(bytes([0] + [1] * 255))
    assert spoiled.count(1) == counts.burst_spoiled
    assert set(map(len, spoiled.replace(b"\0", b" ").split())) <= {20, 40, 60}


def test_certainty_is_no_special_case() -> None:
    assert through(b"abc", LineFaults(drops=1)) == b""
    assert [byte.bit_count() for byte in through(bytes(9), LineFaults(errors=1))] == [1] * 9
    assert len(through(bytes(9), LineFaults(noise=1))) == 18
    assert through(bytes(9), LineFaults(noise=1))[1::2] == bytes(9)
    spoiled = through(bytes(90), LineFaults(bursts=1, burst_length=1))
    assert spoiled
    assert 0 not in spoiled
    assert through(b"abc", LineFaults(errors=5e-324, drops=1e-300)) == b"abc"


def test_a_lost_byte_takes_its_time_and_noise_comes_with_the_byte_behind_it() -> None:
    line = LineModel(to_board=LineFaults(drops=0.5))
    line.push(BOARD, bytes(range(100)), 0.0)
    for number in range(100):
        assert line.pull(BOARD, (number + 1.1) * BYTE) in (b"", bytes([number]))
    line = LineModel(to_board=LineFaults(noise=1))
    line.push(BOARD, b"ab", 0.0)
    assert [len(line.pull(BOARD, now * BYTE)) for now in (0.9, 1.1, 1.9, 2.1)] == [0, 2, 0, 2]
    line = LineModel(to_board=LineFaults(bursts=1, burst_length=50, noise=1))
    line.push(BOARD, bytes(1000), 0.0)
    assert {len(line.pull(BOARD, (number + 1.1) * BYTE)) for number in range(1000)} == {1, 2}


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_a_peer_that_never_reads_makes_the_writer_wait() -> None:
    line = LineModel(to_board=LineFaults(noise=1))
    taken = sum(line.push(BOARD, bytes(1000), float(number)) for number in range(1000))
    assert taken <= MAX_QUEUE
    assert line.room(BOARD) == line.push(BOARD, b"x", LATER) == 0
    assert line.room(HOST) == MAX_QUEUE
    assert len(line.pull(BOARD, LATER)) == 2 * taken
    assert line.push(BOARD, b"x", LATER) == 1
    assert LineModel(queue=10).push(BOARD, bytes(11), 0.0) == 10


@pytest.mark.parametrize("latency", [0.0, 0.01])
def test_what_is_under_way_can_be_lost_and_later_faults_stay(latency: float) -> None:
    data = random.Random(3).randbytes(3000)
    line = LineModel(to_host=LineFaults(errors=0.01), latency=latency)
    line.push(HOST, data[:1000], 0.0)
    out = line.pull(HOST, 500.5 * BYTE)
    line.clear()
    assert line.next_event() is None
    assert line.counts(HOST).cleared == 1000 - len(out) > 0
    line.push(HOST, data[1000:], 0.0)
    out += line.pull(HOST, LATER)
    expected = through(data, LineFaults(errors=0.01), way=HOST)
    assert out == expected[: len(out) - 2000] + expected[1000:]


@pytest.mark.parametrize(
    "wrong",
    [{"errors": -0.1}, {"drops": 1.1}, {"noise": float("nan")}, {"burst_length": 0}, {"burst_length": 1 << 20}],
)
def test_faults_that_cannot_be_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(MisuseError, match=next(iter(wrong))):
        LineFaults(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"baud": 0}, {"packet": 0}, {"queue": 0}, {"latency": -1.0}, {"latency": float("inf")}, {"latency": float("nan")}],
)
def test_lines_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(MisuseError, match="expected baud, packet"):
        LineModel(**wrong)
