"""The tables of the first version."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

NUMBER: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
HASH: Final = sa.String(64)


def in_order(length: int) -> sa.String:
    """A name that is compared by its bytes."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Make them."""
    _repository()
    _log()
    _people()
    _flow()
    _submissions()


def _repository() -> None:
    op.create_table(
        "files",
        sa.Column("name", in_order(512), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_files"),
    )
    op.create_table(
        "blobs",
        sa.Column("sha256", HASH, nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_blobs"),
    )
    op.create_table(
        "swept_blobs",
        sa.Column("sha256", HASH, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_swept_blobs"),
    )
    op.create_table(
        "targets",
        sa.Column("name", in_order(512), nullable=False),
        sa.Column("sha256", HASH, nullable=False),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name="fk_targets_sha256"),
        sa.PrimaryKeyConstraint("name", name="pk_targets"),
    )
    op.create_index("ix_targets_sha256", "targets", ["sha256"])
    op.create_table(
        "publications",
        sa.Column("id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("roles", sa.Text(), nullable=False),
        sa.Column("exported", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_publications"),
    )
    op.create_index("ix_publications_exported", "publications", ["exported"])
    op.create_table(
        "publication_files",
        sa.Column("publication", NUMBER, nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(512), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=True),
        sa.Column("sha256", HASH, nullable=True),
        sa.ForeignKeyConstraint(["publication"], ["publications.id"], name="fk_publication_files_publication"),
        sa.PrimaryKeyConstraint("publication", "place", name="pk_publication_files"),
    )


def _log() -> None:
    op.create_table(
        "events",
        sa.Column("id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
    )
    op.create_table(
        "log_files",
        sa.Column("path", in_order(255), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("path", name="pk_log_files"),
    )
    op.create_table(
        "log_releases",
        sa.Column("path", sa.String(512), nullable=False),
        sa.Column("entry", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("path", name="pk_log_releases"),
    )


def _people() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("machine", sa.Integer(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("disabled", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_accounts"),
        sa.UniqueConstraint("name", name="uq_accounts_name"),
    )
    op.create_table(
        "account_keys",
        sa.Column("keyid", HASH, nullable=False),
        sa.Column("account", NUMBER, nullable=False),
        sa.Column("behind", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name="fk_account_keys_account"),
        sa.PrimaryKeyConstraint("keyid", name="pk_account_keys"),
    )
    op.create_index("ix_account_keys_account", "account_keys", ["account"])
    op.create_table(
        "grants",
        sa.Column("account", NUMBER, nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("line", sa.String(80), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name="fk_grants_account"),
        sa.PrimaryKeyConstraint("account", "role", "line", name="pk_grants"),
    )
    op.create_table(
        "identities",
        sa.Column("issuer", sa.String(255), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("account", NUMBER, nullable=False),
        sa.Column("behind", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name="fk_identities_account"),
        sa.PrimaryKeyConstraint("issuer", "subject", name="pk_identities"),
    )
    op.create_index("ix_identities_account", "identities", ["account"])
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(24), nullable=False),
        sa.Column("account", NUMBER, nullable=False),
        sa.Column("secret", HASH, nullable=False),
        sa.Column("label", sa.String(80), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("revoked", sa.BigInteger(), nullable=True),
        sa.Column("used", sa.BigInteger(), nullable=True),
        sa.Column("behind", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name="fk_tokens_account"),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
    )
    op.create_index("ix_tokens_account", "tokens", ["account"])
    op.create_table(
        "sessions",
        sa.Column("id", HASH, nullable=False),
        sa.Column("token", sa.String(24), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["token"], ["tokens.id"], name="fk_sessions_token"),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
    )
    op.create_index("ix_sessions_expires", "sessions", ["expires"])
    op.create_index("ix_sessions_token", "sessions", ["token"])


def _flow() -> None:
    op.create_table(
        "line_blobs",
        sa.Column("sha256", HASH, nullable=False),
        sa.Column("line", sa.String(80), nullable=False),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name="fk_line_blobs_sha256"),
        sa.PrimaryKeyConstraint("sha256", "line", name="pk_line_blobs"),
    )
    op.create_table(
        "blob_senders",
        sa.Column("sha256", HASH, nullable=False),
        sa.Column("account", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name="fk_blob_senders_account"),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name="fk_blob_senders_sha256"),
        sa.PrimaryKeyConstraint("sha256", "account", name="pk_blob_senders"),
    )
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("account", NUMBER, nullable=False),
        sa.Column("sha256", HASH, nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name="fk_uploads_account"),
        sa.PrimaryKeyConstraint("id", name="pk_uploads"),
        sa.UniqueConstraint("account", "sha256", name="uq_uploads_account"),
    )
    op.create_table(
        "upload_parts",
        sa.Column("upload", sa.String(32), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["upload"], ["uploads.id"], name="fk_upload_parts_upload"),
        sa.PrimaryKeyConstraint("upload", "offset", name="pk_upload_parts"),
    )
    # ### end Alembic commands ###
    op.create_table(
        "changes",
        sa.Column("draft", HASH, nullable=False),
        sa.Column("role", sa.String(80), nullable=False),
        sa.Column("digest", HASH, nullable=False),
        sa.Column("account", NUMBER, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("behind", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name="fk_changes_account"),
        sa.PrimaryKeyConstraint("draft", name="pk_changes"),
    )


def _submissions() -> None:
    op.create_index("ix_changes_digest", "changes", ["digest"])
    op.create_index("ix_changes_role", "changes", ["role"])
    op.create_table(
        "submissions",
        sa.Column("path", sa.String(300), nullable=False),
        sa.Column("sha256", HASH, nullable=False),
        sa.Column("wish", HASH, nullable=False),
        sa.Column("account", NUMBER, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name="fk_submissions_account"),
        sa.PrimaryKeyConstraint("path", name="pk_submissions"),
    )
    op.create_index("ix_submissions_time", "submissions", ["time"])
    op.create_table(
        "approvals",
        sa.Column("digest", HASH, nullable=False),
        sa.Column("keyid", HASH, nullable=False),
        sa.Column("role", sa.String(80), nullable=False),
        sa.Column("account", NUMBER, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("behind", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name="fk_approvals_account"),
        sa.PrimaryKeyConstraint("digest", "keyid", "role", "account", name="pk_approvals"),
    )
    op.create_table(
        "stuck",
        sa.Column("role", sa.String(80), nullable=False),
        sa.Column("digest", HASH, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("role", name="pk_stuck"),
    )
    op.create_table(
        "holds",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("backup", sa.String(80), nullable=False),
        sa.Column("manifest", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_holds"),
    )
