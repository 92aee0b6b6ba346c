"""Where chunks are explored: in this process, in processes of this computer, or by the workers of a Dask cluster.

All are a `concurrent.futures.Executor` to the runner. What all chunks have in common is brought to each process once. A process that is
lost is an error, here and in a cluster; on any error, and on Ctrl-C, local workers are ended at once.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from hashlib import blake2b
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Final, Protocol

from hillhold_bootsim.powercut.digest import SIZE
from hillhold_bootsim.powercut.explore import Explorer
from hillhold_bootsim.powercut.work import Chunk, Found, Job, Worker, do, split
from hillhold_verifier.errors import OperationalError

CONNECT: Final = 10
"""Seconds within which a cluster has to answer, and to have a worker."""
QUEUED: Final = 3
"""Chunks for each worker that are given out ahead."""


class WorkerLostError(OperationalError):
    """A worker process, or the way to it, is gone; what was found is not whole."""

    hint = "nothing was written; run it again, with fewer workers if memory was short"


class ClusterError(OperationalError):
    """There is no such cluster, or it has no workers."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class Pool(Protocol):
    """Explores chunks of one job."""

    @property
    def ahead(self) -> int:
        """How many chunks are to be given out before the first is waited for."""

    def begin(self, job: Job) -> None:
        """What all chunks have in common."""

    def know(self, seen: bytes) -> None:
        """Digests of states that the chunks from now on need not explore."""

    def submit(self, chunk: Chunk) -> Future[Found]:
        """Give a chunk to whoever is free."""

    def result(self, future: Future[Found]) -> Found:
        """Wait for what a chunk came to; raises `WorkerLostError`."""


class Here:
    """Explores in this process."""

    ahead = 1

    def __init__(self, explorer: Explorer) -> None:
        self._worker = Worker(explorer)
        self._seen: frozenset[bytes] = frozenset()

    def begin(self, job: Job) -> None:
        """It has all that it needs."""

    def know(self, seen: bytes) -> None:
        """See `Pool`."""
        self._seen = split(seen)

    def submit(self, chunk: Chunk) -> Future[Found]:
        """Explore at once."""
        future: Future[Found] = Future()
        future.set_result(self._worker.do(chunk, self._seen))
        return future

    def result(self, future: Future[Found]) -> Found:
        """It is there."""
        return future.result()


class Elsewhere:
    """Explores in other processes.

    Args:
        executor: what has them.
        workers: how many there are.
        share: brings bytes to where all of them can read them.
        check: raises `WorkerLostError` where one is gone.
        losses: what is raised of a chunk whose worker is gone.
    """

    def __init__(
        self,
        executor: Executor,
        workers: int,
        share: Callable[[bytes], Any],
        check: Callable[[], None],
        losses: tuple[type[BaseException], ...],
    ) -> None:
        self._executor, self._share, self._check, self._losses = executor, share, check, losses
        self.ahead = QUEUED * workers
        self._job: tuple[bytes, Any] = (b"", b"")
        self._seen = self._shared(b"")

    def begin(self, job: Job) -> None:
        """See `Pool`."""
        self._job = self._shared(pickle.dumps(job))

    def know(self, seen: bytes) -> None:
        """See `Pool`."""
        self._seen = self._shared(seen)

    def submit(self, chunk: Chunk) -> Future[Found]:
        """See `Pool`."""
        try:
            return self._executor.submit(do, *self._job, *self._seen, chunk)
        except self._losses as error:
            raise _lost(error) from error

    def result(self, future: Future[Found]) -> Found:
        """See `Pool`."""
        while not futures.wait([future], timeout=1).done:
            self._check()
        try:
            return future.result()
        except self._losses as error:
            raise _lost(error) from error

    def _shared(self, data: bytes) -> tuple[bytes, Any]:
        return blake2b(data, digest_size=SIZE).digest(), self._share(data)


@contextmanager
def local(workers: int, preload: tuple[str, ...] = ()) -> Iterator[Elsewhere]:
    """Start processes on this computer.

    Args:
        workers: how many.
        preload: modules that the main program consists of, so that each process need not import them anew.
    """
    with tempfile.TemporaryDirectory(prefix="hillhold-") as folder, processes(workers, preload) as executor:

        def share(data: bytes) -> Path:
            path = Path(folder) / blake2b(data, digest_size=SIZE).hexdigest()
            path.write_bytes(data)
            return path

        # OSError: a worker died while another was being started.
        yield Elsewhere(executor, workers, share, lambda: None, (BrokenProcessPool, CancelledError, OSError))


@contextmanager
def processes(workers: int, preload: tuple[str, ...] = ()) -> Iterator[ProcessPoolExecutor]:
    """Start processes on this computer, as `local`; at the end, or on any error, they are ended at once."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([do.__module__, *preload])
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(workers, context, _begin)
    try:
        yield executor
    finally:
        # Whether all is done, or Ctrl-C came: they hold nothing, and must not be waited for.
        mine = set(multiprocessing.active_children()) - others
        for process in mine:
            process.kill()
        executor.shutdown(cancel_futures=True)
        for process in mine:  # an executor that broke while it started them does not
            process.join()


@contextmanager
def cluster(address: str) -> Iterator[Elsewhere]:
    """Connect to the scheduler of a Dask cluster.

    Args:
        address: HOST:PORT or tcp://HOST:PORT.

    Raises:
        ClusterError: `distributed` is not installed, nobody answers, or there is no worker.
    """
    try:
        from distributed import Client
        from distributed.scheduler import KilledWorker
    except ImportError:
        raise ClusterError("dask.distributed is not installed", "pip install 'hillhold-bootsim[cluster]'") from None
    try:
        client = Client(address, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(f"no scheduler at {address}", "`dask scheduler` starts one, and says where") from error
    try:
        try:
            client.wait_for_workers(1, timeout=CONNECT)
        except TimeoutError as error:
            raise ClusterError(f"the scheduler at {address} has no workers", f"`dask worker {address}`") from error
        known = dict(client.nthreads())

        def check() -> None:
            try:
                there = client.nthreads()
            except (OSError, TimeoutError) as error:
                raise _lost(error) from error
            if gone := known.keys() - there.keys():
                raise WorkerLostError(f"a worker is gone: {', '.join(sorted(gone))}")
            known.update(there)

        executor = client.get_executor(retries=0)
        losses = (KilledWorker, CancelledError, OSError)

        def share(data: bytes) -> Any:
            return client.scatter(data, broadcast=True, hash=False)

        yield Elsewhere(executor, sum(known.values()), share, check, losses)
    finally:
        client.close(timeout=CONNECT)


def _lost(error: BaseException) -> WorkerLostError:
    return WorkerLostError(f"a worker process is gone: {str(error) or type(error).__name__}")


def _begin() -> None:
    """In a worker: Ctrl-C is its parent's to handle; and it ends with its parent, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
