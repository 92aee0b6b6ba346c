"""Dates have one form: digits of other scripts, which `\\d` and strptime know, are refused."""

import pytest

from hillhold_verifier.errors import MetadataError
from hillhold_verifier.metadata import parse_time


@pytest.mark.parametrize("text", ["２０２７-01-01T00:00:00Z", "٢٠٢٧-01-01T00:00:00Z"])
def test_only_ascii_digits(text: str) -> None:
    with pytest.raises(MetadataError):
        parse_time(text)
