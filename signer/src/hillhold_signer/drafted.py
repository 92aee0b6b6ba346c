"""The drafts of a repository as its files have them: which counts, and whose signatures are on it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any, Final

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, Signature
from tuf.api.metadata import Root, Signed, Targets

from hillhold_signer.drafts import Draft, Drafts, Node, Quorum, parse_signed
from hillhold_signer.errors import MergeRefused, RepositoryRefused
from hillhold_signer.layout import Layout, file_name, is_segment
from hillhold_signer.lineage import Lineage, Published, Settled
from hillhold_signer.memo import Memo
from hillhold_signer.merging import Value
from hillhold_signer.signatures import SignatureFile
from hillhold_signer.storage import read_optional
from hillhold_verifier import canonical
from hillhold_verifier.errors import MetadataError
from hillhold_verifier.metadata import max_bytes

_PARSED: Final[Memo[Root | Targets]] = Memo(4 * 1024 * 1024)  # bytes of JSON


@dataclass(frozen=True, slots=True)
class RoleFiles:
    """The files of one role's drafts.

    Attributes:
        settled: what they come to; None where they clash.
        published: digest of the published version.
        signatures: all well-formed ones, on whatever draft.
        strange: how many files are neither draft nor signature.
    """

    nodes: Mapping[str, Node]
    settled: Settled | None
    published: str | None
    signatures: tuple[SignatureFile, ...]
    strange: int


class Drafted:
    """All drafts of a repository; those of a role are read when they are asked for, since after an import there may be many large ones.

    Args:
        published: returns the published version of a role.
        version: returns its number, 0 without one.

    Whatever is asked raises `RepositoryRefused` where a draft is damaged, and `StorageError` where a file cannot be read.
    """

    def __init__(
        self, layout: Layout, published: Callable[[str], Signed | None], version: Callable[[str], int]
    ) -> None:
        self._layout, self._store = layout, Drafts(layout)
        self._published, self._version = published, version
        self._read: dict[str, tuple[RoleFiles, Draft | MergeRefused | None]] = {}
        self._quorums: dict[str, Quorum] = {}
        self._open: dict[str, bool] = {}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Roles that may have something to sign: root and targets first, then product lines by name."""
        return tuple(self._store.roles(self._version))

    def has(self, role: str) -> bool:
        """Say whether a role may have something to sign, without a look at the others."""
        if role not in self._open:
            self._open[role] = is_segment(role) and bool(self._store.open(role, self._version))
        return self._open[role]

    def judged(self, role: str, judge: Callable[[], Quorum]) -> Quorum:
        """Return what was found of a role's quorum before, or what `judge` finds now: nothing changes within one reading."""
        if role not in self._quorums:
            self._quorums[role] = judge()
        return self._quorums[role]

    def of(self, role: str) -> RoleFiles:
        """Return the files of a role's drafts."""
        return self._of(role)[0]

    def draft(self, role: str) -> Draft | None:
        """Return what the drafts of a role come to, without signatures; None for nothing, or where they clash."""
        found = self._of(role)[1] if self.has(role) else None
        return found if isinstance(found, Draft) else None

    def clash(self, role: str) -> MergeRefused | None:
        """Return why the drafts of a role do not go together, if they do not."""
        found = self._of(role)[1] if self.has(role) else None
        return found if isinstance(found, MergeRefused) else None

    def merged(self) -> list[str]:
        """Return the roles whose drafts were put together and stand in no file yet; what was not asked for before is not kept."""
        found = ((role, self._read.get(role) or self._load(role)) for role in self.names)
        return [role for role, (_, draft) in found if isinstance(draft, Draft) and draft.merged]

    def targets_named(self, but: Collection[str]) -> frozenset[str]:
        """Return the SHA-256 of the target files that drafts name which are not published, of all roles but some."""
        found: set[str] = set()
        for files in (self.of(role) for role in self.names if role not in but):
            done = files.settled.done if files.settled else frozenset()
            for node in (node for name, node in files.nodes.items() if name not in done):
                targets: Any = node.value.get("targets")
                for target in targets.values() if isinstance(targets, dict) else ():
                    hashes = target.get("hashes") if isinstance(target, dict) else None
                    if isinstance(hashes, dict):
                        found.add(str(hashes.get("sha256")))
        return frozenset(found)

    def _of(self, role: str) -> tuple[RoleFiles, Draft | MergeRefused | None]:
        if role not in self._read:
            self._read[role] = self._load(role)
        return self._read[role]

    def _load(self, role: str) -> tuple[RoleFiles, Draft | MergeRefused | None]:
        nodes = self._store.nodes(role)
        before = _published(self._layout, role, self._published(role))
        settled: Settled | None = None
        found: Draft | MergeRefused | None = None
        try:
            settled = Lineage(role, nodes, before).settle()
        except MergeRefused as error:
            found = error
        if settled and settled.value is not None:
            value, payload = settled.value, canonical.canonical(settled.value)
            signed = _PARSED.get((role, payload), len(payload), lambda: parse_signed(value, role))
            found = Draft(role, signed, payload, {}, settled.merged)
        signatures, strange = self._store.signatures(role)
        digest = before.digest if before else None
        return RoleFiles(nodes, settled, digest, tuple(signatures), strange), found


def lineage(layout: Layout, role: str, published: Signed | None) -> Lineage:
    """Return the drafts of one role as they lie there; raises as `Drafted` does."""
    return Lineage(role, Drafts(layout).nodes(role), _published(layout, role, published))


def with_signatures(draft: Draft, delegators: Callable[[str], tuple[Root | Targets, ...]], found: Drafted) -> Draft:
    """Return a draft with the signatures on it that verify by a key of its role, and what became of the others."""
    files = found.of(draft.role)
    try:
        asked = delegators(draft.role)
    except (MergeRefused, RepositoryRefused):
        return draft  # whose signatures count is not known before that is put right
    open_ = files.settled.replaced if files.settled else frozenset()
    payloads = {node.digest: node.payload for node in files.nodes.values() if node.digest in open_}
    known = {files.published, *(node.digest for node in files.nodes.values())}
    good: dict[str, Signature] = {}
    replaced: set[tuple[str, str]] = set()
    strange = files.strange
    for file in files.signatures:
        payload = draft.payload if file.sha256 == draft.digest else payloads.get(file.sha256)
        if payload is None:
            strange += file.sha256 not in known
        elif not verifies(file, payload, draft.role, asked):
            strange += 1
        elif file.sha256 == draft.digest:
            good.setdefault(file.keyid, file.signature)
        else:
            replaced.add((file.keyid, file.sha256))
    gone = tuple(sorted(item for item in replaced if item[0] not in good))
    return replace(draft, signatures=good, replaced=gone, strange=strange)


def verifies(file: SignatureFile, payload: bytes, role: str, delegators: tuple[Root | Targets, ...]) -> bool:
    """Say whether a signature is on these bytes, by a key that one of the delegators names for the role."""
    key = wanted_key(file.keyid, role, delegators)
    if key is None:
        return False
    try:
        key.verify_signature(file.signature, payload)
    except UnverifiedSignatureError:
        return False
    return True


def wanted_key(keyid: str, role: str, delegators: tuple[Root | Targets, ...]) -> Key | None:
    """Return the key of that id which one of the delegators names for the role, or None."""
    for delegator in delegators:
        try:
            if keyid in delegator.get_delegated_role(role).keyids:
                return delegator.get_key(keyid)
        except ValueError:
            continue
    return None


def _published(layout: Layout, role: str, signed: Signed | None) -> Published | None:
    if signed is None:
        return None

    def older(version: int) -> tuple[Value, str] | None:
        data = read_optional(layout.metadata(file_name(role, version)), max_bytes(role))
        if data is None:
            return None
        try:
            found = canonical.loads(data)
        except MetadataError as error:
            what = f"public/metadata/{file_name(role, version)}"
            raise RepositoryRefused(what, expected="metadata", got=f"{error}"[:120]) from error
        value = found.get("signed") if isinstance(found, dict) else None
        return (value, _digest(value)) if isinstance(value, dict) else None

    value = signed.to_dict()
    return Published(value, _digest(value), older)


def _digest(value: Value) -> str:
    return sha256(canonical.canonical(value)).hexdigest()
