"""Publishing what has its quorum, and renewing timestamp and snapshot: what a person does with `hillhold publish` and `refresh`.

All that is ready goes into one publication. Where that is refused, each role is tried by itself, so that one bad draft holds up no other;
it is noted why (`stuck`), and tried again when something has changed, or after a while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Final

from sqlalchemy import delete, select
from tuf.api.metadata import Root

from hillhold_signer.encoding import unix
from hillhold_signer.errors import SignerRefused
from hillhold_signer.layout import file_name
from hillhold_signer.log.events import Kind
from hillhold_signer.online import online_signers
from hillhold_signer.publish import OnlineSigners, Publication
from hillhold_signer.repository import Repository
from hillhold_signer.rotation import online_replaced
from hillhold_signer.service.foureyes import satisfied
from hillhold_signer.service.tables import STUCK
from hillhold_signer.service.unit import Data, Unit
from hillhold_verifier.errors import HillholdError, Refused

RETRY: Final = 60
"""Seconds after which what was refused is tried again as it is."""
RENEW_SHARE: Final = 2
"""Timestamp and snapshot are renewed once less than 1/RENEW_SHARE of their life is left."""
MAX_NAMED: Final = 60
"""Keys that an event names, of 1,024 characters; the metadata that it speaks of have all."""
ITSELF: Final = "service"
"""Who did what nobody asked for, in the log."""


class Publisher:
    """Publishes, with the online keys; for one thread of a replica.

    Args:
        ask: returns the passphrase or PIN of an online key.
    """

    def __init__(self, data: Data, ask: Callable[[str], str]) -> None:
        self._data, self._ask = data, ask
        self._opened: dict[tuple[str, ...], OnlineSigners] = {}

    def publish(self, roles: Iterable[str] | None = None) -> Mapping[str, int]:
        """Publish what is ready, or of that only `roles`; returns versions by role.

        Raises:
            StorageError: database or object store; nothing was published by this call.
        """
        wanted = None if roles is None else frozenset(roles)
        with self._data.reading() as unit:
            ready = self._ready(unit, wanted)
        if not ready:
            return {}
        try:
            return self._together(ready)
        except Refused as error:
            if len(ready) == 1:
                return self._give_up(ready[0], error)
        done: dict[str, int] = {}
        for role in ready:
            try:
                done |= self._together((role,))
            except Refused as error:
                self._give_up(role, error)
        return done

    def renew(self, *, force: bool = False) -> Mapping[str, int]:
        """Renew timestamp and snapshot where less than half of their life is left, or a publication was interrupted.

        Only one replica does: the next one finds them new.

        Raises:
            Refused: the keys or the repository do not allow it.
            StorageError: the database.
        """
        with self._data.reading() as unit:
            if not force and not is_due(unit):
                return {}
        with self._data.writing() as unit:
            if not force and not is_due(unit):
                return {}
            repository = unit.repository
            signers = self._signers(repository, repository.published_root())
            return _record(unit, repository.refresh(signers, unit.now))

    def check_keys(self) -> None:
        """Open the online keys of the published root, if there is one; raises as `online_signers`."""
        with self._data.reading() as unit:
            root = unit.repository.state().published_root
            if root is not None:
                self._signers(unit.repository, root)

    def _ready(self, unit: Unit, wanted: frozenset[str] | None) -> tuple[str, ...]:
        """What may be published, but for what was refused as it is a moment ago."""
        state = unit.repository.state()
        stuck = {row.role: row for row in unit.connection.execute(select(STUCK))}
        found = []
        for role in unit.repository.ready(lambda role: satisfied(unit, role)):
            row = stuck.get(role)
            again = row is None or row.digest != state.drafts[role].digest or row.time + RETRY <= unit.now
            if (again or wanted is not None) and (wanted is None or role in wanted):
                found.append(role)
        return tuple(found)

    def _together(self, roles: tuple[str, ...]) -> Mapping[str, int]:
        with self._data.writing() as unit:
            repository = unit.repository
            # Under the lock, what was ready may have been changed, or published.
            state = repository.state()
            roles = tuple(
                role for role in roles if role in state.drafts and state.quorum(role).complete and satisfied(unit, role)
            )
            if not roles:
                return {}
            root = repository.check_ready(roles)
            signers = self._signers(repository, root)
            old = repository.chain_root()
            if old is not None and online_replaced(old, root):
                signers = self._with_former(repository, old, signers)
            changed = {role: repository.state().drafts[role] for role in roles if role in ("root", "targets")}
            publication = repository.publish(signers, unit.now, roles)
            for role, draft in changed.items():
                signed = draft.signed
                keys = (
                    signed.keys if isinstance(signed, Root) else signed.delegations.keys if signed.delegations else {}
                )
                keyids = ",".join(sorted(keyid[:16] for keyid in keys)[:MAX_NAMED]) or "none"
                unit.record(Kind.KEY_CHANGE, ITSELF, role=role, version=signed.version, keyids=keyids)
            unit.connection.execute(delete(STUCK).where(STUCK.c.role.in_(roles)))
            return _record(unit, publication)

    def _give_up(self, role: str, error: Refused) -> Mapping[str, int]:
        """Note why a role is not published; once in the log, for the same draft and reason."""
        reason = str(error)[:1000]
        with self._data.writing() as unit:
            draft = unit.repository.state().drafts.get(role)
            digest = draft.digest if draft else ""
            before = unit.connection.execute(select(STUCK).where(STUCK.c.role == role)).first()
            row = {"digest": digest, "reason": reason, "time": unit.now}
            insert = unit.insert(STUCK).values(role=role, **row)
            unit.connection.execute(insert.on_conflict_do_update(index_elements=["role"], set_=row))
            if before is None or (before.digest, before.reason) != (digest, reason):
                unit.record(Kind.REFUSAL, ITSELF, what=f"publication of {role}", reason=visible(reason))
        return {}

    def _signers(self, repository: Repository, root: Root) -> OnlineSigners:
        uris = repository.config().online
        keyids = (*root.roles["snapshot"].keyids, *root.roles["timestamp"].keyids)
        key = (*keyids, *(uris.get(keyid, "") for keyid in keyids))
        if key not in self._opened:
            self._opened[key] = online_signers(root, uris, self._ask)
        return self._opened[key]

    def _with_former(self, repository: Repository, old: Root, signers: OnlineSigners) -> OnlineSigners:
        try:
            former = self._signers(repository, old)
        except HillholdError:  # lost: a device that looks at this very moment has to try again (ADR 10)
            return signers
        return OnlineSigners(signers.snapshot, signers.timestamp, former)


def is_due(unit: Unit) -> bool:
    """Say whether timestamp or snapshot are to be renewed; raises `RepositoryRefused`, `StorageError`."""
    state = unit.repository.state()
    if state.chain is None:
        return False
    expiry = unit.repository.config().expiry
    return state.interrupted or any(
        (unix(signed.expires) - unit.now) * RENEW_SHARE < expiry.of(role)
        for role, signed in (("timestamp", state.chain.timestamp), ("snapshot", state.chain.snapshot))
    )


def visible(text: str) -> str:
    """Return a text as an event may have it: in one line, of what can be seen."""
    shown = "".join(char if char.isprintable() else "?" for char in text)[:1000]
    return shown or "no reason"


def _record(unit: Unit, publication: Publication) -> Mapping[str, int]:
    """Note each file of metadata that was published, by the hash of its bytes."""
    versions = dict(publication.roles)
    for place, data in publication.metadata:
        number, _, rest = place.name.partition(".")
        role = rest.removesuffix(".json") if number.isdigit() else "timestamp"
        version = int(number) if number.isdigit() else _timestamp_version(unit)
        versions[role] = version
        digest = sha256(data).hexdigest()
        unit.record(Kind.PUBLICATION, ITSELF, role=role, version=version, sha256=digest)
    return versions


def _timestamp_version(unit: Unit) -> int:
    chain = unit.repository.state().chain
    if chain is None:
        raise SignerRefused(file_name("timestamp", 0), expected="one that was just published", got="none")
    return int(chain.timestamp.version)
