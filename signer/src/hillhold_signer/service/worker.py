"""What a replica does by itself: publish, renew, export, write the log, and clean up; each in a thread of its own.

A replica that has just been handed something is woken; all look by themselves every second or so, for what others left. Nothing here has to
be done by one replica alone: where two are at it, the database lets one, and the other finds it done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from hillhold_verifier.errors import HillholdError

PAUSE: Final = 1.0
"""Seconds between two looks, where nobody wakes a task."""
MOST: Final = 30.0
"""Seconds that a task waits at most after failures in a row, twice as long each time."""


@dataclass(frozen=True, slots=True)
class Task:
    """Something to do again and again.

    Attributes:
        name: for logs and metrics.
        run: does what there is to do; says whether there may be more at once.
        pause: seconds until it is run again by itself.
        rest: seconds before it is run again even if it is woken, so that what comes in meanwhile is done together.
    """

    name: str
    run: Callable[[], bool]
    pause: float = PAUSE
    rest: float = 0.0


@dataclass(slots=True)
class Outcome:
    """How a task went: times by the worker's clock, None where it has not happened."""

    succeeded: float | None = None
    failed: float | None = None
    error: str = ""
    failures: int = 0


class Worker:
    """Runs tasks until it is stopped.

    Args:
        report: is told of each failure: the task's name, and the error.
        clock: returns seconds that only rise.
    """

    def __init__(
        self, tasks: tuple[Task, ...], report: Callable[[str, Exception], None], clock: Callable[[], float]
    ) -> None:
        self._tasks, self._report, self._clock = tasks, report, clock
        self._wakes = {task.name: threading.Event() for task in tasks}
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._outcomes = {task.name: Outcome() for task in tasks}

    @property
    def outcomes(self) -> Mapping[str, Outcome]:
        """How each task went, by name."""
        return self._outcomes

    @property
    def alive(self) -> bool:
        """Whether every task still runs."""
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)

    def start(self) -> None:
        """Begin."""
        for task in self._tasks:
            thread = threading.Thread(target=self._loop, args=(task,), name=f"hillhold-{task.name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def wake(self, *names: str) -> None:
        """Let tasks run now, all of them where none is named."""
        for name in names or self._wakes:
            self._wakes[name].set()

    def stop(self, timeout: float) -> bool:
        """End after what is under way; returns whether that was within `timeout` seconds. What was cut off is harmless."""
        self._ended.set()
        self.wake()
        end = self._clock() + timeout
        for thread in self._threads:
            thread.join(max(0.0, end - self._clock()))
        return not any(thread.is_alive() for thread in self._threads)

    def _loop(self, task: Task) -> None:
        wake, outcome, failures = self._wakes[task.name], self._outcomes[task.name], 0
        while not self._ended.is_set():
            wake.clear()
            again = False
            try:
                again = task.run()
                outcome.succeeded, failures = self._clock(), 0
            except Exception as error:  # whatever it is, the next try must come
                failures += 1
                outcome.failed, outcome.failures = self._clock(), outcome.failures + 1
                outcome.error = str(error)[:200] if isinstance(error, HillholdError) else type(error).__name__
                self._report(task.name, error)
            if failures:  # nobody's wake makes it hotter
                self._ended.wait(min(MOST, task.pause * 2 ** min(failures, 10)))
                continue
            self._ended.wait(task.rest)
            if not again:
                wake.wait(task.pause)
