"""Which patches a new release gets: from earlier releases that run in the same place, and from nothing, where they pay.

A patch is a target `<target>.<first 16 hex of the base's SHA-256>.patch`, whose custom data sign its base, so that wrong bytes
never come out of a right patch on a wrong base: `{"v":1,"algorithm":…,"base":…,"base_length":…,"makes":…}`. A patch from nothing, whose
base is the empty file, is the image compressed: every device can take it.

`making` makes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from tuf.api.metadata import TargetFile

from hillhold_signer.errors import ReleaseRefused, StorageError
from hillhold_verifier.errors import MetadataError
from hillhold_verifier.patch import ALGORITHM
from hillhold_verifier.release import Release, Version, patch_path

DEFAULT_BASES: Final = 8
"""Earlier releases that get a patch unless another number is asked for, the newest ones: older devices take the image, compressed."""
MAX_KEPT: Final = 32
"""Patches of one release, beside the one from nothing: those that save most.

An entry costs every device some 70 bytes of metadata, and more where a line lists hundreds of releases, between which entries shift what
could be taken from the version before: measured there, 32 patches cost 5 KB, 64 cost 19 KB, and 999 do not fit into the role.
"""
WORTH_PERCENT: Final = 80
"""A patch is kept where it is smaller than this share of what a device takes without it: the compressed image, or the image."""
WHOLE_PERCENT: Final = 95
WHOLE_SAVES: Final = 1024
"""A patch from nothing is kept where it is smaller than this share of the image, and by these bytes.

Less than a twentieth, or a tenth of a second of a serial line, does not pay for its metadata, for staging it, and for applying it.
"""
NOTHING: Final = b""
NOTHING_SHA256: Final = sha256(NOTHING).digest()


@dataclass(frozen=True, slots=True)
class PatchFrom:
    """From which earlier releases patches are made.

    Attributes:
        newest: so many of the newest ones; None: of all.
        versions: these as well.
        whole: also from nothing.
    """

    newest: int | None = DEFAULT_BASES
    versions: tuple[Version, ...] = ()
    whole: bool = True

    @classmethod
    def parse(cls, texts: Sequence[str]) -> PatchFrom:
        """Parse what a person gives: `none`, `all`, a number, versions; nothing is the default.

        Raises:
            ReleaseRefused: none of these, or things that exclude each other.
        """
        counts = [
            text for text in texts if text in ("all", "none") or (text.isascii() and text.isdigit() and len(text) < 6)
        ]
        try:
            versions = tuple(Version.parse(text) for text in texts if text not in counts)
        except MetadataError as error:
            raise ReleaseRefused("patches from", expected="all, none, a number, or versions", got=f"{error}") from error
        if len(counts) > 1 or ("none" in counts and versions):
            raise ReleaseRefused("patches from", expected="all, none or one number", got=" and ".join(texts)[:80])
        if not texts:
            return DEFAULT
        if counts == ["none"]:
            return NO_PATCHES
        newest = None if counts == ["all"] else int(counts[0]) if counts else 0
        return cls(newest, versions)

    def choose(self, bases: Sequence[Release]) -> list[Release]:
        """Return those to make patches from, newest first, each content once.

        Args:
            bases: earlier releases, lowest version first.
        """
        wanted = bases if self.newest is None else bases[max(0, len(bases) - self.newest) :]
        found = {base.sha256: base for base in bases if base in wanted or base.version in self.versions}
        return list(found.values())[::-1]


DEFAULT: Final = PatchFrom()
NO_PATCHES: Final = PatchFrom(0, (), whole=False)


@dataclass(frozen=True, slots=True)
class Kept:
    """A patch that pays.

    Attributes:
        base: target path of the release that it starts from; None for the patch from nothing.
        file: where its bytes are, for as long as the `Making` lasts.
    """

    target: TargetFile
    base: str | None
    file: Path

    def read(self) -> bytes:
        """Return its bytes; raises `StorageError`."""
        try:
            data = self.file.read_bytes()
        except OSError as error:
            raise StorageError(f"cannot read {self.file}: {error.strerror or error}") from error
        if sha256(data).hexdigest() != self.target.hashes["sha256"]:
            raise StorageError(
                f"{self.file} was changed while it was in use", hint="nothing was changed; run the command again"
            )
        return data


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A patch that there is not.

    Attributes:
        base: target path of the release that it would start from; None for the patch from nothing.
        makes: target path of the release that it would make.
        length: bytes that it would have, where it was made.
        failed: it could not be made, which somebody should look at.
    """

    base: str | None
    makes: str
    reason: str
    length: int | None = None
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """The patches of one release: those that save most first."""

    kept: tuple[Kept, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """What patches one release is to get.

    Attributes:
        bases: as `PatchFrom.choose` returns them.
        whole: also from nothing.
    """

    target: TargetFile
    image: bytes
    bases: tuple[Release, ...]
    whole: bool


def limits(image: int, whole: int | None) -> tuple[int, int]:
    """Return below which lengths a patch from nothing, and any other, is worth it.

    Args:
        image: bytes of the image.
        whole: bytes of the patch from nothing; None where there is none.
    """
    most = max(0, min(image * WHOLE_PERCENT // 100, image - WHOLE_SAVES))
    without = image if whole is None or whole >= most else whole
    return most, without * WORTH_PERCENT // 100


def patch_entry(target: TargetFile, patch: bytes, base: bytes, base_length: int) -> TargetFile:
    """Return what is signed of a patch.

    Args:
        target: the release that it makes.
        base: SHA-256 of the file that it starts from.
    """
    custom = {"v": 1, "algorithm": ALGORITHM, "base": base.hex(), "base_length": base_length, "makes": target.path}
    digest = sha256(patch).hexdigest()
    return TargetFile(len(patch), {"sha256": digest}, patch_path(target.path, base), {"custom": {"hillhold": custom}})
