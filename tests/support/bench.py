"""A small board on a bench, all in memory: fast enough for sweeps, and made of the parts that a real one has.

    repo = Repo()
    offer(repo, "1.0.0", counter=1)                 # an MCUboot image, listed in the line
    repo.publish()
    bench = Bench(repo)                             # provisioned from the repository's first root, switched on
    bench.push()                                    # what a courier does: metadata, image, test, reset, confirmation
    assert bench.facts().running == "1.0.0"

`Rig` has the parts without agent and application, for tests of the installer. `facts` are read from the flash by code of this module's
own, as far as they decide a test: which known image lies in a slot is told by its bytes, not by what the device believes.
Images and releases come from `offers`, bad lines from `lossy`. Time is Unix seconds (`clock`) and the seconds of the courier's pauses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from forge import T0, Repo
from hillhold_bootsim import board as virtual
from hillhold_bootsim.application import SelfTest, Verdict
from hillhold_bootsim.bootflags import SimBootControl
from hillhold_bootsim.bootloader import BootOutcome, ResetReason
from hillhold_bootsim.flash import Flash
from hillhold_bootsim.geometry import Geometry
from hillhold_bootsim.layout import BootMode, Layout
from hillhold_bootsim.station import make_board, provision_board
from hillhold_verifier.answers import Body, plan_of
from hillhold_verifier.conversation import Conversation, Pause, T
from hillhold_verifier.courier import Courier, Pushed
from hillhold_verifier.errors import OperationalError, UnprovisionedError
from hillhold_verifier.framing import SHARED, Transport
from hillhold_verifier.installer import Installer
from hillhold_verifier.metadata import ROOT, SNAPSHOT, TARGETS, TIMESTAMP
from hillhold_verifier.select import Device
from hillhold_verifier.smp import HILLHOLD_GROUP, Group, ImageCommand, Message, Op, decode, encode
from hillhold_verifier.smp_console import ConsoleDecoder, Packet, encode_console
from hillhold_verifier.state import DeviceState, StateStore
from hillhold_verifier.upload import one_at_a_time
from offers import TreeSource, held_keys, image, offer, started

LAYOUT: Final = Layout.in_a_row(
    name="bench",
    geometry=Geometry.uniform(size=80 * 1024, sector=2048, unit=4, otp=256),
    state_size=20 * 1024,
    slot_size=16 * 1024,
)
"""Slots of eight sectors; state areas that hold twice what these tests make a device hold."""
SWAPPING: Final = Layout.in_a_row(
    name="swapping",
    geometry=Geometry.uniform(size=80 * 1024, sector=2048, unit=8, otp=256),
    state_size=20 * 1024,
    slot_size=16 * 1024,
    mode=BootMode.SWAP,
)
"""The same, whose images run from the first slot; the trailer has the last sector of either."""
SLOT_SIZE: Final = LAYOUT.slots[0][0].size
STATE_SIZE: Final = LAYOUT.state[0].size
DEVICE: Final = Device("pump", "nrf-a", "serial-1")
CLOCK: Final = T0 + 60
MANUAL: Final = SelfTest(seconds=3600, confirms=False)
"""Applications that have not tested themselves yet, whatever happens in a test."""
FAILING: Final = SelfTest(default=Verdict.FAIL)


# --- what a device holds ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Facts:
    """What no refusal changes.

    Attributes:
        running: version of the image that runs, told by the bytes in the slot, or None in recovery.
        slots: SHA-256 of the bytes of either slot.
        confirmed, mark, trial, failed: as in the boot flags; `failed_here`: hashes that the state remembers.
        counter: the counter store's value.
    """

    running: str | None
    slots: tuple[str, str]
    confirmed: int | None
    mark: bytes | None
    trial: bool
    failed: bytes | None
    failed_here: tuple[bytes, ...]
    counter: int


@dataclass(frozen=True, slots=True)
class Held:
    """Versions of metadata that a device holds, floors by role, time floor. What honest metadata may raise, and nothing lowers."""

    versions: Mapping[str, int]
    floors: Mapping[str, int]
    time: int

    def is_not_below(self, other: Held) -> bool:
        return (
            all(self.floors.get(role, 0) >= floor for role, floor in other.floors.items())
            and self.time >= other.time
            and self.versions["root"] >= other.versions["root"]
        )


class Parts:
    """A board's flash, provisioned unless it is given, and the views of it. `known`: every image that may lie in a slot, whole."""

    def __init__(
        self, repo: Repo, layout: Layout = LAYOUT, *, device: Device = DEVICE, flash: Flash | None = None
    ) -> None:
        self.repo, self.layout = repo, layout
        self.flash = flash or Flash(layout.geometry)
        if flash is None:
            provision_board(self.flash, layout, device, repo.tree["metadata/1.root.json"])
        self.known: dict[bytes, str] = {}
        self.use(virtual.Parts(self.flash, layout, held_keys()))

    def use(self, parts: virtual.Parts) -> None:
        """Look at the flash through these: where a slot lies is in their memory as well, in swap mode."""
        self.parts = parts
        self.slots, self.areas, self.counter = parts.slots[0], parts.areas, parts.counters[0]

    def learn(self) -> None:
        """Know all images that the repository ever listed."""
        for path, entry in self.repo.entries.items():
            fields = entry["custom"]["hillhold"]
            if "version" in fields and path in self.repo.blobs:
                self.known[self.repo.blobs[path]] = fields["version"]

    def whole_image(self, slot: int) -> str | None:
        """The version of the known image whose bytes lie at the slot's start, or None."""
        return self._whole(self.slots.read(slot, 0, self.slots.size))

    def running_image(self, slot: int) -> str | None:
        """The same of what runs from a slot: in swap mode every image runs from the first."""
        if self.layout.mode is BootMode.REMAP:
            return self.whole_image(slot)
        return self._whole(self.flash.read(self.layout.slots[0][0].offset, self.slots.size))

    def _whole(self, room: bytes) -> str | None:
        self.learn()
        found = [version for data, version in self.known.items() if data and room.startswith(data)]
        return found[0] if found else None

    def stored(self) -> DeviceState:
        """The state as a device would read it after a reset."""
        return StateStore(self.areas).load()

    def held(self) -> Held:
        trust = self.stored().trust
        files = {"root": trust.root, "timestamp": trust.timestamp, "snapshot": trust.snapshot}
        every = {**files, "targets": trust.targets, "line": trust.line}
        return Held(
            {role: found.signed.version for role, found in every.items() if found},
            {role: floor.value for role, floor in trust.floors.items()},
            trust.now(None),
        )

    def read_facts(self, control: SimBootControl) -> Facts:
        flags = control.flags()
        digests = [sha256(self.slots.read(slot, 0, self.slots.size)).hexdigest()[:16] for slot in (0, 1)]
        return Facts(
            self.running_image(flags.running) if flags.running is not None else None,
            (digests[0], digests[1]),
            flags.confirmed,
            flags.mark.sha256 if flags.mark else None,
            flags.trial,
            flags.failed,
            self.stored().failed,
            self.counter.value(),
        )


class Rig(Parts):
    """A board without agent and application, after its first boot; without `boots`, as it is on the given flash."""

    def __init__(self, repo: Repo, layout: Layout = LAYOUT, *, flash: Flash | None = None, boots: bool = True) -> None:
        super().__init__(repo, layout, flash=flash)
        self.clock: int | None = CLOCK
        self.control = self.parts.control
        if boots:
            self.reset(ResetReason.POWER_ON)
        else:
            self.start_agent()

    def start_agent(self) -> None:
        self.installer = Installer(StateStore(self.areas), [self.slots], self.control, [self.counter])

    def reset(self, reason: ResetReason = ResetReason.SOFT) -> BootOutcome:
        """Boot; nothing but the flash outlives it."""
        self.flash.power_on()
        outcome = self.parts.bootloader.boot(reason)
        self.start_agent()
        return outcome

    def power_cycle(self) -> None:
        self.reset(ResetReason.POWER_ON)

    def facts(self) -> Facts:
        return self.read_facts(self.control)

    def take(self, files: Mapping[str, bytes] | None = None) -> None:
        """Deliver the published metadata that the device needs, timestamp first."""
        files = self.repo.files if files is None else files
        roles = {TIMESTAMP: "timestamp", SNAPSHOT: "snapshot", TARGETS: "targets", self.repo.product: "line"}
        need = self.installer.receive(TIMESTAMP, files["timestamp"], self.clock)
        while need:
            need = self.installer.receive(need.role, files[roles[need.role]], self.clock)

    def take_root(self, data: bytes) -> None:
        self.installer.receive(ROOT, data, self.clock)

    def send(self, data: bytes, *, piece: int = 700, until: int | None = None) -> int:
        """Transfer content from where the device wants it, up to offset `until`; return the offset that it wants next."""
        at = self.installer.begin(sha256(data).digest(), len(data), self.clock)
        end = len(data) if until is None else until
        while at < end:
            at = self.installer.write(at, data[at : min(at + piece, end)])
        return at

    def trial(self, data: bytes) -> BootOutcome:
        """Send an image, mark it and boot it."""
        self.send(data)
        self.installer.mark(self.clock)
        return self.reset()

    def install(self, data: bytes) -> None:
        """The whole way, from published metadata to a confirmed image."""
        self.take()
        outcome = self.trial(data)
        assert outcome.trial, outcome.events
        self.installer.confirm(self_tested=True)


def confirmed_rig(repo: Repo | None = None, layout: Layout = LAYOUT) -> Rig:
    """A board that runs 1.0.0, confirmed."""
    rig = Rig(repo or started(), layout)
    rig.install(image("1.0.0"))
    return rig


def newer(rig: Rig, version: str = "1.1.0", counter: int = 2) -> bytes:
    """Publish a newer release, and bring the board its metadata."""
    data = offer(rig.repo, version, counter)
    rig.repo.publish()
    rig.take()
    return data


# --- the board with its agent -----------------------------------------------------------------------------------------


class BoardSilent(OperationalError):
    """The board gave no answer."""


class Bench(Parts):
    """A virtual board with the verifier's agent, switched on, and a courier's way to it without a link.

    Attributes:
        clock: Unix seconds of the board's clock, or None.
        seconds: since the start; passes with `wait`, and in the courier's pauses.
        answers: bytes of every answer so far.
    """

    def __init__(
        self,
        repo: Repo,
        layout: Layout = LAYOUT,
        *,
        self_test: SelfTest | None = None,
        device: Device = DEVICE,
        flash: Flash | None = None,
        buffer: int = 1024,
        buffers: int = 1,
        transports: Sequence[Transport] = SHARED,
    ) -> None:
        super().__init__(repo, layout, device=device, flash=flash)
        self.board = make_board(self.flash, layout, held_keys(), self_test, buffer, buffers, transports)
        self.use(self.board.parts)
        self.clock: int | None = CLOCK
        self.seconds = 0.0
        self.answers = 0
        self._sequence = 0
        self.board.power_on()

    def facts(self) -> Facts:
        return self.read_facts(self.board.control)

    def facts_after_reset(self) -> Facts:
        """What the bootloader makes of it: power off, on, and look."""
        self.power_cycle()
        return self.facts()

    def power_cycle(self) -> None:
        self.board.cut_power()
        self.flash.power_cut = None
        self.board.power_on()

    def wait(self, seconds: float) -> None:
        self.seconds += seconds
        self.board.tick(self.seconds)

    def feed(self, data: bytes) -> bytes:
        answer = self.board.feed(data, self.clock)
        self.answers += len(answer)
        return answer

    def message(self, message: Message) -> Message:
        """Send one SMP message over the console; return the answer.

        Raises:
            BoardSilent: there was none.
        """
        events = ConsoleDecoder(16384).feed(self.feed(encode_console(encode(message))))
        packets = [event.data for event in events if isinstance(event, Packet)]
        if not packets:
            raise BoardSilent("no answer from the board")
        assert len(packets) == 1
        return decode(packets[0])

    def ask(self, op: Op, group: int, command: int, body: Body | None = None, *, version: int = 1) -> Body:
        self._sequence = (self._sequence + 1) % 256
        answer = self.message(Message(op, group, command, self._sequence, body or {}, version))
        assert (answer.op, answer.group, answer.command, answer.sequence) == (op + 1, group, command, self._sequence)
        return answer.body

    def own(self, op: Op, command: int, body: Body | None = None) -> Body:
        """Ask in Hillhold's own group."""
        return self.ask(op, HILLHOLD_GROUP, command, body)

    def image(self, command: ImageCommand, body: Body | None = None, *, read: bool = False, version: int = 1) -> Body:
        """Ask in group IMAGE, as a stock tool does."""
        return self.ask(Op.READ if read else Op.WRITE, Group.IMAGE, command, body, version=version)

    def status(self) -> Body:
        return self.own(Op.READ, 5)

    def refusal(self) -> str:
        """The words of the last refusal."""
        return str(self.status()["refusal"])

    def run(self, conversation: Conversation[T]) -> T:
        """Carry a courier's conversation, without losses; time passes in its pauses."""
        answer: Body = {}
        requests = one_at_a_time(conversation)
        try:
            step = next(requests)
            while True:
                if isinstance(step, Pause):
                    self.wait(step.seconds)
                    answer = {}
                else:
                    answer = self.ask(step.op, step.group, step.command, step.body)
                step = requests.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    def courier(self, tree: Mapping[str, bytes] | None = None) -> Courier:
        return Courier(TreeSource(self.repo.tree if tree is None else tree))

    def push(self, tree: Mapping[str, bytes] | None = None, *, patches: bool = True, reset: bool = True) -> Pushed:
        """Let a courier bring the board up to date, by default from the repository as it is now."""
        return self.run(self.courier(tree).push(patches=patches, reset=reset))

    def check(self, tree: Mapping[str, bytes] | None = None) -> Body:
        """Let a courier bring metadata only; return the board's choice."""
        return self.run(self.courier(tree).check())[1]

    def chosen(self) -> Body:
        """The one image that the board chooses from the repository as it is now."""
        (entry,) = plan_of(self.check())
        return entry


def installed(
    repo: Repo | None = None, layout: Layout = LAYOUT, *, self_test: SelfTest | None = None, buffers: int = 1
) -> Bench:
    """A bench whose board runs the repository's release, confirmed (by default 1.0.0 with counter 1); `self_test` is for later ones."""
    repo = repo or started()
    bench = Bench(repo, layout, buffers=buffers)
    pushed = bench.push()
    assert pushed.installed, pushed
    assert not bench.facts().trial
    bench.board.self_test = self_test or bench.board.self_test
    return bench


def blind(bench: Parts, index: int) -> None:
    """Destroy a state record."""
    bench.areas.write(index, b"\0" * 64)


def is_unprovisioned(bench: Parts) -> bool:
    try:
        bench.stored()
    except UnprovisionedError:
        return True
    return False


@contextmanager
def unchanged(
    subject: Bench | Rig, *, moved: Callable[[Facts], Facts] = lambda facts: facts, rotated: bool = False
) -> Iterator[None]:
    """Hold that nothing changes within but root, floors and time, and that these never go down; after a reset, too.

    Args:
        subject: the board, which is reset at the end.
        moved: what may differ after all.
        rotated: keys are replaced within, with which their floors fall.
    """
    subject.learn()
    before, held = subject.facts(), subject.held()
    yield
    assert subject.facts() == moved(before)
    assert rotated or subject.held().is_not_below(held)
    after = subject.held()
    subject.power_cycle()
    assert subject.facts() == moved(before)
    assert subject.held() == after
