"""`/v1/lines`: builds that are handed in, and what became of them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from tuf.api.metadata import Targets

from hillhold_signer.documents import stated
from hillhold_signer.listing import listing
from hillhold_signer.service.access import NotFoundRefused, require_read
from hillhold_signer.service.dependencies import ThePrincipal, TheService
from hillhold_signer.service.submissions import Build, Image, Named, submit
from hillhold_signer.service.tables import PUBLICATIONS, SUBMISSIONS
from hillhold_signer.service.unit import Unit
from hillhold_signer.state import State
from hillhold_verifier.release import Version

router = APIRouter(prefix="/v1", tags=["releases"])

Line = Annotated[str, Path(pattern="^[a-z0-9][a-z0-9._+-]{0,79}$", description="the product line")]
_SEGMENT = "^[a-z0-9][a-z0-9._+-]{0,79}$"
_VERSION = r"^[0-9]{1,3}(\.[0-9]{1,5}){2}(\+[0-9]{1,10})?$"
_HASH = "^[0-9a-f]{64}$"

Segment = Annotated[str, Field(pattern=_SEGMENT)]
PatchText = Annotated[str, Field(pattern=r"^(all|none|[0-9]{1,5}|[0-9]{1,3}(\.[0-9]{1,5}){2}(\+[0-9]{1,10})?)$")]
VersionText = Annotated[str, Field(pattern=_VERSION)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ImageIn(_Strict):
    """An image that was uploaded."""

    sha256: str = Field(pattern=_HASH)
    file_name: Segment
    component: Segment = "app"
    requires: dict[Segment, VersionText] = Field(default_factory=dict, max_length=16)
    downgrade_from: list[VersionText] = Field(default_factory=list, max_length=16)


class DocumentIn(_Strict):
    """A document that was uploaded."""

    name: str = Field(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")
    sha256: str = Field(pattern=_HASH)


class BuildIn(_Strict):
    """What is handed in at once. All files were uploaded before, and are named by their hashes."""

    images: list[ImageIn] = Field(min_length=1, max_length=16)
    kind: str = Field(default="feature", pattern="^(security|feature)$")
    hardware: list[Segment] = Field(default_factory=list, max_length=64)
    set: Segment | None = None
    sbom: list[DocumentIn] = Field(default_factory=list, max_length=16)
    notes: DocumentIn | None = None
    source: str | None = Field(default=None, min_length=1, max_length=400)
    provenance: str | None = Field(default=None, pattern=_HASH)
    patch_from: list[PatchText] = Field(default_factory=list, max_length=64)
    publish_documents: bool = False

    def build(self) -> Build:
        """Return it as `submit` takes it; raises `MetadataError` for a version that is none."""
        for image in self.images:
            for text in (*image.requires.values(), *image.downgrade_from):
                Version.parse(text)
        return Build(
            tuple(
                Image(item.sha256, item.file_name, item.component, item.requires or None, tuple(item.downgrade_from))
                for item in self.images
            ),
            self.kind,
            tuple(self.hardware),
            self.set,
            tuple(Named(item.name, item.sha256) for item in self.sbom),
            Named(self.notes.name, self.notes.sha256) if self.notes else None,
            self.source,
            self.provenance,
            tuple(self.patch_from),
            self.publish_documents,
        )


@router.post("/lines/{line}/releases", status_code=201, responses={200: {"description": "It was there already."}})
def submit_build(line: Line, body: BuildIn, service: TheService, principal: ThePrincipal) -> JSONResponse:
    """Hand in a build: it becomes a draft of the line, which its signers are asked to sign. Sent again, it is taken once."""
    with service.making() as making:
        done = submit(service.data, principal, line, body.build(), making)
    service.worker.wake("log")
    value = {
        "line": line,
        "draft": done.version,
        "digest": done.digest,
        "releases": dict(done.releases),
        "patches": dict(done.patches),
        "left_out": [asdict(item) for item in done.left_out],
    }
    return JSONResponse(value, 200 if done.repeated else 201)


@router.get("/lines/{line}/releases")
def releases(line: Line, service: TheService, principal: ThePrincipal) -> dict[str, Any]:
    """List a line's releases, lowest version first, and how far each has come."""
    require_read(principal, line)
    with service.data.reading() as unit:
        return {"line": line, "releases": _listed(unit, line)}


@router.get("/lines/{line}/releases/{version}")
def release(
    line: Line,
    version: Annotated[str, Path(pattern=_VERSION)],
    service: TheService,
    principal: ThePrincipal,
) -> dict[str, Any]:
    """Tell how far a version has come: `drafted` (it waits for signatures), `published`, and then `available` to devices."""
    require_read(principal, line)
    with service.data.reading() as unit:
        found = [item for item in _listed(unit, line) if item["version"] == version]
    if not found:
        raise NotFoundRefused(f"version {version} of {line}", expected="a listed one", got="none")
    return {"line": line, "releases": found}


def _listed(unit: Unit, line: str) -> list[dict[str, Any]]:
    state = unit.repository.state()
    items = listing(state, line)
    rows = unit.connection.execute(
        select(SUBMISSIONS).where(SUBMISSIONS.c.path.in_([item.release.path for item in items]))
    )
    came = {row.path: row for row in rows}
    waiting = unit.connection.execute(select(PUBLICATIONS.c.id).where(PUBLICATIONS.c.exported.is_(None))).first()
    found = []
    for item in items:
        release, row = item.release, came.get(item.release.path)
        published = item.where != "drafted"
        found.append(
            {
                "path": release.path,
                "version": str(release.version),
                "component": release.component,
                "hardware": sorted(release.hardware),
                "security_counter": release.security_counter,
                "sha256": release.sha256.hex(),
                "length": release.length,
                "withdrawn": release.withdrawn,
                "state": item.where,
                "available": published and waiting is None,
                "patches_from": [str(version) for version in item.patches],
                "submitted": row.time if row else None,
                "provenance": _provenance(state, line, release.path),
            }
        )
    return found


def _provenance(state: State, line: str, path: str) -> str | None:
    """The SHA-256 of the statement that came with a release."""
    for signed in (state.line(line), state.published(line)):
        target = signed.targets.get(path) if isinstance(signed, Targets) else None
        if target is not None:
            found = stated(target.custom["hillhold"]).get("provenance")
            return str(found[0]["sha256"]) if found else None
    return None
