"""The TUF client workflow (TUF 5.3 to 5.6), role by role: the honest file is taken, the attack is refused, nothing has changed."""

from __future__ import annotations

import json

import pytest

from forge import DAY, T0, YEAR, Edit, Object, Repo, envelope, key, keys
from hillhold_verifier.errors import (
    MetadataError,
    MismatchError,
    MissingError,
    RollbackError,
    SignatureError,
)
from hillhold_verifier.trust import current, missing, update_root, update_timestamp, verify
from holder import ABOVE, NOW, fresh, holding, listed, make, provisioned_first, refused, take

ROLES = ("timestamp", "snapshot", "targets", "line")


@pytest.fixture
def repo() -> Repo:
    repo = Repo()
    repo.add_release("1.1.0", b"image")
    repo.publish()
    return repo


# --- signatures, at each role


@pytest.mark.parametrize("role", ROLES)
def test_a_stranger_signs(repo: Repo, role: str) -> None:
    files = listed(repo, role, make(repo, role))
    take(holding(repo), files)
    forged = listed(repo, role, make(repo, role, signers=keys("mallory-1", "mallory-2")))
    refused(holding(repo), forged, role, SignatureError)


@pytest.mark.parametrize("role", ROLES)
def test_nobody_signs(repo: Repo, role: str) -> None:
    refused(holding(repo), listed(repo, role, make(repo, role, signers=[])), role, SignatureError)


@pytest.mark.parametrize("role", ["targets", "line"])
def test_one_key_short_of_the_quorum(repo: Repo, role: str) -> None:
    refused(holding(repo), listed(repo, role, make(repo, role, signers=repo.keys[role][:1])), role, SignatureError)
    any_two = make(repo, role, signers=repo.keys[role][1:])
    take(holding(repo), listed(repo, role, any_two))


@pytest.mark.parametrize("role", ["targets", "line"])
def test_one_key_of_the_quorum_signs_beside_keys_of_every_other_role(repo: Repo, role: str) -> None:
    others = [one for name, those in repo.keys.items() if name != role for one in those]
    data = make(repo, role, signers=[repo.keys[role][0], *others])
    refused(holding(repo), listed(repo, role, data), role, SignatureError)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("thief", [*ROLES, "root"])
def test_the_keys_of_another_role_sign(repo: Repo, role: str, thief: str) -> None:
    if role == thief:
        take(holding(repo), listed(repo, role, make(repo, role, signers=repo.keys[thief])))
        return
    forged = listed(repo, role, make(repo, role, signers=repo.keys[thief]))
    refused(holding(repo), forged, role, SignatureError)


@pytest.mark.parametrize("role", ["targets", "line"])
def test_one_key_under_two_ids_counts_once(repo: Repo, role: str) -> None:
    one = key(f"{role}-1")
    repo.keys[role] = [one, one.named("twin"), key(f"{role}-2")]
    repo.publish("root", "targets", "line", "snapshot", "timestamp")
    trust = take(provisioned_first(repo), repo.files, "root") if role == "targets" else provisioned_first(repo)
    if role == "line":
        trust = take(trust, repo.files, "root")
    twins = listed(repo, role, make(repo, role, signers=[one, one.named("twin")]))
    refused(trust, twins, role, SignatureError)
    honest = listed(repo, role, make(repo, role, signers=[one, one.named("twin"), key(f"{role}-2")]))
    take(trust, honest)


def test_a_key_in_another_spelling_counts_once(repo: Repo) -> None:
    one = key("targets-1")

    def shout(signed: Object) -> None:
        signed["keys"]["twin"] = {**one.entry, "keyval": {"public": one.entry["keyval"]["public"].upper()}}
        signed["roles"]["targets"]["keyids"].append("twin")

    repo.publish(root=repo.root(edit=shout))
    trust = take(provisioned_first(repo), repo.files, "root")
    forged = listed(repo, "targets", repo.targets(signers=[one, one.named("twin")]))
    refused(trust, forged, "targets", SignatureError)


@pytest.mark.parametrize("role", ROLES)
def test_one_signature_many_times(repo: Repo, role: str) -> None:
    def again(whole: Object) -> None:
        whole["signatures"] = [whole["signatures"][0]] * 3

    refused(holding(repo), listed(repo, role, make(repo, role, edit_envelope=again)), role, MetadataError)


def test_wrong_signatures_beside_right_ones_do_no_harm_up_to_a_limit(repo: Repo) -> None:
    strangers = [key(f"stranger-{n}") for n in range(63)]
    take(holding(repo), listed(repo, "snapshot", repo.snapshot(signers=[*strangers, key("snapshot-1")])))
    more = repo.snapshot(signers=[*strangers, key("stranger-63"), key("snapshot-1")])
    refused(holding(repo), listed(repo, "snapshot", more), "snapshot", MetadataError)


def test_a_long_signature_of_an_unknown_scheme_does_no_harm(repo: Repo) -> None:
    def other(whole: Object) -> None:
        whole["signatures"].append({"keyid": "slh-dsa", "sig": "ab" * 49_856})

    line = repo.line(edit_envelope=other)
    assert current(take(fresh(repo), listed(repo, "line", line)), "pump", NOW).line.version == 2


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("bad", ["", "zz", "00", "00" * 64, "é"])
def test_a_signature_that_is_none(repo: Repo, role: str, bad: str) -> None:
    def spoil(whole: Object) -> None:
        for signature in whole["signatures"]:
            signature["sig"] = bad

    refused(holding(repo), listed(repo, role, make(repo, role, edit_envelope=spoil)), role, SignatureError)


@pytest.mark.parametrize("role", ROLES)
def test_content_changed_after_it_was_signed(repo: Repo, role: str) -> None:
    def later(whole: Object) -> None:
        whole["signed"]["expires"] = "2099-01-01T00:00:00Z"

    refused(holding(repo), listed(repo, role, make(repo, role, edit_envelope=later)), role, SignatureError)


def test_a_threshold_above_the_number_of_keys_is_never_met(repo: Repo) -> None:
    repo.publish(root=repo.root(thresholds={"timestamp": 2}))
    trust = take(provisioned_first(repo), repo.files, "root")
    refused(trust, {"timestamp": repo.timestamp()}, "timestamp", SignatureError)


def test_verify_returns_only_keys_of_the_role_that_signed(repo: Repo) -> None:
    trust = holding(repo)
    root = trust.root.signed
    assert len(verify(trust.root, "root", root.roles["root"], root.keys)) == 2


# --- the lister decides which file


@pytest.mark.parametrize("role", ["snapshot", "targets", "line"])
def test_an_honest_file_that_is_not_the_listed_one(repo: Repo, role: str) -> None:
    other = make(repo, role, expires=T0 + 2 * DAY)
    refused(holding(repo), {**repo.files, role: other}, role, MismatchError)


def wrong(field: str, value: object) -> Edit:
    def edit(signed: Object) -> None:
        for name, meta in signed["meta"].items():
            if signed["_type"] == "timestamp" or name == wrong_name:
                meta[field] = value

    wrong_name = "targets.json"
    return edit


@pytest.mark.parametrize(
    ("field", "value"),
    [("hashes", {"sha256": "0" * 64}), ("hashes", {"sha512": "0" * 128}), ("version", 7), ("length", 10)],
)
@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_hash_length_or_version_differ_from_the_listing(repo: Repo, role: str, field: str, value: object) -> None:
    files = dict(repo.files)
    if role == "targets":
        files["snapshot"] = repo.snapshot(edit=wrong(field, value))
        files["timestamp"] = repo.timestamp(snapshot=files["snapshot"])
    else:
        files["timestamp"] = repo.timestamp(edit=wrong(field, value))
    trust = refused(fresh(repo), files, role, MismatchError)
    with pytest.raises(MissingError):
        current(trust, "pump", NOW)


def test_a_listed_length_is_a_maximum(repo: Repo) -> None:
    at_most = len(repo.files["snapshot"])
    take(fresh(repo), {**repo.files, "timestamp": repo.timestamp(edit=wrong("length", at_most))})
    short = {**repo.files, "timestamp": repo.timestamp(edit=wrong("length", at_most - 1))}
    refused(fresh(repo), short, "snapshot", MismatchError)


def test_a_lister_without_a_hash_lists_nothing(repo: Repo) -> None:
    def drop(signed: Object) -> None:
        del signed["meta"]["snapshot.json"]["hashes"]

    refused(holding(repo), {**repo.files, "timestamp": repo.timestamp(edit=drop)}, "snapshot", MismatchError)


@pytest.mark.parametrize("field", ["hashes", "length"])
@pytest.mark.parametrize(("role", "name"), [("snapshot", "snapshot"), ("targets", "targets"), ("line", "pump")])
def test_a_held_file_counts_on_the_same_terms_as_one_that_comes(repo: Repo, role: str, name: str, field: str) -> None:
    """Another length, or no hash, is another file, also where the version is the held one's."""

    def other(signed: Object) -> None:
        meta = signed["meta"][f"{name}.json"]
        meta.pop("hashes") if field == "hashes" else meta.update(length=len(repo.files[role]) + 1)

    trust = holding(repo)
    if role == "snapshot":
        trust = take(trust, {"timestamp": repo.timestamp(edit=other)}, "timestamp")
    else:
        snapshot = repo.snapshot(edit=other)
        trust = take(
            trust, {"timestamp": repo.timestamp(snapshot=snapshot), "snapshot": snapshot}, "timestamp", "snapshot"
        )
    assert missing(trust, "pump") is not None
    assert missing(trust, "pump")[0] == name  # type: ignore[index]


@pytest.mark.parametrize("role", ["snapshot", "targets", "line"])
def test_a_lister_without_a_hash_does_not_name_what_is_held(repo: Repo, role: str) -> None:
    """Two files may have one version; DESIGN §4, "Current", wants the one of that hash."""

    def drop(signed: Object) -> None:
        del signed["meta"][f"{'pump' if role == 'line' else role}.json"]["hashes"]

    above = {"snapshot": "timestamp"}.get(role, "snapshot")
    files = {**repo.files, above: make(repo, above, edit=drop)}
    if above == "snapshot":
        files["timestamp"] = repo.timestamp(snapshot=files["snapshot"])
    trust = take(holding(repo), files, *("timestamp", "snapshot")[: 1 if above == "timestamp" else 2])
    with pytest.raises(MissingError):
        current(trust, "pump", NOW)


@pytest.mark.parametrize("role", ["snapshot", "targets", "line"])
@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 100_000, b"\xff"], ids=["empty", "object", "deep", "binary"])
def test_what_its_lister_does_not_name_no_parser_sees(repo: Repo, role: str, data: bytes) -> None:
    """A parser's faults are then open only to who holds the lister's keys (python-tuf #1523 has the argument)."""
    refused(holding(repo), {**repo.files, role: data}, role, MismatchError)


@pytest.mark.parametrize("role", ["snapshot", "targets", "line"])
def test_a_file_before_its_lister(repo: Repo, role: str) -> None:
    refused_at = fresh(repo)
    with pytest.raises(MissingError):
        take(refused_at, repo.files, role)
    for above in ABOVE[role][:-1]:
        refused_at = take(refused_at, repo.files, above)
        with pytest.raises(MissingError):
            take(refused_at, repo.files, role)


def test_a_line_that_nobody_delegates_or_lists(repo: Repo) -> None:
    with pytest.raises(MissingError):
        take(fresh(repo), repo.files, product="other")

    def elsewhere(signed: Object) -> None:
        signed["delegations"]["roles"][0]["paths"] = ["pump/1.0.0/*", "*"]

    refused(fresh(repo), listed(repo, "targets", repo.targets(edit=elsewhere)), "line", MissingError)

    def unlisted(signed: Object) -> None:
        del signed["meta"]["pump.json"]

    files = {**repo.files, "snapshot": repo.snapshot(edit=unlisted)}
    files["timestamp"] = repo.timestamp(snapshot=files["snapshot"])
    refused(fresh(repo), files, "line", MissingError)


# --- rollback, at each role


@pytest.mark.parametrize("role", ROLES)
def test_an_older_version_of_the_same_keys(repo: Repo, role: str) -> None:
    old = dict(repo.files)
    repo.publish("targets", "line", "snapshot", "timestamp")
    trust = holding(repo)
    if role == "timestamp":
        refused(trust, old, role, RollbackError)
        return
    # Worst case: the listers above list the older file, in a version of their own that is new.
    files = listed(repo, role, old[role])
    if role == "snapshot":
        files["timestamp"] = repo.timestamp(snapshot=old["snapshot"])
        with pytest.raises(RollbackError, match="snapshot version in timestamp"):
            take(trust, files, "timestamp")
        return
    with pytest.raises(RollbackError, match="version in snapshot"):
        take(trust, files, "timestamp", "snapshot")


@pytest.mark.parametrize("role", ["snapshot", "targets", "line"])
def test_the_floor_of_a_role_stands_where_its_listers_claims_do_not(repo: Repo, role: str) -> None:
    """Timestamp and snapshot keys are replaced, so that their claims fall; the floor of what they list is its own."""
    old = dict(repo.files)
    repo.publish("targets", "line", "snapshot", "timestamp")
    trust = holding(repo)
    replaced = ["timestamp"] if role == "snapshot" else ["timestamp", "snapshot"]
    for name in replaced:
        repo.keys[name] = keys(f"{name}-next")
    repo.publish("root")
    trust = take(trust, repo.files, "root")
    refused(trust, listed(repo, role, old[role]), role, RollbackError)
    repo.publish("targets", "line", "snapshot", "timestamp")
    current(take(trust, repo.files), "pump", NOW)


def test_a_timestamp_of_the_held_version_changes_nothing(repo: Repo) -> None:
    trust = holding(repo)
    twin = repo.timestamp(version=1, issued=T0 + DAY, expires=T0 + YEAR)
    assert update_timestamp(trust, twin, NOW) is trust


def test_a_snapshot_may_not_drop_a_role(repo: Repo) -> None:
    def more(signed: Object) -> None:
        signed["meta"]["valve.json"] = {"hashes": {"sha256": "0" * 64}, "version": 4}

    repo.publish("timestamp", snapshot=repo.snapshot(edit=more))
    trust = holding(repo)
    files = listed(repo, "snapshot", repo.snapshot())
    refused(trust, files, "snapshot", RollbackError)
    kept = repo.snapshot(edit=more)
    take(trust, listed(repo, "snapshot", kept))


# --- the chain as a whole


@pytest.mark.parametrize("role", ROLES)
def test_nothing_is_selectable_while_a_file_is_missing(repo: Repo, role: str) -> None:
    trust = fresh(repo)
    for name in ROLES:
        with pytest.raises(MissingError):
            current(trust, "pump", NOW)
        if name == role:
            break
        trust = take(trust, repo.files, name)
    if role != "timestamp":
        assert (gap := missing(trust, "pump"))
        assert gap[0] == ("pump" if role == "line" else role)


@pytest.mark.parametrize("upto", [1, 2, 3])
def test_a_newer_lister_alone_makes_the_old_chain_unselectable(repo: Repo, upto: int) -> None:
    trust = holding(repo)
    repo.publish("targets", "line", "snapshot", "timestamp")
    trust = take(trust, repo.files, *ROLES[:upto])
    with pytest.raises(MissingError):
        current(trust, "pump", NOW)
    current(take(trust, repo.files, *ROLES[upto:]), "pump", NOW)


def test_held_files_are_verified_under_the_root_that_is_held_now(repo: Repo) -> None:
    for role in ("timestamp", "snapshot", "targets"):
        trust = holding(repo)
        moved = update_root(trust, repo.root(keys={role: keys("n-1", "n-2", "n-3")}))
        with pytest.raises(MissingError):
            current(moved, "pump", NOW)


def test_a_line_whose_quorum_was_replaced_is_not_current(repo: Repo) -> None:
    trust = holding(repo)
    repo.keys["line"] = keys("n-1", "n-2", "n-3")
    files = listed(repo, "targets", repo.targets())
    trust = take(trust, files, "timestamp", "snapshot", "targets")
    with pytest.raises(MissingError):
        current(trust, "pump", NOW)
    refused(trust, files, "line", SignatureError)


def test_a_file_of_one_line_is_none_of_another(repo: Repo) -> None:
    """Both lines share keys; a snapshot that swaps their files is needed to mix them up, and the paths still tell."""
    other = Repo("valve")
    other.keys = repo.keys
    other.add_release("9.0.0", b"valve image")
    files = listed(repo, "line", other.line(version=2))
    trust = take(holding(repo), files)
    assert [path.split("/")[0] for path in current(trust, "pump", NOW).line.targets] == ["valve"]


def test_canonical_bytes_are_signed_whatever_the_file_looks_like(repo: Repo) -> None:
    pretty = json.dumps(json.loads(repo.timestamp()), indent=2).encode()
    assert take(holding(repo), {"timestamp": pretty}, "timestamp").floors["timestamp"].value == 2


def test_one_role_is_not_taken_for_another_even_with_one_key_for_both(repo: Repo) -> None:
    repo.keys["timestamp"] = repo.keys["snapshot"] = keys("online")
    repo.publish("root", "snapshot", "timestamp")
    trust = take(provisioned_first(repo), repo.files, "root")
    refused(trust, {"timestamp": repo.files["snapshot"]}, "timestamp", MetadataError)
    assert envelope({"_type": "timestamp"}, keys("online"))
