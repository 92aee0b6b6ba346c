"""Releases that are signed and listed as they should be, and are not for this board, or not for it any more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from hillhold_bootsim.lab.bench import Bench
from hillhold_bootsim.lab.catalogue import kinds
from hillhold_bootsim.lab.catalogue import sources as of
from hillhold_bootsim.lab.catalogue.book import Book
from hillhold_bootsim.lab.catalogue.leaves import COUNTER, FLOORS, ROTATED
from hillhold_bootsim.lab.forge import Repo
from hillhold_bootsim.lab.house import COUNTERS, Release
from hillhold_verifier.smp import ImageCommand

RELEASE_CASES: Final = Book("metadata")
_add = RELEASE_CASES.add


def _brought(bench: Bench, release: Release, component: int = 0) -> None:
    """Bring it in every way that there is: by a courier, and by a stock tool after the courier brought the metadata."""
    bench.push(bench.house.repo)
    bench.smuggle(release.data, component=component)


def _other(id: str, sentence: str, how: str, sources: tuple[str, ...], **custom: object) -> None:
    @_add(
        id,
        sentence,
        how=f"{how} It is brought by a courier, then by the messages of a stock tool.",
        expected="It passes the release over, and goes on running what it ran.",
        sources=sources,
        leaves=FLOORS,
    )
    def brought(bench: Bench) -> None:
        house = bench.house
        house.repo.hardware = sorted([house.device.hardware, "other-board"])
        release = house.release()
        fields = {name: house.device.hardware if value == "OWN" else value for name, value in custom.items()}
        if isinstance(hardware := fields.get("hardware"), list):
            fields["hardware"] = sorted(house.device.hardware if one == "OWN" else one for one in hardware)
        house.repo.change(release.path, **fields)
        house.publish()
        house.repo.hardware = [house.device.hardware]
        _brought(bench, release)


_other(
    "wrong-hardware",
    "A release for another hardware of the same line",
    "The line lists a release that names another hardware alone.",
    (of.TUF_WRONG, of.UPTANE),
    hardware=["other-board"],
)
_other(
    "foreign-hardware",
    "A release that names, beside this hardware, one that the line may not name",
    "The release names the board's hardware, and another one that the delegation does not allow.",
    (of.TUF_WRONG, of.TUF_DELEGATION, *kinds.MITIGATION),
    hardware=["OWN", "zynq"],
)
_other(
    "wrong-component",
    "A release for a component that this board does not have",
    "The line lists a release for the component radio-2.",
    (of.TUF_WRONG, of.UPTANE),
    component="radio-2",
)
_other(
    "unknown-crit",
    "A release with a restriction that this board does not understand",
    "The release says that a device must understand phase-of-moon, or refuse it.",
    (of.TUF_WRONG, of.CR_3_5),
    crit=["phase-of-moon"],
)
_other(
    "unmet-requires",
    "A release that needs a version of another component which is not there",
    "The release requires radio-2 in version 2.0.0.",
    (of.TUF_WRONG, of.UPTANE),
    requires={"radio-2": "2.0.0"},
)
_other(
    "withdrawn-release",
    "A release that is listed as withdrawn",
    "The newest release is listed with the reason for its withdrawal.",
    kinds.WITHDRAWN,
    withdrawn="it stops the pump",
)
_other(
    "malformed-release",
    "A release whose description is not of the format",
    "The release's version of the format is one that does not exist.",
    kinds.MALFORMED,
    v=99,
)


@_add(
    "wrong-product",
    "A release of another product in the list of this line",
    how="The line lists, beside nothing else, a target of the product valve.",
    expected="It passes the release over, and goes on running what it ran.",
    sources=(of.TUF_WRONG, of.TUF_DELEGATION),
    leaves=FLOORS,
)
def wrong_product(bench: Bench) -> None:
    house = bench.house
    release = house.release()
    entry, blob = house.repo.entries.pop(release.path), house.repo.blobs.pop(release.path)
    path = f"valve/{release.version}/app.bin"
    house.repo.entries[path], house.repo.blobs[path] = entry, blob
    house.publish()
    _brought(bench, release)


@_add(
    "other-lines-file",
    "The file of another line in the place of this one's",
    how="Who has the online keys lists, under the name of this board's line, the file of another line that its own team signed.",
    expected="It refuses, and goes on running what it ran.",
    sources=(of.TUF_WRONG, of.TUF_DELEGATION, of.TUF_COMPROMISE, *kinds.COMBINED),
    leaves=ROTATED,
)
def other_lines_file(bench: Bench) -> None:
    house = bench.house
    thief, other = house.thief(), Repo("valve", (house.device.hardware,))
    house.evil(other)
    other.keys["line"] = house.strangers(2)
    other.expires["line"] = house.repo.expires["line"]
    thief.publish("snapshot", "timestamp", line=other.line(version=thief.versions["line"] + 1))
    bench.push(thief)
    bench.stolen()


# --- versions and counters --------------------------------------------------------------------------------------------


@_add(
    "lower-version",
    "The release from before is listed as the newest",
    how="The line lists the release that the board ran before, and nothing else, in metadata that are new.",
    expected="A version below the confirmed one is refused, without a signed permission to step down.",
    sources=(of.FDA_CHANGE, of.EN_UPDATES, *kinds.DOWNGRADE),
    leaves=FLOORS,
)
def lower_version(bench: Bench) -> None:
    before = bench.current
    bench.update()
    _listed_alone(bench, before)


@_add(
    "lower-version-as-text",
    "A version that is higher as text, and lower as a number",
    how="The board runs a version whose last number has two digits; one with a single digit is listed, that a text would sort behind it.",
    expected="Versions are compared number by number: it refuses.",
    sources=(*kinds.WEAKNESS, *kinds.DOWNGRADE),
    leaves=FLOORS,
)
def lower_version_as_text(bench: Bench) -> None:
    house = bench.house
    major, minor, revision = (int(part) for part in bench.current.version.split("."))
    while len(str(revision)) == len(str(revision - 1)):  # up to 10, 100, …
        revision += 1
    house.skip_to(revision)
    bench.update()
    version = f"{major}.{minor}.{revision - 1}"
    _listed_alone(
        bench, Release(version, f"{house.device.product}/{version}/app.bin", house.image(version), house.counter)
    )


@_add(
    "step-down-from-elsewhere",
    "A permission to step down that does not name the confirmed version",
    how="The release from before is listed with a signed permission to step down to it, from another version than the board runs.",
    expected="It refuses: the permission names exact versions.",
    sources=(of.FDA_CHANGE, *kinds.DOWNGRADE),
    leaves=FLOORS,
)
def step_down_from_elsewhere(bench: Bench) -> None:
    before = bench.current
    bench.update()
    _listed_alone(bench, before, downgrade_from=["1.250.0"])


@_add(
    "same-version",
    "Another image of the version that runs",
    how="The line lists an image of the confirmed version with other content, signed by the image key.",
    expected="It refuses.",
    sources=(of.TUF_ROLLBACK, of.FDA_CHANGE),
    leaves=FLOORS,
)
def same_version(bench: Bench) -> None:
    house, now = bench.house, bench.current
    data = house.image(now.version, tail=" again")
    _listed_alone(bench, Release(now.version, now.path, data, house.counter))


@_add(
    "lower-counter",
    "A newer version with a security counter below the board's",
    how="The board's counter is raised by an honest release. Then a newer version with the counter of before is listed.",
    expected="It refuses: a counter never goes down.",
    sources=(of.MCUBOOT_COUNTER, *kinds.DOWNGRADE),
    leaves=COUNTER,
)
def lower_counter(bench: Bench) -> None:
    house = bench.house
    lower = house.counter
    bench.update(lower + 1)
    version = house.next_version()
    data = house.image(version, lower)
    _listed_alone(bench, Release(version, f"{house.device.product}/{version}/app.bin", data, lower))


@_add(
    "other-component-lower-version",
    "The release from before is listed as the newest for another component than the first",
    how="After an update of all components, the image from before of each but the first is listed alone, and brought.",
    expected="Each component's version is compared with its own: it refuses.",
    sources=(of.TUF_ROLLBACK, *kinds.DOWNGRADE),
    leaves=FLOORS,
    needs=("metadata", "components"),
)
def other_component_lower_version(bench: Bench) -> None:
    before = bench.update(whole=True)
    bench.update(whole=True)
    for component, data in enumerate(before.others, 1):
        _listed_alone(bench, replace(before, data=data), component)


@_add(
    "other-component-lower-counter",
    "A newer version with a security counter below the board's for another component than the first",
    how="The counters of all components are raised by an honest release. Then, for each but the first, a newer version with the counter of "
    "before is listed alone, and brought.",
    expected="Each component has its counter, and none goes down: it refuses.",
    sources=(of.MCUBOOT_COUNTER, *kinds.DOWNGRADE),
    leaves=COUNTER,
    needs=("metadata", "components"),
)
def other_component_lower_counter(bench: Bench) -> None:
    house = bench.house
    lower = house.counter
    release = bench.update(lower + 1, whole=True)
    for component in range(1, len(house.device.components)):
        version = house.next_version()
        data = house.image(version, lower)
        _listed_alone(bench, replace(release, version=version, data=data, counter=lower), component)


@_add(
    "counter-that-lies",
    "An image whose own counter is below what its metadata state",
    how="Metadata state the board's counter, the image's header one less.",
    expected="Header and metadata have to agree: it is not installed.",
    sources=(of.MCUBOOT_COUNTER, of.NIST_ROLLBACK, of.FDA_DESCRIBED),
    leaves=FLOORS,
)
def counter_that_lies(bench: Bench) -> None:
    house = bench.house
    version = house.next_version()
    data = house.image(version, house.counter - 1)
    _listed_alone(bench, Release(version, f"{house.device.product}/{version}/app.bin", data, house.counter))


@_add(
    "version-that-lies",
    "An image whose own version is not what its metadata state",
    how="Metadata state a version above all, the image's header an older one.",
    expected="Header and metadata have to agree: it is not installed.",
    sources=(of.TUF_WRONG, of.FDA_DESCRIBED, *kinds.DOWNGRADE),
    leaves=FLOORS,
)
def version_that_lies(bench: Bench) -> None:
    house, before = bench.house, bench.current
    bench.update()
    version = house.next_version()
    _listed_alone(bench, Release(version, f"{house.device.product}/{version}/app.bin", before.data, house.counter))


@_add(
    "counter-above-cap",
    "A release that would burn the security counter beyond what the line may",
    how="The line's quorum lists a release with a counter one above what its delegation allows.",
    expected="It passes the release over: the weakest team cannot burn a fuse.",
    sources=(of.MCUBOOT_COUNTER, of.TUF_DELEGATION, of.CR_7_1, *kinds.UPDATABLE),
    leaves=FLOORS,
)
def counter_above_cap(bench: Bench) -> None:
    house = bench.house
    version = house.next_version()
    data = house.image(version, COUNTERS + 1)
    _listed_alone(bench, Release(version, f"{house.device.product}/{version}/app.bin", data, COUNTERS + 1))


def _listed_alone(bench: Bench, release: Release, component: int = 0, **custom: Any) -> None:
    """List this and nothing else, in honest metadata, and bring it."""
    house, repo = bench.house, bench.house.repo
    repo.entries.clear()
    repo.blobs.clear()
    house.offer(repo, release.version, release.data, release.counter, component=component, **custom)
    house.publish()
    _brought(bench, release, component)


# --- withdrawal -------------------------------------------------------------------------------------------------------


@_add(
    "withdrawn-after-upload",
    "A release that was withdrawn between its upload and its trial",
    how="A release is uploaded whole. Then metadata arrive that withdraw it, and a stock tool asks for its trial.",
    expected="Marking repeats the choice under the metadata of now: it refuses.",
    sources=(of.TUF_ROLLBACK, *kinds.WITHDRAWN, *kinds.UNASKED),
    leaves=FLOORS,
)
def withdrawn_after_upload(bench: Bench) -> None:
    house = bench.house
    release = house.release()
    bench.check(house.repo)
    bench.upload(release.data)
    house.repo.change(release.path, withdrawn="it stops the pump")
    house.publish()
    bench.check(house.repo)
    bench.smuggle(release.data)


@_add(
    "withdrawn-after-mark",
    "A release that was withdrawn after it was marked for its trial",
    how="A release is uploaded and marked. Then metadata arrive that withdraw it, and the board is reset.",
    expected="It does not try the release.",
    sources=(of.TUF_ROLLBACK, *kinds.WITHDRAWN),
    leaves=FLOORS,
)
def withdrawn_after_mark(bench: Bench) -> None:
    house = bench.house
    release = house.release()
    bench.push(house.repo, reset=False)
    house.repo.change(release.path, withdrawn="it stops the pump")
    house.publish()
    bench.check(house.repo)
    bench.reset()
    bench.image(ImageCommand.STATE, confirm=True)
