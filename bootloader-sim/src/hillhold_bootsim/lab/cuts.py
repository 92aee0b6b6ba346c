"""The power of a board is cut during updates, at moments that are spread over them.

Where the operations of its flash cannot be counted, time is what there is: an update is measured, twice, since one may be slow for once;
the shorter time is divided into as many stretches as there are cuts, and each update after that loses its power at one moment of its
stretch, which follows from the seed.

    off ─► some seconds ─► on ─► what runs, read without the agent where that can be done ─► the same update is finished

First the switch is tried: one that leaves the board running would prove anything. So would cuts that come when the update is over: where
most of them did, nothing is decided.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from hillhold_bootsim.lab.bench import Bench, ran
from hillhold_bootsim.lab.campaign import CutsOrder
from hillhold_bootsim.lab.honest import DURATION, Kept, Stand, concluded, settled, state, update
from hillhold_bootsim.lab.house import Release
from hillhold_bootsim.lab.journal import Part
from hillhold_bootsim.lab.model import Case, Evidence, Result, Verdict
from hillhold_bootsim.lab.reading import Reading
from hillhold_bootsim.lab.rig import PowerCutError
from hillhold_bootsim.lab.stockinstall import BOOT
from hillhold_bootsim.lab.target import GoneError
from hillhold_bootsim.line import LineModel
from hillhold_verifier.conversation import Request
from hillhold_verifier.errors import HillholdError
from hillhold_verifier.smp import Group, Op, OsCommand

TRIES: Final = 3
"""How often an update is sent again until it counts as one that cannot be finished."""
MEASURED: Final = 2
"""How many updates are measured."""
DURING: Final = "cuts during the update"
BEHIND: Final = "cuts behind the update's end"
BAUD: Final = 115200
"""Of the line to a virtual board: without one an update takes no time in which to cut."""


@dataclass(frozen=True, slots=True)
class CutsWork:
    """See `honest.Work`."""

    order: CutsOrder

    @property
    def case(self) -> Case:
        """What the report says of it."""
        return Case(
            "power-cuts-spread",
            "power",
            f"The power is cut {self.order.spread} times, at moments spread over an update.",
            f"An update is measured twice; then each of {self.order.spread} updates loses its power in its own stretch of the shorter "
            f"time, for {self.order.seconds:g} s. On a virtual board moments lie between the messages of an update, since its flash takes "
            "no time.",
            "One whole authentic image runs when the power is back, no counter and no floor is lower, and the update comes to its end.",
            (
                *(
                    "fda-premarket:appendix-1.H-interruption",
                    "en303645:5.9-2",
                    "nist-sp-800-193:4.4",
                    "iec62443-4-2:CR-7.1",
                ),
                *("iec62443-4-2:CR-7.4", "nist-sp-800-193:4.4.1", "fda-premarket:appendix-1.G", "eu-cra:I-2h"),
            ),
            f"floors rise by {self.order.spread + 2}; each update wears the flash",
            needs=("power",),
        )

    def do(self, bench: Stand, kept: Kept) -> Result:
        """See `honest.Work`."""
        rig = bench.rig
        if why := rig.lacks.get("power"):
            return Result(self.case.id, Verdict.NOT_TESTED, why, False)
        if result := settled(self.case, bench, kept, "cut"):
            return result
        own = rig.model
        rig.model = own or (LineModel(BAUD) if bench.target.item.kind == "virtual" else None)
        try:
            return self._cut(bench, kept)
        finally:
            rig.model, rig.cut_at = own, None

    def _cut(self, bench: Stand, kept: Kept) -> Result:
        if not _falls_silent(bench, self.order.seconds):
            reason = "the switch does not take the board's power away: it answers while it is off"
            return Result(self.case.id, Verdict.INCONCLUSIVE, reason, False, tuple(bench.evidence))
        durations = []
        for _ in range(MEASURED):
            whole = update(bench, bench.go_on().release())
            if whole.problem:
                bench.say("an update without a cut", whole.problem)
                reason = "an update fails without a cut of the power"
                return Result(self.case.id, Verdict.INCONCLUSIVE, reason, False, tuple(bench.evidence))
            durations.append(whole.figures[DURATION])
        parts = list(kept.parts)
        while len(parts) < self.order.spread and not any(part.problem for part in parts):
            number = len(parts)
            moment = int.from_bytes(bench.noise(f"cut {number}", 4)) / 2**32
            parts.append(self._one(bench, min(durations), (number + moment) / self.order.spread))
            kept.add(parts[-1])
        good = f"after each of {len(parts)} cuts a whole authentic image ran, and the update came to its end"
        trace = Evidence("trace", "the last update", bench.wire.text())
        found = concluded(self.case, bench, parts, "cut", good, trace)
        during = sum(DURING in part.figures for part in parts)
        if found.verdict is Verdict.PASS and 2 * during < len(parts):
            reason = f"{len(parts) - during} of {len(parts)} cuts came when the update was over, and show nothing"
            return replace(found, verdict=Verdict.INCONCLUSIVE, reason=reason, independent=False)
        return found

    def _one(self, bench: Stand, duration: float, share: float) -> Part:
        """One update, cut at a share of its time, and what became of it; raises `GoneError`."""
        rig = bench.rig
        before, _ = state(bench)
        base = bench.current
        release = bench.go_on().release()
        bench.wire.forget()
        rig.cut_at = rig.seconds() + share * duration
        when = f"{share:6.1%} ({share * duration:.3f} s)"
        try:
            bench.send(release)
            rig.wait(max(0.0, rig.cut_at - rig.seconds()))
            rig.cut()
            figures = {BEHIND: 1.0}
        except PowerCutError:
            figures = {DURING: 1.0}
        except GoneError:
            raise
        except HillholdError as error:
            return Part({}, when, f"at {when} the update failed before its power was cut: {error}")
        rig.wait(self.order.seconds)
        rig.power(True)
        bench.wire.forgive()
        rig.wait(BOOT)
        try:
            after, _ = state(bench)
            runs = "the new release" if after.running and after.running[0].is_same(ran(release)) else "the one before"
            problem = _problem(before, after, base, release) or _finish(bench, release)
        except GoneError:
            raise
        except HillholdError as error:
            runs, problem = "nothing that answers", f"{error}"
        told = f"{when}: {runs}{' on trial' if not problem and after.trial else ''}"
        return Part(figures, told, problem and f"at {when}: {problem}")


def _falls_silent(bench: Stand, seconds: float) -> bool:
    """Switch off and on; say whether the board was silent in between."""
    rig = bench.rig
    rig.cut()
    rig.wait(max(seconds, BOOT))
    silent = not bench.wire.answers(Request(Op.READ, Group.OS, OsCommand.MCUMGR_PARAMETERS, {}))
    rig.power(True)
    bench.wire.forgive()
    rig.wait(BOOT)
    bench.look()
    return silent


def _problem(before: Reading, after: Reading, base: Release, release: Release) -> str:
    """What is wrong when the power is back, or ""."""
    if not after.running:
        return "nothing runs"
    runs, old, new = after.running[0], ran(base), ran(release)
    if not runs.is_same(old) and not runs.is_same(new):
        return "what runs is neither the release from before nor the new one"
    if after.trial:
        if runs.is_same(old):
            return "the release from before is on trial"
        if after.confirmed is not None and not (after.confirmed[0] and after.confirmed[0].is_same(old)):
            return "the new release is on trial, and there is no way back"
    return next(after.below(before), "")


def _finish(bench: Bench, release: Release) -> str:
    """Finish the update; say why it cannot be, or ""."""
    for _ in range(TRIES):
        bench.rest()
        if bench.runs(release):
            bench.baseline = release
            return ""
        bench.send(release)
    return "the update does not come to its end"
