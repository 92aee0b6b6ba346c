"""One change of a repository's drafts, under its lock.

    with repository.edit(now) as edit:
        targets = edit.targets()           a copy of the next version, to be changed
        …
        edit.save("targets", targets)      what decides is written last

A change that raises before its first `save` has written nothing that counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeVar

from tuf.api.metadata import Root, Targets

from hillhold_signer import encoding
from hillhold_signer.config import MAX_CONFIG, Config, parse_people, show_config, show_people
from hillhold_signer.drafts import Drafts
from hillhold_signer.layout import Layout
from hillhold_signer.state import State
from hillhold_signer.storage import read_optional, write_file

S = TypeVar("S", Root, Targets)


@dataclass(frozen=True, slots=True)
class Edit:
    """What a change works on.

    Attributes:
        state: what the repository held when the lock was taken.
        now: Unix seconds.
    """

    layout: Layout
    state: State
    config: Config
    now: int

    def root(self) -> Root:
        """Return the next version of root, dated anew; raises `RepositoryRefused` where there is none."""
        return self._next("root", self.state.root())

    def targets(self) -> Targets:
        """Return the next version of top-level targets, dated anew; raises `RepositoryRefused` where there are none."""
        return self._next("targets", self.state.targets())

    def line(self, product: str) -> Targets:
        """Return the next version of a line's role, dated anew; raises `ProductRefused` where there is no such line."""
        return self._next(product, self.state.line(product))

    def save(self, role: str, signed: Root | Targets) -> None:
        """Write a draft; its signatures start over.

        Raises:
            ContentRefused: values that may not be signed.
            StorageError: it cannot be written.
        """
        Drafts(self.layout).save(role, signed)

    def stage(self, data: bytes) -> None:
        """Keep the bytes of a target file until it is published; raises `StorageError`."""
        write_file(self.layout.staged / sha256(data).hexdigest(), data)

    def remember(self, names: Mapping[str, str]) -> None:
        """Note who holds which key, by key id, where it is not known yet; raises `ContentRefused`, `StorageError`."""
        known = parse_people(read_optional(self.layout.people, MAX_CONFIG) or b"")
        write_file(self.layout.people, show_people({**names, **known}))

    def configure(self, config: Config) -> None:
        """Write the settings; raises `ContentRefused`, `StorageError`."""
        write_file(self.layout.config, show_config(config))

    def discard(self, role: str) -> None:
        """Remove the draft of a role, if there is one, with its signatures; raises `StorageError`."""
        if role in self.state.drafts:
            Drafts(self.layout).discard(role)

    def _next(self, role: str, newest: S) -> S:
        """Return a copy of the draft of a role, or of its published version with the next number, dated anew."""
        new = copied(newest)
        if role not in self.state.drafts:
            new.version += 1
        new.expires = encoding.utc(self.now + self.config.expiry.of(role))
        return new


def copied(signed: S) -> S:
    """Return an independent copy of metadata."""
    return type(signed).from_dict(deepcopy(signed.to_dict()))  # `to_dict` hands out custom data as they are
