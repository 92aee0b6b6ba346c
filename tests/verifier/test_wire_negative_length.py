"""`inflate` never makes more than one byte beyond `length`; to zlib a limit of 0 means none, so a negative length is refused first."""

import tracemalloc

import pytest

from hillhold_verifier.errors import WireError
from hillhold_verifier.wire import deflate, inflate


@pytest.mark.slow
def test_a_negative_length_is_refused_before_anything_is_made() -> None:
    bomb = deflate(b"\0" * 50_000_000, b"")
    tracemalloc.start()
    try:
        with pytest.raises(WireError, match="at least 0"):
            inflate(bomb, b"", -1)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
