"""The client for any repository: refresh, and the search through delegations."""

from __future__ import annotations

import json

import pytest

from forge import Object, Repo, key
from hillhold_verifier.client import MAX_DELEGATIONS, Client, check_target
from hillhold_verifier.errors import ExpiredError, MismatchError, MissingError, RollbackError, SignatureError
from hillhold_verifier.metadata import parse_root
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
        self.kept: dict[str, bytes] = {}

    def fetch(self, role: str, version: int | None, limit: int) -> bytes | None:
        self.fetched.append((role, version))
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


def test_too_many_bytes_are_refused_at_the_limit() -> None:
    world = World()
    whole = json.loads(world.repo.tree["metadata/timestamp.json"])
    whole["pad"] = "x" * 10_000_000
    world.repo.tree["metadata/timestamp.json"] = json.dumps(whole).encode()
    with pytest.raises(Exception, match="at most 32768 bytes"):
        world.client().refresh()
