"""Proofs of inclusion that verify offline (C2SP tlog-proof): index, hashes, and the checkpoint whose tree has the entry.

c2sp.org/tlog-proof@v1
extra BASE64             here: the entry itself, so that the file needs no other beside it
index N
BASE64                   one line for each hash, from the entry's sibling up
                         an empty line, then the checkpoint as it is
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hillhold_signer.errors import NoteRefused, ProofRefused
from hillhold_signer.log.checkpoint import SignedCheckpoint, open_checkpoint, parse_hash, parse_number, show_hash
from hillhold_signer.log.merkle import MAX_PROOF, leaf_hash, verify_inclusion
from hillhold_signer.log.note import MAX_NOTE, Verifier

HEADER: Final = "c2sp.org/tlog-proof@v1"
MAX_FILE: Final = 2 * MAX_NOTE
"""Bytes of a proof: a checkpoint, an entry in base64, 63 hashes."""
_EXTRA, _INDEX = "extra ", "index "


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof as it came; nothing of it is verified.

    Attributes:
        index: of the entry, from 0.
        hashes: from the entry's sibling to the root's child.
        checkpoint: a signed checkpoint, its bytes.
        extra: the entry in a proof of ours; in others what they like; None where there is none.
    """

    index: int
    hashes: Sequence[bytes]
    checkpoint: bytes
    extra: bytes | None = None

    @classmethod
    def parse(cls, data: bytes) -> Proof:
        """Read a proof.

        Raises:
            ProofRefused: malformed. The checkpoint is not looked at.
        """
        if len(data) > MAX_FILE:
            raise ProofRefused("proof", expected=f"at most {MAX_FILE} bytes", got=len(data))
        head, separator, checkpoint = data.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
            if not separator or lines.pop(0) != HEADER:
                raise ProofRefused("proof", expected=f"{HEADER} and a checkpoint", got=f"{data[:40]!r}")
            extra = _extra(lines.pop(0)) if lines and lines[0].startswith(_EXTRA) else None
            if not lines or not lines[0].startswith(_INDEX) or len(lines) > 1 + MAX_PROOF:
                raise ProofRefused(
                    "proof", expected=f"an index and up to {MAX_PROOF} hashes", got=f"{len(lines)} lines"
                )
            index = parse_number(lines.pop(0).removeprefix(_INDEX), "index of a proof")
            hashes = tuple(parse_hash(line, "hash of a proof") for line in lines)
        except UnicodeDecodeError as error:
            raise ProofRefused("proof", expected="ASCII", got=f"byte {error.start} that is not") from None
        except NoteRefused as error:
            raise ProofRefused(error.what, expected=error.expected, got=error.got) from None
        return cls(index, hashes, checkpoint, extra)

    @property
    def data(self) -> bytes:
        """The proof as a file."""
        lines = [HEADER]
        if self.extra is not None:
            lines.append(_EXTRA + base64.b64encode(self.extra).decode())
        lines += [f"{_INDEX}{self.index}", *map(show_hash, self.hashes)]
        return "".join(f"{line}\n" for line in lines).encode() + b"\n" + self.checkpoint

    def verify(self, entry: bytes, verifiers: Sequence[Verifier]) -> SignedCheckpoint:
        """Check that a log with one of these keys holds this entry at the index.

        Returns:
            The checkpoint, with the signatures that verified.

        Raises:
            NoteRefused: the checkpoint is not signed by the log.
            ProofRefused: the entry is not in its tree, by this proof.
        """
        signed = open_checkpoint(self.checkpoint, verifiers)
        checkpoint = signed.checkpoint
        verify_inclusion(self.index, checkpoint.size, leaf_hash(entry), checkpoint.root, self.hashes)
        return signed


def _extra(line: str) -> bytes:
    encoded = line.removeprefix(_EXTRA)
    try:
        found = base64.b64decode(encoded, validate=True)
    except ValueError:
        found = b""
    if base64.b64encode(found).decode() != encoded:
        raise ProofRefused("extra data of a proof", expected="base64", got=f"{encoded[:60]!r}")
    return found
