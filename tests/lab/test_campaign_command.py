"""`hillhold-lab run` and `plan`, as a laboratory starts them; a virtual board on a port stands for a real one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from campaigns import SMALL
from clusters import started
from hillhold_bootsim.lab.jsonform import from_json
from hillhold_bootsim.lab.report.summary import summarise
from lab import BIN, Done, run

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals and shell scripts"),
    pytest.mark.slow,
]


def lab(folder: Path, *arguments: object, **options: Any) -> Done:
    return run("hillhold-lab", *arguments, cwd=folder, stdin=subprocess.DEVNULL, **options)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    (tmp_path / "small.toml").write_text(SMALL)
    return tmp_path


def test_a_campaign_from_its_file_to_its_report(small: Path) -> None:
    done = lab(small, "run", "small.toml")
    assert done.code == 0, done.err
    assert "PASS         one  soak: 4 updates back and forth came in" in done.out
    assert "VIRTUAL BOARD" in done.out
    found = from_json((small / "small/campaign.json").read_bytes())
    assert found.finished
    assert found.versions["Python"]
    assert {"report.html", "junit.xml", "manifest.txt", "campaign.json"} <= {
        entry.name for entry in (small / "small/report").iterdir()
    }
    assert (small / "small/report/campaign.json").read_bytes() == (small / "small/campaign.json").read_bytes()
    again = lab(small, "run", "small.toml", "--json")
    assert again.code == 0
    assert again.json["finished"] is True
    assert from_json((small / "small/campaign.json").read_bytes()) == found


def test_a_report_is_signed_by_the_key_that_is_given(small: Path) -> None:
    assert run("hillhold", "key", "new", "lab.pem", "--no-passphrase", cwd=small).code == 0
    done = lab(small, "run", "small.toml", "--key", "file:lab.pem", "--out", "out")
    assert done.code == 0, done.err
    assert lab(small, "report", "verify", "out/report", "--key", "lab.pub").code == 0
    assert lab(small, "run", "small.toml", "--key", "file:lab.pem", "--out", "out").code == 0


def test_a_report_that_is_there_does_not_stay_unsigned_where_a_key_is_given(small: Path) -> None:
    assert run("hillhold", "key", "new", "lab.pem", "--no-passphrase", cwd=small).code == 0
    assert lab(small, "run", "small.toml").code == 0
    signed = ("run", "small.toml", "--key", "file:lab.pem")
    done = lab(small, *signed)
    assert done.code == 1
    assert "a report is there already" in done.err
    assert "hint: the report is never written over: `hillhold-lab report make small/campaign.json" in done.err
    assert lab(small, "run", "small.toml").code == 0
    other = lab(small, "report", "make", "small/campaign.json", "--out", "other", "--key", "file:lab.pem")
    assert other.code == 0
    (small / "small/report").rename(small / "unsigned")
    (small / "other").rename(small / "small/report")
    assert lab(small, *signed).code == 0
    (small / "small/report/junit.xml").unlink()
    done = lab(small, *signed)
    assert (done.code, "got a changed one" in done.err) == (1, True)


def test_what_is_no_report_is_said_before_anything_is_done(small: Path) -> None:
    (small / "out/report").mkdir(parents=True)
    (small / "out/journal.jsonl").touch()
    (small / "out/report/mine.txt").touch()
    done = lab(small, "run", "small.toml", "--out", "out")
    assert done.code == 1
    assert "PASS" not in done.out
    (small / "out/report/mine.txt").unlink()
    assert lab(small, "run", "small.toml", "--out", "out").code == 0


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (("seed = 3", "seed = 4"), 1, "seed of the campaign: expected 3, got 4"),
        (("updates = 4", "updates = 5"), 1, "SHA-256 of the campaign file"),
        (("spread = 3", "spread = three"), 1, "TOML"),
    ],
)
def test_a_file_that_changed_does_not_go_on(small: Path, change: tuple[str, str], code: int, words: str) -> None:
    assert lab(small, "run", "small.toml").code == 0
    before = (small / "small/campaign.json").read_bytes()
    (small / "small.toml").write_text(SMALL.replace(*change))
    done = lab(small, "run", "small.toml")
    assert done.code == code
    assert words in done.err
    assert (small / "small/campaign.json").read_bytes() == before


def test_a_board_file_that_changed_does_not_go_on(small: Path) -> None:
    (small / "small.toml").write_text(SMALL.replace("virtual-m4-1m", "mine.toml"))
    shown = lab(small, "boards", "show", "virtual-m4-1m").out
    (small / "mine.toml").write_text(shown)
    assert lab(small, "run", "small.toml").code == 0
    (small / "mine.toml").write_text(shown + "# another\n")
    done = lab(small, "run", "small.toml")
    assert done.code == 1
    assert "SHA-256 of the board file mine.toml, since the campaign began" in done.err


def test_a_case_that_fails_is_exit_code_1(small: Path) -> None:
    (small / "small.toml").write_text(SMALL.replace("errors = 1e-4", "drops = 1"))
    done = lab(small, "run", "small.toml")
    assert done.code == 1
    assert "FAIL         one  line-noisy" in done.out


def test_what_is_not_decided_is_exit_code_3(small: Path) -> None:
    item = '[[item]]\nname = "one"\nboard = "virtual-m4-1m"\nstock = "zephyr"\n'
    (small / "small.toml").write_text(f'format = 1\ntitle = "None"\n{item}[attacks]\ncases = ["rollback-line"]\n')
    done = lab(small, "run", "small.toml")
    assert done.code == 3, done.out + done.err
    assert "NOT DECIDED: nothing was tested" in done.out
    assert (small / "small/report/report.html").exists()


def test_an_item_on_which_nothing_was_decided_is_exit_code_3(small: Path) -> None:
    right = '[[item]]\nname = "right"\nboard = "virtual-m4-1m"\n'
    stock = right.replace("right", "stock") + 'stock = "zephyr"\n'
    (small / "small.toml").write_text(
        f'format = 1\ntitle = "Two"\n{right}{stock}[attacks]\ncases = ["rollback-line"]\n'
    )
    done = lab(small, "run", "small.toml")
    assert done.code == 3, done.out + done.err
    assert "NOT DECIDED: 1 cases passed, but nothing was tested to an end on stock" in done.out


def test_a_board_that_is_not_there_is_exit_code_3_and_what_is_done_is_kept(small: Path) -> None:
    (small / "small.toml").write_text(SMALL + '[[item]]\nname = "unit 7"\nport = "./no-such-port"\n')
    done = lab(small, "run", "small.toml", "--yes")
    assert done.code == 3
    assert "unit 7: the board cannot be reached" in done.err
    assert "hint: run it again" in done.err
    found = from_json((small / "small/campaign.json").read_bytes())
    assert not found.finished
    assert summarise(found).headline.startswith("NOT DECIDED")
    assert not (small / "small/report").exists()


def test_a_real_board_is_not_touched_without_a_yes(small: Path) -> None:
    (small / "small.toml").write_text(SMALL + '[[item]]\nname = "unit 7"\nport = "./no-such-port"\n')
    done = lab(small, "run", "small.toml")
    assert done.code == 2
    assert "nothing was done" in done.err
    assert "REAL board on port ./no-such-port" in done.err
    assert "cannot be undone" in done.err
    assert not (small / "small").exists()


def test_a_plan_says_what_will_be_done_and_does_nothing(small: Path) -> None:
    (small / "small.toml").write_text(
        SMALL + '[[item]]\nname = "unit 7"\nport = "./p"\npower = { hub = "1-1", port = 2 }\n'
    )
    done = lab(small, "plan", "small.toml", "--provisioning", "for-the-board")
    assert done.code == 0
    for words in (
        "REAL board on port ./p",
        "port 2 of the USB hub 1-1",
        "left out: wrong-hardware",
        "cannot be undone",
    ):
        assert words in done.out
    assert (small / "for-the-board/1.root.json").exists()
    value = lab(small, "plan", "small.toml", "--json").json
    assert [item["kind"] for item in value["items"]] == ["virtual", "serial"]
    assert value["items"][1]["seconds"] > 60
    assert not (small / "small").exists()


@pytest.mark.slow
def test_a_cluster_finds_what_one_worker_finds(small: Path) -> None:
    text = SMALL.split("[attacks]")[0] + "[power_cuts]\ndepth = 1\n"
    (small / "small.toml").write_text(text)
    assert lab(small, "run", "small.toml", "--workers", "1", "--out", "one").code == 0
    with started(small, 2) as there:
        done = lab(small, "run", "small.toml", "--scheduler", there.address, "--out", "many")
    assert done.code == 0, done.err
    one, many = (from_json((small / name / "campaign.json").read_bytes()) for name in ("one", "many"))
    assert many.tested == one.tested
    (cuts,) = (result for result in many.tested[0].results if result.case == "power-cuts-at-operations")
    assert cuts.figures["cuts"] > 100


# --- interrupted ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [
        signal.SIGKILL,
        pytest.param(signal.SIGINT, marks=pytest.mark.deep),
        pytest.param(signal.SIGTERM, marks=pytest.mark.deep),
    ],
)
def test_a_campaign_that_is_killed_goes_on(small: Path, how: signal.Signals) -> None:
    (small / "small.toml").write_text(
        SMALL.replace("updates = 4", "updates = 60").replace('["rollback-timestamp", ', '["metadata", ')
    )
    journal = small / "small/journal.jsonl"
    for lines in (3, 12):
        process = subprocess.Popen(
            [BIN / "hillhold-lab", "run", "small.toml", "--workers", "2"],
            cwd=small,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = monotonic() + 60
        while not journal.exists() or journal.read_bytes().count(b"\n") < lines:
            assert process.poll() is None
            assert monotonic() < end
            sleep(0.02)
        process.send_signal(how)
        assert process.wait(60) != 0
    done = lab(small, "run", "small.toml", "--workers", "2")
    assert done.code == 0, done.err
    assert "going on: " in done.out
    found = from_json((small / "small/campaign.json").read_bytes())
    assert found.finished
    assert lab(small, "run", "small.toml", "--workers", "1", "--out", "other").code == 0
    other = from_json((small / "other/campaign.json").read_bytes())
    assert other.tested == found.tested


@pytest.mark.slow
def test_two_runs_at_once_are_one_too_many(small: Path) -> None:
    (small / "small.toml").write_text(SMALL.replace("updates = 4", "updates = 400"))
    journal = small / "small/journal.jsonl"
    process = subprocess.Popen([BIN / "hillhold-lab", "run", "small.toml"], cwd=small, stdout=subprocess.DEVNULL)
    try:
        end = monotonic() + 60
        while not journal.exists():
            assert monotonic() < end
            sleep(0.02)
        done = lab(small, "run", "small.toml")
        assert done.code == 3
        assert "in use by another process" in done.err
    finally:
        process.kill()
        process.wait(60)


# --- a board on a port, with a switch ----------------------------------------------------------------------------------

SWITCH = f"""
case $1 in
on)
    test -e pid && kill -0 $(cat pid) 2>/dev/null && exit 0
    new="--root for-the-board/1.root.json --product lab --hardware lab-board"
    test -e board.flash && new=
    {BIN}/hillhold-lab board --flash board.flash --link tty --boot-key for-the-board/boot.pub $new \\
        >> board.log 2>&1 < /dev/null &
    echo $! > pid
    for i in $(seq 200); do test -e tty && exit 0; sleep 0.05; done; exit 1;;
off) kill -9 $(cat pid); rm -f pid tty;;
esac
"""
REAL = """
format = 1
title = "A board on a port"
seed = 5

[[item]]
name = "unit 7"
port = "./tty"
power = { on = ["sh", "switch.sh", "on"], off = ["sh", "switch.sh", "off"] }

[attacks]
cases = ["rollback-timestamp"]

[[line]]
name = "noisy"
errors = 1e-4

[power_cuts]
spread = 3
seconds = 0.2

[soak]
updates = 2
"""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "switch.sh").write_text(SWITCH)
    (tmp_path / "real.toml").write_text(REAL)
    assert lab(tmp_path, "plan", "real.toml", "--provisioning", "for-the-board").code == 0
    yield tmp_path
    if (tmp_path / "pid").exists():
        with suppress(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.deep
def test_a_board_on_a_port_whose_power_a_command_switches(bench: Path) -> None:
    done = lab(bench, "run", "real.toml", "--yes", "--json", timeout=300)
    assert done.code == 0, done.out + done.err
    cases = {row["case"]: row for row in done.json["cases"]}
    for name in ("line-noisy", "power-cuts-spread", "soak", "rollback-timestamp"):
        assert cases[name]["outcome"] == "pass", json.dumps(cases[name])
        assert cases[name]["independent"] is False
    found = from_json((bench / "real/campaign.json").read_bytes())
    (cuts,) = (result for result in found.tested[0].results if result.case == "power-cuts-spread")
    assert cuts.figures["cuts"] == 3
    assert found.tested[0].item.facts["port"] == "./tty"
    assert found.tested[0].item.hardware == "lab-board"


@pytest.mark.slow
@pytest.mark.deep
def test_a_board_on_a_port_goes_on_in_the_middle_of_its_cuts(bench: Path) -> None:
    journal = bench / "real/journal.jsonl"
    process = subprocess.Popen(
        [BIN / "hillhold-lab", "run", "real.toml", "--yes"],
        cwd=bench,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = monotonic() + 120
    while not journal.exists() or journal.read_bytes().count(b'"cuts during') < 1:
        assert process.poll() is None
        assert monotonic() < end
        sleep(0.02)
    process.kill()
    process.wait(60)
    done = lab(bench, "run", "real.toml", "--yes", timeout=300)
    assert done.code == 0, done.out + done.err
    lines = [json.loads(line) for line in journal.read_bytes().splitlines()]
    parts = [line["part"]["text"] for line in lines if "part" in line and line["case"] == "power-cuts-spread"]
    assert len(parts) == 3, done.out + (bench / "real/campaign.json").read_text()
