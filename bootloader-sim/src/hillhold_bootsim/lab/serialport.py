"""A real board on a serial port, a pseudo-terminal or `socket://HOST:PORT`: a line, and little else.

It is reset by its own SMP message, or by the port's DTR where that is wired to its reset. What it runs is told by its own words alone;
who can read its flash, or switch its power, describes that in a device adapter (`adapter`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hillhold_bootsim.lab.model import Item
from hillhold_bootsim.lab.reading import Reading
from hillhold_bootsim.lab.target import GoneError, Outside, Time
from hillhold_verifier.errors import OperationalError
from hillhold_verifier.link import Stream, open_port, set_dtr

PULSE: Final = 0.1
"""Seconds that DTR is held."""
LACKS: Final = {
    "reset": "the board has no reset from outside: it is reset by its own message",
    "read": "the board's flash cannot be read from outside",
    "power": "the board's power cannot be switched",
    "clock": "the board's clock cannot be set",
    "trial": "the board's own firmware decides how its trials end",
}


@dataclass(frozen=True, slots=True)
class SerialSpec:
    """A board on a port.

    Attributes:
        port: what pyserial opens.
        world: the time in which it lives.
        baud: bits per second.
        dtr: the port's DTR is wired to the board's reset.
    """

    port: str
    world: Time
    baud: int = 115200
    dtr: bool = False

    kind = "serial"
    alone = False

    @property
    def name(self) -> str:
        """The port."""
        return self.port

    def make(self, seed: int) -> SerialTarget:  # noqa: ARG002 - its keys were given to it long ago
        """Open the port; raises `OperationalError`."""
        return SerialTarget(self)


class SerialTarget(Outside):
    """See `target.Target`."""

    def __init__(self, spec: SerialSpec) -> None:
        super().__init__(spec.world, {name: why for name, why in LACKS.items() if not (spec.dtr and name == "reset")})
        self._stream = open_port(spec.port, spec.baud)
        self.item = Item(spec.port, "serial", facts={"port": spec.port, "baud": str(spec.baud)})

    def open(self) -> Stream:
        """The port, which is open already."""
        return self._stream

    def reset(self) -> None:
        """Pulse DTR."""
        try:
            set_dtr(self._stream, True)
            self.wait(PULSE)
            set_dtr(self._stream, False)
        except OperationalError as error:
            raise GoneError(f"reset by DTR: {error}") from error

    def read(self) -> Reading | None:
        """It cannot be read."""
        return None

    def power(self, on: bool) -> None:
        """It cannot be switched."""
        raise GoneError(f"{LACKS['power']} {'on' if on else 'off'}")

    def close(self) -> None:
        """Let go of the port."""
        self._stream.close()
