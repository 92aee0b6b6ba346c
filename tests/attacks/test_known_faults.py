"""Faults that other update systems had, and what their users asked for: each by the number under which it is known.

Every test begins with a legitimate update, and holds that what is refused changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256

import pytest

from bench import CLOCK, Bench, Rig, installed, unchanged
from forge import DAY, T0, YEAR, Object, Repo, key, keys
from hillhold_verifier.agent import CHOOSE
from hillhold_verifier.answers import BoardRefused
from hillhold_verifier.client import Client
from hillhold_verifier.errors import ExpiredError, MismatchError, MissingError, Refused, RollbackError, SignatureError
from hillhold_verifier.keys import Key
from hillhold_verifier.mcuboot import parse_image
from hillhold_verifier.metadata import MAX_SIGNATURES, parse_root
from hillhold_verifier.smp import ImageCommand, Op
from hillhold_verifier.trust import Trust
from holder import fresh, listed, take
from offers import image, offer, started

STATE = ImageCommand.STATE


def with_newer() -> Bench:
    """A board that a legitimate update brought to 1.0.0; 1.1.0 is published."""
    bench = installed()
    offer(bench.repo, "1.1.0", 2)
    bench.repo.publish()
    return bench


def refused(bench: Bench, tree: dict[str, bytes] | None = None) -> tuple[int, str]:
    with pytest.raises(BoardRefused) as caught:
        bench.push(tree)
    return caught.value.board_code, str(caught.value)


# --- TUF implementations ----------------------------------------------------------------------------------------------


@contextmanager
def verifications(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Key]]:
    """Collect the keys of every signature check within."""
    asked: list[Key] = []
    whole = Key.verifies

    def counted(self: Key, signature: bytes, message: bytes) -> bytes | None:
        asked.append(self)
        return whole(self, signature, message)

    with monkeypatch.context() as patch:
        patch.setattr(Key, "verifies", counted)
        yield asked


@pytest.mark.parametrize("role", ["root", "timestamp"])
@pytest.mark.parametrize("by", ["the role's keys", "strangers"])
def test_many_signatures_cost_no_more_checks_than_the_role_has_keys(
    monkeypatch: pytest.MonkeyPatch, role: str, by: str
) -> None:
    """CVE-2020-6173 (python-tuf #973): hundreds of signatures in one file kept a client busy for minutes."""
    bench = with_newer()
    own = bench.repo.keys[role]

    def flood(count: int) -> dict[str, bytes]:
        def edit(whole: Object) -> None:
            ids = [one.keyid for one in own] if by == "the role's keys" else []
            ids += [f"{n:064x}" for n in range(count - len(ids))]
            whole["signatures"] = [{"keyid": keyid, "sig": "ab" * 64} for keyid in ids]

        made = bench.repo.root(edit_envelope=edit) if role == "root" else bench.repo.timestamp(edit_envelope=edit)
        return {**bench.repo.tree, "metadata/2.root.json" if role == "root" else "metadata/timestamp.json": made}

    for count, most in ((MAX_SIGNATURES, len(own) if by == "the role's keys" else 0), (MAX_SIGNATURES + 1, 0)):
        with unchanged(bench), verifications(monkeypatch) as asked:
            with pytest.raises(Refused):  # what no parser takes, the courier does not even bring
                bench.push(flood(count))
            assert len(asked) <= most
    assert bench.push().installed == "pump/1.1.0/app.bin"


def test_keys_that_a_new_root_brings_are_not_asked_before_the_old_quorum_has_signed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CVE-2020-6173 by the other way: a forged root may name as many slow keys as it has room for."""
    bench = with_newer()
    crowd = keys(*(f"crowd-{n}" for n in range(MAX_SIGNATURES)))
    forged = bench.repo.root(keys={"root": crowd}, thresholds={"root": MAX_SIGNATURES}, signers=crowd)
    with unchanged(bench), verifications(monkeypatch) as asked:
        refused(bench, {**bench.repo.tree, "metadata/2.root.json": forged})
        assert asked == []


def test_a_delegation_to_a_crowd_costs_no_more_checks_than_a_file_has_signatures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CVE-2020-6173 once more: whoever holds the online keys lists a line role with as many wrong signatures as fit."""
    repo = Repo()
    repo.keys["line"] = keys(*(f"crowd-{n}" for n in range(300)))
    repo.add_release("1.1.0", b"image")
    repo.publish()

    def flood(whole: Object) -> None:
        whole["signatures"] = [{"keyid": one.keyid, "sig": "ab" * 64} for one in repo.keys["line"][:MAX_SIGNATURES]]

    files = listed(repo, "line", repo.line(edit_envelope=flood))
    before = take(fresh(repo), files, "timestamp", "snapshot", "targets")
    with verifications(monkeypatch) as asked:
        for _ in range(3):
            with pytest.raises(SignatureError):
                take(before, files, "line")
    assert len(asked) == 3 * MAX_SIGNATURES


def test_what_has_expired_still_guards_against_what_is_older() -> None:
    """python-tuf #1498: held timestamp and snapshot that had expired were not used to check for rollback."""
    bench = installed()
    repo = bench.repo
    repo.expires["timestamp"] = repo.expires["snapshot"] = T0 + YEAR
    repo.publish()
    older = dict(repo.tree)
    repo.expires["timestamp"] = repo.expires["snapshot"] = T0 + 7 * DAY
    offer(repo, "1.1.0", 2)
    repo.publish()
    bench.check()
    bench.clock = T0 + 30 * DAY
    with unchanged(bench):
        assert bench.own(Op.READ, CHOOSE)["err"]["rc"] == ExpiredError.code  # type: ignore[index]
        assert refused(bench, older)[0] == RollbackError.code, "unexpired, and older than what expired"
        thief = repo.timestamp(snapshot=older["metadata/2.snapshot.json"], expires=T0 + YEAR)
        code, words = refused(bench, {**older, "metadata/timestamp.json": thief})
        assert (code, words) == (RollbackError.code, "snapshot version in timestamp: expected at least 3, got 2")


def test_what_is_held_but_no_longer_listed_is_asked_for_anew() -> None:
    """python-tuf #1563: a held snapshot that served the rollback check was taken for the current one, and not fetched again."""
    bench = with_newer()
    bench.check()
    repo = bench.repo
    repo.publish("snapshot", "timestamp")
    rig = Rig(repo, flash=bench.flash, boots=False)
    need = rig.installer.receive("timestamp", repo.files["timestamp"], CLOCK)
    assert need is not None
    assert (need.role, need.version) == ("snapshot", repo.versions["snapshot"])
    with pytest.raises(MissingError, match="snapshot"):
        rig.installer.choose(CLOCK)
    assert rig.installer.receive("snapshot", repo.files["snapshot"], CLOCK) is None, "the rest is listed as it is held"
    assert rig.installer.choose(CLOCK).plan


def test_a_snapshot_of_another_hash_still_guards_what_it_listed() -> None:
    """python-tuf #1523: where the new timestamp stated another hash, the held snapshot was dropped before it was compared."""
    bench = with_newer()
    bench.check()
    repo = bench.repo
    older = repo.tree["metadata/1.pump.json"]
    snapshot = repo.snapshot(line=older)
    forged = {
        **repo.tree,
        "metadata/3.snapshot.json": snapshot,
        "metadata/timestamp.json": repo.timestamp(snapshot=snapshot),
    }
    with unchanged(bench):
        code, words = refused(bench, forged)
        assert (code, words) == (RollbackError.code, "pump version in snapshot: expected at least 2, got 1")


def test_a_line_is_judged_by_its_delegator_of_now() -> None:
    """python-tuf #2978: a delegated role that had been verified once was not verified again under the new delegator."""
    bench = with_newer()
    bench.check()
    repo = bench.repo
    repo.keys["line"] = keys("line-7", "line-8")
    repo.publish("targets", "snapshot", "timestamp")  # the line's file stays as it was, by the keys of before
    with unchanged(bench):
        assert refused(bench) == (MissingError.code, "pump metadata: expected version 2, got none that is valid")
        rig = Rig(repo, flash=bench.flash, boots=False)
        assert rig.installer.receive("timestamp", repo.files["timestamp"], CLOCK) is not None
        with pytest.raises(SignatureError, match="pump"):
            rig.installer.receive("pump", repo.files["line"], CLOCK)
    repo.publish()
    assert bench.push().installed == "pump/1.1.0/app.bin"


def test_a_role_of_two_delegators_is_judged_by_each() -> None:
    """python-tuf #2978 again: `shared` is signed by the key that `a` names for it; what `b` delegates to it needs another."""
    repo = Repo()
    repo.publish()
    owner = key("owner")

    def role(name: str, path: str, signer: str) -> Object:
        return {"keyids": [key(signer).keyid], "name": name, "paths": [path], "terminating": False, "threshold": 1}

    def delegating(*roles: Object) -> bytes:
        names = ("owner", "shared-a", "shared-b")
        known = {key(name).keyid: key(name).entry for name in names}
        return repo.line(
            version=1,
            signers=[owner],
            edit=lambda signed: signed.update(targets={}, delegations={"keys": known, "roles": list(roles)}),
        )

    def entry(data: bytes) -> Object:
        return {"length": len(data), "hashes": {"sha256": sha256(data).hexdigest()}}

    files = {
        "a": delegating(role("shared", "a/*", "shared-a")),
        "b": delegating(role("shared", "b/*", "shared-b")),
        "shared": repo.line(
            version=1,
            signers=[key("shared-a")],
            edit=lambda signed: signed.update(targets={"a/x": entry(b"a"), "b/x": entry(b"b")}),
        ),
    }

    def top(signed: Object) -> None:
        signed["delegations"]["keys"][owner.keyid] = owner.entry
        signed["delegations"]["roles"] = [role("a", "a/*", "owner"), role("b", "b/*", "owner")]

    targets = repo.targets(edit=top)
    listed = {f"{name}.json": {"version": 1} for name in files}
    snapshot = repo.snapshot(targets=targets, edit=lambda signed: signed["meta"].update(listed))
    tree = repo.publish(targets=targets, snapshot=snapshot, timestamp=repo.timestamp(snapshot=snapshot))
    tree |= {f"metadata/1.{name}.json": data for name, data in files.items()}

    def fetch(role: str, version: int | None, _: int) -> bytes | None:
        return tree.get(f"metadata/{version}.{role}.json" if version else f"metadata/{role}.json")

    client = Client(Trust(parse_root(tree["metadata/1.root.json"])), {}, CLOCK, fetch, lambda *_: None)
    client.refresh()
    assert client.find("a/x") is not None
    with pytest.raises(SignatureError, match="shared"):
        client.find("b/x")


# --- bundles and devices ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 4095, 4096, 8191, -1])
def test_every_byte_of_an_image_is_under_its_hash(at: int) -> None:
    """RAUC CVE-2026-34155: of a large bundle only the first bytes were signed. Here at the edges of what is hashed at a time."""
    bench = installed()
    data = offer(bench.repo, "1.1.0", 2, data=image("1.1.0", 2, length=12_000))
    tree = bench.repo.publish()
    name = next(name for name, blob in tree.items() if blob == data)
    spoilt = bytearray(data)
    spoilt[at] ^= 1
    code, words = refused(bench, {**tree, name: bytes(spoilt)})
    assert (code, words.partition(":")[0]) == (MismatchError.code, "image hash")
    facts = bench.facts_after_reset()
    assert (facts.running, facts.mark, facts.counter) == ("1.0.0", None, 1)
    assert bench.push().installed == "pump/1.1.0/app.bin"


@pytest.mark.parametrize("at", [0, 60_000, 69_999])
def test_every_byte_of_a_large_file_of_metadata_is_under_its_signatures(at: int) -> None:
    """The same of a line role of more than 64 KiB, whose online keys the forger holds."""
    repo = Repo()
    repo.add_release("1.0.0", b"one", notes="n" * 70_000)
    repo.publish()
    whole = repo.files["line"]
    assert len(whole) > 70_000
    forged = bytearray(whole)
    forged[whole.index(b"nnnn") + at] = ord("m")
    files = {**repo.files, "line": bytes(forged), "snapshot": repo.snapshot(line=bytes(forged))}
    files["timestamp"] = repo.timestamp(snapshot=files["snapshot"])
    rig = Rig(started())
    rig.repo = repo
    with unchanged(rig), pytest.raises(SignatureError, match="pump signatures"):
        rig.take(files)


def test_what_expired_on_the_shelf_does_not_keep_new_metadata_out() -> None:
    """aktualizr #1185: stored metadata that had expired made the device refuse to look for newer."""
    bench = with_newer()
    bench.check()
    bench.clock = T0 + YEAR + DAY
    with unchanged(bench):
        assert refused(bench)[0] == ExpiredError.code
    bench.repo.expires = dict.fromkeys(bench.repo.expires, T0 + 3 * YEAR)
    bench.repo.publish("root", "targets", "line", "snapshot", "timestamp")
    assert bench.push().installed == "pump/1.1.0/app.bin"


def test_a_stick_older_than_the_device_is_refused_and_what_lies_on_it_may_serve() -> None:
    """aktualizr-lite #308, #314: metadata of an offline bundle that is older than the device's own.

    It is not taken, and says so; an image on it that the device's own metadata still choose is as good as from anywhere.
    """
    bench = with_newer()
    stick = dict(bench.repo.tree)
    bench.repo.publish()
    bench.check()
    with unchanged(bench):
        assert refused(bench, stick) == (RollbackError.code, "timestamp version: expected at least 3, got 2")
    rig = Rig(bench.repo, flash=bench.flash, boots=False)
    (release,) = rig.installer.choose(CLOCK).plan
    data = stick[f"targets/pump/1.1.0/{release.sha256.hex()}.app.bin"]
    assert rig.trial(data).trial
    rig.installer.confirm(self_tested=True)
    assert rig.facts().running == "1.1.0"


def test_a_version_that_did_not_increase_replaces_nothing() -> None:
    """uptane-standard #268: a replayed file of the *same* version passed the check for lower ones."""
    bench = with_newer()
    bench.check()
    repo = bench.repo
    other = repo.line(version=2, edit=lambda signed: signed["targets"].clear())
    snapshot = repo.snapshot(version=2, line=other)
    again = {
        **repo.tree,
        "metadata/2.pump.json": other,
        "metadata/2.snapshot.json": snapshot,
        "metadata/timestamp.json": repo.timestamp(version=2, snapshot=snapshot),
    }
    with unchanged(bench):
        held = bench.stored().trust
        bench.check(again)  # the timestamp of the held version changed nothing, so that no other file is asked for
        assert bench.stored().trust == held
    assert bench.push().installed == "pump/1.1.0/app.bin"


def test_a_time_that_was_fast_forwarded_locks_nobody_out() -> None:
    """uptane-standard #267, #31, #169: whoever signs the time once signs it far ahead, and everything has expired for ever."""
    bench = with_newer()
    thief = bench.repo.timestamp(issued=T0 + 70 * YEAR, expires=T0 + 71 * YEAR)
    with unchanged(bench):
        code, _ = refused(bench, {**bench.repo.tree, "metadata/timestamp.json": thief})
        assert code == ExpiredError.code
        assert refused(bench)[0] == ExpiredError.code
    assert bench.held().time == T0 + 70 * YEAR
    bench.repo.rotate("timestamp", "snapshot")
    assert bench.push().installed == "pump/1.1.0/app.bin"
    assert bench.held().time == T0


@pytest.mark.parametrize("counter", [1, 2])
def test_another_image_of_the_confirmed_version_is_refused(counter: int) -> None:
    """MCUboot #1899, #1740: downgrade prevention let an image of the same version through."""
    bench = installed()
    other = image("1.0.0", counter, seed=9)
    path = bench.repo.add_release("1.0.0", other, counter=counter, file="other.bin")
    bench.repo.change(path, format="mcuboot")
    bench.repo.publish()
    with unchanged(bench):
        pushed = bench.push()
        assert pushed.installed is None
        assert (path, "refused", "another image of the confirmed version 1.0.0") in pushed.reasons


@pytest.mark.parametrize("confirm", [False, True], ids=["test", "confirm"])
def test_no_mode_lets_an_older_image_in(confirm: bool) -> None:
    """MCUboot #1708: the check for downgrades held for TEST, and not for CONFIRM. The older image is whole in the other slot."""
    bench = with_newer()
    bench.push()
    older = parse_image(image("1.0.0")).sha256
    with unchanged(bench):
        answer = bench.image(STATE, {"hash": older, "confirm": confirm})
        assert "err" in answer
    assert bench.facts().running == "1.1.0"
