"""Events: the entries of the signing service's log.

An entry is compact JSON with its keys sorted, in one byte form: `v` 1, `time` (Unix seconds), `kind`, `actor` (who caused it: a
person's name, or the service itself) and the fields of its kind, all of them and no others. `FIELDS` is the table of kinds.

Texts are short and hold nothing that people cannot see or that moves a cursor. An event names files by their digest, never by content.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias

from hillhold_signer.errors import EntryRefused
from hillhold_verifier import canonical
from hillhold_verifier.errors import MetadataError

VERSION: Final = 1
MAX_TEXT: Final = 1024
"""Characters of a text: a reason, a path, a digest."""
MAX_EVENT: Final = 16_384
"""Bytes of an event."""

Value: TypeAlias = str | int

# C0, DEL and C1 controls, line and paragraph separators, marks that turn the direction of text, lone surrogates.
_UNSEEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_COMMON: Final = frozenset({"v", "time", "kind", "actor"})


class Kind(StrEnum):
    """What happened."""

    SUBMISSION = "submission"
    """A release was submitted for signing."""
    DRAFT = "draft"
    """Somebody drafted the next version of a role."""
    SIGNATURE = "signature"
    """Somebody signed a draft."""
    REFUSAL = "refusal"
    """Something was refused."""
    PUBLICATION = "publication"
    """A version of a role was published."""
    KEY_CHANGE = "key-change"
    """The keys of a role changed."""
    FAILED_LOGIN = "failed-login"
    """Somebody failed to log in."""
    CONFIGURATION = "configuration"
    """A setting of the service changed."""


FIELDS: Final[Mapping[Kind, Mapping[str, type[Value]]]] = MappingProxyType(
    {
        Kind.SUBMISSION: {"path": str, "length": int, "sha256": str},
        Kind.DRAFT: {"role": str, "version": int, "sha256": str},
        Kind.SIGNATURE: {"role": str, "version": int, "sha256": str, "keyid": str},
        Kind.REFUSAL: {"what": str, "reason": str},
        Kind.PUBLICATION: {"role": str, "version": int, "sha256": str},
        Kind.KEY_CHANGE: {"role": str, "version": int, "keyids": str},
        Kind.FAILED_LOGIN: {"reason": str},
        Kind.CONFIGURATION: {"what": str, "sha256": str},
    }
)
"""By kind, its fields with their types."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event, checked when it is made.

    Attributes:
        time: Unix seconds.
        kind: what happened.
        actor: who caused it.
        fields: those of its kind.

    Raises:
        EntryRefused: fields that its kind has not, values of another type, text that is too long or cannot be seen.
    """

    time: int
    kind: Kind
    actor: str
    fields: Mapping[str, Value]

    def __post_init__(self) -> None:
        types = FIELDS[self.kind]
        if set(self.fields) != set(types):
            raise EntryRefused(f"{self.kind} event", expected=", ".join(types), got=", ".join(self.fields) or "none")
        _check("time", self.time, int)
        _check("actor", self.actor, str)
        for name, value in self.fields.items():
            _check(f"{name} of a {self.kind} event", value, types[name])

    @classmethod
    def decode(cls, entry: bytes) -> Event:
        """Return the event that an entry holds.

        Raises:
            EntryRefused: it is none, or not in its one byte form.
        """
        if len(entry) > MAX_EVENT:
            raise EntryRefused("event", expected=f"at most {MAX_EVENT} bytes", got=len(entry))
        try:
            value = canonical.loads(entry)
        except MetadataError as error:
            raise EntryRefused("event", expected="JSON", got=f"{error}"[:120]) from None
        if not isinstance(value, dict) or not value.keys() >= _COMMON or value["v"] != VERSION:
            raise EntryRefused("event", expected=f"v {VERSION}, time, kind and actor", got=f"{entry[:80]!r}")
        if value["kind"] not in list(Kind):
            raise EntryRefused("kind of event", expected=f"one of {', '.join(Kind)}", got=f"{value['kind']!r}"[:80])
        fields = {name: item for name, item in value.items() if name not in _COMMON}
        event = cls(value["time"], Kind(value["kind"]), value["actor"], fields)
        if event.encode() != entry:
            raise EntryRefused("event", expected="its one byte form: compact, keys sorted", got=f"{entry[:80]!r}")
        return event

    def encode(self) -> bytes:
        """Return the entry; raises `EntryRefused` where it is too long."""
        common = {"v": VERSION, "time": self.time, "kind": str(self.kind), "actor": self.actor}
        data = canonical.dumps({**self.fields, **common})
        if len(data) > MAX_EVENT:
            raise EntryRefused("event", expected=f"at most {MAX_EVENT} bytes", got=len(data))
        return data


def _check(what: str, value: object, kind: type[Value]) -> None:
    if type(value) is not kind:  # a bool is no number here
        raise EntryRefused(what, expected="a number" if kind is int else "text", got=f"{value!r}"[:80])
    if isinstance(value, int):
        if not 0 <= value <= canonical.MAX_INTEGER:
            raise EntryRefused(what, expected=f"0 to {canonical.MAX_INTEGER}", got=value)
    elif isinstance(value, str):
        if not 0 < len(value) <= MAX_TEXT:
            raise EntryRefused(what, expected=f"1 to {MAX_TEXT} characters", got=len(value))
        if bad := _UNSEEN.search(value):
            raise EntryRefused(what, expected="no characters that cannot be seen", got=f"U+{ord(bad[0]):04X}")
