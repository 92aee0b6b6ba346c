"""A register of accounts in a database of its own, and the people of the examples in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from itertools import count

from sqlalchemy import Connection, StaticPool, create_engine

from hillhold_signer.service import accounts, tokens
from hillhold_signer.service.access import EVERY, Grant, Principal, Role
from hillhold_signer.service.tables import METADATA

NOW = 1_767_225_600
DAY = 86_400


class Register:
    """`connection` writes, and what it wrote is there at once."""

    def __init__(self) -> None:
        self.engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        METADATA.create_all(self.engine)
        self.connection = self.engine.connect()
        self.random = numbered()

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        yield self.connection

    def account(self, name: str, *grants: Grant, machine: bool = False) -> Principal:
        accounts.create(self.connection, name, machine=machine, now=NOW)
        for role, line in grants:
            accounts.grant(self.connection, name, role, line)
        return self.who(name)

    def who(self, name: str) -> Principal:
        found = accounts.principal(self.connection, accounts.find(self.connection, name).id, ())
        assert found
        return found

    def token(self, name: str, *scopes: Grant, lifetime: int = 90 * DAY, by: Principal | None = None) -> str:
        return self.issued(name, *scopes, lifetime=lifetime, by=by).text

    def issued(self, name: str, *scopes: Grant, lifetime: int = 90 * DAY, by: Principal | None = None) -> tokens.Issued:
        return tokens.issue(
            self.connection,
            by,
            name,
            scopes=scopes or None,
            label="CI",
            lifetime=lifetime,
            now=NOW,
            random=self.random,
        )

    def close(self) -> None:
        self.connection.close()
        self.engine.dispose()


def numbered() -> Callable[[int], bytes]:
    """Random bytes that are the same in every run, and each time others."""
    numbers = count()
    return lambda size: sha256(b"%d" % next(numbers)).digest()[:size]


ADMINISTRATOR = (Role.ADMINISTRATOR, EVERY)
SUBMITTER = (Role.SUBMITTER, "pump")
SIGNER = (Role.SIGNER, "pump")
