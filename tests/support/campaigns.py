"""Campaigns on small virtual boards, conducted in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from hillhold_bootsim.lab.campaign import Order, parse_order
from hillhold_bootsim.lab.conduct import Step, Task, conduct, inputs, summed_up
from hillhold_bootsim.lab.journal import Head, opened
from hillhold_bootsim.lab.model import Campaign
from hillhold_bootsim.lab.runner import Firmware
from hillhold_bootsim.lab.serialport import LACKS
from hillhold_bootsim.lab.target import Spec, Target
from hillhold_bootsim.lab.through import Through
from hillhold_bootsim.lab.virtual import VirtualSpec
from hillhold_bootsim.powercut.pools import Here, Pool
from hillhold_bootsim.powercut.runner import Runner

SMALL = """
format = 1
title = "A small campaign"
seed = 3

[[item]]
name = "one"
board = "virtual-m4-1m"

[attacks]
cases = ["rollback-timestamp", "wrong-hardware", "lower-version"]
exclude = [{ case = "wrong-hardware", reason = "done last week" }]

[[line]]
name = "noisy"
errors = 1e-4
updates = 2

[power_cuts]
spread = 3

[soak]
updates = 4
"""
BEGAN, ENDED = 1_780_000_000, 1_780_000_900


def order(text: str = SMALL, folder: Path | None = None) -> Order:
    return parse_order(text.encode(), "campaign.toml", folder or Path())


@contextmanager
def here(runner: Runner) -> Iterator[Pool]:
    yield Here(runner.explorer)


class OneBoard:
    """A virtual board that lives through all its cases, as a real one does."""

    alone = False
    kind = "serial"

    def __init__(self, spec: VirtualSpec, name: str = "one board") -> None:
        self.name, self._spec = name, spec
        self.target: Target = spec.make(3)

    def make(self, seed: int) -> Target:
        return self.target


class Lacking(Through):
    """A virtual board that lacks what many real ones lack."""

    def __init__(self, target: Target, *names: str) -> None:
        super().__init__(target)
        self.lacks = {name: LACKS[name] for name in names}


def go(
    ordered: Order,
    folder: Path,
    specs: Mapping[str, Spec] | None = None,
    tell: Callable[[Step], None] = lambda _step: None,
    workers: int = 1,
) -> Campaign:
    """Run, or go on; items are small virtual boards unless `specs` names others."""
    tasks = [Task(item, (specs or {}).get(item.name) or VirtualSpec(), Firmware()) for item in ordered.items]
    with opened(folder, Head(ordered.seed, inputs(ordered), {"tool": "1"}), BEGAN) as journal:
        ended = conduct(ordered, tasks, journal, workers, here, tell)
        return summed_up(ordered, tasks, journal, {"tool": "1"}, ended, ENDED)


def verdicts(campaign: Campaign) -> list[tuple[str, str, str, str]]:
    return [
        (tested.item.name, result.case, result.verdict.value, result.reason)
        for tested in campaign.tested
        for result in tested.results
    ]


def seeded(ordered: Order, seed: int) -> Order:
    return replace(ordered, seed=seed)
