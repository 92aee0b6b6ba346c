"""One update, as a sans-I/O session: it says which metadata file it needs next, and takes its bytes.

    ROOT --(next root)--> ROOT --(absent)--> TIMESTAMP --> [SNAPSHOT] --> [TARGETS] --> [LINE] --> READY

A step in brackets is left out where the listed file is already held. READY is reached when the chain is complete; `select` then judges
whether it holds now, and chooses. Any refusal ends the session for good; `trust` keeps what was accepted before (root, floors, time floor).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from hillhold_verifier.errors import MisuseError, OrderError, Refused
from hillhold_verifier.metadata import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, max_bytes
from hillhold_verifier.roles import MetaFile
from hillhold_verifier.select import Device, Installed, Selection, select
from hillhold_verifier.trust import (
    Trust,
    current,
    missing,
    update_line,
    update_root,
    update_snapshot,
    update_targets,
    update_timestamp,
)

MAX_ROOTS: Final = 256
"""Roots that one session follows (TUF 5.3.3 wants a bound); the next one goes on from there."""


class Step(Enum):
    """Where a session is."""

    ROOT = "root"
    TIMESTAMP = "timestamp"
    SNAPSHOT = "snapshot"
    TARGETS = "targets"
    LINE = "line"
    READY = "ready"
    FAILED = "failed"


OPTIONAL = frozenset({Step.ROOT, Step.TIMESTAMP})
"""Steps whose file may be absent: then there is no newer one, and what is held is judged."""


@dataclass(frozen=True, slots=True)
class Need:
    """The file that is needed next.

    Attributes:
        role: "root", "timestamp", "snapshot", "targets" or the product.
        version: the exact version, or None for the timestamp.
        sha256: as its lister states it, or None.
        max_length: bytes, at most.
        optional: it may be absent (`UpdateSession.absent`).
    """

    role: str
    version: int | None
    sha256: bytes | None
    max_length: int
    optional: bool

    @property
    def file_name(self) -> str:
        """The file's name in a repository with consistent snapshots (TUF 3.1, 6.2)."""
        return f"{self.role}.json" if self.version is None else f"{self.version}.{self.role}.json"


class UpdateSession:
    """One pass over the metadata. `clock`: Unix seconds, or None where the device has no clock."""

    def __init__(self, trust: Trust, device: Device, clock: int | None) -> None:
        self._trust, self._device, self._clock = trust, device, clock
        self._step = Step.ROOT
        self._roots = 0
        self._listing: MetaFile | None = None

    @property
    def trust(self) -> Trust:
        """What is trusted now; to be stored before anything depends on it."""
        return self._trust

    @property
    def step(self) -> Step:
        """Where the session is."""
        return self._step

    @property
    def need(self) -> Need | None:
        """The file that is needed next; None once the session is ready or has failed."""
        match self._step:
            case Step.ROOT:
                return Need(ROOT, self._trust.root.signed.version + 1, None, max_bytes(ROOT), True)
            case Step.TIMESTAMP:
                return Need(TIMESTAMP, None, None, max_bytes(TIMESTAMP), True)
            case Step.SNAPSHOT | Step.TARGETS | Step.LINE if self._listing:
                role = self._device.product if self._step is Step.LINE else self._step.value
                length = self._listing.length or max_bytes(role)
                return Need(
                    role, self._listing.version, self._listing.hashes.get("sha256"), min(length, max_bytes(role)), False
                )
            case _:
                return None

    def receive(self, data: bytes) -> None:
        """Take the bytes of the file that is needed.

        Raises:
            Refused: a subclass says why; the session has failed.
            MisuseError: no file is needed.
        """
        self._attempt(lambda: self._accept(data))

    def absent(self) -> None:
        """Go on without an optional file: there is no next root, or no newer timestamp.

        Raises:
            MisuseError: the file that is needed is not optional.
            MissingError: nothing that is held can take its place; the session has failed.
        """
        if self._step not in OPTIONAL and self._step is not Step.FAILED:
            raise MisuseError(f"{self._step.value}: this file is not optional")
        if self._step is Step.ROOT:
            self._step = Step.TIMESTAMP
        else:
            self._attempt(self._advance)

    def select(
        self,
        confirmed: Mapping[str, Installed],
        counters: Mapping[str, int],
        failed: frozenset[bytes] = frozenset(),
    ) -> Selection:
        """Judge the chain and its releases now; arguments as `select.select`.

        Raises:
            MisuseError: the session is not ready.
            MissingError, ExpiredError: the chain does not hold now; the session has failed.
        """
        if self._step is not Step.READY:
            raise MisuseError(f"the session is at step {self._step.value}, not ready")
        try:
            return select(
                current(self._trust, self._device.product, self._clock), self._device, confirmed, counters, failed
            )
        except Refused:
            self._step = Step.FAILED
            raise

    def _accept(self, data: bytes) -> None:
        trust, clock, product = self._trust, self._clock, self._device.product
        match self._step:
            case Step.ROOT:
                self._trust = update_root(trust, data)
                self._roots += 1
                if self._roots == MAX_ROOTS:
                    self._step = Step.TIMESTAMP
                return
            case Step.TIMESTAMP:
                self._trust = update_timestamp(trust, data, clock)
            case Step.SNAPSHOT:
                self._trust = update_snapshot(trust, data, clock)
            case Step.TARGETS:
                self._trust = update_targets(trust, data, clock)
            case Step.LINE:
                self._trust = update_line(trust, product, data, clock)
            case Step.READY | Step.FAILED:
                raise MisuseError(f"no metadata is needed at step {self._step.value}")
        self._advance()

    def _advance(self) -> None:
        gap = missing(self._trust, self._device.product)
        if gap is None:
            self._step, self._listing = Step.READY, None
        else:
            role, self._listing = gap
            self._step = {SNAPSHOT: Step.SNAPSHOT, TARGETS: Step.TARGETS}.get(role, Step.LINE)

    def _attempt(self, act: Callable[[], None]) -> None:
        if self._step is Step.FAILED:
            raise OrderError("update session", expected="a new session", got="more of one that has failed")
        try:
            act()
        except Refused:
            self._step = Step.FAILED
            raise
