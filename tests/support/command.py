"""The `hillhold` command in this process, and the example keys as it is given them."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from hillhold_signer.cli import main
from hillhold_signer.cli.terminal import Edge
from workshop import NOW

KEYS = Path(__file__).parents[2] / "keys-example"


def hillhold(*words: object, answers: str = "", now: int = NOW) -> Result:
    """Run it; what is no expected failure is raised here."""
    result = CliRunner().invoke(main, [str(word) for word in words], input=answers, obj=Edge(lambda: now))
    if not isinstance(result.exception, SystemExit | None):
        raise result.exception
    return result


def uri(name: str) -> str:
    return f"file:{KEYS / name}-public-on-purpose.pem"


def pub(name: str) -> str:
    return str(KEYS / f"{name}-public-on-purpose.pub")
