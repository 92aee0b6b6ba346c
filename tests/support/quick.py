"""Images made at once, for benchmarks of what comes after them; and what a process has used."""

from __future__ import annotations

import os
import random
import struct
from hashlib import sha256
from pathlib import Path

from hillhold_signer import example_signer
from hillhold_signer.keys import public_der
from hillhold_verifier.mcuboot import MAGIC, TLV_ED25519, TLV_KEYHASH, TLV_SECURITY_COUNTER, TLV_SHA256

LENGTH = 32 * 1024
IMAGE_KEY = sha256(public_der(example_signer("image").public_key)).digest()
TICKS = os.sysconf("SC_CLK_TCK")


def image(line: int, number: int) -> bytes:
    """An image of its own for each release, that no patch pays for; as imgtool makes it, which takes half a second for each."""
    header = struct.pack("<IIHHIIBBHII", MAGIC, 0, 32, 12, LENGTH, 0, 1, number >> 8, number & 0xFF, 0, 0)
    signed = header + random.Random(f"{line} {number}").randbytes(LENGTH)
    signed += struct.pack("<HHHHI", 0x6908, 12, TLV_SECURITY_COUNTER, 4, 1)
    digest = sha256(signed).digest()
    signature = bytes.fromhex(example_signer("image").sign(digest).signature)
    parts = ((TLV_SHA256, digest), (TLV_KEYHASH, IMAGE_KEY), (TLV_ED25519, signature))
    area = b"".join(struct.pack("<HH", kind, len(value)) + value for kind, value in parts)
    return signed + struct.pack("<HH", 0x6907, 4 + len(area)) + area


def version(number: int) -> str:
    """Of the release of that number."""
    return f"1.{number >> 8}.{number & 0xFF}"


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_of(pid: int) -> float:
    """MiB that a process held at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
