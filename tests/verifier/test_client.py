"""The client for any repository: refresh, and the search through delegations."""

from __future__ import annotations

import json

import pytest

from forge import DAY, T0, YEAR, Object, Repo, key, keys
from hillhold_verifier.client import Client, check_target
from hillhold_verifier.errors import ExpiredError, MismatchError, MissingError, RollbackError, SignatureError
from hillhold_verifier.metadata import max_bytes, parse_root
from hillhold_verifier.session import MAX_ROOTS
from hillhold_verifier.trust import Trust
from holder import NOW

PATH = "pump/1.0.0/app.bin"


class World:
    """A repository, what was fetched of it, and what a client keeps."""

    def __init__(self) -> None:
        self.repo = Repo()
        self.repo.add_release("1.0.0", b"one")
        self.repo.publish()
        self.fetched: list[tuple[str, int | None]] = []
        self.limits: dict[str, int] = {}
        self.kept: dict[str, bytes] = {}

    def fetch(self, role: str, version: int | None, limit: int) -> bytes | None:
        self.fetched.append((role, version))
        self.limits[role] = limit
        name = f"metadata/{role}.json" if version is None else f"metadata/{version}.{role}.json"
        data = self.repo.tree.get(name)
        return data[: limit + 1] if data is not None else None

    def client(self, now: int = NOW) -> Client:
        root = parse_root(self.repo.tree["metadata/1.root.json"])
        return Client(Trust(root), {}, now, self.fetch, self.kept.__setitem__)


def test_refresh_asks_for_each_file_once_and_keeps_their_bytes() -> None:
    world = World()
    client = world.client()
    client.refresh()
    assert world.fetched == [("root", 2), ("timestamp", None), ("snapshot", 1), ("targets", 1)]
    assert world.kept == {role: world.repo.files[role] for role in ("timestamp", "snapshot", "targets")}
    client.refresh()
    assert world.fetched[4:] == [("root", 2), ("timestamp", None)]


def test_a_target_is_found_through_its_delegation_and_its_content_is_checked() -> None:
    world = World()
    client = world.client()
    client.refresh()
    target = client.find(PATH)
    assert target is not None
    check_target(target, b"one")
    for wrong in (b"two", b"on", b"onee"):
        with pytest.raises(MismatchError):
            check_target(target, wrong)
    assert client.find("pump/9.9.9/app.bin") is None
    assert client.find("elsewhere") is None
    assert world.fetched.count(("pump", 1)) == 1


def test_the_line_is_judged_under_its_delegator_of_now() -> None:
    world = World()
    client = world.client()
    client.refresh()
    assert client.find(PATH) is not None
    held = client.delegated["pump"].raw
    world.repo.keys["line"] = [key("another-1"), key("another-2")]
    world.repo.publish("targets", "snapshot", "timestamp")
    client.refresh()
    assert client.delegated["pump"].raw == held
    with pytest.raises(SignatureError, match="pump"):
        client.find(PATH)


def test_what_expired_or_went_back_is_refused_and_not_kept() -> None:
    world = World()
    client = world.client()
    client.refresh()
    kept = dict(world.kept)
    with pytest.raises(ExpiredError):
        world.client(now=NOW + 10 * 365 * 86400).refresh()
    old = dict(world.repo.tree)
    world.repo.publish("timestamp")
    client.refresh()
    world.repo.tree.update(old)
    with pytest.raises(RollbackError):
        client.refresh()
    assert kept["snapshot"] == world.kept["snapshot"]


def test_a_missing_file_is_named() -> None:
    world = World()
    del world.repo.tree["metadata/1.snapshot.json"]
    with pytest.raises(MissingError, match="snapshot"):
        world.client().refresh()
    assert set(world.kept) == {"timestamp"}


def test_too_many_bytes_are_refused_at_the_limit() -> None:
    world = World()
    whole = json.loads(world.repo.tree["metadata/timestamp.json"])
    whole["pad"] = "x" * 10_000_000
    world.repo.tree["metadata/timestamp.json"] = json.dumps(whole).encode()
    with pytest.raises(Exception, match="at most 32768 bytes"):
        world.client().refresh()


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_a_new_file_that_has_expired_is_not_kept_and_raises_its_floor(role: str) -> None:
    world = World()
    client = world.client()
    client.refresh()
    kept = world.kept[role]
    world.repo.expires[role] = T0 + DAY
    world.repo.publish("targets", "snapshot", "timestamp")
    later = Client(client.trust, {}, T0 + DAY, world.fetch, world.kept.__setitem__)
    with pytest.raises(ExpiredError, match=role):
        later.refresh()
    assert world.kept[role] == kept
    held = {"timestamp": later.trust.timestamp, "snapshot": later.trust.snapshot, "targets": later.trust.targets}[role]
    assert held is not None
    assert held.signed.version == 2
    if role == "timestamp":
        world.repo.tree["metadata/timestamp.json"] = kept
        with pytest.raises(RollbackError):
            later.refresh()


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_a_held_file_that_has_expired_since_is_refused(role: str) -> None:
    world = World()
    world.repo = Repo()
    world.repo.expires = dict.fromkeys(world.repo.expires, T0 + YEAR) | {role: T0 + DAY}
    world.repo.publish()
    client = world.client()
    client.refresh()
    kept = dict(world.kept)
    Client(client.trust, {}, T0 + DAY - 1, world.fetch, world.kept.__setitem__).refresh()
    with pytest.raises(ExpiredError, match=role):
        Client(client.trust, {}, T0 + DAY, world.fetch, world.kept.__setitem__).refresh()
    assert world.kept == kept


def test_no_more_is_asked_for_than_a_lister_states_or_a_role_may_have() -> None:
    world = World()
    world.client().refresh()
    assert world.limits == {role: max_bytes(role) for role in ("root", "timestamp", "snapshot", "targets")}
    for stated, expected in ((600, 600), (2**40, max_bytes("snapshot"))):

        def state(signed: Object, length: int = stated) -> None:
            signed["meta"]["snapshot.json"]["length"] = length

        world.repo.tree["metadata/timestamp.json"] = world.repo.timestamp(edit=state)
        with pytest.raises(MismatchError):
            world.client().refresh()
        assert world.limits["snapshot"] == expected


def test_listers_that_state_no_hashes_are_followed_by_version() -> None:
    """TUF 4.4 leaves hashes to the lister; a device of Hillhold's own needs them, a client of any repository does not."""

    def bare(signed: Object) -> None:
        for meta in signed["meta"].values():
            del meta["hashes"]

    world = World()
    world.repo.publish("targets")
    world.repo.publish(snapshot=world.repo.snapshot(edit=bare))
    world.repo.publish(timestamp=world.repo.timestamp(edit=bare))
    client = world.client()
    client.refresh()
    assert client.find(PATH) is not None
    assert world.fetched[2:] == [("snapshot", 2), ("targets", 2), ("pump", 1)]


def test_a_repository_without_consistent_snapshots_has_no_versions_in_its_names() -> None:
    world = World()
    flat = world.repo.root(version=2, edit=lambda signed: signed.update(consistent_snapshot=False))
    world.repo.publish(root=flat)
    world.repo.tree |= {f"metadata/{name}.json": world.repo.files[name] for name in ("snapshot", "targets")}
    world.client().refresh()
    assert world.fetched[2:] == [("root", 3), ("timestamp", None), ("snapshot", None), ("targets", None)][1:]


def test_roots_are_followed_up_to_a_bound_and_each_is_kept() -> None:
    world = World()
    for _ in range(3):
        world.repo.rotate("root")
    client = world.client()
    client.refresh()
    assert client.trust.root.signed.version == 4
    assert world.kept["root"] == world.repo.tree["metadata/4.root.json"]
    assert [version for role, version in world.fetched if role == "root"] == [2, 3, 4, 5]
    assert MAX_ROOTS == 256


def test_targets_may_go_back_once_snapshot_has_new_keys() -> None:
    """TUF 5.3.11: how a repository recovers from targets of the highest version; a device's own floor would stand."""
    world = World()
    world.repo.publish("snapshot", "timestamp", targets=world.repo.targets(version=1000))
    client = world.client()
    client.refresh()
    world.repo.versions["targets"] = 1
    world.repo.publish("targets", "snapshot", "timestamp")
    with pytest.raises(RollbackError, match="targets version in snapshot"):
        client.refresh()
    world.repo.keys |= {"timestamp": keys("timestamp-next"), "snapshot": keys("snapshot-next")}
    world.repo.publish("root", "snapshot", "timestamp")
    client.refresh()
    assert client.trust.targets is not None
    assert client.trust.targets.signed.version == 2
    assert client.now == NOW
