"""Streaming verification of a 256 MiB image, in one process, as ratios against `hashlib` alone.

    check       `ContentCheck`: length and SHA-256 of 64 KiB pieces as they come
    slot        a slot of a Linux board, read from its file and hashed, as before it is marked
    hashlib     SHA-256 over the same pieces; for the slot, over the same reads of the same file

The two of a pair run in turn; a ratio is of the medians of process CPU time. Memory: what `tracemalloc` sees at the peak of one run.

    PYTHONPATH=tests/support python tests/bench/content_stream.py [--json]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from statistics import median
from time import process_time

from hillhold_verifier.content import ContentCheck
from hillhold_verifier.linux.files import FileSlots
from hillhold_verifier.slotio import HASH_CHUNK, slot_sha256

LENGTH = 256 * 1024 * 1024
PIECE = os.urandom(64 * 1024)
COUNT = LENGTH // len(PIECE)
ROUNDS = 5
AIM = 0.9


def bare() -> bytes:
    digest = sha256()
    for _ in range(COUNT):
        digest.update(PIECE)
    return digest.digest()


def check(expected: bytes) -> None:
    found = ContentCheck("pump/1.0.0/app.bin", LENGTH, {"sha256": expected})
    for _ in range(COUNT):
        found.feed(PIECE)
    found.finish()


def bare_file(path: Path) -> bytes:
    digest = sha256()
    with path.open("rb", buffering=0) as file:
        while data := file.read(HASH_CHUNK):
            digest.update(data)
    return digest.digest()


def speed(ours: Callable[[], object], theirs: Callable[[], object]) -> float:
    """Speed of `ours` as a part of that of `theirs`."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for run, found in zip((ours, theirs), times, strict=True):
            start = process_time()
            run()
            found.append(process_time() - start)
    return median(times[1]) / median(times[0])


def peak(run: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def measure() -> dict[str, dict[str, float]]:
    expected = bare()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slot"
        with path.open("wb") as file:
            for _ in range(COUNT):
                file.write(PIECE)
        slots = FileSlots([path, Path(folder) / ".." / Path(folder).name / "slot"])
        runs = {
            "check": (lambda: check(expected), bare),
            "slot": (lambda: slot_sha256(slots, 0, 0, LENGTH), lambda: bare_file(path)),
        }
        return {
            name: {"speed": round(speed(ours, theirs), 3), "peak_kib": peak(ours) // 1024}
            for name, (ours, theirs) in runs.items()
        }


def main() -> None:
    found = measure()
    if "--json" in sys.argv:
        print(json.dumps(found))
        return
    print((__doc__ or "").split("\n\n")[0])
    print(f"\n{'':10}{'/ hashlib':>12}{'peak KiB':>12}")
    for name, row in found.items():
        print(f"{name:10}{row['speed']:12.2f}{row['peak_kib']:12.0f}")
    print(f"{'aim':10}{f'>= {AIM}':>12}{'flat':>12}")


if __name__ == "__main__":
    main()
