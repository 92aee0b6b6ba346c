"""`hillhold-device verify` as people use it: on repositories that the signer made, on spoilt ones, and on hostile ones."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from forge import DAY, T0, Repo, date, key, keys
from hillhold_signer import Caps, Product, Wish, add_product, add_release
from hillhold_verifier.cli import main
from lab import Done, Lab, device
from workshop import HARDWARE, image, online, release, sign_all, started, team

Capture = pytest.CaptureFixture[str]
REFUSED = 1


def verify(capsys: Capture, *arguments: object) -> Done:
    code = main(["verify", *map(str, arguments)])
    captured = capsys.readouterr()
    return Done(code, captured.out, captured.err)


@pytest.fixture
def copy(lab: Lab, tmp_path: Path) -> Path:
    """A copy of the laboratory's repository, to be spoilt."""
    return shutil.copytree(lab.two, tmp_path / "copy")


def release_file(repository: Path, version: str) -> Path:
    (found,) = (repository / "targets" / "pump" / version).glob("*.app.bin")
    return found


def written(tree: Mapping[str, bytes], folder: Path) -> Path:
    for name, data in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


# --- good -------------------------------------------------------------------------------------------------------------


def test_a_good_repository_as_a_process(lab: Lab) -> None:
    done = device("verify", lab.two, "--root", lab.root)
    assert done.code == 0, done.out + done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("judged at 20")
    assert lines[-1] == "verdict: good — 4 roles, 1 product line, 2 releases, 1 patch, 3 files, all as signed"
    for text in ("  release pump/1.1.0/app.bin", "    makes     exactly pump/1.1.0/app.bin", "root 1 (given)"):
        assert text in lines
    assert max(map(len, lines)) < 130
    assert done.err.splitlines()[-1] == "metadata: 3.pump.json"


def test_json_has_all_of_it(lab: Lab, capsys: Capture) -> None:
    done = verify(capsys, lab.two.parent, "--root", lab.root, "--json")
    assert (done.code, done.err) == (0, "")
    report = done.json
    assert set(report) == {
        *("verdict", "findings", "counts", "at", "now", "issued", "roots", "timestamp", "snapshot", "targets", "lines"),
        "files",
    }
    assert report["verdict"] == "good"
    assert report["counts"] == {"roles": 4, "lines": 1, "releases": 2, "patches": 1, "files": 3}
    (line,) = report["lines"]
    assert (line["product"], line["state"], line["good"], line["accepted"]) == ("pump", "line", True, True)
    assert line["delegation"]["hardware"] == sorted(HARDWARE)
    patch = next(one for one in line["targets"] if one["path"].endswith(".patch"))
    assert (patch["makes_exactly"], patch["base_path"]) == (True, "pump/1.0.0/app.bin")
    newest = next(one for one in line["targets"] if one["path"] == "pump/1.1.0/app.bin")
    assert newest["says"]["version"] == "1.1.0"
    assert newest["sha256"] == release_file(lab.two, "1.1.0").name.partition(".")[0]
    (quorum,) = line["role"]["quorums"]
    assert (quorum["threshold"], quorum["valid"]) == (2, 2)
    assert {signature["state"] for signature in quorum["signatures"]} == {"valid"}


def test_metadata_alone(copy: Path, lab: Lab, capsys: Capture) -> None:
    release_file(copy, "1.1.0").unlink()
    done = verify(capsys, copy, "--root", lab.root, "--no-files")
    assert done.code == 0
    assert done.out.splitlines()[-1].endswith("2 releases, 1 patch; files not looked at")


# --- refused ----------------------------------------------------------------------------------------------------------


def test_a_truncated_and_a_missing_file_are_both_named(copy: Path, lab: Lab, capsys: Capture) -> None:
    old, new = release_file(copy, "1.0.0"), release_file(copy, "1.1.0")
    length = old.stat().st_size
    with old.open("r+b") as file:
        file.truncate(1000)
    new.unlink()
    done = verify(capsys, copy, "--root", lab.root)
    assert done.code == REFUSED
    assert done.out.splitlines()[-3:] == [
        "verdict: refused — 2 reasons",
        f"  pump/1.0.0/app.bin: file length: expected {length}, got 1000",
        "  pump/1.1.0/app.bin: target pump/1.1.0/app.bin: No such file or directory",
    ]
    report = verify(capsys, copy, "--root", lab.root, "--json")
    assert (report.code, report.json["verdict"]) == (REFUSED, "refused")
    assert [finding["level"] for finding in report.json["findings"]] == ["refused", "refused"]


def test_a_root_that_is_another_repository_s(lab: Lab, tmp_path: Path, capsys: Capture) -> None:
    other = Repo()
    other.expires["root"] = int(time.time()) + 99 * DAY
    root = tmp_path / "root.json"
    root.write_bytes(other.root(version=1))
    done = verify(capsys, lab.two, "--root", root)
    assert done.code == REFUSED
    assert "verdict: refused — 3 reasons" in done.out
    assert "  warning: 1.root.json of the source is another root than the given one" in done.out.splitlines()


def test_at_another_moment(lab: Lab, capsys: Capture) -> None:
    late = verify(capsys, lab.two, "--root", lab.root, "--at", "2099-01-01T00:00:00Z")
    assert late.code == REFUSED
    assert "root 1: root metadata: expected unexpired at 2099-01-01T00:00:00Z" in late.out
    early = verify(capsys, lab.two, "--root", lab.root, "--at", "2020-01-01T00:00:00Z")
    assert (early.code, "judged at its own time" in early.out) == (0, True)


def two_lines(folder: Path) -> Path:
    """A repository with the lines `pump` and `valve`, of one release each."""
    now = int(time.time())
    repository = started(folder, now)
    release(repository, image("1.0.0"), now)
    add_product(repository, Product("valve", team("release-1", "release-2", threshold=2), Caps(HARDWARE, 100)), now)
    sign_all(repository, "targets-1", "targets-2", "release-1", "release-2")
    repository.publish(online(), now)
    add_release(repository, "valve", image("2.0.0", seed=2), Wish("app.bin", hardware=HARDWARE[:1]), now)
    sign_all(repository, "release-1", "release-2")
    repository.publish(online(), now)
    return folder / "public"


def test_two_lines_of_which_one_is_bad(tmp_path: Path, capsys: Capture) -> None:
    public = two_lines(tmp_path / "repository")
    root = public / "metadata" / "1.root.json"
    assert (
        verify(capsys, public, "--root", root)
        .out.splitlines()[-1]
        .startswith("verdict: good — 4 roles, 2 product lines, 2 releases, 0 patches, 2 files")
    )
    newest = max((public / "metadata").glob("*.valve.json"))
    newest.write_bytes(newest.read_bytes().replace(b'"security_counter":1', b'"security_counter":2'))
    done = verify(capsys, public, "--root", root, "--json")
    assert done.code == REFUSED
    assert {line["product"]: line["good"] for line in done.json["lines"]} == {"pump": True, "valve": False}
    assert {finding["where"] for finding in done.json["findings"]} == {"valve"}
    assert verify(capsys, public, "--root", root, "--product", "pump").code == 0
    assert verify(capsys, public, "--root", root, "--product", "pump", "--product", "valve").code == REFUSED
    assert verify(capsys, public, "--root", root, "--product", "pimp").code == REFUSED


# --- hostile ----------------------------------------------------------------------------------------------------------


def test_what_a_repository_says_cannot_move_the_cursor_or_forge_a_line(tmp_path: Path, capsys: Capture) -> None:
    trick = "\x1b[2J\x1b[H\r\nverdict: good — all as signed\u202e\x9b"
    repo = Repo(hardware=(f"nrf-a{trick}",))
    repo.keys["line"] = [key("line-1").named(trick), *keys("line-2")]
    repo.add_release("1.0.0", b"image", withdrawn=trick, set=trick, crit=[trick])
    repo.add_release("1.1.0", b"image 2", component=trick, requires={trick: "1.0.0"})
    repo.add_target(f"x{trick}", b"data", {"v": 1})
    repo.add_patch("pump/1.1.0/app.bin", b"image", b"patch", algorithm=trick[:30])
    tree = repo.publish()
    tree = {name: data for name, data in tree.items() if "\x1b" not in name}
    source = written(tree, tmp_path / trick.replace("/", ""))
    done = verify(capsys, source, "--root", source / "metadata" / "1.root.json", "--at", date(T0 + DAY))
    assert done.code == REFUSED
    assert all(line.isprintable() for line in (done.out + done.err).splitlines() if line)
    assert sum(line.startswith("verdict:") for line in done.out.split("\n")) == 1
    for words in (["--json"], ["--json", "--product", trick]):
        machine = verify(capsys, source, "--root", source / "metadata" / "1.root.json", *words)
        assert machine.out.isascii()
        assert json.loads(machine.out)["verdict"] == "refused"


# --- usage and surroundings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], ["repo"], ["repo", "--root", "r", "--at", "tomorrow"], ["--root", "r"]])
def test_usage(arguments: list[str], capsys: Capture) -> None:
    done = verify(capsys, *arguments)
    assert (done.code, done.out) == (2, "")
    assert "hint: see `hillhold-device verify --help`" in done.err


def test_what_is_not_there(lab: Lab, tmp_path: Path, capsys: Capture) -> None:
    for source, root in (
        (tmp_path, lab.root),
        (tmp_path / "no", lab.root),
        (lab.two, tmp_path / "no"),
        (lab.two, tmp_path),
    ):
        done = verify(capsys, source, "--root", root)
        assert (done.code, done.out) == (3, "")
        assert done.err.startswith("error: ")


def test_a_root_file_that_is_no_root(lab: Lab, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "root.json").write_bytes(b"{}")
    done = verify(capsys, lab.two, "--root", tmp_path / "root.json")
    assert (done.code, done.err.splitlines()[0]) == (REFUSED, "error: root metadata signed: expected a value, got none")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(Path.mkdir, "Is a directory", id="folder"),
        pytest.param(getattr(os, "mkfifo", None), "not a regular file", id="pipe"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="no pipes in folders, and other words for a folder")
def test_what_is_no_file_leaves_no_verdict_and_keeps_nobody_waiting(
    copy: Path, lab: Lab, capsys: Capture, make: Callable[[Path], object], words: str
) -> None:
    file = release_file(copy, "1.0.0")
    file.unlink()
    make(file)
    make(copy / "metadata" / "2.root.json")
    done = verify(capsys, copy, "--root", lab.root)
    assert done.code == 3
    assert done.out.splitlines()[-3:] == [
        "verdict: none, the source could not be read — 2 reasons",
        f"  root 1: 2.root.json: {words}",
        f"  pump/1.0.0/app.bin: target pump/1.0.0/app.bin: {words}",
    ]
