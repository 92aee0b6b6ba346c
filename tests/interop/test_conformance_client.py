"""The client of the TUF conformance suite, as a process, over HTTP, on a repository that `hillhold` made.

The suite itself is other people's code and is not here: `pytest tuf_conformance --entrypoint …/tuf-conformance-client` runs it.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from workshop import image, release, started

CLIENT = Path(__file__).with_name("tuf-conformance-client")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing to say."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    now = int(time.time())
    repository = started(tmp_path / "repo", now)
    release(repository, image("1.0.0"), now)
    public = repository.folder.public
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(public)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield public, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def run(folder: Path, *arguments: str) -> int:
    command = [sys.executable, str(CLIENT), "--metadata-dir", str(folder), *arguments]
    return subprocess.run(command, timeout=60, check=False, capture_output=True).returncode


def test_init_refresh_download(served: tuple[Path, str], tmp_path: Path) -> None:
    public, url = served
    folder, downloads = tmp_path / "metadata", tmp_path / "downloads"
    downloads.mkdir()
    source = ("--metadata-url", f"{url}/metadata")
    assert run(folder, "init", str(public / "metadata" / "1.root.json")) == 0
    assert run(folder, *source, "refresh") == 0
    for name, file in (("root", "1.root.json"), ("timestamp", "timestamp.json"), ("targets", "1.targets.json")):
        assert (folder / f"{name}.json").read_bytes() == (public / "metadata" / file).read_bytes()
    wanted = (
        "--target-name",
        "pump/1.0.0/app.bin",
        "--target-dir",
        str(downloads),
        "--target-base-url",
        f"{url}/targets",
    )
    assert run(folder, *source, *wanted, "download") == 0
    (found,) = downloads.iterdir()
    assert found.read_bytes() == image("1.0.0")
    assert run(folder, *source, *wanted[:1], "pump/9.9.9/app.bin", *wanted[2:], "download") == 1


def test_another_root_is_refused_and_nothing_is_kept(served: tuple[Path, str], tmp_path: Path) -> None:
    _, url = served
    other = started(tmp_path / "other", int(time.time()) - 60)
    root = (other.folder.public / "metadata" / "1.root.json").read_bytes()
    changed = tmp_path / "root.json"
    changed.write_bytes(root.replace(b'"threshold":2', b'"threshold":1', 1))
    folder = tmp_path / "metadata"
    assert run(folder, "init", str(changed)) == 0
    assert run(folder, "--metadata-url", f"{url}/metadata", "refresh") == 1
    assert not (folder / "timestamp.json").exists()
