"""The repository of a signing service, as a store of files (`places.Store`): what `--service URL` works on.

    with Service(url, token) as service:
        repository = Repository(Entry(RemoteStore(service)))

It reads one state of the repository: a list of names and hashes, and each file when it is wanted, held against that list. What is written
under the lock is kept here, where reads see it, and is sent as one change when the lock is given up; after an error nothing is sent. The
service takes all of it or nothing, under its own lock. Drafts are named by their hashes and merge, so two people who change the same role
at once lose nothing. Target files go ahead of the change that names them: each is named by its hash, and without a draft it is nothing.

The service is trusted for nothing that people sign: a draft is shown and signed as it came, and its digest is computed here. Whether the
published version beside it is the true one only a root of one's own can tell (`Repository(…, anchor=…)`).
"""

from __future__ import annotations

import io
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, BinaryIO, Final, TypeAlias

from hillhold_signer.errors import FileRefused, ServiceError
from hillhold_signer.serviceclient import Report, Service
from hillhold_verifier.errors import MisuseError

MAX_FILES: Final = 200_000
"""Files of a repository."""
MAX_KEPT: Final = 64 * 1024 * 1024
"""Bytes of files that are kept once they have been fetched."""
MAX_TARGET: Final = 1 << 30
"""Bytes of a target file that is opened to be read in pieces."""

_NAME: Final = re.compile(r"[A-Za-z0-9._+-]{1,200}(/[A-Za-z0-9._+-]{1,200}){0,6}")
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_STAGED: Final = re.compile(r"staged/([0-9a-f]{64})")
_ASKED: Final = ("public/", "staged/")
"""What the service does not list: it is asked for each name."""
_TOLD: Final = re.compile(r"public/metadata/(timestamp|[0-9]+\.root)\.json")
"""What it does list of that, whole: so nobody has to ask whether there is a newer root."""

Names: TypeAlias = list[str]


@dataclass(frozen=True, slots=True)
class _Listed:
    """What the service says of a file."""

    length: int
    sha256: str


class RemoteStore:
    """The files of a service's repository. For one thread.

    Args:
        report: is told, for each file that is sent, how far it is.
    """

    def __init__(self, service: Service, report: Callable[[str], Report] | None = None) -> None:
        self.service, self._report = service, report
        self._tree: dict[str, _Listed] | None = None
        self._kept: dict[str, bytes] = {}  # by SHA-256
        self._asked: dict[str, bytes | None] = {}  # by name: files that never change
        self._size = 0
        self._written: dict[str, bytes | None] | None = None
        self._staged: dict[str, int] = {}
        self._stamp = 0

    @property
    def stamp(self) -> int:
        """Counts writes, and looks at what the service holds now: in between, it is what it was when the list was read."""
        return self._stamp

    # --- reading ---

    def read(self, name: str, limit: int) -> bytes | None:
        """Read what was written, or fetch it; raises `FileRefused`, `ServiceRefused`, `ServiceError`."""
        written = self._written or {}
        data = written[name] if name in written else self._fetch(name, limit)
        if data is not None and len(data) > limit:
            raise FileRefused(name, expected=f"at most {limit} bytes", got=len(data))
        return data

    def digest(self, name: str) -> tuple[int, str] | None:
        """Return what is known of a file; of one that is not listed, what the service says."""
        if self._written is not None and name in self._written:
            data = self._written[name]
            return None if data is None else (len(data), sha256(data).hexdigest())
        if (match := _STAGED.fullmatch(name)) and name in self._staged:
            return self._staged[name], match[1]
        if (listed := self._list().get(name)) is not None:
            return listed.length, listed.sha256
        if not _is_asked(name):
            return None
        if (kept := self._asked.get(name)) is not None:
            return len(kept), sha256(kept).hexdigest()
        return self.service.file_digest(name)

    def open(self, name: str) -> BinaryIO:
        """Fetch a file whole."""
        data = self.read(name, MAX_TARGET)
        if data is None:
            raise FileNotFoundError(name)
        return io.BytesIO(data)

    def list(self, folder: str) -> Names:
        """List a folder, without hidden names; published target files are not listed."""
        start = len(folder) + 1 if folder else 0
        found = {name[start:].partition("/")[0] for name in self._below(folder)}
        return sorted(name for name in found if not name.startswith("."))

    def walk(self, folder: str) -> Names:
        """List what is below a folder, without hidden files; published target files are not listed."""
        return sorted(name for name in self._below(folder) if not name.rpartition("/")[2].startswith("."))

    # --- writing ---

    def write(self, name: str, data: bytes) -> None:
        """Keep what is to be sent: what is new, and signatures, since it counts who hands one in; a target file is sent at once."""
        written = self._writing(name)
        if (match := _STAGED.fullmatch(name)) is not None:
            self._stage(name, match[1], data)
        elif name in written or name.endswith(".sig") or self.digest(name) != (len(data), sha256(data).hexdigest()):
            written[name] = data

    def remove(self, name: str) -> None:
        """Note that a file is to go, if it is there."""
        written = self._writing(name)
        if written.get(name) is not None and name not in self._list():
            del written[name]
        elif self.digest(name) is not None:
            written[name] = None

    def place(self, source: str, target: str) -> None:
        """Only the service publishes."""
        raise MisuseError(f"{self.service}: expected to be asked to publish, got {source} for {target}")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Look at the newest state, and send what is written within as one change."""
        if self._written is not None:
            yield
            return
        self._forget()
        self._written = {}
        try:
            yield
            written = self._written
        finally:
            self._written = None
            self._stamp += 1
        if written:
            self._send(written)

    # --- how ---

    def _writing(self, name: str) -> dict[str, bytes | None]:
        if self._written is None:
            raise MisuseError(f"{name}: expected to be written under the lock")
        self._stamp += 1
        return self._written

    def _forget(self) -> None:
        """Look at what the service holds now, when it is asked for next."""
        self._tree = None
        self._stamp += 1

    def _stage(self, name: str, digest: str, data: bytes) -> None:
        if sha256(data).hexdigest() != digest:
            raise FileRefused(name, expected="the bytes that its name is the hash of", got="others")
        if name not in self._staged:
            self.service.upload(data, digest, self._report(digest) if self._report else None)
            self._staged[name] = len(data)

    def _send(self, written: dict[str, bytes | None]) -> None:
        files = {name: b64encode(data).decode() for name, data in written.items() if data is not None}
        removed = sorted(name for name, data in written.items() if data is None)
        self._forget()
        self.service.post("v1/changes", {"files": files, "removed": removed})

    def _below(self, folder: str) -> set[str]:
        found = {*self._list(), *self._staged}
        for name, data in (self._written or {}).items():
            found.discard(name)
            if data is not None:
                found.add(name)
        return {name for name in found if not folder or name.startswith(f"{folder}/")}

    def _fetch(self, name: str, limit: int) -> bytes | None:
        listed = self._list().get(name)
        if listed is None:
            return self._ask(name, limit) if _is_asked(name) else None
        if listed.length > limit:
            raise FileRefused(name, expected=f"at most {limit} bytes", got=listed.length)
        if (kept := self._kept.get(listed.sha256)) is not None:
            return kept
        data = self.service.file(name, listed.length)
        if data is None or sha256(data).hexdigest() != listed.sha256:
            hint = "somebody changed it meanwhile, perhaps; run the command again"
            got = "none" if data is None else "other bytes"
            raise ServiceError(f"{self.service}: expected {name} as it is listed, got {got}", hint=hint)
        self._keep(data, listed.sha256)
        return data

    def _ask(self, name: str, limit: int) -> bytes | None:
        """Fetch a file that the service does not list; what a name with a version or a hash means stays so."""
        if name in self._asked:
            return self._asked[name]
        data = self.service.file(name, limit)
        match = _STAGED.fullmatch(name)
        if match and data is not None and sha256(data).hexdigest() != match[1]:
            raise ServiceError(f"{self.service}: expected the bytes that {name} is the hash of, got others")
        if data is not None and self._size + len(data) <= MAX_KEPT:
            self._asked[name] = data
            self._size += len(data)
        return data

    def _list(self) -> dict[str, _Listed]:
        if self._tree is None:
            found = self.service.get("v1/tree")
            files = found.get("files") if isinstance(found, dict) else None
            if not isinstance(files, dict) or len(files) > MAX_FILES:
                raise self._strange("a list of files")
            self._tree = {name: self._entry(name, item) for name, item in files.items()}
        return self._tree

    def _entry(self, name: str, item: Any) -> _Listed:
        """Look at an entry of the list: names lead nowhere, and bytes that came with it are those that it names."""
        length, digest = (item.get("length"), item.get("sha256")) if isinstance(item, dict) else (None, None)
        odd = not _NAME.fullmatch(name) or bool({".", ".."} & set(name.split("/")))
        whole = isinstance(length, int) and length >= 0 and isinstance(digest, str) and bool(_HASH.fullmatch(digest))
        if odd or not whole or (_is_asked(name) and not name.startswith("public/metadata/")):
            raise self._strange("a list of names with length and sha256")
        data, length = item.get("data"), int(str(length))
        if data is not None and str(digest) not in self._kept:
            try:
                raw = b64decode(data, validate=True)
            except (ValueError, TypeError) as error:
                raise self._strange("bytes in base64") from error
            if len(raw) != length or sha256(raw).hexdigest() != digest:
                raise self._strange(f"the listed bytes of {name}")
            self._keep(raw, str(digest))
        return _Listed(length, str(digest))

    def _keep(self, data: bytes, digest: str) -> None:
        if self._size + len(data) <= MAX_KEPT:
            self._kept[digest] = data
            self._size += len(data)

    def _strange(self, expected: str) -> ServiceError:
        hint = "is this the URL of a Hillhold service, of this version?"
        return ServiceError(f"{self.service}: expected {expected}, got something else", hint=hint)


def _is_asked(name: str) -> bool:
    """Whether the list leaves it out, where it may be there all the same."""
    return name.startswith(_ASKED) and not _TOLD.fullmatch(name)
