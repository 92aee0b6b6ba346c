"""Boot flags: what they say, and that a cut at any operation leaves the old ones or the new."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from hillhold_bootsim.bootflags import MAX_STARTS, BootRecord, SimBootControl, decode_record, encode_record
from hillhold_bootsim.flash import Cut, CutAt, PowerLost
from hillhold_verifier.errors import ConfirmError, MisuseError, RecordError, UnprovisionedError
from hillhold_verifier.slots import BootControl, BootFlags, Mark

if TYPE_CHECKING:
    from tests.bootsim.conftest import Rig

MARK = Mark(b"\x11" * 32, 1000)
OTHER = Mark(b"\x22" * 32, 77)
RECORDS = [
    BootRecord(),
    BootRecord(confirmed=0),
    BootRecord(confirmed=1, mark=MARK, starts=3, failed=b"\x33" * 32),
    BootRecord(mark=OTHER),
    BootRecord(confirmed=0, failed=bytes(32)),
]


def test_a_blank_board_has_nothing(rig: Rig) -> None:
    control: BootControl = rig.control
    assert control.flags() == BootFlags(running=None, confirmed=None)
    assert rig.flash.operations == 0


def test_a_trial_from_mark_to_confirmation(rig: Rig) -> None:
    control = rig.control
    control.provision(0)
    control.set_marks({0: MARK})
    assert control.flags() == BootFlags(running=None, confirmed=0, mark=MARK)

    control.write(BootRecord(confirmed=0, mark=MARK, starts=1))
    control.started(1)
    assert control.flags() == BootFlags(running=1, confirmed=0, mark=MARK, trial=True, starts=1)
    before = rig.flash.operations
    control.confirm()
    assert rig.flash.operations == before + 2, "one record: an erase and a program"
    assert control.flags() == BootFlags(running=1, confirmed=1)
    control.confirm()
    assert rig.flash.operations == before + 2, "confirming again writes nothing"


def test_confirms_nothing_but_a_standing_trial(rig: Rig) -> None:
    control = rig.control
    control.provision(0)
    with pytest.raises(ConfirmError, match="recovery"):
        control.confirm()
    control.set_marks({0: MARK})
    control.started(1)
    control.clear_marks()
    assert control.flags().trial
    with pytest.raises(ConfirmError, match="cleared"):
        control.confirm()
    assert control.record() == BootRecord(confirmed=0)


def test_marks_nothing_during_a_trial(rig: Rig) -> None:
    control = rig.control
    control.provision(0)
    control.set_marks({0: MARK})
    control.started(1)
    with pytest.raises(MisuseError, match="trial"):
        control.set_marks({0: OTHER})
    assert control.flags().mark == MARK


def test_another_mark_has_its_own_starts(rig: Rig) -> None:
    rig.control.write(BootRecord(confirmed=0, mark=MARK, starts=3))
    rig.control.set_marks({0: OTHER})
    assert rig.control.record() == BootRecord(confirmed=0, mark=OTHER)


def test_keeps_a_failure_until_it_is_acknowledged(rig: Rig) -> None:
    control = rig.control
    control.provision(0)
    control.write(BootRecord(confirmed=0, failed=MARK.sha256))
    control.set_marks({0: OTHER})
    control.clear_marks()
    assert control.flags().failed == MARK.sha256
    control.acknowledge_failure()
    assert control.flags() == BootFlags(running=None, confirmed=0)


def test_writes_only_changes_and_in_turn(rig: Rig) -> None:
    control = rig.control
    control.provision(0)
    before = rig.flash.operations
    control.clear_marks()
    control.acknowledge_failure()
    assert rig.flash.operations == before
    for length in range(1, 9):
        control.set_marks({0: Mark(bytes(32), length)})
    assert [rig.flash.wear(sector) for sector in (0, 1)] == [5, 5]


def test_damage_is_never_taken_for_empty(rig: Rig) -> None:
    flash, control = rig.flash, rig.control
    control.provision(0)
    control.set_marks({0: MARK})
    flash.erase(256, 256)
    assert control.flags() == BootFlags(running=None, confirmed=0), "the older record is left"
    flash.erase(0, 256)
    assert control.flags().confirmed is None, "both erased: blank"
    flash.program(508, b"\0\0\0\0")
    for access in (
        control.flags,
        control.clear_marks,
        lambda: control.set_marks({0: MARK}),
        control.acknowledge_failure,
    ):
        with pytest.raises(UnprovisionedError, match="boot flags: expected a readable record"):
            access()
    assert flash.read(0, 256) == b"\xff" * 256
    control.provision(1)
    assert control.flags() == BootFlags(running=None, confirmed=1)


@pytest.mark.parametrize("record", RECORDS)
def test_records_come_back_as_they_were(record: BootRecord) -> None:
    data = encode_record(9, record)
    assert decode_record(data) == (9, record)
    for at in range(len(data)):
        broken = bytearray(data)
        broken[at] ^= 1
        with pytest.raises(RecordError):
            decode_record(bytes(broken))


@pytest.mark.parametrize(
    "record",
    [
        BootRecord(confirmed=2),
        BootRecord(starts=1),
        BootRecord(mark=MARK, starts=MAX_STARTS + 1),
        BootRecord(mark=MARK, starts=-1),
        BootRecord(mark=Mark(b"short", 1)),
        BootRecord(mark=Mark(bytes(32), 0)),
        BootRecord(mark=Mark(bytes(32), 2**32)),
        BootRecord(failed=b""),
    ],
)
def test_refuses_to_write_what_it_could_not_read(rig: Rig, record: BootRecord) -> None:
    with pytest.raises(MisuseError):
        rig.control.write(record)
    assert rig.flash.operations == 0


CHANGES: list[Callable[[SimBootControl], None]] = [
    lambda c: c.set_marks({0: MARK}),
    lambda c: c.write(BootRecord(confirmed=0, mark=MARK, starts=1)),
    lambda c: c.clear_marks(),
    lambda c: c.set_marks({0: OTHER}),
    lambda c: c.write(BootRecord(confirmed=0, failed=OTHER.sha256)),
    lambda c: c.acknowledge_failure(),
    lambda c: c.write(BootRecord(confirmed=1)),
]


@pytest.mark.parametrize("where", list(Cut))
def test_a_cut_at_every_operation_leaves_the_old_flags_or_the_new(
    where: Cut, rig: Rig, new_rig: Callable[..., Rig]
) -> None:
    rig.control.provision(0)
    cases = 0
    for step, change in enumerate(CHANGES):
        old, start = rig.control.record(), copy.deepcopy(rig.flash)
        change(rig.control)
        new, count = rig.control.record(), rig.flash.operations - start.operations
        assert new != old
        for number in range(count):
            for seed in range(10 if where is Cut.TORN else 1):
                flash = copy.deepcopy(start)
                flash.power_cut = cut = CutAt(flash.operations + number, where, seed)
                with pytest.raises(PowerLost):
                    change(new_rig(flash).control)
                flash.power_on()
                control = new_rig(flash).control
                assert control.record() in (old, new), f"change {step}, cut {cut}"
                if number < count - 1 or where is Cut.BEFORE:
                    assert control.record() == old
                elif where is Cut.AFTER:
                    assert control.record() == new
                change(control)
                assert control.record() == new, f"change {step} again after cut {cut}"
                cases += 1
    assert cases == len(CHANGES) * 2 * (10 if where is Cut.TORN else 1)
