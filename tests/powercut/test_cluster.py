"""The workers of a Dask cluster find what one process finds, and whatever becomes of them is said."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from clusters import started
from cuts import small
from hillhold_bootsim.powercut.pools import ClusterError, Here, WorkerLostError, cluster
from hillhold_bootsim.powercut.runner import Plan, Runner
from planted import FORGETFUL

pytestmark = pytest.mark.slow

SIZE = 5000


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
