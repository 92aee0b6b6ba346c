"""Key files, key URIs, and the keys that everybody has."""

from __future__ import annotations

import hashlib
import os
import runpy
import select
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, Signer, SSlibKey

from hillhold_signer import example_signer, load_public, load_signer
from hillhold_signer.cli.terminal import secrets
from hillhold_signer.errors import KeyRefused, PassphraseRefused, PublicKeyMaterialRefused, StorageError, ToolError
from hillhold_signer.examples import MCUBOOT_SAMPLES, NAMES, PREFIX, public_name, refuse_public
from hillhold_signer.keyfiles import KINDS, Person, generate, load_private, write_key
from hillhold_signer.keys import EXTRAS, fingerprint, inspect, inspect_folder

KEYS_EXAMPLE = Path(__file__).parents[2] / "keys-example"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("passphrase", ["correct horse", None])
def test_a_key_signs_through_securesystemslibs_own_dispatch(tmp_path: Path, kind: str, passphrase: str | None) -> None:
    private, public = write_key(tmp_path / "ada", generate(kind), passphrase)
    key = load_public(public)
    asked: list[str] = []

    def secrets(what: str) -> str:
        asked.append(what)
        return passphrase or ""

    signer = Signer.from_priv_key_uri(f"file:{private}", key, secrets)
    key.verify_signature(signer.sign(b"data"), b"data")
    assert asked == ([f"passphrase of {private}"] if passphrase else [])
    assert signer.public_key.keyid == key.keyid
    label = b"ENCRYPTED PRIVATE KEY" if passphrase else b"BEGIN PRIVATE KEY"
    assert label in private.read_bytes()
    if sys.platform != "win32":
        assert stat.S_IMODE(private.stat().st_mode) == 0o600


@pytest.mark.parametrize("form", ["file:{}", "file://{}"])
def test_forms_of_a_file_uri(tmp_path: Path, form: str) -> None:
    private, public = write_key(tmp_path / "ada", generate(), None)
    assert load_signer(form.format(private)).public_key.keyid == load_public(public).keyid


def test_file2_keeps_working(tmp_path: Path) -> None:
    private, public = write_key(tmp_path / "ada", generate(), None)
    signer = load_signer(f"file2:{private}")
    load_public(public).verify_signature(signer.sign(b"data"), b"data")


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    write_key(tmp_path / "ada", generate(), None)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(KeyRefused, match="exists"):
        write_key(tmp_path / "ada", generate(), None)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_wrong_missing_and_empty_passphrases(tmp_path: Path) -> None:
    private, _ = write_key(tmp_path / "ada", generate(), "right")
    for answer in ("wrong", ""):
        with pytest.raises(KeyRefused, match="passphrase"):
            load_signer(f"file:{private}", secrets=lambda _, answer=answer: answer)  # type: ignore[misc]
    with pytest.raises(KeyRefused, match="a passphrase, since the key is encrypted"):
        load_private(private, None)
    with pytest.raises(KeyRefused, match="not empty"):
        write_key(tmp_path / "grace", generate(), "")
    assert not (tmp_path / "grace.pem").exists()


def test_a_person_is_asked_again_after_a_wrong_passphrase_and_anything_else_is_not(tmp_path: Path) -> None:
    private, _ = write_key(tmp_path / "ada", generate(), "right")

    def ask(answers: list[str], told: list[str] | None) -> None:
        def answer(_: str) -> str:
            return answers.pop(0)

        load_signer(f"file:{private}", secrets=answer if told is None else Person(answer, told.append))

    told: list[str] = []
    ask(["wrong", "", "right"], told)
    assert [line.partition(" for ")[0] for line in told][:1] == ["wrong passphrase"]
    assert len(told) == 2
    left = ["wrong", "wrong", "wrong", "right"]
    with pytest.raises(PassphraseRefused, match="wrong passphrase"):
        ask(left, [])
    assert left == ["right"]
    left = ["wrong", "right"]
    with pytest.raises(PassphraseRefused, match="wrong passphrase"):
        ask(left, None)
    assert left == ["right"]


def test_a_descriptor_gives_one_line_for_each_key_and_none_after_a_wrong_one(tmp_path: Path) -> None:
    private, _ = write_key(tmp_path / "ada", generate(), "right")
    (tmp_path / "phrases").write_bytes(b"wrong\r\nright\n")
    with (tmp_path / "phrases").open("rb") as file:
        handler = secrets(file.fileno())
    with pytest.raises(PassphraseRefused, match="wrong passphrase"):
        load_signer(f"file:{private}", secrets=handler)
    load_signer(f"file:{private}", secrets=handler)  # the next key's line
    with pytest.raises(PassphraseRefused, match="got none"):
        load_signer(f"file:{private}", secrets=handler)


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal")
@pytest.mark.parametrize("answers", [["wrong", "wrong", "right"], ["wrong", "wrong", "wrong"]])
def test_at_a_terminal_a_wrong_passphrase_is_asked_for_again(tmp_path: Path, answers: list[str]) -> None:
    private, _ = write_key(tmp_path / "ada", generate(), "right")
    raw, out = tmp_path / "raw.bin", tmp_path / "out.bin"
    raw.write_bytes(bytes(1000))
    ours, theirs = os.openpty()
    child = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); from hillhold_signer.cli import main; main()"
    command = [sys.executable, "-c", child, "image", "sign", str(raw), str(out), "--pad-header"]
    command += ["--key", f"file:{private}", "--version", "1.0.0", "--security-counter", "1"]
    command += ["--header-size", "512", "--slot-size", "0x20000"]
    shown = b""
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as running:
        os.close(theirs)
        for answer in answers:
            shown += _until(ours, b"Passphrase of ")
            shown += _until(ours, b": ")
            os.write(ours, answer.encode() + b"\n")
        right = answers[-1] == "right"
        shown += _until(ours, b"image hash" if right else b"hint: ")
        assert running.wait(timeout=60) == (0 if right else 1)
    os.close(ours)
    assert shown.count(b"once more") == 2
    assert (b"error: wrong passphrase" in shown) is not right
    assert out.exists() is right
    assert not any(answer.encode() + b"\r\n" in shown for answer in ("wrong", "right"))  # nothing is echoed


def _until(terminal: int, mark: bytes) -> bytes:
    seen = b""
    while mark not in seen:
        assert select.select([terminal], [], [], 60)[0], seen
        seen += os.read(terminal, 1)
    return seen


@pytest.mark.parametrize(
    ("uri", "extra"), [("awskms:x", "aws"), ("gcpkms:x", "gcp"), ("azurekms:x", "azure"), ("hv:x/1", "vault")]
)
def test_a_scheme_whose_library_is_missing_says_how_to_get_it(
    uri: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = "a library is missing"  # whether or not other tests need it
    monkeypatch.setattr("securesystemslib.signer._aws_signer.AWS_IMPORT_ERROR", missing)
    with pytest.raises(ToolError, match="a library is missing") as failed:
        load_signer(uri, SSlibKey.from_crypto(ec.generate_private_key(ec.SECP256R1()).public_key()))
    assert failed.value.hint == f"pip install 'hillhold-signer[{extra}]'"
    assert extra in EXTRAS.values()


def test_tokens_without_their_library_say_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(ToolError, match="key hsm:1: a library is missing") as failed:
        load_signer("hsm:1", None, lambda _: "1234")
    assert failed.value.hint == "pip install 'hillhold-signer[hsm]'"


def test_every_extra_is_one_of_the_distribution() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "signer" / "pyproject.toml").read_text())["project"]
    assert set(project["optional-dependencies"]) == {*EXTRAS.values(), "service"}
    assert set(EXTRAS) < set(SIGNER_FOR_URI_SCHEME)


@pytest.mark.parametrize(
    ("private", "got"),
    [
        (ec.generate_private_key(ec.SECP521R1()), "521 bits"),
        (rsa.generate_private_key(65537, 1024), "RSAPublicKey of 1024 bits"),
        (rsa.generate_private_key(3, 2048), None),
        (ed448.Ed448PrivateKey.generate(), "Ed448"),
    ],
)
def test_a_key_that_no_device_could_use_is_refused_before_a_role_gets_it(
    tmp_path: Path, private: ec.EllipticCurvePrivateKey, got: str | None
) -> None:
    pem, public = write_key(tmp_path / "ada", private, None)
    if got is None:
        load_signer(f"file:{pem}").public_key.verify_signature(load_signer(f"file:{pem}").sign(b""), b"")
        return
    for look in (lambda: load_public(public), lambda: load_signer(f"file:{pem}"), lambda: inspect(pem)):
        with pytest.raises(KeyRefused, match=got):
            look()


def test_another_key_than_the_one_expected(tmp_path: Path) -> None:
    private, _ = write_key(tmp_path / "ada", generate(), None)
    with pytest.raises(KeyRefused, match="another key"):
        load_signer(f"file:{private}", example_signer("root-1").public_key)


def test_uris_that_lead_nowhere(tmp_path: Path) -> None:
    for uri in ("ada.pem", "gopher:ada", "", "file:"):
        with pytest.raises(KeyRefused, match="key URI"):
            load_signer(uri)
    with pytest.raises(KeyRefused, match="its public key"):
        load_signer("awskms:ada")
    with pytest.raises(StorageError, match="no such file"):
        load_signer(f"file:{tmp_path / 'none.pem'}")
    with pytest.raises(KeyRefused, match="kind of key"):
        generate("rsa-512")


def test_a_private_key_is_not_taken_for_a_public_one(tmp_path: Path) -> None:
    private, _ = write_key(tmp_path / "ada", generate(), None)
    with pytest.raises(KeyRefused, match="a private key") as refused:
        load_public(private)
    assert refused.value.hint
    assert "ada.pub" in refused.value.hint


def test_what_is_no_signing_key(tmp_path: Path) -> None:
    pem, spki = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    exchange = tmp_path / "exchange.pub"
    exchange.write_bytes(x25519.X25519PrivateKey.generate().public_key().public_bytes(pem, spki))
    junk = tmp_path / "junk.pub"
    junk.write_bytes(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    for path in (exchange, junk):
        with pytest.raises(KeyRefused):
            load_public(path)
    assert inspect_folder(tmp_path) == []


def test_what_can_be_known_without_a_passphrase(tmp_path: Path) -> None:
    private, public = write_key(tmp_path / "ada", generate("ecdsa-p256"), "secret")
    info = inspect(private)
    assert info.private == "encrypted"
    assert info.public_from == public
    key = serialization.load_pem_public_key(public.read_bytes())
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert info.fingerprint == hashlib.sha256(der).hexdigest()
    assert [item.path.name for item in inspect_folder(tmp_path)] == ["ada.pem", "ada.pub"]
    public.unlink()
    with pytest.raises(KeyRefused, match=r"its public key in ada\.pub"):
        inspect(private)


def test_example_keys_are_what_the_design_says() -> None:
    seed = hashlib.sha256(b"hillhold example key, public on purpose: root-1").digest()
    expected = SSlibKey.from_crypto(ed25519.Ed25519PrivateKey.from_private_bytes(seed).public_key())
    assert example_signer("root-1").public_key == expected
    assert PREFIX.endswith(b": ")
    assert len({example_signer(name).public_key.keyid for name in NAMES}) == len(NAMES) == 13
    with pytest.raises(KeyRefused, match="one of root-1"):
        example_signer("ceo")


def test_the_folder_of_example_keys_is_what_its_script_makes() -> None:
    made = runpy.run_path(str(KEYS_EXAMPLE / "make.py"))["key_files"]()
    there = {path.name: path.read_bytes() for path in KEYS_EXAMPLE.iterdir() if path.suffix in (".pem", ".pub")}
    assert there == made
    assert len(made) == 2 * len(NAMES)
    assert all("public-on-purpose" in name for name in made)


def test_an_example_key_is_known_by_itself_whatever_it_is_called(tmp_path: Path) -> None:
    path = tmp_path / "innocent.pem"
    path.write_bytes((KEYS_EXAMPLE / "root-1-public-on-purpose.pem").read_bytes())
    signer = load_signer(f"file:{path}")
    assert public_name(signer.public_key) == "the example key 'root-1'"
    renamed = SSlibKey("f" * 64, "ed25519", "ed25519", dict(signer.public_key.keyval))
    with pytest.raises(PublicKeyMaterialRefused):
        refuse_public(renamed, demo=False)
    refuse_public(renamed, demo=True)
    own = SSlibKey.from_crypto(ec.generate_private_key(ec.SECP256R1()).public_key())
    refuse_public(own, demo=False)
    assert public_name(own) is None


def test_mcuboots_samples_are_known_by_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(len(mark) == 64 and name.endswith(".pem") for mark, name in MCUBOOT_SAMPLES.items())
    key = SSlibKey.from_crypto(ed25519.Ed25519PrivateKey.generate().public_key())
    monkeypatch.setitem(MCUBOOT_SAMPLES, fingerprint(key), "root-test.pem")
    with pytest.raises(PublicKeyMaterialRefused, match=r"MCUboot's published sample key root-test\.pem"):
        refuse_public(key, demo=False)
