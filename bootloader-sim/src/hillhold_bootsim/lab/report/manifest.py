"""The manifest of a report: the SHA-256 of each of its files, as a signed note (C2SP signed-note) where the laboratory signs it.

Its text is

    hillhold-lab report 1
    SHA-256 LENGTH NAME

with a line for each file but the manifest itself, sorted by name. The note holds all of it, so that any tool for signed notes verifies the
signature, and `sha256sum` the rest. The first line keeps the text apart from whatever else the same key may sign: it is no checkpoint of a
log, and no metadata.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from securesystemslib.signer import Key, Signer

from hillhold_bootsim.lab.errors import ReportRefused
from hillhold_signer.errors import KeyRefused, NoteRefused, StorageError
from hillhold_signer.examples import refuse_public
from hillhold_signer.log.note import MAX_NOTE, NoteSigner, Verifier, note_signer, note_verifier, open_note, sign_note
from hillhold_signer.plain import plain
from hillhold_signer.storage import digest_of, read_optional

NAME: Final = "manifest.txt"
KEY_NAME: Final = "hillhold-lab-report"
"""The name of a laboratory's key in a note; whose it is, whoever verifies knows from where they got it."""
HEAD: Final = "hillhold-lab report 1"

_LINE: Final = re.compile(r"([0-9a-f]{64}) (0|[1-9][0-9]{0,14}) ([a-z0-9][a-z0-9._-]{0,99})")


@dataclass(frozen=True, slots=True)
class Findings:
    """What became of the files since the report was signed, by name, sorted.

    Attributes:
        files: those that the manifest names.
    """

    files: tuple[str, ...]
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    added: tuple[str, ...]

    @property
    def good(self) -> bool:
        """All files are there as they were signed, and no others."""
        return not (self.changed or self.missing or self.added)


def report_signer(signer: Signer) -> NoteSigner:
    """Return what signs reports by a key as `keys.load_signer` opens it.

    Raises:
        KeyRefused: not Ed25519.
        PublicKeyMaterialRefused: a key whose private part everybody has.
    """
    refuse_public(signer.public_key, demo=False)
    report_verifier(signer.public_key)
    return note_signer(KEY_NAME, signer)


def report_verifier(key: Key) -> Verifier:
    """Return what verifies reports by a laboratory's public key; raises `KeyRefused` for one that is not Ed25519."""
    if key.keytype != "ed25519":
        raise KeyRefused(
            "key of a report",
            expected="Ed25519 (C2SP signed-note)",
            got=key.keytype,
            hint="`hillhold key new` makes one",
        )
    return note_verifier(KEY_NAME, key)


def manifest(files: Mapping[str, bytes], signer: NoteSigner | None) -> bytes:
    """Return the manifest of these files, by name; signed where a signer is given."""
    lines = [f"{sha256(data).hexdigest()} {len(data)} {name}" for name, data in sorted(files.items())]
    text = "".join(f"{line}\n" for line in (HEAD, *lines)).encode()
    return sign_note(text, [signer]) if signer else text


def verify(folder: Path, verifier: Verifier) -> Findings:
    """Hold a folder against its manifest.

    Raises:
        ReportRefused: no manifest, or one that this key has not signed.
        StorageError: the folder cannot be read.
    """
    path = folder / NAME
    data = read_optional(path, MAX_NOTE)
    if data is None:
        raise ReportRefused(
            f"{folder}", expected=f"a report, with {NAME}", got="none", hint="is it the folder of a report?"
        )
    if b"\n\n" not in data:
        raise ReportRefused(
            f"{path}", expected=f"a signature by {KEY_NAME}", got="none", hint="it was made without --key"
        )
    try:
        note = open_note(data, [verifier])
    except NoteRefused as error:
        hint = "the manifest was changed, or another key signed it: compare the laboratory's key"
        raise ReportRefused(f"{path}: {error}", hint=hint) from error
    stated = _parse(note.text.decode(), path)
    there = _files(folder)
    changed = [name for name in stated if name in there and digest_of(folder / name) != stated[name]]
    return Findings(
        tuple(stated),
        tuple(changed),
        tuple(sorted(stated.keys() - there)),
        tuple(sorted(there - stated.keys() - {NAME})),
    )


def _parse(text: str, path: Path) -> dict[str, tuple[int, str]]:
    head, *lines = text.removesuffix("\n").split("\n")
    if head != HEAD:
        raise ReportRefused(f"{path}", expected=HEAD, got=repr(head)[:60])
    stated: dict[str, tuple[int, str]] = {}
    for line in lines:
        found = _LINE.fullmatch(line)
        if not found or found[3] in stated or found[3] == NAME:
            raise ReportRefused(f"{path}", expected="lines of SHA-256, length and name, each once", got=repr(line)[:80])
        stated[found[3]] = int(found[2]), found[1]
    return stated


def _files(folder: Path) -> set[str]:
    """Names of all that lies in a folder, hidden ones and those below it, too. A link or a pipe is none of the report's files."""
    try:
        return {
            plain(path.relative_to(folder).as_posix()) + _unlike_a_file(path)
            for path in folder.rglob("*")
            if path.is_symlink() or not path.is_dir()
        }
    except OSError as error:
        raise StorageError(f"cannot read {folder}: {error.strerror or error}") from error


def _unlike_a_file(path: Path) -> str:
    return " (a link)" if path.is_symlink() else "" if path.is_file() else " (no file)"
