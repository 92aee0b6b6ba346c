"""The bar that shows how many bases are done: at a terminal, and nowhere else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hillhold_signer import Wish, add_release
from hillhold_signer.patching import NO_PATCHES
from workshop import HARDWARE, NOW, image, started

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")


def added(folder: Path, *options: str, terminal: bool) -> tuple[str, str]:
    """Adds a release after three others, one of which has nothing in common with it; returns standard output and error."""
    repository = started(folder / "repo")
    for number in range(3):
        wish = Wish("app.bin", hardware=HARDWARE[:1])
        earlier = image(f"1.{number}.0", edits=number) if number else image("1.0.0", seed=9)
        add_release(repository, "pump", earlier, wish, NOW, patch_from=NO_PATCHES)
    file = folder / "app.bin"
    file.write_bytes(image("1.3.0", edits=3))
    words = ("add", folder / "repo", "pump", file, "--hardware", HARDWARE[0], "--patch-from", "all", *options)
    master, slave = os.openpty() if terminal else os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "hillhold_signer.cli", *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=slave,
        text=True,
    )
    os.close(slave)
    said = b""
    while chunk := _read(master):
        said += chunk
    os.close(master)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    return out, said.decode()


def _read(file: int) -> bytes:
    try:
        return os.read(file, 4096)
    except OSError:  # so ends a pseudo-terminal
        return b""


def test_at_a_terminal_it_counts_the_bases_and_the_patches_that_pay(tmp_path: Path) -> None:
    _, said = added(tmp_path, terminal=True)
    states = [state.strip() for state in re.split(r"\r|\x1b\[[?0-9]*[A-Za-z]", said) if "patches, " in state]
    assert [state.split()[-1] for state in dict.fromkeys(states)] == ["1/3", "2/3", "3/3"]
    assert states[-1].startswith("patches, 2 kept")
    assert "#" * 36 in states[-1]


@pytest.mark.slow
@pytest.mark.parametrize(("options", "terminal"), [(("--json",), True), (("--json",), False), ((), False)])
def test_a_script_is_told_nothing_of_it(tmp_path: Path, options: tuple[str, ...], *, terminal: bool) -> None:
    out, said = added(tmp_path, *options, terminal=terminal)
    assert "kept" not in said
    assert "\r" not in said
    if options:
        assert len(json.loads(out)["releases"][0]["patches"]) == 2
