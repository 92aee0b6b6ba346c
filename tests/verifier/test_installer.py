"""The acts of DESIGN §4: from metadata to a marked slot, and from a trial to a confirmed image; every refusal leaves the rest unchanged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

import pytest

from bench import CLOCK, DEVICE, LAYOUT, STATE_SIZE, Rig, blind, confirmed_rig, is_unprovisioned, newer, unchanged
from forge import DAY, YEAR, Repo, key
from hillhold_bootsim.flash import Flash
from hillhold_bootsim.layout import SimRecordAreas
from hillhold_verifier.errors import (
    ExpiredError,
    ImageError,
    MetadataError,
    MismatchError,
    MissingError,
    OrderError,
    Refused,
    SelectionError,
    SignatureError,
    SpaceError,
    TransferError,
    UnprovisionedError,
)
from hillhold_verifier.installer import provision
from hillhold_verifier.keys import usable_schemes
from hillhold_verifier.state import StateStore, encode_record
from offers import image, offer, started

# --- the way ----------------------------------------------------------------------------------------------------------


def test_the_first_image_goes_to_slot_0_and_the_next_to_slot_1() -> None:
    rig = confirmed_rig()
    assert (rig.facts().running, rig.facts().confirmed, rig.facts().counter) == ("1.0.0", 0, 1)
    rig.install(newer(rig))
    facts = rig.facts()
    assert (facts.running, facts.confirmed, facts.counter, facts.mark) == ("1.1.0", 1, 2, None)
    assert rig.whole_image(0) == "1.0.0"
    rig.install(newer(rig, "1.2.0"))
    assert (rig.facts().confirmed, rig.whole_image(0)) == (0, "1.2.0")


def test_confirming_what_is_confirmed_changes_nothing() -> None:
    rig = confirmed_rig()
    operations = rig.flash.operations
    assert str(rig.installer.confirm(self_tested=False)[0].version) == "1.0.0"
    assert rig.flash.operations == operations


def test_a_chain_that_is_held_needs_nothing() -> None:
    rig = confirmed_rig()
    assert rig.installer.receive("timestamp", rig.repo.files["timestamp"], CLOCK) is None
    assert rig.installer.choose(CLOCK).plan == ()


def test_a_root_comes_before_the_rest_and_may_be_left_out() -> None:
    rig = confirmed_rig()
    rig.repo.rotate("timestamp")
    with pytest.raises(SignatureError):
        rig.installer.receive("timestamp", rig.repo.files["timestamp"], CLOCK)
    need = rig.installer.receive("root", rig.repo.files["root"], CLOCK)
    assert need is not None
    assert (need.role, need.version) == ("root", 3)
    rig.take()
    assert rig.held().versions["root"] == 2
    rig.reset()
    assert rig.held().versions["root"] == 2


def test_a_release_below_the_counter_store_is_refused_though_the_confirmed_image_is_below_it_too() -> None:
    rig = confirmed_rig()
    newer(rig)
    rig.counter.raise_to(3)
    with pytest.raises(SelectionError, match="counter 2 is below this device's 3"):
        rig.installer.mark(CLOCK)


def test_each_file_is_judged_at_the_time_at_which_it_comes() -> None:
    rig = confirmed_rig()
    offer(rig.repo, "1.1.0")
    rig.repo.publish()
    rig.installer.receive("timestamp", rig.repo.files["timestamp"], CLOCK)
    with unchanged(rig), pytest.raises(ExpiredError, match="root"):
        rig.installer.receive("snapshot", rig.repo.files["snapshot"], CLOCK + 3 * YEAR)


# --- order ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["snapshot", "targets", "pump"])
def test_a_file_before_its_lister_is_refused(role: str) -> None:
    rig = confirmed_rig()
    offer(rig.repo, "1.1.0")
    rig.repo.publish("targets", "line", "snapshot", "timestamp")
    with unchanged(rig), pytest.raises(OrderError):
        rig.installer.receive(role, rig.repo.files["line" if role == "pump" else role], CLOCK)


@pytest.mark.parametrize("role", ["targets", "pump"])
def test_a_file_out_of_turn_is_refused_and_the_right_one_needs_a_new_start(role: str) -> None:
    rig = confirmed_rig()
    offer(rig.repo, "1.1.0")
    rig.repo.publish("targets", "line", "snapshot", "timestamp")
    with unchanged(rig):
        rig.installer.receive("timestamp", rig.repo.files["timestamp"], CLOCK)
        with pytest.raises(OrderError, match="expected snapshot"):
            rig.installer.receive(role, rig.repo.files["line" if role == "pump" else role], CLOCK)
        with pytest.raises(MissingError):
            rig.installer.choose(CLOCK)
    rig.take()
    assert str(rig.installer.choose(CLOCK).require()[0].version) == "1.1.0"


def test_what_was_accepted_before_a_refusal_stays_accepted() -> None:
    rig = confirmed_rig()
    offer(rig.repo, "1.1.0")
    rig.repo.publish()
    rig.installer.receive("timestamp", rig.repo.files["timestamp"], CLOCK)
    with pytest.raises(MismatchError):
        rig.installer.receive("snapshot", b"{}", CLOCK)
    assert rig.held().versions["timestamp"] == 2
    assert rig.held().versions["snapshot"] == 1


def test_an_unknown_role_is_an_order_error() -> None:
    rig = confirmed_rig()
    with unchanged(rig), pytest.raises(OrderError):
        rig.installer.receive("valve", rig.repo.files["line"], CLOCK)


# --- choosing and marking ---------------------------------------------------------------------------------------------


def test_nothing_is_chosen_from_an_expired_chain() -> None:
    rig = confirmed_rig()
    data = newer(rig)
    late = CLOCK + 8 * DAY
    with unchanged(rig):
        with pytest.raises(ExpiredError):
            rig.installer.choose(late)
        with pytest.raises(ExpiredError):
            rig.installer.begin(sha256(data).digest(), len(data), late)
    rig.send(data)
    with unchanged(rig), pytest.raises(ExpiredError):
        rig.installer.mark(late)


def test_an_empty_slot_is_not_marked() -> None:
    rig = confirmed_rig()
    newer(rig)
    with unchanged(rig), pytest.raises(SelectionError, match="no whole image"):
        rig.installer.mark(CLOCK)


def test_marking_says_what_is_marked() -> None:
    rig = confirmed_rig()
    rig.send(newer(rig))
    assert [release.path for release in rig.installer.mark(CLOCK)] == ["pump/1.1.0/app.bin"]


def test_a_component_of_which_nothing_is_chosen_takes_nothing() -> None:
    rig = confirmed_rig()
    with unchanged(rig), pytest.raises(TransferError, match="no release may be installed now"):
        rig.installer.begin(sha256(image("1.0.0")).digest(), len(image("1.0.0")), CLOCK)


def test_marking_chooses_again() -> None:
    rig = confirmed_rig()
    rig.send(newer(rig))
    newer(rig, "1.2.0")
    with unchanged(rig), pytest.raises(SelectionError, match=r"expected pump/1\.2\.0"):
        rig.installer.mark(CLOCK)


def test_content_that_changed_since_is_not_marked_and_counts_as_absent() -> None:
    rig = confirmed_rig()
    data = newer(rig)
    rig.send(data)
    rig.slots.erase(1, 0, rig.slots.sector)
    with unchanged(rig), pytest.raises(MismatchError, match="image hash"):
        rig.installer.mark(CLOCK)
    assert rig.stored().slots[1] is None
    assert rig.trial(data).trial, "it can be sent again"


@pytest.mark.parametrize("custom", [{"security_counter": 9}, {"format": "raw", "security_counter": 9}])
def test_an_image_whose_header_states_another_counter_is_not_marked(custom: dict[str, object]) -> None:
    rig = confirmed_rig()
    data = offer(rig.repo, "1.1.0", 2)
    rig.repo.change("pump/1.1.0/app.bin", **custom)
    rig.repo.publish()
    rig.take()
    rig.send(data)
    with unchanged(rig), pytest.raises(MismatchError, match="counter 9"):
        rig.installer.mark(CLOCK)


@pytest.mark.parametrize("form", ["mcuboot", "raw"])
def test_an_image_whose_header_states_another_version_is_not_marked(form: str) -> None:
    rig = confirmed_rig()
    data = offer(rig.repo, "1.5.0", 1, data=image("1.1.0", 1), format=form)
    rig.repo.publish()
    rig.take()
    rig.send(data)
    with unchanged(rig), pytest.raises(MismatchError, match=r"expected version 1\.5\.0"):
        rig.installer.mark(CLOCK)


def test_an_image_with_bytes_behind_it_is_not_marked() -> None:
    """Signed as one file, it is longer than the image that the bootloader sees, which would refuse it after every reset."""
    rig = confirmed_rig()
    data = offer(rig.repo, "1.1.0", 2, data=image("1.1.0", 2) + bytes(8))
    rig.repo.publish()
    rig.take()
    rig.send(data)
    with unchanged(rig), pytest.raises(MismatchError, match="image length: expected 5196, got 5188"):
        rig.installer.mark(CLOCK)


def test_a_release_that_says_mcuboot_and_is_none_is_not_marked() -> None:
    rig = confirmed_rig()
    data = offer(rig.repo, "1.1.0", 2, data=b"no image at all" * 50)
    rig.repo.publish()
    rig.take()
    rig.send(data)
    with unchanged(rig), pytest.raises(ImageError):
        rig.installer.mark(CLOCK)


@pytest.mark.parametrize("data", [b"no image at all" * 50, image("1.1.0", 2, key="foreign")], ids=["raw", "foreign"])
def test_what_the_bootloader_does_not_trust_never_runs(data: bytes) -> None:
    rig = confirmed_rig()
    offer(rig.repo, "1.1.0", 2, data=data, format="raw")
    rig.repo.publish()
    rig.take()
    before = rig.facts()
    outcome = rig.trial(data)
    assert not outcome.trial
    assert any("no trial" in event for event in outcome.events)
    after = rig.facts()
    assert (after.running, after.confirmed, after.mark, after.counter) == ("1.0.0", 0, None, before.counter)


# --- erase ------------------------------------------------------------------------------------------------------------


def test_erasing_clears_the_mark_first_and_the_rest_can_be_sent_again() -> None:
    rig = confirmed_rig()
    data = newer(rig)
    rig.send(data)
    rig.installer.mark(CLOCK)
    rig.installer.erase()
    assert (rig.facts().mark, rig.stored().slots[1]) == (None, None)
    assert rig.slots.read(1, 0, rig.slots.size) == b"\xff" * rig.slots.size
    assert rig.whole_image(0) == "1.0.0"
    assert rig.trial(data).trial


# --- the state --------------------------------------------------------------------------------------------------------


def test_an_unreadable_state_is_never_taken_for_empty() -> None:
    rig = confirmed_rig()
    blind(rig, 0)
    blind(rig, 1)
    with pytest.raises(UnprovisionedError, match="readable record"):
        rig.reset()
    assert is_unprovisioned(rig)
    assert rig.whole_image(0) == "1.0.0"


def test_the_older_record_is_not_needed() -> None:
    rig = confirmed_rig()
    sequences = [int.from_bytes(rig.areas.read(index)[6:14]) for index in (0, 1)]
    blind(rig, sequences.index(min(sequences)))
    rig.reset()
    assert (rig.facts().running, rig.held().versions["line"]) == ("1.0.0", 1)
    rig.install(newer(rig))
    assert rig.facts().running == "1.1.0"


def test_a_state_that_has_lost_its_newest_record_refuses_rather_than_guesses() -> None:
    rig = confirmed_rig()
    sequences = [int.from_bytes(rig.areas.read(index)[6:14]) for index in (0, 1)]
    blind(rig, sequences.index(max(sequences)))
    with pytest.raises(UnprovisionedError, match="confirmed slot"):
        rig.reset()
    assert rig.whole_image(0) == "1.0.0"


def test_a_confirmed_slot_of_which_the_state_knows_nothing_is_refused() -> None:
    rig = confirmed_rig()
    store = StateStore(rig.areas)
    store.save(replace(store.load(), slots=(None, None)))
    with pytest.raises(UnprovisionedError, match="confirmed slot"):
        rig.reset()


# --- room for what must always fit -----------------------------------------------------------------------------------


def padded_snapshot(rig: Rig, left: int) -> dict[str, bytes]:
    """Files of which the snapshot fills the state's area up to `left` bytes."""

    def files(pad: int) -> dict[str, bytes]:
        snapshot = rig.repo.snapshot(version=2, edit=lambda signed: signed.update(pad="x" * pad))
        return {**rig.repo.files, "snapshot": snapshot, "timestamp": rig.repo.timestamp(version=2, snapshot=snapshot)}

    trial = files(5000)
    sizes = {name: len(trial[name]) - len(rig.repo.files[name]) for name in ("snapshot", "timestamp")}
    free = STATE_SIZE - len(encode_record(1, rig.stored())) - sum(sizes.values())
    return files(5000 + free - left)


@pytest.mark.parametrize(("left", "fits"), [(4096, True), (4095, False)])
def test_metadata_leaves_4096_bytes_free_to_the_byte(left: int, fits: bool) -> None:
    rig = confirmed_rig()
    files = padded_snapshot(rig, left)
    rig.installer.receive("timestamp", files["timestamp"], CLOCK)
    if fits:
        assert rig.installer.receive("snapshot", files["snapshot"], CLOCK) is None
        assert STATE_SIZE - len(encode_record(1, rig.stored())) == 4096
    else:
        with unchanged(rig), pytest.raises(SpaceError, match="expected 4096 bytes left free, got 4095"):
            rig.installer.receive("snapshot", files["snapshot"], CLOCK)
        assert rig.held().versions["snapshot"] == 1


@pytest.mark.parametrize(("left", "fits"), [(4096, True), (4095, False)])
def test_a_new_root_puts_all_other_files_out_where_it_finds_no_room_and_floors_stay(left: int, fits: bool) -> None:
    rig = confirmed_rig()
    rig.take(padded_snapshot(rig, 4096))
    before = rig.held()
    bare = replace(rig.stored().trust, timestamp=None, snapshot=None, targets=None, line=None)
    free = STATE_SIZE - len(encode_record(1, replace(rig.stored(), trust=bare)))

    def root(pad: int) -> bytes:
        return rig.repo.root(version=2, edit=lambda signed: signed.update(pad="x" * pad))

    large = root(5000 + free - left - len(root(5000)) + len(rig.repo.files["root"]))
    if not fits:
        with unchanged(rig), pytest.raises(SpaceError, match="got 4095"):
            rig.take_root(large)
        return
    rig.take_root(large)
    trust = rig.stored().trust
    assert (trust.timestamp, trust.snapshot, trust.targets, trust.line) == (None, None, None, None)
    assert rig.held().is_not_below(before)
    assert rig.held().versions == {"root": 2}
    rig.reset()
    assert rig.held().is_not_below(before)


def test_a_new_root_that_just_fits_puts_nothing_out() -> None:
    rig = confirmed_rig()
    before = rig.held().versions
    free = STATE_SIZE - len(encode_record(1, rig.stored())) + len(rig.repo.files["root"])

    def root(pad: int) -> bytes:
        return rig.repo.root(version=2, edit=lambda signed: signed.update(pad="x" * pad))

    rig.take_root(root(5000 + free - 4096 - len(root(5000))))
    assert STATE_SIZE - len(encode_record(1, rig.stored())) == 4096
    assert rig.held().versions == {**before, "root": 2}


# --- provisioning -----------------------------------------------------------------------------------------------------


def test_a_device_is_provisioned_with_the_schemes_that_it_can_use() -> None:
    """They count while its first image is on trial."""
    areas = SimRecordAreas(Flash(LAYOUT.geometry), LAYOUT.state)
    provision(StateStore(areas), DEVICE, started().files["root"])
    assert StateStore(areas).load().schemes == usable_schemes()


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda repo: repo.root(version=1, signers=[key("root-1")]), SignatureError),
        (lambda repo: repo.root(version=1, signers=[key("mallory"), key("eve")]), SignatureError),
        (lambda repo: repo.files["timestamp"], MetadataError),
        (lambda repo: b"", MetadataError),
    ],
    ids=["one-of-two", "strangers", "timestamp", "empty"],
)
def test_provisioning_with_anything_but_a_root_writes_nothing(
    spoil: Callable[[Repo], bytes], error: type[Refused]
) -> None:
    repo = started()
    areas = SimRecordAreas(Flash(LAYOUT.geometry), LAYOUT.state)
    with pytest.raises(error):
        provision(StateStore(areas), DEVICE, spoil(repo))
    assert areas.read(0) == areas.read(1) == b"\xff" * STATE_SIZE


def test_an_expired_root_refuses_updates_and_never_the_running_image() -> None:
    rig = confirmed_rig()
    offer(rig.repo, "1.1.0")
    rig.repo.publish()
    with unchanged(rig), pytest.raises(ExpiredError, match="root"):
        rig.installer.receive("timestamp", rig.repo.files["timestamp"], CLOCK + 3 * YEAR)
