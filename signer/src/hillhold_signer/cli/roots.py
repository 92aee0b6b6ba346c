"""`hillhold root`, `renew` and `revoke`: the keys of root, targets and the online roles, and how they change."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import click
from tuf.api.metadata import Root

from hillhold_signer import encoding
from hillhold_signer.ceremony import MAX_CEREMONY, read_ceremony
from hillhold_signer.cli.remote import REPOSITORY, OnRepository, service_of
from hillhold_signer.cli.terminal import FILE, PATH, edge, emit, json_option
from hillhold_signer.difference import difference, label
from hillhold_signer.errors import RepositoryRefused
from hillhold_signer.image_keys import image_fingerprint
from hillhold_signer.image_revocation import revoke_image_key
from hillhold_signer.keys import fingerprint as key_fingerprint
from hillhold_signer.keys import load_public
from hillhold_signer.layout import file_name
from hillhold_signer.places import Place
from hillhold_signer.repository import Repository
from hillhold_signer.roots import renew as renew_roles
from hillhold_signer.roots import revoke as revoke_key
from hillhold_signer.roots import rotate as rotate_root
from hillhold_signer.rotation import named_image_keys, online_replaced
from hillhold_signer.state import published_files
from hillhold_signer.storage import read_file, write_file
from hillhold_signer.transcript import Place as Page
from hillhold_signer.transcript import transcript
from hillhold_verifier.times import show_time


@click.group(short_help="The root of trust: show it, change it.")
def root() -> None:
    """The root of trust: show it, change it by a ceremony file, print the ceremony's transcript."""


@root.command("show", cls=OnRepository, short_help="Show who holds the keys of each role.")
@click.argument("repo", type=REPOSITORY)
@click.option("--version", "number", type=click.IntRange(min=1), help="Another version than the newest published one.")
@json_option
def show(repo: Place, number: int | None, as_json: bool) -> None:
    """Show who holds the keys of each role in a published root.

    \b
    Example:
      hillhold root show REPO
    """
    repository = Repository(repo)
    people = repository.people()
    found = repository.published_root()
    if number is not None and number != found.version:
        if (data := published_files(repository.layout, file_name("root", number))) is None:
            raise RepositoryRefused("root", expected=f"a version up to {found.version}", got=number)
        found = encoding.load(data, Root, f"root {number}").signed
    lines = [f"root version {found.version}, until {show_time(encoding.unix(found.expires))}"]
    value = {}
    for name, role in found.roles.items():
        keys = [(people.get(keyid, "unnamed key"), keyid, key_fingerprint(found.keys[keyid])) for keyid in role.keyids]
        keys.sort()
        lines.append(f"{name}: {role.threshold} of {len(keys)}")
        lines += [f"  {who:<16} key id {keyid[:16]}  fingerprint {mark}" for who, keyid, mark in keys]
        value[name] = {
            "threshold": role.threshold,
            "keys": [{"keyid": keyid, "name": who, "fingerprint": mark} for who, keyid, mark in keys],
        }
    expires, gone = show_time(encoding.unix(found.expires)), named_image_keys(found)
    lines += [f"revoked image key: fingerprint {digest}" for digest in gone]
    value_of_root = {"version": found.version, "expires": expires, "roles": value, "revoked_image_keys": list(gone)}
    emit(value_of_root, lines, as_json=as_json)


@root.command("rotate", cls=OnRepository, short_help="Draft the root that the ceremony file describes.")
@click.argument("repo", type=REPOSITORY)
@click.option("--config", type=FILE, required=True, help="The ceremony file, as it shall be from now on.")
@click.option("--dry-run", is_flag=True, help="Say what would change, and write nothing.")
@json_option
def rotate(repo: Place, config: Path, dry_run: bool, as_json: bool) -> None:
    """Draft the root that the ceremony file describes: people, thresholds, online keys, durations.

    The quorum of the present root and that of the new one both sign it. Online keys change together or not at all.

    \b
    Example:
      hillhold root rotate REPO --config ceremony.toml --dry-run
    """
    repository = Repository(repo)
    done = rotate_root(repository, read_ceremony(config), edge().now(), dry_run=dry_run)
    show_key = label({**repository.people(), **read_ceremony(config).names()})
    lines = [str(change) for change in difference("root", done.old, done.new, show_key)]
    lines += [f"  {role} has to be signed again by its new keys, as it is" for role in done.reissued]
    for keyid, places in done.revoked.items():
        lines.append(
            f"! revoked key {show_key(keyid)} is still trusted in {', '.join(places)}: `hillhold product team`"
        )
    if service_of(repo) is not None and online_replaced(done.old, done.new):
        lines.append(
            "! the service opens the new online keys on its own machine: there, try `hillhold service keys DATA`"
        )
    lines.append(
        "dry run: nothing was written"
        if dry_run
        else f"drafted root version {done.new.version}\nnext: `hillhold root transcript`, then each signs (`hillhold sign`)"
    )
    value = {
        "version": done.new.version,
        "dry_run": dry_run,
        "signed_again": list(done.reissued),
        "still_trusted": {keyid: list(places) for keyid, places in done.revoked.items()},
        "difference": lines[:-1],
    }
    emit(value, [line for text in lines for line in text.splitlines()], as_json=as_json)


@root.command("revoke-image-key", cls=OnRepository, short_help="Draft a root that revokes a bootloader's key.")
@click.argument("repo", type=REPOSITORY)
@click.argument("key")
@click.option("--reason", required=True, help="What happened, for the record.")
@click.option("--unknown", is_flag=True, help="Revoke it though no line notes such a key.")
@json_option
def revoke_image_key_command(repo: Place, key: str, reason: str, unknown: bool, as_json: bool) -> None:
    """Draft a root that revokes an image key. KEY is its public key's file or its fingerprint, as `product image-key` shows it.

    Each bootloader drops the key for good once an image under another key of its own is confirmed, and never the last one that it
    has. From now on no image under it is added.

    \b
    Example:
      hillhold root revoke-image-key REPO image.pub --reason "the build machine was broken into"
    """
    repository, file = Repository(repo), Path(key)
    fingerprint = image_fingerprint(load_public(file)) if file.is_file() else key
    done = revoke_image_key(repository, fingerprint, reason, edge().now(), unknown=unknown)
    lines = [str(change) for change in difference("root", done.old, done.new, label(repository.people()))]
    lines += [
        f"! {line} is left without an image key: a bootloader keeps its last one. Note the next key: `hillhold product image-key`"
        for line in done.bare
    ]
    lines.append(f"drafted root version {done.new.version}; no image under {done.fingerprint[:16]} is added any more")
    lines.append("next: root's keys sign it (`hillhold sign`), and it is published (`hillhold publish`)")
    lines += [
        f"next: release {line} under another image key; its devices drop this one once they have confirmed that"
        for line in done.lines
    ]
    value = {
        "version": done.new.version,
        "fingerprint": done.fingerprint,
        "reason": reason,
        "lines": list(done.lines),
        "left_without": list(done.bare),
        "revoked_image_keys": list(named_image_keys(done.new)),
    }
    emit(value, lines, as_json=as_json)


@root.command("transcript", cls=OnRepository, short_help="Write a page to follow and sign on paper.")
@click.argument("repo", type=REPOSITORY)
@click.option("--config", type=FILE, help="The ceremony file; its digest stands on the page.")
@click.option("--title", default="Key ceremony", show_default=True, help="What stands at the top.")
@click.option("-o", "--output", type=PATH, help="Write it to this file.")
@json_option
def transcript_command(repo: Place, config: Path | None, title: str, output: Path | None, as_json: bool) -> None:
    """Write a page about the drafts, to print, to follow while people sign, and to sign on paper.

    \b
    Example:
      hillhold root transcript REPO --config ceremony.toml -o ceremony.txt
    """
    repository = Repository(repo)
    drafts = repository.state().drafts
    if not drafts:
        raise RepositoryRefused("drafts", expected="one to be signed", got="none", hint="`hillhold root rotate`")
    place = Page(
        encoding.check_text(title, "title"),
        read_file(config, MAX_CEREMONY) if config else None,
        f"hillhold {version('hillhold-signer')}",
        edge().now(),
    )
    text = transcript(repository, tuple(drafts), place)
    if output is not None:
        write_file(output, text.encode())
    lines = [f"wrote {output}"] if output is not None else text.splitlines()
    digests = {role: draft.digest for role, draft in drafts.items()}
    emit({"file": str(output) if output else None, "digests": digests, "text": text}, lines, as_json=as_json)


@click.command(cls=OnRepository, short_help="Draft a role as it is, dated anew.")
@click.argument("repo", type=REPOSITORY)
@click.argument("roles", nargs=-1, required=True, metavar="ROLE...")
@json_option
def renew(repo: Place, roles: tuple[str, ...], as_json: bool) -> None:
    """Draft the next version of root, targets or a product line as it is, dated anew, before it expires.

    \b
    Example:
      hillhold renew REPO targets
    """
    made = renew_roles(Repository(repo), roles, edge().now())
    lines = [f"drafted {role} version {number}: as it is, dated anew" for role, number in made.items()]
    emit({"drafted": made}, [*lines, "next: its keys sign it (`hillhold sign`)"], as_json=as_json)


@click.command(cls=OnRepository, short_help="Say that somebody else may have a key.")
@click.argument("repo", type=REPOSITORY)
@click.argument("who")
@click.option("--reason", required=True, help="What happened, for the record.")
@json_option
def revoke(repo: Place, who: str, reason: str, as_json: bool) -> None:
    """Say that somebody else may have the key of WHO: a name, `snapshot`, `timestamp`, or the start of a key id.

    From now on nothing is published that trusts it, and what takes it away has to replace the online keys as well.

    \b
    Example:
      hillhold revoke REPO Grace --reason "laptop stolen on the train"
    """
    places = revoke_key(Repository(repo), who, reason, edge().now())
    lines = [
        f"revoked {keyid[:16]}: trusted in {', '.join(where)} until that is published"
        for keyid, where in places.items()
    ]
    lines.append("next: make new keys for snapshot and timestamp, correct the ceremony file, `hillhold root rotate`")
    named = {name for where in places.values() for name in where}
    for name in sorted(named - {"root", "targets", "snapshot", "timestamp"}):
        where = f"{repo} " if isinstance(repo, Path) else ""
        lines.append(f"next: `hillhold product team {where}{name}`, without the key")
    lines.append("then everyone signs, and all of it is published together (`hillhold publish`)")
    emit({"revoked": places, "reason": reason}, lines, as_json=as_json)
