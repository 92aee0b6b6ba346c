"""A board on a bench: a virtual board that runs the verifier's own agent, and the thread that serves its line.

What the agent is told of a boot: an unreadable state makes a board that refuses every update, and says why. Provisioning writes what a
production line would: what the device is, the root that it trusts, and the first boot flags.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from time import monotonic
from typing import Final

from hillhold_bootsim.application import SelfTest
from hillhold_bootsim.board import BoardInfo, VirtualBoard
from hillhold_bootsim.bootflags import BootRecord, FlagStore, ImageFlags
from hillhold_bootsim.flash import Flash
from hillhold_bootsim.keylist import KeyList
from hillhold_bootsim.layout import BootMode, Layout, SimRecordAreas
from hillhold_bootsim.uart import Line, Traffic, serve
from hillhold_verifier.agent import Agent
from hillhold_verifier.agent_os import REMAP, SWAP_USING_OFFSET
from hillhold_verifier.errors import HillholdError, MisuseError, OperationalError, UnprovisionedError
from hillhold_verifier.framing import SHARED, Transport
from hillhold_verifier.installer import Installer, provision
from hillhold_verifier.mcuboot import ImageKey
from hillhold_verifier.select import Device
from hillhold_verifier.slots import BootControl, CounterStore, RecordAreas, Slots
from hillhold_verifier.state import StateStore

_BOOTLOADERS: Final = {BootMode.SWAP: SWAP_USING_OFFSET, BootMode.REMAP: REMAP}


def make_board(
    flash: Flash,
    layout: Layout,
    keys: Sequence[ImageKey],
    self_test: SelfTest | None = None,
    buffer: int = 1024,
    buffers: int = 1,
    transports: Sequence[Transport] = SHARED,
) -> VirtualBoard:
    """Return a board, switched off, whose agent is the verifier's.

    Args:
        buffer: bytes of the longest SMP message that it takes.
        buffers: how many of them it holds at a time.
        transports: what its line carries.
    """
    bootloader = _BOOTLOADERS[layout.mode]

    def agent(
        slots: Sequence[Slots],
        control: BootControl,
        counters: Sequence[CounterStore],
        areas: RecordAreas,
        _info: BoardInfo,
    ) -> Agent:
        try:
            installer: Installer | HillholdError = Installer(StateStore(areas), slots, control, counters)
        except (UnprovisionedError, OperationalError) as reason:
            installer = reason
        return Agent(installer, buffer=buffer, buffers=buffers, bootloader=bootloader, transports=transports)

    return VirtualBoard(flash, layout, keys, agent, self_test)


def is_provisioned(flash: Flash, layout: Layout) -> bool:
    """Say whether anything was ever written where a board keeps its state."""
    return not SimRecordAreas(flash, layout.state).is_blank()


def is_another(flash: Flash, layout: Layout) -> bool:
    """Say whether an unprovisioned board of this layout cannot have left this flash: more was written than provisioning begins with.

    Provisioning one would destroy what it holds, most likely a board whose partitions are others.
    """
    g = flash.geometry
    first = [part for pair in (layout.flags, layout.keys or ()) for part in pair]
    inside = {sector for part in first for sector in range(g.sector_at(part.offset), g.sector_at(part.end - 1) + 1)}
    return not is_provisioned(flash, layout) and not all(
        flash.is_blank(g.starts[sector], g.sizes[sector]) for sector in range(g.sectors) if sector not in inside
    )


def provision_board(flash: Flash, layout: Layout, device: Device, root: bytes) -> None:
    """Write the first state of a factory-new board.

    Raises:
        MisuseError: it has one already, or `device` has another number of components than the layout.
        MetadataError, SignatureError: `root` is not one that its quorum signed.
    """
    if is_provisioned(flash, layout):
        raise MisuseError("this board has been provisioned already")
    if len(device.components) != len(layout.slots):
        raise MisuseError(f"components of the device: expected {len(layout.slots)}, got {len(device.components)}")
    # The state comes last: its presence says that the board was provisioned.
    if layout.keys:
        KeyList(SimRecordAreas(flash, layout.keys), ()).provision(root)
    FlagStore(flash, layout).provision(BootRecord((ImageFlags(),) * len(layout.slots)))
    provision(StateStore(SimRecordAreas(flash, layout.state)), device, root)


class Station(AbstractContextManager["Station"]):
    """Serves a board on a line, in a thread, until it is closed.

    Meanwhile another thread may look at `board.info`, replace its flash's `power_cut`, and switch on a board that is off.

    Attributes:
        traffic: bytes over the line.
        failure: what ended the thread before its time, or None.
    """

    def __init__(self, board: VirtualBoard, line: Line, clock: Callable[[], int | None]) -> None:
        self.board, self.line = board, line
        self.traffic = Traffic()
        self.failure: BaseException | None = None
        self._stop = threading.Event()
        self._clock = clock
        self._thread = threading.Thread(target=self._run, name="board", daemon=True)

    def __enter__(self) -> Station:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.line.close()

    def _run(self) -> None:
        try:
            serve(self.board, self.line, self._stop, self._clock, monotonic, self.traffic)
        except BaseException as error:  # a thread has nobody to raise to; the peer sees a board that does not answer
            self.failure = error
