"""Where two parts of the signer meet: people who change different roles at once, and publications of some drafts while others wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from copies import WISH, Folders
from hillhold_signer import Wish, add_release
from hillhold_signer.errors import ProductRefused
from hillhold_signer.lines import set_caps
from workshop import HARDWARE, NOW, image, online, release, sign_all, started, tree

# --- what a line uses, and what targets allow it ----------------------------------------------------------------------


def test_a_release_beyond_the_published_caps_waits_for_the_targets_that_allow_it(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    release(repository, image("1.0.0"))
    set_caps(repository, "pump", NOW, max_security_counter=500)
    add_release(repository, "pump", image("1.1.0", 300), WISH, NOW)
    sign_all(repository, "release-1", "release-2")
    before = tree(repository.layout.public)
    with pytest.raises(ProductRefused, match="at most 100, got 300"):
        repository.publish(online(), NOW, ("pump",))
    assert tree(repository.layout.public) == before
    sign_all(repository, "targets-1", "targets-2")
    assert repository.publish(online(), NOW).roles == {"targets": 2, "pump": 3}


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
