"""What happens to a repository between two publications, and what has to be published then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from differ.beginnings import HASHINGS, delegate, doubled, target
from differ.histories import PATHS, TOP, World
from differ.keyring import UNUSABLE, signer
from forge import DAY, HOUR

Change: TypeAlias = tuple[set[str], bool]
"""The roles that have to be published, and whether root has."""


def _renew(world: World) -> Change:
    return (set(), False) if world.rng.random() < 0.7 else ({"snapshot"}, False)


def _release(world: World) -> Change:
    role = world.rng.choice(["targets", *world.delegated])
    targets = world.roles[role].targets
    if targets and world.rng.random() < 0.3:
        del targets[world.rng.choice(sorted(targets))]
    else:
        targets[world.rng.choice(PATHS)] = target(world.rng, role)
    return {role}, False


def _rotate(world: World) -> Change:
    """Some or all keys of a role are replaced."""
    role = world.rng.choice(TOP)
    quorum = world.roles[role]
    count = world.rng.randint(1, len(quorum.keys))
    quorum.keys[:count] = [world.fresh_key(role) for _ in range(count)]
    quorum.keys = list({one.keyid: one for one in quorum.keys}.values())
    quorum.threshold = min(quorum.threshold, len(quorum.keys))
    return {role} - {"root"}, True


def _rotate_delegated(world: World) -> Change:
    if not world.delegated:
        return _rotate(world)
    role = world.rng.choice(world.delegated)
    quorum = world.quorum(role)
    if role.startswith("bin-"):
        for name in world.delegated:
            world.roles[name].keys, world.roles[name].threshold = quorum.keys, quorum.threshold
        return {*world.delegated, "targets"}, False
    world.roles[role].keys, world.roles[role].threshold = quorum.keys, quorum.threshold
    parents = {name for name in world.roles if any(e["name"] == role for e in world.roles[name].entries)}
    # Signed again under a new version, or (some do) under the old one.
    if world.rng.random() < 0.3:
        world.roles[role].version -= 1
    return {role, *parents}, False


def _threshold(world: World) -> Change:
    role = world.rng.choice(TOP)
    quorum = world.roles[role]
    if world.rng.random() < 0.5 and len(quorum.keys) < 4:
        quorum.keys.append(world.fresh_key(role))
        quorum.keys = list({one.keyid: one for one in quorum.keys}.values())
    quorum.threshold = world.rng.randint(1, len(quorum.keys))
    return {role} - {"root"}, True


def _twin(world: World) -> Change:
    role = world.rng.choice(TOP)
    if all(one.keyid != f"twin of {role}" for one in world.roles[role].keys):
        doubled(world, role)
    return {role} - {"root"}, True


def _regraph(world: World) -> Change:
    """The order of delegations changes, or one is added, dropped, or becomes terminating."""
    rng = world.rng
    parents = [name for name in ("targets", *world.delegated) if world.roles[name].entries]
    if not parents:
        return _release(world)
    parent = rng.choice(parents)
    entries = world.roles[parent].entries
    act = rng.randint(0, 3)
    if act == 0:
        rng.shuffle(entries)
    elif act == 1:
        entries.pop(rng.randrange(len(entries)))
    elif act == 2:
        entry = rng.choice(entries)
        entry["terminating"] = not entry["terminating"]
    else:
        names = [name for name in world.delegated if all(e["name"] != name for e in entries) and name != parent]
        if names:
            delegate(world, parent, rng.choice(names))
    return {parent}, False


def _roots(world: World) -> Change:
    """Root is signed again, once or more often."""
    for _ in range(world.rng.randint(0, 2)):
        world.publish(set(), root=True)
    return set(), True


def _switch_names(world: World) -> Change:
    world.consistent = not world.consistent
    return set(), True


def _switch_listing(world: World) -> Change:
    world.hashing, world.lengths = world.rng.choice(HASHINGS), not world.lengths
    return {"snapshot"}, False


def _jump(world: World) -> Change:
    role = world.rng.choice(["timestamp", "snapshot", "targets", *world.delegated])
    world.roles[role].version += world.rng.choice((1, 7, 1000, 2**40))
    return {role}, False


def _recover(world: World) -> Change:
    """After a theft: new keys for timestamp and snapshot, and their versions begin anew (TUF 5.3.11)."""
    for role in world.rng.choice((("timestamp", "snapshot"), ("timestamp", "snapshot"), ("timestamp",), ("snapshot",))):
        quorum = world.quorum(role)
        quorum.version = world.rng.choice((0, 0, world.roles[role].version))
        world.roles[role] = quorum
    if world.rng.random() < 0.3:
        world.roles["snapshot"].version = 0
    return {"snapshot"}, True


def _spans(world: World) -> Change:
    """Files expire sooner, or at the very second of a later session, or within the day."""
    role = world.rng.choice(TOP)
    world.spans[role] = world.rng.choice((1, 60, HOUR, HOUR + 1, DAY, DAY + HOUR, 40 * DAY))
    return {role} - {"root"}, role == "root"


def _same_version(world: World) -> Change:
    """A role is signed again under the version that it has."""
    role = world.rng.choice(["timestamp", "snapshot", "targets", *world.delegated])
    world.roles[role].version = max(0, world.roles[role].version - 1)
    return {role}, False


def _unusable(world: World) -> Change:
    """Root states a key that one side or both cannot use, perhaps as one of a role's."""
    extra = signer("extra", world.rng.choice(UNUSABLE))
    world.extra_keys = [extra]
    role = world.rng.choice(TOP)
    if world.rng.random() < 0.5 and all(one.keyid != extra.keyid for one in world.roles[role].keys):
        world.roles[role].keys.insert(world.rng.randint(0, len(world.roles[role].keys)), extra)
    return {role} - {"root"}, True


EVENTS: Final[Mapping[str, Callable[[World], Change]]] = {
    "renew": _renew,
    "release": _release,
    "rotate": _rotate,
    "rotate a delegated role": _rotate_delegated,
    "threshold": _threshold,
    "second id": _twin,
    "regraph": _regraph,
    "roots": _roots,
    "switch names": _switch_names,
    "switch listing": _switch_listing,
    "jump": _jump,
    "recover": _recover,
    "spans": _spans,
    "same version": _same_version,
    "unusable key": _unusable,
}
