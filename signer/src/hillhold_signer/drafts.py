"""Drafts: the next version of a role while people are signing it, and their signatures.

A signature belongs to exact bytes: its file states the SHA-256 of what was signed, and one that belongs to other bytes, or that
does not verify, counts for nothing. Whoever changes a draft therefore starts its signatures over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, Signature
from tuf.api.metadata import Root, Targets

from hillhold_signer import encoding
from hillhold_signer.errors import RepositoryRefused, StorageError
from hillhold_signer.keys import default_keyid
from hillhold_signer.layout import Layout, is_segment
from hillhold_signer.storage import list_folder, read_optional, remove_file, write_file
from hillhold_verifier.metadata import MAX_BYTES_OTHER, MAX_SIGNATURES

MAX_SIGNATURE_FILE: Final = 32 * 1024
"""Bytes: an ML-DSA-87 signature has 9,254 hexadecimal digits."""

_DRAFT: Final = "draft.json"
_KEYID: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Draft:
    """The next version of a role.

    Attributes:
        signed: what people sign.
        payload: its bytes.
        signatures: by key id, those on these bytes; whether they verify is for `Quorum` to say.
    """

    role: str
    signed: Root | Targets
    payload: bytes
    signatures: Mapping[str, Signature]

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
    def wanted(self) -> frozenset[str]:
        """Key ids that may sign, whether or not they have."""
        return frozenset(keyid for share in self.shares for keyid in (*share.signed, *share.unsigned))

    def __str__(self) -> str:
        """As "1 of 2", a root after another as "1 of 2 and 0 of 2"."""
        return " and ".join(f"{len(share.signed)} of {share.threshold}" for share in self.shares)


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
    """The drafts of a repository. Writing needs the repository's lock."""

    def __init__(self, layout: Layout) -> None:
        self._folder = layout.drafts

    def roles(self) -> list[str]:
        """Return the roles that have a draft: root and targets first, then product lines by name; raises `StorageError`."""
        names = [
            name for name in list_folder(self._folder) if is_segment(name) and (self._folder / name / _DRAFT).exists()
        ]
        return sorted(names, key=lambda name: ({"root": 0, "targets": 1}.get(name, 2), name))

    def load(self, role: str) -> Draft | None:
        """Return the draft of a role with the signatures on it, or None.

        Raises:
            RepositoryRefused: it is damaged.
            StorageError: it cannot be read.
        """
        data = read_optional(self._folder / role / _DRAFT, MAX_BYTES_OTHER)
        if data is None:
            return None
        signed: Root | Targets
        if role == "root":
            signed = encoding.load(data, Root, "draft of root").signed
        else:
            signed = encoding.load(data, Targets, f"draft of {role}").signed
        check_keyids(signed, f"draft of {role}")
        payload = encoding.signed_bytes(signed)
        return Draft(role, signed, payload, self._signatures(role, sha256(payload).hexdigest()))

    def version(self, role: str) -> int | None:
        """Return the version of the draft of a role, of which nothing else is looked at; None where there is no draft.

        Raises:
            RepositoryRefused: it is damaged.
            StorageError: it cannot be read.
        """
        data = read_optional(self._folder / role / _DRAFT, MAX_BYTES_OTHER)
        if data is None:
            return None
        try:
            version = json.loads(data)["signed"]["version"]
        except (KeyError, RecursionError, TypeError, ValueError):
            version = None
        if not isinstance(version, int):
            raise RepositoryRefused(f"draft of {role}", expected="TUF metadata", got="something else")
        return version

    def save(self, role: str, signed: Root | Targets) -> None:
        """Write a draft; signatures on other bytes than these are removed.

        Raises:
            ContentRefused: values that may not be signed.
            StorageError: it cannot be written.
        """
        data = encoding.file_bytes(signed, {}, role)
        write_file(self._folder / role / _DRAFT, data)
        keep = self._signatures(role, encoding.digest(signed))
        for name in list_folder(self._folder / role):
            if name != _DRAFT and name.removesuffix(".json") not in keep:
                remove_file(self._folder / role / name)

    def add_signature(self, draft: Draft, signature: Signature, key: Key) -> None:
        """Keep one person's signature on a draft.

        Raises:
            RepositoryRefused: it does not verify (a broken token or key service).
            StorageError: it cannot be written.
        """
        try:
            key.verify_signature(signature, draft.payload)
        except UnverifiedSignatureError as error:
            raise RepositoryRefused("new signature", expected="one that verifies", got="another") from error
        value = {"keyid": signature.keyid, "sha256": draft.digest, "sig": signature.signature}
        data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
        write_file(self._folder / draft.role / f"{signature.keyid}.json", data)

    def discard(self, role: str) -> None:
        """Remove a draft and its signatures; raises `StorageError`."""
        remove_file(self._folder / role / _DRAFT)
        for name in list_folder(self._folder / role):
            remove_file(self._folder / role / name)
        try:
            (self._folder / role).rmdir()
        except OSError as error:
            raise StorageError(f"cannot remove {self._folder / role}: {error.strerror or error}") from error

    def _signatures(self, role: str, digest: str) -> dict[str, Signature]:
        found = {}
        for name in list_folder(self._folder / role)[: MAX_SIGNATURES + 1]:
            if name != _DRAFT:
                data = read_optional(self._folder / role / name, MAX_SIGNATURE_FILE)
                signature = parse_signature(data, digest) if data is not None else None
                if signature is not None and name == f"{signature.keyid}.json":
                    found[signature.keyid] = signature
        return found


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


def parse_signature(data: bytes, digest: str) -> Signature | None:
    """Parse a signature file; None where it is damaged or belongs to other bytes than those of `digest`."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or value.get("sha256") != digest:
        return None
    keyid, sig = value.get("keyid"), value.get("sig")
    if not isinstance(keyid, str) or not _KEYID.fullmatch(keyid):
        return None
    if not isinstance(sig, str) or not re.fullmatch(r"([0-9a-f]{2})+", sig):
        return None
    return Signature(keyid, sig)
