"""Which release a device installs: the table of DESIGN §4, "Which release". The device chooses, never the courier.

`select` judges every release that the line lists now, and says of each why it is or is not the one. Only the winner may be marked.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hillhold_verifier.errors import MetadataError, SelectionError
from hillhold_verifier.metadata import Envelope, Targets
from hillhold_verifier.release import DEFAULT_COMPONENT, UNDERSTOOD, Patch, Release, Version, parse_target
from hillhold_verifier.trust import Current

MAX_SHOWN = 4
"""Verdicts in a message; the newest releases sort last, and are what people ask about."""


@dataclass(frozen=True, slots=True)
class Device:
    """What a device was provisioned to be."""

    product: str
    hardware: str
    id: str
    component: str = DEFAULT_COMPONENT


@dataclass(frozen=True, slots=True)
class Installed:
    """What a slot holds: a release that was received whole and verified."""

    path: str
    version: Version
    sha256: bytes
    length: int
    security_counter: int


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
    """All verdicts, the winner (None: nothing to install), and the patches that make it."""

    winner: Release | None
    patches: tuple[Patch, ...]
    verdicts: tuple[Verdict, ...]

    def require(self) -> Release:
        """Return the winner; raises `SelectionError` with the reasons where there is none."""
        if self.winner:
            return self.winner
        shown = [f"{verdict.path}: {verdict.reason}" for verdict in self.verdicts[-MAX_SHOWN:]]
        raise SelectionError("no release to install", got="; ".join(shown) or "an empty product line")


def select(
    current: Current,
    device: Device,
    confirmed: Installed | None,
    counter: int,
    failed: frozenset[bytes] = frozenset(),
) -> Selection:
    """Judge what the line lists now, and choose.

    Args:
        current: the chain that holds now.
        device: what this device is.
        confirmed: the confirmed image, or None on a board that never had one.
        counter: the counter store's value; the confirmed image's counts too, where it is higher.
        failed: hashes whose trial failed here.
    """
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
    floor = max(counter, confirmed.security_counter if confirmed else 0)
    named = _stepped_down_from(current, device, releases)
    gone = frozenset(r.sha256 for r in releases if r.withdrawn is not None and _is_for(device, r))
    winner: Release | None = None
    for release in releases:
        outcome, reason = _passed_over(current, device, release, named, failed, gone) or _against(
            release, confirmed, floor
        )
        verdicts.append(Verdict(release.path, outcome, reason))
        if outcome is Outcome.INSTALLABLE and (winner is None or release.version > winner.version):
            winner = release
    verdicts.sort(key=lambda verdict: verdict.path)
    makes = tuple(patch for patch in patches if winner and patch.makes == winner.path)
    return Selection(winner, makes, tuple(verdicts))


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
        and release.component == device.component
    )


def _stepped_down_from(current: Current, device: Device, releases: list[Release]) -> frozenset[Version]:
    """Versions that a listed release steps down from: passed over, or the device would go up and down for ever."""
    return frozenset(
        version
        for release in releases
        if release.withdrawn is None and _concerns(current, device, release)
        for version in release.downgrade_from
        if version != release.version
    )


def _concerns(current: Current, device: Device, release: Release) -> bool:
    return _is_for(device, release) and release.hardware <= current.delegation.hardware


def _passed_over(
    current: Current,
    device: Device,
    release: Release,
    named: frozenset[Version],
    failed: frozenset[bytes],
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
    elif release.component != device.component:
        reason = f"for component {release.component}; this device has {device.component}"
    elif unknown := release.crit - UNDERSTOOD:
        reason = f"needs a device that understands {', '.join(sorted(unknown))}"
    elif release.withdrawn is not None:
        reason = f"withdrawn: {release.withdrawn}"
    elif release.sha256 in gone:
        reason = "the same image is withdrawn under another entry"
    elif release.set is not None:
        reason = f"belongs to the set {release.set}, which this device cannot install together"
    elif release.requires:
        reason = f"requires {', '.join(f'{name} {v}' for name, v in sorted(release.requires.items()))}"
    elif release.security_counter > allowed.max_security_counter:
        reason = f"security counter {release.security_counter} is above the line's {allowed.max_security_counter}"
    elif release.version in named:
        reason = "another listed release steps down from this version"
    elif release.sha256 in failed:
        reason = "its trial failed on this device before"
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
