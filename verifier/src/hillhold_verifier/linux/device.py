"""This device, as a file describes it: where its state, slots and boot flags are.

    state = "/var/lib/hillhold"                     # a folder of the device's own
    reboot = ["systemctl", "reboot"]                # optional

    [uboot]                                         # optional, like each of its entries
    config = "/etc/fw_env.config"
    command-line = "/proc/cmdline"

    [[component]]                                   # one or more, in the order of their numbers
    name = "app"
    slots = ["/dev/mmcblk0p2", "/dev/mmcblk0p3"]

What the device *is* (product, hardware, id, root) is no part of it: that is provisioned, and kept in the state.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from hillhold_verifier.context import Context
from hillhold_verifier.errors import ImageError, MismatchError, MisuseError, OperationalError, short
from hillhold_verifier.installer import Installer, provision
from hillhold_verifier.linux.files import FileCounter, FileRecordAreas, FileSlots, exclusive
from hillhold_verifier.linux.uboot import UBootControl, UBootEnvironment
from hillhold_verifier.mcuboot import read_image
from hillhold_verifier.release import Version, split_path
from hillhold_verifier.select import Device, Installed
from hillhold_verifier.slotio import slot_sha256
from hillhold_verifier.state import StateStore

DEFAULT_CONFIG: Final = Path("/etc/hillhold/device.toml")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Factory:
    """What the factory wrote into slot 0 of a component. `security_counter` counts where no MCUboot image states one."""

    path: str
    length: int
    sha256: bytes
    security_counter: int = 0


class LinuxDevice:
    """A device; nothing is opened until it is asked for. `reboot` is the command that restarts it."""

    def __init__(
        self,
        state: Path,
        components: Mapping[str, Sequence[Path]],
        environment: UBootEnvironment,
        command_line: Path = Path("/proc/cmdline"),
        reboot: Sequence[str] = ("systemctl", "reboot"),
    ) -> None:
        self.state, self.reboot = state, tuple(reboot)
        self._components = components
        self._environment, self._command_line = environment, command_line

    @property
    def components(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(self._components)

    @property
    def control(self) -> UBootControl:
        """The boot flags, read anew."""
        return UBootControl(self._environment, len(self._components), self._command_line)

    def look(self) -> Context:
        """Return what the device holds now, to read; another process may be changing it."""
        store = StateStore(FileRecordAreas(self.state))
        return Context(store, self._slots(), self.control, self._counters())

    @contextmanager
    def installer(self) -> Iterator[Installer]:
        """Hold the device alone, and act on it.

        Raises:
            OperationalError: another process holds it, or a medium fails.
            UnprovisionedError: its state cannot be read.
        """
        with exclusive(self.state):
            store = StateStore(FileRecordAreas(self.state))
            yield Installer(store, self._slots(), self.control, self._counters())

    def provision(self, device: Device, root: bytes, factory: Sequence[Factory | None], *, again: bool) -> None:
        """Write what a production line gives a device: what it is, whom it trusts, what runs from slot 0 (None: nothing yet).

        Args:
            again: replace a state that is there; by whoever has the right to. The security counter stays.

        Raises:
            MisuseError: it was provisioned before, and not `again`; or `factory` does not fit the components.
            Refused: `root` is not one that its quorum signed, or a slot's content is not what `factory` says.
            OperationalError: the medium failed; provision again.
        """
        if len(factory) != len(self._components):
            raise MisuseError(f"factory images: expected {len(self._components)}, got {len(factory)}")
        with exclusive(self.state):
            areas, counters = FileRecordAreas(self.state), self._counters()
            if not again and any(areas.read(index).strip(b"\0") for index in (0, 1)):
                raise MisuseError("this device was provisioned before")
            slots = [
                _installed(pair, device, item) if item else None
                for pair, item in zip(self._slots(), factory, strict=True)
            ]
            areas.allocate()
            for counter in counters:
                counter.allocate()
            # The flags first: a state without flags, or flags without a state, is refused by whatever reads them.
            self.control.provision([None if slot is None else 0 for slot in slots])
            provision(StateStore(areas), device, root, tuple(entry for slot in slots for entry in (slot, None)))

    def _slots(self) -> list[FileSlots]:
        return [FileSlots(paths) for paths in self._components.values()]

    def _counters(self) -> list[FileCounter]:
        return [FileCounter(self.state / f"counter.{number}") for number in range(len(self._components))]


def load_device(path: Path) -> LinuxDevice:
    """Read a device's file.

    Raises:
        OperationalError: it cannot be read.
        MisuseError: it does not say what it should.
    """
    try:
        value = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OperationalError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MisuseError(f"{path}: {error}") from None
    table = _Table(value, str(path))
    uboot = _Table(table.take("uboot", dict, {}), f"{path}: uboot")
    components: dict[str, list[Path]] = {}
    for entry in table.take("component", list):
        item = _Table(entry, f"{path}: component")
        name = item.take("name", str)
        if name in components:
            raise MisuseError(f"{path}: component {name}: expected once, got twice")
        components[name] = [Path(text) for text in item.texts("slots")]
        item.end()
    device = LinuxDevice(
        Path(table.take("state", str)),
        components,
        UBootEnvironment(Path(uboot.take("config", str, "/etc/fw_env.config"))),
        Path(uboot.take("command-line", str, "/proc/cmdline")),
        table.texts("reboot", ["systemctl", "reboot"]),
    )
    table.end()
    uboot.end()
    if not components:
        raise MisuseError(f"{path}: component: expected at least one, got none")
    return device


class _Table:
    """A table of the file; every entry is to be taken."""

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, dict):
            raise MisuseError(f"{what}: expected a table, got {type(value).__name__}")
        self._left, self._what = dict(value), what

    def take(self, name: str, kind: type[T], default: T | None = None) -> T:
        value = self._left.pop(name, default)
        if not isinstance(value, kind):
            got = "none" if value is None else type(value).__name__
            raise MisuseError(f"{self._what}: {name}: expected {kind.__name__}, got {got}")
        return value

    def texts(self, name: str, default: list[object] | None = None) -> list[str]:
        items = self.take(name, list, default)
        if not items or not all(isinstance(item, str) for item in items):
            raise MisuseError(f"{self._what}: {name}: expected a list of texts")
        return items

    def end(self) -> None:
        if self._left:
            raise MisuseError(f"{self._what}: {', '.join(sorted(self._left))}: not known here")


def _installed(slots: FileSlots, device: Device, factory: Factory) -> Installed:
    """What slot 0 holds, by its own bytes."""
    product, version, _ = split_path(factory.path)
    if product != device.product:
        raise MisuseError(f"{factory.path}: expected a target of {device.product}")
    if not 0 < factory.length <= slots.size:
        raise MisuseError(f"{factory.path}: expected 1 to {slots.size} bytes, got {factory.length}")
    if (digest := slot_sha256(slots, 0, 0, factory.length)) != factory.sha256:
        raise MismatchError(f"{factory.path} in slot 0", expected=short(factory.sha256), got=short(digest))
    counter = factory.security_counter
    try:
        image = read_image(lambda offset, length: slots.read(0, offset, length), factory.length)
    except ImageError:
        pass
    else:
        if str(image.version) != str(Version.parse(version)):
            raise MisuseError(f"{factory.path}: the image states version {image.version}")
        counter = image.security_counter or 0
    return Installed(factory.path, Version.parse(version), digest, factory.length, counter)
