"""Faults in the choice of a release: what is for this board, what is newer, what was withdrawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from hillhold_bootsim.bootloader import Bootloader
from hillhold_bootsim.lab.broken.plant import PAIR, Plant, Shelf, always
from hillhold_bootsim.lab.virtual import VirtualSpec
from hillhold_verifier import installer, select
from hillhold_verifier.release import Release, Version
from hillhold_verifier.roles import TargetFile
from hillhold_verifier.select import Device, Installed, Outcome

CHOOSING: Final = Shelf()
_add = CHOOSING.add


def _takes_for(
    id: str, sentence: str, find: str, change: Callable[[Device, Release], dict[str, Any]], **allowed: object
) -> None:
    """A board that judges releases as if they were others, or as if the line were allowed more."""

    @_add(id, sentence, find)
    def plant(plant: Plant) -> None:
        def make(right: Any) -> Any:
            def passed_over(current: Any, device: Device, release: Release, named: Any, gone: Any) -> Any:
                more = replace(current, delegation=replace(current.delegation, **allowed))
                return right(more, device, replace(release, **change(device, release)), named, gone)

            return passed_over

        plant.replace(select, "_passed_over", make)


_takes_for(
    "accepts-another-product",
    "It takes what its line lists for another product.",
    "wrong-product",
    lambda device, _release: {"product": device.product},
)
_takes_for(
    "ignores-hardware",
    "It ignores what hardware a release is for.",
    "wrong-hardware",
    lambda device, _release: {"hardware": frozenset({device.hardware})},
)
_takes_for(
    "trusts-line-for-hardware",
    "It takes releases that name hardware beyond what the line may.",
    "foreign-hardware",
    lambda device, release: {"hardware": release.hardware & {device.hardware}},
)
_takes_for(
    "ignores-unknown-crit",
    "It ignores restrictions that it does not understand.",
    "unknown-crit",
    lambda _device, _release: {"crit": frozenset()},
)
_takes_for(
    "trusts-line-for-counters",
    "It lets the line raise the security counter as far as it wants.",
    "counter-above-cap",
    lambda _device, _release: {},
    max_security_counter=2**32 - 1,
)


@_add("reads-any-format", "It reads descriptions of releases of a format that it does not know.", "malformed-release")
def reads_any_format(plant: Plant) -> None:
    def make(right: Any) -> Any:
        def parse(target: TargetFile) -> Any:
            known = {**target.custom, "v": 1} if isinstance(target.custom, dict) else target.custom
            return right(replace(target, custom=known))

        return parse

    plant.replace(select, "parse_target", make)


@_add("ignores-requirements", "It ignores what versions of other components a release requires.", "unmet-requires")
def ignores_requirements(plant: Plant) -> None:
    def make(right: Any) -> Any:
        def obstacle(group: tuple[Release, ...], plan: tuple[Release, ...], confirmed: Any, failed: Any) -> Any:
            return right(tuple(replace(release, requires={}) for release in group), plan, confirmed, failed)

        return obstacle

    plant.replace(select, "_obstacle", make)


# --- versions and counters --------------------------------------------------------------------------------------------


@_add(
    "compares-versions-as-text", "It compares versions as text, so that 1.0.9 is above 1.0.10.", "lower-version-as-text"
)
def compares_versions_as_text(plant: Plant) -> None:
    plant.replace(Version, "__gt__", lambda _right: lambda one, other: str(one) > str(other))
    plant.replace(Version, "__lt__", lambda _right: lambda one, other: str(one) < str(other))


def _against(
    id: str, sentence: str, *finds: str, takes: Callable[[Release, Installed], bool], spec: VirtualSpec | None = None
) -> None:
    """A board that installs more than it should, by its own comparison with what it runs."""

    @_add(id, sentence, *finds, spec=spec)
    def plant(plant: Plant) -> None:
        def make(right: Any) -> Any:
            def against(release: Release, confirmed: Installed | None, floor: int) -> Any:
                if confirmed and release.sha256 != confirmed.sha256 and takes(release, confirmed):
                    return Outcome.INSTALLABLE, "taken"
                return right(release, confirmed, floor)

            return against

        plant.replace(select, "_against", make)


_against(
    "accepts-the-same-version-again",
    "It installs another image of the version that it runs.",
    "same-version",
    takes=lambda release, confirmed: release.version == confirmed.version,
)
_against(
    "installs-lower-versions",
    "It installs what its line lists, whether or not that is newer.",
    "lower-version",
    "lower-version-as-text",
    "trial-downgrade",
    takes=lambda _release, _confirmed: True,
)
_against(
    "compares-the-first-components-version",
    "It compares the version of its first component, and takes any for the others.",
    "other-component-lower-version",
    takes=lambda release, _confirmed: release.component != "app",
    spec=PAIR,
)
_against(
    "steps-down-from-anywhere",
    "It takes a permission to step down from one version for one from any version.",
    "step-down-from-elsewhere",
    takes=lambda release, _confirmed: bool(release.downgrade_from),
)


@_add(
    "ignores-the-counter",
    "It compares no security counter, neither in choosing a release nor at boot.",
    "lower-counter",
)
def ignores_the_counter(plant: Plant) -> None:
    plant.replace(select, "_against", lambda right: lambda release, confirmed, _floor: right(release, confirmed, 0))
    plant.replace(
        Bootloader, "_trusted", lambda _right: lambda board, part, slot, _floor, keys: board._verified(part, slot, keys)
    )


@_add(
    "counts-for-the-first-component",
    "It compares the security counter of its first component, and of no other.",
    "other-component-lower-counter",
    spec=PAIR,
)
def counts_for_the_first_component(plant: Plant) -> None:
    def choice(right: Any) -> Any:
        return lambda release, held, floor: right(release, held, floor if release.component == "app" else 0)

    def boot(right: Any) -> Any:
        return lambda board, part, slot, floor, keys: right(board, part, slot, 0 if part else floor, keys)

    plant.replace(select, "_against", choice)
    plant.replace(Bootloader, "_trusted", boot)


@_add("believes-metadata-for-the-image", "It goes by the version that metadata state, and does not look at the image's own.",
      "version-that-lies")  # fmt: skip
def believes_metadata_for_the_image(plant: Plant) -> None:
    plant.replace(installer, "check_header", always(None))


# --- what was withdrawn, or failed --------------------------------------------------------------------------------------------


@_add("tries-what-failed", "It forgets which images failed their trial, and tries them again.", "failed-image-again")
def tries_what_failed(plant: Plant) -> None:
    plant.replace(
        installer,
        "select",
        lambda right: lambda current, device, confirmed, counters, _failed: right(current, device, confirmed, counters),
    )


@_add(
    "ignores-withdrawals",
    "It ignores withdrawals.",
    "withdrawn-release",
    "withdrawn-after-upload",
    "withdrawn-after-mark",
)
def ignores_withdrawals(plant: Plant) -> None:
    plant.replace(installer, "withdrawn", always(frozenset()))

    def make(right: Any) -> Any:
        return lambda target: replace(found, withdrawn=None) if isinstance(found := right(target), Release) else found

    plant.replace(select, "parse_target", make)


@_add("keeps-a-withdrawn-mark", "A release that is marked or on trial goes on, though it is withdrawn meanwhile.",
      "withdrawn-after-mark", "withdrawn-during-trial")  # fmt: skip
def keeps_a_withdrawn_mark(plant: Plant) -> None:
    plant.replace(installer, "withdrawn", always(frozenset()))


@_add("marks-without-choosing-again", "It marks what it chose when the upload began, whatever it knows since.",
      "mark-after-expiry")  # fmt: skip
def marks_without_choosing_again(plant: Plant) -> None:
    def remembering(right: Any) -> Any:
        def begin(board: Any, digest: bytes, length: int, clock: int | None, component: int = 0) -> int:
            at: int = right(board, digest, length, clock, component)
            board.chosen_then = board.choose(clock)
            return at

        return begin

    def marking(right: Any) -> Any:
        def mark(board: Any, clock: int | None) -> Any:
            then = getattr(board, "chosen_then", None)
            if then is None:
                return right(board, clock)
            board.choose = lambda _clock: then
            try:
                return right(board, clock)
            finally:
                del board.choose

        return mark

    plant.replace(installer.Installer, "begin", remembering)
    plant.replace(installer.Installer, "mark", marking)
