"""CPU of verification, in one process, as ratios: against python-tuf and against cryptography that cannot be avoided.

A refresh: the client holds root, timestamp, snapshot, targets and a line role of 50 targets, as bytes from its storage. Quorums of
two for root, targets and the line, one key each for snapshot and timestamp, all Ed25519. Cases:

    timestamp     a renewed timestamp arrives, the rest is as held
    release       a new timestamp, snapshot and line role (with one more release) arrive
    cold          the client holds nothing but root; all arrives

    python-tuf    TrustedMetadataSet: the held files loaded, the new ones updated, as ngclient does
    hillhold      the state record decoded, the new files through `UpdateSession`, and the check that the whole chain is current
    bare          the Ed25519 checks and SHA-256 that these files need: each signature of a quorum once, each listed file's hash once

A device's state remembers which keys signed what it holds, as its floors do, so that a warm refresh checks fewer signatures than `bare`;
`cold` checks each.

The three run in turn, many times; a ratio is of the medians of process CPU time.

    PYTHONPATH=tests/support python tests/bench/verify_cpu.py [--json]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from statistics import median
from time import process_time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Targets as TufTargets
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from forge import T0, Repo
from hillhold_verifier.metadata import parse_root
from hillhold_verifier.select import Device
from hillhold_verifier.session import UpdateSession
from hillhold_verifier.state import DeviceState, decode_record, encode_record
from hillhold_verifier.trust import Trust, current, update_line, update_snapshot, update_targets, update_timestamp

TARGETS = 50
ROUNDS = 150
NOW = T0 + 60
DEVICE = Device("pump", "nrf-a", "bench")
AIMS = {"python-tuf": 0.5, "bare": 2.0}


def repository() -> tuple[dict[str, bytes], dict[str, dict[str, bytes]]]:
    """The held files, and by case the files that the repository has then."""
    repo = Repo()
    for number in range(TARGETS - 1):
        repo.add_release(f"1.{number}.0", b"image %d" % number, counter=number)
    repo.publish()
    held = dict(repo.files)
    repo.publish("timestamp")
    renewed = dict(repo.files)
    repo.add_release("2.0.0", b"newest", counter=TARGETS)
    repo.publish("line", "snapshot", "timestamp")
    return held, {"timestamp": renewed, "release": dict(repo.files)}


def ours(record: bytes, new: dict[str, bytes]) -> None:
    """`record` is the device's state as it is stored."""
    session = UpdateSession(decode_record(record)[1].trust, DEVICE, NOW)
    session.absent()
    while need := session.need:
        session.receive(new["line" if need.role == "pump" else need.role])
    assert len(current(session.trust, "pump", NOW).line.targets) >= TARGETS - 1


def python_tuf(held: dict[str, bytes], new: dict[str, bytes]) -> None:
    found = TrustedMetadataSet(held["root"], EnvelopeType.METADATA)
    found.reference_time = datetime.fromtimestamp(NOW, UTC)
    if "timestamp" in held:
        found.update_timestamp(held["timestamp"])
    found.update_timestamp(new["timestamp"])

    def update(take: Callable[..., object], role: str, **trusted: bool) -> object:
        """What ngclient does: the held file if it is still the one, else the new one."""
        if role in held:
            with suppress(RepositoryError):
                return take(held[role], **trusted)
        return take(new[role])

    update(found.update_snapshot, "snapshot", trusted=True)
    update(found.update_targets, "targets")
    line = update(lambda data: found.update_delegated_targets(data, "pump", "targets"), "line")
    assert isinstance(line, TufTargets)
    assert len(line.targets) >= TARGETS - 1


def bare(held: dict[str, bytes], new: dict[str, bytes]) -> Callable[[], None]:
    """What no client can leave out, prepared so that nothing but cryptography and hashing is timed."""
    checks: list[tuple[Ed25519PublicKey, bytes, bytes]] = []
    older = {role: held[role] for role in ("timestamp", "snapshot") if held.get(role, new[role]) != new[role]}
    files = {**new, **{f"held {role}": data for role, data in older.items()}}
    keys = {
        keyid: Ed25519PublicKey.from_public_bytes(bytes.fromhex(key["keyval"]["public"]))
        for role in ("root", "targets")
        for keyid, key in (lambda s: s.get("keys") or s["delegations"]["keys"])(json.loads(new[role])["signed"]).items()
    }
    for name, raw in files.items():
        envelope = json.loads(raw)
        payload = json.dumps(envelope["signed"], sort_keys=True, separators=(",", ":")).encode()
        if name != "root":  # what the device was provisioned with
            checks += [
                (keys[s["keyid"]], bytes.fromhex(s["sig"]), payload)
                for s in envelope["signatures"]
                if s["keyid"] in keys
            ]

    def run() -> None:
        for key, signature, payload in checks:
            key.verify(signature, payload)
        for name in ("snapshot", "targets", "line"):
            sha256(new[name]).digest()

    return run


def holding(files: dict[str, bytes]) -> Trust:
    trust = update_timestamp(Trust(parse_root(files["root"])), files["timestamp"], NOW)
    trust = update_targets(update_snapshot(trust, files["snapshot"], NOW), files["targets"], NOW)
    return update_line(trust, "pump", files["line"], NOW)


def measure(rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Ratios by case and by what hillhold is compared with."""
    every, cases = repository()
    ratios = {}
    for case, new in (*cases.items(), ("cold", every)):
        held = {"root": every["root"]} if case == "cold" else every
        trust = Trust(parse_root(every["root"])) if case == "cold" else holding(every)
        record = encode_record(1, DeviceState(DEVICE, trust, (None, None)))
        runs: dict[str, Callable[[], None]] = {
            "hillhold": partial(ours, record, new),
            "python-tuf": partial(python_tuf, held, new),
            "bare": bare(held, new),
        }
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(rounds):
            for name, run in runs.items():
                start = process_time()
                run()
                times[name].append(process_time() - start)
        middle = {name: median(found) for name, found in times.items()}
        ratios[case] = {name: round(middle["hillhold"] / middle[name], 3) for name in AIMS}
    return ratios


def main() -> None:
    ratios = measure()
    if "--json" in sys.argv:
        print(json.dumps(ratios))
        return
    print(__doc__.split("\n\n")[0])
    print("\n" + f"{'case':12}" + "".join(f"{'/ ' + name:>14}" for name in AIMS))
    for case, row in ratios.items():
        print(f"{case:12}" + "".join(f"{row[name]:14.2f}" for name in AIMS))
    print(f"{'aim':12}" + "".join(f"{aim:14.2f}" for aim in AIMS.values()))


if __name__ == "__main__":
    main()
