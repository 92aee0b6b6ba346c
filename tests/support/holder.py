"""What a device holds, for tests of the rules of trust: provisioned with a forged repository's root, and fed its files."""

from __future__ import annotations

from collections.abc import Mapping

from forge import T0, Repo
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
