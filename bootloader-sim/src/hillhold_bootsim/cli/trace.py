"""`hillhold-lab trace`: a capture of a line, decoded."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import click

from hillhold_bootsim.trace import Tracer
from hillhold_bootsim.tracetext import event_lines, event_values, head_lines, raw_lines, summary_lines
from hillhold_signer.cli.terminal import FILE, REFUSED, emit, json_option
from hillhold_signer.plain import plain
from hillhold_verifier.capture import CaptureError, Chunk, read_chunks, read_head
from hillhold_verifier.smp import HILLHOLD_GROUP

_WIDTH = 100
"""Columns where there is no terminal."""


@click.command(epilog="Example: hillhold-lab trace push.capture | less")
@click.argument("file", type=FILE)
@click.option("--raw", is_flag=True, help="Print the bytes of every write and read instead of what they mean.")
@click.option(
    "--group",
    type=click.IntRange(0, 65535),
    default=HILLHOLD_GROUP,
    show_default=True,
    help="SMP group of Hillhold on this board.",
)
@json_option
def trace(file: Path, raw: bool, group: int, as_json: bool) -> int:
    """Print what went over a line, as `hillhold-device … --capture FILE` kept it.

    Each message with its time in seconds, > for what was sent and < for what came, how it was framed, sequence number, command and body;
    an answer with the time since its request was sent. In between, text of the board, and what was damaged on the way.
    """
    with file.open("rb") as opened:
        head = read_head(opened)
        chunks = _Chunks(opened)
        if raw and not as_json:
            _print(head_lines(head))
            for chunk in chunks:
                _print(raw_lines(chunk))
            return chunks.end()
        tracer = Tracer()
        kept = []
        for chunk in chunks:
            tracer.feed(chunk)
            if raw:
                kept.append({"t": chunk.time, "d": ">" if chunk.sent else "<", "b": chunk.data.hex()})
    found = tracer.finish()
    if as_json:
        about = {"port": head.port, "baud": head.baud, "start": head.start}
        events = [event_values(event, group) for event in found.events]
        values = {"capture": about, "events": events, "summary": found.summary(), **({"raw": kept} if raw else {})}
        emit({**values, "problem": str(chunks.problem) if chunks.problem else None}, [], as_json=True)
        return REFUSED if chunks.problem else 0
    _print(head_lines(head))
    _print(event_lines(found.events, group, shutil.get_terminal_size((_WIDTH, 0)).columns))
    _print(summary_lines(found))
    return chunks.end()


class _Chunks:
    """The chunks of a capture up to the first that is malformed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.problem: CaptureError | None = None

    def __iter__(self) -> Iterator[Chunk]:
        try:
            yield from read_chunks(self._file)
        except CaptureError as error:
            self.problem = error

    def end(self) -> int:
        """Return the exit code; raises what was wrong, now that the good part has been shown."""
        if self.problem:
            raise self.problem
        return 0


def _print(lines: Iterator[str] | list[str]) -> None:
    for line in lines:
        click.echo(plain(line))
