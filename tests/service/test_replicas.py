"""Replicas that are killed at any step, and databases that restart under them: what was published stays, and no event is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hillhold_signer import Repository, add_product, verify_tree
from hillhold_signer.log import Event, Tree, audit, fetch_checkpoint
from hillhold_signer.places import Entry
from hillhold_signer.service.database import Database
from hillhold_signer.service.export import Exporter
from hillhold_signer.service.folderobjects import FolderObjects
from hillhold_signer.service.journal import LogReader, Sequencer, start_log
from hillhold_signer.service.unit import Data
from hillhold_verifier.errors import OperationalError
from logs import KEYS, SIGNER
from postgres import Postgres
from replica import killed, submit
from workshop import ceremony, online, pump, sign_all


def start(data: Data) -> None:
    with data.writing() as unit:
        Repository.create(Entry(unit.store), ceremony(), unit.now, demo=True)
        add_product(unit.repository, pump(), unit.now)
        sign_all(unit.repository, "root-1", "root-2", "targets-1", "targets-2", "release-1", "release-2")
        unit.repository.publish(online(), unit.now)
    start_log(data, [SIGNER])


def recorded(data: Data) -> list[str]:
    """The releases that the log tells of; all of it is checked."""
    reader = LogReader(data.database)
    signed = fetch_checkpoint(reader, KEYS)
    audit(reader, signed)
    tree = Tree(reader, signed.checkpoint.size, signed.checkpoint.root)
    return [str(Event.decode(entry).fields["path"]) for _, entry in tree.iterate()]


def released(data: Data) -> list[str]:
    with data.reading() as unit:
        line = unit.repository.state().line("pump")
        return [path for path in line.targets if path.endswith("/app.bin")]


def settle(data: Data) -> None:
    """What any other replica does all the time."""
    exporter = Exporter(data)
    exporter.run()
    exporter.close()
    Sequencer(data, [SIGNER]).run()


@pytest.mark.deep
def test_a_replica_is_killed_at_every_step_of_publishing(
    url: str, connect: Callable[[], Database], clock: SimpleNamespace, tmp_path: Path
) -> None:
    data = Data(connect(), FolderObjects(tmp_path / "objects"))
    start(data)
    settle(data)
    step = survived = 0
    while not survived:
        survived = not killed(url, tmp_path / "objects", step, step)
        verify_tree(tmp_path / "objects/public", clock.now)  # what a device finds before anybody has tidied up
        settle(data)
        verify_tree(tmp_path / "objects/public", clock.now)
        done = released(data)
        assert sorted(recorded(data)) == sorted(done)
        with data.reading() as unit:
            assert set(unit.store.walk("public")) == set(data.objects.list("public"))
        step += 1
    assert step > 40
    assert len(done) > 10


@pytest.mark.slow
def test_a_database_that_restarts_under_replicas_at_work(clock: SimpleNamespace, tmp_path: Path) -> None:
    with Postgres(sync=True) as server, ExitStack() as stack:
        url = server.database()
        databases = [Database(url, clock=lambda: int(clock.now), wait=5) for _ in range(2)]
        for database in databases:
            stack.callback(database.close)
        databases[0].migrate()
        replicas = [Data(database, FolderObjects(tmp_path / "objects")) for database in databases]
        start(replicas[0])
        certain: list[str] = []
        failures: list[str] = []
        stop = threading.Event()

        def kill() -> None:
            server.kill()
            server.start()

        def work(data: Data, number: int) -> None:
            while not stop.is_set():
                number += 2
                try:
                    with data.writing() as unit:
                        path = submit(unit, number)
                    certain.append(path)
                    settle(data)
                except OperationalError as error:
                    failures.append(str(error))

        threads = [threading.Thread(target=work, args=(data, at)) for at, data in enumerate(replicas)]
        for thread in threads:
            thread.start()
        try:
            for again in (server.restart, kill, server.restart, lambda: None):
                before, end = len(certain), time.monotonic() + 60
                while len(certain) < before + 4 and time.monotonic() < end:
                    time.sleep(0.01)
                again()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        settle(replicas[0])
        done = released(replicas[0])
        assert failures
        assert len(certain) >= 16
        assert set(certain) <= set(done)
        assert sorted(recorded(replicas[0])) == sorted(done)
        verify_tree(tmp_path / "objects/public", clock.now)
        with replicas[1].reading() as unit:
            assert set(unit.store.walk("public")) == set(replicas[1].objects.list("public"))


def test_forty_at_once_lose_nothing(connect: Callable[[], Database], clock: SimpleNamespace, tmp_path: Path) -> None:
    database = connect()
    data = Data(database, FolderObjects(tmp_path / "objects"))
    start(data)
    failed: list[Any] = []

    def work(number: int) -> None:
        try:
            with data.writing() as unit:
                submit(unit, number)
            settle(data)
        except Exception as error:
            failed.append(error)

    order = [threading.Thread(target=work, args=(number,)) for number in range(40)]
    for thread in order:
        thread.start()
    for thread in order:
        thread.join()
    settle(data)
    assert failed == []
    assert len(released(data)) == 40
    assert sorted(recorded(data)) == sorted(released(data))
    verify_tree(tmp_path / "objects/public", clock.now)
