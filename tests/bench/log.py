"""The transparency log at a million entries: append, prove, verify.

append      batches of 1,000 events into a folder, each durable when it returns: entries per second, and the time of the last
            tenth of the batches over that of the first (flat: about 1)
one         a single event appended at the end: median and 99 % in ms
prove       an inclusion proof of a random entry, from the files, with its checkpoint opened and all that it reads checked
check       the same proof verified offline
verify      all of the log, as `hillhold log verify` does: every tile and every entry

PYTHONPATH=tests/support python tests/bench/log.py [--small] [--json]
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

from hillhold_signer.examples import example_signer
from hillhold_signer.log import (
    Event,
    FolderStore,
    Kind,
    Proof,
    Tree,
    audit,
    create_log,
    fetch_checkpoint,
    note_signer,
    open_log,
    prove_entry,
)

BATCH = 1000
SIZE, SMALL = 1_000_000, 20_000
SAMPLES = 500
SINGLE = 200
SIGNER = note_signer("log.example/bench", example_signer("timestamp"))
AIM = 10.0


@dataclass
class Figures:
    """Times in seconds, but where a name says ms."""

    entries: int
    append_per_second: float
    append_last_over_first: float
    one_ms: tuple[float, float]
    prove_ms: tuple[float, float]
    check_ms: tuple[float, float]
    verify: float
    bytes: int


def event(number: int) -> bytes:
    fields: dict[str, str | int] = {
        "role": "pump",
        "version": number,
        "sha256": f"{number:064x}",
        "keyid": f"{number % 7:064x}",
    }
    return Event(1_767_225_600 + number, Kind.SIGNATURE, "Ada", fields).encode()


def timed(run: Callable[[], object]) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start


def spread(times: list[float]) -> tuple[float, float]:
    """Median and 99 %, in ms."""
    return round(median(times) * 1000, 2), round(quantiles(times, n=100)[98] * 1000, 2)


def measure(size: int, folder: Path) -> Figures:
    store, keys = FolderStore(folder), [SIGNER.verifier]
    create_log(store, [SIGNER])
    batches: list[float] = []
    with open_log(store, [SIGNER]) as log:
        for start in range(0, size, BATCH):
            entries = [event(number) for number in range(start, start + BATCH)]
            batches.append(timed(lambda entries=entries: log.append(entries)))  # type: ignore[misc]
        single = [timed(lambda number=number: log.append([event(number)])) for number in range(size, size + SINGLE)]  # type: ignore[misc]
    tenth = len(batches) // 10
    signed = fetch_checkpoint(store, keys)
    choose = random.Random(1)
    proofs: list[Proof] = []

    def prove(index: int) -> None:
        found = fetch_checkpoint(store, keys)
        proofs.append(prove_entry(Tree(store, found.checkpoint.size, found.checkpoint.root), found, index))

    proving = [timed(lambda: prove(choose.randrange(signed.checkpoint.size))) for _ in range(SAMPLES)]
    checking = [timed(lambda proof=proof: Proof.parse(proof.data).verify(proof.extra or b"", keys)) for proof in proofs]  # type: ignore[misc]
    return Figures(
        signed.checkpoint.size,
        round(size / sum(batches)),
        round(sum(batches[-tenth:]) / sum(batches[:tenth]), 2),
        spread(single),
        spread(proving),
        spread(checking),
        round(timed(lambda: audit(store, signed)), 1),
        sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    )


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="hillhold-log-"))
    try:
        found = measure(SMALL if "--small" in sys.argv else SIZE, folder)
    finally:
        shutil.rmtree(folder)
    if "--json" in sys.argv:
        print(json.dumps(asdict(found)))
        return
    print((__doc__ or "").split("\n\n")[0])
    print(f"\n{found.entries} entries, {found.bytes / 2**20:.0f} MiB")
    print(
        f"append   {found.append_per_second:>9} entries/s in batches of {BATCH}; last tenth / first {found.append_last_over_first}"
    )
    for name, times in (("one", found.one_ms), ("prove", found.prove_ms), ("check", found.check_ms)):
        print(f"{name:8} {times[0]:9.2f} ms median, {times[1]:.2f} ms at 99 %")
    print(f"verify   {found.verify:9.1f} s")
    print(f"aim      prove below {AIM:.0f} ms, append flat")


if __name__ == "__main__":
    main()
