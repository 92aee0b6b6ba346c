"""Images with earlier ones, and other code for the processes that make patches: for tests of making them."""

from __future__ import annotations

import random
import sys
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest
from tuf.api.metadata import TargetFile

from hillhold_signer import patchpool
from hillhold_signer.patching import PatchFrom, Task
from hillhold_signer.releases import understood
from hillhold_verifier.release import Release
from workshop import firmware

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
MAIN = "from hillhold_signer.patchworker import main"


def listed(version: str, data: bytes) -> Release:
    path = f"pump/{version}/app.bin"
    custom = {
        "v": 1,
        "hardware": ["a"],
        "version": version,
        "security_counter": 1,
        "format": "mcuboot",
        "kind": "feature",
    }
    entry = TargetFile(len(data), {"sha256": sha256(data).hexdigest()}, path, {"custom": {"hillhold": custom}})
    found = understood(entry)
    assert isinstance(found, Release)
    return found


def edited(data: bytes, seed: int) -> bytes:
    source, new = random.Random(seed), bytearray(data)
    for _ in range(4):
        new[source.randrange(len(new))] ^= 0x55
    return bytes(new)


class World:
    """An image, earlier ones, and who asked for the bytes of which."""

    def __init__(self, count: int, length: int = 3000) -> None:
        self.image = firmware(1, length)
        self.bytes = {f"1.{number}.0": edited(self.image, number) for number in range(count)}
        self.releases = [listed(version, data) for version, data in self.bytes.items()]
        self.asked: list[str] = []

    def read(self, release: Release) -> bytes:
        self.asked.append(str(release.version))
        return self.bytes[str(release.version)]

    def task(self, patch_from: PatchFrom) -> Task:
        digest = sha256(self.image).hexdigest()
        target = TargetFile(len(self.image), {"sha256": digest}, "pump/2.0.0/app.bin")
        return Task(target, self.image, tuple(patch_from.choose(self.releases)), patch_from.whole)


def instead(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let the processes run other code than the patch maker's."""
    assert MAIN in patchpool._START
    monkeypatch.setattr(patchpool, "_START", patchpool._START.replace(MAIN, f"{MAIN}\n{code}"))


def children() -> set[int]:
    """Processes that this one has started and not yet seen the end of."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that has just ended
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found
