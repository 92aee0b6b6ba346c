"""Four eyes: nobody stands behind a draft and behind all of its signatures.

Whoever gave an account its means counts with it. Behind a draft stand those who made the changes in it, and those who gave them the token,
identity or certificate by which they logged in (`Principal.behind`, as it was then). Behind a signature stand the person who holds its key
(`account_keys`), those who noted that, and those who handed it in, each with who is behind them; where several have handed it in, one of
them is enough. So an administrator is not somebody else than the machine, the person or the key that they made, nor than what these made.

A key that nobody holds, or whose holder is disabled, counts for no eyes. What the operator gave has nobody behind it: who is at the machine
has the database anyway. All of that is one more condition, beside the quorum that metadata ask: it protects the team from one of its own,
and devices do not depend on it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, select

from hillhold_signer.drafts import Draft
from hillhold_signer.service.tables import ACCOUNT_KEYS, ACCOUNTS, APPROVALS, CHANGES
from hillhold_signer.service.tokens import first_token
from hillhold_signer.service.unit import Unit
from hillhold_signer.state import State


@dataclass(frozen=True, slots=True)
class Signature:
    """A valid signature on a draft.

    Attributes:
        holder: the person whose key it is; None where that is nobody who could log in.
        noted: who stands behind that being noted.
        handed: for each account that has handed it in, who stands behind that; empty where it came with the repository.
    """

    keyid: str
    holder: int | None
    noted: frozenset[int]
    handed: Mapping[int, frozenset[int]]

    @property
    def handing(self) -> frozenset[int]:
        """Who stands behind each handing in."""
        return frozenset.intersection(*self.handed.values()) if self.handed else frozenset()

    @property
    def behind(self) -> frozenset[int]:
        """Who stands behind it, however it was handed in."""
        return self.noted | self.handing | ({self.holder} if self.holder is not None else set())


@dataclass(frozen=True, slots=True)
class Eyes:
    """Who has seen a draft.

    Attributes:
        drafted: who stands behind it, each with the accounts by which they do.
        signatures: by key id.
        names: of all of these, and of the keys' holders.
    """

    drafted: Mapping[int, frozenset[int]]
    signatures: tuple[Signature, ...]
    names: Mapping[int, str]

    @property
    def alone(self) -> frozenset[int]:
        """Who stands behind the draft and behind every signature that counts."""
        found = frozenset(self.drafted)
        for signature in self.signatures:
            if signature.holder is not None:
                found &= signature.behind
        return found

    @property
    def met(self) -> bool:
        """Whether, whoever drafted it, somebody else has signed it."""
        return not self.alone

    def why(self) -> tuple[str, ...]:
        """Say for people why the signatures that there are do not do, and what would; nothing where they do."""
        return () if self.met else tuple(text for signature in self.signatures for text in self._why(signature))

    def _why(self, signature: Signature) -> Iterator[str]:
        alone, holder = self.alone, signature.holder
        if holder is None:
            hint = "let an administrator or the operator note whose it is (`hillhold account key`)"
            yield f"the key {signature.keyid[:16]} is nobody's who could log in: {hint}"
            return
        name = self.names[holder]
        if holder in alone:
            yield f"{self._named([holder])}: somebody else has to sign, too"
            return
        if by := alone & signature.noted:
            hint = f"let another administrator or the operator note it (`hillhold account key '{name}' PUB`, first with --remove)"
            yield f"{name}'s key was noted by {self._named(by, ', who ')}: {hint}"
        handed = f"{name}'s signature was handed in by"
        if by := alone & signature.handing & signature.handed.keys():
            hint = f"let {name} hand it in, too (`hillhold sign`, or `attach`)"
            yield f"{handed} {self._named(by, ', who ')}: {hint}"
        elif by := alone & signature.handing:
            hint = (
                f"let {name} do so by a login of the operator's (`{first_token(name)}`), or of another administrator's"
            )
            yield f"{handed} a login that goes back to {self._named(by, ', who ')}: {hint}"

    def _named(self, accounts: Iterable[int], link: str = " ") -> str:
        """Who they are, and how they stand behind the draft."""
        found = []
        for one in sorted(accounts):
            others = sorted(self.names[other] for other in self.drafted[one] if other != one)
            did = "drafted this" if one in self.drafted[one] else f"let {' and '.join(others)} in, who drafted this"
            found.append(f"{self.names[one]}{link}{did}")
        return " and ".join(found)


def eyes_of(connection: Connection, state: State, role: str) -> Eyes:
    """Return who has seen the draft of a role; raises `RepositoryRefused`, `StorageError`."""
    drafted = _drafted(connection, state, role)
    if not drafted:
        return Eyes({}, (), {})  # made before there was a service, or by nobody who has an account
    signatures = _signatures(connection, role, state.drafts[role])
    wanted = drafted.keys() | frozenset[int]().union(*drafted.values()) | {item.holder for item in signatures}
    rows = connection.execute(select(ACCOUNTS.c.id, ACCOUNTS.c.name).where(ACCOUNTS.c.id.in_(wanted - {None})))
    return Eyes(drafted, signatures, {row.id: row.name for row in rows})


def satisfied(unit: Unit, role: str) -> bool:
    """Say whether somebody who did not draft it has signed the draft of a role; raises as `eyes_of`."""
    return eyes_of(unit.connection, unit.repository.state(), role).met


def _drafted(connection: Connection, state: State, role: str) -> dict[int, frozenset[int]]:
    """Who stands behind what a role's draft says beyond what is published, and by which accounts."""
    if not state.files.has(role):
        return {}
    files = state.files.of(role)
    done = files.settled.done if files.settled else frozenset[str]()
    query = select(CHANGES.c.account, CHANGES.c.behind)
    found: dict[int, set[int]] = defaultdict(set)
    for row in connection.execute(query.where(CHANGES.c.role == role, CHANGES.c.draft.in_(files.nodes.keys() - done))):
        for one in row.behind:
            found[one].add(row.account)
    return {one: frozenset(accounts) for one, accounts in found.items()}


def _signatures(connection: Connection, role: str, draft: Draft) -> tuple[Signature, ...]:
    people = (
        select(ACCOUNT_KEYS)
        .join(ACCOUNTS, ACCOUNTS.c.id == ACCOUNT_KEYS.c.account)
        .where(ACCOUNT_KEYS.c.keyid.in_(draft.signatures), ACCOUNTS.c.machine == 0, ACCOUNTS.c.disabled.is_(None))
    )
    held = {row.keyid: (row.account, frozenset(row.behind)) for row in connection.execute(people)}
    handed: dict[str, dict[int, frozenset[int]]] = defaultdict(dict)
    approvals = select(APPROVALS).where(APPROVALS.c.digest == draft.digest, APPROVALS.c.role == role)
    for row in connection.execute(approvals):
        handed[row.keyid][row.account] = frozenset(row.behind)
    nobody = None, frozenset[int]()
    return tuple(Signature(keyid, *held.get(keyid, nobody), handed[keyid]) for keyid in sorted(draft.signatures))
