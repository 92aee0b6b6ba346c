"""What a host judges in a stock board's place: metadata, which release, and whether an image's bytes are that release."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hillhold_verifier.content import ContentCheck
from hillhold_verifier.conversation import Progress
from hillhold_verifier.errors import ImageError, MetadataError, MismatchError, OperationalError, Refused, SelectionError
from hillhold_verifier.header import check_header
from hillhold_verifier.hosttrust import HostTrust
from hillhold_verifier.local import take_metadata
from hillhold_verifier.mcuboot import Image, check_hash, read_image
from hillhold_verifier.release import Release, parse_target
from hillhold_verifier.select import Installed, Selection
from hillhold_verifier.sources import Source
from hillhold_verifier.stock import StockBoard, StockImage

MAX_IMAGE: Final = 64 * 1024 * 1024
"""Bytes of an image: it is held in memory, so that what is sent is what was judged."""
PIECE: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Judged:
    """A release, its component's number, its bytes, and what they say of themselves: all as signed."""

    release: Release
    component: int
    data: bytes
    image: Image

    def read(self, offset: int, length: int) -> bytes:
        """As `sources.Content`."""
        return self.data[offset : offset + length]


class StockJudge:
    """Judges what `source` offers for the board that `trust` is about.

    Args:
        clock: Unix seconds.
        report: told of what people should know.
    """

    def __init__(self, source: Source, trust: HostTrust, clock: int, report: Callable[[Progress], None]) -> None:
        self._source, self._trust, self._clock, self._report = source, trust, clock, report

    def select(self, board: StockBoard) -> Selection:
        """Have metadata taken, and choose for what the board says that it confirmed; raises as `take_metadata`."""
        return take_metadata(self._trust, self._source, self._clock, lambda: self._choose(board), self._report)

    def _choose(self, board: StockBoard) -> Selection:
        """The table of DESIGN §4, over what the board says that it confirmed."""
        confirmed: dict[str, Installed] = {}
        for number, name in enumerate(self._trust.device.components):
            if (image := board.confirmed(number)) is None:
                continue
            release = self._release_of(name, image)
            if release is None:
                self._report(
                    Progress(f"note: the board runs {image.version}, and no release of the line is known to be it")
                )
                confirmed[name] = Installed("", image.version, image.hash, 0, 0)
                continue
            confirmed[name] = Installed.of(release)
            if not self._trust.saw_confirmed(release):
                self._report(Progress(f"note: the board went back to {image.version}, by nobody's signature"))
        return self._trust.choose(confirmed, self._clock)

    def _release_of(self, component: str, image: StockImage) -> Release | None:
        """The listed release that an image in a slot is: by MCUboot's hash, which this host computes from the release's own bytes."""
        for release in self._releases():
            if (release.component, release.version) != (component, image.version):
                continue
            try:
                data = self._bring(release)
                found = read_image(_reader(data), len(data))
                if found.sha256 == image.hash and check_hash(found, _reader(data)):
                    return release
            except (Refused, OperationalError) as error:
                self._report(Progress(f"note: {release.path} cannot be compared with what the board runs: {error}"))
        return None

    def _releases(self) -> list[Release]:
        line, found = self._trust.state.trust.line, []
        for target in line.signed.targets.values() if line else ():
            try:
                release = parse_target(target)
            except MetadataError:
                continue  # judged, and refused, by `select`
            if isinstance(release, Release) and self._trust.device.hardware in release.hardware:
                found.append(release)
        return found

    def withdrawn_running(self, board: StockBoard) -> str | None:
        """The path of a withdrawn release that the board runs."""
        gone = self._trust.withdrawn()
        held = [self._trust.remembered(number) for number, _ in enumerate(self._trust.device.components)]
        running = {image.version for image in board.images if image.confirmed}
        return next((item.path for item in held if item and item.sha256 in gone and item.version in running), None)

    def withdrawn(self, images: tuple[StockImage, ...]) -> Release | None:
        """A withdrawn release that one of these images is."""
        names, gone = self._trust.device.components, self._trust.withdrawn()
        found = [self._release_of(names[image.image], image) for image in images]
        return next((release for release in found if release and release.sha256 in gone), None)

    # --- the image, judged here ---------------------------------------------------------------------------------------

    def _bring(self, release: Release) -> bytes:
        """A release's bytes, whole and as signed."""
        if release.length > MAX_IMAGE:
            raise MismatchError(f"length of {release.path}", expected=f"at most {MAX_IMAGE}", got=release.length)
        check, parts, at = ContentCheck(release.path, release.length, {"sha256": release.sha256}), list[bytes](), 0
        with self._source.target(release.path, release.sha256) as content:
            while piece := content.read(at, PIECE):
                check.feed(piece)
                parts.append(piece)
                at += len(piece)
        check.finish()
        return b"".join(parts)

    def whole(self, selection: Selection) -> Judged:
        """Bring what was chosen, and judge its bytes.

        Raises:
            SelectionError: a set of several images.
            MismatchError, ImageError, ImageSignatureError: not what was signed, or no image that a stock board takes.
            OperationalError: the source lacks it.
        """
        if len(selection.plan) > 1:
            paths = " and ".join(release.path for release in selection.plan)
            raise SelectionError(
                f"{paths}, a set", expected="one image", got="several, which no stock board marks in one write"
            )
        (release,) = selection.plan
        data = self._bring(release)
        image = check_header(_reader(data), release)
        if image is None:
            raise ImageError(f"{release.path}", expected="an MCUboot image, as a stock board takes", got="a raw one")
        check_hash(image, _reader(data))
        return Judged(release, self._trust.device.components.index(release.component), data, image)


def _reader(data: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, length: data[offset : offset + length]
