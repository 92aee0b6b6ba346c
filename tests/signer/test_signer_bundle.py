"""`hillhold bundle`: what goes in, the same bytes each time, and nothing left behind where it fails."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hillhold_signer import Caps, Product, Repository, Wish, add_product
from hillhold_signer.bundle import write_bundle
from hillhold_signer.cli import main
from hillhold_signer.cli.terminal import Edge
from hillhold_signer.errors import FileRefused, ProductRefused, RepositoryRefused, StorageError, VerifyRefused
from hillhold_signer.patching import DEFAULT
from hillhold_verifier.bundle import BundleSource
from hillhold_verifier.metadata import parse_root
from hillhold_verifier.select import Device
from hillhold_verifier.session import UpdateSession
from hillhold_verifier.trust import Trust
from offers import bundle as zipped
from workshop import HARDWARE, NOW, image, online, release, sign_all, started, team, tree

A, B = HARDWARE


def hillhold(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], obj=Edge(lambda: NOW))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Releases 1.0.0 and 1.1.0 with a patch for one hardware, 1.2.0 for the other; a second line, empty."""
    repository = started(tmp_path_factory.mktemp("made") / "repo")
    release(repository, image("1.0.0"))
    release(repository, image("1.1.0", edits=20), patch_from=DEFAULT)
    release(repository, image("1.2.0", seed=2), wish=Wish("app.bin", hardware=(B,)))
    fan = Product("fan", team("release-1", threshold=1), Caps((A,), 5))
    add_product(repository, fan, NOW)
    sign_all(repository, "targets-1", "targets-2", "release-1")
    repository.publish(online(), NOW)
    return repository


@pytest.fixture
def repo(made: Repository, tmp_path: Path) -> Repository:
    shutil.copytree(made.folder.path, tmp_path / "repo")
    return Repository(tmp_path / "repo")


def names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return archive.namelist()


def test_a_bundle_of_a_line_is_what_its_devices_need(repo: Repository, tmp_path: Path) -> None:
    out = tmp_path / "pump.hillhold"
    done = write_bundle(repo.folder.path, ["pump"], out)
    public = tree(repo.folder.public)
    current = {"1.root.json", "timestamp.json", "5.snapshot.json", "2.targets.json", "4.pump.json"}
    wanted = {name: data for name, data in public.items() if name.startswith("targets/") or name[9:] in current}
    assert len(wanted) == len(current) + 4
    assert out.read_bytes() == zipped(wanted)
    assert done.files == {name: len(data) for name, data in sorted(wanted.items())}
    assert done.size == out.stat().st_size


def test_the_same_repository_makes_the_same_bytes(repo: Repository, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    write_bundle(repo.folder.path, ["pump", "fan"], one)
    shutil.copytree(repo.folder.public, tmp_path / "mirror")
    write_bundle(tmp_path / "mirror", ["fan", "pump", "fan"], two)
    assert one.read_bytes() == two.read_bytes()
    assert "metadata/1.fan.json" in names(one)


def test_only_what_some_hardware_runs(repo: Repository, tmp_path: Path) -> None:
    out = tmp_path / "x.hillhold"
    write_bundle(repo.folder.path, ["pump"], out, hardware=[B])
    assert [name.split("/")[2] for name in names(out) if name.startswith("targets/")] == ["1.2.0"]
    write_bundle(repo.folder.path, ["pump"], out, hardware=[A])
    targets = [name.split("/")[2] for name in names(out) if name.startswith("targets/")]
    assert targets == ["1.0.0", "1.1.0", "1.1.0"]
    assert names(out)[-1].endswith(".patch") or names(out)[-2].endswith(".patch")
    write_bundle(repo.folder.path, ["pump"], out, hardware=[A, B])
    assert len([name for name in names(out) if name.startswith("targets/")]) == 4
    with pytest.raises(ProductRefused, match="expected releases for other, got none"):
        write_bundle(repo.folder.path, ["pump"], out, hardware=["other"])


def test_a_device_of_any_age_finds_all_roots_in_it(repo: Repository, tmp_path: Path) -> None:
    out = tmp_path / "x.hillhold"
    write_bundle(repo.folder.path, ["pump"], out, hardware=[A])
    source = BundleSource(out)
    root = source.metadata("1.root.json")
    assert root is not None
    session = UpdateSession(Trust(parse_root(root)), Device("pump", A, "serial-1"), clock=NOW)
    while need := session.need:
        data = source.metadata(need.file_name)
        if data is None:
            session.absent()
        else:
            session.receive(data)
    (chosen,) = session.select(confirmed={}, counters={}).require()
    with source.target(chosen.path, chosen.sha256) as content:
        assert content.read(0, 10**6) == image("1.1.0", edits=20)


def test_what_is_not_published_is_refused(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    for name in ("repo/public/metadata/timestamp.json",):
        (tmp_path / name).unlink()
    result = hillhold("bundle", tmp_path / "repo", "pump", "-o", tmp_path / "x")
    assert result.exit_code == 1
    assert "expected a published repository, got no timestamp" in result.stderr
    assert "hint: publish it first" in result.stderr
    shutil.rmtree(repository.folder.public)
    with pytest.raises(RepositoryRefused, match="expected a published repository"):
        write_bundle(tmp_path / "repo", ["pump"], tmp_path / "x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(VerifyRefused, match="expected a repository"):
        write_bundle(tmp_path / "empty", ["pump"], tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["other", "targets", "", "../pump"])
def test_a_line_that_there_is_not(repo: Repository, tmp_path: Path, name: str) -> None:
    with pytest.raises(ProductRefused, match="expected a published one: pump, fan"):
        write_bundle(repo.folder.path, [name], tmp_path / "x")


@pytest.mark.parametrize("what", ["changed", "longer", "shorter", "missing"])
def test_a_target_that_is_not_what_was_signed_leaves_the_file_as_it_was(
    repo: Repository, tmp_path: Path, what: str
) -> None:
    out = tmp_path / "out/x.hillhold"
    write_bundle(repo.folder.path, ["pump"], out)
    before = out.read_bytes()
    (file,) = repo.folder.public.glob("targets/pump/1.2.0/*")
    data = file.read_bytes()
    file.write_bytes({"changed": b"\0" + data[1:], "longer": data + b"\0", "shorter": data[:-1]}.get(what, b""))
    if what == "missing":
        file.unlink()
    with pytest.raises(VerifyRefused, match=r"targets/pump/1\.2\.0/.*: expected"):
        write_bundle(repo.folder.path, ["pump"], out)
    assert out.read_bytes() == before
    assert [item.name for item in out.parent.iterdir()] == ["x.hillhold"]


def test_metadata_that_do_not_verify_are_refused(repo: Repository, tmp_path: Path) -> None:
    file = repo.folder.metadata("4.pump.json")
    file.write_bytes(file.read_bytes().replace(b'"version":4', b'"version":5'))
    with pytest.raises(VerifyRefused, match="pump metadata"):
        write_bundle(repo.folder.path, ["pump"], tmp_path / "x")


def test_a_place_that_cannot_be_written(repo: Repository, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "folder", tmp_path / "file/x"):
        with pytest.raises(StorageError, match="cannot write"):
            write_bundle(repo.folder.path, ["pump"], place)
    (target,) = repo.folder.public.glob("targets/pump/1.2.0/*")
    target.unlink()
    target.mkdir()
    with pytest.raises(StorageError, match=f"cannot read {target}: Is a directory"):
        write_bundle(repo.folder.path, ["pump"], tmp_path / "x")
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_link_where_the_temporary_file_goes_is_not_followed(repo: Repository, tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"mine")
    (tmp_path / ".x.hillhold.tmp").symlink_to(tmp_path / "victim")
    write_bundle(repo.folder.path, ["pump"], tmp_path / "x.hillhold")
    assert (tmp_path / "victim").read_bytes() == b"mine"
    assert not (tmp_path / "x.hillhold").is_symlink()


def test_more_than_a_bundle_holds(repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hillhold_signer.bundle.MAX_ENTRIES", 8)
    with pytest.raises(FileRefused, match="at most 8 files, got 9"):
        write_bundle(repo.folder.path, ["pump"], tmp_path / "x")
    monkeypatch.undo()
    for size in (5000, 20_000):
        monkeypatch.setattr("hillhold_signer.bundle.MAX_SIZE", size)
        with pytest.raises(FileRefused, match=f"at most {size} bytes"):
            write_bundle(repo.folder.path, ["pump"], tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_the_command_says_what_went_in(repo: Repository, tmp_path: Path) -> None:
    out = tmp_path / "pump.hillhold"
    text = hillhold("bundle", repo.folder.path, "pump", "-o", out)
    assert text.exit_code == 0
    assert text.output.endswith(
        f"wrote {out}: 9 files, {out.stat().st_size} bytes; current until 2026-01-02T00:00:00Z\n"
    )
    value = json.loads(hillhold("bundle", repo.folder.path, "pump", "--hardware", B, "-o", out, "--json").stdout)
    assert (value["bundle"], value["size"], value["until"]) == (str(out), out.stat().st_size, "2026-01-02T00:00:00Z")
    assert [item["name"] for item in value["files"]] == names(out)
    assert hillhold("bundle", repo.folder.path, "-o", out).exit_code == 2
    assert hillhold("bundle", repo.folder.path, "pump").exit_code == 2
