"""`hillhold`, which kills itself at a step that a test names: `python doomed.py WHERE NUMBER ARMED serve DATA …`.

A step is a moment before or after something lasts: a transaction that wrote is committed, a store is flushed, an object is written or
deleted, a file gets its name. They are counted in one kind of thread (WHERE), from when the file ARMED is there, and are written there
line by line, so that a test sees how many there are. At step NUMBER the process ends as by `kill -9`; 0 lets it live.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event

from hillhold_signer.cli import main
from hillhold_signer.service.dbstore import DatabaseStore
from hillhold_signer.service.folderobjects import FolderObjects
from hillhold_signer.service.objects import RemoteObjects

THREADS: Mapping[str, tuple[str, ...]] = {
    "publish": ("hillhold-publish",),
    "export": ("hillhold-export", "export_"),
    "log": ("hillhold-log",),
    "request": ("AnyIO worker thread",),
    "clean": ("hillhold-clean",),
}


class Steps:
    """Counts, and ends it all."""

    def __init__(self, where: str, number: int, armed: Path) -> None:
        self._threads, self._left, self._armed = THREADS[where], number, armed
        self._lock = threading.Lock()

    def step(self, what: str) -> None:
        """One more, if it is one of those that count."""
        if not threading.current_thread().name.startswith(self._threads) or not self._armed.exists():
            return
        with self._lock:
            with self._armed.open("a") as file:
                file.write(f"{what}\n")
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def wrap(self, owner: Any, name: str, counts: Callable[..., bool] = lambda *_: True) -> None:
        """Let a function be two steps: before it, and after it."""
        inner = getattr(owner, name)
        what = f"{getattr(owner, '__name__', owner)}.{name}"

        @wraps(inner)
        def outer(*args: Any, **more: Any) -> Any:
            if not counts(*args):
                return inner(*args, **more)
            self.step(f"before {what}")
            found = inner(*args, **more)
            self.step(f"after {what}")
            return found

        setattr(owner, name, outer)


def doom(steps: Steps) -> None:
    """Put steps into the service."""
    steps.wrap(DatabaseStore, "flush")
    for kind in (FolderObjects, RemoteObjects):
        for name in ("put", "put_stream", "put_if", "copy", "delete"):
            steps.wrap(kind, name)
    for name in ("replace", "link"):
        steps.wrap(os, name)

    @event.listens_for(Engine, "before_cursor_execute")
    def wrote(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().startswith(("INSERT", "UPDATE", "DELETE")):
            connection.info["wrote"] = True

    @event.listens_for(Engine, "begin")
    def begin(connection: Connection) -> None:
        connection.info["wrote"] = False

    steps.wrap(Connection, "_commit_impl", lambda connection: bool(connection.info.get("wrote")))


if __name__ == "__main__":
    doom(Steps(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
    sys.argv[1:4] = []
    main(prog_name="hillhold")
