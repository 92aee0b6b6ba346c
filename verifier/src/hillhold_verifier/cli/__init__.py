"""`hillhold-device`: carry an update to a board on a serial port, and ask a board what it runs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from hillhold_verifier.cli.show import Progress as ProgressLine
from hillhold_verifier.cli.show import status_lines
from hillhold_verifier.courier import BoardRefused, Body, Courier, Pushed, confirm_running, read_status, reasons_of
from hillhold_verifier.errors import HillholdError, OperationalError
from hillhold_verifier.link import Link, open_port
from hillhold_verifier.smp import HILLHOLD_GROUP
from hillhold_verifier.sources import DirectorySource

Result = tuple[dict[str, object], list[str], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0 ok, 1 refused, 2 usage, 3 operational."""
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], Result] = options.run
    try:
        values, lines, code = run(options)
    except HillholdError as error:
        hint = _hint(error)
        if options.json:
            print(json.dumps({"error": str(error), "hint": hint, "exit": error.exit_code}))
        else:
            print(f"error: {error}", file=sys.stderr)
            if hint:
                print(f"hint: {hint}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(
            "error: interrupted\nhint: run the same command again; the board goes on where it stopped", file=sys.stderr
        )
        return 3
    print(json.dumps(values) if options.json else "\n".join(lines))
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hillhold-device", description=__doc__)
    parser.add_argument("--version", action="version", version=f"hillhold-device {version('hillhold-verifier')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(
        name: str, text: str, run: Callable[[argparse.Namespace], Result], example: str
    ) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=text, description=text, epilog=f"example: hillhold-device {example}")
        found.add_argument("--port", required=True, help="serial port, pseudo-terminal or socket://HOST:PORT")
        found.add_argument("--baud", type=int, default=115200, help="line rate in bit/s (default: %(default)s)")
        found.add_argument(
            "--group", type=int, default=HILLHOLD_GROUP, help="SMP group of Hillhold (default: %(default)s)"
        )
        found.add_argument("--json", action="store_true", help="print one JSON object")
        found.set_defaults(run=run)
        return found

    command("status", "what a board is, runs and trusts", _status, "status --port /dev/ttyACM0")
    check = command(
        "check", "what a board would install from a repository, and why", _check, "check repo --port /dev/ttyACM0"
    )
    push = command("push", "bring a board up to date from a repository", _push, "push repo --port /dev/ttyACM0")
    for sub in (check, push):
        sub.add_argument("source", type=Path, metavar="SOURCE", help="folder of a published repository")
    push.add_argument("--no-patch", action="store_true", help="send the whole image even where there is a patch")
    push.add_argument("--no-reset", action="store_true", help="leave the image marked; it boots at the next reset")
    command(
        "confirm", "confirm the running image, once its own test has passed", _confirm, "confirm --port /dev/ttyACM0"
    )
    return parser


def _status(options: argparse.Namespace) -> Result:
    link = Link(open_port(options.port, options.baud))
    identity, status = link.run(read_status(options.group))
    return _plain({**identity, **status}), status_lines(identity, status), 0


def _check(options: argparse.Namespace) -> Result:
    source = DirectorySource(options.source)
    link = Link(open_port(options.port, options.baud))
    courier = Courier(source, group=options.group)
    _, choice = link.run(courier.check())
    if "path" in choice:
        return _plain(choice), [f"would install {choice['path']} ({choice.get('len')} bytes)"], 0
    return _plain(choice), ["nothing to install", *_reason_lines(reasons_of(choice))], 0


def _push(options: argparse.Namespace) -> Result:
    source = DirectorySource(options.source)
    link = Link(open_port(options.port, options.baud))
    with ProgressLine(sys.stderr, quiet=options.json) as progress:
        courier = Courier(source, progress, group=options.group)
        result = link.run(courier.push(patches=not options.no_patch, reset=not options.no_reset))
    traffic = link.traffic
    values: dict[str, object] = {
        "installed": result.installed,
        "how": result.how,
        "payload_bytes": result.sent,
        "sent_bytes": traffic.sent,
        "received_bytes": traffic.received,
        "status": _plain(result.status),
        "reasons": result.reasons,
    }
    lines, code = _pushed_lines(result, options.no_reset)
    lines.append(f"line: {traffic.sent} bytes sent, {traffic.received} received, framing included")
    return values, lines, code


def _pushed_lines(result: Pushed, no_reset: bool) -> tuple[list[str], int]:
    if result.installed is None:
        refused = any(outcome == "refused" for _, outcome, _ in result.reasons)
        installed = any(outcome == "installed" for _, outcome, _ in result.reasons)
        head = "nothing to install" + (": the board is up to date" if installed and not refused else "")
        return [head, *_reason_lines(result.reasons)], 0 if installed else 1
    sent = f"{result.installed}: {result.how} of {result.sent} bytes"
    running = result.status.get("running")
    version_text = running[0] if isinstance(running, list) and running else "none"
    if no_reset:
        return [f"marked {sent}; it boots at the next reset"], 0
    if result.status.get("trial"):
        return [f"on trial: {sent}", "hint: the image waits to be confirmed: hillhold-device confirm"], 0
    if result.installed.split("/")[1] == version_text:
        return [f"installed and confirmed {sent}"], 0
    return [f"reverted: the trial of {result.installed} failed; the board runs {version_text}"], 1


def _confirm(options: argparse.Namespace) -> Result:
    link = Link(open_port(options.port, options.baud))
    status = link.run(confirm_running(options.group))
    confirmed = status.get("confirmed")
    text = confirmed[0] if isinstance(confirmed, list) and confirmed else "nothing"
    return _plain(status), [f"confirmed {text}"], 0


def _reason_lines(reasons: tuple[tuple[str, str, str], ...]) -> list[str]:
    return [f"  {path}: {outcome}, {reason}" for path, outcome, reason in reasons]


def _plain(body: Body) -> dict[str, object]:
    """The same for JSON: bytes as hexadecimal."""

    def plain(value: object) -> object:
        if isinstance(value, bytes):
            return value.hex()
        if isinstance(value, list):
            return [plain(item) for item in value]
        return value

    return {name: plain(value) for name, value in body.items()}


def _hint(error: HillholdError) -> str | None:
    text = str(error)
    if isinstance(error, BoardRefused):
        return "these are the board's own words; `hillhold-device status` shows what it runs"
    if isinstance(error, OperationalError) and "no answer" in text:
        return "is the board powered, and nothing else (a terminal program, say) using the port?"
    if "Permission denied" in text:
        return "add yourself to the group that owns the port (often dialout), and log in again"
    if "No such file" in text or "could not open port" in text:
        return "`ls /dev/tty*` shows the ports there are"
    return None
