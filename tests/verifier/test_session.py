"""The session: what it asks for, in which order, and that a refusal ends it while what was accepted stays."""

from __future__ import annotations

from hashlib import sha256

import pytest

from forge import DAY, MAX_VERSION, T0, YEAR, Repo
from hillhold_verifier.errors import ExpiredError, MisuseError, OrderError, Refused, RollbackError, SignatureError
from hillhold_verifier.metadata import max_bytes
from hillhold_verifier.session import Need, Step, UpdateSession
from hillhold_verifier.trust import Trust
from holder import NOW, PUMP, fresh, holding


@pytest.fixture
def repo() -> Repo:
    repo = Repo()
    repo.add_release("1.1.0", b"image")
    repo.publish()
    return repo


def walk(session: UpdateSession, tree: dict[str, bytes], most: int = 40) -> list[str]:
    """Serve the session from a published tree, as an honest courier would; returns the names it asked for."""
    asked: list[str] = []
    while (need := session.need) and len(asked) < most:
        name = f"metadata/{need.file_name}"
        asked.append(need.file_name)
        if name in tree:
            assert len(tree[name]) <= need.max_length
            session.receive(tree[name])
            if need.role == "timestamp" and session.step is Step.TIMESTAMP:
                raise AssertionError("a timestamp is asked for once")
        else:
            assert need.optional, name
            session.absent()
    return asked


def start(trust: Trust, clock: int | None = NOW) -> UpdateSession:
    return UpdateSession(trust, PUMP, clock)


def test_a_fresh_device_asks_for_everything_in_order(repo: Repo) -> None:
    session = start(fresh(repo))
    asked = walk(session, repo.tree)
    assert asked == ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json", "1.pump.json"]
    assert session.step is Step.READY
    assert str(session.select({}, {}).require()[0].version) == "1.1.0"


def test_a_current_device_asks_for_the_timestamp_only(repo: Repo) -> None:
    session = start(holding(repo))
    assert walk(session, repo.tree) == ["2.root.json", "timestamp.json"]
    assert session.step is Step.READY


def test_only_what_changed_is_asked_for(repo: Repo) -> None:
    trust = holding(repo)
    repo.publish("line", "snapshot", "timestamp")
    assert walk(start(trust), repo.tree)[2:] == ["2.snapshot.json", "2.pump.json"]
    repo.publish("targets", "snapshot", "timestamp")
    assert walk(start(trust), repo.tree)[2:] == ["3.snapshot.json", "2.targets.json", "2.pump.json"]


def test_several_roots_are_followed(repo: Repo) -> None:
    trust = fresh(repo)
    for _ in range(3):
        repo.rotate("root", "timestamp", "snapshot")
    assert walk(start(trust), repo.tree)[:4] == ["2.root.json", "3.root.json", "4.root.json", "5.root.json"]


def test_what_is_needed_is_named_by_version_hash_and_length(repo: Repo) -> None:
    session = start(fresh(repo))
    session.absent()
    session.receive(repo.files["timestamp"])
    need = session.need
    assert need is not None
    assert (need.role, need.version, need.optional) == ("snapshot", 1, False)
    assert need.max_length == max_bytes("snapshot")
    assert need.sha256 is not None


def test_a_listed_length_bounds_what_is_needed(repo: Repo) -> None:
    def lengthy(length: int) -> int:
        data = repo.timestamp(version=5, edit=lambda s: s["meta"]["snapshot.json"].update(length=length))
        session = start(fresh(repo))
        session.absent()
        session.receive(data)
        assert session.need is not None
        return session.need.max_length

    assert lengthy(600) == 600
    assert lengthy(MAX_VERSION) == max_bytes("snapshot")


def test_without_a_courier_what_is_held_is_judged(repo: Repo) -> None:
    session = start(holding(repo))
    session.absent()
    session.absent()
    assert session.step is Step.READY
    assert session.select({}, {}).plan


def test_a_device_that_holds_nothing_cannot_go_on_without_a_timestamp(repo: Repo) -> None:
    session = start(fresh(repo))
    session.absent()
    with pytest.raises(Refused):
        session.absent()
    assert session.step is Step.FAILED


def test_a_listed_file_is_not_optional(repo: Repo) -> None:
    session = start(fresh(repo))
    session.absent()
    session.receive(repo.files["timestamp"])
    with pytest.raises(MisuseError):
        session.absent()
    assert session.step is Step.SNAPSHOT, "the caller's bug does not end the session"
    session.receive(repo.files["snapshot"])


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets", "line"])
def test_a_refusal_ends_the_session_and_what_was_accepted_stays(repo: Repo, role: str) -> None:
    repo.publish("root", "targets", "line", "snapshot", "timestamp")
    order = ["root", "timestamp", "snapshot", "targets", "line"]
    session = start(fresh_first(repo))
    for name in order[: order.index(role)]:
        session.receive(repo.files[name])
        if name == "root":
            session.absent()
    before = session.trust
    bad = repo.files[role].replace(b'"sig":"', b'"sig":"00')
    with pytest.raises(Refused):
        session.receive(bad)
    assert (session.step, session.need) == (Step.FAILED, None)
    assert session.trust is before
    with pytest.raises(OrderError):
        session.receive(repo.files[role])
    with pytest.raises(MisuseError):
        session.select({}, {})
    again = start(session.trust)
    walk(again, repo.tree)
    assert again.step is Step.READY, "a new session goes on from there"


def fresh_first(repo: Repo) -> Trust:
    first = Repo()
    first.files = {"root": repo.tree["metadata/1.root.json"]}
    return fresh(first)


def test_nothing_is_taken_once_it_is_ready(repo: Repo) -> None:
    session = start(holding(repo))
    session.absent()
    session.absent()
    with pytest.raises(MisuseError):
        session.receive(repo.files["timestamp"])
    assert session.step is Step.READY


def test_nothing_is_selected_before_it_is_ready(repo: Repo) -> None:
    session = start(holding(repo))
    with pytest.raises(MisuseError):
        session.select({}, {})


def test_an_old_timestamp_ends_the_session_but_not_the_device(repo: Repo) -> None:
    old = repo.files["timestamp"]
    repo.publish()
    trust = holding(repo)
    session = start(trust)
    session.absent()
    with pytest.raises(RollbackError):
        session.receive(old)
    assert session.trust is trust


def test_an_expired_chain_is_ready_but_nothing_is_selected(repo: Repo) -> None:
    late = T0 + 8 * DAY
    session = start(holding(repo), late)
    session.absent()
    session.receive(repo.files["timestamp"])
    assert session.step is Step.READY
    with pytest.raises(ExpiredError):
        session.select({}, {})
    assert session.step.value == "failed"


def test_roots_are_taken_even_when_the_held_one_has_expired(repo: Repo) -> None:
    late = T0 + 3 * YEAR
    trust = fresh(repo)
    for role in repo.expires:
        repo.expires[role] = late + DAY
    repo.publish("root", "targets", "line", "snapshot", "timestamp")
    session = start(trust, late)
    walk(session, repo.tree)
    assert session.select({}, {}).plan


def test_after_a_rotation_in_the_same_session_old_files_do_not_count(repo: Repo) -> None:
    trust, old = holding(repo), repo.files["timestamp"]
    repo.rotate("timestamp", "snapshot")
    session = start(trust)
    session.receive(repo.files["root"])
    session.absent()
    with pytest.raises(SignatureError):
        session.receive(old)
    assert session.trust.root.signed.version == 2


def test_each_need_is_stated_in_full(repo: Repo) -> None:
    session = start(fresh(repo))
    assert session.need == Need("root", 2, None, max_bytes("root"), True)
    session.absent()
    assert session.need == Need("timestamp", None, None, max_bytes("timestamp"), True)
    session.receive(repo.files["timestamp"])
    for role in ("snapshot", "targets", "line"):
        name = "pump" if role == "line" else role
        digest = sha256(repo.files[role]).digest()
        assert session.need == Need(name, 1, digest, max_bytes(name), False)
        session.receive(repo.files[role])
    end: tuple[object, object] = (session.step, session.need)
    assert end == (Step.READY, None)


def test_one_that_has_failed_goes_on_with_nothing(repo: Repo) -> None:
    session = start(fresh(repo))
    with pytest.raises(Refused):
        session.receive(b"junk")
    for go_on in (session.absent, lambda: session.receive(repo.files["root"])):
        with pytest.raises(OrderError, match="a new session"):
            go_on()


def test_a_trial_that_failed_here_is_not_selected_again(repo: Repo) -> None:
    session = start(holding(repo))
    session.absent()
    session.absent()
    assert session.select({}, {}).plan
    assert not session.select({}, {}, frozenset({sha256(b"image").digest()})).plan


def test_a_session_follows_256_roots_and_the_next_one_goes_on_from_there() -> None:
    """TUF 5.3.3 wants a bound: who serves roots without end would keep a device busy for ever."""
    repo = Repo()
    repo.publish()
    first = fresh(repo)
    for _ in range(258):
        repo.publish("root")
    asked = walk(start(first), repo.tree, most=1000)
    roots = [name for name in asked if name.endswith(".root.json")]
    assert roots == [f"{version}.root.json" for version in range(2, 258)]
    session = start(first)
    walk(session, repo.tree, most=1000)
    again = start(session.trust)
    assert walk(again, repo.tree)[:3] == ["258.root.json", "259.root.json", "260.root.json"]
    assert again.step is Step.READY


def test_a_caller_out_of_order_is_told_the_step(repo: Repo) -> None:
    session = start(fresh(repo))
    for step in ("root", "timestamp", "snapshot", "targets", "line"):
        with pytest.raises(MisuseError, match=f"the session is at step {step}, not ready"):
            session.select({}, {})
        if step not in ("root", "timestamp"):
            with pytest.raises(MisuseError, match=f"{step}: this file is not optional"):
                session.absent()
        if step == "root":
            session.absent()
        else:
            session.receive(repo.files[step])
    with pytest.raises(MisuseError, match="no metadata is needed at step ready"):
        session.receive(repo.files["timestamp"])
    with pytest.raises(MisuseError, match="ready: this file is not optional"):
        session.absent()
