"""`hillhold completion`, and the person's own file of options."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import get_completion_class

from hillhold_signer.errors import ConfigRefused
from hillhold_signer.storage import read_optional

SHELLS: Final = ("bash", "zsh", "fish")
MAX_OPTIONS: Final = 64 * 1024
"""Bytes of the file of options."""


def options_file() -> Path:
    """Return where a person's options are: HILLHOLD_CONFIG, or the folder for such files on this system."""
    named = os.environ.get("HILLHOLD_CONFIG")
    return Path(named) if named else Path(click.get_app_dir("hillhold")) / "config.toml"


def read_options(path: Path, root: click.Group) -> dict[str, Any]:
    """Return a person's options by command, as click takes them (`default_map`); none where there is no file.

    Flags are not among them: what `--yes` or `--demo` waive is waived where it is seen.

    Raises:
        ConfigRefused: not TOML, or not options of commands that take a value.
        StorageError: it cannot be read.
    """
    try:
        found = tomllib.loads((read_optional(path, MAX_OPTIONS) or b"").decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigRefused(f"{path}", expected="TOML", got=str(error)[:120]) from error
    return _options(found, root, str(path))


def _options(table: Mapping[str, Any], command: click.Command, where: str) -> dict[str, Any]:
    known = {
        name.removeprefix("--"): param.name
        for param in command.params
        if isinstance(param, click.Option) and not param.is_flag
        for name in param.opts
        if name.startswith("--")
    }
    commands = command.commands if isinstance(command, click.Group) else {}
    found: dict[str, Any] = {}
    for name, value in table.items():
        place = f"{where} [{name}]"
        if name in commands and isinstance(value, dict):
            found[name] = _options(value, commands[name], place)
        elif name in known and isinstance(value, (str, int, list)) and not isinstance(value, bool):
            found[str(known[name])] = value
        else:
            expected = f"one of {', '.join([*commands, *known]) or 'none'}"
            raise ConfigRefused(where, expected=expected, got=repr(name)[:80])
    return found


@click.command(short_help="Print what makes a shell complete commands.")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete hillhold's commands and options.

    \b
    Example:
      hillhold completion bash > ~/.local/share/bash-completion/completions/hillhold
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    root = context.find_root()
    click.echo(kind(root.command, {}, "hillhold", "_HILLHOLD_COMPLETE").source())
