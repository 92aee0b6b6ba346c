"""What the page reads of drafts, signatures and publications, as plain values; each for one reader, and no more than their grants allow.

Any role on a line lets its holder read that line. Root and targets are everybody's who is signed in.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection, select
from tuf.api.metadata import Root, Targets

from hillhold_signer.chain import line_names
from hillhold_signer.difference import Change, difference, label
from hillhold_signer.drafts import Quorum
from hillhold_signer.errors import SignerRefused
from hillhold_signer.repository import Repository
from hillhold_signer.requests import make_request
from hillhold_signer.revocation import Revoked, read_revoked
from hillhold_signer.rotation import named_keys
from hillhold_signer.service.access import EVERY, Principal, Role, may_read
from hillhold_signer.service.foureyes import Eyes, eyes_of
from hillhold_signer.service.tables import ACCOUNT_KEYS, ACCOUNTS, APPROVALS, CHANGES, PUBLICATIONS, STUCK
from hillhold_signer.state import State
from hillhold_signer.status import ROLES, RoleStatus, role_status
from hillhold_verifier.errors import Refused

SHOWN_PUBLICATIONS = 10


class Unit(Protocol):
    """One reading of the service: everything in it is of the same moment."""

    @property
    def repository(self) -> Repository:
        """What is published and drafted."""
        ...

    @property
    def connection(self) -> Connection:
        """The tables."""
        ...

    @property
    def now(self) -> int:
        """Unix seconds."""
        ...


class NotThere(Exception):
    """There is no such page."""


class NotAllowed(Exception):
    """The reader's grants do not let them see it."""


def may_see(reader: Principal, role: str) -> bool:
    """Say whether a reader may see a role's metadata and drafts."""
    return role in ROLES or may_read(reader, role)


def reads_all(reader: Principal) -> bool:
    """Say whether a reader may see the log and the accounts: auditors and administrators of everything."""
    return reader.holds(Role.AUDITOR, EVERY) or reader.holds(Role.ADMINISTRATOR, EVERY)


@dataclass(frozen=True, slots=True)
class Account:
    """Who did something, or holds a key."""

    id: int
    name: str
    machine: bool


@dataclass(frozen=True, slots=True)
class Made:
    """Who made one of the drafts that a role's draft grew from; `what` is what was asked for, as JSON."""

    digest: str
    account: Account
    time: int
    what: object


@dataclass(frozen=True, slots=True)
class Approval:
    """Who handed in the signature of a key."""

    account: Account
    time: int


@dataclass(frozen=True, slots=True)
class FourEyes:
    """Whether somebody else than those who made a draft has signed it (`foureyes`).

    Attributes:
        met: somebody has.
        behind: accounts that stand behind it.
        could: key ids that have not signed, of which one would do.
        hopeless: whether all who could sign would not do, nor those who have, whoever hands that in.
        why: of the signatures that there are, in words, why they do not do.
    """

    met: bool
    behind: frozenset[int]
    could: tuple[str, ...]
    hopeless: bool
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """One role, with what the service knows of its draft.

    Attributes:
        made: oldest first.
        approvals: by key id, of the draft as it is.
        stuck: why it was not published although it is complete, and since when.
        eyes: None where nobody can say whose signatures count, or who made the draft.
        yours: a key of the reader is wanted and has not signed.
    """

    status: RoleStatus
    made: tuple[Made, ...]
    approvals: Mapping[str, Approval]
    stuck: tuple[str, int] | None
    eyes: FourEyes | None
    yours: bool


@dataclass(frozen=True, slots=True)
class Publication:
    """One publication; `exported` is None until the object store has all of it."""

    time: int
    roles: Mapping[str, int]
    exported: int | None


@dataclass(frozen=True, slots=True)
class People:
    """Who holds which key.

    Attributes:
        names, holders, revoked: names, accounts and revocations by key id.
        active: key ids of people whose account is not disabled: they count as eyes.
        noted: by key id, who stands behind its being that person's: with the person, those who count by it for four eyes.
    """

    names: Mapping[str, str]
    holders: Mapping[str, Account]
    revoked: Mapping[str, Revoked]
    active: frozenset[str]
    noted: Mapping[str, frozenset[int]]


@dataclass(frozen=True, slots=True)
class Overview:
    """All roles that a reader may see.

    Attributes:
        alarms: revoked keys that are trusted still, each with the roles that trust it.
        interrupted: a new root is out, and what belongs to it is not.
    """

    now: int
    demo: bool
    roles: tuple[Standing, ...]
    people: People
    alarms: tuple[tuple[Revoked, tuple[str, ...]], ...]
    publications: tuple[Publication, ...]
    interrupted: bool


@dataclass(frozen=True, slots=True)
class Draft:
    """The draft of one role.

    Attributes:
        changes: what it changes of what is published; empty where `problem` says why that cannot be told.
        published: what `changes` are against, its version and digest.
    """

    now: int
    demo: bool
    standing: Standing
    people: People
    changes: tuple[Change, ...]
    problem: str | None


def read_overview(unit: Unit, reader: Principal) -> Overview:
    """Return where everything stands; raises `RepositoryRefused`, `StorageError`."""
    repository, state = unit.repository, unit.repository.state()
    config, people = repository.config(), read_people(unit)
    lines = [*(line_names(state.chain.targets) if state.chain else ()), *state.drafts, *state.clashes]
    names = dict.fromkeys((*ROLES, *(name for name in lines if may_see(reader, name))))
    found = tuple(role_status(state, name, unit.now, config.expiry) for name in names)
    standings = _standings(unit, state, found, people, reader)
    publications = tuple(_publications(unit.connection, names))
    return Overview(
        unit.now, config.demo, standings, people, _alarms(state, people.revoked), publications, state.interrupted
    )


def read_draft(unit: Unit, reader: Principal, role: str) -> Draft:
    """Return the draft of a role.

    Raises:
        NotThere, NotAllowed: to this reader.
        RepositoryRefused, StorageError: the repository.
    """
    state = unit.repository.state()
    _check_drafted(state, reader, role)
    config, people = unit.repository.config(), read_people(unit)
    (standing,) = _standings(unit, state, (role_status(state, role, unit.now, config.expiry),), people, reader)
    changes: Sequence[Change] = ()
    problem = None
    if (draft := state.drafts.get(role)) is not None:
        old = state.published(role)
        try:
            known = old if isinstance(old, Root | Targets) else None
            changes = difference(role, known, draft.signed, label(people.names))
        except Refused as error:
            problem = str(error)
    return Draft(unit.now, config.demo, standing, people, tuple(changes), problem)


def read_request(unit: Unit, reader: Principal, role: str) -> bytes:
    """Return the request file of a role's draft; raises as `read_draft`, and `SignerRefused` where there can be none now."""
    _check_drafted(unit.repository.state(), reader, role)
    return make_request(unit.repository, role)


def read_people(unit: Unit) -> People:
    """Return whose keys are whose; raises `ConfigRefused`, `RepositoryRefused`, `StorageError`."""
    query = select(ACCOUNT_KEYS.c.keyid, ACCOUNT_KEYS.c.behind, ACCOUNTS).join_from(ACCOUNT_KEYS, ACCOUNTS)
    rows = unit.connection.execute(query).all()
    holders = {row.keyid: Account(row.id, row.name, bool(row.machine)) for row in rows}
    active = frozenset(row.keyid for row in rows if not row.machine and row.disabled is None)
    noted = {row.keyid: frozenset((row.id, *row.behind)) for row in rows}
    return People(unit.repository.people(), holders, read_revoked(unit.repository.layout), active, noted)


def four_eyes(eyes: Eyes, quorum: Quorum, people: People) -> FourEyes | None:
    """Say what four eyes of a draft need; None where nobody is known to have made it."""
    if not eyes.drafted:
        return None
    alone, able = eyes.alone, (quorum.wanted - people.revoked.keys()) & people.active
    hopeless = bool(alone.intersection(*(people.noted[keyid] for keyid in able)))
    could = sorted(keyid for keyid in able - set(quorum.signed) if not alone & people.noted[keyid])
    return FourEyes(eyes.met, frozenset(eyes.drafted), tuple(could), hopeless, eyes.why())


def _check_drafted(state: State, reader: Principal, role: str) -> None:
    try:
        known = role in state.drafts or role in state.clashes
    except SignerRefused:
        known = True  # damaged, and what reads it says so
    if not may_see(reader, role):
        raise NotAllowed(role)  # whether or not it is drafted
    if not known:
        raise NotThere(role)


def _standings(
    unit: Unit, state: State, roles: Sequence[RoleStatus], people: People, reader: Principal
) -> tuple[Standing, ...]:
    drafted = [item.role for item in roles if item.draft is not None or item.clash is not None]
    made = _made(unit.connection, {role: _open(state, role) for role in drafted})
    approvals = _approvals(unit.connection, {item.role: item.digest for item in roles if item.digest is not None})
    stuck = _stuck(unit.connection, drafted)
    mine = {keyid for keyid, holder in people.holders.items() if holder.id == reader.account_id}
    found = []
    for item in roles:
        quorum, why = item.quorum, stuck.get(item.role)
        found.append(
            Standing(
                item,
                made.get(item.role, ()),
                approvals.get(item.role, {}),
                why[1:] if why and why[0] == item.digest else None,
                four_eyes(eyes_of(unit.connection, state, item.role), quorum, people) if quorum else None,
                bool(quorum and mine & set(quorum.missing) - _unable(item.role, people.revoked)),
            )
        )
    return tuple(found)


def _unable(role: str, revoked: Mapping[str, Revoked]) -> frozenset[str]:
    """Keys that sign no more; root's old quorum may need even these."""
    return frozenset() if role == "root" else frozenset(revoked)


def _open(state: State, role: str) -> frozenset[str]:
    """The names of the drafts that a role's draft may have grown from: all that no publication covers."""
    if role not in state.files.names:
        return frozenset()
    files = state.files.of(role)
    return frozenset(files.nodes) - (files.settled.done if files.settled else frozenset())


def _made(connection: Connection, drafts: Mapping[str, Collection[str]]) -> dict[str, tuple[Made, ...]]:
    query = (
        select(CHANGES, ACCOUNTS.c.name, ACCOUNTS.c.machine)
        .join_from(CHANGES, ACCOUNTS)
        .where(CHANGES.c.role.in_(drafts))
        .order_by(CHANGES.c.time, CHANGES.c.draft)
    )
    found: dict[str, list[Made]] = defaultdict(list)
    for row in connection.execute(query):
        if row.draft in drafts[row.role]:
            account = Account(row.account, row.name, bool(row.machine))
            found[row.role].append(Made(row.digest, account, row.time, _json(row.what)))
    return {role: tuple(items) for role, items in found.items()}


def _approvals(connection: Connection, digests: Mapping[str, str]) -> dict[str, dict[str, Approval]]:
    query = (
        select(APPROVALS, ACCOUNTS.c.name, ACCOUNTS.c.machine)
        .join_from(APPROVALS, ACCOUNTS)
        .where(APPROVALS.c.role.in_(digests))
        .order_by(APPROVALS.c.time, APPROVALS.c.account)  # who handed it in last, where several have
    )
    found: dict[str, dict[str, Approval]] = defaultdict(dict)
    for row in connection.execute(query):
        if row.digest == digests[row.role]:
            found[row.role][row.keyid] = Approval(Account(row.account, row.name, bool(row.machine)), row.time)
    return found


def _stuck(connection: Connection, roles: Iterable[str]) -> dict[str, tuple[str, str, int]]:
    query = select(STUCK).where(STUCK.c.role.in_(list(roles)))
    return {row.role: (row.digest, row.reason, row.time) for row in connection.execute(query)}


def _publications(connection: Connection, names: Collection[str]) -> Iterable[Publication]:
    query = select(PUBLICATIONS).order_by(PUBLICATIONS.c.id.desc()).limit(SHOWN_PUBLICATIONS)
    for row in connection.execute(query):
        roles = _json(row.roles)
        seen = roles if isinstance(roles, dict) else {}
        yield Publication(row.time, {name: seen[name] for name in seen if name in names}, row.exported)


def _alarms(state: State, revoked: Mapping[str, Revoked]) -> tuple[tuple[Revoked, tuple[str, ...]], ...]:
    if state.chain is None:
        return ()
    trusted = named_keys(state.chain.root, state.chain.targets)
    return tuple((revoked[keyid], tuple(where)) for keyid, where in trusted.items() if keyid in revoked)


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
