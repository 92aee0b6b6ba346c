"""What OpenAPI says of the service is so, whatever is sent: no error of the service's own, and every answer is one that was announced."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from hillhold_signer.service.access import EVERY, Role
from servicekit import Kit, make_kit, sign, submit
from workshop import image

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
MANY = int(os.environ.get("HILLHOLD_API_EXAMPLES", "300"))
"""Examples of each operation in the slow test."""


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    made = make_kit(tmp_path_factory.mktemp("api") / "service")
    made.account("all", *((role, EVERY) for role in Role))
    made.account("none", (Role.SIGNER, "valve"))
    yield made
    made.data.database.close()


@pytest.fixture(scope="module")
def url(kit: Kit) -> Iterator[str]:
    with kit.running() as found:
        with kit.client(found, "ci") as ci, kit.client(found, "ada") as ada:
            assert submit(ci, image("1.0.0")).status_code == 201
            assert sign(ada, "release-1").status_code == 200
        yield found


def refused(context: schemathesis.CheckContext, response: schemathesis.Response, case: Any) -> bool | None:
    """What is wrong is refused; what is too much was not even looked at."""
    return None if response.status_code == 413 else negative_data_rejection(context, response, case)


def attempt(url: str, token: str, examples: int, mode: schemathesis.GenerationMode) -> int:
    """Try each operation with so many examples; returns how many requests that made."""
    schema = schemathesis.openapi.from_url(f"{url}/v1/openapi.json")
    headers = {"Authorization": f"Bearer {token}"}
    wrong = mode is schemathesis.GenerationMode.NEGATIVE
    count = 0
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()

        @settings(
            max_examples=examples,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def run(case: Any) -> None:
            nonlocal count
            count += 1
            case.call_and_validate(headers=headers, checks=[*CHECKS, *([refused] if wrong else [])])

        try:
            run()
        except Unsatisfiable:
            assert wrong  # an operation to which nothing wrong can be sent
        except Exception as error:
            raise AssertionError(f"{operation.label}: {error}") from error
    return count


MODES = list(schemathesis.GenerationMode)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize("name", ["all", "none"])
def test_every_answer_is_one_that_was_announced(
    kit: Kit, url: str, name: str, mode: schemathesis.GenerationMode
) -> None:
    assert attempt(url, kit.tokens[name], 5, mode) > 100
    assert not kit.failures


@pytest.mark.deep
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_every_answer_is_one_that_was_announced_with_many_examples(
    kit: Kit, url: str, mode: schemathesis.GenerationMode
) -> None:
    attempt(url, kit.tokens["all"], MANY, mode)
    assert not kit.failures


def test_nothing_but_its_health_and_what_it_can_do_is_told_to_nobody(url: str) -> None:
    paths = httpx.get(f"{url}/v1/openapi.json").json()["paths"]
    values = {
        "role": "pump",
        "line": "pump",
        "version": "1.0.0",
        "path": "x",
        "digest": "0" * 64,
        "identifier": "0" * 32,
    }
    with httpx.Client(base_url=url) as nobody:
        for path, operations in paths.items():
            for method in operations:
                place = path
                for name, value in values.items():
                    place = place.replace("{" + name + "}", value)
                answer = nobody.request(method.upper(), place, headers={"Upload-Offset": "0"})
                assert answer.status_code == 401 or place in ("/healthz", "/readyz", "/metrics"), (method, place)
