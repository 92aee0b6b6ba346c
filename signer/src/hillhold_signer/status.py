"""Where a repository stands: per role what is published and until when, what is drafted, who has signed and who can, and what is next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from tuf.api.metadata import Root, Targets

from hillhold_signer import encoding
from hillhold_signer.ceremony import Expiry
from hillhold_signer.drafts import Quorum
from hillhold_signer.errors import MergeRefused, RepositoryRefused
from hillhold_signer.revocation import Revoked
from hillhold_signer.rotation import named_image_keys, named_keys, online_replaced
from hillhold_signer.state import State
from hillhold_verifier.times import show_span, show_time

ROLES: Final = ("root", "targets", "snapshot", "timestamp")
DAY: Final = 86_400
AHEAD: Final[Mapping[str, int]] = {"root": 30 * DAY, "targets": 30 * DAY}
"""Seconds before expiry at which people are warned, since they have to come together to sign."""
AHEAD_LINE: Final = 14 * DAY
ONLINE_SHARE: Final = 4
"""Snapshot and timestamp are late once less than 1/ONLINE_SHARE of their life is left: `refresh` renews snapshot when half is over."""

Alert = Literal["expired", "soon"]


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """One role.

    Attributes:
        published, draft: versions, or None.
        expires, draft_expires: Unix seconds, or None.
        alert: of what is published; None where there is time.
        digest, quorum: of the draft, or None; quorum also where nobody can say yet whose signatures count.
        merged: several drafts were put together, and the result is written down by the next command that changes something.
        replaced: key ids of those who signed a draft that was changed since, and have not signed this one.
        strange: files that are no signature of this draft.
        clash: why the drafts do not go together, or None.
    """

    role: str
    published: int | None
    expires: int | None
    alert: Alert | None
    draft: int | None = None
    draft_expires: int | None = None
    digest: str | None = None
    quorum: Quorum | None = None
    merged: bool = False
    replaced: tuple[str, ...] = ()
    strange: int = 0
    clash: MergeRefused | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """A repository: its roles, and what to do next, in order."""

    demo: bool
    roles: tuple[RoleStatus, ...]
    todo: tuple[str, ...]
    revoked: tuple[str, ...] = ()

    @property
    def late(self) -> bool:
        """Whether something has expired or is about to, or a revoked key is still trusted, or an image key not revoked by root yet."""
        return bool(self.revoked) or any(item.alert for item in self.roles)


def status(
    state: State, people: Mapping[str, str], now: int, expiry: Expiry, revoked: Mapping[str, Revoked], *, demo: bool
) -> Status:
    """Judge a repository at `now` (Unix seconds).

    Args:
        expiry: how long snapshot and timestamp last, from the settings.
        revoked: keys that must not be trusted any more, by key id.
    """
    alarms, steps = _revoked(state, people, revoked)
    lines = dict.fromkeys((*(state.chain.lines if state.chain else ()), *state.drafts, *state.clashes))
    roles = tuple(
        role_status(state, name, now, expiry) for name in (*ROLES, *(name for name in lines if name not in ROLES))
    )
    todo = _todo(roles, people, now, frozenset(revoked))
    open_, missing = _revoked_images(state, revoked)
    if steps:  # nothing else can be published before
        todo = [*steps, *(text for text in todo if not text.startswith("publish"))]
    elif alarms:
        todo = [*(text for text in todo if not text.startswith("publish")), "publish all of it together"]
    return Status(demo, roles, (*missing, *todo), (*alarms, *open_))


def _revoked(state: State, people: Mapping[str, str], revoked: Mapping[str, Revoked]) -> tuple[list[str], list[str]]:
    """Which revoked keys what is published still trusts, and what is left to draft so that it does no more."""
    chain = state.chain
    if chain is None or not revoked:
        return [], []
    published = {keyid: where for keyid, where in named_keys(chain.root, chain.targets).items() if keyid in revoked}
    if not published:
        return [], []
    alarms = [
        f"REVOKED: {people.get(keyid, 'unnamed key')} ({keyid[:16]}), {show_time(revoked[keyid].since)}: "
        f"{revoked[keyid].reason}; still trusted in {', '.join(where)}"
        for keyid, where in published.items()
    ]
    root, targets = state.newest("root"), state.newest("targets")
    if not isinstance(root, Root) or not isinstance(targets, Targets):
        return alarms, []
    steps = []
    if not online_replaced(chain.root, root) or revoked.keys() & root.keys.keys():
        steps.append(
            "replace keys: new ones for snapshot and timestamp in the ceremony file, then `hillhold root rotate`"
        )
    for keyid, where in named_keys(root, targets).items():
        if keyid in revoked:
            lines = (name for name in where if name not in ROLES)
            who = people.get(keyid, keyid[:16])
            steps += [f"take {who} out of {name}: `hillhold product team REPO {name} --remove {who}`" for name in lines]
    return alarms, steps


def _revoked_images(state: State, revoked: Mapping[str, Revoked]) -> tuple[list[str], list[str]]:
    """Which revoked image keys the published root does not name, and those of them that its draft does not name either."""
    noted = [item for item in revoked.values() if item.image]
    if not noted:
        return [], []
    draft = state.drafts.get("root")
    published = named_image_keys(state.published_root) if state.published_root else ()
    drafted = named_image_keys(draft.signed) if draft and isinstance(draft.signed, Root) else published
    alarms = [
        f"REVOKED: image key {item.keyid[:16]}, {show_time(item.since)}: {item.reason}; no published root says so yet"
        for item in noted
        if item.keyid not in published
    ]
    steps = [
        f"tell bootloaders of image key {item.keyid[:16]}: `hillhold root revoke-image-key`"
        for item in noted
        if item.keyid not in drafted
    ]
    return alarms, steps


def until(seconds: int, now: int) -> str:
    """Return how long something still lasts: "in 3 days", or "EXPIRED 2 hours ago"."""
    return f"in {show_span(seconds - now)}" if seconds > now else f"EXPIRED {show_span(now - seconds)} ago"


def role_status(state: State, name: str, now: int, expiry: Expiry) -> RoleStatus:
    """Judge one role at `now`; of the lines, no other one is read."""
    published, draft = state.published(name), state.drafts.get(name)
    expires = encoding.unix(published.expires) if published else None
    found = RoleStatus(name, published.version if published else None, expires, _alert(name, expires, now, expiry))
    if draft is None:
        return replace(found, clash=state.clashes.get(name))
    try:
        quorum = state.quorum(name)
    except (MergeRefused, RepositoryRefused):
        quorum = None
    return replace(
        found,
        draft=draft.signed.version,
        draft_expires=encoding.unix(draft.signed.expires),
        digest=draft.digest,
        quorum=quorum,
        merged=draft.merged,
        replaced=tuple(dict.fromkeys(keyid for keyid, _ in draft.replaced)),
        strange=draft.strange,
    )


def _alert(role: str, expires: int | None, now: int, expiry: Expiry) -> Alert | None:
    if expires is None:
        return None
    online = role in ("snapshot", "timestamp")
    ahead = expiry.of(role) // ONLINE_SHARE if online else AHEAD.get(role, AHEAD_LINE)
    if expires <= now:
        return "expired"
    return "soon" if expires - now < ahead else None


def _todo(roles: tuple[RoleStatus, ...], people: Mapping[str, str], now: int, revoked: frozenset[str]) -> list[str]:
    drafted = [item for item in roles if item.draft is not None]
    found = [f"decide about {item.role}: {item.clash}; {item.clash.hint}" for item in roles if item.clash]
    found += [text for item in drafted for text in _draft_todo(item, people, now, revoked)]
    clash = any(item.clash for item in roles)
    if drafted and not clash and all(item.quorum and item.quorum.complete for item in drafted):
        found.append("publish: every draft has its signatures")
    for item in roles:
        if item.alert and item.expires is not None:
            when = "it has expired" if item.alert == "expired" else f"it expires {until(item.expires, now)}"
            act = "publish the draft of" if item.draft else "renew"
            found.append(f"{'refresh' if item.role in ('timestamp', 'snapshot') else act} {item.role}: {when}")
    if not drafted and all(item.published is None for item in roles if item.role not in ROLES):
        found.append("add a product line: `hillhold product add`")
    return found


def _draft_todo(item: RoleStatus, people: Mapping[str, str], now: int, revoked: frozenset[str]) -> Iterator[str]:
    def names(keyids: tuple[str, ...]) -> str:
        return ", ".join(sorted(people.get(keyid, keyid[:16]) for keyid in keyids))

    if item.quorum and not item.quorum.complete:
        # A revoked key signs root alone, whose old quorum may need it.
        able = tuple(keyid for keyid in item.quorum.missing if item.role == "root" or keyid not in revoked)
        yield f"sign {item.role}: {item.quorum} signatures; {names(able) or 'nobody who is left'} can"
    if item.replaced:
        yield f"sign {item.role} again: it was changed after {names(item.replaced)} had signed"
    if item.strange:
        files = (
            "1 file that is not a signature" if item.strange == 1 else f"{item.strange} files that are no signatures"
        )
        yield f"look at drafts/{item.role}: {files} of this draft"
    if item.draft_expires is not None and item.draft_expires <= now:
        yield f"change {item.role}: its draft has expired, and a change dates it anew"
