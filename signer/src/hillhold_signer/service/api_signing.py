"""`/v1/status`, `/v1/requests`, `/v1/signatures`, `/v1/publications`: what waits for whom, and what came of it.

Nothing is signed here: a request goes to where the key is, and a signature comes back.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from tuf.api.metadata import Root, Targets

from hillhold_signer.difference import difference, label
from hillhold_signer.drafts import Quorum
from hillhold_signer.requests import make_request
from hillhold_signer.revocation import read_revoked
from hillhold_signer.service.access import EVERY, Principal, Role, may_read, require, require_read
from hillhold_signer.service.approvals import hand_in, line_of, was_taken
from hillhold_signer.service.dependencies import ThePrincipal, TheService
from hillhold_signer.service.foureyes import eyes_of
from hillhold_signer.service.tables import PUBLICATIONS, STUCK
from hillhold_signer.service.unit import Unit
from hillhold_signer.signatures import SignatureFile, parse_signature
from hillhold_signer.status import RoleStatus, Status
from hillhold_signer.status import status as judge

router = APIRouter(prefix="/v1", tags=["signing"])

RoleName = Annotated[str, Path(pattern="^[a-z0-9][a-z0-9._+-]{0,79}$", description="root, targets, or a product line")]


class SignaturesIn(BaseModel):
    """Signature files, as `hillhold sign` writes them."""

    model_config = ConfigDict(extra="forbid", strict=True)
    signatures: list[Annotated[str, Field(min_length=2, max_length=65_536)]] = Field(min_length=1, max_length=64)


class PublicationIn(BaseModel):
    """What to publish now; all that is ready where no roles are named."""

    model_config = ConfigDict(extra="forbid", strict=True)
    roles: list[Annotated[str, Field(pattern="^[a-z0-9][a-z0-9._+-]{0,79}$")]] | None = Field(
        default=None, max_length=4096
    )
    renew: bool = False


@router.get("/status")
def status(service: TheService, principal: ThePrincipal) -> dict[str, Any]:
    """Tell what is published until when, what is drafted, who has signed, and who still can."""
    with service.data.reading() as unit:
        return describe(unit, principal)


@router.get("/requests/{role}", response_class=Response)
def request_file(role: RoleName, service: TheService, principal: ThePrincipal) -> Response:
    """Return the request file of a role's draft: what a signer's own machine shows and signs."""
    require_read(principal, line_of(role))
    with service.data.reading(role) as unit:
        data = make_request(unit.repository, role)
        digest = unit.repository.state().drafts[role].digest
    headers = {
        "ETag": f'"{digest}"',
        "Content-Disposition": f'attachment; filename="{role}.request"',
        "Cache-Control": "no-store",
    }
    return Response(data, media_type="application/json", headers=headers)


@router.get("/requests/{role}/difference")
def shown(role: RoleName, service: TheService, principal: ThePrincipal) -> dict[str, Any]:
    """Tell what a draft changes of what is published, by the service's word: whoever signs looks at it on their own machine."""
    require_read(principal, line_of(role))
    with service.data.reading() as unit:
        state = unit.repository.state()
        state.check_role(role)
        draft = state.drafts.get(role)
        if draft is None:
            return {"role": role, "draft": None, "digest": None, "difference": []}
        old = state.published(role)
        lines = difference(
            role, old if isinstance(old, Root | Targets) else None, draft.signed, label(unit.repository.people())
        )
        return {
            "role": role,
            "draft": draft.signed.version,
            "digest": draft.digest,
            "difference": [str(line) for line in lines],
        }


@router.post("/signatures")
def signatures(body: SignaturesIn, service: TheService, principal: ThePrincipal) -> JSONResponse:
    """Hand in signatures, all or none. Each is bound to the exact bytes that it is on; with the quorum they are published."""
    files = {text.encode(): parse_signature(text.encode()) for text in body.signatures}
    for file in files.values():
        require(principal, Role.SIGNER, line_of(file.role))
    with service.data.writing(next(iter(files.values())).role) as unit:
        taken = [data for data, file in files.items() if was_taken(unit, file)]  # and published since: sent again
        attached = hand_in(unit, principal, [data for data in files if data not in taken])
    service.worker.wake("publish", "log")
    found = [_attached(item.file, item.quorum, repeated=item.repeated) for item in attached]
    return JSONResponse({"attached": [*found, *(_attached(files[data], None, repeated=True) for data in taken)]})


def _attached(file: SignatureFile, quorum: Quorum | None, *, repeated: bool) -> dict[str, Any]:
    """A signature that was taken; `quorum` is None once what it is on was published."""
    return {
        "role": file.role,
        "version": file.version,
        "sha256": file.sha256,
        "keyid": file.keyid,
        "repeated": repeated,
        "signatures": str(quorum) if quorum else "published",
        "complete": quorum.complete if quorum else True,
    }


@router.post("/publications")
def publish(body: PublicationIn, service: TheService, principal: ThePrincipal) -> dict[str, Any]:
    """Publish what is ready now, or renew timestamp and snapshot; the service does both by itself, too."""
    if body.renew:
        require(principal, Role.ADMINISTRATOR, EVERY)
        done = dict(service.publisher.renew(force=True))
    else:
        for role in body.roles or ():
            if not principal.holds(Role.SIGNER, line_of(role)):
                require(principal, Role.ADMINISTRATOR, line_of(role))
        if body.roles is None and not any(role in (Role.SIGNER, Role.ADMINISTRATOR) for role, _ in principal.grants):
            require(principal, Role.SIGNER, EVERY)
        done = dict(service.publisher.publish(body.roles))
    service.worker.wake("export", "log")
    with service.data.reading() as unit:
        return {"published": done, "waiting": _waiting(unit, principal, body.roles)}


@router.get("/publications")
def publications(service: TheService, principal: ThePrincipal) -> dict[str, Any]:
    """List the last publications; `exported` is when devices could have them, as Unix seconds."""
    require_read(principal, EVERY)
    query = select(PUBLICATIONS).order_by(PUBLICATIONS.c.id.desc()).limit(100)
    with service.data.reading() as unit:
        rows = unit.connection.execute(query).all()
    return {"publications": [{"id": row.id, "time": row.time, "exported": row.exported} for row in rows]}


def describe(unit: Unit, principal: Principal) -> dict[str, Any]:
    """Return where the repository stands, as far as somebody may read it."""
    repository = unit.repository
    config, people = repository.config(), repository.people()
    found: Status = judge(
        repository.state(), people, unit.now, config.expiry, read_revoked(repository.layout), demo=config.demo
    )
    stuck = {row.role: row.reason for row in unit.connection.execute(select(STUCK))}
    roles = [item for item in found.roles if _sees(principal, item.role)]
    return {
        "demo": found.demo,
        "late": found.late,
        "roles": {item.role: _role(unit, item, stuck.get(item.role)) for item in roles},
        "people": dict(people),
        "next": list(found.todo) if may_read(principal, EVERY) else [],
    }


def _sees(principal: Principal, role: str) -> bool:
    return role in ("root", "targets", "snapshot", "timestamp") or may_read(principal, role)


def _role(unit: Unit, item: RoleStatus, stuck: str | None) -> dict[str, Any]:
    value: dict[str, Any] = {"published": item.published, "expires": item.expires, "alert": item.alert}
    if item.clash is not None:
        value["clash"] = str(item.clash)
    if item.draft is None:
        return value
    value |= {"draft": item.draft, "digest": item.digest, "draft_expires": item.draft_expires}
    if item.quorum is not None:
        eyes = eyes_of(unit.connection, unit.repository.state(), item.role)
        value |= {
            "signatures": str(item.quorum),
            "signed": list(item.quorum.signed),
            "missing": list(item.quorum.missing),
            "complete": item.quorum.complete,
            "four_eyes": eyes.met,
        }
        if why := eyes.why():
            value["four_eyes_why"] = list(why)
    return value | ({"stuck": stuck} if stuck else {})


def _waiting(unit: Unit, principal: Principal, wanted: list[str] | None) -> dict[str, str]:
    """Why drafts were not published, by role."""
    state = unit.repository.state()
    stuck = {row.role: row.reason for row in unit.connection.execute(select(STUCK))}
    found = {}
    for role in state.drafts:
        if not _sees(principal, role) or (wanted is not None and role not in wanted):
            continue
        quorum = state.quorum(role)
        if not quorum.complete:
            found[role] = f"it has {quorum} signatures"
        elif not (eyes := eyes_of(unit.connection, state, role)).met:
            found[role] = f"four eyes are wanting: {'; '.join(eyes.why())}"
        else:
            found[role] = stuck.get(role, "it waits for another draft")
    return found
