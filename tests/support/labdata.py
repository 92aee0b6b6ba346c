"""A rich example campaign for the tests of the report: two items, every verdict, every kind of evidence, and a validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any

from hillhold_bootsim.lab.model import (
    Campaign,
    Case,
    Check,
    Evidence,
    Item,
    Paper,
    Result,
    Tested,
    Verdict,
)

BEGAN = 1_780_000_000

CASES = (
    Case(
        "rollback-of-timestamp",
        "metadata",
        "An older timestamp, rightly signed, is handed to the board again.",
        "The board accepts version 7; then the line carries version 6 with its old signature.",
        "It refuses, and keeps version 7 as its floor.",
        ("tuf:5.4.3.1", "tuf:1.5.2-rollback", "iec62443-4-1:SVV-2", "nist-sp-800-193:4.2.1.3", "en303645:5.3-10"),
        "the floor of timestamp rises to 7",
    ),
    Case(
        "one-key-twice",
        "keys",
        "One key signs twice under two key ids, where two keys are needed.",
        "Targets carries two valid signatures by one key.",
        "It counts the key once, and refuses.",
        ("tuf:5.6.3", "cve-2020-6174", "iec62443-4-1:SVV-3", "fda-premarket:appendix-1.D-updates"),
    ),
    Case(
        "image-cut-short",
        "image",
        "An image that ends early, while its metadata are right.",
        "The upload is ended a kilobyte before the stated length, and confirmed.",
        "The slot is not marked for a trial.",
        ("tuf:5.7.3", "cve-2026-34155", "iec62443-4-2:EDR-3.10-RE-1"),
    ),
    Case(
        "clock-far-ahead",
        "time",
        "The board's clock is set ten years ahead, and back.",
        "Its clock is set over SMP, an update is refused, the clock is set back.",
        "The same update is taken afterwards.",
        ("tuf:5.1", "iec-tr-60601-4-5:essential"),
        needs=("metadata", "clock"),
    ),
    Case(
        "power-cut-in-a-swap",
        "power",
        "The power fails a hundred times, spread over an update.",
        "A relay cuts the power at times spread over the transfer and the swap.",
        "One whole authentic image boots, and the update can be finished.",
        ("iec62443-4-2:CR-7.4", "fda-premarket:appendix-1.H-interruption", "eu-cra:I-2h"),
        "nothing but wear",
        ("metadata", "power"),
    ),
    Case(
        "thousand-updates",
        "soak",
        "A thousand updates back and forth.",
        "Two releases take turns.",
        "Every one is installed.",
        ("iec62443-4-1:SVV-1",),
    ),
)
TRACE = """\
   0.000  > group 80 command 1  offer timestamp 6 (145 bytes)
   0.061  < refused: expected a version above 7, got 6
   0.062  > group 0 command 5   reset
"""
STATE = "timestamp 7  snapshot 12  targets 4\nslot 0: 1.2.0 confirmed  e3b0c44298fc1c14\ncounter 5\n"


def result(case: str, verdict: Verdict, reason: str, *, independent: bool = True, seconds: float = 1.25) -> Result:
    """A result with evidence of every kind."""
    evidence = (
        Evidence("state", "before", STATE),
        Evidence("trace", "the attack", TRACE),
        Evidence("words", "its answer", "rc 7: expected a version above 7, got 6"),
        Evidence(
            "flash", "slot 0 after the reset", "sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        ),
        Evidence("state", "after", STATE),
        Evidence("note", "how it was read", "through the debug port, with the board's agent halted"),
    )
    done = verdict in (Verdict.PASS, Verdict.FAIL)
    figures = {"requests": 41.0, "seconds on the line": seconds} if done else {}
    return Result(case, verdict, reason, independent and done, evidence if done else (), figures)


def paper() -> Paper:
    """What the example laboratory writes on its report."""
    return Paper(
        "Example Laboratory",
        "1 Example Street, Exampletown",
        "Example Pumps",
        "EX-2026-0042",
        "2026-05-20",
        "2026-05-29",
        ("Power cuts were spread over the transfer alone: the relay needs 80 ms.",),
        ("Ada (head of the laboratory)", "Grace (test engineer)"),
    )


def campaign(kind: str = "virtual") -> Campaign:
    """Two items: one on which all went well where it was tested, and one with a failure."""
    good = Item(
        "pump board A",
        kind,
        "nrf52840",
        "lab-1",
        "SN 0001",
        {"bootloader": "swap using offset", "flash": "256 sectors of 4096 bytes", "transport": "console, 115200 baud"},
    )
    bad = Item("pump board B", "serial", "nrf52840", "lab-2", "SN 0002", {"port": "a USB adapter"})
    passed = (
        "it refused: expected a version above 7, got 6; the same image runs, and an honest update was taken afterwards"
    )
    first = (
        result("rollback-of-timestamp", Verdict.PASS, passed, seconds=0.9),
        result("one-key-twice", Verdict.PASS, "it counted the key once", seconds=2.4),
        result("image-cut-short", Verdict.PASS, "the slot was not marked", independent=False, seconds=11.5),
        result("clock-far-ahead", Verdict.NOT_TESTED, "the board has no clock that can be set"),
        result(
            "power-cut-in-a-swap",
            Verdict.PASS,
            "one whole authentic image booted after each of 100 cuts",
            seconds=340.25,
        ),
    )
    second = (
        result("rollback-of-timestamp", Verdict.PASS, passed, independent=False),
        result(
            "one-key-twice",
            Verdict.FAIL,
            "it took two signatures by one key, and installed what nobody else had signed",
        ),
        result("image-cut-short", Verdict.INCONCLUSIVE, "the board did not answer after the reset"),
        result("clock-far-ahead", Verdict.NOT_TESTED, "the board has no clock that can be set"),
        result("power-cut-in-a-swap", Verdict.NOT_TESTED, "nothing here can cut its power"),
    )
    checks = (
        Check("right", "", (), ()),
        Check("one-key-counts-twice", "it counts signatures, not keys", ("one-key-twice",), ("one-key-twice",)),
        Check(
            "half-a-hash",
            "it hashes the first half of an image",
            ("image-cut-short",),
            ("image-cut-short", "one-key-twice"),
        ),
    )
    return Campaign(
        "Update mechanism of the example pump",
        paper(),
        BEGAN,
        BEGAN + 5_400,
        42,
        CASES,
        (Tested(good, first), Tested(bad, second)),
        checks,
        {"hillhold-bootsim": "0.1.0", "hillhold-signer": "0.1.0", "Python": "3.12.3", "system": "Linux 6.8"},
        {"CAMPAIGN.toml": "ab" * 32, "catalogue": "cd" * 32, "image 1.2.0": "ef" * 32},
        finished=False,
    )


def with_texts(value: Any, text: Callable[[str], str]) -> Any:
    """The same data with every free text made another: not ids, groups of fixed words, or verdicts."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, tuple):
        return tuple(with_texts(one, text) for one in value)
    if isinstance(value, Mapping):
        return {text(name): with_texts(one, text) for name, one in value.items()}
    if isinstance(value, Enum) or not is_dataclass(value) or isinstance(value, type):
        return value
    fixed = FIXED.get(type(value).__name__, ())
    names = [field.name for field in fields(value)]
    kept = {name: getattr(value, name) for name in names}
    return replace(value, **{name: one if name in fixed else with_texts(one, text) for name, one in kept.items()})


FIXED = {
    "Case": ("id",),
    "Result": ("case",),
    "Item": ("kind",),
    "Evidence": ("kind",),
    "Check": ("board", "expected", "found"),
}
