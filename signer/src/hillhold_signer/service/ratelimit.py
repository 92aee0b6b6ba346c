"""Rate limits: token buckets by name (a principal, an address), in bounded memory. Each replica counts for itself."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from typing import Final

SIZE: Final = 10_000
"""Buckets that are kept. Beyond, the one that was not used for longest is forgotten, and is full again."""


class Limiter:
    """Buckets of `burst` units that fill again by `rate` a second.

    Args:
        rate: units a second, above 0.
        burst: units at most, at least 1.
        size: buckets to keep.
    """

    def __init__(self, rate: float, burst: float, size: int = SIZE) -> None:
        if not (rate > 0 and burst >= 1 and size >= 1):
            raise ValueError("a rate above 0, and a burst and size of at least 1")
        self._rate, self._burst, self._size = rate, burst, size
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, name: str, now: float) -> int:
        """Take a unit, and return 0; or take none, and return the whole seconds until there is one.

        Args:
            name: of the bucket.
            now: monotonic seconds.
        """
        with self._lock:
            level = self._level(name, now)
            wait = self._wait(level)
            self._buckets[name] = (level if wait else level - 1, now)
            self._buckets.move_to_end(name)
            if len(self._buckets) > self._size:
                self._buckets.popitem(last=False)
            return wait

    def wait(self, name: str, now: float) -> int:
        """Return what `take` would, and take nothing."""
        with self._lock:
            return self._wait(self._level(name, now))

    def _level(self, name: str, now: float) -> float:
        level, since = self._buckets.get(name, (self._burst, now))
        return min(self._burst, level + max(0.0, now - since) * self._rate)

    def _wait(self, level: float) -> int:
        return 0 if level >= 1 else max(1, math.ceil((1 - level) / self._rate))


class Flood:
    """Bounds how many like events go into the log: `most` in `window` seconds, and then one that counts the others.

    Nobody can fill the log with failed logins, and that they were tried is not lost.
    """

    def __init__(self, most: int = 20, window: float = 60) -> None:
        self._most, self._window = most, window
        self._since, self._written, self._held = float("-inf"), 0, 0
        self._lock = threading.Lock()

    def take(self, now: float) -> tuple[bool, int]:
        """Say whether an event of now is recorded itself, and how many others, that were not, are to be recorded as a number with it."""
        with self._lock:
            held = self._turn(now)
            if self._written < self._most:
                self._written += 1
                return True, held
            self._held += 1
            return False, held

    def drain(self, now: float, *, all_: bool = False) -> int:
        """Return how many were not recorded, once their window is over (`all_`: at once). Call it now and then, and at the end."""
        with self._lock:
            held = self._turn(now)
            if all_:
                held, self._held = held + self._held, 0
            return held

    def _turn(self, now: float) -> int:
        if now - self._since < self._window:
            return 0
        held, self._held = self._held, 0
        self._since, self._written = now, 0
        return held


def bucket_of(address: str) -> str:
    """Return the bucket of a remote address: of IPv6, its /64, since that is what one host gets."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if not isinstance(found, IPv6Address):
        return str(found)
    return str(found.ipv4_mapped or IPv6Address(int(found) >> 64 << 64)) + ("" if found.ipv4_mapped else "/64")
