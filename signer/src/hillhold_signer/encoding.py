"""Metadata to bytes and back: the one form in which they are signed and written.

Signed bytes are the OLPC canonical JSON of `signed` (TUF 4.2.1), the same as python-tuf makes, by the verifier's encoder, which is
several times faster. A file is compact sorted JSON of the
whole `{"signatures":[…],"signed":{…}}` without a final line break, signatures by key id: the same bytes as the canonical form
wherever no control character occurs (canonical JSON writes the line breaks of a PEM key raw, which JSON readers refuse).

Before anything is signed, `check_content` refuses what readers disagree on or people cannot see: control characters (but for the
line breaks in a key's PEM), invisible and direction-changing ones, lone surrogates, floats, integers beyond ±(2⁵³−1), and a file
larger than a device accepts.
"""

from __future__ import annotations

import copy
import json
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, TypeVar

from securesystemslib.signer import Signature
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, Targets, Timestamp

from hillhold_signer.errors import ContentRefused, RepositoryRefused
from hillhold_verifier import canonical
from hillhold_verifier.errors import MetadataError
from hillhold_verifier.metadata import MAX_BYTES_OTHER, max_bytes

MAX_INTEGER: Final = canonical.MAX_INTEGER

_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of controls, format characters (zero width, direction: CVE-2021-42574), surrogates, and line separators."""
_BLANK: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
"""Letters and marks that show as nothing (most are Default_Ignorable_Code_Point)."""
TOO_MUCH: Final = (
    "a line's role holds some 1,900 releases, and targets some 700 lines with keys of their own: "
    "drop old releases, split the line, or give each product family a repository"
)

_SIGNATURES: Final = b'{"signatures":'
_SIGNED: Final = b',"signed":'

T = TypeVar("T", Root, Timestamp, Snapshot, Targets)


def signed_bytes(signed: Signed) -> bytes:
    """Return the bytes that are signed; raises `ContentRefused` for values that may not be."""
    return _canonical(_written(signed.to_dict()))


def file_bytes(signed: Signed, signatures: Mapping[str, Signature], role: str) -> bytes:
    """Return the bytes of a metadata file, signatures sorted by key id.

    Raises:
        ContentRefused: values that may not be signed, or more bytes than a device accepts for this role.
    """
    return _file(_written(signed.to_dict()), signatures, role)


def sign_file(signed: Signed, sign: Callable[[bytes], Mapping[str, Signature]], role: str) -> bytes:
    """Return the bytes of a metadata file, signed by `sign`, which returns signatures by key id; raises as `file_bytes`."""
    written = _written(signed.to_dict())
    return _file(written, sign(_canonical(written)), role)


def _canonical(written: bytes) -> bytes:
    """Canonical JSON of what was written; the same bytes, where no character needed an escape."""
    return canonical.canonical(json.loads(written)) if b"\\" in written else written


def _written(value: object) -> bytes:
    """The form in which files are written, of what may be signed; raises `ContentRefused`."""
    try:
        data = canonical.dumps(value)
        if _is_plain(value, data):
            return data
    except (MetadataError, TypeError, ValueError, RecursionError):
        pass
    check_content(value)
    return canonical.dumps(value)


def _is_plain(value: object, written: bytes) -> bool:
    """Say that there is nothing to refuse, and say it fast: what comes back from JSON without a backslash has no odd character.

    Where this says no, each value is looked at, which takes several times as long for the lists of a large repository.
    """
    return written.isascii() and b"\\" not in written and b"\x7f" not in written and canonical.loads(written) == value


def _file(signed: bytes, signatures: Mapping[str, Signature], role: str) -> bytes:
    found = canonical.dumps([signatures[keyid].to_dict() for keyid in sorted(signatures)])
    data = b"".join((_SIGNATURES, found, _SIGNED, signed, b"}"))
    if len(data) > (limit := max_bytes(role)):
        raise ContentRefused(f"{role} metadata", expected=f"at most {limit} bytes", got=len(data), hint=TOO_MUCH)
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
        return parse(data, kind)[0]
    except MetadataError as error:
        raise RepositoryRefused(what, expected="TUF metadata", got=f"{error}"[:120]) from error


def parse(data: bytes, kind: type[T]) -> tuple[Metadata[T], bytes]:
    """Read a metadata file in its written form for python-tuf; also return the bytes in it that its signatures are over.

    This is to read what is verified next: the signed bytes are cut out of the file, not made again, so that nothing but what was signed
    is read. A file that comes from somewhere else is for `load`, which is stricter and several times slower.

    Raises:
        MetadataError: malformed, or of another type than `kind`.
    """
    head, found, tail = data.partition(_SIGNED)
    if not found or not data.startswith(_SIGNATURES) or not data.endswith(b"}"):
        raise MetadataError("metadata", expected="signatures and signed", got="something else")
    payload = tail[:-1]
    try:
        signatures, signed = json.loads(head + b"}")["signatures"], json.loads(payload)
        if b"\\" in payload:  # canonical JSON writes control characters raw
            payload = canonical.canonical(signed)
        metadata = Metadata[T].from_dict({"signatures": signatures, "signed": signed})
    except (
        Exception
    ) as error:  # so does python-tuf's own reader: its classes raise whatever a value of another type makes them
        raise MetadataError("metadata", expected=f"{kind.type} of TUF 1.0", got=f"{error!r}"[:120]) from error
    if not isinstance(metadata.signed, kind):
        raise MetadataError("metadata type", expected=kind.type, got=metadata.signed.type[:40])
    return metadata, payload


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
    if text.isascii() and text.isprintable():
        return text
    bad = next((char for char in text if unicodedata.category(char) in _UNSEEN or char in _BLANK), None)
    if bad is not None:
        raise ContentRefused(
            what, expected="no control characters and none that do not show", got=f"U+{ord(bad):04X} in {text[:40]!r}"
        )
    return text


def check_line(text: str, what: str, limit: int) -> str:
    """Return a line that a person wrote, if it may be signed and shown.

    Args:
        limit: characters; at least one is wanted, and no space at either end.

    Raises:
        ContentRefused: too long or empty, or characters that people cannot see.
    """
    check_text(text, what)
    if not text or text != text.strip() or len(text) > limit:
        got = f"{len(text)} characters" if len(text) > limit else repr(text)[:40]
        raise ContentRefused(what, expected=f"1 to {limit} characters, without spaces around them", got=got)
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
