"""Every trace in which the model found a hole in an earlier text of the rules, done to the real code, which does not have it.

    DEVICE    the device's own rules close it: a step on the way is refused, or has another end
    OWNER     the owner's rules close it, or what the owner allows the line: the trace of an owner without them still shows the hole on
              the real device, which cannot tell; the same history under them does not. So the signer has to keep them.

At each step the model under the rules of today and the real device agree; at the end an honest courier brings the device to the newest
release. What is violated is named as the model names it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from hillhold_bootsim.flash import Cut, CutAt, PowerLost
from hillhold_bootsim.layout import Layout
from hillhold_verifier import installer
from hillhold_verifier.errors import Refused
from hillhold_verifier.keys import SCHEMES
from trustmodel.config import DEVICE, Config, Confirmation
from trustmodel.courier import CONFIRM, RESET, Move
from trustmodel.device import IDLE, TRIAL
from trustmodel.driven import as_real
from trustmodel.files import FIRST, SECOND
from trustmodel.replay import Outcome, Replay
from trustmodel.scenarios import (
    EITHER,
    LATE,
    LOCKED_OUT,
    OLD_LINE,
    OLD_SNAPSHOT,
    OLD_TIMESTAMP,
    OVER,
    THEFT,
    TWO_OF_THREE,
    stuck_at,
)
from trustmodel.twin import LAYOUT, SWAPPING

TAKEN, REFUSED = Outcome.TAKEN, Outcome.REFUSED
LIFE = Config((("r2", 1), ("withdraw", 1), ("rotate", 1)))
R2_IS_MARKED = (
    "deliver T2->S2 issued 0 key 1 | deliver S2->D1,L2 key 1 | deliver L2 key 1 | upload r2 | smp test r2 (clock 0)"
)
WITHDRAWAL = "deliver T3->S3 issued 0 key 1 | deliver S3->D1,L3 key 1 | deliver L3 key 1"
NEW_KEYS_AND_R3 = "deliver R2 | deliver T3->S3 issued 0 key 2 | deliver S3->D1,L3 key 2 | deliver L3 key 1 | upload r3"


def on_device(config: Config, *, layout: Layout = LAYOUT) -> Replay:
    """A device under its own rules, and what more the configuration names."""
    return Replay(as_real(config).under(config.rules, DEVICE), layout)


def refused_at(outcomes: list[Outcome]) -> list[int]:
    return [number for number, outcome in enumerate(outcomes) if outcome is not TAKEN]


# --- DEVICE: trials (scenario `life`)


def test_a_trial_that_lost_its_power_is_tried_again() -> None:
    """P1 locked out of the newest release (runs r1)."""
    replay = on_device(LIFE)
    assert not refused_at(replay.run(f"OWNER r2 | {R2_IS_MARKED} | power cut/reset | power cut/reset"))
    assert replay.twin.seen().phase == TRIAL
    assert replay.honest() == "r2"


def test_a_trial_that_lost_its_power_is_tried_again_after_a_rotation() -> None:
    """P1 locked out of the newest release (runs r2)."""
    replay = on_device(LIFE)
    trace = f"OWNER r2 | OWNER rotate | {NEW_KEYS_AND_R3} | smp test r3 (clock 0) | power cut/reset | power cut/reset"
    assert not refused_at(replay.run(trace))
    assert replay.twin.seen().phase == TRIAL
    assert replay.honest() == "r3"


def test_a_withdrawal_clears_the_mark() -> None:
    """P4 confirmed a release withdrawn in accepted metadata."""
    replay = on_device(LIFE)
    trace = (
        f"OWNER r2 | OWNER withdraw | {R2_IS_MARKED} | {WITHDRAWAL} | power cut/reset | image tests itself, confirms"
    )
    assert refused_at(replay.run(trace)) == [10, 11], (
        "nothing is on trial: the boot changes nothing, nor does a confirmation"
    )
    assert replay.twin.seen().confirmed == FIRST
    assert replay.honest() == "r1"


def test_a_withdrawal_ends_a_trial() -> None:
    """P4 confirmed a release withdrawn in accepted metadata, where it arrives while the image is on trial."""
    replay = on_device(LIFE)
    trace = (
        f"OWNER r2 | OWNER withdraw | {R2_IS_MARKED} | power cut/reset | {WITHDRAWAL} | image tests itself, confirms"
    )
    assert refused_at(replay.run(trace)) == [11]
    assert replay.step(RESET) is TAKEN
    assert replay.twin.seen().confirmed == FIRST
    assert replay.honest() == "r1"


def test_an_upload_clears_the_mark() -> None:
    """P2 confirmed an image that was never selected."""
    replay = on_device(LIFE)
    trace = (
        f"OWNER r2 | OWNER rotate | {R2_IS_MARKED} | {NEW_KEYS_AND_R3} | power cut/reset | image tests itself, confirms"
    )
    assert refused_at(replay.run(trace)) == [12, 13]
    assert (replay.twin.seen().confirmed, replay.twin.seen().phase) == (FIRST, IDLE)
    assert replay.honest() == "r3"


def test_a_line_that_is_no_longer_listed_selects_nothing() -> None:
    """P4 marked from an older line role than the accepted snapshot lists."""
    replay = on_device(LIFE)
    trace = (
        "OWNER r2 | OWNER withdraw | deliver T2->S2 issued 0 key 1 | deliver S2->D1,L2 key 1 | deliver L2 key 1 "
        "| deliver T3->S3 issued 0 key 1 | deliver S3->D1,L3 key 1 | upload r2 | smp test r2 (clock 0)"
    )
    assert refused_at(replay.run(trace)) == [7, 8]
    assert replay.honest() == "r1"


def test_a_line_that_is_no_longer_listed_marks_nothing_that_was_uploaded_before() -> None:
    """P4 marked from an older line role than the accepted snapshot lists, with the upload first."""
    replay = on_device(LIFE)
    trace = (
        "OWNER r2 | OWNER withdraw | deliver T2->S2 issued 0 key 1 | deliver S2->D1,L2 key 1 | deliver L2 key 1 "
        "| upload r2 | deliver T3->S3 issued 0 key 1 | deliver S3->D1,L3 key 1 | smp test r2 (clock 0)"
    )
    assert refused_at(replay.run(trace)) == [8]
    assert replay.honest() == "r1"


def test_the_wire_confirms_nothing_before_the_image_has_tested_itself() -> None:
    """P2 confirmed though its test never passed (scenario `bad-release`)."""
    replay = on_device(Config((("r2", 1), ("tick", 1)), second_works=False))
    assert refused_at(replay.run(f"OWNER r2 | {R2_IS_MARKED} | power cut/reset | smp confirm")) == [7]
    assert replay.twin.seen().phase == TRIAL
    assert replay.honest() == "r1"
    assert replay.twin.seen().failed == 1 << SECOND


# --- DEVICE: steps down, counters, algorithms


def test_a_device_does_not_go_up_and_down_for_ever() -> None:
    """P1 the device changes release for ever (scenario `downgrade`)."""
    replay = on_device(Config((("r2", 1), ("downgrade", 1), ("rotate", 1))))
    assert not refused_at(replay.run("OWNER r2 | OWNER downgrade"))
    assert replay.honest() == "rd"
    assert replay.honest() == "rd"


@pytest.mark.parametrize(
    "before",
    [
        "OWNER r2 | OWNER downgrade | OWNER undo",
        "OWNER r2 | OWNER downgrade | OWNER undo | deliver T3->S3 issued 0 key 1 | deliver S3->D1,L3 key 1 "
        "| deliver L3 key 1 | upload rd | smp test rd (clock 0)",
    ],
)
def test_a_withdrawn_release_steps_nothing_down(before: str) -> None:
    """P1 locked out of the newest release (runs r1; runs rd), where no-pingpong counts withdrawn releases (`downgrade-undo`)."""
    replay = on_device(Config((("r2", 1), ("downgrade", 1), ("undo", 1))))
    assert not refused_at(replay.run(before))
    assert replay.honest() == "r2"


@pytest.mark.parametrize("layout", [LAYOUT, SWAPPING], ids=lambda layout: layout.mode.value)
def test_the_counter_never_goes_before_the_confirmation(layout: Layout) -> None:
    """P3 no image boots (scenario `counter-first`): the power goes at every flash operation of a confirmation."""
    config, number, cuts = Config((("r2", 1),)), 0, 0
    while cuts == number * len(Cut):
        for where in Cut:
            replay = on_device(config, layout=layout)
            assert not refused_at(replay.run(f"OWNER r2 | {R2_IS_MARKED} | power cut/reset"))
            replay.twin.flash.power_cut = CutAt(replay.twin.flash.operations + number, where)
            try:
                replay.twin.act(Move(CONFIRM))
            except PowerLost:
                cuts += 1
            replay.twin.flash.power_cut = None
            replay.twin.act(Move(RESET))
            seen = replay.twin.seen()
            assert replay.twin.control.flags().running is not None
            assert (seen.confirmed, seen.counter) == ((SECOND, 1) if seen.phase == IDLE else (FIRST, 0))
        number += 1
    assert number > 2, "flag and counter are two writes at least"


@pytest.mark.parametrize("layout", [LAYOUT, SWAPPING], ids=lambda layout: layout.mode.value)
def test_the_confirmed_image_holds_the_counter_while_its_store_does_not(layout: Layout) -> None:
    """P2 confirmed a lower counter (scenario `flag-first`): on a board whose store is full, so that it can never follow."""
    full = replace(layout, geometry=replace(layout.geometry, otp=0))
    config = Config((("r2", 1), ("downgrade", 1)), confirmation=Confirmation.FLAG_FIRST, step_down_counter=0)
    replay = on_device(config, layout=full)
    trace = (
        f"OWNER r2 | OWNER downgrade | {R2_IS_MARKED} | {WITHDRAWAL} | power cut/reset | image tests itself, confirms "
        "| upload rd | smp test rd (clock 0)"
    )
    assert refused_at(replay.run(trace)) == [12, 13]
    assert (replay.twin.seen().confirmed, replay.twin.seen().counter) == (SECOND, 0)


def test_the_line_that_a_thief_of_it_gives_endless_grace_is_passed_over_too() -> None:
    """P4 expired view accepted beyond the owner's grace: this trace meets no-pingpong; that of `HOLES` has the thief's next file."""
    replay = on_device(GRACE)
    trace = (
        "OWNER theft | OWNER tick | OWNER tick | OWNER tick | deliver T2->S2 issued 0 key 1 "
        "| deliver S2->D1,L2 key 1 | deliver L2 FORGED key 1 | upload r2 | smp test r2 (clock 3)"
    )
    assert refused_at(replay.run(trace)) == [7, 8]


def restart(replay: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the agent of the image that runs, of which only newer ones can verify ECDSA."""
    seen = replay.twin.seen()
    running = seen.other if seen.phase == TRIAL else seen.confirmed
    schemes = SCHEMES if running >= SECOND else frozenset({"ed25519"})
    monkeypatch.setattr(installer, "SCHEMES", schemes)
    monkeypatch.setattr(installer, "usable_schemes", lambda: schemes)
    replay.twin.start_agent()


def test_an_unconfirmed_image_accepts_no_root_that_the_confirmed_one_could_not_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P1 locked out of current metadata (scenario `algorithm`)."""
    replay = on_device(Config((("r2", 1), ("rotate", 1)), new_algorithm=True))
    restart(replay, monkeypatch)
    trace = "OWNER rotate | deliver T2->S2 issued 0 key 1 | deliver S2->D1,L2 key 1 | deliver L2 key 1 | upload r3"
    assert not refused_at(replay.run(f"{trace} | smp test r3 (clock 0) | power cut/reset"))
    restart(replay, monkeypatch)
    assert replay.step("deliver R2") is REFUSED
    assert not refused_at(replay.run("power cut/reset | image tests itself, confirms"))
    restart(replay, monkeypatch)
    assert replay.step("deliver R2") is TAKEN, "once it is confirmed it follows"


# --- OWNER: what the signer has to keep, since no device can tell


@dataclass(frozen=True)
class Hole:
    """A trace of an owner without a rule, and that owner with it.

    Attributes:
        trace: up to the step that the model calls a violation.
        violation: its name; a P1 shows when an honest courier tries.
        config, amended: the owner without and with it.
        runs: the release that the amended owner's honest courier arrives at.
    """

    trace: str
    violation: str
    config: Config
    amended: Config
    runs: str


THEFT_OF_2 = Config((("theft", 1), *OVER[:2], *OVER[3:]), "timestamp", timestamp=EITHER, installs=False)
RETIRE = Config(OVER, timestamp=EITHER, snapshot=EITHER)
RETIRE_IN_TIME = replace(RETIRE, acts=(*OVER[:-1], ("tick", 2)))
RETIRE_WITHDRAWING = replace(RETIRE, acts=(*OVER[:2], ("withdraw", 1), ("rotate", 1)))
RETIRE_QUORUM = replace(RETIRE_WITHDRAWING, timestamp=TWO_OF_THREE, snapshot=TWO_OF_THREE, signers=(3, 6))
RAISED = Config((("r2", 1), ("raise", 1), ("tick", 1)), installs=False)
BELOW = Config(THEFT, "line", line=TWO_OF_THREE, signers=(3, 6), installs=False)
TWO_SIGN_BY_TURNS = "OWNER switch | OWNER r2 | OWNER switch"


def hole(trace: str, violation: str, config: Config, amended: frozenset[str] | Config, runs: str) -> Hole:
    """`amended`: the owner's rules, or another configuration."""
    if isinstance(amended, frozenset):
        amended = config.under(config.rules, amended)
    before, after = (as_real(each).under(each.rules, DEVICE) for each in (config, amended))
    return Hole(trace, violation, before, after, runs)


def one(rule: str) -> frozenset[str]:
    return frozenset({rule})


L_STOLEN, S_STOLEN = Config(THEFT, "line", installs=False), Config(THEFT, "snapshot", installs=False)
RAW = Config(THEFT, "line", raw_images=True).under("successor")
GRACE = Config(LATE, "line", grace=1, lifetime=3).under("successor")
HOLES = {
    "theft-T-of-2": hole(
        "OWNER theft | OWNER rotate | OWNER r2 | deliver T3->S3 issued 0 key 2 "
        "| deliver TMAX FORGED->SMAX issued 0 key 1 | deliver R2 | deliver T2->S2 issued 0 key 2",
        OLD_TIMESTAMP,
        THEFT_OF_2,
        one("replace-all"),
        "r3",
    ),
    **{
        f"theft-S, {rule}": hole(
            "OWNER theft | OWNER rotate | deliver T4->SMAX issued 0 key 1", LOCKED_OUT, S_STOLEN, one(rule), "r3"
        )
        for rule in ("successor", "rotate-both")
    },
    **{
        f"theft-L, {rule}": hole(
            "OWNER theft | OWNER rotate | deliver T4->S4 issued 0 key 1 | deliver S4->D1,LMAX key 1",
            LOCKED_OUT,
            L_STOLEN,
            one(rule),
            "r3",
        )
        for rule in ("successor", "rotate-both")
    },
    "theft-L-raw": hole(
        "OWNER theft | OWNER rotate | deliver T3->S3 issued 0 key 1 | deliver S3->D1,L3 key 1 "
        "| deliver L3 FORGED key 1 | upload evil | smp test evil (clock 0)",
        stuck_at("evil"),
        RAW,
        replace(RAW, counter_limit=1),
        "r3",
    ),
    "retire-key": hole(
        f"{TWO_SIGN_BY_TURNS} | OWNER refresh | OWNER rotate | deliver T3->S2 issued 0 key 1 | deliver R2 "
        "| deliver T2->S2 issued 0 key 2",
        OLD_TIMESTAMP,
        RETIRE,
        one("replace-all"),
        "r3",
    ),
    "retire-key-t": hole(
        f"{TWO_SIGN_BY_TURNS} | OWNER tick | OWNER tick | OWNER refresh | OWNER rotate "
        "| deliver T3->S2 issued 2 key 1 | deliver S2->D1,L2 key 2 | deliver L2 key 1 | deliver R2 "
        "| deliver T2->S2 issued 0 key 2 | upload r2 | smp test r2 (clock 0)",
        "P5 metadata expired before the time floor revived",
        RETIRE_IN_TIME,
        one("replace-all"),
        "r3",
    ),
    "retire-key-wd, timestamp": hole(
        f"{TWO_SIGN_BY_TURNS} | OWNER withdraw | OWNER rotate | deliver T3->S3 issued 0 key 1 | deliver R2 "
        "| deliver T2->S2 issued 0 key 2",
        OLD_TIMESTAMP,
        RETIRE_WITHDRAWING,
        one("replace-all"),
        "r3",
    ),
    "retire-key-wd, snapshot": hole(
        f"{TWO_SIGN_BY_TURNS} | OWNER withdraw | OWNER rotate | deliver T3->S3 issued 0 key 1 "
        "| deliver S3->D1,L3 key 1 | deliver R2 | deliver T2->S2 issued 0 key 2 | deliver S2->D1,L2 key 2",
        OLD_SNAPSHOT,
        RETIRE_WITHDRAWING,
        one("replace-all"),
        "r3",
    ),
    "retire-key-wd, line": hole(
        f"{TWO_SIGN_BY_TURNS} | OWNER withdraw | OWNER rotate | deliver T3->S3 issued 0 key 1 "
        "| deliver S3->D1,L3 key 1 | deliver R2 | deliver T2->S2 issued 0 key 2 | deliver S2->D1,L2 key 2 "
        "| deliver L2 key 1 | upload r2 | smp test r2 (clock 0)",
        OLD_LINE,
        RETIRE_WITHDRAWING,
        one("replace-all"),
        "r3",
    ),
    "grace-theft": hole(
        "OWNER theft | OWNER tick | OWNER tick | OWNER tick | deliver T3->S3 issued 0 key 1 "
        "| deliver S3->D1,L3 key 1 | deliver L3 FORGED key 1 | upload r2 | smp test r2 (clock 3)",
        "P4 expired view accepted beyond the owner's grace",
        GRACE,
        replace(GRACE, grace_limit=1),
        "r3",
    ),
    "quorum-raise": hole(
        "OWNER raise | OWNER r2 | deliver T3->S3 issued 0 key 3 | deliver R2 | deliver T2->S2 issued 0 key 3",
        OLD_TIMESTAMP,
        RAISED,
        one("replace-all"),
        "r2",
    ),
    "quorum-retire": hole(
        f"{TWO_SIGN_BY_TURNS} | OWNER withdraw | OWNER rotate | deliver T3->S3 issued 0 key 3 "
        "| deliver S3->D1,L3 key 3 | deliver R2 | deliver T2->S2 issued 0 key 6 | deliver S2->D1,L2 key 6 "
        "| deliver L2 key 1 | upload r2 | smp test r2 (clock 0)",
        OLD_LINE,
        RETIRE_QUORUM,
        one("replace-all"),
        "r3",
    ),
    "quorum-L-unverified": hole("OWNER r2 | OWNER theft", LOCKED_OUT, BELOW, one("successor"), "r2"),
}


def recovered(replay: Replay) -> str:
    """What an honest courier arrives at, once the owner has answered a theft; "" where it does not arrive at what is current."""
    if replay.config.stolen and not replay.config.harmless and "rotate" not in replay.owner.script:
        assert replay.step("OWNER rotate") is TAKEN
    try:
        return replay.honest()
    except (AssertionError, Refused):
        return ""


@pytest.mark.parametrize("name", HOLES)
def test_without_the_owners_rule_the_hole_is_there(name: str) -> None:
    found = HOLES[name]
    replay = Replay(found.config)
    assert not refused_at(replay.run(found.trace)), "the real device takes each step, as the model does"
    if found.violation.startswith("P1"):
        assert recovered(replay) != found.runs
    else:
        assert replay.violations[-1] == found.violation


@pytest.mark.parametrize("name", HOLES)
def test_with_the_owners_rule_it_is_not(name: str) -> None:
    found = HOLES[name]
    replay = Replay(found.amended)
    replay.run(found.trace)
    assert not replay.violations
    assert recovered(replay) == found.runs
