"""`hillhold service keys`: where the keys of timestamp and snapshot are, on the service's own machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hillhold_signer.cli.serving import with_extra
from hillhold_signer.cli.terminal import FOLDER, REFUSED, emit, json_option, passphrase_option, secrets
from hillhold_signer.keys import SCHEME, uri_path


@click.command(short_help="Where the online keys are, and whether they open.")
@click.argument("data", type=FOLDER)
@click.option("--timestamp-key", metavar="URI", help="It is there now.")
@click.option("--snapshot-key", metavar="URI", help="Likewise.")
@passphrase_option
@json_option
@with_extra
def keys(
    data: Path, timestamp_key: str | None, snapshot_key: str | None, passphrase_fd: int | None, as_json: bool
) -> None:
    """Show where the keys of timestamp and snapshot are, and try each; with options, say where they are from now on.

    Do this before a root with new online keys is published: over HTTP, nobody can. Running replicas need no restart.

    \b
    Example:
      hillhold service keys DATA --timestamp-key file:/var/lib/hillhold/timestamp.pem
    """
    from hillhold_signer.service.onlinekeys import move_keys, online_keys
    from hillhold_signer.service.service import open_data
    from hillhold_signer.service.settings import read_settings

    ask, found = secrets(passphrase_fd), open_data(read_settings(data))
    uris = {role: _absolute(uri) for role, uri in (("timestamp", timestamp_key), ("snapshot", snapshot_key)) if uri}
    try:
        found.database.check_version()
        if uris:
            with found.writing() as unit:
                move_keys(unit, uris, ask)
        with found.reading() as unit:
            there = online_keys(unit, ask)
    finally:
        found.database.close()
    value = {
        "keys": [
            {"role": key.role, "keyid": key.keyid, "drafted": key.drafted, "uri": key.uri, "problem": key.problem}
            for key in there
        ]
    }
    lines = [
        f"{key.role}  {key.keyid[:16]}{' (drafted)' if key.drafted else ''}  {key.uri or 'nowhere'}  {key.problem or 'opens'}"
        for key in there
    ]
    emit(value, lines or ["no root is drafted or published"], as_json=as_json)
    if any(key.problem for key in there):
        sys.exit(REFUSED)


def _absolute(uri: str) -> str:
    """A file's URI wherever the service is started."""
    return f"{SCHEME}:{uri_path(uri).absolute().as_posix()}" if uri.startswith(f"{SCHEME}:") else uri
