"""Changing the hardware that may run a listed release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuf.api.metadata import TargetFile

from hillhold_signer.adding import not_made, patches_to, read_release
from hillhold_signer.errors import ReleaseRefused
from hillhold_signer.fleet import Fleet, check_freed
from hillhold_signer.listing import chosen
from hillhold_signer.making import Making
from hillhold_signer.patching import DEFAULT
from hillhold_signer.products import caps_of
from hillhold_signer.releases import check_hardware_of, check_order, same_place
from hillhold_signer.repository import Repository
from hillhold_verifier.release import Release


@dataclass(frozen=True, slots=True)
class Retargeted:
    """What `change_hardware` put into a line's draft.

    Attributes:
        releases: as they are now; more than one where they belong to a set, which changes as a whole.
        patches: for devices of the new hardware.
        warnings: other releases that no device can install any longer, in an auditor's words; patches that could not be made.
        version: of the draft.
    """

    releases: tuple[Release, ...]
    patches: tuple[TargetFile, ...]
    warnings: tuple[str, ...]
    version: int


def change_hardware(
    repository: Repository,
    product: str,
    version: str,
    now: int,
    *,
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
    component: str | None = None,
    file_name: str | None = None,
) -> Retargeted:
    """Draft a line's role in which a release may run on other hardware.

    Args:
        now: Unix seconds.
        component: may be left out where only one component has that version.
        file_name: tells releases of one version apart.

    Raises:
        ProductRefused: no such line.
        ReleaseRefused: no such release, hardware that the line may not name, or what devices of the new hardware would refuse.
        RepositoryRefused, StorageError: the repository.
    """
    with repository.edit(now) as edit:
        line, caps = edit.line(product), caps_of(edit.state.targets(), product)
        check_hardware_of(caps, add)
        old = Fleet(product, caps, line)
        before = old.releases
        changed = _with_set(before, only(chosen(before, version, component, file_name)))
        others = [release for release in before if release not in changed]
        for release in changed:
            hardware = _new_hardware(release, set(add), set(remove))
            fresh = same_place(others, hardware - release.hardware, release.component)
            check_order(fresh, release.version, release.security_counter, steps_down=bool(release.downgrade_from))
            line.targets[release.path].custom["hillhold"]["hardware"] = sorted(hardware)
        fleet = Fleet(product, caps, line)
        check_freed(before, fleet.releases)
        paths = {release.path for release in changed}
        now_listed = tuple(release for release in fleet.releases if release.path in paths)
        for release in now_listed:
            fleet.require(release.path, release.hardware & set(add))
        made: list[TargetFile] = []
        failed: list[str] = []
        with Making() as making:
            for release in now_listed if add else ():
                earlier = [
                    item for item in same_place(others, add, release.component) if item.version < release.version
                ]
                if bases := DEFAULT.choose(earlier):
                    image = read_release(edit.layout, release)
                    patches, left = patches_to(edit, line, line.targets[release.path], image, bases, making)
                    made += patches
                    failed += not_made(left)
        edit.save(product, line)
    warnings = (*sorted(fleet.findings() - old.findings()), *failed)
    return Retargeted(now_listed, tuple(made), warnings, line.version)


def only(found: Sequence[Release]) -> Release:
    """Return the one release that was found; raises `ReleaseRefused` where there are several."""
    if len(found) > 1:
        names = ", ".join(release.path.rpartition("/")[2] for release in found)
        hint = "say which with --file-name"
        raise ReleaseRefused(f"version {found[0].version}", expected="one release", got=names, hint=hint)
    return found[0]


def _with_set(releases: Sequence[Release], release: Release) -> list[Release]:
    """A release, with the others of its set: one that is not for the same hardware is installed nowhere."""
    if release.set is None:
        return [release]
    return [item for item in releases if item.set == release.set and item.hardware & release.hardware]


def _new_hardware(release: Release, add: set[str], remove: set[str]) -> frozenset[str]:
    what = f"hardware of {release.path}"
    if release.withdrawn is not None:
        got = f"a withdrawn one: {release.withdrawn}"
        raise ReleaseRefused(what, expected="a release that devices may install", got=got)
    if not add | remove or add & remove:
        raise ReleaseRefused(what, expected="ids to add or to remove, none of them twice", got="neither or both")
    shown = ", ".join(sorted(release.hardware))
    if there := sorted(add & release.hardware):
        raise ReleaseRefused(what, expected=f"others than {shown}", got=there[0])
    if absent := sorted(remove - release.hardware):
        raise ReleaseRefused(what, expected=f"some of: {shown}", got=repr(absent[0])[:80])
    hardware = (release.hardware | add) - remove
    if not hardware:
        hint = "a release that nothing may run is withdrawn: `hillhold withdraw`"
        raise ReleaseRefused(what, expected="at least one id", got="none", hint=hint)
    return hardware
