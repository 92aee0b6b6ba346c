"""What a repository on the bench offers: MCUboot images made by imgtool, patches, releases, and a `Source` over its tree.

Images are made once for each set of arguments, from keys that follow from their names: the same bytes in every run.
"""

from __future__ import annotations

import random
import tempfile
import zipfile
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from imgtool import image as imgtool_image
from imgtool import keys as imgtool_keys
from imgtool.version import decode_version

from forge import Repo
from hillhold_bootsim.lab.tree import TreeSource as TreeSource
from hillhold_signer.patches import make_patch
from hillhold_verifier.mcuboot import ImageKey

IMAGE_LENGTH: Final = 5000
"""Bytes of a firmware, before header and TLVs: two and a half sectors."""


# --- images -----------------------------------------------------------------------------------------------------------


@cache
def image_key(name: str = "held") -> imgtool_keys.Ed25519:
    """The image key of that name; the boards' bootloader holds "held"."""
    return imgtool_keys.Ed25519(Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest()))


@cache
def held_keys() -> tuple[ImageKey, ...]:
    return (ImageKey.from_pem(image_key().get_public_pem()),)


@cache
def image(
    version: str,
    counter: int | None = 1,
    *,
    seed: int = 1,
    length: int = IMAGE_LENGTH,
    key: str = "held",
    dense: bool = True,
) -> bytes:
    """A signed MCUboot image; images of the same seed and length differ in a few bytes, so that a patch is small.

    `dense`: it cannot be compressed; otherwise to about a fifth.
    """
    random_bytes = random.Random(seed).randbytes(length if dense else length // 6)
    payload = bytearray(random_bytes + b"code" * ((length - len(random_bytes)) // 4))
    mark = sha256(version.encode()).digest()[:8]
    payload[length // 2 : length // 2 + len(mark)] = mark
    made = imgtool_image.Image(
        version=decode_version(version),
        header_size=32,
        pad_header=True,
        slot_size=max(16384, 2 * length),
        security_counter=counter,
    )
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.bin", Path(folder) / "out.bin"
        source.write_bytes(payload)
        made.load(str(source))
        made.create(image_key(key), "hash", None)
        made.save(str(target))
        return target.read_bytes()


@cache
def patch(base: bytes, result: bytes) -> bytes:
    return make_patch(base, result)


# --- repositories -----------------------------------------------------------------------------------------------------


def offer(repo: Repo, version: str, counter: int = 1, *, data: bytes | None = None, **custom: object) -> bytes:
    """List an MCUboot image as a release (not yet published); `custom` changes what is said of it. Returns the image."""
    data = image(version, counter) if data is None else data
    path = repo.add_release(version, data, counter=counter)
    repo.change(path, **{"format": "mcuboot", **custom})
    return data


def offer_compressed(repo: Repo, version: str, result: bytes) -> bytes:
    """List the release `version` compressed, as a patch from nothing."""
    made = patch(b"", result)
    repo.add_patch(f"{repo.product}/{version}/app.bin", b"", made, algorithm="hhp1")
    return made


def offer_patch(repo: Repo, version: str, base: bytes, result: bytes) -> bytes:
    """List the patch from `base` to the release `version`. Returns the patch."""
    made = patch(base, result)
    repo.add_patch(f"{repo.product}/{version}/app.bin", base, made, algorithm="hhp1")
    return made


def started(version: str = "1.0.0", counter: int = 1) -> Repo:
    """A repository that has published one release."""
    repo = Repo()
    offer(repo, version, counter)
    repo.publish()
    return repo


def bundle(tree: Mapping[str, bytes]) -> bytes:
    """A bundle of a tree, made by Python's zip library."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in sorted(tree.items()):
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.create_version, entry.extract_version = 3, 10, 10
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data)
    return out.getvalue()
