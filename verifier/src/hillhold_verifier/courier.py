"""The courier: brings a board up to date from a repository. It carries files and decides nothing; the board does.

Sans-I/O: `push` is a generator that yields a `Request` or a `Pause` and is sent the response's body (None after a pause). A link
(`link`) gives it a serial line. What it reads of metadata it reads unverified, only to know which files the board lacks.

    identify · held  ->  the files that the board lacks  ->  choose  ->  patch or image  ->  test  ->  reset  ->  what runs then
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hillhold_verifier.agent import APPLY, CHOOSE, HELD, IDENTIFY, MAGIC, METADATA, PROTOCOL, STATUS
from hillhold_verifier.answers import BoardRefused, Body, checked, held_names, plan_of, reasons_of, runs
from hillhold_verifier.content import ContentCheck
from hillhold_verifier.conversation import Conversation, Pause, Progress, Request, Upload
from hillhold_verifier.errors import (
    MetadataError,
    MismatchError,
    OperationalError,
    PatchError,
    Refused,
    SlotError,
    SmpError,
    WireError,
)
from hillhold_verifier.metadata import (
    MAX_LENGTH,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    parse_snapshot,
    parse_targets,
    parse_timestamp,
)
from hillhold_verifier.release import NOTHING, Patch, parse_target, patch_path
from hillhold_verifier.smp import HILLHOLD_GROUP, MAX_MESSAGE, Group, ImageCommand, Message, Op, OsCommand, encode
from hillhold_verifier.smp_check import CHECK
from hillhold_verifier.smp_fields import bytes_field, int_field, text_field
from hillhold_verifier.sources import Source
from hillhold_verifier.times import show_span
from hillhold_verifier.wire import base_name, deflate

RESET_POLLS: Final = 30
"""How often a board is asked after a reset what it runs."""
POLL_PAUSE: Final = 0.5
"""Seconds between two of them."""
MIN_BUFFER: Final = 128
"""The least room for a message that a courier reckons with."""
MAX_WINDOW: Final = 8
"""Requests under way, at most; twice what the fastest line has use for."""
PIECE: Final = 64 * 1024
"""Bytes of a patch that are read at a time while it is checked."""
MAX_VERDICTS: Final = 2048
"""Releases of which a board may say something: more than there can be in a line role."""
FALL_BACK: Final = frozenset({PatchError.code, SlotError.code, MismatchError.code})
"""Refusals of a patch after which the next way is tried."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """The end of a push.

    Attributes:
        paths: what was installed together; none where there was nothing to install.
        how: "patch", "compressed image", "image", several of these, or "".
        sent: payload bytes of images and patches.
        reasons: (path, outcome, reason) for each candidate, where nothing was installed.
        status: the board's last status.
        runs: all of it runs now.
    """

    paths: tuple[str, ...]
    how: str
    sent: int
    reasons: tuple[tuple[str, str, str], ...]
    status: Body
    runs: bool = False

    @property
    def installed(self) -> str | None:
        """The paths in words, or None."""
        return " and ".join(self.paths) or None


class StockBoardError(OperationalError):
    """The board has SMP, and not Hillhold's group: who pushes to it has to verify (`stockpush`)."""

    hint = "to have this host verify for it: --host-state DIR, and the first time --root FILE --product NAME --hardware NAME"


class Courier:
    """Carries from `source` to a board; `report` is told of each step."""

    def __init__(
        self, source: Source, report: Callable[[Progress], None] = lambda _: None, *, group: int = HILLHOLD_GROUP
    ) -> None:
        self._source, self._report, self._group = source, report, group
        self._buffer, self._window = 256, 1

    def push(self, *, patches: bool = True, reset: bool = True) -> Conversation[Pushed]:
        """Bring the board up to date.

        Args:
            patches: send a patch, or the image compressed, where that is smaller.
            reset: boot the new image; without, it stays marked.

        Raises:
            BoardRefused: the board refused a step, in its own words.
            OperationalError: the source lacks a file, or the board does not come back.
        """
        identity, choice = yield from self._chosen()
        product = text_field(identity, "product")
        plan = plan_of(choice)
        if grace := int_field(choice, "grace", 0):
            self._report(Progress(f"note: timestamp or snapshot expired {show_span(grace)} ago; offline grace is used"))
        if not plan:
            return Pushed((), "", 0, reasons_of(choice), (yield from self._own(Op.READ, STATUS, {})))
        ways, sent = set[str](), 0
        for entry in plan:
            for patch in (yield from self._ways(product, entry, identity)) if patches else ():
                if (yield from self._patched(entry, patch)):
                    ways.add("compressed image" if patch.base == NOTHING else "patch")
                    sent += patch.length
                    break
            else:
                path, length = text_field(entry, "path"), int_field(entry, "len")
                yield from self._bring("image", int_field(entry, "n"), path, bytes_field(entry, "sha"), length)
                ways.add("image")
                sent += length
        yield from self._test()
        status = yield from self._boot() if reset else self._own(Op.READ, STATUS, {})
        paths = tuple(text_field(entry, "path") for entry in plan)
        return Pushed(paths, " and ".join(sorted(ways, reverse=True)), sent, (), status, runs(plan, status))

    def _patched(self, entry: Body, patch: Patch) -> Conversation[bool]:
        """Bring a patch and have it applied; False where source or board refuse it for a reason that another way may not have."""
        try:
            self._check_at_source(patch)
        except (OperationalError, Refused) as error:
            self._report(Progress(f"patch unavailable ({error}); trying the next way"))
            return False
        try:
            yield from self._bring("patch", int_field(entry, "n"), patch.path, patch.sha256, patch.length)
            self._report(Progress("the board applies the patch"))
            yield from self._own(Op.WRITE, APPLY, {}, slow=True)
        except BoardRefused as refusal:
            if refusal.board_code not in FALL_BACK:
                raise
            self._report(Progress(f"patch refused ({refusal}); trying the next way"))
            return False
        return True

    def _check_at_source(self, patch: Patch) -> None:
        """Read a patch whole before the board hears of it, which erases what it has so far; raises as the source, or `MismatchError`."""
        check = ContentCheck(patch.path, patch.length, {"sha256": patch.sha256})
        at = 0
        with self._source.target(patch.path, patch.sha256) as content:
            while at < patch.length and (data := content.read(at, min(PIECE, patch.length - at))):
                check.feed(data)
                at += len(data)
        check.finish()

    def check(self) -> Conversation[tuple[Body, Body]]:
        """Bring the metadata only; return the board's identity and its choice: `plan`, and `reasons` for every other candidate."""
        identity, choice = yield from self._chosen()
        reasons: list[object] = []
        while len(reasons) < MAX_VERDICTS:
            page = yield from self._own(Op.READ, CHOOSE, {"o": len(reasons)}, slow=True)
            rows = reasons_of(page)  # not what else a board may put there: it would all be kept
            reasons += map(list, rows)
            if not rows or not int_field(page, "more", 0):
                break
        return identity, {**choice, "reasons": reasons}

    def _chosen(self) -> Conversation[tuple[Body, Body]]:
        identity = yield from self._identify()
        yield from self._bring_metadata(text_field(identity, "product"))
        return identity, (yield from self._own(Op.READ, CHOOSE, {}, slow=True))

    # --- metadata ----------------------------------------------------------------------------------------------------

    def _identify(self) -> Conversation[Body]:
        identity = yield from _identify(self._group)
        # Afterwards: over raw, answers are checked only once the board has shown that it is ours.
        parameters = yield Request(Op.READ, Group.OS, OsCommand.MCUMGR_PARAMETERS, {})
        if "buf_size" in parameters:
            self._buffer = min(max(int_field(parameters, "buf_size"), MIN_BUFFER), MAX_MESSAGE)
            self._window = min(max(int_field(parameters, "buf_count", 1), 1), MAX_WINDOW)
        self._report(Progress(f"board {identity.get('id')}: {identity.get('product')} on {identity.get('hardware')}"))
        return identity

    def _bring_metadata(self, product: str) -> Conversation[None]:
        held = yield from self._own(Op.READ, HELD, {})
        version = int_field(held, "r")
        root = self._require(f"{version}.root.json")
        while (following := self._source.metadata(f"{version + 1}.root.json")) is not None:
            self._report(Progress(f"metadata: root {version + 1}"))
            yield from self._bring_file(0, following, root)
            root, version = following, version + 1
        if version != int_field(held, "r"):
            held = yield from self._own(Op.READ, HELD, {})  # a root may have taken the place of other files
        names = held_names(held.get("h"))
        chain = self._chain(product)
        for number, ((role, raw), (held_version, name)) in enumerate(zip(chain, names, strict=False), 1):
            if base_name(raw) == name:
                continue
            self._report(Progress(f"metadata: {role}"))
            before = self._source.metadata(f"{held_version}.{role}.json") if held_version else None
            lister = root if number < len(names) else chain[2][1]
            known = before if before is not None and base_name(before) == name else b""
            if "need" not in (yield from self._bring_file(number, raw, lister, known)):
                return  # the board's chain is complete: whatever else the repository lists, it is not for this board

    def _chain(self, product: str) -> list[tuple[str, bytes]]:
        """The repository's chain: roles with their files."""
        timestamp = self._require("timestamp.json")
        snapshot_version = parse_timestamp(timestamp).signed.snapshot.version
        snapshot = self._require(f"{snapshot_version}.{SNAPSHOT}.json")
        meta = parse_snapshot(snapshot).signed.meta
        listed = [
            (role, self._require(f"{meta[role].version}.{role}.json")) for role in (TARGETS, product) if role in meta
        ]
        return [(TIMESTAMP, timestamp), (SNAPSHOT, snapshot), *listed]

    def _bring_file(self, number: int, raw: bytes, lister: bytes, held: bytes = b"") -> Conversation[Body]:
        try:
            return (yield from self._bring_packed(number, raw, lister, held))
        except BoardRefused as refusal:
            if refusal.board_code != WireError.code or not lister:
                raise
            # The board holds other files than this repository; without a base it can judge this one all the same.
            return (yield from self._bring_packed(number, raw, b"", b""))

    def _bring_packed(self, number: int, raw: bytes, lister: bytes, held: bytes) -> Conversation[Body]:
        packed = deflate(raw, held, lister)
        first: dict[str, object] = {"f": number, "n": len(packed), "l": len(raw), "b": base_name(lister + held)}
        at = 0
        answer: Body = {}
        while at < len(packed):
            head = first if at == 0 else {"f": number, "o": at}
            data = packed[at : at + self._room(self._group, METADATA, {**head, "d": b""})]
            answer = yield from self._own(Op.WRITE, METADATA, {**head, "d": data}, slow=True)
            at += len(data)
        return answer

    def _require(self, name: str) -> bytes:
        if (data := self._source.metadata(name)) is None:
            raise OperationalError(f"the repository lacks {name}")
        return data

    # --- image or patch ----------------------------------------------------------------------------------------------

    def _ways(self, product: str, entry: Body, identity: Body) -> Conversation[list[Patch]]:
        """The patches to try before the image: the smallest first.

        What an interrupted transfer brings goes on before anything else erases what came of it.
        """
        if not (found := self._find_patches(product, entry, identity)):
            return []
        arriving = (yield from self._own(Op.READ, STATUS, {})).get("transfer")
        if arriving == entry.get("path"):
            return []
        return sorted(found, key=lambda patch: (patch.path != arriving, patch.length))

    def _find_patches(self, product: str, entry: Body, identity: Body) -> list[Patch]:
        """What makes a chosen release from the board's confirmed image, or from nothing, and is smaller."""
        line = parse_targets(self._chain(product)[-1][1], product).signed
        known, found = identity.get("alg"), []
        for base in (entry.get("base"), NOTHING):
            target = line.targets.get(patch_path(text_field(entry, "path"), base)) if isinstance(base, bytes) else None
            try:
                patch = parse_target(target) if target else None
            except MetadataError:
                continue
            if isinstance(patch, Patch) and isinstance(known, list) and patch.algorithm in known:
                found.append(patch)
        return [patch for patch in found if patch.length < int_field(entry, "len")]

    def _bring(self, what: str, component: int, path: str, digest: bytes, length: int) -> Conversation[None]:
        if length > MAX_LENGTH:  # a board's word: no source has such an offset, nor would a transfer to it end
            raise SmpError(f"length of {path}", expected=f"at most {MAX_LENGTH}", got=length)
        first = {"image": component, "len": length, "sha": digest}
        with self._source.target(path, digest) as content:
            # The board says where to go on, and may erase meanwhile.
            upload = Upload(
                content, length, first, f"{what} {path}", self._buffer, self._window, self._report, asks=True
            )
            yield from self._in_words((yield upload))

    def _test(self) -> Conversation[None]:
        """Mark the image that does not run (stock `test`); the board chooses again before it does."""
        state = yield from self._image(ImageCommand.STATE, {}, read=True)
        images = state.get("images")
        for image in images if isinstance(images, list) else []:
            if isinstance(image, dict) and not image.get("active") and not image.get("confirmed"):
                yield from self._image(ImageCommand.STATE, {"confirm": False, "hash": image.get("hash")}, slow=True)
                return
        raise OperationalError("the board lists no image to test")

    def _boot(self) -> Conversation[Body]:
        """Reset, and wait until the image is confirmed or the board went back."""
        self._report(Progress("reset, trial boot"))
        status: Body = {}
        tested = 0
        for _ in range(RESET_POLLS):
            if not status or (status.get("marked") is not None and not status.get("trial")):
                yield Request(Op.WRITE, Group.OS, OsCommand.RESET, {}, once=True)
            yield Pause(POLL_PAUSE)
            # A board whose application hangs is silent until its watchdog bites.
            status = checked((yield Request(Op.READ, self._group, STATUS, {}, booting=True)))
            tested += status.get("self_tested") is True
            # An image that has tested itself and does not confirm waits for someone to do it.
            if (not status.get("trial") and status.get("marked") is None) or tested > 2:
                return status
        return status

    # --- requests ----------------------------------------------------------------------------------------------------

    def _own(self, op: Op, command: int, body: Body, *, slow: bool = False) -> Conversation[Body]:
        return checked((yield Request(op, self._group, command, body, slow)))

    def _image(
        self, command: ImageCommand, body: Body, *, read: bool = False, slow: bool = False
    ) -> Conversation[Body]:
        answer = yield Request(Op.READ if read else Op.WRITE, Group.IMAGE, command, body, slow)
        return (yield from self._in_words(answer))

    def _in_words(self, answer: Body) -> Conversation[Body]:
        """Check an answer of group IMAGE; raises `BoardRefused` with the board's own words."""
        try:
            return checked(answer)
        except BoardRefused as refusal:
            # A stock error is a number; the board's own words are in its status.
            status = yield from self._own(Op.READ, STATUS, {})
            words = status.get("refusal")
            raise BoardRefused(int_field(status, "code", 0) or refusal.board_code, str(words or refusal)) from None

    def _room(self, group: int, command: int, body: Body) -> int:
        """How many bytes fit into the empty byte string of a request with this body."""
        return self._buffer - len(CHECK) - len(encode(Message(Op.WRITE, group, command, 0, body))) - 2


def ask(request: Request) -> Conversation[Body]:
    """Ask one thing; returns the response's body, whatever it says."""
    return (yield request)


def read_status(group: int = HILLHOLD_GROUP) -> Conversation[tuple[Body, Body]]:
    """Ask a board what it is and what it runs; returns its identity and its status."""
    identity = yield from _identify(group)
    status = checked((yield Request(Op.READ, group, STATUS, {})))
    return identity, status


def confirm_running(group: int = HILLHOLD_GROUP) -> Conversation[Body]:
    """Ask a board to confirm what it runs (stock `confirm`); returns its status then."""
    yield from _identify(group)
    answer = yield Request(Op.WRITE, Group.IMAGE, ImageCommand.STATE, {"confirm": True}, slow=True)
    status = checked((yield Request(Op.READ, group, STATUS, {})))
    if "err" in answer or answer.get("rc"):
        raise BoardRefused(int_field(status, "code", 0), text_field(status, "refusal", "") or "confirmation refused")
    return status


def _identify(group: int) -> Conversation[Body]:
    """Ask a board what it is; before that nothing is written to it."""
    identity = yield Request(Op.READ, group, IDENTIFY, {})
    if identity.get("magic") != MAGIC:
        if "images" in (yield Request(Op.READ, Group.IMAGE, ImageCommand.STATE, {})):
            raise StockBoardError(f"a stock board: it has SMP, and not Hillhold's group {group}")
        raise OperationalError(f"the board does not speak Hillhold's group {group}")
    if identity.get("v") != PROTOCOL:
        raise OperationalError(f"the board speaks version {identity.get('v')} of the protocol, not {PROTOCOL}")
    return identity
