"""`hillhold-device`: bring a device up to date, this one or a board on a serial port, and ask it what it runs.

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
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

from hillhold_verifier.answers import BoardRefused
from hillhold_verifier.cli import board, stock
from hillhold_verifier.cli.line import ports
from hillhold_verifier.cli.show import Result, plain
from hillhold_verifier.cli.verify import add_verify
from hillhold_verifier.errors import HillholdError, MisuseError, OperationalError, UnprovisionedError
from hillhold_verifier.framing import Transport
from hillhold_verifier.smp import HILLHOLD_GROUP

NAME: Final = re.compile(r"[a-z0-9][a-z0-9._+-]*")
"""A product or hardware as metadata can name it; a device of any other could never be updated."""
Run: TypeAlias = Callable[[argparse.Namespace], Result]


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
        run: Run = options.run
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


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected {NAME.pattern}, got {text!r}")
    return text


def _transport(text: str) -> Transport | None:
    names = ["auto", *(transport.value for transport in Transport)]
    if text not in names:
        raise argparse.ArgumentTypeError(f"expected {', '.join(names)}, got {text!r}")
    return None if text == "auto" else Transport(text)


def _digest(text: str) -> bytes:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise argparse.ArgumentTypeError(f"expected 64 lowercase hexadecimal digits, got {text!r}")
    return bytes.fromhex(text)


def _here(options: argparse.Namespace) -> Result:
    """The command on this device; a port's options would go unread."""
    if options.capture is not None and options.port is None:
        raise MisuseError("--capture keeps what goes over a line: expected --port, too")
    try:
        from hillhold_verifier.cli import here
    except ImportError as error:
        raise OperationalError(f"this needs a Linux board ({error}); a board on a line is named with --port") from None
    return here.COMMANDS[options.command](options)


def _either(on_board: Run) -> Run:
    return lambda options: on_board(options) if options.port is not None else _here(options)


def _forget(options: argparse.Namespace) -> Result:
    return stock.forget(options) if options.host_state is not None else _here(options)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="hillhold-device", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--version", action="version", version=f"hillhold-device {version('hillhold-verifier')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="command")

    def command(name: str, text: str, run: Run, example: str) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=text, description=text, epilog=f"example: hillhold-device {example}")
        found.add_argument("--json", action="store_true", help="print one JSON object")
        found.set_defaults(run=run, port=None, capture=None)
        return found

    status = command("status", "what a device is, runs and trusts", _either(board.status), "status --port /dev/ttyACM0")
    check = command(
        "check", "what a device would install, and why", _either(board.check), "check repo --port /dev/ttyACM0"
    )
    push = command("push", "bring a board on a line up to date", board.push, "push repo --port /dev/ttyACM0")
    update = command("update", "bring this device up to date", _here, "update repo --reboot")
    confirm = command(
        "confirm",
        "confirm what runs, once its own test has passed",
        _either(board.confirm),
        "confirm --port /dev/ttyACM0",
    )
    reject = command("reject", "what runs on trial here has failed its own test", _here, "reject --reboot")
    forget = command("forget", "let an image whose trial failed here be tried again", _forget, "forget --all")
    forget.add_argument("trial", nargs="?", type=_digest, help="the trial's id, a SHA-256 (see `status --json`)")
    forget.add_argument("--all", action="store_true", help="every trial that failed")
    serve = command("serve", "answer couriers on a line of this device", _here, "serve --port /dev/ttyGS0")
    provision = command(
        "provision",
        "make this a device that trusts a root",
        _here,
        "provision --root 1.root.json --product pump --hardware pi4-a --id unit-7",
    )
    command("ports", "which serial ports there are, with their names and serial numbers", ports, "ports")
    for sub in (check, push, update):
        sub.add_argument(
            "source", metavar="SOURCE", help="a published repository: its folder, a bundle of it, or its URL"
        )
    for sub in (push, update):
        sub.add_argument("--no-patch", action="store_true", help="take the whole image even where there is a patch")
    for sub in (check, push):
        _stock_options(sub)
    push.add_argument(
        "--no-way-back",
        action="store_true",
        help="stock board in MCUboot's serial recovery: overwrite the image that runs",
    )
    forget.add_argument(
        "--host-state", type=Path, metavar="DIR", help="on the stock board for which this host verifies"
    )
    push.add_argument("--no-reset", action="store_true", help="leave the image marked; it boots at the next reset")
    for sub in (update, reject):
        sub.add_argument("--reboot", action="store_true", help="restart the device afterwards")
    _provisioning(provision)
    for sub in (status, check, confirm):
        _line_options(sub, required=False)
        _config_option(sub)
    for sub in (push, serve):
        _line_options(sub, required=True)
    for sub in (update, reject, forget, serve, provision):
        _config_option(sub)
    add_verify(commands)
    return parser


def _line_options(parser: argparse.ArgumentParser, *, required: bool) -> None:
    without = "" if required else "; without it, this device"
    parser.add_argument(
        "--port",
        required=required,
        help="serial port: its device, name, serial number or a part of its description (see `ports`); a pseudo-terminal; "
        f"or socket://HOST:PORT{without}",
    )
    parser.add_argument(
        "--baud", type=_number(1, 10_000_000), default=115200, help="line rate in bit/s (default: %(default)s)"
    )
    parser.add_argument(
        "--group", type=_number(0, 65535), default=HILLHOLD_GROUP, help="SMP group of Hillhold (default: %(default)s)"
    )
    parser.add_argument(
        "--transport",
        type=_transport,
        default=None,
        metavar="{auto,console,cobs,raw}",
        help="how messages lie on the line (default: auto, which asks the board)",
    )
    parser.add_argument(
        "--capture",
        type=Path,
        metavar="FILE",
        help="keep all that goes over the line in a new file, with times (`hillhold-lab trace FILE` prints it)",
    )


def _stock_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("a stock board, which has no metadata: this host verifies for it")
    group.add_argument(
        "--host-state", type=Path, metavar="DIR", help="what this host holds for that one board; made at the first push"
    )
    group.add_argument("--root", type=Path, metavar="FILE", help="first push: the root that is trusted from then on")
    group.add_argument("--product", type=_name, help="first push: its product line")
    group.add_argument("--hardware", type=_name, help="first push: its hardware id")
    group.add_argument(
        "--component",
        action="append",
        type=_name,
        metavar="NAME",
        help="first push: its components, in the order of MCUboot's image numbers (default: app)",
    )


def _config_option(parser: argparse.ArgumentParser) -> None:
    default = Path("/etc/hillhold/device.toml")
    parser.add_argument("--config", type=Path, default=default, help="this device's file (default: %(default)s)")


def _provisioning(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, required=True, metavar="FILE", help="the root that it trusts from then on")
    parser.add_argument("--product", type=_name, required=True, help="its product line")
    parser.add_argument("--hardware", type=_name, required=True, help="its hardware id")
    parser.add_argument("--id", required=True, help="its own id")
    parser.add_argument(
        "--factory",
        action="append",
        default=[],
        metavar="TARGET-PATH=FILE",
        help="what the factory wrote into slot 0 (pump/1.0.0/app.bin=app.bin); once for each component",
    )
    parser.add_argument(
        "--security-counter",
        type=_number(0, 2**32 - 1),
        default=0,
        metavar="N",
        help="of factory images that do not state one (default: %(default)s)",
    )
    parser.add_argument("--again", action="store_true", help="replace the state that is there")


_HINTS = (
    ("certificate verify failed", "if the server has a CA of its own, name its certificate in SSL_CERT_FILE"),
    ("^https?://.* status 40[137]", "is the URL right? for a password: https://USER:PASSWORD@HOST/…"),
    ("^https?://", "is the server up, and the URL right? run the same command again; it goes on where it stopped"),
    (
        "no answer",
        "is the board powered, TX and RX crossed, --baud its rate, and nothing else (a terminal program, say) using the port?",
    ),
    ("in use by another", "one program at a time: end the other, or wait for it"),
    ("[.]toml: No such file", "--config names this device's file; a board on a line is named with --port"),
    ("^U-Boot environment", "has U-Boot saved its environment once (saveenv), and does /etc/fw_env.config say where?"),
    ("not installed", "install it with the system's package manager"),
    ("Connection refused", "nothing listens there; is the virtual board or the network adapter running?"),
    (
        "disconnect|reset by peer|Broken pipe|Input/output|[Tt]imeout",
        "is the board still there, and nothing else using the port? run the same command again; it goes on where it stopped",
    ),
    (
        "not a repository",
        "SOURCE is a folder that `hillhold publish` wrote (a repository, or its public/), a bundle, or a URL",
    ),
    ("the repository lacks", "copy the whole repository; `hillhold verify` says whether it is complete"),
    ("^target ", "copy the whole repository; `hillhold verify` says whether it is complete"),
    ("does not speak", "--port names another device, or --group differs from the board's"),
    ("^port ", "`hillhold-device ports` shows the ports there are"),
)
"""What to do, by a pattern of an operational error; the first that fits."""


def _hint(error: HillholdError) -> str | None:
    if error.hint:
        return error.hint
    if isinstance(error, _UsageError):
        return f"see `{error.command} --help`"
    if isinstance(error, UnprovisionedError):
        return "`hillhold-device provision` makes it a device again; whoever may do that has to know that it is this device"
    if "provisioned before" in str(error):
        return "--again replaces what the device is, whom it trusts and what it remembers"
    if isinstance(error, BoardRefused):
        return "these are the board's own words; `hillhold-device status` shows what it runs"
    if isinstance(error, OperationalError):
        return next((hint for words, hint in _HINTS if re.search(words, str(error))), None)
    return None
