"""What the commands say to someone who is new to them: what was meant, who is asked, and what to do next."""

from __future__ import annotations

from pathlib import Path

import pytest

from command import hillhold
from hillhold_signer import Repository, Wish
from workshop import HARDWARE, image, release, started, tree

WISH = Wish("app.bin", hardware=HARDWARE[:1])


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    found = started(tmp_path / "repo")
    release(found, image("1.0.0"))
    return found


def test_a_mistyped_line_and_an_online_role_get_a_hint_of_what_was_meant(repository: Repository) -> None:
    path = repository.layout.path
    before = tree(path)
    for words in (("release", "list", path, "pmup"), ("renew", path, "pmup")):
        said = hillhold(*words).stderr
        assert "hint: did you mean pump? else make it with `hillhold product add REPO pmup …`\n" in said
    assert "hint: make it with " in hillhold("renew", path, "ventilator").stderr
    for role in ("timestamp", "snapshot"):
        refused = hillhold("renew", path, "pump", role)
        assert refused.exit_code == 1
        assert "hint: timestamp and snapshot are renewed by `hillhold refresh`\n" in refused.stderr
    assert tree(path) == before
