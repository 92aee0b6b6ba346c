"""The line that a command's options name: found, opened and, with --capture, watched; and the command that lists ports."""

from __future__ import annotations

import argparse
import sys
import time

from hillhold_verifier.capture import Capture
from hillhold_verifier.cli.show import Result, plain
from hillhold_verifier.errors import HillholdError
from hillhold_verifier.hints import login_error
from hillhold_verifier.link import Stream, open_port
from hillhold_verifier.ports import find_port, find_ports, port_lines, port_values


def ports(_options: argparse.Namespace) -> Result:
    """Which serial ports there are."""
    found = find_ports()
    return port_values(found), port_lines(found), 0


def open_line(options: argparse.Namespace) -> Stream:
    """Open the port that --port means; says which it is where that is not what was asked for.

    Raises:
        OperationalError, MisuseError: no port, or several, fit; it does not open; a login holds it; --capture names a file that exists.
    """
    port = find_port(options.port)
    if port.device != options.port and not options.json:
        print(f"port {plain(str(port))}", file=sys.stderr, flush=True)
    if error := login_error(port.device):
        raise error
    stream = open_port(port.device, options.baud, lambda: find_port(options.port).device)
    if options.capture is None:
        return stream
    try:
        return Capture(
            stream,
            options.capture,
            port=port.device,
            baud=options.baud,
            start=int(time.time()),
            clock=time.monotonic,
            failed=lambda words: print(f"warning: {plain(words)}", file=sys.stderr, flush=True),
        )
    except HillholdError:
        stream.close()
        raise
