"""Text from elsewhere as a report may show it: what does not show, or turns the direction of reading, is written as an escape."""

from __future__ import annotations

from hillhold_signer.plain import plain


def one_line(text: str) -> str:
    """Return text on one line."""
    return plain(text.replace("\r\n", "\n").replace("\n", " "))


def lines(text: str) -> list[str]:
    """Return the lines of a text, tabs as spaces."""
    return [plain(line.expandtabs(4)) for line in text.replace("\r\n", "\n").rstrip("\n").split("\n")]
