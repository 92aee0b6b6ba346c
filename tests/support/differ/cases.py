"""A case: a repository, and the sessions of one client with it. Made from a seed and a number, and cut down by leaving parts out.

A case is planned first, as names and seeds, then played. Each part draws from a seed of its own, so that what is left stays as it was
when another part is taken away; and so a case that fails shrinks to the few parts that make it fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from differ.beginnings import begin
from differ.differences import ALL, LAXER, OTHER, STRICTER, Rules
from differ.events import EVENTS
from differ.histories import PATHS, Store, World
from differ.judges import Here, There, Verdict
from differ.mutations import MUTATIONS, Meddler
from differ.ruled import Memo
from forge import DAY, HOUR

STEPS: Final = (0, 0, 1, 60, HOUR, HOUR, DAY - 1, DAY, DAY + 1, 4 * DAY, 31 * DAY)
"""Seconds between sessions: many files expire a day after they were signed."""
SKEWS: Final = (*((0,) * 20), -DAY, -HOUR, 1, DAY, 2 * DAY, 5 * DAY, 400 * DAY)


@dataclass(frozen=True)
class Part:
    """An event or a mutation."""

    name: str
    seed: int


@dataclass(frozen=True)
class Session:
    """What happened before the client came, and what was done to what it was given.

    Attributes:
        step: seconds since the session before.
        skew: seconds by which the client's clock is wrong this time.
        stay: what was changed stays in the repository; else it was seen in this session only.
    """

    seed: int
    step: int
    skew: int
    events: tuple[Part, ...]
    mutations: tuple[Part, ...]
    stay: bool


@dataclass(frozen=True)
class Plan:
    """A case before it is played."""

    seed: int
    number: int
    sessions: tuple[Session, ...]

    def __str__(self) -> str:
        lines = [f"seed {self.seed} case {self.number}"]
        for session in self.sessions:
            events = ", ".join(part.name for part in session.events) or "nothing"
            mutations = ", ".join(part.name for part in session.mutations) or "nothing"
            skew = f" (by a clock {session.skew:+} s)" if session.skew else ""
            lines.append(
                f"  after {session.step} s{skew}: {events}; meddled: {mutations}{' (stays)' if session.stay else ''}"
            )
        return "\n".join(lines)


def plan(seed: int, number: int) -> Plan:
    """The case of that number."""
    rng = Random(f"{seed} {number}")

    def parts(names: tuple[str, ...], count: int) -> tuple[Part, ...]:
        return tuple(Part(rng.choice(names), rng.getrandbits(32)) for _ in range(count))

    if rng.random() < 0.04:
        return Plan(seed, number, _seen_too_late(rng))
    sessions = []
    for at in range(rng.choice((1, 1, 2, 2, 2, 3))):
        events = parts(tuple(EVENTS), rng.choice((0, 1, 1, 2, 3)) if at else rng.choice((0, 0, 1)))
        meddled = rng.random() < (0.3 if at == 0 else 0.65)
        mutations = parts(MUTATIONS, rng.choice((1, 1, 1, 2, 3))) if meddled else ()
        step, skew = rng.choice(STEPS) if at else 60, rng.choice(SKEWS)
        sessions.append(Session(rng.getrandbits(32), step, skew, events, mutations, rng.random() < 0.4))
    return Plan(seed, number, tuple(sessions))


def _seen_too_late(rng: Random) -> tuple[Session, ...]:
    """A clock runs ahead, so that what is new seems to have expired; when it is right again, something older comes.

    Left to chance, this would hardly ever be seen.
    """
    event = Part(rng.choice(("renew", "release", "rotate", "jump", "recover")), rng.getrandbits(32))
    mutation = Part(rng.choice(("rollback", "rollback", "freeze", "mix and match", "version")), rng.getrandbits(32))
    return (
        Session(rng.getrandbits(32), 60, 0, (), (), True),
        Session(rng.getrandbits(32), HOUR, rng.choice((2 * DAY, 4 * DAY)), (event,), (), True),
        Session(rng.getrandbits(32), HOUR, 0, (), (mutation,) if rng.random() < 0.8 else (), False),
    )


@dataclass(frozen=True)
class Visit:
    """What a client meets in one session."""

    served: Store
    now: int
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """A case that was played on the repository's side."""

    root: bytes
    visits: tuple[Visit, ...]
    features: frozenset[str]


def play(plan: Plan) -> Case:
    """Make the repository's files, session by session."""
    world = begin(Random(f"{plan.seed} {plan.number} world"))
    root = world.store["root", 1]
    visits: list[Visit] = []
    for session in plan.sessions:
        world.now += session.step
        before = world.clone() if session.mutations and not session.stay else None
        served = _publish(world, session, [visit.served for visit in visits])
        visits.append(Visit(served, world.now + session.skew, tuple(Random(session.seed).sample(PATHS, 3))))
        if before:
            # The repository's own people did the same, unharmed.
            world = before
            _publish(world, replace(session, mutations=()), [])
    return Case(root, tuple(visits), frozenset(world.features))


def _publish(world: World, session: Session, past: list[Store]) -> Store:
    roles, root = set[str](), False
    for part in session.events:
        world.rng = Random(part.seed)
        more, rooted = EVENTS[part.name](world)
        roles, root = roles | more, root or rooted
    world.rng = Random(session.seed)
    files = ["timestamp", "snapshot", "targets", *world.delegated, *(["root"] if root else [])]
    if session.mutations:
        # Whoever meddles has all of them made anew, so that there is something to meddle with.
        roles |= set(files) - {"root"} if world.rng.random() < 0.5 else roles
    made = [name for name in files if name in roles or name in ("timestamp", "root")]
    meddler = Meddler([(part.name, part.seed) for part in session.mutations], made, world.now)
    world.publish(roles, meddler, root)
    view = dict(world.store)
    meddler.deliver(view, past)
    return view


# --- both verdicts --------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What both made of a case.

    Attributes:
        here, there: a verdict for each session.
        differences: the numbers that explain why the two are not the same.
        unexplained: what is wrong, or None.
    """

    here: list[Verdict]
    there: list[Verdict]
    differences: frozenset[int] = frozenset()
    unexplained: str | None = None
    features: frozenset[str] = field(default_factory=frozenset)


def judge(case: Case) -> Outcome:
    """Hold the two against each other."""
    here = Here(case.root)
    ours = [here.session(visit.served, visit.now, visit.paths) for visit in case.visits]
    memo = Memo()
    theirs = _there(case, Rules(frozenset()), memo)
    rules = Rules(ALL)
    ruled = _there(case, rules, memo)
    outcome = Outcome(ours, theirs, features=case.features)
    if ours != ruled:
        # Also where it is what python-tuf says: a difference that is on the list has to be one.
        at = next(n for n, (a, b) in enumerate(zip(ours, ruled, strict=True)) if a != b)
        outcome.unexplained = f"session {at + 1}: {contrast(ours[at], ruled[at])}"
    elif ours != theirs:
        needed = frozenset(rules.fired)
        for number in sorted(rules.fired) if len(rules.fired) > 1 else ():
            if _there(case, Rules(needed - {number}), memo) == ours:
                needed -= {number}
        outcome.differences = needed
        outcome.unexplained = _direction(outcome)
    return outcome


def _there(case: Case, rules: Rules, memo: Memo) -> list[Verdict]:
    there = There(case.root, rules, memo)
    return [there.session(visit.served, visit.now, visit.paths) for visit in case.visits]


def _direction(outcome: Outcome) -> str | None:
    """In the first session that differs, stricter differences alone make it stricter, laxer ones alone laxer."""
    ours, theirs = next((a, b) for a, b in zip(outcome.here, outcome.there, strict=True) if a != b)
    more, less = _progress(ours), _progress(theirs)
    if not outcome.differences:
        return f"the change of no number explains: {contrast(ours, theirs)}"
    if outcome.differences <= STRICTER.keys() and more > less:
        return f"stricter by {sorted(outcome.differences)}, but took more: {contrast(ours, theirs)}"
    if outcome.differences <= LAXER.keys() and more < less:
        return f"laxer by {sorted(outcome.differences)}, but took less: {contrast(ours, theirs)}"
    assert outcome.differences <= ALL == STRICTER.keys() | LAXER.keys() | OTHER.keys()
    return None


def _progress(verdict: Verdict) -> tuple[int, int]:
    """How far a session came, and how many searches it answered."""
    steps = ("root", "timestamp", "snapshot", "targets", None)
    return steps.index(verdict.refused), sum(answer[0] != "refused" for answer in verdict.answers)


def contrast(ours: Verdict, theirs: Verdict) -> str:
    """Two verdicts, where they differ."""
    lines = []
    for what, a, b in (("refused at", ours.refused, theirs.refused), ("answers", ours.answers, theirs.answers)):
        if a != b:
            lines.append(f"{what}: here {a}; python-tuf {b}")
    kept = {role for role in ours.kept.keys() | theirs.kept.keys() if ours.kept.get(role) != theirs.kept.get(role)}
    if kept:
        lines.append(f"not the same file kept: {sorted(kept)}")
    return "; ".join([*lines, f"here says {ours.why}", f"python-tuf says {theirs.why}"])


# --- the smallest case ----------------------------------------------------------------------------------------------


def smaller(plan: Plan) -> Iterator[Plan]:
    """The plan with one part less."""
    for at, session in enumerate(plan.sessions):
        rest = (plan.sessions[:at], plan.sessions[at + 1 :])
        if len(plan.sessions) > 1:
            yield replace(plan, sessions=(*rest[0], *rest[1]))
        for n in range(len(session.mutations)):
            less = replace(session, mutations=(*session.mutations[:n], *session.mutations[n + 1 :]))
            yield replace(plan, sessions=(*rest[0], less, *rest[1]))
        for n in range(len(session.events)):
            less = replace(session, events=(*session.events[:n], *session.events[n + 1 :]))
            yield replace(plan, sessions=(*rest[0], less, *rest[1]))


def smallest(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    """Leave out part after part, while it still fails."""
    while smaller_one := next((one for one in smaller(plan) if fails(one)), None):
        plan = smaller_one
    return plan
