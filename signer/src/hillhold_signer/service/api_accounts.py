"""`/v1/accounts`, `/v1/tokens`, `/v1/whoami`: who may do what."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from hillhold_signer.service import registry
from hillhold_signer.service.access import Role
from hillhold_signer.service.accounts import MAX_NAME
from hillhold_signer.service.dependencies import ThePrincipal, TheService
from hillhold_signer.service.identities import MAX_TEXT
from hillhold_signer.service.tokens import MAX_LABEL, MAX_LIFETIME

router = APIRouter(prefix="/v1", tags=["accounts"])

_LINE = r"^([a-z0-9][a-z0-9._+-]{0,79}|\*)$"
Name = Annotated[str, Path(min_length=1, max_length=MAX_NAME, description="an account")]
Line = Annotated[str, Path(pattern=_LINE, description="a product line, or *")]
KeyId = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
TokenId = Annotated[str, Path(pattern="^[0-9a-f]{24}$")]


class AccountIn(BaseModel):
    """A new account."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: str = Field(min_length=1, max_length=MAX_NAME)
    machine: bool = False


class IdentityIn(BaseModel):
    """An outside word: an issuer's URL (or x509), and what it says of whom."""

    model_config = ConfigDict(extra="forbid", strict=True)
    issuer: str = Field(min_length=1, max_length=MAX_TEXT)
    subject: str = Field(min_length=1, max_length=MAX_TEXT)
    held: bool = True


class ScopeIn(BaseModel):
    """A role on a line."""

    model_config = ConfigDict(extra="forbid")
    role: Role
    line: str = Field(pattern=_LINE)


class TokenIn(BaseModel):
    """A new token: whose, what it may do at most (all that may be given, by default), what it is for, and for how many seconds.

    Without a lifetime it is 90 days, or what is left of the token that asks for it.
    """

    model_config = ConfigDict(extra="forbid")
    account: str | None = Field(default=None, min_length=1, max_length=MAX_NAME)
    scopes: list[ScopeIn] | None = Field(default=None, min_length=1, max_length=1000)
    label: str = Field(min_length=1, max_length=MAX_LABEL)
    lifetime: Annotated[int, Field(ge=1, le=MAX_LIFETIME, strict=True)] | None = None


@router.get("/whoami")
def whoami(principal: ThePrincipal) -> dict[str, Any]:
    """Tell who has logged in, and what they may do."""
    return registry.whoami(principal)


@router.get("/accounts")
def list_accounts(service: TheService, principal: ThePrincipal) -> dict[str, Any]:
    """List all accounts."""
    with service.data.reading() as unit:
        return registry.list_accounts(unit, principal)


@router.post("/accounts", status_code=201)
def create(body: AccountIn, service: TheService, principal: ThePrincipal) -> dict[str, Any]:
    """Make an account, which may do nothing yet."""
    with service.data.writing() as unit:
        return registry.create_account(unit, principal, body.name, machine=body.machine)


@router.get("/accounts/{name}")
def show(name: Name, service: TheService, principal: ThePrincipal) -> dict[str, Any]:
    """Tell of one account."""
    with service.data.reading() as unit:
        return registry.show_account(unit, principal, name)


@router.post("/accounts/{name}/disable")
def disable(name: Name, service: TheService, principal: ThePrincipal) -> dict[str, Any]:
    """Disable an account, for good: its tokens and identities stop working at once."""
    with service.data.writing() as unit:
        return registry.disable_account(unit, principal, name)


@router.put("/accounts/{name}/grants/{role}/{line}")
def grant(name: Name, role: Role, line: Line, service: TheService, principal: ThePrincipal) -> dict[str, Any]:
    """Grant a role on a line, or on all (*)."""
    with service.data.writing() as unit:
        return registry.set_grant(unit, principal, name, role, line, held=True)


@router.delete("/accounts/{name}/grants/{role}/{line}")
def ungrant(name: Name, role: Role, line: Line, service: TheService, principal: ThePrincipal) -> dict[str, Any]:
    """Withdraw a grant; tokens lose it at once."""
    with service.data.writing() as unit:
        return registry.set_grant(unit, principal, name, role, line, held=False)


@router.put("/accounts/{name}/keys/{keyid}")
def add_key(name: Name, keyid: KeyId, service: TheService, principal: ThePrincipal) -> dict[str, Any]:
    """Say that a person holds a signing key."""
    with service.data.writing() as unit:
        return registry.set_key(unit, principal, name, keyid, held=True)


@router.delete("/accounts/{name}/keys/{keyid}")
def remove_key(name: Name, keyid: KeyId, service: TheService, principal: ThePrincipal) -> dict[str, Any]:
    """Say that a person does not hold a signing key."""
    with service.data.writing() as unit:
        return registry.set_key(unit, principal, name, keyid, held=False)


@router.post("/accounts/{name}/identities")
def identity(name: Name, body: IdentityIn, service: TheService, principal: ThePrincipal) -> dict[str, Any]:
    """Say for whom an issuer's word stands, or (`held` false) no longer does."""
    with service.data.writing() as unit:
        return registry.set_identity(unit, principal, name, body.issuer, body.subject, held=body.held)


@router.get("/tokens")
def list_tokens(
    service: TheService,
    principal: ThePrincipal,
    account: Annotated[str | None, Query(max_length=MAX_NAME)] = None,
    all_: Annotated[bool, Query(alias="all")] = False,
) -> dict[str, Any]:
    """List an account's tokens: one's own by default."""
    with service.data.reading() as unit:
        return registry.list_tokens(unit, principal, None if all_ else account or principal.name)


@router.post("/tokens", status_code=201)
def issue(body: TokenIn, response: Response, service: TheService, principal: ThePrincipal) -> dict[str, Any]:
    """Issue a token: for oneself, or, as administrator, for a machine. It is shown this once."""
    response.headers["Cache-Control"] = "no-store"
    scopes = None if body.scopes is None else [(scope.role, scope.line) for scope in body.scopes]
    with service.data.writing() as unit:
        return registry.issue_token(
            unit,
            principal,
            body.account or principal.name,
            scopes=scopes,
            label=body.label,
            lifetime=body.lifetime,
            random=service.random,
        )


@router.delete("/tokens/{identifier}")
def revoke(identifier: TokenId, service: TheService, principal: ThePrincipal) -> dict[str, Any]:
    """Revoke a token: it is dead at once."""
    with service.data.writing() as unit:
        return registry.revoke_token(unit, principal, identifier)
