"""The serial link: what share of a 115200-baud line an image gets, clean and at a byte error in 10,000, and against smpmgr.

clean        a 256 KB image over a modelled line with an adapter of 2 ms latency, to a board with buffers of 1 KB, in virtual time;
             share: the image's bytes over what the line could carry from the first answer of the transfer to its last
errors       the same with errors of 10⁻⁴ a byte both ways, `--runs` times, each with a seed of its own: how many failed, mean and
             least share. Console is what a stock host would use; COBS and raw are for two ends of ours
smpmgr       `smpmgr image upload` and `hillhold-device push --no-patch --no-reset` of the same image to the same virtual board, as
             processes, through `hillhold-lab line` in real time: wall time, smpmgr's over ours. "best" is the best of smpmgr's
             settings that are tried. The metadata are on the board before, since smpmgr brings none. Last, smpmgr over the same line
             with errors of 10⁻⁴: whether it gets the image there
memory       what the receiver of a line holds at most, and the whole agent beside its image and metadata, for a buffer of 1 KB: on
             hostile lines, after a push

It ends with code 1 where an aim is missed.

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
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
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
from hillhold_verifier.agent import METADATA, Agent
from hillhold_verifier.conversation import Progress
from hillhold_verifier.courier import Courier
from hillhold_verifier.errors import HillholdError
from hillhold_verifier.exchange import Exchange
from hillhold_verifier.framing import SHARED, Receiver, Transport
from hillhold_verifier.smp import HILLHOLD_GROUP, Message, Op
from hillhold_verifier.smp_check import with_check
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
SETTINGS = ((128, 8), (128, 10), (128, 11), (128, 12), (688, 2), (1360, 1), (1376, 1))
"""Length and number of line buffers with which smpmgr is tried: the best lies where a message just fills the board's buffer."""
AIMS = {
    "clean": {"cobs": 0.95, "raw": 0.95, "console": 0.68},
    "errors": {"cobs": 0.80, "raw": 0.80, "console": 0.55},
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


def newly(transport: Transport) -> Bench:
    """A board that runs the release before."""
    repo, state, _ = stage()
    flash = Flash(LAYOUT.geometry)
    flash.load(state)
    transports = SHARED if transport in SHARED else (transport,)
    return Bench(repo, LAYOUT, flash=flash, buffer=BUFFER, buffers=BUFFERS, transports=transports)


def one(transport: Transport, errors: float, seed: int) -> tuple[float, int] | None:
    """The share of one transfer and how often a request was sent again, or None where it failed."""
    bench, (repo, _, length) = newly(transport), stage()
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


@contextmanager
def over_line(board: str, folder: Path, *options: object) -> Iterator[Path]:
    """The port of a line to that board."""
    port, log = folder / "line.tty", folder / "line.log"
    words = (board, "--link", port, "--baud", BAUD, "--latency", LATENCY * 1000, *options)
    with log.open("wb") as out:
        line = subprocess.Popen(
            [*map(str, (BIN / "hillhold-lab", "line", *words))],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        wait_for("stop it", log)
        yield port
    finally:
        line.terminate()
        line.wait()


def seconds(*arguments: object, wanted: str, beside: str = "") -> float:
    """Wall seconds of a command; it fails where that has not done what was wanted."""
    began = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": beside} if beside else dict(os.environ)
    done = subprocess.run([*map(str, arguments)], capture_output=True, text=True, check=False, env=environment)
    took = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    assert wanted in done.stdout, done.stdout
    return took


def by_smpmgr(port: Path, new: Path, *options: object) -> float | None:
    """Wall seconds of an upload by smpmgr, or None where it gives up. What came of one before is erased."""
    try:
        seconds(*smpmgr(port), "image", "erase", "1", wanted="", beside=str(SMPMGR))
        return seconds(*smpmgr(port, *options), "image", "upload", new, wanted="100", beside=str(SMPMGR))
    except AssertionError:
        return None


def against_smpmgr() -> dict[str, Any]:
    """Wall seconds of each command, and the ratios."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        lab = Lab(folder, int(time.time()), LENGTH)
        board = stack.enter_context(lab.board(folder / "board.flash"))
        assert device("push", lab.one, "--port", board.port).code == 0
        assert device("check", lab.two, "--port", board.port).code == 0
        (new,) = lab.two.glob("targets/pump/1.1.0/*.app.bin")
        with over_line(board.port, folder, "--errors", ERRORS) as port:
            spoilt = by_smpmgr(port, new)
        with over_line(board.port, folder) as port:
            defaults = by_smpmgr(port, new)
            tried = {}
            for length, buffers in SETTINGS:
                took = by_smpmgr(port, new, "--line-length", length, "--line-buffers", buffers)
                if took is None:  # messages longer than the board's buffer
                    print(f"smpmgr fails with {buffers} line buffers of {length} bytes", file=sys.stderr)
                else:
                    tried[f"{buffers} line buffers of {length} bytes"] = took
            seconds(*smpmgr(port), "image", "erase", "1", wanted="", beside=str(SMPMGR))
            # Last: it marks the image, and a board erases none that is marked.
            push = ("push", lab.two, "--port", port, "--no-patch", "--no-reset")
            ours = seconds(BIN / "hillhold-device", *push, wanted="marked")
    assert defaults is not None
    best = min(tried, key=lambda setting: tried[setting])
    return {
        "ours": ours,
        "smpmgr": defaults,
        "smpmgr at its best": tried[best],
        "setting": best,
        "defaults": defaults / ours,
        "best": tried[best] / ours,
        "at errors": spoilt,
    }


SMPMGR = Path(__file__).parents[2] / ".cache" / "smpmgr"


def smpmgr(port: Path, *options: object) -> list[object]:
    return [sys.executable, "-m", "smpmgr", "--port", port, "--timeout", 5, *options]


HOSTILE = (b"\0\2" + b"\1" * 5000, b"\6\11" + b"A" * 5000, b"\12\0\3\360" + b"\1" * 1000, b"x" * 5000)


def memory() -> dict[str, dict[str, int]]:
    """Bytes that a receiver, and an agent after a push, hold at most on hostile lines; and the bound of each."""
    found: dict[str, dict[str, int]] = {"receiver": {}, "agent": {}}
    # A write that is refused: the board keeps it, its answer and the words.
    write = with_check(Message(Op.WRITE, HILLHOLD_GROUP, METADATA, 0, {"f": 0, "o": 1, "d": bytes(BUFFER - 40)}))
    for name, transport, transports in (("console and cobs", Transport.CONSOLE, SHARED), ("raw", Transport.RAW, None)):
        receiver, bench = Receiver(BUFFER, transports or (transport,)), newly(transport)
        rig = Rig(bench, Exchange(transport=transport, baud=BAUD), LineModel(BAUD, latency=LATENCY))
        rig.run(Courier(TreeSource(stage()[0].tree)).push(patches=False, reset=False))
        agent = bench.board._agent
        assert isinstance(agent, Agent)
        found["receiver"][name] = found["agent"][name] = 0
        for data in HOSTILE:
            agent.answer(write, CLOCK)
            for at in range(0, len(data), 16):
                receiver.feed(data[at : at + 16])
                bench.feed(data[at : at + 16])
                found["receiver"][name] = max(found["receiver"][name], receiver.held)
                found["agent"][name] = max(found["agent"][name], agent.held)
    found["receiver"]["bound"] = int(3.5 * BUFFER) + MAX_JUNK
    found["agent"]["bound"] = int(3.5 * BUFFER) + MAX_JUNK + BUFFER + 1024 + 960
    return found


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
    out.append("")
    for who, counts in values["memory"].items():
        out.append(f"held by the {who}: " + ", ".join(f"{name} {count}" for name, count in counts.items()) + " bytes")
    if found := values["smpmgr"]:
        out += [
            "",
            f"smpmgr image upload, defaults: {found['defaults']:.2f} times our push (aim {AIMS['smpmgr']['defaults']})",
            f"smpmgr image upload, {found['setting']}: {found['best']:.2f} times our push (aim {AIMS['smpmgr']['best']})",
            "smpmgr image upload at 10⁻⁴: " + (f"{found['at errors']:.0f} s" if found["at errors"] else "gives up"),
        ]
    return out


def missed(values: dict[str, Any]) -> list[str]:
    """The aims that were missed, in words."""
    found = [
        *(("clean " + name, values["clean"][name], aim) for name, aim in AIMS["clean"].items()),
        *(("10⁻⁴ " + name, values["errors"][name]["share"], aim) for name, aim in AIMS["errors"].items()),
        *(("smpmgr " + name, values["smpmgr"][name], aim) for name, aim in AIMS["smpmgr"].items() if values["smpmgr"]),
    ]
    words = [f"{name}: {value:.3f}, and the aim is {aim}" for name, value, aim in found if value < aim]
    words += [f"{name}: {bad['failed']} failed" for name, bad in values["errors"].items() if bad["failed"]]
    for who, counts in values["memory"].items():
        words += [
            f"the {who} held {count} of {counts['bound']}" for count in counts.values() if count > counts["bound"]
        ]
    return words


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
    if words := missed(values):
        sys.exit("\n".join(words))


if __name__ == "__main__":
    main()
