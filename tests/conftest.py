"""What all tests share: property tests try the same examples in every run, so that a red run is red for everyone."""

from __future__ import annotations

import pytest
from hypothesis import settings

SLOW = ("e2e", "interop", "service")
"""Folders of tests that start commands, other people's programs, or servers."""

settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave what starts other programs out of the inner loop."""
    for item in items:
        if item.path.parent.name in SLOW:
            item.add_marker(pytest.mark.slow)
