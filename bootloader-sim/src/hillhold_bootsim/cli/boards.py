"""`hillhold-lab boards`: what boards there are, and their files."""

from __future__ import annotations

import json
from typing import Any

import click

from hillhold_bootsim.boards import Board, board_text, shipped_boards
from hillhold_bootsim.boards import board as find_board
from hillhold_signer.cli.terminal import json_option


def describe(board: Board) -> dict[str, Any]:
    """Return what `--json` says of a board; offsets and sizes in bytes."""
    geometry = board.layout.geometry
    return {
        "name": board.name,
        "description": board.description,
        "hardware": board.hardware,
        "boot": board.layout.mode.value,
        "components": [
            {"name": name, "image_size": size} for name, size in zip(board.components, board.image_sizes, strict=True)
        ],
        "flash": {
            "size": geometry.size,
            "sectors": [{"count": count, "size": size} for count, size in geometry.runs],
            "unit": geometry.unit,
            "erased_value": geometry.erased_value,
            "one_way": geometry.otp,
        },
        "partitions": [
            {"name": name, "offset": part.offset, "size": part.size} for name, part in board.layout.partitions().items()
        ],
        "image_keys": [str(path) for path in board.image_keys],
        "buffer": board.buffer,
        "buffers": board.buffers,
        "baud": board.baud,
    }


@click.group(invoke_without_command=True, epilog="Example: hillhold-lab boards show nrf52840dk > my-board.toml")
@json_option
@click.pass_context
def boards(context: click.Context, as_json: bool) -> None:
    """The boards that ship with the lab; any other is a TOML file."""
    if context.invoked_subcommand is not None:
        return
    found = [find_board(name) for name in shipped_boards()]
    if as_json:
        click.echo(json.dumps({"boards": [describe(board) for board in found]}))
        return
    width = max(len(board.name) for board in found)
    for board in found:
        click.echo(f"{board.name:{width}}  {board.description}")


@boards.command(epilog="Example: hillhold-lab boards show nrf52840dk > my-board.toml")
@click.argument("board", metavar="BOARD")
@json_option
def show(board: str, as_json: bool) -> None:
    """Print a board's file, to copy and change, if it describes a board that can be."""
    found = find_board(board)
    click.echo(json.dumps(describe(found)) if as_json else board_text(board), nl=as_json)
