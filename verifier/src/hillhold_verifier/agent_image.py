"""SMP group IMAGE as stock tools speak it, within Hillhold's rules: state (list, test, confirm), upload and erase.

An upload is accepted only for a hash that the device itself has chosen; `test` marks only what it chooses now; `confirm` succeeds only for
the running image, after its own test (DESIGN §5). The hash in an image's state is MCUboot's (of header and payload), as stock tools
expect; the `sha` of an upload is that of the whole file, which is also the one that TUF metadata names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final

from hillhold_verifier.errors import (
    ConfirmError,
    ImageError,
    MismatchError,
    SelectionError,
    SlotError,
    SmpError,
    TransferError,
    short,
)
from hillhold_verifier.installer import Installer
from hillhold_verifier.mcuboot import Image, read_image
from hillhold_verifier.smp import Group, ImageCommand, ImgMgmtErr, Message, MgmtErr, Op, error_body
from hillhold_verifier.smp_fields import bytes_field, int_field

# What a refusal is called in SMP v1, and in v2 by group IMAGE.
_CODES: Final = {
    SmpError.code: (MgmtErr.EINVAL, ImgMgmtErr.INVALID_LENGTH),
    ImageError.code: (MgmtErr.ECORRUPT, ImgMgmtErr.INVALID_IMAGE_HEADER),
    MismatchError.code: (MgmtErr.ECORRUPT, ImgMgmtErr.INVALID_HASH),
    SlotError.code: (MgmtErr.EBADSTATE, ImgMgmtErr.NO_FREE_SLOT),
    ConfirmError.code: (MgmtErr.EBADSTATE, ImgMgmtErr.IMAGE_CONFIRMATION_DENIED),
    MgmtErr.EUNKNOWN: (MgmtErr.EUNKNOWN, ImgMgmtErr.UNKNOWN),
}
_NOT_AUTHORISED: Final = (MgmtErr.EACCESSDENIED, ImgMgmtErr.INVALID_HASH)


def answer_image(
    request: Message, installer: Installer, clock: int | None, *, self_tested: bool
) -> Mapping[str, object]:
    """Return the response's body.

    Raises:
        Refused: a subclass says why; `image_error` makes it a body.
    """
    match request.op, request.command:
        case Op.READ, ImageCommand.STATE:
            return _state(installer)
        case Op.WRITE, ImageCommand.STATE:
            _set_state(request.body, installer, clock, self_tested=self_tested)
            return _state(installer)
        case Op.WRITE, ImageCommand.UPLOAD:
            return {"off": _upload(request.body, installer, clock)}
        case Op.WRITE, ImageCommand.ERASE:
            # A slot is named as in the state's list, by all images: the other slot of the image that it belongs to.
            installer.erase(_component_of(int_field(request.body, "slot", 1) // 2, installer))
            return {}
    return error_body(request.version, Group.IMAGE, MgmtErr.ENOTSUP)


def image_error(request: Message, code: int, reason: str) -> Mapping[str, object]:
    """Return the body of a refusal: a stock code, and words where SMP v1 has room for them."""
    v1, v2 = _CODES.get(code, _NOT_AUTHORISED)
    return error_body(request.version, Group.IMAGE, v2 if request.version else v1, reason)


def _upload(body: Mapping[str, object], installer: Installer, clock: int | None) -> int:
    """Take one piece of an image or patch; return the offset that is expected next.

    The first piece (offset 0) names the content, and may be answered with the offset of an upload that was interrupted.
    """
    offset, data = int_field(body, "off"), bytes_field(body, "data")
    if offset == 0:
        if "sha" not in body:
            raise TransferError("upload", expected="sha, the SHA-256 of the whole image", got="none")
        component = _component_of(int_field(body, "image", 0), installer)
        at = installer.begin(bytes_field(body, "sha"), int_field(body, "len"), clock, component)
        if at:
            return at
    return installer.write(offset, data)


def _component_of(number: int, installer: Installer) -> int:
    count = len(installer.state.device.components)
    if number >= count:
        raise TransferError("image number", expected=f"0 to {count - 1}", got=number)
    return number


def _set_state(body: Mapping[str, object], installer: Installer, clock: int | None, *, self_tested: bool) -> None:
    digest = bytes_field(body, "hash", b"")
    found = next(((component, slot) for component, slot, image in _images(installer) if image.sha256 == digest), None)
    if digest and found is None:
        raise SelectionError("image hash", expected="that of an image in a slot", got=short(digest))
    flags = installer.flags(found[0] if found else 0)
    slot = found[1] if found else None
    if body.get("confirm") is True:
        if slot not in (None, flags.running):
            raise ConfirmError(
                "confirmation", expected="the running image", got="another: it has to run its trial first"
            )
        installer.confirm(self_tested=self_tested)
    elif slot is None or slot == flags.running or (slot == flags.confirmed and not flags.trial):
        raise SelectionError("image to test", expected="the hash of the image in the other slot", got="another")
    else:
        installer.mark(clock)


def _state(installer: Installer) -> Mapping[str, object]:
    images: list[dict[str, object]] = []
    for component, slot, image in _images(installer):
        flags = installer.flags(component)
        version, build = image.version, f".{image.version.build}" if image.version.build else ""
        active = slot == flags.running
        images.append(
            {
                "image": component,
                "slot": slot,
                "version": f"{version.major}.{version.minor}.{version.revision}{build}",
                "hash": image.sha256,
                "bootable": True,
                "pending": not active and flags.mark is not None and slot != flags.confirmed,
                "confirmed": slot == flags.confirmed,
                "active": active,
                "permanent": False,
            }
        )
    return {"images": images, "splitStatus": 0}


def _images(installer: Installer) -> Iterator[tuple[int, int, Image]]:
    """Component, slot and image of each slot that is known to hold a whole MCUboot image."""
    for component in range(len(installer.state.device.components)):
        for slot in (0, 1):
            if held := installer.held(component, slot):
                with suppress(ImageError):
                    yield component, slot, read_image(installer.read_slot(component, slot), held.length)
