"""Changes of the repository's files that come over HTTP: what `--service` has written (`remote`), all of it or nothing.

A client decides what a draft says, and the service decides whether it may be one. It takes drafts (of a line from its submitters and
administrators, of root and targets from administrators of all), signatures (`approvals`), image keys of a line, and from administrators of
all: names of people, revoked keys, and durations in the settings. Nothing of what is published comes this way, and no target file.

Each draft is looked at before anybody is asked to sign it: it has to go together with what is drafted and published, its target files
have to be there, devices have to be able to read it, and there may be nothing for which it could not be published, however many sign.

What is sent again, since its answer was lost, is found to be there, and answered as the first time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from sqlalchemy import select
from tuf.api.metadata import Root, TargetFile, Targets

from hillhold_signer.chain import line_names
from hillhold_signer.config import MAX_CONFIG, Config, parse_config, parse_person, show_config
from hillhold_signer.difference import difference, label, summary
from hillhold_signer.documents import stated
from hillhold_signer.drafts import MAX_DRAFT, MAX_FILES, Drafts, Node, parse_node, parse_signed
from hillhold_signer.errors import MergeRefused, ProductRefused, RepositoryRefused, SignerRefused, VerifyRefused
from hillhold_signer.examples import refuse_public
from hillhold_signer.image_keys import image_keys
from hillhold_signer.keys import parse_public
from hillhold_signer.log.events import Kind
from hillhold_signer.publish import check_drafts
from hillhold_signer.revocation import history, read_revoked
from hillhold_signer.rotation import check_roots
from hillhold_signer.service.access import EVERY, Principal, Role, require
from hillhold_signer.service.approvals import hand_in, line_of, was_taken
from hillhold_signer.service.blobs import note_line
from hillhold_signer.service.changes import nodes_of, note_changes
from hillhold_signer.service.tables import CHANGES, TARGETS
from hillhold_signer.service.tree import Name, Sort, parse_name
from hillhold_signer.service.unit import Unit
from hillhold_signer.service.uploads import usable
from hillhold_signer.signatures import MAX_SIGNATURE_FILE, parse_signature
from hillhold_signer.state import State
from hillhold_signer.storage import list_folder, remove_file, write_file
from hillhold_signer.succession import New, check_readable

MAX_CHANGED: Final = 1000
"""Files of one change."""
MAX_OPEN: Final = MAX_FILES // 4
"""Files in the drafts of a role, from which on no more are taken until some of it is published."""
MAX_NOTED: Final = 40
"""Lines of a difference that are kept for people."""
AT_ONCE: Final = 500
"""Hashes in one statement."""

_LIMITS: Final[Mapping[Sort, int]] = {
    Sort.DRAFT: MAX_DRAFT,
    Sort.SIGNATURE: MAX_SIGNATURE_FILE,
    Sort.CONFIG: MAX_CONFIG,
    Sort.PERSON: 4096,
    Sort.REVOKED: 8192,
    Sort.IMAGE_KEY: 4096,
}


class ChangeRefused(SignerRefused):
    """A change of files that may not be made over HTTP."""


@dataclass(frozen=True, slots=True)
class _Item:
    """A file that is to be written; None where it is to be removed."""

    name: Name
    data: bytes | None

    @property
    def digest(self) -> str:
        return sha256(self.data or b"").hexdigest()


def change(unit: Unit, principal: Principal, files: Mapping[str, bytes], removed: Sequence[str]) -> dict[str, Any]:
    """Make a change, within a transaction that writes.

    Returns:
        What is so now: `files`, the hash of each by name, and `removed`.

    Raises:
        ForbiddenRefused: not the right role on a line.
        ChangeRefused: a file that does not come this way, or is not what its name says.
        MergeRefused: drafts that do not go together with those that there are.
        StaleRefused, SigningRefused, RequestRefused: a signature, as `attach`.
        RepositoryRefused, ReleaseRefused, ProductRefused, RotationRefused, ContentRefused, PublicKeyMaterialRefused: a draft that could
            not be published.
        StorageError: the repository.
    """
    items = _items(principal, files, removed)
    drafts = [item for item in items if item.name.sort is Sort.DRAFT]
    signatures = [item for item in items if item.name.sort is Sort.SIGNATURE]
    before = unit.repository.state()
    for item in items:
        if item.name.sort not in (Sort.DRAFT, Sort.SIGNATURE):
            _write_other(unit, principal, item, before)
    if drafts:
        _write_drafts(unit, principal, drafts, before)
    if signatures:
        _write_signatures(unit, principal, signatures)
    return {
        "files": {item.name.text: item.digest for item in items if item.data is not None},
        "removed": sorted(item.name.text for item in items if item.data is None),
    }


def _items(principal: Principal, files: Mapping[str, bytes], removed: Sequence[str]) -> list[_Item]:
    """What is asked for, once all of it may be asked for."""
    if not files and not removed:
        raise ChangeRefused("change", expected="files", got="none")
    if len(files) + len(removed) > MAX_CHANGED:
        raise ChangeRefused("change", expected=f"at most {MAX_CHANGED} files", got=len(files) + len(removed))
    items = [_Item(parse_name(text), data) for text, data in files.items()]
    items += [_Item(parse_name(text), None) for text in dict.fromkeys(removed) if text not in files]
    for item in items:
        sort, text = item.name.sort, item.name.text
        if sort not in _LIMITS or (item.data is None and sort is not Sort.IMAGE_KEY):
            hint = "target files come by /v1/uploads, and only the service publishes"
            raise ChangeRefused(
                text[:80], expected="a file that comes this way", got=f"a {sort.name.lower()}", hint=hint
            )
        if item.data is not None and len(item.data) > _LIMITS[sort]:
            raise ChangeRefused(text[:80], expected=f"at most {_LIMITS[sort]} bytes", got=len(item.data))
        _require(principal, item.name)
    return items


def _require(principal: Principal, name: Name) -> None:
    if name.sort is Sort.SIGNATURE:
        require(principal, Role.SIGNER, line_of(name.role))
    elif name.sort is Sort.DRAFT:
        if not (line_of(name.role) != EVERY and principal.holds(Role.SUBMITTER, name.role)):
            require(principal, Role.ADMINISTRATOR, line_of(name.role))
    else:
        require(principal, Role.ADMINISTRATOR, name.role or EVERY)


# --- settings, people, keys -----------------------------------------------------------------------------------------------------------


def _write_other(unit: Unit, principal: Principal, item: _Item, state: State) -> None:
    """Write what is no draft and no signature, and note it for the log where it changes something."""
    layout, name = unit.repository.layout, item.name
    if item.data is None:
        if unit.store.digest(name.text) is not None:
            remove_file(layout.path / name.text)
            unit.record(Kind.CONFIGURATION, principal.name, what=f"removed {name.text}", sha256=item.digest)
        return
    data = _settings(unit, state, item.data) if name.sort is Sort.CONFIG else item.data
    known = unit.store.digest(name.text)
    if known is not None and known[1] == sha256(data).hexdigest():
        return
    if name.sort is Sort.PERSON:
        parse_person(data, f"people/{name.text[7:23]}…")
    write_file(layout.path / name.text, data)
    if name.sort is Sort.IMAGE_KEY:
        state.line(name.role)
        refuse_public(parse_public(data, Path(name.text)), demo=unit.repository.config().demo)
        image_keys(layout, name.role)
    elif name.sort is Sort.REVOKED:
        read_revoked(layout)
    unit.record(Kind.CONFIGURATION, principal.name, what=name.text, sha256=sha256(data).hexdigest())


def _settings(unit: Unit, state: State, data: bytes) -> bytes:
    """The settings as they are to be.

    A client does not see where online keys are, and whoever administers over HTTP does not move one: known places stay, as long as a root
    names the key. Places of new keys are taken.
    """
    now, new = unit.repository.config(), parse_config(data)
    if new.demo is not now.demo:
        raise ChangeRefused("demo in hillhold.toml", expected=str(now.demo).lower(), got=str(new.demo).lower())
    named: set[str] = set()
    for root in (state.published_root, state.newest("root")):
        named |= root.keys.keys() if isinstance(root, Root) else set()
    kept = {keyid: uri for keyid, uri in now.online.items() if keyid in named}
    return show_config(Config(now.demo, new.expiry, {**new.online, **kept}))


# --- drafts ---------------------------------------------------------------------------------------------------------------------------


def _write_drafts(unit: Unit, principal: Principal, items: Sequence[_Item], before: State) -> None:
    nodes = [(item, _parse(item)) for item in items]
    rows = select(CHANGES.c.draft).where(CHANGES.c.draft.in_([node.name for _, node in nodes]))
    known = {str(row[0]) for row in unit.connection.execute(rows)}
    new = [(item, node) for item, node in nodes if node.name not in known and unit.store.digest(item.name.text) is None]
    if not new:
        return
    repository, roles = unit.repository, list(dict.fromkeys(item.name.role for item, _ in new))
    had = {role: nodes_of(unit, role) for role in roles}
    newest = {role: before.newest(role) for role in roles if role not in before.clashes}
    _stage(unit, principal, new, before)
    for item, _ in new:
        if len(list_folder(repository.layout.drafts / item.name.role)) >= MAX_OPEN:
            hint = "publish what there is, or have its administrators look at it"
            raise ChangeRefused(
                f"drafts of {item.name.role}", expected=f"at most {MAX_OPEN} files", got="more", hint=hint
            )
        write_file(repository.layout.path / item.name.text, item.data or b"")
    after = repository.merge()  # what was drafted at once is put together here, so that everybody signs the same
    _check(unit, after, roles, before)
    for role in roles:
        _note(unit, principal, role, had[role], newest.get(role), after)


def _parse(item: _Item) -> Node:
    """The draft in a file, in the form in which it would be signed."""
    role, name = item.name.role, item.name.text.rpartition("/")[2].removesuffix(".json")
    node = parse_node(item.data or b"", name, role)
    parse_signed(node.value, role)
    return node


def _stage(unit: Unit, principal: Principal, new: Sequence[tuple[_Item, Node]], before: State) -> None:
    """Give what was uploaded, and a new draft names, the name under which it is looked for: one row each.

    A draft may name what its author has sent, and what the line or devices have: not what lies here for another line.
    """
    for item, node in new:
        wanted: set[str] = set()
        signed, published = parse_signed(node.value, item.name.role), before.published(item.name.role)
        old = published.targets if isinstance(published, Targets) else {}
        after = signed.targets if isinstance(signed, Targets) else {}
        wanted |= {target.hashes["sha256"] for path, target in after.items() if old.get(path) != target}
        _keep_documents(unit, principal, item.name.role, (new for path, new in after.items() if old.get(path) != new))
        digests = sorted(wanted)
        for start in range(0, len(digests), AT_ONCE):  # none for a draft that names no new file
            some = digests[start : start + AT_ONCE]
            found = usable(unit.connection, principal.account_id, [item.name.role], some)
            if missing := sorted(set(some) - found.keys()):
                got = f"{missing[0][:16]}…, which you have not sent"
                raise RepositoryRefused("target file", expected="one that was uploaded", got=got)
            rows = [{"name": f"staged/{digest}", "sha256": digest} for digest in found]
            unit.connection.execute(unit.insert(TARGETS).on_conflict_do_nothing(), rows)
            note_line(unit.store.database, unit.connection, item.name.role, found, unit.now)


def _keep_documents(unit: Unit, principal: Principal, line: str, targets: Iterable[TargetFile]) -> None:
    """Count what came with releases as the line's, as far as it was sent: their digests are signed either way."""
    digests: set[str] = set()
    for target in targets:
        custom = target.custom.get("hillhold") if isinstance(target.custom, dict) else None
        entries = stated(custom).values() if isinstance(custom, dict) else ()
        digests |= {str(entry["sha256"]) for some in entries for entry in some}
    for start in range(0, len(digests), AT_ONCE):
        some = sorted(digests)[start : start + AT_ONCE]
        found = usable(unit.connection, principal.account_id, [line], some)
        note_line(unit.store.database, unit.connection, line, found, unit.now)


def _check(unit: Unit, state: State, roles: Sequence[str], before: State) -> None:
    """Refuse drafts that do not go together, that belong to no line, or that could not be published."""
    repository = unit.repository
    config = repository.config()
    for role in roles:
        if (clash := state.clashes.get(role)) is not None:
            hint = "nothing was written; run the command again, which starts from what is drafted now"
            raise MergeRefused(f"draft of {role}: {clash}"[:400], hint=hint)
        if role not in _known(state, before):
            raise ProductRefused(f"draft of {role}", expected="a line that targets delegate to", got="none such")
    drafted = [role for role in roles if role in state.drafts]
    beside = [role for role in ("root", "targets") if role in state.drafts]
    check_drafts(repository.layout, state, drafted, unit.now, demo=config.demo, beside=beside)
    for role in drafted:
        draft = state.drafts[role]
        try:
            check_readable(New(role, draft.signed.version, replace(draft, signatures={}).file()))
        except VerifyRefused as error:
            raise RepositoryRefused(f"draft of {role}: devices could not read it: {error}"[:400]) from error
        state.quorum(role)
    if "root" in drafted:
        check_roots(history(repository.layout), state.root())


def _known(state: State, before: State) -> set[str]:
    found = {"root", "targets"}
    for targets in (before.published("targets"), state.newest("targets")):
        found |= set(line_names(targets)) if isinstance(targets, Targets) else set()
    return found


def _note(
    unit: Unit, principal: Principal, role: str, had: frozenset[str], old: Root | Targets | None, state: State
) -> None:
    """Note who drafted what, for people and for the log."""
    new, draft = state.newest(role), state.drafts.get(role)
    shown = []
    if draft is not None:  # against what is published, as those who sign see it
        published = state.published(role)
        before = published if isinstance(published, Root | Targets) else None
        changes = difference(role, before, draft.signed, label(unit.repository.people()))
        shown = summary(changes)[:MAX_NOTED]
    note_changes(unit, principal, role, had, {"difference": shown})
    for name, node in sorted(Drafts(unit.repository.layout).nodes(role).items()):
        if name not in had:
            unit.record(Kind.DRAFT, principal.name, role=role, version=node.version, sha256=node.digest)
    for path, length, digest in _listed_newly(old, new):
        unit.record(Kind.SUBMISSION, principal.name, path=path, length=length, sha256=digest)


def _listed_newly(old: Root | Targets | None, new: Root | Targets | None) -> Iterator[tuple[str, int, str]]:
    before = old.targets if isinstance(old, Targets) else {}
    for path, target in (new.targets if isinstance(new, Targets) else {}).items():
        if path not in before or before[path].hashes != target.hashes:
            yield path, target.length, target.hashes["sha256"]


# --- signatures -----------------------------------------------------------------------------------------------------------------------


def _write_signatures(unit: Unit, principal: Principal, items: Sequence[_Item]) -> None:
    fresh = []
    for item in items:
        data, name = item.data or b"", item.name
        file = parse_signature(data)
        if file.role != name.role or name.text != f"drafts/{file.role}/{item.digest}.sig":
            raise ChangeRefused("signature", expected="the role and the hash that its name says", got="others")
        if not was_taken(unit, file):
            fresh.append(data)
    if fresh:
        hand_in(unit, principal, fresh)
