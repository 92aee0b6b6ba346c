"""Two hosts on one board's line at once, each of which hears all answers: nothing wrong is installed, both end, the board survives.

A port is locked by who has it; but a line can have two ends (a probe on the wires, a network adapter that lets two in).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import zip_longest
from random import Random
from typing import Any

import pytest

from bench import Bench, installed
from hillhold_verifier.conversation import Conversation
from hillhold_verifier.courier import Courier, Pushed
from hillhold_verifier.errors import HillholdError
from hillhold_verifier.exchange import Exchange
from hillhold_verifier.framing import SHARED, Transport
from hillhold_verifier.stockpush import StockPushed
from offers import TreeSource, offer
from stockrig import newer, rig

CONSOLE, COBS, RAW = Transport.CONSOLE, Transport.COBS, Transport.RAW
TURN = 0.002


class Two:
    """Two hosts' ends on one line, in virtual time.

    Args:
        by_bytes: what both send at the same time is mixed byte by byte; else frames stay whole.
        after: rounds after which the second host begins.
        random: who gets to send in a round.
    """

    def __init__(
        self,
        feed: Callable[[bytes], bytes],
        wait: Callable[[float], None],
        hosts: list[Exchange],
        *,
        by_bytes: bool,
        after: int = 0,
        seed: int = 0,
    ) -> None:
        self.feed, self.wait, self.hosts, self.by_bytes, self.after = feed, wait, hosts, by_bytes, after
        self.random, self.seconds, self.rounds = Random(seed), 0.0, 0
        self.ends: list[object] = [None, None]

    def run(self, conversations: list[Conversation[Any]]) -> list[object]:
        """Carry both to their ends; each one's result or error."""
        waiting = dict(enumerate(conversations))
        while waiting or any(self.is_going(at) for at in (0, 1)):
            for at in list(waiting):
                if self.rounds >= at * self.after:
                    self.guarded(at, partial(self.hosts[at].begin, waiting.pop(at), self.seconds))
            answer = self.feed(self.said())
            dues = [due for at in (0, 1) if self.is_going(at) and (due := self.hosts[at].due()) is not None]
            until = self.seconds + TURN if answer or waiting else min(dues, default=0.0)
            self.wait(max(0.0, until - self.seconds))
            self.seconds = max(self.seconds + TURN, until)
            for at in (0, 1):
                if self.is_going(at):
                    self.guarded(at, partial(self.hosts[at].receive, answer, self.seconds))
            self.rounds += 1
            assert self.seconds < 7200, "a host goes on for ever"
        return [host.result if end is None else end for end, host in zip(self.ends, self.hosts, strict=True)]

    def said(self) -> bytes:
        """What comes from both in this round."""
        out = [b"", b""]
        for at in (0, 1):
            if self.is_going(at) and self.random.random() < 0.7:
                out[at] = self.guarded(at, partial(self.hosts[at].poll, self.seconds)) or b""
        if self.by_bytes:
            return bytes(byte for pair in zip_longest(*out) for byte in pair if byte is not None)
        return b"".join(out)

    def is_going(self, at: int) -> bool:
        return self.ends[at] is None and self.hosts[at].busy

    def guarded(self, at: int, act: Callable[[], bytes | None]) -> bytes | None:
        try:
            return act()
        except HillholdError as error:
            self.ends[at] = error
            return None


def boards(transport: Transport) -> tuple[Bench, Mapping[str, bytes], Mapping[str, bytes]]:
    """A board that runs 1.0.0; a repository with 1.1.0, and the same later with 1.2.0."""
    bench = installed(buffers=4, transports=(RAW,) if transport is RAW else SHARED)
    offer(bench.repo, "1.1.0", 2)
    bench.repo.publish()
    earlier = dict(bench.repo.tree)
    offer(bench.repo, "1.2.0", 3)
    bench.repo.publish()
    return bench, earlier, dict(bench.repo.tree)


@pytest.mark.slow
@pytest.mark.parametrize("by_bytes", [False, True])
@pytest.mark.parametrize("sequences", [(0, 128), (5, 5)])
@pytest.mark.parametrize("after", [0, 6, 13, 18])
@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.parametrize("transport", [CONSOLE, COBS, RAW])
def test_two_hosts_on_one_line(
    transport: Transport, sequences: tuple[int, int], after: int, *, alike: bool, by_bytes: bool
) -> None:
    """The second one comes in the middle of the first one's update, with the same repository or an older state of it."""
    bench, earlier, latest = boards(transport)
    hosts = [Exchange(transport=transport, sequence=sequence) for sequence in sequences]
    line = Two(bench.feed, bench.wait, hosts, by_bytes=by_bytes, after=after, seed=after)
    trees = (latest, latest if alike else earlier)
    ends = line.run([Courier(TreeSource(tree)).push(reset=after % 2 == 0) for tree in trees])
    for end in ends:
        assert isinstance(end, Pushed) or (isinstance(end, HillholdError) and str(end))
    survives(bench, ("1.0.0", "1.1.0", "1.2.0"))


@pytest.mark.parametrize("by_bytes", [False, True])
def test_two_hosts_that_find_the_transport_at_the_same_time(*, by_bytes: bool) -> None:
    bench, earlier, latest = boards(COBS)
    line = Two(bench.feed, bench.wait, [Exchange(sequence=1), Exchange(sequence=99)], by_bytes=by_bytes)
    ends = line.run([Courier(TreeSource(tree)).push(reset=False) for tree in (earlier, latest)])
    assert None not in ends
    survives(bench, ("1.0.0", "1.1.0", "1.2.0"))


def survives(bench: Bench, versions: tuple[str, ...]) -> None:
    """What runs is whole and of the line; and a host that comes alone brings the newest."""
    for _ in range(3):
        bench.wait(1)
    assert bench.facts().running in versions
    bench.power_cycle()
    for _ in range(3):
        bench.wait(1)
    assert bench.facts().running in versions
    for _ in range(2):
        pushed = bench.push()
        if not pushed.installed:
            break
    bench.wait(1)
    assert bench.facts_after_reset().running == "1.2.0"
    assert bench.facts().failed_here == ()


@pytest.mark.parametrize("by_bytes", [False, True])
@pytest.mark.parametrize("sequences", [(0, 128), (5, 5)])
@pytest.mark.parametrize("after", [0, 5, 9, 16, 25])
def test_two_hosts_on_a_stock_board(sequences: tuple[int, int], after: int, *, by_bytes: bool) -> None:
    """Their pieces get mixed in its slot; its bootloader boots none but what is signed."""
    repo = newer()
    bench = rig(repo)
    earlier = dict(repo.tree)
    newer(repo, "1.2.0")
    hosts = [Exchange(transport=CONSOLE, sequence=sequence) for sequence in sequences]
    line = Two(partial(bench.board.feed, now=None), bench.wait, hosts, by_bytes=by_bytes, after=after, seed=after)
    ends = line.run([bench.courier().push(), bench.courier(earlier).push()])
    for end in ends:
        assert isinstance(end, StockPushed) or (isinstance(end, HillholdError) and str(end))
    for _ in range(2):
        assert bench.runs in ("1.0.0", "1.1.0", "1.2.0")
        bench.power_cycle()
