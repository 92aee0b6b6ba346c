"""How alembic makes the tables: on the connection that `Database.migrate` hands it, in its transaction."""

from __future__ import annotations

from alembic import context

from hillhold_signer.service.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
