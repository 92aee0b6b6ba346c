"""What a back-up cannot know: drafts that were finished since, new roots, other keys."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from sqlalchemy import select

from hillhold_signer import OnlineKey, OnlineSigners, Wish, add_release
from hillhold_signer.errors import SigningRefused
from hillhold_signer.roots import rotate
from hillhold_signer.service.backup import backup, restore
from hillhold_signer.service.journal import LogReader
from hillhold_signer.service.resuming import Seen, resume
from hillhold_signer.service.resuming_tree import ObjectsSource
from hillhold_signer.service.tables import SUBMISSIONS
from logs import KEYS, SIGNER
from oneservice import Make, Replica, started
from workshop import HARDWARE, NOW, ceremony, image, online, sign_all


def draft(replica: Replica, version: str, *names: str, seed: int) -> None:
    with replica.data.writing() as unit:
        add_release(
            unit.repository, "pump", image(version, seed=seed), Wish("app.bin", hardware=HARDWARE[:1]), unit.now
        )
        sign_all(unit.repository, *names)


def knows(replica: Replica) -> Seen:
    return Seen([ObjectsSource(replica.data.objects)], replica.checkpoint(), LogReader(replica.data.database))


def releases(replica: Replica) -> set[str]:
    with replica.data.reading() as unit:
        return set(unit.repository.state().line("pump").targets)


def test_a_draft_that_was_published_since_is_none_any_more(make: Make, tmp_path: Path) -> None:
    first, second = started(make()), make()
    draft(first, "1.1.0", "release-1", seed=2)
    made = backup(first.data, tmp_path / "kept", [SIGNER])
    with first.data.writing() as unit:
        sign_all(unit.repository, "release-2")
        unit.repository.publish(online(), unit.now)
    first.publish("1.2.0", seed=3)
    restore(tmp_path / "kept", made.name, second.data, KEYS)
    resume(second.data, knows(first), lambda _: online(), KEYS)
    with second.data.reading() as unit:
        state = unit.repository.state()
        assert (dict(state.drafts), dict(state.clashes)) == ({}, {})
    second.publish("1.3.0", seed=4)
    assert releases(second) == {f"pump/1.{number}.0/app.bin" for number in range(4)}
    second.check()


def test_what_was_drafted_and_not_published_is_handed_in_again(make: Make, tmp_path: Path) -> None:
    first, second = started(make()), make()
    draft(first, "1.3.0", "release-1", seed=2)
    with first.data.database.transaction() as connection:
        for version in ("1.0.0", "1.3.0"):
            row = {"path": f"pump/{version}/app.bin", "sha256": "00" * 32, "wish": "11" * 32, "account": 7, "time": NOW}
            connection.execute(SUBMISSIONS.insert().values(row))
    made = backup(first.data, tmp_path / "kept", [SIGNER])
    with first.data.writing() as unit:
        (digest,) = (found.digest for found in unit.repository.state().drafts.values())
        unit.repository.drop("pump", digest)
    first.publish("1.2.0", seed=3)
    restore(tmp_path / "kept", made.name, second.data, KEYS)
    assert resume(second.data, knows(first), lambda _: online(), KEYS).dropped == ("pump",)
    with second.data.database.snapshot() as connection:
        left = connection.execute(select(SUBMISSIONS.c.path).order_by(SUBMISSIONS.c.path)).all()
    assert [path for (path,) in left] == ["pump/1.0.0/app.bin"], "whoever hands it in again is heard"
    second.publish("1.3.0", seed=2)
    assert releases(second) == {f"pump/1.{number}.0/app.bin" for number in (0, 2, 3)}
    second.check()


def test_a_root_since_then_is_taken_over_and_its_online_keys_sign(make: Make, tmp_path: Path) -> None:
    first, second = started(make()), make()
    made = backup(first.data, tmp_path / "kept", [SIGNER])
    one, two = CryptoSigner.generate_ed25519(), CryptoSigner.generate_ed25519()
    keys = OnlineKey(one.public_key, "file:s.pem"), OnlineKey(two.public_key, "file:t.pem")
    with first.data.writing() as unit:
        rotate(unit.repository, replace(ceremony(), snapshot=keys[0], timestamp=keys[1]), unit.now)
        sign_all(unit.repository, "root-1", "root-2")
        unit.repository.publish(OnlineSigners(one, two, online()), unit.now)
    first.work()
    restore(tmp_path / "kept", made.name, second.data, KEYS)
    with pytest.raises(SigningRefused, match="key for timestamp"):
        resume(second.data, knows(first), lambda _: online(), KEYS)
    done = resume(second.data, knows(first), lambda _: OnlineSigners(one, two), KEYS)
    assert done.adopted["root"] == 2
    second.check()
    assert second.versions()["timestamp"] == first.versions()["timestamp"] + 1
