"""Which draft counts where several lie side by side: nothing comes back, nothing is lost, nothing is guessed at."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Targets

from copies import RADIO, WISH, Folders, alike
from hillhold_signer import (
    NamedKey,
    Repository,
    Team,
    add_product,
    add_release,
    example_signer,
    verify_tree,
)
from hillhold_signer.drafts import Drafts, Node
from hillhold_signer.encoding import copied
from hillhold_signer.errors import MergeRefused, RepositoryRefused
from hillhold_signer.lineage import Lineage
from hillhold_signer.lines import set_caps
from hillhold_verifier import canonical
from workshop import NOW, image, online, pump, release, sign_all, started, tree


@pytest.mark.slow
def test_an_old_copy_brings_back_nothing(tmp_path: Path) -> None:
    shared = Folders(tmp_path)
    shutil.copytree(shared.ada.folder.path, tmp_path / "old")
    for version in ("1.1.0", "1.2.0", "1.3.0"):
        add_release(shared.ada, "pump", image(version, edits=5), WISH, NOW)
        shutil.copytree(shared.ada.folder.path, tmp_path / "old", dirs_exist_ok=True)
        sign_all(shared.ada, "release-1", "release-2")
        shared.ada.publish(online(), NOW)
    for folder in ("drafts", "staged"):
        shutil.copytree(tmp_path / "old" / folder, shared.ada.folder.path / folder, dirs_exist_ok=True)
    assert not shared.ada.state().drafts
    assert not shared.ada.state().clashes
    assert shared.ada.publish(online(), NOW).roles == {}


def test_a_draft_that_grew_from_what_is_here_no_more_is_not_guessed_at(tmp_path: Path) -> None:
    shared = Folders(tmp_path)
    add_release(shared.grace, "pump", image("9.0.0"), WISH, NOW)
    (late,) = (path for path in (shared.grace.folder.drafts / "pump").glob("*.json") if b"9.0.0" in path.read_bytes())
    for version in ("1.1.0", "1.2.0"):
        release(shared.ada, image(version, edits=5))
    shared.ada.folder.metadata("2.pump.json").unlink()  # pruned, the version that it grew from
    (shared.ada.folder.drafts / "pump" / late.name).write_bytes(late.read_bytes())
    with pytest.raises(MergeRefused, match="origin: expected the draft or version that both grew from"):
        add_release(shared.ada, "pump", image("1.3.0"), WISH, NOW)
    (head,) = (node for node in Repository(shared.grace.folder.path).state().drafts.values())
    shared.ada.drop("pump", head.digest)
    assert not shared.ada.state().drafts
    add_release(shared.ada, "pump", image("1.3.0"), WISH, NOW)


def test_a_clash_of_three_drafts_names_each_by_as_many_digits(tmp_path: Path) -> None:
    first = started(tmp_path / "0")
    others = [first.folder.path]
    for number in ("1", "2"):
        shutil.copytree(first.folder.path, tmp_path / number)
        others.append(tmp_path / number)
    for path, (version, wish) in zip(others, (("1.0.0", WISH), ("1.1.0", RADIO), ("1.0.0", WISH)), strict=True):
        add_release(Repository(path), "pump", image(version, seed=int(path.name) + 1), wish, NOW)
    for path in others[1:]:
        shutil.copytree(path / "drafts", first.folder.path / "drafts", dirs_exist_ok=True)
    said = str(first.state().clashes["pump"])
    digests = re.findall(r"[0-9a-f]{8,}", said.partition(" of pump ")[0])
    assert len(digests) in (2, 3)
    assert all(len(digest) == 16 for digest in digests)
    assert "+" not in said


def test_a_note_that_a_draft_was_published_counts_only_where_it_was(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    release(repository, image("1.0.0"))
    shutil.copytree(repository.folder.public, tmp_path / "backup")
    add_release(repository, "pump", image("1.1.0", edits=5), WISH, NOW)
    sign_all(repository, "release-1", "release-2")
    repository.publish(online(), NOW)
    shutil.rmtree(repository.folder.public)
    shutil.copytree(tmp_path / "backup", repository.folder.public)
    draft = repository.state().drafts["pump"]  # not lost, and still signed
    assert draft.signed.version == 3
    assert repository.state().quorum("pump").complete


def test_drafts_of_lines_where_all_is_published_are_not_read(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    release(repository, image("1.0.0"))
    names = list((repository.folder.drafts / "pump").glob("*.json"))
    assert names
    for path in names:
        path.write_bytes(b"not read")
    assert not repository.state().drafts
    set_caps(repository, "pump", NOW, hardware=lambda known: [*known, *["nrf54-c"]])


def test_drafts_that_claim_to_come_after_each_other_are_no_drafts(tmp_path: Path) -> None:
    """Names are hashes, so that no circle can be made of them; one by way of a published version's digest ends, too."""
    repository = started(tmp_path / "repo")
    line = repository.state().line("pump")
    (published,) = repository.state().after("pump")
    drafts = Drafts(repository.layout)
    new = copied(line)
    new.version = 2
    first = drafts.save("pump", new, [published])
    drafts.save("pump", line, [first])  # the published version again, as if it had come after its successor
    assert "pump" not in repository.state().drafts
    add_release(repository, "pump", image("1.0.0"), WISH, NOW)
    assert repository.state().drafts["pump"].signed.version == 2


def test_a_draft_that_comes_in_while_another_is_written_is_not_replaced_unseen(tmp_path: Path) -> None:
    """A tool copies files whatever lock is held."""
    shared = Folders(tmp_path)
    add_release(shared.grace, "pump", image("1.1.0", seed=2), RADIO, NOW)
    with shared.ada.edit(NOW) as edit:
        line = edit.line("pump")
        shared.sync()
        line.unrecognized_fields["x-note"] = "a"
        edit.save("pump", line)
        line.unrecognized_fields["x-note"] = "b"
        edit.save("pump", line)
    line = shared.ada.state().line("pump")
    assert "pump/1.1.0/radio.bin" in line.targets
    assert line.unrecognized_fields["x-note"] == "b"


def test_a_staged_file_that_another_line_waits_for_stays(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    add_product(repository, replace(pump(), name="valve"), NOW)
    sign_all(repository, "targets-1", "targets-2", "release-1", "release-2")
    repository.publish(online(), NOW)
    for line in ("pump", "valve"):
        add_release(repository, line, image("1.0.0"), WISH, NOW)
    sign_all(repository, "release-1", "release-2")
    repository.publish(online(), NOW, roles=("pump",))
    repository.publish(online(), NOW)
    assert not list(repository.folder.staged.glob("[0-9a-f]*"))
    assert {"pump/1.0.0/app.bin", "valve/1.0.0/app.bin"} <= verify_tree(repository.folder.path, NOW).targets.keys()


def test_one_person_who_signs_twice_at_once_is_counted_once(tmp_path: Path) -> None:
    """ECDSA signs the same bytes differently each time: two files, one signature."""
    person = CryptoSigner(ec.generate_private_key(ec.SECP256R1()))
    shared = Folders(tmp_path)
    valve = replace(pump(), name="valve", team=Team((NamedKey("Ada", person.public_key), *pump().team.keys), 2))
    add_product(shared.ada, valve, NOW)
    shared.sync()
    for who in (shared.ada, shared.grace):
        who.sign(person, role="valve")
    shared.sync()
    assert len(list((shared.ada.folder.drafts / "valve").glob("*.sig"))) == 2
    alike(shared, "valve")
    assert str(shared.ada.state().quorum("valve")) == "1 of 2"
    assert shared.ada.state().drafts["valve"].strange == 0
    sign_all(shared.ada, "release-1", "targets-1", "targets-2")
    shared.ada.publish(online(), NOW)
    assert len(json.loads(shared.ada.folder.metadata("1.valve.json").read_bytes())["signatures"]) == 2


def test_two_changes_of_root_at_once_are_one(tmp_path: Path) -> None:
    shared = Folders(tmp_path)
    for who, name, number in ((shared.ada, "release-1", NOW), (shared.grace, "release-2", NOW + 5)):
        key = example_signer(name).public_key
        with who.edit(number) as edit:
            root = edit.root()
            root.add_key(key, "root")
            edit.save("root", root)
    shared.sync()
    alike(shared, "root")
    sign_all(shared.ada, "root-1", "root-3")
    shared.ada.publish(online(), NOW)
    assert len(shared.ada.state().root().roles["root"].keyids) == 5


def test_one_old_draft_of_what_was_published_long_ago_is_nothing_to_sign(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    add_release(repository, "pump", image("1.0.0"), WISH, NOW)
    (old,) = (path for path in (repository.folder.drafts / "pump").glob("*.json") if b"1.0.0" in path.read_bytes())
    data = old.read_bytes()
    sign_all(repository, "release-1", "release-2")
    repository.publish(online(), NOW)
    for version in ("1.1.0", "1.2.0", "1.3.0"):
        release(repository, image(version, edits=5))
    assert not old.exists()
    old.write_bytes(data)  # from a copy that has nothing else of then
    state = repository.state()
    assert (dict(state.drafts), dict(state.clashes)) == ({}, {})


@pytest.mark.slow
def test_the_drafts_folder_does_not_grow_with_the_releases(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    counts = []
    for number in range(5):
        set_caps(repository, "pump", NOW, hardware=lambda known, number=number: [*known, f"a{number}"])  # type: ignore[misc]
        add_release(repository, "pump", image(f"1.{number}.0", edits=number), WISH, NOW)
        sign_all(repository, "targets-1", "targets-2", "release-1", "release-2")
        repository.publish(online(), NOW)
        counts.append(len(tree(repository.folder.drafts)))
    assert counts[1:] == [counts[1]] * 4


def test_two_who_published_beside_each_other_merge_into_the_next_version_once(tmp_path: Path) -> None:
    shared = Folders(tmp_path)
    add_release(shared.grace, "pump", image("1.1.0", seed=2), RADIO, NOW)
    add_release(shared.ada, "pump", image("1.1.0"), WISH, NOW)
    sign_all(shared.ada, "release-1", "release-2")
    shared.ada.publish(online(), NOW)
    shutil.copytree(shared.ada.folder.public, shared.grace.folder.public, dirs_exist_ok=True)
    shared.sync()
    draft = shared.ada.state().drafts["pump"]
    assert (draft.merged, draft.signed.version) == (True, 4)
    shared.ada.sign(example_signer("release-1"))
    written = shared.ada.state().drafts["pump"]
    assert (written.merged, written.digest) == (False, draft.digest)
    shared.sync()
    assert alike(shared) == draft.digest


def test_a_change_that_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    set_caps(repository, "pump", NOW, hardware=lambda known: [*known, *["nrf54-c"]])
    repository.sign(example_signer("targets-1"))
    before = tree(repository.folder.path)
    set_caps(repository, "pump", NOW, hardware=lambda known: [*known, *["nrf54-c"]])
    assert tree(repository.folder.path) == before


def test_a_draft_whose_bytes_are_not_those_of_its_name_is_refused(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    add_release(repository, "pump", image("1.0.0"), WISH, NOW)
    (path,) = (path for path in (repository.folder.drafts / "pump").glob("*.json") if b"1.0.0" in path.read_bytes())
    path.write_bytes(path.read_bytes().replace(b"2026-07-02", b"2026-07-03"))
    with pytest.raises(RepositoryRefused, match="the bytes that its name is the hash of") as refused:
        _ = repository.state().drafts["pump"]
    assert refused.value.hint
    path.rename(path.with_name("x" + path.name[1:]))
    assert not repository.state().drafts


def test_an_origin_of_which_a_part_is_not_here_is_not_guessed_at() -> None:
    def node(name: str, note: str, *after: str) -> Node:
        value = {
            **Targets(version=1, unrecognized_fields={"x-note": note}).to_dict(),
            "expires": "2030-01-01T00:00:00Z",
        }
        return Node(name * 64, tuple(item * 64 for item in after), value, canonical.canonical(value))

    known, left, right = node("a", "a"), node("b", "b", "a", "f"), node("c", "a", "a", "f")
    with pytest.raises(MergeRefused, match="origin"):  # "f" is missing, and newer than "a" for all that is known
        Lineage("pump", {item.name: item for item in (known, left, right)}, None).settle()
    left, right = node("b", "b", "a"), node("c", "a", "a")
    settled = Lineage("pump", {item.name: item for item in (known, left, right)}, None).settle()
    assert settled.value is not None
    assert settled.value["x-note"] == "b"
