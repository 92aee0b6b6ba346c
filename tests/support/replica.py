"""A replica of the service in a process of its own, which dies as by `kill -9` at a step that a test names.

A step is a statement that is sent to the database, a commit, or a write to the object store: the process dies just before it.
"""

from __future__ import annotations

import os
import signal
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from sqlalchemy import event

from hillhold_signer import Wish, add_release
from hillhold_signer.log import Kind
from hillhold_signer.patching import NO_PATCHES
from hillhold_signer.service.database import Database
from hillhold_signer.service.export import Exporter
from hillhold_signer.service.folderobjects import FolderObjects
from hillhold_signer.service.journal import Sequencer
from hillhold_signer.service.unit import Data, Unit
from logs import SIGNER
from workshop import HARDWARE, NOW, image, online, sign_all

_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(["hillhold_signer.service.export", "hillhold_signer.service.journal", "psycopg"])


class _Steps:
    def __init__(self, last: int) -> None:
        self.left = last

    def __call__(self, *_: Any) -> None:
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


class _Objects(FolderObjects):
    def __init__(self, path: Path, step: _Steps) -> None:
        super().__init__(path)
        self.step = step

    def put(self, key: str, data: bytes) -> None:
        self.step()
        super().put(key, data)

    def put_if(self, key: str, data: bytes, tag: str | None) -> str | None:
        self.step()
        return super().put_if(key, data, tag)

    def copy(self, source: str, target: str) -> None:
        self.step()
        super().copy(source, target)


def submit(unit: Unit, seed: int) -> str:
    """Publish the next release in a unit, signed by all, and note it; returns its path."""
    listed = unit.repository.state().line("pump").targets
    version = f"1.{len(listed)}.0"
    wish = Wish("app.bin", hardware=HARDWARE[:1])
    add_release(unit.repository, "pump", image(version, seed=seed), wish, unit.now, patch_from=NO_PATCHES)
    sign_all(unit.repository, "release-1", "release-2")
    unit.repository.publish(online(), unit.now)
    path = f"pump/{version}/app.bin"
    unit.record(Kind.SUBMISSION, "Ada", path=path, length=1, sha256="0" * 64)
    return path


def publish(url: str, folder: Path, seed: int, last: int) -> None:
    """Publish a release, export it, and write the log; die after `last` steps."""
    step = _Steps(last)
    database = Database(url, clock=lambda: NOW)
    for moment in ("before_cursor_execute", "commit"):
        event.listen(database.engine, moment, step)
    data = Data(database, _Objects(folder, step))
    with data.writing() as unit:
        submit(unit, seed)
    exporter = Exporter(data)
    exporter.run()
    exporter.close()
    Sequencer(data, [SIGNER]).run()
    database.close()


def killed(url: str, folder: Path, seed: int, last: int) -> bool:
    """Run `publish` in a process, and say whether it was killed."""
    process = _CONTEXT.Process(target=publish, args=(url, folder, seed, last))
    process.start()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
    return process.exitcode != 0
