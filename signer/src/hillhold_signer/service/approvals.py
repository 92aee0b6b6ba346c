"""Signatures that people hand in. They were made at home, by keys that the service never sees."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from hillhold_signer.attaching import Attached, attach
from hillhold_signer.log.events import Kind
from hillhold_signer.service.access import EVERY, Principal, Role, require
from hillhold_signer.service.tables import APPROVALS
from hillhold_signer.service.unit import Unit
from hillhold_signer.signatures import SignatureFile, parse_signature


def line_of(role: str) -> str:
    """Return the line whose grants count for a role: root and targets belong to none."""
    return EVERY if role in ("root", "targets") else role


def hand_in(unit: Unit, principal: Principal, files: Sequence[bytes]) -> tuple[Attached, ...]:
    """Keep signatures on drafts, all or none.

    Args:
        files: as `hillhold sign` writes them.

    Who hands one in need not be whose key it is; both are noted.

    Raises:
        ForbiddenRefused: not a signer of a role's line.
        RequestRefused, StaleRefused, SigningRefused, PublicKeyMaterialRefused, MergeRefused: as `attach`.
        RepositoryRefused, StorageError: the repository.
    """
    for data in files:
        require(principal, Role.SIGNER, line_of(parse_signature(data).role))
    attached = attach(unit.repository, files)
    for item in attached:
        if item.repeated:
            continue
        file = item.file
        row: dict[str, str | int] = {"digest": file.sha256, "keyid": file.keyid, "role": file.role}
        row |= {"account": principal.account_id, "time": unit.now}
        unit.connection.execute(unit.insert(APPROVALS).values(**row).on_conflict_do_nothing())
        unit.record(
            Kind.SIGNATURE, principal.name, role=file.role, version=file.version, sha256=file.sha256, keyid=file.keyid
        )
    return attached


def was_taken(unit: Unit, file: SignatureFile) -> bool:
    """Whether such a signature was taken, and what it is on is drafted no more: it has been published, most likely."""
    draft = unit.repository.state().drafts.get(file.role)
    if draft is not None and draft.digest == file.sha256:
        return False
    query = select(APPROVALS.c.role).where(APPROVALS.c.digest == file.sha256, APPROVALS.c.keyid == file.keyid)
    row = unit.connection.execute(query).first()
    return row is not None and row.role == file.role
