"""Commands for the device that they run on: a Linux board (`hillhold_verifier.linux`)."""

from __future__ import annotations

import argparse
import hashlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from hillhold_verifier.cli.line import open_line
from hillhold_verifier.cli.show import Progress as ProgressLine
from hillhold_verifier.cli.show import Result, check_result, nothing, plain, shown, status_lines
from hillhold_verifier.errors import MisuseError, OperationalError
from hillhold_verifier.framing import SHARED
from hillhold_verifier.installer import Installer
from hillhold_verifier.link import Stream, StreamError
from hillhold_verifier.linux.device import Factory, LinuxDevice, load_device
from hillhold_verifier.linux.serve import IDLE, Server
from hillhold_verifier.local import LocalUpdate
from hillhold_verifier.select import Device, Selection
from hillhold_verifier.sources import open_source

PATIENCE: Final = 2 * IDLE
"""Seconds that a command waits for another process to let the device go: a conversation on the line ends so long after its last word."""
_PAUSE: Final = 0.1


def provision(options: argparse.Namespace) -> Result:
    """Make this a device that trusts a root."""
    device = load_device(options.config)
    identity = Device(options.product, options.hardware, options.id, device.components)
    factory = [_factory(text, options.security_counter) for text in options.factory]
    if factory and len(factory) != len(device.components):
        raise MisuseError(f"--factory: expected one for each of {', '.join(device.components)}, got {len(factory)}")
    root = _read(options.root)
    device.provision(identity, root, factory or [None] * len(device.components), again=options.again)
    context = device.look()
    status = context.status()
    return shown({**identity.identity(), **status}), status_lines(identity.identity(), status), 0


def status(options: argparse.Namespace) -> Result:
    """What this device is, runs and trusts; it need not be free."""
    context = load_device(options.config).look()
    identity, found = context.state.device.identity(), context.status()
    return shown({**identity, **found, "failed_trials": list(context.state.failed)}), status_lines(identity, found), 0


def check(options: argparse.Namespace) -> Result:
    """What this device would install, and why nothing else."""
    source = open_source(options.source)
    with (
        _installer(load_device(options.config)) as installer,
        ProgressLine(sys.stderr, quiet=options.json) as progress,
    ):
        selection = LocalUpdate(installer, source, int(time.time()), progress).check()
        return check_result(_choice(installer, selection))


def update(options: argparse.Namespace) -> Result:
    """Fill the other slots with what this device chooses, and mark them for a trial."""
    source = open_source(options.source)
    device = load_device(options.config)
    with _installer(device) as installer, ProgressLine(sys.stderr, quiet=options.json) as progress:
        done = LocalUpdate(installer, source, int(time.time()), progress).update(patches=not options.no_patch)
        choice = _choice(installer, done.selection)
    restarts = bool(done.plan) and options.reboot
    paths = " and ".join(release.path for release in done.plan)
    values = {
        "installed": [release.path for release in done.plan],
        "patched": list(done.patched),
        "payload_bytes": done.read,
        "reasons": choice["reasons"],
        "restarts": restarts,
    }
    if not done.plan:
        lines, code = nothing(tuple((v.path, v.outcome.value, v.reason) for v in done.selection.verdicts))
        return values, lines, code
    if restarts:
        _restart(device)
    when = "the device restarts" if restarts else "it boots at the next restart"
    return values, [f"marked {paths}: {done.read} bytes taken; {when}"], 0


def confirm(options: argparse.Namespace) -> Result:
    """What runs here has passed its own test."""
    with _installer(load_device(options.config)) as installer:
        confirmed = installer.confirm(self_tested=True)
        versions = " and ".join(str(installed.version) for installed in confirmed)
        return shown({**installer.state.device.identity(), **installer.status()}), [f"confirmed {versions}"], 0


def reject(options: argparse.Namespace) -> Result:
    """What runs here has failed its own test."""
    device = load_device(options.config)
    with _installer(device):
        device.control.reject()
    if options.reboot:
        _restart(device)
    when = (
        "the device restarts into the confirmed image"
        if options.reboot
        else "the confirmed image boots at the next restart"
    )
    return {"rejected": True, "restarts": options.reboot}, [f"the trial has failed; {when}"], 0


def forget(options: argparse.Namespace) -> Result:
    """Let trials that failed here be tried again."""
    if options.trial is None and not options.all:
        raise MisuseError("forget: expected the trial's id (see `status --json`), or --all")
    with _installer(load_device(options.config)) as installer:
        forgotten = installer.forget_failed(None if options.all else options.trial)
    names = [trial.hex() for trial in forgotten]
    return {"forgotten": names}, [f"forgot {name}" for name in names] or ["no trial has failed here"], 0


def serve(options: argparse.Namespace) -> Result:
    """Answer couriers on a line, until interrupted or restarted."""
    device = load_device(options.config)
    stop = threading.Event()

    def end(_number: int, _frame: object) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    server = Server(device, options.group, SHARED if options.transport in (None, *SHARED) else (options.transport,))
    with ExitStack() as stack:
        stack.callback(server.release)
        stream = open_line(options)
        stack.callback(stream.close)
        print(f"serving on {options.port}", file=sys.stderr, flush=True)
        while not stop.is_set() and not server.reset_requested:
            try:
                if data := stream.read(_PAUSE):
                    stream.write(server.receive(data, int(time.time()), time.monotonic()))
            except StreamError as error:  # a gadget whose host was unplugged
                print(f"note: {plain(str(error))}; waiting for the port", file=sys.stderr, flush=True)
                while not stop.wait(_PAUSE) and not _reopened(stream):
                    pass
            server.tick(time.monotonic())
    if server.reset_requested:
        _restart(device)
    return {"restarts": server.reset_requested}, ["restarting" if server.reset_requested else "stopped"], 0


# --- inside -----------------------------------------------------------------------------------------------------------


@contextmanager
def _installer(device: LinuxDevice) -> Iterator[Installer]:
    """The device, once no other process has it."""
    with ExitStack() as stack:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                installer = stack.enter_context(device.installer())
                break
            except OperationalError as error:
                if "in use by another" not in str(error) or time.monotonic() > end:
                    raise
            time.sleep(_PAUSE)
        yield installer


def _choice(installer: Installer, selection: Selection) -> dict[str, object]:
    """The device's choice as a board states it over a line."""
    components = installer.state.device.components
    chosen = {release.path for release in selection.plan}
    plan = [
        {"n": components.index(release.component), "path": release.path, "sha": release.sha256, "len": release.length}
        for release in selection.plan
    ]
    others = [verdict for verdict in reversed(selection.verdicts) if verdict.path not in chosen]
    reasons = [[verdict.path, verdict.outcome.value, verdict.reason] for verdict in others]
    grace = {"grace": selection.grace_used} if selection.grace_used else {}
    return {**({"plan": plan} if plan else {}), "reasons": reasons, **grace}


def _factory(text: str, counter: int) -> Factory:
    path, equals, name = text.partition("=")
    if not equals or not name:
        raise MisuseError(f"--factory: expected TARGET-PATH=FILE, got {text!r}")
    file = Path(name)
    try:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").digest()
        return Factory(path, file.stat().st_size, digest, counter)
    except OSError as error:
        raise OperationalError(f"{file}: {error.strerror}") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise OperationalError(f"{path}: {error.strerror}") from None


def _reopened(stream: Stream) -> bool:
    try:
        stream.reopen()
    except OperationalError:
        return False
    return True


def _restart(device: LinuxDevice) -> None:
    try:
        subprocess.run(device.reboot, check=True, timeout=60)  # noqa: S603 - the device's own configuration
    except (OSError, subprocess.SubprocessError) as error:
        raise OperationalError(f"restart ({' '.join(device.reboot)}): {error}") from None


COMMANDS: Final[dict[str, Callable[[argparse.Namespace], Result]]] = {
    command.__name__: command for command in (provision, status, check, update, confirm, reject, forget, serve)
}
