"""What a device holds, for tests of the rules of trust: provisioned with a forged repository's root, and fed its files."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from forge import T0, Repo
from hillhold_verifier.errors import Refused
from hillhold_verifier.metadata import parse_root
from hillhold_verifier.select import Device
from hillhold_verifier.trust import (
    Trust,
    current,
    update_line,
    update_root,
    update_snapshot,
    update_targets,
    update_timestamp,
)

NOW = T0 + 60
"""The time at which tests run where they say nothing else: a minute after the repository's start."""
ABOVE = {"snapshot": ("timestamp",), "targets": ("timestamp", "snapshot"), "line": ("timestamp", "snapshot", "targets")}
"""What a device takes before the file of a role."""
PUMP = Device("pump", "nrf-a", "serial-1")


def fresh(repo: Repo) -> Trust:
    """A device that was provisioned with the repository's published root and holds nothing else."""
    return Trust(parse_root(repo.files["root"]))


def take(
    trust: Trust, files: Mapping[str, bytes], *roles: str, clock: int | None = NOW, product: str = "pump"
) -> Trust:
    """Deliver the files of `roles`, in order; without `roles`, timestamp, snapshot, targets and line."""
    for role in roles or ("timestamp", "snapshot", "targets", "line"):
        data = files[role]
        match role:
            case "root":
                trust = update_root(trust, data)
            case "timestamp":
                trust = update_timestamp(trust, data, clock)
            case "snapshot":
                trust = update_snapshot(trust, data, clock)
            case "targets":
                trust = update_targets(trust, data, clock)
            case _:
                trust = update_line(trust, product, data, clock)
    return trust


def holding(repo: Repo, clock: int | None = NOW) -> Trust:
    """A device that holds all that the repository publishes now, and finds it current."""
    trust = take(fresh(repo), repo.files, clock=clock)
    current(trust, repo.product, clock)
    return trust


def listed(repo: Repo, role: str, data: bytes) -> dict[str, bytes]:
    """Files in which everything above `role` lists `data`, all honestly signed: only `data` itself is wrong."""
    files = {**repo.files, role: data}
    if role in ("targets", "line"):
        if role == "targets":
            files["snapshot"] = repo.snapshot(targets=data)
        else:
            files["snapshot"] = repo.snapshot(line=data)
    files["timestamp"] = data if role == "timestamp" else repo.timestamp(snapshot=files["snapshot"])
    return files


def refused(trust: Trust, files: dict[str, bytes], role: str, error: type[Refused], clock: int | None = NOW) -> Trust:
    """Deliver what lists the file of `role`, then that file: refused, and the device holds what it held."""
    above = ABOVE.get(role, ())
    before = take(trust, files, *above, clock=clock) if above else trust
    was = (before.root, before.timestamp, before.snapshot, before.targets, before.line)
    floors, time_floor = dict(before.floors), before.time_floor
    with pytest.raises(error):
        take(before, files, role, clock=clock)
    assert (before.root, before.timestamp, before.snapshot, before.targets, before.line) == was
    assert dict(before.floors) == floors
    assert before.time_floor == time_floor
    return before


def make(repo: Repo, role: str, **over: object) -> bytes:
    data: bytes = getattr(repo, role)(**over)
    return data


def provisioned_first(repo: Repo) -> Trust:
    """A device that was provisioned with the first root of `repo`, from its tree."""
    return Trust(parse_root(repo.tree["metadata/1.root.json"]))
