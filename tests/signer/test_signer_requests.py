"""An offline machine signs a request: the same screen, the same digest; and what comes back counts once, for those bytes, or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hillhold_signer import Repository, Wish, add_product, add_release, example_signer
from hillhold_signer.attaching import attach
from hillhold_signer.cli import main
from hillhold_signer.cli.terminal import Edge
from hillhold_signer.errors import (
    MergeRefused,
    PublicKeyMaterialRefused,
    RequestRefused,
    SignerRefused,
    SigningRefused,
    StaleRefused,
    VerifyRefused,
)
from hillhold_signer.lines import set_caps
from hillhold_signer.requests import MAX_REQUEST, make_request, open_request, sign_request
from hillhold_verifier import canonical
from workshop import HARDWARE, NOW, ceremony, image, online, pump, release, sign_all, started, team, tree

KEYS = Path(__file__).parents[2] / "keys-example"
WISH = Wish("app.bin", hardware=HARDWARE[:1])


def hillhold(*words: object, answers: str = "") -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], input=answers, obj=Edge(lambda: NOW))


def uri(name: str) -> str:
    return f"file:{KEYS / name}-public-on-purpose.pem"


def root_of(repository: Repository) -> bytes:
    return repository.folder.metadata("1.root.json").read_bytes()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    found = started(tmp_path / "repo")
    release(found, image("1.0.0"))
    add_release(found, "pump", image("1.1.0", edits=5), WISH, NOW)
    return found


def signed(repository: Repository, name: str, role: str = "pump") -> bytes:
    return sign_request(open_request(make_request(repository, role)), example_signer(name)).data()


def test_a_laptop_without_the_repository_shows_the_same_and_its_signature_counts(
    repository: Repository, tmp_path: Path
) -> None:
    path, laptop = repository.folder.path, tmp_path / "laptop"
    laptop.mkdir()
    (laptop / "1.root.json").write_bytes(root_of(repository))
    here = hillhold("diff", path, "pump").output
    before = tree(path)
    made = hillhold("request", path, "pump", "-o", laptop / "pump.request")
    assert "send it to release-1, release-2" in made.output
    assert tree(path) == before
    words = ("sign", laptop / "pump.request", "--key", uri("release-1"))
    no = hillhold(*words, answers="n\n")
    assert no.exit_code == 1
    assert {item.name for item in laptop.iterdir()} == {"1.root.json", "pump.request"}
    yes = hillhold(*words, "--root", laptop / "1.root.json", answers="y\n")
    assert yes.exit_code == 0, yes.output
    assert yes.output.startswith(here)
    assert "! " not in yes.output
    assert "verified from your root, up to root version 1" in yes.output
    assert "what is published is that of 2026-01-01T00:00:00Z" in yes.output
    assert "2 of these sign: release-1" in yes.output
    file = laptop / f"pump.{example_signer('release-1').public_key.keyid[:8]}.signature"
    done = hillhold("attach", path, file)
    assert done.output == "pump version 3: signature of release-1 attached (1 of 2)\n"
    after = tree(path)
    again = hillhold("attach", path, file, "--json")
    assert json.loads(again.stdout)["attached"][0]["repeated"] is True
    assert tree(path) == after
    repository.sign(example_signer("release-2"))
    repository.publish(online(), NOW)


def test_without_a_root_of_ones_own_the_screen_says_whose_word_it_takes(repository: Repository, tmp_path: Path) -> None:
    hillhold("request", repository.folder.path, "pump", "-o", tmp_path / "pump.request")
    words = ("sign", tmp_path / "pump.request", "--key", uri("release-1"), "--yes", "-o", tmp_path / "x.signature")
    shown = hillhold(*words)
    assert "! what is published stands on the request's word" in shown.output
    value = json.loads(hillhold(*words, "--json").stdout)
    assert (value["anchored"], value["signature"]) == (False, str(tmp_path / "x.signature"))


def test_before_anything_is_published_a_request_says_so(tmp_path: Path) -> None:
    repository = Repository.create(tmp_path / "repo", ceremony(), NOW, demo=True)
    add_product(repository, pump(), NOW)
    for role, by in (("root", None), ("targets", "root"), ("pump", "targets")):
        data = make_request(repository, role)
        found = open_request(data)
        assert (found.old, found.root, found.unsigned, found.demo) == (None, None, by, True)
        with pytest.raises(RequestRefused, match="under your root"):
            open_request(data, b"a root")
    for role, name in (("root", "root-1"), ("root", "root-2"), ("targets", "targets-1"), ("targets", "targets-2")):
        attach(repository, [signed(repository, name, role)])
    sign_all(repository, "release-1", "release-2")
    repository.publish(online(), NOW)


def test_a_root_that_is_not_ours_verifies_nothing(repository: Repository, tmp_path: Path) -> None:
    other = replace(ceremony(), targets=team("targets-3", threshold=1))
    elsewhere = Repository.create(tmp_path / "other", other, NOW, demo=True)
    add_product(elsewhere, pump(), NOW)
    sign_all(elsewhere, "root-1", "root-2", "targets-3", "release-1", "release-2")
    elsewhere.publish(online(), NOW)
    data = make_request(repository, "pump")
    assert open_request(data, root_of(repository)).anchored
    with pytest.raises(VerifyRefused, match="what the request says is published"):
        open_request(data, root_of(elsewhere))
    with pytest.raises(VerifyRefused):
        open_request(data, b"{}")
    value = json.loads(data)
    value["published"]["2.root.json"] = value["published"]["1.root.json"]
    with pytest.raises(VerifyRefused, match="root"):
        open_request(canonical.dumps(value), root_of(repository))


Change = Callable[[dict[str, Any]], object]


def _json(change: Change, name: str) -> Change:
    """A change within one of the published files."""

    def act(value: dict[str, Any]) -> None:
        inner = json.loads(value["published"][name])
        change(inner["signed"])
        value["published"][name] = canonical.dumps(inner).decode()

    return act


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda value: value.update(sha256="0" * 64), "the sha256 of what is to be signed"),
        (lambda value: value["signed"].update(expires="2036-01-01T00:00:00Z"), "the sha256 of what is to be signed"),
        (lambda value: value.update(v=2), "request file format: expected 1, got 2"),
        (lambda value: value.update(hillhold="signature"), '"hillhold": "request"'),
        (lambda value: value.update(more=1), "the fields"),
        (lambda value: value.update(role="root"), "expected root, got targets"),
        (lambda value: value.update(role="valve"), "version 1, the one after"),
        (lambda value: value.update(role="../x"), "the fields"),
        (lambda value: value.update(delegator=[]), "a delegator of that role"),
        (lambda value: value.update(delegator={"_type": "targets"}), "draft of targets"),
        (lambda value: value.update(people={"a": 1}), "texts by name"),
        (lambda value: value.update(people={"a": "x" * 10_000}), "names"),
        (lambda value: value["published"].clear(), "version 1, the one after"),
        (lambda value: value["published"].pop("2.pump.json"), "2.pump.json"),
        (lambda value: value["published"].pop("timestamp.json"), "version 1, the one after"),
        (lambda value: value["published"].pop("1.root.json"), "1.root.json"),
        (lambda value: value["published"].update({"1.root.json": "[" * 50_000}), "root metadata"),
        (lambda value: value["published"].update({"1.root.json": "x" * 70_000}), "root"),
        (_json(lambda signed: signed["targets"].clear(), "2.pump.json"), "pump metadata"),
        (_json(lambda signed: signed["roles"]["targets"].update(threshold=1), "1.root.json"), "root metadata"),
        (_json(lambda signed: signed.update(version=9), "timestamp.json"), "what the request says is published"),
    ],
)
def test_a_request_that_was_changed_on_its_way_is_refused(repository: Repository, change: Change, says: str) -> None:
    value = json.loads(make_request(repository, "pump"))
    change(value)
    with pytest.raises(SignerRefused) as refused:
        open_request(canonical.dumps(value))
    assert says in str(refused.value)


def test_what_is_no_request_or_too_large(repository: Repository, tmp_path: Path) -> None:
    for data in (b"", b"{", b"[]", b"\xff", b"{}", b" " * (MAX_REQUEST + 1)):
        with pytest.raises(RequestRefused):
            open_request(data)
    (tmp_path / "x").write_bytes(b"{}")
    assert hillhold("sign", tmp_path / "x", "--key", uri("release-1")).exit_code == 1
    assert hillhold("sign", tmp_path / "x", "--key", uri("release-1"), "--role", "pump").exit_code == 2
    assert hillhold("sign", repository.folder.path, "--key", uri("release-1"), "-o", "x").exit_code == 2
    for role in ("root", "none", "../x"):
        assert (
            "a role that is drafted: pump"
            in hillhold("request", repository.folder.path, role, "-o", tmp_path / "y").stderr
        )
    assert not (tmp_path / "y").exists()


def test_a_key_that_is_not_asked_for_signs_no_request(repository: Repository) -> None:
    found = open_request(make_request(repository, "pump"))
    with pytest.raises(SigningRefused, match="a key of pump: release-1, release-2"):
        sign_request(found, example_signer("targets-1"))


def test_an_example_key_signs_no_request_of_a_repository_that_is_no_demo(repository: Repository) -> None:
    value = json.loads(make_request(repository, "pump"))
    with pytest.raises(RequestRefused, match="the same in the request and its root"):
        open_request(canonical.dumps({**value, "demo": False}))
    found = replace(open_request(canonical.dumps(value)), demo=False)
    with pytest.raises(PublicKeyMaterialRefused):
        sign_request(found, example_signer("release-1"))
    good = signed(repository, "release-1")
    config = repository.folder.config
    config.write_text(config.read_text().replace("demo = true", "demo = false"))
    with pytest.raises(PublicKeyMaterialRefused):
        attach(repository, [good])


def test_each_signature_that_does_not_count_has_a_refusal_of_its_own(repository: Repository, tmp_path: Path) -> None:
    good = signed(repository, "release-1")
    value = json.loads(good)
    shutil.copytree(repository.folder.path, tmp_path / "copy")
    before = tree(repository.folder.path)
    stranger = example_signer("targets-1")
    payload = repository.state().drafts["pump"].payload
    foreign = {**value, "keyid": stranger.public_key.keyid, "sig": stranger.sign(payload).signature}
    cases: list[tuple[bytes, type[SignerRefused], str]] = [
        (b"", RequestRefused, "signature file"),
        (good[:-1], RequestRefused, "JSON that `hillhold` wrote"),
        (good + b"\n", RequestRefused, "its one byte form"),
        (b" " * 40_000, RequestRefused, "at most"),
        (canonical.dumps({**value, "v": 2}), RequestRefused, "format"),
        (canonical.dumps({**value, "more": 1}), RequestRefused, "one byte form"),
        (canonical.dumps({**value, "role": "root"}), RequestRefused, "a role that is drafted: pump"),
        (canonical.dumps({**value, "sha256": "0" * 64}), StaleRefused, "which is not here"),
        (canonical.dumps({**value, "sig": "00" * 64}), SigningRefused, "one that verifies"),
        (
            canonical.dumps({**value, "keyid": example_signer("release-2").public_key.keyid}),
            SigningRefused,
            "one that verifies",
        ),
        (canonical.dumps(foreign), SigningRefused, "one by a key of pump"),
    ]
    for data, kind, says in cases:
        with pytest.raises(kind) as refused:
            attach(repository, [good, data])  # all or none
        assert says in str(refused.value)
    assert tree(repository.folder.path) == before
    add_release(repository, "pump", image("1.2.0", edits=6), WISH, NOW)
    with pytest.raises(StaleRefused, match="which was changed since") as stale:
        attach(repository, [good])
    assert stale.value.hint == "ask again: `hillhold request REPO pump -o FILE`"
    copy = Repository(tmp_path / "copy")
    attach(copy, [good, signed(copy, "release-2")])
    copy.publish(online(), NOW)
    with pytest.raises(StaleRefused, match="on what is published already"):
        attach(copy, [good])


@pytest.mark.slow
def test_a_request_for_merged_drafts_is_for_what_will_be_written_down(repository: Repository, tmp_path: Path) -> None:
    shutil.copytree(repository.folder.path, tmp_path / "copy")
    copy = Repository(tmp_path / "copy")
    add_release(repository, "pump", image("1.2.0", edits=6), WISH, NOW)
    add_release(copy, "pump", image("1.0.0", seed=3), Wish("r.bin", hardware=HARDWARE, component="radio"), NOW)
    shutil.copytree(copy.folder.drafts, repository.folder.drafts, dirs_exist_ok=True)
    shutil.copytree(copy.folder.staged, repository.folder.staged, dirs_exist_ok=True)
    before = tree(repository.folder.path)
    files = [signed(repository, "release-1"), signed(repository, "release-2")]
    assert tree(repository.folder.path) == before
    attach(repository, files)
    repository.publish(online(), NOW)


@pytest.mark.slow
def test_a_clash_makes_no_request(repository: Repository, tmp_path: Path) -> None:
    shutil.copytree(repository.folder.path, tmp_path / "copy")
    copy = Repository(tmp_path / "copy")
    add_release(repository, "pump", image("1.2.0", edits=6), WISH, NOW)
    add_release(copy, "pump", image("1.2.0", edits=7), WISH, NOW)
    good = signed(copy, "release-1")
    shutil.copytree(copy.folder.drafts, repository.folder.drafts, dirs_exist_ok=True)
    for act in (lambda: make_request(repository, "pump"), lambda: attach(repository, [good])):
        with pytest.raises(MergeRefused):
            act()


def test_a_request_for_the_keys_of_a_drafted_delegator_says_that_nobody_has_signed_it(
    repository: Repository, tmp_path: Path
) -> None:
    set_caps(repository, "pump", NOW, hardware=lambda known: [*known, *["nrf54-c"]])
    hillhold("request", repository.folder.path, "pump", "-o", tmp_path / "pump.request")
    words = ("sign", tmp_path / "pump.request", "--key", uri("release-1"), "--yes")
    (tmp_path / "root").write_bytes(root_of(repository))
    assert "! whose signatures count is drafted, too" in hillhold(*words, "--root", tmp_path / "root").output
