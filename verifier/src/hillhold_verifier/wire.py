"""Metadata on the wire: deflated against what the device already holds (DESIGN §3, "On the wire").

The preset dictionary of a raw deflate stream (RFC 1951) is fixed dictionary number 1, followed by the *base*: the file that delegates
to the role (root; for a line role, targets), whose key ids recur, and the held version of the file itself where the sender has it.
The base may be empty. Only the last 32 KiB count. Inflating gives the file's exact bytes, of which the signatures are then verified;
the encoding adds no trust and needs none. The announced length bounds what comes out.
"""

from __future__ import annotations

import zlib
from hashlib import sha256
from typing import Final

from hillhold_verifier.errors import WireError

BASE_NAME: Final = 4
"""Bytes of a base's SHA-256 that name it: enough to notice a mix-up; signatures guard the result."""
_WINDOW: Final = -15

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
    b'.patch":{"custom":{"hillhold":{"algorithm":"hhp1","base":"'
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


def deflate(data: bytes, base: bytes) -> bytes:
    """Return `data` deflated against the dictionary and the base."""
    # Most of a file is hexadecimal: with Z_FILTERED its digits are coded singly, not as chance matches of three.
    packer = zlib.compressobj(9, zlib.DEFLATED, _WINDOW, 8, zlib.Z_FILTERED, DICTIONARY_1 + base)
    return packer.compress(data) + packer.flush()


def inflate(packed: bytes, base: bytes, length: int) -> bytes:
    """Return the `length` bytes that `packed` stands for; never produces more than one byte beyond that.

    Raises:
        WireError: not a deflate stream, not of that length, or with bytes after its end.
    """
    if length < 0:  # zlib would take a limit of 0 for none
        raise WireError("length of deflated metadata", expected="at least 0", got=length)
    unpacker = zlib.decompressobj(_WINDOW, DICTIONARY_1 + base)
    try:
        data = unpacker.decompress(packed, length + 1)
    except zlib.error as error:
        raise WireError(f"deflated metadata: {error}") from None
    if not unpacker.eof or unpacker.unused_data or len(data) != length:
        came = f"{len(data)} bytes" + ("" if unpacker.eof else " and no end")
        raise WireError("deflated metadata", expected=f"{length} bytes and an end", got=came)
    return data
