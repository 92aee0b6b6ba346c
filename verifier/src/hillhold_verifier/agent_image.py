"""SMP group IMAGE as stock tools speak it, within Hillhold's rules: state (list, test, confirm), upload, erase and slot info.

An upload is accepted only for what the device itself has chosen, however much of its hash the tool states; `test` marks only what it
chooses now; `confirm` succeeds only for the running image, after its own test (DESIGN §5). The hash in an image's state is MCUboot's (of
header and payload), as stock tools expect; the `sha` of an upload is that of the whole file, which is also the one that TUF metadata names.

Slots have the numbers that stock tools reckon with: 0 is the one that runs, 1 the other, whichever of the two that is for the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Final

from hillhold_verifier.errors import (
    ConfirmError,
    HillholdError,
    ImageError,
    MismatchError,
    Refused,
    SelectionError,
    SlotError,
    SmpError,
    TransferError,
    UnprovisionedError,
    short,
)
from hillhold_verifier.installer import Installer
from hillhold_verifier.mcuboot import Image, read_image
from hillhold_verifier.slots import BootFlags
from hillhold_verifier.smp import Group, ImageCommand, ImgMgmtErr, Message, MgmtErr, Op, error_body, smp_error
from hillhold_verifier.smp_fields import bool_field, bytes_field, int_field

HASH_SIZE: Final = sha256().digest_size
NON_BOOTABLE: Final = 0x10
"""MCUboot's IMAGE_F_NON_BOOTABLE."""

# What a refusal is called in SMP v1, and in v2 by group IMAGE.
_CODES: Final = {
    ImageError.code: (MgmtErr.ECORRUPT, ImgMgmtErr.INVALID_IMAGE_HEADER),
    MismatchError.code: (MgmtErr.ECORRUPT, ImgMgmtErr.INVALID_HASH),
    SlotError.code: (MgmtErr.EBADSTATE, ImgMgmtErr.NO_FREE_SLOT),
    ConfirmError.code: (MgmtErr.EBADSTATE, ImgMgmtErr.IMAGE_CONFIRMATION_DENIED),
    UnprovisionedError.code: (MgmtErr.EBADSTATE, ImgMgmtErr.UNKNOWN),
}
_NOT_AUTHORISED: Final = (MgmtErr.EACCESSDENIED, ImgMgmtErr.INVALID_HASH)
# What Zephyr makes of its own errors in SMP v1 (img_mgmt_translate_error_code), where that is not EUNKNOWN.
_V1: Final = {
    ImgMgmtErr.NO_FREE_SLOT: MgmtErr.EBADSTATE,
    ImgMgmtErr.CURRENT_VERSION_IS_NEWER: MgmtErr.EBADSTATE,
    ImgMgmtErr.IMAGE_ALREADY_PENDING: MgmtErr.EBADSTATE,
    ImgMgmtErr.INVALID_SLOT: MgmtErr.EINVAL,
    ImgMgmtErr.INVALID_OFFSET: MgmtErr.EINVAL,
    ImgMgmtErr.INVALID_LENGTH: MgmtErr.EINVAL,
    ImgMgmtErr.INVALID_HASH: MgmtErr.EINVAL,
}

Fields = Mapping[str, object]


def answer_image(request: Message, installer: Installer, clock: int | None, *, self_tested: bool) -> Fields:
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
            return _upload(request.body, installer, clock)
        case Op.WRITE, ImageCommand.ERASE:
            _erase(request.body, installer)
            return {}
        case Op.READ, ImageCommand.SLOT_INFO:
            return _slot_info(installer)
    return smp_error(MgmtErr.ENOTSUP)


def image_error(request: Message, error: HillholdError, reason: str) -> Fields:
    """Return the body of a refusal or failure: a stock code, and words where there is room for them."""
    if isinstance(error, SmpError) and error.stock is None:
        return smp_error(MgmtErr.EINVAL, reason)
    v1, v2 = MgmtErr.EUNKNOWN, ImgMgmtErr.UNKNOWN
    if isinstance(error, Refused):
        v1, v2 = _CODES.get(error.code, _NOT_AUTHORISED)
        if error.stock is not None:
            v2 = ImgMgmtErr(error.stock)
            v1 = _V1.get(v2, MgmtErr.EUNKNOWN)
    return error_body(request.version, Group.IMAGE, v2 if request.version else v1, reason)


def _called(stock: ImgMgmtErr, refusal: Refused) -> Refused:
    """A refusal with the name that stock tools have for it."""
    refusal.stock = stock
    return refusal


# --- upload and erase -------------------------------------------------------------------------------------------------


def _upload(body: Fields, installer: Installer, clock: int | None) -> Fields:
    """Take one piece of an image or patch; answer with the offset that is expected next.

    The first piece (offset 0) names the content, and may be answered with the offset of an upload that was interrupted. `match` says
    that the slot holds the whole image now, verified.
    """
    if "off" not in body:
        raise _called(ImgMgmtErr.INVALID_OFFSET, SmpError("SMP field off", expected="an offset", got="none"))
    offset, data = int_field(body, "off"), bytes_field(body, "data")
    if offset == 0 and (at := _begin(body, installer, clock)):
        return {"off": at, "match": True} if at == body["len"] and _is_whole(body, installer) else {"off": at}
    before = installer.state.transfer
    try:
        at = installer.write(offset, data)
    except TransferError as refusal:
        raise _called(ImgMgmtErr.INVALID_IMAGE_DATA_OVERRUN, refusal) from None
    return {"off": at, "match": True} if before and installer.state.transfer is None else {"off": at}


def _begin(body: Fields, installer: Installer, clock: int | None) -> int:
    """Begin or resume an upload; return the offset at which it goes on."""
    if "len" not in body:
        raise _called(ImgMgmtErr.INVALID_LENGTH, SmpError("SMP field len", expected="the image's length", got="none"))
    length, digest = int_field(body, "len"), bytes_field(body, "sha", b"")
    component = _component_of(body, installer)
    if len(digest) > HASH_SIZE:
        refusal = TransferError("sha", expected=f"at most {HASH_SIZE} bytes", got=len(digest))
        raise _called(ImgMgmtErr.INVALID_HASH, refusal)
    if bool_field(body, "upgrade", False):
        _check_upgrade(installer, clock, component)
    if len(digest) < HASH_SIZE:
        digest = _whole_hash(digest, length, installer, clock, component)
    return installer.begin(digest, length, clock, component)


def _whole_hash(start: bytes, length: int, installer: Installer, clock: int | None, component: int) -> bytes:
    """The hash of the one image that may come now, if the upload states its length and the start of its hash, or none.

    That is enough to name it; what arrives is checked against the whole hash, and against nothing that came with the upload.
    """
    wanted = installer.wanted(clock, component)
    if length != wanted.length or not wanted.sha256.startswith(start):
        expected = f"{wanted.path} ({wanted.length} bytes, {short(wanted.sha256)}), which this device chose"
        raise TransferError("content", expected=expected, got=f"{length} bytes, sha {start.hex() or 'not stated'}")
    return wanted.sha256


def _check_upgrade(installer: Installer, clock: int | None, component: int) -> None:
    wanted, running = installer.wanted(clock, component), installer.flags(component).running
    held = None if running is None else installer.held(component, running)
    if held and wanted.version <= held.version:
        refusal = SelectionError("upgrade", expected=f"a version above {held.version}", got=wanted.version)
        raise _called(ImgMgmtErr.CURRENT_VERSION_IS_NEWER, refusal)


def _is_whole(body: Fields, installer: Installer) -> bool:
    """An upload ended before it began, since the slot held that image already. (A staged patch is no image yet.)"""
    transfer = installer.state.transfer
    return transfer is None or transfer.component != _component_of(body, installer)


def _erase(body: Fields, installer: Installer) -> None:
    """Erase a slot that nothing needs. It is named by all images (2 and 3 are those of image 1), by default the other one of `image`."""
    slot = int_field(body, "slot") if "slot" in body else 2 * _component_of(body, installer) + 1
    component, number = divmod(slot, 2)
    if component not in _components(installer):
        expected = f"0 to {2 * len(_components(installer)) - 1}"
        raise _called(ImgMgmtErr.INVALID_SLOT, TransferError("slot to erase", expected=expected, got=slot))
    if number == 0:
        raise SlotError("slot to erase", expected=f"{slot + 1}, which does not run", got=slot)
    if _is_marked(installer):
        raise SlotError("slot to erase", expected="no image that is marked for a trial", got="one")
    installer.erase(component)


def _component_of(body: Fields, installer: Installer) -> int:
    """The component that `image` names. Where there is one only, no number is judged, as in Zephyr: smpmgr sends that of a slot."""
    number, components = int_field(body, "image", 0), _components(installer)
    if len(components) == 1:
        return 0
    if number not in components:
        refusal = TransferError("image number", expected=f"0 to {len(components) - 1}", got=number)
        raise _called(ImgMgmtErr.NO_FREE_SLOT, refusal)
    return number


# --- state ------------------------------------------------------------------------------------------------------------


def _set_state(body: Fields, installer: Installer, clock: int | None, *, self_tested: bool) -> None:
    digest, confirm = bytes_field(body, "hash", b""), bool_field(body, "confirm", False)
    if len(digest) != HASH_SIZE and (digest or not confirm):
        refusal = SelectionError("image hash", expected=f"{HASH_SIZE} bytes", got=len(digest))
        raise _called(ImgMgmtErr.INVALID_HASH, refusal)
    found = next((place for place, image in _images(installer) if image.sha256 == digest), None)
    if digest and found is None:
        refusal = SelectionError("image hash", expected="that of an image in a slot", got=short(digest))
        raise _called(ImgMgmtErr.HASH_NOT_FOUND, refusal)
    number = found[1] if found else 0
    if confirm:
        _confirm(number, installer, self_tested=self_tested)
    elif number == 0:
        refusal = SelectionError("image to test", expected="the image in the other slot", got="the one that runs")
        raise _called(ImgMgmtErr.IMAGE_SETTING_TEST_TO_ACTIVE_DENIED, refusal)
    else:
        try:
            installer.mark(clock)
        except SlotError as refusal:
            raise _called(ImgMgmtErr.IMAGE_ALREADY_PENDING, refusal) from None


def _confirm(number: int, installer: Installer, *, self_tested: bool) -> None:
    if number != 0:
        raise ConfirmError("confirmation", expected="the running image", got="another: it has to run its trial first")
    if _is_marked(installer):
        # Whoever asks may think of the marked image; "done" would tell them that it stays.
        refusal = ConfirmError("confirmation", expected="an image on trial", got="one that is marked and did not run")
        raise _called(ImgMgmtErr.IMAGE_ALREADY_PENDING, refusal)
    installer.confirm(self_tested=self_tested)


def _is_marked(installer: Installer) -> bool:
    """An image waits for its trial."""
    return not installer.on_trial and any(installer.flags(component).mark for component in _components(installer))


def _state(installer: Installer) -> Fields:
    images: list[dict[str, object]] = []
    for (component, number), image in _images(installer):
        flags = installer.flags(component)
        slot = _device_slot(flags, number)
        version, build = image.version, f".{image.version.build}" if image.version.build else ""
        active = slot == flags.running
        images.append(
            {
                "image": component,
                "slot": number,
                "version": f"{version.major}.{version.minor}.{version.revision}{build}",
                "hash": image.sha256,
                "bootable": not image.flags & NON_BOOTABLE,
                "pending": not active and flags.mark is not None and slot != flags.confirmed,
                "confirmed": slot == flags.confirmed,
                "active": active,
                "permanent": False,
            }
        )
    return {"images": images, "splitStatus": 0}


def _slot_info(installer: Installer) -> Fields:
    def slots(component: int) -> list[dict[str, object]]:
        size = installer.slot_size(component)
        return [{"slot": 0, "size": size}, {"slot": 1, "size": size, "upload_image_id": component}]

    return {"images": [{"image": component, "slots": slots(component)} for component in _components(installer)]}


def _images(installer: Installer) -> Iterator[tuple[tuple[int, int], Image]]:
    """Component, number and image of each slot that is known to hold a whole MCUboot image."""
    for component in _components(installer):
        flags = installer.flags(component)
        for number in (0, 1):
            slot = _device_slot(flags, number)
            if held := installer.held(component, slot):
                with suppress(ImageError):
                    yield (component, number), read_image(installer.read_slot(component, slot), held.length)


def _components(installer: Installer) -> range:
    return range(len(installer.state.device.components))


def _device_slot(flags: BootFlags, number: int) -> int:
    """The device's own slot: 0 is what runs (Zephyr, "primary (running one) = 0"), or would, 1 the one that may be written."""
    first = flags.confirmed if flags.running is None else flags.running
    if first is None:  # a new board, which writes its first image to slot 0
        first = 1
    return first if number == 0 else 1 - first
