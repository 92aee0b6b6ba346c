"""Releases: what a line's role says of an image, and what is refused before anyone signs it.

A release is a target `PRODUCT/VERSION/FILE` with `custom.hillhold`:

    {"v":1,"hardware":[…],"version":"1.2.3","security_counter":7,"format":"mcuboot","kind":"security"|"feature"}

and `"component"` where it is not "app" (one byte form per value: a default is left out). Version and counter are read from the
image, never typed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from tuf.api.metadata import TargetFile, Targets

from hillhold_signer.errors import ReleaseRefused
from hillhold_signer.layout import is_segment
from hillhold_signer.products import Caps
from hillhold_verifier.errors import ImageError, MetadataError
from hillhold_verifier.mcuboot import parse_image
from hillhold_verifier.release import DEFAULT_COMPONENT, Patch, Release, Version, parse_target
from hillhold_verifier.roles import TargetFile as DeviceTarget

MAX_IMAGE: Final = 64 * 1024 * 1024
"""Bytes of an image: it is held in memory, and so are patches against its predecessors."""
KINDS: Final = ("security", "feature")

COUNTER_HINT: Final = (
    "sign it with a counter: `hillhold image sign --security-counter N`, or in Zephyr "
    'CONFIG_MCUBOOT_EXTRA_IMGTOOL_ARGS="--security-counter N"'
)


@dataclass(frozen=True, slots=True)
class Wish:
    """What whoever adds a release decides; all else is in the image.

    Attributes:
        file_name: the last segment of the target path.
        hardware: who may run it; empty means the line's only hardware id.
        allow_lower: make a release that devices refuse as a downgrade: only to show that they do.
    """

    file_name: str
    kind: str = "feature"
    hardware: tuple[str, ...] = ()
    component: str = DEFAULT_COMPONENT
    allow_lower: bool = False


def releases_of(line: Targets) -> tuple[Release, ...]:
    """Return the releases that a line lists, lowest version first; patches are not releases.

    Raises:
        ReleaseRefused: an entry that a device would not understand.
    """
    found = (understood(target) for target in line.targets.values())
    releases = [item for item in found if isinstance(item, Release)]
    return tuple(sorted(releases, key=lambda release: (release.version, release.path)))


def understood(target: TargetFile) -> Release | Patch:
    """Return a target entry as a device reads it; raises `ReleaseRefused` where it would not understand it."""
    custom = target.custom.get("hillhold") if isinstance(target.custom, dict) else None
    hashes = {"sha256": bytes.fromhex(target.hashes["sha256"])}
    try:
        found = parse_target(DeviceTarget(target.path, target.length, hashes, custom))
    except MetadataError as error:
        raise ReleaseRefused(f"{error}") from error
    if found is None:
        raise ReleaseRefused(f"target {target.path}", expected="custom.hillhold", got="none")
    return found


def plan(product: str, caps: Caps, line: Targets, image: bytes, wish: Wish) -> TargetFile:
    """Return the target entry of a new release, or refuse it.

    Args:
        caps: what the delegation allows the line.
        line: its newest version, draft included.
        image: the whole file.

    Raises:
        ReleaseRefused: see the module's text; the message says which rule.
        ImageError: not an MCUboot image.
    """
    if len(image) > MAX_IMAGE:
        raise ReleaseRefused("image", expected=f"at most {MAX_IMAGE} bytes", got=len(image))
    for what, text in (("file name", wish.file_name), ("component", wish.component)):
        if not is_segment(text):
            hint = "give one with --file-name" if what == "file name" else None
            raise ReleaseRefused(what, expected="lowercase letters, digits and ._+-", got=repr(text)[:80], hint=hint)
    if wish.kind not in KINDS:
        raise ReleaseRefused("kind", expected=" or ".join(KINDS), got=repr(wish.kind)[:40])
    hardware = _hardware(caps, wish.hardware)
    version, counter = _read(image, caps)
    path = f"{product}/{version}/{wish.file_name}"
    digest = sha256(image).hexdigest()
    if (old := line.targets.get(path)) is not None:
        got = "the same file, which is there already" if old.hashes.get("sha256") == digest else "another file"
        hint = "a path always names the same bytes: raise the version, or build it again as it was"
        raise ReleaseRefused(f"target {path}", expected="a new name", got=got, hint=hint)
    _check_order(releases_of(line), version, counter, hardware, wish)
    custom: dict[str, object] = {
        "v": 1,
        "hardware": list(hardware),
        "version": str(version),
        "security_counter": counter,
        "format": "mcuboot",
        "kind": wish.kind,
    }
    if wish.component != DEFAULT_COMPONENT:
        custom["component"] = wish.component
    target = TargetFile(len(image), {"sha256": digest}, path, {"custom": {"hillhold": custom}})
    understood(target)
    return target


def same_place(releases: Iterable[Release], hardware: Iterable[str], component: str) -> list[Release]:
    """Return those that could run where a release for `hardware` and `component` runs."""
    wanted = set(hardware)
    return [item for item in releases if item.component == component and item.hardware & wanted]


def _hardware(caps: Caps, wished: Sequence[str]) -> tuple[str, ...]:
    known = ", ".join(caps.hardware)
    if not wished:
        if len(caps.hardware) != 1:
            raise ReleaseRefused(
                "hardware", expected=f"some of: {known}", got="none", hint="name it with --hardware ID"
            )
        return caps.hardware
    foreign = sorted(set(wished) - set(caps.hardware))
    if foreign:
        hint = "targets decide what hardware a line may name: `hillhold product hardware`, signed by their quorum"
        raise ReleaseRefused("hardware", expected=f"some of: {known}", got=repr(foreign[0])[:80], hint=hint)
    return tuple(sorted(set(wished)))


def _read(image: bytes, caps: Caps) -> tuple[Version, int]:
    try:
        found = parse_image(image)
    except ImageError as error:
        hint = "an image that imgtool has signed is wanted: `hillhold image sign`"
        raise ReleaseRefused(f"image: {error}", hint=hint) from error
    if found.security_counter is None:
        raise ReleaseRefused("image", expected="a security counter", got="none", hint=COUNTER_HINT)
    if found.security_counter > caps.max_security_counter:
        raise ReleaseRefused(
            "security counter",
            expected=f"at most {caps.max_security_counter}, which the delegation allows",
            got=found.security_counter,
            hint="a device can never go back below a counter that it has booted",
        )
    return Version.parse(str(found.version)), found.security_counter


def _check_order(
    releases: Sequence[Release], version: Version, counter: int, hardware: Sequence[str], wish: Wish
) -> None:
    """Refuse what devices would refuse, or what would leave them without a way forward."""
    before = same_place(releases, hardware, wish.component)
    if not before:
        return
    highest = max(before, key=lambda release: release.version)
    if any(release.version == version for release in before):
        raise ReleaseRefused("version", expected=f"above {highest.version}", got=f"{version}, which is listed already")
    if version < highest.version and not wish.allow_lower:
        hint = "devices would refuse it as a downgrade; to show that they do, add it with --allow-lower"
        raise ReleaseRefused("version", expected=f"above {highest.version}", got=version, hint=hint)
    most = max(release.security_counter for release in before)
    if counter < most:
        hint = "devices that have run the other would refuse this one"
        raise ReleaseRefused("security counter", expected=f"at least {most}", got=counter, hint=hint)
