"""The log, as its one writer holds it: append, and finish what was cut off.

An append takes these steps, and each is on the disk before the next begins:

1. `.pending`: the entries, in a note by the log's key that names the tree before and after. From here on they will be in the log.
2. Entry bundles and tiles, which are new files.
3. The checkpoint is signed and replaces the one before. Now the entries are in the log, and the append returns.
4. `.pending` goes, and the partial tiles of those that are full now (tlog-tiles, Partial Tiles).

Whatever was cut off before step 1 was done has not happened. After it, the next writer makes the same files and the same checkpoint. So
no two checkpoints are ever signed that contradict each other, not even one that nobody has seen, and no file that somebody may have
cached changes. The note in `.pending` is no checkpoint: its second line is not a number. It is signed so that nobody without the key can
make a writer append something.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from hillhold_signer.errors import EntryRefused, LogRefused
from hillhold_signer.log.checkpoint import (
    PATH,
    Checkpoint,
    SignedCheckpoint,
    open_checkpoint,
    parse_hash,
    parse_number,
    show_hash,
    sign_checkpoint,
)
from hillhold_signer.log.merkle import EMPTY_ROOT
from hillhold_signer.log.note import MAX_NOTE, NoteSigner, Verifier, open_note, sign_note
from hillhold_signer.log.proof import Proof
from hillhold_signer.log.stores import PENDING, Store
from hillhold_signer.log.tiles import ENTRIES, HEIGHT, WIDTH, Edge, Tile, decode_bundle, encode_bundle
from hillhold_signer.log.tree import Tree
from hillhold_verifier.errors import MisuseError, OperationalError, short

MAX_BATCH: Final = 16_384
"""Entries of one append."""
MAX_BATCH_BYTES: Final = 64 * 1024 * 1024
"""Bytes of one append's entries, which are held in memory and written once more in `.pending`."""

_LENGTH: Final = 4
"""Bytes of the length of the note in `.pending`."""
MAX_PENDING: Final = _LENGTH + MAX_NOTE + MAX_BATCH_BYTES
"""Bytes of `.pending`."""


class Log:
    """A log that this process alone writes; made by `create_log` and `open_log`."""

    def __init__(self, store: Store, signers: Sequence[NoteSigner], signed: SignedCheckpoint, edge: Edge) -> None:
        self._store, self._signers = store, signers
        self._signed, self._edge = signed, edge
        self._usable = True

    @property
    def checkpoint(self) -> SignedCheckpoint:
        """The latest checkpoint."""
        return self._signed

    @property
    def size(self) -> int:
        """Number of entries."""
        return self._edge.size

    def append(self, entries: Sequence[bytes]) -> range:
        """Append entries, all or none; once this returns, they are in the log for good.

        Args:
            entries: at most `MAX_BATCH`, of at most 65,535 bytes each and `MAX_BATCH_BYTES` in all.

        Returns:
            Their indices.

        Raises:
            EntryRefused: too many, or too long; nothing has changed.
            LogRefused, NoteRefused, OperationalError: the append was cut off. Whoever opens the log again finds either none or all
                of these entries in it; this object refuses further work.
            MisuseError: after such an error, or after `open_log` was left.
        """
        if not self._usable:
            raise MisuseError("log: an append was cut off, or the log was closed; open it again")
        if not entries:
            return range(self.size, self.size)
        batch = encode_bundle(entries)
        if len(entries) > MAX_BATCH or len(batch) > MAX_BATCH_BYTES:
            expected = f"at most {MAX_BATCH} entries of {MAX_BATCH_BYTES} bytes"
            raise EntryRefused("entries to append", expected=expected, got=f"{len(entries)} of {len(batch)} bytes")
        self._usable = False
        first, (edge, files) = self.size, self._edge.grown(entries)
        note = sign_note(self._intent(edge), self._signers)
        self._store.replace(PENDING, len(note).to_bytes(_LENGTH, "big") + note + batch)
        self._commit(edge, files)
        self._usable = True
        return range(first, self.size)

    def tree(self) -> Tree:
        """Return the tree of the latest checkpoint, to read from; raises as `Tree`."""
        return Tree(self._store, self.size, self._signed.checkpoint.root)

    def prove(self, index: int) -> Proof:
        """Return the proof that entry `index` is in the log; raises as `Tree.entry`."""
        return prove_entry(self.tree(), self._signed, index)

    def _intent(self, edge: Edge) -> bytes:
        """The text of the note in `.pending`: from the tree as it is to the one with this edge."""
        lines = [self._origin, "pending", f"{self.size} {edge.size} {show_hash(edge.root)}"]
        return "".join(f"{line}\n" for line in lines).encode()

    def _commit(self, edge: Edge, files: dict[str, bytes]) -> None:
        """Steps 2 to 4."""
        for path, data in files.items():
            self._store.create(path, data)
        data = sign_checkpoint(Checkpoint(self._origin, edge.size, edge.root), self._signers)
        self._store.replace(PATH, data)
        before, self._edge = self._edge, edge
        self._signed = open_checkpoint(data, [signer.verifier for signer in self._signers])
        with suppress(OperationalError):  # what is left over harms nobody
            self._tidy(before)

    def _tidy(self, before: Edge) -> None:
        self._store.remove(PENDING)
        for level in (ENTRIES, *before.hashes):
            above = HEIGHT * (max(level, 0) + 1)
            if self.size >> above > before.size >> above:  # the tile that was partial is full now
                folder = Tile(level, before.size >> above).partials
                for name in self._store.list(folder):
                    if re.fullmatch("[1-9][0-9]{0,2}", name) and int(name) < WIDTH:
                        self._store.remove(f"{folder}/{name}")

    def _recover(self, verifiers: Sequence[Verifier]) -> None:
        """Finish what the last writer had decided."""
        data = self._store.read(PENDING, MAX_PENDING)
        if data is None:
            return
        end = _LENGTH + int.from_bytes(data[:_LENGTH], "big")
        text = open_note(data[_LENGTH:end], verifiers).text
        before, after, root = self._parse_intent(text)
        if after <= self.size:
            return self._store.remove(PENDING)  # all was done but to remove it
        if before != self.size:
            hint = "an older state of the log was restored; keep this copy, and find the checkpoints that auditors hold"
            got = f"one of size {self.size}, while a later one was signed"
            raise LogRefused("checkpoint", expected=f"one of size {before} at least", got=got, hint=hint)
        entries = decode_bundle(data[end:], after - before, PENDING)
        edge, files = self._edge.grown(entries)
        if edge.root != root:
            raise LogRefused(PENDING, expected=f"entries with the root {short(root)}", got=short(edge.root))
        self._commit(edge, files)

    def _parse_intent(self, text: bytes) -> tuple[int, int, bytes]:
        lines = text.decode().split("\n")
        numbers = lines[2].split(" ") if len(lines) == 4 else []
        if lines[:2] != [self._origin, "pending"] or len(numbers) != 3:
            raise LogRefused(PENDING, expected=f"what {self._origin} was about to append", got=f"{text[:80]!r}")
        before, after, root = numbers
        return parse_number(before, PENDING), parse_number(after, PENDING), parse_hash(root, PENDING)

    @property
    def _origin(self) -> str:
        return self._signers[0].verifier.name


def create_log(store: Store, signers: Sequence[NoteSigner]) -> SignedCheckpoint:
    """Make a log without entries.

    Args:
        signers: the log's keys, all of whose names are its origin; one, but for the time of a change.

    Returns:
        Its first checkpoint.

    Raises:
        LogRefused: there is a log, or something of one.
        MisuseError: no keys, or keys of several logs.
        NoteRefused, OperationalError: it could not be signed or written.
    """
    origin = _check_signers(signers)
    with store.lock():
        if store.read(PATH, MAX_NOTE) is not None or store.list("tile") or store.read(PENDING, MAX_PENDING):
            hint = "open the log that is there; where its checkpoint is lost, restore that from whoever kept one"
            raise LogRefused("new log", expected="an empty place", got="files of a log", hint=hint)
        data = sign_checkpoint(Checkpoint(origin, 0, EMPTY_ROOT), signers)
        store.replace(PATH, data)
    return open_checkpoint(data, [signer.verifier for signer in signers])


@contextmanager
def open_log(store: Store, signers: Sequence[NoteSigner], former: Sequence[Verifier] = ()) -> Iterator[Log]:
    """Open a log to write, while no other writer can: check its signature and edge, and finish what was cut off.

    A log that was restored from a back-up looks whole. Who keeps its latest checkpoint elsewhere calls
    `check_consistent(log.tree(), kept)` before anything is appended.

    Args:
        signers: as for `create_log`.
        former: keys by which the log was signed until now, where they are to be replaced.

    Raises:
        LockedError: another writer is at work.
        LogRefused: there is no log, or its files do not agree with its checkpoint; nothing was changed.
        NoteRefused: it is not signed by these keys.
        MisuseError: no keys, or keys of several logs.
        OperationalError: a file cannot be read or written.
    """
    origin = _check_signers(signers)
    verifiers = [*(signer.verifier for signer in signers), *former]
    with store.lock():
        signed = open_checkpoint(_checkpoint(store), verifiers)
        if signed.checkpoint.origin != origin:
            raise LogRefused("origin of the log", expected=origin, got=signed.checkpoint.origin)
        tree = Tree(store, signed.checkpoint.size, signed.checkpoint.root)
        log = Log(store, signers, signed, tree.edge())
        log._recover(verifiers)
        try:
            yield log
        finally:
            log._usable = False


def prove_entry(tree: Tree, signed: SignedCheckpoint, index: int) -> Proof:
    """Return the proof that entry `index` is in the tree of a checkpoint, with the entry as its extra data.

    Raises:
        LogRefused: there is no such entry, or the log was altered.
        OperationalError: it cannot be read.
    """
    entry = tree.entry(index)
    return Proof(index, tuple(tree.prove_inclusion(index)), signed.data, entry)


def _checkpoint(store: Store) -> bytes:
    data = store.read(PATH, MAX_NOTE)
    if data is None:
        hint = "make one with create_log; where there was one, restore its checkpoint from whoever kept it"
        raise LogRefused("log", expected=f"a file `{PATH}`", got="none", hint=hint)
    return data


def _check_signers(signers: Sequence[NoteSigner]) -> str:
    names = {signer.verifier.name for signer in signers}
    if len(names) != 1:
        raise MisuseError(f"log: expected keys with one origin, got {', '.join(sorted(names)) or 'none'}")
    return names.pop()
