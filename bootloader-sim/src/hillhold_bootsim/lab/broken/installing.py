"""Faults in what the board's agent does: transfers and patches, trials and confirmations, the state that it keeps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from typing import Any, Final

from hillhold_bootsim.bootloader import Bootloader
from hillhold_bootsim.lab.broken.plant import PAIR, Plant, Shelf, always
from hillhold_bootsim.lab.house import House
from hillhold_verifier import agent_image
from hillhold_verifier.agent import Agent
from hillhold_verifier.context import Context
from hillhold_verifier.errors import HillholdError, MismatchError, SelectionError, SlotError
from hillhold_verifier.installer import Installer
from hillhold_verifier.keys import SCHEMES
from hillhold_verifier.mcuboot import ReadAt, read_image
from hillhold_verifier.release import Version
from hillhold_verifier.select import Installed
from hillhold_verifier.slotio import slot_sha256
from hillhold_verifier.slots import Mark
from hillhold_verifier.smp import Group, ImageCommand, decode
from hillhold_verifier.state import Transfer
from hillhold_verifier.transfer import SlotTransfer

INSTALLING: Final = Shelf()
_add = INSTALLING.add


# --- what comes into a slot -------------------------------------------------------------------------------------------


def _boots_what_is_marked(plant: Plant, right_content: Callable[[ReadAt, int, bytes], bool]) -> None:
    """Have the bootloader compare what is marked by another rule; signature and counter it judges as ever."""

    def marked(board: Any, component: int, slot: int, mark: Mark, floor: int, keys: Any) -> Any:
        if not right_content(board._reader(component, slot), mark.length, mark.sha256):
            raise MismatchError("content of the marked slot")
        return board._trusted(component, slot, floor, keys)

    plant.replace(Bootloader, "_marked", lambda _right: marked)


@_add("checks-the-length-only", "It takes an image for right if it has the right length.",
      "upload-goes-on-otherwise", "upload-cut-goes-on-otherwise")  # fmt: skip
def checks_the_length_only(plant: Plant) -> None:
    plant.replace(SlotTransfer, "check_hash", always(None))
    _boots_what_is_marked(plant, lambda _read, _length, _digest: True)


@_add("hashes-the-first-half", "It compares the first half of an image, and takes the rest as it comes.",
      "upload-goes-on-otherwise", "upload-cut-goes-on-otherwise")  # fmt: skip
def hashes_the_first_half(plant: Plant) -> None:
    def make(right: Any) -> Any:
        def check(one: Any, component: int, slot: int, start: int, length: int, *rest: Any) -> None:
            if not _same_half(plant.house, one._context.reader(component, slot), length, rest[0]):
                right(one, component, slot, start, length, *rest)

        return check

    plant.replace(SlotTransfer, "check_hash", make)
    _boots_what_is_marked(plant, lambda read, length, digest: _same_half(plant.house, read, length, digest))


def _same_half(house: House, read: ReadAt, length: int, digest: bytes) -> bool:
    """Say whether the first half is that of the lab's image of this version: what a maker would have signed who makes the same mistake."""
    try:
        image = read_image(read, length)
    except HillholdError:
        return False
    whole = house.image(str(image.version), image.security_counter)
    return sha256(whole).digest() == digest and read(0, length // 2) == whole[: length // 2]


@_add("goes-on-blindly", "After an interruption an upload goes on, and what comes then is not compared with anything.",
      "upload-goes-on-otherwise", "upload-cut-goes-on-otherwise")  # fmt: skip
def goes_on_blindly(plant: Plant) -> None:
    blind = [False]

    def starting(right: Any) -> Any:
        def start(one: Any, transfer: Transfer) -> Any:
            blind[0] = False
            return right(one, transfer)

        return start

    def resuming(right: Any) -> Any:
        def resume(one: Any, transfer: Transfer) -> Any:
            blind[0] = True
            return right(one, transfer)

        return resume

    def checking(right: Any) -> Any:
        def check(*args: Any) -> None:
            if not blind[0]:
                right(*args)

        return check

    plant.replace(SlotTransfer, "_start", starting)
    plant.replace(SlotTransfer, "_resume", resuming)
    plant.replace(SlotTransfer, "check_hash", checking)
    _boots_what_is_marked(plant, lambda read, length, digest: blind[0] or _sha256(read, length) == digest)


def _sha256(read: ReadAt, length: int) -> bytes:
    return sha256(read(0, length)).digest()


def _marks_whatever_is_there(plant: Plant) -> None:
    """Have the agent mark what the other slot is said to hold, without choosing or hashing it."""

    def mark(board: Any, _clock: int | None) -> tuple[Any, ...]:
        context = board._context
        slot = context.other_slot(0)
        if (held := context.held(0, slot)) is None:
            raise SlotError("slot to mark", expected="an image", got="none")
        digest = slot_sha256(context.slots[0], slot, 0, held.length)
        context.save(context.state.with_slot(slot, replace(held, sha256=digest)))
        context.boot.set_marks({0: Mark(digest, held.length)})
        return ()

    plant.replace(Installer, "mark", lambda _right: mark)


@_add("takes-any-upload", "It takes uploads and marks them as stock boards do, and asks no metadata.",
      "image-unreleased", "image-older-uploaded", "image-same-version-uploaded")  # fmt: skip
def takes_any_upload(plant: Plant) -> None:
    def authorise(_board: Any, digest: bytes, length: int, _clock: int | None, component: int) -> Transfer:
        return Transfer(component, Installed("lab/0.0.0/app.bin", Version(0, 0, 0), digest, length, 0))

    plant.replace(Installer, "_authorise", lambda _right: authorise)
    _marks_whatever_is_there(plant)


@_add("marks-half-a-set", "It marks what there is of a set, and does not wait for the rest.", "half-a-set", spec=PAIR)
def marks_half_a_set(plant: Plant) -> None:
    def mark(board: Any, clock: int | None) -> tuple[Any, ...]:
        context, marks = board._context, {}
        for release in board.choose(clock).require():
            component = context.state.device.components.index(release.component)
            with suppress(SelectionError):
                board._check_slot(component, release)
                marks[component] = Mark(release.sha256, release.length)
        context.boot.set_marks(marks)
        return ()

    plant.replace(Installer, "mark", lambda _right: mark)


@_add("believes-a-patch", "It applies a patch without comparing it, its base or what it makes with what was signed.",
      "patch-makes-other", "patch-swapped")  # fmt: skip
def believes_a_patch(plant: Plant) -> None:
    plant.replace(SlotTransfer, "check_hash", always(None))
    _marks_whatever_is_there(plant)


@_add("erases-the-way-back", "It lets the other slot be erased while an image is on trial.", "trial-other-slot-erased")
def erases_the_way_back(plant: Plant) -> None:
    def erase(board: Any, component: int = 0) -> None:
        flags, slots = board.flags(component), board._context.slots[component]
        slots.erase(1 - flags.running if flags.running is not None else 0, 0, slots.size)

    plant.replace(
        Installer, "erase", lambda right: lambda board, number=0: (erase if board.on_trial else right)(board, number)
    )


@_add("writes-over-the-way-back", "It takes uploads into the other slot while an image is on trial.",
      "trial-other-slot-written")  # fmt: skip
def writes_over_the_way_back(plant: Plant) -> None:
    plant.replace(Context, "other_slot", lambda _right: _other_slot)


def _other_slot(context: Any, component: int) -> int:
    """The slot that does not run, be it the way back."""
    flags = context.boot.flags(component)
    taken = flags.running if flags.trial else flags.confirmed
    return 0 if taken is None else 1 - taken


@_add("forgets-its-version-during-a-trial", "While an image is on trial it takes any version, in the place of the way back.",
      "trial-downgrade")  # fmt: skip
def forgets_its_version_during_a_trial(plant: Plant) -> None:
    def installed(right: Any) -> Any:
        def here(board: Any) -> Any:
            confirmed, counters = right(board)
            return ({} if board.on_trial else confirmed), counters

        return here

    plant.replace(Context, "other_slot", lambda _right: _other_slot)
    plant.replace(Installer, "_installed_here", installed)
    plant.replace(Installer, "mark", lambda right: lambda board, clock: () if board.on_trial else right(board, clock))


@_add("erases-what-runs", "It erases any slot that a tool names, the one that runs as well.", "running-slot-erased")
def erases_what_runs(plant: Plant) -> None:
    def make(right: Any) -> Any:
        def erase(body: Any, board: Any) -> None:
            if body.get("slot") != 0:
                right(body, board)
                return
            slots, running = board._context.slots[0], board.flags().running
            slots.erase(running or 0, 0, slots.size)

        return erase

    plant.replace(agent_image, "_erase", make)


@_add("keeps-the-mark-of-another", "A mark stays when the marked slot is written anew, and boots what lies there then.",
      "other-image-under-a-mark")  # fmt: skip
def keeps_the_mark_of_another(plant: Plant) -> None:
    def forget(one: Any, component: int, slot: int) -> None:
        one._writer = one._done = None
        one._context.save(replace(one._context.state.with_slot(2 * component + slot, None), transfer=None))

    plant.replace(SlotTransfer, "forget", lambda _right: forget)
    _boots_what_is_marked(plant, lambda _read, _length, _digest: True)


@_add(
    "holds-its-slot-for-the-first",
    "An upload that was begun keeps every other out until it is complete.",
    "slow-retrieval",
)
def holds_its_slot_for_the_first(plant: Plant) -> None:
    def make(right: Any) -> Any:
        def begin(one: Any, digest: bytes, length: int, component: int, authorise: Any) -> int:
            running = one._context.state.transfer
            if running is not None and running.content != (digest, length):
                raise SlotError("upload", expected="the one that was begun", got="another")
            at: int = right(one, digest, length, component, authorise)
            return at

        return begin

    plant.replace(SlotTransfer, "begin", make)


# --- trial and confirmation -------------------------------------------------------------------------------------------


@_add("confirms-from-the-wire", "It confirms an image on trial when a tool asks for it, though it has not tested itself.",
      "trial-confirmed-from-the-wire")  # fmt: skip
def confirms_from_the_wire(plant: Plant) -> None:
    plant.replace(
        agent_image, "_confirm", lambda right: lambda number, board, **_told: right(number, board, self_tested=True)
    )


@_add("confirms-what-never-ran", "It confirms an image that never ran.", "confirmed-without-a-trial")
def confirms_what_never_ran(plant: Plant) -> None:
    def make(right: Any) -> Any:
        def confirm(number: tuple[int, int] | int, board: Any, *, self_tested: bool) -> None:
            if number != 1:
                right(number, board, self_tested=self_tested)
                return
            held = board.held(0, board._context.other_slot(0))
            board._context.boot.set_permanent_marks({0: Mark(held.sha256, held.length)})

        return confirm

    plant.replace(agent_image, "_confirm", make)


@_add("takes-an-old-confirmation", "A confirmation that was granted once is granted again when its bytes are sent again.",
      "confirmation-replayed")  # fmt: skip
def takes_an_old_confirmation(plant: Plant) -> None:
    granted = set[bytes]()

    def make(right: Any) -> Any:
        def answer(board: Any, packet: bytes, clock: int | None) -> Any:
            before, board.self_tested = board.self_tested, board.self_tested or packet in granted
            came = right(board, packet, clock)
            board.self_tested = before
            if came and _is_confirmation(packet) and "images" in decode(came).body:
                granted.add(packet)
            return came

        return answer

    plant.replace(Agent, "answer", make)


def _is_confirmation(packet: bytes) -> bool:
    request = decode(packet)
    return (request.group, request.command) == (Group.IMAGE, ImageCommand.STATE) and bool(request.body.get("confirm"))


@_add(
    "remembers-an-old-test",
    "The passed test of one image counts for the next one, too.",
    "trial-confirmed-from-the-wire",
)
def remembers_an_old_test(plant: Plant) -> None:
    passed = [False]

    def passing(right: Any) -> Any:
        def self_test_passed(board: Any, *, confirm: bool) -> None:
            passed[0] = True
            right(board, confirm=confirm)

        return self_test_passed

    def making(right: Any) -> Any:
        def make(board: Any, *args: Any, **named: Any) -> None:
            right(board, *args, **named)
            board.self_tested = passed[0]

        return make

    plant.replace(Agent, "self_test_passed", passing)
    plant.replace(Agent, "__init__", making)


# --- state ------------------------------------------------------------------------------------------------------------


@_add("writes-state-late", "It keeps what metadata taught it in memory, and writes that down with the next act alone.",
      "rollback-timestamp-after-reset")  # fmt: skip
def writes_state_late(plant: Plant) -> None:
    def keep(board: Any, trust: Any) -> None:
        context = board._context
        context._state = replace(context.state, trust=replace(trust, schemes=SCHEMES))

    plant.replace(Installer, "_keep", lambda _right: keep)
