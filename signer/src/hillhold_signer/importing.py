"""Import: the releases of an existing product, a folder of images and a table (`table`), into its line's draft.

Every row is checked as `add` checks a release, in the order of versions; all that is wrong is reported at once, and nothing is written
unless every row is right. Images are looked at one after another, so that memory does not grow with their number; the staged files
of an import that was interrupted are found, and not copied again. Rows that the line lists already are passed over, so that the same
import may run twice. No patches are made: they begin with the next `add`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

from tuf.api.metadata import TargetFile, Targets

from hillhold_signer import encoding
from hillhold_signer.edit import Edit
from hillhold_signer.errors import ImportRefused, ReleaseRefused, SignerRefused, StorageError
from hillhold_signer.products import Caps, caps_of
from hillhold_signer.releases import MAX_IMAGE, plan, releases_of, understood
from hillhold_signer.repository import Repository
from hillhold_signer.storage import copy_file, digest_of, read_file, settle
from hillhold_signer.table import Row, read_table
from hillhold_verifier.errors import HillholdError, ImageError
from hillhold_verifier.mcuboot import parse_image
from hillhold_verifier.metadata import MAX_KEYS, max_bytes
from hillhold_verifier.release import Release, Version

ROOM: Final = 32 * 1024
"""Bytes that an import leaves free in a line's role: for its signatures, and for some releases to come."""

Report = Callable[[str, int, int], None]
"""Told what is done: a step in words, how many rows of how many."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import came to.

    Attributes:
        added: new entries of the line's draft.
        kept: rows that the line lists already.
        version: of the draft; of what is there already, if nothing was added.
    """

    added: tuple[TargetFile, ...]
    kept: int
    version: int


def import_releases(
    repository: Repository,
    product: str,
    folder: Path,
    table: bytes,
    now: int,
    *,
    dry_run: bool = False,
    report: Report | None = None,
) -> Imported:
    """Draft a line's role with the releases of a table.

    Args:
        folder: where the images lie.
        table: the bytes of the CSV file.
        now: Unix seconds.
        dry_run: check only, and write nothing.
        report: told of the progress.

    Raises:
        ProductRefused: no such line.
        TableRefused: the table cannot be read.
        ImportRefused: rows that may not be added, each with its line number.
        ReleaseRefused: more releases than a line holds.
        RepositoryRefused, StorageError: the repository.
    """
    report = report or _silent
    rows = sorted(read_table(table), key=lambda row: row.version)
    with repository.edit(now) as edit:
        line = edit.line(product)
        checked = _check(product, caps_of(edit.state.targets(), product), line, folder, rows, report)
        line.targets.update((entry.path, entry) for _, entry in checked)
        _check_room(product, line)
        if checked and not dry_run:
            _stage(edit, folder, checked, report)
            edit.save(product, line)
    version = line.version if checked else edit.state.line(product).version
    return Imported(tuple(entry for _, entry in checked), len(rows) - len(checked), version)


def _check(
    product: str, caps: Caps, line: Targets, folder: Path, rows: list[Row], report: Report
) -> list[tuple[Row, TargetFile]]:
    """Return the entries of the rows that are new; raises `ImportRefused` for all that are wrong."""
    edge = _Edge(releases_of(line), line)
    good: list[tuple[Row, TargetFile]] = []
    bad: list[tuple[int, str]] = []
    for number, row in enumerate(rows, 1):
        try:
            path = f"{product}/{row.version}/{row.wish.file_name}"
            entry = _entry(product, caps, edge.around(path), folder, row)
            if entry is not None:
                edge.add(entry)
                good.append((row, entry))
        except (SignerRefused, StorageError) as error:
            bad.append((row.line, str(error)))
        report("checked", number, len(rows))
    if bad:
        raise ImportRefused(sorted(bad))
    return good


def _entry(product: str, caps: Caps, line: Targets, folder: Path, row: Row) -> TargetFile | None:
    """The target entry of a row, checked as `add` does; None where the line has it."""
    image = read_file(folder / row.file, MAX_IMAGE)
    path = f"{product}/{row.version}/{row.wish.file_name}"
    old = line.targets.get(path)
    if old is not None and old.hashes.get("sha256") == sha256(image).hexdigest():
        _check_same(old, row)
        return None
    _check_stated(image, row)
    entry = plan(product, caps, line, image, row.wish)
    if row.withdrawn is not None:
        entry.custom["hillhold"]["withdrawn"] = row.withdrawn
        understood(entry)
    return entry


def _check_same(old: TargetFile, row: Row) -> None:
    """A row that the line lists already must not say something else, which would be passed over in silence."""
    wish, known = row.wish, understood(old)
    if not isinstance(known, Release) or (known.kind, known.component, known.withdrawn, known.hardware) != (
        wish.kind,
        wish.component,
        row.withdrawn,
        frozenset(wish.hardware) or known.hardware,
    ):
        hint = "to withdraw a release is a change of its own"
        raise ReleaseRefused(f"target {old.path}", expected="as the line lists it", got="another row", hint=hint)


def _check_stated(image: bytes, row: Row) -> None:
    """The table says what the image says; what is no image `plan` refuses."""
    try:
        found = parse_image(image)
    except ImageError:
        return
    if Version.parse(str(found.version)) != row.version:
        raise ReleaseRefused("version", expected=f"{row.version}, as in the table", got=f"{found.version} in the image")
    if row.counter not in (None, found.security_counter):
        got = f"{found.security_counter} in the image"
        raise ReleaseRefused("security counter", expected=f"{row.counter}, as in the table", got=got)


@dataclass
class _Edge:
    """What decides whether a release may follow: of each place, the highest release and the one with the highest counter.

    `plan` looks at each release of a line. To ask it a thousand times about a thousand of them takes a million looks, of which these
    two decide, as rows come in the order of versions.
    """

    known: Iterable[Release]
    line: Targets
    _places: dict[tuple[str, str], tuple[Release, Release]] = field(default_factory=dict)
    _new: dict[str, TargetFile] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for release in self.known:
            self._note(release)

    def add(self, entry: TargetFile) -> None:
        """Take a release that was found right."""
        self._new[entry.path] = entry
        release = understood(entry)
        if isinstance(release, Release):
            self._note(release)

    def around(self, path: str) -> Targets:
        """Return the line with no more entries than those that decide about a release at `path`."""
        paths = {path, *(release.path for pair in self._places.values() for release in pair)}
        found = {name: entry for name in paths if (entry := self._new.get(name) or self.line.targets.get(name))}
        return Targets(self.line.version, None, self.line.expires, found)

    def _note(self, release: Release) -> None:
        for hardware in release.hardware:
            place = hardware, release.component
            highest, counter = self._places.get(place, (release, release))
            self._places[place] = (
                max(highest, release, key=lambda item: item.version),
                max(counter, release, key=lambda item: item.security_counter),
            )


def _silent(_step: str, _done: int, _total: int) -> None:
    """Nobody wants to know."""


def _check_room(product: str, line: Targets) -> None:
    size, limit = len(encoding.file_bytes(line, {}, product)), max_bytes(product) - ROOM
    if size > limit or len(line.targets) > MAX_KEYS:
        got = f"{size} bytes with {len(line.targets)} entries"
        raise ReleaseRefused(
            f"role of {product}",
            expected=f"at most {limit} bytes and {MAX_KEYS} entries",
            got=got,
            hint=encoding.TOO_MUCH,
        )


def _stage(edit: Edit, folder: Path, checked: list[tuple[Row, TargetFile]], report: Report) -> None:
    """Copy the images; those that are there already are not copied again."""
    for number, (row, entry) in enumerate(checked, 1):
        wanted = entry.length, entry.hashes["sha256"]
        staged = edit.layout.staged_file(wanted[1])
        if digest_of(staged) != wanted:
            try:
                copy_file(folder / row.file, staged, wanted)
            except HillholdError as error:
                raise ImportRefused([(row.line, str(error))]) from error
        report("copied", number, len(checked))
    settle(edit.layout.staged, (entry.hashes["sha256"] for _, entry in checked))
