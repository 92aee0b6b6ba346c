"""`hillhold log`, over folders and servers: what it prints, what it refuses, and that it takes nobody's word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command import KEYS as EXAMPLES
from command import hillhold, pub
from hillhold_signer.errors import FileRefused, LogRefused
from hillhold_signer.log import FolderStore, NoteSigner, UrlReader, create_log, open_log
from hillhold_signer.log.checkpoint import sign_checkpoint
from hillhold_signer.log.note import KeyKind
from hillhold_verifier.errors import MisuseError, OperationalError
from logs import ORIGIN, SIGNER, event, events, filled, key_signer
from web import Web, cut, raw, status
from workshop import tree

VKEY = SIGNER.verifier.vkey
WITNESS = key_signer("witness.example/w", 5, KeyKind.COSIGNATURE)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of 300 events."""
    filled(FolderStore(tmp_path / "log"), 10, 290)
    return tmp_path / "log"


def served(log: Path) -> Web:
    return Web(tree(log), public="/log/")


def cosigned(log: Path, *signers: NoteSigner) -> None:
    store = FolderStore(log)
    with open_log(store, [SIGNER]) as found:
        checkpoint = found.checkpoint.checkpoint
    store.replace("checkpoint", sign_checkpoint(checkpoint, [SIGNER, *signers]))


# --- verify -----------------------------------------------------------------------------------------------------------


def test_verify_says_how_large_it_is_and_who_signed(log: Path) -> None:
    lines = hillhold("log", "verify", log, "--key", VKEY).stdout.splitlines()
    assert lines[0].startswith("log.example/hillhold: 300 entries, root ")
    assert lines[1:] == ["every tile and every entry agrees with the root", "signed by log.example/hillhold"]
    value = json.loads(hillhold("log", "verify", log, "--key", VKEY, "--json").stdout)
    assert (value["origin"], value["size"], value["unknown"], value["kept"]) == (ORIGIN, 300, [], [])
    assert value["signed"] == [{"name": ORIGIN, "vkey": VKEY, "kind": "ed25519", "time": None}]


def test_verify_names_witnesses_and_those_that_it_does_not_know(log: Path) -> None:
    cosigned(log, WITNESS, key_signer("witness.example/other", 6, KeyKind.COSIGNATURE))
    text = hillhold("log", "verify", log, "--key", VKEY, "--key", WITNESS.verifier.vkey).stdout
    assert "signed by witness.example/w, a witness, at 2026-01-01T00:00:00Z\n" in text
    assert "signed also by keys that were not given: witness.example/other+" in text
    alone = hillhold("log", "verify", log, "--key", WITNESS.verifier.vkey)
    assert alone.exit_code == 1
    assert "a signature by the log's own key" in alone.stderr


def test_without_a_key_it_says_that_nobody_vouches_for_it(log: Path) -> None:
    found = hillhold("log", "verify", log)
    assert found.exit_code == 0
    assert f"signature NOT checked ({ORIGIN}+{SIGNER.verifier.key_id.hex()}): give --key VKEY" in found.stdout
    assert json.loads(hillhold("log", "verify", log, "--json").stdout)["signed"] == []


def test_verify_goes_on_from_the_checkpoints_that_were_kept(log: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_bytes((log / "checkpoint").read_bytes())
    with open_log(FolderStore(log), [SIGNER]) as found:
        found.append(events(300, 700))
    good = hillhold("log", "verify", log, "--key", VKEY, "--checkpoint", kept, "--checkpoint", log / "checkpoint")
    assert "goes on from the checkpoint of size 300\ngoes on from the checkpoint of size 700\n" in good.stdout
    later = tmp_path / "later"
    later.write_bytes((log / "checkpoint").read_bytes())
    back = tmp_path / "back"
    filled(FolderStore(back), 300)
    set_back = hillhold("log", "verify", back, "--key", VKEY, "--checkpoint", later)
    assert set_back.exit_code == 1
    assert "error: log: expected at least the 700 entries kept, got 300\nhint: " in set_back.stderr
    fork = tmp_path / "fork"
    create_log(FolderStore(fork), [SIGNER])
    with open_log(FolderStore(fork), [SIGNER]) as found:
        found.append([b"another", *events(1, 701)])
    forked = json.loads(hillhold("log", "verify", fork, "--key", VKEY, "--checkpoint", later, "--json").stdout)
    assert forked["exit"] == 1
    assert "to go on from the kept checkpoint of size 700" in forked["error"]
    assert "keep both checkpoints as evidence" in forked["hint"]
    later.write_bytes(b"no checkpoint")
    assert hillhold("log", "verify", log, "--key", VKEY, "--checkpoint", later).exit_code == 1


def test_verify_names_the_entry_that_was_altered(log: Path) -> None:
    bundle = log / "tile/entries/001.p/44"
    bundle.write_bytes(bundle.read_bytes().replace(b'"actor":"Ada"', b'"actor":"Eve"', 3))
    found = hillhold("log", "verify", log, "--key", VKEY)
    assert found.exit_code == 1
    assert found.stdout == ""
    assert "error: entry 256 in tile/entries/001.p/44: expected the hash " in found.stderr
    assert "hint: the log was altered or damaged" in found.stderr


def test_what_is_no_log_or_no_key(log: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    empty = hillhold("log", "verify", tmp_path / "empty")
    assert (empty.exit_code, "expected a file `checkpoint`" in empty.stderr) == (1, True)
    assert hillhold("log", "verify", tmp_path / "missing").exit_code == 2
    bad = hillhold("log", "verify", log, "--key", VKEY[:-1])
    assert (bad.exit_code, "vkey" in bad.stderr) == (2, True)
    assert hillhold("log", "verify", log, "--key", key_signer(ORIGIN, 9).verifier.vkey).exit_code == 1
    assert hillhold("log", "verify", "http://").exit_code == 2


# --- prove, check-proof -----------------------------------------------------------------------------------------------


def test_a_proof_is_written_and_checked_offline(log: Path, tmp_path: Path) -> None:
    file = tmp_path / "seven.tlog-proof"
    made = hillhold("log", "prove", log, 7, "-o", file, "--key", VKEY)
    assert "kind" not in made.stdout
    assert "2026-01-01T00:00:07Z  publication   Ada" in made.stdout
    checked = hillhold("log", "check-proof", file, "--key", VKEY)
    assert checked.stdout.splitlines()[1:] == [
        "is entry 7 of 300 in log.example/hillhold",
        "signed by log.example/hillhold",
    ]
    value = json.loads(hillhold("log", "check-proof", file, "--key", VKEY, "--json").stdout)
    assert value["index"] == 7
    assert value["entry"]["version"] == 8
    entry = tmp_path / "entry"
    entry.write_bytes(event(7))
    assert hillhold("log", "check-proof", file, "--key", VKEY, "--entry", entry).exit_code == 0
    entry.write_bytes(event(8))
    assert hillhold("log", "check-proof", file, "--key", VKEY, "--entry", entry).exit_code == 1
    assert hillhold("log", "check-proof", file, "--key", key_signer(ORIGIN, 9).verifier.vkey).exit_code == 1
    assert hillhold("log", "check-proof", file).exit_code == 2
    file.write_bytes(file.read_bytes().replace(b"index 7", b"index 8"))
    assert "inclusion proof of entry 8" in hillhold("log", "check-proof", file, "--key", VKEY).stderr
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([lines[0], *lines[2:]]))
    bare = hillhold("log", "check-proof", file, "--key", VKEY)
    assert (bare.exit_code, "--entry FILE" in bare.stderr) == (1, True)


def test_an_entry_is_found_by_what_it_says(log: Path, tmp_path: Path) -> None:
    file = tmp_path / "found.tlog-proof"
    found = json.loads(hillhold("log", "prove", log, "--find", f"{299:064x}", "-o", file, "--json").stdout)
    assert (found["index"], found["proof"]) == (299, str(file))
    file.unlink()
    many = hillhold("log", "prove", log, "--find", "Ada", "-o", file)
    assert "expected one, got 300: 0, 1, 2, 3, 4, …\nhint: name one by its index" in many.stderr
    assert "got none" in hillhold("log", "prove", log, "--find", "Eve", "-o", file).stderr
    assert "below the log's size, 300, got 300" in hillhold("log", "prove", log, 300, "-o", file).stderr
    for words in ([], [1, "--find", "x"]):
        assert hillhold("log", "prove", log, *words, "-o", file).exit_code == 2
    assert not file.exists()


# --- show, key --------------------------------------------------------------------------------------------------------


def test_show_prints_events_and_other_entries_as_they_are(log: Path) -> None:
    with open_log(FolderStore(log), [SIGNER]) as found:
        found.append([b"\x1b[2Jnot ours"])
    shown = hillhold("log", "show", log, "--from", 299, "--key", VKEY)
    first, second = shown.stdout.splitlines()
    assert first == f"     299  2026-01-01T00:04:59Z  publication   Ada  role=pump  sha256={299:064x}  version=300"
    assert second == r"     300  no event of ours, 12 bytes: b'\x1b[2Jnot ours'"
    assert shown.stderr == "signed by log.example/hillhold\n"
    value = json.loads(hillhold("log", "show", log, "--from", 300, "--json").stdout)
    assert value["entries"] == [{"index": 300, "entry": {"hex": b"\x1b[2Jnot ours".hex()}}]
    assert hillhold("log", "show", log, "--from", 301).stdout == ""
    assert "NOT checked" in hillhold("log", "show", log, "--from", 301).stderr


def test_the_key_of_a_log_as_others_know_it() -> None:
    assert hillhold("log", "key", ORIGIN, pub("timestamp")).stdout == f"{VKEY}\n"
    assert json.loads(hillhold("log", "key", ORIGIN, pub("timestamp"), "--json").stdout) == {"vkey": VKEY}
    assert hillhold("log", "key", "two words", pub("timestamp")).exit_code == 1
    assert hillhold("log", "key", ORIGIN, EXAMPLES / "timestamp-public-on-purpose.pem").exit_code == 1


# --- servers ----------------------------------------------------------------------------------------------------------


def test_a_log_behind_a_server(log: Path, tmp_path: Path) -> None:
    with served(log) as web:
        assert "300 entries" in hillhold("log", "verify", web.url, "--key", VKEY).stdout
        assert set(web.asked) == {
            *(
                "checkpoint",
                "tile/0/000",
                "tile/0/001.p/44",
                "tile/1/000.p/1",
                "tile/entries/000",
                "tile/entries/001.p/44",
            )
        }
        file = tmp_path / "one.tlog-proof"
        assert hillhold("log", "prove", web.url, 1, "-o", file, "--key", VKEY).exit_code == 0
        assert hillhold("log", "check-proof", file, "--key", VKEY).exit_code == 0
        web.tree = {**web.tree, "tile/0/000": b"x" * 8192}
        assert "error: tile/0/000: expected the hash" in hillhold("log", "verify", web.url, "--key", VKEY).stderr


def test_a_server_that_is_slow_broken_or_endless(log: Path) -> None:
    slept: list[float] = []
    now = [0.0]

    def reader(url: str) -> UrlReader:
        return UrlReader(url, clock=lambda: now[0], sleep=slept.append)

    with served(log) as web:
        web.faults = [status(503), cut(10), raw(b"HTTP/1.1 20")]
        assert reader(web.url).read("checkpoint", 1000) == (log / "checkpoint").read_bytes()
        assert slept == [0.5, 1.0, 2.0]
        assert reader(web.url).read("tile/0/777", 8192) is None
        with pytest.raises(FileRefused, match="at most 100 bytes"):
            reader(web.url).read("checkpoint", 100)
        web.faults = [status(500)] * 4
        with pytest.raises(OperationalError, match="status 500, tried 4 times"):
            reader(web.url).read("checkpoint", 1000)
        web.faults = [status(401)]
        with pytest.raises(OperationalError, match="not logged in"):
            reader(web.url).read("checkpoint", 1000)
        web.faults = [raw(b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * 1000] * 50)]
        with pytest.raises(FileRefused):
            reader(web.url).read("checkpoint", 1000)
        assert reader(web.url).list("tile") == []
    for url in ("ftp://log.example/", "http://", "https://log.example/?x"):
        with pytest.raises(MisuseError):
            reader(url)


def test_a_store_leads_nowhere_but_into_its_log(log: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"x")
    store = FolderStore(log)
    for name in ("../secret", "tile/../../secret", str(secret), "", ".lock", "tile/0/000.p/../../../../secret"):
        for use in (lambda at: store.read(at, 10), lambda at: store.create(at, b"y"), store.remove):
            with pytest.raises(LogRefused, match="tile path"):
                use(name)
    for name in ("..", "tile/..", "/", "tile/0/000"):
        with pytest.raises(MisuseError):
            store.list(name)
    assert secret.read_bytes() == b"x"
