"""A repository whose files are rows of a database, and whose target files are objects beside it (`places.Store`).

Staged files and published target files are names for blobs (`targets`, `blobs`); the bytes of a blob are in the object store before the row
that says so. All other files are in `files`.

A store lives as long as one transaction, in which nobody else changes these rows: they are read under one snapshot, or under the lock. So
what it has seen once, it need not ask again. What it writes, it keeps until `flush`, which is one statement for each table. And what is
published by it is written down as one publication, in the order of writing: the exporter does the same to the object store (`export`).
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, BinaryIO, Final, TypeAlias

from sqlalchemy import Connection, select

from hillhold_signer.errors import FileRefused, StorageError
from hillhold_signer.service.blobfile import BlobFile
from hillhold_signer.service.blobs import add_blob, check_free, keep
from hillhold_signer.service.database import Database
from hillhold_signer.service.dbview import BLOB, FILE_NAMED, LENGTHS, TARGETS_NAMED, VIEW, Ahead, Cache, Held
from hillhold_signer.service.names import TIMESTAMP, below, blob_key, check_name, digest_in, overlap, version_of
from hillhold_signer.service.objects import Objects
from hillhold_signer.service.tables import FILES, PUBLICATION_FILES, PUBLICATIONS, TARGETS
from hillhold_verifier import canonical
from hillhold_verifier.errors import MisuseError

AHEAD: Final = 4 * 1024 * 1024
"""Bytes of a role's drafts that are read at once."""
AT_ONCE: Final = 500
"""Names in one statement."""

_VERSIONED: Final = re.compile(r"drafts/[^/]+/[0-9a-f]{64}\.(json|sig)|public/metadata/([1-9][0-9]*)\.([^/]+)\.json")


Names: TypeAlias = list[str]


class DatabaseStore:
    """The files of the repository, in one transaction.

    Args:
        now: Unix seconds.
        writing: whether the transaction holds the repository's lock.

    Attributes:
        ahead: what will most likely be asked for.
    """

    _free: Callable[[Connection, str, int], object] = staticmethod(keep)

    def __init__(
        self, database: Database, connection: Connection, objects: Objects, cache: Cache, now: int, *, writing: bool
    ) -> None:
        self.database, self._connection, self._objects = database, connection, objects
        self._cache, self._now, self._writing = cache, now, writing
        self.ahead = Ahead()
        self._held: Held | None = None
        self._blobs: dict[str, tuple[int | None, set[str]]] = {}
        self._staged: set[str] | None = None
        self._written: dict[str, bytes | None] = {}
        self._placed: dict[str, str | None] = {}
        self._published: dict[str, None] = {}
        self._stamp = 0

    @property
    def stamp(self) -> int:
        """How often something was written: nobody else does, within the transaction."""
        return self._stamp

    # --- reading ---

    def read(self, name: str, limit: int) -> bytes | None:
        """Read a file."""
        digest = digest_in(check_name(name))
        if digest is None:
            return self._file(name, limit)
        length = self._target(name)
        if length is None:
            return None
        if length > limit:
            raise FileRefused(name, expected=f"at most {limit} bytes", got=length)
        found = self._objects.read(blob_key(digest), length)
        if found is None or len(found.data) != length or sha256(found.data).hexdigest() != digest:
            hint = "the object store has lost or changed it; restore it from a back-up"
            raise StorageError(f"{blob_key(digest)}: expected {length} bytes with this hash, got others", hint=hint)
        return found.data

    def digest(self, name: str) -> tuple[int, str] | None:
        """Look a target file up, or read another."""
        digest = digest_in(check_name(name))
        if digest is not None:
            length = self._target(name)
            return None if length is None else (length, digest)
        data = self._file(name, None)
        return None if data is None else (len(data), sha256(data).hexdigest())

    def open(self, name: str) -> BinaryIO:
        """Open a file to read in pieces."""
        digest = digest_in(check_name(name))
        if digest is None:
            if (data := self._file(name, None)) is None:
                raise FileNotFoundError(name)
            return io.BytesIO(data)
        if (length := self._target(name)) is None:
            raise FileNotFoundError(name)
        return io.BufferedReader(BlobFile(self._objects, digest, length))

    def list(self, folder: str) -> Names:
        """List a folder, without hidden names."""
        if folder and digest_in(check_name(folder)):
            return []
        if folder and not below("public", folder) and folder != "public":
            self._look_into(folder)
            found = set(self._view().folders.get(folder, ()))
            found |= {name.partition("/")[2] for name in self._targets(folder)}
        else:
            start = len(folder) + 1 if folder else 0
            found = {name[start:].partition("/")[0] for name in self._all(folder)}
        return sorted(name for name in found if not name.startswith("."))

    def walk(self, folder: str) -> Names:
        """List all files below a folder, without hidden ones."""
        if folder:
            check_name(folder)
        return sorted(name for name in self._all(folder) if not name.rpartition("/")[2].startswith("."))

    # --- writing ---

    def write(self, name: str, data: bytes) -> None:
        """Write a file; one that has this content already is left alone."""
        self._check_writing()
        self._stamp += 1
        if (digest := digest_in(check_name(name))) is not None:
            return self._write_target(name, digest, data)
        if below("public/targets", name):
            raise FileRefused(name, expected="a name with the file's hash", got="none")
        held = self._file(name, None)
        if held == data:
            return None
        if held is not None and _VERSIONED.fullmatch(name):
            hint = "nothing was written; look for another program that writes into this database"
            raise StorageError(f"{name}: expected a new file, got one with other content", hint=hint)
        self._written[name] = data
        self._view().add(name, len(data))
        if below("public", name):
            self._note(name)
        return None

    def remove(self, name: str) -> None:
        """Remove a file."""
        self._check_writing()
        self._stamp += 1
        if (digest := digest_in(check_name(name))) is not None:
            if self._target(name) is None:
                return
            self._placed[name] = None
            self._blobs[digest][1].discard(name)
        else:
            self._written[name] = None
            self._view().discard(name)
        if below("public", name):
            self._note(name)

    def place(self, source: str, target: str) -> None:
        """Give a blob another name."""
        self._check_writing()
        self._stamp += 1
        digest = digest_in(check_name(source))
        if digest is None or digest != digest_in(check_name(target)):
            raise FileRefused(target, expected=f"a name with the hash of {source}", got="another")
        if self._target(source) is None:
            raise StorageError(f"{source}: no such file")
        if self._target(target) is None:
            self._name_target(target, digest)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be within a transaction that holds the lock."""
        self._check_writing()
        yield

    def flush(self) -> int | None:
        """Write it all, before the transaction is committed; returns the number of the publication, if one was made."""
        files = [{"name": name, "data": data} for name, data in self._written.items() if data is not None]
        names = [{"name": name, "sha256": digest} for name, digest in self._placed.items() if digest is not None]
        for table, rows, column in ((FILES, files, "data"), (TARGETS, names, "sha256")):
            if rows:
                self._connection.execute(self.database.upsert(table, column), rows)
        self._delete(FILES, [name for name, data in self._written.items() if data is None])
        self._delete(TARGETS, [name for name, digest in self._placed.items() if digest is None])
        return self._record() if self._published else None

    def keep(self) -> None:
        """Hand what is committed now to the cache."""
        for name, data in self._written.items():
            if data is not None and _VERSIONED.fullmatch(name):
                self._cache.put(name, data)

    # --- files ---

    def _file(self, name: str, limit: int | None) -> bytes | None:
        """The bytes of a row, or of what is to be one."""
        data = self._written[name] if name in self._written else self._stored(name, limit)
        if data is not None and limit is not None and len(data) > limit:
            raise FileRefused(name, expected=f"at most {limit} bytes", got="more")
        return data

    def _stored(self, name: str, limit: int | None) -> bytes | None:
        self._look_into(name)
        view = self._view()
        length = view.lengths.get(name)
        if length is None and view.knows(name):
            return None
        if name in view.data:
            return view.data[name]
        if length is not None and limit is not None and length > limit:
            raise FileRefused(name, expected=f"at most {limit} bytes", got=length)
        if (cached := self._cache.get(name)) is not None and (length is not None or self._is_there(name)):
            return cached
        wanted = [name]
        if length is not None and below("drafts", name):
            wanted = self._with_neighbours(name, length)
        for found, data in self._connection.execute(select(FILES.c.name, FILES.c.data).where(FILES.c.name.in_(wanted))):
            view.data[found] = bytes(data)
            if _VERSIONED.fullmatch(found):
                self._cache.put(found, bytes(data))
        return view.data.get(name)

    def _is_there(self, name: str) -> bool:
        return self._connection.execute(FILE_NAMED, {"wanted": name}).first() is not None

    def _with_neighbours(self, name: str, length: int) -> Names:
        """A draft, and what else of its role has not been read: whoever asks for one asks for all."""
        folder, left = name.rpartition("/")[0], AHEAD - length
        view, wanted = self._view(), [name]
        for other in sorted(f"{folder}/{item}" for item in view.folders.get(folder, ())):
            if other != name and other not in view.data and _VERSIONED.fullmatch(other) and other not in self._written:
                left -= view.lengths.get(other, 0)
                if left < 0 or len(wanted) >= AT_ONCE:
                    break
                if self._cache.get(other) is None:
                    wanted.append(other)
        return wanted

    def _view(self) -> Held:
        """The names and bytes of all files outside the published tree and the drafts, of the timestamp and the first roots: one statement.

        And the names of the drafts of root and targets, which say whose signatures count, and of what is `ahead`.
        """
        if self._held is None:
            rows = self._connection.execute(VIEW, self.ahead.parameters())
            self._held = Held(((row[0], row[1], row[2]) for row in rows), self.ahead.line)
        return self._held

    def _look_into(self, name: str) -> None:
        """Have the names of the drafts of a role, or of all, before one of them is asked for."""
        if name != "drafts" and not name.startswith("drafts/"):
            return
        view, role = self._view(), name.split("/")[1] if "/" in name else ""
        if role in view.looked_into or "" in view.looked_into:
            return
        folder = f"drafts/{role}" if role else "drafts"
        for found, length in self._connection.execute(LENGTHS, {"first": f"{folder}/", "last": f"{folder}0"}):
            if found not in self._written:
                view.add(str(found), int(length))
        view.looked_into.add(role)

    def _all(self, folder: str) -> set[str]:
        """The names of all files below a folder."""
        if overlap(folder, "drafts"):
            self._look_into(folder if folder.startswith("drafts/") else "drafts")
        found = {name for name in self._view().lengths if below(folder, name)}
        if overlap(folder, "public/metadata"):
            query = select(FILES.c.name).where(FILES.c.name >= "public/metadata/", FILES.c.name < "public/metadata0")
            names = {str(name) for (name,) in self._connection.execute(query)}
            names -= {name for name, data in self._written.items() if data is None}
            found |= {name for name in names if below(folder, name)}
        return found | self._targets(folder)

    # --- target files ---

    def _target(self, name: str) -> int | None:
        """The length of a target file; None where there is none of this name."""
        if below("staged", name) and name not in self._staged_names():
            return None
        length, names = self._blob(digest_in(name) or "")
        return length if name in names else None

    def _staged_names(self) -> set[str]:
        """The names of all staged files, which are few: a publication asks for those of every release of a line."""
        if self._staged is None:
            rows = self._connection.execute(TARGETS_NAMED, {"first": "staged/", "last": "staged0"})
            self._staged = {str(name) for (name,) in rows} | self._placed.keys()
        return self._staged

    def _blob(self, digest: str) -> tuple[int | None, set[str]]:
        """The length of a blob, and all its names: one statement for each."""
        if digest not in self._blobs:
            rows = self._connection.execute(BLOB, {"wanted": digest}).all()
            self._blobs[digest] = (rows[0][0] if rows else None), {str(row[1]) for row in rows if row[1] is not None}
        return self._blobs[digest]

    def _targets(self, folder: str) -> set[str]:
        """The names of target files below a folder."""
        if not overlap(folder, "public/targets") and not overlap(folder, "staged"):
            return set()
        query = select(TARGETS.c.name)
        if folder:
            query = query.where(TARGETS.c.name >= f"{folder}/", TARGETS.c.name < f"{folder}0")
        found = {str(name) for (name,) in self._connection.execute(query)}
        found |= {name for name, digest in self._placed.items() if digest and below(folder, name)}
        return found - {name for name, digest in self._placed.items() if digest is None}

    def _write_target(self, name: str, digest: str, data: bytes) -> None:
        if sha256(data).hexdigest() != digest:
            raise FileRefused(name, expected="the bytes that its name is the hash of", got="others")
        length, names = self._blob(digest)
        if name in names:
            return
        if length is None:
            self._free(self._connection, digest, self._now)
            self._objects.put(blob_key(digest), data)
            self._add_blob(digest, len(data))
            self._blobs[digest] = len(data), set()
        self._name_target(name, digest)

    def _add_blob(self, digest: str, length: int) -> None:
        add_blob(self.database, self._connection, digest, length, self._now)

    def _name_target(self, name: str, digest: str) -> None:
        self._placed[name] = digest
        self._blobs[digest][1].add(name)
        if self._staged is not None:
            self._staged.add(name)
        if below("public", name):
            self._note(name)

    # --- what was published ---

    def _note(self, name: str) -> None:
        self._published.pop(name, None)  # its last place counts
        self._published[name] = None

    def _record(self) -> int:
        """Write down the publication: of metadata with versions the names say enough, since they stay as they are."""
        roles = {match[3]: int(match[2]) for name in self._published if (match := _VERSIONED.fullmatch(name))}
        timestamp = self._written.get(TIMESTAMP) if TIMESTAMP in self._published else None
        if timestamp is not None:
            roles["timestamp"] = version_of(timestamp)
        row = {"time": self._now, "roles": canonical.dumps(roles).decode()}
        made = self._connection.execute(PUBLICATIONS.insert().values(row).returning(PUBLICATIONS.c.id)).scalar_one()
        files = [
            {
                "publication": made,
                "place": place,
                "name": name,
                "data": timestamp if name == TIMESTAMP else None,
                "sha256": self._placed.get(name),
            }
            for place, name in enumerate(self._published)
        ]
        self._connection.execute(PUBLICATION_FILES.insert(), files)
        return int(made)

    def _delete(self, table: Any, names: Names) -> None:
        for start in range(0, len(names), AT_ONCE):
            self._connection.execute(table.delete().where(table.c.name.in_(names[start : start + AT_ONCE])))

    def _check_writing(self) -> None:
        if not self._writing:
            raise MisuseError("repository: expected a transaction that writes, got one that reads")


class TryingStore(DatabaseStore):
    """The files of the repository, on which something is tried: what is written is never flushed.

    Attributes:
        added: lengths of blobs that were put into the object store, by hash. They stay, and are noted once the transaction is over: whoever
            wanted a second connection while it holds one could wait for others that want the same.
    """

    _free = staticmethod(check_free)

    def __init__(
        self, database: Database, connection: Connection, objects: Objects, cache: Cache, now: int, *, writing: bool
    ) -> None:
        super().__init__(database, connection, objects, cache, now, writing=writing)
        self.added: dict[str, int] = {}

    def _add_blob(self, digest: str, length: int) -> None:
        self.added[digest] = length
