"""Other people's clients drive a Hillhold board as they drive a Zephyr board: smpclient, mcumgr-toolkit and smpmgr, each as it calls.

The board is `hillhold-lab board` on a pseudo-terminal, brought its metadata by `hillhold-device check`; the clients do all the rest.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final, TypeVar

import pytest
from smp.error import MGMT_ERR
from smp.image_management import IMG_MGMT_ERR
from smp.os_management import OS_MGMT_RET_RC
from smpclient import SMPClient
from smpclient.exceptions import SMPUploadError
from smpclient.generics import error_v1, error_v2, success
from smpclient.requests.image_management import ImageErase, ImageStatesRead, ImageStatesWrite
from smpclient.requests.os_management import (
    BootloaderInformationRead,
    DateTimeRead,
    DateTimeWrite,
    EchoWrite,
    MCUMgrParametersRead,
    OSApplicationInfoRead,
    ResetWrite,
    TaskStatisticsRead,
)
from smpclient.transport.serial import SMPSerialTransport
from smpclient.transport.serial.encoded import Auto, BufferParams, BufferSize, FragmentationStrategy
from smpclient.transport.serial.framing.cobs import Cobs
from smpclient.transport.serial.unencoded import SMPSerialRawTransport

from hillhold_bootsim import boards
from hillhold_verifier.mcuboot import parse_image
from lab import Board, Lab, device

SMPMGR: Final = Path(__file__).parents[2] / ".cache" / "smpmgr"
"""Where `make system` puts it."""
WIRE: Final = ("--confirm", "wire")
SWAPPING: Final = "nrf52840dk"

T = TypeVar("T")


def image(source: Path, version: str) -> Path:
    """The file of a release."""
    (found,) = source.glob(f"targets/pump/{version}/*.app.bin")
    return found


def hash_of(file: Path) -> bytes:
    return parse_image(file.read_bytes()).sha256


on = partial(pytest.mark.parametrize, "ready", indirect=True)
"""On which boards a test is run: "remap", "swap"."""


@pytest.fixture
def ready(request: pytest.FixtureRequest, lab: Lab) -> tuple[Path | None, Path]:
    """The file of a board that runs 1.0.0 and has chosen 1.1.0 (None: the default one), and its flash."""
    file = None
    if request.param == "swap":
        file = lab.folder / "swap.toml"
        text = boards.board_text(SWAPPING).replace(f'hardware = "{SWAPPING}"', 'hardware = "nrf51-a"')
        file.write_text(text.replace("baud = 115200", 'baud = 115200\nimage_keys = ["boot.pub"]'))
    flash = lab.folder / f"{request.param}.flash"
    if flash.exists():
        return file, flash
    with lab.board(flash, file=file) as board:
        assert device("push", lab.one, "--port", board.port).code == 0
        assert "would install pump/1.1.0/app.bin" in device("check", lab.two, "--port", board.port).out
    return file, flash


@pytest.fixture
def board(lab: Lab, ready: tuple[Path | None, Path], tmp_path: Path) -> Iterator[Board]:
    """Such a board; its images wait for a confirmation from the wire."""
    file, flash = ready
    shutil.copy(flash, tmp_path / "flash")
    with lab.board(tmp_path / "flash", *WIRE, file=file) as running:
        yield running


def until(what: str, ask: Callable[[], T], good: Callable[[T], bool], seconds: float = 15.0) -> T:
    """Ask until the answer is good."""
    end = monotonic() + seconds
    while not good(answer := ask()):
        assert monotonic() < end, f"{what}: {answer}"
        sleep(0.05)
    return answer


# --- smpclient --------------------------------------------------------------------------------------------------------


AUTO: Final = Auto()
WAYS: Final = (
    ("remap", AUTO, True),
    ("swap", AUTO, False),
    ("remap", BufferSize(300, line_length=64), True),
    ("remap", BufferParams(line_length=128, line_buffers=1), False),
    ("remap", BufferParams(line_length=128, line_buffers=8), True),
)
"""On which board, in what pieces, and with the whole hash or none."""


def talk(board: Board, say: Callable[[SMPClient], Coroutine[Any, Any, T]], strategy: FragmentationStrategy = AUTO) -> T:
    async def connected() -> T:
        async with SMPClient(SMPSerialTransport(strategy), board.port, timeout_s=5) as client:
            return await say(client)

    return asyncio.run(connected())


async def states(client: SMPClient) -> list[tuple[int, str, bool | None, bool | None, bool | None]]:
    answer = await client.request(ImageStatesRead())
    assert success(answer), answer
    return [(one.slot, one.version, one.active, one.confirmed, one.pending) for one in answer.images]


@pytest.mark.parametrize(("ready", "strategy", "use_sha"), WAYS, indirect=["ready"], ids=str)
def test_smpclient_updates_a_board(lab: Lab, board: Board, strategy: FragmentationStrategy, use_sha: bool) -> None:
    new = image(lab.two, "1.1.0")
    old_runs, new_waits = (0, "1.0.0", True, True, False), (1, "1.1.0", False, False, False)

    async def update(client: SMPClient) -> None:
        assert await states(client) == [old_runs]
        offsets = [offset async for offset in client.upload(new.read_bytes(), use_sha=use_sha)]
        assert offsets == sorted(set(offsets))
        assert offsets[-1] == len(new.read_bytes())
        assert await states(client) == [old_runs, new_waits]
        assert [offset async for offset in client.upload(new.read_bytes(), use_sha=use_sha)] == offsets[-1:]
        marked = await client.request(ImageStatesWrite(hash=hash_of(new)))
        assert success(marked)
        assert [one.pending for one in marked.images] == [False, True]
        assert success(await client.request(ResetWrite()))

    async def confirm(client: SMPClient) -> bool:
        return success(await client.request(ImageStatesWrite(confirm=True)))

    talk(board, update, strategy)
    board.wait_for("on trial")
    until("confirmed", lambda: talk(board, confirm, strategy), bool)
    assert talk(board, states) == [(0, "1.1.0", True, True, False), (1, "1.0.0", False, False, False)]


@on(["swap"])
def test_smpclient_is_told_what_a_board_refuses(lab: Lab, board: Board) -> None:
    old, new = image(lab.one, "1.0.0"), image(lab.two, "1.1.0")

    async def ask(client: SMPClient) -> None:
        async def refused(request: Any) -> Any:
            answer: Any = await client.request(request)
            assert hasattr(answer, "err"), answer
            return answer.err.rc

        for content in (old.read_bytes(), new.read_bytes() + b"x"):
            for use_sha in (True, False):
                with pytest.raises(SMPUploadError, match="INVALID_HASH"):
                    async for _ in client.upload(content, use_sha=use_sha):
                        pass
        for slot, rc in ((0, IMG_MGMT_ERR.NO_FREE_SLOT), (2, IMG_MGMT_ERR.INVALID_SLOT)):
            assert await refused(ImageErase(slot=slot)) == rc
        assert await refused(ImageStatesWrite()) == IMG_MGMT_ERR.INVALID_HASH
        assert await refused(ImageStatesWrite(hash=hash_of(new))) == IMG_MGMT_ERR.HASH_NOT_FOUND
        to_active = ImageStatesWrite(hash=hash_of(old))
        assert await refused(to_active) == IMG_MGMT_ERR.IMAGE_SETTING_TEST_TO_ACTIVE_DENIED
        async for _ in client.upload(new.read_bytes()):
            pass
        early = ImageStatesWrite(hash=hash_of(new), confirm=True)
        assert await refused(early) == IMG_MGMT_ERR.IMAGE_CONFIRMATION_DENIED
        assert success(await client.request(ImageErase(slot=1)))
        assert success(await client.request(ImageErase()))

    talk(board, ask)


@on(["remap"])
def test_smpclient_asks_group_os(board: Board) -> None:
    async def ask(client: SMPClient) -> None:
        echo = await client.request(EchoWrite(d="höhe ≥ 3"))
        assert success(echo)
        assert echo.r == "höhe ≥ 3"
        parameters = await client.request(MCUMgrParametersRead())
        assert success(parameters)
        assert (parameters.buf_size, parameters.buf_count) == (1024, 4)
        bootloader = await client.request(BootloaderInformationRead())
        assert success(bootloader)
        assert bootloader.bootloader == "MCUboot"
        unknown = await client.request(BootloaderInformationRead(query="colour"))
        assert error_v2(unknown)
        assert unknown.err.rc == OS_MGMT_RET_RC.QUERY_YIELDS_NO_ANSWER
        date = await client.request(DateTimeRead())
        assert success(date)
        assert date.datetime[:2] == "20"
        refused: list[tuple[Any, MGMT_ERR]] = [
            (DateTimeWrite(datetime="2000-01-01T00:00:00"), MGMT_ERR.EACCESSDENIED),
            (TaskStatisticsRead(), MGMT_ERR.ENOTSUP),
            (OSApplicationInfoRead(), MGMT_ERR.ENOTSUP),
            (ResetWrite(boot_mode=1), MGMT_ERR.ENOTSUP),
        ]
        for request, rc in refused:
            answer = await client.request(request)
            assert error_v1(answer), answer
            assert answer.rc == rc
        assert success(await client.request(ResetWrite(force=1)))

    talk(board, ask)
    board.wait_for("boot (soft)")


# Over lines that are not a console: smpclient gives each request up when its answer does not come, and sends none twice.
BARE: Final[dict[str, tuple[str, Callable[[], SMPSerialRawTransport]]]] = {
    "raw": ('transports = ["raw"]', lambda: SMPSerialRawTransport(1024)),
    "cobs": ('transports = ["console", "cobs"]', lambda: SMPSerialRawTransport(1024, framing=Cobs())),
}


@pytest.mark.parametrize("name", BARE)
def test_smpclient_updates_a_board_over_raw_and_cobs(
    lab: Lab, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """Directly behind `hillhold-device check`, and after pauses in which the line is silent: no request of it is lost."""
    transports, transport = BARE[name]
    file, new = lab.folder / f"{name}.toml", image(lab.two, "1.1.0")
    text = boards.board_text("virtual-m4-1m").replace('hardware = "virtual-m4-1m"', 'hardware = "nrf51-a"')
    file.write_text(text.replace("baud = 115200", f'baud = 115200\nimage_keys = ["boot.pub"]\n{transports}'))

    async def update(client: SMPClient) -> None:
        echo = await client.request(EchoWrite(d="x"))
        assert success(echo)
        async for _ in client.upload(new.read_bytes()):
            pass
        for _ in range(3):
            await asyncio.sleep(1.1)
            assert success(await client.request(EchoWrite(d="x")))
        await asyncio.sleep(1.1)
        assert success(await client.request(ImageStatesWrite(hash=hash_of(new))))
        assert success(await client.request(ResetWrite()))

    async def confirm(client: SMPClient) -> bool:
        return success(await client.request(ImageStatesWrite(confirm=True)))

    async def connected(port: str, say: Callable[[SMPClient], Coroutine[Any, Any, T]]) -> T:
        async with SMPClient(transport(), port, timeout_s=5) as client:
            return await say(client)

    with lab.board(tmp_path / "flash", file=file) as board:
        assert device("push", lab.one, "--port", board.port).code == 0
    with lab.board(tmp_path / "flash", *WIRE, file=file) as board:
        assert "would install" in device("check", lab.two, "--port", board.port).out
        asyncio.run(connected(board.port, update))
        assert "Timeout" not in caplog.text  # of the parameters, which it asks for at first, it says no more
        board.wait_for("on trial")
        until("confirmed", lambda: asyncio.run(connected(board.port, confirm)), bool)


# --- mcumgr-toolkit ---------------------------------------------------------------------------------------------------


@on(["remap", "swap"])
def test_mcumgr_toolkit_updates_a_board(lab: Lab, board: Board) -> None:
    toolkit = pytest.importorskip("mcumgr_toolkit")
    old, new = image(lab.one, "1.0.0"), image(lab.two, "1.1.0")
    client = toolkit.MCUmgrClient.serial(board.port, timeout_ms=5000)
    client.check_connection()
    client.use_auto_frame_size()
    assert client.os_bootloader_info()["name"] == "MCUboot"
    with pytest.raises(RuntimeError, match="already running"):
        client.firmware_update(old.read_bytes())
    with pytest.raises(RuntimeError):
        client.firmware_update(new.read_bytes(), force_confirm=True)
    client.image_erase()
    steps: list[str] = []
    client.firmware_update(new.read_bytes(), upgrade_only=True, progress=lambda step, _: steps.append(step))
    assert "Triggering device reboot ..." in steps
    board.wait_for("on trial")

    def confirmed() -> bool:
        try:
            return bool(client.image_set_state(confirm=True)[0].confirmed)
        except RuntimeError:
            return False

    until("confirmed", confirmed, bool)
    listed = [(one.slot, one.version, one.hash, one.active, one.confirmed) for one in client.image_get_state()]
    assert listed == [(0, "1.1.0", hash_of(new), True, True), (1, "1.0.0", hash_of(old), False, False)]


@on(["remap"])
def test_mcumgr_toolkit_asks_whatever_a_board_may_know(lab: Lab, board: Board) -> None:
    toolkit = pytest.importorskip("mcumgr_toolkit")
    client = toolkit.MCUmgrClient.serial(board.port, timeout_ms=5000)
    assert client.os_echo("höhe ≥ 3") == "höhe ≥ 3"
    assert (client.os_mcumgr_parameters().buf_size, client.os_mcumgr_parameters().buf_count) == (1024, 4)
    (slots,) = client.image_slot_info()
    assert [one.slot for one in slots.slots] == [0, 1]
    assert all(one.size > 300_000 for one in slots.slots)
    assert client.os_get_datetime().year >= 2026
    refused: list[Callable[[], object]] = [
        lambda: client.os_set_datetime(client.os_get_datetime()),
        lambda: client.os_task_statistics(),
        lambda: client.os_application_info(),
        lambda: client.os_system_reset(boot_mode=1),
        lambda: client.image_erase(0),
        lambda: client.image_upload(image(lab.one, "1.0.0").read_bytes()),
        lambda: client.image_set_state(hash_of(image(lab.one, "1.0.0"))),
    ]
    for ask in refused:
        with pytest.raises(RuntimeError):
            ask()
    client.os_system_reset(force=True)
    board.wait_for("boot (soft)")


# --- smpmgr -----------------------------------------------------------------------------------------------------------


def smpmgr(board: Board, *arguments: object) -> str:
    """Run it to its end; return what it printed. Its exit code is 0 for most refusals."""
    assert SMPMGR.exists(), "smpmgr is missing: make system"
    command = [sys.executable, "-m", "smpmgr", "--port", board.port, "--timeout", "5", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(SMPMGR), "COLUMNS": "200", "NO_COLOR": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    return done.stdout + done.stderr


@on(["swap"])
@pytest.mark.slow
@pytest.mark.system
def test_smpmgr_updates_a_board(lab: Lab, board: Board) -> None:
    new = image(lab.two, "1.1.0")
    assert "r='höhe'" in smpmgr(board, "os", "echo", "höhe")
    assert "INVALID_HASH" in smpmgr(board, "image", "upload", image(lab.one, "1.0.0"))
    assert "100" in smpmgr(board, "image", "upload", new)
    assert "IMAGE_CONFIRMATION_DENIED" in smpmgr(board, "image", "state-write", hash_of(new).hex(), "--confirm")
    assert "ERR" not in smpmgr(board, "image", "erase", "1")
    assert "Upgrade complete." in smpmgr(board, "upgrade", new, "--slot", "1")
    board.wait_for("on trial")
    until("confirmed", lambda: smpmgr(board, "image", "state-write", "--confirm"), lambda said: "ERR" not in said)
    listed = smpmgr(board, "image", "state-read")
    assert listed.index("version='1.1.0'") < listed.index("version='1.0.0'")
    assert listed.count("confirmed=True") == 1
    assert "NO_FREE_SLOT" in smpmgr(board, "image", "erase", "0")
    assert "ResetWriteResponse" in smpmgr(board, "os", "reset")
    board.wait_for("boot (soft): 1.1.0")
