"""The files of a report, and how they come into a folder: all of them, or none."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hillhold_bootsim.lab.errors import ReportRefused
from hillhold_bootsim.lab.jsonform import to_json
from hillhold_bootsim.lab.model import Campaign
from hillhold_bootsim.lab.report.content import blocks
from hillhold_bootsim.lab.report.junit import junit
from hillhold_bootsim.lab.report.manifest import NAME, manifest
from hillhold_bootsim.lab.report.page import page
from hillhold_bootsim.lab.report.pdf import pdf
from hillhold_bootsim.lab.report.summary import summarise
from hillhold_signer.errors import StorageError
from hillhold_signer.log.note import NoteSigner
from hillhold_signer.storage import replacing

CAMPAIGN: Final = "campaign.json"
PAGE: Final = "report.html"
PDF: Final = "report.pdf"
JUNIT: Final = "junit.xml"


def report_files(campaign: Campaign, signer: NoteSigner | None, *, with_pdf: bool = True) -> dict[str, bytes]:
    """Return the files of a report by name, the manifest among them.

    Args:
        signer: of the manifest, or None for a report that nobody vouches for.
        with_pdf: needs the extra `report`.

    Raises:
        CampaignRefused: a campaign that contradicts itself.
        ToolError: the library for PDF is missing.
    """
    content = blocks(campaign)
    files = {
        CAMPAIGN: to_json(campaign),
        PAGE: page(content, campaign.title).encode(),
        JUNIT: junit(campaign, summarise(campaign)),
    }
    if with_pdf:
        files[PDF] = pdf(content, campaign.title, campaign.paper.number, campaign.ended)
    return {**files, NAME: manifest(files, signer)}


def write_report(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a report into a folder that is not there yet, or is empty: a report that was handed in is never written over.

    Raises:
        ReportRefused: there is something else, or somebody else's report came there meanwhile.
        StorageError: it cannot be written; the folder is as it was.
    """
    staged = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")  # another's own, where two are made at once
    try:
        if staged.exists():
            shutil.rmtree(staged)  # of a process that was killed
        staged.mkdir(parents=True)
        for name, data in files.items():
            with replacing(staged / name) as file:
                file.write(data)
        if folder.exists():
            folder.rmdir()  # it is empty, or this fails
        staged.rename(folder)
    except OSError as error:
        _discard(staged)
        check_free(folder)  # somebody else's report, most likely
        hint = "nothing was written; free some space or check permissions, and run the command again"
        raise StorageError(f"cannot write {folder}: {error.strerror or error}", hint=hint) from error
    except BaseException:
        _discard(staged)
        raise


def check_free(folder: Path) -> None:
    """Raise `ReportRefused` where a report may not be written."""
    try:
        taken = folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir())))
    except OSError as error:
        raise StorageError(f"cannot read {folder}: {error.strerror or error}") from error
    if taken:
        expected = "a folder that is not there yet, or an empty one"
        hint = "name another folder: a report that was handed in is never written over"
        raise ReportRefused(f"{folder}", expected=expected, got="something else", hint=hint)


def _discard(staged: Path) -> None:
    with contextlib.suppress(OSError):
        shutil.rmtree(staged)
