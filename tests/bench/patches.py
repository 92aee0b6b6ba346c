"""Patches of real firmware, beside what other tools make of the same files.

Sizes in bytes. "/ bounded": ours as a part of the smallest of the others whose decoder keeps to 64 KiB beside base and result; those are
marked *. "make": process CPU time, as a multiple of the median of the others; as theirs, without applying what was made. "apply": seconds
for 400 KB, pure Python, and as a multiple of SHA-256 over the same bytes. "KiB": the peak that `tracemalloc` sees while a device applies a
patch (`SlotTransfer.apply`, slots in files): hashing, erasing, decoding and writing, liblzma's memory included.

    PYTHONPATH=tests/support:.cache/peers python tests/bench/patches.py [--json]

Why the others are bounded, or not, as they are run here:

    bsdiff4             no: three bzip2 streams at once, each of which needs 2.5 to 3.7 MB
    detools lzma        no: an LZMA dictionary of 8 MiB, which its command cannot change
    detools heatshrink  yes: a window of 256 bytes
    zstd, dictionary    no: a decoder's state alone has 94 KiB, and the window spans base and result
    xdelta3             no: copies from all of the result so far, and from blocks of the base that it buffers
    hdiffpatch zstd     no: as zstd, several streams at once
    hdiffpatch lite     yes: one stream; tinyuz has its window, LZMA its window and 16 KB, with a window of 32 KiB here
"""

from __future__ import annotations

import io
import json
import lzma
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any, Final

import bsdiff4
import detools
import hdiffpatch
import zstandard

from applying import apply_peak
from hillhold_signer.patches import make_patch
from hillhold_verifier.moves import MAX_MOVES
from hillhold_verifier.patch import HEADER, PatchDecoder
from realfirmware import PAIRS, pair

ROUNDS: Final = 7
FEED: Final = 512


def by_detools(compression: str) -> Callable[[bytes, bytes], bytes]:
    def make(base: bytes, result: bytes) -> bytes:
        out = io.BytesIO()
        detools.create_patch(io.BytesIO(base), io.BytesIO(result), out, compression=compression)
        return out.getvalue()

    return make


def by_zstd(base: bytes, result: bytes) -> bytes:
    held = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return bytes(zstandard.ZstdCompressor(level=19, dict_data=held).compress(result))


def by_xdelta3(base: bytes, result: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        before, after, made = (Path(folder) / name for name in ("before", "after", "made"))
        before.write_bytes(base)
        after.write_bytes(result)
        subprocess.run(["xdelta3", "-q", "-e", "-9", "-S", "lzma", "-s", before, after, made], check=True)
        return made.read_bytes()


def lite(config: Any) -> Callable[[bytes, bytes], bytes]:
    return lambda base, result: hdiffpatch.diff_lite(base, result, compression=config)


OTHERS: Final[dict[str, Callable[[bytes, bytes], bytes]]] = {
    "bsdiff4": bsdiff4.diff,
    "detools lzma": by_detools("lzma"),
    "detools heatshrink *": by_detools("heatshrink"),
    "zstd, dictionary": by_zstd,
    "xdelta3": by_xdelta3,
    "hdiffpatch zstd": lambda base, result: hdiffpatch.diff(base, result, "zstd"),
    "hdiffpatch lite tinyuz 1K *": lite(hdiffpatch.TuzConfig(dict_size=1 << 10)),
    "hdiffpatch lite tinyuz 32K *": lite(hdiffpatch.TuzConfig(dict_size=1 << 15)),
    "hdiffpatch lite lzma 32K *": lite(hdiffpatch.LzmaConfig(level=9, window=15)),
}


def cpu_time(run: Callable[[], object]) -> float:
    """Seconds of this process and of those that it starts, the least of some rounds."""
    found = []
    for _ in range(ROUNDS):
        start = used()
        run()
        found.append(used() - start)
    return min(found)


def used() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def apply(patch: bytes, base: bytes, length: int, digest: bytes | None = None) -> None:
    """Decodes without keeping the result, as a device does."""
    decoder = PatchDecoder(lambda offset, count: base[offset : offset + count], len(base), length)
    hashed = sha256()
    for at in range(0, len(patch), FEED):
        for chunk in decoder.feed(patch[at : at + FEED]):
            if digest:
                hashed.update(chunk)
    decoder.finish()
    if digest and hashed.digest() != digest:
        raise SystemExit("error: a patch does not give its result")


def device_bytes(patch: bytes) -> int:
    """What a microcontroller needs: dictionary, LZMA's probabilities, rows of the table, and 3 KiB for buffers and state."""
    properties, bits = patch[4], patch[5]
    lc, lp, pb = properties % 9, properties // 9 % 5, properties // 45
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << bits, "lc": lc, "lp": lp, "pb": pb}]
    plain = lzma.decompress(patch[HEADER.size :], lzma.FORMAT_RAW, filters=filters)
    rows = plain[0] if plain[0] < 0x80 else plain[0] & 0x7F | plain[1] << 7
    assert rows <= MAX_MOVES
    return (1 << bits) + 2 * (1846 + (768 << (lc + lp))) + 8 * rows + 3072


def measure(base: bytes, result: bytes) -> dict[str, Any]:
    patch = make_patch(base, result)
    length = len(result)
    apply(patch, base, length, sha256(result).digest())
    seconds = cpu_time(partial(apply, patch, base, length))
    hashing = cpu_time(lambda: [sha256(result).digest() for _ in range(200)]) / 200
    sizes = {name: len(make(base, result)) for name, make in OTHERS.items()}
    makes = [cpu_time(partial(make, base, result)) for make in OTHERS.values()]
    return {
        "length": length,
        "ours": len(patch),
        "others": sizes,
        "to_bounded": round(len(patch) / min(size for name, size in sizes.items() if name.endswith("*")), 3),
        "to_any": round(len(patch) / min(sizes.values()), 3),
        "make_seconds": round(ours := cpu_time(partial(make_patch, base, result, check=False)), 4),
        "make": round(ours / median(makes), 2),
        "apply_400k": round(seconds * 400_000 / length, 4),
        "apply": round(seconds / hashing),
        "peak_kib": round(apply_peak(base, base, result, patch) / 1024, 1),
        "device_kib": round(device_bytes(patch) / 1024, 1),
    }


def whole(image: bytes) -> dict[str, Any]:
    """The image itself, compressed: a patch from nothing, beside xz and LZMA with the same window."""
    patch = make_patch(b"", image)
    window = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << patch[5]}]
    theirs = len(lzma.compress(image, lzma.FORMAT_XZ, check=lzma.CHECK_NONE, filters=window))
    return {
        "length": len(image),
        "ours": len(patch),
        "xz": theirs,
        "to_xz": round(len(patch) / theirs, 3),
        "peak_kib": round(apply_peak(image[::-1], b"", image, patch) / 1024, 1),
        "device_kib": round(device_bytes(patch) / 1024, 1),
    }


def main() -> None:
    images = {name: pair(name) for name in PAIRS}
    found = {name: measure(*both) for name, both in images.items()}
    compressed = {name: whole(after) for name, (_, after) in images.items()}
    if "--json" in sys.argv:
        print(json.dumps({"pairs": found, "whole": compressed}))
        return
    print((__doc__ or "").split("\n\n    PYTHONPATH")[0] + "\n")
    for number, (name, row) in enumerate(found.items(), 1):
        print(f"{number}  {name}, {row['length']:,} bytes")
    print(f"\n{'':30}" + "".join(f"{number:>9}" for number in range(1, len(found) + 1)))
    for other in OTHERS:
        print(f"{other:30}" + "".join(f"{row['others'][other]:9,}" for row in found.values()))
    print(f"{'ours *':30}" + "".join(f"{row['ours']:9,}" for row in found.values()))
    lines = {
        "/ bounded (aim: <= 1.05)": "to_bounded",
        "/ any": "to_any",
        "make, / median (aim: <= 1)": "make",
        "make, s": "make_seconds",
        "apply 400 KB, s (aim: < 1)": "apply_400k",
        "apply, / SHA-256": "apply",
        "KiB (aim: <= 64)": "peak_kib",
        "KiB on a microcontroller": "device_kib",
    }
    for title, key in lines.items():
        print(f"{title:30}" + "".join(f"{row[key]:9}" for row in found.values()))
    print("\nthe image itself, compressed")
    for title, key in {
        "ours": "ours",
        "/ xz, same window": "to_xz",
        "KiB": "peak_kib",
        "KiB, microcontroller": "device_kib",
    }.items():
        print(f"{title:30}" + "".join(f"{row[key]:9,}" for row in compressed.values()))


if __name__ == "__main__":
    main()
