"""Who is signed in at the page: a session for each API token that was handed in, by a random cookie of which the database has the hash.

A session says nothing by itself: at each use its token is judged anew, so that it ends when the token is revoked or its account disabled.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final

from sqlalchemy import Connection, delete, insert, select

from hillhold_signer.service.access import Principal, UnauthenticatedRefused
from hillhold_signer.service.tables import SESSIONS
from hillhold_signer.service.tokens import check_id

SESSION_SECONDS: Final = 8 * 3600
"""A working day."""

_COOKIE: Final = re.compile("[0-9a-f]{64}")


def begin_session(connection: Connection, token: str, now: int, cookie: str) -> None:
    """Begin a session.

    Args:
        token: the id of the token that was handed in, not its secret.
        cookie: its value, 256 random bits in hexadecimal, which is stored nowhere.
    """
    connection.execute(insert(SESSIONS).values(id=_hash(cookie), token=token, expires=now + SESSION_SECONDS))


def session_reader(connection: Connection, cookie: str, now: int) -> Principal | None:
    """Return whose session it is, with what they may do now; None where there is none, or it or its token is over."""
    if not _COOKIE.fullmatch(cookie):
        return None
    found = select(SESSIONS.c.token).where(SESSIONS.c.id == _hash(cookie), SESSIONS.c.expires > now)
    token = connection.execute(found).scalar_one_or_none()
    if token is None:
        return None
    try:
        return check_id(connection, token, now)
    except UnauthenticatedRefused:
        return None


def end_session(connection: Connection, cookie: str) -> None:
    """End a session, if there is one."""
    connection.execute(delete(SESSIONS).where(SESSIONS.c.id == _hash(cookie)))


def sweep(connection: Connection, now: int) -> None:
    """Forget sessions that are over."""
    connection.execute(delete(SESSIONS).where(SESSIONS.c.expires <= now))


def _hash(cookie: str) -> str:
    return sha256(cookie.encode()).hexdigest()
