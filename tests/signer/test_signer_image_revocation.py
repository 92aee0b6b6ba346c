"""An image key that was stolen: root's quorum revokes it, people see it, and nothing under it is added any more."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from securesystemslib.signer import CryptoSigner

from command import hillhold
from hillhold_signer import Caps, ImagePlan, Product, Repository, Wish, add_product, add_release, sign_image
from hillhold_signer.difference import difference, label
from hillhold_signer.errors import (
    ContentRefused,
    KeyRefused,
    MergeRefused,
    QuorumRefused,
    ReleaseRefused,
    RepositoryRefused,
    RotationRefused,
)
from hillhold_signer.image_keys import add_image_keys
from hillhold_signer.image_revocation import revoke_image_key
from hillhold_signer.keys import fingerprint, public_pem
from hillhold_signer.merging import merge
from hillhold_signer.revocation import read_revoked, revoked_image_keys
from hillhold_signer.roots import renew, revoke, rotate
from hillhold_signer.rotation import named_image_keys
from hillhold_signer.status import Status, status
from hillhold_verifier.metadata import MAX_REVOKED, REVOKED_IMAGE_KEYS, parse_root
from workshop import HARDWARE, NOW, ceremony, firmware, online, rewrite, sign_all, started, team, tree

WISH = Wish("app.bin", hardware=HARDWARE[:1])
WHY = "the build machine was broken into"


@cache
def signer(name: str) -> CryptoSigner:
    return CryptoSigner(ed25519.Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32)))


def mark(name: str) -> str:
    return fingerprint(signer(name).public_key)


def signed(name: str, version: str) -> bytes:
    return sign_image(firmware(1), ImagePlan(version, 1, 512, 0x20000, True), signer(name), demo=True)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """The line pump notes the image keys `old` and `new`, the line valve `old` alone."""
    found = started(tmp_path / "repo")
    add_product(found, Product("valve", team("release-1", threshold=1), Caps(HARDWARE)), NOW)
    add_image_keys(found, "pump", [signer("old").public_key, signer("new").public_key], NOW)
    add_image_keys(found, "valve", [signer("old").public_key], NOW)
    return found


def judged(repository: Repository, now: int = NOW) -> Status:
    config, notes = repository.config(), read_revoked(repository.layout)
    return status(repository.state(), repository.people(), now, config.expiry, notes, demo=True)


def published(repository: Repository) -> frozenset[bytes]:
    number = repository.published_root().version
    return parse_root(
        (repository.folder.public / f"metadata/{number}.root.json").read_bytes()
    ).signed.revoked_image_keys


# --- the way ----------------------------------------------------------------------------------------------------------


def test_roots_quorum_revokes_an_image_key_and_devices_read_it(repository: Repository) -> None:
    done = revoke_image_key(repository, mark("old")[:8], WHY, NOW)
    assert (done.new.version, done.fingerprint, done.lines, done.bare) == (
        2,
        mark("old"),
        ("pump", "valve"),
        ("valve",),
    )
    assert published(repository) == frozenset()
    sign_all(repository, "root-1", "root-2", "targets-1", "targets-2", "release-1")
    repository.publish(online(), NOW)
    assert published(repository) == {bytes.fromhex(mark("old"))}
    revoke_image_key(repository, mark("new"), WHY, NOW)
    sign_all(repository, "root-1", "root-2")
    repository.publish(online(), NOW)
    assert published(repository) == {bytes.fromhex(mark(name)) for name in ("old", "new")}


def test_without_roots_quorum_nothing_is_published(repository: Repository) -> None:
    revoke_image_key(repository, mark("old"), WHY, NOW)
    sign_all(repository, "root-1", "targets-1", "targets-2", "release-1")
    with pytest.raises(QuorumRefused, match="root has old root 1 of 2"):
        repository.publish(online(), NOW)
    assert published(repository) == frozenset()


def test_people_see_what_they_sign(repository: Repository) -> None:
    done = revoke_image_key(repository, mark("old"), WHY, NOW)
    shown = [str(change) for change in difference("root", done.old, done.new, label({}))]
    assert shown[-1] == f"+ revoked image key: fingerprint {mark('old')}"
    back = [str(change) for change in difference("root", done.new, done.old or done.new, label({}))]
    assert back[-1].startswith("! image key no longer revoked, though devices may have dropped it")


def test_a_list_in_another_form_is_shown_as_it_stands(repository: Repository) -> None:
    done = revoke_image_key(repository, mark("old"), WHY, NOW)
    for value in ("none", [1], [mark("old"), mark("old")], ["x" * 64], [f"{n:064x}" for n in range(65)]):
        done.new.unrecognized_fields[REVOKED_IMAGE_KEYS] = value
        last = str(difference("root", done.old, done.new, label({}))[-1])
        assert last.startswith(f"! root {REVOKED_IMAGE_KEYS}: ")
        with pytest.raises(RepositoryRefused):
            named_image_keys(done.new)


def test_a_list_that_devices_would_not_read_is_not_published(repository: Repository) -> None:
    revoke_image_key(repository, mark("old"), WHY, NOW)
    rewrite(repository, "root", lambda value: value.update({REVOKED_IMAGE_KEYS: [mark("old").upper()]}))
    sign_all(repository, "root-1", "root-2", "targets-1", "targets-2", "release-1")
    with pytest.raises(RepositoryRefused):
        repository.publish(online(), NOW)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("start", ["", "abcdefg", "0" * 63, "x" * 64, mark("old")[:7], "../" + "0" * 61])
def test_a_fingerprint_that_no_line_knows_is_refused(repository: Repository, start: str, unknown: bool) -> None:
    before = tree(repository.folder.path)
    with pytest.raises(RotationRefused, match=f"one of: .*{mark('new')[:16]}"):
        revoke_image_key(repository, start, WHY, NOW, unknown=unknown)
    assert tree(repository.folder.path) == before


def test_a_whole_fingerprint_that_no_line_knows_is_revoked_if_that_is_said(repository: Repository) -> None:
    with pytest.raises(RotationRefused) as caught:
        revoke_image_key(repository, "a" * 64, WHY, NOW)
    assert "--unknown" in (caught.value.hint or "")
    done = revoke_image_key(repository, "A" * 64, WHY, NOW, unknown=True)
    assert (done.lines, named_image_keys(done.new)) == ((), ("a" * 64,))


def test_twice_is_refused_and_so_is_one_too_many(repository: Repository) -> None:
    revoke_image_key(repository, mark("old"), WHY, NOW)
    with pytest.raises(RotationRefused, match="does not revoke yet, got in version 2"):
        revoke_image_key(repository, mark("old"), WHY, NOW)
    many = sorted({mark("old"), *(f"{n:064x}" for n in range(MAX_REVOKED - 1))})
    rewrite(repository, "root", lambda value: value.update({REVOKED_IMAGE_KEYS: many}))
    with pytest.raises(RotationRefused, match="at most 64, got 65"):
        revoke_image_key(repository, mark("new"), WHY, NOW)


@pytest.mark.parametrize("reason", ["", "x" * 501, "a\nb"])
def test_a_reason_is_asked_for(repository: Repository, reason: str) -> None:
    before = tree(repository.folder.path)
    with pytest.raises((RotationRefused, ContentRefused)):
        revoke_image_key(repository, mark("old"), reason, NOW)
    assert tree(repository.folder.path) == before


def test_nothing_under_a_revoked_key_is_added(repository: Repository) -> None:
    add_release(repository, "pump", signed("old", "1.0.0"), WISH, NOW)
    revoke_image_key(repository, mark("old"), WHY, NOW)
    before = tree(repository.folder.path)
    for line in ("pump", "valve"):
        with pytest.raises(ReleaseRefused, match="which was revoked"):
            add_release(repository, line, signed("old", "1.1.0"), WISH, NOW)
    with pytest.raises(KeyRefused, match="not revoked"):
        add_image_keys(repository, "valve", [signer("old").public_key], NOW)
    assert tree(repository.folder.path) == before
    add_release(repository, "pump", signed("new", "1.1.0"), WISH, NOW)


def test_it_is_refused_too_where_the_line_notes_no_keys(repository: Repository) -> None:
    add_product(repository, Product("fan", team("release-1", threshold=1), Caps(HARDWARE)), NOW)
    add_release(repository, "fan", signed("old", "1.0.0"), WISH, NOW)
    revoke_image_key(repository, mark("old"), WHY, NOW)
    with pytest.raises(ReleaseRefused, match="which was revoked"):
        add_release(repository, "fan", signed("old", "1.1.0"), WISH, NOW)


def test_the_note_alone_and_the_root_alone_are_enough(repository: Repository) -> None:
    revoke_image_key(repository, mark("old"), WHY, NOW)
    shutil.rmtree(repository.folder.drafts / "root")
    assert revoked_image_keys(repository.layout, repository.state()) == {mark("old")}
    with pytest.raises(ReleaseRefused):
        add_release(repository, "pump", signed("old", "1.1.0"), WISH, NOW)
    revoke_image_key(repository, mark("old"), WHY, NOW)
    sign_all(repository, "root-1", "root-2", "targets-1", "targets-2", "release-1")
    repository.publish(online(), NOW)
    shutil.rmtree(repository.folder.revoked)
    with pytest.raises(ReleaseRefused):
        add_release(repository, "pump", signed("old", "1.1.0"), WISH, NOW)


def test_a_revoked_key_of_a_person_is_no_image_key(repository: Repository) -> None:
    revoke(repository, "root-3", "laptop stolen", NOW)
    assert revoked_image_keys(repository.layout, repository.state()) == frozenset()


# --- later roots ------------------------------------------------------------------------------------------------------


def test_no_command_takes_a_revocation_back(repository: Repository) -> None:
    revoke_image_key(repository, mark("old"), WHY, NOW)
    rotate(repository, ceremony(), NOW + 1)  # over the draft
    assert named_image_keys(repository.state().root()) == (mark("old"),)
    sign_all(repository, "root-1", "root-2", "targets-1", "targets-2", "release-1")
    repository.publish(online(), NOW + 1)
    rotate(repository, ceremony(), NOW + 2)  # after it is published
    assert named_image_keys(repository.state().root()) == (mark("old"),)
    sign_all(repository, "root-1", "root-2")
    repository.publish(online(), NOW + 2)
    renew(repository, ["root"], NOW + 3)
    assert named_image_keys(repository.state().root()) == (mark("old"),)
    revoke_image_key(repository, mark("new"), WHY, NOW + 3)
    assert named_image_keys(repository.state().root()) == tuple(sorted([mark("old"), mark("new")]))


def test_two_who_revoke_at_once_lose_nothing(repository: Repository, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(repository.folder.path, other)
    revoke_image_key(repository, mark("old"), WHY, NOW)
    revoke_image_key(Repository(other), mark("new"), WHY, NOW)
    shutil.copytree(other, repository.folder.path, dirs_exist_ok=True)
    both = tuple(sorted([mark("old"), mark("new")]))
    assert named_image_keys(repository.state().root()) == both


@pytest.mark.parametrize(
    ("base", "left", "right", "want"),
    [
        (None, ["a"], ["b"], ["a", "b"]),
        (["a"], ["a", "c"], ["a", "b"], ["a", "b", "c"]),
        (["a"], ["a"], ["a", "b"], ["a", "b"]),
        (None, ["a"], None, ["a"]),
    ],
)
def test_the_merge_takes_what_either_side_revoked(
    repository: Repository, base: list[str] | None, left: list[str] | None, right: list[str] | None, want: list[str]
) -> None:
    value = repository.published_root().to_dict()
    sides = [{**value, **({REVOKED_IMAGE_KEYS: item} if item is not None else {})} for item in (base, left, right)]
    assert merge(*sides)[REVOKED_IMAGE_KEYS] == want
    assert merge(sides[0], sides[2], sides[1])[REVOKED_IMAGE_KEYS] == want


def test_one_side_that_drops_the_list_and_one_that_adds_to_it_clash(repository: Repository) -> None:
    value = repository.published_root().to_dict()
    with pytest.raises(MergeRefused):
        merge({**value, REVOKED_IMAGE_KEYS: ["a"]}, value, {**value, REVOKED_IMAGE_KEYS: ["a", "b"]})


# --- what people are told ---------------------------------------------------------------------------------------------


def test_status_says_so_until_a_root_does(repository: Repository) -> None:
    assert not judged(repository).revoked
    revoke_image_key(repository, mark("old"), WHY, NOW)
    found = judged(repository)
    assert found.late
    assert found.revoked == (
        f"REVOKED: image key {mark('old')[:16]}, 2026-01-01T00:00:00Z: {WHY}; no published root says so yet",
    )
    assert not any("tell bootloaders" in text for text in found.todo)
    assert any(text.startswith("sign root") for text in found.todo)
    draft = repository.folder.drafts / "root"
    kept = {path.name: path.read_bytes() for path in draft.iterdir()}
    shutil.rmtree(draft)
    assert judged(repository).todo[0].startswith(f"tell bootloaders of image key {mark('old')[:16]}")
    draft.mkdir()
    for name, data in kept.items():
        (draft / name).write_bytes(data)
    sign_all(repository, "root-1", "root-2", "targets-1", "targets-2", "release-1")
    repository.publish(online(), NOW)
    assert not judged(repository).late


def test_the_note_is_read_strictly(repository: Repository) -> None:
    revoke_image_key(repository, mark("old"), WHY, NOW)
    path = repository.folder.revoked / mark("old")
    assert json.loads(path.read_bytes()) == {"image": True, "reason": WHY, "since": NOW}
    for image in ("true", 1, None):
        path.write_text(json.dumps({"image": image, "reason": WHY, "since": NOW}))
        with pytest.raises(RepositoryRefused):
            read_revoked(repository.layout)


def test_the_command_says_what_happens_next(repository: Repository) -> None:
    path = repository.folder.path
    done = hillhold("root", "revoke-image-key", path, mark("old")[:16], "--reason", WHY)
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert f"+ revoked image key: fingerprint {mark('old')}" in lines
    assert any(line.startswith("! valve is left without an image key") for line in lines)
    assert not any(line.startswith("! pump") for line in lines)
    assert f"drafted root version 2; no image under {mark('old')[:16]} is added any more" in lines
    again = hillhold("root", "revoke-image-key", path, mark("old"), "--reason", WHY, "--json")
    assert again.exit_code == 1
    assert "error" in json.loads(again.stdout or again.output)


def test_the_command_takes_the_public_keys_file(repository: Repository, tmp_path: Path) -> None:
    path = repository.folder.path
    file = path / "image-keys/pump" / f"{mark('new')}.pub"
    done = hillhold("root", "revoke-image-key", path, file, "--reason", WHY)
    assert f"+ revoked image key: fingerprint {mark('new')}" in done.output
    (tmp_path / "other.pub").write_bytes(public_pem(signer("other").public_key))
    assert hillhold("root", "revoke-image-key", path, tmp_path / "other.pub", "--reason", WHY).exit_code == 1
    (tmp_path / "other.pub").write_bytes(b"none")
    assert hillhold("root", "revoke-image-key", path, tmp_path / "other.pub", "--reason", WHY).exit_code == 1
    assert named_image_keys(repository.state().root()) == (mark("new"),)


def test_the_commands_show_it(repository: Repository) -> None:
    path = repository.folder.path
    done = hillhold("root", "revoke-image-key", path, mark("old"), "--reason", WHY, "--json")
    value = json.loads(done.stdout)
    assert (value["version"], value["fingerprint"], value["lines"]) == (2, mark("old"), ["pump", "valve"])
    assert (value["left_without"], value["revoked_image_keys"]) == (["valve"], [mark("old")])
    assert f"  {mark('old')}, revoked" in hillhold("product", "image-key", path, "pump").output.splitlines()
    assert f"fingerprint {mark('old')}, revoked" in hillhold("product", "show", path, "pump").output
    assert f"+ revoked image key: fingerprint {mark('old')}" in hillhold("diff", path, "root").output
    sign_all(repository, "root-1", "root-2", "targets-1", "targets-2", "release-1")
    repository.publish(online(), NOW)
    assert f"revoked image key: fingerprint {mark('old')}" in hillhold("root", "show", path).output
    assert json.loads(hillhold("root", "show", path, "--json").stdout)["revoked_image_keys"] == [mark("old")]
