"""Boot flags in a real redundant U-Boot environment, through the real `fw_printenv` and `fw_setenv`."""

from __future__ import annotations

import os
import stat
from hashlib import sha256
from pathlib import Path

import pytest

from hillhold_verifier.errors import ConfirmError, MisuseError, OperationalError, UnprovisionedError
from hillhold_verifier.linux.uboot import UBootControl, UBootEnvironment
from hillhold_verifier.slots import BootFlags, Mark
from linuxboard import MemoryEnvironment, environment_file

SIZE = 16 * 1024
MARK = Mark(sha256(b"marked").digest(), 70_000)


class Machine:
    """An environment in a file, and a kernel's command line. `tool`: the real one, or the same in memory."""

    def __init__(self, folder: Path, components: int = 1, *, real: bool) -> None:
        self.config = environment_file(folder, size=SIZE)
        self.environment = UBootEnvironment(self.config) if real else MemoryEnvironment()
        self.file, self.line, self.components = folder / "env", folder / "cmdline", components
        self.runs("0" * components)
        self.control().provision([0] * components)

    def runs(self, slots: str) -> None:
        self.line.write_text(f"root=/dev/mmcblk0p2 hillhold.slots={slots} rw\n")

    def control(self) -> UBootControl:
        return UBootControl(self.environment, self.components, self.line)


@pytest.fixture(params=[pytest.param(True, marks=pytest.mark.system, id="real"), pytest.param(False, id="memory")])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return Machine(tmp_path, real=request.param)


@pytest.fixture
def real(tmp_path: Path) -> Machine:
    return Machine(tmp_path, real=True)


def test_mark_trial_confirm(machine: Machine) -> None:
    assert machine.control().flags() == BootFlags(running=0, confirmed=0)
    machine.control().set_marks({0: MARK})
    assert machine.control().flags() == BootFlags(running=0, confirmed=0, mark=MARK)
    machine.environment.write({"hillhold_starts": "1"})
    machine.runs("1")
    control = machine.control()
    assert control.flags() == BootFlags(running=1, confirmed=0, mark=MARK, trial=True, starts=1)
    with pytest.raises(MisuseError, match="a trial is under way"):
        control.set_marks({0: MARK})
    control.confirm()
    assert control.flags() == machine.control().flags() == BootFlags(running=1, confirmed=1)
    control.confirm()
    assert machine.control().flags() == BootFlags(running=1, confirmed=1)


def test_a_trial_that_was_ended_cannot_be_confirmed(machine: Machine) -> None:
    machine.control().set_marks({0: MARK})
    machine.runs("1")
    control = machine.control()
    control.clear_marks()
    with pytest.raises(ConfirmError, match="one that was cleared"):
        control.confirm()
    assert machine.control().flags() == BootFlags(running=1, confirmed=0, trial=True)


def test_a_rejection_and_its_acknowledgement(machine: Machine) -> None:
    with pytest.raises(ConfirmError, match="expected an image on trial"):
        machine.control().reject()
    machine.control().set_marks({0: MARK})
    machine.runs("1")
    machine.control().reject()
    assert machine.control().flags() == BootFlags(running=1, confirmed=0, trial=True, failed=MARK.sha256)
    machine.runs("0")
    machine.control().acknowledge_failure()
    assert machine.control().flags() == BootFlags(running=0, confirmed=0)


def test_nothing_is_confirmed_where_nothing_is_known_to_run(machine: Machine) -> None:
    for line in ("quiet\n", "hillhold.slots=\n", "hillhold.slots=2\n", "hillhold.slots=01\n"):
        machine.line.write_text(line)
        assert machine.control().flags() == BootFlags(running=None, confirmed=0)
        with pytest.raises(ConfirmError, match=r"hillhold\.slots="):
            machine.control().confirm()


def test_two_components_change_in_one_write(tmp_path: Path) -> None:
    machine = Machine(tmp_path, 2, real=False)
    other = Mark(sha256(b"other").digest(), 3)
    machine.control().set_marks({1: other})
    machine.control().set_marks({0: MARK})
    assert [machine.control().flags(number).mark for number in (0, 1)] == [MARK, None]
    machine.control().set_marks({0: MARK, 1: other})
    machine.runs("11")
    machine.control().confirm()
    assert machine.environment.read() == {"hillhold": "1", "hillhold_confirmed": "11"}
    with pytest.raises(MisuseError, match="component 2 of a board that has 2"):
        machine.control().flags(2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hillhold", None),
        ("hillhold", "2"),
        ("hillhold_confirmed", None),
        ("hillhold_confirmed", "2"),
        ("hillhold_confirmed", "01"),
        ("hillhold_mark_0", "abc 5"),
        ("hillhold_mark_0", f"{'0' * 64} -5"),
        ("hillhold_failed_0", "0" * 63),
        ("hillhold_starts", "-1"),
        ("hillhold_starts", "many"),
    ],
)
def test_flags_that_are_not_ours_are_never_taken_for_none(machine: Machine, name: str, value: str | None) -> None:
    machine.environment.write({name: value})
    control = machine.control()
    for act in (control.flags, control.clear_marks, control.confirm, control.acknowledge_failure):
        with pytest.raises(UnprovisionedError, match=name):
            act()


# --- the real tool ----------------------------------------------------------------------------------------------------


@pytest.mark.system
def test_what_others_keep_there_stays(real: Machine) -> None:
    real.environment.write({"bootcmd": "run a; run b", "ethaddr": "02:00:00:00:00:01"})
    real.control().set_marks({0: MARK})
    real.control().clear_marks()
    values = real.environment.read()
    assert (values["bootcmd"], values["ethaddr"], values["bootdelay"]) == ("run a; run b", "02:00:00:00:00:01", "0")


@pytest.mark.system
def test_a_write_that_was_cut_leaves_the_old_flags(real: Machine) -> None:
    """The tool writes the copy that is not in use; spoil each of its parts in turn, as a cut within the write would."""
    real.control().set_marks({0: MARK})
    before = real.file.read_bytes()
    real.control().clear_marks()
    after = real.file.read_bytes()
    (changed,) = (at for at in (0, SIZE) if before[at : at + SIZE] != after[at : at + SIZE])
    for cut in (0, 1, 3, 4, 5, 6, 20, 100, SIZE // 2):
        torn = bytearray(before)
        torn[changed : changed + cut] = after[changed : changed + cut]
        real.file.write_bytes(torn)
        flags = real.control().flags()
        assert flags in (BootFlags(0, 0, MARK), BootFlags(0, 0)), cut
        # And the next write finds its way.
        real.control().set_marks({0: MARK})
        assert real.control().flags().mark == MARK


@pytest.mark.system
def test_two_spoilt_copies_are_never_taken_for_a_default(real: Machine, tmp_path: Path) -> None:
    real.file.write_bytes(b"\xff" * 2 * SIZE)
    with pytest.raises(OperationalError, match="default"):
        real.control().flags()
    with pytest.raises(OperationalError, match="default"):
        real.control().provision([0])


@pytest.mark.system
def test_a_configuration_that_is_wrong_or_none(tmp_path: Path) -> None:
    with pytest.raises(OperationalError, match="fw_printenv"):
        UBootEnvironment(tmp_path / "none").read()
    config = tmp_path / "fw_env.config"
    config.write_text("/dev/none 0x0 0x4000\n")
    with pytest.raises(OperationalError, match="fw_printenv"):
        UBootEnvironment(config).read()


def fake_tools(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    for name, script in scripts.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_a_tool_that_stores_nothing_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """U-Boot's own fw_setenv reads scripts of another form; some versions exit with 0 after an error."""
    fake_tools(
        tmp_path, monkeypatch, fw_printenv="echo hillhold=1; echo hillhold_confirmed=0", fw_setenv="cat >/dev/null"
    )
    control = UBootControl(UBootEnvironment(tmp_path), 1, Path("/dev/null"))
    with pytest.raises(OperationalError, match=r"hillhold_mark_0: expected .* got none"):
        control.set_marks({0: MARK})


def test_no_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OperationalError, match="fw_printenv: not installed"):
        UBootEnvironment(tmp_path).read()


def test_a_tool_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_tools(tmp_path, monkeypatch, fw_printenv="echo no flash here >&2; exit 3")
    with pytest.raises(OperationalError, match="no flash here"):
        UBootEnvironment(tmp_path).read()
