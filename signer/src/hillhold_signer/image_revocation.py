"""Image keys under which no bootloader shall boot an image any more: root names them, so root's quorum decides.

`signed` of root has `x-hillhold-revoked-image-keys`, the sorted hashes by which images name them. A device hands each new root to its
bootloader, which checks it itself and drops the keys once an image under another one is confirmed. No command shortens the list: what
is in effect on one device cannot be taken back, and a list that forgets a key would leave the fleet in two halves.

The reason stays here (`revoked/FINGERPRINT`), beside those of other keys. From that note on, and while a draft or the published root
names the key, no image under it is added.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tuf.api.metadata import Root

from hillhold_signer.encoding import copied
from hillhold_signer.errors import RotationRefused
from hillhold_signer.image_keys import image_keys
from hillhold_signer.layout import Layout
from hillhold_signer.repository import Repository
from hillhold_signer.revocation import Revoked, revoked_image_keys, write_revoked
from hillhold_signer.rotation import named_image_keys
from hillhold_signer.state import State
from hillhold_verifier.mcuboot import ImageKey
from hillhold_verifier.metadata import MAX_REVOKED, REVOKED_IMAGE_KEYS

MIN_START: Final = 8
"""Digits by which a fingerprint is recognised."""
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ImageRevocation:
    """A root that revokes one more image key, as it was drafted.

    Attributes:
        old, new: root as it is published (None: not yet), and the draft.
        fingerprint: of the key, as images name it.
        lines: the lines that note the key as one of their bootloaders'.
        bare: those of them that note no other key that is not revoked.
    """

    old: Root | None
    new: Root
    fingerprint: str
    lines: tuple[str, ...]
    bare: tuple[str, ...]


def revoke_image_key(
    repository: Repository, fingerprint: str, reason: str, now: int, *, unknown: bool = False
) -> ImageRevocation:
    """Draft the root after the published one, or change its draft, so that it revokes one more image key.

    Args:
        fingerprint: of a key that some line notes, or its first digits.
        reason: what happened, for the record.
        now: Unix seconds.
        unknown: take a whole fingerprint though no line notes the key.

    Raises:
        RotationRefused: no such key, or several; one that root names already; too many; no reason.
        MergeRefused: drafts of root that do not go together.
        RepositoryRefused, StorageError: the repository.
    """
    with repository.edit(now) as edit:
        noted = _noted(edit.layout, edit.state)
        digest = _whose(fingerprint.lower(), noted, unknown=unknown)
        new = edit.root()
        named = named_image_keys(new)
        if digest in named:
            what = f"image key {digest[:16]}"
            raise RotationRefused(what, expected="one that root does not revoke yet", got=f"in version {new.version}")
        if len(named) >= MAX_REVOKED:
            raise RotationRefused("revoked image keys", expected=f"at most {MAX_REVOKED}", got=len(named) + 1)
        new.unrecognized_fields[REVOKED_IMAGE_KEYS] = sorted({*named, digest})
        gone = revoked_image_keys(edit.layout, edit.state) | {digest}
        # The note first: whatever happens then, people are told, and no image under the key is added.
        write_revoked(edit.layout, Revoked(digest, reason, now, image=True))
        edit.save("root", new)
        old = edit.state.published_root
    hashes = {line: {key.key_hash.hex() for key in keys} for line, keys in noted.items()}
    lines = tuple(line for line, found in hashes.items() if digest in found)
    bare = tuple(line for line in lines if hashes[line] <= gone)
    return ImageRevocation(old, copied(new), digest, lines, bare)


def _noted(layout: Layout, state: State) -> Mapping[str, Sequence[ImageKey]]:
    """The image keys that each line notes."""
    return {line: image_keys(layout, line) for line in state.products()}


def _whose(start: str, noted: Mapping[str, Sequence[ImageKey]], *, unknown: bool) -> str:
    """The hash by which images name the key; that of RSA is not its fingerprint."""
    keys = {key for listed in noted.values() for key in listed}
    known = sorted(key.fingerprint.hex() for key in keys)
    names = [(name.hex(), key.key_hash.hex()) for key in keys for name in (key.fingerprint, key.key_hash)]
    found = {digest for name, digest in names if len(start) >= MIN_START and name.startswith(start)}
    if len(found) == 1:
        return found.pop()
    whole = _FINGERPRINT.fullmatch(start) is not None
    if whole and unknown:
        return start
    listed = ", ".join(item[:16] for item in known) or "none: no line notes image keys"
    hint = (
        "--unknown revokes it all the same: a bootloader may hold a key that nobody noted here"
        if whole
        else "`hillhold product image-key` notes the keys of a line's bootloaders"
    )
    raise RotationRefused("image key", expected=f"a fingerprint, one of: {listed}", got=repr(start)[:80], hint=hint)
