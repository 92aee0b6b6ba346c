"""Reads an issuer's documents over HTTPS, within a bounded time and length, and nowhere else than it was told to: no redirects."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final

import httpx

from hillhold_verifier.errors import OperationalError

MAX_DOCUMENT: Final = 256 * 1024
"""Bytes of a discovery document, or a set of keys."""
DEADLINE: Final = 5
"""Seconds that one of them may take, from the first byte that is sent to the last that comes."""


class IssuerError(OperationalError):
    """An issuer cannot be reached, or its answer is not what an issuer's should be (HTTP 503)."""

    hint = "it is tried again by itself; API tokens work meanwhile"


class Fetcher:
    """Reads a URL.

    Args:
        verify: as httpx has it; an `ssl.SSLContext` for issuers with certificates of one's own.
        deadline: seconds.
    """

    def __init__(self, verify: object = True, deadline: float = DEADLINE) -> None:
        self._verify, self._deadline = verify, deadline

    def __call__(self, url: str) -> bytes:
        """Return what is there; raises `IssuerError`.

        A thread reads, and this one waits: httpx bounds each read, so that a server which sends a byte now and then could hold it for ever.
        """
        answer: SimpleQueue[bytes | IssuerError] = SimpleQueue()
        client = httpx.Client(
            verify=self._verify,  # type: ignore[arg-type]
            timeout=self._deadline,
            follow_redirects=False,
            trust_env=url.startswith("https://"),
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "hillhold"},
        )
        threading.Thread(target=_read, args=(client, url, answer.put), name="issuer", daemon=True).start()
        try:
            found = answer.get(timeout=self._deadline)
        except Empty:
            found = IssuerError(f"{url}: no whole answer within {self._deadline:g} s")
        finally:
            client.close()  # which ends the thread's next read
        if isinstance(found, IssuerError):
            raise found
        return found


def _read(client: httpx.Client, url: str, give: Callable[[bytes | IssuerError], None]) -> None:
    # RuntimeError: the client was closed meanwhile, and nobody waits.
    with suppress(RuntimeError):
        try:
            give(_get(client, url))
        except IssuerError as error:
            give(error)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            give(IssuerError(f"{url}: {type(error).__name__}"))


def _get(client: httpx.Client, url: str) -> bytes:
    with client.stream("GET", url) as response:
        if response.status_code != httpx.codes.OK:
            raise IssuerError(f"{url}: HTTP status {response.status_code}")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise IssuerError(f"{url}: an encoding that was not asked for")
        data = b""
        for part in response.iter_raw():
            data += part
            if len(data) > MAX_DOCUMENT:
                raise IssuerError(f"{url}: more than {MAX_DOCUMENT} bytes")
        return data
