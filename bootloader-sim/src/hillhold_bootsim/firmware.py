"""Real microcontroller firmware for demonstrations: MicroPython for the BBC micro:bit, as its `uflash` packages carry it.

Nothing of it is part of Hillhold. pip downloads two source archives by their hashes; the Intel HEX text is read out of `uflash.py`
as a literal, and nothing of the package is executed by us.
"""

from __future__ import annotations

import ast
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from intelhex import HexRecordError, IntelHex

from hillhold_verifier.errors import OperationalError

LICENCE: Final = "MIT (MicroPython: Damien P. George and others; uflash: Nicholas H. Tollervey and others)"
ORIGIN: Final = "MicroPython for the BBC micro:bit, from the source archives of uflash"
ARCHIVES: Final = {
    "1.1.1": "e147e1648e10f391f8b50c5d9d8d461d1b894f34548a7fc544dcd6341a2b76c5",
    "1.2.4": "92f7f51e00e9f48cf818226e375017b103715511e27817c80943f747a5ebecd8",
}
"""SHA-256 of the source archive of each version."""
_LITERAL: Final = "_RUNTIME"
_MAX_SOURCE: Final = 4 * 1024 * 1024
_MAX_FLASH: Final = 1024 * 1024
_TIMEOUT: Final = 300


@dataclass(frozen=True, slots=True)
class Firmware:
    """A raw binary and where it comes from."""

    version: str
    data: bytes
    archive: str


def default_cache() -> Path:
    """Return the folder in which downloads are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hillhold"


def fetch(cache: Path) -> tuple[Firmware, ...]:
    """Return both versions, older first; downloads what `cache` lacks.

    Raises:
        OperationalError: pip cannot download, or an archive is not what it was.
    """
    return tuple(_firmware(version, digest, cache) for version, digest in ARCHIVES.items())


def _firmware(version: str, digest: str, cache: Path) -> Firmware:
    archive = cache / f"uflash-{version}.tar.gz"
    if not archive.is_file() or _sha256(archive) != digest:
        _download(version, digest, cache)
    if _sha256(archive) != digest:
        raise OperationalError(f"{archive.name}: expected SHA-256 {digest}, got {_sha256(archive)}")
    try:
        with tarfile.open(archive) as tar, tar.extractfile(f"uflash-{version}/uflash.py") or io.BytesIO() as file:
            source = file.read(_MAX_SOURCE)
    except (OSError, KeyError, tarfile.TarError) as error:
        raise OperationalError(f"{archive.name}: {error}") from None
    return Firmware(version, _binary(_literal(source)), archive.name)


def _download(version: str, digest: str, cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        requirement = Path(folder) / "requirements.txt"
        requirement.write_text(f"uflash=={version} --hash=sha256:{digest}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        command += ["--disable-pip-version-check", "--require-hashes", "-r", str(requirement), "-d", folder]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as error:
            raise OperationalError(f"pip download uflash=={version}: {error}") from None
        found = Path(folder) / f"uflash-{version}.tar.gz"
        if done.returncode or not found.is_file():
            words = (done.stderr.strip().splitlines() or ["it left no archive"])[-1]
            raise OperationalError(f"pip download uflash=={version}: {words}")
        kept = cache / f".{found.name}.part"
        kept.write_bytes(found.read_bytes())
        kept.replace(cache / found.name)


def _literal(source: bytes) -> str:
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == _LITERAL for t in node.targets):
            value = ast.literal_eval(node.value)
            if isinstance(value, str):
                return value
    raise OperationalError(f"uflash.py holds no {_LITERAL}")


def _binary(text: str) -> bytes:
    try:
        image = IntelHex(io.StringIO(text))
        # Addresses beyond the flash are configuration registers of the chip (UICR), not firmware.
        end = max(stop for _, stop in image.segments() if stop <= _MAX_FLASH)
        return bytes(image.tobinstr(start=0, end=end - 1))
    except (HexRecordError, ValueError) as error:
        raise OperationalError(f"Intel HEX of the firmware: {error}") from None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "none"
