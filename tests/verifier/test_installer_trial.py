"""A trial and its end: confirmed after its own test, failed, or withdrawn; and nothing written on the way back meanwhile (DESIGN §4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

import pytest

from bench import CLOCK, Rig, confirmed_rig, newer, unchanged
from forge import YEAR, ecdsa_key
from hillhold_bootsim.bootloader import MAX_TRIAL_STARTS, ResetReason
from hillhold_verifier.errors import (
    ConfirmError,
    SelectionError,
    SignatureError,
    SlotError,
)
from hillhold_verifier.keys import usable_schemes
from hillhold_verifier.select import Outcome
from hillhold_verifier.state import StateStore
from offers import started


def on_trial(counter: int = 2) -> tuple[Rig, bytes]:
    """A board that runs 1.1.0 on trial over a confirmed 1.0.0."""
    rig = confirmed_rig()
    data = newer(rig, counter=counter)
    assert rig.trial(data).trial
    return rig, data


# --- trial ------------------------------------------------------------------------------------------------------------


def test_during_a_trial_the_other_slot_is_the_only_way_back() -> None:
    rig, _ = on_trial()
    third = newer(rig, "1.2.0")
    acts: list[Callable[[], object]] = [
        rig.installer.erase,
        lambda: rig.installer.begin(sha256(third).digest(), len(third), CLOCK),
        lambda: rig.installer.mark(CLOCK),
        rig.installer.apply,
    ]
    with unchanged(rig):
        for act in acts:
            with pytest.raises(SlotError, match="only way back"):
                act()


def test_a_trial_is_the_first_reason_not_to_mark() -> None:
    rig, _ = on_trial()
    with unchanged(rig), pytest.raises(SlotError, match="only way back"):
        rig.installer.mark(CLOCK + YEAR)


@pytest.mark.parametrize("known", [False, True])
def test_an_image_on_trial_that_is_not_the_marked_one_is_not_confirmed(known: bool) -> None:
    """By what the state says of the slot: nothing, or another release."""
    rig, _ = on_trial()
    store = StateStore(rig.areas)
    state = store.load()
    store.save(state.with_slot(1, state.slots[0] if known else None))
    assert rig.reset(ResetReason.POWER_ON).trial
    with unchanged(rig), pytest.raises(ConfirmError, match="the image that was marked, got another"):
        rig.installer.confirm(self_tested=True)


def test_in_recovery_nothing_is_confirmed() -> None:
    rig = confirmed_rig()
    rig.slots.erase(0, 0, rig.slots.size)
    rig.reset()
    assert (rig.facts().running, rig.facts().confirmed) == (None, 0)
    with unchanged(rig), pytest.raises(ConfirmError, match="got none"):
        rig.installer.confirm(self_tested=True)


def test_nothing_is_confirmed_before_its_own_test() -> None:
    rig, _ = on_trial()
    with unchanged(rig), pytest.raises(ConfirmError, match="not yet"):
        rig.installer.confirm(self_tested=False)


def test_nothing_is_confirmed_on_a_board_that_runs_nothing() -> None:
    rig = Rig(started())
    with unchanged(rig), pytest.raises(ConfirmError, match="got none"):
        rig.installer.confirm(self_tested=True)


def test_a_marked_image_is_not_confirmed_before_its_trial() -> None:
    rig = confirmed_rig()
    rig.send(newer(rig))
    rig.installer.mark(CLOCK)
    assert str(rig.installer.confirm(self_tested=True)[0].version) == "1.0.0"
    assert (rig.facts().confirmed, rig.facts().counter) == (0, 1)


def test_a_failed_trial_goes_back_and_is_passed_over() -> None:
    rig, data = on_trial()
    assert not rig.reset(ResetReason.SELF_TEST).trial
    facts = rig.facts()
    assert (facts.running, facts.confirmed, facts.counter) == ("1.0.0", 0, 1)
    assert facts.failed_here == (sha256(data).digest(),)
    assert facts.failed is None, "the bootloader need not remember it any more"
    with unchanged(rig):
        assert rig.installer.choose(CLOCK).plan == ()
        with pytest.raises(SelectionError, match="its trial failed"):
            rig.installer.mark(CLOCK)
    rig.install(newer(rig, "1.2.0"))
    assert rig.facts().running == "1.2.0"


def test_a_trial_without_power_is_started_again_a_bounded_number_of_times() -> None:
    rig, data = on_trial()
    for _ in range(MAX_TRIAL_STARTS - 1):
        assert rig.reset(ResetReason.POWER_ON).trial
    assert not rig.reset(ResetReason.POWER_ON).trial
    facts = rig.facts()
    assert (facts.running, facts.failed_here) == ("1.0.0", ())
    assert rig.installer.choose(CLOCK).require()[0].sha256 == sha256(data).digest(), "it did not fail"
    rig.installer.mark(CLOCK)
    assert rig.reset().trial
    rig.installer.confirm(self_tested=True)
    assert rig.facts().running == "1.1.0"


def test_a_trial_accepts_no_root_that_the_confirmed_image_could_not_use() -> None:
    rig, _ = on_trial()
    store = StateStore(rig.areas)
    store.save(replace(store.load(), schemes=frozenset({"ed25519"})))
    assert rig.reset(ResetReason.POWER_ON).trial
    rig.repo.keys["timestamp"] = [ecdsa_key("timestamp")]
    rig.repo.publish("root", "snapshot", "timestamp")
    with unchanged(rig), pytest.raises(SignatureError, match="this device can use"):
        rig.take_root(rig.repo.files["root"])
    rig.installer.confirm(self_tested=True)
    rig.take_root(rig.repo.files["root"])
    assert rig.held().versions["root"] == 2


def test_a_failure_that_the_bootloader_recorded_is_kept_through_a_cut() -> None:
    rig, data = on_trial()
    rig.parts.bootloader.boot(ResetReason.WATCHDOG)
    assert rig.control.flags().failed == sha256(data).digest()
    rig.reset(ResetReason.POWER_ON)
    assert (rig.facts().failed, rig.facts().failed_here) == (None, (sha256(data).digest(),))


def test_the_stored_schemes_are_those_of_the_confirmed_image() -> None:
    rig, _ = on_trial()
    store = StateStore(rig.areas)
    store.save(replace(store.load(), schemes=frozenset({"ed25519"})))
    rig.reset(ResetReason.POWER_ON)
    assert rig.stored().schemes == {"ed25519"}
    rig.installer.confirm(self_tested=True)
    assert rig.stored().schemes == usable_schemes()


def test_the_counter_follows_the_confirmation_and_never_goes_before() -> None:
    rig, _ = on_trial(counter=7)
    assert (rig.facts().running, rig.facts().counter, rig.installer.security_counter()) == ("1.1.0", 1, 1)
    assert str(rig.installer.confirm(self_tested=True)[0].version) == "1.1.0"
    assert (rig.facts().counter, rig.installer.security_counter()) == (7, 7)


# --- withdrawal -------------------------------------------------------------------------------------------------------


def withdraw(rig: Rig, version: str) -> None:
    rig.repo.change(f"pump/{version}/app.bin", withdrawn="it leaks")
    rig.repo.publish()
    rig.take()


def test_a_withdrawn_release_loses_its_mark() -> None:
    rig = confirmed_rig()
    rig.send(newer(rig))
    rig.installer.mark(CLOCK)
    withdraw(rig, "1.1.0")
    assert rig.facts().mark is None
    with unchanged(rig), pytest.raises(SelectionError, match="withdrawn: it leaks"):
        rig.installer.mark(CLOCK)
    assert rig.reset().booted is not None
    assert rig.facts().running == "1.0.0"


def test_a_withdrawal_ends_a_trial() -> None:
    rig, _ = on_trial()
    withdraw(rig, "1.1.0")
    assert (rig.facts().mark, rig.facts().trial) == (None, True)
    with pytest.raises(ConfirmError, match="ended"):
        rig.installer.confirm(self_tested=True)
    with pytest.raises(SlotError):
        rig.installer.erase()
    rig.reset()
    facts = rig.facts()
    assert (facts.running, facts.confirmed, facts.trial, facts.counter) == ("1.0.0", 0, False, 1)
    assert facts.failed_here == (), "it did not fail; it is withdrawn"


def test_a_mark_of_a_withdrawn_image_that_is_found_at_a_start_is_cleared() -> None:
    """Someone wrote the bootloader's flags beside the agent."""
    rig = confirmed_rig()
    rig.send(newer(rig))
    rig.installer.mark(CLOCK)
    mark = rig.control.flags().mark
    assert mark is not None
    withdraw(rig, "1.1.0")
    rig.control.set_marks({0: mark})
    assert rig.reset().trial, "the bootloader does not know"
    assert rig.installer.trial_ended
    with pytest.raises(ConfirmError, match="ended"):
        rig.installer.confirm(self_tested=True)
    rig.reset()
    assert rig.facts().running == "1.0.0"


def test_another_release_withdrawn_leaves_the_mark() -> None:
    rig = confirmed_rig()
    rig.send(newer(rig))
    rig.installer.mark(CLOCK)
    mark = rig.facts().mark
    withdraw(rig, "1.0.0")
    assert rig.facts().mark == mark
    assert rig.reset().trial


def test_the_confirmed_release_withdrawn_runs_on() -> None:
    rig = confirmed_rig()
    withdraw(rig, "1.0.0")
    rig.reset()
    assert rig.facts().running == "1.0.0"
    outcomes = {verdict.path: verdict.outcome for verdict in rig.installer.choose(CLOCK).verdicts}
    assert outcomes == {"pump/1.0.0/app.bin": Outcome.PASSED_OVER}
