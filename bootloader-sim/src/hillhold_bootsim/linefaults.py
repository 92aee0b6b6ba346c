"""What goes wrong on a serial line: bytes with a flipped bit, lost bytes, bursts, noise, all from a seed.

Faults hit bytes by their number within their direction, whenever they come and in whatever pieces: same seed, same bytes in, same
bytes out. Each kind has a generator of its own, which draws the distance to its next fault (geometric, so each byte has the same
chance): adding one kind does not move the faults of another, and bytes between faults cost nothing. A line that is silent has no noise.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, fields
from random import Random
from typing import Final

from hillhold_verifier.errors import MisuseError

MAX_BURST: Final = 4096
NEVER: Final = 1 << 62
"""The number of a byte that never comes."""


@dataclass(frozen=True, slots=True)
class LineFaults:
    """What goes wrong in one direction; rates are probabilities for each byte.

    Attributes:
        errors: one bit of the byte flips.
        drops: the byte is lost.
        bursts: a burst begins: of `burst_length` bytes either all are spoiled, or all lost, with even odds.
        burst_length: bytes.
        noise: a byte that nobody sent comes before it.

    Raises:
        MisuseError: a rate outside 0 to 1, or a burst outside 1 to MAX_BURST.
    """

    errors: float = 0.0
    drops: float = 0.0
    bursts: float = 0.0
    burst_length: int = 16
    noise: float = 0.0

    def __post_init__(self) -> None:
        for name in ("errors", "drops", "bursts", "noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise MisuseError(f"{name}: expected a rate from 0 to 1, got {getattr(self, name)}")
        if not 1 <= self.burst_length <= MAX_BURST:
            raise MisuseError(f"burst_length: expected 1 to {MAX_BURST} bytes, got {self.burst_length}")


@dataclass(slots=True)
class Counts:
    """What was done to one direction. A byte that two faults hit counts for both.

    Attributes:
        received: bytes that were pushed in.
        delivered: bytes that were pulled out.
        errors: bytes of which one bit was flipped.
        dropped: bytes lost one by one.
        bursts: bursts that began.
        burst_spoiled: bytes that were spoiled in them.
        burst_lost: bytes that were lost in them.
        noise: bytes that nobody sent.
        cleared: bytes that were under way when the line was cleared.
    """

    received: int = 0
    delivered: int = 0
    errors: int = 0
    dropped: int = 0
    bursts: int = 0
    burst_spoiled: int = 0
    burst_lost: int = 0
    noise: int = 0
    cleared: int = 0

    def as_data(self) -> dict[str, int]:
        """Return them by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


class _Faults:
    """The numbers of the bytes that one kind of fault hits, in order.

    Only `random()` is asked: Python promises that its sequence stays the same from version to version.
    """

    def __init__(self, rate: float, seed: str) -> None:
        self._rate = rate
        self._random = Random(seed)  # noqa: S311 - no secret
        self.next = self._gap()

    def pass_by(self, count: int = 1) -> None:
        """Go to the next fault that begins at least `count` bytes behind this one."""
        self.next += count + self._gap()

    def draw(self, choices: int) -> int:
        """Return a number below `choices`."""
        return int(self._random.random() * choices)

    def _gap(self) -> int:
        """Return how many bytes are spared: at least n with the probability (1 - rate) ** n."""
        if self._rate == 0:
            return NEVER
        if self._rate == 1:
            return 0
        return int(min(math.log(1 - self._random.random()) / math.log1p(-self._rate), NEVER))


class Spoiler:
    """Applies the faults of one direction to its bytes, which come in any pieces."""

    def __init__(self, faults: LineFaults, seed: str) -> None:
        self.counts = Counts()
        self._length = faults.burst_length
        self._errors, self._drops, self._bursts, self._noise = (
            _Faults(getattr(faults, name), f"{seed}/{name}") for name in ("errors", "drops", "bursts", "noise")
        )
        self._mask: bytes | None = None
        """What the present burst is spoiled with, or None where its bytes are lost."""
        self._burst_end = 0

    def spoil(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Return what comes out of the next bytes: runs of bytes, and with which byte of `data` each run begins."""
        start = self.counts.received
        end = start + len(data)
        self.counts.received = end
        kinds = (self._errors, self._drops, self._bursts, self._noise)
        if self._burst_end <= start and min(kind.next for kind in kinds) >= end:
            return iter([(0, data)] if data else [])
        spoiled = bytearray(data)
        lost = self._burst(spoiled, start, end)
        while self._errors.next < end:
            spoiled[self._errors.next - start] ^= 1 << self._errors.draw(8)
            self.counts.errors += 1
            self._errors.pass_by()
        while self._drops.next < end:
            lost.append((self._drops.next - start, self._drops.next - start + 1))
            self.counts.dropped += 1
            self._drops.pass_by()
        extra = []
        while self._noise.next < end:
            extra.append((self._noise.next - start, self._noise.draw(256)))
            self.counts.noise += 1
            self._noise.pass_by()
        return _runs(bytes(spoiled), sorted(lost), extra)

    def _burst(self, spoiled: bytearray, start: int, end: int) -> list[tuple[int, int]]:
        """Spoil what bursts spoil, and return the stretches that they lose."""
        lost = []
        at = start
        while True:
            if at < self._burst_end:
                until = min(end, self._burst_end)
                if self._mask is None:
                    lost.append((at - start, until - start))
                    self.counts.burst_lost += until - at
                else:
                    left = self._mask[len(self._mask) - (self._burst_end - at) :]
                    for index, mask in zip(range(at - start, until - start), left, strict=False):
                        spoiled[index] ^= mask
                    self.counts.burst_spoiled += until - at
            if self._bursts.next >= end:
                return lost
            at = self._bursts.next
            self._burst_end = at + self._length
            lose = self._bursts.draw(2)
            self._mask = None if lose else bytes(1 + self._bursts.draw(255) for _ in range(self._length))
            self.counts.bursts += 1
            self._bursts.pass_by(self._length)


def _runs(data: bytes, lost: list[tuple[int, int]], extra: list[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    """Yield what stays of `data` without the stretches that are lost, and with bytes before others."""
    at = 0
    lost.append((len(data), len(data)))
    noise = deque(extra)
    for gone, back in lost:
        while noise and noise[0][0] < max(gone, back):
            place, byte = noise.popleft()
            if at < min(place, gone):
                yield at, data[at : min(place, gone)]
                at = min(place, gone)
            yield place, bytes([byte])
        if at < gone:
            yield at, data[at:gone]
        at = max(at, back)
