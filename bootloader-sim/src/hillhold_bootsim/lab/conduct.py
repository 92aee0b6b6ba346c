"""Conducts a campaign: everything that its file orders, on every item, from where an earlier run of it came to.

A virtual item gets a board of its own for each case, in as many processes as there are workers; cuts at flash operations have theirs after
that. A real one lives through all of it in a thread of its own, from the gentle to the rough: lines, power cuts, soak, then attacks, since
a board that an attack breaks says no more. What comes is in the journal before anything else is done.

A board that is lost ends its item, and what it was lost in is done again in the next run; the other items go on.
"""

from __future__ import annotations

import json
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Final

import hillhold_bootsim
import hillhold_signer
import hillhold_verifier
from hillhold_bootsim.boards import NAME, Board
from hillhold_bootsim.lab.campaign import ItemOrder, Order, firmware_of
from hillhold_bootsim.lab.catalogue import BY_ID, CATALOGUE
from hillhold_bootsim.lab.cuts import CutsWork
from hillhold_bootsim.lab.honest import Kept, Stand, Work
from hillhold_bootsim.lab.journal import Journal, Key, Part
from hillhold_bootsim.lab.jsonform import to_values
from hillhold_bootsim.lab.lines import LineWork
from hillhold_bootsim.lab.model import Campaign, Case, Evidence, Item, Result, Tested, Verdict
from hillhold_bootsim.lab.operations import NO_OPERATIONS, OperationsWork, Pools
from hillhold_bootsim.lab.runner import Firmware, attempt
from hillhold_bootsim.lab.selfcheck import selfcheck
from hillhold_bootsim.lab.soak import SoakWork
from hillhold_bootsim.lab.target import GoneError, Spec
from hillhold_bootsim.powercut.pools import WorkerLostError, processes
from hillhold_signer.errors import StorageError
from hillhold_signer.storage import read_file
from hillhold_verifier.errors import HillholdError

BOARD_FILE: Final = ".toml"
NOT_CHOSEN: Final = "not part of this campaign: its file does not choose it"
MAX_INPUT: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class AttackWork:
    """An attack of the catalogue; see `honest.Work`."""

    id: str

    @property
    def case(self) -> Case:
        """The catalogue's."""
        return BY_ID[self.id].case

    def do(self, bench: Stand, kept: Kept) -> Result:  # noqa: ARG002 - it has no parts
        """See `honest.Work`."""
        return attempt(BY_ID[self.id], bench)


@dataclass(frozen=True, slots=True)
class Task:
    """One item with how to get at it.

    Attributes:
        order: what the file says.
        spec: makes the target.
        firmware: of its images.
        board: what a virtual one is; None for a real one.
    """

    order: ItemOrder
    spec: Spec
    firmware: Firmware
    board: Board | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What was just done: `result` of a case, or `done` of its `total` parts."""

    item: str
    case: str
    result: Result | None = None
    done: int = 0


Tell = Callable[[Step], None]


class _StopError(Exception):
    """Another thread failed, or somebody interrupts."""


def works_of(order: Order) -> tuple[Work | OperationsWork, ...]:
    """Return what is done to each item, in order."""
    found: list[Work | OperationsWork] = [LineWork(line) for line in order.lines]
    found += [CutsWork(order.cuts)] if order.cuts.spread else []
    found += [OperationsWork(order.cuts)] if order.cuts.depth else []
    found += [SoakWork(order.soak)] if order.soak else []
    return (*found, *map(AttackWork, order.attacks))


def board_file(order: Order, item: ItemOrder) -> Path | None:
    """Return the file that describes a virtual item, beside the campaign's; None where it is of those that ship, or a real one."""
    is_file = item.is_virtual and (item.board.endswith(BOARD_FILE) or not NAME.fullmatch(item.board))
    return order.folder / item.board if is_file else None


def inputs(order: Order) -> dict[str, str]:
    """Return SHA-256 of all that a campaign's results depend on beside real boards, by name; raises `StorageError`."""
    catalogue = [to_values(attack.case, attack.case.id) for attack in CATALOGUE]
    found = {
        "campaign file": order.digest,
        "catalogue": sha256(json.dumps(catalogue, sort_keys=True).encode()).hexdigest(),
    }
    for package in (hillhold_bootsim, hillhold_signer, hillhold_verifier):
        found[f"code of {package.__name__}"] = _code(Path(package.__file__ or "").parent)
    for item in order.items:
        if path := board_file(order, item):
            found[f"board file {item.board}"] = sha256(read_file(path, MAX_INPUT)).hexdigest()
        if item.firmware:
            found[f"firmware {item.firmware}"] = sha256(firmware_of(order, item)).hexdigest()
        if item.adapter:
            data = read_file(order.folder / item.adapter, MAX_INPUT)
            found[f"adapter {item.adapter}"] = sha256(data).hexdigest()
    return found


def conduct(
    order: Order, tasks: Sequence[Task], journal: Journal, workers: int, pools: Pools, tell: Tell
) -> dict[str, str]:
    """Do what is not in the journal yet.

    Args:
        tasks: the items, in the file's order.
        workers: processes for virtual items; 1 for none beside this one.
        pools: of cuts at flash operations.
        tell: told what was done, by any thread.

    Returns:
        Why items ended early, by name; none if all is done.

    Raises:
        StorageError: the journal cannot be written.
        WorkerLostError, ClusterError: a process is gone.
    """
    works, seed = works_of(order), order.seed
    if order.selfcheck and not journal.checks:
        rows = count(1)
        journal.add_checks(
            selfcheck(
                seed=seed, workers=workers, report=lambda row: tell(Step("selfcheck", row.board, done=next(rows)))
            )
        )
    real = [task for task in tasks if not task.spec.alone]
    stop = threading.Event()
    ended: dict[str, str] = {}
    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(max(1, len(real))))
        stack.callback(stop.set)  # before the threads are waited for
        waiting = {threads.submit(_live, task, works, journal, seed, stop, tell): task for task in real}
        _virtual([task for task in tasks if task.spec.alone], works, journal, seed, workers, tell)
        _operations(tasks, works, journal, seed, pools, tell)
        for future in as_completed(waiting):
            if why := future.result():
                ended[waiting[future].order.name] = why
    return ended


def summed_up(
    order: Order,
    tasks: Sequence[Task],
    journal: Journal,
    versions: Mapping[str, str],
    ended: Mapping[str, str],
    now: int,
) -> Campaign:
    """Return the campaign as far as the journal has it.

    Args:
        versions: of the tool and what it runs on.
        ended: as `conduct` returned it.
        now: Unix seconds, when it ended.

    Raises:
        CampaignRefused: what went in is not any more what the campaign began with.
        StorageError: or it cannot be read.
    """
    journal.head.require(inputs(order), versions)
    works = works_of(order)
    done = [work.case for work in works]
    others = [attack.case for attack in CATALOGUE if attack.case.id not in {case.id for case in done}]
    tested, finished = [], bool(journal.checks) or not order.selfcheck
    for task in tasks:
        name = task.order.name
        results = [journal.results.get((name, case.id)) for case in done]
        finished &= all(results)
        left = [Result(case.id, Verdict.NOT_TESTED, _left_out(order, case), False) for case in others]
        tested.append(Tested(_item(task, journal, ended), (*filter(None, results), *left)))
    return Campaign(
        order.title, order.paper, journal.began, now, order.seed, (*done, *others), tuple(tested),
        checks=journal.checks, versions=versions, hashes=journal.head.hashes, finished=finished,
    )  # fmt: skip


# --- inside -----------------------------------------------------------------------------------------------------------


def _left_out(order: Order, case: Case) -> str:
    reason = order.excluded.get(case.id)
    return f"left out by the laboratory: {reason}" if reason else NOT_CHOSEN


def _item(task: Task, journal: Journal, ended: Mapping[str, str]) -> Item:
    order = task.order
    item = journal.items.get(order.name) or Item(order.name, task.spec.kind)
    early = {"ended early": ended[order.name]} if order.name in ended else {}
    return replace(item, name=order.name, serial_number=order.serial_number, facts={**item.facts, **early})


def _code(folder: Path) -> str:
    """SHA-256 of a package with its data: boards and clauses."""
    digest = sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".toml")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _virtual(
    tasks: Sequence[Task], works: Sequence[Work | OperationsWork], journal: Journal, seed: int, workers: int, tell: Tell
) -> None:
    """Each case on a board of its own."""
    todo = [
        (task, work)
        for task in tasks
        for work in works
        if not isinstance(work, OperationsWork) and (task.order.name, work.case.id) not in journal.results
    ]

    def take(task: Task, case: str, result: Result) -> None:
        journal.add_result((task.order.name, case), result)
        tell(Step(task.order.name, case, result))

    for task in tasks:
        if task.order.name not in journal.items:
            journal.add_item(task.order.name, _meet(task, seed))

    if workers == 1 or not todo:
        for task, work in todo:
            take(task, work.case.id, alone(task.spec, work, seed, task.firmware))
        return
    with processes(workers, (__name__,)) as pool:
        try:
            futures: dict[Future[Result], tuple[Task, str]] = {
                pool.submit(alone, task.spec, work, seed, task.firmware): (task, work.case.id) for task, work in todo
            }
            for future in as_completed(futures):
                take(*futures[future], future.result())
        except (BrokenProcessPool, OSError) as error:
            raise WorkerLostError(f"a worker process is gone: {str(error) or type(error).__name__}") from error


def alone(spec: Spec, work: Work, seed: int, firmware: Firmware) -> Result:
    """Do one case on a board of its own; a process of its own may do that."""
    with closing(Stand(spec.make(seed), seed, firmware)) as bench:
        try:
            return _tried(work, bench, Kept())
        except GoneError as error:
            return Result(work.case.id, Verdict.INCONCLUSIVE, f"the board was lost: {error}", False)


def _meet(task: Task, seed: int) -> Item:
    """What a virtual item is."""
    with closing(Stand(task.spec.make(seed), seed, task.firmware)) as bench:
        with suppress(HillholdError):
            bench.look()
        return bench.item


def _operations(
    tasks: Sequence[Task],
    works: Sequence[Work | OperationsWork],
    journal: Journal,
    seed: int,
    pools: Pools,
    tell: Tell,
) -> None:
    for work in works:
        for task in tasks if isinstance(work, OperationsWork) else ():
            key = (task.order.name, work.case.id)
            if key not in journal.results and isinstance(work, OperationsWork):
                result = (
                    work.explore(task.board, seed, pools)
                    if task.board
                    else Result(key[1], Verdict.NOT_TESTED, NO_OPERATIONS, False)
                )
                journal.add_result(key, result)
                tell(Step(*key, result))


def _live(
    task: Task,
    works: Sequence[Work | OperationsWork],
    journal: Journal,
    seed: int,
    stop: threading.Event,
    tell: Tell,
) -> str:
    """All cases on one board, which lives through them; return why it ended before their end, or ""."""
    name = task.order.name
    todo = [
        work for work in works if not isinstance(work, OperationsWork) and (name, work.case.id) not in journal.results
    ]
    if not todo:
        return ""
    try:
        bench = Stand(task.spec.make(seed), seed, task.firmware)
    except HillholdError as error:
        return f"the board cannot be reached: {error}"
    try:
        bench.look()
        journal.add_item(name, bench.item)
        for work in todo:
            if stop.is_set():
                return "interrupted"
            if why := _one(bench, work, (name, work.case.id), journal, stop, tell):
                return why
        return ""
    except _StopError:
        return "interrupted"
    except StorageError:
        raise
    except HillholdError as error:
        return f"the board was lost: {error}"
    finally:
        with suppress(HillholdError):
            bench.close()


def _one(bench: Stand, work: Work, key: Key, journal: Journal, stop: threading.Event, tell: Tell) -> str:
    """One case; return why the board was lost in it, or ""."""
    parts = journal.parts.get(key, [])

    def add(part: Part) -> None:
        journal.add_part(key, part)
        tell(Step(*key, done=len(journal.parts[key])))
        if stop.is_set():
            raise _StopError

    result = _tried(work, bench, Kept(tuple(parts), add))
    if result.verdict is Verdict.INCONCLUSIVE:
        bench.wire.forgive()
        bench.look()  # raises where the board is lost: then this is no result, and is done again
    journal.add_result(key, result)
    tell(Step(*key, result))
    return ""


def _tried(work: Work, bench: Stand, kept: Kept) -> Result:
    """A case; a fault of the lab's own code is no verdict on the board, and ends nothing else."""
    try:
        return work.do(bench, kept)
    except (GoneError, StorageError, _StopError):
        raise
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        note = Evidence("note", "an error of the laboratory's own tool", text)
        reason = f"an error of the laboratory's own tool: {type(error).__name__}"
        return Result(work.case.id, Verdict.INCONCLUSIVE, reason, False, (*bench.evidence, note))
