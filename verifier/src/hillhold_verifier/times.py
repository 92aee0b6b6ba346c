"""Times as text. Within the verifier a time is Unix seconds, UTC."""

from __future__ import annotations

from datetime import UTC, datetime


def show_time(seconds: int) -> str:
    """Return `YYYY-MM-DDTHH:MM:SSZ`; a time beyond the year 9999 is shown as seconds."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s"
