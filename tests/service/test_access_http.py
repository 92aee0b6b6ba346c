"""Accounts and tokens by the commands and over HTTP, at a service that runs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from command import hillhold, pub
from hillhold_signer.errors import ConfigRefused, ServiceError, SignerRefused
from hillhold_signer.log.events import Event, Kind
from hillhold_signer.service.access import EVERY, Role
from hillhold_signer.service.tables import EVENTS, LOG_FILES
from hillhold_signer.serviceclient import Service
from idp import Answer, Idp
from servicekit import Kit, make_kit


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kit, str]]:
    kit = make_kit(tmp_path_factory.mktemp("made") / "service")
    with kit.running() as url:
        yield kit, url
    kit.data.database.close()
    assert not kit.failures


@pytest.fixture
def at_rest(tmp_path: Path, url: str) -> Iterator[Kit]:
    """A service that does not run, so that its events stay where a test can see them; on each kind of database."""
    kit = make_kit(tmp_path / "service", url)
    yield kit
    kit.data.database.close()


def recorded(kit: Kit) -> list[Event]:
    with kit.data.database.snapshot() as connection:
        return [Event.decode(bytes(row.entry)) for row in connection.execute(EVENTS.select().order_by(EVENTS.c.id))]


def run(kit: Kit, url: str, who: str | None, monkeypatch: pytest.MonkeyPatch, *words: object) -> Any:
    """A command, with somebody's token, and JSON; what it answered, or its error."""
    monkeypatch.setenv("HILLHOLD_SERVICE", url)
    monkeypatch.setenv("HILLHOLD_TOKEN", kit.tokens[who] if who else "")
    done = hillhold(*words, "--json")
    return {**json.loads(done.stdout), "exit": done.exit_code}


# --- over HTTP ------------------------------------------------------------------------------------------------------------------------


def test_an_administrator_makes_an_account_and_a_token_that_works(
    made: tuple[Kit, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kit, url = made

    def boss(*words: object) -> Any:
        return run(kit, url, "boss", monkeypatch, *words)

    assert boss("account", "new", "nightly", "--machine")["machine"] is True
    assert boss("account", "grant", "nightly", "submitter", "pump")["grants"] == [["submitter", "pump"]]
    issued = boss("token", "new", "builds", "--account", "nightly", "--lifetime", "1d")
    assert issued["scopes"] == [["submitter", "pump"]]
    kit.tokens["nightly"] = issued["token"]
    with kit.client(url, "nightly") as nightly:
        who = nightly.get("/v1/whoami").json()
        assert who == {
            "name": "nightly",
            "machine": True,
            "grants": [["submitter", "pump"]],
            "token": issued["id"],
            "until": issued["expires"],
        }
        (listed,) = nightly.get("/v1/tokens").json()["tokens"]
        assert listed == {name: value for name, value in issued.items() if name not in ("token", "exit")}
        assert boss("account", "ungrant", "nightly", "submitter", "pump")["grants"] == []
        assert nightly.get("/v1/whoami").json()["grants"] == []
        assert boss("token", "revoke", issued["id"])["exit"] == 0
        assert nightly.get("/v1/whoami").status_code == 401
    assert boss("account", "disable", "nightly", "--yes")["disabled"]
    accounts = {one["name"]: one for one in boss("account", "list")["accounts"]}
    assert accounts["nightly"]["disabled"]
    text = hillhold("account", "list").stdout
    assert "ada  person: signer of pump\n  key " in text
    assert "nightly  machine, disabled " in text
    assert "nightly  builds  revoked " in hillhold("token", "list", "--all").stdout


def test_keys_and_identities_come_and_go(made: tuple[Kit, str], monkeypatch: pytest.MonkeyPatch) -> None:
    kit, url = made

    def boss(*words: object) -> Any:
        return run(kit, url, "boss", monkeypatch, *words)

    boss("account", "new", "Margaret Hamilton")
    assert len(boss("account", "key", "Margaret Hamilton", pub("targets-1"))["keys"]) == 1
    taken = boss("account", "key", "Margaret Hamilton", pub("release-1"))
    assert taken["exit"] == 1
    assert "a key of ada" in taken["error"]
    assert boss("account", "key", "Margaret Hamilton", pub("targets-1"), "--remove")["keys"] == []
    words = ("account", "identity", "Margaret Hamilton", "https://login.example", "sub=7 & groups=a")
    assert boss(*words)["identities"] == [["https://login.example", "groups=a & sub=7"]]
    assert boss(*words[:-1], "groups=a & sub=7", "--remove")["identities"] == []


@pytest.mark.parametrize("who", ["ci", "ada", "grace", "auditor", None])
def test_nobody_but_an_administrator_changes_accounts(
    made: tuple[Kit, str], monkeypatch: pytest.MonkeyPatch, who: str | None
) -> None:
    kit, url = made
    with kit.client(url, "boss") as boss:
        before = boss.get("/v1/accounts").json()
        for words in (
            ("account", "new", "Mallory"),
            ("account", "grant", who or "ada", "administrator", "*"),
            ("account", "ungrant", "boss", "administrator", "*"),
            ("account", "disable", "boss", "--yes"),
            ("account", "key", "ada", pub("targets-1")),
            ("account", "identity", who or "ada", "x509", "sha256=" + "0" * 64),
            ("token", "new", "x", "--account", "boss"),
            ("token", "new", "x", "--account", "grace" if who != "grace" else "ada"),
        ):
            assert run(kit, url, who, monkeypatch, *words)["exit"] == 1, words
        assert boss.get("/v1/accounts").json() == before


def test_one_sees_ones_own_account_and_tokens_and_no_others(made: tuple[Kit, str]) -> None:
    kit, url = made
    with kit.client(url, "ada") as ada, kit.client(url, "auditor") as auditor:
        assert ada.get("/v1/accounts/ada").json()["name"] == "ada"
        assert [one["account"] for one in ada.get("/v1/tokens").json()["tokens"]] == ["ada"]
        (other,) = auditor.get("/v1/tokens", params={"account": "boss"}).json()["tokens"]
        for path in (
            "/v1/accounts",
            "/v1/accounts/boss",
            "/v1/accounts/nobody",
            "/v1/tokens?all=true",
            "/v1/tokens?account=boss",
        ):
            assert ada.get(path).status_code == 403, path
            assert auditor.get(path).status_code == (404 if "nobody" in path else 200), path
        assert ada.delete(f"/v1/tokens/{other['id']}").status_code == 404
        assert auditor.delete(f"/v1/tokens/{other['id']}").status_code == 404
        assert auditor.post("/v1/accounts", json={"name": "x"}).status_code == 403


def test_a_person_renews_their_own_token_no_longer_than_it_lasts(
    made: tuple[Kit, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kit, url = made
    refused = run(kit, url, "ada", monkeypatch, "token", "new", "laptop", "--lifetime", "365d")
    assert refused["exit"] == 1
    assert "at most that of the token that asks for it" in refused["error"]
    issued = run(kit, url, "ada", monkeypatch, "token", "new", "laptop", "--lifetime", "1d", "--scope", "signer:pump")
    assert issued["scopes"] == [["signer", "pump"]]
    assert run(kit, url, "ada", monkeypatch, "token", "revoke", issued["id"])["exit"] == 0
    whole = run(kit, url, "ada", monkeypatch, "token", "revoke", issued["token"])
    assert issued["token"] not in json.dumps(whole)
    assert "its id" in whole["error"]


def test_a_token_is_not_kept_by_a_cache(made: tuple[Kit, str]) -> None:
    kit, url = made
    with kit.client(url, "ada") as ada:
        answer = ada.post("/v1/tokens", json={"label": "x", "lifetime": 60})
        assert answer.status_code == 201
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("method", "path", "value"),
    [
        ("POST", "/v1/accounts", {"name": "x", "admin": True}),
        ("POST", "/v1/accounts", {"name": 7}),
        ("POST", "/v1/accounts", {"name": "x" * 81}),
        ("POST", "/v1/accounts", {"name": "a\u202eb"}),
        ("POST", "/v1/accounts", {"name": "\x00"}),
        ("POST", "/v1/accounts", {"name": "ADA"}),
        ("POST", "/v1/accounts", {"name": "x", "machine": "yes"}),
        ("POST", "/v1/accounts", []),
        ("PUT", "/v1/accounts/ada/grants/roots/pump", None),
        ("PUT", "/v1/accounts/ada/grants/signer/Pump", None),
        ("PUT", "/v1/accounts/ada/grants/signer/..%2Fx", None),
        ("PUT", "/v1/accounts/ada/grants/signer/" + "x" * 81, None),
        ("PUT", "/v1/accounts/%00/grants/signer/pump", None),
        ("PUT", "/v1/accounts/" + "x" * 81 + "/grants/signer/pump", None),
        ("PUT", "/v1/accounts/ada/keys/" + "g" * 64, None),
        ("PUT", "/v1/accounts/ci/keys/" + "0" * 64, None),
        ("POST", "/v1/accounts/ada/identities", {"issuer": "x509", "subject": "sub=1"}),
        ("POST", "/v1/accounts/ada/identities", {"issuer": "https://x", "subject": "sub=*"}),
        ("POST", "/v1/tokens", {"label": ""}),
        ("POST", "/v1/tokens", {"label": "x", "lifetime": 0}),
        ("POST", "/v1/tokens", {"label": "x", "lifetime": 2**40}),
        ("POST", "/v1/tokens", {"label": "x", "lifetime": 1.5}),
        ("POST", "/v1/tokens", {"label": "x", "scopes": []}),
        ("POST", "/v1/tokens", {"label": "x", "scopes": [{"role": "root", "line": "*"}]}),
        ("POST", "/v1/tokens", {"label": "\x1b[2J"}),
        ("DELETE", "/v1/tokens/" + "0" * 24, None),
        ("DELETE", "/v1/tokens/%00", None),
        ("DELETE", "/v1/accounts/boss/grants/administrator/%2A", None),
        ("POST", "/v1/accounts/boss/disable", None),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    made: tuple[Kit, str], method: str, path: str, value: object
) -> None:
    kit, url = made
    with kit.client(url, "boss") as boss:
        before = boss.get("/v1/accounts").json(), boss.get("/v1/tokens?all=true").json()
        answer = boss.request(method, path, json=value)
        assert answer.status_code in (404, 422), answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
        assert (boss.get("/v1/accounts").json(), boss.get("/v1/tokens?all=true").json()) == before


def test_two_administrators_who_disable_each_other_at_once_leave_one(at_rest: Kit) -> None:
    """Each would find the other still there, if nobody waited for the other's transaction."""
    at_rest.account("chief", (Role.ADMINISTRATOR, EVERY))
    names = ("boss", "chief")
    with at_rest.running() as url:
        begin, codes = threading.Barrier(2), dict.fromkeys(names, 0)

        def disable(by: str, whom: str) -> None:
            with at_rest.client(url, by) as client:
                begin.wait()
                codes[by] = client.post(f"/v1/accounts/{whom}/disable").status_code

        threads = [threading.Thread(target=disable, args=pair) for pair in (names, names[::-1])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        left = [name for name in names if codes[name] == 200]
        assert len(left) == 1
        assert set(codes.values()) - {200} <= {401, 422}
        with at_rest.client(url, left[0]) as client:
            accounts = {one["name"]: one for one in client.get("/v1/accounts").json()["accounts"]}
        assert accounts[left[0]]["disabled"] is None


def test_when_a_token_was_last_used_is_written_when_the_service_ends(at_rest: Kit) -> None:
    with at_rest.running() as url, at_rest.client(url, "ada") as ada:
        (before,) = ada.get("/v1/tokens").json()["tokens"]
        assert before["used"] is None
    listed = json.loads(
        hillhold("token", "list", "--account", "ada", "--data", at_rest.settings.folder, "--json").stdout
    )
    assert listed["tokens"][0]["used"] >= before["time"]


def test_failed_logins_are_in_the_log_and_bounded(at_rest: Kit) -> None:
    at_rest.tokens["nobody"] = "hh_" + "0" * 24 + "_" + "1" * 64
    with at_rest.running() as url, at_rest.client(url, "nobody") as nobody, at_rest.client(url, "auditor") as auditor:
        codes = [nobody.get("/v1/whoami").status_code for _ in range(60)]
        assert codes == [401] * 20 + [429] * 40
        assert int(nobody.get("/v1/whoami").headers["Retry-After"]) > 0
        assert auditor.get("/v1/whoami").status_code == 200  # from the same address, and good
    with at_rest.data.database.snapshot() as connection:
        tiles = [bytes(row.data).count(b'"failed-login"') for row in connection.execute(LOG_FILES.select())]
    waiting = [event.kind for event in recorded(at_rest)].count(Kind.FAILED_LOGIN)
    assert max(tiles) + waiting == 20  # a bundle of entries has all that smaller ones had


# --- at the service's own machine -----------------------------------------------------------------------------------------------------


def test_the_operator_does_the_same_on_the_data_itself_and_it_is_recorded(at_rest: Kit) -> None:
    folder = at_rest.settings.folder

    def operator(*words: object) -> Any:
        done = hillhold(*words, "--data", folder, "--json")
        return {**json.loads(done.stdout), "exit": done.exit_code}

    begun = len(recorded(at_rest))
    operator("account", "new", "Margaret")
    operator("account", "grant", "Margaret", "auditor", "*")
    operator("account", "key", "Margaret", pub("targets-1"))
    operator("account", "identity", "Margaret", "https://login.example", "sub=7")
    issued = operator("token", "new", "laptop", "--account", "Margaret")
    operator("token", "revoke", issued["id"])
    operator("account", "ungrant", "Margaret", "auditor", "*")
    operator("account", "disable", "Margaret", "--yes")
    events = recorded(at_rest)[begun:]
    assert [event.kind for event in events] == [Kind.CONFIGURATION] * 8
    assert {event.actor for event in events} == {"operator"}
    assert [str(event.fields["what"]).partition(": ")[2].partition(" until")[0] for event in events] == [
        "new account, a person",
        "granted auditor of *",
        f"holds the key {operator('account', 'list')['accounts'][0]['keys'][0][:16]}",
        "is also sub=7 of https://login.example",
        "issued",
        "revoked",
        "no longer auditor of *",
        "disabled",
    ]
    assert issued["token"] not in repr(events)
    secret = issued["token"].rpartition("_")[2]
    assert not [path for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def test_a_refused_change_is_not_recorded_and_changes_nothing(at_rest: Kit) -> None:
    folder = at_rest.settings.folder
    before = hillhold("account", "list", "--data", folder).stdout, recorded(at_rest)
    for words in (
        ("account", "new", "ada"),
        ("account", "disable", "boss", "--yes"),
        ("account", "ungrant", "boss", "administrator", "*"),
        ("token", "new", "x", "--account", "ada", "--scope", "administrator:*"),
        ("token", "revoke", "0" * 24),
    ):
        done = hillhold(*words, "--data", folder)
        assert done.exit_code == 1
        assert done.stderr.startswith("error: ")
    assert (hillhold("account", "list", "--data", folder).stdout, recorded(at_rest)) == before


def test_an_account_is_disabled_only_after_a_yes(at_rest: Kit) -> None:
    folder = at_rest.settings.folder
    no = hillhold("account", "disable", "ada", "--data", folder, answers="n\n")
    assert no.exit_code == 1
    assert "there is no way back" in no.output
    assert "disabled" not in hillhold("account", "list", "--data", folder).stdout


def test_where_to_do_it_is_said_once(at_rest: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = at_rest.settings.folder
    assert "--service URL is needed, or --data" in hillhold("account", "list").stderr
    both = hillhold("account", "list", "--data", folder, "--service", "https://sign.example")
    assert both.exit_code == 2
    monkeypatch.setenv("HILLHOLD_SERVICE", "https://sign.example")
    assert hillhold("account", "list", "--data", folder).exit_code == 0  # what is said here counts
    assert "--account NAME is needed" in hillhold("token", "new", "x", "--data", folder).stderr
    for scope in ("pump", "root:pump", "signer:"):
        assert hillhold("token", "new", "x", "--data", folder, "--account", "ada", "--scope", scope).exit_code == 2
    assert hillhold("token", "list", "--all", "--account", "ada", "--data", folder).exit_code == 2


# --- the client -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["http://sign.example", "ftp://x", "", "https://u:p@x", "http://127.0.0.1.evil.example"]
)
def test_a_token_is_not_sent_in_the_clear(url: str) -> None:
    with pytest.raises(ConfigRefused, match="URL of the service"):
        Service(url, "hh_0_secret")


@pytest.mark.parametrize("token", ["", " ", "a\nb", "é" * 9, "two words"])
def test_what_is_no_token_is_not_sent(token: str) -> None:
    with pytest.raises(ConfigRefused, match="token for the service") as refused:
        Service("https://sign.example", token)
    assert refused.value.hint


def test_a_token_may_come_from_a_file(made: tuple[Kit, str], tmp_path: Path) -> None:
    kit, url = made
    file = tmp_path / "token"
    file.write_text(kit.tokens["ada"] + "\n")
    done = hillhold("token", "list", "--service", url, "--token-file", file)
    assert "  ada  test  until " in done.stdout


def test_answers_that_are_not_a_services_are_operational_errors() -> None:
    with Idp() as other, Service(other.url, "hh_0_secret") as remote:
        for answer in (
            Answer(b"<html>", 200),
            Answer(b"[]", 200),
            Answer(b"", 302, {"Location": f"{other.url}/elsewhere"}),
            Answer(b'{"detail":"no"}', 500),
            Answer(b"x", 200, {"Content-Length": "9"}),
        ):
            other.answers["/v1/accounts"] = answer
            with pytest.raises(ServiceError):
                remote.call("GET", "v1/accounts")
        assert "/elsewhere" not in other.seen
        other.answers["/v1/accounts"] = Answer(b'{"detail":"account: no","hint":"do this"}', 422)
        with pytest.raises(SignerRefused, match="account: no") as refused:
            remote.call("GET", "v1/accounts")
        assert refused.value.hint == "do this"
    with Service(other.url, "hh_0_secret") as remote, pytest.raises(ServiceError, match=r"127\.0\.0\.1"):
        remote.call("GET", "v1/accounts")
