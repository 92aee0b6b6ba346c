"""`/v1/tree`, `/v1/files` and `/v1/changes`: the repository's files for `hillhold … --service`."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from hashlib import sha256
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from hillhold_signer.service.access import NotFoundRefused
from hillhold_signer.service.dependencies import KnownFirst, ThePrincipal, TheService
from hillhold_signer.service.edits import MAX_CHANGED, ChangeRefused, change
from hillhold_signer.service.names import blob_key
from hillhold_signer.service.tree import MAX_NAME, check_read, list_tree, parse_name, read_bytes, target_digest

router = APIRouter(prefix="/v1", tags=["files"], route_class=KnownFirst)

FileName = Annotated[str, Path(max_length=MAX_NAME, description="as docs/FORMAT.md has it, such as drafts/pump/….json")]
NameText = Annotated[str, Field(max_length=MAX_NAME)]


class ChangeIn(BaseModel):
    """Files that are to be written, in base64 by name, and names that are to be removed."""

    model_config = ConfigDict(extra="forbid", strict=True)
    files: dict[NameText, str] = Field(default_factory=dict, max_length=MAX_CHANGED)
    removed: list[NameText] = Field(default_factory=list, max_length=MAX_CHANGED)


@router.get("/tree")
def tree(service: TheService, principal: ThePrincipal, response: Response) -> dict[str, Any]:
    """List the files of the repository that you may see, as they are at one moment: hashes, and the bytes of short ones in base64."""
    response.headers["Cache-Control"] = "no-store"
    with service.data.reading() as unit:
        return {"files": list_tree(unit, principal)}


@router.head("/files/{name:path}", response_class=Response)
@router.get("/files/{name:path}", response_class=Response)
def file(name: FileName, request: Request, service: TheService, principal: ThePrincipal) -> Response:
    """Return one file of the repository, by its name; its `ETag` is its SHA-256."""
    wanted = parse_name(name)
    check_read(principal, wanted)
    with service.data.reading() as unit:
        data = None if wanted.sort.is_target else read_bytes(unit, wanted)
        held = target_digest(unit, wanted) if wanted.sort.is_target else _digest(data)
    if held is None:
        raise NotFoundRefused("file", expected="one that there is", got="none")
    tag = f'"{held[1]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    headers["Content-Length"] = str(held[0])
    media = "application/octet-stream"
    if request.method == "HEAD":
        return Response(headers=headers, media_type=media)
    if data is not None:
        return Response(data, headers=headers, media_type=media)
    return StreamingResponse(service.data.objects.get(blob_key(held[1])), headers=headers, media_type=media)


@router.post("/changes")
def changes(body: ChangeIn, service: TheService, principal: ThePrincipal) -> dict[str, Any]:
    """Change files: all that is asked for, or nothing. Sent again, it is taken once, and answered alike."""
    files = {name: _bytes(name, text) for name, text in body.files.items()}
    with service.data.writing() as unit:
        done = change(unit, principal, files, body.removed)
    service.worker.wake("publish", "log")
    return done


def _digest(data: bytes | None) -> tuple[int, str] | None:
    return None if data is None else (len(data), sha256(data).hexdigest())


def _bytes(name: str, text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (Base64Error, ValueError) as error:
        raise ChangeRefused(ascii(name)[:80], expected="bytes in base64", got="something else") from error
