"""Two checks of one file: it has not expired, and it is the one that its lister names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from hillhold_verifier.errors import ExpiredError, MismatchError, short
from hillhold_verifier.metadata import Envelope, Signed
from hillhold_verifier.roles import MetaFile
from hillhold_verifier.times import show_time


def check_expiry(role: str, expires: int, now: int) -> None:
    """Raise `ExpiredError` where `expires` is not after `now`, both Unix seconds."""
    if expires <= now:
        raise ExpiredError(
            f"{role} metadata", expected=f"unexpired at {show_time(now)}", got=f"expiry {show_time(expires)}"
        )


def is_listed(envelope: Envelope[Signed], listing: MetaFile, *, hashed: bool) -> bool:
    """Say whether a file is the one that its lister names: a held file counts on the same terms as one that comes."""
    mismatch = next(content_mismatches(envelope.raw, "", listing, hashed=hashed), None)
    return mismatch is None and envelope.signed.version == listing.version


def check_content(data: bytes, name: str, listing: MetaFile, *, hashed: bool) -> None:
    """TUF 5.5.2, 5.6.2: the bytes are those that the lister names, before anything parses them.

    Raises:
        MismatchError: they are not, or `hashed` and the lister states no SHA-256.
    """
    for mismatch in content_mismatches(data, name, listing, hashed=hashed):
        raise mismatch


def content_mismatches(data: bytes, name: str, listing: MetaFile, *, hashed: bool) -> Iterator[MismatchError]:
    """All that `check_content` refuses, the one that it raises first."""
    if listing.length is not None and len(data) != listing.length:
        yield MismatchError(f"{name} length", expected=f"{listing.length}", got=len(data))
    if hashed and "sha256" not in listing.hashes:
        yield MismatchError(f"{name} hash", expected="a SHA-256 from its lister", got="none")
    for algorithm, expected in listing.hashes.items():
        if (found := hashlib.new(algorithm, data).digest()) != expected:
            yield MismatchError(f"{name} hash", expected=short(expected), got=short(found))


def check_version(envelope: Envelope[Signed], name: str, listing: MetaFile) -> None:
    """TUF 5.5.4, 5.6.4: the file has the version that its lister names; raises `MismatchError`."""
    if envelope.signed.version != listing.version:
        raise MismatchError(f"{name} version", expected=listing.version, got=envelope.signed.version)
