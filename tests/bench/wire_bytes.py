"""Bytes on the wire to bring a board's metadata up to date, against what python-tuf's client downloads from the same repository.

Ten product lines with a quorum of two each; the board's line holds three releases, each with a patch from the one before it. Cases:

    a  nothing new but a renewed timestamp
    b  one new release (and its patch)
    c  the same for a board that holds nothing but the first root

"floor" counts the bytes in these files that no encoding can leave out: signatures, hashes, keys and key ids that the board does not hold.
"metadata" counts the deflated files alone. "messages" counts whole SMP messages, requests and responses of the courier's exchange
(identify, held, metadata). "line" counts those framed for the console, as they cross a serial line. python-tuf's files are counted as they
are published (compact JSON; its own client asks for them over HTTP, whose headers are not counted).

    python tests/bench/wire_bytes.py [--json]
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from securesystemslib.signer import CryptoSigner

from hillhold_bootsim import boards
from hillhold_bootsim.bootflags import BootRecord, FlagStore, SimBootControl
from hillhold_bootsim.counter import OtpCounter
from hillhold_bootsim.flash import Flash
from hillhold_bootsim.layout import SimRecordAreas, SimSlots
from hillhold_signer.adding import add_release
from hillhold_signer.ceremony import Ceremony, NamedKey, OnlineKey, Team
from hillhold_signer.examples import example_signer
from hillhold_signer.images import ImagePlan, sign_image
from hillhold_signer.lines import add_product
from hillhold_signer.products import Caps, Product
from hillhold_signer.publish import OnlineSigners
from hillhold_signer.releases import Wish
from hillhold_signer.repository import Repository
from hillhold_verifier.agent import METADATA, Agent
from hillhold_verifier.conversation import Pause, Request
from hillhold_verifier.courier import Courier
from hillhold_verifier.installer import Installer, provision
from hillhold_verifier.select import Device
from hillhold_verifier.smp import HILLHOLD_GROUP, Message, decode, encode
from hillhold_verifier.smp_console import encode_console
from hillhold_verifier.sources import DirectorySource
from hillhold_verifier.state import StateStore
from hillhold_verifier.upload import one_at_a_time

NOW = 1_790_000_000
DAY = 86400
LINES = 10
COLUMNS = ("floor", "metadata", "messages", "line", "tuf_json", "ratio", "aim")
AIMS = {"a": 200, "b": 750, "c": 1700}


@dataclass
class Count:
    """Bytes of one exchange."""

    floor: int = 0
    metadata: int = 0
    messages: int = 0
    line: int = 0


class World:
    """A repository of ten lines, all keys in memory."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "repository"
        self.online = OnlineSigners(example_signer("snapshot"), example_signer("timestamp"))
        offline = {name: tuple(named(f"{name}-{n}") for n in (1, 2, 3)) for name in ("root", "targets")}
        online = {n: OnlineKey(example_signer(n).public_key, f"file:{n}") for n in ("snapshot", "timestamp")}
        ceremony = Ceremony(
            Team(offline["root"], 2), Team(offline["targets"], 2), online["snapshot"], online["timestamp"]
        )
        self.repository = Repository.create(self.path, ceremony, NOW, demo=True)
        self.teams = [[CryptoSigner.generate_ed25519() for _ in range(2)] for _ in range(LINES)]
        for number, team in enumerate(self.teams):
            keys = tuple(NamedKey(f"engineer {n}", signer.public_key) for n, signer in enumerate(team))
            product = Product(f"pump-{number}", Team(keys, 2), Caps((f"board-{number}",), 100, 30 * DAY))
            add_product(self.repository, product, NOW)
        for name in ("root-1", "root-2", "targets-1", "targets-2"):
            self.repository.sign(example_signer(name))
        self.sign_and_publish(range(LINES), NOW)

    def sign_and_publish(self, lines: range, now: int) -> None:
        for number in lines:
            for signer in self.teams[number]:
                self.repository.sign(signer)
        self.repository.publish(self.online, now)

    def release(self, number: int, version: str, now: int) -> None:
        """Publish a release of one line: firmware of which a part changes from one version to the next."""
        payload = bytes(i * i // 7 % 251 for i in range(20_000)) + version.encode() * 10
        image = sign_image(payload, ImagePlan(version, 1, 512, 65536, True), example_signer("image"), demo=True)
        add_release(self.repository, f"pump-{number}", image, Wish("app.bin"), now)
        self.sign_and_publish(range(number, number + 1), now)


def named(name: str) -> NamedKey:
    return NamedKey(name, example_signer(name).public_key)


def board(root: bytes) -> Agent:
    layout = boards.board().layout
    flash = Flash(layout.geometry)
    flags = FlagStore(flash, layout)
    flags.provision(BootRecord())
    control = SimBootControl(flags)
    store = StateStore(SimRecordAreas(flash, layout.state))
    provision(store, Device("pump-0", "board-0", "bench"), root)
    return Agent(Installer(store, [SimSlots(flash, layout)], control, [OtpCounter(flash)]))


def digests(data: bytes) -> set[bytes]:
    return set(re.findall(rb"[0-9a-f]{64,}", data))


def bring(agent: Agent, path: Path, now: int, roles: list[str], held: list[bytes]) -> Count:
    """Let the courier bring the metadata of `roles`, and count. `held`: files that the board holds."""
    known = set().union(*map(digests, held))
    new = set().union(*(digests(newest(path, role)) for role in roles)) - known
    count = Count(floor=sum(len(digest) // 2 for digest in new))
    conversation = one_at_a_time(Courier(DirectorySource(path)).check())
    step: Request | Pause = next(conversation)
    try:
        for sequence in range(1000):
            assert isinstance(step, Request)
            request = encode(Message(step.op, step.group, step.command, sequence, step.body))
            answer = agent.answer(request, now)
            assert answer is not None
            body = decode(answer).body
            assert "err" not in body, body
            if (step.group, step.command) == (HILLHOLD_GROUP, METADATA):
                data = step.body["d"]
                assert isinstance(data, bytes)
                count.metadata += len(data)
            if "reasons" not in body and "plan" not in body:  # the choice belongs to the update, not to its metadata
                count.messages += len(request) + len(answer)
                count.line += len(encode_console(request)) + len(encode_console(answer))
            step = conversation.send(body)
    except StopIteration:
        return count
    raise AssertionError("the exchange does not end")


def newest(path: Path, role: str) -> bytes:
    """The newest published file of a role."""
    folder = path / "public" / "metadata"
    if role == "timestamp":
        return (folder / "timestamp.json").read_bytes()
    return max(folder.glob(f"*.{role}.json"), key=lambda file: int(file.name.partition(".")[0])).read_bytes()


def measure(folder: Path) -> dict[str, dict[str, float]]:
    world = World(folder)
    root = (world.path / "public/metadata/1.root.json").read_bytes()
    for number, version in enumerate(("1.0.0", "1.1.0")):
        for line in range(LINES if number == 0 else 1):
            world.release(line, version, NOW + DAY * number)
    chain = ["timestamp", "snapshot", "targets", "pump-0"]
    held = board(root)
    bring(held, world.path, NOW + DAY, chain, [root])
    files = [root, *(newest(world.path, role) for role in chain)]
    world.repository.refresh(world.online, NOW + 2 * DAY - 60)
    roles = {"a": chain[:1], "b": [*chain[:2], chain[3]], "c": chain}
    counts = {"a": bring(held, world.path, NOW + 2 * DAY - 60, roles["a"], files)}
    peer = {"a": len(newest(world.path, "timestamp"))}
    world.release(0, "1.2.0", NOW + 3 * DAY)
    counts["b"] = bring(held, world.path, NOW + 3 * DAY, roles["b"], files)
    counts["c"] = bring(board(root), world.path, NOW + 3 * DAY, roles["c"], [root])
    peer |= {case: sum(len(newest(world.path, role)) for role in roles[case]) for case in ("b", "c")}
    rows = {}
    for case, count in counts.items():
        rows[case] = {
            "floor": count.floor,
            "metadata": count.metadata,
            "messages": count.messages,
            "line": count.line,
            "tuf_json": peer[case],
            "ratio": round(count.metadata / peer[case], 3),
            "aim": AIMS[case],
        }
    return rows


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder))
    if "--json" in sys.argv:
        print(json.dumps(rows))
        return
    print(__doc__.split("\n\n")[0])
    print(f"\n{'case':6}" + "".join(f"{name:>10}" for name in COLUMNS))
    for case, row in rows.items():
        print(f"{case:6}" + "".join(f"{row[name]:>10}" for name in COLUMNS))


if __name__ == "__main__":
    main()
