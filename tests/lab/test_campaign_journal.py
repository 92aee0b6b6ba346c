"""What a campaign has found is on the disk, and belongs to that campaign alone."""

from __future__ import annotations

import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hillhold_bootsim.lab.errors import CampaignRefused
from hillhold_bootsim.lab.journal import NAME, Head, Part, opened
from hillhold_bootsim.lab.model import Evidence, Item, Result, Verdict
from hillhold_signer.errors import LockedError, StorageError

HEAD = Head(1, {"campaign file": "aa", "catalogue": "bb"}, {"tool": "1"})
ITEM = Item("one", "serial", facts={"port": "p"})
RESULT = Result("soak", Verdict.PASS, "it held: ü", True, (Evidence("trace", "t", "a\nb\u2028c"),), {"seconds": 1.5})
PART = Part({"seconds": 0.25}, "a line", "")
KEY = ("one", "soak")


def written(folder: Path) -> bytes:
    with opened(folder, HEAD, 5) as journal:
        journal.add_item("one", ITEM)
        journal.add_part(KEY, PART)
        journal.add_part(KEY, PART)
        journal.add_result(KEY, RESULT)
        journal.end(9)
    return (folder / NAME).read_bytes()


def test_what_was_written_is_there_again(tmp_path: Path) -> None:
    written(tmp_path / "c")
    with opened(tmp_path / "c", HEAD, 77) as journal:
        assert (journal.began, journal.ended) == (5, 9)
        assert journal.items == {"one": ITEM}
        assert journal.parts == {KEY: [PART, PART]}
        assert journal.results == {KEY: RESULT}


def test_what_a_board_is_is_written_when_it_is_news(tmp_path: Path) -> None:
    data = written(tmp_path)
    with opened(tmp_path, HEAD, 6) as journal:
        journal.add_item("one", ITEM)
        assert (tmp_path / NAME).read_bytes() == data
        journal.add_item("one", replace(ITEM, hardware="h"))
    assert (tmp_path / NAME).read_bytes() != data


def test_a_journal_that_is_cut_short_anywhere_loses_the_last_line_alone(tmp_path: Path) -> None:
    data = written(tmp_path / "whole")
    for length in range(len(data)):
        folder = tmp_path / str(length)
        folder.mkdir()
        (folder / NAME).write_bytes(data[:length])
        with opened(folder, HEAD, 6) as journal:
            whole = data[:length].count(b"\n")
            have = (
                len(journal.items) + sum(map(len, journal.parts.values())) + len(journal.results) + bool(journal.ended)
            )
            assert have == max(0, whole - 1)
            assert journal.began == (5 if whole else 6)
        assert written(folder).endswith(b"\n")


@pytest.mark.parametrize("line", range(6))
def test_a_line_that_was_changed_is_refused(tmp_path: Path, line: int) -> None:
    lines = written(tmp_path).splitlines(keepends=True)
    lines[line] = lines[line][: len(lines[line]) // 2] + b"\n"
    (tmp_path / NAME).write_bytes(b"".join(lines))
    with pytest.raises(CampaignRefused, match=f"line {line + 1}"), opened(tmp_path, HEAD, 6):
        pass
    assert (tmp_path / NAME).read_bytes() == b"".join(lines)


@pytest.mark.parametrize(
    "extra",
    [
        b"[]",
        b"{}",
        b'{"item": "one", "case": "soak"}',
        b'{"item": "one", "case": "soak", "part": {"figures": {}, "text": ""}}',
        b'{"item": "one", "case": "soak", "part": {"figures": {}, "text": "", "problem": ""}}',
        b'{"item": "one", "case": 7, "part": {"figures": {}, "text": "", "problem": ""}}',
        b'{"item": "one", "is": {}}',
        b'{"ended": true}',
        b'{"item": "one", "case": "new", "result": {"verdict": "perfect"}}',
        b"[" * 5000,
        b"9" * 5000,
    ],
)
def test_a_line_that_no_campaign_writes_is_refused(tmp_path: Path, extra: bytes) -> None:
    data = written(tmp_path)
    (tmp_path / NAME).write_bytes(data + extra + b"\n")
    with pytest.raises(CampaignRefused, match="line 7"), opened(tmp_path, HEAD, 6):
        pass


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (replace(HEAD, seed=2), "seed of the campaign: expected 1, got 2"),
        (replace(HEAD, hashes={**HEAD.hashes, "catalogue": "cc"}), "SHA-256 of the catalogue"),
        (replace(HEAD, hashes={"catalogue": "bb"}), "SHA-256 of the campaign file"),
        (replace(HEAD, hashes={**HEAD.hashes, "firmware a": "dd"}), "SHA-256 of the firmware a"),
        (replace(HEAD, versions={"tool": "2"}), "version of the tool"),
    ],
)
def test_a_campaign_does_not_go_on_as_another_one(tmp_path: Path, head: Head, words: str) -> None:
    data = written(tmp_path)
    with pytest.raises(CampaignRefused, match=words) as caught, opened(tmp_path, head, 6):
        pass
    assert caught.value.hint
    assert (tmp_path / NAME).read_bytes() == data


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(CampaignRefused, match=r"thesis\.txt"), opened(tmp_path, HEAD, 6):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_two_at_once_in_one_folder_are_one_too_many(tmp_path: Path) -> None:
    with (
        opened(tmp_path, HEAD, 5),
        pytest.raises(LockedError, match="in use by another process"),
        opened(tmp_path, HEAD, 6),
    ):
        pass
    with opened(tmp_path, HEAD, 6) as journal:
        assert journal.began == 5


@contextmanager
def room(size: int) -> Iterator[None]:
    """Files cannot grow beyond so many bytes."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files")
def test_a_full_disk_keeps_what_there_was(tmp_path: Path) -> None:
    with opened(tmp_path, HEAD, 5) as journal:
        journal.add_part(KEY, PART)
        data = (tmp_path / NAME).read_bytes()
        with room(len(data) + 40), pytest.raises(StorageError, match="cannot write") as caught:
            journal.add_result(KEY, RESULT)  # a part of it goes to the disk, and is taken back
        assert caught.value.hint
        assert not journal.results
        assert (tmp_path / NAME).read_bytes() == data
        journal.add_result(KEY, RESULT)  # there is room again
    with opened(tmp_path, HEAD, 6) as journal:
        assert journal.results == {KEY: RESULT}
