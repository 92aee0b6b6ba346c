"""Real boards and device adapters: what they can do, what goes wrong with them, and that a fault of the bench is never one of the board."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hillhold_bootsim.flash import Flash
from hillhold_bootsim.lab.adapter import AdapterError, AdapterSpec
from hillhold_bootsim.lab.bench import Bench
from hillhold_bootsim.lab.catalogue import BY_ID
from hillhold_bootsim.lab.house import House
from hillhold_bootsim.lab.judge import VERSION, WORDS, examine
from hillhold_bootsim.lab.model import Result, Verdict
from hillhold_bootsim.lab.runner import run
from hillhold_bootsim.lab.serialport import SerialSpec
from hillhold_bootsim.lab.target import GoneError, Time
from hillhold_bootsim.lab.virtual import SMALL, VirtualSpec, VirtualTarget, right_board
from hillhold_bootsim.station import Station, provision_board
from hillhold_bootsim.uart import TcpLine
from hillhold_verifier.link import Stream, StreamError
from labboards import SEED

EXAMPLE = Path(__file__).parents[2] / "bootloader-sim/examples/adapter.py"
WORLD = Time(lambda: int(time.time()), time.monotonic, time.sleep)


@contextmanager
def on_a_port(seed: int = SEED) -> Iterator[tuple[str, Station]]:
    """A board of the lab on TCP, in real time."""
    spec = VirtualSpec()
    house, flash = House(seed, spec.device, int(time.time())), Flash(SMALL.geometry)
    provision_board(flash, SMALL, spec.device, house.first_root)
    board = right_board(spec, flash, house)
    board.power_on()
    line = TcpLine()
    with Station(board, line, lambda: int(time.time())) as station:
        yield line.name, station


# --- a port -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_board_on_a_port_is_tested_by_its_own_words_and_the_result_says_so() -> None:
    with on_a_port() as (port, _):
        cases = [BY_ID[name] for name in ("rollback-timestamp", "mark-after-expiry", "fast-forward-line")]
        (tested,) = run(cases, [SerialSpec(port, WORLD)], SEED)
    verdicts = [(result.verdict, result.independent) for result in tested.results]
    assert verdicts == [(Verdict.PASS, False), (Verdict.NOT_TESTED, False), (Verdict.PASS, False)]
    assert tested.results[0].reason.endswith(WORDS)
    assert tested.results[1].reason == "the board's clock cannot be set"
    assert (tested.item.kind, tested.item.hardware, tested.item.identity) == ("serial", "lab-board", "small-1")


@pytest.mark.slow
def test_another_campaign_goes_on_where_one_left_a_board() -> None:
    with on_a_port() as (port, _):
        for _ in range(2):  # each with a maker that knows nothing but the seed
            (tested,) = run([BY_ID["fast-forward-timestamp"]], [SerialSpec(port, WORLD)], SEED)
            assert tested.results[0].verdict is Verdict.PASS


def test_a_board_that_trusts_another_root_is_not_judged() -> None:
    with on_a_port(seed=SEED + 1) as (port, _):
        (tested,) = run([BY_ID["rollback-timestamp"]], [SerialSpec(port, WORLD)], SEED)
    result = tested.results[0]
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.reason == "the board could not be brought to run an honest release first"
    assert any("signatures" in one.text for one in result.evidence)


def test_a_port_that_is_not_there_tests_nothing_and_says_why() -> None:
    (tested,) = run([BY_ID["rollback-timestamp"]], [SerialSpec("/dev/no-such-port", WORLD)], SEED)
    assert tested.results[0].verdict is Verdict.NOT_TESTED
    assert "no-such-port" in tested.results[0].reason


# --- a target that vanishes -------------------------------------------------------------------------------------------


class Vanishing(VirtualTarget):
    """A board whose port is gone after some bytes."""

    left = 3000

    def open(self) -> Stream:
        return Breaking(super().open(), self)


class Breaking:
    """Fails once so many bytes were written, and whenever it is opened again."""

    def __init__(self, stream: Stream, target: Vanishing) -> None:
        self._stream, self._target = stream, target

    def write(self, data: bytes, /) -> object:
        self._target.left -= len(data)
        self._check()
        return self._stream.write(data)

    def read(self, timeout: float, /) -> bytes:
        self._check()
        return self._stream.read(timeout)

    def reopen(self) -> None:
        self._check()

    def close(self) -> None:
        self._stream.close()

    def _check(self) -> None:
        if self._target.left < 0:
            raise StreamError("the port is gone")


@pytest.mark.parametrize("left", [0, 500, 3000, 6000, 9000])
def test_a_target_that_vanishes_is_inconclusive_and_never_a_verdict(left: int) -> None:
    spec = VirtualSpec()
    target = Vanishing(spec, House(SEED, spec.device, 1_767_225_600))
    target.left = left
    result = examine(BY_ID["rollback-line"], Bench(target, SEED))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "lost" in result.reason


def test_a_campaign_that_dies_anywhere_in_an_update_leaves_a_board_that_the_next_one_settles() -> None:
    """Also where it dies while the board tests itself: nothing may be sent to it until its trial has ended."""

    class Died(Exception):
        pass

    ways, done = 0, False
    while not done:
        bench = Bench(VirtualSpec().make(SEED), SEED)
        bench.settle()
        release, reads, read = bench.go_on().release(), iter(range(ways)), bench.wire.read

        def dying(timeout: float, reads: Iterator[int] = reads, read: Callable[[float], bytes] = read) -> bytes:
            if next(reads, None) is None:
                raise Died
            return read(timeout)

        bench.wire.read = dying  # type: ignore[method-assign]
        try:
            bench.send(release)
            done = True
        except Died:
            ways += 1
        another = Bench(bench.target, SEED)
        another.settle()
        assert another.evidence == [], f"after {ways} reads"
        assert another.runs(another.current)
    assert ways > 10


def test_a_port_that_opens_again_and_again_and_never_works_is_gone() -> None:
    class Flapping(Breaking):
        def reopen(self) -> None:
            pass

    class Target(Vanishing):
        left = 500

        def open(self) -> Stream:
            return Flapping(VirtualTarget.open(self), self)

    spec = VirtualSpec()
    result = examine(BY_ID["rollback-line"], Bench(Target(spec, House(SEED, spec.device, 1_767_225_600)), SEED))
    assert result.verdict is Verdict.INCONCLUSIVE


# --- adapters ---------------------------------------------------------------------------------------------------------


def adapted(tmp_path: Path, text: str, case: str = "rollback-timestamp") -> Result:
    file = tmp_path / "adapter.py"
    file.write_text(text)
    (tested,) = run([BY_ID[case]], [AdapterSpec(file, WORLD)], SEED)
    return tested.results[0]


LINE = """
import socket
s = socket.create_connection(("127.0.0.1", PORT))
def send(data): s.sendall(data)
def receive(timeout):
    s.settimeout(timeout or 0.001)
    try: return s.recv(4096)
    except TimeoutError: return b""
def close(): s.close()
"""


def through(port: str) -> str:
    return LINE.replace("PORT", port.rsplit(":", 1)[1])


@pytest.mark.slow
def test_an_adapter_that_reads_the_image_makes_an_independent_verdict(tmp_path: Path) -> None:
    with on_a_port() as (port, station):
        flash = tmp_path / "flash.bin"
        layout = SMALL

        def keep() -> None:
            running = station.board.control.flags().running
            part = layout.slots[0][running or 0]
            flash.write_bytes(station.board.flash.read(part.offset, part.size))

        text = through(port) + "\nfrom pathlib import Path\n"
        # A probe reads the flash at any time; here a test hands it over whenever the board was asked something.
        feed = station.board.feed

        def watched(data: bytes, now: int | None) -> bytes:
            answer = feed(data, now)
            keep()
            return answer

        station.board.feed = watched  # type: ignore[method-assign]
        result = adapted(tmp_path, text + f"def read_image(): return Path({str(flash)!r}).read_bytes()\n")
    assert (result.verdict, result.independent) == (Verdict.PASS, True)
    assert WORDS not in result.reason


@pytest.mark.slow
def test_an_adapter_that_reads_a_version_alone_says_so(tmp_path: Path) -> None:
    with on_a_port() as (port, station):
        version = tmp_path / "version"
        feed = station.board.feed

        def watched(data: bytes, now: int | None) -> bytes:
            answer = feed(data, now)
            info = station.board.info
            version.write_text(str(info.outcome.booted.image.version) if info and info.outcome.booted else "")
            return answer

        station.board.feed = watched  # type: ignore[method-assign]
        text = (
            through(port) + f"from pathlib import Path\ndef read_version(): return Path({str(version)!r}).read_text()\n"
        )
        result = adapted(tmp_path, text)
    assert (result.verdict, result.independent) == (Verdict.PASS, True)
    assert result.reason.endswith(VERSION)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no send"),
        ("def send(data): pass", "no receive"),
        ("def send(", "SyntaxError"),
        ("import no_such_module", "ModuleNotFoundError"),
        ("raise SystemExit(0)", "SystemExit"),
        ("1/0", "ZeroDivisionError"),
        ("send = receive = 5", "no send"),
    ],
)
def test_an_adapter_that_cannot_be_used_tests_nothing_and_says_why(tmp_path: Path, text: str, words: str) -> None:
    result = adapted(tmp_path, text)
    assert result.verdict is Verdict.NOT_TESTED
    assert words in result.reason


@pytest.mark.slow
@pytest.mark.parametrize(
    "broken",
    [
        "def send(data): raise OSError('unplugged')\n",
        "def receive(timeout): return 'text'\n",
        "def receive(timeout): return None\n",
        "def receive(timeout): raise KeyError(5)\n",
        "def reset(): raise RuntimeError('no probe')\n",
        "def read_image(): return 'text'\n",
        "def read_image(): raise OSError('no probe')\n",
        "def read_version(): return 5\n",
        "def reset(): pass\ndef read_version(): return None\n",
    ],
)
def test_an_adapter_that_breaks_is_a_fault_of_the_bench(tmp_path: Path, broken: str) -> None:
    with on_a_port() as (port, _):
        result = adapted(tmp_path, through(port) + broken)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "adapter" in result.reason


def test_an_adapter_says_what_it_lacks(tmp_path: Path) -> None:
    file = tmp_path / "adapter.py"
    file.write_text("def send(data): pass\ndef receive(timeout): return b''\ndef power(on): pass\n")
    target = AdapterSpec(file, WORLD).make(0)
    assert set(target.lacks) == {"reset", "read", "clock", "trial"}
    with pytest.raises(GoneError):
        target.set_clock(5)


def test_the_example_reaches_a_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its line; the debug probe is not there, which is a fault of the bench."""
    assert len(EXAMPLE.read_text().splitlines()) < 60
    with on_a_port() as (port, _):
        monkeypatch.setenv("PORT", port)
        monkeypatch.setenv("PATH", str(tmp_path))
        target = AdapterSpec(EXAMPLE, WORLD).make(0)
        assert set(target.lacks) == {"clock", "trial"}
        bench = Bench(target, SEED)
        assert bench.look().device == VirtualSpec().device
        with pytest.raises(AdapterError, match="pyocd"):
            target.reset()
        bench.close()
