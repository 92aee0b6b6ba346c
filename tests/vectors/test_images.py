"""The images and keys of `images/`, whose results any other implementation should have, too; and imgtool's verdict beside ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from imgtool import image as imgtool_image
from imgtool import keys as imgtool_keys

from hillhold_verifier.errors import ImageError, ImageSignatureError
from hillhold_verifier.mcuboot import ImageKey, parse_image, verify_image
from imagekit import reader

FOLDER = Path(__file__).parent / "images"
LISTED = json.loads((FOLDER / "images.json").read_bytes())


def key_of(item: dict[str, Any]) -> ImageKey:
    return ImageKey.from_pem((FOLDER / str(item["key"])).read_bytes())


@pytest.mark.parametrize(
    "item", [item for item in LISTED["images"] if "refusal" not in item], ids=lambda item: item["file"]
)
def test_an_image_verifies_and_says_what_is_listed(item: dict[str, Any]) -> None:
    data = (FOLDER / item["file"]).read_bytes()
    image = parse_image(data)
    assert verify_image(image, reader(data), [key_of(item)]) == key_of(item)
    assert image.sha256.hex() == item["image_hash"]
    assert str(image.version) == item["version"]
    assert image.security_counter == item["security_counter"]
    assert [[found.image, str(found.least)] for found in image.dependencies] == item["dependencies"]
    theirs = imgtool_image.Image.verify(str(FOLDER / item["file"]), imgtool_keys.load(FOLDER / item["key"]))
    assert theirs[0] == imgtool_image.VerifyResult.OK


@pytest.mark.parametrize(
    "item", [item for item in LISTED["images"] if "refusal" in item], ids=lambda item: item["file"]
)
def test_an_image_is_refused_with_the_code_that_is_listed(item: dict[str, Any]) -> None:
    data = (FOLDER / item["file"]).read_bytes()
    with pytest.raises((ImageError, ImageSignatureError)) as refused:
        verify_image(parse_image(data), reader(data), [key_of(item)])
    assert refused.value.code == item["refusal"]


@pytest.mark.parametrize("item", LISTED["keys"], ids=lambda item: item["file"])
def test_a_key_is_named_or_refused_as_is_listed(item: dict[str, Any]) -> None:
    pem = (FOLDER / item["file"]).read_bytes()
    if "refusal" not in item:
        assert ImageKey.from_pem(pem).key_hash.hex() == item["key_hash"]
        return
    with pytest.raises(ImageSignatureError) as refused:
        ImageKey.from_pem(pem)
    assert refused.value.code == item["refusal"]


def test_every_file_is_listed_and_every_kind_of_result_is_there() -> None:
    listed = [item["file"] for item in (*LISTED["images"], *LISTED["keys"])]
    assert sorted([*listed, "images.json"]) == sorted(path.name for path in FOLDER.iterdir())
    assert {item.get("refusal") for item in LISTED["images"]} == {None, 4, 33}
