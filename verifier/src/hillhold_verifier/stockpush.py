"""Push to a stock board: this host verifies in the board's place, and the board checks nothing but the image's signature (DESIGN §7.2).

Sans-I/O, as `courier`: `push` is a generator of requests, pauses and uploads.

    what is it, what does it run  ->  metadata judged here  ->  choice  ->  the image whole, judged here  ->  upload  ->  test  ->  reset
    ->  confirmed, on trial, gone back, or never started

Before the first byte is sent, the image's length, SHA-256, own hash, version and counter are what was signed; what is sent is what was
judged, held in memory. The board is then asked what it has, before it is asked to try it. It reads the image's hash and computes none, so a
line without a check may have spoilt what it has: an image that was never seen to run is sent once more, and only what the bootloader took
counts as failed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from typing import Final

from hillhold_verifier.agent import MAGIC
from hillhold_verifier.conversation import Conversation, Pause, Progress, Request, Upload
from hillhold_verifier.errors import (
    MismatchError,
    MisuseError,
    OperationalError,
    SlotError,
    short,
)
from hillhold_verifier.hosttrust import HostTrust
from hillhold_verifier.select import Selection
from hillhold_verifier.smp import HILLHOLD_GROUP, Group, ImageCommand, MgmtErr, Op, OsCommand
from hillhold_verifier.sources import Source
from hillhold_verifier.stock import StockBoard, listed, look, meet, refuse_error
from hillhold_verifier.stockjudge import Judged, StockJudge
from hillhold_verifier.times import show_span

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

    hint = "`--no-way-back` overwrites it all the same; a board that starts its application first can go back"


class UnlistedError(MismatchError):
    """After an upload over what ran, the bootloader does not list just that."""

    hint = "reset the board and look at it with `status`; where nothing runs, push again"


class End(Enum):
    """How a push ended."""

    NOTHING = "nothing to install"
    MARKED = "marked"
    CONFIRMED = "confirmed"
    TRIAL = "on trial"
    REVERTED = "reverted"
    NOT_STARTED = "not started"
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
        self._trust, self._report, self._group = trust, report, group
        self._judge = StockJudge(source, trust, clock, report)

    def check(self) -> Conversation[tuple[StockBoard, Selection]]:
        """Take metadata, and choose; nothing is written to the board.

        Raises:
            MisuseError: the board verifies for itself, or has more images than this host was told of.
            Refused: metadata that do not hold.
            OperationalError: the source lacks a file, or the board does not answer as one.
        """
        board = yield from self._meet()
        return board, self._judge.select(board)

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
        if gone := self._judge.withdrawn(board.on_trial):
            end, board = yield from self._go_back(board)
            return StockPushed(end, gone.path, 0, selection, board, gone.path)
        if marked := self._judge.withdrawn(board.pending):
            self._report(
                Progress(f"note: {marked.path} is marked, and withdrawn; no request clears a stock board's mark")
            )
        if not selection.plan:
            return StockPushed(End.NOTHING, None, 0, selection, board, self._judge.withdrawn_running(board))
        judged = self._judge.whole(selection)
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

    # --- a trial ------------------------------------------------------------------------------------------------------

    def _try(
        self, board: StockBoard, judged: Judged, selection: Selection, *, reset: bool
    ) -> Conversation[StockPushed]:
        path, sent, digest = judged.release.path, 0, judged.image.sha256
        if trial := board.on_trial:
            if [image.hash for image in trial] != [digest]:
                raise SlotError(
                    "the other slot",
                    expected="no trial under way",
                    got=f"one of {trial[0].version}: confirm it, or reset the board",
                )
            end, board = yield from self._wait(board, judged, seen=1)
            return self._ended(end, judged, 0, selection, board)
        marked = [(image.hash, image.permanent) for image in board.pending]
        if marked and marked != [(digest, False)]:
            raise SlotError(
                "the other slot",
                expected="nothing marked",
                got=f"{board.pending[0].version}, which this host did not choose",
            )
        if not marked:
            yield from self._require_trials()
            board = yield from self._bring(board, judged)
            sent = len(judged.data)
        if not reset:
            return StockPushed(End.MARKED, path, sent, selection, board)
        yield from self._reset()
        end, board = yield from self._wait(board, judged)
        if end is End.NOT_STARTED:
            # Spoilt on the way, or a reset that came twice: neither is the image's fault.
            self._report(Progress(f"{path} was not seen to run: once more"))
            board = yield from self._bring(board, judged)
            sent += len(judged.data)
            yield from self._reset()
            end, board = yield from self._wait(board, judged)
        if end is End.NOT_STARTED and digest in [image.hash for image in board.of(judged.component)]:
            # MCUboot erases what it refuses, so it took this one, which went back before the first look.
            end = End.REVERTED
        return self._ended(end, judged, sent, selection, board)

    def _ended(self, end: End, judged: Judged, sent: int, selection: Selection, board: StockBoard) -> StockPushed:
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

    def _bring(self, board: StockBoard, judged: Judged) -> Conversation[StockBoard]:
        yield from self._upload(board, judged)
        return (yield from self._mark(board, judged))

    def _upload(self, board: StockBoard, judged: Judged) -> Conversation[None]:
        number = {"image": judged.component} if judged.component else {}
        first = {**number, "len": len(judged.data), "sha": sha256(judged.data).digest()}
        what = f"image {judged.release.path}"
        body = yield Upload(judged, len(judged.data), first, what, board.buffer, board.window, self._report)
        refuse_error(body, "upload")
        if body.get("match") is False:
            raise MismatchError(
                f"{what} on the board", expected=short(judged.release.sha256), got="another, by its own check"
            )

    def _mark(self, board: StockBoard, judged: Judged) -> Conversation[StockBoard]:
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

    def _wait(self, board: StockBoard, judged: Judged, seen: int = 0) -> Conversation[tuple[End, StockBoard]]:
        """Look until the image is confirmed, waits for somebody to confirm it, or is gone. `seen`: looks that saw it on trial before."""
        digest, last = judged.image.sha256, None
        for poll in range(1, BOOT_POLLS + 1):
            yield Pause(POLL_PAUSE)
            board = yield from look(board, booting=True)
            running, end = board.running(judged.component), None
            if running and running.hash == digest:
                if running.confirmed:
                    end = End.CONFIRMED
                else:
                    seen += 1
                    if seen > TRIAL_POLLS:
                        return End.TRIAL, board
            elif digest not in [image.hash for image in board.pending]:
                end = End.REVERTED if seen else End.NOT_STARTED
            elif poll % RESET_AGAIN == 0:
                # It has the mark still, so the trial did not begin: the reset was lost.
                yield from self._reset()
            if end is not None and end is last:  # over raw, one list may be spoilt
                return end, board
            last = end
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
        self, board: StockBoard, judged: Judged, selection: Selection, *, reset: bool, no_way_back: bool
    ) -> Conversation[StockPushed]:
        if not no_way_back:
            got = "MCUboot's serial recovery, which overwrites the image that runs: there is no way back"
            raise UnsafeBoardError("the board", expected="one that tries an image first", got=got)
        yield from self._upload(board, judged)
        board = yield from look(board)
        held = board.running(judged.component)
        # The bootloader lists only what it verified. Not every one states hashes.
        if held is None or held.version != judged.release.version or held.hash not in (b"", judged.image.sha256):
            got = f"{held.version} {short(held.hash)}" if held else "no image that its bootloader accepts"
            raise UnlistedError("what the board holds now", expected=judged.release.path, got=got)
        self._trust.saw_confirmed(judged.release)
        if reset:
            self._report(Progress("reset"))
            yield Request(Op.WRITE, Group.OS, OsCommand.RESET, {}, once=True)
        return StockPushed(End.WRITTEN, judged.release.path, len(judged.data), selection, board)


def stock_values(pushed: StockPushed) -> Mapping[str, object]:
    """Return a push's end for JSON, but for what the board lists."""
    return {
        "installed": [pushed.path] if pushed.path and pushed.end not in (End.REVERTED, End.NOT_STARTED) else [],
        "end": pushed.end.value,
        "payload_bytes": pushed.sent,
        "verified": {"metadata": "this host", "board": "the image's signature only"},
        "reasons": [[v.path, v.outcome.value, v.reason] for v in pushed.selection.verdicts],
        "withdrawn": pushed.withdrawn,
    }
