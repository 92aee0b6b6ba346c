"""Patches are made in processes of their own, several at once, that hold no key.

The library that finds what two images share is C code that reads megabytes of what others have built. It runs where there is nothing to
steal or to spoil: in a fresh interpreter for each patch, which inherits no memory, no open file and no variable but those in `_PASSED`, and
which loads neither keys nor cryptography. What comes back is a file that the caller verifies. A process that dies, hangs or
complains costs its patch and nothing else.

This is no sandbox: the process runs as the same user. It keeps a fault from reaching a key, not an attacker who has that user's rights.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from collections.abc import Generator, Hashable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Generic, TypeVar

from hillhold_signer.errors import ToolError
from hillhold_signer.patchworker import HEADER, HOPELESS

K = TypeVar("K", bound=Hashable)

MEMORY: Final = 1 << 30
"""Bytes that all processes may need together; one that needs more by itself runs alone."""
NEED: Final = 24
"""Bytes that making takes for each byte of base and result: a suffix array of 64-bit numbers and its helpers."""
PATIENCE: Final = 60.0
"""Seconds for one patch, beside `PACE`."""
PACE: Final = 50_000
"""Bytes of base and result for which a process gets one more second."""

_PASSED: Final = ("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""Variables without which an interpreter may not start. A list of what must not be passed would never be complete."""
_START: Final = """
import sys, types
sys.path[:] = sys.argv[2:]
bare = types.ModuleType("hillhold_signer")  # the package without its door, which loads all that opens keys
bare.__path__ = [sys.argv[1]]
sys.modules["hillhold_signer"] = bare
from hillhold_signer.errors import ToolError
from hillhold_signer.patchworker import main
sys.exit(main())
"""


@dataclass(frozen=True, slots=True)
class Job(Generic[K]):
    """One patch to be made, from `base` to `result`, into the file `out`, which does not exist yet."""

    key: K
    base: bytes
    result: bytes
    out: Path


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no patch; `hopeless`: none was tried, since the two have next to nothing in common."""

    reason: str
    hopeless: bool = False


def command() -> list[str]:
    """Return the command line of a process: isolated from variables and from the user's own modules, with this one's path."""
    paths = [str(Path(path).absolute()) for path in sys.path if path]
    return [sys.executable, "-I", "-c", _START, str(Path(__file__).parent), *paths]


def environment() -> dict[str, str]:
    """Return the environment of a process."""
    return {name: os.environ[name] for name in _PASSED if name in os.environ}


class PatchPool:
    """Makes patches for all threads of a process: no more at once than there are processors, or memory for.

    Args:
        workers: processes at once; by default as many as this one may use processors.
        patience: seconds for one patch, beside what its length allows.
    """

    def __init__(self, workers: int | None = None, patience: float = PATIENCE) -> None:
        self.workers = workers or _processors()
        self._patience = patience
        self._threads = ThreadPoolExecutor(self.workers, thread_name_prefix="hillhold-patch")
        self._room = _Room(MEMORY)
        self._batches: set[_Batch] = set()
        self._guard = threading.Lock()
        self._closed = False

    def __enter__(self) -> PatchPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End all processes at once; whoever waits for a patch gets `ToolError`."""
        with self._guard:
            self._closed = True
            batches = list(self._batches)
        for batch in batches:
            batch.end()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def make(self, jobs: Iterable[Job[K]]) -> Generator[tuple[K, Failure | None], None, None]:
        """Make patches, and say of each, as soon as it is there, how it went.

        `jobs` is asked for no more than can be under way, so that what it reads does not pile up. Whoever stops asking ends the processes.

        Raises:
            ToolError: the pool is closed.
        """
        batch = _Batch()
        with self._guard:
            self._batches.add(batch)
            batch.ended = self._closed
        under_way: dict[Future[Failure | None], K] = {}
        try:
            waiting = iter(jobs)
            while True:
                while len(under_way) < self.workers and (job := next(waiting, None)) is not None:
                    self._check(batch)
                    under_way[self._threads.submit(self._run, batch, job)] = job.key
                if not under_way:
                    return
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    self._check(batch)
                    yield under_way.pop(future), future.result()
        finally:
            batch.end()
            for future in under_way:
                future.cancel()
            wait(under_way)
            with self._guard:
                self._batches.discard(batch)

    def _check(self, batch: _Batch) -> None:
        if batch.ended:
            raise ToolError("patches are made no more: this process is about to end", hint="run the command again")

    def _run(self, batch: _Batch, job: Job[K]) -> Failure | None:
        size = len(job.base) + len(job.result)
        with self._room.taken(size * NEED):
            try:
                found = self._made(batch, job, self._patience + size / PACE)
            except OSError as error:
                found = Failure(f"{error.strerror or error}")
        if found is not None:
            job.out.unlink(missing_ok=True)
        return found

    def _made(self, batch: _Batch, job: Job[K], seconds: float) -> Failure | None:
        with job.out.open("xb") as out:
            process = batch.start(out.fileno())
        if process is None:
            return Failure("ended")
        try:
            header = HEADER.pack(len(job.base), len(job.result), 2 * math.ceil(seconds))
            told = process.communicate(b"".join((header, job.base, job.result)), seconds)[1]
        except subprocess.TimeoutExpired:
            return Failure(f"not made within {seconds:.0f} seconds")
        finally:
            batch.over(process)
        if process.returncode == 0:
            return None
        if process.returncode == HOPELESS:
            return Failure("next to nothing in common", hopeless=True)
        last = told.decode("utf-8", "replace").strip().rpartition("\n")[2][:200]
        how = f"signal {-process.returncode}" if process.returncode < 0 else f"exit code {process.returncode}"
        return Failure(f"the process that made it ended with {how}{f': {last}' if last else ''}")


class _Batch:
    """The processes of one call."""

    def __init__(self) -> None:
        self.ended = False
        self._running: set[subprocess.Popen[bytes]] = set()
        self._guard = threading.Lock()

    def start(self, out: int) -> subprocess.Popen[bytes] | None:
        with self._guard:
            if self.ended:
                return None
            process = subprocess.Popen(  # noqa: S603 - our own interpreter, with our own code
                command(), stdin=subprocess.PIPE, stdout=out, stderr=subprocess.PIPE, env=environment()
            )
            self._running.add(process)
            return process

    def over(self, process: subprocess.Popen[bytes]) -> None:
        """End a process, if it has not ended by itself."""
        with self._guard:
            self._running.discard(process)
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stderr):
            if pipe is not None and not pipe.closed:
                try:
                    pipe.close()
                except BrokenPipeError:  # it did not want all that it was told
                    continue

    def end(self) -> None:
        with self._guard:
            self.ended = True
            for process in self._running:
                process.kill()


class _Room:
    """Memory that is shared out."""

    def __init__(self, limit: int) -> None:
        self._limit, self._used = limit, 0
        self._changed = threading.Condition()

    def taken(self, size: int) -> _Taken:
        return _Taken(self, min(size, self._limit))

    def change(self, size: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._used + size <= self._limit)
            self._used += size
            self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class _Taken:
    room: _Room
    size: int

    def __enter__(self) -> None:
        self.room.change(self.size)

    def __exit__(self, *_: object) -> None:
        self.room.change(-self.size)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
