"""Metadata to bytes and back: the one form in which they are signed and written.

Signed bytes are the OLPC canonical JSON of `signed` (TUF 4.2.1), as python-tuf makes them. A file is compact sorted JSON of the
whole `{"signatures":[…],"signed":{…}}` without a final line break, signatures by key id: the same bytes as the canonical form
wherever no control character occurs (canonical JSON writes the line breaks of a PEM key raw, which JSON readers refuse).

Before anything is signed, `check_content` refuses what readers disagree on or people cannot see: U+0000 to U+001F (but for the
line breaks in a key's PEM), lone surrogates, floats, integers beyond ±(2⁵³−1), and a file larger than a device accepts.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, TypeVar

from securesystemslib.exceptions import FormatError
from securesystemslib.signer import Signature
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError
from tuf.api.serialization.json import CanonicalJSONSerializer

from hillhold_signer.errors import ContentRefused, RepositoryRefused
from hillhold_verifier import canonical
from hillhold_verifier.errors import MetadataError
from hillhold_verifier.metadata import MAX_BYTES_OTHER, max_bytes

MAX_INTEGER: Final = canonical.MAX_INTEGER

T = TypeVar("T", Root, Timestamp, Snapshot, Targets)


def signed_bytes(signed: Signed) -> bytes:
    """Return the bytes that are signed.

    Raises:
        ContentRefused: values that may not be signed.
    """
    check_content(signed.to_dict())
    try:
        return CanonicalJSONSerializer().serialize(signed)
    except (FormatError, TypeError, ValueError) as error:
        raise ContentRefused("metadata", expected="values of canonical JSON", got=str(error)[:80]) from error


def file_bytes(signed: Signed, signatures: Mapping[str, Signature], role: str) -> bytes:
    """Return the bytes of a metadata file, signatures sorted by key id.

    Raises:
        ContentRefused: values that may not be signed, or more bytes than a device accepts for this role.
    """
    value = signed.to_dict()
    check_content(value)
    data = canonical.dumps(
        {"signatures": [signatures[keyid].to_dict() for keyid in sorted(signatures)], "signed": value}
    )
    if len(data) > max_bytes(role):
        raise ContentRefused(f"{role} metadata", expected=f"at most {max_bytes(role)} bytes", got=len(data))
    return data


def digest(signed: Signed) -> str:
    """Return the SHA-256 of the signed bytes in hexadecimal, by which people compare what they sign."""
    return sha256(signed_bytes(signed)).hexdigest()


def load(data: bytes, kind: type[T], what: str) -> Metadata[T]:
    """Parse a metadata file.

    Args:
        kind: the type that it must be.
        what: names it in errors.

    Raises:
        RepositoryRefused: malformed, or of another type.
    """
    if len(data) > MAX_BYTES_OTHER:
        raise RepositoryRefused(what, expected=f"at most {MAX_BYTES_OTHER} bytes", got=len(data))
    try:
        canonical.loads(data)
        metadata = Metadata.from_bytes(data)
    except (DeserializationError, MetadataError, RecursionError) as error:
        raise RepositoryRefused(what, expected="TUF metadata", got=f"{error}"[:120]) from error
    if not isinstance(metadata.signed, kind):
        raise RepositoryRefused(what, expected=kind.type, got=metadata.signed.type)
    return metadata


def copied(signed: T) -> T:
    """Return an independent copy of metadata; python-tuf's own `to_dict` hands out the lists and custom data that it holds."""
    return type(signed).from_dict(copy.deepcopy(signed.to_dict()))


def utc(now: int) -> datetime:
    """Return Unix seconds as the aware datetime that python-tuf works with.

    Raises:
        ContentRefused: beyond the year 9999.
    """
    try:
        return datetime.fromtimestamp(now, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ContentRefused("date", expected="before the year 10000", got=f"{now} s") from error


def unix(when: datetime) -> int:
    """Return Unix seconds of a datetime."""
    return int(when.timestamp())


def check_text(text: str, what: str) -> str:
    """Return `text` if it may be signed and shown; raises `ContentRefused`."""
    bad = next((char for char in text if char < " " or "\ud800" <= char <= "\udfff" or char == "\x7f"), None)
    if bad is not None:
        raise ContentRefused(what, expected="no control characters", got=f"U+{ord(bad):04X} in {text[:40]!r}")
    return text


def check_content(value: object, what: str = "metadata", *, pem: bool = False) -> None:
    """Refuse what must not be signed, anywhere in `value`.

    Args:
        what: names the place in errors.
        pem: within a key's `keyval`, where line breaks belong.

    Raises:
        ContentRefused: see the module's text.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ContentRefused(what, expected="text as keys", got=type(key).__name__)
            check_text(key, f"name in {what}")
            check_content(item, f"{what} {key}"[:120], pem=pem or key == "keyval")
    elif isinstance(value, (list, tuple)):
        for item in value:
            check_content(item, what, pem=pem)
    elif isinstance(value, str):
        check_text(value.replace("\n", "") if pem else value, what)
    elif isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise ContentRefused(what, expected=f"at most {MAX_INTEGER} in magnitude", got=value)
    elif value is not None:
        raise ContentRefused(what, expected="text, integers, lists and objects", got=type(value).__name__)
