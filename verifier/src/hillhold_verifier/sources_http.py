"""A repository on any static HTTP(S) server. It is trusted with nothing, and cannot make a device wait for ever (slow retrieval).

A target is one GET that streams. Where the connection breaks, the transfer goes on at the same byte with a Range request (RFC 9110, 14).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hillhold_verifier.errors import OperationalError
from hillhold_verifier.fetch import Address, Answer, Broken, Getter, Unreached
from hillhold_verifier.metadata import max_bytes
from hillhold_verifier.sources import AbsentError, Content, check_name, target_name

MAX_RETRY_AFTER: Final = 60
"""Seconds that a server may ask to be left alone; for more, the command has to be run again."""
SKIP: Final = 64 * 1024
"""Bytes read at once of what is not wanted."""

_ABSENT: Final = frozenset({403, 404})
"""403 too: a bucket that does not let itself be listed does not say what it lacks."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a server.

    Attributes:
        stall: seconds without a byte after which a connection counts as broken.
        tries: attempts in a row that bring nothing new.
        pause: seconds before the first further attempt; before each later one in a row twice as many.
        rate, grace: bytes per second that have to come, and the seconds that a transfer may fall behind in all. Only
            waiting counts: whoever takes the bytes may be slow.
    """

    stall: float = 20.0
    tries: int = 5
    pause: float = 0.5
    rate: int = 256
    grace: float = 120.0


class HttpSource:
    """The repository at `url`, which holds `metadata/` and `targets/`. Nothing is open but within a `target` block.

    Args:
        url: `http(s)://[USER:PASSWORD@]HOST[:PORT]/PATH`.
        ca_file: certificates (PEM) that vouch for the server, instead of the system's.
        patience: how long to wait.
        clock: seconds that only rise.
        sleep: waits so many seconds.

    Raises:
        MisuseError: not such a URL.
        OperationalError: the CA file cannot be read.
    """

    def __init__(
        self,
        url: str,
        *,
        ca_file: Path | None = None,
        patience: Patience = Patience(),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._address = Address.parse(url)
        self._site = _Site(Getter(ca_file, clock), patience, clock, sleep)

    def metadata(self, name: str) -> bytes | None:
        """Get a file, or nothing where there is none."""
        limit = max_bytes(check_name(name)) + 1
        fetch = _Fetch(self._site, self._address.below(f"metadata/{name}"))
        while True:
            data = bytearray()
            try:
                with closing(fetch.get({})) as answer:
                    if answer.status in _ABSENT:
                        return None
                    fetch.expect(answer, 200)
                    while len(data) < limit and (piece := fetch.read(answer, limit - len(data))):
                        data += piece
                        fetch.gained(len(data))
                    return bytes(data)
            except Broken as broken:
                fetch.wait(broken)

    @contextmanager
    def target(self, path: str, sha256: bytes) -> Iterator[Content]:
        """Open a target; it is asked for at the first `read`, at the byte that this begins with."""
        address = self._address.below(f"targets/{target_name(path, sha256)}")
        with closing(_HttpContent(_Fetch(self._site, address))) as content:
            yield content


@dataclass(slots=True)
class _Site:
    """What all files of a source have in common. `reached`: there was an answer before; without, the URL may be wrong."""

    getter: Getter
    patience: Patience
    clock: Callable[[], float]
    sleep: Callable[[float], object]
    reached: bool = False


class _Fetch:
    """The attempts at one file, and how much waiting they may still cost."""

    def __init__(self, site: _Site, address: Address) -> None:
        self._site, self._address = site, address
        self._credit = site.patience.grace
        self._failures = 0
        self._furthest = 0

    def get(self, headers: dict[str, str]) -> Answer:
        """Ask for the file; raises `Broken`, `OperationalError`."""
        with self._waiting() as seconds:
            answer = self._site.getter.get(self._address, headers, seconds)
        self._site.reached = True
        return answer

    def read(self, answer: Answer, length: int) -> bytes:
        """Read on; raises `Broken`, `OperationalError`."""
        with self._waiting() as seconds:
            return answer.read(length, seconds)

    def gained(self, end: int) -> None:
        """Bytes up to `end` are there. Only those that never were before pay for waiting, so that every transfer ends."""
        if end > self._furthest:
            earned = (end - self._furthest) / self._site.patience.rate
            self._credit = min(self._credit + earned, self._site.patience.grace)
            self._furthest, self._failures = end, 0

    def expect(self, answer: Answer, status: int) -> None:
        """Raise `AbsentError` where there is no such file, `OperationalError` for any other status."""
        if answer.status in _ABSENT:
            raise AbsentError(str(self.error(f"status {answer.status}")))
        if answer.status != status:
            raise self.error(f"status {answer.status}")

    def wait(self, broken: Broken) -> None:
        """Wait before the next attempt; raises `OperationalError` where there is none."""
        patience = self._site.patience
        self._failures += 1
        if self._failures >= patience.tries or (isinstance(broken, Unreached) and not self._site.reached):
            tries = f", tried {self._failures} times" if self._failures > 1 else ""
            raise self.error(f"{broken}{tries}")
        if (broken.after or 0) > MAX_RETRY_AFTER:
            raise self.error(f"{broken}; the server asks to come back in {broken.after} s")
        pause = max(broken.after or 0, patience.pause * 2 ** (self._failures - 1))
        self._credit -= pause
        self._check(f"{broken}; ")
        self._site.sleep(pause)

    def error(self, what: str) -> OperationalError:
        """Return an error about this file."""
        return OperationalError(f"{self._address.shown}: {what}")

    @contextmanager
    def _waiting(self) -> Iterator[float]:
        self._check()
        start = self._site.clock()
        try:
            yield min(self._site.patience.stall, self._credit)
        finally:
            self._credit -= self._site.clock() - start

    def _check(self, why: str = "") -> None:
        if self._credit <= 0:
            least = self._site.patience.rate
            raise self.error(f"{why}too slow: {self._furthest} bytes so far; {least} bytes/s are the least")


class _HttpContent:
    """A target, read in order over one connection for as long as that lasts."""

    def __init__(self, fetch: _Fetch) -> None:
        self._fetch = fetch
        self._answer: Answer | None = None
        self._at = 0
        self._tag = ""

    def read(self, offset: int, length: int) -> bytes:
        """Read a part."""
        while True:
            try:
                if (answer := self._answer) is None or offset != self._at:
                    answer = self._open(offset)
                data = self._fetch.read(answer, length)
                self._at += len(data)
                self._fetch.gained(self._at)
                return data
            except Broken as broken:
                self.close()
                self._fetch.wait(broken)

    def close(self) -> None:
        """Close the connection."""
        if self._answer:
            self._answer.close()
        self._answer = None

    def _open(self, offset: int) -> Answer:
        self.close()
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if offset and self._tag:
            headers["If-Range"] = self._tag
        answer = self._fetch.get(headers)
        try:
            self._check(answer, offset)
        except BaseException:
            answer.close()
            raise
        self._answer, self._at = answer, offset
        return answer

    def _check(self, answer: Answer, offset: int) -> None:
        """Take an answer that has the bytes from `offset` on, and go there."""
        tag = answer.headers.get("ETag", "")
        self._tag = tag if re.fullmatch(r'"[!#-~]{0,200}"', tag) else ""  # a weak one says nothing about bytes
        if offset and answer.status == 206:
            start = re.match(r"bytes ([0-9]{1,20})-", answer.headers.get("Content-Range", ""))
            if not start or int(start[1]) != offset:
                raise self._fetch.error(f"expected bytes from {offset} on, got another range")
            return
        if offset and answer.status == 416:
            raise self._fetch.error(f"status 416: no byte {offset}; the file is shorter than its metadata state")
        self._fetch.expect(answer, 200)
        # A server that knows no ranges, or whose file has changed, which its hash will tell.
        at = 0
        while at < offset and (data := self._fetch.read(answer, min(offset - at, SKIP))):
            at += len(data)
            self._fetch.gained(at)
