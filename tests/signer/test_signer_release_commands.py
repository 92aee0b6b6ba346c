"""The commands that add, withdraw, list and change releases: their words, JSON and exit codes."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hillhold_signer import Repository, Wish
from hillhold_signer.cli import main
from hillhold_signer.cli.terminal import Edge
from hillhold_signer.patching import DEFAULT
from workshop import HARDWARE, NOW, image, online, release, sign_all, started, statement, tree

KEYS = Path(__file__).parents[2] / "keys-example"
CYCLONEDX = '{"bomFormat":"CycloneDX","specVersion":"1.6"}'


def hillhold(*words: object) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words], obj=Edge(lambda: NOW))
    if not isinstance(result.exception, SystemExit | None):
        raise result.exception
    return result


def value(*words: object) -> Any:
    result = hillhold(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    found = started(tmp_path / "repo")
    for version, edits in (("1.0.0", 0), ("1.1.0", 1)):
        release(found, image(version, 2, edits=edits), wish=Wish("app.bin", hardware=HARDWARE), patch_from=DEFAULT)
    return found


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A sysbuild folder with two images."""
    for name, data in (("pump", image("1.2.0", 2, edits=2)), ("ipc_radio", image("3.0.0", 1, 7))):
        place = tmp_path / "build" / name / "zephyr"
        place.mkdir(parents=True)
        (place / "zephyr.signed.bin").write_bytes(data)
    (tmp_path / "build/domains.yaml").write_text("default: pump\ndomains: [{name: ipc_radio}, {name: pump}]\n")
    return tmp_path / "build"


@pytest.mark.slow
def test_a_build_folder_becomes_a_set_with_documents(repository: Repository, build: Path) -> None:
    path = repository.folder.path
    (build / "bom.json").write_text(CYCLONEDX)
    (build / "NEWS.txt").write_text("Quieter.\n")
    words = ["add", path, "pump", build, "--hardware", HARDWARE[0], "--component", "app=pump"]
    words += ["--component", "radio=ipc_radio", "--set", "summer", "--requires", "app:radio>=3.0.0"]
    words += ["--sbom", build / "bom.json", "--notes", build / "NEWS.txt", "--source", "git.example/pump@12ab"]
    said = statement(image("1.2.0", 2, edits=2), image("3.0.0", 1, 7))
    (build / "provenance.json").write_bytes(said[:-1])
    words += ["--provenance", build / "provenance.json"]
    refused = hillhold(*words)
    assert (refused.exit_code, refused.stderr[:24]) == (1, "error: provenance: expec")
    (build / "provenance.json").write_bytes(said)
    result = hillhold(*words, "--publish-documents")
    assert result.exit_code == 0, result.output
    assert f"read {build / 'pump/zephyr/zephyr.signed.bin'}, for component app" in result.stdout
    assert "added pump/1.2.0/app.bin" in result.stdout
    assert "added pump/3.0.0/radio.bin" in result.stdout
    assert "  built from git.example/pump@12ab\n" in result.stdout
    assert "  cyclonedx SBOM, sha256 " in result.stdout
    assert result.stdout.count(f"  provenance, sha256 {sha256(said).hexdigest()}\n") == 2
    assert "  published beside it: pump/3.0.0/news.txt" in result.stdout
    assert "not checked: whose signature this is; `hillhold product image-key`" in result.stdout
    listed = {item["path"]: item for item in value("release", "list", path, "pump")["releases"]}
    assert listed["pump/1.2.0/app.bin"]["requires"] == {"radio": "3.0.0"}
    assert {item["set"] for item in listed.values()} == {None, "summer"}
    text = hillhold("release", "list", path, "pump").stdout
    assert "app          1.2.0           2        feature   drafted              nrf51-a" in text
    assert "  requires radio 3.0.0 or later\n  of the set summer\n" in text
    preview = hillhold("sign", path, "--key", f"file:{KEYS / 'release-1-public-on-purpose.pem'}", "--yes").stdout
    assert "requires radio 3.0.0 or later, installed only with the rest of the set summer" in preview
    assert "SBOM cyclonedx of 45 bytes, sha256 " in preview
    assert "release notes of 9 bytes, sha256 " in preview
    assert f"provenance of {len(said)} bytes, sha256 {sha256(said).hexdigest()}" in preview
    assert 'built from "git.example/pump@12ab"' in preview
    assert "pump/3.0.0/news.txt: a file that devices ignore, 9 bytes, sha256 " in preview
    assert "! " not in preview


def test_which_image_is_which_is_asked_for(repository: Repository, build: Path) -> None:
    before = tree(repository.folder.path)
    result = hillhold("add", repository.folder.path, "pump", build, "--hardware", HARDWARE[0])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: images: expected one, got pump, ipc_radio\nhint: say which is which")
    assert tree(repository.folder.path) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--component", "app"],
        ["--component", "app="],
        ["FILE", "--component", "app=x"],
        ["FILE", "--component", "app", "--component", "radio"],
        ["--component", "app=FILE", "--component", "app=FILE"],
        ["FILE", "--requires", "radio>1.0.0"],
        ["FILE", "--requires", "radio>=1.0"],
        ["FILE", "--requires", "radio>=1.0.0", "--requires", "radio>=1.1.0"],
        ["FILE", "--requires", "other:radio>=1.0.0"],
        ["FILE", "--downgrade-from", "1"],
        ["FILE", "--downgrade-from", "1.0.0-rc1"],
        ["FOLDER", "--component", "app=pump", "--component", "radio=ipc_radio", "--requires", "radio>=3.0.0"],
        ["FOLDER", "--component", "app=pump", "--component", "radio=ipc_radio", "--file-name", "a.bin"],
    ],
)
def test_words_that_leave_a_question_are_usage_errors(
    repository: Repository, build: Path, tmp_path: Path, words: list[str]
) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(image("1.2.0", 2))
    before = tree(repository.folder.path)
    places = {"FILE": str(file), "FOLDER": str(build)}
    result = hillhold("add", repository.folder.path, "pump", *(places.get(word, word) for word in words))
    assert result.exit_code == 2, result.output
    assert [line.partition(":")[0] for line in result.stderr.splitlines()] == ["error", "hint"]
    assert tree(repository.folder.path) == before


def test_files_without_a_folder_and_in_hex(repository: Repository, tmp_path: Path) -> None:
    from intelhex import IntelHex

    written = IntelHex()
    written.puts(0x8000, image("1.2.0", 2, edits=2))
    written.write_hex_file(str(tmp_path / "Pump.HEX"))
    words = ["add", repository.folder.path, "pump", "--hardware", HARDWARE[0]]
    one = value(*words, tmp_path / "Pump.HEX")["releases"][0]
    assert one["path"] == "pump/1.2.0/pump.bin"
    (tmp_path / "r.bin").write_bytes(image("3.0.0", 1, 7))
    two = value(*words, "--component", f"radio={tmp_path / 'r.bin'}")["releases"][0]
    assert (two["path"], two["custom"]["component"]) == ("pump/3.0.0/radio.bin", "radio")


def test_withdrawing_says_where_devices_go_and_what_would_help(repository: Repository) -> None:
    path = repository.folder.path
    none = hillhold("withdraw", path, "pump", "1.1.0", "--reason", "leaks")
    assert none.exit_code == 0
    assert "withdrawn pump/1.1.0/app.bin: leaks\n  no longer listed: pump/1.1.0/app.bin." in none.stdout
    assert (
        "warning: devices on 1.1.0 (nrf51-a, nrf52-b) have no way on and keep running it; "
        "--step-down-to 1.0.0 would give them one\n"
    ) in none.stdout
    assert "  withdrawn: leaks\n" in hillhold("release", "list", path, "pump").stdout
    again = hillhold("withdraw", path, "pump", "1.1.0", "--reason", "leaks", "--step-down-to", "1.0.0")
    assert again.exit_code == 1
    assert "withdrawn before: leaks" in again.stderr


def test_a_step_down_in_json(repository: Repository) -> None:
    path = repository.folder.path
    found = value("withdraw", path, "pump", "1.1.0", "--reason", "leaks", "--step-down-to", "1.0.0")
    assert found["withdrawn"] == ["pump/1.1.0/app.bin"]
    assert found["step_down_to"] == ["pump/1.0.0/app.bin"]
    assert found["devices"] == [{"hardware": list(HARDWARE), "on": "1.1.0", "go_to": "1.0.0", "could_step_down_to": []}]
    assert len(found["patches"]) == 1
    sign_all(repository, "release-1", "release-2")
    repository.publish(online(), NOW)
    assert "  step down from 1.1.0\n" in hillhold("release", "list", path, "pump").stdout


def test_hardware_and_image_keys(repository: Repository) -> None:
    path = repository.folder.path
    assert hillhold("product", "image-key", path, "pump").stdout == "no image keys of pump\n"
    pub = KEYS / "image-public-on-purpose.pub"
    (key,) = value("product", "image-key", path, "pump", pub)["image_keys"]
    assert value("product", "image-key", path, "pump")["image_keys"] == [key]
    assert hillhold("product", "image-key", path, "pump", pub, "--remove", key).exit_code == 2
    assert hillhold("product", "image-key", path, "valve").exit_code == 1
    assert value("product", "image-key", path, "pump", "--remove", key[:12])["image_keys"] == []
    found = value("release", "hardware", path, "pump", "1.1.0", "--remove", HARDWARE[0])
    assert found["releases"] == [{"path": "pump/1.1.0/app.bin", "hardware": [HARDWARE[1]]}]
    said = hillhold("release", "hardware", path, "pump", "1.1.0", "--add", HARDWARE[0])
    assert "pump/1.1.0/app.bin: for nrf51-a, nrf52-b\n" in said.stdout
    assert hillhold("release", "hardware", path, "pump", "1.1.0").exit_code == 1
    assert hillhold("release", "list", path, "valve").exit_code == 1


def test_the_same_add_once_more_says_so_and_succeeds(repository: Repository, tmp_path: Path) -> None:
    path, file = repository.folder.path, tmp_path / "app.bin"
    file.write_bytes(image("1.2.0", 2, edits=2))
    words = ("add", path, "pump", file, "--hardware", HARDWARE[0], "--kind", "security")
    assert value(*words)["repeated"] is False
    before = tree(path)
    again = value(*words)
    assert (again["repeated"], again["draft"], again["releases"][0]["path"]) == (True, 4, "pump/1.2.0/app.bin")
    result = hillhold(*words)
    assert (result.exit_code, result.stdout[:36]) == (0, "drafted already: pump/1.2.0/app.bin:")
    assert "next: the line's keys sign version 4 of pump" in result.stdout
    assert tree(path) == before
    other = hillhold(*words[:-1], "feature")
    assert (other.exit_code, "the same file, listed otherwise (kind)" in other.stderr) == (1, True)
    sign_all(repository, "release-1", "release-2")
    repository.publish(online(), NOW)
    assert value(*words)["draft"] is None
    said = hillhold(*words).stdout
    assert said.startswith("published already: pump/1.2.0/app.bin")
    assert "next: nothing; it is published, and nothing was changed" in said
