"""A restored service goes on: first it takes over what was published since the back-up, or goes past it; then it is held no longer.

The back-up is older than what devices have seen. Two things would be wrong from then on: metadata of a version that a device knows with
other content, and a log that contradicts a checkpoint which somebody keeps. So before anything is signed

- the published tree as devices see it is verified as what follows from ours (its roots from our root, each role by its quorum), and taken
  over: files, and the target files that they name. Nothing is taken on the server's word: whoever serves it could at most withhold the
  newest. Where ours and theirs have one version with two contents, or each is newer in something, nothing is changed.
- where nobody has that tree any more, an operator states the highest versions of timestamp and snapshot that anybody has seen. The next
  ones are above them. This is right only if nothing but timestamp and snapshot was published since the back-up: what people have signed
  comes from the people again, and would have the same number.
- the log must go on from the newest checkpoint that anybody keeps. Its lost part comes from a copy of the log, tile by tile, verified by
  that checkpoint. If there is none, this log has ended: another one begins, under another name and key, and its first entry says so.

Then timestamp (and what else is due) is signed anew, and all of the tree is exported once more. It is one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import select
from tuf.api.metadata import Snapshot, Timestamp

from hillhold_signer import encoding
from hillhold_signer.chain import Chain
from hillhold_signer.errors import RepositoryRefused
from hillhold_signer.log.events import Kind
from hillhold_signer.log.note import NoteSigner, Verifier
from hillhold_signer.log.tree import Reader
from hillhold_signer.publish import OnlineSigners, renew
from hillhold_signer.repository import Repository
from hillhold_signer.service.holding import HeldRefused, holding, let_go
from hillhold_signer.service.journal import KEPT
from hillhold_signer.service.names import TIMESTAMP
from hillhold_signer.service.registry import OPERATOR
from hillhold_signer.service.resuming_log import end_log, resume_log
from hillhold_signer.service.resuming_tree import Newest, adopt, chain_of, fetch_targets, is_published, look
from hillhold_signer.service.tables import (
    FILES,
    PUBLICATION_FILES,
    PUBLICATIONS,
    TARGETS,
)
from hillhold_signer.service.unit import Data, Unit
from hillhold_verifier.sources import Source


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of the time after the back-up.

    Attributes:
        published: the tree as devices see it, from one place or several; or the highest versions, where it is lost.
        checkpoint: the newest checkpoint of the log that anybody keeps, as a signed note; None where there was no log, or nobody has one:
            then its log ends.
        log: a copy of the log that goes at least as far.
    """

    published: Sequence[Source] | Newest
    checkpoint: bytes | None = None
    log: Reader | None = None


@dataclass(frozen=True, slots=True)
class Resumed:
    """What came of it.

    Attributes:
        adopted: versions of the roles that were taken over.
        dropped: those of them that had a draft, which is gone: it may be published by now, and grew from what is not here.
        entries: how many entries of the log were taken over.
        timestamp: the version that was signed.
    """

    adopted: Mapping[str, int]
    dropped: tuple[str, ...]
    entries: int
    timestamp: int


def resume(
    data: Data,
    seen: Seen,
    signers: Callable[[Repository], OnlineSigners],
    verifiers: Sequence[Verifier],
    *,
    begin: Sequence[NoteSigner] = (),
) -> Resumed:
    """Catch up, and let a held service go.

    Args:
        signers: opens the online keys of the newest root, which may be newer than the back-up's; what it writes into the settings is kept.
        verifiers: the log's public keys.
        begin: keys of a new log, where the lost part of this one is nowhere to be had: it ends, and its files go.

    Raises:
        HeldRefused: the service is not held.
        RepositoryRefused, VerifyRefused: the tree does not follow from ours.
        LogRefused, NoteRefused: the log does not go on from the checkpoint.
        SigningRefused: signers that the newest root does not name.
        StorageError: something cannot be read or written. After any error nothing was changed, and the service is still held.
    """
    newer = look(data, seen.published)
    if newer is not None:
        fetch_targets(data, *newer)
    with data.writing(held=True) as unit:
        found = holding(unit.connection)
        if found is None:
            raise HeldRefused("service", expected="one that is held", got="one that is not")
        adopted, dropped = adopt(unit, *newer) if newer is not None else ({}, ())
        version = _sign(unit, seen.published, signers)
        if begin:
            end_log(unit, seen.checkpoint, verifiers, begin)
        entries = 0 if begin else resume_log(unit, data.objects, seen.checkpoint, seen.log, verifiers)
        _export_all(unit)
        roles = ", ".join(f"{role} {number}" for role, number in adopted.items()) or "nothing"
        unit.record(
            Kind.CONFIGURATION,
            OPERATOR,
            what=f"restored from {found.backup}; taken over: {roles}"[:1000],
            sha256=found.manifest,
        )
        let_go(unit.connection)
    if begin:
        data.objects.delete(KEPT)
    return Resumed(adopted, dropped, entries, version)


def _sign(unit: Unit, published: Sequence[Source] | Newest, signers: Callable[[Repository], OnlineSigners]) -> int:
    """Sign the next timestamp; after a statement of versions, the snapshot, too, both above what was stated."""
    if not is_published(unit):
        return 0
    repository = Repository(unit.repository.layout.path)  # as it is now
    if not isinstance(published, Newest):
        repository.refresh(signers(repository), unit.now)
    else:
        with repository.writing() as state:
            ahead = replace(state, chain=_ahead(chain_of(state), published, unit.now))
            publication = renew(repository.layout, ahead, signers(repository), repository.config().expiry, unit.now)
            for place, body in publication.metadata:
                unit.store.write(str(place), body)
    return chain_of(repository.state()).timestamp.version


def _ahead(chain: Chain, newest: Newest, now: int) -> Chain:
    """Our chain, as if it had the versions that were stated, and a snapshot that is due."""
    old, listed = chain.timestamp, chain.snapshot
    if newest.timestamp < old.version or newest.snapshot < listed.version:
        expected = f"at least timestamp {old.version} and snapshot {listed.version}, which the back-up has"
        got = f"{newest.timestamp} and {newest.snapshot}"
        raise RepositoryRefused("the highest versions seen", expected=expected, got=got)
    fields = dict(old.unrecognized_fields)
    timestamp = Timestamp(newest.timestamp, None, old.expires, old.snapshot_meta, unrecognized_fields=fields)
    snapshot = Snapshot(newest.snapshot, None, encoding.utc(now), dict(listed.meta))
    return replace(chain, timestamp=timestamp, snapshot=snapshot)


def _export_all(unit: Unit) -> None:
    """Have all of the tree exported: the object store may be a new one."""
    where = TARGETS.c.name >= "public/", TARGETS.c.name < "public0"
    targets = unit.connection.execute(select(TARGETS.c.name, TARGETS.c.sha256).where(*where).order_by(TARGETS.c.name))
    rows: list[tuple[str, str | None]] = [(name, digest) for name, digest in targets]
    where = FILES.c.name >= "public/metadata/", FILES.c.name < "public/metadata0"
    files = unit.connection.execute(select(FILES.c.name).where(*where).order_by(FILES.c.name))
    rows += [(name, None) for (name,) in files if name != TIMESTAMP]
    if rows:
        made = PUBLICATIONS.insert().values(time=unit.now, roles="{}").returning(PUBLICATIONS.c.id)
        number = unit.connection.execute(made).scalar_one()
        unit.connection.execute(
            PUBLICATION_FILES.insert(),
            [
                {"publication": number, "place": place, "name": name, "data": None, "sha256": digest}
                for place, (name, digest) in enumerate(rows)
            ],
        )
