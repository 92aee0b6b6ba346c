"""Keys in a real SoftHSM2 token: found, signed with, and what is left when the token is not there or says no."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from securesystemslib.signer import HSMSigner, Signature, Signer, SSlibKey

from hillhold_signer import ImagePlan, Repository, load_public, load_signer, sign_image, verify_tree
from hillhold_signer.cli import main
from hillhold_signer.cli.terminal import Edge
from hillhold_signer.errors import KeyRefused, ToolError
from hillhold_signer.hsm import Place, _told, find_key, list_keys
from hillhold_signer.keys import default_keyid
from hillhold_verifier.keys import Key
from hillhold_verifier.keytypes import SCHEMES
from hillhold_verifier.mcuboot import parse_image
from softhsm import PIN, SoftHsm, softhsm
from workshop import NOW, firmware

pytestmark = pytest.mark.system

SCHEME = {
    "ed25519": "ed25519",
    "ecdsa-p256": "ecdsa-sha2-nistp256",
    "ecdsa-p384": "ecdsa-sha2-nistp384",
    "rsa-2048": "rsassa-pss-sha256",
    "rsa-3072": "rsassa-pss-sha256",
}


@pytest.fixture
def hsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoftHsm]:
    with softhsm(tmp_path / "hsm", monkeypatch) as found:
        found.token("ada")
        yield found


def pin(_what: str) -> str:
    return PIN


def hillhold(*words: object, answers: str = "") -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words], input=answers, obj=Edge(lambda: NOW))
    if not isinstance(result.exception, SystemExit | None):
        raise result.exception
    return result


@pytest.mark.parametrize("kind", SCHEME)
def test_a_token_signs_what_the_verifier_and_python_tuf_accept(hsm: SoftHsm, kind: str) -> None:
    hsm.key("ada", kind, 1)
    asked: list[str] = []

    def secrets(what: str) -> str:
        asked.append(what)
        return PIN

    found = find_key("hsm:1?label=ada")
    assert (found.uri, found.key.scheme, found.key.keyid) == ("hsm:1?label=ada", SCHEME[kind], default_keyid(found.key))
    signer = Signer.from_priv_key_uri(found.uri, found.key, secrets)
    for payload in (b"", b"one", bytes(100_000)):
        signature = signer.sign(payload)
        found.key.verify_signature(signature, payload)
        public = Key(found.key.keytype, found.key.scheme, found.key.keyval["public"])
        assert public.verifies(bytes.fromhex(signature.signature), payload)
        assert not public.verifies(bytes.fromhex(signature.signature), payload + b"!")
    assert asked == ["PIN of hsm:1?label=ada"]


@pytest.mark.parametrize("digest", ["sha384", "sha512"])
def test_rsa_with_the_hash_that_the_metadata_name(hsm: SoftHsm, digest: str) -> None:
    hsm.key("ada", "rsa-2048", 1)
    found = find_key("hsm:1").key
    key = SSlibKey("0" * 64, "rsa", f"rsassa-pss-{digest}", dict(found.keyval))
    key.verify_signature(load_signer("hsm:1", key, pin).sign(b"data"), b"data")


def test_where_securesystemslibs_own_signer_can_it_makes_the_same(hsm: SoftHsm) -> None:
    hsm.key("ada", "ecdsa-p256", 2)
    uri, key = HSMSigner.import_(2, "ada")
    found = find_key("hsm:")  # by default 2, as there
    assert (found.uri, found.key) == (uri, key)
    key.verify_signature(HSMSigner.from_priv_key_uri(uri, key, pin).sign(b"data"), b"data")
    key.verify_signature(load_signer(uri, key, pin).sign(b"data"), b"data")


def test_one_token_of_several_is_found_by_its_label(hsm: SoftHsm) -> None:
    hsm.token("two words")
    hsm.key("ada", "ecdsa-p256", 1)
    hsm.key("two words", "ecdsa-p256", 1)
    with pytest.raises(KeyRefused, match="expected one token, got several"):
        find_key("hsm:1")
    second = find_key("hsm:1?label=two+words")
    assert second.uri == "hsm:1?label=two+words"
    assert find_key(second.uri) == second
    assert second.key != find_key("hsm:1?label=ada").key


def test_what_a_token_lists_and_what_it_passes_over(hsm: SoftHsm) -> None:
    assert list_keys("hsm:") == []
    for keyid, kind in enumerate(["ed25519", "ecdsa-p384", "ecdsa-p521", "rsa-1024", "rsa-2048"], 255):
        hsm.key("ada", kind, keyid)
    listed = hillhold("key", "list", "hsm:?label=ada").output.splitlines()
    assert [line.split()[0] for line in listed] == [f"hsm:{keyid}?label=ada" for keyid in (255, 256, 259)]
    for keyid, got in ((257, "KeyType.EC|0|key type"), (258, "1024 bits")):
        with pytest.raises(KeyRefused, match=got):
            find_key(f"hsm:{keyid}")
    shown = json.loads(hillhold("key", "show", "hsm:256", "--json").stdout)
    assert (shown["uri"], shown["scheme"]) == ("hsm:256?label=ada", "ecdsa-sha2-nistp384")


def test_a_public_key_is_imported_once_under_a_name(hsm: SoftHsm, tmp_path: Path) -> None:
    hsm.key("ada", "ed25519", 1)
    first = hillhold("key", "import", "hsm:1", tmp_path / "ada")
    assert first.exit_code == 0, first.output
    assert f"{tmp_path / 'ada.pub'}  public key of hsm:1?label=ada: hand it out" in first.output
    assert load_public(tmp_path / "ada.pub") == find_key("hsm:1").key
    again = hillhold("key", "import", "hsm:1", tmp_path / "ada.pub")
    assert again.exit_code == 3
    assert "exists" in again.stderr


def test_a_public_key_that_the_token_hides_needs_the_pin(hsm: SoftHsm, tmp_path: Path) -> None:
    hsm.key("ada", "ed25519", 1, hidden=True)
    assert list_keys("hsm:") == []
    with pytest.raises(KeyRefused, match="expected a public key with this ID, got none"):
        find_key("hsm:1")
    found = hillhold("key", "import", "hsm:1", tmp_path / "ada", answers=f"{PIN}\n")
    assert found.exit_code == 0, found.output
    assert load_public(tmp_path / "ada.pub") == load_signer("hsm:1", None, pin).public_key


def test_half_a_key_is_refused_by_what_is_missing(hsm: SoftHsm) -> None:
    hsm.key("ada", "ecdsa-p256", 1, private=False)
    hsm.key("ada", "ecdsa-p256", 3, public=False)
    with pytest.raises(KeyRefused, match="expected a private key with this ID, got none"):
        load_signer("hsm:1", None, pin)
    with pytest.raises(KeyRefused, match="expected its public key in the token, got none") as refused:
        load_signer("hsm:3", None, pin)
    assert "--public" in str(refused.value.hint)
    with pytest.raises(KeyRefused, match="expected a public key with this ID, got none"):
        find_key("hsm:9", pin)
    hsm.key("ada", "ed25519", 1)
    with pytest.raises(KeyRefused, match="expected one key with this ID, got 2"):
        find_key("hsm:1")


def test_another_key_than_the_one_expected(hsm: SoftHsm) -> None:
    hsm.key("ada", "ecdsa-p256", 1)
    hsm.key("ada", "ecdsa-p256", 2)
    with pytest.raises(KeyRefused, match="got another key"):
        load_signer("hsm:1", find_key("hsm:2").key, pin)


def test_a_wrong_pin_is_asked_for_once_and_signs_nothing(hsm: SoftHsm, tmp_path: Path) -> None:
    hsm.key("ada", "ed25519", 1)
    asked: list[str] = []

    def wrong(what: str) -> str:
        asked.append(what)
        return "000000"

    with pytest.raises(KeyRefused, match="hsm:1: wrong PIN") as refused:
        load_signer("hsm:1", None, wrong)
    assert len(asked) == 1
    assert "locks itself" in str(refused.value.hint)
    for short in ("0", "0" * 300):
        with pytest.raises(KeyRefused, match="wrong PIN"):
            load_signer("hsm:1", None, lambda _, short=short: short)  # type: ignore[misc]
    with pytest.raises(KeyRefused, match="expected the token's PIN, got none"):
        load_signer("hsm:1", None, lambda _: "")
    load_signer("hsm:1", None, pin)  # and the token is as it was


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("PinLocked", "the PIN is locked"),
        ("PinExpired", "has expired"),
        ("UserPinNotInitialized", "no PIN has been set"),
    ],
)
def test_what_softhsm_never_says_of_a_pin(name: str, says: str) -> None:
    """SoftHSM does not count wrong PINs; the library's error is made here."""
    import pkcs11.exceptions

    told = _told(getattr(pkcs11.exceptions, name)(), Place(1, "ada"))
    assert isinstance(told, KeyRefused)
    assert says in str(told)
    assert "security officer" in str(told.hint)


def test_no_module_a_wrong_one_and_no_token(hsm: SoftHsm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ToolError, match="hsm:1\\?label=grace: no such token"):
        load_signer("hsm:1?label=grace", None, pin)
    monkeypatch.setenv("PYKCS11LIB", str(tmp_path / "none.so"))
    with pytest.raises(ToolError, match=r"none\.so"):
        load_signer("hsm:1", None, pin)
    monkeypatch.delenv("PYKCS11LIB")
    with pytest.raises(ToolError, match="in PYKCS11LIB, got none"):
        load_signer("hsm:1", None, pin)


@pytest.mark.parametrize(
    "uri",
    [
        "hsm:0",
        "hsm:01",
        "hsm:x",
        "hsm:-1",
        "hsm:1?lable=ada",
        "hsm:1?module=/tmp/evil.so",
        "hsm:1?label",
        "hsm:1?label=",
        "hsm://1",
    ],
)
def test_uris_that_name_no_place(hsm: SoftHsm, uri: str) -> None:
    hsm.key("ada", "ecdsa-p256", 1)
    for look in (lambda: load_signer(uri, None, pin), lambda: find_key(uri), lambda: list_keys(uri)):
        with pytest.raises(KeyRefused, match="key URI"):
            look()


# --- a repository whose people hold tokens --------------------------------------------------------------------------


@pytest.fixture
def repository(hsm: SoftHsm, tmp_path: Path) -> Repository:
    """Root, targets and the line pump by one token key of Ada's, snapshot and timestamp by two others; nothing signed."""
    for keyid, kind in enumerate(["ed25519", "ecdsa-p384", "rsa-2048"], 1):
        hsm.key("ada", kind, keyid)
        assert hillhold("key", "import", f"hsm:{keyid}?label=ada", tmp_path / str(keyid)).exit_code == 0
    ada = "keys = [{ name = 'Ada', file = '1.pub' }]"
    (tmp_path / "ceremony.toml").write_text(
        f"[root]\nthreshold = 1\n{ada}\n[targets]\nthreshold = 1\n{ada}\n"
        "[snapshot]\nkey = { file = '2.pub', uri = 'hsm:2?label=ada' }\n"
        "[timestamp]\nkey = { file = '3.pub', uri = 'hsm:3?label=ada' }\n"
    )
    made = hillhold("init", tmp_path / "repo", "--config", tmp_path / "ceremony.toml")
    assert made.exit_code == 0, made.output
    words = ["product", "add", tmp_path / "repo", "pump", "--hardware", "a", "--threshold", "1"]
    assert hillhold(*words, "--key", f"Ada={tmp_path / '1.pub'}").exit_code == 0
    return Repository(tmp_path / "repo")


def test_a_repository_signed_and_published_by_token_keys_alone(repository: Repository) -> None:
    path = repository.folder.path
    signed = hillhold("sign", path, "--key", "hsm:1?label=ada", answers=f"{PIN}\ny\n")
    assert signed.exit_code == 0, signed.output
    assert signed.output.count("signed ") == 3
    published = hillhold("publish", path, answers=f"{PIN}\n{PIN}\n")
    assert published.exit_code == 0, published.output
    assert verify_tree(path, NOW).versions["pump"] == 1


class Removed(Signer):
    """A token that is taken out after some signatures."""

    def __init__(self, signer: Signer, hsm: SoftHsm, after: int) -> None:
        self.signer, self.hsm, self.left = signer, hsm, after

    @property
    def public_key(self) -> SSlibKey:
        key = self.signer.public_key
        assert isinstance(key, SSlibKey)
        return key

    @classmethod
    def from_priv_key_uri(cls, *_: object) -> Removed:
        raise NotImplementedError

    def sign(self, payload: bytes) -> Signature:
        if self.left == 0:
            self.hsm.take_out()
        self.left -= 1
        return self.signer.sign(payload)


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_token_taken_out_half_way_leaves_what_the_same_command_can_finish(
    repository: Repository, hsm: SoftHsm, after: int
) -> None:
    signer = Removed(load_signer("hsm:1", None, pin), hsm, after)
    with pytest.raises(ToolError, match="key hsm:1: ") as failed:
        repository.sign(signer)
    assert "run the same command again" in str(failed.value.hint)
    state = repository.state()
    assert sum(len(draft.signatures) for draft in state.drafts.values()) == after
    while_out = hillhold("sign", repository.folder.path, "--key", "hsm:1?label=ada", "--yes", answers=f"{PIN}\n")
    assert while_out.exit_code == 3
    assert "hint: " in while_out.stderr
    hsm.put_back()
    again = hillhold("sign", repository.folder.path, "--key", "hsm:1?label=ada", "--yes", answers=f"{PIN}\n")
    assert again.exit_code == 0, again.output
    assert again.output.count("nothing changed") == after
    assert all(repository.state().quorum(role).complete for role in ("root", "targets", "pump"))


def test_a_token_taken_out_while_publishing_publishes_nothing(repository: Repository, hsm: SoftHsm) -> None:
    from hillhold_signer import OnlineSigners

    repository.sign(load_signer("hsm:1", None, pin))
    snapshot, timestamp = (load_signer(f"hsm:{keyid}", None, pin) for keyid in (2, 3))
    with pytest.raises(ToolError, match="key hsm:3: "):
        repository.publish(OnlineSigners(snapshot, Removed(timestamp, hsm, 0)), NOW)
    assert not list(repository.folder.public.rglob("*.json"))
    hsm.put_back()
    published = hillhold("publish", repository.folder.path, answers=f"{PIN}\n{PIN}\n")
    assert published.exit_code == 0, published.output
    verify_tree(repository.folder.path, NOW)


def test_a_module_that_is_unloaded_between_two_signatures_is_loaded_again(hsm: SoftHsm) -> None:
    hsm.key("ada", "ed25519", 1)
    signer = load_signer("hsm:1", None, pin)
    hsm.forget()
    signer.public_key.verify_signature(signer.sign(b"data"), b"data")


# --- images ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa-p256", "rsa-2048", "rsa-3072"])
def test_a_token_signs_an_image(hsm: SoftHsm, tmp_path: Path, kind: str) -> None:
    hsm.key("ada", kind, 1)
    (tmp_path / "raw.bin").write_bytes(firmware(1, 3000))
    words = ["image", "sign", tmp_path / "raw.bin", tmp_path / "app.bin", "--key", "hsm:1?label=ada", "--pad-header"]
    plan = ["--version", "1.0.0", "--security-counter", "3", "--header-size", "0x200", "--slot-size", "0x20000"]
    done = hillhold(*words, *plan, answers=f"{PIN}\n")
    assert done.exit_code == 0, done.output
    assert parse_image((tmp_path / "app.bin").read_bytes()).security_counter == 3


def test_a_token_taken_out_while_an_image_is_signed_writes_none(hsm: SoftHsm) -> None:
    hsm.key("ada", "ed25519", 1)
    signer = Removed(load_signer("hsm:1", None, pin), hsm, 0)
    plan = ImagePlan("1.0.0", 1, 0x200, 0x20000, True)
    with pytest.raises(ToolError, match="key hsm:1: "):
        sign_image(firmware(1), plan, signer)
    hsm.put_back()
    assert sign_image(firmware(1), plan, load_signer("hsm:1", None, pin))


def test_every_kind_here_is_one_that_devices_know() -> None:
    assert set(SCHEME.values()) < set(SCHEMES)
