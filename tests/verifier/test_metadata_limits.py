"""Each limit of metadata at its edge: what is just allowed is read, what is one more is refused, and the refusal says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from forge import T0, Object, compact, date, key
from hillhold_verifier.errors import MetadataError
from hillhold_verifier.fields import MAX_NAME, Fields
from hillhold_verifier.keys import SCHEMES, Key
from hillhold_verifier.metadata import (
    Envelope,
    parse_root,
    parse_snapshot,
    parse_targets,
    parse_timestamp,
)
from hillhold_verifier.roles import Delegation, MetaFile, Role, Root, Signature, Snapshot, Succinct, Targets, Timestamp

NAME = "n" * MAX_NAME
HASH = "0" * 64
BOTH: Object = {"sha256": HASH, "sha512": "0" * 128}
ROLE: Object = {"keyids": ["a"], "threshold": 1}


KEY_OF_ALICE = Key("ed25519", "ed25519", key("alice").entry["keyval"]["public"])


def file(kind: str, signatures: object = (), **fields: object) -> bytes:
    common = {"_type": kind, "expires": date(T0), "spec_version": "1.0.31", "version": 1}
    return compact(
        {"signatures": list(signatures) if isinstance(signatures, tuple) else signatures, "signed": common | fields}
    )


def root(**fields: object) -> Envelope[Root]:
    roles = dict.fromkeys(("root", "timestamp", "snapshot", "targets"), ROLE)
    return parse_root(file("root", **{"keys": {}, "roles": roles} | fields))


def timestamp(meta: Object | None = None, **fields: object) -> Envelope[Timestamp]:
    return parse_timestamp(file("timestamp", **{"meta": {"snapshot.json": meta or {"version": 1}}} | fields))


def snapshot(meta: Object) -> Envelope[Snapshot]:
    return parse_snapshot(file("snapshot", meta={"targets.json": {"version": 1}} | meta))


def targets(entries: Object | None = None, **fields: object) -> Targets:
    return parse_targets(file("targets", targets=entries or {}, **fields)).signed


def target(**fields: object) -> Object:
    return {"hashes": {"sha256": HASH}, "length": 1} | fields


def delegation(**fields: object) -> Object:
    return {"name": "a", "paths": [], "terminating": False} | ROLE | fields


def delegating(*roles: Object, keys: Object | None = None) -> Targets:
    return targets(delegations={"keys": keys or {}, "roles": list(roles)})


def succinct(**fields: object) -> Targets:
    body = {"bit_length": 4, "name_prefix": "bin"} | ROLE | fields
    return targets(delegations={"keys": {}, "succinct_roles": body})


def numbered(count: int, value: object) -> Object:
    return {f"{number:04}": value for number in range(count)}


def signature(number: int) -> Object:
    return {"keyid": f"{number}", "sig": ""}


LIMITS: dict[str, tuple[Callable[[int], object], int]] = {
    "signatures": (
        lambda count: parse_timestamp(
            file("timestamp", [signature(n) for n in range(count)], meta={"snapshot.json": {"version": 1}})
        ),
        64,
    ),
    "a signature's key id": (
        lambda count: parse_timestamp(
            file("timestamp", [{"keyid": "a" * count, "sig": ""}], meta={"snapshot.json": {"version": 1}})
        ),
        256,
    ),
    "roles in snapshot": (lambda count: snapshot({f"{n}.json": {"version": 1} for n in range(count - 1)}), 4096),
    "targets": (lambda count: targets(numbered(count, target())), 4096),
    "characters of a target's path": (lambda count: targets({"p" * count: target()}), 256),
    "length of a target": (lambda count: targets({"p": target(length=count)}), 2**32),
    "characters of an unusual target's path": (lambda count: targets({"p" * count: target(hashes=BOTH)}), 256),
    "length of an unusual target": (lambda count: targets({"p": target(hashes=BOTH, length=count)}), 2**32),
    "keys": (lambda count: delegating(keys=numbered(count, {"keytype": "", "keyval": {}, "scheme": ""})), 4096),
    "delegations": (lambda count: delegating(*(delegation(name=f"{n}") for n in range(count))), 4096),
    "paths": (lambda count: delegating(delegation(paths=["p"] * count)), 4096),
    "characters of a pattern": (lambda count: delegating(delegation(paths=["p" * count])), 256),
    "key ids": (lambda count: delegating(delegation(keyids=list(numbered(count, 0)))), 4096),
    "characters of a key id": (lambda count: delegating(delegation(keyids=["k" * count])), 256),
    "characters of a role's name": (lambda count: delegating(delegation(name="k" * count)), 256),
    "hardware": (lambda count: delegating(delegation(**{"x-hillhold": {"hardware": ["h"] * count}})), 4096),
    "characters of hardware": (
        lambda count: delegating(delegation(**{"x-hillhold": {"hardware": ["h" * count]}})),
        256,
    ),
    "bits of bins": (lambda count: succinct(bit_length=count), 32),
    "characters of a bin's prefix": (lambda count: succinct(name_prefix="b" * count), 256),
}


@pytest.mark.parametrize("what", LIMITS)
def test_a_limit_is_just_allowed_and_one_more_is_not(what: str) -> None:
    read, most = LIMITS[what]
    assert read(most)
    with pytest.raises(MetadataError):
        read(most + 1)


@pytest.mark.parametrize("bits", [0, 33])
def test_bins_have_1_to_32_bits(bits: int) -> None:
    assert succinct(bit_length=1).succinct == Succinct(Role(("a",), 1), 1, "bin")
    with pytest.raises(MetadataError, match="expected 1 to 32"):
        succinct(bit_length=bits)


def test_a_public_value_beyond_the_limit_is_unusable_and_no_error() -> None:
    def public(value: object) -> str:
        return root(keys={"k": {"keytype": "t", "keyval": {"public": value}, "scheme": "s"}}).signed.keys["k"].public

    assert [len(public("p" * length)) for length in (8191, 8192, 8193)] == [8191, 8192, 0]
    assert public(5) == public(None) == ""


def test_what_is_absent_has_the_value_that_allows_least() -> None:
    assert root().signed.consistent_snapshot is False
    assert root(consistent_snapshot=True).signed.consistent_snapshot is True
    assert timestamp().signed == Timestamp(1, T0, 0, MetaFile(1, None, {}))
    assert delegating(delegation()).delegations == (Delegation("a", Role(("a",), 1), (), (), False, frozenset(), 0, 0),)
    assert targets() == Targets(1, T0, {}, {}, (), None, 0)


def test_what_a_lister_states_is_read() -> None:
    meta = {"version": 3, "length": 7, "hashes": {"sha512": "1" * 128, "sha256": "2" * 64}}
    hashes = {"sha256": b"\x22" * 32, "sha512": b"\x11" * 64}
    assert timestamp(meta).signed.snapshot == MetaFile(3, 7, hashes)
    assert snapshot({"a.json": meta}).signed.meta["a"] == MetaFile(3, 7, hashes)
    assert timestamp({"version": 1, "length": 0}).signed.snapshot.length == 0


@pytest.mark.parametrize(("algorithm", "digits"), [("sha256", 64), ("sha512", 128)])
def test_a_hash_has_all_its_digits(algorithm: str, digits: int) -> None:
    def read(text: str) -> None:
        timestamp({"version": 1, "hashes": {algorithm: text}})
        targets({"p": target(hashes={algorithm: text})})
        targets({"p": target(hashes=BOTH | {algorithm: text})})

    read("0" * digits)
    for count in (0, 2, digits - 2, digits + 2):
        with pytest.raises(MetadataError, match=f"{digits} lowercase"):
            timestamp({"version": 1, "hashes": {algorithm: "0" * count}})
        with pytest.raises(MetadataError, match=f"{digits} lowercase"):
            targets({"p": target(hashes={algorithm: "0" * count})})


@pytest.mark.parametrize("hashes", [{"sha256": HASH}, BOTH])
def test_a_target_may_have_custom_data_of_any_form(hashes: Object) -> None:
    for custom, ours in (("vendor", None), ([], None), (None, None), ({"vendor": 1}, None), ({"hillhold": 5}, 5)):
        assert targets({"p": target(hashes=hashes, custom=custom)}).targets["p"].custom == ours


@pytest.mark.parametrize("name", ["root", "timestamp", "snapshot", "targets", ""])
def test_no_delegated_role_has_the_name_of_a_top_level_one(name: str) -> None:
    with pytest.raises(MetadataError, match="no top-level role's"):
        delegating(delegation(name=name))


@pytest.mark.parametrize("fields", [{"paths": ...}, {"path_hash_prefixes": ["00"]}])
def test_a_delegation_goes_by_paths_or_by_prefixes(fields: Object) -> None:
    body = {name: value for name, value in (delegation() | fields).items() if value is not ...}
    with pytest.raises(MetadataError, match="either paths or path_hash_prefixes"):
        delegating(body)
    by_hash = {name: value for name, value in delegation(path_hash_prefixes=["00", "1"]).items() if name != "paths"}
    assert delegating(by_hash).delegations[0].prefixes == ("00", "1")


@pytest.mark.parametrize("below", [{"keys": {}}, {"keys": {}, "roles": [], "succinct_roles": {}}])
def test_delegations_are_roles_or_bins(below: Object) -> None:
    with pytest.raises(MetadataError, match="either roles or succinct_roles"):
        targets(delegations=below)


@pytest.mark.parametrize("version", ["1.0", "1.0.31", "1.10", "1.2.3"])
def test_specification_1_in_any_form(version: str) -> None:
    assert timestamp(spec_version=version).signed.version


@pytest.mark.parametrize("version", ["1", "1.", "1.x", "1.0.", "1.0.0.0", "11.0", "1.0\n", " 1.0", "1,0"])
def test_another_specification_is_refused(version: str) -> None:
    with pytest.raises(MetadataError, match=r"specification version: expected 1\.x"):
        timestamp(spec_version=version)


@pytest.mark.parametrize("sig", ["zz", "0", "é"])
def test_a_signature_that_is_no_hexadecimal_is_empty(sig: str) -> None:
    data = file("timestamp", [{"keyid": "a", "sig": sig}], meta={"snapshot.json": {"version": 1}})
    assert parse_timestamp(data).signatures[0].value == b""


# --- a file in its written form with other signatures -----------------------------------------------------------------


def test_another_set_of_signatures_changes_nothing_else() -> None:
    one = timestamp()
    (found,) = parse_timestamp(
        file("timestamp", [{"keyid": "k", "sig": "00ff"}], meta={"snapshot.json": {"version": 1}})
    ).signatures
    other = one.with_signatures((found,))
    assert other == parse_timestamp(other.raw)
    assert (other.signed, other.payload, other.signatures) == (one.signed, one.payload, (found,))
    assert other.with_signatures(()).raw == one.raw


def test_what_was_verified_before_makes_no_other_file() -> None:
    one, again = timestamp(), timestamp()
    assert one.signer(Signature("k", b"none"), KEY_OF_ALICE, SCHEMES) is None
    assert one == again == replace(one, signers=frozenset({b"fingerprint"}))


def test_a_signature_counts_where_it_is_valid_or_was() -> None:
    one = timestamp()
    valid = Signature("k", key("alice").sign(one.payload))
    invalid = Signature("k", valid.value[::-1])
    fingerprint = KEY_OF_ALICE.fingerprint(SCHEMES)
    assert fingerprint is not None
    assert one.signer(invalid, KEY_OF_ALICE, SCHEMES) is None
    assert one.signer(valid, KEY_OF_ALICE, SCHEMES) == fingerprint, "another signature by the same key"
    assert one.signer(valid, KEY_OF_ALICE, frozenset()) is None
    others, remembered = (replace(timestamp(), signers=frozenset({name})) for name in (b"others", fingerprint))
    assert others.signer(invalid, KEY_OF_ALICE, SCHEMES) is None
    assert remembered.signer(invalid, KEY_OF_ALICE, SCHEMES) == fingerprint


# --- fields -----------------------------------------------------------------------------------------------------------


def test_a_field_says_where_it_is_and_what_came() -> None:
    inner = Fields({"a": {"b": {"n": -1, "t": 5, "l": "x", "o": []}}}, "file").sub("a").sub("b")
    for read, words in (
        (lambda: inner.natural("n"), "file a b n: expected an integer of at least 0, got -1"),
        (lambda: inner.natural("x"), "file a b x: expected an integer of at least 0, got None"),
        (lambda: inner.text("t"), "file a b t: expected text of at most 256 characters, got int"),
        (lambda: inner.text("none"), "file a b none: expected a value, got none"),
        (lambda: inner.array("l", 3), "file a b l: expected an array of at most 3, got str"),
        (lambda: inner.sub("o"), "file a b o: expected an object, got list"),
    ):
        with pytest.raises(MetadataError) as caught:
            read()
        assert str(caught.value) == words


def test_a_field_takes_its_own_limit() -> None:
    fields = Fields({"t": "abc", "l": [1, 2], "s": {"a": 1, "b": 2}, "n": 0}, "file")
    assert (fields.text("t", 3), fields.array("l", 2), fields.sub("s", 2).value) == ("abc", [1, 2], {"a": 1, "b": 2})
    assert (fields.natural("n"), fields.natural("m", 0), fields.natural("m", 4)) == (0, 0, 4)
    assert Fields.as_text("abc", "it", 3) == "abc"
    for read in (
        lambda: fields.text("t", 2),
        lambda: fields.array("l", 1),
        lambda: fields.sub("s", 1),
        lambda: Fields.as_text("abc", "it", 2),
        lambda: fields.natural("m"),
    ):
        with pytest.raises(MetadataError):
            read()


def test_a_key_is_told_by_its_fields() -> None:
    found = root(keys={"k": key("root-1").entry}).signed.keys["k"]
    assert (found.keytype, found.scheme) == ("ed25519", "ed25519")
