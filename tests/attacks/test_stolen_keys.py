"""Stolen keys: what a thief signs at version 2**53-1 locks nobody out once the keys are replaced, by root files that a courier brings.

Each test: a legitimate update; the thief's files, which are authentic and therefore accepted; the honest repository, which the board
refuses meanwhile; the rotation, pushed by a courier; the update goes on. What runs never changes on the way, until the last step.
"""

from __future__ import annotations

import copy
from hashlib import sha256

import pytest

from bench import Bench, installed, unchanged
from forge import DAY, MAX_VERSION, T0, Repo, keys
from hillhold_verifier.answers import BoardRefused
from hillhold_verifier.errors import ExpiredError, MissingError, RollbackError, SignatureError
from hillhold_verifier.smp import ImageCommand
from offers import image, offer


def honest() -> Bench:
    """A board that a legitimate update brought to 1.0.0; 1.1.0 is published."""
    bench = installed()
    offer(bench.repo, "1.1.0", 2)
    bench.repo.publish()
    return bench


def thief(bench: Bench) -> Repo:
    return copy.deepcopy(bench.repo)


def recovers(bench: Bench, *roles: str) -> None:
    """The honest people replace the keys of `roles`; a courier brings it all."""
    bench.repo.rotate(*roles)
    held = bench.held()
    assert bench.push().installed == "pump/1.1.0/app.bin"
    facts = bench.facts_after_reset()
    assert (facts.running, facts.confirmed, facts.counter) == ("1.1.0", 1, 2)
    assert bench.held().time >= 0
    if set(roles) - {"line"}:
        assert bench.held().versions["root"] == held.versions["root"] + 1


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_an_online_key_is_stolen_and_fast_forwards(role: str) -> None:
    bench = honest()
    bench.push()
    offer(bench.repo, "1.2.0", 2)
    bench.repo.publish()
    repo = thief(bench)
    if role == "timestamp":
        repo.publish(timestamp=repo.timestamp(version=MAX_VERSION))
    else:
        repo.publish("timestamp", snapshot=repo.snapshot(version=MAX_VERSION))
    with unchanged(bench):
        bench.check(repo.tree)
        assert bench.held().floors[role] == MAX_VERSION
        with pytest.raises(BoardRefused) as caught:
            bench.push()
        assert caught.value.board_code == RollbackError.code
    bench.repo.rotate("timestamp", "snapshot")
    with unchanged(bench, rotated=True):
        bench.check()
        assert bench.held().versions["root"] == 2
    assert bench.push().installed == "pump/1.2.0/app.bin"
    assert bench.facts_after_reset().running == "1.2.0"


def test_a_quorum_of_line_keys_is_stolen_and_fast_forwards() -> None:
    bench = honest()
    repo = thief(bench)
    repo.entries.clear()
    repo.publish("snapshot", "timestamp", line=repo.line(version=MAX_VERSION))
    with unchanged(bench):
        assert bench.push(repo.tree).installed is None
        assert bench.held().floors["line"] == MAX_VERSION
    bench.repo.publish()
    assert bench.push().installed is None, "a timestamp of the version that is held changes nothing"
    bench.repo.publish()
    with unchanged(bench), pytest.raises(BoardRefused) as caught:
        bench.push()
    assert caught.value.board_code == RollbackError.code
    recovers(bench, "line", "timestamp", "snapshot")


def test_line_keys_alone_replaced_are_not_enough() -> None:
    """What the snapshot claimed of the line's version stands as long as its key: hence the rule to replace all three."""
    bench = honest()
    repo = thief(bench)
    repo.publish("snapshot", "timestamp", line=repo.line(version=MAX_VERSION))
    bench.check(repo.tree)
    bench.repo.publish()
    bench.repo.rotate("line")
    with unchanged(bench), pytest.raises(BoardRefused) as caught:
        bench.push()
    assert caught.value.board_code == RollbackError.code
    recovers(bench, "timestamp", "snapshot")


def test_a_stolen_timestamp_key_signs_a_time_far_ahead() -> None:
    bench = honest()
    repo = thief(bench)
    repo.publish(timestamp=repo.timestamp(issued=T0 + 3650 * DAY, expires=T0 + 9999 * DAY))
    with unchanged(bench), pytest.raises(BoardRefused) as caught:
        bench.push(repo.tree)
    assert caught.value.board_code == ExpiredError.code
    assert bench.held().time == T0 + 3650 * DAY
    with unchanged(bench), pytest.raises(BoardRefused):
        bench.push()
    recovers(bench, "timestamp", "snapshot")
    assert bench.held().time == T0, "the time floor fell with its key"


def test_online_keys_alone_make_no_release() -> None:
    bench = honest()
    repo = thief(bench)
    offer(repo, "6.6.6", 2)
    repo.keys["line"] = keys("mallory", "eve")
    repo.publish()
    with unchanged(bench), pytest.raises(BoardRefused) as caught:
        bench.push(repo.tree)
    assert caught.value.board_code == SignatureError.code


def test_what_a_thief_released_is_gone_after_the_rotation() -> None:
    """Line, snapshot and timestamp keys are stolen: their release goes onto the board, and no further than its image's own key lets it."""
    bench = honest()
    repo = thief(bench)
    offer(repo, "6.6.6", 2, data=image("6.6.6", 2, key="foreign"))
    repo.publish()
    bench.push(repo.tree)
    facts = bench.facts_after_reset()
    assert (facts.running, facts.counter, facts.mark) == ("1.0.0", 1, None)
    bench.repo.publish()
    recovers(bench, "line", "timestamp", "snapshot")


def test_a_root_by_the_old_quorum_alone_or_the_new_alone_is_none() -> None:
    bench = honest()
    repo = thief(bench)
    old, new = repo.keys["root"][:2], keys("root-8", "root-9")
    for signers in (old, new, [old[0], new[0]]):
        forged = {**repo.tree, "metadata/2.root.json": repo.root(keys={"root": new}, signers=signers)}
        with unchanged(bench):
            with pytest.raises(BoardRefused) as caught:
                bench.push(forged)
            assert caught.value.board_code == SignatureError.code
            assert bench.held().versions["root"] == 1
    repo.keys["root"] = new
    repo.publish("root", "snapshot", "timestamp")
    assert bench.push(repo.tree).installed == "pump/1.1.0/app.bin"
    assert bench.held().versions["root"] == 2


def test_a_root_that_skips_a_version_is_refused() -> None:
    bench = honest()
    repo = thief(bench)
    forged = {**repo.tree, "metadata/2.root.json": repo.root(version=3)}
    with unchanged(bench), pytest.raises(BoardRefused) as caught:
        bench.push(forged)
    assert caught.value.board_code == RollbackError.code
    assert bench.held().versions["root"] == 1


def test_files_by_the_keys_before_a_rotation_are_dead_even_while_they_are_held() -> None:
    bench = honest()
    bench.check()
    before = dict(bench.repo.tree)
    bench.repo.rotate("timestamp", "snapshot")
    half = {**before, "metadata/2.root.json": bench.repo.tree["metadata/2.root.json"]}
    with unchanged(bench, rotated=True), pytest.raises(BoardRefused):
        bench.push(half)
    assert bench.held().versions["root"] == 2
    assert bench.push().installed == "pump/1.1.0/app.bin"


def test_an_upload_that_was_authorised_before_a_rotation_is_not_marked_after_it() -> None:
    bench = honest()
    assert bench.push(reset=False).installed == "pump/1.1.0/app.bin"
    assert bench.facts().mark is not None
    bench.repo.change("pump/1.1.0/app.bin", withdrawn="its line was stolen")
    bench.repo.rotate("line", "timestamp", "snapshot")
    assert bench.push().installed is None
    facts = bench.facts_after_reset()
    assert (facts.running, facts.mark) == ("1.0.0", None)


def test_online_keys_alone_hide_no_line() -> None:
    bench = honest()
    bench.check()
    repo = thief(bench)
    repo.publish("timestamp", snapshot=repo.snapshot(edit=lambda signed: signed["meta"].pop("pump.json")))
    with unchanged(bench):
        with pytest.raises(BoardRefused) as caught:
            bench.push(repo.tree)
        assert caught.value.board_code == RollbackError.code
        assert str(caught.value) == "pump version in snapshot: expected at least 2, got none"
    recovers(bench, "timestamp", "snapshot")


def test_a_retired_line_offers_nothing_more_and_leaves_the_image_alone() -> None:
    """Its delegation is gone, its entry in snapshot stays as a tombstone; what was chosen before is not taken any more."""
    bench = honest()
    assert bench.chosen()["path"] == "pump/1.1.0/app.bin"
    targets = bench.repo.targets(edit=lambda signed: signed["delegations"]["roles"].clear())
    bench.repo.publish("snapshot", "timestamp", targets=targets)
    with unchanged(bench):
        with pytest.raises(BoardRefused) as caught:
            bench.push()
        assert caught.value.board_code == MissingError.code
        data = image("1.1.0", 2)
        body = {"image": 0, "off": 0, "len": len(data), "sha": sha256(data).digest(), "data": data[:700]}
        assert "err" in bench.image(ImageCommand.UPLOAD, body)
    assert bench.facts().running == "1.0.0"
