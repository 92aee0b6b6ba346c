"""Times as text. Within the verifier a time is Unix seconds, UTC."""

from __future__ import annotations

from datetime import UTC, datetime


def show_time(seconds: int) -> str:
    """Return `YYYY-MM-DDTHH:MM:SSZ`; a time beyond the year 9999 is shown as seconds."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s"


def show_span(seconds: int) -> str:
    """Return a span of time as people say it: "3 days", "5 hours", "40 seconds"."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}s"
    return f"{seconds} second{'' if seconds == 1 else 's'}"
