"""Every event gets into the log, once, whoever is cut off; and a log that was set back is found out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import delete, event, insert, select

from hillhold_signer.errors import LogRefused, StorageError
from hillhold_signer.log import Event, Kind, Tree, audit, fetch_checkpoint
from hillhold_signer.service.database import Database
from hillhold_signer.service.folderobjects import FolderObjects
from hillhold_signer.service.journal import KEPT, LogReader, Sequencer, start_log
from hillhold_signer.service.tables import EVENTS, LOG_FILES
from hillhold_signer.service.unit import Data
from hillhold_verifier.errors import HillholdError
from logs import KEYS, SIGNER


@pytest.fixture
def data(database: Database, tmp_path: Path) -> Data:
    found = Data(database, FolderObjects(tmp_path / "objects"))
    start_log(found, [SIGNER])
    return found


def note(data: Data, number: int) -> None:
    data.record(Kind.REFUSAL, "Ada", what=f"thing {number}", reason="of a test")


def entries(data: Data) -> list[int]:
    """The numbers in the log, whose whole is checked."""
    reader = LogReader(data.database)
    signed = fetch_checkpoint(reader, KEYS)
    audit(reader, signed)
    tree = Tree(reader, signed.checkpoint.size, signed.checkpoint.root)
    return [int(str(Event.decode(entry).fields["what"]).split()[1]) for _, entry in tree.iterate()]


def test_events_get_into_the_log_in_their_order(data: Data, clock: SimpleNamespace) -> None:
    sequencer = Sequencer(data, [SIGNER])
    assert sequencer.run() == 0
    for number in range(300):
        note(data, number)
    assert sequencer.waiting() == 300
    assert sequencer.run() == 300
    assert (sequencer.waiting(), sequencer.run()) == (0, 0)
    assert entries(data) == list(range(300))
    for number in range(300, 700):
        note(data, number)
        if number % 90 == 0:
            sequencer.run()
    sequencer.run()
    assert entries(data) == list(range(700))
    reader = LogReader(data.database)
    assert reader.list("tile/entries") == ["000", "001", "002.p"]
    held = data.objects.read(KEPT, 10**4)
    assert held is not None
    assert held.data == fetch_checkpoint(reader, KEYS).data


def test_an_event_of_work_that_failed_is_not_there(data: Data) -> None:
    with data.writing() as unit:
        unit.record(Kind.REFUSAL, "Ada", what="thing 1", reason="of a test")
    with pytest.raises(HillholdError), data.writing() as unit:
        unit.record(Kind.REFUSAL, "Ada", what="thing 2", reason="\n")
    Sequencer(data, [SIGNER]).run()
    assert entries(data) == [1]


def test_events_that_become_visible_out_of_order_are_not_lost(data: Data, connect: Callable[[], Database]) -> None:
    if not data.database.postgres:
        pytest.skip("SQLite has one writer")
    sequencer = Sequencer(data, [SIGNER])
    with data.database.transaction() as early:
        entry = Event(1, Kind.REFUSAL, "Ada", {"what": "thing 1", "reason": "x"}).encode()
        early.execute(insert(EVENTS).values(entry=entry))
        note(data, 2)
        assert sequencer.run() == 1
    assert sequencer.run() == 1
    assert entries(data) == [2, 1]


@pytest.mark.parametrize("step", range(40))
def test_whoever_is_cut_off_the_next_one_finishes(data: Data, connect: Callable[[], Database], step: int) -> None:
    """Each statement of an append fails once, before it is done or after."""
    note(data, 0)
    Sequencer(data, [SIGNER]).run()
    for number in range(1, 4):
        note(data, number)

    count = 0

    def cut(*_: Any) -> None:
        nonlocal count
        count += 1
        if count == step // 2:
            raise StorageError("cut off")

    broken = connect()
    event.listen(broken.engine, "before_cursor_execute" if step % 2 else "after_cursor_execute", cut)
    try:
        Sequencer(Data(broken, data.objects), [SIGNER]).run()
    except StorageError:
        assert count >= step // 2
    before = fetch_checkpoint(LogReader(data.database), KEYS).checkpoint
    sequencer = Sequencer(data, [SIGNER])
    sequencer.run()
    note(data, 4)
    sequencer.run()
    assert entries(data) == [0, 1, 2, 3, 4]
    reader = LogReader(data.database)
    audit(reader, fetch_checkpoint(reader, KEYS), [before])
    assert reader.read(".pending", 10**6) is None


def test_two_at_once_append_everything_once(connect: Callable[[], Database], tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path / "objects")
    database = connect()
    replicas = [Data(database, objects), Data(connect() if database.postgres else database, objects)]
    start_log(replicas[0], [SIGNER])
    failed: list[Exception] = []

    def work(data: Data, first: int) -> None:
        sequencer = Sequencer(data, [SIGNER])
        try:
            for number in range(first, first + 100):
                note(data, number)
                sequencer.run()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(data, 100 * at)) for at, data in enumerate(replicas)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    Sequencer(replicas[0], [SIGNER]).run()
    assert failed == []
    assert sorted(entries(replicas[0])) == list(range(200))


def test_a_log_that_was_set_back_is_not_appended_to(data: Data) -> None:
    for number in range(3):
        note(data, number)
        Sequencer(data, [SIGNER]).run()
        if number == 1:
            with data.database.snapshot() as connection:
                backup = connection.execute(select(LOG_FILES)).all()
    with data.database.transaction() as connection:
        connection.execute(delete(LOG_FILES))
        connection.execute(insert(LOG_FILES), [row._asdict() for row in backup])
    note(data, 9)
    for _ in range(2):
        sequencer = Sequencer(data, [SIGNER])
        with pytest.raises(LogRefused, match="at least the 3 entries kept, got 2"):
            sequencer.run()
        assert sequencer.waiting() == 1
    assert entries(data) == [0, 1]


def test_a_checkpoint_that_could_not_be_kept_is_kept_later(data: Data, tmp_path: Path) -> None:
    sequencer = Sequencer(data, [SIGNER])
    (tmp_path / "objects/log").rename(tmp_path / "away")
    (tmp_path / "objects/log").write_bytes(b"")
    note(data, 0)
    with pytest.raises(StorageError):
        sequencer.run()
    (tmp_path / "objects/log").unlink()
    (tmp_path / "away").rename(tmp_path / "objects/log")
    sequencer.run()
    held = data.objects.read(KEPT, 10**4)
    assert held is not None
    assert held.data == fetch_checkpoint(LogReader(data.database), KEYS).data
    assert entries(data) == [0]


def test_there_is_one_log(data: Data) -> None:
    with pytest.raises(LogRefused, match="an empty place"):
        start_log(data, [SIGNER])


@pytest.mark.parametrize(
    "path", ["../x", "tile/0/../../x", "", "events", "tile/99/000", "checkpoint/x", "tile/0/000\x00"]
)
def test_no_path_leads_elsewhere(data: Data, path: str) -> None:
    reader = LogReader(data.database)
    with pytest.raises(HillholdError):
        reader.read(path, 10)
    with pytest.raises(HillholdError):
        reader.list(path)
