"""A repository over time: honest, but of any shape that TUF allows. Everything comes from the `random.Random` that it is given.

`World` is what the repository's people have: keys, versions, a graph of delegations, targets. `publish` writes new versions of some
roles, and of snapshot and timestamp, into `store`. Whoever changes files on the way is given a hook for each step of a file's making
(`Hooks`). How it begins is in `beginnings`, what happens to it in `events`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import new as new_hash
from random import Random
from typing import Final, Protocol, TypeAlias

from differ.keyring import COMMON, Signer, signer
from differ.written import canon, compact
from forge import DAY, T0, YEAR, Object, date

Store: TypeAlias = dict[tuple[str, int | None], bytes]
"""Published files by role and the version in their name (None: no version in it)."""

TOP: Final = ("root", "timestamp", "snapshot", "targets")
PATHS: Final = ("x", "y", "a/x", "a/y", "a/b/x", "b/1.bin", "b/22.bin", "c/z", "c/[z]", "d/q?", "é/ü", "a/x*")
SPANS: Final = {"root": YEAR, "timestamp": DAY, "snapshot": 3 * DAY, "targets": 30 * DAY}


class Hooks(Protocol):
    """Who meddles with the making of files; each gets what is made so far and returns what goes on."""

    def body(self, role: str, body: Object) -> Object:
        """Before it is signed."""

    def signers(self, role: str, signers: list[Signer]) -> list[Signer]:
        """Who signs."""

    def listed(self, role: str, data: bytes) -> bytes:
        """Before it is listed by those above it."""

    def served(self, role: str, data: bytes) -> bytes:
        """After it was listed."""


class Honest:
    """Nobody meddles."""

    def body(self, role: str, body: Object) -> Object:
        return body

    def signers(self, role: str, signers: list[Signer]) -> list[Signer]:
        return signers

    def listed(self, role: str, data: bytes) -> bytes:
        return data

    def served(self, role: str, data: bytes) -> bytes:
        return data


@dataclass
class Quorum:
    """Who signs a role, and its last version; `targets` and `delegations` are a targets role's, as metadata has them, without keys."""

    keys: list[Signer]
    threshold: int
    version: int = 0
    targets: Object = field(default_factory=dict)
    entries: list[Object] = field(default_factory=list)
    succinct: Object | None = None


@dataclass
class World:
    """A repository; `now` in Unix seconds. `features` names what is special about it, for the statistics."""

    rng: Random
    now: int = T0
    roles: dict[str, Quorum] = field(default_factory=dict)
    kinds: tuple[str, ...] = COMMON
    consistent: bool = True
    hashing: tuple[str, ...] = ()
    lengths: bool = False
    issuing: bool = False
    unknown: bool = False
    spec: str = "1.0.31"
    spans: dict[str, int] = field(default_factory=lambda: dict(SPANS))
    latest: dict[str, bytes] = field(default_factory=dict)
    store: Store = field(default_factory=dict)
    former: list[Signer] = field(default_factory=list)
    extra_keys: list[Signer] = field(default_factory=list)
    features: set[str] = field(default_factory=set)
    made: int = 0

    def clone(self) -> World:
        """The same repository, which goes its own way from here."""
        roles = {
            name: replace(
                one, keys=list(one.keys), targets=dict(one.targets), entries=[dict(entry) for entry in one.entries]
            )
            for name, one in self.roles.items()
        }
        twin = replace(self, roles=roles, latest=dict(self.latest), store=dict(self.store), spans=dict(self.spans))
        twin.former, twin.extra_keys = list(self.former), list(self.extra_keys)
        return twin

    def fresh_key(self, name: str) -> Signer:
        """A key that was not used before."""
        self.made += 1
        return signer(f"{name} {self.made}", self.rng.choice(self.kinds))

    def quorum(self, name: str) -> Quorum:
        """A new role of one to three keys."""
        count = self.rng.choice((1, 1, 1, 1, 2, 3))
        keys = list({one.keyid: one for one in (self.fresh_key(name) for _ in range(count))}.values())
        return Quorum(keys, self.rng.randint(1, len(keys)))

    @property
    def delegated(self) -> list[str]:
        """The delegated roles there are."""
        return [name for name in self.roles if name not in TOP]

    def chance(self, feature: str, probability: float) -> bool:
        """Throw the dice for a feature, and note it where it comes."""
        if self.rng.random() >= probability:
            return False
        self.features.add(feature)
        return True

    # --- the bodies of files

    def common(self, role: str) -> Object:
        kind = role if role in TOP else "targets"
        body: Object = {
            "_type": kind,
            "expires": date(self.now + self.spans[kind]),
            "spec_version": self.spec,
            "version": self.roles[role].version,
        }
        if self.unknown:
            body["x-note"] = {"of": [role, None, True], "ü": 'quo"te \\ tab\t'}
        return body

    def body(self, role: str) -> Object:
        if role == "root":
            return self.common(role) | {
                "consistent_snapshot": self.consistent,
                "keys": {one.keyid: one.entry for name in TOP for one in self.roles[name].keys}
                | {one.keyid: one.entry for one in self.extra_keys},
                "roles": {
                    name: {
                        "keyids": [one.keyid for one in self.roles[name].keys],
                        "threshold": self.roles[name].threshold,
                    }
                    for name in TOP
                },
            }
        if role == "timestamp":
            issued = {"x-hillhold-issued": date(self.now)} if self.issuing else {}
            return self.common(role) | {"meta": {"snapshot.json": self.listing("snapshot")}} | issued
        if role == "snapshot":
            names = ["targets", *self.delegated]
            return self.common(role) | {"meta": {f"{name}.json": self.listing(name) for name in names}}
        return self.common(role) | {"targets": self.roles[role].targets} | self.delegations(role)

    def delegations(self, role: str) -> Object:
        quorum = self.roles[role]
        if quorum.succinct:
            bins = self.roles[f"{quorum.succinct['name_prefix']}-0"]
            below = {"keyids": [one.keyid for one in bins.keys], "threshold": bins.threshold, **quorum.succinct}
            return {"delegations": {"keys": {one.keyid: one.entry for one in bins.keys}, "succinct_roles": below}}
        if not quorum.entries:
            return {}
        known: dict[str, Signer] = {}
        entries = []
        for entry in quorum.entries:
            child = self.roles[entry["name"]]
            # A delegator may know a role by keys of its own.
            keys: list[Signer] = entry.get("!keys") or child.keys
            known |= {one.keyid: one for one in keys}
            stated = {"keyids": [one.keyid for one in keys], "threshold": min(child.threshold, len(keys))}
            entries.append({name: value for name, value in entry.items() if name[0] != "!"} | stated)
        return {"delegations": {"keys": {k: one.entry for k, one in known.items()}, "roles": entries}}

    def listing(self, role: str) -> Object:
        data = self.latest[role]
        found: Object = {"version": self.roles[role].version}
        if self.hashing:
            found["hashes"] = {name: new_hash(name, data).hexdigest() for name in self.hashing}
        if self.lengths:
            found["length"] = len(data)
        return found

    # --- publishing

    def publish(self, roles: set[str], hooks: Hooks | None = None, root: bool = False) -> None:
        """Write the next version of `roles`, of snapshot and timestamp, and of root where that changed."""
        hooks = hooks or Honest()
        if root:
            self._write("root", hooks)
        order = [name for name in (*self.delegated, "targets") if name in roles or name not in self.latest]
        if order or "snapshot" in roles or "snapshot" not in self.latest:
            order.append("snapshot")
        for role in (*order, "timestamp"):
            self._write(role, hooks)

    def _write(self, role: str, hooks: Hooks) -> None:
        quorum = self.roles[role]
        quorum.version += 1
        body = hooks.body(role, self.body(role))
        keys = quorum.keys[: quorum.threshold] if self.rng.random() < 0.5 else quorum.keys
        signers = [*keys, *(one for one in self.former if one not in keys)] if role == "root" else list(keys)
        data = hooks.listed(role, sealed(body, hooks.signers(role, signers)))
        self.latest[role] = data
        if role == "root":
            self.former = list(quorum.keys)
        served = hooks.served(role, data)
        if role == "root":
            self.store["root", quorum.version] = served
            return
        stated = body.get("version")
        if type(stated) is int and stated > 0 and self.rng.random() < 0.8:
            quorum.version = stated  # as an honest lister has it, whoever chose the number
        if role == "timestamp":
            self.store["timestamp", None] = served
        else:
            # Both names: whether a client asks by version is root's to say, and changes.
            self.store[role, quorum.version] = self.store[role, None] = served


def sealed(body: Object, signers: list[Signer]) -> bytes:
    """A metadata file."""
    payload = canon(body)
    return compact({"signatures": [{"keyid": one.keyid, "sig": one.sign(payload)} for one in signers], "signed": body})
