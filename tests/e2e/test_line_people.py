"""What people meet on a serial line: ports and their names, a port that somebody has, captures and what they tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import TIMEOUT, Lab, device, run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")


def test_ports_are_listed() -> None:
    for name in ("hillhold-device", "hillhold-lab"):
        done = run(name, "ports")
        assert done.code == 0
        assert done.out.splitlines()[0].startswith(("device ", "no serial ports"))
        ports = run(name, "ports", "--json").json["ports"]
        assert len(ports) == 0 or len(done.out.splitlines()) == len(ports) + 1
        assert all(port["device"] in done.out for port in ports)


def test_a_name_that_fits_no_port_says_which_there_are() -> None:
    done = device("status", "--port", "no such board")
    assert (done.code, done.out) == (3, "")
    error, hint = done.err.splitlines()
    assert error == "error: port no such board: no port here has this name, serial number or description"
    assert hint.startswith(("hint: the ports here: ", "hint: there are no serial ports here"))


def test_a_push_is_captured_and_told(lab: Lab, tmp_path: Path) -> None:
    capture = tmp_path / "push.capture"
    with lab.board(tmp_path / "flash") as board:
        pushed = device("push", lab.one, "--port", board.port, "--capture", capture, "--json")
        assert (pushed.code, pushed.err) == (0, "")
    told = run("hillhold-lab", "trace", capture)
    assert (told.code, told.err) == (0, "")
    for words in (
        f"capture of {board.port} at 115200 baud",
        "os parameters",
        "hillhold identify",
        "image upload",
        "os reset",
    ):
        assert words in told.out
    assert max(map(len, told.out.splitlines()[1:])) <= 100
    values = run("hillhold-lab", "trace", capture, "--json").json
    summary = values["summary"]
    assert (summary["sent_bytes"], summary["received_bytes"]) == (
        pushed.json["sent_bytes"],
        pushed.json["received_bytes"],
    )
    assert summary["damaged"] == 0
    uploads = {
        event["body"]["off"]: bytes.fromhex(event["body"]["data"])
        for event in values["events"]
        if event["kind"] == "request" and event["name"] == "image upload"
    }
    image = next((lab.one / "targets" / "pump" / "1.0.0").iterdir()).read_bytes()
    assert b"".join(data for _, data in sorted(uploads.items())) == image


def test_a_capture_replaces_nothing_and_then_nothing_is_sent(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "old").write_text("of yesterday")
    with lab.board(tmp_path / "flash") as board:
        board.wait_for("boot (power-on)")
        done = device("status", "--port", board.port, "--capture", tmp_path / "old")
        assert (done.code, done.err.splitlines()[0]) == (2, f"error: capture {tmp_path / 'old'}: it exists")
        assert (tmp_path / "old").read_text() == "of yesterday"
        board.stop()
        assert "off; 0 bytes received" in board.log


def test_a_port_that_does_not_open_leaves_no_capture(tmp_path: Path) -> None:
    assert device("status", "--port", tmp_path / "none", "--capture", tmp_path / "x").code == 3
    assert not (tmp_path / "x").exists()


def test_a_capture_needs_a_line(tmp_path: Path) -> None:
    done = device("status", "--capture", tmp_path / "x")
    assert (done.code, done.err.splitlines()[0]) == (
        2,
        "error: --capture keeps what goes over a line: expected --port, too",
    )


def test_a_full_disk_warns_once_and_the_push_goes_on(lab: Lab, tmp_path: Path) -> None:
    def limit() -> None:
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))

    with lab.board(tmp_path / "flash") as board:
        done = device("push", lab.one, "--port", board.port, "--capture", tmp_path / "x", preexec_fn=limit)
    assert done.code == 0
    assert done.err.count("it ends here, the rest goes on") == 1
    told = run("hillhold-lab", "trace", tmp_path / "x")
    assert told.code == 1
    assert "hillhold identify" in told.out
    assert "the file was cut short" in told.err


@contextmanager
def somebody(says: bytes) -> Iterator[str]:
    """A pseudo-terminal on which somebody answers whatever comes with the same."""
    import tty

    ours, theirs = os.openpty()
    tty.setraw(theirs)
    ended = threading.Event()

    def talk() -> None:
        while not ended.is_set():
            try:
                if os.read(ours, 4096):
                    os.write(ours, says)
            except OSError:
                return

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield os.ttyname(theirs)
    finally:
        ended.set()
        os.write(theirs, b"\n")
        thread.join(TIMEOUT)
        os.close(ours)
        os.close(theirs)


def test_a_silent_board_says_what_was_tried_and_its_capture_what_came(tmp_path: Path) -> None:
    with somebody(b"\r\npi login: ") as port:
        done = device("status", "--port", port, "--capture", tmp_path / "x")
    assert done.code == 3
    error, hint = done.err.splitlines()
    assert error == "error: no answer from the board in 6 s at 115200 baud; tried console and raw"
    assert hint.startswith("hint: a login prompt answers on this port: is it the console of a Linux?")
    told = run("hillhold-lab", "trace", tmp_path / "x").out
    assert " > console #" in told
    assert " > raw     #" in told
    assert "no answer" in told
    assert "< text    pi login: " in told


def test_a_busy_port_names_who_has_it(tmp_path: Path) -> None:
    hold = "import serial, sys, time; port = serial.Serial(sys.argv[1], exclusive=True); print('has it', flush=True); time.sleep(60)"
    with somebody(b"") as port:
        other = subprocess.Popen([sys.executable, "-c", hold, port], stdout=subprocess.PIPE)
        try:
            assert other.stdout is not None
            other.stdout.readline()
            done = device("status", "--port", port, "--json")
        finally:
            other.kill()
            other.wait(TIMEOUT)
            if other.stdout is not None:
                other.stdout.close()
    assert done.code == 3
    values = json.loads(done.out)
    assert values["error"] == f"port {port}: in use by another program"
    if sys.platform == "linux":
        assert f"(process {other.pid})" in values["hint"]
