"""The terminal's rules, in one place: exit codes, errors, output, passphrases and the clock.

- Exit codes: 0 ok, 1 refused, 2 usage, 3 operational.
- Errors go to standard error as `error: …` and, where there is something to do about it, `hint: …`. An expected failure never
  shows a traceback.
- Results go to standard output, as text or, with `--json`, as one JSON object; so do errors then (`error`, `hint`, `exit`).
- Passphrases and PINs come from a hidden prompt, or line by line from `--passphrase-fd`. A person at a terminal is asked again after
  a wrong passphrase; a descriptor, or a pipe, is not.
- The clock is read here and handed down.
"""

from __future__ import annotations

import json
import os
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
from hillhold_signer.errors import ConfigRefused
from hillhold_signer.keyfiles import MAX_KEY_FILE, Person
from hillhold_verifier.errors import HillholdError

_BLANK: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
"""Letters and marks that show as nothing."""

F = TypeVar("F", bound=Callable[..., Any])

REFUSED: Final = 1
USAGE: Final = 2
OPERATIONAL: Final = 3

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
            return fail(error.format_message(), hint, USAGE)
        except click.Abort:
            return fail("stopped", "unattended, --yes and --passphrase-fd answer", REFUSED)
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


def _fail(message: str, hint: str | None, code: int, *, as_json: bool) -> int:
    if as_json:
        click.echo(json.dumps({"error": message, "hint": hint, "exit": code}))
        return code
    click.echo(f"error: {plain(message)}", err=True)
    if hint:
        click.echo(f"hint: {plain(hint)}", err=True)
    return code


def plain(text: str) -> str:
    """One printable line, in which what does not show, or looks like a space, is written as an escape.

    What is shown must not move the cursor, forge another line, turn the direction of reading, or look like another name.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if _shows(char) else char.encode("unicode_escape").decode() for char in text)


def _shows(char: str) -> bool:
    """`str.isprintable` excludes controls, format characters (direction, zero width), separators and unassigned ones."""
    return (
        char.isprintable()
        and char not in _BLANK
        and not "\ufe00" <= char <= "\ufe0f"
        and not "\U000e0100" <= char <= "\U000e01ef"
    )


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
        return Person(_ask, _tell) if sys.stdin.isatty() else _ask
    lines = iter(read_fd(passphrase_fd).split("\n"))
    return lambda _what: next(lines, "").removesuffix("\r")


def _ask(what: str) -> str:
    return str(click.prompt(what[:1].upper() + what[1:], hide_input=True, err=True))


def _tell(wrong: str) -> None:
    click.echo(f"{plain(wrong)}; once more", err=True)


def read_fd(descriptor: int) -> str:
    """Return the text of a file descriptor; raises `click.UsageError` where there is none."""
    try:
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_KEY_FILE).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--passphrase-fd {descriptor}: {error}") from error


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
