"""What the pages of lines, releases, keys and accounts say. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from hillhold_signer.durations import show_duration
from hillhold_signer.listing import Where
from hillhold_signer.overview import Facts
from hillhold_signer.overview import Where as LineWhere
from hillhold_signer.service.access import EVERY
from hillhold_signer.service.accounts import Account
from hillhold_signer.service.page.data_lines import PAGE, KeyRow, Keys, Line, Lines, PatchFile, ReleaseRow
from hillhold_signer.service.page.text import Moment, moment, size
from hillhold_signer.service.page.views import account_name, draft_href, role_href

LINE_STATES: Final[Mapping[LineWhere, str]] = {
    "published": "Published",
    "drafted": "Drafted, not published yet",
    "changed": "Published; a draft changes it",
    "retired": "A draft retires it",
}
RELEASE_STATES: Final[Mapping[Where, str]] = {
    "published": "Published",
    "drafted": "Draft",
    "changed": "Published; a draft changes it",
    "dropped": "Published; a draft no longer lists it",
}


@dataclass(frozen=True, slots=True)
class LineView:
    """One line among others."""

    name: str
    href: str
    state: str
    hardware: str
    threshold: str
    people: str


@dataclass(frozen=True, slots=True)
class DocumentView:
    """A file that came with a release, by its digest."""

    what: str
    size: str
    sha256: str


@dataclass(frozen=True, slots=True)
class PatchView:
    """A patch to a release."""

    base: str
    size: str
    share: str


@dataclass(frozen=True, slots=True)
class ReleaseView:
    """One release."""

    title: str
    path: str
    state: str
    style: str
    kind: str
    counter: int
    hardware: str
    size: str
    format: str
    sha256: str
    withdrawn: str | None
    rules: tuple[str, ...]
    patches: tuple[PatchView, ...]
    documents: tuple[DocumentView, ...]
    source: str | None
    submitted: tuple[str, Moment] | None
    proof: str | None


@dataclass(frozen=True, slots=True)
class Fact:
    """Something about a line, and what the draft says of it where that differs."""

    name: str
    text: str
    draft: str | None


@dataclass(frozen=True, slots=True)
class LinePage:
    """A line with one page of its releases."""

    name: str
    state: str
    facts: tuple[Fact, ...]
    team: tuple[tuple[str, str], ...]
    image_keys: tuple[str, ...]
    releases: tuple[ReleaseView, ...]
    total: int
    first: int
    last: int
    newer: str | None
    older: str | None
    draft: str | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class RoleView:
    """Who signs for a role."""

    role: str
    href: str | None
    needs: str
    names: str
    drafted: bool


@dataclass(frozen=True, slots=True)
class KeyView:
    """A key: who holds it, what it signs, and whether it was revoked."""

    name: str
    account: str | None
    keyid: str
    fingerprint: str
    scheme: str
    roles: str
    changes: str
    revoked: str | None


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account and what it may do."""

    name: str
    kind: str
    grants: tuple[str, ...]
    keys: int
    state: str


@dataclass(frozen=True, slots=True)
class KeysView:
    """Keys and people."""

    roles: tuple[RoleView, ...]
    keys: tuple[KeyView, ...]
    accounts: tuple[AccountView, ...] | None
    problem: str | None


def line_href(name: str, page: int = 1) -> str:
    """Return the address of a page of a line's releases."""
    return f"/lines/{quote(name, safe='')}" + (f"?page={page}" if page > 1 else "")


def view_lines(found: Lines) -> tuple[LineView, ...]:
    """Return the lines by name."""
    return tuple(
        LineView(
            name,
            line_href(name),
            LINE_STATES[item.where],
            ", ".join(item.caps.hardware),
            f"{item.threshold} of {len(item.keyids)}",
            ", ".join(sorted(found.names.get(keyid, keyid[:16]) for keyid in item.keyids)),
        )
        for name, item in found.lines.items()
    )


def view_line(found: Line, now: int) -> LinePage:
    """Return what the page of a line says at `now`."""
    before, after = found.facts.published, found.facts.newest
    state = "A draft retires it" if after is None else "Published" if before else "Drafted, not published yet"
    shown = after or before
    team = shown.people if shown else ()
    first = (found.page - 1) * PAGE
    return LinePage(
        found.name,
        state,
        tuple(_facts(before, after)),
        tuple((name, keyid) for name, keyid, _ in team),
        found.facts.image_keys,
        tuple(_release(item, now) for item in found.releases),
        found.total,
        first + 1 if found.releases else 0,
        first + len(found.releases),
        line_href(found.name, found.page - 1) if found.page > 1 else None,
        line_href(found.name, found.page + 1) if first + len(found.releases) < found.total else None,
        draft_href(found.name) if found.drafted else None,
        found.problem,
    )


def view_keys(found: Keys, now: int) -> KeysView:
    """Return what the page of keys and people says at `now`."""
    names = found.people.names
    roles = tuple(
        RoleView(
            item.role,
            role_href(item.role) if role_href(item.role) != "/keys" else None,
            f"{item.threshold} of {len(item.keyids)}",
            ", ".join(sorted(names.get(keyid, keyid[:16]) for keyid in item.keyids)),
            item.drafted,
        )
        for item in found.roles
    )
    keys = sorted((_key(item, found, now) for item in found.keys), key=lambda key: (key.name.casefold(), key.keyid))
    accounts = None if found.accounts is None else tuple(_account(item, now) for item in found.accounts)
    return KeysView(roles, tuple(keys), accounts, found.problem)


def _facts(before: Facts | None, after: Facts | None) -> Sequence[Fact]:
    old, new = _words(before), _words(after)
    return [
        Fact(name, old.get(name, text), new[name] if name in old and name in new and new[name] != old[name] else None)
        for name, text in (old or new).items()
    ]


def _words(facts: Facts | None) -> dict[str, str]:
    if facts is None:
        return {}
    newest = ", ".join(f"{name} {version}" for name, version in facts.newest.items())
    return {
        "Version of its role": str(facts.version or "none yet"),
        "Newest": newest or "nothing",
        "Releases": str(facts.releases),
        "Hardware": ", ".join(facts.caps.hardware),
        "Signatures needed": f"{facts.threshold} of {len(facts.people)}",
        "Highest security counter": str(facts.caps.max_security_counter),
        "Offline grace": f"{show_duration(facts.grace)}, at most {show_duration(facts.caps.max_offline_grace)}",
    }


def _release(item: ReleaseRow, now: int) -> ReleaseView:
    release, where = item.listed.release, item.listed.where
    rules = [f"requires {name} {least} or later" for name, least in sorted(release.requires.items())]
    if release.set is not None:
        rules.append(f"installed only with the rest of the set {release.set}")
    if release.downgrade_from:
        rules.append(f"devices on {', '.join(map(str, sorted(release.downgrade_from)))} step down to it")
    documents = tuple(
        DocumentView(_document(field, entry), _size(entry), str(entry["sha256"]))
        for field, entries in item.documents.items()
        for entry in entries
    )
    submitted = item.submission
    return ReleaseView(
        f"{release.component} {release.version}",
        release.path,
        RELEASE_STATES[where],
        where,
        release.kind,
        release.security_counter,
        ", ".join(sorted(release.hardware)),
        size(release.length),
        release.format,
        release.sha256.hex(),
        release.withdrawn,
        tuple(rules),
        tuple(_patch(file, release.length) for file in item.patches),
        documents,
        item.source,
        (account_name(submitted.account), moment(submitted.time, now)) if submitted else None,
        None if where == "drafted" else f"/releases/{quote(release.path)}/proof",
    )


def _patch(file: PatchFile, whole: int) -> PatchView:
    base = (
        "nothing" if file.nothing else str(file.base) if file.base is not None else f"the file {file.base_hash[:16]}…"
    )
    return PatchView(base, size(file.length), f"{file.length * 100 / whole:.0f} %" if whole else "")


def _document(field: str, entry: Mapping[str, object]) -> str:
    return f"SBOM, {entry['format']}" if field == "sbom" else {"notes": "Release notes"}.get(field, "Provenance")


def _size(entry: Mapping[str, object]) -> str:
    length = entry["length"]
    return size(length) if isinstance(length, int) else ""


def _key(item: KeyRow, found: Keys, now: int) -> KeyView:
    holder, gone = found.people.holders.get(item.keyid), found.people.revoked.get(item.keyid)
    changes = [f"a draft adds it to {name}" for name in item.coming]
    changes += [f"a draft takes it from {name}" for name in item.going]
    return KeyView(
        found.people.names.get(item.keyid, "unnamed key"),
        account_name(holder) if holder else None,
        item.keyid,
        item.fingerprint,
        item.scheme,
        ", ".join(item.roles) or "none yet",
        "; ".join(changes),
        f"Revoked {moment(gone.since, now).ago}: {gone.reason}" if gone else None,
    )


def _account(item: Account, now: int) -> AccountView:
    grants = tuple(f"{role} of {'everything' if line == EVERY else line}" for role, line in sorted(item.grants))
    state = "Active" if item.disabled is None else f"Disabled {moment(item.disabled, now).ago}"
    return AccountView(item.name, "machine" if item.machine else "person", grants, len(item.keys), state)
