"""Names of the repository's files, and of the objects beside it."""

from __future__ import annotations

import re
from typing import Any, Final

from hillhold_signer.errors import FileRefused
from hillhold_verifier import canonical
from hillhold_verifier.errors import MetadataError

MAX_NAME: Final = 512
"""Characters of a name."""
TIMESTAMP: Final = "public/metadata/timestamp.json"

_NAME: Final = re.compile(r"[A-Za-z0-9._+-]+(/[A-Za-z0-9._+-]+)*")
_TARGET: Final = re.compile(r"staged/([0-9a-f]{64})|public/targets/(?:[^/]+/)*([0-9a-f]{64})\.[^/]+")


def blob_key(digest: str) -> str:
    """Return the name of a blob's object."""
    return f"blobs/{digest}"


def version_of(timestamp: bytes) -> int:
    """Return the version that a `timestamp.json` states, unverified; 0 where it states none."""
    try:
        found: Any = canonical.loads(timestamp)
        return int(found["signed"]["version"])
    except (MetadataError, TypeError, KeyError, ValueError):
        return 0


def check_name(name: str) -> str:
    """A name that comes from elsewhere leads nowhere else."""
    if len(name) > MAX_NAME or not _NAME.fullmatch(name) or {".", ".."} & set(name.split("/")):
        raise FileRefused("name of a file", expected="a name as the layout has them", got=repr(name)[:80])
    return name


def digest_in(name: str) -> str | None:
    """The hash in the name of a target file; None for any other."""
    match = _TARGET.fullmatch(name)
    return (match[1] or match[2]) if match else None


def below(folder: str, name: str) -> bool:
    """Say whether a name is in a folder, or below; "" is above all."""
    return not folder or name.startswith(f"{folder}/")


def overlap(one: str, other: str) -> bool:
    return not one or f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")
