"""A whole verification process, as ratios against one that uses `tuf.ngclient`: CPU time, wall time and peak memory.

Both start a Python, hold a root, verify a repository of 50 targets over loopback HTTP and download the newest image of 256 KiB. Then the
process ends. The two run in turn; a ratio is of the medians.

    hillhold      `UpdateSession` over `open_source(URL)`, `ContentCheck` over the image
    python-tuf    `tuf.ngclient.Updater`: refresh, get_targetinfo, download_target
    folder        as hillhold, from a folder: no network code; against the same python-tuf

    PYTHONPATH=tests/support python tests/bench/whole_process.py [--json]
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from time import perf_counter, time
from typing import Any

from forge import DAY, Repo

ROUNDS = 15
AIM = 0.5
IMAGE = random.Random(1).randbytes(256 * 1024)
PATH = "pump/2.0.0/app.bin"

OURS = """
import sys
from hillhold_verifier.content import ContentCheck
from hillhold_verifier.metadata import (parse_root)
from hillhold_verifier.select import Device
from hillhold_verifier.session import UpdateSession
from hillhold_verifier.sources import open_source
from hillhold_verifier.trust import Trust

url, root, now = sys.argv[1:4]
source = open_source(url)
session = UpdateSession(Trust(parse_root(open(root, "rb").read())), Device("pump", "nrf-a", "bench"), int(now))
while need := session.need:
    data = source.metadata(need.file_name)
    session.absent() if data is None else session.receive(data)
(release,) = session.select({}, {}).require()
check = ContentCheck(release.path, release.length, {"sha256": release.sha256})
at = 0
with source.target(release.path, release.sha256) as content:
    while data := content.read(at, 65536):
        check.feed(data)
        at += len(data)
check.finish()
assert (release.path, at) == ("pump/2.0.0/app.bin", 262144)
"""

THEIRS = """
import sys
from tuf.ngclient import Updater

url, root, now, folder = sys.argv[1:5]
updater = Updater(folder, url + "/metadata/", folder, url + "/targets/", bootstrap=open(root, "rb").read())
updater.refresh()
info = updater.get_targetinfo("pump/2.0.0/app.bin")
assert info.length == 262144
updater.download_target(info)
"""


def repository(folder: Path, now: int) -> None:
    repo = Repo()
    repo.expires = dict.fromkeys(repo.expires, now + 30 * DAY)
    for number in range(49):
        repo.add_release(f"1.{number}.0", b"image %d" % number, counter=number)
    repo.add_release("2.0.0", IMAGE, counter=50)
    for name, data in repo.publish().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def run(script: str, *arguments: str) -> tuple[float, float, float]:
    """CPU seconds, wall seconds and peak memory (KiB) of one process."""
    start = perf_counter()
    process = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", script, *arguments])
    _, status, usage = os.wait4(process, 0)
    if status:
        raise RuntimeError(f"exit status {status}")
    return usage.ru_utime + usage.ru_stime, perf_counter() - start, usage.ru_maxrss


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing to say."""


def measure() -> dict[str, dict[str, float]]:
    now = int(time())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        repository(folder, now)
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=name))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url, root = f"http://127.0.0.1:{server.server_port}", str(folder / "metadata" / "1.root.json")
        found: dict[str, list[tuple[float, float, float]]] = {"hillhold": [], "folder": [], "python-tuf": []}
        for number in range(ROUNDS + 1):
            fresh = folder / f"client-{number}"
            fresh.mkdir()
            results = {
                "hillhold": run(OURS, url, root, str(now)),
                "folder": run(OURS, name, root, str(now)),
                "python-tuf": run(THEIRS, url, root, str(now), str(fresh)),
            }
            if number:  # the first warms the disk's cache
                for case, result in results.items():
                    found[case].append(result)
        server.shutdown()
    middle = {case: [median(column) for column in zip(*rows, strict=True)] for case, rows in found.items()}
    names = ("cpu", "wall", "peak memory")
    return {
        case: {
            name: round(ours / theirs, 3) for name, ours, theirs in zip(names, row, middle["python-tuf"], strict=True)
        }
        for case, row in middle.items()
        if case != "python-tuf"
    }


def main() -> None:
    found = measure()
    if "--json" in sys.argv:
        print(json.dumps(found))
        return
    print((__doc__ or "").split("\n\n")[0])
    print(f"\n{'/ python-tuf':14}" + "".join(f"{name:>14}" for name in next(iter(found.values()))))
    for case, row in found.items():
        print(f"{case:14}" + "".join(f"{value:14.2f}" for value in row.values()))
    print(f"{'aim':14}" + f"{AIM:14.2f}" * 3)


if __name__ == "__main__":
    main()
