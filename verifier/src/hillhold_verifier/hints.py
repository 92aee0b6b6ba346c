"""Why a serial port cannot be used, or says nothing, and what to do about it: for people.

Judged from what the system and the line say; nothing here writes to a port. Where the system does not tell (another user's processes,
another system than Linux), a hint says less.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hillhold_verifier.errors import OperationalError
from hillhold_verifier.ports import SerialPort, find_ports, ports_hint

IN_USE: Final = "in use by another program"
_PROC: Final = Path("/proc")
_SHOWN: Final = 48
"""Characters of a board's text in a hint."""
_GARBAGE: Final = 0.3
"""The share of bytes that are no text, from which on a line runs at another rate; text has next to none, a wrong rate most."""
_ESCAPE: Final = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


def reason_of(error: Exception) -> str:
    """Return what went wrong in one phrase; pyserial nests the system's words in its own."""
    text, number = str(error), _number_of(error)
    if "exclusively lock" in text or number == errno.EBUSY or (number == errno.EACCES and sys.platform == "win32"):
        return IN_USE
    return os.strerror(number) if number else text


def _number_of(error: Exception) -> int | None:
    number = getattr(error, "errno", None)
    if not number and (nested := re.search(r"\[Errno (\d+)\]|\((\d+), ['\"]", str(error))):
        number = int(nested[1] or nested[2])
    return number


# --- a port that does not open ----------------------------------------------------------------------------------------


def open_error(name: str, error: Exception) -> OperationalError:
    """Return the error for a port that did not open, with what to do about it."""
    reason, number = reason_of(error), _number_of(error)
    hint = None
    if "://" in name:
        pass
    elif reason == IN_USE:
        users = [holder for holder in holders(name) if holder.pid != os.getpid()]
        if users:
            hint = f"{' and '.join(map(str, users))} has it: end that, or wait for it"
    elif number in (errno.EACCES, errno.EPERM):
        hint = _permission_hint(Path(name))
    elif number in (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTDIR):
        hint = ports_hint(_ports())
    elif number in (errno.ENOTTY, errno.EISDIR) or not is_terminal(name):
        hint = f"this is not a serial port; {ports_hint(_ports())}"
    return OperationalError(f"port {name}: {reason}", hint=hint)


def _ports() -> list[SerialPort]:
    try:
        return find_ports()
    except OperationalError:  # without pyserial no port was opened either
        return []


def is_terminal(name: str) -> bool:
    """Say whether a path is a character device; where there are none (COM ports), all are."""
    try:
        return stat.S_ISCHR(Path(name).stat().st_mode)
    except (OSError, ValueError):
        return True


def _permission_hint(path: Path) -> str | None:
    try:
        import grp
        import pwd
    except ImportError:  # not a POSIX system
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    try:
        group = grp.getgrgid(found.st_gid)
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a number that has no name
        return f"the port belongs to group {found.st_gid}; you are not in it"
    if not found.st_mode & stat.S_IRGRP or not found.st_mode & stat.S_IWGRP or group.gr_gid == 0:
        return "only root may use this port; a udev rule can give it to a group"
    if user in group.gr_mem:
        return f"you are in group {group.gr_name}, but this login is older: log out and in again"
    return (
        f"the port belongs to group {group.gr_name}: sudo usermod -aG {group.gr_name} {user}, then log out and in again"
    )


# --- who has a port ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has a port.

    Attributes:
        session: the port is its controlling terminal: a login, or what was started from one.
    """

    pid: int
    name: str
    session: bool = False

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"


def holders(name: str, proc: Path = _PROC) -> list[Holder]:
    """Return the processes that have a device open or as their terminal, as far as this user may know; [] where nothing tells.

    Args:
        name: path of the device.
        proc: where Linux shows its processes.
    """
    try:
        device = Path(name).stat().st_rdev
        folders = sorted((int(folder.name), folder) for folder in proc.iterdir() if folder.name.isdecimal())
    except (OSError, ValueError):
        return []
    found = []
    for pid, folder in folders:
        # proc(5): the name is in parentheses and may contain any; state, parent, group, session and terminal follow.
        try:
            head, _, rest = (folder / "stat").read_text(errors="replace").rpartition(")")
            terminal = int(rest.split()[4])
        except (OSError, ValueError, IndexError):  # it has ended
            continue
        session = device != 0 and terminal == device
        if session or _has_open(folder, device):
            found.append(Holder(pid, head.partition("(")[2], session))
    return found


def _has_open(folder: Path, device: int) -> bool:
    try:
        for entry in (folder / "fd").iterdir():
            try:
                if entry.stat().st_rdev == device != 0:
                    return True
            except OSError:
                continue
    except OSError:  # another user's process
        pass
    return False


def login_error(name: str, proc: Path = _PROC) -> OperationalError | None:
    """Return the error for a port on which a login runs: what a board says there is half eaten by it. None where there is none.

    A getty takes no lock, so the port would open. Pseudo-terminals are left out: there every shell has one.
    """
    if "://" in name or str(Path(name).resolve()).startswith("/dev/pts/"):
        return None
    session = next((holder for holder in holders(name, proc) if holder.session), None)
    if session is None:
        return None
    unit = f"serial-getty@{Path(name).resolve().name}"
    return OperationalError(
        f"port {name}: held by a login, {session}",
        hint=f"it is a console of this computer; is it the right port? if so: sudo systemctl stop {unit}",
    )


# --- a port that is open and silent -----------------------------------------------------------------------------------

_SPEAKERS: Final = (
    (
        rb"(?i)login(: ?| incorrect)|password: ?$",
        "a login prompt answers on this port: is it the console of a Linux? take another port, or stop its getty and run "
        "`hillhold-device serve` there",
    ),
    (rb"Hit any key to stop autoboot|U-Boot (SPL )?\d{4}\.|^=> $", "U-Boot answers on this port, not SMP: let it boot"),
    (
        rb"\*\*\* Booting MCUboot|Starting bootloader|Swap type: |Image index: \d|Jumping to the first image slot",
        "the board restarted, and MCUboot spoke: wait until the application runs; if it says that it has no image, "
        "start its serial recovery",
    ),
    (
        rb"uart:~\$",
        "a Zephyr shell answers on this port: is SMP built in there (CONFIG_MCUMGR_TRANSPORT_SHELL), or on another port?",
    ),
    (
        rb"\*\*\* Booting Zephyr OS",
        "Zephyr boots on this port, and no SMP server answered: is one built in, on this port?",
    ),
    (rb"(?m)^>>> ?$|MicroPython v", "a Python prompt answers on this port, not SMP"),
    (rb"(?m)[$#] ?$", "a shell prompt answers on this port, not SMP: is it the console of a Linux?"),
)
"""Who speaks, by what they say; the first that fits."""


def silence_hint(text: bytes, baud: int) -> str | None:
    """Return what a silent board's line tells about why no SMP answer came, or None where nothing came.

    Args:
        text: all that came which was no frame, in order; control sequences of terminals may be in it.
        baud: the rate at which it was read.
    """
    text = _ESCAPE.sub(b"", text)
    if not text.strip(b"\0\r\n\t "):
        return (
            f"only zeros came: a wrong rate (--baud, now {baud}), or a line that is held low" if b"\0" in text else None
        )
    if _not_text(text) >= _GARBAGE:
        return f"what comes is no text: wrong baud rate? --baud sets another than {baud}"
    for pattern, hint in _SPEAKERS:
        if re.search(pattern, text):
            return hint
    said = next(line for line in re.split(r"[\r\n]+", text.decode(errors="replace")) if line.strip())
    words = "".join(char if char.isprintable() else " " for char in said).strip()
    return f"text comes, but no SMP: “{words[:_SHOWN]}{'…' if len(words) > _SHOWN else ''}”; is it the right port?"


def _not_text(data: bytes) -> float:
    """The share of bytes that are neither printable, white space, nor UTF-8."""
    shown = data.decode(errors="ignore")
    kept = sum(len(char.encode()) for char in shown if char.isprintable() or char in "\r\n\t\b\a")
    return 1 - kept / len(data)
