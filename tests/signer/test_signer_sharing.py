"""One repository, two people, each with a copy: by Git, or by a folder that is copied both ways. Both count, or it is said who does not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from copies import RADIO, WISH, Folders, Git, Shared, alike, git
from hillhold_signer import (
    Wish,
    add_product,
    add_release,
    example_signer,
    verify_tree,
)
from hillhold_signer.errors import MergeRefused, QuorumRefused, SignerRefused
from hillhold_signer.lines import set_caps
from hillhold_signer.releases import releases_of
from workshop import HARDWARE, NOW, image, online, pump, release, sign_all, tree


@pytest.fixture(params=[pytest.param(Git, marks=pytest.mark.system), Folders])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Shared:
    make: Callable[[Path], Shared] = request.param
    return make(tmp_path)


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
    seen = verify_tree(shared.ada.folder.path, NOW + 120)
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
        shutil.copy(shared.ada.folder.metadata("timestamp.json"), shared.grace.folder.metadata("timestamp.json"))
    shared.sync()
    alike(shared)
    draft = shared.grace.state().drafts["pump"]
    assert (draft.signed.version, draft.signatures) == (4, {})
    sign_all(shared.grace, "release-1", "release-2")
    shared.grace.publish(online(), NOW)
    seen = verify_tree(shared.grace.folder.path, NOW)
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
    before = tree(shared.ada.folder.path)
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
    assert tree(shared.ada.folder.path) == before
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
    git(git_.grace.folder.path, "add", "-A")
    git(git_.grace.folder.path, "commit", "-q", "-m", "drafts, before publishing: a commit of their own")
    git_.grace.publish(online(), NOW)
    assert git_.push(git_.ada)
    assert not git_.push(git_.grace)
    # docs/FORMAT.md, "Sharing a repository": the loser takes their publication back, pulls, and publishes again.
    git(git_.grace.folder.path, "reset", "-q", "--hard", "HEAD~1")
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
        seen = verify_tree(who.folder.path, NOW)
        assert {"pump/1.1.0/app.bin", "pump/1.2.0/app.bin"} <= seen.targets.keys()


def test_two_new_lines_at_once(shared: Shared) -> None:
    add_product(shared.ada, replace(pump(), name="valve"), NOW)
    add_product(shared.grace, replace(pump(), name="scale"), NOW + 9)
    shared.sync()
    alike(shared, "targets")
    assert shared.ada.state().products() == shared.grace.state().products() == ["pump", "scale", "valve"]
    sign_all(shared.ada, "targets-1", "targets-2", "release-1", "release-2")
    shared.ada.publish(online(), NOW)
    assert {"pump", "scale", "valve"} <= verify_tree(shared.ada.folder.path, NOW).versions.keys()


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


@pytest.mark.slow
@pytest.mark.parametrize("goes_on", [False, True])
def test_a_draft_that_one_gives_up_while_the_other_publishes_it_stays_published(tmp_path: Path, goes_on: bool) -> None:
    """To give a draft up is to not want it next; it is no wish to take away what is out."""
    shared = Git(tmp_path)
    add_release(shared.ada, "pump", image("1.1.0"), WISH, NOW)
    assert shared.push(shared.ada)
    shared.pull(shared.grace)
    shared.ada.drop("pump", shared.ada.state().drafts["pump"].digest)
    if goes_on:
        add_release(shared.ada, "pump", image("1.2.0"), WISH, NOW)
    sign_all(shared.grace, "release-1", "release-2")
    shared.grace.publish(online(), NOW)
    shared.sync()
    if not goes_on:
        assert not shared.ada.state().drafts
        add_release(shared.ada, "pump", image("1.2.0"), WISH, NOW)
    versions = [str(item.version) for item in releases_of(shared.ada.state().line("pump"))]
    assert versions == ["1.0.0", "1.1.0", "1.2.0"]
    sign_all(shared.ada, "release-1", "release-2")
    assert shared.ada.publish(online(), NOW).roles == {"pump": 4}


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
