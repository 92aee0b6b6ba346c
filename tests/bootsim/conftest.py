"""Fixtures: small boards of every shape (`tinyboard`)."""

from __future__ import annotations

import pytest

from hillhold_bootsim.layout import Layout
from tinyboard import SHAPES, Rig


@pytest.fixture(params=SHAPES)
def layout(request: pytest.FixtureRequest) -> Layout:
    """Every shape of board, in both boot modes."""
    return SHAPES[request.param]


@pytest.fixture
def rig(layout: Layout) -> Rig:
    return Rig(layout)
