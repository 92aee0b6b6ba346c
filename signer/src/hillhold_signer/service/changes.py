"""Who made which draft (`changes`): for people, and so that nobody approves what they drafted themselves (`foureyes`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hillhold_signer.drafts import Drafts
from hillhold_signer.service.access import Principal
from hillhold_signer.service.tables import CHANGES
from hillhold_signer.service.unit import Unit
from hillhold_verifier import canonical


def nodes_of(unit: Unit, role: str) -> frozenset[str]:
    """Return the names of a role's drafts, to compare with later; raises `RepositoryRefused`, `StorageError`."""
    return frozenset(Drafts(unit.repository.layout).nodes(role))


def note_changes(
    unit: Unit, principal: Principal, role: str, before: frozenset[str], what: Mapping[str, Any]
) -> tuple[str, ...]:
    """Note who made the drafts of a role that were not there before.

    Args:
        what: what was asked for, in JSON, for people.

    Returns:
        The digests of what the new drafts say.

    Raises:
        RepositoryRefused, StorageError: the repository.
    """
    new = {name: node for name, node in Drafts(unit.repository.layout).nodes(role).items() if name not in before}
    shown = canonical.dumps(dict(what)).decode()
    rows = [
        {
            "draft": name,
            "role": role,
            "digest": node.digest,
            "account": principal.account_id,
            "time": unit.now,
            "what": shown,
            "behind": principal.behind,
        }
        for name, node in new.items()
    ]
    if rows:
        unit.connection.execute(unit.store.database.insert_new(CHANGES), rows)
    return tuple(node.digest for node in new.values())
