"""The top-level roles, judged twice at the same time.

As a device judges them: `trust` is what a fresh one would hold, by the very steps that it takes, and None once it would have refused. And
file by file, however the one above was judged, so that all that is wrong is found, and not the first thing only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256

from hillhold_verifier.audit.report import Level, Notes, Quorum, RoleReport
from hillhold_verifier.audit.signers import key_warnings, quorum, root_changes
from hillhold_verifier.checks import check_expiry, check_version, content_mismatches
from hillhold_verifier.conversation import Progress
from hillhold_verifier.errors import MetadataError, MissingError, Refused
from hillhold_verifier.keys import Key
from hillhold_verifier.metadata import (
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    Envelope,
    Signed,
    parse_root,
    parse_snapshot,
    parse_targets,
    parse_timestamp,
)
from hillhold_verifier.roles import MetaFile, Role, Root, Snapshot, Targets, Timestamp
from hillhold_verifier.session import MAX_ROOTS
from hillhold_verifier.sources import Source
from hillhold_verifier.times import show_span, show_time
from hillhold_verifier.trust import Trust, update_root, update_snapshot, update_targets, update_timestamp, verify

SOON = 14 * 86400
"""Seconds before expiry at which a file that people sign is worth a warning; timestamp and snapshot are renewed by a machine."""


@dataclass
class Entry:
    """One file while it is judged; `data` and `envelope` are what was found, whatever is wrong with it."""

    role: str
    notes: Notes
    listed: MetaFile | None = None
    data: bytes | None = None
    envelope: Envelope[Root] | Envelope[Timestamp] | Envelope[Snapshot] | Envelope[Targets] | None = None
    quorums: tuple[Quorum, ...] = ()
    changes: tuple[str, ...] = ()

    @property
    def authentic(self) -> bool:
        """Each delegator's quorum signed it."""
        return bool(self.quorums) and all(one.met for one in self.quorums)

    def report(self) -> RoleReport:
        """Return what was found."""
        signed = self.envelope.signed if self.envelope else None
        return RoleReport(
            self.role,
            signed.version if signed else None,
            len(self.data) if self.data is not None else None,
            sha256(self.data).digest() if self.data is not None else None,
            signed.expires if signed else None,
            self.listed,
            self.quorums,
            self.changes,
            self.notes.found,
        )


class Chain:
    """What is known of the top-level roles so far.

    Attributes:
        trust: what a fresh device would hold; None once it would have refused.
        root: the last root that verified; all others are judged under it.
        timestamp, snapshot, targets: the file that was found, whatever is wrong with it.
        now: Unix seconds, no earlier than an authentic timestamp was signed.
        said: refusals so far: a device repeats them at each later step, a report need not.

    Raises (at construction):
        MetadataError: the given root is malformed.
    """

    def __init__(self, source: Source, root: bytes, at: int, report: Callable[[Progress], None]) -> None:
        self.source, self.at, self.now, self._report = source, at, at, report
        self.said = set[str]()
        self.root: Envelope[Root] = parse_root(root)
        self.trust: Trust | None = Trust(self.root)
        self.roots: list[Entry] = []
        self.entries = [Entry(name, Notes(name, self.said)) for name in (TIMESTAMP, SNAPSHOT, TARGETS)]
        self._held = self._judge_roots(root)
        self._say()
        first, second, third = self.entries
        self.timestamp = self._judge_timestamp(first)
        self.snapshot = self._judge_snapshot(second, self.timestamp.signed.snapshot) if self.timestamp else None
        self.targets = self._judge_targets(third, self.snapshot.signed.meta[TARGETS]) if self.snapshot else None
        self._say()

    def fetch(self, entry: Entry, name: str, *, optional: bool = False) -> None:
        """Read a metadata file into `entry`; one that is missing is refused, unless it is optional."""
        self._report(Progress(f"metadata: {name}"))
        unread = len(entry.notes.found)
        with entry.notes:
            entry.data = self.source.metadata(name)
        if entry.data is None and not optional and len(entry.notes.found) == unread:
            entry.notes.add(Level.REFUSED, str(MissingError(f"{entry.role} metadata", expected=name, got="none")))

    def judge(
        self,
        entry: Entry,
        parse: Callable[[bytes], Envelope[Signed]],
        terms: tuple[str, Role, Mapping[str, Key]],
        listed: MetaFile | None,
    ) -> Envelope[Signed] | None:
        """Parse what was fetched, and compare it with its listing and with its delegator's `terms` (its name, the role, the keys)."""
        entry.listed = listed
        if entry.data is None:
            return None
        delegator, role, keys = terms
        for mismatch in content_mismatches(entry.data, entry.role, listed, hashed=True) if listed else ():
            entry.notes.add(Level.REFUSED, str(mismatch))
        envelope = None
        with entry.notes:
            envelope = parse(entry.data)
        if envelope is None:
            return None
        entry.envelope = envelope
        entry.quorums = (quorum(envelope, delegator, role, keys),)
        with entry.notes:
            if listed:
                check_version(envelope, entry.role, listed)
        with entry.notes:
            verify(envelope, entry.role, role, keys)
        return envelope

    def expiry(self, entry: Entry, name: str, expires: int) -> None:
        """Judge the expiry of a file that people sign."""
        with entry.notes:
            check_expiry(name, expires, self.now)
        if self.now < expires <= self.now + SOON:
            entry.notes.add(Level.WARNING, f"expires in {show_span(expires - self.now)}")

    def take(self, step: Callable[[Trust], Trust], notes: Notes) -> None:
        """Do what a device would do; once it has refused, nothing."""
        if self.trust is None:
            return
        try:
            self.trust = step(self.trust)
        except Refused as error:
            notes.add(Level.REFUSED, str(error))
            self.trust = None

    def stale(self, *, within_grace: bool) -> None:
        """Say of timestamp and snapshot whether they have expired; a line's grace may make up for it."""
        for entry in self.entries[:2]:
            if entry.envelope is None or entry.envelope.signed.expires > self.now:
                continue
            if within_grace:
                ago = show_span(self.now - entry.envelope.signed.expires)
                entry.notes.add(Level.WARNING, f"expired {ago} ago: accepted by lines with an offline grace only")
            else:
                with entry.notes:
                    check_expiry(entry.role, entry.envelope.signed.expires, self.now)

    def _say(self) -> None:
        for entry in (*self.roots, *self.entries):
            self.said |= {finding.message for finding in entry.notes.found if finding.level is Level.REFUSED}

    # --- root

    def _judge_roots(self, given: bytes) -> Entry:
        """The given root, and those that the source has after it, up to the first that is refused; returns the last good one."""
        root = self.root.signed
        entry = Entry(ROOT, Notes(f"root {root.version}", self.said), data=given, envelope=self.root)
        entry.quorums = (quorum(self.root, "this root", root.roles[ROOT], root.keys),)
        with entry.notes:
            verify(self.root, ROOT, root.roles[ROOT], root.keys)
        if entry.notes.refused:
            self.trust = None  # no device is provisioned with it
        self._compare_given(entry)
        self.roots.append(entry)
        held = entry
        while (following := self._next_root(held)) is not None:
            if len(self.roots) > MAX_ROOTS:
                held.notes.add(Level.WARNING, f"more roots follow; a device takes {MAX_ROOTS} at once")
                break
            self.roots.append(following)
            if not self._follow(following):
                break
            held = following
        for name, role in self.root.signed.roles.items():
            for warning in key_warnings(name, role, self.root.signed.keys):
                held.notes.add(Level.WARNING, warning)
        self.expiry(held, ROOT, self.root.signed.expires)
        return held

    def _compare_given(self, entry: Entry) -> None:
        name = f"{self.root.signed.version}.root.json"
        with entry.notes:
            if (data := self.source.metadata(name)) is not None and data != entry.data:
                other = None
                with suppress(MetadataError):
                    other = parse_root(data)
                if other is None or other.payload != self.root.payload:
                    entry.notes.add(Level.WARNING, f"{name} of the source is another root than the given one")

    def _next_root(self, held: Entry) -> Entry | None:
        version = self.root.signed.version + 1
        entry = Entry(ROOT, Notes(f"root {version}", self.said))
        self.fetch(entry, f"{version}.root.json", optional=True)
        for finding in entry.notes.found:
            held.notes.add(finding.level, finding.message)
        return entry if entry.data is not None else None

    def _follow(self, entry: Entry) -> bool:
        """Judge the root after the held one, and hold it if it is accepted."""
        old, data = self.root.signed, entry.data or b""
        terms = (f"root {old.version}", old.roles[ROOT], old.keys)
        if (new := self.judge(entry, parse_root, terms, None)) is None:
            return self._refuse_root()
        role, keys = new.signed.roles[ROOT], new.signed.keys
        entry.quorums += (quorum(new, "this root", role, keys),)
        entry.changes = tuple(root_changes(old, new.signed))
        with entry.notes:
            verify(new, ROOT, role, keys)
        with entry.notes:
            held = update_root(Trust(self.root), data)
            self.root = held.root
            self.take(lambda trust: update_root(trust, data), entry.notes)
            return True
        return self._refuse_root()

    def _refuse_root(self) -> bool:
        self.trust = None
        return False

    # --- the others

    def _judge_timestamp(self, entry: Entry) -> Envelope[Timestamp] | None:
        self.fetch(entry, "timestamp.json")
        timestamp = self.judge(entry, parse_timestamp, self._terms(TIMESTAMP), None)
        data = entry.data
        if data is None or timestamp is None:
            self.trust = None
            return None
        if entry.authentic and timestamp.signed.issued > self.at:
            self.now = timestamp.signed.issued
            entry.notes.add(
                Level.WARNING,
                f"signed at {show_time(self.now)}, later than {show_time(self.at)}; judged at its own time",
            )
            if not self._held.notes.refused:
                self.expiry(self._held, ROOT, self.root.signed.expires)
                self._say()
        self.take(lambda trust: update_timestamp(trust, data, self.at), entry.notes)
        return timestamp

    def _judge_snapshot(self, entry: Entry, listed: MetaFile) -> Envelope[Snapshot] | None:
        self.fetch(entry, f"{listed.version}.snapshot.json")
        snapshot = self.judge(entry, parse_snapshot, self._terms(SNAPSHOT), listed)
        data = entry.data
        if data is None or snapshot is None:
            self.trust = None
            return None
        self.take(lambda trust: update_snapshot(trust, data, self.at), entry.notes)
        return snapshot

    def _judge_targets(self, entry: Entry, listed: MetaFile) -> Envelope[Targets] | None:
        self.fetch(entry, f"{listed.version}.targets.json")
        targets = self.judge(entry, parse_targets, self._terms(TARGETS), listed)
        data = entry.data
        if data is None or targets is None:
            self.trust = None
            return None
        self.expiry(entry, TARGETS, targets.signed.expires)
        self.take(lambda trust: update_targets(trust, data, self.at), entry.notes)
        if not any(f"{line.name}/*/*" in line.paths for line in targets.signed.delegations):
            entry.notes.add(Level.WARNING, "delegates to no product line: nothing here can be installed")
        if targets.signed.targets:
            entry.notes.add(
                Level.WARNING,
                f"lists {len(targets.signed.targets)} targets itself: devices look at product lines only",
            )
        if targets.signed.succinct:
            entry.notes.add(Level.WARNING, "delegates to hash bins: devices look at product lines only")
        return targets

    def _terms(self, name: str) -> tuple[str, Role, Mapping[str, Key]]:
        root = self.root.signed
        return f"root {root.version}", root.roles[name], root.keys
