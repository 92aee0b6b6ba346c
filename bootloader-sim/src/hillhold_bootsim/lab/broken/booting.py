"""Faults of the bootloader, its keys and the security counter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from hillhold_bootsim import bootloader
from hillhold_bootsim.bootflags import confirmed
from hillhold_bootsim.bootloader import Bootloader, FixedKeys
from hillhold_bootsim.counter import OtpCounter
from hillhold_bootsim.lab.broken.plant import PAIR, Plant, Shelf, always
from hillhold_bootsim.lab.images import public_key, sample_keys
from hillhold_verifier import mcuboot

BOOTING: Final = Shelf()
_add = BOOTING.add


@_add("boots-without-a-signature", "It checks an image's hash at boot, and not its signature.",
      "image-unsigned", "image-foreign-key", "line-quorum-stolen")  # fmt: skip
def boots_without_a_signature(plant: Plant) -> None:
    def verify(image: Any, read: Any, keys: Any) -> Any:
        mcuboot.check_hash(image, read)
        return keys[0]

    plant.replace(bootloader, "verify_image", lambda _right: verify)


@_add(
    "boots-without-a-hash",
    "It checks the signature over the hash that an image states, and not that hash.",
    "image-altered",
)
def boots_without_a_hash(plant: Plant) -> None:
    plant.replace(mcuboot, "check_hash", lambda _right: lambda image, _read: image.sha256)


@_add(
    "verifies-the-first-component",
    "It checks the signature of its first component's image, and no other's.",
    "image-unsigned",
    "image-foreign-key",
    spec=PAIR,
)
def verifies_the_first_component(plant: Plant) -> None:
    def make(right: Any) -> Any:
        def verified(board: Any, component: int, slot: int, keys: Any) -> Any:
            if component == 0:
                return right(board, component, slot, keys)
            read = board._reader(component, slot)
            image = mcuboot.read_image(read, board._slots[component].size)
            return bootloader.Booted(slot, image, bootloader._sha256(read, image.length), keys[0])

        return verified

    plant.replace(Bootloader, "_verified", make)


@_add("boots-by-the-first-half", "It takes a hash over the first half of an image for one over all of it.",
      "image-prefix-signed")  # fmt: skip
def boots_by_the_first_half(plant: Plant) -> None:
    def make(right: Any) -> Any:
        def check(image: Any, read: Any) -> Any:
            half = replace(image, signed_length=image.signed_length // 2)
            return right(half if mcuboot._hash(read, half.signed_length) == image.sha256 else image, read)

        return check

    plant.replace(mcuboot, "check_hash", make)


@_add("holds-a-sample-key", "Its bootloader holds a sample key of MCUboot's beside its own.", "image-sample-key")
def holds_a_sample_key(plant: Plant) -> None:
    published = public_key(sample_keys()["root-ec-p256.pem"])
    plant.replace(FixedKeys, "keys", lambda right: lambda held: (*right(held), published))


@_add("never-raises-the-counter", "It never raises its security counter.", "lower-counter")
def never_raises_the_counter(plant: Plant) -> None:
    plant.replace(OtpCounter, "raise_to", always(None))


@_add("raises-the-counter-too-early", "It raises its security counter as soon as an image is on trial.",
      "counter-of-a-failed-trial")  # fmt: skip
def raises_the_counter_too_early(plant: Plant) -> None:
    def make(right: Any) -> Any:
        def judge(board: Any, *args: Any) -> Any:
            found = right(board, *args)
            for counter, booted in zip(board._counters, found, strict=True):
                counter.raise_to(booted.counter)
            return found

        return judge

    plant.replace(Bootloader, "_judge", make)


@_add(
    "confirms-by-starting",
    "An image that was started three times counts as confirmed.",
    "trial-resets",
    "trial-power-cuts",
)
def confirms_by_starting(plant: Plant) -> None:
    def make(right: Any) -> Any:
        def boot(board: Any, reason: Any) -> Any:
            outcome = right(board, reason)
            record = board._store.record()
            if outcome.trial and record.starts >= 3:
                board._store.write(confirmed(record, [booted.slot for booted in outcome.images]))
            return outcome

        return boot

    plant.replace(Bootloader, "boot", make)
