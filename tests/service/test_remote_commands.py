"""`--service URL`: the commands of a person's computer, on the real application over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from click.testing import Result
from sqlalchemy import select

from command import hillhold, uri
from hillhold_signer.service.access import Role
from hillhold_signer.service.tables import CHANGES
from servicekit import Kit, make_kit, repository_of, until
from workshop import image

Run: TypeAlias = Callable[..., Result]


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    made = make_kit(tmp_path / "service")
    made.account("carol", (Role.SUBMITTER, "pump"))
    yield made
    made.data.database.close()


@pytest.fixture
def url(kit: Kit) -> Iterator[str]:
    with kit.running() as found:
        yield found


@pytest.fixture
def run(kit: Kit, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command on the service, as somebody."""
    monkeypatch.setenv("HILLHOLD_SERVICE", url)
    monkeypatch.setenv("HILLHOLD_CONFIG", str(tmp_path / "options" / "config.toml"))

    def one(who: str, *words: object, answers: str = "") -> Result:
        monkeypatch.setenv("HILLHOLD_TOKEN", kit.tokens[who])
        return hillhold(*words, answers=answers, now=int(time.time()))

    return one


def good(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def written(folder: Path, version: str, **more: object) -> Path:
    path = folder / f"app-{version}.bin"
    path.write_bytes(image(version, **more))  # type: ignore[arg-type]
    return path


def test_a_release_goes_its_whole_way_without_a_folder(run: Run, kit: Kit, tmp_path: Path) -> None:
    said = good(
        run("carol", "add", "pump", written(tmp_path, "1.0.0"), "--hardware", "nrf51-a", "--file-name", "app.bin")
    )
    assert "added pump/1.0.0/app.bin" in said
    assert "+ pump/1.0.0/app.bin" in good(run("ada", "diff", "pump"))
    assert "1.0.0" in good(run("ada", "release", "list", "pump"))
    assert "sign pump: 0 of 2" in good(run("ada", "status"))
    refused = run("ada", "publish")
    assert (refused.exit_code, "pump has 0 of 2" in refused.stderr) == (1, True)
    first = good(run("ada", "sign", "--key", uri("release-1"), answers="y\n"))
    assert "signed pump version 2 (1 of 2)" in first
    assert "stands on the word of http://127.0.0.1" in first
    made = tmp_path / "pump.request"
    assert "wrote" in good(run("grace", "request", "pump", "-o", made))
    good(hillhold("sign", made, "--key", uri("release-2"), "--yes", "-o", tmp_path / "s.signature"))
    assert "attached (2 of 2)" in good(run("grace", "attach", tmp_path / "s.signature"))
    until(
        lambda: repository_of(kit.data) and "published" in run("ada", "release", "list", "pump").stdout,
        "for publication",
    )
    assert "nothing" in good(run("ada", "publish"))
    assert "timestamp" in good(run("boss", "refresh"))
    # A second one, with a patch from the first, which is fetched for that.
    said = good(
        run(
            "carol",
            "add",
            "pump",
            written(tmp_path, "1.1.0", edits=9),
            "--hardware",
            "nrf51-a",
            "--file-name",
            "app.bin",
        )
    )
    assert "patch of" in said
    with kit.data.reading() as unit:
        rows = unit.connection.execute(select(CHANGES)).all()
        assert len({row.account for row in rows}) == 1
    assert not kit.failures
