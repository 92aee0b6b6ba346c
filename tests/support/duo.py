"""A device of two components, all in memory, whose power can be cut at any write: what `Installer` has to hold for sets.

Its bootloader is a few lines: what is marked is tried together, if each slot has the marked bytes; the application confirms, or all go
back.
Every write counts as one operation; the cut comes before it, or after half of it (flags are atomic, so theirs is before or after).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256

from forge import T0, Repo
from hillhold_verifier.installer import Installer, provision
from hillhold_verifier.metadata import SNAPSHOT, TARGETS, TIMESTAMP
from hillhold_verifier.release import Version
from hillhold_verifier.select import Device, Installed
from hillhold_verifier.slots import BootFlags, Mark
from hillhold_verifier.state import StateStore

PAIR = Device("pump", "nrf-a", "serial-1", ("app", "radio"))
CLOCK = T0 + 60


class PowerCut(Exception):
    """The power is gone."""


class Power:
    """Counts operations, and cuts the power at number `cut`; `torn`: within it, where it is one that can tear."""

    def __init__(self) -> None:
        self.operations, self.cut, self.torn = 0, -1, False

    def spend(self, whole: Callable[[], None], half: Callable[[], None] | None = None) -> None:
        number = self.operations
        self.operations += 1
        if number == self.cut:
            if self.torn:
                (half or whole)()
            raise PowerCut
        whole()


class MemorySlots:
    """`Slots` of two byte arrays, erased value 0xFF, sectors of 64 and units of 4 bytes."""

    size, sector, unit, erased_value = 1024, 64, 4, 0xFF

    def __init__(self, power: Power) -> None:
        self._power, self.data = power, (bytearray(b"\xff" * self.size), bytearray(b"\xff" * self.size))

    def read(self, slot: int, offset: int, length: int) -> bytes:
        return bytes(self.data[slot][offset : offset + length])

    def erase(self, slot: int, offset: int, length: int) -> None:
        self._power.spend(
            lambda: self._put(slot, offset, b"\xff" * length), lambda: self._put(slot, offset, b"\xff" * (length // 2))
        )

    def write(self, slot: int, offset: int, data: bytes) -> None:
        assert self.data[slot][offset : offset + len(data)] == b"\xff" * len(data), "programmed twice"
        self._power.spend(
            lambda: self._put(slot, offset, data), lambda: self._put(slot, offset, data[: len(data) // 2])
        )

    def _put(self, slot: int, offset: int, data: bytes) -> None:
        self.data[slot][offset : offset + len(data)] = data


class MemoryAreas:
    """`RecordAreas`: a write that is cut leaves half of it."""

    size = 32 * 1024

    def __init__(self, power: Power) -> None:
        self._power, self.data = power, [b"", b""]

    def read(self, index: int) -> bytes:
        return self.data[index]

    def write(self, index: int, data: bytes) -> None:
        self._power.spend(lambda: self._put(index, data), lambda: self._put(index, data[: len(data) // 2]))

    def _put(self, index: int, data: bytes) -> None:
        self.data[index] = data


class MemoryCounter:
    def __init__(self, power: Power) -> None:
        self._power, self._value = power, 0

    def value(self) -> int:
        return self._value

    def raise_to(self, value: int) -> None:
        if value > self._value:
            self._power.spend(lambda: self.__setattr__("_value", value))


class MemoryBoot:
    """`BootControl` of two components: the flags are one value, replaced whole."""

    def __init__(self, power: Power) -> None:
        self._power = power
        self.stored = (BootFlags(None, 0), BootFlags(None, 0))
        self.running = [0, 0]

    def flags(self, component: int = 0) -> BootFlags:
        found = self.stored[component]
        return replace(found, running=self.running[component], trial=self.running[component] != found.confirmed)

    def set_marks(self, marks: Mapping[int, Mark]) -> None:
        self._store(lambda n, flags: replace(flags, mark=marks.get(n)))

    def clear_marks(self) -> None:
        self._store(lambda _, flags: replace(flags, mark=None))

    def confirm(self) -> None:
        self._store(lambda n, flags: replace(flags, confirmed=self.running[n], mark=None))

    def acknowledge_failure(self) -> None:
        self._store(lambda _, flags: replace(flags, failed=None))

    def accept_root(self, data: bytes) -> None:
        """This bootloader has no list of image keys."""

    def fail(self) -> None:
        """The bootloader's: the trial failed by its own test."""
        self._store(lambda _, flags: replace(flags, mark=None, failed=flags.mark.sha256 if flags.mark else None))

    def _store(self, change: Callable[[int, BootFlags], BootFlags]) -> None:
        first, second = (change(n, flags) for n, flags in enumerate(self.stored))
        self._power.spend(lambda: self.__setattr__("stored", (first, second)))


class Duo:
    """The device: `boot` and `installer` are made anew at each start."""

    def __init__(self, repo: Repo, images: tuple[bytes, bytes]) -> None:
        self.repo, self.power = repo, Power()
        self.slots = [MemorySlots(self.power), MemorySlots(self.power)]
        self.areas, self.boot = MemoryAreas(self.power), MemoryBoot(self.power)
        self.counters = [MemoryCounter(self.power), MemoryCounter(self.power)]
        store = StateStore(self.areas)
        state = provision(store, PAIR, repo.tree["metadata/1.root.json"])
        for component, (name, data) in enumerate(zip(PAIR.components, images, strict=True)):
            self.slots[component].data[0][: len(data)] = data
            state = state.with_slot(2 * component, factory(repo, name, data))
        store.save(state)
        self.start()

    def start(self) -> None:
        """Power on after a cut: the bootloader, then the agent."""
        self.power.cut = -1
        self.start_again()

    def start_again(self) -> None:
        """A reset, in which the power may go again."""
        marks = {n: flags.mark for n, flags in enumerate(self.boot.stored) if flags.mark}
        fits = bool(marks) and all(self.whole(n, 1 - (self.boot.stored[n].confirmed or 0), m) for n, m in marks.items())
        if marks and not fits:
            self.boot.clear_marks()
        for n, flags in enumerate(self.boot.stored):
            confirmed = flags.confirmed or 0
            self.boot.running[n] = 1 - confirmed if fits and n in marks else confirmed
        self.installer = Installer(StateStore(self.areas), self.slots, self.boot, self.counters)

    def whole(self, component: int, slot: int, mark: Mark) -> bool:
        return sha256(self.slots[component].read(slot, 0, mark.length)).digest() == mark.sha256

    def runs(self) -> tuple[bytes, bytes]:
        """The SHA-256 of what runs, as far as the repository's images reach."""
        known = set(self.repo.blobs.values())
        found = [
            next((data for data in known if self.slots[n].read(self.boot.running[n], 0, 1024).startswith(data)), b"")
            for n in (0, 1)
        ]
        return found[0], found[1]

    def take(self) -> None:
        roles = {TIMESTAMP: "timestamp", SNAPSHOT: "snapshot", TARGETS: "targets", self.repo.product: "line"}
        need = self.installer.receive(TIMESTAMP, self.repo.files["timestamp"], CLOCK)
        while need:
            need = self.installer.receive(need.role, self.repo.files[roles[need.role]], CLOCK)

    def update(self) -> None:
        """What a courier does, up to the mark; nothing where nothing is chosen."""
        self.take()
        for release in self.installer.choose(CLOCK).plan:
            component, data = PAIR.components.index(release.component), self.repo.blobs[release.path]
            at = self.installer.begin(release.sha256, release.length, CLOCK, component)
            while at < len(data):
                at = self.installer.write(at, data[at : at + 100])
        if self.installer.choose(CLOCK).plan:
            self.installer.mark(CLOCK)


def factory(repo: Repo, component: str, data: bytes) -> Installed:
    """What the factory put into a slot, as the repository lists it."""
    (path,) = [p for p, blob in repo.blobs.items() if blob == data]
    fields = repo.entries[path]["custom"]["hillhold"]
    assert fields["component"] == component
    requires = tuple(sorted((name, Version.parse(text)) for name, text in fields.get("requires", {}).items()))
    return Installed(
        path, Version.parse(fields["version"]), sha256(data).digest(), len(data), fields["security_counter"], requires
    )


OLD = (b"app 1.0.0" * 20, b"radio 4.0.0" * 20)
NEW = (b"app 2.0.0" * 25, b"radio 5.0.0" * 15)


def started() -> Duo:
    """A device that runs `OLD`; the repository has the set `NEW`."""
    repo = Repo()
    for name, version, data in (("app", "1.0.0", OLD[0]), ("radio", "4.0.0", OLD[1])):
        repo.add_release(version, data, counter=1, file=f"{name}.bin", component=name)
    repo.publish()
    duo = Duo(repo, OLD)
    for name, version, data in (("app", "2.0.0", NEW[0]), ("radio", "5.0.0", NEW[1])):
        repo.add_release(version, data, counter=2, file=f"{name}.bin", component=name, set="summer")
    repo.publish("line", "snapshot", "timestamp")
    return duo
