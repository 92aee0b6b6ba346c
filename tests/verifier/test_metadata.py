"""Reading metadata: each field's form, each limit, and what is ignored."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from forge import T0, Edit, Object, Repo, canon, compact, date, ecdsa_key, key
from hillhold_verifier.errors import MetadataError
from hillhold_verifier.metadata import (
    MAX_BYTES_OTHER,
    MAX_KEYS,
    MAX_LENGTH,
    parse_root,
    parse_snapshot,
    parse_targets,
    parse_time,
    parse_timestamp,
)

PARSERS: dict[str, Callable[[bytes], object]] = {
    "root": parse_root,
    "timestamp": parse_timestamp,
    "snapshot": parse_snapshot,
    "targets": parse_targets,
    "line": lambda data: parse_targets(data, "pump"),
}


@pytest.fixture(scope="module")
def repo() -> Repo:
    repo = Repo()
    repo.offline_grace = 7
    repo.add_release("1.1.0", b"image")
    repo.publish()
    return repo


def changed(repo: Repo, role: str, path: str, value: object) -> bytes:
    """The file of `role` with the field at `path` set to `value`, or removed (...); it need not be signed to be read."""
    whole = json.loads(repo.files[role])
    at = whole
    *way, last = path.split("/")
    for step in way:
        at = next(iter(at.values())) if step == "*" else at[int(step)] if isinstance(at, list) else at[step]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return compact(whole)


def test_a_file_says_what_was_put_in(repo: Repo) -> None:
    root = parse_root(repo.files["root"]).signed
    assert (root.version, root.expires, root.roles["root"].threshold) == (1, repo.expires["root"], 2)
    assert root.keys[key("root-1").keyid].public == key("root-1").entry["keyval"]["public"]
    timestamp = parse_timestamp(repo.files["timestamp"])
    assert timestamp.signed.issued == T0
    assert timestamp.signed.snapshot.hashes == {"sha256": parse_snapshot(repo.files["snapshot"]).hash("sha256")}
    assert timestamp.payload == canon(json.loads(repo.files["timestamp"])["signed"])
    assert timestamp.raw == repo.files["timestamp"]
    assert parse_snapshot(repo.files["snapshot"]).signed.meta.keys() == {"targets", "pump"}
    (delegation,) = parse_targets(repo.files["targets"]).signed.delegations
    assert (delegation.name, delegation.paths, delegation.terminating) == ("pump", ("pump/*/*",), True)
    assert delegation.hardware == {"nrf-a"}
    assert (delegation.max_security_counter, delegation.max_offline_grace) == (100, 30 * 86_400)
    line = parse_targets(repo.files["line"], "pump").signed
    assert line.offline_grace == 7
    assert line.targets["pump/1.1.0/app.bin"].length == 5


def test_what_x_hillhold_does_not_allow_is_not_allowed(repo: Repo) -> None:
    (bare,) = parse_targets(changed(repo, "targets", "signed/delegations/roles/0/x-hillhold", ...)).signed.delegations
    assert (bare.hardware, bare.max_security_counter, bare.max_offline_grace) == (frozenset(), 0, 0)
    assert (
        parse_targets(changed(repo, "line", "signed/x-hillhold-offline-grace", ...), "pump").signed.offline_grace == 0
    )


@pytest.mark.parametrize("role", PARSERS)
@pytest.mark.parametrize("field", ["", "/_type", "/version", "/expires", "/spec_version"])
def test_a_common_field_is_missing(repo: Repo, role: str, field: str) -> None:
    with pytest.raises(MetadataError):
        PARSERS[role](changed(repo, role, "signed" + field, ...))


@pytest.mark.parametrize("role", PARSERS)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("version", wrong) for wrong in (0, -1, True, "1", None, list[int](), dict[str, int]())),
        *(("expires", value) for value in ("", "soon", 5, None, "2027-01-01T00:00:00", "2027-01-01T00:00:00+00:00")),
        *(("spec_version", value) for value in ("2.0", "0.1", "", 1, None)),
        *(("_type", value) for value in ("mirrors", "", 1, None)),
    ],
)
def test_a_common_field_of_another_form(repo: Repo, role: str, field: str, value: object) -> None:
    with pytest.raises(MetadataError):
        PARSERS[role](changed(repo, role, f"signed/{field}", value))


@pytest.mark.parametrize("role", PARSERS)
@pytest.mark.parametrize("other", PARSERS)
def test_a_file_of_another_role(repo: Repo, role: str, other: str) -> None:
    if {role, other} in ({role}, {"targets", "line"}):
        assert PARSERS[role](repo.files[other])
    else:
        with pytest.raises(MetadataError):
            PARSERS[role](repo.files[other])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b'"signed"',
        b"{}",
        b'{"signed":{}}',
        b'{"signatures":[]}',
        b'{"signatures":[],"signed":[]}',
    ],
)
@pytest.mark.parametrize("role", PARSERS)
def test_another_shape(role: str, data: bytes) -> None:
    with pytest.raises(MetadataError):
        PARSERS[role](data)


@pytest.mark.parametrize(
    "value", [..., {}, None, [5], [{}], [{"keyid": "a"}], [{"keyid": 1, "sig": ""}], [{"keyid": "a", "sig": 1}]]
)
@pytest.mark.parametrize("role", PARSERS)
def test_signatures_of_another_shape(repo: Repo, role: str, value: object) -> None:
    with pytest.raises(MetadataError):
        PARSERS[role](changed(repo, role, "signatures", value))


@pytest.mark.parametrize(
    ("role", "path", "value"),
    [
        ("root", "consistent_snapshot", 1),
        ("root", "keys", []),
        ("root", "keys", ...),
        ("root", "keys/*", 5),
        ("root", "keys/*/keyval", ...),
        ("root", "keys/*/keytype", 5),
        ("root", "keys/*/scheme", ...),
        ("root", "roles/targets", ...),
        ("root", "roles/targets/keyids", "abc"),
        ("root", "roles/targets/keyids", [5]),
        ("root", "roles/targets/keyids", ["a", "a"]),
        ("root", "roles/targets/keyids", ["a" * 257]),
        ("root", "roles/targets/threshold", 0),
        ("root", "roles/targets/threshold", True),
        ("root", "roles/targets/threshold", "2"),
        ("timestamp", "meta", ...),
        ("timestamp", "meta/snapshot.json", ...),
        ("timestamp", "meta/snapshot.json/version", 0),
        ("timestamp", "meta/snapshot.json/hashes", []),
        ("timestamp", "meta/snapshot.json/hashes", {}),
        ("snapshot", "meta/targets.json/hashes", {"sha3_256": "0" * 64}),
        ("timestamp", "meta/snapshot.json/hashes/sha256", "A" * 64),
        ("timestamp", "meta/snapshot.json/hashes/sha256", "0" * 63),
        ("timestamp", "meta/snapshot.json/hashes/sha256", 0),
        ("timestamp", "meta/snapshot.json/length", -1),
        ("timestamp", "x-hillhold-issued", 5),
        ("timestamp", "x-hillhold-issued", "2026-13-01T00:00:00Z"),
        ("snapshot", "meta", []),
        ("snapshot", "meta/targets.json", ...),
        ("snapshot", "meta/pump", {"version": 1}),
        ("snapshot", "meta/pump.json", 1),
        ("targets", "targets", ...),
        ("targets", "delegations", []),
        ("targets", "delegations/keys", ...),
        ("targets", "delegations/roles", {}),
        ("targets", "delegations/roles/0/name", "targets"),
        ("targets", "delegations/roles/0/path_hash_prefixes", ["00"]),
        (
            "targets",
            "delegations/succinct_roles",
            {"keyids": [], "threshold": 1, "bit_length": 1, "name_prefix": "bin"},
        ),
        ("targets", "delegations/roles/0/paths", "pump/*/*"),
        ("targets", "delegations/roles/0/paths", [1]),
        ("targets", "delegations/roles/0/x-hillhold", []),
        ("targets", "delegations/roles/0/x-hillhold/hardware", "nrf-a"),
        ("targets", "delegations/roles/0/x-hillhold/hardware", [1]),
        ("targets", "delegations/roles/0/x-hillhold/max_offline_grace", -1),
        ("targets", "delegations/roles/0/x-hillhold/max_security_counter", "1"),
        ("line", "x-hillhold-offline-grace", -1),
        ("line", "x-hillhold-offline-grace", "week"),
        ("line", "targets/*", []),
        ("line", "targets/*/length", -1),
        ("line", "targets/*/length", MAX_LENGTH + 1),
        ("line", "targets/*/length", True),
        ("line", "targets/*/hashes", ...),
        ("line", "targets/*/hashes", {"sha384": "0" * 96}),
        ("line", "targets/*/hashes/sha512", "whatever"),
        ("line", "targets/*/hashes/sha256", "0" * 65),
        ("line", "targets/" + "p" * 257, {"length": 1, "hashes": {"sha256": "0" * 64}}),
        ("line", "targets/", {"length": 1, "hashes": {"sha256": "0" * 64}}),
    ],
)
def test_a_field_of_another_form(repo: Repo, role: str, path: str, value: object) -> None:
    PARSERS[role](repo.files[role])
    with pytest.raises(MetadataError):
        PARSERS[role](changed(repo, role, f"signed/{path}", value))


@pytest.mark.parametrize(
    ("role", "path", "value"),
    [
        ("root", "roles/mirrors", {"keyids": [], "threshold": 1}),
        ("root", "x-other", {"deep": [1, 2]}),
        ("root", "keys/*/note", "x"),
        ("root", "keys/new", {"keytype": "new", "scheme": "new", "keyval": {"identity": 5}}),
        ("timestamp", "meta/other.json", 5),
        ("snapshot", "meta/valve.json", {"version": 3}),
        ("targets", "delegations/roles/0/note", None),
        ("line", "targets/*/custom", "vendor"),
        ("line", "targets/*/custom", {"vendor": 1}),
        ("line", "targets/*/hashes/sha384", "whatever"),
    ],
)
def test_what_is_not_known_is_ignored_and_signed_all_the_same(repo: Repo, role: str, path: str, value: object) -> None:
    data = changed(repo, role, f"signed/{path}", value)
    parsed = PARSERS[role](data)
    assert getattr(parsed, "payload", None) == canon(json.loads(data)["signed"])


@pytest.mark.parametrize(
    ("role", "limit"), [("root", 65_536), ("timestamp", 32_768), *((r, MAX_BYTES_OTHER) for r in ("snapshot", "line"))]
)
def test_the_limit_on_a_files_bytes(repo: Repo, role: str, limit: int) -> None:
    data = repo.files[role]
    PARSERS[role](data + b" " * (limit - len(data)))
    with pytest.raises(MetadataError, match=f"at most {limit} bytes"):
        PARSERS[role](data + b" " * (limit + 1 - len(data)))


def test_limits_on_numbers_of_things(repo: Repo) -> None:
    many: Object = {f"{n}.json": {"version": 1} for n in range(MAX_KEYS - 1)} | {"targets.json": {"version": 1}}
    assert len(parse_snapshot(changed(repo, "snapshot", "signed/meta", many)).signed.meta) == MAX_KEYS
    with pytest.raises(MetadataError, match="entries"):
        parse_snapshot(changed(repo, "snapshot", "signed/meta", many | {"x.json": {"version": 1}}))


def test_a_role_is_delegated_once(repo: Repo) -> None:
    entry = json.loads(repo.files["targets"])["signed"]["delegations"]["roles"][0]
    with pytest.raises(MetadataError, match="twice"):
        parse_targets(changed(repo, "targets", "signed/delegations/roles", [entry, entry]))


def test_an_ecdsa_key_keeps_its_line_breaks_under_the_signature() -> None:
    repo = Repo()
    repo.keys["timestamp"] = [ecdsa_key("timestamp")]
    repo.publish()
    assert b"\\n" in repo.files["root"]
    assert b"BEGIN PUBLIC KEY-----\n" in parse_root(repo.files["root"]).payload


@pytest.mark.parametrize("seconds", [0, 1, T0, 4_102_444_799, 253_402_300_799])
def test_dates_are_unix_seconds(seconds: int) -> None:
    assert parse_time(date(seconds)) == seconds
    assert datetime.fromtimestamp(seconds, UTC).isoformat() == date(seconds).replace("Z", "+00:00")


@pytest.mark.parametrize(
    "text",
    [
        "2027-02-29T00:00:00Z",
        "2027-00-01T00:00:00Z",
        "2027-01-01T24:00:00Z",
        "2027-01-01T00:60:00Z",
        "2027-01-01T00:00:60Z",
        "0000-01-01T00:00:00Z",
        "2027-01-01T00:00:00Z\n",
        " 2027-01-01T00:00:00Z",
        "2027-1-01T00:00:00Z",
        "2027-01-01t00:00:00z",
        "2027-01-01 00:00:00Z",
        "2027-01-01T00:00:00.0Z",
        None,
        1,
        b"2027-01-01T00:00:00Z",
    ],
)
def test_dates_have_one_form(text: object) -> None:
    with pytest.raises(MetadataError):
        parse_time(text)


def test_leap_days_count() -> None:
    assert parse_time("2028-02-29T00:00:00Z") + 86_400 == parse_time("2028-03-01T00:00:00Z")


def test_the_payload_does_not_depend_on_the_files_spelling(repo: Repo) -> None:
    def shuffle(whole: Object) -> None:
        whole["signed"] = dict(reversed(whole["signed"].items()))

    edit: Edit = shuffle
    whole = json.loads(repo.files["line"])
    edit(whole)
    spelled = json.dumps(whole, indent=1).encode()
    assert parse_targets(spelled, "pump").payload == parse_targets(repo.files["line"], "pump").payload
    assert parse_targets(spelled, "pump").hash("sha256") != parse_targets(repo.files["line"], "pump").hash("sha256")


REVOKED = "x-hillhold-revoked-image-keys"


def test_a_root_names_revoked_image_keys_or_none(repo: Repo) -> None:
    assert parse_root(repo.files["root"]).signed.revoked_image_keys == frozenset()
    for count in (0, 1, 2, 64):
        listed = [f"{number:064x}" for number in range(count)]
        root = parse_root(changed(repo, "root", f"signed/{REVOKED}", listed)).signed
        assert root.revoked_image_keys == {bytes.fromhex(item) for item in listed}


@pytest.mark.parametrize(
    "value",
    [
        None,
        "a" * 64,
        {"a" * 64: True},
        [1],
        [None],
        [["a" * 64]],
        [""],
        ["a" * 63],
        ["a" * 66],
        ["A" * 64],
        ["a" * 62 + " a"],
        ["g" * 64],
        ["\uff11" * 64],
        ["a" * 64, "a" * 64],
        ["b" * 64, "a" * 64],
        ["a" * 64, "c" * 64, "b" * 64],
        [f"{number:064x}" for number in range(65)],
    ],
)
def test_a_list_of_revoked_image_keys_in_another_form_is_refused(repo: Repo, value: object) -> None:
    with pytest.raises(MetadataError):
        parse_root(changed(repo, "root", f"signed/{REVOKED}", value))


def test_other_roles_may_say_so_and_mean_nothing(repo: Repo) -> None:
    for role in ("timestamp", "snapshot", "targets", "line"):
        PARSERS[role](changed(repo, role, f"signed/{REVOKED}", ["no list"]))
