"""Versions and times far ahead, by stolen keys: nobody is locked out once the keys are replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hillhold_bootsim.lab.bench import Bench
from hillhold_bootsim.lab.catalogue import kinds
from hillhold_bootsim.lab.catalogue import sources as of
from hillhold_bootsim.lab.catalogue.book import Book
from hillhold_bootsim.lab.catalogue.leaves import ROTATED, TWO_ROOTS
from hillhold_bootsim.lab.forge import DAY, MAX_VERSION, Repo

FORWARD_CASES: Final = Book("keys")
_add = FORWARD_CASES.add


def _forward(role: str, made: Callable[[Repo], None]) -> None:
    name = "the product line" if role == "line" else role

    @_add(
        f"fast-forward-{role}",
        f"Stolen keys sign {name} in the highest version that there is",
        how=f"Who has the keys of {name} (and the online keys, where those have to list it) signs version 2**53-1, and the board takes "
        "it. Then the stolen keys are replaced, by a root that a courier brings.",
        expected="Once the keys are replaced, honest files are taken again.",
        sources=(of.TUF_FAST_FORWARD, of.TUF_COMPROMISE, of.CR_7_1, *kinds.MITIGATION, *kinds.UPDATABLE),
        leaves=TWO_ROOTS,
    )
    def forwarded(bench: Bench) -> None:
        thief = bench.house.thief()
        made(thief)
        bench.check(thief)
        bench.reset()
        bench.stolen()


_forward("timestamp", lambda thief: _publish(thief, timestamp=thief.timestamp(version=MAX_VERSION)))
_forward("snapshot", lambda thief: _publish(thief, "timestamp", snapshot=thief.snapshot(version=MAX_VERSION)))
_forward("targets", lambda thief: _publish(thief, "snapshot", "timestamp", targets=thief.targets(version=MAX_VERSION)))
_forward("line", lambda thief: _publish(thief, "snapshot", "timestamp", line=thief.line(version=MAX_VERSION)))


def _publish(repo: Repo, *roles: str, **made: bytes) -> None:
    repo.publish(*roles, **made)


@_add(
    "fast-forward-time",
    "A stolen timestamp key states a time far ahead",
    how="A timestamp says that it was signed ten years from now, so that everything honest has expired. Then the key is replaced.",
    expected="The time falls with the key that stated it: honest files are taken again.",
    sources=(of.TUF_FAST_FORWARD, of.TUF_COMPROMISE, of.CR_7_1, *kinds.MITIGATION, *kinds.UPDATABLE),
    leaves=ROTATED,
)
def fast_forward_time(bench: Bench) -> None:
    thief = bench.house.thief()
    far = bench.house.now + 3650 * DAY
    thief.publish(timestamp=thief.timestamp(issued=far, expires=far + DAY))
    bench.push(thief)
    bench.stolen()
