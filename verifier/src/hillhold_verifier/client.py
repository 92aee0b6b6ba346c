"""A TUF client over the same rules: any repository, any graph of delegations (TUF 5.3 to 5.7).

Devices do not need it: they follow one product line (`session`). It serves whoever verifies other repositories, or all of one. Files
come from a `Fetch`, what is trusted goes to a `Keep`; neither is trusted with anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final, TypeAlias

from hillhold_verifier.checks import check_content, check_expiry, check_version, is_listed
from hillhold_verifier.content import ContentCheck
from hillhold_verifier.delegations import delegations_for
from hillhold_verifier.errors import MissingError
from hillhold_verifier.metadata import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, Envelope, Signed, max_bytes, parse_targets
from hillhold_verifier.roles import Delegation, MetaFile, TargetFile, Targets
from hillhold_verifier.session import MAX_ROOTS
from hillhold_verifier.trust import (
    Trust,
    held_snapshot,
    held_targets,
    held_timestamp,
    update_root,
    update_snapshot,
    update_targets,
    update_timestamp,
    verifies,
    verify,
)

MAX_DELEGATIONS: Final = 64
"""Delegated roles that one search visits (TUF 5.6.7.1)."""

Fetch: TypeAlias = Callable[[str, int | None, int], bytes | None]
"""Role, version (None: no version in the file's name), limit in bytes; None where there is no such file."""
Keep: TypeAlias = Callable[[str, bytes], None]
"""Role and bytes of a file that is trusted from now on."""


class Client:
    """What a client trusts, and how it comes to trust more. `clock`: Unix seconds."""

    def __init__(
        self, trust: Trust, delegated: Mapping[str, Envelope[Targets]], clock: int, fetch: Fetch, keep: Keep
    ) -> None:
        self.trust = replace(trust, hashed=False)
        self.delegated: Mapping[str, Envelope[Targets]] = MappingProxyType(dict(delegated))
        self._clock, self._fetch, self._keep = clock, fetch, keep

    @property
    def now(self) -> int:
        """The later of clock and time floor, Unix seconds."""
        return self.trust.now(self._clock)

    def refresh(self) -> None:
        """Bring the top-level metadata up to date (TUF 5.3 to 5.6.6).

        Raises:
            Refused: a subclass says why; what was accepted before that stays.
        """
        for _ in range(MAX_ROOTS):
            if (data := self._fetch(ROOT, self.trust.root.signed.version + 1, max_bytes(ROOT))) is None:
                break
            self._take(ROOT, update_root(self.trust, data), data)
        check_expiry(ROOT, self.trust.root.signed.expires, self.now)
        data = self._require(TIMESTAMP, None)
        self._take(TIMESTAMP, update_timestamp(self.trust, data, self._clock), data)
        timestamp = _required(held_timestamp(self.trust), TIMESTAMP).signed
        check_expiry(TIMESTAMP, timestamp.expires, self.now)
        # Again: the timestamp may have said that it is later than the clock has it.
        check_expiry(ROOT, self.trust.root.signed.expires, self.now)
        if held_snapshot(self.trust) is None:
            data = self._require(SNAPSHOT, timestamp.snapshot)
            self._take(SNAPSHOT, update_snapshot(self.trust, data, self._clock), data)
        snapshot = _required(held_snapshot(self.trust), SNAPSHOT).signed
        check_expiry(SNAPSHOT, snapshot.expires, self.now)
        if held_targets(self.trust) is None:
            data = self._require(TARGETS, snapshot.meta[TARGETS])
            self._take(TARGETS, update_targets(self.trust, data, self._clock), data)
        check_expiry(TARGETS, _required(held_targets(self.trust), TARGETS).signed.expires, self.now)

    def find(self, path: str) -> TargetFile | None:
        """Search the delegations for a target, depth first, in order (TUF 5.6.7); None where nobody names it.

        Raises:
            Refused: metadata of a role on the way is missing, expired or does not verify.
        """
        targets = _required(held_targets(self.trust), TARGETS).signed
        visited: set[str] = set()
        stack: list[tuple[str, Targets, Delegation | None]] = [(TARGETS, targets, None)]
        while stack and len(visited) <= MAX_DELEGATIONS:
            name, above, delegation = stack.pop()
            if name in visited:
                continue
            visited.add(name)
            role = self._delegated(above, delegation) if delegation else above
            if path in role.targets:
                return role.targets[path]
            below = delegations_for(role, path)
            if below and below[-1].terminating:
                stack.clear()
            stack.extend((d.name, role, d) for d in reversed(below))
        return None

    def _delegated(self, above: Targets, delegation: Delegation) -> Targets:
        """The role as its *current* delegator trusts it, whatever it was trusted by before (CVE of a stale delegator)."""
        snapshot = held_snapshot(self.trust)
        listing = snapshot.signed.meta.get(delegation.name) if snapshot else None
        if listing is None:
            raise MissingError(f"{delegation.name} metadata", expected="a role that snapshot lists", got="none")
        held = self.delegated.get(delegation.name)
        if (
            held is not None
            and is_listed(held, listing, hashed=False)
            and verifies(held, delegation.role, above.keys, self.trust.schemes)
        ):
            check_expiry(delegation.name, held.signed.expires, self.now)
            return held.signed
        data = self._require(delegation.name, listing)
        check_content(data, delegation.name, listing, hashed=False)
        new = parse_targets(data, delegation.name)
        check_version(new, delegation.name, listing)
        verify(new, delegation.name, delegation.role, above.keys, self.trust.schemes)
        check_expiry(delegation.name, new.signed.expires, self.now)
        self.delegated = MappingProxyType({**self.delegated, delegation.name: new})
        self._keep(delegation.name, data)
        return new.signed

    def _take(self, role: str, trust: Trust, data: bytes) -> None:
        """Trust a file from now on. One that has expired raises floors, and is not kept (TUF 5.4.4, 5.5.6, 5.6.5)."""
        if trust is self.trust:
            return
        # Between snapshots, TUF guards targets against rollback by what snapshot lists, and recovers by new snapshot keys.
        self.trust = replace(trust, floors={name: floor for name, floor in trust.floors.items() if name != TARGETS})
        held = {TIMESTAMP: trust.timestamp, SNAPSHOT: trust.snapshot, TARGETS: trust.targets}.get(role)
        if held:
            check_expiry(role, held.signed.expires, self.now)
        self._keep(role, data)

    def _require(self, role: str, listing: MetaFile | None) -> bytes:
        limit = max_bytes(role)
        if listing and listing.length is not None:
            limit = min(limit, listing.length)
        version = listing.version if listing and self.trust.root.signed.consistent_snapshot else None
        if (data := self._fetch(role, version, limit)) is None:
            raise MissingError(
                f"{role} metadata", expected=f"version {listing.version}" if listing else "one", got="none"
            )
        return data


def _required(envelope: Envelope[Signed] | None, role: str) -> Envelope[Signed]:
    if envelope is None:
        raise MissingError(f"{role} metadata", expected="one that holds now", got="none")
    return envelope


def check_target(target: TargetFile, data: bytes) -> None:
    """Check a target's content (TUF 5.7.2); raises `MismatchError`."""
    check = ContentCheck(target.path, target.length, target.hashes)
    check.feed(data)
    check.finish()
