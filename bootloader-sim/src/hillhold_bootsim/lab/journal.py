"""What a campaign has found so far, on the disk as it comes: a campaign that was interrupted goes on from there.

`journal.jsonl` in the campaign's folder: one JSON object a line, each on the disk before the next thing is done to a board.

    {"format": 1, "began": …, "seed": …, "hashes": {…}, "versions": {…}}
    {"checks": […]}                                             the tool's validation of itself, all of it
    {"item": "unit 7", "is": {…}}                               what the board is
    {"item": "unit 7", "case": "soak", "part": {…}}             one of many parts of a case
    {"item": "unit 7", "case": "soak", "result": {…}}           what came of the whole
    {"ended": …}                                                all is done

A line that a loss of power or a full disk cut short is the last one, has no end, and is done again. Whatever else is not as it was written
is refused: what is handed in as one campaign must be one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import Any, Final

from hillhold_bootsim.lab.errors import CampaignRefused
from hillhold_bootsim.lab.jsonform import from_values, to_values
from hillhold_bootsim.lab.model import Check, Item, Result
from hillhold_signer.errors import StorageError
from hillhold_signer.storage import locked, read_optional

FORMAT: Final = 1
NAME: Final = "journal.jsonl"
LOCK: Final = ".lock"
MAX_BYTES: Final = 256 * 1024 * 1024
_ANOTHER: Final = "another campaign is another folder: --out DIR"
_CHANGED: Final = f"with what it began with it goes on; {_ANOTHER}"


@dataclass(frozen=True, slots=True)
class Head:
    """What must be the same when a campaign goes on.

    Attributes:
        seed: of all that is random.
        hashes: SHA-256 of campaign file, catalogue, board files, firmware, by name.
        versions: of the tool and what it runs on, by name.
    """

    seed: int
    hashes: Mapping[str, str]
    versions: Mapping[str, str]

    def require(self, hashes: Mapping[str, str], versions: Mapping[str, str]) -> None:
        """Raise `CampaignRefused` where these are not the same."""
        for kind, before, now in (("SHA-256", self.hashes, hashes), ("version", self.versions, versions)):
            for name in sorted({*before, *now}):
                if before.get(name) != now.get(name):
                    expected, got = before.get(name, "none"), now.get(name, "none")
                    what = f"{kind} of the {name}, since the campaign began"
                    raise CampaignRefused(what, expected=expected, got=got, hint=_CHANGED)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a case: an update of many, a power cut of many.

    Attributes:
        figures: by name.
        text: a line of evidence.
        problem: why it failed, or "".
    """

    figures: Mapping[str, float] = field(default_factory=dict)
    text: str = ""
    problem: str = ""


Key = tuple[str, str]
"""Names of item and case."""


class Journal:
    """The journal of one campaign, whose folder is locked; threads may share it.

    Attributes:
        head: what it began with.
        began, ended: when the campaign did, Unix seconds; None while it has not.
        checks: the tool's validation of itself; empty before it.
        items, parts, results: what is there.
    """

    def __init__(self, file: FileIO, path: Path, head: Head) -> None:
        self._file, self._path, self.head = file, path, head
        self._lock = Lock()
        self.began = 0
        self.ended: int | None = None
        self.checks: tuple[Check, ...] = ()
        self.items: dict[str, Item] = {}
        self.parts: dict[Key, list[Part]] = {}
        self.results: dict[Key, Result] = {}

    def add_checks(self, checks: tuple[Check, ...]) -> None:
        """Write what the tool's validation of itself came to."""
        self._write({"checks": to_values(checks, "checks")})
        self.checks = checks

    def add_item(self, name: str, item: Item) -> None:
        """Write what a board is, where that is news; raises `StorageError`, as all of these."""
        if self.items.get(name) != item:
            self._write({"item": name, "is": to_values(item, name)})
            self.items[name] = item

    def add_part(self, key: Key, part: Part) -> None:
        """Write one part of a case."""
        self._write({"item": key[0], "case": key[1], "part": to_values(part, "part")})
        self.parts.setdefault(key, []).append(part)

    def add_result(self, key: Key, result: Result) -> None:
        """Write what came of a case."""
        self._write({"item": key[0], "case": key[1], "result": to_values(result, "result")})
        self.results[key] = result

    def end(self, now: int) -> int:
        """Write that all is done, once; return when that was."""
        if self.ended is None:
            self._write({"ended": now})
            self.ended = now
        return self.ended

    # --- inside -------------------------------------------------------------------------------------------------------

    def begin(self, now: int) -> None:
        """Write the first line."""
        self._write({"format": FORMAT, "began": now, **to_values(self.head, "head")})
        self.began = now

    def take(self, lines: list[bytes]) -> None:
        """Take what an earlier run wrote; raises `CampaignRefused`."""
        for number, line in enumerate(lines, 1):
            where = f"{self._path} line {number}"
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise CampaignRefused(where, expected="JSON", got=f"{error}"[:120], hint=_ANOTHER) from error
            if not isinstance(value, dict):
                raise CampaignRefused(where, expected="an object", got=type(value).__name__, hint=_ANOTHER)
            if number == 1:
                self._take_head(value, where)
            else:
                self._take_line(value, where)

    def _take_head(self, value: dict[str, Any], where: str) -> None:
        found = value.pop("format", None), value.pop("began", None)
        if found[0] != FORMAT or not isinstance(found[1], int):
            raise CampaignRefused(where, expected=f"the journal of a campaign, format {FORMAT}", got=repr(found)[:80])
        self.began = found[1]
        was: Head = from_values(Head, value, where)
        if was.seed != self.head.seed:
            raise CampaignRefused("seed of the campaign", expected=was.seed, got=self.head.seed, hint=_ANOTHER)
        was.require(self.head.hashes, self.head.versions)

    def _take_line(self, value: dict[str, Any], where: str) -> None:
        if value.keys() == {"ended"} and type(value["ended"]) is int:
            self.ended = value["ended"]
            return
        if value.keys() == {"checks"} and not self.checks:
            self.checks = from_values(tuple[Check, ...], value["checks"], where)
            return
        names = {"item": str, "case": str, "is": dict, "part": dict, "result": dict}
        kinds = value.keys() - {"item", "case"}
        right = all(isinstance(value[name], names.get(name, type(None))) for name in value)
        if not right or value.keys() not in ({"item", "is"}, {"item", "case", "part"}, {"item", "case", "result"}):
            raise CampaignRefused(where, expected="an item, a part or a result", got=", ".join(sorted(value))[:80])
        key = (value["item"], value.get("case", ""))
        if "is" in kinds:
            self.items[key[0]] = from_values(Item, value["is"], where)
        elif key in self.results:
            raise CampaignRefused(where, expected="one result of a case, behind its parts", got=f"{key[1]} again")
        elif "part" in kinds:
            self.parts.setdefault(key, []).append(from_values(Part, value["part"], where))
        else:
            self.results[key] = from_values(Result, value["result"], where)

    def _write(self, value: Mapping[str, object]) -> None:
        data = json.dumps(value, sort_keys=True, allow_nan=False).encode() + b"\n"
        with self._lock:
            at = self._file.tell()
            try:
                left = memoryview(data)
                while left:  # a disk that becomes full takes a part first, without an error
                    left = left[self._file.write(left) :]
                os.fsync(self._file.fileno())
            except OSError as error:
                with suppress(OSError):
                    self._file.seek(at)
                    self._file.truncate()
                hint = "what was found until then is kept; free some space, and run the campaign again: it goes on"
                raise StorageError(f"cannot write {self._path}: {error.strerror or error}", hint=hint) from error


@contextmanager
def opened(folder: Path, head: Head, now: int) -> Iterator[Journal]:
    """Open the journal of a campaign, or begin it; nobody else can meanwhile.

    Args:
        folder: of the campaign; it is made.
        head: what must be the same as when it began.
        now: Unix seconds.

    Raises:
        CampaignRefused: the folder holds another campaign, or something else.
        LockedError: another process has it.
        StorageError: it cannot be written.
    """
    path = folder / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = sorted(entry.name for entry in folder.iterdir() if entry.name != LOCK)
    except OSError as error:
        raise StorageError(f"cannot make {folder}: {error.strerror or error}") from error
    if others and NAME not in others:
        expected = "a campaign's folder, or an empty one"
        raise CampaignRefused(str(folder), expected=expected, got=f"a folder with {others[0]}", hint=_ANOTHER)
    with locked(folder / LOCK, tries=1):
        data = read_optional(path, MAX_BYTES)
        whole = (data or b"")[: (data or b"").rfind(b"\n") + 1]
        lines = whole.split(b"\n")[:-1]
        try:
            # Unbuffered: what could not be written must not be tried again when the file is closed.
            file = FileIO(path, "r+" if data is not None else "x+")
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
        with file:
            journal = Journal(file, path, head)
            if lines:
                journal.take(lines)
            file.seek(len(whole))
            file.truncate()
            if not lines:
                journal.begin(now)
            yield journal
