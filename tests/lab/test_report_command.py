"""`hillhold-lab report`: make, verify and show, their exit codes, and what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from hillhold_bootsim.cli import main
from hillhold_bootsim.lab.jsonform import to_json
from hillhold_bootsim.lab.report.content import VIRTUAL
from labdata import campaign, with_texts

KEY = Ed25519PrivateKey.from_private_bytes(b"a laboratory's key for the tests")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("campaign.json").write_bytes(to_json(campaign()))
    Path("lab.pem").write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    Path("lab.pub").write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["report", *words])


def made(*more: str) -> Result:
    return run("make", "campaign.json", "--out", "report", "--key", "file:lab.pem", *more)


def value(result: Result) -> Any:
    return json.loads(result.stdout)


def test_a_report_is_made_verified_and_shown(work: Path) -> None:
    done = made()
    assert done.exit_code == 0, done.output
    assert VIRTUAL in done.stdout
    assert "FAILED: 1 of 6 tested cases failed" in done.stdout
    assert {path.name for path in Path("report").iterdir()} == {
        *("report.html", "report.pdf", "campaign.json", "junit.xml", "manifest.txt")
    }
    checked = run("verify", "report", "--key", "lab.pub")
    assert (checked.exit_code, checked.stderr) == (0, "")
    assert checked.stdout.startswith("report: as its laboratory signed it: campaign.json, junit.xml")
    shown = run("show", "report")
    assert shown.stdout == run("show", "campaign.json").stdout
    assert "fail         one-key-twice          pump board B: it took two signatures" in shown.stdout
    assert "pump board A: the slot was not marked (the board's own words)" in shown.stdout
    assert "no signature was checked" in shown.stdout


def test_a_changed_report_exits_1_and_is_named(work: Path) -> None:
    made()
    with Path("report/report.html").open("ab") as file:
        file.write(b" ")
    Path("report/junit.xml").unlink()
    Path("report/more.txt").touch()
    done = run("verify", "report", "--key", "lab.pub")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "error: report in report:" in done.stderr
    assert "changed: report.html; missing: junit.xml; added: more.txt" in done.stderr
    assert "hint: " in done.stderr
    as_json = run("verify", "report", "--key", "lab.pub", "--json")
    assert as_json.exit_code == value(as_json)["exit"] == 1
    assert "changed: report.html" in value(as_json)["error"]


def test_json_says_the_same(work: Path) -> None:
    done = value(made("--json"))
    assert (done["standing"], done["number"], done["virtual"]) == ("failed", "EX-2026-0042", ["pump board A"])
    assert done["counts"] == {"pass": 5, "fail": 1, "inconclusive": 1, "not tested": 3, "not reached": 2}
    assert done["key"].startswith("hillhold-lab-report+")
    assert done["files"] == {path.name: path.stat().st_size for path in Path("report").iterdir()}
    assert value(run("verify", "report", "--key", "lab.pub", "--json"))["files"] == sorted(
        done["files"].keys() - {"manifest.txt"}
    )
    shown = value(run("show", "report", "--json"))
    assert shown.items() <= done.items()
    assert shown["cases"][0]["case"] == "rollback-of-timestamp"


def test_without_a_key_it_says_that_nobody_signed(work: Path) -> None:
    done = run("make", "campaign.json", "--out", "report", "--no-pdf")
    assert done.exit_code == 0
    assert "not signed" in done.stdout
    assert not Path("report/report.pdf").exists()
    assert run("verify", "report", "--key", "lab.pub").exit_code == 1


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (("make", "lab.pem", "--out", "report"), 1, "expected JSON"),
        (("make", "campaign.json", "--out", "report", "--key", "lab.pem"), 1, "hint: --key file:lab.pem"),
        (("make", "campaign.json", "--out", "report", "--key", "file:lab.pub"), 1, "lab.pub"),
        (("make", "campaign.json"), 2, "--out"),
        (("make", "nothing.json", "--out", "report"), 2, "nothing.json"),
        (("make", "campaign.json", "--out", "lab.pub"), 1, "expected a folder that is not there yet"),
        (("verify", "nowhere", "--key", "lab.pub"), 2, "nowhere"),
        (("verify", ".", "--key", "lab.pub"), 1, "expected a report, with manifest.txt"),
        (("verify", ".", "--key", "lab.pem"), 1, "name the .pub file beside it"),
        (("verify", "."), 2, "--key"),
        (("show", "."), 3, "campaign.json: no such file"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_left(work: Path, words: tuple[str, ...], code: int, error: str) -> None:
    if "." in words:
        Path("campaign.json").unlink()
    before = sorted(Path().iterdir())
    done = run(*words)
    assert (done.exit_code, done.stdout) == (code, ""), done.output
    assert error in done.stderr
    assert "Traceback" not in done.output
    assert sorted(Path().iterdir()) == before


def test_nothing_is_asked_before_it_is_known_that_the_folder_is_free(work: Path) -> None:
    made()
    done = made("--passphrase-fd", "99")
    assert done.exit_code == 1
    assert "never written over" in done.stderr


def test_a_campaigns_texts_do_not_reach_the_terminal_as_they_are(work: Path) -> None:
    counter = iter(range(10_000))
    Path("campaign.json").write_bytes(
        to_json(with_texts(campaign(), lambda _: f"{next(counter)}\x1b[2J\u202e\nerror: x"))
    )
    for done in (run("show", "campaign.json"), made("--no-pdf")):
        assert done.exit_code == 0
        assert "\x1b" not in done.output
        assert "\u202e" not in done.output
        assert "\nerror: x" not in done.output


@pytest.mark.parametrize("command", ["make", "verify", "show"])
def test_help_has_an_example(command: str) -> None:
    assert f"Example: hillhold-lab report {command} " in run(command, "--help").stdout


def test_where_the_pdfs_library_is_missing_it_says_what_to_install(work: Path) -> None:
    code = "import sys; sys.modules['reportlab'] = None; from hillhold_bootsim.cli import main; main()"
    words = ["report", "make", "campaign.json", "--out", "report"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.returncode == 3, done.stderr
    assert "hint: pip install 'hillhold-bootsim[report]', or leave the PDF out with --no-pdf" in done.stderr
    assert not Path("report").exists()
    again = subprocess.run(
        [sys.executable, "-c", code, *words, "--no-pdf"], capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_disk_that_is_full_leaves_nothing_behind(work: Path) -> None:
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); from hillhold_bootsim.cli import main; main()"
    words = ["report", "make", "campaign.json", "--out", "report", "--no-pdf"]
    before = sorted(Path().iterdir())
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "error: cannot write" in done.stderr
    assert "hint: " in done.stderr
    assert sorted(Path().iterdir()) == before


def test_of_two_reports_made_at_once_one_is_there_whole_and_the_other_refused(work: Path) -> None:
    words = [
        sys.executable,
        "-c",
        "from hillhold_bootsim.cli import main; main()",
        "report",
        "make",
        "campaign.json",
        "--out",
        "report",
    ]
    many = [
        subprocess.Popen([*words, "--key", "file:lab.pem"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    ended = [(one.communicate()[1].decode(), one.returncode) for one in many]
    assert sorted(code for _, code in ended) == [0, 1, 1], ended
    assert all("never written over" in error for error, code in ended if code)
    assert run("verify", "report", "--key", "lab.pub").exit_code == 0
    assert sorted(path.name for path in Path().iterdir()) == ["campaign.json", "lab.pem", "lab.pub", "report"]
