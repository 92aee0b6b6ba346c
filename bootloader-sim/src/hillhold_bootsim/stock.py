"""A stock board: what serves its line is Zephyr's SMP server, or MCUboot's serial recovery, and nothing of Hillhold's.

Both answer as their C sources do (Zephyr 4.x: `img_mgmt.c`, `img_mgmt_state.c`, `zephyr_img_mgmt.c`; MCUboot: `boot_serial.c`):

- Zephyr takes any upload that begins with an MCUboot header, into the other slot; goes on with an interrupted one of the same `sha`, until
  a reset; answers a wrong offset with the right one; tries, confirms (for good, too) and erases without any metadata.
- Serial recovery writes into the slot that runs, lists only images that verify, knows no states, and answers in SMP v1's words.

The bootloader below is this package's own, but for two things: as MCUboot, it starts a trial once, and any reset before a confirmation goes
back; and it erases a marked image that it refuses. Its mark names the hash of the whole image, so `test` takes that of what lies in the
slot: as MCUboot, which marks a slot, it tries whatever is there. In recovery the agent writes the boot flags, of which MCUboot needs none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from typing import Any

from hillhold_bootsim.application import SelfTest
from hillhold_bootsim.board import Agent, BoardInfo, VirtualBoard
from hillhold_bootsim.bootflags import SimBootControl
from hillhold_bootsim.bootloader import Booted, Bootloader
from hillhold_bootsim.flash import Flash
from hillhold_bootsim.layout import BootMode, Layout
from hillhold_bootsim.stock_recovery import RecoveryAgent
from hillhold_bootsim.stock_zephyr import ZephyrAgent
from hillhold_verifier.errors import MisuseError, Refused
from hillhold_verifier.framing import Transport
from hillhold_verifier.mcuboot import ImageKey
from hillhold_verifier.slots import BootControl, CounterStore, Mark, RecordAreas, Slots


class Stock(Enum):
    """What serves a stock board's line."""

    ZEPHYR = "zephyr"
    RECOVERY = "recovery"


class OneStart(Bootloader):
    """A bootloader that starts a trial once, and erases what it refuses to try, as MCUboot does."""

    max_starts = 1

    def _marked(self, component: int, slot: int, mark: Mark, floor: int, keys: Sequence[ImageKey]) -> Booted:
        try:
            return super()._marked(component, slot, mark, floor, keys)
        except Refused:
            self._slots[component].erase(slot, 0, self._slots[component].size)
            raise


def make_stock_board(
    flash: Flash,
    layout: Layout,
    keys: Sequence[ImageKey],
    kind: Stock = Stock.ZEPHYR,
    self_test: SelfTest | None = None,
    buffer: int | None = None,
    transport: Transport = Transport.CONSOLE,
    **options: Any,
) -> VirtualBoard:
    """Return a stock board, switched off. Where no image boots, its bootloader waits in serial recovery, whatever `kind` says.

    Args:
        buffer: bytes of the longest SMP message; None for what such boards have by default.
        transport: how its line carries messages: console or raw.
        options: more of `ZephyrAgent` or `RecoveryAgent`.
    """
    plain = replace(layout, keys=None)  # no list of keys: that is Hillhold's
    swap = plain.mode is BootMode.SWAP

    def agent(
        slots: Sequence[Slots],
        control: BootControl,
        _counters: Sequence[CounterStore],
        _areas: RecordAreas,
        info: BoardInfo,
    ) -> Agent:
        if not isinstance(control, SimBootControl):
            raise MisuseError("a stock board needs the simulated bootloader's flags")
        if kind is Stock.RECOVERY:
            return RecoveryAgent(slots, control, keys, swap=swap, buffer=buffer or 1024, transport=transport, **options)
        if not info.outcome.images:
            return RecoveryAgent(slots, control, keys, swap=swap, transport=transport)
        return ZephyrAgent(slots, control, swap=swap, buffer=buffer or 384, transport=transport, **options)

    return VirtualBoard(flash, plain, keys, agent, self_test, OneStart)
