"""`--service URL`: the commands of a person's computer, on the real application over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import click
import pytest
from click.testing import Result
from sqlalchemy import select

from command import hillhold, pub, uri
from hillhold_signer import Repository, add_product
from hillhold_signer.cli import main
from hillhold_signer.cli.remote import OnRepository
from hillhold_signer.service.access import Role
from hillhold_signer.service.tables import CHANGES
from servicekit import Kit, make_kit, until
from workshop import ceremony, image, pump, started

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


def written(folder: Path, version: str, **more: Any) -> Path:
    path = folder / f"app-{version}.bin"
    path.write_bytes(image(version, **more))
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
        lambda: "published" in run("ada", "release", "list", "pump").stdout,
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


def test_product_lines_are_changed_and_looked_at(run: Run, kit: Kit, tmp_path: Path) -> None:
    two = ("--key", pub("release-1"), "--key", pub("release-2"), "--threshold", "2")
    assert run("carol", "product", "add", "valve", "--hardware", "nrf52-b", *two).exit_code == 1
    assert "drafted product line valve" in good(run("boss", "product", "add", "valve", "--hardware", "nrf52-b", *two))
    assert "valve" in good(run("boss", "product", "list"))
    assert "drafted and not published" in good(run("boss", "product", "show", "valve"))
    good(run("boss", "product", "hardware", "pump", "nrf54-c"))
    good(run("boss", "product", "caps", "pump", "--max-security-counter", "200"))
    good(run("boss", "product", "grace", "pump", "0s"))
    good(run("boss", "product", "team", "pump", "--add", pub("targets-3")))
    good(run("boss", "product", "transfer", "valve", "--key", pub("targets-3"), "--threshold", "1"))
    good(run("boss", "product", "retire", "valve", "--yes"))
    key = json.loads(good(run("boss", "product", "image-key", "pump", pub("image"), "--json")))["image_keys"][0]
    assert key in good(run("carol", "product", "image-key", "pump"))
    good(run("boss", "product", "image-key", "pump", "--remove", key[:16]))
    shown = json.loads(good(run("auditor", "product", "show", "pump", "--json")))
    assert (shown["drafted"]["max_security_counter"], shown["image_keys"]) == (200, [])
    assert len(shown["drafted"]["keys"]) == 3
    assert "200" in good(run("ada", "diff", "targets"))
    with kit.data.reading() as unit:
        assert unit.repository.state().quorum("targets").wanted


def test_releases_are_changed_dropped_and_imported(run: Run, kit: Kit, tmp_path: Path) -> None:
    add = ("--hardware", "nrf51-a", "--file-name", "app.bin")
    good(run("carol", "add", "pump", written(tmp_path, "1.0.0"), *add))
    good(run("carol", "release", "hardware", "pump", "1.0.0", "--add", "nrf52-b"))
    good(run("carol", "release", "remove", "pump", "1.0.0"))
    assert good(run("carol", "release", "list", "pump")) == "no releases\n"
    good(run("carol", "add", "pump", written(tmp_path, "1.0.0"), *add))
    assert "dropped the draft" in good(run("carol", "drop", "pump", "--yes"))
    assert "nothing is drafted" in good(run("carol", "diff", "pump"))
    builds = tmp_path / "builds"
    builds.mkdir()
    for number in range(3):
        (builds / f"{number}.bin").write_bytes(image(f"2.{number}.0", edits=number))
    lines = ["file,version,hardware", *(f"{number}.bin,2.{number}.0,nrf51-a" for number in range(3))]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    words = ("import", "pump", builds, "--csv", tmp_path / "table.csv")
    assert "would add 3" in good(run("carol", *words, "--dry-run"))
    assert "added 3 releases" in good(run("carol", *words))
    assert "added 0 releases" in good(run("carol", *words))
    for who, key in (("ada", "release-1"), ("grace", "release-2")):
        good(run(who, "sign", "--key", uri(key), "--yes"))
    until(lambda: run("ada", "release", "list", "pump").stdout.count("published") == 3, "for publication")
    done = good(run("carol", "withdraw", "pump", "2.2.0", "--reason", "stops at 40 degrees", "--step-down-to", "2.1.0"))
    assert "withdrawn pump/2.2.0/2.bin" in done
    assert "withdrawn: stops at 40 degrees" in good(run("ada", "release", "list", "pump"))
    good(run("carol", "drop", "pump", "--yes"))
    assert "- pump/2.0.0/0.bin" in good(run("carol", "prune", "pump", "--keep", "2"))


def test_root_is_rotated_renewed_and_a_key_revoked(run: Run, kit: Kit, tmp_path: Path) -> None:
    assert "root: 2 of 3" in good(run("ada", "root", "show"))
    assert run("carol", "renew", "root").exit_code == 1
    good(run("boss", "renew", "root", "targets"))
    assert "Key ceremony" in good(run("boss", "root", "transcript"))
    good(run("boss", "drop", "root", "--yes"))
    assert "revoked" in good(run("boss", "revoke", "targets-3", "--reason", "lost on the train"))
    assert "REVOKED" in good(run("ada", "status"))
    assert run("ada", "status", "--check").exit_code == 1


# --- which service, and who asks ------------------------------------------------------------------------------------------------------


def leaves(group: click.Group, *words: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, *words, name)
        else:
            yield (*words, name), command


HERE: dict[tuple[str, ...], str] = {
    ("init",): "hillhold service init",
    ("verify",): "hillhold-device verify",
    ("bundle",): "a copy of what the service has published",
    ("provisioning",): "a copy of what the service has published",
}


def test_an_image_key_is_revoked_over_the_service(run: Run, kit: Kit, tmp_path: Path) -> None:
    good(run("boss", "product", "image-key", "pump", pub("image")))
    refused = run("carol", "root", "revoke-image-key", pub("image"), "--reason", "stolen")
    assert refused.exit_code == 1, refused.output
    assert "revoked image key" not in good(run("boss", "status"))
    said = good(run("boss", "root", "revoke-image-key", pub("image"), "--reason", "stolen"))
    assert "! pump is left without an image key" in said
    assert "+ revoked image key: fingerprint" in good(run("ada", "diff", "root"))
    assert "REVOKED: image key" in run("ada", "status").output
    added = run("carol", "add", "pump", written(tmp_path, "1.0.0"), "--hardware", "nrf51-a", "--file-name", "app.bin")
    assert (added.exit_code, "which was revoked" in added.stderr) == (1, True)


def test_each_command_on_a_repository_has_a_remote_form_or_says_what_to_do_instead() -> None:
    for words, command in leaves(main):
        first = next((param.name for param in command.params if isinstance(param, click.Argument)), "")
        if (first == "repo" or words == ("sign",)) and words not in HERE:
            assert isinstance(command, OnRepository), words
            assert "--service" in hillhold(*words, "--help").output
            continue
        assert not isinstance(command, OnRepository), words
        if words[0] in ("account", "token"):  # which are of a service anyway
            continue
        refused = hillhold(*words, "--service", "https://firmware.example.com")
        assert refused.exit_code == 2, words
        assert "this command works on this computer alone" in refused.stderr, words
        assert HERE.get(words, "") in refused.stderr


@pytest.mark.parametrize(
    "words", [("verify",), ("bundle", "pump", "-o", "x"), ("provisioning", "pump", "--hardware", "a", "-o", "x")]
)
def test_a_url_for_a_command_that_needs_a_folder_says_what_to_do_instead(words: tuple[str, ...]) -> None:
    refused = hillhold(words[0], "https://firmware.example.com", *words[1:])
    assert refused.exit_code == 2
    assert HERE[words[:1]] in refused.stderr


def test_files_of_a_service_are_not_pruned_from_here(run: Run) -> None:
    refused = run("boss", "prune")
    assert refused.exit_code == 2
    assert "on its own computer" in refused.stderr


def test_a_service_is_named_by_option_by_url_or_by_the_environment(
    run: Run, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--json",)
    by_environment = good(run("ada", "product", "list", *words))
    folder = started(tmp_path / "repo").folder.path
    # A command whose only argument is REPO takes one that is given; any other takes the service.
    assert "DEMO repository" in good(run("ada", "status", folder))
    refused = run("ada", "product", "show", folder, "pump")
    assert refused.exit_code == 2
    assert f"names {url}: REPO is not given then" in refused.stderr
    monkeypatch.delenv("HILLHOLD_SERVICE")
    assert good(hillhold("product", "list", "--service", url, *words)) == by_environment
    assert good(hillhold("product", "list", url, *words)) == by_environment
    assert good(hillhold("product", "show", f"{url}/", "pump"))
    both = hillhold("status", folder, "--service", url)
    assert both.exit_code == 2
    assert "unexpected extra argument" in both.stderr
    missing = hillhold("status")
    assert missing.exit_code == 2
    assert "Missing argument" in missing.stderr
    options = tmp_path / "options" / "config.toml"
    options.parent.mkdir()
    options.write_text(f'[product.list]\nservice = "{url}"\n')
    assert good(hillhold("product", "list", *words)) == by_environment


@pytest.mark.parametrize("bad", ["http://firmware.example.com", "https://user:pw@example.com", "ftp://x", "pump"])
def test_a_url_that_is_none_is_a_usage_error(bad: str) -> None:
    refused = hillhold("status", "--service", bad)
    assert refused.exit_code == 2
    assert hillhold("status", "--service", bad, "--json").exit_code == 2


def test_the_token_comes_from_a_file_or_the_environment_and_is_never_shown(
    kit: Kit, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HILLHOLD_CONFIG", str(tmp_path / "options" / "config.toml"))
    monkeypatch.delenv("HILLHOLD_TOKEN", raising=False)
    token = kit.tokens["ada"]
    refused = hillhold("status", "--service", url)
    assert refused.exit_code == 1
    assert "hint: " in refused.stderr
    file = tmp_path / "token"
    file.write_text(f"{token}\n")
    assert hillhold("status", "--service", url, "--token-file", file).exit_code == 0
    host = tmp_path / "options" / "tokens" / f"127.0.0.1_{url.rpartition(':')[2]}"
    host.parent.mkdir(parents=True)
    host.write_text(token)
    assert hillhold("status", "--service", url).exit_code == 0
    assert hillhold("status", "--service", url.replace("127.0.0.1", "localhost")).exit_code == 1  # another name
    monkeypatch.setenv("HILLHOLD_TOKEN", "hh_000000000000000000000000_0000")
    wrong = hillhold("status", "--service", url)
    assert wrong.exit_code == 1
    assert "hh_0000" not in wrong.output
    monkeypatch.setenv("HILLHOLD_TOKEN", "zwei wörter")
    odd = hillhold("status", "--service", url, "--json")
    assert odd.exit_code == 1
    assert "wörter" not in odd.output
    for done in (hillhold("status", "--service", url, "--token-file", file), refused):
        assert token not in done.output


def test_a_service_that_is_not_there_is_an_operational_error(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("hillhold_signer.serviceclient.PAUSES", (0.0, 0.0, 0.0))
    with kit.running() as url:
        pass
    gone = hillhold("status", "--service", url, "--json")
    assert gone.exit_code == 3
    assert json.loads(gone.stdout)["hint"]


def test_what_a_person_may_not_do_says_whom_to_ask(run: Run, tmp_path: Path) -> None:
    refused = run("ada", "add", "pump", written(tmp_path, "1.0.0"), "--hardware", "nrf51-a", "--file-name", "app.bin")
    assert refused.exit_code == 1
    assert "permission" in refused.stderr
    assert "hint: " in refused.stderr
    assert run("auditor", "publish", "--snapshot-key", "file:x").exit_code == 2
    assert run("auditor", "refresh").exit_code == 1


def test_signing_with_ones_own_root(run: Run, kit: Kit, tmp_path: Path) -> None:
    good(run("carol", "add", "pump", written(tmp_path, "1.0.0"), "--hardware", "nrf51-a", "--file-name", "app.bin"))
    mine = tmp_path / "1.root.json"
    with kit.data.reading() as unit:
        mine.write_bytes(unit.store.read("public/metadata/1.root.json", 1 << 20) or b"")
    words = ("sign", "--key", uri("release-1"), "--root", mine, "--yes", "--json")
    value = json.loads(good(run("ada", *words)))
    assert (value["anchored"], value["signed"][0]["repeated"]) == (True, False)
    value = json.loads(good(run("ada", "sign", "--key", uri("release-1"), "--yes", "--json")))
    assert (value["anchored"], value["signed"][0]["repeated"]) == (False, True)
    other = Repository.create(tmp_path / "other", ceremony(), 0, demo=True)
    add_product(other, pump(), 0)
    draft = tmp_path / "other.json"
    draft.write_bytes(other.state().drafts["root"].file())
    refused = run("ada", "sign", "--key", uri("release-1"), "--root", draft, "--yes")
    assert refused.exit_code == 1
    assert "does not follow from your root" in refused.stderr
    assert run("ada", "sign", "--key", uri("release-1"), "-o", tmp_path / "x").exit_code == 2


def test_a_command_on_a_folder_does_not_wait_for_the_http_client() -> None:
    code = "import sys, hillhold_signer.cli; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
