"""A signing service as its clients see it: HTTPS and a token, and no trust in what comes back.

Answers are bounded in size and in time, are never unpacked, and lead nowhere else: a redirect is an error, so that the token goes to no
other host. Over plain HTTP it goes to this computer alone. What may be repeated without harm is repeated a few times where the connection
breaks or the service is busy; every call here may, but `call`.

Refusals come as `application/problem+json` (RFC 9457), and become `ServiceRefused`; all else that fails becomes `ServiceError`.
"""

from __future__ import annotations

import json
import re
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote

import httpx

from hillhold_signer.errors import ConfigRefused, FileRefused, ServiceError, ServiceRefused
from hillhold_signer.serviceurl import LOGIN, check_token, check_url
from hillhold_verifier.errors import HillholdError

MAX_ANSWER: Final = 32 * 1024 * 1024
"""Bytes of an answer in JSON."""
MAX_PROBLEM: Final = 64 * 1024
"""Bytes of a refusal."""
MAX_SHOWN: Final = 800
"""Characters of a text of the service's in a message."""
PIECE: Final = 4 * 1024 * 1024
"""Bytes of a file that are sent at once: what is lost, at most, when the connection breaks."""
TRIES: Final = 4
"""How often a request is sent."""
PAUSES: Final = (0.3, 1.0, 3.0)
"""Seconds before each further try."""
MAX_PAUSE: Final = 30
"""Seconds that a service may ask to wait; where it asks for more, that is an error."""
TIMEOUT: Final = 30.0
"""Seconds without a byte."""
WHOLE: Final = 600.0
"""Seconds that one answer may take."""

_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_BUSY: Final = frozenset({429, 502, 503, 504})
_AGAIN: Final = "whether it was done is not known; run the command again, which does nothing twice"

Report = Callable[[int, int], None]
"""Is told how many bytes of how many have been sent."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service has said, without an error."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Published:
    """What a service has published: versions by role; and why it has not published other drafts, by role."""

    roles: Mapping[str, int]
    waiting: Mapping[str, str]


class Service(AbstractContextManager["Service"]):
    """One signing service.

    Args:
        url: `https://…`, or `http://` of this computer; a path in front of the service's own names may follow.
        token: what says who asks; None where a certificate does, or nobody has to.
        authority: a file of certificates (PEM) of those who may vouch for the service, instead of the system's.
        certificate: the client's own certificate and its key (PEM), for mutual TLS; the key may be in the same file.
        sleep: waits some seconds.

    Raises:
        ConfigRefused: another kind of URL, a token with odd characters, a certificate that cannot be read.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        authority: Path | None = None,
        certificate: tuple[Path, Path | None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = check_url(url)
        self._sleep = sleep
        headers = {
            "Accept": "application/json, application/problem+json, application/octet-stream",
            "Accept-Encoding": "identity",
            "User-Agent": f"hillhold/{version('hillhold-signer')}",
        }
        if token is not None:
            headers["Authorization"] = f"Bearer {check_token(token)}"
        secure = self.url.startswith("https:")
        self._http = httpx.Client(
            headers=headers,
            timeout=httpx.Timeout(TIMEOUT, connect=10.0),
            verify=_context(authority, certificate) if secure else False,  # plain HTTP: on loopback
            trust_env=secure,  # a proxy would see the token of a plain connection
            follow_redirects=False,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __str__(self) -> str:
        return self.url

    def close(self) -> None:
        """Give up the connections."""
        self._http.close()

    # --- what it is asked ---

    def get(self, path: str) -> Any:
        """Return the JSON of a resource; raises `ServiceRefused`, `ServiceError`."""
        return self._json(self._ask("GET", path, limit=MAX_ANSWER))

    def post(self, path: str, value: Mapping[str, Any]) -> Any:
        """Send JSON where that may be repeated, and return what it answers; raises `ServiceRefused`, `ServiceError`."""
        content = json.dumps(value).encode()
        return self._json(self._ask("POST", path, limit=MAX_ANSWER, content=content, kind="application/json"))

    def file(self, name: str, limit: int) -> bytes | None:
        """Return a file of the repository, or None where there is none of this name.

        Raises:
            FileRefused: it has more than `limit` bytes.
            ServiceRefused, ServiceError: as anywhere.
        """
        answer = self._ask("GET", _file_path(name), limit=limit, missing=True, what=name)
        return None if answer.status == 404 else answer.body

    def file_digest(self, name: str) -> tuple[int, str] | None:
        """Return length and SHA-256 of a file of the repository, as the service says, or None; raises as `file`."""
        answer = self._ask("HEAD", _file_path(name), limit=0, missing=True)
        if answer.status == 404:
            return None
        length, tag = answer.headers.get("content-length", ""), answer.headers.get("etag", "")
        if not re.fullmatch("[0-9]{1,15}", length) or not re.fullmatch('"[0-9a-f]{64}"', tag):
            raise self._strange("length and hash of a file")
        return int(length), tag[1:-1]

    def call(self, method: str, path: str, value: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Make a request that may not be repeated, and return the JSON object that it answers; raises `ServiceRefused`, `ServiceError`."""
        content, kind = (None, None) if value is None else (json.dumps(value).encode(), "application/json")
        answer = self._once(method, path, MAX_ANSWER, content, kind)
        if answer.status >= 300:
            raise self._refusal(answer)
        found = self._json(answer) if answer.body else {}
        if not isinstance(found, dict):
            raise self._strange("a JSON object")
        return found

    def publish(self, roles: Sequence[str] | None, *, renew: bool = False) -> Published:
        """Have the service publish; raises `ServiceRefused`, `ServiceError`.

        Args:
            roles: these, or None for all that are ready.
            renew: sign timestamp, and snapshot where it is due, anew; nothing else.
        """
        found = self.post("v1/publications", {"roles": None if roles is None else list(roles), "renew": renew})
        done, waiting = (found.get("published"), found.get("waiting")) if isinstance(found, dict) else (None, None)
        if not isinstance(done, dict) or not all(type(number) is int for number in done.values()):
            raise self._strange("what was published")
        if not isinstance(waiting, dict) or not all(isinstance(why, str) for why in waiting.values()):
            raise self._strange("what waits")
        return Published(done, {role: why[:MAX_SHOWN] for role, why in waiting.items()})

    def upload(self, data: bytes, digest: str, report: Report | None = None) -> None:
        """Send a file, in pieces; what the service has of it already is not sent again.

        Args:
            digest: SHA-256 in hexadecimal.

        Raises:
            ServiceRefused: too large, or the service got other bytes.
            ServiceError: it does not take them.
        """
        last: HillholdError | None = None
        for _ in range(TRIES):
            found = self.post("v1/uploads", {"sha256": digest, "length": len(data)})
            if isinstance(found, dict) and found.get("complete") is True:
                return
            identifier, offset = self._begun(found, len(data))
            try:
                if self._send_pieces(identifier, data, offset, report):
                    return
            except _BrokenError as error:
                last = error
        raise last or ServiceError(f"{self}: the upload of a file does not come to an end", hint=_AGAIN)

    # --- how ---

    def _begun(self, found: Any, length: int) -> tuple[str, int]:
        identifier, offset = (found.get("id"), found.get("offset")) if isinstance(found, dict) else (None, None)
        if not isinstance(identifier, str) or not _IDENTIFIER.fullmatch(identifier) or type(offset) is not int:
            raise self._strange("an upload")
        if not 0 <= offset <= length:
            raise self._strange("an upload's offset")
        return identifier, offset

    def _send_pieces(self, identifier: str, data: bytes, offset: int, report: Report | None) -> bool:
        """Send the rest; says whether all has arrived, no where the upload is gone (it may have ended: whoever begins it anew is told)."""
        path, stalls, ended = f"v1/uploads/{identifier}", 0, False
        while not ended:  # all bytes may have arrived, and not have been put together: then none are sent once more
            piece = data[offset : offset + PIECE]
            headers = {"Upload-Offset": str(offset)}
            headers["Upload-Complete"] = "?1" if offset + len(piece) == len(data) else "?0"
            try:
                answer = self._once("PATCH", path, 4096, piece, "application/partial-upload", headers)
                now = self._offset(answer, len(data)) if answer.status < 300 else None
                ended = now == len(data) and answer.headers.get("upload-complete") == "?1"
                if answer.status == 404:
                    return False
                if now is None and answer.status not in (409, *_BUSY):
                    raise self._refusal(answer)
            except _BrokenError:
                if stalls >= TRIES:
                    raise
                now = None
            if now is None or (now <= offset and not ended):
                stalls += 1
                if stalls > TRIES:
                    raise ServiceError(f"{self}: the upload of a file makes no progress", hint=_AGAIN)
                self._sleep(PAUSES[min(stalls, len(PAUSES)) - 1])
                asked = self._ask("HEAD", path, limit=0, missing=True)
                if asked.status == 404:
                    return False
                now = self._offset(asked, len(data))
            else:
                stalls = 0
            offset = now
            if report is not None:
                report(offset, len(data))
        return True

    def _offset(self, answer: Answer, length: int) -> int:
        text = answer.headers.get("upload-offset", "")
        if not re.fullmatch("[0-9]{1,15}", text) or int(text) > length:
            raise self._strange("an upload's offset")
        return int(text)

    def _ask(
        self,
        method: str,
        path: str,
        *,
        limit: int,
        content: bytes | None = None,
        kind: str | None = None,
        missing: bool = False,
        what: str = "",
    ) -> Answer:
        """Send a request that may be repeated, a few times; an answer 404 is one only where something may be `missing`."""
        for number in range(TRIES):
            last = number == TRIES - 1
            try:
                answer = self._once(method, path, limit, content, kind, what=what)
            except _BrokenError:
                if last:
                    raise
                self._sleep(PAUSES[number])
                continue
            if answer.status < 300 or (missing and answer.status == 404):
                return answer
            if answer.status not in _BUSY or last:
                break
            wait = answer.headers.get("retry-after", "")
            seconds = int(wait) if re.fullmatch("[0-9]{1,6}", wait) else 0
            if seconds > MAX_PAUSE:
                break
            self._sleep(max(PAUSES[number], seconds))
        raise self._refusal(answer)

    def _once(
        self,
        method: str,
        path: str,
        limit: int,
        content: bytes | None = None,
        kind: str | None = None,
        headers: Mapping[str, str] | None = None,
        what: str = "",
    ) -> Answer:
        """Send a request once; raises `ServiceError` where there is no whole answer, `FileRefused` where it is too long."""
        sent = {**(headers or {}), **({"Content-Type": kind} if kind else {})}
        try:
            with self._http.stream(method, f"{self.url}/{path}", content=content, headers=sent) as response:
                good = response.status_code < 300
                body = self._body(response, limit if good else MAX_PROBLEM, what if good else "")
                return Answer(response.status_code, dict(response.headers), body)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            why = str(error).strip().partition("\n")[0][:200] or type(error).__name__
            hint = _AGAIN if method in ("POST", "PATCH") else "check the URL and the network, and run the command again"
            raise _BrokenError(f"{self}: {why}", hint=hint) from error

    def _body(self, response: httpx.Response, limit: int, what: str) -> bytes:
        """Read an answer as it comes over the wire; nothing is unpacked, since a few bytes can become very many."""
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise self._strange("bytes as they are")
        found, until = bytearray(), time.monotonic() + WHOLE
        for chunk in response.iter_raw():
            found += chunk
            if len(found) > limit:
                if what:
                    raise FileRefused(what, expected=f"at most {limit} bytes", got="more")
                raise ServiceError(f"{self}: expected an answer of at most {limit} bytes, got more")
            if time.monotonic() > until:
                raise ServiceError(f"{self}: an answer takes longer than {WHOLE:.0f} s")
        return bytes(found)

    def _json(self, answer: Answer) -> Any:
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError) as error:
            raise self._strange("JSON") from error

    def _strange(self, expected: str) -> ServiceError:
        hint = "is this the URL of a Hillhold service, of this version?"
        return ServiceError(f"{self}: expected {expected}, got something else", hint=hint)

    def _refusal(self, answer: Answer) -> HillholdError:
        """What an answer that says no means."""
        if 300 <= answer.status < 400:
            to = answer.headers.get("location", "")[:200]
            hint = "a token is sent nowhere else; give the service's own URL"
            return ServiceError(f"{self}: answered with a redirect to {to or 'nowhere'}", hint=hint)
        told = _problem(answer)
        what = _text(told, "detail") or _text(told, "title") or f"status {answer.status}"
        advice = _text(told, "hint")
        if answer.status >= 500:
            return ServiceError(f"{self}: {what}", hint=advice or _AGAIN)
        if answer.status in (401, 403):
            advice = advice or LOGIN
        return ServiceRefused(what, status=answer.status, hint=advice)


class _BrokenError(ServiceError):
    """There was no whole answer."""


def _context(authority: Path | None, certificate: tuple[Path, Path | None] | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=authority)
        if certificate is not None:
            context.load_cert_chain(*certificate)
    except (OSError, ssl.SSLError) as error:
        raise ConfigRefused("certificate", expected="certificates in PEM", got=str(error)[:120]) from error
    return context


def _file_path(name: str) -> str:
    return f"v1/files/{quote(name, safe='/')}"


def _problem(answer: Answer) -> Mapping[str, Any]:
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(told: Mapping[str, Any], name: str) -> str | None:
    value = told.get(name)
    return value[:MAX_SHOWN] if isinstance(value, str) and value else None
