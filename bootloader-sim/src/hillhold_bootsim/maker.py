"""A maker of one product for demonstrations, with example keys: builds, releases, and what a thief could publish.

Everything honest goes through the signer's own library. What is forged is made with python-tuf, as an attacker would.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from tuf.api.metadata import Metadata, MetaFile, Snapshot, Targets, Timestamp

from hillhold_signer.adding import Added, add_release
from hillhold_signer.ceremony import Ceremony, NamedKey, OnlineKey, Team
from hillhold_signer.examples import example_signer
from hillhold_signer.image_revocation import revoke_image_key
from hillhold_signer.images import ImagePlan, sign_image
from hillhold_signer.keys import public_pem
from hillhold_signer.lines import add_product
from hillhold_signer.products import Caps, Product
from hillhold_signer.publish import OnlineSigners
from hillhold_signer.releases import Wish
from hillhold_signer.repository import Repository
from hillhold_verifier import canonical
from hillhold_verifier.mcuboot import ImageKey

PRODUCT: Final = "microbit"
HARDWARE: Final = "nrf51822-a"
OTHER_HARDWARE: Final = "nrf52833-b"
FILE: Final = "micropython.bin"
ROOT_KEYS: Final = ("root-1", "root-2", "root-3")
TARGETS_KEYS: Final = ("targets-1", "targets-2", "targets-3")
RELEASE_KEYS: Final = ("release-1", "release-2")
HEADER: Final = 512
DAY: Final = 86400


@dataclass(frozen=True, slots=True)
class Wanted:
    """A release to be made: the firmware's bytes, and how they are announced."""

    payload: bytes
    version: str
    counter: int
    hardware: str = HARDWARE
    kind: str = "feature"


class Maker:
    """A repository with its people: 2 of 3 for root and targets, 2 of 2 for the product line."""

    def __init__(self, path: Path, slot_size: int, now: int) -> None:
        self.path, self._slot_size, self._now = path, slot_size, now
        self._image = example_signer("image")
        self._online = OnlineSigners(example_signer("snapshot"), example_signer("timestamp"))
        ceremony = Ceremony(
            _team(ROOT_KEYS, 2),
            _team(TARGETS_KEYS, 2),
            OnlineKey(self._online.snapshot.public_key, "file:snapshot"),
            OnlineKey(self._online.timestamp.public_key, "file:timestamp"),
        )
        self.repository = Repository.create(path, ceremony, now, demo=True)
        caps = Caps((HARDWARE, OTHER_HARDWARE), 100, 30 * DAY)
        add_product(self.repository, Product(PRODUCT, _team(RELEASE_KEYS, 2), caps), now)
        for name in (*ROOT_KEYS[:2], *TARGETS_KEYS[:2], *RELEASE_KEYS):
            self.repository.sign(example_signer(name))
        self.repository.publish(self._online, now)

    @property
    def root(self) -> bytes:
        """The root that a production line writes into each device."""
        return (self.path / "public" / "metadata" / "1.root.json").read_bytes()

    @property
    def image_key(self) -> ImageKey:
        """The key that the bootloader holds."""
        return ImageKey.from_pem(public_pem(self._image.public_key))

    def change_image_key(self) -> None:
        """Sign images with another key from now on; root revokes the one before."""
        before, self._image = self.image_key, example_signer("image-2")
        revoke_image_key(self.repository, before.key_hash.hex(), "changed", self._now, unknown=True)
        for name in ROOT_KEYS[:2]:
            self.repository.sign(example_signer(name), "root")
        self.repository.publish(self._online, self._now)

    def image(self, wanted: Wanted) -> bytes:
        """Return a signed MCUboot image."""
        plan = ImagePlan(wanted.version, wanted.counter, HEADER, self._slot_size, pad_header=True)
        return sign_image(wanted.payload, plan, self._image, demo=True)

    def release(self, wanted: Wanted, image: bytes, *, lower: bool = False) -> Added:
        """Add a release, sign it as both engineers, publish."""
        wish = Wish(FILE, wanted.kind, (wanted.hardware,), allow_lower=lower)
        added = add_release(self.repository, PRODUCT, image, wish, self._now)
        for name in RELEASE_KEYS:
            self.repository.sign(example_signer(name), PRODUCT)
        self.repository.publish(self._online, self._now)
        return added

    def copy(self, name: str) -> Maker:
        """Return a maker with a copy of the repository as it is now."""
        path = self.path.with_name(name)
        shutil.copytree(self.path, path)
        twin = object.__new__(Maker)
        twin.path, twin._slot_size, twin._now, twin._online = path, self._slot_size, self._now, self._online
        twin._image = self._image
        twin.repository = Repository(path)
        return twin


def flip_byte(public: Path, path: str, digest: bytes, at: int) -> None:
    """Change one byte of a published target, under its old name."""
    folder, _, name = path.rpartition("/")
    file = public / "targets" / folder / f"{digest.hex()}.{name}"
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


def forge_release(public: Path, image: bytes, version: str, signers: tuple[str, ...], now: int) -> None:
    """Publish a release that only `signers` signed, by a thief who holds the online keys as well.

    The version is higher than any, and snapshot and timestamp list it properly: only the line's quorum is missing.
    """
    folder = public / "metadata"
    timestamp: Metadata[Timestamp] = Metadata.from_bytes((folder / "timestamp.json").read_bytes())
    snapshot: Metadata[Snapshot] = Metadata.from_bytes(
        (folder / f"{timestamp.signed.snapshot_meta.version}.snapshot.json").read_bytes()
    )
    listed = snapshot.signed.meta[f"{PRODUCT}.json"].version
    line: Metadata[Targets] = Metadata.from_bytes((folder / f"{listed}.{PRODUCT}.json").read_bytes())
    newest = max(line.signed.targets.values(), key=lambda target: target.path)
    path = f"{PRODUCT}/{version}/{FILE}"
    entry = type(newest).from_data(path, image, ["sha256"])
    custom = {**line.signed.targets[next(iter(line.signed.targets))].custom["hillhold"], "version": version}
    entry.unrecognized_fields["custom"] = {"hillhold": custom}
    line.signed.targets[path] = entry
    file = public / "targets" / PRODUCT / version / f"{sha256(image).hexdigest()}.{FILE}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(image)
    meta = _sign(folder, line, PRODUCT, signers)
    snapshot.signed.meta[f"{PRODUCT}.json"] = meta
    timestamp.signed.snapshot_meta = _sign(folder, snapshot, "snapshot", ("snapshot",))
    timestamp.signed.expires = datetime.fromtimestamp(now + DAY, UTC)
    _sign(folder, timestamp, "timestamp", ("timestamp",))


def _sign(
    folder: Path,
    metadata: Metadata[Targets] | Metadata[Snapshot] | Metadata[Timestamp],
    role: str,
    names: tuple[str, ...],
) -> MetaFile:
    metadata.signed.version += 1
    metadata.signatures.clear()
    for name in names:
        metadata.sign(example_signer(name), append=True)
    data = canonical.dumps(metadata.to_dict())
    version = metadata.signed.version
    (folder / ("timestamp.json" if role == "timestamp" else f"{version}.{role}.json")).write_bytes(data)
    return MetaFile(version, hashes={"sha256": sha256(data).hexdigest()})


def _team(names: tuple[str, ...], threshold: int) -> Team:
    return Team(tuple(NamedKey(name, example_signer(name).public_key) for name in names), threshold)
