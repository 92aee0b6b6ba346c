"""The bootloader's rules, one by one: legitimate update, then every way in which a slot is not booted."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import pytest

from hillhold_bootsim.bootloader import MAX_TRIAL_STARTS, BootOutcome, ResetReason
from hillhold_bootsim.flash import Faults
from hillhold_verifier.errors import OperationalError
from hillhold_verifier.slots import BootFlags, Mark
from tinyboard import Rig, mark_of, sign, tiny

if TYPE_CHECKING:
    from hillhold_bootsim.layout import Layout

RESETS = [ResetReason.POWER_ON, ResetReason.SOFT]
FAILURES = [ResetReason.WATCHDOG, ResetReason.SELF_TEST]


@pytest.fixture
def old() -> bytes:
    return sign("1.0.0", 1)


@pytest.fixture
def new() -> bytes:
    return sign("2.0.0", 2, payload=b"newer firmware" * 35)


@pytest.fixture
def board(rig: Rig, old: bytes, new: bytes) -> Rig:
    """A board that runs `old` from slot 0, with `new` whole in slot 1."""
    rig.install(0, old)
    rig.provision(0)
    rig.install(1, new)
    outcome = rig.boot()
    assert (slot_of(outcome), outcome.trial, outcome.events) == (0, False, ())
    return rig


def slot_of(outcome: BootOutcome) -> int | None:
    return outcome.booted.slot if outcome.booted else None


def test_a_confirmed_image_boots_and_raises_the_counter_once(board: Rig, old: bytes) -> None:
    assert board.counter.value() == 1
    before = board.flash.operations
    outcome = board.boot()
    assert outcome.booted is not None
    assert outcome.booted.sha256 == hashlib.sha256(old).digest()
    assert str(outcome.booted.image.version) == "1.0.0"
    assert board.flash.operations == before, "a second boot changes nothing"
    assert board.control.flags() == BootFlags(running=0, confirmed=0)


def test_trial_then_confirmation_then_the_counter_follows(board: Rig, new: bytes) -> None:
    board.control.set_marks({0: mark_of(new)})
    outcome = board.boot(ResetReason.SOFT)
    assert (slot_of(outcome), outcome.trial, outcome.events) == (1, True, ())
    flags = board.control.flags()
    assert flags == BootFlags(running=1, confirmed=0, mark=mark_of(new), trial=True, starts=1)
    assert board.counter.value() == 1, "never before confirmation"

    board.control.confirm()
    assert board.counter.value() == 1, "flag first"
    outcome = board.boot()
    assert (slot_of(outcome), outcome.trial) == (1, False)
    assert board.counter.value() == 2
    assert board.control.flags() == BootFlags(running=1, confirmed=1)


def test_the_start_is_recorded_before_the_image_runs(board: Rig, new: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[tuple[int, ...], int]] = []
    started = board.control.started

    def spy(slots: Sequence[int]) -> None:
        seen.append((tuple(slots), board.record.starts))
        started(slots)

    board.control.set_marks({0: mark_of(new)})
    monkeypatch.setattr(board.control, "started", spy)
    board.boot()
    assert seen == [((), 0), ((1,), 1)]


@pytest.mark.parametrize("reason", RESETS)
def test_a_trial_that_lost_its_power_is_started_again_a_bounded_number_of_times(
    board: Rig, new: bytes, reason: ResetReason
) -> None:
    board.control.set_marks({0: mark_of(new)})
    for start in range(1, MAX_TRIAL_STARTS + 1):
        outcome = board.boot(reason)
        assert (slot_of(outcome), outcome.trial) == (1, True)
        assert board.control.flags().starts == start
    outcome = board.boot(reason)
    assert (slot_of(outcome), outcome.trial) == (0, False)
    assert f"started {MAX_TRIAL_STARTS} times" in outcome.events[0]
    assert board.control.flags() == BootFlags(running=0, confirmed=0), "the hash did not fail"
    assert board.counter.value() == 1


@pytest.mark.parametrize("reason", FAILURES)
def test_a_failed_test_reverts_and_is_recorded(board: Rig, new: bytes, reason: ResetReason) -> None:
    board.control.set_marks({0: mark_of(new)})
    board.boot()
    outcome = board.boot(reason)
    assert (slot_of(outcome), outcome.trial) == (0, False)
    assert reason.value in outcome.events[0]
    assert board.control.flags() == BootFlags(running=0, confirmed=0, failed=mark_of(new).sha256)
    before = board.snapshot()
    assert slot_of(board.boot()) == 0
    assert board.snapshot() == before


def test_a_failure_in_the_last_start_is_a_failure(board: Rig, new: bytes) -> None:
    board.control.set_marks({0: mark_of(new)})
    for _ in range(MAX_TRIAL_STARTS):
        board.boot()
    board.boot(ResetReason.WATCHDOG)
    assert board.control.flags().failed == mark_of(new).sha256


@pytest.mark.parametrize("reason", FAILURES)
def test_the_watchdog_of_the_confirmed_image_fails_no_mark(board: Rig, new: bytes, reason: ResetReason) -> None:
    board.control.set_marks({0: mark_of(new)})
    outcome = board.boot(reason)
    assert (slot_of(outcome), outcome.trial) == (1, True)
    assert board.control.flags().failed is None


def test_clearing_the_mark_ends_a_trial(board: Rig, new: bytes) -> None:
    board.control.set_marks({0: mark_of(new)})
    board.boot()
    board.control.clear_marks()
    outcome = board.boot()
    assert (slot_of(outcome), outcome.trial, outcome.events) == (0, False, ())
    assert board.control.flags() == BootFlags(running=0, confirmed=0)


# --- what is not booted --------------------------------------------------------------------------------------------------


def refused(board: Rig, words: str) -> None:
    """The mark is gone, nothing failed, the confirmed image runs, and the next boot changes nothing."""
    outcome = board.boot()
    assert (slot_of(outcome), outcome.trial) == (0, False)
    assert words in outcome.events[0]
    assert board.control.flags() == BootFlags(running=0, confirmed=0)
    assert board.counter.value() == 1
    before = board.snapshot()
    assert board.boot().events == ()
    assert board.snapshot() == before


def test_no_other_content_than_what_was_marked(board: Rig, new: bytes) -> None:
    board.control.set_marks({0: mark_of(new)})
    board.install(1, sign("2.0.1", 2))
    refused(board, "content of the marked slot")


def test_no_content_that_changed_during_its_trial(board: Rig, new: bytes) -> None:
    board.control.set_marks({0: mark_of(new)})
    assert board.boot().trial
    board.install(1, sign("2.0.1", 2))
    refused(board, "content of the marked slot")


def test_no_image_under_a_foreign_key(board: Rig) -> None:
    foreign = sign("2.0.0", 2, key="foreign")
    board.install(1, foreign)
    board.control.set_marks({0: mark_of(foreign)})
    refused(board, "image key")


@pytest.mark.parametrize("at", [20, 40, -1])
def test_no_damaged_image_even_if_it_was_marked_so(board: Rig, new: bytes, at: int) -> None:
    damaged = bytearray(new)
    damaged[at] ^= 1
    board.install(1, bytes(damaged))
    board.control.set_marks({0: mark_of(bytes(damaged))})
    refused(board, "image")


def test_no_image_that_is_not_all_that_was_marked(board: Rig, new: bytes) -> None:
    longer = new + b"tail"
    board.install(1, longer)
    board.control.set_marks({0: mark_of(longer)})
    refused(board, "length of the marked image")


def test_no_mark_beyond_the_slot(board: Rig, new: bytes) -> None:
    board.control.set_marks({0: Mark(mark_of(new).sha256, 2**31)})
    refused(board, "marked length")


@pytest.mark.parametrize("length", [1, 31])
def test_no_slot_that_holds_no_image(board: Rig, length: int) -> None:
    board.slots.erase(1, 0, board.slots.size)
    board.control.set_marks({0: mark_of(bytes([board.slots.erased_value]) * length)})
    refused(board, "image magic")


@pytest.mark.parametrize("counter", [0, None])
def test_no_lower_counter_than_the_store(board: Rig, counter: int | None) -> None:
    low = sign("2.0.0", counter)
    board.install(1, low)
    board.control.set_marks({0: mark_of(low)})
    refused(board, "security counter: expected at least 1, got 0")


def test_no_lower_counter_than_the_confirmed_image_while_the_store_lags(rig: Rig) -> None:
    """The power went between the confirmation and the counter: the floor is the confirmed image's already."""
    rig.install(0, sign("3.0.0", 5))
    low = sign("4.0.0", 4)
    rig.install(1, low)
    rig.provision(0)
    rig.control.set_marks({0: mark_of(low)})
    assert rig.counter.value() == 0
    outcome = rig.boot()
    assert slot_of(outcome) == 0
    assert "expected at least 5, got 4" in outcome.events[0]
    assert rig.counter.value() == 5


def test_the_same_counter_is_enough(board: Rig) -> None:
    same = sign("2.0.0", 1)
    board.install(1, same)
    board.control.set_marks({0: mark_of(same)})
    assert board.boot().trial


# --- recovery ------------------------------------------------------------------------------------------------------------


def in_recovery(board: Rig, words: str, confirmed: int | None = 0) -> None:
    before = board.snapshot()
    outcome = board.boot()
    assert outcome.booted is None
    assert not outcome.trial
    assert any(words in event for event in outcome.events)
    flags = board.control.flags()
    assert (flags.running, flags.confirmed, flags.trial) == (None, confirmed, False)
    assert board.snapshot() == before


def test_recovery_rather_than_an_image_that_does_not_verify(board: Rig) -> None:
    board.install(0, sign("1.0.0", 1, key="foreign"))
    in_recovery(board, "image key")


def test_recovery_rather_than_the_other_slot(board: Rig) -> None:
    """Slot 1 holds an authentic newer image, but nobody marked it."""
    board.slots.erase(0, 0, board.slots.sector)
    in_recovery(board, "image magic")


def test_recovery_rather_than_a_confirmed_image_below_the_store(board: Rig) -> None:
    board.counter.raise_to(2)
    in_recovery(board, "security counter: expected at least 2, got 1")


def test_recovery_on_a_blank_board_and_with_unreadable_flags(rig: Rig, old: bytes) -> None:
    rig.install(0, old)
    in_recovery(rig, "no confirmed image", confirmed=None)
    rig.flash.program(0, b"junk".ljust(rig.slots.unit))
    outcome = rig.boot()
    assert outcome.booted is None
    assert "boot flags: expected a readable record" in outcome.events[0]


def test_a_way_out_of_recovery_by_a_marked_image(board: Rig, new: bytes) -> None:
    board.slots.erase(0, 0, board.slots.sector)
    board.control.set_marks({0: mark_of(new)})
    outcome = board.boot()
    assert (slot_of(outcome), outcome.trial) == (1, True)
    board.control.confirm()
    assert slot_of(board.boot()) == 1


def test_a_failed_trial_without_a_way_back_is_recovery(board: Rig, new: bytes) -> None:
    board.slots.erase(0, 0, board.slots.sector)
    board.control.set_marks({0: mark_of(new)})
    board.boot()
    outcome = board.boot(ResetReason.WATCHDOG)
    assert outcome.booted is None
    assert board.control.flags() == BootFlags(running=None, confirmed=0, failed=mark_of(new).sha256)


def test_the_first_image_of_a_blank_board_goes_to_slot_0(rig: Rig, old: bytes) -> None:
    rig.install(0, old)
    rig.control.set_marks({0: mark_of(old)})
    outcome = rig.boot()
    assert (slot_of(outcome), outcome.trial) == (0, True)
    rig.control.confirm()
    assert rig.record == rig.at_rest(0)


def test_a_full_counter_store_bricks_no_board(layout: Layout, old: bytes, new: bytes) -> None:
    unit = layout.geometry.unit
    rig = Rig(tiny(layout.mode, unit, layout.geometry.erased_value, otp=max(8, unit)))
    rig.install(0, old)
    rig.install(1, new)
    rig.provision(0)
    rig.boot()
    rig.control.set_marks({0: mark_of(new)})
    rig.boot()
    rig.control.confirm()
    outcome = rig.boot()
    assert slot_of(outcome) == 1
    assert "all 1 entries are used" in outcome.events[0]
    rig.control.set_marks({0: mark_of(old)})
    outcome = rig.boot()
    assert slot_of(outcome) == 1, "the confirmed image's own counter is the floor"
    assert "expected at least 2, got 1" in outcome.events[0]


def test_a_failing_medium_is_not_taken_for_a_bad_image(board: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(slot: int, offset: int, length: int) -> NoReturn:
        raise OperationalError("the chip does not answer")

    monkeypatch.setattr(board.slots, "read", fail)
    before = board.snapshot()
    with pytest.raises(OperationalError, match="does not answer"):
        board.boot()
    assert board.snapshot() == before
    assert board.control.flags().running is None


def test_flags_that_cannot_be_written_stop_a_trial_and_not_the_confirmed_image(board: Rig, new: bytes) -> None:
    """A start that cannot be counted is none; what needs no write boots."""
    board.control.set_marks({0: mark_of(new)})
    g, flags = board.flash.geometry, board.layout.flags
    board.flash.faults = Faults(bad_sectors=frozenset(g.sector_at(area.offset) for area in flags))
    before = board.flash.state()
    for _ in range(3):
        outcome = board.boot()
        assert (slot_of(outcome), outcome.trial) == (0, False)
        assert "is bad" in outcome.events[0]
        assert board.flash.state() == before
    board.flash.faults = Faults()
    assert board.boot().trial


def test_a_counter_that_cannot_be_raised_lets_the_confirmed_image_boot(board: Rig, new: bytes) -> None:
    board.control.set_marks({0: mark_of(new)})
    assert board.boot().trial
    board.control.confirm()
    board.flash.faults = Faults(bad_sectors=frozenset({board.flash.geometry.sectors}))
    outcome = board.boot()
    assert (slot_of(outcome), outcome.trial, board.counter.value()) == (1, False, 1)
    assert "counter: program" in outcome.events[-1]
