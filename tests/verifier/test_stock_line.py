"""A stock board on a modelled line, console or raw: its buffers are kept to, bad bytes do no lasting harm, asking around writes nothing."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from bench import LAYOUT, SWAPPING
from hillhold_bootsim.layout import Layout
from hillhold_bootsim.line import LineModel
from hillhold_bootsim.linefaults import LineFaults
from hillhold_bootsim.stock import Stock
from hillhold_verifier.errors import HillholdError
from hillhold_verifier.exchange import Exchange
from hillhold_verifier.framing import Transport
from hillhold_verifier.stock import meet
from hillhold_verifier.stockpush import End
from offers import image
from slowline import Rig
from stockrig import StockRig, rig

CONSOLE, RAW = Transport.CONSOLE, Transport.RAW
BOTH = pytest.mark.parametrize("transport", [CONSOLE, RAW])
LAYOUTS = pytest.mark.parametrize("layout", [LAYOUT, SWAPPING], ids=["remap", "swap"])
BUSY = 0.05
"""Seconds that a board takes for a request: longer than the next one needs on the line, so that requests wait there."""


def line(bench: StockRig, errors: float = 0.0, seed: int = 0) -> Rig:
    faults = LineFaults(errors=errors)
    model = LineModel(to_board=faults, to_host=faults, latency=0.002, seed=seed)
    return Rig(bench, Exchange(transport=bench.transport), model, seconds=bench.seconds, busy=lambda: BUSY)


def busy(transport: Transport, **options: Any) -> StockRig:
    return rig(transport=transport, busy=BUSY, **options)


@LAYOUTS
@BOTH
def test_the_whole_way(transport: Transport, layout: Layout) -> None:
    bench = busy(transport, layout=layout)
    ends = line(bench)
    pushed = ends.run(bench.courier().push())
    assert (pushed.end, pushed.sent, bench.runs) == (End.CONFIRMED, len(image("1.1.0")), "1.1.0")
    assert ends.exchange.resent == 0


@BOTH
def test_serial_recovery(transport: Transport) -> None:
    bench = busy(transport, kind=Stock.RECOVERY)
    ends = line(bench)
    assert ends.run(bench.courier().push(no_way_back=True)).end is End.WRITTEN
    assert ends.exchange.resent == 0


@pytest.mark.parametrize("buffer", range(384, 392))
@BOTH
def test_no_message_is_longer_than_a_board_takes(transport: Transport, buffer: int) -> None:
    bench = busy(transport, buffer=buffer)
    ends = line(bench)
    assert ends.run(bench.courier().push(reset=False)).end is End.MARKED
    assert ends.exchange.resent == 0


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@BOTH
def test_no_more_requests_are_under_way_than_a_board_holds(transport: Transport, count: int) -> None:
    bench = busy(transport, count=count)
    ends = line(bench)
    assert ends.run(bench.courier().push(reset=False)).end is End.MARKED
    assert ends.exchange.resent == 0


def test_more_buffers_are_used() -> None:
    seconds = []
    for count in (2, 4):
        bench = busy(CONSOLE, count=count)
        ends = line(bench)
        ends.run(bench.courier().push(reset=False))
        seconds.append(ends.seconds)
    assert seconds[1] < 0.9 * seconds[0]


@pytest.mark.parametrize("seed", range(10))
@LAYOUTS
@BOTH
def test_bad_bytes_make_no_failed_trial(transport: Transport, layout: Layout, seed: int) -> None:
    """Over raw nothing but the bootloader sees that an image was spoilt. Whatever comes of it, a later push over a good line succeeds."""
    bench = busy(transport, layout=layout)
    end = None
    with suppress(HillholdError):
        end = line(bench, 1e-4, seed).run(bench.courier().push()).end
    if transport is CONSOLE:
        assert end is End.CONFIRMED
    assert bench.trust.state.failed == ()
    bench.power_cycle()
    bench.wait(10)
    assert line(bench).run(bench.courier().push()).end in (End.CONFIRMED, End.NOTHING)
    assert bench.runs == "1.1.0"


@pytest.mark.parametrize("kind", list(Stock))
@BOTH
def test_asking_around_writes_nothing(transport: Transport, kind: Stock) -> None:
    bench = busy(transport, kind=kind)
    before, operations = bench.content(), bench.flash.operations
    ends = line(bench)
    ends.exchange = Exchange()
    board = ends.run(meet())
    assert board is not None
    assert board.recovery is (kind is Stock.RECOVERY)
    assert ends.exchange.transport is transport
    assert (bench.content(), bench.flash.operations) == (before, operations)
