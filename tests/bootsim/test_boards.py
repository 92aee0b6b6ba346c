"""Boards as data: those that ship take updates in their boot mode, and a file that describes none that can be is refused in words."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import Bench
from forge import Repo
from hillhold_bootsim.application import SelfTest, Verdict
from hillhold_bootsim.boards import (
    DEFAULT,
    MAX_FILE,
    Board,
    BoardFileError,
    UnknownBoardError,
    board,
    board_text,
    load_board,
    parse_board,
    shipped_boards,
)
from hillhold_bootsim.bootflags import record_size
from hillhold_bootsim.cli import main
from hillhold_bootsim.counter import entry_size
from hillhold_bootsim.layout import BootMode
from hillhold_verifier.answers import BoardRefused
from hillhold_verifier.errors import MisuseError, OperationalError
from hillhold_verifier.select import Device
from hillhold_verifier.smp import Group, Op, OsCommand
from hillhold_verifier.state import encode_record
from offers import image

SHIPPED = sorted(shipped_boards())
PARTS = {  # from the reference manuals: bytes of flash, sizes of its sectors, unit, erased value
    "mimxrt1060_evk": (8 * 1024 * 1024, {4096}, 1, 0xFF),
    "nrf52840dk": (1024 * 1024, {4096}, 4, 0xFF),
    "nrf5340dk": ((1024 + 256) * 1024, {4096, 2048}, 4, 0xFF),
    "nucleo_f429zi": (2 * 1024 * 1024, {16384, 65536, 131072}, 4, 0xFF),
    "nucleo_h563zi": (2 * 1024 * 1024, {8192}, 16, 0xFF),
    "nucleo_l073rz": (192 * 1024, {128}, 4, 0x00),
    "nucleo_l496zg": (1024 * 1024, {2048}, 8, 0xFF),
    "virtual-m4-1m": (1024 * 1024, {4096}, 4, 0xFF),
}


# --- those that ship --------------------------------------------------------------------------------------------------


def offer_set(repo: Repo, spec: Board, version: str, counter: int) -> None:
    """List one release for each component, to be installed together."""
    for number, name in enumerate(spec.components):
        data = image(version, counter, seed=number + 1)
        path = repo.add_release(version, data, counter=counter, file=f"{name}.bin", component=name)
        repo.change(path, format="mcuboot", **({"set": version} if len(spec.components) > 1 else {}))
    repo.publish()


def running(bench: Bench) -> tuple[list[str], bool]:
    """Versions that the bootloader started, and whether that is a trial."""
    assert bench.board.info
    outcome = bench.board.info.outcome
    return [str(booted.image.version) for booted in outcome.images], outcome.trial


@pytest.mark.parametrize("name", SHIPPED)
def test_every_board_installs_updates_confirms_and_goes_back(name: str) -> None:
    spec = board(name)
    repo, count = Repo(), len(spec.components)
    offer_set(repo, spec, "1.0.0", 1)
    script = SelfTest(by_version={"1.2.0": Verdict.FAIL})
    device = Device("pump", "nrf-a", "serial-1", spec.components)
    bench = Bench(repo, spec.layout, device=device, self_test=script, buffer=spec.buffer)
    for version, counter in (("1.0.0", 1), ("1.1.0", 2)):
        if version != "1.0.0":
            offer_set(repo, spec, version, counter)
        pushed = bench.push()
        assert pushed.installed, pushed.reasons
        assert running(bench) == ([version] * count, True)  # confirmed meanwhile:
        bench.power_cycle()
        assert running(bench) == ([version] * count, False)
        assert [store.value() for store in bench.parts.counters] == [counter] * count
    offer_set(repo, spec, "1.2.0", 2)
    bench.push()
    assert running(bench) == (["1.1.0"] * count, False)
    bench.power_cycle()
    assert running(bench) == (["1.1.0"] * count, False)
    assert len(bench.stored().failed) == 1
    # Metadata of two further releases would fit as well.
    assert 2 * len(encode_record(9, bench.stored())) < bench.areas.size


@pytest.mark.parametrize(("name", "more"), [("nucleo_l073rz", 0), ("nucleo_l073rz", 1), ("bench", 0), ("bench", 1)])
def test_the_longest_image_that_is_stated_fits_and_no_longer_one(name: str, more: int) -> None:
    spec = board(name) if name in SHIPPED else parse_board(BASE.replace("swap", "remap"), "mine.toml", Path())
    (size,) = spec.image_sizes
    frame = len(image("1.0.0", 1, length=1000)) - 1000
    repo = Repo()
    bench = None
    for version in ("1.0.0", "1.1.0"):
        data = image(version, 1, length=size - frame + (more if version == "1.1.0" else 0))
        repo.change(repo.add_release(version, data, counter=1), format="mcuboot")
        repo.publish()
        bench = bench or Bench(repo, spec.layout, buffer=spec.buffer)
        if len(data) > size:
            with pytest.raises(BoardRefused, match=rf"slot: expected .* bytes, got {size}"):
                bench.push()
        else:
            assert bench.push().installed
    assert bench
    bench.power_cycle()
    assert running(bench) == (["1.0.0" if more else "1.1.0"], False)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_agent_states_the_buffers_of_its_board(name: str) -> None:
    spec, repo = board(name), Repo()
    repo.publish()
    device = Device("pump", "nrf-a", "serial-1", spec.components)
    bench = Bench(repo, spec.layout, device=device, buffer=spec.buffer, buffers=spec.buffers)
    stated = {"buf_size": spec.buffer, "buf_count": spec.buffers}
    assert bench.ask(Op.READ, Group.OS, OsCommand.MCUMGR_PARAMETERS) == stated
    assert spec.buffers > 1


@pytest.mark.parametrize("name", SHIPPED)
def test_every_partition_that_is_printed_fits_the_part(name: str) -> None:
    size, sectors, unit, erased = PARTS[name]
    said = json.loads(CliRunner().invoke(main, ["boards", "show", name, "--json"]).stdout)
    flash = said["flash"]
    edges = [0]
    for run in flash["sectors"]:
        edges += [edges[-1] + run["size"] * (at + 1) for at in range(run["count"])]
    assert edges == sorted(set(edges))
    assert (flash["size"], {run["size"] for run in flash["sectors"]}) == (edges[-1], sectors) == (size, sectors)
    assert (flash["unit"], flash["erased_value"]) == (unit, erased)
    ranges = sorted((part["offset"], part["offset"] + part["size"]) for part in said["partitions"])
    assert all(start in edges and end in edges for start, end in ranges)
    assert all(first[1] <= second[0] for first, second in pairwise(ranges))
    names = {part["name"] for part in said["partitions"]}
    slots = {f"slot {at} of component {number}" for at in (0, 1) for number in range(len(said["components"]))}
    assert names == {"flags 0", "flags 1", "state 0", "state 1", "keys 0", "keys 1", *slots}


def test_each_file_is_called_like_its_board_and_brings_no_keys() -> None:
    assert set(PARTS) == set(SHIPPED)
    for name in SHIPPED:
        assert (board(name).name, board(name).image_keys) == (name, ())
        assert board(name).hardware == name
    assert {board(name).layout.mode for name in SHIPPED} == set(BootMode)
    assert board() == board(DEFAULT)


# --- names and files --------------------------------------------------------------------------------------------------


def test_a_copy_of_a_shipped_board_can_be_changed(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(board_text("nrf52840dk").replace("baud = 115200", "baud = 1000000\nimage_keys = ['keys/boot.pub']"))
    found = board(str(file))
    assert (found.baud, found.image_keys) == (1_000_000, (tmp_path / "keys/boot.pub",))
    assert found.layout == board("nrf52840dk").layout


def test_a_name_is_never_taken_for_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nrf52840dk").write_text("nothing")
    Path("mine").write_text(board_text("nucleo_l073rz"))
    assert board("nrf52840dk").name == "nrf52840dk"
    with pytest.raises(UnknownBoardError, match=r"board mine: expected one of mimxrt1060_evk, .*, or a file"):
        board("mine")
    assert board("./mine").name == "nucleo_l073rz"


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.toml", Path("a\0.toml")):
        with pytest.raises(OperationalError, match="cannot read board file"):
            load_board(path)
    file = tmp_path / "board.toml"
    file.write_bytes(b"# " + b"x" * MAX_FILE)
    with pytest.raises(BoardFileError, match=f"board.toml: expected at most {MAX_FILE} bytes, got more"):
        load_board(file)
    file.write_bytes(b'name = "\xff"')
    with pytest.raises(BoardFileError, match=r"board.toml: expected UTF-8, got byte 8"):
        load_board(file)


# --- files that are refused -------------------------------------------------------------------------------------------

BASE = """
format = 1
name = "mine"
description = "a board"
hardware = "mine-a"
boot = "swap"
buffer = 1024
buffers = 4
baud = 115200
image_keys = []
[flash]
sectors = [{ count = 64, size = 0x800 }]
unit = 8
erased_value = 0xff
one_way = 64
[partitions]
flags = [{ offset = 0x0000, size = 0x0800 }, { offset = 0x0800, size = 0x0800 }]
state = [{ offset = 0x1000, size = 0x4000 }, { offset = 0x5000, size = 0x4000 }]
[[component]]
name = "app"
slots = [{ offset = 0x9000, size = 0x4000 }, { offset = 0xd000, size = 0x4800 }]
"""
SECOND = (
    '[[component]]\nname = "app"\nslots = [{ offset = 0x12000, size = 0x4000 }, { offset = 0x16000, size = 0x4000 }]\n'
)


def test_the_least_that_a_file_says() -> None:
    found = parse_board(BASE.replace("image_keys = []\n", ""), "mine.toml", Path("folder"))
    assert (found.name, found.hardware, found.components, found.layout.keys) == ("mine", "mine-a", ("app",), None)
    assert found.image_sizes == (0x4000 - 0x800,)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("", "[", "mine.toml: expected TOML, got"),
        ("format = 1", "format = " + "1" * 5000, "mine.toml: expected TOML, got"),
        ("format = 1", "format = 0x" + "1" * 5000, "mine.toml: format: expected 1, got 0x1111"),
        ("format = 1", "format = 2", "mine.toml: format: expected 1, got 2"),
        ("format = 1", "format = true", "mine.toml: format: expected 1, got bool True"),
        ("format = 1\n", "", "mine.toml: format: expected 1, got none"),
        ("baud", "bauds", "mine.toml: baud: expected an integer from 300 to 12000000, got none"),
        (
            "baud = 115200",
            "baud = 115200.0",
            "mine.toml: baud: expected an integer from 300 to 12000000, got float 115200.0",
        ),
        ("baud = 115200", "baud = 0", "mine.toml: baud: expected an integer from 300 to 12000000, got 0"),
        ("buffer = 1024", "buffer = 64", "mine.toml: buffer: expected an integer from 128 to 16384, got 64"),
        ("buffers = 4", "buffers = 0", "mine.toml: buffers: expected an integer from 1 to 100, got 0"),
        ("buffers = 4\n", "", "mine.toml: buffers: expected an integer from 1 to 100, got none"),
        ("buffer = 1024", "buffer = 1024\nspeed = 1", "mine.toml: expected keys that there are, got 'speed'"),
        ('name = "mine"', 'name = "Mine"', "mine.toml: name: expected a name of up to 64 characters"),
        ('name = "mine"', f'name = "{"m" * 65}"', "mine.toml: name: expected a name of up to 64 characters"),
        ('"mine-a"', '"mine/a"', "mine.toml: hardware: expected a name"),
        (
            '"a board"',
            '"a \\u001b[2Jboard"',
            "mine.toml: description: expected a text of 1 to 200 printable characters",
        ),
        ('"a board"', '""', "mine.toml: description: expected a text"),
        ('"swap"', '"direct-xip"', "mine.toml: boot: expected remap or swap, got 'direct-xip'"),
        ("[]", '["a.pub", 1]', "mine.toml: image_keys: expected a list of up to 16 paths, got"),
        ("[]", '"a.pub"', "mine.toml: image_keys: expected a list of up to 16 paths, got str 'a.pub'"),
        ("[]", '["a\\u0000.pub"]', "mine.toml: image_keys: expected a list of up to 16 paths"),
        ("unit = 8", "unit = 3", "mine.toml: flash: geometry: unit: expected a power of two up to 256, got 3"),
        (
            "unit = 8",
            "unit = 256",
            "mine.toml: flash: geometry: one-way region: expected whole units up to 65536, got 64",
        ),
        ("0xff", "0x7f", "mine.toml: flash: geometry: erased value: expected 0x00 or 0xff, got 0x7f"),
        ("unit = 8", "unit = 8\npage = 8", "mine.toml: flash: expected keys that there are, got 'page'"),
        ("count = 64,", "", "mine.toml: flash: sectors 0: count: expected an integer from 1 to 4294967295, got none"),
        ("count = 64", "count = -64", "mine.toml: flash: sectors 0: count: expected an integer from 1"),
        ("count = 64", "count = 0x7fffffff", "geometry: number of sectors: expected 1 to 65536, got 2147483647"),
        (
            "count = 64, size = 0x800",
            "count = 64, size = 0x200000",
            "geometry: size: expected at most 67108864, got 134217728",
        ),
        (
            "count = 64, size = 0x800",
            "count = 64, size = 0x804",
            "geometry: sizes of sectors: expected whole units, got 2052",
        ),
        (
            "[{ count = 64, size = 0x800 }]",
            "[]",
            "mine.toml: flash: sectors: expected a list of tables, not empty, got []",
        ),
        (
            "[{ count = 64, size = 0x800 }]",
            "64",
            "mine.toml: flash: sectors: expected a list of tables, not empty, got int 64",
        ),
        (
            "one_way = 64",
            "one_way = 0",
            "mine.toml: flash: one_way: expected at least 8 bytes for a counter of each component, got 0",
        ),
        (
            "{ offset = 0x0000, size = 0x0800 }, ",
            "",
            "mine.toml: partitions: flags: expected two ranges { offset, size }, got 1",
        ),
        (
            "0x0800 }]",
            "0x0800, name = 1 }]",
            "mine.toml: partitions: flags 1: expected keys that there are, got 'name'",
        ),
        ("[partitions]", "[partitions]\nkey = 1", "mine.toml: partitions: expected keys that there are, got 'key'"),
        (
            "[partitions]",
            "[partitions.x]",
            "mine.toml: partitions: flags: expected a list of tables, not empty, got none",
        ),
        (
            "offset = 0x0800, size = 0x0800",
            "offset = 0x0400, size = 0x0800",
            "mine.toml: layout: flags 1: expected whole sectors of a flash of 0x20000, got 0x800 bytes at 0x400",
        ),
        (
            "offset = 0x0800, size = 0x0800",
            "offset = 0x0800, size = 0x1000",
            "mine.toml: layout: state 0: expected an offset from 0x1800 on, behind flags 1, got 0x1000",
        ),
        ("offset = 0x0800, size = 0x0800", "offset = 0x0000, size = 0x0800", "got 0x0"),
        (
            "size = 0x4800",
            "size = 0x14000",
            "mine.toml: layout: slot 1 of component 0: expected whole sectors of a flash of 0x20000",
        ),
        ("size = 0x4800", "size = 0xffffffff", "mine.toml: layout: slot 1 of component 0: expected whole sectors"),
        ("size = 0x4800", "size = 0", "mine.toml: component 0: slots 1: size: expected an integer from 1"),
        (
            "size = 0x4000 }, { offset = 0x5000, size = 0x4000",
            "size = 0x4000 }, { offset = 0x5000, size = 0x1800",
            "at least 8192 bytes",
        ),
        (
            "size = 0x4000 }, { offset = 0xd000, size = 0x4800",
            "size = 0x0800 }, { offset = 0xd000, size = 0x1000",
            "leave no room",
        ),
        (
            "size = 0x4000 }, { offset = 0xd000, size = 0x4800",
            "size = 0x4000 }, { offset = 0xd000, size = 0x1000",
            "leave no room",
        ),
        ("unit = 8\nerased_value = 0xff\none_way = 64", "unit = 64\nerased_value = 0xff\none_way = 64", "go up to 32"),
        ("[[component]]", "[component]", "mine.toml: component: expected a list of tables, not empty, got dict"),
        ("0x4800 }]\n", "0x4800 }]\n" + SECOND, "mine.toml: component: expected distinct names, got app, app"),
        (
            "0x4800 }]\n",
            "0x4800 }]\n" + "".join(SECOND.replace("app", f"c{n}") for n in range(4)),
            "expected 1 to 4 components, got 5",
        ),
        (
            "count = 64, size = 0x800 }]",
            "count = 26, size = 0x800 }, { count = 2, size = 0x1000 }, { count = 34, size = 0x800 }]",
            "mine.toml: layout: slots of component 0: expected sectors of one size, got several in 0x4000 bytes at 0x9000",
        ),
    ],
)
def test_a_file_that_describes_no_board_is_refused(old: str, new: str, words: str) -> None:
    with pytest.raises(BoardFileError) as refused:
        parse_board(BASE.replace(old, new, 1) if old else new, "mine.toml", Path())
    assert str(refused.value).startswith("mine.toml: ")
    assert words in str(refused.value)
    assert len(str(refused.value)) < 300


ODD = [
    *("-1", "0", "1", "3", "0xffffffff", "9223372036854775808", "1.0", "inf", "nan", "true", '""', '"x"', '"\\u0000"'),
    *(
        "[]",
        "[[]]",
        "[{}]",
        "[{}, {}]",
        "{}",
        "1979-05-27",
        "[1, 2]",
        '["x", "x"]',
        "[{ offset = 0, size = 0 }, { offset = 0, size = 0 }]",
    ),
]


def test_no_value_in_any_place_is_an_error_of_another_kind() -> None:
    """Every value, and every list of values, is replaced by every odd one."""
    places = [found.span(1) for found in re.finditer(r'= (?=("[^"]*"|[0-9a-fx]+|\[.*\]))', BASE)]
    assert len(places) == 31
    refused = 0
    for start, end in places:
        for odd in ODD:
            try:
                parse_board(BASE[:start] + odd + BASE[end:], "mine.toml", Path())
            except BoardFileError:
                refused += 1
    assert len(places) * len(ODD) - 40 < refused < len(places) * len(ODD)


def test_a_device_of_other_components_is_not_provisioned() -> None:
    spec, repo = board("nrf5340dk"), Repo()
    repo.publish()
    with pytest.raises(MisuseError, match="components of the device: expected 2, got 1"):
        Bench(repo, spec.layout)


def test_nested_beyond_all_measure_is_no_toml() -> None:
    with pytest.raises(BoardFileError, match="expected TOML"):
        parse_board("a = " + "[" * 30_000, "mine.toml", Path())


def test_flags_of_many_components_need_their_room() -> None:
    """A flag sector that holds the record of one component, and not that of two."""
    text = BASE.replace("count = 64, size = 0x800", "count = 1024, size = 0x80").replace(
        'boot = "swap"', 'boot = "remap"'
    )
    one = text.replace("0x0800 }", "0x0080 }")
    assert parse_board(one, "mine.toml", Path()).components == ("app",)
    needed = record_size(2)
    with pytest.raises(
        BoardFileError, match=f"partitions: flags: expected at least {needed} bytes in each area, got 128"
    ):
        parse_board(one + SECOND.replace("app", "net"), "mine.toml", Path())


def test_each_component_needs_a_counter() -> None:
    text = (BASE + SECOND.replace("app", "net")).replace("one_way = 64", "one_way = 8")
    with pytest.raises(
        BoardFileError, match=f"expected at least {2 * entry_size(8)} bytes for a counter of each component"
    ):
        parse_board(text, "mine.toml", Path())


@pytest.mark.parametrize("size", [0x80, 0x100, 0x180, 0x400])
def test_a_trailer_that_would_begin_before_the_flash_is_no_room(size: int) -> None:
    """Slots at the start of the flash that are smaller than their own trailers: no offset is counted below zero."""
    text = f"""
format = 1
name = "mine"
description = "a board"
hardware = "mine-a"
boot = "swap"
buffer = 1024
buffers = 4
baud = 115200
[flash]
sectors = [{{ count = 1024, size = 0x20 }}]
unit = 32
erased_value = 0xff
one_way = 64
[partitions]
flags = [{{ offset = 0x0800, size = 0x0100 }}, {{ offset = 0x0900, size = 0x0100 }}]
state = [{{ offset = 0x1000, size = 0x2000 }}, {{ offset = 0x3000, size = 0x2000 }}]
[[component]]
name = "app"
slots = [{{ offset = 0, size = {size} }}, {{ offset = {size}, size = {size} }}]
"""
    with pytest.raises(BoardFileError, match="leave no room for an image beside their trailers"):
        parse_board(text, "mine.toml", Path())


# --- commands ---------------------------------------------------------------------------------------------------------


def test_the_command_lists_and_shows_them() -> None:
    listed = CliRunner().invoke(main, ["boards"])
    assert [line.split()[0] for line in listed.stdout.splitlines()] == SHIPPED
    said = json.loads(CliRunner().invoke(main, ["boards", "--json"]).stdout)
    assert [item["name"] for item in said["boards"]] == SHIPPED
    shown = CliRunner().invoke(main, ["boards", "show", "nucleo_h563zi"])
    assert (shown.exit_code, shown.stdout) == (0, board_text("nucleo_h563zi"))


def test_the_command_says_what_a_file_lacks(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(BASE.replace("unit = 8", "unit = 3"))
    done = CliRunner().invoke(main, ["boards", "show", str(file)])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == f"error: {file}: flash: geometry: unit: expected a power of two up to 256, got 3\n"
    done = CliRunner().invoke(main, ["boards", "show", "mine"])
    assert done.exit_code == 2
    assert "hint: `hillhold-lab boards` lists them" in done.stderr
