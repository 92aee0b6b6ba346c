"""A bootloader's list of image keys on a small flash, and the repository whose roots it takes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from forge import Repo, key
from hillhold_bootsim.flash import Flash
from hillhold_bootsim.geometry import Geometry
from hillhold_bootsim.keylist import KeyList
from hillhold_bootsim.layout import Layout, SimRecordAreas
from hillhold_verifier.mcuboot import ImageKey

FIELD = "x-hillhold-revoked-image-keys"
LAYOUT = Layout.in_a_row("tiny", Geometry.uniform(size=64 * 1024, sector=1024, unit=8), 8192, 8192, keys_size=8192)


@cache
def image_key(name: str) -> ImageKey:
    public = key(name).private.public_key()
    return ImageKey.from_pem(
        public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


OLD, NEW, SPARE = image_key("image-old"), image_key("image-new"), image_key("image-spare")
UNKNOWN = image_key("image-of-another-board")
HELD = (OLD, NEW)


def revoking(*named: ImageKey) -> Callable[[dict[str, Any]], None]:
    """An edit of a root: it revokes these keys."""
    return lambda signed: signed.__setitem__(FIELD, sorted(item.key_hash.hex() for item in named))


class KeyRig:
    """A board's flash with a provisioned list in it, and the repository whose roots it takes."""

    def __init__(self, *held: ImageKey, first: tuple[ImageKey, ...] = ()) -> None:
        self.repo, self.flash, self.held = Repo(), Flash(LAYOUT.geometry), held or HELD
        self.repo.publish(root=self.repo.root(edit=revoking(*first)) if first else self.repo.root())
        self.list.provision(self.repo.files["root"])

    @property
    def areas(self) -> SimRecordAreas:
        assert LAYOUT.keys is not None
        return SimRecordAreas(self.flash, LAYOUT.keys)

    @property
    def list(self) -> KeyList:
        """As after a reset, with nothing in memory."""
        return KeyList(self.areas, self.held)

    def next_root(self, *named: ImageKey) -> bytes:
        self.repo.publish(root=self.repo.root(edit=revoking(*named)))
        return self.repo.files["root"]

    def revoke(self, *named: ImageKey) -> None:
        self.list.accept_root(self.next_root(*named))


def untouched(rig: KeyRig, act: Callable[[], object], error: type[Exception], match: str | None = None) -> None:
    """`act` is refused, and not a byte of the flash differs."""
    before = rig.flash.read(0, rig.flash.geometry.end)
    with pytest.raises(error, match=match):
        act()
    assert rig.flash.read(0, rig.flash.geometry.end) == before
