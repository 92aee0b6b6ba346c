"""Releases: what a line's role says of an image, and what is refused before anyone signs it.

A release is a target `PRODUCT/VERSION/FILE` with `custom.hillhold`:

    {"v":1,"hardware":[…],"version":"1.2.3","security_counter":7,"format":"mcuboot","kind":"security"|"feature"}

and, where there is something to say, `component` (not "app"), `requires`, `set`, `downgrade_from`, `withdrawn`, `sbom`, `notes`,
`provenance` and `source` (one byte form per value: a default is left out). Version and counter are read from the image, never typed.
A target without `custom.hillhold` is a file for auditors, which devices ignore.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from tuf.api.metadata import TargetFile, Targets

from hillhold_signer.documents import Document, document_entry, notes_entry, sbom_entries
from hillhold_signer.encoding import check_line
from hillhold_signer.errors import ReleaseRefused
from hillhold_signer.layout import is_segment
from hillhold_signer.products import Caps
from hillhold_signer.provenance import check_provenance
from hillhold_verifier.errors import ImageError, MetadataError
from hillhold_verifier.mcuboot import parse_image
from hillhold_verifier.release import DEFAULT_COMPONENT, MAX_ITEMS, Patch, Release, Version, parse_target
from hillhold_verifier.roles import TargetFile as DeviceTarget

MAX_IMAGE: Final = 64 * 1024 * 1024
"""Bytes of an image: it is held in memory, and so are patches against its predecessors."""
MAX_REASON: Final = 256
"""Characters of the reason of a withdrawal: devices hold and show it."""
MAX_SOURCE: Final = 512
"""Characters of a source revision."""
KINDS: Final = ("security", "feature")

COUNTER_HINT: Final = (
    "sign it with a counter: `hillhold image sign --security-counter N`; in Zephyr "
    'CONFIG_MCUBOOT_EXTRA_IMGTOOL_ARGS="--security-counter N"; in the nRF Connect SDK '
    "CONFIG_MCUBOOT_HARDWARE_DOWNGRADE_PREVENTION and CONFIG_MCUBOOT_HW_DOWNGRADE_PREVENTION_COUNTER_VALUE=N"
)


@dataclass(frozen=True, slots=True)
class Wish:
    """What whoever adds a release decides; all else is in the image.

    Attributes:
        file_name: the last segment of the target path.
        hardware: who may run it; empty means the line's only hardware id.
        allow_lower: make a release that devices refuse as a downgrade: only to show that they do.
        requires: minimum versions of other components, by name.
        set: the group with which it is installed together, or not at all.
        downgrade_from: listed versions that may step down to it.
        sbom, notes: files whose digests are signed.
        source: the revision that it was built from.
        provenance: an in-toto statement about the image, bare or in a DSSE envelope, whose digest is signed.
    """

    file_name: str
    kind: str = "feature"
    hardware: tuple[str, ...] = ()
    component: str = DEFAULT_COMPONENT
    allow_lower: bool = False
    requires: Mapping[str, Version] = field(default_factory=dict)
    set: str | None = None
    downgrade_from: tuple[Version, ...] = ()
    sbom: tuple[Document, ...] = ()
    notes: Document | None = None
    source: str | None = None
    provenance: Document | None = None


def releases_of(line: Targets) -> tuple[Release, ...]:
    """Return the releases that a line lists, lowest version first; patches and files for auditors are none.

    Raises:
        ReleaseRefused: an entry that a device would not understand.
    """
    found = (understood(target) for target in line.targets.values())
    releases = [item for item in found if isinstance(item, Release)]
    return tuple(sorted(releases, key=lambda release: (release.version, release.path)))


def understood(target: TargetFile) -> Release | Patch | None:
    """Return a target entry as a device reads it, None where it ignores it.

    Raises:
        ReleaseRefused: a device would not understand it.
    """
    try:
        return parse_target(as_device(target))
    except MetadataError as error:
        raise ReleaseRefused(f"{error}") from error


def as_device(target: TargetFile) -> DeviceTarget:
    """Return a target entry in the verifier's form."""
    custom = target.custom.get("hillhold") if isinstance(target.custom, dict) else None
    return DeviceTarget(target.path, target.length, {"sha256": bytes.fromhex(target.hashes["sha256"])}, custom)


def check_kept(old: Targets, new: Targets) -> None:
    """Refuse a successor in which a path names other bytes, or what was withdrawn is not or is forgotten (DESIGN §4: never undone).

    Raises:
        ReleaseRefused: such a successor, or an entry that a device would not understand.
    """
    for path in old.targets.keys() - new.targets.keys():
        gone = understood(old.targets[path])
        if isinstance(gone, Release) and gone.withdrawn is not None:
            got = "no entry, so that it could come back"
            raise ReleaseRefused(f"target {path}", expected="withdrawn, as before", got=got)
    for path in old.targets.keys() & new.targets.keys():
        first, second = old.targets[path], new.targets[path]
        if first == second:
            continue  # most of a long list
        if (first.hashes, first.length) != (second.hashes, second.length):
            raise ReleaseRefused(f"target {path}", expected="the same bytes as in the version before", got="others")
        before, after = understood(first), understood(second)
        if not isinstance(before, Release) or before.withdrawn is None:
            continue
        if not isinstance(after, Release) or after.withdrawn is None or not before.hardware <= after.hardware:
            raise ReleaseRefused(f"target {path}", expected="withdrawn, as before", got="a withdrawal undone")


def plan(product: str, caps: Caps, line: Targets, image: bytes, wish: Wish) -> TargetFile:
    """Return the target entry of a new release of a line, or refuse it; arguments and errors as those of `described` and `check_new`."""
    target = described(product, caps, image, wish)
    check_new(line, target, wish)
    return target


def described(product: str, caps: Caps, image: bytes, wish: Wish) -> TargetFile:
    """Return the target entry of a release, whatever else its line lists.

    Args:
        caps: what the delegation allows the line.
        image: the whole file.

    Raises:
        ReleaseRefused: see the module's text; the message says which rule.
        ContentRefused: text that may not be signed.
    """
    if len(image) > MAX_IMAGE:
        raise ReleaseRefused("image", expected=f"at most {MAX_IMAGE} bytes", got=len(image))
    check_segment("file name", wish.file_name, hint="give one with --file-name")
    check_segment("component", wish.component)
    if wish.kind not in KINDS:
        raise ReleaseRefused("kind", expected=" or ".join(KINDS), got=repr(wish.kind)[:40])
    hardware = _hardware(caps, wish.hardware)
    version, counter = _read(image, caps)
    path = f"{product}/{version}/{wish.file_name}"
    digest = sha256(image).hexdigest()
    custom: dict[str, object] = {
        "v": 1,
        "hardware": list(hardware),
        "version": str(version),
        "security_counter": counter,
        "format": "mcuboot",
        "kind": wish.kind,
        **_restrictions(wish),
        **_came_with(wish, digest),
    }
    target = TargetFile(len(image), {"sha256": digest}, path, {"custom": {"hillhold": custom}})
    understood(target)
    return target


def check_new(line: Targets, target: TargetFile, wish: Wish) -> None:
    """Refuse a release that does not go together with what its line lists.

    Args:
        line: its newest version, draft included.
        target: as `described` has it.

    Raises:
        ReleaseRefused: a name that is taken, or as `check_order` and `check_step_down`.
    """
    if (old := line.targets.get(target.path)) is not None:
        got, hint = "another file", "a path always names the same bytes: raise the version, or build it again as it was"
        if old.hashes == target.hashes:
            got, hint = f"the same file, {_otherwise(old, target)}", "raise the version, or add it just as it was added"
        raise ReleaseRefused(f"target {target.path}", expected="a new name", got=got, hint=hint)
    new = understood(target)
    if not isinstance(new, Release):
        return
    before = same_place(releases_of(line), new.hardware, new.component)
    steps_down = bool(wish.downgrade_from) or wish.allow_lower
    check_order(before, new.version, new.security_counter, steps_down=steps_down)
    check_step_down((release.version for release in before), new.version, wish.downgrade_from)


def _otherwise(old: TargetFile, new: TargetFile) -> str:
    """In what a listed release differs from the same bytes under the same name."""
    before, after = (target.custom.get("hillhold", {}) if target.custom else {} for target in (old, new))
    names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return f"listed otherwise ({', '.join(names)})" if names else "which is there already"


def same_place(releases: Iterable[Release], hardware: Iterable[str], component: str) -> list[Release]:
    """Return those that could run where a release for `hardware` and `component` runs."""
    wanted = set(hardware)
    return [item for item in releases if item.component == component and item.hardware & wanted]


def check_segment(what: str, text: str, hint: str | None = None) -> None:
    """Refuse text that may not be a part of a path, or a name in metadata; raises `ReleaseRefused`."""
    if not is_segment(text):
        raise ReleaseRefused(what, expected="lowercase letters, digits and ._+-", got=repr(text)[:80], hint=hint)


def check_order(before: Sequence[Release], version: Version, counter: int, *, steps_down: bool) -> None:
    """Refuse what devices would refuse, or what would leave them without a way forward.

    Args:
        before: releases that run in the same place.
        steps_down: a version below these is meant.

    Raises:
        ReleaseRefused: a version that does not increase, or a counter that goes down.
    """
    if not before:
        return
    highest = max(before, key=lambda release: release.version)
    if any(release.version == version for release in before):
        raise ReleaseRefused("version", expected=f"above {highest.version}", got=f"{version}, which is listed already")
    if version < highest.version and not steps_down:
        hint = (
            f"devices would refuse it as a downgrade; for a signed way back give --downgrade-from {highest.version}, "
            "to show that they refuse it --allow-lower"
        )
        raise ReleaseRefused("version", expected=f"above {highest.version}", got=version, hint=hint)
    most = max(release.security_counter for release in before)
    if counter < most:
        hint = "devices that have run the other would refuse this one"
        raise ReleaseRefused("security counter", expected=f"at least {most}", got=counter, hint=hint)


def check_step_down(listed: Iterable[Version], version: Version, named: Iterable[Version]) -> None:
    """Refuse a `downgrade_from` that names itself, a version below, or one that is not listed; raises `ReleaseRefused`."""
    known = set(listed)
    for item in named:
        if item <= version:
            hint = "devices go up by themselves; only a way down has to be signed"
            raise ReleaseRefused("downgrade from", expected=f"a version above {version}", got=item, hint=hint)
        if item not in known:
            shown = ", ".join(map(str, sorted(known, reverse=True)[:4])) or "none"
            raise ReleaseRefused("downgrade from", expected=f"a listed version for this place: {shown}", got=item)


def _restrictions(wish: Wish) -> dict[str, object]:
    """What devices obey beyond version and counter."""
    found: dict[str, object] = {}
    if wish.component != DEFAULT_COMPONENT:
        found["component"] = wish.component
    if wish.requires:
        for name in wish.requires:
            check_segment("requires", name)
        if wish.component in wish.requires or len(wish.requires) > MAX_ITEMS:
            got = f"{wish.component} itself" if wish.component in wish.requires else len(wish.requires)
            raise ReleaseRefused("requires", expected=f"at most {MAX_ITEMS} other components", got=got)
        found["requires"] = {name: str(least) for name, least in sorted(wish.requires.items())}
    if wish.set is not None:
        check_segment("set", wish.set)
        found["set"] = wish.set
    if wish.downgrade_from:
        found["downgrade_from"] = sorted(set(map(str, wish.downgrade_from)))
    return found


def _came_with(wish: Wish, image: str) -> dict[str, object]:
    """What came with the build."""
    found: dict[str, object] = {}
    if wish.sbom:
        found["sbom"] = sbom_entries(wish.sbom)
    if wish.notes is not None:
        found["notes"] = notes_entry(wish.notes)
    if wish.source is not None:
        found["source"] = check_line(wish.source, "source", MAX_SOURCE)
    if wish.provenance is not None:
        found["provenance"] = document_entry(wish.provenance)
        check_provenance(wish.provenance.data, image)
    return found


def _hardware(caps: Caps, wished: Sequence[str]) -> tuple[str, ...]:
    known = ", ".join(caps.hardware)
    if not wished:
        if len(caps.hardware) != 1:
            raise ReleaseRefused(
                "hardware", expected=f"some of: {known}", got="none", hint="name it with --hardware ID"
            )
        return caps.hardware
    check_hardware_of(caps, wished)
    return tuple(sorted(set(wished)))


def check_hardware_of(caps: Caps, hardware: Iterable[str]) -> None:
    """Refuse hardware that a line may not name; raises `ReleaseRefused`."""
    if foreign := sorted(set(hardware) - set(caps.hardware)):
        hint = "targets decide what hardware a line may name: `hillhold product hardware`, signed by their quorum"
        raise ReleaseRefused(
            "hardware", expected=f"some of: {', '.join(caps.hardware)}", got=repr(foreign[0])[:80], hint=hint
        )


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
