"""A virtual board: flash, bootloader, application and agent, and the power that they share.

    power_on, reset ──► bootloader ──► application (scripted) and agent (given by the caller)
    feed ──► agent                     tick ──► application ──► agent.self_test_passed, or a reset

The agent runs in recovery too, where no image does: MCUboot's serial recovery has its place there. An application that hangs takes
the agent with it. Loss of power, wherever it strikes, leaves a board that is off: it answers nothing until `power_on`. Nothing but
flash outlives a reset.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hillhold_bootsim.application import AppEvent, Application, SelfTest
from hillhold_bootsim.bootflags import FlagStore, SimBootControl
from hillhold_bootsim.bootloader import (
    AcceptedKeys,
    Bootloader,
    BootOutcome,
    FixedKeys,
    ResetReason,
    no_checkpoint,
)
from hillhold_bootsim.counter import OtpCounter
from hillhold_bootsim.flash import Flash, PowerLost
from hillhold_bootsim.keylist import KeyList
from hillhold_bootsim.layout import BootMode, Layout, SimRecordAreas, SimSlots
from hillhold_bootsim.swap import Checkpoint, Swapper, SwapSlots
from hillhold_verifier.errors import MisuseError
from hillhold_verifier.mcuboot import ImageKey
from hillhold_verifier.slots import BootControl, CounterStore, RecordAreas, Slots


class Agent(Protocol):
    """What serves the board's line."""

    @property
    def reset_requested(self) -> bool:
        """The board is to be reset now; answers that are out are sent first."""

    def receive(self, data: bytes, now: int | None) -> bytes:
        """Take bytes of the line; return those to send. `now`: Unix seconds, or None on a board without a clock."""

    def tick(self, seconds: float) -> None:
        """Let time pass; `seconds` of a clock that only goes forward."""

    def self_test_passed(self, *, confirm: bool) -> None:
        """The running image's own test has passed; with `confirm` it confirms itself now, otherwise it waits for the wire."""


@dataclass(frozen=True, slots=True)
class BoardInfo:
    """What the agent may know of this boot."""

    name: str
    outcome: BootOutcome
    reason: ResetReason


AgentFactory = Callable[[Sequence[Slots], BootControl, Sequence[CounterStore], RecordAreas, BoardInfo], Agent]


class Parts:
    """What stands on a flash: slots and counters by component, boot flags, the agent's areas, and the bootloader with its keys.

    Raises:
        MisuseError: flash and layout have different geometries, or the slots have no room for an image.
    """

    def __init__(
        self,
        flash: Flash,
        layout: Layout,
        keys: Sequence[ImageKey],
        checkpoint: Checkpoint = no_checkpoint,
        *,
        bootloader: type[Bootloader] = Bootloader,
        swapper: type[Swapper] = Swapper,
        flags: type[FlagStore] = FlagStore,
    ) -> None:
        if flash.geometry != layout.geometry:
            raise MisuseError("board: flash and layout have different geometries")
        components = range(len(layout.slots))
        self.areas = SimRecordAreas(flash, layout.state)
        self.counters = tuple(OtpCounter(flash, component, len(components)) for component in components)
        store = flags(flash, layout)
        self.keys = KeyList(SimRecordAreas(flash, layout.keys), keys) if layout.keys else None
        self.control = SimBootControl(store, self.keys)
        self.swapper: Swapper | None = None
        if layout.mode is BootMode.SWAP:
            self.slots: tuple[SimSlots, ...] = tuple(SwapSlots(flash, layout, store, each) for each in components)
            self.swapper = swapper(flash, layout, store, checkpoint)
        else:
            self.slots = tuple(SimSlots(flash, layout, each) for each in components)
        accepted: AcceptedKeys = self.keys or FixedKeys(keys)
        self.bootloader = bootloader(self.control, self.slots, self.counters, accepted, self.swapper, checkpoint)


class VirtualBoard:
    """The board; off when made.

    Args:
        flash: its flash; the caller keeps it, to cut the power at an operation or to close its file.
        layout: where things lie on that flash.
        keys: image keys that the bootloader holds.
        agent_factory: makes the agent at each boot.
        self_test: what its applications do.
        bootloader: the kind of bootloader.

    Raises:
        MisuseError: flash and layout have different geometries.

    Attributes:
        info: of the last boot that came to its end, or None.
        boots: how many of those there were.
    """

    def __init__(
        self,
        flash: Flash,
        layout: Layout,
        keys: Sequence[ImageKey],
        agent_factory: AgentFactory,
        self_test: SelfTest | None = None,
        bootloader: type[Bootloader] = Bootloader,
    ) -> None:
        self.flash, self.layout = flash, layout
        self.self_test = self_test or SelfTest()
        self.parts = Parts(flash, layout, keys, bootloader=bootloader)
        self.control = self.parts.control
        self.info: BoardInfo | None = None
        self.boots = 0
        self._factory = agent_factory
        self._agent: Agent | None = None
        self._application: Application | None = None
        flash.power_off()

    @property
    def is_on(self) -> bool:
        """It has power, and its agent runs."""
        return self._agent is not None

    def power_on(self) -> None:
        """Give power, if there is none, and boot."""
        if not self.is_on:
            self.flash.power_on()
            self._survive(lambda: self._boot(ResetReason.POWER_ON))

    def cut_power(self) -> None:
        """Take the power away."""
        self.flash.power_off()
        self._agent = self._application = None
        self.control.started(())

    def reset(self, reason: ResetReason) -> None:
        """Reset a board that is on; nothing happens to one that is off."""
        if self.is_on:
            self._survive(lambda: self._boot(reason))

    def feed(self, data: bytes, now: int | None) -> bytes:
        """Bytes of the line go in, the board's answer comes out; empty from a board that is off or hangs.

        Args:
            data: what came on the line.
            now: Unix seconds, for the agent; None on a board without a clock.
        """
        if self._application and self._application.hangs:
            return b""
        answer = b""

        def serve(agent: Agent) -> None:
            nonlocal answer
            answer = agent.receive(data, now)
            self._reset_if_requested(agent)

        if agent := self._agent:
            self._survive(lambda: serve(agent))
        return answer

    def tick(self, now: float) -> None:
        """Let time pass. `now`: seconds of a clock that only goes forward."""
        application, agent = self._application, self._agent
        if agent is not None:
            agent.tick(now)
        if application is None or agent is None:
            return
        match application.tick(now):
            case AppEvent.PASSED:
                self._survive(lambda: self._passed(agent))
            case AppEvent.FAILED:
                self.reset(ResetReason.SELF_TEST)
            case AppEvent.WATCHDOG:
                self.reset(ResetReason.WATCHDOG)
            case None:
                pass

    # --- inside -------------------------------------------------------------------------------------------------------

    def _passed(self, agent: Agent) -> None:
        agent.self_test_passed(confirm=self.self_test.confirms)
        self._reset_if_requested(agent)

    def _reset_if_requested(self, agent: Agent) -> None:
        if agent.reset_requested:
            self._boot(ResetReason.SOFT)

    def _boot(self, reason: ResetReason) -> None:
        self._agent = self._application = None
        parts = self.parts
        outcome = parts.bootloader.boot(reason)
        info = BoardInfo(self.layout.name, outcome, reason)
        agent = self._factory(parts.slots, parts.control, parts.counters, parts.areas, info)
        self.info, self._agent = info, agent
        if outcome.booted:
            self._application = Application(self.self_test, outcome.booted, trial=outcome.trial)
        self.boots += 1

    def _survive(self, act: Callable[[], None]) -> None:
        """Run what runs on the board: when the power goes, it ends, and the board is off."""
        try:
            act()
        except PowerLost:
            self.cut_power()
