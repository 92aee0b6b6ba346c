"""The signing service under two loads: 1 GiB files that stream in and out, and 40 people who sign at once.

memory      MiB that the service's process holds at most, before and while 1 GiB goes in (one stream, and in pieces that break off)
            and out again; PostgreSQL and an S3 endpoint on loopback
signers     40 people, of whom 20 are needed, hand in their signatures on one draft at the same moment, to two replicas

PYTHONPATH=tests/support python tests/bench/service_load.py [--mib 1024] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, SSlibKey
from sqlalchemy import select

from hillhold_signer import Caps, NamedKey, Product, Team, add_product
from hillhold_signer.requests import open_request, sign_request
from hillhold_signer.service import accounts, tokens
from hillhold_signer.service.access import Role
from hillhold_signer.service.tables import APPROVALS
from objectstore import S3
from postgres import Postgres
from quick import image, peak_of
from servicekit import Kit, make_kit, replica, states, submit, until
from tables import make_tables
from workshop import HARDWARE, sign_all

AIMS = {"peak MiB at most": 200, "signatures lost": 0}
PIECE = 1 << 20
SIGNERS, NEEDED = 40, 20


def pieces(mib: int, seed: int) -> Iterator[bytes]:
    """A file of so many MiB, that is nowhere whole."""
    block = random.Random(seed).randbytes(PIECE - 8)
    for number in range(mib):
        yield number.to_bytes(8, "big") + block


def digest_of(mib: int, seed: int) -> str:
    found = sha256()
    for piece in pieces(mib, seed):
        found.update(piece)
    return found.hexdigest()


def memory(folder: Path, postgres: Postgres, mib: int) -> dict[str, Any]:
    with S3("moto") as s3:
        bucket = s3.bucket()
        kit = make_kit(folder / "memory", postgres.database(prepare=make_tables), bucket)
        with replica(kit.settings.folder, bucket.environment) as (url, process), kit.client(url, "ci") as client:
            assert client.get("/v1/status").status_code == 200
            before = peak_of(process.pid)
            one, two = digest_of(mib, 1), digest_of(mib, 2)
            answer = client.put(f"/v1/blobs/{one}", content=pieces(mib, 1))
            assert answer.status_code == 201, answer.text
            in_one = peak_of(process.pid)
            begun = client.post("/v1/uploads", json={"sha256": two, "length": mib * PIECE}).json()
            offset, rest = 0, pieces(mib, 2)
            while offset < mib * PIECE:  # in four requests
                some = [next(rest) for _ in range(min(mib // 4 or 1, mib - offset // PIECE))]
                headers = {"Upload-Offset": str(offset), "Content-Type": "application/partial-upload"}
                said = client.patch(f"/v1/uploads/{begun['id']}", content=iter(some), headers=headers, timeout=600)
                assert said.status_code == 200, said.text
                offset = said.json()["offset"]
            assert said.json()["complete"]
            in_pieces = peak_of(process.pid)
            for digest in (one, two):
                found = sha256()
                with client.stream("GET", f"/v1/blobs/{digest}", timeout=600) as stream:
                    for chunk in stream.iter_bytes():
                        found.update(chunk)
                assert found.hexdigest() == digest
            out = peak_of(process.pid)
        kit.data.database.close()
    shown = {"before": before, "in one stream": in_one, "in pieces": in_pieces, "and out": out}
    return {"file MiB": mib, **{f"peak MiB {name}": round(value) for name, value in shown.items()}}


def signers(folder: Path, postgres: Postgres) -> dict[str, Any]:
    keys = [Ed25519PrivateKey.from_private_bytes(sha256(b"bench %d" % n).digest()) for n in range(SIGNERS)]
    holders = [CryptoSigner(key, SSlibKey.from_crypto(key.public_key())) for key in keys]
    with S3("moto") as s3:
        bucket = s3.bucket()
        kit = make_kit(folder / "signers", postgres.database(prepare=make_tables), bucket)
        team = Team(tuple(NamedKey(f"p{n}", holder.public_key) for n, holder in enumerate(holders)), NEEDED)
        with kit.data.writing() as unit:
            add_product(unit.repository, Product("large", team, Caps(HARDWARE, 100)), unit.now)
            sign_all(unit.repository, "targets-1", "targets-2")
            for n, holder in enumerate(holders):
                accounts.create(unit.connection, f"p{n}", machine=False, now=unit.now)
                accounts.grant(unit.connection, f"p{n}", Role.SIGNER, "large")
                accounts.add_key(unit.connection, None, f"p{n}", holder.public_key.keyid)
                if n < NEEDED:
                    unit.repository.sign(holder, "large")
        shown = [token_of(kit, f"p{n}") for n in range(SIGNERS)]
        with (
            replica(kit.settings.folder, bucket.environment) as (first, _),
            replica(kit.settings.folder, bucket.environment) as (second, _),
            kit.client(first, "ci") as ci,
        ):
            until(lambda: states(ci, "large") == {}, "for the line")
            answer = submit(ci, image(1, 1), "large", patch_from=["none"])
            assert answer.status_code == 201, answer.text
            request = open_request(ci.get("/v1/requests/large").content)
            files = [sign_request(request, holder).data().decode() for holder in holders]
            gate = threading.Barrier(SIGNERS)

            def hand_in(n: int) -> tuple[int, str]:
                url = (first, second)[n % 2]
                with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {shown[n]}"}, timeout=120) as client:
                    gate.wait()
                    said = client.post("/v1/signatures", json={"signatures": [files[n]]})
                    return said.status_code, said.text

            start = time.monotonic()
            with ThreadPoolExecutor(SIGNERS) as pool:
                said = list(pool.map(hand_in, range(SIGNERS)))
            took = time.monotonic() - start
            until(lambda: list(states(ci, "large").values()) == ["available"], "for the publication")
        accepted = sum(status == 200 for status, _ in said)
        late = sum(status == 409 for status, _ in said)  # after the publication: a signature more than the quorum
        other = [text for status, text in said if status not in (200, 409)]
        lost = max(0, accepted - len(approvals(kit)))
        kit.data.database.close()
    return {
        "signers": SIGNERS,
        "accepted": accepted,
        "after the publication": late,
        "refused otherwise": other[:2],
        "signatures lost": lost,
        "seconds": round(took, 2),
    }


def approvals(kit: Kit) -> list[str]:
    """Key ids of the signatures that were kept."""
    with kit.data.database.snapshot() as connection:
        return [str(row[0]) for row in connection.execute(select(APPROVALS.c.keyid).where(APPROVALS.c.role == "large"))]


def token_of(kit: Kit, name: str) -> str:
    with kit.data.writing() as unit:
        return tokens.issue(unit.connection, None, name, label="bench", now=unit.now, random=os.urandom).text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Postgres() as postgres:
        found = {"signers": signers(Path(folder), postgres), "memory": memory(Path(folder), postgres, options.mib)}
    if options.json:
        print(json.dumps({**found, "aims": AIMS}))
        return
    print("The signing service under load")
    for part, values in found.items():
        print(f"  {part}: " + ", ".join(f"{name} {value}" for name, value in values.items()))
    print("aims: " + ", ".join(f"{name} {value}" for name, value in AIMS.items()))


if __name__ == "__main__":
    main()
