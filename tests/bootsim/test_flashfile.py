"""The flash file: what outlives a process, however it ends, and what is refused."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hillhold_bootsim import flashfile
from hillhold_bootsim.bootflags import BootRecord, FlagStore, ImageFlags, SimBootControl
from hillhold_bootsim.counter import OtpCounter
from hillhold_bootsim.flash import Cut, CutAt, Flash, FlashContractError, PowerLost
from hillhold_bootsim.flashfile import FileBackedFlash, FlashFileError, create_flash_file, header, open_or_create
from hillhold_bootsim.geometry import Geometry
from hillhold_bootsim.layout import Layout
from hillhold_bootsim.torn import Sector, torn_erase
from hillhold_verifier.errors import MisuseError, OperationalError
from hillhold_verifier.slots import Mark
from tinyboard import NEW, OLD, SWAP, Rig

GEOMETRY = Geometry.uniform(size=2048, sector=256, unit=4, otp=32)
LAYOUT = Layout.in_a_row("tiny", GEOMETRY, state_size=256, slot_size=512)
LENGTH = 256 + 2048 + 32 + 520 + 4 * 8 + 8
MIXED = Geometry(((2, 64), (1, 128), (2, 32)), unit=8, erased_value=0, otp=64)


def control_of(flash: Flash) -> SimBootControl:
    return SimBootControl(FlagStore(flash, LAYOUT))


def provision(flash: Flash) -> None:
    FlagStore(flash, LAYOUT).provision(BootRecord((ImageFlags(confirmed=0),)))


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

    fields = b"HHflash\0" + bytes.fromhex("0002 ff 01 00000004 00000020 00000008 00000100")
    fields = fields.ljust(148, b"\0")
    assert data[:256] == (fields + hashlib.sha256(fields).digest()).ljust(256, b"\0")
    assert data[256 + 36 : 256 + 40] == b"abcd"
    assert data[256 + 2048 : 256 + 2056] == bytes.fromhex("00000001 fffffffe")
    assert data[2336 : 2336 + 520] == bytes(9) + b"\1" + bytes(502) + b"\1\1" + bytes(6)
    assert data[2856 : 2856 + 32] == b"".join(n.to_bytes(4, "big") for n in (0, 1, 0, 0, 0, 0, 0, 0))
    assert data[2888:] == bytes(8)


def test_a_file_of_sectors_of_several_sizes_is_as_documented(path: Path) -> None:
    with open_or_create(path, MIXED) as flash:
        flash.program(56, b"\x5a" * 16)
        flash.erase(256, 64)
        flash.program(320, b"one way!")
        state = flash.state()
    data = path.read_bytes()
    fields = b"HHflash\0" + bytes.fromhex("0002 00 03 00000008 00000040")
    fields += bytes.fromhex("00000002 00000040 00000001 00000080 00000002 00000020")
    assert data[:148] == fields.ljust(148, b"\0")
    assert data[256 : 256 + 384] == bytes(56) + b"\x5a" * 16 + bytes(248) + b"one way!" + bytes(56)
    assert data[640:688] == bytes(7) + b"\1\1" + bytes(31) + b"\1" + bytes(7)
    assert data[688:708] == b"".join(n.to_bytes(4, "big") for n in (0, 0, 0, 1, 1))
    assert data[708:] == bytes(5)
    with FileBackedFlash(path, MIXED) as flash:
        assert flash.state() == state


def test_an_unstable_sector_is_so_in_the_next_process_and_no_longer_once_it_was_erased(path: Path) -> None:
    with open_or_create(path, MIXED) as flash:
        flash.program(128, b"\x5a" * 128)
        names = [name for name, _ in torn_erase(MIXED, flash.state()[2])]
        flash.power_cut = CutAt(1, Cut.TORN, names.index("unstable"))
        with pytest.raises(PowerLost):
            flash.erase(128, 128)
        state = flash.state()
    assert path.read_bytes()[708:] == bytes([0, 0, 1, 0, 0])
    with FileBackedFlash(path, MIXED) as flash:
        assert flash.state() == state
        assert flash.unstable
        assert len({flash.read(128, 128) for _ in range(4)}) == 4
        flash.erase(128, 128)
    assert path.read_bytes()[708:] == bytes(5)
    with FileBackedFlash(path, MIXED) as flash:
        assert not flash.unstable
        assert flash.is_blank(128, 128)


@pytest.mark.parametrize("at", [640, 687, 708, 712])
@pytest.mark.parametrize("value", [2, 0xFF])
def test_refuses_flags_that_are_none(path: Path, at: int, value: int) -> None:
    create_flash_file(path, MIXED)
    data = bytearray(path.read_bytes())
    data[at] = value
    path.write_bytes(data)
    with pytest.raises(FlashFileError, match="flags: expected 0 or 1"):
        FileBackedFlash(path, MIXED)
    data[at] = 0
    path.write_bytes(data)
    FileBackedFlash(path, MIXED).close()


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
        (Geometry.uniform(size=4096, sector=256, unit=4, otp=32), "sectors 16 of 256.*got sectors 8 of 256"),
        (Geometry.uniform(size=2048, sector=512, unit=4, otp=32), "sectors 4 of 512.*got sectors 8 of 256"),
        (Geometry(((4, 256), (2, 512)), 4, otp=32), r"sectors 4 of 256 \+ 2 of 512.*got sectors 8 of 256"),
        (Geometry(((4, 256), (4, 256)), 4, otp=32), r"sectors 4 of 256 \+ 4 of 256.*got sectors 8 of 256"),
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
        (8, b"\0\1", "format: expected 2, got 1"),
        (8, b"\0\3", "format: expected 2, got 3"),
        (11, b"\2", "checksum"),
        (14, b"\1", "checksum"),
        (140, b"\1", "checksum"),
        (148, b"\1", "checksum"),
        (180, b"\1", "unused bytes"),
        (255, b"\1", "unused bytes"),
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
        "from hillhold_bootsim.geometry import Geometry\n"
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


class Killing:
    """Lets through so many writes to the file, then ends the process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch, self.left = monkeypatch, 0
        self._save = flashfile._FileStore._save

    def within(self, writes: int, act: Callable[[], object]) -> bool:
        """Say whether `act` was killed."""
        self.left = writes

        def save(store: flashfile._FileStore, offset: int, data: bytes) -> None:
            if self.left == 0:
                raise Killed
            self.left -= 1
            self._save(store, offset, data)

        with self.patch.context() as patched:
            patched.setattr(flashfile._FileStore, "_save", save)
            try:
                act()
            except Killed:
                return True
            except PowerLost:
                pass
        return False


def test_killed_between_any_two_writes_to_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of the flags, then a raise of the counter: the old remains, or the new, and both can be changed again."""
    killing, cases, killed = Killing(monkeypatch), 0, True
    while killed:
        path.unlink(missing_ok=True)
        with open_or_create(path, GEOMETRY) as flash:
            control, counter = control_of(flash), OtpCounter(flash)
            provision(flash)
            control.store.reload()
            control.set_marks({0: Mark(bytes(32), 1)})
            counter.raise_to(1)

            def act(control: SimBootControl = control, counter: OtpCounter = counter) -> None:
                control.set_marks({0: Mark(bytes(32), 2)})
                counter.raise_to(2)

            killed = killing.within(cases, act)
        with FileBackedFlash(path, GEOMETRY) as flash:
            control, counter = control_of(flash), OtpCounter(flash)
            mark = control.flags().mark
            assert mark is not None, f"killed before write {cases}"
            assert (mark.length, counter.value()) in ((1, 1), (2, 1), (2, 2)), f"killed before write {cases}"
            control.set_marks({0: Mark(bytes(32), 3)})
            counter.raise_to(3)
            assert (control.flags().mark, counter.value()) == (Mark(bytes(32), 3), 3)
        cases += 1
    assert cases > 10


def test_killed_while_a_sector_changes_leaves_what_a_torn_operation_leaves(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each change that there is, torn ones among them: what has not been erased since it was programmed never counts as blank."""
    killing, cases = Killing(monkeypatch), 0
    blank = Flash(MIXED)
    part = Flash(MIXED)
    part.program(128, b"\x5a" * 64)
    half, erasing = part.state()[2], dict(torn_erase(MIXED, part.state()[2]))
    changes: list[tuple[Sector, Callable[[Flash], None], Cut | None, int]] = [
        (blank.state()[2], lambda flash: flash.program(128, b"\x5a" * 64), None, 0),
        (half, lambda flash: flash.program(192, b"\x33" * 64), None, 0),
        *(
            (sector, lambda flash: flash.erase(128, 128), cut, variant)
            for sector in (half, erasing["first-half"], erasing["unstable"])
            for cut, variant in ((None, 0), *((Cut.TORN, variant) for variant in range(len(erasing))))
        ),
    ]
    for before, act, cut, variant in changes:
        killed, writes = True, 0
        while killed:
            path.unlink(missing_ok=True)
            create_flash_file(path, MIXED)
            with FileBackedFlash(path, MIXED) as flash:
                flash._file_store.keep(2, flash.state()[2], before, 0)
            with FileBackedFlash(path, MIXED) as flash:
                flash.power_cut = CutAt(0, cut, variant) if cut else None
                killed = killing.within(writes, lambda flash=flash, act=act: act(flash))  # type: ignore[misc]
                wanted = flash.state()[2]
            with FileBackedFlash(path, MIXED) as flash:
                found = flash.state()[2]
            case = f"{before}, {cut} {variant}, killed before write {writes}: {found}"
            if not killed:
                assert found == wanted, case
            elif wanted.programmed == bytes(16) or cut:
                allowed = [before, *(sector for _, sector in torn_erase(MIXED, before)), wanted]
                assert found in allowed, case
            else:
                assert found.content in (before.content, wanted.content), case
                assert found.programmed in (before.programmed, wanted.programmed), case
                assert found.content == before.content or found.programmed == wanted.programmed, case
            writes, cases = writes + 1, cases + 1
    assert cases > 60


CHILD = """
import sys
from collections.abc import Callable
from pathlib import Path
from hillhold_bootsim.bootflags import FlagStore, SimBootControl
from hillhold_bootsim.geometry import Geometry
from hillhold_bootsim.flashfile import open_or_create
from hillhold_bootsim.layout import Layout
from hillhold_verifier.slots import Mark
geometry = Geometry.uniform(size=2048, sector=256, unit=4, otp=32)
flash = open_or_create(Path(sys.argv[1]), geometry)
control = SimBootControl(FlagStore(flash, Layout.in_a_row("tiny", geometry, state_size=256, slot_size=512)))
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
        provision(flash)
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
            mark = control_of(flash).flags().mark
        assert mark is not None
        # What was told was written; at most the one after it was written and not told.
        assert told <= mark.length <= told + 1
        assert mark.length >= reached + lines
        reached = mark.length


SWAPPER = """
import sys
from pathlib import Path
from hillhold_bootsim.flashfile import FileBackedFlash
from tinyboard import NEW, OLD, SWAP, Rig, mark_of
rig = Rig(SWAP, FileBackedFlash(Path(sys.argv[1]), SWAP.geometry))
while True:
    if rig.boot().trial:
        rig.control.confirm()
        rig.boot()
    rig.control.set_marks({0: mark_of((OLD, NEW)[rig.image.other])})
    print(rig.image.confirmed, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_by_the_system_while_images_are_swapped(path: Path) -> None:
    """Back and forth; after each kill the board boots one of the two, whole, and both are still there."""
    with open_or_create(path, SWAP.geometry) as flash:
        rig = Rig(SWAP, flash)
        rig.install(0, OLD)
        rig.install(1, NEW)
        rig.provision(0)
    support = str(Path(__file__).parents[1] / "support")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([support, *sys.path])}
    for lines in (1, 4, 2, 7, 3):
        with subprocess.Popen(
            [sys.executable, "-c", SWAPPER, path], stdout=subprocess.PIPE, text=True, env=environment
        ) as child:
            assert child.stdout is not None
            told = [child.stdout.readline().strip() for _ in range(lines)]
            child.kill()
        assert set(told) <= {"0", "1"}
        with FileBackedFlash(path, SWAP.geometry) as flash:
            rig = Rig(SWAP, flash)
            outcome = rig.boot()
            assert outcome.booted, outcome.events
            assert outcome.trial == (outcome.booted.slot != rig.image.confirmed)
            assert rig.read(0, len(OLD)) == OLD
            assert rig.read(1, len(NEW)) == NEW


def test_the_header_is_one_byte_form() -> None:
    assert len(header(GEOMETRY)) == 256
    assert header(GEOMETRY) == header(Geometry.uniform(size=2048, sector=256, unit=4, otp=32))
