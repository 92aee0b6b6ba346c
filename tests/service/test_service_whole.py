"""The running service as a whole: what it does by itself, whom it lets in, and what it proves."""

from __future__ import annotations

import html
import re
import shlex
import ssl
import time
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from sqlalchemy import func, select

from hillhold_signer import example_signer
from hillhold_signer.cli import main
from hillhold_signer.log import Proof
from hillhold_signer.log.events import Event, Kind
from hillhold_signer.requests import open_request, sign_request
from hillhold_signer.service import accounts, identities
from hillhold_signer.service.access import Role
from hillhold_signer.service.database import Database
from hillhold_signer.service.publisher import Publisher
from hillhold_signer.service.service import log_signer
from hillhold_signer.service.settings import Tls
from hillhold_signer.service.tables import PUBLICATIONS
from hillhold_signer.service.unit import Data
from papers import Ca
from servicekit import KEYS, Kit, make_kit, never_asked, replica, sign, states, submit, until, upload
from workshop import image


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    made = make_kit(tmp_path / "service", None, None, "valve")
    yield made
    made.data.database.close()


def publications(kit: Kit) -> int:
    with kit.data.database.snapshot() as connection:
        return int(connection.execute(select(func.count()).select_from(PUBLICATIONS)).scalar_one())


def test_drafts_that_are_ready_together_share_one_publication(kit: Kit) -> None:
    with kit.running() as url, kit.client(url, "ci") as ci, kit.client(url, "grace") as grace:
        files = []
        for line in ("pump", "valve"):
            assert submit(ci, image("1.0.0"), line).status_code == 201
            request = open_request(grace.get(f"/v1/requests/{line}").content)
            files += [sign_request(request, example_signer(key)).data().decode() for key in ("release-1", "release-2")]
        before = publications(kit)
        assert grace.post("/v1/signatures", json={"signatures": files}).status_code == 200
        for line in ("pump", "valve"):
            until(lambda line=line: states(ci, line) == {"1.0.0": "available"})  # type: ignore[misc]
        assert publications(kit) == before + 1


def test_who_submitted_and_signs_alone_publishes_nothing(kit: Kit) -> None:
    """One person holds both keys of the line, and hands in the build: the quorum is met, four eyes are not."""
    kit.account("sole", (Role.SUBMITTER, "valve"), (Role.SIGNER, "valve"))
    kit.account("other", (Role.SIGNER, "valve"))
    with kit.data.writing() as unit:
        for name, key in (("ada", "release-1"), ("grace", "release-2")):
            accounts.remove_key(unit.connection, name, example_signer(key).public_key.keyid)
        accounts.add_key(unit.connection, None, "sole", example_signer("release-1").public_key.keyid)
        accounts.add_key(unit.connection, None, "sole", example_signer("release-2").public_key.keyid)
    with kit.running() as url, kit.client(url, "sole") as sole, kit.client(url, "boss") as boss:
        assert submit(sole, image("1.0.0"), "valve").status_code == 201
        sign(sole, "release-1", "valve")
        assert sign(sole, "release-2", "valve").json()["attached"][0]["complete"] is True
        said = boss.post("/v1/publications", json={}).json()
        assert said["published"] == {}
        assert "somebody else has to sign" in said["waiting"]["valve"]
        assert states(sole, "valve") == {"1.0.0": "drafted"}
        with kit.data.writing() as unit:  # the second key is somebody else's, after all
            accounts.remove_key(unit.connection, "sole", example_signer("release-2").public_key.keyid)
            accounts.add_key(unit.connection, None, "other", example_signer("release-2").public_key.keyid)
        said = boss.post("/v1/publications", json={}).json()
        assert (
            "other's signature was handed in by sole, who drafted this: let other hand it in"
            in said["waiting"]["valve"]
        )
        with kit.client(url, "other") as other:
            assert sign(other, "release-2", "valve").json()["attached"][0]["repeated"] is True
        until(lambda: states(sole, "valve") == {"1.0.0": "available"})


def test_a_release_is_proved_to_be_in_the_log(kit: Kit) -> None:
    verifier = log_signer(kit.settings, never_asked).verifier
    with kit.running() as url, kit.client(url, "ci") as ci:
        assert submit(ci, image("1.0.0")).status_code == 201
        answer = until(lambda: (got := ci.get("/v1/releases/pump/1.0.0/app.bin/proof")).is_success and got)
    proof = Proof.parse(answer.content)
    assert proof.extra
    proof.verify(proof.extra, [verifier])
    event = Event.decode(proof.extra)
    assert (event.kind, event.actor) == (Kind.SUBMISSION, "ci")
    assert event.fields["sha256"] == sha256(image("1.0.0")).hexdigest()


def test_timestamp_and_snapshot_are_renewed_before_they_expire(kit: Kit) -> None:
    with kit.data.reading() as unit:
        chain, now = unit.repository.state().chain, unit.now
        assert chain
    late = kit.settings.database, now + 20 * 86_400  # more than half of the life of both

    def version() -> int:
        with kit.data.reading() as unit:
            found = unit.repository.state().chain
            assert found
            return int(found.timestamp.version)

    database = Database(late[0], clock=lambda: late[1])
    publisher = Publisher(Data(database, kit.data.objects), never_asked)
    assert publisher.renew()["timestamp"] == chain.timestamp.version + 1
    assert publisher.renew() == {}  # whoever comes second finds it new
    assert version() == chain.timestamp.version + 1
    database.close()


def test_a_client_shows_a_certificate_in_the_place_of_a_token(kit: Kit, tmp_path: Path) -> None:
    ca = Ca(tmp_path, "ca", int(time.time()))
    server, client = ca.issue_server(), ca.issue("build")
    with kit.data.writing() as unit:
        fingerprint = sha256(client.der).hexdigest()
        identities.add_identity(unit.connection, None, "ci", identities.X509, f"sha256={fingerprint}")
    kit.settings = replace(kit.settings, tls=Tls(server.file, server.key, ca.file))
    trusted = ssl.create_default_context(cafile=str(ca.file))
    with (kit.settings.folder / "service.toml").open("a") as file:
        file.write(f'[tls]\ncertificate = "{server.file}"\nkey = "{server.key}"\nclients = "{ca.file}"\n')
    with replica(kit.settings.folder, authority=ca.file) as (url, _):
        assert url.startswith("https://")
        with httpx.Client(base_url=url, verify=trusted) as nobody:
            assert nobody.get("/v1/status").status_code == 401
        trusted.load_cert_chain(client.file, client.key)
        with httpx.Client(base_url=url, verify=trusted, timeout=60) as build:
            assert upload(build, image("1.0.0"))
            assert build.get("/v1/whoami").json()["name"] == "ci"


def test_every_role_does_what_it_may_and_nothing_else(kit: Kit) -> None:
    kit.account("visitor", (Role.SIGNER, "valve"), (Role.SUBMITTER, "valve"))
    allowed = {
        "ci": {"submit", "request", "log"},  # submitter of all lines
        "grace": {"submit", "request", "log"},  # signer of all, and submitter of this one
        "ada": {"request"},  # signer of this line
        "auditor": {"request", "log"},
        "boss": {"request", "log"},
        "visitor": set[str](),
    }
    with kit.running() as url, kit.client(url, "ci") as ci:
        assert submit(ci, image("1.0.0")).status_code == 201
        for name, may in allowed.items():
            with kit.client(url, name) as client:
                answers = {
                    "submit": client.post("/v1/lines/pump/releases", json={"images": [_image("0" * 64)]}),
                    "request": client.get("/v1/requests/pump"),
                    "log": client.get("/log/checkpoint"),
                }
                seen = {what for what, answer in answers.items() if answer.status_code not in (401, 403)}
                assert seen == may, name


def _image(digest: str) -> dict[str, str]:
    return {"sha256": digest, "file_name": "app.bin"}


def test_the_command_that_the_page_shows_is_one_that_signs(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "1.root.json"
    with kit.running() as url, kit.client(url, "ci") as ci, kit.client(url, "ada") as ada:
        assert submit(ci, image("1.0.0")).status_code == 201
        page = ada.post("/sign-in", data={"token": kit.tokens["ada"]}, headers={"Origin": url}, follow_redirects=True)
        page = ada.get("/drafts/pump", headers={"Accept": "text/html"})
        shown = next(line for line in html.unescape(page.text).splitlines() if "hillhold sign --service" in line)
        command = re.sub("<[^>]*>", "", shown).strip().removeprefix("hillhold ")
        key = KEYS / "release-1-public-on-purpose.pem"
        root.write_bytes(ada.get("/v1/files/public/metadata/1.root.json").content)
        arguments = command.replace("file:YOUR-KEY.pem", f"file:{key}").replace("1.root.json", str(root))
        monkeypatch.setenv("HILLHOLD_TOKEN", kit.tokens["ada"])
        done = CliRunner().invoke(main, [*shlex.split(arguments), "--yes"])
        assert done.exit_code == 0, done.output
        assert ada.get("/v1/status").json()["roles"]["pump"]["signatures"] == "1 of 2"
