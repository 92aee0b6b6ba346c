"""The lab's own maker: everything follows from the seed, and it goes on from wherever a board is."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest

from hillhold_bootsim.lab.forge import MAX_VERSION, version_of
from hillhold_bootsim.lab.house import COUNTERS, TOP, Held, House
from hillhold_verifier.metadata import parse_root
from hillhold_verifier.select import Device
from hillhold_verifier.trust import Trust, update_root

DEVICE = Device("pump", "nrf-a", "serial-1")
NOW = 1_767_225_600


def house(seed: int = 1, now: int = NOW) -> House:
    return House(seed, DEVICE, now)


def test_the_root_and_the_image_key_follow_from_the_seed_alone() -> None:
    assert house().first_root == house(now=NOW + 9999).first_root
    assert house().boot_key == house(now=NOW + 9999).boot_key
    assert house(2).first_root != house().first_root
    assert house(2).boot_key != house().boot_key


def test_each_root_is_the_next_and_replaces_every_key_below_it() -> None:
    made = house()
    trust = Trust(parse_root(made.first_root))
    for version in (2, 3):
        made.rotate()
        before = trust.root.signed
        trust = update_root(trust, made.repo.tree[f"metadata/{version}.root.json"])
        for role in ("timestamp", "snapshot", "targets"):
            assert not set(before.roles[role].keyids) & set(trust.root.signed.roles[role].keyids)
        assert before.roles["root"].keyids == trust.root.signed.roles["root"].keyids


def test_a_maker_who_knows_nothing_but_the_seed_goes_on_from_what_a_board_holds() -> None:
    first = house()
    first.rotate()
    first.rotate()
    first.release()
    later = house(now=NOW + 500)
    later.go_on(Held(3, (7, 8, 9, 10), "1.4.9", 6), NOW + 500)
    release = later.release()
    assert later.repo.tree["metadata/3.root.json"] == first.repo.tree["metadata/3.root.json"]
    assert {f"metadata/{n}.root.json" for n in (1, 2, 3)} <= set(later.repo.tree)
    assert [later.repo.versions[role] for role in ("timestamp", "snapshot", "targets", "line")] == [8, 9, 10, 11]
    assert (release.version, release.counter) == ("1.4.10", 6)


def test_a_board_that_was_brought_far_ahead_gets_the_next_root() -> None:
    made = house()
    made.go_on(Held(1, (MAX_VERSION, 2, 2, 2)), NOW)
    made.release()
    assert made.repo.versions["root"] == 2
    assert version_of(made.repo.files["timestamp"]) < 100


@pytest.mark.parametrize(
    ("held", "following"),
    [("", "1.0.1"), ("1.0.999", "1.1.0"), ("2.0.0", "2.0.1"), ("9.9.9+4", "9.9.10"), ("0.5.0", "1.0.1")],
)
def test_versions_go_on_above_what_runs_and_the_attackers_is_above_them(held: str, following: str) -> None:
    made = house()
    made.go_on(Held(1, version=held), NOW)
    assert made.next_version() == following
    assert int(made.top.split(".")[0]) > int(following.split(".")[0])
    assert made.known[sha256(made.image(TOP)).hexdigest()] == TOP


def test_a_release_takes_the_place_of_all_before_and_stays_within_its_caps() -> None:
    made = house()
    one, two = made.release(), made.release(counter=5)
    listed = json.loads(made.repo.files["line"])["signed"]["targets"]
    assert list(listed) == [two.path] != [one.path]
    assert two.counter == 5 <= COUNTERS
    assert made.release().counter == 5


def test_a_thief_changes_nothing_of_the_honest_repository() -> None:
    made = house()
    made.release()
    before = dict(made.repo.tree)
    thief = made.thief()
    made.evil(thief)
    thief.publish("line", "snapshot", "timestamp")
    assert made.repo.tree == before != thief.tree
