"""Any bytes either parse or raise the reader's own refusal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from tuf.api.metadata import Root, Targets

from hillhold_signer import example_signer
from hillhold_signer.ceremony import parse_ceremony
from hillhold_signer.chain import verify_chain
from hillhold_signer.config import parse_config, parse_person
from hillhold_signer.durations import MAX_SECONDS, parse_duration
from hillhold_signer.encoding import load
from hillhold_signer.errors import (
    CeremonyRefused,
    ConfigRefused,
    ContentRefused,
    ImageRefused,
    KeyRefused,
    RepositoryRefused,
    RequestRefused,
    VerifyRefused,
)
from hillhold_signer.images import read_firmware
from hillhold_signer.keys import parse_public
from hillhold_signer.signatures import parse_signature
from workshop import NOW

LINES = st.lists(
    st.sampled_from(
        [
            "format = 1", "demo = true", "[expires]", "[online]", "[root]", "[targets]", "[snapshot]", "[timestamp]", "[lines]",
            'root = "1d"', 'targets = "1d"', 'lines = "1d"', 'snapshot = "1d"', 'timestamp = "1d"', "threshold = 1",
            'expires = "1d"', 'keys = [{name = "a", file = "root-1"}]', 'keys = 1', 'key = {file = "snapshot", uri = "file:a"}',
            'key = {file = "x\\u0000"}', "root = 1", "[[keys]]", "a.b.c = []",
        ]
    ),
    max_size=20,
).map(lambda lines: "\n".join(lines).encode())  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(
            st.sampled_from(["signed", "signatures", "_type", "keyid", "sig", "sha256", "version", "x"]),
            below,
            max_size=4,
        )
    ),
    max_leaves=12,
)

JSON_BYTES = JSON.map(lambda value: json.dumps(value).encode())


@given(st.binary(max_size=200) | LINES)
def test_settings_and_people(data: bytes) -> None:
    try:
        config = parse_config(data)
    except ConfigRefused:
        config = None
    assert config is None or config.snapshot_uri
    try:
        name = parse_person(data, "name")
    except ConfigRefused:
        return
    assert name.strip("\r\n").isprintable() or not name.isascii()


@given(st.text(max_size=200) | LINES.map(bytes.decode))
def test_ceremonies(text: str) -> None:
    try:
        found = parse_ceremony(text, Path("folder"), lambda path: example_signer(path.name).public_key)
    except (CeremonyRefused, ContentRefused, KeyRefused):
        return
    assert found.root.threshold == 1


@given(st.text(max_size=12) | st.from_regex(r"[0-9]{1,12}[smhdwy]", fullmatch=True))
def test_durations(text: str) -> None:
    try:
        assert 0 <= parse_duration(text) <= MAX_SECONDS
    except ConfigRefused:
        assert not (
            text[:-1].isascii() and text[:-1].isdigit() and text[0] != "0" and len(text) < 5 and text[-1] in "smhd"
        )


@given(st.binary(max_size=300) | JSON_BYTES)
def test_drafts_and_signatures(data: bytes) -> None:
    with pytest.raises(RepositoryRefused):
        load(data, Root, "draft")
    with pytest.raises(RepositoryRefused):
        load(data, Targets, "draft")
    with pytest.raises(RequestRefused):
        parse_signature(data)


@given(st.binary(max_size=300) | JSON_BYTES)
def test_a_published_tree(data: bytes) -> None:
    with pytest.raises(VerifyRefused):
        verify_chain(lambda name: data, NOW)


@given(st.binary(max_size=200), st.booleans())
def test_keys_and_hex_files(data: bytes, armour: bool) -> None:
    pem = b"-----BEGIN PUBLIC KEY-----\n" + data + b"\n-----END PUBLIC KEY-----\n" if armour else data
    for read in (lambda: parse_public(pem, Path("key.pub")), lambda: read_firmware(b":" + data, "a.hex")):
        try:
            read()
        except (KeyRefused, ImageRefused) as refused:
            message = str(refused)
            event(message.partition(":")[0])
