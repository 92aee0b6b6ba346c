"""Components: which releases of several fit together (DESIGN §3, `requires` and `set`)."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from hashlib import sha256

import pytest

from duo import PAIR
from forge import Repo
from hillhold_verifier.release import Version
from hillhold_verifier.select import Installed, Outcome, Selection, select, trial_id
from hillhold_verifier.trust import current
from holder import NOW, holding


def runs(requires: Mapping[str, str] | None = None, **versions: str) -> dict[str, Installed]:
    """What the components run; `requires` is the app's."""
    needs = tuple(sorted((name, Version.parse(text)) for name, text in (requires or {}).items()))
    return {
        name: Installed(
            f"pump/{version}/{name}.bin",
            Version.parse(version),
            sha256(f"{name} {version}".encode()).digest(),
            10,
            0,
            needs if name == "app" else (),
        )
        for name, version in versions.items()
    }


def add(repo: Repo, component: str, version: str, **custom: object) -> str:
    data = f"{component} {version}".encode()
    path = repo.add_release(version, data, file=f"{component}.bin", component=component)
    repo.change(path, **custom)
    return path


def judge(repo: Repo, confirmed: dict[str, Installed], *, failed: frozenset[bytes] = frozenset()) -> Selection:
    repo.publish(*(("targets", "line", "snapshot", "timestamp") if repo.files else ()))
    return select(current(holding(repo), "pump", NOW), PAIR, confirmed, {}, failed)


def plan(selection: Selection) -> list[str]:
    return [f"{release.component} {release.version}" for release in selection.plan]


def why(selection: Selection, path: str) -> str:
    (verdict,) = [verdict for verdict in selection.verdicts if verdict.path == path]
    assert verdict.outcome is Outcome.PASSED_OVER
    return verdict.reason


# --- requires ---------------------------------------------------------------------------------------------------------


def test_a_release_waits_for_what_it_requires_and_comes_after_it() -> None:
    repo = Repo()
    app = add(repo, "app", "2.0.0", requires={"radio": "5.0.0"})
    selection = judge(repo, runs(app="1.0.0", radio="4.0.0"))
    assert (plan(selection), why(selection, app)) == ([], "requires radio 5.0.0; there would be 4.0.0")
    add(repo, "radio", "5.0.0")
    assert plan(judge(repo, runs(app="1.0.0", radio="4.0.0"))) == ["radio 5.0.0"]
    assert plan(judge(repo, runs(app="1.0.0", radio="5.0.0"))) == ["app 2.0.0"]


@pytest.mark.parametrize("radio", ["5.0.0", "5.0.0+1", "6.0.0"])
def test_a_minimum_is_met_by_what_is_not_below_it(radio: str) -> None:
    repo = Repo()
    add(repo, "app", "2.0.0", requires={"radio": "5.0.0"})
    assert plan(judge(repo, runs(app="1.0.0", radio=radio))) == ["app 2.0.0"]


def test_a_component_that_is_not_there_meets_nothing() -> None:
    repo = Repo()
    app = add(repo, "app", "2.0.0", requires={"modem": "0.0.0"})
    assert why(judge(repo, runs(app="1.0.0", radio="4.0.0")), app) == "requires modem 0.0.0; there would be none"


def test_releases_that_wait_for_each_other_move_only_as_a_set() -> None:
    repo = Repo()
    add(repo, "app", "2.0.0", requires={"radio": "5.0.0"})
    add(repo, "radio", "5.0.0", requires={"app": "2.0.0"})
    before = runs(app="1.0.0", radio="4.0.0")
    assert plan(judge(repo, before)) == []
    for name, version in (("app", "2.0.0"), ("radio", "5.0.0")):
        repo.change(f"pump/{version}/{name}.bin", set="summer")
    assert plan(judge(repo, before)) == ["app 2.0.0", "radio 5.0.0"]


def test_a_signed_step_down_does_not_take_away_what_another_component_needs() -> None:
    repo = Repo()
    radio = add(repo, "radio", "4.0.0", downgrade_from=["5.0.0"])
    held = runs({"radio": "5.0.0"}, app="2.0.0", radio="5.0.0")
    needed = "pump/2.0.0/app.bin, which stays, requires radio 5.0.0; there would be 4.0.0"
    assert why(judge(repo, held), radio) == needed
    assert plan(judge(repo, runs(app="2.0.0", radio="5.0.0"))) == ["radio 4.0.0"]


# --- sets -------------------------------------------------------------------------------------------------------------


def summer(repo: Repo, **radio: object) -> tuple[str, str]:
    app, other = add(repo, "app", "2.0.0", set="summer"), add(repo, "radio", "5.0.0", set="summer")
    repo.change(other, **radio)
    return app, other


BEFORE = runs(app="1.0.0", radio="4.0.0")


def test_a_set_is_chosen_whole() -> None:
    repo = Repo()
    summer(repo)
    assert plan(judge(repo, BEFORE)) == ["app 2.0.0", "radio 5.0.0"]


def test_a_member_that_runs_already_is_not_sent_again() -> None:
    repo = Repo()
    summer(repo)
    assert plan(judge(repo, runs(app="1.0.0", radio="5.0.0"))) == ["app 2.0.0"]
    assert plan(judge(repo, runs(app="2.0.0", radio="5.0.0"))) == []


@pytest.mark.parametrize(
    "radio",
    [
        {"withdrawn": "deaf"},
        {"crit": ["cohort"]},
        {"security_counter": 101},
        {"hardware": ["nrf-a", "nrf-z"]},
        {"downgrade_from": "malformed"},
        {"requires": {"modem": "1.0.0"}},
        {"component": "modem"},
        {"component": "app"},
    ],
    ids=str,
)
def test_a_set_with_a_member_that_may_not_be_installed_is_left_whole(radio: dict[str, object]) -> None:
    repo = Repo()
    app, _ = summer(repo, **radio)
    selection = judge(repo, BEFORE)
    assert plan(selection) == []
    assert why(selection, app)


def test_a_set_with_a_member_below_what_runs_is_left_whole() -> None:
    repo = Repo()
    app, radio = summer(repo)
    selection = judge(repo, runs(app="1.0.0", radio="5.0.1"))
    assert plan(selection) == []
    assert why(selection, app) == f"belongs to the set summer, of which {radio} may not be installed"


def test_what_is_left_of_a_pruned_set_is_not_what_was_tested() -> None:
    repo = Repo()
    app = add(repo, "app", "2.0.0", set="summer")
    assert "no other release is listed" in why(judge(repo, BEFORE), app)


def test_members_for_other_hardware_do_not_count() -> None:
    repo = Repo(hardware=["nrf-a", "nrf-b"])
    for name, version in (("app", "2.0.0"), ("radio", "5.0.0")):
        add(repo, name, version, set="summer", hardware=["nrf-a"])
    add(repo, "app", "2.0.1", set="summer", hardware=["nrf-b"], withdrawn="not here")
    assert plan(judge(repo, BEFORE)) == ["app 2.0.0", "radio 5.0.0"]


def test_the_newer_set_wins_and_a_failed_one_gives_way() -> None:
    repo = Repo()
    summer(repo)
    add(repo, "app", "2.1.0", set="autumn")
    add(repo, "radio", "5.1.0", set="autumn")
    assert plan(judge(repo, BEFORE)) == ["app 2.1.0", "radio 5.1.0"]
    failed = trial_id(sha256(data).digest() for data in (b"radio 5.1.0", b"app 2.1.0"))
    assert plan(judge(repo, BEFORE, failed=frozenset({failed}))) == ["app 2.0.0", "radio 5.0.0"]


def test_a_failed_set_does_not_condemn_its_members() -> None:
    repo = Repo()
    summer(repo)
    add(repo, "app", "2.0.1", set="repaired")
    repo.entries["pump/5.0.0/again.bin"] = deepcopy(repo.entries["pump/5.0.0/radio.bin"])
    repo.change("pump/5.0.0/again.bin", set="repaired")
    failed = trial_id(sha256(data).digest() for data in (b"radio 5.0.0", b"app 2.0.0"))
    assert plan(judge(repo, BEFORE, failed=frozenset({failed}))) == ["app 2.0.1", "radio 5.0.0"]
