"""`/healthz`, `/readyz`, `/metrics`: for whoever restarts a replica, sends it requests, or watches it; no token, no secret."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from hillhold_signer.service.dependencies import TheService
from hillhold_signer.service.health import show
from hillhold_signer.service.logs import logger
from hillhold_signer.service.metrics import CONTENT_TYPE

router = APIRouter(tags=["operations"])


@router.get(
    "/healthz", response_class=Response, responses={503: {"description": "Restart it.", "content": {"text/plain": {}}}}
)
async def alive(service: TheService) -> Response:
    """Answer 200 unless a restart would help; asks neither database nor object store."""
    found = service.health.alive()
    return Response(f"{found.text}\n", 200 if found.ok else 503, media_type="text/plain; charset=utf-8")


@router.get(
    "/readyz",
    response_class=JSONResponse,
    responses={503: {"description": "Not now, and why.", "content": {"application/json": {}}}},
)
def ready(service: TheService) -> JSONResponse:
    """Answer 200 where this replica can do what it is asked, else 503, and which part is not well."""
    checks = service.health.ready()
    for check in checks:
        if not check.ok:
            logger("health").warning("not ready", part=check.name, said=check.text, why=check.why)
    return JSONResponse(show(checks), 200 if all(check.ok for check in checks) else 503)


@router.get("/metrics", response_class=Response)
def metrics(service: TheService) -> Response:
    """Answer in Prometheus' text format: what this process did, and how things stand for all of them."""
    return Response(service.measure(), media_type=CONTENT_TYPE)
