"""Images as a linker makes them: functions that call each other, with pools of pointers to functions and to RAM."""

from __future__ import annotations

import random
from typing import Final

RAM: Final = 0x2000_0000

_HARMLESS: Final = [bytes([low, high]) for low in range(0, 256, 5) for high in (0x46, 0x60, 0x68, 0x19, 0x42)]


class Function:
    """Code of one function: halfwords, and calls of others by their number; then pointers to others, and into RAM."""

    def __init__(self, seed: int, of: int) -> None:
        rng = random.Random(seed)
        self.code: list[bytes | int] = [b"\x10\xb5"]
        for _ in range(rng.randrange(20, 60)):
            self.code.append(rng.randrange(of) if rng.random() < 0.15 else rng.choice(_HARMLESS))
        self.code.append(b"\x10\xbd")
        self.pointers = [rng.randrange(of) for _ in range(rng.randrange(3))]
        self.variables = [rng.randrange(0, 4000, 4) for _ in range(rng.randrange(3))]

    @property
    def code_length(self) -> int:
        return sum(4 if isinstance(part, int) else 2 for part in self.code)


def link(functions: list[Function], load: int, moved_variables: int = 0) -> bytes:
    """The image; variables from 2000 on lie `moved_variables` bytes further on."""
    starts, end = [], 256
    for function in functions:
        starts.append(end)
        end += (function.code_length + 3 & ~3) + 4 * len(function.pointers + function.variables)
    out = bytearray((RAM + 0x4000).to_bytes(4, "little") + (load + starts[0] + 1).to_bytes(4, "little") + bytes(248))
    for function in functions:
        for part in function.code:
            out += call(starts[part] - len(out) - 4) if isinstance(part, int) else part
        out += bytes(-len(out) % 4)
        out += b"".join((load + starts[to] + 1).to_bytes(4, "little") for to in function.pointers)
        moved = [at + (moved_variables if at >= 2000 else 0) for at in function.variables]
        out += b"".join((RAM + at).to_bytes(4, "little") for at in moved)
    return bytes(out)


def call(offset: int) -> bytes:
    bits = f"{offset % 2**25:025b}"
    first, sign = 0xF000 | int(bits[0]) << 10 | int(bits[3:13], 2), int(bits[0])
    second = 0xD000 | (1 - (int(bits[1]) ^ sign)) << 13 | (1 - (int(bits[2]) ^ sign)) << 11 | int(bits[13:24], 2)
    return first.to_bytes(2, "little") + second.to_bytes(2, "little")


def builds(count: int, load: int, every: int = 0) -> tuple[bytes, bytes]:
    """An image of so many functions; and the next one, in which one function (or each `every`-th) is longer and a variable came in."""
    functions = [Function(number, count) for number in range(count)]
    before = link(functions, load)
    for function in functions[::every] if every else [functions[count // 2]]:
        function.code[3:3] = [b"\x01\x46", b"\x02\x46"]
    return before, link(functions, load, moved_variables=8)
