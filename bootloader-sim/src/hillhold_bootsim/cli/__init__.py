"""The `hillhold-lab` command: a virtual board on a serial port, and the demonstration."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import click

from hillhold_bootsim.cli.attack import attack
from hillhold_bootsim.cli.board import board
from hillhold_bootsim.cli.boards import boards
from hillhold_bootsim.cli.demo import demo
from hillhold_bootsim.cli.identify import identify
from hillhold_bootsim.cli.line import line
from hillhold_bootsim.cli.plan import plan
from hillhold_bootsim.cli.ports import ports
from hillhold_bootsim.cli.powercut import powercut
from hillhold_bootsim.cli.report import report
from hillhold_bootsim.cli.run import run
from hillhold_bootsim.cli.selfcheck import command as selfcheck
from hillhold_bootsim.cli.trace import trace
from hillhold_signer.cli.terminal import App
from hillhold_verifier.errors import OperationalError

__all__ = ["main"]


class Lab(App):
    """The same rules of the terminal, with the lab's words."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; raises `OperationalError` where it is interrupted."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise OperationalError("interrupted") from None


@click.group(
    cls=Lab, no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(version("hillhold-bootsim"), prog_name="hillhold-lab")
def main() -> None:
    """A board without a board: try firmware updates, and attack them, on a virtual one.

    \b
      hillhold-lab demo   the whole way, in under a minute
      hillhold-lab attack try to break a board, and say what held
      hillhold-lab board  a virtual board for hillhold-device, or any SMP tool
      hillhold-lab boards which boards there are
      hillhold-lab identify  what a board is, and what a test of it could do
      hillhold-lab line   a serial line with a speed and faults, in front of any port
      hillhold-lab plan   what attacks would do to a board, and what stays
      hillhold-lab powercut  cut the power of an update at every flash operation
      hillhold-lab ports  which serial ports there are
      hillhold-lab report the report on a campaign: make it, check it
      hillhold-lab selfcheck  show that the attacks find what they are for
      hillhold-lab run    conduct a campaign of all that, and make its report
      hillhold-lab trace  what went over a line that hillhold-device captured
    """


for _command in (attack, board, boards, demo, identify, line, plan, ports, powercut, report, run, selfcheck, trace):
    main.add_command(_command)
