"""The bytes of a target, checked as they come (TUF 5.7.2), in memory that does not grow with them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from hillhold_verifier.errors import MismatchError, short


class ContentCheck:
    """Length and hashes of one target's content.

        check = ContentCheck(release.path, release.length, {"sha256": release.sha256})
        for data in …:
            check.feed(data)
        check.finish()                  # only now is it what was signed

    Args:
        path: the target, for messages.
        length: bytes.
        hashes: by algorithm, as `hashlib` names it; every one is checked.
    """

    def __init__(self, path: str, length: int, hashes: Mapping[str, bytes]) -> None:
        self._path, self._length, self._expected = path, length, hashes
        self._found = {name: hashlib.new(name) for name in hashes}
        self._came = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes; raises `MismatchError` as soon as they are more than was signed."""
        self._came += len(data)
        if self._came > self._length:
            raise MismatchError(f"length of {self._path}", expected=self._length, got="more")
        for digest in self._found.values():
            digest.update(data)

    def finish(self) -> None:
        """Raise `MismatchError` unless what came is what was signed, whole."""
        if self._came != self._length:
            raise MismatchError(f"length of {self._path}", expected=self._length, got=self._came)
        for name, expected in self._expected.items():
            if (found := self._found[name].digest()) != expected:
                raise MismatchError(f"{name} of {self._path}", expected=short(expected), got=short(found))
