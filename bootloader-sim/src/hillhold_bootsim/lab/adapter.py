"""A device adapter: some forty lines of Python by the laboratory, for a board that this tool does not know how to reach.

    def send(data): …                   put bytes on the line
    def receive(timeout): …             return what has come, waiting at most so many seconds; b"" where nothing came
    def reset(): …                      optional: reset the board from outside
    def read_image(): …                 optional: the bytes from where the board runs its image, by a debugger, say
    def read_version(): …               optional: "1.2.3", the version of what runs, by any way but its update agent
    def power(on): …                    optional: switch its power
    def close(): …                      optional

What is left out is not tested, and the report says so. The file runs with all rights of whoever starts the tool. Whatever goes wrong in
it is a fault of the bench, and never a verdict on the board.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hillhold_bootsim.lab.model import Item
from hillhold_bootsim.lab.reading import Ran, Reading, image_in
from hillhold_bootsim.lab.serialport import LACKS
from hillhold_bootsim.lab.target import GoneError, Outside, Time
from hillhold_verifier.link import Stream

REQUIRED: Final = ("send", "receive")


class AdapterError(GoneError):
    """The laboratory's adapter failed, or returned what it should not."""


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """A board behind an adapter.

    Attributes:
        path: the adapter's file.
        world: the time in which it lives.
    """

    path: Path
    world: Time

    kind = "adapter"
    alone = False

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.stem

    def make(self, seed: int) -> AdapterTarget:  # noqa: ARG002 - its keys were given to it long ago
        """Load the adapter; raises `AdapterError`."""
        return AdapterTarget(self)


class AdapterTarget(Outside):
    """See `target.Target`."""

    def __init__(self, spec: AdapterSpec) -> None:
        self._path = spec.path
        self._module = _load(spec.path)
        if missing := [name for name in REQUIRED if not callable(getattr(self._module, name, None))]:
            raise AdapterError(f"adapter {spec.path}: expected functions {' and '.join(REQUIRED)}, got no {missing[0]}")
        can = {name for name, function in _CAN.items() if any(map(self._has, function))}
        super().__init__(spec.world, {name: why for name, why in LACKS.items() if name not in can})
        self.item = Item(spec.name, "adapter", facts={"adapter": str(spec.path)})

    def open(self) -> Stream:
        """A line through the adapter."""
        return _Line(self)

    def reset(self) -> None:
        """See the adapter."""
        self.call("reset")

    def read(self) -> Reading | None:
        """What runs, by its bytes, or else by its version."""
        if self._has("read_image"):
            data = self.call("read_image")
            if not isinstance(data, bytes | bytearray):
                raise AdapterError(f"adapter {self._path}: read_image: expected bytes, got {type(data).__name__}")
            found = image_in(bytes(data))
            return Reading((found,) if found else ())
        version = self.call("read_version")
        if not isinstance(version, str):
            raise AdapterError(f"adapter {self._path}: read_version: expected text, got {type(version).__name__}")
        return Reading((Ran(version=version.strip()),) if version.strip() else ())

    def power(self, on: bool) -> None:
        """See the adapter."""
        self.call("power", on)

    def close(self) -> None:
        """See the adapter."""
        if self._has("close"):
            self.call("close")

    def call(self, name: str, *arguments: object) -> object:
        """Call one of its functions; raises `AdapterError`, whatever it raises."""
        try:
            return getattr(self._module, name)(*arguments)
        except Exception as error:
            raise AdapterError(f"adapter {self._path}: {name}: {type(error).__name__}: {error}") from error

    def _has(self, name: str) -> bool:
        return callable(getattr(self._module, name, None))


_CAN: Final = {"reset": ("reset",), "read": ("read_image", "read_version"), "power": ("power",)}


class _Line:
    """The adapter as a stream."""

    def __init__(self, target: AdapterTarget) -> None:
        self._target = target

    def write(self, data: bytes, /) -> object:
        return self._target.call("send", bytes(data))

    def read(self, timeout: float, /) -> bytes:
        data = self._target.call("receive", timeout)
        if not isinstance(data, bytes | bytearray):
            raise AdapterError(f"adapter: receive: expected bytes, got {type(data).__name__}")
        return bytes(data)

    def reopen(self) -> None:
        """It is for the adapter to keep its line open."""

    def close(self) -> None:
        """The target closes it."""


def _load(path: Path) -> Any:
    """Run the adapter's file; raises `AdapterError`, also where it ends the process."""
    spec = importlib.util.spec_from_file_location("hillhold_device_adapter", path)
    if spec is None or spec.loader is None:
        raise AdapterError(f"adapter {path}: expected a Python file, NAME.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise AdapterError(f"adapter {path}: {type(error).__name__}: {error}") from error
    return module
