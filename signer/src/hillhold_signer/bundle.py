"""Write a bundle: what the devices of some product lines need, in one file (docs/FORMAT.md, "Bundle").

Nothing is signed here, and a bundle adds no trust; the same published files make the same bytes.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final

from tuf.api.metadata import TargetFile, Targets

from hillhold_signer.chain import Chain, verify_chain
from hillhold_signer.encoding import unix
from hillhold_signer.errors import FileRefused, ProductRefused, RepositoryRefused, StorageError, VerifyRefused
from hillhold_signer.layout import FolderLayout, LayoutOf, file_name
from hillhold_signer.releases import understood
from hillhold_signer.state import published_files
from hillhold_signer.storage import replacing
from hillhold_signer.verify import published_tree
from hillhold_verifier.bundle import MAX_ENTRIES, MAX_SIZE, Entry, check_entry_name, end_record
from hillhold_verifier.release import Patch, Release
from hillhold_verifier.times import show_time

CHUNK: Final = 1024 * 1024
"""Bytes of a target file read at once."""
_LESS: Final = "make one for each product, or for some hardware only (--hardware)"


@dataclass(frozen=True, slots=True)
class Bundled:
    """What a bundle holds.

    Attributes:
        files: sizes by name, in the order in which they lie there.
        size: bytes of the bundle.
        until: Unix seconds at which its timestamp or its snapshot expires, whichever is first.
    """

    files: Mapping[str, int]
    size: int
    until: int


@dataclass(frozen=True, slots=True)
class _Target:
    """A target file, and what was signed of it."""

    path: Path
    length: int
    sha256: str


def write_bundle(
    path: Path, products: Sequence[str], output: Path, *, hardware: Sequence[str] = (), from_root: int = 1, now: int = 0
) -> Bundled:
    """Write the bundle of a repository, or of a copy of its published tree, to the file `output`.

    Args:
        products: lines whose releases and patches go in.
        hardware: only what runs on one of these; by default everything.
        from_root: the oldest root that a device may hold; by default a device of any age can follow.
        now: Unix seconds at which it has to be current; 0 bundles whatever has expired.

    Raises:
        RepositoryRefused: nothing is published.
        VerifyRefused: what is published does not verify, or a target file is not what was signed.
        ProductRefused: no such line, or nothing in it for that hardware.
        ReleaseRefused: hardware was named, and a line lists what a device would not understand.
        FileRefused: more than a bundle holds.
        StorageError: a file cannot be read or written; `output` is then as it was.
    """
    layout: FolderLayout = LayoutOf(path)
    if not layout.config.is_file():
        layout = published_tree(path)
    if published_files(layout, file_name("timestamp", 0)) is None:
        hint = "publish it first: `hillhold publish`"
        raise RepositoryRefused(f"{path}", expected="a published repository", got="no timestamp", hint=hint)
    read: dict[str, bytes] = {}

    def files(name: str) -> bytes | None:
        if (data := published_files(layout, name)) is not None:
            read[name] = data
        return data

    chain = verify_chain(files, at=0)
    until = min(unix(chain.timestamp.expires), unix(chain.snapshot.expires))
    if now and until <= now:
        hint = f"`hillhold refresh {path}`; devices would refuse this bundle, but within an offline grace"
        raise VerifyRefused("timestamp or snapshot", expected="unexpired", got=f"expiry {show_time(until)}", hint=hint)
    items: dict[str, bytes | _Target] = {
        f"metadata/{name}": read[name] for name in _metadata(chain, products, from_root)
    }
    items |= _targets(layout, chain, products, frozenset(hardware))
    if len(items) > MAX_ENTRIES:
        raise FileRefused(f"{output}", expected=f"at most {MAX_ENTRIES} files", got=len(items), hint=_LESS)
    with replacing(output) as file:
        entries = list(_write_entries(file, items))
        size = _write_end(file, entries, output)
    return Bundled({entry.name: entry.size for entry in entries}, size, until)


def _metadata(chain: Chain, products: Sequence[str], from_root: int) -> list[str]:
    """The roots that a device of that age follows, and the newest of each other role."""
    if not 1 <= from_root <= chain.root.version:
        raise RepositoryRefused("oldest root", expected=f"1 to {chain.root.version}", got=from_root)
    versions = {product: _line(chain, product).version for product in products}
    versions |= {"timestamp": 0, "snapshot": chain.snapshot.version, "targets": chain.targets.version}
    roots = [file_name("root", version) for version in range(from_root, chain.root.version + 1)]
    return roots + [file_name(role, version) for role, version in versions.items()]


def _targets(
    layout: FolderLayout, chain: Chain, products: Sequence[str], hardware: frozenset[str]
) -> dict[str, _Target]:
    found: dict[str, _Target] = {}
    for product in products:
        chosen = _wanted(_line(chain, product), hardware)
        if hardware and not chosen:
            names = " or ".join(sorted(hardware))
            raise ProductRefused(f"product line {product}", expected=f"releases for {names}", got="none")
        for target in chosen:
            digest = target.hashes["sha256"]
            path = layout.target(target.path, digest)
            found[path.relative_to(layout.public).as_posix()] = _Target(path, target.length, digest)
    return found


def _wanted(line: Targets, hardware: frozenset[str]) -> list[TargetFile]:
    """The releases for that hardware, and the patches that make them; everything for none."""
    if not hardware:
        return list(line.targets.values())
    known = {path: understood(target) for path, target in line.targets.items()}
    fitting = {path for path, item in known.items() if isinstance(item, Release) and item.hardware & hardware}
    makes = {path for path, item in known.items() if isinstance(item, Patch) and item.makes in fitting}
    return [line.targets[path] for path in sorted(fitting | makes)]


def _line(chain: Chain, product: str) -> Targets:
    if (line := chain.lines.get(product)) is None:
        known = ", ".join(chain.lines) or "none yet"
        raise ProductRefused("product line", expected=f"a published one: {known}", got=repr(product)[:80])
    return line


def _write_entries(file: BinaryIO, items: Mapping[str, bytes | _Target]) -> Iterator[Entry]:
    for name, item in sorted(items.items()):
        check_entry_name(name)
        entry = Entry(name, len(item) if isinstance(item, bytes) else item.length, 0, file.tell())
        if entry.end > MAX_SIZE:
            raise FileRefused(name, expected=f"at most {MAX_SIZE} bytes up to its end", got=entry.end, hint=_LESS)
        file.seek(entry.start)
        entry = replace(entry, crc=zlib.crc32(item) if isinstance(item, bytes) else _copy(file, item))
        if isinstance(item, bytes):
            file.write(item)
        # Last, since it states the CRC of what follows it.
        file.seek(entry.offset)
        file.write(entry.header())
        file.seek(entry.end)
        yield entry


def _copy(file: BinaryIO, target: _Target) -> int:
    """Copy a target file, and return its CRC-32."""
    crc, length, digest = 0, 0, hashlib.sha256()
    for chunk in _chunks(target.path, target.length + 1):
        crc, length = zlib.crc32(chunk, crc), length + len(chunk)
        digest.update(chunk)
        file.write(chunk)
    if length != target.length or digest.hexdigest() != target.sha256:
        expected = f"{target.length} bytes with SHA-256 {target.sha256[:16]}"
        raise VerifyRefused(f"{target.path}", expected=expected, got="others")
    return crc


def _chunks(path: Path, limit: int) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(min(CHUNK, limit)):
                limit -= len(chunk)
                yield chunk
    except FileNotFoundError:
        raise VerifyRefused(f"{path}", expected="a file", got="none") from None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error


def _write_end(file: BinaryIO, entries: Sequence[Entry], output: Path) -> int:
    offset = file.tell()
    for entry in entries:
        file.write(entry.listing())
    size = file.tell() - offset
    if file.tell() > MAX_SIZE:
        raise FileRefused(f"{output}", expected=f"at most {MAX_SIZE} bytes", got="more", hint=_LESS)
    file.write(end_record(len(entries), size, offset))
    return file.tell()
