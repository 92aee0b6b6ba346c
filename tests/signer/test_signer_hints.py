"""What the commands say to someone who is new to them: what was meant, who is asked, and what to do next."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from command import hillhold, uri
from copies import Folders
from hillhold_signer import Repository, Wish, add_product, add_release, example_signer, verify_tree
from hillhold_signer.adding import add_releases
from hillhold_signer.documents import Document
from hillhold_signer.image_keys import add_image_keys
from hillhold_signer.keys import fingerprint
from hillhold_signer.lines import retire_product, set_caps, set_team
from workshop import HARDWARE, NOW, ceremony, image, online, pump, release, sign_all, started, team, tree

WISH = Wish("app.bin", hardware=HARDWARE[:1])


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    found = started(tmp_path / "repo")
    release(found, image("1.0.0"))
    return found


def test_a_mistyped_line_and_an_online_role_get_a_hint_of_what_was_meant(repository: Repository) -> None:
    path = repository.folder.path
    before = tree(path)
    for words in (("release", "list", path, "pmup"), ("renew", path, "pmup")):
        said = hillhold(*words).stderr
        assert "hint: did you mean pump? else make it with `hillhold product add REPO pmup …`\n" in said
    assert "hint: make it with " in hillhold("renew", path, "ventilator").stderr
    for role in ("timestamp", "snapshot"):
        refused = hillhold("renew", path, "pump", role)
        assert refused.exit_code == 1
        assert "hint: timestamp and snapshot are renewed by `hillhold refresh`\n" in refused.stderr
    assert tree(path) == before


@pytest.mark.parametrize("command", [("verify",), ("provisioning", "pump", "--hardware", HARDWARE[0], "-o", "out")])
def test_what_needs_something_published_says_how_to_publish_or_renew_it(
    repository: Repository, tmp_path: Path, command: tuple[str, ...]
) -> None:
    def said(path: Path, now: int = NOW) -> str:
        done = hillhold(command[0], path, *command[1:], now=now)
        assert done.exit_code == 1
        return done.stderr

    bare = Repository.create(tmp_path / "new", ceremony(), NOW, demo=True).folder.path
    assert said(bare) == "error: nothing is published yet\nhint: `hillhold publish`\n"
    path, days = repository.folder.path, 86_400
    late = said(path, NOW + 3 * days)
    assert late.startswith("error: timestamp metadata: ")
    assert late.endswith("hint: `hillhold refresh REPO`\n")
    later = said(path, NOW + 4000 * days)
    assert later.startswith("error: root metadata: ")
    assert later.endswith("hint: `hillhold renew REPO root`, then its keys sign it\n")
    repository.refresh(online(), NOW + 200 * days)
    line = said(path, NOW + 200 * days)
    assert line.startswith("error: pump metadata: ")
    assert line.endswith("hint: `hillhold renew REPO pump`, then its keys sign it\n")
    layout = repository.folder
    layout.metadata("timestamp.json").unlink()
    assert "timestamp.json" in said(path)  # something is published, and damaged


@pytest.fixture
def locked(tmp_path: Path) -> str:
    """Joan's key, which nothing asks for: encrypted, with its public part beside it. Nobody answers for its passphrase."""
    assert hillhold("key", "new", tmp_path / "joan", answers="secret\nsecret\n").exit_code == 0
    return f"file:{tmp_path / 'joan.pem'}"


def test_sign_says_before_the_passphrase_that_there_is_nothing_to_sign(
    repository: Repository, locked: str, tmp_path: Path
) -> None:
    path = repository.folder.path

    def said(*words: object) -> str:
        done = hillhold("sign", path, "--yes", *words)
        assert done.exit_code == 1
        assert "assphrase" not in done.output
        return done.stderr

    assert said("--key", uri("release-1")) == "error: nothing is drafted\n"
    assert said("--key", locked) == "error: nothing is drafted\n"
    (tmp_path / "joan.pub").rename(tmp_path / "joan")
    assert said("--key", locked) == "error: nothing is drafted\n"  # whoever it is
    add_release(repository, "pump", image("1.1.0", edits=5), WISH, NOW)
    for key in (locked, uri("release-1")):
        assert said("--key", key, "--role", "targets") == "error: targets: nothing is drafted\n"
        assert (
            said("--key", key, "--role", "pumpp") == "error: role: expected one of root, targets, pump, got 'pumpp'\n"
        )
    (tmp_path / "joan").rename(tmp_path / "joan.pub")
    assert "error: signature: expected a key that a draft wants (pump: release-1, release-2), got " in said(
        "--key", locked
    )
    (tmp_path / "joan.pub").write_text("no key")
    assert "Passphrase of" in hillhold("sign", path, "--key", locked, answers="wrong\n").output  # it says the rest
    assert not repository.state().drafts["pump"].signatures


def test_sign_of_a_request_says_before_the_passphrase_who_is_asked(
    repository: Repository, locked: str, tmp_path: Path
) -> None:
    add_release(repository, "pump", image("1.1.0", edits=5), WISH, NOW)
    file = tmp_path / "pump.request"
    assert hillhold("request", repository.folder.path, "pump", "-o", file).exit_code == 0
    refused = hillhold("sign", file, "--key", locked)
    assert refused.exit_code == 1
    assert "assphrase" not in refused.output
    assert refused.stderr.startswith("error: signature: expected a key of pump: release-1, release-2, got ")
    assert hillhold("sign", file, "--key", uri("release-1"), "--yes").exit_code == 0


@pytest.mark.slow
def test_a_wrong_release_is_taken_out_of_a_draft_and_another_of_its_name_put_in(repository: Repository) -> None:
    path = repository.folder.path
    notes = Document("notes.txt", b"Quieter.\n")
    add_releases(repository, "pump", [(image("1.1.0", edits=5), replace(WISH, notes=notes))], NOW, with_documents=True)
    add_release(repository, "pump", image("1.2.0", edits=9), WISH, NOW)
    listed = set(repository.state().line("pump").targets)
    sign_all(repository, "release-1")
    hint = hillhold("withdraw", path, "pump", "1.1.0", "--reason", "wrong").stderr
    assert "`hillhold release remove`" in hint
    before = tree(path)
    for words, says in (
        (("1.0.0",), "error: target pump/1.0.0/app.bin: expected a draft, got a published release\nhint: devices may"),
        (("9.0.0",), "error: version 9.0.0: expected a listed release"),
    ):
        refused = hillhold("release", "remove", path, "pump", *words)
        assert refused.exit_code == 1
        assert refused.stderr.startswith(says)
    assert tree(path) == before
    done = hillhold("release", "remove", path, "pump", "1.1.0")
    assert done.exit_code == 0, done.output
    assert "removed pump/1.1.0/app.bin from the draft\n" in done.stdout
    assert "void: the signatures of release-1\n" in done.stdout
    left = repository.state().line("pump").targets
    gone = listed - set(left)
    assert {"pump/1.1.0/app.bin", "pump/1.1.0/notes.txt"} < gone
    assert len(gone) == 4  # and a patch that makes it, and one that starts from it
    assert all(f"  no longer listed: {item}\n" in done.stdout for item in gone - {"pump/1.1.0/app.bin"})
    assert {"pump/1.0.0/app.bin", "pump/1.2.0/app.bin"} < set(left)
    assert not repository.state().drafts["pump"].signatures
    assert hillhold("release", "remove", path, "pump", "1.1.0").exit_code == 1
    add_release(repository, "pump", image("1.3.0", edits=7), WISH, NOW)
    value = json.loads(hillhold("release", "remove", path, "pump", "1.2.0", "--json").stdout)
    assert (value["removed"], value["void"]) == ("pump/1.2.0/app.bin", [])
    sign_all(repository, "release-1", "release-2")
    repository.publish(online(), NOW)
    assert {item for item in verify_tree(path, NOW).targets if item.endswith("app.bin")} == {
        "pump/1.0.0/app.bin",
        "pump/1.3.0/app.bin",
    }


def test_the_only_draft_is_dropped_without_its_digest_after_it_was_shown(repository: Repository) -> None:
    path = repository.folder.path
    assert hillhold("drop", path, "pump").stderr == "error: pump: nothing is drafted\n"
    assert hillhold("drop", path, "pumpp").stderr.startswith("error: role: expected one of root, targets, pump, got")
    add_release(repository, "pump", image("1.1.0", edits=5), WISH, NOW)
    sign_all(repository, "release-1")
    digest = repository.state().drafts["pump"].digest
    before = tree(path)
    no = hillhold("drop", path, "pump", answers="n\n")
    assert no.exit_code == 1
    assert "+ pump/1.1.0/app.bin: " in no.stdout
    assert "! the signatures of release-1 go with it\n" in no.stdout
    assert tree(path) == before
    value = json.loads(hillhold("drop", path, "pump", "--yes", "--json").stdout)
    assert (value["dropped"], value["void"]) == (digest, [example_signer("release-1").public_key.keyid])
    assert not repository.state().drafts
    add_release(repository, "pump", image("1.2.0", edits=5), WISH, NOW)
    unsigned = hillhold("drop", path, "pump")  # nobody's work is lost: no question
    assert unsigned.exit_code == 0
    assert "+ pump/1.2.0/app.bin: " in unsigned.stdout


def test_of_several_drafts_one_is_named_and_its_own_signatures_are_told(tmp_path: Path) -> None:
    shared = Folders(tmp_path)
    for who, seed, name in ((shared.ada, 1, "release-1"), (shared.grace, 2, "release-2")):
        add_release(who, "pump", image("1.1.0", seed=seed), WISH, NOW)
        sign_all(who, name)
    ours = shared.ada.state().drafts["pump"].digest
    shared.sync()
    path = shared.ada.folder.path
    refused = hillhold("drop", path, "pump", "--yes")
    assert refused.exit_code == 1
    assert ours[:16] in refused.stderr
    shown = hillhold("drop", path, "pump", ours[:16], answers="n\n").stdout
    assert "! the signatures of release-1 go with it\n" in shown
    assert hillhold("drop", path, "pump", ours[:16], "--yes").exit_code == 0
    assert list(shared.ada.state().drafts["pump"].signatures) == [example_signer("release-2").public_key.keyid]


def test_a_line_is_shown_with_what_its_drafts_change(repository: Repository) -> None:
    path = repository.folder.path
    plain = hillhold("product", "show", path, "pump")
    assert plain.exit_code == 0, plain.output
    key = example_signer("release-1").public_key
    assert plain.stdout.splitlines()[:5] == [
        "product line pump",
        "  version                2",
        "  hardware               nrf51-a, nrf52-b",
        "  security counter       up to 100",
        "  offline grace          0s, up to 0s",
    ]
    assert f"  key {key.keyid[:16]}" in plain.stdout
    assert f"fingerprint {fingerprint(key)}\n" in plain.stdout
    value = json.loads(hillhold("product", "show", path, "pump", "--json").stdout)
    assert (value["drafted"], value["image_keys"], value["retired"]) == (None, [], False)
    assert (value["published"]["releases"], value["published"]["newest"]) == (1, {"app": "1.0.0"})
    assert {item["name"] for item in value["published"]["keys"]} == {"release-1", "release-2"}
    set_caps(repository, "pump", NOW, hardware=lambda known: [*known, "nrf54-c"], max_offline_grace=86_400)
    set_team(repository, "pump", team("release-1", "targets-1", threshold=1), NOW)
    add_release(repository, "pump", image("1.1.0", edits=5), WISH, NOW)
    add_image_keys(repository, "pump", [example_signer("image").public_key], NOW)
    changed = hillhold("product", "show", path, "pump").stdout
    assert "~ version                2 -> 3\n" in changed
    assert "~ hardware               nrf51-a, nrf52-b -> nrf51-a, nrf52-b, nrf54-c\n" in changed
    assert "~ offline grace          0s, up to 0s -> 0s, up to 1d\n" in changed
    assert "~ releases               1, newest app 1.0.0 -> 2, newest app 1.1.0\n" in changed
    assert "~ threshold              2 of 2 -> 1 of 2\n" in changed
    assert f"-   key {example_signer('release-2').public_key.keyid[:16]}" in changed
    assert f"+   key {example_signer('targets-1').public_key.keyid[:16]}" in changed
    assert f"  image key              fingerprint {fingerprint(example_signer('image').public_key)}\n" in changed
    value = json.loads(hillhold("product", "show", path, "pump", "--json").stdout)
    assert (value["published"]["threshold"], value["drafted"]["threshold"]) == (2, 1)


def test_lines_are_listed_as_they_are_and_as_they_are_to_be(repository: Repository) -> None:
    path = repository.folder.path
    add_product(repository, replace(pump(), name="valve"), NOW)
    assert hillhold("product", "list", path).stdout == (
        "pump   published  2 of release-1, release-2, for nrf51-a, nrf52-b\n"
        "valve  drafted    2 of release-1, release-2, for nrf51-a, nrf52-b\n"
    )
    assert hillhold("product", "show", path, "valve").stdout.startswith(
        "product line valve, drafted and not published\n"
    )
    set_caps(repository, "valve", NOW, max_security_counter=7)
    retire_product(repository, "pump", NOW)
    value = json.loads(hillhold("product", "list", path, "--json").stdout)["products"]
    assert {item["product"]: item["state"] for item in value} == {"pump": "retired", "valve": "drafted"}
    assert hillhold("product", "show", path, "pump").stdout.startswith("product line pump, retired in the draft\n")
    assert "did you mean valve?" in hillhold("product", "show", path, "vlave").stderr
    empty = Repository.create(path.parent / "new", ceremony(), NOW, demo=True)
    assert hillhold("product", "list", empty.folder.path).stdout == "no product lines\n"
