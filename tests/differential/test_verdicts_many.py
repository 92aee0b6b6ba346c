"""The verifier and python-tuf on generated repositories, over several sessions each: a fixed number of cases, the same in every run.

`make differential CASES=100000 SEED=7` judges as many as one likes. What the two may differ in is in `differ.differences`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

import pytest
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface

from differ.cases import Plan, Visit, plan, play, smallest
from differ.differences import Rules
from differ.events import EVENTS
from differ.histories import Store
from differ.judges import CONFIG, There
from differ.mutations import MUTATIONS
from differ.ruled import Memo
from differ.runner import describe, run
from hillhold_verifier import client, trust
from hillhold_verifier.metadata import Envelope

SEED, CASES = 20260101, 600
MIN_ACCEPTED = 0.3
"""Cases whose first session nobody meddled with and both accepted: else the generator makes rubbish."""


@pytest.mark.slow
def test_the_verdicts_are_the_same_but_for_the_numbered_differences() -> None:
    tally = run(SEED, 0, CASES)
    assert not tally.failures, "\n".join(describe(SEED, number) for number, _ in tally.failures[:3])
    assert tally.cases["all"] == CASES
    assert tally.cases["accepted after a clean start"] >= MIN_ACCEPTED * CASES
    for name in (*(f"mutation: {name}" for name in MUTATIONS), *(f"event: {name}" for name in EVENTS)):
        assert tally.seen[name], f"no case with {name}"
    for side in ("here", "python-tuf"):
        for verdict in ("accepted", *(f"refused at {role}" for role in ("root", "timestamp", "snapshot", "targets"))):
            assert tally.verdicts[f"{side}: {verdict}"], f"{side} never came to {verdict}"
        assert all(tally.answers[f"{side}: {answer}"] for answer in ("found", "none", "refused"))


def _always(*_: object, **__: object) -> bool:
    return True


def _nothing(*_: object, **__: object) -> None:
    return None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name", "broken"),
    [
        (client, "check_expiry", _nothing),
        (trust, "_check_claims", _nothing),
        (trust, "_check_floor", _nothing),
        (client, "is_listed", _always),
        (Envelope, "signer", lambda self, signature, key, schemes: key.fingerprint(schemes)),
    ],
)
def test_a_broken_verifier_is_found(
    monkeypatch: pytest.MonkeyPatch, module: object, name: str, broken: Callable[..., object]
) -> None:
    """The first cases that show it, of seed 1: as many as it takes are few enough."""
    monkeypatch.setattr(module, name, broken)
    found = next((number for number in range(300) if run(1, number, 1).failures), None)
    assert found is not None
    assert f"seed 1 case {found}" in describe(1, found)


def test_a_failing_case_is_cut_down_to_what_makes_it_fail() -> None:
    """Here, to "fail" is to have a rollback somewhere and a rotation before it."""

    def fails(one: Plan) -> bool:
        names = [part.name for session in one.sessions for part in (*session.events, *session.mutations)]
        return "rollback" in names and "rotate" in names[: names.index("rollback")]

    whole = next(one for one in (plan(1, number) for number in range(10_000)) if fails(one) and len(one.sessions) > 2)
    least = smallest(whole, fails)
    parts = [part.name for session in least.sessions for part in (*session.events, *session.mutations)]
    assert parts == ["rotate", "rollback"]
    assert len(least.sessions) <= 2
    assert play(least).visits


# --- python-tuf in memory is python-tuf -----------------------------------------------------------------------------


class FromMemory(FetcherInterface):
    """Files of `served`, by their addresses."""

    def __init__(self, served: Store) -> None:
        self.files = {
            f"{role}.json" if version is None else f"{version}.{role}.json": data
            for (role, version), data in served.items()
        }

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = unquote(url.rpartition("/")[2])
        if name not in self.files:
            raise DownloadHTTPError("missing", 404)
        yield self.files[name]


def on_disk(folder: Path, visit: Visit) -> tuple[bool, list[object], dict[str, bytes]]:
    """One session of python-tuf's own updater: whether it was accepted, what it found, and its files."""
    updater = Updater(str(folder), "memory:/", fetcher=FromMemory(visit.served), config=CONFIG, bootstrap=None)
    updater._trusted_set.reference_time = datetime.fromtimestamp(visit.now, UTC)
    accepted, answers = False, list[object]()
    try:
        updater.refresh()
        accepted = True
        for path in visit.paths:
            try:
                found = updater.get_targetinfo(path)
                answers.append(("found", found.length) if found else ("none", ""))
            except Exception:
                answers.append("refused")
    except Exception:
        answers = []
    return accepted, answers, {unquote(path.stem): path.read_bytes() for path in folder.glob("*.json")}


def test_python_tuf_in_memory_is_python_tuf_on_a_disk(tmp_path: Path) -> None:
    both = set[bool]()
    for number in range(40):
        case = play(plan(2, number))
        folder = tmp_path / f"{number}"
        folder.mkdir()
        (folder / "root.json").write_bytes(case.root)
        memory = There(case.root, Rules(frozenset()), Memo())
        for visit in case.visits:
            verdict = memory.session(visit.served, visit.now, visit.paths)
            try:
                accepted, answers, kept = on_disk(folder, visit)
            except Exception:  # a first root that python-tuf does not take
                assert verdict.refused == "root"
                break
            assert (verdict.refused is None, verdict.kept) == (accepted, kept)
            shown = [
                "refused" if kind == "refused" else (kind, what[0] if isinstance(what, tuple) else what)
                for kind, what in verdict.answers
            ]
            assert shown == answers
            both.add(accepted)
    assert both == {True, False}
