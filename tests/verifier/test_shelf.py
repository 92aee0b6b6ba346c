"""A device from the shelf: five years and ten roots behind, every key replaced, every date passed (DESIGN §4, "Time")."""

from __future__ import annotations

import pytest

from bench import Bench, Rig, installed
from forge import DAY, T0, YEAR, Repo, keys
from hillhold_verifier.errors import ExpiredError, HillholdError, SignatureError
from hillhold_verifier.local import LocalUpdate
from hillhold_verifier.select import Device
from hillhold_verifier.session import MAX_ROOTS, Step, UpdateSession
from hillhold_verifier.trust import Trust
from holder import fresh, provisioned_first
from offers import TreeSource, offer, offer_patch, started

YEARS = 5
LATER = T0 + YEARS * YEAR


def five_years_on(repo: Repo) -> None:
    """The repository's history meanwhile: a new quorum of root each half year, the other keys each year, everything dated anew."""
    for number in range(10):
        at = T0 + (number + 1) * YEAR // 2
        repo.keys["root"] = keys(*(f"root-{n}-{number}" for n in (1, 2, 3)))
        if number % 2:
            for role in ("timestamp", "snapshot", "targets", "line"):
                repo.keys[role] = keys(*(f"{role}-{n}-{number}" for n in range(len(repo.keys[role]))))
        repo.issued = at
        spans = {"root": 2 * YEAR, "timestamp": 7 * DAY, "snapshot": 30 * DAY, "targets": YEAR, "line": YEAR}
        repo.expires = {role: at + span for role, span in spans.items()}
        offer(repo, f"2.{number}.0", 2 + number)
        repo.publish("root", "targets", "line", "snapshot", "timestamp")


def on_the_shelf() -> Bench:
    bench = installed()
    five_years_on(bench.repo)
    return bench


@pytest.mark.parametrize("clock", [None, 0, T0, LATER], ids=["none", "1970", "as it was", "right"])
def test_it_follows_ten_roots_to_the_newest_release(clock: int | None) -> None:
    bench = on_the_shelf()
    bench.clock = clock
    assert bench.push().installed == "pump/2.9.0/app.bin"
    held = bench.held()
    assert (held.versions["root"], held.time) == (11, T0 + YEARS * YEAR)
    assert bench.facts_after_reset().running == "2.9.0"


def test_it_goes_on_with_a_patch_from_the_release_that_it_has() -> None:
    bench = on_the_shelf()
    bench.clock = LATER
    old, new = bench.repo.blobs["pump/1.0.0/app.bin"], bench.repo.blobs["pump/2.9.0/app.bin"]
    patch = offer_patch(bench.repo, "2.9.0", old, new)
    bench.repo.publish("line", "snapshot", "timestamp")
    pushed = bench.push()
    assert (pushed.installed, pushed.how, pushed.sent) == ("pump/2.9.0/app.bin", "patch", len(patch))


@pytest.mark.parametrize("missing", [2, 6, 11])
def test_without_one_of_the_roots_it_stays_as_it_is(missing: int) -> None:
    bench = on_the_shelf()
    bench.clock = LATER
    tree = {name: data for name, data in bench.repo.tree.items() if name != f"metadata/{missing}.root.json"}
    with pytest.raises(HillholdError):
        bench.push(tree)
    assert bench.facts_after_reset().running == "1.0.0"
    assert bench.held().versions["root"] == missing - 1
    assert bench.push().installed == "pump/2.9.0/app.bin", "what it took so far it need not take again"


def test_the_newest_root_alone_is_nothing_to_it() -> None:
    repo = started()
    trust = provisioned_first(repo)
    five_years_on(repo)
    session = UpdateSession(trust, Device("pump", "nrf-a", "x"), LATER)
    with pytest.raises(SignatureError):
        session.receive(repo.tree["metadata/11.root.json"])


def test_it_lies_five_years_more_after_the_last_word_of_its_maker() -> None:
    bench = on_the_shelf()
    bench.clock = LATER + 3 * YEAR
    with pytest.raises(HillholdError):
        bench.push()
    assert bench.status()["code"] == ExpiredError.code
    assert bench.facts_after_reset().running == "1.0.0", "expiry never stops the installed image"


def test_a_chain_that_does_not_end_is_followed_in_bounded_steps() -> None:
    repo = Repo()
    repo.thresholds = dict.fromkeys(repo.thresholds, 1)
    repo.keys["root"] = keys("root-1")
    repo.publish()
    trust: Trust = fresh(repo)
    taken = 0
    for _ in range(2):
        session = UpdateSession(trust, Device("pump", "nrf-a", "x"), T0)
        while session.step is Step.ROOT:
            repo.publish("root")
            session.receive(repo.files["root"])
            taken += 1
        trust = session.trust
    assert (taken, trust.root.signed.version) == (2 * MAX_ROOTS, 2 * MAX_ROOTS + 1)


def test_a_device_more_roots_behind_than_one_session_follows_goes_on_with_the_next() -> None:
    repo = started()
    rig = Rig(repo)
    rig.install(repo.blobs["pump/1.0.0/app.bin"])
    for _ in range(MAX_ROOTS + 5):
        repo.publish("root")
    offer(repo, "1.1.0", 2)
    repo.rotate("timestamp", "snapshot")
    with pytest.raises(SignatureError):
        LocalUpdate(rig.installer, TreeSource(repo.tree), T0).update()
    assert rig.held().versions["root"] == MAX_ROOTS + 1, "what was followed stays"
    assert rig.facts().running == "1.0.0"
    assert LocalUpdate(rig.installer, TreeSource(repo.tree), T0).update().plan
    assert rig.held().versions["root"] == MAX_ROOTS + 7
    assert rig.reset().trial
