"""What devices would do with a line that nobody has signed yet, by the verifier's own rules (`hillhold_verifier.select`).

A simulated device has every component that the line lists for its hardware, and installs what it chooses until it chooses nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from tuf.api.metadata import Targets

from hillhold_signer.errors import ReleaseRefused
from hillhold_signer.products import Caps
from hillhold_signer.releases import as_device, releases_of
from hillhold_verifier.audit.rules import judge_releases
from hillhold_verifier.release import Release, Version
from hillhold_verifier.roles import Delegation, Role, Root
from hillhold_verifier.roles import Targets as DeviceTargets
from hillhold_verifier.select import Device, Installed, Selection, select
from hillhold_verifier.trust import Current

Running = Mapping[str, Release]
"""The release that each component runs."""

_NO_ROOT: Final = Root(1, 0, {}, {}, True)


class Fleet:
    """The devices of a line.

    Raises:
        ReleaseRefused: the line lists what a device would not understand.
    """

    def __init__(self, product: str, caps: Caps, line: Targets) -> None:
        self._product = product
        self.releases = releases_of(line)
        targets = {path: as_device(target) for path, target in line.targets.items()}
        listed = DeviceTargets(line.version, 0, targets, {}, (), None, 0)
        hardware = frozenset(caps.hardware)
        role, paths = Role((), 1), (f"{product}/*/*",)
        allowed = Delegation(
            product, role, paths, (), True, hardware, caps.max_security_counter, caps.max_offline_grace
        )
        self._allowed = allowed
        self._current = Current(product, 0, _NO_ROOT, allowed, listed, 0)

    def findings(self) -> frozenset[str]:
        """Return what an auditor would say of the releases: sets and requirements that no device can meet, for one."""
        found = judge_releases(self._product, self._allowed, self.releases)
        return frozenset(f"{release.path}: {message}" for release, _, message in found)

    def kinds(self, hardware: Iterable[str]) -> list[str]:
        """Return one of each kind of these hardware ids: those that the same releases name behave alike."""
        found: dict[frozenset[str], str] = {}
        for name in sorted(set(hardware), reverse=True):
            found[frozenset(release.path for release in self.releases if name in release.hardware)] = name
        return sorted(found.values())

    def choose(self, hardware: str, running: Running) -> Selection:
        """Return what a device chooses now, and why."""
        components = {release.component for release in self.releases if hardware in release.hardware}
        device = Device(self._product, hardware, "any", tuple(sorted(components | running.keys())))
        confirmed = {name: _installed(release) for name, release in running.items()}
        return select(self._current, device, confirmed, {})

    def settle(self, hardware: str, running: Running) -> dict[str, Release]:
        """Return what a device runs in the end."""
        now = dict(running)
        for _ in self.releases:  # each step down is named only once, so nothing is installed twice
            plan = self.choose(hardware, now).plan
            if not plan:
                break
            now |= {release.component: release for release in plan}
        return now

    def best(self, hardware: str) -> dict[str, Release]:
        """Return the highest release of each component that is not withdrawn."""
        offered = (item for item in self.releases if hardware in item.hardware and item.withdrawn is None)
        return {release.component: release for release in offered}  # the lowest version comes first

    def after(self, release: Release, hardware: str) -> Release:
        """Return what a device ends on that runs a release now, and of the other components the newest."""
        return self.settle(hardware, {**self.best(hardware), release.component: release})[release.component]

    def require(self, path: str, hardware: Iterable[str]) -> None:
        """Refuse a line in which devices do not come to a new release: from those that step down to it, or else from nothing.

        Raises:
            ReleaseRefused: with the reason that such a device gives.
        """
        new = next(release for release in self.releases if release.path == path)
        for name in self.kinds(hardware):
            starts: list[Running] = [
                {**self.best(name), new.component: item}
                for item in self.releases
                if item.component == new.component and name in item.hardware and item.version in new.downgrade_from
            ]
            for start in starts or [{}]:
                end = self.settle(name, start)
                if end.get(new.component) == new:
                    continue
                where = f"a device ({name}) on {start[new.component].version}" if start else f"a device ({name})"
                hint = (
                    "`hillhold release list` shows what the line lists; releases that need each other go into one `add`"
                )
                expected = f"a release that {where} comes to"
                raise ReleaseRefused(f"target {path}", expected=expected, got=self._why_not(name, end, new), hint=hint)

    def _why_not(self, hardware: str, end: Running, new: Release) -> str:
        """The device's reason; where it would install the release, that it then goes on to another."""
        verdicts = (verdict for verdict in self.choose(hardware, end).verdicts if verdict.path == new.path)
        reason = next(verdicts).reason
        last = end.get(new.component)
        return f"{reason}; it ends on {last.version}" if last else reason


def named(releases: Iterable[Release]) -> set[tuple[str, str, Version]]:
    """Return which versions, by hardware and component, are passed over since a release steps down from them."""
    return {
        (hardware, release.component, version)
        for release in releases
        if release.withdrawn is None
        for hardware in release.hardware
        for version in release.downgrade_from
    }


def check_freed(before: Iterable[Release], after: Sequence[Release]) -> None:
    """Refuse a change after which devices would install again what they were told to step down from.

    Raises:
        ReleaseRefused: such a change.
    """
    freed = named(before) - named(after)
    for release in after:
        if release.withdrawn is None and any(
            (hardware, release.component, release.version) in freed for hardware in release.hardware
        ):
            hint = f"if it must not be installed, withdraw {release.version} first"
            got = "one that makes it installable again: what stepped down from it would be gone"
            raise ReleaseRefused(release.path, expected="a change that leaves it passed over", got=got, hint=hint)


def _installed(release: Release) -> Installed:
    requires = tuple(sorted(release.requires.items()))
    return Installed(release.path, release.version, release.sha256, release.length, release.security_counter, requires)
