"""A decoded capture, told to people in lines of a given width, and to programs as values for JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from textwrap import wrap
from typing import Final

from hillhold_bootsim.trace import Broken, Event, Failure, Said, Seen, Trace
from hillhold_verifier import errors
from hillhold_verifier.capture import Chunk, Head
from hillhold_verifier.smp import ImgMgmtErr, MgmtErr, Op
from hillhold_verifier.times import show_time

_OPS: Final = {Op.READ: "read", Op.READ_RSP: "read rsp", Op.WRITE: "write", Op.WRITE_RSP: "write rsp"}
_HILLHOLD: Final = ("identify", "held", "metadata", "choose", "apply", "status")
_GROUPS: Final[dict[int, tuple[str, tuple[str, ...]]]] = {
    0: (
        "os",
        ("echo", "echo control", "tasks", "memory pools", "date and time", "reset", "parameters", "info", "bootloader"),
    ),
    1: ("image", ("state", "upload", "file", "core list", "core load", "erase", "slot info")),
    2: ("statistics", ("data", "groups")),
    3: ("settings", ("value", "delete", "commit", "load and save")),
    8: ("files", ("transfer", "status", "hash", "hash types", "close")),
    9: ("shell", ("execute",)),
    10: ("enum", ("count", "list", "single", "details")),
    63: ("zephyr", ("erase storage",)),
}
"""Groups and commands by their numbers, as MCUmgr's pages name them."""
_REFUSALS: Final = {
    kind.code: kind.__name__
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.Refused)
}
_BODY_AT: Final = 13  # where lines of a body that did not fit beside its message begin
_MAX_BODY: Final = 2000  # characters of a body that are shown
_MAX_TEXT: Final = 400  # of a line of text
_HEX_SHOWN: Final = 4  # bytes of a byte string, unless it is not much longer
_JOIN: Final = "\x1f"  # a space at which no line ends; it stands in no string, since those are written as JSON
_PER_LINE: Final = 16  # bytes in a line of hexadecimal


# --- lines ------------------------------------------------------------------------------------------------------------


def head_lines(head: Head) -> list[str]:
    """Return what a capture is of."""
    return [f"capture of {head.port} at {head.baud} baud, begun {show_time(head.start)}"]


def event_lines(events: Iterable[Event], hillhold: int, width: int) -> Iterator[str]:
    """Tell events, one or more lines each.

    Args:
        hillhold: the number of Hillhold's group.
        width: characters of a line.
    """
    for event in events:
        match event:
            case Failure(time, reason):
                yield f"{time:11.4f} ! port    {reason}"
            case Broken(time, sent, reason):
                yield f"{time:11.4f} {_arrow(sent)} damaged {reason}"
            case Said(time, sent, text):
                yield f"{time:11.4f} {_arrow(sent)} text    {_words(text)}"
            case Seen():
                yield from _message_lines(event, hillhold, width)


def _message_lines(seen: Seen, hillhold: int, width: int) -> Iterator[str]:
    message = seen.message
    group, command = _names(message.group, message.command, hillhold)
    head = (
        f"{seen.time:11.4f} {_arrow(seen.sent)} {seen.transport.value:7} #{message.sequence:<3} {_OPS[message.op]:9} "
        f"{f'{group} {command}':18} "
    )
    notes = ", ".join(_notes(seen))
    body = _body(message.body, message.group, hillhold)
    line = f"{head}{notes}{'  ' if notes and body else ''}{body}".rstrip()
    indent = " " * _BODY_AT
    rest = [] if len(line) <= width else wrap(body, max(width, 40), initial_indent=indent, subsequent_indent=indent)
    for each in [f"{head}{notes}".rstrip(), *rest] if rest else [line]:
        yield each.replace(_JOIN, " ")


def _notes(seen: Seen) -> list[str]:
    if seen.is_request:
        again = [f"sent again ({seen.times})"] if seen.times > 1 else []
        return again if seen.answers else [*again, "no answer"]
    if seen.latency is None:
        return ["nobody asked"]
    return [_span(seen.latency), *(["a second answer"] if seen.answers > 1 else [])]


def summary_lines(found: Trace) -> list[str]:
    """Return the figures in words."""
    figures = found.summary()
    again = f", {figures['sent_again']} of them sent again" if figures["sent_again"] else ""
    unanswered = f", {figures['unanswered']} without an answer" if figures["unanswered"] else ""
    typical, longest = figures["median_latency"], figures["longest_latency"]
    latency = (
        f", {_span(typical)} after their requests (median; longest {_span(longest)})" if typical and longest else ""
    )
    lines = [
        "",
        f"in {_span(found.seconds)}",
        f"  sent      {found.sent} bytes",
        f"  received  {found.received} bytes",
        f"  requests  {figures['requests']}{again}{unanswered}",
        f"  answers   {figures['answers']}{latency}",
    ]
    others = (
        ("damaged", "damaged", "frames"),
        ("lines_of_text", "text", "lines"),
        ("failures", "failures", "of the port"),
    )
    return lines + [f"  {label:9} {figures[name]} {unit}" for name, label, unit in others if figures[name]]


def raw_lines(chunk: Chunk) -> Iterator[str]:
    """Return a write or read as it was: hexadecimal and text."""
    if chunk.failure:
        yield f"{chunk.time:11.4f} ! port    {chunk.failure}"
        return
    yield f"{chunk.time:11.4f} {_arrow(chunk.sent)} {len(chunk.data)} bytes"
    for at in range(0, len(chunk.data), _PER_LINE):
        part = chunk.data[at : at + _PER_LINE]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        yield f"{' ' * _BODY_AT}{at:04x}  {part.hex(' '):{3 * _PER_LINE}} {shown}"


def _arrow(sent: bool) -> str:
    return ">" if sent else "<"


def _span(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def _words(text: bytes) -> str:
    shown = text.decode(errors="backslashreplace").replace("\t", " ")
    return shown if len(shown) <= _MAX_TEXT else f"{shown[:_MAX_TEXT]}…"


def _names(group: int, command: int, hillhold: int) -> tuple[str, str]:
    name, commands = ("hillhold", _HILLHOLD) if group == hillhold else _GROUPS.get(group, (f"group {group}", ()))
    return name, commands[command] if command < len(commands) else f"command {command}"


# --- bodies -----------------------------------------------------------------------------------------------------------


def _body(body: Mapping[str, object], group: int, hillhold: int) -> str:
    parts = []
    for name, value in body.items():
        text = _value(value)
        if name == "rc" and isinstance(value, int):
            text += _known(_REFUSALS.get(value, "") if group == hillhold else _name(MgmtErr, value))
        elif name == "err" and isinstance(value, Mapping):
            text += _known(_error_name(value, hillhold))
        parts.append(f"{name}{_JOIN}{text}")
    told = "  ".join(parts)
    return told if len(told) <= _MAX_BODY else f"{told[:_MAX_BODY]}…"


def _value(value: object) -> str:
    match value:
        case bytes():
            whole = len(value) <= 2 * _HEX_SHOWN
            shown = value.hex() if whole else f"{value[:_HEX_SHOWN].hex()}…"
            return f"[{len(value)}B:{shown}]" if value else "[0B]"
        case str():
            return json.dumps(value, ensure_ascii=False)
        case Mapping():
            return "{" + ", ".join(f"{name}{_JOIN}{_value(item)}" for name, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_value, value)) + "]"
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case _:
            return str(value)


def _error_name(error: Mapping[object, object], hillhold: int) -> str:
    group, code = error.get("group"), error.get("rc")
    if not isinstance(group, int) or not isinstance(code, int):
        return ""
    if group == hillhold:
        return _REFUSALS.get(code, "")
    return _name(ImgMgmtErr, code) if group == 1 else ""


def _name(kind: type[MgmtErr | ImgMgmtErr], code: int) -> str:
    try:
        return kind(code).name
    except ValueError:
        return ""


def _known(name: str) -> str:
    return f" ({name})" if name else ""


# --- values -----------------------------------------------------------------------------------------------------------


def event_values(event: Event, hillhold: int) -> dict[str, object]:
    """Return an event for JSON: bytes as hexadecimal, times in seconds."""
    match event:
        case Failure(time, reason):
            return {"t": time, "kind": "failure", "reason": reason}
        case Broken(time, sent, reason):
            return {"t": time, "d": _arrow(sent), "kind": "damaged", "reason": reason}
        case Said(time, sent, text):
            return {"t": time, "d": _arrow(sent), "kind": "text", "bytes": text.hex(), "text": _words(text)}
        case Seen(time, sent, transport, message, data):
            group, command = _names(message.group, message.command, hillhold)
            matched: dict[str, object] = (
                {"times": event.times, "answers": event.answers}
                if event.is_request
                else {"latency": None if event.latency is None else round(event.latency, 6), "answer": event.answers}
            )
            return {
                "t": time,
                "d": _arrow(sent),
                "kind": "request" if event.is_request else "answer",
                "transport": transport.value,
                "op": message.op.name.lower(),
                "version": message.version,
                "flags": message.flags,
                "group": message.group,
                "command": message.command,
                "name": f"{group} {command}",
                "sequence": message.sequence,
                "bytes": len(data),
                "body": _plain(message.body),
                **matched,
            }


def _plain(value: object) -> object:
    match value:
        case bytes():
            return value.hex()
        case Mapping():
            return {name: _plain(item) for name, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case float() if not math.isfinite(value):
            return str(value)  # JSON has no such numbers
        case _:
            return value
