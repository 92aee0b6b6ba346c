"""What a campaign would do, in words: to which board, how long, what it leaves behind, and what cannot be undone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from hillhold_bootsim.lab.broken import BOARDS
from hillhold_bootsim.lab.campaign import ItemOrder, Order, firmware_of
from hillhold_bootsim.lab.conduct import AttackWork, works_of
from hillhold_bootsim.lab.house import FIRMWARE
from hillhold_bootsim.lab.operations import NO_OPERATIONS
from hillhold_bootsim.uart import BITS_PER_BYTE

MOST: Final = 10
"""Seconds of a real board's update beside its bytes: a reset, an exchange of images, a trial."""
SILENT: Final = 6
"""Seconds of an attack beside its updates: messages that get no answer."""
CODED: Final = 1.5
"""Bytes on the line for each of an image: base64, frames, answers."""
VIRTUAL: Final = 0.1
"""Seconds of a case, or of an update, on a virtual board."""
PERMANENT: Final = (
    "the image that ran before is gone from both slots, and the lab's releases take its place",
    "floors of metadata rise with every release, and the security counter is at least 1: older firmware of its maker may be refused",
    "the board trusts the lab's root, whose keys everybody has who knows the seed: it must never go to a user",
)


def updates_of(order: Order) -> int:
    """Return how many updates a real item goes through, about."""
    return sum(line.updates for line in order.lines) + 2 * order.cuts.spread + order.soak + 2 * len(order.attacks)


def seconds_of(order: Order, item: ItemOrder) -> float:
    """Return how long an item takes, about; cuts at flash operations are not in it."""
    if item.is_virtual:
        return VIRTUAL * (updates_of(order) - len(order.attacks))
    size = len(firmware_of(order, item)) or FIRMWARE
    update = MOST + size * CODED * BITS_PER_BYTE / item.baud
    slow = sum(line.updates * size * CODED * BITS_PER_BYTE / line.baud for line in order.lines)
    return update * updates_of(order) + slow + SILENT * len(order.attacks) + order.cuts.spread * order.cuts.seconds


def leaves_of(order: Order) -> list[str]:
    """Return what the cases leave behind, each once."""
    return list(dict.fromkeys(work.case.leaves for work in works_of(order) if work.case.leaves))


def plan_value(order: Order) -> dict[str, Any]:
    """Return the plan as data."""
    return {
        "title": order.title,
        "items": [
            {
                "item": item.name,
                "kind": "virtual" if item.is_virtual else "serial" if item.port else "adapter",
                "where": item.board or item.port or item.adapter,
                "power": item.power.told if item.power else None,
                "updates": updates_of(order),
                "seconds": round(seconds_of(order, item)),
            }
            for item in order.items
        ],
        "cases": [{"id": work.case.id, "sentence": work.case.sentence} for work in works_of(order)],
        "excluded": dict(order.excluded),
        "leaves": leaves_of(order),
        "permanent": [] if all(item.is_virtual for item in order.items) else list(PERMANENT),
    }


def plan_lines(order: Order) -> Iterator[str]:
    """Return the plan in lines."""
    yield f"{order.title}: {len(works_of(order))} cases on {len(order.items)} item{'s' if len(order.items) > 1 else ''}"
    if order.selfcheck:
        yield f"first the tool's validation of itself, on {len(BOARDS)} boards that are broken on purpose, or right"
    for item in order.items:
        yield from _item_lines(order, item)
    yield "on each, in this order:"
    for work in works_of(order):
        if not isinstance(work, AttackWork):
            yield f"  {work.case.id}: {work.case.sentence}"
    groups = Counter(AttackWork(attack).case.group for attack in order.attacks)
    if groups:
        yield f"  {len(order.attacks)} attacks: " + ", ".join(f"{count} {group}" for group, count in groups.items())
    for case, reason in order.excluded.items():
        yield f"  left out: {case}: {reason}"
    real = [item.name for item in order.items if not item.is_virtual]
    if real:
        yield f"what stays on {', '.join(real)}, and cannot be undone:"
        yield from (f"  {text}" for text in (*PERMANENT, *leaves_of(order)))


def _item_lines(order: Order, item: ItemOrder) -> Iterator[str]:
    time = _time(seconds_of(order, item))
    if item.is_virtual:
        again = " and cuts at flash operations" if order.cuts.depth else ""
        yield f"{item.name}: virtual board {item.board}, another one for each case; about {time} of one CPU{again}"
        return
    where = f"port {item.port}" if item.port else f"adapter {item.adapter}"
    yield f"{item.name}: REAL board on {where}; about {updates_of(order)} updates, about {time}"
    if item.power:
        yield f"  its power is switched by {item.power.told}"
    elif order.cuts.spread and not item.adapter:
        yield "  no power cuts: nothing switches its power"
    if order.cuts.depth:
        yield f"  no cuts at flash operations: {NO_OPERATIONS}"


def _time(seconds: float) -> str:
    for name, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {name}"
    return f"{max(seconds, 1):.0f} s"
