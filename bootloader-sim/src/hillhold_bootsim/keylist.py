"""The image keys that a bootloader accepts: those that it was built with, but for the ones whose revocation is in effect.

Root metadata name the revoked ones (`x-hillhold-revoked-image-keys`), so root's quorum decides, and nobody below it. The bootloader has a
root of its own, and goes from version N to N+1 as every TUF client does; whoever brings it is trusted with nothing. Expiry does not
count here: TUF 5.3.10 stops a client from *using* what an expired root vouches for, which this does not, and a bootloader has no clock
by which to judge; a revocation does not get untrue with time.

    root N+1 accepted ──► its revocations are pending: nothing changes
    a confirmed boot, all confirmed images verified under keys that none of them names ──► in effect, all together and for good
    they name every key that is left ──► they are not put into effect at all

So a device that has yet to be updated still boots, its way back in a trial too, and one that has shown that it boots without the
revoked keys stops believing them. What is in effect stays so, though a later root names it no more. The records are not signed: what
can write their areas can put back an older list, so on a real board nothing but the bootloader should be able to.

A record, in each of two areas (big endian):

    offset  bytes  what
    0       4      magic "HHkl"
    4       2      format version, 1
    6       8      sequence number, from 1
    14      4      length N of the body
    18      2      number K of keys whose revocation is in effect
    20      32 K   the hashes by which images name them (`ImageKey.key_hash`), in order, each once
    20+32K  ...    the root file, up to the end of the body
    18+N    32     SHA-256 over all before it

The readable one with the higher sequence number counts; the next is written over the *other*: a cut leaves the old list or the new. Where
neither can be read, or the newer one is whole and of another format, no key is accepted: an unreadable list is never taken for an
empty one, under which every revoked key would be back.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Final

from hillhold_verifier.errors import (
    MetadataError,
    MismatchError,
    MisuseError,
    RecordError,
    SpaceError,
    UnprovisionedError,
    short,
)
from hillhold_verifier.mcuboot import ImageKey
from hillhold_verifier.metadata import ROOT, Envelope, parse_root
from hillhold_verifier.roles import Root
from hillhold_verifier.slots import RecordAreas
from hillhold_verifier.trust import Trust, update_root, verify

MAGIC: Final = b"HHkl"
FORMAT: Final = 1
MAX_IN_EFFECT: Final = 2**16 - 1
_HEADER: Final = struct.Struct(">4sHQI")
_COUNT: Final = struct.Struct(">H")
_DIGEST: Final = 32


class _OtherFormatError(RecordError):
    """A whole record of a format that this software does not know; it has a sequence number all the same."""

    def __init__(self, version: int, sequence: int) -> None:
        super().__init__("key list format", expected=FORMAT, got=version)
        self.sequence = sequence


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is stored: the bytes of the trusted root, and the fingerprints whose revocation is in effect."""

    root: bytes
    in_effect: frozenset[bytes] = frozenset()


def encode_record(sequence: int, record: KeyRecord) -> bytes:
    """Return the one byte form of a record.

    Raises:
        MisuseError: a value outside its range.
    """
    found = sorted(record.in_effect)
    if not 0 < sequence < 2**64 or len(found) > MAX_IN_EFFECT or any(len(item) != _DIGEST for item in found):
        raise MisuseError(f"key list: sequence number {sequence}, {len(found)} fingerprints")
    body = b"".join((_COUNT.pack(len(found)), *found, record.root))
    whole = _HEADER.pack(MAGIC, FORMAT, sequence, len(body)) + body
    return whole + hashlib.sha256(whole).digest()


def decode_record(data: bytes) -> tuple[int, KeyRecord]:
    """Return sequence number and content; bytes after the record are ignored (the rest of its area). The root is not parsed.

    Raises:
        RecordError: torn, of another format, not in its one byte form, or not a record.
    """
    if len(data) < _HEADER.size:
        raise RecordError("key list", expected=f"at least {_HEADER.size} bytes", got=len(data))
    magic, version, sequence, length = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise RecordError("key list magic", expected=MAGIC.hex(), got=magic.hex())
    end = _HEADER.size + length
    if hashlib.sha256(data[:end]).digest() != data[end : end + _DIGEST]:
        raise RecordError("key list checksum", expected="one that fits", got="another")
    if version != FORMAT:
        raise _OtherFormatError(version, sequence)
    body = data[_HEADER.size : end]
    count = _COUNT.unpack_from(body)[0] if len(body) >= _COUNT.size else 0
    start = _COUNT.size + count * _DIGEST
    if len(body) < start or not sequence:
        raise RecordError("key list", expected=f"a sequence number and {count} fingerprints", got=f"{len(body)} bytes")
    found = [body[at : at + _DIGEST] for at in range(_COUNT.size, start, _DIGEST)]
    if any(one >= other for one, other in pairwise(found)):
        raise RecordError("key list", expected="fingerprints in order, each once", got="another order, or repeats")
    return sequence, KeyRecord(body[start:], frozenset(found))


class KeyList:
    """A bootloader's list of accepted keys. What counts is on the flash alone: every call reads both areas.

    Args:
        areas: two areas of its own; either must hold a root and 32 bytes for each key.
        held: the keys that the bootloader was built with.
    """

    def __init__(self, areas: RecordAreas, held: Sequence[ImageKey]) -> None:
        self._areas, self._held = areas, tuple(held)

    def provision(self, root: bytes) -> None:
        """Write the list anew, whatever there was, with nothing in effect: an act of the factory, or of someone with the right to it.

        Give it the root that the device's state is provisioned with: from then on both take the same steps.

        Raises:
            MetadataError, SignatureError: not a root, or one that its own quorum did not sign.
            SpaceError: it does not fit an area.
        """
        new = parse_root(root)
        verify(new, ROOT, new.signed.roles[ROOT], new.signed.keys)
        readable, other = self._found()
        sequence, index = max(((number, at) for number, at, _ in readable), default=(0, 1))
        sequence, index = max((sequence, index), other)  # whatever is still there is outnumbered
        self._write(1 - index, sequence + 1, KeyRecord(root))

    def keys(self) -> tuple[ImageKey, ...]:
        """Return the keys under which an image may boot now, in the order of `held`; none where all of them are revoked.

        Raises:
            UnprovisionedError: the list cannot be read.
        """
        return self._accepted(self._newest()[2].in_effect)

    def accept_root(self, data: bytes) -> None:
        """Take the next root, verified by the held one's quorum and its own; what it revokes is pending until `settle`.

        A root that is held already, with whichever signatures, changes nothing: whoever carries it can leave some out.

        Raises:
            MetadataError, SignatureError: malformed, or too few signatures by either quorum.
            RollbackError: neither the held version nor the one after it.
            MismatchError: the held version with another content: two histories of root.
            SpaceError: it does not fit an area.
            UnprovisionedError: the list cannot be read.
        """
        sequence, index, record, held = self._newest()
        new = parse_root(data)
        if new.signed.version == held.signed.version:
            if new.payload != held.payload:
                wanted, got = (short(hashlib.sha256(item.payload).digest()) for item in (held, new))
                raise MismatchError(
                    f"root version {new.signed.version}", expected=f"{wanted}, which the bootloader holds", got=got
                )
            return
        root = update_root(Trust(held), data).root
        self._write(1 - index, sequence + 1, replace(record, root=root.raw))

    def settle(self, used: Sequence[ImageKey]) -> tuple[str, ...]:
        """Put the held root's revocations into effect, if every confirmed image does without the keys that they name.

        For the bootloader, at a confirmed boot, after it has verified the images and before it goes on: one write at most.

        Args:
            used: the keys that verified the confirmed images, of every component that has one.

        Returns:
            What took effect, or why not, in words; nothing where no held key is to be revoked.

        Raises:
            MisuseError: an image was verified under a key that is not accepted.
            UnprovisionedError: the list cannot be read.
        """
        sequence, index, record, root = self._newest()
        accepted = {key.key_hash for key in self._accepted(record.in_effect)}
        relied = {key.key_hash for key in used}
        if strange := relied - accepted:
            raise MisuseError(f"images of the keys {_shown(strange)}, which the bootloader does not accept")
        pending = accepted & root.signed.revoked_image_keys
        if not pending:
            return ()
        what = f"revocation of image keys {_shown(pending)}"
        if pending == accepted:
            return (f"{what}: not put into effect, no key would be left",)
        if not relied:
            return (f"{what}: pending, no image was confirmed",)
        if needed := relied & pending:
            return (f"{what}: pending, a confirmed image is signed by {_shown(needed)}",)
        self._write(1 - index, sequence + 1, replace(record, in_effect=record.in_effect | pending))
        return (f"{what}: in effect",)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _accepted(self, in_effect: frozenset[bytes]) -> tuple[ImageKey, ...]:
        return tuple(key for key in self._held if key.key_hash not in in_effect)

    def _newest(self) -> tuple[int, int, KeyRecord, Envelope[Root]]:
        """Sequence number, place and content of the record that counts, and its root."""
        readable, other = self._found()
        newest = max(readable, key=lambda item: item[0], default=None)
        # The older of two records has fewer revocations: going on from it would undo them.
        if newest is None or newest[0] < other[0]:
            raise UnprovisionedError(
                "list of image keys", expected="a readable record", got="none, or a newer one of another format"
            )
        sequence, index, record = newest
        try:
            return sequence, index, record, _parse(record.root)
        except MetadataError as error:
            raise UnprovisionedError("list of image keys", expected="a root", got=str(error)) from error

    def _found(self) -> tuple[list[tuple[int, int, KeyRecord]], tuple[int, int]]:
        """The readable records, and sequence number and place of the newest whole one of another format."""
        readable: list[tuple[int, int, KeyRecord]] = []
        other = (0, 1)
        for index in (0, 1):
            try:
                sequence, record = decode_record(self._areas.read(index))
                readable.append((sequence, index, record))
            except _OtherFormatError as error:
                other = max(other, (error.sequence, index))
            except RecordError:
                continue
        return readable, other

    def _write(self, index: int, sequence: int, record: KeyRecord) -> None:
        # Room for every revocation that may follow: what was accepted must be able to take effect.
        all_revoked = replace(record, in_effect=record.in_effect | {key.key_hash for key in self._held})
        if (needed := len(encode_record(sequence, all_revoked))) > self._areas.size:
            raise SpaceError(
                "root for the list of image keys", expected=f"at most {self._areas.size} bytes with it", got=needed
            )
        self._areas.write(index, encode_record(sequence, record))


@lru_cache(maxsize=8)
def _parse(root: bytes) -> Envelope[Root]:
    """A held root, parsed once: every boot asks for it, and the same bytes say the same."""
    return parse_root(root)


def _shown(fingerprints: Iterable[bytes]) -> str:
    return ", ".join(short(item) for item in sorted(fingerprints))
