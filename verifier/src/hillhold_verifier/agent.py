"""The board agent: an SMP server that drives an `Installer`. Sans-I/O: bytes of the line and the clock in, bytes of the line out.

Groups OS (`agent_os`) and image (`agent_image`) are the stock ones. Hillhold's own group (docs/FORMAT.md):

    command          request                                   response
    0 identify  R    {}                                        {magic, v, product, hardware, id, components, alg}
    1 held      R    {}                                        {r, h: [[version, name], …]}
    2 metadata  W    {f, o, d, n, l, b}                        {o} or {need, v}
    3 choose    R    {} or {o}                                 {plan: [{n, path, sha, len, base}, …]}, {reasons, more} or all
    4 apply     W    {}                                        {path, version}
    5 status    R    {}                                        what runs, is confirmed, on trial; counter; last refusal

Images and patches come by the stock upload. A refusal has the code of its error class as `rc` of this group, and its words in `rsn`.
A retransmitted request of this group (the same bytes as the one before) is answered as it was, and not executed again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from hillhold_verifier.agent_image import answer_image, image_error
from hillhold_verifier.agent_os import Bootloader, Platform, answer_os, is_reset
from hillhold_verifier.algorithms import DECODERS
from hillhold_verifier.errors import HillholdError, OperationalError, OrderError, Refused, SmpError, WireError
from hillhold_verifier.framing import SHARED, Framed, Receiver, Transport, frame
from hillhold_verifier.installer import Installer
from hillhold_verifier.metadata import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, max_bytes
from hillhold_verifier.release import Release
from hillhold_verifier.select import Device
from hillhold_verifier.session import Need
from hillhold_verifier.smp import (
    HEADER_SIZE,
    HILLHOLD_GROUP,
    Group,
    Message,
    MgmtErr,
    Op,
    decode,
    encode,
    error_body,
    smp_error,
)
from hillhold_verifier.smp_body import encode_body
from hillhold_verifier.smp_check import CHECK, CRC, STOCK_FIELDS, checked, with_check
from hillhold_verifier.smp_fields import bytes_field, int_field
from hillhold_verifier.wire import base_name, inflate

MAGIC: Final = "hillhold"
PROTOCOL: Final = 1
MAX_REASON: Final = 240
"""Characters of a refusal in a response."""
MAX_REASONS: Final = 8
"""Verdicts in a response to `choose`, at most; fewer, where more would not fit into the buffer."""
CHECKED_FOR: Final = 5.0
"""Seconds after a message with a check in which a write without one may be a spoilt one."""
IDENTIFY, HELD, METADATA, CHOOSE, APPLY, STATUS = range(6)

Fields = Mapping[str, object]


class Agent:
    """One board's SMP server.

    Args:
        installer: the device's update logic, or the error with which every update is answered (its state cannot be used).
        device: what the board says that it is, while its state is unreadable.
        buffer: longest SMP message that is taken, in bytes.
        group: id of Hillhold's own group.
        buffers: how many such messages the board holds at a time.
        bootloader: what the board says of its bootloader, or None where nobody told the agent.
        transports: what its line carries.

    Attributes:
        reset_requested: the board is to be reset once the answer is out.
        self_tested: set by the running application when its own test has passed.
        last_refusal: code and words of the last refusal since the reset.
    """

    def __init__(
        self,
        installer: Installer | HillholdError,
        device: Device | None = None,
        buffer: int = 1024,
        group: int = HILLHOLD_GROUP,
        buffers: int = 1,
        bootloader: Bootloader | None = None,
        transports: Sequence[Transport] = SHARED,
    ) -> None:
        self._installer = installer
        self._device = installer.state.device if isinstance(installer, Installer) else device
        self._platform, self._group = Platform(buffer, buffers, bootloader), group
        self._receiver = Receiver(buffer, transports)
        self._incoming: _Incoming | None = None
        self._last: tuple[bytes, bytes] | None = None
        self._checks = False
        self._checked: float | None = None  # when a message with a check was seen
        self._astray = False  # since then came what was no message, and may have been a part of one
        self.reset_requested = False
        self.self_tested = False
        self.last_refusal = (0, "")

    @property
    def held(self) -> int:
        """Bytes that are kept for hosts from call to call, whatever they send.

        At most 3.5 times the buffer and 256 for a frame that is not complete; once the buffer, and 1,024, for the last write of our group
        and its answer; 960 for the words of the last refusal: 6,848 for a buffer of 1,024. And the deflated bytes of the metadata file
        that is arriving, which are less than its length may be (`max_bytes`).
        """
        kept = [*(self._last or ()), self.last_refusal[1].encode(), self._incoming.packed if self._incoming else b""]
        return self._receiver.held + sum(map(len, kept))

    def receive(self, data: bytes, now: int | None) -> bytes:
        """Take bytes of the line; return those to send. `now`: Unix seconds, or None without a clock."""
        answers = []
        for event in self._receiver.feed(data):
            if not isinstance(event, Framed):
                self._astray = True
            elif answer := self.answer(event.data, now):
                answers.append(frame(answer, event.transport))
        return b"".join(answers)

    def tick(self, seconds: float) -> None:
        """Let time pass (seconds of a clock that only goes forward): after a while half a frame, and a host that checks, are forgotten."""
        self._receiver.tick(seconds)
        if self._checked is None:
            self._checked = seconds
        self._checks = self._checks and seconds - self._checked < CHECKED_FOR

    def self_test_passed(self, *, confirm: bool) -> None:
        """Take note that the running image's own test has passed; with `confirm` it confirms itself now."""
        self.self_tested = True
        if confirm and isinstance(self._installer, Installer):
            try:
                self._installer.confirm(self_tested=True)
            except Refused as refusal:
                self._note(refusal.code, refusal)
                self.reset_requested = True
            except OperationalError as error:
                # The test stands: the wire may ask for the confirmation again.
                self._note(int(MgmtErr.EUNKNOWN), error)

    def answer(self, packet: bytes, clock: int | None) -> bytes | None:
        """Answer one SMP message, or None where it is none."""
        try:
            request = decode(packet)
        except SmpError as error:
            self._note(error.code, error)
            self._astray = True
            return None
        if request.op not in (Op.READ, Op.WRITE):
            return None
        if is_checked := CRC in request.body:
            if (body := checked(request)) is None:
                self._astray = True
                return None  # as a frame with a wrong CRC: it is sent again
            request = replace(request, body=body)
            self._checks, self._checked, self._astray = True, None, False
        elif self._checks and request.op is Op.WRITE and (self._astray or not request.body.keys() <= STOCK_FIELDS):
            return None  # errors that hit the check's name and something else, or what a message carries, taken for one
        own = request.group == self._group
        if own and self._last and self._last[0] == packet:
            return self._last[1]
        response = Op.READ_RSP if request.op is Op.READ else Op.WRITE_RSP
        body = self._body(request, clock)
        message = Message(response, request.group, request.command, request.sequence, body, version=request.version)
        answer = with_check(message) if is_checked else encode(message)
        self._last = (packet, answer) if own and request.op is Op.WRITE else None
        return answer

    def _body(self, request: Message, clock: int | None) -> Fields:
        try:
            if request.group == Group.OS:
                answer = answer_os(request, self._platform, clock)
                self.reset_requested |= is_reset(request, answer)
                return answer
            if request.group not in (Group.IMAGE, self._group):
                return smp_error(MgmtErr.ENOTSUP)
            if isinstance(self._installer, HillholdError):
                if request.group == self._group and request.command == IDENTIFY:
                    return self._identify()
                return self._error(request, self._installer)
            if request.group == Group.IMAGE:
                body = answer_image(request, self._installer, clock, self_tested=self.self_tested)
            else:
                body = self._own(request, self._installer, clock)
            # The held line role withdrew an image on trial: the trial ends now (DESIGN §4, "Trial").
            self.reset_requested |= self._installer.trial_ended
            return body
        except Refused as refusal:
            self._note(refusal.code, refusal)
            return self._error(request, refusal)
        except OperationalError as error:
            return self._error(request, error)

    def _note(self, code: int, error: HillholdError) -> None:
        self.last_refusal = (code, str(error)[:MAX_REASON])

    def _error(self, request: Message, error: HillholdError) -> Fields:
        reason = str(error)[:MAX_REASON]
        if request.group == Group.IMAGE:
            return image_error(request, error, reason)
        if request.group == Group.OS:  # a field of another type is all that it refuses in this way
            return smp_error(MgmtErr.EINVAL, reason)
        code = error.code if isinstance(error, Refused) else MgmtErr.EUNKNOWN
        # Only our own courier reads this group, so the words travel in SMP v2 too.
        return {**error_body(request.version, request.group, code, reason), "rsn": reason}

    def _own(self, request: Message, installer: Installer, clock: int | None) -> Fields:
        handlers: dict[tuple[Op, int], Callable[[], Fields]] = {
            (Op.READ, IDENTIFY): self._identify,
            (Op.READ, HELD): lambda: self._held(installer),
            (Op.WRITE, METADATA): lambda: self._metadata(request.body, installer, clock),
            (Op.READ, CHOOSE): lambda: self._choose(request.body, installer, clock),
            (Op.WRITE, APPLY): lambda: self._apply(installer),
            (Op.READ, STATUS): lambda: self._status(installer),
        }
        handler = handlers.get((request.op, request.command))
        return handler() if handler else smp_error(MgmtErr.ENOTSUP)

    def _identify(self) -> Fields:
        return {
            "magic": MAGIC,
            "v": PROTOCOL,
            **(self._device or Device("", "", "", ())).identity(),
            "alg": list(DECODERS),
        }

    def _held(self, installer: Installer) -> Fields:
        """Which files the board holds, by version and the name under which they serve as a base."""
        trust = installer.state.trust
        files = (trust.timestamp, trust.snapshot, trust.targets, trust.line)
        return {
            "r": trust.root.signed.version,
            "h": [[held.signed.version, base_name(held.raw)] if held else [0, b""] for held in files],
        }

    def _metadata(self, body: Fields, installer: Installer, clock: int | None) -> Fields:
        role, offset, data = int_field(body, "f"), int_field(body, "o", 0), bytes_field(body, "d")
        if offset == 0:
            self._incoming = _Incoming(self._role(role, installer), body, self._bases(role, installer))
        incoming = self._incoming
        if incoming is None or offset != len(incoming.packed):
            raise OrderError("metadata offset", expected=len(incoming.packed) if incoming else 0, got=offset)
        incoming.packed += data
        if len(incoming.packed) > incoming.announced:
            self._incoming = None
            raise WireError("deflated metadata", expected=f"{incoming.announced} bytes", got="more")
        if len(incoming.packed) < incoming.announced:
            return {"o": len(incoming.packed)}
        self._incoming = None
        raw = inflate(bytes(incoming.packed), incoming.held, incoming.length, incoming.lister)
        need: Need | None = installer.receive(incoming.role, raw, clock)
        return {"need": need.role, "v": need.version or 0} if need else {}

    def _role(self, role: int, installer: Installer) -> str:
        roles = (ROOT, TIMESTAMP, SNAPSHOT, TARGETS, installer.state.device.product)
        if role >= len(roles):
            raise SmpError("metadata file number", expected=f"0 to {len(roles) - 1}", got=role)
        return roles[role]

    def _bases(self, role: int, installer: Installer) -> tuple[tuple[bytes, bytes], ...]:
        """What the file may be deflated against: its delegator's file, alone or with the held version; or nothing."""
        trust = installer.state.trust
        held = (trust.root, trust.timestamp, trust.snapshot, trust.targets, trust.line)[role]
        lister = (None, trust.root, trust.root, trust.root, trust.targets)[role]
        first, then = lister.raw if lister else b"", held.raw if held else b""
        return (first, then), (first, b""), (b"", b"")

    def _choose(self, body: Fields, installer: Installer, clock: int | None) -> Fields:
        """The plan; where there is none, or from number `o` on, what is said of the others: the newest first, which people ask about."""
        selection = installer.choose(clock)
        plan = {"plan": [self._planned(installer, release) for release in selection.plan]} if selection.plan else {}
        grace = {"grace": selection.grace_used} if selection.grace_used else {}
        if plan and "o" not in body:
            return {**plan, **grace}
        chosen, at = {release.path for release in selection.plan}, int_field(body, "o", 0)
        others = [verdict for verdict in reversed(selection.verdicts) if verdict.path not in chosen]
        reasons = [[v.path, v.outcome.value, v.reason[:MAX_REASON]] for v in others[at : at + MAX_REASONS]]
        room = self._platform.buffer - HEADER_SIZE - len(CHECK)
        while True:
            left = max(0, len(others) - at - len(reasons))
            body = {**plan, "reasons": reasons, "more": left, **grace}
            if len(reasons) <= 1 or len(encode_body(body)) <= room:
                return body
            reasons.pop()

    def _planned(self, installer: Installer, release: Release) -> Fields:
        component = installer.state.device.components.index(release.component)
        confirmed = installer.confirmed(component)
        base = {"base": confirmed.sha256} if confirmed else {}
        return {"n": component, "path": release.path, "sha": release.sha256, "len": release.length, **base}

    def _apply(self, installer: Installer) -> Fields:
        installed = installer.apply()
        return {"path": installed.path, "version": str(installed.version)}

    def _status(self, installer: Installer) -> Fields:
        return {
            **installer.status(),
            "self_tested": self.self_tested,
            "refusal": self.last_refusal[1],
            "code": self.last_refusal[0],
        }


class _Incoming:
    """A metadata file that is arriving in pieces."""

    def __init__(self, role: str, body: Fields, bases: tuple[tuple[bytes, bytes], ...]) -> None:
        self.role = role
        self.announced, self.length = int_field(body, "n"), int_field(body, "l")
        limit = max_bytes(role)
        if self.length > limit or self.announced > limit:
            raise WireError(f"{role} metadata", expected=f"at most {limit} bytes", got=max(self.length, self.announced))
        name = bytes_field(body, "b")
        named = {base_name(lister + held): (lister, held) for lister, held in bases}
        if name not in named:
            raise WireError(f"base of {role} metadata", expected=" or ".join(n.hex() for n in named), got=name.hex())
        self.lister, self.held = named[name]
        self.packed = bytearray()
