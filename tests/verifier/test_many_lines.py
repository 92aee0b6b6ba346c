"""A board and a courier on a repository whose snapshot and targets travel in several pieces."""

from __future__ import annotations

from pathlib import Path

from hillhold_bootsim.bootflags import BootRecord, FlagStore, SimBootControl
from hillhold_bootsim.counter import OtpCounter
from hillhold_bootsim.flash import Flash
from hillhold_bootsim.geometry import Geometry
from hillhold_bootsim.layout import Layout, SimRecordAreas, SimSlots
from hillhold_signer import Repository, Wish, add_release
from hillhold_signer.patching import NO_PATCHES
from hillhold_verifier.agent import METADATA, Agent
from hillhold_verifier.conversation import Pause
from hillhold_verifier.courier import Courier
from hillhold_verifier.installer import Installer, provision
from hillhold_verifier.select import Device
from hillhold_verifier.smp import HILLHOLD_GROUP, Message, decode, encode
from hillhold_verifier.sources import DirectorySource
from hillhold_verifier.state import StateStore
from hillhold_verifier.upload import one_at_a_time
from hillhold_verifier.wire import PIECE
from large import large_repository, line_name, line_team
from workshop import NOW, image, online

LINES = 160
LAYOUT = Layout.in_a_row(
    name="roomy",
    geometry=Geometry.uniform(size=1024 * 1024, sector=4096, unit=4, otp=256),
    state_size=336 * 1024,
    slot_size=64 * 1024,
)


def board(root: bytes, product: str, hardware: str) -> Agent:
    flash = Flash(LAYOUT.geometry)
    flags = FlagStore(flash, LAYOUT)
    flags.provision(BootRecord())
    control = SimBootControl(flags)
    store = StateStore(SimRecordAreas(flash, LAYOUT.state))
    provision(store, Device(product, hardware, "serial-1"), root)
    return Agent(Installer(store, [SimSlots(flash, LAYOUT)], control, [OtpCounter(flash)]))


def bring(agent: Agent, path: Path) -> tuple[int, int]:
    """Let the courier bring what is new; return how many metadata bytes it sent, and how many refusals there were."""
    conversation = one_at_a_time(Courier(DirectorySource(path)).check())
    step = next(conversation)
    sent = refused = 0
    try:
        for sequence in range(2000):
            assert not isinstance(step, Pause)
            answer = agent.answer(encode(Message(step.op, step.group, step.command, sequence % 256, step.body)), NOW)
            assert answer is not None
            body = decode(answer).body
            refused += "err" in body
            if (step.group, step.command) == (HILLHOLD_GROUP, METADATA):
                assert isinstance(step.body["d"], bytes)
                sent += len(step.body["d"])
            step = conversation.send(body)
    except StopIteration:
        return sent, refused
    raise AssertionError("the exchange does not end")


def test_a_board_that_keeps_up_takes_little_of_a_large_snapshot(tmp_path: Path) -> None:
    repository = large_repository(tmp_path / "repo", LINES, 2)
    folder, line = repository.folder.public / "metadata", line_name(80)
    assert len((folder / "1.snapshot.json").read_bytes()) > PIECE
    assert len((folder / "1.targets.json").read_bytes()) > 3 * PIECE
    agent = board((folder / "1.root.json").read_bytes(), line, "board-0080")
    first, refused = bring(agent, repository.folder.path)
    assert not refused
    assert first > 10_000
    add_release(
        Repository(repository.folder.path), line, image("2.0.0", counter=2), Wish("app.bin"), NOW, patch_from=NO_PATCHES
    )
    for signer in line_team(80):
        repository.sign(signer)
    repository.publish(online(), NOW)
    again, refused = bring(agent, repository.folder.path)
    assert not refused
    assert again < 1200
    assert bring(agent, repository.folder.path) == (0, 0)
