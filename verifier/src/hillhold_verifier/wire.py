"""Metadata on the wire: deflated against what the device already holds (DESIGN §3, "On the wire").

A file travels in pieces of 16 KiB, each a raw deflate stream (RFC 1951) of its own. A piece's preset dictionary is fixed dictionary
number 1, followed by the *base*: the end of the *lister*, the file that delegates to the role (root; for a line role, targets), whose key
ids recur; and the part around the same place of the *held* version of the file itself, where the sender has it. Deflate looks back no more
than 32 KiB: in one stream, a snapshot of a thousand lines would find nothing of the one before it. Both parts of the base may be empty.

Inflating gives the file's exact bytes, of which the signatures are then verified; the encoding adds no trust and needs none. The
announced length bounds what comes out.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from hashlib import sha256
from typing import Final

from hillhold_verifier.errors import WireError

BASE_NAME: Final = 4
"""Bytes of a base's SHA-256 that name it: enough to notice a mix-up; signatures guard the result."""
PIECE: Final = 16 * 1024
"""Bytes of a file that one deflate stream codes; the last one has fewer."""
MARGIN: Final = 4 * 1024
"""Bytes of the held version before and behind the place of a piece that belong to its dictionary."""
WINDOW: Final = 32 * 1024
"""Bytes of a dictionary: deflate reaches no further back."""
_WINDOW_BITS: Final = -15

# Text that metadata of a repository made by `hillhold` has in common, the most frequent last, since nearer matches are cheaper.
# Its bytes are part of the format: a change needs a new number (docs/FORMAT.md, "Metadata on the wire").
DICTIONARY_1: Final = (
    b'"withdrawn":""downgrade_from":["requires":{"crit":["component":""format":"raw""kind":"security"'
    b'"ecdsa","keyval":{"public":"-----BEGIN PUBLIC KEY-----\\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE'
    b'==\\n-----END PUBLIC KEY-----\\n"},"scheme":"ecdsa-sha2-nistp256"},"'
    b'"}],"signed":{"_type":"root","consistent_snapshot":true,"expires":"2027-01-01T00:00:00Z","keys":{"'
    b'":{"keytype":"ed25519","keyval":{"public":"'
    b'"},"scheme":"ed25519"}},"roles":{"root":{"keyids":["'
    b'"],"threshold":2},"snapshot":{"keyids":["'
    b'"],"threshold":1},"targets":{"keyids":["'
    b'"],"threshold":2},"timestamp":{"keyids":["'
    b'"],"threshold":1}},"spec_version":"1.0.31","version":1}}'
    b'"}],"signed":{"_type":"targets","delegations":{"keys":{"'
    b'":{"keytype":"ed25519","keyval":{"public":"'
    b'"},"scheme":"ed25519"}},"roles":[{"keyids":["","'
    b'"],"name":"","paths":["'
    b'/*/*"],"terminating":true,"threshold":2,"x-hillhold":{"hardware":["'
    b'"],"max_offline_grace":2592000,"max_security_counter":4294967295}},{"keyids":["'
    b'"]}}]},"expires":"2027-01-01T00:00:00Z","spec_version":"1.0.31","targets":{},"version":1}}'
    b'.hex":{"custom":.signed.bin":{"custom":{"hillhold":{"format":"mcuboot","hardware":["'
    b'"],"kind":"security","security_counter":0,"v":1,"version":"1.0.0"}},"hashes":{"sha256":"'
    b'"},"length":100000},"'
    b'.bin":{"custom":{"hillhold":{"format":"mcuboot","hardware":["'
    b'"],"kind":"feature","security_counter":1,"v":1,"version":"1.0.0"}},"hashes":{"sha256":"'
    b'"},"length":200000},".bin.'
    b'.patch":{"custom":{"hillhold":{"algorithm":"hhp2","base":"'
    b'","base_length":,"makes":"'
    b'.bin","v":1}},"hashes":{"sha256":"'
    b'"},"length":10000}},"version":1,"x-hillhold-offline-grace":604800}}'
    b'"}],"signed":{"_type":"snapshot","expires":"2027-01-01T00:00:00Z","meta":{"'
    b'.json":{"hashes":{"sha256":"'
    b'"},"version":1},"targets.json":{"hashes":{"sha256":"'
    b'"},"version":1}},"spec_version":"1.0.31","version":1}}'
    b'"}],"signed":{"_type":"targets","expires":"2027-01-01T00:00:00Z","spec_version":"1.0.31","targets":{"'
    b'{"signatures":[{"keyid":"'
    b'","sig":"'
    b'"},{"keyid":"'
    b'"}],"signed":{"_type":"timestamp","expires":"2026-01-01T00:00:00Z","meta":{"snapshot.json":{"hashes":{"sha256":"'
    b'"},"version":1}},"spec_version":"1.0.31","version":1,"x-hillhold-issued":"2026-01-01T00:00:00Z"}}'
)


def base_name(data: bytes) -> bytes:
    """Return the name of a base, or of a held file: the first bytes of its SHA-256."""
    return sha256(data).digest()[:BASE_NAME]


def deflate(data: bytes, held: bytes = b"", lister: bytes = b"") -> bytes:
    """Return `data` deflated against the dictionary and the base."""
    packed = []
    for at, dictionary in _pieces(len(data), held, lister):
        # Most of a file is hexadecimal: with Z_FILTERED its digits are coded singly, not as chance matches of three.
        packer = zlib.compressobj(9, zlib.DEFLATED, _WINDOW_BITS, 8, zlib.Z_FILTERED, dictionary)
        packed += [packer.compress(data[at : at + PIECE]), packer.flush()]
    return b"".join(packed)


def inflate(packed: bytes, held: bytes, length: int, lister: bytes = b"") -> bytes:
    """Return the `length` bytes that `packed` stands for; never produces more than one byte beyond that.

    Raises:
        WireError: not deflate streams, not of that length, or with bytes after their end.
    """
    if length < 0:  # zlib would take a limit of 0 for none
        raise WireError("length of deflated metadata", expected="at least 0", got=length)
    made = bytearray()
    for at, dictionary in _pieces(length, held, lister):
        wanted = min(PIECE, length - at)
        unpacker = zlib.decompressobj(_WINDOW_BITS, dictionary)
        try:
            made += unpacker.decompress(packed, wanted + 1)
        except zlib.error as error:
            raise WireError(f"deflated metadata: {error}") from None
        packed = unpacker.unused_data
        if not unpacker.eof or len(made) != at + wanted:
            came = f"{len(made)} bytes" + ("" if unpacker.eof else " and no end")
            raise WireError("deflated metadata", expected=f"{at + wanted} bytes and an end", got=came)
    if packed:
        raise WireError("deflated metadata", expected="an end", got=f"{len(packed)} bytes more")
    return bytes(made)


def _pieces(length: int, held: bytes, lister: bytes) -> Iterator[tuple[int, bytes]]:
    """Where each piece of a file begins, and its dictionary; a file without bytes has one piece, too."""
    for at in range(0, length or 1, PIECE):
        # The same place in proportion: what a new version adds or drops lies scattered over the whole file.
        place = at * len(held) // (length or 1)
        near = held[max(0, place - MARGIN) : place + PIECE + MARGIN]
        room = WINDOW - len(DICTIONARY_1) - len(near)
        yield at, DICTIONARY_1 + lister[max(0, len(lister) - room) :] + near
