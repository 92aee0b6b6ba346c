"""A guide, run as it is written: its console blocks in the order of the page, through the commands' own entry points, each output compared.

What a person types is answered: a passphrase by the key's name, and a yes. Keys are random, and so is what follows from them: hexadecimal
numbers are compared by their length. `…` stands for anything.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from click.testing import CliRunner

from hillhold_signer.cli import main
from hillhold_signer.cli.terminal import Edge

_BLOCK: Final = re.compile(r"^```(console|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def sections(page: str) -> list[tuple[str, str]]:
    """The sections of a page, with their titles; what comes before the first has none."""
    first, *rest = re.split(r"^## ", page, flags=re.MULTILINE)
    return [("", first), *((text.partition("\n")[0], text) for text in rest)]


def follow(text: str, clock: Callable[[], int]) -> list[str]:
    """Do what a text says in the working directory, and check it; returns the commands."""
    commands = []
    for command, expected in steps(text):
        if command == "toml":
            Path("ceremony.toml").write_text(expected)
            continue
        code, output = run(command, clock)
        assert code == (1 if "error:" in expected else 0), f"{command}\n{output}"
        if expected:
            assert matches(output, expected), f"{command}\n{output}"
        commands.append(command)
    return commands


def steps(text: str) -> Iterator[tuple[str, str]]:
    """Yield (command, expected output) and ("toml", content)."""
    for kind, body in _BLOCK.findall(text):
        if kind == "toml":
            yield "toml", body
            continue
        for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


def run(command: str, clock: Callable[[], int]) -> tuple[int, str]:
    """Run one command; others than ours are run by the shell, and have no output to compare."""
    words = shlex.split(command)
    if words[0] == "hillhold":
        result = CliRunner().invoke(main, words[1:], input=_answers(command), obj=Edge(clock))
        return result.exit_code, result.output
    program = [sys.executable, *words[1:]] if words[0] == "python3" else words
    subprocess.run(program, check=True)
    return 0, ""


def matches(output: str, expected: str) -> bool:
    """Whether an output is what a guide shows."""
    return re.fullmatch(re.escape(masked(expected)).replace("…", ".*"), masked(output), re.DOTALL) is not None


def masked(text: str) -> str:
    """A text without what differs from run to run; a space after a prompt does not survive an editor."""
    text = re.sub(r"\b[0-9a-f]{16,64}\b", lambda match: f"<{len(match[0])} hex>", text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def _answers(command: str) -> str:
    name = command.partition("file:")[2].partition(".")[0] or command.rpartition(" ")[2]
    phrase = f"correct horse of {name}\n"
    if command.startswith("hillhold key new"):
        return phrase * 2
    return phrase + "y\n"
