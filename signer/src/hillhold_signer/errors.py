"""What the signer refuses, and what fails around it.

Every class derives from the verifier's `Refused` (exit code 1) or `OperationalError` (3), and may carry a hint: one line that says
what to do about it. Signer refusals never travel to a device, so they keep the general code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hillhold_verifier.errors import OperationalError, Refused

MAX_SHOWN: Final = 5
"""Rows of a table in the message of one error."""


class SignerRefused(Refused):
    """Base of the signer's refusals.

    Args:
        what: the thing that is refused, as a phrase.
        expected: what would have been accepted.
        got: what came.
        hint: what to do about it, in one line.
    """

    def __init__(self, what: str, *, expected: object = None, got: object = None, hint: str | None = None) -> None:
        self.hint = hint
        super().__init__(what, expected=expected, got=got)


class KeyRefused(SignerRefused):
    """A key file or key URI that cannot be used: malformed, of another kind, a wrong passphrase."""


class PassphraseRefused(KeyRefused):
    """A wrong passphrase for an encrypted key file, or none."""


class PublicKeyMaterialRefused(SignerRefused):
    """A key whose private part everybody has: an example key outside a demo, or one of MCUboot's published samples."""


class CeremonyRefused(SignerRefused):
    """A ceremony file or a team of keys that does not make sense."""


class ConfigRefused(SignerRefused):
    """A `hillhold.toml`, or a name in `people/`, that cannot be read."""


class ContentRefused(SignerRefused):
    """Values that may not be signed: control characters, floats, integers that JSON readers disagree on, too much."""


class RepositoryRefused(SignerRefused):
    """A repository directory that is not one, is damaged, or whose published metadata do not verify."""


class DamagedRefused(RepositoryRefused):
    """What a repository has published does not verify any more."""

    def __init__(self, error: Refused) -> None:
        hint = "the files in public/metadata were changed by something else; restore them from a copy"
        super().__init__(f"what is published does not verify: {error}", hint=hint)


class AnchorRefused(RepositoryRefused):
    """What a repository has published does not follow from the root that a person keeps."""

    def __init__(self, error: Refused) -> None:
        hint = "sign nothing: ask the others, by another way, which repository is the true one"
        super().__init__(f"what is published does not follow from your root: {error}", hint=hint)


class ProductRefused(SignerRefused):
    """A product line that may not be made like this."""


class RotationRefused(SignerRefused):
    """A change of keys that would let old files come back to life, or leave a stolen key trusted."""


class ReleaseRefused(SignerRefused):
    """A release that may not be added, before anyone signs it."""


class TableRefused(SignerRefused):
    """A table of releases that cannot be read, or a row of it."""


class ImportRefused(SignerRefused):
    """Rows of a table that may not be imported.

    Attributes:
        rows: line numbers in the table, and why.
    """

    def __init__(self, rows: Sequence[tuple[int, str]]) -> None:
        self.rows = tuple(rows)
        shown = "; ".join(f"line {line}: {why}" for line, why in self.rows[:MAX_SHOWN])
        more = f"; and {len(self.rows) - MAX_SHOWN} more" if len(self.rows) > MAX_SHOWN else ""
        hint = "nothing was written; put the rows right, or leave them out, and run the command again"
        super().__init__(f"{len(self.rows)} rows of the table are refused: {shown}{more}", hint=hint)


class ImageRefused(SignerRefused):
    """An image that cannot be signed like this."""


class SigningRefused(SignerRefused):
    """A signature that nothing asks for, or over something else than what was shown."""


class MergeRefused(SignerRefused):
    """Two drafts of a role that changed the same thing differently, so that no program can say which is meant."""


class RequestRefused(SignerRefused):
    """A request or a signature file that is malformed, or does not say what it claims."""


class StaleRefused(SignerRefused):
    """A signature or request for bytes that are drafted no more: changed since, or published."""


class QuorumRefused(SignerRefused):
    """Too few signatures to publish."""


class VerifyRefused(SignerRefused):
    """A published tree that a client would refuse."""


class FileRefused(SignerRefused):
    """A file that is longer than what it may be."""


class NoteRefused(SignerRefused):
    """A signed note, checkpoint or vkey that is malformed, or a signature that does not verify."""


class LogRefused(SignerRefused):
    """A log whose tiles, entries and checkpoints do not agree with each other, or with a checkpoint that somebody kept."""


class ProofRefused(SignerRefused):
    """A proof that is malformed, or does not prove what it should."""


class EntryRefused(SignerRefused):
    """An entry or event that may not go into a log, or that is not one."""


class ServiceRefused(SignerRefused):
    """What a signing service refused, in its words.

    Attributes:
        status: of the HTTP answer.
    """

    def __init__(self, what: str, *, status: int, hint: str | None = None) -> None:
        self.status = status
        super().__init__(what, hint=hint)


class StorageError(OperationalError):
    """A file could not be read or written."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.hint = hint
        super().__init__(message)


class LockedError(StorageError):
    """Another process holds the repository."""


class ServiceError(StorageError):
    """A signing service could not be reached, failed, or answered with what is no answer."""


class ToolError(OperationalError):
    """An external tool or key service failed."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.hint = hint
        super().__init__(message)
