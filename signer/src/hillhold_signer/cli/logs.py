"""`hillhold log`: check a transparency log, and prove what is in it. Nothing here needs a private key."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from hillhold_signer.cli.remote import log_access, noted_token, token_file_option
from hillhold_signer.cli.terminal import FILE, PATH, emit, json_option
from hillhold_signer.errors import EntryRefused, NoteRefused, ProofRefused
from hillhold_signer.keys import load_public
from hillhold_signer.log import (
    Event,
    FolderStore,
    Proof,
    SignedCheckpoint,
    Tree,
    UrlReader,
    Verifier,
    audit,
    fetch_checkpoint,
    note_verifier,
    open_kept,
    prove_entry,
)
from hillhold_signer.log.checkpoint import show_hash
from hillhold_signer.log.note import MAX_NOTE
from hillhold_signer.log.proof import MAX_FILE
from hillhold_signer.log.tiles import MAX_ENTRY
from hillhold_signer.plain import plain
from hillhold_signer.storage import read_file, write_file
from hillhold_verifier.times import show_time

F = TypeVar("F", bound=Callable[..., Any])

SHOWN: Final = 5
"""Indices of entries that an error names."""


class Place(click.ParamType[FolderStore | UrlReader]):
    """A log: a folder, or a URL."""

    name = "folder or URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> FolderStore | UrlReader:
        """Open it; raises `click.UsageError`."""
        if isinstance(value, str) and value.startswith(("http://", "https://")):
            token, authority = log_access(value, noted_token(ctx))
            return UrlReader(value, clock=time.monotonic, sleep=time.sleep, token=token, ca_file=authority)
        return FolderStore(Path(str(click.Path(exists=True, file_okay=False).convert(value, param, ctx))))


class Vkey(click.ParamType[Verifier]):
    """A verifier key as text."""

    name = "vkey"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Verifier:
        """Parse it; raises `click.UsageError`."""
        if isinstance(value, Verifier):
            return value
        try:
            return Verifier.parse(value)
        except NoteRefused as error:
            self.fail(str(error), param, ctx)


def _keys(required: bool = False) -> Callable[[F], F]:
    text = "Key of the log, or of a witness, as `hillhold log key` prints it; repeat it."
    return click.option("--key", "keys", type=Vkey(), metavar="VKEY", multiple=True, required=required, help=text)


_of_a_service = token_file_option("For the log of a service, URL/log: your token, instead of HILLHOLD_TOKEN.")


@click.group()
def log() -> None:
    """Check a transparency log, and prove what is in it."""


@log.command("verify")
@click.argument("place", metavar="LOG", type=Place())
@_of_a_service
@_keys()
@click.option(
    "--checkpoint", "kept", type=FILE, multiple=True, help="A checkpoint of this log that you kept earlier; repeat it."
)
@click.option(
    "--keep", type=PATH, metavar="FILE", help="Write its checkpoint there, once all is well: for the next time."
)
@json_option
def verify(
    place: FolderStore | UrlReader,
    keys: Sequence[Verifier],
    kept: Sequence[Path],
    keep: Path | None,
    as_json: bool,
) -> None:
    """Check all of a log. LOG is a folder or a URL; that of a signing service is URL/log.

    Every entry, every tile, the signature, and that it goes on from each checkpoint that you kept. Keep its checkpoint for the
    next time: without one, a log that was set back or made anew looks like any other.

    \b
    Example:
      hillhold log verify https://log.example/fw --key "$VKEY" --checkpoint last.txt --keep last.txt
    """
    if keep is not None and not keys:
        raise click.UsageError("--keep needs --key: what nobody has signed is not worth keeping")
    older = [open_kept(read_file(path, MAX_NOTE), keys).checkpoint for path in kept]
    signed = fetch_checkpoint(place, keys)
    checkpoint = signed.checkpoint
    with _progress(checkpoint.size) as report:
        audit(place, signed, older, report)
    if keep is not None:
        write_file(keep, signed.data)
    lines = [
        f"{checkpoint.origin}: {checkpoint.size} entries, root {show_hash(checkpoint.root)}",
        "every tile and every entry agrees with the root",
        *(f"goes on from the checkpoint of size {one.size}" for one in older),
        *_signed_by(signed),
    ]
    emit({**_describe(signed), "kept": [one.size for one in older]}, lines, as_json=as_json)


@log.command("prove")
@click.argument("place", metavar="LOG", type=Place())
@_of_a_service
@click.argument("index", type=click.IntRange(min=0), required=False)
@click.option("--find", "text", help="The one entry that contains this text, instead of INDEX.")
@click.option("-o", "--output", type=PATH, required=True, help="The proof, NAME.tlog-proof.")
@_keys()
@json_option
def prove(
    place: FolderStore | UrlReader,
    index: int | None,
    text: str | None,
    output: Path,
    keys: Sequence[Verifier],
    as_json: bool,
) -> None:
    """Write a proof that an entry is in a log. It holds the entry itself, and anyone can check it offline.

    \b
    Example:
      hillhold log prove LOG --find pump/1.2.0/app.bin -o app.tlog-proof
    """
    if (index is None) == (text is None):
        raise click.UsageError("one of INDEX and --find TEXT")
    signed = fetch_checkpoint(place, keys)
    tree = Tree(place, signed.checkpoint.size, signed.checkpoint.root)
    found = _find(tree, text) if text is not None else index or 0
    proof = prove_entry(tree, signed, found)
    write_file(output, proof.data)
    value = {"index": found, "entry": _entry(proof.extra or b""), "proof": str(output), **_describe(signed)}
    lines = [_line(found, proof.extra or b""), f"proof written to {output}", *_signed_by(signed)]
    emit(value, lines, as_json=as_json)


@log.command("check-proof")
@click.argument("file", type=FILE)
@_keys(required=True)
@click.option("--entry", type=FILE, help="The bytes of the entry, for a proof that does not hold it.")
@json_option
def check_proof(file: Path, keys: Sequence[Verifier], entry: Path | None, as_json: bool) -> None:
    """Check a proof offline. The entry that the log with this key holds is printed: read what it says.

    \b
    Example:
      hillhold log check-proof app.tlog-proof --key "$VKEY"
    """
    proof = Proof.parse(read_file(file, MAX_FILE))
    data = read_file(entry, MAX_ENTRY) if entry else proof.extra
    if data is None:
        raise ProofRefused(f"{file}", expected="the entry in it", got="none", hint="name its bytes with --entry FILE")
    signed = proof.verify(data, keys)
    size, origin = signed.checkpoint.size, signed.checkpoint.origin
    lines = [_line(proof.index, data), f"is entry {proof.index} of {size} in {origin}", *_signed_by(signed)]
    emit({"index": proof.index, "entry": _entry(data), **_describe(signed)}, lines, as_json=as_json)


@log.command("show")
@click.argument("place", metavar="LOG", type=Place())
@_of_a_service
@click.option("--from", "start", type=click.IntRange(min=0), default=0, show_default=True, help="The first entry.")
@_keys()
@json_option
def show(place: FolderStore | UrlReader, start: int, keys: Sequence[Verifier], as_json: bool) -> None:
    """Print the entries of a log. Each is checked against the root before it is printed.

    \b
    Example:
      hillhold log show LOG --from 1200
    """
    signed = fetch_checkpoint(place, keys)
    tree = Tree(place, signed.checkpoint.size, signed.checkpoint.root)
    if as_json:
        entries = [{"index": index, "entry": _entry(entry)} for index, entry in tree.iterate(start)]
        return emit({**_describe(signed), "entries": entries}, (), as_json=True)
    for index, entry in tree.iterate(start):
        click.echo(plain(_line(index, entry)))
    for line in _signed_by(signed):
        click.echo(plain(line), err=True)


@log.command("key")
@click.argument("origin")
@click.argument("file", type=FILE)
@json_option
def key(origin: str, file: Path, as_json: bool) -> None:
    """Print the vkey of a log. It holds the log's name (its origin) and public key (Ed25519), as other tools read it.

    \b
    Example:
      hillhold log key log.example/fw log.pub
    """
    found = note_verifier(origin, load_public(file))
    emit({"vkey": found.vkey}, [found.vkey], as_json=as_json)


@contextmanager
def _progress(size: int) -> Iterator[Callable[[int], object] | None]:
    """A bar for a person who waits; nothing where nobody looks."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=size, label="entries", file=sys.stderr) as bar:
        yield lambda done: bar.update(done - bar.pos)


def _find(tree: Tree, text: str) -> int:
    """The one entry that contains a text; raises `EntryRefused`."""
    wanted = text.encode(errors="surrogateescape")  # as it came on the command line
    found = [index for index, entry in tree.iterate() if wanted in entry]
    if len(found) != 1:
        named = ", ".join(map(str, found[:SHOWN])) + (", …" if len(found) > SHOWN else "")
        got = f"{len(found)}: {named}" if found else "none"
        hint = "name one by its index" if found else "see `hillhold log show`"
        raise EntryRefused(f"entries with {text!r}", expected="one", got=got, hint=hint)
    return found[0]


def _describe(signed: SignedCheckpoint) -> dict[str, object]:
    checkpoint = signed.checkpoint
    signatures = [
        {"name": one.verifier.name, "vkey": one.verifier.vkey, "kind": one.verifier.kind.name.lower(), "time": one.time}
        for one in signed.signatures
    ]
    return {
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": show_hash(checkpoint.root),
        "signed": signatures,
        "unknown": list(signed.unknown),
    }


def _signed_by(signed: SignedCheckpoint) -> Iterable[str]:
    for one in signed.signatures:
        witnessed = f", a witness, at {show_time(one.time)}" if one.time is not None else ""
        yield f"signed by {one.verifier.name}{witnessed}"
    if signed.unknown and signed.signatures:
        yield f"signed also by keys that were not given: {', '.join(signed.unknown)}"
    if not signed.signatures:
        yield f"signature NOT checked ({', '.join(signed.unknown)}): give --key VKEY"


def _entry(entry: bytes) -> object:
    """An entry for JSON: the event, or, where it is none, its bytes."""
    try:
        event = Event.decode(entry)
    except EntryRefused:
        return {"hex": entry.hex()}
    return {"time": event.time, "kind": str(event.kind), "actor": event.actor, **event.fields}


def _line(index: int, entry: bytes) -> str:
    try:
        event = Event.decode(entry)
    except EntryRefused:
        return f"{index:>8}  no event of ours, {len(entry)} bytes: {entry[:60]!r}"
    fields = "  ".join(f"{name}={value}" for name, value in event.fields.items())
    return f"{index:>8}  {show_time(event.time)}  {event.kind:<13} {event.actor}  {fields}"
