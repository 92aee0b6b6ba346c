"""The ways to a release: a patch, the image compressed, the image; the smallest first, and the next one where a step fails."""

from __future__ import annotations

import copy
from collections.abc import Callable
from hashlib import sha256

import pytest

from bench import CLOCK, LAYOUT, SWAPPING, Bench, Rig, confirmed_rig, installed
from hillhold_bootsim.flash import Cut, CutAt, PowerLost
from hillhold_bootsim.layout import Layout
from hillhold_verifier.conversation import Progress
from hillhold_verifier.courier import Courier, Pushed
from hillhold_verifier.errors import MismatchError, PatchError, TransferError
from hillhold_verifier.local import LocalUpdate
from hillhold_verifier.patch import HEADER, MAGIC
from offers import TreeSource, image, offer, offer_compressed, offer_patch, patch, started

NEW = "pump/1.1.0/app.bin"
DATA = image("1.1.0", 2, seed=5, dense=False)
OTHER = image("1.1.0", 2, seed=9, dense=False)
"""Another one, of about the same size."""


def release(bench: Bench | Rig, data: bytes = DATA) -> bytes:
    offer(bench.repo, "1.1.0", 2, data=data)
    return data


def carried(bench: Bench, **options: bool) -> tuple[Pushed, list[str]]:
    steps: list[Progress] = []
    courier = Courier(TreeSource(bench.repo.tree), steps.append)
    pushed = bench.run(courier.push(reset=False, **options))
    seen = [step.step for step in steps if step.step.startswith(("patch", "image")) or "next way" in step.step]
    return pushed, list(dict.fromkeys(seen))


def is_there(bench: Bench, data: bytes = DATA) -> bool:
    mark = bench.facts().mark
    return mark == sha256(data).digest()


def test_a_fresh_board_takes_the_image_compressed() -> None:
    """It has no base for any patch."""
    repo = started()
    bench = Bench(repo)
    release(bench)
    packed = offer_compressed(repo, "1.1.0", DATA)
    repo.publish()
    pushed, _ = carried(bench)
    assert (pushed.how, pushed.sent) == ("compressed image", len(packed))
    assert len(packed) < len(DATA) / 3
    assert is_there(bench)


def test_the_smallest_way_is_taken() -> None:
    bench = installed()
    data = release(bench, image("1.1.0", 2))
    packed = offer_compressed(bench.repo, "1.1.0", data)
    small = offer_patch(bench.repo, "1.1.0", image("1.0.0"), data)
    bench.repo.publish()
    pushed, _ = carried(bench)
    assert (pushed.how, pushed.sent) == ("patch", len(small))
    assert len(small) < len(packed)
    assert is_there(bench, data)
    bench = installed()
    release(bench)
    packed = offer_compressed(bench.repo, "1.1.0", DATA)
    bench.repo.add_patch(NEW, image("1.0.0"), bytes(len(packed) + 1), algorithm="hhp2")
    bench.repo.publish()
    pushed, _ = carried(bench)
    assert (pushed.how, pushed.sent) == ("compressed image", len(packed))
    assert is_there(bench)


def test_no_patch_means_the_image_as_it_is() -> None:
    bench = installed()
    release(bench)
    offer_compressed(bench.repo, "1.1.0", DATA)
    bench.repo.publish()
    pushed, _ = carried(bench, patches=False)
    assert (pushed.how, pushed.sent) == ("image", len(DATA))


def test_each_way_that_fails_leads_to_the_next() -> None:
    """Signed patches that make something else: the smallest and the second one are refused by what they make."""
    bench = installed()
    release(bench)
    base = image("1.0.0")
    wrong = patch(base, image("1.1.0", 3))
    bench.repo.add_patch(NEW, base, wrong, algorithm="hhp2")
    bench.repo.add_patch(NEW, b"", patch(b"", OTHER), algorithm="hhp2")
    bench.repo.publish()
    pushed, steps = carried(bench)
    assert (pushed.how, pushed.sent) == ("image", len(DATA))
    assert len([step for step in steps if "trying the next way" in step]) == 2
    assert steps[-1] == f"image {NEW}"
    assert is_there(bench)


def test_an_algorithm_that_the_board_does_not_know_is_passed_over() -> None:
    bench = installed()
    release(bench)
    bench.repo.add_patch(NEW, b"", b"tiny", algorithm="later")
    packed = bench.repo.add_patch(NEW, image("1.0.0"), patch(image("1.0.0"), DATA), algorithm="hhp2")
    bench.repo.publish()
    assert carried(bench)[0].how == "patch"
    assert packed


@pytest.mark.parametrize("base", [b"", image("1.0.0")], ids=["from nothing", "from the base"])
def test_a_small_patch_that_claims_gigabytes_stops_at_the_signed_length(base: bytes) -> None:
    """Signed by whoever may sign: its header agrees with what is signed, or it is refused; no byte is made beyond that."""
    rig = confirmed_rig()
    release(rig)
    good = patch(base, DATA)
    for claimed in (len(DATA) + 1, 2**31 - 1):
        _, version, properties, bits, from_length, _ = HEADER.unpack(good[: HEADER.size])
        lying = HEADER.pack(MAGIC, version, properties, bits, from_length, claimed) + good[HEADER.size :]
        rig.repo.add_patch(NEW, base, lying, algorithm="hhp2")
        rig.repo.publish()
        rig.take()
        rig.send(lying)
        with pytest.raises(PatchError, match="result length"):
            rig.installer.apply()
        assert rig.facts().running == "1.0.0"


def test_a_patch_from_nothing_is_for_its_target_alone() -> None:
    rig = confirmed_rig()
    release(rig)
    packed = offer_compressed(rig.repo, "1.1.0", DATA)
    rig.repo.publish()
    rig.take()
    with pytest.raises(TransferError, match="which this device chose, or a patch to it"):
        rig.installer.begin(sha256(patch(b"", OTHER)).digest(), len(patch(b"", OTHER)), CLOCK)
    spoilt = bytearray(packed)
    spoilt[len(packed) // 2] ^= 1
    at = rig.installer.begin(sha256(packed).digest(), len(packed), CLOCK)
    while at < len(packed):
        at = rig.installer.write(at, bytes(spoilt[at : at + 700]))
    with pytest.raises(MismatchError, match="patch hash"):
        rig.installer.apply()


def send_and_apply(rig: Rig, made: bytes) -> str:
    """Transfer a patch and apply it; return the version that it made."""
    rig.send(made)
    return str(rig.installer.apply().version)


@pytest.mark.slow
@pytest.mark.parametrize("where", list(Cut))
@pytest.mark.parametrize("layout", [LAYOUT, SWAPPING], ids=["remap", "swap"])
@pytest.mark.parametrize("base", [b"", image("1.0.0")], ids=["compressed", "patch"])
def test_a_cut_at_any_operation_of_transfer_and_application(base: bytes, layout: Layout, where: Cut) -> None:
    """What runs stays; then the same is begun again, and an application is done again from what was staged: nothing is sent twice."""
    rig = confirmed_rig(layout=layout)
    release(rig)
    made = patch(base, DATA)
    rig.repo.add_patch(NEW, base, made, algorithm="hhp2")
    rig.repo.publish()
    rig.take()
    clean = Rig(rig.repo, layout, flash=copy.deepcopy(rig.flash), boots=False)
    start = clean.flash.operations
    clean.send(made)
    staged = clean.flash.operations
    clean.installer.apply()
    assert clean.flash.operations - staged > 6
    for number in range(start, clean.flash.operations):
        victim = Rig(rig.repo, layout, flash=copy.deepcopy(rig.flash), boots=False)
        victim.flash.power_cut = CutAt(number, where, number)
        with pytest.raises(PowerLost):
            send_and_apply(victim, made)
        victim.flash.power_cut = None
        victim.power_cycle()
        facts = victim.facts()
        assert (facts.running, facts.mark, facts.trial) == ("1.0.0", None, False), number
        at = victim.installer.begin(sha256(made).digest(), len(made), CLOCK)
        assert at == len(made) or number < staged, number
        assert send_and_apply(victim, made) == "1.1.0", number
        victim.installer.mark(CLOCK)
        assert victim.reset().trial, number


def local(rig: Rig) -> LocalUpdate:
    return LocalUpdate(rig.installer, TreeSource(rig.repo.tree), CLOCK)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "how"),
    [
        (lambda _: None, "compressed"),
        (lambda rig: rig.repo.add_patch(NEW, b"", patch(b"", OTHER), algorithm="hhp2"), "whole"),
    ],
    ids=["compressed", "the next way"],
)
def test_a_device_that_updates_itself_takes_the_smallest_way_too(spoil: Callable[[Rig], object], how: str) -> None:
    rig = confirmed_rig()
    release(rig)
    packed = offer_compressed(rig.repo, "1.1.0", DATA)
    spoil(rig)
    rig.repo.publish()
    updated = local(rig).update()
    assert updated.read == (len(packed) if how == "compressed" else len(DATA))
    assert updated.patched == ((NEW,) if how == "compressed" else ())
    assert rig.facts().mark == sha256(DATA).digest()
