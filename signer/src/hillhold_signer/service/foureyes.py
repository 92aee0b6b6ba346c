"""Four eyes: who drafted something cannot be the only one who signs it.

Of the people whose valid signatures a draft has, one must have made none of the changes in it, or there must be two: then somebody else has
seen what each of them made. A key is a person's by `account_keys`; one that nobody holds, or a machine, counts for no eyes. That makes one
more condition, beside the quorum that metadata ask: it protects the team from one of its own, and devices do not depend on it.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import select

from hillhold_signer.service.tables import ACCOUNT_KEYS, ACCOUNTS, CHANGES
from hillhold_signer.service.unit import Unit


def submitters(unit: Unit, role: str) -> frozenset[int]:
    """Return the accounts that made what a role's draft says beyond what is published; raises `RepositoryRefused`, `StorageError`."""
    files = unit.repository.state().files
    if not files.has(role):
        return frozenset()
    found = files.of(role)
    done = found.settled.done if found.settled else frozenset[str]()
    rows = select(CHANGES.c.account).where(CHANGES.c.role == role, CHANGES.c.draft.in_(found.nodes.keys() - done))
    return frozenset(int(row[0]) for row in unit.connection.execute(rows))


def holders(unit: Unit, keyids: frozenset[str]) -> Mapping[str, int]:
    """Return the people who hold keys, by key id, as accounts; raises `StorageError`."""
    rows = (
        select(ACCOUNT_KEYS.c.keyid, ACCOUNT_KEYS.c.account)
        .join(ACCOUNTS, ACCOUNTS.c.id == ACCOUNT_KEYS.c.account)
        .where(ACCOUNT_KEYS.c.keyid.in_(keyids), ACCOUNTS.c.machine == 0, ACCOUNTS.c.disabled.is_(None))
    )
    return {str(row[0]): int(row[1]) for row in unit.connection.execute(rows)}


def satisfied(unit: Unit, role: str) -> bool:
    """Say whether somebody who did not draft it has signed the draft of a role; raises as `submitters`."""
    drafted = submitters(unit, role)
    if not drafted:
        return True  # made before there was a service, or by nobody who has an account
    signed = frozenset(unit.repository.state().drafts[role].signatures)
    people = set(holders(unit, signed).values())
    return len(people) > 1 or bool(people - drafted)
