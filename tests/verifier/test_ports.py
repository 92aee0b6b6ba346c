"""Ports as people name them, and why one does not open or says nothing."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from hillhold_verifier.errors import MisuseError, OperationalError
from hillhold_verifier.hints import Holder, holders, login_error, open_error, reason_of, silence_hint
from hillhold_verifier.ports import SerialPort, find_port, pick, port_lines, port_values

KIT = SerialPort("/dev/ttyACM0", "J-Link - CDC0", "SEGGER", "J-Link", "1366:1051", "001050012345")
KIT_2 = SerialPort("/dev/ttyACM1", "J-Link - CDC1", "SEGGER", "J-Link", "1366:1051", "001050012345")
CABLE = SerialPort("/dev/ttyUSB0", "FT232R USB UART", "FTDI", "FT232R USB UART", "0403:6001", "A50285BI")
CABLE_10 = SerialPort("/dev/ttyUSB10", "FT232R USB UART", "FTDI", "FT232R USB UART", "0403:6001", "")
COM = SerialPort("COM3", "USB Serial Device (COM3)", "Microsoft", "", "2fe3:0100", "7A")
BUILT_IN = SerialPort("/dev/ttyS0")
ALL = [KIT, KIT_2, CABLE, CABLE_10, COM, BUILT_IN]


# --- picking ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("/dev/ttyACM0", KIT),
        ("ttyACM1", KIT_2),
        ("ttyUSB0", CABLE),
        ("com3", COM),
        ("A50285BI", CABLE),
        ("a50285bi", CABLE),
        ("7A", COM),
        ("CDC1", KIT_2),
        ("j-link - cdc0", KIT),
        ("Microsoft", COM),
        ("ttyS0", BUILT_IN),
    ],
)
def test_a_port_is_picked_by_device_name_serial_number_or_a_part_of_its_description(
    text: str, port: SerialPort
) -> None:
    assert pick(text, ALL) is port


@pytest.mark.parametrize("text", ["001050012345", "J-Link", "segger", "FT232R", "USB"])
def test_what_fits_several_ports_picks_none_and_names_them(text: str) -> None:
    with pytest.raises(MisuseError, match="ports have this name, serial number or description") as refused:
        pick(text, ALL)
    assert (refused.value.hint or "").startswith("say which: /dev/tty")
    assert (refused.value.hint or "").count("/dev/tty") >= 2


@pytest.mark.parametrize("text", ["ttyACM", "/dev/ttyUSB1", "0403:6001", "", "001050012", "CDC3"])
def test_what_fits_no_port_lists_those_that_there_are(text: str) -> None:
    """A part of a device or of a serial number is none: `ttyUSB1` must not become ttyUSB10."""
    with pytest.raises(OperationalError, match="no port here has this name") as refused:
        pick(text, ALL)
    assert "/dev/ttyUSB0 (FT232R USB UART, serial number A50285BI)" in (refused.value.hint or "")


def test_an_earlier_way_of_naming_decides() -> None:
    """A device that calls itself like another port does not take its place."""
    liar = SerialPort("/dev/ttyACM7", "ttyACM0 /dev/ttyACM0 A50285BI", "ttyUSB0", "", "", "ttyACM0")
    for text, port in (("/dev/ttyACM0", KIT), ("ttyACM0", KIT), ("A50285BI", CABLE), ("ttyUSB0", CABLE)):
        assert pick(text, [liar, *ALL]) is port


def test_without_any_port_the_hint_is_about_the_cable() -> None:
    with pytest.raises(OperationalError) as refused:
        pick("ttyACM0", [])
    assert "cable" in (refused.value.hint or "")


def test_a_url_and_an_existing_device_stand_for_themselves() -> None:
    for text in ("socket://127.0.0.1:9100", "rfc2217://host:1", os.devnull):
        assert find_port(text) == SerialPort(text)


def test_a_path_that_is_no_device_is_left_to_whoever_opens_it(tmp_path: Path) -> None:
    assert find_port(str(tmp_path / "none")).device == str(tmp_path / "none")


def test_a_file_here_that_is_called_like_a_port_is_not_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no-such-port").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OperationalError, match="port no-such-port: no port here"):
        find_port("no-such-port")


def test_a_zero_byte_in_a_name_is_an_error_like_any_other() -> None:
    with pytest.raises(OperationalError, match="no port here has this name"):
        find_port("a\0b")


# --- showing ----------------------------------------------------------------------------------------------------------


def test_ports_are_shown_as_a_table() -> None:
    assert port_lines([CABLE, BUILT_IN]) == [
        "device        description      manufacturer  USB id     serial number",
        "/dev/ttyUSB0  FT232R USB UART  FTDI          0403:6001  A50285BI",
        "/dev/ttyS0",
    ]
    assert port_lines([])[0] == "no serial ports"
    assert port_lines([])[1].startswith("hint: ")


def test_ports_are_shown_as_values() -> None:
    assert port_values([BUILT_IN]) == {
        "ports": [
            {
                "device": "/dev/ttyS0",
                "description": None,
                "manufacturer": None,
                "product": None,
                "usb_id": None,
                "serial_number": None,
            }
        ]
    }


# --- a port that does not open ----------------------------------------------------------------------------------------


class Failed(OSError):
    """As pyserial's SerialException: its number may be missing, and the system's words are within its own."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Failed(errno.EBUSY, "could not open port"), "in use by another program"),
        (
            Failed("Could not exclusively lock port x: [Errno 11] Resource temporarily unavailable"),
            "in use by another program",
        ),
        (Failed(errno.EACCES, "could not open port"), os.strerror(errno.EACCES)),
        (
            Failed("could not open port 'COM9': FileNotFoundError(2, 'The system cannot find…', None, 2)"),
            os.strerror(2),
        ),
        (Failed("Could not configure port: (25, 'Inappropriate ioctl for device')"), os.strerror(25)),
        (
            Failed("device reports readiness to read but returned no data"),
            "device reports readiness to read but returned no data",
        ),
        (ValueError("invalid URL"), "invalid URL"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="words and numbers of POSIX")
def test_a_reason_is_one_phrase(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_who_has_a_busy_port_is_named(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    try:
        name = os.ttyname(theirs)
        assert os.getpid() in [holder.pid for holder in holders(name)]
        process = os.fork()
        if process == 0:
            os.close(ours)
            os.read(theirs, 1)  # until the other end closes
            os._exit(0)
        try:
            error = open_error(name, Failed(errno.EBUSY, "could not open port"))
        finally:
            os.kill(process, 9)
            os.waitpid(process, 0)
        assert str(error) == f"port {name}: in use by another program"
        assert f"(process {process}) has it: end that, or wait for it" in (error.hint or "")
        assert f"process {os.getpid()}" not in (error.hint or "")
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.skipif(sys.platform == "win32", reason="groups of POSIX")
def test_a_port_that_is_not_permitted_names_the_group_that_may(tmp_path: Path) -> None:
    import grp

    port = tmp_path / "port"
    port.touch()
    groups = [group for group in grp.getgrall() if group.gr_gid]
    if os.geteuid() == 0 and groups:
        os.chown(port, 0, groups[0].gr_gid)
        port.chmod(0o660)
        hint = open_error(str(port), PermissionError(errno.EACCES, "x")).hint or ""
        assert f"group {groups[0].gr_name}" in hint
        assert "log out and in again" in hint
    port.chmod(0o600)
    assert "only root" in (open_error(str(port), PermissionError(errno.EACCES, "x")).hint or "")


def test_a_port_that_is_not_there_lists_those_that_are(tmp_path: Path) -> None:
    hint = open_error(str(tmp_path / "none"), FileNotFoundError(errno.ENOENT, "x")).hint or ""
    assert hint.startswith(("the ports here: ", "there are no serial ports here"))


def test_a_file_is_not_a_port(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert (open_error(str(tmp_path / "file"), ValueError("x")).hint or "").startswith("this is not a serial port")


# --- a login on a port ------------------------------------------------------------------------------------------------


def process(proc: Path, pid: int, name: str, terminal: int) -> None:
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (folder / "stat").write_text(f"{pid} ({name}) S 1 {pid} {pid} {terminal} {pid} 0 0 0")


@pytest.mark.skipif(sys.platform != "linux", reason="devices and numbers of Linux")
def test_a_login_that_holds_a_port_is_named_before_it_is_opened(tmp_path: Path) -> None:
    """It takes no lock, so the port would open, and lose half of what the board says."""
    device = Path(os.devnull).stat().st_rdev  # stands for a serial port
    process(tmp_path, 7, "a) S 1 1 1 1", 0)
    process(tmp_path, 412, "agetty", device)
    process(tmp_path, 413, "sh", device)
    (tmp_path / "self").mkdir()
    (tmp_path / "9").mkdir()  # a process that has just ended
    error = login_error(os.devnull, tmp_path)
    assert str(error) == "port /dev/null: held by a login, agetty (process 412)"
    assert "sudo systemctl stop serial-getty@null" in ((error and error.hint) or "")
    assert holders(os.devnull, tmp_path) == [Holder(412, "agetty", True), Holder(413, "sh", True)]


def test_a_port_without_a_login_is_free(tmp_path: Path) -> None:
    process(tmp_path, 7, "agetty", 1234)
    assert login_error(os.devnull, tmp_path) is None
    assert login_error("socket://127.0.0.1:1", tmp_path) is None
    assert login_error(str(tmp_path / "none"), tmp_path) is None
    assert login_error(os.devnull, tmp_path / "no-proc") is None


def test_a_name_in_parentheses_does_not_move_the_terminal(tmp_path: Path) -> None:
    process(tmp_path, 7, f"x) S 1 7 7 {Path(os.devnull).stat().st_rdev} (", 0)
    assert login_error(os.devnull, tmp_path) is None


# --- a board that says nothing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"\r\nDebian GNU/Linux 12 pi ttyS0\r\n\r\npi login: ", "a login prompt answers"),
        (b"^F\tAAs\r\nPassword: ", "a login prompt answers"),
        (b"pi login: ^F\tAAsCAAABAAAB\r\nPassword: \r\nLogin incorrect\r\npi login: ", "a login prompt answers"),
        (b"\x1b[?2004hada@pi:~$ ", "a shell prompt answers"),
        (b"/ # ", "a shell prompt answers"),
        (b"uart:~$ \x1b[8D\x1b[J[00:00:01.000] <inf> x\r\nuart:~$ ", "a Zephyr shell answers"),
        (b"*** Booting MCUboot v2.2.0 ***\r\nI: Starting bootloader\r\n", "MCUboot spoke"),
        (b"I: Starting bootloader\r\nE: Unable to find bootable image\r\n", "MCUboot spoke"),
        (b"*** Booting MCUboot ***\r\nI: Jumping\r\n*** Booting Zephyr OS build v4.4.0 ***\r\n", "MCUboot spoke"),
        (b"*** Booting Zephyr OS build v4.4.0 ***\r\nHello\r\n", "Zephyr boots"),
        (b"\r\nU-Boot 2025.01 (Jan 01 2025)\r\nHit any key to stop autoboot:  0 \r\n", "U-Boot answers"),
        (b">>> ", "a Python prompt"),
        (b"sensor 21.5 C\r\nsensor 21.6 C\r\n", "text comes, but no SMP: “sensor 21.5 C”"),
        ("Temperatur 21 °C, ¼ Umdrehung\r\n".encode(), "text comes, but no SMP"),
        (
            bytes([0x98, 0xE0, 0x1E, 0x78, 0x86, 0xFE, 0x18, 0x00, 0xC7, 0x3F] * 5),
            "wrong baud rate? --baud sets another than 9600",
        ),
        (b"ok\xff\xfe\x80\x81", "wrong baud rate"),
        (b"\0\0\0", "only zeros came"),
    ],
)
def test_what_came_from_a_silent_board_says_who_is_there(text: bytes, words: str) -> None:
    assert words in (silence_hint(text, 9600) or "")


@pytest.mark.parametrize("text", [b"", b"\r\n", b"\x1b[2J \r\n"])
def test_a_line_on_which_nothing_came_has_no_hint_of_its_own(text: bytes) -> None:
    assert silence_hint(text, 115200) is None


@pytest.mark.parametrize(
    "text", [b"\x1b]0;evil\x07login", b"x" * 100_000, b"a\x9bb\xe2\x80\xaec", bytes(range(256)) * 40]
)
def test_a_hint_is_one_short_printable_line(text: bytes) -> None:
    hint = silence_hint(text, 115200) or ""
    assert hint.isprintable()
    assert 0 < len(hint) < 160
