"""Uploads that break off, come twice, come late, or are not what they said."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from hillhold_signer.service import app
from hillhold_signer.service.uploads import give_up
from servicekit import Kit, make_kit, until

LENGTH = 9 * 1024 * 1024  # more than a piece
DATA = random.Random(5).randbytes(LENGTH)
DIGEST = sha256(DATA).hexdigest()


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    made = make_kit(tmp_path / "service")
    yield made
    made.data.database.close()


@pytest.fixture
def url(kit: Kit) -> Iterator[str]:
    with kit.running() as found:
        yield found


@pytest.fixture
def ci(kit: Kit, url: str) -> Iterator[httpx.Client]:
    with kit.client(url, "ci") as client:
        yield client


def begin(client: httpx.Client, digest: str = DIGEST, length: int = LENGTH) -> httpx.Response:
    return client.post("/v1/uploads", json={"sha256": digest, "length": length})


def offset(client: httpx.Client, place: str) -> int:
    answer = client.head(place)
    assert answer.status_code == 204, answer.status_code
    return int(answer.headers["Upload-Offset"])


def piece(client: httpx.Client, place: str, at: int, data: bytes) -> httpx.Response:
    return client.patch(place, content=data, headers={"Upload-Offset": str(at)})


def opened(client: httpx.Client, method: str, place: str, length: int, *headers: str) -> socket.socket:
    """A connection on which the head of a request was sent, and none of its body."""
    base = client.base_url
    connection = socket.create_connection((base.host, base.port or 80), 30)
    head = [
        f"{method} {urlsplit(place).path} HTTP/1.1",
        f"Host: {base.host}",
        f"Authorization: {client.headers['Authorization']}",
        f"Content-Length: {length}",
        *headers,
    ]
    connection.sendall("\r\n".join([*head, "", ""]).encode())
    return connection


def broken(client: httpx.Client, place: str, at: int, data: bytes, much: int) -> None:
    """Send the rest, and break off after so many bytes."""
    with opened(client, "PATCH", place, len(data), f"Upload-Offset: {at}") as connection:
        connection.sendall(data[:much])


def whole(client: httpx.Client) -> None:
    answer = client.get(f"/v1/blobs/{DIGEST}")
    assert answer.status_code == 200
    assert answer.content == DATA


@pytest.mark.parametrize("seed", range(3))
def test_an_upload_that_breaks_off_again_and_again_goes_on_to_the_right_bytes(ci: httpx.Client, seed: int) -> None:
    chance = random.Random(seed)
    place = begin(ci).headers["Location"]
    for _ in range(5):
        at = offset(ci, place)
        broken(ci, place, at, DATA[at:], chance.randrange(len(DATA) - at))
    reached = offset(ci, place)
    for _ in range(20):  # whose last piece is still on its way to the disk is told so
        reached = offset(ci, place)
        answer = piece(ci, place, reached, DATA[reached:])
        if answer.status_code == 200:
            break
        assert answer.status_code == 409, answer.text
        assert int(answer.headers["Upload-Offset"]) >= reached
    assert answer.json()["complete"] is True
    whole(ci)
    assert begin(ci).json()["complete"] is True


def test_what_has_arrived_when_the_connection_breaks_is_kept(ci: httpx.Client) -> None:
    place = begin(ci).headers["Location"]
    broken(ci, place, 0, DATA, 1_000_000)
    there = until(lambda: offset(ci, place))
    assert 1_000_000 - 128 * 1024 <= there <= 1_000_000  # what nobody had read yet went with the connection
    assert begin(ci).json()["offset"] == there  # who has forgotten where, is told
    assert piece(ci, place, there, DATA[there:]).json()["complete"] is True
    whole(ci)


def test_a_connection_that_breaks_late_spoils_nothing(kit: Kit, ci: httpx.Client) -> None:
    place = begin(ci).headers["Location"]
    ghost = opened(ci, "PATCH", place, LENGTH, "Upload-Offset: 0")
    ghost.sendall(b"\0" * 1_000_000)  # other bytes, even
    time.sleep(0.2)
    assert piece(ci, place, 0, DATA[:5_000_000]).status_code == 200
    ghost.close()
    until(lambda: [key for key in kit.data.objects.list("uploads") if key.endswith("-1000000")], "for the late piece")
    assert piece(ci, place, 5_000_000, DATA[5_000_000:]).json()["complete"] is True
    whole(ci)
    assert not list(kit.data.objects.list("uploads"))


def test_a_piece_that_comes_after_the_end_is_cleaned_up(kit: Kit, ci: httpx.Client) -> None:
    place = begin(ci).headers["Location"]
    ghost = opened(ci, "PATCH", place, LENGTH, "Upload-Offset: 0")
    ghost.sendall(DATA[:1_000_000])
    time.sleep(0.2)
    assert piece(ci, place, 0, DATA).json()["complete"] is True
    other = begin(ci, "0" * 64, 10).headers["Location"]
    assert piece(ci, other, 0, b"12345").status_code == 200
    ghost.close()
    until(lambda: len(list(kit.data.objects.list("uploads"))) == 2, "for the late piece")
    assert give_up(kit.data.database, kit.data.objects, 0) == 0
    assert [key.rpartition("/")[2] for key in kit.data.objects.list("uploads")] == ["0-5"]
    whole(ci)


def test_two_at_once_on_one_upload_end_with_the_right_bytes(ci: httpx.Client) -> None:
    place = begin(ci).headers["Location"]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: piece(ci, place, 0, DATA).status_code, range(4)))
    assert set(answers) <= {200, 404, 409, 503}
    while not begin(ci).json()["complete"]:
        at = offset(ci, place)
        piece(ci, place, at, DATA[at:])
    whole(ci)


def test_a_wrong_offset_is_told_the_right_one(ci: httpx.Client) -> None:
    place = begin(ci).headers["Location"]
    assert piece(ci, place, 0, DATA[:100]).json()["offset"] == 100
    for wrong in (0, 99, 101, LENGTH, 2**53 - 1):
        answer = piece(ci, place, wrong, DATA[100:])
        assert (answer.status_code, answer.headers.get("Upload-Offset")) == (409, "100")
        assert answer.headers["content-type"] == "application/problem+json"
    for junk in ("-1", "1.5", "x", str(2**53), ""):
        assert piece(ci, place, junk, b"1").status_code == 422  # type: ignore[arg-type]
    assert offset(ci, place) == 100


def test_more_than_was_declared_is_refused_and_nothing_of_it_kept(ci: httpx.Client) -> None:
    place = begin(ci).headers["Location"]
    piece(ci, place, 0, DATA[:-10])
    assert piece(ci, place, LENGTH - 10, DATA[-10:] + b"1").status_code == 413
    assert offset(ci, place) == LENGTH - 10
    assert piece(ci, place, LENGTH - 10, DATA[-10:]).json()["complete"] is True


def test_other_bytes_than_the_hash_says_are_refused_and_begin_anew(kit: Kit, ci: httpx.Client) -> None:
    place = begin(ci).headers["Location"]
    answer = piece(ci, place, 0, DATA[:-1] + bytes([DATA[-1] ^ 1]))
    assert (answer.status_code, answer.json()["title"]) == (422, "refused")
    assert ci.head(place).status_code == 404
    assert ci.get(f"/v1/blobs/{DIGEST}").status_code == 404
    assert not list(kit.data.objects.list("uploads"))
    assert begin(ci).json()["offset"] == 0
    short = ci.put(f"/v1/blobs/{DIGEST}", content=b"other bytes")
    long = ci.put(f"/v1/blobs/{DIGEST}", content=DATA + b"1")
    assert (short.status_code, long.status_code) == (422, 422)
    assert not kit.data.objects.length(f"blobs/{DIGEST}")


def test_a_stream_that_breaks_off_leaves_nothing(kit: Kit, ci: httpx.Client) -> None:
    for much in (0, 1, 100_000, LENGTH - 1):
        with opened(ci, "PUT", f"/v1/blobs/{DIGEST}", LENGTH) as connection:
            connection.sendall(DATA[:much])
    time.sleep(0.3)
    assert ci.head(f"/v1/blobs/{DIGEST}").status_code == 404
    assert ci.put(f"/v1/blobs/{DIGEST}", content=DATA).status_code == 201
    assert ci.put(f"/v1/blobs/{DIGEST}", content=DATA).status_code == 200
    whole(ci)
    names = [path.name for path in (kit.settings.folder / "blobs").iterdir()]
    assert [name for name in names if name.startswith(".")] == []


def test_an_upload_is_its_beginners_alone(kit: Kit, url: str, ci: httpx.Client) -> None:
    place = begin(ci).headers["Location"]
    with kit.client(url, "grace") as grace, kit.client(url, "ada") as ada:
        assert grace.head(place).status_code == 404
        assert piece(grace, place, 0, DATA[:10]).status_code == 404
        assert piece(ada, place, 0, DATA[:10]).status_code == 403
    assert offset(ci, place) == 0


def test_lengths_are_bounded(ci: httpx.Client) -> None:
    assert begin(ci, length=2**30 + 1).status_code == 413
    for length in (0, -1, 2**53, 1.5, "1", True, None):
        answer = ci.post("/v1/uploads", json={"sha256": DIGEST, "length": length})
        assert answer.status_code == 422, length
    assert begin(ci).status_code == 201
    assert begin(ci, length=LENGTH - 1).status_code == 422


def test_slow_bodies_hold_up_nobody_and_come_to_an_end(
    kit: Kit, url: str, ci: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "STALL", 1.5)
    place = begin(ci).headers["Location"]
    held = [opened(ci, "PATCH", place, LENGTH, "Upload-Offset: 0") for _ in range(2 * app.THREADS)]
    held += [opened(ci, "PUT", f"/v1/blobs/{DIGEST}", LENGTH) for _ in range(2 * app.THREADS)]
    held += [opened(ci, "POST", "/v1/signatures", 100, "Content-Type: application/json") for _ in range(8)]
    for connection in held:
        connection.sendall(b"{")
    begun = time.monotonic()
    with kit.client(url, "ada") as ada:
        for _ in range(10):
            assert ada.get("/v1/status").status_code == 200
    assert time.monotonic() - begun < 10

    def ended(connection: socket.socket) -> bytes:
        connection.settimeout(60)
        found = connection.recv(100)
        connection.close()
        return found

    with ThreadPoolExecutor(len(held)) as pool:
        answers = list(pool.map(ended, held))
    assert {answer.split(b" ")[1] for answer in answers if answer} <= {b"400", b"409", b"422"}
    assert piece(ci, place, offset(ci, place), b"").status_code == 200
    assert threading.active_count() < 200
