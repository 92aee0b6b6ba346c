"""`hillhold withdraw` and `hillhold release`: what a line lists, and changes of it."""

from __future__ import annotations

import click

from hillhold_signer.cli.adding import patch_line
from hillhold_signer.cli.remote import REPOSITORY, OnRepository
from hillhold_signer.cli.terminal import edge, emit, json_option, whose
from hillhold_signer.listing import Listed, listing
from hillhold_signer.places import Place
from hillhold_signer.removing import remove_release
from hillhold_signer.repository import Repository
from hillhold_signer.retarget import change_hardware
from hillhold_signer.withdrawing import Way
from hillhold_signer.withdrawing import withdraw as draft_withdrawal

_COMPONENT = "Which component; needed where several have this version."


@click.command(cls=OnRepository, short_help="Draft that a version must not be installed.")
@click.argument("repo", type=REPOSITORY)
@click.argument("product")
@click.argument("version")
@click.option("--reason", required=True, metavar="TEXT", help="One line, which devices show.")
@click.option("--component", metavar="NAME", help=_COMPONENT)
@click.option("--hardware", multiple=True, metavar="ID", help="Only the releases for this hardware; repeat it.")
@click.option("--step-down-to", metavar="VERSION", help="A lower listed version that devices may then go down to.")
@json_option
def withdraw(
    repo: Place,
    product: str,
    version: str,
    reason: str,
    component: str | None,
    hardware: tuple[str, ...],
    step_down_to: str | None,
    as_json: bool,
) -> None:
    """Draft that VERSION of PRODUCT must no longer be installed. This is never undone.

    Devices that run it keep running it until they have a way on: a higher version, or a signed step down.

    \b
    Example:
      hillhold withdraw REPO pump 1.2.0 --reason "stops at 40 degrees" --step-down-to 1.1.0
    """
    done = draft_withdrawal(
        Repository(repo),
        product,
        version,
        reason,
        edge().now(),
        component=component,
        hardware=hardware,
        step_down_to=step_down_to,
    )
    value = {
        "product": product,
        "withdrawn": list(done.paths),
        "dropped": list(done.dropped),
        "step_down_to": list(done.step_downs),
        "patches": [{"path": entry.path, "length": entry.length} for entry in done.patches],
        "devices": [
            {
                "hardware": list(way.hardware),
                "on": str(way.start),
                "go_to": None if way.to is None else str(way.to),
                "could_step_down_to": list(map(str, way.down_to)),
            }
            for way in done.ways
        ],
        "warnings": list(done.warnings),
        "draft": done.version,
    }
    lines = [
        *(f"withdrawn {path}: {reason}" for path in done.paths),
        *(f"  no longer listed: {path}" for path in done.dropped),
        *(f"step down from {version}: {path}" for path in done.step_downs),
        *map(patch_line, done.patches),
        *map(_way, done.ways),
        *(f"warning: {text}" for text in done.warnings),
        f"next: the line's keys sign version {done.version} of {product} (`hillhold sign`)",
    ]
    emit(value, lines, as_json=as_json)


def _way(way: Way) -> str:
    who = f"devices on {way.start} ({', '.join(way.hardware)})"
    if way.to is not None:
        return f"{who} go to {way.to}"
    if way.down_to:
        return f"warning: {who} have no way on and keep running it; --step-down-to {way.down_to[0]} would give them one"
    return f"warning: {who} have no way on and keep running it until a higher version is added"


@click.group(short_help="What a product line lists, and changes of it.")
def release() -> None:
    """What a product line lists, the hardware of a release, and taking one out of a draft."""


@release.command("list", cls=OnRepository, short_help="List the releases of a line.")
@click.argument("repo", type=REPOSITORY)
@click.argument("product")
@json_option
def list_(repo: Place, product: str, as_json: bool) -> None:
    """List the releases of PRODUCT's line, published and drafted.

    \b
    Example:
      hillhold release list REPO pump
    """
    found = listing(Repository(repo).state(), product)
    lines = (
        ["component    version         counter  kind      state                hardware"] if found else ["no releases"]
    )
    lines += [line for item in found for line in _lines(item)]
    emit({"product": product, "releases": [_value(item) for item in found]}, lines, as_json=as_json)


def _value(item: Listed) -> dict[str, object]:
    release = item.release
    return {
        "path": release.path,
        "component": release.component,
        "version": str(release.version),
        "security_counter": release.security_counter,
        "kind": release.kind,
        "state": item.where,
        "hardware": sorted(release.hardware),
        "withdrawn": release.withdrawn,
        "requires": {name: str(least) for name, least in sorted(release.requires.items())},
        "set": release.set,
        "downgrade_from": list(map(str, sorted(release.downgrade_from))),
        "patches_from": list(map(str, item.patches)),
        "length": release.length,
        "sha256": release.sha256.hex(),
    }


def _lines(item: Listed) -> list[str]:
    release = item.release
    where = item.where if release.withdrawn is None else f"{item.where}, WITHDRAWN"
    lines = [
        f"{release.component:<12} {release.version!s:<15} {release.security_counter:<8} {release.kind:<9} {where:<20} "
        f"{', '.join(sorted(release.hardware))}"
    ]
    if release.withdrawn is not None:
        lines.append(f"  withdrawn: {release.withdrawn}")
    lines += [f"  requires {name} {least} or later" for name, least in sorted(release.requires.items())]
    if release.set is not None:
        lines.append(f"  of the set {release.set}")
    if release.downgrade_from:
        lines.append(f"  step down from {', '.join(map(str, sorted(release.downgrade_from)))}")
    return lines


@release.command("remove", cls=OnRepository, short_help="Take a version out of the draft.")
@click.argument("repo", type=REPOSITORY)
@click.argument("product")
@click.argument("version")
@click.option("--component", metavar="NAME", help=_COMPONENT)
@click.option("--file-name", help="Which release, where one version has several.")
@json_option
def remove(
    repo: Place, product: str, version: str, component: str | None, file_name: str | None, as_json: bool
) -> None:
    """Take VERSION out of the draft of PRODUCT, with its patches. What is published is withdrawn instead (`hillhold withdraw`).

    \b
    Example:
      hillhold release remove REPO pump 1.2.0
    """
    repository = Repository(repo)
    done = remove_release(repository, product, version, edge().now(), component=component, file_name=file_name)
    value = {
        "product": product,
        "removed": done.path,
        "others": list(done.others),
        "void": list(done.void),
        "warnings": list(done.warnings),
        "draft": done.version,
    }
    lines = [f"removed {done.path} from the draft", *(f"  no longer listed: {path}" for path in done.others)]
    if done.void:
        lines.append(f"void: the signatures of {whose(done.void, repository.people())}")
    lines += [f"warning: {text}" for text in done.warnings]
    lines.append(f"next: the line's keys sign version {done.version} of {product} (`hillhold sign`)")
    emit(value, lines, as_json=as_json)


@release.command("hardware", cls=OnRepository, short_help="Draft that a version may run on other hardware.")
@click.argument("repo", type=REPOSITORY)
@click.argument("product")
@click.argument("version")
@click.option("--add", multiple=True, metavar="ID", help="May run it from now on; repeat it.")
@click.option("--remove", multiple=True, metavar="ID", help="May no longer install it; repeat it.")
@click.option("--component", metavar="NAME", help=_COMPONENT)
@click.option("--file-name", help="Which release, where one version has several.")
@json_option
def hardware(
    repo: Place,
    product: str,
    version: str,
    add: tuple[str, ...],
    remove: tuple[str, ...],
    component: str | None,
    file_name: str | None,
    as_json: bool,
) -> None:
    """Draft that VERSION of PRODUCT may run on other hardware. The releases of a set change together.

    \b
    Example:
      hillhold release hardware REPO pump 1.2.0 --add nrf52-b
    """
    done = change_hardware(
        Repository(repo),
        product,
        version,
        edge().now(),
        add=add,
        remove=remove,
        component=component,
        file_name=file_name,
    )
    value = {
        "product": product,
        "releases": [{"path": item.path, "hardware": sorted(item.hardware)} for item in done.releases],
        "patches": [{"path": entry.path, "length": entry.length} for entry in done.patches],
        "warnings": list(done.warnings),
        "draft": done.version,
    }
    lines = [
        *(f"{item.path}: for {', '.join(sorted(item.hardware))}" for item in done.releases),
        *map(patch_line, done.patches),
        *(f"warning: {text}" for text in done.warnings),
        f"next: the line's keys sign version {done.version} of {product} (`hillhold sign`)",
    ]
    emit(value, lines, as_json=as_json)
