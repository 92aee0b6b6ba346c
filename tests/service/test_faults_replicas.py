"""Two replicas at once: under load, and with clocks that are apart."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import select

from hillhold_signer import example_signer
from hillhold_signer.requests import open_request, sign_request
from hillhold_signer.service.access import EVERY, Role
from hillhold_signer.service.database import Database
from hillhold_signer.service.publisher import Publisher
from hillhold_signer.service.service import Service
from hillhold_signer.service.tables import PUBLICATIONS
from hillhold_signer.service.unit import Data
from objectstore import Bucket
from postgres import Postgres
from servicekit import Kit, make_kit, never_asked, replica, serving, sign, states, submit, until
from tables import make_tables
from witness import Auditor, Device, check_published, quiet
from workshop import image

CLIENTS = 8


@pytest.fixture
def kit(postgres: Postgres, bucket: Bucket, tmp_path: Path) -> Iterator[Kit]:
    made = make_kit(tmp_path / "service", postgres.database(prepare=make_tables), bucket)
    yield made
    made.data.database.close()


@pytest.mark.parametrize("each", [2, pytest.param(12, marks=pytest.mark.deep)])
def test_two_replicas_under_load_lose_nothing_and_skip_nothing(
    postgres: Postgres, bucket: Bucket, tmp_path: Path, each: int
) -> None:
    lines = [f"line{number}" for number in range(CLIENTS)]
    kit = make_kit(tmp_path / "service", postgres.database(prepare=make_tables), bucket, *lines)
    for name in ("margaret", "alan"):
        kit.account(name, (Role.SIGNER, EVERY))
    versions = [f"1.{number}.0" for number in range(each)]
    paths = [f"{line}/{version}/app.bin" for line in lines for version in versions]
    with ExitStack() as stack:
        folder, environment = kit.settings.folder, bucket.environment
        urls = [stack.enter_context(replica(folder, environment))[0] for _ in range(2)]
        until(lambda: kit.data.objects.length("public/metadata/timestamp.json"))
        device, auditor = Device(kit.data.objects, tmp_path / "device"), Auditor(kit)
        ended = threading.Event()

        def build(number: int) -> None:
            with kit.client(urls[number % 2], "ci") as ci:
                for at, version in enumerate(versions):
                    answer = submit(ci, image(version, seed=number * 100 + at), lines[number], patch_from=["none"])
                    assert answer.status_code == 201, answer.text

        def approve(name: str, key: str, url: str) -> int:
            count = 0
            with kit.client(url, name) as client:
                while not ended.wait(0.01):
                    for line in lines:
                        request = client.get(f"/v1/requests/{line}")
                        if request.status_code != 200:
                            continue
                        text = sign_request(open_request(request.content), example_signer(key)).data().decode()
                        answer = client.post("/v1/signatures", json={"signatures": [text]})
                        assert answer.status_code in (200, 409, 422), answer.text  # it grew meanwhile, or was published
                        count += answer.status_code == 200 and not answer.json()["attached"][0]["repeated"]
            return count

        with device.looking(*paths), ThreadPoolExecutor(CLIENTS + 2) as pool:
            signers = [
                pool.submit(approve, "margaret", "release-1", urls[0]),
                pool.submit(approve, "alan", "release-2", urls[1]),
            ]
            try:
                for done in [pool.submit(build, number) for number in range(CLIENTS)]:
                    done.result()
                with kit.client(urls[0], "boss") as boss:
                    until(
                        lambda: all(list(states(boss, line).values()) == ["available"] * each for line in lines),
                        "for all",
                    )
            finally:
                ended.set()
            signed = sum(signer.result() for signer in signers)
        quiet(kit)
    assert device.look(*paths) == set(paths)
    auditor.check(*paths)
    assert sum(act[0] == "signature" for act in auditor.counted()) == signed
    check_published(kit, tmp_path / "tree")
    with kit.data.reading() as unit:
        roles = [str(row.roles) for row in unit.connection.execute(select(PUBLICATIONS))]
    assert len(roles) == len(set(roles))  # each version was published once
    kit.data.database.close()


def test_clocks_that_are_apart_change_nothing(kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database's clock decides; those of the replicas are a day ahead and a day behind."""
    with ExitStack() as stack:
        urls = []
        for apart in (-86_400, 86_400):
            service = Service(kit.settings, never_asked, lambda name, error: kit.failures.append((name, error)))
            monkeypatch.setattr(service, "now", lambda apart=apart: int(time.time()) + apart)
            urls.append(stack.enter_context(serving(service)))
        until(lambda: kit.data.objects.length("public/metadata/timestamp.json"))
        device, auditor = Device(kit.data.objects, tmp_path / "device"), Auditor(kit)
        issued = []
        with device.looking("pump/1.0.0/app.bin"):
            with (
                kit.client(urls[0], "ci") as ci,
                kit.client(urls[1], "ada") as ada,
                kit.client(urls[0], "grace") as grace,
            ):
                assert submit(ci, image("1.0.0")).status_code == 201
                assert sign(ada, "release-1").status_code == 200
                assert sign(grace, "release-2").status_code == 200
                until(lambda: states(ada) == {"1.0.0": "available"})
            for url in (*urls, *urls):
                with kit.client(url, "boss") as boss:
                    assert boss.post("/v1/publications", json={"renew": True}).status_code == 200
                with kit.data.reading() as unit:
                    chain = unit.repository.state().chain
                    assert chain
                    issued.append((chain.timestamp.version, chain.timestamp.expires))
                    assert abs(unit.now - time.time()) < 60
        quiet(kit)
    assert issued == sorted(issued)
    assert (issued[-1][1] - issued[0][1]).total_seconds() < 300
    assert device.look("pump/1.0.0/app.bin")
    auditor.check("pump/1.0.0/app.bin")
    assert all(abs(event.time - time.time()) < 300 for event in auditor.read())
    check_published(kit, tmp_path / "tree")
    assert not kit.failures


def test_of_four_replicas_that_find_it_due_one_renews(kit: Kit) -> None:
    with kit.data.reading() as unit:
        state = unit.repository.state()
        assert state.chain
        version, later = state.chain.timestamp.version, int(state.chain.timestamp.expires.timestamp()) - 60
    each = [Data(Database(kit.settings.database, clock=lambda: later), kit.data.objects) for _ in range(4)]
    together = threading.Barrier(len(each))

    def renew(data: Data) -> dict[str, int]:
        publisher = Publisher(data, never_asked)
        together.wait()
        return dict(publisher.renew())

    with ThreadPoolExecutor(len(each)) as pool:
        done = [found for found in pool.map(renew, each) if found]
    assert [found["timestamp"] for found in done] == [version + 1]
    for data in each:
        data.database.close()
