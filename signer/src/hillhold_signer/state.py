"""What a repository holds: what is published, verified, and the drafts of what comes next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from tuf.api.metadata import Root, Signed, Snapshot, Targets, Timestamp

from hillhold_signer import encoding
from hillhold_signer.chain import Chain, line_names, verify_chain, verify_roots
from hillhold_signer.drafted import Drafted, read_drafts, with_signatures
from hillhold_signer.drafts import Draft, Quorum, quorum
from hillhold_signer.errors import MergeRefused, ProductRefused, RepositoryRefused, VerifyRefused
from hillhold_signer.layout import Layout, file_name
from hillhold_signer.storage import read_optional
from hillhold_verifier.metadata import max_bytes


@dataclass(frozen=True, slots=True)
class State:
    """One reading of a repository.

    Attributes:
        published_root: the newest published root; there is one before there is a chain only after an interrupted first publication.
        chain: what is published, or None before the first publication.
        drafts: by role, the next versions; a line's only where the newest targets delegate to it.
        clashes: by role, why its drafts do not go together; nothing can be done with such a role until one is dropped.
        files: what else is known of the drafts' files.
    """

    published_root: Root | None
    chain: Chain | None
    drafts: Mapping[str, Draft]
    clashes: Mapping[str, MergeRefused]
    files: Drafted

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

    def version(self, role: str) -> int:
        """Return the number of the published version of root, targets or a line, 0 without one."""
        if role == "root":
            return self.published_root.version if self.published_root else 0
        meta = self.chain.snapshot.meta.get(f"{role}.json") if self.chain else None
        return meta.version if meta else 0

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
            known = ", ".join(self.products()) or "none yet"
            hint = f"make it with `hillhold product add REPO {product} …`"
            raise ProductRefused("product line", expected=f"one of: {known}", got=repr(product)[:80], hint=hint)
        return found

    def after(self, role: str) -> tuple[str, ...]:
        """Return what the next draft of a role comes after (`Drafts.save`); raises `MergeRefused` where there is a clash."""
        if role in self.clashes:
            raise self.clashes[role]
        files = self.files.roles.get(role)
        if files is not None and files.settled is not None:
            return files.settled.after
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
        return quorum(self.drafts[role], self.delegators(role))


def published_files(layout: Layout, name: str) -> bytes | None:
    """Return a published metadata file by its name with version, or None; raises `StorageError`."""
    role = name.removesuffix(".json").partition(".")[2] or "timestamp"
    return read_optional(layout.metadata(name), max_bytes(role))


def read_state(layout: Layout) -> State:
    """Read and verify a repository.

    Raises:
        RepositoryRefused: what is published does not verify, or a draft is damaged.
        StorageError: a file cannot be read.
    """

    def files(name: str) -> bytes | None:
        return published_files(layout, name)

    try:
        roots = verify_roots(files)
        chain = verify_chain(files, at=0) if files(file_name("timestamp", 0)) is not None else None
    except VerifyRefused as error:
        hint = "the files in public/metadata were changed by something else; restore them from a copy"
        raise RepositoryRefused(f"what is published does not verify: {error}", hint=hint) from error
    root = roots[0].root if roots else None
    bare = State(root, chain, {}, {}, Drafted.none())
    found = read_drafts(layout, bare.published, bare.version)
    whole = State(root, chain, found.drafts, found.clashes, found)
    # Where nobody can say which lines there are, none is taken for one that never came to be.
    lines = found.drafts.keys() if "targets" in found.clashes else _lines_of(whole)
    drafts = {role: draft for role, draft in found.drafts.items() if role in ("root", "targets", *lines)}
    state = State(root, chain, drafts, found.clashes, found)
    judged = {role: with_signatures(draft, state.delegators, found) for role, draft in drafts.items()}
    return State(root, chain, judged, found.clashes, found)


def _lines_of(state: State) -> list[str]:
    """Return the product lines that targets delegate to; none where there are no targets at all."""
    found = state.newest("targets")
    return line_names(found) if isinstance(found, Targets) else []
