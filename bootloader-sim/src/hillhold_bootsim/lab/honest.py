"""What lines, power cuts and soak have in common: honest updates, each measured, and nothing lower after it than before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, Protocol

from hillhold_bootsim.lab.bench import Bench, ran
from hillhold_bootsim.lab.house import Release
from hillhold_bootsim.lab.journal import Part
from hillhold_bootsim.lab.judge import WORDS
from hillhold_bootsim.lab.model import Case, Evidence, Result, Verdict
from hillhold_bootsim.lab.reading import Reading
from hillhold_bootsim.lab.rig import Rig
from hillhold_bootsim.lab.runner import Firmware
from hillhold_bootsim.lab.target import GoneError, Target
from hillhold_verifier.errors import HillholdError

SHOWN: Final = 60
"""Parts that the evidence lists; of more, the first and the last."""
DURATION: Final = "seconds"
"""Name of the figure that an update's time goes by."""
RESENT: Final = "requests sent again"


@dataclass(frozen=True, slots=True)
class Kept:
    """What an earlier run has done of a case, and where the next part goes.

    Attributes:
        parts: in order.
        add: keeps one more.
    """

    parts: Sequence[Part] = ()
    add: Callable[[Part], None] = lambda _part: None


class Stand(Bench):
    """A bench with a rig between it and the board.

    Args:
        target: the board.
        seed, firmware: as of `Bench`.
    """

    def __init__(self, target: Target, seed: int, firmware: Firmware) -> None:
        self.rig = Rig(target)
        super().__init__(self.rig, seed, firmware=firmware.data, header=firmware.header)


class Work(Protocol):
    """One case of a campaign on one board: picklable, so that another process can do it."""

    @property
    def case(self) -> Case:
        """What the report says of it."""

    def do(self, bench: Stand, kept: Kept) -> Result:
        """Do it, from the first part that was not done; raises `GoneError` where the board is lost on the way."""


def state(bench: Bench) -> tuple[Reading, bool]:
    """What a board runs and holds, and whether that was read without its agent; raises as `words.look`."""
    said = bench.look().said
    found = bench.read()
    return (said, False) if found is None else (found, True)


def update(bench: Bench, release: Release) -> Part:
    """Install a published release, and judge and measure that; raises `GoneError`."""
    wire = bench.wire
    wire.forget()
    began, resent = bench.target.seconds(), wire.resent
    problem = ""
    try:
        before, _ = state(bench)
        bench.install(release)
        seconds = bench.target.seconds() - began
        after, _ = state(bench)
        if not (after.running and after.running[0].is_same(ran(release))):
            problem = "the board says that it runs the release, and does not"
        problem = problem or next(after.below(before), "")
    except GoneError:
        raise
    except HillholdError as error:
        seconds = bench.target.seconds() - began
        problem = f"{type(error).__name__}: {error}"
    figures = {
        DURATION: round(seconds, 3),
        RESENT: wire.resent - resent,
        "bytes to the board": wire.sent,
        "bytes from the board": wire.received,
    }
    told = f"{release.version}: {figures[DURATION]:.2f} s, {figures['bytes to the board']} bytes, sent again {figures[RESENT]}"
    return Part(figures, told, problem)


def settled(case: Case, bench: Bench) -> Result | None:
    """Begin with an honest release that runs; a result where that cannot be had. Raises `GoneError`."""
    bench.begin()
    try:
        bench.look()
        bench.settle()
    except GoneError:
        raise
    except HillholdError as error:
        bench.say("no honest baseline", str(error))
        reason = "the board could not be brought to run an honest release first"
        return Result(case.id, Verdict.INCONCLUSIVE, reason, False, tuple(bench.evidence))
    return None


def concluded(case: Case, bench: Bench, parts: Sequence[Part], what: str, good: str, *extra: Evidence) -> Result:
    """Return what many parts come to.

    Args:
        what: a part is called.
        good: what is said if all of them are right.
    """
    bad = next((number for number, part in enumerate(parts, 1) if part.problem), 0)
    reads = "read" not in bench.target.lacks
    reason = f"{what} {bad} failed" if bad else good
    lines = [f"{number:>6}  {part.text or part.problem}" for number, part in enumerate(parts, 1)]
    if len(lines) > SHOWN:
        lines = [*lines[: SHOWN // 2], f"… {len(lines) - SHOWN} more …", *lines[-SHOWN // 2 :]]
    evidence = [*bench.evidence, Evidence("note", f"each {what}", "\n".join(lines))]
    if bad:
        evidence.insert(0, Evidence("words", f"{what} {bad}", parts[bad - 1].problem))
    verdict = Verdict.FAIL if bad else Verdict.PASS
    return Result(
        case.id, verdict, reason + ("" if reads else WORDS), reads, (*evidence, *extra), _summed(parts, f"{what}s")
    )


def _summed(parts: Sequence[Part], what: str) -> dict[str, float]:
    """Figures added up; of durations the mean and the longest as well."""
    found: dict[str, float] = {what: len(parts)}
    for name in dict.fromkeys(chain.from_iterable(part.figures for part in parts)):
        values = [part.figures[name] for part in parts if name in part.figures]
        found[name] = round(sum(values), 3)
        if name == DURATION:
            found["mean seconds"] = round(sum(values) / len(values), 3)
            found["longest seconds"] = max(values)
    return found
