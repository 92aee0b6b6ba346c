"""Withdrawing releases, and the signed way down for devices that run one. A withdrawal is never undone (DESIGN §4).

Patches that make a withdrawn release go from the list: nothing may install it. Those that start from it stay: they are the way of the
devices that run it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tuf.api.metadata import TargetFile, Targets

from hillhold_signer.adding import not_made, patches_to, read_release
from hillhold_signer.edit import Edit
from hillhold_signer.encoding import check_line
from hillhold_signer.errors import ReleaseRefused
from hillhold_signer.fleet import Fleet, check_freed
from hillhold_signer.listing import chosen
from hillhold_signer.making import Making
from hillhold_signer.products import caps_of
from hillhold_signer.releases import MAX_REASON, check_hardware_of, same_place, understood
from hillhold_signer.repository import Repository
from hillhold_verifier.release import Patch, Release, Version


@dataclass(frozen=True, slots=True)
class Way:
    """Where devices of some hardware go that run a withdrawn release.

    Attributes:
        to: the version that they end on, or None: they keep running it, and say so.
        down_to: listed versions that could be signed as a step down, highest first.
    """

    hardware: tuple[str, ...]
    start: Version
    to: Version | None
    down_to: tuple[Version, ...]


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What `withdraw` put into a line's draft.

    Attributes:
        paths: releases that are withdrawn now; `dropped`: patches that made them.
        step_downs: releases that devices may step down to; `patches`: the patches to these.
        ways: where the devices go that run one.
        warnings: other releases that no device can install any longer, in an auditor's words.
        version: of the draft.
    """

    paths: tuple[str, ...]
    dropped: tuple[str, ...]
    step_downs: tuple[str, ...]
    patches: tuple[TargetFile, ...]
    ways: tuple[Way, ...]
    warnings: tuple[str, ...]
    version: int


def withdraw(
    repository: Repository,
    product: str,
    version: str,
    reason: str,
    now: int,
    *,
    component: str | None = None,
    hardware: Sequence[str] = (),
    step_down_to: str | None = None,
) -> Withdrawn:
    """Draft a line's role in which a published version is withdrawn.

    Args:
        reason: one line, which devices show.
        now: Unix seconds.
        component: may be left out where only one component has that version.
        hardware: only the releases for these; such a release may not be for others as well.
        step_down_to: a lower listed version that devices on the withdrawn one may step down to.

    Raises:
        ProductRefused: no such line.
        ReleaseRefused: no such release, not published, withdrawn already, or a step down that no device would take.
        ContentRefused: the reason.
        RepositoryRefused, StorageError: the repository.
    """
    check_line(reason, "reason", MAX_REASON)
    with repository.edit(now) as edit:
        line, caps = edit.line(product), caps_of(edit.state.targets(), product)
        check_hardware_of(caps, hardware)
        old = Fleet(product, caps, line)
        before = old.releases
        gone = _for_hardware(chosen(before, version, component, None), hardware)
        gone = _withdrawable(gone, edit.state.published(product))
        for release in gone:
            line.targets[release.path].custom["hillhold"]["withdrawn"] = reason
        dropped = _drop_patches(line, {release.path for release in gone})
        lower = _step_down(before, gone, step_down_to) if step_down_to is not None else []
        for release in lower:
            custom = line.targets[release.path].custom["hillhold"]
            custom["downgrade_from"] = sorted(
                {*custom.get("downgrade_from", ()), *(str(item.version) for item in gone)}
            )
        fleet = Fleet(product, caps, line)
        check_freed(before, fleet.releases)
        for release in lower:
            fleet.require(release.path, release.hardware & frozenset().union(*(item.hardware for item in gone)))
        patches, failed = _patches(edit, line, lower, gone)
        edit.save(product, line)
    return Withdrawn(
        tuple(release.path for release in gone),
        dropped,
        tuple(release.path for release in lower),
        tuple(patches),
        tuple(_ways(fleet, gone)),
        (*sorted(fleet.findings() - old.findings()), *failed),
        line.version,
    )


def _for_hardware(found: Sequence[Release], hardware: Sequence[str]) -> list[Release]:
    if not hardware:
        return list(found)
    wanted = set(hardware)
    touched = [release for release in found if release.hardware & wanted]
    for release in touched:
        if beyond := sorted(release.hardware - wanted):
            hint = "name all of it, or take hardware away from it: `hillhold release hardware … --remove ID`"
            got = f"{release.path}, which is for {', '.join(beyond)} too"
            raise ReleaseRefused("hardware", expected="all that a release is for", got=got, hint=hint)
    if not touched:
        there = ", ".join(sorted({name for release in found for name in release.hardware}))
        raise ReleaseRefused("hardware", expected=f"some of: {there}", got=", ".join(sorted(wanted)))
    return touched


def _withdrawable(found: Sequence[Release], published: object) -> list[Release]:
    listed = published.targets if isinstance(published, Targets) else {}
    for release in found:
        if release.path not in listed:
            hint = "no device has seen it: take it out of the draft with `hillhold release remove`"
            raise ReleaseRefused(f"target {release.path}", expected="a published release", got="a draft", hint=hint)
    left = [release for release in found if release.withdrawn is None]
    if not left:
        what, got = f"target {found[0].path}", f"one that was withdrawn before: {found[0].withdrawn}"
        raise ReleaseRefused(what, expected="a release that devices may install", got=got)
    return left


def _drop_patches(line: Targets, paths: Iterable[str]) -> tuple[str, ...]:
    found = {path: understood(target) for path, target in line.targets.items()}
    useless = [path for path, item in found.items() if isinstance(item, Patch) and item.makes in paths]
    for path in useless:
        del line.targets[path]
    return tuple(sorted(useless))


def _step_down(before: Sequence[Release], gone: Sequence[Release], to: str) -> list[Release]:
    """The releases of a version that devices may step down to, or refuse it."""
    hardware = {name for release in gone for name in release.hardware}
    high = gone[0].version
    places = [release for release in before if release.component == gone[0].component]
    counter = max(release.security_counter for release in gone)
    offered = [
        item
        for item in same_place(places, hardware, gone[0].component)
        if item.withdrawn is None and item.version < high
    ]
    fitting = [item for item in offered if item.security_counter >= counter]
    found = [item for item in fitting if str(item.version) == to]
    if not found:
        shown = ", ".join(dict.fromkeys(str(item.version) for item in reversed(fitting))) or "none is listed"
        low = next((item for item in offered if str(item.version) == to), None)
        got = f"{to}, whose counter is {low.security_counter}" if low else f"{to!r}"[:60]
        expected = (
            f"a listed version below {high} that is not withdrawn, with security counter {counter} or more: {shown}"
        )
        hint = "build the older one again with that counter, and add it with --downgrade-from"
        raise ReleaseRefused("step down", expected=expected, got=got, hint=hint)
    for release in found:
        running = [item for item in places if item.version == high and item.withdrawn is None and item not in gone]
        if beside := [item.path for item in running if item.hardware & release.hardware]:
            got = f"{release.path}, to which devices on {beside[0]} would step down, too"
            hint = "withdraw that as well, or give each its own release of the lower version"
            raise ReleaseRefused("step down", expected="a release for the same hardware", got=got, hint=hint)
    return found


def _patches(
    edit: Edit, line: Targets, lower: Sequence[Release], gone: Sequence[Release]
) -> tuple[list[TargetFile], list[str]]:
    """Patches from what is withdrawn to what devices step down to."""
    made: list[TargetFile] = []
    failed: list[str] = []
    with Making() as making:
        for release in lower:
            image = read_release(edit.layout, release)
            patches, left = patches_to(edit, line, line.targets[release.path], image, gone, making)
            made += patches
            failed += not_made(left)
    return made, failed


def _ways(fleet: Fleet, gone: Sequence[Release]) -> Iterable[Way]:
    for old in gone:
        release = next(item for item in fleet.releases if item.path == old.path)
        groups: dict[tuple[Version | None, tuple[Version, ...]], list[str]] = {}
        for name in sorted(release.hardware):
            end = fleet.after(release, name)
            there = [item for item in fleet.releases if item.component == release.component and name in item.hardware]
            fit = [r for r in there if r.withdrawn is None and r.security_counter >= release.security_counter]
            down = tuple(sorted({item.version for item in fit if item.version < release.version}, reverse=True))
            stays = end.path == release.path
            groups.setdefault((None, down) if stays else (end.version, ()), []).append(name)
        for (to, down), names in groups.items():
            yield Way(tuple(names), release.version, to, down)
