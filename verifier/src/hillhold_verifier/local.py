"""An update from a source on the device itself: what the courier and the agent do together over a line, without the line.

The source is trusted with nothing: `Installer` judges every file, chooses, and checks what it wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Final, Protocol

from hillhold_verifier.algorithms import DECODERS
from hillhold_verifier.conversation import Progress
from hillhold_verifier.errors import MismatchError, OperationalError, PatchError, RollbackError, SlotError
from hillhold_verifier.installer import Installer
from hillhold_verifier.metadata import ROOT, TIMESTAMP
from hillhold_verifier.release import Patch, Release
from hillhold_verifier.select import Selection
from hillhold_verifier.session import MAX_ROOTS, Need
from hillhold_verifier.sources import Source
from hillhold_verifier.state import DeviceState

PIECE: Final = 64 * 1024
"""Bytes of content that are held in memory at a time."""


class SourceError(OperationalError):
    """The source failed, or lacks what its metadata list: no fault of this device's."""


class MetadataHolder(Protocol):
    """Whoever judges metadata and keeps what it accepts: a device's `Installer`, or a host for a board that cannot."""

    @property
    def state(self) -> DeviceState:
        """What it remembers."""

    def receive(self, role: str, data: bytes, clock: int | None, /) -> Need | None:
        """Take a metadata file; return what is needed next; raises `Refused`."""


@dataclass(frozen=True, slots=True)
class Updated:
    """What was installed together and is marked for a trial (nothing: empty), and how: bytes of images and patches that were read."""

    plan: tuple[Release, ...]
    patched: tuple[str, ...]
    read: int
    selection: Selection


class LocalUpdate:
    """Brings this device up to date. `clock`: Unix seconds, or None; `report` is told of each step."""

    def __init__(
        self,
        installer: Installer,
        source: Source,
        clock: int | None,
        report: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self._installer, self._source, self._clock, self._report = installer, source, clock, report

    def check(self) -> Selection:
        """Take the source's metadata, and choose; as `take_metadata`."""
        installer, clock = self._installer, self._clock
        return take_metadata(installer, self._source, clock, lambda: installer.choose(clock), self._report)

    def update(self, *, patches: bool = True) -> Updated:
        """Take metadata, fill the other slots with what the device chooses, and mark them for one trial.

        An update that was interrupted goes on where it stopped.

        Args:
            patches: use a patch where there is one that is smaller than the image.

        Raises:
            Refused, OperationalError: as `check`; the device stays on what it runs, and may try again.
        """
        selection = self.check()
        patched: list[str] = []
        read = 0
        for release in selection.plan:
            for patch in self._patches(selection, release) if patches else ():
                if self._patched(release, patch):
                    patched.append(release.path)
                    read += patch.length
                    break
            else:
                self._bring("image", release, release.path, release.sha256, release.length)
                read += release.length
        marked = self._installer.mark(self._clock) if selection.plan else ()
        return Updated(marked, tuple(patched), read, selection)

    def _patches(self, selection: Selection, release: Release) -> list[Patch]:
        """The patches to a release that can be applied here and are smaller than it, the smallest first.

        What an interrupted transfer brings goes on before anything else erases what came of it.
        """
        transfer = self._installer.state.transfer
        arriving = transfer.path if transfer else None
        if arriving == release.path:
            return []
        confirmed = self._installer.confirmed(self._component(release))
        held = (confirmed.sha256, confirmed.length) if confirmed else None
        found = [
            patch
            for patch in selection.patches
            if patch.makes == release.path
            and patch.fits(held)
            and patch.algorithm in DECODERS
            and patch.length < release.length
        ]
        return sorted(found, key=lambda patch: (patch.path != arriving, patch.length))

    def _patched(self, release: Release, patch: Patch) -> bool:
        """Bring a patch and apply it; False where another way may do what this patch does not."""
        try:
            self._bring("patch", release, patch.path, patch.sha256, patch.length)
            self._report(Progress("applying the patch"))
            self._installer.apply()
        except (PatchError, SlotError, MismatchError, SourceError) as refusal:
            self._report(Progress(f"patch refused ({refusal}); taking the next way"))
            return False
        return True

    def _bring(self, what: str, release: Release, path: str, digest: bytes, length: int) -> None:
        at = self._installer.begin(digest, length, self._clock, self._component(release))
        if at >= length:
            return
        with closing(_pieces(self._source, path, digest, at, length)) as pieces:
            for data in pieces:
                at = self._installer.write(at, data)
                self._report(Progress(f"{what} {path}", at, length))

    def _component(self, release: Release) -> int:
        return self._installer.state.device.components.index(release.component)


def take_metadata(
    holder: MetadataHolder,
    source: Source,
    clock: int | None,
    choose: Callable[[], Selection],
    report: Callable[[Progress], None] = lambda _: None,
) -> Selection:
    """Have a source's metadata taken, and choose.

    A source that is older than what is held may still have an image that is wanted: then what is held decides.

    Args:
        holder: judges the files, and keeps what it accepts.
        source: trusted with nothing.
        clock: Unix seconds, or None.
        choose: what is chosen from what is held then.
        report: told of each file.

    Raises:
        Refused: a subclass says why; what was accepted before that stays.
        OperationalError: the source lacks a file.
    """
    for _ in range(MAX_ROOTS):
        version = holder.state.trust.root.signed.version + 1
        if (data := source.metadata(f"{version}.root.json")) is None:
            break
        report(Progress(f"metadata: root {version}"))
        holder.receive(ROOT, data, clock)
    try:
        need = holder.receive(TIMESTAMP, _require(source, "timestamp.json"), clock)
    except RollbackError as older:
        selection = choose()
        if not selection.plan:
            raise
        report(Progress(f"the source is older than what this device knows ({older}), which decides"))
        return selection
    while need:
        report(Progress(f"metadata: {need.role}"))
        need = holder.receive(need.role, _require(source, need.file_name), clock)
    return choose()


def _pieces(source: Source, path: str, digest: bytes, at: int, length: int) -> Generator[bytes, None, None]:
    """The bytes of a target from `at` on, up to `length`; raises `SourceError`."""
    try:
        with source.target(path, digest) as content:
            while at < length:
                if not (data := content.read(at, min(PIECE, length - at))):
                    raise OperationalError(f"target {path}: {at} bytes, not the {length} that its metadata state")
                yield data
                at += len(data)
    except OperationalError as error:
        raise SourceError(str(error), hint=error.hint) from error


def _require(source: Source, name: str) -> bytes:
    if (data := source.metadata(name)) is None:
        raise OperationalError(f"the repository lacks {name}")
    return data
