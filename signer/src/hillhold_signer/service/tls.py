"""TLS by uvicorn itself, with the client's certificate in the scope, as the TLS extension of ASGI 3.0 has it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Final

from hillhold_signer.service.wire import WireProtocol

_VERSIONS: Final = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


class TlsProtocol(WireProtocol):
    """HTTP, with `scope["extensions"]["tls"]` where the connection has TLS: `client_cert_chain` (PEM) and `tls_version`."""

    _tls: dict[object, object] | None = None

    def connection_made(self, transport: Any) -> None:
        """Look at the certificate once: it stays the connection's."""
        super().connection_made(transport)
        found = transport.get_extra_info("ssl_object")
        if found is not None:
            data = found.getpeercert(binary_form=True)  # None, or what OpenSSL has verified
            self._tls = {
                "server_cert": None,
                "client_cert_chain": [ssl.DER_cert_to_PEM_cert(data)] if data else [],
                "client_cert_name": None,
                "client_cert_error": None,
                "tls_version": _VERSIONS.get(found.version()),
                "cipher_suite": None,
            }

    def on_message_begin(self) -> None:
        """Begin a request's scope."""
        super().on_message_begin()
        if self._tls is not None:
            self.scope["extensions"] = {"tls": self._tls}


def settings(certificate: Path, key: Path, clients: Path | None = None) -> dict[str, Any]:
    """Return uvicorn's settings.

    Args:
        certificate: the server's chain, PEM.
        key: its private key, PEM.
        clients: the CA of clients, PEM. Who shows a certificate must show one of it; who shows none may still have a token.
    """
    found: dict[str, Any] = {"http": TlsProtocol, "ssl_certfile": certificate, "ssl_keyfile": key}
    if clients is not None:
        found |= {"ssl_ca_certs": str(clients), "ssl_cert_reqs": ssl.CERT_OPTIONAL}
    return found


def peer_certificate(scope: Any) -> str | None:
    """Return the client's certificate of a request, PEM, or None."""
    chain = scope.get("extensions", {}).get("tls", {}).get("client_cert_chain", ())
    return chain[0] if chain else None
