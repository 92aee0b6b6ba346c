"""The commands as processes, for tests from outside: run to their end, or a virtual board in the background.

Nothing here waits for ever, and every process that is started is ended.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hillhold_bootsim import boards
from hillhold_signer import ImagePlan, Repository, example_signer, sign_image
from hillhold_signer.examples import example_private
from hillhold_signer.patching import DEFAULT
from workshop import firmware, release, started

BIN: Final = Path(sys.executable).parent
TIMEOUT: Final = 60.0


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run(name: str, *arguments: object, timeout: float = TIMEOUT, **options: Any) -> Done:
    """Run a command of the environment to its end."""
    command = [str(BIN / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def device(*arguments: object, **options: Any) -> Done:
    return run("hillhold-device", *arguments, **options)


def wait_for(what: str, path: Path, timeout: float = 20.0) -> str:
    """Wait until a log holds `what`; returns the log."""
    end = monotonic() + timeout
    while what not in (text := path.read_text() if path.exists() else ""):
        assert monotonic() < end, f"no {what!r} in time: {text}"
        sleep(0.02)
    return text


class Board:
    """A `hillhold-lab board` in the background."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self._log = process, log
        self.port = wait_for("; stop it", log).split("board on ")[1].partition(";")[0]

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait_for(self, what: str) -> str:
        return wait_for(what, self._log)

    def kill(self) -> None:
        """Cut the power."""
        self.process.kill()
        self.process.wait(TIMEOUT)

    def stop(self) -> int:
        """End it as Ctrl-C does; returns the exit code."""
        self.process.terminate()
        return self.process.wait(TIMEOUT)


class Lab:
    """A folder with a key, repositories that grow (`one`, then `two` with a second release), and boards.

    The clock is the real one: boards and commands are processes.
    """

    def __init__(
        self, folder: Path, now: int, size: int = 40_000, payloads: tuple[bytes, bytes] | None = None, room: int = 0
    ) -> None:
        self.folder, self._boards = folder, 0
        self._room = room or boards.board().image_sizes[0]
        public = example_private("image").public_key()
        (folder / "boot.pub").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        first = bytearray(payloads[0] if payloads else firmware(1, size))
        repository = started(folder / "one", now)
        release(repository, self._image(bytes(first), "1.0.0"), now)
        self.one = self._copy(repository, "one-published")
        first[1000:1016] = bytes(16)
        release(repository, self._image(payloads[1] if payloads else bytes(first), "1.1.0"), now, patch_from=DEFAULT)
        self.two = folder / "one" / "public"
        self.root = self.two / "metadata" / "1.root.json"

    def _image(self, payload: bytes, version: str) -> bytes:
        plan = ImagePlan(version, 1, 512, self._room, pad_header=True)
        return sign_image(payload, plan, example_signer("image"), demo=True)

    def _copy(self, repository: Repository, name: str) -> Path:
        to = self.folder / name
        for file in (self.folder / "one" / "public").rglob("*"):
            if file.is_file():
                target = to / file.relative_to(self.folder / "one" / "public")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
        return to

    @property
    def new(self) -> tuple[object, ...]:
        """The options that provision a board."""
        return ("--root", self.root, "--product", "pump", "--hardware", "nrf51-a", "--id", "unit-7")

    @contextmanager
    def board(self, flash: Path, *options: object, tcp: bool = False, file: Path | None = None) -> Iterator[Board]:
        """Run a board, the default one or `file`'s, which says its hardware and keys. It is new where `flash` does not exist."""
        self._boards += 1
        log = self.folder / f"board-{self._boards}.log"
        place: Sequence[object] = ("--listen", "127.0.0.1:0") if tcp else ("--link", flash.with_suffix(".tty"))
        new = self.new if file is None else (*self.new[:4], *self.new[6:])
        of_board = ["--boot-key", self.folder / "boot.pub"] if file is None else [file]
        command = [BIN / "hillhold-lab", "board", "--flash", flash, *of_board, *(() if flash.exists() else new)]
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*map(str, (*command, *place, *options))],
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        try:
            yield Board(process, log)
        finally:
            process.kill()
            process.wait(TIMEOUT)
