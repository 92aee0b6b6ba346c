"""What a board's answers say, whatever their shape: a board is no more trusted than a courier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from hillhold_verifier.errors import Refused
from hillhold_verifier.smp_fields import int_field

Body: TypeAlias = Mapping[str, object]

MAX_WORDS: Final = 256
"""Characters of each text of a reason: a path has no more, and a board of ours sends no longer reason."""
HELD_FILES: Final = 4
"""Files whose versions a board states: timestamp, snapshot, targets, line."""


class BoardRefused(Refused):
    """The board refused a request; `code` is the refusal's (docs/FORMAT.md, "Refusals"), the message its own words."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.board_code = code


def held_names(value: object) -> list[tuple[int, bytes]]:
    """Version and name of each held file; none where the board's list is not one."""
    rows = value if isinstance(value, list) else []
    found = [
        (row[0], row[1])
        for row in rows
        if isinstance(row, list) and len(row) == 2 and isinstance(row[0], int) and isinstance(row[1], bytes)
    ]
    return found if len(found) == len(rows) == HELD_FILES else [(0, b"")] * HELD_FILES


def checked(answer: Body) -> Body:
    error = answer.get("err")
    code = error.get("rc") if isinstance(error, dict) else answer.get("rc", 0)
    if code:
        words = answer.get("rsn")
        raise BoardRefused(code if isinstance(code, int) else 0, str(words or f"error {code}"))
    return answer


def plan_of(choice: Body) -> tuple[Body, ...]:
    """Return what a board has chosen to install: n (component), path, sha, len and base of each image."""
    plan = choice.get("plan")
    return tuple(entry for entry in plan if isinstance(entry, dict)) if isinstance(plan, list) else ()


def components_of(status: Body) -> list[Body]:
    """Return what a board says of each of its components, in order."""
    more = status.get("more")
    return [status, *(item for item in more if isinstance(item, dict))] if isinstance(more, list) else [status]


def runs(plan: tuple[Body, ...], status: Body) -> bool:
    running = [component.get("running") for component in components_of(status)]
    hashes = [item[1] if isinstance(item, list) and len(item) == 2 else None for item in running]
    numbers = [int_field(entry, "n") for entry in plan]
    return all(
        number < len(hashes) and hashes[number] == entry.get("sha") for number, entry in zip(numbers, plan, strict=True)
    )


def reasons_of(choice: Body) -> tuple[tuple[str, str, str], ...]:
    """Return (path, outcome, reason) for each candidate that a board's choice names, each cut at `MAX_WORDS`."""
    reasons = choice.get("reasons")
    rows = [row for row in reasons if isinstance(row, list) and len(row) == 3] if isinstance(reasons, list) else []
    return tuple(
        (str(path)[:MAX_WORDS], str(outcome)[:MAX_WORDS], str(reason)[:MAX_WORDS]) for path, outcome, reason in rows
    )
