"""A fix in an image of 400 KB over a serial line, from end to end: `hillhold-device push` against a full `smpmgr image upload`.

Both are processes that talk to a virtual board each, of the same kind, through `hillhold-lab line` (115200 baud, an adapter of 2 ms), in
real time; wall time, smpmgr's over ours. The images are real: MicroPython for the micro:bit before and after a fix (uflash 1.2.3 and
1.2.4), behind it as much of another firmware (GreatFET 2024.0.0) as makes 400 KB. Ours is the whole push to a board that has not heard of
the fix: probing, metadata, patch, application, mark. smpmgr's is the upload alone, with its defaults, to a board that was told the
metadata before, without which it takes no image.

    PYTHONPATH=tests/support python tests/bench/patch_line.py [--json]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hillhold_bootsim import boards
from lab import BIN, Lab, device, wait_for
from realfirmware import pair

FIX = "fix, MicroPython for the micro:bit (uflash 1.2.3 to 1.2.4)"
BESIDE = "minor version, GreatFET 2021.2.1 to 2024.0.0"
LENGTH = 400_000
BAUD, LATENCY = 115200, 2
AIM = 40
SMPMGR = Path(__file__).parents[2] / ".cache" / "smpmgr"


def payloads() -> tuple[bytes, bytes]:
    before, after = pair(FIX)
    beside = pair(BESIDE)[1] * 4
    return before + beside[: LENGTH - len(before)], after + beside[: LENGTH - len(before)]


def board_file(folder: Path) -> Path:
    """The default board with slots that are large enough."""
    text = boards.board_text("virtual-m4-1m").replace('hardware = "virtual-m4-1m"', 'hardware = "nrf51-a"')
    text = text.replace("baud = 115200", 'baud = 115200\nimage_keys = ["boot.pub"]')
    text = text.replace("count = 256", "count = 512").replace("0x22000, size = 0x60000", "0x100000, size = 0x70000")
    text = text.replace("0x82000, size = 0x60000", "0x180000, size = 0x70000")
    (folder / "board.toml").write_text(text, encoding="utf-8")
    return folder / "board.toml"


@contextmanager
def updated(lab: Lab, name: str, file: Path) -> Iterator[Path]:
    """A board that runs the first release; yields the port at the other end of its line."""
    with ExitStack() as stack:
        board = stack.enter_context(lab.board(lab.folder / f"{name}.flash", file=file))
        assert device("push", lab.one, "--port", board.port, timeout=300).code == 0
        port, log = lab.folder / f"{name}-line.tty", lab.folder / f"{name}-line.log"
        command = [BIN / "hillhold-lab", "line", board.port, "--link", port, "--baud", BAUD, "--latency", LATENCY]
        with log.open("wb") as out:
            line = subprocess.Popen(
                [*map(str, command)], stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"}
            )
        stack.callback(line.wait)
        stack.callback(line.terminate)
        wait_for("stop it", log)
        yield port


def seconds(command: list[object], environment: dict[str, str]) -> float:
    began = time.monotonic()
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, env=environment)
    took = time.monotonic() - began
    assert done.returncode == 0, done.stdout + done.stderr
    return took


def measured() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = board_file(folder)
        lab = Lab(folder, int(time.time()), payloads=payloads(), room=0x70000)
        with updated(lab, "ours", file) as port:
            ours = seconds([BIN / "hillhold-device", "push", lab.two, "--port", port, "--no-reset"], dict(os.environ))
        with updated(lab, "theirs", file) as port:
            done = device("check", lab.two, "--port", port)
            assert "would install" in done.out, done
            (new,) = lab.two.glob("targets/pump/1.1.0/*.app.bin")
            smpmgr = [sys.executable, "-m", "smpmgr", "--port", port, "--timeout", 5, "image", "upload", new]
            theirs = seconds(smpmgr, {**os.environ, "PYTHONPATH": str(SMPMGR)})
        size = min(file.stat().st_size for file in lab.two.glob("targets/pump/1.1.0/*.patch"))
    return {"image": len(payloads()[1]), "patch": size, "ours": ours, "smpmgr": theirs, "ratio": theirs / ours}


def main() -> None:
    values = measured()
    if "--json" in sys.argv[1:]:
        print(json.dumps(values))
        return
    print(
        f"a fix in {values['image']:.0f} bytes, a patch of {values['patch']:.0f}, {BAUD} baud, adapter of {LATENCY} ms"
    )
    print(f"smpmgr image upload: {values['ratio']:.0f} times the whole push (aim {AIM})")


if __name__ == "__main__":
    main()
