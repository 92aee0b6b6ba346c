"""Large repositories: what is read and verified, what is left alone, and that nothing is lost on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Targets

from hillhold_signer import (
    Caps,
    Product,
    Repository,
    Wish,
    add_product,
    add_release,
    verify_tree,
)
from hillhold_signer.chain import load_chain, verify_roots
from hillhold_signer.errors import ContentRefused, DamagedRefused, RepositoryRefused, SignerRefused, StorageError
from hillhold_signer.patching import NO_PATCHES
from hillhold_signer.state import published_files
from hillhold_signer.storage import list_folder, place_file
from large import large_repository, line_name, line_team
from workshop import HARDWARE, NOW, image, online, pump, release, sign_all, started, team, tree


def publish_one(repository: Repository, number: int, version: str = "2.0.0") -> None:
    add_release(repository, line_name(number), image(version, counter=2), Wish("app.bin"), NOW, patch_from=NO_PATCHES)
    for signer in line_team(number):
        repository.sign(signer)
    repository.publish(online(), NOW + 1)


def read_names(repository: Repository) -> list[str]:
    """The metadata files that are read to know what is published."""
    names: list[str] = []

    def files(name: str) -> bytes | None:
        names.append(name)
        return published_files(repository.layout, name)

    roots = verify_roots(files)
    assert roots
    chain = load_chain(files, roots[0].root, roots[1])
    assert len(chain.lines) == len(list(chain.lines))
    assert line_name(3) in chain.lines
    top = list(names)
    names.clear()
    assert chain.lines[line_name(3)] is chain.lines[line_name(3)]
    assert names == [f"1.{line_name(3)}.json"]
    return top


def test_a_line_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    names = {count: read_names(large_repository(tmp_path / str(count), count, 2)) for count in (5, 50)}
    assert names[5] == names[50]
    assert set(names[5]) == {"1.root.json", "2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"}


def test_a_release_changes_its_own_entry_of_the_snapshot_and_no_other(tmp_path: Path) -> None:
    repository = large_repository(tmp_path / "repo", 60, 3)
    before = json.loads(repository.folder.metadata("1.snapshot.json").read_bytes())["signed"]["meta"]
    publish_one(repository, 7)
    after = json.loads(repository.folder.metadata("2.snapshot.json").read_bytes())["signed"]["meta"]
    data = repository.folder.metadata(f"2.{line_name(7)}.json").read_bytes()
    expected = {"hashes": {"sha256": sha256(data).hexdigest()}, "version": 2}
    assert after == {**before, f"{line_name(7)}.json": expected}
    assert set(repository.state().line(line_name(7)).targets) >= {f"{line_name(7)}/2.0.0/app.bin"}


def test_a_line_that_something_else_changed_stops_its_own_releases_and_no_others(tmp_path: Path) -> None:
    """What `publish` does not look at, `verify`, `refresh` and every client refuse; its entry in snapshot stays what was signed."""
    repository = large_repository(tmp_path / "repo", 5, 1)
    file = repository.folder.metadata(f"1.{line_name(3)}.json")
    file.write_bytes(file.read_bytes().replace(b'"length":100000', b'"length":100001'))
    publish_one(repository, 2)
    with pytest.raises(DamagedRefused, match=r"line-0003.*does not match|does not verify"):
        add_release(repository, line_name(3), image("2.0.0", counter=2), Wish("app.bin"), NOW, patch_from=NO_PATCHES)
    before = tree(repository.folder.path)
    with pytest.raises(DamagedRefused, match="line-0003"):
        repository.refresh(online(), NOW + 2)
    with pytest.raises(SignerRefused, match="line-0003"):
        verify_tree(repository.folder.path, NOW)
    file.unlink()
    with pytest.raises(DamagedRefused, match="got none"):
        repository.refresh(online(), NOW + 2)
    assert tree(repository.folder.path) == {k: v for k, v in before.items() if not k.endswith(file.name)}


@pytest.mark.parametrize("name", ["timestamp.json", "1.snapshot.json", "1.targets.json", "1.root.json"])
def test_a_changed_file_of_the_chain_stops_everything(tmp_path: Path, name: str) -> None:
    repository = large_repository(tmp_path / "repo", 3, 1)
    file = repository.folder.metadata(name)
    file.write_bytes(file.read_bytes().replace(b'"expires":"20', b'"expires":"21'))
    with pytest.raises(RepositoryRefused, match="does not verify"):
        repository.state()


def test_a_chain_that_was_verified_is_not_taken_for_another(tmp_path: Path) -> None:
    one = large_repository(tmp_path / "repo", 3, 1)
    first, second = one.state().chain, one.state().chain
    assert first
    assert second
    assert first.timestamp is second.timestamp
    publish_one(Repository(one.folder.path), 1)
    assert one.state().line(line_name(1)).version == 2


def test_new_keys_of_a_line_are_not_published_without_a_line_that_they_sign(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    release(repository, image("1.0.0"))
    other = CryptoSigner.generate_ed25519().public_key
    with repository.edit(NOW) as edit:
        targets = edit.targets()
        assert targets.delegations
        assert targets.delegations.roles
        targets.delegations.keys[other.keyid] = other
        targets.delegations.roles["pump"].keyids = [other.keyid]
        targets.delegations.roles["pump"].threshold = 1
        edit.save("targets", targets)
    sign_all(repository, "targets-1", "targets-2")
    before = tree(repository.folder.public)
    with pytest.raises(RepositoryRefused, match="would not verify: pump"):
        repository.publish(online(), NOW + 1)
    assert tree(repository.folder.public) == before


def test_what_no_device_would_read_is_not_published(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    with repository.edit(NOW) as edit:
        line = edit.line("pump")
        line.unrecognized_fields["x-hillhold-offline-grace"] = -1
        edit.save("pump", line)
    sign_all(repository, "release-1", "release-2")
    with pytest.raises(RepositoryRefused, match=r"2\.pump\.json"):
        repository.publish(online(), NOW + 1)


def test_a_role_that_is_too_large_is_refused_with_what_to_do(tmp_path: Path) -> None:
    repository = large_repository(tmp_path / "repo", 1, 1)
    with repository.edit(NOW) as edit:
        line = edit.line(line_name(0))
        entry = next(iter(line.targets.values()))
        many = {f"{line_name(0)}/1.{n}.0/app.bin": entry for n in range(3000)}
        with pytest.raises(ContentRefused) as refused:
            edit.save(line_name(0), Targets(2, None, line.expires, many))
    assert "at most 524288 bytes" in str(refused.value)
    assert refused.value.hint
    assert "drop old releases" in refused.value.hint


PUBLISHER = """
import sys
from pathlib import Path
from hillhold_signer import Repository, Wish, add_release, example_signer
from hillhold_signer.errors import LockedError
from hillhold_signer.patching import NO_PATCHES
from workshop import NOW, image, online
path, line, signer, first = Path(sys.argv[1]), sys.argv[2], example_signer(sys.argv[3]), int(sys.argv[4])
def until_free(act):
    while True:
        try:
            return act()
        except LockedError:
            pass
for number in range(4):
    data = image(f"{first}.{number}.0")
    until_free(lambda: add_release(Repository(path), line, data, Wish("app.bin"), NOW, patch_from=NO_PATCHES))
    until_free(lambda: Repository(path).sign(signer, role=line))
    until_free(lambda: Repository(path).publish(online(), NOW + number, roles=[line]))
"""


@pytest.mark.slow
def test_two_publishers_at_once_lose_no_release(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    for name, key in (("valve", "release-1"), ("clock", "release-2")):
        add_product(repository, Product(name, team(key, threshold=1), Caps(("stm32",))), NOW)
    sign_all(repository, "targets-1", "targets-2", "release-1", "release-2")
    repository.publish(online(), NOW)
    arguments = ((("valve", "release-1"), 1), (("clock", "release-2"), 2))
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PUBLISHER, str(repository.folder.path), *which, str(first)],
            env={"PYTHONPATH": ":".join(sys.path), "PATH": ""},
            stderr=subprocess.PIPE,
        )
        for which, first in arguments
    ]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    seen = verify_tree(repository.folder.path, NOW + 3)
    assert len(seen.targets) == 8
    assert (seen.versions["valve"], seen.versions["clock"]) == (5, 5)
    assert seen.versions["snapshot"] == seen.versions["timestamp"] == 10


def test_a_file_system_without_second_names_gets_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "source", tmp_path / "below" / "target"
    source.write_bytes(b"bytes")
    place_file(source, target)
    assert target.samefile(source)
    place_file(source, target)
    assert [path.name for path in target.parent.iterdir()] == ["target"]

    def refuse(*paths: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    target.unlink()
    place_file(source, target)
    assert not target.samefile(source)
    assert target.read_bytes() == b"bytes"
    with pytest.raises(StorageError):
        place_file(tmp_path / "absent", target)
    assert target.read_bytes() == b"bytes"


def test_what_is_published_does_not_change_with_the_folder_that_it_came_from(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    add_release(repository, "pump", image("1.0.0"), Wish("app.bin", hardware=HARDWARE), NOW)
    sign_all(repository, "release-1", "release-2")
    repository.publish(online(), NOW)
    (file,) = (repository.folder.public / "targets/pump/1.0.0").iterdir()
    assert file.stat().st_nlink == 1
    assert not list_folder(repository.folder.staged)


def test_a_damaged_draft_is_named_when_it_is_read(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    add_product(repository, Product("valve", team("release-1", threshold=1), Caps(("stm32",))), NOW)
    (file,) = (repository.folder.drafts / "valve").glob("*.json")
    for data in (b"", b"[]", b'{"signed":{"version":"1"}}', b'{"signed":{"version":1}}'):
        file.unlink()
        file = file.with_name(f"{sha256(data).hexdigest()}.json")
        file.write_bytes(data)
        with pytest.raises(RepositoryRefused, match="drafts/valve/"):
            _ = repository.state().drafts["valve"]
    assert pump().name in repository.state().products()
