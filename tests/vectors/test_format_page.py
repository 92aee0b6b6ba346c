"""docs/FORMAT.md says what the code does: the parts of it that a program can compare."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

from hillhold_bootsim.bootflags import BootRecord, ImageFlags, decode_record
from hillhold_verifier import errors
from hillhold_verifier.bundle import MAX_ENTRIES, MAX_NAME, BundleSource
from hillhold_verifier.slots import Mark
from hillhold_verifier.wire import DICTIONARY_1, PIECE, inflate
from offers import bundle

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "FORMAT.md").read_text(encoding="utf-8")


def test_dictionary_1_is_the_one_that_the_page_names() -> None:
    assert (ROOT / "tests/vectors/dictionary-1.bin").read_bytes() == DICTIONARY_1
    assert f"Dictionary 1 has {len(DICTIONARY_1)} bytes, SHA-256 `{sha256(DICTIONARY_1).hexdigest()}`" in PAGE


def test_a_file_in_pieces_inflates_to_what_the_page_names() -> None:
    stated = re.search(r"inflates to the ([0-9,]+) bytes with SHA-256 `([0-9a-f]{64})`", PAGE)
    assert stated
    length = int(stated[1].replace(",", ""))
    packed, held = ((ROOT / "tests/vectors" / name).read_bytes() for name in ("wire-packed.bin", "wire-held.json"))
    assert length > 2 * PIECE
    assert sha256(inflate(packed, held, length)).hexdigest() == stated[2]


def test_each_refusal_has_a_code_of_its_own_that_the_page_lists() -> None:
    classes = [
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.Refused)
    ]
    codes = {value.code: value.__name__ for value in classes}
    assert len(codes) == len(classes)
    listed = {int(code): name for code, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", PAGE, re.MULTILINE)}
    assert listed == codes


def test_the_bundle_of_the_page_is_one(tmp_path: Path) -> None:
    section = PAGE.partition("\n## Bundle\n")[2].partition("\n## ")[0]
    data = b"".join(map(bytes.fromhex, re.findall(r"^[0-9a-f]{4}  ([0-9a-f ]+)$", section, re.MULTILINE)))
    assert f"The {len(data)} bytes" in section
    assert data == bundle({"metadata/timestamp.json": b"{}"})
    (tmp_path / "page.hillhold").write_bytes(data)
    assert BundleSource(tmp_path / "page.hillhold").metadata("timestamp.json") == b"{}"
    assert f"at most {MAX_NAME}\ncharacters. At most {MAX_ENTRIES:,} entries" in section


def test_the_boot_flag_record_of_the_page_is_one() -> None:
    section = PAGE.partition("\n### Boot flag record, version 2\n")[2].partition("\n### ")[0]
    data = b"".join(map(bytes.fromhex, re.findall(r"^[0-9a-f]{4}  ([0-9a-f ]+)$", section, re.MULTILINE)))
    mark = Mark(b"\x11" * 32, 4660)
    assert decode_record(data, 1) == (2, BootRecord((ImageFlags(confirmed=0, mark=mark),)))
