"""The guide in signer/README.md, run as it is written: every command, with what it prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from guide import follow
from workshop import NOW

README = Path(__file__).parents[2] / "signer" / "README.md"


def test_the_guide_runs_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = {command.split()[1] for command in follow(README.read_text(), lambda: NOW)}
    assert {"key", "init", "product", "image", "add", "sign", "status", "publish", "refresh", "verify"} <= commands
