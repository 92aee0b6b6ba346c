"""The scenarios, the rules under which each was searched, and what the search finds: nothing, or violations with shortest traces.

A scenario's first cases are the text as it once stood; its last one holds, or shows a reading that is not to be taken. `expected` states
each violation with the number of steps of its shortest trace, so that a change of a rule shows in both directions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from trustmodel.config import DEVICE, SIGNER, SWAP, TRIAL, Config, Confirmation
from trustmodel.files import Quorum

LOCKED_OUT: Final = "P1 locked out of current metadata"
OLD_TIMESTAMP: Final = "P4/P5 older timestamp accepted again"
OLD_SNAPSHOT: Final = "P4 older snapshot accepted again"
OLD_LINE: Final = "P4 marked from an older line role than the accepted snapshot lists"
WITHDRAWN: Final = "P4 confirmed a release withdrawn in accepted metadata"
UNSELECTED: Final = "P2 confirmed an image that was never selected"
PING_PONG: Final = "P1 the device changes release for ever (ping-pong)"
LOW_COUNTER: Final = "P3 no image boots: the confirmed one has a counter below the device's"
TORN_SWAP: Final = "P3 no image boots: no slot holds a whole one"
UNCONFIRMED: Final = "P2 an image became the confirmed one without a confirmation"


def stuck_at(release: str) -> str:
    """The violation that an honest courier cannot bring the device beyond this release."""
    return f"P1 locked out of the newest release (runs {release})"


@dataclass(frozen=True)
class Case:
    """A scenario under one set of rules. `large`: its search takes more than a few seconds."""

    scenario: str
    config: Config
    expected: Mapping[str, int] = field(default_factory=dict)
    large: bool = False

    def __str__(self) -> str:
        rules, words = self.config.rules, list[str]()
        for name, group in (("device", DEVICE), ("trial", TRIAL), ("signer", SIGNER), ("swap", SWAP)):
            if group <= rules:
                rules, words = rules - group, [*words, name]
        return f"{self.scenario}[{'+'.join((*words, *sorted(rules)))}]"


THEFT: Final = (("r2", 1), ("theft", 1), ("rotate", 1), ("tick", 1))
OVER: Final = (("r2", 1), ("switch", 2), ("refresh", 1), ("rotate", 1), ("tick", 1))
LATE: Final = (("r2", 1), ("theft", 1), ("rotate", 1), ("tick", 4))
EITHER: Final = Quorum(3)
TWO_OF_THREE: Final = Quorum(7, 2)
PAIRS: Final = (3, 6)
"""Keys that sign by turns where two of three are needed."""
EVERYTHING: Final = Config(
    (*THEFT[:3], ("tick", 2), ("withdraw", 1), ("downgrade", 1)),
    raw_images=True,
    counter_limit=1,
    grace=1,
    grace_limit=1,
    lifetime=2,
    confirmation=Confirmation.FLAG_FIRST,
)
ALL: Final = DEVICE | SIGNER


def metadata() -> Iterator[Case]:
    """Stolen online and line keys, without images: floors, claims, and the owner's answer."""
    yield Case("theft-T", Config(THEFT, "timestamp", installs=False, lifetime=1))
    both = Config((("theft", 1), *OVER[:2], *OVER[3:]), "timestamp", timestamp=EITHER, installs=False)
    yield Case("theft-T-of-2", both, {OLD_TIMESTAMP: 7}, large=True)
    yield Case("theft-T-of-2", both.under("base"), {OLD_TIMESTAMP: 7}, large=True)
    yield Case("theft-T-of-2", both.under("per-key"), large=True)
    yield Case("theft-T-of-2", both.under("per-key base"), large=True)
    yield Case("theft-T-of-2", both.under("replace-all"), large=True)
    for role, length in (("snapshot", 4), ("line", 5)):
        theft = Config(THEFT, role, installs=False)
        yield Case(f"theft-{role[0].upper()}", theft, {LOCKED_OUT: length})
        for rule in ("no-claims", "successor", "rotate-both"):
            yield Case(f"theft-{role[0].upper()}", theft.under(rule))


def life() -> Iterator[Case]:
    """Images: trial, confirmation, withdrawal, steps down, and power that fails."""
    raw = Config(THEFT, "line", raw_images=True).under("successor", TRIAL)
    yield Case("theft-L-raw", raw, {stuck_at("evil"): 8})
    yield Case("theft-L-raw", replace(raw, counter_limit=1), large=True)
    plain = Config((("r2", 1), ("withdraw", 1), ("rotate", 1)))
    lost = {stuck_at("r1"): 9, stuck_at("r2"): 11}
    yield Case("life", plain, {**lost, WITHDRAWN: 12, UNSELECTED: 14})
    yield Case("life", plain.under("bind"), {**lost, WITHDRAWN: 12})
    yield Case("life", plain.under("bind recheck"), lost)
    yield Case("life", plain.under(TRIAL))
    yield Case("life", plain.under(TRIAL, "last-line"), {OLD_LINE: 9})
    bad = Config((("r2", 1), ("tick", 1)), second_works=False)
    yield Case("bad-release", bad.under(TRIAL))
    yield Case("bad-release", bad.under(TRIAL, "wire"), {"P2 confirmed though its test never passed": 8})
    down = Config((("r2", 1), ("downgrade", 1), ("rotate", 1)))
    yield Case("downgrade", down.under(TRIAL), {PING_PONG: 3})
    yield Case("downgrade", down.under(TRIAL, "no-pingpong"))
    undo = Config((("r2", 1), ("downgrade", 1), ("undo", 1)))
    yield Case("downgrade-undo", undo.under(TRIAL, "no-pingpong"))
    named = undo.under(TRIAL, "no-pingpong named-by-withdrawn")
    yield Case("downgrade-undo", named, {stuck_at("r1"): 4, stuck_at("rd"): 9})
    first = Config((("r2", 1),), confirmation=Confirmation.COUNTER_FIRST)
    yield Case("counter-first", first.under(TRIAL), {LOW_COUNTER: 9})
    flag = Config((("r2", 1), ("downgrade", 1)), confirmation=Confirmation.FLAG_FIRST, step_down_counter=0)
    yield Case("flag-first", flag.under(TRIAL, "no-pingpong"), {"P2 confirmed a lower counter": 16})
    yield Case("flag-first", flag.under(TRIAL, "no-pingpong counter-of-confirmed"))
    algorithm = Config((("r2", 1), ("rotate", 1)), new_algorithm=True)
    yield Case("algorithm", algorithm.under(TRIAL), {LOCKED_OUT: 10})
    yield Case("algorithm", algorithm.under(TRIAL, "trial-root"))


def keys_that_go() -> Iterator[Case]:
    """One of several keys goes by plan; grace; a thief who claims more of it."""
    retire = Config(OVER, timestamp=EITHER, snapshot=EITHER)
    yield Case("retire-key", retire.under(TRIAL), {OLD_TIMESTAMP: 8}, large=True)
    yield Case("retire-key", retire.under(TRIAL, "per-key"), {OLD_TIMESTAMP: 8}, large=True)
    yield Case("retire-key", retire.under(TRIAL, "base"), large=True)
    yield Case("retire-key", retire.under(TRIAL, "replace-all"), large=True)
    timed = replace(retire, acts=(*OVER[:-1], ("tick", 2)))
    expired = "P5 metadata expired before the time floor revived"
    yield Case("retire-key-t", timed.under(TRIAL), {OLD_TIMESTAMP: 8, expired: 14}, large=True)
    yield Case("retire-key-t", timed.under(TRIAL, "replace-all"), large=True)
    withdrawing = replace(retire, acts=(*OVER[:2], ("withdraw", 1), ("rotate", 1)))
    revived = {OLD_TIMESTAMP: 8, OLD_SNAPSHOT: 10, OLD_LINE: 13}
    yield Case("retire-key-wd", withdrawing.under(TRIAL), revived, large=True)
    yield Case("retire-key-wd", withdrawing.under(TRIAL, "replace-all"), large=True)
    yield Case("retire-person", Config(withdrawing.acts, line=EITHER).under(TRIAL), large=True)
    yield Case("grace", Config((("r2", 1), ("withdraw", 1), ("tick", 3)), grace=1).under(TRIAL))
    late = Config(LATE, "line", grace=1, lifetime=3).under("successor", TRIAL)
    beyond = {"P4 expired view accepted beyond the owner's grace": 9}
    yield Case("grace-theft", late, beyond, large=True)
    yield Case("grace-theft", replace(late, grace_limit=1), large=True)
    yield Case("full-none", replace(EVERYTHING, timestamp=EITHER, snapshot=EITHER).under(ALL), large=True)
    for role in ("timestamp", "snapshot", "line"):
        yield Case(f"full-{role[0].upper()}", replace(EVERYTHING, stolen=role).under(ALL), large=True)


def quorums() -> Iterator[Case]:
    """Two of three keys: a theft of one, a theft of two, a threshold that is raised, and a key that goes."""
    for role in ("timestamp", "snapshot", "line"):
        quorum = {role: TWO_OF_THREE}
        below = replace(Config(THEFT, role, signers=PAIRS), **quorum)  # type: ignore[arg-type]
        yield Case(f"quorum-{role[0].upper()}-below", below.under(DEVICE, "successor"))
        at = replace(below, stolen_keys=3, installs=False)
        yield Case(f"quorum-{role[0].upper()}-at", at.under(DEVICE, SIGNER))
        if role != "timestamp":  # an online signer that lists what it did not verify, though no device accepts that
            listed, stuck = replace(below, installs=False).under(DEVICE), {stuck_at("r1"): 6} if role == "line" else {}
            yield Case(f"quorum-{role[0].upper()}-unverified", listed, {LOCKED_OUT: 3, **stuck})
    planned = Config((("r2", 1), ("raise", 1), ("tick", 1)), installs=False)
    for raised in (planned, replace(planned, acts=(*planned.acts, ("theft", 1)), stolen="timestamp")):
        yield Case(
            f"quorum-raise{'-theft' if raised.stolen else ''}",
            raised.under(DEVICE),
            {OLD_TIMESTAMP: 6 if raised.stolen else 5},
        )
        yield Case(f"quorum-raise{'-theft' if raised.stolen else ''}", raised.under(DEVICE, "replace-all"))
    retire = Config((*OVER[:2], ("withdraw", 1), ("rotate", 1)), signers=PAIRS)
    retire = replace(retire, timestamp=TWO_OF_THREE, snapshot=TWO_OF_THREE)
    yield Case("quorum-retire", retire.under(DEVICE), {OLD_TIMESTAMP: 8, OLD_SNAPSHOT: 10, OLD_LINE: 13}, large=True)
    yield Case("quorum-retire", retire.under(DEVICE, "replace-all"))
    person = Config(retire.acts, line=TWO_OF_THREE, signers=PAIRS)
    yield Case("quorum-retire-person", person.under(DEVICE), large=True)


def swap() -> Iterator[Case]:
    """A board that swaps, with cuts within the swap."""
    plain = Config((("r2", 1), ("withdraw", 1), ("rotate", 1)), swaps=True)
    yield Case("swap", plain.under(DEVICE, SWAP))
    yield Case("swap", plain.under(DEVICE, SWAP - {"finish-swap"}), {TORN_SWAP: 8})
    yield Case("swap", plain.under(DEVICE, SWAP - {"remember-swap"}), {UNCONFIRMED: 12})
    yield Case("swap", plain.under(DEVICE, SWAP - {"reconcile"}), {PING_PONG: 2})
    bad = replace(plain, acts=(("r2", 1), ("rotate", 1)), second_works=False)
    yield Case("swap-bad-release", bad.under(DEVICE, SWAP))
    down = Config((("r2", 1), ("downgrade", 1)), confirmation=Confirmation.FLAG_FIRST, step_down_counter=0, swaps=True)
    yield Case("swap-downgrade", down.under(DEVICE, SWAP))


CASES: Final = (*metadata(), *life(), *keys_that_go(), *quorums(), *swap())
