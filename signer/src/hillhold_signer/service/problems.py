"""Errors as answers: `application/problem+json` (RFC 9457), with what was expected, what came, and what to do about it."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from hillhold_signer.errors import FileRefused, LockedError, MergeRefused, ProductRefused, StaleRefused, StorageError
from hillhold_signer.service.access import ForbiddenRefused, NotFoundRefused, TooManyRefused, UnauthenticatedRefused
from hillhold_signer.service.dependencies import note_refusal
from hillhold_signer.service.holding import HeldRefused
from hillhold_signer.service.page import problem_page, wants_page
from hillhold_signer.service.uploads import OffsetRefused
from hillhold_verifier.errors import HillholdError, MisuseError, OperationalError, Refused

MEDIA: Final = "application/problem+json"
MAX_SHOWN: Final = 2000

_STATUS: Final[tuple[tuple[type[HillholdError], int], ...]] = (
    (UnauthenticatedRefused, 401),
    (ForbiddenRefused, 403),
    (NotFoundRefused, 404),
    (ProductRefused, 404),
    (TooManyRefused, 429),
    (OffsetRefused, 409),
    (MergeRefused, 409),
    (StaleRefused, 409),
    (FileRefused, 413),
    (LockedError, 503),
    (HeldRefused, 503),
    (Refused, 422),
    (OperationalError, 503),
    (MisuseError, 400),
)
_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "expected": {"type": "string"},
        "got": {"type": "string"},
        "hint": {"type": "string"},
    },
}
_ANSWER: Final[dict[str, Any]] = {"content": {MEDIA: {"schema": _PROBLEM}}}
RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {"description": "Refused: what was expected, what came, and what to do about it.", **_ANSWER},
    503: {"description": "Not now: database or object store fail. Try again.", **_ANSWER},
}
"""Answers that every request may get, for OpenAPI."""
_TITLES: Final = {
    400: "bad request",
    401: "not logged in",
    403: "not permitted",
    404: "not found",
    405: "method not allowed",
    409: "not as things stand now",
    413: "too much",
    415: "unsupported media type",
    422: "refused",
    429: "too many requests",
    500: "an error of the service",
    503: "not now",
}


def problem(status: int, detail: str, **more: Any) -> JSONResponse:
    """Return an answer that says what is wrong."""
    value = {"type": "about:blank", "title": _TITLES.get(status, "error"), "status": status, "detail": detail}
    value |= {name: item for name, item in more.items() if item is not None}
    return JSONResponse(value, status, media_type=MEDIA)


def status_of(error: HillholdError) -> int:
    """Return the HTTP status of an error of ours."""
    return next(status for kind, status in _STATUS if isinstance(error, kind))


def add_handlers(app: FastAPI) -> None:
    """Let an application answer like that."""
    app.add_exception_handler(HillholdError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def _ours(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HillholdError):
        raise error
    status = status_of(error)
    what = f"{request.method} {getattr(request.scope.get('route'), 'path', 'unknown')}"
    try:
        note_refusal(request.app.state.service, getattr(request.state, "principal", None), what, error)
    except StorageError as unnoted:  # nobody is refused without a trace: it is not decided yet
        error, status = unnoted, 503
    fields = {name: _short(getattr(error, name, None)) for name in ("expected", "got", "hint")}
    answer = problem(status, _short(str(error)) or "", **fields)
    request.state.error = type(error).__name__
    if status == 401:
        answer.headers["WWW-Authenticate"] = 'Bearer realm="hillhold", Basic realm="hillhold"'
    if isinstance(error, TooManyRefused):
        answer.headers["Retry-After"] = str(error.wait)
    elif status == 503:
        answer.headers["Retry-After"] = "1"
    if isinstance(error, OffsetRefused):
        answer.headers["Upload-Offset"] = str(error.offset)
    return answer


def _invalid(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    said = [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()[:5]]
    return problem(422, _short("; ".join(said)) or "")


def _http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    if wants_page(request):
        return problem_page(error.status_code)
    answer = problem(error.status_code, _short(str(error.detail)) or "")
    answer.headers.update(error.headers or {})
    return answer


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    request.state.error = type(error).__name__
    return problem(500, "the service's operators find it in its logs")


def _short(value: object) -> str | None:
    """Text of an answer: short, without what cannot be seen."""
    if value is None:
        return None
    return "".join(char if char.isprintable() else "?" for char in str(value)[:MAX_SHOWN])
