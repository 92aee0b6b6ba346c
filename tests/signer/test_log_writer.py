"""The writer: what is appended stays, whatever is cut off, and nobody is shown two pasts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hillhold_signer.errors import EntryRefused, LockedError, LogRefused, NoteRefused, StorageError
from hillhold_signer.log import (
    Checkpoint,
    FolderStore,
    NoteSigner,
    Proof,
    Store,
    Tree,
    create_log,
    fetch_checkpoint,
    open_kept,
    open_log,
)
from hillhold_signer.log.note import open_note, sign_note
from hillhold_signer.log.stores import PENDING
from hillhold_signer.log.tiles import MAX_BUNDLE
from hillhold_signer.log.writer import MAX_BATCH
from hillhold_verifier.errors import MisuseError
from logs import (
    KEYS,
    ORIGIN,
    SIGNER,
    Killed,
    MemoryStore,
    TearingFolder,
    When,
    check,
    events,
    filled,
    key_signer,
    mth,
    path,
    proof,
)


def held(store: Store) -> list[bytes]:
    """All entries of a log, after all of it was checked."""
    checkpoint = check(store, KEYS)
    return [entry for _, entry in Tree(store, checkpoint.size, checkpoint.root).iterate()]


def copied(store: MemoryStore, cut: int | None = None, when: When = "before") -> MemoryStore:
    return MemoryStore(store.files, cut, when)


def test_a_log_is_made_empty_and_only_once() -> None:
    store = MemoryStore()
    assert create_log(store, [SIGNER]).checkpoint == Checkpoint(ORIGIN, 0, mth([]))
    assert list(store.files) == ["checkpoint"]
    assert held(store) == []
    with pytest.raises(LogRefused, match="new log"):
        create_log(store, [SIGNER])
    for name in ("tile/0/000.p/1", PENDING):
        with pytest.raises(LogRefused, match="new log"):
            create_log(MemoryStore({name: b"x"}), [SIGNER])


def test_entries_have_the_indices_in_which_they_came(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "log")
    create_log(store, [SIGNER])
    with open_log(store, [SIGNER]) as log:
        assert log.append([]) == range(0)
        assert log.append(events(0, 3)) == range(3)
        assert log.append(events(3, 300)) == range(3, 300)
    with open_log(store, [SIGNER]) as log:
        assert log.size == 300
        assert log.append(events(300, 513)) == range(300, 513)
        assert log.checkpoint.checkpoint == Checkpoint(ORIGIN, 513, mth(events(0, 513)))
        for index in (0, 255, 256, 511, 512):
            found = log.prove(index)
            assert list(found.hashes) == path(index, events(0, 513))
            Proof.parse(found.data).verify(events(index, index + 1)[0], KEYS)
        for old in (1, 3, 300, 512):
            assert log.tree().prove_consistency(old) == proof(old, events(0, 513))
        with pytest.raises(LogRefused, match="below the log's size, 513, got 513"):
            log.prove(513)
    assert held(store) == events(0, 513)


def test_full_tiles_take_the_place_of_partial_ones(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "log")
    filled(store, 1, 2, 3, 200)
    assert store.list("tile/0") == ["000.p"]
    assert sorted(store.list("tile/0/000.p"), key=int) == ["1", "3", "6", "206"]  # each had its checkpoint
    with open_log(store, [SIGNER]) as log:
        log.append(events(206, 300))
    assert store.list("tile/0") == store.list("tile/entries") == ["000", "001.p"]
    assert not (tmp_path / "log/tile/0/000.p").exists()
    assert store.list("tile/1/000.p") == ["1"]
    with open_log(store, [SIGNER]) as log:
        log.append(events(300, 513))
    assert store.list("tile/1/000.p") == ["1", "2"]
    assert not (tmp_path / "log/.pending").exists()
    assert held(store) == events(0, 513)


def test_what_somebody_put_among_the_partial_tiles_is_left_alone(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "log")
    filled(store, 200)
    strays = [tmp_path / "log/tile/0/000.p" / name for name in ("notes.txt", "256", "007")]
    for stray in strays:
        stray.write_bytes(b"?")
    with open_log(store, [SIGNER]) as log:
        assert log.append(events(200, 300)) == range(200, 300)
    assert all(stray.exists() for stray in strays)
    assert not (tmp_path / "log/tile/0/000.p/200").exists()
    with pytest.raises(LogRefused, match="tile path"):
        check(store)


def test_what_may_not_go_in_changes_nothing() -> None:
    store = MemoryStore()
    filled(store, 5)
    before = dict(store.files)
    with open_log(store, [SIGNER]) as log:
        for batch in ([b"x" * 65_536], [b"x"] * (MAX_BATCH + 1), [b"x" * 65_535] * 1025):
            with pytest.raises(EntryRefused):
                log.append(batch)
        assert store.files == before
        writes = store.count
        assert log.append([]) == range(5, 5)
        assert store.count == writes
        log.append([b"", b"x" * 65_535])
    assert held(store)[5:] == [b"", b"x" * 65_535]
    with pytest.raises(MisuseError, match="closed"):
        log.append([b"late"])


def test_the_largest_entries_fill_a_bundle() -> None:
    store, entry = MemoryStore(), b"x" * 65_535
    create_log(store, [SIGNER])
    with open_log(store, [SIGNER]) as log:
        log.append([entry] * 256)
    assert len(store.files["tile/entries/000"]) == MAX_BUNDLE
    assert held(store) == [entry] * 256


def test_a_proof_at_an_older_checkpoint_stays_good() -> None:
    store = MemoryStore()
    create_log(store, [SIGNER])
    proofs = []
    with open_log(store, [SIGNER]) as log:
        for count in (1, 5, 250, 300):
            log.append(events(log.size, log.size + count))
            proofs.append(log.prove(log.size - 1))
    for found in proofs:
        older = found.verify(events(found.index, found.index + 1)[0], KEYS).checkpoint
        check(store, KEYS, [older])


# --- power cuts -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "torn", "after"])
@pytest.mark.parametrize(("start", "count"), [(0, 1), (3, 2), (250, 6), (255, 2), (256, 1), (200, 400), (510, 3)])
def test_a_cut_at_any_write_leaves_the_old_log_or_the_new(start: int, count: int, when: When) -> None:
    base = MemoryStore()
    filled(base, *([start] if start else []))
    signed: dict[int, set[bytes]] = {}

    def spy(text: bytes) -> bytes:
        lines = text.split(b"\n")
        if lines[1] != b"pending":
            signed.setdefault(int(lines[1]), set()).add(lines[2])
        return SIGNER.sign(text)

    spying = NoteSigner(SIGNER.verifier, spy)
    cut = 0
    while True:
        store = copied(base, cut, when)
        try:
            with open_log(store, [spying]) as log:
                log.append(events(start, start + count))
            break
        except Killed:
            pass
        store = copied(store)
        assert held(store) in (events(0, start), events(0, start + count)), f"{when} write {cut}"
        # What is decided stays decided; what is not may be anything else.
        with open_log(store, [spying]) as log:
            assert log.size == (start if cut == 0 and when != "after" else start + count), f"{when} write {cut}"
            log.append(events(log.size, start + count + 1))
        assert held(store) == events(0, start + count + 1), f"{when} write {cut}"
        assert PENDING not in store.files
        cut += 1
    assert cut >= 4  # pending, entries, tile, checkpoint; removals
    assert all(len(roots) == 1 for roots in signed.values()), "two checkpoints of one size were signed"


@pytest.mark.parametrize("when", ["before", "torn", "after"])
def test_a_cut_while_what_was_cut_off_is_finished(when: When) -> None:
    base = MemoryStore()
    filled(base, 250)
    for first in range(1, 6):
        store = copied(base, first)
        with pytest.raises(Killed), open_log(store, [SIGNER]) as log:
            log.append(events(250, 260))
        for second in range(6):
            again = copied(store, second, when)
            try:
                with open_log(again, [SIGNER]):
                    pass
            except Killed:
                pass
            again = copied(again)
            with open_log(again, [SIGNER]) as log:
                assert log.size == 260
            assert held(again) == events(0, 260)


def test_a_folder_whose_power_fails_within_a_write(tmp_path: Path) -> None:
    for cut in range(12):
        store = TearingFolder(tmp_path / f"{cut}")
        filled(store, 250)
        store.count, store.cut, store.when = 0, cut, "torn"
        try:
            with open_log(store, [SIGNER]) as log:
                log.append(events(250, 260))
            break
        except Killed:
            assert list((tmp_path / f"{cut}").rglob(".*.tmp"))
        store.cut = None
        with open_log(store, [SIGNER]) as log:
            assert log.size in (250, 260)
            log.append(events(log.size, 600))
        assert held(store) == events(0, 600)
    assert cut > 5


CHILD = """
import sys
from pathlib import Path
from hillhold_signer.log import FolderStore, open_log
from logs import SIGNER, events
with open_log(FolderStore(Path(sys.argv[1])), [SIGNER]) as log:
    while True:
        done = log.append(events(log.size, log.size + 7))
        print(done.stop, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_process_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    folder, acknowledged = tmp_path / "log", 0
    create_log(FolderStore(folder), [SIGNER])
    for round_ in range(4):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE, env=paths())
        assert child.stdout
        for _ in range(3 + round_):
            acknowledged = int(child.stdout.readline())
        time.sleep(0.003 * round_)
        os.kill(child.pid, signal.SIGKILL)
        rest = child.stdout.read().splitlines()
        acknowledged = int(rest[-1]) if rest else acknowledged
        child.wait()
        child.stdout.close()
        found = held(FolderStore(folder))
        assert len(found) >= acknowledged
        assert found == events(0, len(found))


def paths() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(name for name in sys.path if name)}


def test_a_full_disk_loses_nothing_and_the_log_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStore(tmp_path / "log")
    filled(store, 250)
    for calls in range(8):  # the file and the folder of each: decision, entries, tile, checkpoint
        left = [calls]

        def full(descriptor: int, left: list[int] = left, sync=os.fsync) -> None:  # type: ignore[no-untyped-def]
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, "No space left on device")
            sync(descriptor)

        with open_log(store, [SIGNER]) as log:
            size = log.size
            with monkeypatch.context() as patch:
                patch.setattr("os.fsync", full)
                with pytest.raises(StorageError, match="No space left") as failed:
                    log.append(events(size, size + 10))
            assert failed.value.exit_code == 3
            with pytest.raises(MisuseError, match="open it again"):
                log.append(events(size, size + 10))
        found = held(store)
        assert len(found) in (size, size + 10)
        with open_log(store, [SIGNER]) as log:
            log.append(events(log.size, size + 11))
        assert held(store) == events(0, size + 11)


# --- two writers ------------------------------------------------------------------------------------------------------


def test_two_writers_exclude_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hillhold_signer.storage.LOCK_PAUSE", 0.001)
    store = FolderStore(tmp_path / "log")
    filled(store, 3)
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(store.path)], stdout=subprocess.PIPE, env=paths())
    assert child.stdout
    child.stdout.readline()
    with pytest.raises(LockedError, match="in use by another process") as refused, open_log(store, [SIGNER]):
        pass
    assert refused.value.hint
    child.kill()
    child.wait()
    child.stdout.close()
    with open_log(store, [SIGNER]) as log:
        assert log.append([b"x"])
        with pytest.raises(LockedError), open_log(FolderStore(store.path), [SIGNER]):
            pass
    assert held(store)[-1] == b"x"


def test_an_audit_of_a_folder_in_which_a_writer_is_at_work(tmp_path: Path) -> None:
    """Tiles lie beyond the checkpoint, and partial ones go, while it reads."""
    store = FolderStore(tmp_path / "log")
    create_log(store, [SIGNER])
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(store.path)], stdout=subprocess.PIPE, env=paths())
    assert child.stdout
    child.stdout.readline()
    kept: list[Checkpoint] = []
    while len(kept) < 20 or kept[-1].size < kept[0].size + 300:
        kept.append(check(store, kept=kept[-3:]))
    child.kill()
    child.wait()
    child.stdout.close()
    assert held(store)[: kept[-1].size] == events(0, kept[-1].size)


def test_a_writer_that_found_no_lock_overwrites_nothing() -> None:
    """Two machines on one network folder whose locks do not work: the second is refused, and the log is whole."""
    one = MemoryStore()
    filled(one, 10)
    two = MemoryStore()
    two.files = one.files
    with open_log(one, [SIGNER]) as first, open_log(two, [SIGNER]) as second:
        first.append([b"first"])
        with pytest.raises(LogRefused, match="a new file"):
            second.append([b"second"])
    assert held(one)[10:] == [b"first"]


# --- what is not this log any more ------------------------------------------------------------------------------------


def test_another_key_opens_nothing_and_a_new_one_takes_over_from_the_old() -> None:
    store, new = MemoryStore(), key_signer(ORIGIN, 9)
    filled(store, 5)
    before = dict(store.files)
    with pytest.raises(NoteRefused, match="signature"), open_log(store, [new]):
        pass
    with pytest.raises(NoteRefused), open_log(store, [key_signer("log.example/other", 9)]):
        pass
    with pytest.raises(MisuseError, match="one origin"), open_log(store, [SIGNER, key_signer("log.example/other", 9)]):
        pass
    with pytest.raises(LogRefused, match="origin"), open_log(store, [key_signer("log.example/other", 9)], KEYS):
        pass
    assert store.files == before
    with open_log(store, [SIGNER, new]) as log:  # for a while both sign
        log.append(events(5, 6))
        assert len(log.checkpoint.signatures) == 2
    with open_log(store, [new]) as log:
        log.append(events(6, 7))
    check(store, [new.verifier])
    with pytest.raises(NoteRefused):
        check(store, KEYS)


def test_a_change_of_key_by_way_of_the_former_one() -> None:
    store, new = MemoryStore(), key_signer(ORIGIN, 9)
    filled(store, 5)
    store = copied(store, 1)
    with pytest.raises(Killed), open_log(store, [SIGNER]) as log:
        log.append(events(5, 7))
    store = copied(store)
    with open_log(store, [new], former=KEYS) as log:  # what the former key decided is finished by the new one
        assert log.size == 7
    assert check(store, [new.verifier]).size == 7


def test_a_log_without_its_checkpoint_is_not_made_anew() -> None:
    store = MemoryStore()
    filled(store, 5)
    del store.files["checkpoint"]
    with pytest.raises(LogRefused, match="expected a file `checkpoint`, got none"), open_log(store, [SIGNER]):
        pass
    with pytest.raises(LogRefused, match="new log"):
        create_log(store, [SIGNER])


@pytest.mark.parametrize("path", ["tile/0/000.p/5", "tile/entries/000.p/5", "checkpoint"])
def test_a_writer_does_not_go_on_from_what_was_altered(path: str) -> None:
    store = MemoryStore()
    filled(store, 5)
    for data in (store.files[path][:-1], store.files[path][:-1] + b"?", b""):
        altered = MemoryStore({**store.files, path: data})
        before = dict(altered.files)
        with pytest.raises((LogRefused, NoteRefused)), open_log(altered, [SIGNER]):
            pass
        assert altered.files == before


def test_a_restored_back_up_does_not_write_over_what_came_after_it() -> None:
    """Only the checkpoint went back; the later tiles are still there."""
    store = MemoryStore()
    filled(store, 5)
    old = store.files["checkpoint"]
    with open_log(store, [SIGNER]) as log:
        log.append([b"a line that somebody regrets"])
        later = log.checkpoint.checkpoint
    store.files["checkpoint"] = old
    with pytest.raises(LogRefused, match="a new file"), open_log(store, [SIGNER]) as log:
        log.append([b"another"])
    assert fetch_checkpoint(store, KEYS).checkpoint.size == 5
    with pytest.raises(LogRefused, match="at least the 6 entries kept, got 5"):
        check(store, KEYS, [later])


# --- .pending ---------------------------------------------------------------------------------------------------------


def decided() -> MemoryStore:
    """A log of five entries, whose writer had decided on two more when its power failed."""
    store = MemoryStore()
    filled(store, 5)
    store = copied(store, 0, "after")
    with pytest.raises(Killed), open_log(store, [SIGNER]) as log:
        log.append(events(5, 7))
    return copied(store)


def test_nobody_without_the_key_makes_a_writer_append_something() -> None:
    store = decided()
    data = store.files[PENDING]
    for at in range(len(data)):
        altered = MemoryStore({**store.files, PENDING: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]})
        with pytest.raises((LogRefused, NoteRefused)), open_log(altered, [SIGNER]):
            pass
        assert altered.files["checkpoint"] == store.files["checkpoint"]
        cut = MemoryStore({**store.files, PENDING: data[:at]})
        with pytest.raises((LogRefused, NoteRefused)), open_log(cut, [SIGNER]):
            pass
    with open_log(store, [SIGNER]) as log:
        assert log.size == 7


def test_a_decision_of_another_time_is_not_carried_out() -> None:
    store = decided()
    pending = store.files[PENDING]
    with open_log(store, [SIGNER]) as log:
        log.append(events(7, 8))
    before = dict(store.files)
    with open_log(MemoryStore({**store.files, PENDING: pending}), [SIGNER]) as log:
        assert log.size == 8  # it was carried out long ago
    earlier = MemoryStore()
    filled(earlier, 4)
    back = MemoryStore({**earlier.files, PENDING: pending})
    with pytest.raises(LogRefused, match="one of size 5 at least, got one of size 4"), open_log(back, [SIGNER]):
        pass
    assert store.files == before


def test_what_is_signed_in_a_decision_is_no_checkpoint() -> None:
    data = decided().files[PENDING]
    note = data[4 : 4 + int.from_bytes(data[:4], "big")]
    assert open_note(note, KEYS).text.startswith(b"log.example/hillhold\npending\n5 7 ")
    with pytest.raises(NoteRefused, match="checkpoint"):
        open_kept(note, KEYS)
    # And a checkpoint is no decision.
    store = decided()
    checkpoint = sign_note(Checkpoint(ORIGIN, 7, mth(events(0, 7))).text, [SIGNER])
    store.files[PENDING] = len(checkpoint).to_bytes(4, "big") + checkpoint + data[4 + len(note) :]
    with pytest.raises(LogRefused, match="was about to append"), open_log(store, [SIGNER]):
        pass
