"""Patches of a release: which are made, in processes that hold no key, what is kept, and that whatever fails costs no release."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hillhold_signer import Repository, Wish, add_release, adding
from hillhold_signer.adding import add_releases
from hillhold_signer.cli import main
from hillhold_signer.errors import ReleaseRefused, RepositoryRefused
from hillhold_signer.making import Making
from hillhold_signer.patches import make_patch
from hillhold_signer.patching import (
    DEFAULT,
    MAX_KEPT,
    NO_PATCHES,
    NOTHING_SHA256,
    WORTH_PERCENT,
    LeftOut,
    PatchFrom,
    limits,
)
from hillhold_signer.patchpool import Job, PatchPool
from hillhold_signer.patchworker import PIECE, SAMPLES, SHARE, alike
from hillhold_signer.prune import prune_releases
from hillhold_signer.releases import understood
from hillhold_verifier.patch import PatchDecoder
from hillhold_verifier.release import Patch, Release, patch_path
from patchworld import LINUX, MAIN, World, children, edited, instead, listed
from workshop import HARDWARE, NOW, firmware, image, release, sign_all, started, tree

WISH = Wish("app.bin", hardware=HARDWARE[:1])
ALL = PatchFrom(None)


# --- which -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "chosen"),
    [
        ((), ["1.9.0", "1.8.0", "1.7.0", "1.6.0", "1.5.0", "1.4.0", "1.3.0", "1.2.0"]),
        (("2",), ["1.9.0", "1.8.0"]),
        (("0",), []),
        (("1.0.0",), ["1.0.0"]),
        (("1", "1.0.0", "1.9.0"), ["1.9.0", "1.0.0"]),
        (("99",), [f"1.{number}.0" for number in range(9, -1, -1)]),
        (("all",), [f"1.{number}.0" for number in range(9, -1, -1)]),
        (("none",), []),
    ],
)
def test_bases_are_chosen_newest_first(texts: tuple[str, ...], chosen: list[str]) -> None:
    found = PatchFrom.parse(texts)
    assert [str(base.version) for base in found.choose(World(10).releases)] == chosen
    assert found.whole is (texts != ("none",))


@pytest.mark.parametrize(
    "texts", [("all", "2"), ("none", "1.0.0"), ("1", "2"), ("-1",), ("1.0",), ("auto",), ("",), ("²",)]
)
def test_what_says_nothing_or_two_things_is_refused(texts: tuple[str, ...]) -> None:
    with pytest.raises(ReleaseRefused, match="patches from"):
        PatchFrom.parse(texts)


def test_the_same_content_under_two_versions_is_one_base() -> None:
    twice = [listed("1.0.0", b"same"), listed("1.1.0", b"other"), listed("1.2.0", b"same")]
    assert len(PatchFrom(None).choose(twice)) == 2


def test_a_base_with_nothing_in_common_is_seen_at_once_and_one_that_moved_is_not_taken_for_one() -> None:
    result = firmware(1, 60_000)
    assert not alike(firmware(2, 60_000), result)
    assert alike(b"\xa5" + result, result)  # all of it lies elsewhere
    assert alike(firmware(2, 50_000) + result[:6_000], result)
    assert alike(b"", result)
    assert alike(firmware(2, 1000), bytes(60_000))  # too little to tell


def test_no_more_of_a_base_is_looked_at_than_it_takes_to_see_that_it_is_alike() -> None:
    result = firmware(1, 60_000)
    wanted = len({result[at : at + PIECE] for at in range(0, len(result) - PIECE + 1, len(result) // SAMPLES)})
    enough = math.ceil(wanted * SHARE)
    step = len(result) // SAMPLES

    class Base(bytes):
        """Counts how far it is read."""

        read = 0

        def __getitem__(self, key: Any) -> Any:
            self.read = max(self.read, key.stop)
            return super().__getitem__(key)

    base = Base(result)
    assert alike(base, result)
    assert base.read <= (enough + 1) * step + PIECE
    pieces = [result[at : at + PIECE] for at in range(0, len(result) - PIECE + 1, step)]
    apart = b"".join(piece + bytes(PIECE) for piece in dict.fromkeys(pieces))
    assert alike(apart[: enough * 2 * PIECE], result)
    assert not alike(apart[: (enough - 1) * 2 * PIECE], result)
    assert not alike(apart[: 2 * PIECE] * enough, result)  # the same piece again says nothing more


# --- processes -------------------------------------------------------------------------------------------------------


ANSWERING = """
import os
from hillhold_signer.patches import make_patch
def answer(patch): os.write(1, len(patch).to_bytes(8, "little") + patch)
def main():
    source = os.fdopen(0, "rb")
    while lengths := source.read(20):
        base, result = (source.read(int.from_bytes(lengths[at : at + 8], "little")) for at in (0, 8))
        answer({made})
"""
"""A process that answers something."""
FAULTS = {
    "killed": ("import os, signal\ndef main(): os.kill(os.getpid(), signal.SIGKILL)", "signal 9"),
    "no memory": ("def main(): raise MemoryError('all of it')", "MemoryError: all of it"),
    "hangs": ("import time\ndef main(): time.sleep(600)", "not made within"),
    "silent": ("def main(): return 0", "exit code 0"),
    "mute": ("import os, time\ndef main():\n    os.close(1)\n    time.sleep(600)", "signal 9"),
    "endless": ("import os\ndef main():\n    while True: os.write(1, b'HHP' + bytes(40))", "announced 5261384 bytes"),
    "short": ("import os\ndef main(): os.write(1, (100).to_bytes(8, 'little') + bytes(99))", "exit code 0"),
    "garbage": (ANSWERING.format(made="b'HHP' + bytes(40)"), "does not make the image"),
    "another": (
        ANSWERING.format(made="make_patch(base, result[:-1] + bytes([result[-1] ^ 1]))"),
        "does not make the image: other bytes come out",
    ),
    "deaf": ("def main(): raise SystemExit(3)", "exit code 3"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_process_that_fails_costs_its_patch_and_not_the_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    repository = started(tmp_path / "repo")
    add_release(repository, "pump", image("1.0.0"), WISH, NOW, patch_from=NO_PATCHES)
    code, says = FAULTS[fault]
    instead(monkeypatch, code)
    with PatchPool(2, patience=0.5 if fault == "hangs" else 60) as pool, Making(tmp_path / "work", pool) as making:
        (done,) = add_releases(repository, "pump", [(image("1.1.0", edits=3), WISH)], NOW, making=making)
    assert "pump/1.1.0/app.bin" in repository.state().line("pump").targets
    assert not done.patches
    failed = [item for item in done.left_out if item.base == "pump/1.0.0/app.bin"]
    assert [item.failed for item in failed] == [True]
    assert says in failed[0].reason
    assert not (tmp_path / "work").exists()


def test_a_patch_that_was_changed_on_the_disk_is_not_believed(tmp_path: Path) -> None:
    world, folder = World(2), tmp_path / "work"
    with suppress(KeyboardInterrupt), Making(folder) as making:
        assert len(making.make(world.task(ALL), world.read).kept) == 2
        raise KeyboardInterrupt
    files = sorted(folder.rglob("*.hhp*"))
    damaged = bytearray(files[0].read_bytes())
    damaged[-4] ^= 1
    files[0].write_bytes(damaged)
    with Making(folder) as making:
        made = making.make(world.task(ALL), world.read)
    assert [(len(made.kept), [item.failed for item in made.left_out if item.base])] == [(1, [True])]


def test_what_did_not_pay_earlier_is_made_once_more_where_it_would_pay_now(tmp_path: Path) -> None:
    world, folder = World(1), tmp_path / "work"
    with suppress(KeyboardInterrupt), Making(folder) as making:
        (kept,) = making.make(world.task(ALL), world.read).kept
        kept.file.with_name(f"{kept.file.name}.not").write_text("5")
        kept.file.unlink()
        raise KeyboardInterrupt
    with Making(folder) as making:
        assert len(making.make(world.task(ALL), world.read).kept) == 1


def test_no_more_bases_are_read_than_are_worked_on_and_their_order_is_newest_first(tmp_path: Path) -> None:
    world, ahead = World(12), []
    with PatchPool(2) as pool:
        report = lambda _path, done, _total, _kept: ahead.append(len(world.asked) - done)  # noqa: E731
        with Making(tmp_path / "work", pool, report) as making:
            making.make(world.task(ALL), world.read)
    assert world.asked[:2] == ["1.11.0", "1.10.0"]
    assert max(ahead[:12]) <= 2


def test_so_many_are_kept_and_those_that_save_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hillhold_signer.making.MAX_KEPT", 3)
    world, seen = World(6), []
    world.bytes["1.0.0"] = world.image[:-1] + b"x"  # the oldest is the nearest
    world.releases[0] = listed("1.0.0", world.bytes["1.0.0"])
    with Making(tmp_path / "work", report=lambda *said: seen.append(said[1:])) as making:
        made = making.make(world.task(ALL), world.read)
        sizes = {item.base: item.target.length for item in made.kept}
        others = {item.base: item.length or 0 for item in made.left_out if item.base}
        for item in made.kept:
            held, out = world.bytes[str(item.base).split("/")[1]], bytearray()
            decoder = PatchDecoder(lambda at, length, held=held: held[at : at + length], len(held), len(world.image))
            out += b"".join(decoder.feed(item.read()))
            decoder.finish()
            assert bytes(out) == world.image
    assert next(iter(sizes)) == "pump/1.0.0/app.bin"
    assert len(sizes) == len(others) == 3
    assert max(sizes.values()) <= min(others.values())
    assert {item.reason for item in made.left_out if item.base} == {"others save more"}
    assert seen[-1] == (6, 6, 3)


def test_a_base_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    world = World(3)

    def read(release: Release) -> bytes:
        if str(release.version) == "1.1.0":
            raise RepositoryRefused(release.path, expected="its bytes", got="none")
        return world.read(release)

    with Making(tmp_path / "work") as making:
        made = making.make(world.task(ALL), read)
    assert {item.base for item in made.kept} == {"pump/1.0.0/app.bin", "pump/1.2.0/app.bin"}
    assert [item.reason for item in made.left_out if item.failed] == [
        "pump/1.1.0/app.bin: expected its bytes, got none"
    ]


def test_an_image_that_compresses_also_travels_compressed(tmp_path: Path) -> None:
    most, limit = limits(100_000, 40_000)
    assert (most, limit) == (95_000, 32_000)
    assert limits(100_000, 96_000)[1] == limits(100_000, None)[1] == 80_000
    assert limits(1_000, 10)[0] == 0  # nothing is saved by a file so small
    world = World(1)
    world.image = firmware(1, 500) * 20
    with Making(tmp_path / "work") as making:
        made = making.make(world.task(PatchFrom(0)), world.read)
        (whole,) = made.kept
        decoder = PatchDecoder(lambda *_: b"", 0, len(world.image))
        assert b"".join(decoder.feed(whole.read())) == world.image
        decoder.finish()
    assert whole.target.path == patch_path("pump/2.0.0/app.bin", NOTHING_SHA256)
    custom = whole.target.custom["hillhold"]
    assert (custom["base"], custom["base_length"]) == (sha256(b"").hexdigest(), 0)


@pytest.mark.parametrize("whole", [True, False])
def test_a_patch_is_measured_by_the_compressed_image_where_that_is_smaller(tmp_path: Path, *, whole: bool) -> None:
    world = World(1)
    world.image = firmware(1, 500) * 20
    world.bytes["1.0.0"] = world.image
    for seed in range(175):
        world.bytes["1.0.0"] = edited(world.bytes["1.0.0"], seed)
    world.releases[0] = listed("1.0.0", world.bytes["1.0.0"])
    compressed = len(make_patch(b"", world.image))
    length = len(make_patch(world.bytes["1.0.0"], world.image))
    assert compressed * WORTH_PERCENT // 100 < length < len(world.image) * WORTH_PERCENT // 100
    with Making(tmp_path / "work") as making:
        made = making.make(world.task(PatchFrom(whole=whole)), world.read)
    assert [item.target.length for item in made.kept] == ([compressed] if whole else [])
    assert made.left_out == (LeftOut("pump/1.0.0/app.bin", "pump/2.0.0/app.bin", "not worth it", length),)


# --- interruptions ---------------------------------------------------------------------------------------------------


class Counting(PatchPool):
    """Counts the patches that it is asked for."""

    def __init__(self) -> None:
        super().__init__(2)
        self.keys: list[object] = []

    def make(self, jobs: Iterable[Job[object]]):  # type: ignore[no-untyped-def,override]
        def counted() -> Iterable[Job[object]]:
            for job in jobs:
                self.keys.append(job.key)
                yield job

        return super().make(counted())


@LINUX
def test_an_interruption_ends_the_processes_and_the_next_time_goes_on(tmp_path: Path) -> None:
    world, folder = World(8), tmp_path / "work"

    def stop(_path: str, done: int, _total: int, _kept: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    others = children()  # other tests' servers
    first, second = Counting(), Counting()
    with first, pytest.raises(KeyboardInterrupt), Making(folder, first, stop) as making:
        making.make(world.task(ALL), world.read)
    assert children() <= others
    assert [item for item in folder.rglob(".*") if item.is_file()] == []
    with second, Making(folder, second) as making:
        assert len(making.make(world.task(ALL), world.read).kept) == 8
        before = len(second.keys)
        assert len(making.make(world.task(ALL), world.read).kept) == 8  # asked again, as under the lock
        assert len(second.keys) == before
    assert before == 8 - 3  # nor is the one from nothing made again
    assert not folder.exists()


@pytest.mark.slow
@pytest.mark.deep
def test_hundreds_of_bases_take_the_memory_of_a_few_and_an_interruption_costs_little(tmp_path: Path) -> None:
    count, length, folder = 300, 40_000, tmp_path / "work"
    world = World(1, length)
    bases = [edited(world.image, number) for number in range(count)]
    world.releases = [listed(f"1.0.{number}", data) for number, data in enumerate(bases)]
    del bases
    read = lambda release: edited(world.image, int(str(release.version).split(".")[2]))  # noqa: E731

    def stop(_path: str, done: int, _total: int, _kept: int) -> None:
        if done == count * 3 // 4:
            raise KeyboardInterrupt

    first, second = Counting(), Counting()
    tracemalloc.start()
    try:
        with first, pytest.raises(KeyboardInterrupt), Making(folder, first, stop) as making:
            making.make(world.task(ALL), read)
        with second, Making(folder, second) as making:
            made = making.make(world.task(ALL), read)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(second.keys) <= count // 4
    assert len(made.kept) == MAX_KEPT
    assert [item.reason for item in made.left_out if item.base] == ["others save more"] * (count - MAX_KEPT)
    longest = max(item.target.length for item in made.kept)
    assert longest <= min(item.length or 0 for item in made.left_out if item.base)
    assert peak < count * length // 8


@LINUX
def test_ctrl_c_leaves_the_repository_as_it_was_and_no_process(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    release(repository, image("1.0.0"))
    before = tree(tmp_path / "repo")
    file = tmp_path / "app.bin"
    file.write_bytes(image("1.1.0", edits=3))
    code = (
        f"from hillhold_signer import patchpool\nimport sys\n"
        f"patchpool._START = patchpool._START.replace({MAIN!r}, {MAIN!r} + '\\nimport time\\ndef main(): time.sleep(600)')\n"
        f"from hillhold_signer.cli import main\nmain(sys.argv[1:])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "add", str(tmp_path / "repo"), "pump", str(file), "--hardware", HARDWARE[0]],
        stderr=subprocess.PIPE,
        text=True,
    )
    started_ones: list[str] = []
    while process.poll() is None and not started_ones:
        for task in Path(f"/proc/{process.pid}/task").iterdir():
            started_ones += (task / "children").read_text().split()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert not [pid for pid in started_ones if Path(f"/proc/{pid}").exists()]
    assert {name: data for name, data in tree(tmp_path / "repo").items() if name != ".lock"} == {
        name: data for name, data in before.items() if name != ".lock"
    }


# --- in a repository -------------------------------------------------------------------------------------------------


def test_nothing_is_locked_while_patches_are_made(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    release(repository, image("1.0.0"))
    came: list[str] = []

    def meanwhile(*_: object) -> None:
        if not came:
            add_release(
                Repository(tmp_path / "repo"), "pump", image("1.1.0", edits=2), WISH, NOW, patch_from=NO_PATCHES
            )
            came.append("1.1.0")

    with Making(report=meanwhile) as making:
        (done,) = add_releases(repository, "pump", [(image("1.2.0", edits=3), WISH)], NOW, making=making)
    bases = {entry.custom["hillhold"]["base"] for entry in done.patches}
    assert bases == {sha256(image("1.0.0")).hexdigest(), sha256(image("1.1.0", edits=2)).hexdigest()}
    assert {"pump/1.1.0/app.bin", "pump/1.2.0/app.bin"} <= repository.state().line("pump").targets.keys()


def test_a_version_to_patch_from_has_to_be_listed_for_the_place(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    release(repository, image("1.0.0"))
    before = tree(tmp_path / "repo")
    wanted = PatchFrom.parse(["1.0.1"])
    with pytest.raises(ReleaseRefused, match=r"listed version for this place: 1\.0\.0, got 1\.0\.1"):
        add_release(repository, "pump", image("1.1.0", edits=2), WISH, NOW, patch_from=wanted)
    assert tree(tmp_path / "repo") == before


def test_patches_that_the_role_has_no_room_for_are_left_out_and_the_release_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = started(tmp_path / "repo")
    release(repository, image("1.0.0"))
    monkeypatch.setattr(adding, "max_bytes", lambda _role: adding.ROOM)
    done = add_release(repository, "pump", image("1.1.0", edits=2), WISH, NOW)
    assert not done.patches
    assert adding.NO_ROOM in {item.reason for item in done.left_out}
    sign_all(repository, "release-1", "release-2")


@pytest.mark.slow
def test_pruning_also_drops_patches_to_releases_that_no_device_would_choose(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    for number in range(4):
        release(repository, image(f"1.{number}.0", edits=number), patch_from=DEFAULT)
    dropped = prune_releases(repository, "pump", 3, NOW)
    left = [
        found
        for entry in repository.state().line("pump").targets.values()
        if isinstance(found := understood(entry), Patch)
    ]
    assert {patch.makes for patch in left} == {"pump/1.3.0/app.bin"}
    assert sha256(image("1.0.0")).digest() in {patch.base for patch in left}  # who runs what was pruned still gets on
    assert [path for path in dropped if not path.endswith(".patch")] == ["pump/1.0.0/app.bin"]


def test_the_command_names_what_was_kept_and_what_was_left_out(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    release(repository, image("1.0.0"))
    release(repository, image("1.1.0", seed=9))
    file = tmp_path / "app.bin"
    file.write_bytes(image("1.2.0", edits=2))
    words = ("add", str(tmp_path / "repo"), "pump", str(file), "--hardware", HARDWARE[0], "--patch-from")
    refused = CliRunner().invoke(main, [*words, "some"])
    assert (refused.exit_code, "--patch-from" in refused.output) == (2, True)
    answer = CliRunner().invoke(main, [*words, "all", "--json"])
    assert answer.exit_code == 0, answer.output
    (found,) = json.loads(answer.stdout)["releases"]
    (patch,) = found["patches"]
    assert patch["path"] == patch_path("pump/1.2.0/app.bin", sha256(image("1.0.0")).digest())
    left = {item["base"]: item for item in found["left_out"]}
    assert left["pump/1.1.0/app.bin"] == {
        **{"base": "pump/1.1.0/app.bin", "makes": "pump/1.2.0/app.bin"},
        **{"reason": "next to nothing in common", "length": None, "failed": False},
    }
    assert left[None]["reason"] == "not worth it"
    assert not list((tmp_path / "repo").glob(".patches*"))
