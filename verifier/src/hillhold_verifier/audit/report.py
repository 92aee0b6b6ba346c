"""What an audit found, as frozen values. Times are Unix seconds; the field names are those of the JSON (`docs/FORMAT.md`, "Verdicts")."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import IntEnum

from hillhold_verifier.errors import OperationalError, Refused
from hillhold_verifier.release import Patch, Release
from hillhold_verifier.roles import Delegation, MetaFile
from hillhold_verifier.sources import AbsentError


class Level(IntEnum):
    """How bad something is; the worst decides.

    `REFUSED`: a device would refuse it, or a file is not what was signed. `UNREAD`: the source could not be read there, so that nothing is
    known. `WARNING`: a device would accept it, and somebody should look.
    """

    GOOD = 0
    WARNING = 1
    UNREAD = 2
    REFUSED = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to say of `where`: a role, or a target's path."""

    level: Level
    where: str
    message: str


@dataclass(frozen=True, slots=True)
class SignatureReport:
    """One signature of a file.

    `state`: "valid"; "invalid"; "unknown key": no key has that id; "not of this role"; "counted already": the same key under another id;
    "unusable here": this machine cannot check that key type and scheme. Key type and scheme are None where the key is unknown.
    """

    keyid: str
    keytype: str | None
    scheme: str | None
    state: str


@dataclass(frozen=True, slots=True)
class Quorum:
    """Who signed, as one delegator has it: `valid` distinct keys of `keys`, of which `threshold` are needed."""

    delegator: str
    threshold: int
    keys: int
    valid: int
    signatures: tuple[SignatureReport, ...]

    @property
    def met(self) -> bool:
        """The threshold is met."""
        return self.valid >= self.threshold


@dataclass(frozen=True, slots=True)
class RoleReport:
    """A metadata file.

    Attributes:
        role: its name; several roots may follow each other.
        version, length, sha256, expires: of the file that was found; None where there is none that can be read.
        listed: what its lister says of it; None for root and timestamp, which nobody lists, and where the lister was not found.
        quorums: as each delegator has it; a root's own and that of the root before.
        changes: of a root, the keys, thresholds and revoked image keys that differ from the one before.
    """

    role: str
    version: int | None
    length: int | None
    sha256: bytes | None
    expires: int | None
    listed: MetaFile | None
    quorums: tuple[Quorum, ...]
    changes: tuple[str, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class TargetReport:
    """A target of a product line.

    Attributes:
        says: what its custom data say; None where that is nothing to Hillhold, or malformed.
        file: "as signed", "missing", "different", "unread" or "not looked at".
        image: what the image states of itself: "agrees", "differs", or None: nothing, or it was not looked at.
        base_path: of a patch, the listed release that it starts from, if there is one.
        makes_exactly: of a patch, whether it makes the signed image from that base; None where that was not tried.
    """

    path: str
    length: int
    sha256: bytes | None
    says: Release | Patch | None
    file: str
    image: str | None
    base_path: str | None
    makes_exactly: bool | None
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class LineReport:
    """What stands under the name of a product.

    Attributes:
        state: "line"; "unlisted": delegated, and not in snapshot; "retired": in snapshot, and no longer delegated; "other": delegated by
            other paths than a product's; "absent": neither; "not judged": targets or snapshot are missing.
        delegation: keys and caps; None where there is none.
        accepted: a device of this product, fresh from the given root, would find the whole chain current.
        offline_grace: seconds, as the line has it, before the delegation's cap.
        grace_used: seconds by which timestamp or snapshot have expired, and are accepted all the same.
    """

    product: str
    state: str
    delegation: Delegation | None
    role: RoleReport | None
    accepted: bool
    offline_grace: int
    grace_used: int
    targets: tuple[TargetReport, ...]
    findings: tuple[Finding, ...]

    def all_findings(self) -> Iterator[Finding]:
        """Of the line, its role and its targets."""
        yield from self.findings
        yield from self.role.findings if self.role else ()
        for target in self.targets:
            yield from target.findings

    @property
    def level(self) -> Level:
        """The worst of what was found here; the chain above has its own."""
        return max((finding.level for finding in self.all_findings()), default=Level.GOOD)


@dataclass(frozen=True, slots=True)
class Report:
    """The verdict on a repository.

    Attributes:
        at: the moment at which it was asked to judge; `now`: the one at which it judged, no earlier than what timestamp states.
        issued: when the timestamp says that it was signed; 0 where it does not.
        roots: the given root, and each that follows it.
        timestamp, snapshot, targets: the other top-level roles.
        files: whether target files were looked at.
    """

    at: int
    now: int
    issued: int
    roots: tuple[RoleReport, ...]
    timestamp: RoleReport
    snapshot: RoleReport
    targets: RoleReport
    lines: tuple[LineReport, ...]
    files: bool

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All of them, in the order of the chain."""
        top = [finding for role in self.chain for finding in role.findings]
        return (*top, *(finding for line in self.lines for finding in line.all_findings()))

    @property
    def chain(self) -> tuple[RoleReport, ...]:
        """The top-level files."""
        return (*self.roots, self.timestamp, self.snapshot, self.targets)

    @property
    def verdict(self) -> Level:
        """The worst of all findings."""
        return max((finding.level for finding in self.findings), default=Level.GOOD)

    def is_good(self, line: LineReport) -> bool:
        """Say whether neither the line nor the chain above it is refused or unread."""
        levels = [finding.level for role in self.chain for finding in role.findings]
        return max([line.level, *levels]) <= Level.WARNING and line.accepted


class Notes:
    """Collects findings of one place, also what is raised `with` it; the same words are said once, and what was `said` elsewhere never."""

    def __init__(self, where: str, said: AbstractSet[str] = frozenset()) -> None:
        self.where, self._said = where, said
        self._found: dict[str, Finding] = {}

    def add(self, level: Level, message: str) -> None:
        """Note something."""
        if message not in self._said:
            self._found.setdefault(message, Finding(level, self.where, message))

    def __enter__(self) -> None:
        """Note what is raised within, and go on after it."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, Refused | AbsentError):
            self.add(Level.REFUSED, str(error))
        elif isinstance(error, OperationalError):
            self.add(Level.UNREAD, str(error))
        else:
            return False
        return True

    @property
    def found(self) -> tuple[Finding, ...]:
        """All, in order."""
        return tuple(self._found.values())

    @property
    def refused(self) -> bool:
        """Something is refused."""
        return any(finding.level is Level.REFUSED for finding in self._found.values())
