"""The state in two records (DESIGN §4, "State"), by itself: cuts before, in and after each step, and again in the recovery.

Does a reader always find the old value or the new one, and never less than what was acted on?
"""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

Record: TypeAlias = tuple[int, int] | None
"""Sequence number and value; None is erased or torn."""

MOST_WRITES = 6


class Place(Enum):
    """Which of the two records a writer overwrites."""

    NOT_THE_ONE_READ = "the one that was not read"
    BY_PARITY = "the one that the sequence number's parity names"
    THE_FIRST = "always the first"


def explore(place: Place) -> tuple[int, str]:
    """Return the number of states and what is wrong in one of them, or "" where it holds."""
    start: tuple[tuple[Record, Record], int] = (((1, 0), None), 0)  # both records, and the value that was acted on
    seen, todo = {start}, [start]
    while todo:
        records, acted_on = todo.pop()
        readable = [record for record in records if record]
        if not readable:
            return len(seen), "P3 no readable record"
        newest = max(readable)
        if newest[1] < acted_on:
            return len(seen), "P6 an accepted value was lost"
        if newest[0] > MOST_WRITES:
            continue
        at = _place(place, newest, records.index(newest))
        written = (newest[0] + 1, min(newest[1] + 1, 3))
        for step in (None, written):  # erased or half programmed reads as nothing; then whole
            after = (step, records[1]) if at == 0 else (records[0], step)
            for truth in {acted_on, written[1]} if step else {acted_on}:  # acted on only once it is whole
                if (state := (after, truth)) not in seen:
                    seen.add(state)
                    todo.append(state)
    return len(seen), ""


def _place(place: Place, newest: tuple[int, int], read: int) -> int:
    match place:
        case Place.NOT_THE_ONE_READ:
            return 1 - read
        case Place.BY_PARITY:
            return newest[0] % 2
        case Place.THE_FIRST:
            return 0
