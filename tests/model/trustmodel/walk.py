"""Both at once: every history of the model up to a depth is done to the real code, and compared at each step.

A node is a state of the model together with the identity of the real device. Histories that lead to the same node have the same future in
both, so that each edge between nodes is done once, on a copy of the real device, and the number of histories is that of the paths.

At each node: what is seen of both is the same; their choices at either clock are the same; what the model takes, the real code takes,
with the result that the model says; and whatever the model does not offer (every other file, upload, mark, erase and confirmation)
the real code refuses, and nothing has changed. With `cuts` the power goes, besides, at each flash operation of each step: after the next
boot the device is where the model says it is after a reset before the step or after it, or at a state on the way (`_between`).

Where the real code is stricter than the model, by design, the model is run with the stricter reading (`Config.upload_lasts`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from hillhold_bootsim.flash import Cut, CutAt, PowerLost
from hillhold_bootsim.layout import Layout
from hillhold_verifier.errors import Refused
from trustmodel.config import Config
from trustmodel.courier import (
    BEGIN,
    CONFIRM,
    DELIVER,
    ERASE,
    OWNER,
    RESET,
    TEST,
    UPLOAD,
    WIRE_CONFIRM,
    Courier,
    Move,
)
from trustmodel.device import ENDED, IDLE, MARKED, TRIAL, Device
from trustmodel.files import IMAGES, TORN
from trustmodel.forging import Forging
from trustmodel.search import Search, State
from trustmodel.twin import LAYOUT, Frozen, Seen, Twin, seen_of_device

COUNTED: Final = 20
"""Steps up to which histories are counted: of a graph that was walked whole there is no end of them."""


class Node(NamedTuple):
    """A state of the model, and the identity of the real device."""

    state: State
    identity: bytes


class DifferenceError(AssertionError):
    """Model and real code differ: the history, and how."""


@dataclass
class Walked:
    """What was done: nodes, edges between them (`steps` of those on the real code), tries that were refused, cuts, and histories
    of up to the depth, or `COUNTED`, steps. `whole`: no node was left out, so that histories of any length are covered."""

    nodes: int = 0
    edges: int = 0
    steps: int = 0
    refused: int = 0
    cuts: int = 0
    histories: int = 0
    whole: bool = False
    next: dict[Node, list[Node]] = field(default_factory=dict, repr=False)


class Walk:
    """One configuration, with the rules of DESIGN §4 as they are. `layout`: of the real board."""

    def __init__(self, config: Config, layout: Layout = LAYOUT) -> None:
        self.config, self.layout = config, layout
        self.search = Search(config)
        self.courier: Courier = self.search.courier
        self.forging = Forging(config)
        self._root = self.forging.bytes_of(self.search.start[0].roots[0])
        self._frozen: dict[bytes, Frozen] = {}
        self._came: dict[Node, tuple[Node, Move] | None] = {}

    def run(self, depth: int, *, cuts: bool = False) -> Walked:
        """Explore all nodes within `depth` steps of the start; a history that is longer than the graph is whole all the same."""
        start = self._start()
        done, level, todo = Walked(), {start: 0}, deque([start])
        while todo:
            node = todo.popleft()
            if level[node] == depth:
                continue
            self._try_what_is_refused(node, done)
            done.next[node] = []
            for move, after in self._steps(node, done, cuts=cuts):
                done.edges += 1
                done.next[node].append(after)
                if after not in level:
                    level[after] = level[node] + 1
                    self._came[after] = node, move
                    todo.append(after)
        done.nodes, done.whole = len(level), len(done.next) == len(level)
        done.histories = _count_paths(start, done.next, min(depth, COUNTED))
        return done

    def _start(self) -> Node:
        owner, device = self.search.start
        twin = Twin(self.forging, self._root, layout=self.layout)
        twin.install_first(owner.timestamp, owner.snapshot, owner.targets, owner.line)
        node = self._keep((owner, device), twin)
        self._came[node] = None
        self._compare(node, twin.seen(), device)
        return node

    def _keep(self, state: State, twin: Twin) -> Node:
        identity = twin.identity()
        if identity not in self._frozen:
            self._frozen[identity] = twin.freeze()
        return Node(state, identity)

    def _thaw(self, node: Node) -> Twin:
        return Twin(self.forging, self._root, self._frozen[node.identity], layout=self.layout)

    # --- steps

    def _steps(self, node: Node, done: Walked, *, cuts: bool) -> Iterator[tuple[Move, Node]]:
        owner, device = node.state
        for step, (state, violation) in self.search.steps(node.state):
            if violation:
                raise self._difference(node, step, f"the model itself finds: {violation}")
            if step.kind == OWNER:
                yield step, Node(state, node.identity)
                continue
            move = self.courier.timed(step, device, owner)
            twin = self._thaw(node)
            operations = twin.flash.operations
            try:
                twin.act(move)
            except Refused as error:
                raise self._difference(node, move, f"the model takes it; refused: {error}") from error
            done.steps += 1
            after = self._keep(state, twin)
            self._compare(node, twin.seen(), state[1], move)
            if cuts:
                self._cut(node, move, state[1], twin.flash.operations - operations, done)
            yield move, after

    def _try_what_is_refused(self, node: Node, done: Walked) -> None:
        owner, device = node.state
        rules, offered = self.courier.rules, {move for move, _ in self.courier.moves(device, owner)}
        kinds = {(move.kind, move.image) for move in offered}
        tries = [Move(WIRE_CONFIRM), *([Move(CONFIRM)] if device.phase != TRIAL else [])]
        if self.config.installs:
            uploads = [Move(UPLOAD, image=image) for image in IMAGES]
            tries += [move for move in (Move(ERASE), *uploads) if (move.kind, move.image) not in kinds]
        for clock in sorted({0, owner.now}):
            twin = self._thaw(node)
            if (mine := rules.select(device, clock)) != (real := twin.choice(clock)):
                raise self._difference(node, None, f"choice at {clock}: the model's {mine}, the real one's {real}")
            files = [Move(DELIVER, file) for file in owner.published if rules.deliver(device, file, clock) is None]
            marks = {Move(TEST, image=device.other, clock=clock)} - offered if self.config.installs else set()
            for move in (*tries, *files, *marks):
                done.refused += 1
                if wrong := twin.refuses(move._replace(clock=clock)):
                    raise self._difference(node, None, wrong)

    # --- comparison

    def _compare(self, node: Node, seen: Seen, device: Device, move: Move | None = None) -> None:
        expected = seen_of_device(device, self.courier.rules, self.forging)
        if seen != expected:
            names = [name for name in Seen._fields if getattr(seen, name) != getattr(expected, name)]
            words = [f"{name}: the model's {getattr(expected, name)}, the real {getattr(seen, name)}" for name in names]
            raise self._difference(node, move, "; ".join(words))

    def _difference(self, node: Node, move: Move | None, what: str) -> DifferenceError:
        moves = [move] if move else []
        while came := self._came.get(node):
            node, before = came
            moves.append(before)
        return DifferenceError(f"{' | '.join(map(str, reversed(moves)))}: {what}")

    # --- power cuts

    def _cut(self, node: Node, move: Move, after: Device, operations: int, done: Walked) -> None:
        before = node.state[1]
        allowed = [
            seen_of_device(found, self.courier.rules, self.forging) for found in self._between(move, before, after)
        ]
        for number in range(operations):
            for where in Cut:
                twin = self._thaw(node)
                twin.flash.power_cut = CutAt(twin.flash.operations + number, where, number)
                try:
                    twin.act(move)
                except PowerLost:
                    done.cuts += 1
                    twin.flash.power_cut = None
                    twin.act(Move(RESET))
                if (seen := twin.seen()) not in allowed:
                    raise self._difference(node, move, f"cut {where.value} operation {number}: {seen}")

    def _between(self, move: Move, before: Device, after: Device) -> Iterator[Device]:
        """Where a device may be after a cut within a step and the next boot: a mark goes first, then what the slot held, then the rest."""
        boot = self.courier.boot
        found = [before, after]
        if before.mark and not after.mark and move.kind != CONFIRM:
            found.append(before._replace(phase=ENDED if before.phase == TRIAL else IDLE, mark=None))
        if move.kind in (BEGIN, UPLOAD, ERASE):
            becomes, authorised = (TORN, 0) if move.kind == ERASE else (move.image, 1 << move.image)
            for other in {
                TORN,
                before.other,
                becomes,
            }:  # what a slot held is told by its bytes, which stay until they are erased
                forgotten = before._replace(phase=IDLE, mark=None, other=other)
                found += [forgotten._replace(authorised=known) for known in {before.authorised, 0, authorised}]
        if move.kind == RESET and before.phase in (MARKED, TRIAL):
            yield after  # the start was counted, and what runs is on trial: the next boot counts one more
        for device in found:
            yield boot.reset(device).device


def _count_paths(start: Node, following: dict[Node, list[Node]], depth: int) -> int:
    """How many histories of up to `depth` steps there are."""
    total, level = 0, {start: 1}
    for _ in range(depth):
        after: dict[Node, int] = {}
        for node, ways in level.items():
            for found in following.get(node, ()):
                after[found] = after.get(found, 0) + ways
        total, level = total + sum(after.values()), after
    return total
