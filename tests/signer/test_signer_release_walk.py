"""Random releases, withdrawals and changes of hardware on one line, followed by simulated devices: none is led in a circle or backwards."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from hillhold_signer import Wish
from hillhold_signer.adding import add_releases
from hillhold_signer.errors import ContentRefused, ReleaseRefused
from hillhold_signer.fleet import Fleet
from hillhold_signer.patching import NO_PATCHES
from hillhold_signer.products import caps_of
from hillhold_signer.releases import releases_of
from hillhold_signer.retarget import change_hardware
from hillhold_signer.withdrawing import withdraw
from hillhold_verifier.release import Release, Version
from workshop import HARDWARE, NOW, image, online, sign_all, started, tree

COMPONENTS = ("app", "radio")
STEPS = 14


class Walk:
    """One line, and a device of each hardware that takes whatever is published."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random, self.repository = Random(seed), started(folder)
        self.devices: dict[str, dict[str, Release]] = {hardware: {} for hardware in HARDWARE}

    def top(self, component: str) -> tuple[int, int]:
        """The highest minor version and counter that are listed."""
        found = [item for item in releases_of(self.repository.state().line("pump")) if item.component == component]
        return max((r.version.minor for r in found), default=0), max((r.security_counter for r in found), default=1)

    def version(self, component: str, *away: int) -> Version:
        return Version(1, max(0, self.top(component)[0] + self.random.choice(away)), 0)

    def wish(self, component: str, group: str | None) -> tuple[bytes, Wish]:
        choice = self.random.choice
        version = self.version(component, 1, 1, 1, 1, -1, 0)
        counter = max(1, self.top(component)[1] + choice((0, 0, 0, 1, -1)))
        other = COMPONENTS[component == "app"]
        lower = version.minor <= self.top(component)[0]
        wish = Wish(
            f"{component}.bin",
            hardware=choice((HARDWARE, HARDWARE[:1], HARDWARE[1:])),
            component=component,
            set=group,
            requires={other: self.version(other, 0, -1, 1)} if self.random.random() < 0.3 else {},
            downgrade_from=tuple({self.version(component, 0), self.version(component, 0, -1)}) if lower else (),
        )
        return image(str(version), counter, 1 + COMPONENTS.index(component)), wish

    def change(self) -> None:
        choice = self.random.choice
        component = choice(COMPONENTS)
        match choice("aaaaawh"):
            case "a":
                names = choice(((component,), COMPONENTS))
                group = f"set-{self.random.randrange(9)}" if len(names) > 1 and choice((True, False)) else None
                add_releases(
                    self.repository, "pump", [self.wish(name, group) for name in names], NOW, patch_from=NO_PATCHES
                )
            case "w":
                to = choice((None, str(self.version(component, -1, -2))))
                version = str(self.version(component, 0, 0, -1))
                withdraw(self.repository, "pump", version, "leaks", NOW, component=component, step_down_to=to)
            case _:
                add, remove = self.random.sample((HARDWARE[:1], HARDWARE[1:], (), ()), 2)
                version = str(self.version(component, 0, -1))
                change_hardware(self.repository, "pump", version, NOW, add=add, remove=remove, component=component)

    def publish(self) -> None:
        if "pump" in self.repository.state().drafts:
            sign_all(self.repository, "release-1", "release-2")
            self.repository.publish(online(), NOW)

    def follow(self) -> None:
        """Each device takes what is published."""
        state = self.repository.state()
        fleet = Fleet("pump", caps_of(state.targets(), "pump"), state.line("pump"))
        for hardware, before in self.devices.items():
            after = fleet.settle(hardware, before)
            assert not fleet.choose(hardware, after).plan, "it never comes to rest"
            for name, new in after.items():
                old = before.get(name)
                if new == old:
                    continue
                assert new.withdrawn is None
                if old is not None:
                    assert new.security_counter >= old.security_counter
                    assert new.version > old.version or old.version in new.downgrade_from
            self.devices[hardware] = after


@pytest.mark.slow
def test_what_is_drafted_leads_every_device_forward_and_what_is_refused_changes_nothing(tmp_path: Path) -> None:
    kinds = set()
    for seed in range(10):
        walk = Walk(tmp_path / str(seed), seed)
        for _ in range(STEPS):
            before = tree(walk.repository.folder.path)
            try:
                walk.change()
            except (ReleaseRefused, ContentRefused):
                assert tree(walk.repository.folder.path) == before, f"seed {seed}"
                continue
            walk.publish()
            walk.follow()
        for release in releases_of(walk.repository.state().line("pump")):
            kinds |= {"withdrawn"} if release.withdrawn is not None else set()
            kinds |= {"set"} if release.set is not None else set()
            kinds |= {"requires"} if release.requires else set()
            kinds |= {"steps down"} if release.downgrade_from else set()
    assert kinds == {"withdrawn", "set", "requires", "steps down"}, "the walks no longer see all that there is"
