"""`hillhold publish`, `refresh` and `verify`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from tuf.api.metadata import Root

from hillhold_signer.cli.remote import HERE, REPOSITORY, OnRepository, service_of
from hillhold_signer.cli.terminal import FILE, edge, emit, json_option, passphrase_option, secrets
from hillhold_signer.errors import QuorumRefused
from hillhold_signer.online import online_signers
from hillhold_signer.places import Place
from hillhold_signer.publish import OnlineSigners
from hillhold_signer.repository import Repository
from hillhold_signer.rotation import online_replaced
from hillhold_signer.storage import read_file
from hillhold_signer.verify import OPINIONS, verify_tree
from hillhold_verifier.errors import HillholdError
from hillhold_verifier.metadata import MAX_BYTES
from hillhold_verifier.times import show_time

if TYPE_CHECKING:
    from hillhold_signer.serviceclient import Service

_SNAPSHOT_HELP = "URI of the snapshot key, instead of the one in hillhold.toml."
_TIMESTAMP_HELP = "URI of the timestamp key, instead of the one in hillhold.toml."


@click.command(cls=OnRepository, short_help="Publish what has its signatures.")
@click.argument("repo", type=REPOSITORY)
@click.option("--role", "roles", multiple=True, help="Publish only this role; repeat it. By default every draft.")
@click.option("--ready", is_flag=True, help="Publish the drafts that have their signatures, and leave the others.")
@click.option("--snapshot-key", metavar="URI", help=_SNAPSHOT_HELP)
@click.option("--timestamp-key", metavar="URI", help=_TIMESTAMP_HELP)
@passphrase_option
@json_option
def publish(
    repo: Place,
    roles: tuple[str, ...],
    ready: bool,
    snapshot_key: str | None,
    timestamp_key: str | None,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Publish the drafts, each of which needs its signatures. REPO/public is then ready for any static server.

    A service is asked to do it now, with its own keys; it also does so by itself.

    \b
    Example:
      hillhold publish REPO
    """
    if ready and roles:
        raise click.UsageError("--ready and --role exclude each other")
    if (service := service_of(repo)) is not None:
        _refuse_keys(snapshot_key, timestamp_key, passphrase_fd)
        _ask_to_publish(service, Repository(repo), roles, ready=ready, as_json=as_json)
        return
    repository = Repository(repo)
    if ready and not (roles := repository.ready()):
        emit({"published": {}}, ["nothing is ready"], as_json=as_json)
        return
    root = repository.check_ready(roles)
    ask = secrets(passphrase_fd)
    signers = _signers(repository, root, snapshot_key, timestamp_key, ask)
    lines = []
    if (old := repository.chain_root()) is not None and online_replaced(old, root):
        try:
            signers = replace(signers, former=_signers(repository, old, None, None, ask))
        except HillholdError as error:
            lines.append(
                f"without the former online keys ({error}): a device that looks at this very moment has to try again"
            )
    done = repository.publish(signers, edge().now(), roles)
    lines += [f"published {role} version {version}" for role, version in done.roles.items()] or ["nothing to publish"]
    emit({"published": dict(done.roles)}, lines, as_json=as_json)


@click.command(cls=OnRepository, short_help="Sign the timestamp anew, and snapshot when due.")
@click.argument("repo", type=REPOSITORY)
@click.option("--snapshot-key", metavar="URI", help=_SNAPSHOT_HELP)
@click.option("--timestamp-key", metavar="URI", help=_TIMESTAMP_HELP)
@passphrase_option
@json_option
def refresh(
    repo: Place, snapshot_key: str | None, timestamp_key: str | None, passphrase_fd: int | None, as_json: bool
) -> None:
    """Sign the timestamp anew, and snapshot when half of its life is over. Run it unattended, well before the expiry.

    A service is asked to do it now, with its own keys; it also does so by itself.

    \b
    Example:
      hillhold refresh REPO
    """
    if (service := service_of(repo)) is not None:
        _refuse_keys(snapshot_key, timestamp_key, passphrase_fd)
        renewed = service.publish((), renew=True).roles
    else:
        repository = Repository(repo)
        ask = secrets(passphrase_fd)
        signers = _signers(repository, repository.published_root(), snapshot_key, timestamp_key, ask)
        renewed = repository.refresh(signers, edge().now()).roles
    lines = [f"renewed {role}: version {version}" for role, version in renewed.items()]
    emit({"renewed": dict(renewed)}, lines, as_json=as_json)


@click.command(short_help="Verify a published tree as clients would.")
@click.argument("path", type=HERE)
@click.option("--root", type=FILE, help="The root that is trusted; by default the tree's own version 1.")
@json_option
def verify(path: Path, root: Path | None, as_json: bool) -> None:
    """Verify a repository's published tree, or a copy of it, as clients would: every role, every target file.

    \b
    Example:
      hillhold verify REPO --root 1.root.json
    """
    anchor = read_file(root, MAX_BYTES["root"]) if root else None
    seen = verify_tree(path, edge().now(), anchor)
    by = " and ".join(name for name, _ in OPINIONS)
    lines = [
        f"{role:<12} version {number:<5} until {show_time(seen.expires[role])}"
        for role, number in seen.versions.items()
    ]
    lines += [f"target files with their length and hash: {len(seen.targets)}", f"verified with {by}"]
    if root is None:
        lines.append("trusting the tree's own first root; give --root FILE to check that, too")
    value = {
        "versions": dict(seen.versions),
        "expires": {role: show_time(when) for role, when in seen.expires.items()},
        "targets": {target: {"length": length, "sha256": digest} for target, (length, digest) in seen.targets.items()},
        "verified_with": [name for name, _ in OPINIONS],
    }
    emit(value, lines, as_json=as_json)


def _refuse_keys(*given: object) -> None:
    if any(item is not None for item in given):
        raise click.UsageError(
            "a service publishes with its own keys: no --snapshot-key, --timestamp-key, --passphrase-fd"
        )


def _ask_to_publish(
    service: Service, repository: Repository, roles: tuple[str, ...], *, ready: bool, as_json: bool
) -> None:
    wanted = roles or tuple(repository.state().drafts)
    if not ready and wanted:
        repository.check_ready(roles)  # which names whose signatures are missing
    done = service.publish(None if ready else wanted)
    if not ready and (late := {role: why for role, why in done.waiting.items() if role in wanted}):
        what = "; ".join(f"{role}: {why}" for role, why in late.items())
        raise QuorumRefused(f"not published: {what}")
    lines = [f"published {role} version {version}" for role, version in done.roles.items()]
    nothing = "nothing is ready" if ready else "nothing to publish: the service may have done it by itself"
    emit({"published": dict(done.roles)}, lines or [nothing], as_json=as_json)


def _signers(
    repository: Repository, root: Root, snapshot: str | None, timestamp: str | None, ask: Callable[[str], str]
) -> OnlineSigners:
    instead = {"snapshot": snapshot or "", "timestamp": timestamp or ""}
    return online_signers(root, repository.config().online, ask, instead)
