"""The `smp` package (of smpclient) reads what we write and writes what we read."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from smp import error as theirs_error
from smp import header as smp_header
from smp import image_management as smp_image
from smp import message as smp_message
from smp import os_management as smp_os
from smp import packet as smp_packet
from smpclient.transport.serial.framing.cobs import Cobs

from hillhold_verifier.framing import SHARED, Framed, Receiver, Transport, frame
from hillhold_verifier.smp import (
    Group,
    ImageCommand,
    ImgMgmtErr,
    Message,
    MgmtErr,
    Op,
    OsCommand,
    OsMgmtErr,
    decode,
    encode,
    error_body,
    smp_error,
)
from hillhold_verifier.smp_console import ConsoleDecoder, Packet, encode_console

V1, V2 = smp_header.Version.V1, smp_header.Version.V2

REQUESTS: list[tuple[smp_message.Request, Message]] = [
    (smp_os.EchoWriteRequest(sequence=1, d="hällo"), Message(Op.WRITE, 0, 0, 1, {"d": "hällo"})),
    (smp_os.ResetWriteRequest(sequence=255, force=1), Message(Op.WRITE, 0, 5, 255, {"force": 1})),
    (
        smp_os.ResetWriteRequest(sequence=8, force=1, boot_mode=1),
        Message(Op.WRITE, 0, 5, 8, {"force": 1, "boot_mode": 1}),
    ),
    (smp_os.TaskStatisticsReadRequest(sequence=9), Message(Op.READ, 0, 2, 9, {})),
    (smp_os.MemoryPoolStatisticsReadRequest(sequence=10), Message(Op.READ, 0, 3, 10, {})),
    (smp_os.DateTimeReadRequest(sequence=11), Message(Op.READ, 0, 4, 11, {})),
    (
        smp_os.DateTimeWriteRequest(sequence=12, datetime="2026-09-21T14:13:21"),
        Message(Op.WRITE, 0, 4, 12, {"datetime": "2026-09-21T14:13:21"}),
    ),
    (smp_os.OSApplicationInfoReadRequest(sequence=13, format="sn"), Message(Op.READ, 0, 7, 13, {"format": "sn"})),
    (smp_os.BootloaderInformationReadRequest(sequence=14), Message(Op.READ, 0, 8, 14, {})),
    (
        smp_os.BootloaderInformationReadRequest(sequence=15, query="mode", version=V1),
        Message(Op.READ, 0, 8, 15, {"query": "mode"}, version=0),
    ),
    (smp_os.MCUMgrParametersReadRequest(sequence=0, version=V1), Message(Op.READ, 0, 6, 0, {}, version=0)),
    (smp_image.ImageStatesReadRequest(sequence=3), Message(Op.READ, 1, 0, 3, {})),
    (
        smp_image.ImageStatesWriteRequest(sequence=4, hash=bytes(32), confirm=True),
        Message(Op.WRITE, 1, 0, 4, {"hash": bytes(32), "confirm": True}),
    ),
    (
        smp_image.ImageUploadWriteRequest(sequence=5, off=0, data=b"\0" * 300, image=0, len=70000, sha=bytes(32)),
        Message(Op.WRITE, 1, 1, 5, {"off": 0, "data": b"\0" * 300, "image": 0, "len": 70000, "sha": bytes(32)}),
    ),
    (
        smp_image.ImageUploadWriteRequest(sequence=16, off=0, data=b"", len=70000, sha=bytes(3), upgrade=True),
        Message(Op.WRITE, 1, 1, 16, {"off": 0, "data": b"", "len": 70000, "sha": bytes(3), "upgrade": True}),
    ),
    (smp_image.ImageEraseRequest(sequence=17), Message(Op.WRITE, 1, 5, 17, {})),
    (smp_image.ImageEraseRequest(sequence=6, slot=1), Message(Op.WRITE, 1, 5, 6, {"slot": 1})),
]

IMAGE = {
    "image": 0,
    "slot": 0,
    "version": "1.2.3.4",
    "hash": bytes(32),
    "bootable": True,
    "pending": False,
    "confirmed": True,
    "active": True,
    "permanent": False,
}
RESPONSES: list[tuple[type[smp_message.Response], Message]] = [
    (smp_os.EchoWriteResponse, Message(Op.WRITE_RSP, Group.OS, OsCommand.ECHO, 1, {"r": "hi"})),
    (
        smp_os.MCUMgrParametersReadResponse,
        Message(Op.READ_RSP, Group.OS, OsCommand.MCUMGR_PARAMETERS, 2, {"buf_size": 2048, "buf_count": 4}),
    ),
    (
        smp_os.DateTimeReadResponse,
        Message(Op.READ_RSP, Group.OS, OsCommand.DATETIME_STRING, 6, {"datetime": "2026-09-21T14:13:21"}),
    ),
    (
        smp_os.BootloaderInformationReadResponse,
        Message(Op.READ_RSP, Group.OS, OsCommand.BOOTLOADER_INFO, 7, {"bootloader": "MCUboot"}),
    ),
    (smp_os.ResetWriteResponse, Message(Op.WRITE_RSP, Group.OS, OsCommand.RESET, 8, {})),
    (
        smp_image.ImageUploadWriteResponse,
        Message(Op.WRITE_RSP, Group.IMAGE, ImageCommand.UPLOAD, 9, {"off": 70000, "match": True}),
    ),
    (
        smp_image.ImageStatesWriteResponse,
        Message(Op.WRITE_RSP, Group.IMAGE, ImageCommand.STATE, 10, {"images": [IMAGE], "splitStatus": 0}),
    ),
    (smp_image.ImageUploadWriteResponse, Message(Op.WRITE_RSP, Group.IMAGE, ImageCommand.UPLOAD, 3, {"off": 300})),
    (smp_image.ImageStatesReadResponse, Message(Op.READ_RSP, Group.IMAGE, ImageCommand.STATE, 4, {"images": [IMAGE]})),
    (smp_image.ImageEraseResponse, Message(Op.WRITE_RSP, Group.IMAGE, ImageCommand.ERASE, 5, {})),
]


@pytest.mark.parametrize(("theirs", "ours"), REQUESTS)
def test_requests_have_the_same_bytes(theirs: smp_message.Request, ours: Message) -> None:
    assert decode(theirs.BYTES) == ours
    assert encode(ours) == theirs.BYTES


@pytest.mark.parametrize(("kind", "ours"), RESPONSES)
def test_their_clients_read_our_responses(kind: type[smp_message.Response], ours: Message) -> None:
    theirs = kind.loads(encode(ours))

    assert int(theirs.header.op) == int(ours.op)
    assert theirs.sequence == ours.sequence
    names = theirs.model_dump(exclude_none=True, exclude={"header", "version", "sequence", "smp_data"})
    assert names.keys() == ours.body.keys()


def test_their_clients_read_our_errors() -> None:
    v1 = Message(Op.WRITE_RSP, 1, 1, 9, error_body(0, 1, MgmtErr.EBUSY, "later"), version=0)
    v2 = Message(Op.WRITE_RSP, 1, 1, 9, error_body(1, 1, ImgMgmtErr.NO_FREE_SLOT, "later"))

    read_v1 = smp_image.ImageManagementErrorV1.loads(encode(v1))
    read_v2 = smp_image.ImageManagementErrorV2.loads(encode(v2))

    assert (read_v1.rc, read_v1.rsn) == (theirs_error.MGMT_ERR.EBUSY, "later")
    assert (read_v2.err.group, read_v2.err.rc) == (1, smp_image.IMG_MGMT_ERR.NO_FREE_SLOT)


@pytest.mark.parametrize("version", [0, 1])
def test_their_clients_read_errors_of_smp_itself_in_either_version(version: int) -> None:
    for group, command, theirs in ((0, 2, smp_os.OSManagementErrorV1), (1, 3, smp_image.ImageManagementErrorV1)):
        for body in (smp_error(MgmtErr.ENOTSUP), smp_error(MgmtErr.EACCESSDENIED, "no")):
            read = theirs.loads(encode(Message(Op.READ_RSP, group, command, 9, body, version=version)))
            assert (read.rc, read.rsn) == (body["rc"], body.get("rsn"))


def test_their_clients_read_errors_of_group_os() -> None:
    answer = Message(Op.READ_RSP, 0, 4, 9, error_body(1, 0, OsMgmtErr.RTC_NOT_SET))
    assert smp_os.OSManagementErrorV2.loads(encode(answer)).err.rc == smp_os.OS_MGMT_RET_RC.RTC_NOT_SET


def test_numbers_are_the_same() -> None:
    def numbers(enum: type[IntEnum]) -> dict[str, int]:
        return {name: int(value) for name, value in enum.__members__.items()}

    assert numbers(MgmtErr) == numbers(theirs_error.MGMT_ERR)
    assert numbers(OsMgmtErr) == numbers(smp_os.OS_MGMT_RET_RC)
    assert numbers(ImgMgmtErr) == numbers(smp_image.IMG_MGMT_ERR)
    assert numbers(Op) == numbers(smp_header.OP)
    assert numbers(OsCommand).items() <= numbers(smp_header.CommandId.OSManagement).items()
    known = numbers(smp_header.CommandId.ImageManagement) | {"SLOT_INFO": 6}  # which their package does not know
    assert numbers(ImageCommand).items() <= known.items()
    assert (int(Group.OS), int(Group.IMAGE)) == (smp_header.GroupId.OS_MANAGEMENT, smp_header.GroupId.IMAGE_MANAGEMENT)


@given(
    op=st.sampled_from(Op),
    version=st.sampled_from([0, 1]),
    group=st.integers(64, 0xFFFF),
    command=st.integers(0, 255),
    sequence=st.integers(0, 255),
)
def test_headers_have_the_same_bytes(op: Op, version: int, group: int, command: int, sequence: int) -> None:
    theirs = smp_header.Header(
        smp_header.OP(op), smp_header.Version(version), smp_header.Flag(0), 1, group, sequence, command
    )

    assert encode(Message(op, group, command, sequence, {}, version))[:8] == theirs.BYTES
    assert smp_header.Header.loads(theirs.BYTES) == theirs


@given(packet=st.binary(min_size=1, max_size=1200), line_length=st.integers(12, 400))
def test_console_frames_go_both_ways(packet: bytes, line_length: int) -> None:
    ours = encode_console(packet)

    assert ours == b"".join(smp_packet.encode(packet))
    assert their_decode(ours.splitlines(keepends=True)) == packet
    theirs = b"".join(smp_packet.encode(packet, line_length=line_length))
    assert ConsoleDecoder(len(packet)).feed(theirs) == [Packet(packet)]


@given(body=st.binary(max_size=1200), op=st.sampled_from(Op), group=st.integers(0, 0xFFFF))
def test_cobs_frames_go_both_ways(body: bytes, op: Op, group: int) -> None:
    """Theirs have no delimiter before them."""
    data = encode(Message(op, group, 1, 7, {"data": body}))
    theirs = Cobs()
    ours = frame(data, Transport.COBS)
    for piece in (ours, ours[1:], b"log\n" + ours):
        theirs.feed(piece)
        assert theirs.take() == data
    receiver = Receiver(len(data), SHARED)
    for _ in range(2):
        assert receiver.feed(b"".join(theirs.encode(data))) == [Framed(Transport.COBS, data)]


def their_decode(lines: list[bytes]) -> Any:
    decoder = smp_packet.decode()
    next(decoder)
    try:
        for line in lines:
            decoder.send(line)
    except StopIteration as done:
        return done.value
    raise AssertionError("not a whole packet")
