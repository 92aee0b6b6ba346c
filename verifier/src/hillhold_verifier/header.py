"""What an image says of itself, against what was signed of it."""

from __future__ import annotations

from hillhold_verifier.errors import ImageError, MismatchError
from hillhold_verifier.mcuboot import Image, ReadAt, read_image
from hillhold_verifier.release import Release


def check_header(read: ReadAt, release: Release) -> Image | None:
    """What the image states of itself, and the bootloader goes by, is what was signed; a raw image states nothing (None).

    Raises:
        ImageError: no MCUboot image, where the release says that it is one.
        MismatchError: an image of another length, version or security counter.
    """
    try:
        image = read_image(read, release.length)
    except ImageError:
        if release.format == "mcuboot":
            raise
        return None
    if release.format == "mcuboot" and image.length != release.length:
        # The bootloader takes an image for as long as it says that it is, and would not try this one.
        raise MismatchError("image length", expected=release.length, got=image.length)
    stated = (str(image.version), image.security_counter or 0)
    if stated != (str(release.version), release.security_counter):
        expected = f"version {release.version} and counter {release.security_counter}"
        raise MismatchError("image header", expected=expected, got=f"version {stated[0]} and counter {stated[1]}")
    return image
