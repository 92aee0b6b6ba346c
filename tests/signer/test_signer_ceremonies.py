"""The commands around keys and devices: root, renew, revoke, the transcript, what is left after a loss, provisioning, options."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

import pytest

from command import hillhold, pub, uri
from hillhold_signer import Caps, Product, Repository, Wish, add_product, add_release, example_signer, verify_tree
from hillhold_signer.adopting import adopt
from hillhold_signer.bundle import write_bundle
from hillhold_signer.errors import ProductRefused, RepositoryRefused, StorageError, VerifyRefused
from hillhold_signer.lines import set_grace
from hillhold_signer.provisioning import write_provisioning
from hillhold_verifier.release import Version
from workshop import HARDWARE, NOW, ceremony, image, online, release, sign_all, started, team, tree

CEREMONY = """
[root]
threshold = 2
keys = [{keys}]
[targets]
threshold = 2
keys = [{targets}]
[snapshot]
key = {{ file = "{snapshot}", uri = "{snapshot_uri}" }}
[timestamp]
key = {{ file = "{timestamp}", uri = "{timestamp_uri}" }}
"""


def config(folder: Path, people: tuple[str, ...] = ("root-1", "root-2", "root-3"), new: str = "") -> Path:
    """A ceremony file with the example keys; `new` names two key files that are made, for the online roles."""
    online_keys = {"snapshot": (pub("snapshot"), uri("snapshot")), "timestamp": (pub("timestamp"), uri("timestamp"))}
    for role in online_keys if new else ():
        path = folder / f"{role}-{new}"
        assert hillhold("key", "new", path, "--no-passphrase").exit_code == 0
        online_keys[role] = (f"{path}.pub", f"file:{path}.pem")
    text = CEREMONY.format(
        keys=", ".join(f'{{ name = "{name}", file = "{pub(name)}" }}' for name in people),
        targets=", ".join(
            f'{{ name = "{name}", file = "{pub(name)}" }}' for name in ("targets-1", "targets-2", "targets-3")
        ),
        snapshot=online_keys["snapshot"][0],
        snapshot_uri=online_keys["snapshot"][1],
        timestamp=online_keys["timestamp"][0],
        timestamp_uri=online_keys["timestamp"][1],
    )
    path = folder / "ceremony.toml"
    path.write_text(text)
    return path


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    found = started(tmp_path / "repo")
    release(found, image("1.0.0"))
    with found.edit(NOW) as edit:
        keys = {example_signer(role).public_key.keyid: uri(role) for role in ("snapshot", "timestamp")}
        edit.configure(replace(edit.config, online=keys))
    return found


# --- root -------------------------------------------------------------------------------------------------------------


def test_a_ceremony_is_tried_before_it_is_held(tmp_path: Path) -> None:
    said = hillhold("init", tmp_path / "new", "--config", config(tmp_path), "--demo", "--dry-run")
    assert said.exit_code == 0
    assert "+ root threshold: 2 of 3\n+ root key root-1" in said.output
    assert "dry run: nothing was written" in said.output
    assert not (tmp_path / "new").exists()
    assert hillhold("init", tmp_path / "new", "--config", config(tmp_path), "--dry-run").exit_code == 1  # example keys


def test_root_is_shown_with_the_people_behind_its_keys(repository: Repository) -> None:
    said = hillhold("root", "show", repository.folder.path)
    assert "root version 1, until 2026-12-31T00:00:00Z\nroot: 2 of 3\n  root-1 " in said.output
    found = json.loads(hillhold("root", "show", repository.folder.path, "--json").output)
    assert found["roles"]["timestamp"]["keys"][0]["name"] == "online"
    assert hillhold("root", "show", repository.folder.path, "--version", "1").exit_code == 0
    assert (
        "expected a version up to 1, got 2" in hillhold("root", "show", repository.folder.path, "--version", "2").stderr
    )


def test_a_rotation_by_command_from_the_dry_run_to_the_publication(tmp_path: Path, repository: Repository) -> None:
    path, file = repository.folder.path, config(tmp_path, ("root-1", "root-2", "release-1"), new="b")
    before = tree(path)
    dry = hillhold("root", "rotate", path, "--config", file, "--dry-run")
    assert (dry.exit_code, tree(path)) == (0, before)
    assert "- root key root-3" in dry.output
    assert "+ timestamp key online" in dry.output
    done = json.loads(hillhold("root", "rotate", path, "--config", file, "--json").output)
    assert (done["version"], done["signed_again"]) == (2, [])
    for name in ("root-1", "root-2"):
        assert hillhold("sign", path, "--key", uri(name), "--yes").exit_code == 0
    said = hillhold("publish", path)
    assert said.output == "published root version 2\n"  # the former online keys are here, and signed, too
    assert hillhold("refresh", path).exit_code == 0
    anchor = tmp_path / "1.root.json"
    anchor.write_bytes(repository.folder.metadata("1.root.json").read_bytes())
    assert hillhold("verify", path, "--root", anchor).exit_code == 0


def test_the_transcript_is_a_page_of_what_is_signed_by_whom(tmp_path: Path, repository: Repository) -> None:
    path, file = repository.folder.path, config(tmp_path, ("root-1", "root-2", "release-1"))
    assert "expected one to be signed" in hillhold("root", "transcript", path).stderr
    hillhold("root", "rotate", path, "--config", file)
    hillhold("sign", path, "--key", uri("root-2"), "--yes")
    page = tmp_path / "page.txt"
    assert hillhold("root", "transcript", path, "--config", file, "--title", "Root 2", "-o", page).exit_code == 0
    text = page.read_text()
    digest = repository.state().drafts["root"].digest
    assert text.startswith("Root 2\n======\n\nWritten      2026-01-01T00:00:00Z, by hillhold ")
    assert sha256(file.read_bytes()).hexdigest() in text
    assert " ".join(digest[at : at + 8] for at in range(0, 64, 8)) in text
    assert "Signatures: old root 1 of 2, new root 1 of 2" in text
    assert "[x] root-2: signed" in text
    assert "[ ] root-3: not signed" in text
    assert "- root key root-3" in text
    assert text.count("________________________________\n") == 6  # four people, two witnesses
    assert hillhold("root", "transcript", path, "--title", "a\nb").exit_code == 1


def test_revoking_says_what_is_to_be_done(repository: Repository) -> None:
    path = repository.folder.path
    hillhold("renew", path, "pump")
    for name in ("release-1", "release-2"):
        hillhold("sign", path, "--key", uri(name), "--yes")
    said = hillhold("revoke", path, "Release-1", "--reason", "laptop stolen").output
    assert ": trusted in pump until that is published" in said
    assert "hillhold product team" in said
    stands = hillhold("status", path, "--check")
    assert stands.exit_code == 1
    assert "! REVOKED: release-1 (" in stands.output
    assert ": laptop stolen; still trusted in pump\n" in stands.output
    assert "next: replace keys: new ones for snapshot and timestamp" in stands.output
    assert "next: take release-1 out of pump: `hillhold product team REPO pump --remove release-1`" in stands.output
    stopped = hillhold("publish", path)
    assert stopped.exit_code == 1
    assert "error: revoked keys: expected none trusted any more, got release-1 in pump" in stopped.stderr


def test_teams_by_command(repository: Repository) -> None:
    path = repository.folder.path
    said = hillhold("product", "team", path, "pump", "--add", pub("root-1"), "--remove", "release-2")
    assert said.output.startswith("drafted: product line pump is signed by 2 of release-1, root-1\n  pump as it is has")
    online_key, taken = pub("snapshot"), f"Joan={pub('root-2')}"
    for words in (
        ["--remove", "Nobody"],
        ["--threshold", "3"],
        ["--add", pub("release-1")],
        ["--add", online_key],
        ["--add", taken],
    ):
        assert hillhold("product", "team", path, "pump", *words).exit_code == 1, words
    assert hillhold("product", "team", path, "pump").exit_code == 2
    moved = hillhold("product", "transfer", path, "pump", "--key", pub("root-3"), "--threshold", "1", "--json")
    assert json.loads(moved.output)["threshold"] == 1
    assert hillhold("product", "caps", path, "pump").exit_code == 2
    assert "offline grace up to 30d" in hillhold("product", "caps", path, "pump", "--max-offline-grace", "30d").output
    assert "may name nrf51-a\n" in hillhold("product", "hardware", path, "pump", HARDWARE[1], "--remove").output
    assert "expected some of: nrf51-a" in hillhold("product", "hardware", path, "pump", "x", "--remove").stderr
    assert hillhold("product", "retire", path, "pump", answers="n\n").exit_code == 1
    assert hillhold("product", "retire", path, "pump", "--yes").exit_code == 0
    assert repository.state().products() == []


# --- after a loss -----------------------------------------------------------------------------------------------------


def test_a_repository_is_made_from_what_was_published(tmp_path: Path, repository: Repository) -> None:
    copy, new = tmp_path / "copy", tmp_path / "new"
    repository.folder.public.rename(copy)
    root = copy / "metadata" / "1.root.json"
    much_later = NOW + 10 * 365 * 86400
    words = ("init", new, "--published", copy, "--root", root, "--config", config(tmp_path))
    assert hillhold(*words, now=much_later).exit_code == 0
    assert tree(new / "public") == tree(copy)
    assert Repository(new).config().demo
    assert hillhold(*words).exit_code == 1  # not over another
    assert hillhold("init", tmp_path / "x", "--published", copy, "--config", config(tmp_path)).exit_code == 2


@pytest.mark.parametrize("file", ["timestamp.json", "2.pump.json", "app.bin", "root"])
def test_a_copy_that_is_not_whole_or_does_not_follow_from_the_root_is_refused(
    tmp_path: Path, repository: Repository, file: str
) -> None:
    anchor = repository.folder.metadata("1.root.json").read_bytes()
    if file == "root":
        anchor = started(tmp_path / "other", NOW + 1).folder.metadata("1.root.json").read_bytes()
    else:
        found = next(repository.folder.public.rglob(f"*{file}"))
        found.write_bytes(found.read_bytes().replace(b"0", b"1", 1))
    with pytest.raises(VerifyRefused):
        adopt(tmp_path / "new", repository.folder.public, anchor, ceremony())
    assert not (tmp_path / "new").exists()


def test_a_full_disk_while_it_is_copied_leaves_nothing(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    anchor = repository.folder.metadata("1.root.json").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copy2", full)
        patch.setattr("shutil.copytree", full)
        with pytest.raises(StorageError, match="No space left"):
            adopt(tmp_path / "new", repository.folder.public, anchor, ceremony())
    assert not (tmp_path / "new" / "public").exists()
    adopt(tmp_path / "new", repository.folder.public, anchor, ceremony())


def test_an_adoption_that_is_cut_before_the_settings_are_whole_can_run_again(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    anchor = repository.folder.metadata("1.root.json").read_bytes()

    def full(*_: object) -> None:
        raise StorageError("cannot write hillhold.toml: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("hillhold_signer.adopting.write_settings", full)
        with pytest.raises(StorageError):
            adopt(tmp_path / "new", repository.folder.public, anchor, ceremony())
    other = release_elsewhere(tmp_path)
    with pytest.raises(RepositoryRefused, match="no repository yet"):  # what lies there is not that tree
        adopt(tmp_path / "new", other.folder.public, other.folder.metadata("1.root.json").read_bytes(), ceremony())
    adopted = adopt(tmp_path / "new", repository.folder.public, anchor, ceremony())
    assert tree(adopted.folder.public) == tree(repository.folder.public)


def release_elsewhere(folder: Path) -> Repository:
    other = started(folder / "other", NOW + 1)
    release(other, image("1.0.0"), NOW + 1)
    return other


def test_a_repository_of_which_only_the_published_tree_is_left_is_adopted_where_it_is(
    tmp_path: Path, repository: Repository
) -> None:
    anchor, before = repository.folder.metadata("1.root.json").read_bytes(), tree(repository.folder.public)
    repository.folder.config.unlink()
    adopted = adopt(repository.folder.path, repository.folder.public, anchor, ceremony())
    assert tree(adopted.folder.public) == before
    assert adopted.refresh(online(), NOW).roles


# --- devices ----------------------------------------------------------------------------------------------------------


def test_a_production_line_gets_root_identity_and_images(tmp_path: Path, repository: Repository) -> None:
    wish = Wish("radio.bin", hardware=HARDWARE, component="radio")
    add_release(repository, "pump", image("2.0.0", seed=2), wish, NOW)
    release(repository, image("1.1.0", seed=3))
    said = hillhold("provisioning", repository.folder.path, "pump", "--hardware", HARDWARE[0], "-o", tmp_path / "out")
    assert "app: 1.1.0, security counter 1, app-app.bin" in said.output
    assert "each device: hillhold-device provision --root" in said.output
    made = json.loads((tmp_path / "out" / "provision.json").read_text())
    assert made["root"]["sha256"] == sha256((tmp_path / "out" / "root.json").read_bytes()).hexdigest()
    assert {item["component"]: item["version"] for item in made["factory"]} == {"app": "1.1.0", "radio": "2.0.0"}
    for item in made["factory"]:
        assert sha256((tmp_path / "out" / item["file"]).read_bytes()).hexdigest() == item["sha256"]
    older = write_provisioning(
        repository.layout, "pump", HARDWARE[0], tmp_path / "older", NOW, {"app": "1.0.0", "radio": "2.0.0"}
    )
    assert str(older.factory["app"][0].version) == "1.0.0"


def test_provisioning_that_is_refused_makes_no_folder(tmp_path: Path, repository: Repository) -> None:
    layout, out = repository.layout, tmp_path / "out"
    with pytest.raises(VerifyRefused):  # expired
        write_provisioning(layout, "pump", HARDWARE[0], out, NOW + 2 * 86400)
    with pytest.raises(ProductRefused, match="one of nrf51-a, nrf52-b"):
        write_provisioning(layout, "pump", "other", out, NOW)
    with pytest.raises(ProductRefused, match=r"one of 1\.0\.0"):
        write_provisioning(layout, "pump", HARDWARE[0], out, NOW, {"app": "3.0.0"})
    with pytest.raises(ProductRefused, match="product line: expected one of: pump, got"):
        write_provisioning(layout, "drill", HARDWARE[0], out, NOW)
    with pytest.raises(ProductRefused, match="one of app, got radio"):
        write_provisioning(layout, "pump", HARDWARE[0], out, NOW, {"radio": "1.0.0"})
    assert not out.exists()
    out.mkdir()
    with pytest.raises(RepositoryRefused, match="a new folder"):
        write_provisioning(layout, "pump", HARDWARE[0], out, NOW)
    assert hillhold("provisioning", layout.path, "pump", "--hardware", "a", "--version", "1", "-o", "x").exit_code == 2


def test_an_image_that_is_gone_leaves_no_folder_half_written(tmp_path: Path, repository: Repository) -> None:
    add_release(
        repository, "pump", image("2.0.0", seed=2), Wish("radio.bin", hardware=HARDWARE, component="radio"), NOW
    )
    sign_all(repository, "release-1", "release-2")
    repository.publish(online(), NOW)
    next(repository.folder.public.rglob("*.radio.bin")).unlink()
    with pytest.raises(VerifyRefused, match="its bytes"):
        write_provisioning(repository.layout, "pump", HARDWARE[0], tmp_path / "out", NOW)
    assert not [item for item in tmp_path.iterdir() if "out" in item.name]


def test_two_images_never_get_the_same_file_in_the_factory(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    for seed, (component, name) in enumerate((("a", "b-c.bin"), ("a-b", "c.bin"))):
        wish = Wish(name, hardware=HARDWARE[:1], component=component)
        add_release(repository, "pump", image("1.0.0", seed=seed), wish, NOW)
    sign_all(repository, "release-1", "release-2")
    repository.publish(online(), NOW)
    done = write_provisioning(repository.layout, "pump", HARDWARE[0], tmp_path / "out", NOW)
    for item, file in done.factory.values():
        assert sha256(file.read_bytes()).digest() == item.sha256


def test_a_new_device_does_not_get_what_devices_step_down_from(tmp_path: Path, repository: Repository) -> None:
    release(repository, image("1.1.0"))
    down = Wish("app.bin", hardware=HARDWARE[:1], downgrade_from=(Version.parse("1.1.0"),))
    release(repository, image("1.0.5"), wish=down)
    done = write_provisioning(repository.layout, "pump", HARDWARE[0], tmp_path / "out", NOW)
    assert str(done.factory["app"][0].version) == "1.0.5"


def test_a_bundle_for_devices_that_are_not_old_leaves_out_their_roots(tmp_path: Path, repository: Repository) -> None:
    path, file = repository.folder.path, config(tmp_path, ("root-1", "root-2", "release-1"))
    hillhold("root", "rotate", path, "--config", file)
    sign_all(repository, "root-1", "root-2")
    repository.publish(online(), NOW)
    write_bundle(path, ["pump"], tmp_path / "young.hillhold", from_root=2)
    with ZipFile(tmp_path / "young.hillhold") as bundle:
        assert {name for name in bundle.namelist() if "root" in name} == {"metadata/2.root.json"}
    with pytest.raises(RepositoryRefused, match="1 to 2"):
        write_bundle(path, ["pump"], tmp_path / "none.hillhold", from_root=3)


def test_offline_grace_is_the_lines_to_use_up_to_what_the_delegation_allows(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    add_product(repository, Product("drill", team("release-1", threshold=1), Caps(HARDWARE, 100, 3600)), NOW)
    set_grace(repository, "drill", 60, NOW)
    assert repository.state().drafts["drill"].signed.unrecognized_fields == {"x-hillhold-offline-grace": 60}
    set_grace(repository, "drill", 0, NOW)
    assert repository.state().drafts["drill"].signed.unrecognized_fields == {}
    with pytest.raises(ProductRefused, match="at most 3600 s, got 3601"):
        set_grace(repository, "drill", 3601, NOW)
    assert "is 1h\n" in hillhold("product", "grace", repository.folder.path, "drill", "1h").output
    sign_all(repository, "targets-1", "targets-2", "release-1")
    repository.publish(online(), NOW)
    verify_tree(repository.folder.path, NOW)


# --- a person's options -----------------------------------------------------------------------------------------------


def test_options_come_from_a_persons_file(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.toml"
    monkeypatch.setenv("HILLHOLD_CONFIG", str(file))
    hillhold("renew", repository.folder.path, "pump")
    assert hillhold("sign", repository.folder.path, "--yes").exit_code == 2
    file.write_text(f'[sign]\nkey = "{uri("release-1")}"\n[product.add]\nmax-offline-grace = "30d"\n')
    assert hillhold("sign", repository.folder.path, "--yes").exit_code == 0
    words = (
        "product",
        "add",
        repository.folder.path,
        "drill",
        "--hardware",
        "a",
        "--key",
        pub("root-1"),
        "--threshold",
        "1",
    )
    assert hillhold(*words).exit_code == 0
    assert repository.state().drafts["drill"].signed.unrecognized_fields == {"x-hillhold-offline-grace": 30 * 86400}


@pytest.mark.parametrize(
    "text",
    [
        "[sign]\nyes = true",
        "[sign]\nkye = 'file:a'",
        "[sing]\nkey = 'a'",
        "key = 'a'",
        "[",
        "[sign]\nkey = 1.5",
        "\xff",
    ],
)
def test_options_that_are_none_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(text.encode("latin-1"))
    monkeypatch.setenv("HILLHOLD_CONFIG", str(file))
    said = hillhold("key", "list")
    assert said.exit_code == 1
    assert str(file) in said.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes(shell: str) -> None:
    assert "_HILLHOLD_COMPLETE" in hillhold("completion", shell).output
