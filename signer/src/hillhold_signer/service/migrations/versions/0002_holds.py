"""A database that was restored is held."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "holds",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("backup", sa.String(80), nullable=False),
        sa.Column("manifest", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_holds"),
    )
