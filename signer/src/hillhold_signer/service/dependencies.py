"""What requests need: who asks, and the service behind it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from typing import Annotated, Any, TypeVar

import anyio.from_thread
import anyio.to_thread
from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from hillhold_signer.errors import SigningRefused
from hillhold_signer.log.events import Kind
from hillhold_signer.service import certificates
from hillhold_signer.service.access import ForbiddenRefused, Principal, UnauthenticatedRefused
from hillhold_signer.service.publisher import visible
from hillhold_signer.service.service import Service
from hillhold_signer.service.tls import peer_certificate
from hillhold_signer.service.uploads import UploadRefused

T = TypeVar("T")


async def the_service(request: Request) -> Service:
    """The service that a request came to; no thread is needed for that."""
    found: Service = request.app.state.service
    return found


def the_principal(request: Request) -> Principal:
    """Whoever makes a request.

    Raises:
        UnauthenticatedRefused, TooManyRefused: see `Authenticator.authenticate`; a failed login is recorded.
    """
    known: Principal | None = getattr(request.state, "principal", None)
    if known is not None:
        return known
    service: Service = request.app.state.service
    pem = peer_certificate(request.scope)
    try:
        found = service.authenticator.authenticate(
            service.data.database.snapshot,
            service.data.database.glance,
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


class KnownFirst(APIRoute):
    """A route that asks who it is before it reads what they send: so nobody who is unknown fills the memory with long bodies."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        answer = super().get_route_handler()

        async def known(request: Request) -> Response:
            await run_in_threadpool(the_principal, request)
            return await answer(request)

        return known


TheService = Annotated[Service, Depends(the_service)]
ThePrincipal = Annotated[Principal, Depends(the_principal)]


async def receiving(request: Request, work: Callable[[Iterator[bytes]], T]) -> T:
    """Let a thread take a request's body as it comes, and return what it makes of it; so many at once, and no more of slow ones.

    They are none of the threads that all other requests share: those go on, however slowly bodies come.

    Raises:
        UploadRefused: the body broke off; or whatever `work` raises.
    """
    stream = aiter(request.stream())

    async def take() -> bytes | None:
        async for chunk in stream:
            return chunk
        return None

    def chunks() -> Iterator[bytes]:
        while (chunk := anyio.from_thread.run(take)) is not None:
            if chunk:
                yield chunk

    try:
        return await anyio.to_thread.run_sync(lambda: work(chunks()), limiter=request.app.state.uploads)
    except ClientDisconnect:
        raise UploadRefused("body", expected="a whole one", got="one that broke off, or stood still") from None


def note_refusal(service: Service, principal: Principal | None, what: str, error: Exception) -> None:
    """Record a denied attempt, or a signature that is none, so many a minute at most."""
    if principal is not None and isinstance(error, ForbiddenRefused | SigningRefused):
        service.refusals.note(principal, what, visible(str(error)))
