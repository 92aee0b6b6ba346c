"""A published repository of any size, made directly: signed as `hillhold` signs, without a command for each of its releases.

The target files themselves are not there: nothing but `hillhold verify` and a device's download would open them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from typing import Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, Key, Signer
from tuf.api.metadata import DelegatedRole, Delegations, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from hillhold_signer import Repository, encoding, example_signer
from hillhold_verifier.times import show_time
from workshop import NOW, ceremony

TEAMS: Final = 50
"""Teams of two release engineers each, who share the lines: keys of their own for each of 1,000 lines would not fit in targets."""
EXPIRES: Final = datetime(2027, 1, 1, tzinfo=UTC)

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)


def line_name(number: int) -> str:
    return f"line-{number:04}"


def line_team(number: int) -> tuple[CryptoSigner, CryptoSigner]:
    """Who signs a line: both."""
    one, two = (f"team {number % TEAMS} of the benchmark, key {key}".encode() for key in (1, 2))
    return _signer(one), _signer(two)


def release_entry(path: str, version: str, hardware: str) -> TargetFile:
    custom = {
        "v": 1,
        "hardware": [hardware],
        "version": version,
        "security_counter": 1,
        "format": "mcuboot",
        "kind": "feature",
    }
    return TargetFile(100_000, {"sha256": sha256(path.encode()).hexdigest()}, path, {"custom": {"hillhold": custom}})


def large_repository(path: Path, lines: int, releases: int) -> Repository:
    """Make a repository with so many lines of so many releases each, published at `NOW`; all keys are public ones."""
    repository = Repository.create(path, ceremony(), NOW, demo=True)
    root = repository.state().root()
    for role in ("root", "targets"):
        rmtree(repository.folder.drafts / role)
    folder = repository.folder.public / "metadata"
    folder.mkdir(parents=True)
    write(folder / "1.root.json", root, example_signer("root-1"), example_signer("root-2"))
    roles: dict[str, DelegatedRole] = {}
    keys: dict[str, Key] = {}
    meta: dict[str, MetaFile] = {}
    for number in range(lines):
        name, team = line_name(number), line_team(number)
        caps = {"hardware": [f"board-{number:04}"], "max_offline_grace": 2_592_000, "max_security_counter": 1000}
        keys |= {signer.public_key.keyid: signer.public_key for signer in team}
        keyids = sorted(signer.public_key.keyid for signer in team)
        roles[name] = DelegatedRole(name, keyids, 2, True, [f"{name}/*/*"], None, {"x-hillhold": caps})
        entries = {}
        for release in range(releases):
            version = f"1.{release}.0"
            target = f"{name}/{version}/app.bin"
            entries[target] = release_entry(target, version, f"board-{number:04}")
        line = Targets(1, None, EXPIRES, entries)
        meta[f"{name}.json"] = listed(1, write(folder / f"1.{name}.json", line, *team))
    targets = Targets(1, None, EXPIRES, {}, Delegations(keys, roles))
    signers = (example_signer("targets-1"), example_signer("targets-2"))
    meta["targets.json"] = listed(1, write(folder / "1.targets.json", targets, *signers))
    data = write(folder / "1.snapshot.json", Snapshot(1, None, EXPIRES, meta), example_signer("snapshot"))
    issued = {"x-hillhold-issued": show_time(NOW)}
    timestamp = Timestamp(1, None, EXPIRES, listed(1, data), issued)
    write(folder / "timestamp.json", timestamp, example_signer("timestamp"))
    return repository


def write(path: Path, signed: S, *signers: Signer) -> bytes:
    payload = encoding.signed_bytes(signed)
    signatures = {signer.public_key.keyid: signer.sign(payload) for signer in signers}
    data = encoding.file_bytes(signed, signatures, path.name.removesuffix(".json").rpartition(".")[2])
    path.write_bytes(data)
    return data


def listed(version: int, data: bytes) -> MetaFile:
    return MetaFile(version, None, {"sha256": sha256(data).hexdigest()})


def _signer(name: bytes) -> CryptoSigner:
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(sha256(name).digest()))
