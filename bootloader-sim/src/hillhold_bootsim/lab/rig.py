"""What a campaign puts between its host and a board: a line with a speed and faults, and a cut of its power at a moment.

Both work on any target, in its time: real for a real board, virtual for a virtual one.
"""

from __future__ import annotations

from typing import Final

from hillhold_bootsim.lab.target import Target
from hillhold_bootsim.lab.through import Through
from hillhold_bootsim.line import Direction, LineModel
from hillhold_verifier.errors import OperationalError
from hillhold_verifier.link import Stream

LEAST: Final = 1e-4
"""Seconds that a read may wait at the least: less is none."""


class PowerCutError(OperationalError):
    """The moment came, and the power is off."""


class Rig(Through):
    """A target with a rig in front.

    Attributes:
        model: the line, or None for the board's own.
        cut_at: when the power is to be cut, in the target's seconds; None for never. It happens once.
    """

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.model: LineModel | None = None
        self.cut_at: float | None = None

    def open(self) -> Stream:
        """A line to the board, through the rig."""
        return _Stream(self, super().open())

    def cut_if_due(self) -> None:
        """Cut the power if it is time; raises `PowerCutError` then."""
        if self.cut_at is not None and self.seconds() >= self.cut_at:
            self.cut()
            raise PowerCutError("the power was cut")

    def cut(self) -> None:
        """Cut the power now, and lose what is on the line."""
        self.cut_at = None
        self.power(False)
        if self.model:
            self.model.clear()


class _Stream:
    def __init__(self, rig: Rig, stream: Stream) -> None:
        self._rig, self._stream = rig, stream

    def write(self, data: bytes, /) -> object:
        rig = self._rig
        rig.cut_if_due()
        if rig.model is None:
            return self._stream.write(data)
        left = data
        while left := left[rig.model.push(Direction.TO_BOARD, left, rig.seconds()) :]:
            self._carry(rig.model, LEAST)
        return len(data)

    def read(self, timeout: float, /) -> bytes:
        rig = self._rig
        end = rig.seconds() + timeout
        while True:
            rig.cut_if_due()
            now = rig.seconds()
            until = end if rig.cut_at is None else min(end, rig.cut_at)
            if rig.model is None:
                data = self._stream.read(max(until - now, LEAST))
            else:
                event = rig.model.next_event()
                until = until if event is None else min(until, event)
                data = self._carry(rig.model, max(until - now, LEAST))
            if data or rig.seconds() >= end:
                return data

    def _carry(self, model: LineModel, timeout: float) -> bytes:
        """Bring what is due to both ends, waiting for the board at most `timeout` seconds; return what came out at this end."""
        rig = self._rig
        if data := model.pull(Direction.TO_BOARD, rig.seconds()):
            self._stream.write(data)
        if data := self._stream.read(timeout):
            model.push(Direction.TO_HOST, data, rig.seconds())
        return model.pull(Direction.TO_HOST, rig.seconds())

    def reopen(self) -> None:
        self._stream.reopen()

    def close(self) -> None:
        self._stream.close()
