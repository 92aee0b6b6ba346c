"""Which release a device installs: the table of DESIGN §4, "Which release". The device chooses, never the courier.

`select` judges every release that the line lists now, and says of each why it is or is not the one. What it chooses is a plan: one
release, or those of a set, that are installed together in one trial. Only the plan may be marked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256

from hillhold_verifier.errors import MetadataError, SelectionError
from hillhold_verifier.metadata import Envelope
from hillhold_verifier.release import DEFAULT_COMPONENT, UNDERSTOOD, Patch, Release, Version, parse_target
from hillhold_verifier.roles import Targets
from hillhold_verifier.trust import Current

_NONE = Version(0, 0, 0)
MAX_SHOWN = 4
"""Verdicts in a message; the newest releases sort last, and are what people ask about."""


@dataclass(frozen=True, slots=True)
class Device:
    """What a device was provisioned to be."""

    product: str
    hardware: str
    id: str
    components: tuple[str, ...] = (DEFAULT_COMPONENT,)

    def identity(self) -> dict[str, object]:
        """Return what it says of itself."""
        return {
            "product": self.product,
            "hardware": self.hardware,
            "id": self.id,
            "components": list(self.components),
        }


@dataclass(frozen=True, slots=True)
class Installed:
    """What a slot holds: a release that was received whole and verified. `requires`: minimum versions, by component, in order."""

    path: str
    version: Version
    sha256: bytes
    length: int
    security_counter: int
    requires: tuple[tuple[str, Version], ...] = ()

    @classmethod
    def of(cls, release: Release) -> Installed:
        """Return what a slot holds into which this release was brought."""
        requires = tuple(sorted(release.requires.items()))
        return cls(release.path, release.version, release.sha256, release.length, release.security_counter, requires)


class Outcome(Enum):
    """What the table says of a candidate."""

    INSTALLABLE = "installable"
    INSTALLED = "installed"
    PASSED_OVER = "passed over"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome for one path, and the reason in words."""

    path: str
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class Selection:
    """What a device chose, and why.

    Attributes:
        plan: what is installed together, in the order of the device's components; empty where there is nothing to install.
        patches: what makes it.
        verdicts: of every entry, by path.
        grace_used: seconds by which timestamp or snapshot have expired, and are accepted all the same (`offline_grace`).
    """

    plan: tuple[Release, ...]
    patches: tuple[Patch, ...]
    verdicts: tuple[Verdict, ...]
    grace_used: int

    def require(self) -> tuple[Release, ...]:
        """Return the plan; raises `SelectionError` with the reasons where there is none."""
        if self.plan:
            return self.plan
        shown = [f"{verdict.path}: {verdict.reason}" for verdict in self.verdicts[-MAX_SHOWN:]]
        raise SelectionError("no release to install", got="; ".join(shown) or "an empty product line")


def trial_id(hashes: Iterable[bytes]) -> bytes:
    """Name a trial by the SHA-256 of what is tried: of one image that hash itself, of several that of all, sorted."""
    together = sorted(hashes)
    return together[0] if len(together) == 1 else sha256(b"".join(together)).digest()


def select(
    current: Current,
    device: Device,
    confirmed: Mapping[str, Installed],
    counters: Mapping[str, int],
    failed: frozenset[bytes] = frozenset(),
) -> Selection:
    """Judge what the line lists now, and choose.

    Args:
        current: the chain that holds now.
        device: what this device is.
        confirmed: the confirmed release of each component; none on a board that never had one.
        counters: each component's counter store; the confirmed image's counter counts too, where it is higher.
        failed: trials that failed here (`trial_id`).
    """
    releases, patches, verdicts = _listed(current)
    named = {name: _stepped_down_from(current, device, name, releases) for name in device.components}
    gone = frozenset(r.sha256 for r in releases if r.withdrawn is not None and _is_for(device, r))
    judged: dict[str, tuple[Outcome, str]] = {}
    for release in releases:
        held = confirmed.get(release.component)
        floor = max(counters.get(release.component, 0), held.security_counter if held else 0)
        judged[release.path] = _passed_over(current, device, release, named, gone) or _against(release, held, floor)
    best: tuple[Release, ...] = ()
    for group in _groups(device, releases, judged):
        plan = tuple(release for release in group if judged[release.path][0] is Outcome.INSTALLABLE)
        if plan and (against := _obstacle(group, plan, confirmed, failed)):
            judged.update({release.path: (Outcome.PASSED_OVER, against) for release in plan})
        elif plan and (not best or _after(device, confirmed, plan) > _after(device, confirmed, best)):
            best = plan
    verdicts += [Verdict(path, outcome, reason) for path, (outcome, reason) in judged.items()]
    verdicts.sort(key=lambda verdict: verdict.path)
    paths = {release.path for release in best}
    makes = tuple(patch for patch in patches if patch.makes in paths)
    return Selection(best, makes, tuple(verdicts), current.grace_used)


def _listed(current: Current) -> tuple[list[Release], list[Patch], list[Verdict]]:
    """Releases and patches, and a verdict for each entry that is malformed."""
    releases: list[Release] = []
    patches: list[Patch] = []
    verdicts: list[Verdict] = []
    for target in current.line.targets.values():
        try:
            found = parse_target(target)
        except MetadataError as error:
            verdicts.append(Verdict(target.path, Outcome.REFUSED, f"malformed: {error}"))
            continue
        if isinstance(found, Release):
            releases.append(found)
        elif isinstance(found, Patch):
            patches.append(found)
    return releases, patches, verdicts


def _groups(
    device: Device, releases: list[Release], judged: dict[str, tuple[Outcome, str]]
) -> Iterator[tuple[Release, ...]]:
    """What may be installed together: each release without a set, and each set whose members all may (or are installed already)."""
    sets: dict[str, list[Release]] = {}
    for release in releases:
        if release.set is None:
            yield (release,)
        elif release.product == device.product and device.hardware in release.hardware:
            sets.setdefault(release.set, []).append(release)
    for name, members in sets.items():
        bars = [m for m in members if judged[m.path][0] not in (Outcome.INSTALLABLE, Outcome.INSTALLED)]
        if bars:
            why = f"{bars[0].path} may not be installed"
        elif len(members) == 1:  # the others may have been pruned: what is left is not what was tested
            why = "no other release is listed"
        elif len({member.component for member in members}) < len(members):
            why = "two releases are for one component"
        else:
            yield tuple(sorted(members, key=lambda member: device.components.index(member.component)))
            continue
        for member in members:
            if judged[member.path][0] is Outcome.INSTALLABLE:
                judged[member.path] = Outcome.PASSED_OVER, f"belongs to the set {name}, of which {why}"


def _obstacle(
    group: tuple[Release, ...], plan: tuple[Release, ...], confirmed: Mapping[str, Installed], failed: frozenset[bytes]
) -> str | None:
    """Why these may not be installed together on this device, or None."""
    if trial_id(release.sha256 for release in plan) in failed:
        return "its trial failed on this device before"
    after = {name: held.version for name, held in confirmed.items()} | {r.component: r.version for r in plan}
    staying = [held for name, held in confirmed.items() if name not in {release.component for release in plan}]
    wanted = [(f"{release.path} ", name, least) for release in group for name, least in release.requires.items()]
    wanted += [(f"{held.path}, which stays, ", name, least) for held in staying for name, least in held.requires]
    for who, name, least in wanted:
        if (found := after.get(name)) is None or found < least:
            return (
                f"{who if who != f'{plan[0].path} ' else ''}requires {name} {least}; there would be {found or 'none'}"
            )
    return None


def _after(device: Device, confirmed: Mapping[str, Installed], plan: tuple[Release, ...]) -> tuple[Version, ...]:
    """The versions that the device would run, in the order of its components: the highest wins."""
    new = {release.component: release.version for release in plan}
    return tuple(
        new.get(name) or (confirmed[name].version if name in confirmed else _NONE) for name in device.components
    )


def withdrawn(line: Envelope[Targets] | None, device: Device) -> frozenset[bytes]:
    """Return the hashes of the images that a line role withdraws for this device."""
    found = set()
    for target in line.signed.targets.values() if line else ():
        try:
            release = parse_target(target)
        except MetadataError:
            continue  # a malformed entry is judged, and refused, by `select`
        if isinstance(release, Release) and release.withdrawn is not None and _is_for(device, release):
            found.add(release.sha256)
    return frozenset(found)


def _is_for(device: Device, release: Release) -> bool:
    return (
        release.product == device.product
        and device.hardware in release.hardware
        and release.component in device.components
    )


def _stepped_down_from(current: Current, device: Device, component: str, releases: list[Release]) -> frozenset[Version]:
    """Versions that a listed release steps down from: passed over, or the device would go up and down for ever."""
    return frozenset(
        version
        for release in releases
        if release.withdrawn is None and release.component == component and _concerns(current, device, release)
        for version in release.downgrade_from
        if version != release.version
    )


def _concerns(current: Current, device: Device, release: Release) -> bool:
    return _is_for(device, release) and release.hardware <= current.delegation.hardware


def _passed_over(
    current: Current,
    device: Device,
    release: Release,
    named: Mapping[str, frozenset[Version]],
    gone: frozenset[bytes],
) -> tuple[Outcome, str] | None:
    allowed = current.delegation
    reason = None
    if release.product != device.product:
        reason = f"for product {release.product}; this device is a {device.product}"
    elif not release.hardware <= allowed.hardware:
        beyond = ", ".join(sorted(release.hardware - allowed.hardware))
        reason = f"names hardware {beyond}, which the line may not"
    elif device.hardware not in release.hardware:
        reason = f"for hardware {', '.join(sorted(release.hardware))}; this device is {device.hardware}"
    elif release.component not in device.components:
        reason = f"for component {release.component}; this device has {', '.join(device.components)}"
    elif unknown := release.crit - UNDERSTOOD:
        reason = f"needs a device that understands {', '.join(sorted(unknown))}"
    elif release.withdrawn is not None:
        reason = f"withdrawn: {release.withdrawn}"
    elif release.sha256 in gone:
        reason = "the same image is withdrawn under another entry"
    elif release.security_counter > allowed.max_security_counter:
        reason = f"security counter {release.security_counter} is above the line's {allowed.max_security_counter}"
    elif release.version in named[release.component]:
        reason = "another listed release steps down from this version"
    return (Outcome.PASSED_OVER, reason) if reason else None


def _against(release: Release, confirmed: Installed | None, floor: int) -> tuple[Outcome, str]:
    """Compare with what the device runs; `floor` is its security counter."""
    if release.security_counter < floor:
        return Outcome.REFUSED, f"security counter {release.security_counter} is below this device's {floor}"
    if confirmed is None:
        return Outcome.INSTALLABLE, "no image is confirmed here"
    if release.version == confirmed.version:
        if release.sha256 == confirmed.sha256:
            return Outcome.INSTALLED, "this is the confirmed image"
        return Outcome.REFUSED, f"another image of the confirmed version {confirmed.version}"
    if release.version > confirmed.version:
        return Outcome.INSTALLABLE, f"above the confirmed {confirmed.version}"
    if confirmed.version in release.downgrade_from:
        return Outcome.INSTALLABLE, f"a signed step down from {confirmed.version}"
    return Outcome.REFUSED, f"version {release.version} is below the confirmed {confirmed.version}"
