"""A target's content as it comes, in pieces of any size."""

from __future__ import annotations

from hashlib import sha256

import pytest

from hillhold_verifier.content import ContentCheck
from hillhold_verifier.errors import MismatchError


def test_content_in_pieces_is_what_was_signed_once_it_is_whole() -> None:
    check = ContentCheck("x", 6, {"sha256": sha256(b"signed").digest()})
    for data in (b"sig", b"", b"ned"):
        check.feed(data)
    check.finish()


@pytest.mark.parametrize("data", [b"d!", b"d" * 10_000])
def test_more_than_was_signed_is_refused_as_it_comes(data: bytes) -> None:
    """Whoever stores what comes would fill his disk, did it wait for the end (TUF 5.7.2: at most the listed length)."""
    check = ContentCheck("x", 6, {"sha256": sha256(b"signed").digest()})
    check.feed(b"signe")
    with pytest.raises(MismatchError, match="length of x: expected 6, got more"):
        check.feed(data)


def test_less_than_was_signed_is_refused_at_the_end() -> None:
    check = ContentCheck("x", 6, {"sha256": sha256(b"signed").digest()})
    check.feed(b"signe")
    with pytest.raises(MismatchError, match="length of x: expected 6, got 5"):
        check.finish()
