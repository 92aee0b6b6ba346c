"""Withdrawals, signed steps down, changed hardware: what is drafted, and what is refused before anyone signs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Targets

from hillhold_signer import Repository, Wish, add_release
from hillhold_signer.adding import add_releases
from hillhold_signer.difference import difference, label
from hillhold_signer.errors import ContentRefused, ProductRefused, ReleaseRefused
from hillhold_signer.lines import set_caps
from hillhold_signer.listing import listing
from hillhold_signer.patching import DEFAULT, NO_PATCHES, PatchFrom
from hillhold_signer.releases import MAX_REASON
from hillhold_signer.retarget import change_hardware
from hillhold_signer.withdrawing import withdraw
from hillhold_verifier.release import Version
from workshop import HARDWARE, NOW, image, online, release, rewrite, sign_all, started, tree

BOTH = Wish("app.bin", hardware=HARDWARE)
RADIO = Wish("radio.bin", hardware=HARDWARE, component="radio")
SECOND = HARDWARE[1:]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Published: 1.0.0 (counter 1), 1.1.0 (2) and 1.2.0 (2), for both boards."""
    return _published(tmp_path, NO_PATCHES)


@pytest.fixture
def patched(tmp_path: Path) -> Repository:
    """The same, with patches."""
    return _published(tmp_path, DEFAULT)


def _published(tmp_path: Path, patch_from: PatchFrom) -> Repository:
    found = started(tmp_path / "repo")
    for version, counter, edits in (("1.0.0", 1, 0), ("1.1.0", 2, 1), ("1.2.0", 2, 2)):
        release(found, image(version, counter, edits=edits), wish=BOTH, patch_from=patch_from)
    return found


def custom(repository: Repository, path: str) -> dict[str, Any]:
    found: dict[str, Any] = repository.state().line("pump").targets[path].custom["hillhold"]
    return found


def publish(repository: Repository) -> None:
    sign_all(repository, "release-1", "release-2")
    repository.publish(online(), NOW)


def shown(repository: Repository) -> list[str]:
    state = repository.state()
    old = state.published("pump")
    assert isinstance(old, Targets)
    return [str(change) for change in difference("pump", old, state.drafts["pump"].signed, label({}))]


def ways(repository: Repository, version: str, **options: Any) -> list[tuple[str, str, list[str]]]:
    done = withdraw(repository, "pump", version, "leaks", NOW, **options)
    return [(", ".join(way.hardware), str(way.to), list(map(str, way.down_to))) for way in done.ways]


# --- withdrawing ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_withdrawn_release_keeps_its_entry_and_the_patches_that_lead_away_from_it(patched: Repository) -> None:
    before = set(patched.state().line("pump").targets)
    done = withdraw(patched, "pump", "1.1.0", "leaks at 40 °C", NOW)
    assert done.paths == ("pump/1.1.0/app.bin",)
    assert custom(patched, done.paths[0])["withdrawn"] == "leaks at 40 °C"
    after = set(patched.state().line("pump").targets)
    assert before - after == set(done.dropped)
    assert len(done.dropped) == 1
    assert done.dropped[0].startswith("pump/1.1.0/app.bin.")
    assert len([path for path in after if path.startswith("pump/1.2.0/app.bin.")]) == 2
    assert [(way.hardware, str(way.to)) for way in done.ways] == [(HARDWARE, "1.2.0")]
    (line,) = [line for line in shown(patched) if line.startswith("~ pump/1.1.0/app.bin: ")]
    assert 'WITHDRAWN ("leaks at 40 °C"), feature release, for nrf51-a and nrf52-b' in line
    assert "before" not in line
    publish(patched)


def test_devices_on_the_newest_have_no_way_unless_one_down_is_signed(repository: Repository) -> None:
    assert ways(repository, "1.2.0") == [("nrf51-a, nrf52-b", "None", ["1.1.0"])]


def test_a_step_down_is_drafted_with_the_withdrawal_and_a_patch(repository: Repository) -> None:
    done = withdraw(repository, "pump", "1.2.0", "leaks", NOW, step_down_to="1.1.0")
    assert custom(repository, "pump/1.1.0/app.bin")["downgrade_from"] == ["1.2.0"]
    assert [entry.path.split(".")[-3:-1][0] for entry in done.patches] == ["bin"]
    assert [str(way.to) for way in done.ways] == ["1.1.0"]
    assert any(
        "pump/1.1.0/app.bin: feature release" in line and "STEP DOWN from 1.2.0" in line for line in shown(repository)
    )
    publish(repository)
    assert ways(repository, "1.0.0") == [("nrf51-a, nrf52-b", "1.1.0", [])]


@pytest.mark.parametrize(
    ("to", "says"),
    [
        ("1.0.0", "with security counter 2 or more: 1.1.0, got 1.0.0, whose counter is 1"),
        ("1.2.0", "below 1.2.0 that is not withdrawn"),
        ("1.3.0", "got '1.3.0'"),
        ("9", "got '9'"),
        ("1.1.0\x1b[2J", "step down: expected"),
    ],
)
def test_a_step_down_that_devices_would_refuse_is_refused(repository: Repository, to: str, says: str) -> None:
    before = tree(repository.folder.path)
    with pytest.raises(ReleaseRefused) as refused:
        withdraw(repository, "pump", "1.2.0", "leaks", NOW, step_down_to=to)
    assert says in str(refused.value)
    assert refused.value.hint
    assert tree(repository.folder.path) == before


def test_a_step_down_to_a_withdrawn_release_or_beside_a_higher_one_is_refused(repository: Repository) -> None:
    withdraw(repository, "pump", "1.1.0", "leaks", NOW)
    before = tree(repository.folder.path)
    with pytest.raises(ReleaseRefused, match=r"none is listed, got '1.1.0'"):
        withdraw(repository, "pump", "1.2.0", "leaks", NOW, step_down_to="1.1.0")
    assert tree(repository.folder.path) == before
    release(repository, image("1.3.0", 2, edits=3), wish=BOTH)
    release(repository, image("1.4.0", 2, edits=4), wish=BOTH)
    before = tree(repository.folder.path)
    with pytest.raises(ReleaseRefused, match=r"on 1.3.0 comes to, got .*it ends on 1.4.0"):
        withdraw(repository, "pump", "1.3.0", "leaks", NOW, step_down_to="1.2.0")
    assert tree(repository.folder.path) == before


def test_a_step_down_that_boards_with_another_image_of_that_version_would_take_too_is_refused(
    repository: Repository,
) -> None:
    for name, at in (("a.bin", 0), ("b.bin", 1)):
        wish = replace(BOTH, file_name=name, hardware=(HARDWARE[at],))
        add_release(repository, "pump", image("2.0.0", 2, at + 20), wish, NOW)
    publish(repository)
    before = tree(repository.folder.path)
    with pytest.raises(ReleaseRefused, match=r"devices on pump/2.0.0/b.bin would step down, too"):
        withdraw(repository, "pump", "2.0.0", "hot", NOW, hardware=HARDWARE[:1], step_down_to="1.2.0")
    assert tree(repository.folder.path) == before
    done = withdraw(repository, "pump", "2.0.0", "hot", NOW, step_down_to="1.2.0")
    assert [(way.hardware, str(way.to)) for way in done.ways] == [(HARDWARE[:1], "1.2.0"), (SECOND, "1.2.0")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "reason", "options", "error", "says"),
    [
        ("1.3.0", "leaks", {}, ReleaseRefused, "a listed release: app 1.2.0, app 1.1.0, app 1.0.0"),
        ("1.1", "leaks", {}, ReleaseRefused, "a listed release"),
        ("1.1.0", "leaks", {"component": "radio"}, ReleaseRefused, "version 1.1.0 of radio"),
        ("1.1.0", "leaks", {"hardware": ["esp32"]}, ReleaseRefused, "some of: nrf51-a, nrf52-b, got 'esp32'"),
        ("1.1.0", "leaks", {"hardware": SECOND}, ReleaseRefused, "which is for nrf51-a too"),
        ("1.1.0", "", {}, ContentRefused, "reason: expected 1 to 256 characters"),
        ("1.1.0", "x" * (MAX_REASON + 1), {}, ContentRefused, "got 257 characters"),
        ("1.1.0", "leaks\n", {}, ContentRefused, "U+000A"),
        ("1.1.0", "\x1b[1mleaks", {}, ContentRefused, "U+001B"),
        ("1.1.0", "leaks \u202etest", {}, ContentRefused, "U+202E"),
        ("1.1.0", "le\u200baks", {}, ContentRefused, "U+200B"),
    ],
)
def test_a_withdrawal_that_is_not_clear_is_refused_and_nothing_changes(
    repository: Repository, version: str, reason: str, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    before = tree(repository.folder.path)
    with pytest.raises(error) as refused:
        withdraw(repository, "pump", version, reason, NOW, **options)
    assert says in str(refused.value)
    assert tree(repository.folder.path) == before


def test_only_what_was_published_is_withdrawn_and_only_once(repository: Repository) -> None:
    with pytest.raises(ProductRefused):
        withdraw(repository, "valve", "1.0.0", "leaks", NOW)
    add_release(repository, "pump", image("1.3.0", 2, edits=3), BOTH, NOW)
    before = tree(repository.folder.path)
    with pytest.raises(ReleaseRefused, match="a published release, got a draft"):
        withdraw(repository, "pump", "1.3.0", "leaks", NOW)
    assert tree(repository.folder.path) == before
    withdraw(repository, "pump", "1.2.0", "leaks", NOW)
    before = tree(repository.folder.path)
    with pytest.raises(ReleaseRefused, match="withdrawn before: leaks"):
        withdraw(repository, "pump", "1.2.0", "does not leak", NOW)
    assert tree(repository.folder.path) == before


def test_a_version_of_several_components_needs_a_name_and_of_several_boards_goes_together(
    repository: Repository,
) -> None:
    release(repository, image("1.2.0", 1, 7), wish=RADIO)
    before = tree(repository.folder.path)
    with pytest.raises(ReleaseRefused, match="one component, got app, radio"):
        withdraw(repository, "pump", "1.2.0", "deaf", NOW)
    assert tree(repository.folder.path) == before
    assert withdraw(repository, "pump", "1.2.0", "deaf", NOW, component="radio").paths == ("pump/1.2.0/radio.bin",)
    for name, at in (("a.bin", 0), ("b.bin", 1)):
        add_release(
            repository, "pump", image("2.0.0", 2, at + 20), replace(BOTH, file_name=name, hardware=(HARDWARE[at],)), NOW
        )
    publish(repository)
    one = withdraw(repository, "pump", "2.0.0", "hot", NOW, hardware=SECOND)
    assert one.paths == ("pump/2.0.0/b.bin",)
    rest = withdraw(repository, "pump", "2.0.0", "hot", NOW)
    assert rest.paths == ("pump/2.0.0/a.bin",)


def test_a_withdrawal_that_brings_back_what_was_stepped_down_from_is_refused(repository: Repository) -> None:
    down = replace(BOTH, downgrade_from=(Version.parse("1.2.0"),))
    release(repository, image("1.1.5", 2, edits=5), wish=down)
    before = tree(repository.folder.path)
    with pytest.raises(ReleaseRefused, match=r"pump/1.2.0/app.bin: expected .* passed over") as refused:
        withdraw(repository, "pump", "1.1.5", "worse", NOW)
    assert refused.value.hint == "if it must not be installed, withdraw 1.2.0 first"
    assert tree(repository.folder.path) == before
    withdraw(repository, "pump", "1.2.0", "leaks", NOW)
    publish(repository)
    assert ways(repository, "1.1.5") == [("nrf51-a, nrf52-b", "None", ["1.1.0"])]


@pytest.mark.slow
def test_who_is_left_without_a_set_or_a_requirement_is_named(repository: Repository) -> None:
    items = [
        (image("2.0.0", 2, edits=6), replace(BOTH, set="summer")),
        (image("2.0.0", 1, 7), replace(RADIO, set="summer")),
    ]
    add_releases(repository, "pump", items, NOW)
    publish(repository)
    done = withdraw(repository, "pump", "2.0.0", "deaf", NOW, component="radio")
    assert [text.partition(": ")[0] for text in done.warnings] == ["pump/2.0.0/app.bin"]
    assert "pump/2.0.0/radio.bin is withdrawn" in done.warnings[0]


# --- a withdrawal is never undone -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("by", ["dropping the field", "taking hardware away", "another image"])
def test_a_draft_that_undoes_a_withdrawal_is_neither_shown_for_signing_nor_published(
    repository: Repository, by: str
) -> None:
    withdraw(repository, "pump", "1.2.0", "leaks", NOW)
    publish(repository)
    add_release(repository, "pump", image("1.3.0", 2, edits=3), BOTH, NOW)

    def change(signed: dict[str, Any]) -> None:
        entry = signed["targets"]["pump/1.2.0/app.bin"]
        if by == "dropping the field":
            del entry["custom"]["hillhold"]["withdrawn"]
        elif by == "taking hardware away":
            entry["custom"]["hillhold"]["hardware"] = ["nrf51-a"]
        else:
            entry["hashes"]["sha256"] = "00" * 32

    rewrite(repository, "pump", change)
    with pytest.raises(ReleaseRefused, match=r"a withdrawal undone|the same bytes as in the version before"):
        shown(repository)
    sign_all(repository, "release-1", "release-2")
    before = tree(repository.folder.public)
    with pytest.raises(ReleaseRefused, match=r"a withdrawal undone|the same bytes as in the version before"):
        repository.publish(online(), NOW)
    assert tree(repository.folder.public) == before


def test_a_withdrawn_image_does_not_come_back_under_another_name(repository: Repository) -> None:
    withdraw(repository, "pump", "1.2.0", "leaks", NOW)
    publish(repository)
    before = tree(repository.folder.path)
    for name in ("app.bin", "new.bin"):
        with pytest.raises(ReleaseRefused):
            add_release(repository, "pump", image("1.2.0", 2, edits=2), replace(BOTH, file_name=name), NOW)
        with pytest.raises(ReleaseRefused, match="withdrawn"):
            change_hardware(repository, "pump", "1.2.0", NOW, remove=SECOND)
    assert tree(repository.folder.path) == before


# --- hardware ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def third(repository: Repository) -> Repository:
    """With a third board, for which 0.9.0 (counter 3) is listed."""
    set_caps(repository, "pump", NOW, hardware=lambda known: (*known, "nrf54-c"))
    sign_all(repository, "targets-1", "targets-2")
    release(repository, image("0.9.0", 3, 9), wish=Wish("app.bin", hardware=("nrf54-c",)))
    return repository


@pytest.mark.slow
def test_hardware_is_added_with_patches_and_taken_away(third: Repository) -> None:
    release(third, image("1.3.0", 3, 9, edits=1), wish=replace(BOTH, hardware=HARDWARE[:1]))
    done = change_hardware(third, "pump", "1.3.0", NOW, add=["nrf54-c", "nrf52-b"])
    assert [sorted(item.hardware) for item in done.releases] == [["nrf51-a", "nrf52-b", "nrf54-c"]]
    assert [entry.path.rpartition("/")[0] for entry in done.patches] == ["pump/1.3.0"]
    (line,) = [line for line in shown(third) if line.startswith("~ ")]
    assert "for nrf51-a and nrf52-b and nrf54-c" in line
    assert line.endswith("; before: for nrf51-a")
    publish(third)
    done = change_hardware(third, "pump", "1.3.0", NOW, remove=["nrf51-a"])
    assert [sorted(item.hardware) for item in done.releases] == [["nrf52-b", "nrf54-c"]]
    publish(third)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "options", "says"),
    [
        ("1.2.0", {"add": ["esp32"]}, "some of: nrf51-a, nrf52-b, nrf54-c, got 'esp32'"),
        ("1.2.0", {"add": ["nrf54-c"]}, "security counter: expected at least 3, got 2"),
        ("0.9.0", {"add": ["nrf51-a"]}, "version: expected above 1.2.0, got 0.9.0"),
        ("1.2.0", {"add": ["nrf51-a"]}, "others than nrf51-a, nrf52-b, got nrf51-a"),
        ("1.2.0", {"remove": ["nrf54-c"]}, "some of: nrf51-a, nrf52-b, got 'nrf54-c'"),
        ("1.2.0", {"remove": list(HARDWARE)}, "at least one id, got none"),
        ("1.2.0", {}, "ids to add or to remove"),
        ("1.2.0", {"add": ["nrf54-c"], "remove": ["nrf54-c"]}, "ids to add or to remove"),
        ("1.5.0", {"add": ["nrf54-c"]}, "a listed release"),
        ("1.2.0", {"add": ["nrf54-c"], "file_name": "other.bin"}, "a listed release"),
    ],
)
def test_hardware_that_devices_would_refuse_is_refused(
    third: Repository, version: str, options: dict[str, Any], says: str
) -> None:
    before = tree(third.folder.path)
    with pytest.raises(ReleaseRefused) as refused:
        change_hardware(third, "pump", version, NOW, **options)
    assert says in str(refused.value)
    assert tree(third.folder.path) == before


@pytest.mark.slow
def test_the_same_version_of_another_image_is_not_for_the_same_board(third: Repository) -> None:
    add_release(third, "pump", image("1.2.0", 3, 9, edits=4), Wish("c.bin", hardware=("nrf54-c",)), NOW)
    before = tree(third.folder.path)
    with pytest.raises(ReleaseRefused, match=r"one release, got app.bin, c.bin"):
        change_hardware(third, "pump", "1.2.0", NOW, add=["nrf54-c"])
    with pytest.raises(ReleaseRefused, match=r"1.2.0, which is listed already"):
        change_hardware(third, "pump", "1.2.0", NOW, add=["nrf54-c"], file_name="app.bin")
    assert tree(third.folder.path) == before


@pytest.mark.slow
def test_a_set_changes_its_hardware_as_a_whole(third: Repository) -> None:
    items = [
        (image("2.0.0", 3, edits=6), replace(BOTH, set="summer")),
        (image("2.1.0", 1, 7), replace(RADIO, set="summer")),
    ]
    add_releases(third, "pump", items, NOW)
    done = change_hardware(third, "pump", "2.0.0", NOW, add=["nrf54-c"], remove=["nrf51-a"])
    assert {(item.path, *sorted(item.hardware)) for item in done.releases} == {
        ("pump/2.0.0/app.bin", "nrf52-b", "nrf54-c"),
        ("pump/2.1.0/radio.bin", "nrf52-b", "nrf54-c"),
    }


def test_hardware_is_not_taken_from_what_devices_stepped_down_to(repository: Repository) -> None:
    down = replace(BOTH, downgrade_from=(Version.parse("1.2.0"),))
    release(repository, image("1.1.5", 2, edits=5), wish=down)
    before = tree(repository.folder.path)
    with pytest.raises(ReleaseRefused, match="makes it installable again"):
        change_hardware(repository, "pump", "1.1.5", NOW, remove=SECOND)
    assert tree(repository.folder.path) == before


# --- listing ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_list_says_what_is_published_drafted_and_changed(patched: Repository) -> None:
    withdraw(patched, "pump", "1.2.0", "leaks", NOW, step_down_to="1.1.0")
    add_release(patched, "pump", image("1.0.0", 1, 7), replace(RADIO, requires={"app": Version.parse("1.1.0")}), NOW)
    found = [
        (item.release.component, str(item.release.version), item.where) for item in listing(patched.state(), "pump")
    ]
    assert found == [
        ("app", "1.0.0", "published"),
        ("app", "1.1.0", "changed"),
        ("app", "1.2.0", "changed"),
        ("radio", "1.0.0", "drafted"),
    ]
    one = next(item for item in listing(patched.state(), "pump") if str(item.release.version) == "1.1.0")
    assert list(map(str, one.patches)) == ["1.0.0", "1.2.0"]
    with pytest.raises(ProductRefused):
        listing(patched.state(), "valve")
