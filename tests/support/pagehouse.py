"""A service with people, drafts, releases and a log, for tests of its page.

    with House(tmp_path) as house, house.served() as url:
        house.visitor(url, "ada").get("/")

Ada administers, Grace and Alan sign, Margaret audits, `ci` submits.
"""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from types import TracebackType

import httpx
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI, Request
from securesystemslib.signer import CryptoSigner
from sqlalchemy import Connection, insert, select, update

from hillhold_signer import (
    Caps,
    Ceremony,
    NamedKey,
    OnlineKey,
    Product,
    Repository,
    Team,
    Wish,
    add_product,
    add_release,
    example_signer,
)
from hillhold_signer.documents import Document
from hillhold_signer.log import Event, FolderStore, Kind, create_log, note_signer, open_log
from hillhold_signer.service import accounts, tokens
from hillhold_signer.service.access import EVERY, Role
from hillhold_signer.service.database import Database
from hillhold_signer.service.page import Surroundings, begin_session, end_session, page_router, session_reader
from hillhold_signer.service.tables import ACCOUNTS, APPROVALS, CHANGES, LOG_FILES, PUBLICATIONS, STUCK, SUBMISSIONS
from hillhold_signer.withdrawing import withdraw
from tables import make_tables
from workshop import HARDWARE, NOW, image, online, statement

DAY, HOUR = 86_400, 3600
ORIGIN = "log.example/hillhold"
LOG_SIGNER = note_signer(ORIGIN, example_signer("timestamp"))
SPDX = b'{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT"}'

PEOPLE = {"ada": "Ada", "grace": "Grace", "margaret": "Margaret", "alan": "Alan"}
"""Accounts, and the names of those behind them."""


def key(name: str) -> CryptoSigner:
    """The key of a person."""
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(sha256(f"page: {name}".encode()).digest()))


def team(*names: str, threshold: int = 2) -> Team:
    return Team(tuple(NamedKey(PEOPLE[name], key(name).public_key) for name in names), threshold)


@dataclass
class House:
    """The repository is a folder here; the page reads it as it reads a store."""

    path: Path
    now: int = NOW
    url: str | None = None
    denied: list[tuple[str, str]] = field(default_factory=list)

    def __enter__(self) -> House:
        url = f"sqlite:///{self.path}/hillhold.db"
        make_tables(url)
        self.database = Database(url, clock=lambda: self.now)
        ceremony = Ceremony(
            team("ada", "grace", "margaret"),
            team("ada", "grace", "alan"),
            OnlineKey(example_signer("snapshot").public_key, "file:snapshot.pem"),
            OnlineKey(example_signer("timestamp").public_key, "file:timestamp.pem"),
        )
        self.repository = Repository.create(self.path / "repository", ceremony, self.now, demo=True)
        with self.database.transaction() as connection:
            self._people(connection)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.database.close()

    # --- what happens there ---------------------------------------------------------------------------------------

    def line(self, name: str, *people: str, by: str = "ada", threshold: int = 2) -> None:
        product = Product(name, team(*people, threshold=threshold), Caps(HARDWARE, 100, 30 * DAY))
        add_product(self.repository, product, self.now)
        self.made(by, "targets", {"command": "product add", "line": name})
        self.made(by, name, {"command": "product add", "line": name})

    def release(self, line: str, version: str, wish: Wish | None = None, by: str = "ci", edits: int = 0) -> None:
        data = image(version, edits=edits)
        wish = wish or Wish("app.bin", hardware=HARDWARE)
        if wish.sbom:
            wish = replace(wish, provenance=Document("app.json", statement(data)))
        add_release(self.repository, line, data, wish, self.now)
        self.made(by, line, {"command": "release add", "version": version, "file": wish.file_name})
        with self.database.transaction() as connection:
            row: dict[str, object] = {
                "path": f"{line}/{version}/{wish.file_name}",
                "sha256": sha256(data).hexdigest(),
                "wish": "0" * 64,
            }
            row |= {"account": self.id(connection, by), "time": self.now}
            connection.execute(insert(SUBMISSIONS).values(row))

    def withdraw(self, line: str, version: str, reason: str, down_to: str | None = None, by: str = "ada") -> None:
        withdraw(self.repository, line, version, reason, self.now, step_down_to=down_to)
        self.made(by, line, {"command": "withdraw", "version": version, "reason": reason})

    def sign(self, who: str, *roles: str) -> None:
        for role in roles:
            (signed,) = self.repository.sign(key(who), role)
            with self.database.transaction() as connection:
                row = {"digest": signed.digest, "keyid": key(who).public_key.keyid, "role": role}
                connection.execute(insert(APPROVALS).values(row | self._by(connection, who)))

    def publish(self, *roles: str, exported: bool = True) -> None:
        done = self.repository.publish(online(), self.now, roles)
        row = {"time": self.now, "roles": json.dumps(dict(done.roles)), "exported": self.now + 2 if exported else None}
        with self.database.transaction() as connection:
            connection.execute(insert(PUBLICATIONS).values(row))

    def stick(self, role: str, reason: str) -> None:
        digest = self.repository.state().drafts[role].digest
        with self.database.transaction() as connection:
            connection.execute(insert(STUCK).values(role=role, digest=digest, reason=reason, time=self.now))

    def made(self, by: str, role: str, what: object) -> None:
        """Note who made the drafts that nobody was noted for."""
        files = self.repository.state().files.of(role)
        with self.database.transaction() as connection:
            known = set(connection.execute(select(CHANGES.c.draft).where(CHANGES.c.role == role)).scalars())
            for name, node in files.nodes.items():
                if name not in known:
                    row: dict[str, object] = {
                        "draft": name,
                        "role": role,
                        "digest": node.digest,
                        "what": json.dumps(what),
                    }
                    row |= self._by(connection, by)
                    connection.execute(insert(CHANGES).values(row))

    def log(self, *events: Event) -> None:
        """Make a log of these, which the database then holds."""
        store = FolderStore(self.path / "log")
        create_log(store, [LOG_SIGNER])
        with open_log(store, [LOG_SIGNER]) as log:
            log.append([event.encode() for event in events])
        found = {
            str(file.relative_to(store.path)): file.read_bytes() for file in store.path.rglob("*") if file.is_file()
        }
        rows = [{"path": path, "data": data} for path, data in found.items() if not path.startswith(".")]
        with self.database.transaction() as connection:
            connection.execute(insert(LOG_FILES), rows)

    # --- people ---------------------------------------------------------------------------------------------------

    @staticmethod
    def id(connection: Connection, name: str) -> int:
        return accounts.find(connection, name).id

    def _by(self, connection: Connection, name: str) -> dict[str, object]:
        account = self.id(connection, name)
        return {"account": account, "time": self.now, "behind": [account]}

    def token(self, name: str) -> str:
        with self.database.transaction() as connection:
            issued = tokens.issue(connection, None, name, label="page", now=self.now, random=secrets.token_bytes)
        return issued.text

    def _people(self, connection: Connection) -> None:
        for name in (*PEOPLE, "ci"):
            accounts.create(connection, name, machine=name == "ci", now=self.now)
        for name, role, line in (
            ("ada", Role.ADMINISTRATOR, EVERY),
            ("grace", Role.SIGNER, EVERY),
            ("alan", Role.SIGNER, "pump"),
            ("margaret", Role.AUDITOR, EVERY),
            ("ci", Role.SUBMITTER, "pump"),
        ):
            accounts.grant(connection, name, role, line)
        for name in PEOPLE:
            accounts.add_key(connection, None, name, key(name).public_key.keyid)

    # --- the page -------------------------------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        with self.database.snapshot() as connection:
            yield Reading(self.repository, connection, self.database.now(connection))

    def app(self) -> FastAPI:
        app = FastAPI(openapi_url=None)
        app.include_router(page_router(self.surroundings()))
        return app

    def surroundings(self) -> Surroundings:
        def sign_in(token: str, _: Request) -> str:
            with self.database.transaction() as connection:
                who = tokens.check(connection, token, self.now)
                assert who.token
                cookie = secrets.token_hex(32)
                begin_session(connection, who.token, self.now, cookie)
            return cookie

        def sign_out(cookie: str) -> None:
            with self.database.transaction() as connection:
                end_session(connection, cookie)

        return Surroundings(
            self.reading,
            lambda unit, cookie: session_reader(unit.connection, cookie, unit.now),
            sign_in,
            sign_out,
            lambda _, path: b"proof of " + path.encode(),
            self.url,
            lambda reader, path: self.denied.append((reader.name, path)),
            LOG_SIGNER.verifier,
        )

    @contextmanager
    def served(self) -> Iterator[str]:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            config = uvicorn.Config(self.app(), log_level="error", lifespan="off")
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
            thread.start()
            while not server.started:
                time.sleep(0.01)
            try:
                yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            finally:
                server.should_exit = True
                thread.join()

    @contextmanager
    def visitor(self, url: str, who: str | None = None) -> Iterator[httpx.Client]:
        """Somebody who is signed in, or (None) is not."""
        with httpx.Client(base_url=url, headers={"Origin": url}) as client:
            if who is not None:
                answer = client.post("/sign-in", data={"token": self.token(who)})
                assert answer.status_code == 303, answer.text
            yield client


@dataclass(frozen=True)
class Reading:
    """One reading."""

    repository: Repository
    connection: Connection
    now: int


def lived_in(house: House) -> None:
    """A month of it: releases, one of them withdrawn; drafts that wait, that are stuck, that are ready; a log."""
    house.line("pump", "grace", "alan", "margaret")
    house.line("monitor", "grace", "alan")
    for who, roles in {
        "ada": ("root", "targets"),
        "grace": ("root", "targets", "pump", "monitor"),
        "alan": ("pump", "monitor"),
    }.items():
        house.sign(who, *roles)
    house.publish()
    documents = Wish(
        "app.bin",
        hardware=HARDWARE,
        sbom=(Document("app.spdx", SPDX),),
        notes=Document("notes.md", b"Fixes the alarm."),
        source="git+https://git.example/pump@4f1c2a",
    )
    for version, day in (("1.0.0", 1), ("1.1.0", 8), ("1.2.0", 15)):
        house.now = NOW + day * DAY
        house.release("pump", version, documents, edits=int(version[2]) * 20)
        house.sign("grace", "pump")
        house.sign("alan", "pump")
        house.publish()
    house.now = NOW + 16 * DAY
    house.withdraw("pump", "1.2.0", "stops at 40 degrees", down_to="1.1.0")
    house.sign("grace", "pump")
    house.sign("margaret", "pump")
    house.publish()
    house.now = NOW + 29 * DAY
    house.repository.refresh(online(), house.now)
    security = Wish("app.bin", kind="security", hardware=HARDWARE, source=documents.source, sbom=documents.sbom)
    house.release("pump", "1.3.0", security, edits=70)
    house.sign("grace", "pump")
    house.release("monitor", "2.0.0", by="grace")
    house.sign("grace", "monitor")
    house.sign("alan", "monitor")
    house.stick("monitor", "the object store refused it: no space left")
    house.now += 3 * HOUR
    house.line("ventilator", "ada", "margaret")
    house.now += 15 * HOUR
    house.log(*events())


def events() -> Iterator[Event]:
    """More than fit on a page, or in one bundle of the log."""
    for number in range(300):
        at = NOW + number * HOUR
        digest = sha256(b"%d" % number).hexdigest()
        if number % 3 == 0:
            path = f"pump/1.{number}.0/app.bin"
            yield Event(at, Kind.SUBMISSION, "ci", {"path": path, "length": 4096, "sha256": digest})
        elif number % 3 == 1:
            fields: dict[str, str | int] = {
                "role": "pump",
                "version": number,
                "sha256": digest,
                "keyid": key("grace").public_key.keyid,
            }
            yield Event(at, Kind.SIGNATURE, "grace", fields)
        else:
            yield Event(at, Kind.PUBLICATION, "service", {"role": "pump", "version": number, "sha256": digest})
    yield Event(NOW + 300 * HOUR, Kind.REFUSAL, "alan", {"what": "signature on pump", "reason": "on another draft"})
    yield Event(NOW + 301 * HOUR, Kind.FAILED_LOGIN, "anonymous", {"reason": "an unknown token"})


HOSTILE = (
    "<script>document.title='broken out'</script>",
    '"><img src=x onerror="document.title=\'broken out\'">',
    "{{ 7 * 7 }}{% raw %}",
    "\u202efdp.exe\u202c\u2066\u200b\ufeff",
    "\x1b[31mred\r\n\x00\x7f",
    "e" + "\u0301" * 200,
    "\u05e9\u05dc\u05d5\u05dd 123 \u0634",
    "w" * 10_000,
)
"""What somebody may have written where the page shows it."""


def infested(house: House) -> None:
    """A house in which all texts that somebody may write are hostile."""
    lived_in(house)
    text = " ".join(HOSTILE)
    for name in ("ada", "grace"):
        keyid = key(name).public_key.keyid
        for file in (house.path / "repository" / "people").glob(f"{keyid}.*"):
            file.write_text("".join(HOSTILE[:3])[:100] + "\n")
    with house.database.transaction() as connection:
        connection.execute(update(CHANGES).values(what=json.dumps({text[:200]: [text, {"a": text}]})))
        connection.execute(update(STUCK).values(reason=text))
        connection.execute(update(ACCOUNTS).where(ACCOUNTS.c.name == "ci").values(name=text))
        connection.execute(update(PUBLICATIONS).values(roles=json.dumps({"pump": text, "root": 1})))
