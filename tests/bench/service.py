"""The signing service: releases a second from submission to what a device can fetch, its CPU against the bare core, its memory.

PostgreSQL (which waits for its disk) and an S3 endpoint on loopback; `hillhold serve` as a process of its own; a process of clients, that
hold the keys. A release: an image of 32 KiB is uploaded, handed in, and each of two people fetches the request, signs it on their side and
hands in the signature; the service publishes by itself. It is done when the object store's timestamp leads to it: what a device sees.

    flow          releases a second, over the whole time; median and p99 of the time from the first byte of the upload to the device
    cpu           CPU of the service's process a release, over the bare core's: `add_release`, twice `make_request` and `attach`, `publish`
                  of as many roles at once as the service came to, in a folder (whose disk is synced, which costs CPU, too)
    lost          releases that were acknowledged and are not in the tree, events that are not in the log: none

    PYTHONPATH=tests/support python tests/bench/service.py [--seconds 60] [--rate 0] [--lines 60] [--clients 12] [--json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import httpx
from securesystemslib.signer import Signer
from sqlalchemy import func, select

from hillhold_signer import Repository, Wish, add_product, add_release, example_signer
from hillhold_signer.attaching import attach
from hillhold_signer.log import audit
from hillhold_signer.log.events import Event, Kind
from hillhold_signer.patching import NO_PATCHES
from hillhold_signer.requests import make_request, open_request, sign_request
from hillhold_signer.service.journal import LogReader
from hillhold_signer.service.objects import RemoteObjects
from hillhold_signer.service.proofs import latest
from hillhold_signer.service.service import log_signer
from hillhold_signer.service.tables import EVENTS
from hillhold_signer.signatures import SignatureFile
from hillhold_signer.verify import verify_tree
from hillhold_verifier import canonical
from objectstore import S3, Bucket
from postgres import Postgres
from quick import cpu_of, image, peak_of, version
from servicekit import fetched, kept_ceremony, make_kit, never_asked, replica, submit
from tables import make_tables
from workshop import online, pump, sign_all

MOST_ROUNDS = 40
"""Releases of a line that the bare core is measured with at most: each takes as long as the service does."""
AIMS = {"releases a second at least": 20, "cpu ratio at most": 2, "lost": 0}


# --- the clients, in a process of their own ---------------------------------------------------------------------------


class Watch:
    """What a device would find: the version of each line, by the object store's timestamp."""

    def __init__(self, bucket: Bucket) -> None:
        self._objects = RemoteObjects(bucket.url, bucket.options)
        self._seen: dict[str, tuple[int, float]] = {}
        self._waiting: list[tuple[str, int, float]] = []
        self._guard = threading.Lock()
        self.times: list[float] = []
        self.publications = 0
        self._last = b""

    def expect(self, line: str, version: int, since: float) -> None:
        with self._guard:
            self._waiting.append((line, version, since))

    def look(self) -> int:
        """Look once; returns for how many is still waited."""
        found = self._objects.read("public/metadata/timestamp.json", 65_536)
        if found is not None and found.data != self._last:
            self._last = found.data
            self.publications += 1
            number = json.loads(found.data)["signed"]["meta"]["snapshot.json"]["version"]
            snapshot = self._objects.read(f"public/metadata/{number}.snapshot.json", 1 << 24)
            assert snapshot is not None
            versions = {name: item["version"] for name, item in json.loads(snapshot.data)["signed"]["meta"].items()}
            at = time.monotonic()
            with self._guard:
                left = []
                for line, version, since in self._waiting:
                    if versions.get(f"{line}.json", 0) >= version:
                        self.times.append(at - since)
                    else:
                        left.append((line, version, since))
                self._waiting = left
        with self._guard:
            return len(self._waiting)


def signed(client: httpx.Client, key: str, role: str) -> httpx.Response:
    """Fetch a request, sign it, hand in the signature. What people's own machines verify first is not the service's work."""
    value = json.loads(client.get(f"/v1/requests/{role}").content)
    signature = example_signer(key).sign(canonical.canonical(value["signed"]))
    file = SignatureFile(role, value["signed"]["version"], value["sha256"], signature)
    return client.post("/v1/signatures", json={"signatures": [file.data().decode()]})


def clients(told: Mapping[str, Any]) -> None:
    """Hand in, sign, and watch, until the time is over."""
    bucket = Bucket(told["bucket"], told["endpoint"])
    watch = Watch(bucket)
    end = threading.Event()
    lines: Queue[tuple[int, int]] = Queue()
    for line in range(told["lines"]):
        lines.put((line, 1))
    images = {
        (line, number): image(line, number) for number in range(1, told["numbers"] + 1) for line in range(told["lines"])
    }
    done: list[str] = []
    refused: list[str] = []
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.monotonic()
    begun = [0]

    def pace() -> None:
        """Wait for this release's turn, at a rate that was asked for."""
        if told["rate"]:
            begun[0] += 1
            time.sleep(max(0.0, start + begun[0] / told["rate"] - time.monotonic()))

    def one_client() -> None:
        made = [
            httpx.Client(base_url=told["url"], headers={"Authorization": f"Bearer {told['tokens'][name]}"}, timeout=60)
            for name in ("ci", "ada", "grace")
        ]
        ci, ada, grace = made
        while not end.is_set():
            try:
                line, number = lines.get(timeout=0.5)
            except Empty:
                continue
            pace()
            name, since = f"line-{line:03}", time.monotonic()
            data = images.get((line, number)) or image(line, number)
            try:
                answer = submit(ci, data, name, patch_from=["none"])
                assert answer.status_code == 201, answer.text
                for person, key in ((ada, "release-1"), (grace, "release-2")):
                    said = signed(person, key, name)
                    assert said.status_code == 200, said.text
            except (AssertionError, httpx.HTTPError) as error:
                refused.append(f"{name} {number}: {error}"[:300])
                continue
            done.append(f"{name}/{version(number)}/app.bin")
            watch.expect(name, number + 1, since)
            lines.put((line, number + 1))
        for client in made:
            client.close()

    with ThreadPoolExecutor(told["clients"]) as pool:
        futures = [pool.submit(one_client) for _ in range(told["clients"])]
        while time.monotonic() - start < told["seconds"]:
            watch.look()
            time.sleep(0.05)
        end.set()
        for future in futures:
            future.result()
    last = time.monotonic() + 60
    while watch.look() and time.monotonic() < last:
        time.sleep(0.05)
    took = time.monotonic() - start
    times = sorted(watch.times)
    print(json.dumps({"done": done, "refused": refused, "times": times, "took": took, "batches": watch.publications}))


# --- the bare core ----------------------------------------------------------------------------------------------------


def bare(folder: Path, lines: int, rounds: int, together: int) -> float:
    """Milliseconds of CPU of a release, with the same lines, images and signatures; signing itself is not counted."""
    repository = Repository.create(folder, kept_ceremony(), int(time.time()), demo=True)
    now = int(time.time())
    for line in range(lines):
        add_product(repository, replace(pump(), name=f"line-{line:03}"), now)
    sign_all(repository, "root-1", "root-2", "targets-1", "targets-2", "release-1", "release-2")
    repository.publish(online(), now)
    keys: list[Signer] = [example_signer("release-1"), example_signer("release-2")]
    used, count, waiting = 0.0, 0, 0

    def timed(run: Callable[[], Any]) -> Any:
        nonlocal used
        start = time.process_time()
        found = run()
        used += time.process_time() - start
        return found

    for number in range(1, rounds + 1):
        for line in range(lines):
            name, data = f"line-{line:03}", image(line, number)
            wish = Wish("app.bin", hardware=("nrf51-a",))
            timed(partial(add_release, repository, name, data, wish, now, patch_from=NO_PATCHES))
            for key in keys:
                request = timed(partial(make_request, repository, name))
                signature = sign_request(open_request(request), key).data()
                timed(partial(attach, repository, [signature]))
            count, waiting = count + 1, waiting + 1
            if waiting >= together or (line, number) == (lines - 1, rounds):
                timed(lambda: repository.publish(online(), now))
                waiting = 0
    return 1000 * used / count


# --- the whole --------------------------------------------------------------------------------------------------------


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    with Postgres(sync=True) as postgres, S3("rclone") as s3:
        bucket = s3.bucket()
        names = [f"line-{line:03}" for line in range(options.lines)]
        kit = make_kit(folder / "service", postgres.database(prepare=make_tables), bucket, *names)
        told = {
            "bucket": bucket.name,
            "endpoint": bucket.endpoint,
            "tokens": {**kit.tokens, "ada": kit.tokens["grace"]},
            "numbers": 2 + int(options.seconds * 30 / options.lines),
            **{name: getattr(options, name) for name in ("seconds", "rate", "lines", "clients")},
        }
        with replica(kit.settings.folder, bucket.environment) as (url, process):
            told["url"] = url
            command = [sys.executable, __file__, "--client", json.dumps(told)]
            load = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert load.stdout
            assert load.stdin
            assert load.stdout.readline() == "ready\n"
            before = cpu_of(process.pid)
            load.stdin.write("go\n")
            load.stdin.flush()
            seen = json.loads(load.communicate()[0])
            used, peak = cpu_of(process.pid) - before, peak_of(process.pid)
            deadline = time.monotonic() + 30
            while _events_waiting(kit) and time.monotonic() < deadline:
                time.sleep(0.2)
        with kit.data.reading() as unit:
            now = unit.now
        if options.verbose:
            for log in kit.settings.folder.glob("replica-*.log"):
                print(log.read_text(), file=sys.stderr)
        tree = verify_tree(fetched(kit, folder / "seen"), now)
        logged = _submissions(kit)
        kit.data.database.close()
    count = len(seen["times"])
    together = max(1, round(count / max(1, seen["batches"])))
    rounds = max(2, min(MOST_ROUNDS, round(count / options.lines)))  # the lines then hold as many releases
    core = bare(folder / "bare", options.lines, rounds, together)
    times = seen["times"]
    return {
        "releases": count,
        "seconds": round(seen["took"], 1),
        "releases a second": round(count / seen["took"], 1),
        "median seconds": round(times[len(times) // 2], 2) if times else None,
        "p99 seconds": round(times[int(len(times) * 0.99)], 2) if times else None,
        "releases a publication": together,
        "cpu ms a release": round(1000 * used / max(1, count), 1),
        "bare core ms a release": round(core, 1),
        "cpu ratio": round(1000 * used / max(1, count) / core, 2),
        "peak MiB": round(peak),
        "refused": seen["refused"][:3],
        "lost": len(set(seen["done"]) - set(tree.targets)) + len(set(seen["done"]) - logged),
    }


def _events_waiting(kit: Any) -> bool:
    with kit.data.database.snapshot() as connection:
        return bool(connection.execute(select(func.count()).select_from(EVENTS)).scalar_one())


def _submissions(kit: Any) -> set[str]:
    """The paths in the log, all of which is checked."""
    verifier = log_signer(kit.settings, never_asked).verifier
    found = latest(kit.data, [verifier])
    assert found
    signed, tree = found
    audit(LogReader(kit.data.database), signed)
    events = (Event.decode(entry) for bundle in range(tree.tiles) for entry in tree.entries(bundle))
    return {str(event.fields["path"]) for event in events if event.kind is Kind.SUBMISSION}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=0, help="releases a second that are begun; 0: as many as can be")
    parser.add_argument("--lines", type=int, default=60)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="show what the service has logged")
    parser.add_argument("--client", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        clients(json.loads(options.client))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = run(options, Path(folder))
    if options.json:
        print(json.dumps({**found, "aims": AIMS}))
        return
    print("The signing service, PostgreSQL and S3 on loopback, with its clients on the same machine")
    for name, value in found.items():
        print(f"  {name:<24} {value}")
    print("aims: " + ", ".join(f"{name} {value}" for name, value in AIMS.items()))


if __name__ == "__main__":
    main()
