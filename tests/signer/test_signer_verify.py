"""`verify_tree`: two implementations judge the same bytes, whoever publishes meanwhile; where they differ, that is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hillhold_signer import verify
from hillhold_signer.chain import Files
from hillhold_signer.errors import VerifyRefused
from hillhold_signer.layout import Layout
from hillhold_signer.state import published_files
from hillhold_signer.verify import Seen, verify_tree, with_hillhold, with_python_tuf
from workshop import NOW, image, release, started


def test_a_release_between_two_looks_is_no_disagreement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = started(tmp_path / "repo")
    release(repository, image("1.0.0"))
    before = verify_tree(tmp_path / "repo", NOW)

    def read(layout: Layout, name: str) -> bytes | None:
        data = published_files(layout, name)
        if name == "timestamp.json":
            monkeypatch.setattr(verify, "published_files", published_files)
            release(repository, image("1.1.0", edits=3))
        return data

    monkeypatch.setattr(verify, "published_files", read)
    assert verify_tree(tmp_path / "repo", NOW) == before
    assert len(verify_tree(tmp_path / "repo", NOW).targets) > len(before.targets)


def test_a_disagreement_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release(started(tmp_path / "repo"), image("1.0.0"))

    def blind(files: Files, now: int, root: bytes | None) -> Seen:
        return replace(with_hillhold(files, now, root), targets={})

    monkeypatch.setattr(verify, "OPINIONS", (("python-tuf", with_python_tuf), ("hillhold", blind)))
    with pytest.raises(VerifyRefused, match="expected what python-tuf saw, got another from hillhold"):
        verify_tree(tmp_path / "repo", NOW)
