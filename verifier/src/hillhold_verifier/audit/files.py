"""Target files: that each is what was signed, that an image is what its release says, and that a patch makes exactly its image.

Content is read in pieces, and no more of it than was signed, and one byte.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from hillhold_verifier.algorithms import DECODERS
from hillhold_verifier.audit.report import Level, Notes
from hillhold_verifier.conversation import Progress
from hillhold_verifier.errors import MismatchError, OperationalError, PatchError, short
from hillhold_verifier.header import check_header
from hillhold_verifier.mcuboot import ReadAt, check_hash
from hillhold_verifier.patch import LIMIT_LENGTH
from hillhold_verifier.release import Patch, Release
from hillhold_verifier.roles import TargetFile
from hillhold_verifier.sources import AbsentError, Content, Source

PIECE: Final = 64 * 1024
"""Bytes of content that are held in memory at a time."""
LONG: Final = 8 * 1024 * 1024
"""Bytes from which on progress is worth a line."""


class TargetFiles:
    """The target files of a source; `report` is told of each long one."""

    def __init__(self, source: Source, report: Callable[[Progress], None]) -> None:
        self._source, self._report = source, report

    def check(self, target: TargetFile, notes: Notes) -> str:
        """Compare a file with what was signed of it; returns what it is, as `TargetReport.file` has it."""
        digest = target.hashes.get("sha256")
        if digest is None:
            notes.add(Level.WARNING, "states no SHA-256: no device reads it")
            return "not looked at"
        state = "different"
        with notes:
            try:
                with self._source.target(target.path, digest) as content:
                    if self._compare(target, content, notes):
                        state = "as signed"
            except AbsentError:
                state = "missing"
                raise
            except OperationalError:
                state = "unread"
                raise
        return state

    def _compare(self, target: TargetFile, content: Content, notes: Notes) -> bool:
        found = {name: hashlib.new(name) for name in target.hashes}
        at = 0
        while at < target.length and (data := content.read(at, min(PIECE, target.length - at))):
            for one in found.values():
                one.update(data)
            at += len(data)
            self._show(f"hash {target.path}", at, target.length)
        if at != target.length or content.read(at, 1):
            got = at if at != target.length else "more"
            raise MismatchError("file length", expected=target.length, got=got)
        wrong = [name for name, one in found.items() if one.digest() != target.hashes[name]]
        for name in wrong:
            expected, got = short(target.hashes[name]), short(found[name].digest())
            notes.add(Level.REFUSED, str(MismatchError(f"file {name}", expected=expected, got=got)))
        return not wrong

    def check_image(self, release: Release, notes: Notes) -> str | None:
        """Compare an image with its release, and with its own hash; returns `TargetReport.image`."""
        stated = "differs"
        with notes, self._source.target(release.path, release.sha256) as content:
            read = _whole(content)
            image = check_header(read, release)
            if image:
                check_hash(image, read)
            stated = "agrees" if image else ""
        return stated or None

    def check_patch(self, patch: Patch, base: Release | None, result: Release, notes: Notes) -> bool:
        """Apply a patch to its base (None: it starts from nothing), and compare what it makes, in memory of the size of a piece."""
        with notes:
            if max(patch.base_length, result.length) > LIMIT_LENGTH:
                raise PatchError(
                    "patch lengths", expected=f"at most {LIMIT_LENGTH}", got=max(patch.base_length, result.length)
                )
            made, at = hashlib.sha256(), 0
            with ExitStack() as stack:
                read = _whole(stack.enter_context(self._source.target(patch.path, patch.sha256)))
                old = _whole(stack.enter_context(self._source.target(base.path, base.sha256))) if base else _nothing
                decoder = DECODERS[patch.algorithm](old, patch.base_length, result.length)
                for offset in range(0, patch.length, PIECE):
                    for chunk in decoder.feed(read(offset, min(PIECE, patch.length - offset))):
                        made.update(chunk)
                        at += len(chunk)
                        self._show(f"apply {patch.path}", at, result.length)
                decoder.finish()
            if made.digest() != result.sha256:
                raise MismatchError(
                    f"what the patch makes of {base.path if base else 'nothing'}",
                    expected=short(result.sha256),
                    got=short(made.digest()),
                )
            return True
        return False

    def _show(self, step: str, done: int, total: int) -> None:
        if total >= LONG:
            self._report(Progress(step, done, total))


def _whole(content: Content) -> ReadAt:
    """Access to a target for those who want all that they ask for: a source gives what is there, over a network often less."""

    def read(offset: int, length: int, /) -> bytes:
        data = bytearray()
        while len(data) < length and (more := content.read(offset + len(data), length - len(data))):
            data += more
        return bytes(data)

    return read


def _nothing(_offset: int, _length: int, /) -> bytes:
    """What an image that is only compressed starts from."""
    return b""
