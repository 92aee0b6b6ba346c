"""Which release: what else of the line counts for a device and what does not, the order of plans, and the words of each verdict."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

import pytest

from duo import PAIR
from forge import Repo
from hillhold_verifier.errors import SelectionError
from hillhold_verifier.metadata import Envelope, parse_targets
from hillhold_verifier.release import Version
from hillhold_verifier.roles import Targets
from hillhold_verifier.select import Device, Installed, Outcome, Selection, select, trial_id, withdrawn
from hillhold_verifier.trust import current
from holder import NOW, PUMP, holding


def runs(component: str, version: str, data: bytes = b"", **requires: str) -> Installed:
    needs = tuple(sorted((name, Version.parse(text)) for name, text in requires.items()))
    digest = sha256(data or f"{component} {version}".encode()).digest()
    return Installed(f"pump/{version}/{component}.bin", Version.parse(version), digest, 10, 0, needs)


def add(repo: Repo, component: str, version: str, **custom: object) -> str:
    """List a release of a component; its content is its name and version."""
    path = repo.add_release(version, f"{component} {version}".encode(), file=f"{component}.bin", component=component)
    repo.change(path, **custom)
    return path


def judge(repo: Repo, confirmed: Mapping[str, Installed] | None = None, *, device: Device = PAIR) -> Selection:
    repo.publish(*(("targets", "line", "snapshot", "timestamp") if repo.files else ()))
    return select(current(holding(repo), "pump", NOW), device, confirmed or {}, {})


def plan(selection: Selection) -> list[str]:
    return [f"{release.component} {release.version}" for release in selection.plan]


def said(selection: Selection, path: str) -> tuple[Outcome, str]:
    (verdict,) = [verdict for verdict in selection.verdicts if verdict.path == path]
    return verdict.outcome, verdict.reason


BEFORE = {"app": runs("app", "1.0.0"), "radio": runs("radio", "4.0.0")}


# --- one image under several entries ----------------------------------------------------------------------------------


def twice(**custom: object) -> tuple[Repo, str]:
    """An image under two entries, of which the other is changed."""
    repo = Repo(hardware=["nrf-a", "nrf-b"])
    path = repo.add_release("2.0.0", b"image", hardware=["nrf-a"])
    other = repo.add_release("1.5.0", b"image", hardware=["nrf-a"], file="other.bin")
    repo.change(other, withdrawn="gets hot", **custom)
    return repo, path


def test_an_image_that_is_withdrawn_under_another_entry_is_passed_over() -> None:
    repo, path = twice()
    selection = judge(repo, device=PUMP)
    assert said(selection, path) == (Outcome.PASSED_OVER, "the same image is withdrawn under another entry")
    assert plan(selection) == []


OTHERS = [{"hardware": ["nrf-b"]}, {"component": "modem"}]


@pytest.mark.parametrize("custom", OTHERS, ids=["hardware", "component"])
def test_a_withdrawal_for_another_device_is_none_here(custom: dict[str, object]) -> None:
    repo, _ = twice(**custom)
    assert plan(judge(repo, device=PUMP)) == ["app 2.0.0"]


def test_a_withdrawal_of_another_product_is_none_here() -> None:
    repo, _ = twice(hardware=["nrf-b"])
    repo.add_release("1.5.0", b"image", hardware=["nrf-a"], path="valve/1.5.0/app.bin", withdrawn="gets hot")
    assert plan(judge(repo, device=PUMP)) == ["app 2.0.0"]


def line_of(repo: Repo) -> Envelope[Targets]:
    return parse_targets(repo.line(), "pump")


def test_withdrawn_images_are_those_that_the_line_withdraws_for_this_device() -> None:
    repo = Repo(hardware=["nrf-a", "nrf-b"])
    repo.add_release("1.0.0", b"stands")
    repo.add_target("pump/1.0.1/notes", b"no release", {}, v=None)
    repo.entries["pump/1.0.1/notes"].pop("custom")
    repo.add_release("1.0.2", b"malformed", withdrawn="but malformed", kind="unknown")
    repo.add_patch("pump/1.0.0/app.bin", b"base", b"patch")
    assert withdrawn(line_of(repo), PUMP) == frozenset()
    repo.add_release("1.1.0", b"hot", withdrawn="gets hot")
    repo.add_release("1.1.1", b"silent", withdrawn="")
    repo.add_release("1.2.0", b"other hardware", withdrawn="x", hardware=["nrf-b"])
    repo.add_release("1.3.0", b"other component", withdrawn="x", component="modem")
    repo.add_release("1.4.0", b"other product", withdrawn="x", path="valve/1.4.0/app.bin")
    assert withdrawn(line_of(repo), PUMP) == {sha256(data).digest() for data in (b"hot", b"silent")}
    assert withdrawn(None, PUMP) == frozenset()


# --- components -------------------------------------------------------------------------------------------------------


def test_a_step_down_of_one_component_blocks_no_other() -> None:
    repo = Repo()
    add(repo, "radio", "1.0.0", downgrade_from=["2.0.0"])
    add(repo, "app", "2.0.0")
    assert plan(judge(repo, {"app": runs("app", "1.0.0"), "radio": runs("radio", "3.0.0")})) == ["app 2.0.0"]


def test_what_another_product_puts_into_a_set_does_not_count() -> None:
    repo = Repo()
    add(repo, "app", "2.0.0", set="summer")
    add(repo, "radio", "5.0.0", set="summer")
    repo.add_release("9.0.0", b"valve", path="valve/9.0.0/app.bin", set="summer")
    assert plan(judge(repo, BEFORE)) == ["app 2.0.0", "radio 5.0.0"]


def test_a_malformed_entry_is_no_second_member_of_a_set() -> None:
    repo = Repo()
    add(repo, "app", "2.0.0", set="summer")
    radio = add(repo, "radio", "5.0.0", set="summer")
    bad = add(repo, "radio", "6.0.0", kind="unknown")
    assert bad > radio
    assert plan(judge(repo, BEFORE)) == ["app 2.0.0", "radio 5.0.0"]


def test_a_plan_is_in_the_order_of_the_devices_components() -> None:
    repo = Repo()
    add(repo, "app", "9.0.0", set="summer")
    add(repo, "radio", "5.0.0", set="summer")
    assert plan(judge(repo, BEFORE)) == ["app 9.0.0", "radio 5.0.0"]


def test_the_first_component_decides_between_plans_on_a_board_without_images() -> None:
    repo = Repo()
    add(repo, "app", "0.0.1")
    add(repo, "radio", "9.0.0")
    assert plan(judge(repo)) == ["app 0.0.1"]
    assert plan(judge(repo, {"app": runs("app", "0.0.1")})) == ["radio 9.0.0"]


@pytest.mark.parametrize("version", ["0.0.0", "0.0.1", "0.1.0", "1.0.0"])
def test_a_component_without_an_image_counts_as_one_of_version_0_0_0(version: str) -> None:
    repo = Repo()
    add(repo, "app", version)
    add(repo, "radio", "9.0.0")
    assert plan(judge(repo)) == (["radio 9.0.0"] if version == "0.0.0" else [f"app {version}"])


def test_of_two_images_of_one_version_the_one_that_is_listed_first_is_chosen() -> None:
    """Neither is above the other; every device chooses the same, and keeps it."""
    repo = Repo()
    paths = [repo.add_release("2.0.0", name.encode(), file=f"{name}.bin") for name in ("b", "a", "c")]
    (chosen,) = judge(repo, device=PUMP).plan
    assert chosen.path == min(paths)
    held = Installed(chosen.path, chosen.version, chosen.sha256, chosen.length, 0)
    assert judge(repo, {"app": held}, device=PUMP).plan == ()


def test_what_a_replaced_release_required_does_not_bind_its_successor() -> None:
    repo = Repo()
    add(repo, "app", "2.0.0")
    held = {"app": runs("app", "1.0.0", radio="5.0.0"), "radio": runs("radio", "4.0.0")}
    assert plan(judge(repo, held)) == ["app 2.0.0"]


def test_a_confirmed_release_whose_requirement_is_unmet_is_no_plan() -> None:
    """How it came to that is not ours to judge; nothing is to be done about it by itself."""
    repo = Repo()
    path = add(repo, "app", "1.0.0", requires={"radio": "5.0.0"})
    selection = judge(repo, BEFORE)
    assert (plan(selection), said(selection, path)[0]) == ([], Outcome.INSTALLED)


def test_a_trial_is_named_by_the_hash_or_by_that_of_all_hashes_in_order() -> None:
    one, two = sha256(b"1").digest(), sha256(b"2").digest()
    assert trial_id([one]) == one
    assert trial_id([one, two]) == trial_id([two, one]) == sha256(b"".join(sorted([one, two]))).digest()


# --- what is told -----------------------------------------------------------------------------------------------------


def test_reasons_are_told_as_they_are() -> None:
    repo = Repo()
    one = repo.add_release("1.0.0", b"one")
    two = repo.add_release("2.0.0", b"two")
    down = repo.add_release("1.5.0", b"down", downgrade_from=["2.0.0"])
    far = repo.add_release("3.0.0", b"far", hardware=["nrf-a", "valve-a", "valve-b"])
    assert said(judge(repo, device=PUMP), one) == (Outcome.INSTALLABLE, "no image is confirmed here")
    selection = judge(repo, {"app": runs("app", "1.0.0", b"one")}, device=PUMP)
    assert {path: said(selection, path) for path in (one, two, down, far)} == {
        one: (Outcome.INSTALLED, "this is the confirmed image"),
        two: (Outcome.PASSED_OVER, "another listed release steps down from this version"),
        down: (Outcome.INSTALLABLE, "above the confirmed 1.0.0"),
        far: (Outcome.PASSED_OVER, "names hardware valve-a, valve-b, which the line may not"),
    }


def test_names_are_told_in_order() -> None:
    names = [f"valve-{letter}" for letter in "abcdefgh"]
    repo = Repo(hardware=["nrf-a", "nrf-b", *names])
    elsewhere = repo.add_release("1.0.0", b"1", hardware=names)
    beyond = repo.add_release("2.0.0", b"2", hardware=["nrf-a", *(f"x-{name}" for name in names)])
    unknown = repo.add_release("3.0.0", b"3", hardware=["nrf-a"], crit=names)
    selection = judge(repo, device=PUMP)
    together = ", ".join(names)
    assert said(selection, elsewhere)[1] == f"for hardware {together}; this device is nrf-a"
    assert (
        said(selection, beyond)[1] == f"names hardware {together.replace('valve', 'x-valve')}, which the line may not"
    )
    assert said(selection, unknown)[1] == f"needs a device that understands {together}"


def test_a_set_says_what_keeps_it_back() -> None:
    repo = Repo()
    app = add(repo, "app", "2.0.0", set="summer")
    assert said(judge(repo, BEFORE), app)[1] == "belongs to the set summer, of which no other release is listed"
    add(repo, "app", "2.0.1", set="summer")
    assert said(judge(repo, BEFORE), app)[1] == "belongs to the set summer, of which two releases are for one component"


def test_verdicts_come_by_path_malformed_ones_too_and_the_last_are_shown() -> None:
    repo = Repo()
    with pytest.raises(SelectionError, match=r"no release to install: got an empty product line$"):
        judge(repo, device=PUMP).require()
    paths = [repo.add_release(f"{number}.0.0", b"x", withdrawn="x") for number in range(1, 7)]
    repo.change(paths[1], kind="unknown")
    selection = judge(repo, device=PUMP)
    assert tuple(verdict.path for verdict in selection.verdicts) == tuple(paths)
    assert isinstance(selection.verdicts, tuple)
    with pytest.raises(SelectionError) as caught:
        selection.require()
    assert str(caught.value) == "no release to install: got " + "; ".join(f"{path}: withdrawn: x" for path in paths[2:])


def test_a_device_says_what_it_is() -> None:
    assert PAIR.identity() == {
        "product": "pump",
        "hardware": "nrf-a",
        "id": "serial-1",
        "components": ["app", "radio"],
    }
    assert [outcome.value for outcome in Outcome] == ["installable", "installed", "passed over", "refused"]


def test_a_malformed_entry_alone_withdraws_nothing() -> None:
    repo = Repo()
    repo.add_release("1.0.0", b"malformed", withdrawn="but malformed", kind="unknown")
    assert withdrawn(line_of(repo), PUMP) == frozenset()
