"""Push to a stock board: this host verifies in the board's place, and the board checks nothing but the image's signature (DESIGN §7.2).

Sans-I/O, as `courier`: `push` is a generator of requests, pauses and uploads.

    what is it, what does it run  ->  metadata judged here  ->  choice  ->  the image whole, judged here  ->  upload  ->  test  ->  reset
    ->  confirmed, on trial, or gone back

Before the first byte is sent, the image's length, SHA-256, own hash, version and counter are what was signed; what is sent is what was
judged, held in memory. The board is then asked what it has, before it is asked to try it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from typing import Final

from hillhold_verifier.agent import MAGIC
from hillhold_verifier.content import ContentCheck
from hillhold_verifier.conversation import Conversation, Pause, Progress, Request, Upload
from hillhold_verifier.errors import (
    ImageError,
    MetadataError,
    MismatchError,
    MisuseError,
    OperationalError,
    Refused,
    SelectionError,
    SlotError,
    short,
)
from hillhold_verifier.header import check_header
from hillhold_verifier.hosttrust import HostTrust
from hillhold_verifier.local import take_metadata
from hillhold_verifier.mcuboot import Image, check_hash, read_image
from hillhold_verifier.release import Release, parse_target
from hillhold_verifier.select import Installed, Selection
from hillhold_verifier.smp import HILLHOLD_GROUP, Group, ImageCommand, MgmtErr, Op, OsCommand
from hillhold_verifier.sources import Source
from hillhold_verifier.stock import StockBoard, StockImage, listed, look, meet, refuse_error
from hillhold_verifier.times import show_span

MAX_IMAGE: Final = 64 * 1024 * 1024
"""Bytes of an image: it is held in memory, so that what is sent is what was judged."""
PIECE: Final = 64 * 1024
POLL_PAUSE: Final = 0.5
"""Seconds between two looks at a board that restarts."""
BOOT_POLLS: Final = 60
"""Looks until a board counts as one that did not restart."""
RESET_AGAIN: Final = 8
"""Looks after which a board that still has the mark, and did not restart, is reset once more."""
TRIAL_POLLS: Final = 10
"""Looks at an image on trial, until it counts as one that waits to be confirmed."""
TRUST_NOTE: Final = "verified on this host; the board itself checked only the image's signature"


class UnsafeBoardError(SlotError):
    """The board is in serial recovery: an upload goes over the image that runs."""


class End(Enum):
    """How a push ended."""

    NOTHING = "nothing to install"
    MARKED = "marked"
    CONFIRMED = "confirmed"
    TRIAL = "on trial"
    REVERTED = "reverted"
    WRITTEN = "written"


@dataclass(frozen=True, slots=True)
class StockPushed:
    """The end of a push.

    Attributes:
        end: how it ended.
        path: what was installed; None where there was nothing to install.
        sent: payload bytes.
        selection: what was chosen, and why nothing else.
        board: what the board listed last.
        withdrawn: what the board confirmed is a release that is withdrawn.
    """

    end: End
    path: str | None
    sent: int
    selection: Selection
    board: StockBoard
    withdrawn: str | None = None


@dataclass(frozen=True, slots=True)
class _Judged:
    """A release, its component's number, its bytes, and what they say of themselves: all as signed."""

    release: Release
    component: int
    data: bytes
    image: Image

    def read(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


class StockCourier:
    """Verifies for a stock board, and carries to it.

    Args:
        source: trusted with nothing.
        trust: what this host holds for that board.
        clock: Unix seconds.
        report: told of each step.
        group: SMP group in which a board of ours would answer.
    """

    def __init__(
        self,
        source: Source,
        trust: HostTrust,
        clock: int,
        report: Callable[[Progress], None] = lambda _: None,
        *,
        group: int = HILLHOLD_GROUP,
    ) -> None:
        self._source, self._trust, self._clock, self._report, self._group = source, trust, clock, report, group

    def check(self) -> Conversation[tuple[StockBoard, Selection]]:
        """Take metadata, and choose; nothing is written to the board.

        Raises:
            MisuseError: the board verifies for itself, or has more images than this host was told of.
            Refused: metadata that do not hold.
            OperationalError: the source lacks a file, or the board does not answer as one.
        """
        board = yield from self._meet()
        return board, self._select(board)

    def push(self, *, reset: bool = True, no_way_back: bool = False) -> Conversation[StockPushed]:
        """Bring the board up to date.

        Args:
            reset: boot the new image; without, it stays marked.
            no_way_back: overwrite the image that runs, on a board in serial recovery.

        Raises:
            BoardRefused: the board refused a step.
            SlotError: a trial is under way, or something else is marked; or the board is in serial recovery, without `no_way_back`.
            MismatchError: the image, or what the board says of it, is not what was signed.
            SelectionError: a set of several images, which such a board cannot mark in one write.
            MisuseError, Refused, OperationalError: as `check`.
        """
        board, selection = yield from self.check()
        if selection.grace_used:
            spent = show_span(selection.grace_used)
            self._report(Progress(f"note: timestamp or snapshot expired {spent} ago; offline grace is used"))
        if gone := self._withdrawn_on_trial(board):
            end, board = yield from self._go_back(board)
            return StockPushed(end, gone.path, 0, selection, board, gone.path)
        if not selection.plan:
            return StockPushed(End.NOTHING, None, 0, selection, board, self._withdrawn(board))
        judged = self._judge(selection)
        if board.recovery:
            return (yield from self._overwrite(board, judged, selection, reset=reset, no_way_back=no_way_back))
        return (yield from self._try(board, judged, selection, reset=reset))

    # --- what the board is and runs ----------------------------------------------------------------------------------

    def _meet(self) -> Conversation[StockBoard]:
        board = yield from meet(self._group)
        if board is None:
            raise MisuseError(
                f"this board speaks the group of {MAGIC}, and verifies for itself: push without --host-state"
            )
        components = self._trust.device.components
        if beyond := [image.image for image in board.images if image.image >= len(components)]:
            raise MisuseError(
                f"the board has an image {max(beyond)}; this host was told of {', '.join(components)}: name them all with --component"
            )
        what = "MCUboot's serial recovery" if board.recovery else "SMP, and not Hillhold's group"
        self._report(Progress(f"a stock board ({what}): this host verifies for it"))
        return board

    def _select(self, board: StockBoard) -> Selection:
        return take_metadata(self._trust, self._source, self._clock, lambda: self._choose(board), self._report)

    def _choose(self, board: StockBoard) -> Selection:
        """The table of DESIGN §4, over what the board says that it confirmed."""
        confirmed: dict[str, Installed] = {}
        for number, name in enumerate(self._trust.device.components):
            if (image := board.confirmed(number)) is None:
                continue
            release = self._release_of(name, image)
            if release is None:
                self._report(
                    Progress(f"note: the board runs {image.version}, and no release of the line is known to be it")
                )
                confirmed[name] = Installed("", image.version, image.hash, 0, 0)
                continue
            confirmed[name] = Installed.of(release)
            if not self._trust.saw_confirmed(release):
                self._report(Progress(f"note: the board went back to {image.version}, by nobody's signature"))
        return self._trust.choose(confirmed, self._clock)

    def _release_of(self, component: str, image: StockImage) -> Release | None:
        """The listed release that an image in a slot is: by MCUboot's hash, which this host computes from the release's own bytes."""
        for release in self._releases():
            if (release.component, release.version) != (component, image.version):
                continue
            try:
                data = self._bring(release)
                found = read_image(_reader(data), len(data))
                if found.sha256 == image.hash and check_hash(found, _reader(data)):
                    return release
            except (Refused, OperationalError) as error:
                self._report(Progress(f"note: {release.path} cannot be compared with what the board runs: {error}"))
        return None

    def _releases(self) -> list[Release]:
        line, found = self._trust.state.trust.line, []
        for target in line.signed.targets.values() if line else ():
            try:
                release = parse_target(target)
            except MetadataError:
                continue  # judged, and refused, by `select`
            if isinstance(release, Release) and self._trust.device.hardware in release.hardware:
                found.append(release)
        return found

    def _withdrawn(self, board: StockBoard) -> str | None:
        """The path of a withdrawn release that the board runs."""
        gone = self._trust.withdrawn()
        held = [self._trust.remembered(number) for number, _ in enumerate(self._trust.device.components)]
        running = {image.version for image in board.images if image.confirmed}
        return next((item.path for item in held if item and item.sha256 in gone and item.version in running), None)

    def _withdrawn_on_trial(self, board: StockBoard) -> Release | None:
        names, gone = self._trust.device.components, self._trust.withdrawn()
        found = [self._release_of(names[image.image], image) for image in board.on_trial]
        return next((release for release in found if release and release.sha256 in gone), None)

    # --- the image, judged here ---------------------------------------------------------------------------------------

    def _bring(self, release: Release) -> bytes:
        """A release's bytes, whole and as signed."""
        if release.length > MAX_IMAGE:
            raise MismatchError(f"length of {release.path}", expected=f"at most {MAX_IMAGE}", got=release.length)
        check, parts, at = ContentCheck(release.path, release.length, {"sha256": release.sha256}), list[bytes](), 0
        with self._source.target(release.path, release.sha256) as content:
            while piece := content.read(at, PIECE):
                check.feed(piece)
                parts.append(piece)
                at += len(piece)
        check.finish()
        return b"".join(parts)

    def _judge(self, selection: Selection) -> _Judged:
        if len(selection.plan) > 1:
            paths = " and ".join(release.path for release in selection.plan)
            raise SelectionError(
                f"{paths}, a set", expected="one image", got="several, which no stock board marks in one write"
            )
        (release,) = selection.plan
        data = self._bring(release)
        image = check_header(_reader(data), release)
        if image is None:
            raise ImageError(f"{release.path}", expected="an MCUboot image, as a stock board takes", got="a raw one")
        check_hash(image, _reader(data))
        return _Judged(release, self._trust.device.components.index(release.component), data, image)

    # --- a trial ------------------------------------------------------------------------------------------------------

    def _try(
        self, board: StockBoard, judged: _Judged, selection: Selection, *, reset: bool
    ) -> Conversation[StockPushed]:
        path, sent, digest = judged.release.path, 0, judged.image.sha256
        if trial := board.on_trial:
            if [image.hash for image in trial] != [digest]:
                raise SlotError(
                    "the other slot",
                    expected="no trial under way",
                    got=f"one of {trial[0].version}: confirm it, or reset the board",
                )
            end, board = yield from self._wait(board, judged)
            return self._ended(end, judged, 0, selection, board)
        marked = [image.hash for image in board.pending]
        if marked and marked != [digest]:
            raise SlotError(
                "the other slot",
                expected="nothing marked",
                got=f"{board.pending[0].version}, which this host did not choose",
            )
        if not marked:
            yield from self._require_trials()
            yield from self._upload(board, judged)
            sent = len(judged.data)
            board = yield from self._mark(board, judged)
        if not reset:
            return StockPushed(End.MARKED, path, sent, selection, board)
        yield from self._reset()
        end, board = yield from self._wait(board, judged)
        return self._ended(end, judged, sent, selection, board)

    def _ended(self, end: End, judged: _Judged, sent: int, selection: Selection, board: StockBoard) -> StockPushed:
        if end is End.REVERTED:
            self._trust.saw_fail((judged.release,))
        elif end is End.CONFIRMED:
            self._trust.saw_confirmed(judged.release)
        return StockPushed(end, judged.release.path, sent, selection, board)

    def _require_trials(self) -> Conversation[None]:
        """Ask for a trial of no image: who knows trials refuses the missing hash.

        Zephyr has no such command where its bootloader boots the highest version of all slots (RAM load, direct XIP without revert): there
        an upload alone takes effect at the next reset, and nothing goes back.
        """
        answer = yield Request(Op.WRITE, Group.IMAGE, ImageCommand.STATE, {"confirm": False})
        if answer.get("rc") == MgmtErr.ENOTSUP:
            got = "one whose bootloader boots the highest version at once: there is no way back"
            raise SlotError("the board", expected="one that tries an image first", got=got)

    def _upload(self, board: StockBoard, judged: _Judged) -> Conversation[None]:
        number = {"image": judged.component} if judged.component else {}
        first = {**number, "len": len(judged.data), "sha": sha256(judged.data).digest()}
        what = f"image {judged.release.path}"
        body = yield Upload(judged, len(judged.data), first, what, board.buffer, board.window)
        refuse_error(body, "upload")
        if body.get("match") is False:
            raise MismatchError(
                f"{what} on the board", expected=short(judged.release.sha256), got="another, by its own check"
            )

    def _mark(self, board: StockBoard, judged: _Judged) -> Conversation[StockBoard]:
        """Have the board try what it was sent, once it lists just that."""
        digest = judged.image.sha256
        board = yield from look(board)
        held = [image for image in board.of(judged.component) if not image.active]
        if [image.hash for image in held] != [digest]:
            got = ", ".join(f"{image.version} {short(image.hash)}" for image in held) or "no image"
            raise MismatchError("the board's other slot", expected=f"{judged.image.version} {short(digest)}", got=got)
        answer = yield Request(Op.WRITE, Group.IMAGE, ImageCommand.STATE, {"confirm": False, "hash": digest}, slow=True)
        board = listed(refuse_error(answer, "test"), board)
        if [(image.hash, image.permanent) for image in board.pending] != [(digest, False)]:
            raise MismatchError(
                "the board's mark", expected=f"a trial of {judged.image.version}", got="another, or none"
            )
        return board

    def _reset(self) -> Conversation[None]:
        self._report(Progress("reset, trial boot"))
        yield Request(Op.WRITE, Group.OS, OsCommand.RESET, {}, once=True)

    def _wait(self, board: StockBoard, judged: _Judged) -> Conversation[tuple[End, StockBoard]]:
        """Look until the image is confirmed, waits for somebody to confirm it, or is gone."""
        on_trial, digest = 0, judged.image.sha256
        for poll in range(1, BOOT_POLLS + 1):
            yield Pause(POLL_PAUSE)
            board = yield from look(board, booting=True)
            running = board.running(judged.component)
            if running and running.hash == digest:
                if running.confirmed:
                    return End.CONFIRMED, board
                on_trial += 1
                if on_trial > TRIAL_POLLS:
                    return End.TRIAL, board
            elif digest not in [image.hash for image in board.pending]:
                return End.REVERTED, board
            elif poll % RESET_AGAIN == 0:
                # It has the mark still, so the trial did not begin: the reset was lost.
                yield from self._reset()
        raise OperationalError("the board did not restart")

    def _go_back(self, board: StockBoard) -> Conversation[tuple[End, StockBoard]]:
        """End the trial of an image that was withdrawn meanwhile: a reset without confirmation."""
        trial = {image.hash for image in board.on_trial}
        self._report(Progress("what is on trial was withdrawn: reset, to go back"))
        yield Request(Op.WRITE, Group.OS, OsCommand.RESET, {}, once=True)
        for _ in range(BOOT_POLLS):
            yield Pause(POLL_PAUSE)
            board = yield from look(board, booting=True)
            if not trial & {image.hash for image in board.images if image.active}:
                return End.REVERTED, board
        raise OperationalError("the board did not restart")

    # --- serial recovery ---------------------------------------------------------------------------------------------

    def _overwrite(
        self, board: StockBoard, judged: _Judged, selection: Selection, *, reset: bool, no_way_back: bool
    ) -> Conversation[StockPushed]:
        if not no_way_back:
            got = "MCUboot's serial recovery, which overwrites the image that runs: there is no way back"
            raise UnsafeBoardError("the board", expected="one that tries an image first", got=got)
        yield from self._upload(board, judged)
        board = yield from look(board)
        held = board.running(judged.component)
        # The bootloader lists only what it verified. Not every one states hashes.
        if held is None or held.version != judged.release.version or held.hash not in (b"", judged.image.sha256):
            got = f"{held.version} {short(held.hash)}" if held else "nothing that its bootloader accepts"
            raise MismatchError("what the board holds now", expected=judged.release.path, got=got)
        self._trust.saw_confirmed(judged.release)
        if reset:
            self._report(Progress("reset"))
            yield Request(Op.WRITE, Group.OS, OsCommand.RESET, {}, once=True)
        return StockPushed(End.WRITTEN, judged.release.path, len(judged.data), selection, board)


def _reader(data: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, length: data[offset : offset + length]


def stock_values(pushed: StockPushed) -> Mapping[str, object]:
    """Return a push's end for JSON, but for what the board lists."""
    return {
        "installed": [pushed.path] if pushed.path and pushed.end is not End.REVERTED else [],
        "end": pushed.end.value,
        "payload_bytes": pushed.sent,
        "verified": {"metadata": "this host", "board": "the image's signature only"},
        "reasons": [[v.path, v.outcome.value, v.reason] for v in pushed.selection.verdicts],
        "withdrawn": pushed.withdrawn,
    }
