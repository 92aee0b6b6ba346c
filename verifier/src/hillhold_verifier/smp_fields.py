"""Fields of an SMP message's body, taken out by type."""

from __future__ import annotations

from collections.abc import Mapping

from hillhold_verifier.errors import SmpError


def int_field(body: Mapping[str, object], name: str, default: int | None = None) -> int:
    """Return a non-negative integer; raises `SmpError` for anything else, or where it is absent and has no default."""
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise SmpError(f"SMP field {name}", expected="an integer of at least 0", got=type(value).__name__)
    return value


def bytes_field(body: Mapping[str, object], name: str, default: bytes | None = None) -> bytes:
    """Return a byte string; raises `SmpError` for anything else, or where it is absent and has no default."""
    value = body.get(name, default)
    if not isinstance(value, bytes):
        raise SmpError(f"SMP field {name}", expected="bytes", got=type(value).__name__)
    return value


def text_field(body: Mapping[str, object], name: str, default: str | None = None) -> str:
    """Return a string; raises `SmpError` for anything else, or where it is absent and has no default."""
    value = body.get(name, default)
    if not isinstance(value, str):
        raise SmpError(f"SMP field {name}", expected="text", got=type(value).__name__)
    return value


def bool_field(body: Mapping[str, object], name: str, default: bool) -> bool:
    """Return true or false; raises `SmpError` for anything else."""
    value = body.get(name, default)
    if not isinstance(value, bool):
        raise SmpError(f"SMP field {name}", expected="true or false", got=type(value).__name__)
    return value
