"""Import: every row as `add` would take it, all or nothing, and once more after an interruption."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from hillhold_signer import Repository, Wish, add_release, verify_tree
from hillhold_signer.errors import ImportRefused, ProductRefused, ReleaseRefused, StorageError, TableRefused
from hillhold_signer.importing import import_releases
from hillhold_signer.patching import NO_PATCHES
from hillhold_signer.products import caps_of
from hillhold_signer.releases import plan
from hillhold_signer.storage import list_folder
from hillhold_signer.table import COLUMNS, MAX_TABLE, read_table
from workshop import HARDWARE, NOW, image, online, sign_all, started, tree

VERSIONS = ("1.0.0", "1.1.0", "1.1.1", "2.0.0")


def folder_of(path: Path, versions: Sequence[str] = VERSIONS) -> Path:
    folder = path / "builds"
    (folder / "old").mkdir(parents=True)
    for number, version in enumerate(versions):
        (folder / "old" / f"App-{version}.bin").write_bytes(image(version, counter=1 + number // 2))
    return folder


def table_of(rows: Sequence[str], header: str = "file,version,hardware") -> bytes:
    return "\n".join((header, *rows)).encode() + b"\n"


def rows_of(versions: Sequence[str] = VERSIONS) -> list[str]:
    return [f"old/App-{version}.bin,{version},{HARDWARE[0]}" for version in versions]


def refused_lines(repository: Repository, folder: Path, table: bytes) -> dict[int, str]:
    before = tree(repository.folder.path)
    with pytest.raises(ImportRefused) as refused:
        import_releases(repository, "pump", folder, table, NOW)
    assert tree(repository.folder.path) == before
    return dict(refused.value.rows)


def test_a_table_becomes_a_draft_that_is_signed_and_published(tmp_path: Path) -> None:
    repository, folder = started(tmp_path / "repo"), folder_of(tmp_path)
    header = "withdrawn,kind,version,file,name,security_counter,component,hardware"
    table = table_of(
        [
            ",,2.0.0,old/App-2.0.0.bin,,2,,nrf52-b  nrf51-a",
            '"loses its settings, twice",security,1.0.0,old/App-1.0.0.bin,pump.bin,,,nrf51-a',
        ],
        header,
    )
    seen: list[tuple[str, int, int]] = []
    done = import_releases(
        repository, "pump", folder, b"\xef\xbb\xbf" + table, NOW, report=lambda *step: seen.append(step)
    )
    assert (len(done.added), done.kept, done.version) == (2, 0, 2)
    assert seen == [("checked", 1, 2), ("checked", 2, 2), ("copied", 1, 2), ("copied", 2, 2)]
    sign_all(repository, "release-1", "release-2")
    repository.publish(online(), NOW)
    assert set(verify_tree(repository.folder.path, NOW).targets) == {"pump/1.0.0/pump.bin", "pump/2.0.0/app-2.0.0.bin"}
    custom = repository.state().line("pump").targets["pump/1.0.0/pump.bin"].custom["hillhold"]
    assert custom["withdrawn"] == "loses its settings, twice"
    assert custom["kind"] == "security"
    assert not list_folder(repository.folder.staged)


def test_each_row_is_the_entry_that_add_makes_of_it(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    one, two = started(tmp_path / "one"), started(tmp_path / "two")
    import_releases(one, "pump", folder, table_of(rows_of()), NOW)
    for version in VERSIONS:
        data = (folder / f"old/App-{version}.bin").read_bytes()
        add_release(two, "pump", data, Wish(f"app-{version}.bin", hardware=HARDWARE[:1]), NOW, patch_from=NO_PATCHES)
    assert one.state().drafts["pump"].payload == two.state().drafts["pump"].payload
    assert tree(one.folder.staged) == tree(two.folder.staged)


def test_the_order_of_the_rows_does_not_matter(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    one, two = started(tmp_path / "one"), started(tmp_path / "two")
    import_releases(one, "pump", folder, table_of(rows_of()), NOW)
    import_releases(two, "pump", folder, table_of(rows_of()[::-1]), NOW)
    assert one.state().drafts["pump"].payload == two.state().drafts["pump"].payload


def test_all_that_is_wrong_is_said_at_once_with_line_numbers_and_nothing_is_written(tmp_path: Path) -> None:
    repository, folder = started(tmp_path / "repo"), folder_of(tmp_path)
    (folder / "noise.bin").write_bytes(b"not an image")
    (folder / "bare.bin").write_bytes(image("3.0.0", counter=None))
    (folder / "low.bin").write_bytes(image("3.1.0", counter=1))
    (folder / "high.bin").write_bytes(image("3.2.0", counter=101))
    header = "file,version,hardware,kind,security_counter,withdrawn"
    table = table_of(
        [
            "old/App-1.0.0.bin,1.0.0,nrf51-a,feature,1,",
            "noise.bin,1.0.1,nrf51-a,feature,,",
            "absent.bin,1.0.2,nrf51-a,feature,,",
            "old/App-1.1.0.bin,1.1.9,nrf51-a,feature,,",
            "old/App-1.1.1.bin,1.1.1,stm32,feature,,",
            "old/App-2.0.0.bin,2.0.0,nrf51-a,urgent,,",
            "old/App-2.0.0.bin,2.0.0,,feature,,",
            "old/App-2.0.0.bin,2.0.0,nrf51-a,feature,7,",
            "old/App-2.0.0.bin,2.0.0,nrf51-a,feature,2,",
            "bare.bin,3.0.0,nrf51-a,feature,,",
            "low.bin,3.1.0,nrf51-a,feature,,",
            "high.bin,3.2.0,nrf51-a,feature,,",
            f"old/App-1.1.0.bin,1.1.0,nrf51-a,feature,,{'x' * 2000}",
        ],
        header,
    )
    found = refused_lines(repository, folder, table)
    words = {
        3: "image",
        4: "no such file",
        5: "1.1.9, as in the table",
        6: "some of: nrf51-a, nrf52-b",
        7: "security or feature",
        8: "got none",
        9: "7, as in the table",
        11: "security counter",
        12: "at least 2",
        13: "at most 100",
        14: "withdrawn",
    }
    assert sorted(found) == sorted(words)
    for line, text in words.items():
        assert text in found[line], (line, found[line])


def test_cells_that_make_no_sense_are_all_named_by_line(tmp_path: Path) -> None:
    repository, folder = started(tmp_path / "repo"), folder_of(tmp_path)
    table = table_of(
        [
            "../app.bin,1.0.0,",
            "/etc/app.bin,1.0.0,",
            r"old\app.bin,1.0.0,",
            ",1.0.0,",
            "a.bin,1.0,",
            "a.bin,01.0.0,",
            "a.bin,1.0.0",
            "a.bin,1.0.0,x,y",
            "a\x1b[2J.bin,1.0.0,",
            '"a\nb",1.0.0,x',
        ]
    )
    assert sorted(refused_lines(repository, folder, table)) == [2, 3, 4, 5, 6, 7, 8, 9, 10, 12]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (b"", "file among them"),
        (b"file\na\n", "version among them"),
        (b"file,version,counter\n", "'counter'"),
        (b"file,version,file\n", "'file' twice"),
        (b"File,version\n", "'File'"),
        (b"file;version\n", "column"),
        (b"file,version\n", "1 to 4096 releases"),
        (b"file,version\na,1.0.0\nb\xff,1.0.0\n", "line 3: expected UTF-8"),
        ("file,version\n".encode("utf-16"), "line 1: expected UTF-8"),
        (b'file,version\n"a"b,1.0.0\n', "line 2: expected CSV"),
        (b'file,version\n"a,1.0.0\n', "CSV"),
        (b"file,version\n" + b"a,1.0.0\n" * 4097, "1 to 4096"),
        (b"x" * (MAX_TABLE + 1), "at most"),
    ],
)
def test_a_table_that_cannot_be_read(table: bytes, words: str) -> None:
    with pytest.raises(TableRefused, match=words):
        read_table(table)


def test_the_columns_are_those_of_the_page() -> None:
    page = (Path(__file__).parents[2] / "signer/README.md").read_text(encoding="utf-8")
    assert all(f"`{column}`" in page for column in COLUMNS)


def test_the_same_import_again_adds_nothing_and_keeps_signatures(tmp_path: Path) -> None:
    repository, folder = started(tmp_path / "repo"), folder_of(tmp_path)
    import_releases(repository, "pump", folder, table_of(rows_of()), NOW)
    sign_all(repository, "release-1")
    before = tree(repository.folder.path)
    done = import_releases(repository, "pump", folder, table_of(rows_of()), NOW + 5)
    assert (done.added, done.kept, done.version) == ((), 4, 2)
    assert tree(repository.folder.path) == before


def test_a_row_that_is_listed_already_must_not_say_something_else(tmp_path: Path) -> None:
    repository, folder = started(tmp_path / "repo"), folder_of(tmp_path)
    import_releases(repository, "pump", folder, table_of(rows_of()), NOW)
    changed = table_of([f"{rows_of()[0]},burns batteries"], "file,version,hardware,withdrawn")
    assert "as the line lists it" in refused_lines(repository, folder, changed)[2]
    (folder / "old/App-1.0.0.bin").write_bytes(image("1.0.0", seed=9))
    assert "another file" in refused_lines(repository, folder, table_of(rows_of()[:1]))[2]


def test_a_dry_run_checks_and_writes_nothing(tmp_path: Path) -> None:
    repository, folder = started(tmp_path / "repo"), folder_of(tmp_path)
    before = tree(repository.folder.path)
    done = import_releases(repository, "pump", folder, table_of(rows_of()), NOW, dry_run=True)
    assert len(done.added) == 4
    assert tree(repository.folder.path) == before


def test_an_unknown_product(tmp_path: Path) -> None:
    repository, folder = started(tmp_path / "repo"), folder_of(tmp_path)
    with pytest.raises(ProductRefused):
        import_releases(repository, "valve", folder, table_of(rows_of()), NOW)


def test_an_interrupted_import_goes_on_without_copying_again(tmp_path: Path) -> None:
    repository, folder = started(tmp_path / "repo"), folder_of(tmp_path)

    class Stopped(BaseException):
        pass

    def stop(step: str, done: int, total: int) -> None:
        if (step, done) == ("copied", 2):
            raise Stopped

    with pytest.raises(Stopped):
        import_releases(repository, "pump", folder, table_of(rows_of()), NOW, report=stop)
    assert "pump" not in repository.state().drafts
    there = {
        path: path.stat().st_mtime_ns
        for path in map(repository.folder.staged.joinpath, list_folder(repository.folder.staged))
    }
    assert len(there) == 2
    torn = next(iter(there))
    torn.write_bytes(torn.read_bytes()[:100])
    done = import_releases(repository, "pump", folder, table_of(rows_of()), NOW)
    assert len(done.added) == 4
    assert [path.stat().st_mtime_ns for path in there if path != torn] == [
        there[path] for path in there if path != torn
    ]
    sign_all(repository, "release-1", "release-2")
    repository.publish(online(), NOW)
    assert len(verify_tree(repository.folder.path, NOW).targets) == 4


def test_a_file_that_changes_between_check_and_copy_is_refused(tmp_path: Path) -> None:
    repository, folder = started(tmp_path / "repo"), folder_of(tmp_path)

    def change(step: str, done: int, total: int) -> None:
        if (step, done) == ("checked", total):
            (folder / "old/App-2.0.0.bin").write_bytes(image("2.0.0", counter=2, seed=7))

    with pytest.raises(ImportRefused, match=r"line 5: .*as a moment ago"):
        import_releases(repository, "pump", folder, table_of(rows_of()), NOW, report=change)
    assert "pump" not in repository.state().drafts
    assert not [name for name in tree(repository.folder.path) if name.endswith(".tmp")]


def test_a_full_disk_leaves_no_draft_and_the_import_can_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, folder = started(tmp_path / "repo"), folder_of(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(StorageError, match="No space left"):
            import_releases(repository, "pump", folder, table_of(rows_of()), NOW)
    assert "pump" not in repository.state().drafts
    assert len(import_releases(repository, "pump", folder, table_of(rows_of()), NOW).added) == 4


def test_more_than_a_line_holds_is_refused_before_anything_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, folder = started(tmp_path / "repo"), folder_of(tmp_path)
    before = tree(repository.folder.path)
    monkeypatch.setattr("hillhold_signer.importing.ROOM", 512 * 1024 - 900)
    with pytest.raises(ReleaseRefused, match="role of pump: expected at most 900 bytes") as refused:
        import_releases(repository, "pump", folder, table_of(rows_of()), NOW)
    assert refused.value.hint
    assert "releases" in refused.value.hint
    assert tree(repository.folder.path) == before


@pytest.mark.slow
def test_the_short_check_agrees_with_the_whole_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several places, counters that step and fall back: what `plan` says of all entries, it says of those that decide."""
    repository = started(tmp_path / "repo")
    folder = tmp_path / "builds"
    folder.mkdir()
    rows = []
    for number in range(40):
        version, counter = f"1.{number // 4}.{number % 4}", 1 + (number * 7) % 11 // 3
        (folder / f"{number}.bin").write_bytes(image(version, counter=counter, seed=number))
        hardware = (HARDWARE[0], HARDWARE[1], " ".join(HARDWARE))[number % 3]
        rows.append(f"{number}.bin,{version},{hardware},{('app', 'radio')[number % 5 == 0]}")
    header = "file,version,hardware,component"
    refused = refused_lines(repository, folder, table_of(rows, header))
    line = repository.state().line("pump")
    caps_table = read_table(table_of(rows, header))
    expected = {}
    caps = caps_of(repository.state().targets(), "pump")
    for row in caps_table:
        try:
            entry = plan("pump", caps, line, (folder / row.file).read_bytes(), row.wish)
            line.targets[entry.path] = entry
        except ReleaseRefused as error:
            expected[row.line] = str(error)
    assert refused == expected
    assert 5 < len(expected) < 35


def run(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hillhold_signer.cli", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_command_shows_errors_by_line_and_results_as_json(tmp_path: Path) -> None:
    repository, folder = started(tmp_path / "repo"), folder_of(tmp_path)
    table = tmp_path / "releases.csv"
    table.write_bytes(table_of([*rows_of(), "absent.bin,9.0.0,"]))
    failed = run("import", repository.folder.path, "pump", folder, "--csv", table)
    assert failed.returncode == 1
    lines = failed.stderr.splitlines()
    assert lines[0].startswith("releases.csv:6: cannot read")
    assert lines[1].startswith("error: 1 rows of the table are refused")
    assert lines[2].startswith("hint: nothing was written")
    failed = run("import", repository.folder.path, "pump", folder, "--csv", table, "--json")
    assert failed.returncode == 1
    assert [row["line"] for row in json.loads(failed.stdout)["rows"]] == [6]
    table.write_bytes(table_of(rows_of()))
    done = run("import", repository.folder.path, "pump", folder, "--csv", table, "--json", "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert "pump" not in repository.state().drafts
    done = run("import", repository.folder.path, "pump", folder, "--csv", table, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(json.loads(done.stdout)["added"]) == 4
    again = run("import", repository.folder.path, "pump", folder, "--csv", table)
    assert "added 0 releases of pump; 4 were there already" in again.stdout
