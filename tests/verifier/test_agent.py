"""The agent's messages: what it says of itself, metadata in pieces, retransmissions, and errors in the words of SMP v1 and v2."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest

from bench import CLOCK, LAYOUT, MANUAL, Bench, Rig, blind, installed, unchanged
from forge import T0
from hillhold_bootsim.layout import SimRecordAreas
from hillhold_verifier.agent import APPLY, CHOOSE, HELD, IDENTIFY, MAX_REASON, MAX_REASONS, METADATA, STATUS, Agent
from hillhold_verifier.answers import Body
from hillhold_verifier.errors import OperationalError, OrderError, SmpError, UnprovisionedError, WireError
from hillhold_verifier.installer import Installer
from hillhold_verifier.mcuboot import parse_image
from hillhold_verifier.release import patch_path
from hillhold_verifier.select import Device
from hillhold_verifier.smp import (
    HILLHOLD_GROUP,
    Group,
    ImageCommand,
    ImgMgmtErr,
    Message,
    MgmtErr,
    Op,
    OsCommand,
    decode,
    encode,
)
from hillhold_verifier.smp_check import CHECK
from hillhold_verifier.smp_console import encode_console
from hillhold_verifier.state import StateStore
from hillhold_verifier.wire import base_name, deflate
from offers import image, offer, offer_patch, started

ROOT, TIMESTAMP, SNAPSHOT, TARGETS, LINE = range(5)


def newer() -> Bench:
    """A board that runs 1.0.0; 1.1.0 is published, and the board knows nothing of it."""
    bench = installed()
    offer(bench.repo, "1.1.0", 2)
    bench.repo.publish("targets", "line", "snapshot", "timestamp")
    return bench


def first_piece(number: int, raw: bytes, base: bytes = b"", length: int = 700) -> tuple[dict[str, object], bytes]:
    """The first request for a file, and all its packed bytes."""
    packed = deflate(raw, base)
    return {"f": number, "n": len(packed), "l": len(raw), "b": base_name(base), "d": packed[:length]}, packed


def code_of(answer: Body) -> int:
    error = answer["err"]
    assert isinstance(error, dict)
    assert error["group"] == HILLHOLD_GROUP
    return int(error["rc"])


# --- what it says -----------------------------------------------------------------------------------------------------


def test_identify() -> None:
    assert Bench(started()).own(Op.READ, IDENTIFY) == {
        "magic": "hillhold",
        "v": 1,
        "product": "pump",
        "hardware": "nrf-a",
        "id": "serial-1",
        "components": ["app"],
        "alg": ["hhp2"],
    }


def test_held_names_every_file() -> None:
    bench = Bench(started())
    assert bench.own(Op.READ, HELD) == {"r": 1, "h": [[0, b""]] * 4}
    bench.check()
    files = [bench.repo.files[role] for role in ("timestamp", "snapshot", "targets", "line")]
    assert bench.own(Op.READ, HELD) == {"r": 1, "h": [[1, base_name(raw)] for raw in files]}


def test_choose_names_the_winner_and_its_base_or_the_reasons() -> None:
    bench = Bench(started())
    first = image("1.0.0")
    choice = {"n": 0, "path": "pump/1.0.0/app.bin", "sha": sha256(first).digest(), "len": len(first)}
    assert bench.check() == {"plan": [choice], "reasons": []}
    assert bench.own(Op.READ, CHOOSE) == {"plan": [choice]}
    bench.push()
    assert bench.own(Op.READ, CHOOSE) == {
        "reasons": [["pump/1.0.0/app.bin", "installed", "this is the confirmed image"]],
        "more": 0,
    }
    second = offer(bench.repo, "1.1.0", 2)
    bench.repo.publish()
    assert bench.chosen() == {
        "n": 0,
        "path": "pump/1.1.0/app.bin",
        "sha": sha256(second).digest(),
        "len": len(second),
        "base": sha256(first).digest(),
    }


def test_reasons_come_in_pages_and_are_short() -> None:
    bench = installed()
    for number in range(16):
        offer(bench.repo, f"0.0.{number}", 1, data=b"x%d" % number, withdrawn="because " * 25)
    newest = offer(bench.repo, "1.1.0", 2)
    bench.repo.publish()
    choice = bench.check()
    reasons = choice["reasons"]
    assert isinstance(reasons, list)
    # Each of the others has one, the newest first; what is chosen has none.
    assert len({path for path, _, _ in reasons}) == len(reasons) == 17
    assert reasons[0] == ["pump/1.0.0/app.bin", "installed", "this is the confirmed image"]
    assert max(len(reason) for _, _, reason in reasons) <= MAX_REASON
    page = bench.own(Op.READ, CHOOSE, {"o": 15})
    assert (page["reasons"], page["more"]) == (reasons[15:], 0)
    # No more of them at a time than fit into the board's buffer.
    page = bench.own(Op.READ, CHOOSE, {"o": 2})
    some = page["reasons"]
    assert isinstance(some, list)
    assert 1 < len(some) < MAX_REASONS
    assert (some, page["more"]) == (reasons[2 : 2 + len(some)], 15 - len(some))
    assert len(encode(Message(Op.READ_RSP, HILLHOLD_GROUP, CHOOSE, 0, page))) <= 1024 - len(CHECK)
    roomy = Bench(bench.repo, buffer=4096)
    roomy.check()
    some = roomy.own(Op.READ, CHOOSE, {"o": 2})["reasons"]
    assert isinstance(some, list)
    assert len(some) == MAX_REASONS
    assert bench.own(Op.READ, CHOOSE, {"o": 99}) == {"plan": choice["plan"], "reasons": [], "more": 0}
    assert bench.chosen()["len"] == len(newest)


def test_status_on_the_way() -> None:
    bench = Bench(started(), self_test=MANUAL)
    status = bench.status()
    assert (status["running"], status["confirmed"], status["marked"], status["counter"]) == (None, None, None, 0)
    bench.push(reset=False)
    assert bench.status()["marked"] == "1.0.0"
    bench.ask(Op.WRITE, Group.OS, OsCommand.RESET)
    status = bench.status()
    digest = sha256(image("1.0.0")).digest()
    assert status["running"] == ["1.0.0", digest]
    assert (status["confirmed"], status["trial"], status["starts"], status["self_tested"]) == (None, True, 1, False)
    bench.wait(0)
    bench.wait(7200)
    assert bench.status()["self_tested"] is True
    bench.image(ImageCommand.STATE, {"confirm": True})
    status = bench.status()
    assert (status["confirmed"], status["trial"], status["counter"]) == (["1.0.0", digest], False, 1)
    assert (status["time"], status["root"], status["refusal"], status["code"]) == (T0, 1, "", 0)


def test_status_names_a_transfer_and_the_last_refusal() -> None:
    bench = newer()
    made = offer_patch(bench.repo, "1.1.0", image("1.0.0"), image("1.1.0", 2))
    bench.repo.publish()
    choice = bench.chosen()
    bench.image(
        ImageCommand.UPLOAD, {"image": 0, "off": 0, "len": choice["len"], "sha": choice["sha"], "data": b"abcd"}
    )
    assert bench.status()["transfer"] == "pump/1.1.0/app.bin"
    bench.image(
        ImageCommand.UPLOAD, {"image": 0, "off": 0, "len": len(made), "sha": sha256(made).digest(), "data": b""}
    )
    assert bench.status()["transfer"] == patch_path("pump/1.1.0/app.bin", sha256(image("1.0.0")).digest())
    assert bench.own(Op.WRITE, APPLY)["err"]
    status = bench.status()
    assert (status["code"], "received whole" in str(status["refusal"])) == (OrderError.code, True)
    bench.power_cycle()
    assert bench.status()["code"] == 0


def test_the_stock_state_lists_images_as_mcuboot_names_them() -> None:
    bench = newer()
    bench.push()
    images = bench.image(ImageCommand.STATE, read=True)["images"]
    assert isinstance(images, list)
    new, old = images
    assert (new["slot"], new["version"], new["active"], new["confirmed"]) == (0, "1.1.0", True, True)
    assert (old["slot"], old["version"], old["active"], old["confirmed"], old["pending"]) == (
        1,
        "1.0.0",
        False,
        False,
        False,
    )
    assert new["hash"] == parse_image(image("1.1.0", 2)).sha256


@pytest.mark.parametrize("op", [Op.READ, Op.WRITE])
@pytest.mark.parametrize(
    ("group", "command"), [(0, 77), (1, 77), (1, 3), (2, 0), (64, 0), (HILLHOLD_GROUP, 77), (65535, 255)]
)
def test_unknown_groups_and_commands(op: Op, group: int, command: int) -> None:
    bench = Bench(started())
    with unchanged(bench):
        for version in (0, 1):
            assert bench.ask(op, group, command, version=version) == {"rc": MgmtErr.ENOTSUP}


@pytest.mark.parametrize(("op", "command"), [(Op.WRITE, STATUS), (Op.WRITE, IDENTIFY), (Op.READ, METADATA)])
def test_the_wrong_operation_of_a_known_command(op: Op, command: int) -> None:
    bench = Bench(started())
    assert bench.own(op, command) == {"rc": MgmtErr.ENOTSUP}


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x00",
        b"\xff" * 8,
        encode(Message(Op.READ_RSP, 0, 0, 0)),
        encode(Message(Op.WRITE_RSP, 1, 1, 7)),
        b"\0" * 7,
    ],
)
def test_what_is_no_request_has_no_answer(packet: bytes) -> None:
    rig = Rig(started())
    agent = Agent(rig.installer)
    assert agent.answer(packet, CLOCK) is None
    assert agent.receive(encode_console(packet or b"?"), CLOCK) == b""


def test_another_group_id() -> None:
    rig = Rig(started())
    agent = Agent(rig.installer, group=100)
    answer = agent.answer(encode(Message(Op.READ, 100, IDENTIFY, 3)), CLOCK)
    assert answer is not None
    assert decode(answer).body["magic"] == "hillhold"
    other = agent.answer(encode(Message(Op.READ, HILLHOLD_GROUP, IDENTIFY, 4)), CLOCK)
    assert other is not None
    assert decode(other).body == {"rc": MgmtErr.ENOTSUP}


# --- metadata in pieces -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 100, 701])
def test_a_file_in_pieces_of_any_length(length: int) -> None:
    bench = newer()
    body, packed = first_piece(TIMESTAMP, bench.repo.files["timestamp"], length=length)
    answer = bench.own(Op.WRITE, METADATA, body)
    for at in range(length, len(packed), length):
        assert answer == {"o": at}
        answer = bench.own(Op.WRITE, METADATA, {"f": TIMESTAMP, "o": at, "d": packed[at : at + length]})
    assert answer == {"need": "snapshot", "v": 2}


@pytest.mark.parametrize("kind", ["none", "lister", "lister and held"])
def test_the_bases_that_a_file_may_have(kind: str) -> None:
    bench = newer()
    held = bench.stored().trust
    assert held.timestamp is not None
    base = {"none": b"", "lister": held.root.raw, "lister and held": held.root.raw + held.timestamp.raw}[kind]
    body, _ = first_piece(TIMESTAMP, bench.repo.files["timestamp"], base)
    assert bench.own(Op.WRITE, METADATA, body) == {"need": "snapshot", "v": 2}


def test_a_base_that_the_board_does_not_hold() -> None:
    bench = newer()
    body, _ = first_piece(TIMESTAMP, bench.repo.files["timestamp"], b"another file")
    with unchanged(bench):
        for name in (base_name(b"another file"), b"", b"\0" * 32):
            assert code_of(bench.own(Op.WRITE, METADATA, {**body, "b": name})) == WireError.code
        assert "base of timestamp metadata" in bench.refusal()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"f": 5}, SmpError),
        ({"f": 2**64 - 1}, SmpError),
        ({"f": -1}, SmpError),
        ({"f": None}, SmpError),
        ({"f": "1"}, SmpError),
        ({"o": 1}, OrderError),
        ({"o": True}, SmpError),
        ({"n": None}, SmpError),
        ({"l": None}, SmpError),
        ({"b": None}, SmpError),
        ({"b": "text"}, SmpError),
        ({"d": None}, SmpError),
        ({"d": "text"}, SmpError),
        ({"n": 0}, WireError),
        ({"n": 1}, WireError),
        ({"l": 0}, WireError),
        ({"l": 498}, WireError),
        ({"l": 500}, WireError),
        ({"f": SNAPSHOT}, OrderError),
        ({"f": LINE}, OrderError),
    ],
    ids=str,
)
def test_a_first_piece_that_is_not_in_order(change: dict[str, object], error: type[SmpError]) -> None:
    bench = newer()
    body, _ = first_piece(TIMESTAMP, bench.repo.files["timestamp"])
    assert body["l"] == 499
    wrong = {name: value for name, value in (body | change).items() if value is not None}
    with unchanged(bench):
        assert code_of(bench.own(Op.WRITE, METADATA, wrong)) == error.code
    assert bench.own(Op.WRITE, METADATA, body)["need"] == "snapshot"


@pytest.mark.parametrize("offset", [0, 1, 99, 101, 2**40])
def test_a_further_piece_elsewhere(offset: int) -> None:
    bench = newer()
    body, packed = first_piece(TIMESTAMP, bench.repo.files["timestamp"], length=100)
    with unchanged(bench):
        assert bench.own(Op.WRITE, METADATA, body) == {"o": 100}
        assert "err" in bench.own(Op.WRITE, METADATA, {"f": TIMESTAMP, "o": offset, "d": packed[100:]})
    assert bench.own(Op.WRITE, METADATA, {"f": TIMESTAMP, "o": 100, "d": packed[100:]})["err"], "reset since"


def test_a_piece_at_the_wrong_offset_does_not_spoil_the_file() -> None:
    bench = newer()
    body, packed = first_piece(TIMESTAMP, bench.repo.files["timestamp"], length=100)
    bench.own(Op.WRITE, METADATA, body)
    assert code_of(bench.own(Op.WRITE, METADATA, {"f": TIMESTAMP, "o": 90, "d": packed[90:]})) == OrderError.code
    assert bench.own(Op.WRITE, METADATA, {"f": TIMESTAMP, "o": 100, "d": packed[100:]})["need"] == "snapshot"


def test_a_file_may_begin_anew_in_the_middle_of_another() -> None:
    bench = newer()
    bench.own(Op.WRITE, METADATA, first_piece(LINE, bench.repo.files["line"], length=100)[0])
    body, _ = first_piece(TIMESTAMP, bench.repo.files["timestamp"])
    assert bench.own(Op.WRITE, METADATA, body)["need"] == "snapshot"


# --- retransmission ---------------------------------------------------------------------------------------------------


def test_the_same_bytes_again_are_answered_and_not_executed() -> None:
    bench = newer()
    body, packed = first_piece(TIMESTAMP, bench.repo.files["timestamp"], length=100)
    one = encode_console(encode(Message(Op.WRITE, HILLHOLD_GROUP, METADATA, 1, body)))
    rest: Body = {"f": TIMESTAMP, "o": 100, "d": packed[100:]}
    two = encode_console(encode(Message(Op.WRITE, HILLHOLD_GROUP, METADATA, 2, rest)))
    assert bench.feed(one) == bench.feed(one)
    answer = bench.feed(two)
    operations = bench.flash.operations
    for _ in range(3):
        assert bench.feed(two) == answer
    assert bench.flash.operations == operations
    assert bench.held().versions["timestamp"] == 2
    assert bench.feed(two + two) == answer * 2


def test_a_repeated_refusal_is_the_same_refusal() -> None:
    bench = newer()
    frame = encode_console(encode(Message(Op.WRITE, HILLHOLD_GROUP, APPLY, 9)))
    assert bench.feed(frame) == bench.feed(frame)


def test_the_same_bytes_after_another_request_are_executed() -> None:
    bench = newer()
    body, _ = first_piece(TIMESTAMP, bench.repo.files["timestamp"])
    frame = encode_console(encode(Message(Op.WRITE, HILLHOLD_GROUP, METADATA, 1, body)))
    assert b"".join([bench.feed(frame)])
    bench.status()
    answer = bench.feed(frame)
    assert answer, "a timestamp that is held already: nothing changes, and the chain still needs its snapshot"
    assert bench.held().versions["timestamp"] == 2


def test_an_apply_whose_answer_was_lost_is_not_done_twice() -> None:
    bench = installed()
    new = offer(bench.repo, "1.1.0", 2)
    made = offer_patch(bench.repo, "1.1.0", image("1.0.0"), new)
    bench.repo.publish()
    bench.check()
    body: Body = {"image": 0, "off": 0, "len": len(made), "sha": sha256(made).digest(), "data": made}
    assert bench.image(ImageCommand.UPLOAD, body) == {"off": len(made)}
    frame = encode_console(encode(Message(Op.WRITE, HILLHOLD_GROUP, APPLY, 9)))
    answer = bench.feed(frame)
    operations = bench.flash.operations
    assert bench.feed(frame) == answer
    assert bench.own(Op.WRITE, APPLY) == {"path": "pump/1.1.0/app.bin", "version": "1.1.0"}
    assert bench.flash.operations == operations


def test_the_last_piece_of_an_upload_again() -> None:
    """Its answer was lost: the sender is sent back to the start, and there it learns that all is there."""
    bench = newer()
    choice = bench.chosen()
    data = image("1.1.0", 2)
    first: Body = {"image": 0, "off": 0, "len": len(data), "sha": choice["sha"], "data": b""}
    assert bench.image(ImageCommand.UPLOAD, first) == {"off": 0}
    for at in range(0, len(data), 700):
        head = first if at == 0 else {"off": at}
        bench.image(ImageCommand.UPLOAD, {**head, "data": data[at : at + 700]})
    operations = bench.flash.operations
    last = len(data) // 700 * 700
    assert bench.image(ImageCommand.UPLOAD, {"off": last, "data": data[last:]}) == {"off": 0}
    assert bench.image(ImageCommand.UPLOAD, {**first, "data": data[:700]}) == {"off": len(data), "match": True}
    assert bench.flash.operations == operations


# --- when it cannot ---------------------------------------------------------------------------------------------------


def test_an_unreadable_state_is_refused_in_words_and_identify_still_answers() -> None:
    rig = Rig(started())
    blind(rig, 0)
    blind(rig, 1)
    with pytest.raises(UnprovisionedError) as caught:
        StateStore(rig.areas).load()
    agent = Agent(caught.value, Device("pump", "nrf-a", "serial-1"))

    def ask(op: Op, group: int, command: int) -> Body:
        answer = agent.answer(encode(Message(op, group, command, 0)), CLOCK)
        assert answer is not None
        return decode(answer).body

    assert ask(Op.READ, HILLHOLD_GROUP, IDENTIFY)["id"] == "serial-1"
    assert ask(Op.READ, Group.OS, OsCommand.MCUMGR_PARAMETERS)["buf_size"] == 1024
    for op, command in ((Op.READ, HELD), (Op.WRITE, METADATA), (Op.READ, CHOOSE), (Op.WRITE, APPLY), (Op.READ, STATUS)):
        body = ask(op, HILLHOLD_GROUP, command)
        assert code_of(body) == UnprovisionedError.code
        assert "device state: expected a readable record" in str(body["rsn"])
    for op, image_command in (
        (Op.READ, ImageCommand.STATE),
        (Op.WRITE, ImageCommand.STATE),
        (Op.WRITE, ImageCommand.UPLOAD),
        (Op.WRITE, ImageCommand.ERASE),
        (Op.READ, ImageCommand.SLOT_INFO),
    ):
        assert ask(op, Group.IMAGE, image_command) == {"err": {"group": Group.IMAGE, "rc": ImgMgmtErr.UNKNOWN}}
    agent.self_test_passed(confirm=True)
    assert agent.self_tested
    assert rig.control.flags().confirmed is None


def test_a_medium_that_fails_is_an_error_and_no_end() -> None:
    rig = Rig(started())
    rig.take()

    class Broken(SimRecordAreas):
        def write(self, index: int, data: bytes) -> None:
            raise OperationalError("the chip is gone")

    store = StateStore(Broken(rig.flash, LAYOUT.state))
    agent = Agent(Installer(store, [rig.slots], rig.control, [rig.counter]))
    offer(rig.repo, "1.1.0", 2)
    rig.repo.publish()
    body, _ = first_piece(TIMESTAMP, rig.repo.files["timestamp"])
    with unchanged(rig):
        answer = agent.answer(encode(Message(Op.WRITE, HILLHOLD_GROUP, METADATA, 0, body)), CLOCK)
        assert answer is not None
        assert code_of(decode(answer).body) == MgmtErr.EUNKNOWN
        assert decode(answer).body["rsn"] == "the chip is gone"
        answer = agent.answer(encode(Message(Op.WRITE, Group.IMAGE, ImageCommand.ERASE, 0)), CLOCK)
        assert answer is not None
        assert "err" in decode(answer).body


def test_a_confirmation_that_the_medium_refuses_does_not_take_the_agent_away() -> None:
    bench = newer()
    rig = Rig(bench.repo, flash=bench.flash)
    rig.take()
    rig.trial(image("1.1.0", 2))

    class Broken(type(rig.control)):  # type: ignore[misc]
        def confirm(self) -> None:
            raise OperationalError("the chip is gone")

    control = Broken(rig.control.store)
    control.started([1])
    agent = Agent(Installer(StateStore(rig.areas), [rig.slots], control, [rig.counter]))
    agent.self_test_passed(confirm=True)
    assert agent.self_tested
    assert agent.last_refusal[1] == "the chip is gone"
    assert replace(rig.control.flags(), starts=0).trial


def test_an_image_that_was_withdrawn_cannot_confirm_itself() -> None:
    rig = Rig(started())
    rig.install(image("1.0.0"))
    offer(rig.repo, "1.1.0", 2)
    rig.repo.publish()
    rig.take()
    rig.trial(image("1.1.0", 2))
    rig.repo.change("pump/1.1.0/app.bin", withdrawn="it leaks")
    rig.repo.publish()
    agent = Agent(rig.installer)
    rig.take()
    agent.self_test_passed(confirm=True)
    assert agent.reset_requested
    assert "one that was ended" in agent.last_refusal[1]
    rig.reset()
    assert rig.facts().running == "1.0.0"
