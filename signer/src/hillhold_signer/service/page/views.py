"""What the overview and the page of a draft say, in words. No I/O: values in, texts out."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from hillhold_signer.difference import MAX_LINES, Change
from hillhold_signer.service.page.data import Account, Draft, Made, Overview, People, Publication, Standing
from hillhold_signer.service.page.text import Moment, moment
from hillhold_signer.status import Alert

MARKS: Final[Mapping[str, tuple[str, str]]] = {
    "+": ("added", "added"),
    "-": ("removed", "removed"),
    "~": ("changed", "changed"),
    "!": ("unknown", "look closely"),
    " ": ("plain", ""),
}
"""By a change's mark, its style and its word."""
STATES: Final[Mapping[Alert | None, str]] = {"expired": "Expired", "soon": "Expires soon", None: "In time"}


@dataclass(frozen=True, slots=True)
class Signature:
    """Somebody who has signed, or can."""

    name: str
    keyid: str
    when: Moment | None = None
    by: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class ShareView:
    """What one delegator asks: `title` says which, where there are two."""

    title: str
    have: int
    need: int
    signed: tuple[Signature, ...]
    can: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class Card:
    """A draft on the overview.

    Attributes:
        count: "1 of 2 signatures".
        state: `waiting`, `ready` or `stuck`.
        why: what holds it up, and what else people should know.
    """

    role: str
    href: str
    version: int | None
    digest: str | None
    state: str
    count: str
    shares: tuple[ShareView, ...]
    submitters: str
    since: Moment | None
    changed: Moment | None
    eyes: str
    yours: bool
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Expiry:
    """When what is published of a role expires."""

    role: str
    href: str | None
    version: int
    when: Moment
    level: str
    state: str


@dataclass(frozen=True, slots=True)
class PublicationView:
    """One publication; `exported` says where it is."""

    when: Moment
    roles: tuple[str, ...]
    exported: bool
    state: str


@dataclass(frozen=True, slots=True)
class OverviewView:
    """The overview."""

    demo: bool
    alarms: tuple[str, ...]
    yours: int
    waiting: tuple[Card, ...]
    ready: tuple[Card, ...]
    stuck: tuple[Card, ...]
    expiries: tuple[Expiry, ...]
    publications: tuple[PublicationView, ...]


@dataclass(frozen=True, slots=True)
class ChangeView:
    """One thing that a draft changes; `name` is the file that it is about, where it is one."""

    style: str
    word: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class MadeView:
    """Who changed what."""

    who: str
    when: Moment
    what: str


@dataclass(frozen=True, slots=True)
class DraftView:
    """The draft of a role.

    Attributes:
        hidden: how many changes are not shown, since no device would choose what they are of.
        command: what to run to sign; `request_command` the same with the request's file.
        expires: when the draft itself would.
    """

    card: Card
    demo: bool
    published: int | None
    expires: Moment | None
    changes: tuple[ChangeView, ...]
    hidden: int
    problem: str | None
    merged: bool
    made: tuple[MadeView, ...]
    command: str | None
    request_href: str | None
    request_command: str | None


def role_href(role: str) -> str:
    """Return the address of a line's page, or of the keys for the other roles."""
    return "/keys" if role in ("root", "targets", "snapshot", "timestamp") else f"/lines/{quote(role, safe='')}"


def draft_href(role: str) -> str:
    """Return the address of a draft's page."""
    return f"/drafts/{quote(role, safe='')}"


def view_overview(found: Overview) -> OverviewView:
    """Return what the overview says."""
    cards = [
        _card(item, found.people, found.now)
        for item in found.roles
        if item.status.draft is not None or item.status.clash is not None
    ]
    by_state = {state: tuple(card for card in cards if card.state == state) for state in ("waiting", "ready", "stuck")}
    expiries = tuple(
        Expiry(
            item.status.role,
            role_href(item.status.role) if item.status.role not in ("snapshot", "timestamp") else None,
            item.status.published or 0,
            moment(item.status.expires, found.now),
            item.status.alert or "fine",
            STATES[item.status.alert],
        )
        for item in found.roles
        if item.status.expires is not None
    )
    publications = tuple(_publication(item, found.now) for item in found.publications)
    yours = sum(card.yours for card in cards)
    return OverviewView(
        found.demo, tuple(_alarms(found)), yours, **by_state, expiries=expiries, publications=publications
    )


def view_draft(found: Draft, service: str, *, full: bool) -> DraftView:
    """Return what the page of a draft says.

    Args:
        service: the address of the service, as commands need it.
        full: show each change, also where many decide nothing.
    """
    status, now = found.standing.status, found.now
    card = _card(found.standing, found.people, now)
    shown = list(found.changes)
    minor = sum(not change.decides for change in shown)
    if minor > MAX_LINES and not full:
        shown = [change for change in shown if change.decides]
    signable = status.quorum is not None and found.problem is None and status.draft is not None
    role = shlex.quote(status.role)
    where = f"--service {shlex.quote(service)}"
    file = shlex.quote(f"{status.role}.request")
    return DraftView(
        card,
        found.demo,
        status.published,
        moment(status.draft_expires, now) if status.draft_expires is not None else None,
        tuple(map(_change, shown)),
        len(found.changes) - len(shown),
        found.problem,
        status.merged,
        tuple(_made(item, now) for item in reversed(found.standing.made)),
        f"hillhold sign {where} --role {role} --key file:YOUR-KEY.pem --root 1.root.json" if signable else None,
        f"{draft_href(status.role)}/request" if signable else None,
        f"hillhold sign {file} --key file:YOUR-KEY.pem --root 1.root.json" if signable else None,
    )


def account_name(account: Account) -> str:
    """Return an account as people are shown it."""
    return f"{account.name} (machine)" if account.machine else account.name


def names_of(accounts: Iterable[Account]) -> str:
    """Return accounts by name, each once."""
    return ", ".join(dict.fromkeys(map(account_name, accounts)))


def _alarms(found: Overview) -> Iterable[str]:
    for revoked, where in found.alarms:
        who = found.people.names.get(revoked.keyid, "unnamed key")
        yield (
            f"The key of {who} ({revoked.keyid[:16]}) was revoked {moment(revoked.since, found.now).ago} "
            f"and is still trusted in {', '.join(where)}: {revoked.reason}"
        )
    if found.interrupted:
        yield "A publication was interrupted: a new root is out, and what belongs to it is not. Publishing again finishes it."


def _card(item: Standing, people: People, now: int) -> Card:
    status, quorum = item.status, item.status.quorum
    shares: tuple[ShareView, ...] = ()
    if quorum:
        shares = tuple(
            ShareView(
                title,
                len(share.signed),
                share.threshold,
                tuple(_signature(keyid, item, people, now) for keyid in share.signed),
                tuple(_signature(keyid, item, people, now) for keyid in share.unsigned),
            )
            for title, share in zip(quorum.titles, quorum.shares, strict=True)
        )
    why = tuple(_why(item, people, now))
    complete = bool(quorum and quorum.complete)
    state = "stuck" if why and _is_stuck(item, people, now) else "ready" if complete else "waiting"
    return Card(
        status.role,
        draft_href(status.role),
        status.draft,
        status.digest,
        state,
        _count(shares),
        shares,
        names_of(made.account for made in item.made),
        moment(item.made[0].time, now) if item.made else None,
        moment(item.made[-1].time, now) if len(item.made) > 1 else None,
        _eyes(item, people),
        item.yours,
        why,
    )


def _count(shares: tuple[ShareView, ...]) -> str:
    counts = [f"{share.title} {share.have} of {share.need}".strip() for share in shares]
    return f"{', '.join(counts)} signatures" if counts else "nobody can say whose signatures count"


def _signature(keyid: str, item: Standing, people: People, now: int) -> Signature:
    approval, holder = item.approvals.get(keyid), people.holders.get(keyid)
    note = ""
    if keyid in people.revoked:
        note = "revoked"
    elif holder is not None and any(holder.id == made.account.id for made in item.made):
        note = "submitted it"
    elif item.eyes is not None and holder is not None and item.eyes.behind & people.noted[keyid]:
        note = "stands behind it" if holder.id in item.eyes.behind else "noted by who stands behind it"
    name = people.names.get(keyid) or (holder.name if holder else "unnamed key")
    if approval is None:
        return Signature(name, keyid, None, None, note)
    # Whose key it is says the signature; who handed it in is of interest where that was somebody else.
    by = account_name(approval.account) if holder is None or holder.id != approval.account.id else None
    return Signature(name, keyid, moment(approval.time, now), by, note)


def _able(item: Standing, people: People) -> tuple[str, ...]:
    """Keys that can bring the quorum nearer; a revoked one signs root alone, whose old quorum may need it."""
    missing = item.status.quorum.missing if item.status.quorum else ()
    return tuple(keyid for keyid in missing if item.status.role == "root" or keyid not in people.revoked)


def _short(item: Standing, people: People) -> bool:
    """Whether too few are left who can sign."""
    if item.status.quorum is None or item.status.quorum.complete:
        return False
    able = set(_able(item, people))
    shares = item.status.quorum.shares
    return any(len(share.signed) + len(able & set(share.unsigned)) < share.threshold for share in shares)


def _is_stuck(item: Standing, people: People, now: int) -> bool:
    status = item.status
    expired = status.draft_expires is not None and status.draft_expires <= now
    alone = item.eyes is not None and item.eyes.hopeless
    return bool(status.clash or item.stuck or status.quorum is None or expired or alone or _short(item, people))


def _why(item: Standing, people: People, now: int) -> Iterable[str]:
    status = item.status
    if status.clash is not None:
        yield f"{status.clash}; {status.clash.hint}"
        return
    if item.stuck is not None:
        reason, since = item.stuck
        yield f"It has its signatures and was not published, {moment(since, now).ago}: {reason}"
    if status.quorum is None:
        yield "Drafts of the role above it do not go together, so nobody can say whose signatures count."
    if _short(item, people):
        yield "Too few are left who can sign: their keys were revoked. Change who signs for this role."
    if status.draft_expires is not None and status.draft_expires <= now:
        yield "The draft itself has expired: any change dates it anew, and is signed again."
    if item.eyes is not None:
        if item.eyes.hopeless:
            yield "Nobody is left who could sign and does not stand behind it: four eyes are needed."
        yield from (f"Four eyes: {why}." for why in item.eyes.why)
    if status.replaced:
        names = ", ".join(sorted({people.names.get(keyid, keyid[:16]) for keyid in status.replaced}))
        yield f"It was changed after {names} had signed: these signatures count no more."
    if status.strange:
        yield f"Files among its signatures that are none: {status.strange}."


def _eyes(item: Standing, people: People) -> str:
    if item.eyes is None:
        return ""
    if item.eyes.met:
        return "Four eyes: met"
    names = sorted({people.names.get(keyid, people.holders[keyid].name) for keyid in item.eyes.could})
    return f"Four eyes: {' or '.join(names)} must be among them" if names else "Four eyes: not met"


def _publication(item: Publication, now: int) -> PublicationView:
    roles = tuple(f"{role} {version}" for role, version in item.roles.items())
    if item.exported is None:
        state = "Not exported yet" if now - item.time < 60 else f"Not exported since {moment(item.time, now).ago}"
        return PublicationView(moment(item.time, now), roles, False, state)
    return PublicationView(moment(item.time, now), roles, True, f"Exported {moment(item.exported, now).ago}")


def _change(change: Change) -> ChangeView:
    style, word = MARKS[change.mark]
    name, separator, text = change.text.partition(": ")
    if change.what == "target" and separator and name == change.name:
        return ChangeView(style, word, name, text)
    return ChangeView(style, word, "", change.text)


def _made(item: Made, now: int) -> MadeView:
    return MadeView(account_name(item.account), moment(item.time, now), wish_text(item.what))


def wish_text(what: object) -> str:
    """Return what was asked for, as one line."""
    if isinstance(what, Mapping):
        return ", ".join(f"{name}: {wish_text(value)}" for name, value in what.items() if value not in (None, [], {}))
    if isinstance(what, list):
        return " ".join(map(wish_text, what))
    return str(what)
