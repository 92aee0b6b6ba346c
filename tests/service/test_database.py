from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from hillhold_signer.service.database import Database
from hillhold_signer.service.tables import METADATA


def test_the_migrations_make_the_tables(database: Database) -> None:
    database.check_version()
    with database.snapshot() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    database.migrate()
