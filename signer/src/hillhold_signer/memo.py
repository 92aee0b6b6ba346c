"""Results that are kept for as long as there is room: of functions whose arguments say all."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class Memo(Generic[V]):
    """Keeps results by key; those that nobody has asked for the longest go. For all threads of a process.

    Args:
        limit: what all that is kept may weigh, in whatever unit `get` is told weights.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._kept: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, key: Hashable, weight: int, make: Callable[[], V]) -> V:
        """Return what is kept for a key, or what `make` makes, which raises what it does."""
        with self._guard:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
        made = make()
        with self._guard:
            if key not in self._kept:
                self._kept[key] = made, weight
                self._size += weight
            while self._size > self._limit:
                self._size -= self._kept.popitem(last=False)[1][1]
        return made
