"""Attacks on a log: by whoever holds its files, by whoever serves it, and by whoever holds its key.

Each begins with a log that passes, and ends with a refusal that names what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from hillhold_signer.errors import FileRefused, LogRefused, NoteRefused, ProofRefused
from hillhold_signer.log import Checkpoint, Proof, Tree, audit, create_log, fetch_checkpoint, open_log, prove_entry
from hillhold_signer.log.checkpoint import sign_checkpoint
from hillhold_signer.log.merkle import leaf_hash
from hillhold_signer.log.tiles import ENTRIES, Tile, encode_bundle
from logs import KEYS, ORIGIN, SIGNER, MemoryStore, check, event, events, filled, key_signer, mth

SMALL = (1, 2, 4)
LARGE = (3, 300, 210)


def log_of(*batches: int) -> MemoryStore:
    store = MemoryStore()
    filled(store, *batches)
    check(store, KEYS)
    return store


def altered(store: MemoryStore, **changes: bytes | None) -> MemoryStore:
    """A copy with other files; None takes one away."""
    files = {**store.files, **changes}
    return MemoryStore({name: data for name, data in files.items() if data is not None})


def put(store: MemoryStore, path: str, data: bytes | None) -> MemoryStore:
    return altered(store, **{path: data})


def checkpoint_of(store: MemoryStore) -> Checkpoint:
    return fetch_checkpoint(store, KEYS).checkpoint


def flips(data: bytes) -> Iterator[bytes]:
    for at in range(len(data)):
        yield data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :]


# --- whoever holds the files ------------------------------------------------------------------------------------------


def test_every_byte_of_every_file_of_a_small_log() -> None:
    store = log_of(*SMALL)
    assert len(store.files) == 7
    for name, data in store.files.items():
        for wrong in (*flips(data), data[:-1], data + b"\0", b"", data * 2):
            with pytest.raises((LogRefused, NoteRefused, FileRefused)) as refused:
                check(put(store, name, wrong), KEYS)
            if name != "checkpoint":
                assert name in str(refused.value) or "entry " in str(refused.value)


def test_a_byte_in_every_file_of_a_log_with_two_levels() -> None:
    store = log_of(*LARGE)
    for name, data in store.files.items():
        for at in range(0, len(data), max(1, len(data) // 25)):
            wrong = data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
            with pytest.raises((LogRefused, NoteRefused)):
                check(put(store, name, wrong), KEYS)


def test_progress_is_told_to_the_last_entry() -> None:
    store, told = log_of(*LARGE), list[int]()
    audit(store, fetch_checkpoint(store, KEYS), report=told.append)
    assert told == [256, 512, 513]


def test_what_is_wrong_is_named() -> None:
    store = log_of(*LARGE)
    files = store.files

    def says(path: str, change: Callable[[bytes], bytes]) -> str:
        with pytest.raises(LogRefused) as refused:
            check(put(store, path, change(files[path])), KEYS)
        return str(refused.value)

    def entry(number: int) -> Callable[[bytes], bytes]:
        return lambda data: data.replace(f'"version":{number + 1}}}'.encode(), f'"version":{number + 2}}}'.encode())

    def hash_at(number: int) -> Callable[[bytes], bytes]:
        return lambda data: data[: number * 32] + b"\0" + data[number * 32 + 1 :]

    assert says("tile/entries/000", entry(7)).startswith("entry 7 in tile/entries/000: expected the hash ")
    assert says("tile/entries/001", entry(300)).startswith("entry 300 in tile/entries/001: expected the hash ")
    assert says("tile/entries/002.p/1", entry(512)).startswith("entry 512 in tile/entries/002.p/1: expected the hash ")
    assert says("tile/0/001", hash_at(44)).startswith("tile/0/001: expected the hash ")
    assert says("tile/0/002.p/1", hash_at(0)).startswith("hash 0 in tile/0/002.p/1: expected ")
    assert says("tile/1/000.p/2", hash_at(1)).startswith("hash 1 in tile/1/000.p/2: expected ")
    assert says("tile/1/000.p/1", hash_at(0)).startswith("tile/1/000.p/1: expected the beginning of tile/1/000.p/2")
    two = put(store, "tile/0/001", hash_at(3)(files["tile/0/001"]))
    with pytest.raises(LogRefused, match=r"tile/1/000\.p/2 and tile/0/001 below it: expected one hash, got .* and "):
        check(put(two, "tile/1/000.p/2", hash_at(1)(files["tile/1/000.p/2"])))
    two = put(store, "tile/0/002.p/1", hash_at(0)(files["tile/0/002.p/1"]))
    with pytest.raises(LogRefused, match=r"tile/0/002\.p/1 and entry 512 below it: expected one hash, got .* and "):
        check(put(two, "tile/entries/002.p/1", entry(512)(files["tile/entries/002.p/1"])))


def test_a_file_that_is_gone_is_named() -> None:
    store = log_of(*LARGE)
    for name in store.files:
        if name == "tile/1/000.p/1":
            continue  # of an older checkpoint, whose full form will replace it
        with pytest.raises(
            LogRefused, match=re.escape(name.removesuffix(".p/1")) if name != "checkpoint" else "checkpoint"
        ):
            check(put(store, name, None), KEYS)


def test_an_entry_and_its_hash_replaced_together() -> None:
    store = log_of(*LARGE)
    lie = event(9999)
    bundle = encode_bundle([lie, *events(1, 256)])
    tile = leaf_hash(lie) + store.files["tile/0/000"][32:]
    both = altered(store, **{"tile/entries/000": bundle, "tile/0/000": tile})
    with pytest.raises(LogRefused, match=r"tile/0/000: expected the hash [0-9a-f]{16}…, as its parent states"):
        check(both, KEYS)
    parent = mth([lie, *events(1, 256)]) + store.files["tile/1/000.p/2"][32:]
    with pytest.raises(LogRefused, match="checkpoint of size 513: expected a tree with its root"):
        check(put(both, "tile/1/000.p/2", parent), KEYS)


def test_two_entries_change_places() -> None:
    store = log_of(*SMALL)
    swapped = [event(0), event(2), event(1), *events(3, 7)]
    with pytest.raises(LogRefused, match=r"entry 1 in tile/entries/000\.p/7"):
        check(put(store, "tile/entries/000.p/7", encode_bundle(swapped)), KEYS)
    other = MemoryStore()
    create_log(other, [key_signer(ORIGIN, 4)])
    with open_log(other, [key_signer(ORIGIN, 4)]) as log:
        log.append(swapped)
    whole = {**other.files, "checkpoint": store.files["checkpoint"]}
    with pytest.raises(LogRefused, match="checkpoint of size 7: expected a tree with its root"):
        check(MemoryStore(whole), KEYS)


def test_lines_cut_off_at_the_end() -> None:
    store = log_of(*SMALL)
    older = MemoryStore()
    filled(older, *SMALL[:-1])
    kept = checkpoint_of(store)
    back = checkpoint_of(older)
    check(older, KEYS, [back])
    with pytest.raises(LogRefused, match="at least the 7 entries kept, got 3"):
        check(older, KEYS, [back, kept])
    # Whoever sets the checkpoint back, and forgets the tiles, is found out by anybody.
    half = put(store, "checkpoint", older.files["checkpoint"])
    with pytest.raises(LogRefused, match="nothing beyond the size 3"):
        check(half, KEYS)


def test_a_full_tile_beyond_the_checkpoint_is_found_too() -> None:
    store, older = log_of(3, 300), log_of(3)
    for name in list(store.files):
        if name.startswith("tile/") and name.endswith((".p/47", ".p/1")):
            del store.files[name]
    with pytest.raises(LogRefused, match="nothing beyond the size 3"):
        check(put(store, "checkpoint", older.files["checkpoint"]), KEYS)


@pytest.mark.parametrize(
    "name", ["tile/0/xyz", "tile/64/000", "tile/0/x000/000", "tile/entries/0000", "tile/0/000.p/007"]
)
def test_files_that_no_log_has_are_refused_where_tiles_lie(name: str) -> None:
    with pytest.raises(LogRefused, match="tile path"):
        check(put(log_of(*SMALL), name, b"?"), KEYS)


# --- whoever holds the key --------------------------------------------------------------------------------------------


def forked(store: MemoryStore, size: int, last: bytes) -> MemoryStore:
    """The same log, with another last entry, signed by the same key."""
    other = MemoryStore()
    create_log(other, [SIGNER])
    with open_log(other, [SIGNER]) as log:
        log.append([*events(0, size - 1), last])
    check(other, KEYS)
    return other


def test_two_checkpoints_of_one_size() -> None:
    one = log_of(*SMALL)
    two = forked(one, 7, b"another")
    with pytest.raises(LogRefused, match=r"root of size 7: expected [0-9a-f]{16}…, as was kept") as refused:
        check(two, KEYS, [checkpoint_of(one)])
    assert "whoever holds its key signed both" in str(refused.value.hint)


@pytest.mark.parametrize("size", [1, 2, 7, 255, 256, 257, 300])
def test_a_fork_that_has_grown_on(size: int) -> None:
    one = log_of(size)
    two = forked(one, size, b"another")
    with open_log(two, [SIGNER]) as log:
        log.append(events(size, size + 300))
    check(two, KEYS)
    with pytest.raises(LogRefused, match=f"to go on from the kept checkpoint of size {size}"):
        check(two, KEYS, [checkpoint_of(one)])


def test_a_log_that_goes_on_passes_for_every_checkpoint_that_it_had() -> None:
    store, kept = MemoryStore(), []
    create_log(store, [SIGNER])
    with open_log(store, [SIGNER]) as log:
        for count in (0, 1, 1, 253, 1, 1, 255, 1, 100):
            log.append(events(log.size, log.size + count))
            kept.append(log.checkpoint.checkpoint)
            check(store, KEYS, kept)


def test_the_whole_log_made_anew_is_no_continuation() -> None:
    one = log_of(*SMALL)
    two = forked(one, 600, b"another")
    two.files = {**two.files}
    with open_log(two, [SIGNER]) as log:
        log.append([b"more"])
    check(two, KEYS, [checkpoint_of(one)])  # up to there it is the same
    other = MemoryStore()
    create_log(other, [SIGNER])
    with open_log(other, [SIGNER]) as log:
        log.append([b"nothing ever happened"] * 600)
    with pytest.raises(LogRefused, match="another past"):
        check(other, KEYS, [checkpoint_of(one)])


def test_a_checkpoint_of_another_log_is_not_compared() -> None:
    other = Checkpoint("log.example/other", 3, mth(events(0, 3)))
    with pytest.raises(LogRefused, match=r"kept checkpoint: expected one of log\.example/hillhold"):
        check(log_of(*SMALL), KEYS, [other])


# --- whoever serves it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 6, 8, 255, 256, 263, 2**32, 2**63 - 1])
def test_a_signed_size_that_lies(size: int) -> None:
    store = log_of(*SMALL)
    lie = sign_checkpoint(Checkpoint(ORIGIN, size, mth(events(0, 7))), [SIGNER])
    with pytest.raises(LogRefused):
        check(put(store, "checkpoint", lie), KEYS)


def test_a_proof_for_another_index_and_a_proof_under_another_checkpoint() -> None:
    store = log_of(*LARGE)
    signed = fetch_checkpoint(store, KEYS)
    tree = Tree(store, signed.checkpoint.size, signed.checkpoint.root)
    proof = prove_entry(tree, signed, 300)
    assert proof.verify(event(300), KEYS).checkpoint.size == 513
    for index in (0, 299, 301, 512, 513, 2**62):
        with pytest.raises(ProofRefused):
            Proof(index, proof.hashes, proof.checkpoint, proof.extra).verify(event(300), KEYS)
    with pytest.raises(ProofRefused):
        proof.verify(event(301), KEYS)
    other = fetch_checkpoint(log_of(400), KEYS)
    with pytest.raises(ProofRefused):
        Proof(300, proof.hashes, other.data).verify(event(300), KEYS)
    with pytest.raises(NoteRefused):
        proof.verify(event(300), [key_signer(ORIGIN, 5).verifier])


def test_nothing_is_proved_or_shown_that_was_altered() -> None:
    store = log_of(*LARGE)
    signed = fetch_checkpoint(store, KEYS)
    for name in ("tile/entries/001", "tile/0/001", "tile/1/000.p/2"):
        data = store.files[name]
        wrong = put(store, name, data[:40] + bytes([data[40] ^ 1]) + data[41:])
        with pytest.raises(LogRefused):  # noqa: PT012
            tree = Tree(wrong, signed.checkpoint.size, signed.checkpoint.root)
            prove_entry(tree, signed, 300)
        with pytest.raises(LogRefused):  # noqa: PT012
            tree = Tree(wrong, signed.checkpoint.size, signed.checkpoint.root)
            list(tree.iterate(256))


def test_a_full_tile_serves_where_its_partial_form_is_gone_and_not_where_it_is_another() -> None:
    """Clients of an older checkpoint while the log grows on (tlog-tiles, Partial Tiles)."""
    store = log_of(3, 300)
    older = Tree(store, 3, mth(events(0, 3)))
    assert [entry for _, entry in older.iterate()] == events(0, 3)
    for tile in (Tile(0, 0), Tile(ENTRIES, 0)):
        data = store.files[tile.path]
        wrong = put(store, tile.path, bytes([data[0] ^ 1]) + data[1:])
        with pytest.raises(LogRefused):
            list(Tree(wrong, 3, mth(events(0, 3))).iterate())
