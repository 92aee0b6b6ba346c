"""A Linux board's state, slots and flags: what an update does to them, at every write that fails or loses its power."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from forge import Repo
from hillhold_verifier.conversation import Progress
from hillhold_verifier.errors import (
    MismatchError,
    MisuseError,
    OperationalError,
    RollbackError,
    SlotError,
    UnprovisionedError,
)
from hillhold_verifier.linux.device import Factory, load_device
from hillhold_verifier.linux.files import AREA, SECTOR, FileCounter, FileRecordAreas, FileSlots, exclusive
from hillhold_verifier.local import LocalUpdate
from hillhold_verifier.select import Outcome
from hillhold_verifier.state import StateStore
from linuxboard import CLOCK, FAILURES, Faults, LinuxBoard, MemoryEnvironment, PowerCut
from offers import TreeSource, image, offer, offer_patch, started

FIRST, SECOND = image("1.0.0", length=24_000), image("1.1.0", 2, length=24_000)


def newer() -> Repo:
    """A repository that lists 1.0.0 and 1.1.0, with a patch between them."""
    repo = Repo()
    offer(repo, "1.0.0", data=FIRST)
    offer(repo, "1.1.0", 2, data=SECOND)
    offer_patch(repo, "1.1.0", FIRST, SECOND)
    repo.publish()
    return repo


def test_an_update_its_trial_and_its_confirmation(tmp_path: Path) -> None:
    board = LinuxBoard(tmp_path, newer())
    done = board.update(patches=False)
    assert [release.path for release in done.plan] == ["pump/1.1.0/app.bin"]
    assert (done.patched, done.read) == ((), len(SECOND))
    assert board.boot() == "1.1.0"
    status = board.device.look().status()
    assert (status["trial"], status["starts"], status["counter"]) == (True, 1, 1)
    board.confirm()
    assert board.boot() == "1.1.0"
    status = board.device.look().status()
    assert (status["trial"], status["marked"], status["counter"]) == (False, None, 2)
    again = board.update()
    assert (again.plan, again.read) == ((), 0)
    assert [verdict.outcome for verdict in again.selection.verdicts] == [Outcome.REFUSED, Outcome.INSTALLED]


def test_a_patch_is_taken_where_there_is_one(tmp_path: Path) -> None:
    board = LinuxBoard(tmp_path, newer())
    done = board.update()
    assert done.patched == ("pump/1.1.0/app.bin",)
    assert 0 < done.read < 1000
    assert board.boot() == "1.1.0"


def test_a_trial_without_a_confirmation_goes_back_and_may_be_tried_again(tmp_path: Path) -> None:
    board = LinuxBoard(tmp_path, newer())
    board.update()
    assert [board.boot() for _ in range(4)] == ["1.1.0", "1.1.0", "1.1.0", "1.0.0"]
    with pytest.raises(Exception, match="expected an image on trial"):
        board.control().reject()
    assert board.update().plan  # a loss of power is no failed trial


def test_a_failed_trial_is_not_tried_again(tmp_path: Path) -> None:
    board = LinuxBoard(tmp_path, newer())
    board.update()
    board.boot()
    board.control().reject()
    assert board.boot() == "1.0.0"
    done = board.update()
    assert done.plan == ()
    assert "its trial failed on this device before" in [verdict.reason for verdict in done.selection.verdicts]


def test_a_watchdog_that_bites_ends_a_trial(tmp_path: Path) -> None:
    board = LinuxBoard(tmp_path, newer())
    board.update()
    board.boot()
    assert board.boot(watchdog=True) == "1.0.0"
    assert board.update().plan == ()
    assert "hillhold_failed_0" not in board.environment.read()  # recorded in the state, and acknowledged


def test_during_a_trial_nothing_is_written(tmp_path: Path) -> None:
    board = LinuxBoard(tmp_path, newer())
    board.update()
    board.boot()
    offer(board.repo, "1.2.0", 2)
    board.repo.publish()
    before = board.slots[0].read_bytes()
    with pytest.raises(SlotError, match="only way back"):
        board.update()
    assert board.slots[0].read_bytes() == before


def test_an_older_repository_is_refused(tmp_path: Path) -> None:
    repo = started()
    old = dict(repo.tree)
    offer(repo, "1.1.0", 2)
    repo.publish()
    board = LinuxBoard(tmp_path, repo)
    board.update()
    board.boot()
    board.confirm()
    with pytest.raises(RollbackError):
        board.update(source=TreeSource(old))
    assert board.boot() == "1.1.0"


def test_an_older_stick_may_have_the_image_that_the_device_wants(tmp_path: Path) -> None:
    """aktualizr-lite #314: metadata came over the network, the stick that follows is of last week."""
    repo = newer()
    stick = dict(repo.tree)
    repo.publish("timestamp")
    board = LinuxBoard(tmp_path, repo)
    with board.device.installer() as installer:
        LocalUpdate(installer, TreeSource(repo.tree), CLOCK).check()
    steps: list[Progress] = []
    with board.device.installer() as installer:
        done = LocalUpdate(installer, TreeSource(stick), CLOCK, steps.append).update()
    assert [release.path for release in done.plan] == ["pump/1.1.0/app.bin"]
    assert any("older than what this device knows (timestamp version" in step.step for step in steps)
    assert board.boot() == "1.1.0"
    # What has been withdrawn since is not to be had from an old stick.
    board.device.control.clear_marks()
    board.boot()
    repo.change("pump/1.1.0/app.bin", withdrawn="it leaks")
    repo.publish()
    board.update()
    with pytest.raises(RollbackError):
        board.update(source=TreeSource(stick))


# --- cuts and failures ------------------------------------------------------------------------------------------------


def whole_update(board: LinuxBoard, *, patches: bool) -> None:
    board.update(patches=patches)
    board.boot()
    board.confirm()


@pytest.mark.slow
@pytest.mark.parametrize("patches", [False, True])
def test_a_cut_at_every_write(tmp_path: Path, patches: bool) -> None:
    repo = newer()
    (tmp_path / "clean").mkdir()
    clean = LinuxBoard(tmp_path / "clean", repo)
    with Faults().over(clean) as counted:
        whole_update(clean, patches=patches)
    assert counted.count >= 15
    assert {"pwrite", "environment", "rename"} == set(counted.names)
    for at in range(counted.count):
        for kind in ("before", "torn", "after"):
            case = f"{at}-{kind} ({counted.names[at]})"
            folder = tmp_path / f"{at}-{kind}"
            folder.mkdir()
            board = LinuxBoard(folder, repo)
            with Faults(at, kind).over(board), pytest.raises(PowerCut):
                whole_update(board, patches=patches)
            assert board.boot() in ("1.0.0", "1.1.0"), case
            # Whatever was under way, the same commands finish it.
            if not board.device.look().status()["trial"]:
                board.update(patches=patches)
                board.boot()
            board.confirm()
            assert board.boot() == "1.1.0", case
            status = board.device.look().status()
            assert (status["trial"], status["marked"], status["counter"]) == (False, None, 2), case


def settled(folder: Path, repo: Repo) -> LinuxBoard:
    """A board whose counter store has followed its confirmed image; a store that cannot is tested by itself."""
    board = LinuxBoard(folder, repo)
    with board.device.installer():
        pass
    return board


@pytest.mark.slow
@pytest.mark.parametrize("number", FAILURES, ids=errno.errorcode.get)
def test_a_medium_that_fails_at_every_write(tmp_path: Path, number: int) -> None:
    repo = newer()
    (tmp_path / "clean").mkdir()
    clean = settled(tmp_path / "clean", repo)
    with Faults().over(clean) as counted:
        clean.update()
    assert counted.count >= 10
    for at in range(counted.count):
        folder = tmp_path / str(at)
        folder.mkdir()
        board = settled(folder, repo)
        with Faults(at, number).over(board), pytest.raises(OperationalError, match=os.strerror(number)):
            board.update()
        assert board.content(0) == "1.0.0"
        assert board.boot() == "1.0.0"
        board.update()
        assert board.boot() == "1.1.0", f"write {at} ({counted.names[at]})"


def test_what_was_accepted_before_a_failure_is_not_forgotten(tmp_path: Path) -> None:
    """A full disk while the state is written: what the device then says it trusts is what it wrote, not what it wanted to."""
    board = settled(tmp_path, newer())
    with Faults(1, errno.ENOSPC).over(board), board.device.installer() as installer:
        installer.receive("timestamp", board.repo.files["timestamp"], None)
        held = installer.state
        with pytest.raises(OperationalError, match="No space left"):
            installer.receive("snapshot", board.repo.files["snapshot"], None)
        assert installer.state == held
    assert StateStore(FileRecordAreas(board.state)).load().trust == held.trust


def test_a_counter_store_that_cannot_be_written_takes_nothing_away(tmp_path: Path) -> None:
    """The confirmed image's own counter holds the floor meanwhile."""
    board = LinuxBoard(tmp_path, newer())
    for act in FAILURES:
        with Faults(0, act).over(board) as counted, board.device.installer() as installer:
            assert installer.security_counter() == 1
        assert counted.names[0] == "pwrite"
    assert (board.state / "counter.0").read_bytes() == b"0\n"
    assert sorted(path.name for path in board.state.iterdir()) == ["counter.0", "state.0", "state.1"]


# --- two at once ------------------------------------------------------------------------------------------------------


def test_a_second_process_is_refused_and_may_look(tmp_path: Path) -> None:
    board = LinuxBoard(tmp_path, newer())
    script = (
        "import sys; from pathlib import Path; from hillhold_verifier.linux.files import exclusive\n"
        "with exclusive(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(board.state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdin
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(OperationalError, match="in use by another process"), board.device.installer():
            pass
        assert board.device.look().status()["running"]
    finally:
        process.communicate()
    with board.device.installer():  # the hold went with the process
        pass
    process.stdout.close()


# --- state, slots, counter --------------------------------------------------------------------------------------------


def test_state_that_is_gone_or_unreadable_is_never_taken_for_empty(tmp_path: Path) -> None:
    board = LinuxBoard(tmp_path, newer())
    for index in (0, 1):
        (board.state / f"state.{index}").unlink()
    with pytest.raises(UnprovisionedError):
        board.update()
    for index in (0, 1):
        (board.state / f"state.{index}").write_bytes(b"\xff" * 100)
    with pytest.raises(UnprovisionedError):
        board.update()


def test_one_torn_area_leaves_the_other(tmp_path: Path) -> None:
    board = LinuxBoard(tmp_path, newer())
    board.update()
    held = StateStore(FileRecordAreas(board.state)).load()
    sizes = [(board.state / f"state.{index}").stat().st_size for index in (0, 1)]
    assert sizes == [AREA, AREA]
    with (board.state / "state.0").open("r+b") as file:
        file.write(b"\0" * 8)
    with (board.state / "state.1").open("r+b") as file:
        before = file.read(16)
    survivor = StateStore(FileRecordAreas(board.state)).load()
    assert before[:4] == b"HHst"
    assert survivor.device == held.device


@pytest.mark.parametrize("content", [b"", b"7", b"-1\n", b"1e3\n", b"99999999999\n", b"0x7\n", b"\n", None])
def test_a_counter_that_cannot_be_read_is_never_zero(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "counter"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OperationalError, match="security counter"):
        FileCounter(path).value()
    with pytest.raises(OperationalError):
        FileCounter(path).raise_to(9)


def test_a_counter_only_rises(tmp_path: Path) -> None:
    counter = FileCounter(tmp_path / "counter")
    counter.allocate()
    for value, expected in ((3, 3), (2, 3), (3, 3), (2**32 - 1, 2**32 - 1)):
        counter.raise_to(value)
        assert counter.value() == expected
    counter.allocate()
    assert counter.value() == 2**32 - 1


def test_slots_of_two_sizes_hold_what_fits_both(tmp_path: Path) -> None:
    for name, size in (("a", 10 * SECTOR + 17), ("b", 12 * SECTOR)):
        (tmp_path / name).write_bytes(b"x" * size)
    slots = FileSlots([tmp_path / "a", tmp_path / "b"])
    assert slots.size == 10 * SECTOR
    slots.erase(1, SECTOR, SECTOR)
    slots.write(1, 2 * SECTOR, b"data" * (SECTOR // 4))
    assert slots.read(1, SECTOR - 1, 2) + slots.read(1, 2 * SECTOR - 1, 5) == b"x\0\0data"
    assert (tmp_path / "b").stat().st_size == 12 * SECTOR
    with pytest.raises(OperationalError, match="not 100"):
        slots.read(0, 10 * SECTOR, 100)


@pytest.mark.parametrize("names", [[], ["a"], ["a", "a"], ["a", "b", "c"]])
def test_slots_are_two(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(MisuseError, match="expected two"):
        FileSlots([tmp_path / name for name in names])


# --- provisioning -----------------------------------------------------------------------------------------------------


def test_a_device_is_provisioned_once(tmp_path: Path) -> None:
    board = LinuxBoard(tmp_path, newer())
    board.update()
    before = (board.state / "state.0").read_bytes()
    with pytest.raises(MisuseError, match="provisioned before"):
        board.provision()
    assert (board.state / "state.0").read_bytes() == before
    board.provision(again=True)
    status = board.device.look().status()
    assert (status["marked"], status["time"], status["confirmed"]) == (None, 0, status["running"])


def test_what_the_factory_wrote_is_read_not_believed(tmp_path: Path) -> None:
    board = LinuxBoard(tmp_path, newer(), provisioned=False)
    (true,) = board.factory
    assert true
    root = board.repo.tree["metadata/1.root.json"]
    identity = board.device
    wrong = {
        "another image": (Factory(true.path, true.length, bytes(32)), MismatchError),
        "shorter": (Factory(true.path, true.length - 1, true.sha256), MismatchError),
        "another version": (Factory("pump/9.0.0/app.bin", true.length, true.sha256), MisuseError),
        "another product": (Factory("mixer/1.0.0/app.bin", true.length, true.sha256), MisuseError),
        "too long": (Factory(true.path, 2**40, true.sha256), MisuseError),
    }
    from linuxboard import IDENTITY

    for what, (factory, error) in wrong.items():
        with pytest.raises(error):
            identity.provision(IDENTITY, root, [factory], again=False)
        assert not (board.state / "state.0").exists(), what
    with pytest.raises(MisuseError, match="expected 1, got 2"):
        identity.provision(IDENTITY, root, [true, true], again=False)


def test_flags_without_a_state_and_a_state_without_flags_are_refused(tmp_path: Path) -> None:
    """A cut between the two writes of provisioning leaves a device that refuses, and is provisioned again."""
    board = LinuxBoard(tmp_path, newer(), provisioned=False)
    board.control().provision([0])
    with pytest.raises(UnprovisionedError):
        board.device.look()
    board.provision()
    board.environment = MemoryEnvironment()
    with pytest.raises(UnprovisionedError, match="hillhold in U-Boot's environment"):
        board.update()


def test_nothing_but_one_process_provisions(tmp_path: Path) -> None:
    board = LinuxBoard(tmp_path, newer(), provisioned=False)
    with exclusive(board.state), pytest.raises(OperationalError, match="in use"):
        board.provision()


# --- the device's file ------------------------------------------------------------------------------------------------

GOOD = """
state = "/var/lib/hillhold"
reboot = ["true"]
[uboot]
config = "/etc/fw_env.config"
[[component]]
name = "app"
slots = ["/dev/a", "/dev/b"]
[[component]]
name = "radio"
slots = ["/dev/c", "/dev/d"]
"""


def test_a_device_file(tmp_path: Path) -> None:
    path = tmp_path / "device.toml"
    path.write_text(GOOD)
    device = load_device(path)
    assert (device.components, device.state, device.reboot) == (("app", "radio"), Path("/var/lib/hillhold"), ("true",))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("state =", "stat =", "state: expected str, got none"),
        ('"/var/lib/hillhold"', "5", "state: expected str, got int"),
        ("[uboot]\n", "[uboot]\nspeed = 5\n", "speed: not known here"),
        ('reboot = ["true"]', "reboot = []", "reboot: expected a list of texts"),
        ('name = "radio"', 'name = "app"', "component app: expected once"),
        ('slots = ["/dev/a", "/dev/b"]', "slots = [1, 2]", "slots: expected a list of texts"),
        ('name = "app"\n', "", "name: expected str, got none"),
        ("[[component]]", "[[components]]", "component: expected list, got none"),
        ("[uboot]", "[uboot", "Expected ']'"),
    ],
)
def test_a_device_file_that_says_something_else(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / "device.toml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(MisuseError, match=words.replace("[", r"\[")):
        load_device(path)


def test_no_device_file(tmp_path: Path) -> None:
    with pytest.raises(OperationalError, match="No such file"):
        load_device(tmp_path / "none.toml")
