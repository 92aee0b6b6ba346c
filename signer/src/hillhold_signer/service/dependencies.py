"""What requests need: who asks, and the service behind it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import anyio.from_thread
from fastapi import Depends, Request

from hillhold_signer.log.events import Kind
from hillhold_signer.service import certificates
from hillhold_signer.service.access import ForbiddenRefused, Principal, UnauthenticatedRefused
from hillhold_signer.service.publisher import visible
from hillhold_signer.service.service import Service
from hillhold_signer.service.tls import peer_certificate


def the_service(request: Request) -> Service:
    """The service that a request came to."""
    found: Service = request.app.state.service
    return found


def the_principal(request: Request) -> Principal:
    """Whoever makes a request.

    Raises:
        UnauthenticatedRefused, TooManyRefused: see `Authenticator.authenticate`; a failed login is recorded.
    """
    service: Service = request.app.state.service
    pem = peer_certificate(request.scope)
    try:
        found = service.authenticator.authenticate(
            service.data.database.snapshot,
            headers=request.scope["headers"],
            certificate=certificates.der(pem) if pem else None,
            address=request.client.host if request.client else "unknown",
            now=service.now(),
            monotonic=service.monotonic(),
        )
    except UnauthenticatedRefused as error:
        for actor, reason in error.records:
            service.data.record(Kind.FAILED_LOGIN, visible(actor), reason=visible(reason))
        raise
    if found.token is not None:
        service.uses.note(found.token, service.now())
    request.state.principal = found
    return found


TheService = Annotated[Service, Depends(the_service)]
ThePrincipal = Annotated[Principal, Depends(the_principal)]


def body_chunks(request: Request) -> Iterator[bytes]:
    """Yield a request's body as it comes, in a thread of the pool; raises `ClientDisconnect` where it breaks off."""
    stream = aiter(request.stream())

    async def take() -> bytes | None:
        async for chunk in stream:
            return chunk
        return None

    while (chunk := anyio.from_thread.run(take)) is not None:
        if chunk:
            yield chunk


def note_refusal(service: Service, principal: Principal | None, what: str, error: Exception) -> None:
    """Record a denied attempt, so many a minute at most."""
    if principal is None or not isinstance(error, ForbiddenRefused):
        return
    service.refusals.note(principal, what, visible(str(error)))
