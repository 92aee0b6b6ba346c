"""What a process is given to do: a chunk of cases, and what it found. No key is ever in such a process: a scenario has public ones alone.

A case has an *address*: its number among the cuts of the clean run, then its number among the cuts of what follows, and so on. A chunk says
which numbers are wanted after which cases. Of each the state is told, by its digest; the first of each state is explored. What
another chunk finds of the same state is the same, for the verdict on a case depends on nothing else: whoever adds up the chunks takes the
first.
"""

from __future__ import annotations

import pickle
import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

from hillhold_bootsim import geometry
from hillhold_bootsim.powercut import explore
from hillhold_bootsim.powercut.digest import SIZE, Digests
from hillhold_bootsim.powercut.explore import Case, Explorer, Step
from hillhold_bootsim.powercut.machine import Design
from hillhold_bootsim.powercut.scenario import Scenario
from hillhold_verifier import errors
from hillhold_verifier.errors import OperationalError

Address = tuple[int, ...]
Way = tuple[str, str, str]
"""Phase, kind of operation, and how it was cut: "before", "after", or the torn outcome without its numbers."""

_NUMBERS: Final = re.compile(r"^\d+-units-|(?<=prefix)-\d+$")


class OtherReleaseError(OperationalError):
    """A worker process has other code than the one that asks; what it finds would mean nothing."""

    hint = "install the same release of hillhold-bootsim and hillhold-verifier wherever workers run"

    def __init__(self, message: str = "a worker runs other code than this computer") -> None:
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Job:
    """What all chunks have in common; `source` is that of `source_digest`."""

    scenario: Scenario
    design: Design
    source: bytes


class Item(NamedTuple):
    """Cuts of what follows a case: their numbers, which ascend."""

    after: Address
    numbers: Sequence[int]


class Chunk(NamedTuple):
    """What is to be done at once; `deeper`: also say how many cuts there are on the way on."""

    items: tuple[Item, ...]
    deeper: bool


class State(NamedTuple):
    """A state that was explored: whence, its digest, how many cuts follow, how it was cut, and id and problem if it failed."""

    address: Address
    digest: bytes
    following: int
    way: Way
    problem: tuple[str, str] | None


class Found(NamedTuple):
    """What a chunk came to: how many cases there were by how they were cut, the states in order, and seconds of CPU."""

    cases: Counter[Way]
    states: list[State]
    seconds: float


def way_of(case: Case) -> Way:
    """Return how a case was cut, in words that are few enough for a table."""
    return case.step.phase, case.step.operation.kind, _NUMBERS.sub("", case.how)


class Worker:
    """Does chunks of one job, one after the other."""

    def __init__(self, explorer: Explorer) -> None:
        self._explorer, self._digests = explorer, Digests()
        self._lock = threading.Lock()
        self._runs: dict[Address, tuple[explore.Path, tuple[Step, ...]]] = {}

    def do(self, chunk: Chunk, seen: frozenset[bytes]) -> Found:
        """Explore the states of a chunk that were not seen before."""
        with self._lock:  # a cluster may run several chunks in one process
            return self._do(chunk, seen)

    def _do(self, chunk: Chunk, seen: frozenset[bytes]) -> Found:
        began = time.process_time()
        cases: Counter[Way] = Counter()
        states: dict[bytes, State] = {}
        for item in chunk.items:
            path, steps = self._after(item.after)
            for number, case in zip(item.numbers, self._explorer.cases(steps, path, item.numbers), strict=True):
                way = way_of(case)
                cases[way] += 1
                digest = self._digests.of(case)
                if digest in seen or digest in states:
                    continue
                verdict = self._explorer.explore(case, record=chunk.deeper)
                problem = (case.id, verdict.problem) if verdict.problem else None
                following = 0 if problem else sum(map(self._explorer.count, verdict.steps))
                states[digest] = State((*item.after, number), digest, following, way, problem)
        return Found(cases, list(states.values()), time.process_time() - began)

    def _after(self, address: Address) -> tuple[explore.Path, tuple[Step, ...]]:
        """The cuts of a case, and the operations that follow it."""
        if not address:
            return (), self._explorer.steps
        if address not in self._runs:
            path, steps = self._after(address[:-1])
            case = next(self._explorer.cases(steps, path, address[-1:]))
            # Of what came before, only the way to here is needed again.
            self._runs = {known: run for known, run in self._runs.items() if known == address[: len(known)]}
            self._runs[address] = case.path, self._explorer.explore(case, record=True).steps
        return self._runs[address]


# --- in a process of its own ------------------------------------------------------------------------------------------

_WORKERS: dict[bytes, Worker] = {}
_SEEN: dict[bytes, frozenset[bytes]] = {}
_GUARD = threading.Lock()


def do(job: bytes, job_data: bytes | Path, seen: bytes, seen_data: bytes | Path, chunk: Chunk) -> Found:
    """Do a chunk.

    Args:
        job, seen: digests of the pickled `Job` and of the digests that were seen before.
        job_data, seen_data: the bytes themselves, or a file with them: read once in each process.
        chunk: what is to be done.

    Raises:
        OtherReleaseError: this process has other code.
    """
    with _GUARD:
        if job not in _WORKERS:
            _WORKERS.clear()
            _WORKERS[job] = _start(_bytes(job_data))
        if seen not in _SEEN:
            _SEEN.clear()
            _SEEN[seen] = split(_bytes(seen_data))
        worker, known = _WORKERS[job], _SEEN[seen]
    return worker.do(chunk, known)


def _bytes(data: bytes | Path) -> bytes:
    return data.read_bytes() if isinstance(data, Path) else data


def _start(data: bytes) -> Worker:
    job = pickle.loads(data)  # noqa: S301 - made by `Runner`, and nobody else gives a worker anything to do
    if not isinstance(job, Job) or job.source != source_digest():
        raise OtherReleaseError
    return Worker(Explorer(job.scenario, job.design))


def split(data: bytes) -> frozenset[bytes]:
    """Return digests that stand one behind the other."""
    return frozenset(data[at : at + SIZE] for at in range(0, len(data), SIZE))


@cache
def source_digest() -> bytes:
    """Return a digest of the code that decides what is found: all of the simulator's and the verifier's."""
    digest = blake2b(digest_size=SIZE)
    for module in (geometry.__file__, errors.__file__):
        folder = Path(module).parent
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.digest()
