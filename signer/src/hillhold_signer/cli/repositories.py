"""`hillhold init` and `hillhold status`."""

from __future__ import annotations

from pathlib import Path

import click

from hillhold_signer.ceremony import read_ceremony
from hillhold_signer.cli.terminal import FILE, FOLDER, PATH, edge, emit, json_option
from hillhold_signer.repository import Repository
from hillhold_signer.status import RoleStatus
from hillhold_signer.status import status as judge
from hillhold_verifier.times import show_time


@click.command()
@click.argument("directory", type=PATH)
@click.option("--config", type=FILE, required=True, help="The ceremony file: who holds which keys.")
@click.option("--demo", is_flag=True, help="Allow example keys; the repository then says so to everyone.")
@json_option
def init(directory: Path, config: Path, demo: bool, as_json: bool) -> None:
    """Make a repository in DIRECTORY, with drafts of root and targets that their holders then sign.

    \b
    Example:
      hillhold init REPO --config ceremony.toml
    """
    ceremony = read_ceremony(config)
    Repository.create(directory, ceremony, edge().now(), demo=demo)
    lines = [
        f"made {directory}: drafts of root and targets; nothing is published",
        *(
            f"  {role}: {team.threshold} of {', '.join(item.name for item in team.keys)}"
            for role, team in (("root", ceremony.root), ("targets", ceremony.targets))
        ),
        *(["DEMO: example keys are allowed; nothing here is to be trusted"] if demo else []),
        "next: add product lines (`hillhold product add`), then each person signs (`hillhold sign`)",
    ]
    emit({"directory": str(directory), "demo": demo}, lines, as_json=as_json)


@click.command()
@click.argument("repo", type=FOLDER)
@json_option
def status(repo: Path, as_json: bool) -> None:
    """Show what is published, what is drafted, who still has to sign what, and what is next.

    \b
    Example:
      hillhold status REPO
    """
    repository = Repository(repo)
    people = repository.people()
    found = judge(repository.state(), people, edge().now(), demo=repository.config().demo)
    value = {
        "demo": found.demo,
        "roles": {item.role: _value(item) for item in found.roles},
        "next": list(found.todo),
    }
    lines = ["DEMO repository: example keys; nothing here is to be trusted"] if found.demo else []
    lines += ["role         published  until                 draft  signatures"]
    lines += [_line(item) for item in found.roles]
    lines += [f"next: {item}" for item in found.todo] or ["nothing to do"]
    emit(value, lines, as_json=as_json)


def _value(item: RoleStatus) -> dict[str, object]:
    value: dict[str, object] = {"published": item.published, "draft": item.draft}
    value["expires"] = show_time(item.expires) if item.expires is not None else None
    if item.quorum:
        value["digest"] = item.digest
        value["complete"] = item.quorum.complete
        value["missing"] = list(item.quorum.missing)
        value["signatures"] = [
            {"need": share.threshold, "signed": list(share.signed), "unsigned": list(share.unsigned)}
            for share in item.quorum.shares
        ]
    return value


def _line(item: RoleStatus) -> str:
    until = show_time(item.expires) if item.expires is not None else "-"
    quorum = str(item.quorum) if item.quorum else "-"
    return f"{item.role:<12} {item.published or '-':<9}  {until:<20}  {item.draft or '-':<5}  {quorum}"
