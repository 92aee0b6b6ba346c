"""docs/CI.md: the recipes' own lines, run by bash with a real Git or service, from the image to a release that people signed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from command import pub, uri
from hillhold_signer import verify_tree
from idp import Answer, Idp
from lab import BIN
from servicekit import replica, until

PAGE = Path(__file__).parents[2] / "docs" / "CI.md"
RELEASED = ["pump/1.2.0/pump.bin", "pump/1.2.0/pump.bin.e3b0c44298fc1c14.patch"]
"""An image, and a patch from nothing, which is the image compressed."""
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


def ceremony(folder: Path) -> None:
    keys = ", ".join(f'{{ name = "{name}", file = "{pub(name)}" }}' for name in ("root-1", "root-2"))
    text = f"[root]\nthreshold = 2\nkeys = [{keys}]\n[targets]\nthreshold = 2\nkeys = [{keys}]\n"
    for role in ("snapshot", "timestamp"):
        text += f'[{role}]\nkey = {{ file = "{pub(role)}", uri = "{uri(role)}" }}\n'
    (folder / "ceremony.toml").write_text(text)


def repository(name: str) -> list[str]:
    """Commands that make a repository with a published line `pump`."""
    return [
        f"hillhold init {name} --config ceremony.toml --demo",
        f"hillhold product add {name} pump --hardware nrf52-a --threshold 1 --key {pub('release-1')}",
        *(f"hillhold sign {name} --key {uri(key)} --yes" for key in ("root-1", "root-2", "release-1")),
        f"hillhold publish {name}",
    ]


def updates(folder: Path) -> Path:
    """A bare Git repository with a published line `pump`; returns a clone of it."""
    ceremony(folder)
    shell(
        [
            "git init -q --bare -b main origin",
            "git clone -q origin people 2>/dev/null",
            *repository("people"),
            "cp people/public/metadata/1.root.json people/root.json",
            "cd people",
            *("git checkout -q -b main", "git config user.name a", "git config user.email a@localhost"),
            *("git add -A", "git commit -q -m started", "git push -q -u origin main"),
        ],
        folder,
    )
    return folder / "people"


def built(folder: Path) -> dict[str, str]:
    """What a build leaves, and what a forge says in variables."""
    (folder / "build/zephyr").mkdir(parents=True)
    (folder / "build/zephyr/zephyr.bin").write_bytes(bytes(20000))
    (folder / "sbom.json").write_text('{"bomFormat":"CycloneDX","specVersion":"1.6"}')
    shell(["hillhold key new image --passphrase-fd 3 3<<<'correct horse'"], folder)
    variables = {"IMAGE_KEY": "file:image.pem", "IMAGE_KEY_PASSPHRASE": "correct horse", "VERSION": "v1.2.0"}
    return variables | {"SOURCE": "example/pump@12ab", "CI_PROJECT_PATH": "example/pump", "CI_COMMIT_SHA": "12ab"}


@pytest.mark.parametrize("number", [pytest.param(0, id="GitHub"), pytest.param(2, id="GitLab", marks=pytest.mark.deep)])
def test_a_tag_becomes_a_release_once_a_person_has_signed(tmp_path: Path, number: int) -> None:
    draft, publish = recipes()[number : number + 2]
    people = updates(tmp_path)
    variables = built(tmp_path)
    shell(["git clone -q origin updates"], tmp_path)
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
    assert list(verify_tree(tmp_path / "runner", 0).targets) == RELEASED


SAID = {
    "GitHub": {"repository": "example/pump", "ref": "refs/tags/v1.2.0"},
    "GitLab": {"project_path": "example/pump", "ref": "v1.2.0", "ref_type": "tag", "ref_protected": "true"},
}
"""What each forge says of a job, as far as it is asked."""


@pytest.mark.parametrize(
    ("number", "forge"), [(4, "GitHub"), *(pytest.param(5, way, marks=pytest.mark.deep) for way in ("GitLab", "token"))]
)
def test_a_tag_is_handed_in_to_a_service_and_released_once_a_person_has_signed(
    tmp_path: Path, number: int, forge: str
) -> None:
    (recipe,) = recipes()[number : number + 1]
    variables = built(tmp_path)
    identity = re.findall(r'account identity ci \S+ ("[^"]*")', PAGE.read_text())
    with Idp() as idp:
        ceremony(tmp_path)
        operator = "--data service"
        shell(
            [
                *repository("repo"),
                "hillhold service init service --from repo --admin boss --log-name sign.example.org",
                f'printf \'[[issuer]]\nurl = "{idp.url}"\naudience = "hillhold"\n\' >> service/service.toml',
                *(f"hillhold account {words} {operator}" for words in ("new ci --machine", "grant ci submitter pump")),
                *(f"hillhold account identity ci {idp.url} {one} {operator}" for one in identity),
                *(f"hillhold account {words} {operator}" for words in ("new Ada", "grant Ada signer pump")),
                f"hillhold account key Ada {pub('release-1')} {operator}",
                *(f"hillhold token new t --account {name} {operator} -o {name}.token" for name in ("Ada", "ci")),
            ],
            tmp_path,
        )
        claims: dict[str, Any] = {**idp.claims(int(time.time())), **SAID.get(forge, {})}
        said = idp.token(**claims)
        idp.answers["/token?job=1&audience=hillhold"] = Answer(json.dumps({"count": 1, "value": said}).encode())
        variables |= {
            "GitHub": {"ACTIONS_ID_TOKEN_REQUEST_TOKEN": "x", "ACTIONS_ID_TOKEN_REQUEST_URL": f"{idp.url}/token?job=1"},
            "GitLab": {"HILLHOLD_TOKEN": said},
            "token": {"HILLHOLD_TOKEN": (tmp_path / "ci.token").read_text().strip()},
        }[forge]
        with replica(tmp_path / "service") as (url, _):
            shell(lines_of(recipe), tmp_path, HILLHOLD_SERVICE=url, **variables)
            public = tmp_path / "service"
            assert not verify_tree(public, 0).targets  # a build alone releases nothing
            sign = f"hillhold sign --service {url} --key {uri('release-1')} --token-file Ada.token --yes"
            shell([sign], tmp_path)
            until(lambda: list(verify_tree(public, 0).targets) == RELEASED, "for the release")
