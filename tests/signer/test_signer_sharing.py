"""One repository, two people, each with a copy: by Git, or by a folder that is copied both ways. Both count, or it is said who does not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Targets

from hillhold_signer import (
    NamedKey,
    Repository,
    Team,
    Wish,
    add_product,
    add_release,
    example_signer,
    verify_tree,
)
from hillhold_signer.drafts import Drafts, Node
from hillhold_signer.encoding import copied
from hillhold_signer.errors import MergeRefused, QuorumRefused, RepositoryRefused, SignerRefused
from hillhold_signer.lineage import Lineage
from hillhold_signer.lines import set_caps
from hillhold_verifier import canonical
from workshop import HARDWARE, NOW, image, online, pump, release, sign_all, started, tree

WISH = Wish("app.bin", hardware=HARDWARE[:1])
RADIO = Wish("radio.bin", hardware=HARDWARE[:1], component="radio")


class Git:
    """Two clones of one bare repository, each with a Hillhold repository in a folder of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ada, self.grace = (Repository.__new__(Repository), Repository.__new__(Repository))
        seed = folder / "seed"
        seed.mkdir()
        git(seed, "init", "-q", "-b", "main")
        release(started(seed / "firmware"), image("1.0.0"))
        git(seed, "add", "-A")
        git(seed, "commit", "-q", "-m", "first")
        git(folder, "clone", "-q", "--bare", "seed", "hub.git")
        for name in ("ada", "grace"):
            git(folder, "clone", "-q", "hub.git", name)
        self.ada, self.grace = (Repository(folder / name / "firmware") for name in ("ada", "grace"))

    def push(self, who: Repository) -> bool:
        """Commit all and push; False where the other was first."""
        work = who.layout.path
        git(work, "add", "-A")
        git(work, "commit", "-q", "--allow-empty", "-m", "work")
        return git(work, "push", "-q", check=False).returncode == 0

    def pull(self, who: Repository) -> None:
        """Merge what the other pushed; a conflict fails the test."""
        done = git(who.layout.path, "pull", "-q", "--no-rebase", "--no-edit", check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert git(who.layout.path, "status", "--porcelain").stdout == ""

    def sync(self) -> None:
        """Ada pushes; Grace is refused, pulls and pushes; Ada pulls."""
        assert self.push(self.ada)
        assert not self.push(self.grace)
        self.pull(self.grace)
        assert self.push(self.grace)
        self.pull(self.ada)


class Folders:
    """Two copies of a folder, and something that copies whatever the other has not, and takes away nothing."""

    def __init__(self, folder: Path) -> None:
        release(started(folder / "ada"), image("1.0.0"))
        shutil.copytree(folder / "ada", folder / "grace")
        self.ada, self.grace = (Repository(folder / name) for name in ("ada", "grace"))

    def sync(self) -> None:
        """Copy both ways; the same name with other bytes on both sides fails the test."""
        one, two = tree(self.ada.layout.path), tree(self.grace.layout.path)
        assert {name for name in one.keys() & two.keys() if one[name] != two[name]} == set()
        for path, data in ((self.ada.layout.path, two), (self.grace.layout.path, one)):
            for name, content in data.items():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                (path / name).write_bytes(content)


def git(folder: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    who = {f"GIT_{role}_{what}": "x" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", **who}
    return subprocess.run(
        ["git", *words], cwd=folder, capture_output=True, text=True, check=check, env={**os.environ, **alone}
    )


Shared = Git | Folders


@pytest.fixture(params=[pytest.param(Git, marks=pytest.mark.system), Folders])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Shared:
    make: Callable[[Path], Shared] = request.param
    return make(tmp_path)


def alike(shared: Shared, role: str = "pump") -> str:
    """Both see the same draft; returns its digest."""
    one, two = (who.state().drafts[role] for who in (shared.ada, shared.grace))
    assert one.digest == two.digest
    assert one.replaced == two.replaced
    assert dict(one.signatures).keys() == dict(two.signatures).keys()
    return one.digest


def test_two_who_sign_at_once_both_count(shared: Shared) -> None:
    add_release(shared.ada, "pump", image("1.1.0"), WISH, NOW)
    shared.sync()
    shared.ada.sign(example_signer("release-1"))
    shared.grace.sign(example_signer("release-2"))
    shared.sync()
    alike(shared)
    assert shared.ada.state().quorum("pump").complete
    assert dict(shared.grace.publish(online(), NOW).roles) == {"pump": 3}


def test_two_who_add_at_once_both_count(shared: Shared) -> None:
    add_release(shared.ada, "pump", image("1.1.0"), WISH, NOW)
    shared.sync()  # a draft that both then grow: Git would take both for renames of it, if it were removed
    add_release(shared.ada, "pump", image("1.2.0", edits=5), WISH, NOW + 60)
    add_release(shared.grace, "pump", image("1.1.0", seed=2), RADIO, NOW)
    shared.sync()
    alike(shared)
    paths = {path for path in shared.ada.state().line("pump").targets if not path.endswith(".patch")}
    assert paths == {"pump/1.0.0/app.bin", "pump/1.1.0/app.bin", "pump/1.2.0/app.bin", "pump/1.1.0/radio.bin"}
    shared.ada.sign(example_signer("release-1"))
    shared.grace.sign(example_signer("release-2"))
    shared.sync()  # both have written the merged draft down: the same bytes under the same name
    alike(shared)
    shared.ada.publish(online(), NOW + 120)
    seen = verify_tree(shared.ada.layout.path, NOW + 120)
    assert paths <= seen.targets.keys()
    assert seen.versions["pump"] == 3
    assert not shared.ada.state().drafts


def test_one_signs_while_the_other_adds_and_nobody_is_told_that_it_counts(shared: Shared) -> None:
    add_release(shared.ada, "pump", image("1.1.0"), WISH, NOW)
    shared.sync()
    signed = alike(shared)
    shared.ada.sign(example_signer("release-1"))
    add_release(shared.grace, "pump", image("1.2.0", edits=5), WISH, NOW)
    shared.sync()
    assert alike(shared) != signed
    for who in (shared.ada, shared.grace):
        draft = who.state().drafts["pump"]
        assert not draft.signatures
        assert draft.replaced == ((example_signer("release-1").public_key.keyid, signed),)
        assert draft.strange == 0
        with pytest.raises(QuorumRefused, match="pump has 0 of 2"):
            who.publish(online(), NOW)
    sign_all(shared.grace, "release-1", "release-2")
    assert not shared.grace.state().drafts["pump"].replaced
    shared.grace.publish(online(), NOW)


def test_one_publishes_what_the_other_is_changing(shared: Shared) -> None:
    add_release(shared.ada, "pump", image("1.1.0"), WISH, NOW)
    sign_all(shared.ada, "release-1", "release-2")
    shared.sync()
    shared.ada.publish(online(), NOW)
    add_release(shared.grace, "pump", image("1.2.0", edits=5), WISH, NOW)
    if isinstance(shared, Folders):  # such a folder is published from by one person: what changes in place goes one way
        shutil.copy(shared.ada.layout.metadata("timestamp.json"), shared.grace.layout.metadata("timestamp.json"))
    shared.sync()
    alike(shared)
    draft = shared.grace.state().drafts["pump"]
    assert (draft.signed.version, draft.signatures) == (4, {})
    sign_all(shared.grace, "release-1", "release-2")
    shared.grace.publish(online(), NOW)
    seen = verify_tree(shared.grace.layout.path, NOW)
    assert {"pump/1.1.0/app.bin", "pump/1.2.0/app.bin"} <= seen.targets.keys()
    assert seen.versions["pump"] == 4


def test_the_same_version_by_two_people_is_a_clash_that_one_of_them_ends(shared: Shared) -> None:
    add_release(shared.ada, "pump", image("1.1.0"), WISH, NOW)
    ours = shared.ada.state().drafts["pump"].digest
    shared.ada.sign(example_signer("release-1"))
    add_release(shared.grace, "pump", image("1.1.0", seed=2), WISH, NOW)
    theirs = shared.grace.state().drafts["pump"].digest
    set_caps(shared.grace, "pump", NOW, hardware=lambda known: [*known, *["nrf54-c"]])
    shared.sync()
    before = tree(shared.ada.layout.path)
    for act in (
        lambda: add_release(shared.ada, "pump", image("1.2.0"), WISH, NOW),
        lambda: shared.ada.sign(example_signer("release-1")),
        lambda: shared.ada.publish(online(), NOW),
    ):
        with pytest.raises(
            MergeRefused, match=r"target pump/1\.1\.0/app\.bin: expected one change, got \{.*and \{"
        ) as refused:
            act()
        assert ours[:16] in str(refused.value)
        assert theirs[:16] in str(refused.value)
        assert refused.value.hint
        assert "hillhold drop REPO pump" in refused.value.hint
    assert tree(shared.ada.layout.path) == before
    assert set(shared.ada.state().drafts) == {"targets"}  # other roles go on
    with pytest.raises(MergeRefused, match=f"expected one of .*{ours[:16]}"):
        shared.ada.drop("pump", "0000")
    assert shared.ada.drop("pump", theirs[:16]) == theirs
    shared.sync()
    assert alike(shared) == ours
    assert str(shared.grace.state().quorum("pump")) == "1 of 2"  # what was kept keeps its signatures


@pytest.mark.system
def test_two_who_publish_at_once_lose_no_release(tmp_path: Path) -> None:
    git_ = Git(tmp_path)
    add_release(git_.ada, "pump", image("1.1.0"), WISH, NOW)
    sign_all(git_.ada, "release-1", "release-2")
    add_release(git_.grace, "pump", image("1.2.0", edits=5), WISH, NOW)
    sign_all(git_.grace, "release-1", "release-2")
    git_.ada.publish(online(), NOW)
    git(git_.grace.layout.path, "add", "-A")
    git(git_.grace.layout.path, "commit", "-q", "-m", "drafts, before publishing: a commit of their own")
    git_.grace.publish(online(), NOW)
    assert git_.push(git_.ada)
    assert not git_.push(git_.grace)
    # docs/FORMAT.md, "Sharing a repository": the loser takes their publication back, pulls, and publishes again.
    git(git_.grace.layout.path, "reset", "-q", "--hard", "HEAD~1")
    git_.pull(git_.grace)
    draft = git_.grace.state().drafts["pump"]
    assert draft.signed.version == 4
    assert len(draft.replaced) == 2  # both had signed other bytes
    with pytest.raises(QuorumRefused):
        git_.grace.publish(online(), NOW)
    sign_all(git_.grace, "release-1", "release-2")
    git_.grace.publish(online(), NOW)
    assert git_.push(git_.grace)
    git_.pull(git_.ada)
    for who in (git_.ada, git_.grace):
        seen = verify_tree(who.layout.path, NOW)
        assert {"pump/1.1.0/app.bin", "pump/1.2.0/app.bin"} <= seen.targets.keys()


def test_two_new_lines_at_once(shared: Shared) -> None:
    add_product(shared.ada, replace(pump(), name="valve"), NOW)
    add_product(shared.grace, replace(pump(), name="scale"), NOW + 9)
    shared.sync()
    alike(shared, "targets")
    assert shared.ada.state().products() == shared.grace.state().products() == ["pump", "scale", "valve"]
    sign_all(shared.ada, "targets-1", "targets-2", "release-1", "release-2")
    shared.ada.publish(online(), NOW)
    assert {"pump", "scale", "valve"} <= verify_tree(shared.ada.layout.path, NOW).versions.keys()


def test_the_same_new_line_at_once_is_one(shared: Shared) -> None:
    for who, now in ((shared.ada, NOW), (shared.grace, NOW + 9)):
        add_product(who, replace(pump(), name="valve"), now)
    shared.sync()
    alike(shared, "targets")
    alike(shared, "valve")


def test_a_release_that_was_taken_out_of_a_draft_does_not_come_back(shared: Shared) -> None:
    add_release(shared.ada, "pump", image("1.1.0"), WISH, NOW)
    shared.sync()
    shared.ada.drop("pump", shared.ada.state().drafts["pump"].digest)
    assert not shared.ada.state().drafts
    add_release(shared.grace, "pump", image("1.2.0", edits=5), WISH, NOW)
    shared.sync()
    alike(shared)
    line = shared.ada.state().line("pump")
    assert {"pump/1.0.0/app.bin", "pump/1.2.0/app.bin"} == {path for path in line.targets if "patch" not in path}


def test_an_old_copy_brings_back_nothing(tmp_path: Path) -> None:
    shared = Folders(tmp_path)
    shutil.copytree(shared.ada.layout.path, tmp_path / "old")
    for version in ("1.1.0", "1.2.0", "1.3.0"):
        add_release(shared.ada, "pump", image(version, edits=5), WISH, NOW)
        shutil.copytree(shared.ada.layout.path, tmp_path / "old", dirs_exist_ok=True)
        sign_all(shared.ada, "release-1", "release-2")
        shared.ada.publish(online(), NOW)
    for folder in ("drafts", "staged"):
        shutil.copytree(tmp_path / "old" / folder, shared.ada.layout.path / folder, dirs_exist_ok=True)
    assert not shared.ada.state().drafts
    assert not shared.ada.state().clashes
    assert shared.ada.publish(online(), NOW).roles == {}


def test_a_draft_that_grew_from_what_is_here_no_more_is_not_guessed_at(tmp_path: Path) -> None:
    shared = Folders(tmp_path)
    add_release(shared.grace, "pump", image("9.0.0"), WISH, NOW)
    (late,) = (path for path in (shared.grace.layout.drafts / "pump").glob("*.json") if b"9.0.0" in path.read_bytes())
    for version in ("1.1.0", "1.2.0"):
        release(shared.ada, image(version, edits=5))
    shared.ada.layout.metadata("2.pump.json").unlink()  # pruned, the version that it grew from
    (shared.ada.layout.drafts / "pump" / late.name).write_bytes(late.read_bytes())
    with pytest.raises(MergeRefused, match="origin: expected the draft or version that both grew from"):
        add_release(shared.ada, "pump", image("1.3.0"), WISH, NOW)
    (head,) = (node for node in Repository(shared.grace.layout.path).state().drafts.values())
    shared.ada.drop("pump", head.digest)
    assert not shared.ada.state().drafts
    add_release(shared.ada, "pump", image("1.3.0"), WISH, NOW)


def test_counters_that_would_go_down_once_both_are_in_are_refused(shared: Shared) -> None:
    add_release(shared.ada, "pump", image("1.1.0", 5), WISH, NOW)
    add_release(shared.grace, "pump", image("1.2.0", 2), WISH, NOW)
    shared.sync()
    with pytest.raises(
        MergeRefused, match=r"security counter of pump/1\.2\.0/app\.bin: expected none that goes down, got 2"
    ):
        shared.ada.sign(example_signer("release-1"))


def test_the_same_version_in_two_files_is_refused(shared: Shared) -> None:
    add_release(shared.ada, "pump", image("1.1.0"), Wish("a.bin", hardware=HARDWARE), NOW)
    add_release(shared.grace, "pump", image("1.1.0", seed=2), Wish("b.bin", hardware=HARDWARE[1:]), NOW)
    shared.sync()
    with pytest.raises(MergeRefused, match=r"version 1\.1\.0 of pump: expected one release for a device"):
        shared.ada.sign(example_signer("release-1"))


def test_a_clash_in_targets_stops_its_lines_and_status_still_reads(shared: Shared) -> None:
    add_product(shared.ada, replace(pump(cap=1), name="valve"), NOW)
    add_product(shared.grace, replace(pump(cap=2), name="valve"), NOW)
    add_release(shared.ada, "pump", image("1.1.0"), WISH, NOW)
    shared.sync()
    state = shared.ada.state()
    assert set(state.clashes) == {"targets"}
    for act in (
        lambda: shared.ada.sign(example_signer("release-1"), role="pump"),
        lambda: shared.ada.publish(online(), NOW),
        lambda: set_caps(shared.ada, "pump", NOW, hardware=lambda known: [*known, *["x"]]),
    ):
        with pytest.raises(SignerRefused, match="product line valve"):
            act()


@pytest.mark.system
def test_both_write_the_merged_draft_down_and_one_publishes_it(tmp_path: Path) -> None:
    shared = Git(tmp_path)
    release(shared.ada, image("1.0.1", edits=2))  # so that a publication has old drafts to remove
    assert shared.push(shared.ada)
    shared.pull(shared.grace)
    add_release(shared.ada, "pump", image("1.1.0", edits=3), WISH, NOW)
    add_release(shared.grace, "pump", image("1.1.0", seed=2), RADIO, NOW)
    shared.sync()
    sign_all(shared.ada, "release-1", "release-2")
    shared.ada.publish(online(), NOW)
    shared.grace.sign(example_signer("release-1"))
    add_release(shared.grace, "pump", image("1.2.0", edits=4), WISH, NOW)
    shared.sync()
    alike(shared)
    assert shared.grace.state().drafts["pump"].signed.version == 5
    sign_all(shared.grace, "release-1", "release-2")
    shared.grace.publish(online(), NOW)


def test_a_note_that_a_draft_was_published_counts_only_where_it_was(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    release(repository, image("1.0.0"))
    shutil.copytree(repository.layout.public, tmp_path / "backup")
    add_release(repository, "pump", image("1.1.0", edits=5), WISH, NOW)
    sign_all(repository, "release-1", "release-2")
    repository.publish(online(), NOW)
    shutil.rmtree(repository.layout.public)
    shutil.copytree(tmp_path / "backup", repository.layout.public)
    draft = repository.state().drafts["pump"]  # not lost, and still signed
    assert draft.signed.version == 3
    assert repository.state().quorum("pump").complete


def test_drafts_of_lines_where_all_is_published_are_not_read(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    release(repository, image("1.0.0"))
    names = list((repository.layout.drafts / "pump").glob("*.json"))
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
    assert not list(repository.layout.staged.glob("[0-9a-f]*"))
    assert {"pump/1.0.0/app.bin", "valve/1.0.0/app.bin"} <= verify_tree(repository.layout.path, NOW).targets.keys()


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
    assert len(list((shared.ada.layout.drafts / "valve").glob("*.sig"))) == 2
    alike(shared, "valve")
    assert str(shared.ada.state().quorum("valve")) == "1 of 2"
    assert shared.ada.state().drafts["valve"].strange == 0
    sign_all(shared.ada, "release-1", "targets-1", "targets-2")
    shared.ada.publish(online(), NOW)
    assert len(json.loads(shared.ada.layout.metadata("1.valve.json").read_bytes())["signatures"]) == 2


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
    (old,) = (path for path in (repository.layout.drafts / "pump").glob("*.json") if b"1.0.0" in path.read_bytes())
    data = old.read_bytes()
    sign_all(repository, "release-1", "release-2")
    repository.publish(online(), NOW)
    for version in ("1.1.0", "1.2.0", "1.3.0"):
        release(repository, image(version, edits=5))
    assert not old.exists()
    old.write_bytes(data)  # from a copy that has nothing else of then
    state = repository.state()
    assert (dict(state.drafts), dict(state.clashes)) == ({}, {})


def test_the_drafts_folder_does_not_grow_with_the_releases(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    counts = []
    for number in range(5):
        set_caps(repository, "pump", NOW, hardware=lambda known, number=number: [*known, f"a{number}"])  # type: ignore[misc]
        add_release(repository, "pump", image(f"1.{number}.0", edits=number), WISH, NOW)
        sign_all(repository, "targets-1", "targets-2", "release-1", "release-2")
        repository.publish(online(), NOW)
        counts.append(len(tree(repository.layout.drafts)))
    assert counts[1:] == [counts[1]] * 4


def test_two_who_published_beside_each_other_merge_into_the_next_version_once(tmp_path: Path) -> None:
    shared = Folders(tmp_path)
    add_release(shared.grace, "pump", image("1.1.0", seed=2), RADIO, NOW)
    add_release(shared.ada, "pump", image("1.1.0"), WISH, NOW)
    sign_all(shared.ada, "release-1", "release-2")
    shared.ada.publish(online(), NOW)
    shutil.copytree(shared.ada.layout.public, shared.grace.layout.public, dirs_exist_ok=True)
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
    before = tree(repository.layout.path)
    set_caps(repository, "pump", NOW, hardware=lambda known: [*known, *["nrf54-c"]])
    assert tree(repository.layout.path) == before


def test_a_draft_whose_bytes_are_not_those_of_its_name_is_refused(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    add_release(repository, "pump", image("1.0.0"), WISH, NOW)
    (path,) = (path for path in (repository.layout.drafts / "pump").glob("*.json") if b"1.0.0" in path.read_bytes())
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
