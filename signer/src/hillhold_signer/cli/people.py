"""`hillhold account`: who may do what at a service; over HTTP, or at its own machine on its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import quote

import click
from click.core import ParameterSource

from hillhold_signer.cli.remote import open_service
from hillhold_signer.cli.serving import with_extra
from hillhold_signer.cli.terminal import FILE, FOLDER, emit, json_option
from hillhold_signer.keys import load_public
from hillhold_verifier.times import show_time

F = TypeVar("F", bound=Callable[..., Any])
Unit: TypeAlias = Any
"""A `service.unit.Unit`: the service's libraries need not be installed."""

ROLES: Final = ("submitter", "signer", "administrator", "auditor")

_role = click.argument("role", type=click.Choice(ROLES))


@dataclass(frozen=True, slots=True)
class Place:
    """Where accounts are: a service's folder, or its URL."""

    data: Path | None
    service: str | None
    token_file: Path | None

    def do(
        self,
        here: Callable[[Unit], dict[str, Any]],
        method: str,
        path: str,
        value: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Do something on the data as the operator, or ask the service for it; raises what either raises."""
        if self.service is not None:
            with open_service(self.service, self.token_file) as remote:
                return remote.call(method, path, value)
        return self._here(here, writes=method != "GET")

    @with_extra
    def _here(self, here: Callable[[Unit], dict[str, Any]], *, writes: bool) -> dict[str, Any]:
        from hillhold_signer.service.service import open_data
        from hillhold_signer.service.settings import read_settings

        if self.data is None:
            raise click.UsageError("--service URL is needed, or --data FOLDER at the service's own machine")
        data = open_data(read_settings(self.data))
        try:
            data.database.check_version()
            with data.writing() if writes else data.reading() as unit:
                return here(unit)
        finally:
            data.database.close()


def place_options(function: F) -> F:
    """Add where to do it; the command gets a `Place`."""
    options = (
        click.option(
            "--service", metavar="URL", envvar="HILLHOLD_SERVICE", help="The service. [env: HILLHOLD_SERVICE]"
        ),
        click.option("--token-file", type=FILE, help="Your token for it, unless it is in HILLHOLD_TOKEN."),
        click.option("--data", type=FOLDER, help="Instead: the service's own folder, as its operator."),
    )

    @click.pass_context
    @wraps(function)
    def run(context: click.Context, /, *args: Any, **given: Any) -> Any:
        service, token_file, data = (given.pop(name) for name in ("service", "token_file", "data"))
        if data is not None and context.get_parameter_source("service") is ParameterSource.COMMANDLINE:
            raise click.UsageError("one of --service and --data")
        return function(*args, place=Place(data, None if data else service, token_file), **given)

    for option in reversed(options):
        run = option(run)
    return json_option(run)  # type: ignore[return-value]


# --- accounts -------------------------------------------------------------------------------------------------------------------------


@click.group()
def account() -> None:
    """Accounts of a service: who may do what."""


@account.command("new")
@click.argument("name")
@click.option("--machine", is_flag=True, help="For CI and the like: its keys are nobody's second pair of eyes.")
@place_options
def new_account(name: str, machine: bool, place: Place, as_json: bool) -> None:
    """Make an account, which may do nothing yet.

    \b
    Example:
      hillhold account new ci --machine
    """
    value = {"name": name, "machine": machine}
    found = place.do(
        lambda unit: registry().create_account(unit, None, name, machine=machine), "POST", "v1/accounts", value
    )
    _show([found], as_json, found)


@account.command("list", short_help="List accounts, grants, keys.")
@place_options
def list_accounts(place: Place, as_json: bool) -> None:
    """List all accounts with what they are granted, the keys they hold, and what else stands for them.

    \b
    Example:
      hillhold account list
    """
    found = place.do(lambda unit: registry().list_accounts(unit, None), "GET", "v1/accounts")
    _show(found["accounts"], as_json, found)


@account.command("grant", short_help="Grant a role on a line.")
@click.argument("name")
@_role
@click.argument("line")
@place_options
def grant(name: str, role: str, line: str, place: Place, as_json: bool) -> None:
    """Grant ROLE on the product line LINE; "*" is all lines, and root, targets and accounts.

    \b
    Example:
      hillhold account grant Ada signer pump
    """
    _set_grant(place, name, role, line, held=True, as_json=as_json)


@account.command("ungrant", short_help="Withdraw a role on a line.")
@click.argument("name")
@_role
@click.argument("line")
@place_options
def ungrant(name: str, role: str, line: str, place: Place, as_json: bool) -> None:
    """Withdraw ROLE on LINE. Tokens lose it at once.

    \b
    Example:
      hillhold account ungrant Ada signer pump
    """
    _set_grant(place, name, role, line, held=False, as_json=as_json)


@account.command("disable", short_help="Disable an account, for good.")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do it without asking.")
@place_options
def disable(name: str, yes: bool, place: Place, as_json: bool) -> None:
    """Disable an account, for good: its tokens, identities and certificates stop working at once. Its name stays used.

    \b
    Example:
      hillhold account disable Grace
    """
    if not yes:
        click.confirm(
            f"{name} will not log in any more, and there is no way back. Disable it?", abort=True, err=as_json
        )
    path = "v1/accounts/" + url_path(name, "disable")
    found = place.do(lambda unit: registry().disable_account(unit, None, name), "POST", path)
    _show([found], as_json, found)


@account.command("key", short_help="Say which signing key a person holds.")
@click.argument("name")
@click.argument("pub", type=FILE)
@click.option("--remove", is_flag=True, help="They do not hold it any more.")
@place_options
def key(name: str, pub: Path, remove: bool, place: Place, as_json: bool) -> None:
    """Say that NAME holds the signing key PUB (a public key). Four eyes count people by it.

    \b
    Example:
      hillhold account key Ada ada.pub
    """
    keyid = load_public(pub).keyid
    path = "v1/accounts/" + url_path(name, "keys", keyid)
    method = "DELETE" if remove else "PUT"
    found = place.do(lambda unit: registry().set_key(unit, None, name, keyid, held=not remove), method, path)
    _show([found], as_json, found)


@account.command("identity", short_help="Say for whom an issuer's word stands.")
@click.argument("name")
@click.argument("issuer")
@click.argument("subject")
@click.option("--remove", is_flag=True, help="It does not stand for them any more.")
@place_options
def identity(name: str, issuer: str, subject: str, remove: bool, place: Place, as_json: bool) -> None:
    """Say that NAME is who logs in by OpenID Connect of ISSUER, or with a certificate (x509), as SUBJECT says.

    SUBJECT is claim=value, with " & " between several; a value may end with *, which stands for no "/". Of certificates it
    is sha256=HEX, or uri=URI.

    \b
    Examples:
      hillhold account identity ci https://token.actions.githubusercontent.com
        "repository=acme/pump & ref=refs/tags/v*"
      hillhold account identity ci x509 uri=spiffe://acme/ci
    """
    value = {"issuer": issuer, "subject": subject, "held": not remove}
    path = "v1/accounts/" + url_path(name, "identities")
    found = place.do(
        lambda unit: registry().set_identity(unit, None, name, issuer, subject, held=not remove), "POST", path, value
    )
    _show([found], as_json, found)


def registry() -> Any:
    """Return the module that does it; the service's libraries need not be installed before."""
    from hillhold_signer.service import registry

    return registry


def _set_grant(place: Place, name: str, role: str, line: str, *, held: bool, as_json: bool) -> None:
    def here(unit: Unit) -> dict[str, Any]:
        from hillhold_signer.service.access import Role

        found: dict[str, Any] = registry().set_grant(unit, None, name, Role(role), line, held=held)
        return found

    path = "v1/accounts/" + url_path(name, "grants", role, line)
    found = place.do(here, "PUT" if held else "DELETE", path)
    _show([found], as_json, found)


def _show(accounts: Sequence[Mapping[str, Any]], as_json: bool, value: Mapping[str, Any]) -> None:
    lines = []
    for one in accounts:
        kind = "machine" if one["machine"] else "person"
        state = f", disabled {show_time(one['disabled'])}" if one["disabled"] is not None else ""
        lines.append(f"{one['name']}  {kind}{state}: {show_grants(one['grants'])}")
        lines += [f"  key {keyid[:16]}" for keyid in one["keys"]]
        lines += [f"  {subject} of {issuer}" for issuer, subject in one["identities"]]
    emit(value, lines, as_json=as_json)


def show_grants(grants: Sequence[Sequence[str]]) -> str:
    return ", ".join(f"{role} of {line}" for role, line in grants) or "nothing"


def url_path(*parts: str) -> str:
    """Return a path of these parts, whatever is in them."""
    return "/".join(quote(part, safe="") for part in parts)
