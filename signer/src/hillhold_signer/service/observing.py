"""A line in the log and a number in the metrics for each request, and an identifier by which it is found again."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import structlog

from hillhold_signer.service.logs import logger
from hillhold_signer.service.metrics import Metrics

ID_HEADER: Final = b"x-request-id"
QUIET: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""Routes that machines ask every few seconds: logged only where they fail."""

_ID: Final = re.compile(rb"[A-Za-z0-9-]{8,64}")
_Message = MutableMapping[str, Any]
_App = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[_Message]], Callable[[_Message], Awaitable[None]]],
    Awaitable[None],
]


class Observed:
    """ASGI middleware, the outermost.

    Args:
        clock: returns seconds that only rise.
        fresh: returns an identifier for a request that brings none.
    """

    def __init__(self, app: _App, metrics: Metrics, clock: Callable[[], float], fresh: Callable[[], str]) -> None:
        self._app, self._metrics, self._clock, self._fresh = app, metrics, clock, fresh
        self._log = logger("request")

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        """Pass a request on, and note what became of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == ID_HEADER), b"")
        number = given if _ID.fullmatch(given) else self._fresh().encode()
        start, status, received = self._clock(), 500, 0

        async def counted() -> _Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def numbered(message: _Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (ID_HEADER, number)]
            await send(message)

        with structlog.contextvars.bound_contextvars(request=number.decode()):
            try:
                await self._app(scope, counted, numbered)
            except Exception:
                self._log.exception("a request failed")
                raise
            finally:
                self._note(scope, status, self._clock() - start, received)

    def _note(self, scope: MutableMapping[str, Any], status: int, seconds: float, received: int) -> None:
        # below a mount (the public tree) there are files, and no routes
        route = getattr(scope.get("route"), "path", None) or scope.get("root_path") or None
        state = scope.get("state") or {}
        error = state.get("error")
        self._metrics.request(scope["method"], route, status, seconds)
        if error is not None:
            self._metrics.error(str(error))
        if route is not None and route.startswith("/v1/uploads"):
            self._metrics.received(received)
        if route in QUIET and status < 400:
            return
        principal = state.get("principal")
        self._log.info(
            "request",
            method=scope["method"],
            route=route,
            status=status,
            milliseconds=round(seconds * 1000, 1),
            principal=getattr(principal, "name", None),
            error=error,
        )
