"""The patches of `patches/`, whose results any other decoder should have, too; and a second decoder's verdict beside ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hillhold_verifier.errors import PatchError
from hillhold_verifier.patch import PatchDecoder
from patchread import by_one_read

FILE = json.loads((Path(__file__).parent / "patches.json").read_bytes())
BASES = {name: bytes.fromhex(base) for name, base in FILE["bases"].items()}
RIGHT = [item for item in FILE["patches"] if "result" in item]
WRONG = [item for item in FILE["patches"] if "refusal" in item]


def decode(item: dict[str, Any], step: int) -> bytes:
    patch, base = bytes.fromhex(item["patch"]), BASES[item["base"]]
    decoder = PatchDecoder(lambda offset, length: base[offset : offset + length], len(base), item["length"])
    made = b"".join(chunk for at in range(0, len(patch), step) for chunk in decoder.feed(patch[at : at + step]))
    decoder.finish()
    return made


def otherwise(item: dict[str, Any]) -> bytes | None:
    return by_one_read(bytes.fromhex(item["patch"]), BASES[item["base"]], item["length"])


@pytest.mark.parametrize("step", [1, 512, 1 << 20])
@pytest.mark.parametrize("item", RIGHT, ids=lambda item: item["name"])
def test_a_patch_gives_the_listed_result(item: dict[str, Any], step: int) -> None:
    assert decode(item, step) == otherwise(item) == bytes.fromhex(item["result"])


@pytest.mark.parametrize("step", [1, 1 << 20])
@pytest.mark.parametrize("item", WRONG, ids=lambda item: item["name"])
def test_a_patch_is_refused_as_listed(item: dict[str, Any], step: int) -> None:
    with pytest.raises(PatchError) as refused:
        decode(item, step)
    assert str(refused.value).startswith(item["refusal"])
    assert otherwise(item) is None


def test_a_call_and_pointers_follow_what_moved() -> None:
    """The example of the format page: four bytes come in at 16, and what lies in RAM behind 16 moves by 8."""
    item = next(item for item in RIGHT if item["name"] == "moves-example")
    assert decode(item, 512) == bytes.fromhex("00f008f8 704700bf 15800000 18000020 00bf00bf 704700bf fff7f2ff")
