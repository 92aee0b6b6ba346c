"""One folder of repositories for all tests of the commands."""

from __future__ import annotations

import time

import pytest

from lab import Lab


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"), int(time.time()))


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Releases so large that a push can be interrupted."""
    return Lab(tmp_path_factory.mktemp("large"), int(time.time()), 200_000)
