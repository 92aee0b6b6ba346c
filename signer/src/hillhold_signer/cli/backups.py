"""`hillhold service backup`, `restore`, `resume`: a service that was lost comes back, and never contradicts what it had published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from hillhold_signer.cli.logs import Place
from hillhold_signer.cli.serving import with_extra
from hillhold_signer.cli.terminal import FILE, FOLDER, PATH, emit, json_option, passphrase_option, secrets
from hillhold_signer.config import show_config
from hillhold_signer.log.note import MAX_NOTE
from hillhold_signer.online import online_key, online_signers
from hillhold_signer.publish import OnlineSigners
from hillhold_signer.repository import Repository
from hillhold_signer.storage import read_file, write_file
from hillhold_verifier.metadata import max_bytes
from hillhold_verifier.sources import Source, open_source
from hillhold_verifier.times import show_time


@click.command(short_help="Back up the whole service.")
@click.argument("data", type=FOLDER)
@click.argument("folder", type=PATH)
@json_option
@passphrase_option
@with_extra
def backup(data: Path, folder: Path, as_json: bool, passphrase_fd: int | None) -> None:
    """Back up the service in DATA into FOLDER, while it runs: the database of one moment, and target files that FOLDER lacks.

    Private keys are not in it. Who can read it reads drafts and the names of people; who can change it can change nothing unseen.

    \b
    Example:
      hillhold service backup DATA /mnt/backups/hillhold
    """
    from hillhold_signer.service.backup import backup as make
    from hillhold_signer.service.service import log_signer, open_data
    from hillhold_signer.service.settings import read_settings

    settings = read_settings(data)
    signer, found = log_signer(settings, secrets(passphrase_fd)), open_data(settings)
    try:
        made = make(found, folder, [signer])
    finally:
        found.database.close()
    rows = sum(table.rows for table in made.tables.values())
    value = {
        "backup": made.name,
        "manifest": made.digest,
        "rows": rows,
        "blobs": made.blobs,
        "copied": made.copied,
        "log": made.checkpoint,
    }
    lines = [
        f"backed up {made.name}: {rows} rows, {made.blobs} target files of which {made.copied} are new",
        f"manifest {made.digest}",
    ]
    emit(value, lines, as_json=as_json)


@click.command(short_help="Fill a new service from a back-up.")
@click.argument("data", type=FOLDER)
@click.argument("folder", type=FOLDER)
@click.option("--backup", "name", metavar="NAME", help="Which one. [default: the newest]")
@click.option("--root", type=FILE, help="A root that is known to be right, from paper or a device.")
@json_option
@passphrase_option
@with_extra
def restore(
    data: Path, folder: Path, name: str | None, root: Path | None, as_json: bool, passphrase_fd: int | None
) -> None:
    """Fill the empty database that DATA names from a back-up, which is verified whole before anything is written.

    The service is held then, until `hillhold service resume`. Nobody's token works any more.

    \b
    Example:
      hillhold service restore DATA /mnt/backups/hillhold
    """
    from hillhold_signer.service.backup import BackupRefused, backups
    from hillhold_signer.service.backup import restore as fill
    from hillhold_signer.service.service import log_signer, open_data
    from hillhold_signer.service.settings import read_settings

    settings = read_settings(data)
    signer, found = log_signer(settings, secrets(passphrase_fd)), open_data(settings)
    there = backups(folder)
    if name is None and not there:
        raise BackupRefused(f"{folder}", expected="a back-up", got="none")
    anchor = read_file(root, max_bytes("root")) if root else None
    try:
        found.database.migrate()
        made = fill(folder, name or there[-1], found, [signer.verifier], root=anchor)
    finally:
        found.database.close()
    value = {"backup": made.name, "time": made.time, "manifest": made.digest, "held": True}
    lines = [
        f"restored {made.name}, as it was {show_time(made.time)}; every token was revoked",
        "the service is held: say what was published since, with `hillhold service resume`",
    ]
    emit(value, lines, as_json=as_json)


@click.command(short_help="Let a restored service go on.")
@click.argument("data", type=FOLDER)
@click.option(
    "--published",
    multiple=True,
    metavar="SOURCE",
    help="The published tree as devices see it: URL or folder; several times, to compare.",
)
@click.option("--timestamp-version", type=click.IntRange(1), help="The highest seen, where the tree is lost.")
@click.option("--snapshot-version", type=click.IntRange(1), help="The highest seen, likewise.")
@click.option("--checkpoint", type=FILE, help="The newest checkpoint of the log that anybody kept.")
@click.option("--log", "copy", type=Place(), help="A copy of the log, where the back-up has less: URL or folder.")
@click.option("--new-log", metavar="NAME", help="There is no copy: this log ends, and another begins under this name.")
@click.option("--timestamp-key", metavar="URI", help="Where that key is now, if it was replaced since.")
@click.option("--snapshot-key", metavar="URI", help="Likewise.")
@json_option
@passphrase_option
@with_extra
def resume(
    data: Path,
    published: tuple[str, ...],
    timestamp_version: int | None,
    snapshot_version: int | None,
    checkpoint: Path | None,
    copy: Any,
    new_log: str | None,
    timestamp_key: str | None,
    snapshot_key: str | None,
    as_json: bool,
    passphrase_fd: int | None,
) -> None:
    """Bring a restored service up to what was published since its back-up, and let it go on.

    \b
    Example:
      hillhold service resume DATA --published https://updates.example.com/ --checkpoint kept.txt --log https://mirror.example.com/log/
    """
    from hillhold_signer.service.resuming import Seen
    from hillhold_signer.service.resuming import resume as go_on
    from hillhold_signer.service.resuming_tree import Newest
    from hillhold_signer.service.service import log_signer, open_data
    from hillhold_signer.service.settings import read_settings

    both = timestamp_version is not None and snapshot_version is not None
    if bool(published) is both or (timestamp_version is None) is not (snapshot_version is None):
        raise click.UsageError("--published SOURCE is needed, or --timestamp-version and --snapshot-version")
    settings, ask = read_settings(data), secrets(passphrase_fd)
    signer, found = log_signer(settings, ask), open_data(settings)
    sources: list[Source] = [open_source(text) for text in published]
    newest = Newest(timestamp_version, snapshot_version) if timestamp_version and snapshot_version else sources
    kept = read_file(checkpoint, MAX_NOTE) if checkpoint else None
    uris = {role: uri for role, uri in (("timestamp", timestamp_key), ("snapshot", snapshot_key)) if uri}
    begin, undo = _new_log(settings, new_log) if new_log else ([], lambda: None)
    try:
        done = go_on(found, Seen(newest, kept, copy), _opened(uris, ask), [signer.verifier], begin=begin)
    except BaseException:
        undo()
        raise
    finally:
        found.database.close()
    roles = ", ".join(f"{role} version {version}" for role, version in done.adopted.items())
    value = {
        "adopted": dict(done.adopted),
        "dropped": list(done.dropped),
        "entries": done.entries,
        "timestamp": done.timestamp,
    }
    lines = [
        f"took over {roles or 'nothing: the back-up has all of it'}",
        f"took over {done.entries} entries of the log",
    ]
    lines += [f"drafts of {role} are dropped: hand in again what is not published" for role in done.dropped]
    lines += [f"the new log's key, for auditors: {begin[0].verifier.vkey}"] if begin else []
    lines += [f"signed timestamp version {done.timestamp}; the service goes on with `hillhold serve {data}`"]
    emit(value, lines, as_json=as_json)


def _opened(uris: dict[str, str], ask: Callable[[str], str]) -> Callable[[Repository], OnlineSigners]:
    """Open the online keys that the newest root names; where they are now is written into the settings."""

    def open_keys(repository: Repository) -> OnlineSigners:
        root, config = repository.published_root(), repository.config()
        signers = online_signers(root, config.online, ask, uris)
        moved = {online_key(root, role, config.online).keyid: uri for role, uri in uris.items()}
        if moved:
            write_file(repository.layout.config, show_config(replace(config, online={**config.online, **moved})))
        return signers

    return open_keys


def _new_log(settings: Any, origin: str) -> tuple[list[Any], Callable[[], None]]:
    """Make the key of another log, and keep that of the old one beside it; returns it, and what undoes that."""
    from hillhold_signer.service.setup import make_log_key

    key = settings.log_key
    number = next(n for n in range(1, 1000) if not key.with_name(f"{key.stem}-ended-{n}{key.suffix}").exists())
    files = [key.with_suffix(part) for part in (key.suffix, ".pub", ".origin")]
    aside = [file.with_name(f"{file.stem}-ended-{number}{file.suffix}") for file in files]

    def undo() -> None:
        for file, old in zip(files, aside, strict=True):
            if old.exists():
                old.replace(file)

    try:
        for file, old in zip(files, aside, strict=True):
            file.rename(old)
        return [make_log_key(settings, origin)], undo
    except BaseException:
        undo()
        raise
