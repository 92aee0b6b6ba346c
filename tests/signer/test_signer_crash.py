"""The process killed at every write: clients see the old repository or the new one, and the same command finishes the work."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from securesystemslib.signer import CryptoSigner

from hillhold_signer import (
    OnlineKey,
    OnlineSigners,
    Repository,
    Wish,
    add_product,
    add_release,
    example_signer,
    storage,
    verify_tree,
)
from hillhold_signer.adding import add_releases
from hillhold_signer.documents import Document
from hillhold_signer.errors import DamagedRefused, StorageError
from hillhold_signer.lines import set_caps
from hillhold_signer.making import Making
from hillhold_signer.roots import rotate
from hillhold_signer.storage import place_file, remove_file, write_file
from hillhold_signer.withdrawing import withdraw
from workshop import HARDWARE, NOW, ceremony, image, online, pump, release, sign_all, started, tree

When = Literal["before", "torn", "after"]


class Killed(BaseException):
    """Not an Exception: nothing in the program may catch it."""


class Power:
    """Counts the writes and removals of a repository, and cuts before, within or after one of them."""

    def __init__(self, cut: int | None = None, when: When = "before") -> None:
        self.cut, self.when, self.count = cut, when, 0

    def write(self, path: Path, data: bytes) -> None:
        self._step(lambda: write_file(path, data), lambda: self._torn(path, data))

    def place(self, source: Path, target: Path) -> None:
        self._step(lambda: place_file(source, target), lambda: self._torn(target, source.read_bytes()))

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
                ("place_file", place_file, power.place),
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
    set_caps(repository, "pump", NOW, hardware=lambda known: [*known, "nrf54-c"])
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


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "torn", "after"])
def test_a_cut_while_publishing_leaves_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: When
) -> None:
    total = writes_of_a_publication(monkeypatch, tmp_path)
    assert total >= 8  # image, patch, line, snapshot, timestamp; draft and signatures, staged files
    base = tmp_path / "base"
    old = dict(verify_tree(ready(base).folder.path, NOW).versions)
    expected = {**old, "pump": old["pump"] + 1, "snapshot": old["snapshot"] + 1, "timestamp": old["timestamp"] + 1}
    outcomes = set()
    for cut in range(total):
        repository = copy(base, tmp_path / f"{when}-{cut}")
        with powered(monkeypatch, Power(cut, when)), pytest.raises(Killed):
            repository.publish(online(), NOW, roles=("pump",))
        seen = dict(verify_tree(repository.folder.path, NOW).versions)
        assert seen in (old, expected), f"{when} write {cut}"
        outcomes.add("old" if seen == old else "new")
        assert repository.state().drafts["targets"].signatures, f"{when} write {cut}: a lost signature"
        if "pump" in repository.state().drafts:
            assert repository.state().quorum("pump").complete, f"{when} write {cut}: a lost signature"
            repository.publish(online(), NOW, roles=("pump",))
        final = verify_tree(repository.folder.path, NOW)
        assert dict(final.versions) == expected, f"{when} write {cut}"
        assert len(final.targets) == 3
    assert outcomes == {"old", "new"}


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "torn", "after"])
def test_a_cut_while_keys_are_replaced_leaves_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: When
) -> None:
    base, new = tmp_path / "base", (CryptoSigner.generate_ed25519(), CryptoSigner.generate_ed25519())
    ready(base)
    wanted = replace(
        ceremony(),
        snapshot=OnlineKey(new[0].public_key, "file:a.pem"),
        timestamp=OnlineKey(new[1].public_key, "file:b.pem"),
    )
    rotate(Repository(base), wanted, NOW)
    sign_all(Repository(base), "root-1", "root-2", "targets-2")
    old = dict(verify_tree(base, NOW).versions)
    outcomes: list[dict[str, int]] = []
    for cut in range(20):
        repository = copy(base, tmp_path / f"{when}-{cut}")
        with powered(monkeypatch, Power(cut, when)) as power, suppress(Killed):
            repository.publish(OnlineSigners(*new, former=online()), NOW)
        outcomes.append(dict(verify_tree(repository.folder.path, NOW).versions))
        if power.count <= cut:
            break
        if repository.state().drafts:
            assert all(repository.state().quorum(role).complete for role in repository.state().drafts)
            repository.publish(OnlineSigners(*new, former=online()), NOW)
        assert verify_tree(repository.folder.path, NOW).versions["root"] == 2
    assert outcomes[0] == old
    between = {**outcomes[-1], "root": 1}  # all is new but the root, under which it verifies as well
    assert all(found in (old, between, outcomes[-1]) for found in outcomes)
    assert between in outcomes


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
        done = repository.folder.metadata("timestamp.json").exists()
        assert done is (cut == 4 and when == "after")
        repository.publish(online(), NOW)
        assert verify_tree(repository.folder.path, NOW).versions["pump"] == 1
        assert not repository.state().drafts


@pytest.mark.slow
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
    line = started(tmp_path / "line").folder.path
    for cut in range(2):  # staged image, draft
        repository = copy(line, tmp_path / f"release-{cut}")
        with powered(monkeypatch, Power(cut, when)), pytest.raises(Killed):
            add_release(repository, "pump", image("1.0.0"), Wish("app.bin", hardware=HARDWARE), NOW)
        if "pump" not in repository.state().drafts:
            add_release(repository, "pump", image("1.0.0"), Wish("app.bin", hardware=HARDWARE), NOW)
        sign_all(repository, "release-1", "release-2")
        repository.publish(online(), NOW)
        assert verify_tree(repository.folder.path, NOW).targets


@pytest.fixture
def making(tmp_path: Path) -> Iterator[Making]:
    """Makes the same patches once."""
    with Making(tmp_path / "patches") as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "torn", "after"])
def test_a_cut_while_a_set_is_added_or_a_release_withdrawn_drafts_all_of_it_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, making: Making, when: When
) -> None:
    base = started(tmp_path / "base")
    for version, edits in (("1.0.0", 0), ("1.1.0", 20)):
        add_release(base, "pump", image(version, edits=edits), Wish("app.bin", hardware=HARDWARE), NOW)
    sign_all(base, "release-1", "release-2")
    base.publish(online(), NOW)
    add_release(base, "pump", image("1.2.0", edits=30), Wish("app.bin", hardware=HARDWARE), NOW)
    sign_all(base, "release-1")
    news = Document("news.txt", b"quieter")
    app = Wish("app.bin", hardware=HARDWARE, set="summer", notes=news)
    radio = Wish("radio.bin", hardware=HARDWARE, component="radio", set="summer", notes=news)

    def add(repository: Repository) -> None:
        items = [(image("2.0.0", edits=25), app), (image("2.0.0", 1, 7), radio)]
        add_releases(repository, "pump", items, NOW, with_documents=True, making=making)

    def take_back(repository: Repository) -> None:
        withdraw(repository, "pump", "1.1.0", "leaks", NOW)

    for act in (add, take_back):
        old = base.state().drafts["pump"]
        whole = copy(base.folder.path, tmp_path / f"{act.__name__}-whole")
        with powered(monkeypatch, Power()) as power:
            act(whole)
        new = whole.state().drafts["pump"].digest
        outcomes = set()
        for cut in range(power.count):
            repository = copy(base.folder.path, tmp_path / f"{act.__name__}-{cut}")
            with powered(monkeypatch, Power(cut, when)), pytest.raises(Killed):
                act(repository)
            found = repository.state().drafts["pump"]
            assert found.digest in (old.digest, new), f"{when} write {cut}"
            assert bool(found.signatures) is (found.digest == old.digest), f"{when} write {cut}"
            outcomes.add(found.digest)
            if found.digest == old.digest:
                act(repository)
            sign_all(repository, "release-1", "release-2")
            repository.publish(online(), NOW)
            assert set(verify_tree(repository.folder.path, NOW).targets) == set(new_targets(whole))
        assert new in outcomes or when != "after"


def new_targets(repository: Repository) -> list[str]:
    return list(repository.state().line("pump").targets)


def test_a_full_disk_is_an_operational_error_and_the_command_can_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = ready(tmp_path / "repo")
    old = verify_tree(repository.folder.path, NOW)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(StorageError, match="No space left on device") as failed:
            repository.publish(online(), NOW, roles=("pump",))
    assert failed.value.exit_code == 3
    assert failed.value.hint
    assert verify_tree(repository.folder.path, NOW) == old
    assert not [name for name in tree(repository.folder.path) if name.endswith(".tmp")]
    repository.publish(online(), NOW, roles=("pump",))
    assert verify_tree(repository.folder.path, NOW).versions["pump"] == old.versions["pump"] + 1


def test_a_signature_survives_a_cut_after_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = Repository.create(tmp_path / "repo", ceremony(), NOW, demo=True)
    with powered(monkeypatch, Power(0, "after")), pytest.raises(Killed):
        repository.sign(example_signer("root-1"))
    assert str(repository.state().quorum("root")) == "1 of 2"


def rotated(path: Path) -> Repository:
    """A repository with a complete draft of a root that replaces both online keys."""
    repository = started(path)
    release(repository, image("1.0.0"))
    with repository.edit(NOW) as edit:
        root = edit.root()
        for role in ("snapshot", "timestamp"):
            key = example_signer("intruder").public_key
            root.keys[key.keyid] = key
            del root.keys[root.roles[role].keyids[0]]
            root.roles[role].keyids = [key.keyid]
        edit.save("root", root)
    sign_all(repository, "root-1", "root-2")
    return repository


@pytest.mark.parametrize("when", ["before", "torn", "after"])
def test_a_cut_while_online_keys_are_replaced_is_finished_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: When
) -> None:
    base = rotated(tmp_path / "base").folder.path
    new = OnlineSigners(example_signer("intruder"), example_signer("intruder"))
    with powered(monkeypatch, Power()) as power:
        copy(base, tmp_path / "whole").publish(new, NOW + 1)
    assert power.count >= 6  # root, snapshot, timestamp; the draft and its signatures
    interrupted = 0
    for cut in range(power.count):
        repository = copy(base, tmp_path / f"{cut}")
        with powered(monkeypatch, Power(cut, when)), pytest.raises(Killed):
            repository.publish(new, NOW + 1)
        repository = Repository(repository.folder.path)
        interrupted += repository.state().interrupted
        if cut % 2 and repository.state().interrupted:
            repository.refresh(new, NOW + 2)
        repository.publish(new, NOW + 2)
        assert not repository.state().interrupted
        assert not repository.state().drafts
        seen = verify_tree(repository.folder.path, NOW + 2)
        assert {role: seen.versions[role] for role in ("root", "snapshot", "timestamp")} == {
            "root": 2,
            "snapshot": 3,
            "timestamp": 3,
        }
        assert len(seen.targets) == 1
    assert interrupted == 1  # between root and timestamp: the former keys are lost


def test_a_second_rotation_that_is_cut_as_the_first_one_was_is_finished_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new keys of the first one may be what was lost with the machine, so that another root has to follow."""
    repository = started(tmp_path / "repo")
    release(repository, image("1.0.0"))
    for _ in range(2):
        pair = CryptoSigner.generate_ed25519(), CryptoSigner.generate_ed25519()
        first, second = (OnlineKey(signer.public_key, "file:new.pem") for signer in pair)
        rotate(repository, replace(ceremony(), snapshot=first, timestamp=second), NOW)
        sign_all(repository, "root-1", "root-2")
        with powered(monkeypatch, Power(2)), pytest.raises(Killed):  # after snapshot and root
            repository.publish(OnlineSigners(*pair), NOW)
        repository = Repository(repository.folder.path)
        assert repository.state().interrupted
    assert repository.refresh(OnlineSigners(*pair), NOW + 1).roles == {"snapshot": 3, "timestamp": 3}
    assert not repository.state().interrupted
    assert verify_tree(repository.folder.path, NOW + 1).versions["root"] == 3


def test_after_an_interruption_old_keys_list_nothing_that_was_not_verified(tmp_path: Path) -> None:
    """Whoever has a replaced key by now could write a timestamp and snapshot of theirs; every line is verified then."""
    repository = rotated(tmp_path / "repo")
    new = OnlineSigners(example_signer("intruder"), example_signer("intruder"))
    old = {name: repository.folder.metadata(name).read_bytes() for name in ("timestamp.json", "2.snapshot.json")}
    repository.publish(new, NOW + 1)
    repository.folder.metadata("timestamp.json").write_bytes(old["timestamp.json"])
    repository = Repository(repository.folder.path)
    assert repository.state().interrupted
    line = repository.folder.metadata("2.pump.json")
    line.write_bytes(line.read_bytes().replace(b'"length":', b'"length":1'))
    with pytest.raises(DamagedRefused):
        repository.state()


@pytest.mark.slow
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
    copy(other.folder.path, base)  # what the two drafted comes together
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
        paths = verify_tree(repository.folder.path, NOW).targets
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
