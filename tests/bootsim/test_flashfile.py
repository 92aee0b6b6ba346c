"""The flash file: what outlives a process, however it ends, and what is refused."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hillhold_bootsim import flashfile
from hillhold_bootsim.bootflags import SimBootControl
from hillhold_bootsim.counter import OtpCounter
from hillhold_bootsim.flash import Cut, CutAt, FlashContractError, Geometry, PowerLost
from hillhold_bootsim.flashfile import FileBackedFlash, FlashFileError, create_flash_file, header, open_or_create
from hillhold_bootsim.layout import Layout
from hillhold_verifier.errors import MisuseError, OperationalError
from hillhold_verifier.slots import Mark

GEOMETRY = Geometry.uniform(size=2048, sector=256, unit=4, otp=32)
LAYOUT = Layout(name="tiny", geometry=GEOMETRY, state_size=256, slot_size=512)
LENGTH = 256 + 2048 + 32 + 65 + 4 * 8


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "board.flash"


def test_everything_outlives_the_process(path: Path) -> None:
    with open_or_create(path, GEOMETRY) as flash:
        flash.program(0, b"once")
        flash.erase(256, 512)
        flash.program(512, b"\xff" * 4)
        OtpCounter(flash).raise_to(7)

    with open_or_create(path, GEOMETRY) as flash:
        assert flash.read(0, 4) == b"once"
        assert [flash.wear(sector) for sector in range(4)] == [0, 1, 1, 0]
        assert OtpCounter(flash).value() == 7
        for at in (0, 512, 2048):
            with pytest.raises(FlashContractError):
                flash.program(at, bytes(4))
        flash.program(4, b"more")
        flash.erase(0, 256)
    with FileBackedFlash(path, GEOMETRY) as flash:
        assert flash.read(0, 256) == b"\xff" * 256
        assert flash.is_blank(0, 256)
        assert flash.wear(0) == 1
    assert path.stat().st_size == LENGTH


def test_the_file_is_as_documented(path: Path) -> None:
    with open_or_create(path, GEOMETRY) as flash:
        flash.program(36, b"abcd")
        flash.erase(256, 256)
        OtpCounter(flash).raise_to(1)
    data = path.read_bytes()

    fields = b"HHflash\0" + bytes.fromhex("0001 ff 00 00000800 00000100 00000004 00000020")
    assert data[:256] == (fields + hashlib.sha256(fields).digest()).ljust(256, b"\0")
    assert data[256 + 36 : 256 + 40] == b"abcd"
    assert data[256 + 2048 : 256 + 2056] == bytes.fromhex("00000001 fffffffe")
    bitmap = data[256 + 2080 : 256 + 2080 + 65]
    assert bitmap == bytes([0, 1 << 1]) + bytes(62) + bytes([0b11])
    assert data[256 + 2080 + 65 :] == b"".join(n.to_bytes(4, "big") for n in (0, 1, 0, 0, 0, 0, 0, 0))


def test_a_cut_in_a_file_is_as_in_memory(path: Path) -> None:
    with open_or_create(path, GEOMETRY, CutAt(0, Cut.TORN, 5)) as flash:
        with pytest.raises(PowerLost):
            flash.program(0, bytes(64))
        flash.power_on()
        torn = flash.read(0, 64)
    with FileBackedFlash(path, GEOMETRY) as flash:
        assert flash.read(0, 64) == torn
        assert torn not in (bytes(64), b"\xff" * 64)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (Geometry.uniform(size=4096, sector=256, unit=4, otp=32), "size 4096.*got size 2048"),
        (Geometry.uniform(size=2048, sector=512, unit=4, otp=32), "sector 512.*got .*sector 256"),
        (Geometry.uniform(size=2048, sector=256, unit=8, otp=32), "unit 8.*got .*unit 4"),
        (Geometry.uniform(size=2048, sector=256, unit=4, otp=64), "otp 64.*got .*otp 32"),
        (Geometry.uniform(size=2048, sector=256, unit=4, otp=32, erased_value=0), "erased 0x00.*got .*erased 0xff"),
    ],
)
def test_refuses_another_geometry_and_leaves_the_file_alone(path: Path, other: Geometry, words: str) -> None:
    create_flash_file(path, GEOMETRY)
    before = path.read_bytes()
    with pytest.raises(FlashFileError, match=words):
        open_or_create(path, other)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("at", "new", "words"),
    [
        (0, b"NOTflash", "magic"),
        (8, b"\0\2", "format: expected 1, got 2"),
        (14, b"\1", "checksum"),
        (100, b"\1", "unused bytes"),
    ],
)
def test_refuses_another_format(path: Path, at: int, new: bytes, words: str) -> None:
    create_flash_file(path, GEOMETRY)
    data = bytearray(path.read_bytes())
    data[at : at + len(new)] = new
    path.write_bytes(data)
    with pytest.raises(FlashFileError, match=words):
        FileBackedFlash(path, GEOMETRY)
    assert path.read_bytes() == data


@pytest.mark.parametrize("length", [0, 10, 255, 256, 300, LENGTH - 1, LENGTH + 1])
def test_refuses_another_length(path: Path, length: int) -> None:
    create_flash_file(path, GEOMETRY)
    path.write_bytes(path.read_bytes().ljust(length, b"\0")[:length])
    with pytest.raises(FlashFileError, match="bytes, got"):
        FileBackedFlash(path, GEOMETRY)
    assert path.stat().st_size == length


def test_one_process_at_a_time(path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from hillhold_bootsim.flash import Geometry\n"
        "from hillhold_bootsim.flashfile import FileBackedFlash\n"
        "from hillhold_verifier.errors import OperationalError\n"
        "try: FileBackedFlash(Path(sys.argv[1]), Geometry.uniform(size=2048, sector=256, unit=4, otp=32))\n"
        "except OperationalError as error: print(error)\n"
        "else: print('opened')\n"
    )

    def second() -> str:
        return subprocess.run([sys.executable, "-c", program, path], check=True, capture_output=True, text=True).stdout

    with open_or_create(path, GEOMETRY) as flash:
        assert "in use by another process" in second()
        with pytest.raises(OperationalError, match="in use"):
            FileBackedFlash(path, GEOMETRY)
        flash.program(0, b"mine")
    assert second() == "opened\n"


def test_creating_never_replaces_a_file(path: Path) -> None:
    path.write_bytes(b"precious")
    with pytest.raises(OperationalError, match="it exists"):
        create_flash_file(path, GEOMETRY)
    assert path.read_bytes() == b"precious"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_creating_is_all_or_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OperationalError, match="No space left"):
        create_flash_file(path, GEOMETRY)
    assert list(path.parent.iterdir()) == []


def test_says_what_is_missing(path: Path) -> None:
    with pytest.raises(OperationalError, match="No such file"):
        FileBackedFlash(path, GEOMETRY)
    with pytest.raises(OperationalError, match="No such file"):
        open_or_create(path.parent / "nowhere" / "board.flash", GEOMETRY)


def test_a_closed_flash_stays_off(path: Path) -> None:
    flash = open_or_create(path, GEOMETRY)
    flash.close()
    with pytest.raises(PowerLost):
        flash.read(0, 4)
    with pytest.raises(MisuseError, match="closed"):
        flash.power_on()


def test_a_failing_disk_is_an_error_and_ends_the_flash(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        closed = False

        def seek(self, offset: int) -> None:
            pass

        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            self.closed = True

    flash = open_or_create(path, GEOMETRY)
    real = flash._file_store._file
    monkeypatch.setattr(flash._file_store, "_file", Full())
    with pytest.raises(OperationalError, match="No space left"):
        flash.program(0, bytes(4))
    with pytest.raises(MisuseError, match="closed"):
        flash.power_on()
    real.close()


# --- killed --------------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends between two writes to the file."""


def test_killed_between_any_two_writes_to_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of the flags, then a raise of the counter: the old remains, or the new, and both can be changed again."""
    original = flashfile._FileStore._save
    cases = 0
    for budget in range(100):
        path.unlink(missing_ok=True)
        with open_or_create(path, GEOMETRY) as flash:
            control, counter = SimBootControl(flash, LAYOUT), OtpCounter(flash)
            control.provision(0)
            control.set_marks({0: Mark(bytes(32), 1)})
            counter.raise_to(1)
            left = budget

            def limited(store: flashfile._FileStore, offset: int, data: bytes) -> None:
                nonlocal left
                if left == 0:
                    raise Killed
                left -= 1
                original(store, offset, data)

            with monkeypatch.context() as patched:
                patched.setattr(flashfile._FileStore, "_save", limited)
                try:
                    control.set_marks({0: Mark(bytes(32), 2)})
                    counter.raise_to(2)
                    finished = True
                except Killed:
                    finished = False
        with FileBackedFlash(path, GEOMETRY) as flash:
            control, counter = SimBootControl(flash, LAYOUT), OtpCounter(flash)
            mark = control.flags().mark
            assert mark is not None, f"killed before write {budget}"
            assert (mark.length, counter.value()) in ((1, 1), (2, 1), (2, 2)), f"killed before write {budget}"
            control.set_marks({0: Mark(bytes(32), 3)})
            counter.raise_to(3)
            assert (control.record().mark, counter.value()) == (Mark(bytes(32), 3), 3)
        cases += 1
        if finished:
            break
    assert cases > 6
    assert finished


CHILD = """
import sys
from pathlib import Path
from hillhold_bootsim.bootflags import SimBootControl
from hillhold_bootsim.flash import Geometry
from hillhold_bootsim.flashfile import open_or_create
from hillhold_bootsim.layout import Layout
from hillhold_verifier.slots import Mark
geometry = Geometry.uniform(size=2048, sector=256, unit=4, otp=32)
flash = open_or_create(Path(sys.argv[1]), geometry)
control = SimBootControl(flash, Layout(name="tiny", geometry=geometry, state_size=256, slot_size=512))
mark = control.flags().mark
at = mark.length if mark else 0
while True:
    at += 1
    control.set_marks({0: Mark(bytes(32), at)})
    print(at, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_by_the_system_in_the_middle_of_it(path: Path) -> None:
    with open_or_create(path, GEOMETRY) as flash:
        SimBootControl(flash, LAYOUT).provision(0)
    reached = 0
    for lines in (3, 150, 41):
        child = subprocess.Popen([sys.executable, "-c", CHILD, path], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for _ in range(lines):
            told = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        rest = child.communicate()[0].split("\n")[:-1]
        assert child.returncode == -signal.SIGKILL
        told = int(rest[-1]) if rest else told
        with FileBackedFlash(path, GEOMETRY) as flash:
            mark = SimBootControl(flash, LAYOUT).flags().mark
        assert mark is not None
        # What was told was written; at most the one after it was written and not told.
        assert told <= mark.length <= told + 1
        assert mark.length >= reached + lines
        reached = mark.length


def test_the_header_is_one_byte_form() -> None:
    assert len(header(GEOMETRY)) == 256
    assert header(GEOMETRY) == header(Geometry.uniform(size=2048, sector=256, unit=4, otp=32))
