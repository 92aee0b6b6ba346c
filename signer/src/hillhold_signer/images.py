"""Signing MCUboot images with any key URI, through imgtool's external-signature flow.

    imgtool sign --vector-to-sign …   ->  what is to be signed
    the key signs it                       (a file, an HSM, a KMS: imgtool never sees it)
    imgtool sign --fix-sig --fix-sig-pubkey  ->  the image

imgtool runs as a process of its own: its command line is its stable interface. For Ed25519 the message is the image's SHA-256;
for ECDSA and RSA the image itself is handed to the key, which hashes it. The result is read and verified as a bootloader would before it
is returned.
"""

from __future__ import annotations

import base64
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Final

from intelhex import HexReaderError, IntelHex
from securesystemslib.signer import Signer

from hillhold_signer.errors import ImageRefused, ToolError
from hillhold_signer.examples import refuse_public
from hillhold_signer.keys import public_pem
from hillhold_signer.products import MAX_COUNTER
from hillhold_signer.releases import MAX_IMAGE
from hillhold_verifier.errors import HillholdError, ImageError, ImageSignatureError, MetadataError
from hillhold_verifier.mcuboot import MAGIC, Dependency, ImageKey, ImageVersion, parse_image, verify_image
from hillhold_verifier.mcuboot_keys import KINDS
from hillhold_verifier.release import Version

TIMEOUT: Final = 120
"""Seconds for one run of imgtool."""
MAX_HEADER: Final = 64 * 1024
"""Bytes of an image header; its size field has 16 bits."""
MAX_IMAGE_NUMBER: Final = 255
"""Of an image that another depends on; MCUboot counts from 0."""
MAX_HEX: Final = 4 * MAX_IMAGE
"""Bytes of an Intel HEX file: some 2.8 characters for each byte."""

_VECTORS: Final = {"ed25519": "digest", "ecdsa-sha2-nistp256": "payload", "rsassa-pss-sha256": "payload"}


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """How an image is made.

    Attributes:
        version: MAJOR.MINOR.PATCH[+BUILD].
        security_counter: 0 to 2**32-1; None leaves it out, which Hillhold later refuses to add.
        header_size, slot_size: bytes.
        pad_header: put the header before the payload; otherwise the payload starts with that many zeros.
        dependencies: on other images, at most one on each.
    """

    version: str
    security_counter: int | None
    header_size: int
    slot_size: int
    pad_header: bool = False
    dependencies: tuple[Dependency, ...] = ()

    def check(self, payload: bytes, name: str = "the firmware") -> None:
        """Check that an image can be made of `payload`, without a key; raises `ImageRefused`."""
        if not 1 <= len(payload) <= MAX_IMAGE:
            raise ImageRefused("firmware", expected=f"1 to {MAX_IMAGE} bytes", got=len(payload))
        if is_image(payload):
            raise ImageRefused(
                f"{name} is an MCUboot image already{_version(payload)}", hint="sign the firmware that it was made of"
            )
        try:
            Version.parse(self.version)
        except MetadataError as error:
            raise ImageRefused(f"{error}") from error
        if not 32 <= self.header_size <= MAX_HEADER - 1:
            raise ImageRefused("header size", expected=f"32 to {MAX_HEADER - 1} bytes", got=self.header_size)
        if not 1 <= self.slot_size <= MAX_IMAGE * 4:
            raise ImageRefused("slot size", expected=f"1 to {MAX_IMAGE * 4} bytes", got=self.slot_size)
        if not self.pad_header and any(payload[: self.header_size]):
            hint = "give --pad-header to put the header before it"
            got = "other bytes"
            raise ImageRefused("start of the firmware", expected=f"{self.header_size} zeros", got=got, hint=hint)
        if self.security_counter is not None and not 0 <= self.security_counter <= MAX_COUNTER:
            raise ImageRefused("security counter", expected=f"0 to {MAX_COUNTER}", got=self.security_counter)
        for number, count in Counter(item.image for item in self.dependencies).items():
            if not 0 <= number <= MAX_IMAGE_NUMBER:
                raise ImageRefused("image number", expected=f"0 to {MAX_IMAGE_NUMBER}", got=number)
            if count > 1:
                raise ImageRefused(f"dependency on image {number}", expected="one", got=count)


def sign_image(payload: bytes, plan: ImagePlan, signer: Signer, *, demo: bool = False) -> bytes:
    """Return the signed image.

    Args:
        payload: the raw firmware.
        demo: allow example keys and MCUboot's published samples.

    Raises:
        ImageRefused: the plan or payload, in our words or imgtool's.
        PublicKeyMaterialRefused: a key whose private part is public.
        ToolError: imgtool or the key failed.
    """
    key = signer.public_key
    refuse_public(key, demo=demo)
    vector = _VECTORS.get(key.scheme)
    try:
        image_key = ImageKey.from_pem(public_pem(key))
        if vector is None:
            raise ImageSignatureError("image key", expected=KINDS, got=key.scheme)
    except ImageSignatureError as error:
        hint = "MCUboot can be built for P-384, too; no part of Hillhold reads such an image"
        raise ImageRefused(str(error), hint=hint) from error
    plan.check(payload)
    arguments = _arguments(plan)
    with tempfile.TemporaryDirectory(prefix="hillhold-") as name:
        folder = Path(name)
        source, message, result = folder / "in.bin", folder / "message.bin", folder / "out.bin"
        source.write_bytes(payload)
        _imgtool([*arguments, "--vector-to-sign", vector, str(source), str(message)])
        try:
            signature = bytes.fromhex(signer.sign(message.read_bytes()).signature)
        except HillholdError:
            raise
        except Exception as error:  # securesystemslib: a signer may raise anything
            raise ToolError(f"the key could not sign: {error}", hint="run the command again") from error
        (folder / "signature").write_bytes(base64.b64encode(signature))
        (folder / "key.pem").write_bytes(public_pem(key))
        fixed = ["--fix-sig", str(folder / "signature"), "--fix-sig-pubkey", str(folder / "key.pem")]
        _imgtool([*arguments, *fixed, str(source), str(result)])
        image = result.read_bytes()
    _check_image(image, image_key, plan)
    return image


def parse_dependency(text: str) -> Dependency:
    """Parse IMAGE:VERSION, such as 1:1.2.0; raises `ImageRefused`."""
    number, _, version = text.partition(":")
    try:
        least = Version.parse(version)
        if re.fullmatch("0|[1-9][0-9]{0,2}", number):
            return Dependency(int(number), ImageVersion(least.major, least.minor, least.patch, least.build))
    except MetadataError:
        pass
    raise ImageRefused("dependency", expected="IMAGE:VERSION, such as 1:1.2.0", got=repr(text)[:80])


def _check_image(image: bytes, key: ImageKey, plan: ImagePlan) -> None:
    """Verify an image as a bootloader does, and that it says what was planned; raises `ImageRefused`."""
    try:
        found = parse_image(image)
        verify_image(found, lambda offset, length: image[offset : offset + length], [key])
    except (ImageError, ImageSignatureError) as error:
        raise ImageRefused(f"the signed image does not verify: {error}") from error
    said, planned = _said(found.dependencies), _said(plan.dependencies)
    if said != planned:
        raise ImageRefused("dependencies of the signed image", expected=planned, got=said)


def is_image(data: bytes) -> bool:
    """Say whether data start as an MCUboot image does; no firmware does, whose first word is its stack pointer."""
    return data[:4] == MAGIC.to_bytes(4, "little")


def _version(data: bytes) -> str:
    try:
        return f" ({parse_image(data).version})"
    except ImageError:
        return ""


def read_firmware(data: bytes, name: str) -> bytes:
    """Return raw firmware: `data` itself, or the bytes of an Intel HEX file if `name` ends in .hex.

    Raises:
        ImageRefused: malformed, or more than `MAX_IMAGE` bytes from its lowest to its highest address.
    """
    if not name.lower().endswith(".hex"):
        return data
    if len(data) > MAX_HEX:
        raise ImageRefused(name, expected=f"at most {MAX_HEX} bytes", got=len(data))
    try:
        image = IntelHex(StringIO(data.decode("ascii")))
        low, high = image.minaddr(), image.maxaddr()
    except (HexReaderError, UnicodeDecodeError, ValueError) as error:
        raise ImageRefused(name, expected="Intel HEX", got=str(error)[:80]) from error
    if low is None or high is None:
        raise ImageRefused(name, expected="Intel HEX with data", got="none")
    if high - low >= MAX_IMAGE:
        hint = "it holds more than the application (UICR settings?); cut it with objcopy or `bin2hex.py`"
        raise ImageRefused(name, expected=f"at most {MAX_IMAGE} bytes", got=f"{high - low + 1}", hint=hint)
    return bytes(image.tobinarray())


def _arguments(plan: ImagePlan) -> list[str]:
    arguments = ["--version", plan.version, "--header-size", str(plan.header_size), "--slot-size", str(plan.slot_size)]
    if plan.security_counter is not None:
        arguments += ["--security-counter", str(plan.security_counter)]
    if plan.dependencies:
        arguments += ["--dependencies", _said(plan.dependencies)]
    return [*arguments, "--pad-header"] if plan.pad_header else arguments


def _said(dependencies: Sequence[Dependency]) -> str:
    """Say dependencies as imgtool wants them."""
    return "".join(f"({item.image}, {item.least})" for item in dependencies)


def _imgtool(arguments: list[str]) -> None:
    command = [sys.executable, "-I", "-m", "imgtool.main", "sign", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(f"imgtool: {error}") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise ImageRefused(f"imgtool: {said[-1].removeprefix('Error: ') if said else 'failed'}")
