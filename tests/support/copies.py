"""Two copies of one repository, as two people have them: by Git, or by a folder that is copied both ways."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from hillhold_signer import (
    Repository,
    Wish,
)
from workshop import HARDWARE, image, release, started, tree

WISH = Wish("app.bin", hardware=HARDWARE[:1])
RADIO = Wish("radio.bin", hardware=HARDWARE[:1], component="radio")


class Git:
    """Two clones of one bare repository, each with a Hillhold repository in a folder of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
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
        work = who.folder.path
        git(work, "add", "-A")
        git(work, "commit", "-q", "--allow-empty", "-m", "work")
        return git(work, "push", "-q", check=False).returncode == 0

    def pull(self, who: Repository) -> None:
        """Merge what the other pushed; a conflict fails the test."""
        done = git(who.folder.path, "pull", "-q", "--no-rebase", "--no-edit", check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert git(who.folder.path, "status", "--porcelain").stdout == ""

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
        one, two = tree(self.ada.folder.path), tree(self.grace.folder.path)
        assert {name for name in one.keys() & two.keys() if one[name] != two[name]} == set()
        for path, data in ((self.ada.folder.path, two), (self.grace.folder.path, one)):
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


def alike(shared: Shared, role: str = "pump") -> str:
    """Both see the same draft; returns its digest."""
    one, two = (who.state().drafts[role] for who in (shared.ada, shared.grace))
    assert one.digest == two.digest
    assert one.replaced == two.replaced
    assert dict(one.signatures).keys() == dict(two.signatures).keys()
    return one.digest
