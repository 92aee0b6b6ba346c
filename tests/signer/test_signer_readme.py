"""The guide in signer/README.md, run as it is written: every command, with what it prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from guide import follow

README = Path(__file__).parents[2] / "signer" / "README.md"


def test_the_guide_runs_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    used = follow(README)
    assert {"key", "init", "product", "image", "add", "sign", "status", "publish", "refresh", "verify"} <= set(used)
