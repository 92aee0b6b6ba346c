"""`hillhold-lab ports`: the serial ports of this computer."""

from __future__ import annotations

import click

from hillhold_signer.cli.terminal import emit, json_option
from hillhold_verifier.ports import find_ports, port_lines, port_values


@click.command(epilog="Example: hillhold-lab ports")
@json_option
def ports(as_json: bool) -> None:
    """Which serial ports there are, with their names and serial numbers."""
    found = find_ports()
    emit(port_values(found), port_lines(found), as_json=as_json)
