"""What a courier, a mirror or a man in the middle can do with a repository's files: each is refused, and the right image runs on.

Every test begins with a board that a legitimate update brought to 1.1.0, and holds afterwards, through a reset, that what runs,
what is confirmed, both slots and the counter are as before, and that no floor went down (`unchanged`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import pytest

from bench import CLOCK, MANUAL, Bench, installed, unchanged
from forge import DAY, T0, Object, Repo, key, keys
from hillhold_verifier.agent import CHOOSE, METADATA
from hillhold_verifier.answers import BoardRefused, Body
from hillhold_verifier.courier import Pushed
from hillhold_verifier.errors import (
    ExpiredError,
    MetadataError,
    MismatchError,
    MissingError,
    OrderError,
    Refused,
    RollbackError,
    SignatureError,
)
from hillhold_verifier.select import Device
from hillhold_verifier.smp import HILLHOLD_GROUP, Op
from hillhold_verifier.wire import base_name, deflate
from offers import image, offer, offer_patch, started


def up_to_date() -> Bench:
    """A board that a legitimate update, by patch, brought from 1.0.0 to 1.1.0 with counter 2."""
    bench = installed()
    new = offer(bench.repo, "1.1.0", 2)
    offer_patch(bench.repo, "1.1.0", image("1.0.0"), new)
    bench.repo.publish()
    assert bench.push().how == "patch"
    facts = bench.facts_after_reset()
    assert (facts.running, facts.confirmed, facts.counter) == ("1.1.0", 1, 2)
    return bench


def push_is_refused(bench: Bench, tree: Mapping[str, bytes] | None, error: type[Refused]) -> str:
    """Return the board's own words."""
    with pytest.raises(BoardRefused) as caught:
        bench.push(tree)
    assert caught.value.board_code == error.code, str(caught.value)
    return str(caught.value)


def nothing_is_installed(bench: Bench, tree: Mapping[str, bytes] | None = None) -> str:
    """Return the board's verdicts on all candidates."""
    pushed: Pushed = bench.push(tree)
    assert pushed.installed is None
    return "; ".join(f"{path} {outcome}: {reason}" for path, outcome, reason in pushed.reasons)


def thief(bench: Bench) -> Repo:
    """A copy of the repository with which others do what they want."""
    return copy.deepcopy(bench.repo)


# --- old and mixed files ----------------------------------------------------------------------------------------------


def test_an_older_repository_is_served_again() -> None:
    bench = installed()
    old = dict(bench.repo.tree)
    offer(bench.repo, "1.1.0", 2)
    bench.repo.publish()
    assert bench.push().installed == "pump/1.1.0/app.bin"
    with unchanged(bench):
        words = push_is_refused(bench, old, RollbackError)
    assert words == "timestamp version: expected at least 2, got 1"


@pytest.mark.parametrize("role", ["snapshot", "targets", "pump"])
def test_a_file_of_another_time_under_the_name_of_the_listed_one(role: str) -> None:
    bench = up_to_date()
    repo = bench.repo
    offer(repo, "1.2.0", 2)
    old = {name: data for name, data in repo.tree.items() if name.endswith(f".{role}.json")}
    repo.publish("targets", "line", "snapshot", "timestamp")
    assert (repo.versions["snapshot"], repo.versions["targets"], repo.versions["line"]) == (3, 2, 3)
    version = repo.versions["line" if role == "pump" else role]
    mixed = {**repo.tree, f"metadata/{version}.{role}.json": old[f"metadata/{version - 1}.{role}.json"]}
    with unchanged(bench):
        deliver(bench, 1, repo.tree["metadata/timestamp.json"])
        for number, name in enumerate(("snapshot", "targets", "pump"), 2):
            listed = repo.versions["line" if name == "pump" else name]
            answer = deliver(bench, number, mixed[f"metadata/{listed}.{name}.json"])
            if name == role:
                break
            assert "err" not in answer
        assert answer["err"] == {"group": HILLHOLD_GROUP, "rc": MismatchError.code}
        assert f"{role} hash: expected" in bench.refusal()
        with pytest.raises(BoardRefused) as caught:
            bench.push(mixed)  # an honest courier does not send what the board holds, and another file is missing then
        assert caught.value.board_code in (MissingError.code, OrderError.code)
    assert bench.push().installed == "pump/1.2.0/app.bin"


def test_the_newer_timestamp_alone_makes_nothing_selectable() -> None:
    bench = up_to_date()
    offer(bench.repo, "1.2.0", 2)
    bench.repo.publish()
    newest = bench.repo.tree["metadata/timestamp.json"]
    with unchanged(bench):
        torn = {**bench.repo.tree, "metadata/timestamp.json": newest, "metadata/3.snapshot.json": b"{}"}
        with pytest.raises(MetadataError):  # already the courier, who decides nothing, cannot read on
            bench.push(torn)
        assert deliver(bench, 1, newest)["need"] == "snapshot"
        answer = bench.own(Op.READ, CHOOSE)
        assert answer["err"] == {"group": HILLHOLD_GROUP, "rc": MissingError.code}
    assert bench.push().installed == "pump/1.2.0/app.bin"


def deliver(bench: Bench, number: int, raw: bytes) -> Body:
    """Send one metadata file as a courier without a conscience does: in pieces, without a base."""
    packed = deflate(raw, b"")
    answer: Body = {}
    for at in range(0, len(packed), 700):
        head = {"o": at} if at else {"n": len(packed), "l": len(raw), "b": base_name(b"")}
        answer = bench.own(Op.WRITE, METADATA, {"f": number, **head, "d": packed[at : at + 700]})
    return answer


# --- freeze -----------------------------------------------------------------------------------------------------------


def test_a_repository_that_stands_still_installs_nothing_once_it_has_expired() -> None:
    bench = up_to_date()
    offer(bench.repo, "1.2.0", 2)
    bench.repo.publish()
    bench.clock = T0 + 7 * DAY
    with unchanged(bench):
        assert push_is_refused(bench, None, ExpiredError).startswith("timestamp metadata: expected unexpired")
    bench.clock = T0 + 7 * DAY - 1
    assert bench.push().installed == "pump/1.2.0/app.bin"


@pytest.mark.parametrize(("days", "accepted"), [(9, True), (10, False), (12, False)])
def test_offline_grace_lasts_as_long_as_the_line_says(days: int, accepted: bool) -> None:
    bench = up_to_date()
    offer(bench.repo, "1.2.0", 2)
    bench.repo.offline_grace = 3 * DAY
    bench.repo.publish()
    bench.clock = T0 + days * DAY
    if accepted:
        assert bench.push().installed == "pump/1.2.0/app.bin"
        assert bench.facts_after_reset().running == "1.2.0"
    else:
        with unchanged(bench):
            push_is_refused(bench, None, ExpiredError)


def test_offline_grace_is_capped_by_the_delegation() -> None:
    bench = up_to_date()
    offer(bench.repo, "1.2.0", 2)
    bench.repo.offline_grace, bench.repo.max_offline_grace = 30 * DAY, DAY
    bench.repo.publish("targets", "line", "snapshot", "timestamp")
    bench.clock = T0 + 9 * DAY
    with unchanged(bench):
        push_is_refused(bench, None, ExpiredError)


@pytest.mark.parametrize("role", ["targets", "line"])
def test_grace_is_none_for_what_people_sign(role: str) -> None:
    bench = up_to_date()
    offer(bench.repo, "1.2.0", 2)
    bench.repo.offline_grace = 30 * DAY
    bench.repo.expires[role] = T0 + DAY
    bench.repo.publish("targets", "line", "snapshot", "timestamp")
    bench.clock = T0 + DAY
    with unchanged(bench):
        push_is_refused(bench, None, ExpiredError)


# --- the clock --------------------------------------------------------------------------------------------------------


def test_a_clock_that_is_ahead_refuses_while_it_is_wrong_and_no_longer() -> None:
    bench = up_to_date()
    offer(bench.repo, "1.2.0", 2)
    bench.repo.publish()
    bench.clock = T0 + 3650 * DAY
    with unchanged(bench):
        push_is_refused(bench, None, ExpiredError)
    bench.clock = CLOCK
    assert bench.push().installed == "pump/1.2.0/app.bin"


@pytest.mark.parametrize("clock", [T0 - 365 * DAY, 0, None])
def test_a_clock_set_back_un_expires_nothing(clock: int | None) -> None:
    bench = up_to_date()
    offer(bench.repo, "1.2.0", 2)
    bench.repo.expires["line"] = T0 + 5 * DAY
    bench.repo.issued = T0 + 6 * DAY
    bench.repo.publish()
    bench.clock = clock
    with unchanged(bench):
        assert "pump metadata" in push_is_refused(bench, None, ExpiredError)
    assert bench.held().time == T0 + 6 * DAY


# --- signatures -------------------------------------------------------------------------------------------------------


def one_signature(repo: Repo, role: str) -> bytes:
    made: bytes = getattr(repo, role)(signers=repo.keys[role][:1])
    return made


def one_key_twice(repo: Repo, role: str) -> bytes:
    first = repo.keys[role][0]
    made: bytes = getattr(repo, role)(signers=[first, first])
    return made


def one_key_under_two_ids(repo: Repo, role: str) -> bytes:
    first = repo.keys[role][0]
    made: bytes = getattr(repo, role)(signers=[first, first.named("ab" * 32)])
    return made


def a_stranger_under_an_honest_id(repo: Repo, role: str) -> bytes:
    first, second = repo.keys[role][:2]
    made: bytes = getattr(repo, role)(signers=[first, key("mallory").named(second.keyid)])
    return made


def strangers(repo: Repo, role: str) -> bytes:
    made: bytes = getattr(repo, role)(signers=keys("mallory", "eve"))
    return made


def changed_after_signing(repo: Repo, role: str) -> bytes:
    def edit(whole: Object) -> None:
        whole["signed"]["expires"] = "2030-01-01T00:00:00Z"

    made: bytes = getattr(repo, role)(edit_envelope=edit)
    return made


@pytest.mark.parametrize("role", ["line", "targets", "root"])
@pytest.mark.parametrize(
    "forge",
    [
        one_signature,
        one_key_twice,
        one_key_under_two_ids,
        a_stranger_under_an_honest_id,
        strangers,
        changed_after_signing,
    ],
)
def test_less_than_a_quorum(forge: Callable[[Repo, str], bytes], role: str) -> None:
    """The thief holds snapshot and timestamp, so that everything else is in order."""
    bench = up_to_date()
    repo = thief(bench)
    offer(repo, "6.6.6", 2)
    repo.publish("line", "snapshot", "timestamp", **{role: forge(repo, role)})
    with unchanged(bench):
        with pytest.raises(BoardRefused) as caught:
            bench.push(repo.tree)
        assert caught.value.board_code in (SignatureError.code, MetadataError.code)
    offer(bench.repo, "1.2.0", 2)
    bench.repo.rotate("snapshot", "timestamp")  # what the thief's files claimed stands until their keys are replaced
    assert bench.push().installed == "pump/1.2.0/app.bin"


def test_one_key_listed_under_two_ids_is_one_of_two() -> None:
    bench = up_to_date()
    repo = thief(bench)
    offer(repo, "6.6.6", 2)
    first = key("line-1")
    repo.keys["line"] = [first, first.named("cd" * 32)]
    repo.publish("targets", "line", "snapshot", "timestamp")
    with unchanged(bench), pytest.raises(BoardRefused) as caught:
        bench.push(repo.tree)
    assert caught.value.board_code in (SignatureError.code, MetadataError.code)


# --- other lines, hardware, products ----------------------------------------------------------------------------------


def test_another_line_signs_in_the_name_of_this_one() -> None:
    bench = up_to_date()
    repo = thief(bench)
    valve = keys("valve-1", "valve-2")

    def delegate(signed: Object) -> None:
        roles = signed["delegations"]["roles"]
        mine = {"keyids": [one.keyid for one in valve], "name": "valve", "paths": ["valve/*/*"], "threshold": 2}
        signed["delegations"]["keys"].update({one.keyid: one.entry for one in valve})
        roles.append({**roles[0], **mine})

    offer(repo, "6.6.6", 2)
    repo.publish("snapshot", "timestamp", targets=repo.targets(edit=delegate), line=repo.line(signers=valve))
    with unchanged(bench):
        assert "pump signatures" in push_is_refused(bench, repo.tree, SignatureError)


def test_the_file_of_another_line_as_that_of_this_one() -> None:
    bench = up_to_date()
    repo, other = thief(bench), Repo("valve")
    offer(other, "6.6.6", 2)
    other.keys["line"] = keys("valve-1", "valve-2")
    other.publish()
    repo.publish("snapshot", "timestamp", line=other.line(version=9))
    with unchanged(bench), pytest.raises(BoardRefused) as caught:
        bench.push(repo.tree)
    assert caught.value.board_code in (SignatureError.code, MetadataError.code)


@pytest.mark.parametrize(
    ("custom", "reason"),
    [
        ({"hardware": ["nrf-b"]}, "for hardware nrf-b; this device is nrf-a"),
        ({"hardware": ["nrf-a", "zynq"]}, "names hardware zynq, which the line may not"),
        ({"component": "radio"}, "for component radio; this device has app"),
        ({"crit": ["phase-of-moon"]}, "needs a device that understands phase-of-moon"),
        ({"requires": {"radio": "2.0.0"}}, "requires radio 2.0.0"),
        ({"withdrawn": "it leaks"}, "withdrawn: it leaks"),
    ],
    ids=["hardware", "foreign-hardware", "component", "crit", "requires", "withdrawn"],
)
def test_a_release_for_another_device_is_passed_over(custom: Mapping[str, object], reason: str) -> None:
    bench = up_to_date()
    bench.repo.hardware = ["nrf-a", "nrf-b"]
    offer(bench.repo, "1.2.0", 2)
    bench.repo.change("pump/1.2.0/app.bin", **custom)
    bench.repo.publish("targets", "line", "snapshot", "timestamp")
    with unchanged(bench):
        assert f"pump/1.2.0/app.bin passed over: {reason}" in nothing_is_installed(bench)
    bench.repo.entries.pop("pump/1.2.0/app.bin")
    offer(bench.repo, "1.3.0", 2)
    bench.repo.publish()
    assert bench.push().installed == "pump/1.3.0/app.bin"


def test_a_release_of_another_product_in_this_line() -> None:
    bench = up_to_date()
    data = image("6.6.6", 2)
    path = bench.repo.add_release("6.6.6", data, path="valve/6.6.6/app.bin", counter=2)
    bench.repo.change(path, format="mcuboot")
    bench.repo.publish()
    with unchanged(bench):
        assert "for product valve; this device is a pump" in nothing_is_installed(bench)


def test_a_board_of_another_product_takes_nothing_from_this_line() -> None:
    repo = started()
    bench = Bench(repo, device=Device("valve", "nrf-a", "serial-2"))
    with pytest.raises(BoardRefused) as caught:
        bench.push()
    assert caught.value.board_code == MissingError.code
    assert bench.facts_after_reset().running is None


# --- versions and counters --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "counter", "seed", "reason"),
    [
        ("1.0.9", 2, 1, "version 1.0.9 is below the confirmed 1.1.0"),
        ("1.1.0", 2, 4, "another image of the confirmed version 1.1.0"),
        ("1.2.0", 1, 1, "security counter 1 is below this device's 2"),
        ("0.0.1", 0, 1, "security counter 0 is below this device's 2"),
        ("1.2.0", 101, 1, "security counter 101 is above the line's 100"),
    ],
)
def test_a_signed_release_that_goes_back(version: str, counter: int, seed: int, reason: str) -> None:
    bench = up_to_date()
    data = image(version, counter, seed=seed)
    path = bench.repo.add_release(version, data, counter=counter, file="other.bin")
    bench.repo.change(path, format="mcuboot")
    bench.repo.publish()
    with unchanged(bench):
        assert reason in nothing_is_installed(bench)


def test_a_signed_step_down_goes_and_not_below_the_counter() -> None:
    bench = up_to_date()
    offer(bench.repo, "1.0.9", 1, downgrade_from=["1.1.0"])
    bench.repo.publish()
    with unchanged(bench):
        assert "security counter 1 is below this device's 2" in nothing_is_installed(bench)
    bench.repo.entries.pop("pump/1.0.9/app.bin")
    offer(bench.repo, "1.0.8", 2, downgrade_from=["1.1.0"])
    bench.repo.publish()
    assert bench.push().installed == "pump/1.0.8/app.bin"
    facts = bench.facts_after_reset()
    assert (facts.running, facts.counter) == ("1.0.8", 2)
    assert "another listed release steps down from this version" in nothing_is_installed(bench)


# --- withdrawal -------------------------------------------------------------------------------------------------------


def test_a_withdrawal_that_was_accepted_is_never_undone() -> None:
    bench = up_to_date()
    offer(bench.repo, "1.2.0", 2)
    bench.repo.publish()
    before = dict(bench.repo.tree)
    bench.repo.change("pump/1.2.0/app.bin", withdrawn="it leaks")
    bench.repo.publish()
    with unchanged(bench):
        assert "withdrawn: it leaks" in nothing_is_installed(bench)
    with unchanged(bench):
        push_is_refused(bench, before, RollbackError)
        assert "withdrawn: it leaks" in str(bench.own(Op.READ, CHOOSE))


def test_a_withdrawn_release_loses_its_mark_before_it_ever_runs() -> None:
    bench = up_to_date()
    offer(bench.repo, "1.2.0", 2)
    bench.repo.publish()
    assert bench.push(reset=False).installed == "pump/1.2.0/app.bin"
    assert bench.facts().mark is not None
    bench.repo.change("pump/1.2.0/app.bin", withdrawn="it leaks")
    bench.repo.publish()
    nothing_is_installed(bench)
    facts = bench.facts_after_reset()
    assert (facts.running, facts.mark, facts.trial) == ("1.1.0", None, False)


def test_a_withdrawal_ends_a_trial_and_resets_the_board() -> None:
    bench = up_to_date()
    bench.board.self_test = MANUAL
    offer(bench.repo, "1.2.0", 2)
    bench.repo.publish()
    assert bench.push().status["trial"] is True
    assert bench.facts_after_reset().running == "1.2.0"
    boots = bench.board.boots
    bench.repo.change("pump/1.2.0/app.bin", withdrawn="it leaks")
    bench.repo.publish()
    nothing_is_installed(bench)
    assert bench.board.boots == boots + 1
    facts = bench.facts()
    assert (facts.running, facts.trial, facts.confirmed, facts.counter) == ("1.1.0", False, 1, 2)
    assert facts.failed_here == ()
    assert bench.facts_after_reset() == facts


# --- images -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 40, 2600, 5187])
def test_an_image_that_was_changed_by_one_byte(at: int) -> None:
    bench = up_to_date()
    data = offer(bench.repo, "1.2.0", 2)
    bench.repo.publish()
    name = next(name for name, blob in bench.repo.tree.items() if blob == data)
    spoilt = {**bench.repo.tree, name: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]}
    before = bench.facts()
    words = push_is_refused(bench, spoilt, MismatchError)
    assert words.startswith("image hash: expected")
    after = bench.facts_after_reset()
    assert (after.running, after.confirmed, after.mark, after.counter) == ("1.1.0", 1, None, 2)
    assert after.slots[1] == before.slots[1]
    assert bench.push().installed == "pump/1.2.0/app.bin", "from zero, with the right bytes"


def test_a_patch_that_was_changed_by_one_byte_falls_back_to_the_image() -> None:
    bench = up_to_date()
    data = offer(bench.repo, "1.2.0", 2)
    made = offer_patch(bench.repo, "1.2.0", image("1.1.0", 2), data)
    bench.repo.publish()
    name = next(name for name, blob in bench.repo.tree.items() if blob == made)
    spoilt = {**bench.repo.tree, name: made[:30] + bytes([made[30] ^ 1]) + made[31:]}
    pushed = bench.push(spoilt)
    assert (pushed.installed, pushed.how, pushed.sent) == ("pump/1.2.0/app.bin", "image", len(data))
    assert bench.facts_after_reset().running == "1.2.0"


def test_an_image_that_the_bootloader_does_not_trust_is_tried_by_nobody() -> None:
    """The whole quorum signed it, and the image's own signature is by another key."""
    bench = up_to_date()
    offer(bench.repo, "1.2.0", 2, data=image("1.2.0", 2, key="foreign"))
    bench.repo.publish()
    pushed = bench.push()
    assert pushed.status["running"] != pushed.installed
    facts = bench.facts_after_reset()
    assert (facts.running, facts.confirmed, facts.mark, facts.counter) == ("1.1.0", 1, None, 2)
