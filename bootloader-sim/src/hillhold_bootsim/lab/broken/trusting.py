"""Faults in the rules of trust: expiry and time, floors, and what lists what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from hillhold_bootsim.lab.broken.plant import Plant, Shelf, always
from hillhold_verifier import installer, session, trust
from hillhold_verifier.keys import Key
from hillhold_verifier.metadata import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, Envelope
from hillhold_verifier.roles import MetaFile, Role, Targets
from hillhold_verifier.trust import Floor, Trust

TRUSTING: Final = Shelf()
_add = TRUSTING.add
_TOP: Final = (ROOT, TIMESTAMP, SNAPSHOT, TARGETS)


# --- expiry and time --------------------------------------------------------------------------------------------------


def _never_expires(name: str, is_it: Callable[[str], bool]) -> None:
    @_add(f"ignores-expiry-{name}", f"It ignores the expiry of {name}.", f"expired-{name}")
    def plant(plant: Plant) -> None:
        def make(right: Any) -> Any:
            return lambda role, expires, now: None if is_it(role) else right(role, expires, now)

        plant.replace(trust, "check_expiry", make)


for _role in _TOP:
    _never_expires(_role, _role.__eq__)
_never_expires("line", lambda role: role not in _TOP)


@_add("trusts-line-for-grace", "It grants the offline grace that the line claims, whatever its delegation allows.",
      "grace-beyond-cap")  # fmt: skip
def trusts_line_for_grace(plant: Plant) -> None:
    def make(right: Any) -> Any:
        def terms(held: Trust, product: str) -> Any:
            listing, delegation, keys = right(held, product)
            return listing, replace(delegation, max_offline_grace=2**40), keys

        return terms

    plant.replace(trust, "_line_terms", make)


@_add("believes-a-clock-set-back", "It goes by its clock alone, even where that is set back.", "clock-set-back")
def believes_a_clock_set_back(plant: Plant) -> None:
    plant.replace(Trust, "now", lambda _right: lambda _held, clock: clock or 0)


@_add("remembers-the-latest-clock", "It takes the latest time that its clock ever showed for a floor.",
      "clock-far-ahead")  # fmt: skip
def remembers_the_latest_clock(plant: Plant) -> None:
    latest = [0]

    def make(right: Any) -> Any:
        def now(held: Trust, clock: int | None) -> int:
            latest[0] = max(latest[0], clock or 0)
            latest[0] = max(latest[0], right(held, clock))
            return latest[0]

        return now

    plant.replace(Trust, "now", make)


# --- floors -----------------------------------------------------------------------------------------------------------


@_add("never-raises-a-floor", "It never raises the floors of versions: what it holds is all that it compares with.",
      "rollback-line-after-rotation", "rollback-targets-after-rotation")  # fmt: skip
def never_raises_a_floor(plant: Plant) -> None:
    plant.replace(trust, "_raised", lambda _right: lambda held, *_: held.floors)


@_add("keeps-floors-of-replaced-keys", "A floor stays when the keys that set it are replaced: a thief locks it out for good.",
      "fast-forward-timestamp", "fast-forward-snapshot", "fast-forward-targets", "fast-forward-line")  # fmt: skip
def keeps_floors_of_replaced_keys(plant: Plant) -> None:
    def make(right: Any) -> Any:
        def check(held: Trust, name: str, role: Role, keys: Mapping[str, Key], version: int) -> None:
            if floor := held.floors.get(name):
                staying = frozenset(key.identity() or b"" for key in keys.values())
                floors = {name: Floor(floor.value, staying)}
                held = replace(held, floors=floors)
            right(held, name, role, keys, version)

        return check

    plant.replace(trust, "_check_floor", make)


@_add("keeps-the-time-of-replaced-keys", "The time that a timestamp stated stays when its key is replaced.",
      "fast-forward-time")  # fmt: skip
def keeps_the_time_of_replaced_keys(plant: Plant) -> None:
    def telling(right: Any) -> Any:
        return lambda held, clock: max(right(held, clock), _stated(held))

    def taking(right: Any) -> Any:
        def update(held: Trust, data: bytes, clock: int | None) -> Trust:
            found: Trust = right(held, data, clock)
            return replace(found, time_floor=max(held, found, key=_stated).time_floor)

        return update

    plant.replace(Trust, "now", telling)
    plant.replace(session, "update_timestamp", taking)


def _stated(held: Trust) -> int:
    return held.time_floor.value if held.time_floor else 0


@_add("forgets-what-was-listed", "It does not compare a snapshot with the one before: a role may be dropped, or go back.",
      "relisted-line")  # fmt: skip
def forgets_what_was_listed(plant: Plant) -> None:
    plant.replace(trust, "_check_claims", always(None))


@_add("compares-no-versions", "It compares no version of a file with anything that it saw before.",
      "rollback-timestamp", "rollback-snapshot", "rollback-line", "rollback-targets")  # fmt: skip
def compares_no_versions(plant: Plant) -> None:
    plant.replace(trust, "_check_floor", always(None))
    plant.replace(trust, "_check_claims", always(None))

    def make(right: Any) -> Any:
        def update(held: Trust, data: bytes, clock: int | None) -> Trust:
            blank = replace(held, timestamp=None)
            found: Trust = right(blank, data, clock)
            return found

        return update

    plant.replace(session, "update_timestamp", make)


# --- what lists what --------------------------------------------------------------------------------------------------


def _unlisted(plant: Plant, role: str, *, version: bool) -> None:
    """Have files of one role pass, whatever their lister says of their content; with `version`, their version has to be the listed one."""
    taken: list[tuple[bytes, MetaFile]] = []

    def content(right: Any) -> Any:
        def check(data: bytes, name: str, listing: MetaFile, *, hashed: bool) -> None:
            if name != role:
                right(data, name, listing, hashed=hashed)
            else:
                taken.append((data, listing))

        return check

    def listed(right: Any) -> Any:
        def is_listed(envelope: Envelope[Any], listing: MetaFile, *, hashed: bool) -> bool:
            return (envelope.raw, listing) in taken or bool(right(envelope, listing, hashed=hashed))

        return is_listed

    plant.replace(trust, "check_content", content)
    plant.replace(trust, "is_listed", listed)
    if not version:
        plant.replace(
            trust, "check_version", lambda right: lambda new, name, listing: name == role or right(new, name, listing)
        )


@_add("skips-the-snapshot-hash", "It does not compare the snapshot's hash with the one that the timestamp lists.",
      "mix-snapshot-signed-anew")  # fmt: skip
def skips_the_snapshot_hash(plant: Plant) -> None:
    _unlisted(plant, SNAPSHOT, version=True)


@_add("takes-any-snapshot", "It takes any signed snapshot, whichever the timestamp lists.", "mix-snapshot")
def takes_any_snapshot(plant: Plant) -> None:
    _unlisted(plant, SNAPSHOT, version=False)


@_add("skips-the-line-hash", "It does not compare the hash of the line's file with the one that the snapshot lists.",
      "same-version-line")  # fmt: skip
def skips_the_line_hash(plant: Plant) -> None:
    _unlisted(plant, plant.house.device.product, version=True)


@_add("takes-any-line", "It takes any signed file of the line, whichever the snapshot lists.", "mix-line")
def takes_any_line(plant: Plant) -> None:
    _unlisted(plant, plant.house.device.product, version=False)


@_add("goes-on-with-an-older-line", "Where the newest file of the line is withheld, it goes on with the one that it holds.",
      "withheld-line")  # fmt: skip
def goes_on_with_an_older_line(plant: Plant) -> None:
    judging = [False]

    def current(right: Any) -> Any:
        def run(held: Trust, *rest: Any) -> Any:
            judging[0] = True
            try:
                return right(replace(held), *rest)  # what another look at it came to is remembered in it
            finally:
                judging[0] = False

        return run

    def listed(right: Any) -> Any:
        def is_listed(envelope: Envelope[Any], listing: MetaFile, *, hashed: bool) -> bool:
            passes = judging[0] and isinstance(envelope.signed, Targets)
            return passes or bool(right(envelope, listing, hashed=hashed))

        return is_listed

    plant.replace(installer, "current", current)
    plant.replace(trust, "is_listed", listed)
