"""The releases that a line lists, published and drafted, and how one of them is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tuf.api.metadata import Targets

from hillhold_signer.errors import ReleaseRefused
from hillhold_signer.releases import releases_of, understood
from hillhold_signer.state import State
from hillhold_verifier.release import Patch, Release, Version

Where = Literal["published", "drafted", "changed", "dropped"]


@dataclass(frozen=True, slots=True)
class Listed:
    """One release.

    Attributes:
        where: `published` as it stands; `drafted`: in the draft only; `changed`: the draft says something else of it, which is
            what `release` holds; `dropped`: the draft no longer lists it.
        patches: bases that a patch to it starts from, as far as they are listed.
    """

    release: Release
    where: Where
    patches: tuple[Version, ...]


def listing(state: State, product: str) -> tuple[Listed, ...]:
    """Return the releases of a line, lowest version first.

    Raises:
        ProductRefused: no such line.
        ReleaseRefused: an entry that a device would not understand.
    """
    new, old = state.line(product), state.published(product)
    before = old.targets if isinstance(old, Targets) else {}
    releases = {release.path: release for release in releases_of(new)}
    if isinstance(old, Targets):
        releases = {release.path: release for release in releases_of(old)} | releases
    versions = {release.sha256: release.version for release in releases.values()}
    bases: dict[str, list[Version]] = {}
    for target in new.targets.values():
        if isinstance(patch := understood(target), Patch) and patch.base in versions:
            bases.setdefault(patch.makes, []).append(versions[patch.base])
    found = []
    for path, release in sorted(releases.items(), key=lambda item: (item[1].component, item[1].version, item[0])):
        where: Where = "published"
        if path not in new.targets:
            where = "dropped"
        elif path not in before:
            where = "drafted"
        elif before[path] != new.targets[path]:
            where = "changed"
        found.append(Listed(release, where, tuple(sorted(bases.get(path, [])))))
    return tuple(found)


def chosen(releases: Sequence[Release], version: str, component: str | None, file_name: str | None) -> list[Release]:
    """Return the releases of one version of one component.

    Args:
        component: may be left out where only one component has that version.
        file_name: only the one of that name.

    Raises:
        ReleaseRefused: none, or of several components; the message says what there is.
    """
    found = [
        release
        for release in releases
        if str(release.version) == version
        and component in (None, release.component)
        and file_name in (None, release.path.rpartition("/")[2])
    ]
    components = sorted({release.component for release in found})
    if len(components) > 1:
        hint = "say which with --component NAME"
        raise ReleaseRefused(f"version {version}", expected="one component", got=", ".join(components), hint=hint)
    if not found:
        there = dict.fromkeys(f"{release.component} {release.version}" for release in reversed(releases))
        shown = ", ".join(list(there)[:8]) or "nothing"
        what = f"version {version}" + (f" of {component}" if component else "")
        raise ReleaseRefused(what, expected=f"a listed release: {shown}", got="none of that name")
    return found
