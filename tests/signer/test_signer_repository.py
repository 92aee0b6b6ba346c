"""The library's whole way: init, product, add, sign, publish, refresh; and what each step refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.signer import CryptoSigner

from hillhold_signer import (
    Caps,
    NamedKey,
    OnlineSigners,
    Product,
    Repository,
    Team,
    Wish,
    add_product,
    add_release,
    example_signer,
    verify_tree,
)
from hillhold_signer.errors import (
    CeremonyRefused,
    LockedError,
    ProductRefused,
    PublicKeyMaterialRefused,
    QuorumRefused,
    RepositoryRefused,
    SigningRefused,
)
from hillhold_signer.lines import set_caps
from hillhold_signer.patching import DEFAULT
from hillhold_signer.publish import SKEW
from hillhold_signer.storage import locked
from hillhold_verifier import canonical, metadata, trust
from hillhold_verifier.times import show_time
from workshop import HARDWARE, NOW, ceremony, image, online, pump, release, sign_all, started, team, tree

DAY = 86_400


def device_view(repository: Repository, product: str, now: int) -> trust.Current:
    """What Hillhold's own verifier makes of the published files."""
    folder = repository.folder.public / "metadata"
    held = trust.Trust(metadata.parse_root((folder / "1.root.json").read_bytes()))
    held = trust.update_timestamp(held, (folder / "timestamp.json").read_bytes(), now)
    while gap := trust.missing(held, product):
        role, listing = gap
        data = (folder / f"{listing.version}.{role}.json").read_bytes()
        if role == "snapshot":
            held = trust.update_snapshot(held, data, now)
        elif role == "targets":
            held = trust.update_targets(held, data, now)
        else:
            held = trust.update_line(held, role, data, now)
    return trust.current(held, product, now)


def test_a_release_reaches_the_published_tree_and_both_verifiers_accept_it(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    first, second = image("1.0.0"), image("1.1.0", edits=20)
    release(repository, first)
    release(repository, second, patch_from=DEFAULT)
    seen = verify_tree(repository.folder.path, NOW)
    digest = sha256(first).hexdigest()
    patch = f"pump/1.1.0/app.bin.{digest[:16]}.patch"
    assert set(seen.targets) == {"pump/1.0.0/app.bin", "pump/1.1.0/app.bin", patch}
    assert seen.versions == {"root": 1, "targets": 1, "pump": 3, "snapshot": 3, "timestamp": 3}
    current = device_view(repository, "pump", NOW)
    assert set(current.line.targets) == set(seen.targets)
    assert current.delegation.hardware == frozenset(HARDWARE)
    custom = current.line.targets[patch].custom
    assert isinstance(custom, dict)
    assert custom["base"] == digest
    assert custom["makes"] == "pump/1.1.0/app.bin"
    assert seen.targets[patch][0] < len(second) // 2


def test_the_published_layout_is_that_of_the_format_page(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    data = image("1.0.0")
    release(repository, data)
    digest = sha256(data).hexdigest()
    assert set(tree(repository.folder.public)) == {
        *("metadata/1.root.json", "metadata/timestamp.json", "metadata/1.targets.json"),
        *("metadata/1.snapshot.json", "metadata/2.snapshot.json", "metadata/1.pump.json", "metadata/2.pump.json"),
        f"targets/pump/1.0.0/{digest}.app.bin",
    }
    for name, raw in tree(repository.folder.public / "metadata").items():
        value = json.loads(raw)
        assert raw == canonical.dumps(value), name
        keyids = [item["keyid"] for item in value["signatures"]]
        assert keyids == sorted(keyids)
    stamp = json.loads((repository.folder.public / "metadata/timestamp.json").read_bytes())["signed"]
    assert stamp["x-hillhold-issued"] == "2026-01-01T00:00:00Z"
    assert set(stamp["meta"]["snapshot.json"]) == {"hashes", "version"}
    assert not repository.state().drafts


def test_nothing_is_published_without_the_quorum_and_the_error_names_who_is_missing(tmp_path: Path) -> None:
    repository = Repository.create(tmp_path / "repo", ceremony(), NOW, demo=True)
    sign_all(repository, "root-1", "targets-1", "targets-2")
    with pytest.raises(QuorumRefused, match="root has 1 of 2, can be signed by root-2, root-3") as refused:
        repository.publish(online(), NOW)
    assert "targets" not in str(refused.value)
    assert not repository.folder.public.exists()


def test_a_second_signature_by_the_same_key_changes_nothing(tmp_path: Path) -> None:
    repository = Repository.create(tmp_path / "repo", ceremony(), NOW, demo=True)
    repository.sign(example_signer("root-1"))
    before = tree(tmp_path)
    (again,) = repository.sign(example_signer("root-1"))
    assert again.repeated
    assert str(again.quorum) == "1 of 2"
    assert tree(tmp_path) == before


def test_a_key_that_no_draft_wants_is_refused(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    before = tree(tmp_path)
    with pytest.raises(SigningRefused, match="nothing is drafted"):
        repository.sign(example_signer("intruder"))
    add_release(repository, "pump", image("1.0.0"), Wish("app.bin", hardware=HARDWARE), NOW)
    with pytest.raises(SigningRefused, match=r"a key that a draft wants \(pump: release-1, release-2\)"):
        repository.sign(example_signer("targets-1"), role="pump")
    with pytest.raises(SigningRefused):
        repository.sign(example_signer("release-1"), role="root")
    assert tree(tmp_path / "repo/public") == {k[12:]: v for k, v in before.items() if k.startswith("repo/public/")}


def test_a_signature_is_for_what_was_shown(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    add_release(repository, "pump", image("1.0.0"), Wish("app.bin", hardware=HARDWARE), NOW)
    signer = example_signer("release-1")
    shown = {draft.role: draft.digest for draft in repository.wanted(signer.public_key)}
    add_release(repository, "pump", image("1.1.0", seed=2), Wish("app.bin", hardware=HARDWARE), NOW)
    with pytest.raises(SigningRefused, match="what was shown"):
        repository.sign(signer, shown=shown)
    assert not repository.state().drafts["pump"].signatures


def test_changing_a_draft_starts_its_signatures_over(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    add_release(repository, "pump", image("1.0.0"), Wish("app.bin", hardware=HARDWARE), NOW)
    sign_all(repository, "release-1", "release-2")
    add_release(repository, "pump", image("1.1.0", seed=2), Wish("app.bin", hardware=HARDWARE), NOW)
    assert not repository.state().drafts["pump"].signatures
    with pytest.raises(QuorumRefused):
        repository.publish(online(), NOW)


def test_a_signature_over_other_bytes_or_by_a_stranger_counts_for_nothing(tmp_path: Path) -> None:
    repository = Repository.create(tmp_path / "repo", ceremony(), NOW, demo=True)
    repository.sign(example_signer("root-1"))
    folder = repository.folder.drafts / "root"
    (file,) = folder.glob("*.sig")
    good = json.loads(file.read_bytes())

    def put(value: dict[str, object]) -> Path:
        data = canonical.dumps(value)
        path = folder / f"{sha256(data).hexdigest()}.sig"
        path.write_bytes(data)
        return path

    stranger = example_signer("intruder")
    payload = repository.state().drafts["root"].payload
    forged = {**good, "keyid": stranger.public_key.keyid, "sig": stranger.sign(payload).signature}
    put(forged)
    put({**good, "keyid": example_signer("root-2").public_key.keyid, "sig": forged["sig"]})
    put({**good, "sig": forged["sig"]})  # one that does not verify does not hide the one that does
    put({**good, "sha256": "0" * 64})
    put({**good, "role": "targets"})
    (folder / "copy of a file.sig").write_bytes(file.read_bytes())
    assert str(repository.state().quorum("root")) == "1 of 2"
    assert repository.state().drafts["root"].strange == 6
    renamed = folder / f"{'0' * 64}.sig"
    file.rename(renamed)
    assert str(repository.state().quorum("root")) == "0 of 2"
    assert repository.state().drafts["root"].strange == 7
    renamed.unlink()
    file.write_bytes(canonical.dumps(good)[:-20])
    assert str(repository.state().quorum("root")) == "0 of 2"
    repository.sign(example_signer("root-1"))
    assert str(repository.state().quorum("root")) == "1 of 2"


def test_a_line_that_waits_does_not_hold_up_another_that_is_named(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    valve = Product("valve", team("release-1", threshold=1), Caps(("stm32",)))
    add_product(repository, valve, NOW)
    add_release(repository, "pump", image("1.0.0"), Wish("app.bin", hardware=HARDWARE), NOW)
    repository.sign(example_signer("release-1"), role="pump")
    repository.sign(example_signer("release-2"), role="pump")
    with pytest.raises(QuorumRefused, match="targets has 0 of 2"):
        repository.publish(online(), NOW)
    done = repository.publish(online(), NOW, roles=("pump",))
    assert dict(done.roles) == {"pump": 2}
    assert set(repository.state().drafts) == {"targets", "valve"}
    sign_all(repository, "targets-1", "targets-2", "release-1")
    assert set(repository.publish(online(), NOW).roles) == {"targets", "valve"}
    assert set(verify_tree(repository.folder.path, NOW).versions) >= {"pump", "valve"}


def test_publishing_twice_publishes_nothing_more(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    before = tree(repository.folder.public)
    assert repository.publish(online(), NOW + 5).roles == {}
    assert tree(repository.folder.public) == before


def test_refresh_renews_the_timestamp_and_later_the_snapshot(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    assert dict(repository.refresh(online(), NOW + DAY).roles) == {"timestamp": 2}
    late = NOW + 8 * DAY
    assert dict(repository.refresh(online(), late).roles) == {"snapshot": 2, "timestamp": 3}
    assert verify_tree(repository.folder.path, late).versions["snapshot"] == 2
    assert device_view(repository, "pump", late).grace_used == 0


def test_refresh_works_after_the_timestamp_has_expired(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    late = NOW + 30 * DAY
    repository.refresh(online(), late)
    assert verify_tree(repository.folder.path, late).versions["timestamp"] == 2


def test_a_clock_that_was_set_back_signs_no_timestamp(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    before = tree(tmp_path)
    with pytest.raises(SigningRefused, match="clock"):
        repository.refresh(online(), NOW - SKEW - 1)
    assert tree(tmp_path) == before


def test_a_clock_that_is_a_little_behind_dates_nothing_back(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    repository.refresh(online(), NOW - SKEW)
    chain = repository.state().chain
    assert chain is not None
    assert (chain.timestamp.version, chain.timestamp.unrecognized_fields["x-hillhold-issued"]) == (2, show_time(NOW))


def test_an_online_key_that_root_does_not_name_publishes_nothing(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    before = tree(tmp_path)
    wrong = OnlineSigners(example_signer("snapshot"), example_signer("intruder"))
    with pytest.raises(SigningRefused, match="key for timestamp"):
        repository.refresh(wrong, NOW)
    assert tree(tmp_path) == before


def test_a_draft_that_expired_while_it_waited_is_not_published(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    add_release(repository, "pump", image("1.0.0"), Wish("app.bin", hardware=HARDWARE), NOW)
    sign_all(repository, "release-1", "release-2")
    with pytest.raises(RepositoryRefused, match="has not expired"):
        repository.publish(online(), NOW + 27 * 7 * DAY)


def test_a_missing_or_changed_staged_file_stops_the_publication(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    data = image("1.0.0")
    add_release(repository, "pump", data, Wish("app.bin", hardware=HARDWARE), NOW)
    sign_all(repository, "release-1", "release-2")
    staged = repository.folder.staged / sha256(data).hexdigest()
    before = tree(repository.folder.public)
    staged.write_bytes(data[:-1] + b"\0")
    with pytest.raises(RepositoryRefused, match="other bytes"):
        repository.publish(online(), NOW)
    staged.unlink()
    with pytest.raises(RepositoryRefused, match="got none"):
        repository.publish(online(), NOW)
    assert tree(repository.folder.public) == before


def test_published_files_that_something_else_changed_are_noticed_before_anything_is_signed(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    file = repository.folder.metadata("1.pump.json")
    file.write_bytes(file.read_bytes().replace(b'"version":1', b'"version":7'))
    with pytest.raises(RepositoryRefused, match="does not verify"):
        repository.refresh(online(), NOW)


def test_p256_keys_sign_every_role_and_stand_as_pem_in_the_metadata(tmp_path: Path) -> None:
    signers = [CryptoSigner(ec.generate_private_key(ec.SECP256R1())) for _ in range(4)]
    keys = [NamedKey(f"p{i}", signer.public_key) for i, signer in enumerate(signers)]
    base = ceremony()
    both = replace(
        base,
        root=Team((keys[0],), 1),
        targets=Team((keys[1],), 1),
        snapshot=replace(base.snapshot, key=keys[2].key),
        timestamp=replace(base.timestamp, key=keys[2].key),
    )
    repository = Repository.create(tmp_path / "repo", both, NOW)
    add_product(repository, Product("pump", Team((keys[3],), 1), Caps(("stm32",))), NOW)
    for signer in (signers[0], signers[1], signers[3]):
        repository.sign(signer)
    repository.publish(OnlineSigners(signers[2], signers[2]), NOW)
    raw = repository.folder.metadata("1.root.json").read_bytes()
    assert rb"-----BEGIN PUBLIC KEY-----\n" in raw
    assert b"\n" not in raw
    assert device_view(repository, "pump", NOW).delegation.name == "pump"


def test_example_keys_are_refused_outside_a_demo(tmp_path: Path) -> None:
    with pytest.raises(PublicKeyMaterialRefused, match="example key 'root-1'"):
        Repository.create(tmp_path / "repo", ceremony(), NOW)
    assert not (tmp_path / "repo").exists()


def test_a_demo_says_so_in_its_root_and_cannot_be_made_one_afterwards(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    root = json.loads(repository.folder.metadata("1.root.json").read_bytes())["signed"]
    assert root["x-hillhold-demo"] is True
    add_release(repository, "pump", image("1.0.0"), Wish("app.bin", hardware=HARDWARE), NOW)
    config = repository.folder.config
    config.write_text(config.read_text().replace("demo = true", "demo = false"))
    with pytest.raises(PublicKeyMaterialRefused):
        repository.sign(example_signer("release-1"))
    assert not repository.state().drafts["pump"].signatures


def test_two_processes_cannot_write_at_once(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    before = tree(tmp_path)
    second = locked(repository.folder.lock, tries=2)
    with locked(repository.folder.lock), pytest.raises(LockedError, match="in use by another process"), second:
        pass
    assert tree(tmp_path) == before
    repository.refresh(online(), NOW)


@pytest.mark.parametrize("name", ["root", "targets", "snapshot", "timestamp", "Pump", "a/b", "", "..", "x" * 81, "é"])
def test_product_names_that_would_not_be_file_names_or_roles_of_their_own(tmp_path: Path, name: str) -> None:
    repository = Repository.create(tmp_path / "repo", ceremony(), NOW, demo=True)
    with pytest.raises(ProductRefused):
        add_product(repository, replace(pump(), name=name), NOW)
    assert set(repository.state().drafts) == {"root", "targets"}


def test_product_lines_that_make_no_sense(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    before = tree(tmp_path)
    with pytest.raises(ProductRefused, match="a new name"):
        add_product(repository, pump(), NOW)
    with pytest.raises(ProductRefused, match="hardware"):
        add_product(repository, Product("valve", team("release-1", threshold=1), Caps(())), NOW)
    with pytest.raises(ProductRefused, match="security counter"):
        add_product(repository, Product("valve", team("release-1", threshold=1), Caps(("a",), 2**32)), NOW)
    with pytest.raises(CeremonyRefused, match="threshold"):
        add_product(repository, Product("valve", team("release-1", threshold=2), Caps(("a",))), NOW)
    with pytest.raises(CeremonyRefused, match="each key once"):
        add_product(repository, Product("valve", team("release-1", "release-1", threshold=2), Caps(("a",))), NOW)
    assert tree(tmp_path) == before


def test_more_hardware_needs_the_targets_quorum_and_then_counts(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    set_caps(repository, "pump", NOW, hardware=lambda known: [*known, "nrf54-c"])
    sign_all(repository, "targets-1", "targets-3")
    repository.publish(online(), NOW)
    assert "nrf54-c" in device_view(repository, "pump", NOW).delegation.hardware
    release(repository, image("1.0.0"), wish=Wish("app.bin", hardware=("nrf54-c",)))
    assert device_view(repository, "pump", NOW).line.version == 2


def test_a_repository_is_not_made_over_another(tmp_path: Path) -> None:
    started(tmp_path / "repo")
    before = tree(tmp_path)
    with pytest.raises(RepositoryRefused, match="one that exists"):
        Repository.create(tmp_path / "repo", ceremony(), NOW, demo=True)
    assert tree(tmp_path) == before
    with pytest.raises(RepositoryRefused, match=r"no hillhold\.toml"):
        Repository(tmp_path)


def test_two_copies_in_which_two_people_sign_merge_by_copying_files(tmp_path: Path) -> None:
    one = Repository.create(tmp_path / "one", ceremony(), NOW, demo=True)
    two = tmp_path / "two"
    for name, data in tree(tmp_path / "one").items():
        (two / name).parent.mkdir(parents=True, exist_ok=True)
        (two / name).write_bytes(data)
    one.sign(example_signer("root-1"))
    Repository(two).sign(example_signer("root-2"))
    for name, data in tree(two).items():
        (tmp_path / "one" / name).write_bytes(data)
    assert one.state().quorum("root").complete
