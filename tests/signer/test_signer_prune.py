"""What no client needs any more goes, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command import hillhold
from hillhold_signer import Repository, Wish, add_release, verify_tree
from hillhold_signer.adding import add_releases
from hillhold_signer.documents import Document
from hillhold_signer.errors import ProductRefused, ReleaseRefused, RepositoryRefused
from hillhold_signer.patching import DEFAULT, NO_PATCHES
from hillhold_signer.prune import prune_files, prune_releases
from hillhold_signer.withdrawing import withdraw
from hillhold_verifier.release import Version
from workshop import HARDWARE, NOW, ceremony, image, online, release, sign_all, started, tree


def published(path: Path) -> Repository:
    """Five releases, one after another; snapshots 1 to 6."""
    repository = started(path)
    for number in range(5):
        release(repository, image(f"1.{number}.0", edits=number), patch_from=DEFAULT)
    return repository


def names(repository: Repository, folder: str) -> set[str]:
    return {name.rpartition("/")[2] for name in tree(repository.folder.public / folder)}


@pytest.mark.slow
def test_files_stay_that_the_last_snapshots_lead_to(tmp_path: Path) -> None:
    repository = published(tmp_path / "repo")
    before = verify_tree(repository.folder.path, NOW)
    done = prune_files(repository, NOW, dry_run=True)
    assert names(repository, "metadata") >= {"1.snapshot.json", "2.pump.json"}
    assert prune_files(repository, NOW) == done
    assert names(repository, "metadata") == {
        *("1.root.json", "1.targets.json", "timestamp.json", "4.snapshot.json", "5.snapshot.json", "6.snapshot.json"),
        *("1.pump.json", "4.pump.json", "5.pump.json", "6.pump.json"),
    }
    assert verify_tree(repository.folder.path, NOW) == before
    assert prune_files(repository, NOW).files == ()
    release(repository, image("1.5.0", edits=5))


@pytest.mark.slow
def test_a_line_without_its_oldest_releases_is_signed_and_then_their_files_go(tmp_path: Path) -> None:
    repository = published(tmp_path / "repo")
    gone = prune_releases(repository, "pump", 2, NOW)
    whole = [path for path in gone if not path.endswith(".patch")]
    assert {path.split("/")[1] for path in whole} == {"1.0.0", "1.1.0", "1.2.0"}
    sign_all(repository, "release-1", "release-2")
    repository.publish(online(), NOW)
    seen = verify_tree(repository.folder.path, NOW)
    assert {path.split("/")[1] for path in seen.targets} == {"1.3.0", "1.4.0"}
    assert any(
        path.endswith(".patch") for path in seen.targets
    )  # also from what is not listed any more: devices run it
    assert not [path for path in prune_files(repository, NOW).files if "targets/pump" in path]
    for edits in (5, 6):  # until no snapshot that stays names them
        release(repository, image(f"1.{edits}.0", edits=edits))
    went = prune_files(repository, NOW).files
    assert any("/pump/1.0.0/" in path for path in went)
    assert dict(verify_tree(repository.folder.path, NOW).versions)["pump"] == 9


def test_each_component_and_hardware_keeps_its_newest(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    for version, wish in (
        ("1.0.0", Wish("app.bin", hardware=HARDWARE[:1])),
        ("2.0.0", Wish("app.bin", hardware=HARDWARE[1:])),
        ("3.0.0", Wish("app.bin", hardware=HARDWARE[1:])),
        ("1.0.0", Wish("radio.bin", hardware=HARDWARE, component="radio")),
    ):
        add_release(repository, "pump", image(version), wish, NOW, patch_from=NO_PATCHES)
    assert prune_releases(repository, "pump", 1, NOW) == ["pump/2.0.0/app.bin"]
    assert prune_releases(repository, "pump", 1, NOW) == []


@pytest.mark.slow
def test_a_way_down_stays_and_with_it_what_must_not_be_installed_again(tmp_path: Path) -> None:
    repository = published(tmp_path / "repo")
    lower = Wish("app.bin", hardware=HARDWARE[:1], downgrade_from=(Version.parse("1.4.0"),))
    release(repository, image("1.3.9", edits=9), wish=lower)
    prune_releases(repository, "pump", 1, NOW)
    stays = {path.split("/")[1] for path in repository.state().line("pump").targets if path.endswith("app.bin")}
    assert stays == {"1.3.9", "1.4.0"}


def test_what_came_with_a_release_stays_and_goes_with_it(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    for number in range(3):
        note = Document(f"news-{number}.txt", b"quieter" if number else b"new")
        wish = Wish("app.bin", hardware=HARDWARE, notes=note)
        add_releases(repository, "pump", [(image(f"1.{number}.0", seed=number), wish)], NOW, with_documents=True)
    assert prune_releases(repository, "pump", 2, NOW) == ["pump/1.0.0/app.bin", "pump/1.0.0/news-0.txt"]
    assert "pump/1.1.0/news-1.txt" in repository.state().line("pump").targets


@pytest.mark.slow
def test_what_is_withdrawn_is_never_forgotten(tmp_path: Path) -> None:
    repository = published(tmp_path / "repo")
    withdraw(repository, "pump", "1.0.0", "leaks", NOW)
    sign_all(repository, "release-1", "release-2")
    repository.publish(online(), NOW)
    gone = prune_releases(repository, "pump", 1, NOW)
    assert {path.split("/")[1] for path in gone} == {"1.1.0", "1.2.0", "1.3.0"}
    with repository.edit(NOW) as edit:
        line = edit.line("pump")
        del line.targets["pump/1.0.0/app.bin"]
        edit.save("pump", line)
    sign_all(repository, "release-1", "release-2")
    with pytest.raises(ReleaseRefused, match="could come back"):
        repository.publish(online(), NOW)


@pytest.mark.slow
def test_a_dry_run_and_a_refusal_change_nothing(tmp_path: Path) -> None:
    repository = published(tmp_path / "repo")
    before = tree(repository.folder.path)
    assert prune_releases(repository, "pump", 1, NOW, dry_run=True)
    assert prune_files(repository, NOW, dry_run=True).files
    with pytest.raises(ReleaseRefused):
        prune_releases(repository, "pump", 0, NOW)
    with pytest.raises(ProductRefused):
        prune_releases(repository, "drill", 1, NOW)
    assert tree(repository.folder.path) == before
    with pytest.raises(RepositoryRefused, match="none yet"):
        prune_files(Repository.create(tmp_path / "new", ceremony(), NOW, demo=True), NOW)


@pytest.mark.slow
def test_what_a_draft_needs_stays(tmp_path: Path) -> None:
    repository = published(tmp_path / "repo")
    add_release(repository, "pump", image("1.6.0", edits=6), Wish("app.bin", hardware=HARDWARE[:1]), NOW)
    prune_files(repository, NOW)
    sign_all(repository, "release-1", "release-2")
    repository.publish(online(), NOW)
    assert len([path for path in verify_tree(repository.folder.path, NOW).targets if path.endswith("app.bin")]) == 6


def test_the_command_says_what_went(tmp_path: Path) -> None:
    repository = published(tmp_path / "repo")
    path = repository.folder.path
    would = json.loads(hillhold("prune", path, "--dry-run", "--json").output)
    assert would["dry_run"]
    assert json.loads(hillhold("prune", path, "--json").output)["files"] == would["files"]
    assert "removed 0 files" in hillhold("prune", path).output
    assert "- pump/1.0.0/app.bin" in hillhold("prune", path, "pump", "--keep", "2").output
    assert hillhold("prune", path, "pump").exit_code == 2
    assert hillhold("prune", path, "--keep", "2").exit_code == 2
