"""What the pages of the log say. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from hillhold_signer.log import Kind, SignedCheckpoint
from hillhold_signer.log.checkpoint import show_hash
from hillhold_signer.log.events import FIELDS
from hillhold_signer.service.page.data_log import Entry, EntryPage, LogPage
from hillhold_signer.service.page.text import Moment, moment

MAX_RAW: Final = 2000
"""Bytes of an entry that is none of ours, as they are shown."""
KINDS: Final[Mapping[str, str]] = {
    "submission": "Submission",
    "signature": "Signature",
    "refusal": "Refusal",
    "publication": "Publication",
    "key-change": "Change of keys",
    "failed-login": "Failed sign-in",
    "configuration": "Configuration",
}
"""Names of kinds; one that is not here is shown as the log has it."""


@dataclass(frozen=True, slots=True)
class EntryView:
    """One entry."""

    index: int
    href: str
    when: Moment | None
    kind: str
    actor: str
    text: str
    fields: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class CheckpointView:
    """The checkpoint under which the entries were read."""

    origin: str
    size: int
    root: str
    signers: str


@dataclass(frozen=True, slots=True)
class LogView:
    """A page of the log."""

    checkpoint: CheckpointView | None
    command: str
    entries: tuple[EntryView, ...]
    older: str | None
    newest: str | None
    waiting: int
    kinds: tuple[tuple[str, str, bool], ...]
    filtered: bool


@dataclass(frozen=True, slots=True)
class EntryPageView:
    """One entry with its proof."""

    checkpoint: CheckpointView
    entry: EntryView
    proof: str
    proof_href: str
    command: str


def view_log(found: LogPage, command: str, now: int) -> LogView:
    """Return what a page of the log says.

    Args:
        command: how it is verified.
    """
    kinds = tuple((str(kind), KINDS.get(kind, str(kind)), kind is found.kind) for kind in Kind)
    return LogView(
        _checkpoint(found.signed) if found.signed else None,
        command,
        tuple(_entry(item, now) for item in found.entries),
        _address(found.kind, found.older) if found.older is not None else None,
        None if found.newest else _address(found.kind, None),
        found.waiting,
        kinds,
        found.kind is not None,
    )


def view_entry(found: EntryPage, command: str, now: int) -> EntryPageView:
    """Return what the page of one entry says."""
    entry = _entry(found.entry, now)
    return EntryPageView(_checkpoint(found.signed), entry, found.proof.decode(), f"{entry.href}/proof", command)


def _address(kind: Kind | None, before: int | None) -> str:
    query = {name: value for name, value in (("kind", kind), ("before", before)) if value is not None}
    return f"/log?{urlencode(query)}" if query else "/log"


def _checkpoint(signed: SignedCheckpoint) -> CheckpointView:
    found = signed.checkpoint
    signers = ", ".join([*(one.verifier.name for one in signed.signatures), *signed.unknown])
    return CheckpointView(found.origin, found.size, show_hash(found.root), signers)


def _entry(item: Entry, now: int) -> EntryView:
    href = f"/log/entries/{item.index}"
    event = item.event
    if event is None:
        raw = repr(item.data[:MAX_RAW])
        return EntryView(item.index, href, None, "Unknown", "", f"no event of ours: {raw}", (("bytes", raw),))
    fields = tuple((name, str(event.fields[name])) for name in FIELDS[event.kind])
    kind = KINDS.get(event.kind, str(event.kind))
    text = ", ".join(f"{name} {_brief(value)}" for name, value in fields)
    return EntryView(item.index, href, moment(event.time, now), kind, event.actor, text, fields)


def _brief(value: str) -> str:
    """A hash as people compare it."""
    return f"{value[:16]}…" if len(value) == 64 and not value.strip("0123456789abcdef") else value
