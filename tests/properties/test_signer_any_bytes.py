"""Any bytes either parse or raise the reader's own refusal."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from tuf.api.metadata import Root, Targets

from hillhold_signer import Repository, Wish, add_release, encoding, example_signer
from hillhold_signer.ceremony import parse_ceremony
from hillhold_signer.chain import verify_chain
from hillhold_signer.config import parse_config, parse_person
from hillhold_signer.drafts import parse_signed
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
    SignerRefused,
    VerifyRefused,
)
from hillhold_signer.images import read_firmware
from hillhold_signer.keys import parse_public
from hillhold_signer.merging import merge
from hillhold_signer.requests import make_request, open_request, sign_request
from hillhold_signer.signatures import parse_signature
from hillhold_verifier import canonical
from workshop import HARDWARE, NOW, image, release, started

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
    assert config is None or all(config.online.values())
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


@st.composite
def _spoiled(draw: st.DrawFn, good: bytes) -> bytes:
    """A file that people mail, with a piece of it cut out, repeated or replaced."""
    start = draw(st.integers(0, len(good)))
    end = draw(st.integers(start, min(len(good), start + 40)))
    return good[:start] + draw(st.binary(max_size=20) | st.just(good[start:end] * 2)) + good[end:]


@given(st.data())
def test_signatures_and_requests_that_were_mailed(mailed: tuple[bytes, bytes], data: st.DataObject) -> None:
    request, signature = mailed
    spoiled = data.draw(_spoiled(signature) | st.binary(max_size=200) | JSON_BYTES)
    try:
        assert parse_signature(spoiled).data() == spoiled
    except RequestRefused:
        event("signature refused")
    spoiled = data.draw(_spoiled(request) | st.binary(max_size=200) | JSON_BYTES)
    try:
        found = open_request(spoiled)
    except SignerRefused as refused:
        event(type(refused).__name__)
        return
    # What is asked for is what was asked for: anything else has another digest.
    assert found.draft.payload == open_request(request).draft.payload


@given(st.data())
def test_a_spoiled_draft_is_the_same_draft_or_refused(mailed: tuple[bytes, bytes], data: st.DataObject) -> None:
    value = json.loads(mailed[0])["signed"]
    place, keys = value, []
    while isinstance(place, dict) and place and data.draw(st.booleans()):
        keys.append(data.draw(st.sampled_from(sorted(place))))
        place = place[keys[-1]]
    if keys:
        inner = value
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = data.draw(JSON)
    try:
        parse_signed(value, "pump")
    except (RepositoryRefused, ContentRefused):
        return
    merged = merge(value, value, value)
    assert merged == value


@pytest.fixture(scope="module")
def mailed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """A request, and the signature that answers it."""
    repository = started(tmp_path_factory.mktemp("mail") / "repo")
    add_release(repository, "pump", image("1.0.0"), Wish("app.bin", hardware=HARDWARE), NOW)
    request = make_request(repository, "pump")
    return request, sign_request(open_request(request), example_signer("release-1")).data()


@pytest.mark.slow
@given(st.data())
def test_any_drafts_in_the_folder_are_read_merged_or_refused(shared: Path, data: st.DataObject) -> None:
    """What a stranger with write access to the folder may leave there, under names that fit."""
    repository = Repository(shared)
    folder = shared / "drafts" / "pump"
    good = json.loads(repository.state().drafts["pump"].payload)
    there = sorted(path.stem for path in folder.glob("*.json"))
    made: list[Path] = []
    try:
        for _ in range(data.draw(st.integers(1, 3))):
            signed = json.loads(json.dumps(good))
            for _ in range(data.draw(st.integers(0, 2))):
                place = signed
                for _ in range(data.draw(st.integers(0, 2))):
                    below = [item for item in place.values() if isinstance(item, dict)]
                    place = data.draw(st.sampled_from(below)) if below else place
                name = data.draw(st.sampled_from([*sorted(place), "roles", "delegations", "x-more"]))
                place[name] = data.draw(JSON | st.just({"roles": [], "keys": {}}) | st.integers(0, 4))
            names = [*there, *(path.stem for path in made), "0" * 64]
            after = data.draw(st.lists(st.sampled_from(names), max_size=2, unique=True))
            raw = canonical.dumps({"after": sorted(after), "role": "pump", "signed": signed})
            path = folder / f"{sha256(raw).hexdigest()}.json"
            if path.stem not in there:
                path.write_bytes(raw)
                made.append(path)
        try:
            state = repository.state()
            drafts, clashes = dict(state.drafts), dict(state.clashes)
        except SignerRefused as refused:
            event(type(refused).__name__)
            return
        event("clash" if clashes else "merged" if drafts["pump"].merged else "drafted")
        for draft in drafts.values():
            assert encoding.signed_bytes(draft.signed) == draft.payload
    finally:
        for path in made:
            path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a published release and a draft of a second one."""
    repository = started(tmp_path_factory.mktemp("shared") / "repo")
    release(repository, image("1.0.0"))
    add_release(repository, "pump", image("1.1.0", edits=5), Wish("app.bin", hardware=HARDWARE), NOW)
    return repository.folder.path
