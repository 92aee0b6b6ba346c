"""What an audit says of the chain of roles: who signed, what is listed, what has expired, and which lines there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from forge import DAY, HOUR, T0, YEAR, Object, Repo, SigningKey, key, keys, listing
from hillhold_verifier.audit import Level, LineReport, Report, audit
from hillhold_verifier.audit.chain import SOON
from hillhold_verifier.conversation import Progress
from hillhold_verifier.errors import MetadataError, OperationalError
from holder import NOW
from offers import TreeSource, offer, started


def judge(tree: Mapping[str, bytes], at: int = NOW, root: int = 1, *products: str) -> Report:
    return audit(TreeSource(tree), tree[f"metadata/{root}.root.json"], at, products=products)


def said(report: Report, level: Level = Level.REFUSED) -> list[str]:
    """All that was found of one level, with where."""
    return [f"{finding.where}: {finding.message}" for finding in report.findings if finding.level is level]


def states(report: Report, role: str, number: int = 0) -> list[str]:
    found = next(one for one in report.chain if one.role == role)
    return [signature.state for signature in found.quorums[number].signatures]


def republish(repo: Repo, role: str, data: bytes) -> dict[str, bytes]:
    """Publish `data` as the next file of a role, honestly listed."""
    above = {"line": ("snapshot", "timestamp"), "targets": ("snapshot", "timestamp"), "snapshot": ("timestamp",)}
    return repo.publish(role, *above.get(role, ()), **{role: data})


# --- all is well ------------------------------------------------------------------------------------------------------


def test_a_good_repository_has_nothing_to_be_said() -> None:
    report = judge(started().tree)
    assert (report.verdict, report.findings) == (Level.GOOD, ())
    assert [role.version for role in report.chain] == [1, 1, 1, 1]
    (line,) = report.lines
    assert (line.state, line.accepted, report.is_good(line)) == ("line", True, True)
    assert line.role is not None
    (quorum,) = line.role.quorums
    assert (quorum.delegator, quorum.threshold, quorum.keys, quorum.valid) == ("targets", 2, 3, 2)


def test_a_repository_without_a_line_has_nothing_to_install() -> None:
    repo = started()
    tree = republish(repo, "targets", repo.targets(version=2, edit=lambda s: s["delegations"].update(roles=[])))
    report = judge(tree)
    assert [line.state for line in report.lines] == ["retired"]
    assert "targets: delegates to no product line: nothing here can be installed" in said(report, Level.WARNING)


def test_it_says_what_it_reads() -> None:
    seen: list[Progress] = []
    tree = started().tree
    audit(TreeSource(tree), tree["metadata/1.root.json"], NOW, report=seen.append)
    names = ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json", "1.pump.json"]
    assert [step.step for step in seen] == [f"metadata: {name}" for name in names]


# --- roots ------------------------------------------------------------------------------------------------------------


def test_each_root_is_judged_under_both_and_says_what_it_changes() -> None:
    repo = started()
    repo.thresholds["targets"] = 3
    repo.keys["timestamp"] = keys("timestamp-2")
    repo.rotate("root")
    report = judge(repo.tree)
    assert report.verdict is Level.GOOD
    first, second = report.roots
    assert [quorum.delegator for quorum in second.quorums] == ["root 1", "this root"]
    assert [quorum.valid for quorum in second.quorums] == [2, 2]
    assert states(replace(report, roots=(second,)), "root") == ["valid", "valid", "unknown key", "unknown key"]
    assert "targets: threshold 2, now 3" in second.changes
    assert f"timestamp: key {key('timestamp-1').keyid[:16]} removed" in second.changes
    assert f"timestamp: key {key('timestamp-2').keyid[:16]} added" in second.changes
    assert first.changes == ()


def test_a_root_says_which_image_keys_it_revokes() -> None:
    repo = started()
    field = "x-hillhold-revoked-image-keys"
    repo.publish(root=repo.root(edit=lambda signed: signed.update({field: ["a" * 64, "b" * 64]})))
    repo.publish(root=repo.root(edit=lambda signed: signed.update({field: ["b" * 64]})))
    changes = [root.changes for root in judge(repo.tree).roots]
    assert changes[-2] == (f"image key {'a' * 16}… revoked", f"image key {'b' * 16}… revoked")
    assert changes[-1] == (f"image key {'a' * 16}… no longer revoked",)


def test_a_root_that_the_one_before_did_not_sign_ends_the_chain() -> None:
    repo = started()
    repo.publish(root=repo.root(version=2, signers=keys("mallory", "root-1")))
    repo.tree["metadata/3.root.json"] = b"never looked at"
    report = judge(repo.tree)
    assert said(report) == ["root 2: root signatures: expected 2 valid, got 1"]
    assert len(report.roots) == 2
    assert not report.is_good(report.lines[0])
    assert report.lines[0].findings == ()
    assert report.snapshot.quorums[0].delegator == "root 1"


def test_a_root_that_nobody_can_use_is_refused() -> None:
    repo = started()

    def unusable(signed: Object) -> None:
        signed["keys"][key("timestamp-1").keyid]["scheme"] = "new"

    repo.publish(root=repo.root(version=2, edit=unusable))
    assert said(judge(repo.tree)) == [
        "root 2: keys of role timestamp in the new root: expected 1 of an algorithm that this device can use, got 0;"
        " 1 of the role's keys cannot be used on this device (new)"
    ]


def test_a_given_root_that_is_not_signed_or_malformed() -> None:
    tree = started().tree
    repo = Repo()
    root = repo.root(version=1, signers=keys("root-1"))
    report = audit(TreeSource(tree), root, NOW)
    assert said(report) == ["root 1: root signatures: expected 2 valid, got 1"]
    with pytest.raises(MetadataError, match="root metadata"):
        audit(TreeSource(tree), b"{}", NOW)


def test_a_root_of_somebody_else() -> None:
    other = Repo()
    other.keys = {role: keys(f"{role}-x", f"{role}-y", f"{role}-z") for role in other.keys}
    other.publish()
    report = audit(TreeSource(started().tree), other.tree["metadata/1.root.json"], NOW)
    assert said(report, Level.WARNING) == ["root 1: 1.root.json of the source is another root than the given one"]
    assert [words.partition(": expected")[0] for words in said(report)] == [
        "timestamp: timestamp signatures",
        "snapshot: snapshot signatures",
        "targets: targets signatures",
    ]
    assert states(report, "snapshot") == ["unknown key"]
    assert report.lines[0].targets == (), "what nobody signed says nothing about files"


def test_quorums_of_one_are_warned_of_for_root_and_targets() -> None:
    repo = Repo()
    repo.thresholds |= {"root": 1, "targets": 1, "line": 1}
    repo.publish()
    assert said(judge(repo.tree), Level.WARNING) == [
        f"root 1: role {role} needs one signature only: whoever has one of its keys has all devices"
        for role in ("root", "targets")
    ]


# --- signatures -------------------------------------------------------------------------------------------------------


def test_each_signature_has_its_state() -> None:
    repo = started()
    one, two = repo.keys["line"][:2]
    repo.keys["line"] = [one, two, one.named("twin")]

    def unusable(signed: Object) -> None:
        delegations = signed["delegations"]
        delegations["keys"] |= {"new": {"keytype": "new", "scheme": "new", "keyval": {"public": "00"}}}
        delegations["roles"][0]["keyids"] += ["new", "nowhere"]
        delegations["keys"]["spare"] = key("spare").entry

    repo.publish("targets", "snapshot", "timestamp", targets=repo.targets(version=2, edit=unusable))

    def more(whole: Object) -> None:
        first = whole["signatures"][0]
        whole["signatures"] += [{"keyid": name, "sig": first["sig"]} for name in ("new", "spare", "stranger")]
        whole["signatures"].append({"keyid": two.keyid, "sig": "00" * 64})

    signers: list[SigningKey] = [one, one.named("twin")]
    report = judge(republish(repo, "line", repo.line(version=2, signers=signers, edit_envelope=more)))
    role = report.lines[0].role
    assert role is not None
    assert [signature.state for signature in role.quorums[0].signatures] == [
        *("valid", "counted already", "unusable here", "not of this role", "unknown key", "invalid"),
    ]
    assert (role.quorums[0].keys, role.quorums[0].valid) == (3, 1)
    assert said(report) == [
        "pump: pump signatures: expected 2 valid, got 1; 1 of the role's keys cannot be used on this device (new)"
    ]
    warned = said(report, Level.WARNING)
    assert f"pump: role pump: keys {one.keyid[:16]} and twin are the same key, which counts once" in warned
    assert "pump: role pump: key new (new, new) cannot be used on this machine" in warned
    assert "pump: role pump names key nowhere, which is not stated" in warned


def test_all_that_is_wrong_is_said_and_not_the_first_only() -> None:
    repo = started()
    for role in ("timestamp", "snapshot", "targets"):
        repo.publish(role, **{role: getattr(repo, role)(version=2, signers=keys("mallory"))})
    repo.publish("line", line=repo.line(version=2, expires=T0 - DAY, signers=keys("line-1")))
    repo.publish("snapshot", snapshot=repo.snapshot(version=3, signers=keys("mallory")))
    repo.publish("timestamp", timestamp=repo.timestamp(version=3, signers=keys("mallory")))
    assert said(judge(repo.tree)) == [
        "timestamp: timestamp signatures: expected 1 valid, got 0",
        "snapshot: snapshot signatures: expected 1 valid, got 0",
        "targets: targets signatures: expected 2 valid, got 0",
        "pump: pump signatures: expected 2 valid, got 1",
        "pump: pump metadata: expected unexpired at 2026-01-01T00:01:00Z, got expiry 2025-12-31T00:00:00Z",
    ]


# --- listings ---------------------------------------------------------------------------------------------------------


def test_every_mismatch_with_a_listing_is_said() -> None:
    repo = started()
    old = repo.files["line"]

    def wrong(signed: Object) -> None:
        signed["meta"]["pump.json"] = {"version": 7, "length": 5, "hashes": {"sha512": "0" * 128}}

    tree = republish(repo, "snapshot", repo.snapshot(version=2, edit=wrong))
    tree["metadata/7.pump.json"] = old
    found = said(judge(tree))
    assert [words.partition(", got")[0] for words in found] == [
        "pump: pump length: expected 5",
        "pump: pump hash: expected a SHA-256 from its lister",
        "pump: pump hash: expected 0000000000000000…",
        "pump: pump version: expected 7",
    ]


@pytest.mark.parametrize(
    ("name", "where", "judged"),
    [
        ("timestamp", "timestamp: timestamp metadata: expected timestamp.json, got none", 0),
        ("1.snapshot", "snapshot: snapshot metadata: expected 1.snapshot.json, got none", 0),
        ("1.targets", "targets: targets metadata: expected 1.targets.json, got none", 1),
        ("1.pump", "pump: pump metadata: expected 1.pump.json, got none", 1),
    ],
)
def test_a_missing_file_is_refused(name: str, where: str, judged: int) -> None:
    tree = started().tree
    del tree[f"metadata/{name}.json"]
    report = judge(tree)
    assert said(report) == [where]
    assert len(report.lines) == judged
    assert not any(line.accepted for line in report.lines)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "line"])
def test_a_malformed_file_is_refused_and_nothing_twice(role: str) -> None:
    repo = started()
    version = "" if role == "timestamp" else "1."
    repo.tree[f"metadata/{version}{'pump' if role == 'line' else role}.json"] = b"["
    words = said(judge(repo.tree))
    assert words
    assert len(set(words)) == len(words)
    assert all(found.startswith("pump:" if role == "line" else f"{role}:") for found in words)
    assert any("metadata text" in found for found in words)


class Broken(TreeSource):
    """A source of which some files cannot be read."""

    def __init__(self, tree: Mapping[str, bytes], *broken: str) -> None:
        super().__init__(tree)
        self.broken = broken

    def metadata(self, name: str) -> bytes | None:
        if name in self.broken:
            raise OperationalError(f"{name}: Input/output error")
        return super().metadata(name)


@pytest.mark.parametrize("name", ["1.root.json", "2.root.json", "timestamp.json", "1.targets.json", "1.pump.json"])
def test_what_cannot_be_read_is_neither_good_nor_refused(name: str) -> None:
    tree = started().tree
    report = audit(Broken(tree, name), tree["metadata/1.root.json"], NOW)
    assert report.verdict is Level.UNREAD
    assert said(report) == []
    assert any(f"{name}: Input/output error" in words for words in said(report, Level.UNREAD))


# --- dates ------------------------------------------------------------------------------------------------------------


def test_what_people_sign_is_warned_of_before_it_expires() -> None:
    repo = started()
    for role in ("root", "targets", "line"):
        repo.expires[role] = NOW + SOON
    repo.expires["timestamp"] = NOW + HOUR
    repo.publish("root", "targets", "line", "snapshot", "timestamp")
    words = said(judge(repo.tree), Level.WARNING)
    assert words == [f"{where}: expires in 14 days" for where in ("root 2", "targets", "pump")]
    assert said(judge(repo.tree, NOW - 1), Level.WARNING) == []


def test_each_file_that_has_expired_is_refused() -> None:
    tree = started().tree
    words = said(judge(tree, T0 + 3 * YEAR))
    assert [text.partition(": expected")[0] for text in words] == [
        *("root 1: root metadata", "timestamp: timestamp metadata", "snapshot: snapshot metadata"),
        *("targets: targets metadata", "pump: pump metadata"),
    ]
    (words,) = [said(judge(tree, T0 + 8 * DAY))]
    assert {text.partition(": expected")[0] for text in words} == {
        *("timestamp: timestamp metadata", "pump: timestamp metadata"),
    }


def test_only_a_timestamp_that_is_signed_moves_the_time() -> None:
    repo = started()
    report = judge(republish(repo, "timestamp", repo.timestamp(version=2, issued=T0 + 3 * DAY)))
    assert (report.now, report.issued, report.verdict) == (T0 + 3 * DAY, T0 + 3 * DAY, Level.WARNING)
    thief = repo.timestamp(version=3, issued=T0 + 99 * DAY, signers=keys("mallory"))
    assert judge(republish(repo, "timestamp", thief)).now == NOW


def test_grace_is_told_and_capped() -> None:
    repo = Repo()
    repo.offline_grace, repo.max_offline_grace = 9 * DAY, 3 * DAY
    repo.publish()
    report = judge(repo.tree, T0 + 8 * DAY)
    assert report.verdict is Level.WARNING
    assert (report.lines[0].accepted, report.lines[0].grace_used) == (True, DAY)
    assert said(report, Level.WARNING) == [
        "timestamp: expired 24 hours ago: accepted by lines with an offline grace only",
        f"pump: offline grace: {9 * DAY} s, of which {3 * DAY} s count",
        "pump: accepted by its offline grace only",
    ]
    assert judge(repo.tree, T0 + 10 * DAY).verdict is Level.REFUSED


# --- lines ------------------------------------------------------------------------------------------------------------


def two_lines() -> tuple[Repo, Repo]:
    """A repository with a second product line, `valve`, and the repository that makes that line's files."""
    repo, valve = started(), Repo("valve")
    valve.keys["line"] = keys("valve-1", "valve-2", "valve-3")
    offer(valve, "1.0.0")
    valve.publish()
    return repo, valve


def joined(repo: Repo, valve: Repo, *, delegate: bool = True, mention: bool = True) -> dict[str, bytes]:
    """Publish the lines of both."""

    def delegated(signed: Object) -> None:
        other: Object = {}
        valve.targets(edit=other.update)
        signed["delegations"]["keys"] |= other["delegations"]["keys"]
        signed["delegations"]["roles"] += other["delegations"]["roles"]

    def listed(signed: Object) -> None:
        signed["meta"]["valve.json"] = listing(valve.files["line"])

    targets = repo.targets(version=2, edit=delegated if delegate else dict)
    snapshot = repo.snapshot(version=2, targets=targets, edit=listed if mention else dict)
    own = {name: data for name, data in valve.tree.items() if "valve" in name}
    return {**repo.publish("timestamp", targets=targets, snapshot=snapshot), **own}


def by_product(report: Report) -> dict[str, LineReport]:
    return {line.product: line for line in report.lines}


def test_two_lines_of_which_one_is_bad() -> None:
    repo, valve = two_lines()
    valve.publish(line=valve.line(version=2, signers=keys("line-1", "line-2")))
    report = judge(joined(repo, valve))
    assert said(report) == ["valve: valve signatures: expected 2 valid, got 0"]
    lines = by_product(report)
    assert report.is_good(lines["pump"])
    assert not report.is_good(lines["valve"])
    assert lines["valve"].targets == (), "what nobody signed says nothing about files"
    assert judge(repo.tree, NOW, 1, "pump").verdict is Level.GOOD


@pytest.mark.parametrize(
    ("delegate", "mention", "state", "level"),
    [
        (True, True, "line", Level.GOOD),
        (True, False, "unlisted", Level.REFUSED),
        (False, True, "retired", Level.WARNING),
    ],
)
def test_a_line_that_is_half_there(delegate: bool, mention: bool, state: str, level: Level) -> None:
    report = judge(joined(*two_lines(), delegate=delegate, mention=mention))
    line = by_product(report)["valve"]
    assert (line.state, report.verdict) == (state, level)
    assert report.is_good(by_product(report)["pump"])


def test_a_product_that_is_asked_for_has_to_be_a_line() -> None:
    tree = joined(*two_lines(), delegate=False)
    for product, state in (("valve", "retired"), ("nothing", "absent"), ("x" * 300, "absent")):
        report = judge(tree, NOW, 1, product, product)
        assert [line.state for line in report.lines] == [state]
        assert report.verdict is Level.REFUSED
    del tree["metadata/1.targets.json"], tree["metadata/2.targets.json"]
    assert any("a chain that is whole" in words for words in said(judge(tree, NOW, 1, "pump")))


def test_roles_that_no_device_follows_are_told() -> None:
    repo = started()

    def other(signed: Object) -> None:
        signed["delegations"]["roles"][0]["paths"] = ["pump/*"]
        signed["targets"] = {"a": {"length": 0, "hashes": {"sha256": "0" * 64}}}

    report = judge(republish(repo, "targets", repo.targets(version=2, edit=other)))
    assert report.lines[0].state == "other"
    assert report.verdict is Level.WARNING
    assert "targets: lists 1 targets itself: devices look at product lines only" in said(report, Level.WARNING)

    repo = started()
    nested = repo.line(version=2, edit=lambda signed: signed.update(delegations=_delegations(repo)))
    assert "pump: delegates to further roles: no device follows" in said(
        judge(republish(repo, "line", nested)), Level.WARNING
    )


def _delegations(repo: Repo) -> Object:
    signed: Object = {}
    repo.targets(edit=signed.update)
    found: Object = signed["delegations"]
    return found
