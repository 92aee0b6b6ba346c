"""`hillhold-lab demo` as a stranger runs it: an empty home, nothing set; and the second time without the network."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from lab import BIN, TIMEOUT, Done, run, wait_for

pytestmark = pytest.mark.slow

REFUSALS = {
    "an image changed by one byte": "image hash: expected ",
    "the repository of an earlier day, served again": "timestamp version: expected at least ",
    "a signed release for other hardware (nrf52833-b)": "for hardware nrf52833-b; this device is nrf51822-a",
    "a downgrade with an equal security counter, signed by the quorum": "is below the confirmed",
    "a plain SMP upload, without metadata": "content: expected nothing: no release may be installed now, got ",
    "a release that one of the two engineers signed, properly listed": "microbit signatures: expected 2 valid, got 1",
    "the failed release, offered again": "its trial failed on this device before",
}
"""What issue 2 asks to be refused, and a part of the board's words."""
PATCH_LENGTH = re.compile(r"(?<=the release before: )\d+")
"""Differs a little by the version of liblzma."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def demo(home: Path, folder: Path, *options: object, **more: str) -> Done:
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "http", "HTTP"))}
    (folder / "tmp").mkdir(exist_ok=True)
    environment = {**kept, "PATH": os.defpath, "HOME": str(home), "TMPDIR": str(folder / "tmp"), **more}
    return run("hillhold-lab", "demo", *options, env=environment, cwd=folder, timeout=400)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def shown_in_readme() -> list[str]:
    """What the README shows of the demo."""
    text = (Path(__file__).parents[2] / "README.md").read_text()
    (shown,) = [block for block in text.split("```\n") if block.startswith("2. ")]
    return PATCH_LENGTH.sub("", shown).splitlines()


def test_the_demo_in_figures(home: Path, tmp_path: Path) -> None:
    done = demo(home, tmp_path, "--json")
    assert (done.code, done.err) == (0, "")
    figures = done.json
    assert {what for what, _ in figures["refusals"]} == set(REFUSALS)
    for what, words in figures["refusals"]:
        assert REFUSALS[what] in words
    assert figures["power_cuts"] == 1
    whole, cut, rest, _ = figures["transfers"]
    assert whole[2] > whole[1] > 100_000
    assert cut[1] < whole[1] / 3
    assert rest[0] == "1.2.4, the rest of it, after that"
    assert files(tmp_path) == []


def test_the_demo_as_a_story_from_the_cache(home: Path, tmp_path: Path) -> None:
    cache = home / ".cache" / "hillhold"
    if not files(cache):
        pytest.skip("the first run left no cache")
    before = {path: path.stat().st_mtime_ns for path in files(cache)}
    # An index that nobody serves: whatever is downloaded again fails.
    done = demo(home, tmp_path, "--keep", "kept", PIP_INDEX_URL="http://127.0.0.1:1", PIP_NO_INDEX="1")
    assert (done.code, done.err) == (0, "")
    assert {path: path.stat().st_mtime_ns for path in files(cache)} == before
    assert "\x1b" not in done.out
    assert "MIT (MicroPython" in done.out
    assert done.out.count("✓") >= 10
    for what, words in REFUSALS.items():
        assert what in done.out
        assert words in done.out
    assert set(shown_in_readme()) <= set(PATCH_LENGTH.sub("", done.out).splitlines())
    assert "7 attempts refused, 1 power cut survived, 1 failed trial reverted" in done.out
    assert (tmp_path / "kept" / "repository" / "public" / "metadata" / "1.root.json").is_file()
    assert files(tmp_path / "tmp") == []
    shutil.rmtree(tmp_path / "kept")
    assert files(tmp_path) == []


def test_an_interrupted_demo_leaves_nothing(home: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(BIN / "hillhold-lab"), "demo", "--cache", str(home / ".cache" / "hillhold")],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
        )
    try:
        wait_for("✓", log, timeout=120)
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 3
    finally:
        process.kill()
        process.wait(TIMEOUT)
    assert log.read_text().splitlines()[-1] == "error: interrupted"
    assert [path.name for path in files(tmp_path)] == ["log"]


def test_the_demo_without_firmware_says_so(tmp_path: Path) -> None:
    done = demo(tmp_path, tmp_path, "--cache", "cache", PIP_NO_INDEX="1")
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith("error: pip download uflash==1.1.1: ")


def test_the_demo_overwrites_nothing(tmp_path: Path) -> None:
    done = demo(tmp_path, tmp_path, "--keep", tmp_path)
    assert done.code == 2
    assert done.err.startswith("error: --keep ")
