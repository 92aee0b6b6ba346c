"""An audit and a fresh device agree: what one finds current, the other accepts, on repositories that were spoilt in every way.

A case is a repository in which one thing was changed: a field of one file (signed and listed honestly
then, or not), a byte, a file that is missing or another one's. Cases are numbered and the same in every run.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import pytest

from forge import DAY, HOUR, MAX_VERSION, T0, Object, Repo, date, keys
from hillhold_verifier.audit import Level, Report, audit
from hillhold_verifier.errors import Refused
from hillhold_verifier.metadata import ROOT, parse_root
from hillhold_verifier.select import Device, Outcome, Selection
from hillhold_verifier.session import MAX_ROOTS, UpdateSession
from hillhold_verifier.trust import Trust, verify
from holder import make
from offers import TreeSource

NOW: Final = T0 + DAY
ROLES: Final = ("root", "timestamp", "snapshot", "targets", "line")
PUMP: Final = Device("pump", "nrf-a", "serial-1")
VALUES: Final[tuple[object, ...]] = (
    *(..., None, True, 0, 1, 2, 3, -1, 5, 100, MAX_VERSION, 2**53, 1.5, "", "x", "pump", "nrf-b", "root", "\x1b[2J"),
    *(
        date(T0 - DAY),
        date(NOW),
        date(NOW + HOUR),
        date(NOW + 400 * DAY),
        "0" * 64,
        "00",
        "other/*/*",
        "1.0.0",
        "1.1.0",
    ),
    *([], {}, ["a", "a"], ["nrf-a"], ["nrf-a", "nrf-b"], ["1.1.0"], [1], {"sha256": "0" * 64}, {"sha512": "0" * 128}),
)


def fresh_device(source: TreeSource, root: bytes, device: Device = PUMP, now: int = NOW) -> Selection | str:
    """What a device that is provisioned with `root` now chooses, or the refusal. Any other exception is a bug."""
    try:
        anchor = parse_root(root)
        verify(anchor, ROOT, anchor.signed.roles[ROOT], anchor.signed.keys)
        session = UpdateSession(Trust(anchor), device, now)
        while need := session.need:
            data = source.metadata(need.file_name)
            if data is None and not need.optional:
                return f"{need.file_name} is missing"
            if data is None:
                session.absent()
            else:
                session.receive(data)
        return session.select({}, {})
    except Refused as error:
        return str(error)


def agree(tree: Mapping[str, bytes], root: bytes, now: int = NOW) -> tuple[Report | None, Selection | str]:
    """Hold that both say the same of the line; returns what they say."""
    source = TreeSource(tree)
    chosen = fresh_device(source, root, now=now)
    try:
        report = audit(source, root, now)
    except Refused as error:
        assert chosen == str(error), "only a root that is malformed ends an audit"  # noqa: PT017
        return None, chosen
    line = next((line for line in report.lines if line.product == "pump"), None)
    assert (line is not None and line.accepted) == isinstance(chosen, Selection), (chosen, report.findings)
    if isinstance(chosen, str):
        if report.verdict is not Level.REFUSED:  # a line that was retired, say: no line, unless it is asked for
            report = audit(source, root, now, products=["pump"])
        assert report.verdict is Level.REFUSED, chosen
        assert line is None or not report.is_good(line)
    elif line and report.is_good(line):
        refused = [verdict for verdict in chosen.verdicts if verdict.outcome is Outcome.REFUSED]
        assert not refused
    return report, chosen


# --- repositories -----------------------------------------------------------------------------------------------------


def repository() -> Repo:
    """Two roots, two releases and a patch; a copy, to be spoilt."""
    return copy.deepcopy(honest())


@cache
def honest() -> Repo:
    repo = Repo()
    repo.offline_grace = 3 * DAY
    repo.add_release("1.0.0", b"image")
    repo.publish()
    makes = repo.add_release("1.1.0", b"newer image", counter=2, requires={"app": "1.0.0"}, downgrade_from=["1.2.0"])
    repo.add_patch(makes, b"image", b"patch", algorithm="other")
    repo.publish(*ROLES)
    return repo


def edit(signed: Object, chance: random.Random) -> None:
    """Change one value, anywhere."""
    at: Any = signed
    while True:
        name = chance.choice(list(at) if isinstance(at, dict) else list(range(len(at))))
        inner = at[name]
        if isinstance(inner, dict | list) and inner and chance.random() < 0.8:
            at = inner
            continue
        value = chance.choice(VALUES)
        if value is ...:
            del at[name]
        else:
            at[name] = value
        return


def spoil(whole: Object, chance: random.Random) -> None:
    """Change the signatures."""
    signatures = whole["signatures"]
    how = chance.randrange(5)
    if how == 0:
        signatures.pop()
    elif how == 1:
        signatures.append(dict(signatures[0]))
    elif how == 2:
        signatures[0]["keyid"] = "twin"
    elif how == 3:
        signatures[0]["sig"] = signatures[-1]["sig"][::-1]
    else:
        whole["signed"]["version"] += 1


def spoilt(case: int) -> tuple[dict[str, bytes], bytes]:
    """A tree in which one thing is wrong, and the root that is trusted."""
    chance = random.Random(case)
    repo = repository()
    first = repo.tree["metadata/1.root.json"]
    role = ROLES[case % len(ROLES)]
    way = chance.randrange(10)
    if way == 0:
        repo.tree.pop(chance.choice(sorted(repo.tree)))
        return repo.tree, first
    if way == 1:
        name, other = chance.sample(sorted(repo.tree), 2)
        repo.tree[name] = repo.tree[other]
        return repo.tree, first
    if way == 2:
        name = chance.choice(sorted(repo.tree))
        flipped = bytearray(repo.tree[name])
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
        repo.tree[name] = bytes(flipped)
        return repo.tree, first
    over: dict[str, object] = {"version": repo.versions[role]}
    if way == 3:
        over["signers"] = chance.choice(
            [keys("mallory"), repo.keys[role][:1], [*repo.keys[role], *keys("mallory")], []]
        )
    elif way == 4:
        over["edit_envelope"] = lambda whole: spoil(whole, chance)
    else:
        over["edit"] = lambda signed: edit(signed, chance)
    try:
        data = make(repo, role, **over)
        honest = chance.random() < 0.9
        _publish(repo, role, data, honest=honest)
    except (KeyError, TypeError, ValueError, AttributeError):
        pass  # no version that a lister could repeat: the file lies there unlisted
    given = repo.tree["metadata/2.root.json"] if role == "root" and chance.random() < 0.3 else first
    return repo.tree, given


def _publish(repo: Repo, role: str, data: bytes, *, honest: bool) -> None:
    name = {"line": "2.pump", "timestamp": "timestamp"}.get(role, f"2.{role}")
    repo.tree[f"metadata/{name}.json"] = repo.files[role] = data
    if honest and role in ("targets", "line", "snapshot"):
        if role != "snapshot":
            repo.tree["metadata/2.snapshot.json"] = repo.files["snapshot"] = repo.snapshot(version=2)
        repo.tree["metadata/timestamp.json"] = repo.timestamp(version=2)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_an_audit_and_a_fresh_device_say_the_same(part: int) -> None:
    accepted = refused = good = 0
    for case in range(part * 100, part * 100 + 100):
        report, chosen = agree(*spoilt(case))
        accepted += isinstance(chosen, Selection)
        refused += isinstance(chosen, str)
        good += report is not None and report.verdict <= Level.WARNING
    assert min(accepted, refused, good) > 10, (accepted, refused, good)


@pytest.mark.parametrize("days", [0, 6, 7, 9, 10, 11, 29, 30, 33, 364, 366, 730, 731])
def test_they_agree_at_any_time(days: int) -> None:
    """Timestamp, snapshot, both with grace, line and root expire one after the other."""
    tree = honest().tree
    for second in (-1, 0, 1):
        report, chosen = agree(tree, tree["metadata/1.root.json"], T0 + days * DAY + second)
        assert report is not None
        assert (report.verdict is Level.REFUSED) == isinstance(chosen, str)


def test_they_agree_where_the_clock_is_behind_the_timestamp() -> None:
    repo = repository()
    repo.issued = T0 + 20 * DAY
    repo.publish()
    tree = repo.tree
    report, chosen = agree(tree, tree["metadata/1.root.json"])
    assert report is not None
    assert report.now == T0 + 20 * DAY
    assert report.verdict is Level.REFUSED
    assert isinstance(chosen, str)
    repo.expires["timestamp"] = repo.expires["snapshot"] = T0 + 30 * DAY
    repo.publish()
    report, chosen = agree(repo.tree, tree["metadata/1.root.json"])
    assert report is not None
    assert report.verdict is Level.WARNING


@pytest.mark.slow
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_they_follow_as_many_roots(more: int) -> None:
    repo = repository()
    first = repo.tree["metadata/1.root.json"]
    while repo.versions["root"] < 1 + MAX_ROOTS + more:
        repo.publish("root")
    report, chosen = agree(repo.tree, first)
    assert report is not None
    assert len(report.roots) == min(1 + MAX_ROOTS, repo.versions["root"])
    assert isinstance(chosen, Selection)
    assert any("more roots follow" in finding.message for finding in report.findings) == (more == 1)
