"""Filling a device's state with what the sender chose, so that what must come later does not fit.

No lister names root and timestamp by hash, so whoever carries them can pad them; a stolen key can sign large files. A device
keeps room for what it must always be able to write, and a new root always finds its place.
"""

from __future__ import annotations

import json

import pytest

from bench import FAILING, STATE_SIZE, Bench
from forge import Repo, keys
from hillhold_bootsim import boards
from hillhold_verifier.answers import BoardRefused
from hillhold_verifier.errors import SpaceError
from hillhold_verifier.metadata import max_bytes
from hillhold_verifier.smp import Group, Op, OsCommand
from hillhold_verifier.state import RESERVE, encode_record
from offers import offer, started

LARGE = boards.board().layout
"""A state area of 64 KiB."""


def deliver(bench: Bench, number: int, data: bytes) -> None:
    courier = bench.courier()
    bench.run(courier._identify())
    bench.run(courier._bring_file(number, data, b""))


def room(bench: Bench) -> int:
    return LARGE.state[0].size - len(encode_record(9, bench.stored()))


def padded(role: str, data: bytes, how: str) -> bytes:
    """The same signed content, as large as a device reads it."""
    left = max_bytes(role) - len(data)
    whole = json.loads(data)
    if how == "white space":
        return data + b" " * left
    if how == "a field beside":
        whole["pad"] = "x" * (left - 20)
    else:
        whole["signatures"] += [{"keyid": f"{n:064x}", "sig": "ab" * 64} for n in range(60)]
    return json.dumps(whole, separators=(",", ":")).encode()


@pytest.mark.parametrize("how", ["white space", "a field beside", "signatures by strangers"])
@pytest.mark.parametrize("number", [0, 1])
def test_padding_that_nobody_signed_is_not_kept(number: int, how: str) -> None:
    repo = started()
    bench = Bench(repo, LARGE)
    bench.push()
    role = ("root", "timestamp")[number]
    offer(repo, "1.1.0", 1)
    repo.rotate("timestamp", "snapshot")
    honest = repo.tree["metadata/2.root.json"] if number == 0 else repo.files["timestamp"]
    if number == 1:
        deliver(bench, 0, repo.tree["metadata/2.root.json"])
    deliver(bench, number, padded(role, honest, how))
    trust = bench.stored().trust
    held = trust.root if number == 0 else trust.timestamp
    assert held is not None
    assert held.raw == honest
    assert bench.push().installed == "pump/1.1.0/app.bin"


def test_a_failed_hash_finds_room_whatever_came_before() -> None:
    repo = started()
    bench = Bench(repo, LARGE)
    bench.push()
    offer(repo, "1.1.0", 1)
    repo.publish()
    bench.board.self_test = FAILING
    bench.push(reset=False)
    repo.rotate("timestamp", "snapshot")
    deliver(bench, 0, padded("root", repo.tree["metadata/2.root.json"], "white space"))
    bench.ask(Op.WRITE, Group.OS, OsCommand.RESET, {})
    for _ in range(4):
        bench.wait(1)
    assert bench.facts().running == "1.0.0"
    assert len(bench.facts().failed_here) == 1
    bench.power_cycle()
    assert bench.facts().running == "1.0.0"


def test_a_stolen_online_key_that_fills_the_state_is_outlived_by_the_rotation() -> None:
    repo = Repo()
    repo.keys["snapshot"] = repo.keys["timestamp"] = keys("online")
    offer(repo, "1.0.0")
    repo.publish()
    bench = Bench(repo, LARGE)
    bench.push()

    def filling(size: int) -> tuple[bytes, bytes]:
        snapshot = repo.snapshot(version=2, edit=lambda signed: signed.update(pad="x" * size))
        return repo.timestamp(version=2, snapshot=snapshot), snapshot

    too_much = filling(room(bench) - 60)
    deliver(bench, 1, too_much[0])
    before = bench.held()
    with pytest.raises(BoardRefused, match="state") as refused:
        deliver(bench, 2, too_much[1])
    assert refused.value.board_code == SpaceError.code
    assert bench.held() == before

    snapshot = repo.snapshot(version=3, edit=lambda signed: signed.update(pad="x" * (room(bench) - RESERVE - 600)))
    deliver(bench, 1, repo.timestamp(version=3, snapshot=snapshot))
    deliver(bench, 2, snapshot)
    assert RESERVE <= room(bench) < 2 * RESERVE

    repo.keys["timestamp"], repo.keys["snapshot"] = keys("new timestamp"), keys("new snapshot")
    repo.versions.update(timestamp=3, snapshot=3)
    offer(repo, "1.1.0")
    repo.publish("root", "targets", "line", "snapshot", "timestamp")
    assert bench.push().installed == "pump/1.1.0/app.bin"
    assert bench.facts().running == "1.1.0"
    assert bench.held().is_not_below(before)


def test_a_line_role_that_fills_the_state_is_refused_and_the_next_root_still_fits() -> None:
    repo = started()
    for number in range(150):
        offer(repo, f"0.0.{number}", 1, data=b"x%d" % number)
    repo.publish()
    bench = Bench(repo, LARGE)
    bench.push()
    offer(repo, "1.1.0", 1)
    repo.rotate("root", "timestamp", "snapshot")
    bench.push()
    assert bench.facts().running == "1.1.0"


def with_a_longer_line() -> Bench:
    """A board that holds a line role of 20 more releases than the next one has; the next one is published."""
    repo = started()
    more = [repo.add_release(f"0.0.{number}", b"x%d" % number) for number in range(20)]
    repo.publish()
    bench = Bench(repo)
    bench.push()
    for path in more:
        del repo.entries[path]
    offer(repo, "1.1.0", 1)
    repo.publish()
    return bench


def publish_large_root(bench: Bench) -> None:
    """A root, and nothing else, that finds its place only where the other files go."""
    size = STATE_SIZE - len(encode_record(9, bench.stored())) - RESERVE + 600
    bench.repo.publish("root", root=bench.repo.root(edit=lambda signed: signed.update(pad="x" * size)))


def test_a_root_that_puts_the_other_files_out_does_not_wait_for_the_next_timestamp() -> None:
    """The courier stopped after snapshot, so that the longer line role is still held; the timestamp comes again as it was."""
    bench = with_a_longer_line()
    deliver(bench, 1, bench.repo.files["timestamp"])
    deliver(bench, 2, bench.repo.files["snapshot"])
    before = bench.held()
    publish_large_root(bench)
    deliver(bench, 0, bench.repo.files["root"])
    assert bench.stored().trust.timestamp is None
    assert bench.held().is_not_below(before)
    bench.power_cycle()
    assert bench.push().installed == "pump/1.1.0/app.bin"
    assert bench.facts_after_reset().running == "1.1.0"
    assert bench.held().is_not_below(before)


def test_a_courier_notices_what_a_root_put_out() -> None:
    bench = with_a_longer_line()
    deliver(bench, 1, bench.repo.files["timestamp"])
    publish_large_root(bench)
    assert bench.push().installed == "pump/1.1.0/app.bin"
    assert bench.facts_after_reset().running == "1.1.0"
