"""What a README tells people to do, done: files that it shows are written, commands that it shows are run.

`<!-- file: NAME -->` before a fenced block writes it; `<!-- run -->` before a ```console block runs its `$ ` lines, all of one page in one
bash and one folder, so that directories, variables and background jobs go on. A line after a command is expected in its output, as the
beginning of a line; `# exit N` is its exit code, 0 where it is not there.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab import BIN

_BLOCK: Final = re.compile(r"^<!-- (run|file: (\S+)) -->\n```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXIT: Final = re.compile(r"# exit (\d+)")
TIMEOUT: Final = 300


@dataclass(frozen=True)
class Step:
    """A command, what its output must hold, and its exit code."""

    command: str
    expected: tuple[str, ...]
    code: int


def files(page: str) -> dict[str, str]:
    """The files that a page shows."""
    return {name: body for _, name, body in _BLOCK.findall(page) if name}


def steps(page: str) -> Iterator[Step]:
    """The commands that a page has run, in order."""
    for kind, _, body in _BLOCK.findall(page):
        if kind == "run":
            for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                command, *rest = part.splitlines()
                codes = [int(found[1]) for line in rest if (found := _EXIT.fullmatch(line))]
                yield Step(command, tuple(line for line in rest if not _EXIT.fullmatch(line)), codes[0] if codes else 0)


def follow(page: str, folder: Path) -> int:
    """Do what a page says in `folder`, and check it; returns how many commands there were."""
    for name, body in files(page).items():
        (folder / name).write_text(body)
    todo = list(steps(page))
    script = [f"export PATH={shlex.quote(str(BIN))}:$PATH"]
    for number, step in enumerate(todo):
        where = shlex.quote(str(folder / f"step-{number}"))
        # A command in the background keeps its own redirection, and has no exit code yet.
        redirected = step.command if step.command.endswith("&") else f"{{ {step.command}\n}} > {where}.out 2>&1"
        script += [redirected, f"echo $? > {where}.code"]
    process = subprocess.Popen(
        ["bash", "-c", "\n".join(script)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        process.wait(TIMEOUT)
    finally:
        with suppress(ProcessLookupError):  # what a page started in the background ends with it
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(TIMEOUT)
    for number, step in enumerate(todo):
        out = folder / f"step-{number}.out"
        text = out.read_text() if out.exists() else ""
        code = (folder / f"step-{number}.code").read_text().strip()
        assert code == str(step.code), f"$ {step.command}\n{text}exit {code}, not {step.code}"
        for line in step.expected:
            assert any(found.startswith(line) for found in text.splitlines()), f"$ {step.command}\n{text}lacks: {line}"
    return len(todo)
