"""A second judge of trust: from plain JSON and bare Ed25519, says of each file that a device accepted whether it had to be refused.

It knows one side only: what it finds fault with must not be accepted. It keeps the floors of DESIGN §4 by itself, with their keys.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from forge import canon, date
from hillhold_verifier.metadata import Envelope
from hillhold_verifier.trust import Current, Trust

Body = dict[str, Any]
TOP = ("timestamp", "snapshot", "targets")
EPOCH = date(0)


@lru_cache(maxsize=4096)
def verifies(public: str, signature: str, payload: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(bytes.fromhex(signature), payload)
    except (InvalidSignature, ValueError):
        return False
    return True


def signed_of(raw: bytes) -> Body:
    found: Body = json.loads(raw)["signed"]
    return found


def keys_of(role: Body, keys: Body) -> set[str]:
    """The usable keys of a role, by what they are and not by their ids."""
    entries = [keys[keyid] for keyid in role["keyids"] if keyid in keys]
    usable = [e["keyval"].get("public") for e in entries if (e["keytype"], e["scheme"]) == ("ed25519", "ed25519")]
    return {public.lower() for public in usable if isinstance(public, str)}


def valid(raw: bytes, role: Body, keys: Body) -> frozenset[str]:
    """The role's keys with a valid signature over the file."""
    whole = json.loads(raw)
    payload = canon(whole["signed"])
    found = set()
    for entry in whole["signatures"]:
        key = keys.get(entry["keyid"]) if entry["keyid"] in role["keyids"] else None
        if key and keys_of({"keyids": ["k"]}, {"k": key}) and verifies(key["keyval"]["public"], entry["sig"], payload):
            found.add(key["keyval"]["public"].lower())
    return frozenset(found)


def signers(raw: bytes, role: Body, keys: Body) -> frozenset[str]:
    """The role's keys with a valid signature over an accepted file; fails where they are too few."""
    found = valid(raw, role, keys)
    assert len(found) >= role["threshold"], f"accepted with {len(found)} of {role['threshold']} signatures"
    return found


def line_terms(trust: Trust, product: str) -> tuple[Body, Body]:
    """Role and keys under which the held targets delegate the line."""
    assert trust.targets
    below = signed_of(trust.targets.raw)["delegations"]
    return next(role for role in below["roles"] if role["name"] == product), below["keys"]


def held_by(trust: Trust, product: str) -> dict[str, Envelope[Any] | None]:
    files = {"root": trust.root, "timestamp": trust.timestamp, "snapshot": trust.snapshot, "targets": trust.targets}
    return {**files, product: trust.line}


@dataclass
class Witness:
    """What the device accepted so far: by role the highest version and the keys that set it; the same for the time."""

    product: str
    floors: dict[str, tuple[int, frozenset[str]]] = field(default_factory=dict)
    time: tuple[str, frozenset[str]] = (EPOCH, frozenset())

    def accepted(self, role: str, before: Trust, after: Trust) -> None:
        """The device took a file of `role`: it was right to, and all else is as before."""
        files, others = held_by(after, self.product), held_by(before, self.product)
        held = files[role]
        assert held is not None
        signed, raw = signed_of(held.raw), held.raw
        root = signed_of(before.root.raw)
        assert all(files[name] is others[name] for name in files if name != role)
        if role == "root":
            signers(raw, root["roles"]["root"], root["keys"])
            signers(raw, signed["roles"]["root"], signed["keys"])
            assert signed["version"] == root["version"] + 1
            assert after.floors == before.floors
            return
        self.check_listed(role, raw, signed, before)
        terms, keys = (root["roles"][role], root["keys"]) if role in TOP else line_terms(before, self.product)
        by = signers(raw, terms, keys)
        assert signed["version"] >= self.standing(role, terms, keys), "below its floor"
        self.floors[role] = (signed["version"], by)
        if role == "timestamp":
            issued = signed.get("x-hillhold-issued") or EPOCH
            if issued > self.standing_time(terms, keys):
                self.time = (issued, by)
        self.agree(after)

    def check_listed(self, role: str, raw: bytes, signed: Body, before: Trust) -> None:
        if role == "timestamp":
            return
        lister = before.timestamp if role == "snapshot" else before.snapshot
        assert lister is not None
        listing = signed_of(lister.raw)["meta"][f"{role}.json"]
        assert (listing["version"], listing["hashes"]["sha256"]) == (signed["version"], sha256(raw).hexdigest())
        assert listing.get("length", len(raw)) == len(raw)

    def standing(self, role: str, terms: Body, keys: Body) -> int:
        value, by = self.floors.get(role, (0, frozenset()))
        return value if len(keys_of(terms, keys) & by) >= terms["threshold"] else 0

    def standing_time(self, terms: Body, keys: Body) -> str:
        value, by = self.time
        return value if len(keys_of(terms, keys) & by) >= terms["threshold"] else EPOCH

    def agree(self, trust: Trust) -> None:
        """The device's floors are these."""
        names: Mapping[str, str] = {"line": self.product}
        found = {names.get(name, name): (floor.value, len(floor.keys)) for name, floor in trust.floors.items()}
        assert found == {name: (value, len(by)) for name, (value, by) in self.floors.items()}
        assert (date(trust.time_floor.value) if trust.time_floor else EPOCH) == self.time[0]

    def current(self, trust: Trust, found: Current, clock: int | None) -> None:
        """The device holds its chain current now: every file verifies now, is the listed one and is unexpired."""
        root = signed_of(trust.root.raw)
        assert trust.timestamp
        assert trust.snapshot
        assert trust.targets
        assert trust.line
        files = {"timestamp": trust.timestamp.raw, "snapshot": trust.snapshot.raw, "targets": trust.targets.raw}
        for role, raw in files.items():
            signers(raw, root["roles"][role], root["keys"])
            self.check_listed(role, raw, signed_of(raw), trust)
        terms, keys = line_terms(trust, self.product)
        signers(trust.line.raw, terms, keys)
        line = signed_of(trust.line.raw)
        self.check_listed(self.product, trust.line.raw, line, trust)
        now = max(date(clock or 0), self.standing_time(root["roles"]["timestamp"], root["keys"]))
        assert date(found.now) == now
        for signed in (root, signed_of(trust.targets.raw), line):
            assert signed["expires"] > now
        grace = min(line.get("x-hillhold-offline-grace", 0), terms.get("x-hillhold", {}).get("max_offline_grace", 0))
        stale = [raw for role, raw in files.items() if role != "targets" and signed_of(raw)["expires"] <= now]
        assert bool(found.grace_used) == bool(stale)
        assert found.grace_used <= max(1, grace)
