"""Group OS as stock tools speak it: echo, reset, parameters, date and bootloader, in the words of SMP v1 and v2.

What is answered here was asked of a Zephyr 4.4 server, too; where the two differ, ours is the stricter.
"""

from __future__ import annotations

from typing import Any

import pytest

from bench import LAYOUT, SWAPPING, Bench, Rig, unchanged
from hillhold_verifier.agent import Agent
from hillhold_verifier.agent_os import U_BOOT
from hillhold_verifier.answers import Body
from hillhold_verifier.smp import Group, Message, MgmtErr, Op, OsCommand, OsMgmtErr, decode, encode
from offers import started

DATE, ECHO, RESET, PARAMETERS, BOOTLOADER = (
    OsCommand.DATETIME_STRING,
    OsCommand.ECHO,
    OsCommand.RESET,
    OsCommand.MCUMGR_PARAMETERS,
    OsCommand.BOOTLOADER_INFO,
)


def new(**options: Any) -> Bench:
    return Bench(started(), **options)


def ask(bench: Bench, op: Op, command: int, body: Body | None = None, *, version: int = 1) -> Body:
    return bench.ask(op, Group.OS, command, body, version=version)


def os_error(version: int, v1: MgmtErr, v2: OsMgmtErr) -> Body:
    return {"err": {"group": 0, "rc": v2}} if version else {"rc": v1}


# --- echo and parameters ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", [Op.READ, Op.WRITE])
@pytest.mark.parametrize("version", [0, 1])
def test_an_echo_repeats_the_text(op: Op, version: int) -> None:
    bench = new()
    for text in ("", "hello", "höhe ≥ 3 \N{SNOWMAN}", "\n\r\x00", "x" * 900):
        assert ask(bench, op, ECHO, {"d": text}, version=version) == {"r": text}
    assert ask(bench, op, ECHO, {"other": 1}, version=version) == {"r": ""}


@pytest.mark.parametrize("value", [5, b"bytes", None, True, ["x"], {"x": "y"}], ids=str)
@pytest.mark.parametrize("version", [0, 1])
def test_an_echo_of_what_is_no_text_is_an_error(value: object, version: int) -> None:
    answer = ask(new(), Op.WRITE, ECHO, {"d": value}, version=version)
    assert answer["rc"] == MgmtErr.EINVAL
    assert "SMP field d: expected text" in str(answer["rsn"])


def test_an_echo_is_never_longer_than_what_was_sent() -> None:
    bench = new(buffer=256)
    request = encode(Message(Op.WRITE, Group.OS, ECHO, 1, {"d": "x" * 243}))
    assert len(request) == 256
    answer = encode(bench.message(decode(request)))
    assert len(answer) == 256


def test_parameters_are_those_of_the_board() -> None:
    assert ask(new(buffer=512, buffers=3), Op.READ, PARAMETERS) == {"buf_size": 512, "buf_count": 3}
    assert ask(new(), Op.WRITE, PARAMETERS) == {"rc": MgmtErr.ENOTSUP}


# --- reset ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [{}, {"force": True}, {"force": 1}, {"force": 0}, {"boot_mode": 0}], ids=str)
def test_a_reset_resets(body: Body) -> None:
    bench = new()
    boots = bench.board.boots
    assert ask(bench, Op.WRITE, RESET, body) == {}
    assert bench.board.boots == boots + 1


@pytest.mark.parametrize(
    ("body", "rc"),
    [
        ({"boot_mode": 1}, MgmtErr.ENOTSUP),
        ({"boot_mode": 255, "force": True}, MgmtErr.ENOTSUP),
        ({"boot_mode": -1}, MgmtErr.EINVAL),
        ({"boot_mode": "x"}, MgmtErr.EINVAL),
    ],
    ids=str,
)
def test_a_reset_into_a_mode_that_there_is_not_resets_nothing(body: Body, rc: MgmtErr) -> None:
    """Zephyr resets all the same; but whoever asked for serial recovery would talk to another program than they think."""
    bench = new()
    boots = bench.board.boots
    for version in (0, 1):
        assert ask(bench, Op.WRITE, RESET, body, version=version)["rc"] == rc
    assert ask(bench, Op.READ, RESET) == {"rc": MgmtErr.ENOTSUP}
    assert bench.board.boots == boots


# --- date -------------------------------------------------------------------------------------------------------------


def test_the_date_is_the_clock_s() -> None:
    bench = new()
    for clock, text in ((0, "1970-01-01T00:00:00"), (1_790_000_001, "2026-09-21T14:13:21")):
        bench.clock = clock
        assert ask(bench, Op.READ, DATE) == {"datetime": text}


@pytest.mark.parametrize("version", [0, 1])
def test_a_board_without_a_clock_says_so(version: int) -> None:
    bench = new()
    bench.clock = None
    answer = ask(bench, Op.READ, DATE, version=version)
    assert answer == os_error(version, MgmtErr.ENOENT, OsMgmtErr.RTC_NOT_SET)


@pytest.mark.parametrize("clock", [2**40, 2**63, 10**30, -(10**30)])
@pytest.mark.parametrize("version", [0, 1])
def test_a_clock_that_runs_wild_has_no_date(clock: int, version: int) -> None:
    bench = new()
    bench.clock = clock
    answer = ask(bench, Op.READ, DATE, version=version)
    assert answer == os_error(version, MgmtErr.EUNKNOWN, OsMgmtErr.RTC_COMMAND_FAILED)


@pytest.mark.parametrize("body", [{"datetime": "2038-01-19T03:14:07"}, {"datetime": 5}, {}], ids=str)
@pytest.mark.parametrize("version", [0, 1])
def test_the_date_is_not_set_from_a_host(body: Body, version: int) -> None:
    """A host's clock never feeds the device (DESIGN §4, "Time")."""
    bench = new()
    bench.check()
    before = ask(bench, Op.READ, DATE)
    with unchanged(bench):
        assert ask(bench, Op.WRITE, DATE, body, version=version)["rc"] == MgmtErr.EACCESSDENIED
        assert ask(bench, Op.READ, DATE) == before


# --- bootloader -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layout", "mode"), [(SWAPPING, 9), (LAYOUT, -1)], ids=["swap", "remap"])
def test_a_virtual_board_has_mcuboot(layout: Any, mode: int) -> None:
    bench = new(layout=layout)
    assert ask(bench, Op.READ, BOOTLOADER) == {"bootloader": "MCUboot"}
    assert ask(bench, Op.READ, BOOTLOADER, {"query": "mode"}) == {"mode": mode}
    assert ask(bench, Op.READ, BOOTLOADER, {"query": 5})["rc"] == MgmtErr.EINVAL
    assert ask(bench, Op.WRITE, BOOTLOADER) == {"rc": MgmtErr.ENOTSUP}
    for version in (0, 1):
        answer = ask(bench, Op.READ, BOOTLOADER, {"query": "colour"}, version=version)
        assert answer == os_error(version, MgmtErr.ENOENT, OsMgmtErr.QUERY_YIELDS_NO_ANSWER)


def test_a_linux_board_has_u_boot_and_a_board_that_was_not_told_says_nothing() -> None:
    rig = Rig(started())

    def answered(agent: Agent, body: Body) -> Body:
        answer = agent.answer(encode(Message(Op.READ, Group.OS, BOOTLOADER, 0, body)), None)
        assert answer is not None
        return decode(answer).body

    linux = Agent(rig.installer, bootloader=U_BOOT)
    assert answered(linux, {}) == {"bootloader": "U-Boot"}
    assert answered(linux, {"query": "mode"}) == os_error(1, MgmtErr.ENOENT, OsMgmtErr.QUERY_YIELDS_NO_ANSWER)
    assert answered(Agent(rig.installer), {}) == {"rc": MgmtErr.ENOTSUP}


@pytest.mark.parametrize("op", [Op.READ, Op.WRITE])
@pytest.mark.parametrize("command", [1, 2, 3, 7, 9])
@pytest.mark.parametrize("version", [0, 1])
def test_what_there_is_not_is_not_supported(op: Op, command: int, version: int) -> None:
    """Console control, statistics of tasks and memory pools, application information."""
    assert ask(new(), op, command, version=version) == {"rc": MgmtErr.ENOTSUP}
