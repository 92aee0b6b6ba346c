"""Patches are made in processes of their own, several at once, that hold no key.

The library that finds what two images share is C code that reads megabytes of what others have built. It runs where there is nothing to
steal or to spoil: in interpreters of its own, which inherit no memory, no open file and no variable but those in `_PASSED`, and
which load neither keys nor cryptography. One makes patches one after another. What comes back is a file that the caller verifies.
A process that dies, hangs or complains costs its patch and nothing else: another one goes on with the next.

This is no sandbox: the process runs as the same user. It keeps a fault from reaching a key, not an attacker who has that user's rights.
"""

from __future__ import annotations

import contextlib
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
from typing import IO, Final, Generic, TypeVar, cast

from hillhold_signer.errors import ToolError
from hillhold_signer.patchjob import HEADER, LENGTH

K = TypeVar("K", bound=Hashable)

MEMORY: Final = 1 << 30
"""Bytes that all processes may need together; one that needs more by itself runs alone."""
NEED: Final = 24
"""Bytes that making takes for each byte of base and result: a suffix array of 64-bit numbers and its helpers."""
PATIENCE: Final = 60.0
"""Seconds for one patch, beside `PACE`."""
PACE: Final = 50_000
"""Bytes of base and result for which a process gets one more second."""

_OVERHEAD: Final = 1 << 16
"""Bytes that a patch may be longer than base and result."""
_END: Final = 5.0
"""Seconds that a process gets to end once it has closed its output."""
_PASSED: Final = ("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""Variables without which an interpreter may not start. A list of what must not be passed would never be complete."""
_SET: Final = {"OPENBLAS_NUM_THREADS": "1"}
"""NumPy's library for matrices would start threads that nobody uses."""
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
    return {name: os.environ[name] for name in _PASSED if name in os.environ} | _SET


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
        self._idle: list[_Process] = []
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
        while self._idle:
            self._idle.pop().close()

    def make(self, jobs: Iterable[Job[K]]) -> Generator[tuple[K, Failure | None], None, None]:
        """Make patches, and say of each, as soon as it is there, how it went.

        `jobs` is asked for no more than can be under way, so that what it reads does not pile up. Whoever stops asking ends the processes.

        Raises:
            ToolError: the pool is closed.
        """
        batch = _Batch(self._idle)
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
        process = batch.taken()
        if process is None:
            return Failure("ended")
        made = process.make(job.base, job.result, seconds)
        batch.returned(process, well=not isinstance(made, Failure))
        if isinstance(made, Failure):
            return made
        if not made:
            return Failure("next to nothing in common", hopeless=True)
        with job.out.open("xb") as out:
            out.write(made)
        return None


class _Process:
    """A process that makes one patch after another, until one fails."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter, with our own code
            command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
        )
        self._to, self._from, self._errors = (
            cast("IO[bytes]", pipe) for pipe in (self._process.stdin, self._process.stdout, self._process.stderr)
        )

    def make(self, base: bytes, result: bytes, seconds: float) -> bytes | Failure:
        """Make a patch, or nothing where there is no hope; after a failure the process is of no use."""
        late = threading.Event()

        def expire() -> None:
            late.set()
            self.kill()

        timer = threading.Timer(seconds, expire)
        timer.start()
        try:
            self._to.write(b"".join((HEADER.pack(len(base), len(result), 2 * math.ceil(seconds)), base, result)))
            self._to.flush()
            made = self._answer(len(base) + len(result))
        except OSError:  # it reads no more
            made = None
        finally:
            timer.cancel()
        if late.is_set():
            return Failure(f"not made within {seconds:.0f} seconds")
        return self._why() if made is None else made

    def _answer(self, most: int) -> bytes | Failure | None:
        header = self._from.read(LENGTH.size)
        if len(header) < LENGTH.size:
            return None
        (length,) = LENGTH.unpack(header)
        if length > most + _OVERHEAD:
            return Failure(f"the process that made it announced {length} bytes")
        made = self._from.read(length)
        return made if len(made) == length else None

    def _why(self) -> Failure:
        """Say how a process ended that gave no answer."""
        try:
            self._process.wait(_END)
        except subprocess.TimeoutExpired:  # it closed its output, and stays
            self.kill()
        code = self._process.wait()
        last = self._errors.read().decode("utf-8", "replace").strip().rpartition("\n")[2][:200]
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return Failure(f"the process that made it ended with {how}{f': {last}' if last else ''}")

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """End the process, if it has not ended by itself."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._to, self._from, self._errors):
            with contextlib.suppress(BrokenPipeError):  # it did not want all that it was told
                pipe.close()


class _Batch:
    """The processes that work for one call; those that have nothing to do go on in another one."""

    def __init__(self, idle: list[_Process]) -> None:
        self.ended = False
        self._idle = idle
        self._working: set[_Process] = set()
        self._guard = threading.Lock()

    def taken(self) -> _Process | None:
        with self._guard:
            if self.ended:
                return None
            process = self._from_idle() or _Process()
            self._working.add(process)
            return process

    def _from_idle(self) -> _Process | None:
        with contextlib.suppress(IndexError):  # other batches take from it, too
            while True:
                process = self._idle.pop()
                if process.lives:
                    return process
                process.close()
        return None

    def returned(self, process: _Process, *, well: bool) -> None:
        with self._guard:
            self._working.discard(process)
            if well and not self.ended:
                self._idle.append(process)
                return
        process.close()

    def end(self) -> None:
        """Kill the processes; whoever waits for one is told."""
        with self._guard:
            self.ended = True
            for process in self._working:
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
