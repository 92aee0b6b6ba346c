"""The serial link: what share of a 115200-baud line an image gets, clean and at a byte error in 10,000, and against smpmgr.

clean        a 256 KB image over a modelled line with an adapter of 2 ms latency, to a board with buffers of 1 KB, in virtual time;
             share: the image's bytes over what the line could carry from the first request of the transfer to its last answer
errors       the same with errors of 10⁻⁴ a byte both ways, `--runs` times, each with a seed of its own: how many failed, mean and
             least share. Console is what a stock host would use; COBS and raw are for two ends of ours
smpmgr       `smpmgr image upload` and `hillhold-device push --no-patch --no-reset` of the same image to the same virtual board, as
             processes, through `hillhold-lab line` in real time: wall time, smpmgr's over ours. "best" is the better of smpmgr's
             settings that are tried. The metadata are on the board before, since smpmgr brings none
memory       what the protocol holds on the board at most, for a buffer of 1 KB

PYTHONPATH=tests/support python tests/bench/serial_line.py [--runs 1000] [--workers 2] [--no-peer] [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from bench import CLOCK, Bench
from hillhold_bootsim.flash import Flash
from hillhold_bootsim.geometry import Geometry
from hillhold_bootsim.layout import Layout
from hillhold_bootsim.line import LineModel
from hillhold_bootsim.linefaults import LineFaults
from hillhold_verifier.conversation import Progress
from hillhold_verifier.courier import Courier
from hillhold_verifier.errors import HillholdError
from hillhold_verifier.exchange import Exchange
from hillhold_verifier.framing import SHARED, Receiver, Transport
from hillhold_verifier.smp_console import MAX_JUNK
from lab import BIN, Lab, device, wait_for
from offers import TreeSource, image, offer, started
from slowline import Rig

BAUD = 115200
LATENCY = 0.002
BUFFER, BUFFERS = 1024, 4
ERRORS = 1e-4
LENGTH = 256 * 1024
LAYOUT = Layout.in_a_row(
    name="line",
    geometry=Geometry.uniform(size=640 * 1024, sector=4096, unit=8, otp=256),
    state_size=20 * 1024,
    slot_size=280 * 1024,
)
SETTINGS = (8, 10, 11, 12)
"""Line buffers of 128 bytes for which smpmgr is tried: the best lies where a message just fills the board's buffer."""
AIMS = {
    "clean": {"cobs": 0.95, "raw": 0.95, "console": 0.68},
    "errors": {"cobs": 0.80, "console": 0.55},
    "smpmgr": {"defaults": 1.8, "best": 1.0},
}


@cache
def stage() -> tuple[Any, Any, int]:
    """A repository with an image of that size, the flash of a board that runs the release before, and the image's length."""
    repo = started()
    bench = Bench(repo, LAYOUT)
    bench.push()
    data = image("1.1.0", 2, length=LENGTH)
    offer(repo, "1.1.0", 2, data=data)
    repo.publish()
    return repo, bench.flash.state(), len(data)


def one(transport: Transport, errors: float, seed: int) -> tuple[float, int] | None:
    """The share of one transfer and how often a request was sent again, or None where it failed."""
    repo, state, length = stage()
    flash = Flash(LAYOUT.geometry)
    flash.load(state)
    transports = SHARED if transport in SHARED else (transport,)
    bench = Bench(repo, LAYOUT, flash=flash, buffer=BUFFER, buffers=BUFFERS, transports=transports)
    faults = LineFaults(errors=errors)
    line = LineModel(BAUD, to_board=faults, to_host=faults, latency=LATENCY, seed=seed)
    rig = Rig(bench, Exchange(transport=transport, baud=BAUD), line)
    times: list[float] = []

    def report(step: Progress) -> None:
        if step.total:
            times.append(rig.seconds)

    assert bench.clock == CLOCK
    try:
        pushed = rig.run(Courier(TreeSource(repo.tree), report).push(patches=False, reset=False))
    except HillholdError as error:
        print(f"{transport.value}, seed {seed}: {error}", file=sys.stderr)
        return None
    if pushed.installed is None or bench.facts().mark is None:
        return None
    return length * 10 / BAUD / (times[-1] - times[0]), rig.exchange.resent


def many(transport: Transport, runs: int, workers: int) -> dict[str, float]:
    with ProcessPoolExecutor(workers) as pool:
        found = list(pool.map(one, [transport] * runs, [ERRORS] * runs, range(runs), chunksize=4))
    good = [share for share in found if share is not None]
    shares = [share for share, _ in good]
    return {
        "runs": runs,
        "failed": runs - len(good),
        "share": fmean(shares) if shares else 0.0,
        "least": min(shares, default=0.0),
        "sent again": fmean(resent for _, resent in good) if good else 0.0,
    }


def against_smpmgr() -> dict[str, float]:
    """Wall seconds of each command, and the ratios."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        lab = Lab(folder, int(time.time()), LENGTH)
        flash = folder / "board.flash"
        board = stack.enter_context(lab.board(flash))
        assert device("push", lab.one, "--port", board.port).code == 0
        assert device("check", lab.two, "--port", board.port).code == 0
        port, log = folder / "line.tty", folder / "line.log"
        command = [
            BIN / "hillhold-lab",
            "line",
            board.port,
            "--link",
            port,
            "--baud",
            BAUD,
            "--latency",
            LATENCY * 1000,
        ]
        with log.open("wb") as out:
            line = subprocess.Popen(
                [*map(str, command)], stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"}
            )
        stack.callback(line.wait)
        stack.callback(line.terminate)
        wait_for("stop it", log)
        (new,) = lab.two.glob("targets/pump/1.1.0/*.app.bin")

        def seconds(*arguments: object, wanted: str, beside: str = "") -> float:
            # What came of the upload before is erased, so that each one begins from the start.
            peer(port, "image", "erase", "1")
            began = time.monotonic()
            environment = {**os.environ, "PYTHONPATH": beside} if beside else dict(os.environ)
            done = subprocess.run([*map(str, arguments)], capture_output=True, text=True, check=False, env=environment)
            took = time.monotonic() - began
            assert done.returncode == 0, done.stderr
            assert wanted in done.stdout, done.stdout
            return took

        upload = ("image", "upload", new)
        defaults = seconds(*smpmgr(port), *upload, wanted="100", beside=str(SMPMGR))
        tried = {}
        for buffers in SETTINGS:
            try:
                tried[buffers] = seconds(
                    *smpmgr(port, "--line-buffers", buffers), *upload, wanted="100", beside=str(SMPMGR)
                )
            except AssertionError:  # messages longer than the board's buffer: smpmgr gives up
                print(f"smpmgr fails with {buffers} line buffers", file=sys.stderr)
        # Last: it marks the image, and a board erases none that is marked.
        push = ("push", lab.two, "--port", port, "--no-patch", "--no-reset")
        ours = seconds(BIN / "hillhold-device", *push, wanted="marked")
    best = min(tried.values())
    return {
        "ours": ours,
        "smpmgr": defaults,
        "smpmgr at its best": best,
        "line buffers": min(tried, key=lambda buffers: tried[buffers]),
        "defaults": defaults / ours,
        "best": best / ours,
    }


SMPMGR = Path(__file__).parents[2] / ".cache" / "smpmgr"


def smpmgr(port: Path, *options: object) -> list[object]:
    return [sys.executable, "-m", "smpmgr", "--port", port, "--timeout", 5, *options]


def peer(port: Path, *arguments: object) -> None:
    environment = {**os.environ, "PYTHONPATH": str(SMPMGR)}
    subprocess.run([*map(str, [*smpmgr(port), *arguments])], capture_output=True, check=True, env=environment)


def memory() -> dict[str, int]:
    """Bytes: what the receiver of each kind of line may hold, by its own bound, and what a hostile line made it hold."""
    found = {}
    for name, transports in (("console and cobs", SHARED), ("raw", (Transport.RAW,))):
        receiver, most = Receiver(BUFFER, transports), 0
        for data in (b"\0\2" + b"\1" * 5000, b"\6\11" + b"A" * 5000, b"\12\0\3\360" + b"\1" * 1000, b"x" * 5000):
            for at in range(0, len(data), 16):
                receiver.feed(data[at : at + 16])
                most = max(most, receiver.held)
        found[name] = most
    return {**found, "bound": int(3.5 * BUFFER) + MAX_JUNK}


def measured(options: argparse.Namespace) -> dict[str, Any]:
    values: dict[str, Any] = {"clean": {}, "errors": {}}
    for transport in Transport:
        clean = one(transport, 0.0, 0)
        assert clean is not None
        values["clean"][transport.value] = clean[0]
        values["errors"][transport.value] = many(transport, options.runs, options.workers)
    values["memory"] = memory()
    values["smpmgr"] = None if options.no_peer else against_smpmgr()
    return values


def lines(values: dict[str, Any]) -> list[str]:
    out = [f"256 KB image, {BAUD} baud, adapter of {LATENCY * 1000:g} ms, {BUFFERS} buffers of {BUFFER} bytes", ""]
    out.append(f"{'':10} {'clean':>8} {'aim':>6}   {'10⁻⁴':>8} {'least':>7} {'aim':>6}  failed")
    for name, share in values["clean"].items():
        bad, aims = values["errors"][name], (AIMS["clean"].get(name), AIMS["errors"].get(name))
        clean_aim, bad_aim = (f"{aim:.0%}" if aim else "" for aim in aims)
        out.append(
            f"{name:10} {share:8.1%} {clean_aim:>6}   {bad['share']:8.1%} {bad['least']:7.1%} {bad_aim:>6}  "
            f"{bad['failed']} of {bad['runs']}"
        )
    out += [
        "",
        "held by the receiver: " + ", ".join(f"{name} {count}" for name, count in values["memory"].items()) + " bytes",
    ]
    if found := values["smpmgr"]:
        out += [
            "",
            f"smpmgr image upload, defaults: {found['defaults']:.2f} times our push (aim {AIMS['smpmgr']['defaults']})",
            f"smpmgr image upload, {found['line buffers']} line buffers: {found['best']:.2f} times our push (aim {AIMS['smpmgr']['best']})",
        ]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.runs, options.no_peer = 10, True
    values = measured(options)
    print(json.dumps(values) if options.json else "\n".join(lines(values)))


if __name__ == "__main__":
    main()
