"""Many cases, in several processes, and what they covered.

    python -m differ.runner --cases 100000 --seed 1         as `make differential`
    python -m differ.runner --seed 1 --case 4711            one case again, in words, and the smallest that fails like it

What is printed at the end says whether the generator makes more than rubbish: verdicts of both sides by the role at which they refused,
cases by numbered difference, and how many cases had each feature, event and mutation, and in how
many of those a session with it was accepted.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field

from differ.cases import Outcome, Plan, judge, plan, play, smallest
from differ.differences import LAXER, OTHER, STRICTER

CHUNK = 100
"""Cases that a process takes at a time."""
MAX_SHOWN = 5
"""Failing cases that are cut down and shown; each takes a while."""


@dataclass
class Tally:
    """Counts over cases.

    Attributes:
        cases: by what they came to; "accepted after a clean start": a first session without mutations was accepted.
        verdicts: of single sessions, by side and the role at which they were refused.
        answers: of searches, by side.
        numbers: cases by difference.
        seen, accepted: cases with a feature, event or mutation; those of them where a session with it was accepted by both.
        failures: what was not explained.
    """

    cases: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    numbers: Counter[int] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)

    def merge(self, other: Tally) -> None:
        for name in ("cases", "verdicts", "answers", "numbers", "seen", "accepted"):
            getattr(self, name).update(getattr(other, name))
        self.failures += other.failures

    def add(self, plan: Plan, outcome: Outcome) -> None:
        """Count one case."""
        same = outcome.here == outcome.there
        self.cases["all"] += 1
        self.cases["same verdicts" if same else "differences" if not outcome.unexplained else "unexplained"] += 1
        self.numbers.update(outcome.differences)
        if outcome.unexplained:
            self.failures.append((plan.number, outcome.unexplained))
        fine = [a.refused is None and b.refused is None for a, b in zip(outcome.here, outcome.there, strict=True)]
        self.cases["a session accepted"] += any(fine)
        self.cases["accepted after a clean start"] += fine[0] and not plan.sessions[0].mutations
        for side, verdicts in (("here", outcome.here), ("python-tuf", outcome.there)):
            for verdict in verdicts:
                self.verdicts[f"{side}: {'refused at ' + verdict.refused if verdict.refused else 'accepted'}"] += 1
                self.answers.update(f"{side}: {answer[0]}" for answer in verdict.answers)
        names = {f"feature: {name}": any(fine) for name in outcome.features}
        for session, ok in zip(plan.sessions, fine, strict=True):
            parts = [f"event: {part.name}" for part in session.events] + [
                f"mutation: {part.name}" for part in session.mutations
            ]
            for name in parts:
                names[name] = names.get(name, False) or ok
        self.seen.update(names.keys())
        self.accepted.update(name for name, ok in names.items() if ok)


def run(seed: int, first: int, count: int) -> Tally:
    """Judge `count` cases from the number `first` on. An error of ours is a failure of the case, whatever it is."""
    gc.set_threshold(100_000)  # a case leaves little behind; to look for it often takes a tenth of the time
    tally = Tally()
    for number in range(first, first + count):
        one = plan(seed, number)
        try:
            tally.add(one, judge(play(one)))
        except Exception:
            tally.cases["all"] += 1
            tally.failures.append((number, traceback.format_exc()))
    return tally


def describe(seed: int, number: int) -> str:
    """The smallest part of a case that still fails, and how; of a case that does not fail, its verdicts."""
    whole = plan(seed, number)
    least = smallest(whole, lambda one: problem(one) is not None) if problem(whole) else whole
    how = f"  replay: make differential SEED={seed} CASE={number}"
    if found := problem(least):
        return f"{least}\n  {found}\n{how}"
    outcome = judge(play(least))
    sessions = [f"    here {a}\n    python-tuf {b}" for a, b in zip(outcome.here, outcome.there, strict=True)]
    return "\n".join([str(least), *sessions, f"  differences: {sorted(outcome.differences)}", how])


def problem(one: Plan) -> str | None:
    """What is wrong with a case."""
    try:
        return judge(play(one)).unexplained
    except Exception:
        return traceback.format_exc()


def report(tally: Tally, seconds: float) -> str:
    """The tally as text."""
    total = tally.cases["all"]
    lines = [f"{total} cases in {seconds:.0f} s: {total / max(seconds, 0.001):.0f} per second"]

    def table(title: str, counts: Counter[str]) -> None:
        lines.append(f"\n{title}")
        lines.extend(
            f"  {count:>8}  {100 * count / max(total, 1):5.1f} %  {name}" for name, count in sorted(counts.items())
        )

    table("cases", tally.cases)
    lines.append("\nnumbered differences, by cases that they explain")
    reasons = {**STRICTER, **LAXER, **OTHER}
    lines.extend(
        f"  {tally.numbers[number]:>8}  {number:>2}  {reason[:90]}" for number, reason in sorted(reasons.items())
    )
    table("sessions", tally.verdicts)
    table("searches", tally.answers)
    lines.append(
        "\nfeatures, events and mutations: cases with it, and those in which a session with it was accepted by both"
    )
    lines.extend(f"  {count:>8}  {tally.accepted[name]:>8}  {name}" for name, count in sorted(tally.seen.items()))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--case", type=int, help="only this one, in words")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    if options.case is not None:
        print(describe(options.seed, options.case))
        return 0
    tally, began, told = Tally(), time.monotonic(), time.monotonic()
    with ProcessPoolExecutor(options.processes) as pool:
        end = options.first + options.cases
        chunks = [(at, min(CHUNK, end - at)) for at in range(options.first, end, CHUNK)]
        for done in as_completed([pool.submit(run, options.seed, *chunk) for chunk in chunks]):
            tally.merge(done.result())
            if time.monotonic() - told > 20 or tally.cases["all"] == options.cases:
                told = time.monotonic()
                rate = tally.cases["all"] / (told - began)
                print(f"{tally.cases['all']} cases, {rate:.0f} per second, {len(tally.failures)} failures", flush=True)
    print(report(tally, time.monotonic() - began))
    for number, what in tally.failures[:MAX_SHOWN]:
        print(f"\n{describe(options.seed, number)}\n  at first: {what}")
    print(f"\n{len(tally.failures)} unexplained: {[number for number, _ in tally.failures]}")
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
