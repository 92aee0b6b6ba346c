"""Metadata that have expired, have no end, or come too slowly."""

from __future__ import annotations

from typing import Final

from hillhold_bootsim.lab.bench import Bench
from hillhold_bootsim.lab.catalogue import kinds
from hillhold_bootsim.lab.catalogue import sources as of
from hillhold_bootsim.lab.catalogue.book import Book
from hillhold_bootsim.lab.catalogue.leaves import FLOORS, TWO_ROOTS
from hillhold_bootsim.lab.catalogue.metadata import ONLINE
from hillhold_bootsim.lab.forge import DAY
from hillhold_verifier.agent import METADATA
from hillhold_verifier.smp import Op
from hillhold_verifier.wire import base_name, deflate

FRESHNESS_CASES: Final = Book("metadata")
_add = FRESHNESS_CASES.add


# --- expiry -----------------------------------------------------------------------------------------------------------


def _expired(bench: Bench, role: str) -> None:
    house = bench.house
    release = house.release(expires={role: house.now - 1})
    bench.push(house.repo)
    bench.smuggle(release.data)


def _expiry(role: str, clause: str) -> None:
    @_add(
        f"expired-{role}",
        f"A release under {'the product line' if role == 'line' else role} metadata that has expired",
        how=f"All is signed and listed properly, and {role} expired a second before it was brought.",
        expected="It installs nothing, and goes on running what it ran.",
        sources=(clause, of.TUF_FREEZE, of.TR_ESSENTIAL),
        leaves=FLOORS,
    )
    def expired(bench: Bench) -> None:
        _expired(bench, role)


for _role, _clause in (
    ("timestamp", of.TUF_TIMESTAMP_EXPIRY),
    ("snapshot", of.TUF_SNAPSHOT_EXPIRY),
    ("targets", of.TUF_TARGETS_EXPIRY),
    ("line", of.TUF_TARGETS_EXPIRY),
):
    _expiry(_role, _clause)


@_add(
    "expired-root",
    "A release under a root that has expired",
    how="The next root, signed by its quorum, has expired; all below it is new and in order.",
    expected="It may follow the root, and installs nothing under it, until the next one.",
    sources=(of.TUF_ROOT_EXPIRY, of.TUF_FREEZE),
    leaves=TWO_ROOTS,
)
def expired_root(bench: Bench) -> None:
    house = bench.house
    release = house.release()
    house.rotate(expires={"root": house.now - 1})
    bench.rotated = True
    bench.push(house.repo)
    bench.smuggle(release.data)
    bench.stolen()


@_add(
    "grace-beyond-cap",
    "A line that claims more offline grace than its delegation allows",
    how="The line claims 30 days; targets allow it one. Timestamp and snapshot expired two days ago.",
    expected="It installs nothing: the weakest team does not set its own limits.",
    sources=(of.TUF_FREEZE, of.TUF_DELEGATION, *kinds.MITIGATION),
    leaves=FLOORS,
)
def grace_beyond_cap(bench: Bench) -> None:
    house, repo = bench.house, bench.house.repo
    cap, repo.max_offline_grace = repo.max_offline_grace, DAY
    repo.offline_grace = 30 * DAY
    release = house.release(expires=dict.fromkeys(ONLINE, house.now - 2 * DAY))
    bench.push(repo)
    bench.smuggle(release.data)
    repo.offline_grace, repo.max_offline_grace = 0, cap


# --- endless data, slow retrieval -------------------------------------------------------------------------------------


@_add(
    "endless-announced",
    "Metadata that announces more than any file has",
    how="For each file, lengths of a byte too many up to 2**63 are announced, packed and unpacked.",
    expected="It refuses at once, and takes honest files afterwards.",
    sources=(of.TUF_ENDLESS, *kinds.LIMITS, *kinds.MALFORMED, *kinds.AVAILABLE),
)
def endless_announced(bench: Bench) -> None:
    for number in range(6):
        for field in ("n", "l"):
            for length in (1 << 20, 1 << 32, (1 << 63) - 1):
                body: dict[str, object] = {
                    "f": number,
                    "n": 100,
                    "l": 100,
                    "b": base_name(b""),
                    "d": b"",
                    field: length,
                }
                bench.own(Op.WRITE, METADATA, **body)


@_add(
    "endless-pieces",
    "Metadata that goes on beyond its announced end",
    how="A file of 1000 bytes is announced, and pieces are sent on and on.",
    expected="It refuses what is too much, and takes honest files afterwards.",
    sources=(of.TUF_ENDLESS, *kinds.LIMITS, *kinds.AVAILABLE),
)
def endless_pieces(bench: Bench) -> None:
    for number in range(5):
        at = 0
        for _ in range(12):
            head = {"o": at} if at else {"n": 1000, "l": 1000, "b": base_name(b"")}
            bench.own(Op.WRITE, METADATA, f=number, **head, d=bytes(bench.room))
            at += bench.room


@_add(
    "endless-inflated",
    "A few bytes that inflate to very many",
    how="A deflated file of two million zeros is sent as a file of the longest length that the board takes.",
    expected="It stops at the announced length, and refuses.",
    sources=(of.TUF_ENDLESS, *kinds.MALFORMED, *kinds.AVAILABLE),
)
def endless_inflated(bench: Bench) -> None:
    bomb = deflate(bytes(2_000_000), b"")[: bench.room]
    for length in (1000, 100_000, 512 * 1024):
        bench.own(Op.WRITE, METADATA, f=4, n=len(bomb), l=length, b=base_name(b""), d=bomb)


@_add(
    "slow-retrieval",
    "Files that come a few bytes an hour, and never to an end",
    how="A timestamp is begun and sent in pieces of eight bytes with an hour between them (15 seconds on a real board), and left at half; "
    "then an image, likewise.",
    expected="Whoever comes next is served: an update that does not end holds up no other.",
    sources=(of.TUF_SLOW, of.FDA_INTERRUPTION, *kinds.AVAILABLE),
    leaves=FLOORS,
)
def slow_retrieval(bench: Bench) -> None:
    house = bench.house
    pause = 3600 if "clock" not in bench.target.lacks else 15
    raw = house.repo.files["timestamp"]
    packed = deflate(raw, b"")
    for at in range(0, min(80, len(packed)), 8):
        head = {"o": at} if at else {"n": len(packed), "l": len(raw), "b": base_name(b"")}
        bench.own(Op.WRITE, METADATA, f=1, **head, d=packed[at : at + 8])
        bench.wait(pause)
    house.now = max(house.now, bench.target.now())
    release = house.release()
    bench.check(house.repo)
    bench.upload(release.data, end=bench.room)
    bench.wait(pause)
    bench.serves()
