"""What came with a build: which files are SBOMs, what is signed of them, and that devices do not care."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from hillhold_signer import Wish, add_release, verify_tree
from hillhold_signer.adding import add_releases
from hillhold_signer.bundle import write_bundle
from hillhold_signer.documents import MAX_SBOMS, Document, sbom_format
from hillhold_signer.errors import ReleaseRefused
from hillhold_signer.releases import releases_of
from workshop import HARDWARE, NOW, image, online, sign_all, started, statement, tree

WISH = Wish("app.bin", hardware=HARDWARE)
CYCLONEDX = b'{"bomFormat":"CycloneDX","specVersion":"1.6","version":1,"components":[]}'
SPDX = b"SPDXVersion: SPDX-2.3\nDataLicense: CC0-1.0\nSPDXID: SPDXRef-DOCUMENT\n"
BOM = b'<?xml version="1.0"?>\n<bom xmlns="http://cyclonedx.org/schema/bom/1.5" version="1"><components/></bom>'
RDF = (
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:s="http://spdx.org/rdf/terms#">'
    b'<s:SpdxDocument rdf:about="x"/></rdf:RDF>'
)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (CYCLONEDX, "cyclonedx"),
        (b"\xef\xbb\xbf \n" + CYCLONEDX, "cyclonedx"),
        (BOM, "cyclonedx"),
        (BOM.decode().replace("1.0", "1.0", 1).encode("utf-16"), "cyclonedx"),
        (b'<b:bom xmlns:b="http://cyclonedx.org/schema/bom/1.4"/>', "cyclonedx"),
        (SPDX, "spdx"),
        (b"# from west spdx\n\n" + SPDX, "spdx"),
        (b'{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","packages":[]}', "spdx"),
        (b'{"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld","@graph":[]}', "spdx"),
        (b'{"@context":["https://spdx.org/rdf/3.0.0/spdx-context.jsonld",{}],"@graph":[]}', "spdx"),
        (b"<Document><SPDXID>x</SPDXID><spdxVersion>SPDX-2.3</spdxVersion></Document>", "spdx"),
        (RDF, "spdx"),
    ],
)
def test_the_format_is_told_by_the_content(data: bytes, kind: str) -> None:
    assert sbom_format(Document("anything.txt", data)) == kind


@pytest.mark.slow
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"bomFormat":"CycloneDX"}',
        b'{"bomFormat":"cyclonedx","specVersion":"1.6"}',
        b'{"spdxVersion":"SPDX-2.3"}',
        b'{"spdxVersion":2.3,"SPDXID":"x"}',
        b'{"@context":"https://example.com/","@graph":[]}',
        b'{"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld"}',
        CYCLONEDX[:-1],
        CYCLONEDX[:-1] + b',"spdxVersion":"SPDX-2.3","SPDXID":"x"}',
        b"[" * 100_000,
        BOM[:-1],
        BOM + b"more",
        b'<bom xmlns="http://example.com/bom"/>',
        b"<bom/>",
        b"<html><spdxVersion/></html>",
        b'<!DOCTYPE bom [<!ENTITY a "b">]><bom xmlns="http://cyclonedx.org/schema/bom/1.5"/>',
        b"Here it is:\n" + SPDX,
        b"SPDXVersion: 2.3\n",
        b"\x7fELF\x00\xff",
        image("1.0.0"),
    ],
)
def test_a_file_that_is_neither_or_both_is_refused(data: bytes, tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    before = tree(repository.folder.path)
    with pytest.raises(ReleaseRefused, match=r"SBOM app.json: expected CycloneDX or SPDX"):
        add_release(repository, "pump", image("1.0.0"), replace(WISH, sbom=(Document("app.json", data),)), NOW)
    assert tree(repository.folder.path) == before


def test_digests_are_signed_and_files_are_published_only_if_wanted(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    documents = (Document("zephyr.spdx", SPDX), Document("App.CDX.json", CYCLONEDX))
    wish = replace(
        WISH, sbom=documents, notes=Document("NOTES.md", "Läuft.\n".encode()), source="git.example/pump@1234"
    )
    (added,) = add_releases(repository, "pump", [(image("1.0.0"), wish)], NOW)
    custom = added.target.custom["hillhold"]
    assert custom["sbom"] == sorted(
        (
            {"format": kind, "length": len(data), "sha256": sha256(data).hexdigest()}
            for kind, data in (("spdx", SPDX), ("cyclonedx", CYCLONEDX))
        ),
        key=lambda entry: str(entry["sha256"]),
    )
    assert custom["notes"] == {"length": 8, "sha256": sha256("Läuft.\n".encode()).hexdigest()}
    assert custom["source"] == "git.example/pump@1234"
    assert not added.documents
    (more,) = add_releases(repository, "pump", [(image("1.1.0"), wish)], NOW, with_documents=True)
    paths = ["pump/1.1.0/zephyr.spdx", "pump/1.1.0/app.cdx.json", "pump/1.1.0/notes.md"]
    assert [entry.path for entry in more.documents] == paths
    line = repository.state().line("pump")
    assert [release.path for release in releases_of(line)] == ["pump/1.0.0/app.bin", "pump/1.1.0/app.bin"]
    sign_all(repository, "release-1", "release-2")
    repository.publish(online(), NOW)
    seen = verify_tree(repository.folder.path, NOW, None)
    assert set(paths) <= set(seen.targets)
    assert not any("1.0.0/zephyr" in path for path in seen.targets)
    small = write_bundle(repository.folder.path, ["pump"], tmp_path / "b.hillhold", hardware=HARDWARE[:1])
    assert not any(name.endswith((".spdx", ".md")) for name in small.files)


def test_two_components_may_share_a_document_but_not_its_name(tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    radio = Wish("radio.bin", hardware=HARDWARE, component="radio")
    one, two = Document("bom.json", CYCLONEDX), Document("bom.json", CYCLONEDX.replace(b"1.6", b"1.5"))

    def items(first: Document, second: Document) -> list[tuple[bytes, Wish]]:
        wishes = replace(WISH, sbom=(first,)), replace(radio, sbom=(second,))
        return [(image("1.0.0"), wishes[0]), (image("1.0.0", 1, 7), wishes[1])]

    before = tree(repository.folder.path)
    with pytest.raises(ReleaseRefused, match=r"bom\.json: expected a new name, got another file"):
        add_releases(repository, "pump", items(one, two), NOW, with_documents=True)
    taken = Document("radio.bin", CYCLONEDX)
    with pytest.raises(ReleaseRefused, match=r"radio\.bin: expected a new name"):
        add_releases(repository, "pump", items(taken, taken), NOW, with_documents=True)
    with pytest.raises(ReleaseRefused, match="name of a document"):
        add_releases(repository, "pump", items(Document("a b", CYCLONEDX), two), NOW, with_documents=True)
    assert tree(repository.folder.path) == before
    add_releases(repository, "pump", items(one, one), NOW, with_documents=True)


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        (replace(WISH, sbom=(Document("a", SPDX), Document("b", SPDX))), "each once"),
        (
            replace(WISH, sbom=tuple(Document(str(n), SPDX + b"#%d" % n) for n in range(MAX_SBOMS + 1))),
            f"at most {MAX_SBOMS}, got {MAX_SBOMS + 1}",
        ),
        (replace(WISH, notes=Document("NOTES.md", b"")), "an empty file"),
    ],
)
def test_too_much_and_too_little_is_refused(wish: Wish, says: str, tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    before = tree(repository.folder.path)
    with pytest.raises(ReleaseRefused, match=says):
        add_release(repository, "pump", image("1.0.0"), wish, NOW)
    assert tree(repository.folder.path) == before


def envelope(payload: bytes, kind: str = "application/vnd.in-toto+json") -> bytes:
    return json.dumps({"payloadType": kind, "payload": b64encode(payload).decode(), "signatures": []}).encode()


@pytest.mark.parametrize("wrap", [bytes, envelope])
def test_the_digest_of_a_statement_about_the_image_is_signed(wrap: Callable[[bytes], bytes], tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    said = wrap(statement(image("0.9.0"), image("1.0.0")))
    added = add_release(
        repository, "pump", image("1.0.0"), replace(WISH, provenance=Document("app.intoto.json", said)), NOW
    )
    digest = sha256(said).hexdigest()
    assert added.target.custom["hillhold"]["provenance"] == {"length": len(said), "sha256": digest}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (statement(image("0.9.0")), "provenance: expected a subject of SHA-256 .*, got none"),
        (envelope(statement(image("0.9.0"))), "expected a subject of SHA-256"),
        (statement(), "expected a subject"),
        (b'{"_type":"https://in-toto.io/Statement/v1","subject":{"digest":"sha256"}}', "expected a subject"),
        (envelope(statement(image("1.0.0")), "text/plain"), "a payload of application/vnd.in-toto"),
        (statement(image("1.0.0")).replace(b"Statement", b"Link"), "expected an in-toto statement"),
        (b'{"payloadType":"application/vnd.in-toto+json","payload":"%"}', "a payload in base64"),
        (envelope(b"[]"), "expected a JSON object"),
        (statement(image("1.0.0"))[:-1], "expected JSON"),
        (b"[" * 100_000, "expected JSON"),
        (b" " * (16 * 1024 * 1024) + statement(image("1.0.0")), "at most 16777216 bytes"),
        (b"", "expected JSON"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_a_statement_about_something_else_is_refused(data: bytes, says: str, tmp_path: Path) -> None:
    repository = started(tmp_path / "repo")
    before = tree(repository.folder.path)
    wish = replace(WISH, provenance=Document("app.json", data))
    with pytest.raises(ReleaseRefused, match=says):
        add_release(repository, "pump", image("1.0.0"), wish, NOW)
    assert tree(repository.folder.path) == before
