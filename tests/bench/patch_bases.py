"""Patches of one release from many earlier ones: how long it takes, with how much memory, and what the metadata cost.

The bases are MicroPython for the micro:bit, its first 60 KB, each with some edits of its own. Wall time with as many processes as there
are processors; "MiB": the most that the process which asks for the patches had resident, the benchmark included; "metadata": bytes that
the patches that are kept add to the role of their line.

    PYTHONPATH=tests/support python tests/bench/patch_bases.py [--bases 1000] [--json]
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

from tuf.api.metadata import TargetFile

from hillhold_signer.making import Making
from hillhold_signer.patching import PatchFrom, Task
from hillhold_verifier.canonical import canonical
from hillhold_verifier.release import Release
from patchworld import listed
from realfirmware import pair

FIX = "fix, MicroPython for the micro:bit (uflash 1.2.3 to 1.2.4)"
LENGTH = 60_000
EDITS = 20


def earlier(image: bytes, number: int) -> bytes:
    rng, out = random.Random(number), bytearray(image)
    for _ in range(EDITS):
        at = rng.randrange(0, len(out), 2)
        out[at : at + rng.randrange(0, 20, 2)] = rng.randbytes(rng.randrange(0, 20, 2))
    return bytes(out)


def memory() -> float:
    """MiB that this process had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def measured(count: int) -> dict[str, float]:
    image = pair(FIX)[1][:LENGTH]
    bases = [listed(f"1.0.{number}", earlier(image, number)) for number in range(count)]
    target = TargetFile(len(image), {"sha256": sha256(image).hexdigest()}, "pump/2.0.0/app.bin")

    def read(release: Release) -> bytes:
        return earlier(image, int(str(release.version).split(".")[2]))

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, Making(Path(folder) / "patches") as making:
        made = making.make(Task(target, image, tuple(PatchFrom(None).choose(bases)), whole=True), read)
    return {
        "bases": count,
        "seconds": round(time.monotonic() - began, 1),
        "mib": round(memory(), 1),
        "kept": len(made.kept),
        "largest": max(kept.target.length for kept in made.kept if kept.base),
        "metadata": len(canonical({kept.target.path: kept.target.to_dict() for kept in made.kept})),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bases", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    values = measured(options.bases)
    if options.json:
        print(json.dumps(values))
        return
    print(f"a release of {LENGTH:,} bytes, patches from {options.bases} earlier ones")
    print(f"{values['seconds']} s, {values['seconds'] / options.bases * 1000:.0f} ms each; {values['mib']} MiB")
    print(f"{values['kept']} kept, of {values['largest']} bytes at most; {values['metadata']:,} bytes of metadata")


if __name__ == "__main__":
    main()
