"""What a scenario is: who does what, which key is stolen, and which of the rules are in force.

Rules by name. A device's:

    bind          writing or erasing a slot clears its mark; the bootloader tries a slot only if its content is what was marked
    recheck       a line role that withdraws the marked image clears the mark in the same record, and ends a trial of it
    cut           a trial that lost its power is not a failed one
    retry         and is started again, a bounded number of times
    no-pingpong   a version that a listed, not withdrawn release steps down from is passed over
    counter-of-confirmed   the device's counter is the higher of the store's and the confirmed image's
    trial-root    an unconfirmed image accepts no root that the confirmed one could not use
    no-claims     what timestamp and snapshot say of versions is compared with floors, never with what they said before
    per-key, base floors are kept for each key; a new delegator states from where a role goes on (tried: each alone is too weak)

An owner's:

    successor     an online signer lists a role only as the successor of the version that it listed before
    rotate-both   whichever key was stolen, the timestamp and snapshot keys are replaced together
    replace-all   when one key of timestamp or snapshot goes, all of that role's keys go

Of a board that swaps:

    finish-swap   a swap that was begun is finished before anything else is judged
    remember-swap that the slots are exchanged is remembered apart from the mark, so that a mark that is cleared leaves the way back
    reconcile     the agent's record of what the slots hold follows the swap

Readings that the text would allow and that do not hold: `named-by-withdrawn` (no-pingpong counts withdrawn releases too), `wire` (SMP
confirm counts before the image's own test), `last-line` (selection uses the last accepted line role, whatever lists it since).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from trustmodel.files import HIGHEST, Quorum

INITIALLY: Final = Quorum(1)

TRIAL: Final = frozenset({"bind", "recheck", "cut"})
SIGNER: Final = frozenset({"successor", "rotate-both", "replace-all"})
DEVICE: Final = TRIAL | {"retry", "no-pingpong", "counter-of-confirmed", "trial-root"}
SWAP: Final = frozenset({"finish-swap", "remember-swap", "reconcile"})
"""Together, what DESIGN §4 says now."""


class Confirmation(Enum):
    """What a confirmation is to a power cut: flag and counter in one write, or in two."""

    ATOMIC = "atomic"
    COUNTER_FIRST = "counter first"
    FLAG_FIRST = "flag first"


@dataclass(frozen=True)
class Config:
    """One scenario.

    Attributes:
        acts: of the owner, and how often each may happen.
        stolen: the role whose keys the courier holds, or ""; `stolen_keys` which, as bits.
        timestamp, snapshot, line: the first quorums.
        signers: two sets of online (and line) keys that sign by turns (act `switch`).
        lifetime: of root, targets and line. A snapshot lives for 2, a timestamp for 1.
        grace: what the line claims; `grace_limit` and `counter_limit` what targets allow it.
        installs: the courier moves images, too, not metadata alone.
        second_works: the second release passes its own test.
        new_algorithm: the rotation goes to keys that only the second and newest image can verify.
        raw_images: whoever holds the line's key can make an image that boots.
        trial_starts: how often a trial is started under `retry`.
        upload_lasts: an image that was authorised once may be uploaded for ever; otherwise until another transfer or an erase.
        partial_uploads: an upload can be left halfway.
        swaps: the bootloader exchanges the slots' content for a trial, and back.
    """

    acts: tuple[tuple[str, int], ...] = ()
    stolen: str = ""
    stolen_keys: int = 1
    timestamp: Quorum = INITIALLY
    snapshot: Quorum = INITIALLY
    line: Quorum = INITIALLY
    signers: tuple[int, int] = (1, 2)
    lifetime: int = 9
    grace: int = 0
    grace_limit: int = HIGHEST
    counter_limit: int = HIGHEST
    step_down_counter: int = 1
    installs: bool = True
    second_works: bool = True
    new_algorithm: bool = False
    raw_images: bool = False
    confirmation: Confirmation = Confirmation.ATOMIC
    trial_starts: int = 2
    upload_lasts: bool = True
    partial_uploads: bool = False
    swaps: bool = False
    rules: frozenset[str] = frozenset()

    def under(self, *rules: str | frozenset[str]) -> Config:
        """This scenario under these rules."""
        sets = (rule if isinstance(rule, frozenset) else frozenset(rule.split()) for rule in rules)
        return replace(self, rules=frozenset().union(*sets))

    @property
    def harmless(self) -> bool:
        """The stolen keys are fewer than their role needs."""
        quorums = {"timestamp": self.timestamp, "snapshot": self.snapshot, "line": self.line}
        return bool(self.stolen) and not quorums[self.stolen].met_by(self.stolen_keys)
