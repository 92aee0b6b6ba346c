"""A campaign as JSON and back, without loss; format 1 (docs/FORMAT.md).

The fields are those of `model`, by their names. Bytes are the same for the same campaign: keys sorted, ASCII, one form of each number.
Reading is strict: a field that is missing, unknown, given twice or of another type is refused by its place, and so is a campaign that
contradicts itself, since a report that is made of it is handed in.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Final, get_args, get_origin, get_type_hints

from hillhold_bootsim.lab.errors import CampaignRefused
from hillhold_bootsim.lab.model import Campaign

FORMAT: Final = 1
MAX_BYTES: Final = 256 * 1024 * 1024
"""Of a file: thousands of cases with their traces."""
LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999, which is the last that dates can show."""
KINDS: Final = ("virtual", "serial", "adapter")
EVIDENCE: Final = ("trace", "words", "state", "flash", "note")

_ID: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def to_json(campaign: Campaign) -> bytes:
    """Return the campaign as JSON.

    Raises:
        CampaignRefused: figures that are no numbers, or what `from_json` would refuse.
    """
    _check(campaign)
    value = {"format": FORMAT, **to_values(campaign, "campaign")}
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def from_json(data: bytes, what: str = "campaign") -> Campaign:
    """Return the campaign that JSON states.

    Args:
        what: names it in errors, a file's path.

    Raises:
        CampaignRefused: not JSON, another format, or not a campaign.
    """
    if len(data) > MAX_BYTES:
        raise CampaignRefused(what, expected=f"at most {MAX_BYTES} bytes", got=len(data))
    try:
        value = json.loads(data, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise CampaignRefused(what, expected="JSON", got=f"{error}"[:120]) from error
    if not isinstance(value, dict):
        raise CampaignRefused(what, expected="an object", got=_kind(value))
    found = value.pop("format", None)
    if found != FORMAT or isinstance(found, bool):
        hint = (
            "a later hillhold-lab wrote it" if isinstance(found, int) and found > FORMAT else "is it a campaign's file?"
        )
        raise CampaignRefused(f"format of {what}", expected=FORMAT, got=repr(found)[:40], hint=hint)
    campaign: Campaign = from_values(Campaign, value, what)
    _check(campaign)
    return campaign


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for number, (name, _) in enumerate(pairs) if name in dict(pairs[:number]))
        raise ValueError(f"the name {twice[:40]!r} twice in one object")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text}, which is no number of JSON")


# --- by the types of the model ----------------------------------------------------------------------------------------


@lru_cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def to_values(value: Any, where: str) -> Any:
    """Return a part of the model as JSON has it; `where` names it in errors. Raises `CampaignRefused`: a figure that is no number."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_values(getattr(value, field.name), f"{where}.{field.name}") for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {name: to_values(item, f"{where}.{name}"[:120]) for name, item in value.items()}
    if isinstance(value, tuple):
        return [to_values(item, where) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise CampaignRefused(where, expected="a number", got=value)
        return int(value) if value.is_integer() else value  # a figure of 3 and one of 3.0 are the same
    return value


def from_values(kind: Any, value: Any, where: str) -> Any:
    """Return what JSON states, as a part of the model of this kind; raises `CampaignRefused`: it is none."""
    if is_dataclass(kind):
        return _record(kind, value, where)
    origin = get_origin(kind)
    if origin is tuple:
        item = get_args(kind)[0]
        return tuple(from_values(item, one, f"{where}[{number}]") for number, one in enumerate(_is(value, list, where)))
    if origin is Mapping:
        item = get_args(kind)[1]
        return {name: from_values(item, one, f"{where}.{name}"[:120]) for name, one in _is(value, dict, where).items()}
    if isinstance(kind, type) and issubclass(kind, Enum):
        if value not in [one.value for one in kind]:
            raise CampaignRefused(where, expected=_one_of([one.value for one in kind]), got=repr(value)[:40])
        return kind(value)
    if kind is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise CampaignRefused(where, expected="a number", got=_kind(value))
        try:
            found = float(value)
        except OverflowError:
            found = math.inf
        if not math.isfinite(found):  # JSON has 1e999, and Python reads it as infinite
            raise CampaignRefused(where, expected="a number of double precision", got="a larger one")
        return found
    return _is(value, kind, where)


def _record(kind: Any, value: Any, where: str) -> Any:
    given, hints = _is(value, dict, where), _hints(kind)
    for name in hints:
        if name not in given:
            raise CampaignRefused(where, expected=f"the field {name!r}", got="none")
    for name in given:
        if name not in hints:
            raise CampaignRefused(where, expected=_one_of(list(hints)), got=repr(name)[:40])
    return kind(**{name: from_values(hint, given[name], f"{where}.{name}") for name, hint in hints.items()})


def _is(value: Any, kind: type, where: str) -> Any:
    if type(value) is not kind:
        raise CampaignRefused(where, expected=_NAMES[kind], got=_kind(value))
    return value


_NAMES: Final = {dict: "an object", list: "a list", str: "text", int: "an integer", bool: "true or false"}


def _kind(value: Any) -> str:
    return "null" if value is None else _NAMES.get(type(value), "a number with a fraction")


def _one_of(names: Sequence[str]) -> str:
    return f"one of {', '.join(names)}"


# --- what contradicts itself ------------------------------------------------------------------------------------------


def _check(campaign: Campaign) -> None:
    if not 0 <= campaign.began <= campaign.ended <= LAST_SECOND:
        got = f"{campaign.began} to {campaign.ended}"
        raise CampaignRefused(
            "campaign", expected="began before it ended, in Unix seconds before the year 10000", got=got
        )
    ids = [case.id for case in campaign.cases]
    for case in campaign.cases:
        if not _ID.fullmatch(case.id):
            raise CampaignRefused("id of a case", expected="lowercase words with hyphens", got=repr(case.id)[:60])
        if not case.group:
            raise CampaignRefused(f"case {case.id}", expected="a group", got="none")
    _unique("case", ids)
    _unique("item", [tested.item.name for tested in campaign.tested])
    _unique("board of the validation", [check.board for check in campaign.checks])
    for tested in campaign.tested:
        name = f"item {tested.item.name!r}"[:80]
        # Page one depends on it: what is virtual proves nothing about a product.
        if tested.item.kind not in KINDS:
            raise CampaignRefused(f"kind of {name}", expected=_one_of(KINDS), got=repr(tested.item.kind)[:40])
        _unique(f"result of {name} for case", [result.case for result in tested.results])
        for result in tested.results:
            if result.case not in ids:
                raise CampaignRefused(
                    f"result of {name}", expected="a case of the campaign", got=repr(result.case)[:60]
                )
            for evidence in result.evidence:
                if evidence.kind not in EVIDENCE:
                    where = f"evidence of {result.case} on {name}"
                    raise CampaignRefused(where, expected=_one_of(EVIDENCE), got=repr(evidence.kind)[:40])


def _unique(what: str, names: Sequence[str]) -> None:
    seen = set()
    for name in names:
        if name in seen:
            raise CampaignRefused(f"{what} {name!r}"[:120], expected="it once", got="it twice")
        seen.add(name)
