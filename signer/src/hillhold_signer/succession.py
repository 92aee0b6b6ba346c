"""What is about to be published, verified in memory as the successor of what is published, before a byte is written.

Looked at is what is new, and what the new things decide about:

- every new file, by the keys and the threshold of its delegator as it will be; and what people signed by the verifier's own reader, so
  that nothing is published which a device would not read;
- targets that stay, under a new root; a product line that stays, where new targets give it other keys or another threshold;
- the new snapshot, entry by entry: what is not published now stands there as it stood before, nothing is dropped (but retired lines,
  when the online keys are replaced), and each role that is published now stands there with its hash, as the version after the one that
  stood there (DESIGN §4, "Floors").

So each entry was verified when it came in, and what it names cannot change: its hash is signed. All other lines need not be read again,
however many they are. What this leaves unnoticed is a file in `public/` that something else changed: no client takes it, and `hillhold
verify` and `refresh` find it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from tuf.api.metadata import MetaFile, Root, Snapshot, Targets, Timestamp

from hillhold_signer.chain import Chain, Files, accept, line_names
from hillhold_signer.encoding import parse
from hillhold_signer.errors import VerifyRefused
from hillhold_signer.layout import file_name
from hillhold_signer.rotation import online_replaced
from hillhold_verifier import metadata
from hillhold_verifier.errors import MetadataError

ONLINE: Final = ("timestamp", "snapshot")


@dataclass(frozen=True, slots=True)
class New:
    """A metadata file that is to be published: its role, its version, and its bytes."""

    role: str
    version: int
    data: bytes

    @property
    def name(self) -> str:
        """Its name in the published tree."""
        return file_name(self.role, self.version)


def check_succession(old: Chain | None, old_root: Root | None, new: Mapping[str, New], files: Files) -> None:
    """Refuse files that may not follow what is published.

    Args:
        old: what is published, verified; None before the first publication.
        old_root: the newest published root; without a chain there is one only after an interrupted first publication.
        new: by role; a timestamp always.
        files: hands out published files.

    Raises:
        VerifyRefused: see the module's text.
    """
    for item in new.values():
        if item.role not in ONLINE:
            check_readable(item)
    root = _root(old_root, new)
    timestamp = accept("timestamp", new["timestamp"].data, root, Timestamp)
    _follows("timestamp", timestamp.version, old.timestamp.version if old else 0)
    snapshot = accept("snapshot", _data("snapshot", old, new), root, Snapshot, timestamp.snapshot_meta)
    if "snapshot" in new:
        _follows("snapshot", snapshot.version, old.snapshot.version if old else 0)
    if old is not None and "targets" not in new and root == old.root:
        targets = old.targets  # verified when they were read, under this root
    else:
        targets = accept("targets", _data("targets", old, new), root, Targets, snapshot.meta.get("targets.json"))
    retired = _retired(old, root, targets)
    _check_entries(old.snapshot.meta if old else {}, snapshot.meta, new, retired)
    _check_lines(old.targets if old else None, targets, snapshot, new, files)


def check_readable(item: New) -> None:
    """Refuse a file that the verifier's own reader, and so a device, would not read; raises `VerifyRefused`."""
    try:
        if item.role == "root":
            metadata.parse_root(item.data)
        else:
            metadata.parse_targets(item.data, item.role)
    except MetadataError as error:
        raise VerifyRefused(f"{item.name}: {error}") from error


def _root(old: Root | None, new: Mapping[str, New]) -> Root:
    """The root that holds then; a new one is signed by the quorum of the one before, and by its own (TUF 5.3.4, 5.3.5)."""
    if (item := new.get("root")) is None:
        if old is None:
            raise VerifyRefused("root", expected="a published or a new one", got="neither")
        return old
    try:
        root = parse(item.data, Root)[0].signed
    except MetadataError as error:
        raise VerifyRefused(f"root metadata: {error}") from error
    _follows("root", root.version, old.version if old else 0)
    for delegator in (old, root):
        if delegator is not None:
            accept("root", item.data, delegator, Root)
    return root


def _data(role: str, old: Chain | None, new: Mapping[str, New]) -> bytes:
    if role in new:
        return new[role].data
    if old is None:
        raise VerifyRefused(f"{role} metadata", expected="a published or a new one", got="neither")
    return old.raw[role]


def _retired(old: Chain | None, root: Root, targets: Targets) -> set[str]:
    """The entries that may go from snapshot: of retired lines, once no client holds one that would miss them (TUF 5.3.11)."""
    if old is None or not online_replaced(old.root, root):
        return set()
    return old.snapshot.meta.keys() - {"targets.json", *(f"{name}.json" for name in line_names(targets))}


def _check_entries(
    before: Mapping[str, MetaFile], after: Mapping[str, MetaFile], new: Mapping[str, New], retired: set[str]
) -> None:
    """The new snapshot is the old one, but for the entries of what is published now, and those of retired lines that may go."""
    published = {f"{role}.json": item for role, item in new.items() if role not in ("root", *ONLINE)}
    if len(after) > metadata.MAX_KEYS:
        raise VerifyRefused("snapshot", expected=f"at most {metadata.MAX_KEYS} entries", got=len(after))
    for name in before.keys() - after.keys() - retired:
        raise VerifyRefused(f"{name} in snapshot", expected="what was listed before", got="none")
    for name, meta in after.items():
        item = published.pop(name, None)
        if item is None:
            if before.get(name) != meta:
                raise VerifyRefused(f"{name} in snapshot", expected="what was listed before", got=meta.version)
            continue
        _follows(name, meta.version, before[name].version if name in before else 0)
        if meta.version != item.version or meta.hashes != {"sha256": sha256(item.data).hexdigest()}:
            raise VerifyRefused(f"{name} in snapshot", expected=f"the hash of {item.name}", got="another")
    for name in published:
        raise VerifyRefused(f"{name} in snapshot", expected="what is published now", got="none")


def _check_lines(
    before: Targets | None, after: Targets, snapshot: Snapshot, new: Mapping[str, New], files: Files
) -> None:
    """Every new line verifies under its delegation, and so does every listed one whose delegation is another now."""
    lines = line_names(after)
    for role in new.keys() - {"root", "targets", *ONLINE, *lines}:
        raise VerifyRefused(f"product line {role}", expected="one that targets delegate to", got="none such")
    changed = new.keys() & set(lines) if after is before else lines
    for name in changed:
        listing = snapshot.meta.get(f"{name}.json")
        if name in new:
            accept(name, new[name].data, after, Targets, listing)
        elif listing is not None and (before is None or _signers(before, name) != _signers(after, name)):
            data = files(file_name(name, listing.version))
            if data is None:
                raise VerifyRefused(f"{name} metadata", expected=file_name(name, listing.version), got="none")
            accept(name, data, after, Targets, listing)


def _signers(targets: Targets, name: str) -> tuple[int, dict[str, object]] | None:
    """Who signs a line: the threshold, and the keys by their ids; None where targets do not delegate to it."""
    delegations = targets.delegations
    role = delegations.roles.get(name) if delegations and delegations.roles else None
    if delegations is None or role is None:
        return None
    return role.threshold, {keyid: delegations.keys.get(keyid) for keyid in role.keyids}


def _follows(what: str, version: int, before: int) -> None:
    if version != before + 1:
        raise VerifyRefused(f"version of {what}", expected=before + 1, got=version)
