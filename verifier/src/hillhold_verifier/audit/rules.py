"""What a line offers that no device can install, by the rules of `select` but without a device: releases against caps and each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from hillhold_verifier.audit.report import Level
from hillhold_verifier.release import UNDERSTOOD, Release, Version
from hillhold_verifier.roles import Delegation

Said = tuple[Release, Level, str]
MAX_SHOWN = 4
"""Items of a list in a message."""


def judge_releases(product: str, delegation: Delegation, releases: Sequence[Release]) -> Iterator[Said]:
    """Say what is wrong with the releases of a line. (A withdrawn one harms nobody; it only may not be in the way of others.)"""
    offered = [release for release in releases if release.withdrawn is None]
    for release in offered:
        yield from _beyond(product, delegation, release)
    yield from _withdrawn_twins(releases, offered)
    yield from _twins(offered)
    yield from _loops(offered)
    yield from _sets(releases)
    yield from _requirements(offered)


def _beyond(product: str, allowed: Delegation, release: Release) -> Iterator[Said]:
    if release.product != product:
        yield release, Level.REFUSED, f"product: expected {product}, got {release.product}"
    if beyond := sorted(release.hardware - allowed.hardware):
        may = _some(sorted(allowed.hardware)) or "none"
        yield release, Level.REFUSED, f"hardware: expected of the line's {may}, got {_some(beyond)}"
    if release.security_counter > allowed.max_security_counter:
        expected = f"at most the line's {allowed.max_security_counter}"
        yield release, Level.REFUSED, f"security counter: expected {expected}, got {release.security_counter}"
    if unknown := sorted(release.crit - UNDERSTOOD):
        yield release, Level.WARNING, f"needs a device that understands {_some(unknown)}; this version does not"


def _withdrawn_twins(releases: Sequence[Release], offered: Sequence[Release]) -> Iterator[Said]:
    gone = {
        (release.sha256, hardware, release.component)
        for release in releases
        if release.withdrawn is not None
        for hardware in release.hardware
    }
    for release in offered:
        if any((release.sha256, hardware, release.component) in gone for hardware in release.hardware):
            yield release, Level.WARNING, "the same image is withdrawn under another entry: no device installs it"


def _twins(offered: Sequence[Release]) -> Iterator[Said]:
    """One version of two images: a device that has one never takes the other."""
    first: dict[tuple[str, str, Version], Release] = {}
    for release in offered:
        others = (
            first.setdefault((release.component, hardware, release.version), release)
            for hardware in sorted(release.hardware)
        )
        if other := next((other for other in others if other.sha256 != release.sha256), None):
            yield (
                release,
                Level.REFUSED,
                f"version {release.version}: expected one image for a board, got {other.path} too",
            )


# --- steps down -------------------------------------------------------------------------------------------------------


def _loops(offered: Sequence[Release]) -> Iterator[Said]:
    """Releases that step down from each other in a circle: each is passed over, since another steps down from it."""
    rest = _circling(offered)
    in_loop: dict[str, Release] = {}
    for hardware in sorted({name for release in rest for name in release.hardware}):
        in_loop |= {release.path: release for release in _circling([one for one in rest if hardware in one.hardware])}
    for release in in_loop.values():
        others = [one.path for one in in_loop.values() if one is not release and one.version in release.downgrade_from]
        yield release, Level.REFUSED, f"downgrade_from: expected no way back, got a circle with {_some(others)}"


def _circling(releases: Sequence[Release]) -> list[Release]:
    """What is left when everything has gone that steps down from nothing listed, or that nothing listed steps down from."""
    rest = list(releases)
    while True:
        versions = {(release.component, release.version) for release in rest}
        named = {
            (release.component, version)
            for release in rest
            for version in release.downgrade_from
            if version != release.version
        }
        kept = [
            release
            for release in rest
            if (release.component, release.version) in named
            and any(
                (release.component, version) in versions
                for version in release.downgrade_from
                if version != release.version
            )
        ]
        if len(kept) == len(rest):
            return rest
        rest = kept


# --- sets and requirements --------------------------------------------------------------------------------------------


def _sets(releases: Sequence[Release]) -> Iterator[Said]:
    """Sets that no board can install whole."""
    groups = defaultdict[tuple[str, str], list[Release]](list)
    for release in releases:
        if release.set is not None:
            for hardware in sorted(release.hardware):
                groups[release.set, hardware].append(release)
    said = set[tuple[str, str]]()
    for (name, hardware), members in groups.items():
        gone = next((member.path for member in members if member.withdrawn is not None), None)
        level = Level.REFUSED
        if len(members) == 1:
            why = "got this one alone"
        elif len({member.component for member in members}) < len(members):
            why = "got two for one component"
        elif gone:
            level, why = Level.WARNING, f"and {gone} is withdrawn"
        else:
            continue
        for member in members:
            if member.withdrawn is None and (member.path, why) not in said:
                said.add((member.path, why))
                yield (
                    member,
                    level,
                    f"set {name} on {hardware}: expected a release for each of several components, {why}",
                )


def _requirements(offered: Sequence[Release]) -> Iterator[Said]:
    best = defaultdict[str, dict[str, Version]](dict)
    in_set = defaultdict[tuple[str | None, str], dict[str, Version]](dict)
    for release in offered:
        for hardware in release.hardware:
            here = best[release.component]
            here[hardware] = max(here.get(hardware, release.version), release.version)
            in_set[release.set, release.component][hardware] = release.version
    for release in offered:
        missing = []
        for name, least in release.requires.items():
            beside = in_set.get((release.set, name), {}) if release.set else {}
            brings = [beside.get(hardware) for hardware in release.hardware] if beside else []
            there = best.get(name, {})
            if name == release.component and release.version < least:
                yield release, Level.REFUSED, f"requires {name} {least}: and is itself {name} {release.version}"
            elif brings and all(version is not None and version < least for version in brings):
                yield release, Level.REFUSED, f"requires {name} {least}: and its set brings {name} {brings[0]}"
            elif not there or all(hardware not in there or there[hardware] < least for hardware in release.hardware):
                missing.append(f"{name} {least}")
        if missing:
            what = ", ".join(missing[:MAX_SHOWN]) + (", …" if len(missing) > MAX_SHOWN else "")
            yield (
                release,
                Level.WARNING,
                f"requires {what}: nothing listed is; only a device that runs it already installs this",
            )


def _some(items: Sequence[str]) -> str:
    return ", ".join(items[:MAX_SHOWN]) + (", …" if len(items) > MAX_SHOWN else "")
