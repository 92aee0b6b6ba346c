"""Signatures that are handed in by hand, good ones and others."""

from __future__ import annotations

import json
from typing import Any

import httpx

from hillhold_signer import example_signer
from hillhold_signer.requests import open_request, sign_request
from servicekit import states


def made(client: httpx.Client, key: str = "release-1", role: str = "pump") -> dict[str, Any]:
    """A good signature on what is drafted now, not handed in."""
    answer = client.get(f"/v1/requests/{role}")
    assert answer.status_code == 200
    value: dict[str, Any] = json.loads(sign_request(open_request(answer.content), example_signer(key)).data())
    return value


def hand_in(client: httpx.Client, *values: object) -> httpx.Response:
    texts = [json.dumps(value, sort_keys=True, separators=(",", ":")) for value in values]
    return client.post("/v1/signatures", json={"signatures": texts})


def unsigned(client: httpx.Client) -> None:
    """The draft is there, with no signature, and nothing was published."""
    assert client.get("/v1/status").json()["roles"]["pump"]["signatures"] == "0 of 2"
    assert states(client)["1.0.0"] == "drafted"
