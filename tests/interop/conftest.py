"""One folder of repositories, with small images, for all tests that run boards as processes."""

from __future__ import annotations

import time

import pytest

from lab import Lab


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"), int(time.time()), 6000)
