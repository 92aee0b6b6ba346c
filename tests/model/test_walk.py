"""Every short history, on the model and on the real code: the same verdict at each step, and nothing else is accepted.

`make model` goes deeper. The last tests show that a difference is found.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from hillhold_bootsim import bootloader
from hillhold_bootsim.layout import Layout
from hillhold_verifier import trust
from hillhold_verifier.installer import Installer
from trustmodel.driven import DRIVEN, WHOLE, Driven
from trustmodel.replay import Replay
from trustmodel.twin import LAYOUT, SWAPPING
from trustmodel.walk import DifferenceError, Walk

BY_NAME = {each.name: each for each in DRIVEN}


MODES = pytest.mark.parametrize("layout", [LAYOUT, SWAPPING], ids=lambda layout: layout.mode.value)


@pytest.mark.slow
@MODES
@pytest.mark.parametrize("driven", DRIVEN, ids=lambda driven: driven.name)
def test_the_real_code_gives_the_models_verdict_at_each_step(driven: Driven, layout: Layout) -> None:
    done = Walk(driven.config, layout).run(driven.quick)
    assert done.whole == (driven.quick == WHOLE)
    assert 20 < done.steps < done.refused


@pytest.mark.slow
@MODES
@pytest.mark.parametrize("driven", [each for each in DRIVEN if each.cut], ids=lambda driven: driven.name)
def test_a_cut_at_any_flash_operation_leaves_what_the_model_knows(driven: Driven, layout: Layout) -> None:
    assert Walk(driven.config, layout).run(driven.cut, cuts=True).cuts > 500


@MODES
@pytest.mark.parametrize("seed", range(4))
def test_a_long_history_on_one_device(seed: int, layout: Layout) -> None:
    """Sessions and transfers that no restart interrupts."""
    driven = DRIVEN[seed % 4]
    replay = Replay(driven.config, layout)
    assert replay.wander(seed, 40) < 40
    assert replay.honest() in ("r1", "rd", "r2", "r3")


# --- a difference is found


def test_a_device_that_forgets_a_floor_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "_check_floor", lambda *_: 0)
    with pytest.raises(DifferenceError, match="deliver"):
        Walk(BY_NAME["time-and-grace"].config).run(3)


def test_a_device_that_keeps_a_withdrawn_mark_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Installer, "_clear_withdrawn", lambda *_: None)
    with pytest.raises(DifferenceError, match="phase"):
        Walk(replace(BY_NAME["life"].config, acts=(("r2", 1), ("withdraw", 1)), partial_uploads=False)).run(12)


def test_a_bootloader_that_does_not_count_starts_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootloader.Bootloader, "max_starts", 2)
    with pytest.raises(DifferenceError, match="power cut/reset"):
        Walk(BY_NAME["bad-release"].config).run(12)


def test_a_model_with_a_laxer_rule_is_found() -> None:
    driven = BY_NAME["downgrade"]
    rules = driven.config.rules - {"no-pingpong"}
    with pytest.raises(DifferenceError, match="choice"):
        Walk(replace(driven.config, rules=rules)).run(7)
