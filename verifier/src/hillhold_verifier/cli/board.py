"""Commands for a board on a line: the courier's half of `hillhold-device`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hillhold_verifier.cli import stock
from hillhold_verifier.cli.line import open_line
from hillhold_verifier.cli.show import Progress as ProgressLine
from hillhold_verifier.cli.show import Result, check_result, nothing, plain, shown, status_lines
from hillhold_verifier.conversation import Conversation, T
from hillhold_verifier.courier import Courier, Pushed
from hillhold_verifier.errors import OperationalError
from hillhold_verifier.exchange import Exchange
from hillhold_verifier.hints import silence_hint
from hillhold_verifier.link import Link
from hillhold_verifier.sources import open_source
from hillhold_verifier.stock import StockBoard, confirm_any, status_of


@contextmanager
def _link(options: argparse.Namespace) -> Iterator[Link]:
    stream = open_line(options)
    exchange = Exchange(transport=options.transport, sequence=os.urandom(1)[0], baud=options.baud)
    try:
        yield Link(stream, exchange, lambda words: print(f"note: {plain(words)}", file=sys.stderr, flush=True))
    except OperationalError as error:
        if error.hint is None and "no answer" in str(error) and (hint := silence_hint(exchange.text, options.baud)):
            raise OperationalError(str(error), hint=hint) from None
        raise
    finally:
        stream.close()


def _ask(options: argparse.Namespace, conversation: Conversation[T]) -> T:
    with _link(options) as link:
        return link.run(conversation)


def status(options: argparse.Namespace) -> Result:
    """What a board is, runs and trusts."""
    found = _ask(options, status_of(options.group))
    if isinstance(found, StockBoard):
        return stock.board_values(found), stock.board_lines(found), 0
    identity, status = found
    return shown({**identity, **status}), status_lines(identity, status), 0


def check(options: argparse.Namespace) -> Result:
    """What a board would install, and why nothing else."""
    if options.host_state is not None:
        with _link(options) as link:
            return stock.check(options, link)
    _, choice = _ask(options, Courier(open_source(options.source), group=options.group).check())
    return check_result(choice)


def push(options: argparse.Namespace) -> Result:
    """Bring a board up to date."""
    if options.host_state is not None:
        with _link(options) as link:
            return stock.push(options, link)
    stock.refuse_options(options)
    source = open_source(options.source)
    with _link(options) as link, ProgressLine(sys.stderr, quiet=options.json) as progress:
        courier = Courier(source, progress, group=options.group)
        result = link.run(courier.push(patches=not options.no_patch, reset=not options.no_reset))
    traffic = link.traffic
    values: dict[str, object] = {
        "installed": result.paths,
        "how": result.how,
        "payload_bytes": result.sent,
        "sent_bytes": traffic.sent,
        "received_bytes": traffic.received,
        "status": shown(result.status),
        "reasons": result.reasons,
    }
    lines, code = _pushed_lines(result, options.no_reset)
    lines.append(f"line: {traffic.sent} bytes sent, {traffic.received} received, framing included")
    return values, lines, code


def _pushed_lines(result: Pushed, no_reset: bool) -> tuple[list[str], int]:
    if result.installed is None:
        return nothing(result.reasons)
    sent = f"{result.installed}: {result.how} of {result.sent} bytes"
    running = result.status.get("running")
    version_text = running[0] if isinstance(running, list) and running else "nothing"
    if no_reset:
        return [f"marked {sent}; it boots at the next reset"], 0
    if result.status.get("trial"):
        return [f"on trial: {sent}", "hint: the image waits to be confirmed: hillhold-device confirm"], 0
    if result.runs:
        return [f"installed and confirmed {sent}"], 0
    return [f"reverted: the trial of {result.installed} failed; the board runs {version_text}"], 1


def confirm(options: argparse.Namespace) -> Result:
    """Ask a board to confirm what it runs."""
    status = _ask(options, confirm_any(options.group))
    if isinstance(status, StockBoard):
        text = " and ".join(str(image.version) for image in status.images if image.confirmed) or "nothing"
        note = "a stock board: it does not know whether the image's own test has passed"
        return stock.board_values(status), [f"confirmed {text}", note], 0
    confirmed = status.get("confirmed")
    text = confirmed[0] if isinstance(confirmed, list) and confirmed else "nothing"
    return shown(status), [f"confirmed {text}"], 0
