"""`hillhold add`: put images into their line's draft."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from tuf.api.metadata import TargetFile

from hillhold_signer.adding import Added, add_releases
from hillhold_signer.cli.remote import REPOSITORY, OnRepository, service_of
from hillhold_signer.cli.shell import options_file
from hillhold_signer.cli.terminal import FILE, edge, emit, json_option
from hillhold_signer.documents import MAX_DOCUMENT, Document
from hillhold_signer.errors import ReleaseRefused
from hillhold_signer.making import Making, Report
from hillhold_signer.patching import DEFAULT_BASES, PatchFrom
from hillhold_signer.places import Place
from hillhold_signer.provenance import check_provenance
from hillhold_signer.releases import KINDS, Wish
from hillhold_signer.repository import Repository
from hillhold_signer.storage import read_file
from hillhold_signer.westbuild import Chosen, choose_images, read_image_file
from hillhold_verifier.errors import MetadataError
from hillhold_verifier.release import DEFAULT_COMPONENT, Version

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

PATCHES: Final = ".patches.tmp"
"""In a repository, what an interrupted command has made already; Git ignores such names."""
MAX_SHOWN: Final = 8
"""Patches that could not be made, of which each gets a line."""
_SEGMENT: Final = "[a-z0-9][a-z0-9._+-]*"
_REQUIRES: Final = re.compile(rf"(?:({_SEGMENT}):)?({_SEGMENT})>=(\S+)")
_DOWN: Final = re.compile(rf"(?:({_SEGMENT}):)?(\S+)")


def _patch_from(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> PatchFrom:
    try:
        return PatchFrom.parse(texts)
    except ReleaseRefused as error:
        raise click.BadParameter(str(error)) from error


@click.command(cls=OnRepository, short_help="Add signed MCUboot images to a line's draft.")
@click.argument("repo", type=REPOSITORY)
@click.argument("product")
@click.argument("image", type=click.Path(exists=True, path_type=Path), required=False)
@click.option("--file-name", help="Name in the repository; by default the file's own, in lower case, or COMPONENT.bin.")
@click.option("--kind", type=click.Choice(KINDS), default="feature", show_default=True, help="What the release is for.")
@click.option(
    "--hardware", multiple=True, metavar="ID", help="Who may run it; repeat it. By default the line's only one."
)
@click.option(
    "--component",
    "components",
    multiple=True,
    metavar="NAME[=FILE|DOMAIN]",
    help="Which of the device's images it is, by default app; repeat it with a file, or a domain of the build folder, for each.",
)
@click.option("--requires", multiple=True, metavar="NAME>=VERSION", help="What another component must run by then.")
@click.option("--set", "group", metavar="NAME", help="All releases of a set are installed together, or none.")
@click.option("--downgrade-from", multiple=True, metavar="VERSION", help="A listed version that may step down to this.")
@click.option("--sbom", multiple=True, type=FILE, help="A bill of materials, CycloneDX or SPDX: its digest is signed.")
@click.option("--notes", type=FILE, help="Release notes: their digest is signed.")
@click.option(
    "--provenance", type=FILE, help="An in-toto statement (SLSA), bare or DSSE, about all images: its digest is signed."
)
@click.option("--publish-documents", is_flag=True, help="Also publish SBOMs and notes, beside the image.")
@click.option("--source", metavar="TEXT", help="The revision that it was built from, such as URL@COMMIT.")
@click.option(
    "--patch-from",
    multiple=True,
    metavar="all|N|VERSION|none",
    callback=_patch_from,
    help=f"From which earlier releases patches are made: all, the N newest ({DEFAULT_BASES} by default), or named ones; repeat it.",
)
@click.option("--allow-lower", is_flag=True, help="Make a downgrade, to show that devices refuse it.")
@json_option
def add(
    repo: Place,
    product: str,
    image: Path | None,
    file_name: str | None,
    kind: str,
    hardware: tuple[str, ...],
    components: tuple[str, ...],
    requires: tuple[str, ...],
    group: str | None,
    downgrade_from: tuple[str, ...],
    sbom: tuple[Path, ...],
    notes: Path | None,
    provenance: Path | None,
    publish_documents: bool,
    source: str | None,
    patch_from: PatchFrom,
    allow_lower: bool,
    as_json: bool,
) -> None:
    """Add signed MCUboot images to the draft of PRODUCT's line. Version and counter are read from them.

    IMAGE is a file (.bin, .hex) or a west build folder; without it, --component names each file. With several components,
    --requires and --downgrade-from start with the one that they are for, as in app:radio>=2.0.0.

    Patches start from earlier releases for the same hardware and component, and one from nothing, which is the image compressed.
    Those that pay are kept, the best 32 of them. `none` makes none, 0 only the one from nothing. After an interruption, the same
    command goes on where it was.

    The same once more, of what the line lists already, changes nothing, says so, and is no error; where anything else is said of
    the same file, it is refused.

    \b
    Example:
      hillhold add REPO pump app.bin --kind security
      hillhold add REPO pump app.bin --patch-from 20 --patch-from 1.0.0
      hillhold add REPO pump build --component app=pump --component radio=ipc_radio --set summer
    """
    chosen = _choose(image, components)
    names = [item.component for item in chosen]
    if file_name and len(chosen) > 1:
        raise click.UsageError("--file-name is for one image")
    needs, downs = _requires(requires, names), _downgrades(downgrade_from, names)
    boms, release_notes = tuple(map(_document, sbom)), _document(notes) if notes else None
    statement = _document(provenance) if provenance else None
    items = [
        (
            item.data,
            Wish(
                file_name or _default_name(item, image),
                kind,
                hardware,
                item.component,
                allow_lower,
                needs.get(item.component, {}),
                group,
                tuple(downs.get(item.component, ())),
                boms,
                release_notes,
                source or item.source,
                statement,
            ),
        )
        for item in chosen
    ]
    _upload(repo, statement, chosen)
    with _making(repo, show=not as_json) as making:
        add = partial(add_releases, patch_from=patch_from, with_documents=publish_documents, making=making)
        done = add(Repository(repo), product, items, edge().now())
    _emit(product, chosen, done, source, as_json=as_json)


def _choose(image: Path | None, components: Sequence[str]) -> tuple[Chosen, ...]:
    wanted: dict[str, str | None] = {}
    for text in components:
        name, separator, where = text.partition("=")
        if name in wanted or (separator and not where):
            raise click.UsageError(f"--component {text}: each NAME once, with a file or domain behind the =")
        wanted[name] = where or None
    if image is None:
        if not wanted or None in wanted.values():
            raise click.UsageError("an IMAGE is missing, or --component NAME=FILE for each")
        return choose_images(None, wanted)
    if image.is_dir():
        return choose_images(image, wanted)
    if len(wanted) > 1 or any(wanted.values()):
        raise click.UsageError("IMAGE is a file: name its --component only, or give no IMAGE but --component NAME=FILE")
    return (Chosen(next(iter(wanted), DEFAULT_COMPONENT), image, read_image_file(image), None),)


def _default_name(item: Chosen, image: Path | None) -> str:
    """A build folder calls every image the same, so there the component tells them apart."""
    name = item.path.name if item.path == image else f"{item.component}.bin"
    return re.sub(r"\.hex$", ".bin", name.lower())


def _requires(texts: Sequence[str], names: Sequence[str]) -> Mapping[str, dict[str, Version]]:
    found: dict[str, dict[str, Version]] = {}
    for text in texts:
        if (match := _REQUIRES.fullmatch(text)) is None:
            raise click.UsageError(f"--requires {text}: NAME>=VERSION is wanted, such as radio>=2.0.0")
        least = found.setdefault(_whose("--requires", text, match[1], names), {})
        if match[2] in least:
            raise click.UsageError(f"--requires {text}: {match[2]} is there twice")
        least[match[2]] = _version("--requires", text, match[3])
    return found


def _downgrades(texts: Sequence[str], names: Sequence[str]) -> Mapping[str, list[Version]]:
    found: dict[str, list[Version]] = {}
    for text in texts:
        match = _DOWN.fullmatch(text)
        whose, version = (match[1], match[2]) if match else (None, text)
        found.setdefault(_whose("--downgrade-from", text, whose, names), []).append(
            _version("--downgrade-from", text, version)
        )
    return found


def _whose(option: str, text: str, name: str | None, names: Sequence[str]) -> str:
    if name is None and len(names) == 1:
        return names[0]
    if name is None or name not in names:
        raise click.UsageError(
            f"{option} {text}: start it with the component it is for, {' or '.join(names)}, and a colon"
        )
    return name


def _version(option: str, text: str, version: str) -> Version:
    try:
        return Version.parse(version)
    except MetadataError as error:
        raise click.UsageError(f"{option} {text}: {error}") from error


def _upload(repo: Place, statement: Document | None, chosen: Sequence[Chosen]) -> None:
    """Send provenance to a service, which keeps it."""
    if statement is not None and (service := service_of(repo)) is not None:
        for item in chosen:
            check_provenance(statement.data, sha256(item.data).hexdigest())
        service.upload(statement.data, sha256(statement.data).hexdigest())


def _document(path: Path) -> Document:
    return Document(path.name, read_file(path, MAX_DOCUMENT))


def _emit(product: str, chosen: Sequence[Chosen], done: Sequence[Added], source: str | None, *, as_json: bool) -> None:
    value = {
        "product": product,
        "draft": done[0].version,
        "repeated": done[0].repeated,
        "releases": [_value(item, added) for item, added in zip(chosen, done, strict=True)],
    }
    lines = [line for item, added in zip(chosen, done, strict=True) for line in _lines(item, added, source)]
    if done[0].image_key is None:
        lines.append(
            f"not checked: whose signature this is; `hillhold product image-key` names the keys of {product}'s bootloaders"
        )
    if done[0].version is None:
        lines.append("next: nothing; it is published, and nothing was changed")
    else:
        lines.append(f"next: the line's keys sign version {done[0].version} of {product} (`hillhold sign`)")
    emit(value, lines, as_json=as_json)


def _value(item: Chosen, added: Added) -> dict[str, object]:
    target = added.target
    return {
        "file": str(item.path),
        "path": target.path,
        "length": target.length,
        "sha256": target.hashes["sha256"],
        "custom": target.custom["hillhold"],
        "image_key": added.image_key,
        "patches": [{"path": entry.path, "length": entry.length} for entry in added.patches],
        "left_out": [asdict(item) for item in added.left_out],
        "documents": [entry.path for entry in added.documents],
    }


def _lines(item: Chosen, added: Added, source: str | None) -> list[str]:
    target = added.target
    custom = target.custom["hillhold"]
    read = [f"read {item.path}, for component {item.component}"] if item.path.name != target.path.split("/")[2] else []
    how = "added" if not added.repeated else "published already:" if added.version is None else "drafted already:"
    revision = [f"  built from {custom['source']}"] if "source" in custom else []
    if revision and source is None:
        revision[0] += ", which the build folder states (zephyr.meta)"
    return [
        *read,
        f"{how} {target.path}: {target.length} bytes, security counter {custom['security_counter']}",
        f"  sha256 {target.hashes['sha256']}",
        f"  for {', '.join(custom['hardware'])}",
        *([f"  signed with image key of fingerprint {added.image_key[:16]}"] if added.image_key else []),
        *revision,
        *(f"  {entry['format']} SBOM, sha256 {entry['sha256']}" for entry in custom.get("sbom", [])),
        *([f"  provenance, sha256 {custom['provenance']['sha256']}"] if "provenance" in custom else []),
        *map(patch_line, added.patches),
        *_left_out(added),
        *(f"  published beside it: {entry.path}" for entry in added.documents),
    ]


def patch_line(entry: TargetFile) -> str:
    """Return a line about a patch that was made."""
    what = "patch of" if entry.custom["hillhold"]["base_length"] else "compressed to"
    return f"  {what} {entry.length} bytes: {entry.path}"


def _left_out(added: Added) -> list[str]:
    """What patches there are not: those that failed one by one, as far as they are few, the others counted."""
    failed = [item for item in added.left_out if item.failed]
    lines = [f"  no patch from {item.base or 'nothing'}: {item.reason}" for item in failed[:MAX_SHOWN]]
    if len(failed) > MAX_SHOWN:
        lines.append(f"  {len(failed) - MAX_SHOWN} more patches could not be made")
    reasons = Counter(item.reason for item in added.left_out if not item.failed)
    return [
        *lines,
        *(f"  left out: {count} patch{'es' * (count > 1)}: {why}" for why, count in sorted(reasons.items())),
    ]


@contextmanager
def _making(repo: Place, *, show: bool) -> Iterator[Making]:
    """What makes patches, and goes on where an interrupted command was."""
    folder = repo / PATCHES if isinstance(repo, Path) else options_file().with_name("patches")
    with _progress(show=show) as report, Making(folder, report=report) as making:
        yield making


@contextmanager
def _progress(*, show: bool) -> Iterator[Report]:
    """Show a bar on standard error for each image, where that is a terminal."""
    with ExitStack() as stack:
        bars: dict[str, ProgressBar[int]] = {}

        def report(path: str, done: int, total: int, kept: int) -> None:
            if path not in bars:
                stack.close()
                hidden = not (show and sys.stderr.isatty())
                bar = click.progressbar(length=total, file=sys.stderr, show_pos=True, show_percent=False, hidden=hidden)
                bars[path] = stack.enter_context(bar)
            bars[path].label = f"patches, {kept} kept"
            bars[path].update(done - bars[path].pos)

        yield report
