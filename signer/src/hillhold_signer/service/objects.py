"""Where the service keeps what is large, and what devices fetch: a folder, or an object store (S3, GCS, Azure).

    blobs/SHA256                  target files, and what came with them; never changed
    uploads/ID/OFFSET             pieces of an upload that has not ended
    public/metadata/…  targets/…  the published tree
    log/checkpoint                the latest of the log, beside the database

Every call is safe to repeat, since an object store may do what it was asked and lose the answer. Nothing is ever replaced by other bytes
but `public/metadata/timestamp.json` and `log/checkpoint`, and these under a condition (`put_if`).
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from queue import Full, Queue
from typing import Any, Final, Protocol, TypeVar, cast

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import from_url

from hillhold_signer.errors import ConfigRefused, FileRefused, StorageError

MAX_KEY: Final = 700
"""Characters of a name."""
PIECE: Final = 5 * 1024 * 1024
"""Bytes that are sent to an object store, or fetched from one, at once."""
PARTS: Final = 2
"""Pieces of one object that are under way at once."""
REQUEST: Final = timedelta(seconds=30)
"""How long one request may take, with its body."""
RETRIES: Final = 6
"""How often a request is repeated that failed by no fault of ours."""
RETRY: Final = timedelta(seconds=45)
"""How long it is."""
TRIES: Final = 3
"""How often a call is made anew that the library does not repeat by itself."""

_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)*")
_SCHEMES: Final = ("s3", "gs", "az")
_PLAIN: Final = {"s3": "AWS_ALLOW_HTTP", "gs": "GOOGLE_ALLOW_HTTP", "az": "AZURE_ALLOW_HTTP"}
_STATUS: Final = re.compile(r"\b([45][0-9][0-9]) [A-Z][a-z]+")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tagged:
    """An object's bytes, and what stands for just these in a condition."""

    data: bytes
    tag: str


class Objects(Protocol):
    """Objects by name. Every call raises `StorageError` where the store cannot be reached or fails, `FileRefused` for a name that is none.

    What is written lasts when the call returns, and is seen whole or not at all.
    """

    def put(self, key: str, data: bytes) -> None:
        """Write an object."""
        ...

    def put_stream(self, key: str, chunks: Iterable[bytes]) -> None:
        """Write an object of any length in little memory; what `chunks` raises is raised, and nothing is written."""
        ...

    def put_if(self, key: str, data: bytes, tag: str | None) -> str | None:
        """Write an object if it is still the one with this tag, or is new (None).

        Returns:
            The new tag; None where it is another by now. A store that knows no conditions writes it in any case.
        """
        ...

    def read(self, key: str, limit: int) -> Tagged | None:
        """Return a small object, or None; raises `FileRefused` where it has more than `limit` bytes."""
        ...

    def get(self, key: str, start: int = 0) -> Iterator[bytes]:
        """Yield an object from a byte on, in pieces; raises `StorageError` where there is none."""
        ...

    def length(self, key: str) -> int | None:
        """Return the length of an object in bytes; None where there is none."""
        ...

    def copy(self, source: str, target: str) -> None:
        """Write `target` with the bytes of `source`, which do not come by here."""
        ...

    def delete(self, key: str) -> None:
        """Delete an object, if there is one."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the names of all objects below a folder."""
        ...


class RemoteObjects:
    """Objects in an object store.

    Args:
        url: `s3://bucket/prefix`, `gs://bucket/prefix` or `az://account/container/prefix`.
        options: as `obstore.store.from_url` takes them (`endpoint`, `region`, `access_key_id` …); without them, the environment's
            (`AWS_…`, `GOOGLE_…`, `AZURE_…`).

    Raises:
        ConfigRefused: a URL of another kind, or an option that there is not.
    """

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        scheme, _, rest = url.partition("://")
        hint = "for example s3://bucket/hillhold; keys come from the environment"
        if scheme not in _SCHEMES or not rest or "@" in rest or "?" in rest:
            expected = f"a URL with {', '.join(_SCHEMES)}, without keys in it"
            raise ConfigRefused("object store", expected=expected, got=f"{scheme[:20]}://…", hint=hint)
        self.name = f"object store {url}"
        given = dict(options or {})
        # The environment's is forgotten by the library where it is told anything else.
        plain = str(given.pop("allow_http", os.environ.get(_PLAIN[scheme], "false"))) == "true"
        client: Any = {
            "allow_http": plain,
            "timeout": REQUEST,
            "connect_timeout": timedelta(seconds=5),
            **given.pop("client_options", {}),
        }
        backoff = {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5)}
        retry: Any = {"max_retries": RETRIES, "retry_timeout": RETRY, "backoff": backoff}
        try:
            self._store: Any = from_url(url, client_options=client, retry_config=retry, **given)
        except (BaseError, TypeError, ValueError) as error:
            raise ConfigRefused(
                self.name, expected="options that it knows", got=type(error).__name__, hint=hint
            ) from None

    def put(self, key: str, data: bytes) -> None:
        """Write an object."""
        self._try(
            key, lambda: obstore.put(self._store, check_key(key), data, use_multipart=len(data) > PIECE, **_PARTS)
        )

    def put_stream(self, key: str, chunks: Iterable[bytes]) -> None:
        """Write an object in parts.

        The library takes them in a thread of its own: within its runtime, what yields them could not ask the store for anything.
        """
        handed: Queue[bytes | BaseException | None] = Queue(1)
        ended, failed = threading.Event(), list[BaseException]()

        def taken() -> Iterator[bytes]:
            while (item := handed.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item

        def write() -> None:
            try:
                self._once(key, lambda: obstore.put(self._store, check_key(key), taken(), **_PARTS))
            except BaseException as error:
                failed.append(error)
            finally:
                ended.set()

        def hand(item: bytes | BaseException | None) -> None:
            while not ended.is_set():
                with suppress(Full):
                    return handed.put(item, timeout=0.1)

        writer = threading.Thread(target=write, name="hillhold-put", daemon=True)
        writer.start()
        try:
            for chunk in chunks:
                hand(chunk)
                if ended.is_set():
                    break
        except BaseException as error:
            hand(error)
            writer.join()
            raise
        hand(None)
        writer.join()
        if failed:
            raise failed[0]

    def put_if(self, key: str, data: bytes, tag: str | None) -> str | None:
        """Write an object; one whose answer was lost is recognised."""
        mode: Any = "create" if tag is None else {"e_tag": tag}
        try:
            done = self._once(key, lambda: obstore.put(self._store, check_key(key), data, mode=mode))
            return done["e_tag"] or ""
        except _ConditionError:
            pass
        except _UnsupportedError:
            self.put(key, data)
        except StorageError:
            held = self.read(key, MAX_SMALL)
            if held is None or held.data != data:
                raise
            return held.tag
        held = self.read(key, MAX_SMALL)
        return held.tag if held is not None and held.data == data else None

    def read(self, key: str, limit: int) -> Tagged | None:
        """Get an object."""

        def fetch() -> Tagged:
            found = obstore.get(self._store, check_key(key))
            if found.meta["size"] > limit:
                raise FileRefused(key, expected=f"at most {limit} bytes", got=found.meta["size"])
            return Tagged(bytes(found.bytes()), found.meta["e_tag"] or "")

        try:
            return self._try(key, fetch)
        except _MissingError:
            return None

    def get(self, key: str, start: int = 0) -> Iterator[bytes]:
        """Get an object piece by piece, each with a request of its own: so no limit of time depends on who takes them."""
        length = self.length(key)
        if length is None:
            raise StorageError(f"cannot read {key}: no such object")
        if length <= PIECE:
            yield bytes(self._try(key, lambda: obstore.get(self._store, check_key(key)).bytes()))[start:]
            return
        for at in range(start, length, PIECE):
            yield bytes(self._try(key, _range(self._store, check_key(key), at, min(at + PIECE, length))))

    def length(self, key: str) -> int | None:
        """Ask for the head of an object."""
        try:
            return int(self._try(key, lambda: obstore.head(self._store, check_key(key)))["size"])
        except _MissingError:
            return None

    def copy(self, source: str, target: str) -> None:
        """Let the store copy an object."""
        self._try(source, lambda: obstore.copy(self._store, check_key(source), check_key(target)))

    def delete(self, key: str) -> None:
        """Delete an object."""
        try:
            self._try(key, lambda: obstore.delete(self._store, check_key(key)))
        except _MissingError:
            return

    def list(self, prefix: str) -> Iterator[str]:
        """List, some thousand names at a time."""
        pages = iter(obstore.list(self._store, check_key(prefix), chunk_size=1000))
        while (page := self._once(prefix, lambda: next(pages, None))) is not None:
            yield from (str(item["path"]) for item in page)

    def _try(self, key: str, call: Callable[[], T]) -> T:
        """Make a call that is safe to repeat; the library repeats by itself where a server says 500, but not where it breaks off."""
        for _ in range(TRIES - 1):
            try:
                return self._once(key, call)
            except _BrokenError:
                continue
        return self._once(key, call)

    def _once(self, key: str, call: Callable[[], T]) -> T:
        """Make a call; the text of an error may hold a signed URL, and is not shown."""
        try:
            return call()
        except FileNotFoundError as error:
            raise _MissingError(f"{self.name}: there is no {key}") from error
        except (AlreadyExistsError, PreconditionError) as error:
            raise _ConditionError(f"{self.name}: {key} was changed meanwhile") from error
        except NotSupportedError as error:
            raise _UnsupportedError(f"{self.name}: {key} cannot be written under a condition") from error
        except (PermissionDeniedError, UnauthenticatedError) as error:
            hint = "check the keys that the service was given, and what they may do"
            raise StorageError(f"{self.name}: {key}: access was refused", hint=hint) from error
        except (BaseError, OSError) as error:
            status = _STATUS.search(str(error))
            if status and status[1] in ("501", "405"):
                raise _UnsupportedError(f"{self.name}: {key}: status {status[1]}") from error
            why = f"status {status[1]}" if status else "no answer, or a broken one"
            raise _BrokenError(
                f"{self.name}: {key}: {why}", hint="try again; whether it was done is not known"
            ) from error


class _MissingError(StorageError):
    """There is no such object."""


class _ConditionError(StorageError):
    """The object is another by now."""


class _UnsupportedError(StorageError):
    """The store does not know such a request."""


class _BrokenError(StorageError):
    """The store failed, or could not be reached."""


_PARTS: Final[dict[str, Any]] = {"chunk_size": PIECE, "max_concurrency": PARTS}
MAX_SMALL: Final = 1024 * 1024
"""Bytes of an object that is written under a condition."""


def check_key(key: str) -> str:
    """Return a name that leads nowhere else; raises `FileRefused`."""
    if len(key) > MAX_KEY or _KEY.fullmatch(key) is None:
        raise FileRefused("name of an object", expected="letters, digits, . _ + - between slashes", got=repr(key)[:80])
    return key


def _range(store: Any, key: str, start: int, end: int) -> Callable[[], bytes]:
    return lambda: cast("bytes", obstore.get_range(store, key, start=start, end=end))
