"""A report is the one that its laboratory signed, or is refused: whichever byte, file or key was changed."""

from __future__ import annotations

import os
import random
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner

from hillhold_bootsim.lab.errors import ReportRefused
from hillhold_bootsim.lab.report.make import report_files, write_report
from hillhold_bootsim.lab.report.manifest import (
    NAME,
    Findings,
    manifest,
    report_signer,
    report_verifier,
    verify,
)
from hillhold_signer.errors import KeyRefused, PublicKeyMaterialRefused, StorageError
from hillhold_signer.examples import example_signer
from hillhold_signer.log.note import Verifier, note_signer, open_note, sign_note
from labdata import campaign

LAB = CryptoSigner(Ed25519PrivateKey.from_private_bytes(b"a laboratory's key for the tests"))
OTHER = CryptoSigner(Ed25519PrivateKey.from_private_bytes(b"another laboratory's key for it!"))
SIGNER = report_signer(LAB)
VERIFIER = report_verifier(LAB.public_key)
FILES = report_files(campaign(), SIGNER)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_report(tmp_path / "report", FILES)
    return tmp_path / "report"


def findings(*, changed: tuple[str, ...] = (), missing: tuple[str, ...] = (), added: tuple[str, ...] = ()) -> Findings:
    return Findings(tuple(sorted(set(FILES) - {NAME})), changed, missing, added)


def test_a_report_as_it_was_signed_is_good(folder: Path) -> None:
    assert verify(folder, VERIFIER) == findings()
    assert verify(folder, VERIFIER).good


def test_a_report_is_good_only_without_any_finding() -> None:
    assert not any(one.good for one in (findings(changed=("a",)), findings(missing=("a",)), findings(added=("a",))))


def test_the_same_campaign_and_key_give_the_same_files() -> None:
    assert report_files(campaign(), SIGNER) == FILES


def test_the_manifest_is_a_signed_note_of_all_other_files() -> None:
    note = open_note(FILES[NAME], [Verifier.parse(VERIFIER.vkey)])
    head, *lines = note.text.decode().splitlines()
    assert head == "hillhold-lab report 1"
    assert lines == [
        f"{sha256(data).hexdigest()} {len(data)} {name}" for name, data in sorted(FILES.items()) if name != NAME
    ]


@pytest.mark.parametrize("name", sorted(set(FILES) - {NAME}))
def test_a_changed_byte_anywhere_shows_by_its_file(folder: Path, name: str) -> None:
    data = FILES[name]
    choose = random.Random(name)
    for place in {0, len(data) - 1, *choose.sample(range(len(data)), 40)}:
        (folder / name).write_bytes(data[:place] + bytes([data[place] ^ 1 << choose.randrange(8)]) + data[place + 1 :])
        assert verify(folder, VERIFIER) == findings(changed=(name,))
    for other in (data + b"\n", data[:-1], b""):
        (folder / name).write_bytes(other)
        assert verify(folder, VERIFIER) == findings(changed=(name,))


def test_a_changed_byte_of_the_manifest_is_refused_wherever_it_is(folder: Path) -> None:
    data = FILES[NAME]
    for place in range(len(data)):
        (folder / NAME).write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(ReportRefused):
            verify(folder, VERIFIER)
    for other in (b"", b"\n\n", data[:-1], data + b"\n", data * 2, b"\xff", data.replace(b"\n", b"\r\n")):
        (folder / NAME).write_bytes(other)
        with pytest.raises(ReportRefused):
            verify(folder, VERIFIER)


def test_files_that_are_missing_added_or_swapped_are_named(folder: Path) -> None:
    (folder / "report.pdf").unlink()
    (folder / "below").mkdir()
    for name in ("annex.html", ".hidden", "below/report.html", "report.html~"):
        (folder / name).write_text("more")
    (folder / "junit.xml").rename(folder / "x")
    (folder / "campaign.json").rename(folder / "junit.xml")
    (folder / "x").rename(folder / "campaign.json")
    assert verify(folder, VERIFIER) == findings(
        changed=("campaign.json", "junit.xml"),
        missing=("report.pdf",),
        added=(".hidden", "annex.html", "below/report.html", "report.html~"),
    )


@pytest.mark.skipif(os.name == "nt", reason="links need a right of their own there")
def test_a_link_is_no_file_of_the_report_even_to_the_same_bytes(folder: Path) -> None:
    shutil.move(folder / "report.html", folder.parent / "elsewhere.html")
    (folder / "report.html").symlink_to(folder.parent / "elsewhere.html")
    found = verify(folder, VERIFIER)
    assert found == findings(missing=("report.html",), added=("report.html (a link)",))
    (folder / "report.html").unlink()
    (folder / "below").symlink_to(folder.parent)
    assert verify(folder, VERIFIER).added == ("below (a link)",)


@pytest.mark.skipif(os.name == "nt", reason="there are no named pipes in folders there")
def test_a_pipe_in_the_place_of_a_file_does_not_hold_anybody_up(folder: Path) -> None:
    (folder / "junit.xml").unlink()
    os.mkfifo(folder / "junit.xml")
    assert verify(folder, VERIFIER) == findings(missing=("junit.xml",), added=("junit.xml (no file)",))


def test_another_key_is_refused_and_so_is_another_report_by_the_same_key_under_its_files(folder: Path) -> None:
    with pytest.raises(ReportRefused, match="expected one by hillhold-lab-report"):
        verify(folder, report_verifier(OTHER.public_key))
    other = report_files(campaign("serial"), SIGNER)
    (folder / NAME).write_bytes(other[NAME])
    assert not verify(folder, VERIFIER).good


def test_a_manifest_of_another_signer_put_in_its_place_is_refused(folder: Path) -> None:
    (folder / "report.html").write_text("all is well")
    files = {name: (folder / name).read_bytes() for name in FILES if name != NAME}
    (folder / NAME).write_bytes(manifest(files, report_signer(OTHER)))
    with pytest.raises(ReportRefused, match="expected one by hillhold-lab-report"):
        verify(folder, VERIFIER)


def test_a_report_that_nobody_signed_is_refused(tmp_path: Path) -> None:
    write_report(tmp_path / "report", report_files(campaign(), None, with_pdf=False))
    with pytest.raises(ReportRefused, match="expected a signature by hillhold-lab-report, got none"):
        verify(tmp_path / "report", VERIFIER)
    (tmp_path / "report" / NAME).unlink()
    with pytest.raises(ReportRefused, match=r"expected a report, with manifest\.txt, got none"):
        verify(tmp_path / "report", VERIFIER)


@pytest.mark.parametrize(
    "text",
    [
        "example.org/log\n3\nAAAA\n",
        "hillhold-lab report 2\n",
        f"hillhold-lab report 1\n{'a' * 64} 3 ../report.html\n",
        f"hillhold-lab report 1\n{'a' * 64} 3 a\n{'b' * 64} 3 a\n",
        f"hillhold-lab report 1\n{'a' * 64} 03 a\n",
        f"hillhold-lab report 1\n{'A' * 64} 3 a\n",
        f"hillhold-lab report 1\n{'a' * 64} 3 manifest.txt\n",
    ],
)
def test_what_the_key_signed_elsewhere_is_no_manifest(folder: Path, text: str) -> None:
    (folder / NAME).write_bytes(sign_note(text.encode(), [SIGNER]))
    with pytest.raises(ReportRefused):
        verify(folder, VERIFIER)


def test_a_signature_under_another_name_does_not_count(folder: Path) -> None:
    text = FILES[NAME].partition(b"\n\n")[0] + b"\n"
    (folder / NAME).write_bytes(sign_note(text, [note_signer("example.org/log", LAB)]))
    with pytest.raises(ReportRefused, match="expected one by hillhold-lab-report"):
        verify(folder, VERIFIER)


def test_a_key_whose_private_part_is_public_signs_no_report() -> None:
    with pytest.raises(PublicKeyMaterialRefused):
        report_signer(example_signer("intruder"))


def test_a_key_of_another_kind_is_refused() -> None:
    with pytest.raises(KeyRefused, match=r"key of a report: expected Ed25519 .*, got ecdsa"):
        report_signer(CryptoSigner(generate_ec(SECP256R1())))


# --- written whole, or not at all -------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", ["file", "folder with a file", "hidden file", "report"])
def test_nothing_is_written_over(tmp_path: Path, there: str) -> None:
    place = tmp_path / "report"
    if there == "file":
        place.write_text("mine")
    elif there == "report":
        write_report(place, FILES)
    else:
        place.mkdir()
        (place / (".mine" if there == "hidden file" else "mine")).write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ReportRefused, match="expected a folder that is not there yet"):
        write_report(place, {"report.html": b"other"})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_empty_folder_and_the_rest_of_a_killed_process_are_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    staged = tmp_path / f".report.{os.getpid()}.tmp"
    staged.mkdir()
    (staged / "report.html").write_text("half a pag")
    write_report(tmp_path / "report", FILES)
    assert {path.name for path in tmp_path.iterdir()} == {"report"}
    assert verify(tmp_path / "report", VERIFIER).good


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    """Its name is too long for the file system; the one before it could be written."""
    with pytest.raises(StorageError, match="cannot write"):
        write_report(tmp_path / "report", {"a.html": b"page", "b" * 300: b"page"})
    assert list(tmp_path.iterdir()) == []
