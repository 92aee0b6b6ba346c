"""Objects in a folder and in two object stores behave alike."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faultproxy import DROPPED, LOST, HttpProxy, at, status
from hillhold_signer.errors import ConfigRefused, FileRefused, StorageError
from hillhold_signer.service.objects import PIECE, Objects, RemoteObjects
from objectstore import S3, Bucket

NAMES = ["../x", "a/../b", "/a", "a//b", "", ".", "a/.b", "a\\b", "a\x00", "a/", "ä", "a b", "x" * 701, "a\n"]


def test_an_object_is_written_read_listed_copied_and_deleted(objects: Objects) -> None:
    assert objects.read("blobs/a", 10) is None
    assert objects.length("blobs/a") is None
    objects.put("blobs/a", b"abc")
    objects.put("blobs/a", b"abc")
    objects.put("blobs/empty", b"")
    objects.copy("blobs/a", "public/targets/pump/1.0.0/a.bin")
    objects.copy("blobs/a", "public/targets/pump/1.0.0/a.bin")
    found = objects.read("public/targets/pump/1.0.0/a.bin", 3)
    assert found is not None
    assert found.data == b"abc"
    assert objects.length("blobs/a") == 3
    assert b"".join(objects.get("blobs/a", 1)) == b"bc"
    assert b"".join(objects.get("blobs/empty")) == b""
    assert sorted(objects.list("blobs")) == ["blobs/a", "blobs/empty"]
    assert list(objects.list("nothing")) == []
    objects.delete("blobs/a")
    objects.delete("blobs/a")
    assert objects.length("blobs/a") is None
    assert objects.length("public/targets/pump/1.0.0/a.bin") == 3


@pytest.mark.parametrize("objects", ["folder", "moto"], indirect=True)  # rclone serves no ranges that obstore takes
def test_a_long_object_goes_in_and_out_in_pieces(objects: Objects) -> None:
    piece = bytes(range(256)) * 4096
    objects.put_stream("blobs/long", (piece for _ in range(21)))
    assert objects.length("blobs/long") == 21 * len(piece)
    assert b"".join(objects.get("blobs/long")) == piece * 21
    assert b"".join(objects.get("blobs/long", 20 * len(piece) - 3)) == piece[-3:] + piece


def test_what_breaks_off_writes_nothing(objects: Objects) -> None:
    def broken() -> Iterator[bytes]:
        yield bytes(20 * 1024 * 1024)
        raise FileRefused("upload", expected="its hash", got="another")

    objects.put("blobs/x", b"before")
    with pytest.raises(FileRefused, match="its hash"):
        objects.put_stream("blobs/x", broken())
    found = objects.read("blobs/x", 100)
    assert found is not None
    assert found.data == b"before"


def test_what_is_not_there_or_too_long_is_said(objects: Objects) -> None:
    with pytest.raises(StorageError):
        list(objects.get("blobs/none"))
    with pytest.raises(StorageError):
        objects.copy("blobs/none", "public/x")
    assert objects.length("public/x") is None
    objects.put("blobs/a", b"abc")
    with pytest.raises(FileRefused, match="at most 2 bytes"):
        objects.read("blobs/a", 2)


@pytest.mark.parametrize("name", NAMES)
def test_no_name_leads_elsewhere(objects: Objects, name: str) -> None:
    objects.put("a/b", b"")
    for call in (
        lambda: objects.put(name, b"x"),
        lambda: objects.put_stream(name, [b"x"]),
        lambda: objects.put_if(name, b"x", None),
        lambda: objects.read(name, 1),
        lambda: list(objects.get(name)),
        lambda: objects.length(name),
        lambda: objects.copy("a/b", name),
        lambda: objects.copy(name, "a/c"),
        lambda: objects.delete(name),
        lambda: list(objects.list(name)),
    ):
        with pytest.raises(FileRefused, match="name of an object"):
            call()


@pytest.mark.parametrize("objects", ["folder", "moto"], indirect=True)
def test_a_condition_keeps_what_came_meanwhile(objects: Objects) -> None:
    first = objects.put_if("t.json", b"1", None)
    assert first is not None
    assert objects.put_if("t.json", b"2", None) is None
    second = objects.put_if("t.json", b"2", first)
    assert second is not None
    assert objects.put_if("t.json", b"3", first) is None
    found = objects.read("t.json", 9)
    assert found is not None
    assert (found.data, found.tag) == (b"2", second)


def test_a_condition_that_held_gives_the_tag_of_what_was_written(objects: Objects) -> None:
    assert objects.put_if("t.json", b"1", None) is not None
    found = objects.read("t.json", 9)
    assert found is not None
    assert objects.put_if("t.json", b"2", found.tag) is not None
    again = objects.read("t.json", 9)
    assert again is not None
    assert again.data == b"2"


@pytest.mark.parametrize("fault", [status(500), status(503), DROPPED, LOST], ids=str)
def test_every_call_outlives_a_server_that_fails_once(s3: S3, bucket: Bucket, fault: object) -> None:
    with HttpProxy(s3.port) as way:
        store = RemoteObjects(bucket.url, bucket.through(way.port).options)
        for verb, call in (
            ("PUT", lambda: store.put("a/b", b"abc")),
            ("PUT", lambda: store.copy("a/b", "a/c")),
            ("HEAD", lambda: store.length("a/c")),
            ("GET", lambda: store.read("a/c", 9)),
            ("GET", lambda: b"".join(store.get("a/c"))),
            ("GET", lambda: list(store.list("a"))),
            ("PUT", lambda: store.put_if("t", b"1", None)),
            ("POST", lambda: store.put_stream("a/long", [bytes(9 * 1024 * 1024)])),
            ("POST", lambda: store.delete("a/b")),
        ):
            used: list[str] = []

            def script(method: str, path: str, wanted: str = verb, used: list[str] = used) -> object:
                if method == wanted and not used:
                    used.append(path)
                    return fault
                return at("", "")(method, path)

            way.script = script  # type: ignore[assignment]
            call()
            assert used
        assert sorted(store.list("a")) == ["a/c", "a/long"]
        found = store.read("t", 9)
        assert found is not None
        assert found.data == b"1"


def test_a_dead_store_is_said_without_secrets(bucket: Bucket) -> None:
    options = {**bucket.options, "endpoint": "http://127.0.0.1:9", "secret_access_key": "hush"}
    store = RemoteObjects(bucket.url, {**options, "client_options": {"allow_http": True}})
    with pytest.raises(StorageError, match="object store s3://") as caught:
        store.put("a", b"")
    assert "hush" not in f"{caught.value}{caught.value.hint}"


@pytest.mark.parametrize(
    "url", ["file:///tmp", "http://h/", "memory://x", "s3://key:secret@bucket", "s3://", "", "s3://b?x=y"]
)
def test_a_url_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(ConfigRefused) as caught:
        RemoteObjects(url)
    assert "secret" not in f"{caught.value}"


def test_what_is_streamed_into_a_store_may_come_out_of_it(objects: Objects) -> None:
    parts = {f"uploads/{number}": bytes([number]) * PIECE for number in range(3)}
    for key, data in parts.items():
        objects.put(key, data)
    objects.put_stream("blobs/whole", (chunk for key in parts for chunk in objects.get(key)))
    held = objects.read("blobs/whole", 4 * PIECE)
    assert held is not None
    assert held.data == b"".join(parts.values())


def test_a_stream_that_breaks_leaves_no_object_and_says_why(objects: Objects) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x" * (PIECE + 1)
        raise FileRefused("file", expected="other bytes", got="these")

    with pytest.raises(FileRefused, match="other bytes"):
        objects.put_stream("blobs/broken", broken())
    assert objects.length("blobs/broken") is None


def test_the_environment_alone_can_allow_an_endpoint_without_tls(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    found = s3.bucket()
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    store = RemoteObjects(found.url)
    store.put("a", b"1")
    assert store.length("a") == 1
