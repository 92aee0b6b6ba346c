"""`/v1/blobs` and `/v1/uploads`: files on their way in, and out again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from hillhold_signer.service import uploads
from hillhold_signer.service.access import EVERY, ForbiddenRefused, NotFoundRefused, Principal, Role, may_read
from hillhold_signer.service.dependencies import ThePrincipal, TheService, receiving
from hillhold_signer.service.names import blob_key
from hillhold_signer.service.service import Service
from hillhold_signer.service.uploads import Upload

router = APIRouter(prefix="/v1", tags=["files"])

Digest = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="SHA-256 of the file, in hexadecimal")]
Identifier = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]


class Beginning(BaseModel):
    """A file that is to be uploaded."""

    model_config = ConfigDict(extra="forbid", strict=True)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    length: int = Field(gt=0, le=2**53 - 1)


@router.put("/blobs/{digest}", status_code=201, responses={200: {"description": "It was there already."}})
async def put_blob(digest: Digest, request: Request, service: TheService, principal: ThePrincipal) -> JSONResponse:
    """Upload a file in one stream. Its hash is checked on the way; sent again, it is taken once."""
    _check_sender(principal)
    database, objects, most = service.data.database, service.data.objects, service.settings.max_upload
    length, new = await receiving(
        request, lambda chunks: uploads.receive(database, objects, digest, most, chunks, principal.account_id)
    )
    return JSONResponse({"sha256": digest, "length": length}, 201 if new else 200)


@router.head("/blobs/{digest}")
def head_blob(digest: Digest, service: TheService, principal: ThePrincipal) -> Response:
    """Say whether a file is there, whole, and how long it is."""
    _check_reader(principal)
    if (length := _known(service, principal, digest)) is None:
        raise NotFoundRefused("file", expected="one of yours, of your lines, or a published one", got="none")
    return Response(headers={"Content-Length": str(length)})


@router.get("/blobs/{digest}")
def get_blob(digest: Digest, service: TheService, principal: ThePrincipal) -> StreamingResponse:
    """Download a file that was uploaded or published, by its hash."""
    _check_reader(principal)
    if (length := _known(service, principal, digest)) is None:
        raise NotFoundRefused("file", expected="one of yours, of your lines, or a published one", got="none")
    headers = {"Content-Length": str(length), "ETag": f'"{digest}"', "Cache-Control": "private, immutable"}
    chunks: Iterator[bytes] = service.data.objects.get(blob_key(digest))
    return StreamingResponse(chunks, headers=headers, media_type="application/octet-stream")


@router.post("/uploads", status_code=201, responses={200: {"description": "It is there already, whole."}})
def begin(beginning: Beginning, service: TheService, principal: ThePrincipal) -> JSONResponse:
    """Begin an upload in pieces, or go on with the one that broke off."""
    _check_sender(principal)
    upload = uploads.begin(
        service.data.database,
        principal,
        beginning.sha256,
        beginning.length,
        service.settings.max_upload,
        service.fresh(),
    )
    return _answer(upload, 200 if upload.complete else 201)


@router.head("/uploads/{identifier}", status_code=204)
def offset(identifier: Identifier, service: TheService, principal: ThePrincipal) -> Response:
    """Say how far an upload has come."""
    _check_sender(principal)
    upload = uploads.find(service.data.database, principal, identifier)
    return Response(status_code=204, headers=_headers(upload))


@router.patch("/uploads/{identifier}")
async def append(
    identifier: Identifier,
    request: Request,
    service: TheService,
    principal: ThePrincipal,
    upload_offset: Annotated[int, Header(ge=0, le=2**53 - 1)],
) -> JSONResponse:
    """Send the next bytes of an upload, as many as you like. What has arrived when the connection breaks is kept."""
    _check_sender(principal)
    database, objects = service.data.database, service.data.objects
    upload = await run_in_threadpool(uploads.find, database, principal, identifier)
    upload = await receiving(request, lambda chunks: uploads.append(database, objects, upload, upload_offset, chunks))
    return _answer(upload, 200)


def _answer(upload: Upload, status: int) -> JSONResponse:
    value: dict[str, Any] = {"sha256": upload.sha256, "length": upload.length, "offset": upload.offset}
    value |= {"complete": upload.complete} | ({} if upload.complete else {"id": upload.id})
    headers = _headers(upload) | ({} if upload.complete else {"Location": f"/v1/uploads/{upload.id}"})
    return JSONResponse(value, status, headers)


def _headers(upload: Upload) -> dict[str, str]:
    complete = "?1" if upload.complete else "?0"
    return {
        "Upload-Offset": str(upload.offset),
        "Upload-Length": str(upload.length),
        "Upload-Complete": complete,
        "Cache-Control": "no-store",
    }


def _known(service: Service, principal: Principal, digest: str) -> int | None:
    """The length of a file that somebody may have; None where there is none such."""
    with service.data.database.snapshot() as connection:
        if may_read(principal, EVERY):
            return uploads.blob_length(connection, digest)
        lines = {line for _, line in principal.grants}
        return uploads.usable(connection, principal.account_id, lines, [digest]).get(digest)


def _check_sender(principal: Principal) -> None:
    if not any(role in (Role.SUBMITTER, Role.ADMINISTRATOR) for role, _ in principal.grants):
        raise ForbiddenRefused("permission", expected="submitter or administrator of a line", got=principal.name)


def _check_reader(principal: Principal) -> None:
    if not principal.grants:
        raise ForbiddenRefused("permission", expected="any role", got=principal.name)
