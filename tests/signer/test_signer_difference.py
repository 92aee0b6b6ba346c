"""What a person is shown before signing: all of it, under names that belong to their keys."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Targets

from hillhold_signer import Repository, Wish, add_release, example_signer
from hillhold_signer.adding import add_releases
from hillhold_signer.difference import difference, label
from hillhold_signer.documents import Document
from hillhold_signer.encoding import copied
from hillhold_signer.errors import RepositoryRefused
from hillhold_signer.lines import set_caps
from hillhold_verifier.release import Version
from workshop import HARDWARE, NOW, ceremony, image, release, rewrite, started, statement, tree


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
    set_caps(repository, "pump", NOW, hardware=lambda known: [*known, "nrf54-c"])

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
        ("pump", (*release_at, "custom", "hillhold"), "crit", ["hardware"]),
        ("pump", (*release_at, "custom", "hillhold"), "sbom", [{"format": "spdx", "length": 1}]),
        ("pump", (*release_at, "custom", "hillhold"), "sbom", []),
        ("pump", (*release_at, "custom", "hillhold"), "notes", {"length": True, "sha256": "00" * 32}),
        ("pump", (*release_at, "custom", "hillhold"), "notes", {"length": 1, "sha256": "\u0661" * 64}),
        ("pump", (*release_at, "custom", "hillhold"), "provenance", {"length": 1, "sha256": "00" * 32, "type": "x"}),
        ("pump", (*release_at, "custom", "hillhold"), "source", ["a"]),
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
        good = tree(repository.folder.drafts / role)

        def change(
            signed: dict[str, Any], where: tuple[str | int, ...] = where, name: str = name, what: object = what
        ) -> None:
            place: Any = signed
            for step in where:
                place = place[step]
            place[name] = what

        changed = rewrite(repository, role, change)
        words = "STEP DOWN from 9.0.0" if name == "downgrade_from" else "! "
        assert any(words in line and (name in line or words != "! ") for line in shown(role)), (name, shown(role))
        changed.unlink()
        for file, data in good.items():
            (changed.parent / file).write_bytes(data)


def test_every_field_of_a_release_is_in_words(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    release(repository, image("1.1.0", 2), wish=Wish("app.bin", hardware=HARDWARE))
    bom = Document("bom.json", b'{"bomFormat":"CycloneDX","specVersion":"1.6"}')
    said = statement(image("1.0.0", 2, edits=1))
    app = Wish(
        "app.bin",
        "security",
        HARDWARE,
        requires={"radio": Version.parse("2.0.0")},
        set="summer",
        downgrade_from=(Version.parse("1.1.0"),),
        sbom=(bom,),
        notes=Document("notes.txt", b"quieter"),
        source="git.example/pump@12ab",
        provenance=Document("app.json", said),
    )
    radio = Wish("radio.bin", hardware=HARDWARE, component="radio", set="summer")
    add_releases(repository, "pump", [(image("1.0.0", 2, edits=1), app), (image("2.0.0", 1, 7), radio)], NOW)

    def shown(path: str) -> str:
        state = repository.state()
        old = state.published("pump")
        assert isinstance(old, Targets)
        lines = map(str, difference("pump", old, state.drafts["pump"].signed, label({})))
        return next(line for line in lines if line[2:].startswith(f"{path}: "))

    line = shown("pump/1.0.0/app.bin")
    for words in (
        "+ pump/1.0.0/app.bin: security release, for nrf51-a and nrf52-b, component app, security counter 2, ",
        ", requires radio 2.0.0 or later, installed only with the rest of the set summer, STEP DOWN from 1.1.0, ",
        f", SBOM cyclonedx of 45 bytes, sha256 {sha256(bom.data).hexdigest()}, ",
        f", release notes of 7 bytes, sha256 {sha256(b'quieter').hexdigest()}, ",
        f", provenance of {len(said)} bytes, sha256 {sha256(said).hexdigest()}, ",
        ', built from "git.example/pump@12ab", ',
        f"sha256 {sha256(image('1.0.0', 2, edits=1)).hexdigest()}",
    ):
        assert words in line, (words, line)
    assert "! " not in line


def test_what_a_release_no_longer_says_is_shown_beside_what_it_says(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    release(repository, image("1.0.0"), wish=Wish("app.bin", hardware=HARDWARE, source="a@1"))
    line = repository.state().line("pump")
    old = copied(line)
    custom = line.targets["pump/1.0.0/app.bin"].custom["hillhold"]
    custom["hardware"], custom["withdrawn"] = ["nrf51-a", "nrf52-b", "nrf53-c"], "leaks"
    del custom["source"]
    found = str(difference("pump", old, line, label({}))[-1])
    assert found.startswith(
        '~ pump/1.0.0/app.bin: WITHDRAWN ("leaks"), feature release, for nrf51-a and nrf52-b and nrf53-c'
    )
    assert found.endswith('; before: for nrf51-a and nrf52-b, built from "a@1"')


def test_what_somebody_wrote_does_not_read_like_a_fact(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    wish = Wish("app.bin", hardware=HARDWARE, source='a", security counter 9, sha256 00; before: "b')
    add_release(repository, "pump", image("1.0.0"), wish, NOW)

    def change(signed: dict[str, Any]) -> None:
        signed["targets"]["pump/1.0.0/app.bin"]["custom"]["hillhold"]["component"] = "app, security counter 0"

    rewrite(repository, "pump", change)
    line = str(difference("pump", None, repository.state().drafts["pump"].signed, label({}))[-1])
    assert r', built from "a\", security counter 9, sha256 00; before: \"b", ' in line
    assert ', component "app, security counter 0", ' in line
