"""`hillhold init` and `hillhold status`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from hillhold_signer.adopting import adopt
from hillhold_signer.ceremony import Ceremony, read_ceremony
from hillhold_signer.cli.remote import REPOSITORY, OnRepository
from hillhold_signer.cli.terminal import FILE, FOLDER, PATH, REFUSED, edge, emit, json_option
from hillhold_signer.difference import difference, label
from hillhold_signer.places import Place
from hillhold_signer.repository import Repository
from hillhold_signer.revocation import read_revoked
from hillhold_signer.status import RoleStatus, until
from hillhold_signer.status import status as judge
from hillhold_signer.storage import read_file
from hillhold_verifier.metadata import MAX_BYTES
from hillhold_verifier.times import show_time


@click.command(short_help="Make a repository from a ceremony file.")
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
        lines = [*map(str, difference("root", None, first, show)), "dry run: nothing was written"]
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
    repository = adopt(directory, published, read_file(root, MAX_BYTES["root"]), ceremony)
    found = repository.published_root()
    lines = [
        f"made {directory} from {published}: root version {found.version}, every role and target file verified",
        "drafts that were not published are lost",
        "next: `hillhold root rotate`, where keys are lost or change; then `hillhold publish` or `hillhold refresh`",
    ]
    emit({"directory": str(directory), "root": found.version}, lines, as_json=as_json)


@click.command(cls=OnRepository, short_help="Show what is published, drafted and to be signed.")
@click.argument("repo", type=REPOSITORY)
@click.option(
    "--check", is_flag=True, help="Exit with 1 if something has expired or is about to: for an unattended job."
)
@json_option
def status(repo: Place, check: bool, as_json: bool) -> int:
    """Show what is published and until when, what is drafted, who still has to sign what, and what is next.

    Root and targets are due 30 days before they expire, product lines 14 days, snapshot and timestamp when a quarter of their life is left.

    \b
    Example:
      hillhold status REPO
    """
    repository = Repository(repo)
    people, config, now = repository.people(), repository.config(), edge().now()
    revoked = read_revoked(repository.layout)
    found = judge(repository.state(), people, now, config.expiry, revoked, demo=config.demo)
    value = {
        "demo": found.demo,
        "late": found.late,
        "revoked": list(found.revoked),
        "people": people,
        "roles": {item.role: _value(item, now) for item in found.roles},
        "next": list(found.todo),
    }
    lines = ["DEMO repository: example keys; nothing here is to be trusted"] if found.demo else []
    lines += [f"! {alarm}" for alarm in found.revoked]
    width = max(12, *(len(item.role) for item in found.roles))
    lines += [f"{'role':<{width}} published  until                 left                   draft  signatures"]
    lines += [f"{item.role:<{width}} {_line(item, people, now)}" for item in found.roles]
    lines += [f"next: {item}" for item in found.todo] or ["nothing to do"]
    emit(value, lines, as_json=as_json)
    return REFUSED if check and found.late else 0


def _value(item: RoleStatus, now: int) -> dict[str, object]:
    value: dict[str, object] = {"published": item.published, "draft": item.draft, "alert": item.alert}
    value["expires"] = show_time(item.expires) if item.expires is not None else None
    value["seconds_left"] = item.expires - now if item.expires is not None else None
    if item.clash:
        value["clash"] = {"error": str(item.clash), "hint": item.clash.hint}
    if item.draft_expires is not None:
        value["draft_expires"] = show_time(item.draft_expires)
        value |= {"digest": item.digest, "merged": item.merged}
        value |= {"signed_before": list(item.replaced), "strange_files": item.strange}
    if item.quorum:
        value["complete"] = item.quorum.complete
        value["missing"] = list(item.quorum.missing)
        value["signatures"] = [
            {"need": share.threshold, "signed": list(share.signed), "unsigned": list(share.unsigned)}
            for share in item.quorum.shares
        ]
    return value


def _line(item: RoleStatus, people: Mapping[str, str], now: int) -> str:
    when = show_time(item.expires) if item.expires is not None else "-"
    left = until(item.expires, now) if item.expires is not None else "-"
    told = "-"
    if item.clash:
        told = "drafts that do not go together"
    elif item.quorum:
        names = ", ".join(sorted(people.get(keyid, keyid[:16]) for keyid in item.quorum.signed))
        told = f"{item.quorum}{f': {names}' if names else ''}{'; merged from several drafts' if item.merged else ''}"
    return f"{item.published or '-':<9}  {when:<20}  {left:<21}  {item.draft or '-':<5}  {told}"
