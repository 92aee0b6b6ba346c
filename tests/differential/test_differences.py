"""One small case for each numbered difference, written by hand: the two differ in it, and its number alone says why.

What only devices see (differences 1 and 7) is in `test_verdicts_small`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha3_256

import pytest

from differ.cases import Case, Outcome, Visit, judge
from differ.differences import ALL
from differ.histories import Store
from differ.keyring import signer
from forge import DAY, HOUR, T0, Edit, Object, Repo, date, key, version_of

NOW = T0 + HOUR
PATH = "pump/1.0.0/app.bin"


class Sessions:
    """A repository of one product, and the visits of a client that was provisioned with its first root."""

    def __init__(self) -> None:
        self.repo = Repo()
        self.repo.add_release("1.0.0", b"one")
        self.repo.publish()
        self.visits: list[Visit] = []

    def visit(self, now: int = NOW, **other: bytes) -> None:
        """The client comes. `other`: files in place of what is published, under the version that is."""
        served: Store = {}
        for name, data in self.repo.tree.items():
            folder, _, file = name.partition("/")
            first, _, rest = file.removesuffix(".json").partition(".")
            if folder == "metadata":
                served[(rest, int(first)) if rest else (first, None)] = data
        for role, data in other.items():
            served[role, None if role == "timestamp" else version_of(data)] = data
        self.visits.append(Visit(served, now, (PATH, "nothing")))

    def root(self, edit: Edit) -> None:
        """Publish a second root, and visit."""
        self.repo.publish(root=self.repo.root(edit=edit))
        self.visit()

    def timestamp(self, edit: Edit) -> None:
        """Publish a timestamp, and visit."""
        self.repo.publish("timestamp", timestamp=self.repo.timestamp(edit=edit))
        self.visit()

    def snapshot(self, edit: Edit) -> None:
        """Publish a snapshot and its timestamp."""
        snapshot = self.repo.snapshot(edit=edit)
        self.repo.publish("snapshot", snapshot=snapshot, timestamp=self.repo.timestamp(snapshot=snapshot))

    def outcome(self) -> Outcome:
        root = self.repo.tree["metadata/1.root.json"]
        return judge(Case(root, tuple(self.visits), frozenset()))


def listed(**fields: object) -> Edit:
    """Change what a timestamp says of the snapshot."""
    return lambda body: body["meta"]["snapshot.json"].update(fields)


@dataclass(frozen=True)
class Foreign:
    """A key of another kind, where `forge` signs."""

    kind: str

    @property
    def keyid(self) -> str:
        return signer("foreign", self.kind).keyid

    @property
    def entry(self) -> Object:
        return signer("foreign", self.kind).entry

    def sign(self, message: bytes) -> bytes:
        return bytes.fromhex(signer("foreign", self.kind).sign(message))


def own_field(s: Sessions) -> None:
    s.timestamp(lambda body: body.update({"x-hillhold-issued": "now"}))


def one_key_twice(s: Sessions) -> None:
    one = s.repo.keys["line"][0]
    s.repo.keys["line"] = [one, one.named("twin")]
    s.repo.publish("targets", "line", "snapshot", "timestamp")
    s.visit()


def float_outside(s: Sessions) -> None:
    s.repo.publish("timestamp", timestamp=s.repo.timestamp(edit_envelope=lambda whole: whole.update(more=1.5)))
    s.visit()


def hash_unknown(s: Sessions) -> None:
    s.timestamp(listed(hashes={"sha3_256": sha3_256(s.repo.files["snapshot"]).hexdigest()}))


def same_version_other_hash(s: Sessions) -> None:
    s.visit()
    again = s.repo.snapshot(version=1, expires=T0 + 20 * DAY)
    s.repo.publish(snapshot=again, timestamp=s.repo.timestamp(snapshot=again))
    s.visit(snapshot=again)


def no_boolean(s: Sessions) -> None:
    s.root(lambda body: body.update(consistent_snapshot=1))


def crowd(s: Sessions) -> None:
    crowd = [key("mallory").named(f"m{n}") for n in range(64)]
    signers = [*s.repo.keys["timestamp"], *crowd]
    s.repo.publish("timestamp", timestamp=s.repo.timestamp(signers=signers))
    s.visit()


def expired_and_forgotten(s: Sessions) -> None:
    s.visit()
    first = s.repo.files["timestamp"]
    s.repo.publish("timestamp")
    s.visit(now=NOW + 8 * DAY)
    s.visit(timestamp=first)


def signed_in_the_future(s: Sessions) -> None:
    s.timestamp(lambda body: body.update({"x-hillhold-issued": date(T0 + 20 * DAY)}))


def unusable_quorum(s: Sessions) -> None:
    def spoil(body: Object) -> None:
        for keyid in body["roles"]["targets"]["keyids"]:
            body["keys"][keyid]["keyval"]["public"] = "00"

    s.root(spoil)


def old_scheme(s: Sessions) -> None:
    s.repo.keys["line"] = [Foreign("pkcs1")]  # type: ignore[list-item]
    s.repo.thresholds["line"] = 1
    s.repo.publish("targets", "line", "snapshot", "timestamp")
    s.visit()


def no_json(s: Sessions) -> None:
    s.snapshot(lambda body: body["meta"].update({"other": {"version": 1}}))
    s.visit()


def expired_and_signed_again(s: Sessions) -> None:
    s.repo.expires["targets"] = NOW + HOUR
    s.repo.publish("targets")
    s.snapshot(lambda body: body["meta"]["targets.json"].pop("hashes"))
    s.visit()
    s.visit(now=NOW + 2 * HOUR, targets=s.repo.targets(version=2, expires=NOW + DAY))


def mirrors(s: Sessions) -> None:
    s.root(lambda body: body["roles"].update(mirrors={"keyids": [], "threshold": 1}))


def new_key_type(s: Sessions) -> None:
    s.root(lambda body: body["keys"].update(new={"keytype": "new", "scheme": "new", "keyval": {"x": 1}}))


def other_hash_beside(s: Sessions) -> None:
    s.timestamp(lambda body: body["meta"]["snapshot.json"]["hashes"].update(md5="0" * 32))


def brackets(s: Sessions) -> None:
    paths = ["pump/[1-9].0.0/*"]
    s.repo.publish(targets=s.repo.targets(edit=lambda body: body["delegations"]["roles"][0].update(paths=paths)))
    s.repo.publish()
    s.visit()


def another_in_meta(s: Sessions) -> None:
    s.timestamp(lambda body: body["meta"].update({"other.json": {"version": 1}}))


EXAMPLES: dict[int, Callable[[Sessions], None]] = {
    2: own_field,
    4: one_key_twice,
    5: float_outside,
    6: hash_unknown,
    8: same_version_other_hash,
    9: no_boolean,
    10: crowd,
    11: expired_and_forgotten,
    12: signed_in_the_future,
    13: unusable_quorum,
    14: old_scheme,
    15: no_json,
    16: expired_and_signed_again,
    20: mirrors,
    23: new_key_type,
    24: other_hash_beside,
    25: brackets,
    26: another_in_meta,
}
OF_DEVICES = {1, 7}


@pytest.mark.parametrize("number", EXAMPLES)
def test_the_number_alone_explains(number: int) -> None:
    sessions = Sessions()
    EXAMPLES[number](sessions)
    outcome = sessions.outcome()
    assert outcome.unexplained is None
    assert outcome.here != outcome.there
    assert outcome.differences == {number}


def test_each_difference_has_an_example() -> None:
    assert EXAMPLES.keys() | OF_DEVICES == ALL


def test_honest_sessions_are_judged_alike() -> None:
    sessions = Sessions()
    sessions.visit()
    sessions.repo.rotate("timestamp", "snapshot", "line")
    sessions.visit(now=NOW + DAY)
    outcome = sessions.outcome()
    assert outcome.here == outcome.there
    assert [(verdict.refused, verdict.answers[0][0]) for verdict in outcome.here] == [(None, "found")] * 2
