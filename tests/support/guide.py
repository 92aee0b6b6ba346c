"""Guides in Markdown, run as they are written: every command, with what it prints."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from click.testing import CliRunner

from hillhold_signer.cli import main
from hillhold_signer.cli.terminal import Edge
from workshop import NOW

_BLOCK = re.compile(r"^```(console|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def answers(command: str) -> str:
    """What a person types: passphrases, and a yes."""
    name = command.partition("file:")[2].partition(".")[0] or command.rpartition(" ")[2]
    phrase = f"correct horse of {name}\n"
    if command.startswith("hillhold key new"):
        return phrase * 2
    return phrase + "y\n"


def steps(text: str) -> Iterator[tuple[str, str]]:
    """Yield (command, expected output) and ("toml", content)."""
    for kind, body in _BLOCK.findall(text):
        if kind == "toml":
            yield "toml", body
            continue
        for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


def run(command: str) -> tuple[int, str]:
    words = shlex.split(command)
    if words[0] == "python3":
        subprocess.run([sys.executable, *words[1:]], check=True)
        return 0, ""
    assert words[0] == "hillhold"
    result = CliRunner().invoke(main, words[1:], input=answers(command), obj=Edge(lambda: NOW))
    return result.exit_code, result.output


def masked(text: str) -> str:
    """Keys are random, and so is what follows from them; a space after a prompt does not survive an editor."""
    text = re.sub(r"\b[0-9a-f]{16,64}\b", lambda match: f"<{len(match[0])} hex>", text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def follow(guide: Path) -> list[str]:
    """Run a guide in the current folder, and return the words after `hillhold` that it used; a `toml` block is ceremony.toml."""
    used = []
    for command, expected in steps(guide.read_text()):
        if command == "toml":
            Path("ceremony.toml").write_text(expected)
            continue
        code, output = run(command)
        assert code == (1 if "error:" in expected else 0), f"{command}\n{output}"
        if expected:
            assert masked(output) == masked(expected), command
        used.append(command.split()[1])
    return used
