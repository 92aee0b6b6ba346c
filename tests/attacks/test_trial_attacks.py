"""Trials, failed hashes and withdrawals under someone who sends whatever he likes: what was decided stays decided."""

from __future__ import annotations

from hashlib import sha256

import pytest

from bench import CLOCK, FAILING, MANUAL, Bench, Rig, installed, unchanged
from duo import Duo
from forge import MAX_VERSION, Object, Repo, ecdsa_key, keys
from hillhold_bootsim.bootloader import MAX_TRIAL_STARTS, ResetReason
from hillhold_verifier import keytypes
from hillhold_verifier.agent import CHOOSE
from hillhold_verifier.answers import BoardRefused
from hillhold_verifier.cli.show import status_lines
from hillhold_verifier.errors import MismatchError, RollbackError, SelectionError
from hillhold_verifier.keys import _load
from hillhold_verifier.select import Installed
from hillhold_verifier.smp import HILLHOLD_GROUP, Group, Op
from offers import image, offer, started

PATH = "pump/1.1.0/app.bin"


def with_failed() -> Bench:
    """A board on which the trial of 1.1.0 failed."""
    bench = installed(self_test=FAILING)
    data = offer(bench.repo, "1.1.0", 2)
    bench.repo.publish()
    bench.push()
    assert bench.facts_after_reset().failed_here == (sha256(data).digest(),)
    return bench


# --- failed hashes ----------------------------------------------------------------------------------------------------


def test_no_message_makes_a_board_forget_what_failed() -> None:
    """Only an operator at the device may: whoever carries updates could wear it down with the same bad image."""
    bench = with_failed()
    failed = bench.facts().failed_here
    bodies: list[Object] = [
        {},
        {"failed": []},
        {"hash": failed[0]},
        {"hash": failed[0], "confirm": True},
        {"hash": failed[0], "confirm": False},
        {"image": 0, "off": 0, "len": len(image("1.1.0", 2)), "sha": failed[0], "data": b"x"},
    ]
    for group, commands in ((HILLHOLD_GROUP, range(12)), (Group.IMAGE, range(8)), (Group.OS, range(9))):
        for command in commands:
            for body in bodies:
                for op in (Op.READ, Op.WRITE):
                    bench.ask(op, group, command, body)
    assert bench.facts().failed_here == failed
    facts = bench.facts_after_reset()
    assert (facts.running, facts.failed_here, facts.trial) == ("1.0.0", failed, False)
    assert "its trial failed on this device before" in str(bench.push().reasons)


def test_a_failed_image_under_another_entry_is_passed_over_all_the_same() -> None:
    bench = with_failed()
    data = bench.repo.blobs[PATH]
    bench.repo.entries.clear()
    path = bench.repo.add_release("1.1.0", data, counter=2, file="again.bin")
    bench.repo.change(path, format="mcuboot")
    bench.repo.rotate("line", "timestamp", "snapshot")
    with unchanged(bench, rotated=True):
        assert (path, "passed over", "its trial failed on this device before") in bench.push().reasons


@pytest.mark.parametrize("rounds", [1, 3])
def test_cut_power_is_no_failure_however_often_and_no_trial_for_ever(rounds: int) -> None:
    rig = Rig(started())
    rig.install(image("1.0.0"))
    data = offer(rig.repo, "1.1.0", 2)
    rig.repo.publish()
    rig.take()
    rig.send(data)
    for _ in range(rounds):
        rig.installer.mark(CLOCK)
        starts = [rig.reset(ResetReason.POWER_ON).trial for _ in range(MAX_TRIAL_STARTS + 2)]
        assert starts == [True] * MAX_TRIAL_STARTS + [False, False]
        facts = rig.facts()
        assert (facts.running, facts.confirmed, facts.failed_here, facts.counter) == ("1.0.0", 0, (), 1)


def test_an_image_on_trial_with_fewer_algorithms_takes_nothing_older(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its library cannot check who signed what the board holds; after the revert the confirmed image would find older files."""
    rig = Rig(started())
    rig.install(image("1.0.0"))
    repo = rig.repo
    old, new = repo.keys["timestamp"][0], ecdsa_key("timestamp-2")
    repo.keys["timestamp"] = [old, new]
    data = offer(repo, "1.1.0", 2)
    repo.publish("root", "line", "snapshot")
    repo.publish("timestamp", timestamp=repo.timestamp(version=7, signers=[new]))
    rig.take_root(repo.files["root"])
    rig.take()
    assert rig.trial(data).trial
    with monkeypatch.context() as older:
        older.delitem(keytypes.SCHEMES, "ecdsa-sha2-nistp256")
        _load.cache_clear()
        with unchanged(rig), pytest.raises(RollbackError):
            rig.installer.receive("timestamp", repo.timestamp(version=6, signers=[old]), CLOCK)
    _load.cache_clear()
    rig.reset(ResetReason.SELF_TEST)
    assert (rig.facts().running, rig.held().floors["timestamp"]) == ("1.0.0", 7)


# --- withdrawals ------------------------------------------------------------------------------------------------------


def withdrawn_on(bench: Bench) -> dict[str, bytes]:
    """1.1.0 was offered, then withdrawn, and the board has seen it; the tree of before."""
    offer(bench.repo, "1.1.0", 2)
    bench.repo.offline_grace = bench.repo.max_offline_grace
    bench.repo.publish()
    bench.check()
    before = dict(bench.repo.tree)
    bench.repo.change(PATH, withdrawn="it leaks")
    bench.repo.publish()
    bench.check()
    return before


def test_grace_does_not_bring_back_what_was_withdrawn() -> None:
    """The stick of before is within its grace; a device that has seen the withdrawal holds on to it."""
    bench = installed()
    before = withdrawn_on(bench)
    bench.clock = bench.repo.expires["timestamp"] + 60
    with unchanged(bench):
        with pytest.raises(BoardRefused) as caught:
            bench.push(before)
        assert caught.value.board_code == RollbackError.code
        choice = bench.own(Op.READ, CHOOSE)
        assert "withdrawn: it leaks" in str(choice)
        assert choice["grace"] == 60, "and that grace is used is said"


def test_a_withdrawal_outlives_the_rotation_of_the_online_keys() -> None:
    """Timestamp's and snapshot's floors fall with their keys; the line's does not, whatever an older snapshot would list."""
    bench = installed()
    withdrawn_on(bench)
    older = bench.repo.tree["metadata/2.pump.json"]
    bench.repo.keys["timestamp"], bench.repo.keys["snapshot"] = keys("timestamp-7"), keys("snapshot-7")
    bench.repo.versions.update(timestamp=0, snapshot=0)
    snapshot = bench.repo.snapshot(line=older)
    bench.repo.publish("root", snapshot=snapshot, timestamp=bench.repo.timestamp(snapshot=snapshot))
    with unchanged(bench, rotated=True):
        with pytest.raises(BoardRefused) as caught:
            bench.push()
        assert caught.value.board_code == RollbackError.code
        assert "line version: expected at least 3, got 2" in str(caught.value)


def test_a_withdrawal_that_arrives_during_a_trial_is_not_undone_by_a_cut() -> None:
    bench = installed(self_test=MANUAL)
    offer(bench.repo, "1.1.0", 2)
    bench.repo.publish()
    bench.push()
    assert bench.facts().trial
    bench.repo.change(PATH, withdrawn="it leaks")
    bench.repo.publish()
    bench.check()
    for _ in range(3):
        facts = bench.facts_after_reset()
        assert (facts.running, facts.confirmed, facts.trial, facts.mark) == ("1.0.0", 0, False, None)
    assert bench.push().installed is None


def test_a_board_on_a_withdrawn_release_runs_on_and_says_so() -> None:
    bench = installed()
    identity, status = bench.own(Op.READ, 0), bench.status()
    assert status["withdrawn"] is False
    assert not any("withdrawn" in line for line in status_lines(identity, status))
    bench.repo.change("pump/1.0.0/app.bin", withdrawn="it leaks")
    bench.repo.publish()
    with unchanged(bench):
        assert bench.push().installed is None
        assert bench.status()["withdrawn"] is True
        (line,) = [line for line in status_lines(identity, bench.status()) if "withdrawn" in line]
        assert line.startswith("running")


# --- keys that went one by one ----------------------------------------------------------------------------------------


def test_an_older_line_that_the_remaining_keys_signed_does_not_come_back() -> None:
    """One of three line keys is replaced, so that the floor that it helped to set falls. What snapshot lists holds all the same."""
    bench = installed()
    repo = bench.repo
    first, second, third = repo.keys["line"]
    repo.publish("snapshot", "timestamp", line=repo.line(signers=[second, third]))
    remaining = repo.files["line"]
    offer(repo, "1.1.0", 2)
    repo.publish("snapshot", "timestamp", line=repo.line(signers=[first, second]))
    bench.push()
    repo.keys["line"] = [*keys("line-4"), second, third]
    repo.publish("targets", "line", "snapshot", "timestamp")
    with unchanged(bench):
        with pytest.raises(BoardRefused) as caught:
            bench.push({**repo.tree, f"metadata/{repo.versions['line']}.pump.json": remaining})
        assert caught.value.board_code == MismatchError.code
        thief = repo.snapshot(
            version=9, line=remaining
        )  # who holds the online keys lists it: snapshot's own claims stand
        tree = {**repo.tree, "metadata/9.snapshot.json": thief}
        with pytest.raises(BoardRefused) as caught:
            bench.push({**tree, "metadata/timestamp.json": repo.timestamp(version=9, snapshot=thief)})
        assert caught.value.board_code == RollbackError.code
    assert bench.facts().running == "1.1.0"


def test_a_quorum_of_targets_keys_is_stolen_and_fast_forwards() -> None:
    bench = installed()
    thief = bench.repo.targets(version=MAX_VERSION)
    snapshot = bench.repo.snapshot(targets=thief)
    tree = {
        **bench.repo.tree,
        f"metadata/{MAX_VERSION}.targets.json": thief,
        "metadata/2.snapshot.json": snapshot,
        "metadata/timestamp.json": bench.repo.timestamp(snapshot=snapshot),
    }
    with unchanged(bench):
        bench.check(tree)
        assert bench.held().floors["targets"] == MAX_VERSION
    offer(bench.repo, "1.1.0", 2)
    bench.repo.versions.update(timestamp=2, snapshot=2)
    bench.repo.rotate("targets", "timestamp", "snapshot")
    assert bench.push().installed == PATH
    assert bench.held().floors["targets"] == bench.repo.versions["targets"]


# --- sets -------------------------------------------------------------------------------------------------------------


def duo_with_set() -> tuple[Duo, dict[str, bytes]]:
    """A device of two components on 1.0.0 each, and a set of 2.0.0 for both that it has chosen; the set's images."""
    repo = Repo()
    images = {name: f"{name} 1.0.0 of the factory".encode() for name in ("app", "radio")}
    for name, data in images.items():
        repo.add_release("1.0.0", data, file=f"{name}.bin", component=name)
    repo.publish()
    duo = Duo(repo, (images["app"], images["radio"]))
    new = {name: f"{name} 2.0.0 of the summer".encode() for name in images}
    for name, data in new.items():
        repo.add_release("2.0.0", data, file=f"{name}.bin", component=name, set="summer")
    repo.publish()
    duo.take()
    return duo, new


def held(duo: Duo) -> tuple[tuple[bytes, bytes], tuple[Installed | None, ...], list[object], list[int]]:
    flags: list[object] = [duo.boot.flags(n) for n in (0, 1)]
    return duo.runs(), duo.installer.state.slots, flags, [counter.value() for counter in duo.counters]


@pytest.mark.parametrize("name", ["app", "radio"])
def test_half_a_set_is_never_marked(name: str) -> None:
    duo, new = duo_with_set()
    number = ("app", "radio").index(name)
    at = duo.installer.begin(sha256(new[name]).digest(), len(new[name]), CLOCK, number)
    duo.installer.write(at, new[name])
    before = held(duo)
    for _ in range(2):
        with pytest.raises(SelectionError, match="slot to mark"):
            duo.installer.mark(CLOCK)
        assert held(duo) == before
        duo.start()
        assert held(duo) == before


def test_half_of_an_older_set_is_not_put_back() -> None:
    """The set is confirmed; the other slot still holds the app of before, whole."""
    duo, new = duo_with_set()
    duo.update()
    duo.start()
    duo.installer.confirm(self_tested=True)
    assert duo.runs() == (new["app"], new["radio"])
    before = held(duo)
    with pytest.raises(SelectionError):
        duo.installer.mark(CLOCK)
    assert held(duo) == before
    duo.start()
    assert held(duo) == before
