"""The line that a command's options name: found, opened and, with --capture, watched; and the command that lists ports."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import AbstractContextManager

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


class Line(AbstractContextManager["Line"]):
    """What --port, --baud and --capture mean; `open` opens it, also again after it was away. Leaving ends the capture.

    A capture is made when the port is first open: one that does not open leaves no file.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._capture: Capture | None = None
        self._told = options.json

    def open(self) -> Stream:
        """Open the port, which may have another number by now; says which it is where that is not what was asked for.

        Raises:
            OperationalError, MisuseError: no port, or several, fit; it does not open; a login holds it; --capture names a file
                that exists.
        """
        options = self._options
        port = find_port(options.port)
        if port.device != options.port and not self._told:
            print(f"port {plain(str(port))}", file=sys.stderr, flush=True)
        self._told = True
        if error := login_error(port.device):
            raise error
        stream = open_port(port.device, options.baud)
        if options.capture is None:
            return stream
        try:
            self._capture = self._capture or _capture(options, port.device)
        except HillholdError:
            stream.close()
            raise
        return self._capture.watch(stream)

    def __exit__(self, *_: object) -> None:
        if self._capture is not None:
            self._capture.close()


def _capture(options: argparse.Namespace, port: str) -> Capture:
    return Capture(
        options.capture,
        port=port,
        baud=options.baud,
        start=int(time.time()),
        clock=time.monotonic,
        failed=lambda words: print(f"warning: {plain(words)}", file=sys.stderr, flush=True),
    )
