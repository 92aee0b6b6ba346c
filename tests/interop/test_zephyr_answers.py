"""What a Zephyr 4.4 server answered to these requests, in SMP v1 and v2, and what a board of ours does.

The answers were recorded from its native and QEMU builds, with one image pair under MCUboot, the running image confirmed and the other
slot empty. Whatever is not alike is in the second table, with the reason.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from bench import Bench, installed, unchanged
from hillhold_verifier.answers import Body
from hillhold_verifier.mcuboot import parse_image
from hillhold_verifier.smp import Message, Op, decode, encode
from offers import image

R, W = Op.READ, Op.WRITE
RUNNING: Final = parse_image(image("1.0.0")).sha256
NO: Final = {"rc": 8}
BAD: Final = {"rc": 3}
OFF: Final = {"off": 0}


def group(v1: int, v2: int, number: int = 1) -> tuple[Body, Body]:
    return {"rc": v1}, {"err": {"group": number, "rc": v2}}


ALIKE: Final[list[tuple[Op, int, int, Body, Body, Body]]] = [
    *((op, 0, 0, {"d": "hi"}, {"r": "hi"}, {"r": "hi"}) for op in (R, W)),
    *((op, 0, 0, {}, {"r": ""}, {"r": ""}) for op in (R, W)),
    *((op, 0, 0, {"d": odd}, BAD, BAD) for op in (R, W) for odd in (5, b"x")),
    (W, 0, 2, {}, NO, NO),
    *((op, 0, command, {}, NO, NO) for op in (R, W) for command in (3, 77)),
    (W, 0, 6, {}, NO, NO),
    (W, 0, 7, {}, NO, NO),
    (W, 0, 8, {}, NO, NO),
    (R, 0, 5, {}, NO, NO),
    *((op, number, 0, {}, NO, NO) for op in (R, W) for number in (64, 99)),
    (R, 1, 1, {}, NO, NO),
    (R, 1, 5, {}, NO, NO),
    (W, 1, 3, {}, NO, NO),
    (R, 1, 77, {}, NO, NO),
    # state
    (W, 1, 0, {}, *group(3, 24)),
    (W, 1, 0, {"hash": b""}, *group(3, 24)),
    (W, 1, 0, {"hash": RUNNING[:31]}, *group(3, 24)),
    (W, 1, 0, {"hash": bytes(32)}, *group(1, 8)),
    (W, 1, 0, {"hash": RUNNING}, *group(1, 33)),
    (W, 1, 0, {"hash": "x"}, BAD, BAD),
    (W, 1, 0, {"confirm": 1}, BAD, BAD),
    # erase
    (W, 1, 5, {"slot": 0}, *group(6, 9)),
    (W, 1, 5, {"slot": "x"}, BAD, BAD),
    (W, 1, 5, {}, {}, {}),
    (W, 1, 5, {"slot": 1}, {}, {}),
    # upload
    (W, 1, 1, {"data": b"x" * 40}, *group(3, 20)),
    (W, 1, 1, {"off": 0, "data": image("1.0.0")[:40]}, *group(3, 21)),
    (W, 1, 1, {"off": 0, "len": "x", "data": image("1.0.0")[:40]}, BAD, BAD),
    (W, 1, 1, {"off": 0, "len": 5000, "sha": bytes(33), "data": image("1.0.0")[:40]}, *group(3, 24)),
    (W, 1, 1, {"off": 5, "data": b"x"}, OFF, OFF),
]

NOT_ALIKE: Final[list[tuple[Op, int, int, Body, Body | None, Body, str]]] = [
    (R, 0, 2, {}, None, NO, "statistics of tasks: there are no tasks to state"),
    (R, 0, 3, {}, NO, NO, "statistics of memory pools: neither has any"),
    (R, 0, 7, {}, {"output": "Zephyr"}, NO, "application information: it would be the name of a kernel"),
    (W, 0, 5, {"boot_mode": 1}, {}, NO, "a mode that there is not: Zephyr resets all the same"),
    (W, 0, 5, {"boot_mode": "x"}, {}, BAD, "a mode of another type, likewise"),
    (W, 1, 5, {"slot": 2}, group(1, 10)[1], group(3, 14)[1], "no such slot: Zephyr fails to open its flash area"),
    (W, 1, 1, {"off": 80}, OFF, BAD, "the protocol demands data"),
]


def answered(bench: Bench, op: Op, number: int, command: int, body: Body, version: int) -> dict[str, Any]:
    """The answer without its words, which are ours."""
    answer = bench.ask(op, number, command, body, version=version)
    return {name: value for name, value in answer.items() if name != "rsn"}


@pytest.fixture(scope="module")
def bench() -> Bench:
    board = installed()
    board.image(5)  # type: ignore[arg-type]
    return board


@pytest.mark.parametrize(("op", "number", "command", "body", "v1", "v2"), ALIKE, ids=str)
def test_our_answer_is_zephyr_s(
    bench: Bench, op: Op, number: int, command: int, body: Body, v1: Body, v2: Body
) -> None:
    with unchanged(bench):
        assert answered(bench, op, number, command, body, 0) == v1
        assert answered(bench, op, number, command, body, 1) == v2


@pytest.mark.parametrize(("op", "number", "command", "body", "zephyr", "ours", "why"), NOT_ALIKE, ids=str)
def test_our_answer_is_another(
    bench: Bench, op: Op, number: int, command: int, body: Body, zephyr: Body | None, ours: Body, why: str
) -> None:
    boots = bench.board.boots
    assert answered(bench, op, number, command, body, 1) == ours, why
    assert bench.board.boots == boots


def test_the_list_of_images_has_zephyr_s_keys(bench: Bench) -> None:
    """And `image`, which Zephyr leaves out where there is one."""
    answer: Any = bench.ask(R, 1, 0)
    keys = ["slot", "version", "hash", "bootable", "pending", "confirmed", "active", "permanent"]
    (only,) = answer["images"]
    assert answer.keys() == {"images", "splitStatus"}
    assert only.keys() == {"image", *keys}
    assert [type(only[key]) for key in keys] == [int, str, bytes, bool, bool, bool, bool, bool]
    info: Any = bench.ask(R, 1, 6)
    (slots,) = info["images"]
    assert [list(slot) for slot in slots["slots"]] == [["size", "slot"], ["size", "slot", "upload_image_id"]]


def test_what_cannot_be_read_has_no_answer(bench: Bench) -> None:
    """Zephyr answers EINVAL, ECORRUPT or "too new"; where a transport has no CRC, silence is what has a request sent again."""
    agent = bench.board._agent
    assert agent is not None
    good = encode(Message(R, 0, 6, 0))
    for bad in (b"\x10" + good[1:], good[:3] + b"\x05" + good[4:], good[:-1] + b"\xff", good + good):
        assert agent.answer(bad, None) is None  # type: ignore[attr-defined]
    assert decode(agent.answer(good, None)).body["buf_count"] == 1  # type: ignore[attr-defined]
