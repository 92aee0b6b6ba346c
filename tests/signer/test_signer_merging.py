"""The three-way merge: what one side changed is taken, the same on both machines; what both changed differently is named."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuf.api.metadata import TargetFile, Targets

from hillhold_signer import Repository, add_product
from hillhold_signer.drafts import parse_signed
from hillhold_signer.errors import MergeRefused
from hillhold_signer.lines import set_caps
from hillhold_signer.merging import check_releases, merge
from workshop import NOW, ceremony, pump, team

Value = dict[str, Any]


def of(repository: Repository, role: str) -> Value:
    value: Value = json.loads(repository.state().drafts[role].payload)
    return value


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Value:
    repository = Repository.create(tmp_path_factory.mktemp("root") / "repo", ceremony(), NOW, demo=True)
    return json.loads(repository.folder.drafts.joinpath("root").glob("*.json").__next__().read_bytes())["signed"]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Value:
    repository = Repository.create(tmp_path_factory.mktemp("targets") / "repo", ceremony(), NOW, demo=True)
    add_product(repository, pump(), NOW)
    return of(repository, "targets")


def keyid(name: str) -> str:
    return team(name, threshold=1).keys[0].key.keyid


def with_key(
    root: Value, role: str, add: str | None = None, remove: str | None = None, threshold: int | None = None
) -> Value:
    """Root with other keys for a role, in order, as rotation leaves it: only keys that are used."""
    new = copy.deepcopy(root)
    item = new["roles"][role]
    keys = set(item["keyids"])
    if add:
        keys |= {keyid(add)}
        new["keys"][keyid(add)] = team(add, threshold=1).keys[0].key.to_dict()
    if remove:
        keys -= {keyid(remove)}
    item["keyids"] = sorted(keys)
    item["threshold"] = threshold or item["threshold"]
    used = {key for entry in new["roles"].values() for key in entry["keyids"]}
    new["keys"] = {key: value for key, value in new["keys"].items() if key in used}
    return new


def both_ways(base: Value, left: Value, right: Value, role: str) -> Value:
    """The merge, which is the same the other way round, and is metadata that can be signed."""
    found = merge(base, left, right)
    assert found == merge(base, right, left)
    parse_signed(found, role)
    return found


def test_two_changes_of_a_roles_keys_are_both_made(root: Value) -> None:
    left = with_key(root, "root", add="release-1", remove="root-1")
    right = with_key(root, "root", add="release-2")
    found = both_ways(root, left, right, "root")
    names = ("root-2", "root-3", "release-1", "release-2")
    assert found["roles"]["root"]["keyids"] == sorted(map(keyid, names))
    assert keyid("root-1") not in found["keys"]
    assert keyid("release-1") in found["keys"]


def test_a_key_that_one_side_needs_no_more_and_the_other_begins_to_need_stays(root: Value) -> None:
    left = with_key(root, "targets", remove="targets-1", threshold=1)
    right = with_key(root, "root", add="targets-1")
    assert keyid("targets-1") not in left["keys"]
    found = both_ways(root, left, right, "root")
    assert keyid("targets-1") in found["keys"]
    # and one that both left to the other goes
    shared = with_key(root, "root", add="targets-1")
    left, right = (
        with_key(shared, "root", remove="targets-1"),
        with_key(shared, "targets", remove="targets-1", threshold=1),
    )
    assert keyid("targets-1") not in both_ways(shared, left, right, "root")["keys"]


def test_thresholds_that_both_changed_differently_or_that_cannot_be_met_are_refused(root: Value) -> None:
    with pytest.raises(MergeRefused, match="root: threshold: expected one change, got 1 and 3"):
        merge(root, with_key(root, "root", threshold=1), with_key(root, "root", threshold=3))
    left, right = with_key(root, "root", remove="root-1"), with_key(root, "root", remove="root-2")
    with pytest.raises(MergeRefused, match="threshold of root: expected 1 to 1, as many keys, got 2"):
        merge(root, left, right)
    same = with_key(root, "root", threshold=3)
    assert both_ways(root, same, same, "root")["roles"]["root"]["threshold"] == 3


def test_dates_never_clash_the_later_counts(root: Value) -> None:
    left, right = ({**root, "expires": f"203{digit}-01-01T00:00:00Z"} for digit in (5, 4))
    assert both_ways(root, left, right, "root")["expires"] == "2035-01-01T00:00:00Z"


def test_lines_and_their_caps_are_merged_by_name(targets: Value, tmp_path: Path) -> None:
    def line(value: Value) -> Value:
        (found,) = (item for item in value["delegations"]["roles"] if item["name"] == "pump")
        return found  # type: ignore[no-any-return]

    left, right = copy.deepcopy(targets), copy.deepcopy(targets)
    line(left)["x-hillhold"]["hardware"] = ["nrf51-a", "nrf52-b", "nrf54-c"]
    line(right)["x-hillhold"]["hardware"] = ["nrf52-b"]
    line(right)["x-hillhold"]["max_security_counter"] = 7
    found = both_ways(targets, left, right, "targets")
    assert line(found)["x-hillhold"] == {
        "hardware": ["nrf52-b", "nrf54-c"],
        "max_offline_grace": 0,
        "max_security_counter": 7,
    }
    line(left)["x-hillhold"]["max_security_counter"] = 9
    with pytest.raises(
        MergeRefused, match=r"pump: x-hillhold max_security_counter: expected one change, got [79] and [79]"
    ):
        merge(targets, left, right)
    gone = copy.deepcopy(targets)
    gone["delegations"]["roles"] = []
    with pytest.raises(MergeRefused, match="product line pump: expected one change, got"):
        merge(targets, gone, right)


def test_two_new_lines_of_one_name_are_never_mixed(tmp_path: Path) -> None:
    values = []
    for number, people in enumerate((("release-1",), ("release-2",))):
        repository = Repository.create(tmp_path / str(number), ceremony(), NOW, demo=True)
        base = of(repository, "targets")
        add_product(repository, replace(pump(), team=team(*people, threshold=1)), NOW)
        values.append(of(repository, "targets"))
    with pytest.raises(MergeRefused, match="product line pump: expected one change"):
        merge(base, *values)


def test_what_is_alike_but_for_the_date_needs_no_base(tmp_path: Path) -> None:
    repository = Repository.create(tmp_path / "repo", ceremony(), NOW, demo=True)
    add_product(repository, pump(), NOW)
    left = of(repository, "targets")
    set_caps(repository, "pump", NOW, hardware=lambda known: [*known, *["x"]])
    assert merge(None, left, {**left, "expires": "2030-01-01T00:00:00Z"})["expires"] == "2030-01-01T00:00:00Z"
    with pytest.raises(MergeRefused):
        merge(None, left, of(repository, "targets"))


def test_a_release_is_never_put_together_from_two_sides() -> None:
    def value(**fields: object) -> Value:
        entry = {"length": 1, "custom": {"hillhold": {"kind": "feature", **fields}}}
        return {"targets": {"pump/1.0.0/a": entry}, "version": 1, "expires": "1"}

    with pytest.raises(MergeRefused, match=r"target pump/1\.0\.0/a: expected one change"):
        merge(value(), value(withdrawn="it leaks"), value(kind="security"))


def test_lines_keep_their_order_and_new_ones_follow_by_name(targets: Value) -> None:
    def value(*names: str) -> Value:
        (line,) = targets["delegations"]["roles"]
        roles = [{**line, "name": name, "paths": [f"{name}/*/*"]} for name in names]
        return {**targets, "delegations": {**targets["delegations"], "roles": roles}}

    found = both_ways(value("z", "m"), value("z", "m", "y", "a"), value("z", "m", "b"), "targets")
    assert [item["name"] for item in found["delegations"]["roles"]] == ["z", "m", "a", "b", "y"]


def test_releases_of_either_side_are_held_against_each_other_and_not_what_was_there_before() -> None:
    def value(**releases: tuple[str, int]) -> Value:
        line = Targets(version=1)
        for name, (version, counter) in releases.items():
            custom = {"v": 1, "hardware": ["a"], "version": version, "security_counter": counter}
            custom |= {"format": "raw", "kind": "feature"}
            path = f"pump/{version}/{name}"
            line.targets[path] = TargetFile(9, {"sha256": "0" * 64}, path, {"custom": {"hillhold": custom}})
        return line.to_dict()

    base = value(a=("1.0.0", 5))
    again = value(b=("1.0.0", 5))  # one side built the only release again, under another name
    check_releases("pump", base, value(a=("1.0.0", 5), c=("1.1.0", 5)), again)
    for left, right in (
        (value(b=("1.1.0", 5)), value(c=("1.1.0", 5))),
        (value(b=("1.1.0", 6)), value(c=("1.2.0", 5))),
        (value(b=("1.2.0", 5)), value(c=("1.1.0", 6))),
    ):
        with pytest.raises(MergeRefused):
            check_releases("pump", base, left, right)
    check_releases("pump", base, value(b=("1.1.0", 5)), value(c=("1.2.0", 6)))


PATHS = st.dictionaries(st.sampled_from("abcd"), st.sampled_from([1, 2, 3]), max_size=4)


@given(PATHS, PATHS, PATHS)
def test_entries_by_path(base: dict[str, int], left: dict[str, int], right: dict[str, int]) -> None:
    def value(entries: dict[str, int]) -> Value:
        return {"targets": {name: {"length": length} for name, length in entries.items()}, "version": 1, "expires": "1"}

    clash = any(
        left.get(name) != right.get(name) and base.get(name) not in (left.get(name), right.get(name)) for name in "abcd"
    )
    if clash:
        for one, other in ((left, right), (right, left)):
            with pytest.raises(MergeRefused, match="target "):
                merge(value(base), value(one), value(other))
        return
    found = merge(value(base), value(left), value(right))
    assert found == merge(value(base), value(right), value(left))
    for name in "abcd":
        changed = left.get(name) if left.get(name) != base.get(name) else right.get(name)
        assert found["targets"].get(name, {}).get("length") == changed
