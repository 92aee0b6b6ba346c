"""The bootloader and the confirmation (DESIGN §4, "Trial"), for a board that runs an image from either slot and for one that swaps.

A device has a `confirmed` and an `other` image, wherever they lie. A board that swaps (MCUboot's way, DESIGN §6) always runs the primary
slot: for a trial it exchanges the content of both slots, and to go back it exchanges them again; a confirmation moves nothing, so
that confirmed and other change places. A swap is many writes: `swapping` is the state after a cut within it, in either direction, in
which no slot holds a whole image and only the bootloader can go on. What DESIGN §4 asks of the flags is modelled as rules
(`finish-swap`, `remember-swap`, `reconcile`); the moves of single sectors, and a cut within one, are not: which of them a swap consists of
is for the board that has one, and a cut within any of them is the one state that is modelled.
"""

from __future__ import annotations

from typing import NamedTuple

from trustmodel.config import Config, Confirmation
from trustmodel.device import ENDED, IDLE, MARKED, TRIAL, Device, Rules
from trustmodel.files import SECOND, VERSION

NO_IMAGE = "P3 no image boots: no slot holds a whole one"
LOW_COUNTER = "P3 no image boots: the confirmed one has a counter below the device's"


class Result(NamedTuple):
    """The device after an act, and the property that it violated."""

    device: Device
    violation: str | None = None


class Bootloader:
    """What happens at a reset, when an image fails its test, and when one confirms itself."""

    def __init__(self, config: Config, rules: Rules) -> None:
        self.config, self.rules, self._counters = config, config.rules, rules.counters

    def works(self, image: int) -> bool:
        """The image passes its own test."""
        return image != SECOND or self.config.second_works

    def reset(self, device: Device) -> Result:
        """Loss of power, or a reset for any reason but a failed test."""
        if device.swapping:
            return self._go_on_swapping(device)
        if device.phase == MARKED and self._fits(device):
            return Result(device._replace(phase=TRIAL, starts=0, swapped=self.config.swaps))
        if device.phase == TRIAL:
            if "retry" in self.rules and device.starts < self.config.trial_starts - 1:
                return Result(device._replace(starts=device.starts + 1))
            failed = 0 if "cut" in self.rules else 1 << device.other
            return self._back(device._replace(failed=device.failed | failed))
        if device.phase == ENDED and device.swapped and "remember-swap" not in self.rules:
            stays = device._replace(confirmed=device.other, other=device.confirmed, phase=IDLE, swapped=False)
            return Result(stays, "P2 an image became the confirmed one without a confirmation")
        return self._back(device)

    def fail(self, device: Device) -> Result:
        """The image on trial fails its own test, or hangs until the watchdog bites."""
        return self._back(device._replace(failed=device.failed | 1 << device.other))

    def cut_within_swap(self, device: Device) -> Device | None:
        """The state after a cut within the swap that the next boot would make; None where it makes none."""
        if not self.config.swaps or device.swapping:
            return None
        after = self.reset(device).device
        if after.swapped == device.swapped:
            return None
        return (device if after.swapped else after._replace(swapped=True))._replace(swapping=True)

    def confirm(self, device: Device) -> Result:
        """The running image confirms itself."""
        assert device.mark is not None
        assert device.line is not None
        image, (marked, chosen_under) = device.other, device.mark
        counter = self._counters[image]
        if self.config.confirmation is Confirmation.COUNTER_FIRST and device.counter < counter:
            return Result(device._replace(counter=counter))
        stored = device.counter if self.config.confirmation is Confirmation.FLAG_FIRST else max(device.counter, counter)
        reconciles = not self.config.swaps or "reconcile" in self.rules
        confirmed = device._replace(
            confirmed=image,
            other=device.confirmed,
            recorded=image if reconciles else device.recorded,
            phase=IDLE,
            mark=None,
            starts=0,
            swapped=False,
            counter=stored,
        )
        violation = None
        mine, steps_down_from = VERSION[device.confirmed], chosen_under.entry(image).steps_down_from
        if VERSION[image] < mine and mine not in steps_down_from:
            violation = "P2 confirmed a lower version, unnamed"
        elif counter < max(device.counter, self._counters[device.confirmed]):
            violation = "P2 confirmed a lower counter"
        elif image != marked:
            violation = "P2 confirmed an image that was never selected"
        elif device.withdrawn_seen >> image & 1 and min(chosen_under.order, device.line.order) > 0:
            violation = "P4 confirmed a release withdrawn in accepted metadata"
        return Result(confirmed, violation)

    def raise_counter(self, device: Device) -> Device:
        """The counter store follows the confirmation."""
        return device._replace(counter=max(device.counter, self._counters[device.confirmed]))

    def _fits(self, device: Device) -> bool:
        assert device.mark is not None
        image = device.other
        if image < 0 or ("bind" in self.rules and image != device.mark[0]):
            return False
        return self._counters[image] >= device.counter

    def _back(self, device: Device) -> Result:
        """Boot the confirmed image."""
        device = device._replace(phase=IDLE, mark=None, starts=0, swapped=False, swapping=False)
        if self.config.confirmation is Confirmation.FLAG_FIRST:
            device = self.raise_counter(device)
        low = self._counters[device.confirmed] < device.counter
        return Result(device, LOW_COUNTER if low else None)

    def _go_on_swapping(self, device: Device) -> Result:
        if "finish-swap" not in self.rules:
            return Result(device, NO_IMAGE)
        if device.swapped:
            return self._back(device)
        return Result(device._replace(phase=TRIAL, starts=0, swapped=True, swapping=False))
