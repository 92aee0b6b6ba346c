"""What `add` refuses before anyone signs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hillhold_signer import Repository, Wish, add_release
from hillhold_signer import releases as releases_module
from hillhold_signer.adding import add_releases
from hillhold_signer.documents import Document
from hillhold_signer.errors import ContentRefused, ProductRefused, ReleaseRefused
from hillhold_signer.lines import set_caps
from hillhold_signer.patching import NO_PATCHES
from hillhold_signer.removing import remove_release
from hillhold_signer.withdrawing import withdraw
from hillhold_verifier.release import Version
from workshop import HARDWARE, NOW, image, online, release, sign_all, started, tree

WISH = Wish("app.bin", hardware=HARDWARE)
RADIO = Wish("radio.bin", hardware=HARDWARE, component="radio")


def v(text: str) -> Version:
    return Version.parse(text)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A line with release 1.1.0, counter 5."""
    found = started(tmp_path / "repo")
    release(found, image("1.1.0", 5), wish=WISH)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "wish", "says"),
    [
        (("1.0.0", 5), WISH, "version: expected above 1.1.0, got 1.0.0"),
        (("1.1.0", 5, 2), replace(WISH, file_name="b.bin"), "which is listed already"),
        (("1.1.0", 5, 2), replace(WISH, file_name="b.bin", allow_lower=True), "which is listed already"),
        (("1.2.0", 4), WISH, "security counter: expected at least 5, got 4"),
        (("1.0.0", 4), replace(WISH, allow_lower=True), "security counter: expected at least 5, got 4"),
        (("1.2.0", 101), WISH, "at most 100, which the delegation allows, got 101"),
        (("1.2.0", None), WISH, "a security counter, got none"),
        (("1.2.0", 5), replace(WISH, hardware=("esp32",)), "some of: nrf51-a, nrf52-b, got 'esp32'"),
        (("1.2.0", 5), replace(WISH, hardware=()), "some of: nrf51-a, nrf52-b, got none"),
        (("1.2.0", 5), replace(WISH, file_name="App.bin"), "file name"),
        (("1.2.0", 5), replace(WISH, file_name="a\x1b[2J"), "file name"),
        (("1.2.0", 5), replace(WISH, file_name="../../etc"), "file name"),
        (("1.2.0", 5), replace(WISH, file_name=".bin"), "file name"),
        (("1.2.0", 5), replace(WISH, component="Radio\n"), "component"),
        (("1.2.0", 5), replace(WISH, kind="urgent"), "kind"),
        (("1.1.0", 5), replace(WISH, kind="security"), "a new name, got the same file, listed otherwise (kind)"),
        (("1.1.0", 5), replace(WISH, hardware=HARDWARE[:1]), "listed otherwise (hardware)"),
        (("1.1.0", 5), replace(WISH, source="a@b"), "listed otherwise (source)"),
        (("1.1.0", 5), replace(WISH, notes=Document("n", b"x")), "listed otherwise (notes)"),
        (("1.1.0", 5), replace(WISH, downgrade_from=(v("2.0.0"),)), "listed otherwise (downgrade_from)"),
        (("1.1.0", 5), replace(WISH, file_name="pump.bin"), "1.1.0, which is listed already"),
        (("1.1.0", 5, 2), WISH, "a new name, got another file"),
        (("1.2.0", 5), replace(WISH, requires={"radio": v("2.0.0")}), "requires radio 2.0.0; there would be none"),
        (("1.2.0", 5), replace(WISH, requires={"app": v("1.0.0")}), "other components, got app itself"),
        (("1.2.0", 5), replace(WISH, requires={"ra dio": v("1.0.0")}), "requires: expected lowercase letters"),
        (("1.2.0", 5), replace(WISH, set="summer"), "belongs to the set summer, of which no other release is listed"),
        (("1.2.0", 5), replace(WISH, set="Summer\u202e"), "set: expected lowercase letters"),
        (("1.0.0", 5), replace(WISH, downgrade_from=(v("1.0.0"),)), "a version above 1.0.0, got 1.0.0"),
        (("1.0.0", 5), replace(WISH, downgrade_from=(v("0.9.0"),)), "a version above 1.0.0, got 0.9.0"),
        (
            ("1.0.0", 5),
            replace(WISH, downgrade_from=(v("1.0.5"),)),
            "a listed version for this place: 1.1.0, got 1.0.5",
        ),
        (("1.0.0", 4), replace(WISH, downgrade_from=(v("1.1.0"),)), "security counter: expected at least 5, got 4"),
        (("1.0.0", 5), replace(WISH, component="radio", downgrade_from=(v("1.1.0"),)), "place: none, got 1.1.0"),
    ],
)
def test_refused_and_nothing_changes(
    repository: Repository, data: tuple[str, int | None, int], wish: Wish, says: str
) -> None:
    before = tree(repository.folder.path)
    with pytest.raises(ReleaseRefused) as refused:
        add_release(repository, "pump", image(*data), wish, NOW)
    assert says in str(refused.value)
    assert tree(repository.folder.path) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("a\x1b[2Jb", "U+001B"),
        ("a\nb", "U+000A"),
        ("a\x7f", "U+007F"),
        ("a\x9b2J", "U+009B"),
        ("git@\u202etig", "U+202E"),
        ("git\u200b", "U+200B"),
        ("git\u2066x", "U+2066"),
        ("\ufeffgit", "U+FEFF"),
        ("git\u2028x", "U+2028"),
        ("git\U000e0041x", "U+E0041"),
        ("git\u3164x", "U+3164"),
        ("git\ud800", "U+D800"),
        ("", "1 to 512 characters"),
        (" git", "without spaces around them"),
        ("x" * 513, "got 513 characters"),
    ],
)
def test_text_that_people_cannot_see_is_refused(repository: Repository, source: str, says: str) -> None:
    before = tree(repository.folder.path)
    with pytest.raises(ContentRefused) as refused:
        add_release(repository, "pump", image("1.2.0", 5), replace(WISH, source=source), NOW)
    assert says in str(refused.value)
    assert tree(repository.folder.path) == before


def test_words_of_any_language_are_no_control_characters(repository: Repository) -> None:
    source = "https://git.example/Prüfstand/פמפה@0123 (ポンプ 🫀)"
    added = add_release(repository, "pump", image("1.2.0", 5), replace(WISH, source=source), NOW)
    assert added.target.custom["hillhold"]["source"] == source


def test_an_image_without_a_counter_gets_the_setting_that_adds_one(repository: Repository) -> None:
    with pytest.raises(ReleaseRefused) as refused:
        add_release(repository, "pump", image("1.2.0", None), WISH, NOW)
    assert refused.value.hint
    assert 'CONFIG_MCUBOOT_EXTRA_IMGTOOL_ARGS="--security-counter N"' in refused.value.hint
    assert "CONFIG_MCUBOOT_HW_DOWNGRADE_PREVENTION_COUNTER_VALUE=N" in refused.value.hint


def test_a_file_that_is_no_image_or_too_large(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ReleaseRefused, match="image magic"):
        add_release(repository, "pump", b"\x7fELF" + bytes(100), WISH, NOW)
    with pytest.raises(ReleaseRefused, match="within 3 bytes"):
        add_release(repository, "pump", b"abc", WISH, NOW)
    monkeypatch.setattr(releases_module, "MAX_IMAGE", 1000)
    with pytest.raises(ReleaseRefused, match="at most 1000 bytes"):
        add_release(repository, "pump", image("1.2.0", 5), WISH, NOW)
    assert not repository.state().drafts


def test_an_unknown_line(repository: Repository) -> None:
    for name in ("valve", "targets", "root", "../pump"):
        with pytest.raises(ProductRefused, match="one of: pump"):
            add_release(repository, name, image("1.2.0", 5), WISH, NOW)


def test_a_downgrade_for_a_demonstration_must_be_called_one(repository: Repository) -> None:
    added = add_release(repository, "pump", image("1.0.0", 5), replace(WISH, allow_lower=True), NOW)
    assert added.target.path == "pump/1.0.0/app.bin"


def test_other_hardware_or_another_component_has_an_order_of_its_own(repository: Repository) -> None:
    wish = Wish("radio.bin", hardware=HARDWARE[:1], component="radio", kind="security")
    added = add_release(repository, "pump", image("0.1.0", 1), wish, NOW)
    custom = added.target.custom["hillhold"]
    assert custom["component"] == "radio"
    assert custom["kind"] == "security"
    assert custom["hardware"] == [HARDWARE[0]]
    assert not added.patches
    assert "component" not in repository.state().line("pump").targets["pump/1.1.0/app.bin"].custom["hillhold"]


def test_patches_come_from_releases_that_run_in_the_same_place_and_only_where_they_pay(repository: Repository) -> None:
    near = add_release(repository, "pump", image("1.2.0", 5, edits=3), WISH, NOW)
    assert [item.path.rpartition("/")[2][:8] for item in near.patches] == ["app.bin."]
    far = add_release(repository, "pump", image("1.3.0", 5, seed=9), WISH, NOW)
    assert not far.patches  # nothing in common: a patch would be as large as the image
    none = add_release(repository, "pump", image("1.4.0", 5, edits=4), WISH, NOW, patch_from=NO_PATCHES)
    assert not none.patches


def test_text_that_must_not_be_signed_stops_a_draft_and_leaves_the_old_one(repository: Repository) -> None:
    from hillhold_signer.drafts import Drafts

    line = repository.state().line("pump")
    line.version += 1
    line.unrecognized_fields["x-note"] = "a\x1b[2Jb"
    with pytest.raises(ContentRefused, match=r"U\+001B"):
        Drafts(repository.layout).save("pump", line, ())
    assert not repository.state().drafts


# --- several components -----------------------------------------------------------------------------------------------


def test_a_requirement_is_met_by_what_is_listed_or_added_with_it(repository: Repository) -> None:
    needs = replace(WISH, requires={"radio": v("2.0.0")})
    both = add_releases(repository, "pump", [(image("1.2.0", 5), needs), (image("2.0.0", 1, 7), RADIO)], NOW)
    assert both[0].target.custom["hillhold"]["requires"] == {"radio": "2.0.0"}
    later = add_release(repository, "pump", image("1.3.0", 5), replace(needs, requires={"radio": v("1.0.0")}), NOW)
    assert later.target.path == "pump/1.3.0/app.bin"


def test_a_requirement_must_be_met_on_all_hardware_that_is_named(repository: Repository) -> None:
    add_release(repository, "pump", image("2.0.0", 1, 7), replace(RADIO, hardware=HARDWARE[:1]), NOW)
    before = tree(repository.folder.path)
    needs = replace(WISH, requires={"radio": v("2.0.0")})
    with pytest.raises(
        ReleaseRefused, match=r"a device \(nrf52-b\) comes to, got requires radio 2.0.0; there would be"
    ):
        add_release(repository, "pump", image("1.2.0", 5), needs, NOW)
    assert tree(repository.folder.path) == before
    add_release(repository, "pump", image("1.2.0", 5), replace(needs, hardware=HARDWARE[:1]), NOW)


def test_releases_that_wait_for_each_other_are_refused_unless_they_are_a_set(repository: Repository) -> None:
    add_release(repository, "pump", image("1.0.0", 1, 7), RADIO, NOW)
    app = replace(WISH, requires={"radio": v("2.0.0")})
    radio = replace(RADIO, requires={"app": v("1.2.0")})
    items = [(image("1.2.0", 5), app), (image("2.0.0", 1, 8), radio)]
    before = tree(repository.folder.path)
    with pytest.raises(ReleaseRefused, match=r"requires radio 2.0.0; there would be 1.0.0"):
        add_releases(repository, "pump", items, NOW)
    assert tree(repository.folder.path) == before
    done = add_releases(repository, "pump", [(data, replace(wish, set="summer")) for data, wish in items], NOW)
    assert [item.target.custom["hillhold"]["set"] for item in done] == ["summer", "summer"]


def test_a_set_takes_one_release_for_a_component(repository: Repository) -> None:
    items = [(image("1.2.0", 5), replace(WISH, set="s")), (image("1.0.0", 1, 7), replace(RADIO, set="s"))]
    add_releases(repository, "pump", items, NOW)
    before = tree(repository.folder.path)
    with pytest.raises(ReleaseRefused, match="two releases are for one component"):
        add_release(repository, "pump", image("1.3.0", 5), replace(WISH, set="s"), NOW)
    one = [(image("1.3.0", 5), replace(WISH, set="t")), (image("2.0.0", 1, 7), replace(RADIO, set="t"))]
    halves = [(data, replace(wish, hardware=(HARDWARE[at],))) for at, (data, wish) in enumerate(one)]
    with pytest.raises(ReleaseRefused, match="no other release is listed"):
        add_releases(repository, "pump", halves, NOW)
    assert tree(repository.folder.path) == before


def test_of_several_releases_all_are_added_or_none(repository: Repository) -> None:
    before = tree(repository.folder.path)
    with pytest.raises(ReleaseRefused, match=r"expected above 1.1.0"):
        add_releases(repository, "pump", [(image("1.0.0", 1, 7), RADIO), (image("1.0.9", 5), WISH)], NOW)
    assert tree(repository.folder.path) == before


# --- steps down -------------------------------------------------------------------------------------------------------


def test_an_older_version_may_be_added_as_a_signed_step_down_from_the_newest(repository: Repository) -> None:
    added = add_release(
        repository, "pump", image("1.0.9", 5, edits=2), replace(WISH, downgrade_from=(v("1.1.0"),)), NOW
    )
    assert added.target.custom["hillhold"]["downgrade_from"] == ["1.1.0"]
    assert len(added.patches) == 1


def test_a_step_down_that_a_device_would_leave_again_at_once_is_refused(repository: Repository) -> None:
    release(repository, image("1.2.0", 5, edits=1), wish=WISH)
    before = tree(repository.folder.path)
    down = replace(WISH, downgrade_from=(v("1.2.0"),))
    with pytest.raises(ReleaseRefused, match=r"on 1.2.0 comes to, got .*it ends on 1.1.0"):
        add_release(repository, "pump", image("1.0.0", 5, edits=2), down, NOW)
    up = replace(WISH, downgrade_from=(v("1.1.0"),))
    with pytest.raises(ReleaseRefused, match=r"it ends on 1.2.0"):
        add_release(repository, "pump", image("1.0.0", 5, edits=2), up, NOW)
    assert tree(repository.folder.path) == before
    both = replace(WISH, downgrade_from=(v("1.2.0"), v("1.1.0")))
    added = add_release(repository, "pump", image("1.0.0", 5, edits=2), both, NOW)
    assert added.target.custom["hillhold"]["downgrade_from"] == ["1.1.0", "1.2.0"]


def test_hardware_that_joined_the_line_has_no_past(repository: Repository) -> None:
    set_caps(repository, "pump", NOW, hardware=lambda known: (*known, "nrf54-c"))
    added = add_release(repository, "pump", image("0.1.0", 1), replace(WISH, hardware=("nrf54-c",)), NOW)
    assert added.target.path == "pump/0.1.0/app.bin"


def test_the_same_once_more_changes_nothing_and_says_how_far_it_is(repository: Repository) -> None:
    wish = replace(WISH, kind="security", source="git@12", notes=Document("notes.txt", b"quieter"))
    first = add_release(repository, "pump", image("1.2.0", 5, edits=3), wish, NOW)
    before = tree(repository.folder.path)
    again = add_release(repository, "pump", image("1.2.0", 5, edits=3), wish, NOW + 60)
    assert (first.repeated, again.repeated, first.version, again.version) == (False, True, 3, 3)
    assert (again.target, again.patches) == (first.target, first.patches)
    assert first.patches
    assert tree(repository.folder.path) == before
    sign_all(repository, "release-1", "release-2")
    repository.publish(online(), NOW)
    release(repository, image("1.3.0", 6), wish=WISH)
    before = tree(repository.folder.path)
    late = add_release(repository, "pump", image("1.2.0", 5, edits=3), wish, NOW + 120)
    assert (late.repeated, late.version, late.target) == (True, None, first.target)
    assert tree(repository.folder.path) == before


@pytest.mark.slow
def test_what_was_taken_out_or_withdrawn_since_is_not_there_already(repository: Repository) -> None:
    withdraw(repository, "pump", "1.1.0", "it stops", NOW)
    with pytest.raises(ReleaseRefused, match=r"listed otherwise \(withdrawn\)"):
        add_release(repository, "pump", image("1.1.0", 5), WISH, NOW)
    add_release(repository, "pump", image("1.2.0", 5), WISH, NOW)
    remove_release(repository, "pump", "1.2.0", NOW)
    assert not add_release(repository, "pump", image("1.2.0", 5), WISH, NOW).repeated


def test_a_set_of_which_only_a_part_is_there_is_no_repetition(repository: Repository) -> None:
    radio = (image("2.0.0", 1, 7), RADIO)
    assert not add_releases(repository, "pump", [radio], NOW)[0].repeated
    both = [radio, (image("1.2.0", 5), WISH)]
    before = tree(repository.folder.path)
    with pytest.raises(ReleaseRefused, match=r"radio\.bin: expected a new name, got the same file, which is there"):
        add_releases(repository, "pump", both, NOW)
    assert tree(repository.folder.path) == before
    add_releases(repository, "pump", both[1:], NOW)
    assert [item.repeated for item in add_releases(repository, "pump", both, NOW)] == [True, True]


@pytest.mark.slow
def test_documents_that_would_now_be_published_are_not_dropped_without_a_word(repository: Repository) -> None:
    item = (image("1.2.0", 5), replace(WISH, notes=Document("notes.txt", b"quieter")))
    add_releases(repository, "pump", [item], NOW)
    before = tree(repository.folder.path)
    with pytest.raises(ReleaseRefused, match=r"pump/1\.2\.0/notes\.txt: expected listed beside its release, got none"):
        add_releases(repository, "pump", [item], NOW, with_documents=True)
    assert tree(repository.folder.path) == before
    item = (image("1.3.0", 5), item[1])
    first = add_releases(repository, "pump", [item], NOW, with_documents=True)[0]
    again = add_releases(repository, "pump", [item], NOW, with_documents=True)[0]
    assert (again.repeated, again.documents) == (True, first.documents)
