"""Clocks and statements of time that are wrong in every way: refusals while they are, nothing stopped, nothing left behind."""

from __future__ import annotations

import pytest

from bench import CLOCK, Bench, installed, unchanged
from forge import DAY, T0, YEAR
from hillhold_verifier.answers import BoardRefused
from hillhold_verifier.errors import ExpiredError
from hillhold_verifier.smp import Group, Op
from offers import offer

YEAR_2099 = 4_070_908_800


def with_newer() -> Bench:
    """A board that a legitimate update brought to 1.0.0; 1.1.0 is published."""
    bench = installed()
    offer(bench.repo, "1.1.0", 2)
    bench.repo.publish()
    return bench


def refusal(bench: Bench, tree: dict[str, bytes] | None = None) -> str:
    with pytest.raises(BoardRefused) as caught:
        bench.push(tree)
    assert caught.value.board_code == ExpiredError.code
    return str(caught.value)


@pytest.mark.parametrize("clock", [YEAR_2099, 2**32, 2**63 - 1, 2**63, 10**40])
def test_a_clock_that_is_ahead_by_any_amount(clock: int) -> None:
    bench = with_newer()
    bench.clock = clock
    with unchanged(bench):
        assert refusal(bench).startswith("root metadata: expected unexpired at ")
    assert bench.held().time == T0
    bench.clock = CLOCK
    assert bench.push().installed == "pump/1.1.0/app.bin"
    assert bench.held().time == T0, "no clock ever feeds the time floor"


@pytest.mark.parametrize("clock", [None, 0, -1, -(2**63), T0 - 50 * YEAR])
def test_a_clock_that_is_behind_by_any_amount(clock: int | None) -> None:
    bench = with_newer()
    old = dict(bench.repo.tree)
    bench.repo.issued = T0 + 8 * DAY
    bench.repo.expires["timestamp"] = T0 + 9 * DAY
    bench.repo.publish("timestamp")
    bench.check()
    bench.repo.expires["timestamp"] = T0 + 8 * DAY
    bench.repo.publish("timestamp")
    bench.clock = clock
    with unchanged(bench):
        assert refusal(bench).startswith("timestamp metadata")
    assert bench.held().time == T0 + 8 * DAY
    with unchanged(bench), pytest.raises(BoardRefused):
        bench.push(old)
    bench.repo.expires["timestamp"] = T0 + 15 * DAY
    bench.repo.publish("timestamp")
    assert bench.push().installed == "pump/1.1.0/app.bin", "without a clock that is right, statements are still ordered"


def test_a_time_far_ahead_falls_with_its_key_before_the_expiry_of_root_is_judged() -> None:
    """By the stolen key's time every root has expired, the one that replaces the key, too."""
    bench = with_newer()
    thief = bench.repo.timestamp(issued=YEAR_2099, expires=YEAR_2099 + DAY)
    with unchanged(bench):
        refusal(bench, {**bench.repo.tree, "metadata/timestamp.json": thief})
        assert refusal(bench).startswith("root metadata: expected unexpired at 2099-01-01"), "as long as its key stays"
    bench.repo.rotate("root")
    with unchanged(bench):
        assert refusal(bench).startswith("root metadata"), "another root that keeps the key changes nothing"
    bench.repo.rotate("timestamp", "snapshot")
    assert bench.push().installed == "pump/1.1.0/app.bin"
    assert bench.held().time == T0


@pytest.mark.parametrize("how", ["older version", "a stranger's", "lists an older snapshot"])
def test_a_statement_that_is_refused_raises_no_time(how: str) -> None:
    bench = with_newer()
    bench.repo.publish()
    bench.check()
    repo = bench.repo
    forged = {
        "older version": repo.timestamp(version=1, issued=YEAR_2099),
        "a stranger's": repo.timestamp(issued=YEAR_2099, signers=repo.keys["snapshot"]),
        "lists an older snapshot": repo.timestamp(issued=YEAR_2099, snapshot=repo.tree["metadata/1.snapshot.json"]),
    }[how]
    with unchanged(bench):
        with pytest.raises(BoardRefused):
            bench.push({**repo.tree, "metadata/timestamp.json": forged})
        assert bench.held().time == T0


def test_no_message_sets_a_clock() -> None:
    """MCUmgr has a command for it (OS, 4); whoever carries files is the last whose time a board should take."""
    bench = with_newer()
    with unchanged(bench):
        answer = bench.ask(Op.WRITE, Group.OS, 4, {"datetime": "2099-01-01T00:00:00"})
        assert "err" in answer or answer["rc"]
        assert bench.status()["time"] == T0
    assert bench.push().installed == "pump/1.1.0/app.bin"
