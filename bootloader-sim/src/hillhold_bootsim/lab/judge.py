"""The verdict on one case, from what the board does and not from what it says.

    settle (an honest release runs, confirmed) ─► look and read ─► the attack ─► reset ─► read what runs then ─► an honest newer release

After an attack a right board runs what it ran before, or an honest release that the attack let onto it; nothing is marked or on trial that
should not be; it answers, and did not crash; no counter and no floor is lower; and it is not locked out: its maker's next release, with
replaced keys where some were stolen, still comes in. Where a board cannot be read without its agent, its own words stand for the reading,
and the result says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from hillhold_bootsim.lab.bench import Bench, ran
from hillhold_bootsim.lab.errors import NotTestedError
from hillhold_bootsim.lab.house import TOP
from hillhold_bootsim.lab.model import Case, Evidence, Result, Verdict
from hillhold_bootsim.lab.reading import Ran, Reading
from hillhold_bootsim.lab.target import CAN, CRASHED, GoneError, Trials
from hillhold_verifier.errors import HillholdError, OperationalError, Refused

WORDS: Final = "; by the board's own words: its running image cannot be read without its agent"
VERSION: Final = "; told by its version alone: the bytes of its running image cannot be read"
BESIDE: Final = "; by the board's own words: what is read of it shows a version alone"


@dataclass(frozen=True, slots=True)
class Attack:
    """A case, and how it is done."""

    case: Case
    run: Callable[[Bench], None]


def examine(attack: Attack, bench: Bench) -> Result:
    """Do one case on one board, and judge what came of it."""
    case = attack.case
    bench.begin()
    try:
        if why := _lacking(case, bench):
            return Result(case.id, Verdict.NOT_TESTED, why, False)
        bench.settle()
    except GoneError as error:
        return _result(case, bench, Verdict.INCONCLUSIVE, f"the board was lost before the attack: {error}")
    except HillholdError as error:
        bench.say("no honest baseline", str(error))
        return _result(
            case, bench, Verdict.INCONCLUSIVE, "the board could not be brought to run an honest release first"
        )
    try:
        return _Trial(attack, bench).judge()
    except GoneError as error:
        return _result(case, bench, Verdict.INCONCLUSIVE, f"the board was lost: {error}")


def _lacking(case: Case, bench: Bench) -> str:
    """Why a board cannot take part, or ""."""
    lacks = bench.target.lacks
    if missing := [need for need in case.needs if need in CAN and need in lacks]:
        return "; ".join(lacks[need] for need in missing)
    if "metadata" in case.needs or "components" in case.needs:
        bench.look()
        if bench.is_stock:
            return "a stock board: it knows no metadata, and checks the image's signature alone"
        if "components" in case.needs and len(bench.house.device.components) < 2:
            return "the board has one component"
    return ""


def _result(case: Case, bench: Bench, verdict: Verdict, reason: str, *, independent: bool = False) -> Result:
    return Result(case.id, verdict, reason, independent, tuple(bench.evidence))


@dataclass(frozen=True, slots=True)
class _Seen:
    """One look at a board: what it says, where it was asked, and what is read of it, where that can be done."""

    said: Reading | None
    read: Reading | None

    def beside(self, after: _Seen) -> Iterator[tuple[Reading, Reading, bool]]:
        """What can be compared with a later look, and whether it is independent of the board's agent."""
        if self.read and after.read:
            yield self.read, after.read, True
        if self.said and after.said:
            yield self.said, after.said, False


class _Trial:
    """One attack and its judgement."""

    def __init__(self, attack: Attack, bench: Bench) -> None:
        self._attack, self._bench = attack, bench
        self._figures: dict[str, float] = {}
        self._by_version = False
        self._instead: tuple[Verdict, str] | None = None
        """What a pass turns into: an attack that did not take place proves nothing."""

    def judge(self) -> Result:
        bench = self._bench
        before = self._state("before")
        if (read := before.read) and not (read.running and read.running[0].is_same(ran(bench.current))):
            reason = "before the attack, what is read of the board is not the release that it says it runs"
            return self._done(Verdict.INCONCLUSIVE, reason)
        bench.wire.forget()
        began = bench.target.seconds()
        self._attempt()
        wire = bench.wire
        self._figures = {
            "bytes to the board": wire.sent,
            "bytes from the board": wire.received,
            "seconds": round(bench.target.seconds() - began, 3),
        }
        bench.evidence.append(Evidence("trace", "what went over the line", wire.text()))
        if notes := bench.target.notes():
            bench.evidence.append(Evidence("note", "behind the line", "\n".join(notes)))
        if any(note.startswith(CRASHED) for note in notes):
            self._restore()
            return self._done(Verdict.FAIL, "the board's software crashed during the attack")
        try:
            self._answers()
            after = self._after()
        except GoneError:
            raise
        except HillholdError as error:
            bench.say("after the attack and a reset", str(error))
            return self._done(Verdict.FAIL, "the board does not answer any more after the attack and a reset")
        for was, now, independent in before.beside(after):
            if problem := next(self._problems(was, now), None):
                return self._done(Verdict.FAIL, problem, independent=independent)
        return self._honest(after)

    # --- in order -----------------------------------------------------------------------------------------------------

    def _attempt(self) -> None:
        """Do it, and note where it was not done."""
        try:
            self._attack.run(self._bench)
        except NotTestedError as error:
            self._instead = Verdict.NOT_TESTED, str(error)
        except GoneError:
            raise
        except HillholdError as error:
            self._bench.say(f"the attack ended: {type(error).__name__}", str(error))
            if not isinstance(error, Refused):
                self._instead = Verdict.INCONCLUSIVE, "the attack did not come to its end"
        if self._bench.wire.unanswered and self._instead is None:
            self._instead = Verdict.INCONCLUSIVE, "messages of the attack got no answer: who knows what arrived"

    def _restore(self) -> None:
        if "clock" not in self._bench.target.lacks:
            self._bench.set_clock(None)
        self._bench.script(Trials.PASS)

    def _answers(self) -> None:
        """Whoever comes next is served without a reset; raises `GoneError`."""
        try:
            self._bench.look()
        except GoneError:
            raise
        except HillholdError as error:
            self._bench.say("after the attack, without a reset", str(error))
            self._bench.wrong.append("the board does not answer after the attack, as long as it is not reset")

    def _after(self) -> _Seen:
        """Reset, and read; where that does not show the bytes of what runs, the board's words count, too."""
        bench = self._bench
        if "clock" not in bench.target.lacks:
            bench.set_clock(None)
        bench.reset()
        found = bench.read()
        if found is None or any(not one.sha256 for one in found.running):
            self._by_version = found is not None
            return self._state("after", found)
        bench.evidence.append(Evidence("state", "after a reset, read without its agent", found.lines()))
        return _Seen(None, found)

    def _honest(self, after: _Seen) -> Result:
        """The maker's next release still comes in."""
        bench, independent = self._bench, after.read is not None
        self._restore()
        try:
            if any(one and one.trial for one in (after.said, after.read)):
                self._end_trial()
            release = bench.update()
        except GoneError:
            raise
        except HillholdError as error:
            bench.say(f"honest update: {type(error).__name__}", str(error))
            return self._done(
                Verdict.FAIL,
                "locked out: an honest newer release cannot be installed any more",
                independent=independent,
            )
        found = bench.read()
        if found is not None and not (found.running and found.running[0].is_same(ran(release))):
            return self._done(
                Verdict.FAIL, "the board says that it runs an honest newer release, and does not", independent=True
            )
        if bench.wrong:
            return self._done(Verdict.FAIL, bench.wrong[0], independent=independent)
        if self._instead:
            return self._done(*self._instead)
        said = "as before, and its maker's next release came in"
        return self._done(Verdict.PASS, f"the board runs {said}", independent=independent)

    def _end_trial(self) -> None:
        """Let an honest image that is on trial come to its end."""
        bench = self._bench
        bench.reset()
        if bench.rest().said.trial:
            raise OperationalError("the trial of an honest release does not come to an end")

    # --- the rules ----------------------------------------------------------------------------------------------------

    def _problems(self, before: Reading, after: Reading) -> Iterator[str]:
        bench, baseline = self._bench, ran(self._bench.current)
        if not after.running:
            yield "nothing runs after the attack and a reset"
        else:
            runs = after.running[0]
            only_trial = next((trial for one, trial in bench.allowed.items() if runs.is_same(one)), None)
            if only_trial is None and not runs.is_same(baseline):
                yield f"{self._name(runs)} runs after the attack and a reset"
            if after.trial and not only_trial:
                yield f"{self._name(runs)} is on trial"
            if only_trial and after.trial is False:
                yield f"{self._name(runs)} was confirmed, and did not test itself"
        for was, runs in zip(bench.others or before.running[1:], after.running[1:], strict=False):
            if not any(runs.is_same(one) for one in (was, *bench.allowed)):
                yield f"{self._name(runs)} runs on another component after the attack and a reset"
        if after.marked:
            yield "an image is marked for a trial at the next boot"
        yield from after.below(before, floors=not bench.rotated)
        if before.counters is not None and after.counters is not None:
            top = max(bench.current.counter, bench.house.counter)
            if any(now > max(was, top) for was, now in zip(before.counters, after.counters, strict=True)):
                yield "the security counter is higher than any honest release's"
            if after.counters[0] < bench.raised:
                yield "the security counter did not follow an honest release that was confirmed"

    def _name(self, image: Ran) -> str:
        """Words for an image that are the same for any seed."""
        current = self._bench.current
        version = self._bench.house.known.get(image.sha256, image.version if not image.sha256 else "")
        if image.is_same(ran(current)):
            return "the release from before the attack"
        if version == TOP:
            return "the attacker's image"
        other = "another image of the version" if version == current.version else "the image"
        return f"{other} {version}" if version else "an image that the lab did not make"

    def _state(self, when: str, found: Reading | None = None) -> _Seen:
        """Look at the board, through its line and, unless that was done, behind it."""
        bench = self._bench
        said = bench.look().said
        bench.evidence.append(Evidence("words", f"{when}: what the board says", said.lines()))
        if (found := found or bench.read()) is not None:
            bench.evidence.append(Evidence("state", f"{when}: read without its agent", found.lines()))
        return _Seen(said, found)

    def _done(self, verdict: Verdict, reason: str, *, independent: bool = False) -> Result:
        if verdict is not Verdict.PASS:
            self._bench.baseline = None  # what the next case begins with is installed anew
        words = ""
        if verdict in (Verdict.PASS, Verdict.FAIL):
            if "read" in self._bench.target.lacks:
                words = WORDS
            elif self._by_version:
                words = VERSION if independent else BESIDE
        evidence = tuple(self._bench.evidence)
        return Result(self._attack.case.id, verdict, reason + words, independent, evidence, self._figures)
