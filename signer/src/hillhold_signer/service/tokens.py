"""API tokens: `hh_ID_SECRET`, where ID names the row and SECRET is 256 random bits. The database holds SHA-256 of the secret.

A fast hash is right here: nobody guesses 256 random bits, and a copy of the database gives no token back. A token says the most that it may
do; what it does is that much of what its account is granted at each use.
"""

from __future__ import annotations

import hmac
import json
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, func, insert, or_, select, update

from hillhold_signer.durations import show_duration
from hillhold_signer.service.access import (
    EVERY,
    ForbiddenRefused,
    Grant,
    NotFoundRefused,
    Principal,
    Role,
    UnauthenticatedRefused,
    covers,
    show_grants,
    shown,
    within,
)
from hillhold_signer.service.accounts import Account, AccountRefused, Change, behind, find
from hillhold_signer.service.tables import ACCOUNTS, GRANTS, TOKENS
from hillhold_verifier.times import show_time

PREFIX: Final = "hh_"
ID_BYTES: Final = 12
SECRET_BYTES: Final = 32
DEFAULT_LIFETIME: Final = 90 * 86_400
MAX_LIFETIME: Final = 365 * 86_400
MAX_LABEL: Final = 80
"""Characters."""
MAX_TOKENS: Final = 100
"""Tokens of an account that work at one time."""
TOUCH_AFTER: Final = 3600
"""Seconds: `used` is as exact as that, so that a use rarely writes."""

_FORM: Final = re.compile(r"hh_([0-9a-f]{24})_([0-9a-f]{64})")
_ID: Final = re.compile(r"[0-9a-f]{24}")
_NOBODYS: Final = sha256(b"").hexdigest()  # what the secret of an unknown id is compared with; no secret is empty
_KNOWN: Final = (  # asked with each request, and made once: that takes longer
    select(TOKENS, ACCOUNTS.c.name.label("account_name"), ACCOUNTS.c.machine, ACCOUNTS.c.disabled)
    .add_columns(GRANTS.c.role, GRANTS.c.line)
    .select_from(TOKENS.join(ACCOUNTS).outerjoin(GRANTS, GRANTS.c.account == ACCOUNTS.c.id))
    .where(TOKENS.c.id == bindparam("wanted"))
)


@dataclass(frozen=True, slots=True)
class Token:
    """A token without its secret. Times are Unix seconds; `used` is up to an hour old."""

    id: str
    account: str
    label: str
    scopes: frozenset[Grant]
    time: int
    expires: int
    revoked: int | None = None
    used: int | None = None

    def describe(self) -> dict[str, object]:
        """Return what there is to know of it, for JSON."""
        return {
            "id": self.id,
            "account": self.account,
            "label": self.label,
            "scopes": [[str(role), line] for role, line in sorted(self.scopes)],
            "time": self.time,
            "expires": self.expires,
            "revoked": self.revoked,
            "used": self.used,
        }


@dataclass(frozen=True, slots=True, repr=False)
class Issued:
    """A new token: its text, which nobody sees again, the token, and what to record."""

    text: str
    token: Token
    change: Change


def parse(text: str) -> tuple[str, bytes]:
    """Return the id and the secret of a token in its one form; raises `UnauthenticatedRefused`."""
    match = _FORM.fullmatch(text)
    if match is None:
        hint = "a token is hh_ID_SECRET, as `hillhold token new` printed it"
        raise UnauthenticatedRefused("a token of another form", hint=hint)
    return match[1], bytes.fromhex(match[2])


def issue(
    connection: Connection,
    by: Principal | None,
    name: str,
    *,
    scopes: Iterable[Grant] | None = None,
    label: str,
    lifetime: int | None = None,
    now: int,
    random: Callable[[int], bytes],
) -> Issued:
    """Issue a token for an account.

    A person issues for themselves, an administrator for machines, too: with a token for another person, an administrator could submit in
    that person's name, and sign alone what they submitted. Machines issue none.

    Args:
        connection: within a writing unit.
        by: who asks, and stands behind what is done with it; None for the operator, who has the database itself.
        name: the account.
        scopes: what it may do at most; all that may be given, where it is None.
        label: what it is for, in the words of whoever asks.
        lifetime: seconds; where it is None, 90 days, or what is left of the token that asks for it.
        now: Unix seconds.
        random: returns so many random bytes.

    Raises:
        NotFoundRefused: no such account.
        ForbiddenRefused: for another person, by a machine, or more than whoever asks holds: in scopes, or in time, if they hold a token.
        AccountRefused: scopes that the account is not granted, a lifetime or label out of bounds, too many tokens.
    """
    account = find(connection, name)
    own = by is not None and by.account_id == account.id
    may_give = by.grants if by is not None and own else account.grants
    _check_issuer(by, account)
    wanted = frozenset(may_give if scopes is None else scopes)
    _check_scopes(wanted, account, by if own else None)
    last = by.until if by is not None and own else None
    if lifetime is None:
        lifetime = DEFAULT_LIFETIME if last is None else min(DEFAULT_LIFETIME, last - now)
    if not 0 < lifetime <= MAX_LIFETIME:
        got = f"{lifetime} s"
        raise AccountRefused("lifetime of a token", expected=f"up to {show_duration(MAX_LIFETIME)}", got=got)
    if last is not None and now + lifetime > last:
        hint = "log in by OpenID Connect or a certificate, or ask the operator, for one that lasts longer"
        expected = f"at most that of the token that asks for it, until {show_time(last)}"
        raise ForbiddenRefused("lifetime of a token", expected=expected, got=show_time(now + lifetime), hint=hint)
    if not 0 < len(label) <= MAX_LABEL or not label.isprintable():
        raise AccountRefused("label of a token", expected=f"1 to {MAX_LABEL} visible characters", got=shown(label))
    alive = TOKENS.c.revoked.is_(None) & (TOKENS.c.expires > now) & (TOKENS.c.account == account.id)
    if connection.execute(select(func.count()).select_from(TOKENS).where(alive)).scalar_one() >= MAX_TOKENS:
        raise AccountRefused(f"tokens of {name}", expected=f"at most {MAX_TOKENS}", hint="revoke what nobody uses")
    secret = random(SECRET_BYTES)
    token = Token(random(ID_BYTES).hex(), name, label, wanted, now, now + lifetime)
    connection.execute(
        insert(TOKENS).values(
            id=token.id,
            account=account.id,
            secret=sha256(secret).hexdigest(),
            label=label,
            scopes=json.dumps(token.describe()["scopes"]),
            time=now,
            expires=token.expires,
            behind=behind(by),
        )
    )
    change = Change.of(f"token {token.id} of {name}: issued until {show_time(token.expires)}", token.describe())
    return Issued(f"{PREFIX}{token.id}_{secret.hex()}", token, change)


def check(connection: Connection, text: str, now: int) -> Principal:
    """Return whose token it is, with what it may do now; by one statement.

    An unknown id and a wrong secret get one answer, after the same work. Whoever has the secret learns why it does not work.

    Raises:
        UnauthenticatedRefused: no token of this service, or one that works no more.
    """
    identifier, secret = parse(text)
    rows = _rows(connection, identifier)
    row = rows[0] if rows else None
    same = hmac.compare_digest(sha256(secret).hexdigest(), row.secret if row else _NOBODYS)
    if row is None or not same:
        raise UnauthenticatedRefused("an unknown token")
    return _judged(rows, now)


def check_id(connection: Connection, identifier: str, now: int) -> Principal:
    """Return whose token it is, of which somebody has shown the secret before: for a session. Raises as `check`."""
    rows = _rows(connection, identifier)
    if not rows:
        raise UnauthenticatedRefused("an unknown token")
    return _judged(rows, now)


def _rows(connection: Connection, identifier: str) -> Sequence[Row[*tuple[Any, ...]]]:
    """A token with its account, once for each of the account's grants; none where there is no such token."""
    return connection.execute(_KNOWN, {"wanted": identifier}).all()


def _judged(rows: Sequence[Row[*tuple[Any, ...]]], now: int) -> Principal:
    row = rows[0]
    if row.revoked is not None:
        raise UnauthenticatedRefused(f"the token {row.id}, which was revoked")
    if now >= row.expires:
        raise UnauthenticatedRefused(f"the token {row.id}, which expired {show_time(row.expires)}")
    if row.disabled is not None:
        raise UnauthenticatedRefused(f"the token {row.id} of a disabled account")
    granted = frozenset((Role(item.role), item.line) for item in rows if item.role is not None)
    grants = within(_scopes(row.scopes), granted)
    givers = frozenset((row.account, *row.behind))
    return Principal(row.account, row.account_name, bool(row.machine), grants, givers, row.id, row.expires)


def touch(connection: Connection, identifier: str, now: int) -> None:
    """Write that a token was used, unless that was written less than an hour ago. In a transaction of its own, after the request's."""
    old = or_(TOKENS.c.used.is_(None), TOKENS.c.used <= now - TOUCH_AFTER)
    connection.execute(update(TOKENS).where(TOKENS.c.id == identifier, old).values(used=now))


class Uses:
    """Uses of tokens, noted in memory until a task writes them: no request waits for that. A replica that dies loses a minute of them."""

    def __init__(self) -> None:
        self._noted: dict[str, int] = {}
        self._lock = threading.Lock()

    def note(self, identifier: str, now: int) -> None:
        """Note that a token, which was found good, was used."""
        with self._lock:
            self._noted[identifier] = now

    def write(self, transaction: Callable[[], AbstractContextManager[Connection]]) -> None:
        """Write what was noted; what `transaction` raises leaves it noted."""
        with self._lock:
            noted = dict(self._noted)
        if not noted:
            return
        with transaction() as connection:
            for identifier, now in sorted(
                noted.items()
            ):  # in one order everywhere, so that two replicas do not block each other
                touch(connection, identifier, now)
        with self._lock:
            for identifier, now in noted.items():
                if self._noted.get(identifier) == now:
                    del self._noted[identifier]


def list_tokens(connection: Connection, name: str | None = None) -> list[Token]:
    """Return the tokens of an account, or all: the newest first. Raises `NotFoundRefused`."""
    query = select(TOKENS, ACCOUNTS.c.name).join(ACCOUNTS).order_by(TOKENS.c.time.desc(), TOKENS.c.id)
    if name is not None:
        query = query.where(TOKENS.c.account == find(connection, name).id)
    return [_token(row) for row in connection.execute(query)]


def revoke(connection: Connection, by: Principal | None, identifier: str, now: int) -> Change:
    """Revoke a token: one's own, any as administrator or (None) operator.

    Raises:
        NotFoundRefused: no such token, or somebody else's.
        AccountRefused: it was revoked already.
    """
    query = select(TOKENS, ACCOUNTS.c.name).join(ACCOUNTS).where(TOKENS.c.id == identifier)
    row = connection.execute(query).one_or_none() if _ID.fullmatch(identifier) else None
    if row is not None and by is not None and by.account_id != row.account and not _administers(by):
        row = None
    if row is None:
        raise NotFoundRefused(
            "token",
            expected="one that there is",
            got=repr(shown(identifier)),
            hint="`hillhold token list` names them by id",
        )
    if row.revoked is not None:
        raise AccountRefused(
            f"token {identifier}", expected="one that is not revoked", got=f"revoked {show_time(row.revoked)}"
        )
    connection.execute(update(TOKENS).where(TOKENS.c.id == identifier).values(revoked=now))
    now_so = next(token for token in list_tokens(connection, row.name) if token.id == identifier)
    return Change.of(f"token {identifier} of {row.name}: revoked", now_so.describe())


def _administers(by: Principal) -> bool:
    return by.holds(Role.ADMINISTRATOR, EVERY)


def _check_issuer(by: Principal | None, account: Account) -> None:
    if account.disabled is not None:
        raise AccountRefused(f"account {account.name}", expected="one that is not disabled", got="disabled")
    if by is None:
        return
    if by.machine:
        raise ForbiddenRefused("new token", expected="a person who asks for it", got=f"{by.name}, a machine")
    if by.account_id != account.id and not _administers(by):
        raise ForbiddenRefused(
            "new token", expected=f"one for {by.name}, or an administrator", got=f"one for {account.name}"
        )
    if by.account_id != account.id and not account.machine:
        hint = f"each person issues their own; the operator issues a first one: `{first_token(account.name)}`"
        raise ForbiddenRefused(
            "new token", expected="one for a machine, or for oneself", got=f"one for {account.name}", hint=hint
        )


def _check_scopes(wanted: frozenset[Grant], account: Account, own: Principal | None) -> None:
    if not wanted:
        raise AccountRefused("scopes of a token", expected="at least one", got="none", hint="`hillhold account grant`")
    if own is not None and (unheld := [scope for scope in sorted(wanted) if not covers(own.grants, scope)]):
        expected = f"at most {show_grants(own.grants)}"[:400]
        hint = f"a token gives no more than it has; the operator issues one with all that you are granted: `{first_token(account.name)}`"
        raise ForbiddenRefused("scopes of a token", expected=expected, got=shown(show_grants(unheld), 200), hint=hint)
    if unheld := [scope for scope in sorted(wanted) if not covers(account.grants, scope)]:
        expected = f"what {account.name} is granted: {show_grants(account.grants)}"[:400]
        raise AccountRefused("scopes of a token", expected=expected, got=shown(show_grants(unheld), 200))


def first_token(name: str) -> str:
    """Return what the operator types on the service's own machine, so that somebody gets a token."""
    return f"hillhold token new LABEL --account '{name}' --data DATA"


def _scopes(text: str) -> frozenset[Grant]:
    return frozenset((Role(role), line) for role, line in json.loads(text))


def _token(row: Row[*tuple[object, ...]]) -> Token:
    return Token(row.id, row.name, row.label, _scopes(row.scopes), row.time, row.expires, row.revoked, row.used)
