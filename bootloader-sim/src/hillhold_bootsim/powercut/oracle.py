"""What must hold of a board after any cut, told from the bytes of its flash and what was started. It shares no code with the bootloader.

1. Exactly one whole authentic image boots: the bytes at the place from which the board runs are those of a release of the scenario, and it
   is one of those that may boot now (`May`): the confirmed one, or the one on trial, and then as a trial.
2. While an image is on trial, the confirmed one is whole in the other slot.
3. No security counter went down, nor above the counter of what is confirmed; after a confirmed boot it is that of the image. The same holds
   of the image keys that were revoked: none is accepted again, none is dropped before an image that does without it is confirmed.
4. The agent's state can be read, and none of its floors went down.

That a second boot changes nothing, and that the update can be finished, `explore` tries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256

from hillhold_bootsim.flash import FlashState
from hillhold_bootsim.layout import BootMode
from hillhold_bootsim.powercut.scenario import Scenario
from hillhold_verifier.state import DeviceState

May = frozenset[tuple[int, bool]]
"""What may boot: numbers of offers, and whether on trial."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What never goes down."""

    counter: int
    floors: tuple[int, ...]
    dropped: int = 0

    def __ge__(self, other: Facts) -> bool:
        below = self.counter < other.counter or self.dropped < other.dropped
        return not below and all(map(int.__ge__, self.floors, other.floors))


def counter_of(scenario: Scenario, state: FlashState) -> int:
    """Return the security counter: the highest value in the one-way region that stands beside its complement."""
    otp, size = state[-1].content, max(8, scenario.layout.geometry.unit)
    part = len(otp) // len(scenario.layout.slots)
    values = [0]
    for at in range(0, part // size * size, size):
        value, complement = otp[at : at + 4], otp[at + 4 : at + 8]
        if bytes(byte ^ 0xFF for byte in value) == complement and any(value):
            values.append(int.from_bytes(value, "big"))
    return max(values)


def dropped_keys(scenario: Scenario, state: FlashState) -> int:
    """Return how many image keys the bootloader does not accept any more; -1 where its list cannot be read."""
    layout = scenario.layout
    found = {0: -1}
    for area in layout.keys or ():
        first, last = layout.geometry.sector_at(area.offset), layout.geometry.sector_at(area.end - 1)
        data = b"".join(sector.content for sector in state[first : last + 1])
        end = 18 + int.from_bytes(data[14:18], "big")
        if data[:4] == b"HHkl" and sha256(data[:end]).digest() == data[end : end + 32]:
            found[int.from_bytes(data[6:14], "big")] = int.from_bytes(data[18:20], "big")
    return found[max(found)] if layout.keys else 0


def floors_of(state: DeviceState) -> tuple[int, ...]:
    """Return the versions and times below which the agent takes nothing."""
    trust = state.trust
    floors = trust.floors
    named = [floors[name].value if name in floors else 0 for name in ("timestamp", "snapshot", "targets", "line")]
    return (trust.root.signed.version, trust.time_floor.value if trust.time_floor else 0, *named)


class Oracle:
    """Judges boots; `memory` may remember hashes by the content of sectors."""

    def __init__(self, scenario: Scenario, remember: Callable[[object, Callable[[], bytes]], bytes]) -> None:
        self._scenario, self._remember = scenario, remember
        self._layout = scenario.layout

    def runs(self, state: FlashState, slot: int) -> int | None:
        """Return which offer's image lies, whole, where the board runs when `slot` was started; None for anything else."""
        swaps = self._layout.mode is BootMode.SWAP
        return self._image_at(state, self._layout.slots[0][0 if swaps else slot].offset)

    def judge(
        self, state: FlashState, slot: int | None, trial: bool, may: May, before: Facts, now: Facts
    ) -> str | None:
        """Return what is wrong after a boot, or None.

        Args:
            state: the flash after the boot.
            slot: what was started; None for recovery.
            trial: it was started on trial.
            may: what may boot.
            before, now: what never goes down, before the cut and after the boot.
        """
        if slot is None:
            return "nothing boots"
        found = self.runs(state, slot)
        if found is None:
            return f"slot {slot} was started, and what lies there is no whole authentic image"
        if (found, trial) not in may:
            return f"{self._name(found, trial)} was started; expected {' or '.join(self._name(*each) for each in sorted(may))}"
        confirmed = {number for number, on_trial in may if not on_trial and number != found} if trial else {found}
        if trial and not any(self._whole_elsewhere(state, number) for number in confirmed):
            return "an image is on trial, and no other slot holds the confirmed one: there is no way back"
        if not now >= before:
            return f"counter or floors went down: {before}, then {now}"
        highest = max(self._scenario.offers[number].counter for number in confirmed)
        if now.counter > highest or (not trial and now.counter != highest):
            return f"security counter: expected {'at most ' if trial else ''}{highest}, got {now.counter}"
        drops = max(self._scenario.offers[number].drops for number in confirmed)
        if now.dropped > drops or (not trial and now.dropped != drops):
            return f"dropped image keys: expected {'at most ' if trial else ''}{drops}, got {now.dropped}"
        return None

    def _whole_elsewhere(self, state: FlashState, number: int) -> bool:
        return any(self._image_at(state, at) == number for at in self._places())

    def _places(self) -> Iterator[int]:
        """Where an image may begin that does not run now."""
        first, second = self._layout.slots[0]
        yield second.offset
        yield second.offset + self._layout.slot_sector(0) if self._layout.mode is BootMode.SWAP else first.offset

    def _image_at(self, state: FlashState, offset: int) -> int | None:
        g = self._layout.geometry
        for number, offer in enumerate(self._scenario.offers):
            length = len(offer.image)
            sectors = state[g.sector_at(offset) : g.sector_at(offset + length - 1) + 1]
            if any(sector.unstable for sector in sectors):
                continue

            def digest(sectors: FlashState = sectors, length: int = length) -> bytes:
                return sha256(b"".join(sector.content for sector in sectors)[:length]).digest()

            if self._remember((sectors, length), digest) == offer.sha256:
                return number
        return None

    def _name(self, number: int, trial: bool) -> str:
        return f"{self._scenario.offers[number].version}{' on trial' if trial else ''}"
