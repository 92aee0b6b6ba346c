"""A machine whose `cryptography` lacks an algorithm: such keys are unusable and said to be, the program goes on (DESIGN §1, §9).

Each case is a process of its own, in which the library is cut down before the verifier is imported. It follows a repository whose files
were made here, with the whole library.
"""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha512
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mldsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from forge import Edit, Object, Repo, canon
from hillhold_verifier.keys import SCHEMES
from holder import NOW

ML_DSA = "cryptography.hazmat.primitives.asymmetric.mldsa"
LACKING = {
    "whole library": "",
    "cryptography without ML-DSA": f"sys.modules[{ML_DSA!r}] = None",
    "OpenSSL without ML-DSA": f"""
from cryptography.hazmat.backends.openssl.backend import backend
import {ML_DSA} as mldsa
type(backend).mldsa_supported = lambda self: False
lacks((mldsa.MLDSA44PublicKey, mldsa.MLDSA65PublicKey, mldsa.MLDSA87PublicKey))
""",
    "OpenSSL without P-384": """
from cryptography.hazmat.primitives.asymmetric import ec
whole = ec.derive_private_key
def derive_private_key(value, curve):
    if curve.name == "secp384r1":
        raise UnsupportedAlgorithm("curve")
    return whole(value, curve)
ec.derive_private_key = derive_private_key
lacks((ec.EllipticCurvePublicKey,), lambda key: key.curve.name == "secp384r1")
""",
}
CHILD = """
import json, sys
from pathlib import Path
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

def lacks(kinds, which=lambda key: True):
    load = serialization.load_pem_public_key
    def load_pem_public_key(data):
        key = load(data)
        if isinstance(key, kinds) and which(key):
            raise UnsupportedAlgorithm("key type")
        return key
    serialization.load_pem_public_key = load_pem_public_key

LACKING
from hillhold_verifier.errors import Refused
from hillhold_verifier.keys import SCHEMES, usable_schemes
from hillhold_verifier.metadata import (parse_root)
from hillhold_verifier.select import Device
from hillhold_verifier.session import UpdateSession
from hillhold_verifier.trust import Trust

folder, now = Path(sys.argv[1]), int(sys.argv[2])
session = UpdateSession(Trust(parse_root((folder / "1.root.json").read_bytes())), Device("pump", "nrf-a", "x"), now)
said = None
try:
    while need := session.need:
        file = folder / need.file_name
        session.receive(file.read_bytes()) if file.exists() else session.absent()
except Refused as refusal:
    said = str(refusal)
print(json.dumps([sorted(usable_schemes()), session.step.value, session.trust.root.signed.version, said]))
"""


def follow(repo: Repo, folder: Path, lacking: str) -> tuple[set[str], str, int, str | None]:
    """Schemes, step and root's version at the end, and the words of a refusal."""
    for name, data in repo.tree.items():
        if name.startswith("metadata/"):
            (folder / name.removeprefix("metadata/")).write_bytes(data)
    command = [sys.executable, "-c", CHILD.replace("LACKING", LACKING[lacking]), str(folder), str(NOW)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    schemes, step, version, said = json.loads(done.stdout)
    return set(schemes), step, version, said


def other_key(scheme: str) -> tuple[Object, Edit]:
    """A key as metadata states it, and what signs a file with it beside those who did already."""
    if scheme == "ml-dsa-44/1":
        quantum = mldsa.MLDSA44PrivateKey.from_seed_bytes(bytes(32))
        public, keytype = quantum.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "ml-dsa"
    else:
        curve = ec.derive_private_key(7, ec.SECP384R1())
        public, keytype = curve.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "ecdsa"

    def sign(whole: Object) -> None:
        data = canon(whole["signed"])
        made = (
            quantum.sign(b"tuf\x01" + sha512(data).digest())
            if keytype == "ml-dsa"
            else curve.sign(data, ec.ECDSA(hashes.SHA384()))
        )
        whole["signatures"].append({"keyid": "other", "sig": made.hex()})

    return {"keytype": keytype, "keyval": {"public": public.decode()}, "scheme": scheme}, sign


def lends(entry: Object, role: str, threshold: int) -> Edit:
    """Adds the other key to a role of root, or to the line in targets."""

    def edit(signed: Object) -> None:
        above = signed["delegations"] if role == "line" else signed
        above["keys"]["other"] = entry
        (found,) = above["roles"] if role == "line" else [above["roles"][role]]
        found["keyids"].append("other")
        found["threshold"] = threshold

    return edit


CASES = [
    ("cryptography without ML-DSA", "ml-dsa-44/1"),
    ("OpenSSL without ML-DSA", "ml-dsa-44/1"),
    ("OpenSSL without P-384", "ecdsa-sha2-nistp384"),
]


@pytest.mark.parametrize(("lacking", "scheme"), CASES)
def test_where_the_threshold_is_met_without_it_such_a_key_changes_nothing(
    tmp_path: Path, lacking: str, scheme: str
) -> None:
    entry, sign = other_key(scheme)
    repo = Repo()
    repo.add_release("1.1.0", b"image")
    repo.publish("root", "targets", "line", "snapshot", root=repo.root(edit=lends(entry, "timestamp", 1)))
    repo.publish("timestamp", timestamp=repo.timestamp(edit_envelope=sign))
    schemes, step, _, said = follow(repo, tmp_path, lacking)
    assert (step, said) == ("ready", None)
    assert SCHEMES - schemes == {name for name in SCHEMES if name.startswith(scheme[:6]) and "256" not in name}


@pytest.mark.parametrize(("lacking", "scheme"), CASES)
def test_where_the_threshold_needs_it_the_refusal_says_so(tmp_path: Path, lacking: str, scheme: str) -> None:
    entry, sign = other_key(scheme)
    repo = Repo()
    repo.add_release("1.1.0", b"image")
    repo.publish(targets=repo.targets(edit=lends(entry, "line", 3)), line=repo.line(edit_envelope=sign))
    assert follow(repo, tmp_path, "whole library")[1:] == ("ready", 1, None)
    words = f"; 1 of the role's keys cannot be used on this device ({scheme})"
    assert follow(repo, tmp_path, lacking)[1:] == ("failed", 1, "pump signatures: expected 3 valid, got 2" + words)


@pytest.mark.parametrize(("lacking", "scheme"), CASES)
def test_a_root_that_would_lock_it_out_is_refused_and_says_so(tmp_path: Path, lacking: str, scheme: str) -> None:
    entry, sign = other_key(scheme)
    repo = Repo()
    repo.add_release("1.1.0", b"image")
    repo.publish()
    repo.publish("snapshot", root=repo.root(edit=lends(entry, "timestamp", 2)))
    repo.publish("timestamp", timestamp=repo.timestamp(edit_envelope=sign))
    assert follow(repo, tmp_path, "whole library")[1:] == ("ready", 2, None)
    words = f"2 of an algorithm that this device can use, got 1; 1 of the role's keys cannot be used on this device ({scheme})"
    said = f"keys of role timestamp in the new root: expected {words}"
    assert follow(repo, tmp_path, lacking)[1:] == ("failed", 1, said)
