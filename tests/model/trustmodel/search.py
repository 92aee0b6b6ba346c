"""Breadth-first search over owner's history x device x courier's moves, so that every trace is a shortest one."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, TypeAlias

from trustmodel.config import Config
from trustmodel.courier import HONEST, OWNER, Courier, Move
from trustmodel.device import Device
from trustmodel.owner import Owner

MOST_STATES = 4_000_000

State: TypeAlias = tuple[Owner, Device]
Trace: TypeAlias = tuple[Move, ...]


class Found(NamedTuple):
    """What a search came to. `violations`: a shortest trace of each; `whole`: no state was left out."""

    violations: dict[str, Trace]
    states: int
    edges: int
    whole: bool


class Search:
    """The search of one scenario."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.courier = Courier(config)
        owner = Owner(config)
        self.start: State = (owner, self.courier.start(owner))
        self._came: dict[State, tuple[State, Move] | None] = {self.start: None}
        self._violations: dict[str, Trace] = {}

    def run(self, most: int = MOST_STATES) -> Found:
        todo, edges, came = deque([self.start]), 0, self._came
        while todo and len(came) < most:
            state = todo.popleft()
            self._check_recovery(state)
            for move, (after, violation) in self.steps(state):
                edges += 1
                if violation:
                    self._note(violation, state, move)
                if after[1].counter < state[1].counter:
                    self._note("P6 counter fell", state, move)
                if after not in came and not (violation and violation.startswith("P3")):
                    came[after] = state, move
                    todo.append(after)
        return Found(self._violations, len(came), edges, not todo)

    def steps(self, state: State) -> list[tuple[Move, tuple[State, str | None]]]:
        """Every next step: the owner's acts, then the courier's moves."""
        owner, device = state
        found: list[tuple[Move, tuple[State, str | None]]] = []
        for act, most in self.config.acts:
            if owner.may(act, most):
                found.append((Move(OWNER, act=act), ((owner.after(act), device), None)))
        for move, result in self.courier.moves(device, owner):
            found.append((move, ((owner, result.device), result.violation)))
        return found

    def trace(self, state: State) -> Trace:
        """A shortest way to a state that was reached."""
        moves: list[Move] = []
        while before := self._came[state]:
            state, move = before
            moves.append(move)
        return tuple(reversed(moves))

    def _check_recovery(self, state: State) -> None:
        """P1 from every state, once the owner has answered the theft, or where there is none to answer."""
        owner, device = state
        config = self.config
        answered = "rotate" in owner.script or "raise" in owner.script
        if not answered and ((config.stolen and not config.harmless) or config.new_algorithm):
            return
        if config.new_algorithm and not device.root.algorithm:
            return
        if violation := self.courier.honest(device, owner.after("refresh")):
            self._note(violation, state, Move(HONEST))

    def _note(self, violation: str, state: State, move: Move) -> None:
        if violation not in self._violations:
            self._violations[violation] = (*self.trace(state), move)
