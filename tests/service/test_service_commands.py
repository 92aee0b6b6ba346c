"""`hillhold service`, `account`, `token`, `log`: what somebody meets who sets a service up, and hints that lead on."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from command import hillhold, pub, uri
from hillhold_signer.log import Verifier
from hillhold_signer.service.access import EVERY, Role
from hillhold_signer.service.onlinekeys import online_keys
from hillhold_signer.service.publisher import Publisher
from hillhold_signer.service.service import open_data
from hillhold_signer.service.settings import read_settings
from hillhold_signer.service.tables import EVENTS
from hillhold_signer.service.tokens import list_tokens
from hillhold_signer.storage import read_file
from postgres import free_port
from servicekit import Kit, make_kit, until
from web import Web
from workshop import sign_all

ROLES = ("snapshot", "timestamp")


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    made = make_kit(tmp_path / "service")
    yield made
    made.data.database.close()


LOG = ("--log-name", "updates.example.com/log")


def ceremony(folder: Path, **online: str) -> Path:
    keys = ", ".join(f'{{ name = "{name}", file = "{pub(name)}" }}' for name in ("root-1", "root-2"))
    text = f"[root]\nthreshold = 2\nkeys = [{keys}]\n[targets]\nthreshold = 2\nkeys = [{keys}]\n"
    for role in ROLES:
        text += f'[{role}]\nkey = {{ file = "{pub(role)}", uri = "{online.get(role, uri(role))}" }}\n'
    (folder / "ceremony.toml").write_text(text)
    return folder / "ceremony.toml"


# --- set-up ---------------------------------------------------------------------------------------------------------------------------


def test_a_new_service_is_private_and_prints_the_key_that_auditors_need(tmp_path: Path) -> None:
    data = tmp_path / "data"
    init = ("service", "init", data, "--config", ceremony(tmp_path), "--admin", "Ada", "--demo", "--json")
    refused = hillhold(*init[:-1])
    assert refused.exit_code == 2
    assert "--log-name NAME is missing: the log keeps its name for ever, so take one that is yours" in refused.stderr
    assert not data.exists()
    made = hillhold(*init, *LOG)
    assert made.exit_code == 0, made.output
    assert Verifier.parse(json.loads(made.stdout)["log"]).name == "updates.example.com/log"
    assert json.loads(made.stdout)["missing"] == []
    assert data.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_is_no_service_is_left_as_it_is(tmp_path: Path) -> None:
    for words in (["serve", tmp_path], ["account", "list", "--data", tmp_path], ["service", "migrate", tmp_path]):
        refused = hillhold(*words)
        assert refused.exit_code == 1
        assert "the folder of a service, with service.toml" in refused.stderr
        assert "hint: `hillhold service init` makes a service" in refused.stderr
    assert not list(tmp_path.iterdir())


def test_what_would_fail_half_way_is_refused_before_a_service_is_made(tmp_path: Path) -> None:
    data, config = tmp_path / "data", ceremony(tmp_path)
    init = ("service", "init", data, "--config", config, "--demo")
    assert "none that the log uses itself" in hillhold(*init, "--admin", "operator", *LOG).stderr
    assert "name of the log" in hillhold(*init, "--admin", "Ada", "--log-name", "no name").stderr
    settings = data / "service.toml"
    closed = f'[options]\nendpoint = "http://127.0.0.1:{free_port()}"\nallow_http = "true"\naccess_key_id = "a"\n'
    settings.write_text(f'objects = "s3://firmware"\n{closed}secret_access_key = "b"\nregion = "eu-west-1"\n')
    away = hillhold(*init, "--admin", "Ada", *LOG)
    assert away.exit_code == 3
    assert "error: object store s3://firmware" in away.stderr
    settings.write_text("")
    assert hillhold(*init, "--admin", "Ada", *LOG).exit_code == 0
    again = hillhold(*init, "--admin", "Ada", *LOG)
    assert "expected no service yet, got one that exists" in again.stderr
    (data / "log.pem").unlink()
    assert (
        "expected one without a service, got one with log/checkpoint" in hillhold(*init, "--admin", "Ada", *LOG).stderr
    )
    shutil.rmtree(data / "log")
    assert "expected no repository yet, got one that exists" in hillhold(*init, "--admin", "Ada", *LOG).stderr


# --- online keys ----------------------------------------------------------------------------------------------------------------------


def test_an_online_key_that_is_elsewhere_is_named_at_once_and_moved(tmp_path: Path) -> None:
    config = ceremony(tmp_path, timestamp=f"file:{tmp_path / 'laptop' / 'timestamp.pem'}")
    data = tmp_path / "data"
    made = hillhold("service", "init", data, "--config", config, "--admin", "Ada", "--demo", *LOG)
    assert f"! no online key is at file:{tmp_path}/laptop/timestamp.pem on this machine" in made.stdout
    shown = hillhold("service", "keys", data, "--json")
    assert shown.exit_code == 1
    by_role = {key["role"]: key for key in json.loads(shown.stdout)["keys"]}
    assert by_role["snapshot"]["problem"] is None
    assert "no such file" in by_role["timestamp"]["problem"]

    wrong = hillhold("service", "keys", data, "--timestamp-key", uri("snapshot"))
    assert wrong.exit_code == 1
    assert "error: key of timestamp: expected " in wrong.stderr
    kept = tmp_path / "kept.pem"
    shutil.copy(uri("timestamp").removeprefix("file:"), kept)
    assert hillhold("service", "keys", data, "--timestamp-key", f"file:{kept}").exit_code == 0
    assert [entry for entry in events(data) if "place of the online key" in entry]


def events(data: Path) -> list[str]:
    found = open_data(read_settings(data))
    with found.database.snapshot() as connection:
        entries = [bytes(row.entry).decode() for row in connection.execute(select(EVENTS))]
    found.database.close()
    return entries


def test_new_online_keys_from_somebodys_laptop_are_found_and_then_the_root_is_published(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop, here = tmp_path / "laptop", kit.settings.folder
    kit.account("root", (Role.SIGNER, EVERY), keys=["root-1"])
    laptop.mkdir()
    monkeypatch.chdir(laptop)
    text = ceremony(laptop).read_text()
    for role in ROLES:
        assert hillhold("key", "new", f"{role}-2", "--no-passphrase").exit_code == 0
        text = text.replace(
            f'file = "{pub(role)}", uri = "{uri(role)}"', f'file = "{role}-2.pub", uri = "file:{role}-2.pem"'
        )
    (laptop / "ceremony.toml").write_text(text)
    monkeypatch.setenv("HILLHOLD_TOKEN", kit.tokens["boss"])
    with kit.running() as url:
        drafted = hillhold("root", "rotate", "--service", url, "--config", "ceremony.toml", now=int(time.time()))
    assert drafted.exit_code == 0, drafted.output
    assert "! the service opens the new online keys on its own machine" in drafted.stdout
    for role in ROLES:
        (laptop / f"{role}-2.pem").rename(here / f"{role}-2.pem")
    with kit.data.reading() as unit:
        found = {(key.role, key.drafted): key.problem for key in online_keys(unit, lambda _: "")}
    assert found["snapshot", False] is None
    assert "no such file" in (found["snapshot", True] or "")
    options = [part for role in ROLES for part in (f"--{role}-key", f"file:{here / f'{role}-2.pem'}")]
    assert hillhold("service", "keys", here, *options).exit_code == 0
    with kit.data.writing() as unit:
        sign_all(unit.repository, "root-1", "root-2")
    assert Publisher(kit.data, lambda _: "").publish()["root"] == 2


# --- the object store -----------------------------------------------------------------------------------------------------------------


def test_what_the_object_store_has_lost_or_somebody_altered_is_written_again(kit: Kit) -> None:
    public = kit.settings.folder / "public/metadata"
    with kit.running():
        until(lambda: (public / "timestamp.json").exists())
    before = {file.name: file.read_bytes() for file in public.iterdir()}
    (public / "1.pump.json").unlink()
    (public / "1.root.json").write_bytes(b"{}")
    done = hillhold("service", "export", kit.settings.folder, "--json")
    assert json.loads(done.stdout)["files"] == len(before)
    assert {file.name: file.read_bytes() for file in public.iterdir()} == before


# --- accounts and tokens --------------------------------------------------------------------------------------------------------------


def test_hints_of_accounts_lead_on(kit: Kit) -> None:
    data = ("--data", kit.settings.folder)
    missing = hillhold("account", "grant", "Ada", "signer", "pump", *data)
    assert "error: account: expected one that there is, got 'Ada'" in missing.stderr
    taken = hillhold("account", "new", "Ada", *data)
    assert "expected a name that nobody takes for that of ada, got 'Ada'" in taken.stderr
    useless = hillhold("account", "grant", "ada", "signer", "targets", *data)
    assert useless.exit_code == 1
    assert "hint: what belongs to no line is granted on '*'" in useless.stderr


def test_whoever_is_granted_more_is_told_who_gives_the_token(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HILLHOLD_TOKEN", kit.tokens["boss"])
    with kit.running() as url:
        refused = hillhold("token", "new", "more", "--scope", "signer:pump", "--service", url)
        assert "`hillhold token new LABEL --account 'boss' --data DATA`" in refused.stderr
        other = hillhold("token", "new", "hers", "--account", "ada", "--service", url)
        assert "the operator issues a first one: `hillhold token new LABEL --account 'ada' --data DATA`" in other.stderr


def test_a_token_goes_into_a_file_that_nobody_else_reads_and_into_none_that_is_there(kit: Kit, tmp_path: Path) -> None:
    file = tmp_path / "ada.token"
    new = ("token", "new", "laptop", "--data", kit.settings.folder, "-o", file)
    assert hillhold(*new, "--account", "nobody").exit_code == 1
    assert not file.exists()
    made = hillhold(*new, "--account", "ada", "--json")
    assert json.loads(made.stdout)["file"] == str(file)
    assert "token" not in json.loads(made.stdout)
    assert file.stat().st_mode & 0o777 == 0o600
    token = file.read_text().strip()
    assert token.startswith("hh_")
    assert token not in made.output
    again = hillhold(*new, "--account", "ada")
    assert again.exit_code == 3
    assert file.read_text().strip() == token
    with kit.data.reading() as unit:
        assert len([one for one in list_tokens(unit.connection, "ada") if one.label == "laptop"]) == 1


# --- the log --------------------------------------------------------------------------------------------------------------------------


def test_the_log_of_a_service_is_audited_with_the_token_and_its_checkpoint_is_kept(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = hillhold("log", "key", "example.org/log", kit.settings.folder / "log.pub").stdout.strip()
    kept, token = tmp_path / "kept.txt", tmp_path / "token"
    token.write_text(kit.tokens["auditor"])
    with kit.running() as url:
        log = f"{url}/log"
        alone = hillhold("log", "verify", log, "--key", key)
        assert alone.exit_code == 3
        assert "hint: the log of a service is for its auditors" in alone.stderr
        monkeypatch.setenv("HILLHOLD_TOKEN", kit.tokens["auditor"])
        assert hillhold("log", "verify", log, "--key", key).exit_code == 3  # whose token that is, nobody has said
        monkeypatch.setenv("HILLHOLD_SERVICE", url)
        done = hillhold("log", "verify", log, "--key", key, "--keep", kept)
        assert done.exit_code == 0, done.output
        monkeypatch.delenv("HILLHOLD_TOKEN")
        again = hillhold(
            "log", "verify", log, "--key", key, "--checkpoint", kept, "--keep", kept, "--token-file", token
        )
        assert "goes on from the checkpoint" in again.stdout
        monkeypatch.setenv("HILLHOLD_TOKEN", kit.tokens["ada"])
        forbidden = hillhold("log", "verify", log, "--key", key)
        assert "not permitted" in forbidden.stderr
        assert hillhold("log", "verify", log, "--keep", kept).exit_code == 2  # signed by nobody


def test_the_token_of_a_service_goes_to_no_other_server(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HILLHOLD_TOKEN", kit.tokens["auditor"])
    with kit.running() as url, Web({}, public="/log/") as web:
        monkeypatch.setenv("HILLHOLD_SERVICE", url)
        assert hillhold("log", "verify", web.url).exit_code == 1
        assert web.seen
        assert not [seen for seen in web.seen if "Authorization" in seen.headers]


def test_a_difference_is_shown_as_from_ones_own_root(kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root.json"
    with kit.data.reading() as unit:
        root.write_bytes(read_file(unit.repository.layout.metadata("1.root.json"), 100_000))
    monkeypatch.setenv("HILLHOLD_TOKEN", kit.tokens["boss"])
    with kit.running() as url:
        assert hillhold("renew", "--service", url, "targets", now=int(time.time())).exit_code == 0
        shown = hillhold("diff", "--service", url)
        assert "! what is published stands on the word of" in shown.stdout
        mine = hillhold("diff", "--service", url, "--root", root)
        assert "what is published was verified from your root" in mine.stdout
        assert json.loads(hillhold("diff", "--service", url, "--root", root, "--json").stdout)["anchored"] is True
