"""SMP, the Simple Management Protocol of MCUboot and Zephyr: messages and the numbers that stock tools know.

    byte 0     reserved (3 bits, 0) · version (2 bits: 0 is SMP v1, 1 is SMP v2) · operation (3 bits)
    byte 1     flags (none is defined)
    bytes 2-3  length of the body, big-endian
    bytes 4-5  group, big-endian
    byte 6     sequence number; a response repeats that of its request
    byte 7     command
    bytes 8-   the body: one CBOR map (`smp_body`); a body of length 0 reads as an empty map

`encode` and `decode` are the two doors; framing belongs to the transport (`smp_console`). The body travels as it is: which keys a
command needs is for its handler to judge.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from hillhold_verifier.errors import MisuseError, SmpError
from hillhold_verifier.smp_body import MAX_BODY, decode_body, encode_body

HEADER_SIZE = 8
MAX_MESSAGE = HEADER_SIZE + MAX_BODY  # bytes
HILLHOLD_GROUP = 0x4848  # "HH": the default of a configurable id; 64, the first for applications, is in use by others

_HEADER = struct.Struct(">BBHHBB")
_VERSIONS = (0, 1)  # 2 and 3 are reserved


class Op(IntEnum):
    """What a message asks or answers."""

    READ = 0
    READ_RSP = 1
    WRITE = 2
    WRITE_RSP = 3


class Group(IntEnum):
    """The stock groups that a Hillhold board serves."""

    OS = 0
    IMAGE = 1


class OsCommand(IntEnum):
    """Commands of group OS."""

    ECHO = 0
    DATETIME_STRING = 4
    RESET = 5
    MCUMGR_PARAMETERS = 6
    BOOTLOADER_INFO = 8


class ImageCommand(IntEnum):
    """Commands of group IMAGE."""

    STATE = 0
    UPLOAD = 1
    ERASE = 5
    SLOT_INFO = 6


class MgmtErr(IntEnum):
    """MGMT_ERR_*: errors of SMP itself, and of every group in SMP v1."""

    EOK = 0
    EUNKNOWN = 1
    ENOMEM = 2
    EINVAL = 3
    ETIMEOUT = 4
    ENOENT = 5
    EBADSTATE = 6
    EMSGSIZE = 7
    ENOTSUP = 8
    ECORRUPT = 9
    EBUSY = 10
    EACCESSDENIED = 11
    UNSUPPORTED_TOO_OLD = 12
    UNSUPPORTED_TOO_NEW = 13
    EPERUSER = 256  # the first of those that applications define


class OsMgmtErr(IntEnum):
    """OS_MGMT_ERR_*: errors of group OS in SMP v2."""

    OK = 0
    UNKNOWN = 1
    INVALID_FORMAT = 2
    QUERY_YIELDS_NO_ANSWER = 3
    RTC_NOT_SET = 4
    RTC_COMMAND_FAILED = 5


class ImgMgmtErr(IntEnum):
    """IMG_MGMT_ERR_*: errors of group IMAGE in SMP v2."""

    OK = 0
    UNKNOWN = 1
    FLASH_CONFIG_QUERY_FAIL = 2
    NO_IMAGE = 3
    NO_TLVS = 4
    INVALID_TLV = 5
    TLV_MULTIPLE_HASHES_FOUND = 6
    TLV_INVALID_SIZE = 7
    HASH_NOT_FOUND = 8
    NO_FREE_SLOT = 9
    FLASH_OPEN_FAILED = 10
    FLASH_READ_FAILED = 11
    FLASH_WRITE_FAILED = 12
    FLASH_ERASE_FAILED = 13
    INVALID_SLOT = 14
    NO_FREE_MEMORY = 15
    FLASH_CONTEXT_ALREADY_SET = 16
    FLASH_CONTEXT_NOT_SET = 17
    FLASH_AREA_DEVICE_NULL = 18
    INVALID_PAGE_OFFSET = 19
    INVALID_OFFSET = 20
    INVALID_LENGTH = 21
    INVALID_IMAGE_HEADER = 22
    INVALID_IMAGE_HEADER_MAGIC = 23
    INVALID_HASH = 24
    INVALID_FLASH_ADDRESS = 25
    VERSION_GET_FAILED = 26
    CURRENT_VERSION_IS_NEWER = 27
    IMAGE_ALREADY_PENDING = 28
    INVALID_IMAGE_VECTOR_TABLE = 29
    INVALID_IMAGE_TOO_LARGE = 30
    INVALID_IMAGE_DATA_OVERRUN = 31
    IMAGE_CONFIRMATION_DENIED = 32
    IMAGE_SETTING_TEST_TO_ACTIVE_DENIED = 33


@dataclass(frozen=True, slots=True)
class Message:
    """One SMP message.

    Attributes:
        group: 0..65535.
        command: 0..255.
        sequence: 0..255.
        body: text keys; int, float, bytes, str, bool, None, lists and maps of these.
        version: the header field: 0 for SMP v1, 1 for SMP v2.
        flags: 0..255; none is defined, so send 0.
    """

    op: Op
    group: int
    command: int
    sequence: int
    body: Mapping[str, object] = field(default_factory=dict)
    version: int = 1
    flags: int = 0


def encode(message: Message) -> bytes:
    """Encode a message; the same message always gives the same bytes.

    Raises:
        MisuseError: a field outside its range, or a body that `encode_body` does not take.
    """
    if message.version not in _VERSIONS:
        raise MisuseError(f"SMP version field {message.version} is not 0 or 1")
    body = encode_body(message.body)
    first = message.version << 3 | Op(message.op)
    try:
        header = _HEADER.pack(first, message.flags, len(body), message.group, message.sequence, message.command)
    except struct.error as error:
        raise MisuseError(f"a field of an SMP header is out of range: {error}") from error
    return header + body


def decode(data: bytes) -> Message:
    """Decode a message that is all of `data`.

    Raises:
        SmpError: malformed, of a version or operation that is not defined, or longer than `MAX_MESSAGE`.
    """
    if not HEADER_SIZE <= len(data) <= MAX_MESSAGE:
        raise SmpError("SMP message", expected=f"{HEADER_SIZE} to {MAX_MESSAGE} bytes", got=len(data))
    first, flags, length, group, sequence, command = _HEADER.unpack_from(data)
    reserved, version, op = first >> 5, first >> 3 & 3, first & 7
    if reserved or version not in _VERSIONS or op > max(Op):
        raise SmpError("SMP header", expected="operation 0 to 3 of version 0 or 1", got=f"first byte {first:#04x}")
    if length != len(data) - HEADER_SIZE:
        raise SmpError("SMP body length", expected=f"{len(data) - HEADER_SIZE} bytes", got=length)
    body = decode_body(data[HEADER_SIZE:]) if length else {}
    return Message(Op(op), group, command, sequence, body, version, flags)


def error_body(version: int, group: int, rc: int, reason: str | None = None) -> dict[str, object]:
    """Make the body of an error response of a group.

    Args:
        version: the version field of the request: 0 for SMP v1, 1 for SMP v2.
        group: whose error `rc` is (SMP v2 only).
        rc: an `MgmtErr` in SMP v1, an error of the group in SMP v2.
        reason: text for people (SMP v1 only: stock clients refuse other keys beside "err").
    """
    if version == 0:
        return {"rc": int(rc)} if reason is None else {"rc": int(rc), "rsn": reason}
    return {"err": {"group": int(group), "rc": int(rc)}}


def smp_error(rc: MgmtErr, reason: str | None = None) -> dict[str, object]:
    """Make the body of an error response of SMP itself: the same in both versions, whatever the group (Zephyr, smp_build_err_rsp)."""
    return {"rc": int(rc)} if reason is None else {"rc": int(rc), "rsn": reason}
