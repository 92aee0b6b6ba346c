"""Signatures that were made elsewhere (`requests`) come into the repository, each checked before any is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from securesystemslib.signer import Key

from hillhold_signer import encoding
from hillhold_signer.drafted import verifies, wanted_key
from hillhold_signer.drafts import Draft, Drafts, Quorum
from hillhold_signer.errors import RequestRefused, SigningRefused, StaleRefused
from hillhold_signer.examples import refuse_public
from hillhold_signer.repository import Repository
from hillhold_signer.revocation import Revoked, read_revoked
from hillhold_signer.signatures import SignatureFile, parse_signature
from hillhold_signer.state import State


@dataclass(frozen=True, slots=True)
class Attached:
    """One signature: `repeated` where the draft had one by this key before."""

    file: SignatureFile
    repeated: bool
    quorum: Quorum


def attach(repository: Repository, files: Sequence[bytes]) -> tuple[Attached, ...]:
    """Put signature files onto the drafts that they belong to: all of them, or none.

    Raises:
        RequestRefused: one is malformed, or for a role that has no draft.
        StaleRefused: one is on bytes that are drafted no more.
        SigningRefused: one is by a key that the draft does not want, or does not verify.
        PublicKeyMaterialRefused: one is by an example key, outside a demo.
        MergeRefused: the drafts of its role do not go together.
    """
    signatures = [parse_signature(data) for data in files]
    demo = repository.config().demo
    with repository.writing() as state:
        revoked = read_revoked(repository.layout)
        wanted = [(file, *_check(state, file, revoked, demo=demo)) for file in signatures]
        for file, draft, key in wanted:
            kept = draft.signatures.get(
                file.keyid, file.signature
            )  # sent to a service again, which notes who hands it in
            Drafts(repository.layout).add_signature(replace(file, signature=kept), draft, key)
    after = repository.state()
    return tuple(Attached(file, file.keyid in draft.signatures, after.quorum(file.role)) for file, draft, _ in wanted)


def _check(state: State, file: SignatureFile, revoked: Mapping[str, Revoked], *, demo: bool) -> tuple[Draft, Key]:
    """Return the draft that a signature is on, and the key, or refuse it."""
    what = f"signature on {file.role} version {file.version}"
    if file.role in state.clashes:
        raise state.clashes[file.role]
    found = state.files.of(file.role) if state.files.has(file.role) else None
    draft = state.drafts.get(file.role)
    published = state.published(file.role)
    if published is not None and file.sha256 == encoding.digest(published):
        raise StaleRefused(what, expected="one on a draft", got="one on what is published already")
    if draft is None:
        drafted = ", ".join(state.drafts) or "nothing"
        raise RequestRefused(what, expected=f"a role that is drafted: {drafted}", got=file.role)
    if file.sha256 != draft.digest:
        known = found is not None and any(node.digest == file.sha256 for node in found.nodes.values())
        got = f"one on {file.sha256[:16]}…, {'which was changed since' if known else 'which is not here'}"
        hint = (
            f"ask again: `hillhold request REPO {file.role} -o FILE`"
            if known
            else "`hillhold status` shows what is drafted"
        )
        raise StaleRefused(what, expected=f"one on the draft {draft.digest[:16]}…", got=got, hint=hint)
    if file.version != draft.signed.version:  # nothing is decided by it, but it is told to people, and to logs
        raise RequestRefused(f"signature on {file.role}", expected=f"version {draft.signed.version}", got=file.version)
    delegators = state.delegators(file.role)
    key = wanted_key(file.keyid, file.role, delegators)
    if key is None:
        hint = "`hillhold status` says who has to sign what"
        raise SigningRefused(what, expected=f"one by a key of {file.role}", got=f"one by {file.keyid[:16]}", hint=hint)
    refuse_public(key, demo=demo)
    if file.role != "root" and file.keyid in revoked:
        raise SigningRefused(what, expected="a key that was not revoked", got=revoked[file.keyid].reason[:80])
    if not verifies(file, draft.payload, file.role, delegators):
        raise SigningRefused(
            what, expected="one that verifies", got=f"another, which claims to be by {file.keyid[:16]}"
        )
    return draft, key
