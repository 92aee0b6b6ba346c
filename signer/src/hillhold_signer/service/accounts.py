"""Accounts: people and machines, what they are granted, and the signing keys that a person holds.

Every change returns a `Change`: what to record as a `configuration` event, in the same transaction. Call these within a writing unit: what
they look at before they write (is there another administrator?) must still be so when they commit.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from sqlalchemy import Connection, Row, Select, Table, and_, delete, func, insert, select, update

from hillhold_signer.errors import SignerRefused
from hillhold_signer.service.access import EVERY, Grant, NotFoundRefused, Principal, Role, check_line, shown
from hillhold_signer.service.tables import ACCOUNT_KEYS, ACCOUNTS, GRANTS, IDENTITIES
from hillhold_verifier import canonical

MAX_NAME: Final = 80
"""Characters of an account's name."""
RESERVED: Final = frozenset({"service", "operator", "anonymous", "nobody", "online"})
"""What the service calls itself, and others who have no account, in its log."""

_KEYID: Final = re.compile(r"[0-9a-f]{64}")
_ADMINISTRATOR: Final[Grant] = (Role.ADMINISTRATOR, EVERY)


class AccountRefused(SignerRefused):
    """A change of accounts that may not be made."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account. `disabled` is the time of it, or None; `identities` are (issuer, subject) each."""

    id: int
    name: str
    machine: bool
    time: int
    disabled: int | None
    grants: frozenset[Grant] = frozenset()
    keys: tuple[str, ...] = ()
    identities: tuple[tuple[str, str], ...] = ()

    def describe(self) -> dict[str, object]:
        """Return what there is to know of it, for JSON."""
        return {
            "name": self.name,
            "machine": self.machine,
            "time": self.time,
            "disabled": self.disabled,
            "grants": [[str(role), line] for role, line in sorted(self.grants)],
            "keys": list(self.keys),
            "identities": [[issuer, subject] for issuer, subject in self.identities],
        }


@dataclass(frozen=True, slots=True)
class Change:
    """What to record of a change, as the fields of a `configuration` event.

    Attributes:
        what: in words.
        sha256: of the canonical JSON of what is so now (`Account.describe`, `Token.describe`).
    """

    what: str
    sha256: str

    @classmethod
    def of(cls, what: str, now_so: Mapping[str, object]) -> Change:
        """Make it."""
        return cls(what, sha256(canonical.canonical(now_so)).hexdigest())

    @property
    def fields(self) -> dict[str, str]:
        """The fields of the event."""
        return {"what": self.what, "sha256": self.sha256}


# --- reading --------------------------------------------------------------------------------------------------------------------------


def find(connection: Connection, name: str) -> Account:
    """Return an account by its name; raises `NotFoundRefused`."""
    known = (
        0 < len(name) <= MAX_NAME and name.isprintable()
    )  # else PostgreSQL refuses the query (NUL, half a surrogate pair)
    found = _load(connection, select(ACCOUNTS).where(ACCOUNTS.c.name == name)) if known else []
    if not found:
        raise NotFoundRefused(
            "account", expected="one that there is", got=repr(shown(name)), hint="`hillhold account list`"
        )
    return found[0]


def list_accounts(connection: Connection) -> list[Account]:
    """Return all accounts, by name."""
    return _load(connection, select(ACCOUNTS).order_by(ACCOUNTS.c.name))


def principal(connection: Connection, account_id: int, givers: Iterable[int]) -> Principal | None:
    """Return who has logged in, with what they are granted now; None where the account is disabled, or gone.

    Args:
        givers: the accounts behind what they logged in by.
    """
    query = (
        select(ACCOUNTS.c.name, ACCOUNTS.c.machine, GRANTS.c.role, GRANTS.c.line)
        .select_from(ACCOUNTS.outerjoin(GRANTS, GRANTS.c.account == ACCOUNTS.c.id))
        .where(ACCOUNTS.c.id == account_id, ACCOUNTS.c.disabled.is_(None))
    )
    rows = connection.execute(query).all()
    if not rows:
        return None
    grants = frozenset((Role(row.role), row.line) for row in rows if row.role is not None)
    return Principal(account_id, rows[0].name, bool(rows[0].machine), grants, frozenset((account_id, *givers)))


def holder(connection: Connection, keyid: str) -> str | None:
    """Return the name of the account that holds a signing key."""
    query = select(ACCOUNTS.c.name).join(ACCOUNT_KEYS).where(ACCOUNT_KEYS.c.keyid == keyid)
    found = connection.execute(query).scalar()
    return None if found is None else str(found)


# --- changing -------------------------------------------------------------------------------------------------------------------------


def create(connection: Connection, name: str, *, machine: bool, now: int) -> Change:
    """Make an account, which may do nothing yet.

    Raises:
        AccountRefused: a name that people could not tell from another, or that stands for something else in the log.
    """
    check_name(name)
    for other in connection.execute(select(ACCOUNTS.c.name)).scalars():
        if _folded(other) == _folded(name):
            hint = "names of disabled accounts stay used: the log speaks of them"
            expected = f"a name that nobody takes for that of {other}"
            raise AccountRefused("account", expected=expected, got=repr(name), hint=hint)
    connection.execute(insert(ACCOUNTS).values(name=name, machine=int(machine), time=now))
    return changed(connection, name, f"new account, a {'machine' if machine else 'person'}")


def disable(connection: Connection, name: str, *, now: int) -> Change:
    """Disable an account, for good: its tokens, identities and certificates stop working with this transaction.

    Its name and its keys stay what they are, since drafts and signatures speak of them.

    Raises:
        NotFoundRefused: no such account.
        AccountRefused: it is the last administrator, or disabled already.
    """
    account = enabled(connection, name)
    _keep_an_administrator(connection, account)
    connection.execute(update(ACCOUNTS).where(ACCOUNTS.c.id == account.id).values(disabled=now))
    return changed(connection, name, "disabled")


def grant(connection: Connection, name: str, role: Role, line: str) -> Change:
    """Grant a role on a line, or on all ("*").

    Raises:
        NotFoundRefused: no such account.
        AccountRefused: it is disabled, has the grant, or is a machine that would administer the service.
    """
    account, wanted = enabled(connection, name), (role, check_line(line))
    if wanted in account.grants:
        raise AccountRefused(f"grant to {name}", expected="one that it has not", got=f"{role} of {line}")
    if account.machine and wanted == _ADMINISTRATOR:
        hint = "accounts, root and targets are for people; a machine may be administrator of a line"
        raise AccountRefused(f"grant to {name}", expected="a person", got="a machine", hint=hint)
    connection.execute(insert(GRANTS).values(account=account.id, role=str(role), line=line))
    return changed(connection, name, f"granted {role} of {line}")


def ungrant(connection: Connection, name: str, role: Role, line: str) -> Change:
    """Withdraw a grant; what tokens were issued under it may do it no more.

    Raises:
        NotFoundRefused: no such account.
        AccountRefused: it has no such grant, or is the last administrator.
    """
    account, unwanted = find(connection, name), (role, check_line(line))
    if unwanted not in account.grants:
        raise AccountRefused(f"grant of {name}", expected="one that it has", got=f"{role} of {line}")
    if unwanted == _ADMINISTRATOR and account.disabled is None:
        _keep_an_administrator(connection, account)
    of = and_(GRANTS.c.account == account.id, GRANTS.c.role == str(role), GRANTS.c.line == line)
    connection.execute(delete(GRANTS).where(of))
    return changed(connection, name, f"no longer {role} of {line}")


def add_key(connection: Connection, by: Principal | None, name: str, keyid: str) -> Change:
    """Say that a person holds a signing key. Four eyes count people by it, so that it is nobody else's.

    Args:
        by: who says so, and is one with the key's holder for four eyes; None for the operator.
        keyid: of the public key, 64 hexadecimal digits.

    Raises:
        NotFoundRefused: no such account.
        AccountRefused: no key id, another account's, a machine's account, a disabled one.
    """
    account = enabled(connection, name)
    if not _KEYID.fullmatch(keyid):
        raise AccountRefused("key id", expected="64 hexadecimal digits", got=repr(shown(keyid)))
    if account.machine:
        raise AccountRefused(f"signing key of {name}", expected="a person", got="a machine")
    if (other := holder(connection, keyid)) is not None:
        raise AccountRefused(f"key {keyid[:16]}", expected="nobody's yet", got=f"a key of {other}")
    connection.execute(insert(ACCOUNT_KEYS).values(keyid=keyid, account=account.id, behind=behind(by)))
    return changed(connection, name, f"holds the key {keyid[:16]}")


def remove_key(connection: Connection, name: str, keyid: str) -> Change:
    """Say that an account does not hold a key; raises `NotFoundRefused`, `AccountRefused`."""
    account = find(connection, name)
    if keyid not in account.keys:
        raise AccountRefused(f"key of {name}", expected=", ".join(account.keys) or "none", got=repr(shown(keyid)))
    connection.execute(delete(ACCOUNT_KEYS).where(ACCOUNT_KEYS.c.keyid == keyid))
    return changed(connection, name, f"no longer holds the key {keyid[:16]}")


def behind(by: Principal | None) -> frozenset[int]:
    """Return the accounts that stand behind what somebody gives; none for the operator, who has the database itself."""
    return frozenset() if by is None else by.behind


def check_name(name: str) -> None:
    """Refuse a name that cannot stand in an event, a path or a list; raises `AccountRefused`."""
    wrong = (
        not 0 < len(name) <= MAX_NAME
        or not name.isprintable()
        or name != name.strip()
        or "/" in name
        or name in (".", "..")
        or unicodedata.normalize("NFKC", name) != name
    )
    if wrong:
        expected = f"1 to {MAX_NAME} characters that can be seen, without / and in their usual form"
        raise AccountRefused("name of an account", expected=expected, got=repr(shown(name)))
    if _folded(name) in RESERVED:
        raise AccountRefused("name of an account", expected="none that the log uses itself", got=repr(name))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name.casefold())


def enabled(connection: Connection, name: str) -> Account:
    """Return an account that may be changed; raises `NotFoundRefused`, `AccountRefused`."""
    account = find(connection, name)
    if account.disabled is not None:
        raise AccountRefused(f"account {name}", expected="one that is not disabled", got="disabled")
    return account


def _keep_an_administrator(connection: Connection, account: Account) -> None:
    """Refuse to take the last one: nobody could put it right."""
    if _ADMINISTRATOR not in account.grants:
        return
    others = (
        select(func.count())
        .select_from(ACCOUNTS.join(GRANTS, GRANTS.c.account == ACCOUNTS.c.id))
        .where(ACCOUNTS.c.disabled.is_(None), ACCOUNTS.c.id != account.id)
        .where(GRANTS.c.role == str(Role.ADMINISTRATOR), GRANTS.c.line == EVERY)
    )
    if not connection.execute(others).scalar_one():
        hint = "make somebody else administrator of * first"
        raise AccountRefused(f"account {account.name}", expected="another administrator", got="the last one", hint=hint)


def changed(connection: Connection, name: str, what: str) -> Change:
    """Return what to record of a change that was just made."""
    return Change.of(f"account {name}: {what}", find(connection, name).describe())


def _load(connection: Connection, query: Select[*tuple[object, ...]]) -> list[Account]:
    rows = connection.execute(query).all()
    one = rows[0].id if len(rows) == 1 else None
    grants: dict[int, set[Grant]] = {}
    for row in _rows_of(connection, GRANTS, one):
        grants.setdefault(row.account, set()).add((Role(row.role), row.line))
    keys: dict[int, list[str]] = {}
    for row in _rows_of(connection, ACCOUNT_KEYS, one):
        keys.setdefault(row.account, []).append(row.keyid)
    identities: dict[int, list[tuple[str, str]]] = {}
    for row in _rows_of(connection, IDENTITIES, one):
        identities.setdefault(row.account, []).append((row.issuer, row.subject))
    return [
        Account(
            row.id,
            row.name,
            bool(row.machine),
            row.time,
            row.disabled,
            frozenset(grants.get(row.id, ())),
            tuple(keys.get(row.id, ())),
            tuple(identities.get(row.id, ())),
        )
        for row in rows
    ]


def _rows_of(connection: Connection, table: Table, account: int | None) -> Iterable[Row[*tuple[object, ...]]]:
    """The rows of one account; of all, rather than a query for each, where it is None."""
    query = select(table).order_by(*table.primary_key.columns)
    return connection.execute(query if account is None else query.where(table.c.account == account))
