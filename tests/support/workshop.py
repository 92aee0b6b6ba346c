"""A demo repository made with the example keys, and images for it, for tests of all areas."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from hillhold_signer import (
    Caps,
    Ceremony,
    ImagePlan,
    NamedKey,
    OnlineKey,
    OnlineSigners,
    Product,
    Repository,
    Team,
    Wish,
    add_product,
    add_release,
    example_signer,
    sign_image,
)
from hillhold_signer.drafted import lineage
from hillhold_signer.patching import NO_PATCHES, PatchFrom
from hillhold_verifier import canonical

NOW = 1_767_225_600
"""2026-01-01T00:00:00Z"""
HARDWARE = ("nrf51-a", "nrf52-b")


def firmware(seed: int, length: int = 4000) -> bytes:
    """Bytes that do not compress; two seeds have nothing in common."""
    return random.Random(seed).randbytes(length)


@cache
def image(version: str, counter: int | None = 1, seed: int = 1, edits: int = 0, key: str = "image") -> bytes:
    """A signed image; `edits` bytes of it differ from the one with the same seed and none."""
    data = bytearray(firmware(seed))
    for at in range(edits):
        data[at * 10] ^= 0xFF
    return sign_image(bytes(data), ImagePlan(version, counter, 512, 0x20000, True), example_signer(key), demo=True)


def statement(*images: bytes) -> bytes:
    """An in-toto statement about images."""
    subjects = [{"name": "app.bin", "digest": {"sha256": sha256(data).hexdigest()}} for data in images]
    found = {"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/provenance/v1"}
    return json.dumps({**found, "subject": subjects, "predicate": {}}).encode()


def team(*names: str, threshold: int) -> Team:
    return Team(tuple(NamedKey(name, example_signer(name).public_key) for name in names), threshold)


def ceremony() -> Ceremony:
    """Two of three for root and targets; online keys as files that do not exist."""
    return Ceremony(
        team("root-1", "root-2", "root-3", threshold=2),
        team("targets-1", "targets-2", "targets-3", threshold=2),
        OnlineKey(example_signer("snapshot").public_key, "file:snapshot.pem"),
        OnlineKey(example_signer("timestamp").public_key, "file:timestamp.pem"),
    )


def pump(cap: int = 100, hardware: tuple[str, ...] = HARDWARE) -> Product:
    """The product line of the tests: both release engineers must sign."""
    return Product("pump", team("release-1", "release-2", threshold=2), Caps(hardware, cap))


def online() -> OnlineSigners:
    return OnlineSigners(example_signer("snapshot"), example_signer("timestamp"))


def sign_all(repository: Repository, *names: str) -> None:
    for name in names:
        repository.sign(example_signer(name))


def started(path: Path, now: int = NOW) -> Repository:
    """A repository with a published, empty line `pump`."""
    repository = Repository.create(path, ceremony(), now, demo=True)
    add_product(repository, pump(), now)
    sign_all(repository, "root-1", "root-2", "targets-1", "targets-2", "release-1", "release-2")
    repository.publish(online(), now)
    return repository


def release(
    repository: Repository, data: bytes, now: int = NOW, wish: Wish | None = None, patch_from: PatchFrom = NO_PATCHES
) -> None:
    """Add, sign and publish one release."""
    add_release(repository, "pump", data, wish or Wish("app.bin", hardware=HARDWARE[:1]), now, patch_from=patch_from)
    sign_all(repository, "release-1", "release-2")
    repository.publish(online(), now)


def tree(path: Path) -> dict[str, bytes]:
    """All files below a folder, by relative path."""
    return {str(item.relative_to(path)): item.read_bytes() for item in sorted(path.rglob("*")) if item.is_file()}


def rewrite(repository: Repository, role: str, change: Callable[[dict[str, Any]], None]) -> Path:
    """Put another draft in the place of the one that counts, as someone with a text editor might."""
    (head,) = lineage(repository.layout, role, repository.state().published(role)).heads
    path = repository.folder.drafts / role / f"{head.name}.json"
    value = json.loads(path.read_bytes())
    change(value["signed"])
    path.unlink()
    data = canonical.dumps(value)
    found = path.with_name(f"{sha256(data).hexdigest()}.json")
    found.write_bytes(data)
    return found
