"""Clocks and statements of time that are wrong: refusals while they are, and nothing left behind."""

from __future__ import annotations

from typing import Final

from hillhold_bootsim.lab.bench import Bench
from hillhold_bootsim.lab.catalogue import kinds
from hillhold_bootsim.lab.catalogue import sources as of
from hillhold_bootsim.lab.catalogue.book import Book
from hillhold_bootsim.lab.catalogue.leaves import FLOORS
from hillhold_bootsim.lab.forge import DAY, YEAR
from hillhold_verifier.smp import Group, Op, OsCommand

CLOCK_CASES: Final = Book("time")
_add = CLOCK_CASES.add
YEAR_2099: Final = 4_070_908_800


@_add(
    "clock-set-back",
    "The clock is set back to before metadata expired",
    how="The board has seen that it is later than the expiry of the line's file. Its clock is set back by a year, to zero and to 1990, "
    "and the release is brought.",
    expected="A clock that goes back un-expires nothing: it installs nothing.",
    sources=(of.TUF_FREEZE, of.TUF_TARGETS_EXPIRY, *kinds.LIMITS),
    leaves=FLOORS,
    needs=("metadata", "clock"),
)
def clock_set_back(bench: Bench) -> None:
    house = bench.house
    release = house.release(expires={"line": house.now - DAY})
    for clock in (house.now - YEAR, 0, 631_152_000):
        bench.set_clock(clock)
        bench.push(house.repo)
        bench.smuggle(release.data)
        bench.reset()
        bench.push(house.repo)


@_add(
    "clock-far-ahead",
    "The clock runs far ahead, and is set right again",
    how="The clock is set to 2099 and beyond, and a release is brought; a reset; then the clock is right again.",
    expected="It refuses while the clock is wrong, and takes honest files afterwards: no clock leaves a trace.",
    sources=(of.TUF_FREEZE, *kinds.LIMITS, *kinds.AVAILABLE),
    leaves=FLOORS,
    needs=("metadata", "clock"),
)
def clock_far_ahead(bench: Bench) -> None:
    house = bench.house
    release = house.release()
    for clock in (YEAR_2099, 1 << 32, 1 << 40):
        bench.set_clock(clock)
        bench.push(house.repo)
        bench.smuggle(release.data)
        bench.reset()


@_add(
    "clock-passes-expiry",
    "The repository stands still until it has expired",
    how="A release is published. The board's clock goes past the expiry of the timestamp, and the files are brought, unchanged.",
    expected="It installs nothing.",
    sources=(of.TUF_FREEZE, of.TUF_TIMESTAMP_EXPIRY, of.TR_ESSENTIAL),
    leaves=FLOORS,
    needs=("metadata", "clock"),
)
def clock_passes_expiry(bench: Bench) -> None:
    house = bench.house
    release = house.release()
    bench.set_clock(house.repo.expires["timestamp"] + 1)
    bench.push(house.repo)
    bench.smuggle(release.data)


@_add(
    "date-from-the-line",
    "The date is set from the line",
    how="SMP's command for the date sets it back and far ahead; then a release is brought whose line's file has expired.",
    expected="No message sets the clock by which expiry is judged.",
    sources=(of.TUF_FREEZE, of.CR_3_5, of.NIST_OUTSIDE, of.NIST_CRITICAL, *kinds.UNASKED),
    leaves=FLOORS,
)
def date_from_the_line(bench: Bench) -> None:
    house = bench.house
    release = house.release(expires={"line": house.now - DAY})
    for text in ("now", "", "2099-01-01T00:00:00", "1990-01-01T00:00:00", "2000-01-01T00:00:00"):
        bench.ask(Op.WRITE, Group.OS, OsCommand.DATETIME_STRING, {"datetime": text})
    bench.push(house.repo)
    bench.smuggle(release.data)
