"""What one attack may do to a board, and what is kept of it as evidence.

    bench.settle()                          # an honest, confirmed release runs
    thief = bench.house.thief()             # a repository whose keys are all stolen
    thief.publish(timestamp=thief.timestamp(version=2**53 - 1))
    bench.push(thief.tree)                  # what the board says to that is kept, and decides nothing
    bench.stolen()                          # the judge replaces keys before the honest update

All that an attack sends goes over the line; only clock, power and a virtual application's script are turned from behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256, shake_256
from typing import Final, TypeVar

from hillhold_bootsim.lab.errors import NotTestedError
from hillhold_bootsim.lab.forge import Repo
from hillhold_bootsim.lab.house import House, Release
from hillhold_bootsim.lab.model import Evidence, Item
from hillhold_bootsim.lab.reading import Ran, Reading
from hillhold_bootsim.lab.stockinstall import BOOT, image_hash, install
from hillhold_bootsim.lab.target import GoneError, Target, Trials
from hillhold_bootsim.lab.tree import TreeSource
from hillhold_bootsim.lab.wire import Wire
from hillhold_bootsim.lab.words import Words, look
from hillhold_verifier.agent import METADATA
from hillhold_verifier.answers import Body
from hillhold_verifier.conversation import Conversation, Request
from hillhold_verifier.courier import Courier, Pushed
from hillhold_verifier.errors import HillholdError, OperationalError, Refused
from hillhold_verifier.select import Device
from hillhold_verifier.smp import HILLHOLD_GROUP, Group, ImageCommand, Op, OsCommand
from hillhold_verifier.wire import base_name, deflate

T = TypeVar("T")
TRIAL_WAITS: Final = 60
"""Looks at a board that is on trial, `BOOT` seconds apart, before nobody believes that the trial ends."""
STOCK: Final = Device("lab", "stock", "", ("app",))  # what a stock board, which does not say, is taken for
ROOM: Final = 160
"""Bytes of a message that its header and its other fields take, at most."""


class Bench:
    """One board, the lab's maker for it, and the line between them.

    Args:
        target: the board.
        seed: of the lab's keys and of all noise.
        firmware, header: see `House`.

    Attributes:
        house: the maker; made when the board is first met.
        words: the last look at the board through its line.
        baseline: the honest release that runs, confirmed.
        allowed: further releases that may run after the attack, and whether only on trial.
        rotated: keys were replaced in this case, with which floors fall.
        is_stolen: keys have to be replaced before the next honest release.
        others: what the components behind the first run, where this case installed that.
        raised: the highest counter of an honest release that was confirmed in this case; 0 for none.
        wrong: what was seen in this case that no right board does, in sentences.
    """

    def __init__(self, target: Target, seed: int, *, firmware: bytes = b"", header: int = 32) -> None:
        self.target, self.seed = target, seed
        self._firmware, self._header = firmware, header
        self._house: House | None = None
        self._wire: Wire | None = None
        self._words: Words | None = None
        self.baseline: Release | None = None
        self.is_stolen = False
        self.begin()

    def begin(self) -> None:
        """Begin another case: what the one before noted and asked for is gone."""
        self.evidence: list[Evidence] = []
        self.allowed: dict[Ran, bool] = {}
        self.others: tuple[Ran, ...] = ()
        self.rotated = False
        self.raised = 0
        self.wrong: list[str] = []

    # --- meeting the board --------------------------------------------------------------------------------------------

    @property
    def house(self) -> House:
        """The maker; raises `OperationalError` before the board was met."""
        if self._house is None:
            raise OperationalError("the board was not met yet")
        return self._house

    @property
    def words(self) -> Words:
        """The last look; raises as `house`."""
        if self._words is None:
            raise OperationalError("the board was not looked at yet")
        return self._words

    @property
    def is_stock(self) -> bool:
        """It has SMP, and nothing of Hillhold's."""
        return self.words.device is None

    @property
    def wire(self) -> Wire:
        """The line, opened when it is first needed."""
        if self._wire is None:
            self._wire = Wire(self.target)
        return self._wire

    @property
    def current(self) -> Release:
        """The honest release that runs; raises `OperationalError` before `settle`."""
        if self.baseline is None:
            raise OperationalError("no honest release runs yet")
        return self.baseline

    def look(self) -> Words:
        """Ask the board what it runs; raises as `words.look`."""
        known = self._house.by_image_hash if self._house else {}
        self._words = self.wire.run(look(known))
        if self._house is None:
            device = self._words.device or STOCK
            self._house = House(self.seed, device, self.target.now(), firmware=self._firmware, header=self._header)
        return self._words

    def rest(self) -> Words:
        """Look at the board until no trial is under way, at most `TRIAL_WAITS` times; return the last look. Raises as `look`."""
        for _ in range(TRIAL_WAITS):
            if not self.look().said.trial:
                break
            self.wait(BOOT)
        return self.words

    def settle(self) -> None:
        """Have the board run an honest release, confirmed, and nothing marked: what every case begins with.

        Raises:
            HillholdError: that cannot be had, and why.
        """
        self.script(Trials.PASS)
        said, release = self.rest().said, self.baseline
        at_rest = not said.trial and not said.marked and not self.is_stolen
        if release and at_rest and said.running and said.running[0].is_same(ran(release)):
            return
        self.baseline = None
        try:
            self.update()
        except GoneError:
            raise
        except HillholdError as refusal:
            self.say("the first try at an honest baseline", str(refusal))
            self.stolen()  # whatever an earlier campaign, or a failed case, left behind ends with the keys
            self.update()
        self.rotated = False

    def update(self, counter: int | None = None, *, whole: bool = False) -> Release:
        """Install the next honest release, and have it confirmed; it is the baseline from then on.

        Args:
            counter: its security counter, by default the board's.
            whole: for all components.

        Raises:
            OperationalError: the board refuses it, or does not run it then.
        """
        house = self.go_on()
        if self.is_stolen:
            house.rotate()
            self.is_stolen, self.rotated = False, True
        release = self.install(house.release(counter, whole=whole or not self.words.said.running))
        self.raised = max(self.raised, counter or 0)
        return release

    def go_on(self) -> House:
        """Look at the board, and take its maker to where it is and to the present; raises as `words.look`."""
        words = self.look()
        self.house.go_on(words.held, max(self.house.now, self.target.now()))
        return self.house

    def install(self, release: Release) -> Release:
        """Bring an honest release that is published, and have it confirmed; raises as `update`."""
        try:
            self.send(release)
        except Refused as refusal:
            raise OperationalError(f"an honest release is refused: {refusal}") from refusal
        if not self.runs(release):
            raise OperationalError("the board does not run the honest release that it was sent, confirmed")
        self.baseline = release
        self.others = tuple(ran(release, other) for other in release.others) or self.others
        return release

    def serves(self) -> None:
        """Bring an honest release now, without a reset: where that fails, whoever began something holds up everybody else."""
        try:
            self.update()
        except GoneError:
            raise
        except HillholdError as error:
            self.say(f"honest update before a reset: {type(error).__name__}", str(error))
            self.wrong.append("an honest update is refused after the attack, as long as the board is not reset")

    def send(self, release: Release) -> None:
        """Bring an honest release that is published; raises `HillholdError` where the board refuses it, or does not answer."""
        if self.is_stock:
            self.wire.run(install(release.data))
        else:
            self.wire.run(Courier(TreeSource(self.house.repo.tree)).push())

    def runs(self, release: Release) -> bool:
        """Look at the board; say whether by its words it runs a release, confirmed."""
        said = self.look().said
        return not said.trial and bool(said.running) and said.running[0].is_same(ran(release))

    @property
    def item(self) -> Item:
        """What the target is and what it lacks, with what the board said of itself when it was looked at."""
        lacks = {f"no {name}": why for name, why in self.target.lacks.items()}
        item, words = replace(self.target.item, facts={**self.target.item.facts, **lacks}), self._words
        if words is None:
            return item
        device = words.device
        facts = {**item.facts, "SMP buffer": f"{words.buffer} bytes", "transport": self.wire.transport.value}
        if device is None:
            return replace(item, facts={**facts, "update agent": "stock SMP, without Hillhold's group"})
        facts |= {"product": device.product, "components": ", ".join(device.components)}
        return replace(item, hardware=device.hardware, identity=device.id, facts=facts)

    def read(self) -> Reading | None:
        """Read the board without its agent; None where that cannot be done."""
        return None if "read" in self.target.lacks else self.target.read()

    # --- what an attack brings by a courier ---------------------------------------------------------------------------

    def push(self, tree: Mapping[str, bytes] | Repo, *, patches: bool = True, reset: bool = True) -> Pushed | None:
        """Let a courier bring what is in a tree, as far as the board goes along; None where it refused."""
        return self.tried("push", Courier(TreeSource.of(tree)).push(patches=patches, reset=reset))

    def check(self, tree: Mapping[str, bytes] | Repo) -> Body:
        """Let a courier bring the metadata of a tree; return what the board chose, {} where it refused."""
        found = self.tried("metadata", Courier(TreeSource.of(tree)).check())
        return found[1] if found else {}

    def deliver(self, number: int, raw: bytes) -> Body:
        """Send one metadata file (0 root, 1 timestamp, 2 snapshot, 3 targets, 4 line) as a courier without a conscience does."""
        packed, answer = deflate(raw, b""), dict[str, object]()
        for at in range(0, len(packed), self.room):
            head = {"o": at} if at else {"n": len(packed), "l": len(raw), "b": base_name(b"")}
            answer = dict(self.own(Op.WRITE, METADATA, f=number, **head, d=packed[at : at + self.room]))
        return answer

    def tried(self, what: str, conversation: Conversation[T]) -> T | None:
        """Carry a conversation; a refusal, or silence, is kept in words, and returns None. Raises `GoneError`."""
        try:
            return self.wire.run(conversation)
        except GoneError:
            raise
        except HillholdError as refusal:
            self.say(f"{what}: {type(refusal).__name__}", str(refusal))
            return None

    def stolen(self) -> None:
        """Keys were used that their owner would replace as soon as it is known: the judge has them replaced before the honest update."""
        self.is_stolen = True

    # --- what an attack sends message by message ----------------------------------------------------------------------

    @property
    def room(self) -> int:
        """Bytes of content that one message has room for."""
        return max(64, min(700, self.words.buffer - ROOM))

    def ask(self, op: Op, group: int, command: int, body: Body, *, version: int = 1) -> Body:
        """Send one message; return the answer's body, {} without an answer."""
        return self.wire.ask(Request(op, group, command, body), version=version)

    def own(self, op: Op, command: int, **body: object) -> Body:
        """Ask in Hillhold's group."""
        return self.ask(op, HILLHOLD_GROUP, command, body)

    def image(self, command: ImageCommand, **body: object) -> Body:
        """Ask group IMAGE to do something, as a stock tool does."""
        return self.ask(Op.WRITE, Group.IMAGE, command, body)

    def upload(
        self,
        data: bytes,
        *,
        digest: bytes | None = None,
        length: int | None = None,
        start: int = 0,
        end: int | None = None,
        component: int = 0,
    ) -> Body:
        """Upload as a stock tool does, from `start` to `end`, with `digest` and `length`, by default true ones; return the last answer."""
        stop, answer = len(data) if end is None else end, dict[str, object]()
        for at in range(start, stop, self.room):
            body: dict[str, object] = {"off": at, "data": data[at : min(stop, at + self.room)]}
            if at == 0:
                named = sha256(data).digest() if digest is None else digest
                body |= {"image": component, "len": len(data) if length is None else length, "sha": named}
            answer = dict(self.image(ImageCommand.UPLOAD, **body))
            if answer.get("rc") or answer.get("off") != min(stop, at + self.room):
                break
        return answer

    def smuggle(self, data: bytes, *, digest: bytes | None = None, component: int = 0) -> None:
        """Do all that a stock tool can to have a board run an image: upload, test, reset, confirm, reset."""
        self.upload(data, digest=digest, component=component)
        for confirm in (False, True):
            self.image(ImageCommand.STATE, hash=image_hash(data), confirm=confirm)
            self.soft_reset()
            self.image(ImageCommand.STATE, confirm=True)

    def soft_reset(self) -> None:
        """Ask for a reset, and wait."""
        self.ask(Op.WRITE, Group.OS, OsCommand.RESET, {})
        self.wait(BOOT)

    def line(self, data: bytes, *, listen: float = 1.0) -> bytes:
        """Put bytes on the line as they are; return what comes within some seconds."""
        self.wire.write(data)
        return self.wire.drain(listen)

    # --- what an attack does from behind ------------------------------------------------------------------------------

    def reset(self) -> None:
        """Reset the board, from outside where that can be done."""
        if "reset" in self.target.lacks:
            self.ask(Op.WRITE, Group.OS, OsCommand.RESET, {})
        else:
            self.target.reset()
        self.wait(BOOT)

    def cut_power(self) -> None:
        """Take the power away, and give it back."""
        self.target.power(False)
        self.wait(BOOT)
        self.target.power(True)
        self.wait(BOOT)

    def set_clock(self, seconds: int | None) -> None:
        """Set the board's clock; the judge sets it right again."""
        self.target.set_clock(seconds)

    def script(self, how: Trials) -> None:
        """Say how trials end, on a board that can be told; elsewhere its firmware decides."""
        if "trial" not in self.target.lacks:
            self.target.trials(how)

    def trial(self) -> Release:
        """Bring an honest newer release on trial, and keep it there.

        Raises:
            NotTestedError: the image confirmed itself at once, or the board has no trials.
            OperationalError: the board does not run it.
        """
        self.script(Trials.WAIT)
        house = self.house
        release = house.release()
        stock, source = self.is_stock, TreeSource(house.repo.tree)
        self.tried("trial", install(release.data, confirm=False) if stock else Courier(source).push())
        said = self.look().said
        if not (said.running and said.running[0].is_same(ran(release))):
            raise OperationalError("the board does not run the honest release that was to be tried")
        self.allow(release, trial=bool(said.trial))
        if not said.trial:
            raise NotTestedError("no image stays on trial here: it is confirmed before anything can be tried")
        return release

    def allow(self, release: Release, *, trial: bool = False) -> None:
        """Say that the board may run this after the attack; with `trial`, only unconfirmed."""
        self.allowed[ran(release)] = trial

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.target.wait(seconds)

    def noise(self, name: str, length: int) -> bytes:
        """Return bytes that follow from the seed and a name."""
        return shake_256(f"{self.seed}/{name}".encode()).digest(length)

    def say(self, title: str, text: str) -> None:
        """Keep words of the board, or about it."""
        self.evidence.append(Evidence("words", title, text))

    def close(self) -> None:
        """Let go of line and board."""
        if self._wire is not None:
            self._wire.close()
        self.target.close()


def ran(release: Release, data: bytes | None = None) -> Ran:
    """The release's image, or another of its images, as a reading names it."""
    data = release.data if data is None else data
    return Ran(sha256(data).hexdigest(), len(data), release.version)
