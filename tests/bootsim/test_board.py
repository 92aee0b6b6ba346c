"""The board as a whole: power, resets, applications by script, and the agent's part."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import pytest

from hillhold_bootsim.application import AppEvent, Application, SelfTest, Verdict
from hillhold_bootsim.board import BoardInfo, VirtualBoard
from hillhold_bootsim.bootloader import ResetReason
from hillhold_bootsim.flash import Cut, CutAt, Flash
from hillhold_bootsim.geometry import Geometry
from hillhold_verifier.errors import MisuseError
from hillhold_verifier.slots import BootControl, CounterStore, RecordAreas, Slots
from tinyboard import REMAP, Rig, mark_of, sign


class Echo:
    """An agent that echoes, and obeys four words."""

    def __init__(
        self,
        slots: Sequence[Slots],
        control: BootControl,
        counters: Sequence[CounterStore],
        areas: RecordAreas,
        info: BoardInfo,
    ) -> None:
        self.control, self.areas, self.info = control, areas, info
        (self.counter,), (self.slots,) = counters, slots
        self.reset_requested = False
        self.passed: list[bool] = []

    def receive(self, data: bytes, now: int | None) -> bytes:
        match data:
            case b"reset":
                self.reset_requested = True
            case b"save":
                self.areas.write(0, b"state" * 20)
            case b"withdraw":
                self.control.clear_marks()
            case b"why":
                return self.info.reason.value.encode()
        return data + str(now).encode()

    def tick(self, seconds: float) -> None:
        """Nothing to do."""

    def self_test_passed(self, *, confirm: bool) -> None:
        self.passed.append(confirm)
        if confirm:
            self.control.confirm()
            self.counter.raise_to(2)


Make = Callable[..., VirtualBoard]


@pytest.fixture
def new() -> bytes:
    return sign("2.0.0", 2, payload=b"newer firmware" * 35)


@pytest.fixture
def make(rig: Rig, new: bytes) -> Make:
    """A board that is on, with version 1 confirmed, and version 2 in the other slot and marked."""

    def board(self_test: SelfTest | None = None, *, marked: bool = True) -> VirtualBoard:
        rig.install(0, sign("1.0.0", 1))
        rig.install(1, new)
        rig.provision(0)
        if marked:
            rig.control.set_marks({0: mark_of(new)})
        made = VirtualBoard(rig.flash, rig.layout, rig.keys, Echo, self_test)
        assert not made.is_on
        made.power_on()
        return made

    return board


def at_rest(board: VirtualBoard, confirmed: int, failed: bytes | None = None) -> None:
    """Nothing is marked, moved or tried, as the flash alone tells."""
    rig = Rig(board.layout, board.flash)
    assert rig.record == rig.at_rest(confirmed, failed)


def running(board: VirtualBoard) -> tuple[int | None, bool]:
    assert board.info is not None
    booted = board.info.outcome.booted
    return (booted.slot if booted else None, board.info.outcome.trial)


def test_serves_its_line_only_while_it_is_on(make: Make) -> None:
    board = make(marked=False)
    assert board.feed(b"hello", 5) == b"hello5"
    assert board.feed(b"hello", None) == b"helloNone"
    board.cut_power()
    assert not board.is_on
    assert board.feed(b"hello", 5) == b""
    board.tick(0.0)
    board.reset(ResetReason.SOFT)
    assert not board.is_on
    board.power_on()
    board.power_on()
    assert board.feed(b"why", 5) == b"power-on"
    assert board.boots == 2


def test_an_image_confirms_itself_after_its_test(make: Make) -> None:
    board = make(SelfTest(seconds=3.0))
    assert running(board) == (1, True)
    for now in (100.0, 102.9):
        board.tick(now)
        assert board.control.flags().trial
    board.tick(103.0)
    at_rest(board, 1)
    assert board.parts.counters[0].value() == 2
    board.tick(200.0)
    assert board.boots == 1


def test_an_image_that_waits_for_the_wire(make: Make) -> None:
    board = make(SelfTest(confirms=False))
    agent = board._agent
    assert isinstance(agent, Echo)
    board.tick(0.0)
    board.tick(1.0)
    assert agent.passed == [False]
    assert board.control.flags().trial


@pytest.mark.parametrize("by", ["default", "version", "hash"])
def test_a_failing_image_reverts_and_its_hash_is_recorded(make: Make, new: bytes, by: str) -> None:
    digest = hashlib.sha256(new).digest()
    script = {
        "default": SelfTest(default=Verdict.FAIL),
        "version": SelfTest(by_version={"2.0.0": Verdict.FAIL}),
        "hash": SelfTest(by_version={"2.0.0": Verdict.PASS}, by_sha256={digest: Verdict.FAIL}),
    }[by]
    board = make(script)
    board.tick(0.0)
    assert running(board) == (0, False)
    at_rest(board, 0, failed=digest)
    assert board.feed(b"why", 0) == b"self-test"
    board.tick(1.0)
    assert board.boots == 2


def test_a_hanging_image_serves_nothing_until_the_watchdog(make: Make, new: bytes) -> None:
    board = make(SelfTest(default=Verdict.HANG, watchdog_seconds=2.0))
    board.tick(10.0)
    assert board.feed(b"hello", 5) == b""
    board.tick(11.9)
    assert board.boots == 1
    board.tick(12.0)
    assert running(board) == (0, False)
    assert board.control.flags().failed == hashlib.sha256(new).digest()
    assert board.feed(b"why", 5) == b"watchdog"


def test_a_reset_that_the_agent_asks_for_comes_after_its_answer(make: Make) -> None:
    board = make(marked=False)
    assert board.feed(b"reset", 7) == b"reset7"
    assert board.boots == 2
    assert board.feed(b"why", 7) == b"soft"


def test_a_withdrawn_trial_ends_at_the_next_reset(make: Make) -> None:
    board = make()
    board.feed(b"withdraw", 0)
    board.feed(b"reset", 0)
    assert running(board) == (0, False)
    at_rest(board, 0)


def test_power_that_goes_anywhere_leaves_a_board_that_is_off(make: Make) -> None:
    board = make()
    flash = board.flash
    flash.power_cut = CutAt(flash.operations, Cut.TORN)
    assert board.feed(b"save", 0) == b""
    assert not board.is_on
    assert board.feed(b"hello", 0) == b""

    flash.power_cut = CutAt(flash.operations + 1, Cut.AFTER)  # behind the record of the next start
    board.power_on()
    assert not board.is_on
    flash.power_cut = None
    board.power_on()
    assert running(board) == (1, True)
    assert board.control.flags().starts == 3

    flash.power_cut = CutAt(flash.operations, Cut.BEFORE)  # in the confirmation
    board.tick(0.0)
    assert not board.is_on
    flash.power_cut = None
    board.power_on()
    board.tick(1.0)
    at_rest(board, 1)


def test_the_agent_serves_in_recovery(make: Make) -> None:
    board = make(marked=False)
    board.parts.slots[0].erase(0, 0, board.parts.slots[0].sector)
    board.reset(ResetReason.SOFT)
    assert running(board) == (None, False)
    board.tick(0.0)
    assert board.feed(b"hello", 1) == b"hello1"


def test_refuses_a_flash_of_another_geometry() -> None:
    with pytest.raises(MisuseError, match="geometries"):
        VirtualBoard(Flash(Geometry.uniform(size=1024, sector=256, unit=4)), REMAP, (), Echo)


def test_a_confirmed_application_has_nothing_to_test(make: Make) -> None:
    board = make(marked=False)
    assert board.info is not None
    assert board.info.outcome.booted is not None
    application = Application(SelfTest(default=Verdict.HANG), board.info.outcome.booted, trial=False)
    assert not application.hangs
    assert application.tick(1e9) is None
    on_trial = Application(SelfTest(), board.info.outcome.booted, trial=True)
    assert [on_trial.tick(0.0), on_trial.tick(1.0)] == [AppEvent.PASSED, None]
