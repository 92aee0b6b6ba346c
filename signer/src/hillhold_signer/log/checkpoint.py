"""Checkpoints (C2SP tlog-checkpoint): a signed note whose text is a log's origin, its size and the root of its tree, one line each.

The name of a log's key is its origin. So a key of one log opens no checkpoint of another, and a witness's key none at all.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hillhold_signer.errors import NoteRefused
from hillhold_signer.log.merkle import HASH_SIZE, MAX_SIZE
from hillhold_signer.log.note import KeyKind, NoteSigner, Signature, Verifier, open_note, read_note, sign_note

PATH: Final = "checkpoint"
"""Where it lies in a log."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log states of itself.

    Attributes:
        origin: names the log.
        size: number of entries.
        root: root of their tree.
        extensions: further lines, which mean nothing here.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: bytes) -> Checkpoint:
        """Return what the text of a note says.

        Raises:
            NoteRefused: it is not a checkpoint's.
        """
        lines = text.decode().split("\n")
        if lines.pop() or len(lines) < 3 or not all(lines):
            raise NoteRefused("checkpoint", expected="lines of origin, size and root", got=f"{text[:80]!r}")
        origin, size, root, *extensions = lines
        return cls(origin, parse_number(size, "size of a checkpoint"), parse_hash(root, "root"), tuple(extensions))

    @property
    def text(self) -> bytes:
        """What is signed."""
        lines = [self.origin, str(self.size), show_hash(self.root), *self.extensions]
        return "".join(f"{line}\n" for line in lines).encode()


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint as it came.

    Attributes:
        data: the note's bytes.
        checkpoint: what it says.
        signatures: those that verified, of the log and of witnesses; none where it was only read.
        unknown: names that signed by keys which nobody gave.
    """

    data: bytes
    checkpoint: Checkpoint
    signatures: tuple[Signature, ...]
    unknown: tuple[str, ...]


def sign_checkpoint(checkpoint: Checkpoint, signers: Sequence[NoteSigner]) -> bytes:
    """Return a signed checkpoint; raises `NoteRefused` where a signature is wrong."""
    return sign_note(checkpoint.text, signers)


def open_checkpoint(data: bytes, verifiers: Sequence[Verifier]) -> SignedCheckpoint:
    """Open a checkpoint that one of these keys has signed as the log's own; the others are witnesses.

    Raises:
        NoteRefused: malformed; a wrong signature of a given key; none by the log's.
    """
    note = open_note(data, verifiers)
    checkpoint = Checkpoint.parse(note.text)
    own = [one for one in note.signatures if one.verifier.kind is KeyKind.ED25519]
    if not any(one.verifier.name == checkpoint.origin for one in own):
        got = ", ".join(one.verifier.name for one in note.signatures)
        raise NoteRefused(f"checkpoint of {checkpoint.origin}", expected="a signature by the log's own key", got=got)
    return SignedCheckpoint(data, checkpoint, note.signatures, note.unknown)


def read_checkpoint(data: bytes) -> SignedCheckpoint:
    """Read a checkpoint without any key: what it says is then anybody's word; raises `NoteRefused`."""
    note = read_note(data)
    return SignedCheckpoint(data, Checkpoint.parse(note.text), (), note.unknown)


def parse_number(text: str, what: str) -> int:
    """Return a decimal number in its one form, at most `MAX_SIZE`; raises `NoteRefused`."""
    if not re.fullmatch("0|[1-9][0-9]{0,18}", text) or int(text) > MAX_SIZE:
        raise NoteRefused(what, expected=f"a decimal number up to {MAX_SIZE}", got=f"{text[:40]!r}")
    return int(text)


def parse_hash(text: str, what: str) -> bytes:
    """Return a hash written in base64, in its one form; raises `NoteRefused`."""
    try:
        found = base64.b64decode(text, validate=True)
    except ValueError:
        found = b""
    if len(found) != HASH_SIZE or show_hash(found) != text:
        raise NoteRefused(what, expected=f"{HASH_SIZE} bytes in base64", got=f"{text[:60]!r}")
    return found


def show_hash(value: bytes) -> str:
    """Return a hash in base64."""
    return base64.b64encode(value).decode()
