"""The patch algorithms that this device knows, by the names that metadata give them (docs/FORMAT.md, "Patches")."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, Protocol, TypeAlias

from hillhold_verifier import patch
from hillhold_verifier.moves import ReadBase
from hillhold_verifier.patch import PatchDecoder


class Decoder(Protocol):
    """Decodes one patch, in order and in bounded memory."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take the patch's next bytes; yield the result's next chunks. Raises `PatchError`."""

    def finish(self) -> None:
        """Check that patch and result have ended, exactly; raises `PatchError`."""


MakeDecoder: TypeAlias = Callable[[ReadBase, int, int], Decoder]
"""From what reads the base, the base's length and the result's, both as signed."""

DECODERS: Final[Mapping[str, MakeDecoder]] = MappingProxyType({patch.ALGORITHM: PatchDecoder})
