"""Which release: every row of DESIGN's table, through the whole chain of a forged repository."""

from __future__ import annotations

from hashlib import sha256

import pytest

from forge import Repo
from hillhold_verifier.errors import SelectionError
from hillhold_verifier.release import Version
from hillhold_verifier.select import Device, Installed, Outcome, Selection, select
from hillhold_verifier.trust import current
from holder import NOW, PUMP, holding

HASH = "0" * 64


def runs(version: str, image: bytes = b"confirmed", counter: int = 0) -> Installed:
    """What the confirmed slot holds."""
    return Installed(f"pump/{version}/app.bin", Version.parse(version), sha256(image).digest(), len(image), counter)


def judge(
    repo: Repo,
    confirmed: Installed | None = None,
    *,
    counter: int = 0,
    failed: frozenset[bytes] = frozenset(),
    device: Device = PUMP,
) -> Selection:
    repo.publish(*(("targets", "line", "snapshot", "timestamp") if repo.files else ()))
    held = {device.components[0]: confirmed} if confirmed else {}
    return select(current(holding(repo), "pump", NOW), device, held, {device.components[0]: counter}, failed)


def said(selection: Selection, path: str) -> tuple[Outcome, str]:
    (verdict,) = [verdict for verdict in selection.verdicts if verdict.path == path]
    return verdict.outcome, verdict.reason


def winner(selection: Selection) -> str | None:
    assert len(selection.plan) < 2
    return str(selection.plan[0].version) if selection.plan else None


@pytest.fixture
def repo() -> Repo:
    repo = Repo(hardware=["nrf-a", "nrf-b"])
    repo.add_release("1.0.0", b"one", hardware=["nrf-a"])
    return repo


# --- above, below, the same


def test_the_highest_version_above_the_confirmed_one_wins(repo: Repo) -> None:
    for version in ("1.2.0", "1.10.0", "1.9.0+7", "1.9.9"):
        repo.add_release(version, version.encode())
    selection = judge(repo, runs("1.0.0", b"one"))
    assert winner(selection) == "1.10.0"
    assert said(selection, "pump/1.2.0/app.bin")[0] is Outcome.INSTALLABLE


def test_all_four_numbers_order_versions(repo: Repo) -> None:
    repo.add_release("1.0.0+5", b"a")
    repo.add_release("1.0.0+40", b"b")
    assert winner(judge(repo, runs("1.0.0"))) == "1.0.0+40"
    assert winner(judge(repo, runs("1.0.0+40", b"b"))) is None


def test_a_board_without_a_confirmed_image_takes_the_highest(repo: Repo) -> None:
    assert winner(judge(repo)) == "1.0.0"


def test_a_version_below_is_refused(repo: Repo) -> None:
    selection = judge(repo, runs("2.0.0"))
    assert said(selection, "pump/1.0.0/app.bin")[0] is Outcome.REFUSED
    with pytest.raises(SelectionError, match="below the confirmed"):
        selection.require()


def test_the_same_version_and_hash_is_nothing_to_do(repo: Repo) -> None:
    selection = judge(repo, runs("1.0.0", b"one"))
    assert (winner(selection), said(selection, "pump/1.0.0/app.bin")[0]) == (None, Outcome.INSTALLED)


def test_the_same_version_with_another_hash_is_refused(repo: Repo) -> None:
    selection = judge(repo, runs("1.0.0", b"another"))
    assert (winner(selection), said(selection, "pump/1.0.0/app.bin")[0]) == (None, Outcome.REFUSED)


# --- the security counter


@pytest.mark.parametrize(("store", "confirmed"), [(3, 0), (0, 3), (3, 3)])
def test_a_counter_below_the_higher_of_store_and_confirmed_image_is_refused(
    repo: Repo, store: int, confirmed: int
) -> None:
    low = repo.add_release("2.0.0", b"low", counter=2)
    same = repo.add_release("1.5.0", b"same", counter=3)
    selection = judge(repo, runs("1.0.0", counter=confirmed), counter=store)
    assert said(selection, low)[0] is Outcome.REFUSED
    assert said(selection, same)[0] is Outcome.INSTALLABLE
    assert winner(selection) == "1.5.0"


def test_a_counter_above_what_the_delegation_allows_is_passed_over(repo: Repo) -> None:
    repo.max_security_counter = 4
    repo.add_release("1.1.0", b"at the cap", counter=4)
    burn = repo.add_release("9.0.0", b"burns a fuse", counter=5)
    selection = judge(repo, runs("1.0.0"))
    assert said(selection, burn)[0] is Outcome.PASSED_OVER
    assert winner(selection) == "1.1.0"


# --- who it is for


def test_other_hardware_is_passed_over(repo: Repo) -> None:
    path = repo.add_release("2.0.0", b"b only", hardware=["nrf-b"])
    assert said(judge(repo, runs("1.0.0")), path)[0] is Outcome.PASSED_OVER
    assert winner(judge(repo, runs("1.0.0"), device=Device("pump", "nrf-b", "x"))) == "2.0.0"


def test_hardware_that_the_line_may_not_name_spoils_the_whole_release(repo: Repo) -> None:
    path = repo.add_release("2.0.0", b"too far", hardware=["nrf-a", "valve-board"])
    outcome, reason = said(judge(repo, runs("1.0.0")), path)
    assert outcome is Outcome.PASSED_OVER
    assert "valve-board" in reason
    assert winner(judge(repo, device=Device("pump", "valve-board", "x"))) is None


def test_other_components_are_passed_over(repo: Repo) -> None:
    path = repo.add_release("2.0.0", b"modem", component="modem")
    assert said(judge(repo, runs("1.0.0")), path)[0] is Outcome.PASSED_OVER
    assert winner(judge(repo, device=Device("pump", "nrf-a", "x", ("modem",)))) == "2.0.0"


def test_a_path_of_another_product_is_passed_over(repo: Repo) -> None:
    path = repo.add_release("2.0.0", b"valve", path="valve/2.0.0/app.bin")
    assert said(judge(repo, runs("1.0.0")), path)[0] is Outcome.PASSED_OVER


# --- restrictions


def test_an_unknown_restriction_is_not_ignored(repo: Repo) -> None:
    path = repo.add_release("2.0.0", b"new", crit=["cohort", "hardware"], cohort="early")
    assert said(judge(repo, runs("1.0.0")), path) == (Outcome.PASSED_OVER, "needs a device that understands cohort")
    repo.change(path, crit=["hardware", "security_counter", "withdrawn"])
    assert winner(judge(repo, runs("1.0.0"))) == "2.0.0"
    repo.change(path, crit=None)
    assert winner(judge(repo, runs("1.0.0"))) == "2.0.0", "a field that nobody declares critical may be ignored"


@pytest.mark.parametrize("field", ["slot", "load_address", "encryption", "image_hash", "cohort"])
def test_a_reserved_field_keeps_a_device_away_only_where_crit_names_it(repo: Repo, field: str) -> None:
    """It may become a restriction or a mere note: whoever signs it says which (DESIGN §3, `crit`)."""
    path = repo.add_release("2.0.0", b"new")
    repo.change(path, **{field: "x"})
    assert winner(judge(repo, runs("1.0.0"))) == "2.0.0"
    repo.change(path, crit=[field])
    assert said(judge(repo, runs("1.0.0")), path) == (Outcome.PASSED_OVER, f"needs a device that understands {field}")


def test_unmet_requirements_are_passed_over(repo: Repo) -> None:
    path = repo.add_release("2.0.0", b"needs", requires={"modem": "1.0.0"})
    assert said(judge(repo, runs("1.0.0")), path)[0] is Outcome.PASSED_OVER


def test_a_withdrawn_release_is_passed_over_and_the_reason_is_told(repo: Repo) -> None:
    path = repo.add_release("2.0.0", b"hot", withdrawn="battery gets hot")
    repo.add_release("1.5.0", b"fine")
    selection = judge(repo, runs("1.0.0"))
    assert said(selection, path) == (Outcome.PASSED_OVER, "withdrawn: battery gets hot")
    assert winner(selection) == "1.5.0"
    repo.change(path, withdrawn="")
    assert winner(judge(repo, runs("1.0.0"))) == "1.5.0", "an empty reason is a reason"


def test_a_hash_that_failed_here_is_passed_over(repo: Repo) -> None:
    path = repo.add_release("2.0.0", b"crashes")
    failed = frozenset({sha256(b"crashes").digest()})
    assert said(judge(repo, runs("1.0.0"), failed=failed), path)[0] is Outcome.PASSED_OVER
    repo.add_release("2.0.1", b"crashes no more")
    assert winner(judge(repo, runs("1.0.0"), failed=failed)) == "2.0.1"


# --- stepping down


def test_a_signed_step_down_names_the_exact_confirmed_version(repo: Repo) -> None:
    path = repo.add_release("1.5.0", b"down", downgrade_from=["2.0.0"])
    assert winner(judge(repo, runs("2.0.0"))) == "1.5.0"
    for other in ("2.0.0+1", "2.0.1", "3.0.0"):
        assert said(judge(repo, runs(other)), path)[0] is Outcome.REFUSED


def test_a_step_down_does_not_lower_the_counter(repo: Repo) -> None:
    path = repo.add_release("1.5.0", b"down", downgrade_from=["2.0.0"], counter=1)
    assert said(judge(repo, runs("2.0.0", counter=2)), path)[0] is Outcome.REFUSED
    assert said(judge(repo, runs("2.0.0"), counter=2), path)[0] is Outcome.REFUSED
    assert winner(judge(repo, runs("2.0.0", counter=1), counter=1)) == "1.5.0"


def test_a_version_that_another_release_steps_down_from_is_not_gone_up_to(repo: Repo) -> None:
    up = repo.add_release("2.0.0", b"bad")
    repo.add_release("1.5.0", b"down", downgrade_from=["2.0.0"])
    selection = judge(repo, runs("1.0.0"))
    assert said(selection, up)[0] is Outcome.PASSED_OVER
    assert winner(selection) == "1.5.0"
    assert winner(judge(repo, runs("2.0.0", b"bad"))) == "1.5.0"
    assert winner(judge(repo, runs("1.5.0", b"down"))) is None, "or it would go up and down for ever"


def test_whatever_steps_down_from_whatever_no_device_moves_for_ever(repo: Repo) -> None:
    images = {"2.0.0": b"b", "3.0.0": b"c", "4.0.0": b"d"}
    for version, image in images.items():
        repo.add_release(version, image, downgrade_from=[other for other in images if other != version])
    at = runs("1.0.0", b"one")
    for _ in range(5):
        plan = judge(repo, at).plan
        if not plan:
            break
        (found,) = plan
        at = Installed(found.path, found.version, found.sha256, found.length, found.security_counter)
    else:
        pytest.fail("still moving")


@pytest.mark.parametrize(
    "change",
    [{"withdrawn": "too"}, {"hardware": ["nrf-b"]}, {"component": "modem"}, {"hardware": ["nrf-a", "valve-board"]}],
    ids=lambda change: next(iter(change)),
)
def test_only_a_standing_release_for_this_device_blocks_the_way_up(repo: Repo, change: dict[str, object]) -> None:
    repo.add_release("2.0.0", b"good")
    path = repo.add_release("1.5.0", b"down", downgrade_from=["2.0.0"])
    assert winner(judge(repo, runs("1.0.0"))) == "1.5.0"
    repo.change(path, **change)
    assert winner(judge(repo, runs("1.0.0"))) == "2.0.0"


# --- the rest of the line


def test_a_malformed_release_hides_no_other(repo: Repo) -> None:
    bad = [
        repo.add_release("3.0.0", b"x", security_counter=-1),
        repo.add_release("3.0.1", b"x", v=2),
        repo.add_release("3.0.2", b"x", hardware=[]),
        repo.add_release("3.0.3", b"x", path="pump/9.9.9/app.bin"),
        repo.add_release("3.0.4", b"x", path="pump/3.0.4"),
        repo.add_target("pump/3.0.5/app.bin", b"x", {}),
    ]
    repo.entries["pump/4.0.0/app.bin"] = {"length": 1, "hashes": {"sha256": HASH}, "custom": {"hillhold": "junk"}}
    repo.entries["pump/4.0.0/readme"] = {"length": 1, "hashes": {"sha256": HASH}}
    repo.add_release("2.0.0", b"good")
    selection = judge(repo, runs("1.0.0"))
    assert winner(selection) == "2.0.0"
    for path in bad:
        assert said(selection, path)[0] is Outcome.REFUSED
    assert "pump/4.0.0/readme" not in {verdict.path for verdict in selection.verdicts}


def test_a_malformed_release_blocks_no_way_up(repo: Repo) -> None:
    repo.add_release("2.0.0", b"good")
    repo.add_release("1.5.0", b"down", downgrade_from=["2.0.0"], kind="unknown")
    assert winner(judge(repo, runs("1.0.0"))) == "2.0.0"


def test_the_winners_patches_come_with_it_and_no_others(repo: Repo) -> None:
    one, two = repo.add_release("1.5.0", b"v15"), repo.add_release("2.0.0", b"v20")
    repo.add_patch(one, b"one", b"patch")
    right = {repo.add_patch(two, b"one", b"patch"), repo.add_patch(two, b"v15", b"patch")}
    selection = judge(repo, runs("1.0.0", b"one"))
    assert winner(selection) == "2.0.0"
    assert {patch.path for patch in selection.patches} == right
    assert judge(repo, runs("2.0.0", b"v20")).patches == ()


def test_verdicts_are_sorted_and_an_empty_line_says_so() -> None:
    repo = Repo()
    with pytest.raises(SelectionError):
        judge(repo).require()
    for version in ("2.0.0", "1.0.0", "1.5.0"):
        repo.add_release(version, b"x")
    paths = [verdict.path for verdict in judge(repo).verdicts]
    assert paths == sorted(paths)
    assert str(judge(repo).require()[0].version) == "2.0.0"


def test_a_release_of_a_set_is_not_installed_alone() -> None:
    repo = Repo()
    repo.add_release("2.0.0", b"two", set="big-bang")
    assert winner(judge(repo, runs("1.0.0"))) is None


def test_a_release_that_names_its_own_version_stays_installable() -> None:
    repo = Repo()
    repo.add_release("2.0.0", b"two", downgrade_from=["2.0.0"])
    assert winner(judge(repo, runs("1.0.0"))) == "2.0.0"
