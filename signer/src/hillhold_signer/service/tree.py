"""The repository's files as somebody may see them over HTTP: what `--service` reads (`remote`).

Seen are the settings but for where the online keys are, names of people, revoked keys, what is published, and all that belongs to a line
that one has a role on. Drafts of root and targets are seen by all who have any role: they say whose signatures count on a line.

A name leads to a file only in the form in which `layout` writes it, so that nothing else is ever looked for.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from hashlib import sha256
from typing import Any, Final

from hillhold_signer.config import show_config
from hillhold_signer.layout import SEGMENT, file_name, is_segment
from hillhold_signer.places import Entry
from hillhold_signer.service.access import EVERY, ForbiddenRefused, NotFoundRefused, Principal, may_read, require_read
from hillhold_signer.service.unit import Unit
from hillhold_signer.storage import read_optional, walk_folder

MAX_INLINE: Final = 256 * 1024
"""Bytes of a file that is sent with the list."""
MAX_LIST: Final = 8 * 1024 * 1024
"""Bytes of all files that are sent with the list."""
MAX_NAME: Final = 512
"""Characters of a name."""
MAX_FILE: Final = 64 * 1024 * 1024
"""Bytes of a file that is no target file."""

_HASH: Final = "[0-9a-f]{64}"
_NUMBER: Final = "[1-9][0-9]{0,15}"


class Sort(Enum):
    """Sorts of files, with the forms of their names; what a group catches is a role or a line."""

    CONFIG = r"hillhold\.toml"
    PERSON = rf"people/{_HASH}\.[0-9a-f]{{1,64}}"
    REVOKED = rf"revoked/{_HASH}"
    IMAGE_KEY = rf"image-keys/([^/]+)/{_HASH}\.pub"
    DRAFT = rf"drafts/([^/]+)/{_HASH}\.json"
    SIGNATURE = rf"drafts/([^/]+)/{_HASH}\.sig"
    DONE = rf"drafts/([^/]+)/{_HASH}\.{_NUMBER}\.done"
    STAGED = rf"staged/{_HASH}"
    METADATA = rf"public/metadata/(?:timestamp|{_NUMBER}\.[^/]+)\.json"
    TARGET = rf"public/targets/[^/]+/[^/]+/{_HASH}\.[^/]+"

    @property
    def is_target(self) -> bool:
        """Whether its bytes are a blob."""
        return self in (Sort.STAGED, Sort.TARGET)


@dataclass(frozen=True, slots=True)
class Name:
    """The name of a file: its sort, and whose it is, a role or a line, "" where it belongs to all."""

    text: str
    sort: Sort
    role: str = ""


_FORMS: Final = tuple((sort, re.compile(sort.value)) for sort in Sort)
_PART: Final = re.compile(rf"{SEGMENT.pattern}|{_HASH}\.{SEGMENT.pattern}")


def parse_name(text: str) -> Name:
    """Return a name as the layout writes it; raises `NotFoundRefused` for any other."""
    for sort, form in _FORMS if len(text) <= MAX_NAME else ():
        if (match := form.fullmatch(text)) is not None:
            role = match[1] if form.groups else ""
            if all(_PART.fullmatch(part) for part in text.split("/")) and (not role or is_segment(role)):
                return Name(text, sort, role)
    hint = "names are those of docs/FORMAT.md, such as drafts/pump/….json"
    raise NotFoundRefused("file", expected="the name of a file in a repository", got=ascii(text)[:80], hint=hint)


def list_tree(unit: Unit, principal: Principal) -> dict[str, dict[str, Any]]:
    """Return what somebody sees: by name, `length`, `sha256`, and of short files `data` in base64.

    Metadata of product lines, older versions, and target files are not listed: whoever wants one names it. Neither are drafts of a role
    that are all published: there is nothing to sign.

    Raises:
        ForbiddenRefused: no role at all.
        RepositoryRefused, StorageError: the repository.
    """
    check_reader(principal)
    found: dict[str, dict[str, Any]] = {}
    left = MAX_LIST
    for name in _seen(unit, principal):
        data = read_bytes(unit, name)
        if data is None:
            continue
        found[name.text] = {"length": len(data), "sha256": sha256(data).hexdigest()}
        if len(data) <= min(MAX_INLINE, left):
            left -= len(data)
            found[name.text]["data"] = b64encode(data).decode()
    return found


def check_reader(principal: Principal) -> None:
    """Refuse who has no role at all; raises `ForbiddenRefused`."""
    if not principal.grants:
        raise ForbiddenRefused("permission", expected="any role", got=f"{principal.name}: nothing")


def check_read(principal: Principal, name: Name) -> None:
    """Refuse to show a file of another line; raises `ForbiddenRefused`."""
    check_reader(principal)
    if name.role and name.role not in ("root", "targets"):
        require_read(principal, name.role)


def read_bytes(unit: Unit, name: Name) -> bytes | None:
    """Return a file that is no target file, or None; the settings do not say where online keys are; raises `StorageError`."""
    repository = unit.repository
    if name.sort is Sort.CONFIG:
        return show_config(replace(repository.config(), online={}))
    return read_optional(_at(unit, name), MAX_FILE)


def target_digest(unit: Unit, name: Name) -> tuple[int, str] | None:
    """Return length and SHA-256 of a target file, or None; raises `StorageError`."""
    return unit.store.digest(name.text)


def _at(unit: Unit, name: Name) -> Entry:
    return Entry(unit.store, name.text)


def _seen(unit: Unit, principal: Principal) -> Iterator[Name]:
    state, layout = unit.repository.state(), unit.repository.layout
    roles = [role for role in state.files.names if role in ("root", "targets") or may_read(principal, role)]
    yield Name("hillhold.toml", Sort.CONFIG)
    names = [
        f"{place}"
        for folder in (layout.people, layout.revoked, layout.path / "image-keys")
        for place in walk_folder(folder)
    ]
    names += [f"{place}" for role in roles for place in walk_folder(layout.drafts / role)]
    root, chain = state.published_root, state.chain
    files = [file_name("root", number) for number in range(1, (root.version if root else 0) + 1)]
    if chain is not None:
        files += [file_name("timestamp", 0), file_name("snapshot", chain.snapshot.version)]
        files.append(file_name("targets", chain.targets.version))
    names += [f"public/metadata/{file}" for file in files]
    for text in names:
        try:
            name = parse_name(text)
        except NotFoundRefused:
            continue  # nothing that a client of this version reads
        if name.sort is not Sort.IMAGE_KEY or may_read(principal, name.role) or may_read(principal, EVERY):
            yield name
