"""Make `patches.json` anew: `python tests/vectors/make_patches.py`.

It says of each patch its base, the length that the result has, and either the result or how the refusal begins: `PatchError`
says first what was wrong, then what was expected. Bytes are hexadecimal. Streams are written out by hand here, whatever the encoder would
make of the files.
"""

from __future__ import annotations

import json
import lzma
import random
import sys
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "support"))

from hillhold_signer.patches import make_patch  # noqa: E402
from hillhold_verifier.patch import HEADER  # noqa: E402
from patchread import by_one_read  # noqa: E402

BYTES: Final = bytes(range(256)) * 4
CODE: Final = bytes.fromhex("00f006f8 704700bf 11800000 10000020 704700bf fff7f4ff")
"""A call of what lies at 16, a pointer to that, one to RAM; at 20 a call of what lies at 0."""
FOX: Final = b"Hillhold 1.0: the quick brown fox jumps over the lazy dog. Then it sleeps."
HILL: Final = b"Hillhold 1.1: the quick brown fox jumps over the lazy dog! And then it wakes; the quick brown fox jumps over the hill."


def number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def signed(value: int) -> bytes:
    return number(value * 2 if value >= 0 else -value * 2 - 1)


def table(load: int, ram: int, ram_length: int, *rows: tuple[int, int]) -> bytes:
    """Rows are (places since the row before, change of the shift)."""
    out = number(len(rows)) + number(load) + number(ram) + number(ram_length)
    return out + b"".join(number(gap) + signed(change) for gap, change in rows)


def record(copy: int, add: bytes = b"", insert: bytes = b"", seek: int = 0) -> bytes:
    jump = bool(insert or seek)
    numbers = number(copy) + number(len(add) << 1 | jump)
    return numbers + (number(len(insert)) + signed(seek) if jump else b"") + add + insert


def packed(
    plain: bytes,
    old: bytes,
    length: int,
    *,
    parameters: tuple[int, int, int] = (0, 0, 0),
    bits: int = 12,
    **header: Any,
) -> bytes:
    lc, lp, pb = parameters
    lzma1 = {"id": lzma.FILTER_LZMA1, "dict_size": 1 << bits, "lc": lc, "lp": lp, "pb": pb}
    stated = {"magic": b"HHP", "version": 2, "properties": (pb * 5 + lp) * 9 + lc, "bits": bits}
    stated |= {"base": len(old), "result": length} | header
    return HEADER.pack(*stated.values()) + lzma.compress(plain, lzma.FORMAT_RAW, filters=[lzma1])


def firmware(seed: int, length: int) -> bytes:
    """Branches and pointers close by each other, to and from everywhere, some of them within others, at an odd end."""
    rng = random.Random(seed)
    parts = {
        "branch": lambda: (
            rng.choice([b"%c\xf0%c\xf8", b"%c\xf7%c\xff", b"%c\xf0%c\xb8", b"%c\xf7%c\xbf"])
            % (rng.randrange(256), rng.randrange(256))
        ),
        "pointer": lambda: (0x8000 + rng.randrange(length)).to_bytes(4, "little"),
        "ram": lambda: (0x2000_0000 + rng.randrange(5000)).to_bytes(4, "little"),
        "half": lambda: rng.randbytes(2),
        "prefix": lambda: b"%c\xf1" % rng.randrange(256),
    }
    return b"".join(parts[rng.choice(list(parts))]() for _ in range(length))[:length]


DENSE: Final = firmware(5, 3001)
MOVES: Final = table(
    0x8000, 0x2000_0000, 4000, (0, 2), (700, -6), (2000, 70_004), (300, -70_000), (800, 12), (900, -40)
)


def good() -> dict[str, tuple[bytes, bytes, int]]:
    """Patch, base and the result's length."""
    text = packed(b"\0" + record(0, insert=HILL * 40), b"", len(HILL) * 40, bits=14)
    walk = record(0, seek=20) + record(2, seek=-22) + record(1)
    all_of_it = record(2, b"\1\xff\0", b"hi", 10) + record(3)
    dense = record(700, bytes(range(9)), b"12", -300) + record(1500, insert=b"x") + record(len(DENSE) - 1909)
    example = record(16, insert=bytes.fromhex("00bf00bf")) + record(8)
    moved = table(0x8000, 0x2000_0000, 0x20, (16, 4), (8, -4), (16, 8))
    length = len(DENSE) - 1909 + 709 + 2 + 1501
    return {
        "nothing": (packed(b"\0", b"", 0), b"", 0),
        "nothing-is-left": (packed(b"\0", FOX, 0), FOX, 0),
        "example": (make_patch(FOX, HILL), FOX, len(HILL)),
        "from-nothing": (text, b"", len(HILL) * 40),
        "walk": (packed(b"\0" + walk, BYTES, 3), BYTES, 3),
        "records": (packed(b"\0" + all_of_it, BYTES, 10, parameters=(3, 0, 4)), BYTES, 10),
        "lp": (packed(b"\0" + all_of_it, BYTES, 10, parameters=(1, 2, 0), bits=13), BYTES, 10),
        "moves-example": (packed(moved + example, CODE, 28), CODE, 28),
        "moves": (packed(MOVES + dense, DENSE, length), DENSE, length),
        "moves-nothing": (packed(table(2**32 - 3001, 0, 0, (3000, 4)) + record(3001), DENSE, 3001), DENSE, 3001),
        "moves-round-the-top": (packed(table(0x8000, 0, 0, (0, -(2**31))) + record(3001), DENSE, 3001), DENSE, 3001),
    }


def bad() -> dict[str, tuple[bytes, bytes, int, str]]:
    """Patch, base, the length that is signed, and how the refusal begins."""
    right = b"\0" + record(4)

    def stream(plain: bytes) -> bytes:
        return packed(plain, BYTES, 4)

    made = {
        "magic": (packed(right, BYTES, 4, magic=b"HHQ"), "patch magic"),
        "version": (packed(right, BYTES, 4, version=1), "patch format version"),
        "other-base": (packed(right, BYTES, 4, base=1023), "patch base length"),
        "other-result": (packed(right, BYTES, 4, result=2**31), "patch result length"),
        "window-small": (packed(right, BYTES, 4)[:5] + b"\x0b" + packed(right, BYTES, 4)[6:], "patch window"),
        "window-large": (packed(right, BYTES, 4)[:5] + b"\x0f" + packed(right, BYTES, 4)[6:], "patch window"),
        "literal-bits": (packed(right, BYTES, 4, properties=3 + 9), "patch LZMA properties"),
        "position-bits": (packed(right, BYTES, 4, properties=225), "patch LZMA properties"),
        "header-short": (packed(right, BYTES, 4)[:13], "patch header"),
        "cut": (packed(right, BYTES, 4)[:-1], "patch cut short"),
        "longer": (packed(right, BYTES, 4) + b"\0", "patch: expected nothing after its end"),
        "not-lzma": (packed(right, BYTES, 4)[:14] + b"\xff" * 30, "patch stream"),
        "number-long": (stream(b"\0\x84\0\0"), "patch number"),
        "number-large": (stream(b"\0\xff\xff\xff\xff\x10\0"), "patch number"),
        "rows": (stream(number(385)), "patch moves"),
        "load": (stream(table(2**32 - 1023, 0, 0, (0, 4)) + record(4)), "patch address"),
        "ram": (stream(table(0, 2**32 - 1, 2, (0, 4)) + record(4)), "patch address"),
        "row-again": (stream(table(0, 0, 0, (5, 4), (0, 4)) + record(4)), "patch move"),
        "row-beyond": (stream(table(0, 0, 9, (1033, 4)) + record(4)), "patch move"),
        "shift": (stream(table(0, 0, 0, (0, 2**31 - 1), (1, 1)) + record(4)), "patch move"),
        "rows-cut": (stream(table(0, 0, 0, (0, 4))[:-1]), "patch cut short"),
        "gigabytes": (stream(b"\0\xff\xff\xff\xff\x0f\0"), "patch result"),
        "add-too-much": (stream(b"\0" + record(0, b"abcde")), "patch result"),
        "insert-too-much": (stream(b"\0" + record(0, insert=b"abcde")), "patch result"),
        "read-beyond": (stream(b"\0" + record(1, seek=1023) + record(2)), "patch read"),
        "seek-beyond": (stream(b"\0" + record(1, seek=1024) + record(1)), "patch cursor"),
        "seek-before": (stream(b"\0" + record(1, seek=-2) + record(1)), "patch cursor"),
        "jump-to-nowhere": (stream(b"\0\1\1\0\0"), "patch record: expected insert or seek"),
        "empty": (stream(b"\0\0\0"), "patch record: expected at least one byte"),
        "walk-on": (
            stream(b"\0" + record(1) + record(0, seek=1) + record(3)),
            "patch record: expected at least one byte",
        ),
        "more-records": (stream(right + record(1)), "patch: expected nothing after the whole result"),
        "less": (stream(b"\0" + record(3)), "patch cut short"),
    }
    return {name: (made_of, BYTES, 4, says) for name, (made_of, says) in made.items()}


def main() -> None:
    names = {"empty": b"", "bytes": BYTES, "code": CODE, "fox": FOX, "dense": DENSE}
    name_of = {base: name for name, base in names.items()}
    listed: list[dict[str, Any]] = []
    for name, (patch, base, length) in good().items():
        result = by_one_read(patch, base, length)
        if result is None:
            raise SystemExit(f"error: {name} is no patch")
        listed.append(
            {"name": name, "patch": patch.hex(), "base": name_of[base], "length": length, "result": result.hex()}
        )
    for name, (patch, base, length, says) in bad().items():
        listed.append({"name": name, "patch": patch.hex(), "base": name_of[base], "length": length, "refusal": says})
    text = json.dumps({"bases": {name: base.hex() for name, base in names.items()}, "patches": listed}, indent=1)
    (HERE / "patches.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
