"""What ships for Linux boards: boot.cmd decides as it should, the example of a device's file is one, the unit's command exists.

boot.cmd runs here in a POSIX shell, whose syntax U-Boot's shares as far as the script goes, with U-Boot's commands as functions.
"""

from __future__ import annotations

import shlex
import subprocess
from hashlib import sha256
from itertools import product
from pathlib import Path

import pytest

from hillhold_verifier import linux
from hillhold_verifier.cli import _parser
from hillhold_verifier.linux.device import load_device
from linuxboard import MAX_STARTS, LinuxBoard, MemoryEnvironment
from offers import image, offer, started

SHIPPED = Path(linux.__path__[0]) / "shipped"

COMMANDS = """
setenv() { name=$1; shift; if [ $# -eq 0 ]; then unset "$name"; else eval "$name=\\"\\$*\\""; fi; }
setexpr() { eval "$1=$(printf %x $((0x$2 $3 0x$4)))"; }
run() { eval "eval \\"\\$$1\\""; }
hash() { eval "$4=$(head -c $((0x$3)) "$read" | ${1}sum | cut -d' ' -f1)"; }
saveenv() { [ -z "$broken" ] && set | grep '^hillhold' > "$saved"; }
reset() { echo "reset"; exit; }
loadaddr=40000000
bootargs=quiet
hillhold_read='read="$folder/slot-$slot"; echo "read $slot ${length:-all}"'
"""


def boot(board: LinuxBoard, folder: Path, *, watchdog: bool = False, broken: bool = False, signed: bool = True) -> str:
    """Run boot.cmd on the board's flags and slots; keep the flags that it saves, and return what it did."""
    for number, slot in enumerate(board.slots):
        (folder / f"slot-{number}").write_bytes(slot.read_bytes())
    saved = folder / "saved"
    saved.unlink(missing_ok=True)
    values = board.environment.read()
    lines = [f"{name}={shlex.quote(value)}" for name, value in values.items()]
    lines += [f"folder={folder}", f"saved={saved}", f"broken={'1' if broken else ''}"]
    lines += ["reset_cause=watchdog"] if watchdog else []
    lines += [f"hillhold_boot='{'echo boot $bootargs; exit' if signed else 'echo not signed'}'"]
    script = COMMANDS + "\n".join(lines) + "\n" + (SHIPPED / "boot.cmd").read_text()
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True, timeout=20)
    assert done.stderr == ""
    if saved.exists():
        found = dict(line.split("=", 1) for line in saved.read_text().splitlines())
        kept = {
            name: value.strip("'") for name, value in found.items() if name not in ("hillhold_read", "hillhold_boot")
        }
        board.environment.write({**dict.fromkeys(values), **kept})
    return done.stdout


def marked(folder: Path) -> LinuxBoard:
    """A board whose other slot is marked with 1.1.0."""
    repo = started()
    offer(repo, "1.1.0", 2)
    repo.publish()
    board = LinuxBoard(folder, repo)
    board.update()
    return board


CASES = list(product((None, 0, 1, MAX_STARTS - 1, MAX_STARTS), (False, True), (False, True), (0, 1)))


@pytest.mark.slow
@pytest.mark.parametrize(("starts", "watchdog", "spoilt", "confirmed"), CASES)
def test_boot_cmd_decides_as_the_boards_in_tests_do(
    tmp_path: Path, starts: int | None, watchdog: bool, spoilt: bool, confirmed: int
) -> None:
    (tmp_path / "board").mkdir()
    board = marked(tmp_path / "board")
    if confirmed:
        board.slots.reverse()
        board.environment.write({"hillhold_confirmed": "1"})
    board.environment.write({"hillhold_starts": None if starts is None else str(starts)})
    if spoilt:
        board.slots[1 - confirmed].write_bytes(b"x" + board.slots[1 - confirmed].read_bytes()[1:])
    twin = MemoryEnvironment()
    twin.write(board.environment.read())
    said = boot(board, tmp_path, watchdog=watchdog)
    found, board.environment = board.environment.read(), twin
    version = board.boot(watchdog=watchdog)
    assert board.environment.read() == found
    slot = board.command_line.read_text().split("hillhold.slots=")[1][0]
    assert said.splitlines()[-1] == f"boot quiet hillhold.slots={slot}"
    assert version == ("1.0.0" if int(slot) == confirmed else "1.1.0")


def test_a_start_that_cannot_be_recorded_is_none(tmp_path: Path) -> None:
    (tmp_path / "board").mkdir()
    board = marked(tmp_path / "board")
    assert boot(board, tmp_path, broken=True).splitlines()[-1] == "boot quiet hillhold.slots=0"


def test_an_image_that_does_not_boot_ends_its_trial(tmp_path: Path) -> None:
    (tmp_path / "board").mkdir()
    board = marked(tmp_path / "board")
    assert boot(board, tmp_path, signed=False).splitlines()[-2:] == ["not signed", "reset"]
    assert board.environment.read() == {"hillhold": "1", "hillhold_confirmed": "0"}
    assert boot(board, tmp_path).splitlines() == ["read 0 all", "boot quiet hillhold.slots=0"]


def test_the_marked_length_is_what_is_hashed(tmp_path: Path) -> None:
    (tmp_path / "board").mkdir()
    board = marked(tmp_path / "board")
    data = image("1.1.0", 2)
    assert board.environment.read()["hillhold_mark_0"] == f"{sha256(data).hexdigest()} {len(data):x}"
    assert boot(board, tmp_path).splitlines() == [f"read 1 {len(data):x}", "boot quiet hillhold.slots=1"]


def test_the_example_of_a_devices_file_is_one() -> None:
    assert load_device(SHIPPED / "device.toml").components == ("app",)


def test_the_units_command_is_one() -> None:
    unit = (SHIPPED / "hillhold-device.service").read_text()
    (line,) = (line for line in unit.splitlines() if line.startswith("ExecStart="))
    program, *arguments = line.removeprefix("ExecStart=").split()
    assert program.endswith("/hillhold-device")
    assert _parser().parse_args(arguments).command == "serve"
