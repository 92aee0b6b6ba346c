"""What a person is shown before signing: all of it, under names that belong to their keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Targets

from hillhold_signer import Repository, Wish, add_hardware, add_release, example_signer
from hillhold_signer.difference import difference, label
from hillhold_signer.drafted import lineage
from hillhold_signer.errors import RepositoryRefused
from hillhold_verifier import canonical
from workshop import HARDWARE, NOW, ceremony, image, started, tree


def rewrite(repository: Repository, role: str, change: Callable[[dict[str, Any]], None]) -> Path:
    """Put another draft in the place of the one that counts, as someone with a text editor might."""
    (head,) = lineage(repository.layout, role, repository.state().published(role)).heads
    path = repository.layout.drafts / role / f"{head.name}.json"
    value = json.loads(path.read_bytes())
    change(value["signed"])
    path.unlink()
    data = canonical.dumps(value)
    found = path.with_name(f"{sha256(data).hexdigest()}.json")
    found.write_bytes(data)
    return found


def test_a_draft_cannot_put_another_key_under_a_colleagues_id(tmp_path: Path) -> None:
    repository = Repository.create(tmp_path / "repo", ceremony(), NOW, demo=True)
    ada = example_signer("root-1").public_key.keyid

    def change(signed: dict[str, Any]) -> None:
        signed["keys"][ada] = example_signer("intruder").public_key.to_dict()

    path = rewrite(repository, "root", change)
    with pytest.raises(RepositoryRefused, match="the key of that id"):
        repository.sign(example_signer("root-2"))
    assert list(path.parent.iterdir()) == [path]


def test_whatever_someone_wrote_into_a_draft_is_shown_before_it_is_signed(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    add_release(repository, "pump", image("1.0.0"), Wish("app.bin", hardware=HARDWARE), NOW)
    add_hardware(repository, "pump", ["nrf54-c"], NOW)

    def shown(role: str) -> list[str]:
        state = repository.state()
        old = state.published(role)
        assert isinstance(old, Targets)
        return [str(change) for change in difference(role, old, state.drafts[role].signed, label({}))]

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
        good = tree(repository.layout.drafts / role)

        def change(
            signed: dict[str, Any], where: tuple[str | int, ...] = where, name: str = name, what: object = what
        ) -> None:
            place: Any = signed
            for step in where:
                place = place[step]
            place[name] = what

        changed = rewrite(repository, role, change)
        assert any("! " in line and name in line for line in shown(role)), (name, shown(role))
        changed.unlink()
        for file, data in good.items():
            (changed.parent / file).write_bytes(data)
