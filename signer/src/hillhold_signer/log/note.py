"""Signed notes (C2SP signed-note): text, an empty line, and lines `— NAME BASE64(key id, signature)`.

A verifier key, or vkey, is text: `NAME+HEX(key id)+BASE64(kind, public key)`. Two kinds are known here: Ed25519 over the text (1), by
which a log signs, and a witness's timestamped cosignature of a checkpoint (4; C2SP tlog-cosignature, cosignature/v1), which is Ed25519 over
two further lines before the text.

`open_note` verifies. Signatures by keys that nobody gave are named and otherwise ignored, as the specification has it; one by a known key
must verify. Base64 is read in its one form, so that no byte of a note can change unnoticed.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.signer import Key, Signer

from hillhold_signer.errors import KeyRefused, NoteRefused

MAX_NOTE: Final = 262_144
"""Bytes of a note: 16 post-quantum signatures of 5 kB fit, as the specification wants."""
MAX_SIGNATURES: Final = 100

_KEY_ID: Final = 4
_SEPARATOR: Final = b"\n\n"
_DASH: Final = "— "
_TIMESTAMP: Final = 8
_SIGNATURE: Final = 64
_MAX_TIME: Final = 2**63 - 1


class KeyKind(IntEnum):
    """What a key signs: the signature type identifier byte."""

    ED25519 = 1
    COSIGNATURE = 4


@dataclass(frozen=True, slots=True)
class Verifier:
    """A key whose signatures are known.

    Attributes:
        name: of the key, which for a log's own is the log's origin.
        kind: what it signs.
        public: Ed25519 public key, 32 bytes.
    """

    name: str
    kind: KeyKind
    public: bytes

    @classmethod
    def parse(cls, vkey: str) -> Verifier:
        """Return the key that a vkey holds.

        Raises:
            NoteRefused: malformed, with another key's id, or of another kind.
        """
        name, _, rest = vkey.partition("+")
        key_id, _, key64 = rest.partition("+")
        key = _unbase64(key64)
        if not (is_name(name) and re.fullmatch("[0-9a-f]{8}", key_id) and key):
            raise NoteRefused("vkey", expected="NAME+HEX+BASE64", got=f"{vkey[:80]!r}", hint="see `hillhold log key`")
        if key[0] not in list(KeyKind) or len(key) != 1 + 32:
            got = f"kind {key[0]} with {len(key) - 1} bytes"
            raise NoteRefused(f"vkey of {name}", expected="an Ed25519 key of kind 1 (log) or 4 (witness)", got=got)
        found = cls(name, KeyKind(key[0]), key[1:])
        if found.key_id.hex() != key_id:
            raise NoteRefused(f"vkey of {name}", expected=f"the key id {found.key_id.hex()}", got=key_id)
        return found

    @property
    def key_id(self) -> bytes:
        """The first four bytes of the SHA-256 over name, line break, kind and public key."""
        return sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:_KEY_ID]

    @property
    def vkey(self) -> str:
        """The key as text."""
        return f"{self.name}+{self.key_id.hex()}+{_base64(bytes([self.kind]) + self.public)}"

    def verify(self, text: bytes, signature: bytes) -> int | None:
        """Verify a signature over the text of a note.

        Returns:
            For a cosignature its time, Unix seconds.

        Raises:
            NoteRefused: it is not by this key.
        """
        time = None
        if self.kind is KeyKind.COSIGNATURE:
            time, signature = int.from_bytes(signature[:_TIMESTAMP], "big"), signature[_TIMESTAMP:]
            text = b"cosignature/v1\ntime %d\n" % time + text
        try:
            if len(signature) != _SIGNATURE or (time or 0) > _MAX_TIME:
                raise InvalidSignature
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except InvalidSignature:
            raise NoteRefused(f"signature by {self.name}", expected="a valid one", got="a wrong one") from None
        return time


@dataclass(frozen=True, slots=True)
class NoteSigner:
    """A key that signs notes.

    Attributes:
        verifier: its public part and name.
        sign: returns the Ed25519 signature of a message.
    """

    verifier: Verifier
    sign: Callable[[bytes], bytes]


def note_verifier(name: str, key: Key) -> Verifier:
    """Return the key of a log with this origin.

    Raises:
        KeyRefused: not Ed25519.
        NoteRefused: not a name for a key.
    """
    if not is_name(name):
        raise NoteRefused("name of a log", expected="text without spaces and +", got=f"{name[:80]!r}")
    if key.keytype != "ed25519":
        raise KeyRefused("key of a log", expected="Ed25519 (C2SP signed-note)", got=key.keytype)
    return Verifier(name, KeyKind.ED25519, bytes.fromhex(str(key.keyval["public"])))


def note_signer(name: str, signer: Signer) -> NoteSigner:
    """Return the signer of a log with this origin, by a key as `keys.load_signer` opens it; raises as `note_verifier`."""
    return NoteSigner(
        note_verifier(name, signer.public_key), lambda message: bytes.fromhex(signer.sign(message).signature)
    )


@dataclass(frozen=True, slots=True)
class Signature:
    """A verified signature. `time`: of a cosignature, Unix seconds."""

    verifier: Verifier
    time: int | None


@dataclass(frozen=True, slots=True)
class Note:
    """A note.

    Attributes:
        text: what is signed, with its last line break.
        signatures: those that verified.
        unknown: names that signed by keys which nobody gave.
    """

    text: bytes
    signatures: tuple[Signature, ...]
    unknown: tuple[str, ...]


def sign_note(text: bytes, signers: Sequence[NoteSigner]) -> bytes:
    """Return a signed note; each signature is verified before it is used.

    Raises:
        NoteRefused: text that is not a note's, or a signer whose signature is wrong.
    """
    _check_text(text)
    if not text.endswith(b"\n"):
        raise NoteRefused("text of a note", expected="a line break at its end", got=f"{text[-20:]!r}")
    lines = []
    for signer in signers:
        signature = signer.sign(text)
        signer.verifier.verify(text, signature)
        lines.append(f"{_DASH}{signer.verifier.name} {_base64(signer.verifier.key_id + signature)}\n")
    return text + b"\n" + "".join(lines).encode()


def open_note(data: bytes, verifiers: Sequence[Verifier]) -> Note:
    """Open a note and verify the signatures of the keys that are given.

    Raises:
        NoteRefused: malformed, a wrong signature of a given key, or none of any.
    """
    note = read_note(data, verifiers)
    if not note.signatures:
        wanted = " or ".join(f"{one.name}+{one.key_id.hex()}" for one in verifiers) or "some key"
        got = f"by {', '.join(note.unknown)}" if note.unknown else "none"
        raise NoteRefused("signature", expected=f"one by {wanted}", got=got)
    return note


def read_note(data: bytes, verifiers: Sequence[Verifier] = ()) -> Note:
    """Read a note as `open_note` does, even if none of these keys has signed it: its text is then anybody's."""
    if len(data) > MAX_NOTE:
        raise NoteRefused("note", expected=f"at most {MAX_NOTE} bytes", got=len(data))
    _check_text(data)
    text, separator, block = data.rpartition(_SEPARATOR)
    lines = block.decode().split("\n")
    if not separator or lines.pop() or not 0 < len(lines) <= MAX_SIGNATURES:
        expected = f"text, an empty line and 1 to {MAX_SIGNATURES} lines of signatures"
        raise NoteRefused("note", expected=expected, got=f"{data[-60:]!r}")
    known = {(one.name, one.key_id): one for one in verifiers}
    signatures: dict[tuple[str, bytes], Signature] = {}
    unknown: list[str] = []
    for line in lines:
        name, key_id, signature = _signature(line)
        verifier = known.get((name, key_id))
        if verifier is None:
            unknown.append(f"{name}+{key_id.hex()}")
        else:
            signatures[name, key_id] = Signature(verifier, verifier.verify(text + b"\n", signature))
    return Note(text + b"\n", tuple(signatures.values()), tuple(dict.fromkeys(unknown)))


def is_name(text: str) -> bool:
    """Say whether this may name a key: not empty, no spaces, no `+`, and nothing that a note may not hold."""
    return bool(text) and "+" not in text and not any(char.isspace() or char < " " or _lone(char) for char in text)


def _lone(char: str) -> bool:
    return "\ud800" <= char <= "\udfff"


def _signature(line: str) -> tuple[str, bytes, bytes]:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    data = _unbase64(encoded)
    if not line.startswith(_DASH) or not is_name(name) or len(data) <= _KEY_ID:
        raise NoteRefused("line of a signature", expected="— NAME BASE64", got=f"{line[:80]!r}")
    return name, data[:_KEY_ID], data[_KEY_ID:]


def _check_text(data: bytes) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise NoteRefused("note", expected="UTF-8", got=f"byte {error.start} that is not") from None
    bad = next((char for char in text if char < " " and char != "\n"), None)
    if bad is not None:
        raise NoteRefused("note", expected="no control characters", got=f"U+{ord(bad):04X}")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unbase64(text: str) -> bytes:
    """Decode base64 in its one form; nothing where it is not that."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return data if _base64(data) == text else b""
