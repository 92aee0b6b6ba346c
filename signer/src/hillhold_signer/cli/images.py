"""`hillhold image`: sign MCUboot images with any key, and look at them."""

from __future__ import annotations

from pathlib import Path

import click

from hillhold_signer.cli.terminal import FILE, PATH, emit, json_option, passphrase_option, secrets
from hillhold_signer.errors import ImageRefused
from hillhold_signer.images import MAX_HEX, ImagePlan, is_image, parse_dependency, read_firmware, sign_image
from hillhold_signer.keys import fingerprint, load_public, load_signer
from hillhold_signer.releases import COUNTER_HINT, MAX_IMAGE
from hillhold_signer.storage import read_file, write_file
from hillhold_verifier.errors import ImageError
from hillhold_verifier.mcuboot import Image, parse_image


class Number(click.ParamType[int]):
    """An integer, decimal or hexadecimal."""

    name = "number"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse it; raises `click.UsageError`."""
        try:
            return value if isinstance(value, int) else int(str(value), 0)
        except ValueError:
            self.fail(f"{value!r} is not a number such as 512 or 0x200", param, ctx)


@click.group()
def image() -> None:
    """Sign MCUboot images, and look at them."""


@image.command("sign", short_help="Sign firmware and write an MCUboot image.")
@click.argument("source", type=FILE)
@click.argument("output", type=PATH)
@click.option(
    "--key", "uri", required=True, metavar="URI", help="The bootloader's key, such as file:image.pem or hsm:1."
)
@click.option("--public", type=FILE, help="Its public key, where the URI does not lead to it (KMS).")
@click.option("--version", required=True, help="MAJOR.MINOR.PATCH[+BUILD]")
@click.option(
    "--security-counter", type=Number(), required=True, help="Devices never go below one that they have booted."
)
@click.option("--header-size", type=Number(), required=True, help="Bytes, such as 0x200.")
@click.option("--slot-size", type=Number(), required=True, help="Bytes of the smaller slot.")
@click.option("--pad-header", is_flag=True, help="Put the header before the firmware, which has no room for it.")
@click.option(
    "--dependency",
    "dependencies",
    multiple=True,
    metavar="IMAGE:VERSION",
    help="MCUboot boots this image only beside at least VERSION of that other image, such as 1:1.2.0; may be given again.",
)
@click.option("--demo", is_flag=True, help="Allow keys whose private part is public.")
@passphrase_option
@json_option
def sign(
    source: Path,
    output: Path,
    uri: str,
    public: Path | None,
    version: str,
    security_counter: int,
    header_size: int,
    slot_size: int,
    pad_header: bool,
    dependencies: tuple[str, ...],
    demo: bool,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Sign the firmware SOURCE (.bin or .hex) and write the MCUboot image OUTPUT (binary).

    \b
    Example:
      hillhold image sign zephyr.bin app.bin --key file:image.pem --version 1.2.0
        --security-counter 3 --header-size 0x200 --slot-size 0x60000 --pad-header
    """
    firmware = read_firmware(read_file(source, MAX_HEX), source.name)
    needs = tuple(parse_dependency(text) for text in dependencies)
    plan = ImagePlan(version, security_counter, header_size, slot_size, pad_header, needs)
    plan.check(firmware, source.name)
    signer = load_signer(uri, load_public(public) if public else None, secrets(passphrase_fd))
    signed = sign_image(firmware, plan, signer, demo=demo)
    write_file(output, signed)
    found = parse_image(signed)
    mark = fingerprint(signer.public_key)
    lines = [f"{output}: {found.length} bytes, signed with image key of fingerprint {mark[:16]}", *_lines(found)]
    emit({"file": str(output), "image_key": mark, **_value(found)}, lines, as_json=as_json)


@image.command("show")
@click.argument("file", type=FILE)
@json_option
def show(file: Path, as_json: bool) -> None:
    """Show what an MCUboot image says of itself. Nothing is verified.

    \b
    Example:
      hillhold image show app.bin
    """
    data = read_file(file, MAX_IMAGE)
    try:
        found = parse_image(data)
    except ImageError as error:
        hint = "it is no MCUboot image: `hillhold image sign` makes one of firmware"
        raise ImageRefused(f"{file}: {error}", hint=None if is_image(data) else hint) from error
    emit(
        {"file": str(file), **_value(found)}, [f"{file}: MCUboot image, not verified", *_lines(found)], as_json=as_json
    )


def _value(image: Image) -> dict[str, object]:
    return {
        "version": str(image.version),
        "security_counter": image.security_counter,
        "header_size": image.header_size,
        "payload_size": image.payload_size,
        "length": image.length,
        "load_address": image.load_address,
        "flags": image.flags,
        "image_hash": image.sha256.hex(),
        "dependencies": [{"image": item.image, "version": str(item.least)} for item in image.dependencies],
        "tlvs": [{"type": tlv.type, "length": len(tlv.value), "protected": tlv.protected} for tlv in image.tlvs],
    }


def _lines(image: Image) -> list[str]:
    counter = "none" if image.security_counter is None else str(image.security_counter)
    lines = [
        f"version           {image.version}",
        f"security counter  {counter}",
        f"sizes             header {image.header_size}, payload {image.payload_size}, whole {image.length} bytes",
        f"image hash        {image.sha256.hex()}",
        *(f"depends on        image {item.image}, version {item.least} or above" for item in image.dependencies),
    ]
    if image.security_counter is None:
        lines.append(f"`hillhold add` will refuse it: {COUNTER_HINT}")
    return lines
