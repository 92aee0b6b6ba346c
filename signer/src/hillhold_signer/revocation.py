"""Keys that somebody else may have: noted in `revoked/KEYID`, one small file each, so that two copies of a repository merge.

Nothing here is published, and nothing is trusted or mistrusted by it on a device: it binds the publisher (`rotation.check_revoked`),
until a publication has taken the key away, and keeps it away after that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tuf.api.metadata import Root, Targets

from hillhold_signer import encoding
from hillhold_signer.encoding import check_text
from hillhold_signer.errors import RepositoryRefused, RotationRefused
from hillhold_signer.layout import Layout, file_name
from hillhold_signer.rotation import check_revoked, check_roots, named_image_keys
from hillhold_signer.state import State, published_files
from hillhold_signer.storage import list_folder, read_optional, write_file

MAX_REASON: Final = 500
"""Characters."""
MAX_FILE: Final = 8192
"""Bytes of one file."""

_KEYID: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Revoked:
    """One key.

    Attributes:
        keyid: of an image key its fingerprint.
        since: Unix seconds at which it was noted.
        image: it is an image key, which root revokes (`image_revocation`).
    """

    keyid: str
    reason: str
    since: int
    image: bool = False


def read_revoked(layout: Layout) -> Mapping[str, Revoked]:
    """Return the revoked keys by key id.

    Raises:
        RepositoryRefused: a file is damaged; a key must not become trusted again by that.
        StorageError: a file cannot be read.
    """
    found = {}
    for name in list_folder(layout.revoked):
        data = read_optional(layout.revoked / name, MAX_FILE)
        if data is not None:
            found[name] = _parse(name, data)
    return found


def write_revoked(layout: Layout, item: Revoked) -> None:
    """Note a key; raises `ContentRefused`, `RotationRefused` for the reason, `StorageError`."""
    check_text(item.reason, "reason")
    if not 1 <= len(item.reason) <= MAX_REASON:
        raise RotationRefused("reason", expected=f"1 to {MAX_REASON} characters", got=len(item.reason))
    value = {"reason": item.reason, "since": item.since, **({"image": True} if item.image else {})}
    write_file(layout.revoked / item.keyid, json.dumps(value, sort_keys=True, ensure_ascii=False).encode())


def history(layout: Layout) -> tuple[Root, ...]:
    """Return all published roots, oldest first; raises `RepositoryRefused`, `StorageError`."""
    found: list[Root] = []
    while (data := published_files(layout, file_name("root", len(found) + 1))) is not None:
        found.append(encoding.load(data, Root, f"root {len(found) + 1}").signed)
    return tuple(found)


def revoked_image_keys(layout: Layout, state: State) -> frozenset[str]:
    """Return the fingerprints of all image keys that are noted as revoked, or named by the published root or its draft.

    Raises:
        RepositoryRefused, StorageError: the repository.
    """
    draft = state.drafts.get("root")
    roots = (state.published_root, draft.signed if draft else None)
    named = {item for root in roots if isinstance(root, Root) for item in named_image_keys(root)}
    return frozenset(named | {keyid for keyid, note in read_revoked(layout).items() if note.image})


def check_rotation(layout: Layout, state: State, roles: Sequence[str], people: Mapping[str, str]) -> None:
    """Refuse to publish the drafts of `roles` where that would break a rule of `rotation`.

    Raises:
        RotationRefused: it would.
        RepositoryRefused, StorageError: the repository.
    """
    root = state.root() if "root" in roles else state.published_root
    targets = state.newest("targets") if "targets" in roles else state.published("targets")
    if not isinstance(root, Root) or not isinstance(targets, Targets):
        return  # a first publication that lacks one of them is refused as such
    if "root" in roles:
        check_roots(history(layout), root)
    # An interrupted publication leaves a root that is newer than the one under which the rest stands.
    before = (state.chain.root, state.chain.targets) if state.chain else None
    names = {keyid: people.get(keyid, keyid[:16]) for keyid in read_revoked(layout)}
    check_revoked(names, before, (root, targets))


def _parse(name: str, data: bytes) -> Revoked:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    value = value if isinstance(value, dict) else {}
    reason, since, image = value.get("reason"), value.get("since"), value.get("image", False)
    if not _KEYID.fullmatch(name) or not isinstance(reason, str) or type(since) is not int or type(image) is not bool:
        hint = "restore it from a copy: it says that a key must not be trusted"
        raise RepositoryRefused(f"revoked/{name[:80]}", expected="a reason and a time", got="something else", hint=hint)
    return Revoked(name, reason, since, image)
