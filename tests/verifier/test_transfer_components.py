"""Content goes to the other slot of its own component, and what is known of the others stays."""

from __future__ import annotations

from hashlib import sha256

import pytest

from duo import CLOCK, NEW, OLD, Duo, started
from hillhold_signer.patches import make_patch
from hillhold_verifier.conversation import Progress
from hillhold_verifier.errors import MismatchError, OrderError, TransferError
from hillhold_verifier.local import LocalUpdate
from offers import TreeSource


def test_an_image_goes_to_its_own_component_only() -> None:
    duo = started()
    duo.take()
    with pytest.raises(TransferError, match=r"pump/5\.0\.0/radio\.bin"):
        duo.installer.begin(sha256(NEW[0]).digest(), len(NEW[0]), CLOCK, 1)


def test_writing_one_slot_takes_the_marks_of_all() -> None:
    duo = started()
    duo.update()
    duo.installer.erase(1)
    assert [duo.installer.flags(n).mark for n in (0, 1)] == [None, None]
    duo.start()
    assert duo.runs() == OLD


def test_content_that_decayed_is_forgotten_of_its_own_component_alone() -> None:
    duo = started()
    duo.update()
    duo.slots[1].data[1][0] ^= 1
    with pytest.raises(MismatchError, match="image hash"):
        duo.installer.mark(CLOCK)
    duo.start()
    assert [duo.installer.held(n, 1) is None for n in (0, 1)] == [False, True]
    assert [duo.installer.held(n, 0) is None for n in (0, 1)] == [False, False]
    duo.update()
    duo.start()
    assert duo.runs() == NEW


def offer_radio_patch(duo: Duo) -> bytes:
    made = make_patch(OLD[1], NEW[1])
    duo.repo.add_patch("pump/5.0.0/radio.bin", OLD[1], made, algorithm="hhp2")
    duo.repo.publish("line", "snapshot", "timestamp")
    duo.take()
    return made


def send_patch(duo: Duo, made: bytes, component: int) -> None:
    assert duo.installer.begin(sha256(made).digest(), len(made), CLOCK, component) == 0
    assert duo.installer.write(0, made) == len(made)


def test_a_patch_makes_the_image_of_its_own_component() -> None:
    duo = started()
    made = offer_radio_patch(duo)
    send_patch(duo, made, 1)
    assert duo.installer.apply().path == "pump/5.0.0/radio.bin"
    assert duo.slots[1].read(1, 0, len(NEW[1])) == NEW[1]
    assert [duo.installer.held(n, 1) is None for n in (0, 1)] == [True, False]
    duo.update()
    duo.start()
    assert duo.runs() == NEW


def test_a_patch_goes_to_its_own_component_only() -> None:
    duo = started()
    made = offer_radio_patch(duo)
    with pytest.raises(TransferError, match=r"pump/2\.0\.0/app\.bin"):
        duo.installer.begin(sha256(made).digest(), len(made), CLOCK, 0)


def test_to_apply_makes_what_is_under_way_and_not_what_another_slot_holds_already() -> None:
    duo = started()
    made = offer_radio_patch(duo)
    digest = sha256(NEW[0]).digest()
    duo.installer.begin(digest, len(NEW[0]), CLOCK, 0)
    duo.installer.write(0, NEW[0])
    send_patch(duo, made, 1)
    assert duo.installer.begin(digest, len(NEW[0]), CLOCK, 0) == len(NEW[0]), "it is there"
    assert duo.installer.apply().path == "pump/5.0.0/radio.bin"
    assert duo.slots[1].read(1, 0, len(NEW[1])) == NEW[1]


def offer_patches(duo: Duo) -> None:
    for number, path in enumerate(("pump/2.0.0/app.bin", "pump/5.0.0/radio.bin")):
        duo.repo.add_patch(path, OLD[number], make_patch(OLD[number], NEW[number]), algorithm="hhp2")
    duo.repo.publish("line", "snapshot", "timestamp")


class Unplugged(Exception):
    """The stick with the update is gone."""


def test_an_update_that_was_cut_at_the_second_patch_goes_on() -> None:
    """The first component's image is there: to apply its patch once more says so, whatever of the second's has come."""
    duo = started()
    offer_patches(duo)

    def unplug(progress: Progress) -> None:
        if progress.step.startswith("patch pump/5.0.0"):
            raise Unplugged

    with pytest.raises(Unplugged):
        LocalUpdate(duo.installer, TreeSource(duo.repo.tree), CLOCK, unplug).update()
    duo.start()
    updated = LocalUpdate(duo.installer, TreeSource(duo.repo.tree), CLOCK).update()
    assert updated.patched == ("pump/2.0.0/app.bin", "pump/5.0.0/radio.bin")
    duo.start()
    assert duo.runs() == NEW


def test_what_another_slot_holds_is_not_said_of_a_patch_that_has_not_come_whole() -> None:
    duo = started()
    made = offer_radio_patch(duo)
    digest = sha256(NEW[0]).digest()
    duo.installer.begin(digest, len(NEW[0]), CLOCK, 0)
    duo.installer.write(0, NEW[0])
    duo.installer.begin(sha256(made).digest(), len(made), CLOCK, 1)
    duo.start()
    assert duo.installer.begin(digest, len(NEW[0]), CLOCK, 0) == len(NEW[0]), "it is there"
    duo.installer.begin(sha256(made).digest(), len(made), CLOCK, 1)
    with pytest.raises(OrderError, match="received whole"):
        duo.installer.apply()


def test_nothing_is_taken_for_a_component_of_which_nothing_is_chosen() -> None:
    duo = started()
    duo.repo.change("pump/2.0.0/app.bin", set=None)
    duo.repo.change("pump/5.0.0/radio.bin", set=None, withdrawn="deaf")
    duo.repo.publish("line", "snapshot", "timestamp")
    duo.take()
    with pytest.raises(TransferError, match="no release may be installed now"):
        duo.installer.begin(sha256(NEW[1]).digest(), len(NEW[1]), CLOCK, 1)
