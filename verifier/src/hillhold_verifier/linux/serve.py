"""The agent of a Linux board on its line, sans-I/O: it holds the device only while somebody talks.

So `hillhold-device confirm` and `update` on the board find the device free between conversations, and a conversation finds what they
left. Metadata that was half taken is forgotten with the hold; a courier begins again with the root or timestamp anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from hillhold_verifier.agent import Agent
from hillhold_verifier.agent_os import U_BOOT
from hillhold_verifier.errors import HillholdError, OperationalError, UnprovisionedError
from hillhold_verifier.framing import SHARED, Framed, Receiver, Transport, frame
from hillhold_verifier.installer import Installer
from hillhold_verifier.linux.device import LinuxDevice
from hillhold_verifier.select import Device

IDLE: Final = 5.0
"""Seconds of silence after which the device is let go."""
BUFFER: Final = 4096
"""Bytes of the longest SMP message that is taken."""
BUFFERS: Final = 4
"""Messages that may be under way: the kernel holds 64 KiB of a serial line that nobody has read yet (tty_buffer.c)."""


class Server:
    """Serves `device`; `group` is the id of Hillhold's own SMP group, `transports` what its line carries."""

    def __init__(self, device: LinuxDevice, group: int, transports: Sequence[Transport] = SHARED) -> None:
        self._device, self._group = device, group
        self._receiver = Receiver(BUFFER, transports)
        self._hold = ExitStack()
        self._agent: Agent | None = None
        self._heard = 0.0
        self._refusal = (0, "")
        self.reset_requested = False

    def receive(self, data: bytes, clock: int | None, now: float) -> bytes:
        """Take bytes of the line; return those to send.

        Args:
            clock: Unix seconds, or None without a clock.
            now: seconds of a clock that only goes forward.
        """
        answers = []
        for event in self._receiver.feed(data):
            if isinstance(event, Framed):
                self._heard = now
                if answer := self._answer(event.data, clock):
                    answers.append(frame(answer, event.transport))
        return b"".join(answers)

    def tick(self, now: float) -> None:
        """Let time pass: after some silence the device is let go, and half a frame given up."""
        self._receiver.tick(now)
        if now - self._heard >= IDLE:
            self.release()

    def release(self) -> None:
        """Let the device go."""
        self._agent = None
        self._hold.close()

    def _answer(self, packet: bytes, clock: int | None) -> bytes | None:
        agent = self._agent or self._take()
        answer = agent.answer(packet, clock)
        self._refusal = agent.last_refusal
        self.reset_requested |= agent.reset_requested
        return answer

    def _take(self) -> Agent:
        try:
            installer = self._hold.enter_context(self._device.installer())
        except (UnprovisionedError, OperationalError) as error:
            # Asked anew each time: whoever holds the device lets it go, and a disk comes back.
            return self._new(error, self._identity())
        self._agent = self._new(installer)
        self._agent.last_refusal = self._refusal
        return self._agent

    def _new(self, installer: Installer | HillholdError, device: Device | None = None) -> Agent:
        return Agent(installer, device, BUFFER, self._group, buffers=BUFFERS, bootloader=U_BOOT)

    def _identity(self) -> Device | None:
        try:
            return self._device.look().state.device
        except HillholdError:
            return None
