"""The routes of the page.

Whoever is not signed in is asked for a token, once; the cookie that they get is sent to no other site's requests (`SameSite=Strict`).
Two things are not only read: signing in and signing out. Both want the browser's word that the form is ours (`Origin`, `Sec-Fetch-Site`).
"""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import parse_qs, quote, urlsplit

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from fastapi.routing import APIRoute

from hillhold_signer.errors import LogRefused, MergeRefused, NoteRefused, RequestRefused
from hillhold_signer.log import Kind, Verifier
from hillhold_signer.service.access import Principal, TooManyRefused
from hillhold_signer.service.page.data import (
    NotAllowed,
    NotThere,
    Unit,
    read_draft,
    read_overview,
    read_request,
    reads_all,
)
from hillhold_signer.service.page.data_lines import check_release, read_keys, read_line, read_lines
from hillhold_signer.service.page.data_log import read_entry, read_log
from hillhold_signer.service.page.render import HEADERS, NOBODY, STATIC, Frame, download, html, problem_page
from hillhold_signer.service.page.sessions import SESSION_SECONDS
from hillhold_signer.service.page.views import view_draft, view_overview
from hillhold_signer.service.page.views_lines import view_keys, view_line, view_lines
from hillhold_signer.service.page.views_log import view_entry, view_log
from hillhold_verifier.errors import OperationalError, Refused
from hillhold_verifier.times import show_time

MAX_FORM: Final = 4096
"""Bytes of a form."""
MAX_INDEX: Final = 2**53

_HERE: Final = re.compile(r"/(?![/\\])[A-Za-z0-9._~+/=?&%-]{0,500}")
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the page needs of the service.

    Attributes:
        reading: begins one reading; nothing is written in it.
        reader: returns whose session a cookie's value is, as of now; None for nobody's.
        sign_in: judges a token and begins a session, whose cookie's value it returns; raises `Refused`, and notes it.
        sign_out: ends a session.
        proof: returns the proof that a release is in the log, None where it is not there (yet).
        url: the address by which people reach the service, without a slash at its end; None takes what the browser asked for.
        denied: notes that somebody asked for what they may not see, and what that was.
        log: the key of the log.
    """

    reading: Callable[[], AbstractContextManager[Unit]]
    reader: Callable[[Unit, str], Principal | None]
    sign_in: Callable[[str, Request], str]
    sign_out: Callable[[str], None]
    proof: Callable[[Unit, str], bytes | None]
    url: str | None
    denied: Callable[[Principal, str], None]
    log: Verifier


class NotSignedIn(Exception):
    """Nobody is signed in."""


class PageRoute(APIRoute):
    """Answers errors with pages."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, with what it raises turned into pages."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except NotSignedIn:
                asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                return RedirectResponse(f"/sign-in?next={quote(asked, safe='')}", 303, dict(HEADERS))
            except RequestValidationError:
                return problem_page(400)
            except NotThere:
                return problem_page(404, _frame(request))
            except NotAllowed:
                return problem_page(403, _frame(request))
            except OperationalError as error:
                _LOG.warning("page %s: %s", request.url.path, error)
                return problem_page(503, _frame(request))
            except (LogRefused, NoteRefused) as error:  # whoever may see the log is to know that it was altered
                _LOG.error("page %s: %s", request.url.path, error)
                return problem_page(500, _frame(request), str(error))
            except Exception:
                _LOG.exception("page %s", request.url.path)
                return problem_page(500, _frame(request))

        return answer


def page_router(around: Surroundings) -> APIRouter:
    """Return the routes, for an application to include."""
    pages = _Pages(around)
    router = APIRouter(route_class=PageRoute, include_in_schema=False)
    for path, endpoint in (
        ("/", pages.overview),
        ("/drafts/{role}", pages.draft),
        ("/drafts/{role}/request", pages.request_file),
        ("/lines", pages.lines),
        ("/lines/{name}", pages.line),
        ("/releases/{path:path}/proof", pages.release_proof),
        ("/keys", pages.keys),
        ("/log", pages.log),
        ("/log/entries/{index}", pages.entry),
        ("/log/entries/{index}/proof", pages.entry_proof),
        ("/sign-in", _sign_in_form),
        ("/static/{name}", _static),
    ):
        router.add_api_route(path, endpoint, methods=["GET"], response_model=None)
    router.add_api_route("/sign-in", pages.sign_in, methods=["POST"], response_model=None)
    router.add_api_route("/sign-out", pages.sign_out, methods=["POST"], response_model=None)
    return router


class _Pages:
    """The endpoints."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    def overview(self, request: Request) -> Response:
        with self._entered(request, "overview") as (unit, reader):
            view = view_overview(read_overview(unit, reader))
        return html("overview.html", _frame(request), view=view)

    def draft(self, request: Request, role: str, full: bool = False) -> Response:
        with self._entered(request, "overview") as (unit, reader):
            view = view_draft(read_draft(unit, reader, role), self._url(request), full=full)
        return html("draft.html", _frame(request), view=view)

    def request_file(self, request: Request, role: str) -> Response:
        with self._entered(request, "overview") as (unit, reader):
            try:
                return download(read_request(unit, reader, role), f"{role}.request")
            except (RequestRefused, MergeRefused) as error:  # these speak of the role alone, which the reader may see
                return problem_page(409, _frame(request), str(error))

    def lines(self, request: Request) -> Response:
        with self._entered(request, "lines") as (unit, reader):
            found = read_lines(unit, reader)
        return html("lines.html", _frame(request), lines=view_lines(found), problem=found.problem)

    def line(self, request: Request, name: str, page: Annotated[int, Query(ge=1, le=MAX_INDEX)] = 1) -> Response:
        with self._entered(request, "lines") as (unit, reader):
            view = view_line(read_line(unit, reader, name, page), unit.now)
        return html("line.html", _frame(request), view=view)

    def release_proof(self, request: Request, path: str) -> Response:
        with self._entered(request, "lines") as (unit, reader):
            check_release(unit, reader, path)
            data = self._around.proof(unit, path)
        if data is None:
            return problem_page(404, _frame(request), "This release is not in the log yet.")
        return download(data, f"{path.replace('/', '-')}.tlog-proof")

    def keys(self, request: Request) -> Response:
        with self._entered(request, "keys") as (unit, reader):
            view = view_keys(read_keys(unit, reader), unit.now)
        return html("keys.html", _frame(request), view=view)

    def log(
        self,
        request: Request,
        before: Annotated[int | None, Query(ge=0, le=MAX_INDEX)] = None,
        kind: str = "",
    ) -> Response:
        if kind and kind not in list(Kind):
            raise NotThere(kind)
        with self._entered(request, "log") as (unit, reader):
            view = view_log(
                read_log(unit, reader, self._around.log, before, Kind(kind) if kind else None),
                self._verify(request),
                unit.now,
            )
        return html("log.html", _frame(request), view=view)

    def entry(self, request: Request, index: int) -> Response:
        with self._entered(request, "log") as (unit, reader):
            command = f"hillhold log check-proof entry-{index}.tlog-proof --key {shlex.quote(self._around.log.vkey)}"
            view = view_entry(read_entry(unit, reader, self._around.log, index), command, unit.now)
        return html("entry.html", _frame(request), view=view)

    def entry_proof(self, request: Request, index: int) -> Response:
        with self._entered(request, "log") as (unit, reader):
            return download(read_entry(unit, reader, self._around.log, index).proof, f"entry-{index}.tlog-proof")

    async def sign_in(self, request: Request) -> Response:
        if not self._is_ours(request):
            return problem_page(403, NOBODY, "This form was not sent from the page itself.")
        form = await _form(request)
        following = _here(form.get("next", "/"))
        try:
            cookie = await run_in_threadpool(self._around.sign_in, form.get("token", "").strip(), request)
        except TooManyRefused as refused:
            response = problem_page(429)
            response.headers["Retry-After"] = str(refused.wait)
            return response
        except Refused:
            error = "This token is not known here, has expired, or was revoked."
            return html("sign_in.html", NOBODY, 401, next=following, error=error)
        entered = RedirectResponse(following, 303, dict(HEADERS))
        secure = self._is_secure(request)
        entered.set_cookie(
            _cookie_name(secure=secure),
            cookie,
            max_age=SESSION_SECONDS,
            path="/",
            secure=secure,
            httponly=True,
            samesite="strict",
        )
        return entered

    async def sign_out(self, request: Request) -> Response:
        if not self._is_ours(request):
            return problem_page(403, NOBODY, "This form was not sent from the page itself.")
        name = _cookie_name(secure=self._is_secure(request))
        if cookie := request.cookies.get(name):
            await run_in_threadpool(self._around.sign_out, cookie)
        response = RedirectResponse("/sign-in", 303, dict(HEADERS))
        response.delete_cookie(name, path="/", secure=self._is_secure(request), httponly=True, samesite="strict")
        return response

    @contextmanager
    def _entered(self, request: Request, here: str) -> Iterator[tuple[Unit, Principal]]:
        """One reading for whoever is signed in; what stands around the page goes with the request, for errors, too."""
        cookie = request.cookies.get(_cookie_name(secure=self._is_secure(request)))
        if not cookie:
            raise NotSignedIn
        reader = None
        try:
            with self._around.reading() as unit:
                reader = self._around.reader(unit, cookie)
                if reader is None:
                    raise NotSignedIn
                request.state.frame = Frame(reader.name, here, reads_all(reader), show_time(unit.now))
                yield unit, reader
        except NotAllowed:
            if reader is not None:
                self._around.denied(reader, request.url.path)
            raise

    def _url(self, request: Request) -> str:
        return self._around.url or f"{request.url.scheme}://{request.url.netloc}"

    def _verify(self, request: Request) -> str:
        return f"hillhold log verify {shlex.quote(self._url(request))}/log --key {shlex.quote(self._around.log.vkey)}"

    def _is_secure(self, request: Request) -> bool:
        return self._url(request).startswith("https:")

    def _is_ours(self, request: Request) -> bool:
        """Whether a form was sent from this page: what the browser says of it, which no other site can change."""
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        if site is None and origin is None:
            return False
        own = urlsplit(self._url(request)).netloc
        return site in (None, "same-origin") and (origin is None or urlsplit(origin).netloc == own)


def _sign_in_form(next: str = "/") -> Response:
    return html("sign_in.html", NOBODY, next=_here(next), error="")


def _static(name: str) -> Response:
    if (found := STATIC.get(name)) is None:
        return problem_page(404)
    headers = {**HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}
    return Response(found.data, 200, headers, found.type)


def _frame(request: Request) -> Frame:
    frame = getattr(request.state, "frame", NOBODY)
    return frame if isinstance(frame, Frame) else NOBODY


def _cookie_name(*, secure: bool) -> str:
    """With this prefix a browser takes the cookie only over TLS, from this host, for all of it (RFC 6265bis 4.1.3.2)."""
    return "__Host-hillhold" if secure else "hillhold"


def _here(path: str) -> str:
    """An address of this page, or its front: never one of another site."""
    return path if _HERE.fullmatch(path) else "/"


async def _form(request: Request) -> dict[str, str]:
    """The fields of a small form; none where it is none."""
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > MAX_FORM:
            return {}
    try:
        fields = parse_qs(data.decode("ascii"), max_num_fields=8)
    except ValueError:
        return {}
    return {name: values[0] for name, values in fields.items()}
