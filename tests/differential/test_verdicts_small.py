"""The verifier and python-tuf judge the same mutated repositories: one verdict, but for the numbered differences below.

A case is a repository of two generations. One file of the second was changed in one way, then signed by the right keys (or not) and
honestly listed by those above it. Both sides hold the first generation and are fed the second; the verdict is whether the whole chain
holds at one fixed time. A failing case names the file and what was changed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

import pytest
from tuf.api.exceptions import EqualVersionNumberError, RepositoryError
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from forge import DAY, MAX_VERSION, T0, Object, Repo, date, keys
from hillhold_verifier.errors import Refused
from hillhold_verifier.session import Step, UpdateSession
from hillhold_verifier.trust import current
from holder import PUMP, holding, listed, make

NOW = T0 + DAY
ROLES = ("root", "timestamp", "snapshot", "targets", "line")

STRICTER = {
    1: "A lister states a SHA-256: without it any file of that version would do. Optional in python-tuf.",
    2: "Hillhold's own fields are well formed. python-tuf does not know them.",
    4: "Two key ids that carry the same key count once: a quorum is of keys. python-tuf counts ids.",
    5: "No floats, no integers beyond 2**53-1, bounded nesting: what JSON implementations do not agree on is refused.",
    6: "A target states a SHA-256, the one hash that a device computes.",
    7: "A product line is delegated by the path PRODUCT/*/*, and by no other form (hash prefixes).",
    8: "A held file counts while its lister names it by version *and* hash. python-tuf keeps a held snapshot by its version.",
}
LAXER = {
    20: "Roles of root that are not known here are ignored, as TUF 4.2 has it for what is not known. python-tuf refuses them.",
    23: "A key of an unknown type is one that never verifies (TUF 4.2). python-tuf refuses the file.",
}


class Change(NamedTuple):
    """How a file was changed, and the difference that this may bring about."""

    what: str
    difference: int | None
    signed: Callable[[Object], object] | None = None
    whole: Callable[[Object], object] | None = None
    signers: tuple[str, ...] | None = None


def put(path: str, value: object, difference: int | None = None) -> Change:
    """Set the field at `path` (a "*" is the first entry of an object or array) to `value`, or remove it (...)."""

    def edit(signed: Object) -> None:
        at: Object | list[Object] = signed
        *way, last = path.split("/")
        for step in way:
            at = at[next(iter(at)) if step == "*" else step] if isinstance(at, dict) else at[0]
        if not isinstance(at, dict):
            raise TypeError(path)
        name = next(iter(at)) if last == "*" else last
        if value is ...:
            del at[name]
        else:
            at[name] = value

    return Change(f"{path} = {value!r}", difference, edit)


def spoil(whole: Object, how: str) -> None:
    first = whole["signatures"][0]
    if how == "twice":
        whole["signatures"].append(first)
    elif how == "none":
        whole["signatures"] = []
    elif how == "bits":
        first["sig"] = f"{int(first['sig'][:2], 16) ^ 1:02x}{first['sig'][2:]}"
    elif how == "not hex":
        first["sig"] = "xyz"
    elif how == "other id":
        first["keyid"] = "0" * 64
    elif how == "after":
        whole["signed"]["version"] += 1
    elif how == "field":
        whole["more"] = 1


def whole(how: str) -> Change:
    return Change(f"envelope: {how}", None, whole=partial(spoil, how=how))


def twin(signed: Object) -> None:
    """A second id for the first key of targets' quorum, whose other keys go."""
    role = signed["roles"]["targets"] if "roles" in signed else signed["delegations"]["roles"][0]
    known = signed["keys"] if "roles" in signed else signed["delegations"]["keys"]
    known["twin"] = known[role["keyids"][0]]
    role["keyids"] = [role["keyids"][0], "twin"]


ANY = [
    *(put("expires", date(when)) for when in (T0 - DAY, NOW - 1, NOW, NOW + 1, T0 + 9 * DAY)),
    *(put("expires", text) for text in ("", "2030-01-01", "2030-13-01T00:00:00Z", "2030-02-30T00:00:00Z", 5, None)),
    put("expires", "2030-1-1T0:0:0Z"),
    *(put("version", value) for value in (0, -1, 1, 2, 3, 7, "3", None)),
    *(put("version", value, 5) for value in (2**53, 2**70)),
    put("version", MAX_VERSION),
    put("version", 3.0),
    *(put("spec_version", text) for text in ("1.0", "1.0.31", "2.0.0", "0.9", "", "10.0.0")),
    *(put("spec_version", text, None) for text in ("1.x", "1.0.0.0")),
    *(put("_type", text) for text in ("root", "timestamp", "snapshot", "targets", "mirrors")),
    *(put(name, ...) for name in ("_type", "version", "expires", "spec_version")),
    put("more", {"anything": ["goes", 1, None, True]}),
    put("more", [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]], 5),
    put("more", 1.5),
    put("more", 'line\nbreak \\ " \x00 é 𝄞 \u2028'),
    *(whole(how) for how in ("twice", "none", "bits", "not hex", "other id", "after", "field")),
    Change("a stranger signs", None, signers=("mallory",)),
    Change("all sign, and strangers", None, signers=("*", "mallory")),
    Change("one signs", None, signers=("1",)),
]
LISTER = [
    put("meta", ...),
    put("meta/*", ...),
    put("meta/*/version", ...),
    *(put("meta/*/version", value) for value in (0, 5, "2")),
    put("meta/*/version", 1, 8),
    put("meta/*/hashes", ..., 1),
    put("meta/*/hashes", {"sha512": "0" * 128}),
    put("meta/*/hashes", {}),
    put("meta/*/hashes/sha512", "0" * 128, None),
    *(put("meta/*/hashes/sha256", text) for text in ("0" * 64, "", 7)),
    *(put("meta/*/length", value) for value in (0, 1, -1, "9")),
    put("meta/*/length", 7000, None),
]
ROOT_ONLY = [
    put("consistent_snapshot", False, None),
    put("consistent_snapshot", ..., None),
    put("keys", ...),
    put("roles", ...),
    put("roles/mirrors", {"keyids": [], "threshold": 1}, 20),
    *(put(f"roles/{role}", ...) for role in ("timestamp", "targets")),
    *(put(f"roles/{role}/threshold", n) for role in ROLES[:4] for n in (0, 1, 2, 3, 4, "1")),
    *(put(f"roles/{role}/keyids", ids) for role in ROLES[:4] for ids in ([], ["a"], ["a", "a"], ["a", "b", "c"])),
    *(put("keys/*/scheme", text) for text in ("ml-dsa-65", "ed448")),
    *(put("keys/*/keyval/public", text) for text in ("", "zz", "00")),
    put("keys/*/keyval/public", ...),
    put("keys/more", {"keytype": "new", "scheme": "new", "keyval": {"x": 1}}, 23),
    put("keys/more", {"keytype": "new", "scheme": "new"}),
    Change("one key under two ids", None, twin),
]
TARGETS_ONLY = [
    put("targets", ...),
    put("delegations", ...),
    put("delegations/keys", ...),
    put("delegations/roles", []),
    put("delegations/roles/*/terminating", ..., None),
    put("delegations/roles/*/terminating", False),
    put("delegations/roles/*/paths", ...),
    put("delegations/roles/*/paths", ["other/*/*"], 7),
    *(put("delegations/roles/*/name", text) for text in ("", "root", "valve", ...)),
    *(put("delegations/roles/*/threshold", n) for n in (0, 1, 2, 3, 4)),
    put("delegations/roles/*/keyids", []),
    put("delegations/roles/*/x-hillhold", 5, 2),
    put("delegations/roles/*/x-hillhold/max_offline_grace", -1, 2),
    put("delegations/roles/*/x-hillhold", ...),
    put("delegations/keys/*/keyval/public", "00"),
    put("delegations/keys/*/keyval/public", ...),
    Change("one key under two ids", None, twin),
]
LINE_ONLY = [
    put("targets", ...),
    put("targets", {}),
    put("targets/*/length", ...),
    *(put("targets/*/length", value) for value in (-1, "9", 0)),
    put("targets/*/hashes", ...),
    put("targets/*/hashes", {"sha512": "0" * 128}, 6),
    put("targets/*/hashes/sha256", "no", 6),
    *(put("targets/*/custom", value) for value in (..., {}, {"hillhold": 5}, {"other": "vendor"})),
    put("x-hillhold-offline-grace", -1, 2),
    put("x-hillhold-offline-grace", "long", 2),
    put("delegations", {"keys": {}, "roles": []}),
]
CHANGES = {
    "root": ANY + ROOT_ONLY,
    "timestamp": [*ANY, *LISTER, put("x-hillhold-issued", "now", 2), put("x-hillhold-issued", ...)],
    "snapshot": ANY + LISTER,
    "targets": ANY + TARGETS_ONLY,
    "line": ANY + LINE_ONLY,
}


def build(role: str, change: Change) -> tuple[Repo, dict[str, bytes]]:
    """The repository with its honest first generation, and the files of the second."""
    repo = Repo()
    repo.add_release("1.1.0", b"image")
    repo.publish()
    repo.add_release("1.2.0", b"newer image")
    first = repo.files.copy()
    second = Repo()
    second.entries, second._root_signers, second.versions = repo.entries, repo._root_signers, dict(repo.versions)
    second.publish(*ROLES)
    second.versions = dict.fromkeys(ROLES, 1)
    over: dict[str, object] = {}
    if change.signed:
        over["edit"] = change.signed
    if change.whole:
        over["edit_envelope"] = change.whole
    if change.signers:
        names = [
            *(repo.keys[role] if change.signers[0] == "*" else repo.keys[role][:1] if change.signers[0] == "1" else [])
        ]
        over["signers"] = [*names, *(keys("mallory") if "mallory" in change.signers else [])]
    data = make(second, role, **over)
    second.versions = dict.fromkeys(ROLES, 1)
    files = {**second.files, "root": data} if role == "root" else listed_or_plain(second, role, data)
    repo.files = first
    return repo, files


def listed_or_plain(repo: Repo, role: str, data: bytes) -> dict[str, bytes]:
    """As `listed`; where the changed file states no version that a lister could repeat, it is listed as version 2."""
    try:
        return listed(repo, role, data)
    except (KeyError, TypeError, ValueError):
        repo.files[role] = make(repo, role)
        honest = listed(repo, role, repo.files[role])
        return {**honest, role: data}


def verdict_here(repo: Repo, files: dict[str, bytes]) -> str | None:
    """None where the chain holds, or the refusal. Any other exception is a bug, and fails the test."""
    session = UpdateSession(holding(repo), PUMP, NOW)
    try:
        session.receive(files["root"])
        session.absent()
        while session.step is not Step.READY:
            need = session.need
            assert need is not None
            session.receive(files["line" if need.role == "pump" else need.role])
        current(session.trust, "pump", NOW)
    except Refused as error:
        return str(error)
    return None


def verdict_there(repo: Repo, files: dict[str, bytes]) -> str | None:
    """As python-tuf's updater goes about it: held files first, and what they raise is ignored."""
    trusted = TrustedMetadataSet(repo.files["root"], EnvelopeType.METADATA)
    trusted.reference_time = datetime.fromtimestamp(NOW, UTC)
    try:
        trusted.update_root(files["root"])
        with suppress(RepositoryError):
            trusted.update_timestamp(repo.files["timestamp"])
        with suppress(EqualVersionNumberError):
            trusted.update_timestamp(files["timestamp"])
        held = False
        with suppress(RepositoryError):
            trusted.update_snapshot(repo.files["snapshot"], trusted=True)
            held = True
        if not held:
            trusted.update_snapshot(files["snapshot"])
        for role, name, above in (("targets", "targets", "root"), ("line", "pump", "targets")):
            try:
                trusted.update_delegated_targets(repo.files[role], name, above)
            except RepositoryError:
                trusted.update_delegated_targets(files[role], name, above)
    except (RepositoryError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def test_honest_generations_are_taken_by_both() -> None:
    repo, files = build("line", Change("nothing", None))
    assert verdict_here(repo, files) is None
    assert verdict_there(repo, files) is None


@pytest.mark.slow
def test_both_give_the_same_verdict_but_for_the_numbered_differences() -> None:
    chosen = [(role, change) for role in ROLES for change in CHANGES[role]]
    problems, seen, accepted = [], set[int](), 0
    for role, change in chosen:
        repo, files = build(role, change)
        here, there = verdict_here(repo, files), verdict_there(repo, files)
        accepted += here is None
        if (here is None) != (there is None):
            allowed = STRICTER if there is None else LAXER
            if change.difference in allowed:
                seen.add(change.difference or 0)
            else:
                problems.append(f"{role}: {change.what}: here {here or 'accepted'}; python-tuf {there or 'accepted'}")
    assert not problems, "\n".join(problems)
    assert seen | {4} == STRICTER.keys() | LAXER.keys(), "every difference that is listed is real"
    assert 30 < accepted < len(chosen) - 100


def test_difference_4_one_key_under_two_ids() -> None:
    """python-tuf counts the ids, so that one person with two ids is a quorum."""
    repo, files = build("line", Change("nothing", None))
    second = Repo()
    second.entries, second._root_signers = repo.entries, repo.keys["root"][:2]
    one = second.keys["line"][0]
    second.keys["line"] = [one, one.named("twin"), second.keys["line"][1]]
    second.versions = dict.fromkeys(ROLES, 1)
    second.publish(*ROLES)
    assert "pump signatures: expected 2 valid, got 1" in (verdict_here(repo, second.files) or "")
    assert verdict_there(repo, second.files) is None
    assert files["line"] != second.files["line"]
