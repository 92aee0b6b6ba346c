"""The benchmark of the serial link reaches its aims: in virtual time, so whatever else the machine does."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from hillhold_verifier.framing import Transport

SEEDS = 10


@pytest.fixture(scope="module")
def link() -> Any:
    """The benchmark, which is a script."""
    spec = spec_from_file_location("serial_line", Path(__file__).with_name("serial_line.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("transport", list(Transport))
def test_a_clean_line_is_used(link: Any, transport: Transport) -> None:
    share, resent = link.one(transport, 0.0, 0)
    assert share >= link.AIMS["clean"][transport.value]
    assert resent == 0


@pytest.mark.slow
@pytest.mark.parametrize("transport", list(Transport))
def test_a_bad_line_is_used(link: Any, transport: Transport) -> None:
    found = [link.one(transport, link.ERRORS, seed) for seed in range(SEEDS)]
    assert None not in found
    # The aim is for the mean of a thousand runs; that of ten scatters.
    assert fmean(share for share, _ in found) >= 0.95 * link.AIMS["errors"][transport.value]


def test_a_board_holds_no_more_than_it_says(link: Any) -> None:
    for counts in link.memory().values():
        assert 0 < max(counts.values()) == counts["bound"]


def test_a_missed_aim_is_told(link: Any) -> None:
    names = [transport.value for transport in Transport]
    values: dict[str, Any] = {
        "clean": dict.fromkeys(names, 1.0),
        "errors": {name: {"share": 1.0, "failed": 0} for name in names},
        "memory": {"agent": {"raw": 5, "bound": 5}},
        "smpmgr": None,
    }
    assert link.missed(values) == []
    values["clean"]["cobs"], values["errors"]["raw"]["failed"], values["memory"]["agent"]["raw"] = 0.5, 2, 6
    assert link.missed(values) == [
        "clean cobs: 0.500, and the aim is 0.95",
        "raw: 2 failed",
        "the agent held 6 of 5",
    ]
