"""One history, step by step, done to the model and to one real device that is never copied."""

from __future__ import annotations

import random
from contextlib import suppress
from enum import Enum

from hillhold_bootsim.layout import Layout
from hillhold_verifier.errors import Refused
from trustmodel.config import Config
from trustmodel.courier import (
    BEGIN,
    CONFIRM,
    DELIVER,
    ERASE,
    FAIL,
    MOST_UPDATES,
    OWNER,
    RESET,
    TEST,
    UPLOAD,
    WIRE_CONFIRM,
    Move,
)
from trustmodel.device import IDLE, TRIAL
from trustmodel.files import IMAGES, NAMES, File, label
from trustmodel.forging import Forging
from trustmodel.search import Search
from trustmodel.twin import LAYOUT, Twin, seen_of_device

RARELY = 0.1
"""How often a random history tries what the model does not offer."""


class Outcome(Enum):
    """What became of a step."""

    TAKEN = "taken"
    REFUSED = "refused"
    NOT_PUBLISHED = "not published"


class Replay:
    """A history on both sides. `layout`: of the real board. `violations`: what the model says was violated on the way."""

    def __init__(self, config: Config, layout: Layout = LAYOUT) -> None:
        self.config = config
        self.search = Search(config)
        self.owner, self.device = self.search.start
        self.rules = self.search.courier.rules
        self.forging = Forging(config)
        self.twin = Twin(self.forging, self.forging.bytes_of(self.owner.roots[0]), layout=layout)
        self.violations: list[str] = []
        self.twin.install_first(self.owner.timestamp, self.owner.snapshot, self.owner.targets, self.owner.line)
        self._compare("the start")

    def step(self, words: str) -> Outcome:
        """Do the move of these words to both, and hold that both take it, or that the model does not offer it and the real one refuses.

        An amended owner signs with other keys: a file is told by what it is and lists, if there is none of these very words.
        """
        move = self._move(words)
        if move is None:
            return Outcome.NOT_PUBLISHED
        offered = {_key(found): (found, *result) for found, result in self.search.steps((self.owner, self.device))}
        if _key(move) not in offered:
            assert self.twin.refuses(move) is None, (
                f"{words}: the model does not offer it, and the real device did something"
            )
            return Outcome.REFUSED
        move, state, violation = offered[_key(move)]
        self.violations += [violation] if violation else []
        if move.kind != OWNER:
            self.twin.act(self.search.courier.timed(move, self.device, self.owner))
        self.owner, self.device = state
        self._compare(words)
        return Outcome.TAKEN

    def run(self, trace: str) -> list[Outcome]:
        """Do a whole trace, its steps apart by bars."""
        return [self.step(words.strip()) for words in trace.split("|")]

    def honest(self) -> str:
        """What runs, confirmed, after an honest courier with power and the right clock, who asks the owner for a fresh timestamp first.

        Raises:
            AssertionError: it goes up and down for ever, or does not hold the current metadata.
        """
        owner = self.owner.after("refresh")
        self._settle()
        files: tuple[File, ...] = (*owner.roots, owner.timestamp, owner.snapshot, owner.targets, owner.line)
        for _ in range(MOST_UPDATES):
            for file in files:
                self._attempt(Move(DELIVER, file, clock=owner.now))
            image = self.twin.choice(owner.now)
            if image is None:
                break
            for move in (
                Move(UPLOAD, image=image, clock=owner.now),
                Move(TEST, image=image, clock=owner.now),
                Move(RESET),
            ):
                self.twin.act(move)
            self._settle()
        else:
            raise AssertionError("the device changes release for ever")
        assert self.twin.seen().files[1:] == tuple(map(self.forging.payload_of, files[-4:])), "not the current metadata"
        return NAMES[self.twin.seen().confirmed]

    def wander(self, seed: int, steps: int) -> int:
        """Do a random history of this length; return how many of its steps were refused."""
        rng, refused = random.Random(seed), 0
        for _ in range(steps):
            offered = [move for move, _ in self.search.steps((self.owner, self.device))]
            if not offered or rng.random() < RARELY:
                others = [Move(DELIVER, file) for file in self.owner.published]
                others += [Move(kind, image=image) for image in IMAGES for kind in (UPLOAD, TEST)]
                offered = [move for move in others if self._is_refusal(move)] or offered
            move = rng.choice(offered)
            refused += self.step(str(move)) is Outcome.REFUSED
        return refused

    # --- inside

    def _is_refusal(self, move: Move) -> bool:
        """Neither offered nor, as the mark of what is marked already, the same again."""
        steps = {_key(found) for found, _ in self.search.steps((self.owner, self.device))}
        return _key(move) not in steps and not (move.kind == TEST and move.image == self.device.other)

    def _move(self, words: str) -> Move | None:
        if words.startswith(f"{OWNER} "):
            return Move(OWNER, act=words.removeprefix(f"{OWNER} "))
        if words.startswith(f"{DELIVER} "):
            wanted = words.removeprefix(f"{DELIVER} ")
            files = [file for file in self.owner.published if label(file) == wanted]
            if not files:
                bare = wanted.partition(" key ")[0]
                files = [file for file in self.owner.published if label(file).partition(" key ")[0] == bare]
            return Move(DELIVER, files[0]) if files else None
        for kind in (BEGIN, UPLOAD, TEST):
            if words.startswith(f"{kind} "):
                name, _, clock = words.removeprefix(f"{kind} ").partition(" (clock ")
                return Move(kind, image=NAMES.index(name), clock=int(clock.rstrip(")") or 0))
        assert words in (RESET, FAIL, CONFIRM, WIRE_CONFIRM, ERASE), words
        return Move(words)

    def _compare(self, words: str) -> None:
        seen, expected = self.twin.seen(), seen_of_device(self.device, self.rules, self.forging)
        assert seen == expected, words
        for clock in {0, self.owner.now}:
            assert self.twin.choice(clock) == self.rules.select(self.device, clock), words

    def _attempt(self, move: Move) -> None:
        with suppress(Refused):
            self.twin.act(move)

    def _settle(self) -> None:
        """Boot, and let what runs on trial come to an end."""
        if self.twin.seen().phase not in (IDLE, TRIAL):
            self.twin.act(Move(RESET))
        if self.twin.seen().phase == TRIAL:
            works = self.search.courier.boot.works(self.twin.seen().other)
            self.twin.act(Move(CONFIRM if works else FAIL))


def _key(move: Move) -> tuple[str, object, int, str, int]:
    """A move for comparison: the clock of anything but a mark is found out when it is done."""
    return move.kind, move.file, move.image, move.act, move.clock if move.kind == TEST else 0
