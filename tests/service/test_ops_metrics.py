"""Metrics and health: what stands there is so, in every replica, when something is wrong, too."""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI, Request
from obstore.store import from_url
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import insert

from hillhold_signer import Caps, Product, Wish, add_product, add_release
from hillhold_signer.errors import KeyRefused, StorageError
from hillhold_signer.log import Kind
from hillhold_signer.service.database import Database
from hillhold_signer.service.folderobjects import FolderObjects
from hillhold_signer.service.health import Check, Health, show
from hillhold_signer.service.holding import Hold, hold
from hillhold_signer.service.logs import configure
from hillhold_signer.service.metrics import MAX_LINES, OTHERS, Facts, Metrics, facts
from hillhold_signer.service.objects import RemoteObjects
from hillhold_signer.service.observing import Observed
from hillhold_signer.service.tables import STUCK
from hillhold_signer.service.unit import Data
from hillhold_signer.service.worker import Outcome
from oneservice import Make, Replica, started
from servicekit import make_kit, until
from workshop import HARDWARE, NOW, image, pump, sign_all, team

RETRIES: Any = {"max_retries": 0}
Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def values(text: bytes) -> Values:
    families = text_string_to_metric_families(text.decode())
    return {(item.name, tuple(sorted(item.labels.items()))): item.value for found in families for item in found.samples}


def standing(replica: Replica, clock: float = NOW) -> Facts:
    with replica.data.reading() as unit:
        return facts(unit, clock, {})


# --- how things stand -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_metrics_say_how_things_stand(make: Make, clock: SimpleNamespace, kind: str) -> None:
    replica = started(make(kind))
    clock.now += 100
    with replica.data.writing() as unit:
        add_release(unit.repository, "pump", image("1.1.0"), Wish("app.bin", hardware=HARDWARE[:1]), unit.now)
        sign_all(unit.repository, "release-1")
        add_product(unit.repository, Product("valve", team("release-1", threshold=1), Caps(HARDWARE, 5)), unit.now)
        unit.connection.execute(insert(STUCK).values(role="pump", digest="00" * 32, reason="x", time=unit.now))
        unit.record(Kind.REFUSAL, "Ada", what="x", reason="y")
    found = values(Metrics().exposition(standing(replica, clock.now - 7)))
    gauge = {name: value for (name, labels), value in found.items() if not labels}
    by = {(name, labels[0][1]): value for (name, labels), value in found.items() if labels}
    assert gauge["hillhold_database_up"] == 1
    assert gauge["hillhold_held"] == 0
    assert gauge["hillhold_timestamp_age_seconds"] == 100
    assert gauge["hillhold_database_clock_ahead_seconds"] == 7
    versions = replica.versions()
    for role in ("root", "targets", "snapshot", "timestamp"):
        assert by["hillhold_version", role] == versions[role]
        assert by["hillhold_expires_seconds", role] > 0
    assert by["hillhold_expires_seconds", "timestamp"] < by["hillhold_expires_seconds", "root"]
    assert gauge["hillhold_first_line_expires_seconds"] > 0
    assert (by["hillhold_drafts_waiting", "line"], by["hillhold_drafts_waiting", "targets"]) == (2, 1)
    assert (by["hillhold_signatures_missing", "line"], by["hillhold_signatures_missing", "targets"]) == (2, 2)
    assert (by["hillhold_line_signatures_missing", "pump"], by["hillhold_line_signatures_missing", "valve"]) == (1, 1)
    assert (gauge["hillhold_drafts_stuck"], gauge["hillhold_uploads_open"]) == (1, 1)
    assert (gauge["hillhold_publications_waiting"], gauge["hillhold_events_waiting"]) == (0, 1)
    assert gauge["hillhold_log_entries"] > 0


def test_what_waits_to_be_exported_is_counted_and_how_long(make: Make, clock: SimpleNamespace) -> None:
    replica = started(make())
    replica.publish("1.1.0", work=False)
    clock.now += 30
    found = standing(replica, clock.now)
    assert (found.waiting, found.waiting_since, found.events) == (1, NOW, 1)
    replica.work()
    found = standing(replica, clock.now)
    assert (found.waiting, found.waiting_since, found.events) == (0, None, 0)


def test_before_anything_is_published_there_is_nothing_to_expire(make: Make) -> None:
    empty = make()
    found = values(Metrics().exposition(standing(empty)))
    assert found["hillhold_database_up", ()] == 1
    assert not [name for name, _ in found if name.startswith(("hillhold_expires", "hillhold_timestamp_age"))]


def test_lines_beyond_a_number_have_one_label_together(make: Make) -> None:
    replica = started(make())
    with replica.data.writing() as unit:
        for number in range(MAX_LINES + 20):
            add_product(unit.repository, Product(f"line-{number}", pump().team, Caps(HARDWARE, 5)), unit.now)
    found = standing(replica)
    assert len(found.lines) == MAX_LINES + 1
    assert (found.lines[OTHERS], sum(found.lines.values())) == (40, 2 * (MAX_LINES + 20))


def test_a_line_is_read_once_for_each_version(make: Make) -> None:
    replica = started(make())
    known: dict[str, tuple[int, int]] = {"gone": (1, 5)}
    with replica.data.reading() as unit:
        first = facts(unit, NOW, known).first_line
    assert known == {"pump": (2, first)}
    known["pump"] = (2, 42)
    with replica.data.reading() as unit:
        assert facts(unit, NOW, known).first_line == 42
    replica.publish("1.1.0")
    with replica.data.reading() as unit:
        assert facts(unit, NOW, known).first_line == first


def test_a_held_service_says_so(make: Make) -> None:
    replica = make()
    with replica.data.database.transaction() as connection:
        hold(connection, Hold(NOW, "a", "00" * 32))
    assert values(Metrics().exposition(standing(replica)))["hillhold_held", ()] == 1


def test_without_a_database_the_process_still_says_what_it_did() -> None:
    metrics = Metrics()
    metrics.error(StorageError("database down"))
    found = values(metrics.exposition(None))
    assert found["hillhold_database_up", ()] == 0
    assert found["hillhold_errors_total", (("kind", "StorageError"),)] == 1


# --- requests -------------------------------------------------------------------------------------------------------------------------


class Watched:
    """An application that is observed, and what was written."""

    def __init__(self) -> None:
        self.metrics, self.stream, self.time = Metrics(), io.StringIO(), 0.0
        configure(self.stream, readable=False)
        app = FastAPI()

        @app.get("/v1/lines/{line}")
        def line(line: str, request: Request) -> str:
            request.state.principal = SimpleNamespace(name="Ada")
            self.time += 0.25
            structlog.get_logger("x").info("within")
            if line == "broken":
                raise RuntimeError("password=hunter2hunter2")
            return line

        @app.get("/healthz")
        def alive() -> str:
            return "ok"

        app.add_middleware(Observed, metrics=self.metrics, clock=lambda: self.time, fresh=lambda: "fresh-0001")
        self.app = app

    async def get(self, path: str, method: str = "GET", **headers: str) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.request(method, path, headers=headers)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def watched() -> Iterator[Watched]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield Watched()
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_a_request_has_a_line_and_a_number(watched: Watched) -> None:
    answer = await watched.get("/v1/lines/pump?token=hh_secret")
    assert answer.headers["x-request-id"] == "fresh-0001"
    within, line = watched.lines
    assert within["request"] == "fresh-0001", "what is logged on the way, in another thread, can be found by it"
    assert {
        name: line[name] for name in ("event", "method", "route", "status", "milliseconds", "principal", "request")
    } == {
        "event": "request",
        "method": "GET",
        "route": "/v1/lines/{line}",
        "status": 200,
        "milliseconds": 250.0,
        "principal": "Ada",
        "request": "fresh-0001",
    }
    assert "hh_" not in watched.stream.getvalue()
    labels = (("method", "GET"), ("route", "/v1/lines/{line}"), ("status", "200"))
    found = values(watched.metrics.exposition(None))
    assert (found["hillhold_request_seconds_count", labels], found["hillhold_request_seconds_sum", labels]) == (1, 0.25)


@pytest.mark.anyio
async def test_an_identifier_from_elsewhere_is_taken_only_if_it_is_one(watched: Watched) -> None:
    for given, taken in (
        ("abcd-1234", "abcd-1234"),
        ("short", "fresh-0001"),
        ("a" * 65, "fresh-0001"),
        ('a"b{}c d', "fresh-0001"),
    ):
        answer = await watched.get("/v1/lines/pump", **{"X-Request-Id": given})
        assert answer.headers["x-request-id"] == taken


@pytest.mark.anyio
async def test_no_request_makes_another_label(watched: Watched) -> None:
    for number in range(50):
        await watched.get(f"/nothing/{number}", method=f"VERB{number}")
    names = {labels for name, labels in values(watched.metrics.exposition(None)) if name.endswith("_count")}
    assert names == {(("method", OTHERS), ("route", "(none)"), ("status", "404"))}
    assert not any("nothing" in json.dumps(line) for line in watched.lines)


@pytest.mark.anyio
async def test_an_error_is_logged_with_its_trace_and_without_its_secret(watched: Watched) -> None:
    assert (await watched.get("/v1/lines/broken")).status_code == 500
    text = watched.stream.getvalue()
    assert "RuntimeError" in text
    assert "hunter2" not in text
    assert watched.lines[-1]["status"] == 500


@pytest.mark.anyio
async def test_who_asks_every_second_fills_no_log(watched: Watched) -> None:
    await watched.get("/healthz")
    assert watched.lines == []


def test_a_running_service_answers_whoever_watches(tmp_path: Path) -> None:
    kit = make_kit(tmp_path / "service")
    with kit.running() as url, httpx.Client(base_url=url) as stranger:
        until(lambda: stranger.get("/readyz").status_code == 200, "until it is ready")
        assert stranger.get("/healthz").text == "ok\n"
        stranger.get("/v1/status")
        until(
            lambda: b'hillhold_task_success_time_seconds{task="export"}' in stranger.get("/metrics").content, "a task"
        )
        found = values(stranger.get("/metrics").content)
        assert found["hillhold_database_up", ()] == 1
        assert sum(value for (name, _), value in found.items() if name == "hillhold_errors_total") == 1
        assert abs(found["hillhold_task_success_time_seconds", (("task", "export"),)] - time.time()) < 60
        with kit.data.database.transaction() as connection:
            hold(connection, Hold(NOW, "a", "00" * 32))
        until(lambda: stranger.get("/readyz").status_code == 503, "until it sees that it is held")
        assert stranger.get("/readyz").json()["service"].startswith("was restored")
        assert values(stranger.get("/metrics").content)["hillhold_held", ()] == 1
        assert stranger.get("/healthz").status_code == 200, "restarting helps nobody"
    kit.data.database.close()


# --- health ---------------------------------------------------------------------------------------------------------------------------


class Ill:
    """The parts of a replica, each of which a test may break."""

    def __init__(self, replica: Replica) -> None:
        self.data = replica.data
        self.worker = SimpleNamespace(alive=True, outcomes={"export": Outcome(succeeded=1.0)})
        self.key: Exception | None = None
        self.looked = 0
        self.now, self.time = float(NOW), 1000.0

    def keys(self) -> None:
        self.looked += 1
        if self.key:
            raise self.key

    def health(self) -> Health:
        return Health(self.data, self.worker, self.keys, lambda: self.now, lambda: self.time)  # type: ignore[arg-type]


def failing(checks: tuple[Check, ...]) -> dict[str, Check]:
    return {check.name: check for check in checks if not check.ok}


def test_a_replica_that_is_well_is_ready(make: Make) -> None:
    found = Ill(started(make())).health().ready()
    assert show(found) == dict.fromkeys(("database", "service", "clock", "objects", "keys", "tasks"), "ok")


def broken(ill: Ill) -> None:
    ill.data = Data(Database("postgresql://hillhold:hunter2hunter2@127.0.0.1:9/hillhold"), ill.data.objects)


def gone(ill: Ill) -> None:
    assert isinstance(ill.data.objects, FolderObjects)
    ill.data.objects.path.rename(ill.data.objects.path.with_name("away"))


def unreachable(ill: Ill) -> None:
    options: dict[str, Any] = {"endpoint": "http://127.0.0.1:9", "client_options": {"allow_http": True}, "region": "x"}
    keys: dict[str, Any] = {"access_key_id": "a", "secret_access_key": "hunter2hunter2"}
    objects = RemoteObjects("s3://bucket", {**options, **keys})
    objects._store = from_url("s3://bucket", **options, **keys, retry_config=RETRIES)
    ill.data = Data(ill.data.database, objects)


def old_tables(ill: Ill) -> None:
    with ill.data.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")


def held(ill: Ill) -> None:
    with ill.data.database.transaction() as connection:
        hold(connection, Hold(NOW, "a", "00" * 32))


ILLS: dict[str, tuple[Callable[[Ill], object], set[str]]] = {
    "no database": (broken, {"database", "service", "clock"}),
    "old tables": (old_tables, {"database"}),
    "held": (held, {"service"}),
    "clocks apart": (lambda ill: setattr(ill, "now", NOW + 31.0), {"clock"}),
    "no objects": (gone, {"objects"}),
    "no object store": (unreachable, {"objects"}),
    "no key": (lambda ill: setattr(ill, "key", KeyRefused("file:/x?pin=1234 PIN 1234")), {"keys"}),
    "a dead task": (lambda ill: setattr(ill.worker, "alive", False), {"tasks"}),
    "a failing task": (
        lambda ill: ill.worker.outcomes.update(export=Outcome(succeeded=1.0, failed=999.0, error="disk full")),
        {"tasks"},
    ),
}


@pytest.mark.parametrize("what", ILLS)
def test_what_is_not_well_is_named_and_nothing_more(make: Make, what: str) -> None:
    ill = Ill(started(make()))
    health = ill.health()
    harm, names = ILLS[what]
    harm(ill)
    checks = (ill.health() if what in ("no database", "no object store") else health).ready()
    assert failing(checks).keys() == names
    said = json.dumps(show(checks))
    for secret in ("hunter2", "1234", "127.0.0.1", "disk full"):
        assert secret not in said


def test_a_key_is_not_opened_at_every_look_but_one_that_failed_is(make: Make) -> None:
    ill = Ill(started(make()))
    health = ill.health()
    for _ in range(5):
        ill.time += 3
        assert not failing(health.ready())
    assert ill.looked == 1
    ill.time, ill.key = ill.time + 61, KeyRefused("PIN")
    assert failing(health.ready()).keys() == {"keys"}
    ill.time, ill.key = ill.time + 3, None
    assert not failing(health.ready())
    assert ill.looked == 3


def test_who_asks_while_somebody_looks_does_not_wait(make: Make) -> None:
    ill, inside, go = Ill(started(make())), threading.Event(), threading.Event()

    def slow() -> None:
        inside.set()
        assert go.wait(20)

    ill.keys = slow  # type: ignore[method-assign]
    health = ill.health()
    thread = threading.Thread(target=health.ready)
    thread.start()
    try:
        assert inside.wait(20)
        assert failing(health.ready()).keys() == {"service"}
    finally:
        go.set()
        thread.join()
    assert not failing(health.ready())


def test_only_what_a_restart_would_help_makes_it_dead(make: Make) -> None:
    ill = Ill(started(make()))
    broken(ill)
    assert ill.health().alive().ok
    ill.worker.alive = False
    assert not ill.health().alive().ok
