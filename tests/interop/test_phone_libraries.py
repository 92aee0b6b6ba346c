"""How Nordic's Android and iOS libraries call, played without a phone: what they send is known from their source.

Both ask for bootloader and mode, list the images, upload with the first three bytes of the hash, without `image`, with several requests
under way, then test, reset, and confirm by hash. Neither sends anything to an image whose slot 1 is confirmed, or pending.
"""

from __future__ import annotations

from collections import deque
from hashlib import sha256
from typing import Any

import pytest

from bench import LAYOUT, SWAPPING, Bench, installed
from hillhold_bootsim.application import SelfTest
from hillhold_bootsim.layout import Layout
from hillhold_verifier.mcuboot import parse_image
from hillhold_verifier.smp import Group, ImageCommand, Message, Op, OsCommand, decode, encode
from hillhold_verifier.smp_console import ConsoleDecoder, Packet, encode_console
from offers import offer, started

DIRECT_XIP = (4, 5)
"""Modes in which they look for one image per slot, and one of them leaves test and confirmation out."""


def pipelined(
    bench: Bench, data: bytes, *, window: int = 3, piece: int = 200, lose: int | None = None
) -> dict[str, Any]:
    """Upload with `window` requests under way; request number `lose` does not arrive. An unexpected offset is gone back to."""
    answer: dict[str, Any] = {}
    at, under_way, sent = 0, deque[bytes](), 0
    decoder = ConsoleDecoder(1024)
    while True:
        while at < len(data) and len(under_way) < window:
            body: dict[str, object] = {"off": at, "data": data[at : at + piece]}
            if at == 0:
                body |= {"len": len(data), "sha": sha256(data).digest()[:3]}
            message = Message(Op.WRITE, Group.IMAGE, ImageCommand.UPLOAD, sent % 256, body)
            at, sent = min(at + piece, len(data)), sent + 1
            under_way.append(b"" if sent - 1 == lose else encode_console(encode(message)))
        if not under_way:
            return answer
        for event in decoder.feed(bench.feed(under_way.popleft())):
            assert isinstance(event, Packet)
            answer = dict(decode(event.data).body)
            assert "off" in answer, answer
            if not under_way or answer["off"] < at - window * piece:
                at = answer["off"]
                under_way.clear()


@pytest.mark.parametrize("layout", [LAYOUT, SWAPPING], ids=["remap", "swap"])
@pytest.mark.parametrize("lose", [None, 1, 4])
def test_the_way_of_their_firmware_upgrade_managers(layout: Layout, lose: int | None) -> None:
    repo = started()
    bench = installed(repo, layout, self_test=SelfTest(seconds=5, confirms=False))
    for version in ("1.1.0", "1.2.0"):  # the second one while the device runs from its other slot
        data = offer(repo, version, 2)
        repo.publish()
        bench.check()
        assert bench.ask(Op.READ, Group.OS, OsCommand.BOOTLOADER_INFO) == {"bootloader": "MCUboot"}
        assert bench.ask(Op.READ, Group.OS, OsCommand.BOOTLOADER_INFO, {"query": "mode"})["mode"] not in DIRECT_XIP
        listed: Any = bench.image(ImageCommand.STATE, read=True)["images"]
        assert [one["slot"] for one in listed if one["active"]] == [0]
        assert not any(one["slot"] == 1 and (one["confirmed"] or one["pending"]) for one in listed)
        assert pipelined(bench, data, lose=lose) == {"off": len(data), "match": True}
        digest = parse_image(data).sha256
        marked: Any = bench.image(ImageCommand.STATE, {"hash": digest, "confirm": False})["images"]
        assert [one["pending"] for one in marked if one["hash"] == digest] == [True]
        assert bench.ask(Op.WRITE, Group.OS, OsCommand.RESET) == {}
        assert bench.facts().trial
        bench.wait(1)
        bench.wait(10)
        confirmed: Any = bench.image(ImageCommand.STATE, {"hash": digest, "confirm": True})["images"]
        assert [(one["slot"], one["confirmed"]) for one in confirmed if one["hash"] == digest] == [(0, True)]
        assert bench.facts().running == version
