"""Files of a repository that are old, mixed, expired or without an end: what their carrier can do without a key, or with online keys.

In most of these a release comes that the lab withdrew again, signed and authentic: no board that knows of the withdrawal may run it.
"""

from __future__ import annotations

from typing import Final

from hillhold_bootsim.lab.bench import Bench
from hillhold_bootsim.lab.catalogue import kinds
from hillhold_bootsim.lab.catalogue import sources as of
from hillhold_bootsim.lab.catalogue.book import Book
from hillhold_bootsim.lab.catalogue.leaves import FLOORS, ROOT, ROTATED, TWO_ROOTS
from hillhold_bootsim.lab.forge import DAY
from hillhold_bootsim.lab.house import Release

METADATA_CASES: Final = Book("metadata")
_add = METADATA_CASES.add

ONLINE = ("timestamp", "snapshot")
WITHDRAWN = "it stops the pump"
STAYS = "It refuses, and goes on running what it ran."


def withdrawn(bench: Bench) -> tuple[Release, dict[str, bytes]]:
    """The lab releases, and withdraws again, and the board has seen the withdrawal; return the release, and the tree of before."""
    house = bench.house
    release = house.release()
    before = dict(house.repo.tree)
    house.repo.change(release.path, withdrawn=WITHDRAWN)
    house.publish()
    bench.check(house.repo)
    return release, before


def listed(tree: dict[str, bytes], role: str) -> bytes:
    """The newest file of a role in a tree."""
    names = [name for name in tree if name.endswith(f".{role}.json")]
    return tree[max(names, key=lambda name: int(name.split("/")[1].split(".")[0]))]


# --- rollback ---------------------------------------------------------------------------------------------------------


@_add(
    "rollback-timestamp",
    "An older state of the whole repository is served again",
    how="A release is published and withdrawn, and the board brought up to date. Then a courier brings the repository as it was before the "
    "withdrawal, every file of it authentic and unexpired.",
    expected=STAYS,
    sources=(of.TUF_TIMESTAMP_ROLLBACK, *kinds.MITIGATION, *kinds.REPLAYED),
    leaves=FLOORS,
)
def rollback_timestamp(bench: Bench) -> None:
    _, before = withdrawn(bench)
    bench.push(before)


@_add(
    "rollback-timestamp-after-reset",
    "An older state of the repository is served again after the board lost its power",
    how="As rollback-timestamp, with a reset between the withdrawal and the older files: what was learnt has to outlive it.",
    expected=STAYS,
    sources=(of.TUF_TIMESTAMP_ROLLBACK, *kinds.REPLAYED),
    leaves=FLOORS,
)
def rollback_timestamp_after_reset(bench: Bench) -> None:
    _, before = withdrawn(bench)
    bench.reset()
    bench.push(before)


@_add(
    "rollback-snapshot",
    "A stolen timestamp key lists an older snapshot",
    how="Who has the timestamp key signs a new timestamp that lists the snapshot from before a withdrawal.",
    expected=STAYS,
    sources=(of.TUF_SNAPSHOT_ROLLBACK, of.TUF_COMPROMISE, *kinds.COMBINED, *kinds.REPLAYED),
    leaves=ROTATED,
)
def rollback_snapshot(bench: Bench) -> None:
    _, before = withdrawn(bench)
    thief = bench.house.thief()
    thief.publish(timestamp=thief.timestamp(snapshot=listed(before, "snapshot")))
    bench.push(thief)
    bench.stolen()


@_add(
    "rollback-line",
    "Stolen online keys list an older file of the product line",
    how="Who has the keys of timestamp and snapshot signs both anew, listing the line's file from before a withdrawal.",
    expected=STAYS,
    sources=(of.TUF_TARGETS_ROLLBACK, of.TUF_COMPROMISE, *kinds.COMBINED, *kinds.REPLAYED),
    leaves=ROTATED,
)
def rollback_line(bench: Bench) -> None:
    _, before = withdrawn(bench)
    thief = bench.house.thief()
    thief.publish("timestamp", snapshot=thief.snapshot(line=listed(before, bench.house.device.product)))
    bench.push(thief)
    bench.stolen()


@_add(
    "rollback-targets",
    "Stolen online keys list older top-level targets, which allowed the line more",
    how="Targets once allowed the line another hardware, and do so no more. Who has the online keys lists the older targets with a release "
    "that names that hardware beside the board's.",
    expected=STAYS,
    sources=(of.TUF_TARGETS_ROLLBACK, of.TUF_DELEGATION, of.TUF_COMPROMISE, of.FDA_REPLAY, *kinds.COMBINED),
    leaves=ROTATED,
)
def rollback_targets(bench: Bench) -> None:
    older = _allowed_once(bench)
    thief = bench.house.thief()
    thief.publish("timestamp", snapshot=thief.snapshot(targets=older))
    bench.push(thief)
    bench.stolen()


def _allowed_once(bench: Bench) -> bytes:
    """Targets that allowed the line another hardware, which the board has seen replaced; the line lists a release that names it."""
    house, repo = bench.house, bench.house.repo
    own = house.device.hardware
    repo.hardware = sorted([own, "other-board"])
    house.publish()
    older = repo.files["targets"]
    repo.hardware = [own]
    release = house.release()
    repo.change(release.path, hardware=sorted([own, "other-board"]))
    house.publish()
    bench.check(repo)
    return older


@_add(
    "rollback-root",
    "The root from before a rotation comes back, with all that its keys signed",
    how="All keys below root are replaced, and the board follows. Then the root before is sent as the next one, and a repository that the "
    "replaced keys signed, with a release that was withdrawn at the rotation.",
    expected=STAYS,
    sources=(of.TUF_ROOT_VERSION, of.TUF_COMPROMISE, *kinds.ROOT, *kinds.REPLAYED),
    leaves=ROOT,
)
def rollback_root(bench: Bench) -> None:
    house = bench.house
    release = house.release()
    before, root = dict(house.repo.tree), house.repo.files["root"]
    house.repo.change(release.path, withdrawn=WITHDRAWN)
    house.rotate()
    bench.rotated = True
    bench.check(house.repo)
    bench.deliver(0, root)
    version = house.repo.versions["root"]
    bench.push({**before, **{f"metadata/{version + n}.root.json": root for n in (0, 1)}})


@_add(
    "relisted-line",
    "Stolen online keys list a file again after another was listed, and withheld",
    how="The board holds the line's file with a release. Timestamp and snapshot arrive that list its withdrawal, and that file is "
    "withheld. Then who has the online keys lists the file that the board holds again.",
    expected="What a snapshot listed is not undone by the next one: it refuses.",
    sources=(of.TUF_SNAPSHOT_ROLLBACK, of.TUF_COMPROMISE, *kinds.COMBINED, *kinds.REPLAYED),
    leaves=ROTATED,
)
def relisted_line(bench: Bench) -> None:
    house = bench.house
    release = house.release()
    bench.check(house.repo)
    before = house.repo.files["line"]
    house.repo.change(release.path, withdrawn=WITHDRAWN)
    house.publish()
    for number, role in ((1, "timestamp"), (2, "snapshot")):
        bench.deliver(number, house.repo.files[role])
    thief = house.thief()
    thief.publish("timestamp", snapshot=thief.snapshot(line=before))
    bench.push(thief)
    bench.stolen()


def _outlives(bench: Bench, role: str, before: bytes) -> None:
    """The online keys are replaced, and whoever has the new ones lists an older file of a role whose keys stayed."""
    house, repo = bench.house, bench.house.repo
    thief = house.thief()
    for online in ONLINE:
        thief.keys[online] = [house.key(f"{online}/replaced")]
    thief.publish("root")
    snapshot = thief.snapshot(**{role: before})  # type: ignore[arg-type]
    thief.publish("timestamp", snapshot=snapshot)
    bench.push(thief)
    repo.versions["root"] = thief.versions["root"]
    bench.rotated = True
    bench.stolen()


@_add(
    "rollback-line-after-rotation",
    "An older file of the line, listed after the online keys were replaced",
    how="The board has seen a withdrawal. The keys of timestamp and snapshot are replaced, with which their floors fall; who has the new "
    "ones lists the line's file from before the withdrawal, which the line's own keys signed.",
    expected="The line's floor stands on the line's keys, and holds: it refuses.",
    sources=(of.TUF_FAST_FORWARD, of.TUF_TARGETS_ROLLBACK, of.TUF_COMPROMISE, *kinds.COMBINED, *kinds.REPLAYED),
    leaves=TWO_ROOTS,
)
def rollback_line_after_rotation(bench: Bench) -> None:
    _, before = withdrawn(bench)
    _outlives(bench, "line", listed(before, bench.house.device.product))


@_add(
    "rollback-targets-after-rotation",
    "Older top-level targets, listed after the online keys were replaced",
    how="As rollback-line-after-rotation, with targets that allowed the line another hardware.",
    expected="The floor of targets stands on the keys of targets, and holds: it refuses.",
    sources=(of.TUF_FAST_FORWARD, of.TUF_TARGETS_ROLLBACK, of.TUF_DELEGATION, of.FDA_REPLAY, *kinds.COMBINED),
    leaves=TWO_ROOTS,
)
def rollback_targets_after_rotation(bench: Bench) -> None:
    _outlives(bench, "targets", _allowed_once(bench))


@_add(
    "older-than-expired",
    "What has expired still guards against what is older",
    how="The board holds timestamp and snapshot that have expired by now. Older ones that expire later list a release that was withdrawn.",
    expected=STAYS,
    sources=(of.EXPIRED_GUARDS, *kinds.WEAKNESS, *kinds.REPLAYED),
    leaves=FLOORS,
)
def older_than_expired(bench: Bench) -> None:
    house = bench.house
    release = house.release(expires=dict.fromkeys(ONLINE, house.now + 300 * DAY))
    before = dict(house.repo.tree)
    house.repo.change(release.path, withdrawn=WITHDRAWN)
    house.publish(expires=dict.fromkeys(ONLINE, house.now - 1))
    bench.check(house.repo)
    bench.push(before)


@_add(
    "bundle-older-than-device",
    "A stick that is older than the device, within its offline grace",
    how="The line's quorum allows offline use. A stick from before a withdrawal comes to a board that has seen the withdrawal.",
    expected="It refuses: grace is for what is late, not for what is older than what the board knows.",
    sources=kinds.REPLAYED,
    leaves=FLOORS,
)
def bundle_older_than_device(bench: Bench) -> None:
    house = bench.house
    house.repo.offline_grace = house.repo.max_offline_grace
    release = house.release(expires=dict.fromkeys(ONLINE, house.now - 60))
    stick = dict(house.repo.tree)
    house.repo.change(release.path, withdrawn=WITHDRAWN)
    house.publish(expires=dict.fromkeys(ONLINE, house.now - 30))
    bench.check(house.repo)
    house.repo.offline_grace = 0
    bench.push(stick)


# --- the same version with other content ------------------------------------------------------------------------------


@_add(
    "same-version-timestamp",
    "A timestamp of the version that is held, signed anew with other content",
    how="Who has the online keys signs timestamp and snapshot again, in the versions that the board holds, listing the line from before a "
    "withdrawal.",
    expected="A timestamp of the held version changes nothing.",
    sources=(of.TUF_TIMESTAMP_ROLLBACK, of.TUF_COMPROMISE, *kinds.COMBINED, *kinds.REPLAYED),
    leaves=ROTATED,
)
def same_version_timestamp(bench: Bench) -> None:
    _, before = withdrawn(bench)
    thief = bench.house.thief()
    versions = dict(thief.versions)
    snapshot = thief.snapshot(version=versions["snapshot"], line=listed(before, bench.house.device.product))
    thief.publish(snapshot=snapshot, timestamp=thief.timestamp(version=versions["timestamp"], snapshot=snapshot))
    bench.push(thief)
    bench.stolen()


@_add(
    "same-version-line",
    "The line's file, signed anew in the version that is listed",
    how="Who has the line's quorum, and no online key, signs the listed version again without the withdrawal, and puts it in its place.",
    expected="The listed hash names another file: it refuses.",
    sources=(of.TUF_TARGETS_HASH, of.TUF_MIX, *kinds.COMBINED),
    leaves=FLOORS,
)
def same_version_line(bench: Bench) -> None:
    house = bench.house
    release = house.release()
    house.repo.change(release.path, withdrawn=WITHDRAWN)
    house.publish()
    thief = house.thief()
    thief.change(release.path, withdrawn=None)
    version = thief.versions["line"]
    forged = thief.line(version=version)
    bench.push({**thief.tree, f"metadata/{version}.{house.device.product}.json": forged})
    bench.deliver(4, forged)
    bench.smuggle(release.data)


# --- mix and match ----------------------------------------------------------------------------------------------------


def _mixed(bench: Bench, role: str) -> None:
    house = bench.house
    release = house.release()
    before = dict(house.repo.tree)
    house.repo.change(release.path, withdrawn=WITHDRAWN)
    house.publish()
    name = house.device.product if role == "line" else role
    version = house.repo.versions[role]
    tree = {**house.repo.tree, f"metadata/{version}.{name}.json": listed(before, name)}
    bench.push(tree)
    bench.deliver(("", "", "snapshot", "targets", "line").index(role), listed(before, name))
    bench.push(tree)
    bench.smuggle(release.data)


@_add(
    "mix-snapshot",
    "The snapshot of one time with the timestamp of another",
    how="The newest timestamp is served with the snapshot of before a withdrawal, under the name of the listed one.",
    expected=STAYS,
    sources=(of.TUF_MIX, of.TUF_SNAPSHOT_HASH, *kinds.REPLAYED),
    leaves=FLOORS,
)
def mix_snapshot(bench: Bench) -> None:
    _mixed(bench, "snapshot")


@_add(
    "mix-line",
    "The line's file of one time with the snapshot of another",
    how="Newest timestamp and snapshot are served with the line's file of before a withdrawal, under the name of the listed one.",
    expected=STAYS,
    sources=(of.TUF_MIX, of.TUF_TARGETS_HASH, *kinds.REPLAYED),
    leaves=FLOORS,
)
def mix_line(bench: Bench) -> None:
    _mixed(bench, "line")


@_add(
    "withheld-line",
    "The newest timestamp alone, and no file that it leads to",
    how="The board has chosen a release. A timestamp arrives whose line withdraws it, and the line's file is withheld; then a stock tool "
    "uploads the release, and asks for its trial.",
    expected="Where a file of the chain is missing, nothing may be installed.",
    sources=(of.TUF_FREEZE, of.TUF_MIX, *kinds.MITIGATION),
    leaves=FLOORS,
)
def withheld_line(bench: Bench) -> None:
    house = bench.house
    release = house.release()
    bench.check(house.repo)
    house.repo.change(release.path, withdrawn=WITHDRAWN)
    house.publish()
    bench.deliver(1, house.repo.files["timestamp"])
    bench.deliver(2, house.repo.files["snapshot"])
    bench.smuggle(release.data)


@_add(
    "dropped-role",
    "Stolen online keys leave the line out of the snapshot",
    how="A new snapshot does not list the line any more, so that a withdrawal would be forgotten; the next one lists the line's file from "
    "before it.",
    expected=STAYS,
    sources=(of.TUF_SNAPSHOT_ROLLBACK, of.TUF_COMPROMISE, *kinds.COMBINED, *kinds.REPLAYED),
    leaves=ROTATED,
)
def dropped_role(bench: Bench) -> None:
    product = bench.house.device.product
    _, before = withdrawn(bench)
    thief = bench.house.thief()
    thief.publish("timestamp", snapshot=thief.snapshot(edit=lambda signed: signed["meta"].pop(f"{product}.json")))
    bench.push(thief)
    thief.publish("timestamp", snapshot=thief.snapshot(line=listed(before, product)))
    bench.push(thief)
    bench.stolen()
