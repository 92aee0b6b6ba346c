"""Releases and patches: what `custom.hillhold` of a target says (DESIGN §3).

One byte form per value: a field with its default value is absent, lists are sorted and without repeats. A field that is not known here
is ignored, unless `crit` names it: then this device must not use the release.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from hillhold_verifier.errors import MetadataError
from hillhold_verifier.fields import MAX_NAME, Fields
from hillhold_verifier.roles import TargetFile

MAX_ITEMS: Final = 256
"""Hardware ids, versions or requirements that one release may name."""
MAX_COUNTER: Final = 2**32 - 1
"""MCUboot's security counter is an unsigned 32-bit integer."""
DEFAULT_COMPONENT: Final = "app"
FORMATS: Final = ("mcuboot", "raw")
KINDS: Final = ("feature", "security")
UNDERSTOOD: Final = frozenset(
    {
        "hardware",
        "component",
        "version",
        "security_counter",
        "format",
        "withdrawn",
        "downgrade_from",
        "requires",
        "set",
    }
)
"""Restrictions that this device obeys, and `crit` may therefore name."""

_SEGMENT: Final = re.compile(r"[a-z0-9][a-z0-9._+-]*")
_NUMBER = r"(0|[1-9][0-9]*)"
_VERSION: Final = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:\+{_NUMBER})?")
_RANGES: Final = (255, 255, 65535, 2**32 - 1)


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """`MAJOR.MINOR.PATCH[+BUILD]` in MCUboot's ranges, ordered by all four; build 0 is not written."""

    major: int
    minor: int
    patch: int
    build: int = 0

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}" + (f"+{self.build}" if self.build else "")

    @classmethod
    def parse(cls, text: str) -> Version:
        """Parse `text`; raises `MetadataError`."""
        if (match := _VERSION.fullmatch(text)) and len(text) <= 32:
            numbers = [int(part or 0) for part in match.groups()]
            version = cls(*numbers)
            if all(n <= most for n, most in zip(numbers, _RANGES, strict=True)) and str(version) == text:
                return version
        raise MetadataError("version", expected="MAJOR.MINOR.PATCH[+BUILD] in MCUboot's ranges", got=repr(text)[:60])


@dataclass(frozen=True, slots=True)
class Release:
    """One firmware image for one component of one product line at one version.

    `withdrawn` is the reason, or None. `downgrade_from` are the exact versions that may step down to this release.
    """

    path: str
    length: int
    sha256: bytes
    product: str
    hardware: frozenset[str]
    component: str
    version: Version
    security_counter: int
    format: str
    kind: str
    crit: frozenset[str]
    withdrawn: str | None
    downgrade_from: frozenset[Version]
    requires: Mapping[str, Version]
    set: str | None


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch that makes the target `makes` from the file with hash `base`; from `NOTHING`, it is that target compressed."""

    path: str
    length: int
    sha256: bytes
    algorithm: str
    base: bytes
    base_length: int
    makes: str

    def fits(self, held: tuple[bytes, int] | None) -> bool:
        """Say whether it starts from the file of that SHA-256 and length, or from nothing."""
        return (self.base, self.base_length) in (held, (NOTHING, 0))


def parse_target(target: TargetFile) -> Release | Patch | None:
    """Return what the target is, or None where it has nothing to do with Hillhold.

    Raises:
        MetadataError: `custom.hillhold` is malformed, or disagrees with the target's path.
    """
    if target.custom is None:
        return None
    fields = Fields(target.custom, f"{target.path} custom.hillhold")
    if fields.natural("v") != 1:
        raise MetadataError(f"{fields.what} v", expected=1, got=fields.natural("v"))
    return _patch(target, fields) if "makes" in fields.value else _release(target, fields)


def split_path(path: str) -> tuple[str, str, str]:
    """Return product, version and file name of a target path; raises `MetadataError`."""
    parts = path.split("/")
    if len(parts) != 3 or not all(map(_SEGMENT.fullmatch, parts)):
        raise MetadataError(
            "target path", expected="PRODUCT/VERSION/FILE, each [a-z0-9][a-z0-9._+-]*", got=repr(path)[:80]
        )
    return parts[0], parts[1], parts[2]


NOTHING: Final = sha256(b"").digest()
"""SHA-256 of no bytes: the base of an image that is only compressed."""


def patch_path(target: str, base: bytes) -> str:
    """Return the path of the patch that makes `target` from the file with SHA-256 `base`."""
    return f"{target}.{base.hex()[:16]}.patch"


def _release(target: TargetFile, f: Fields) -> Release:
    product, directory, _ = split_path(target.path)
    version = Version.parse(f.text("version"))
    if str(version) != directory:
        raise MetadataError(f"{target.path} version", expected=f"{directory}, as in the path", got=version)
    counter = f.natural("security_counter")
    if counter > MAX_COUNTER:
        raise MetadataError(f"{target.path} security_counter", expected=f"at most {MAX_COUNTER}", got=counter)
    hardware = _texts(f, "hardware")
    if not hardware:
        raise MetadataError(f"{target.path} hardware", expected="at least one id", got="none")
    requires = f.sub("requires", MAX_ITEMS) if "requires" in f.value else Fields({}, "requires")
    return Release(
        target.path,
        target.length,
        _sha256(target),
        product,
        frozenset(hardware),
        f.text("component") if "component" in f.value else DEFAULT_COMPONENT,
        version,
        counter,
        _one_of(f, "format", FORMATS),
        _one_of(f, "kind", KINDS),
        frozenset(_texts(f, "crit")) if "crit" in f.value else frozenset(),
        f.text("withdrawn", 1024) if "withdrawn" in f.value else None,
        frozenset(map(Version.parse, _texts(f, "downgrade_from"))) if "downgrade_from" in f.value else frozenset(),
        {name: Version.parse(requires.text(name)) for name in requires.value},
        f.text("set") if "set" in f.value else None,
    )


def _patch(target: TargetFile, f: Fields) -> Patch:
    base = f.text("base")
    if not re.fullmatch(r"[0-9a-f]{64}", base):
        raise MetadataError(f"{target.path} base", expected="a SHA-256 in lowercase hexadecimal", got=repr(base))
    makes = f.text("makes")
    if target.path != patch_path(makes, bytes.fromhex(base)):
        raise MetadataError("patch path", expected=patch_path(makes, bytes.fromhex(base)), got=target.path)
    algorithm, length = f.text("algorithm", 32), f.natural("base_length")
    if (length == 0) != (bytes.fromhex(base) == NOTHING):
        raise MetadataError(f"{target.path} base_length", expected="0 for no bytes, and for nothing else", got=length)
    return Patch(target.path, target.length, _sha256(target), algorithm, bytes.fromhex(base), length, makes)


def _sha256(target: TargetFile) -> bytes:
    if (digest := target.hashes.get("sha256")) is None:
        raise MetadataError(f"{target.path} hashes", expected="sha256", got="others")
    return digest


def _texts(f: Fields, name: str) -> list[str]:
    items = [Fields.as_text(item, f"{f.what} {name}", MAX_NAME) for item in f.array(name, MAX_ITEMS)]
    if items != sorted(set(items)):
        raise MetadataError(f"{f.what} {name}", expected="sorted text without repeats", got="another order")
    return items


def _one_of(f: Fields, name: str, allowed: tuple[str, ...]) -> str:
    if (found := f.text(name)) not in allowed:
        raise MetadataError(f"{f.what} {name}", expected=" or ".join(allowed), got=repr(found)[:40])
    return found
