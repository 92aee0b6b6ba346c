"""Two checks of one file: it has not expired, and it is the one that its lister names."""

from __future__ import annotations

from hillhold_verifier.errors import ExpiredError, MismatchError, short
from hillhold_verifier.metadata import Envelope, MetaFile, Signed
from hillhold_verifier.times import show_time


def check_expiry(role: str, expires: int, now: int) -> None:
    """Raise `ExpiredError` where `expires` is not after `now`, both Unix seconds."""
    if expires <= now:
        raise ExpiredError(
            f"{role} metadata", expected=f"unexpired at {show_time(now)}", got=f"expiry {show_time(expires)}"
        )


def is_listed(envelope: Envelope[Signed], name: str, listing: MetaFile, *, hashed: bool) -> bool:
    """Say whether `check_listed` would raise nothing: a held file counts on the same terms as one that comes."""
    try:
        check_listed(envelope, name, listing, hashed=hashed)
    except MismatchError:
        return False
    return True


def check_listed(envelope: Envelope[Signed], name: str, listing: MetaFile, *, hashed: bool) -> None:
    """TUF 5.5.2, 5.5.4, 5.6.2: the file is the one that its lister names, by version and hashes.

    Raises:
        MismatchError: it is not, or `hashed` and the lister states no SHA-256.
    """
    if listing.length is not None and len(envelope.raw) != listing.length:
        raise MismatchError(f"{name} length", expected=f"{listing.length}", got=len(envelope.raw))
    if hashed and "sha256" not in listing.hashes:
        raise MismatchError(f"{name} hash", expected="a SHA-256 from its lister", got="none")
    for algorithm, expected in listing.hashes.items():
        if (found := envelope.hash(algorithm)) != expected:
            raise MismatchError(f"{name} hash", expected=short(expected), got=short(found))
    if envelope.signed.version != listing.version:
        raise MismatchError(f"{name} version", expected=listing.version, got=envelope.signed.version)
