"""What came with a build: its SBOMs, its release notes and its provenance. Metadata state their digests (`custom.hillhold` of the release):

    "sbom": [{"format":"cyclonedx"|"spdx","length":N,"sha256":HEX64}, …]      sorted by hash
    "notes": {"length":N,"sha256":HEX64}
    "provenance": {"length":N,"sha256":HEX64}

The format is told by the content, never by a file's name. SPDX in JSON (2 and 3), tag-value, XML and RDF/XML; CycloneDX in JSON and XML.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from xml.parsers import expat

from hillhold_signer.errors import ReleaseRefused

MAX_DOCUMENT: Final = 16 * 1024 * 1024
"""Bytes of an SBOM, of release notes, or of provenance."""
MAX_SBOMS: Final = 16
"""SBOMs of one release: Zephyr's `west spdx` makes up to five."""

_TAG_VALUE: Final = re.compile(r"SPDXVersion:\s*SPDX-[0-9]+\.[0-9]+\s*")
_CYCLONEDX_XML: Final = "http://cyclonedx.org/schema/bom/"
_SPDX_RDF: Final = "http://spdx.org/rdf/terms#"
_SPDX_3: Final = "https://spdx.org/rdf/3."
_HEX: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Document:
    """A file that came with a build, by its name without folders."""

    name: str
    data: bytes


def sbom_entries(documents: Sequence[Document]) -> list[dict[str, object]]:
    """Return what metadata state of SBOMs; raises `ReleaseRefused` for a file that is none, or too many."""
    if len(documents) > MAX_SBOMS:
        raise ReleaseRefused("SBOMs", expected=f"at most {MAX_SBOMS}", got=len(documents))
    entries = [{"format": sbom_format(item), **document_entry(item)} for item in documents]
    if len({str(entry["sha256"]) for entry in entries}) < len(entries):
        raise ReleaseRefused("SBOMs", expected="each once", got="the same file twice")
    return sorted(entries, key=lambda entry: str(entry["sha256"]))


def notes_entry(document: Document) -> dict[str, object]:
    """Return what metadata state of release notes; raises `ReleaseRefused` for an empty or too large file."""
    if not document.data:
        raise ReleaseRefused(f"release notes {document.name}", expected="text", got="an empty file")
    return document_entry(document)


def sbom_format(document: Document) -> str:
    """Return "cyclonedx" or "spdx"; raises `ReleaseRefused` for a file that is neither, or both."""
    found = _formats(document)
    if len(found) != 1:
        hint = "CycloneDX in JSON or XML, SPDX in JSON, tag-value, XML or RDF are read; `west spdx` makes one of a Zephyr build"
        got = "a file that says it is both" if found else "neither"
        raise ReleaseRefused(f"SBOM {document.name}", expected="CycloneDX or SPDX", got=got, hint=hint)
    return found.pop()


def stated(custom: Mapping[str, object]) -> dict[str, list[dict[str, object]]]:
    """Return, by field, what `custom.hillhold` states of documents; a field of any other form is left out."""
    found: dict[str, list[dict[str, object]]] = {}
    sbom = custom.get("sbom")
    if isinstance(sbom, list) and sbom and all(_is_entry(item, {"format"}) for item in sbom):
        found["sbom"] = sbom
    for name in ("notes", "provenance"):
        entry = custom.get(name)
        if isinstance(entry, dict) and _is_entry(entry, set()):
            found[name] = [entry]
    return found


def in_words(custom: Mapping[str, object]) -> dict[str, list[str]]:
    """Return the same for people."""
    return {
        field: [f"{_kind(field, item)} of {item['length']} bytes, sha256 {item['sha256']}" for item in items]
        for field, items in stated(custom).items()
    }


def _kind(field: str, entry: Mapping[str, object]) -> str:
    return f"SBOM {entry['format']}" if field == "sbom" else "release notes" if field == "notes" else field


def _is_entry(value: object, more: set[str]) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"length", "sha256", *more}
        and type(value["length"]) is int
        and isinstance(value["sha256"], str)
        and _HEX.fullmatch(value["sha256"]) is not None
        and value.get("format", "spdx") in ("cyclonedx", "spdx")
    )


def document_entry(document: Document) -> dict[str, object]:
    """Return length and SHA-256 as metadata state them; raises `ReleaseRefused` for a file that is too large."""
    if len(document.data) > MAX_DOCUMENT:
        raise ReleaseRefused(document.name, expected=f"at most {MAX_DOCUMENT} bytes", got=len(document.data))
    return {"length": len(document.data), "sha256": sha256(document.data).hexdigest()}


def _formats(document: Document) -> set[str]:
    try:
        text = document.data.decode("utf-8-sig").lstrip()
    except UnicodeDecodeError:
        return _xml(document.data)  # XML may be in another encoding, and says so itself
    if text.startswith("{"):
        return _json(text)
    if text.startswith("<"):
        return _xml(document.data)
    lines = (line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return {"spdx"} if _TAG_VALUE.fullmatch(next(lines, "")) else set()


def _json(text: str) -> set[str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return set()
    found = set()
    if value.get("bomFormat") == "CycloneDX" and isinstance(value.get("specVersion"), str):
        found.add("cyclonedx")
    if str(value.get("spdxVersion")).startswith("SPDX-") and isinstance(value.get("SPDXID"), str):
        found.add("spdx")
    context = value.get("@context")
    contexts = context if isinstance(context, list) else [context]
    if isinstance(value.get("@graph"), list) and any(str(item).startswith(_SPDX_3) for item in contexts):
        found.add("spdx")
    return found


def _xml(data: bytes) -> set[str]:
    """Read it to its end: a torn file is no SBOM. A document type is refused, and with it entities that grow."""
    names: list[str] = []

    def start(name: str, _attributes: object) -> None:
        if not names or name in ("spdxVersion", f"{_SPDX_RDF} SpdxDocument"):
            names.append(name)

    def refuse(*_arguments: object) -> None:
        raise ValueError

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError):
        return set()
    root, *inside = names
    if root.startswith(_CYCLONEDX_XML) and root.endswith(" bom"):
        return {"cyclonedx"}
    return {"spdx"} if inside and root.split()[-1] in ("Document", "RDF") else set()
