"""Files that no name points to go after a while; whatever is named, or is being handed in at this very moment, stays."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import insert, select, update

import doomed
from hillhold_signer import example_signer
from hillhold_signer.errors import ConfigRefused, LockedError
from hillhold_signer.log.note import note_signer
from hillhold_signer.making import Making
from hillhold_signer.service.access import Principal, Role
from hillhold_signer.service.backup import backup
from hillhold_signer.service.blobs import GRACE
from hillhold_signer.service.database import Database
from hillhold_signer.service.objects import Objects
from hillhold_signer.service.settings import FILE, read_settings
from hillhold_signer.service.submissions import Build, Image, submit
from hillhold_signer.service.sweeping import Swept, sweep
from hillhold_signer.service.tables import ACCOUNTS, BLOBS, EVENTS, SWEPT_BLOBS
from hillhold_signer.service.unit import Data, Unit
from hillhold_signer.service.uploads import begin, receive
from objectstore import Bucket
from postgres import Postgres
from servicekit import Kit, make_kit, replica, sign, states, until, upload
from servicekit import submit as hand_in
from tables import make_tables
from workshop import image, statement

DAY = 86_400
AGE = 7 * DAY
SBOM = b'{"bomFormat":"CycloneDX","specVersion":"1.6"}'


@pytest.fixture(params=["embedded", "production"])
def kit(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kit]:
    """SQLite and a folder; PostgreSQL and an object store."""
    if request.param == "embedded":
        made = make_kit(tmp_path / "service")
    else:
        postgres: Postgres = request.getfixturevalue("postgres")
        made = make_kit(tmp_path / "service", postgres.database(prepare=make_tables), request.getfixturevalue("bucket"))
    yield made
    made.data.database.close()


def hash_of(data: bytes) -> str:
    return sha256(data).hexdigest()


def send(data: Data, content: bytes, account: int | None = None) -> str:
    receive(data.database, data.objects, hash_of(content), 1 << 20, [content], account)
    return hash_of(content)


def aged(data: Data, by: int = AGE + 1) -> None:
    """Let all files have been sent longer ago."""
    with data.database.transaction() as connection:
        connection.execute(update(BLOBS).values(time=BLOBS.c.time - by))


def rows(data: Data) -> set[str]:
    with data.database.snapshot() as connection:
        return {str(row[0]) for row in connection.execute(select(BLOBS.c.sha256))}


def stored(data: Data) -> set[str]:
    return {key.rpartition("/")[2] for key in data.objects.list("blobs")}


def going(data: Data) -> list[str]:
    with data.database.snapshot() as connection:
        return [str(row[0]) for row in connection.execute(select(SWEPT_BLOBS.c.sha256))]


@contextmanager
def looked(kit: Kit) -> Iterator[str]:
    """A replica that has swept for the first time, and does so no more."""
    with kit.running() as url:
        until(lambda: 'success_time_seconds{task="clean"}' in httpx.get(f"{url}/metrics").text, "for its own sweep")
        yield url


def account_of(kit: Kit, name: str) -> int:
    with kit.data.database.snapshot() as connection:
        return int(connection.execute(select(ACCOUNTS.c.id).where(ACCOUNTS.c.name == name)).scalar_one())


def principal(kit: Kit, name: str) -> Principal:
    account = account_of(kit, name)
    return Principal(account, name, True, frozenset({(Role.SUBMITTER, "pump")}), frozenset({account}))


def test_what_is_named_stays_and_all_else_goes(kit: Kit) -> None:
    with looked(kit) as url, kit.client(url, "ci") as ci, kit.client(url, "grace") as grace:
        documents: dict[str, Any] = {
            "sbom": [{"name": "b.json", "sha256": upload(ci, SBOM)}],
            "notes": {"name": "n.txt", "sha256": upload(ci, b"Quieter.")},
            "provenance": upload(ci, statement(image("1.0.0"))),
        }
        assert hand_in(ci, image("1.0.0"), **documents).status_code == 201
        assert sign(grace, "release-1").status_code == 200
        assert sign(grace, "release-2").status_code == 200
        until(lambda: states(grace) == {"1.0.0": "available"})
        drafted: dict[str, Any] = {"notes": {"name": "n.txt", "sha256": upload(ci, b"Faster.")}}
        assert hand_in(ci, image("1.1.0", edits=9), patch_from=["none"], **drafted).status_code == 201
        lost = {upload(ci, b"nothing names this"), upload(grace, b"nor this")}
        shared = b"begun by another, and not ended"
        lost_but_for_that = upload(ci, shared)
        begin(kit.data.database, principal(kit, "grace"), lost_but_for_that, len(shared), 1 << 20, "0" * 32)
        aged(kit.data, AGE - 3600)
        assert sweep(kit.data, AGE) == Swept(0, 0)
        aged(kit.data, 3601)
        before = rows(kit.data)
        assert sweep(kit.data, AGE) == Swept(2, len(b"nothing names this") + len(b"nor this"))
        assert rows(kit.data) == stored(kit.data) == before - lost
        assert sweep(kit.data, AGE) == Swept(0, 0)
        for digest in lost:
            assert ci.get(f"/v1/blobs/{digest}").status_code == 404
        assert grace.get(f"/v1/blobs/{documents['provenance']}").content == statement(image("1.0.0"))
        assert hand_in(ci, image("1.0.0"), **documents).status_code == 200
        # What was drafted and given up, the image and its notes, goes with the files of its draft: at the next publications.
        with kit.data.writing() as unit:
            unit.repository.drop("pump", unit.repository.droppable("pump")[1])
        gone = {hash_of(image("1.1.0", edits=9)), hash_of(b"Faster.")}
        for version in ("1.2.0", "1.3.0"):
            aged(kit.data)
            assert sweep(kit.data, AGE) == Swept(0, 0)
            assert hand_in(ci, image(version), patch_from=["none"]).status_code == 201
            assert {sign(grace, key).status_code for key in ("release-1", "release-2")} == {200}
            until(lambda: "drafted" not in states(grace).values())
            until(lambda: "published" not in states(grace).values())
        aged(kit.data)
        assert sweep(kit.data, AGE).files == 2
        kept = {hash_of(image("1.2.0")), hash_of(image("1.3.0"))}
        assert rows(kit.data) == stored(kit.data) == (before | kept) - lost - gone
        assert upload(ci, image("1.1.0", edits=9)) in rows(kit.data) & stored(kit.data)
    assert not kit.failures


def test_a_sweep_is_one_event(kit: Kit) -> None:
    digests = sorted(send(kit.data, b"%d" % number) for number in range(5))
    aged(kit.data)
    sweep(kit.data, AGE)
    with kit.data.database.snapshot() as connection:
        found = [bytes(row[0]) for row in connection.execute(select(EVENTS.c.entry)) if b'"removed' in bytes(row[0])]
    assert len(found) == 1
    assert b'"kind":"configuration"' in found[0]
    assert b'"what":"removed 5 files that nothing names"' in found[0]
    assert hash_of("\n".join(digests).encode()).encode() in found[0]


class Meanwhile(Data):
    """Somebody does something just before this replica takes the lock."""

    def __init__(self, kit: Kit, act: Callable[[], Any]) -> None:
        super().__init__(Database(kit.settings.database), kit.data.objects)
        self._act = act

    @contextmanager
    def writing(self, line: str = "", *, held: bool = False) -> Iterator[Unit]:
        self._act()
        with super().writing(line, held=held) as unit:
            yield unit


def test_what_is_named_or_sent_while_a_sweep_looks_stays(kit: Kit) -> None:
    ci, notes, other = account_of(kit, "ci"), b"Quieter.", b"Other."
    for content in (image("1.0.0"), notes, other):
        send(kit.data, content, ci)
    aged(kit.data)
    build = Build((Image(hash_of(image("1.0.0")), "app.bin"),), hardware=("nrf51-a",))

    def act() -> None:
        with Making() as making:
            submit(kit.data, principal(kit, "ci"), "pump", build, making)
        send(kit.data, notes, account_of(kit, "grace"))

    late = Meanwhile(kit, act)
    assert sweep(late, AGE) == Swept(1, len(other))
    late.database.close()
    assert {hash_of(image("1.0.0")), hash_of(notes)} <= rows(kit.data)
    assert rows(kit.data) == stored(kit.data)


class Slow:
    """Objects of which one cannot be deleted for now."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.asked, self.go = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)

    def delete(self, key: str) -> None:
        self.asked.set()
        assert self.go.wait(60)
        self._objects.delete(key)


def test_who_sends_what_is_being_deleted_waits_and_loses_nothing(kit: Kit) -> None:
    content = image("1.0.0")
    slow = Slow(kit.data.objects)
    other = Data(Database(kit.settings.database), slow)
    with looked(kit) as url, kit.client(url, "ci") as ci:
        digest = send(kit.data, content)
        aged(kit.data)
        thread = threading.Thread(target=sweep, args=(other, AGE))
        thread.start()
        assert slow.asked.wait(60)
        answer = ci.put(f"/v1/blobs/{digest}", content=content)
        assert (answer.status_code, "is being deleted" in answer.text) == (503, True), answer.text
        assert ci.post("/v1/uploads", json={"sha256": digest, "length": len(content)}).status_code == 201
        with pytest.raises(LockedError), kit.data.writing() as unit:
            unit.store.write(f"staged/{digest}", content)
        with pytest.raises(LockedError), kit.data.trying() as unit:
            unit.store.write(f"staged/{digest}", content)
        assert sweep(kit.data, AGE) == Swept(0, 0)  # another sweep leaves it to the first
        assert digest in stored(kit.data)
        slow.go.set()
        thread.join(60)
        assert digest not in stored(kit.data)
        assert hand_in(ci, content).status_code == 201
    other.database.close()
    assert rows(kit.data) == stored(kit.data)
    assert not going(kit.data)


def test_an_object_that_nobody_came_to_note_is_kept_as_long_and_then_goes(kit: Kit) -> None:
    lost, found = b"its sender died", b"its sender came back"
    for content in (lost, found):
        kit.data.objects.put(f"blobs/{hash_of(content)}", content)
    sweep(kit.data, AGE)
    assert set(going(kit.data)) == {hash_of(lost), hash_of(found)}
    assert {hash_of(lost), hash_of(found)} <= stored(kit.data)
    send(kit.data, found)
    assert going(kit.data) == [hash_of(lost)]
    with kit.data.database.transaction() as connection:
        connection.execute(update(SWEPT_BLOBS).values(time=SWEPT_BLOBS.c.time - AGE - GRACE - 1))
    sweep(kit.data, AGE)
    assert hash_of(lost) not in stored(kit.data)
    assert hash_of(found) in stored(kit.data)
    assert not going(kit.data)


def test_a_sender_takes_over_what_a_dead_sweep_has_claimed(kit: Kit) -> None:
    for content in (b"the object is gone", b"the object is there"):
        if content.endswith(b"there"):
            kit.data.objects.put(f"blobs/{hash_of(content)}", content)
        with kit.data.database.transaction() as connection:
            row = {"sha256": hash_of(content), "time": kit.data.database.now(connection) - GRACE + 30}
            connection.execute(insert(SWEPT_BLOBS).values(row))
        with pytest.raises(LockedError):
            send(kit.data, content)
        with kit.data.database.transaction() as connection:
            connection.execute(update(SWEPT_BLOBS).values(time=SWEPT_BLOBS.c.time - 31))
        send(kit.data, content)
        assert not going(kit.data)
        sweep(kit.data, AGE)
        assert hash_of(content) in stored(kit.data)


def test_a_backup_of_what_was_just_removed_says_that_it_is_to_be_made_again(kit: Kit, tmp_path: Path) -> None:
    send(kit.data, b"nothing names this")
    aged(kit.data)
    signer = [note_signer("example.org/log", example_signer("root-1"))]
    slow = Slow(kit.data.objects)

    class Sweeping(Slow):
        def get(self, key: str, start: int = 0) -> Iterator[bytes]:
            sweep(kit.data, AGE)
            return self._objects.get(key, start)

    other = Data(Database(kit.settings.database), Sweeping(slow._objects))
    with pytest.raises(LockedError, match="removed meanwhile"):
        backup(other, tmp_path / "backups", signer)
    assert backup(other, tmp_path / "backups", signer).blobs == len(rows(kit.data))
    other.database.close()


def test_files_are_kept_for_a_day_at_least(tmp_path: Path) -> None:
    for text, seconds in (("", AGE), ('keep = "1d"\n', DAY), ('keep = "4w"\n', 28 * DAY)):
        (tmp_path / FILE).write_text(text)
        assert read_settings(tmp_path).keep == seconds
    for text in ('"23h"', '"0s"', '"7"', "7", '"-1d"'):
        (tmp_path / FILE).write_text(f"keep = {text}\n")
        with pytest.raises(ConfigRefused, match="keep: expected"):
            read_settings(tmp_path)


# --- two at once, and deaths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [3, pytest.param(30, marks=pytest.mark.deep)])
def test_two_replicas_sweep_while_two_send_and_name_the_same_files(
    postgres: Postgres, bucket: Bucket, tmp_path: Path, seconds: int
) -> None:
    kit = make_kit(tmp_path / "service", postgres.database(prepare=make_tables), bucket)
    contents = [b"%d" % number for number in range(4)]
    ended, wrong = threading.Event(), list[str]()
    counts = {"sent": 0, "swept": 0, "waited": 0, "named": 0}

    def sending(data: Data, chance: random.Random) -> None:
        while not ended.is_set():
            content = chance.choice(contents)
            try:
                if chance.random() < 0.3:
                    with data.writing() as unit:
                        unit.store.write(f"staged/{hash_of(content)}", content)
                        counts["named"] += 1
                    with data.writing() as unit:
                        if unit.store.read(f"staged/{hash_of(content)}", 10) not in (content, None):
                            wrong.append(f"named {content!r}")
                        unit.store.remove(f"staged/{hash_of(content)}")
                else:
                    send(data, content)
                    counts["sent"] += 1
            except LockedError:
                counts["waited"] += 1

    def sweeping(data: Data) -> None:
        while not ended.is_set():
            try:
                aged(data)  # all rows at once, in no order: the database may let another one go first
            except LockedError:
                counts["waited"] += 1
            counts["swept"] += sweep(data, AGE).files

    with opened(kit, 4) as each:
        threads = [threading.Thread(target=sending, args=(each[at], random.Random(at))) for at in range(2)]
        threads += [threading.Thread(target=sweeping, args=(data,)) for data in each[2:]]
        for thread in threads:
            thread.start()
        ended.wait(seconds)
        ended.set()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
    assert not wrong
    assert min(counts["sent"], counts["swept"], counts["named"]) > 0, counts
    assert rows(kit.data) <= stored(kit.data)
    for digest in rows(kit.data) & {hash_of(content) for content in contents}:
        assert hash_of(b"".join(kit.data.objects.get(f"blobs/{digest}"))) == digest
    kit.data.database.close()


@contextmanager
def opened(kit: Kit, count: int) -> Iterator[list[Data]]:
    each = [Data(Database(kit.settings.database), kit.data.objects) for _ in range(count)]
    try:
        yield each
    finally:
        for data in each:
            data.database.close()


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.deep)])
def test_a_sweep_that_dies_at_a_step_is_ended_by_the_next(
    kit: Kit, request: pytest.FixtureRequest, tmp_path: Path, stride: int
) -> None:
    environment = request.getfixturevalue("bucket").environment if kit.settings.objects else {}
    contents = [b"nothing names this", b"nor this"]

    def swept(number: int) -> AbstractContextManager[tuple[str, Any]]:
        program = (str(doomed.__file__), "clean", str(number), str(tmp_path / "armed"))
        return replica(kit.settings.folder, environment, program)

    keep = rows(kit.data)
    number, steps = 0, 99
    while number <= steps:
        for content in contents:
            send(kit.data, content)
        aged(kit.data)
        (tmp_path / "armed").write_text("")
        died = True
        try:
            with swept(number) as (_, process):
                if number == 0:
                    until(lambda: rows(kit.data) == stored(kit.data) == keep and not going(kit.data), "for a sweep")
                    died = False
                else:
                    assert until(process.poll, f"for the end at {number}") == -9
        except (AssertionError, httpx.HTTPError):
            if number == 0 or len((tmp_path / "armed").read_text().splitlines()) != number:
                raise  # else it died before it could answer
        if not died:
            steps = len((tmp_path / "armed").read_text().splitlines())
            assert steps >= 8
        assert rows(kit.data) <= stored(kit.data)
        for content in contents:  # whoever sends it now is told to wait, or has sent it
            try:
                send(kit.data, content)
                assert hash_of(content) in stored(kit.data)
            except LockedError:
                with kit.data.database.transaction() as connection:
                    connection.execute(update(SWEPT_BLOBS).values(time=SWEPT_BLOBS.c.time - GRACE - 1))
                send(kit.data, content)
        sweep(kit.data, AGE)
        assert rows(kit.data) == stored(kit.data) == keep | {hash_of(content) for content in contents}
        number += stride
