"""One change of a repository's drafts, under its lock.

    with repository.edit(now) as edit:
        targets = edit.targets()           a copy of the next version, to be changed
        …
        edit.save("targets", targets)      what decides is written last

A change that raises before its first `save` has written nothing that counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from typing import TypeVar

from tuf.api.metadata import Root, Targets

from hillhold_signer import encoding
from hillhold_signer.config import Config, read_people, show_config, write_people
from hillhold_signer.drafts import Drafts
from hillhold_signer.encoding import copied
from hillhold_signer.layout import Layout
from hillhold_signer.state import State
from hillhold_signer.storage import write_file

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
    _saved: dict[str, str] = field(default_factory=dict)

    def root(self) -> Root:
        """Return the next version of root, dated anew; raises `RepositoryRefused` where there is none."""
        return self._next("root", self.state.root())

    def targets(self) -> Targets:
        """Return the next version of top-level targets, dated anew; raises `RepositoryRefused` where there are none."""
        return self._next("targets", self.state.targets())

    def line(self, product: str) -> Targets:
        """Return the next version of a line's role, dated anew; raises `ProductRefused` where there is no such line."""
        return self._next(product, self.state.line(product))

    def reissue(self, role: str) -> None:
        """Draft the next version of a role as it is, dated anew; raises as `root`, `targets`, `line` and `save` do."""
        new = self.root() if role == "root" else self.targets() if role == "targets" else self.line(role)
        published = self.state.published(role)
        if published is not None and new.expires == published.expires:
            new.expires += timedelta(seconds=1)  # a version that says what the one before says is none (`lineage`)
        self.save(role, new)

    def save(self, role: str, signed: Root | Targets) -> None:
        """Write a draft, which replaces those of its role that `state` has; its signatures start over.

        Raises:
            ContentRefused: values that may not be signed.
            StorageError: it cannot be written.
        """
        draft = self.state.drafts.get(role)
        if role not in self._saved and draft is not None and draft.digest == encoding.digest(signed):
            return  # nothing has changed, and what was signed stays so
        # Not what lies in the folder now: a draft that came in since, by a copy from elsewhere, was not looked at.
        after = (self._saved[role],) if role in self._saved else self.state.after(role)
        self._saved[role] = Drafts(self.layout).save(role, signed, after)

    def stage(self, data: bytes) -> None:
        """Keep the bytes of a target file until it is published; raises `StorageError`."""
        write_file(self.layout.staged_file(sha256(data).hexdigest()), data)

    def remember(self, names: Mapping[str, str]) -> None:
        """Note who holds which key, by key id, where it is not known yet; raises `ConfigRefused`, `ContentRefused`, `StorageError`."""
        known = read_people(self.layout)
        write_people(self.layout, {keyid: name for keyid, name in names.items() if keyid not in known})

    def configure(self, config: Config) -> None:
        """Write the settings; raises `ContentRefused`, `StorageError`."""
        write_file(self.layout.config, show_config(config))

    def _next(self, role: str, newest: S) -> S:
        """Return a copy of the draft of a role, or of its published version with the next number, dated anew."""
        new = copied(newest)
        if role not in self.state.drafts:
            new.version += 1
        new.expires = encoding.utc(self.now + self.config.expiry.of(role))
        return new
