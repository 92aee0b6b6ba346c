"""The trust that a host holds for one stock board: root, floors, time floor, what it saw confirmed, what failed there (DESIGN §4, §7.2).

The board cannot remember any of it. So the rules of a device hold here as far as a host can keep them: metadata are taken and judged as by
`Installer`, and what may be sent is chosen from what the board says that it runs *and* from what this host saw it confirm before. The
state is a device's record (`state`): slot 0 of a component is what was last seen confirmed, slot 1 stays empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from hillhold_verifier.errors import MisuseError, OrderError, SelectionError, SpaceError, UnprovisionedError, short
from hillhold_verifier.installer import provision
from hillhold_verifier.keys import SCHEMES
from hillhold_verifier.release import Release
from hillhold_verifier.select import Device, Installed, Selection, select, trial_id, withdrawn
from hillhold_verifier.session import Need, UpdateSession
from hillhold_verifier.slots import RecordAreas
from hillhold_verifier.state import RESERVE, DeviceState, StateStore
from hillhold_verifier.trust import Trust, current


class HostTrust:
    """What a host remembers of a board.

    Raises (at construction):
        UnprovisionedError: it cannot be read; that is never taken for a new board.
    """

    def __init__(self, areas: RecordAreas) -> None:
        self._store = StateStore(areas)
        self._state = self._store.load()

    @classmethod
    def begin(cls, areas: RecordAreas, device: Device, root: bytes) -> HostTrust:
        """Write what is trusted for a board from now on.

        Raises:
            MisuseError: there is a state already, or no component, or one named twice.
            MetadataError, SignatureError: not a root, or one that its own quorum did not sign.
        """
        store = StateStore(areas)
        with suppress(UnprovisionedError):
            store.load()
            raise MisuseError("this host holds a state for that board already")
        provision(store, device, root)
        return cls(areas)

    @property
    def state(self) -> DeviceState:
        """What is remembered."""
        return self._state

    @property
    def device(self) -> Device:
        """What the board was said to be."""
        return self._state.device

    def remembered(self, component: int) -> Installed | None:
        """What was last seen confirmed on the board; its `security_counter` is the highest that ever was."""
        return self._state.slots[2 * component]

    def withdrawn(self) -> frozenset[bytes]:
        """SHA-256 of the images that the line withdraws for this board."""
        return withdrawn(self._state.trust.line, self.device)

    # --- metadata ----------------------------------------------------------------------------------------------------

    def receive(self, role: str, data: bytes, clock: int | None) -> Need | None:
        """Take a metadata file; as `Installer.receive`."""
        before = replace(self._state.trust, schemes=self._state.schemes)
        session = UpdateSession(before, self.device, clock)
        try:
            while (need := session.need) and need.role != role and need.optional:
                session.absent()
            if need is None or need.role != role:
                raise OrderError("metadata", expected=need.role if need else "none", got=role)
            session.receive(data)
        finally:
            if session.trust is not before:
                self._keep(session.trust)
        return session.need

    def choose(self, confirmed: Mapping[str, Installed], clock: int | None) -> Selection:
        """Judge what is held now, and choose.

        Args:
            confirmed: what the board says that it confirmed, by component.
            clock: Unix seconds, or None.

        Raises:
            MissingError, ExpiredError: the chain does not hold now.
            SelectionError: the winner is a step back from what this host saw the board confirm.
        """
        counters = {
            name: seen.security_counter
            for number, name in enumerate(self.device.components)
            if (seen := self.remembered(number))
        }
        held = current(self._state.trust, self.device.product, clock)
        selection = select(held, self.device, confirmed, counters, frozenset(self._state.failed))
        for release in selection.plan:
            self._check_forward(release)
        return selection

    def _check_forward(self, release: Release) -> None:
        """A board that shows an older image, or none, than it confirmed before gets no older release for it."""
        seen = self.remembered(self.device.components.index(release.component))
        if seen is None or release.version > seen.version or seen.version in release.downgrade_from:
            return
        if release.version < seen.version:
            expected = f"at least {seen.version}, which this host saw the board confirm"
            raise SelectionError(f"release {release.path}", expected=expected, got=release.version)
        if seen.sha256 != release.sha256:
            expected = f"the image of {seen.version} that this host saw the board confirm ({short(seen.sha256)})"
            raise SelectionError(f"release {release.path}", expected=expected, got=short(release.sha256))

    # --- what the board was seen to do --------------------------------------------------------------------------------

    def saw_confirmed(self, release: Release) -> bool:
        """Remember which release the board says that it confirmed; return False where that is an unsigned step back.

        Only what the line lists is remembered: what a board makes up binds nobody later.
        """
        component = self.device.components.index(release.component)
        before, seen = self.remembered(component), Installed.of(release)
        if before:
            if seen.version < before.version and before.version not in release.downgrade_from:
                return False
            seen = replace(seen, security_counter=max(before.security_counter, seen.security_counter))
        if seen != before:
            self._save(self._state.with_slot(2 * component, seen))
        return True

    def saw_fail(self, plan: tuple[Release, ...]) -> None:
        """Remember that these were tried, and that the board went back."""
        self._save(self._state.with_failed(trial_id(release.sha256 for release in plan)))

    def forget_failed(self) -> tuple[bytes, ...]:
        """Let what failed be chosen again, by a person at this host; return what was forgotten."""
        gone = self._state.failed
        if gone:
            self._save(replace(self._state, failed=()))
        return gone

    # --- inside ------------------------------------------------------------------------------------------------------

    def _keep(self, trust: Trust) -> None:
        state = replace(self._state, trust=replace(trust, schemes=SCHEMES))
        if self._store.room(state) < RESERVE and trust.root is not self._state.trust.root:
            # A new root always has to fit; held files are brought again, floors stay.
            bare = replace(state.trust, timestamp=None, snapshot=None, targets=None, line=None)
            state = replace(state, trust=bare)
        if (room := self._store.room(state)) < RESERVE:
            raise SpaceError("metadata for this host's state", expected=f"{RESERVE} bytes left free", got=room)
        self._save(state)

    def _save(self, state: DeviceState) -> None:
        self._store.save(state)
        self._state = state
