"""What the commands say to someone who is new to them: what was meant, who is asked, and what to do next."""

from __future__ import annotations

from pathlib import Path

import pytest

from command import hillhold
from hillhold_signer import Repository, Wish
from workshop import HARDWARE, NOW, ceremony, image, online, release, started, tree

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


@pytest.mark.parametrize("command", [("verify",), ("provisioning", "pump", "--hardware", HARDWARE[0], "-o", "out")])
def test_what_needs_something_published_says_how_to_publish_or_renew_it(
    repository: Repository, tmp_path: Path, command: tuple[str, ...]
) -> None:
    def said(path: Path, now: int = NOW) -> str:
        done = hillhold(command[0], path, *command[1:], now=now)
        assert done.exit_code == 1
        return done.stderr

    bare = Repository.create(tmp_path / "new", ceremony(), NOW, demo=True).layout.path
    assert said(bare) == "error: nothing is published yet\nhint: `hillhold publish`\n"
    path, days = repository.layout.path, 86_400
    late = said(path, NOW + 3 * days)
    assert late.startswith("error: timestamp metadata: ")
    assert late.endswith("hint: `hillhold refresh REPO`\n")
    later = said(path, NOW + 4000 * days)
    assert later.startswith("error: root metadata: ")
    assert later.endswith("hint: `hillhold renew REPO root`, then its keys sign it\n")
    repository.refresh(online(), NOW + 200 * days)
    line = said(path, NOW + 200 * days)
    assert line.startswith("error: pump metadata: ")
    assert line.endswith("hint: `hillhold renew REPO pump`, then its keys sign it\n")
    layout = repository.layout
    layout.metadata("timestamp.json").unlink()
    assert "timestamp.json" in said(path)  # something is published, and damaged
