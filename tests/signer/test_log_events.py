"""Events: one byte form, the fields of their kind, and nothing that cannot be seen."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hillhold_signer.errors import EntryRefused
from hillhold_signer.log import Event, Kind
from hillhold_signer.log.events import FIELDS, MAX_EVENT, MAX_TEXT
from workshop import NOW

LOGIN = Event(NOW, Kind.FAILED_LOGIN, "Ada", {"reason": "unknown token"})


def test_an_event_is_compact_json_with_sorted_keys() -> None:
    expected = b'{"actor":"Ada","kind":"failed-login","reason":"unknown token","time":1767225600,"v":1}'
    assert LOGIN.encode() == expected
    assert Event.decode(expected) == LOGIN


def sample(kind: Kind) -> dict[str, str | int]:
    return {name: "text" if found is str else 7 for name, found in FIELDS[kind].items()}


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_its_fields_and_no_others(kind: Kind) -> None:
    fields = sample(kind)
    event = Event(NOW, kind, "Grace", fields)
    assert Event.decode(event.encode()) == event
    for name in fields:
        with pytest.raises(EntryRefused, match=f"{kind} event"):
            Event(NOW, kind, "Grace", {key: value for key, value in fields.items() if key != name})
        wrongs: dict[type, list[object]] = {int: [None, 1.5, True, [], -1, 2**53], str: [None, 1, [], {}]}
        for wrong in wrongs[FIELDS[kind][name]]:
            with pytest.raises(EntryRefused, match=f"{name} of a {kind} event"):
                Event(NOW, kind, "Grace", {**fields, name: wrong})  # type: ignore[dict-item]
    with pytest.raises(EntryRefused):
        Event(NOW, kind, "Grace", {**fields, "more": 1})


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "x" * (MAX_TEXT + 1),
            "a\nb",
            "a\tb",
            "\x00",
            "\x1b[2J",
            "\x7f",
            "\x85",
            "\x9b",
            "a\u2028b",
            "\u202eevil",
        ),
        *("\u200e", "\u2066x", "\ufeff", "\ud800"),
    ],
)
def test_what_cannot_be_seen_is_refused(text: str) -> None:
    for change in ({"actor": text}, {"fields": {"reason": text}}):
        with pytest.raises(EntryRefused):
            replace(LOGIN, **change)
    with pytest.raises(EntryRefused):
        Event.decode(json.dumps({**json.loads(LOGIN.encode()), "actor": text}).encode())


def test_what_people_are_called_is_not_refused() -> None:
    for name in ("Ada", "Márta Őrsi", "陳大文", "محمد", "x" * MAX_TEXT):
        event = replace(LOGIN, actor=name)
        assert Event.decode(event.encode()) == event


@pytest.mark.parametrize(
    "entry",
    [
        *(b"", b"{}", b"[]", b"null", b"\xff", b"x" * (MAX_EVENT + 1), LOGIN.encode() + b" ", b" " + LOGIN.encode()),
        LOGIN.encode().replace(b'"v":1', b'"v":2'),
        LOGIN.encode().replace(b'"v":1', b'"v":true'),
        LOGIN.encode().replace(b"1767225600", b"1.5"),
        LOGIN.encode().replace(b"1767225600", b'"now"'),
        LOGIN.encode().replace(b"failed-login", b"party"),
        LOGIN.encode().replace(b'"failed-login"', b"[]"),
        LOGIN.encode().replace(b'"Ada"', b"1"),
        LOGIN.encode().replace(b'"Ada"', b'"\\u0041da"'),
        LOGIN.encode().replace(b'{"actor":"Ada",', b'{"actor":"Ada","actor":"Ada",'),
        b'{"kind":"failed-login","actor":"Ada","reason":"unknown token","time":1767225600,"v":1}',
        LOGIN.encode().replace(b",", b", "),
    ],
)
def test_entries_that_are_no_events(entry: bytes) -> None:
    with pytest.raises(EntryRefused):
        Event.decode(entry)


def test_the_table_of_kinds_is_the_one_of_the_format_page() -> None:
    page = (Path(__file__).parents[2] / "docs/FORMAT.md").read_text(encoding="utf-8").partition("**Events.**")[2]
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", page, re.MULTILINE)
    told = {kind: set(re.findall("`([a-z0-9_]+)`", fields)) for kind, fields in rows if kind != "kind"}
    assert told == {str(kind): set(fields) for kind, fields in FIELDS.items()}
    example = re.search(r"^`(\{.*\})` is one", page, re.MULTILINE)
    assert example
    login = Event(1_767_225_600, Kind.FAILED_LOGIN, "192.0.2.7", {"reason": "an unknown token"})
    assert Event.decode(example[1].encode()) == login


def test_an_event_has_a_limit() -> None:
    fields = dict.fromkeys(FIELDS[Kind.SIGNATURE], "💾" * MAX_TEXT) | {"version": 1}
    with pytest.raises(EntryRefused, match=f"at most {MAX_EVENT} bytes"):
        Event(NOW, Kind.SIGNATURE, "\U0001f4be" * MAX_TEXT, fields).encode()


@given(st.text(min_size=1, max_size=20), st.integers())
def test_what_is_taken_comes_back(text: str, time: int) -> None:
    try:
        event = Event(time, Kind.FAILED_LOGIN, text, {"reason": text})
    except EntryRefused:
        return
    assert Event.decode(event.encode()) == event
