"""What switches the power of a board, and what cuts in time find."""

from __future__ import annotations

import os
import sys
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from campaigns import Lacking
from hillhold_bootsim.flash import Cut, Operation
from hillhold_bootsim.lab import cuts
from hillhold_bootsim.lab.campaign import CutsOrder
from hillhold_bootsim.lab.cuts import CutsWork
from hillhold_bootsim.lab.honest import DURATION, Kept, Stand, update
from hillhold_bootsim.lab.house import House, Release
from hillhold_bootsim.lab.journal import Part
from hillhold_bootsim.lab.model import Result, Verdict
from hillhold_bootsim.lab.power import Command, Hub, Powered, PoweredSpec, Relay, SwitchError
from hillhold_bootsim.lab.rig import PowerCutError, Rig
from hillhold_bootsim.lab.runner import Firmware
from hillhold_bootsim.lab.serialport import LACKS
from hillhold_bootsim.lab.target import Target
from hillhold_bootsim.lab.virtual import EPOCH, VirtualSpec, VirtualTarget
from hillhold_verifier.errors import OperationalError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals and shell scripts")


# --- switches ---------------------------------------------------------------------------------------------------------


def test_a_command_is_run_without_a_shell(tmp_path: Path) -> None:
    log = tmp_path / "log; rm -rf x"
    script = tmp_path / "switch"
    script.write_text('#!/bin/sh\necho "$1" >> "$2"\n')
    script.chmod(0o755)
    switch = Command((str(script), "up $HOME", str(log)), (str(script), "down", str(log))).open()
    switch.set(True)
    switch.set(False)
    assert log.read_text() == "up $HOME\ndown\n"


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("false",), "ended with 1: no words"),
        (("sh", "-c", "echo one >&2; echo two >&2; exit 7"), "ended with 7: two"),
        (("/no/such/program",), "No such file"),
        (("sh", "a\0b"), "embedded null"),
    ],
)
def test_a_command_that_fails_says_so(words: tuple[str, ...], what: str) -> None:
    with pytest.raises(SwitchError, match=what) as caught:
        Command(("true",), words).open().set(False)
    assert "power off" in str(caught.value)
    assert caught.value.hint


def test_a_port_of_a_hub_is_switched_by_uhubctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "uhubctl"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/log\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    switch = Hub("1-1.4", 2).open()
    switch.set(False)
    switch.set(True)
    assert (tmp_path / "log").read_text() == "-l 1-1.4 -p 2 -a off\n-l 1-1.4 -p 2 -a on\n"


class FakeRelay:
    """A relay on a pseudo-terminal, which switches a virtual board."""

    ON, OFF = bytes.fromhex("a00101a2"), bytes.fromhex("a00100a1")

    def __init__(self, target: Target) -> None:
        self.target, self.heard = target, b""
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.name = os.ttyname(self._slave)
        self._acted = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while len(data := os.read(self._master, 4)) == 4:
            self.target.power(data == self.ON)
            with self._acted:
                self.heard += data
                self._acted.notify_all()

    def wait_for(self, count: int) -> None:
        with self._acted:
            assert self._acted.wait_for(lambda: len(self.heard) >= 4 * count, 10)

    def close(self) -> None:
        os.write(self._slave, b"end")
        self._thread.join(10)
        os.close(self._slave)
        os.close(self._master)


@contextmanager
def relayed(target: Target) -> Iterator[tuple[FakeRelay, Relay]]:
    relay = FakeRelay(target)
    try:
        yield relay, Relay(relay.name, FakeRelay.ON, FakeRelay.OFF)
    finally:
        relay.close()


def test_a_relay_gets_its_bytes() -> None:
    target = VirtualSpec().make(0)
    with relayed(target) as (relay, order):
        switch = order.open()
        switch.set(False)
        relay.wait_for(1)
        assert relay.heard == FakeRelay.OFF
        assert target.read().running == ()
        switch.set(True)
        relay.wait_for(2)
        assert relay.heard == FakeRelay.OFF + FakeRelay.ON
        assert target.board.is_on
        switch.close()


def test_a_relay_that_is_not_there_is_said() -> None:
    with pytest.raises(OperationalError, match="/dev/no-such-relay"):
        Relay("/dev/no-such-relay", b"1", b"0").open()


class Log:
    """A switch that remembers, and switches a virtual board where there is one."""

    def __init__(self, target: Target | None = None, *, works: bool = True) -> None:
        self.done: list[bool] = []
        self.closed = False
        self.target, self.works = target, works

    told = "a switch of a test"

    def open(self) -> Log:
        return self

    def set(self, on: bool) -> None:
        self.done.append(on)
        if self.target and self.works:
            self.target.power(on)

    def close(self) -> None:
        self.closed = True


def without(*names: str) -> Lacking:
    return Lacking(VirtualSpec().make(3), *names)


def test_a_switch_gives_a_board_what_it_lacked() -> None:
    log = Log()
    powered = Powered(without("power", "reset", "read"), log)
    assert powered.lacks == {"read": LACKS["read"]}
    powered.reset()
    assert log.done == [False, True]
    powered.close()
    assert log.closed


def test_a_board_that_can_be_reset_is_reset_as_before() -> None:
    log = Log()
    Powered(without("power"), log).reset()
    assert log.done == []


def test_a_board_is_on_from_the_beginning_whatever_was_interrupted() -> None:
    log = Log()

    class Spec:
        name, kind, alone = "n", "serial", False

        def make(self, seed: int) -> Target:
            assert log.done == [True]
            return without("power")

    PoweredSpec(Spec(), log).make(3)
    assert not log.closed


def test_a_switch_is_let_go_where_the_board_is_not_there() -> None:
    log = Log()

    class Spec:
        name, kind, alone = "n", "serial", False

        def make(self, seed: int) -> Target:
            raise SwitchError("no board")

    with pytest.raises(SwitchError):
        PoweredSpec(Spec(), log).make(3)
    assert log.closed


# --- the rig ----------------------------------------------------------------------------------------------------------


def test_the_power_goes_at_its_moment_and_once() -> None:
    rig = Rig(VirtualSpec().make(3))
    stream = rig.open()
    rig.cut_at = 2.0
    with pytest.raises(PowerCutError):
        stream.read(30)
    assert rig.seconds() == pytest.approx(2.0, abs=0.001)
    assert stream.read(1) == b""
    assert rig.cut_at is None


# --- cuts -------------------------------------------------------------------------------------------------------------


def cut(target: Target, count: int = 6, seed: int = 3, kept: Kept | None = None) -> Result:
    return CutsWork(CutsOrder(spread=count)).do(Stand(target, seed, Firmware()), kept or Kept())


def test_cuts_are_spread_over_an_update_one_in_each_stretch() -> None:
    result = cut(VirtualSpec().make(3), 8)
    (told,) = (one.text for one in result.evidence if one.title == "each cut")
    shares = [float(line.split()[1].rstrip("%")) / 100 for line in told.splitlines()]
    assert [int(share * 8) for share in shares] == list(range(8))
    assert result.verdict is Verdict.PASS
    assert result.independent
    assert result.figures["cuts during the update"] >= 6


def test_a_board_on_a_relay_is_cut_as_any_other() -> None:
    target = VirtualSpec().make(3)
    with relayed(target) as (relay, order):
        switch = order.open()

        class Slow:
            """The relay acts in a thread; a real one does so after some milliseconds."""

            count = 0

            def set(self, on: bool) -> None:
                switch.set(on)
                self.count += 1
                relay.wait_for(self.count)

            def close(self) -> None:
                switch.close()

        result = cut(Powered(Lacking(target, "power"), Slow()), 5)
    assert (result.verdict, result.reason[:20]) == (Verdict.PASS, "after each of 5 cuts")


def test_a_switch_that_switches_nothing_proves_nothing() -> None:
    target = without("power")
    result = cut(Powered(target, Log(target, works=False)))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "answers while it is off" in result.reason


def test_a_board_that_nothing_switches_is_not_tested() -> None:
    result = cut(without("power"))
    assert (result.verdict, result.reason) == (Verdict.NOT_TESTED, LACKS["power"])


class Fragile(VirtualTarget):
    """Its confirmed image is destroyed when its power comes back for the `nth` time."""

    nth = 4

    def power(self, on: bool) -> None:
        if on:
            self.nth -= 1
            if self.nth == 0:
                for pair in self._spec.layout.slots:
                    for part in pair:
                        self.board.flash.power_on()
                        self.board.flash.erase(part.offset, self.board.layout.geometry.sizes[0])
        super().power(on)


def test_a_board_that_does_not_come_back_fails() -> None:
    spec = VirtualSpec()
    result = cut(Fragile(spec, House(3, spec.device, EPOCH)))
    assert (result.verdict, result.reason) == (Verdict.FAIL, "cut 3 failed")
    assert "nothing runs" in result.evidence[0].text
    assert result.figures["cuts"] == 3


def test_cuts_go_on_where_they_were_interrupted() -> None:
    kept: list[Part] = []
    first = cut(VirtualSpec().make(3), 5, kept=Kept((), kept.append))
    again: list[Part] = []
    second = cut(VirtualSpec().make(3), 5, kept=Kept(kept[:3], again.append))
    assert [part.text.split(":")[0] for part in again] == [part.text.split(":")[0] for part in kept[3:]]
    assert (second.verdict, second.reason) == (first.verdict, first.reason)


def slowly(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """So many of the updates that are measured take a hundred times as long as any other."""
    left = [times]

    def slow(bench: Stand, release: Release) -> Part:
        part = update(bench, release)
        left[0] -= 1
        figures = {**part.figures, DURATION: part.figures[DURATION] * (100 if left[0] >= 0 else 1)}
        return replace(part, figures=figures)

    monkeypatch.setattr(cuts, "update", slow)


def test_cuts_that_come_when_the_update_is_over_show_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    slowly(monkeypatch, 2)
    result = cut(VirtualSpec().make(3))
    assert (result.verdict, result.independent) == (Verdict.INCONCLUSIVE, False)
    assert result.reason == "6 of 6 cuts came when the update was over, and show nothing"
    assert result.figures["cuts behind the update's end"] == 6


def test_an_update_that_is_slow_for_once_does_not_move_the_cuts_behind_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = cut(VirtualSpec().make(3))
    slowly(monkeypatch, 1)
    assert cut(VirtualSpec().make(3)) == expected


def test_an_update_that_fails_without_a_cut_is_no_verdict_on_cuts() -> None:
    class Deaf:
        def decide(self, operation: Operation) -> tuple[Cut, int] | None:
            return (Cut.BEFORE, 0)

    target = VirtualSpec().make(3)
    stand = Stand(target, 3, Firmware())
    stand.look()
    stand.settle()
    work = CutsWork(CutsOrder(spread=2))
    target.board.flash.power_cut = Deaf()
    result = work.do(stand, Kept())
    assert result.verdict is Verdict.INCONCLUSIVE
