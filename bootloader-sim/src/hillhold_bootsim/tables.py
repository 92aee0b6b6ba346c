"""Tables of a TOML file, read strictly: every entry is taken once, each of its type, and what is left over is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, Protocol, TypeVar

MAX_TEXT: Final = 200

T = TypeVar("T")


class Refuse(Protocol):
    """Makes the error of a file."""

    def __call__(self, what: str, /, *, expected: object, got: object) -> Exception:
        """Say where, what was expected, and what came."""


class Table:
    """A table of a file.

    Args:
        value: as `tomllib` reads it.
        what: what errors call it.
        refuse: makes them; all methods raise what it returns.
    """

    def __init__(self, value: Mapping[str, object], what: str, refuse: Refuse) -> None:
        self._left, self.what, self._refuse = dict(value), what, refuse

    def has(self, name: str) -> bool:
        """It is there, and was not taken yet."""
        return name in self._left

    def number(self, name: str, low: int = 0, high: int = 2**32 - 1, default: int | None = None) -> int:
        """Take an integer; where it is not there, the default."""
        if default is not None and name not in self._left:
            return default
        expected = f"an integer from {low} to {high}" if low != high else str(low)
        value = self._take(name, int, expected)
        if not low <= value <= high:
            # Hexadecimal: decimal digits beyond a few thousand are an error of their own.
            raise self.error(name, expected, f"{value:#x}"[:40] if abs(value) > 2**32 else value)
        return value

    def fraction(self, name: str, high: float = 1.0, default: float = 0.0) -> float:
        """Take a number from 0 to `high`; where it is not there, the default."""
        expected = f"a number from 0 to {high:g}"
        value = self._left.pop(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= high:
            raise self.error(name, expected, repr(value)[:80])
        return float(value)

    def flag(self, name: str) -> bool:
        """Take true or false; where it is not there, false."""
        return self._take(name, bool, "true or false") if name in self._left else False

    def text(self, name: str, most: int = MAX_TEXT, default: str | None = None) -> str:
        """Take a text that is not empty; where it is not there, the default."""
        if default is not None and name not in self._left:
            return default
        expected = f"a text of 1 to {most} printable characters"
        value = self._take(name, str, expected)
        if not 0 < len(value) <= most or not value.isprintable():
            raise self.error(name, expected, repr(value)[:80])
        return value

    def matching(self, name: str, pattern: re.Pattern[str], most: int) -> str:
        """Take a text of a form."""
        expected = f"a name of up to {most} characters, {pattern.pattern}"
        value = self._take(name, str, expected)
        if len(value) > most or not pattern.fullmatch(value):
            raise self.error(name, expected, repr(value)[:80])
        return value

    def one_of(self, name: str, known: Iterable[str]) -> str:
        """Take one of these texts."""
        expected = " or ".join(known)
        value = self._take(name, str, expected)
        if value not in known:
            raise self.error(name, expected, repr(value)[:80])
        return value

    def texts(self, name: str, *, most: int, least: int = 0) -> list[str]:
        """Take a list of texts; where it is not there, and may be empty, an empty one."""
        expected = f"a list of {least} to {most} texts" if least else f"a list of up to {most} texts"
        value = self._take(name, list, expected) if name in self._left or least else []
        right = all(isinstance(item, str) and item and item.isprintable() for item in value)
        if not least <= len(value) <= most or not right:
            raise self.error(name, expected, repr(value)[:80])
        return value

    def table(self, name: str) -> Table:
        """Take a table."""
        return Table(self._take(name, dict, "a table"), f"{self.what}: {name}", self._refuse)

    def tables(self, name: str) -> list[Table]:
        """Take a list of tables, not empty."""
        expected = "a list of tables, not empty"
        value = self._take(name, list, expected)
        if not value or not all(isinstance(item, dict) for item in value):
            raise self.error(name, expected, repr(value)[:80])
        return [Table(item, f"{self.what}: {name} {at}", self._refuse) for at, item in enumerate(value)]

    def end(self) -> None:
        """Refuse what was not taken."""
        if self._left:
            raise self._refuse(self.what, expected="keys that there are", got=repr(sorted(self._left)[0])[:80])

    def error(self, name: str, expected: str, got: object) -> Exception:
        """Return the error about one entry."""
        return self._refuse(f"{self.what}: {name}", expected=expected, got=got)

    def _take(self, name: str, kind: type[T], expected: str) -> T:
        if name not in self._left:
            raise self.error(name, expected, "none")
        value = self._left.pop(name)
        if type(value) is not kind:  # a bool is no integer
            raise self.error(name, expected, f"{type(value).__name__} {value!r}"[:80])
        return value
