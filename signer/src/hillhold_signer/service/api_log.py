"""`/log`: the Merkle log as C2SP tlog-tiles has it, for auditors and their tools; and proofs (`/v1/releases/…/proof`)."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Response

from hillhold_signer.service.access import EVERY, NotFoundRefused, Principal, Role, require_read
from hillhold_signer.service.dependencies import ThePrincipal, TheService
from hillhold_signer.service.journal import LogReader
from hillhold_signer.service.proofs import prove_release

router = APIRouter(tags=["log"])

MAX_FILE: Final = 32 * 1024 * 1024
"""Bytes of a tile or bundle."""


@router.get("/log/checkpoint", response_class=Response)
def checkpoint(service: TheService, principal: ThePrincipal) -> Response:
    """Return the latest signed checkpoint (C2SP tlog-checkpoint)."""
    return _file(service, principal, "checkpoint", "text/plain; charset=utf-8", "no-store")


@router.get("/log/tile/{path:path}", response_class=Response)
def tile(path: str, service: TheService, principal: ThePrincipal) -> Response:
    """Return a tile, or a bundle of entries (C2SP tlog-tiles)."""
    return _file(service, principal, f"tile/{path}", "application/octet-stream", "private, immutable")


@router.get("/v1/releases/{path:path}/proof", response_class=Response)
def proof(path: str, service: TheService, principal: ThePrincipal) -> Response:
    """Return the proof that a release's submission is in the log (C2SP tlog-proof)."""
    require_read(principal, path.partition("/")[0])
    found = prove_release(service.data, [service.log.verifier], path)
    if found is None:
        raise NotFoundRefused("release", expected="one that was handed in and is in the log", got="none")
    return Response(found.data, media_type="text/plain; charset=utf-8", headers={"Cache-Control": "no-store"})


def _file(service: TheService, principal: Principal, path: str, media: str, cache: str) -> Response:
    if (Role.AUDITOR, EVERY) not in principal.grants:
        require_read(principal, EVERY)
    data = LogReader(service.data.database).read(path, MAX_FILE)
    if data is None:
        raise NotFoundRefused("file of the log", expected="a checkpoint or tile that there is", got="none")
    return Response(data, media_type=media, headers={"Cache-Control": cache})
