"""The transcript of a ceremony: a page to print, to follow while people sign, and to sign on paper.

It says what is signed and by whom, with the digest that everyone compares, and which signatures there are so far; whoever was there puts
their name to it. It proves nothing by itself: the signatures in the metadata do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from securesystemslib.signer import Key
from tuf.api.metadata import Root, Targets

from hillhold_signer.difference import difference, label
from hillhold_signer.drafts import Draft
from hillhold_signer.errors import RepositoryRefused
from hillhold_signer.keys import fingerprint
from hillhold_signer.repository import Repository
from hillhold_signer.state import State
from hillhold_verifier.times import show_time

_LINE: Final = "_" * 32


@dataclass(frozen=True, slots=True)
class Place:
    """What stands at the top of the page.

    Attributes:
        title: of the ceremony, such as "Rotation of root".
        config: the bytes of the ceremony file that it follows, or None.
        program: name and version of the program.
        now: Unix seconds.
    """

    title: str
    config: bytes | None
    program: str
    now: int


def transcript(repository: Repository, roles: Sequence[str], place: Place) -> str:
    """Return the page for the drafts of `roles` as they stand, as plain text.

    Raises:
        RepositoryRefused: a role has no draft.
        StorageError: the repository cannot be read.
    """
    state, people = repository.state(), repository.people()
    drafts = []
    for role in roles:
        if (draft := state.drafts.get(role)) is None:
            raise RepositoryRefused(f"draft of {role}", expected="one to be signed", got="none")
        drafts.append(draft)
    lines = [place.title, "=" * len(place.title), ""]
    lines += [f"Written      {show_time(place.now)}, by {place.program}"]
    if place.config is not None:
        lines += [f"Follows      the ceremony file with SHA-256 {sha256(place.config).hexdigest()}"]
    before = f"version {state.published_root.version}" if state.published_root else "none; this is the first"
    lines += [f"Root before  {before}", "", "Place  ______________________________   Date  ________________", ""]
    for draft in drafts:
        lines += ["", *_draft(draft, state, people)]
    lines += ["", "Present", "-------", ""]
    for name in sorted(
        {people.get(keyid, keyid[:16]) for draft in drafts for keyid in state.quorum(draft.role).wanted}
    ):
        lines += [f"{name:<24} {_LINE}", ""]
    lines += [f"{'Witness':<24} {_LINE}", "", f"{'Witness':<24} {_LINE}", ""]
    return "\n".join(lines)


def _draft(draft: Draft, state: State, people: Mapping[str, str]) -> Iterator[str]:
    title = f"{draft.role}, version {draft.signed.version}"
    yield from (title, "-" * len(title), "")
    old = state.published(draft.role)
    before = old if isinstance(old, (Root, Targets)) else None
    yield from map(str, difference(draft.role, before, draft.signed, label(people)))
    quorum = state.quorum(draft.role)
    yield from ("", "SHA-256 of what is signed, compared aloud by everyone:", f"  {_grouped(draft.digest)}", "")
    yield f"Signatures: {quorum}"
    keys = {keyid: key for delegator in state.delegators(draft.role) for keyid, key in _keys(delegator).items()}
    for share in quorum.shares:
        for keyid in sorted((*share.signed, *share.unsigned), key=label(people)):
            mark = "signed" if keyid in share.signed else "not signed"
            yield f"  [{'x' if keyid in share.signed else ' '}] {people.get(keyid, 'unnamed key')}: {mark}"
            yield f"      key id       {keyid}"
            if keyid in keys:
                yield f"      fingerprint  {fingerprint(keys[keyid])}"


def _keys(delegator: Root | Targets) -> Mapping[str, Key]:
    if isinstance(delegator, Root):
        return delegator.keys
    return delegator.delegations.keys if delegator.delegations else {}


def _grouped(digest: str) -> str:
    """Eight groups of eight: what people can read to each other."""
    return " ".join(digest[at : at + 8] for at in range(0, len(digest), 8))
