"""Images that are nobody's, altered, or older: what the bootloader has to find at every boot, whoever brought them.

On a board with metadata each is also listed as a release that the whole quorum signed, so that the bootloader stands alone; on any board
it is uploaded, tried and confirmed by the messages of a stock tool.
"""

from __future__ import annotations

from itertools import product
from typing import Final

from hillhold_bootsim.lab.bench import Bench
from hillhold_bootsim.lab.catalogue import kinds
from hillhold_bootsim.lab.catalogue import sources as of
from hillhold_bootsim.lab.catalogue.book import Book
from hillhold_bootsim.lab.catalogue.leaves import FLOORS_THERE
from hillhold_bootsim.lab.house import TOP
from hillhold_bootsim.lab.images import covered, image_key, public_key, sample_keys, unsigned
from hillhold_bootsim.lab.stockinstall import image_hash
from hillhold_verifier.smp import ImageCommand

IMAGE_CASES: Final = Book("image")
_add = IMAGE_CASES.add
STAYS = "It is not started; the board goes on running what it ran."
SMP: Final = ("smp",)
SIGNATURE: Final = 64
"""Bytes of an Ed25519 signature, which ends an image."""


def brought(bench: Bench, *images: bytes) -> None:
    """Bring images in every way that this board has, for each of its components."""
    house = bench.house
    for component, data in product(range(len(house.device.components)), images):
        if not bench.is_stock:
            repo = house.repo
            repo.entries.clear()
            repo.blobs.clear()
            house.offer(repo, TOP, data, house.counter, component=component)
            house.publish()
            bench.push(repo, patches=False)
        bench.smuggle(data, component=component)


@_add(
    "image-noise",
    "Bytes that are no image",
    how="Noise is uploaded as an image, and noise behind the header of a right one.",
    expected=STAYS,
    sources=(of.TUF_ARBITRARY, of.EDR_3_14, *kinds.MALFORMED, *kinds.BOOTED),
    leaves=FLOORS_THERE,
    needs=SMP,
)
def image_noise(bench: Bench) -> None:
    noise = bench.noise("image", 2500)
    brought(bench, noise, bench.house.image(TOP)[:32] + noise)


@_add(
    "image-unsigned",
    "An image that nobody signed",
    how="An image whose hash is right, and which has no signature.",
    expected=STAYS,
    sources=(of.TUF_ARBITRARY, of.MCUBOOT_SIGNATURE, of.EN_UPDATES, *kinds.UNSIGNED),
    leaves=FLOORS_THERE,
    needs=SMP,
)
def image_unsigned(bench: Bench) -> None:
    house = bench.house
    brought(bench, house.keep(unsigned(house.image(TOP)), TOP))


@_add(
    "image-foreign-key",
    "An image that a stranger signed",
    how="An image signed by a key that the bootloader does not hold; once under that key's name, once under the name of the right one.",
    expected=STAYS,
    sources=(of.TUF_ARBITRARY, of.MCUBOOT_SIGNATURE, of.SUM_4, of.TR_UPDATES, *kinds.UNSIGNED),
    leaves=FLOORS_THERE,
    needs=SMP,
)
def image_foreign_key(bench: Bench) -> None:
    house, stranger = bench.house, image_key("stranger")
    named = public_key(house.image_key).key_hash
    brought(bench, house.image(TOP, key=stranger), house.image(TOP, key=stranger, key_hash=named))


@_add(
    "image-sample-key",
    "An image signed with MCUboot's published sample keys",
    how="In turn, images signed with each private key that lies in the root folder of MCUboot's repository for everybody: three of "
    "Ed25519, ECDSA P-256, RSA-2048 and RSA-3072. Not tried: ECDSA P-384, since the lab makes no images over SHA-384.",
    expected="No product's bootloader holds them: it is not started.",
    sources=(of.MCUBOOT_SAMPLES, of.MCUBOOT_SIGNATURE, of.SUM_4, of.EN_CRYPTOGRAPHY, *kinds.WEAKNESS, *kinds.UNSIGNED),
    leaves=FLOORS_THERE,
    needs=SMP,
)
def image_sample_key(bench: Bench) -> None:
    brought(bench, *(bench.house.image(TOP, key=key) for key in sample_keys().values()))


@_add(
    "image-altered",
    "A signed image with one bit changed",
    how="One bit is changed in the header, at the payload's beginning, middle and end, in the protected part and in the signature. "
    "Checksums on the line are made for what was changed.",
    expected=STAYS,
    sources=(of.TUF_ARBITRARY, of.MCUBOOT_SIGNATURE, of.SUM_4, of.TR_UPDATES, of.FDA_CRC, *kinds.ALTERED),
    leaves=FLOORS_THERE,
    needs=SMP,
)
def image_altered(bench: Bench) -> None:
    house = bench.house
    data = house.image(TOP)
    places = (16, 40, len(data) // 2, len(data) - 200, len(data) - 120, len(data) - 1)
    altered = [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in places]
    brought(bench, *(house.keep(each, TOP) for each in altered))


@_add(
    "image-prefix-signed",
    "An image whose signature covers only its beginning",
    how="Hash and signature, by the right key, cover the first half of an image, or all but its last bytes; what follows is another's "
    "code.",
    expected="The hash is over all of an image: it is not started.",
    sources=(of.MCUBOOT_SIGNATURE, of.EN_CRYPTOGRAPHY, *kinds.WEAKNESS, *kinds.ALTERED),
    leaves=FLOORS_THERE,
    needs=SMP,
)
def image_prefix_signed(bench: Bench) -> None:
    house = bench.house
    whole = len(covered(house.image(TOP)))
    brought(bench, *(house.image(TOP, signed=count) for count in (32, 1024, whole // 2, whole - 200, whole - 16)))


@_add(
    "image-truncated",
    "A signed image that ends too early",
    how="A signed image is cut off in its payload, and within its signature.",
    expected=STAYS,
    sources=(of.MCUBOOT_SIGNATURE, *kinds.MALFORMED, *kinds.ALTERED),
    leaves=FLOORS_THERE,
    needs=SMP,
)
def image_truncated(bench: Bench) -> None:
    data = bench.house.image(TOP)
    brought(bench, data[: len(data) // 2], data[:-1])


@_add(
    "image-others-signature",
    "The signature of one image on another",
    how="An image whose own hash is right carries the signature of the image that runs.",
    expected=STAYS,
    sources=(of.MCUBOOT_SIGNATURE, *kinds.UNSIGNED),
    leaves=FLOORS_THERE,
    needs=SMP,
)
def image_others_signature(bench: Bench) -> None:
    house = bench.house
    data, right = house.image(TOP), bench.current.data
    brought(bench, house.keep(data[:-SIGNATURE] + right[-SIGNATURE:], TOP))


# --- older ------------------------------------------------------------------------------------------------------------


@_add(
    "image-older-uploaded",
    "The image from before, uploaded again by a stock tool",
    how="After an update, a stock tool uploads the release from before, which is signed by the right key, and asks for its trial and its "
    "confirmation.",
    expected="It is refused, or not started: an attacker with the line does not bring back what was repaired.",
    sources=(*kinds.DOWNGRADE, *kinds.UNASKED),
    leaves=FLOORS_THERE,
    needs=SMP,
)
def image_older_uploaded(bench: Bench) -> None:
    before = bench.current
    bench.update()
    bench.smuggle(before.data)


@_add(
    "image-step-back",
    "The image that lies in the other slot, asked for by a stock tool",
    how="After an update, the release from before lies whole in the other slot. A stock tool asks for its trial and its confirmation.",
    expected="It is refused, or not started.",
    sources=(*kinds.DOWNGRADE, *kinds.UNASKED),
    leaves=FLOORS_THERE,
    needs=SMP,
)
def image_step_back(bench: Bench) -> None:
    before = bench.current
    bench.update()
    for confirm in (False, True):
        bench.image(ImageCommand.STATE, hash=image_hash(before.data), confirm=confirm)
        bench.soft_reset()
        bench.image(ImageCommand.STATE, confirm=True)


@_add(
    "image-same-version-uploaded",
    "Another image of the version that runs, uploaded by a stock tool",
    how="A stock tool uploads an image of the running version with other content, signed by the right key, and asks for its trial.",
    expected="It is refused: nobody released it.",
    sources=(of.TUF_ROLLBACK, of.FDA_CHANGE, *kinds.UNASKED),
    needs=SMP,
)
def image_same_version_uploaded(bench: Bench) -> None:
    bench.smuggle(bench.house.image(bench.current.version, tail=" again"))


@_add(
    "image-unreleased",
    "An image that is signed and was never released",
    how="A build that the right image key signed, and no quorum released, is uploaded by a stock tool.",
    expected="It is refused: the device takes what it chose from its metadata, and nothing else.",
    sources=(of.TUF_ARBITRARY, of.FDA_AUTHORISED, of.EN_TRUST, of.NIST_MECHANISM, *kinds.UNASKED),
)
def image_unreleased(bench: Bench) -> None:
    bench.smuggle(bench.house.image(TOP))
