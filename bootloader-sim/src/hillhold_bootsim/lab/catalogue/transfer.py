"""Uploads and patches: what comes into a slot is the whole of what was chosen, however it is cut, interrupted, or described."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Final

from hillhold_bootsim.lab.bench import Bench
from hillhold_bootsim.lab.catalogue import kinds
from hillhold_bootsim.lab.catalogue import sources as of
from hillhold_bootsim.lab.catalogue.book import Book
from hillhold_bootsim.lab.catalogue.leaves import FLOORS
from hillhold_bootsim.lab.forge import DAY
from hillhold_bootsim.lab.house import TOP, Release
from hillhold_bootsim.lab.stockinstall import image_hash
from hillhold_signer.patches import make_patch
from hillhold_verifier.patch import ALGORITHM
from hillhold_verifier.smp import HILLHOLD_GROUP, Group, ImageCommand, Op

TRANSFER_CASES: Final = Book("image")
_add = TRANSFER_CASES.add
TRIES: Final = 16
"""Images of the attacker's of which one may make a patch as long as the signed one."""
STAYS = "It refuses at the end, and goes on running what it ran; the next upload begins from zero."


def chosen(bench: Bench) -> Release:
    """A release that the board has chosen, and not yet been sent."""
    release = bench.house.release()
    bench.check(bench.house.repo)
    return release


def _tried(bench: Bench, *images: bytes) -> None:
    """Ask for the trial of whatever lies in the other slot."""
    for data in images:
        bench.image(ImageCommand.STATE, hash=image_hash(data), confirm=False)
    bench.soft_reset()
    bench.image(ImageCommand.STATE, confirm=True)


@_add(
    "upload-under-chosen-hash",
    "Another image, uploaded under the hash of the chosen one",
    how="The board has chosen a release. An image of the same length, signed by the right image key, is uploaded under its hash.",
    expected=STAYS,
    sources=(of.TUF_ARBITRARY, of.TUF_TARGET, *kinds.WHOLE, *kinds.UNASKED),
    leaves=FLOORS,
)
def upload_under_chosen_hash(bench: Bench) -> None:
    release = chosen(bench)
    other = bench.house.image(TOP)
    for named in (sha256(release.data).digest(), sha256(release.data).digest()[:8], b""):
        bench.upload(other, digest=named, length=len(release.data))
        _tried(bench, other, release.data)


@_add(
    "upload-goes-on-otherwise",
    "An upload that is interrupted and goes on with other content",
    how="The first half of the chosen release is uploaded, and the board reset. Then the upload goes on with another image of the same "
    "length and the same first half, signed by the right image key.",
    expected=STAYS,
    sources=(of.TUF_MIX, of.TUF_TARGET, of.FDA_INTERRUPTION, of.FDA_CRC, *kinds.WEAKNESS, *kinds.WHOLE),
    leaves=FLOORS,
)
def upload_goes_on_otherwise(bench: Bench) -> None:
    release = chosen(bench)
    other = bench.house.image(release.version, tail=" otherwise")
    half = len(release.data) // 2
    bench.upload(release.data, end=half)
    bench.reset()
    first = {"image": 0, "off": 0, "len": len(release.data), "sha": sha256(release.data).digest(), "data": b""}
    at = bench.image(ImageCommand.UPLOAD, **first).get("off", 0)
    start = at if isinstance(at, int) and 0 < at <= half else 0
    bench.upload(other, digest=sha256(release.data).digest(), start=start)
    _tried(bench, other, release.data)


@_add(
    "upload-cut-goes-on-otherwise",
    "An upload that a loss of power ends, and that goes on with other content",
    how="As upload-goes-on-otherwise, with the power cut in place of a reset.",
    expected=STAYS,
    sources=(of.TUF_MIX, of.FDA_INTERRUPTION, of.EN_POWER, of.CR_7_4, *kinds.WHOLE),
    leaves=FLOORS,
    needs=("metadata", "power"),
)
def upload_cut_goes_on_otherwise(bench: Bench) -> None:
    release = chosen(bench)
    other = bench.house.image(release.version, tail=" otherwise")
    half = len(release.data) // 2
    bench.upload(release.data, end=half)
    bench.cut_power()
    bench.upload(other, digest=sha256(release.data).digest(), end=bench.room)
    bench.upload(other, digest=sha256(release.data).digest(), start=bench.room)
    _tried(bench, other, release.data)


@_add(
    "upload-in-disorder",
    "Uploads that begin in the middle, overlap, or are longer than they said",
    how="Pieces at offsets that nobody asked for, first pieces whose fields are missing, negative, huge or of another type, and bytes "
    "beyond the announced end.",
    expected="It takes none of it, and the next honest upload.",
    sources=(of.TUF_ENDLESS, *kinds.LIMITS, *kinds.MALFORMED, *kinds.UNASKED),
    leaves=FLOORS,
    needs=("smp",),
)
def upload_in_disorder(bench: Bench) -> None:
    right = bench.house.image(TOP) if bench.is_stock else chosen(bench).data
    data = right[:-1] + bytes([right[-1] ^ 1])  # nothing that could rightly run
    first: dict[str, object] = {
        "image": 0,
        "off": 0,
        "len": len(data),
        "sha": sha256(data).digest(),
        "data": data[: bench.room],
    }
    odd: tuple[dict[str, object], ...] = (
        {"off": 700},
        {"off": 1 << 62},
        {"off": -1},
        {"off": "0"},
        {"len": -1},
        {"len": 1 << 63},
        {"len": True},
        {"len": "x"},
        {"sha": b"\0"},
        {"sha": b"\0" * 33},
        {"sha": "text"},
        {"image": -1},
        {"image": 255},
        {"data": "text"},
        {"data": None},
    )
    for change in odd:
        bench.image(ImageCommand.UPLOAD, **{**first, **change})
    bench.image(ImageCommand.UPLOAD, **first)
    bench.image(ImageCommand.UPLOAD, off=len(data) - 1, data=b"\0" * bench.room)
    bench.upload(data + bytes(2 * bench.room), length=len(data))
    if not bench.is_stock:  # of what is chosen, all but the last bytes, and then too many
        bench.upload(right, end=len(right) - 10)
        bench.image(ImageCommand.UPLOAD, off=len(right) - 10, data=bytes(bench.room))
    _tried(bench, data)


@_add(
    "mark-after-expiry",
    "A release that is uploaded, and tried once its metadata have expired",
    how="A release is uploaded whole. The board's clock passes the expiry of its timestamp, and a stock tool asks for the trial.",
    expected="Marking repeats the choice, and nothing is current: it refuses.",
    sources=(of.TUF_FREEZE, of.TUF_TIMESTAMP_EXPIRY, *kinds.MITIGATION, *kinds.UNASKED),
    leaves=FLOORS,
    needs=("metadata", "clock"),
)
def mark_after_expiry(bench: Bench) -> None:
    release = chosen(bench)
    bench.upload(release.data)
    bench.set_clock(bench.target.now() + 8 * DAY)
    _tried(bench, release.data)


@_add(
    "half-a-set",
    "One image of a set that belongs together",
    how="The line lists images for all components as a set. One of them is uploaded, and its trial asked for.",
    expected="Half a set is never marked.",
    sources=(of.TUF_MIX, of.EN_UPDATABLE, *kinds.MITIGATION),
    leaves=FLOORS,
    needs=("metadata", "components"),
)
def half_a_set(bench: Bench) -> None:
    house = bench.house
    release = house.release(whole=True)
    bench.check(house.repo)
    bench.upload(release.data)
    _tried(bench, release.data)


# --- patches ----------------------------------------------------------------------------------------------------------


def _patch_name(bench: Bench, patch: bytes) -> str:
    """The name under which a patch lies in the tree."""
    return next(name for name, data in bench.house.repo.tree.items() if data == patch)


def _as_long(bench: Bench, release: Release, length: int) -> bytes:
    """A patch of that length to another image that says that it is this release, if one of some has it."""
    made = [
        make_patch(bench.current.data, bench.house.image(release.version, tail=f" swapped {number}"))
        for number in range(TRIES)
    ]
    return min(made, key=lambda patch: abs(len(patch) - length))


class _Swapped(dict[str, bytes]):
    """A tree that shows a right file to whoever looks first, since a courier checks, and another from then on."""

    def __init__(self, tree: Mapping[str, bytes], name: str, other: bytes) -> None:
        super().__init__(tree)
        self._name, self._other = name, other

    def __getitem__(self, name: str) -> bytes:
        shown = super().__getitem__(name)
        if name == self._name:
            self[name] = self._other
        return shown


@_add(
    "patch-swapped",
    "Another patch under the name of the signed one",
    how="A patch that makes an image of the attacker's, signed by the right image key, is served in the place of the listed patch, one "
    "of them of the same length; then one with a changed byte.",
    expected="It refuses the patch, and may take the honest image whole.",
    sources=(of.TUF_ARBITRARY, of.TUF_TARGETS_HASH, of.FDA_CRC, *kinds.WHOLE),
    leaves=FLOORS,
)
def patch_swapped(bench: Bench) -> None:
    house = bench.house
    base = bench.current
    release = house.release(base=base)
    bench.allow(release)
    right = make_patch(base.data, release.data)
    name = _patch_name(bench, right)
    wrong = make_patch(base.data, house.image(TOP))
    for spoilt in (
        wrong,
        _as_long(bench, release, len(right)),
        wrong.ljust(len(right), b"\0")[: len(right)],
        right[:30] + bytes([right[30] ^ 1]) + right[31:],
    ):
        tree = {path: data for path, data in house.repo.tree.items() if data != release.data}
        bench.push(_Swapped(tree, name, spoilt))


@_add(
    "patch-makes-other",
    "A signed patch that makes another image than it says",
    how="The quorum signed a patch to its release; what it makes is another image, signed by the right image key.",
    expected="The result's hash is not the signed one: it refuses, and may take the honest image whole.",
    sources=(of.TUF_TARGET, *kinds.WEAKNESS, *kinds.WHOLE),
    leaves=FLOORS,
)
def patch_makes_other(bench: Bench) -> None:
    house, base = bench.house, bench.current
    release = house.release()
    bench.allow(release)
    wrong = make_patch(base.data, house.image(TOP))
    house.repo.add_patch(release.path, base.data, wrong, algorithm=ALGORITHM)
    house.publish()
    tree = {path: data for path, data in house.repo.tree.items() if data != release.data}
    bench.push(tree)
    _tried(bench, house.image(TOP), release.data)


@_add(
    "patch-of-other-base",
    "A signed patch that was made for another base than it says",
    how="The quorum signed a patch for the image that runs; it was made from another one, and gives other bytes without an error.",
    expected="The result's hash is not the signed one: it refuses, and may take the honest image whole.",
    sources=(of.TUF_TARGET, *kinds.WHOLE),
    leaves=FLOORS,
)
def patch_of_other_base(bench: Bench) -> None:
    house, base = bench.house, bench.current
    release = house.release()
    bench.allow(release)
    other = house.image("1.250.250")
    house.repo.add_patch(release.path, base.data, make_patch(other, release.data), algorithm=ALGORITHM)
    house.publish()
    tree = {path: data for path, data in house.repo.tree.items() if data != release.data}
    bench.push(tree)
    _tried(bench, release.data)


@_add(
    "apply-in-disorder",
    "The command to apply a patch, where there is none",
    how="The board is told to apply a patch before one came, after half of one, and twice.",
    expected="It refuses, and goes on running what it ran.",
    sources=kinds.MALFORMED,
    leaves=FLOORS,
)
def apply_in_disorder(bench: Bench) -> None:
    house, base = bench.house, bench.current
    bench.own(Op.WRITE, 4)
    release = house.release(base=base)
    bench.check(house.repo)
    bench.own(Op.WRITE, 4)
    patch = make_patch(base.data, release.data)
    bench.upload(patch, end=len(patch) // 2)
    for _ in range(2):
        bench.own(Op.WRITE, 4)
    _tried(bench, release.data)


@_add(
    "odd-messages",
    "Every command of the groups that a board serves, with bodies that fit none",
    how="Commands 0 to 15 of the groups OS (but for the reset), image and Hillhold's, read and written, with empty, foreign and nested "
    "bodies.",
    expected="It answers with errors or not at all, and serves whoever comes next.",
    sources=(*kinds.LIMITS, *kinds.MALFORMED, *kinds.AVAILABLE, *kinds.UNASKED),
    needs=("smp",),
)
def odd_messages(bench: Bench) -> None:
    bodies: tuple[dict[str, object], ...] = (
        {},
        {"off": "x", "len": b"", "data": 5, "hash": 7, "confirm": "yes", "slot": -1, "f": [], "d": {}, "o": None},
        {"hash": bytes(31), "confirm": True, "off": -1, "n": -1, "l": 1 << 63, "b": b"x", "f": -1, "d": b""},
        {"a": [[[[{"b": [1, 2, {"c": b"x" * 40}]}]]]]},
    )
    groups = (Group.OS, Group.IMAGE) if bench.is_stock else (Group.OS, Group.IMAGE, HILLHOLD_GROUP)
    for group in groups:
        for command in range(16):
            if (group, command) == (Group.OS, 5):
                continue
            for op in (Op.READ, Op.WRITE):
                for body in bodies:
                    bench.ask(op, group, command, body)
