"""Where a repository stands: per role what is published and until when, what is drafted, who has signed and who can, and what is next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hillhold_signer import encoding
from hillhold_signer.drafts import Quorum
from hillhold_signer.state import State

ROLES = ("root", "targets", "snapshot", "timestamp")


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """One role.

    Attributes:
        published, draft: versions, or None.
        expires: Unix seconds of the published version, or None.
        quorum: of the draft, or None.
    """

    role: str
    published: int | None
    expires: int | None
    draft: int | None
    digest: str | None
    quorum: Quorum | None


@dataclass(frozen=True, slots=True)
class Status:
    """A repository: its roles, and what to do next, in order."""

    demo: bool
    roles: tuple[RoleStatus, ...]
    todo: tuple[str, ...]


def status(state: State, people: Mapping[str, str], now: int, *, demo: bool) -> Status:
    """Judge a repository at `now` (Unix seconds); raises `RepositoryRefused` for damaged drafts."""
    lines = dict.fromkeys((*state.products(), *(role for role in state.drafts if role not in ROLES)))
    roles = tuple(_role(state, name) for name in (*ROLES, *lines))
    return Status(demo, roles, tuple(_todo(roles, people, now)))


def _role(state: State, name: str) -> RoleStatus:
    published, draft = state.published(name), state.drafts.get(name)
    return RoleStatus(
        name,
        published.version if published else None,
        encoding.unix(published.expires) if published else None,
        draft.signed.version if draft else None,
        draft.digest if draft else None,
        state.quorum(name) if draft else None,
    )


def _todo(roles: tuple[RoleStatus, ...], people: Mapping[str, str], now: int) -> list[str]:
    found = []
    drafted = [item for item in roles if item.quorum]
    for item in drafted:
        if item.quorum and not item.quorum.complete:
            names = ", ".join(sorted(people.get(keyid, keyid[:16]) for keyid in item.quorum.missing))
            found.append(f"sign {item.role}: {item.quorum} signatures; {names} can")
    if drafted and not found:
        found.append("publish: every draft has its signatures")
    for item in roles:
        if item.expires is not None and item.expires <= now and item.role in ("timestamp", "snapshot"):
            found.append(f"refresh: {item.role} has expired")
        elif item.expires is not None and item.expires <= now and item.draft is None:
            found.append(f"renew {item.role}: it has expired")
    if not drafted and all(item.published is None for item in roles if item.role not in ROLES):
        found.append("add a product line: `hillhold product add`")
    return found
