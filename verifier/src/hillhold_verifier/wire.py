"""Metadata on the wire: deflated against what the device already holds (DESIGN §3, "On the wire").

The preset dictionary of a raw deflate stream (RFC 1951) is fixed dictionary number 1, followed by the held version of the same file where
there is one. Only its last 32 KiB count. Inflating gives the file's exact bytes, of which the signatures are then verified; the
encoding adds no trust and needs none. The announced length bounds what comes out.
"""

from __future__ import annotations

import zlib
from hashlib import sha256
from typing import Final

from hillhold_verifier.errors import WireError

BASE_NAME: Final = 4
"""Bytes of a held file's SHA-256 that name it as a base: enough to notice a mix-up; signatures guard the result."""
_WINDOW: Final = -15
_LEVEL: Final = 9

# Text that metadata of a repository made by `hillhold` has in common, the most frequent last, since nearer matches are cheaper.
# Its bytes are part of the format: a change needs a new number (docs/FORMAT.md, "Dictionaries").
DICTIONARY_1: Final = (
    b'"scheme":"ecdsa-sha2-nistp256"}"keytype":"ecdsa","keyval":{"public":"-----BEGIN PUBLIC KEY-----\\n'
    b'MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\\n-----END PUBLIC KEY-----\\n"},'
    b'"_type":"root","consistent_snapshot":true,"roles":{"root":{"keyids":["targets":{"keyids":["],"threshold":2},'
    b'"withdrawn":"","downgrade_from":["requires":{"sbom":"source":"notes":"format":"raw"'
    b'"signed":{"_type":"targets","delegations":{"keys":{"'
    b'":{"keytype":"ed25519","keyval":{"public":"'
    b'"},"scheme":"ed25519"},"'
    b'},"roles":[{"keyids":["'
    b'"],"name":"'
    b'","paths":["'
    b'/*/*"],"terminating":true,"threshold":1,"x-hillhold":{"hardware":["'
    b'"],"max_offline_grace":2592000,"max_security_counter":4294967295}},{"keyids":["'
    b'"x-hillhold-offline-grace":604800},"version":1}'
    b'.patch":{"custom":{"hillhold":{"algorithm":"bsdiff-lzma","base":"'
    b'","base_length":,"makes":"'
    b'","v":1}},"hashes":{"sha256":"'
    b'"},"length":'
    b'.bin":{"custom":{"hillhold":{"format":"mcuboot","hardware":["'
    b'"],"kind":"security","security_counter":1,"v":1,"version":"'
    b'"],"kind":"feature","security_counter":0,"v":1,"version":"1.0.0"}},"hashes":{"sha256":"'
    b'"},"length":'
    b'{"signatures":[{"keyid":"'
    b'","sig":"'
    b'"},{"keyid":"'
    b'"}],"signed":{"_type":"targets","expires":"2027-01-01T00:00:00Z","spec_version":"1.0.31","targets":{"'
    b'"}],"signed":{"_type":"snapshot","expires":"2027-01-01T00:00:00Z","meta":{"'
    b'.json":{"hashes":{"sha256":"'
    b'"},"version":1},"targets.json":{"hashes":{"sha256":"'
    b'"},"version":1}},"spec_version":"1.0.31","version":1}}'
    b'"}],"signed":{"_type":"timestamp","expires":"2027-01-01T00:00:00Z","meta":{"snapshot.json":{"hashes":{"sha256":"'
    b'"},"version":1}},"spec_version":"1.0.31","version":1,"x-hillhold-issued":"2026-01-01T00:00:00Z"}}'
)


def base_name(held: bytes | None) -> bytes:
    """Return the name of a base: the first bytes of its SHA-256, or none where nothing is held."""
    return sha256(held).digest()[:BASE_NAME] if held is not None else b""


def deflate(data: bytes, held: bytes | None) -> bytes:
    """Return `data` deflated against the dictionary and the held version of the file."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW, 9, zlib.Z_DEFAULT_STRATEGY, DICTIONARY_1 + (held or b""))
    return packer.compress(data) + packer.flush()


def inflate(packed: bytes, held: bytes | None, length: int) -> bytes:
    """Return the `length` bytes that `packed` stands for; never produces more than one byte beyond that.

    Raises:
        WireError: not a deflate stream, not of that length, or with bytes after its end.
    """
    unpacker = zlib.decompressobj(_WINDOW, DICTIONARY_1 + (held or b""))
    try:
        data = unpacker.decompress(packed, length + 1)
    except zlib.error as error:
        raise WireError(f"deflated metadata: {error}") from None
    if not unpacker.eof or unpacker.unused_data or len(data) != length:
        came = f"{len(data)} bytes" + ("" if unpacker.eof else " and no end")
        raise WireError("deflated metadata", expected=f"{length} bytes and an end", got=came)
    return data
