"""docs/CI.md: the recipes' own lines, run by bash with a real Git, from the image to a published release that people signed."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from command import pub, uri
from hillhold_signer import verify_tree
from lab import BIN

PAGE = Path(__file__).parents[2] / "docs" / "CI.md"
pytestmark = [pytest.mark.system]


def recipes() -> list[dict[str, object]]:
    return [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.M | re.S)]


def lines_of(recipe: dict[str, object]) -> list[str]:
    """The shell of a recipe, but for what fetches a clone."""
    if "jobs" in recipe:
        (job,) = recipe["jobs"].values()  # type: ignore[attr-defined]
        return [step["run"] for step in job["steps"] if "run" in step]
    (job,) = recipe.values()
    return [line for line in job["script"] if not line.startswith("git clone")]  # type: ignore[index]


def shell(lines: list[str], folder: Path, **variables: str) -> None:
    script = "set -euo pipefail\n" + "\n".join(lines)
    path = f"{BIN}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "GIT_CONFIG_GLOBAL": "/dev/null", **variables}
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=env, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"


def updates(folder: Path) -> Path:
    """A bare Git repository with a published line `pump`; returns a clone of it."""
    keys = ", ".join(f'{{ name = "{name}", file = "{pub(name)}" }}' for name in ("root-1", "root-2"))
    ceremony = f"[root]\nthreshold = 2\nkeys = [{keys}]\n[targets]\nthreshold = 2\nkeys = [{keys}]\n"
    for role in ("snapshot", "timestamp"):
        ceremony += f'[{role}]\nkey = {{ file = "{pub(role)}", uri = "{uri(role)}" }}\n'
    (folder / "ceremony.toml").write_text(ceremony)
    shell(
        [
            "git init -q --bare -b main origin",
            "git clone -q origin people 2>/dev/null",
            "hillhold init people --config ceremony.toml --demo",
            f"hillhold product add people pump --hardware nrf52-a --threshold 1 --key {pub('release-1')}",
            *(f"hillhold sign people --key {uri(name)} --yes" for name in ("root-1", "root-2", "release-1")),
            "hillhold publish people",
            "cp people/public/metadata/1.root.json people/root.json",
            "cd people",
            *("git checkout -q -b main", "git config user.name a", "git config user.email a@localhost"),
            *("git add -A", "git commit -q -m started", "git push -q -u origin main"),
        ],
        folder,
    )
    return folder / "people"


@pytest.mark.parametrize("number", [0, 2], ids=["GitHub", "GitLab"])
def test_a_tag_becomes_a_release_once_a_person_has_signed(tmp_path: Path, number: int) -> None:
    draft, publish = recipes()[number : number + 2]
    people = updates(tmp_path)
    (tmp_path / "build/zephyr").mkdir(parents=True)
    (tmp_path / "build/zephyr/zephyr.bin").write_bytes(bytes(20000))
    (tmp_path / "sbom.json").write_text('{"bomFormat":"CycloneDX","specVersion":"1.6"}')
    shell(["hillhold key new image --passphrase-fd 3 3<<<'correct horse'", "git clone -q origin updates"], tmp_path)
    variables = {"IMAGE_KEY": "file:image.pem", "IMAGE_KEY_PASSPHRASE": "correct horse", "VERSION": "v1.2.0"}
    variables |= {"SOURCE": "example/pump@12ab", "CI_PROJECT_PATH": "example/pump", "CI_COMMIT_SHA": "12ab"}
    shell(lines_of(draft), tmp_path, **variables)
    shell(["git clone -q origin runner"], tmp_path)
    shell(lines_of(publish), tmp_path / "runner")
    assert not verify_tree(tmp_path / "runner", 0).targets  # a build alone releases nothing
    shell(
        [
            "git pull -q",
            f"hillhold sign . --key {uri('release-1')} --yes",
            "git add -A",
            "git commit -q -m s",
            "git push -q",
        ],
        people,
    )
    shell(["git pull -q", *lines_of(publish)], tmp_path / "runner")
    assert list(verify_tree(tmp_path / "runner", 0).targets) == ["pump/1.2.0/pump.bin"]
