"""Boot flags: what they say, and that a cut at any operation leaves the old ones or the new."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from hillhold_bootsim.bootflags import (
    MAX_STARTS,
    MAX_SWAP_SECTORS,
    BootRecord,
    ImageFlags,
    decode_record,
    encode_record,
    record_size,
)
from hillhold_bootsim.flash import Flash
from hillhold_bootsim.layout import BootMode
from hillhold_verifier.errors import ConfirmError, MisuseError, RecordError, UnprovisionedError
from hillhold_verifier.slots import BootControl, BootFlags, Mark
from tinyboard import REMAP, Rig, cuts, tiny

MARK = Mark(b"\x11" * 32, 1000)
OTHER = Mark(b"\x22" * 32, 77)
FULL = ImageFlags(
    confirmed=1,
    mark=MARK,
    failed=b"\x33" * 32,
    permanent=True,
    primary=1,
    wanted=0,
    moving=True,
    sectors=MAX_SWAP_SECTORS,
    shifted=False,
)
RECORDS = [
    BootRecord(),
    BootRecord((ImageFlags(confirmed=0),)),
    BootRecord((ImageFlags(confirmed=1, mark=MARK, failed=b"\x33" * 32),), starts=3),
    BootRecord((ImageFlags(mark=OTHER),)),
    BootRecord((ImageFlags(confirmed=0, failed=bytes(32)),)),
    BootRecord((FULL,), starts=MAX_STARTS),
    BootRecord((ImageFlags(confirmed=1, primary=1, wanted=1, shifted=False),)),
    BootRecord((ImageFlags(), FULL, ImageFlags(confirmed=0), FULL), starts=1),
]


def one(**flags: object) -> BootRecord:
    """A record of one component."""
    return BootRecord((replace(ImageFlags(), **flags),))  # type: ignore[arg-type]


def test_a_blank_board_has_nothing(rig: Rig) -> None:
    control: BootControl = rig.control
    assert control.flags() == BootFlags(running=None, confirmed=None)
    assert rig.flash.operations == 0


def test_a_trial_from_mark_to_confirmation(rig: Rig) -> None:
    control = rig.control
    rig.provision(0)
    control.set_marks({0: MARK})
    assert control.flags() == BootFlags(running=None, confirmed=0, mark=MARK)

    rig.store.write(replace(rig.record, starts=1))
    control.started([1])
    assert control.flags() == BootFlags(running=1, confirmed=0, mark=MARK, trial=True, starts=1)
    before = rig.flash.operations
    control.confirm()
    assert rig.flash.operations == before + 2, "one record: an erase and a program"
    assert control.flags() == BootFlags(running=1, confirmed=1)
    control.confirm()
    assert rig.flash.operations == before + 2, "confirming again writes nothing"


def test_confirms_nothing_but_a_standing_trial(rig: Rig) -> None:
    control = rig.control
    rig.provision(0)
    with pytest.raises(ConfirmError, match="recovery"):
        control.confirm()
    control.set_marks({0: MARK})
    control.started([1])
    control.clear_marks()
    assert control.flags().trial
    with pytest.raises(ConfirmError, match="cleared"):
        control.confirm()
    assert rig.record == one(confirmed=0)


def test_marks_nothing_during_a_trial(rig: Rig) -> None:
    control = rig.control
    rig.provision(0)
    control.set_marks({0: MARK})
    control.started([1])
    with pytest.raises(MisuseError, match="trial"):
        control.set_marks({0: OTHER})
    assert control.flags().mark == MARK


def test_another_mark_has_its_own_starts(rig: Rig) -> None:
    rig.store.write(replace(one(confirmed=0, mark=MARK), starts=3))
    rig.control.set_marks({0: OTHER})
    assert rig.record == one(confirmed=0, mark=OTHER)


def test_keeps_a_failure_until_it_is_acknowledged(rig: Rig) -> None:
    control = rig.control
    rig.provision(0)
    rig.store.write(one(confirmed=0, failed=MARK.sha256))
    control.set_marks({0: OTHER})
    control.clear_marks()
    assert control.flags().failed == MARK.sha256
    control.acknowledge_failure()
    assert control.flags() == BootFlags(running=None, confirmed=0)


def test_writes_only_changes_and_in_turn(rig: Rig) -> None:
    control = rig.control
    rig.provision(0)
    before = rig.flash.operations
    control.clear_marks()
    control.acknowledge_failure()
    assert rig.flash.operations == before
    for length in range(1, 9):
        control.set_marks({0: Mark(bytes(32), length)})
    assert [rig.flash.wear(sector) for sector in (0, 1)] == [1 + 4, 4]


def test_damage_is_never_taken_for_empty(rig: Rig) -> None:
    flash, control, store = rig.flash, rig.control, rig.store
    first, second = rig.layout.flags
    rig.provision(0)
    control.set_marks({0: MARK})
    flash.erase(second.offset, second.size)
    store.reload()
    assert control.flags() == BootFlags(running=None, confirmed=0), "the older record is left"
    flash.erase(first.offset, first.size)
    store.reload()
    assert control.flags().confirmed is None, "both erased: blank"
    unit = rig.layout.geometry.unit
    flash.program(second.end - unit, bytes([rig.layout.geometry.erased_value]) * unit)
    for access in (
        store.reload,
        control.flags,
        control.clear_marks,
        lambda: control.set_marks({0: MARK}),
        lambda: control.set_permanent_marks({0: MARK}),
        control.confirm,
        control.acknowledge_failure,
        lambda: store.write(one(confirmed=0)),
    ):
        with pytest.raises(UnprovisionedError, match="boot flags: expected a readable record"):
            access()
    assert flash.is_blank(first.offset, first.size)
    rig.provision(1)
    assert control.flags() == BootFlags(running=None, confirmed=1)


@pytest.mark.parametrize("record", RECORDS)
def test_records_come_back_as_they_were(record: BootRecord) -> None:
    components = len(record.images)
    data = encode_record(9, record)
    assert len(data) == record_size(components) == 48 + 80 * components
    assert decode_record(data, components) == (9, record)
    for at in range(len(data)):
        broken = bytearray(data)
        broken[at] ^= 1
        with pytest.raises(RecordError):
            decode_record(bytes(broken), components)


def test_a_record_of_another_number_of_components_is_none() -> None:
    data = encode_record(1, RECORDS[1])
    with pytest.raises(RecordError, match="expected 208 bytes, got 128"):
        decode_record(data, 2)


@pytest.mark.parametrize(
    "record",
    [
        one(confirmed=2),
        one(primary=2, wanted=2),
        replace(one(), starts=1),
        replace(one(mark=MARK), starts=MAX_STARTS + 1),
        replace(one(mark=MARK), starts=-1),
        one(mark=Mark(b"short", 1)),
        one(mark=Mark(bytes(32), 0)),
        one(mark=Mark(bytes(32), 2**32)),
        one(failed=b""),
        one(permanent=True),
        one(sectors=1),
        one(moving=True),
        one(wanted=1),
        one(wanted=1, sectors=MAX_SWAP_SECTORS + 1),
        BootRecord(()),
        BootRecord((ImageFlags(),) * 5),
    ],
)
def test_refuses_to_write_what_it_could_not_read(record: BootRecord) -> None:
    rig = Rig(REMAP)
    with pytest.raises(MisuseError, match="boot flags"):
        rig.store.write(record)
    assert rig.flash.operations == 0
    assert rig.record == BootRecord(), "and remembers nothing of it"


CHANGES: list[Callable[[Rig], object]] = [
    lambda rig: rig.control.set_marks({0: MARK}),
    lambda rig: rig.store.write(replace(rig.record, starts=1)),
    lambda rig: rig.control.clear_marks(),
    lambda rig: rig.control.set_permanent_marks({0: OTHER}),
    lambda rig: rig.store.write(one(confirmed=0, failed=OTHER.sha256)),
    lambda rig: rig.control.acknowledge_failure(),
    lambda rig: rig.store.write(one(confirmed=0, primary=0, wanted=1, sectors=2, moving=True)),
    lambda rig: rig.store.write(one(confirmed=1)),
]


def test_a_cut_at_every_operation_leaves_the_old_flags_or_the_new(rig: Rig) -> None:
    """In every way; and whatever an unstable sector reads as, the same flags count until they are written again."""
    rig.provision(0)
    kinds = set()
    for step, change in enumerate(CHANGES):
        old, start, before = rig.record, rig.snapshot(), rig.flash.operations
        change(rig)
        new = rig.record
        assert new != old
        assert rig.flash.operations == before + 2, "one record: an erase and a program"

        def act(flash: Flash, change: Callable[[Rig], object] = change) -> None:
            change(Rig(rig.layout, flash))

        for cut, state in cuts(rig.layout.geometry, start, act):
            case = f"change {step}, cut {cut}"
            victim = Rig.of(rig.layout, state)
            found = victim.record
            assert found in (old, new), case
            assert found == old or cut.number == 1, case
            assert all(victim.store.reload() == found for _ in range(4)), f"{case}: it wavers"
            kinds.add((found == new, victim.flash.unstable))
            change(victim)
            assert Rig.of(rig.layout, victim.snapshot()).record == new, f"{case}: not done again"
    assert kinds == {(False, False), (False, True), (True, False)}


# --- several components


def test_components_are_marked_confirmed_and_cleared_in_one_write() -> None:
    rig = Rig(tiny(BootMode.REMAP, components=2))
    rig.provision(0, 0)
    before = rig.flash.operations
    rig.control.set_marks({0: MARK, 1: OTHER})
    assert rig.flash.operations == before + 2
    assert (rig.control.flags(0).mark, rig.control.flags(1).mark) == (MARK, OTHER)
    rig.control.started([1, 1])
    rig.control.confirm()
    assert rig.flash.operations == before + 4
    assert [rig.control.flags(component).confirmed for component in (0, 1)] == [1, 1]
    rig.control.started([1, 1])
    rig.control.set_marks({1: MARK})
    assert (rig.control.flags(0).mark, rig.control.flags(1).mark) == (None, MARK)
    rig.control.clear_marks()
    assert not rig.record.marked


def test_a_trial_of_one_component_is_one_of_the_board() -> None:
    rig = Rig(tiny(BootMode.REMAP, components=2))
    rig.provision(0, 0)
    rig.control.set_marks({1: MARK})
    rig.control.started([0, 1])
    assert [rig.control.flags(component).trial for component in (0, 1)] == [False, True]
    with pytest.raises(MisuseError, match="a trial is under way"):
        rig.control.set_marks({0: OTHER})
    rig.control.confirm()
    assert [rig.control.flags(component).confirmed for component in (0, 1)] == [0, 1]


@pytest.mark.parametrize("marks", [{}, {2: MARK}, {0: MARK, 2: MARK}, {-1: MARK}])
def test_marks_only_components_that_there_are(marks: dict[int, Mark]) -> None:
    rig = Rig(tiny(BootMode.REMAP, components=2))
    rig.provision(0, 0)
    before = rig.flash.operations
    with pytest.raises(MisuseError, match="components"):
        rig.control.set_marks(marks)
    assert rig.flash.operations == before
    with pytest.raises(MisuseError, match="component 2 of a board that has 2"):
        rig.control.flags(2)
