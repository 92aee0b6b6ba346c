"""A Dask cluster: a scheduler and worker processes on loopback, as `dask scheduler` and `dask worker` start them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cluster:
    address: str
    workers: tuple[subprocess.Popen[bytes], ...]


@contextmanager
def started(folder: Path, workers: int) -> Iterator[Cluster]:
    """Start one; its files go into `folder`."""
    file = folder / "scheduler.json"
    quiet = ("--host", "127.0.0.1", "--no-dashboard")
    with ExitStack() as stack:

        def start(module: str, *words: str) -> subprocess.Popen[bytes]:
            # From the tests' folder, so that the planted designs can be imported there.
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{module}", *quiet, "--scheduler-file", str(file), *words],
                stderr=subprocess.DEVNULL,
                cwd=Path(__file__).parent,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        start("dask_scheduler", "--port", "0")
        end = time.monotonic() + 60
        while not file.exists() or not file.read_text().strip():
            assert time.monotonic() < end, "the scheduler did not start"
            time.sleep(0.1)
        local = ("--no-nanny", "--local-directory", str(folder))
        running = tuple(start("dask_worker", "--nthreads", str(number + 1), *local) for number in range(workers))
        yield Cluster(json.loads(file.read_text())["address"], running)
