"""Root, step by step (TUF 5.3): the next version only, signed by the old quorum and the new, and usable here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forge import DAY, MAX_VERSION, T0, Edit, Object, Repo, ecdsa_key, key, keys
from hillhold_verifier.errors import (
    ExpiredError,
    RollbackError,
    SignatureError,
)
from hillhold_verifier.trust import current, update_root, update_timestamp
from holder import NOW, holding, make, provisioned_first, refused, take


@pytest.fixture
def repo() -> Repo:
    repo = Repo()
    repo.add_release("1.1.0", b"image")
    repo.publish()
    return repo


def next_root(repo: Repo, **over: object) -> bytes:
    return make(repo, "root", **over)


def test_the_next_root_is_taken_and_held_files_are_judged_under_it(repo: Repo) -> None:
    trust = update_root(holding(repo), next_root(repo))
    assert trust.root.signed.version == 2
    assert current(trust, "pump", NOW).root.version == 2


@pytest.mark.parametrize("version", [1, 3, MAX_VERSION])
def test_a_root_of_another_version_than_the_next_is_refused(repo: Repo, version: int) -> None:
    refused(holding(repo), {"root": next_root(repo, version=version)}, "root", RollbackError)


def test_a_root_that_the_held_quorum_did_not_sign_is_refused(repo: Repo) -> None:
    ours = keys("evil-1", "evil-2", "evil-3")
    evil = next_root(repo, keys={"root": ours}, signers=ours)
    refused(holding(repo), {"root": evil}, "root", SignatureError)
    one_short = next_root(repo, keys={"root": ours}, signers=[*ours, key("root-1")])
    refused(holding(repo), {"root": one_short}, "root", SignatureError)


def test_a_root_that_its_own_quorum_did_not_sign_is_refused(repo: Repo) -> None:
    new = keys("new-1", "new-2", "new-3")
    good = next_root(repo, keys={"root": new}, signers=[*keys("root-1", "root-2"), *new[:2]])
    assert update_root(holding(repo), good).root.signed.version == 2
    short = next_root(repo, keys={"root": new}, signers=[*keys("root-1", "root-2"), new[0]])
    refused(holding(repo), {"root": short}, "root", SignatureError)


def test_roots_are_followed_one_by_one_through_replaced_quorums(repo: Repo) -> None:
    trust = holding(repo)
    for _ in range(3):
        repo.rotate("root")
        trust = take(trust, repo.files, "root")
    assert trust.root.signed.version == 4
    current(trust, "pump", NOW)


def test_a_root_in_the_chain_may_have_expired_but_nothing_is_taken_under_it(repo: Repo) -> None:
    trust = update_root(holding(repo), next_root(repo, expires=T0 - DAY))
    with pytest.raises(ExpiredError):
        update_timestamp(trust, repo.timestamp(), NOW)
    with pytest.raises(ExpiredError):
        current(trust, "pump", NOW)
    repo.versions["root"] = 2
    current(update_root(trust, next_root(repo)), "pump", NOW)


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_a_root_whose_keys_cannot_be_used_here_is_refused_where_it_would_lock_out(repo: Repo, role: str) -> None:
    def unusable(count: int) -> Edit:
        def edit(signed: Object) -> None:
            for keyid in signed["roles"][role]["keyids"][:count]:
                signed["keys"][keyid].update(keytype="ml-dsa", scheme="ml-dsa-65")

        return edit

    quorum = [key(f"{role}-{n}") for n in (1, 2, 3)]
    signers = [key("root-2"), key("root-3")] if role == "root" else [key("root-1"), key("root-2")]
    threshold = {role: 2}
    fine = next_root(repo, keys={role: quorum}, thresholds=threshold, signers=signers, edit=unusable(1))
    assert update_root(holding(repo), fine).root.signed.version == 2, "two usable keys still meet the threshold"
    lockout = next_root(
        repo, keys={role: quorum}, thresholds=threshold, signers=[*signers, quorum[0]], edit=unusable(2)
    )
    refused(holding(repo), {"root": lockout}, "root", SignatureError)


def test_while_a_trial_runs_only_the_schemes_of_the_confirmed_image_count(repo: Repo) -> None:
    moved = next_root(repo, keys={"timestamp": [ecdsa_key("timestamp")]})
    assert update_root(holding(repo), moved).root.signed.version == 2
    trial = replace(holding(repo), schemes=frozenset({"ed25519"}))
    refused(trial, {"root": moved}, "root", SignatureError)
    both = next_root(repo, keys={"timestamp": [ecdsa_key("timestamp"), key("timestamp-1")]})
    assert update_root(trial, both).root.signed.version == 2


def test_ecdsa_quorums_work_like_any_other(repo: Repo) -> None:
    for role in ("root", "timestamp", "line"):
        repo.keys[role] = [ecdsa_key(f"{role}-{n}") for n in (1, 2, 3)]
    repo.publish("root", "targets", "line", "snapshot", "timestamp")
    trust = take(take(provisioned_first(repo), repo.files, "root"), repo.files)
    assert current(trust, "pump", NOW).line.version == 2
