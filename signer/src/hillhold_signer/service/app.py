"""The HTTP application of one replica."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from hillhold_signer.layout import file_name
from hillhold_signer.service import (
    api_accounts,
    api_files,
    api_health,
    api_log,
    api_releases,
    api_signing,
    api_uploads,
)
from hillhold_signer.service.folderobjects import FolderObjects
from hillhold_signer.service.observing import Observed
from hillhold_signer.service.page import page_router
from hillhold_signer.service.page.wiring import surroundings
from hillhold_signer.service.problems import RESPONSES, add_handlers, problem
from hillhold_signer.service.service import Service

THREADS: Final = 6
"""Requests that are worked on at once. One interpreter does one thing at a time: more only wait for each other, and for the database."""
UPLOADS: Final = 8
"""Files that come in at once, each in a thread of its own. Others wait, and are not read meanwhile."""
STALL: Final = 30.0
"""Seconds in which the next piece of a body has to come."""
MAX_BODY: Final = 1024 * 1024
"""Bytes of a request, but of files and changes."""
MAX_CHANGE: Final = 32 * 1024 * 1024
"""Bytes of a change that `hillhold --service` sends: drafts of several lines, in base64."""
STOP: Final = 20.0
"""Seconds that what is under way may take when the service ends."""

_Scope = MutableMapping[str, Any]
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]

# What happens is in our logs and metrics; bodies and errors go nowhere else, whatever the environment says.
_NO_TELEMETRY: Final[TelemetryConfig] = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
_ROUTERS: Final = (api_health, api_files, api_uploads, api_releases, api_signing, api_accounts, api_log)
_STREAMED: Final = ("/v1/blobs/", "/v1/uploads/")
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


def create_app(service: Service) -> FastAPI:
    """Return the application of a service; it starts what the service does by itself, and ends it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        service.worker.start()
        try:
            yield
        finally:
            await anyio.to_thread.run_sync(service.close, STOP)

    app = FastAPI(
        title="Hillhold signing service",
        version=version("hillhold-signer"),
        description="Builds come in, people sign them at home, and what has its quorum is published.",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        telemetry=_NO_TELEMETRY,
    )
    app.state.service = service
    app.state.uploads = anyio.CapacityLimiter(UPLOADS)
    add_handlers(app)
    app.include_router(page_router(surroundings(service)))
    for module in _ROUTERS:
        app.include_router(module.router, responses=RESPONSES)
    if isinstance(service.data.objects, FolderObjects):
        public = service.settings.folder / "public"
        public.mkdir(exist_ok=True)
        app.mount("/repository", PublicFiles(directory=public), name="repository")
    app.add_middleware(Guard)
    app.add_middleware(Observed, metrics=service.metrics, clock=service.monotonic, fresh=service.fresh)
    return app


class PublicFiles(StaticFiles):
    """The published tree, for devices of a service that has no object store."""

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """Find a file; what begins with a dot is not written yet."""
        if any(part.startswith(".") for part in path.split("/")):
            return "", None
        return super().lookup_path(path)

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Any, status_code: int = 200
    ) -> Response:
        """Answer with a file. The only one that is ever replaced is read at once: its length must be that of what is sent."""
        path = Path(full_path)
        if path.name != file_name("timestamp", 0):
            return super().file_response(full_path, stat_result, scope, status_code)
        return Response(path.read_bytes(), media_type="application/json", headers={"Cache-Control": "no-cache"})


class Guard:
    """What holds for every request: a body within its limit, and headers that a browser should have."""

    def __init__(self, app: _App) -> None:
        self._app = app

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = _limit(scope["path"])
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), None)
        if limit is not None and declared is not None and declared.isdigit() and int(declared) > limit:
            refusal = problem(413, f"body: expected at most {limit} bytes, got {int(declared)}")
            await refusal(scope, receive, send)
            return
        seen, more = 0, True

        async def bounded() -> _Message:
            nonlocal seen, more
            if not more:  # what comes now is the end of the connection, whenever that is
                return await receive()
            message: _Message = {"type": "http.disconnect"}
            with anyio.move_on_after(STALL):
                message = await receive()
            seen += len(message.get("body", b""))
            more = bool(message.get("more_body"))
            if limit is not None and seen > limit:
                raise HTTPException(413, f"body: expected at most {limit} bytes, got more")
            return message

        async def dressed(message: _Message) -> None:
            if message["type"] == "http.response.start":
                names = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(item for item in _HEADERS if item[0] not in names)]
            await send(message)

        await self._app(scope, bounded, dressed)


def _limit(path: str) -> int | None:
    """Bytes that a body may have; None where the request itself sees to it."""
    if path.startswith(_STREAMED):
        return None
    return MAX_CHANGE if path == "/v1/changes" else MAX_BODY
