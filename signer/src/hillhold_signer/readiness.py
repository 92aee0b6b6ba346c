"""Which drafts can be published now, while the others wait for their signatures.

A complete draft may still have to wait for another: its signatures count, or its releases are allowed, only under a draft of its
delegator that is not complete; or it asks for other signatures on a role below, or allows that less, and the next version of that role is
not complete.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from tuf.api.metadata import Root, Targets

from hillhold_signer.chain import line_names
from hillhold_signer.drafts import Draft, quorum
from hillhold_signer.encoding import parse
from hillhold_signer.errors import ProductRefused, RepositoryRefused
from hillhold_signer.layout import Layout, file_name
from hillhold_signer.limits import check_limits
from hillhold_signer.products import caps_of
from hillhold_signer.state import State, published_files


def ready_roles(layout: Layout, state: State, able: Callable[[str], bool] = lambda _: True) -> tuple[str, ...]:
    """Return the roles whose drafts are complete, and wait for no draft that is not.

    Args:
        able: whether a complete draft may be published, by further rules.

    What is wrong for another reason than that something is not signed yet is among these: publishing refuses it, and says why.

    Raises:
        MergeRefused: drafts of root or targets do not go together.
        RepositoryRefused, StorageError: the repository.
    """
    found = [role for role in state.drafts if state.quorum(role).complete and able(role)]
    while waiting := {role for role in found if _waits(layout, state, role, found)}:
        found = [role for role in found if role not in waiting]
    return tuple(found)


def published_suffices(layout: Layout, state: State, delegator: Root | Targets, role: str) -> bool:
    """Say whether the published signatures on targets or a line are enough for a delegator; no where nothing is published."""
    if (published := state.published(role)) is None:
        return False
    metadata, payload = parse(published_files(layout, file_name(role, published.version)) or b"", Targets)
    return bool(delegator.get_verification_result(role, payload, metadata.signatures).verified)


def _waits(layout: Layout, state: State, role: str, ready: Collection[str]) -> bool:
    draft = state.drafts[role]
    by = "root" if role == "targets" else "targets"
    if role != "root" and by in state.drafts and by not in ready and not _counts_now(draft, state.published(by)):
        return True
    below = ["targets"] if role == "root" else line_names(draft.signed) if isinstance(draft.signed, Targets) else []
    drafted = (name for name in below if name not in ready and (name in state.drafts or name in state.clashes))
    return not all(_stays(layout, state, draft.signed, name) for name in drafted)


def _counts_now(draft: Draft, delegator: object) -> bool:
    """Whether a draft may be published under the published version of its delegator."""
    if not isinstance(delegator, Root | Targets):
        return False
    try:
        return quorum(draft, (delegator,)).complete and _is_allowed(delegator, draft.role, draft.signed)
    except RepositoryRefused:
        return False  # a new line


def _stays(layout: Layout, state: State, delegator: Root | Targets, role: str) -> bool:
    """Whether the published version of a role may stay under the next version of its delegator."""
    if (published := state.published(role)) is None:
        return role != "targets"  # a new line may come later
    return published_suffices(layout, state, delegator, role) and _is_allowed(delegator, role, published)


def _is_allowed(delegator: Root | Targets, role: str, signed: object) -> bool:
    if not isinstance(delegator, Targets) or not isinstance(signed, Targets):
        return True
    try:
        check_limits(role, caps_of(delegator, role), signed)
    except ProductRefused:
        return False
    return True
