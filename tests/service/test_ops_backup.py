"""Back-ups: whole or refused, into any database; and a restored service never contradicts what was published after its back-up."""

from __future__ import annotations

import gzip
import json
import shutil
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import func, select

from hillhold_signer import OnlineSigners, Repository, example_signer
from hillhold_signer.errors import (
    LogRefused,
    NoteRefused,
    RepositoryRefused,
    SignerRefused,
    SigningRefused,
    StorageError,
)
from hillhold_signer.log import Kind, Tree, audit, fetch_checkpoint, note_signer
from hillhold_signer.log.note import sign_note
from hillhold_signer.places import Entry
from hillhold_signer.service.backup import BackupRefused, backup, backups, restore, verify_backup
from hillhold_signer.service.holding import HeldRefused, let_go
from hillhold_signer.service.journal import LogReader, Sequencer
from hillhold_signer.service.names import version_of
from hillhold_signer.service.objects import RemoteObjects
from hillhold_signer.service.resuming import Resumed, Seen, resume
from hillhold_signer.service.resuming_tree import Newest, ObjectsSource
from hillhold_signer.service.tables import ACCOUNTS, EVENTS, LOG_RELEASES
from hillhold_verifier.sources import open_source
from logs import KEYS, ORIGIN, SIGNER
from objectstore import Bucket
from oneservice import Make, Replica, started
from workshop import NOW, ceremony, image, online, release, sign_all

DAY = 86_400
HOUR = 3600


@pytest.fixture
def service(make: Make) -> Replica:
    return started(make())


def here(service: Replica, **more: Any) -> Seen:
    """What somebody knows who has looked at a service."""
    return Seen([ObjectsSource(service.data.objects)], service.checkpoint(), **more)


def resumed(service: Replica, seen: Seen) -> Resumed:
    return resume(service.data, seen, lambda _: online(), KEYS)


# --- back-up and restore --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [("sqlite", "postgres"), ("postgres", "sqlite"), ("sqlite", "sqlite")])
def test_a_service_comes_back_in_any_database(make: Make, tmp_path: Path, kinds: tuple[str, str]) -> None:
    first, second = started(make(kinds[0])), make(kinds[1])
    made = backup(first.data, tmp_path / "kept", [SIGNER])
    assert (made.blobs, made.copied, backups(tmp_path / "kept")) == (1, 1, [made.name])
    before = first.rows()
    before["events"].pop()  # which tells of the back-up
    restore(tmp_path / "kept", made.name, second.data, KEYS)
    after = second.rows()
    assert [row[7] for row in after["tokens"]] == [NOW, NOW - 5], "tokens that worked do so no more"
    for name in ("uploads", "sessions"):
        assert (len(before[name]), after[name]) == (1, []), name
    for name in before.keys() - {"tokens", "uploads", "sessions"}:
        assert after[name] == before[name], name
    resumed(second, here(first))
    second.publish("1.1.0")
    assert second.versions()["pump"] == 3
    if "postgres" in kinds:  # which counts on from what was restored
        with second.data.database.transaction() as connection:
            made_id = connection.execute(
                ACCOUNTS.insert().values(name="Grace", machine=0, time=NOW).returning(ACCOUNTS.c.id)
            ).scalar_one()
        assert made_id == 8
    second.check()


def test_a_service_comes_back_in_an_object_store(make: Make, service: Replica, tmp_path: Path, bucket: Bucket) -> None:
    second = make(objects=RemoteObjects(bucket.url, bucket.options))
    made = backup(service.data, tmp_path / "kept", [SIGNER])
    restore(tmp_path / "kept", made.name, second.data, KEYS)
    resumed(second, here(service))
    second.work()
    source = ObjectsSource(second.data.objects)
    assert version_of(source.metadata("timestamp.json") or b"") == second.versions()["timestamp"]
    digest = sha256(image("1.0.0", counter=1, seed=1)).digest()
    with source.target("pump/1.0.0/app.bin", digest) as content:
        assert content.read(0, 1 << 20) == image("1.0.0", counter=1, seed=1)


def test_only_new_blobs_are_copied(service: Replica, tmp_path: Path, clock: SimpleNamespace) -> None:
    first = backup(service.data, tmp_path / "kept", [SIGNER])
    service.publish("1.1.0", seed=2)
    clock.now += 1
    second = backup(service.data, tmp_path / "kept", [SIGNER])
    assert [(made.blobs, made.copied) for made in (first, second)] == [(1, 1), (2, 1)]
    assert backups(tmp_path / "kept") == [first.name, second.name]
    for made in (first, second):
        assert verify_backup(tmp_path / "kept", made.name, KEYS).digest == made.digest


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_back_up_is_of_one_moment_while_releases_go_on(make: Make, tmp_path: Path, kind: str) -> None:
    live, end, errors = started(make(kind)), threading.Event(), list[Exception]()
    released = threading.Semaphore(0)

    def publish() -> None:
        try:
            for number in range(1, 40):
                if end.is_set():
                    return
                live.publish(f"1.{number}.0", seed=number % 3)
                released.release()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        made = []
        for number in range(3):  # each while the next release is under way
            assert released.acquire(timeout=60), errors
            made.append(backup(live.data, tmp_path / f"kept-{number}", [SIGNER]))
    finally:
        end.set()
        thread.join()
    assert not errors
    assert len({item.tables["files"].sha256 for item in made}) == 3, "releases went on"
    for number, item in enumerate(made):
        restore(tmp_path / f"kept-{number}", item.name, make("sqlite").data, KEYS)  # where all of it is verified


# --- what is no back-up ---------------------------------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def rewrite(path: Path, change: Callable[[list[Any]], None]) -> None:
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    change(lines)
    path.write_bytes(gzip.compress(b"".join(json.dumps(line).encode() + b"\n" for line in lines)))


def an_account_more(where: Path) -> None:
    """An administrator of a thief's, with hashes that are right, but for the signature."""
    path = where / "tables/accounts.jsonl.gz"
    rewrite(path, lambda lines: lines.append([9, "Mallory", 0, NOW, None]))
    value = json.loads((where / "manifest.json").read_text())
    value["tables"]["accounts"] = [2, path.stat().st_size, sha256(path.read_bytes()).hexdigest()]
    (where / "manifest.json").write_text(json.dumps(value))


def signed_by_another(where: Path) -> None:
    other = note_signer(ORIGIN, example_signer("snapshot"))
    digest = sha256((where / "manifest.json").read_bytes()).hexdigest()
    (where / "manifest.note").write_bytes(sign_note(f"{ORIGIN}\nbackup\n{digest}\n".encode(), [other]))


def one_blob(where: Path) -> Path:
    (found,) = (path for path in (where.parent / "blobs").rglob("*") if path.is_file())
    return found


SPOILT: dict[str, Callable[[Path], object]] = {
    "a table": lambda where: flip(where / "tables/grants.jsonl.gz"),
    "a table is gone": lambda where: (where / "tables/log_files.jsonl.gz").unlink(),
    "an account more": an_account_more,
    "another key": signed_by_another,
    "the note": lambda where: flip(where / "manifest.note"),
    "no note": lambda where: (where / "manifest.note").unlink(),
    "a blob": lambda where: flip(one_blob(where)),
    "a blob is gone": lambda where: one_blob(where).unlink(),
    "a checkpoint for a note": lambda where: (where / "manifest.note").write_bytes((where / "checkpoint").read_bytes()),
}


@pytest.mark.parametrize("what", SPOILT)
def test_an_altered_back_up_is_refused_and_nothing_is_written(
    make: Make, service: Replica, tmp_path: Path, what: str
) -> None:
    made, second = backup(service.data, tmp_path / "kept", [SIGNER]), make()
    (made.folder / "checkpoint").write_bytes(service.checkpoint())
    SPOILT[what](made.folder)
    with pytest.raises((BackupRefused, NoteRefused)):
        restore(tmp_path / "kept", made.name, second.data, KEYS)
    assert not any(second.rows().values())
    assert list(second.data.objects.list("blobs")) == []


def test_a_back_up_of_a_damaged_service_is_refused(make: Make, service: Replica, tmp_path: Path) -> None:
    """The service itself signs it, and yet: what does not verify is not restored."""
    with service.data.database.transaction() as connection:
        found = connection.exec_driver_sql("UPDATE files SET data = x'78' WHERE name = 'public/metadata/2.pump.json'")
        assert found.rowcount == 1
    made, second = backup(service.data, tmp_path / "kept", [SIGNER]), make()
    with pytest.raises(SignerRefused, match="pump"):
        restore(tmp_path / "kept", made.name, second.data, KEYS)
    assert not any(second.rows().values())


def test_a_log_that_was_altered_is_not_restored(make: Make, service: Replica, tmp_path: Path) -> None:
    with service.data.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE log_files SET data = x'0001ff' WHERE path LIKE 'tile/entries%'")
    made, second = backup(service.data, tmp_path / "kept", [SIGNER]), make()
    with pytest.raises(SignerRefused, match="entr"):
        restore(tmp_path / "kept", made.name, second.data, KEYS)
    assert not any(second.rows().values())


def test_only_an_empty_database_is_filled(make: Make, service: Replica, tmp_path: Path) -> None:
    made, before = backup(service.data, tmp_path / "kept", [SIGNER]), service.rows()
    with pytest.raises(BackupRefused, match="no rows"):
        restore(tmp_path / "kept", made.name, service.data, KEYS)
    assert service.rows() == before | {"events": service.rows()["events"]}
    second = make()
    second.data.objects.put(f"blobs/{one_blob(made.folder).name}", b"something else")
    with pytest.raises(BackupRefused, match="object blobs"):
        restore(tmp_path / "kept", made.name, second.data, KEYS)
    assert not any(second.rows().values())


def test_a_back_up_that_was_cut_off_is_none(service: Replica, tmp_path: Path) -> None:
    (key,) = service.data.objects.list("blobs")
    service.data.objects.delete(key)
    with pytest.raises(StorageError):
        backup(service.data, tmp_path / "kept", [SIGNER])
    assert backups(tmp_path / "kept") == []
    service.data.objects.put(key, image("1.0.0", counter=1, seed=1))
    assert backup(service.data, tmp_path / "kept", [SIGNER]).copied == 1


# --- a restored service ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def restored(make: Make, service: Replica, tmp_path: Path) -> Replica:
    """A service as it was before 1.1.0; `service` is the one that has gone on since."""
    made, found = backup(service.data, tmp_path / "kept", [SIGNER]), make()
    service.publish("1.1.0", seed=2)
    service.refresh()
    service.refresh()
    restore(tmp_path / "kept", made.name, found.data, KEYS)
    return found


def test_a_restored_service_decides_nothing(make: Make, service: Replica, tmp_path: Path) -> None:
    service.publish("1.1.0", seed=2, work=False)
    made, found = backup(service.data, tmp_path / "kept", [SIGNER]), make()
    restore(tmp_path / "kept", made.name, found.data, KEYS)
    for attempt in (lambda: found.publish("2.0.0"), found.refresh, found.exporter.run, found.sequencer.run):
        found.data.record(Kind.FAILED_LOGIN, "Ada", reason="x")  # is noted
        with pytest.raises(HeldRefused):
            attempt()
    assert list(found.data.objects.list("public")) == []


def test_it_takes_over_what_was_published_since(restored: Replica, service: Replica, clock: SimpleNamespace) -> None:
    before, clock.now = service.versions(), clock.now + HOUR
    found = resumed(restored, here(service, log=LogReader(service.data.database)))
    assert found.adopted == {"snapshot": before["snapshot"], "pump": 3, "timestamp": before["timestamp"]}
    assert found.timestamp == before["timestamp"] + 1
    assert found.entries > 0
    restored.check()
    theirs, ours = (
        {str(path.relative_to(one.tree)): path.read_bytes() for path in one.tree.rglob("*") if path.is_file()}
        for one in (service, restored)
    )
    for name, data in ours.items():
        assert name == "metadata/timestamp.json" or theirs.get(name, data) == data, "one name, one content"
    assert theirs.keys() <= ours.keys()
    restored.publish("1.2.0", seed=3)
    restored.check()
    assert restored.versions()["pump"] == 4


def test_no_event_is_lost_nor_comes_twice(make: Make, service: Replica, tmp_path: Path) -> None:
    service.publish("1.1.0", seed=2, work=False)  # whose event waits when the back-up is made
    made, found = backup(service.data, tmp_path / "kept", [SIGNER]), make()
    service.publish("1.2.0", seed=3)
    restore(tmp_path / "kept", made.name, found.data, KEYS)
    resumed(found, here(service, log=LogReader(service.data.database)))
    found.check()

    def entries(one: Replica) -> list[bytes]:
        reader = LogReader(one.data.database)
        signed = fetch_checkpoint(reader, KEYS).checkpoint
        return [entry for _, entry in Tree(reader, signed.size, signed.root).iterate()]

    assert entries(found)[:-1] == entries(service)
    assert b"restored from" in entries(found)[-1]


def test_the_object_stores_own_tree_is_looked_at_in_any_case(
    make: Make, service: Replica, tmp_path: Path, clock: SimpleNamespace
) -> None:
    """The database is lost, and the object store is not; somebody names an old copy of the tree."""
    made = backup(service.data, tmp_path / "kept", [SIGNER])
    shutil.copytree(service.tree, tmp_path / "old")
    service.publish("1.1.0", seed=2)
    found = make(objects=service.data.objects)
    restore(tmp_path / "kept", made.name, found.data, KEYS)
    log = LogReader(service.data.database)
    with pytest.raises(RepositoryRefused, match="two numbers"):
        resumed(found, Seen(Newest(99, 99), service.checkpoint(), log))
    result = resumed(found, Seen([open_source(str(tmp_path / "old"))], service.checkpoint(), log))
    assert result.adopted["pump"] == 3
    found.check()


def test_two_pasts_are_refused_and_it_stays_held(
    make: Make, restored: Replica, service: Replica, tmp_path: Path
) -> None:
    """What went on from an older state under the same numbers is another service's, or a thief's."""
    other = make()
    restore(tmp_path / "kept", backups(tmp_path / "kept")[0], other.data, KEYS)
    with other.data.writing(held=True) as unit:
        release(unit.repository, image("1.1.0", seed=9), unit.now)
    with other.data.database.transaction() as connection:
        let_go(connection)
    other.exporter.rebuild()
    sources = [ObjectsSource(other.data.objects), ObjectsSource(service.data.objects)]
    log = LogReader(service.data.database)
    for order in (sources, sources[::-1]):
        with pytest.raises(RepositoryRefused, match=r"(pump|snapshot|timestamp) version"):
            resumed(restored, Seen(order, service.checkpoint(), log))
    with pytest.raises(HeldRefused):
        restored.refresh()


def test_another_repositorys_tree_says_nothing(make: Make, restored: Replica, service: Replica) -> None:
    other = make()
    with other.data.writing() as unit:
        Repository.create(Entry(unit.store), ceremony(), unit.now + 5, demo=True)
        sign_all(unit.repository, "root-1", "root-2", "targets-1", "targets-2")
        unit.repository.publish(online(), unit.now + 5)
    other.exporter.run()
    with pytest.raises(RepositoryRefused, match="root"):
        resumed(restored, Seen([ObjectsSource(other.data.objects)], service.checkpoint()))


def test_a_target_file_that_is_not_the_named_one_is_not_taken_over(
    restored: Replica, service: Replica, tmp_path: Path
) -> None:
    shutil.copytree(service.tree, tmp_path / "mirror")
    (path,) = (tmp_path / "mirror").rglob("*/1.1.0/*.app.bin")
    flip(path)
    seen = Seen([open_source(str(tmp_path / "mirror"))], service.checkpoint(), LogReader(service.data.database))
    with pytest.raises(RepositoryRefused, match=r"target pump/1\.1\.0/app\.bin"):
        resumed(restored, seen)
    with pytest.raises(HeldRefused):
        restored.refresh()


def test_where_the_tree_is_lost_the_next_versions_are_above_what_was_seen(
    make: Make, service: Replica, tmp_path: Path, clock: SimpleNamespace
) -> None:
    made, found = backup(service.data, tmp_path / "kept", [SIGNER]), make()
    kept = service.checkpoint()
    for _ in range(3):
        clock.now += HOUR
        service.refresh()
    seen = service.versions()
    restore(tmp_path / "kept", made.name, found.data, KEYS)
    with pytest.raises(RepositoryRefused, match="which the back-up has"):
        resumed(found, Seen(Newest(1, 1), kept))
    numbers = Newest(seen["timestamp"], seen["snapshot"])
    assert resumed(found, Seen(numbers, kept)).timestamp == seen["timestamp"] + 1
    assert found.versions()["snapshot"] == seen["snapshot"] + 1
    found.check()
    found.publish("1.1.0", seed=2)
    found.check()


def test_other_online_keys_resume_nothing(restored: Replica, service: Replica) -> None:
    wrong = OnlineSigners(example_signer("root-1"), example_signer("root-1"))
    before = restored.rows()
    with pytest.raises(SigningRefused):
        resume(restored.data, here(service, log=LogReader(service.data.database)), lambda _: wrong, KEYS)
    assert {name: rows for name, rows in restored.rows().items() if name != "blobs"} == {
        name: rows for name, rows in before.items() if name != "blobs"
    }


def test_a_service_that_is_not_held_does_not_resume(service: Replica) -> None:
    with pytest.raises(HeldRefused):
        resumed(service, here(service))


# --- its log --------------------------------------------------------------------------------------------------------------------------


def test_a_log_that_lost_its_end_does_not_go_on(restored: Replica, service: Replica) -> None:
    tree = [ObjectsSource(service.data.objects)]
    with pytest.raises(LogRefused, match="no copy of the log"):
        resumed(restored, Seen(tree, service.checkpoint()))
    with pytest.raises(LogRefused, match="somebody kept"):
        resumed(restored, Seen(tree))
    with pytest.raises(HeldRefused):
        restored.refresh()


def test_a_copy_that_goes_another_way_is_refused(
    make: Make, restored: Replica, service: Replica, tmp_path: Path
) -> None:
    other = make()
    restore(tmp_path / "kept", backups(tmp_path / "kept")[0], other.data, KEYS)
    with other.data.database.transaction() as connection:
        let_go(connection)
    for number in range(20):
        other.data.record(Kind.REFUSAL, "Ada", what=f"{number}", reason="forged")
    other.sequencer.run()
    seen = Seen([ObjectsSource(service.data.objects)], service.checkpoint(), LogReader(other.data.database))
    with pytest.raises(LogRefused, match="another past"):
        resumed(restored, seen)


def test_a_log_whose_end_is_lost_ends_and_another_says_so(restored: Replica, service: Replica) -> None:
    seen = Seen([ObjectsSource(service.data.objects)], service.checkpoint())
    with restored.data.database.transaction() as connection:
        connection.execute(LOG_RELEASES.insert().values(path="pump/1.0.0/app.bin", entry=3))
    same, other = (note_signer(name, example_signer("snapshot")) for name in (ORIGIN, "log.example/hillhold-2"))
    with pytest.raises(LogRefused, match="name of the new log"):
        resume(restored.data, seen, lambda _: online(), KEYS, begin=[same])
    resume(restored.data, seen, lambda _: online(), KEYS, begin=[other])
    restored.sequencer = Sequencer(restored.data, [other])
    restored.work()
    reader = LogReader(restored.data.database)
    signed = fetch_checkpoint(reader, [other.verifier])
    audit(reader, signed)
    with restored.data.database.snapshot() as connection:
        assert connection.execute(select(func.count()).select_from(EVENTS)).scalar() == 0
    assert restored.rows()["log_releases"] == [], "what is at which place was said of the other log"
    entries = b"\n".join(entry for _, entry in Tree(reader, signed.checkpoint.size, signed.checkpoint.root).iterate())
    assert b"log.example/hillhold ended" in entries


def test_many_entries_are_taken_over_tile_by_tile(make: Make, service: Replica, tmp_path: Path) -> None:
    for number in range(300):
        service.data.record(Kind.REFUSAL, "Ada", what=f"{number}", reason="x")
    service.work()
    made, found = backup(service.data, tmp_path / "kept", [SIGNER]), make()
    for number in range(700):
        service.data.record(Kind.REFUSAL, "Ada", what=f"{number}", reason="y")
    service.work()
    restore(tmp_path / "kept", made.name, found.data, KEYS)
    result = resumed(found, here(service, log=LogReader(service.data.database)))
    assert result.entries > 700
    found.check()
    reader = LogReader(found.data.database)
    audit(reader, fetch_checkpoint(reader, KEYS), [fetch_checkpoint(LogReader(service.data.database), KEYS).checkpoint])
