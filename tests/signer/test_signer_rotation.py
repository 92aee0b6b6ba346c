"""Keys come and go: what a new root may change, what a revoked key stops, and how product lines change hands."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Root, Targets

from hillhold_signer import (
    Ceremony,
    Expiry,
    NamedKey,
    OnlineKey,
    OnlineSigners,
    Repository,
    Team,
    example_signer,
    verify_tree,
)
from hillhold_signer.difference import difference, label
from hillhold_signer.encoding import copied
from hillhold_signer.errors import (
    CeremonyRefused,
    MergeRefused,
    ProductRefused,
    QuorumRefused,
    RepositoryRefused,
    RotationRefused,
    SigningRefused,
)
from hillhold_signer.lines import add_product, retire_product, set_caps, set_team, team_of
from hillhold_signer.revocation import MAX_REASON, read_revoked
from hillhold_signer.roots import renew, revoke, rotate
from hillhold_signer.rotation import check_roots
from hillhold_signer.status import status
from hillhold_signer.storage import write_file
from hillhold_verifier.metadata import parse_snapshot
from workshop import HARDWARE, NOW, ceremony, image, online, pump, release, sign_all, started, team, tree

Pair = tuple[CryptoSigner, CryptoSigner]


def pair() -> Pair:
    return CryptoSigner.generate_ed25519(), CryptoSigner.generate_ed25519()


def with_online(base: Ceremony, new: Pair) -> Ceremony:
    first, second = new
    return replace(
        base,
        snapshot=OnlineKey(first.public_key, "file:new-snapshot.pem"),
        timestamp=OnlineKey(second.public_key, "file:new-timestamp.pem"),
    )


def publish(repository: Repository, new: Pair | None = None, now: int = NOW) -> dict[str, int]:
    signers = OnlineSigners(*new) if new else online()
    return dict(repository.publish(signers, now).roles)


# --- succession -------------------------------------------------------------------------------------------------------


def first_root() -> Root:
    return ceremony().root_after(None, NOW, demo=True)


def altered(root: Root, **roles: tuple[list[CryptoSigner], int]) -> Root:
    new = copied(root)
    new.version += 1
    for name, (signers, threshold) in roles.items():
        new.roles[name].keyids = sorted(signer.public_key.keyid for signer in signers)
        new.roles[name].threshold = threshold
        new.keys.update({signer.public_key.keyid: signer.public_key for signer in signers})
    return new


OLD_S, OLD_T = example_signer("snapshot"), example_signer("timestamp")
NEW_S, NEW_T = pair()


def test_a_root_that_leaves_the_online_keys_alone_or_replaces_both_is_taken() -> None:
    check_roots([], first_root())
    check_roots([first_root()], altered(first_root()))
    check_roots([first_root()], altered(first_root(), snapshot=([NEW_S], 1), timestamp=([NEW_T], 1)))
    check_roots([first_root()], altered(first_root(), snapshot=([NEW_S], 1), timestamp=([NEW_S], 1)))
    check_roots([first_root()], altered(first_root(), timestamp=([OLD_T, NEW_T], 1)))  # a second replica


@pytest.mark.parametrize(
    ("roles", "says"),
    [
        ({"timestamp": ([NEW_T], 1)}, "keys of timestamp and snapshot"),
        ({"snapshot": ([NEW_S], 1)}, "keys of snapshot and timestamp"),
        ({"snapshot": ([OLD_T], 1), "timestamp": ([NEW_T], 1)}, "an earlier root named"),
        ({"snapshot": ([NEW_S], 1), "timestamp": ([example_signer("root-1")], 1)}, "an earlier root named"),
        ({"snapshot": ([NEW_S], 1), "timestamp": ([OLD_T, NEW_T], 2)}, "its threshold rises"),
    ],
)
def test_a_root_under_which_old_files_would_come_back_to_life(
    roles: dict[str, tuple[list[CryptoSigner], int]], says: str
) -> None:
    with pytest.raises(RotationRefused, match=says):
        check_roots([first_root()], altered(first_root(), **roles))


def test_when_one_key_of_an_online_role_goes_all_of_them_go() -> None:
    two = altered(first_root(), timestamp=([OLD_T, NEW_T], 1))
    with pytest.raises(RotationRefused, match="one of them goes"):
        check_roots([first_root(), two], altered(two, timestamp=([NEW_T], 1), snapshot=([NEW_S], 1)))


def test_an_online_key_that_was_replaced_never_comes_back() -> None:
    second = altered(first_root(), snapshot=([NEW_S], 1), timestamp=([NEW_T], 1))
    with pytest.raises(RotationRefused, match="an earlier root named"):
        check_roots([first_root(), second], altered(second, snapshot=([OLD_S], 1), timestamp=([OLD_T], 1)))


# --- rotation ---------------------------------------------------------------------------------------------------------


def test_a_rotation_needs_the_old_quorum_and_the_new_one(tmp_path: Path) -> None:
    repository, new, joins = started(tmp_path / "repo"), pair(), CryptoSigner.generate_ed25519()
    people = Team((*team("root-1", threshold=1).keys, NamedKey("Joan", joins.public_key)), 2)
    done = rotate(repository, replace(with_online(ceremony(), new), root=people), NOW)
    assert (done.new.version, done.reissued, dict(done.revoked)) == (2, (), {})
    repository.sign(joins)
    repository.sign(example_signer("root-1"))
    with pytest.raises(QuorumRefused, match="root has old root 1 of 2, new root 2 of 2"):
        publish(repository, new)
    repository.sign(example_signer("root-2"))
    assert publish(repository, new) == {"root": 2}
    seen = verify_tree(repository.folder.path, NOW, (repository.folder.metadata("1.root.json")).read_bytes())
    assert dict(seen.versions) == {"root": 2, "timestamp": 2, "snapshot": 2, "targets": 1, "pump": 1}
    assert repository.refresh(OnlineSigners(*new), NOW).roles == {"timestamp": 3}
    assert repository.config().online[new[0].public_key.keyid] == "file:new-snapshot.pem"


def test_a_new_targets_team_signs_targets_again(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    joins = CryptoSigner.generate_ed25519()
    people = Team((*team("targets-3", threshold=1).keys, NamedKey("Joan", joins.public_key)), 2)
    done = rotate(repository, replace(ceremony(), targets=people), NOW)
    assert done.reissued == ("targets",)
    sign_all(repository, "root-1", "root-2", "targets-3")
    repository.sign(joins)
    assert publish(repository) == {"root": 2, "targets": 2}
    verify_tree(repository.folder.path, NOW)


def test_a_dry_run_and_a_refused_rotation_write_nothing(tmp_path: Path) -> None:
    repository, new = started(tmp_path / "repo"), pair()
    before = tree(repository.folder.path)
    assert rotate(repository, with_online(ceremony(), new), NOW, dry_run=True).new.version == 2
    half = replace(with_online(ceremony(), new), snapshot=ceremony().snapshot)
    with pytest.raises(RotationRefused):
        rotate(repository, half, NOW)
    with pytest.raises(CeremonyRefused):
        rotate(repository, replace(ceremony(), root=team("root-1", threshold=2)), NOW)
    assert tree(repository.folder.path) == before


@pytest.mark.parametrize("role", ["root", "targets"])
def test_while_drafts_clash_a_rotation_changes_nothing_not_the_settings_either(tmp_path: Path, role: str) -> None:
    repository = started(tmp_path / "repo")
    shutil.copytree(tmp_path / "repo", tmp_path / "copy")
    for which, here in enumerate((repository, Repository(tmp_path / "copy"))):
        if role == "root":
            rotate(here, replace(ceremony(), root=team("root-1", "root-2", "root-3", threshold=1 + 2 * which)), NOW)
        else:
            set_caps(here, "pump", NOW, max_security_counter=50 + which)
    shutil.copytree(tmp_path / "copy" / "drafts", repository.folder.drafts, dirs_exist_ok=True)
    assert set(repository.state().clashes) == {role}
    before, joins = tree(repository.folder.path), CryptoSigner.generate_ed25519()
    wanted = replace(with_online(ceremony(), pair()), targets=Team((NamedKey("Joan", joins.public_key),), 1))
    with pytest.raises(MergeRefused):
        rotate(repository, wanted, NOW)
    assert tree(repository.folder.path) == before


def test_nothing_is_rotated_before_anything_is_published(tmp_path: Path) -> None:
    repository = Repository.create(tmp_path / "repo", ceremony(), NOW, demo=True)
    with pytest.raises(RepositoryRefused, match="none yet"):
        rotate(repository, ceremony(), NOW)


def test_a_root_that_breaks_the_rules_is_not_published_whoever_drafted_it(tmp_path: Path) -> None:
    repository, new = started(tmp_path / "repo"), pair()
    with repository.edit(NOW) as edit:
        edit.save("root", altered(edit.state.root(), timestamp=([new[1]], 1)))
    sign_all(repository, "root-1", "root-2")
    before = tree(repository.folder.public)
    with pytest.raises(RotationRefused, match="keys of timestamp and snapshot"):
        repository.publish(OnlineSigners(example_signer("snapshot"), new[1]), NOW)
    assert tree(repository.folder.public) == before


def test_roles_are_renewed_as_they_are(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    release(repository, image("1.0.0"))
    later = NOW + 20 * 7 * 86400
    assert renew(repository, ["root", "targets", "pump"], later) == {"root": 2, "targets": 2, "pump": 3}
    state = repository.state()
    for role in ("targets", "pump"):
        old, new = state.published(role), state.drafts[role].signed
        assert isinstance(old, Targets)
        shown = [str(change) for change in difference(role, old, new, label({}))]
        assert [line[:9] for line in shown[1:]] == ["~ expires"]
    sign_all(repository, "root-1", "root-2", "targets-1", "targets-2", "release-1", "release-2")
    publish(repository, now=later)
    verify_tree(repository.folder.path, later)
    with pytest.raises(ProductRefused):
        renew(repository, ["pump", "drill"], later)
    assert not repository.state().drafts


# --- revoked keys -----------------------------------------------------------------------------------------------------


def test_while_a_revoked_key_is_trusted_nothing_is_published(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    renew(repository, ["pump"], NOW)
    sign_all(repository, "release-1", "release-2")
    assert revoke(repository, "release-2", "laptop stolen", NOW) == {
        example_signer("release-2").public_key.keyid: ["pump"]
    }
    assert status(
        repository.state(), repository.people(), NOW, Expiry(), read_revoked(repository.layout), demo=True
    ).late
    before = tree(repository.folder.public)
    with pytest.raises(SigningRefused, match="laptop stolen"):
        sign_all(repository, "release-2")
    with pytest.raises(RotationRefused, match="release-2 in pump"):
        publish(repository)
    assert tree(repository.folder.public) == before
    assert repository.refresh(online(), NOW).roles  # devices stay current meanwhile


def test_what_takes_a_stolen_line_key_away_replaces_the_online_keys(tmp_path: Path) -> None:
    repository, new, joins = started(tmp_path / "repo"), pair(), CryptoSigner.generate_ed25519()
    revoke(repository, "release-2", "laptop stolen", NOW)
    left = Team((*team("release-1", threshold=1).keys, NamedKey("Joan", joins.public_key)), 2)
    assert set_team(repository, "pump", left, NOW)
    sign_all(repository, "targets-1", "targets-2", "release-1")
    repository.sign(joins)
    with pytest.raises(RotationRefused, match="new keys of snapshot and timestamp with it"):
        publish(repository)
    rotate(repository, with_online(ceremony(), new), NOW)
    sign_all(repository, "root-1", "root-2")
    with pytest.raises(RotationRefused):  # nor one without the other
        repository.publish(online(), NOW, ("targets", "pump"))
    assert publish(repository, new) == {"root": 2, "targets": 2, "pump": 2}
    verify_tree(repository.folder.path, NOW)
    release_again = renew(repository, ["pump"], NOW)
    assert release_again == {"pump": 3}
    repository.sign(joins)
    sign_all(repository, "release-1")
    assert publish(repository, new) == {"pump": 3}


def test_a_revoked_key_joins_no_team_again(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    revoke(repository, "root-3", "lost in a taxi", NOW)
    with pytest.raises(RotationRefused, match="lost in a taxi"):
        rotate(repository, with_online(ceremony(), pair()), NOW)
    with pytest.raises(RotationRefused, match="lost in a taxi"):
        set_team(repository, "pump", team("release-1", "root-3", threshold=1), NOW)
    with pytest.raises(RotationRefused, match="lost in a taxi"):
        add_product(repository, replace(pump(), name="valve", team=team("release-1", "root-3", threshold=1)), NOW)
    assert not repository.state().drafts


@pytest.mark.parametrize("who", ["snapshot", "timestamp"])
def test_an_online_key_is_revoked_by_its_role(tmp_path: Path, who: str) -> None:
    repository, new = started(tmp_path / "repo"), pair()
    revoke(repository, who, "server broken into", NOW)
    rotate(repository, with_online(ceremony(), new), NOW)
    sign_all(repository, "root-1", "root-2")
    assert publish(repository, new) == {"root": 2}


def test_the_key_that_takes_a_stolen_ones_place_is_not_revoked_with_it(tmp_path: Path) -> None:
    repository, new = started(tmp_path / "repo"), pair()
    rotate(repository, with_online(ceremony(), new), NOW)
    old = [example_signer(role).public_key.keyid for role in ("snapshot", "timestamp")]
    assert list(revoke(repository, "snapshot", "server broken into", NOW)) == old[:1]
    assert list(revoke(repository, "timestamp", "server broken into", NOW)) == old[1:]
    drafted = new[0].public_key.keyid
    assert revoke(repository, drafted[:12], "made on the same server", NOW) == {drafted: ["snapshot"]}
    for start in ("", "0123456789"):
        with pytest.raises(RotationRefused):
            revoke(repository, start, "nobody", NOW)


@pytest.mark.parametrize(
    ("who", "reason", "says"),
    [
        ("Nobody", "gone", "that of release-1, release-2, root-1"),
        ("", "gone", "that of release-1"),
        ("root-1", "", "1 to"),
        ("root-1", "x" * (MAX_REASON + 1), "1 to"),
        ("root-1", "gone\x1b[2J", "control"),
    ],
)
def test_revocations_that_are_refused(tmp_path: Path, who: str, reason: str, says: str) -> None:
    repository = started(tmp_path / "repo")
    with pytest.raises(Exception, match=says):
        revoke(repository, who, reason, NOW)
    assert not read_revoked(repository.layout)


def test_a_damaged_note_of_a_revoked_key_stops_everything(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    renew(repository, ["pump"], NOW)
    sign_all(repository, "release-1", "release-2")
    revoke(repository, "root-3", "lost", NOW)
    write_file(repository.folder.revoked / example_signer("root-3").public_key.keyid, b"{}")
    with pytest.raises(RepositoryRefused, match="a reason and a time"):
        publish(repository)


# --- product lines ----------------------------------------------------------------------------------------------------


def test_a_line_changes_hands_and_its_releases_stay(tmp_path: Path) -> None:
    repository, theirs = started(tmp_path / "repo"), pair()
    release(repository, image("1.0.0"))
    other = Team((NamedKey("Joan", theirs[0].public_key), NamedKey("Alan", theirs[1].public_key)), 2)
    assert set_team(repository, "pump", other, NOW)
    sign_all(repository, "targets-1", "targets-2")
    for signer in theirs:
        repository.sign(signer)
    assert publish(repository) == {"targets": 2, "pump": 3}
    assert list(verify_tree(repository.folder.path, NOW).targets) == ["pump/1.0.0/app.bin"]
    assert {item.name for item in team_of(repository, "pump").keys} == {"Joan", "Alan"}


def test_someone_who_joins_does_not_make_the_line_sign_again(tmp_path: Path) -> None:
    repository, joins = started(tmp_path / "repo"), CryptoSigner.generate_ed25519()
    more = Team((*pump().team.keys, NamedKey("Joan", joins.public_key)), 2)
    assert not set_team(repository, "pump", more, NOW)
    sign_all(repository, "targets-1", "targets-2")
    assert publish(repository) == {"targets": 2}
    verify_tree(repository.folder.path, NOW)


def test_a_retired_line_leaves_a_tombstone_until_the_online_keys_are_replaced(tmp_path: Path) -> None:
    repository, new = started(tmp_path / "repo"), pair()
    release(repository, image("1.0.0"))
    retire_product(repository, "pump", NOW)
    sign_all(repository, "targets-1", "targets-2")
    assert publish(repository) == {"targets": 2}
    assert listed(repository) == {"targets", "pump"}
    assert set(verify_tree(repository.folder.path, NOW).versions) == {"root", "timestamp", "snapshot", "targets"}
    with pytest.raises(ProductRefused, match="one that was published"):
        add_product(repository, pump(), NOW)
    rotate(repository, with_online(ceremony(), new), NOW)
    sign_all(repository, "root-1", "root-2")
    publish(repository, new)
    assert listed(repository) == {"targets"}
    verify_tree(repository.folder.path, NOW)


def listed(repository: Repository) -> set[str]:
    chain = repository.state().chain
    assert chain is not None
    return set(parse_snapshot(chain.raw["snapshot"]).signed.meta)


def test_a_line_that_is_being_signed_can_be_retired(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    renew(repository, ["pump"], NOW)
    retire_product(repository, "pump", NOW)
    assert set(repository.state().drafts) == {"targets"}


def test_caps_change_but_not_below_what_is_listed(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    release(repository, image("1.0.0", counter=7))
    assert set_caps(repository, "pump", NOW, max_security_counter=8).max_security_counter == 8
    before = tree(repository.folder.path)
    with pytest.raises(ProductRefused, match="at most 6, got 7"):
        set_caps(repository, "pump", NOW, max_security_counter=6)
    with pytest.raises(ProductRefused, match=f"for {HARDWARE[1]}"):
        set_caps(repository, "pump", NOW, hardware=lambda known: known[1:])
    with pytest.raises(ProductRefused):
        set_caps(repository, "pump", NOW, hardware=lambda known: ())
    with pytest.raises(ProductRefused):
        set_caps(repository, "drill", NOW, max_security_counter=8)
    assert tree(repository.folder.path) == before


@pytest.mark.parametrize("change", [{"threshold": 3}, {"threshold": 0}, {"keys": ()}])
def test_teams_that_make_no_sense(tmp_path: Path, change: dict[str, object]) -> None:
    repository = started(tmp_path / "repo")
    with pytest.raises(CeremonyRefused):
        set_team(repository, "pump", replace(pump().team, **change), NOW)  # type: ignore[arg-type]
    with pytest.raises(ProductRefused):
        set_team(repository, "drill", pump().team, NOW)
    assert not repository.state().drafts
