"""Components: which releases of several fit together (DESIGN §3, `requires` and `set`), and that a set is tried, kept or left whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from hashlib import sha256

import pytest

from duo import CLOCK, PAIR, Duo, MemoryCounter, PowerCut, factory
from forge import Repo
from hillhold_signer.patches import make_patch
from hillhold_verifier.errors import ConfirmError, MismatchError, MisuseError, SelectionError, SlotError, TransferError
from hillhold_verifier.installer import Installer, provision
from hillhold_verifier.release import Version
from hillhold_verifier.select import Device, Installed, Outcome, Selection, select, trial_id
from hillhold_verifier.slots import Mark
from hillhold_verifier.state import StateStore
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


# --- the device -------------------------------------------------------------------------------------------------------

OLD = (b"app 1.0.0" * 20, b"radio 4.0.0" * 20)
NEW = (b"app 2.0.0" * 25, b"radio 5.0.0" * 15)


def started() -> Duo:
    repo = Repo()
    for name, version, data in (("app", "1.0.0", OLD[0]), ("radio", "4.0.0", OLD[1])):
        repo.add_release(version, data, counter=1, file=f"{name}.bin", component=name)
    repo.publish()
    duo = Duo(repo, OLD)
    for name, version, data in (("app", "2.0.0", NEW[0]), ("radio", "5.0.0", NEW[1])):
        repo.add_release(version, data, counter=2, file=f"{name}.bin", component=name, set="summer")
    repo.publish("line", "snapshot", "timestamp")
    return duo


def test_a_set_is_tried_and_confirmed_together() -> None:
    duo = started()
    duo.update()
    duo.start()
    assert (duo.runs(), duo.installer.on_trial) == (NEW, True)
    assert [counter.value() for counter in duo.counters] == [1, 1]
    assert [str(i.version) for i in duo.installer.confirm(self_tested=True)] == ["2.0.0", "5.0.0"]
    assert [counter.value() for counter in duo.counters] == [2, 2]
    duo.start()
    assert (duo.runs(), duo.installer.on_trial) == (NEW, False)
    assert duo.installer.choose(CLOCK).plan == ()


def test_a_set_whose_trial_failed_goes_back_together_and_is_passed_over() -> None:
    duo = started()
    duo.update()
    duo.start()
    duo.boot.fail()
    duo.start()
    assert (duo.runs(), duo.installer.on_trial) == (OLD, False)
    assert duo.installer.state.failed == (trial_id(sha256(data).digest() for data in NEW),)
    assert duo.installer.choose(CLOCK).plan == ()


def test_a_set_is_not_marked_before_all_of_it_is_there() -> None:
    duo = started()
    duo.take()
    digest = sha256(NEW[0]).digest()
    at = duo.installer.begin(digest, len(NEW[0]), CLOCK, 0)
    duo.installer.write(at, NEW[0])
    with pytest.raises(SelectionError, match="got no whole image"):
        duo.installer.mark(CLOCK)
    duo.start()
    assert duo.runs() == OLD


def test_an_image_goes_to_its_own_component_only() -> None:
    duo = started()
    duo.take()
    with pytest.raises(TransferError, match=r"pump/5\.0\.0/radio\.bin"):
        duo.installer.begin(sha256(NEW[0]).digest(), len(NEW[0]), CLOCK, 1)


def test_writing_one_slot_takes_the_marks_of_all() -> None:
    duo = started()
    duo.update()
    duo.installer.erase(1)
    assert [duo.installer.flags(n).mark for n in (0, 1)] == [None, None]
    duo.start()
    assert duo.runs() == OLD


def test_nothing_is_written_while_any_component_is_on_trial() -> None:
    duo = started()
    duo.update()
    duo.start()
    for component in (0, 1):
        with pytest.raises(SlotError, match="way back"):
            duo.installer.erase(component)


def test_a_withdrawn_member_ends_the_trial_of_all() -> None:
    duo = started()
    duo.update()
    duo.start()
    duo.repo.change("pump/5.0.0/radio.bin", withdrawn="deaf")
    duo.repo.publish("line", "snapshot", "timestamp")
    duo.take()
    with pytest.raises(ConfirmError):
        duo.installer.confirm(self_tested=True)
    duo.start()
    assert (duo.runs(), duo.installer.on_trial) == (OLD, False)


def test_half_a_trial_is_not_confirmed() -> None:
    """A bootloader that started one component of the set and not the other."""
    duo = started()
    duo.update()
    duo.start()
    duo.boot.running[1] = 0
    with pytest.raises(ConfirmError, match="a part of it"):
        duo.installer.confirm(self_tested=True)


def test_a_power_cut_at_any_write_leaves_all_old_or_all_new() -> None:
    whole = started()
    whole.update()
    whole.start()
    whole.installer.confirm(self_tested=True)
    cuts = 0
    for torn in (False, True):
        first = started().power.operations
        for number in range(first, whole.power.operations):
            duo = started()
            duo.power.cut, duo.power.torn = number, torn
            with pytest.raises(PowerCut):
                finish(duo)
            cuts += 1
            duo.start()
            assert duo.runs() in (OLD, NEW), (number, torn)
            marked = duo.runs()
            duo.start()
            assert duo.runs() in (marked, NEW), "a second boot changes nothing but a trial that was marked"
            finish(duo)
            assert (duo.runs(), duo.installer.on_trial) == (NEW, False), (number, torn)
            assert [counter.value() for counter in duo.counters] == [2, 2]
    assert cuts > 40


def finish(duo: Duo) -> None:
    """Bring the device to the newest set, from wherever it is."""
    if not duo.installer.on_trial:
        duo.update()
        duo.start_again()
    if duo.installer.on_trial:
        duo.installer.confirm(self_tested=True)


def test_a_component_on_trial_alone_keeps_the_other_slots_of_all() -> None:
    duo = started()
    duo.repo.change("pump/5.0.0/radio.bin", set=None)
    duo.repo.change("pump/2.0.0/app.bin", set=None, withdrawn="not yet")
    duo.repo.publish("line", "snapshot", "timestamp")
    duo.update()
    duo.start()
    assert duo.runs() == (OLD[0], NEW[1])
    for component in (0, 1):
        with pytest.raises(SlotError, match="way back"):
            duo.installer.erase(component)
    assert duo.installer.status()["trial"] is True
    assert [str(one.version) for one in duo.installer.confirm(self_tested=True)] == ["1.0.0", "5.0.0"]


def test_status_has_each_component() -> None:
    duo = started()
    duo.update()
    status = duo.installer.status()
    assert (status["confirmed"], status["marked"]) == (["1.0.0", sha256(OLD[0]).digest()], "2.0.0")
    assert status["more"] == [
        {
            "running": ["4.0.0", sha256(OLD[1]).digest()],
            "confirmed": ["4.0.0", sha256(OLD[1]).digest()],
            "marked": "5.0.0",
            "starts": 0,
            "counter": 1,
            "withdrawn": False,
        }
    ]


def test_a_mark_of_what_the_state_does_not_know_has_no_version() -> None:
    duo = started()
    duo.boot.set_marks({0: Mark(b"\1" * 32, 100)})
    assert duo.installer.status()["marked"] is None


def test_a_start_that_finds_nothing_new_writes_nothing() -> None:
    duo = started()
    before = duo.power.operations
    duo.start()
    assert duo.power.operations == before


def test_only_a_confirmed_boot_raises_a_counter() -> None:
    """Counter stores that are behind the confirmed images, as after a write that failed."""
    duo = started()
    duo.update()
    duo.counters = [MemoryCounter(duo.power), MemoryCounter(duo.power)]
    duo.start()
    assert duo.installer.on_trial
    assert [counter.value() for counter in duo.counters] == [0, 0]
    duo.boot.clear_marks()
    duo.start()
    assert [counter.value() for counter in duo.counters] == [1, 1]


def test_a_withdrawn_member_is_not_confirmed_whatever_the_flags_say() -> None:
    """The mark came back: someone writes the bootloader's flags beside the agent."""
    duo = started()
    duo.update()
    duo.start()
    marks = {n: Mark(sha256(data).digest(), len(data)) for n, data in enumerate(NEW)}
    duo.repo.change("pump/5.0.0/radio.bin", withdrawn="deaf")
    duo.repo.publish("line", "snapshot", "timestamp")
    duo.take()
    duo.boot.set_marks(marks)
    with pytest.raises(ConfirmError, match="a withdrawn one"):
        duo.installer.confirm(self_tested=True)
    assert [duo.installer.flags(n).confirmed for n in (0, 1)] == [0, 0]


def test_the_line_names_the_confirmed_image_of_each_component_anew_when_it_is_marked() -> None:
    """The same bytes with other requirements since they were sent."""
    duo = started()
    duo.update()
    before = [duo.installer.held(n, 1) for n in (0, 1)]
    duo.repo.change("pump/5.0.0/radio.bin", requires={"app": "1.0.0"})
    duo.repo.publish("line", "snapshot", "timestamp")
    duo.take()
    duo.installer.mark(CLOCK)
    duo.start()
    radio = duo.installer.held(1, 1)
    assert radio is not None
    assert radio.requires == (("app", Version(1, 0, 0)),)
    assert duo.installer.held(0, 1) == before[0]
    assert [duo.installer.held(n, 0) for n in (0, 1)] == [
        factory(duo.repo, *one) for one in zip(PAIR.components, OLD, strict=True)
    ]


def test_the_order_in_which_a_file_names_requirements_makes_no_difference() -> None:
    duo = started()
    duo.repo.change("pump/2.0.0/app.bin", requires={"app": "1.0.0", "radio": "4.0.0"})
    whole = json.loads(duo.repo.line(version=3))
    custom = whole["signed"]["targets"]["pump/2.0.0/app.bin"]["custom"]["hillhold"]
    custom["requires"] = dict(reversed(custom["requires"].items()))
    duo.repo.publish("snapshot", "timestamp", line=json.dumps(whole).encode())
    duo.take()
    digest = sha256(NEW[0]).digest()
    duo.installer.begin(digest, len(NEW[0]), CLOCK, 0)
    duo.installer.write(0, NEW[0])
    duo.start()
    app = duo.installer.held(0, 1)
    assert app is not None
    assert [name for name, _ in app.requires] == ["app", "radio"]
    assert duo.installer.begin(digest, len(NEW[0]), CLOCK, 0) == len(NEW[0]), "it is there"


def test_content_that_decayed_is_forgotten_of_its_own_component_alone() -> None:
    duo = started()
    duo.update()
    duo.slots[1].data[1][0] ^= 1
    with pytest.raises(MismatchError, match="image hash"):
        duo.installer.mark(CLOCK)
    duo.start()
    assert [duo.installer.held(n, 1) is None for n in (0, 1)] == [False, True]
    assert [duo.installer.held(n, 0) is None for n in (0, 1)] == [False, False]
    duo.update()
    duo.start()
    assert duo.runs() == NEW


def offer_radio_patch(duo: Duo) -> bytes:
    made = make_patch(OLD[1], NEW[1])
    duo.repo.add_patch("pump/5.0.0/radio.bin", OLD[1], made, algorithm="hhp1")
    duo.repo.publish("line", "snapshot", "timestamp")
    duo.take()
    return made


def send_patch(duo: Duo, made: bytes, component: int) -> None:
    assert duo.installer.begin(sha256(made).digest(), len(made), CLOCK, component) == 0
    assert duo.installer.write(0, made) == len(made)


def test_a_patch_makes_the_image_of_its_own_component() -> None:
    duo = started()
    made = offer_radio_patch(duo)
    send_patch(duo, made, 1)
    assert duo.installer.apply().path == "pump/5.0.0/radio.bin"
    assert duo.slots[1].read(1, 0, len(NEW[1])) == NEW[1]
    assert [duo.installer.held(n, 1) is None for n in (0, 1)] == [True, False]
    duo.update()
    duo.start()
    assert duo.runs() == NEW


def test_a_patch_goes_to_its_own_component_only() -> None:
    duo = started()
    made = offer_radio_patch(duo)
    with pytest.raises(TransferError, match=r"pump/2\.0\.0/app\.bin"):
        duo.installer.begin(sha256(made).digest(), len(made), CLOCK, 0)


def test_to_apply_makes_what_is_under_way_and_not_what_another_slot_holds_already() -> None:
    duo = started()
    made = offer_radio_patch(duo)
    digest = sha256(NEW[0]).digest()
    duo.installer.begin(digest, len(NEW[0]), CLOCK, 0)
    duo.installer.write(0, NEW[0])
    send_patch(duo, made, 1)
    assert duo.installer.begin(digest, len(NEW[0]), CLOCK, 0) == len(NEW[0]), "it is there"
    assert duo.installer.apply().path == "pump/5.0.0/radio.bin"
    assert duo.slots[1].read(1, 0, len(NEW[1])) == NEW[1]


@pytest.mark.parametrize("components", [(), ("app", "app")])
def test_a_device_has_components_with_names_of_their_own(components: tuple[str, ...]) -> None:
    duo = started()
    with pytest.raises(MisuseError, match="distinct names"):
        provision(
            StateStore(duo.areas), Device("pump", "nrf-a", "x", components), duo.repo.tree["metadata/1.root.json"]
        )


def test_a_factory_says_what_two_slots_of_each_component_hold() -> None:
    duo = started()
    areas = deepcopy(duo.areas.data)
    with pytest.raises(MisuseError, match="expected two for each component, got 2"):
        provision(StateStore(duo.areas), PAIR, duo.repo.tree["metadata/1.root.json"], (None, None))
    assert duo.areas.data == areas


def test_slots_and_counters_are_as_many_as_components() -> None:
    duo = started()
    with pytest.raises(MisuseError, match="1 slot pairs and 2 counters"):
        Installer(StateStore(duo.areas), duo.slots[:1], duo.boot, duo.counters)
