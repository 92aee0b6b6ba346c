"""How a repository begins: its keys, its graph of delegations, its targets, its ways of listing files."""

from __future__ import annotations

from hashlib import new as new_hash
from hashlib import sha256
from random import Random
from typing import Final

from differ.histories import PATHS, TOP, Quorum, World
from differ.keyring import COMMON, UNUSABLE, USABLE, signer
from forge import Object

NAMES: Final = ("a", "b", "c", "d/e", "ü", "F-0")
PATTERNS: Final = ("*", "?", "*/*", "a/*", "a/?", "a/*/*", "b/*.bin", "b/?.bin", "x", "é/*", "a/x*", "*/*/*")
BRACKETS: Final = ("c/[z]", "c/[!y]", "[a-c]/*", "[")
HASHINGS: Final = (
    *(((),) * 8),
    *((("sha256",),) * 8),
    *((("sha512",),) * 3),
    ("sha256", "sha512"),
    ("sha256", "sha384"),
    ("sha3_256",),
)
"""Algorithms by which listers name files; not all are known to both sides."""


def begin(rng: Random) -> World:
    """A repository of a random shape, published once."""
    world = World(rng)
    world.kinds = USABLE if world.chance("keys of all kinds", 0.12) else COMMON
    world.consistent = not world.chance("no consistent snapshots", 0.3)
    world.hashing = rng.choice(HASHINGS)
    world.features.add(f"hashes: {'+'.join(world.hashing) or 'none'}")
    world.lengths = world.chance("lengths", 0.4)
    world.issuing = world.chance("issued", 0.25)
    world.unknown = world.chance("unknown fields", 0.2)
    world.spec = rng.choice(("1.0.31", "1.0.31", "1.0", "1.0.0"))
    for role in TOP:
        world.roles[role] = world.quorum(role)
    if world.chance("unusable keys", 0.04):
        world.extra_keys = [signer("extra", rng.choice(UNUSABLE))]
        if rng.random() < 0.5:
            world.roles[rng.choice(TOP)].keys.append(world.extra_keys[0])
    if world.chance("one key under two ids", 0.08):
        doubled(world, rng.choice(TOP))
    _graph(world)
    for role in ["targets", *world.delegated]:
        for path in rng.sample(PATHS, rng.randint(0, 4)):
            world.roles[role].targets[path] = target(rng, role)
    world.publish(set(world.roles), root=True)
    return world


def _graph(world: World) -> None:
    rng = world.rng
    if world.chance("bins", 0.12):
        bits = rng.randint(1, 3)
        world.roles["targets"].succinct = {"bit_length": bits, "name_prefix": "bin"}
        shared = world.quorum("bin")
        for number in range(2**bits):
            world.roles[f"bin-{number:x}"] = Quorum(shared.keys, shared.threshold)
        return
    above = ["targets"]
    for name in NAMES[: rng.choice((0, 1, 1, 2, 2, 3, 4, 6))]:
        world.roles[name] = world.quorum(name)
        delegate(world, rng.choice(above), name)
        above.append(name)
    for feature, probability in (("two parents", 0.3), ("cycle", 0.15)):
        if len(above) > 2 and world.chance(feature, probability):
            child = rng.choice(above[1:-1] if feature == "cycle" else above[1:])
            parents = [
                name for name in above if name != child and all(e["name"] != child for e in world.roles[name].entries)
            ]
            if parents:
                delegate(world, parents[-1] if feature == "cycle" else rng.choice(parents), child)
    if any(name != "targets" and world.roles[name].entries for name in above):
        world.features.add("nested")


def delegate(world: World, parent: str, child: str) -> None:
    """Let `parent` delegate to `child`, in a random way, at a random place."""
    rng = world.rng
    entry: Object = {"name": child, "terminating": world.chance("terminating", 0.25)}
    if world.chance("hash prefixes", 0.2):
        digits = rng.choice((0, 1, 1, 2))
        entry["path_hash_prefixes"] = sorted(
            {sha256(rng.choice(PATHS).encode()).hexdigest()[:digits] for _ in range(3)}
        )
    else:
        entry["paths"] = rng.sample(PATTERNS, rng.randint(1, 4))
        if world.chance("bracket in a pattern", 0.04):
            entry["paths"].append(rng.choice(BRACKETS))
    if world.chance("a delegator's own keys", 0.06):
        entry["!keys"] = world.roles[child].keys[:1] if rng.random() < 0.5 else world.quorum(f"other {child}").keys
    if world.roles[parent].succinct is None:
        world.roles[parent].entries.insert(rng.randint(0, len(world.roles[parent].entries)), entry)


def target(rng: Random, role: str) -> Object:
    """A target whose hash tells which role names it."""
    data = f"{role} {rng.randint(0, 99)}".encode()
    names = rng.choice((("sha256",), ("sha256",), ("sha512",), ("sha256", "sha512")))
    found: Object = {"hashes": {name: new_hash(name, data).hexdigest() for name in names}, "length": len(data)}
    return found | ({"custom": {"anything": [1, None]}} if rng.random() < 0.2 else {})


def doubled(world: World, role: str) -> None:
    """One of the role's keys gets a second id, and the threshold counts both."""
    quorum = world.roles[role]
    quorum.keys.append(quorum.keys[0].alias(f"twin of {role}"))
    quorum.threshold = world.rng.randint(1, len(quorum.keys))
