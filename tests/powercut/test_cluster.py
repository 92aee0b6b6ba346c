"""The workers of a Dask cluster: a scheduler and two worker processes on loopback, as `dask scheduler` and `dask worker` start them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cuts import small
from hillhold_bootsim.powercut.pools import ClusterError, Here, WorkerLostError, cluster
from hillhold_bootsim.powercut.runner import Plan, Runner
from planted import FORGETFUL

pytestmark = pytest.mark.slow

SIZE = 5000


@dataclass(frozen=True)
class Cluster:
    address: str
    workers: tuple[subprocess.Popen[bytes], ...]


@contextmanager
def started(folder: Path, workers: int) -> Iterator[Cluster]:
    file = folder / "scheduler.json"
    quiet = ("--host", "127.0.0.1", "--no-dashboard")
    with ExitStack() as stack:

        def start(module: str, *words: str) -> subprocess.Popen[bytes]:
            # From the tests' folder, so that the planted designs can be imported there.
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{module}", *quiet, "--scheduler-file", str(file), *words],
                stderr=subprocess.DEVNULL,
                cwd=Path(__file__).parents[1] / "support",
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


def test_a_cluster_finds_what_one_process_finds(tmp_path: Path) -> None:
    plan = Plan(depth=2, sample=40, seed=3)
    alone = Runner(small(size=SIZE), plan, FORGETFUL)
    expected = alone.run(Here(alone.explorer))
    assert expected.failures
    runner = Runner(small(size=SIZE), replace(plan, chunk=99), FORGETFUL)
    with started(tmp_path, 2) as there, cluster(there.address) as pool:
        outcome = runner.run(pool)
    assert replace(outcome, seconds=0) == replace(expected, seconds=0)


def test_a_worker_of_a_cluster_that_dies_is_an_error_that_says_so(tmp_path: Path) -> None:
    runner = Runner(small(size=SIZE), Plan(chunk=5))
    told = threading.Event()
    with started(tmp_path, 2) as there, cluster(there.address) as pool:

        def kill() -> None:
            told.wait()
            for worker in there.workers:
                worker.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(WorkerLostError, match="worker"):
            runner.run(pool, lambda _outcome: told.set())
        killer.join()


def test_a_cluster_without_workers_or_without_a_scheduler_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hillhold_bootsim.powercut.pools.CONNECT", 2)
    with pytest.raises(ClusterError, match=r"no scheduler at 127\.0\.0\.1:9") as error, cluster("127.0.0.1:9"):
        pass
    assert "dask scheduler" in str(error.value.hint)
    with (
        started(tmp_path, 0) as there,
        pytest.raises(ClusterError, match="has no workers") as error,
        cluster(there.address),
    ):
        pass
    assert f"dask worker {there.address}" in str(error.value.hint)
