"""Whether this replica can do its work: for whoever restarts it (`alive`), and for whoever sends it requests (`Health.ready`).

A stranger may ask. So an answer says which part is not well and no more; why is for the logs. What is asked costs little, and what costs
more (opening a key) is asked again only after a while.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select

from hillhold_signer.service.holding import check_held
from hillhold_signer.service.names import TIMESTAMP
from hillhold_signer.service.tables import PUBLICATIONS
from hillhold_signer.service.unit import Data
from hillhold_signer.service.worker import Outcome, Worker
from hillhold_verifier.errors import HillholdError

CLOCKS: Final = 30.0
"""Seconds by which a replica's clock and the database's may differ: tokens and certificates are judged by the former."""
EVERY: Final = 2.0
"""Seconds between two looks."""
STALE: Final = 30.0
"""Seconds after which what was seen last counts no more."""
KEYS_EVERY: Final = 60.0
"""Seconds between two looks at the keys."""
STUCK_AFTER: Final = 120.0
"""Seconds in which every task should have succeeded once."""


@dataclass(frozen=True, slots=True)
class Check:
    """One part. `text`: for anybody; `why`: for the logs alone."""

    name: str
    ok: bool
    text: str = "ok"
    why: str = ""


class Health:
    """Looks at the parts of one replica.

    Args:
        keys: opens the keys that it signs with, and raises where it cannot.
        now: this replica's clock, Unix seconds.
        monotonic: seconds that only rise, those of the worker.
    """

    def __init__(
        self,
        data: Data,
        worker: Worker,
        keys: Callable[[], object],
        now: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._data, self._worker, self._keys = data, worker, keys
        self._now, self._monotonic = now, monotonic
        self._began = monotonic()
        self._looked: tuple[float, Check] | None = None
        self._last: tuple[float, tuple[Check, ...]] | None = None
        self._lock = threading.Lock()

    def alive(self) -> Check:
        """Whether restarting would help: a task has died, or hangs. What lies outside this process is none of it."""
        if not self._worker.alive:
            return Check("worker", False, "a task has ended")
        return Check("worker", True)

    def ready(self) -> tuple[Check, ...]:
        """Whether it can do what it is asked; it never raises, and does not wait where somebody else is looking.

        An object store that does not answer takes a minute to be given up: many who ask would take all threads.
        """
        now = self._monotonic()
        if self._lock.acquire(blocking=False):
            try:
                if self._last is None or now - self._last[0] >= EVERY:
                    self._last = now, self._look()
            finally:
                self._lock.release()
        if self._last is None or now - self._last[0] > STALE:
            return (Check("service", False, "is being looked at, which takes long"),)
        return self._last[1]

    def _look(self) -> tuple[Check, ...]:
        return (
            self._try("database", "cannot be read, or has tables of another version", self._database),
            self._try("service", "was restored, and waits for `hillhold service resume`", self._held),
            self._try("clock", "differs from the database's", self._clock),
            self._try("objects", "cannot be read, or are gone", self._objects),
            self._key(),
            self._tasks(),
        )

    def _database(self) -> None:
        self._data.database.check_version()

    def _held(self) -> None:
        with self._data.database.snapshot() as connection:
            check_held(connection)

    def _objects(self) -> str | None:
        """An empty store where something was exported is another one, or a disk that is not mounted."""
        if self._data.objects.length(TIMESTAMP) is not None:
            return None
        with self._data.database.snapshot() as connection:
            done = select(PUBLICATIONS.c.id).where(PUBLICATIONS.c.exported.is_not(None)).limit(1)
            return f"no {TIMESTAMP}" if connection.execute(done).first() else None

    def _clock(self) -> str | None:
        with self._data.database.snapshot() as connection:
            apart = abs(self._data.database.now(connection) - self._now())
        return None if apart <= CLOCKS else f"{apart:.0f} seconds"

    def _key(self) -> Check:
        now = self._monotonic()
        if self._looked is None or now - self._looked[0] >= KEYS_EVERY or not self._looked[1].ok:
            self._looked = now, self._try("keys", "cannot be opened", self._keys)
        return self._looked[1]

    def _tasks(self) -> Check:
        now, late = self._monotonic(), []
        for name, outcome in self._worker.outcomes.items():
            if outcome.failed is not None and _since(outcome, self._began, now) > STUCK_AFTER:
                late.append((name, outcome.error))
        if not self._worker.alive:
            return Check("tasks", False, "one has ended")
        if late:
            names = ", ".join(name for name, _ in late)
            return Check("tasks", False, f"failing: {names}", "; ".join(f"{name}: {why}" for name, why in late))
        return Check("tasks", True)

    def _try(self, name: str, text: str, look: Callable[[], object]) -> Check:
        """Look at a part, which raises or returns why it is not well, as text."""
        try:
            found = look()
        except HillholdError as error:
            return Check(name, False, text, str(error))
        except Exception as error:  # what it is, the logs say; the other parts are looked at all the same
            return Check(name, False, text, f"{type(error).__name__}: {error}")
        return Check(name, False, text, found) if isinstance(found, str) else Check(name, True)


def show(checks: tuple[Check, ...]) -> Mapping[str, str]:
    """Return what is said to anybody: by part, a text."""
    return {check.name: check.text for check in checks}


def _since(outcome: Outcome, began: float, now: float) -> float:
    """How long a task has not succeeded, where it failed last; 0 where it went well last."""
    last = outcome.succeeded if outcome.succeeded is not None else began
    return now - last if outcome.failed is not None and outcome.failed > last else 0.0
