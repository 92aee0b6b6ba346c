"""The whole way, on a virtual board: sign, push, patch, refuse, cut the power, revert.

Every piece is real: firmware built by others, TUF metadata signed by quorums of example keys, SMP over a pseudo-terminal (TCP where
there are none), flash rules, a bootloader that verifies. After each attack the board is reset, and what counts is which image its
bootloader verified and started, not what the agent says. What is told goes to a `Teller`; nothing is printed here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from time import sleep
from typing import Final, Protocol

from hillhold_bootsim.application import SelfTest, Verdict
from hillhold_bootsim.boards import board
from hillhold_bootsim.firmware import Firmware
from hillhold_bootsim.flash import Cut, Flash, Operation
from hillhold_bootsim.maker import FILE, HARDWARE, OTHER_HARDWARE, PRODUCT, Maker, Wanted, flip_byte, forge_release
from hillhold_bootsim.station import Station, make_board, provision_board
from hillhold_bootsim.uart import PtyLine, TcpLine, line_seconds
from hillhold_verifier.answers import BoardRefused
from hillhold_verifier.conversation import Progress, Request
from hillhold_verifier.courier import Courier, Pushed, ask, read_status
from hillhold_verifier.errors import OperationalError
from hillhold_verifier.exchange import Exchange, Timing
from hillhold_verifier.link import Link, open_port
from hillhold_verifier.select import Device
from hillhold_verifier.smp import Group, ImageCommand, Op, OsCommand
from hillhold_verifier.sources import DirectorySource

PATIENCE: Final = 1.0
SLOW_PATIENCE: Final = 10.0
"""Seconds after which the demo's courier sends a request again."""
DARK_PATIENCE: Final = 4.0
"""The same where the board is about to lose its power."""
POLL: Final = 0.01
BOOT_POLLS: Final = 500
"""How often is looked whether a board has come up, every `POLL` seconds."""


class Teller(Protocol):
    """Tells people what happens."""

    def chapter(self, title: str) -> None:
        """A new part begins."""

    def fact(self, text: str) -> None:
        """Something that was done or seen."""

    def proved(self, text: str) -> None:
        """Something that was checked, and held."""

    def progress(self, step: Progress) -> None:
        """What the courier does."""


class DemoError(OperationalError):
    """The demonstration did not come out as it must."""


@dataclass
class Figures:
    """What the summary shows.

    Attributes:
        transfers: per push: what, payload bytes, bytes on the line.
        refusals: what was tried, and the board's words.
        baud: bits per second on the board's line.
    """

    baud: int
    transfers: list[tuple[str, int, int]] = field(default_factory=list)
    refusals: list[tuple[str, str]] = field(default_factory=list)
    power_cuts: int = 0
    reverts: int = 0

    def seconds(self, line_bytes: int) -> float:
        """Return how long these bytes take on the board's line."""
        return line_seconds(line_bytes, self.baud)


class _CutAround:
    """Cuts the power within the first operation that programs flash in the sector at `offset`, or in the next one."""

    def __init__(self, offset: int, sector: int) -> None:
        self._range = range(offset, offset + 2 * sector)

    def decide(self, operation: Operation, /) -> tuple[Cut, int] | None:
        return (Cut.TORN, 1) if operation.kind == "program" and operation.offset in self._range else None


class Demo:
    """One run. `folder` takes repositories; it must be empty."""

    def __init__(self, folder: Path, firmware: tuple[Firmware, ...], teller: Teller, clock: Callable[[], int]) -> None:
        self._folder, self._firmware, self._teller, self._clock = folder, firmware, teller, clock
        spec = board()
        self.figures, self._layout = Figures(spec.baud), spec.layout
        self._maker = Maker(folder / "repository", spec.image_sizes[0], clock())
        self._flash = Flash(spec.layout.geometry)
        self._bad = Wanted(firmware[1].data, "1.3.0", 1)
        device = Device(PRODUCT, HARDWARE, "demo-0001")
        provision_board(self._flash, spec.layout, device, self._maker.root)
        script = SelfTest(by_version={self._bad.version: Verdict.FAIL}, seconds=0.2)
        self._board = make_board(self._flash, spec.layout, [self._maker.image_key], script, spec.buffer, spec.buffers)
        self._running: bytes | None = None

    def run(self) -> Figures:
        """Tell the whole story.

        Raises:
            DemoError: something that must hold did not.
        """
        line = TcpLine() if sys.platform == "win32" else PtyLine()
        self._port = f"socket://{line.address[0]}:{line.address[1]}" if isinstance(line, TcpLine) else line.path
        self._board.power_on()
        with Station(self._board, line, self._clock) as station:
            self._station = station
            self._first_release()
            self._second_release()
            self._attacks()
            self._failing_trial()
            self._thief()
        return self.figures

    # --- the chapters ------------------------------------------------------------------------------------------------

    def _first_release(self) -> None:
        tell = self._teller
        tell.chapter("A maker signs a release; a new board takes it over its serial port")
        tell.fact("keys: root 2 of 3, targets 2 of 3, product line 2 of 2; snapshot and timestamp online")
        tell.fact(f"board demo-0001: {PRODUCT} on {HARDWARE}, factory-new, on {self._port}")
        first = Wanted(self._firmware[0].data, self._firmware[0].version, 1)
        image, _ = self._publish(self._maker, first)
        self._push(self._maker, f"{first.version}, as a compressed image")
        self._runs(image, "booted on trial, tested itself, confirmed itself")

    def _second_release(self) -> None:
        tell, running = self._teller, self._running
        self._old = self._maker.copy("repository-as-of-then")
        tell.chapter("A security fix follows, as a patch; a courier tampers, then the power fails")
        second = Wanted(self._firmware[1].data, self._firmware[1].version, 1, kind="security")
        image, patch = self._publish(self._maker, second)
        evil = self._maker.copy("repository-with-one-byte-changed")
        path, digest = f"{PRODUCT}/{second.version}/{FILE}", sha256(image).digest()
        flip_byte(evil.path / "public", path, digest, len(image) // 2)
        self._refused("an image changed by one byte", evil, running, patches=False)
        self._cut_in_the_middle(running, second.version, len(image), patch)
        self._push(self._maker, f"{second.version}, the rest of it, after that")
        self._runs(image, "the update was finished, where it had stopped")

    def _cut_in_the_middle(self, running: bytes | None, version: str, length: int, patch: int) -> None:
        tell, flash = self._teller, self._flash
        tell.fact(
            "the patch is on its way; the power will fail within one flash operation, with the patch half applied"
        )
        flash.power_cut = _CutAround(self._layout.slots[0][1].offset + length // 2, self._layout.slot_sector(0))
        traffic = self._station.traffic
        before = traffic.received + traffic.sent
        try:
            self._courier(self._maker, patience=DARK_PATIENCE, tries=1)
            raise DemoError("the power was to fail in the middle of the update, and did not")
        except DemoError:
            raise
        except OperationalError as error:
            if self._board.is_on:
                raise
            tell.fact(f"the board went dark ({error})")
        flash.power_cut = None
        self.figures.transfers.append(
            (f"{version}, as a patch, until the power failed", patch, traffic.received + traffic.sent - before)
        )
        self.figures.power_cuts += 1
        self._board.power_on()
        self._runs(running, "power is back: the old image boots, whole and verified")

    def _attacks(self) -> None:
        running = self._running
        self._teller.chapter("Others try their hand at the board")
        self._refused("the repository of an earlier day, served again", self._old, running)
        maker = self._maker
        elsewhere = Wanted(self._firmware[0].data, "1.2.5", 1, OTHER_HARDWARE)
        maker.release(elsewhere, maker.image(elsewhere))
        self._refused(f"a signed release for other hardware ({OTHER_HARDWARE})", maker, running, elsewhere.version)
        down = Wanted(self._firmware[0].data, "1.2.0", 1)
        image = maker.image(down)
        maker.release(down, image, lower=True)
        self._refused("a downgrade with an equal security counter, signed by the quorum", maker, running, down.version)
        self._plain_upload(image, running)

    def _thief(self) -> None:
        """Last, since the stolen keys raise the board's floors; what an owner does then is to rotate them."""
        self._teller.chapter("A thief holds the online keys, and one engineer's")
        thief = self._maker.copy("repository-of-a-thief")
        forged = self._maker.image(Wanted(self._firmware[0].data, "9.9.9", 1))
        forge_release(thief.path / "public", forged, "9.9.9", ("release-1",), self._clock())
        self._refused("a release that one of the two engineers signed, properly listed", thief, self._running)

    def _failing_trial(self) -> None:
        tell, running = self._teller, self._running
        tell.chapter("A release that fails its own test")
        self._publish(self._maker, self._bad)
        result = self._push(self._maker, f"{self._bad.version}, as a patch; its trial fails")
        self.figures.reverts += 1
        self._runs(running, f"{result.installed} failed its self-test: the board went back by itself")
        again = self._courier(self._maker)
        words = next((reason for path, _, reason in again.reasons if self._bad.version in path), "")
        if again.installed or "failed" not in words:
            raise DemoError("a release that failed its trial was to be passed over")
        self._note_refusal("the failed release, offered again", words)
        self._runs(running, "the board remembers, and passes it over")

    # --- the acts ----------------------------------------------------------------------------------------------------

    def _publish(self, maker: Maker, wanted: Wanted) -> tuple[bytes, int]:
        """Sign and publish; return the image, and the length of the smallest patch to it."""
        image = maker.image(wanted)
        added = maker.release(wanted, image)
        self._teller.fact(
            f"signed and published {added.target.path}: {len(image)} bytes, sha256 {sha256(image).hexdigest()[:16]}…"
        )
        earlier = [patch.length for patch in added.patches if patch.custom["hillhold"]["base_length"]]
        if earlier:
            smallest = min(earlier)
            bases = (
                f"patches from {len(earlier)} earlier releases, the smallest"
                if len(earlier) > 1
                else "a patch from the release before"
            )
            self._teller.fact(f"made {bases}: {smallest} bytes, {100 * smallest / len(image):.2g} % of the image")
        return image, min(earlier, default=0)

    def _push(self, maker: Maker, what: str) -> Pushed:
        traffic = self._station.traffic
        before = traffic.received + traffic.sent
        result = self._courier(maker)
        if result.installed is None:
            raise DemoError(f"{what}: nothing was installed: {result.reasons}")
        self.figures.transfers.append((what, result.sent, traffic.received + traffic.sent - before))
        return result

    def _courier(
        self, maker: Maker, *, patches: bool = True, patience: float = SLOW_PATIENCE, tries: int = 4
    ) -> Pushed:
        with self._link(patience, tries) as link:
            return link.run(Courier(DirectorySource(maker.path), self._teller.progress).push(patches=patches))

    @contextmanager
    def _link(self, patience: float = SLOW_PATIENCE, tries: int = 4) -> Iterator[Link]:
        stream = open_port(self._port)
        try:
            yield Link(stream, Exchange(Timing(first=PATIENCE, slow=patience, tries=tries)))
        finally:
            stream.close()

    def _refused(
        self, what: str, maker: Maker, running: bytes | None, version: str = "", *, patches: bool = True
    ) -> None:
        """Let the courier try, and check that the board refuses and still runs what it ran."""
        self._teller.fact(f"tried: {what}")
        try:
            result = self._courier(maker, patches=patches)
        except BoardRefused as refusal:
            words = str(refusal)
        else:
            if result.installed:
                raise DemoError(f"{what}: the board installed {result.installed}")
            words = next((reason for path, _, reason in result.reasons if f"/{version}/" in path), "")
        self._note_refusal(what, words)
        self._runs(running, "refused; after a reset the right image still runs")

    def _plain_upload(self, image: bytes, running: bytes | None) -> None:
        what = "a plain SMP upload, without metadata"
        self._teller.fact(f"tried: {what}")
        body = {"image": 0, "off": 0, "len": len(image), "sha": sha256(image).digest(), "data": image[:512]}
        with self._link() as link:
            answer = link.run(ask(Request(Op.WRITE, Group.IMAGE, ImageCommand.UPLOAD, body, slow=True)))
            if "err" not in answer:
                raise DemoError(f"{what}: the board took it")
            words = str(link.run(read_status())[1].get("refusal", ""))
        self._note_refusal(what, words)
        self._runs(running, "refused; after a reset the right image still runs")

    def _note_refusal(self, what: str, words: str) -> None:
        if not words:
            raise DemoError(f"{what}: refused without a reason")
        self.figures.refusals.append((what, words))
        self._teller.fact(f"the board: {words}")

    def _runs(self, expected: bytes | None, text: str) -> None:
        """Reset the board, and check which image its bootloader verified and started."""
        boots = self._board.boots
        with self._link() as link:
            link.run(ask(Request(Op.WRITE, Group.OS, OsCommand.RESET, {})))
        for _ in range(BOOT_POLLS):
            if self._board.boots != boots:
                break
            sleep(POLL)
        info = self._board.info
        booted = info.outcome.booted if info else None
        if self._board.boots == boots or info is None or booted is None or info.outcome.trial:
            raise DemoError(f"{text}: the board did not boot a confirmed image")
        if expected is not None and booted.sha256 != sha256(expected).digest():
            raise DemoError(f"{text}: it runs {booted.image.version}, which it must not")
        self._running = expected
        self._teller.proved(
            f"{text} ({booted.image.version}, counter {booted.image.security_counter}, slot {booted.slot})"
        )
