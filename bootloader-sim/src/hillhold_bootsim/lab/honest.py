"""What lines, power cuts and soak have in common: honest updates, each measured, and nothing lower after it than before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, Protocol

from hillhold_bootsim.lab.bench import Bench, ran
from hillhold_bootsim.lab.house import Release
from hillhold_bootsim.lab.journal import Part
from hillhold_bootsim.lab.judge import VERSION, WORDS
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


def settled(case: Case, bench: Bench, kept: Kept, what: str) -> Result | None:
    """Begin with an honest release that runs, and keep what the board says and holds then.

    Args:
        kept: its parts were done by an earlier run.
        what: a part is called.

    Returns:
        A result where that cannot be had, or a part failed already. Raises `GoneError`.
    """
    bench.begin()
    if any(part.problem for part in kept.parts):
        return concluded(case, bench, kept.parts, what, "")
    try:
        bench.look()
        bench.settle()
        when = f"before {what} {len(kept.parts) + 1}"
        bench.evidence += [_said(bench, when), *_read(bench, when)[0]]
    except GoneError:
        raise
    except HillholdError as error:
        bench.say("no honest baseline", str(error))
        reason = "the board could not be brought to run an honest release first"
        return Result(case.id, Verdict.INCONCLUSIVE, reason, False, tuple(bench.evidence))
    return None


def concluded(case: Case, bench: Bench, parts: Sequence[Part], what: str, good: str, *extra: Evidence) -> Result:
    """Return what many parts come to; raises `GoneError`.

    Args:
        what: a part is called.
        good: what is said if all of them are right.
    """
    bad = next((number for number, part in enumerate(parts, 1) if part.problem), 0)
    reason = f"{what} {bad} failed" if bad else good
    lines = [f"{number:>6}  {part.text or part.problem}" for number, part in enumerate(parts, 1)]
    if len(lines) > SHOWN:
        lines = [*lines[: SHOWN // 2], f"… {len(lines) - SHOWN} more …", *lines[-SHOWN // 2 :]]
    after, how = _after(bench, f"after {what} {len(parts)}", failed=bool(bad))
    evidence = [*bench.evidence, Evidence("note", f"each {what}", "\n".join(lines)), *extra, *after]
    if bad:
        evidence.insert(0, Evidence("words", f"{what} {bad}", parts[bad - 1].problem))
    verdict = Verdict.FAIL if bad else Verdict.PASS
    return Result(case.id, verdict, reason + how, how != WORDS, tuple(evidence), _summed(parts, f"{what}s"))


def _said(bench: Bench, when: str) -> Evidence:
    """What a board says of itself; raises as `words.look`."""
    return Evidence("words", f"{when}: what the board says", bench.look().said.lines())


def _read(bench: Bench, when: str) -> tuple[list[Evidence], str]:
    """What is read without a board's words, and what a verdict on it has to say of how that was done."""
    if (found := bench.read()) is None:
        return [], WORDS
    how = VERSION if any(not one.sha256 for one in found.running) else ""
    return [Evidence("state", f"{when}: read without its agent", found.lines())], how


def _after(bench: Bench, when: str, *, failed: bool) -> tuple[list[Evidence], str]:
    """What a board says and holds in the end; one that does not answer any more is read all the same.

    Args:
        failed: that is known already, and a board that is lost now changes nothing.
    """
    seen: list[Evidence] = []
    try:
        try:
            seen.append(_said(bench, when))
        except GoneError:
            raise
        except HillholdError as error:
            seen.append(Evidence("words", f"{when}: {type(error).__name__}", str(error)))
        read, how = _read(bench, when)
    except GoneError as error:
        if not failed:
            raise
        read, how = [Evidence("note", f"{when}: the board was lost", str(error))], WORDS
    return [*seen, *read], how


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
