"""What an image states of itself, against its release."""

from __future__ import annotations

from typing import Any

import pytest

from forge import Repo
from hillhold_verifier.errors import ImageError, MismatchError
from hillhold_verifier.header import check_header
from hillhold_verifier.mcuboot import Image
from hillhold_verifier.metadata import parse_targets
from hillhold_verifier.release import Release, parse_target
from offers import image


def check(data: bytes, version: str = "1.2.0+3", counter: int = 0, **release: Any) -> Image | None:
    """Check an image against a release of `version` that lists just these bytes."""
    repo = Repo()
    path = repo.add_release(version, data, counter=counter, **release)
    found = parse_target(parse_targets(repo.line(), "pump").signed.targets[path])
    assert isinstance(found, Release)
    return check_header(lambda offset, length: data[offset : offset + length], found)


def test_an_image_states_version_and_counter_of_its_release() -> None:
    found = check(image("1.2.0+3", 7), counter=7, format="mcuboot")
    assert found is not None
    assert (str(found.version), found.security_counter) == ("1.2.0+3", 7)
    for version, counter in (("1.2.0+4", 7), ("1.2.0+3", 8), ("1.2.0+3", 6), ("1.2.0+3", 0)):
        with pytest.raises(MismatchError) as caught:
            check(image("1.2.0+3", 7), version, counter, format="mcuboot")
        expected = f"expected version {version} and counter {counter}"
        assert str(caught.value) == f"image header: {expected}, got version 1.2.0+3 and counter 7"


def test_an_image_without_a_counter_has_the_counter_0() -> None:
    data = image("1.2.0+3", None)
    assert check(data, format="mcuboot") is not None
    with pytest.raises(MismatchError, match=r"and counter 1, got version 1\.2\.0\+3 and counter 0"):
        check(data, counter=1, format="mcuboot")


def test_what_is_no_image_is_refused_unless_it_is_raw() -> None:
    with pytest.raises(ImageError):
        check(b"firmware", format="mcuboot")
    assert check(b"firmware", format="raw") is None


def test_an_image_is_as_long_as_it_says_and_a_raw_one_may_go_on() -> None:
    data = image("1.2.0+3", 7)
    with pytest.raises(MismatchError, match=f"image length: expected {len(data) + 8}, got {len(data)}"):
        check(data + b"and more", counter=7, format="mcuboot")
    found = check(data + b"and more", counter=7, format="raw")
    assert found is not None
    assert found.length == len(data)


def test_an_image_that_goes_by_as_raw_states_what_it_states_all_the_same() -> None:
    """The bootloader goes by it, whatever the release calls it."""
    for version, counter in (("1.2.0+4", 7), ("1.2.0+3", 8)):
        with pytest.raises(MismatchError, match="image header"):
            check(image("1.2.0+3", 7), version, counter, format="raw")
