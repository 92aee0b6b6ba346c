"""One person's signature as a file: what `sign` puts into the repository, and what travels back from an offline laptop.

    {"hillhold":"signature","keyid":HEX64,"role":"pump","sha256":HEX64,"sig":HEX,"v":1,"version":3}

`sha256` is that of the signed bytes. The file itself is trusted for nothing: the signature verifies, over those bytes and by a key
that they ask for, or it does not count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from securesystemslib.signer import Signature

from hillhold_signer.errors import RequestRefused
from hillhold_signer.layout import is_segment
from hillhold_verifier import canonical
from hillhold_verifier.errors import MetadataError

MAX_SIGNATURE_FILE: Final = 32 * 1024
"""Bytes: an ML-DSA-87 signature has 9,254 hexadecimal digits."""
VERSION: Final = 1

_HASH: Final = re.compile(r"[0-9a-f]{64}")
_HEX: Final = re.compile(r"([0-9a-f]{2})+")


@dataclass(frozen=True, slots=True)
class SignatureFile:
    """A signature on one version of a role.

    Attributes:
        sha256: digest of the signed bytes in hexadecimal.
    """

    role: str
    version: int
    sha256: str
    signature: Signature

    @property
    def keyid(self) -> str:
        """Whose key made it, as it says."""
        return self.signature.keyid

    def data(self) -> bytes:
        """Return the file."""
        return canonical.dumps(
            {
                "hillhold": "signature",
                "keyid": self.signature.keyid,
                "role": self.role,
                "sha256": self.sha256,
                "sig": self.signature.signature,
                "v": VERSION,
                "version": self.version,
            }
        )


def parse_signature(data: bytes) -> SignatureFile:
    """Parse a signature file.

    Raises:
        RequestRefused: not one, of another format version, or not in its one byte form.
    """
    if len(data) > MAX_SIGNATURE_FILE:
        raise RequestRefused("signature file", expected=f"at most {MAX_SIGNATURE_FILE} bytes", got=len(data))
    value = opened(data, "signature")
    role, version, digest = value.get("role"), value.get("version"), value.get("sha256")
    keyid, sig = value.get("keyid"), value.get("sig")
    whole = isinstance(role, str) and is_segment(role) and type(version) is int and version > 0
    hashes = all(isinstance(item, str) and _HASH.fullmatch(item) for item in (digest, keyid))
    if not whole or not hashes or not isinstance(sig, str) or not _HEX.fullmatch(sig):
        raise RequestRefused("signature file", expected="role, version, sha256, keyid and sig", got="something else")
    found = SignatureFile(str(role), int(str(version)), str(digest), Signature(str(keyid), sig))
    if found.data() != data:
        raise RequestRefused("signature file", expected="its one byte form", got="another")
    return found


def opened(data: bytes, kind: str) -> dict[str, object]:
    """Return the object of a file that people mail, whose `hillhold` is `kind`; raises `RequestRefused`."""
    what = f"{kind} file"
    try:
        value = canonical.loads(data)
    except MetadataError as error:
        raise RequestRefused(what, expected="JSON that `hillhold` wrote", got=f"{error}"[:120]) from error
    if not isinstance(value, dict) or value.get("hillhold") != kind:
        got = str(value.get("hillhold"))[:40] if isinstance(value, dict) else "something else"
        raise RequestRefused(what, expected=f'one that says "hillhold": "{kind}"', got=got)
    if value.get("v") != VERSION or value.get("v") is True:
        raise RequestRefused(f"{what} format", expected=VERSION, got=f"{value.get('v')}"[:40])
    return value
