"""One image under entries that disagree: other counters, lengths, or hardware."""

from __future__ import annotations

import pytest

from bench import Bench
from forge import Repo
from hillhold_verifier.answers import BoardRefused
from hillhold_verifier.smp import Group, Op, OsCommand
from offers import image, offer, started

PATH = "pump/1.1.0/app.bin"


def test_a_counter_that_was_stated_for_a_while_is_not_what_is_confirmed() -> None:
    """An entry states counter 5 for an image of counter 1, and is mended: the board's counter stays what the image has."""
    repo = started()
    bench = Bench(repo)
    bench.push()
    offer(repo, "1.1.0", 1)
    repo.change(PATH, security_counter=5)
    repo.publish()
    with pytest.raises(BoardRefused, match=r"image header: expected version .* and counter 5"):
        bench.push()
    repo.change(PATH, security_counter=1)
    repo.publish()
    bench.check()
    bench.run(bench.courier()._test())
    bench.ask(Op.WRITE, Group.OS, OsCommand.RESET, {})
    bench.wait(1)
    bench.wait(1)
    assert bench.facts().running == "1.1.0"
    assert bench.facts().counter == 1
    bench.power_cycle()
    assert bench.facts().running == "1.1.0"


def test_a_length_that_grew_since_the_transfer_marks_nothing() -> None:
    repo = Repo()
    repo.thresholds["line"] = 1
    offer(repo, "1.0.0", 1)
    repo.publish()
    bench = Bench(repo)
    bench.push()
    offer(repo, "1.1.0", 1)
    repo.publish()
    bench.push(reset=False)
    repo.entries[PATH]["length"] = 2**32
    repo.publish()
    bench.check()
    with pytest.raises(BoardRefused, match="slot to mark"):
        bench.run(bench.courier()._test())
    bench.power_cycle()
    assert bench.facts().running in ("1.0.0", "1.1.0")


def test_a_withdrawal_for_other_hardware_is_not_this_devices() -> None:
    repo = Repo(hardware=("nrf-a", "nrf-b"))
    offer(repo, "1.0.0", 1, hardware=["nrf-a", "nrf-b"])
    repo.publish()
    bench = Bench(repo)
    bench.push()
    data = image("1.1.0", 1)
    for hardware, file, reason in (("nrf-a", "a.bin", None), ("nrf-b", "b.bin", "bad on b")):
        path = repo.add_release("1.1.0", data, counter=1, hardware=[hardware], file=file)
        repo.change(path, format="mcuboot", withdrawn=reason)
    repo.publish()
    assert bench.push().installed == "pump/1.1.0/a.bin"
    assert bench.facts().running == "1.1.0"
    assert bench.push().installed is None


def test_an_image_that_one_entry_withdraws_here_is_not_installed_by_another() -> None:
    repo = started()
    bench = Bench(repo)
    bench.push()
    data = image("1.1.0", 1)
    for file, reason in (("a.bin", None), ("b.bin", "bad")):
        path = repo.add_release("1.1.0", data, counter=1, file=file)
        repo.change(path, format="mcuboot", withdrawn=reason)
    repo.publish()
    result = bench.push()
    assert result.installed is None
    assert ("pump/1.1.0/a.bin", "passed over", "the same image is withdrawn under another entry") in result.reasons
    assert bench.facts().running == "1.0.0"
