"""`hillhold product`: product lines, their people, and what they may do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from hillhold_signer.ceremony import NamedKey, Team
from hillhold_signer.cli.remote import REPOSITORY, OnRepository
from hillhold_signer.cli.terminal import Duration, edge, emit, json_option
from hillhold_signer.durations import show_duration
from hillhold_signer.errors import ProductRefused
from hillhold_signer.keys import load_public
from hillhold_signer.lines import add_product, retire_product, set_caps, set_grace, set_team, team_of
from hillhold_signer.places import Place
from hillhold_signer.products import DEFAULT_MAX_COUNTER, MAX_COUNTER, Caps, Product
from hillhold_signer.repository import Repository

_ALONE = "warning: one person alone can release {}"
_SIGN = "next: the targets' keys sign it (`hillhold sign`)"


@click.group()
def product() -> None:
    """Product lines: their people, and what they may do."""


@product.command("add", cls=OnRepository, short_help="Draft a product line.")
@click.argument("repo", type=REPOSITORY)
@click.argument("name")
@click.option(
    "--hardware", multiple=True, required=True, metavar="ID", help="Hardware that the line may name; repeat it."
)
@click.option(
    "--key", "keys", multiple=True, required=True, metavar="[NAME=]PUB", help="A person's public key; repeat it."
)
@click.option("--threshold", type=click.IntRange(min=1), required=True, help="How many of them must sign a release.")
@click.option(
    "--max-security-counter",
    type=click.IntRange(0, MAX_COUNTER),
    default=DEFAULT_MAX_COUNTER,
    show_default=True,
    help="The highest security counter that a release may carry.",
)
@click.option(
    "--max-offline-grace",
    type=Duration(),
    default="0s",
    show_default=True,
    help="How long devices may accept an expired timestamp or snapshot, such as 30d.",
)
@json_option
def add(
    repo: Place,
    name: str,
    hardware: tuple[str, ...],
    keys: tuple[str, ...],
    threshold: int,
    max_security_counter: int,
    max_offline_grace: int,
    as_json: bool,
) -> None:
    """Draft the product line NAME; the targets' quorum signs it.

    \b
    Example:
      hillhold product add REPO pump --hardware nrf52-a --threshold 2
        --key Ada=ada.pub --key Grace=grace.pub
    """
    repository = Repository(repo)
    team = Team(tuple(_named(repository, item) for item in keys), threshold)
    wanted = Product(name, team, Caps(tuple(sorted(set(hardware))), max_security_counter, max_offline_grace))
    add_product(repository, wanted, edge().now())
    people = ", ".join(item.name for item in team.keys)
    lines = [
        f"drafted product line {name}: {threshold} of {people}, for {', '.join(wanted.caps.hardware)}",
        "next: the targets' keys sign the line, its own keys sign its first, empty list of releases (`hillhold status`)",
    ]
    lines += [_ALONE.format(name)] if threshold == 1 else []
    value = {"product": name, "hardware": list(wanted.caps.hardware), "threshold": threshold}
    emit(value, lines, as_json=as_json)


@product.command("hardware", cls=OnRepository, short_help="Draft which hardware a line may name.")
@click.argument("repo", type=REPOSITORY)
@click.argument("name")
@click.argument("ids", nargs=-1, required=True)
@click.option("--remove", is_flag=True, help="Take the hardware away instead.")
@json_option
def hardware(repo: Place, name: str, ids: tuple[str, ...], remove: bool, as_json: bool) -> None:
    """Draft that the line NAME may also name the hardware IDS.

    \b
    Example:
      hillhold product hardware REPO pump nrf52-b
    """

    def change(known: tuple[str, ...]) -> set[str]:
        if remove and (unknown := sorted(set(ids) - set(known))):
            raise ProductRefused("hardware", expected=f"some of: {', '.join(known)}", got=repr(unknown[0])[:80])
        return set(known) - set(ids) if remove else {*known, *ids}

    caps = set_caps(Repository(repo), name, edge().now(), hardware=change)
    emit(
        _value(name, caps),
        [f"drafted: product line {name} may name {', '.join(caps.hardware)}", _SIGN],
        as_json=as_json,
    )


@product.command("caps", cls=OnRepository)
@click.argument("repo", type=REPOSITORY)
@click.argument("name")
@click.option("--max-security-counter", type=click.IntRange(0, MAX_COUNTER), help="The highest one of a release.")
@click.option(
    "--max-offline-grace", type=Duration(), help="How long an expired timestamp or snapshot may do, such as 30d."
)
@json_option
def caps(
    repo: Place, name: str, max_security_counter: int | None, max_offline_grace: int | None, as_json: bool
) -> None:
    """Draft other limits for the line NAME.

    \b
    Example:
      hillhold product caps REPO pump --max-security-counter 2000
    """
    if max_security_counter is None and max_offline_grace is None:
        raise click.UsageError("name at least one of --max-security-counter and --max-offline-grace")
    found = set_caps(
        Repository(repo),
        name,
        edge().now(),
        max_security_counter=max_security_counter,
        max_offline_grace=max_offline_grace,
    )
    text = f"counter up to {found.max_security_counter}, offline grace up to {show_duration(found.max_offline_grace)}"
    emit(_value(name, found), [f"drafted: product line {name}: {text}", _SIGN], as_json=as_json)


@product.command("grace", cls=OnRepository, short_help="Draft how long devices accept expired metadata.")
@click.argument("repo", type=REPOSITORY)
@click.argument("name")
@click.argument("duration", type=Duration())
@json_option
def grace(repo: Place, name: str, duration: int, as_json: bool) -> None:
    """Draft how long devices of the line NAME accept an expired timestamp or snapshot, for bundles that lie on a stick for weeks.

    The line's own keys sign it; a release that is withdrawn meanwhile stays installable that long on a device that does not know.

    \b
    Example:
      hillhold product grace REPO pump 30d
    """
    set_grace(Repository(repo), name, duration, edge().now())
    lines = [
        f"drafted: offline grace of {name} is {show_duration(duration)}",
        "next: the line's keys sign it (`hillhold sign`)",
    ]
    emit({"product": name, "offline_grace": duration}, lines, as_json=as_json)


@product.command("team", cls=OnRepository, short_help="Draft that people join or leave a line.")
@click.argument("repo", type=REPOSITORY)
@click.argument("name")
@click.option("--add", "added", multiple=True, metavar="[NAME=]PUB", help="Someone who joins: a public key; repeat it.")
@click.option("--remove", "removed", multiple=True, metavar="NAME|KEYID", help="Someone who leaves; repeat it.")
@click.option("--threshold", type=click.IntRange(min=1), help="How many must sign from now on; as before without it.")
@json_option
def team(
    repo: Place, name: str, added: tuple[str, ...], removed: tuple[str, ...], threshold: int | None, as_json: bool
) -> None:
    """Draft that people join or leave the line NAME, or how many of them must sign.

    \b
    Example:
      hillhold product team REPO pump --add Alan=alan.pub --remove Grace
    """
    if not added and not removed and threshold is None:
        raise click.UsageError("name at least one of --add, --remove and --threshold")
    repository = Repository(repo)
    old = team_of(repository, name)
    leaving = {_leaving(old, who).key.keyid for who in removed}
    stay = tuple(item for item in old.keys if item.key.keyid not in leaving)
    new = Team((*stay, *(_named(repository, item) for item in added)), threshold or old.threshold)
    _drafted(repository, name, new, as_json=as_json)


@product.command("transfer", cls=OnRepository, short_help="Draft that another team takes a line over.")
@click.argument("repo", type=REPOSITORY)
@click.argument("name")
@click.option(
    "--key", "keys", multiple=True, required=True, metavar="[NAME=]PUB", help="A person's public key; repeat it."
)
@click.option("--threshold", type=click.IntRange(min=1), required=True, help="How many of them must sign a release.")
@json_option
def transfer(repo: Place, name: str, keys: tuple[str, ...], threshold: int, as_json: bool) -> None:
    """Draft that another team takes the line NAME over, as it is.

    \b
    Example:
      hillhold product transfer REPO pump --key Alan=alan.pub --key Joan=joan.pub --threshold 2
    """
    repository = Repository(repo)
    _drafted(repository, name, Team(tuple(_named(repository, item) for item in keys), threshold), as_json=as_json)


@product.command("retire", cls=OnRepository)
@click.argument("repo", type=REPOSITORY)
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do it without asking.")
@json_option
def retire(repo: Place, name: str, yes: bool, as_json: bool) -> None:
    """Draft that there is no line NAME any more. Its devices keep their image and take no update; the name stays used.

    \b
    Example:
      hillhold product retire REPO pump
    """
    if not yes:
        click.confirm(f"No device of {name} will take an update any more. Retire it?", abort=True, err=as_json)
    retire_product(Repository(repo), name, edge().now())
    emit({"product": name}, [f"drafted: product line {name} is retired", _SIGN], as_json=as_json)


def _drafted(repository: Repository, name: str, team: Team, *, as_json: bool) -> None:
    again = set_team(repository, name, team, edge().now())
    people = ", ".join(sorted(item.name for item in team.keys))
    lines = [f"drafted: product line {name} is signed by {team.threshold} of {people}"]
    lines += [f"  {name} as it is has to be signed again by them: drafted, too"] if again else []
    lines += [_ALONE.format(name)] if team.threshold == 1 else []
    value = {"product": name, "threshold": team.threshold, "keys": team.names(), "signed_again": again}
    emit(value, [*lines, _SIGN], as_json=as_json)


def _value(name: str, caps: Caps) -> dict[str, object]:
    return {
        "product": name,
        "hardware": list(caps.hardware),
        "max_security_counter": caps.max_security_counter,
        "max_offline_grace": caps.max_offline_grace,
    }


def _leaving(team: Team, who: str) -> NamedKey:
    """The one of a team who is called so, or whose key id starts so."""
    found: Sequence[NamedKey] = [item for item in team.keys if item.name.casefold() == who.casefold()]
    found = found or [item for item in team.keys if len(who) >= 8 and item.key.keyid.startswith(who.lower())]
    if len(found) != 1:
        known = ", ".join(
            f"{item.name} ({item.key.keyid[:16]})" for item in sorted(team.keys, key=lambda item: item.name)
        )
        got = repr(who)[:80] if not found else f"{len(found)} keys of {who}"
        raise ProductRefused("who leaves", expected=f"one of {known}", got=got)
    return found[0]


def _named(repository: Repository, text: str) -> NamedKey:
    """NAME=FILE; or FILE, whose key has the name under which it is known, or else the file's stem."""
    name, separator, file = text.partition("=")
    path = Path(file if separator else text)
    key = load_public(path)
    return NamedKey(name if separator else repository.people().get(key.keyid, path.stem), key)
