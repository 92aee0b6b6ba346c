"""Floors fall with the keys that set them, and with nothing else (DESIGN §4, "Floors" and "Time")."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from forge import DAY, MAX_VERSION, T0, YEAR, Object, Repo, ecdsa_key, keys
from hillhold_verifier import keytypes
from hillhold_verifier.errors import ExpiredError, MismatchError, MissingError, RollbackError, SignatureError
from hillhold_verifier.keys import _load
from hillhold_verifier.trust import Trust, current, update_root, update_timestamp
from holder import NOW, fresh, holding, take

YEAR_2099 = 4_070_908_800


@pytest.fixture
def repo() -> Repo:
    repo = Repo()
    repo.offline_grace = 0
    repo.add_release("1.1.0", b"image")
    repo.publish()
    return repo


def recovered(trust: Trust, repo: Repo, *roles: str) -> Trust:
    """The owner replaces the keys of `roles`; the device takes the honest files again, and they are current."""
    repo.rotate(*roles)
    if set(roles) - {"line"}:
        trust = take(trust, repo.files, "root")
    trust = take(trust, repo.files)
    assert current(trust, "pump", NOW).line.version == repo.versions["line"]
    for name, floor in trust.floors.items():
        assert floor.value == repo.versions[name], name
    return trust


# --- a stolen key signs the highest version


def test_stolen_timestamp_key(repo: Repo) -> None:
    old = dict(repo.files)
    trust = take(holding(repo), {"timestamp": repo.timestamp(version=MAX_VERSION)}, "timestamp")
    repo.publish()
    with pytest.raises(RollbackError):
        take(trust, repo.files, "timestamp")
    trust = recovered(trust, repo, "timestamp", "snapshot")
    for stale in (old["timestamp"], repo.timestamp(version=MAX_VERSION, signers=keys("timestamp-1"))):
        with pytest.raises(SignatureError):
            take(trust, {"timestamp": stale}, "timestamp")


@pytest.mark.parametrize("takes_snapshot", [False, True])
def test_stolen_snapshot_key_that_an_honest_timestamp_lists(repo: Repo, takes_snapshot: bool) -> None:
    old = dict(repo.files)

    def highest(signed: Object) -> None:
        for meta in signed["meta"].values():
            meta["version"] = MAX_VERSION

    evil = repo.snapshot(version=MAX_VERSION, edit=highest)
    files = {"snapshot": evil, "timestamp": repo.timestamp(snapshot=evil)}
    repo.versions["timestamp"] += 1
    trust = take(holding(repo), files, *(("timestamp", "snapshot") if takes_snapshot else ("timestamp",)))
    assert trust.floors["targets"].value == 1, "what a snapshot merely claims raises no floor of another role"
    with pytest.raises(RollbackError):
        take(trust, {"timestamp": repo.timestamp(version=3)}, "timestamp")
    trust = recovered(trust, repo, "timestamp", "snapshot")
    with pytest.raises(SignatureError):
        take(trust, old, "timestamp")
    with pytest.raises(RollbackError):
        take(trust, {"timestamp": repo.timestamp(snapshot=old["snapshot"])}, "timestamp")


@pytest.mark.parametrize("takes_line", [False, True])
def test_stolen_quorum_of_the_line_whose_file_was_listed(repo: Repo, takes_line: bool) -> None:
    evil = repo.line(version=MAX_VERSION)
    snapshot = repo.snapshot(line=evil)
    files = {
        "line": evil,
        "snapshot": snapshot,
        "targets": repo.files["targets"],
        "timestamp": repo.timestamp(snapshot=snapshot),
    }
    repo.versions["snapshot"] = repo.versions["timestamp"] = 2
    trust = holding(repo)
    trust = take(trust, files) if takes_line else take(trust, files, "timestamp", "snapshot")
    repo.rotate("line")
    with pytest.raises(RollbackError):
        take(trust, repo.files)
    recovered(trust, repo, "line", "timestamp", "snapshot")


def test_stolen_quorum_of_targets(repo: Repo) -> None:
    evil = repo.targets(version=MAX_VERSION)
    snapshot = repo.snapshot(targets=evil)
    files = {"targets": evil, "snapshot": snapshot, "timestamp": repo.timestamp(snapshot=snapshot)}
    repo.versions["snapshot"] = repo.versions["timestamp"] = 2
    trust = take(holding(repo), files, "timestamp", "snapshot", "targets")
    assert trust.floors["targets"].value == MAX_VERSION
    recovered(trust, repo, "targets", "timestamp", "snapshot")


def test_while_the_stolen_key_stays_so_does_its_floor(repo: Repo) -> None:
    trust = take(holding(repo), {"timestamp": repo.timestamp(version=MAX_VERSION)}, "timestamp")
    repo.publish("root")
    trust = take(trust, repo.files, "root")
    with pytest.raises(RollbackError):
        take(trust, {"timestamp": repo.timestamp()}, "timestamp")


# --- quorums


def test_floor_of_a_quorum_stands_while_a_quorum_of_its_signers_stays(repo: Repo) -> None:
    """Signed by 1, 2 and 3; when 3 goes, 1 and 2 are still a quorum: the floor stands. When 2 goes too, it falls."""
    old = dict(repo.files)
    repo.publish("targets", line=repo.line(signers=repo.keys["line"]))
    repo.publish("snapshot", "timestamp")
    trust = holding(repo)
    assert trust.floors["line"].value == 2

    def rewind(line_keys: tuple[str, ...], *, gone: bool) -> None:
        for name in ("timestamp", "snapshot"):  # so that only the line's own floor is left to judge
            repo.keys[name] = keys(f"{name}-{len(line_keys)}-{gone}")
        repo.keys["line"] = keys(*line_keys)
        repo.publish(
            "root", "targets", "snapshot", "timestamp", line=repo.line(version=1, signers=keys(*line_keys[:2]))
        )
        moved = take(trust, repo.files, "root")
        moved = take(moved, repo.files, "timestamp", "snapshot", "targets")
        if gone:
            assert take(moved, repo.files, "line").floors["line"].value == 1
        else:
            with pytest.raises(RollbackError):
                take(moved, repo.files, "line")

    rewind(("line-1", "line-2", "line-4"), gone=False)
    trust = take(trust, repo.files, "root")
    rewind(("line-1", "line-5", "line-4"), gone=True)
    assert old["line"] != repo.files["line"]


def test_floors_are_judged_at_each_use_not_once(repo: Repo) -> None:
    """A floor that fell is not forgotten: where its key comes back, so does it."""
    repo.publish()
    trust = holding(repo)
    repo.keys["timestamp"] = keys("interim")
    repo.publish("root")
    gone = take(trust, repo.files, "root")
    assert gone.floors["timestamp"].value == 2
    assert take(gone, {"timestamp": repo.timestamp(version=1)}, "timestamp").floors["timestamp"].value == 1
    repo.keys["timestamp"] = keys("timestamp-1")
    repo.publish("root")
    back = take(gone, repo.files, "root")
    with pytest.raises(RollbackError):
        take(back, {"timestamp": repo.timestamp(version=1)}, "timestamp")


def test_a_raised_threshold_ends_a_floor_that_fewer_keys_set(repo: Repo) -> None:
    trust = holding(repo)
    repo.keys["timestamp"] = keys("timestamp-1", "timestamp-2")
    repo.thresholds["timestamp"] = 2
    repo.publish("root")
    trust = take(trust, repo.files, "root")
    with pytest.raises(SignatureError):
        take(trust, {"timestamp": repo.timestamp(version=9, signers=keys("timestamp-1"))}, "timestamp")
    assert take(trust, {"timestamp": repo.timestamp(version=1)}, "timestamp").floors["timestamp"].value == 1


def test_a_raised_threshold_leaves_a_floor_that_enough_keys_set(repo: Repo) -> None:
    repo.keys["timestamp"] = keys("timestamp-1", "timestamp-2")
    repo.publish("root", timestamp=repo.timestamp(version=5, signers=keys("timestamp-1", "timestamp-2")))
    trust = take(take(fresh(repo), repo.files, "timestamp"), repo.files, "snapshot")
    repo.thresholds["timestamp"] = 2
    repo.publish("root")
    trust = take(trust, repo.files, "root")
    with pytest.raises(RollbackError):
        take(trust, {"timestamp": repo.timestamp(version=4)}, "timestamp")


def test_a_lowered_threshold_leaves_the_floor(repo: Repo) -> None:
    repo.keys["timestamp"] = keys("timestamp-1", "timestamp-2")
    repo.thresholds["timestamp"] = 2
    repo.publish("root", timestamp=repo.timestamp(version=5))
    trust = take(fresh(repo), repo.files, "timestamp")
    repo.thresholds["timestamp"] = 1
    repo.publish("root")
    trust = take(trust, repo.files, "root")
    for signer in ("timestamp-1", "timestamp-2"):
        with pytest.raises(RollbackError):
            take(trust, {"timestamp": repo.timestamp(version=4, signers=keys(signer))}, "timestamp")


def test_what_a_snapshot_claims_stands_where_the_floor_of_the_line_has_fallen(repo: Repo) -> None:
    """One line key of three is replaced, and snapshot's is not: an older role that the others signed is not listed again."""
    repo.publish("line", "snapshot", "timestamp")
    trust = holding(repo)
    repo.keys["line"] = keys("line-4", "line-2", "line-3")
    repo.publish("targets", "line", "snapshot", "timestamp")
    older = repo.snapshot(version=9, line=repo.line(version=1, signers=keys("line-2", "line-3")))
    files = {"timestamp": repo.timestamp(version=9, snapshot=older), "snapshot": older}
    with pytest.raises(RollbackError, match="pump version in snapshot"):
        take(trust, files, "timestamp", "snapshot")


@pytest.fixture
def lose_ecdsa(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """From the call on, this machine's library has no P-256: an image with an older one was booted."""

    def lose() -> None:
        monkeypatch.delitem(keytypes.SCHEMES, "ecdsa-sha2-nistp256")
        _load.cache_clear()

    yield lose
    _load.cache_clear()


def test_a_floor_does_not_fall_with_the_library(repo: Repo, lose_ecdsa: Callable[[], None]) -> None:
    """On trial, an image with fewer algorithms would take older files, and leave them to the confirmed one after a revert."""
    new = ecdsa_key("timestamp-2")
    repo.keys["timestamp"] = [*keys("timestamp-1"), new]
    repo.publish("root")
    trust = take(fresh(repo), {"timestamp": repo.timestamp(version=4, issued=T0 + DAY, signers=[new])}, "timestamp")
    lose_ecdsa()
    with pytest.raises(RollbackError):
        take(trust, {"timestamp": repo.timestamp(version=3)}, "timestamp")
    assert trust.now(None) == T0 + DAY
    newer = take(trust, {"timestamp": repo.timestamp(version=5)}, "timestamp")
    assert (newer.floors["timestamp"].value, newer.now(None)) == (5, T0 + DAY)


def test_a_floor_of_a_key_that_cannot_be_used_any_more_falls_with_it(
    repo: Repo, lose_ecdsa: Callable[[], None]
) -> None:
    stolen = ecdsa_key("timestamp-2")
    repo.keys["timestamp"] = [*keys("timestamp-1"), stolen]
    repo.publish("root")
    trust = take(fresh(repo), {"timestamp": repo.timestamp(version=MAX_VERSION, signers=[stolen])}, "timestamp")
    lose_ecdsa()
    repo.keys["timestamp"] = [*keys("timestamp-1"), ecdsa_key("timestamp-3")]
    repo.publish("root")
    trust = take(trust, repo.files, "root")
    assert take(trust, {"timestamp": repo.timestamp(version=1)}, "timestamp").floors["timestamp"].value == 1


# --- what raises a floor, and what does not


def test_floors_rise_on_expired_metadata(repo: Repo) -> None:
    """TUF 5.3.11 and 5.4.4 leave it open; here a device that slept learns what is too old all the same."""
    past = T0 - DAY
    for role in ("targets", "line", "snapshot", "timestamp"):
        repo.expires[role] = past
    repo.publish("targets", "line", "snapshot", "timestamp")
    trust = take(fresh(repo), repo.files)
    assert {name: floor.value for name, floor in trust.floors.items()} == dict.fromkeys(
        ("timestamp", "snapshot", "targets", "line"), 2
    )
    with pytest.raises(ExpiredError):
        current(trust, "pump", NOW)


def test_only_listed_files_raise_floors(repo: Repo) -> None:
    trust = holding(repo)
    for role in ("snapshot", "targets", "line"):
        data: bytes = getattr(repo, role)(version=50)
        with pytest.raises(MismatchError):
            take(trust, {role: data}, role)
        assert trust.floors[role].value == 1


def test_unsigned_versions_raise_nothing(repo: Repo) -> None:
    trust = holding(repo)
    with pytest.raises(SignatureError):
        take(trust, {"timestamp": repo.timestamp(version=50, signers=keys("mallory"))}, "timestamp")
    assert trust.floors["timestamp"].value == 1


# --- the time floor


def test_time_is_the_later_of_clock_and_floor(repo: Repo) -> None:
    trust = holding(repo)
    assert trust.now(None) == T0, "without a clock"
    assert trust.now(T0 - YEAR) == T0, "a clock set back"
    assert trust.now(T0 + DAY) == T0 + DAY
    assert replace(trust, time_floor=None).now(None) == 0


def test_without_a_clock_the_newest_statement_orders_the_older(repo: Repo) -> None:
    late = T0 + 8 * DAY
    trust = holding(repo, clock=None)
    fine = repo.timestamp(issued=late, expires=late + DAY)
    current(update_timestamp(trust, fine, None), "pump", None)
    # The held timestamp expired at T0 + 7 days, and a device that has seen a later statement knows it.
    stale = repo.timestamp(issued=late, expires=T0 + 7 * DAY)
    with pytest.raises(ExpiredError):
        current(update_timestamp(trust, stale, None), "pump", None)


def test_a_clock_set_back_revives_nothing(repo: Repo) -> None:
    trust = holding(repo)
    repo.issued = T0 + 40 * DAY
    repo.expires["timestamp"] = T0 + 50 * DAY
    repo.publish("timestamp")
    trust = take(trust, repo.files, "timestamp")
    with pytest.raises(ExpiredError, match="snapshot"):
        current(trust, "pump", T0)


def test_a_clock_that_runs_ahead_refuses_only_while_it_is_wrong(repo: Repo) -> None:
    trust = holding(repo)
    with pytest.raises(ExpiredError):
        current(trust, "pump", YEAR_2099)
    with pytest.raises(ExpiredError):
        take(trust, repo.files, "timestamp", clock=YEAR_2099)
    repo.expires["root"] = YEAR_2099 + DAY
    repo.publish("root", "timestamp")
    trust = take(take(trust, repo.files, "root"), repo.files, "timestamp", clock=YEAR_2099)
    current(trust, "pump", NOW)
    assert trust.time_floor is not None
    assert trust.time_floor.value == T0


def test_stolen_timestamp_key_says_2099(repo: Repo) -> None:
    trust = take(holding(repo), {"timestamp": repo.timestamp(issued=YEAR_2099, expires=YEAR_2099 + DAY)}, "timestamp")
    assert trust.now(NOW) == YEAR_2099
    repo.publish()
    with pytest.raises(ExpiredError, match="root"):
        take(trust, repo.files, "timestamp")
    trust = recovered(trust, repo, "timestamp", "snapshot")
    assert trust.now(NOW) == NOW


def test_the_time_floor_falls_before_the_expiry_of_root_is_judged(repo: Repo) -> None:
    trust = take(holding(repo), {"timestamp": repo.timestamp(issued=YEAR_2099)}, "timestamp")
    moved = update_root(trust, repo.root(keys={"timestamp": keys("timestamp-2")}))
    assert moved.now(NOW) == NOW
    take(moved, {"timestamp": repo.timestamp(signers=keys("timestamp-2"))}, "timestamp")


def test_an_older_statement_does_not_lower_the_time_floor(repo: Repo) -> None:
    trust = take(holding(repo), {"timestamp": repo.timestamp(issued=T0 + DAY)}, "timestamp")
    repo.versions["timestamp"] = 2
    trust = take(trust, {"timestamp": repo.timestamp(issued=T0)}, "timestamp")
    assert trust.now(None) == T0 + DAY


def test_a_timestamp_without_a_time_leaves_the_floor(repo: Repo) -> None:
    repo.issued = None
    trust = take(holding(repo), {"timestamp": repo.timestamp()}, "timestamp")
    assert trust.now(None) == T0


def test_older_files_of_replaced_keys_do_not_come_back(repo: Repo) -> None:
    old = dict(repo.files)
    trust = recovered(holding(repo), repo, "timestamp", "snapshot", "targets", "line")
    with pytest.raises(SignatureError):
        take(trust, old, "timestamp")
    # Nor with an honest new timestamp that were tricked into listing them.
    with pytest.raises(RollbackError):
        take(trust, {"timestamp": repo.timestamp(snapshot=old["snapshot"])}, "timestamp")
    revived = {"timestamp": repo.timestamp(snapshot=repo.snapshot(line=old["line"]))}
    revived["snapshot"] = repo.snapshot(line=old["line"])
    with pytest.raises(RollbackError):
        take(trust, revived, "timestamp", "snapshot")
    with pytest.raises(MissingError):
        current(take(trust, {"timestamp": repo.timestamp(snapshot=revived["snapshot"])}, "timestamp"), "pump", NOW)
