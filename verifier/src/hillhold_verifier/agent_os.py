"""SMP group OS as stock tools speak it: echo, reset, MCUmgr parameters, the date, and what the bootloader is.

What a board has no answer to (statistics of tasks and memory pools, application information, …) is "not supported", as on a Zephyr board
that was built without it. The date is read from the clock that the agent is given, and never set: no host's clock feeds the device
(DESIGN §4, "Time").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from hillhold_verifier.smp import Group, Message, MgmtErr, Op, OsCommand, OsMgmtErr, error_body, smp_error
from hillhold_verifier.smp_fields import int_field, text_field

NORMAL_BOOT: Final = 0
"""The only `boot_mode` that a reset may ask for: there is no serial recovery to boot into."""

# What group OS's own errors are called in SMP v1 (Zephyr, os_mgmt_translate_error_code).
_V1: Final = {
    OsMgmtErr.QUERY_YIELDS_NO_ANSWER: MgmtErr.ENOENT,
    OsMgmtErr.RTC_NOT_SET: MgmtErr.ENOENT,
    OsMgmtErr.RTC_COMMAND_FAILED: MgmtErr.EUNKNOWN,
}

Fields = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Bootloader:
    """What a board says of its bootloader.

    Attributes:
        name: "MCUboot", "U-Boot", …
        mode: MCUboot's `enum mcuboot_mode`, -1 where it has no number for how this one works; None for another bootloader.
    """

    name: str
    mode: int | None = None


SWAP_USING_OFFSET: Final = Bootloader("MCUboot", 9)
REMAP: Final = Bootloader("MCUboot", -1)
"""One image that runs from either slot, tried and reverted. Its number is not direct-XIP's: there, tools look for one image per slot."""
U_BOOT: Final = Bootloader("U-Boot")


@dataclass(frozen=True, slots=True)
class Platform:
    """What the agent is told of the board that it runs on.

    Attributes:
        buffer: bytes of the longest SMP message that it takes.
        buffers: messages that it can hold at a time; so many requests may be under way.
        bootloader: None where nobody told it.
    """

    buffer: int
    buffers: int
    bootloader: Bootloader | None


def answer_os(request: Message, platform: Platform, clock: int | None) -> Fields:
    """Return the response's body. The reset itself is the caller's to do, once `is_reset` says that it was asked for.

    Raises:
        SmpError: a field of the request is missing or of another type.
    """
    match request.op, request.command:
        case _, OsCommand.ECHO:
            return {"r": text_field(request.body, "d", "")}
        case Op.READ, OsCommand.DATETIME_STRING:
            return _date(request, clock)
        case Op.WRITE, OsCommand.DATETIME_STRING:
            return smp_error(MgmtErr.EACCESSDENIED, "the date of this device is not set from a host")
        case Op.WRITE, OsCommand.RESET:
            if int_field(request.body, "boot_mode", NORMAL_BOOT) != NORMAL_BOOT:
                return smp_error(MgmtErr.ENOTSUP, f"boot mode: expected {NORMAL_BOOT}; there is no serial recovery")
            return {}
        case Op.READ, OsCommand.MCUMGR_PARAMETERS:
            return {"buf_size": platform.buffer, "buf_count": platform.buffers}
        case Op.READ, OsCommand.BOOTLOADER_INFO if platform.bootloader:
            return _bootloader(request, platform.bootloader)
    return smp_error(MgmtErr.ENOTSUP)


def is_reset(request: Message, answer: Fields) -> bool:
    """Say whether `request` was a reset that `answer` grants."""
    return (request.op, request.group, request.command) == (Op.WRITE, Group.OS, OsCommand.RESET) and not answer


def _date(request: Message, clock: int | None) -> Fields:
    if clock is None:
        return _error(request, OsMgmtErr.RTC_NOT_SET)
    try:
        return {"datetime": f"{datetime.fromtimestamp(clock, UTC):%Y-%m-%dT%H:%M:%S}"}
    except (OverflowError, OSError, ValueError):  # a year beyond 9999: a clock that runs wild
        return _error(request, OsMgmtErr.RTC_COMMAND_FAILED)


def _bootloader(request: Message, bootloader: Bootloader) -> Fields:
    query = text_field(request.body, "query", "")
    if not query:
        return {"bootloader": bootloader.name}
    if query == "mode" and bootloader.mode is not None:
        return {"mode": bootloader.mode}
    return _error(request, OsMgmtErr.QUERY_YIELDS_NO_ANSWER)


def _error(request: Message, rc: OsMgmtErr) -> Fields:
    return error_body(request.version, Group.OS, rc if request.version else _V1[rc])
