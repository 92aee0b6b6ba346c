"""Making the patches of a release: each base is read when its turn comes, patches lie in files, and what pays is verified and chosen.

A patch that cannot be made is left out, and that is said; it is never a reason to lose the release. What is kept was applied again by the
verifier's decoder, in this process, before anyone is asked to sign it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Final

from tuf.api.metadata import TargetFile

from hillhold_signer.patching import MAX_KEPT, NOTHING, NOTHING_SHA256, Kept, LeftOut, Made, Task, limits, patch_entry
from hillhold_signer.patchpool import Failure, Job, PatchPool
from hillhold_verifier.algorithms import DECODERS
from hillhold_verifier.errors import HillholdError
from hillhold_verifier.patch import ALGORITHM
from hillhold_verifier.release import Release

Report = Callable[[str, int, int, int], None]
"""Told what is done: for which target, how many bases, of how many, and how many patches pay so far."""

_NOT: Final = ".not"
"""Ending of a file that says how long a patch was that did not pay, or 0 for one that was hopeless."""
_HOPELESS: Final = Failure("next to nothing in common", hopeless=True)
_Pair = tuple[bytes, bytes]
"""SHA-256 of base and result."""


@dataclass(frozen=True, slots=True)
class _Base:
    """What a patch starts from; `path` is None for nothing."""

    path: str | None
    sha256: bytes
    length: int
    read: Callable[[], bytes]


class Making:
    """Makes patches, and remembers those that it has made: asked again for the same, it answers at once.

    A context manager: at its end the files go. After an error they stay where `folder` was given, and the next one there goes on with them;
    none is believed, each is verified.

    Args:
        folder: where patches lie until they are staged; by default a temporary one.
        pool: makes them; by default one of its own.
        report: told of the progress.
    """

    def __init__(self, folder: Path | None = None, pool: PatchPool | None = None, report: Report | None = None) -> None:
        self._report = report or _silent
        self._temporary = (
            None if folder else tempfile.TemporaryDirectory(prefix="hillhold-", ignore_cleanup_errors=True)
        )
        self._folder = folder or Path(self._temporary.name if self._temporary else "")
        self._pool, self._owned = pool or PatchPool(), pool is None
        self._lengths: dict[_Pair, int | Failure] = {}
        self._entries: dict[_Pair, TargetFile | str] = {}

    def __enter__(self) -> Making:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._owned:
            self._pool.close()
        if self._temporary:
            self._temporary.cleanup()
        elif kind is None:
            for result in {result for _, result in self._lengths}:
                shutil.rmtree(self._folder / result.hex(), ignore_errors=True)
            with contextlib.suppress(OSError):  # others may have something in it
                self._folder.rmdir()

    def make(self, task: Task, read: Callable[[Release], bytes]) -> Made:
        """Make the patches that a release is to get.

        Args:
            read: returns the bytes of a base, or raises `HillholdError`; called in this thread, for a few at a time.
        """
        result = sha256(task.image).digest()
        nothing = _Base(None, NOTHING_SHA256, 0, lambda: NOTHING)
        bases = [_base(release, read) for release in task.bases if release.sha256 != result]
        most = limits(len(task.image), None)[0]
        self._try(task, result, [nothing], most, show=False)
        without = self._choose(task, result, [nothing], most)
        # Others are measured by it only once it is verified: a wrong one of no length would leave no room for any.
        whole = without.kept[0].target.length if without.kept else None
        limit = limits(len(task.image), whole)[1]
        self._try(task, result, bases, limit, show=True)
        first = without if task.whole else Made()
        rest = self._choose(task, result, bases, limit)
        return Made(first.kept + rest.kept, first.left_out + rest.left_out)

    def _try(self, task: Task, result: bytes, bases: Sequence[_Base], limit: int, *, show: bool) -> None:
        """Make the patches from `bases` that are not there yet."""
        folder = self._folder / result.hex()
        wanted = [base for base in bases if (base.sha256, result) not in self._lengths]
        done = len(bases) - len(wanted)
        kept = sum(self._pays(base, result, limit) for base in bases)

        def jobs() -> Iterator[Job[_Base]]:
            nonlocal done
            for base in wanted:
                found = _kept_length(folder / _name(base), limit)
                if found is None:
                    try:
                        folder.mkdir(parents=True, exist_ok=True)
                        file = _unfinished(folder, base)
                        file.unlink(missing_ok=True)
                        yield Job(base, base.read(), task.image, file)
                        continue
                    except HillholdError as error:
                        found = Failure(str(error))
                    except OSError as error:
                        found = Failure(error.strerror or str(error))
                self._lengths[base.sha256, result] = found
                done += 1

        try:
            with contextlib.closing(self._pool.make(jobs())) as made:
                for base, failure in made:
                    self._lengths[base.sha256, result] = failure or _settled(folder, base, limit)
                    if failure and failure.hopeless:
                        _note(folder, base, 0)
                    done += 1
                    kept += self._pays(base, result, limit)
                    if show:
                        self._report(task.target.path, done, len(bases), min(kept, MAX_KEPT))
        finally:
            for base in wanted:  # of an interruption, what was just made
                with contextlib.suppress(OSError):
                    _unfinished(folder, base).unlink()

    def _pays(self, base: _Base, result: bytes, limit: int) -> bool:
        length = self._lengths.get((base.sha256, result))
        return isinstance(length, int) and length < limit

    def _choose(self, task: Task, result: bytes, bases: Sequence[_Base], limit: int) -> Made:
        """Keep what saves most, once it is verified."""
        kept: list[Kept] = []
        left: list[LeftOut] = []
        ranked: list[tuple[int, _Base]] = []
        for base in bases:
            length = self._lengths[base.sha256, result]
            if isinstance(length, Failure):
                left.append(LeftOut(base.path, task.target.path, length.reason, failed=not length.hopeless))
            elif length >= limit:
                left.append(LeftOut(base.path, task.target.path, "not worth it", length))
            else:
                ranked.append((length, base))
        for length, base in sorted(ranked, key=lambda item: item[0]):  # of equals the newest
            if len(kept) == MAX_KEPT:
                left.append(LeftOut(base.path, task.target.path, "others save more", length))
                continue
            entry = self._verified(task, base, result)
            if isinstance(entry, str):
                left.append(LeftOut(base.path, task.target.path, entry, length, failed=True))
            else:
                kept.append(Kept(entry, base.path, self._folder / result.hex() / _name(base)))
        return Made(tuple(kept), tuple(left))

    def _verified(self, task: Task, base: _Base, result: bytes) -> TargetFile | str:
        """What is signed of a patch that makes what it should; else why there is none."""
        pair = base.sha256, result
        if pair not in self._entries:
            file = self._folder / result.hex() / _name(base)
            try:
                self._entries[pair] = _verify(task, base, file.read_bytes())
            except (HillholdError, OSError) as error:
                file.unlink(missing_ok=True)
                self._entries[pair] = f"it does not make the image: {error}"
        return self._entries[pair]


def _verify(task: Task, base: _Base, patch: bytes) -> TargetFile:
    held = base.read()
    decoder = DECODERS[ALGORITHM](lambda at, length: held[at : at + length], len(held), len(task.image))
    made = sha256()
    for chunk in decoder.feed(patch):
        made.update(chunk)
    decoder.finish()
    if (sha256(held).digest(), len(held)) != (base.sha256, base.length) or made.hexdigest() != task.target.hashes[
        "sha256"
    ]:
        raise OSError("other bytes come out")
    return patch_entry(task.target, patch, base.sha256, base.length)


def _base(release: Release, read: Callable[[Release], bytes]) -> _Base:
    return _Base(release.path, release.sha256, release.length, lambda: read(release))


def _name(base: _Base) -> str:
    return f"{base.sha256.hex()}.{ALGORITHM}"


def _unfinished(folder: Path, base: _Base) -> Path:
    """A name that nobody else writes to: others may be making the same patch."""
    return folder / f".{_name(base)}.{os.getpid()}.{threading.get_ident()}"


def _settled(folder: Path, base: _Base, limit: int) -> int | Failure:
    """Keep a patch that was made, if it pays; returns its length."""
    file = _unfinished(folder, base)
    try:
        length = file.stat().st_size
        if length < limit:
            file.replace(folder / _name(base))
        else:
            file.unlink()
            _note(folder, base, length)
    except OSError as error:
        return Failure(error.strerror or str(error))
    return length


def _note(folder: Path, base: _Base, length: int) -> None:
    with contextlib.suppress(OSError):  # it is made once more then, at worst
        (folder / f"{_name(base)}{_NOT}").write_text(str(length), "ascii")


def _kept_length(file: Path, limit: int) -> int | Failure | None:
    """What is known of a patch since an earlier time."""
    with contextlib.suppress(OSError):
        return file.stat().st_size
    with contextlib.suppress(OSError, ValueError):
        length = int(file.with_name(file.name + _NOT).read_text("ascii")[:20])
        return _HOPELESS if length == 0 else length if length >= limit else None
    return None


def _silent(_path: str, _done: int, _total: int, _kept: int) -> None:
    """Nobody wants to know."""
