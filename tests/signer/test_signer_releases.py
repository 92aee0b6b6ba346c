"""What `add` refuses before anyone signs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hillhold_signer import Repository, Wish, add_release
from hillhold_signer import releases as releases_module
from hillhold_signer.errors import ContentRefused, ProductRefused, ReleaseRefused
from workshop import HARDWARE, NOW, image, release, started, tree

WISH = Wish("app.bin", hardware=HARDWARE)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A line with release 1.1.0, counter 5."""
    found = started(tmp_path / "repo")
    release(found, image("1.1.0", 5), wish=WISH)
    return found


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
        (("1.1.0", 5), WISH, "the same file, which is there already"),
        (("1.1.0", 5, 2), WISH, "a new name, got another file"),
    ],
)
def test_refused_and_nothing_changes(
    repository: Repository, data: tuple[str, int | None, int], wish: Wish, says: str
) -> None:
    before = tree(repository.layout.path)
    with pytest.raises(ReleaseRefused) as refused:
        add_release(repository, "pump", image(*data), wish, NOW)
    assert says in str(refused.value)
    assert tree(repository.layout.path) == before


def test_an_image_without_a_counter_gets_the_setting_that_adds_one(repository: Repository) -> None:
    with pytest.raises(ReleaseRefused) as refused:
        add_release(repository, "pump", image("1.2.0", None), WISH, NOW)
    assert refused.value.hint
    assert "CONFIG_MCUBOOT_EXTRA_IMGTOOL_ARGS" in refused.value.hint


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
    none = add_release(repository, "pump", image("1.4.0", 5, edits=4), WISH, NOW, patches=False)
    assert not none.patches


def test_text_that_must_not_be_signed_stops_a_draft_and_leaves_the_old_one(repository: Repository) -> None:
    from hillhold_signer.drafts import Drafts

    line = repository.state().line("pump")
    line.version += 1
    line.unrecognized_fields["x-note"] = "a\x1b[2Jb"
    with pytest.raises(ContentRefused, match=r"U\+001B"):
        Drafts(repository.layout).save("pump", line, ())
    assert not repository.state().drafts
