"""Signing images: what comes out is what imgtool itself would make, and verifies as the bootloader does."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from intelhex import IntelHex
from securesystemslib.signer import CryptoSigner, Signature, SSlibKey

from hillhold_signer import ImagePlan, example_signer, sign_image
from hillhold_signer.errors import ImageRefused, PublicKeyMaterialRefused
from hillhold_signer.images import parse_dependency, read_firmware
from hillhold_signer.keyfiles import KINDS, generate
from hillhold_signer.keys import public_pem
from hillhold_verifier.mcuboot import Dependency, ImageKey, ImageVersion, parse_image, verify_image
from hillhold_verifier.mcuboot_keys import KINDS as IMAGE_KINDS
from workshop import firmware

PLAN = ImagePlan("1.2.3+4", 7, 0x200, 0x20000, True)
FIRMWARE = firmware(1, 2000)
RSA_2048 = rsa.generate_private_key(65537, 2048)


def test_an_ed25519_image_is_byte_for_byte_what_imgtool_makes_with_the_raw_key(tmp_path: Path) -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "key.pem").write_bytes(pem)
    (tmp_path / "in.bin").write_bytes(FIRMWARE)
    options = [
        "-k",
        str(tmp_path / "key.pem"),
        "-v",
        "1.2.3+4",
        "-s",
        "7",
        "-H",
        "0x200",
        "-S",
        "0x20000",
        "--pad-header",
    ]
    command = [sys.executable, "-m", "imgtool.main", "sign", *options]
    subprocess.run([*command, tmp_path / "in.bin", tmp_path / "out.bin"], capture_output=True, check=True)
    assert sign_image(FIRMWARE, PLAN, CryptoSigner(private)) == (tmp_path / "out.bin").read_bytes()


def test_a_payload_with_room_for_its_header_needs_no_padding() -> None:
    signer = CryptoSigner.generate_ed25519()
    padded = sign_image(bytes(0x200) + FIRMWARE, ImagePlan("1.0.0", 1, 0x200, 0x20000), signer)
    assert parse_image(padded).payload_size == len(FIRMWARE)


@pytest.mark.parametrize(
    ("firmware", "plan", "says"),
    [
        (b"", PLAN, "firmware"),
        (FIRMWARE, ImagePlan("1.0.0", 1, 0x200, 0x20000), "512 zeros"),
        (FIRMWARE, ImagePlan("1.0.0-rc1", 1, 0x200, 0x20000, True), "version"),
        (FIRMWARE, ImagePlan("300.0.0", 1, 0x200, 0x20000, True), "version"),
        (FIRMWARE, ImagePlan("1.0.0", 2**32, 0x200, 0x20000, True), "security counter"),
        (FIRMWARE, ImagePlan("1.0.0", -1, 0x200, 0x20000, True), "security counter"),
        (FIRMWARE, ImagePlan("1.0.0", 1, 16, 0x20000, True), "header size"),
        (FIRMWARE, ImagePlan("1.0.0", 1, 0x200, 0, True), "slot size"),
        (FIRMWARE, ImagePlan("1.0.0", 1, 0x200, 1000, True), "imgtool: .*exceeds requested size"),
    ],
)
def test_plans_that_make_no_image(firmware: bytes, plan: ImagePlan, says: str) -> None:
    with pytest.raises(ImageRefused, match=says):
        sign_image(firmware, plan, CryptoSigner.generate_ed25519())


@pytest.mark.parametrize("private", [generate("ed25519"), generate("ecdsa-p256"), generate("rsa-pss"), RSA_2048])
def test_every_kind_of_image_key_signs(private: PrivateKeyTypes) -> None:
    signer = CryptoSigner(private)
    data = sign_image(FIRMWARE, PLAN, signer)
    image = parse_image(data)
    assert (image.version, image.security_counter) == (ImageVersion(1, 2, 3, 4), 7)
    assert data[0x200 : 0x200 + len(FIRMWARE)] == FIRMWARE
    key = ImageKey.from_pem(public_pem(signer.public_key))
    assert verify_image(image, lambda offset, length: data[offset : offset + length], [key]) == key


def test_keys_that_sign_no_image() -> None:
    with pytest.raises(PublicKeyMaterialRefused):
        sign_image(FIRMWARE, PLAN, example_signer("image"))
    assert sign_image(FIRMWARE, PLAN, example_signer("image"), demo=True)
    others = {kind: generate(kind) for kind in set(KINDS) - {"ed25519", "ecdsa-p256", "rsa-pss"}}
    others |= {
        "RSA-4096": rsa.generate_private_key(65537, 4096),
        "RSA-2048 with the exponent 0x3": rsa.generate_private_key(3, 2048),
    }
    names = {"ecdsa-p384": "ECDSA P-384", "ml-dsa-44": "MLDSA44", "ml-dsa-65": "MLDSA65", "ml-dsa-87": "MLDSA87"}
    for kind, private in others.items():
        with pytest.raises(ImageRefused, match=f"expected {IMAGE_KINDS}, got {names.get(kind, kind)}") as refused:
            sign_image(FIRMWARE, PLAN, CryptoSigner(private))
        assert "MCUboot" in str(refused.value.hint)


def test_an_rsa_key_that_is_said_to_sign_in_another_way_signs_no_image() -> None:
    for scheme in ("rsassa-pss-sha512", "rsa-pkcs1v15-sha256"):
        key = SSlibKey.from_crypto(RSA_2048.public_key(), scheme=scheme)
        with pytest.raises(ImageRefused, match=f"expected {IMAGE_KINDS}, got {scheme}"):
            sign_image(FIRMWARE, PLAN, CryptoSigner(RSA_2048, key))


def test_a_key_service_that_signs_with_another_salt_makes_no_image() -> None:
    class Salted(CryptoSigner):
        def sign(self, payload: bytes) -> Signature:
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH)
            return Signature(self.public_key.keyid, RSA_2048.sign(payload, pss, hashes.SHA256()).hex())

    with pytest.raises(ImageRefused, match="does not verify"):
        sign_image(FIRMWARE, PLAN, Salted(RSA_2048))


def test_dependencies_are_signed_as_they_were_planned() -> None:
    wanted = (Dependency(255, ImageVersion(255, 255, 65535, 2**32 - 1)), Dependency(0, ImageVersion(0, 0, 0)))
    plan = replace(PLAN, dependencies=wanted)
    assert parse_image(sign_image(FIRMWARE, plan, CryptoSigner.generate_ed25519())).dependencies == wanted


def test_dependencies_that_no_bootloader_can_meet() -> None:
    one, signer = Dependency(1, ImageVersion(1, 0, 0)), CryptoSigner.generate_ed25519()
    for dependencies, says in (
        ((one, one._replace(least=ImageVersion(2, 0, 0))), "dependency on image 1: expected one, got 2"),
        ((one._replace(image=256),), "image number: expected 0 to 255, got 256"),
        ((one._replace(image=-1),), "image number: expected 0 to 255, got -1"),
        (tuple(one._replace(image=number) for number in range(64)), "does not verify: number of TLVs"),
    ):
        with pytest.raises(ImageRefused, match=says):
            sign_image(FIRMWARE, replace(PLAN, dependencies=dependencies), signer)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0:0.0.0", (0, "0.0.0")),
        ("1:1.2.3", (1, "1.2.3")),
        ("255:255.255.65535+4294967295", (255, "255.255.65535+4294967295")),
    ],
)
def test_a_dependency_in_words(text: str, expected: tuple[int, str]) -> None:
    found = parse_dependency(text)
    assert (found.image, str(found.least)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1:",
        ":1.0.0",
        "1:1.0",
        "01:1.0.0",
        "-1:1.0.0",
        "1:256.0.0",
        "1:1.0.0+0",
        "1:1.0.0)(2, 2.0.0",
        "1000:1.0.0",
        "\u0661:1.0.0",
    ],
)
def test_words_that_are_no_dependency(text: str) -> None:
    with pytest.raises(ImageRefused, match=re.escape(f"expected IMAGE:VERSION, such as 1:1.2.0, got {text!r}")):
        parse_dependency(text)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa-p256", "rsa-pss"])
def test_a_key_that_signs_something_else_makes_no_image(kind: str) -> None:
    """A broken token, or a key service that answers for another key."""

    class Broken(CryptoSigner):
        def sign(self, payload: bytes) -> Signature:
            return super().sign(payload + b"!")

    with pytest.raises(ImageRefused, match="does not verify"):
        sign_image(FIRMWARE, PLAN, Broken(generate(kind)))


def test_intel_hex() -> None:
    source = IntelHex()
    source.frombytes(FIRMWARE, offset=0x8000)
    text = StringIO()
    source.tofile(text, "hex")
    assert read_firmware(text.getvalue().encode(), "app.HEX") == FIRMWARE
    assert read_firmware(FIRMWARE, "app.bin") == FIRMWARE
    far = IntelHex()
    far[0] = 1
    far[0xFFFFFFFF] = 1
    wide = StringIO()
    far.tofile(wide, "hex")
    for data, says in (
        (wide.getvalue().encode(), "at most"),
        (b"\xff", "Intel HEX"),
        (b":zz", "Intel HEX"),
        (b"", "none"),
    ):
        with pytest.raises(ImageRefused, match=says):
            read_firmware(data, "app.hex")
