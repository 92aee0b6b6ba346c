"""A board in memory, and what happens on it: from power-on, by the verifier's own agent, until the last offer has been tried.

What is done next follows from the flash alone: whoever switches on a board, in whatever state a cut left it, goes on from there. Where
all that follows depends on the flash and a tag, the machine says so (`look`): two runs that meet there need to be followed once only.

`Memory` remembers what follows from the content of sectors: whether the image in a slot verifies, and what the agent's record says. What
reads unstably is never remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeVar

from hillhold_bootsim.board import Parts
from hillhold_bootsim.bootflags import FlagStore
from hillhold_bootsim.bootloader import Booted, Bootloader, BootOutcome, ResetReason
from hillhold_bootsim.flash import Flash, FlashState
from hillhold_bootsim.powercut.oracle import May
from hillhold_bootsim.powercut.scenario import LINE, NOW, REVERT, SETTING_UP, UPDATE, Offer, Scenario
from hillhold_bootsim.swap import Swapper
from hillhold_verifier.installer import Installer
from hillhold_verifier.mcuboot import ImageKey
from hillhold_verifier.metadata import ROOT, SNAPSHOT, TARGETS, TIMESTAMP
from hillhold_verifier.state import DeviceState, StateStore

MAX_BOOTS = 12
"""After which a board that has not come to the end never will."""
MAX_REMEMBERED = 20_000
FAILING = (ResetReason.WATCHDOG, ResetReason.SELF_TEST)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Design:
    """What runs on the board; tests put in parts that are wrong."""

    bootloader: type[Bootloader] = Bootloader
    swapper: type[Swapper] = Swapper
    flags: type[FlagStore] = FlagStore
    installer: type[Installer] = Installer
    store: type[StateStore] = StateStore


class Memory:
    """Results by what they follow from."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Any] = {}

    def of(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` returned for this key, perhaps earlier. What it raises is not remembered."""
        found: T | None = self._known.get(key)
        if found is None:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            found = self._known[key] = make()
        return found


class StuckError(Exception):
    """The board did not come to the end of what was to happen."""


class Machine:
    """The board.

    Attributes:
        flash: the chip; whoever cuts the power sets its `power_cut`.
        may: what may boot after a cut at this moment.
        phase: what is going on, in words.
        boots: how many there were since `switch_on`.
        look: called with a tag, where all that follows depends on flash and tag.
        booted: called after each boot that came to its end.
    """

    def __init__(self, scenario: Scenario, design: Design, memory: Memory) -> None:
        self.scenario, self._memory = scenario, memory
        self._layout = scenario.layout
        self.flash = Flash(self._layout.geometry)
        self.parts = Parts(
            self.flash,
            self._layout,
            scenario.keys,
            self._checkpoint,
            bootloader=_remembering(design.bootloader, self),
            swapper=design.swapper,
            flags=design.flags,
        )
        self._installer, self._store_type = design.installer, _remembering_store(design.store, self)
        self.may: May = frozenset()
        self.phase = ""
        self.boots = 0
        self.reason = ResetReason.POWER_ON
        self.look: Callable[[Hashable], None] = lambda _tag: None
        self.booted: Callable[[BootOutcome], None] = lambda _outcome: None

    def switch_on(self, state: FlashState, may: May) -> BootOutcome:
        """Give power to a board with this flash, and boot; raises what the bootloader or `look` raises."""
        self.flash.load(state)
        self.flash.power_on()
        self.may, self.boots = may, 0
        return self.boot(ResetReason.POWER_ON)

    def boot(self, reason: ResetReason) -> BootOutcome:
        """Reset the board."""
        self.reason, self.phase = reason, self._phase_of(reason)
        outcome = self.parts.bootloader.boot(reason)
        self.boots += 1
        self.booted(outcome)
        return outcome

    def run(self, outcome: BootOutcome, last: int = REVERT) -> None:
        """Go on from a boot until the offers up to `last` have been tried.

        Raises:
            StuckError: that was not reached.
        """
        while True:
            if outcome.booted is None:
                raise StuckError(f"nothing boots: {'; '.join(outcome.events)}")
            if self.boots > MAX_BOOTS:
                raise StuckError(f"{self.boots} boots, and the update is not finished")
            self.look(("up", outcome.booted.slot, outcome.trial))
            self.phase = "agent starts"
            agent = self._agent()
            running = self.scenario.offer_of(outcome.booted.sha256)
            confirmed = agent.confirmed(0)
            known = self.scenario.offer_of(confirmed.sha256) if confirmed else None
            if running is None:
                raise StuckError("what boots is of no offer")
            if outcome.trial:
                self.may = frozenset({(running, True), *([(known, False)] if known is not None else [])})
                reason = self._try(agent, running)
            else:
                self.may = frozenset({(running, False)})
                offer = self._next(agent, running, last)
                if offer is None:
                    return
                reason = self._install(agent, offer)
            outcome = self.boot(reason)

    def set_up(self) -> FlashState:
        """Install the first offer on the provisioned board; return the flash."""
        self.switch_on(self.scenario.provisioned, frozenset())
        self.run(self.boot(self._install(self._agent(), SETTING_UP)), SETTING_UP)
        return self.flash.state()

    def _agent(self) -> Installer:
        parts = self.parts
        return self._installer(self._store_type(parts.areas), parts.slots, parts.control, parts.counters)

    # --- what happens --------------------------------------------------------------------------------------------------

    def _next(self, agent: Installer, running: int, last: int) -> int | None:
        """The offer that is to be tried now."""
        if running < UPDATE <= last:
            return UPDATE
        if running < REVERT <= last and self.scenario.offers[REVERT].sha256 not in agent.state.failed:
            return REVERT
        return None

    def _try(self, agent: Installer, number: int) -> ResetReason:
        """The test of an image on trial; return why the board is reset afterwards."""
        if not self.scenario.offers[number].passes:
            return ResetReason.SELF_TEST
        self.phase = "confirm"
        self.may |= {(number, False)}
        agent.confirm(self_tested=True)
        self.may = frozenset({(number, False)})
        return ResetReason.SOFT

    def _install(self, agent: Installer, number: int) -> ResetReason:
        """Bring an offer to the other slot and mark it, from wherever that had come to."""
        offer = self.scenario.offers[number]
        self.phase = "receive metadata"
        self._receive(agent, offer)
        self.phase = "begin the transfer"
        content = offer.content
        at = agent.begin(sha256(content).digest(), len(content), NOW)
        self.phase = "write the patch" if offer.patch else "write the image"
        while at < len(content):
            self.look(("write", number, at))
            at = agent.write(at, content[at : at + self.scenario.chunk])
        if offer.patch:
            self.look(("apply", number))
            self.phase = "apply the patch"
            agent.apply()
        self.look(("mark", number))
        self.phase = "mark"
        self.may |= {(number, True)}
        agent.mark(NOW)
        return ResetReason.SOFT

    def _receive(self, agent: Installer, offer: Offer) -> None:
        """Send what the board does not hold, as a courier does."""
        trust = agent.state.trust
        held = {TIMESTAMP: trust.timestamp, SNAPSHOT: trust.snapshot, TARGETS: trust.targets, LINE: trust.line}
        if all(file is not None and file.raw == offer.files[role] for role, file in held.items()):
            return
        if trust.root.raw != offer.files[ROOT]:
            self.look(("receive", offer.version, ROOT))
            agent.receive(ROOT, offer.files[ROOT], NOW)
        need = agent.receive(TIMESTAMP, offer.files[TIMESTAMP], NOW)
        while need is not None:
            self.look(("receive", offer.version, need.role))
            need = agent.receive(need.role, offer.files[need.role if need.role in offer.files else LINE], NOW)

    def _phase_of(self, reason: ResetReason) -> str:
        if reason is ResetReason.POWER_ON:
            return "boot after power-on"
        return "boot after a failed test" if reason in FAILING else "boot"

    def _checkpoint(self, tag: Hashable) -> None:
        """What the bootloader does from here depends on why it was started only where something is marked."""
        marked = self.parts.control.store.record().marked
        self.look((tag, marked and self.reason in FAILING))

    # --- what is remembered --------------------------------------------------------------------------------------------

    def sectors_of(self, offset: int, length: int) -> FlashState | None:
        """Return the sectors of a range as they are, or None where one reads unstably."""
        g = self._layout.geometry
        found = self.flash.sectors(g.sector_at(offset), g.sector_at(offset + length - 1) + 1)
        return None if any(sector.unstable for sector in found) else found

    def remember(self, key: Hashable, sectors: FlashState | None, make: Callable[[], T]) -> T:
        """Return what `make` returns, perhaps from memory."""
        return make() if sectors is None else self._memory.of((key, sectors), make)

    def slot_sectors(self, slot: int) -> FlashState | None:
        """Return the sectors in which a slot's image lies."""
        slots = self.parts.slots[0]
        return self.sectors_of(slots.offset_of(slot), slots.size)


def _remembering(base: type[Bootloader], machine: Machine) -> type[Bootloader]:
    class Remembering(base):  # type: ignore[misc,valid-type]
        def _verified(self, component: int, slot: int, keys: Sequence[ImageKey]) -> Booted:
            def make() -> Booted:
                booted: Booted = super(Remembering, self)._verified(component, slot, keys)
                return booted

            return machine.remember(("image", slot, tuple(keys)), machine.slot_sectors(slot), make)

        def _content(self, component: int, slot: int, length: int) -> bytes:
            def make() -> bytes:
                digest: bytes = super(Remembering, self)._content(component, slot, length)
                return digest

            return machine.remember(("content", length), machine.slot_sectors(slot), make)

    return Remembering


def _remembering_store(base: type[StateStore], machine: Machine) -> type[StateStore]:
    areas = machine.scenario.layout.state

    class Remembering(base):  # type: ignore[misc,valid-type]
        def _read(self, index: int) -> tuple[int, DeviceState]:
            def make() -> tuple[int, DeviceState]:
                found: tuple[int, DeviceState] = super(Remembering, self)._read(index)
                return found

            area = areas[index]
            return machine.remember("state", machine.sectors_of(area.offset, area.size), make)

    return Remembering


__all__ = ["Design", "Machine", "Memory", "StuckError"]
