"""Removing what no client needs any more.

Files: a published metadata file stays while it is what the present timestamp leads to, or what one of the last `KEEP` snapshots led to
(a client may be half way), and so do the target files that those name. Roots stay, since a device of any age follows them one by one;
version 1 of a product line stays, since it says that the name is used.

Releases: a line role keeps the newest ones for each component and hardware, what belongs to one set with them, patches to what stays and
some device may still choose (whatever they start from, be it listed or not), and what came with it; and whatever is withdrawn, since
nothing else remembers that it is. That is a change of the line, which its quorum signs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tuf.api.metadata import Snapshot, Targets

from hillhold_signer import encoding
from hillhold_signer.documents import stated
from hillhold_signer.errors import ReleaseRefused, RepositoryRefused
from hillhold_signer.fleet import check_freed, named
from hillhold_signer.layout import Layout, file_name
from hillhold_signer.places import Place
from hillhold_signer.releases import releases_of, understood
from hillhold_signer.repository import Repository
from hillhold_signer.state import published_files
from hillhold_signer.storage import list_folder, name_below, remove_file, size_of
from hillhold_verifier.release import Patch, Release

KEEP: Final = 3
"""Snapshots whose files stay, the present one included."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What goes: files by their names in the published tree, and how many bytes they had."""

    files: tuple[str, ...]
    size: int


def prune_files(repository: Repository, now: int, *, dry_run: bool = False) -> Pruned:
    """Remove published files that no client needs any more.

    Args:
        now: Unix seconds.

    Raises:
        RepositoryRefused: nothing is published, or it is damaged.
        StorageError: a file cannot be removed; the command can run again.
    """
    with repository.edit(now) as edit:
        if edit.state.chain is None:
            raise RepositoryRefused("prune", expected="a published repository", got="none yet")
        needed = _needed(edit.layout, edit.state.chain.snapshot)
        found = [path for path in _published(edit.layout) if path not in needed]
        size = sum(map(size_of, found))
        if not dry_run:
            for path in found:
                remove_file(path)
    return Pruned(tuple(name_below(path, repository.layout.public) for path in found), size)


def prune_releases(repository: Repository, product: str, keep: int, now: int, *, dry_run: bool = False) -> list[str]:
    """Draft a line's role without its oldest releases.

    Args:
        keep: how many stay for each component and hardware, at least one.
        now: Unix seconds.

    Returns:
        The target paths that go; nothing is drafted where there are none.

    Raises:
        ProductRefused: no such line.
        ReleaseRefused: `keep`; or devices would install again what they were told to step down from.
        RepositoryRefused, StorageError: the repository.
    """
    if keep < 1:
        raise ReleaseRefused("releases to keep", expected="at least 1", got=keep)
    with repository.edit(now) as edit:
        line = edit.line(product)
        before = releases_of(line)
        stay = _staying(before, keep)
        stay |= _documents(line, stay)
        useful = stay - _replaced(before)
        gone = []
        for path, target in list(line.targets.items()):
            entry = understood(target)
            if entry.makes not in useful if isinstance(entry, Patch) else path not in stay:
                gone.append(path)
                del line.targets[path]
        check_freed(before, releases_of(line))
        if gone and not dry_run:
            edit.save(product, line)
    return gone


def _staying(releases: tuple[Release, ...], keep: int) -> set[str]:
    """The paths of releases that stay."""
    stay: set[str] = set()
    passed_over = named(releases)
    places = {(release.component, hardware) for release in releases for hardware in release.hardware}
    for component, hardware in places:
        here = [item for item in releases if item.component == component and hardware in item.hardware]
        # One that is stepped down from stays beside those that replace it: its entry is what says so.
        able = [
            item for item in here if item.withdrawn is None and (hardware, component, item.version) not in passed_over
        ]
        able = able[-keep:] or here[-keep:]
        stay |= {item.path for item in here if item.version >= able[0].version}
    groups = {item.set for item in releases if item.path in stay and item.set}
    stay |= {item.path for item in releases if item.set in groups}
    return stay | {item.path for item in releases if item.withdrawn is not None}


def _replaced(releases: tuple[Release, ...]) -> set[str]:
    """The paths of releases that no device would choose: a higher one can run wherever they can, and asks for nothing else."""
    free = [item for item in releases if item.withdrawn is None and not item.requires and item.set is None]
    return {
        old.path
        for old in releases
        if not old.downgrade_from
        and any(
            new.version > old.version
            and new.component == old.component
            and new.hardware >= old.hardware
            and new.security_counter >= old.security_counter
            for new in free
        )
    }


def _documents(line: Targets, stay: set[str]) -> set[str]:
    """The files that came with what stays."""
    digests = set[str]()
    for path in stay:
        entries = stated(line.targets[path].custom["hillhold"]).values()
        digests |= {str(entry["sha256"]) for items in entries for entry in items}
    return {
        path for path, item in line.targets.items() if understood(item) is None and item.hashes["sha256"] in digests
    }


def _needed(layout: Layout, newest: Snapshot) -> set[Place]:
    """The files that the last snapshots lead to."""
    needed: set[Place] = set()
    for version in range(newest.version, max(0, newest.version - KEEP), -1):
        data = published_files(layout, file_name("snapshot", version))
        if data is None:
            continue
        needed.add(layout.metadata(file_name("snapshot", version)))
        for name, meta in encoding.load(data, Snapshot, f"snapshot {version}").signed.meta.items():
            role = name.removesuffix(".json")
            needed.add(layout.metadata(file_name(role, meta.version)))
            needed |= _targets(layout, role, meta.version)
    return needed


def _targets(layout: Layout, role: str, version: int) -> set[Place]:
    data = published_files(layout, file_name(role, version))
    if data is None:
        return set()
    signed = encoding.load(data, Targets, f"{role} {version}").signed
    return {layout.target(path, target.hashes["sha256"]) for path, target in signed.targets.items()}


def _published(layout: Layout) -> Iterator[Place]:
    """Every published file that may go at some time: hidden ones (of an interrupted write), roots and first versions of lines stay."""
    for name in list_folder(layout.public / "metadata"):
        version, _, role = name.removesuffix(".json").partition(".")
        if version.isdigit() and role != "root" and not (version == "1" and role not in ("snapshot", "targets")):
            yield layout.metadata(name)
    yield from layout.target_files()
