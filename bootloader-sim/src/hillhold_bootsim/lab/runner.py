"""Runs cases on boards: several at once, and those of a board that can be made anew in as many processes as there are.

A real board lives through all its cases in their order, in a thread of its own. A virtual one is made anew for each case, so that a verdict
follows from the case and the board alone, whatever the number of workers.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from hillhold_bootsim.lab.bench import Bench
from hillhold_bootsim.lab.catalogue import BY_ID
from hillhold_bootsim.lab.judge import Attack, examine
from hillhold_bootsim.lab.model import Evidence, Item, Result, Tested, Verdict
from hillhold_bootsim.lab.target import Spec
from hillhold_bootsim.powercut.pools import WorkerLostError, processes
from hillhold_verifier.errors import HillholdError

Report = Callable[[str, Result], None]


@dataclass(frozen=True, slots=True)
class Firmware:
    """What the lab's images consist of, for boards that run what they are sent.

    Attributes:
        data: code; without it images are noise.
        header: bytes of an image's header with its filler.
    """

    data: bytes = b""
    header: int = 32


def run(
    cases: Sequence[Attack],
    targets: Sequence[Spec],
    seed: int,
    workers: int = 1,
    report: Report = lambda _name, _result: None,
    firmware: Firmware | None = None,
) -> tuple[Tested, ...]:
    """Run every case on every board.

    Args:
        cases: of the catalogue, in the order in which they are to be done.
        targets: the boards.
        seed: of all keys and all noise.
        workers: processes for boards that can be made anew; 1 for none beside this one.
        report: told the name of the board and each result, when it is there.

    Returns:
        What came of it by board, in the order of `targets`; results in the order of `cases`.

    Raises:
        WorkerLostError: a worker process is gone.
    """
    code = firmware or Firmware()
    ids = [attack.case.id for attack in cases]
    alone = [spec for spec in targets if spec.alone]
    real = [spec for spec in targets if not spec.alone]
    tested: dict[int, Tested] = {}
    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(max(1, len(real)))) if real else None
        waiting = [(spec, threads.submit(_live, spec, ids, seed, code, report)) for spec in real] if threads else []
        for spec, results in zip(
            alone, anew([(spec, ids) for spec in alone], seed, workers, report, code), strict=True
        ):
            tested[id(spec)] = results
        for spec, future in waiting:
            tested[id(spec)] = future.result()
    return tuple(tested[id(spec)] for spec in targets)


def anew(
    jobs: Sequence[tuple[Spec, Sequence[str]]],
    seed: int,
    workers: int = 1,
    report: Report = lambda _name, _result: None,
    firmware: Firmware | None = None,
) -> Iterator[Tested]:
    """Run cases on boards that can be made anew, each case on a board of its own; what came of each board, in order.

    Args:
        jobs: each board with the ids of its cases.
        seed, workers, report, firmware: see `run`, which also says what is raised.
    """
    code = firmware or Firmware()
    with ExitStack() as stack:
        pool = stack.enter_context(processes(workers, (__name__,))) if workers > 1 and jobs else None
        futures: dict[tuple[int, str], Future[tuple[Item, Result]]] = {}
        if pool:
            futures = {
                (at, case): pool.submit(_one, spec, case, seed, code)
                for at, (spec, ids) in enumerate(jobs)
                for case in ids
            }
        for at, (spec, ids) in enumerate(jobs):
            items, results = [Item(spec.name, spec.kind)], []
            for case in ids:
                try:
                    item, result = futures[at, case].result() if futures else _one(spec, case, seed, code)
                except (BrokenProcessPool, OSError) as error:
                    raise WorkerLostError(f"a worker process is gone: {str(error) or type(error).__name__}") from error
                items.append(item)
                results.append(result)
                report(spec.name, result)
            yield Tested(items[-1], tuple(results))


def _one(spec: Spec, case: str, seed: int, firmware: Firmware) -> tuple[Item, Result]:
    bench = Bench(spec.make(seed), seed, firmware=firmware.data, header=firmware.header)
    try:
        result = attempt(BY_ID[case], bench)
        return bench.item, result
    finally:
        bench.close()


def _live(spec: Spec, ids: Sequence[str], seed: int, firmware: Firmware, report: Report) -> Tested:
    """All cases on one board, which lives through them."""
    results = []
    try:
        bench = Bench(spec.make(seed), seed, firmware=firmware.data, header=firmware.header)
    except HillholdError as error:
        for case in ids:
            results.append(Result(case, Verdict.NOT_TESTED, f"the board cannot be reached: {error}", False))
            report(spec.name, results[-1])
        return Tested(Item(spec.name, spec.kind), tuple(results))
    try:
        for case in ids:
            results.append(attempt(BY_ID[case], bench))
            report(spec.name, results[-1])
        return Tested(bench.item, tuple(results))
    finally:
        with suppress(HillholdError):
            bench.close()


def attempt(attack: Attack, bench: Bench) -> Result:
    """Do a case; a fault of the lab's own code is no verdict on the board, and ends nothing else."""
    try:
        return examine(attack, bench)
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        note = Evidence("note", "an error of the laboratory's own tool", text)
        reason = f"an error of the laboratory's own tool: {type(error).__name__}"
        return Result(attack.case.id, Verdict.INCONCLUSIVE, reason, False, (*bench.evidence, note))
