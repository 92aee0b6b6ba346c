"""The client for any repository: refresh, and the search through delegations."""

from __future__ import annotations

import json

import pytest

from forge import DAY, T0, YEAR, Object, Repo, envelope, key, keys, listing, version_of
from hillhold_verifier.client import MAX_DELEGATIONS, Client, check_target
from hillhold_verifier.errors import ExpiredError, MismatchError, MissingError, RollbackError, SignatureError
from hillhold_verifier.metadata import max_bytes, parse_root, parse_timestamp
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

    def again(self, client: Client, now: int = NOW) -> Client:
        """The client at its next start: with what it kept, and its floors."""
        timestamp = parse_timestamp(self.kept["timestamp"]) if "timestamp" in self.kept else None
        trust = Trust(client.trust.root, timestamp, floors=client.trust.floors, time_floor=client.trust.time_floor)
        return Client(trust, client.delegated, now, self.fetch, self.kept.__setitem__)

    def serve(self, role: str, data: bytes) -> None:
        """Publish a file of any role, and a snapshot and a timestamp that list it."""
        listed = self.repo.snapshot(edit=lambda body: body["meta"].update({f"{role}.json": listing(data)}))
        self.repo.publish(snapshot=listed, timestamp=self.repo.timestamp(snapshot=listed))
        self.repo.tree[f"metadata/{version_of(data)}.{role}.json"] = data


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


def delegate(world: World, names: list[str], *, line_terminates: bool = False) -> None:
    """Top-level targets that delegate the line's paths to `names`, in order, by the line's keys; the others list nothing."""

    def edit(signed: Object) -> None:
        (first,) = signed["delegations"]["roles"]
        signed["delegations"]["roles"] = [
            {**first, "name": name, "terminating": line_terminates and name == "pump"} for name in names
        ]

    repo = world.repo
    empty = repo.line(version=1, edit=lambda signed: signed.update(targets={}))
    world.repo.tree.update({f"metadata/1.{name}.json": empty for name in names if name != "pump"})
    targets = repo.targets(edit=edit)
    listed = {f"{name}.json": {"version": 1} for name in names}
    snapshot = repo.snapshot(targets=targets, edit=lambda signed: signed["meta"].update(listed))
    repo.publish(targets=targets, snapshot=snapshot, timestamp=repo.timestamp(snapshot=snapshot))


def test_the_search_is_bounded_by_the_roles_that_it_visits_not_by_those_that_are_named() -> None:
    """Delegations without end keep a client busy; but only those before the one that names the target are in its way (TUF 5.6.7.1)."""
    world = World()
    delegate(world, ["pump", *(f"r{number}" for number in range(200))])
    client = world.client()
    client.refresh()
    assert client.find(PATH) is not None
    assert [role for role, _ in world.fetched if role.startswith("r") and role != "root"] == []
    assert client.find("pump/1.0.0/none.bin") is None
    visited = [role for role, _ in world.fetched if role.startswith("r") and role != "root"]
    assert visited == [f"r{number}" for number in range(MAX_DELEGATIONS - 1)]


def test_a_terminating_role_ends_the_search() -> None:
    world = World()
    delegate(world, ["r0", "pump", "r1"], line_terminates=True)
    client = world.client()
    client.refresh()
    assert client.find("pump/1.0.0/none.bin") is None
    assert [role for role, _ in world.fetched[4:]] == ["r0", "pump"]


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


def test_a_repository_without_a_timestamp_is_named_so() -> None:
    world = World()
    del world.repo.tree["metadata/timestamp.json"]
    with pytest.raises(MissingError, match="timestamp metadata: expected one, got none"):
        world.client().refresh()


def test_nothing_is_found_before_the_client_is_up_to_date() -> None:
    with pytest.raises(MissingError, match="targets metadata: expected one that holds now, got none"):
        World().client().find(PATH)


def test_once_root_has_expired_nothing_else_is_asked_for() -> None:
    """TUF 5.3.10."""
    world = World()
    del world.repo.tree["metadata/timestamp.json"]
    with pytest.raises(ExpiredError, match="root"):
        world.client(now=T0 + 10 * YEAR).refresh()
    assert world.fetched == [("root", 2)]


def test_a_timestamp_of_the_held_version_is_not_kept_in_another_form() -> None:
    """TUF 5.4.3.1: nothing has changed. Nobody signed the form, and a client would write what it is sent for ever."""
    world = World()
    client = world.client()
    client.refresh()
    kept = dict(world.kept)
    world.repo.tree["metadata/timestamp.json"] = b" " + kept["timestamp"]
    client.refresh()
    assert world.kept == kept


def test_too_many_bytes_are_refused_at_the_limit() -> None:
    world = World()
    whole = json.loads(world.repo.tree["metadata/timestamp.json"])
    whole["pad"] = "x" * 10_000_000
    world.repo.tree["metadata/timestamp.json"] = json.dumps(whole).encode()
    with pytest.raises(Exception, match="at most 32768 bytes"):
        world.client().refresh()


def test_what_seemed_expired_by_a_wrong_clock_is_taken_once_the_clock_is_right() -> None:
    """Its version counts, but it was not kept: nothing that is held stands for it, neither nothing nor an older one."""
    world = World()
    client = world.client(now=NOW + 8 * DAY)
    with pytest.raises(ExpiredError, match="timestamp"):
        client.refresh()
    assert "timestamp" not in world.kept
    client = world.again(client)
    client.refresh()
    world.repo.publish("timestamp")
    ahead = world.again(client, now=NOW + 8 * DAY)
    with pytest.raises(ExpiredError, match="timestamp"):
        ahead.refresh()
    held = version_of(world.kept["timestamp"])
    world.again(ahead).refresh()
    assert version_of(world.kept["timestamp"]) == held + 1


def test_root_is_judged_by_the_time_that_the_timestamp_tells() -> None:
    world = World()
    world.repo.expires["root"] = T0 + 5 * DAY
    world.repo.issued = T0 + 6 * DAY
    world.repo.publish("root", "timestamp")
    client = world.client()
    with pytest.raises(ExpiredError, match="root"):
        client.refresh()
    assert world.fetched[-1] == ("timestamp", None)


def test_a_role_that_two_delegate_is_visited_once() -> None:
    """TUF 5.6.7.1. The second delegation, by other keys, would not hold."""
    world = World()
    repo = world.repo
    own = {one.keyid: one.entry for one in repo.keys["line"]}
    mallory = key("mallory")
    below = {"keyids": [mallory.keyid], "name": "pump", "paths": ["*/*/*"], "terminating": False, "threshold": 1}

    def delegate(body: Object) -> None:
        first = body["delegations"]["roles"][0]
        first["terminating"] = False
        body["delegations"]["roles"].append({**first, "name": "other"})

    repo.publish(targets=repo.targets(edit=delegate))
    body: Object = {
        "_type": "targets",
        "expires": "2030-01-01T00:00:00Z",
        "spec_version": "1.0.31",
        "targets": {},
        "version": 1,
    }
    body["delegations"] = {"keys": {**own, mallory.keyid: mallory.entry}, "roles": [below]}
    world.serve("other", envelope(body, repo.keys["line"]))
    client = world.client()
    client.refresh()
    assert client.find("pump/9.9.9/app.bin") is None
    assert [role for role, _ in world.fetched[-2:]] == ["pump", "other"]


def test_the_limit_counts_roles_that_were_visited() -> None:
    """However many a file delegates to, the first of them is asked."""
    world = World()

    def delegate(body: Object) -> None:
        first = body["delegations"]["roles"][0]
        first["terminating"] = False
        body["delegations"]["roles"] += [{**first, "name": f"other-{n}"} for n in range(MAX_DELEGATIONS + 9)]

    data = world.repo.targets(edit=delegate)
    world.repo.publish(targets=data)
    world.repo.publish("line", "snapshot", "timestamp")
    client = world.client()
    client.refresh()
    assert client.find(PATH) is not None


def test_a_role_that_was_signed_again_by_new_keys_is_fetched() -> None:
    """Where no hash is listed, the same version may come with other signatures; what is held does not stand in its way."""
    world = World()
    repo = world.repo

    def publish() -> None:
        repo.publish("targets", "line")
        plain = repo.snapshot(edit=lambda body: body["meta"]["pump.json"].pop("hashes"))
        repo.publish("snapshot", snapshot=plain, timestamp=repo.timestamp(snapshot=plain))

    publish()
    client = world.client()
    client.refresh()
    assert client.find(PATH) is not None
    repo.keys["line"] = [key("another-1"), key("another-2")]
    repo.versions["line"] -= 1
    publish()
    client.refresh()
    assert client.find(PATH) is not None
    assert client.delegated["pump"].raw == repo.files["line"]


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
