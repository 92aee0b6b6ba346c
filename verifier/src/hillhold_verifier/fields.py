"""Fields taken out of a parsed JSON object by type; every other shape raises `MetadataError`."""

from __future__ import annotations

from typing import Final, cast

from hillhold_verifier.errors import MetadataError

MAX_NAME: Final = 256
"""Characters of a key id, role name or path."""


class Fields:
    """A JSON object; `what` names it in errors, after `parent`'s name where it has one. (Names are put together only for an error.)"""

    __slots__ = ("_parent", "_what", "value")

    def __init__(self, value: object, what: str, parent: Fields | None = None) -> None:
        self._what, self._parent = what, parent
        if value.__class__ is not dict:  # as `json` makes them
            raise MetadataError(self.what, expected="an object", got=type(value).__name__)
        self.value = cast("dict[str, object]", value)

    @property
    def what(self) -> str:
        """The object's name in errors."""
        return f"{self._parent.what} {self._what[:40]}" if self._parent else self._what

    def sub(self, name: str, limit: int | None = None) -> Fields:
        """Return the object `name`, of at most `limit` entries."""
        found = Fields(self._get(name), name, self)
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
        found = self._get(name)
        if not isinstance(found, str) or len(found) > limit:
            return self.as_text(found, f"{self.what} {name}", limit)
        return found

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
        try:
            return self.value[name]
        except KeyError:
            raise MetadataError(f"{self.what} {name[:40]}", expected="a value", got="none") from None
