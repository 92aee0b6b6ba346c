"""Where two parts of the signer meet: people who change different roles at once, and publications of some drafts while others wait."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from copies import WISH, Folders, Git
from hillhold_signer import (
    NamedKey,
    OnlineKey,
    OnlineSigners,
    Repository,
    Team,
    Wish,
    add_product,
    add_release,
    verify_tree,
)
from hillhold_signer.errors import ContentRefused, ProductRefused, RequestRefused
from hillhold_signer.lines import set_caps, set_team
from hillhold_signer.requests import make_request, open_request
from hillhold_signer.roots import renew, rotate
from workshop import HARDWARE, NOW, ceremony, image, online, pump, release, sign_all, started, tree

# --- what a line uses, and what targets allow it ----------------------------------------------------------------------


def test_a_release_beyond_the_published_caps_waits_for_the_targets_that_allow_it(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    release(repository, image("1.0.0"))
    set_caps(repository, "pump", NOW, max_security_counter=500)
    add_release(repository, "pump", image("1.1.0", 300), WISH, NOW)
    sign_all(repository, "release-1", "release-2")
    before = tree(repository.folder.public)
    with pytest.raises(ProductRefused, match="at most 100, got 300"):
        repository.publish(online(), NOW, ("pump",))
    assert tree(repository.folder.public) == before
    sign_all(repository, "targets-1", "targets-2")
    assert repository.publish(online(), NOW).roles == {"targets": 2, "pump": 3}


@pytest.mark.slow
@pytest.mark.parametrize("role", ["targets", "pump", "both"])
def test_caps_and_a_release_that_do_not_go_together_are_never_both_published(tmp_path: Path, role: str) -> None:
    """Ada takes hardware away while Grace, in her copy, adds a release for it: each was right when it was made."""
    shared = Folders(tmp_path)
    set_caps(shared.ada, "pump", NOW, hardware=lambda known: known[:1])
    add_release(shared.grace, "pump", image("1.1.0"), Wish("app.bin", hardware=HARDWARE), NOW)
    shared.sync()
    sign_all(shared.ada, "targets-1", "targets-2", "release-1", "release-2")
    if role != "both":
        shared.ada.publish(online(), NOW, (role,))
    with pytest.raises(ProductRefused, match=f"for {HARDWARE[1]}"):
        shared.ada.publish(online(), NOW)


# --- what is ready while other drafts wait ----------------------------------------------------------------------------


def two_lines(path: Path) -> Repository:
    """Two published lines; the next version of `valve` is complete."""
    repository = started(path)
    release(repository, image("1.0.0"))
    add_product(repository, replace(pump(), name="valve"), NOW)
    sign_all(repository, "targets-1", "targets-2", "release-1", "release-2")
    repository.publish(online(), NOW)
    renew(repository, ["valve"], NOW + 1)
    sign_all(repository, "release-1", "release-2")
    return repository


def strangers() -> tuple[list[CryptoSigner], Team]:
    signers = [CryptoSigner.generate_ed25519() for _ in range(2)]
    return signers, Team(tuple(NamedKey(f"N{n}", item.public_key) for n, item in enumerate(signers)), 2)


def publish_ready(repository: Repository) -> set[str]:
    roles = repository.ready()
    return set(repository.publish(online(), NOW + 1, roles).roles) if roles else set()


def sign_by(repository: Repository, signers: list[CryptoSigner]) -> None:
    for signer in signers:
        repository.sign(signer)


@pytest.mark.parametrize("first", ["line", "targets"])
def test_a_line_that_changes_hands_half_signed_does_not_hold_up_another(tmp_path: Path, first: str) -> None:
    repository, (signers, new) = two_lines(tmp_path / "repo"), strangers()
    assert set_team(repository, "pump", new, NOW + 1)

    def sign(whose: str) -> None:
        if whose == "line":
            sign_by(repository, signers)
        else:
            sign_all(repository, "targets-1", "targets-2")

    sign(first)
    assert publish_ready(repository) == {"valve"}
    assert publish_ready(repository) == set()
    sign("targets" if first == "line" else "line")
    assert publish_ready(repository) == {"targets", "pump"}


@pytest.mark.parametrize("first", ["root", "targets"])
def test_a_root_with_new_people_for_targets_half_signed_does_not_hold_up_a_line(tmp_path: Path, first: str) -> None:
    repository, (signers, new) = two_lines(tmp_path / "repo"), strangers()
    rotate(repository, replace(ceremony(), targets=new), NOW + 1)

    def sign(whose: str) -> None:
        if whose == "root":
            sign_all(repository, "root-1", "root-2")
        else:
            sign_by(repository, signers)

    sign(first)
    assert publish_ready(repository) == {"valve"}
    assert publish_ready(repository) == set()
    sign("targets" if first == "root" else "root")
    assert publish_ready(repository) == {"root", "targets"}


@pytest.mark.parametrize("first", ["line", "targets"])
def test_caps_and_the_release_that_needs_them_are_ready_together(tmp_path: Path, first: str) -> None:
    repository = two_lines(tmp_path / "repo")
    keys = {"line": ("release-1", "release-2"), "targets": ("targets-1", "targets-2")}
    set_caps(repository, "pump", NOW + 1, max_security_counter=500)
    add_release(repository, "pump", image("1.1.0", 300), WISH, NOW + 1)
    sign_all(repository, *keys[first])
    assert publish_ready(repository) == ({"valve"} if first == "line" else {"valve", "targets"})
    sign_all(repository, *keys["targets" if first == "line" else "line"])
    assert publish_ready(repository) == ({"targets", "pump"} if first == "line" else {"pump"})


def test_a_line_waits_for_the_targets_that_make_it_and_they_not_for_it(tmp_path: Path) -> None:
    repository = two_lines(tmp_path / "repo")
    add_product(repository, replace(pump(), name="alarm"), NOW + 1)
    sign_all(repository, "release-1", "release-2")
    assert publish_ready(repository) == {"valve"}
    sign_all(repository, "targets-1", "targets-2")
    assert set(repository.ready()) == {"targets", "alarm"}
    renew(repository, ["alarm"], NOW + 2)
    assert publish_ready(repository) == {"targets"}


def test_in_a_first_publication_root_waits_for_targets(tmp_path: Path) -> None:
    repository = Repository.create(tmp_path / "repo", ceremony(), NOW, demo=True)
    sign_all(repository, "root-1", "root-2")
    assert repository.ready() == ()
    sign_all(repository, "targets-1", "targets-2")
    assert publish_ready(repository) == {"root", "targets"}


# --- what is refused before anything is written -----------------------------------------------------------------------


@pytest.mark.parametrize("uri", ["file:a\nb", "file:\x1b[2J", "pkcs11:\u202eab"])
def test_a_key_uri_that_does_not_show_as_it_is_makes_no_repository_and_no_root(tmp_path: Path, uri: str) -> None:
    wrong = replace(ceremony(), timestamp=OnlineKey(ceremony().timestamp.key, uri))
    with pytest.raises(ContentRefused, match="control"):
        Repository.create(tmp_path / "new", wrong, NOW, demo=True)
    assert not (tmp_path / "new").exists()
    repository = started(tmp_path / "repo")
    before = tree(repository.folder.path)
    with pytest.raises(ContentRefused, match="control"):
        rotate(repository, wrong, NOW)
    assert tree(repository.folder.path) == before


def test_while_a_publication_is_interrupted_no_request_is_made_that_nobody_could_read(tmp_path: Path) -> None:
    repository, (one, two) = started(tmp_path / "repo"), strangers()[0]
    timestamp = repository.folder.metadata("timestamp.json").read_bytes()
    first, second = (OnlineKey(signer.public_key, "file:new.pem") for signer in (one, two))
    rotate(repository, replace(ceremony(), snapshot=first, timestamp=second), NOW)
    sign_all(repository, "root-1", "root-2")
    repository.publish(OnlineSigners(one, two), NOW)
    repository.folder.metadata("timestamp.json").write_bytes(timestamp)  # as if it had been cut before this file
    renew(repository, ["pump"], NOW + 1)
    assert repository.state().interrupted
    with pytest.raises(RequestRefused, match="one that was interrupted"):
        make_request(repository, "pump")
    repository.refresh(OnlineSigners(one, two), NOW + 1)
    assert open_request(make_request(repository, "pump")).root == 2


# --- the same bytes twice ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_bytes_that_another_line_published_meanwhile_are_found_there(tmp_path: Path) -> None:
    """Ada publishes an image in one line while Grace, in her copy, adds the same one to another: Git takes it from `staged`."""
    shared = Git(tmp_path)
    add_product(shared.ada, replace(pump(), name="valve"), NOW)
    sign_all(shared.ada, "targets-1", "targets-2", "release-1", "release-2")
    shared.ada.publish(online(), NOW)
    add_release(shared.ada, "pump", image("1.1.0"), WISH, NOW)
    assert shared.push(shared.ada)
    shared.pull(shared.grace)
    sign_all(shared.ada, "release-1", "release-2")
    shared.ada.publish(online(), NOW)
    add_release(shared.grace, "valve", image("1.1.0"), WISH, NOW)
    shared.sync()
    assert len(add_release(shared.grace, "valve", image("1.2.0", edits=3), WISH, NOW).patches) == 1
    sign_all(shared.grace, "release-1", "release-2")
    assert shared.grace.publish(online(), NOW).roles == {"valve": 2}
    targets = verify_tree(shared.grace.folder.path, NOW).targets
    assert {"pump/1.1.0/app.bin", "valve/1.1.0/app.bin"} <= set(targets)
