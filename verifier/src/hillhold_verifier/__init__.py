"""Verify TUF-signed firmware updates and install them, only forward.

The usual doors: `UpdateSession` takes metadata and says what it needs next; `Installer` adds slots, trial and confirmation to it; `Agent`
puts that behind SMP. All are sans-I/O: bytes and the time go in.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hillhold_verifier.agent import Agent
    from hillhold_verifier.content import ContentCheck
    from hillhold_verifier.errors import HillholdError, MisuseError, OperationalError, Refused
    from hillhold_verifier.installer import Installer, provision
    from hillhold_verifier.release import Patch, Release, Version
    from hillhold_verifier.select import Device, Installed, Selection
    from hillhold_verifier.session import Need, UpdateSession
    from hillhold_verifier.sources import open_source
    from hillhold_verifier.state import DeviceState, StateStore
    from hillhold_verifier.trust import Trust

__all__ = [
    "Agent",
    "ContentCheck",
    "Device",
    "DeviceState",
    "HillholdError",
    "Installed",
    "Installer",
    "MisuseError",
    "Need",
    "OperationalError",
    "Patch",
    "Refused",
    "Release",
    "Selection",
    "StateStore",
    "Trust",
    "UpdateSession",
    "Version",
    "open_source",
    "provision",
]

_HOMES = {
    "agent": ("Agent",),
    "content": ("ContentCheck",),
    "errors": ("HillholdError", "MisuseError", "OperationalError", "Refused"),
    "installer": ("Installer", "provision"),
    "release": ("Patch", "Release", "Version"),
    "select": ("Device", "Installed", "Selection"),
    "session": ("Need", "UpdateSession"),
    "sources": ("open_source",),
    "state": ("DeviceState", "StateStore"),
    "trust": ("Trust",),
}


def __getattr__(name: str) -> object:
    """Import a door when it is first used (PEP 562): whoever verifies needs neither serial line nor slots, which cost start-up time."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"hillhold_verifier.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
