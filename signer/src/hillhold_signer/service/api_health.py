"""`/healthz`: whether this process lives; for whoever restarts it."""

from __future__ import annotations

from fastapi import APIRouter, Response

router = APIRouter(tags=["operations"])


@router.get("/healthz", response_class=Response)
async def alive() -> Response:
    """Answer."""
    return Response("ok\n", media_type="text/plain; charset=utf-8")
