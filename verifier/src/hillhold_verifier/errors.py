"""What can go wrong, split by whose fault it is.

- `Refused`: the input's fault. Bytes that do not parse, signatures that do not suffice, a release that may not be installed.
- `MisuseError`: the caller's bug. The same call can never succeed.
- `OperationalError`: neither; the surroundings failed (a disk, a port, a flash chip).

Commands turn them into the exit codes 1, 2 and 3. Every refusal has a `code`, which travels in SMP responses
(`docs/FORMAT.md`, "Refusals") and is never reused.
"""

from __future__ import annotations

from typing import ClassVar


def short(digest: bytes) -> str:
    """Return a hash as people compare it in a message: its first 16 hexadecimal digits."""
    return f"{digest.hex()[:16]}…"


class HillholdError(Exception):
    """Base of all errors; never raised itself.

    Args:
        message: what was expected and what came.
        hint: what to do about it, in one line.
    """

    exit_code: ClassVar[int] = 3
    hint: str | None = None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        if type(self) is HillholdError:
            raise TypeError("HillholdError is abstract: raise one of its subclasses")
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class MisuseError(HillholdError):
    """The caller's bug: a call out of order, or an argument outside what the docstring allows."""

    exit_code = 2


class OperationalError(HillholdError):
    """A disk, a port or a flash chip failed; the same call may succeed later."""

    exit_code = 3


class NoAnswerError(OperationalError):
    """The board did not answer, however often it was asked."""


class Refused(HillholdError):
    """The input is refused, and says what was expected and what came.

    Args:
        what: the thing that is refused, as a phrase ("timestamp version").
        expected: what would have been accepted.
        got: what came.

    Attributes:
        stock: what SMP's stock group calls it, where its class alone does not say; set by who answers there.
    """

    exit_code = 1
    code: ClassVar[int] = 1
    stock: int | None = None

    def __init__(self, what: str, *, expected: object = None, got: object = None) -> None:
        self.what, self.expected, self.got = what, expected, got
        message = what
        if expected is not None:
            message += f": expected {expected}"
        if got is not None:
            message += f"{',' if expected is not None else ':'} got {got}"
        super().__init__(message)


# --- malformed bytes: each parser has its own -------------------------------------------------------------------------


class MetadataError(Refused):
    """Bytes that are not well-formed TUF metadata within the limits of `metadata`."""

    code = 2


class WireError(Refused):
    """A deflated metadata file that does not inflate to exactly what was announced."""

    code = 3


class ImageError(Refused):
    """Bytes that are not a well-formed MCUboot image."""

    code = 4


class SmpError(Refused):
    """Bytes that are not a well-formed SMP message or console frame."""

    code = 5


class PatchError(Refused):
    """A patch that is malformed, or does not fit its base and result."""

    code = 6


class RecordError(Refused):
    """A state record that is torn, of another format, or not ours."""

    code = 7


class BundleError(Refused):
    """A file that is not a bundle in its one byte form."""

    code = 8


# --- trust: the rules of DESIGN §4 ------------------------------------------------------------------------------------


class SignatureError(Refused):
    """Too few valid signatures by distinct keys of the role (TUF 5.3.4, 5.4.2, 5.5.3, 5.6.3)."""

    code = 16


class RollbackError(Refused):
    """A version below a floor (TUF 5.3.5, 5.4.3, 5.5.5, 5.6.4)."""

    code = 17


class ExpiredError(Refused):
    """Metadata that has expired, beyond any grace (TUF 5.3.10, 5.4.4, 5.5.6, 5.6.5)."""

    code = 18


class MismatchError(Refused):
    """Length, hash or version differ from what the lister signed (TUF 5.5.2, 5.5.4, 5.6.2, 5.7.2)."""

    code = 19


class MissingError(Refused):
    """A file of the chain is missing, so nothing is selectable."""

    code = 20


# --- releases and slots -----------------------------------------------------------------------------------------------


class SelectionError(Refused):
    """No release that this device may install, or not the one that was asked for."""

    code = 32


class ImageSignatureError(Refused):
    """An image whose own hash or signature does not verify under a key that the bootloader holds."""

    code = 33


class CounterError(Refused):
    """A security counter below the device's."""

    code = 34


class SlotError(Refused):
    """A slot that may not be written now, or is too small."""

    code = 35


class TransferError(Refused):
    """A transfer at another offset, of other content, or that was not authorised."""

    code = 36


class ConfirmError(Refused):
    """A confirmation where nothing is confirmed or on trial, before the image's own test, of a withdrawn image, or of another."""

    code = 37


class OrderError(Refused):
    """A request that does not fit the step that the session is at."""

    code = 38


class SpaceError(Refused):
    """Metadata with which the device's state would not fit its area."""

    code = 40


class UnprovisionedError(Refused):
    """The device's state is unreadable; it refuses updates until it is provisioned again (never taken for empty)."""

    code = 39
