"""What the page reads of the log. Each entry was checked against the root of the checkpoint before it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, func, select

from hillhold_signer.errors import EntryRefused, FileRefused
from hillhold_signer.log import Event, Kind, SignedCheckpoint, Tree, Verifier, fetch_checkpoint, prove_entry
from hillhold_signer.log.checkpoint import PATH
from hillhold_signer.log.note import MAX_NOTE
from hillhold_signer.log.tiles import WIDTH
from hillhold_signer.service.access import Principal
from hillhold_signer.service.page.data import NotAllowed, NotThere, Unit, reads_all
from hillhold_signer.service.tables import EVENTS, LOG_FILES

PAGE: Final = 50
"""Entries of one page."""
MAX_SEARCHED: Final = 16 * WIDTH
"""Entries that are looked at for one page of one kind."""


class TableReader:
    """The log's files, as one reading of the database has them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def read(self, path: str, limit: int) -> bytes | None:
        """Return a file; raises `FileRefused`."""
        data = self._connection.execute(select(LOG_FILES.c.data).where(LOG_FILES.c.path == path)).scalar_one_or_none()
        if data is None:
            return None
        if len(data) > limit:
            raise FileRefused(path, expected=f"at most {limit} bytes", got=len(data))
        return bytes(data)

    def list(self, folder: str) -> list[str]:  # noqa: ARG002
        """Return nothing: only an audit asks."""
        return []


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry; `event` is None where it is none of ours."""

    index: int
    data: bytes
    event: Event | None


@dataclass(frozen=True, slots=True)
class LogPage:
    """Some entries, newest first.

    Attributes:
        signed: the checkpoint; None before the log was begun.
        older: where the next page begins (`read_log`), or None at the log's beginning.
        newest: this is the first page.
        waiting: events that are not in the log yet.
    """

    signed: SignedCheckpoint | None
    entries: tuple[Entry, ...]
    older: int | None
    newest: bool
    waiting: int
    kind: Kind | None


@dataclass(frozen=True, slots=True)
class EntryPage:
    """One entry, with its proof as a file."""

    signed: SignedCheckpoint
    entry: Entry
    proof: bytes


def read_log(unit: Unit, reader: Principal, log: Verifier, before: int | None, kind: Kind | None) -> LogPage:
    """Return a page of the log.

    Args:
        log: its key.
        before: only entries below this index; None for the newest.
        kind: only of this kind.

    Raises:
        NotAllowed: to this reader.
        LogRefused, NoteRefused: the log was altered.
    """
    if not reads_all(reader):
        raise NotAllowed("the log")
    waiting = unit.connection.execute(select(func.count()).select_from(EVENTS)).scalar_one()
    files = TableReader(unit.connection)
    if files.read(PATH, MAX_NOTE) is None:
        return LogPage(None, (), None, True, waiting, kind)
    signed, tree = _open(files, log)
    top = tree.size if before is None else min(before, tree.size)
    least = max(0, top - (PAGE if kind is None else MAX_SEARCHED))
    found, older = [], least
    for entry in _backwards(tree, top, least):
        if kind is None or (entry.event is not None and entry.event.kind is kind):
            found.append(entry)
            if len(found) == PAGE:
                older = entry.index
                break
    return LogPage(signed, tuple(found), older or None, before is None or before >= tree.size, waiting, kind)


def read_entry(unit: Unit, reader: Principal, log: Verifier, index: int) -> EntryPage:
    """Return one entry; raises `NotThere`, `NotAllowed`, `LogRefused`, `NoteRefused`."""
    if not reads_all(reader):
        raise NotAllowed("the log")
    files = TableReader(unit.connection)
    if files.read(PATH, MAX_NOTE) is None:
        raise NotThere(index)
    signed, tree = _open(files, log)
    if index >= tree.size:
        raise NotThere(index)
    proof = prove_entry(tree, signed, index)
    return EntryPage(signed, _entry(index, tree.entry(index)), proof.data)


def _open(files: TableReader, log: Verifier) -> tuple[SignedCheckpoint, Tree]:
    signed = fetch_checkpoint(files, [log])
    return signed, Tree(files, signed.checkpoint.size, signed.checkpoint.root)


def _backwards(tree: Tree, top: int, least: int) -> Iterator[Entry]:
    """The entries from `top` down to `least`, a bundle at a time."""
    for bundle in range(-(-top // WIDTH) - 1, least // WIDTH - 1, -1):
        entries = tree.entries(bundle)
        for at in range(min(len(entries), top - bundle * WIDTH) - 1, -1, -1):
            if (index := bundle * WIDTH + at) >= least:
                yield _entry(index, entries[at])


def _entry(index: int, data: bytes) -> Entry:
    try:
        return Entry(index, data, Event.decode(data))
    except EntryRefused:
        return Entry(index, data, None)
