"""Identities: which account an outside word stands for.

An identity is an issuer, and a subject: conditions that all must hold, as `claim=value` with " & " between. For example

    https://login.example                               sub=248289761001
    https://login.example                               email=ada@example.org
    https://token.actions.githubusercontent.com         repository=acme/pump & ref=refs/tags/v*
    x509                                                sha256=… (of the certificate), or uri=spiffe://acme/ci/pump

A value may end with `*`, which stands for one or more characters, but no "/": so `refs/tags/v*` is no way out of a repository. One
condition at least names somebody exactly (`NAMING`): "any protected branch", alone, would be one of anybody's repositories.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, and_, delete, insert, select

from hillhold_signer.service.access import Principal, UnauthenticatedRefused, shown
from hillhold_signer.service.accounts import AccountRefused, Change, behind, changed, enabled, find, principal
from hillhold_signer.service.tables import ACCOUNTS, IDENTITIES

X509: Final = "x509"
"""The issuer of certificates."""
MAX_TEXT: Final = 255
"""Characters of an issuer, or a subject."""
NAMING: Final = frozenset({"sub", "email", "repository", "repository_id", "project_path", "project_id"})
"""Claims that say who it is, as against how, when or where."""
OWN: Final = frozenset({"iss", "aud", "exp", "nbf", "iat", "jti"})
"""Claims that are judged for every token, and name nobody."""

_CONDITION: Final = re.compile(
    r"([A-Za-z0-9_./:-]{1,100})=([\x21-\x25\x27-\x29\x2b-\x7e][\x20-\x25\x27-\x29\x2b-\x7e]*\*?)"
)
_X509: Final = re.compile(r"sha256=[0-9a-f]{64}|uri=[a-z][a-z0-9+.-]*:[\x21-\x25\x27-\x29\x2b-\x7e]+")


def add_identity(connection: Connection, by: Principal | None, name: str, issuer: str, subject: str) -> Change:
    """Say that an outside word stands for an account.

    Args:
        connection: within a writing unit.
        by: who says so, and stands behind what is done by it; None for the operator.
        name: the account.
        issuer: the URL of an OpenID Connect issuer, or "x509".
        subject: the conditions.

    Raises:
        NotFoundRefused: no such account.
        AccountRefused: conditions that are malformed or name nobody, or are another account's; a disabled account.
    """
    account = enabled(connection, name)
    text = _check(issuer, subject)
    query = select(ACCOUNTS.c.name).join(IDENTITIES).where(IDENTITIES.c.issuer == issuer, IDENTITIES.c.subject == text)
    if (other := connection.execute(query).scalar()) is not None:
        raise AccountRefused("identity", expected="one that stands for nobody yet", got=f"one of {other}")
    connection.execute(insert(IDENTITIES).values(issuer=issuer, subject=text, account=account.id, behind=behind(by)))
    return changed(connection, name, f"is also {text} of {issuer}")


def remove_identity(connection: Connection, name: str, issuer: str, subject: str) -> Change:
    """Say that it stands for the account no more; raises `NotFoundRefused`, `AccountRefused`."""
    account = find(connection, name)
    if (issuer, subject) not in account.identities:
        got = f"{shown(subject)} of {shown(issuer)}"
        raise AccountRefused(f"identity of {name}", expected="one that it has", got=got)
    of = and_(IDENTITIES.c.issuer == issuer, IDENTITIES.c.subject == subject)
    connection.execute(delete(IDENTITIES).where(of))
    return changed(connection, name, f"is no longer {subject} of {issuer}")


def check(connection: Connection, issuer: str, claims: Mapping[str, str]) -> Principal:
    """Return for whom verified claims of an issuer stand, with what they may do now.

    Args:
        connection: a snapshot.
        issuer: who vouches for them.
        claims: by name; only what the issuer was verified to say.

    Raises:
        UnauthenticatedRefused: for nobody, for two accounts, or for one that is disabled.
    """
    rows = connection.execute(select(IDENTITIES).where(IDENTITIES.c.issuer == issuer)).all()
    found = [row for row in rows if matches(row.subject, claims)]
    accounts = {row.account for row in found}
    if len(accounts) != 1:
        many = "more than one account" if accounts else "no account"
        raise UnauthenticatedRefused(
            f"an identity of {issuer} that stands for {many}", hint="`hillhold account identity`"
        )
    who = principal(connection, accounts.pop(), frozenset[int]().union(*(row.behind for row in found)))
    if who is None:
        raise UnauthenticatedRefused(f"an identity of {issuer} whose account is disabled")
    return who


def matches(subject: str, claims: Mapping[str, str]) -> bool:
    """Say whether all conditions of a subject hold."""
    return all(
        _holds(value, claims.get(claim)) for claim, _, value in (one.partition("=") for one in subject.split(" & "))
    )


def _holds(wanted: str, value: str | None) -> bool:
    if value is None or not wanted.endswith("*"):
        return value == wanted
    rest = value[len(wanted) - 1 :]
    return value.startswith(wanted[:-1]) and rest != "" and "/" not in rest


def _check(issuer: str, subject: str) -> str:
    """Return the subject in its one form: sorted, each claim once."""
    if len(issuer) > MAX_TEXT or len(subject) > MAX_TEXT:
        raise AccountRefused(
            "identity", expected=f"at most {MAX_TEXT} characters each", got=max(len(issuer), len(subject))
        )
    if issuer == X509:
        if not _X509.fullmatch(subject):
            expected = "sha256=HEX of the certificate, or uri=URI as its SAN says it"
            raise AccountRefused("identity", expected=expected, got=repr(shown(subject)))
        return subject
    if not re.fullmatch(r"https?://[\x21-\x7e]+", issuer):
        raise AccountRefused("issuer of an identity", expected="its URL, or x509", got=repr(shown(issuer)))
    found: dict[str, str] = {}
    for one in subject.split(" & "):
        match = _CONDITION.fullmatch(one)
        if not match or match[1] in found or match[1] in OWN or one.endswith(" "):
            expected = "CLAIM=VALUE & CLAIM=VALUE, each claim once, * only at the end of a value"
            raise AccountRefused("identity", expected=expected, got=repr(shown(one)))
        found[match[1]] = match[2].lower() if match[1] == "email" else match[2]
    if not any(claim in NAMING and not value.endswith("*") for claim, value in found.items()):
        expected = f"an exact value for one of {', '.join(sorted(NAMING))}"
        raise AccountRefused("identity", expected=expected, got=repr(shown(subject)))
    return " & ".join(f"{claim}={value}" for claim, value in sorted(found.items()))
