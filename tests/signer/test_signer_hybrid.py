"""Two algorithms, both required: docs/HYBRID.md, run as it is written, before devices that have ML-DSA and devices that do not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from guide import follow
from hillhold_signer import (
    Ceremony,
    NamedKey,
    OnlineKey,
    OnlineSigners,
    Repository,
    Team,
    example_signer,
    load_public,
    load_signer,
    verify_tree,
)
from hillhold_signer.errors import QuorumRefused
from hillhold_signer.keyfiles import KINDS, generate, write_key
from workshop import NOW

HYBRID = Path(__file__).parents[2] / "docs" / "HYBRID.md"
WITHOUT = "sys.modules['cryptography.hazmat.primitives.asymmetric.mldsa'] = None"
DEVICE = "import sys; {}; from hillhold_verifier.cli import main; sys.exit(main(sys.argv[1:]))"


def device(repository: Path, root: Path, lacking: str = "pass") -> tuple[int, str]:
    """The verdict of a process of its own, in which an algorithm is missing before the verifier is imported."""
    words = ["verify", str(repository), "--root", str(root), "--at", "2026-01-01T00:00:00Z"]
    command = [sys.executable, "-c", DEVICE.format(lacking), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout


def repository(path: Path, team: Team) -> Repository:
    """Root and targets by one team; online keys as in the demo."""
    snapshot, timestamp = (
        OnlineKey(example_signer(name).public_key, f"file:{name}") for name in ("snapshot", "timestamp")
    )
    return Repository.create(path, Ceremony(team, team, snapshot, timestamp), NOW, demo=True)


def publish(repository: Repository) -> None:
    repository.publish(OnlineSigners(example_signer("snapshot"), example_signer("timestamp")), NOW)


def test_the_recipe_runs_as_it_is_written_and_both_algorithms_are_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert {"init", "product", "sign", "publish", "verify"} <= {
        command.split()[1] for command in follow(HYBRID.read_text(), lambda: NOW)
    }
    root = Path("repo/public/metadata/1.root.json")
    code, said = device(Path("repo"), root)
    assert (code, "verdict: good" in said) == (0, True)
    code, said = device(Path("repo"), root, WITHOUT)
    assert code == 1
    for role in ("root", "targets", "pump"):
        assert f"{role} signatures: expected 2 valid, got 1; 1 of the role's keys cannot be used on this device" in said


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_repository_by_keys_of_one_kind_passes_both_opinions(tmp_path: Path, kind: str) -> None:
    private, public = write_key(tmp_path / "ada", generate(kind), None)
    made = repository(tmp_path / "repo", Team((NamedKey("Ada", load_public(public)),), 1))
    made.sign(load_signer(f"file:{private}"))
    publish(made)
    assert verify_tree(tmp_path / "repo", NOW).versions["root"] == 1
    assert device(tmp_path / "repo", tmp_path / "repo/public/metadata/1.root.json")[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize(("threshold", "complete"), [(2, True), (3, False), (4, False)])
def test_two_people_with_two_keys_each_where_only_the_old_keys_sign(
    tmp_path: Path, threshold: int, complete: bool
) -> None:
    """2 of 4 does not say "both": two Ed25519 keys meet it. More than the number of people needs some ML-DSA key; all needs all."""
    files = {
        name: write_key(tmp_path / name, generate("ml-dsa-44" if name.endswith("pq") else "ed25519"), None)
        for name in ("ada", "ada-pq", "grace", "grace-pq")
    }
    team = Team(tuple(NamedKey(name, load_public(public)) for name, (_, public) in files.items()), threshold)
    made = repository(tmp_path / "repo", team)
    for name in ("ada", "grace"):
        made.sign(load_signer(f"file:{files[name][0]}"))
    assert made.state().quorum("root").complete is complete
    if not complete:
        with pytest.raises(QuorumRefused):
            publish(made)
        for name in ("ada-pq", "grace-pq"):
            made.sign(load_signer(f"file:{files[name][0]}"))
    publish(made)
    code, _ = device(tmp_path / "repo", tmp_path / "repo/public/metadata/1.root.json", WITHOUT)
    assert code == (0 if complete else 1)
