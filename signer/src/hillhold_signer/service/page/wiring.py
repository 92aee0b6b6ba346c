"""The page as a part of a service."""

from __future__ import annotations

from typing import Final

from fastapi import Request

from hillhold_signer.log.events import Kind
from hillhold_signer.service import tokens
from hillhold_signer.service.access import Principal, UnauthenticatedRefused
from hillhold_signer.service.page.data import Unit
from hillhold_signer.service.page.router import Surroundings
from hillhold_signer.service.page.sessions import begin_session, end_session, session_reader, sweep
from hillhold_signer.service.proofs import prove_release
from hillhold_signer.service.publisher import visible
from hillhold_signer.service.service import Service

MAX_PATH: Final = 200
"""Characters of a path in an event."""


def surroundings(service: Service) -> Surroundings:
    """Return what the page needs of a service."""

    def sign_in(token: str, request: Request) -> str:
        """As a request with that token would be judged: the same limits, and a failed login is recorded."""
        if not token.startswith(tokens.PREFIX):
            token = tokens.PREFIX  # only tokens of ours begin a session; this one is refused, and counted
        others = [item for item in request.scope["headers"] if item[0] != b"authorization"]
        try:
            who = service.authenticator.authenticate(
                service.data.database.snapshot,
                service.data.database.glance,
                headers=[*others, (b"authorization", b"Bearer " + token.encode(errors="replace"))],
                certificate=None,
                address=request.client.host if request.client else "unknown",
                now=service.now(),
                monotonic=service.monotonic(),
            )
        except UnauthenticatedRefused as error:
            for actor, reason in error.records:
                service.data.record(Kind.FAILED_LOGIN, visible(actor), reason=visible(reason))
            raise
        if who.token is None:
            raise UnauthenticatedRefused("no token")
        with service.data.database.transaction() as connection:
            now = service.data.database.now(connection)
            sweep(connection, now)
            tokens.touch(connection, who.token, now)
            cookie = service.fresh() + service.fresh()
            begin_session(connection, who.token, now, cookie)
        return cookie

    def sign_out(cookie: str) -> None:
        with service.data.database.transaction() as connection:
            end_session(connection, cookie)

    def proof(_: Unit, path: str) -> bytes | None:
        found = prove_release(service.data, [service.log.verifier], path)
        return found.data if found else None

    def denied(reader: Principal, path: str) -> None:
        service.refusals.note(reader, f"page {visible(path[:MAX_PATH])}", "no role that lets them see it")

    return Surroundings(
        service.data.reading,
        lambda unit, cookie: session_reader(unit.connection, cookie, unit.now),
        sign_in,
        sign_out,
        proof,
        service.settings.url,
        denied,
        service.log.verifier,
    )
