"""The owner: an honest repository, its history, and what a thief signs with a stolen key.

A theft is one act: the worst files that the stolen keys make are published, and the service that holds the next online key lists them,
once, unless its rule (`successor`) forbids. An owner is a value: `after` an act it is another one.
"""

from __future__ import annotations

from trustmodel.config import Config
from trustmodel.files import (
    EVIL,
    FIRST,
    FORGED,
    HIGHEST,
    NEWEST,
    SECOND,
    STEP_DOWN,
    VERSION,
    Bases,
    Entry,
    F,
    File,
    Line,
    Quorum,
    Root,
    Snapshot,
    Targets,
    Timestamp,
    unique,
)

FIRST_REMAINS = Quorum(2)
ALL_ARE_NEW = Quorum(4)
RAISED, ALL_NEW_RAISED = Quorum(0b11, 2), Quorum(0b1100, 2)


class Owner:
    """The repository after a history of acts.

    Attributes:
        script: the acts so far.
        now: the time.
        published: every file so far, a thief's too, in order.
        roots, targets, line, snapshot, timestamp: the newest honest ones.
        releases: by image: withdrawn, and what it steps down from.
        grace: what the line claims.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.script: tuple[str, ...] = ()
        self.now = 0
        self.published: tuple[File, ...] = ()
        self.releases: dict[int, tuple[bool, tuple[int, ...]]] = {FIRST: (False, ())}
        self.grace = config.grace
        self.roots: tuple[Root, ...] = ()
        self._signed = 0
        self._signers = config.signers[0]
        self._version = dict.fromkeys(("root", "targets", "line", "snapshot", "timestamp"), 0)
        self._next: dict[str, Owner] = {}
        self._sign_root(config.timestamp, config.snapshot)
        self._sign_targets(config.line)
        self._sign_line()
        self._sign_online()

    def after(self, act: str) -> Owner:
        """The owner after one more act; the same one each time."""
        if act not in self._next:
            new = object.__new__(Owner)
            new.__dict__.update(self.__dict__)
            new.script, new._next = (*self.script, act), {}
            new.releases, new._version = dict(self.releases), dict(self._version)
            new._act(act)
            self._next[act] = new
        return self._next[act]

    def may(self, act: str, most: int) -> bool:
        """Whether this act is one that makes sense now, and has not happened `most` times."""
        needs = {"withdraw": "r2", "downgrade": "r2", "undo": "downgrade"}.get(act)
        if act in ("rotate", "raise") and self.config.stolen:
            needs = "theft"
        return self.script.count(act) < most and (needs is None or needs in self.script)

    # --- acts

    def _act(self, act: str) -> None:
        match act:
            case "tick":
                self.now += 1
                return
            case "switch":
                first, second = self.config.signers
                self._signers = second if self._signers == first else first
                return
            case "theft":
                self._steal()
                return
            case "r2":
                self.releases[SECOND] = (False, ())
            case "withdraw":
                self.releases[SECOND] = (True, ())
            case "downgrade":
                self.releases[STEP_DOWN] = (False, (VERSION[SECOND],))
            case "undo":  # the release to step down to is withdrawn in its turn
                self.releases[STEP_DOWN] = (True, (VERSION[SECOND],))
            case "rotate":
                self._rotate()
            case "raise":  # the timestamp's threshold: by plan, or as the answer to a theft of one key
                self._signers = RAISED.keys
                self._sign_root(ALL_NEW_RAISED if "replace-all" in self.config.rules else RAISED, self._snapshot_quorum)
        self._publish(renews_all=act != "refresh")

    def _publish(self, *, renews_all: bool) -> None:
        """Sign again what has expired, the line unless this is but a refresh, and what lists it."""
        if self.roots[-1].expires < self.now:
            self._sign_root(self._timestamp_quorum, self._snapshot_quorum)
        stale = min(self.targets.expires, self.line.expires) < self.now
        if self.targets.expires < self.now:
            self._sign_targets(self._line_quorum)
        if renews_all or self.line.expires < self.now:
            self._sign_line()
        self._sign_online(snapshot=renews_all or stale or self.snapshot.expires < self.now)

    def _rotate(self) -> None:
        """Key 1 goes: it was stolen, or is retired by plan. A newest release comes, which may replace an evil maximal version."""
        config, both = self.config, "rotate-both" in self.config.rules
        self.releases[NEWEST] = (False, (HIGHEST,))
        self._signers = config.signers[1]
        if config.new_algorithm:
            self._sign_root(self._timestamp_quorum, self._snapshot_quorum, algorithm=1)
            return
        timestamp, snapshot = self._timestamp_quorum, self._snapshot_quorum
        match config.stolen:
            case "line":
                self._sign_targets(_without_first(self._line_quorum))
                if both:
                    self._sign_root(_without_first(timestamp), _without_first(snapshot))
            case "snapshot":
                self._sign_root(_without_first(timestamp) if both else timestamp, self._replaced(snapshot))
            case "timestamp":
                self._sign_root(self._replaced(timestamp), _without_first(snapshot) if both else snapshot)
            case _:
                self._sign_root(self._replaced(timestamp), self._replaced(snapshot))
                if self._line_quorum.keys != 1:  # one of the line's people goes, too
                    self._sign_targets(_without_first(self._line_quorum))

    def _replaced(self, quorum: Quorum) -> Quorum:
        if "replace-all" not in self.config.rules:
            return _without_first(quorum)
        return ALL_ARE_NEW if quorum.threshold == 1 else Quorum(0b1110000, quorum.threshold)

    # --- files

    def _sign_root(self, timestamp: Quorum, snapshot: Quorum, algorithm: int = 0) -> None:
        self._timestamp_quorum, self._snapshot_quorum = timestamp, snapshot
        bases = Bases()
        if "base" in self.config.rules:  # the first versions under the new keys, which the repository then uses
            bases = Bases(self._version["timestamp"] + 1, self._version["snapshot"] + 1, self.now)
        root = Root(self._up("root"), timestamp, snapshot, self.now + self.config.lifetime, bases, algorithm)
        self.roots += (self._add(root),)

    def _sign_targets(self, line: Quorum) -> None:
        self._line_quorum = line
        base = self._version["line"] + 1 if "base" in self.config.rules else 0
        config, expires = self.config, self.now + self.config.lifetime
        targets = Targets(self._up("targets"), line, expires, base, config.counter_limit, config.grace_limit)
        self.targets = self._add(targets)

    def _sign_line(self) -> None:
        releases = tuple(Entry(image, *said) for image, said in sorted(self.releases.items()))
        signers, expires = self._signing(self._line_quorum), self.now + self.config.lifetime
        self.line = self._add(Line(self._up("line"), signers, expires, releases, self.grace, self._place()))

    def _sign_online(self, *, snapshot: bool = True) -> None:
        order = self._place()
        if snapshot:
            signers = self._signing(self._snapshot_quorum)
            self.snapshot = self._add(self._listing(self._up("snapshot"), signers, self.now + 2, order))
        signers, listed = self._signing(self._timestamp_quorum), self.snapshot
        expires = self.now + 1
        self.timestamp = self._add(
            Timestamp(self._up("timestamp"), signers, self.now, expires, listed, listed.version, order)
        )

    def _listing(self, version: int, signers: int, expires: int, order: int) -> Snapshot:
        targets, line = self.targets, self.line
        return Snapshot(version, signers, expires, targets, targets.version, line, line.version, order)

    def _signing(self, quorum: Quorum) -> int:
        chosen = quorum.keys & self._signers
        return chosen if quorum.met_by(chosen) else quorum.keys

    def _up(self, role: str) -> int:
        self._version[role] += 1
        return self._version[role]

    def _place(self) -> int:
        self._signed += 1
        return self._signed

    def _add(self, file: F) -> F:
        file = unique(file)
        if file not in self.published:
            self.published += (file,)
        return file

    # --- a thief's files

    def _steal(self) -> None:
        config = self.config
        if config.stolen == "timestamp":
            self._steal_timestamp()
        elif config.stolen and not (
            config.harmless and "successor" in config.rules
        ):  # online signers verify what they list
            self._list_stolen(checks="successor" in config.rules)

    def _list_stolen(self, *, checks: bool) -> None:
        if self.config.stolen == "line":
            self._steal_line(checks=checks)
        else:
            self._steal_snapshot(checks=checks)

    def _steal_line(self, *, checks: bool) -> None:
        """Lines that let every release step down to the oldest, and that withdraw nothing; `checks`: only successors are listed."""
        honest, version, keys = self.line, self._version["line"], self.config.stolen_keys
        down = (Entry(FIRST, False, VERSION), Entry(SECOND, False, VERSION))
        up = (Entry(SECOND, False, ()), *((Entry(EVIL, False, ()),) if self.config.raw_images else ()))
        forged = [(version + 1, down), (version + 2, up), *([] if checks else [(HIGHEST, down)])]
        for number, releases in forged:
            self.line = self._add(Line(number, keys, HIGHEST, releases, HIGHEST, FORGED))
            self._sign_online()
        self.line = honest
        self._version["line"] += 2

    def _steal_snapshot(self, *, checks: bool) -> None:
        """Snapshots that list what nobody has at the highest version, and the oldest line."""
        honest, version, keys = self.snapshot, self._version["snapshot"], self.config.stolen_keys
        oldest = next(file for file in self.published if isinstance(file, Line))
        for number in (version + 1,) if checks else (version + 1, HIGHEST):
            for targets, line in ((None, None), (self.targets, oldest)):
                listed = (targets, targets.version if targets else HIGHEST, line, line.version if line else HIGHEST)
                self.snapshot = self._add(Snapshot(number, keys, HIGHEST, *listed, FORGED))
                self._sign_online(snapshot=False)
        self.snapshot = honest
        self._version["snapshot"] += 1

    def _steal_timestamp(self) -> None:
        """Timestamps now and at the highest version, of now and of 2099, that list the newest, the oldest and no snapshot."""
        oldest = next(file for file in self.published if isinstance(file, Snapshot))
        listed = [(self.snapshot, self.snapshot.version), (oldest, oldest.version), (None, HIGHEST)]
        for version in (self._version["timestamp"] + 1, HIGHEST):
            for issued in (self.now, HIGHEST):
                for file in listed:
                    self._add(Timestamp(version, self.config.stolen_keys, issued, HIGHEST, *file, FORGED))


def _without_first(quorum: Quorum) -> Quorum:
    """The keys that stay when key 1 goes, and for a larger quorum one that is new."""
    return FIRST_REMAINS if quorum.threshold == 1 else Quorum(0b1110, quorum.threshold)
