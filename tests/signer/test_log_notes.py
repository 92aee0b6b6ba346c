"""Signed notes, checkpoints and proofs as files: other people's bytes, and every byte changed."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner

from hillhold_signer import example_signer
from hillhold_signer.errors import KeyRefused, NoteRefused, ProofRefused
from hillhold_signer.log import NoteSigner, Proof, Verifier, note_signer, note_verifier
from hillhold_signer.log.checkpoint import Checkpoint, open_checkpoint, read_checkpoint, sign_checkpoint
from hillhold_signer.log.merkle import leaf_hash
from hillhold_signer.log.note import KeyKind, open_note, read_note, sign_note
from logs import KEYS, ORIGIN, SIGNER, key_signer, mth, path
from workshop import NOW

SPEC_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_NOTE = (
    "This is an example message.\n\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()
"""The example of C2SP signed-note."""

PETER = Verifier.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
ENOCH = Verifier.parse("EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop")
TEXT = b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
).encode()
ENOCH_LINE = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
).encode()
"""The notes of Go's golang.org/x/mod/sumdb/note."""

GO_LOG = Verifier.parse("log.example/vectors+0801968a+AROY9ixtGkV8UbpqS189vS9p/KkyFiGNyJl+QWvRfZPK")
GO_WITNESS = Verifier.parse("witness.example/w1+aa4a09d1+BOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs")
GO_CHECKPOINT = (
    "log.example/vectors\n1\nbjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=\n\n"
    "— log.example/vectors CAGWiozyIXUtOx9k3Mt7CDDSrlyqtXQpGx6hNxiS85NDd8Sm1uHnZkrn5o2lCclE9lPYGe2OHsAJRnvSqj+NW1q2FAA=\n"
    "— witness.example/w1 qkoJ0QAAAABrCDZk5sqlRZqoo+4YhlGaggd1Azh9g7lvl3vFDWJJc+AyYZtWnZqFPdb2jUyMOO3k/RFMo8FSvcaYNJCDxAfa6RcbCQ==\n"
).encode()
"""Signed and cosigned by the Go module filippo.io/torchwood, with keys made of repeated bytes."""
GO_TIME = 0x6B083664

TESSERA_KEY = Verifier.parse("example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx")
TESSERA_CHECKPOINT = (
    "example.com/log/testdata\n15\nrKbDipCvhuX1GZ7g5BBe8sA6BbJ7ja/1nk427v383cs=\n\n"
    "— example.com/log/testdata M9e0luh4jTG+UMBqOUo9/q+yAEvx1ilBEniMvjf1zfcBOhg+CKubMt53MvIt/uEWP6zdkdIQzd/fmwlM/dlPWF74ewI=\n"
).encode()
"""Of the log by which transparency-dev/tessera tests its clients: the numbers from one to fifteen, spelled in its own way."""
WORDS = b"one two three four five six seven eit nain ten ileven twelf threeten fourten fivten".split()


# --- notes ------------------------------------------------------------------------------------------------------------


def test_the_note_of_the_specification() -> None:
    verifier = Verifier.parse(SPEC_KEY)
    assert verifier.vkey == SPEC_KEY
    note = open_note(SPEC_NOTE, [verifier])
    assert note.text == b"This is an example message.\n"
    assert [one.verifier.name for one in note.signatures] == ["example.com/foo"]


def test_the_notes_of_gos_package() -> None:
    one = open_note(TEXT + b"\n" + PETER_LINE + ENOCH_LINE, [PETER])
    assert one.text == TEXT
    assert [signature.verifier for signature in one.signatures] == [PETER]
    assert one.unknown == ("EnochRoot+af0cfe78",)
    both = open_note(TEXT + b"\n" + PETER_LINE + ENOCH_LINE, [ENOCH, PETER])
    assert [signature.verifier for signature in both.signatures] == [PETER, ENOCH]
    again = open_note(TEXT + b"\n" + PETER_LINE * 2 + ENOCH_LINE * 2, [PETER])
    assert (len(again.signatures), len(again.unknown)) == (1, 1)


def test_a_signed_note_has_the_bytes_that_go_writes() -> None:
    seed = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
    signer = NoteSigner(PETER, Ed25519PrivateKey.from_private_bytes(seed).sign)
    assert sign_note(TEXT, [signer]) == TEXT + b"\n" + PETER_LINE


@pytest.mark.parametrize(
    "note",
    [
        *(TEXT, TEXT + b"\n", TEXT + b"\n" + PETER_LINE[:-1], b"\1" + TEXT + b"\n" + PETER_LINE, b"\xff" + TEXT + b"\n" + PETER_LINE),
        *(TEXT + b"\n" + PETER_LINE + b"Unexpected line.\n", TEXT + b"\n" + PETER_LINE.replace(b"Peter", b"Bad Name")),
        *(TEXT + b"\n" + PETER_LINE * 101, TEXT + b"\n" + ENOCH_LINE, TEXT + PETER_LINE, b"", b"\n\n", b"\n"),
        TEXT + b"\n" + PETER_LINE.replace(b"\xe2\x80\x94", b"-"),
        TEXT + b"\n" + "— PeterNeumann \n".encode(),
        TEXT + b"\n" + "— PeterNeumann x08gow==\n".encode(),  # a key id alone
        TEXT + b"\n" + PETER_LINE[:60] + b"ABCD" + PETER_LINE[60:],
        TEXT + b"\n" + PETER_LINE + PETER_LINE[:60] + b"ABCD" + PETER_LINE[60:],
        TEXT + b"\n" + PETER_LINE + "— EnochRoot rwz+eA==\n".encode(),
        TEXT + b"\n" + PETER_LINE.replace(b"nAM=", b"nAN="),  # bits that base64 does not use
        TEXT + b"\r\n\n" + PETER_LINE,
        b"x" * 300_000 + b"\n\n" + PETER_LINE,
    ],
)  # fmt: skip
def test_notes_that_are_refused(note: bytes) -> None:
    with pytest.raises(NoteRefused):
        open_note(note, [PETER])


def test_a_key_of_the_same_name_or_id_is_another_key() -> None:
    named = replace(ENOCH, name=PETER.name)
    assert named.key_id != PETER.key_id
    with pytest.raises(NoteRefused, match=f"one by PeterNeumann.{named.key_id.hex()}, got by PeterNeumann.c74f20a3"):
        open_note(TEXT + b"\n" + PETER_LINE, [named])


def test_no_part_and_no_change_of_a_vkey_is_one() -> None:
    text = PETER.vkey
    parts = {text[start:end] for start in range(len(text) + 1) for end in range(start + 1, len(text) + 1)} - {text}
    changed = {text[:at] + chr(ord(text[at]) + 1) + text[at + 1 :] for at in range(len(text))}
    for bad in parts | changed:
        with pytest.raises(NoteRefused):
            Verifier.parse(bad)


@pytest.mark.parametrize(
    "vkey",
    [
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",  # too long, with its right id
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",  # an unknown kind, with its right id
        "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "\ud800+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        *("", "+", "++", "a+b+c", "PeterNeumann+c74f20a3+", "PeterNeumann+c74f20a3+ARpc2Q=="),
    ],
)
def test_vkeys_that_are_refused(vkey: str) -> None:
    with pytest.raises(NoteRefused):
        Verifier.parse(vkey)


def test_the_key_of_a_log_is_ed25519_and_its_name_has_no_spaces() -> None:
    assert Verifier.parse(SIGNER.verifier.vkey) == SIGNER.verifier
    assert note_verifier(ORIGIN, example_signer("timestamp").public_key) == SIGNER.verifier
    with pytest.raises(KeyRefused, match="Ed25519"):
        note_signer(ORIGIN, CryptoSigner.generate_ecdsa())
    for name in ("", "a b", "a+b", "a\u00a0b", "a\nb", "a\x1fb"):
        with pytest.raises(NoteRefused):
            note_signer(name, example_signer("timestamp"))


def test_a_signer_whose_signature_is_wrong_signs_nothing() -> None:
    broken = NoteSigner(SIGNER.verifier, lambda text: b"\0" * 64)
    with pytest.raises(NoteRefused, match=r"signature by log\.example/hillhold"):
        sign_note(b"text\n", [broken])
    with pytest.raises(NoteRefused):
        sign_note(b"text", [SIGNER])
    with pytest.raises(NoteRefused):
        sign_note(b"te\0xt\n", [SIGNER])


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_checkpoint_that_go_signed_and_a_witness_cosigned() -> None:
    signed = open_checkpoint(GO_CHECKPOINT, [GO_LOG, GO_WITNESS])
    assert signed.checkpoint == Checkpoint("log.example/vectors", 1, leaf_hash(b""))
    assert [(one.verifier, one.time) for one in signed.signatures] == [(GO_LOG, None), (GO_WITNESS, GO_TIME)]
    assert open_checkpoint(GO_CHECKPOINT, [GO_LOG]).unknown == ("witness.example/w1+aa4a09d1",)


def test_a_witness_alone_opens_no_checkpoint_and_a_wrong_one_spoils_it() -> None:
    with pytest.raises(NoteRefused, match=r"a signature by the log's own key, got witness\.example/w1"):
        open_checkpoint(GO_CHECKPOINT, [GO_WITNESS])
    later = GO_CHECKPOINT.replace(b"qkoJ0QAAAABrCDZk", b"qkoJ0QAAAABrCDZl")
    with pytest.raises(NoteRefused, match=r"signature by witness\.example/w1"):
        open_checkpoint(later, [GO_LOG, GO_WITNESS])
    assert open_checkpoint(later, [GO_LOG]).checkpoint.size == 1  # nobody asked for that witness


def test_a_cosignature_is_no_signature_of_a_log_by_the_same_key() -> None:
    """The kind is in the key id, and in what is signed."""
    text = Checkpoint(ORIGIN, 0, mth([])).text
    witness = key_signer(ORIGIN, 3, KeyKind.COSIGNATURE)
    log = key_signer(ORIGIN, 3)
    assert witness.verifier.key_id != log.verifier.key_id
    with pytest.raises(NoteRefused):
        open_checkpoint(sign_note(text, [witness]), [log.verifier])
    both = open_checkpoint(sign_note(text, [log, witness]), [log.verifier, witness.verifier])
    assert [one.time for one in both.signatures] == [None, NOW]
    with pytest.raises(NoteRefused):
        witness.verifier.verify(text, (2**63).to_bytes(8, "big") + bytes(64))


def test_a_checkpoint_of_tesseras_log() -> None:
    signed = open_checkpoint(TESSERA_CHECKPOINT, [TESSERA_KEY])
    assert signed.checkpoint == Checkpoint("example.com/log/testdata", 15, mth(WORDS))


def test_every_byte_of_a_checkpoint_counts() -> None:
    data = sign_checkpoint(Checkpoint(ORIGIN, 857, mth(WORDS)), [SIGNER])
    for at in range(len(data)):
        for flip in (1, 2, 0x20, 0x80):
            with pytest.raises(NoteRefused):
                open_checkpoint(data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :], KEYS)
        with pytest.raises(NoteRefused):
            open_checkpoint(data[:at], KEYS)


def test_another_logs_key_opens_no_checkpoint() -> None:
    data = sign_checkpoint(Checkpoint("log.example/other", 1, mth([b""])), [SIGNER])
    with pytest.raises(NoteRefused, match=r"checkpoint of log\.example/other"):
        open_checkpoint(data, KEYS)


@pytest.mark.parametrize(
    "text",
    [
        *(b"origin\n1\n", b"origin\n\nROOT\n", b"\n1\nROOT\n", b"origin\n01\nROOT\n", b"origin\n-1\nROOT\n", b"origin\n+1\nROOT\n"),
        *(b"origin\n1 \nROOT\n", b"origin\n\xd9\xa1\nROOT\n", b"origin\n1e3\nROOT\n", b"origin\n9223372036854775808\nROOT\n"),
        *(b"origin\n1\nROOT=\n", b"origin\n1\n\nROOT\n", b"origin\n1\nROO\n", b"origin\n1\nROOT\n\nextension\n", b"origin\n1\n"),
    ],
)  # fmt: skip
def test_texts_that_are_no_checkpoints(text: bytes) -> None:
    data = sign_note(text.replace(b"ROOT", b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="), [SIGNER])
    with pytest.raises(NoteRefused):
        read_checkpoint(data)


def test_extension_lines_are_kept_and_cosigned() -> None:
    checkpoint = Checkpoint(ORIGIN, 3, mth(WORDS[:3]), ("one", "two"))
    assert Checkpoint.parse(checkpoint.text) == checkpoint
    witness = key_signer("witness.example/w", 5, KeyKind.COSIGNATURE)
    data = sign_checkpoint(checkpoint, [SIGNER, witness])
    assert len(open_checkpoint(data, [*KEYS, witness.verifier]).signatures) == 2
    assert read_note(data).unknown[1].startswith("witness.example/w+")


# --- proofs as files --------------------------------------------------------------------------------------------------


def words_proof(index: int) -> Proof:
    return Proof(index, tuple(path(index, WORDS)), TESSERA_CHECKPOINT, WORDS[index])


def test_a_proof_has_the_bytes_of_the_specification() -> None:
    proof = words_proof(14)
    expected = (
        "c2sp.org/tlog-proof@v1\nextra Zml2dGVu\nindex 14\n"
        + "".join(f"{base64.b64encode(one).decode()}\n" for one in path(14, WORDS))
        + "\n"
    )
    assert proof.data == expected.encode() + TESSERA_CHECKPOINT
    assert len(proof.hashes) == 3
    assert Proof.parse(proof.data) == proof
    assert Proof.parse(proof.data).verify(b"fivten", [TESSERA_KEY]).checkpoint.size == 15


def test_a_proof_without_extra_data_and_one_of_the_only_entry() -> None:
    proof = replace(words_proof(0), extra=None)
    assert b"extra" not in proof.data
    assert Proof.parse(proof.data) == proof
    only = Proof(0, (), sign_checkpoint(Checkpoint(ORIGIN, 1, leaf_hash(b"x")), [SIGNER]))
    assert only.data.startswith(b"c2sp.org/tlog-proof@v1\nindex 0\n\nlog.example/hillhold\n1\n")
    Proof.parse(only.data).verify(b"x", KEYS)


def test_a_proof_proves_one_entry_at_one_index() -> None:
    proof = words_proof(4)
    for entry, changed in (
        (b"six", proof),
        (b"five", replace(proof, index=5)),
        (b"five", replace(proof, index=15)),
        (b"five", replace(proof, hashes=proof.hashes[:-1])),
        (b"five", words_proof(5)),
    ):
        with pytest.raises(ProofRefused):
            changed.verify(entry, [TESSERA_KEY])
    with pytest.raises(NoteRefused):
        proof.verify(b"five", KEYS)


def test_every_byte_of_a_proof_counts() -> None:
    data = words_proof(6).data
    for at in range(len(data)):
        for flip in (1, 0x20, 0x80):
            with pytest.raises((ProofRefused, NoteRefused)):  # noqa: PT012
                proof = Proof.parse(data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :])
                proof.verify(proof.extra or b"", [TESSERA_KEY])
        with pytest.raises((ProofRefused, NoteRefused)):
            Proof.parse(data[:at]).verify(b"seven", [TESSERA_KEY])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"@v1", b"@v2"),
        (b"index 14", b"index 014"),
        (b"index 14", b"index -1"),
        (b"index 14\n", b""),
        (b"index 14\n", b"index 14\nindex 14\n"),
        (b"extra Z", b"extra  Z"),
        (b"extra Z", b"other Z"),
        (b"extra Zml2dGVu", b"extra Zml2dGV="),
        (b"index 14\n", b"index 14\n" + b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n" * 64),
        (b"\n\n", b"\n"),
        (b"index", "ındex".encode()),
    ],
)
def test_proofs_that_are_malformed(old: bytes, new: bytes) -> None:
    data = words_proof(14).data
    assert old in data
    with pytest.raises(ProofRefused):
        Proof.parse(data.replace(old, new, 1) if old != b"\n\n" else data.replace(old, new))
    with pytest.raises(ProofRefused, match="at most"):
        Proof.parse(data + b"x" * 600_000)
