"""Drafts: what a role is to become, while people are signing it; and their signatures.

Every file is named by the SHA-256 of its bytes and never changed. A draft says which drafts it comes after, so that whoever holds
two files knows whether one replaced the other or both were made at once (`lineage`). A signature states the SHA-256 of what was
signed: one that belongs to other bytes, or does not verify, counts for nothing. Whoever changes a draft therefore starts its
signatures over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any, Final

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, Signature
from tuf.api.metadata import Root, Targets

from hillhold_signer import encoding
from hillhold_signer.errors import RepositoryRefused, RequestRefused
from hillhold_signer.keys import default_keyid
from hillhold_signer.layout import Layout, is_segment
from hillhold_signer.memo import Memo
from hillhold_signer.signatures import MAX_SIGNATURE_FILE, SignatureFile, parse_signature
from hillhold_signer.storage import list_folder, read_optional, remove_file, write_file
from hillhold_verifier import canonical
from hillhold_verifier.errors import MetadataError
from hillhold_verifier.metadata import MAX_BYTES_OTHER

MAX_FILES: Final = 4096
"""Files in the drafts of one role: far more than people make between two publications."""
MAX_AFTER: Final = 64
"""Drafts that one draft may say it comes after."""
MAX_DRAFT: Final = MAX_BYTES_OTHER + 128 * MAX_AFTER
"""Bytes of a draft's file."""

_PARSED: Final[Memo[Node]] = Memo(4 * 1024 * 1024)  # bytes of JSON
_DRAFT: Final = re.compile(r"[0-9a-f]{64}\.json")
_SIGNATURE: Final = re.compile(r"[0-9a-f]{64}\.sig")
_DONE: Final = re.compile(r"([0-9a-f]{64})\.([1-9][0-9]{0,15})\.done")
_HASH: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Node:
    """The file of a draft.

    Attributes:
        name: SHA-256 of the file, in hexadecimal as everywhere here.
        after: what it comes after: names of drafts, or the digest of the published version that it grew from.
        value: the JSON of `signed`.
        payload: what people sign, the canonical JSON of `value`.
    """

    name: str
    after: tuple[str, ...]
    value: Mapping[str, Any]
    payload: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of what people sign."""
        return sha256(self.payload).hexdigest()

    @property
    def version(self) -> int:
        """Version of the role."""
        return int(self.value["version"])


@dataclass(frozen=True, slots=True)
class Draft:
    """The next version of a role.

    Attributes:
        signed: what people sign.
        payload: its bytes.
        signatures: by key id, those on these bytes; they verify, unless nobody can say by which keys they should.
        merged: it was put together from several drafts, and has no file of its own yet.
        replaced: key id and digest of signatures on drafts that this one comes after: they count no more.
        strange: files that are no signature of any draft that is here.
    """

    role: str
    signed: Root | Targets
    payload: bytes
    signatures: Mapping[str, Signature]
    merged: bool = False
    replaced: tuple[tuple[str, str], ...] = ()
    strange: int = 0

    @property
    def digest(self) -> str:
        """SHA-256 of the signed bytes in hexadecimal."""
        return sha256(self.payload).hexdigest()

    def file(self) -> bytes:
        """Return the metadata file with the signatures so far; raises `ContentRefused`."""
        return encoding.file_bytes(self.signed, self.signatures, self.role)


@dataclass(frozen=True, slots=True)
class Share:
    """What one delegator asks of a role: a threshold of keys, and which of them have signed."""

    threshold: int
    signed: tuple[str, ...]
    unsigned: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Quorum:
    """All that is asked of a role: one share, or two for a root that follows another (TUF 5.3.4, 5.3.5)."""

    shares: tuple[Share, ...]

    @property
    def complete(self) -> bool:
        """Whether it may be published."""
        return all(len(share.signed) >= share.threshold for share in self.shares)

    @property
    def missing(self) -> tuple[str, ...]:
        """Key ids that could still sign towards a share that is short."""
        short = (share for share in self.shares if len(share.signed) < share.threshold)
        return tuple(dict.fromkeys(keyid for share in short for keyid in share.unsigned))

    @property
    def signed(self) -> tuple[str, ...]:
        """Key ids that have signed."""
        return tuple(dict.fromkeys(keyid for share in self.shares for keyid in share.signed))

    @property
    def wanted(self) -> frozenset[str]:
        """Key ids that may sign, whether or not they have."""
        return frozenset(keyid for share in self.shares for keyid in (*share.signed, *share.unsigned))

    @property
    def titles(self) -> tuple[str, ...]:
        """What the delegator of each share is called; empty where there is one."""
        return ("old root", "new root") if len(self.shares) > 1 else ("",)

    def __str__(self) -> str:
        """As "1 of 2", a root after another as "old root 1 of 2, new root 0 of 2"."""
        counts = (f"{len(share.signed)} of {share.threshold}" for share in self.shares)
        return ", ".join(f"{title} {count}".lstrip() for title, count in zip(self.titles, counts, strict=True))


def quorum(draft: Draft, delegators: Iterable[Root | Targets]) -> Quorum:
    """Judge a draft's signatures; raises `RepositoryRefused` where a delegator does not know the role."""
    shares = []
    for delegator in delegators:
        try:
            result = delegator.get_verification_result(draft.role, draft.payload, dict(draft.signatures))
        except ValueError as error:
            raise RepositoryRefused(f"draft of {draft.role}", expected="a role with keys", got=str(error)) from error
        shares.append(Share(result.threshold, tuple(result.signed), tuple(result.unsigned)))
    return Quorum(tuple(shares))


class Drafts:
    """The files of a repository's drafts, for one reading or one change. Writing needs the repository's lock."""

    def __init__(self, layout: Layout) -> None:
        self._folder = layout.drafts
        self._listed: dict[str, list[str]] = {}

    def roles(self, published: Callable[[str], int]) -> list[str]:
        """Return the roles that may have something to sign: root and targets first, then product lines by name.

        Args:
            published: returns the number of a role's published version, 0 without one. A draft that was noted as a part of that
                version or one before (`note_done`) is not looked at, so that a repository of many lines is not read whole each time.

        Raises:
            RepositoryRefused: too many files.
            StorageError: a folder cannot be read.
        """
        names = [name for name in list_folder(self._folder) if is_segment(name) and self.open(name, published)]
        return sorted(names, key=lambda name: ({"root": 0, "targets": 1}.get(name, 2), name))

    def nodes(self, role: str) -> dict[str, Node]:
        """Return the drafts of a role by name, each as it was written.

        Raises:
            RepositoryRefused: one is damaged, or there are too many.
            StorageError: one cannot be read.
        """
        found = {}
        for file in self._names(role, _DRAFT):
            data = read_optional(self._folder / role / file, MAX_DRAFT)
            if data is not None:
                name = file.removesuffix(".json")
                found[name] = _PARSED.get((name, role, data), len(data), partial(parse_node, data, name, role))
        return found

    def signatures(self, role: str) -> tuple[list[SignatureFile], int]:
        """Return the well-formed signatures among a role's files, and how many other files there are; raises `StorageError`."""
        found = []
        names = self._names(role, _SIGNATURE)
        for file in names:
            data = read_optional(self._folder / role / file, MAX_SIGNATURE_FILE)
            if data is not None and f"{sha256(data).hexdigest()}.sig" == file:
                try:
                    signature = parse_signature(data)
                except RequestRefused:
                    continue
                if signature.role == role:
                    found.append(signature)
        ours = sum(len(self._names(role, pattern)) for pattern in (_DRAFT, _DONE))
        return found, len(self._all(role)) - ours - len(found)

    def save(self, role: str, signed: Root | Targets, after: Iterable[str]) -> str:
        """Write a draft.

        Args:
            after: names of the drafts that it replaces, or the digest of the published version that it grew from.

        Returns:
            Its name.

        Raises:
            ContentRefused: values that may not be signed.
            StorageError: it cannot be written.
        """
        encoding.file_bytes(signed, {}, role)
        data = canonical.dumps({"after": sorted(set(after)), "role": role, "signed": signed.to_dict()})
        name = sha256(data).hexdigest()
        write_file(self._folder / role / f"{name}.json", data)
        return name

    def add_signature(self, file: SignatureFile, draft: Draft, key: Key) -> None:
        """Keep one person's signature on a draft.

        Raises:
            RepositoryRefused: it does not verify (a broken token or key service).
            StorageError: it cannot be written.
        """
        try:
            key.verify_signature(file.signature, draft.payload)
        except UnverifiedSignatureError as error:
            raise RepositoryRefused("new signature", expected="one that verifies", got="another") from error
        data = file.data()
        write_file(self._folder / draft.role / f"{sha256(data).hexdigest()}.sig", data)

    def forget(self, role: str, names: Iterable[str]) -> None:
        """Remove drafts by name, and then each signature that is on none that is left; raises as `nodes` does."""
        self._listed.pop(role, None)
        gone = set(names)
        for name in sorted(gone):
            remove_file(self._folder / role / f"{name}.json")
        for file in self._names(role, _DONE):
            if file.partition(".")[0] in gone:
                remove_file(self._folder / role / file)
        self._listed.pop(role, None)
        left = {node.digest for node in self.nodes(role).values()}
        for file in self._names(role, _SIGNATURE):
            data = read_optional(self._folder / role / file, MAX_SIGNATURE_FILE)
            try:
                keep = data is not None and parse_signature(data).sha256 in left
            except RequestRefused:
                keep = True  # not ours to judge: a copy that has not finished, perhaps
            if not keep:
                remove_file(self._folder / role / file)

    def note_done(self, role: str, names: Iterable[str], version: int) -> None:
        """Note, by empty files, that drafts are a part of a version that was published; raises `StorageError`."""
        for name in names:
            write_file(self._folder / role / f"{name}.{version}.done", b"")

    def open(self, role: str, published: Callable[[str], int]) -> frozenset[str]:
        """Return the names of a role's drafts but those that were noted as a part of what is published; raises as `roles`."""
        names = self._all(role)
        noted = [match for file in names if file.endswith(".done") and (match := _DONE.fullmatch(file))]
        number = published(role) if noted else 0
        done = {match[1] for match in noted if int(match[2]) <= number}
        drafts = (file[:-5] for file in names if file.endswith(".json") and _DRAFT.fullmatch(file))
        return frozenset(name for name in drafts if name not in done)

    def _names(self, role: str, pattern: re.Pattern[str]) -> list[str]:
        return [name for name in self._all(role) if pattern.fullmatch(name)]

    def _all(self, role: str) -> list[str]:
        """The names of a role's files, which are listed once: what comes in meanwhile is for the next reading."""
        if role not in self._listed:
            names = list_folder(self._folder / role)
            if len(names) > MAX_FILES:
                raise RepositoryRefused(f"drafts of {role}", expected=f"at most {MAX_FILES} files", got=len(names))
            self._listed[role] = names
        return self._listed[role]


def parse_signed(value: Mapping[str, Any], role: str) -> Root | Targets:
    """Return the JSON of a draft's `signed` as metadata.

    Raises:
        RepositoryRefused: not of that role, or not in the form in which it would be signed.
    """
    what = f"draft of {role}"
    data = canonical.dumps({"signatures": [], "signed": value})
    root = role == "root"
    signed = encoding.load(data, Root, what).signed if root else encoding.load(data, Targets, what).signed
    check_keyids(signed, what)
    if encoding.signed_bytes(signed) != canonical.canonical(value):
        raise RepositoryRefused(what, expected="the form in which it is signed", got="another")
    return signed


def check_keyids(signed: Root | Targets, what: str) -> None:
    """Refuse metadata in which a key id stands for another key than the one it is computed from.

    People are shown key ids and the names behind them, so someone who changed a draft could otherwise put their own key under a
    colleague's id. (TUF lets key ids be chosen freely; here they never are.)

    Raises:
        RepositoryRefused: such a key.
    """
    keys = signed.keys if isinstance(signed, Root) else signed.delegations.keys if signed.delegations else {}
    for keyid, key in keys.items():
        if default_keyid(key) != keyid:
            raise RepositoryRefused(f"key {keyid[:16]} in {what}", expected="the key of that id", got="another key")


def parse_node(data: bytes, name: str, role: str) -> Node:
    """Return the file of a draft, of which `signed` was not looked at; raises `RepositoryRefused` for another's name, or a damaged one."""
    what = f"drafts/{role}/{name[:16]}….json"
    hint = "copy it again from where it came, or remove it; a copy that has not finished looks like this, too"
    if sha256(data).hexdigest() != name:
        raise RepositoryRefused(what, expected="the bytes that its name is the hash of", got="others", hint=hint)
    try:
        found = canonical.loads(data)
    except MetadataError as error:
        raise RepositoryRefused(what, expected="a draft", got=f"{error}"[:120], hint=hint) from error
    if not isinstance(found, dict) or set(found) != {"after", "role", "signed"} or found["role"] != role:
        raise RepositoryRefused(what, expected=f"a draft of {role}", got="something else", hint=hint)
    after, value = found["after"], found["signed"]
    if not isinstance(after, list) or len(after) > MAX_AFTER or not all(_is_hash(item) for item in after):
        raise RepositoryRefused(what, expected="hashes of what it comes after", got="something else", hint=hint)
    version = value.get("version") if isinstance(value, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise RepositoryRefused(what, expected="metadata with a version", got="something else", hint=hint)
    return Node(name, tuple(after), value, canonical.canonical(value))


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and _HASH.fullmatch(value) is not None
