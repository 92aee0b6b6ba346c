"""All fuzz targets by name: what runs, what it starts from, and how its inputs are changed where bytes alone seldom lead anywhere.

run       takes any bytes; what escapes from it is a finding
seeds     the corpus, made afresh from the tests' own repositories, images and traffic
mutate    changes the value that an input holds, and writes it again well-formed
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import Final, TypeAlias

import cbor2

from forge import Repo, compact, ecdsa_key, key
from fuzz_board import fuzz_agent, fuzz_courier, recorded
from fuzz_formats import fuzz_answers, fuzz_console, fuzz_mcuboot, fuzz_patch, fuzz_smp
from fuzz_input import Input, altered
from fuzz_line import fuzz_framing, fuzz_pair, fuzz_stock
from fuzz_parsers import fuzz_canonical, fuzz_delegations, fuzz_metadata, fuzz_release, fuzz_state, fuzz_wire
from fuzz_trust import fuzz_client, fuzz_session
from hillhold_signer.patches import make_patch
from hillhold_verifier.smp import Message, encode
from hillhold_verifier.smp_body import encode_body
from hillhold_verifier.smp_console import encode_console
from hillhold_verifier.state import StagedPatch, Transfer, encode_record
from hillhold_verifier.wire import deflate
from offers import image
from staged import fresh, stage

Seeds: TypeAlias = Callable[[], list[bytes]]
Mutate: TypeAlias = Callable[[bytes, Random], bytes]


@dataclass(frozen=True, slots=True)
class Target:
    """One thing that is fuzzed; `max_length` in bytes, `runs`: mutated inputs in a test run."""

    run: Callable[[bytes], None]
    seeds: Seeds
    mutate: Mutate | None
    max_length: int
    runs: int


# --- mutations --------------------------------------------------------------------------------------------------------


def mutate_bytes(data: bytes, random: Random) -> bytes:
    """A few changes of bytes, each anywhere."""
    raw = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randint(0, len(raw))
        end = min(len(raw), at + random.choice((1, 1, 2, 4, 16)))
        match random.randrange(6):
            case 0:
                raw[at:end] = random.randbytes(end - at)
            case 1:
                del raw[at:end]
            case 2:
                raw[at:at] = random.randbytes(random.choice((1, 2, 8)))
            case 3:
                raw[at:at] = raw[at : at + random.randrange(40)]
            case 4 if raw:
                raw[at % len(raw)] ^= 1 << random.randrange(8)
            case _:
                raw[at:end] = random.choice(
                    (b"\0", b"\xff", b"\x7f", b'"', b"{}", b"[", b"\\u0000", b"\x1b", b"9" * 17)
                )
    return bytes(raw)


def mutate_json(data: bytes, random: Random) -> bytes:
    try:
        value = json.loads(data)
        for _ in range(random.choice((1, 1, 2))):
            altered(Input(random.randbytes(64)), value, raw=False)
        return compact(value)
    except (ValueError, RecursionError):  # no JSON, or text that has no UTF-8
        return mutate_bytes(data, random)


def mutate_cbor(data: bytes, random: Random, start: int = 1) -> bytes:
    """Change the CBOR value behind the first byte, which says that what stands around it is made right."""
    try:
        value = cbor2.loads(data[start:])
        for _ in range(random.choice((1, 1, 2))):
            altered(Input(random.randbytes(64)), value, raw=True)
        return b"\1" * start + cbor2.dumps(value)
    except (cbor2.CBORError, ValueError, TypeError, RecursionError):
        return mutate_bytes(data, random)


def mutate_pair(data: bytes, random: Random) -> bytes:
    """Change one of two CBOR values, of which the first has its length before it."""
    parts = [data[2 : 2 + int.from_bytes(data[:2])], data[2 + int.from_bytes(data[:2]) :]]
    which = random.randrange(2)
    parts[which] = mutate_cbor(parts[which], random, 0)
    return len(parts[0]).to_bytes(2) + parts[0] + parts[1] if len(parts[0]) < 65_536 else data


# --- seeds ------------------------------------------------------------------------------------------------------------


@cache
def repositories() -> tuple[Repo, ...]:
    """A plain one, and one with every kind of key, delegation and field."""
    rich = Repo(hardware=("nrf-a", "nrf-b"))
    rich.keys["targets"] = [key("targets-1"), ecdsa_key("targets-2")]
    rich.offline_grace = 86_400
    release = rich.add_release(
        "1.1.0+7", b"image", counter=3, downgrade_from=["2.0.0"], requires={"radio": "1.0.0"}, set="s", crit=["set"]
    )
    rich.add_patch(release, b"base", b"patch")
    rich.add_release("1.0.0", b"old", withdrawn="x", component="radio")
    rich.publish()
    return stage().repo, rich


def metadata_seeds() -> list[bytes]:
    found = [repo.files[role] for repo in repositories() for role in sorted(repo.files)]
    rich = repositories()[1]

    def hashed(body: dict[str, object]) -> None:
        below = body["delegations"]
        assert isinstance(below, dict)
        below["roles"] = [{**role, "path_hash_prefixes": ["ab", "0"]} for role in below["roles"]]
        for role in below["roles"]:
            del role["paths"]

    def succinct(body: dict[str, object]) -> None:
        below = body["delegations"]
        assert isinstance(below, dict)
        (role,) = below.pop("roles")
        terms = {name: role[name] for name in ("keyids", "threshold")}
        below["succinct_roles"] = {**terms, "bit_length": 8, "name_prefix": "bin"}

    return [*found, rich.targets(edit=hashed), rich.targets(edit=succinct)]


def canonical_seeds() -> list[bytes]:
    deep = [b"[" * depth + b"]" * depth for depth in range(15, 20)]
    odd = (b'{"a":[1,-9007199254740991,null,true,"\\u00e9\\n"]}', '{"é":"\x7f"}'.encode())
    return [*odd, *deep, b'{"b":1,"a":2}', b" [ 1 ] ", *metadata_seeds()]


def release_seeds() -> list[bytes]:
    entries = [item for repo in repositories() for item in repo.entries.items()]
    return [compact([path, entry["custom"]["hillhold"]]) for path, entry in entries]


def delegation_seeds() -> list[bytes]:
    pairs = ((b"pump/*/*", b"pump/1.0.0/app.bin"), (b"*a*b?c", b"xaxxbxc"), (b"a/" + b"*a" * 30, b"a/" + b"a" * 60))
    return [bytes([len(a)]) + a + bytes([len(b)]) + b + bytes([kind, 7, 7, 3]) for a, b in pairs for kind in (0, 1)]


def wire_seeds() -> list[bytes]:
    files = sorted(stage().repo.files.values(), key=len)
    whole = [bytes([base, kind, 1, 44]) + files[0] for base in range(4) for kind in (1, 2, 3)]
    cut = [bytes([0, 0, 1, 44]) + deflate(bytes(300), b"")[:-end] for end in (1, 2)]
    return [*whole, *cut]


def state_seeds() -> list[bytes]:
    found = []
    for how_far in ("start", "metadata", "sent", "marked"):
        areas = fresh(how_far).areas
        for raw in (areas.read(0), areas.read(1)):
            end = 18 + int.from_bytes(raw[14:18])
            found += [raw[: end + 32], b"\1" + raw[18:end]] if raw[:4] == b"HHst" else []
    state = fresh("sent").stored()
    assert state.slots[0]
    transfer = Transfer(0, state.slots[0], StagedPatch(b"\2" * 32, 7, "hhp2", b"\3" * 32, 9))
    return [*found, encode_record(3, replace(state, transfer=transfer, failed=(b"\4" * 32,)))]


def mcuboot_seeds() -> list[bytes]:
    small = [image("1.2.3+4", counter, length=48) for counter in (None, 7)]
    found = [head + raw for raw in (*small, image("1.0.0")) for head in (b"\0\0\0", b"\1\0\5")]
    return [*found, *(b"\1" + place.to_bytes(2) + raw for raw in small for place in range(0, len(raw), 9))]


def patch_seeds() -> list[bytes]:
    base = bytes(at * at % 251 for at in range(3000))
    result = base[:700] + b"new" + base[900:2500] + base[:300]
    whole = make_patch(base, result)
    lengths = len(base).to_bytes(2) + len(result).to_bytes(2)
    plain = bytes([0, 100, 2 * 3 + 1, 2, 5, 1, 2, 3, 65, 66]) + bytes([44, 2]) + b"\7"
    table = bytes([2, 0x80, 2, 0x80, 0x80, 4, 50, 90, 8, 130, 1, 7])
    moved = bytes([2]) + (200).to_bytes(2) + (150).to_bytes(2) + b"\1\0" + table + plain[1:]
    records = bytes([2]) + (200).to_bytes(2) + (150).to_bytes(2) + b"\1\0" + plain
    beyond = bytes([2]) + (200).to_bytes(2) + (300).to_bytes(2) + b"\1\0" + b"\0" + b"\x96\1\0" * 2
    longer = bytes([2]) + (200).to_bytes(2) + (5).to_bytes(2) + b"\1\0" + b"\0\x85\0\0"
    return [
        b"\0" + lengths + b"\0\x40" + whole,
        b"\1" + lengths + b"\0\x40" + whole[14:],
        records,
        moved,
        beyond,
        longer,
    ]


def smp_seeds() -> list[bytes]:
    messages = [
        Message(step.op, step.group, step.command, 7, body)
        for step, answer in recorded()
        for body in (step.body, answer)
    ]
    packets = sorted({encode(message)[:900] for message in messages}, key=len)
    return [seed for packet in packets[::3] for seed in (packet, b"\1" + packet[8:])]


def console_seeds() -> list[bytes]:
    frame = encode_console(bytes(range(150)))
    return [
        b"\0\0",
        bytes([0, 0, 0, *[0, 6] * 3]),  # a line that is longer than any packet may be
        bytes([2, 1, 0, 0, 99, 1, 20]) + b"x" * 20,
        bytes([0, 4, len(frame)]) + frame,
        bytes([0, 3, 60]) + bytes(80),
    ]


def answer_seeds() -> list[bytes]:
    errors: tuple[dict[str, object], ...] = ({"rc": 5}, {"err": {"group": 1, "rc": 3}}, {"rc": 1, "rsn": "no"})
    distinct = sorted({encode_body(answer) for answer in (*(answer for _, answer in recorded()), *errors)})
    return [len(a).to_bytes(2) + a + b for a, b in zip(distinct, reversed(distinct), strict=True)]


def life_seeds() -> list[bytes]:
    """Each act with an update after it, every theft after two honest generations, and long mixed lives."""
    random = Random(1)
    update, renewed = bytes([2, *bytes(6), 1, 3]), bytes([0, 0, 30])
    short = [bytes([0, act, *random.randbytes(12)]) + update + bytes([3]) + update for act in range(8)] * 2
    hands = [(version, 3) for version in range(6)] + [(0, hand) for hand in range(6)]
    thefts = [bytes([0, 5, role, version, hand, 1]) for role in range(5) for version, hand in hands]
    quorum = bytes([0, 4, 2, 3, 0, 0, 0, 0, 1])  # a root that asks for more signatures than it has
    withdrawn = bytes([0, 3, 1, 2, 0, 1, 1, 0, 0, 1, 3])
    expired = [bytes([0, 4, 0, 1, role, 1]) for role in range(1, 5)]
    told = [renewed + update + renewed + update + act + update for act in (*thefts, *expired, quorum, withdrawn)]
    return [*short, *told, *(random.randbytes(48) for _ in range(16))]


def line_seeds() -> list[bytes]:
    """At each stage: all in order, altered, and mixed."""
    random = Random(2)
    whole = [bytes([stage_number, *[0, 3] * 20, 9, 3, 8]) for stage_number in range(4)]
    return [*whole, *(bytes([number % 4, 0, number % 16, *random.randbytes(24)]) for number in range(16))]


def board_seeds() -> list[bytes]:
    """A courier's push, look and confirmation, with an honest board for so long, then another."""
    random = Random(3)
    mixed = [bytes([kind, honest, *random.randbytes(60)]) for kind in range(6) for honest in (0, 2, 4, 12, 31)]
    zeros = [bytes([kind, honest, 2, 1, 0]) for kind in (2, 3) for honest in range(20)]  # and for ever
    return [*mixed, *zeros]


def framing_seeds() -> list[bytes]:
    """Frames of each kind one behind the other, cut in pieces; noise, markers and spoilt frames between them."""
    random = Random(4)
    frames = [
        bytes([line, 2, 0, 9, 1, 3, *[1, kind, 12, 0, 1, 2, 3, *random.randbytes(12)] * 3])
        for line in range(4)
        for kind in range(3)
    ]
    mixed = [bytes([line, 3, *random.randbytes(300)]) for line in range(4) for _ in range(3)]
    return [*frames, *mixed, bytes(600), bytes([0, 0, *[0, 4, 1, 1, 20, 0, 1, 2, 3, *bytes(20)] * 4])]


def pair_seeds() -> list[bytes]:
    """A clean line, one fault of each kind again and again, and mixed ones; for each kind of line and stage."""
    random = Random(5)
    clean = [bytes([line, stage_number, 3, 1, 7, 1]) for line in range(4) for stage_number in range(3)]
    faults = [bytes([fault % 4, 0, 3, 0, 7, *[0, 0, fault, 0, 40, 1] * 20]) for fault in range(6, 16)]
    return [*clean, *faults, *(bytes([number % 4, number % 3, *random.randbytes(120)]) for number in range(12))]


def stock_seeds() -> list[bytes]:
    random = Random(6)
    faults = [bytes([3, 0, 1, *[0, 0, 0, fault, 0, 40, 1] * 16]) for fault in range(6, 16)]
    return [b"", b"\3\1\1", *faults, *(bytes([number % 4, 1, *random.randbytes(120)]) for number in range(8))]


TARGETS: Final = {
    "canonical": Target(fuzz_canonical, canonical_seeds, mutate_json, 4096, 1500),
    "metadata": Target(fuzz_metadata, metadata_seeds, mutate_json, 8192, 1500),
    "release": Target(fuzz_release, release_seeds, mutate_json, 2048, 2000),
    "delegations": Target(fuzz_delegations, delegation_seeds, None, 560, 400),
    "wire": Target(fuzz_wire, wire_seeds, None, 4096, 1500),
    "state": Target(fuzz_state, state_seeds, mutate_cbor, 16384, 600),
    "mcuboot": Target(fuzz_mcuboot, mcuboot_seeds, None, 8192, 1500),
    "patch": Target(fuzz_patch, patch_seeds, None, 4096, 400),
    "smp": Target(fuzz_smp, smp_seeds, mutate_cbor, 1200, 2000),
    "console": Target(fuzz_console, console_seeds, None, 2048, 1000),
    "answers": Target(fuzz_answers, answer_seeds, mutate_pair, 2048, 2000),
    "session": Target(fuzz_session, life_seeds, None, 256, 40),
    "client": Target(fuzz_client, life_seeds, None, 256, 40),
    "agent": Target(fuzz_agent, line_seeds, None, 256, 40),
    "courier": Target(fuzz_courier, board_seeds, None, 1024, 80),
    "framing": Target(fuzz_framing, framing_seeds, None, 2048, 600),
    "pair": Target(fuzz_pair, pair_seeds, None, 256, 30),
    "stock": Target(fuzz_stock, stock_seeds, None, 256, 20),
}
