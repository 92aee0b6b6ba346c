"""`hillhold serve` and `hillhold service`: the signing service on this machine. Its libraries are an extra: `hillhold-signer[service]`."""

from __future__ import annotations

import secrets as randomness
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from hillhold_signer.ceremony import read_ceremony
from hillhold_signer.cli.terminal import FILE, FOLDER, PATH, emit, json_option, passphrase_option, secrets
from hillhold_signer.errors import ToolError

F = TypeVar("F", bound=Callable[..., Any])

LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


def with_extra(command: F) -> F:
    """Say how to get what is missing, where the extra is not installed."""

    @wraps(command)
    def run(*args: Any, **options: Any) -> Any:
        try:
            import hillhold_signer.service.service  # noqa: F401
        except ModuleNotFoundError as error:
            if error.name is not None and error.name.startswith("hillhold"):
                raise
            hint = "pip install 'hillhold-signer[service]'"
            raise ToolError(f"the service's libraries are not installed: {error.name}", hint=hint) from error
        return command(*args, **options)

    return run  # type: ignore[return-value]


@click.group()
def service() -> None:
    """Set up a signing service, and look after it."""


@service.command(short_help="Make a service: new, or from a repository.")
@click.argument("data", type=PATH)
@click.option(
    "--from", "folder", type=FOLDER, help="Take over this repository, with all that is published and drafted."
)
@click.option("--config", type=FILE, help="Begin a new one with this ceremony file: who holds which keys.")
@click.option("--admin", required=True, metavar="NAME", help="The first administrator, who gets a token.")
@click.option(
    "--log-name",
    metavar="NAME",
    help="Name of the log, for ever: a URL of yours without its scheme, such as updates.example.com/log.",
)
@click.option("--database", metavar="URL", help="postgresql://…; by default SQLite in DATA.")
@click.option("--objects", metavar="URL", help="s3://…, gs://…, az://…; by default DATA.")
@click.option("--demo", is_flag=True, help="Allow example keys; the repository then says so to everyone.")
@json_option
@with_extra
def init(
    data: Path,
    folder: Path | None,
    config: Path | None,
    admin: str,
    log_name: str | None,
    database: str | None,
    objects: str | None,
    demo: bool,
    as_json: bool,
) -> None:
    """Make a signing service in DATA: tables, repository, the log with its key, and the first administrator.

    \b
    Example:
      hillhold service init DATA --from REPO --admin ada --log-name updates.example.com/log
    """
    from hillhold_signer.service import setup
    from hillhold_signer.service.onlinekeys import missing_files
    from hillhold_signer.service.service import open_data
    from hillhold_signer.service.settings import read_settings

    if (folder is None) is (config is None):
        raise click.UsageError("--from REPO or --config FILE is needed, and not both")
    if log_name is None:  # C2SP tlog-checkpoint: whoever could take the same name could be taken for this log
        raise click.UsageError(
            "--log-name NAME is missing: the log keeps its name for ever, so take one that is yours, such as updates.example.com/log"
        )
    ceremony = read_ceremony(config) if config is not None else None
    setup.write_settings(data, database, objects)
    settings, origin = read_settings(data), log_name
    found = open_data(settings)
    found.database.migrate()
    setup.check_new(settings, found, origin, admin)
    if folder is not None:
        setup.copy_repository(found, folder)
    elif ceremony is not None:
        setup.create_repository(found, ceremony, demo=demo)
    signer = setup.make_log_key(settings, origin)
    setup.begin_log(found, signer)
    token = setup.first_administrator(found, admin, randomness.token_bytes)
    with found.reading() as unit:
        lost = missing_files(unit)
    found.database.close()
    value = {"data": str(data), "administrator": admin, "token": token, "log": signer.verifier.vkey, "missing": lost}
    lines = [
        f"made {data}: {found.database}",
        f"the log's key, for auditors: {signer.verifier.vkey}",
        f"keep a copy of {settings.log_key}: without it, nobody believes a restored log",
        f"token of {admin}, shown this once: {token}",
        f"next: `hillhold serve {data}`, then `HILLHOLD_TOKEN=… hillhold status --service URL`",
    ]
    lines += [
        f"! no online key is at {uri} on this machine: say where it is (`hillhold service keys {data}`)" for uri in lost
    ]
    emit(value, lines, as_json=as_json)


@service.command(short_help="Bring the tables up to this version.")
@click.argument("data", type=FOLDER)
@json_option
@with_extra
def migrate(data: Path, as_json: bool) -> None:
    """Bring the tables of a service up to this version of Hillhold; what is up to date stays as it is.

    \b
    Example:
      hillhold service migrate DATA
    """
    from hillhold_signer.service.service import open_data
    from hillhold_signer.service.settings import read_settings

    found = open_data(read_settings(data))
    found.database.migrate()
    found.database.check_version()
    emit({"database": str(found.database)}, [f"{found.database} is up to date"], as_json=as_json)


@service.command(short_help="Write the published tree anew.")
@click.argument("data", type=FOLDER)
@json_option
@with_extra
def export(data: Path, as_json: bool) -> None:
    """Write all that is published into the object store anew: where it has lost something, or somebody has altered it.

    What a release needs comes from `blobs/` there, which back-ups have, too.

    \b
    Example:
      hillhold service export DATA
    """
    from hillhold_signer.service.export import Exporter
    from hillhold_signer.service.service import open_data
    from hillhold_signer.service.settings import read_settings

    found = open_data(read_settings(data))
    exporter = Exporter(found)
    try:
        found.database.check_version()
        count = exporter.rebuild()
    finally:
        exporter.close()
        found.database.close()
    emit({"files": count}, [f"wrote {count} files"], as_json=as_json)


@click.command(short_help="Run the signing service.")
@click.argument("data", type=FOLDER)
@click.option("--listen", default="127.0.0.1:8480", show_default=True, metavar="HOST:PORT", help="Where it listens.")
@click.option("--plain-http", is_flag=True, help="Allow plain HTTP beyond this machine: a load balancer speaks TLS.")
@passphrase_option
@with_extra
def serve(data: Path, listen: str, plain_http: bool, passphrase_fd: int | None) -> None:
    """Run the signing service in DATA (`hillhold service init`), until Ctrl-C or SIGTERM: what is under way ends first.

    \b
    Example:
      hillhold serve DATA --listen 127.0.0.1:8480
    """
    from hillhold_signer.service.serve import run
    from hillhold_signer.service.settings import read_settings

    host, port = _address(listen)
    settings = read_settings(data)
    if settings.tls is None and host not in LOOPBACK and not plain_http:
        hint = "name a certificate in service.toml, [tls]; or --plain-http, behind a load balancer that speaks TLS"
        raise click.UsageError(f"--listen {listen}: tokens would travel in the clear; {hint}")
    code = run(settings, host, port, secrets(passphrase_fd))
    if code:
        sys.exit(code)


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise click.UsageError(f"--listen {text}: HOST:PORT is wanted, such as 127.0.0.1:8480")
    return host.strip("[]") or "127.0.0.1", int(port)
