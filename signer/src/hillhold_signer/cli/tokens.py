"""`hillhold token`: API tokens of a service, over HTTP, or at its own machine on its data."""

from __future__ import annotations

import os
import secrets as randomness
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from hillhold_signer.cli.people import ROLES, Place, Unit, place_options, registry, show_grants, url_path
from hillhold_signer.cli.terminal import PATH, Duration, emit
from hillhold_signer.errors import SignerRefused, ToolError
from hillhold_verifier.times import show_time


@click.group()
def token() -> None:
    """API tokens of a service."""


@token.command("new", short_help="Issue a token, shown this once.")
@click.argument("label")
@click.option("--account", "name", metavar="NAME", help="Whose: yours, or, as administrator, a machine's.")
@click.option("--scope", "scopes", multiple=True, metavar="ROLE:LINE", help="What it may do at most; repeat it.")
@click.option("--lifetime", type=Duration(), help="Until it expires: up to 365d, by default 90d.")
@click.option(
    "-o",
    "--output",
    type=PATH,
    metavar="FILE",
    help="Write it to this new file, which only you can read.",
)
@place_options
def new_token(
    label: str,
    name: str | None,
    scopes: Sequence[str],
    lifetime: int | None,
    output: Path | None,
    place: Place,
    as_json: bool,
) -> None:
    """Issue a token. LABEL says what it is for. It may do what its account may, or, of that, the scopes; it is shown this once.

    \b
    Examples:
      hillhold token new "nightly builds" --account ci --scope submitter:pump
      hillhold token new laptop --account Grace --data DATA -o grace.token
    """
    wanted = [_scope(text) for text in scopes]

    def here(unit: Unit) -> dict[str, Any]:
        from hillhold_signer.service.access import Role

        if name is None:
            raise click.UsageError("--account NAME is needed with --data")
        given = [(Role(role), line) for role, line in wanted] or None
        issued: dict[str, Any] = registry().issue_token(
            unit, None, name, scopes=given, label=label, lifetime=lifetime, random=randomness.token_bytes
        )
        return issued

    value: dict[str, Any] = {"label": label}
    value |= {"lifetime": lifetime} if lifetime is not None else {}
    value |= {"account": name} if name is not None else {}
    value |= {"scopes": [{"role": role, "line": line} for role, line in wanted]} if wanted else {}
    with _kept_to_oneself(output) as keep:
        found = place.do(here, "POST", "v1/tokens", value)
        text = found.pop("token")
        keep(text)
    line = f"token {found['id']} of {found['account']}, until {show_time(found['expires'])}: {show_grants(found['scopes'])}"
    if output is not None:
        return emit(
            {**found, "file": str(output)}, [line, f"wrote {output}; whoever has it may do that"], as_json=as_json
        )
    return emit(
        {**found, "token": text}, [text, line, "it is shown this once; whoever has it may do that"], as_json=as_json
    )


@token.command("list", short_help="List tokens, without their secrets.")
@click.option("--account", "name", metavar="NAME", help="Whose; yours by default.")
@click.option("--all", "all_", is_flag=True, help="Those of all accounts.")
@place_options
def list_tokens(name: str | None, all_: bool, place: Place, as_json: bool) -> None:
    """List tokens: what they are for, what they may do, when they were last used and when they expire.

    \b
    Example:
      hillhold token list --all
    """
    if all_ and name is not None:
        raise click.UsageError("one of --account and --all")
    query = "?all=true" if all_ else f"?account={url_path(name)}" if name is not None else ""
    found = place.do(lambda unit: registry().list_tokens(unit, None, name), "GET", f"v1/tokens{query}")
    emit(found, [_token_line(one) for one in found["tokens"]] or ["no tokens"], as_json=as_json)


@token.command("revoke", short_help="Revoke a token: it is dead at once.")
@click.argument("identifier", metavar="ID")
@place_options
def revoke(identifier: str, place: Place, as_json: bool) -> None:
    """Revoke the token with this ID, as `hillhold token list` shows it: it is dead at once.

    \b
    Example:
      hillhold token revoke 0123456789abcdef01234567
    """
    if identifier.startswith("hh_"):
        hint = "it is the part between hh_ and the next _"
        raise SignerRefused("token", expected="its id", got="the whole token", hint=hint)
    path = "v1/tokens/" + url_path(identifier)
    found = place.do(lambda unit: registry().revoke_token(unit, None, identifier), "DELETE", path)
    emit(found, [f"token {found['id']} is revoked"], as_json=as_json)


@contextmanager
def _kept_to_oneself(path: Path | None) -> Iterator[Callable[[str], None]]:
    """A new file for a secret: made before there is one, so that none is issued and lost, and gone again after an error."""
    if path is None:
        yield lambda _: None
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        hint = "name another file: none is written over" if isinstance(error, FileExistsError) else None
        raise ToolError(f"cannot make {path}: {error.strerror or error}", hint=hint) from error
    try:
        with os.fdopen(descriptor, "w") as file:

            def keep(text: str) -> None:
                file.write(f"{text}\n")

            yield keep
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _scope(text: str) -> tuple[str, str]:
    role, colon, line = text.partition(":")
    if role not in ROLES or not colon or not line:
        raise click.UsageError(f"--scope {text}: ROLE:LINE is wanted, with a role of {', '.join(ROLES)}")
    return role, line


def _token_line(one: Mapping[str, Any]) -> str:
    ended = one["revoked"] is not None
    state = f"{'revoked' if ended else 'until'} {show_time(one['revoked'] if ended else one['expires'])}"
    used = f"used {show_time(one['used'])}" if one["used"] is not None else "never used"
    return f"{one['id']}  {one['account']}  {one['label']}  {state}  {used}: {show_grants(one['scopes'])}"
