"""A board in the middle of an update, at any stage of it, and what holds of it whatever it is told.

It runs 1.0.0; the repository has 1.1.0, as an image and as a patch. What may change is what authentic content on this line makes of it;
what runs, what is confirmed and the counter never change without the image's own test, whatever is said.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache
from hashlib import sha256

from bench import Bench, Held, installed
from hillhold_bootsim.flash import Flash
from hillhold_verifier.framing import SHARED, Transport
from hillhold_verifier.smp import Message, decode
from hillhold_verifier.smp_console import ConsoleDecoder, Packet
from offers import image, offer, offer_patch

OLD, NEW = image("1.0.0"), image("1.1.0", 2)


@cache
def stage() -> Bench:
    """A board that runs 1.0.0; the repository has 1.1.0, as an image and as a patch."""
    bench = installed()
    offer(bench.repo, "1.1.0", 2)
    offer_patch(bench.repo, "1.1.0", OLD, NEW)
    bench.repo.publish("targets", "line", "snapshot", "timestamp")
    bench.learn()
    return bench


@cache
def held_at_first() -> Held:
    return stage().held()


@cache
def later(how_far: str) -> Flash:
    """The flash of that board further on; a marked image is on trial as soon as the power comes."""
    bench = Bench(stage().repo, flash=copy.deepcopy(stage().flash))
    if how_far != "start":
        bench.check()
    if how_far in ("sent", "marked"):
        bench.push(patches=False, reset=False)
    if how_far == "sent":
        bench.board.control.clear_marks()
    return bench.flash


def fresh(how_far: str = "start", *, buffers: int = 1, transports: Sequence[Transport] = SHARED) -> Bench:
    return Bench(stage().repo, flash=copy.deepcopy(later(how_far)), buffers=buffers, transports=transports)


def check(bench: Bench) -> None:
    """What holds whatever was said: only 1.0.0 is confirmed and its bytes are there; only 1.1.0, whole, is ever marked or on trial."""
    facts = bench.facts()
    assert (facts.confirmed, facts.counter, facts.failed) == (0, 1, None)
    assert bench.whole_image(0) == "1.0.0"
    assert facts.running == ("1.1.0" if facts.trial else "1.0.0")
    if facts.mark is not None:
        assert facts.mark == sha256(NEW).digest()
        assert bench.whole_image(1) == "1.1.0"
    held = bench.stored().slots[1]
    assert held is None or (held.sha256 == sha256(NEW).digest() and bench.whole_image(1) == "1.1.0")
    now = bench.held()
    assert now.is_not_below(held_at_first())
    assert now.versions["root"] == 1


def answers(bench: Bench, data: bytes) -> list[Message]:
    """The board's answers to these bytes; each can be read."""
    events = ConsoleDecoder(16384).feed(bench.feed(data))
    assert all(isinstance(event, Packet) for event in events)
    return [decode(event.data) for event in events if isinstance(event, Packet)]
