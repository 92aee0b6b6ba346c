"""Group IMAGE without a line: requests straight to `answer_image`, and devices of one component or two that have something to take."""

from __future__ import annotations

from hashlib import sha256

from bench import CLOCK, Rig
from duo import Duo
from forge import Repo
from hillhold_verifier.agent_image import answer_image
from hillhold_verifier.installer import Installer
from hillhold_verifier.mcuboot import parse_image
from hillhold_verifier.smp import Group, ImageCommand, Message, Op
from offers import image, offer, started

OLD, NEW = image("1.0.0"), image("1.1.0+5", 2)


def ask(
    installer: Installer, command: ImageCommand, body: dict[str, object], *, self_tested: bool = True
) -> dict[str, object]:
    request = Message(Op.WRITE, Group.IMAGE, command, 0, body)
    return dict(answer_image(request, installer, CLOCK, self_tested=self_tested))


def listed(installer: Installer) -> object:
    return dict(answer_image(Message(Op.READ, Group.IMAGE, ImageCommand.STATE, 0), installer, CLOCK, self_tested=False))


def set_state(installer: Installer, digest: bytes, *, confirm: bool = False) -> object:
    return ask(installer, ImageCommand.STATE, {"hash": digest, "confirm": confirm})


def name_of(data: bytes) -> bytes:
    """An image's own hash, by which stock tools name it."""
    return parse_image(data).sha256


def upload(content: bytes, **changes: object) -> dict[str, object]:
    """The first piece, of 100 bytes."""
    digest = sha256(content).digest()
    return {"image": 0, "off": 0, "len": len(content), "sha": digest, "data": content[:100]} | changes


def ready() -> Rig:
    """A board that runs 1.0.0 and holds 1.1.0+5 in the other slot."""
    rig = Rig(started())
    rig.install(OLD)
    offer(rig.repo, "1.1.0+5", 2, data=NEW)
    rig.repo.publish()
    rig.take()
    rig.send(NEW)
    return rig


def on_trial() -> Rig:
    rig = ready()
    rig.installer.mark(CLOCK)
    assert rig.reset().trial
    return rig


def pair() -> tuple[Duo, dict[str, bytes]]:
    """A device of two components whose images are MCUboot's; by name, what it runs and the set that it may install."""
    images = {
        "app 1.0.0": image("1.0.0", length=100),
        "radio 4.0.0": image("4.0.0", length=100, seed=2),
        "app 2.0.0": image("2.0.0", 2, length=100),
        "radio 5.0.0": image("5.0.0", 2, length=100, seed=2),
    }
    repo = Repo()

    def add(name: str, counter: int, **custom: object) -> None:
        component, version = name.split()
        path = repo.add_release(
            version, images[name], counter=counter, file=f"{component}.bin", component=component, format="mcuboot"
        )
        repo.change(path, **custom)

    add("app 1.0.0", 1)
    add("radio 4.0.0", 1)
    repo.publish()
    duo = Duo(repo, (images["app 1.0.0"], images["radio 4.0.0"]))
    add("app 2.0.0", 2, set="summer")
    add("radio 5.0.0", 2, set="summer")
    repo.publish("line", "snapshot", "timestamp")
    duo.take()
    return duo, images


def entry(slot: int, version: str, data: bytes, *flags: str) -> dict[str, object]:
    of = {name: name in flags for name in ("pending", "confirmed", "active")}
    fixed = {"image": 0, "slot": slot, "version": version, "hash": name_of(data), "bootable": True, "permanent": False}
    return fixed | of
