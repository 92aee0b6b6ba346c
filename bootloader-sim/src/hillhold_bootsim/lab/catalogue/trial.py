"""Trials under somebody who has the line: the way back stays, nothing is confirmed before its own test passed, what failed stays out.

On a board whose applications can be scripted, the image on trial waits, and does not test itself while it is attacked.
"""

from __future__ import annotations

from typing import Final

from hillhold_bootsim.lab.bench import Bench
from hillhold_bootsim.lab.catalogue import kinds
from hillhold_bootsim.lab.catalogue import sources as of
from hillhold_bootsim.lab.catalogue.book import Book
from hillhold_bootsim.lab.catalogue.leaves import FAILED, FLOORS_THERE
from hillhold_bootsim.lab.house import TOP
from hillhold_bootsim.lab.stockinstall import image_hash
from hillhold_bootsim.lab.target import Trials
from hillhold_verifier.agent import APPLY
from hillhold_verifier.smp import ImageCommand, Op

TRIAL_CASES: Final = Book("trial")
_add = TRIAL_CASES.add
NEEDS: Final = ("smp", "trial")


@_add(
    "trial-other-slot-erased",
    "The other slot is erased during a trial, which then fails",
    how="While an image is on trial, a stock tool erases every slot that it can name. Then the image fails its test.",
    expected="The other slot is the only way back: it is not erased, and the board goes back.",
    sources=(of.CR_7_1, *kinds.RESTORED, *kinds.UNASKED),
    leaves=FLOORS_THERE,
    needs=NEEDS,
)
def other_slot_erased(bench: Bench) -> None:
    bench.trial()
    bench.image(ImageCommand.ERASE)
    for slot in (0, 1, 2, 3):
        bench.image(ImageCommand.ERASE, slot=slot)
    _fails(bench)


@_add(
    "trial-other-slot-written",
    "The other slot is written during a trial, which then fails",
    how="While an image is on trial, its own bytes, noise and the attacker's image are uploaded. Then the image fails its test.",
    expected="The other slot is the only way back: it is not written, and the board goes back.",
    sources=(*kinds.RESTORED, *kinds.UNASKED),
    leaves=FLOORS_THERE,
    needs=NEEDS,
)
def other_slot_written(bench: Bench) -> None:
    release = bench.trial()
    for data in (release.data, bench.noise("slot", 2000), bench.house.image(TOP)):
        bench.upload(data)
        bench.upload(data, digest=b"")
    if not bench.is_stock:
        bench.own(Op.WRITE, APPLY)
        newer = bench.house.release()
        bench.check(bench.house.repo)
        bench.upload(newer.data)
    _fails(bench)


@_add(
    "trial-confirmed-from-the-wire",
    "An image on trial is confirmed from the line before it has tested itself",
    how="While an image is on trial, and its own test has not passed, a stock tool confirms it: without a hash, and with its own.",
    expected="Confirmation comes from the image's own test: it is refused.",
    sources=kinds.CONFIRMING,
    leaves=FLOORS_THERE,
    needs=NEEDS,
)
def confirmed_from_the_wire(bench: Bench) -> None:
    release = bench.trial()
    bench.image(ImageCommand.STATE, confirm=True)
    bench.image(ImageCommand.STATE, confirm=True, hash=image_hash(release.data))


@_add(
    "confirmed-without-a-trial",
    "An image is confirmed that never ran",
    how="A newer release is uploaded, and a stock tool confirms it before it ever ran.",
    expected="It has to run its trial first: it is refused.",
    sources=kinds.CONFIRMING,
    leaves=FLOORS_THERE,
    needs=NEEDS,
)
def confirmed_without_a_trial(bench: Bench) -> None:
    bench.script(Trials.WAIT)
    release = bench.house.release()
    if not bench.is_stock:
        bench.check(bench.house.repo)
    bench.allow(release, trial=True)
    bench.upload(release.data)
    bench.image(ImageCommand.STATE, hash=image_hash(release.data), confirm=True)
    bench.image(ImageCommand.STATE, confirm=True)


@_add(
    "trial-resets",
    "A board is reset from the line again and again during a trial",
    how="While an image is on trial, ten resets are asked for over the line.",
    expected="Resets confirm nothing: the image stays on trial, or the board goes back.",
    sources=(of.SMP_UNAUTHENTICATED, of.CR_7_4, *kinds.AVAILABLE),
    leaves=FLOORS_THERE,
    needs=("smp",),
)
def trial_resets(bench: Bench) -> None:
    bench.trial()
    for _ in range(10):
        bench.soft_reset()


@_add(
    "trial-power-cuts",
    "The power is cut again and again during a trial",
    how="While an image is on trial, the power is taken away and given back ten times.",
    expected="Cuts confirm nothing, fail nothing, and hold nobody for ever: the image stays on trial, or the board goes back.",
    sources=(of.EN_POWER, of.CR_7_4, *kinds.AVAILABLE),
    leaves=FLOORS_THERE,
    needs=("smp", "power"),
)
def trial_power_cuts(bench: Bench) -> None:
    bench.trial()
    for _ in range(10):
        bench.cut_power()


@_add(
    "trial-downgrade",
    "An older image comes in through a trial",
    how="While an image is on trial, and its version is not yet the board's, the image from before the running one is brought: by the "
    "line's list, and by a stock tool. Then the trial fails, and it is brought again.",
    expected="Nothing takes the place of the way back, and no older image runs.",
    sources=(of.NIST_RESTORED, *kinds.DOWNGRADE, *kinds.UNASKED),
    leaves=FLOORS_THERE,
    needs=NEEDS,
)
def trial_downgrade(bench: Bench) -> None:
    house, older = bench.house, bench.current
    bench.update()
    bench.trial()
    if not bench.is_stock:
        house.repo.entries.clear()
        house.repo.blobs.clear()
        house.offer(house.repo, older.version, older.data, older.counter)
        house.publish()
        bench.push(house.repo)
    bench.smuggle(older.data)
    _fails(bench)
    bench.script(Trials.PASS)
    bench.smuggle(older.data)


@_add(
    "failed-image-again",
    "An image that failed its trial is brought again",
    how="A release fails its test, and the board goes back. The same release is brought again, by a courier and by a stock tool; this "
    "time its test would pass.",
    expected="What failed here is passed over: a carrier cannot wear a board down.",
    sources=(*kinds.AVAILABLE, *kinds.MITIGATION),
    leaves=FAILED,
    needs=("metadata", "trial"),
)
def failed_image_again(bench: Bench) -> None:
    bench.script(Trials.FAIL)
    release = bench.house.release()
    bench.push(bench.house.repo)
    bench.wait(2)
    bench.reset()
    bench.script(Trials.PASS)
    bench.push(bench.house.repo)
    bench.smuggle(release.data)


@_add(
    "withdrawn-during-trial",
    "A withdrawal arrives while its release is on trial, and the board is reset",
    how="A release is on trial. Metadata withdraw it; then the board is reset.",
    expected="The trial ends, and no reset brings it back.",
    sources=kinds.WITHDRAWN,
    leaves=FLOORS_THERE,
    needs=("metadata",),
)
def withdrawn_during_trial(bench: Bench) -> None:
    release = bench.trial()
    bench.allowed.clear()
    bench.house.repo.change(release.path, withdrawn="it stops the pump")
    bench.house.publish()
    bench.check(bench.house.repo)
    bench.reset()  # once: after some starts without an end any trial is over


@_add(
    "running-slot-erased",
    "The slot that runs is erased from the line",
    how="A stock tool erases the running slot by every number that might be it.",
    expected="It is refused, and the board starts again as before.",
    sources=(of.NIST_MECHANISM, *kinds.AVAILABLE, *kinds.UNASKED),
    needs=("smp",),
)
def running_slot_erased(bench: Bench) -> None:
    for slot in (0, 2, 3, 4, 255, 1 << 32):
        bench.image(ImageCommand.ERASE, slot=slot)


def _fails(bench: Bench) -> None:
    """The image on trial fails its own test."""
    bench.script(Trials.FAIL)
    bench.reset()
    bench.wait(2)
    bench.allowed.clear()
