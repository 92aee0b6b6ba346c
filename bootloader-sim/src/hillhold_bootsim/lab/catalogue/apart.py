"""Attacks that one rule alone refuses, where another one refuses most of its kind as well.

Rules of trust stand behind one another: a floor behind what was listed, a hash behind a version, a mark behind a choice. A board that
lacks one of them withstands the plainer attacks; these are the ones that it does not withstand (`selfcheck` holds one against the other).
"""

from __future__ import annotations

from typing import Final

from hillhold_bootsim.lab.bench import Bench
from hillhold_bootsim.lab.catalogue import kinds
from hillhold_bootsim.lab.catalogue import sources as of
from hillhold_bootsim.lab.catalogue.book import Book
from hillhold_bootsim.lab.catalogue.leaves import FLOORS, ROTATED
from hillhold_bootsim.lab.catalogue.metadata import WITHDRAWN, listed
from hillhold_bootsim.lab.target import Trials
from hillhold_verifier.framing import frame
from hillhold_verifier.smp import Group, ImageCommand, Message, Op, encode

_METADATA, _TRIAL, _KEYS = Book("metadata"), Book("trial"), Book("keys")


# --- metadata ---------------------------------------------------------------------------------------------------------


@_METADATA.add(
    "mix-snapshot-signed-anew",
    "The listed snapshot, signed anew with other content",
    how="Who has the key of snapshot, and not that of timestamp, signs the listed version again with the line's file from before a "
    "withdrawal, and puts it in its place. The board has seen neither.",
    expected="The timestamp lists another hash: it refuses.",
    sources=(of.TUF_SNAPSHOT_HASH, of.TUF_MIX, of.TUF_COMPROMISE, *kinds.MITIGATION, *kinds.COMBINED),
    leaves=ROTATED,
)
def mix_snapshot_signed_anew(bench: Bench) -> None:
    house, repo = bench.house, bench.house.repo
    release = house.release()
    before = dict(repo.tree)
    repo.change(release.path, withdrawn=WITHDRAWN)
    house.publish()
    version = repo.versions["snapshot"]
    forged = house.thief().snapshot(version=version, line=listed(before, house.device.product))
    bench.push({**repo.tree, f"metadata/{version}.snapshot.json": forged})
    bench.deliver(2, forged)
    bench.smuggle(release.data)
    bench.stolen()


# --- trials -----------------------------------------------------------------------------------------------------------


@_TRIAL.add(
    "other-image-under-a-mark",
    "Another image comes into the slot that was marked",
    how="A release is marked for its trial. Before the board is reset, the next release is uploaded into the same slot, and withdrawn; "
    "nothing asks for its trial.",
    expected="A mark is for the image that was there: nothing is tried.",
    sources=(of.TUF_MIX, *kinds.MITIGATION, *kinds.COMBINED, *kinds.UNASKED),
    leaves=FLOORS,
)
def other_image_under_a_mark(bench: Bench) -> None:
    house = bench.house
    bench.script(Trials.WAIT)
    house.release()
    bench.push(house.repo, reset=False)
    other = house.release()
    bench.check(house.repo)
    bench.upload(other.data)
    house.repo.change(other.path, withdrawn=WITHDRAWN)
    house.publish()
    bench.check(house.repo)
    bench.reset()
    bench.image(ImageCommand.STATE, confirm=True)


@_TRIAL.add(
    "confirmation-replayed",
    "A confirmation from before is sent again, byte for byte, during a trial",
    how="A stock tool confirms the image that runs, which is granted. While another image is on trial, and its own test has not passed, "
    "the same bytes are sent again, before and after a reset.",
    expected="A confirmation is judged when it comes: it is refused.",
    sources=(of.FDA_REPLAY, *kinds.MITIGATION, *kinds.CONFIRMING),
    leaves=FLOORS,
    needs=("metadata", "trial"),
)
def confirmation_replayed(bench: Bench) -> None:
    message = Message(Op.WRITE, Group.IMAGE, ImageCommand.STATE, 77, {"confirm": True})
    recorded = frame(encode(message), bench.wire.transport)
    bench.line(recorded)
    bench.trial()
    bench.line(recorded)
    bench.reset()
    bench.line(recorded)


@_TRIAL.add(
    "counter-of-a-failed-trial",
    "An image with a higher security counter fails its trial",
    how="A release with a higher counter comes on trial, and fails its test. Its maker goes on with the counter of before.",
    expected="Only a confirmed image raises the counter: the board goes back, and takes the next release.",
    sources=(of.MCUBOOT_COUNTER, of.CR_7_1, *kinds.MITIGATION, *kinds.RESTORED, *kinds.UPDATABLE),
    leaves=FLOORS,
    needs=("metadata", "trial"),
)
def counter_of_a_failed_trial(bench: Bench) -> None:
    house = bench.house
    house.counter += 1
    try:
        bench.trial()
    finally:
        house.counter -= 1
    bench.script(Trials.FAIL)
    bench.reset()
    bench.wait(2)
    bench.allowed.clear()


# --- keys -------------------------------------------------------------------------------------------------------------


@_KEYS.add(
    "root-without-its-own-quorum",
    "A next root that its own quorum did not sign",
    how="The quorum of root, tricked once, signs a next root with root keys that nobody has.",
    expected="A root is signed by its own quorum too, or nobody could ever follow it: it refuses.",
    sources=(of.TUF_ROOT, of.CR_7_1, *kinds.MITIGATION, *kinds.ROOT),
    leaves=ROTATED,
)
def root_without_its_own_quorum(bench: Bench) -> None:
    house = bench.house
    thief = house.thief()
    version = thief.versions["root"] + 1
    forged = thief.root(version=version, keys={"root": house.strangers(3)}, signers=thief.keys["root"][:2])
    bench.push({**thief.tree, f"metadata/{version}.root.json": forged})
    bench.deliver(0, forged)
    bench.stolen()


APART_CASES: Final = (*_METADATA, *_TRIAL, *_KEYS)
