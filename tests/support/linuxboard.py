"""A Linux board in a folder: slots and state in files, U-Boot's environment in memory or in a file, and what the boot script does.

    board = LinuxBoard(folder, repo)                 # provisioned, runs 1.0.0 from slot 0
    board.update()                                   # what `hillhold-device update` does
    board.boot()                                     # what boot.cmd decides, from the flags and the bytes in the slots
    with board.device.installer() as installer:
        installer.confirm(self_tested=True)

`Faults` counts what is written to a medium, and makes one of these writes fail, or cuts the power before, within or after it.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest

from forge import T0, Repo
from hillhold_verifier.errors import OperationalError
from hillhold_verifier.linux.device import Factory, LinuxDevice
from hillhold_verifier.linux.uboot import UBootControl, UBootEnvironment
from hillhold_verifier.local import LocalUpdate, Updated
from hillhold_verifier.select import Device
from hillhold_verifier.sources import Source
from offers import TreeSource

CLOCK: Final = T0 + 60
SLOT: Final = 128 * 1024
MAX_STARTS: Final = 3
"""As in boot.cmd."""
IDENTITY: Final = Device("pump", "nrf-a", "unit-7")


class PowerCut(BaseException):
    """The power went; nothing of the process goes on."""


class MemoryEnvironment(UBootEnvironment):
    """U-Boot's environment without the tool: each write is one step, as a redundant environment makes it."""

    def __init__(self) -> None:
        super().__init__(Path("none"))
        self.values: dict[str, str] = {}

    def read(self) -> dict[str, str]:
        return dict(self.values)

    def write(self, values: Mapping[str, str | None]) -> dict[str, str]:
        self.values = {name: value for name, value in {**self.values, **values}.items() if value is not None}
        return self.read()


def environment_file(folder: Path, *, size: int = 16 * 1024) -> Path:
    """A redundant environment in a file, as U-Boot leaves it, and libubootenv's configuration of it; returns the latter."""
    body = b"bootdelay=0\0\0".ljust(size - 5, b"\0")
    copy = zlib.crc32(body).to_bytes(4, "little") + b"\1" + body
    (folder / "env").write_bytes(copy + copy[:4] + b"\0" + body)
    config = folder / "fw_env.config"
    config.write_text(f"{folder / 'env'} 0x0 {size:#x}\n{folder / 'env'} {size:#x} {size:#x}\n")
    return config


class LinuxBoard:
    """A board whose slots hold 128 KiB; the factory wrote the repository's 1.0.0 into slot 0."""

    def __init__(
        self,
        folder: Path,
        repo: Repo,
        *,
        environment: UBootEnvironment | None = None,
        provisioned: bool = True,
    ) -> None:
        self.folder, self.repo = folder, repo
        self.state = folder / "state"
        self.state.mkdir()
        self.slots = [folder / "slot-a", folder / "slot-b"]
        for slot in self.slots:
            slot.write_bytes(bytes(SLOT))
        self.command_line = folder / "cmdline"
        self.environment = environment or MemoryEnvironment()
        self.first = repo.blobs["pump/1.0.0/app.bin"]
        with self.slots[0].open("r+b") as file:
            file.write(self.first)
        self.command_line.write_text("console=ttyS0 hillhold.slots=0 quiet\n")
        if provisioned:
            self.provision()

    @property
    def device(self) -> LinuxDevice:
        """A new process's view."""
        return LinuxDevice(self.state, {"app": self.slots}, self.environment, self.command_line, ["true"])

    @property
    def factory(self) -> list[Factory | None]:
        return [Factory("pump/1.0.0/app.bin", len(self.first), sha256(self.first).digest())]

    def provision(self, *, again: bool = False) -> None:
        self.device.provision(IDENTITY, self.repo.tree["metadata/1.root.json"], self.factory, again=again)

    def update(self, *, clock: int | None = CLOCK, patches: bool = True, source: Source | None = None) -> Updated:
        with self.device.installer() as installer:
            return LocalUpdate(installer, source or TreeSource(self.repo.tree), clock).update(patches=patches)

    def confirm(self) -> None:
        with self.device.installer() as installer:
            installer.confirm(self_tested=True)

    def boot(self, *, watchdog: bool = False) -> str:
        """What boot.cmd does at a reset; returns the version that runs, told by the bytes in the slot."""
        values = self.environment.read()
        confirmed = int(values["hillhold_confirmed"])
        slot = confirmed
        if mark := values.get("hillhold_mark_0"):
            digest, length = mark.split(" ")
            starts = int(values.get("hillhold_starts", "0"))
            content = self.slots[1 - confirmed].read_bytes()[: int(length, 16)]
            if watchdog and starts:
                self.environment.write({"hillhold_failed_0": digest, "hillhold_mark_0": None, "hillhold_starts": None})
            elif starts >= MAX_STARTS or sha256(content).hexdigest() != digest:
                self.environment.write({"hillhold_mark_0": None, "hillhold_starts": None})
            else:
                self.environment.write({"hillhold_starts": str(starts + 1)})
                slot = 1 - confirmed
        self.command_line.write_text(f"console=ttyS0 hillhold.slots={slot} quiet\n")
        return self.content(slot)

    def content(self, slot: int) -> str:
        """The version of the known image whose bytes lie in a slot, or what they are instead."""
        known = {data: path.split("/")[1] for path, data in self.repo.blobs.items() if not path.endswith(".patch")}
        data = self.slots[slot].read_bytes()
        found = [version for content, version in {**known, self.first: "1.0.0"}.items() if data.startswith(content)]
        return found[0] if found else "no known image"

    def control(self) -> UBootControl:
        return self.device.control


class Faults:
    """Counts writes to a medium; at number `at` it does what `act` says.

    Args:
        act: "before", "torn" or "after" cut the power there; an errno makes that write fail.
    """

    def __init__(self, at: int | None = None, act: str | int = "before") -> None:
        self.count, self._at, self._act = 0, at, act
        self.names: list[str] = []

    def step(self, name: str, whole: Callable[[], Any], torn: Callable[[], object] | None = None) -> Any:
        number, self.count = self.count, self.count + 1
        self.names.append(name)
        if number != self._at:
            return whole()
        if isinstance(self._act, int):
            raise OSError(self._act, os.strerror(self._act))
        if self._act == "after":
            whole()
        elif self._act == "torn" and torn:
            torn()
        raise PowerCut(f"{self._act} write {number} ({name})")

    @contextmanager
    def over(self, board: LinuxBoard) -> Iterator[Faults]:
        """Stand between the board and its media."""
        pwrite, replace = os.pwrite, Path.replace
        environment = board.environment

        def writing(handle: int, data: bytes | memoryview, offset: int) -> int:
            half = len(data) // 2
            return int(
                self.step("pwrite", lambda: pwrite(handle, data, offset), lambda: pwrite(handle, data[:half], offset))
            )

        class Environment(UBootEnvironment):
            def read(self) -> dict[str, str]:
                return environment.read()

            def write(inner, values: Mapping[str, str | None]) -> dict[str, str]:
                try:
                    found: dict[str, str] = self.step("environment", lambda: environment.write(values))
                except OSError as error:  # the tool's exit code, as `UBootEnvironment` has it
                    raise OperationalError(f"U-Boot environment: {error.strerror}") from None
                return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "pwrite", writing)
            patch.setattr(Path, "replace", lambda path, to: self.step("rename", lambda: replace(path, to)))
            board.environment = Environment(Path("none"))
            try:
                yield self
            finally:
                board.environment = environment


FAILURES: Final[Sequence[int]] = (errno.ENOSPC, errno.EROFS, errno.EIO)
