"""What a repository holds: what is published, verified, and the drafts of what comes next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, cast

from tuf.api.metadata import Root, Signed, Snapshot, Targets, Timestamp

from hillhold_signer import encoding
from hillhold_signer.chain import Chain, Files, line_names, load_chain, verify_chain, verify_roots
from hillhold_signer.drafted import Drafted, with_signatures
from hillhold_signer.drafts import Draft, Quorum, quorum
from hillhold_signer.errors import AnchorRefused, DamagedRefused, MergeRefused, RepositoryRefused, VerifyRefused
from hillhold_signer.layout import Layout, file_name
from hillhold_signer.products import unknown_line
from hillhold_signer.storage import read_optional
from hillhold_verifier.metadata import max_bytes

MAX_INTERRUPTED: Final = 3
"""Publications of a root in a row that may have been interrupted. No more: keys that were replaced long ago are not listened to."""


@dataclass(frozen=True, slots=True)
class State:
    """One reading of a repository.

    Attributes:
        published_root: the newest published root; there is one before there is a chain only after an interrupted first publication.
        chain: what is published, or None before the first publication. Under an older root than the newest one after interruptions.
        drafts: by role, the next versions; a line's only where the newest targets delegate to it.
        clashes: by role, why its drafts do not go together; nothing can be done with such a role until one is dropped.
        files: what else is known of the drafts' files.
    """

    published_root: Root | None
    chain: Chain | None
    drafts: Mapping[str, Draft]
    clashes: Mapping[str, MergeRefused]
    files: Drafted

    @property
    def interrupted(self) -> bool:
        """Whether a new root is out and what was to come with it is not: clients of that root may refuse the rest until then."""
        newest = self.published_root
        return newest is not None and self.chain is not None and self.chain.root.version < newest.version

    def published(self, role: str) -> Signed | None:
        """Return the published version of any role, or None."""
        return _published(self.published_root, self.chain, role)

    def version(self, role: str) -> int:
        """Return the number of the published version of root, targets or a line, 0 without one."""
        return _version(self.published_root, self.chain, role)

    def newest(self, role: str) -> Root | Targets | None:
        """Return the draft of root, targets or a line if there is one, else what is published.

        Raises:
            MergeRefused: there are drafts that do not go together.
        """
        if role in self.clashes:
            raise self.clashes[role]
        draft = self.drafts.get(role)
        return draft.signed if draft else cast("Root | Targets | None", self.published(role))

    def root(self) -> Root:
        """Return the newest root; raises `RepositoryRefused` where there is none."""
        found = self.newest("root")
        if not isinstance(found, Root):
            raise RepositoryRefused("root", expected="a published one or a draft", got="neither")
        return found

    def targets(self) -> Targets:
        """Return the newest top-level targets; raises `RepositoryRefused` where there are none."""
        found = self.newest("targets")
        if not isinstance(found, Targets):
            raise RepositoryRefused("targets", expected="a published version or a draft", got="neither")
        return found

    def products(self) -> list[str]:
        """Return the product lines that the newest targets delegate to."""
        return line_names(self.targets())

    def line(self, product: str) -> Targets:
        """Return the newest version of a line's role; raises `ProductRefused` where there is no such line."""
        found = self.newest(product) if product in self.products() else None
        if not isinstance(found, Targets):
            raise unknown_line(product, self.products())
        return found

    def check_role(self, role: str) -> None:
        """Refuse a role that nobody signs by hand, or that there is not; raises `RepositoryRefused`, which names those there are."""
        newest = self.published("targets") if "targets" in self.clashes else self.newest("targets")
        lines = line_names(newest) if isinstance(newest, Targets) else []
        known = tuple(dict.fromkeys(("root", "targets", *lines, *self.drafts, *self.clashes)))
        if role not in known:
            raise RepositoryRefused("role", expected=f"one of {', '.join(known)}", got=repr(role)[:80])

    def after(self, role: str) -> tuple[str, ...]:
        """Return what the next draft of a role comes after (`Drafts.save`); raises `MergeRefused` where there is a clash."""
        if role in self.clashes:
            raise self.clashes[role]
        if self.files.has(role) and (settled := self.files.of(role).settled) is not None:
            return settled.after
        published = self.published(role)
        return (encoding.digest(published),) if published else ()

    def delegators(self, role: str) -> tuple[Root | Targets, ...]:
        """Return who says by which keys the next version of a role is signed."""
        if role == "root":
            draft = self.drafts.get("root")
            both = (self.published_root, draft.signed if draft else None)
            return tuple(found for found in both if isinstance(found, Root))
        return (self.root(),) if role == "targets" else (self.targets(),)

    def quorum(self, role: str) -> Quorum:
        """Judge the draft of a role; raises `RepositoryRefused` where there is none, `MergeRefused` where nobody can say whose it is."""
        if role not in self.drafts:
            raise RepositoryRefused(f"draft of {role}", expected="one", got="none")
        return self.files.judged(role, lambda: quorum(self.drafts[role], self.delegators(role)))


def published_files(layout: Layout, name: str) -> bytes | None:
    """Return a published metadata file by its name with version, or None; raises `StorageError`."""
    role = name.removesuffix(".json").partition(".")[2] or "timestamp"
    return read_optional(layout.metadata(name), max_bytes(role))


def read_state(layout: Layout, known: Chain | None = None, anchor: bytes | None = None) -> State:
    """Read a repository, and verify what is read: root, timestamp, snapshot, targets; a line when it is asked for, and so a draft.

    Args:
        known: a chain that was verified before; it holds as long as root and timestamp are the same, which name all else by hash.
        anchor: bytes of a root that is trusted; by default, version 1 of the repository's own.

    Raises:
        AnchorRefused: what is published does not follow from `anchor`.
        RepositoryRefused: what is published does not verify.
        StorageError: a file cannot be read.
    """

    def files(name: str) -> bytes | None:
        return published_files(layout, name)

    try:
        root, raw = _newest_root(files, known, anchor)
        timestamp = files(file_name("timestamp", 0))
        if known is not None and (known.raw["root"], known.raw["timestamp"]) == (raw, timestamp):
            chain: Chain | None = known.over(files)
        else:
            chain = _chain(files, root, raw, known, anchor) if timestamp is not None else None
        if anchor is not None and chain is None:
            raise VerifyRefused("what is published", expected="something", got="nothing")
    except VerifyRefused as error:
        if anchor is not None:
            raise AnchorRefused(error) from error
        raise DamagedRefused(error) from error
    drafted = Drafted(layout, lambda role: _published(root, chain, role), lambda role: _version(root, chain, role))
    clashes = Clashes(drafted)
    bare = State(root, chain, Pending(drafted, chain, lambda draft: draft), clashes, drafted)
    judged = Pending(drafted, chain, lambda draft: with_signatures(draft, bare.delegators, drafted))
    return State(root, chain, judged, clashes, drafted)


class Pending(Mapping[str, Draft]):
    """The drafts of roles that there are, each read when it is asked for, and then judged."""

    def __init__(self, files: Drafted, chain: Chain | None, judge: Callable[[Draft], Draft]) -> None:
        self._files, self._chain, self._judge = files, chain, judge
        self._judged: dict[str, Draft] = {}

    def __getitem__(self, role: str) -> Draft:
        """Return a draft.

        Raises:
            KeyError: there is none.
            RepositoryRefused: it is damaged.
        """
        if role not in self._judged:
            draft = self._files.draft(role) if self._is_known(role) else None
            if draft is None:
                raise KeyError(role)
            self._judged[role] = self._judge(draft)
        return self._judged[role]

    def __contains__(self, role: object) -> bool:
        """Say whether there is a draft of a role."""
        return isinstance(role, str) and self._is_known(role) and self._files.draft(role) is not None

    def __iter__(self) -> Iterator[str]:
        """The roles, root and targets first."""
        return (role for role in self._files.names if role in self)

    def __len__(self) -> int:
        """How many drafts there are."""
        return sum(1 for _ in self)

    def _is_known(self, role: str) -> bool:
        """Whether it is a top-level role, or a line that the newest targets delegate to."""
        if role in ("root", "targets") or not self._files.has(role):
            return True
        if self._files.clash("targets") is not None:
            return True  # where nobody can say which lines there are, none is taken for one that never came to be
        draft = self._files.draft("targets")
        targets = draft.signed if draft else self._chain.targets if self._chain else None
        return isinstance(targets, Targets) and role in line_names(targets)


class Clashes(Mapping[str, MergeRefused]):
    """Why the drafts of roles do not go together, each looked at when it is asked for."""

    def __init__(self, files: Drafted) -> None:
        self._files = files

    def __getitem__(self, role: str) -> MergeRefused:
        """Return why; raises `KeyError` where there is no clash."""
        if (found := self._files.clash(role)) is None:
            raise KeyError(role)
        return found

    def __iter__(self) -> Iterator[str]:
        """The roles whose drafts clash."""
        return (role for role in self._files.names if self._files.clash(role) is not None)

    def __len__(self) -> int:
        """How many roles' drafts clash."""
        return sum(1 for _ in self)


def _published(root: Root | None, chain: Chain | None, role: str) -> Signed | None:
    if role == "root":
        return root
    if chain is None:
        return None
    top: dict[str, Root | Timestamp | Snapshot | Targets] = {
        "timestamp": chain.timestamp,
        "snapshot": chain.snapshot,
        "targets": chain.targets,
    }
    return top.get(role) or chain.lines.get(role)


def _version(root: Root | None, chain: Chain | None, role: str) -> int:
    if role == "root":
        return root.version if root else 0
    listing = chain.snapshot.meta.get(f"{role}.json") if chain else None
    return listing.version if listing else 0


def _newest_root(files: Files, known: Chain | None, anchor: bytes | None) -> tuple[Root | None, bytes]:
    """The newest root and its bytes: the known one, where it is there still and no other comes after it."""
    if known is not None:
        number = known.root.version
        if files(file_name("root", number + 1)) is None and files(file_name("root", number)) == known.raw["root"]:
            return known.root, known.raw["root"]
    roots = verify_roots(files, anchor)
    return (roots[0].root, roots[1]) if roots else (None, b"")


def _chain(files: Files, root: Root | None, raw: bytes, known: Chain | None, anchor: bytes | None) -> Chain:
    """What is published under the newest root, or under one before it where publications of new roots were interrupted.

    Nobody's word is taken for that: with the old keys, which may be known to others by now, everything is verified, down to each line.
    """
    if root is None:
        raise VerifyRefused("1.root.json", expected="a root", got="none")
    try:
        return load_chain(files, root, raw, known)
    except VerifyRefused as refused:
        for version in range(root.version, max(1, root.version - MAX_INTERRUPTED), -1):
            try:
                return verify_chain(partial(_without, files, file_name("root", version)), at=0, anchor=anchor)
            except VerifyRefused:
                continue
        raise refused


def _without(files: Files, hidden: str, name: str) -> bytes | None:
    return None if name == hidden else files(name)
