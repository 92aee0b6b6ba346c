"""Changes of product lines: top-level targets, signed by their quorum, say which lines there are and what each may do."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tuf.api.metadata import Targets

from hillhold_signer import encoding
from hillhold_signer.ceremony import NamedKey, Team, check_known
from hillhold_signer.config import read_people
from hillhold_signer.difference import GRACE
from hillhold_signer.edit import Edit
from hillhold_signer.errors import CeremonyRefused, ProductRefused, RotationRefused
from hillhold_signer.limits import check_limits
from hillhold_signer.products import Caps, Product, caps_of, with_caps, with_line, with_team, without_line
from hillhold_signer.repository import Repository
from hillhold_signer.revocation import read_revoked
from hillhold_signer.roots import still_signed
from hillhold_signer.rotation import ONLINE, named_keys
from hillhold_signer.storage import there


def add_product(repository: Repository, product: Product, now: int) -> None:
    """Draft a new product line: its delegation in targets, and the first, empty version of its role.

    Raises:
        ProductRefused, CeremonyRefused, PublicKeyMaterialRefused, RotationRefused: the product.
        RepositoryRefused, StorageError: the repository.
    """
    with repository.edit(now) as edit:
        product.check(demo=edit.config.demo)
        _check_people(edit, product.name, product.team)
        targets = with_line(edit.targets(), product)
        grace = product.caps.max_offline_grace
        extra = {GRACE: grace} if grace else {}
        line = Targets(version=1, expires=encoding.utc(now + edit.config.expiry.lines), unrecognized_fields=extra)
        if there(edit.layout.metadata(f"1.{product.name}.json")):
            raise ProductRefused(f"product line {product.name}", expected="a new name", got="one that was published")
        edit.remember(product.team.names())
        edit.save(product.name, line)
        edit.save("targets", targets)


def set_team(repository: Repository, name: str, team: Team, now: int) -> bool:
    """Draft targets in which a line has these keys: people come and go, or another team takes the line over.

    Where the signatures on the line's published role do not suffice any more, its next version is drafted, too, unchanged.

    Returns:
        Whether the line has to be signed again.

    Raises:
        ProductRefused: no such line.
        CeremonyRefused, PublicKeyMaterialRefused, RotationRefused: the team.
        RepositoryRefused, StorageError: the repository.
    """
    with repository.edit(now) as edit:
        team.check(f"product {name}", demo=edit.config.demo)
        _check_people(edit, name, team)
        targets = with_team(edit.targets(), name, team)
        again = not still_signed(targets, name, edit)
        if again:
            edit.reissue(name)
        edit.remember(team.names())
        edit.save("targets", targets)
    return again


def team_of(repository: Repository, name: str) -> Team:
    """Return the people who sign a line, drafts included; raises `ProductRefused` for an unknown line."""
    people, targets = repository.people(), repository.state().targets()
    caps_of(targets, name)
    delegations = targets.delegations
    if delegations is None or delegations.roles is None:
        return Team((), 0)
    role = delegations.roles[name]
    keys = (NamedKey(people.get(keyid, keyid[:16]), delegations.keys[keyid]) for keyid in role.keyids)
    return Team(tuple(keys), role.threshold)


def set_caps(
    repository: Repository,
    name: str,
    now: int,
    *,
    hardware: Callable[[tuple[str, ...]], Iterable[str]] = lambda known: known,
    max_security_counter: int | None = None,
    max_offline_grace: int | None = None,
) -> Caps:
    """Draft targets that allow a line something else.

    Args:
        hardware: makes the new ids out of the present ones.
        max_security_counter, max_offline_grace: None leaves them; the latter in seconds.

    Raises:
        ProductRefused: no such line, caps that make no sense, or less than what a listed release or the line itself uses.
        RepositoryRefused, StorageError: the repository.
    """
    with repository.edit(now) as edit:
        old, line = caps_of(edit.state.targets(), name), edit.state.line(name)
        counter = old.max_security_counter if max_security_counter is None else max_security_counter
        grace = old.max_offline_grace if max_offline_grace is None else max_offline_grace
        new = Caps(tuple(sorted(set(hardware(old.hardware)))), counter, grace)
        new.check()
        check_limits(name, new, line)
        edit.save("targets", with_caps(edit.targets(), name, new))
    return new


def set_grace(repository: Repository, name: str, grace: int, now: int) -> None:
    """Draft a line's role with another offline grace: how long its devices accept an expired timestamp or snapshot (DESIGN §3).

    Args:
        grace: seconds, at most what the delegation allows.

    Raises:
        ProductRefused: no such line, or too long.
        RepositoryRefused, StorageError: the repository.
    """
    with repository.edit(now) as edit:
        line, most = edit.line(name), caps_of(edit.state.targets(), name).max_offline_grace
        if not 0 <= grace <= most:
            hint = "`hillhold product caps` allows more, signed by the targets' quorum"
            raise ProductRefused(f"offline grace of {name}", expected=f"at most {most} s", got=grace, hint=hint)
        line.unrecognized_fields.pop(GRACE, None)
        if grace:
            line.unrecognized_fields[GRACE] = grace
        edit.save(name, line)


def retire_product(repository: Repository, name: str, now: int) -> None:
    """Draft targets without a line. Its devices keep their image, and take nothing any more; its name is never used again.

    Snapshot goes on listing its last version until the online keys are replaced (DESIGN §3, "tombstone"): clients refuse a snapshot that
    forgets a role.

    Raises:
        ProductRefused: no such line.
        RepositoryRefused, StorageError: the repository.
    """
    with repository.edit(now) as edit:
        targets = without_line(edit.targets(), name)
        edit.save("targets", targets)


def _check_people(edit: Edit, name: str, team: Team) -> None:
    """Refuse keys that may not sign a line, or whose name would make people take them for another's.

    Raises:
        RotationRefused: a revoked key.
        CeremonyRefused: an online key, which would make the publishing machine release; another's name, or another name for a known key.
    """
    revoked, people, root = read_revoked(edit.layout), read_people(edit.layout), edit.state.root()
    places = named_keys(root, edit.state.targets())
    for item in team.keys:
        keyid, what = item.key.keyid, f"key of {item.name}"
        if keyid in revoked:
            raise RotationRefused(what, expected="one that was not revoked", got=revoked[keyid].reason[:80])
        if online := [role for role in ONLINE if keyid in root.roles[role].keyids]:
            raise CeremonyRefused(what, expected="a person's", got=f"the online key of {online[0]}")
        check_known(item, people)
        for other, where in places.items():
            if other != keyid and where != [name] and people.get(other, "").casefold() == item.name.casefold():
                got = f"{keyid[:16]}; {item.name} has {other[:16]} in {', '.join(where)}"
                raise CeremonyRefused(what, expected="the key that is known under this name", got=got)
