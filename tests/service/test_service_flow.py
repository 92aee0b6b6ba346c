"""The way of a build through the service, over HTTP: handed in, signed at home, published, and had by a device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hillhold_signer import example_signer
from hillhold_signer.requests import open_request, sign_request
from hillhold_signer.service.access import Role
from hillhold_signer.verify import verify_tree
from postgres import Postgres
from servicekit import Kit, fetched, make_kit, sign, states, submit, until
from tables import make_tables
from workshop import image


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


def test_a_build_is_handed_in_signed_and_published(kit: Kit, tmp_path: Path) -> None:
    with (
        kit.running() as url,
        kit.client(url, "ci") as ci,
        kit.client(url, "ada") as ada,
        kit.client(url, "grace") as grace,
    ):
        answer = submit(ci, image("1.0.0"))
        assert answer.status_code == 201, answer.text
        assert states(ada) == {"1.0.0": "drafted"}
        assert sign(ada, "release-1").json()["attached"][0]["signatures"] == "1 of 2"
        assert sign(grace, "release-2").json()["attached"][0]["complete"] is True
        until(lambda: states(ada) == {"1.0.0": "available"}, "for the publication")
        with kit.data.reading() as unit:
            now = unit.now
        seen = verify_tree(fetched(kit, tmp_path / "seen"), now)
        assert list(seen.targets) == ["pump/1.0.0/app.bin"]
        until(lambda: grace.get("/v1/releases/pump/1.0.0/app.bin/proof").status_code == 200, "for the proof")
    assert not kit.failures


def test_the_same_build_sent_again_is_taken_once(kit: Kit) -> None:
    with kit.running() as url, kit.client(url, "ci") as ci:
        first, second = submit(ci, image("1.0.0")), submit(ci, image("1.0.0"))
        assert (first.status_code, second.status_code) == (201, 200)
        assert second.json()["digest"] == first.json()["digest"]
        assert list(states(ci)) == ["1.0.0"]


def test_who_drafted_cannot_be_the_only_one_who_signs(kit: Kit) -> None:
    kit.account("alan", (Role.SIGNER, "pump"))
    with kit.running() as url, kit.client(url, "grace") as grace, kit.client(url, "alan") as alan:
        assert submit(grace, image("1.0.0")).status_code == 201
        sign(grace, "release-2")
        answer = sign(alan, "release-1")  # Ada's key, handed in by Alan: it counts as Ada's
        assert answer.json()["attached"][0]["complete"] is True
        until(lambda: states(alan) == {"1.0.0": "available"})


def test_a_signature_that_is_sent_again_after_the_publication_was_taken(kit: Kit) -> None:
    with kit.running() as url, kit.client(url, "ci") as ci, kit.client(url, "grace") as grace:
        submit(ci, image("1.0.0"))
        request = open_request(grace.get("/v1/requests/pump").content)
        files = [sign_request(request, example_signer(key)).data().decode() for key in ("release-1", "release-2")]
        first = grace.post("/v1/signatures", json={"signatures": files})
        assert first.status_code == 200, first.text
        until(lambda: states(ci) == {"1.0.0": "available"})
        again = grace.post("/v1/signatures", json={"signatures": files})  # the answer was lost
        assert again.status_code == 200, again.text
        assert [item["signatures"] for item in again.json()["attached"]] == ["published", "published"]
