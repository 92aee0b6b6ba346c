"""Images that the lab puts together by hand: right ones are imgtool's, byte for byte."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from imgtool import image as imgtool_image
from imgtool import keys as imgtool_keys
from imgtool.version import decode_version

from hillhold_bootsim.board import VirtualBoard
from hillhold_bootsim.bootloader import FixedKeys
from hillhold_bootsim.flash import Flash
from hillhold_bootsim.lab.broken.plant import Plant
from hillhold_bootsim.lab.house import House
from hillhold_bootsim.lab.images import Plan, covered, image_key, make_image, public_key, sample_keys, unsigned
from hillhold_bootsim.lab.model import Verdict
from hillhold_bootsim.lab.virtual import VirtualSpec, right_board
from hillhold_signer.examples import MCUBOOT_SAMPLES, name_of_hash
from hillhold_verifier.errors import ImageSignatureError, MisuseError
from hillhold_verifier.mcuboot import parse_image, verify_image
from labboards import examined

KEY = image_key("test")
PAYLOAD = bytes(range(256)) * 8


def read(data: bytes):  # type: ignore[no-untyped-def]
    return lambda offset, length: data[offset : offset + length]


@pytest.mark.parametrize(("version", "counter", "header"), [("1.2.3", 5, 32), ("1.2.3+4", None, 32), ("0.0.9", 1, 512)])
def test_a_right_image_is_what_imgtool_writes(version: str, counter: int | None, header: int) -> None:
    made = imgtool_image.Image(
        version=decode_version(version), header_size=header, pad_header=True, slot_size=65536, security_counter=counter
    )
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.bin", Path(folder) / "out.bin"
        source.write_bytes(PAYLOAD)
        made.load(str(source))
        made.create(imgtool_keys.Ed25519(KEY), "hash", None)
        made.save(str(target))
        theirs = target.read_bytes()
    assert make_image(PAYLOAD, Plan(version, counter, header=header), KEY) == theirs


@pytest.mark.parametrize("name", sample_keys())
def test_the_sample_keys_are_mcuboots(name: str) -> None:
    private = sample_keys()[name]
    assert name_of_hash(public_key(private).key_hash.hex()) == f"MCUboot's published sample key {name}"
    data = make_image(PAYLOAD, Plan("1.0.0"), private)
    assert verify_image(parse_image(data), read(data), [public_key(private)]) == public_key(private)


def test_every_sample_key_that_hillhold_knows_is_tried_but_one() -> None:
    assert set(MCUBOOT_SAMPLES.values()) - sample_keys().keys() == {"root-ec-p384.pem"}
    assert sample_keys().keys() <= set(MCUBOOT_SAMPLES.values())


@pytest.mark.parametrize("name", sample_keys())
def test_a_bootloader_that_holds_any_of_them_is_found(name: str) -> None:
    def holding(spec: VirtualSpec, flash: Flash, house: House) -> VirtualBoard:
        plant = Plant(house)
        plant.replace(FixedKeys, "keys", lambda right: lambda held: (*right(held), public_key(sample_keys()[name])))
        return plant.grow(right_board(spec, flash, house))

    assert examined("image-sample-key", VirtualSpec(build=holding)).verdict is Verdict.FAIL


@pytest.mark.parametrize("count", [32, 100, 1000])
def test_a_hash_over_a_prefix_is_not_taken_for_one_over_all(count: int) -> None:
    data = make_image(PAYLOAD, Plan("1.0.0", signed=count), KEY)
    with pytest.raises(ImageSignatureError, match="image hash"):
        verify_image(parse_image(data), read(data), [public_key(KEY)])


def test_an_image_that_nobody_signed_has_its_hash_alone() -> None:
    data = unsigned(make_image(PAYLOAD, Plan("1.0.0"), KEY))
    assert [tlv.type for tlv in parse_image(data).tlvs if not tlv.protected] == [0x10]
    assert data.startswith(covered(data))


@pytest.mark.parametrize("version", ["", "1.2", "one.two.three", "1.2.3+x"])
def test_a_version_that_no_image_can_state_is_refused(version: str) -> None:
    with pytest.raises(MisuseError, match="MAJOR"):
        make_image(PAYLOAD, Plan(version), KEY)
