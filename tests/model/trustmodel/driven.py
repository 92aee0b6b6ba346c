"""What the real code is driven through: scenarios under the rules of today, on a device as strict as the real one, and how deep."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from hillhold_bootsim.bootloader import MAX_TRIAL_STARTS
from trustmodel.config import DEVICE, SIGNER, Config
from trustmodel.scenarios import EITHER, OVER, PAIRS, THEFT, TWO_OF_THREE

WHOLE: Final = 10_000
"""Deeper than any graph of these."""


def as_real(config: Config) -> Config:
    """The model as strict as the real device (README, "Where the real code is stricter")."""
    return replace(config, trial_starts=MAX_TRIAL_STARTS, upload_lasts=False)


@dataclass(frozen=True)
class Driven:
    """A scenario and its depths: `quick` and, with cuts at every flash operation, `cut` for the tests, `deep` and `cut_deep` beyond."""

    name: str
    config: Config
    quick: int
    deep: int
    cut: int = 0
    cut_deep: int = 0


def _under(config: Config) -> Config:
    return replace(as_real(config).under(DEVICE, SIGNER), partial_uploads=config.installs)


_LIFE = Config((("r2", 1), ("withdraw", 1), ("rotate", 1)))
_DOWN = Config((("r2", 1), ("downgrade", 1), ("undo", 1)))
_RETIRE = Config((*OVER[:2], ("withdraw", 1), ("rotate", 1)), timestamp=EITHER, snapshot=EITHER)
_TIME = Config((("r2", 1), ("refresh", 1), ("tick", 3), ("withdraw", 1)), grace=1, lifetime=2)


def _theft(role: str, **other: object) -> Config:
    return replace(Config(THEFT, role, lifetime=2), **other)  # type: ignore[arg-type]


DRIVEN: Final = tuple(
    Driven(name, _under(config), *depths)
    for name, config, depths in (
        ("life", _LIFE, (7, WHOLE, 0, WHOLE)),
        ("bad-release", Config((("r2", 1), ("tick", 1)), second_works=False), (WHOLE, WHOLE, 8, WHOLE)),
        ("downgrade", _DOWN, (8, WHOLE, 0, WHOLE)),
        ("downgrade-low-counter", replace(_DOWN, step_down_counter=0), (8, WHOLE)),
        ("time-and-grace", _TIME, (4, 12)),
        ("theft-T", _theft("timestamp", installs=False), (4, 9)),
        ("theft-S", _theft("snapshot", installs=False), (4, 11)),
        ("theft-L", _theft("line", raw_images=True, counter_limit=1), (4, 9)),
        ("retire-key", _RETIRE, (4, 9)),
        ("quorum-T-below", _theft("timestamp", timestamp=TWO_OF_THREE, signers=PAIRS, installs=False), (4, 9)),
        ("quorum-L-below", _theft("line", line=TWO_OF_THREE, signers=PAIRS), (5, 9)),
        ("quorum-L-at", _theft("line", line=TWO_OF_THREE, signers=PAIRS, stolen_keys=3), (3, 9)),
        ("quorum-raise", Config((("r2", 1), ("raise", 1), ("tick", 1)), installs=False), (4, WHOLE)),
    )
)
