"""What the page reads of product lines, their releases, and of keys and accounts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, select
from tuf.api.metadata import Root, TargetFile, Targets

from hillhold_signer.documents import stated
from hillhold_signer.errors import MergeRefused, SignerRefused
from hillhold_signer.keys import fingerprint
from hillhold_signer.listing import Listed, listing
from hillhold_signer.overview import Delegated, Overview, delegated, overview
from hillhold_signer.releases import releases_of, understood
from hillhold_signer.service import accounts
from hillhold_signer.service.access import Principal
from hillhold_signer.service.page.data import (
    Account,
    NotAllowed,
    NotThere,
    People,
    Unit,
    may_see,
    read_people,
    reads_all,
)
from hillhold_signer.service.tables import ACCOUNTS, SUBMISSIONS
from hillhold_signer.state import State
from hillhold_verifier.release import Patch, Version

PAGE: Final = 20
"""Releases of one page."""


@dataclass(frozen=True, slots=True)
class Lines:
    """The product lines that a reader may see; none where `problem` says why nobody can say which there are."""

    lines: Mapping[str, Delegated]
    names: Mapping[str, str]
    problem: str | None


@dataclass(frozen=True, slots=True)
class PatchFile:
    """A patch to a release: from which listed version, or else from the file with which hash.

    `nothing`: it is the image compressed.
    """

    base: Version | None
    base_hash: str
    length: int
    algorithm: str
    nothing: bool


@dataclass(frozen=True, slots=True)
class Submission:
    """Who handed a release in."""

    account: Account
    time: int


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """One release with what came with it.

    Attributes:
        documents: as `documents.stated` has them.
    """

    listed: Listed
    patches: tuple[PatchFile, ...]
    documents: Mapping[str, list[dict[str, object]]]
    source: str | None
    submission: Submission | None


@dataclass(frozen=True, slots=True)
class Line:
    """One line: what there is to know of it, and one page of its releases, highest version first.

    Attributes:
        total: releases on all pages.
        problem: why its releases cannot be shown; it has none here then.
        drafted: it has a draft.
    """

    name: str
    facts: Overview
    releases: tuple[ReleaseRow, ...]
    total: int
    page: int
    drafted: bool
    problem: str | None


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key that signs something, or is to.

    Attributes:
        roles: that trust it now; `coming`, `going`: what drafts change of that.
    """

    keyid: str
    fingerprint: str
    scheme: str
    roles: tuple[str, ...]
    coming: tuple[str, ...]
    going: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RoleRow:
    """A role with its threshold; `drafted`: it is in drafts only."""

    role: str
    threshold: int
    keyids: tuple[str, ...]
    drafted: bool


@dataclass(frozen=True, slots=True)
class Keys:
    """Who signs what; `accounts` is None for readers who may not see them."""

    people: People
    roles: tuple[RoleRow, ...]
    keys: tuple[KeyRow, ...]
    accounts: tuple[accounts.Account, ...] | None
    problem: str | None


def read_lines(unit: Unit, reader: Principal) -> Lines:
    """Return the lines; raises `RepositoryRefused`, `StorageError`."""
    state, names = unit.repository.state(), unit.repository.people()
    if state.published("targets") is None and "targets" not in state.drafts and "targets" not in state.clashes:
        return Lines({}, names, None)
    try:
        found = delegated(state)
    except MergeRefused as error:
        return Lines({}, names, str(error))
    return Lines({name: item for name, item in found.items() if may_see(reader, name)}, names, None)


def read_line(unit: Unit, reader: Principal, name: str, page: int) -> Line:
    """Return one line.

    Args:
        page: of its releases, from 1.

    Raises:
        NotThere, NotAllowed: to this reader.
        RepositoryRefused, StorageError: the repository.
    """
    state = unit.repository.state()
    if not may_see(reader, name):
        raise NotAllowed(name)
    if name not in delegated(state):
        raise NotThere(name)
    facts = overview(unit.repository, name)
    drafted = name in state.drafts or name in state.clashes
    try:
        found, targets = _releases(state, name)
    except SignerRefused as error:
        return Line(name, facts, (), 0, 1, drafted, str(error))
    found = tuple(sorted(found, key=lambda item: (item.release.version, item.release.path), reverse=True))
    shown = found[(page - 1) * PAGE : page * PAGE]
    if page > 1 and not shown:
        raise NotThere(page)
    submissions = _submissions(unit.connection, [item.release.path for item in shown])
    patches = _patches(found, targets)
    rows = tuple(_row(item, targets, patches, submissions) for item in shown)
    return Line(name, facts, rows, len(found), page, drafted, None)


def check_release(unit: Unit, reader: Principal, path: str) -> None:
    """Refuse a release that a reader may not see, or that no line lists; raises `NotThere`, `NotAllowed`."""
    name = path.partition("/")[0]
    if not may_see(reader, name):
        raise NotAllowed(name)
    published = unit.repository.state().published(name)
    if not isinstance(published, Targets) or path not in published.targets:
        raise NotThere(path)


def read_keys(unit: Unit, reader: Principal) -> Keys:
    """Return who signs what; raises `RepositoryRefused`, `StorageError`."""
    state, people = unit.repository.state(), read_people(unit)
    registered = tuple(accounts.list_accounts(unit.connection)) if reads_all(reader) else None
    old = (state.published("root"), state.published("targets"))
    before, after, problem = _trust(old), _trust(old), None
    try:
        after = _trust((state.newest("root"), state.newest("targets")))
    except MergeRefused as error:
        problem = str(error)
    names = {name: role for name, role in {**after, **before}.items() if may_see(reader, name)}
    found = {keyid: None for _, keyids, _ in names.values() for keyid in keyids}
    found |= {keyid: None for name, (_, keyids, _) in after.items() if name in names for keyid in keyids}
    rows = []
    for keyid in found:
        was = {name for name in names if name in before and keyid in before[name][1]}
        will = {name for name in names if name in after and keyid in after[name][1]}
        key = next(keys[keyid] for _, keyids, keys in (*after.values(), *before.values()) if keyid in keyids)
        coming, going = (tuple(name for name in names if name in some) for some in (will - was, was - will))
        trusted = tuple(name for name in names if name in was)
        rows.append(KeyRow(keyid, fingerprint(key), key.scheme, trusted, coming, going))
    roles = tuple(RoleRow(name, item[0], item[1], name not in before) for name, item in names.items())
    return Keys(people, roles, tuple(rows), registered, problem)


def _trust(found: Sequence[object]) -> dict[str, tuple[int, tuple[str, ...], Mapping[str, Any]]]:
    """By role or line: threshold, key ids, and the keys among which they are."""
    roles: dict[str, tuple[int, tuple[str, ...], Mapping[str, Any]]] = {}
    for item in found:
        if isinstance(item, Root):
            top = ((name, item.roles[name]) for name in ("root", "targets", "snapshot", "timestamp"))
            roles |= {name: (role.threshold, tuple(role.keyids), item.keys) for name, role in top}
        elif isinstance(item, Targets) and item.delegations and item.delegations.roles:
            keys = item.delegations.keys
            roles |= {name: (role.threshold, tuple(role.keyids), keys) for name, role in item.delegations.roles.items()}
    return roles


def _releases(state: State, name: str) -> tuple[tuple[Listed, ...], dict[str, TargetFile]]:
    """The releases of a line as it is to be, and all its target entries, also those that a draft drops."""
    old = state.published(name)
    before = dict(old.targets) if isinstance(old, Targets) else {}
    if name in state.products():
        new = state.newest(name)
        if not isinstance(new, Targets):
            return (), {}  # a new line, before its first draft
        return listing(state, name), before | new.targets
    retired = releases_of(old) if isinstance(old, Targets) else ()
    return tuple(Listed(release, "published", ()) for release in retired), before


def _patches(found: Sequence[Listed], targets: Mapping[str, TargetFile]) -> dict[str, list[PatchFile]]:
    versions = {item.release.sha256: item.release.version for item in found}
    patches: dict[str, list[PatchFile]] = defaultdict(list)
    for target in targets.values():
        if isinstance(item := understood(target), Patch):
            file = PatchFile(
                versions.get(item.base), item.base.hex(), item.length, item.algorithm, item.base_length == 0
            )
            patches[item.makes].append(file)
    return patches


def _row(
    item: Listed,
    targets: Mapping[str, TargetFile],
    patches: Mapping[str, Sequence[PatchFile]],
    submissions: Mapping[str, Submission],
) -> ReleaseRow:
    path = item.release.path
    custom = targets[path].custom if path in targets else None
    said = custom.get("hillhold") if isinstance(custom, dict) else None
    said = said if isinstance(said, dict) else {}
    source = said.get("source")
    own = sorted(patches.get(path, ()), key=lambda file: (file.base is None, file.base or Version(0, 0, 0)))
    return ReleaseRow(
        item, tuple(own), stated(said), source if isinstance(source, str) else None, submissions.get(path)
    )


def _submissions(connection: Connection, paths: Sequence[str]) -> dict[str, Submission]:
    query = (
        select(SUBMISSIONS, ACCOUNTS.c.name, ACCOUNTS.c.machine)
        .join_from(SUBMISSIONS, ACCOUNTS)
        .where(SUBMISSIONS.c.path.in_(paths))
    )
    return {
        row.path: Submission(Account(row.account, row.name, bool(row.machine)), row.time)
        for row in connection.execute(query)
    }
