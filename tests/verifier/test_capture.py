"""A capture keeps what goes over a line, loses little in a crash, replaces nothing, and never stops an update."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from bench import installed
from hillhold_verifier.capture import MAX_LINE, Capture, CaptureError, Chunk, Head, read_chunks, read_head
from hillhold_verifier.courier import read_status
from hillhold_verifier.errors import MisuseError, OperationalError
from hillhold_verifier.link import Link, Stream
from hillhold_verifier.smp import HILLHOLD_GROUP
from lossy import Direct


class Echo:
    """Says what it was told, once; fails where it was told to."""

    def __init__(self) -> None:
        self.said, self.fails, self.closed = b"", False, False

    def write(self, data: bytes, /) -> object:
        self._maybe_fail()
        self.said = data
        return len(data)

    def read(self, timeout: float, /) -> bytes:
        self._maybe_fail()
        said, self.said = self.said, b""
        return said

    def reopen(self) -> None:
        self.fails = False

    def close(self) -> None:
        self.closed = True

    def _maybe_fail(self) -> None:
        if self.fails:
            raise OperationalError("x: Input/output error")


def captured(stream: Stream, path: Path, warned: list[str] | None = None) -> Capture:
    ticks: Iterator[int] = count()
    return Capture(
        stream,
        path,
        port="/dev/ttyACM0",
        baud=115200,
        start=1_700_000_000,
        clock=lambda: 100 + next(ticks) / 4,
        failed=(warned if warned is not None else []).append,
    )


def chunks(path: Path) -> list[Chunk]:
    with path.open("rb") as file:
        read_head(file)
        return list(read_chunks(file))


def test_what_was_written_and_read_is_kept_with_its_time(tmp_path: Path) -> None:
    inner = Echo()
    capture = captured(inner, tmp_path / "x.cap")
    assert capture.write(b"\x06\x09") == 2
    assert capture.read(1) == b"\x06\x09"
    assert capture.read(1) == b""
    # Before it is closed: a crash loses nothing.
    assert (tmp_path / "x.cap").read_text().splitlines() == [
        '{"hillhold-capture":1,"port":"/dev/ttyACM0","baud":115200,"start":1700000000}',
        '{"t":0.25,"d":">","b":"0609"}',
        '{"t":0.5,"d":"<","b":"0609"}',
    ]
    capture.close()
    assert inner.closed
    with (tmp_path / "x.cap").open("rb") as file:
        assert read_head(file) == Head("/dev/ttyACM0", 115200, 1_700_000_000)
        assert list(read_chunks(file)) == [Chunk(0.25, True, b"\x06\x09"), Chunk(0.5, False, b"\x06\x09")]


def test_a_port_that_fails_is_in_the_capture_too_and_so_is_what_follows_when_it_is_back(tmp_path: Path) -> None:
    inner = Echo()
    capture = captured(inner, tmp_path / "x.cap")
    inner.fails = True
    with pytest.raises(OperationalError):
        capture.write(b"abc")
    with pytest.raises(OperationalError):
        capture.read(1)
    capture.reopen()
    capture.write(b"back again")
    capture.close()
    assert [chunk.failure or chunk.data for chunk in chunks(tmp_path / "x.cap")] == [
        b"abc",
        "x: Input/output error",
        "x: Input/output error",
        b"back again",
    ]


def test_a_file_that_exists_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "x.cap").write_text("of yesterday")
    inner = Echo()
    with pytest.raises(MisuseError, match="it exists") as refused:
        captured(inner, tmp_path / "x.cap")
    assert refused.value.hint
    assert (tmp_path / "x.cap").read_text() == "of yesterday"
    assert not inner.closed


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OperationalError, match="No such file"):
        captured(Echo(), tmp_path / "none" / "x.cap")


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_full_disk_ends_the_capture_and_not_the_update(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the write that reaches it is cut short, the next one fails."""
    import resource
    import signal

    bench, warned = installed(), list[str]()
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))
        link = Link(captured(Direct(bench), tmp_path / "x.cap", warned))
        identity, _ = link.run(read_status(HILLHOLD_GROUP))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert identity["product"] == "pump"
    assert len(warned) == 1
    assert "it ends here, the rest goes on" in warned[0]
    assert (tmp_path / "x.cap").stat().st_size == 300
    with pytest.raises(CaptureError, match="the file was cut short"):
        chunks(tmp_path / "x.cap")


# --- reading ----------------------------------------------------------------------------------------------------------

HEAD = b'{"hillhold-capture":1,"port":"p","baud":9600,"start":5}\n'
GOOD = b'{"t":1,"d":">","b":"00"}\n'


def test_lines_before_a_bad_one_are_good() -> None:
    file = io.BytesIO(HEAD + GOOD * 3 + b'{"t":2,"d":')
    read_head(file)
    found = read_chunks(file)
    assert [next(found).time for _ in range(3)] == [1, 1, 1]
    with pytest.raises(CaptureError, match="capture line 5: expected one JSON object, got the beginning of one"):
        next(found)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"\x7fELF\x00\xff",
        b"[1]\n",
        b"{}\n",
        b'{"hillhold-capture":2,"port":"p","baud":1,"start":5}\n',
        b'{"hillhold-capture":true,"port":"p","baud":1,"start":5}\n',
        b'{"hillhold-capture":1,"port":3,"baud":1,"start":5}\n',
        b'{"hillhold-capture":1,"port":"p","baud":-1,"start":5}\n',
        b'{"hillhold-capture":1,"port":"p","baud":1,"start":true}\n',
        b"[" * 100_000,
        b"x" * (MAX_LINE + 1),
    ],
    ids=range(12),
)
def test_a_file_that_is_no_capture_is_refused(line: bytes) -> None:
    with pytest.raises(CaptureError):
        read_head(io.BytesIO(line))


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b'{"t":0.5,"d":">","b":"00"}\n',  # before the line above it
        b'{"t":-1,"d":">","b":"00"}\n',
        b'{"t":NaN,"d":">","b":"00"}\n',
        b'{"t":Infinity,"d":">","b":"00"}\n',
        b'{"t":1e300,"d":">","b":"00"}\n',
        b'{"t":1' + b"0" * 400 + b',"d":">","b":"00"}\n',
        b'{"t":true,"d":">","b":"00"}\n',
        b'{"t":2,"d":"=","b":"00"}\n',
        b'{"t":2,"d":[],"b":"00"}\n',
        b'{"t":2,"d":">","b":"0"}\n',
        b'{"t":2,"d":">","b":"zz"}\n',
        b'{"t":2,"d":">","b":7}\n',
        b'{"t":2,"e":7}\n',
        json.dumps({"t": 2, "d": ">", "b": "00" * MAX_LINE}).encode(),
    ],
    ids=range(15),
)
def test_a_line_that_is_none_of_a_capture_is_refused(line: bytes) -> None:
    file = io.BytesIO(HEAD + GOOD + line)
    read_head(file)
    found = read_chunks(file)
    assert next(found) == Chunk(1, True, b"\0")
    with pytest.raises(CaptureError, match="capture"):
        next(found)
