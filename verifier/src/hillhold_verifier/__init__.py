"""Verify TUF-signed firmware updates and install them, only forward.

The usual doors: `UpdateSession` takes metadata and says what it needs next; `Installer` adds slots, trial and confirmation to it; `Agent`
puts that behind SMP. All are sans-I/O: bytes and the time go in.
"""

from __future__ import annotations

from hillhold_verifier.agent import Agent
from hillhold_verifier.errors import HillholdError, MisuseError, OperationalError, Refused
from hillhold_verifier.installer import Installer, provision
from hillhold_verifier.release import Patch, Release, Version
from hillhold_verifier.select import Device, Installed, Outcome, Selection, Verdict
from hillhold_verifier.session import Need, UpdateSession
from hillhold_verifier.state import DeviceState, StateStore
from hillhold_verifier.trust import Trust

__all__ = [
    "Agent",
    "Device",
    "DeviceState",
    "HillholdError",
    "Installed",
    "Installer",
    "MisuseError",
    "Need",
    "OperationalError",
    "Outcome",
    "Patch",
    "Refused",
    "Release",
    "Selection",
    "StateStore",
    "Trust",
    "UpdateSession",
    "Verdict",
    "Version",
    "provision",
]
