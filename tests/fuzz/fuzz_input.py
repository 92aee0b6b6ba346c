"""Takes decisions out of a fuzzer's bytes: whatever they are, they mean something, and a small change of them is a small change of that."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

T = TypeVar("T")
Way = tuple[str | int, ...]

NUMBERS: Final = (0, 1, 2, 3, 255, 256, 65_535, 2**31, 2**32 - 1, 2**32, 2**53 - 1, 2**53, 2**63 - 1, 2**63, 2**64 - 1)
TEXTS: Final = (
    *("", "app", "pump", "root", "timestamp", "snapshot", "targets", "sha256", "sha512", "nrf-a", "ed25519", "ecdsa"),
    *("ecdsa-sha2-nistp256", "rsassa-pss-sha256", "ml-dsa-65/1", "1.0.0", "1.1.0", "2.0.0+7", "pump/1.1.0/app.bin"),
    *(
        "pump/*/*",
        "../pump",
        "pump/../x",
        "a/b/c",
        "2026-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "\0",
        "é",
        "x" * 300,
    ),
)
"""What the formats have a meaning for, or nearly."""


class Input:
    """The bytes of one run, from the front; what is asked of an empty rest is 0 or nothing."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def byte(self) -> int:
        return self.chunk(1)[0] if self else 0

    def below(self, limit: int) -> int:
        """A number from 0 to `limit` - 1, at most 65,535."""
        return (self.byte() if limit <= 256 else int.from_bytes(self.chunk(2))) % limit

    def pick(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]

    def chunk(self, length: int) -> bytes:
        """At most `length` bytes as they are."""
        found = self._data[self._at : self._at + length]
        self._at += len(found)
        return found

    def rest(self) -> bytes:
        return self.chunk(len(self._data))

    def text(self) -> str:
        """One that means something, or a few characters of any kind."""
        length = self.below(len(TEXTS) + 24)
        return TEXTS[length] if length < len(TEXTS) else self.chunk(length - len(TEXTS)).decode("latin-1")

    def number(self) -> int:
        kind = self.byte()
        size = NUMBERS[kind % len(NUMBERS)] if kind < 128 else int.from_bytes(self.chunk(1 + kind % 4))
        return size if kind % 4 else -size

    def value(self, *, raw: bool, depth: int = 2) -> object:
        """What JSON can hold but floats; byte strings and floats too with `raw`, as CBOR can."""
        kind = self.below(8 if raw else 6)
        match kind:
            case 0:
                return (None, True, False)[self.below(3)]
            case 1 | 2:
                return self.number()
            case 3:
                return self.text()
            case 4 | 5 if depth:
                items = [self.value(raw=raw, depth=depth - 1) for _ in range(self.below(4))]
                return items if kind == 4 else {self.text(): item for item in items}
            case 6:
                return self.chunk(self.below(40))
            case 7:
                return float(self.number())
        return ""


def places(value: object, way: Way = ()) -> Iterator[Way]:
    """Every place within a value, outermost first."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield (*way, name)
        yield from places(item, (*way, name))


def at(value: object, way: Way) -> object:
    """Return what is at a place of a value."""
    for name in way:
        value = value[name]  # type: ignore[index]
    return value


def put(value: object, way: Way, item: object) -> None:
    """Replace what is at a place of a value."""
    at(value, way[:-1])[way[-1]] = item  # type: ignore[index]


def drop(value: object, way: Way) -> None:
    """Remove what is at a place of a value."""
    del at(value, way[:-1])[way[-1]]  # type: ignore[attr-defined]


def altered(source: Input, value: object, *, raw: bool) -> None:
    """Change a value, in place, at one place that the fuzzer chooses: another value there, none, or one from elsewhere in it."""
    ways = list(places(value))
    if not ways:
        return
    way = ways[source.below(len(ways))]
    match source.below(3):
        case 0:
            put(value, way, source.value(raw=raw))
        case 1:
            drop(value, way)
        case _:
            other = ways[source.below(len(ways))]
            if other[: len(way)] != way and way[: len(other)] != other:
                put(value, way, copy.deepcopy(at(value, other)))
