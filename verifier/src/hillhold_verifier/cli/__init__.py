"""`hillhold-device`: carry an update to a board on a serial port, and ask a board what it runs.

Exit codes: 0 ok, 1 refused, 2 usage, 3 operational. Errors go to standard error as `error: …` and, where there is something to do about
it, `hint: …`; with `--json` as one object to standard output. An expected failure never shows a traceback.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn, TypeVar

from hillhold_verifier.answers import BoardRefused, Body, plan_of, reasons_of
from hillhold_verifier.cli.show import Progress as ProgressLine
from hillhold_verifier.cli.show import plain, status_lines
from hillhold_verifier.cli.verify import add_verify
from hillhold_verifier.courier import Courier, Pause, Pushed, Request, confirm_running, read_status
from hillhold_verifier.errors import HillholdError, MisuseError, OperationalError
from hillhold_verifier.link import Link, open_port
from hillhold_verifier.select import Outcome
from hillhold_verifier.smp import HILLHOLD_GROUP
from hillhold_verifier.sources import DirectorySource
from hillhold_verifier.times import show_span

T = TypeVar("T")
Result = tuple[dict[str, object], list[str], int]


class _UsageError(MisuseError):
    """The command line is not one; the hint names the help that says more."""

    def __init__(self, message: str, command: str) -> None:
        super().__init__(message)
        self.command = command


class _Parser(argparse.ArgumentParser):
    """Raises instead of printing, so that every error looks alike."""

    def error(self, message: str) -> NoReturn:
        raise _UsageError(message, self.prog)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0 ok, 1 refused, 2 usage, 3 operational."""
    given = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in given
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character shows another
    try:
        options = _parser().parse_args(given)
        run: Callable[[argparse.Namespace], Result] = options.run
        values, lines, code = run(options)
        print(json.dumps(values) if as_json else "\n".join(plain(line) for line in lines), flush=True)
    except HillholdError as error:
        return _fail(str(error), _hint(error), error.exit_code, as_json=as_json)
    except KeyboardInterrupt:
        return _fail(
            "interrupted", "run the same command again; the board goes on where it stopped", 3, as_json=as_json
        )
    except BrokenPipeError:
        # Whoever read our output has closed it; Python would complain once more while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 3
    return code


def _fail(message: str, hint: str | None, code: int, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": message, "hint": hint, "exit": code}))
        return code
    print(f"error: {plain(message)}", file=sys.stderr)
    if hint:
        print(f"hint: {plain(hint)}", file=sys.stderr)
    return code


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"expected a number from {low} to {high}, got {text!r}")
        return int(text)

    return parse


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="hillhold-device", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--version", action="version", version=f"hillhold-device {version('hillhold-verifier')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(
        name: str, text: str, run: Callable[[argparse.Namespace], Result], example: str
    ) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=text, description=text, epilog=f"example: hillhold-device {example}")
        found.add_argument("--port", required=True, help="serial port, pseudo-terminal or socket://HOST:PORT")
        found.add_argument(
            "--baud", type=_number(1, 10_000_000), default=115200, help="line rate in bit/s (default: %(default)s)"
        )
        found.add_argument(
            "--group",
            type=_number(0, 65535),
            default=HILLHOLD_GROUP,
            help="SMP group of Hillhold (default: %(default)s)",
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
    add_verify(commands)
    return parser


@contextmanager
def _link(options: argparse.Namespace) -> Iterator[Link]:
    stream = open_port(options.port, options.baud)
    try:
        yield Link(stream)
    finally:
        stream.close()


def _ask(options: argparse.Namespace, conversation: Generator[Request | Pause, Body, T]) -> T:
    with _link(options) as link:
        return link.run(conversation)


def _status(options: argparse.Namespace) -> Result:
    identity, status = _ask(options, read_status(options.group))
    return _values({**identity, **status}), status_lines(identity, status), 0


def _check(options: argparse.Namespace) -> Result:
    source = DirectorySource(options.source)
    _, choice = _ask(options, Courier(source, group=options.group).check())
    grace = choice.get("grace")
    noted = [f"note: timestamp or snapshot expired {show_span(grace)} ago"] if isinstance(grace, int) else []
    if plan := plan_of(choice):
        return (
            _values(choice),
            [f"would install {entry.get('path')} ({entry.get('len')} bytes)" for entry in plan] + noted,
            0,
        )
    lines, code = _nothing(reasons_of(choice))
    return _values(choice), lines + noted, code


def _push(options: argparse.Namespace) -> Result:
    source = DirectorySource(options.source)
    with _link(options) as link, ProgressLine(sys.stderr, quiet=options.json) as progress:
        courier = Courier(source, progress, group=options.group)
        result = link.run(courier.push(patches=not options.no_patch, reset=not options.no_reset))
    traffic = link.traffic
    values: dict[str, object] = {
        "installed": result.paths,
        "how": result.how,
        "payload_bytes": result.sent,
        "sent_bytes": traffic.sent,
        "received_bytes": traffic.received,
        "status": _values(result.status),
        "reasons": result.reasons,
    }
    lines, code = _pushed_lines(result, options.no_reset)
    lines.append(f"line: {traffic.sent} bytes sent, {traffic.received} received, framing included")
    return values, lines, code


def _pushed_lines(result: Pushed, no_reset: bool) -> tuple[list[str], int]:
    if result.installed is None:
        return _nothing(result.reasons)
    sent = f"{result.installed}: {result.how} of {result.sent} bytes"
    running = result.status.get("running")
    version_text = running[0] if isinstance(running, list) and running else "nothing"
    if no_reset:
        return [f"marked {sent}; it boots at the next reset"], 0
    if result.status.get("trial"):
        return [f"on trial: {sent}", "hint: the image waits to be confirmed: hillhold-device confirm"], 0
    if result.runs:
        return [f"installed and confirmed {sent}"], 0
    return [f"reverted: the trial of {result.installed} failed; the board runs {version_text}"], 1


def _confirm(options: argparse.Namespace) -> Result:
    status = _ask(options, confirm_running(options.group))
    confirmed = status.get("confirmed")
    text = confirmed[0] if isinstance(confirmed, list) and confirmed else "nothing"
    return _values(status), [f"confirmed {text}"], 0


def _nothing(reasons: tuple[tuple[str, str, str], ...]) -> tuple[list[str], int]:
    """What to say, and the exit code, where nothing is installable."""
    outcomes = {outcome for _, outcome, _ in reasons}
    current = Outcome.INSTALLED.value in outcomes
    # What is refused is below the confirmed image; what was passed over may be newer.
    head = "nothing to install" + (
        ": the board is up to date" if current and Outcome.PASSED_OVER.value not in outcomes else ""
    )
    return [head, *(f"  {path}: {outcome}, {reason}" for path, outcome, reason in reasons)], 0 if current else 1


def _values(body: Body) -> dict[str, object]:
    """The same for JSON: bytes as hexadecimal."""

    def shown(value: object) -> object:
        if isinstance(value, bytes):
            return value.hex()
        if isinstance(value, list):
            return [shown(item) for item in value]
        if isinstance(value, dict):
            return {name: shown(item) for name, item in value.items()}
        return value

    return {name: shown(value) for name, value in body.items()}


_HINTS = (
    ("no answer", "is the board powered, and nothing else (a terminal program, say) using the port?"),
    ("in use by another", "one program at a time: end the other, or wait for it"),
    ("^port .*Permission denied", "add yourself to the group that owns the port (often dialout), and log in again"),
    ("Connection refused", "nothing listens there; is the virtual board or the network adapter running?"),
    (
        "disconnect|reset by peer|Broken pipe|Input/output|[Tt]imeout",
        "is the board still there, and nothing else using the port? run the same command again; it goes on where it stopped",
    ),
    ("not a repository", "SOURCE is the folder that `hillhold publish` wrote: a repository, or its public/"),
    ("the repository lacks", "copy the whole repository; `hillhold verify` says whether it is complete"),
    ("^target ", "copy the whole repository; `hillhold verify` says whether it is complete"),
    ("does not speak", "--port names another device, or --group differs from the board's"),
    ("^port ", "`ls /dev/tty*` shows the ports there are"),
)
"""What to do, by a pattern of an operational error; the first that fits."""


def _hint(error: HillholdError) -> str | None:
    if isinstance(error, _UsageError):
        return f"see `{error.command} --help`"
    if isinstance(error, BoardRefused):
        return "these are the board's own words; `hillhold-device status` shows what it runs"
    if isinstance(error, OperationalError):
        return next((hint for words, hint in _HINTS if re.search(words, str(error))), None)
    return None
