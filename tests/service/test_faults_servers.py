"""A database that restarts or dies, and an object store that is slow, fails, or loses answers: all goes on by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Connection, Engine, event

from faultproxy import DROPPED, LOST, HttpProxy, TcpProxy, delay, seeded, status
from hillhold_signer import example_signer
from hillhold_signer.requests import open_request, sign_request
from hillhold_signer.service.service import Service
from objectstore import S3, Bucket
from postgres import Postgres
from servicekit import PATIENCE, Kit, make_kit, never_asked, serving, sign, states, states_of, submit, until
from tables import make_tables
from witness import Auditor, Device, check_published, quiet
from workshop import image


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A PostgreSQL that no other test uses: this one is stopped and killed."""
    with Postgres(sync=True) as server:
        yield server


def ready_to_sign(url: str, kit: Kit, version: str = "1.0.0") -> None:
    with kit.client(url, "ci") as ci, kit.client(url, "ada") as ada:
        assert submit(ci, image(version)).status_code == 201
        assert sign(ada, "release-1").status_code == 200


def published(kit: Kit, url: str, version: str = "1.0.0") -> None:
    with kit.client(url, "ada") as ada:
        until(
            lambda: (
                (answer := patient(lambda: ada.get("/v1/lines/pump/releases")))
                and states_of(answer)[version] == "available"
            )
        )


def patient(act: Callable[[], httpx.Response]) -> httpx.Response | None:
    """Ask, and return a good answer; a bad one says that it is for now, and why."""
    answer = act()
    if answer.status_code == 503:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["hint"]
        assert "postgres@" not in answer.text
    else:
        assert answer.status_code in (200, 201), answer.text
        return answer
    return None


def unready(url: str) -> set[str]:
    """The parts of a replica that are not well, by its own word."""
    answer = httpx.get(f"{url}/readyz", timeout=PATIENCE)
    found = {part for part, text in answer.json().items() if text != "ok"}
    assert answer.status_code == (503 if found else 200)
    return found


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_the_database_goes_away_in_the_middle_and_comes_back(
    own_postgres: Postgres, bucket: Bucket, tmp_path: Path, how: str
) -> None:
    kit = make_kit(tmp_path / "service", own_postgres.database(prepare=make_tables), bucket)
    with kit.running() as url, kit.client(url, "ci") as ci, kit.client(url, "grace") as grace:
        until(lambda: kit.data.objects.length("public/metadata/timestamp.json"))
        device, auditor = Device(kit.data.objects, tmp_path / "device"), Auditor(kit)
        ready_to_sign(url, kit)
        ended, counts = threading.Event(), [0, 0]

        def ask() -> None:  # signers and pages that look, all the while
            with kit.client(url, "ada") as ada:
                while not ended.wait(0.01):
                    counts[patient(lambda: ada.get("/v1/status")) is not None] += 1

        def refused(answer: httpx.Response) -> None:
            assert answer.status_code == 503, answer.text
            patient(lambda: answer)

        askers = [threading.Thread(target=ask) for _ in range(3)]
        for thread in askers:
            thread.start()
        with device.looking("pump/1.0.0/app.bin"):
            assert sign(grace, "release-2").status_code == 200  # acknowledged: it is there, whatever happens now
            own_postgres.kill() if how == "kill" else own_postgres.stop()
            refused(grace.get("/v1/status"))
            until(lambda: "database" in unready(url))
            assert httpx.get(f"{url}/healthz").status_code == 200  # to start it anew would not help
            refused(ci.post("/v1/lines/pump/releases", json={"images": [{"sha256": "0" * 64, "file_name": "app.bin"}]}))
            refused(httpx.get(f"{url}/v1/status", headers={"Authorization": f"Bearer hh_{'0' * 24}_{'0' * 64}"}))
            own_postgres.start()
            published(kit, url)
            quiet(kit)
            until(lambda: not unready(url))
        ended.set()
        for thread in askers:
            thread.join()
        assert min(counts) > 0
        assert device.look() == {"pump/1.0.0/app.bin"}
        auditor.check("pump/1.0.0/app.bin")
        check_published(kit, tmp_path / "tree")
    kit.data.database.close()


class Losing:
    """Loses the answer to the commit of what next writes into a table."""

    def __init__(self, engine: Engine, way: TcpProxy) -> None:
        self.table: str | None = None
        self._way = way
        event.listen(engine, "begin", lambda connection: connection.info.pop("losing", None))
        event.listen(engine, "before_cursor_execute", self._look)
        event.listen(engine, "commit", self._lose)

    def _look(self, connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        if self.table and statement.startswith((f"INSERT INTO {self.table} ", f"UPDATE {self.table} ")):
            self.table = None
            connection.info["losing"] = True

    def _lose(self, connection: Connection) -> None:
        if connection.info.pop("losing", False):
            self._way.lose = b"COMMIT"


@pytest.mark.parametrize(
    "table",
    [
        "approvals",
        "publications",
        "log_files",
        *(pytest.param(name, marks=pytest.mark.deep) for name in ("blobs", "submissions", "events", "log_releases")),
    ],
)
def test_a_commit_whose_answer_is_lost_is_not_done_twice(
    postgres: Postgres, bucket: Bucket, tmp_path: Path, table: str
) -> None:
    database = postgres.database(prepare=make_tables)
    kit = make_kit(tmp_path / "service", database, bucket)
    with TcpProxy(postgres.port) as way:
        settings = replace(kit.settings, database=database.replace(str(postgres.port), str(way.port)))
        service = Service(settings, never_asked, lambda name, error: kit.failures.append((name, error)))
        losing = Losing(service.data.database.engine, way)
        with serving(service) as url, kit.client(url, "ci") as ci, kit.client(url, "ada") as ada:
            quiet(kit)
            device, auditor = Device(kit.data.objects, tmp_path / "device"), Auditor(kit)
            losing.table = table
            until(lambda: patient(lambda: submit_again(ci)))
            until(lambda: patient(lambda: sign_again(ada, "release-1")))
            with kit.client(url, "grace") as grace:
                until(lambda: patient(lambda: sign_again(grace, "release-2")))
            published(kit, url)
            until(lambda: way.lost == 1)
            quiet(kit)
            assert device.look("pump/1.0.0/app.bin")
            auditor.check("pump/1.0.0/app.bin")
            signed = [number for act, number in auditor.counted().items() if act[0] == "signature"]
            assert signed == [1, 1]
            check_published(kit, tmp_path / "tree")
    kit.data.database.close()


def sign_again(client: httpx.Client, key: str) -> httpx.Response:
    """Sign what is drafted; where nothing is, because it was published with the signature whose answer was lost, that is well, too."""
    answer = client.get("/v1/requests/pump")
    if answer.status_code == 422:
        return client.get("/v1/status")
    if answer.status_code != 200:
        return answer
    text = sign_request(open_request(answer.content), example_signer(key)).data().decode()
    answer = client.post("/v1/signatures", json={"signatures": [text]})
    return client.get("/v1/status") if answer.status_code in (409, 422) else answer


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({status(500): 0.3}, id="500", marks=pytest.mark.slow),
        pytest.param({LOST: 0.3}, id="lost", marks=pytest.mark.slow),
        pytest.param({DROPPED: 0.2, LOST: 0.2, status(503): 0.2}, id="all"),
        pytest.param({delay(0.3): 0.5}, id="slow"),
    ],
)
def test_an_object_store_that_fails_now_and_then_is_caught_up_with(
    postgres: Postgres, s3: S3, tmp_path: Path, fault: dict[object, float]
) -> None:
    bucket = s3.bucket()
    kit = make_kit(tmp_path / "service", postgres.database(prepare=make_tables), bucket)
    with HttpProxy(s3.port) as way:
        through = replace(kit, settings=replace(kit.settings, options=bucket.through(way.port).options), failures=[])
        with through.running() as url:
            until(lambda: kit.data.objects.length("public/metadata/timestamp.json"))
            device, auditor = Device(kit.data.objects, tmp_path / "device"), Auditor(kit)
            way.script = seeded(11, fault)  # type: ignore[arg-type]
            with device.looking("pump/1.0.0/app.bin"), kit.client(url, "ci") as ci:
                until(lambda: patient(lambda: submit_again(ci)))
                with kit.client(url, "ada") as ada, kit.client(url, "grace") as grace:
                    assert sign(ada, "release-1").status_code == 200
                    assert sign(grace, "release-2").status_code == 200
                published(kit, url)
                quiet(kit)
            way.script = seeded(0, {})
            auditor.check("pump/1.0.0/app.bin")
            check_published(kit, tmp_path / "tree")
            assert {name for name, _ in through.failures} <= {"export", "log", "clean"}
    kit.data.database.close()


def submit_again(client: httpx.Client) -> httpx.Response:
    """Hand in a build; its upload may fail, too."""
    data = image("1.0.0")
    digest = sha256(data).hexdigest()
    answer = client.put(f"/v1/blobs/{digest}", content=data)
    if answer.status_code >= 400:
        return answer
    value = {"images": [{"sha256": digest, "file_name": "app.bin"}], "hardware": ["nrf51-a"]}
    return client.post("/v1/lines/pump/releases", json=value)


def test_publishing_goes_on_without_the_object_store_and_is_exported_afterwards(
    postgres: Postgres, s3: S3, tmp_path: Path
) -> None:
    bucket = s3.bucket()
    kit = make_kit(tmp_path / "service", postgres.database(prepare=make_tables), bucket)
    with HttpProxy(s3.port) as way:
        through = replace(kit, settings=replace(kit.settings, options=bucket.through(way.port).options), failures=[])
        with through.running() as url, kit.client(url, "boss") as boss:
            until(lambda: kit.data.objects.length("public/metadata/timestamp.json"))
            device, auditor = Device(kit.data.objects, tmp_path / "device"), Auditor(kit)
            ready_to_sign(url, kit)
            quiet(kit)
            way.script = lambda method, path: DROPPED
            with kit.client(url, "grace") as grace:
                assert sign(grace, "release-2").status_code == 200
                until(lambda: states(grace) == {"1.0.0": "published"}, "for the decision")
            before = version(kit)
            assert boss.post("/v1/publications", json={"renew": True}).status_code == 200
            assert version(kit) == before + 1
            until(lambda: any(name == "export" for name, _ in through.failures))
            until(lambda: "objects" in unready(url))
            assert device.look("pump/1.0.0/app.bin") == set()  # what was published before is valid as ever
            way.script = seeded(0, {})
            published(kit, url)
            quiet(kit)
            until(lambda: not unready(url))
            assert device.look("pump/1.0.0/app.bin") == {"pump/1.0.0/app.bin"}
            auditor.check("pump/1.0.0/app.bin")
            check_published(kit, tmp_path / "tree")
    kit.data.database.close()


def version(kit: Kit) -> int:
    with kit.data.reading() as unit:
        chain = unit.repository.state().chain
        assert chain
        return int(chain.timestamp.version)
