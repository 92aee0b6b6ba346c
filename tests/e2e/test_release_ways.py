"""What the signer drafts, on a device: a Linux board with two components takes sets, waits for requirements, follows a withdrawal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from hillhold_signer import Repository, Wish, example_signer, verify_tree
from hillhold_signer.adding import add_releases
from hillhold_signer.documents import Document
from hillhold_signer.image_keys import add_image_keys
from hillhold_signer.retarget import change_hardware
from hillhold_signer.withdrawing import withdraw
from hillhold_verifier.errors import SelectionError
from hillhold_verifier.linux.device import Factory, LinuxDevice
from hillhold_verifier.local import LocalUpdate, Updated
from hillhold_verifier.release import Version
from hillhold_verifier.select import Device
from hillhold_verifier.sources import DirectorySource
from linuxboard import SLOT, MemoryEnvironment
from workshop import HARDWARE, NOW, image, online, sign_all, started

HERE = HARDWARE[0]
APP = Wish("app.bin", hardware=(HERE,))
RADIO = Wish("radio.bin", hardware=(HERE,), component="radio")
IMAGES = {
    "app": {
        v: image(v, c, edits=e) for v, c, e in (("1.0.0", 1, 0), ("1.1.0", 1, 1), ("1.2.0", 2, 2), ("1.1.9", 2, 3))
    },
    "radio": {v: image(v, 1, 7, edits=e) for v, e in (("1.0.0", 0), ("2.0.0", 1))},
}


class Field:
    """A board in the field: the repository's published tree is its source; 1.0.0 of both components came from the factory."""

    def __init__(self, folder: Path, repository: Repository) -> None:
        self.repository, self.environment = repository, MemoryEnvironment()
        self.state, self.command_line = folder / "state", folder / "cmdline"
        self.state.mkdir()
        self.slots = {name: [folder / f"{name}-{slot}" for slot in "ab"] for name in IMAGES}
        for name, paths in self.slots.items():
            for path in paths:
                path.write_bytes(IMAGES[name]["1.0.0"].ljust(SLOT, b"\0"))
        self.command_line.write_text("hillhold.slots=00\n")
        factory = [self._factory(name) for name in IMAGES]
        root = (repository.folder.public / "metadata/1.root.json").read_bytes()
        self.device.provision(Device("pump", HERE, "unit-7", tuple(IMAGES)), root, factory, again=False)

    def _factory(self, name: str) -> Factory:
        data = IMAGES[name]["1.0.0"]
        return Factory(f"pump/1.0.0/{name}.bin", len(data), sha256(data).digest())

    @property
    def device(self) -> LinuxDevice:
        return LinuxDevice(self.state, self.slots, self.environment, self.command_line, ["true"])

    def update(self) -> Updated:
        """Take what is published, boot it as boot.cmd does, and confirm it after its test."""
        with self.device.installer() as installer:
            done = LocalUpdate(installer, DirectorySource(self.repository.folder.public), NOW).update()
        if done.plan:
            values = self.environment.read()
            slots = ""
            for number, (confirmed, paths) in enumerate(
                zip(values["hillhold_confirmed"], self.slots.values(), strict=True)
            ):
                slot = int(confirmed)
                if mark := values.get(f"hillhold_mark_{number}"):
                    digest, length = mark.split(" ")
                    slot = 1 - slot
                    assert sha256(paths[slot].read_bytes()[: int(length, 16)]).hexdigest() == digest
                slots += str(slot)
            self.environment.write({"hillhold_starts": "1"})
            self.command_line.write_text(f"hillhold.slots={slots}\n")
            with self.device.installer() as installer:
                installer.confirm(self_tested=True)
        return done

    def installs(self) -> list[str]:
        """What an update brings."""
        return [f"{release.component} {release.version}" for release in self.update().plan]

    def runs(self) -> dict[str, str]:
        """The versions in the confirmed slots, told by their bytes."""
        found = {}
        for slot, (name, paths) in zip(self.environment.read()["hillhold_confirmed"], self.slots.items(), strict=True):
            data = paths[int(slot)].read_bytes()
            found[name] = next(version for version, known in IMAGES[name].items() if data.startswith(known))
        return found


@pytest.fixture
def field(tmp_path: Path) -> Field:
    repository = started(tmp_path / "repo")
    add_image_keys(repository, "pump", [example_signer("image").public_key], NOW)
    publish(repository, [("app", "1.0.0", {}), ("radio", "1.0.0", {})])
    return Field(tmp_path, repository)


def publish(repository: Repository, items: Sequence[tuple[str, str, Mapping[str, object]]] = ()) -> None:
    """Add releases, if any; sign and publish the draft."""
    if items:
        base = {"app": APP, "radio": RADIO}
        wishes = [(IMAGES[name][version], replace(base[name], **more)) for name, version, more in items]  # type: ignore[arg-type]
        add_releases(repository, "pump", wishes, NOW, with_documents=True)
    sign_all(repository, "release-1", "release-2")
    repository.publish(online(), NOW)
    verify_tree(repository.folder.path, NOW, None)


def test_a_device_follows_a_withdrawal_with_a_signed_step_down_and_goes_up_again(field: Field) -> None:
    publish(field.repository, [("app", "1.2.0", {})])
    assert field.installs() == ["app 1.2.0"]
    publish(field.repository, [("app", "1.1.9", {"downgrade_from": (Version.parse("1.2.0"),)})])
    withdraw(field.repository, "pump", "1.2.0", "leaks", NOW)
    publish(field.repository)
    assert field.installs() == ["app 1.1.9"]
    assert field.runs() == {"app": "1.1.9", "radio": "1.0.0"}
    assert field.installs() == []
    reason = next(v.reason for v in field.update().selection.verdicts if v.path == "pump/1.2.0/app.bin")
    assert reason == "withdrawn: leaks"


def test_a_step_down_that_is_drafted_with_the_withdrawal_is_taken_by_its_patch(field: Field) -> None:
    publish(field.repository, [("app", "1.1.0", {})])
    publish(field.repository, [("radio", "2.0.0", {})])
    assert [field.installs(), field.installs()] == [["app 1.1.0"], ["radio 2.0.0"]]
    assert field.runs() == {"app": "1.1.0", "radio": "2.0.0"}
    done = withdraw(field.repository, "pump", "1.1.0", "leaks", NOW, step_down_to="1.0.0")
    assert [(way.start, way.to) for way in done.ways] == [(Version.parse("1.1.0"), Version.parse("1.0.0"))]
    publish(field.repository)
    updated = field.update()
    assert [release.path for release in updated.plan] == ["pump/1.0.0/app.bin"]
    assert updated.patched == ("pump/1.0.0/app.bin",)
    assert field.runs() == {"app": "1.0.0", "radio": "2.0.0"}
    assert field.installs() == []


def test_without_a_way_a_device_stays_on_what_was_withdrawn_as_the_signer_said(field: Field) -> None:
    publish(field.repository, [("app", "1.2.0", {})])
    field.update()
    done = withdraw(field.repository, "pump", "1.2.0", "leaks", NOW)
    assert [way.to for way in done.ways] == [None]
    publish(field.repository)
    assert field.installs() == []
    assert field.runs()["app"] == "1.2.0"


def test_a_set_is_installed_together(field: Field) -> None:
    summer = {"set": "summer"}
    publish(
        field.repository,
        [("app", "1.1.0", {**summer, "requires": {"radio": Version.parse("2.0.0")}}), ("radio", "2.0.0", summer)],
    )
    assert field.installs() == ["app 1.1.0", "radio 2.0.0"]
    assert field.runs() == {"app": "1.1.0", "radio": "2.0.0"}


def test_a_release_waits_for_what_it_requires(field: Field) -> None:
    needs = {"requires": {"radio": Version.parse("2.0.0")}}
    publish(field.repository, [("app", "1.1.0", needs), ("radio", "2.0.0", {})])
    assert field.installs() == ["radio 2.0.0"]
    assert field.installs() == ["app 1.1.0"]


def test_a_device_ignores_documents_and_says_why_it_passes_over_what_lost_its_hardware(field: Field) -> None:
    bom = Document("bom.json", b'{"bomFormat":"CycloneDX","specVersion":"1.6"}')
    publish(
        field.repository, [("app", "1.1.0", {"sbom": (bom,), "notes": Document("news.txt", b"x"), "source": "a@b"})]
    )
    change_hardware(field.repository, "pump", "1.1.0", NOW, add=HARDWARE[1:], remove=[HERE])
    publish(field.repository)
    done = field.update()
    assert done.plan == ()
    with pytest.raises(SelectionError, match=r"for hardware nrf52-b; this device is nrf51-a"):
        done.selection.require()
    assert not any("bom.json" in verdict.path or "news.txt" in verdict.path for verdict in done.selection.verdicts)
    change_hardware(field.repository, "pump", "1.1.0", NOW, add=[HERE])
    publish(field.repository)
    assert field.installs() == ["app 1.1.0"]
