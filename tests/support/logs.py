"""Logs for tests: RFC 6962 written down as it stands there, a store in memory whose power fails, keys, witnesses.

`mth`, `path` and `proof` follow the definitions of RFC 6962, 2.1 to 2.1.2, over all entries at once, and share nothing with the code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hillhold_signer import example_signer
from hillhold_signer.errors import FileRefused, LockedError, LogRefused
from hillhold_signer.log import (
    Checkpoint,
    Event,
    FolderStore,
    Kind,
    NoteSigner,
    Store,
    audit,
    create_log,
    fetch_checkpoint,
    note_signer,
    open_log,
)
from hillhold_signer.log.note import KeyKind, Verifier
from workshop import NOW

ORIGIN = "log.example/hillhold"
SIGNER = note_signer(ORIGIN, example_signer("timestamp"))
KEYS = [SIGNER.verifier]

When = Literal["before", "torn", "after"]


# --- RFC 6962, section 2.1 --------------------------------------------------------------------------------------------


def mth(entries: Sequence[bytes]) -> bytes:
    if not entries:
        return sha256().digest()
    if len(entries) == 1:
        return sha256(b"\0" + entries[0]).digest()
    k = split(len(entries))
    return sha256(b"\1" + mth(entries[:k]) + mth(entries[k:])).digest()


def path(m: int, entries: Sequence[bytes]) -> list[bytes]:
    if len(entries) == 1:
        return []
    k = split(len(entries))
    if m < k:
        return [*path(m, entries[:k]), mth(entries[k:])]
    return [*path(m - k, entries[k:]), mth(entries[:k])]


def proof(m: int, entries: Sequence[bytes]) -> list[bytes]:
    return subproof(m, entries, True)


def subproof(m: int, entries: Sequence[bytes], b: bool) -> list[bytes]:
    if m == len(entries):
        return [] if b else [mth(entries)]
    k = split(len(entries))
    if m <= k:
        return [*subproof(m, entries[:k], b), mth(entries[k:])]
    return [*subproof(m - k, entries[k:], False), mth(entries[:k])]


def split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


# --- keys -------------------------------------------------------------------------------------------------------------


def key_signer(name: str, seed: int, kind: KeyKind = KeyKind.ED25519) -> NoteSigner:
    """A log's key, or a witness's, which cosigns at `NOW`."""
    private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    verifier = Verifier(name, kind, private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
    if kind is KeyKind.ED25519:
        return NoteSigner(verifier, private.sign)
    return NoteSigner(
        verifier, lambda text: NOW.to_bytes(8, "big") + private.sign(f"cosignature/v1\ntime {NOW}\n".encode() + text)
    )


# --- stores -----------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Not an Exception: nothing in the program may catch it."""


class MemoryStore:
    """Files in a dictionary, written as a store has to: all or nothing, and never changed.

    Attributes:
        files: what is there.
        cut, when: the number of the write at which the power fails, and whether before it or after it is done. "torn" is within
            it, which for a store that is atomic means that a stray temporary file is left.
    """

    def __init__(self, files: dict[str, bytes] | None = None, cut: int | None = None, when: When = "before") -> None:
        self.files = dict(files or {})
        self.cut, self.when, self.count, self.locked = cut, when, 0, False

    def read(self, path: str, limit: int) -> bytes | None:
        data = self.files.get(path)
        if data is not None and len(data) > limit:
            raise FileRefused(path, expected=limit, got=len(data))
        return data

    def list(self, folder: str) -> list[str]:
        below = [name.removeprefix(f"{folder}/") for name in self.files if name.startswith(f"{folder}/")]
        return sorted({name.partition("/")[0] for name in below if not name.startswith(".")})

    def create(self, path: str, data: bytes) -> None:
        if self.files.get(path, data) != data:
            raise LogRefused(path, expected="a new file", got="one with other content")
        self._write(path, data)

    def replace(self, path: str, data: bytes) -> None:
        self._write(path, data)

    def remove(self, path: str) -> None:
        self._write(path, None)

    @contextmanager
    def lock(self) -> Iterator[None]:
        if self.locked:
            raise LockedError("in use")
        self.locked = True
        try:
            yield
        finally:
            self.locked = False

    def _write(self, path: str, data: bytes | None) -> None:
        hit = self.count == self.cut
        self.count += 1
        if hit and self.when == "before":
            raise Killed
        if hit and self.when == "torn" and data is not None:
            folder, _, name = path.rpartition("/")
            self.files[f"{folder}/.{name}.tmp"] = data[: len(data) // 2]
            raise Killed
        if data is None:
            self.files.pop(path, None)
        else:
            self.files[path] = data
        if hit:
            raise Killed


class TearingFolder(FolderStore):
    """A folder whose power fails at one of its writes; a torn one leaves a temporary file as `storage` names it."""

    cut: int | None = None
    when: When = "before"
    count = 0

    def replace(self, path: str, data: bytes) -> None:
        hit = self.count == self.cut
        self.count += 1
        target = self.path / path
        if hit and self.when == "torn":
            target.parent.mkdir(parents=True, exist_ok=True)
            target.with_name(f".{target.name}.tmp").write_bytes(data[: len(data) // 2])
        if hit and self.when != "after":
            raise Killed
        super().replace(path, data)
        if hit:
            raise Killed


# --- logs -------------------------------------------------------------------------------------------------------------


def event(number: int) -> bytes:
    """An entry that says its number."""
    fields: dict[str, str | int] = {"role": "pump", "version": number + 1, "sha256": f"{number:064x}"}
    return Event(NOW + number, Kind.PUBLICATION, "Ada", fields).encode()


def events(start: int, end: int) -> list[bytes]:
    return [event(number) for number in range(start, end)]


def check(store: Store, verifiers: Sequence[Verifier] = KEYS, kept: Sequence[Checkpoint] = ()) -> Checkpoint:
    """Check all of a log as an auditor does; return its checkpoint."""
    signed = fetch_checkpoint(store, verifiers)
    audit(store, signed, kept)
    return signed.checkpoint


def filled(store: Store, *batches: int) -> list[bytes]:
    """Make a log of as many events as the batches say; return them."""
    create_log(store, [SIGNER])
    with open_log(store, [SIGNER]) as log:
        for count in batches:
            log.append(events(log.size, log.size + count))
        return events(0, log.size)
