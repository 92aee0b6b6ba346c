"""Changes of keys: a new root by a ceremony file, a role dated anew, a key that must not be trusted any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tuf.api.metadata import Root, Targets

from hillhold_signer.ceremony import Ceremony, check_known
from hillhold_signer.edit import Edit
from hillhold_signer.errors import RepositoryRefused, RotationRefused
from hillhold_signer.readiness import published_suffices
from hillhold_signer.repository import Repository
from hillhold_signer.revocation import Revoked, history, read_revoked, write_revoked
from hillhold_signer.rotation import ONLINE, check_roots, keep_named, named_keys
from hillhold_signer.state import State

MIN_START: Final = 8
"""Digits by which a key id is recognised."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """A new root, as `rotate` drafted it.

    Attributes:
        reissued: roles that the new keys have to sign again, unchanged, since the old signatures do not suffice.
        revoked: product lines in which a revoked key is still trusted, by key id.
    """

    old: Root
    new: Root
    reissued: tuple[str, ...]
    revoked: Mapping[str, tuple[str, ...]]


def rotate(repository: Repository, ceremony: Ceremony, now: int, *, dry_run: bool = False) -> Rotation:
    """Draft the root that a ceremony file describes, after the one that is published.

    Args:
        now: Unix seconds.
        dry_run: check all of it, and write nothing.

    Raises:
        CeremonyRefused, PublicKeyMaterialRefused: the ceremony.
        RotationRefused: it would let old files come back to life, or trusts a revoked key.
        MergeRefused: drafts of root or targets that do not go together.
        RepositoryRefused, StorageError: the repository; nothing is published yet.
    """
    with repository.edit(now) as edit:
        ceremony.check(demo=edit.config.demo)
        people = repository.people()
        for item in (*ceremony.root.keys, *ceremony.targets.keys):
            check_known(item, people)
        for role in ("root", "targets"):
            edit.state.newest(role)  # a clash is refused here, before the settings change
        old, targets = _published(edit)
        new = ceremony.root_after(old, now, demo=edit.config.demo)
        keep_named(new, old, edit.state.root())  # the draft too, which this one replaces
        check_roots(history(edit.layout), new)
        revoked = read_revoked(edit.layout)
        if back := sorted(new.keys.keys() & revoked.keys()):
            what = f"key of {ceremony.names().get(back[0], back[0][:16])}"
            raise RotationRefused(what, expected="one that was not revoked", got=revoked[back[0]].reason[:80])
        reissued = () if still_signed(new, "targets", edit) else ("targets",)
        if not dry_run:
            edit.remember(ceremony.names())
            online = {keyid: uri for keyid, uri in edit.config.online.items() if keyid in old.keys}
            edit.configure(replace(edit.config, expiry=ceremony.expiry, online=online | ceremony.online()))
            for role in reissued:
                edit.reissue(role)
            edit.save("root", new)
        lines = {keyid: tuple(places) for keyid, places in named_keys(new, targets).items() if keyid in revoked}
    return Rotation(old, new, reissued, lines)


def renew(repository: Repository, roles: Sequence[str], now: int) -> dict[str, int]:
    """Draft the next version of roles as they are, dated anew, before they expire.

    Returns:
        The versions by role.

    Raises:
        ProductRefused: neither root nor targets nor a product line.
        RepositoryRefused, StorageError: timestamp or snapshot, which nobody signs by hand; or the repository.
    """
    if online := [role for role in roles if role in ONLINE]:
        hint = "timestamp and snapshot are renewed by `hillhold refresh`"
        raise RepositoryRefused("role", expected="root, targets or a product line", got=online[0], hint=hint)
    with repository.edit(now) as edit:
        for role in roles:  # all of them are there, before one is drafted
            _ = edit.root() if role == "root" else edit.targets() if role == "targets" else edit.line(role)
        for role in roles:
            edit.reissue(role)
    return {role: repository.state().drafts[role].signed.version for role in roles}


def revoke(repository: Repository, who: str, reason: str, now: int) -> dict[str, list[str]]:
    """Note that somebody else may have a key: from now on, nothing is published that trusts it.

    Args:
        who: a person's name, "snapshot" or "timestamp", or a key id or its start.
        now: Unix seconds.

    Returns:
        Where the keys are trusted until a publication takes them away, by key id.

    Raises:
        RotationRefused: nobody of that name, or several; no reason.
        RepositoryRefused, StorageError: the repository.
    """
    with repository.edit(now) as edit:
        root, targets = _published(edit)
        places, drafted = named_keys(root, targets), named_keys(edit.state.root(), edit.state.targets())
        # A key that is only drafted is meant where no published one is: it may be the one that takes a stolen one's place.
        known = {**drafted, **places} if not _meant(who, places, repository.people()) else places
        found = whose(who, known, repository.people())
        for keyid in found:
            write_revoked(edit.layout, Revoked(keyid, reason, now))
    return {keyid: known[keyid] for keyid in found}


def whose(who: str, places: Mapping[str, Sequence[str]], people: Mapping[str, str]) -> list[str]:
    """Return the key ids that somebody means: a person's, an online role's, or the one that starts so.

    Raises:
        RotationRefused: none, or a start that fits several.
    """
    found = _meant(who, places, people)
    if len(found) > 1 and found[0].startswith(who.lower()):
        raise RotationRefused("key", expected="one", got=f"{len(found)} that start with {who}")
    if not found:
        known = ", ".join(sorted({people.get(keyid, keyid[:16]) for keyid in places} - {"online"}))
        raise RotationRefused(
            "key", expected=f"that of {known}, snapshot or timestamp, or a key id", got=repr(who)[:80]
        )
    return found


def _meant(who: str, places: Mapping[str, Sequence[str]], people: Mapping[str, str]) -> list[str]:
    if who in ("snapshot", "timestamp"):
        return [keyid for keyid, where in places.items() if who in where]
    if found := [keyid for keyid in places if people.get(keyid, "").casefold() == who.casefold()]:
        return found
    return [keyid for keyid in places if len(who) >= MIN_START and keyid.startswith(who.lower())]


def still_signed(delegator: Root | Targets, role: str, edit: Edit) -> bool:
    """Say whether a role needs no new signatures under its delegator: the published ones suffice, or a draft asks for some already."""
    if edit.state.published(role) is None or role in edit.state.drafts:
        return True
    return published_suffices(edit.layout, edit.state, delegator, role)


def _published(edit: Edit) -> tuple[Root, Targets]:
    state: State = edit.state
    if state.published_root is None or state.chain is None:
        hint = "until then, correct the ceremony file, and run `hillhold init` in a new folder"
        raise RepositoryRefused("repository", expected="a published one", got="none yet", hint=hint)
    return state.published_root, state.chain.targets
