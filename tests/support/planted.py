"""Boards with a fault that was put in, for tests of what has to notice it; importable in worker processes."""

from __future__ import annotations

from typing import Any

from hillhold_bootsim.powercut.machine import Design
from hillhold_bootsim.swap import Swapper


class ForgetfulSwapper(Swapper):
    """A swap that does not resume: after a cut it begins again at the first step, whatever was moved by then."""

    def _done(self, *_: Any) -> int:
        return 0


FORGETFUL = Design(swapper=ForgetfulSwapper)
