"""`hillhold product show` and `product list`: what there is to know of product lines."""

from __future__ import annotations

import click

from hillhold_signer.cli.remote import REPOSITORY, OnRepository
from hillhold_signer.cli.terminal import emit, json_option, whose
from hillhold_signer.durations import show_duration
from hillhold_signer.overview import Facts, Overview, delegated, overview
from hillhold_signer.places import Place
from hillhold_signer.repository import Repository


@click.command("list", cls=OnRepository, short_help="List the product lines.")
@click.argument("repo", type=REPOSITORY)
@json_option
def list_(repo: Place, as_json: bool) -> None:
    """List the product lines, published and drafted: who signs for each, and for which hardware.

    \b
    Example:
      hillhold product list REPO
    """
    repository = Repository(repo)
    found, people = delegated(repository.state()), repository.people()
    width = max((len(name) for name in found), default=0)
    lines = [
        f"{name:<{width}}  {item.where:<9}  {item.threshold} of {whose(item.keyids, people)}, for {', '.join(item.caps.hardware)}"
        for name, item in found.items()
    ]
    value = [
        {
            "product": name,
            "state": item.where,
            "threshold": item.threshold,
            "keys": {keyid: people.get(keyid) for keyid in item.keyids},
            "hardware": list(item.caps.hardware),
        }
        for name, item in found.items()
    ]
    emit({"products": value}, lines or ["no product lines"], as_json=as_json)


@click.command("show", cls=OnRepository, short_help="Show people, caps and releases of a line.")
@click.argument("repo", type=REPOSITORY)
@click.argument("name")
@json_option
def show(repo: Place, name: str, as_json: bool) -> None:
    """Show the line NAME: its people, what it may do, what it lists. What a draft changes is marked with +, - and ~.

    \b
    Example:
      hillhold product show REPO pump
    """
    found = overview(Repository(repo), name)
    value = {
        "product": name,
        "published": _value(found.published) if found.published else None,
        "drafted": _value(found.newest) if found.newest and found.newest != found.published else None,
        "retired": found.newest is None,
        "image_keys": list(found.image_keys),
        "revoked_image_keys": list(found.revoked),
    }
    emit(value, _lines(name, found), as_json=as_json)


def _lines(name: str, found: Overview) -> list[str]:
    old = _rows(found.published) if found.published else {}
    new = _rows(found.newest) if found.newest else old
    state = "" if found.published else ", drafted and not published"
    lines = [f"product line {name}{state or (', retired in the draft' if found.newest is None else '')}"]
    for label in {**old, **new}:
        if not old or old.get(label) == new.get(label):
            lines.append(f"  {label:<22} {new[label]}")
        elif label not in new or label not in old:
            lines.append(f"{'-' if label in old else '+'} {label:<22} {old.get(label, new.get(label))}")
        else:
            lines.append(f"~ {label:<22} {old[label]} -> {new[label]}")
    marks = dict.fromkeys(found.revoked, ", revoked")
    return lines + [f"  {'image key':<22} fingerprint {key}{marks.get(key, '')}" for key in found.image_keys]


def _rows(facts: Facts) -> dict[str, str]:
    newest = ", ".join(f"{component} {version}" for component, version in sorted(facts.newest.items()))
    return {
        "version": str(facts.version),
        "hardware": ", ".join(facts.caps.hardware),
        "security counter": f"up to {facts.caps.max_security_counter}",
        "offline grace": f"{show_duration(facts.grace)}, up to {show_duration(facts.caps.max_offline_grace)}",
        "releases": f"{facts.releases}, newest {newest}" if newest else str(facts.releases),
        "threshold": f"{facts.threshold} of {len(facts.people)}",
        **{f"  key {keyid[:16]}": f"{who:<16} fingerprint {mark}" for who, keyid, mark in facts.people},
    }


def _value(facts: Facts) -> dict[str, object]:
    return {
        "version": facts.version,
        "hardware": list(facts.caps.hardware),
        "max_security_counter": facts.caps.max_security_counter,
        "max_offline_grace": facts.caps.max_offline_grace,
        "offline_grace": facts.grace,
        "threshold": facts.threshold,
        "keys": [{"name": who, "keyid": keyid, "fingerprint": mark} for who, keyid, mark in facts.people],
        "releases": facts.releases,
        "newest": dict(facts.newest),
    }
