"""Who somebody is to the service, and what they may do there.

A grant is a role on a product line, or on all of them ("*"). No role holds another: an administrator signs nothing, a signer submits
nothing, unless that was granted, too. What belongs to no line (root, targets, accounts) is the line "*", which only a grant on "*" reaches.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from hillhold_signer.errors import SignerRefused
from hillhold_signer.layout import is_segment

EVERY: Final = "*"
"""All product lines, and what belongs to none."""
_NO_LINES: Final = ("root", "targets", "snapshot", "timestamp")
MAX_SHOWN: Final = 80
"""Characters of a text of somebody else's in a message or an event."""


class Role(StrEnum):
    """What somebody may do on a line. Whoever has one of them may read the line."""

    SUBMITTER = "submitter"
    """Draft: submit releases, withdraw them."""
    SIGNER = "signer"
    """See requests, hand in signatures."""
    ADMINISTRATOR = "administrator"
    """Change a line and its people; on "*", also root, targets and accounts."""
    AUDITOR = "auditor"
    """Read."""


Grant: TypeAlias = tuple[Role, str]


class UnauthenticatedRefused(SignerRefused):
    """Nobody knows who asks (HTTP 401).

    Attributes:
        reason: for the log: words of the service's own, and names that it keeps; never what was sent.
        records: what to record as `failed-login` events, (actor, reason) each; `authenticate` sets it.
    """

    def __init__(self, reason: str, *, hint: str | None = None) -> None:
        self.reason = reason
        self.records: tuple[tuple[str, str], ...] = ()
        super().__init__(
            "login", expected="a token, an identity or a certificate of this service", got=reason, hint=hint
        )


class ForbiddenRefused(SignerRefused):
    """Somebody asks for what they may not do (HTTP 403)."""


class NotFoundRefused(SignerRefused):
    """There is no such account, token or the like (HTTP 404)."""


class TooManyRefused(SignerRefused):
    """Too many requests, or failed logins (HTTP 429).

    Attributes:
        wait: seconds after which the next one is heard (Retry-After).
    """

    def __init__(self, what: str, wait: int) -> None:
        self.wait = wait
        super().__init__(f"too many {what}", hint=f"once more in {wait} s")


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who has logged in.

    Attributes:
        account_id: of `accounts`.
        name: of the account.
        machine: CI and the like, whose keys never count as a second pair of eyes.
        grants: what may be done: the account's grants now, and within them the token's scopes.
        behind: the accounts that stand behind what they do: their own, and those that stood behind whoever gave them the token, identity
            or certificate by which they logged in (`foureyes`). What they give others has all of these behind it.
        token: the id of the token by which they logged in, if it was one.
        until: when that token expires, Unix seconds.
    """

    account_id: int
    name: str
    machine: bool
    grants: frozenset[Grant]
    behind: frozenset[int]
    token: str | None = None
    until: int | None = None

    def holds(self, role: Role, line: str) -> bool:
        """Say whether they may act as `role` on `line`."""
        return covers(self.grants, (role, line))


def covers(grants: Iterable[Grant], wanted: Grant) -> bool:
    """Say whether a grant is among these, or one on all lines is."""
    role, line = wanted
    return any(held == role and where in (line, EVERY) for held, where in grants)


def within(scopes: Iterable[Grant], grants: frozenset[Grant]) -> frozenset[Grant]:
    """Return what both say: a token's scopes, as far as its account is granted them now."""
    found = set()
    for role, line in scopes:
        if covers(grants, (role, line)):
            found.add((role, line))
        elif line == EVERY:  # granted on all lines once, and on some now
            found.update((held, where) for held, where in grants if held == role)
    return frozenset(found)


def may_read(principal: Principal, line: str) -> bool:
    """Say whether they have any role on a line ("*": on all)."""
    return any(where in (line, EVERY) for _, where in principal.grants)


def require(principal: Principal, role: Role, line: str) -> None:
    """Refuse who is not `role` on `line`; raises `ForbiddenRefused`."""
    if not principal.holds(role, line):
        raise _forbidden(
            principal,
            f"{role} of {shown(line)}",
            f"`hillhold account grant '{principal.name}' {role} {_quoted(line)}`",
        )


def require_read(principal: Principal, line: str) -> None:
    """Refuse who has no role on `line`; raises `ForbiddenRefused`."""
    if not may_read(principal, line):
        raise _forbidden(
            principal,
            f"any role on {shown(line)}",
            f"`hillhold account grant '{principal.name}' auditor {_quoted(line)}`",
        )


def check_line(line: str) -> str:
    """Return a line that may be granted: a segment, or "*"; raises `SignerRefused`."""
    if line in _NO_LINES:  # it would grant nothing, and nobody would see that
        hint = "what belongs to no line is granted on '*'"
        raise SignerRefused("product line", expected="a name such as pump, or * for all", got=line, hint=hint)
    if line != EVERY and not is_segment(line):
        raise SignerRefused("product line", expected="a name such as pump, or * for all", got=shown(line))
    return line


def show_grants(grants: Iterable[Grant]) -> str:
    """Return grants as people read them."""
    return ", ".join(f"{role} of {line}" for role, line in sorted(grants)) or "nothing"


_UNSEEN: Final = re.compile(r"[^\x20-\x7e]")


def shown(text: str, limit: int = MAX_SHOWN) -> str:
    """Return a text of somebody else's as it may stand in a message or an event: short, and nothing but visible ASCII."""
    clean = _UNSEEN.sub("?", text[:limit])
    return clean if len(text) <= limit else f"{clean}..."


def _quoted(line: str) -> str:
    """A line as a shell takes it."""
    return "'*'" if line == EVERY else shown(line)


def _forbidden(principal: Principal, wanted: str, command: str) -> ForbiddenRefused:
    scoped = " (by this token)" if principal.token else ""
    hint = f"an administrator grants it: {command}" + (", and a new token has it then" if scoped else "")
    got = f"{principal.name}: {show_grants(principal.grants)}{scoped}"
    return ForbiddenRefused("permission", expected=wanted, got=got[:400], hint=hint)
