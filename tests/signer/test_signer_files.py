"""Ceremony files, settings, durations, what may be signed, and files on disk."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hillhold_signer import Expiry, example_signer
from hillhold_signer.ceremony import parse_ceremony
from hillhold_signer.config import Config, parse_config, read_people, show_config, write_people
from hillhold_signer.durations import parse_duration, show_duration
from hillhold_signer.encoding import check_content, utc
from hillhold_signer.errors import CeremonyRefused, ConfigRefused, ContentRefused, FileRefused, StorageError
from hillhold_signer.layout import FolderLayout
from hillhold_signer.storage import create_file, list_folder, read_file, write_file
from workshop import NOW, ceremony, tree

CEREMONY = """
[root]
threshold = 2
expires = "52w"
keys = [ { name = "Ada", file = "root-1" }, { name = "Grace", file = "root-2" } ]
[targets]
threshold = 1
keys = [ { name = "Margaret", file = "targets-1" } ]
[lines]
expires = "26w"
[snapshot]
expires = "2w"
key = { file = "snapshot", uri = "file:online/snapshot.pem" }
[timestamp]
key = { file = "timestamp", uri = "awskms:arn" }
"""


def parse(text: str):  # type: ignore[no-untyped-def]
    return parse_ceremony(text, Path("/ceremony"), lambda path: example_signer(path.name).public_key)


def test_a_ceremony_file() -> None:
    found = parse(CEREMONY)
    assert found.root.threshold == 2
    assert [item.name for item in found.root.keys] == ["Ada", "Grace"]
    assert found.timestamp.uri == "awskms:arn"
    assert found.snapshot.uri == f"file:{Path('/ceremony/online/snapshot.pem').resolve().as_posix()}"
    assert found.expiry == Expiry()
    found.check(demo=True)


NOBODY = 65534
"""The user id without rights on every Unix."""


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[root]", "[rooot]", "only lines, root"),
        ("threshold = 2", "treshold = 2", "only expires, keys, threshold"),
        ("threshold = 2", "threshold = 3", "threshold of root: expected 1 to 2, got 3"),
        ("threshold = 2", "threshold = 0", "threshold of root"),
        ("threshold = 2", "threshold = true", "threshold of root"),
        ("threshold = 2", 'threshold = "2"', "threshold of root"),
        ('"52w"', '"soon"', "expires of root"),
        ('"52w"', '"0d"', "more than nothing"),
        ('"52w"', "52", "expires of root"),
        ('file = "root-2"', 'file = "root-1"', "the same key for Ada and Grace"),
        ('file = "root-2"', 'path = "root-2"', "only file, name"),
        ('name = "Ada", file = "root-1"', 'name = "", file = "root-1"', "name"),
        ('file = "snapshot", uri', 'file = "root-1", uri', "a key of its own, got the offline key of Ada"),
        ('uri = "awskms:arn"', 'uri = ""', "uri"),
        ("[timestamp]", "[timestamp", "TOML"),
        ('key = { file = "timestamp", uri = "awskms:arn" }', "", "timestamp.*a table, got none"),
    ],
)
def test_ceremony_files_that_are_refused(old: str, new: str, says: str) -> None:
    assert old in CEREMONY
    with pytest.raises(CeremonyRefused, match=says):
        parse(CEREMONY.replace(old, new, 1)).check(demo=True)


def test_a_name_that_would_move_the_cursor() -> None:
    with pytest.raises(ContentRefused):
        parse(CEREMONY.replace('"Grace"', r'"Gra\u001b[2Jce"')).check(demo=True)


def test_settings_are_read_as_they_are_written() -> None:
    config = Config(False, Expiry(1, 60, 3600, 86400, 7 * 86400), {"b" * 64: 'file:C:/a "b"/ü.pem', "a" * 64: "hv:key"})
    assert parse_config(show_config(config)) == config


@pytest.mark.parametrize(
    "data", [b"", b"format = 2", b"\xff", b"format = 1\ndemo = 1", b"format = 1\ndemo = true", b"= ["]
)
def test_settings_that_are_refused(data: bytes) -> None:
    with pytest.raises(ConfigRefused):
        parse_config(data)


def test_people_are_names_in_files_that_two_people_never_both_write(tmp_path: Path) -> None:
    layout = FolderLayout(tmp_path)
    people = {"b" * 64: 'Grace "Amazing" Höpper', "a" * 64: "Ada\\"}
    write_people(layout, people)
    assert read_people(layout) == people
    before = tree(tmp_path)
    write_people(layout, {"a" * 64: "Ada L."})
    assert {name: data for name, data in tree(tmp_path).items() if name in before} == before
    assert read_people(layout)["a" * 64] == "Ada L. or Ada\\"
    (file,) = (path for path in layout.people.iterdir() if path.read_bytes() == b"Ada L.\n")
    file.write_text("Ada Lovelace\r\n")  # an editor
    assert read_people(layout)["a" * 64] == "Ada Lovelace or Ada\\"
    (layout.people / "README").write_text("not a name")
    assert set(read_people(layout)) == set(people)


@pytest.mark.parametrize("data", [b"", b"\n", b"\xff", b"a\nb", b"\x1b[2J", b"x" * 101, b"x" * 1000])
def test_names_that_are_refused(data: bytes, tmp_path: Path) -> None:
    layout = FolderLayout(tmp_path)
    write_people(layout, {"a" * 64: "Ada"})
    (file,) = layout.people.iterdir()
    file.write_bytes(data)
    with pytest.raises((ConfigRefused, FileRefused)):
        read_people(layout)


def test_durations() -> None:
    for text, seconds in (("0s", 0), ("90s", 90), ("45m", 2700), ("12h", 43200), ("30d", 2592000), ("2w", 1209600)):
        assert parse_duration(text) == seconds
        assert parse_duration(show_duration(seconds)) == seconds
    for bad in ("", "d", "1", "-1d", "1.5d", "01d", "1 d", "1y", "99999999999d", 5, None, "５d"):
        with pytest.raises(ConfigRefused):
            parse_duration(bad)


@pytest.mark.parametrize(
    "bad",
    [
        "\x00",
        "\n",
        "\x1f",
        "\x7f",
        "\ud800",
        2**53,
        -(2**53),
        1.5,
        float("nan"),
        b"x",
        {1: "x"},
        {"\n": 1},
        [["\r"]],
        {"public": "\n"},
    ],
)
def test_what_must_not_be_signed(bad: object) -> None:
    with pytest.raises(ContentRefused):
        check_content({"a": [bad]})


def test_what_may_be_signed() -> None:
    check_content(
        {"a": ['é\U0001f600\\"', 2**53 - 1, -(2**53) + 1, True, None], "keyval": {"public": "-----\nAB\n-----\n"}}
    )
    with pytest.raises(ContentRefused):
        check_content({"keyval": {"public": "\r"}})
    with pytest.raises(ContentRefused):
        utc(10**15)
    assert utc(NOW).year == 2026


def test_a_write_is_whole_and_leaves_an_equal_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    write_file(path, b"one")
    first = path.stat().st_ino
    write_file(path, b"one")
    assert path.stat().st_ino == first
    write_file(path, b"two")
    assert tree(tmp_path) == {str(Path("a", "b")): b"two"}
    assert read_file(path, 3) == b"two"
    with pytest.raises(FileRefused, match="at most 2 bytes"):
        read_file(path, 2)


@pytest.mark.parametrize(
    "act",
    [
        lambda folder: write_file(folder / "file" / "below", b"x"),
        lambda folder: create_file(folder / "file" / "below", b"x", mode=0o600),
        lambda folder: create_file(folder / "file", b"x", mode=0o600),
        lambda folder: read_file(folder / "none", 10),
        lambda folder: read_file(folder, 10),
    ],
)
def test_what_the_disk_refuses_is_operational(tmp_path: Path, act: Callable[[Path], object]) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError) as failed:
        act(tmp_path)
    assert failed.value.exit_code == 3
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_a_read_only_folder(tmp_path: Path) -> None:
    """Root may write anywhere, so that it gives up its rights for the attempt."""
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o500)
    user = os.geteuid()
    if user == 0:
        for parent in folder.parents[:3]:
            parent.chmod(parent.stat().st_mode | 0o011)
        os.seteuid(NOBODY)
    try:
        with pytest.raises(StorageError, match="Permission denied"):
            write_file(folder / "a", b"x")
    finally:
        os.seteuid(user)
    assert list_folder(folder) == []


def test_hidden_files_are_not_listed_and_no_folder_is_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / ".a.tmp").write_bytes(b"")
    (tmp_path / "b").write_bytes(b"")
    assert list_folder(tmp_path) == ["b"]
    assert list_folder(tmp_path / "none") == []


def test_the_example_ceremony_is_one() -> None:
    ceremony().check(demo=True)
    assert json.dumps(ceremony().expiry.of("pump")) == json.dumps(Expiry().lines)
