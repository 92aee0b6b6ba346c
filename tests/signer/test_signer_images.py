"""Signing images: what comes out is what imgtool itself would make, and verifies as the bootloader does."""

from __future__ import annotations

import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from intelhex import IntelHex
from securesystemslib.signer import CryptoSigner, Signature

from hillhold_signer import ImagePlan, example_signer, sign_image
from hillhold_signer.errors import ImageRefused, PublicKeyMaterialRefused
from hillhold_signer.images import read_firmware
from hillhold_signer.keyfiles import KINDS, generate
from hillhold_signer.keys import public_pem
from hillhold_verifier.mcuboot import ImageVersion, parse_image
from workshop import firmware

PLAN = ImagePlan("1.2.3+4", 7, 0x200, 0x20000, True)
FIRMWARE = firmware(1, 2000)


def imgtool(*arguments: str) -> str:
    command = [sys.executable, "-m", "imgtool.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa-p256"])
def test_imgtool_verifies_the_image(tmp_path: Path, kind: str) -> None:
    private = ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(ec.SECP256R1())
    signer = CryptoSigner(private)
    signed = sign_image(FIRMWARE, PLAN, signer)
    image = parse_image(signed)
    assert image.version == ImageVersion(1, 2, 3, 4)
    assert image.security_counter == 7
    assert signed[0x200 : 0x200 + len(FIRMWARE)] == FIRMWARE
    (tmp_path / "image.bin").write_bytes(signed)
    (tmp_path / "key.pub").write_bytes(public_pem(signer.public_key))
    assert "correctly validated" in imgtool("verify", "-k", str(tmp_path / "key.pub"), str(tmp_path / "image.bin"))


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
    imgtool("sign", *options, str(tmp_path / "in.bin"), str(tmp_path / "out.bin"))
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


def test_keys_that_sign_no_image() -> None:
    with pytest.raises(PublicKeyMaterialRefused):
        sign_image(FIRMWARE, PLAN, example_signer("image"))
    assert sign_image(FIRMWARE, PLAN, example_signer("image"), demo=True)
    for kind in set(KINDS) - {"ed25519", "ecdsa-p256"}:
        with pytest.raises(ImageRefused, match="expected Ed25519 or ECDSA P-256, got") as refused:
            sign_image(FIRMWARE, PLAN, CryptoSigner(generate(kind)))
        assert "MCUboot" in str(refused.value.hint)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa-p256"])
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
