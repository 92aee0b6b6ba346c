"""A device of several components: a set is tried, confirmed or left whole; each component has slots, a counter and flags of its own."""

from __future__ import annotations

import json
from copy import deepcopy
from hashlib import sha256

import pytest

from duo import CLOCK, NEW, OLD, PAIR, Duo, MemoryCounter, PowerCut, factory, started
from hillhold_verifier.errors import ConfirmError, MisuseError, OperationalError, SelectionError, SlotError
from hillhold_verifier.installer import Installer, provision
from hillhold_verifier.release import Version
from hillhold_verifier.select import Device, trial_id
from hillhold_verifier.slots import Mark
from hillhold_verifier.state import StateStore


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
    assert (status["failed"], status["trial"], status["transfer"]) == (0, False, None)
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


def test_status_names_the_release_that_is_under_way() -> None:
    duo = started()
    duo.take()
    duo.installer.begin(sha256(NEW[1]).digest(), len(NEW[1]), CLOCK, 1)
    assert duo.installer.status()["transfer"] == "pump/5.0.0/radio.bin"


def test_a_mark_of_what_the_state_does_not_know_has_no_version() -> None:
    duo = started()
    duo.boot.set_marks({0: Mark(b"\1" * 32, 100)})
    assert duo.installer.status()["marked"] is None


def test_a_start_that_finds_nothing_new_writes_nothing() -> None:
    duo = started()
    before = duo.power.operations
    duo.start()
    assert duo.power.operations == before


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


def test_the_counter_of_a_component_is_the_higher_of_its_store_and_its_confirmed_image() -> None:
    duo = started()
    duo.counters[0].raise_to(9)
    duo.counters[1] = MemoryCounter(duo.power)
    assert [counter.value() for counter in duo.counters] == [9, 0]
    assert [duo.installer.security_counter(number) for number in (0, 1)] == [9, 1]


class Full(MemoryCounter):
    """A counter store that takes nothing more."""

    def raise_to(self, value: int) -> None:
        raise OperationalError("the counter store is full")


def test_a_counter_store_that_is_full_does_not_take_the_agent_away() -> None:
    duo = started()
    duo.counters = [Full(duo.power), MemoryCounter(duo.power)]
    duo.start()
    assert [counter.value() for counter in duo.counters] == [0, 1]
    assert [duo.installer.security_counter(number) for number in (0, 1)] == [1, 1]


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
