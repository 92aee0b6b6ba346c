"""One replica of the service: its data, its keys, who may come in, and what it does by itself."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Final

from hillhold_signer.errors import ConfigRefused
from hillhold_signer.keys import SCHEME, load_signer, parse_public
from hillhold_signer.log.events import Kind
from hillhold_signer.log.note import NoteSigner, note_signer
from hillhold_signer.making import Making
from hillhold_signer.patchpool import PatchPool
from hillhold_signer.service.access import Principal
from hillhold_signer.service.authenticate import Authenticator, Limits
from hillhold_signer.service.certificates import Proxies
from hillhold_signer.service.database import Database
from hillhold_signer.service.export import Exporter
from hillhold_signer.service.folderobjects import FolderObjects
from hillhold_signer.service.health import Health
from hillhold_signer.service.issuers import Fetcher
from hillhold_signer.service.journal import Sequencer
from hillhold_signer.service.metrics import Done, Known, Metrics, facts
from hillhold_signer.service.objects import Objects, RemoteObjects
from hillhold_signer.service.oidc import Issuers
from hillhold_signer.service.proofs import index_releases
from hillhold_signer.service.publisher import Publisher
from hillhold_signer.service.ratelimit import Flood
from hillhold_signer.service.settings import Settings
from hillhold_signer.service.sweeping import AT_ONCE, sweep
from hillhold_signer.service.tokens import Uses
from hillhold_signer.service.unit import Data
from hillhold_signer.service.uploads import give_up
from hillhold_signer.service.worker import Task, Worker
from hillhold_signer.storage import read_file
from hillhold_verifier.errors import HillholdError

MAX_KEY: Final = 64 * 1024
TOGETHER: Final = 0.5
"""Seconds between two publications, and two exports: what is ready meanwhile goes together."""
LOG_REST: Final = 1.0
"""Seconds between two appends to the log; an event is safe in the database before whoever caused it hears so."""
RENEW_PAUSE: Final = 10.0
"""Seconds between two looks at what expires."""
USES_PAUSE: Final = 60.0
"""Seconds between two writings of when tokens were last used."""
CLEAN_PAUSE: Final = 3600.0
"""Seconds between two looks at what was abandoned, and what nothing names."""


def open_data(settings: Settings) -> Data:
    """Open the database and the object store that settings name; raises `ConfigRefused`, `StorageError`."""
    return Data(Database(settings.database), open_objects(settings))


def open_objects(settings: Settings) -> Objects:
    """Open the object store that settings name; raises `ConfigRefused`."""
    if settings.objects is None:
        return FolderObjects(settings.folder)
    return RemoteObjects(settings.objects, settings.options)


def log_signer(settings: Settings, ask: Callable[[str], str]) -> NoteSigner:
    """Open the key of the log; raises `ConfigRefused` where there is none, `KeyRefused`, `StorageError`."""
    path = settings.log_key
    if not path.exists():
        hint = "`hillhold service init` makes it; restore it from where its copy is kept, or nobody believes the log any more"
        raise ConfigRefused("key of the log", expected=f"{path}", got="no such file", hint=hint)
    public = path.with_suffix(".pub")
    key = parse_public(read_file(public, MAX_KEY), public)
    origin = read_file(path.with_suffix(".origin"), 1024).decode().strip()
    return note_signer(origin, load_signer(f"{SCHEME}:{path}", key, ask))


class Service:
    """One replica.

    Args:
        ask: returns the passphrase or PIN of a key, by what it is called.
        report: is told of each failure of what the replica does by itself: the task's name, and the error.

    Raises:
        ConfigRefused, KeyRefused, StorageError: the settings, the log's key, database or object store.
    """

    def __init__(
        self,
        settings: Settings,
        ask: Callable[[str], str],
        report: Callable[[str, Exception], None],
        *,
        limits: Limits | None = None,
    ) -> None:
        self.settings = settings
        self.data = open_data(settings)
        self.data.database.check_version()
        self.log = log_signer(settings, ask)
        self.publisher = Publisher(self.data, ask)
        self.exporter = Exporter(self.data)
        self.sequencer = Sequencer(self.data, [self.log])
        issuers = Issuers(settings.issuers, Fetcher())
        self.authenticator = Authenticator(issuers, Proxies(settings.proxies), limits or Limits.default(), Flood())
        self.refusals = Refusals(self.data, self.monotonic)
        self.uses = Uses()
        self.worker = Worker(self._tasks(), report, self.monotonic)
        self.metrics = Metrics()
        self.health = Health(self.data, self.worker, self.publisher.check_keys, time.time, self.monotonic)
        self.patches = PatchPool()
        self._lines: Known = {}

    def now(self) -> int:
        """Unix seconds by this replica's clock: for tokens and certificates. What is signed goes by the database's."""
        return int(time.time())

    def monotonic(self) -> float:
        """Seconds that only rise."""
        return time.monotonic()

    def fresh(self) -> str:
        """Return an identifier that nobody can guess."""
        return secrets.token_hex(16)

    def random(self, size: int) -> bytes:
        """Return so many bytes that nobody can guess."""
        return secrets.token_bytes(size)

    def making(self) -> Making:
        """Return what makes the patches of a submission; how many are made at once is bounded for all of them together."""
        return Making(pool=self.patches)

    def measure(self) -> bytes:
        """Return the metrics of this replica, and of how things stand as far as the database can be read."""
        passed = time.time() - self.monotonic()
        tasks = {
            name: Done(None if outcome.succeeded is None else outcome.succeeded + passed, outcome.failures)
            for name, outcome in self.worker.outcomes.items()
        }
        try:
            with self.data.reading() as unit:
                found = facts(unit, time.time(), self._lines)
        except HillholdError as error:
            self.metrics.error(error)
            return self.metrics.exposition(None, tasks)
        return self.metrics.exposition(found, tasks)

    def close(self, timeout: float) -> bool:
        """End what is under way, and give up all connections; returns whether that was within `timeout` seconds."""
        self.patches.close()
        ended = self.worker.stop(timeout)
        try:
            for actor, reason in self.authenticator.unrecorded(self.monotonic(), all_=True):
                self.data.record(Kind.FAILED_LOGIN, actor, reason=reason)
            self.refusals.drain(all_=True)
            self.uses.write(self.data.database.transaction)
        finally:
            self.exporter.close()
            self.data.database.close()
        return ended

    def _tasks(self) -> tuple[Task, ...]:
        tasks = [
            Task("publish", self._publish, rest=TOGETHER),
            Task("export", self._export, rest=TOGETHER),
            Task("log", self._log, rest=LOG_REST),
            Task("clean", self._clean, CLEAN_PAUSE),
            Task("uses", self._write_uses, USES_PAUSE),
        ]
        if self.settings.renew:
            tasks.append(Task("renew", self._renew, RENEW_PAUSE))
        return tuple(tasks)

    def _publish(self) -> bool:
        done = bool(self.publisher.publish())
        if done:
            self.worker.wake("export", "log")
        return done

    def _renew(self) -> bool:
        if self.publisher.renew():
            self.worker.wake("export", "log")
        return False

    def _export(self) -> bool:
        return bool(self.exporter.run())

    def _log(self) -> bool:
        for actor, reason in self.authenticator.unrecorded(self.monotonic()):
            self.data.record(Kind.FAILED_LOGIN, actor, reason=reason)
        self.refusals.drain()
        more = bool(self.sequencer.run())
        return index_releases(self.data, [self.log.verifier]) or more

    def _write_uses(self) -> bool:
        self.uses.write(self.data.database.transaction)
        return False

    def _clean(self) -> bool:
        with self.data.reading() as unit:
            before = unit.now - self.settings.keep
        given_up = give_up(self.data.database, self.data.objects, before)
        swept = sweep(self.data, self.settings.keep)
        self.metrics.swept(swept.files, swept.length)
        return bool(given_up) or swept.files == AT_ONCE


class Refusals:
    """Denied attempts in the log, so many a minute at most: more are counted."""

    def __init__(self, data: Data, monotonic: Callable[[], float]) -> None:
        self._data, self._monotonic = data, monotonic
        self._flood = Flood()

    def note(self, principal: Principal, what: str, reason: str) -> None:
        """Record that somebody was refused something; raises `StorageError`."""
        itself, held = self._flood.take(self._monotonic())
        self._more(held)
        if itself:
            self._data.record(Kind.REFUSAL, principal.name, what=what, reason=reason)

    def drain(self, *, all_: bool = False) -> None:
        """Record how many there were in a minute that is over (`all_`: or that is not); raises `StorageError`."""
        self._more(self._flood.drain(self._monotonic(), all_=all_))

    def _more(self, held: int) -> None:
        if held:
            reason = f"{held} more denied attempts, which are not recorded one by one"
            self._data.record(Kind.REFUSAL, "service", what="attempts", reason=reason)
