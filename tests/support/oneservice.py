"""One replica of a service, without HTTP: a database, objects, and what a worker does, when a test asks for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import select

from hillhold_signer import Repository, add_product, verify_tree
from hillhold_signer.log import Kind, audit, fetch_checkpoint
from hillhold_signer.places import Entry
from hillhold_signer.service.dump import tables
from hillhold_signer.service.export import Exporter
from hillhold_signer.service.folderobjects import FolderObjects
from hillhold_signer.service.journal import LogReader, Sequencer, start_log
from hillhold_signer.service.tables import ACCOUNTS, SESSIONS, TOKENS, UPLOADS
from hillhold_signer.service.unit import Data
from logs import KEYS, SIGNER
from workshop import NOW, ceremony, image, online, pump, release, sign_all

DAY = 86_400


class Replica:
    """One service: a database, objects, and a replica that does all of its work when asked."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self.exporter, self.sequencer = Exporter(data), Sequencer(data, [SIGNER])

    def work(self) -> None:
        self.exporter.run()
        self.sequencer.run()

    def publish(self, version: str, seed: int = 1, *, work: bool = True) -> None:
        with self.data.writing() as unit:
            release(unit.repository, image(version, counter=1, seed=seed), unit.now)
            unit.record(Kind.SUBMISSION, "Ada", path=f"pump/{version}/app.bin", length=1, sha256="00" * 32)
        if work:
            self.work()

    def refresh(self) -> None:
        with self.data.writing() as unit:
            unit.repository.refresh(online(), unit.now)
        self.work()

    def versions(self) -> dict[str, int]:
        with self.data.reading() as unit:
            chain = unit.repository.state().chain
            assert chain
            listed = {name.removesuffix(".json"): meta.version for name, meta in chain.snapshot.meta.items()}
            return {
                "root": chain.root.version,
                "timestamp": chain.timestamp.version,
                "snapshot": chain.snapshot.version,
                **listed,
            }

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        with self.data.database.snapshot() as connection:
            return {
                table.name: [
                    tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns))
                ]
                for table in tables()
            }

    def checkpoint(self) -> bytes:
        found = LogReader(self.data.database).read("checkpoint", 10_000)
        assert found
        return found

    def check(self) -> None:
        """The log verifies, and so does what devices fetch."""
        self.work()
        reader = LogReader(self.data.database)
        audit(reader, fetch_checkpoint(reader, KEYS))
        assert isinstance(self.data.objects, FolderObjects)
        verify_tree(self.data.objects.path / "public", 0)

    @property
    def tree(self) -> Path:
        assert isinstance(self.data.objects, FolderObjects)
        return self.data.objects.path / "public"


Make = Callable[..., Replica]
"""Makes replicas without anything in their tables: the fixture `make`."""


def started(service: Replica) -> Replica:
    """A service with a published release, accounts, a log."""
    start_log(service.data, [SIGNER])
    with service.data.writing() as unit:
        Repository.create(Entry(unit.store), ceremony(), unit.now, demo=True)
        add_product(unit.repository, pump(), unit.now)
        sign_all(unit.repository, "root-1", "root-2", "targets-1", "targets-2", "release-1", "release-2")
        unit.repository.publish(online(), unit.now)
        row = {"id": 7, "name": "Ada", "machine": 0, "time": unit.now, "disabled": None}
        unit.connection.execute(ACCOUNTS.insert().values(row))
        for number, revoked in enumerate((None, NOW - 5)):
            token = {
                "id": f"{number:024x}",
                "account": 7,
                "secret": "00" * 32,
                "label": "x",
                "scopes": "[]",
                "behind": [7],
            }
            unit.connection.execute(
                TOKENS.insert().values({**token, "time": NOW, "expires": NOW + DAY, "revoked": revoked})
            )
        unit.connection.execute(SESSIONS.insert().values(id="22" * 32, token=f"{0:024x}", expires=NOW + DAY))
        upload = {"id": "u", "account": 7, "sha256": "11" * 32, "length": 5, "received": 1, "time": NOW}
        unit.connection.execute(UPLOADS.insert().values(upload))
    service.publish("1.0.0")
    return service
