"""The process killed at every write: clients see the old repository or the new one, and the same command finishes the work."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

from hillhold_signer import (
    Repository,
    Wish,
    add_hardware,
    add_product,
    add_release,
    example_signer,
    storage,
    verify_tree,
)
from hillhold_signer.errors import StorageError
from hillhold_signer.storage import remove_file, write_file
from workshop import HARDWARE, NOW, ceremony, image, online, pump, sign_all, started, tree

When = Literal["before", "torn", "after"]


class Killed(BaseException):
    """Not an Exception: nothing in the program may catch it."""


class Power:
    """Counts the writes and removals of a repository, and cuts before, within or after one of them."""

    def __init__(self, cut: int | None = None, when: When = "before") -> None:
        self.cut, self.when, self.count = cut, when, 0

    def write(self, path: Path, data: bytes) -> None:
        self._step(lambda: write_file(path, data), lambda: self._torn(path, data))

    def remove(self, path: Path) -> None:
        self._step(lambda: remove_file(path), lambda: None)

    def _torn(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f".{path.name}.tmp").write_bytes(data[: len(data) // 2])

    def _step(self, act, tear) -> None:  # type: ignore[no-untyped-def]
        hit = self.count == self.cut
        self.count += 1
        if hit and self.when == "before":
            raise Killed
        if hit and self.when == "torn":
            tear()
            raise Killed
        act()
        if hit:
            raise Killed


@contextmanager
def powered(monkeypatch: pytest.MonkeyPatch, power: Power) -> Iterator[Power]:
    with monkeypatch.context() as patch:
        for module in [found for name, found in sys.modules.items() if name.startswith("hillhold_signer.")]:
            for name, act, powered in (
                ("write_file", write_file, power.write),
                ("remove_file", remove_file, power.remove),
            ):
                if module is not storage and getattr(module, name, None) is act:
                    patch.setattr(module, name, powered)
        yield power


def ready(path: Path) -> Repository:
    """A published release, and a second one with a patch that waits for publication, beside a draft that must survive."""
    repository = started(path)
    wish = Wish("app.bin", hardware=HARDWARE)
    add_release(repository, "pump", image("1.0.0"), wish, NOW)
    sign_all(repository, "release-1", "release-2")
    repository.publish(online(), NOW)
    add_release(repository, "pump", image("1.1.0", edits=20), wish, NOW)
    add_hardware(repository, "pump", ["nrf54-c"], NOW)
    sign_all(repository, "release-1", "release-2", "targets-1")
    return repository


def copy(source: Path, target: Path) -> Repository:
    for name, data in tree(source).items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(data)
    return Repository(target)


def writes_of_a_publication(monkeypatch: pytest.MonkeyPatch, path: Path) -> int:
    with powered(monkeypatch, Power()) as power:
        ready(path / "count-base")
        before = power.count
        Repository(path / "count-base").publish(online(), NOW, roles=("pump",))
    return power.count - before


@pytest.mark.parametrize("when", ["before", "torn", "after"])
def test_a_cut_while_publishing_leaves_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: When
) -> None:
    total = writes_of_a_publication(monkeypatch, tmp_path)
    assert total >= 8  # image, patch, line, snapshot, timestamp; draft and signatures, staged files
    base = tmp_path / "base"
    old = dict(verify_tree(ready(base).layout.path, NOW).versions)
    expected = {**old, "pump": old["pump"] + 1, "snapshot": old["snapshot"] + 1, "timestamp": old["timestamp"] + 1}
    outcomes = set()
    for cut in range(total):
        repository = copy(base, tmp_path / f"{when}-{cut}")
        with powered(monkeypatch, Power(cut, when)), pytest.raises(Killed):
            repository.publish(online(), NOW, roles=("pump",))
        seen = dict(verify_tree(repository.layout.path, NOW).versions)
        assert seen in (old, expected), f"{when} write {cut}"
        outcomes.add("old" if seen == old else "new")
        assert repository.state().drafts["targets"].signatures, f"{when} write {cut}: a lost signature"
        if "pump" in repository.state().drafts:
            assert repository.state().quorum("pump").complete, f"{when} write {cut}: a lost signature"
            repository.publish(online(), NOW, roles=("pump",))
        final = verify_tree(repository.layout.path, NOW)
        assert dict(final.versions) == expected, f"{when} write {cut}"
        assert len(final.targets) == 3
    assert outcomes == {"old", "new"}


@pytest.mark.parametrize("when", ["before", "torn", "after"])
def test_a_cut_in_the_first_publication_leaves_nothing_or_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: When
) -> None:
    base = tmp_path / "base"
    first = Repository.create(base, ceremony(), NOW, demo=True)
    add_product(first, pump(), NOW)
    sign_all(first, "root-1", "root-2", "targets-1", "targets-2", "release-1", "release-2")
    for cut in range(5):  # root, targets, line, snapshot, timestamp
        repository = copy(base, tmp_path / f"{when}-{cut}")
        with powered(monkeypatch, Power(cut, when)), pytest.raises(Killed):
            repository.publish(online(), NOW)
        done = repository.layout.metadata("timestamp.json").exists()
        assert done is (cut == 4 and when == "after")
        repository.publish(online(), NOW)
        assert verify_tree(repository.layout.path, NOW).versions["pump"] == 1
        assert not repository.state().drafts


@pytest.mark.parametrize("when", ["before", "torn", "after"])
def test_a_cut_while_adding_a_product_or_release_lets_the_command_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: When
) -> None:
    base = tmp_path / "base"
    Repository.create(base, ceremony(), NOW, demo=True)
    for cut in range(4):  # two people, line, targets
        repository = copy(base, tmp_path / f"product-{cut}")
        with powered(monkeypatch, Power(cut, when)), pytest.raises(Killed):
            add_product(repository, pump(), NOW)
        state = repository.state()
        assert set(state.drafts) == {
            "root",
            "targets",
            *state.products(),
        }  # no draft of a line that nobody delegates to
        if "pump" not in state.products():
            add_product(repository, pump(), NOW)
        assert set(repository.state().drafts) == {"root", "targets", "pump"}
    line = started(tmp_path / "line").layout.path
    for cut in range(2):  # staged image, draft
        repository = copy(line, tmp_path / f"release-{cut}")
        with powered(monkeypatch, Power(cut, when)), pytest.raises(Killed):
            add_release(repository, "pump", image("1.0.0"), Wish("app.bin", hardware=HARDWARE), NOW)
        if "pump" not in repository.state().drafts:
            add_release(repository, "pump", image("1.0.0"), Wish("app.bin", hardware=HARDWARE), NOW)
        sign_all(repository, "release-1", "release-2")
        repository.publish(online(), NOW)
        assert verify_tree(repository.layout.path, NOW).targets


def test_a_full_disk_is_an_operational_error_and_the_command_can_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = ready(tmp_path / "repo")
    old = verify_tree(repository.layout.path, NOW)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(StorageError, match="No space left on device") as failed:
            repository.publish(online(), NOW, roles=("pump",))
    assert failed.value.exit_code == 3
    assert failed.value.hint
    assert verify_tree(repository.layout.path, NOW) == old
    assert not [name for name in tree(repository.layout.path) if name.endswith(".tmp")]
    repository.publish(online(), NOW, roles=("pump",))
    assert verify_tree(repository.layout.path, NOW).versions["pump"] == old.versions["pump"] + 1


def test_a_signature_survives_a_cut_after_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = Repository.create(tmp_path / "repo", ceremony(), NOW, demo=True)
    with powered(monkeypatch, Power(0, "after")), pytest.raises(Killed):
        repository.sign(example_signer("root-1"))
    assert str(repository.state().quorum("root")) == "1 of 2"


@pytest.mark.parametrize("when", ["before", "torn", "after"])
def test_a_cut_while_merged_drafts_are_written_down_loses_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: When
) -> None:
    base = tmp_path / "base"
    ready(base)
    other = copy(base, tmp_path / "other")
    add_release(other, "pump", image("1.2.0", edits=30), Wish("app.bin", hardware=HARDWARE), NOW)
    add_release(
        Repository(base), "pump", image("1.0.0", seed=2), Wish("r.bin", hardware=HARDWARE, component="radio"), NOW
    )
    copy(other.layout.path, base)  # what the two drafted comes together
    whole = Repository(base).state().drafts["pump"]
    assert whole.merged
    for cut in range(3):  # the merged draft, two signatures
        repository = copy(base, tmp_path / f"{when}-{cut}")
        with powered(monkeypatch, Power(cut, when)), pytest.raises(Killed):
            sign_all(repository, "release-1", "release-2")
        assert repository.state().drafts["pump"].digest == whole.digest, f"{when} write {cut}"
        assert repository.state().drafts["targets"].signatures
        sign_all(repository, "release-1", "release-2")
        repository.publish(online(), NOW, roles=("pump",))
        paths = verify_tree(repository.layout.path, NOW).targets
        assert {"pump/1.1.0/app.bin", "pump/1.2.0/app.bin", "pump/1.0.0/r.bin"} <= paths.keys()


@pytest.mark.parametrize("when", ["before", "torn", "after"])
def test_a_cut_while_a_draft_is_dropped_leaves_it_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: When
) -> None:
    repository = ready(tmp_path / "repo")
    draft = repository.state().drafts["pump"]
    with powered(monkeypatch, Power(0, when)), pytest.raises(Killed):
        repository.drop("pump", draft.digest)
    assert ("pump" in repository.state().drafts) is (when != "after")
    if when != "after":
        assert repository.state().quorum("pump").complete
        repository.drop("pump", draft.digest)
    assert "pump" not in repository.state().drafts
