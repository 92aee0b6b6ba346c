"""A new root is the bootloader's before it is the device's: its list of image keys follows, is not overtaken, and can refuse."""

from __future__ import annotations

import pytest

from bench import CLOCK, Rig, confirmed_rig, newer, unchanged
from duo import MemoryAreas, Power, PowerCut
from forge import Object, key
from hillhold_bootsim.bootflags import FlagStore, SimBootControl
from hillhold_bootsim.flash import Cut, CutAt, PowerLost
from hillhold_bootsim.keylist import KeyList
from hillhold_verifier.errors import MismatchError, RollbackError, SignatureError, SpaceError, UnprovisionedError
from hillhold_verifier.metadata import parse_root
from offers import held_keys

(HELD,) = held_keys()


class Keyed:
    """A board that runs 1.0.0, whose bootloader has a list of image keys."""

    def __init__(self) -> None:
        self.rig, self.power = confirmed_rig(), Power()
        self.areas = MemoryAreas(self.power)
        self.list.provision(self.rig.repo.files["root"])
        self.rig.control = SimBootControl(FlagStore(self.rig.flash, self.rig.layout), self.list)
        self.rig.reset()

    @property
    def list(self) -> KeyList:
        return KeyList(self.areas, held_keys())

    def bootloaders_root(self) -> int:
        """The version that the bootloader takes no other content for."""
        versions = (self.rig.repo.root(version=version, edit=spoiled) for version in range(1, 9))
        for data in versions:
            try:
                self.list.accept_root(data)
            except MismatchError:
                return parse_root(data).signed.version
            except (RollbackError, SignatureError):
                continue
        raise AssertionError("none")

    def next_root(self) -> bytes:
        return self.rig.repo.root(version=2, edit=revoking)


def revoking(signed: Object) -> None:
    signed["x-hillhold-revoked-image-keys"] = [HELD.key_hash.hex()]


def spoiled(signed: Object) -> None:
    signed["expires"] = "2000-01-01T00:00:00Z"
    signed["keys"] = {}  # so that it never verifies, and is never taken as the next


def agents_root(rig: Rig) -> int:
    return rig.stored().trust.root.signed.version


def test_the_bootloader_gets_each_root_that_the_device_takes() -> None:
    board = Keyed()
    assert (board.bootloaders_root(), agents_root(board.rig)) == (1, 1)
    board.rig.take_root(board.next_root())
    assert (board.bootloaders_root(), agents_root(board.rig)) == (2, 2)
    board.rig.repo.versions["root"] = 2
    board.rig.repo.rotate("timestamp", "snapshot")
    board.rig.take_root(board.rig.repo.files["root"])
    board.rig.take()
    assert (board.bootloaders_root(), agents_root(board.rig)) == (3, 3)


def test_other_metadata_do_not_concern_the_bootloader() -> None:
    board = Keyed()
    before = board.power.operations
    newer(board.rig)
    assert board.power.operations == before


def test_a_cut_between_the_two_writes_brings_the_same_root_again() -> None:
    board = Keyed()
    data = board.rig.repo.root(version=2, edit=revoking, signers=[key(f"root-{n}") for n in (1, 2, 3)])
    board.rig.flash.power_cut = CutAt(board.rig.flash.operations, Cut.BEFORE)
    with pytest.raises(PowerLost):
        board.rig.take_root(data)
    board.rig.flash.power_cut = None
    board.rig.reset()
    assert (board.bootloaders_root(), agents_root(board.rig)) == (2, 1)
    board.rig.take_root(board.next_root())  # with other signatures, as another courier has it
    assert (board.bootloaders_root(), agents_root(board.rig)) == (2, 2)


@pytest.mark.parametrize("torn", [False, True])
def test_a_cut_before_the_bootloader_has_it_changes_nothing(torn: bool) -> None:
    board = Keyed()
    data = board.next_root()
    board.power.cut, board.power.torn = board.power.operations, torn
    with unchanged(board.rig), pytest.raises(PowerCut):
        board.rig.take_root(data)
    board.power.cut = -1
    board.rig.reset()
    assert (board.bootloaders_root(), agents_root(board.rig)) == (1, 1)
    board.rig.take_root(data)
    assert (board.bootloaders_root(), agents_root(board.rig)) == (2, 2)


def test_a_fork_of_roots_is_refused_with_the_bootloaders_words_and_changes_nothing() -> None:
    board = Keyed()
    board.list.accept_root(board.next_root())
    fork = board.rig.repo.root(version=2)
    with unchanged(board.rig), pytest.raises(MismatchError, match="which the bootloader holds"):
        board.rig.take_root(fork)
    assert agents_root(board.rig) == 1
    board.rig.take_root(board.next_root())
    assert agents_root(board.rig) == 2


def test_a_bootloader_that_is_ahead_or_behind_lets_no_root_by() -> None:
    board = Keyed()
    board.list.accept_root(board.next_root())
    board.list.accept_root(board.rig.repo.root(version=3))
    with unchanged(board.rig), pytest.raises(RollbackError):
        board.rig.take_root(board.next_root())
    board.list.provision(board.rig.repo.files["root"])
    board.rig.take_root(board.next_root())
    board.list.provision(board.rig.repo.files["root"])
    with unchanged(board.rig), pytest.raises(RollbackError):
        board.rig.take_root(board.rig.repo.root(version=3))
    assert agents_root(board.rig) == 2


def test_a_list_that_cannot_be_read_or_written_lets_no_root_by() -> None:
    board = Keyed()
    board.areas.size = 100
    with unchanged(board.rig), pytest.raises(SpaceError):
        board.rig.take_root(board.next_root())
    board.areas.data = [b"", b"torn"]
    with unchanged(board.rig), pytest.raises(UnprovisionedError, match="list of image keys"):
        board.rig.take_root(board.next_root())
    board.rig.installer.receive("timestamp", board.rig.repo.files["timestamp"], CLOCK)  # the rest goes on


def test_a_root_that_does_not_fit_the_devices_state_does_not_reach_the_bootloader() -> None:
    board = Keyed()
    large = board.rig.repo.root(version=2, edit=lambda signed: signed.__setitem__("x-pad", "x" * 20_000))
    with unchanged(board.rig), pytest.raises(SpaceError):
        board.rig.take_root(large)
    assert board.bootloaders_root() == 1


def test_a_root_that_comes_during_a_trial_is_the_bootloaders_too() -> None:
    board = Keyed()
    assert board.rig.trial(newer(board.rig)).trial
    board.rig.take_root(board.next_root())
    assert board.bootloaders_root() == 2
    assert board.list.keys() == held_keys(), "what is pending changes nothing"
