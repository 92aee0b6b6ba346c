"""Each step by itself: what its refusal names, which schemes count, that root has not expired, and what it keeps of a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from forge import DAY, T0, Edit, Object, Repo, SigningKey, compact, ecdsa_key, key, keys
from hillhold_verifier.errors import (
    ExpiredError,
    MetadataError,
    MismatchError,
    MissingError,
    Refused,
    RollbackError,
    SignatureError,
)
from hillhold_verifier.metadata import parse_root
from hillhold_verifier.trust import Trust, current, held_snapshot, held_targets, missing, update_root, update_timestamp
from holder import ABOVE, NOW, fresh, holding, listed, make, provisioned_first, refused, take

ROLES = ("timestamp", "snapshot", "targets", "line")
LISTED = ("snapshot", "targets", "line")
ED = frozenset({"ed25519"})


@pytest.fixture
def repo() -> Repo:
    repo = Repo()
    repo.add_release("1.1.0", b"image")
    repo.publish()
    return repo


def named(role: str) -> str:
    return "pump" if role == "line" else role


def says(trust: Trust, files: dict[str, bytes], role: str, error: type[Refused], words: str) -> None:
    """Deliver what lists the file, then that file: the refusal says so."""
    above = ABOVE.get(role, ())
    before = take(trust, files, *above) if above else trust
    with pytest.raises(error) as caught:
        take(before, files, role)
    assert str(caught.value).startswith(words)


# --- a refusal names the file, and what was expected and came ---------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_too_few_signatures_are_named(repo: Repo, role: str) -> None:
    files = listed(repo, role, make(repo, role, signers=keys("mallory")))
    expected = f"{named(role)} signatures: expected {repo.thresholds[role]} valid, got 0"
    says(holding(repo), files, role, SignatureError, expected)


def test_too_few_signatures_of_a_root_are_named(repo: Repo) -> None:
    for signers in (keys("root-1"), keys("new-1", "new-2"), keys("root-1", "root-2", "new-1")):
        root = repo.root(keys={"root": keys("new-1", "new-2")}, signers=signers)
        says(holding(repo), {"root": root}, "root", SignatureError, "root signatures: expected 2 valid, got ")


def test_another_root_than_the_next_is_named(repo: Repo) -> None:
    says(holding(repo), {"root": repo.root(version=3)}, "root", RollbackError, "root version: expected 2, got 3")


@pytest.mark.parametrize("role", LISTED)
def test_another_file_than_the_listed_one_is_named(repo: Repo, role: str) -> None:
    files = {**repo.files, role: make(repo, role, expires=T0 + DAY)}
    says(holding(repo), files, role, MismatchError, f"{named(role)} hash: ")


@pytest.mark.parametrize("role", ROLES)
def test_a_malformed_file_is_named(repo: Repo, role: str) -> None:
    broken = listed(repo, role, make(repo, role, edit=lambda signed: signed.pop("expires")))
    says(holding(repo), broken, role, MetadataError, f"{named(role)} metadata signed expires: expected a value")


@pytest.mark.parametrize(
    ("role", "held", "lister"),
    [
        ("snapshot", 0, "timestamp"),
        ("targets", 0, "snapshot"),
        ("targets", 1, "snapshot"),
        ("line", 1, "snapshot"),
        ("line", 2, "targets"),
    ],
)
def test_the_lister_that_is_missing_is_named(repo: Repo, role: str, held: int, lister: str) -> None:
    above = ABOVE[role][:held]
    trust = take(fresh(repo), repo.files, *above) if above else fresh(repo)
    with pytest.raises(MissingError, match=rf"^{lister} metadata: expected one that is valid"):
        take(trust, repo.files, role)


def test_a_chain_without_a_timestamp_names_it(repo: Repo) -> None:
    with pytest.raises(MissingError, match=r"^timestamp metadata"):
        missing(fresh(repo), "pump")


@pytest.mark.parametrize("role", ["root", *ROLES])
def test_what_has_expired_is_named(repo: Repo, role: str) -> None:
    repo.expires = dict.fromkeys(repo.expires, T0 + 9 * DAY) | {role: T0 + DAY}
    repo.files = {}
    repo.publish()
    trust = take(fresh(repo), repo.files, clock=T0)
    with pytest.raises(ExpiredError, match=f"^{named(role)} metadata"):
        current(trust, "pump", T0 + DAY)


@pytest.mark.parametrize("role", ROLES)
def test_nothing_is_taken_under_a_root_that_has_expired(repo: Repo, role: str) -> None:
    repo.expires["root"] = T0 + DAY
    repo.files = {}
    repo.publish()
    trust = take(fresh(repo), repo.files, *ABOVE.get(role, ()), clock=T0)
    take(trust, repo.files, role, clock=T0 + DAY - 1)
    with pytest.raises(ExpiredError, match=r"^root metadata"):
        take(trust, repo.files, role, clock=T0 + DAY)


def test_a_role_that_goes_back_in_snapshot_is_named_with_what_came(repo: Repo) -> None:
    repo.publish("line", "snapshot", "timestamp")
    trust = holding(repo)
    old = repo.line(version=1)
    says(
        trust,
        listed(repo, "line", old),
        "snapshot",
        RollbackError,
        "pump version in snapshot: expected at least 2, got 1",
    )
    gone = repo.snapshot(edit=lambda signed: signed["meta"].pop("pump.json"))
    files = listed(repo, "snapshot", gone)
    says(trust, files, "snapshot", RollbackError, "pump version in snapshot: expected at least 2, got none")


def test_a_snapshot_of_an_older_version_is_refused_by_its_own_floor(repo: Repo) -> None:
    """It lists just what the newer one lists, and the timestamp that listed the newer one is not valid any more."""
    old = repo.files["snapshot"]
    repo.publish("snapshot", "timestamp")
    trust = holding(repo)
    repo.keys["timestamp"] = keys("timestamp-next")
    repo.publish("root")
    trust = take(trust, repo.files, "root")
    files = listed(repo, "snapshot", old)
    says(trust, files, "snapshot", RollbackError, "snapshot version: expected at least 2, got 1")


# --- which schemes count ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_on_trial_a_file_needs_keys_of_schemes_that_count(repo: Repo, role: str) -> None:
    """Whether it comes now or is held already (DESIGN §4, "Trial")."""
    repo.keys[role] = [ecdsa_key(f"{role}-{n}") for n in (1, 2)]
    repo.publish("root", "targets", "line", "snapshot", "timestamp")
    trust = take(provisioned_first(repo), repo.files, "root")
    held = take(trust, repo.files)
    refused(replace(trust, schemes=ED), repo.files, role, SignatureError)
    with pytest.raises(MissingError):
        current(replace(held, schemes=ED), "pump", NOW)
    current(held, "pump", NOW)


def test_on_trial_the_held_quorum_signs_a_root_with_schemes_that_count() -> None:
    repo = Repo()
    repo.keys["root"] = [key("root-1"), ecdsa_key("root-2"), key("root-3")]
    repo.publish()
    data = repo.root(
        keys={"root": keys("root-1", "root-4")}, signers=[key("root-1"), ecdsa_key("root-2"), key("root-4")]
    )
    assert update_root(fresh(repo), data).root.signed.version == 2
    refused(replace(fresh(repo), schemes=ED), {"root": data}, "root", SignatureError)


def test_on_trial_the_new_quorum_signs_a_root_with_schemes_that_count() -> None:
    repo = Repo()
    repo.publish()
    after = [key("root-1"), ecdsa_key("root-4"), key("root-5")]
    data = repo.root(keys={"root": after}, signers=[*keys("root-1", "root-2"), ecdsa_key("root-4")])
    assert update_root(fresh(repo), data).root.signed.version == 2
    refused(replace(fresh(repo), schemes=ED), {"root": data}, "root", SignatureError)


# --- what a role is trusted for ---------------------------------------------------------------------------------------


def test_only_the_delegation_of_the_lines_own_name_counts(repo: Repo) -> None:
    """Another role is trusted for the same paths, by other keys: it is not the product's line."""

    def another(signed: Object) -> None:
        (line,) = signed["delegations"]["roles"]
        mallory = keys("mallory-1", "mallory-2")
        signed["delegations"]["keys"].update({one.keyid: one.entry for one in mallory})
        signed["delegations"]["roles"].insert(0, {**line, "name": "other", "keyids": [one.keyid for one in mallory]})

    repo.publish("snapshot", "timestamp", targets=repo.targets(edit=another))
    repo.publish("snapshot", "timestamp")
    current(take(fresh(repo), repo.files), "pump", NOW)
    evil = repo.line(signers=keys("mallory-1", "mallory-2"))
    refused(fresh(repo), listed(repo, "line", evil), "line", SignatureError)


def unknown_key_id(role: str) -> Edit:
    return lambda signed: signed["roles"][role]["keyids"].append("f" * 64)


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_a_key_id_without_a_key_counts_for_nothing_and_does_no_harm(repo: Repo, role: str) -> None:
    root = repo.root(edit=unknown_key_id(role))
    repo.publish("targets", "line", "snapshot", "timestamp", root=root)
    trust = take(take(provisioned_first(repo), repo.files, "root"), repo.files)
    assert current(trust, "pump", NOW).root.version == 2
    repo.publish("targets", "line", "snapshot", "timestamp")
    current(take(trust, repo.files), "pump", NOW)


def test_nothing_is_held_before_anything_came(repo: Repo) -> None:
    assert held_snapshot(fresh(repo)) is None
    assert held_targets(fresh(repo)) is None


def test_what_was_asked_of_a_trust_is_no_part_of_it(repo: Repo) -> None:
    asked, other = holding(repo), take(fresh(repo), repo.files)
    current(asked, "pump", NOW)
    assert asked == replace(other) == other


# --- the time floor ---------------------------------------------------------------------------------------------------


def test_a_timestamp_without_a_time_sets_no_floor_and_replaces_none(repo: Repo) -> None:
    repo.issued = None
    assert update_timestamp(fresh(repo), repo.timestamp(), NOW).time_floor is None
    trust = take(holding(repo), repo.files, "timestamp")
    repo.keys["timestamp"] = keys("timestamp-next")
    repo.publish("root")
    moved = take(trust, repo.files, "root")
    assert update_timestamp(moved, repo.timestamp(), NOW).time_floor == trust.time_floor


def test_grace_is_used_from_the_very_second_of_expiry_on() -> None:
    repo = Repo()
    repo.offline_grace, repo.expires["timestamp"] = DAY, T0 + DAY
    repo.publish()
    trust = take(fresh(repo), repo.files, clock=T0)
    assert [current(trust, "pump", T0 + DAY + late).grace_used for late in (-1, 0, 1, 2)] == [0, 1, 1, 2]


# --- what is kept of root and timestamp, which no lister names by hash ------------------------------------------------


def padded(data: bytes, change: Callable[[Object], object]) -> bytes:
    whole = json.loads(data)
    change(whole)
    return compact(whole)


def with_signature(signer: SigningKey, data: bytes, *, valid: bool) -> bytes:
    signed = json.loads(data)["signed"]
    value = signer.sign(compact(signed)) if valid else bytes(64)
    return padded(data, lambda whole: whole["signatures"].append({"keyid": signer.keyid, "sig": value.hex()}))


def test_a_timestamp_is_kept_without_what_others_added(repo: Repo) -> None:
    repo.keys["timestamp"] = keys("timestamp-1", "timestamp-2")
    repo.publish("root", "timestamp")
    trust = take(provisioned_first(repo), repo.files, "root")
    honest = repo.files["timestamp"]
    for data in (
        honest + b"\n",
        padded(honest, lambda whole: whole.update(pad="x")),
        with_signature(key("mallory"), honest, valid=True),
        with_signature(key("snapshot-1"), honest, valid=True),
        with_signature(key("timestamp-2"), honest, valid=False),
    ):
        kept = update_timestamp(trust, data, NOW).timestamp
        assert kept is not None
        assert kept.raw == honest
    both = with_signature(key("timestamp-2"), honest, valid=True)
    kept = update_timestamp(trust, both, NOW).timestamp
    assert kept is not None
    assert kept.raw == both


def test_a_root_is_kept_with_the_signatures_of_both_quorums_and_no_others(repo: Repo) -> None:
    new = keys("new-1", "new-2", "new-3")
    honest = repo.root(keys={"root": new}, signers=[*keys("root-1", "root-2"), *new[:2]])
    for data in (
        honest,
        b" " + honest,
        padded(honest, lambda whole: whole.update(pad="x")),
        with_signature(key("mallory"), honest, valid=True),
        with_signature(key("timestamp-1"), honest, valid=True),
        with_signature(key("root-3"), honest, valid=False),
        with_signature(key("new-3"), honest, valid=False),
    ):
        kept = update_root(holding(repo), data).root
        assert kept.raw == honest
        assert kept.signed == parse_root(honest).signed
