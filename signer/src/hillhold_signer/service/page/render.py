"""Pages as responses: the templates, the headers that each has, and what is shown of errors."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import Final

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from hillhold_signer.service.page.text import harmless, pieces

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with "no-referrer" a browser sends `Origin: null`, and forms could not be told apart
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every page."""
NOT_PAGES: Final = ("/v1/", "/log/checkpoint", "/log/tile/", "/repository/", "/healthz", "/readyz", "/metrics")
"""Where programs ask, and are answered as such."""

PROBLEMS: Final[Mapping[int, tuple[str, str]]] = {
    400: ("This address cannot be read", "Something in it is not as it should be."),
    401: ("Not signed in", "Sign in to see this page."),
    403: ("You may not see this", "Your grants do not include it. Whoever administers the service can change that."),
    404: ("There is no such page", "It may have been published or dropped since the link to it was made."),
    405: ("This cannot be done here", "The page only shows; what is to be done, is done with the command hillhold."),
    409: ("Not possible now", "The repository is not in a state that allows it."),
    429: ("Too many requests", "Wait a minute, and try again."),
    500: ("Something went wrong", "Nothing was changed. Whoever runs the service finds the reason in its log."),
    503: (
        "The service cannot be reached now",
        "Its store does not answer. Nothing was changed; try again in a minute.",
    ),
}
"""By status, what is said of it: never why, which may be nobody's business."""

_ENVIRONMENT: Final = Environment(
    loader=PackageLoader("hillhold_signer.service.page"),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=harmless,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters["pieces"] = pieces


@dataclass(frozen=True, slots=True)
class Static:
    """A file that is served as it is; its address changes with its content."""

    data: bytes
    type: str
    href: str


def _static(name: str) -> Static:
    data = (files("hillhold_signer.service.page") / "static" / name).read_bytes()
    return Static(
        data, mimetypes.types_map[f".{name.rpartition('.')[2]}"], f"/static/{name}?v={sha256(data).hexdigest()[:16]}"
    )


STATIC: Final[Mapping[str, Static]] = {name: _static(name) for name in ("page.css", "icon.svg")}


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around a page: who is signed in (None: nobody), which item of the menu it is, and whether the log is in that."""

    who: str | None
    here: str = ""
    log: bool = False
    shown: str | None = None


NOBODY: Final = Frame(None)


def html(template: str, frame: Frame, status: int = 200, **values: object) -> HTMLResponse:
    """Return a page."""
    text = render(template, frame, **values)
    return HTMLResponse(text, status, dict(HEADERS))


def render(template: str, frame: Frame, **values: object) -> str:
    """Return a page's HTML."""
    return _ENVIRONMENT.get_template(template).render(frame=frame, static=STATIC, **values)


def problem_page(status: int, frame: Frame = NOBODY, detail: str = "") -> HTMLResponse:
    """Return the page of an error.

    Args:
        detail: for people who may know it; nothing by default.
    """
    known = status if status in PROBLEMS else 500 if status >= 500 else 400
    title, text = PROBLEMS[known]
    return html("problem.html", frame, status, title=title, text=text, detail=detail)


def wants_page(request: Request) -> bool:
    """Say whether whoever asked is a person at a browser, for the errors that the application answers itself."""
    return not request.url.path.startswith(NOT_PAGES) and "text/html" in request.headers.get("accept", "")


def download(data: bytes, name: str) -> Response:
    """Return a file that the browser saves and does not show."""
    safe = "".join(char if char.isascii() and (char.isalnum() or char in "._+-") else "_" for char in name)
    headers = {**HEADERS, "Content-Disposition": f'attachment; filename="{safe}"'}
    return Response(data, 200, headers, "application/octet-stream")
