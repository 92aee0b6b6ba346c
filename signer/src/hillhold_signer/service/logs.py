"""Structured logs: one JSON object a line, or a readable line on a terminal; never a secret, never a control character, never without end.

What is logged comes from everywhere: names that a client has sent, the text of a driver's error, the URL of a database. So nothing is
trusted to be harmless, and every value of every line goes through `hide` at the end: tokens, `Authorization`, passwords in URLs, PINs, the
queries of key URIs, private keys, and the very values of the secrets that this process was given (`configure`).

    configure(sys.stderr, readable=sys.stderr.isatty(), secrets=[password])
    log = logger("worker")
    log.info("published", roles={"pump": 3})
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Final, TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from hillhold_signer.plain import plain

MAX_TEXT: Final = 2_000
"""Characters of one value; the rest is cut."""
MAX_TRACE: Final = 8_000
"""Characters of a traceback, of which the end is kept."""
MAX_ITEMS: Final = 40
"""Fields of a line, and items of a value."""
MAX_LINE: Final = 32_000
"""Characters of a line."""
HIDDEN: Final = "…"

_LOOKED_AT: Final = 16_000  # characters of a value, before any pattern sees it: their time grows with it
_DEEP: Final = 4
_SECRET_NAME: Final = re.compile(
    r"(?i)(?:^|[_.-])(?:authorization|cookie|pass(?:word|wd|phrase)?|pwd|pin|secret|token|credentials?|assertion|signature"
    r"|private[_-]?key|api[_-]?key|access[_-]?key(?:[_-]?id)?|pgpassword)(?:$|[_.-])"
)
_PATTERNS: Final = (
    (re.compile(r"\A(?:[^-]|-(?!----BEGIN))*?-----END [A-Z0-9 ]*PRIVATE KEY-----"), HIDDEN),  # the rest of one
    (re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*-----|\Z)", re.DOTALL), HIDDEN),
    # a password may hold anything but a space, "@" and "/" too: all up to the last "@" goes
    (re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]{0,30}://)[^\s\"'<>]*@"), rf"\1{HIDDEN}@"),
    # key URIs: a PIN is in the query of hsm:, and whatever else a provider takes there is nobody's business
    (re.compile(r"\b((?:file2?|hsm|pkcs11|awskms|gcpkms|azurekms|hv|envvar):[^\s?\"']*\?)[^\s\"']*"), rf"\1{HIDDEN}"),
    (re.compile(r"(?i)\b(bearer|basic|digest|negotiate)\s+[A-Za-z0-9+/=._~:-]{6,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"hh_([0-9A-Za-z]{1,24})_[0-9A-Za-z_-]+"), rf"hh_\1_{HIDDEN}"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?"), HIDDEN),
    # name=value and "name": "value": of queries, of libpq, of JSON, of signed URLs
    (
        re.compile(
            r"(?i)((?<![\w-])(?:[\w-]*[-_])?(?:pass(?:word|wd|phrase)?|pwd|pin(?:[-_]value)?|secret|token|signature|sig|credential|assertion"
            r"|api[-_]?key|access[-_]?key(?:[-_]?id)?|code)(?:\s*=\s*|\"\s*:\s*(?=\"))|(?<![a-z0-9])[a-z0-9]*password\s*=\s*)"
            r"(?:\"[^\"]*(?:\"|\Z)|'[^']*(?:'|\Z)|[^\s&;,\"']+)"
        ),
        rf"\1{HIDDEN}",
    ),
)

_HARMLESS: Final = re.compile(
    r"(?!.*(?:hh_|eyJ))[A-Za-z0-9_./{}+-]{0,64}"
)  # what no pattern finds anything in: most values


class Hider:
    """Takes secrets out of values.

    Args:
        secrets: values that this process knows to be secret; short ones would be found everywhere, and are left to the patterns.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = sorted({secret for secret in secrets if len(secret) >= 6}, key=len, reverse=True)
        self._known = re.compile("|".join(re.escape(secret) for secret in known)) if known else None

    def text(self, text: str, limit: int = MAX_TEXT) -> str:
        """Return a text without secrets, of at most `limit` characters and a note of how many there were."""
        length = len(text)
        if self._known:
            text = self._known.sub(HIDDEN, text)
        if _HARMLESS.fullmatch(text):
            return text
        if len(text) > _LOOKED_AT:
            # what is cut in two might not look like a secret any more: the last word goes, too
            text = text[:_LOOKED_AT].rpartition(" ")[0] if " " in text[:_LOOKED_AT] else ""
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return text if length <= limit else f"{text[:limit]}{HIDDEN} ({length} characters)"

    def trace(self, text: str) -> str:
        """Return the end of a traceback without secrets; the line that is cut in two goes."""
        text = self._known.sub(HIDDEN, text) if self._known else text
        if len(text) >= _LOOKED_AT:
            text = text[-_LOOKED_AT + 1 :].partition("\n")[2]
        return self.text(text, _LOOKED_AT)[-MAX_TRACE:]

    def value(self, name: str, value: object, deep: int = 0) -> object:
        """Return a value of a line as JSON has it, without secrets; whatever is called like a secret is one."""
        if _SECRET_NAME.search(name):
            return HIDDEN
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int):
            return value if abs(value) < 2**63 else HIDDEN
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bytes):
            return self.text(value.decode("utf-8", "replace"))
        if deep >= _DEEP:
            return HIDDEN
        if isinstance(value, Mapping):
            return self.fields(value, deep + 1)
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value("", item, deep + 1) for item in list(value)[:MAX_ITEMS]]
        return self.text(_shown(value))

    def fields(self, fields: Mapping[Any, object], deep: int = 0) -> dict[str, object]:
        """Return the fields of a line, or of a value of one."""
        found = list(fields.items())[:MAX_ITEMS]
        return {self.text(str(name), 80): self.value(str(name), value, deep) for name, value in found}


def hide(text: str) -> str:
    """Return a text without what looks like a secret, for answers to strangers; see `Hider` for secrets that are known."""
    return Hider().text(text)


def configure(stream: TextIO, *, readable: bool, secrets: Iterable[str] = (), debug: bool = False) -> None:
    """Have all logs of this process, those of libraries, too, go to `stream`.

    Args:
        readable: for people at a terminal, instead of JSON.
        secrets: values that never appear.
        debug: everything, instead of what is of use to an operator.
    """
    hider = Hider(secrets)

    def cleaned(_: object, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        event.pop("color_message", None)  # uvicorn's, for terminals
        trace = event.pop("exception", None)
        fields = hider.fields(event)
        if trace is not None:
            fields["exception"] = hider.trace(str(trace))
        return fields

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
    ]
    last: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, cleaned]
    handler = _Handler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[*last, _line if readable else _json],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):  # which bring handlers of their own
        found = logging.getLogger(name)
        found.handlers[:], found.propagate = [], name != "uvicorn.access"  # a request has its line from us
    for name in (
        "httpx",
        "httpcore",
        "alembic",
        "tuf",
        "securesystemslib",
    ):  # whose lines hold whole URLs, or say nothing
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if debug else logging.INFO),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines. What cannot be written as one is not shown at all: the standard handler would show it as it came."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        error = sys.exc_info()[0]
        line = {"level": "error", "event": "a line could not be written", "logger": record.name, "error": str(error)}
        with suppress(Exception):  # the disk is full, or nobody reads: the work goes on without its log
            self.stream.write(json.dumps(line) + "\n")


def logger(name: str) -> FilteringBoundLogger:
    """Return a logger: `log.info("published", roles={…})`; what is bound by `structlog.contextvars` is on its lines.

    Before `configure`, it says nothing: a library does not print.
    """
    if not structlog.is_configured():
        return cast("FilteringBoundLogger", structlog.wrap_logger(logging.getLogger(name), processors=[_drop]))
    return cast("FilteringBoundLogger", structlog.get_logger(f"hillhold.{name}"))


def _drop(_: object, __: str, ___: MutableMapping[str, Any]) -> str:
    raise structlog.DropEvent


def _json(_: object, __: str, event: MutableMapping[str, Any]) -> str:
    """JSON of ASCII alone: a control character is an escape."""
    line = json.dumps(event)
    if len(line) > MAX_LINE:
        kept = {name: event[name] for name in ("time", "level", "logger", "event", "request") if name in event}
        line = json.dumps({**kept, "cut": len(line)})
    return line


def _line(_: object, __: str, event: MutableMapping[str, Any]) -> str:
    """`time level event name=value …`, and a traceback below it."""
    trace = event.pop("exception", None)
    head = [str(event.pop(name, "")) for name in ("time", "level", "event")]
    fields = (f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in event.items())
    line = plain(" ".join([*head, *fields])[:MAX_LINE])
    below = "".join(f"\n  {plain(text)}" for text in str(trace).splitlines()) if trace else ""
    return line + below


def _shown(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # an object that cannot say what it is must not end the work that it was logged for
        return f"({type(value).__name__}: {type(error).__name__})"
