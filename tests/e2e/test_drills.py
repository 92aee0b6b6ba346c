"""docs/DRILLS.md, run as it is written; devices that were provisioned before a drill follow through it, those too that a thief reached."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from duo import MemoryAreas, Power
from forge import version_of
from guide import follow, sections
from hillhold_bootsim.keylist import KeyList
from hillhold_signer.encoding import file_bytes, utc
from hillhold_signer.keys import load_signer
from hillhold_verifier.errors import ExpiredError, Refused
from hillhold_verifier.mcuboot import ImageKey
from hillhold_verifier.sources import open_source
from linuxboard import LinuxBoard
from workshop import NOW

PAGE = Path(__file__).parents[2] / "docs" / "DRILLS.md"
HOUR = 3600
BEYOND = 2**53 - 1


def test_every_drill_runs_as_it_is_written_and_devices_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    now = NOW
    (_, before), *rest = sections(PAGE.read_text())
    assert not follow(before, lambda: now)
    fleet: dict[str, LinuxBoard] = {}
    thefts: dict[str, Callable[[], None]] = {
        "A stolen online key": lambda: deceived(fleet["timestamp from 2099"], lambda tree: beyond_timestamp(tree)),
        "A stolen product key": lambda: deceived(fleet["line beyond all numbers"], lambda tree: beyond_line(tree)),
        "A stolen root key": lambda: one_root_key_is_too_few(fleet["always current"], now),
        "The online machine is lost": lambda: a_thief_with_a_quorum(fleet["owned"], fleet["always current"], now),
    }
    ran = 0
    for title, text in rest:
        if title.startswith("The service"):
            continue  # which `service/test_ops_drill` runs: a service goes by its database's clock
        now += HOUR
        if title in thefts:
            thefts[title]()
        ran += len(follow(text, lambda at=now: at))  # type: ignore[misc]
        for name in ("always current", "timestamp from 2099", "line beyond all numbers", "owned", "on the shelf"):
            if name not in fleet:
                fleet[name] = board(tmp_path / name.replace(" ", "-"), Path("factory"))
        for name, device in fleet.items():
            if name not in ("owned", "on the shelf"):
                assert follows(device, now), f"{title}: {name}"
    assert ran > 70
    a_bootloader_with_both_keys_drops_the_stolen_one()
    assert follows(fleet["on the shelf"], now)
    assert not follows(fleet["owned"], now)
    with pytest.raises(Refused):
        fleet["owned"].update(source=open_source("repo/public"), clock=now)
    fleet["owned"].repo.tree["metadata/1.root.json"] = newest_root("repo/public")
    fleet["owned"].provision(again=True)
    assert follows(fleet["owned"], now)


def a_bootloader_with_both_keys_drops_the_stolen_one() -> None:
    stolen_key, next_key = (ImageKey.from_pem(Path(name).read_bytes()) for name in ("image.pub", "image-2.pub"))
    bootloader = KeyList(MemoryAreas(Power()), (stolen_key, next_key))
    bootloader.provision(Path("factory/root.json").read_bytes())
    first, newest = version_of(Path("factory/root.json").read_bytes()), version_of(newest_root("repo/public"))
    for version in range(first + 1, newest + 1):
        bootloader.accept_root(Path(f"repo/public/metadata/{version}.root.json").read_bytes())
    bootloader.settle([stolen_key])
    assert bootloader.keys() == (stolen_key, next_key)
    bootloader.settle([next_key])
    assert bootloader.keys() == (next_key,)


# --- devices ----------------------------------------------------------------------------------------------------------


def board(folder: Path, factory: Path) -> LinuxBoard:
    """A device as the production line made it, from the folder that `hillhold provisioning` wrote."""
    folder.mkdir()
    image = (factory / "app-app.bin").read_bytes()
    root = (factory / "root.json").read_bytes()
    repo = SimpleNamespace(blobs={"pump/1.0.0/app.bin": image}, tree={"metadata/1.root.json": root})
    return LinuxBoard(folder, repo)  # type: ignore[arg-type]


def follows(device: LinuxBoard, now: int) -> bool:
    """Whether a device takes what is published, and then trusts the root that is."""
    try:
        device.update(source=open_source("repo/public"), clock=now)
    except Refused:
        return False
    return trusted(device) == newest_root("repo/public")


def trusted(device: LinuxBoard) -> bytes:
    return bytes(device.device.look().state.trust.root.raw)


def newest_root(tree: str) -> bytes:
    return max(Path(tree, "metadata").glob("*.root.json"), key=lambda path: int(path.name.split(".")[0])).read_bytes()


# --- thieves ----------------------------------------------------------------------------------------------------------


def stolen(name: str) -> CryptoSigner:
    phrase = f"correct horse of {name}"
    signer = load_signer(f"file:{name}.pem", None, lambda _: phrase)
    assert isinstance(signer, CryptoSigner)
    return signer


def deceived(device: LinuxBoard, forge: Callable[[Path], None]) -> None:
    """A device looks at a thief's copy of the repository, and remembers what it authenticated there."""
    tree = Path("thief")
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree("repo/public", tree)
    forge(tree)
    with suppress(ExpiredError):  # in 2099 everything else has expired; that does not make the thief's date untrue
        device.update(source=open_source(str(tree)), clock=NOW + 3 * HOUR)
    trust = device.device.look().state.trust
    assert trust.timestamp is not None
    assert trust.timestamp.signed.version == BEYOND


def beyond_timestamp(tree: Path) -> None:
    """The highest version that there is, from 2099, which would keep a device from anything that is published before then."""
    timestamp: Metadata[Timestamp] = Metadata.from_file(str(tree / "metadata/timestamp.json"))
    timestamp.signed.version = BEYOND
    timestamp.signed.unrecognized_fields["x-hillhold-issued"] = "2099-01-01T00:00:00Z"
    sign(tree / "metadata/timestamp.json", timestamp, stolen("timestamp"))


def beyond_line(tree: Path) -> None:
    """Alan's and Joan's keys, and both online keys: a line role beyond all numbers, properly listed."""
    folder = tree / "metadata"
    timestamp: Metadata[Timestamp] = Metadata.from_file(str(folder / "timestamp.json"))
    listed = timestamp.signed.snapshot_meta.version
    snapshot: Metadata[Snapshot] = Metadata.from_file(str(folder / f"{listed}.snapshot.json"))
    line: Metadata[Targets] = Metadata.from_file(str(folder / f"{snapshot.signed.meta['pump.json'].version}.pump.json"))
    line.signed.version = BEYOND
    snapshot.signed.meta["pump.json"] = sign(folder / f"{BEYOND}.pump.json", line, stolen("alan"), stolen("joan"))
    snapshot.signed.version = BEYOND
    timestamp.signed.snapshot_meta = sign(folder / f"{BEYOND}.snapshot.json", snapshot, stolen("snapshot-2"))
    timestamp.signed.version = BEYOND
    sign(folder / "timestamp.json", timestamp, stolen("timestamp-2"))


def thiefs_root(tree: Path, now: int, *names: str) -> None:
    """The next root, with the thief's keys for every role, signed by stolen ones and the thief's own."""
    own = CryptoSigner.generate_ed25519()
    root: Metadata[Root] = Metadata.from_bytes(newest_root(str(tree)))
    root.signed.version += 1
    root.signed.expires = utc(now + 365 * 24 * HOUR)
    root.signed.keys[own.public_key.keyid] = own.public_key
    for role in root.signed.roles.values():
        role.keyids, role.threshold = [own.public_key.keyid], 1
    sign(tree / f"metadata/{root.signed.version}.root.json", root, own, *map(stolen, names))


def one_root_key_is_too_few(device: LinuxBoard, now: int) -> None:
    before = trusted(device)
    shutil.rmtree("thief", ignore_errors=True)
    shutil.copytree("repo/public", "thief")
    thiefs_root(Path("thief"), now, "ada")
    with pytest.raises(Refused):
        device.update(source=open_source("thief"), clock=now)
    assert trusted(device) == before


def a_thief_with_a_quorum(reached: LinuxBoard, other: LinuxBoard, now: int) -> None:
    """One device is reached by the thief, and is lost; another is not, and will have the root that takes the keys away."""
    shutil.rmtree("thief", ignore_errors=True)
    shutil.copytree("repo/public", "thief")
    assert follows(reached, now)
    thiefs_root(Path("thief"), now, "katherine", "margaret-2")
    with pytest.raises(Refused):  # no timestamp of the thief's own: but the root is theirs
        reached.update(source=open_source("thief"), clock=now)
    assert trusted(reached) == newest_root("thief")
    assert trusted(other) == newest_root("repo/public")


def sign(path: Path, metadata: Any, *signers: CryptoSigner) -> MetaFile:
    signatures = {signer.public_key.keyid: signer.sign(metadata.signed_bytes) for signer in signers}
    data = file_bytes(metadata.signed, signatures, metadata.signed.type)
    path.write_bytes(data)
    return MetaFile(metadata.signed.version, None, {"sha256": sha256(data).hexdigest()})
