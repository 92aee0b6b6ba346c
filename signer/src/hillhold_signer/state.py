"""What a repository holds: what is published, verified, and the drafts of what comes next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from tuf.api.metadata import Root, Signed, Snapshot, Targets, Timestamp

from hillhold_signer.chain import Chain, Files, line_names, load_chain, verify_chain, verify_roots
from hillhold_signer.drafts import Draft, Drafts, Quorum, quorum
from hillhold_signer.errors import DamagedRefused, ProductRefused, RepositoryRefused, VerifyRefused
from hillhold_signer.layout import Layout, file_name
from hillhold_signer.storage import read_optional
from hillhold_verifier.metadata import max_bytes


@dataclass(frozen=True, slots=True)
class State:
    """One reading of a repository.

    Attributes:
        published_root: the newest published root; there is one before there is a chain only after an interrupted first publication.
        chain: what is published, or None before the first publication. Under an older root than the newest one after an interruption.
        drafts: by role, those of versions that are not published yet.
        stale: roles whose draft is left over from a run that was interrupted: published already, or of a line that never came to be.
    """

    published_root: Root | None
    chain: Chain | None
    drafts: Mapping[str, Draft]
    stale: tuple[str, ...]

    @property
    def interrupted(self) -> bool:
        """Whether a new root is out and what was to come with it is not: clients of that root may refuse the rest until then."""
        newest = self.published_root
        return newest is not None and self.chain is not None and self.chain.root.version < newest.version

    def published(self, role: str) -> Signed | None:
        """Return the published version of any role, or None."""
        if role == "root":
            return self.published_root
        if self.chain is None:
            return None
        top: dict[str, Root | Timestamp | Snapshot | Targets] = {
            "timestamp": self.chain.timestamp,
            "snapshot": self.chain.snapshot,
            "targets": self.chain.targets,
        }
        return top.get(role) or self.chain.lines.get(role)

    def newest(self, role: str) -> Root | Targets | None:
        """Return the draft of root, targets or a line if there is one, else what is published."""
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
            known = ", ".join(self.products()) or "none yet"
            hint = f"make it with `hillhold product add REPO {product} …`"
            raise ProductRefused("product line", expected=f"one of: {known}", got=repr(product)[:80], hint=hint)
        return found

    def delegators(self, role: str) -> tuple[Root | Targets, ...]:
        """Return who says by which keys the next version of a role is signed."""
        if role == "root":
            draft = self.drafts.get("root")
            both = (self.published_root, draft.signed if draft else None)
            return tuple(found for found in both if isinstance(found, Root))
        return (self.root(),) if role == "targets" else (self.targets(),)

    def quorum(self, role: str) -> Quorum:
        """Judge the draft of a role; raises `RepositoryRefused` where there is none."""
        if role not in self.drafts:
            raise RepositoryRefused(f"draft of {role}", expected="one", got="none")
        return quorum(self.drafts[role], self.delegators(role))


def published_files(layout: Layout, name: str) -> bytes | None:
    """Return a published metadata file by its name with version, or None; raises `StorageError`."""
    role = name.removesuffix(".json").partition(".")[2] or "timestamp"
    return read_optional(layout.metadata(name), max_bytes(role))


def read_state(layout: Layout, known: Chain | None = None) -> State:
    """Read a repository, and verify what is read: root, timestamp, snapshot, targets; a line when it is asked for.

    Args:
        known: a chain that was verified before; it holds as long as root and timestamp are the same, which name all else by hash.

    Raises:
        RepositoryRefused: what is published does not verify, or a draft is damaged.
        StorageError: a file cannot be read.
    """

    def files(name: str) -> bytes | None:
        return published_files(layout, name)

    try:
        roots = verify_roots(files)
        root, raw = (roots[0].root, roots[1]) if roots else (None, b"")
        timestamp = files(file_name("timestamp", 0))
        if known is not None and (known.raw["root"], known.raw["timestamp"]) == (raw, timestamp):
            chain: Chain | None = known
        else:
            chain = _chain(files, root, raw) if timestamp is not None else None
    except VerifyRefused as error:
        raise DamagedRefused(error) from error
    drafts = Drafts(layout)
    versions = {role: version for role in drafts.roles() if (version := drafts.version(role)) is not None}
    stale = [role for role, version in versions.items() if version <= _published_version(root, chain, role)]
    found = Pending(drafts, [role for role in versions if role not in stale])
    lines = _lines_of(State(root, chain, found, ()))
    orphans = [role for role in found if role not in ("root", "targets", *lines)]
    return State(root, chain, Pending(drafts, [role for role in found if role not in orphans]), (*stale, *orphans))


class Pending(Mapping[str, Draft]):
    """The drafts of some roles, each read when it is asked for: after an import there may be many large ones."""

    def __init__(self, drafts: Drafts, roles: Iterable[str]) -> None:
        self._drafts, self._roles = drafts, dict.fromkeys(roles)
        self._read: dict[str, Draft] = {}

    def __getitem__(self, role: str) -> Draft:
        """Return a draft.

        Raises:
            KeyError: there is none.
            RepositoryRefused: it is damaged, or was removed meanwhile.
        """
        if role not in self._roles:
            raise KeyError(role)
        if role not in self._read:
            draft = self._drafts.load(role)
            if draft is None:
                raise RepositoryRefused(f"draft of {role}", expected="one", got="none")
            self._read[role] = draft
        return self._read[role]

    def __contains__(self, role: object) -> bool:
        """Say whether there is a draft, without reading it."""
        return role in self._roles

    def __iter__(self) -> Iterator[str]:
        """The roles, root and targets first."""
        return iter(self._roles)

    def __len__(self) -> int:
        """How many drafts there are."""
        return len(self._roles)


def _published_version(root: Root | None, chain: Chain | None, role: str) -> int:
    """The version of a role that is published, as its lister says; 0 for none."""
    if role == "root":
        return root.version if root else 0
    listing = chain.snapshot.meta.get(f"{role}.json") if chain else None
    return listing.version if listing else 0


def _chain(files: Files, root: Root | None, raw: bytes) -> Chain:
    """What is published under the newest root, or under the one before it where a publication of a new root was interrupted.

    Nobody's word is taken for that: with the old keys, which may be known to others by now, everything is verified, down to each line.
    """
    if root is None:
        raise VerifyRefused("1.root.json", expected="a root", got="none")
    try:
        return load_chain(files, root, raw)
    except VerifyRefused as refused:
        newest = file_name("root", root.version)
        try:
            return verify_chain(lambda name: None if name == newest else files(name), at=0)
        except VerifyRefused:
            raise refused from None


def _lines_of(state: State) -> list[str]:
    """Return the product lines that targets delegate to; none where there are no targets at all."""
    found = state.newest("targets")
    return line_names(found) if isinstance(found, Targets) else []
