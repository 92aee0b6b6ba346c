"""`hillhold status` and `diff`: who still has to sign what, what expires when, and what is different."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tuf.api.metadata import TargetFile, Targets

from hillhold_signer import Expiry, NamedKey, Repository, Wish, add_product, add_release, example_signer
from hillhold_signer.cli import main
from hillhold_signer.cli.terminal import Edge
from hillhold_signer.difference import MAX_LINES, difference, label, summary
from hillhold_signer.lines import set_caps
from hillhold_signer.plain import plain
from hillhold_signer.status import Alert, status
from workshop import HARDWARE, NOW, ceremony, image, online, pump, release, sign_all, started, team

WISH = Wish("app.bin", hardware=HARDWARE[:1])
DAY = 86_400


def hillhold(*words: object, now: int = NOW) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], obj=Edge(lambda: now))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    found = started(tmp_path / "repo")
    release(found, image("1.0.0"))
    return found


@pytest.mark.parametrize(
    ("days", "alerts"),
    [
        (0, {}),
        (0.74, {}),  # the timestamp lasts a day; the snapshot two weeks
        (0.76, {"timestamp": "soon"}),
        (1, {"timestamp": "expired"}),
        (10.4, {"timestamp": "expired"}),
        (10.6, {"timestamp": "expired", "snapshot": "soon"}),
        (167.9, {"timestamp": "expired", "snapshot": "expired"}),  # a line lasts 182 days, and is due 14 before
        (168.1, {"timestamp": "expired", "snapshot": "expired", "pump": "soon"}),
        (335, {"timestamp": "expired", "snapshot": "expired", "pump": "expired", "root": "soon", "targets": "soon"}),
    ],
)
def test_what_expires_is_told_ahead(repository: Repository, days: float, alerts: dict[str, Alert]) -> None:
    now = NOW + int(days * DAY)
    found = status(repository.state(), {}, now, Expiry(), {}, demo=True)
    assert {item.role: item.alert for item in found.roles if item.alert} == alerts
    assert found.late is bool(alerts)
    result = hillhold("status", repository.folder.path, "--check", now=now)
    assert result.exit_code == int(bool(alerts))
    assert hillhold("status", repository.folder.path, now=now).exit_code == 0
    for role, alert in alerts.items():
        (line,) = (line for line in result.output.splitlines() if line.startswith(f"{role} "))
        assert ("EXPIRED" in line) is (alert == "expired")
        assert " in " in line or alert == "expired"


@pytest.mark.slow
def test_status_names_who_has_signed_who_can_and_whose_signature_counts_no_more(repository: Repository) -> None:
    add_release(repository, "pump", image("1.1.0"), WISH, NOW)
    repository.sign(example_signer("release-1"))
    add_release(repository, "pump", image("1.2.0", edits=5), WISH, NOW)
    (repository.folder.drafts / "pump/notes.txt").write_text("hello")
    text = hillhold("status", repository.folder.path).output
    assert "next: sign pump: 0 of 2 signatures; release-1, release-2 can\n" in text
    assert "next: sign pump again: it was changed after release-1 had signed\n" in text
    assert "next: look at drafts/pump: 1 file that is not a signature of this draft\n" in text
    assert "next: publish" not in text
    value = json.loads(hillhold("status", repository.folder.path, "--json").stdout)
    keyid = example_signer("release-1").public_key.keyid
    assert value["roles"]["pump"]["signed_before"] == [keyid]
    assert value["roles"]["pump"]["strange_files"] == 1
    assert value["people"][keyid] == "release-1"
    assert value["roles"]["pump"]["seconds_left"] == 182 * DAY
    repository.sign(example_signer("release-1"))
    assert "again" not in hillhold("status", repository.folder.path).output
    repository.sign(example_signer("release-2"))
    text = hillhold("status", repository.folder.path).output
    assert "1 file that is not a signature" in text
    assert "next: publish: every draft has its signatures" in text


def test_status_and_diff_tell_of_a_clash_and_go_on(repository: Repository, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(repository.folder.path, other)
    for path, seed in ((repository.folder.path, 1), (other, 2)):
        add_release(Repository(path), "pump", image("1.1.0", seed=seed), WISH, NOW)
    set_caps(repository, "pump", NOW, hardware=lambda known: [*known, *["nrf54-c"]])
    shutil.copytree(other / "drafts", repository.folder.path / "drafts", dirs_exist_ok=True)
    path = repository.folder.path
    text = hillhold("status", path).output
    assert "drafts that do not go together" in text
    assert "next: decide about pump: drafts " in text
    assert "`hillhold drop REPO pump " in text
    assert "next: sign targets: 0 of 2" in text
    assert "pump" in json.loads(hillhold("status", path, "--json").stdout)["roles"]
    shown = json.loads(hillhold("diff", path, "--json").stdout)
    assert [item["role"] for item in shown["drafts"]] == ["targets"]
    assert "do not go together" in shown["clashes"]["pump"]["error"]
    assert "! pump: drafts " in hillhold("diff", path).output
    refused = hillhold("drop", path, "pump", "0123456789abcdef")
    assert refused.exit_code == 1
    keys = Path(__file__).parents[2] / "keys-example"
    signed = hillhold("sign", path, "--key", f"file:{keys / 'targets-1-public-on-purpose.pem'}", "--yes")
    assert signed.exit_code == 0
    assert "! pump is not among these: drafts " in signed.output
    assert hillhold("sign", path, "--key", f"file:{keys / 'release-1-public-on-purpose.pem'}", "--yes").exit_code == 1
    digest = shown["clashes"]["pump"]["hint"].rpartition("`… ")[2].strip("`")
    assert f"dropped the draft {digest}" in hillhold("drop", path, "pump", digest).output
    assert "decide" not in hillhold("status", path).output


def test_diff_as_text_and_json_and_for_one_role(repository: Repository) -> None:
    path = repository.folder.path
    assert hillhold("diff", path).output == "nothing is drafted\n"
    add_release(repository, "pump", image("1.1.0", edits=5), WISH, NOW + DAY)
    add_product(repository, replace(pump(), name="valve"), NOW)
    text = hillhold("diff", path, "pump").output
    assert text.startswith(
        "  pump: version 3 after version 2\n~ expires: 2026-07-02T00:00:00Z -> 2026-07-03T00:00:00Z\n"
    )
    assert "valve" not in text
    assert text.endswith(f"  sha256 of what is signed: {repository.state().drafts['pump'].digest}\n")
    drafts = {item["role"]: item for item in json.loads(hillhold("diff", path, "--json").stdout)["drafts"]}
    assert set(drafts) == {"targets", "pump", "valve"}
    assert drafts["pump"]["sha256"] == repository.state().drafts["pump"].digest
    (added,) = (item for item in drafts["pump"]["changes"] if item["name"] == "pump/1.1.0/app.bin")
    assert (added["mark"], added["what"], added["before"]) == ("+", "target", None)
    assert added["after"]["custom"]["hillhold"]["version"] == "1.1.0"
    keys = [item for item in drafts["targets"]["changes"] if item["what"] == "key"]
    assert {item["after"] for item in keys} == {
        example_signer(f"release-{number}").public_key.keyid for number in (1, 2)
    }
    assert hillhold("diff", path, "root").output == "root: nothing is drafted\n"
    refused = hillhold("diff", path, "none")
    assert refused.exit_code == 1
    assert refused.stderr == "error: role: expected one of root, targets, pump, valve, got 'none'\n"


def many(count: int) -> Targets:
    line = Targets(version=1)
    for number in range(count):
        custom = {
            "v": 1,
            "hardware": ["a"],
            "version": f"1.0.{number}",
            "security_counter": 1,
            "format": "raw",
            "kind": "feature",
        }
        path = f"pump/1.0.{number}/app.bin"
        line.targets[path] = TargetFile(9, {"sha256": f"{number:064x}"}, path, {"custom": {"hillhold": custom}})
    return line


def test_a_thousand_releases_are_counted_and_what_decides_is_shown_whole() -> None:
    old, new = many(1000), many(2000)
    for number, field, value in (
        (7, "withdrawn", "it leaks"),
        (1500, "downgrade_from", ["1.0.1600"]),
        (1501, "crit", []),
        (1502, "unknown", 1),
    ):
        new.targets[f"pump/1.0.{number}/app.bin"].custom["hillhold"][field] = value
    new.targets["pump/1.0.1503/app.bin"].unrecognized_fields["more"] = 1
    del new.targets["pump/1.0.8/app.bin"]
    changes = difference("pump", old, new, label({}))
    short, full = summary(changes), [str(change) for change in changes]
    assert len(full) > 1000
    assert len(short) < 12
    for number in (7, 1500, 1501, 1502, 1503, 1999):  # the last is what devices will choose
        assert sum(f"pump/1.0.{number}/app.bin: " in line for line in short) == 1, number
    assert [line for line in short if "more files" in line] == [
        "+ 995 more files come, from pump/1.0.1000/app.bin to pump/1.0.1998/app.bin (--full shows each)",
        "- 1 more files go, from pump/1.0.8/app.bin to pump/1.0.8/app.bin (--full shows each)",
    ]
    del new.targets["pump/1.0.999/app.bin"]
    assert "- pump/1.0.999/app.bin" in summary(difference("pump", old, new, label({})))  # what devices chose
    new = many(2000)
    new.targets["pump/1.0.1999/app.bin"].custom["hillhold"]["withdrawn"] = "it leaks"
    short = summary(difference("pump", old, new, label({})))
    assert any(
        "pump/1.0.1998/app.bin: " in line for line in short
    )  # what devices will choose, since the last is withdrawn
    few = difference("pump", many(1), many(MAX_LINES + 2), label({}))
    assert summary(few) == [str(change) for change in few]


def test_names_that_deceive_are_shown_escaped(tmp_path: Path) -> None:
    assert plain("Ada Lövelace – 木村") == "Ada Lövelace – 木村"
    for char in "\u202e\u200b\u200d\u2066\u00a0\u2003\u3000\u3164\u2800\u115f\ufeff\u00ad\u2028\ufe0f\x9b\x1b\r\n\t":
        shown = plain(f"A{char}da")
        assert char not in shown
        assert shown.startswith("A\\")
    people = team("root-1", "root-2", "root-3", threshold=2)
    name = "Ada\u00a0\u2003Lovelace"
    who = replace(people, keys=(NamedKey(name, people.keys[0].key), *people.keys[1:]))
    repository = Repository.create(tmp_path / "repo", replace(ceremony(), root=who), NOW, demo=True)
    for words in (("status",), ("diff",), ("status", "--json"), ("diff", "--json")):
        output = hillhold(words[0], repository.folder.path, *words[1:]).output
        assert "\\xa0\\u2003Lovelace" in output.replace("\\u00a0", "\\xa0")
        assert "\u00a0" not in output


def test_publishing_when_every_draft_is_complete_is_next(repository: Repository) -> None:
    add_release(repository, "pump", image("1.1.0"), WISH, NOW)
    sign_all(repository, "release-1", "release-2")
    assert "next: publish: every draft has its signatures\n" in hillhold("status", repository.folder.path).output
    repository.publish(online(), NOW)
    assert hillhold("status", repository.folder.path).output.endswith("nothing to do\n")
