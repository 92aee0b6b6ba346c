"""What a person is shown before signing: all of it, under names that belong to their keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tuf.api.metadata import Targets

from hillhold_signer import Repository, Wish, add_release, example_signer
from hillhold_signer.difference import difference, label
from hillhold_signer.errors import RepositoryRefused
from hillhold_signer.lines import set_caps
from hillhold_verifier import canonical
from workshop import HARDWARE, NOW, ceremony, image, started


def test_a_draft_cannot_put_another_key_under_a_colleagues_id(tmp_path: Path) -> None:
    repository = Repository.create(tmp_path / "repo", ceremony(), NOW, demo=True)
    path = repository.layout.drafts / "root/draft.json"
    value = json.loads(path.read_bytes())
    ada = example_signer("root-1").public_key.keyid
    value["signed"]["keys"][ada] = example_signer("intruder").public_key.to_dict()
    path.write_bytes(canonical.dumps(value))
    with pytest.raises(RepositoryRefused, match="the key of that id"):
        repository.sign(example_signer("root-2"))
    assert [item.name for item in path.parent.iterdir()] == ["draft.json"]


def test_whatever_someone_wrote_into_a_draft_is_shown_before_it_is_signed(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    add_release(repository, "pump", image("1.0.0"), Wish("app.bin", hardware=HARDWARE), NOW)
    set_caps(repository, "pump", NOW, hardware=lambda known: [*known, "nrf54-c"])

    def shown(role: str) -> list[str]:
        state = repository.state()
        old = state.published(role)
        assert isinstance(old, Targets)
        return difference(role, old, state.drafts[role].signed, label({}))

    assert not any("! " in line for line in (*shown("pump"), *shown("targets")))
    release_at = ("targets", "pump/1.0.0/app.bin")
    line_at = ("delegations", "roles", 0)
    edits: list[tuple[str, tuple[str | int, ...], str, object]] = [
        ("pump", (*release_at, "custom", "hillhold"), "downgrade_from", ["9.0.0"]),
        ("pump", (*release_at, "custom"), "more", 1),
        ("pump", (*release_at, "hashes"), "sha512", "00"),
        ("pump", release_at, "more", 1),
        ("pump", (), "x-more", 1),
        ("targets", line_at, "paths", ["*/*/*"]),
        ("targets", line_at, "terminating", False),
        ("targets", line_at, "more", 1),
        ("targets", (*line_at, "x-hillhold"), "more", 1),
        ("targets", ("delegations",), "more", 1),
    ]
    for role, where, name, what in edits:
        path = repository.layout.drafts / role / "draft.json"
        good = path.read_bytes()
        value = json.loads(good)
        place = value["signed"]
        for step in where:
            place = place[step]
        place[name] = what
        path.write_bytes(canonical.dumps(value))
        assert any("! " in line and name in line for line in shown(role)), (name, shown(role))
        path.write_bytes(good)
