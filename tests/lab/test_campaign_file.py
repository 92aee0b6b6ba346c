"""A campaign's file is read strictly: what it orders is what is done."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns import SMALL, order
from hillhold_bootsim.lab.campaign import MAX_FILE, parse_order, read_order
from hillhold_bootsim.lab.catalogue import CATALOGUE
from hillhold_bootsim.lab.errors import CampaignRefused
from hillhold_bootsim.lab.power import Command, Hub, Relay
from hillhold_bootsim.linefaults import LineFaults
from hillhold_signer.errors import FileRefused

LEAST = 'format = 1\ntitle = "t"\n[[item]]\nname = "one"\nboard = "nrf52840dk"\n[soak]\nupdates = 1\n'


def test_what_is_not_said_is_as_little_as_can_be() -> None:
    found = order(LEAST)
    assert (found.seed, found.workers, found.scheduler, found.soak) == (0, None, "", 1)
    assert (found.attacks, found.lines, found.cuts.spread, found.cuts.depth) == ((), (), 0, 0)


def test_a_whole_file() -> None:
    found = order(
        SMALL
        + """
[paper]
laboratory = "L"
number = "7"
deviations = ["no climate chamber"]
signatories = ["Ada, head"]
[[item]]
name = "two"
port = "/dev/ttyACM0"
baud = 9600
dtr = true
serial_number = "0042"
header = 512
power = { relay = "/dev/ttyUSB1", on = "a00101a2", off = "a00100a1" }
[[item]]
name = "three"
adapter = "mine.py"
power = { hub = "1-1.4", port = 2 }
[[item]]
name = "four"
port = "COM3"
power = { on = ["gpio", "set"], off = ["gpio", "clear; reboot"] }
"""
    )
    assert found.paper.deviations == ("no climate chamber",)
    one, two, three, four = found.items
    assert one.is_virtual
    assert two.power == Relay("/dev/ttyUSB1", bytes.fromhex("a00101a2"), bytes.fromhex("a00100a1"))
    assert (two.baud, two.dtr, two.header, two.serial_number) == (9600, True, 512, "0042")
    assert three.power == Hub("1-1.4", 2)
    assert four.power == Command(("gpio", "set"), ("gpio", "clear; reboot"))
    assert found.lines[0].faults == LineFaults(errors=1e-4)
    assert found.excluded == {"wrong-hardware": "done last week"}
    assert "wrong-hardware" not in found.attacks


def test_attacks_are_in_the_order_of_the_catalogue_whatever_the_file_says() -> None:
    found = order(
        SMALL.replace('["rollback-timestamp", "wrong-hardware", "lower-version"]', '["keys", "metadata", "keys"]')
    )
    ids = [attack.case.id for attack in CATALOGUE if attack.case.group in ("keys", "metadata")]
    assert [*found.attacks] == [name for name in ids if name != "wrong-hardware"]


WRONG = {
    "not TOML": ("format", "= format", "TOML in UTF-8"),
    "another format": ("format = 1", "format = 2", "format: expected 1, got 2"),
    "no title": ('title = "A small campaign"', "", "title: expected a text"),
    "an unknown key": ("seed = 3", "seed = 3\nsed = 4", "expected keys that there are, got 'sed'"),
    "a seed that is a truth": ("seed = 3", "seed = true", "seed: expected an integer"),
    "no item": ('[[item]]\nname = "one"\nboard = "virtual-m4-1m"', "", "item: expected a list of tables"),
    "an item of no kind": ('board = "virtual-m4-1m"', "", "expected one of board, port, adapter, got none of them"),
    "an item of two kinds": ('board = "virtual-m4-1m"', 'board = "b"\nport = "p"', "got board and port"),
    "a switch of a virtual board": ("virtual-m4-1m\"", 'virtual-m4-1m"\npower = { hub = "1", port = 1 }', "got 'power'"),
    "the speed of a virtual board": ("virtual-m4-1m\"", 'virtual-m4-1m"\nbaud = 9600', "got 'baud'"),
    "two items of one name": ("[attacks]", '[[item]]\nname = "one"\nboard = "b"\n[attacks]', "'one' twice"),
    "a case that is not there": ('"lower-version"]', '"lower-versio"]', "got 'lower-versio'"),
    "no case": ('["rollback-timestamp", "wrong-hardware", "lower-version"]', "[]", "a list of 1 to 1000 texts"),
    "left out, and not chosen": ('case = "wrong-hardware"', 'case = "expired-root"', "one of those that `cases` names"),
    "left out without a reason": (', reason = "done last week"', "", "reason: expected a text"),
    "left out for an empty reason": ('"done last week"', '""', "reason: expected a text"),
    "a rate above one": ("1e-4", "1.5", "errors: expected a number from 0 to 1, got 1.5"),
    "a rate that is no number": ("1e-4", "nan", "errors: expected a number from 0 to 1, got nan"),
    "a line whose name is no id": ('"noisy"', '"Noisy line"', "name: expected a name"),
    "two lines of one name": ("[power_cuts]", '[[line]]\nname = "noisy"\n[power_cuts]', "'noisy' twice"),
    "cuts without end": ("spread = 3", "spread = 1e9", "spread: expected an integer"),
    "no updates": ("updates = 4", "updates = 0", "updates: expected an integer from 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_is_wrong_is_refused_by_its_place(name: str) -> None:
    old, new, words = WRONG[name]
    assert old in SMALL
    with pytest.raises(CampaignRefused) as caught:
        order(SMALL.replace(old, new, 1))
    assert words in str(caught.value)
    assert "campaign.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("power", "words"),
    [
        ('{ hub = "../1", port = 1 }', "hub: expected"),
        ('{ hub = "1-1" }', "port: expected"),
        ('{ relay = "p", on = "xy", off = "00" }', "on: expected bytes in hexadecimal"),
        ('{ on = [], off = ["x"] }', "on: expected a list of 1 to"),
        ('{ on = "poweroff", off = "poweroff" }', "on: expected a list"),
        ('{ on = ["a"], off = ["b"], shell = true }', "got 'shell'"),
    ],
)
def test_a_switch_that_cannot_be_is_refused(power: str, words: str) -> None:
    with pytest.raises(CampaignRefused) as caught:
        order(SMALL.replace('board = "virtual-m4-1m"', f'port = "p"\npower = {power}', 1))
    assert words in str(caught.value)


def test_a_misspelt_case_is_named_as_it_may_be_meant() -> None:
    with pytest.raises(CampaignRefused) as caught:
        order(SMALL.replace('"lower-version"]', '"lower-versio"]'))
    assert caught.value.hint == "do you mean lower-version?"


def test_a_campaign_with_nothing_to_do_is_refused() -> None:
    with pytest.raises(CampaignRefused, match="nothing to do"):
        order(LEAST.replace("[soak]\nupdates = 1\n", ""))


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long.toml"
    path.write_text(LEAST + "#" * MAX_FILE)
    with pytest.raises(FileRefused, match="at most"):
        read_order(path)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    with pytest.raises(CampaignRefused):
        parse_order(data, "campaign.toml", Path())


@given(
    at=st.integers(0, len(SMALL) - 1), new=st.sampled_from(["", "\0", "[", '"', "=", "\n", "é", "9" * 5000, "[" * 2000])
)
def test_a_changed_file_is_refused_or_read(at: int, new: str) -> None:
    with suppress(CampaignRefused):
        order(SMALL[:at] + new + SMALL[at + 1 :])
