"""What failed its trial here: passed over until an operator at the device asks for it, remembered within bounds (DESIGN §4, "Trial")."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest

from bench import CLOCK, Rig, unchanged
from hillhold_bootsim.bootloader import ResetReason
from hillhold_verifier.errors import SelectionError
from hillhold_verifier.select import Outcome
from hillhold_verifier.state import MAX_FAILED, StateStore
from offers import image, offer, started


def failed_rig(*versions: str) -> Rig:
    """A board that runs 1.0.0, on which the trials of `versions` failed, in that order."""
    rig = Rig(started())
    rig.install(image("1.0.0"))
    for version in versions:
        data = offer(rig.repo, version, 2)
        rig.repo.publish()
        rig.take()
        fail(rig, data)
    return rig


def fail(rig: Rig, data: bytes) -> None:
    assert rig.trial(data).trial
    assert not rig.reset(ResetReason.SELF_TEST).trial


def digest(version: str) -> bytes:
    return sha256(image(version, 2)).digest()


def test_what_an_operator_lets_go_is_chosen_again_and_may_be_confirmed() -> None:
    rig = failed_rig("1.1.0")
    with pytest.raises(SelectionError, match="failed on this device before"):
        rig.installer.choose(CLOCK).require()
    assert rig.installer.forget_failed(digest("1.1.0")) == (digest("1.1.0"),)
    rig.power_cycle()
    assert rig.facts().failed_here == ()
    assert rig.trial(image("1.1.0", 2)).trial
    rig.installer.confirm(self_tested=True)
    assert rig.facts().running == "1.1.0"


def test_one_is_let_go_and_the_others_are_not() -> None:
    rig = failed_rig("1.1.0", "1.2.0")
    assert rig.installer.forget_failed(digest("1.2.0")) == (digest("1.2.0"),)
    assert rig.installer.state.failed == rig.facts().failed_here == (digest("1.1.0"),)
    assert str(rig.installer.choose(CLOCK).require()[0].version) == "1.2.0"


def test_all_are_let_go() -> None:
    rig = failed_rig("1.1.0", "1.2.0")
    assert rig.installer.forget_failed() == (digest("1.1.0"), digest("1.2.0"))
    assert rig.facts().failed_here == ()
    with unchanged(rig):
        operations = rig.flash.operations
        assert rig.installer.forget_failed() == ()
        assert rig.flash.operations == operations


def test_letting_go_what_did_not_fail_changes_nothing() -> None:
    rig = failed_rig("1.1.0")
    with unchanged(rig), pytest.raises(SelectionError, match="failed trial: expected"):
        rig.installer.forget_failed(digest("1.0.0"))


def test_letting_go_makes_nothing_installable_that_is_refused_for_another_reason() -> None:
    rig = failed_rig("1.1.0")
    rig.repo.change("pump/1.1.0/app.bin", withdrawn="it leaks")
    rig.repo.publish()
    rig.take()
    rig.installer.forget_failed()
    (outcome,) = [v.outcome for v in rig.installer.choose(CLOCK).verdicts if v.path == "pump/1.1.0/app.bin"]
    assert outcome is Outcome.PASSED_OVER


def test_the_list_is_full_and_what_failed_last_is_still_passed_over() -> None:
    """Whoever makes many images fail pushes the oldest out, which is then tried once more, and is the newest again: never a loop."""
    rig = failed_rig("1.1.0")
    store = StateStore(rig.areas)
    state = store.load()
    others = tuple(bytes([n]) * 32 for n in range(MAX_FAILED - 1))
    store.save(replace(state, failed=(*state.failed, *others)))
    rig.power_cycle()
    data = offer(rig.repo, "1.2.0", 2)
    rig.repo.publish()
    rig.take()
    fail(rig, data)
    assert rig.facts().failed_here == (*others, digest("1.2.0"))
    fail(rig, image("1.1.0", 2))
    assert rig.facts().failed_here == (*others[1:], digest("1.2.0"), digest("1.1.0"))
    assert rig.installer.choose(CLOCK).plan == ()
