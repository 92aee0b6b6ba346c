"""Verify a published tree as clients would see it: every role, and the hash of every target file.

Each of `OPINIONS` is an independent implementation of the TUF client that looks at the same files at the same time; they must
agree on what they saw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, TypeVar

from hillhold_signer.chain import Files, verify_chain
from hillhold_signer.encoding import unix
from hillhold_signer.errors import StorageError, VerifyRefused
from hillhold_signer.layout import FolderLayout, LayoutOf, file_name
from hillhold_signer.state import published_files
from hillhold_verifier.metadata import MAX_LENGTH, Envelope, parse_root
from hillhold_verifier.roles import Root, Snapshot, Targets, Timestamp
from hillhold_verifier.trust import (
    Trust,
    current,
    update_line,
    update_root,
    update_snapshot,
    update_targets,
    update_timestamp,
    verify,
)

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)

CHUNK: Final = 1024 * 1024
"""Bytes of a target file read at once."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one implementation accepted.

    Attributes:
        versions: by role, product lines included.
        expires: Unix seconds, by role.
        targets: by path, length in bytes and SHA-256 in hexadecimal.
    """

    versions: Mapping[str, int]
    expires: Mapping[str, int]
    targets: Mapping[str, tuple[int, str]]


Opinion = Callable[[Files, int, bytes | None], Seen]
"""Looks at metadata files at a time (Unix seconds) from a trusted root (None: version 1); raises a `Refused`."""


def with_python_tuf(files: Files, now: int, root: bytes | None) -> Seen:
    """The opinion of python-tuf; raises `VerifyRefused`."""
    chain = verify_chain(files, now, root)
    top = {"root": chain.root, "timestamp": chain.timestamp, "snapshot": chain.snapshot, "targets": chain.targets}
    roles = {**top, **chain.lines}
    return Seen(
        {name: signed.version for name, signed in roles.items()},
        {name: unix(signed.expires) for name, signed in roles.items()},
        {
            path: (target.length, target.hashes["sha256"])
            for line in (chain.targets, *chain.lines.values())
            for path, target in line.targets.items()
        },
    )


def with_hillhold(files: Files, now: int, root: bytes | None) -> Seen:
    """The opinion of Hillhold's own verifier, as the devices of every line would see it; raises `Refused`."""
    anchor = parse_root(_file(files, file_name("root", 1)) if root is None else root)
    verify(anchor, "root", anchor.signed.roles["root"], anchor.signed.keys)
    trust = Trust(anchor)
    while (raw := files(file_name("root", trust.root.signed.version + 1))) is not None:
        trust = update_root(trust, raw)
    timestamp = update_timestamp(trust, _file(files, "timestamp.json"), now)
    listing = _held(timestamp.timestamp).snapshot.version
    snapshot = update_snapshot(timestamp, _file(files, file_name("snapshot", listing)), now)
    meta = _held(snapshot.snapshot).meta
    trust = update_targets(snapshot, _file(files, file_name("targets", meta["targets"].version)), now)
    targets = _held(trust.targets)
    seen: dict[str, Root | Timestamp | Snapshot | Targets] = {
        "root": trust.root.signed,
        "timestamp": _held(trust.timestamp),
        "snapshot": _held(trust.snapshot),
        "targets": targets,
    }
    for name in (delegation.name for delegation in targets.delegations if delegation.name in meta):
        line = update_line(trust, name, _file(files, file_name(name, meta[name].version)), now)
        seen[name] = current(line, name, now).line
    return Seen(
        {name: signed.version for name, signed in seen.items()},
        {name: signed.expires for name, signed in seen.items()},
        {
            target.path: (target.length, target.hashes.get("sha256", b"").hex())
            for signed in seen.values()
            if isinstance(signed, Targets)
            for target in signed.targets.values()
        },
    )


def _held(envelope: Envelope[S] | None) -> S:
    if envelope is None:
        raise VerifyRefused("metadata", expected="what was just accepted", got="none")
    return envelope.signed


def _file(files: Files, name: str) -> bytes:
    if (data := files(name)) is None:
        raise VerifyRefused(name, expected="a file", got="none")
    return data


OPINIONS: Final[tuple[tuple[str, Opinion], ...]] = (("python-tuf", with_python_tuf), ("hillhold", with_hillhold))


def published_tree(path: Path) -> FolderLayout:
    """Return the layout of a repository, or of a bare copy of its published tree.

    Raises:
        VerifyRefused: neither, or a repository in which nothing is published yet.
    """
    layout = FolderLayout(path)
    first = (file_name("root", 1), file_name("timestamp", 0))
    if layout.config.is_file() and not any(layout.metadata(name).exists() for name in first):
        raise VerifyRefused("nothing is published yet", hint="`hillhold publish`")
    if layout.public.is_dir():
        return layout
    if (path / "metadata").is_dir():
        return _Bare(path)
    raise VerifyRefused(f"{path}", expected="a repository, or a folder with metadata/ and targets/", got="neither")


class _Bare(LayoutOf[Path]):
    """A published tree without a repository around it, under whatever name it was copied to."""

    @property
    def public(self) -> Path:
        return self.path


def verify_tree(path: Path, now: int, root: bytes | None = None) -> Seen:
    """Verify the published tree of a repository, or a copy of it.

    Args:
        now: Unix seconds.
        root: bytes of the root that is trusted; by default version 1 of the tree itself.

    Raises:
        VerifyRefused: a file is missing, expired or does not verify, a target file differs, or two implementations disagree.
        StorageError: a file cannot be read.
    """
    layout = published_tree(path)
    # Each file is read once: both see the same bytes, though somebody publishes meanwhile.
    files = cache(lambda file: published_files(layout, file))
    views = [(name, look(files, now, root)) for name, look in OPINIONS]
    first, seen = views[0]
    for name, other in views[1:]:
        if other != seen:
            raise VerifyRefused(
                "the implementations disagree", expected=f"what {first} saw", got=f"another from {name}"
            )
    for target, (length, digest) in seen.targets.items():
        _check_file(layout.target(target, digest), target, length, digest)
    return seen


def _check_file(path: Path, target: str, length: int, digest: str) -> None:
    found, total = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                found.update(chunk)
                total += len(chunk)
                if total > min(length, MAX_LENGTH):
                    break
    except FileNotFoundError as error:
        raise VerifyRefused(f"target {target}", expected=f"{path.name}", got="no such file") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    if total != length or found.hexdigest() != digest:
        raise VerifyRefused(f"target {target}", expected=f"{length} bytes with SHA-256 {digest[:16]}", got="others")
