"""imgtool and Hillhold, by their commands alone: what one signs the other verifies, with keys that either of them made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hillhold_verifier.errors import ImageSignatureError
from hillhold_verifier.mcuboot import Dependency, ImageKey, ImageVersion, parse_image, verify_image
from workshop import firmware

KINDS = {"ed25519": "ed25519", "ecdsa-p256": "ecdsa-p256", "rsa-3072": "rsa-pss", "rsa-2048": None}
"""imgtool's name of a kind of key, and ours: None where `hillhold key new` does not make it."""
PLAN = ("--version", "1.2.3+4", "--security-counter", "7", "--header-size", "0x200", "--slot-size", "0x20000")


def run(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def imgtool(*arguments: object) -> str:
    done = run("imgtool.main", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def hillhold(*arguments: object) -> str:
    done = run("hillhold_signer.cli", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(params=[(kind, maker) for kind, ours in KINDS.items() for maker in ("imgtool", ours) if maker])
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A private key that imgtool made, or Hillhold, and the public one that the same tool made of it."""
    kind, maker = request.param
    private, public = tmp_path / "boot.pem", tmp_path / "boot.pub"
    if maker == "imgtool":
        imgtool("keygen", "-t", kind, "-k", private)
        imgtool("getpub", "-k", private, "-e", "pem", "-o", public)
    else:
        hillhold("key", "new", tmp_path / "boot", "--type", maker, "--no-passphrase")
    return private, public


def test_hillhold_verifies_what_imgtool_signs(keys: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "in.bin").write_bytes(firmware(1, 2000))
    wanted = ("--dependencies", "(1, 2.3.4)(5, 0.0.1+9)")
    imgtool("sign", "-k", keys[0], *PLAN, "--pad-header", *wanted, tmp_path / "in.bin", tmp_path / "out.bin")
    data = (tmp_path / "out.bin").read_bytes()
    image, key = parse_image(data), ImageKey.from_pem(keys[1].read_bytes())

    def read(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    assert verify_image(image, read, [key]) == key
    assert image.dependencies == (Dependency(1, ImageVersion(2, 3, 4)), Dependency(5, ImageVersion(0, 0, 1, 9)))
    data = data[:600] + bytes([data[600] ^ 1]) + data[601:]
    with pytest.raises(ImageSignatureError, match="image hash"):
        verify_image(image, read, [key])


def test_imgtool_verifies_what_hillhold_signs(keys: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "in.bin").write_bytes(firmware(1, 2000))
    wanted = ("--dependency", "1:2.3.4", "--dependency", "5:0.0.1+9", "--pad-header", "--json")
    said = json.loads(
        hillhold("image", "sign", tmp_path / "in.bin", tmp_path / "out.bin", "--key", f"file:{keys[0]}", *PLAN, *wanted)
    )
    assert said["dependencies"] == [{"image": 1, "version": "2.3.4"}, {"image": 5, "version": "0.0.1+9"}]
    told = imgtool("verify", "-k", keys[1], tmp_path / "out.bin")
    assert "Image was correctly validated" in told
    assert "Image version: 1.2.3+4" in told
    # What both sign differs in the signature alone, and for Ed25519 not even there.
    both = ("--dependencies", "(1, 2.3.4)(5, 0.0.1+9)", "--pad-header")
    imgtool("sign", "-k", keys[0], *PLAN, *both, tmp_path / "in.bin", tmp_path / "theirs.bin")
    theirs, ours = ((tmp_path / name).read_bytes() for name in ("theirs.bin", "out.bin"))
    assert parse_image(theirs).tlvs[:-1] == parse_image(ours).tlvs[:-1]
    assert theirs[: parse_image(theirs).signed_length] == ours[: parse_image(ours).signed_length]
    changed = ours[:600] + bytes([ours[600] ^ 1]) + ours[601:]
    (tmp_path / "out.bin").write_bytes(changed)
    assert run("imgtool.main", "verify", "-k", keys[1], tmp_path / "out.bin").returncode


def test_a_key_is_named_as_imgtool_names_it(keys: tuple[Path, Path], tmp_path: Path) -> None:
    imgtool("getpubhash", "-k", keys[0], "-e", "raw", "-o", tmp_path / "hash")
    said = json.loads(hillhold("key", "show", keys[1], "--json"))
    assert said["image_key_hash"] == (tmp_path / "hash").read_bytes().hex()
