"""A repository over HTTP: it resumes, it ends whatever a server does, and memory does not grow with what comes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from hashlib import sha256

import pytest

from bench import CLOCK, Bench, Rig, installed
from hillhold_verifier.courier import Courier
from hillhold_verifier.errors import MetadataError, OperationalError
from hillhold_verifier.local import LocalUpdate
from hillhold_verifier.metadata import MAX_BYTES
from hillhold_verifier.sources import Source
from hillhold_verifier.sources_http import HttpSource, Patience
from offers import image, offer, offer_patch, started
from web import BLOCK, Fault, Pattern, Web, cut, ranges, raw, serve, silent, status

TIMESTAMP = "timestamp.json"
HASTY = Patience(stall=0.2, tries=3, pause=0.01, rate=1000, grace=0.4)
DIGEST = bytes(32)
NAME = f"targets/pump/1.0.0/{DIGEST.hex()}.app.bin"
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Pauses(list[float]):
    """A `sleep` that only writes down."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def source_of(web: Web, patience: Patience | None = None, pauses: Pauses | None = None) -> HttpSource:
    return HttpSource(web.url, patience=patience or Patience(), sleep=Pauses() if pauses is None else pauses)


def take(source: Source, length: int, *, start: int = 0, piece: int = 1000) -> bytes:
    """Read a target as an update does, up to its length."""
    data = bytearray()
    with source.target("pump/1.0.0/app.bin", DIGEST) as content:
        while len(data) < length - start:
            got = content.read(start + len(data), min(piece, length - start - len(data)))
            if not got:
                break
            data += got
    return bytes(data)


# --- the whole way ----------------------------------------------------------------------------------------------------


def test_a_push_of_an_image_and_of_a_patch() -> None:
    repo = started()
    bench = Bench(repo)
    with Web(repo.tree) as web:
        pushed = bench.run(Courier(source_of(web)).push())
        assert (pushed.installed, pushed.how, pushed.runs) == ("pump/1.0.0/app.bin", "image", True)
        offer_patch(repo, "1.1.0", image("1.0.0"), offer(repo, "1.1.0", 2))
        web.tree = repo.publish()
        assert bench.run(Courier(source_of(web)).push()).how == "patch"
    assert bench.facts_after_reset().running == "1.1.0"


def test_a_push_over_a_server_that_breaks_off_all_the_time() -> None:
    bench = installed()
    offer(bench.repo, "1.1.0", 2)
    with Web(bench.repo.publish()) as web:
        web.faults = [status(503), cut(0), cut(300), serve, serve] * 20
        pushed = bench.run(Courier(source_of(web)).push())
    assert pushed.runs
    assert bench.facts_after_reset().running == "1.1.0"


def test_an_update_on_the_device_itself_goes_on_where_it_stopped() -> None:
    repo = started()
    data = image("1.0.0")
    rig = Rig(repo)
    with Web(repo.tree) as web:
        rig.take()
        rig.send(data, until=3000)
        rig.power_cycle()
        updated = LocalUpdate(rig.installer, source_of(web), CLOCK).update()
        (last,) = [one for one in web.seen if "/targets/" in one.path]
        assert 2000 < ranges([last])[0] <= 3000
    assert [release.path for release in updated.plan] == ["pump/1.0.0/app.bin"]
    assert rig.reset().trial
    assert rig.facts().running == "1.0.0"


# --- resume -----------------------------------------------------------------------------------------------------------


def test_a_broken_transfer_goes_on_at_the_same_byte() -> None:
    content = Pattern(300_000)
    with Web({NAME: content}) as web:
        web.etag = '"v1"'
        web.faults = [cut(70_000), cut(0), status(502), cut(100_001)]
        data = take(source_of(web), len(content))
        assert web.sent == len(content)
    assert data == b"".join(content.part(at, at + 1000) for at in range(0, len(content), 1000))
    assert ranges(web.seen) == [0, 70_000, 70_000, 70_000, 170_001]
    assert [one.headers.get("If-Range") for one in web.seen] == [None, *['"v1"'] * 4]


def test_a_transfer_that_goes_on_knows_the_tag_as_well() -> None:
    with Web({NAME: Pattern(3000)}) as web:
        web.etag = '"v1"'
        web.faults = [cut(500)]
        assert len(take(source_of(web), 3000, start=1000)) == 2000
        assert [one.headers.get("If-Range") for one in web.seen] == [None, '"v1"']


def test_a_weak_tag_says_nothing_about_bytes() -> None:
    with Web({NAME: Pattern(2000)}) as web:
        web.etag = 'W/"v1"'
        web.faults = [cut(1000)]
        assert len(take(source_of(web), 2000)) == 2000
        assert [one.headers.get("If-Range") for one in web.seen] == [None, None]


def test_another_offset_is_another_request_from_there() -> None:
    content = Pattern(10_000)
    with Web({NAME: content}) as web, source_of(web).target("pump/1.0.0/app.bin", DIGEST) as target:
        assert not web.seen
        assert target.read(9_000, 10) == content.part(9_000, 9_010)
        assert target.read(9_010, 10) == content.part(9_010, 9_020)
        assert target.read(5, 10) == content.part(5, 15)
        assert ranges(web.seen) == [9_000, 5]


@pytest.mark.parametrize("changed", [False, True])
def test_a_server_without_ranges_or_with_another_file_is_read_up_to_the_byte(changed: bool) -> None:
    content = Pattern(200_000)
    with Web({NAME: content}) as web:
        web.ranges, web.etag = changed, '"v1"'
        web.faults = [cut(150_000)]
        source = source_of(web)
        with source.target("pump/1.0.0/app.bin", DIGEST) as target:
            first = target.read(0, 1000)
            web.etag = '"v2"' if changed else '"v1"'
            at = len(first)
            while data := target.read(at, 1000):
                assert data == content.part(at, at + len(data))
                at += len(data)
        assert at == len(content)
        assert [one.range for one in web.seen] == [None, "bytes=150000-"]


def test_no_more_is_asked_for_than_what_is_wanted() -> None:
    """The client closes; a server has sent at most what lies in buffers on the way."""
    with Web({NAME: Pattern(2**31)}) as web:
        assert len(take(source_of(web), 100_000)) == 100_000
    assert web.sent < 32 * 2**20


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (status(416), "status 416: no byte 1000"),
        (status(206, b"x" * 1000, Content_Range="bytes 0-999/2000"), "expected bytes from 1000 on, got another range"),
        (status(206, b"x" * 1000), "got another range"),
        (status(404), "status 404"),
    ],
)
def test_a_range_that_does_not_fit_is_refused(fault: Fault, says: str) -> None:
    with Web({NAME: Pattern(2000)}) as web:
        web.faults = [fault]
        with pytest.raises(OperationalError, match=f"{web.url}{NAME}: .*{says}"):
            take(source_of(web), 2000, start=1000)


def test_a_target_that_is_missing_stays_missing_when_it_is_read_again() -> None:
    with Web({}) as web, source_of(web).target("pump/1.0.0/app.bin", DIGEST) as target:
        for _ in range(2):
            with pytest.raises(OperationalError, match="status 404"):
                target.read(0, 10)


def test_memory_does_not_grow_with_a_target() -> None:
    content = Pattern(64 * 2**20)
    with Web({NAME: content}) as web:
        web.faults = [cut(20 * 2**20), cut(30 * 2**20)]
        found = sha256()
        with source_of(web).target("pump/1.0.0/app.bin", DIGEST) as target:
            target.read(0, 1)
            at = 0
            tracemalloc.start()
            try:
                while data := target.read(at, BLOCK):
                    found.update(data)
                    at += len(data)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
    assert at == len(content)
    assert found.digest() == sha256(content.part(0, BLOCK) * (len(content) // BLOCK)).digest()
    assert peak < 2**20, "the server's own buffers are in this"


# --- metadata, statuses, retries --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [403, 404])
def test_a_file_that_is_not_there(number: int) -> None:
    with Web({}) as web:
        web.faults = [status(number)]
        assert source_of(web).metadata("2.root.json") is None
        assert web.asked == ["metadata/2.root.json"]


@pytest.mark.parametrize("number", [204, 206, 304, 400, 401, 407, 410, 501])
def test_any_other_status_is_an_error_that_names_it(number: int) -> None:
    with Web({}) as web:
        web.faults = [status(number)]
        with pytest.raises(OperationalError, match=rf"^{web.url}metadata/timestamp\.json: status {number}$"):
            source_of(web).metadata(TIMESTAMP)


@pytest.mark.parametrize("number", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again_and_not_for_ever(number: int) -> None:
    pauses = Pauses()
    with Web({f"metadata/{TIMESTAMP}": b"t"}) as web:
        web.faults = [status(number)] * 4
        assert source_of(web, pauses=pauses).metadata(TIMESTAMP) == b"t"
        assert pauses == [0.5, 1, 2, 4]
        web.faults = [status(number)] * 5
        with pytest.raises(OperationalError, match=f"status {number}, tried 5 times"):
            source_of(web).metadata(TIMESTAMP)
        assert len(web.seen) == 10


def test_a_server_says_how_long_to_leave_it_alone() -> None:
    pauses = Pauses()
    with Web({f"metadata/{TIMESTAMP}": b"t"}) as web:
        web.faults = [status(429, Retry_After=7), status(503, Retry_After="Wed, 21 Oct 2026 07:28:00 GMT")]
        assert source_of(web, pauses=pauses).metadata(TIMESTAMP) == b"t"
        assert pauses == [7, 1]
        web.faults = [status(503, Retry_After=61)]
        with pytest.raises(OperationalError, match="asks to come back in 61 s"):
            source_of(web).metadata(TIMESTAMP)
        web.faults = [status(503, Retry_After=50)] * 5
        with pytest.raises(OperationalError, match="too slow"):
            source_of(web).metadata(TIMESTAMP)


def test_a_server_that_never_was_there_is_not_waited_for_but_one_that_went_is() -> None:
    pauses = Pauses()
    with Web({f"metadata/{TIMESTAMP}": b"t"}) as web:
        gone = source_of(web, pauses=pauses)
        assert gone.metadata(TIMESTAMP) == b"t"
    with pytest.raises(OperationalError, match=r"timestamp\.json: Connection refused, tried 5 times$"):
        gone.metadata(TIMESTAMP)
    assert pauses == [0.5, 1, 2, 4]
    with pytest.raises(OperationalError, match=r"timestamp\.json: Connection refused$"):
        source_of(web, pauses=pauses).metadata(TIMESTAMP)
    assert len(pauses) == 4


def test_metadata_that_breaks_off_begins_again() -> None:
    with Web({f"metadata/{TIMESTAMP}": b"0123456789"}) as web:
        web.faults = [cut(3), cut(9), cut(5)]
        assert source_of(web).metadata(TIMESTAMP) == b"0123456789"
        assert ranges(web.seen) == [0, 0, 0, 0]
        web.faults = [cut(9)] * 6
        with pytest.raises(OperationalError, match="broken off with 1 bytes to come, tried 5 times"):
            source_of(web).metadata(TIMESTAMP)


@pytest.mark.parametrize("name", ["../x.json", "a/b.json", ".json", "A.root.json", "http://x"])
def test_a_name_that_no_repository_has_is_not_asked_for(name: str) -> None:
    with Web({}) as web:
        with pytest.raises(MetadataError, match="metadata file name"):
            source_of(web).metadata(name)
        assert web.seen == []


def test_a_plus_is_escaped_since_some_servers_read_a_space() -> None:
    name = f"targets/pump/1.0.0+7/{DIGEST.hex()}.app.bin"
    with Web({name: b"x"}) as web, source_of(web).target("pump/1.0.0+7/app.bin", DIGEST) as target:
        assert target.read(0, 1) == b"x"
        assert "/1.0.0%2B7/" in web.seen[0].path


# --- servers that are not good ----------------------------------------------------------------------------------------


def head(**fields: object) -> bytes:
    return OK + b"".join(f"{name.replace('_', '-')}: {value}\r\n".encode() for name, value in fields.items()) + b"\r\n"


GOOD = {
    "no length": raw(head(Connection="close"), b"content"),
    "chunked": raw(head(Transfer_Encoding="chunked"), b"3;x=y\r\ncon\r\n4\r\ntent\r\n0\r\nTrailer: 1\r\n\r\n"),
    "a length that is no number": raw(head(Content_Length="many"), b"content"),
    "a negative length": raw(head(Content_Length=-1), b"content"),
    "HTTP/1.0": raw(b"HTTP/1.0 200 OK\r\n\r\ncontent"),
    "interim answers": raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 3, head(Content_Length=7), b"content"),
}


@pytest.mark.parametrize("name", GOOD)
def test_every_way_to_say_where_content_ends(name: str) -> None:
    with Web({}) as web:
        web.faults = [GOOD[name], GOOD[name]]
        assert source_of(web).metadata(TIMESTAMP) == b"content"
        assert take(source_of(web), 8) == b"content"


ENDLESS: dict[str, tuple[Fault, str]] = {
    "silence": (silent, "no answer in time"),
    "a dripping status": (raw(b"H", times=10**6, pause=0.02), "not an answer in HTTP|no answer in time|too slow"),
    "dripping headers": (raw(OK, *[b"a"] * 10**5, pause=0.02), "no answer in time|too slow"),
    "endless interim answers": (
        raw(b"HTTP/1.1 100 Continue\r\n\r\n", times=10**6, pause=0.001),
        "no answer in time|too slow",
    ),
    "too many headers": (raw(OK, b"a: b\r\n" * 200), "HTTPException"),
    "an endless header": (raw(OK, b"a" * 10**5), "LineTooLong"),
    "a stall": (raw(head(Content_Length=10), b"abc", b"", times=1), "broken off|no answer in time|too slow"),
    "a dripping body": (raw(head(Content_Length=10**6), *[b"a"] * 10**4, pause=0.02), "too slow"),
    "a dripping chunk": (raw(head(Transfer_Encoding="chunked"), *[b"1\r\na\r\n"] * 10**4, pause=0.02), "too slow"),
    "a dripping trailer": (
        raw(head(Transfer_Encoding="chunked"), b"1\r\na\r\n0\r\n", *[b"a: b\r\n"] * 10**4, pause=0.01),
        "no answer in time|too slow",
    ),
    "an endless trailer": (
        raw(head(Transfer_Encoding="chunked"), b"0\r\n", *[b"a: b\r\n" * 100] * 10**6),
        "no answer|too slow",
    ),
    "half a chunk": (raw(head(Transfer_Encoding="chunked"), b"9\r\nabc"), "IncompleteRead"),
    "a chunk of no size": (raw(head(Transfer_Encoding="chunked"), b"zz\r\nabc"), "IncompleteRead"),
    "a length beyond the content": (raw(head(Content_Length=9), b"abc"), "broken off with 6 bytes to come"),
    "no HTTP": (raw(b"220 smtp ready\r\n"), "BadStatusLine"),
    "nothing": (raw(), "closed without an answer"),
}


@pytest.mark.slow
@pytest.mark.parametrize("read", ["metadata", "target"])
@pytest.mark.parametrize("name", ENDLESS)
def test_a_server_that_does_not_come_to_an_end(name: str, read: str) -> None:
    fault, says = ENDLESS[name]
    with Web({}) as web:
        web.faults = [fault] * 1000
        source = source_of(web, HASTY)
        doing: Callable[[], object] = (
            (lambda: source.metadata(TIMESTAMP)) if read == "metadata" else (lambda: take(source, 10**6))
        )
        with pytest.raises(OperationalError, match=says):
            doing()
        assert len(web.seen) < 20


def test_metadata_without_an_end_is_read_up_to_one_byte_too_many() -> None:
    with Web({}) as web:
        web.faults = [raw(head(Connection="close"), b"x" * BLOCK, times=10**6)]
        data = source_of(web).metadata(TIMESTAMP)
        assert data is not None
        assert len(data) == MAX_BYTES["timestamp"] + 1


def test_a_server_that_brings_a_byte_with_each_connection_is_too_slow() -> None:
    """Progress alone is not enough: each of these attempts brings something new."""
    pauses = Pauses()
    with Web({NAME: Pattern(10**6)}) as web:
        web.faults = [cut(1)] * 10**4
        with pytest.raises(OperationalError, match=r"too slow: [0-9]+ bytes so far"):
            take(source_of(web, pauses=pauses), 10**6)
    assert sum(pauses) <= 121


def test_what_came_quickly_does_not_pay_for_what_drips_later() -> None:
    with Web({NAME: Pattern(10**6)}) as web:

        def tires(handler: object) -> None:
            serve(handler, stop=500_000)  # type: ignore[arg-type]
            raw(*[b"a"] * 10**4, pause=0.02)(handler)  # type: ignore[arg-type]

        web.faults = [tires]
        with pytest.raises(OperationalError, match="too slow: 5"):
            take(source_of(web, HASTY), 10**6)


def test_whoever_takes_the_bytes_may_be_slow() -> None:
    """A serial line takes minutes, in which no server is to blame."""
    now = [0.0]
    with Web({NAME: Pattern(3000)}) as web:
        source = HttpSource(web.url, clock=lambda: now[0])
        with source.target("pump/1.0.0/app.bin", DIGEST) as target:
            for at in range(0, 3000, 100):
                assert len(target.read(at, 100)) == 100
                now[0] += 1000


def test_what_is_passed_over_counts_once() -> None:
    """A slow line to a server without ranges: good for one resume, and no way to hold a device for ever."""
    now = [0.0]

    def clock() -> float:
        now[0] += 1  # each look at the clock costs a second, so each read some of them
        return now[0]

    with Web({NAME: Pattern(40 * BLOCK)}) as web:
        web.ranges = False
        source = HttpSource(web.url, clock=clock, sleep=Pauses())
        assert len(take(source, 40 * BLOCK, start=39 * BLOCK, piece=BLOCK)) == BLOCK
        web.faults = [cut(39 * BLOCK + at) for at in range(1, 1000)]
        with pytest.raises(OperationalError, match="too slow"):
            take(source, 40 * BLOCK, start=39 * BLOCK, piece=BLOCK)
        assert len(web.seen) < 20


def test_content_in_a_coding_is_refused() -> None:
    with Web({}) as web:
        web.faults = [status(200, b"x", Content_Encoding="gzip")]
        with pytest.raises(OperationalError, match="expected the file as it is, got it in coding 'gzip'"):
            source_of(web).metadata(TIMESTAMP)
        assert web.seen[0].headers["Accept-Encoding"] == "identity"
