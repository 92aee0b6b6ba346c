"""What the application on the virtual board does. No firmware is executed: all of this is scripted.

An image on trial tests itself. The script says how that ends, by the image's hash, else by its version, else by the default:

- `PASS`: after `seconds` the test has passed. With `confirms` the image then confirms itself; otherwise it waits for the wire's `confirm`.
- `FAIL`: after `seconds` it resets the board, with "self-test" as the reset controller's reason.
- `HANG`: it does nothing at all, and after `watchdog_seconds` the watchdog resets the board.

A confirmed image has nothing to test and just runs. Sans-I/O: the time is an argument, seconds of any clock that only goes forward; an
application starts counting at the first tick that it sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from hillhold_bootsim.bootloader import Booted


class Verdict(Enum):
    """How a self-test ends."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    HANG = "hang"


class AppEvent(Enum):
    """What an application tells its board."""

    PASSED = "passed"
    FAILED = "failed"
    WATCHDOG = "watchdog"


@dataclass(frozen=True, slots=True)
class SelfTest:
    """The script of every application that ever runs on a board.

    Attributes:
        default: for images that are not named.
        by_version: by the image's version as text, "1.2.3" or "1.2.3+4".
        by_sha256: by SHA-256 of the whole image.
        seconds: what a test takes.
        watchdog_seconds: after which the watchdog bites.
        confirms: an image confirms itself once its test has passed.
    """

    default: Verdict = Verdict.PASS
    by_version: Mapping[str, Verdict] = field(default_factory=dict)
    by_sha256: Mapping[bytes, Verdict] = field(default_factory=dict)
    seconds: float = 0.0
    watchdog_seconds: float = 8.0
    confirms: bool = True

    def verdict(self, booted: Booted) -> Verdict:
        """Return how the test of this image ends."""
        named = self.by_version.get(str(booted.image.version), self.default)
        return self.by_sha256.get(booted.sha256, named)


class Application:
    """The application of one boot."""

    def __init__(self, script: SelfTest, booted: Booted, *, trial: bool) -> None:
        self._script = script
        self._verdict = script.verdict(booted)
        self._testing = trial
        self._since: float | None = None

    @property
    def hangs(self) -> bool:
        """It does not serve its line, or anything."""
        return self._testing and self._verdict is Verdict.HANG

    def tick(self, now: float) -> AppEvent | None:
        """Let time pass; return what happens now, once.

        Args:
            now: seconds of a clock that only goes forward.
        """
        if not self._testing:
            return None
        if self._since is None:
            self._since = now
        limit = self._script.watchdog_seconds if self.hangs else self._script.seconds
        if now - self._since < limit:
            return None
        event = {
            Verdict.PASS: AppEvent.PASSED,
            Verdict.FAIL: AppEvent.FAILED,
            Verdict.HANG: AppEvent.WATCHDOG,
        }[self._verdict]
        self._testing = False
        return event
