"""Prometheus metrics: what this process has done, and how things stand, read from the database when they are asked for.

How things stand is the same in every replica, so whoever watches may ask any of them. No label grows without end: routes are templates,
errors are our classes, product lines are named up to `MAX_LINES`, and all others are counted together.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from tuf.api.metadata import Timestamp

from hillhold_signer.encoding import unix
from hillhold_signer.errors import MergeRefused, NoteRefused, RepositoryRefused
from hillhold_signer.log.checkpoint import PATH as CHECKPOINT
from hillhold_signer.log.checkpoint import read_checkpoint
from hillhold_signer.service.holding import holding
from hillhold_signer.service.tables import EVENTS, LOG_FILES, PUBLICATIONS, STUCK, UPLOADS
from hillhold_signer.service.unit import Unit
from hillhold_signer.state import State
from hillhold_verifier.metadata import parse_time

MAX_LINES: Final = 50
"""Product lines that have a label of their own."""
OTHERS: Final = "(others)"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Seconds."""

_TOP: Final = ("root", "targets", "snapshot", "timestamp")


class Metrics:
    """What one process has done; for all its threads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Histogram(
            "hillhold_request_seconds",
            "How long requests took, by the template of their route",
            ("method", "route", "status"),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._errors = Counter(
            "hillhold_errors", "Refusals and errors that were answered, by kind", ("kind",), registry=self.registry
        )
        self._received = Counter("hillhold_upload_bytes", "Bytes of uploads that came in", registry=self.registry)

        self._swept = Counter("hillhold_swept_files", "Files that nothing named, removed", registry=self.registry)
        self._swept_bytes = Counter("hillhold_swept_bytes", "Bytes of them", registry=self.registry)

    def request(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Note an answer; `route`: the template, None where there is none for that path."""
        labels = (method if method in METHODS else OTHERS, route or "(none)", str(status))
        self._requests.labels(*labels).observe(seconds)

    def error(self, error: BaseException | str) -> None:
        """Note a refusal or an error, or the name of its class."""
        self._errors.labels(error if isinstance(error, str) else type(error).__name__).inc()

    def received(self, count: int) -> None:
        """Note bytes of an upload."""
        self._received.inc(count)

    def swept(self, files: int, length: int) -> None:
        """Note files that were removed, and their bytes."""
        self._swept.inc(files)
        self._swept_bytes.inc(length)

    def exposition(self, facts: Facts | None, tasks: Mapping[str, Done] = MappingProxyType({})) -> bytes:
        """Return all in Prometheus' text format.

        Args:
            facts: how things stand; None where the database could not be read.
            tasks: what this replica does by itself, by name.
        """
        state = CollectorRegistry()
        state.register(_Standing(facts, tasks))
        return generate_latest(self.registry) + generate_latest(state)


@dataclass(frozen=True, slots=True)
class Done:
    """How a task went: when it last succeeded (Unix seconds), None where it never has, and how often it has failed."""

    succeeded: float | None
    failures: int


@dataclass(frozen=True, slots=True)
class Facts:
    """How things stand. Times are Unix seconds; a role that is not published is not there.

    Attributes:
        now: the database's clock, and `behind`: how many seconds this replica's is behind it.
        versions, expires: by top-level role.
        first_line: when the first product line expires; None without any.
        drafts, missing: drafts that wait, and signatures that they lack, by kind: root, targets, line.
        clashes: roles whose drafts do not go together.
        lines: signatures that a line's draft lacks, by line.
        publication: number of the newest one; `waiting`: how many the object store does not have, the oldest since `waiting_since`.
        events: not in the log yet; `log`: its size.
    """

    now: int
    behind: float
    versions: Mapping[str, int]
    expires: Mapping[str, int]
    issued: int | None
    first_line: int | None
    drafts: Mapping[str, int]
    missing: Mapping[str, int]
    clashes: int
    lines: Mapping[str, int]
    publication: int
    waiting: int
    waiting_since: int | None
    events: int
    log: int
    stuck: int
    uploads: int
    held: bool


Known: TypeAlias = dict[str, tuple[int, int]]
"""Versions of product lines, and when these expire."""


def facts(unit: Unit, clock: float, known: Known) -> Facts:
    """Read how things stand, all of one moment.

    Args:
        clock: this replica's, Unix seconds.
        known: what the call before knew, empty at first; written.

    Raises:
        RepositoryRefused: what is published does not verify.
        StorageError: the database cannot be read.
    """
    state = unit.repository.state() if unit.store.digest("hillhold.toml") is not None else None
    published = {role: signed for role in _TOP if state is not None and (signed := state.published(role)) is not None}
    timestamp = published.get("timestamp")
    issued = None
    if isinstance(timestamp, Timestamp):
        issued = parse_time(timestamp.unrecognized_fields["x-hillhold-issued"])
    drafts, missing, lines = Tally[str](), Tally[str](), Tally[str]()
    for role, lacks in _waiting(state) if state is not None else ():
        kind = role if role in _TOP else "line"
        drafts[kind] += 1
        missing[kind] += lacks
        if kind == "line":
            lines[role] += lacks
    waiting, since = unit.connection.execute(
        select(func.count(), func.min(PUBLICATIONS.c.time)).where(PUBLICATIONS.c.exported.is_(None))
    ).one()
    return Facts(
        now=unit.now,
        behind=unit.now - clock,
        versions={role: signed.version for role, signed in published.items()},
        expires={role: unix(signed.expires) for role, signed in published.items()},
        issued=issued,
        first_line=_first_line(state, known),
        drafts=drafts,
        missing=missing,
        clashes=len(state.clashes) if state is not None else 0,
        lines=_capped(lines),
        publication=_number(unit, select(func.max(PUBLICATIONS.c.id))),
        waiting=waiting,
        waiting_since=since,
        events=_number(unit, select(func.count()).select_from(EVENTS)),
        log=_log_size(unit),
        stuck=_number(unit, select(func.count()).select_from(STUCK)),
        uploads=_number(unit, select(func.count()).select_from(UPLOADS)),
        held=holding(unit.connection) is not None,
    )


def _waiting(state: State) -> Iterator[tuple[str, int]]:
    """Roles that have a draft, and how many signatures it lacks; where nobody can say, none is counted."""
    for role in state.drafts:
        try:
            quorum = state.quorum(role)
        except (MergeRefused, RepositoryRefused):
            yield role, 0
        else:
            yield role, max(0, *(share.threshold - len(share.signed) for share in quorum.shares))


def _first_line(state: State | None, known: Known) -> int | None:
    """A line's file may be long, and is read once for each version."""
    if state is None or state.chain is None:
        return None
    for name in state.chain.lines:
        version = state.chain.snapshot.meta[f"{name}.json"].version
        if known.get(name, (0, 0))[0] != version:
            known[name] = version, unix(state.chain.lines[name].expires)
    for name in known.keys() - state.chain.lines.keys():
        del known[name]
    return min((expires for _, expires in known.values()), default=None)


def _capped(lines: Mapping[str, int]) -> dict[str, int]:
    named = dict(sorted(lines.items(), key=lambda item: (-item[1], item[0]))[:MAX_LINES])
    rest = sum(lines.values()) - sum(named.values())
    return {**named, OTHERS: rest} if len(lines) > MAX_LINES else named


def _number(unit: Unit, query: object) -> int:
    return int(unit.connection.execute(query).scalar() or 0)  # type: ignore[call-overload]


def _log_size(unit: Unit) -> int:
    data = unit.connection.execute(select(LOG_FILES.c.data).where(LOG_FILES.c.path == CHECKPOINT)).scalar()
    try:
        return read_checkpoint(bytes(data)).checkpoint.size if data is not None else 0
    except NoteRefused:
        return 0


class _Standing(Collector):
    """Facts as metrics."""

    def __init__(self, facts: Facts | None, tasks: Mapping[str, Done]) -> None:
        self._facts, self._tasks = facts, tasks

    def collect(self) -> Iterable[Metric]:
        found = self._facts
        times = {name: done.succeeded for name, done in self._tasks.items() if done.succeeded is not None}
        yield _by("hillhold_task_success_time_seconds", "When a task last succeeded in this replica", "task", times)
        failures = CounterMetricFamily("hillhold_task_failures", "Failures of it in this replica", labels=("task",))
        for name, done in self._tasks.items():
            failures.add_metric((name,), done.failures)
        yield failures
        yield _gauge("hillhold_database_up", "Whether this replica could read the database", int(found is not None))
        if found is None:
            return
        yield _gauge("hillhold_database_clock_ahead_seconds", "The database's clock over this replica's", found.behind)
        yield _gauge(
            "hillhold_held", "Whether the service was restored, and waits for `service resume`", int(found.held)
        )
        if found.issued is not None:
            age = found.now - found.issued
            yield _gauge("hillhold_timestamp_age_seconds", "Since the published timestamp was signed", age)
        left = {role: expires - found.now for role, expires in found.expires.items()}
        yield _by("hillhold_expires_seconds", "Until the published role expires", "role", left)
        yield _by("hillhold_version", "Of the published role", "role", found.versions)
        if found.first_line is not None:
            until = found.first_line - found.now
            yield _gauge("hillhold_first_line_expires_seconds", "Until the first product line expires", until)
        yield _by("hillhold_drafts_waiting", "Drafts that are not published", "kind", found.drafts)
        yield _by("hillhold_signatures_missing", "Signatures that they lack", "kind", found.missing)
        yield _by("hillhold_line_signatures_missing", "Signatures that a line's draft lacks", "line", found.lines)
        yield _gauge("hillhold_drafts_clashing", "Roles whose drafts do not go together", found.clashes)
        yield _gauge("hillhold_drafts_stuck", "Complete drafts whose publication was refused", found.stuck)
        yield _gauge("hillhold_publication", "Number of the newest publication", found.publication)
        yield _gauge("hillhold_publications_waiting", "Publications that are not exported yet", found.waiting)
        waits = found.now - found.waiting_since if found.waiting_since is not None else 0
        yield _gauge("hillhold_publications_waiting_seconds", "Since the oldest of them", waits)
        yield _gauge("hillhold_events_waiting", "Events that are not in the log yet", found.events)
        yield _gauge("hillhold_log_entries", "Size of the log", found.log)
        yield _gauge("hillhold_uploads_open", "Uploads that have not ended", found.uploads)


def _gauge(name: str, help_: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_, value)


def _by(name: str, help_: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    found = GaugeMetricFamily(name, help_, labels=(label,))
    for key, value in values.items():
        found.add_metric((key,), value)
    return found
