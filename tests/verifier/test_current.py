"""What is current: expiry of each role, and the grace that a line's quorum signs for expired timestamps and snapshots."""

from __future__ import annotations

from typing import Any

import pytest

from forge import DAY, HOUR, T0, YEAR, Repo
from hillhold_verifier.errors import ExpiredError, MismatchError, MissingError
from hillhold_verifier.trust import Trust, current
from holder import NOW, fresh, take

ROLES = ("root", "timestamp", "snapshot", "targets", "line")


def device(*, grace: int = 0, cap: int = 30 * DAY, **expires: int) -> Trust:
    """A device that took everything at T0, of a repository whose roles expire as given."""
    repo = Repo()
    repo.offline_grace, repo.max_offline_grace = grace, cap
    repo.expires = dict.fromkeys(ROLES, T0 + 10 * YEAR) | expires
    repo.publish()
    return take(fresh(repo), repo.files, clock=T0)


@pytest.mark.parametrize("role", ROLES)
def test_each_role_expires_at_the_second_that_it_states(role: str) -> None:
    """TUF 5.3.10 and its like: the expiry must be *higher* than the time."""
    end = T0 + DAY
    trust = device(**{role: end})
    assert current(trust, "pump", end - 1).grace_used == 0
    for now in (end, end + 1, end + YEAR):
        with pytest.raises(ExpiredError):
            current(trust, "pump", now)


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_grace_lets_an_expired_timestamp_or_snapshot_pass_and_says_so(role: str) -> None:
    end = T0 + DAY
    trust = device(grace=7 * DAY, **{role: end})
    assert current(trust, "pump", end - 1).grace_used == 0
    assert current(trust, "pump", end + HOUR).grace_used == HOUR
    assert current(trust, "pump", end + 7 * DAY - 1).grace_used == 7 * DAY - 1
    with pytest.raises(ExpiredError, match=role):
        current(trust, "pump", end + 7 * DAY)


@pytest.mark.parametrize("role", ["root", "targets", "line"])
def test_grace_is_for_no_other_role(role: str) -> None:
    trust = device(grace=7 * DAY, **{role: T0 + DAY})
    with pytest.raises(ExpiredError):
        current(trust, "pump", T0 + DAY)


def test_the_longer_expired_file_is_what_counts_and_is_reported() -> None:
    trust = device(grace=7 * DAY, timestamp=T0 + DAY, snapshot=T0 + 2 * DAY)
    assert current(trust, "pump", T0 + 3 * DAY).grace_used == 2 * DAY
    trust = device(grace=7 * DAY, timestamp=T0 + 5 * DAY, snapshot=T0 + DAY)
    assert current(trust, "pump", T0 + 3 * DAY).grace_used == 2 * DAY
    with pytest.raises(ExpiredError, match="snapshot"):
        current(trust, "pump", T0 + 8 * DAY)


def test_the_delegation_caps_the_grace() -> None:
    trust = device(grace=2**53 - 1, cap=HOUR, timestamp=T0 + DAY)
    assert current(trust, "pump", T0 + DAY + HOUR - 1).grace_used == HOUR - 1
    with pytest.raises(ExpiredError):
        current(trust, "pump", T0 + DAY + HOUR)


def test_a_delegation_that_allows_none_allows_none() -> None:
    trust = device(grace=DAY, cap=0, timestamp=T0 + DAY)
    with pytest.raises(ExpiredError):
        current(trust, "pump", T0 + DAY)


def test_both_allowances_may_be_as_long_as_metadata_can_state() -> None:
    trust = device(grace=2**53 - 1, cap=2**53 - 1, timestamp=T0 + DAY)
    assert current(trust, "pump", T0 + 2 * YEAR).grace_used == 2 * YEAR - DAY


@pytest.mark.parametrize(
    "listing", [{}, {"hashes": {"sha512": "0" * 128}}, {"length": 7}], ids=["hash", "other hash", "length"]
)
@pytest.mark.parametrize("name", ["targets", "pump"])
def test_a_held_file_is_current_only_by_a_listing_by_which_it_would_be_taken(
    name: str, listing: dict[str, object]
) -> None:
    """A stolen snapshot key names what the device holds by its version alone: then nothing says which file of that version is meant."""
    repo = Repo()
    repo.publish()
    trust = take(fresh(repo), repo.files)
    assert current(trust, "pump", NOW).grace_used == 0

    def edit(signed: dict[str, Any]) -> None:
        right = signed["meta"][f"{name}.json"]
        signed["meta"][f"{name}.json"] = {
            "version": right["version"],
            **({"hashes": right["hashes"]} if "length" in listing else {}),
        }
        signed["meta"][f"{name}.json"] |= listing

    repo.publish("timestamp", snapshot=repo.snapshot(edit=edit))
    trust = take(trust, repo.files, "timestamp", "snapshot")
    with pytest.raises(MissingError, match=name):
        current(trust, "pump", NOW)
    with pytest.raises(MismatchError):
        take(trust, repo.files, "targets", "line")


def test_grace_is_counted_on_the_time_floor_too() -> None:
    repo = Repo()
    repo.offline_grace = DAY
    repo.expires["snapshot"] = T0 + DAY
    repo.publish()
    repo.issued = T0 + 3 * DAY
    repo.publish("timestamp")
    trust = take(fresh(repo), repo.files, clock=None)
    with pytest.raises(ExpiredError, match="snapshot"):
        current(trust, "pump", None)
    with pytest.raises(ExpiredError, match="snapshot"):
        current(trust, "pump", NOW)
