"""The judge goes by what a board does: planted faults are found and named, and the board's words decide nothing where it can be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from hillhold_bootsim.counter import OtpCounter
from hillhold_bootsim.lab.bench import Bench
from hillhold_bootsim.lab.broken.plant import PAIR
from hillhold_bootsim.lab.catalogue import BY_ID
from hillhold_bootsim.lab.errors import NotTestedError
from hillhold_bootsim.lab.judge import BESIDE, Attack, examine
from hillhold_bootsim.lab.model import Case, Result, Verdict
from hillhold_bootsim.lab.reading import Ran, Reading
from hillhold_bootsim.lab.target import Trials
from hillhold_bootsim.lab.through import Through
from hillhold_bootsim.lab.virtual import VirtualSpec, VirtualTarget
from hillhold_verifier import trust
from hillhold_verifier.errors import MismatchError, OperationalError
from hillhold_verifier.keys import Key
from hillhold_verifier.link import Stream
from labboards import SEED, TRUSTING, ZEPHYR, examined


def judged(
    run: Callable[[Bench], None], *, needs: tuple[str, ...] = ("metadata",), spec: VirtualSpec | None = None
) -> Result:
    case = Case("a-case", "metadata", "", "", "", (), needs=needs)
    return examine(Attack(case, run), Bench((spec or VirtualSpec()).make(SEED), SEED))


# --- planted faults ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case", ["expired-timestamp", "expired-line", "expired-root", "clock-set-back", "mark-after-expiry"]
)
def test_a_board_that_ignores_expiry_is_found(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.setattr(trust, "check_expiry", lambda *_: None)
    result = examined(case)
    assert (result.verdict, result.independent) == (Verdict.FAIL, True)
    assert result.reason == "the image 1.0.2 runs after the attack and a reset"


@pytest.mark.parametrize(
    "case", ["one-of-two-line", "one-key-two-ids-targets", "honest-id-line", "root-one-of-two", "delegated-two-ids"]
)
def test_a_board_that_takes_one_signature_for_a_quorum_is_found(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    whole = trust.verify

    def one(envelope: Any, name: str, role: Any, keys: Any, schemes: Any) -> frozenset[bytes]:
        return whole(envelope, name, replace(role, threshold=1), keys, schemes)

    monkeypatch.setattr(trust, "verify", one)
    result = examined(case)
    assert (result.verdict, result.reason) == (Verdict.FAIL, "the attacker's image runs after the attack and a reset")


@pytest.mark.parametrize("case", ["rollback-line-after-rotation", "rollback-targets-after-rotation"])
def test_a_board_without_floors_is_found(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.setattr(trust, "_check_floor", lambda *_: None)
    assert examined(case).verdict is Verdict.FAIL


def test_a_board_that_forgets_what_a_snapshot_listed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "_check_claims", lambda *_: None)
    assert examined("relisted-line").verdict is Verdict.FAIL


def test_a_floor_that_never_falls_is_found_as_a_lock_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "_standing", lambda floor, *_: floor.value if floor else 0)
    for case in ("fast-forward-timestamp", "fast-forward-line", "fast-forward-time"):
        result = examined(case)
        assert result.verdict is Verdict.FAIL
        assert result.reason == "locked out: an honest newer release cannot be installed any more"


@pytest.mark.parametrize(
    "case", ["image-unsigned", "image-foreign-key", "image-sample-key", "image-altered", "image-prefix-signed"]
)
def test_a_bootloader_that_checks_no_signature_is_found(case: str) -> None:
    result = examined(case, TRUSTING)
    assert (result.verdict, result.reason) == (Verdict.FAIL, "the attacker's image runs after the attack and a reset")
    assert examined(case, ZEPHYR).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("image-older-uploaded", "the image 1.0.1 runs after the attack and a reset"),
        ("image-step-back", "the image 1.0.1 runs after the attack and a reset"),
        ("image-same-version-uploaded", "another image of the version 1.0.1 runs after the attack and a reset"),
        ("trial-confirmed-from-the-wire", "the image 1.0.2 was confirmed, and did not test itself"),
        ("confirmed-without-a-trial", "the image 1.0.2 was confirmed, and did not test itself"),
    ],
)
def test_what_a_stock_board_lets_anybody_do_is_found(case: str, reason: str) -> None:
    result = examined(case, ZEPHYR)
    assert (result.verdict, result.reason, result.independent) == (Verdict.FAIL, reason, True)


def test_a_stock_board_is_not_tested_for_metadata_and_the_reason_says_so() -> None:
    result = examined("rollback-line", ZEPHYR)
    assert (result.verdict, result.independent) == (Verdict.NOT_TESTED, False)
    assert result.reason.startswith("a stock board")


# --- the rules, one by one --------------------------------------------------------------------------------------------


def behind(bench: Bench) -> VirtualTarget:
    assert isinstance(bench.target, VirtualTarget)
    return bench.target


def test_an_attack_that_does_nothing_passes_with_evidence_and_figures() -> None:
    result = judged(lambda bench: bench.say("nothing", "was done"))
    assert (result.verdict, result.independent) == (Verdict.PASS, True)
    assert {one.kind for one in result.evidence} >= {"words", "state", "trace"}
    assert set(result.figures) == {"bytes to the board", "bytes from the board", "seconds"}


def test_an_image_that_is_left_marked_fails() -> None:
    def mark(bench: Bench) -> None:
        bench.house.release()
        bench.push(bench.house.repo, reset=False)
        parts = behind(bench).board.parts
        original = parts.bootloader.boot
        parts.bootloader.boot = lambda reason: replace(original(reason), trial=False)  # type: ignore[method-assign]

    assert judged(mark).verdict is Verdict.FAIL


def test_a_lower_counter_fails() -> None:
    def lower(bench: Bench) -> None:
        board = behind(bench).board
        board.parts.counters[0].raise_to = lambda value: None  # type: ignore[method-assign]
        flash, state = board.flash, board.flash.state()
        flash.load((*state[:-1], state[-1]._replace(content=b"\xff" * len(state[-1].content))))

    assert judged(lower).reason == "the security counter is lower than before"


def test_a_counter_above_any_honest_release_fails() -> None:
    result = judged(lambda bench: behind(bench).board.parts.counters[0].raise_to(77))
    assert result.verdict is Verdict.FAIL


def test_floors_that_went_back_fail_though_the_image_is_right() -> None:
    def forget(bench: Bench) -> None:
        flash = behind(bench).board.flash
        state = flash.state()
        bench.house.publish()
        bench.check(bench.house.repo)
        before = bench.look()
        assert before.said.floors
        flash.load(state)

    # The flash of before the attack: nothing is lower than it was then.
    assert judged(forget).verdict is Verdict.PASS

    def older(bench: Bench) -> None:
        target = behind(bench)
        fresh = VirtualSpec().make(SEED)
        state, new = target.board.flash.state(), fresh.board.flash.state()
        layout = VirtualSpec().layout
        areas = {layout.geometry.sector_at(at) for part in layout.state for at in range(part.offset, part.end, 2048)}
        target.board.flash.load(tuple(new[n] if n in areas else old for n, old in enumerate(state)))

    result = judged(older)
    assert result.verdict is Verdict.FAIL


def test_a_board_on_which_nothing_runs_any_more_fails() -> None:
    def wipe(bench: Bench) -> None:
        board = behind(bench).board
        for part in board.layout.slots[0]:
            board.flash.erase(part.offset, part.size)

    assert judged(wipe).reason == "nothing runs after the attack and a reset"


def test_a_board_that_does_not_answer_any_more_fails() -> None:
    def kill(bench: Bench) -> None:
        behind(bench).board.feed = lambda data, now: b""  # type: ignore[method-assign]

    result = judged(kill)
    assert result.verdict is Verdict.FAIL
    assert result.reason in (
        "the board does not answer any more after the attack and a reset",
        "locked out: an honest newer release cannot be installed any more",
    )


def test_a_board_that_answers_again_only_after_a_reset_fails() -> None:
    def deafen(bench: Bench) -> None:
        board = behind(bench).board
        feed, reset = board.feed, board.power_on

        def heal() -> None:
            board.feed = feed  # type: ignore[method-assign]
            reset()

        board.feed = lambda data, now: b""  # type: ignore[method-assign]
        board.power_on = heal  # type: ignore[method-assign]

    result = judged(deafen)
    assert (result.verdict, result.independent) == (Verdict.FAIL, True)
    assert result.reason == "the board does not answer after the attack, as long as it is not reset"


def test_a_board_that_serves_nobody_else_before_a_reset_fails() -> None:
    def keep(bench: Bench) -> None:
        bench.set_clock(2**40)
        bench.serves()

    result = judged(keep, needs=("metadata", "clock"))
    assert result.reason == "an honest update is refused after the attack, as long as the board is not reset"


def test_a_counter_that_does_not_follow_an_honest_release_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OtpCounter, "raise_to", lambda *_: None)

    def raised(bench: Bench) -> None:
        bench.update(7)

    result = judged(raised)
    assert result.reason == "the security counter did not follow an honest release that was confirmed"


@pytest.mark.parametrize("component", [0, 1])
def test_a_lie_of_the_agent_about_what_runs_does_not_help_it(component: int) -> None:
    """The board says that it runs the honest release; its flash says what it started."""

    def swap_images(bench: Bench) -> None:
        board = behind(bench).board
        data = bench.house.image("TOP")
        part = board.layout.slots[component][board.control.flags(component).running or 0]
        board.flash.erase(part.offset, part.size)
        board.flash.program(part.offset, data + b"\xff" * (-len(data) % 4))

    where = " on another component" if component else ""
    result = judged(swap_images, spec=PAIR)
    assert result.reason == f"the attacker's image runs{where} after the attack and a reset"
    assert result.independent


def test_an_honest_release_on_trial_may_stay_there_and_its_trial_ends() -> None:
    def on_trial(bench: Bench) -> None:
        bench.trial()

    assert judged(on_trial, needs=("smp", "trial")).verdict is Verdict.PASS


def test_a_clock_that_an_attack_left_wrong_is_set_right() -> None:
    assert judged(lambda bench: bench.set_clock(2**40), needs=("metadata", "clock")).verdict is Verdict.PASS


def test_scripts_that_an_attack_left_are_taken_back() -> None:
    assert judged(lambda bench: bench.script(Trials.FAIL)).verdict is Verdict.PASS


def test_an_attack_may_find_that_a_board_is_in_no_position_for_it() -> None:
    def cannot(_: Bench) -> None:
        raise NotTestedError("the moon is in the wrong phase")

    result = judged(cannot)
    assert (result.verdict, result.reason) == (Verdict.NOT_TESTED, "the moon is in the wrong phase")


def test_what_a_board_did_counts_also_where_it_was_in_no_position_for_the_attack() -> None:
    def wipe(bench: Bench) -> None:
        board = behind(bench).board
        for part in board.layout.slots[0]:
            board.flash.erase(part.offset, part.size)
        raise NotTestedError("the moon is in the wrong phase")

    assert judged(wipe).reason == "nothing runs after the attack and a reset"


def test_an_attack_that_ends_in_a_refusal_is_judged_all_the_same() -> None:
    def refused(_: Bench) -> None:
        raise MismatchError("an image", expected="its hash", got="another")

    assert judged(refused).verdict is Verdict.PASS


def test_an_attack_that_could_not_be_done_to_its_end_is_no_pass() -> None:
    def failed(_: Bench) -> None:
        raise OperationalError("the board does not run the honest release that it was sent, confirmed")

    result = judged(failed)
    assert (result.verdict, result.reason) == (Verdict.INCONCLUSIVE, "the attack did not come to its end")


def test_an_honest_release_that_is_refused_in_the_middle_of_an_attack_is_no_pass() -> None:
    def refused(bench: Bench) -> None:
        bench.set_clock(2**40)
        bench.update()

    result = judged(refused, needs=("metadata", "clock"))
    assert (result.verdict, result.reason) == (Verdict.INCONCLUSIVE, "the attack did not come to its end")


class Mute(Through):
    """A line that loses all that goes to the board until some moment."""

    until = 0.0

    def open(self) -> Stream:
        stream, line = super().open(), self

        class Lost:
            def write(self, data: bytes, /) -> object:
                return stream.write(data) if line.seconds() >= line.until else len(data)

            def read(self, timeout: float, /) -> bytes:
                return stream.read(timeout)

            def reopen(self) -> None:
                stream.reopen()

            def close(self) -> None:
                stream.close()

        return Lost()


@pytest.mark.parametrize("seconds", [1, 20, 40, 60])
@pytest.mark.parametrize("case", ["image-older-uploaded", "image-same-version-uploaded"])
def test_an_attack_that_did_not_arrive_is_no_pass(case: str, seconds: int) -> None:
    line = Mute(ZEPHYR.make(SEED))

    def late(bench: Bench) -> None:
        line.until = line.seconds() + seconds
        BY_ID[case].run(bench)

    result = examine(Attack(BY_ID[case].case, late), Bench(line, SEED))
    assert result.verdict is not Verdict.PASS
    if result.verdict is Verdict.INCONCLUSIVE:
        assert result.reason in (
            "messages of the attack got no answer: who knows what arrived",
            "the attack did not come to its end",
        )


class ByVersion(Through):
    """A board of which nothing but the version can be read."""

    def read(self) -> Reading | None:
        found = super().read()
        return found and Reading(tuple(Ran(version=one.version) for one in found.running))


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("image-same-version-uploaded", "another image of the version 1.0.1 runs after the attack and a reset"),
        ("confirmed-without-a-trial", "the image 1.0.2 was confirmed, and did not test itself"),
    ],
)
def test_what_a_board_admits_counts_where_its_version_alone_can_be_read(case: str, reason: str) -> None:
    result = examine(BY_ID[case], Bench(ByVersion(ZEPHYR.make(SEED)), SEED))
    assert (result.verdict, result.independent, result.reason) == (Verdict.FAIL, False, reason + BESIDE)


class Misread(Through):
    """A laboratory that reads something else than what the board runs."""

    def read(self) -> Reading | None:
        return Reading((Ran(version="1.0.0"),))


def test_a_wrong_reading_of_the_laboratory_is_no_verdict_on_the_board() -> None:
    result = examine(BY_ID["rollback-line"], Bench(Misread(VirtualSpec().make(SEED)), SEED))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.reason.startswith("before the attack, what is read of the board is not the release")


def test_an_image_that_was_confirmed_at_once_is_not_tested_and_no_fault() -> None:
    def at_once(bench: Bench) -> None:
        bench.script = lambda how: None  # type: ignore[method-assign]
        bench.trial()

    assert judged(at_once, needs=("smp",)).verdict is Verdict.NOT_TESTED


def test_a_crash_of_the_boards_software_fails_though_the_watchdog_resets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(bench: Bench) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Key, "verifies", _broken)
            bench.house.publish()
            bench.check(bench.house.repo)

    result = judged(crash)
    assert (result.verdict, result.reason) == (Verdict.FAIL, "the board's software crashed during the attack")
    assert any("crashed: ZeroDivisionError" in one.text for one in result.evidence if one.kind == "note")


def _broken(*_: Sequence[object]) -> bytes:
    raise ZeroDivisionError("a fault of the firmware")
