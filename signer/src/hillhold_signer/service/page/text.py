"""Texts of the page: what came from elsewhere made harmless, times, sizes and hashes.

Everything that a template puts out goes through `harmless` (the environment's `finalize`), and is escaped after that. So no template can
forget it.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from hillhold_signer.plain import plain
from hillhold_verifier.times import show_span, show_time

MAX_MARKS: Final = 2
"""Marks on one letter; more of them would be drawn over the lines above and below."""
_PIECE: Final = re.compile(".{1,8}")


@dataclass(frozen=True, slots=True)
class Moment:
    """A time: for machines, for people, and how far away it is."""

    iso: str
    text: str
    ago: str


def moment(seconds: int, now: int) -> Moment:
    """Return a time (Unix seconds) as it is shown at `now`."""
    iso = show_time(seconds)
    text = iso.replace("T", " ").removesuffix(":00Z").removesuffix("Z") + " UTC" if iso.endswith("Z") else iso
    if seconds > now:
        return Moment(iso, text, f"in {show_span(seconds - now)}")
    return Moment(iso, text, f"{show_span(now - seconds)} ago" if seconds < now else "now")


def harmless(value: object) -> object:
    """Return what a template may put out: a text as `plain` shows it, without heaps of marks; anything else as it is."""
    if not isinstance(value, str) or hasattr(value, "__html__"):  # a macro's, in which each text was made so
        return value
    text = plain(value)
    return text if text.isascii() else _thinned(text)


def pieces(text: str) -> list[str]:
    """Return a hash or path in parts between which a line may break."""
    return _PIECE.findall(str(harmless(text)))


def size(count: int) -> str:
    """Return a number of bytes as people say it."""
    for unit, length in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count} byte{'' if count == 1 else 's'}"


def _thinned(text: str) -> str:
    found, marks = [], 0
    for char in text:
        marks = marks + 1 if unicodedata.combining(char) or unicodedata.category(char) == "Me" else 0
        found.append(char if marks <= MAX_MARKS else char.encode("unicode_escape").decode())
    return "".join(found)
