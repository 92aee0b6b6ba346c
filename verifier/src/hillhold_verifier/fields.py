"""Fields taken out of a parsed JSON object by type; every other shape raises `MetadataError`."""

from __future__ import annotations

from typing import Final, cast

from hillhold_verifier.errors import MetadataError

MAX_NAME: Final = 256
"""Characters of a key id, role name or path."""


class Fields:
    """A JSON object; `what` names it in errors."""

    __slots__ = ("value", "what")

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, dict):
            raise MetadataError(what, expected="an object", got=type(value).__name__)
        self.value, self.what = cast("dict[str, object]", value), what

    def sub(self, name: str, limit: int | None = None) -> Fields:
        """Return the object `name`, of at most `limit` entries."""
        found = Fields(self._get(name), f"{self.what} {name[:40]}")
        if limit is not None and len(found.value) > limit:
            raise MetadataError(found.what, expected=f"at most {limit} entries", got=len(found.value))
        return found

    def array(self, name: str, limit: int) -> list[object]:
        """Return the array `name`, of at most `limit` items."""
        found = self._get(name)
        if not isinstance(found, list) or len(found) > limit:
            raise MetadataError(
                f"{self.what} {name}", expected=f"an array of at most {limit}", got=type(found).__name__
            )
        return found

    def text(self, name: str, limit: int = MAX_NAME) -> str:
        """Return the string `name`, of at most `limit` characters."""
        return self.as_text(self._get(name), f"{self.what} {name}", limit)

    def natural(self, name: str, default: int | None = None) -> int:
        """Return the integer `name`, at least 0; `default` where it is absent and has one."""
        found = self.value.get(name, default)
        if isinstance(found, bool) or not isinstance(found, int) or found < 0:
            raise MetadataError(f"{self.what} {name}", expected="an integer of at least 0", got=repr(found)[:40])
        return found

    @staticmethod
    def as_text(value: object, what: str, limit: int) -> str:
        """Return `value` if it is a string of at most `limit` characters."""
        if not isinstance(value, str) or len(value) > limit:
            raise MetadataError(what, expected=f"text of at most {limit} characters", got=type(value).__name__)
        return value

    def _get(self, name: str) -> object:
        if name not in self.value:
            raise MetadataError(f"{self.what} {name[:40]}", expected="a value", got="none")
        return self.value[name]
