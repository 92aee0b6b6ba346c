"""`hillhold init` and `hillhold status`."""

from __future__ import annotations

from pathlib import Path

import click

from hillhold_signer.ceremony import Ceremony, read_ceremony
from hillhold_signer.cli.terminal import FILE, FOLDER, PATH, edge, emit, json_option
from hillhold_signer.difference import difference, label
from hillhold_signer.repository import Repository
from hillhold_signer.status import RoleStatus
from hillhold_signer.status import status as judge
from hillhold_signer.storage import read_file
from hillhold_verifier.metadata import MAX_BYTES
from hillhold_verifier.times import show_time


@click.command()
@click.argument("directory", type=PATH)
@click.option("--config", type=FILE, required=True, help="The ceremony file: who holds which keys.")
@click.option("--demo", is_flag=True, help="Allow example keys; the repository then says so to everyone.")
@click.option("--dry-run", is_flag=True, help="Check the ceremony file, say what would be made, and write nothing.")
@click.option(
    "--published", type=FOLDER, help="Start from a copy of what was published last, after everything else was lost."
)
@click.option(
    "--root", type=FILE, help="With --published: a root that is known to be right, from which the copy must follow."
)
@json_option
def init(
    directory: Path,
    config: Path,
    demo: bool,
    dry_run: bool,
    published: Path | None,
    root: Path | None,
    as_json: bool,
) -> None:
    """Make a repository in DIRECTORY, with drafts of root and targets that their holders then sign.

    \b
    Example:
      hillhold init REPO --config ceremony.toml
    """
    ceremony = read_ceremony(config)
    if (published is None) is not (root is None):
        raise click.UsageError("--published and --root go together")
    if published is not None and root is not None:
        _adopt(directory, published, root, ceremony, as_json=as_json)
        return
    if dry_run:
        ceremony.check(demo=demo)
        show = label(ceremony.names())
        first = ceremony.root_after(None, edge().now(), demo=demo)
        lines = [*difference("root", None, first, show), "dry run: nothing was written"]
        emit({"directory": str(directory), "demo": demo, "difference": lines[:-1]}, lines, as_json=as_json)
        return
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


def _adopt(directory: Path, published: Path, root: Path, ceremony: Ceremony, *, as_json: bool) -> None:
    repository = Repository.adopt(directory, published, read_file(root, MAX_BYTES["root"]), ceremony)
    found = repository.published_root()
    lines = [
        f"made {directory} from {published}: root version {found.version}, every role and target file verified",
        "drafts that were not published are lost",
        "next: `hillhold root rotate`, where keys are lost or change; then `hillhold publish` or `hillhold refresh`",
    ]
    emit({"directory": str(directory), "root": found.version}, lines, as_json=as_json)


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
