"""Mutual TLS: how a client certificate becomes an account.

Whoever ends TLS has verified the certificate against the configured CA: this service itself (`tls`), or a load balancer in front of it,
which hands it on in `Client-Cert` (RFC 9440: base64 of DER between colons). That header, and `X-Forwarded-For`, count only from the
address of a configured proxy; the proxy must remove what its own clients send under these names.

An identity of the issuer "x509" names the certificate by `sha256=` its fingerprint, or by `uri=` the one URI in its SAN, which then is
the CA's word. There is no revocation list: remove the identity, or disable the account, and it ends with that transaction.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hillhold_signer.errors import ConfigRefused
from hillhold_signer.service.access import UnauthenticatedRefused, shown

CLIENT_CERT: Final = b"client-cert"
FORWARDED_FOR: Final = b"x-forwarded-for"
MAX_CERTIFICATE: Final = 16_384
"""Bytes of DER."""
MAX_HOPS: Final = 20
UNKNOWN: Final = "unknown"
"""The address of whom a proxy does not name by one."""

_BYTES: Final = re.compile(rb":([A-Za-z0-9+/]+={0,2}):")  # RFC 8941, 3.3.5


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end: an address, or "unknown", and a certificate (DER) that was verified, or None."""

    address: str
    certificate: bytes | None


class Proxies:
    """The load balancers whose word counts.

    Args:
        networks: their addresses, or networks such as "10.0.0.0/24".

    Raises:
        ConfigRefused: no address.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks: list[IPv4Network | IPv6Network] = []
        for text in networks:
            try:
                self._networks.append(ip_network(text))
            except ValueError:
                expected = "an address, or a network such as 10.0.0.0/24"
                raise ConfigRefused("proxy", expected=expected, got=repr(shown(text))) from None

    def peer(self, address: str, certificate: bytes | None, headers: Sequence[tuple[bytes, bytes]]) -> Peer:
        """Return who it is, behind a proxy or not.

        Args:
            address: the other end of the connection. Not one that something took from a header.
            certificate: DER, of this connection's own TLS.
            headers: as ASGI has them: lower case names.

        Raises:
            UnauthenticatedRefused: a proxy's headers that are malformed, or there twice.
        """
        if not self._is_proxy(address):
            return Peer(clean_address(address), certificate)
        found = [value for name, value in headers if name == CLIENT_CERT]
        if len(found) > 1:  # one of them was the client's own
            raise UnauthenticatedRefused("two certificates by a proxy")
        hops = [
            hop.strip()
            for name, value in headers
            if name == FORWARDED_FOR
            for hop in value.decode("latin-1").split(",")
        ]
        for hop in reversed(
            hops[-MAX_HOPS:]
        ):  # the last that no proxy of ours has: what stands before it, anyone may have written
            address = hop
            if not self._is_proxy(hop):
                break
        return Peer(clean_address(address), _unwrap(found[0]) if found else None)

    def _is_proxy(self, address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return False
        mapped = getattr(found, "ipv4_mapped", None)  # how a socket for both families shows IPv4
        return any((mapped or found) in network for network in self._networks)


def clean_address(text: str) -> str:
    """Return an address in its usual form, without a zone (which is any text); else `UNKNOWN`."""
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return UNKNOWN
    return str(getattr(found, "ipv4_mapped", None) or found)


def claims(certificate: bytes, now: int) -> dict[str, str]:
    """Return what a verified certificate says: `sha256`, and `uri`, where its SAN has exactly one.

    Its dates are looked at again: a connection may outlast them.

    Raises:
        UnauthenticatedRefused: it is malformed, too long, or not valid now.
    """
    if len(certificate) > MAX_CERTIFICATE:
        raise UnauthenticatedRefused("a certificate that is too long")
    try:
        found = x509.load_der_x509_certificate(certificate)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    except (ValueError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise UnauthenticatedRefused("a certificate that is malformed") from None
    if not found.not_valid_before_utc.timestamp() <= now <= found.not_valid_after_utc.timestamp():
        raise UnauthenticatedRefused("a certificate that is not valid now")
    said = {"sha256": sha256(certificate).hexdigest()}
    return {**said, "uri": uris[0]} if len(uris) == 1 else said


def der(pem: str) -> bytes:
    """Return DER of a certificate in PEM, as the TLS extension of ASGI has it; raises `ValueError`."""
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)


def _unwrap(value: bytes) -> bytes:
    match = _BYTES.fullmatch(value.strip())
    try:
        return b64decode(match[1], validate=True) if match else b""
    except Base64Error:
        return b""
