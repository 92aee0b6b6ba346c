"""Publishing: complete drafts become files that any static server serves.

Order of writing: target files, targets, product lines, snapshot, `timestamp.json`, root. Every name but the last two carries a version or
a hash that no client looks for before the new timestamp names it, so that a crash between any two writes leaves clients with the old
repository or the new one; the next run writes what is missing. A new root comes last where the new files verify under the old one, too:
where it replaces the online keys, the former ones therefore sign once more, with the new. Where they cannot (a key is lost, or a team was
replaced whole), root comes before the timestamp; a client that looks in between refuses, and the next time finds the new repository.

Rules that protect devices (DESIGN §4): snapshot lists a role only after its signatures were verified here, only as the successor
of the version that it listed before, and drops none but those of retired lines, when the online keys are replaced. Nothing is written
before the whole new tree has been verified in memory as a client would.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

from securesystemslib.signer import Signer
from tuf.api.exceptions import RepositoryError as TufError
from tuf.api.metadata import MetaFile, Root, Snapshot, Targets, Timestamp

from hillhold_signer import encoding
from hillhold_signer.ceremony import Expiry
from hillhold_signer.chain import line_names, verify_chain
from hillhold_signer.drafts import Draft
from hillhold_signer.errors import PublicKeyMaterialRefused, RepositoryRefused, SigningRefused, ToolError, VerifyRefused
from hillhold_signer.examples import refuse_public
from hillhold_signer.layout import Layout, file_name
from hillhold_signer.releases import MAX_IMAGE, check_kept
from hillhold_signer.state import State, published_files
from hillhold_signer.storage import read_optional
from hillhold_signer.succession import online_replaced
from hillhold_verifier.errors import HillholdError
from hillhold_verifier.times import show_time

RENEW_SHARE: Final = 2
"""`refresh` renews snapshot, too, once less than 1/RENEW_SHARE of its life is left."""

Online = TypeVar("Online", Snapshot, Timestamp)


@dataclass(frozen=True, slots=True)
class OnlineSigners:
    """The keys that publish: one for snapshot, one for timestamp (they may be the same).

    Attributes:
        former: those of the published root, where the one that is to be published names others.
    """

    snapshot: Signer
    timestamp: Signer
    former: OnlineSigners | None = None


@dataclass(frozen=True, slots=True)
class Publication:
    """What is to be written, in this order: path and bytes.

    Attributes:
        roles: versions by role, as they are published with this.
    """

    files: tuple[tuple[Path, bytes], ...]
    roles: Mapping[str, int]


def compose(
    layout: Layout,
    state: State,
    roles: tuple[str, ...],
    signers: OnlineSigners,
    expiry: Expiry,
    now: int,
    *,
    demo: bool,
) -> Publication:
    """Make a new tree out of what is published and the complete drafts of `roles`.

    Args:
        now: Unix seconds.

    Raises:
        RepositoryRefused: a draft is not the successor of what is published, its target file is missing, or the result does not verify.
        SigningRefused: a signer that root does not name for its role, or a clock that went back.
    """
    drafts = {role: state.drafts[role] for role in roles}
    root = drafts["root"].signed if "root" in drafts else state.published_root
    if not isinstance(root, Root):
        raise RepositoryRefused("root", expected="a published or complete one", got="none")
    refuse_keys(state, drafts, demo=demo)
    meta = dict(state.chain.snapshot.meta) if state.chain else {}
    new: dict[str, bytes] = {}
    for role, draft in drafts.items():
        _check_draft(draft, state, meta, now)
        new[file_name(role, draft.signed.version)] = data = draft.file()
        if role != "root":
            meta[f"{role}.json"] = MetaFile(draft.signed.version, None, {"sha256": sha256(data).hexdigest()})
    meta = _without_tombstones(meta, state, root, drafts)
    targets = [item for draft in drafts.values() for item in target_files(layout, draft)]
    version = state.chain.snapshot.version + 1 if state.chain else 1
    snapshot = Snapshot(version=version, expires=encoding.utc(now + expiry.snapshot), meta=meta)
    listed = _sign_online("snapshot", snapshot, signers, root)
    new[file_name("snapshot", version)] = listed
    new.update(_timestamp(state, root, version, listed, signers, expiry, now))
    _check_result(layout, new)
    if "root" in drafts:
        new = _in_order(layout, new, file_name("root", root.version))
    metadata = [(layout.metadata(name), data) for name, data in new.items()]
    versions = {role: draft.signed.version for role, draft in drafts.items()}
    return Publication((*targets, *metadata), versions)


def _without_tombstones(
    meta: dict[str, MetaFile], state: State, root: Root, drafts: Mapping[str, Draft]
) -> dict[str, MetaFile]:
    """Leave out retired lines once no client holds a snapshot that would miss them: its key is not trusted any more (TUF 5.3.11)."""
    if state.published_root is None or not online_replaced(state.published_root, root):
        return meta
    targets = drafts["targets"].signed if "targets" in drafts else state.published("targets")
    known = ["targets", *(line_names(targets) if isinstance(targets, Targets) else ())]
    return {name: item for name, item in meta.items() if name.removesuffix(".json") in known}


def renew(layout: Layout, state: State, signers: OnlineSigners, expiry: Expiry, now: int) -> Publication:
    """Make a new timestamp, and a new snapshot where less than half of its life is left; nothing else changes.

    Raises:
        RepositoryRefused: nothing is published yet, or the result does not verify.
        SigningRefused: a signer that root does not name for its role, or a clock that went back.
    """
    chain, root = state.chain, state.published_root
    if chain is None or root is None:
        raise RepositoryRefused("refresh", expected="a published repository", got="none yet", hint="`hillhold publish`")
    new: dict[str, bytes] = {}
    roles: dict[str, int] = {}
    version, listed = chain.snapshot.version, chain.raw["snapshot"]
    if (encoding.unix(chain.snapshot.expires) - now) * RENEW_SHARE < expiry.snapshot:
        version += 1
        expires = encoding.utc(now + expiry.snapshot)
        snapshot = Snapshot(version=version, expires=expires, meta=dict(chain.snapshot.meta))
        new[file_name("snapshot", version)] = listed = _sign_online("snapshot", snapshot, signers, root)
        roles["snapshot"] = version
    new.update(_timestamp(state, root, version, listed, signers, expiry, now))
    roles["timestamp"] = chain.timestamp.version + 1
    _check_result(layout, new)
    return Publication(tuple((layout.metadata(name), data) for name, data in new.items()), roles)


def refuse_keys(state: State, drafts: Mapping[str, Draft], *, demo: bool) -> None:
    """Refuse metadata that name a key whose private part is public.

    Raises:
        PublicKeyMaterialRefused: outside a demo; or a demo whose root does not say that it is one.
    """
    for role in ("root", "targets"):
        signed = drafts[role].signed if role in drafts else state.published(role)
        keys = signed.keys if isinstance(signed, Root) else {}
        if isinstance(signed, Targets) and signed.delegations:
            keys = signed.delegations.keys
        if isinstance(signed, Root) and signed.unrecognized_fields.get("x-hillhold-demo", False) is not demo:
            raise PublicKeyMaterialRefused("demo", expected="the same in hillhold.toml and root", got="a difference")
        for key in keys.values():
            refuse_public(key, demo=demo)


def target_files(layout: Layout, draft: Draft) -> list[tuple[Path, bytes]]:
    """Return the staged files that a draft names and that are not published yet, with the paths that they get.

    Raises:
        RepositoryRefused: one is neither staged nor published, or has other bytes.
        StorageError: one cannot be read.
    """
    found = []
    if draft.role == "root" or not isinstance(draft.signed, Targets):
        return []
    for path, target in draft.signed.targets.items():
        digest = target.hashes["sha256"]
        published = layout.target(path, digest)
        if published.exists():
            continue
        data = read_optional(layout.staged / digest, MAX_IMAGE)
        if data is None or sha256(data).hexdigest() != digest or len(data) != target.length:
            got = "none" if data is None else "other bytes"
            raise RepositoryRefused(f"target {path}", expected=f"its bytes in staged/{digest[:16]}…", got=got)
        found.append((published, data))
    return found


def _check_draft(draft: Draft, state: State, meta: Mapping[str, MetaFile], now: int) -> None:
    """The successor rule, what a successor may not undo, and expiry: a role that clients would refuse at once is not published."""
    published = state.published(draft.role)
    before = published.version if published else 0
    if listed := meta.get(f"{draft.role}.json"):
        before = max(before, listed.version)
    if isinstance(published, Targets) and isinstance(draft.signed, Targets):
        check_kept(published, draft.signed)
    if draft.signed.version != before + 1:
        raise RepositoryRefused(f"version of {draft.role}", expected=before + 1, got=draft.signed.version)
    if draft.signed.is_expired(encoding.utc(now)):
        hint = "change the draft again, which dates it anew, and have it signed"
        got = f"expiry {show_time(encoding.unix(draft.signed.expires))}"
        raise RepositoryRefused(f"draft of {draft.role}", expected="one that has not expired", got=got, hint=hint)


def _timestamp(
    state: State, root: Root, version: int, snapshot: bytes, signers: OnlineSigners, expiry: Expiry, now: int
) -> dict[str, bytes]:
    """Sign the timestamp that names a snapshot; `x-hillhold-issued` never goes back (DESIGN §4, "Time")."""
    old = state.chain.timestamp if state.chain else None
    issued = show_time(now)
    before = str(old.unrecognized_fields.get("x-hillhold-issued", "")) if old else ""
    if issued < before:
        hint = "set this computer's clock, and run the command again"
        raise SigningRefused("clock", expected=f"{before} or later", got=issued, hint=hint)
    new = Timestamp(
        version=old.version + 1 if old else 1,
        expires=encoding.utc(now + expiry.timestamp),
        snapshot_meta=MetaFile(version, None, {"sha256": sha256(snapshot).hexdigest()}),
        unrecognized_fields={"x-hillhold-issued": issued},
    )
    return {file_name("timestamp", 0): _sign_online("timestamp", new, signers, root)}


def _sign_online(role: str, signed: Online, signers: OnlineSigners, root: Root) -> bytes:
    signer = signers.snapshot if role == "snapshot" else signers.timestamp
    if signer.public_key.keyid not in root.roles[role].keyids:
        wanted = ", ".join(sorted(item[:16] for item in root.roles[role].keyids))
        got = signer.public_key.keyid[:16]
        raise SigningRefused(f"key for {role}", expected=wanted, got=got, hint="see [online] in hillhold.toml")
    found = [signer]
    if signers.former is not None:
        found.append(signers.former.snapshot if role == "snapshot" else signers.former.timestamp)
    payload = encoding.signed_bytes(signed)
    try:
        signatures = {item.public_key.keyid: item.sign(payload) for item in found}
    except HillholdError:
        raise
    except Exception as error:  # securesystemslib: a signer may raise anything
        raise ToolError(f"key for {role}: {error}", hint="nothing was published; run the command again") from error
    return encoding.file_bytes(signed, signatures, role)


def _in_order(layout: Layout, new: Mapping[str, bytes], root: str) -> dict[str, bytes]:
    """Put a new root where a client sees the old repository or the new one, or else as near to that as can be."""
    others = {name: data for name, data in new.items() if name != root}
    try:
        verify_chain(lambda name: None if name == root else _either(layout, others, name), at=0)
    except VerifyRefused:
        timestamp = file_name("timestamp", 0)
        before = {name: data for name, data in others.items() if name != timestamp}
        return {**before, root: new[root], timestamp: others[timestamp]}
    return {**others, root: new[root]}


def _either(layout: Layout, new: Mapping[str, bytes], name: str) -> bytes | None:
    # A file that is published in this version already is never replaced by another, except after an interrupted run.
    return new[name] if name in new else published_files(layout, name)


def _check_result(layout: Layout, new: Mapping[str, bytes]) -> None:
    """Verify the tree as it will be, before any of it is written."""
    try:
        verify_chain(lambda name: _either(layout, new, name), at=0)
    except (VerifyRefused, TufError) as error:
        raise RepositoryRefused(f"the new tree would not verify: {error}") from error
