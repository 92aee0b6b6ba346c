"""What is done with accounts and tokens, over HTTP by whoever has logged in, or by the operator at the service's own machine.

Each of these asks whether `by` may (None: the operator), does it, records it in the same transaction, and returns what is so now, for JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from hillhold_signer.log.events import Kind
from hillhold_signer.service import accounts, identities, tokens
from hillhold_signer.service.access import EVERY, Grant, Principal, Role, require
from hillhold_signer.service.accounts import Change
from hillhold_signer.service.unit import Unit

OPERATOR: Final = "operator"
"""Who acts at the service's own machine, in the log."""


def whoami(by: Principal) -> dict[str, Any]:
    """Tell who has logged in, and what they may do."""
    grants = [[str(role), line] for role, line in sorted(by.grants)]
    return {"name": by.name, "machine": by.machine, "grants": grants, "token": by.token, "until": by.until}


def list_accounts(unit: Unit, by: Principal | None) -> dict[str, Any]:
    """Tell of all accounts; raises `ForbiddenRefused` for who is neither administrator nor auditor of "*"."""
    _may_look(by)
    return {"accounts": [account.describe() for account in accounts.list_accounts(unit.connection)]}


def show_account(unit: Unit, by: Principal | None, name: str) -> dict[str, Any]:
    """Tell of one account, which everybody may do of their own; raises `ForbiddenRefused`, `NotFoundRefused`."""
    if by is None or by.name != name:
        _may_look(by)
    return accounts.find(unit.connection, name).describe()


def create_account(unit: Unit, by: Principal | None, name: str, *, machine: bool) -> dict[str, Any]:
    """Make an account; raises `ForbiddenRefused`, and as `accounts.create`."""
    return _administer(unit, by, name, lambda: accounts.create(unit.connection, name, machine=machine, now=unit.now))


def disable_account(unit: Unit, by: Principal | None, name: str) -> dict[str, Any]:
    """Disable an account; raises `ForbiddenRefused`, and as `accounts.disable`."""
    return _administer(unit, by, name, lambda: accounts.disable(unit.connection, name, now=unit.now))


def set_grant(unit: Unit, by: Principal | None, name: str, role: Role, line: str, *, held: bool) -> dict[str, Any]:
    """Grant, or withdraw; raises `ForbiddenRefused`, and as `accounts.grant`, `accounts.ungrant`."""
    change = accounts.grant if held else accounts.ungrant
    return _administer(unit, by, name, lambda: change(unit.connection, name, role, line))


def set_key(unit: Unit, by: Principal | None, name: str, keyid: str, *, held: bool) -> dict[str, Any]:
    """Say who holds a key, or does not; raises `ForbiddenRefused`, and as `accounts.add_key`, `accounts.remove_key`."""
    if not held:
        return _administer(unit, by, name, lambda: accounts.remove_key(unit.connection, name, keyid))
    return _administer(unit, by, name, lambda: accounts.add_key(unit.connection, by, name, keyid))


def set_identity(
    unit: Unit, by: Principal | None, name: str, issuer: str, subject: str, *, held: bool
) -> dict[str, Any]:
    """Say whom an outside word stands for, or does not; raises `ForbiddenRefused`, and as `identities`."""
    if not held:
        return _administer(unit, by, name, lambda: identities.remove_identity(unit.connection, name, issuer, subject))
    return _administer(unit, by, name, lambda: identities.add_identity(unit.connection, by, name, issuer, subject))


def list_tokens(unit: Unit, by: Principal | None, name: str | None) -> dict[str, Any]:
    """Tell of an account's tokens (None: all), which everybody may do of their own; raises `ForbiddenRefused`, `NotFoundRefused`."""
    if by is None or by.name != name:
        _may_look(by)
    return {"tokens": [token.describe() for token in tokens.list_tokens(unit.connection, name)]}


def issue_token(
    unit: Unit,
    by: Principal | None,
    name: str,
    *,
    scopes: Iterable[Grant] | None,
    label: str,
    lifetime: int | None,
    random: Callable[[int], bytes],
) -> dict[str, Any]:
    """Issue a token: `token` is its text, shown this once; raises as `tokens.issue`."""
    issued = tokens.issue(
        unit.connection, by, name, scopes=scopes, label=label, lifetime=lifetime, now=unit.now, random=random
    )
    _record(unit, by, issued.change)
    return {**issued.token.describe(), "token": issued.text}


def revoke_token(unit: Unit, by: Principal | None, identifier: str) -> dict[str, Any]:
    """Revoke a token; raises as `tokens.revoke`."""
    _record(unit, by, tokens.revoke(unit.connection, by, identifier, unit.now))
    return {"id": identifier, "revoked": unit.now}


def _administer(unit: Unit, by: Principal | None, name: str, change: Callable[[], Change]) -> dict[str, Any]:
    if by is not None:
        require(by, Role.ADMINISTRATOR, EVERY)
    _record(unit, by, change())
    return accounts.find(unit.connection, name).describe()


def _may_look(by: Principal | None) -> None:
    if by is not None and not by.holds(Role.AUDITOR, EVERY):
        require(by, Role.ADMINISTRATOR, EVERY)


def _record(unit: Unit, by: Principal | None, change: Change) -> None:
    unit.record(Kind.CONFIGURATION, by.name if by else OPERATOR, **change.fields)
