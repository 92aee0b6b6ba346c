"""Publishing: complete drafts become files that any static server serves.

Order of writing: target files, targets, product lines, snapshot, `timestamp.json`, root. Every name but the last two carries a version or
a hash that no client looks for before the new timestamp names it, so that a crash between any two writes leaves clients with the old
repository or the new one; the next run writes what is missing. A new root comes last where the new files verify under the old one, too:
where it replaces the online keys, the former ones therefore sign once more, with the new. Where they cannot (a key is lost, or a team was
replaced whole), root comes before the timestamp; a client that looks in between refuses, and the next time finds the new repository.
After a crash there, the next `publish` or `refresh` ends it.

Rules that protect devices (DESIGN §4): snapshot lists a role only after its signatures were verified here, only as the successor
of the version that it listed before, and drops none but those of retired lines, when the online keys are replaced. Nothing is written
before what is new has been verified in memory (`succession`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, TypeVar

from securesystemslib.signer import Signature, Signer
from tuf.api.metadata import MetaFile, Root, Signed, Snapshot, Targets, Timestamp

from hillhold_signer import encoding
from hillhold_signer.ceremony import Expiry
from hillhold_signer.chain import Chain, accept, line_names
from hillhold_signer.drafts import Draft
from hillhold_signer.errors import (
    DamagedRefused,
    PublicKeyMaterialRefused,
    ReleaseRefused,
    RepositoryRefused,
    SigningRefused,
    ToolError,
    VerifyRefused,
)
from hillhold_signer.examples import refuse_public
from hillhold_signer.layout import SEGMENT, Layout, file_name
from hillhold_signer.limits import check_lines
from hillhold_signer.places import Place
from hillhold_signer.releases import check_kept
from hillhold_signer.rotation import online_replaced
from hillhold_signer.state import State, published_files
from hillhold_signer.storage import digest_of, there
from hillhold_signer.succession import New, check_succession
from hillhold_verifier.errors import HillholdError
from hillhold_verifier.metadata import parse_time
from hillhold_verifier.times import show_time

SKEW: Final = 60
"""Seconds by which the clock may be behind the last timestamp: of another machine, or read before this one waited for the lock."""
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
    """What is to be written, in this order.

    Attributes:
        targets: files, mostly staged ones, and the paths that they get.
        metadata: paths and bytes; `timestamp.json` is the last.
        roles: versions by role, as they are published with this.
    """

    targets: tuple[tuple[Place, Place], ...]
    metadata: tuple[tuple[Place, bytes], ...]
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
        ProductRefused: a line that uses more than targets allow it.
        SigningRefused: a signer that root does not name for its role, or a clock that went back.
    """
    drafts = {role: state.drafts[role] for role in roles}
    root = drafts["root"].signed if "root" in drafts else state.published_root
    if not isinstance(root, Root):
        raise RepositoryRefused("root", expected="a published or complete one", got="none")
    targets = check_drafts(layout, state, roles, now, demo=demo)
    meta = dict(state.chain.snapshot.meta) if state.chain else {}
    new: dict[str, New] = {}
    for role, draft in drafts.items():
        new[role] = New(role, draft.signed.version, draft.file())
        if role != "root":
            meta[f"{role}.json"] = _listing(new[role])
    meta = _without_tombstones(meta, state, root, drafts)
    version = state.chain.snapshot.version + 1 if state.chain else 1
    snapshot = Snapshot(version=version, expires=encoding.utc(now + expiry.snapshot), meta=meta)
    new["snapshot"] = New("snapshot", version, _sign_online("snapshot", snapshot, signers, root))
    new["timestamp"] = _timestamp(state, root, new["snapshot"], signers, expiry, now)
    metadata = _checked(layout, state, new)
    return Publication(targets, metadata, {role: draft.signed.version for role, draft in drafts.items()})


def check_drafts(
    layout: Layout, state: State, roles: Sequence[str], now: int, *, demo: bool, beside: Sequence[str] = ()
) -> tuple[tuple[Place, Place], ...]:
    """Refuse drafts that could not be published however many sign them: a service looks before it asks anybody to sign.

    Args:
        roles: whose drafts are looked at.
        now: Unix seconds.
        beside: roles whose drafts are taken to be published with them.

    Returns:
        The target files that they bring, and the paths that these get.

    Raises:
        RepositoryRefused: a draft is not the successor of what is published, or its target file is missing.
        ReleaseRefused, ProductRefused: it takes back what is published, or a line uses more than targets allow it.
        PublicKeyMaterialRefused: it names a key whose private part is public.
    """
    drafts = {role: state.drafts[role] for role in roles}
    together = {**{role: state.drafts[role] for role in beside}, **drafts}
    refuse_keys(state, together, demo=demo)
    meta = state.chain.snapshot.meta if state.chain else {}
    for draft in drafts.values():
        _check_draft(draft, state, meta, now)
        _check_paths(draft, state.published(draft.role))
    _check_limits(state, drafts, together.get("targets"))
    return tuple(item for draft in drafts.values() for item in target_files(layout, draft, state.published(draft.role)))


def _check_limits(state: State, drafts: Mapping[str, Draft], targets: Draft | None) -> None:
    """What lines use, and what targets allow them, may come from two drafts, of which one waits, or from two people at once."""
    before = state.chain.targets if state.chain else None
    after = targets.signed if targets else before
    if isinstance(after, Targets):
        lines = {role: draft.signed for role, draft in drafts.items() if isinstance(draft.signed, Targets)}
        check_lines(before, after, state.chain.lines if state.chain else {}, lines)


def _without_tombstones(
    meta: dict[str, MetaFile], state: State, root: Root, drafts: Mapping[str, Draft]
) -> dict[str, MetaFile]:
    """Leave out retired lines once no client holds a snapshot that would miss them: its key is not trusted any more (TUF 5.3.11)."""
    if state.chain is None or not online_replaced(state.chain.root, root):
        return meta
    targets = drafts["targets"].signed if "targets" in drafts else state.published("targets")
    known = ["targets", *(line_names(targets) if isinstance(targets, Targets) else ())]
    return {name: item for name, item in meta.items() if name.removesuffix(".json") in known}


def renew(layout: Layout, state: State, signers: OnlineSigners, expiry: Expiry, now: int) -> Publication:
    """Make a new timestamp, and a new snapshot where less than half of its life is left or root is newer; nothing else changes.

    Raises:
        RepositoryRefused: nothing is published yet, a published file is not the listed one, or the result does not verify.
        SigningRefused: a signer that root does not name for its role, or a clock that went back.
    """
    chain, root = state.chain, state.published_root
    if chain is None or root is None:
        raise RepositoryRefused("refresh", expected="a published repository", got="none yet", hint="`hillhold publish`")
    _check_listed(layout, chain)
    new: dict[str, New] = {}
    listed = New("snapshot", chain.snapshot.version, chain.raw["snapshot"])
    if state.interrupted or (encoding.unix(chain.snapshot.expires) - now) * RENEW_SHARE < expiry.snapshot:
        version, expires = chain.snapshot.version + 1, encoding.utc(now + expiry.snapshot)
        snapshot = Snapshot(version=version, expires=expires, meta=dict(chain.snapshot.meta))
        new["snapshot"] = listed = New("snapshot", version, _sign_online("snapshot", snapshot, signers, root))
    new["timestamp"] = _timestamp(state, root, listed, signers, expiry, now)
    metadata = _checked(layout, state, new)
    return Publication((), metadata, {role: item.version for role, item in new.items()})


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


def target_files(layout: Layout, draft: Draft, published: Signed | None) -> list[tuple[Place, Place]]:
    """Return the files that a draft names and that are not published yet, mostly staged ones, with the paths that they get.

    Args:
        published: the version before, whose files need not be looked for: they were written before it was.

    Raises:
        RepositoryRefused: one is neither staged nor published, or has other bytes.
        StorageError: one cannot be read.
    """
    found = []
    before = published.targets if isinstance(published, Targets) else {}
    after = draft.signed.targets if isinstance(draft.signed, Targets) else {}
    for path, target in after.items():
        digest = target.hashes["sha256"]
        if path in before and before[path].hashes["sha256"] == digest:
            continue
        public = layout.target(path, digest)
        if there(public):
            continue
        source = layout.source(path, digest)
        came = digest_of(source)
        if came != (target.length, digest):
            got = "none" if came is None else "other bytes"
            raise RepositoryRefused(f"target {path}", expected=f"its bytes in staged/{digest[:16]}…", got=got)
        found.append((source, public))
    return found


def _listing(new: New) -> MetaFile:
    return MetaFile(new.version, None, {"sha256": sha256(new.data).hexdigest()})


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


def _check_paths(draft: Draft, published: Signed | None) -> None:
    """A line lists files of its own folder and delegates to nobody, targets list no files: devices would pass over anything else."""
    if (
        draft.role not in ("root", "targets")
        and isinstance(draft.signed, Targets)
        and draft.signed.delegations is not None
    ):
        raise ReleaseRefused(f"draft of {draft.role}", expected="no delegations: only targets have them", got="some")
    before = published.targets if isinstance(published, Targets) else {}
    after = draft.signed.targets if isinstance(draft.signed, Targets) else {}
    for path in after.keys() - before.keys():
        parts = path.split("/")
        if (
            draft.role == "targets"
            or len(parts) != 3
            or parts[0] != draft.role
            or not all(map(SEGMENT.fullmatch, parts))
        ):
            raise ReleaseRefused(
                f"draft of {draft.role}", expected=f"files as {draft.role}/VERSION/NAME", got=ascii(path)[:80]
            )


def _timestamp(state: State, root: Root, snapshot: New, signers: OnlineSigners, expiry: Expiry, now: int) -> New:
    """Sign the timestamp that names a snapshot; `x-hillhold-issued` never goes back (DESIGN §4, "Time")."""
    old = state.chain.timestamp if state.chain else None
    before = parse_time(old.unrecognized_fields["x-hillhold-issued"]) if old else 0
    if now < before - SKEW:
        hint = "set this computer's clock, and run the command again"
        raise SigningRefused("clock", expected=f"{show_time(before)} or later", got=show_time(now), hint=hint)
    new = Timestamp(
        version=old.version + 1 if old else 1,
        expires=encoding.utc(now + expiry.timestamp),
        snapshot_meta=_listing(snapshot),
        unrecognized_fields={"x-hillhold-issued": show_time(max(now, before))},
    )
    return New("timestamp", new.version, _sign_online("timestamp", new, signers, root))


def _sign_online(role: str, signed: Online, signers: OnlineSigners, root: Root) -> bytes:
    signer = signers.snapshot if role == "snapshot" else signers.timestamp
    if signer.public_key.keyid not in root.roles[role].keyids:
        wanted = ", ".join(sorted(item[:16] for item in root.roles[role].keyids))
        got = signer.public_key.keyid[:16]
        raise SigningRefused(f"key for {role}", expected=wanted, got=got, hint="see [online] in hillhold.toml")
    found = [signer]
    if signers.former is not None:
        found.append(signers.former.snapshot if role == "snapshot" else signers.former.timestamp)

    def sign(payload: bytes) -> dict[str, Signature]:
        try:
            return {item.public_key.keyid: item.sign(payload) for item in found}
        except HillholdError:
            raise
        except Exception as error:  # securesystemslib: a signer may raise anything
            hint = "nothing was published; run the command again"
            raise ToolError(f"key for {role}: {error}", hint=hint) from error

    return encoding.sign_file(signed, sign, role)


def _checked(layout: Layout, state: State, new: Mapping[str, New]) -> tuple[tuple[Place, bytes], ...]:
    """Verify what is new, before any of it is written; return paths and bytes, in the order of writing."""

    def files(name: str) -> bytes | None:
        return published_files(layout, name)

    try:
        check_succession(state.chain, state.published_root, new, files)
    except VerifyRefused as error:
        raise RepositoryRefused(f"the new tree would not verify: {error}") from error
    return tuple((layout.metadata(item.name), item.data) for item in _in_order(state, new))


def _in_order(state: State, new: Mapping[str, New]) -> list[New]:
    """Put a new root where a client sees the old repository or the new one, or else as near to that as can be."""
    order = [item for role, item in new.items() if role not in ("root", "timestamp")]
    timestamp, root = new["timestamp"], new.get("root")
    if root is None:
        return [*order, timestamp]
    if state.chain is not None and _verifies(state.chain, new):
        return [*order, timestamp, root]
    return [*order, root, timestamp]


def _verifies(old: Chain, new: Mapping[str, New]) -> bool:
    """Whether the new files verify under the old root as well."""
    targets = new["targets"].data if "targets" in new else old.raw["targets"]
    try:
        timestamp = accept("timestamp", new["timestamp"].data, old.root, Timestamp)
        snapshot = accept("snapshot", new["snapshot"].data, old.root, Snapshot, timestamp.snapshot_meta)
        accept("targets", targets, old.root, Targets, snapshot.meta["targets.json"])
    except VerifyRefused:
        return False
    return True


def _check_listed(layout: Layout, chain: Chain) -> None:
    """The file of every line is the listed one: what something else has changed is noticed by what runs every day."""
    for role in chain.lines:
        listing = chain.snapshot.meta[f"{role}.json"]
        name = file_name(role, listing.version)
        data = published_files(layout, name)
        if data is None or sha256(data).hexdigest() != (listing.hashes or {}).get("sha256"):
            got = "none" if data is None else "another"
            raise DamagedRefused(VerifyRefused(name, expected="the listed file", got=got))
