"""The command: exit codes, two-line errors, JSON, and what each command does when something is wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from command import KEYS, hillhold, pub, uri
from hillhold_signer import Repository, Wish, add_release, example_signer, verify_tree
from hillhold_signer.cli import main
from hillhold_signer.drafted import lineage
from hillhold_signer.keyfiles import generate, write_key
from hillhold_signer.keys import fingerprint, load_public
from workshop import HARDWARE, NOW, image, release, started, tree


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """One release is published, a second one is drafted."""
    found = started(tmp_path / "repo")
    release(found, image("1.0.0"))
    add_release(found, "pump", image("1.1.0", edits=20), Wish("app.bin", hardware=HARDWARE[:1]), NOW)
    return found


def test_the_version_and_every_help_text_with_an_example() -> None:
    assert hillhold("--version").output == "hillhold, version 0.1.0\n"
    assert "The way of a release" in hillhold().output + hillhold("--help").output
    for path in paths(main):
        text = hillhold(*path, "--help").output
        assert re.search(f"Examples?:\n    hillhold {' '.join(path)}", text), path
        assert "--json" in text or path in (["completion"], ["serve"]), path


def paths(group: click.Group) -> Iterator[list[str]]:
    """The words that lead to each command."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from ([name, *rest] for rest in paths(command))
        else:
            yield [name]


def test_a_person_sees_the_difference_and_says_yes(repository: Repository) -> None:
    path = repository.folder.path
    no = hillhold("sign", path, "--key", uri("release-1"), answers="n\n")
    assert no.exit_code == 1
    assert "error: nothing was done" in no.stderr
    assert not repository.state().drafts["pump"].signatures
    yes = hillhold("sign", path, "--key", uri("release-1"), answers="y\n")
    assert yes.exit_code == 0
    assert "  pump: version 3 after version 2\n" in yes.output
    assert "+ pump/1.1.0/app.bin: feature release, for nrf51-a, component app, security counter 1" in yes.output
    assert " bytes from " in yes.output
    assert "! " not in yes.output
    assert "pump/1.0.0" not in yes.output
    assert repository.state().drafts["pump"].digest in yes.output
    assert "signed pump version 3 (1 of 2)" in yes.output
    again = hillhold("sign", path, "--key", uri("release-1"), "--yes")
    assert "had signed it already; nothing changed" in again.output


def test_publish_names_what_is_missing_then_publishes(repository: Repository) -> None:
    path = repository.folder.path
    online = ["--snapshot-key", uri("snapshot"), "--timestamp-key", uri("timestamp")]
    short = hillhold("publish", path, *online)
    assert short.exit_code == 1
    assert short.stdout == ""
    assert "error: signatures are missing: pump has 0 of 2, can be signed by release-1, release-2\n" in short.stderr
    assert "hint: " in short.stderr
    for name in ("release-1", "release-2"):
        hillhold("sign", path, "--key", uri(name), "--yes")
    done = hillhold("publish", path, *online, "--json")
    assert json.loads(done.stdout) == {"published": {"pump": 3}}
    assert hillhold("publish", path, *online).output == "nothing to publish\n"
    renewed = json.loads(hillhold("refresh", path, *online, "--json", now=NOW + 60).stdout)
    assert renewed == {"renewed": {"timestamp": 4}}
    assert hillhold("refresh", path, *online, now=NOW - 3600).exit_code == 1


def test_status_as_text_and_json(repository: Repository) -> None:
    repository.sign(example_signer("release-2"))
    text = hillhold("status", repository.folder.path).output
    assert text.startswith("DEMO repository")
    assert "pump         2          2026-07-02T00:00:00Z  in 182 days            3      1 of 2: release-2\n" in text
    assert "next: sign pump: 1 of 2 signatures; release-1 can" in text
    value = json.loads(hillhold("status", repository.folder.path, "--json", now=NOW + 400 * 86400).stdout)
    assert value["roles"]["pump"]["signatures"][0]["signed"] == [example_signer("release-2").public_key.keyid]
    assert "refresh timestamp: it has expired" in value["next"]
    assert "renew root: it has expired" in value["next"]
    assert "change pump: its draft has expired, and a change dates it anew" in value["next"]


def test_verify_by_its_own_or_a_given_root(repository: Repository, tmp_path: Path) -> None:
    public = repository.folder.public
    good = hillhold("verify", public, "--root", public / "metadata/1.root.json", "--json")
    assert json.loads(good.stdout)["versions"]["pump"] == 2
    copy = tmp_path / "copy"
    for name, data in tree(public).items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(data)
    assert hillhold("verify", copy).exit_code == 0
    late = hillhold("verify", copy, now=NOW + 3 * 86400)
    assert late.exit_code == 1
    assert "expired" in late.stderr
    (file,) = copy.glob("targets/pump/1.0.0/*")
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    assert "target pump/1.0.0/app.bin: expected" in hillhold("verify", copy).stderr
    file.unlink()
    assert "no such file" in hillhold("verify", copy).stderr
    (copy / "metadata/2.pump.json").unlink()
    assert "2.pump.json" in hillhold("verify", copy).stderr
    other = started(tmp_path / "other").folder.metadata("1.root.json")
    (tmp_path / "junk").write_bytes(b"{}")
    assert hillhold("verify", public, "--root", tmp_path / "junk").exit_code == 1
    assert hillhold("verify", public, "--root", other).exit_code == 0  # the same example keys, the same bytes
    assert hillhold("verify", KEYS).exit_code == 1


def test_init_without_demo_refuses_example_keys(tmp_path: Path) -> None:
    (tmp_path / "ceremony.toml").write_text(
        "\n".join(
            [
                f"[root]\nthreshold = 1\nkeys = [{{ name = 'Ada', file = '{pub('root-1')}' }}]",
                f"[targets]\nthreshold = 1\nkeys = [{{ name = 'Grace', file = '{pub('targets-1')}' }}]",
                f"[snapshot]\nkey = {{ file = '{pub('snapshot')}', uri = '{uri('snapshot')}' }}",
                f"[timestamp]\nkey = {{ file = '{pub('timestamp')}', uri = '{uri('timestamp')}' }}",
            ]
        )
    )
    refused = hillhold("init", tmp_path / "repo", "--config", tmp_path / "ceremony.toml")
    assert refused.exit_code == 1
    assert "the example key 'root-1': its private part is public" in refused.stderr
    assert "--demo" in refused.stderr
    assert not (tmp_path / "repo").exists()
    made = hillhold("init", tmp_path / "repo", "--config", tmp_path / "ceremony.toml", "--demo")
    assert "DEMO" in made.output


def test_keys_by_prompt_and_by_descriptor(tmp_path: Path) -> None:
    differ = hillhold("key", "new", tmp_path / "ada", answers="one\ntwo\n")
    assert differ.exit_code == 1
    assert not (tmp_path / "ada.pem").exists()
    read, write = os.pipe()
    os.write(write, b"secret\n")
    os.close(write)
    assert hillhold("key", "new", tmp_path / "ada.pem", "--passphrase-fd", read, "--type", "ecdsa-p256").exit_code == 0
    os.close(read)
    shown = json.loads(hillhold("key", "show", tmp_path / "ada.pem", "--json").stdout)
    assert (shown["private"], shown["scheme"]) == ("encrypted", "ecdsa-sha2-nistp256")
    listed = json.loads(hillhold("key", "list", tmp_path, "--json").stdout)["keys"]
    assert len(listed) == 2
    assert "everybody has" in hillhold("key", "show", pub("image")).output.lower()
    assert hillhold("key", "new", tmp_path / "x", "--no-passphrase", "--passphrase-fd", "0").exit_code == 2
    assert hillhold("key", "new", tmp_path / "x", "--passphrase-fd", "999").exit_code == 2


def test_a_wrong_passphrase_signs_nothing(repository: Repository, tmp_path: Path) -> None:
    hillhold("key", "new", tmp_path / "ada", answers="right\nright\n")
    (tmp_path / "ada.pub").unlink()  # else it is known that nothing asks for it
    wrong = hillhold("sign", repository.folder.path, "--key", f"file:{tmp_path / 'ada.pem'}", answers="wrong\n")
    assert wrong.exit_code == 1
    assert "error: wrong passphrase for" in wrong.stderr
    assert not repository.state().drafts["pump"].signatures


def test_an_image_by_an_rsa_key_that_depends_on_others(tmp_path: Path) -> None:
    (tmp_path / "raw.bin").write_bytes(bytes(1000))
    write_key(tmp_path / "boot", generate("rsa-pss"), None)
    mark = fingerprint(load_public(tmp_path / "boot.pub"))
    plan = ("--version", "1.0.0", "--security-counter", "3", "--header-size", "0x200", "--slot-size", "0x20000")
    words = ("image", "sign", tmp_path / "raw.bin", tmp_path / "out.bin", "--key", f"file:{tmp_path}/boot.pem", *plan)
    signed = hillhold(*words, "--pad-header", "--dependency", "1:1.2.0", "--dependency", "0:2.0.0+7").output
    depends = "depends on        image 1, version 1.2.0 or above\ndepends on        image 0, version 2.0.0+7 or above\n"
    assert signed.startswith(f"{tmp_path}/out.bin: 2020 bytes, signed with image key of fingerprint {mark[:16]}\n")
    assert signed.endswith(depends)
    assert hillhold("image", "show", tmp_path / "out.bin").output.endswith(depends)
    shown = hillhold("key", "show", tmp_path / "boot.pub").output
    named = json.loads(hillhold("key", "show", tmp_path / "boot.pub", "--json").output)["image_key_hash"]
    assert f"fingerprint  {mark}\nimage key    {named}: its name in an MCUboot image\n" in shown
    assert bytes.fromhex(named) in (tmp_path / "out.bin").read_bytes()
    refused = hillhold(*words, "--pad-header", "--dependency", "1:1.2")
    assert refused.exit_code == 1
    assert refused.stderr == "error: dependency: expected IMAGE:VERSION, such as 1:1.2.0, got '1:1.2'\n"


def test_only_an_rsa_key_has_a_name_of_its_own_in_images(tmp_path: Path) -> None:
    said = json.loads(hillhold("key", "show", pub("image"), "--json").output)
    assert said["image_key_hash"] == said["fingerprint"]
    assert "image key" not in hillhold("key", "show", pub("image")).output
    write_key(tmp_path / "ada", generate("ecdsa-p384"), None)
    assert json.loads(hillhold("key", "show", tmp_path / "ada.pub", "--json").output)["image_key_hash"] is None
    assert "image key" not in hillhold("key", "show", tmp_path / "ada.pub").output


def test_an_image_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "raw.bin").write_bytes(bytes(1000))
    options = ["--version", "1.0.0", "--security-counter", "3", "--header-size", "0x200", "--slot-size", "0x20000"]
    words = [
        "image",
        "sign",
        tmp_path / "raw.bin",
        tmp_path / "out.bin",
        "--key",
        uri("image"),
        "--pad-header",
        *options,
    ]
    refused = hillhold(*words)
    assert refused.exit_code == 1
    assert "private part is public" in refused.stderr
    assert not (tmp_path / "out.bin").exists()
    mark = fingerprint(load_public(Path(pub("image"))))
    assert f"signed with image key of fingerprint {mark[:16]}\n" in hillhold(*words, "--demo").output
    value = json.loads(hillhold(*words, "--demo", "--json").stdout)
    assert value["image_key"] == mark
    assert (value["version"], value["security_counter"]) == ("1.0.0", 3)
    assert "1.0.0" in hillhold("image", "show", tmp_path / "out.bin").output
    assert hillhold("image", "show", tmp_path / "raw.bin").exit_code == 1
    assert hillhold(*words[:-1], "many").exit_code == 2
    (tmp_path / "none.bin").write_bytes(image("1.0.0", None))
    assert "CONFIG_MCUBOOT_EXTRA_IMGTOOL_ARGS" in hillhold("image", "show", tmp_path / "none.bin").output


def test_products_on_the_command_line(repository: Repository, tmp_path: Path) -> None:
    path = repository.folder.path
    words = ["product", "add", path, "valve", "--hardware", "b", "--hardware", "a", "--threshold", "1"]
    added = hillhold(*words, "--key", pub("release-1"), "--max-offline-grace", "30d", "--json")
    assert json.loads(added.stdout)["hardware"] == ["a", "b"]
    shown = hillhold("sign", path, "--key", uri("targets-1"), "--yes").output
    assert "+ valve longest offline grace: 30d" in shown
    assert "+ valve key release-1" in shown
    more = hillhold("product", "hardware", path, "valve", "c")
    assert more.exit_code == 0
    assert "0 of 2" in hillhold("status", path).output
    assert hillhold("product", "hardware", path, "none", "c").exit_code == 1
    assert hillhold(*words, "--key", pub("release-1"), "--max-offline-grace", "soon").exit_code == 2
    assert hillhold(*words[:3], "targets", *words[4:], "--key", pub("release-1")).exit_code == 1
    assert hillhold(*words, "--key", tmp_path / "none.pub").exit_code == 3


@pytest.mark.slow
def test_add_reads_the_file_name_and_says_what_it_did(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "APP.bin").write_bytes(image("1.2.0", edits=30))
    words = ["add", repository.folder.path, "pump", tmp_path / "APP.bin", "--hardware", HARDWARE[0]]
    value = json.loads(hillhold(*words, "--kind", "security", "--json").stdout)
    (found,) = value["releases"]
    assert found["path"] == "pump/1.2.0/app.bin"
    assert len(found["patches"]) == 2
    assert hillhold(*words).exit_code == 1
    (tmp_path / "old.bin").write_bytes(image("1.1.5", edits=31))
    lower = hillhold(*words[:3], tmp_path / "old.bin", *words[4:])
    assert lower.exit_code == 1
    assert "--allow-lower" in lower.stderr
    assert hillhold(*words[:3], tmp_path / "old.bin", *words[4:], "--allow-lower").exit_code == 0


@pytest.mark.parametrize(
    "words", [["frob"], ["status"], ["status", "nowhere"], ["sign", "."], ["publish", ".", "--frob"]]
)
def test_usage_is_exit_code_2_in_two_lines(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = hillhold(*words)
    assert result.exit_code == 2
    assert [line.partition(":")[0] for line in result.stderr.splitlines()] == ["error", "hint"]
    assert result.stdout == ""


def test_damaged_repositories_are_refused_without_a_traceback(repository: Repository) -> None:
    layout = repository.folder
    online = ["--snapshot-key", uri("snapshot"), "--timestamp-key", uri("timestamp")]
    (head,) = lineage(layout, "pump", repository.state().published("pump")).heads
    draft = layout.drafts / "pump" / f"{head.name}.json"
    person = next(layout.people.iterdir())
    for path, data in ((draft, b"{"), (draft, b"\xff"), (layout.config, b"x"), (person, b"\x1b")):
        good = path.read_bytes()
        path.write_bytes(data)
        result = hillhold("publish", layout.path, *online)
        assert result.exit_code == 1, path
        assert result.stderr.startswith("error: "), path
        assert "Traceback" not in result.output
        path.write_bytes(good)
    draft.unlink()
    draft.mkdir()
    assert hillhold("status", layout.path).exit_code == 3


def test_an_error_cannot_forge_a_second_line(tmp_path: Path) -> None:
    result = hillhold("add", started(tmp_path / "repo").folder.path, "x\n\x1b[31merror: fine", pub("image"))
    assert result.exit_code == 1
    assert "\x1b" not in result.stderr
    assert len(result.stderr.splitlines()) <= 2


@pytest.mark.slow
def test_the_installed_command_in_a_process_of_its_own(repository: Repository) -> None:
    command = [sys.executable, "-m", "hillhold_signer.cli", "status", str(repository.folder.path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["roles"]["pump"]["draft"] == 3


@pytest.mark.slow
def test_two_processes_that_write_at_once_both_count(tmp_path: Path) -> None:
    now = int(time.time())
    repository = started(tmp_path / "repo", now)
    commands = []
    for version, component in (("1.0.0", "app"), ("1.0.0", "radio"), ("1.0.0", "modem")):
        file = tmp_path / f"{component}.bin"
        file.write_bytes(image(version))
        words = [
            "add",
            str(repository.folder.path),
            "pump",
            str(file),
            "--hardware",
            HARDWARE[0],
            "--component",
            component,
        ]
        commands.append([sys.executable, "-m", "hillhold_signer.cli", *words])
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
    assert [process.wait(timeout=60) for process in running] == [0, 0, 0]
    assert len(repository.state().line("pump").targets) == 3
    for name in ("release-1", "release-2"):
        repository.sign(example_signer(name))
    online = ["--snapshot-key", uri("snapshot"), "--timestamp-key", uri("timestamp")]
    command = [sys.executable, "-m", "hillhold_signer.cli", "publish", str(repository.folder.path), *online]
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=60) for process in running] == [0, 0]
    seen = verify_tree(repository.folder.path, int(time.time()))
    assert (seen.versions["pump"], seen.versions["timestamp"], len(seen.targets)) == (2, 2, 3)


def test_without_a_command_the_help_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([], standalone_mode=False) == 2
    assert capsys.readouterr().err.startswith("Usage: ")


def test_an_error_is_json_where_json_was_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["status", str(tmp_path), "--json"], standalone_mode=False) == 1
    out = capsys.readouterr()
    found = json.loads(out.out)
    assert found["exit"] == 1
    assert found["hint"] == "make one with `hillhold init`"
    assert "a Hillhold repository" in found["error"]
    assert out.err == ""
