"""`hillhold-device` on a Linux board: provisioned, updated, confirmed and served, with the real `fw_setenv`, as processes."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hillhold_verifier.cli import main
from hillhold_verifier.linux.files import exclusive
from hillhold_verifier.linux.uboot import UBootEnvironment
from lab import BIN, TIMEOUT, Done, Lab, device, wait_for
from linuxboard import LinuxBoard, environment_file

pytestmark = [pytest.mark.system]
Capture = pytest.CaptureFixture[str]


class Machine:
    """A board with its file, and the commands on it. Its restart leaves a trace in `restarts`."""

    def __init__(self, folder: Path, lab: Lab) -> None:
        folder.mkdir()
        self.folder, self.lab = folder, lab
        first = next((lab.one / "targets" / "pump" / "1.0.0").iterdir())
        second = next((lab.two / "targets" / "pump" / "1.1.0").glob("*.app.bin"))
        repo = _Blobs({"pump/1.0.0/app.bin": first.read_bytes(), "pump/1.1.0/app.bin": second.read_bytes()})
        config = environment_file(folder)
        self.board = LinuxBoard(folder, repo, environment=UBootEnvironment(config), provisioned=False)  # type: ignore[arg-type]
        self.restarts = folder / "restarts"
        self.config = folder / "device.toml"
        slots = ", ".join(f'"{path}"' for path in self.board.slots)
        self.config.write_text(
            f'state = "{self.board.state}"\nreboot = ["sh", "-c", "echo >> {self.restarts}"]\n'
            f'[uboot]\nconfig = "{config}"\ncommand-line = "{self.board.command_line}"\n'
            f'[[component]]\nname = "app"\nslots = [{slots}]\n'
        )
        self.first = first

    def run(self, *arguments: object) -> Done:
        return device(*arguments, "--config", self.config)

    def provision(self, *more: object) -> Done:
        return self.run("provision", *self.lab.new, "--factory", f"pump/1.0.0/app.bin={self.first}", *more)


class _Blobs:
    """As much of a repository as a board asks for."""

    def __init__(self, blobs: dict[str, bytes]) -> None:
        self.blobs = blobs


@pytest.fixture
def machine(lab: Lab, tmp_path: Path) -> Machine:
    found = Machine(tmp_path / "machine", lab)
    assert found.provision().code == 0
    return found


def test_provision_check_update_confirm(lab: Lab, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", lab)
    bare = machine.run("status")
    assert (bare.code, bare.err.splitlines()[0][:28]) == (1, "error: device state: expecte")
    done = machine.provision()
    assert done.code == 0, done.err
    assert "board              unit-7 (pump on nrf51-a)\nrunning            1.0.0 (" in done.out
    again = machine.provision()
    assert (again.code, again.err) == (
        2,
        "error: this device was provisioned before\n"
        "hint: --again replaces what the device is, whom it trusts and what it remembers\n",
    )
    check = machine.run("check", lab.two)
    assert check.code == 0, check.err
    assert check.out.splitlines()[0].startswith("would install pump/1.1.0/app.bin (")
    assert "  pump/1.0.0/app.bin: installed, this is the confirmed image" in check.out
    update = machine.run("update", lab.two, "--json", "--reboot")
    assert (update.code, update.json["patched"], update.json["restarts"]) == (0, ["pump/1.1.0/app.bin"], True)
    assert machine.restarts.read_text() == "\n"
    assert machine.board.boot() == "1.1.0"
    assert "1.1.0 (" in machine.run("status").out
    assert machine.run("confirm").out == "confirmed 1.1.0\n"
    assert machine.board.boot() == "1.1.0"
    status = machine.run("status", "--json").json
    assert (status["id"], status["trial"], status["counter"], status["marked"]) == ("unit-7", False, 1, None)
    current = machine.run("update", lab.two)
    assert (current.code, current.out.splitlines()[0]) == (0, "nothing to install: the board is up to date")
    older = machine.run("update", lab.one)
    assert (older.code, older.err.splitlines()[0]) == (1, "error: timestamp version: expected at least 3, got 2")


def test_a_rejected_image_is_not_taken_again(machine: Machine) -> None:
    early = machine.run("reject")
    assert (early.code, early.err.splitlines()[0]) == (1, "error: rejection: expected an image on trial, got none")
    assert machine.run("update", machine.lab.two).code == 0
    assert machine.board.boot() == "1.1.0"
    assert (
        machine.run("reject", "--reboot").out == "the trial has failed; the device restarts into the confirmed image\n"
    )
    assert machine.board.boot() == "1.0.0"
    assert machine.run("confirm").out == "confirmed 1.0.0\n"
    again = machine.run("update", machine.lab.two)
    assert (again.code, again.out.splitlines()[0]) == (0, "nothing to install")
    assert "its trial failed on this device before" in again.out
    # An operator at the device may let it go.
    (failed,) = machine.run("status", "--json").json["failed_trials"]
    assert machine.run("forget", "0" * 64).code == 1
    assert machine.run("forget").code == 2
    assert machine.run("forget", failed).out == f"forgot {failed}\n"
    assert machine.run("forget", "--all").out == "no trial has failed here\n"
    assert machine.run("check", machine.lab.two).out.startswith("would install pump/1.1.0/app.bin")


def test_what_is_missing_or_wrong_is_said(machine: Machine, tmp_path: Path, capsys: Capture) -> None:
    def call(*arguments: object) -> tuple[int, str]:
        code = main([*map(str, arguments)])
        return code, capsys.readouterr().err

    config = ("--config", machine.config)
    assert call("update", tmp_path / "none", *config)[0] == 3
    code, words = call("status", "--config", tmp_path / "none.toml")
    assert (code, words.splitlines()[1]) == (
        3,
        "hint: --config names this device's file; a board on a line is named with --port",
    )
    new = (
        "--root",
        machine.lab.root,
        "--product",
        "pump",
        "--hardware",
        "nrf51-a",
        "--id",
        "unit-7",
        *config,
        "--again",
    )
    assert call("provision", *new, "--factory", "pump/1.0.0/app.bin")[0] == 2
    assert call("provision", *new, "--factory", "pump/1.0.0/app.bin=/none")[0] == 3
    assert call("provision", *new, "--factory", f"pump/1.0.0/app.bin={machine.config}")[0] == 1
    assert call("provision", *new[:2], "--product", "Pump!", *new[4:])[0] == 2
    code, words = call("update", machine.lab.two, "--port", "/dev/null")
    assert code == 2
    (machine.folder / "env").write_bytes(bytes(32 * 1024))
    code, words = call("update", machine.lab.two, *config)
    assert (code, "saveenv" in words) == (3, True)


# --- on a line --------------------------------------------------------------------------------------------------------


@contextmanager
def cable() -> Iterator[tuple[str, str]]:
    """Two serial ports, joined."""
    pairs = [os.openpty() for _ in range(2)]
    for _, end in pairs:
        tty.setraw(end)
    ours = [pair[0] for pair in pairs]
    stop, wake = os.pipe()

    def carry() -> None:
        while True:
            ready = select.select([*ours, stop], [], [])[0]
            if stop in ready:
                return
            for here, there in (ours, ours[::-1]):
                if here in ready:
                    os.write(there, os.read(here, 4096))

    thread = threading.Thread(target=carry)
    thread.start()
    try:
        yield os.ttyname(pairs[0][1]), os.ttyname(pairs[1][1])
    finally:
        os.write(wake, b"x")
        thread.join()
        for handle in (*(end for pair in pairs for end in pair), stop, wake):
            os.close(handle)


@contextmanager
def serving(machine: Machine, port: str) -> Iterator[subprocess.Popen[bytes]]:
    log = machine.folder / "serve.log"
    with log.open("wb") as out:
        command = [str(BIN / "hillhold-device"), "serve", "--port", port, "--config", str(machine.config)]
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        wait_for("serving on", log)
        yield process
    finally:
        process.kill()
        process.wait(TIMEOUT)


def test_a_courier_updates_the_board_that_then_confirms_itself(machine: Machine, lab: Lab) -> None:
    with cable() as (near, far):
        port = ("--port", far)
        with serving(machine, near) as process:
            assert "1.0.0 (" in device("status", *port).out
            pushed = device("push", lab.two, *port, "--no-reset")
            assert (pushed.code, pushed.out.splitlines()[0][:26]) == (0, "marked pump/1.1.0/app.bin:")
            # The conversation is over, and the board's own commands find the device free after a moment.
            assert machine.run("check", lab.two).code == 0
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT) == 0
        assert machine.board.boot() == "1.1.0"
        with serving(machine, near) as process:
            early = device("confirm", *port)
            assert (early.code, early.err.splitlines()[0]) == (
                1,
                "error: confirmation: expected the image's own test to have passed, got not yet",
            )
            assert machine.run("confirm").out == "confirmed 1.1.0\n"
            status = device("status", *port, "--json").json
            assert (status["trial"], status["confirmed"][0]) == (False, "1.1.0")
            refused = device("push", lab.one, *port)
            assert (refused.code, refused.err.splitlines()[-2]) == (
                1,
                "error: timestamp version: expected at least 3, got 2",
            )


def test_a_reset_over_the_line_restarts_the_device(machine: Machine, lab: Lab) -> None:
    with cable() as (near, far), serving(machine, near) as process:
        # The board does not come back here: it is the restart that counts.
        push = subprocess.Popen(
            [str(BIN / "hillhold-device"), "push", str(lab.two), "--port", far],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert process.wait(TIMEOUT) == 0
        finally:
            push.kill()
            push.wait(TIMEOUT)
    assert machine.restarts.read_text() == "\n"
    assert machine.board.boot() == "1.1.0"


def test_while_the_device_is_held_couriers_are_told(machine: Machine, lab: Lab) -> None:
    with cable() as (near, far), serving(machine, near):
        with exclusive(machine.board.state):
            busy = device("push", lab.two, "--port", far)
            assert (busy.code, "in use by another process" in busy.err) == (1, True)
        assert json.loads(device("status", "--port", far, "--json").out)["running"][0] == "1.0.0"
