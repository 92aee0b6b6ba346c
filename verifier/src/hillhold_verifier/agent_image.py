"""SMP group IMAGE as stock tools speak it, within Hillhold's rules: state (list, test, confirm), upload and erase.

An upload is accepted only for a hash that the device itself has chosen; `test` marks only what it chooses now; `confirm` succeeds only for
the running image, after its own test (DESIGN §5). The hash in an image's state is MCUboot's (of header and payload), as stock tools
expect; the `sha` of an upload is that of the whole file, which is also the one that TUF metadata names.
"""

from __future__ import annotations

from collections.abc import Mapping
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
            installer.erase()
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
        if int_field(body, "image", 0) != 0:
            raise TransferError("upload image number", expected=0, got=body["image"])
        at = installer.begin(bytes_field(body, "sha"), int_field(body, "len"), clock)
        if at or not data:
            return at
    return installer.write(offset, data)


def _set_state(body: Mapping[str, object], installer: Installer, clock: int | None, *, self_tested: bool) -> None:
    digest = bytes_field(body, "hash", b"")
    slot = next((n for n in (0, 1) if digest and (found := _image(installer, n)) and found.sha256 == digest), None)
    if digest and slot is None:
        raise SelectionError("image hash", expected="that of an image in a slot", got=short(digest))
    running = installer.flags.running
    if body.get("confirm") is True:
        if slot not in (None, running):
            raise ConfirmError(
                "confirmation", expected="the running image", got="another: it has to run its trial first"
            )
        installer.confirm(self_tested=self_tested)
    elif slot is None or slot == running or (slot == installer.flags.confirmed and not installer.flags.trial):
        raise SelectionError("image to test", expected="the hash of the image in the other slot", got="another")
    else:
        installer.mark(clock)


def _state(installer: Installer) -> Mapping[str, object]:
    flags = installer.flags
    images: list[dict[str, object]] = []
    for slot in (0, 1):
        if image := _image(installer, slot):
            version, build = image.version, f".{image.version.build}" if image.version.build else ""
            active = slot == flags.running
            images.append(
                {
                    "image": 0,
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


def _image(installer: Installer, slot: int) -> Image | None:
    """The image that a slot is known to hold whole, or None."""
    held = installer.state.slots[slot]
    if held is None:
        return None
    try:
        return read_image(installer.read_slot(slot), held.length)
    except ImageError:
        return None
