"""What a device remembers: every value comes back, a cut leaves the old record, and unreadable is never taken for empty."""

from __future__ import annotations

import struct
from dataclasses import replace
from hashlib import sha256

import cbor2
import pytest

from forge import Repo
from hillhold_verifier.errors import OperationalError, RecordError, UnprovisionedError
from hillhold_verifier.installer import provision
from hillhold_verifier.keys import SCHEMES
from hillhold_verifier.release import Version
from hillhold_verifier.select import Device, Installed
from hillhold_verifier.state import (
    FORMAT,
    MAX_FAILED,
    RESERVE,
    DeviceState,
    StagedPatch,
    StateStore,
    Transfer,
    decode_record,
    encode_record,
)
from hillhold_verifier.trust import Floor, current
from holder import NOW, PUMP, fresh, holding

ERASED = b"\xff"


class Areas:
    """Two areas in memory; `cut` bytes of the next write reach them, the rest stays erased, and the power goes."""

    def __init__(self, size: int = 65_536) -> None:
        self._size = size
        self.content = [ERASED * size, ERASED * size]
        self.written: list[int] = []
        self.cut: int | None = None

    @property
    def size(self) -> int:
        return self._size

    def read(self, index: int) -> bytes:
        return self.content[index]

    def write(self, index: int, data: bytes) -> None:
        assert len(data) <= self._size
        kept = data if self.cut is None else data[: self.cut]
        self.content[index] = kept + ERASED * (self._size - len(kept))
        self.written.append(index)
        if self.cut is not None:
            raise OperationalError("the power is gone")


def release(name: str, number: int) -> Installed:
    return Installed(f"pump/{name}/app.bin", Version.parse(name), bytes([number]) * 32, 100 + number, number)


@pytest.fixture(scope="module")
def repo() -> Repo:
    repo = Repo()
    repo.add_release("1.1.0", b"image")
    repo.publish()
    return repo


@pytest.fixture(scope="module")
def full(repo: Repo) -> DeviceState:
    """A state in which every field holds something."""
    return DeviceState(
        PUMP,
        holding(repo),
        (release("1.0.0", 1), release("1.1.0+7", 2)),
        Transfer(0, release("1.1.0+7", 2), StagedPatch(b"\5" * 32, 77, "hhp2", b"\6" * 32, 101)),
        (b"\7" * 32, b"\10" * 32),
        frozenset({"ed25519"}),
    )


def empty(repo: Repo) -> DeviceState:
    return DeviceState(PUMP, fresh(repo), (None, None), schemes=SCHEMES)


def body_of(record: bytes) -> bytes:
    return record[18:-32]


def with_body(body: bytes, *, version: int = FORMAT, sequence: int = 1, magic: bytes = b"HHst") -> bytes:
    record = struct.pack(">4sHQI", magic, version, sequence, len(body)) + body
    return record + sha256(record).digest()


def test_everything_comes_back(repo: Repo, full: DeviceState) -> None:
    for state in (
        full,
        empty(repo),
        replace(full, transfer=Transfer(0, release("1.0.0", 1))),
        replace(full, slots=(None, release("1.0.0", 1))),
    ):
        sequence, again = decode_record(encode_record(41, state))
        assert sequence == 41
        assert (again.device, again.slots, again.transfer) == (state.device, state.slots, state.transfer)
        assert (again.failed, again.schemes) == (state.failed, state.schemes)
        assert dict(again.trust.floors) == dict(state.trust.floors)
        assert again.trust.time_floor == state.trust.time_floor
        for role in ("root", "timestamp", "snapshot", "targets", "line"):
            assert getattr(again.trust, role) == getattr(state.trust, role)
    assert current(decode_record(encode_record(1, full))[1].trust, "pump", NOW).line.version == 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_each_component_has_two_slots(full: DeviceState, count: int) -> None:
    device = replace(PUMP, components=("app", "radio", "modem")[:count])
    slots = tuple(release(f"1.0.{number}", number) for number in range(2 * count))
    transfer = Transfer(count - 1, release("2.0.0", 9))
    again = decode_record(encode_record(1, replace(full, device=device, slots=slots, transfer=transfer)))[1]
    assert (again.device, again.slots, again.transfer) == (device, slots, transfer)


def test_what_a_release_requires_comes_back_in_order(full: DeviceState) -> None:
    """CBOR puts the shorter name first."""
    needs = (("modem", Version(1, 0, 0)), ("z", Version(2, 0, 0, 3)))
    slots = (replace(release("1.0.0", 1), requires=needs), None)
    assert decode_record(encode_record(1, replace(full, slots=slots)))[1].slots == slots


def test_held_files_remember_whose_signatures_were_verified(full: DeviceState) -> None:
    """No signature is verified at a start that was verified before, and none counts that was not."""
    files = ("timestamp", "snapshot", "targets", "line")
    trust = decode_record(encode_record(1, full))[1].trust
    signers = [getattr(trust, name).signers for name in files]
    assert signers == [full.trust.floors[name].keys for name in files]
    assert len(set(signers)) == 4, "each role has keys of its own"
    for floors in ({}, {name: Floor(9, floor.keys) for name, floor in full.trust.floors.items()}):
        other = replace(full, trust=replace(full.trust, floors=floors))
        trust = decode_record(encode_record(1, other))[1].trust
        assert [getattr(trust, name).signers for name in files] == [frozenset()] * 4, "another file set the floor"


def test_floors_come_back_without_the_files_that_set_them(full: DeviceState) -> None:
    bare = replace(full.trust, timestamp=None, snapshot=None, targets=None, line=None)
    trust = decode_record(encode_record(1, replace(full, trust=bare)))[1].trust
    assert (trust.line, dict(trust.floors)) == (None, dict(full.trust.floors))


def test_a_record_has_one_form(full: DeviceState) -> None:
    record = encode_record(7, full)
    assert encode_record(7, decode_record(record)[1]) == record
    assert record[:4] == b"HHst"
    assert with_body(body_of(record), sequence=7) == record
    assert cbor2.dumps(cbor2.loads(body_of(record)), canonical=True) == body_of(record)


def test_bytes_after_the_record_are_the_rest_of_its_area(full: DeviceState) -> None:
    record = encode_record(7, full)
    assert decode_record(record + ERASED * 1000)[0] == decode_record(record + b"\0" * 5)[0] == 7


def test_a_record_with_any_bit_turned_is_refused(repo: Repo) -> None:
    record = encode_record(7, empty(repo))
    for at in range(len(record)):
        bad = bytearray(record)
        bad[at] ^= 1 << (at % 8)
        with pytest.raises(RecordError):
            decode_record(bytes(bad))


def test_a_store_that_was_never_written_is_unprovisioned() -> None:
    for content in (ERASED, b"\0"):
        areas = Areas(4096)
        areas.content = [content * 4096, content * 4096]
        with pytest.raises(UnprovisionedError):
            StateStore(areas).load()
        assert areas.written == []


def test_a_write_goes_over_the_record_that_was_not_read(repo: Repo, full: DeviceState) -> None:
    areas = Areas()
    store = StateStore(areas)
    for _ in range(3):
        store.save(full)
    assert areas.written == [0, 1, 0]
    assert [decode_record(content)[0] for content in areas.content] == [3, 2]
    again = StateStore(areas)
    again.load()
    again.save(empty(repo))
    assert areas.written[-1] == 1
    assert StateStore(areas).load().slots == (None, None)


@pytest.mark.parametrize("torn", [0, 1])
def test_a_write_after_a_torn_one_leaves_the_good_record_alone(full: DeviceState, torn: int) -> None:
    areas = Areas()
    store = StateStore(areas)
    store.save(full)
    store.save(full)
    areas.content[torn] = ERASED * areas.size
    again = StateStore(areas)
    assert again.load().slots == full.slots
    again.save(full)
    assert areas.written[-1] == torn


def test_a_cut_at_every_byte_of_a_write_leaves_the_old_state(repo: Repo, full: DeviceState) -> None:
    areas = Areas(16_384)
    store = StateStore(areas)
    store.save(empty(repo))
    new = replace(empty(repo), failed=(b"\1" * 32,))
    length = len(encode_record(2, new))
    before = list(areas.content)
    for cut in range(length):
        areas.content, areas.cut = list(before), cut
        rebooted = StateStore(areas)
        assert rebooted.load().failed == ()
        with pytest.raises(OperationalError):
            rebooted.save(new)
        assert StateStore(areas).load().failed == (), f"cut after {cut} bytes"
    areas.cut = length
    with pytest.raises(OperationalError):
        store.save(new)
    assert StateStore(areas).load().failed == new.failed, "a whole record counts, whatever came after it"


def test_a_save_that_failed_may_be_repeated_and_never_touches_the_good_record(full: DeviceState) -> None:
    areas = Areas()
    store = StateStore(areas)
    store.save(full)
    areas.cut = 100
    for _ in range(3):
        with pytest.raises(OperationalError):
            store.save(replace(full, failed=()))
    assert areas.written == [0, 1, 1, 1]
    areas.cut = None
    store.save(replace(full, failed=()))
    assert StateStore(areas).load().failed == ()


def test_both_unreadable_is_unprovisioned_and_says_why(full: DeviceState) -> None:
    areas = Areas()
    store = StateStore(areas)
    store.save(full)
    store.save(full)
    areas.content = [content[:50] + b"!" + content[51:] for content in areas.content]
    with pytest.raises(UnprovisionedError, match=r"checksum.* and .*checksum"):
        StateStore(areas).load()


@pytest.mark.parametrize("version", [0, FORMAT + 1, 0xFFFF])
def test_a_record_of_another_format_is_not_read(full: DeviceState, version: int) -> None:
    other = with_body(body_of(encode_record(9, full)), version=version, sequence=9)
    with pytest.raises(RecordError, match="format"):
        decode_record(other)
    areas = Areas()
    areas.content = [other, other]
    with pytest.raises(UnprovisionedError, match="format"):
        StateStore(areas).load()


def test_a_record_that_is_not_ours(full: DeviceState) -> None:
    with pytest.raises(RecordError, match="magic"):
        decode_record(with_body(body_of(encode_record(9, full)), magic=b"HHxx"))


def test_a_state_that_does_not_fit_is_not_written(full: DeviceState) -> None:
    areas = Areas(len(encode_record(1, full)) - 1)
    with pytest.raises(OperationalError, match="do not fit"):
        StateStore(areas).save(full)
    assert areas.written == []
    assert StateStore(areas).room(full) == -1
    assert StateStore(Areas(len(encode_record(1, full)) + 100)).room(full) == 100
    exact = Areas(len(encode_record(1, full)))
    StateStore(exact).save(full)
    assert StateStore(exact).load().slots == full.slots


def test_failed_hashes_are_bounded_and_the_oldest_goes_first(full: DeviceState) -> None:
    assert (MAX_FAILED, RESERVE) == (32, 4096), "as the format page says"
    state = replace(full, failed=())
    hashes = [bytes([n]) * 32 for n in range(MAX_FAILED + 3)]
    for digest in hashes:
        state = state.with_failed(digest)
    assert state.failed == tuple(hashes[3:])
    again = state.with_failed(hashes[5])
    assert again.failed == (*(h for h in hashes[3:] if h != hashes[5]), hashes[5])


def test_the_first_record_has_number_1_and_lies_in_the_first_area(repo: Repo) -> None:
    areas = Areas()
    provision(StateStore(areas), PUMP, repo.files["root"])
    assert decode_record(areas.content[0])[0] == 1
    assert areas.content[1] == ERASED * areas.size


def slot_of(**changes: object) -> list[object]:
    fields = {"path": "p", "version": "1.0.0", "sha256": b"", "length": 1, "counter": 1, "requires": {}} | changes
    return list(fields.values())


STAGED: list[object] = [b"\1" * 32, 7, "hhp2", b"\2" * 32, 9]
NOT_STAGED: list[object] = [5, "text", {}, [], STAGED[:4]]
NOT_OURS: dict[str, list[object]] = {
    "device": [
        *("pump", {}, [], ["pump", "nrf-a"], ["pump", "nrf-a", "serial-1"]),
        *([5, "nrf-a", "x", "app"], ["pump", 5, "x", "app"], ["pump", "nrf-a", None, "app"], ["pump", "nrf-a", "x", 5]),
        ["pump", "nrf-a", "x", "app", "app"],
    ],
    "files": [[], {}, None, {"root": "text"}, {"root": b""}, {"root": 5}],
    "floors": [
        *([], {5: [1, []]}, {"root": 5}, {"root": [1]}, {"root": [1, [], 2]}, {"root": ["1", []]}),
        *({"root": [1.0, []]}, {"root": [1, "ab"]}, {"root": [1, {}]}, {"root": [1, ["ab"]]}, {"root": {1: 2, 3: 4}}),
    ],
    "time": [0, False, [1], [None, []], [1, [5]]],
    "slots": [
        *([], [None], [None, None, None], {}, None, [None, 5], [None, "abcdef"]),
        *([None, []], [None, slot_of()[:5]], [None, [*slot_of(), 1]]),
        *([None, slot_of(path=5)], [None, slot_of(version=5)], [None, slot_of(version="1")]),
        *([None, slot_of(sha256="text")], [None, slot_of(length="1")], [None, slot_of(length=1.0)]),
        *([None, slot_of(counter=None)], [None, slot_of(requires=[])], [None, slot_of(requires={5: "1.0.0"})]),
        *([None, slot_of(requires={"app": 5})], [None, slot_of(requires={"app": "1"})]),
    ],
    "transfer": [
        *({}, 5, [0, slot_of()], [0, slot_of(), None, None], [0, None, None]),
        *([number, slot_of(), None] for number in (1, -1, 0.0, "0", None)),
        *([0, slot_of(), patch] for patch in NOT_STAGED),
        *([0, slot_of(), [*STAGED[:at], "5" if at != 2 else b"5", *STAGED[at + 1 :]]] for at in range(len(STAGED))),
    ],
    "failed": [None, {}, "text", b"bytes", [5], ["text"]],
    "schemes": [None, {}, "text", [5], [b"bytes"]],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in NOT_OURS for value in NOT_OURS[name]],
    ids=lambda value: str(value)[:60],
)
def test_a_body_with_a_value_of_another_form_is_refused(full: DeviceState, name: str, value: object) -> None:
    body = cbor2.loads(body_of(encode_record(1, full)))
    assert decode_record(with_body(cbor2.dumps(body)))[1].slots == full.slots
    with pytest.raises(RecordError, match="state record"):
        decode_record(with_body(cbor2.dumps({**body, name: value})))


@pytest.mark.parametrize("components", [[], ["app", "app"], ["app", "radio", "app"]], ids=str)
def test_a_device_has_components_with_names_of_their_own(full: DeviceState, components: list[str]) -> None:
    body = cbor2.loads(body_of(encode_record(1, full)))
    body |= {"device": ["pump", "nrf-a", "x", *components], "slots": [None] * 2 * len(components), "transfer": None}
    with pytest.raises(RecordError, match="state record components: expected distinct names"):
        decode_record(with_body(cbor2.dumps(body)))


def test_a_file_that_is_no_bytes_is_refused_whatever_its_name(full: DeviceState) -> None:
    body = cbor2.loads(body_of(encode_record(1, full)))
    with pytest.raises(RecordError, match="expected bytes, got int"):
        decode_record(with_body(cbor2.dumps({**body, "files": {**body["files"], "note": 5}})))


def test_a_body_has_its_names_and_no_others(full: DeviceState) -> None:
    body = cbor2.loads(body_of(encode_record(1, full)))
    bodies = [{k: v for k, v in body.items() if k != name} for name in body]
    for other in (*bodies, {**body, "more": 1}, {**body, 5: 1}, {}, list(body), None, 5, "text"):
        with pytest.raises(RecordError):
            decode_record(with_body(cbor2.dumps(other)))


@pytest.mark.parametrize("body", [b"", b"\xff", b"\x81" * 100_000, b"\xa1\x81", b"\xc0\x00", b"\xa0\xa0"], ids=repr)
def test_a_body_that_is_not_one_cbor_value_is_refused(body: bytes) -> None:
    with pytest.raises(RecordError, match="state record"):
        decode_record(with_body(body))


@pytest.mark.parametrize("length", [0, 1, 17, 18, 31, 32, 49, 50])
def test_a_record_that_is_too_short_is_refused(full: DeviceState, length: int) -> None:
    for data in (encode_record(1, full)[:length], b"HHst" + bytes(length)):
        with pytest.raises(RecordError):
            decode_record(data)


def test_a_slot_changes_alone(full: DeviceState) -> None:
    assert full.with_slot(0, None).slots == (None, full.slots[1])
    assert full.with_slot(1, None).slots == (full.slots[0], None)


def test_provisioning_again_takes_effect() -> None:
    repo = Repo()
    repo.publish()
    areas = Areas()
    store = StateStore(areas)
    for _ in range(8):
        store.save(empty(repo))
    other = Device("valve", "nrf-a", "serial-2")
    provision(StateStore(areas), other, repo.files["root"])
    assert StateStore(areas).load().device == other
    assert other != PUMP


def other_format(sequence: int, version: int = 2) -> bytes:
    return with_body(b"\xa0", version=version, sequence=sequence)


@pytest.mark.parametrize("version", [0, 2, 65535])
def test_a_newer_record_of_another_format_is_not_passed_over_for_an_older_one(full: DeviceState, version: int) -> None:
    areas = Areas()
    areas.content = [encode_record(7, full), other_format(8, version)]
    with pytest.raises(UnprovisionedError, match=f"format: expected {FORMAT}, got {version}"):
        StateStore(areas).load()
    areas.content[1] = other_format(6, version)
    assert StateStore(areas).load().slots == full.slots, "an older one is what was there before"


def test_a_torn_record_of_another_format_does_not_count(full: DeviceState) -> None:
    areas = Areas()
    areas.content = [encode_record(7, full), other_format(8)[:-1]]
    assert StateStore(areas).load().slots == full.slots


def test_provisioning_outnumbers_what_other_software_left(repo: Repo) -> None:
    for content in ([other_format(8), other_format(9)], [other_format(9), b""], [b"", other_format(9)]):
        areas = Areas()
        areas.content = content
        provision(StateStore(areas), PUMP, repo.files["root"])
        assert StateStore(areas).load().device == PUMP
