"""Who asks: an API token, a bearer JWT of an issuer, or a client certificate becomes a `Principal`, or is refused.

`Authorization: Bearer` has a token of ours or a JWT, `Authorization: Basic` a token of ours as the password (the user's name says nothing).
Where there is such a header, it decides, and a certificate does not; two of them are refused.

A failed login is recorded by what the service knows, never by what was sent, and so many of them a minute at most (`Flood`).

Failed logins are limited by address. What is good is let in from a held-up address all the same, since a hospital may have one for all:
to guess 256 random bits is hopeless at any rate, and the limit is there for the log and for the work. So an address is held up in its
failures only, and what has failed so often itself is not looked at again; how much else is looked at, the limit of requests bounds.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from sqlalchemy import Connection

from hillhold_signer.service import certificates, identities, tokens
from hillhold_signer.service.access import Principal, TooManyRefused, UnauthenticatedRefused
from hillhold_signer.service.certificates import Peer, Proxies
from hillhold_signer.service.oidc import Issuers
from hillhold_signer.service.ratelimit import Flood, Limiter, bucket_of

MAX_HEADER: Final = 32_768
"""Bytes of an `Authorization` header."""
_HINT: Final = "`Authorization: Bearer TOKEN`, as `hillhold token new` prints it; with hillhold, HILLHOLD_TOKEN"


@dataclass(frozen=True, slots=True)
class Limits:
    """Rate limits of one replica: units a second, and at once."""

    principal: Limiter
    address: Limiter
    failures: Limiter
    """Failed logins by address, and by what an address has sent: beyond it, they are told to wait, and are not recorded."""

    @classmethod
    def default(cls) -> Limits:
        """Return what suits a team, and a CI that submits hundreds of builds."""
        return cls(Limiter(200, 2000), Limiter(500, 4000), Limiter(1 / 6, 20))


class Authenticator:
    """Tells who asks.

    Args:
        issuers: of bearer JWTs.
        proxies: whose headers count.
        limits: of requests and failed logins.
        flood: of events.
    """

    def __init__(self, issuers: Issuers, proxies: Proxies, limits: Limits, flood: Flood) -> None:
        self._issuers, self._proxies, self._limits, self._flood = issuers, proxies, limits, flood

    def authenticate(
        self,
        connect: Callable[[], AbstractContextManager[Connection]],
        glance: Callable[[], AbstractContextManager[Connection]],
        *,
        headers: Sequence[tuple[bytes, bytes]],
        certificate: bytes | None,
        address: str,
        now: int,
        monotonic: float,
    ) -> Principal:
        """Return who asks, with what they may do now.

        Args:
            connect: gives a snapshot of the database. It is taken only after an issuer was asked.
            glance: gives the database for one statement.
            headers: as ASGI has them.
            certificate: DER, of this connection's own TLS.
            address: the other end of the connection.
            now: Unix seconds.
            monotonic: seconds, for rates and the age of keys.

        Raises:
            UnauthenticatedRefused: nobody that is known; its `records` are to be recorded.
            TooManyRefused: too many requests, or failed logins.
            IssuerError: an issuer's keys cannot be read.
            StorageError: the database cannot be reached.
        """
        peer = Peer(certificates.clean_address(address), None)
        try:
            peer = self._proxies.peer(address, certificate, headers)
            bucket = bucket_of(peer.address)
            _wait(self._limits.address.take(bucket, monotonic), "requests")
            sent = _sent(bucket, headers, peer.certificate)
            _wait(self._limits.failures.wait(sent, monotonic), "failed logins")
            who = self._who(connect, glance, headers, peer, now, monotonic)
        except NobodyRefused:
            raise
        except UnauthenticatedRefused as error:
            bucket = bucket_of(peer.address)
            _wait(self._limits.failures.take(bucket, monotonic), "failed logins")
            self._limits.failures.take(_sent(bucket, headers, peer.certificate), monotonic)
            error.records = self._records(peer.address, error.reason, monotonic)
            raise
        _wait(self._limits.principal.take(str(who.account_id), monotonic), "requests")
        return who

    def unrecorded(self, monotonic: float, *, all_: bool = False) -> tuple[tuple[str, str], ...]:
        """Return what is to be recorded of failed logins of a minute that is over; call it now and then, and (`all_`) at the end."""
        return _more(self._flood.drain(monotonic, all_=all_))

    def _who(
        self,
        connect: Callable[[], AbstractContextManager[Connection]],
        glance: Callable[[], AbstractContextManager[Connection]],
        headers: Sequence[tuple[bytes, bytes]],
        peer: Peer,
        now: int,
        monotonic: float,
    ) -> Principal:
        secret = _secret(headers)
        if secret is None and peer.certificate is None:
            raise NobodyRefused("none", hint=_HINT)
        if secret is None:
            said = certificates.claims(peer.certificate or b"", now)
            with connect() as connection:
                return identities.check(connection, identities.X509, said)
        if secret.startswith(tokens.PREFIX):
            tokens.parse(secret)  # no connection is taken for junk
            with glance() as connection:
                return tokens.check(connection, secret, now)
        verified = self._issuers.verify(secret, now, monotonic)
        with connect() as connection:
            return identities.check(connection, verified.issuer, verified.claims)

    def _records(self, actor: str, reason: str, monotonic: float) -> tuple[tuple[str, str], ...]:
        itself, held = self._flood.take(monotonic)
        return (*_more(held), *(((actor, reason),) if itself else ()))


class NobodyRefused(UnauthenticatedRefused):
    """Nothing that says who: no failed login, since nobody tried."""


def _more(held: int) -> tuple[tuple[str, str], ...]:
    return (("service", f"{held} more failed logins, which are not recorded one by one"),) if held else ()


def _wait(seconds: int, what: str) -> None:
    if seconds:
        raise TooManyRefused(what, seconds)


def _sent(bucket: str, headers: Sequence[tuple[bytes, bytes]], certificate: bytes | None) -> str:
    """The bucket of what an address has sent to say who asks."""
    said = [value for name, value in headers if name == b"authorization"] or [certificate or b""]
    return f"{bucket} {sha256(b' '.join(said)).hexdigest()}"


def _secret(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """What `Authorization` has: a token or a JWT (RFC 6750, 2.1; RFC 7617, 2); None where there is no such header."""
    found = [value for name, value in headers if name == b"authorization"]
    if not found:
        return None
    if len(found) > 1:
        raise UnauthenticatedRefused("two Authorization headers")
    if len(found[0]) > MAX_HEADER or not found[0].isascii():
        raise UnauthenticatedRefused("an Authorization header that is too long, or not ASCII")
    scheme, _, value = found[0].decode().strip().partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            password = b64decode(value.strip(), validate=True).partition(b":")[2].decode("ascii")
        except (Base64Error, UnicodeDecodeError):
            password = ""
        if password.startswith(tokens.PREFIX):
            return password
    raise UnauthenticatedRefused("an Authorization header of another form", hint=_HINT)
