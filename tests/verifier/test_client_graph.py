"""The client's search through a graph of delegations: order, ends, bounds, and what each role on the way has to prove (TUF 5.6.7)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import sha256, sha512
from itertools import pairwise

import pytest

from forge import DAY, T0, YEAR, Object, Repo, SigningKey, date, ecdsa_key, envelope, key, listing
from hillhold_verifier.client import MAX_DELEGATIONS, Client, check_target
from hillhold_verifier.errors import (
    ExpiredError,
    MetadataError,
    MismatchError,
    MissingError,
    Refused,
    SignatureError,
)
from hillhold_verifier.metadata import max_bytes, parse_root
from hillhold_verifier.roles import TargetFile
from hillhold_verifier.trust import Trust
from holder import NOW


@dataclass
class Graph:
    """Roles that delegate to each other. `below`: by role, those that it delegates to, in order; `names`: the paths that a role names.

    A role is signed by the key that `signing` names, and trusted by each delegator by the key that `trusted` names; else by that of its
    name. `hashed`: snapshot lists hashes.
    """

    below: dict[str, list[str]]
    names: dict[str, list[str]]
    terminating: set[str] = field(default_factory=set)
    patterns: dict[str, list[str]] = field(default_factory=dict)
    trusted: dict[tuple[str, str], SigningKey] = field(default_factory=dict)
    signing: dict[str, SigningKey] = field(default_factory=dict)
    expires: dict[str, int] = field(default_factory=dict)
    unlisted: set[str] = field(default_factory=set)
    hashed: bool = True
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, int | None, int]] = field(default_factory=list)
    kept: dict[str, bytes] = field(default_factory=dict)
    generation: int = 0

    def body(self, role: str) -> Object:
        target = {"hashes": {"sha256": sha256(role.encode()).hexdigest()}, "length": len(role)}
        return {
            "_type": "targets",
            "delegations": self.delegations(role),
            "expires": date(self.expires.get(role, T0 + YEAR)),
            "spec_version": "1.0.31",
            "targets": dict.fromkeys(self.names.get(role, []), target),
            "version": self.generation,
        }

    def delegations(self, role: str) -> Object:
        by = {name: self.trusted.get((role, name), key(name)) for name in self.below.get(role, [])}
        roles = [
            {
                "keyids": [one.keyid],
                "name": name,
                "paths": self.patterns.get(name, ["*"]),
                "terminating": name in self.terminating,
                "threshold": 1,
            }
            for name, one in by.items()
        ]
        return {"keys": {one.keyid: one.entry for one in by.values()}, "roles": roles}

    def publish(self, **made: bytes) -> None:
        """The next version of everything."""
        self.generation += 1
        for role in {name for names in self.below.values() for name in names}:
            self.files[role] = made.get(role) or envelope(self.body(role), [self.signing.get(role, key(role))])
        repo = Repo()
        repo.files["targets"] = repo.targets(
            version=self.generation,
            edit=lambda signed: signed.update(
                delegations=self.delegations("targets"), targets=self.body("targets")["targets"]
            ),
        )
        meta = {f"{role}.json": listing(data) for role, data in self.files.items() if role not in self.unlisted}
        if not self.hashed:
            meta = {name: {"version": entry["version"]} for name, entry in meta.items()}
        meta["targets.json"] = listing(repo.files["targets"])
        snapshot = repo.snapshot(
            line=repo.files["targets"], version=self.generation, edit=lambda signed: signed.update(meta=meta)
        )
        timestamp = repo.timestamp(snapshot=snapshot, version=self.generation)
        self.files.update(targets=repo.files["targets"], snapshot=snapshot, timestamp=timestamp)
        self.files["root"] = repo.root(version=1)

    def fetch(self, role: str, version: int | None, limit: int) -> bytes | None:
        self.asked.append((role, version, limit))
        return None if role == "root" else self.files.get(role)

    def client(self, now: int = NOW) -> Client:
        """A client that is up to date."""
        client = Client(Trust(parse_root(self.files["root"])), {}, now, self.fetch, self.kept.__setitem__)
        client.refresh()
        self.asked.clear()
        self.kept.clear()
        return client

    def find(self, path: str = "x") -> tuple[str | None, list[str]]:
        """Which role names `path`, and the roles that were fetched on the way."""
        if not self.generation:
            self.publish()
        found = self.client().find(path)
        by = {sha256(role.encode()).digest(): role for role in ("targets", *self.files)}
        return by[found.hashes["sha256"]] if found else None, [role for role, _, _ in self.asked]


# --- the order --------------------------------------------------------------------------------------------------------


def test_the_top_level_comes_first() -> None:
    assert Graph({"targets": ["a"]}, {"targets": ["x"], "a": ["x"]}).find() == ("targets", [])


def test_the_search_goes_deep_before_it_goes_wide_and_in_order() -> None:
    graph = Graph({"targets": ["a", "b"], "a": ["aa", "ab"]}, {"ab": ["x"], "b": ["x"]})
    assert graph.find() == ("ab", ["a", "aa", "ab"])
    graph = Graph({"targets": ["a", "b"], "a": ["aa", "ab"]}, {"b": ["x"]})
    assert graph.find() == ("b", ["a", "aa", "ab", "b"])


def test_only_roles_that_are_trusted_for_the_path_are_asked() -> None:
    graph = Graph({"targets": ["a", "b"]}, {"a": ["x"], "b": ["x"]}, patterns={"a": ["y"]})
    assert graph.find() == ("b", ["b"])


def test_a_terminating_role_ends_the_search_with_what_is_below_it() -> None:
    graph = Graph({"targets": ["a", "b"], "a": ["aa"]}, {"b": ["x"]}, terminating={"a"})
    assert graph.find() == (None, ["a", "aa"])
    graph = Graph({"targets": ["a", "b"], "a": ["aa", "ab"]}, {"ab": ["x"], "b": ["x"]}, terminating={"aa"})
    assert graph.find() == (None, ["a", "aa"]), "nor does it go on beside a delegator that did not terminate"
    graph = Graph({"targets": ["a", "b"], "a": ["aa"]}, {"aa": ["x"], "b": ["x"]}, terminating={"a"})
    assert graph.find() == ("aa", ["a", "aa"])


def test_a_terminating_role_ends_the_search_behind_others_too() -> None:
    graph = Graph({"targets": ["a", "b"], "a": ["aa", "ab"]}, {"b": ["x"]}, terminating={"ab"})
    assert graph.find() == (None, ["a", "aa", "ab"])


def test_the_search_goes_on_behind_a_role_that_was_visited_before() -> None:
    graph = Graph({"targets": ["a", "b", "c"], "a": ["shared"], "b": ["shared"]}, {"c": ["x"]})
    assert graph.find() == ("c", ["a", "shared", "b", "c"])


def test_a_circle_ends() -> None:
    graph = Graph({"targets": ["a"], "a": ["b"], "b": ["a"]}, {})
    assert graph.find() == (None, ["a", "b"])


def test_a_search_visits_a_bounded_number_of_roles() -> None:
    chain = ["targets", *(f"r{number}" for number in range(2 * MAX_DELEGATIONS))]
    graph = Graph({above: [below] for above, below in pairwise(chain)}, {chain[-1]: ["x"]})
    found, asked = graph.find()
    assert (found, len(asked)) == (None, MAX_DELEGATIONS)
    assert MAX_DELEGATIONS == 64
    graph = Graph(graph.below, {chain[MAX_DELEGATIONS]: ["x"]})
    assert graph.find()[0] == chain[MAX_DELEGATIONS]


# --- what each role has to prove --------------------------------------------------------------------------------------


def one(**more: object) -> Graph:
    graph = Graph({"targets": ["a"]}, {"a": ["x"]})
    for name, value in more.items():
        setattr(graph, name, value)
    return graph


def refused(graph: Graph, error: type[Refused], words: str | None = None, *, now: int = NOW) -> None:
    client = graph.client(now)
    with pytest.raises(error, match=words):
        client.find("x")
    assert dict(client.delegated) == {}
    assert graph.kept == {}, "what is refused is not kept"


def test_what_is_found_is_kept_and_not_asked_for_again() -> None:
    graph = one()
    graph.publish()
    client = graph.client()
    assert client.find("x") is not None
    assert graph.asked == [("a", 1, max_bytes("a"))]
    assert graph.kept == {"a": graph.files["a"]}
    assert client.find("x") is not None
    assert len(graph.asked) == 1
    assert client.delegated["a"].raw == graph.files["a"]


def test_a_role_that_snapshot_does_not_list_is_missing() -> None:
    graph = one(unlisted={"a"})
    graph.publish()
    refused(graph, MissingError)
    assert graph.asked == []


def test_a_role_that_is_not_there_is_missing() -> None:
    graph = one()
    graph.publish()
    client = graph.client()
    del graph.files["a"]
    with pytest.raises(MissingError, match="a metadata: expected version 1, got none"):
        client.find("x")


def test_a_role_by_another_key_is_refused() -> None:
    graph = one(trusted={("targets", "a"): key("another")})
    graph.publish()
    refused(graph, SignatureError)


def test_another_content_than_the_listed_one_is_refused() -> None:
    graph = one()
    graph.publish()
    client = graph.client()
    graph.names["a"] = ["x", "y"]
    graph.files["a"] = envelope(graph.body("a"), [key("a")])
    with pytest.raises(MismatchError, match="a hash"):
        client.find("x")
    assert graph.kept == {}


def test_a_role_that_has_expired_is_refused_new_or_held() -> None:
    graph = one(expires={"a": T0 + DAY})
    graph.publish()
    refused(graph, ExpiredError, now=T0 + DAY)
    fresh = graph.client(T0 + DAY - 1)
    assert fresh.find("x") is not None
    later = Client(fresh.trust, fresh.delegated, T0 + DAY, graph.fetch, graph.kept.__setitem__)
    with pytest.raises(ExpiredError):
        later.find("x")


def test_a_held_role_that_is_listed_no_longer_is_asked_for_again() -> None:
    graph = one()
    graph.publish()
    client = graph.client()
    assert client.find("x") is not None
    graph.names["a"] = []
    graph.publish()
    client.refresh()
    assert client.find("x") is None
    assert client.delegated["a"].signed.version == 2


def test_a_file_of_another_type_is_no_role() -> None:
    graph = one()
    graph.publish()
    graph.publish(a=graph.files["timestamp"])
    refused(graph, MetadataError, "a metadata type: expected targets, got timestamp")


def test_a_role_is_the_listed_version_where_no_hash_is_listed() -> None:
    """Or whoever serves files could go back to an older one of the same keys."""
    graph = one(hashed=False)
    graph.publish()
    old = graph.files["a"]
    graph.publish()
    client = graph.client()
    new = graph.files["a"]
    graph.files["a"] = old
    with pytest.raises(MismatchError, match="a version: expected 2, got 1"):
        client.find("x")
    assert graph.kept == {}
    graph.files["a"] = new
    assert client.find("x") is not None


def test_a_held_role_is_not_asked_for_again_where_no_hash_is_listed() -> None:
    graph = one(hashed=False)
    graph.publish()
    client = graph.client()
    assert client.find("x") is not None
    del graph.files["a"]
    assert client.find("x") is not None
    assert [role for role, _, _ in graph.asked] == ["a"]


def test_a_role_is_signed_by_a_scheme_that_counts_here() -> None:
    other = ecdsa_key("a")
    graph = one(trusted={("targets", "a"): other}, signing={"a": other})
    graph.publish()
    client = graph.client()
    assert client.find("x") is not None
    narrow = Client(replace(client.trust, schemes=frozenset({"ed25519"})), {}, NOW, graph.fetch, graph.kept.__setitem__)
    graph.kept.clear()
    with pytest.raises(SignatureError, match="a signatures"):
        narrow.find("x")
    assert graph.kept == {}


# --- a target's content -----------------------------------------------------------------------------------------------


def test_every_stated_hash_of_a_target_is_checked() -> None:
    right = {"sha256": sha256(b"one").digest(), "sha512": sha512(b"one").digest()}
    check_target(TargetFile("x", 3, right, None), b"one")
    for name in right:
        with pytest.raises(MismatchError, match=name):
            check_target(TargetFile("x", 3, right | {name: bytes(len(right[name]))}, None), b"one")
    for length in (2, 4):
        with pytest.raises(MismatchError, match="length"):
            check_target(TargetFile("x", length, right, None), b"one")
