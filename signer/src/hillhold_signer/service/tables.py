"""The tables of a service's database (PostgreSQL or SQLite). Times are Unix seconds, hashes SHA-256 in hexadecimal.

What belongs together is written in one transaction: a draft, who made it, and the event that says so; or all files of a publication.
`migrations` makes these tables; a test holds both alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

METADATA: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_NUMBER: Final = BigInteger().with_variant(Integer, "sqlite")  # the only type that SQLite counts up by itself
_HASH: Final = String(64)


class Ids(TypeDecorator[tuple[int, ...]]):
    """Ids of accounts, ascending, as JSON."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Iterable[int] | None, _dialect: Any) -> str:
        """Write them; none is not the same as nothing said, which is refused."""
        return json.dumps(sorted(value))  # type: ignore[arg-type]

    def process_result_value(self, value: str | None, _dialect: Any) -> tuple[int, ...]:
        """Read them."""
        return tuple(json.loads(value or ""))


def _behind() -> Column[tuple[int, ...]]:
    """Who stands behind a row: of means to log in, and of whose a key is, those who gave them; of what was done, those who did it, too.

    `Principal.behind` says who that is. Nobody: the operator, or what came with a repository that was taken over. No account is ever
    removed, so that this stays true whatever becomes of the means.
    """
    return Column("behind", Ids, nullable=False)


def _name(length: int) -> String:
    """A name with slashes. It is compared by its bytes: those below a folder are neighbours, whatever the database's language."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


# --- the repository -------------------------------------------------------------------------------------------------------------------

FILES: Final = Table(
    "files",
    METADATA,
    # as `layout` names it: "hillhold.toml", "drafts/…", "public/metadata/…"
    Column("name", _name(512), primary_key=True),
    Column("data", LargeBinary, nullable=False),
)
BLOBS: Final = (
    Table(  # target files, whole in the object store under "blobs/SHA256"; their hash was checked on the way in
        "blobs",
        METADATA,
        Column("sha256", _HASH, primary_key=True),
        Column("length", BigInteger, nullable=False),
        Column("time", BigInteger, nullable=False),
    )
)
BLOB_SENDERS: Final = Table(  # who has sent its bytes, and may use them: to know a hash is not to have the file
    "blob_senders",
    METADATA,
    Column("sha256", _HASH, ForeignKey("blobs.sha256"), primary_key=True),
    Column("account", _NUMBER, ForeignKey("accounts.id"), primary_key=True),
)
LINE_BLOBS: Final = Table(  # what was handed in for a line: its images, and what came with them
    "line_blobs",
    METADATA,
    Column("sha256", _HASH, ForeignKey("blobs.sha256"), primary_key=True),
    Column("line", String(80), primary_key=True),
)
SWEPT_BLOBS: Final = (
    Table(  # objects that no row of blobs speaks of any more, or yet: from when on they may be deleted (`sweeping`)
        "swept_blobs",
        METADATA,
        Column("sha256", _HASH, primary_key=True),
        Column("time", BigInteger, nullable=False),
    )
)
TARGETS: Final = Table(  # published target files by name, "public/targets/…", and staged ones, "staged/SHA256"
    "targets",
    METADATA,
    Column("name", _name(512), primary_key=True),
    Column("sha256", _HASH, ForeignKey("blobs.sha256"), nullable=False, index=True),
)
PUBLICATIONS: Final = Table(  # what was decided; `exported` once the object store has all of it
    "publications",
    METADATA,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("time", BigInteger, nullable=False),
    Column("roles", Text, nullable=False),  # JSON: version by role
    Column("exported", BigInteger, nullable=True, index=True),
)
PUBLICATION_FILES: Final = Table(  # in the order in which they are written
    "publication_files",
    METADATA,
    Column("publication", _NUMBER, ForeignKey("publications.id"), primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("name", String(512), nullable=False),  # "public/metadata/…" or "public/targets/…"
    Column("data", LargeBinary, nullable=True),  # of metadata
    Column("sha256", _HASH, nullable=True),  # of a target file: its blob
)

# --- the log --------------------------------------------------------------------------------------------------------------------------

EVENTS: Final = Table(  # not in the log yet; written with what they tell of
    "events",
    METADATA,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("entry", LargeBinary, nullable=False),
)
LOG_FILES: Final = Table(
    "log_files",
    METADATA,
    Column("path", _name(255), primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

LOG_RELEASES: Final = Table(  # by target path, the entry that tells of its submission; made from the log (`proofs`)
    "log_releases",
    METADATA,
    Column("path", String(512), primary_key=True),
    Column("entry", BigInteger, nullable=False),
)

# --- who may do what ------------------------------------------------------------------------------------------------------------------

ACCOUNTS: Final = Table(
    "accounts",
    METADATA,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("name", String(80), nullable=False, unique=True),
    Column("machine", Integer, nullable=False),  # 1 for CI and the like, 0 for a person
    Column("time", BigInteger, nullable=False),
    Column("disabled", BigInteger, nullable=True),
)
ACCOUNT_KEYS: Final = Table(  # the signing keys that a person holds, for four eyes
    "account_keys",
    METADATA,
    Column("keyid", _HASH, primary_key=True),
    Column("account", _NUMBER, ForeignKey("accounts.id"), nullable=False, index=True),
    _behind(),
)
GRANTS: Final = Table(
    "grants",
    METADATA,
    Column("account", _NUMBER, ForeignKey("accounts.id"), primary_key=True),
    Column("role", String(20), primary_key=True),  # submitter, signer, administrator, auditor
    Column("line", String(80), primary_key=True),  # a product line, or "*"
)
IDENTITIES: Final = Table(  # who an outside word stands for: an OIDC issuer's, or a certificate's ("x509")
    "identities",
    METADATA,
    Column("issuer", String(255), primary_key=True),
    Column("subject", String(255), primary_key=True),
    Column("account", _NUMBER, ForeignKey("accounts.id"), nullable=False, index=True),
    _behind(),
)
TOKENS: Final = Table(
    "tokens",
    METADATA,
    Column("id", String(24), primary_key=True),
    Column("account", _NUMBER, ForeignKey("accounts.id"), nullable=False, index=True),
    Column("secret", _HASH, nullable=False),  # SHA-256 of 256 random bits
    Column("label", String(80), nullable=False),
    Column("scopes", Text, nullable=False),  # JSON: [[role, line], …], at most what its account is granted at each use
    Column("time", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("revoked", BigInteger, nullable=True),
    Column("used", BigInteger, nullable=True),
    _behind(),
)
SESSIONS: Final = Table(  # of people at the page, who signed in there with a token
    "sessions",
    METADATA,
    Column("id", _HASH, primary_key=True),  # SHA-256 of the 256 random bits in the cookie
    Column("token", String(24), ForeignKey("tokens.id"), nullable=False, index=True),
    Column("expires", BigInteger, nullable=False, index=True),
)

# --- the flow -------------------------------------------------------------------------------------------------------------------------

UPLOADS: Final = Table(
    "uploads",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("account", _NUMBER, ForeignKey("accounts.id"), nullable=False),
    Column("sha256", _HASH, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("received", BigInteger, nullable=False),
    Column("time", BigInteger, nullable=False),
    UniqueConstraint("account", "sha256"),
)
UPLOAD_PARTS: Final = Table(  # objects "uploads/ID/OFFSET"
    "upload_parts",
    METADATA,
    Column("upload", String(32), ForeignKey("uploads.id"), primary_key=True),
    Column("offset", BigInteger, primary_key=True),
    Column("length", BigInteger, nullable=False),
)
CHANGES: Final = Table(  # who made which draft: the names of its file, and of what it says
    "changes",
    METADATA,
    Column("draft", _HASH, primary_key=True),
    Column("role", String(80), nullable=False, index=True),
    Column("digest", _HASH, nullable=False, index=True),
    Column("account", _NUMBER, ForeignKey("accounts.id"), nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("what", Text, nullable=False),  # JSON: for people, what was asked for
    _behind(),
)
SUBMISSIONS: Final = Table(  # a release that was handed in, for whoever asks again
    "submissions",
    METADATA,
    Column("path", String(300), primary_key=True),
    Column("sha256", _HASH, nullable=False),
    Column("wish", _HASH, nullable=False),  # SHA-256 of all that was asked for with it
    Column("account", _NUMBER, ForeignKey("accounts.id"), nullable=False),
    Column("time", BigInteger, nullable=False),
)
APPROVALS: Final = Table(  # who handed in which signature; more than one may have
    "approvals",
    METADATA,
    Column("digest", _HASH, primary_key=True),
    Column("keyid", _HASH, primary_key=True),
    Column("role", String(80), primary_key=True),  # new lines, still empty, have the same bytes and digest
    Column("account", _NUMBER, ForeignKey("accounts.id"), primary_key=True),
    Column("time", BigInteger, nullable=False),
    _behind(),
)
STUCK: Final = Table(  # complete drafts that were not published, and why
    "stuck",
    METADATA,
    Column("role", String(80), primary_key=True),
    Column("digest", _HASH, nullable=False),
    Column("reason", Text, nullable=False),
    Column("time", BigInteger, nullable=False),
)
HOLDS: Final = (
    Table(  # a row: this database was restored, and nothing is signed or published until somebody says what came after
        "holds",
        METADATA,
        Column("id", Integer, primary_key=True, autoincrement=False),  # always 1
        Column("time", BigInteger, nullable=False),
        Column("backup", String(80), nullable=False),  # its name
        Column("manifest", _HASH, nullable=False),
    )
)
Index("ix_submissions_time", SUBMISSIONS.c.time)
