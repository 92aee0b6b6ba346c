"""Text from elsewhere as people may be shown it, in a terminal or on a page."""

from __future__ import annotations

from typing import Final

_BLANK: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
"""Letters and marks that show as nothing."""


def plain(text: str) -> str:
    """One printable line, in which what does not show, or looks like a space, is written as an escape.

    What is shown must not move the cursor, forge another line, turn the direction of reading, or look like another name.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if _shows(char) else char.encode("unicode_escape").decode() for char in text)


def _shows(char: str) -> bool:
    """`str.isprintable` excludes controls, format characters (direction, zero width), separators and unassigned ones."""
    return (
        char.isprintable()
        and char not in _BLANK
        and not "\ufe00" <= char <= "\ufe0f"
        and not "\U000e0100" <= char <= "\U000e01ef"
    )
