"""A signing service in a test: a repository on a database, accounts with tokens, and the real application over HTTP on loopback."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from hillhold_signer import OnlineKey, Repository, add_product, example_signer
from hillhold_signer.places import Entry
from hillhold_signer.requests import open_request, sign_request
from hillhold_signer.service import accounts, setup, tokens
from hillhold_signer.service.access import EVERY, Role
from hillhold_signer.service.app import create_app
from hillhold_signer.service.database import Database
from hillhold_signer.service.folderobjects import FolderObjects
from hillhold_signer.service.objects import Objects, RemoteObjects
from hillhold_signer.service.serve import options
from hillhold_signer.service.service import Service
from hillhold_signer.service.settings import Settings, read_settings
from hillhold_signer.service.unit import Data
from objectstore import Bucket
from postgres import free_port
from tables import make_tables
from workshop import ceremony, online, pump, sign_all

KEYS = Path(__file__).parents[2] / "keys-example"
PATIENCE = 60.0
"""Seconds for what should take one."""


def never_asked(what: str) -> str:
    raise AssertionError(f"asked for {what}")


def kept_ceremony() -> Any:
    """The workshop's, with online keys that a service can open."""
    keys = [
        OnlineKey(example_signer(role).public_key, f"file2:{KEYS / f'{role}-public-on-purpose.pem'}")
        for role in ("snapshot", "timestamp")
    ]
    return replace(ceremony(), snapshot=keys[0], timestamp=keys[1])


@dataclass
class Kit:
    """A service that was made, and may run or not.

    Attributes:
        data: its data, opened by the test itself.
        failures: what it failed at by itself.
    """

    settings: Settings
    data: Data
    failures: list[tuple[str, Exception]] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)

    def account(self, name: str, *grants: tuple[Role, str], machine: bool = False, keys: Sequence[str] = ()) -> str:
        """Make an account; returns a token of it."""
        with self.data.writing() as unit:
            accounts.create(unit.connection, name, machine=machine, now=unit.now)
            for role, line in grants:
                accounts.grant(unit.connection, name, role, line)
            for key in keys:
                accounts.add_key(unit.connection, None, name, example_signer(key).public_key.keyid)
            issued = tokens.issue(unit.connection, None, name, label="test", now=unit.now, random=os.urandom)
        self.tokens[name] = issued.text
        return issued.text

    @contextmanager
    def running(self) -> Iterator[str]:
        """Run a replica in this process; gives its URL."""
        service = Service(self.settings, never_asked, lambda name, error: self.failures.append((name, error)))
        with serving(service) as url:
            yield url

    def client(self, url: str, name: str) -> httpx.Client:
        """A client with somebody's token."""
        return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {self.tokens[name]}"}, timeout=PATIENCE)


@contextmanager
def serving(service: Service) -> Iterator[str]:
    """Run the application of a service in a thread, over HTTP; gives its URL."""
    port = free_port()
    config = uvicorn.Config(create_app(service), host="127.0.0.1", port=port, log_config=None, **options())
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started or not thread.is_alive())
    assert server.started
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()


def until(done: Callable[[], Any], what: str = "") -> Any:
    """Wait until something is so, and return it."""
    end = time.monotonic() + PATIENCE
    while not (found := done()):
        assert time.monotonic() < end, f"still waiting {what}"
        time.sleep(0.02)
    return found


def make_kit(folder: Path, database: str | None = None, bucket: Bucket | None = None, *lines: str) -> Kit:
    """Make a service with a published, empty line `pump` (and others), and accounts: ci, ada, grace, boss, auditor.

    Args:
        database: its URL, where it is another than in `folder`; it has tables.
    """
    folder.mkdir(parents=True, exist_ok=True)
    setup.write_settings(folder, database, bucket.url if bucket else None)
    if bucket is not None:
        told = {**bucket.options, "allow_http": "true", "virtual_hosted_style_request": "false"}
        lines_of = [f"{name} = {json.dumps(value)}" for name, value in told.items() if isinstance(value, str)]
        with (folder / "service.toml").open("a") as file:
            file.write("\n".join(["[options]", *lines_of, ""]))
    settings = read_settings(folder)
    objects: Objects = RemoteObjects(bucket.url, settings.options) if bucket else FolderObjects(folder)
    if database is None:
        make_tables(settings.database)
    data = Data(Database(settings.database), objects)
    setup.create_repository(data, kept_ceremony(), demo=True)
    setup.begin_log(data, setup.make_log_key(settings, "example.org/log"))
    with data.writing() as unit:
        for line in ("pump", *lines):
            add_product(unit.repository, replace(pump(), name=line), unit.now)
        sign_all(unit.repository, "root-1", "root-2", "targets-1", "targets-2", "release-1", "release-2")
        unit.repository.publish(online(), unit.now)
    kit = Kit(settings, data)
    kit.account("ci", (Role.SUBMITTER, EVERY), machine=True)
    kit.account("ada", (Role.SIGNER, "pump"), keys=["release-1"])
    kit.account("grace", (Role.SIGNER, EVERY), (Role.SUBMITTER, "pump"), keys=["release-2"])
    kit.account("boss", (Role.ADMINISTRATOR, EVERY))
    kit.account("auditor", (Role.AUDITOR, EVERY))
    return kit


def fetched(kit: Kit, folder: Path) -> Path:
    """The published tree, as devices find it in the object store, in a folder."""
    for name in kit.data.objects.list("public"):
        path = folder / name.removeprefix("public/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(kit.data.objects.get(name)))
    return folder


def repository_of(data: Data) -> Repository:
    """The repository as it is now, to look at."""
    with data.reading() as unit:
        return Repository(Entry(unit.store))


def upload(client: httpx.Client, data: bytes) -> str:
    """Send a file in one piece; returns its hash."""
    digest = sha256(data).hexdigest()
    answer = client.put(f"/v1/blobs/{digest}", content=data)
    assert answer.status_code in (200, 201), answer.text
    return digest


def submit(client: httpx.Client, image: bytes, line: str = "pump", **more: Any) -> httpx.Response:
    """Upload an image, and hand in the build."""
    digest = upload(client, image)
    value = {"images": [{"sha256": digest, "file_name": "app.bin"}], "hardware": ["nrf51-a"], **more}
    return client.post(f"/v1/lines/{line}/releases", json=value)


def sign(client: httpx.Client, key: str, role: str = "pump") -> httpx.Response:
    """Fetch a request, sign it here, and hand in the signature."""
    answer = client.get(f"/v1/requests/{role}")
    assert answer.status_code == 200, answer.text
    signature = sign_request(open_request(answer.content), example_signer(key))
    return client.post("/v1/signatures", json={"signatures": [signature.data().decode()]})


def states(client: httpx.Client, line: str = "pump") -> Mapping[str, str]:
    """How far each version of a line has come."""
    answer = client.get(f"/v1/lines/{line}/releases")
    assert answer.status_code == 200, answer.text
    return states_of(answer)


def states_of(answer: httpx.Response) -> Mapping[str, str]:
    """The same, of an answer that is there."""
    found = answer.json()["releases"]
    return {item["version"]: "available" if item["available"] else item["state"] for item in found}


@contextmanager
def replica(
    folder: Path,
    environment: Mapping[str, str] | None = None,
    program: Sequence[str] = ("-m", "hillhold_signer.cli"),
    authority: Path | None = None,
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run `hillhold serve` as a process of its own; gives its URL, and the process. `authority`: the CA of its certificate."""
    port = free_port()
    command = [sys.executable, *program, "serve", str(folder), "--listen", f"127.0.0.1:{port}"]
    said = folder / f"replica-{port}.log"
    with said.open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **(environment or {})}, stderr=log)
    url = f"{'https' if authority else 'http'}://127.0.0.1:{port}"
    trusted = ssl.create_default_context(cafile=str(authority)) if authority else False
    try:
        until(lambda: process.poll() is not None or _answers(url, trusted), "for a replica to answer")
        assert process.poll() is None, said.read_text()
        yield url, process
    finally:
        process.kill()
        process.wait()


def _answers(url: str, trusted: ssl.SSLContext | bool) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=2, verify=trusted).status_code < 500
    except httpx.HTTPError:
        return False
