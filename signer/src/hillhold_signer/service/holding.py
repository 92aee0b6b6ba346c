"""A database that was restored is held: nothing is signed, published or appended to the log until `resuming` has caught up.

What was published after the back-up is not in it. A service that went on from there would give the next numbers to other files: devices
that have seen the real ones refuse them, or hold two files of one version for the same. And its log would show two pasts. So `restore`
leaves a row, in the transaction that fills the database, and every replica looks for it in each transaction that decides something.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select

from hillhold_signer.errors import SignerRefused
from hillhold_signer.service.tables import HOLDS
from hillhold_verifier.times import show_time

_HOLDS: Final = select(HOLDS.c.time, HOLDS.c.backup, HOLDS.c.manifest)


class HeldRefused(SignerRefused):
    """The service was restored from a back-up, and does not know yet what was published since (HTTP 503)."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Why it is held: when it was restored (Unix seconds), from which back-up, and SHA-256 of that one's manifest."""

    time: int
    backup: str
    manifest: str


def hold(connection: Connection, found: Hold) -> None:
    """Hold the service; raises `StorageError`."""
    row = {"id": 1, "time": found.time, "backup": found.backup, "manifest": found.manifest}
    connection.execute(HOLDS.insert().values(row))


def holding(connection: Connection) -> Hold | None:
    """Return why the service is held; None where it is not; raises `StorageError`."""
    row = connection.execute(_HOLDS).first()
    return None if row is None else Hold(*row)


def check_held(connection: Connection) -> None:
    """Refuse to decide anything while the service is held; raises `HeldRefused`, `StorageError`."""
    if (found := holding(connection)) is not None:
        raise HeldRefused(
            "service",
            expected="one that knows what was published last",
            got=f"back-up {found.backup}, restored {show_time(found.time)}",
            hint="`hillhold service resume`; see docs/DRILLS.md, the service is restored",
        )


def let_go(connection: Connection) -> None:
    """Hold the service no longer; raises `StorageError`."""
    connection.execute(HOLDS.delete())
