"""The terminal's rules, in one place: exit codes, errors, output, passphrases and the clock.

- Exit codes: 0 ok, 1 refused, 2 usage, 3 operational, 130 interrupted by Ctrl-C.
- Errors go to standard error as `error: …` and, where there is something to do about it, `hint: …`. An expected failure never
  shows a traceback.
- Results go to standard output, as text or, with `--json`, as one JSON object; so do errors then (`error`, `hint`, `exit`).
- Passphrases and PINs come from a hidden prompt, or line by line from `--passphrase-fd`. A person at a terminal is asked again after
  a wrong passphrase; a descriptor, or a pipe (whose lines are read where no terminal is), is not.
- The clock is read here and handed down.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from hillhold_signer.cli.shell import options_file, read_options
from hillhold_signer.durations import parse_duration
from hillhold_signer.errors import ConfigRefused, KeyRefused, SignerRefused
from hillhold_signer.keyfiles import MAX_KEY_FILE, Person
from hillhold_signer.plain import plain
from hillhold_verifier.errors import HillholdError, MisuseError

F = TypeVar("F", bound=Callable[..., Any])

REFUSED: Final = 1
USAGE: Final = 2
OPERATIONAL: Final = 3
INTERRUPTED: Final = 130

MIN_PASSPHRASE: Final = 8
"""Characters; a new passphrase that is shorter gets a warning."""

_INSTEAD: Final = {  # by command, what to do where it knows no service
    "init": "on the service's own computer, `hillhold service init` makes a repository",
    "verify": "`hillhold-device verify URL/repository --root FILE` verifies what a service has published",
    "bundle": "make it from a folder with a copy of what the service has published",
    "provisioning": "make it from a folder with a copy of what the service has published",
}

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
PATH = click.Path(path_type=Path)


@dataclass(frozen=True, slots=True)
class Edge:
    """Where the program meets the world; tests hand in another.

    Attributes:
        clock: returns Unix seconds.
    """

    clock: Callable[[], int]

    def now(self) -> int:
        """Return Unix seconds."""
        return self.clock()


def _clock() -> int:
    return int(time.time())


class Interrupted(HillholdError):
    """Ctrl-C at a hidden prompt; an error of ours passes through the libraries that asked."""

    exit_code = INTERRUPTED


class NoTerminal(MisuseError):
    """A passphrase or PIN is needed, and there is nobody to ask."""

    hint = "--passphrase-fd N"


def edge() -> Edge:
    """Return the edge of the running command."""
    found = click.get_current_context().find_object(Edge)
    return found or Edge(_clock)


class App(click.Group):
    """The root command: turns every expected failure into two lines and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and leave the process with the exit code (a call with `standalone_mode=False` returns it instead)."""
        words = list(sys.argv[1:] if args is None else args)
        code = self._run(words, prog_name, complete_var, windows_expand_args, extra)
        if standalone_mode:
            sys.exit(code)
        return code

    def _run(self, args: list[str], name: str | None, complete: str | None, expand: bool, extra: dict[str, Any]) -> int:
        fail = partial(_fail, as_json="--json" in args)
        try:
            extra = {"default_map": read_options(options_file(), self), **extra}
            result = super().main(args, name, complete, standalone_mode=False, windows_expand_args=expand, **extra)
            return result if isinstance(result, int) else 0
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            return USAGE
        except click.UsageError as error:
            hint = f"see `{error.ctx.command_path} --help`" if error.ctx else None
            if isinstance(error, click.NoSuchOption) and error.option_name == "--service":
                return fail(not_there(error.ctx), hint, USAGE)
            return fail(re.sub(r"\n\s*", " ", error.format_message()), hint, USAGE)
        except click.Abort as error:
            return self._stopped(error, fail)
        except click.ClickException as error:
            return fail(error.format_message(), None, OPERATIONAL)
        except HillholdError as error:
            return fail(str(error), getattr(error, "hint", None), error.exit_code)
        except BrokenPipeError:
            # Whoever read our output has closed it; Python would complain once more while it exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return OPERATIONAL
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            return fail(f"{place}{error.strerror or error}", None, OPERATIONAL)

    @staticmethod
    def _stopped(error: click.Abort, fail: Callable[[str, str | None, int], int]) -> int:
        """Say that a person answered no, or pressed Ctrl-C; click raises the same for both."""
        if isinstance(error.__context__, KeyboardInterrupt):
            if error.__cause__ is None:  # from a prompt, whose line is still open; elsewhere click has ended it
                click.echo(err=True)
            return fail("interrupted", None, INTERRUPTED)
        return fail("nothing was done", None if _at_terminal() else "unattended, --yes answers", REFUSED)


def _fail(message: str, hint: str | None, code: int, *, as_json: bool) -> int:
    if as_json:
        click.echo(json.dumps({"error": message, "hint": hint, "exit": code}))
        return code
    click.echo(f"error: {plain(message)}", err=True)
    if hint:
        click.echo(f"hint: {plain(hint)}", err=True)
    return code


def not_there(ctx: click.Context | None) -> str:
    """Return why a command does not work on a service, and what to do instead."""
    instead = _INSTEAD.get(str(ctx.command.name)) if ctx is not None else None
    return f"this command works on this computer alone{f': {instead}' if instead else ''}"


def emit(value: Mapping[str, object], lines: Iterable[str], *, as_json: bool) -> None:
    """Print a result."""
    if as_json:
        click.echo(json.dumps(value, indent=2))
        return
    for line in lines:
        click.echo(plain(line))


def whose(keyids: Iterable[str], people: Mapping[str, str]) -> str:
    """Return the names behind key ids, each once."""
    return ", ".join(sorted({people.get(keyid, keyid[:16]) for keyid in keyids}))


def json_option(function: F) -> F:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(function)


def passphrase_option(function: F) -> F:
    """Add `--passphrase-fd`."""
    help_text = "Read passphrases and PINs from this file descriptor, one line for each key, instead of asking."
    return click.option("--passphrase-fd", type=click.IntRange(min=0), metavar="N", help=help_text)(function)


def secrets(passphrase_fd: int | None) -> Callable[[str], str]:
    """Return securesystemslib's secrets handler: a hidden prompt, or the next line of a file descriptor."""
    if passphrase_fd is None:
        return Person(_ask, _tell) if _at_terminal() else _ask
    lines = iter(read_fd(passphrase_fd).split("\n"))
    return lambda _what: next(lines, "").removesuffix("\r")


def new_passphrase(passphrase_fd: int | None) -> str:
    """Return a passphrase for a new key: asked twice, or the next line of a file descriptor; raises `NoTerminal`, `KeyRefused`."""
    phrase = _new_passphrase() if passphrase_fd is None else secrets(passphrase_fd)("passphrase")
    if 0 < len(phrase) < MIN_PASSPHRASE:
        click.echo("short: anyone who copies the file can try all of these", err=True)
    return phrase


def _new_passphrase() -> str:
    while True:
        phrase = _ask("passphrase", empty=True)
        wrong = "empty; --no-passphrase leaves it unencrypted"
        if phrase:
            if _ask("the same again", empty=True) == phrase:
                return phrase
            wrong = "these are two different passphrases"
        if not _at_terminal():
            raise KeyRefused(f"passphrase: {wrong}")
        _tell(wrong)


def _at_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()  # None: it was closed


def _ask(what: str, *, empty: bool = False) -> str:
    """Ask at the terminal, or read the next line of a pipe: `getpass` would warn there. An empty answer is asked again unless `empty`."""
    label = plain(what[:1].upper() + what[1:])
    if _at_terminal():
        default = "" if empty else None
        try:
            return str(click.prompt(label, default, hide_input=True, show_default=False, err=True))
        except click.Abort as error:
            if isinstance(error.__context__, KeyboardInterrupt):
                raise Interrupted("interrupted") from error
            raise SignerRefused("nothing was done") from error
    line = sys.stdin.readline() if sys.stdin is not None else ""
    if not line:
        named = what.removeprefix("passphrase of ")
        need = f"{named} is encrypted" if named != what else f"the {what} is needed"
        raise NoTerminal(f"{need}, and there is no terminal to ask at")
    click.echo(f"{label}:", err=True)  # what the line was taken for
    return line.rstrip("\r\n")


def _tell(wrong: str) -> None:
    click.echo(f"{plain(wrong)}; once more", err=True)


def read_fd(descriptor: int) -> str:
    """Return the text of a file descriptor; raises `click.UsageError` where there is none."""
    try:
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_KEY_FILE).decode()
    except OSError as error:
        raise click.UsageError(f"--passphrase-fd {descriptor}: no such descriptor is open for reading") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(f"--passphrase-fd {descriptor}: what it gives is not UTF-8") from error


class Duration(click.ParamType[int]):
    """A duration such as 30d, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse it; raises `click.UsageError`."""
        if isinstance(value, int):
            return value
        try:
            return parse_duration(value)
        except ConfigRefused as error:
            self.fail(str(error), param, ctx)
