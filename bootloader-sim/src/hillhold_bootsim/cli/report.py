"""`hillhold-lab report`: makes the report on a campaign, checks one that was handed in, and says what a campaign came to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from hillhold_bootsim.lab.errors import ReportRefused
from hillhold_bootsim.lab.jsonform import MAX_BYTES, from_json
from hillhold_bootsim.lab.model import Campaign
from hillhold_bootsim.lab.report.content import VIRTUAL, dated
from hillhold_bootsim.lab.report.make import CAMPAIGN, PDF, check_free, report_files, write_report
from hillhold_bootsim.lab.report.manifest import Findings, report_signer, report_verifier
from hillhold_bootsim.lab.report.manifest import verify as verify_report
from hillhold_bootsim.lab.report.summary import Basis, Outcome, Summary, summarise
from hillhold_signer.cli.terminal import FILE, FOLDER, PATH, emit, json_option, passphrase_option, secrets
from hillhold_signer.keys import load_public, load_signer
from hillhold_signer.storage import read_file

UNSIGNED: Final = "not signed: nobody can tell whether it was changed (--key)"


@click.group()
def report() -> None:
    """The report on a campaign: make it, check it, show what it comes to."""


@report.command("make", epilog="Example: hillhold-lab report make campaign.json --out EX-2026-0042 --key file:lab.pem")
@click.argument("campaign", type=FILE)
@click.option(
    "--out",
    "folder",
    type=PATH,
    required=True,
    metavar="DIR",
    help="Where it goes: a folder that is not there yet, or empty.",
)
@click.option(
    "--key", "uri", metavar="URI", help="The laboratory's key (Ed25519): file:PATH, hsm:…, as `hillhold` names keys."
)
@click.option("--public", type=FILE, help="Its public key, for keys in services that do not tell it.")
@click.option("--no-pdf", is_flag=True, help="Leave the PDF out, which needs the extra `report`.")
@passphrase_option
@json_option
def make(
    campaign: Path,
    folder: Path,
    uri: str | None,
    public: Path | None,
    no_pdf: bool,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Make the report on CAMPAIGN, a campaign's JSON file.

    DIR gets report.html, report.pdf, campaign.json, junit.xml and manifest.txt, which holds the SHA-256 of the others and is signed by the
    laboratory's key: a C2SP signed note. The same campaign gives the same files.
    """
    found = _read(campaign)
    check_free(folder)
    signer = (
        report_signer(load_signer(uri, load_public(public) if public else None, secrets(passphrase_fd)))
        if uri
        else None
    )
    files = report_files(found, signer, with_pdf=not no_pdf)
    write_report(folder, files)
    summary = summarise(found)
    value = {
        **value_of(found, summary),
        "report": str(folder),
        "files": {name: len(data) for name, data in sorted(files.items())},
        "key": signer.verifier.vkey if signer else None,
    }
    signed = (
        f"signed; the laboratory's key, for tools that read signed notes: {signer.verifier.vkey}"
        if signer
        else UNSIGNED
    )
    lines = [*lines_of(found, summary), f"{folder}: {', '.join(sorted(files))}", signed]
    emit(value, [*lines, *(["no PDF (--no-pdf)"] if PDF not in files else [])], as_json=as_json)


@report.command("verify", epilog="Example: hillhold-lab report verify EX-2026-0042 --key lab.pub")
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option(
    "--key",
    "public",
    type=FILE,
    required=True,
    metavar="PUB",
    help="The laboratory's public key, from the laboratory itself.",
)
@json_option
def verify(folder: Path, public: Path, as_json: bool) -> None:
    """Check that the report in DIR is the one that its laboratory signed, without a network.

    Names each file that was changed, is missing, or was added. What the report says is not judged.
    """
    found = verify_report(folder, report_verifier(load_public(public)))
    if not found.good:
        got = "; ".join(_told(found))
        raise ReportRefused(f"report in {folder}", expected="the files that its laboratory signed", got=got, hint=_HINT)
    value = {"report": str(folder), "files": list(found.files)}
    emit(value, [f"{folder}: as its laboratory signed it: {', '.join(found.files)}"], as_json=as_json)


_HINT: Final = (
    "take the report from the laboratory again; what was changed on purpose, only the laboratory can sign anew"
)


@report.command("show", epilog="Example: hillhold-lab report show EX-2026-0042")
@click.argument("place", metavar="CAMPAIGN|DIR", type=click.Path(exists=True, path_type=Path))
@json_option
def show(place: Path, as_json: bool) -> None:
    """Show what a campaign came to: a campaign's JSON file, or the folder of a report. No signature is checked."""
    found = _read(place / CAMPAIGN if place.is_dir() else place)
    summary = summarise(found)
    lines = [*lines_of(found, summary), *_cases(summary), "no signature was checked: `hillhold-lab report verify`"]
    emit(value_of(found, summary), lines, as_json=as_json)


def _read(path: Path) -> Campaign:
    return from_json(read_file(path, MAX_BYTES), str(path))


def _told(found: Findings) -> list[str]:
    kinds = (("changed", found.changed), ("missing", found.missing), ("added", found.added))
    return [f"{kind}: {', '.join(names)}" for kind, names in kinds if names]


def value_of(campaign: Campaign, summary: Summary) -> dict[str, object]:
    """What a campaign came to, for JSON."""
    return {
        "title": campaign.title,
        "number": campaign.paper.number,
        "standing": summary.standing.value,
        "headline": summary.headline,
        "counts": {outcome.value: summary.counts[outcome] for outcome in Outcome},
        "on_own_words": summary.bases[Basis.WORDS],
        "virtual": list(summary.virtual),
        "validation": None if not campaign.checks else not summary.unfound,
        "cases": [
            {
                "item": line.tested.item.name,
                "case": line.case.id,
                "outcome": line.outcome.value,
                "independent": bool(line.result and line.result.independent),
                "reason": line.reason,
            }
            for line in summary.lines
        ],
    }


def lines_of(campaign: Campaign, summary: Summary) -> Iterator[str]:
    """What a campaign came to, in short."""
    number = f", {campaign.paper.number}" if campaign.paper.number else ""
    yield f"{campaign.title}{number}: {dated(campaign.began)} to {dated(campaign.ended)}"
    if summary.virtual:
        yield f"{VIRTUAL}: {', '.join(summary.virtual)}"
    yield f"{summary.headline}; " + ", ".join(f"{summary.counts[outcome]} {outcome.value}" for outcome in Outcome)


def _cases(summary: Summary) -> Iterator[str]:
    width = max((len(line.case.id) for line in summary.lines), default=0)
    for line in summary.lines:
        words = " (the board's own words)" if line.basis is Basis.WORDS else ""
        yield f"  {line.outcome.value:<13}{line.case.id:<{width}}  {line.tested.item.name}: {line.reason}{words}"
