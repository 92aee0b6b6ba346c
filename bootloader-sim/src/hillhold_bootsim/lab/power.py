"""What switches the power of a real board: a command, a port of a USB hub, or a relay on a serial line.

A virtual board switches its own (`Target.power`). Each of these becomes a `Switch`, which `Powered` puts in the place of a power that a
target lacks. Where it lacks a reset as well, the power is one.

Whether a switch does what it says nobody knows but the board: before cuts count, `cuts` looks whether it falls silent.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from hillhold_bootsim.lab.target import GoneError, Spec, Target
from hillhold_bootsim.lab.through import Through
from hillhold_verifier.errors import OperationalError
from hillhold_verifier.link import Stream, open_port

OFF: Final = 1.0
"""Seconds without power that make a reset."""
PATIENCE: Final = 30.0
"""Seconds that a command may take."""


class SwitchError(GoneError):
    """The power could not be switched: nothing is known of whether it is on."""

    hint = "try the switch by hand; the board may be without power now"


class Switch(Protocol):
    """Switches the power of one board."""

    def set(self, on: bool) -> None:
        """Switch; raises `SwitchError`."""

    def close(self) -> None:
        """Let go of it; the power stays as it is."""


class Switching(Protocol):
    """What a campaign's file says of a switch."""

    @property
    def told(self) -> str:
        """It in words, for the plan."""

    def open(self) -> Switch:
        """Get at it; raises `OperationalError`."""


@dataclass(frozen=True, slots=True)
class Command:
    """Two commands, which no shell sees: program and arguments."""

    on: tuple[str, ...]
    off: tuple[str, ...]

    @property
    def told(self) -> str:
        """See `Switching`."""
        return f"the command `{shlex.join(self.off)}`"

    def open(self) -> Switch:
        """See `Switching`."""
        return _Commands(self)


@dataclass(frozen=True, slots=True)
class Hub:
    """A port of a USB hub that switches power by port, by uhubctl.

    Attributes:
        location: of the hub, as uhubctl names it ("1-1").
        port: number.
    """

    location: str
    port: int

    @property
    def told(self) -> str:
        """See `Switching`."""
        return f"port {self.port} of the USB hub {self.location}"

    def open(self) -> Switch:
        """See `Switching`."""
        on, off = (("uhubctl", "-l", self.location, "-p", str(self.port), "-a", action) for action in ("on", "off"))
        return _Commands(Command(on, off))


@dataclass(frozen=True, slots=True)
class Relay:
    """A relay on a serial port of its own, which takes some bytes for on and others for off."""

    port: str
    on: bytes
    off: bytes
    baud: int = 9600

    @property
    def told(self) -> str:
        """See `Switching`."""
        return f"the relay on {self.port}"

    def open(self) -> Switch:
        """See `Switching`."""
        return _Wired(self, open_port(self.port, self.baud))


class _Commands:
    def __init__(self, command: Command) -> None:
        self._command = command

    def set(self, on: bool) -> None:
        words = self._command.on if on else self._command.off
        named = f"power {'on' if on else 'off'}: `{shlex.join(words)}`"
        try:
            done = subprocess.run(  # noqa: S603 - the laboratory's own command, from its own file, and no shell
                words, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False
            )
        except subprocess.TimeoutExpired:
            raise SwitchError(f"{named} did not end within {PATIENCE:g} s") from None
        except (OSError, ValueError) as error:  # ValueError: a zero byte
            raise SwitchError(f"{named}: {getattr(error, 'strerror', None) or error}") from error
        if done.returncode:
            said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
            raise SwitchError(f"{named} ended with {done.returncode}: {said[-1][:200] if said else 'no words'}")

    def close(self) -> None:
        """Nothing is held."""


class _Wired:
    """Its port stays open: opening one resets many relay boards."""

    def __init__(self, relay: Relay, stream: Stream) -> None:
        self._relay, self._stream = relay, stream

    def set(self, on: bool) -> None:
        try:
            self._stream.write(self._relay.on if on else self._relay.off)
        except OperationalError as error:
            raise SwitchError(f"power {'on' if on else 'off'}: {error}") from error

    def close(self) -> None:
        self._stream.close()


class Powered(Through):
    """A target with a switch. It is on from the beginning: whoever was interrupted may have left it off."""

    def __init__(self, target: Target, switch: Switch) -> None:
        super().__init__(target)
        self._switch = switch
        has = {"power", "reset"}
        self._resets = "reset" in target.lacks
        self.lacks: Mapping[str, str] = {name: why for name, why in target.lacks.items() if name not in has}

    def power(self, on: bool) -> None:
        """Switch it."""
        self._switch.set(on)

    def reset(self) -> None:
        """As the target does; where it cannot, power off and on."""
        if self._resets:
            self.power(False)
            self.wait(OFF)
            self.power(True)
        else:
            super().reset()

    def close(self) -> None:
        """Let go of board and switch."""
        try:
            super().close()
        finally:
            self._switch.close()


@dataclass(frozen=True, slots=True)
class PoweredSpec:
    """A board whose power something else switches."""

    spec: Spec
    switching: Switching

    @property
    def name(self) -> str:
        """The board's."""
        return self.spec.name

    @property
    def kind(self) -> str:
        """The board's."""
        return self.spec.kind

    @property
    def alone(self) -> bool:
        """The board's."""
        return self.spec.alone

    def make(self, seed: int) -> Target:
        """Switch it on, and get it; raises `OperationalError`."""
        switch = self.switching.open()
        try:
            switch.set(True)
            return Powered(self.spec.make(seed), switch)
        except BaseException:
            switch.close()
            raise
