"""python-tuf's own client downloads over HTTP what the `hillhold` command published."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner
from tuf.api.exceptions import ExpiredMetadataError, RepositoryError
from tuf.ngclient import Updater, UpdaterConfig

from hillhold_signer.cli import main
from hillhold_signer.cli.terminal import Edge
from workshop import image

KEYS = Path(__file__).parents[2] / "keys-example"
NOW = int(time.time())  # the client reads the clock itself


def key(name: str, suffix: str = "pem") -> str:
    return str(KEYS / f"{name}-public-on-purpose.{suffix}")


CEREMONY = """
[root]
threshold = 2
keys = [{{ name = "Ada", file = "{root-1}" }}, {{ name = "Grace", file = "{root-2}" }}]
[targets]
threshold = 1
keys = [{{ name = "Margaret", file = "{targets-1}" }}]
[snapshot]
key = {{ file = "{snapshot}", uri = "file:{snapshot_pem}" }}
[timestamp]
key = {{ file = "{timestamp}", uri = "file:{timestamp_pem}" }}
"""


def hillhold(*words: object, now: int = NOW) -> None:
    result = CliRunner().invoke(main, [str(word) for word in words], obj=Edge(lambda: now))
    assert result.exit_code == 0, result.output


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with two releases, made by commands only."""
    names = {name: key(name, "pub") for name in ("root-1", "root-2", "targets-1", "snapshot", "timestamp")}
    text = CEREMONY.format(**names, snapshot_pem=key("snapshot"), timestamp_pem=key("timestamp"))
    (tmp_path / "ceremony.toml").write_text(text)
    repo = tmp_path / "repo"
    hillhold("init", repo, "--config", tmp_path / "ceremony.toml", "--demo")
    line = [
        "--hardware",
        "nrf51-a",
        "--threshold",
        "2",
        "--key",
        key("release-1", "pub"),
        "--key",
        key("release-2", "pub"),
    ]
    hillhold("product", "add", repo, "pump", *line)
    for version, edits in (("1.0.0", 0), ("1.1.0", 20)):
        file = tmp_path / "app.bin"
        file.write_bytes(image(version, edits=edits))
        hillhold("add", repo, "pump", file)
        for name in ("root-1", "root-2", "targets-1", "release-1", "release-2"):
            if version == "1.0.0" or name.startswith("release"):
                hillhold("sign", repo, "--key", f"file:{key(name)}", "--yes")
        hillhold("publish", repo)
    return repo


@pytest.fixture
def url(repository: Path) -> Iterator[str]:
    """The published tree, served as static files."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(repository / "public")))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def client(url: str, repository: Path, folder: Path) -> Updater:
    (folder / "metadata").mkdir(parents=True, exist_ok=True)
    (folder / "targets").mkdir(exist_ok=True)
    return Updater(
        str(folder / "metadata"),
        f"{url}/metadata/",
        str(folder / "targets"),
        f"{url}/targets/",
        config=UpdaterConfig(),
        bootstrap=(repository / "public/metadata/1.root.json").read_bytes(),
    )


def test_ngclient_downloads_a_release_and_its_patch(url: str, repository: Path, tmp_path: Path) -> None:
    updater = client(url, repository, tmp_path / "client")
    updater.refresh()
    target = updater.get_targetinfo("pump/1.1.0/app.bin")
    assert target is not None
    assert target.custom["hillhold"]["version"] == "1.1.0"
    assert Path(updater.download_target(target)).read_bytes() == image("1.1.0", edits=20)
    line = (repository / "public/metadata/2.pump.json").read_text()
    assert ".patch" in line
    assert updater.get_targetinfo("pump/9.9.9/app.bin") is None


def test_ngclient_follows_a_refresh_and_refuses_what_it_replaced(url: str, repository: Path, tmp_path: Path) -> None:
    stamp = repository / "public/metadata/timestamp.json"
    old = stamp.read_bytes()
    hillhold("refresh", repository, now=NOW + 5)
    assert stamp.read_bytes() != old
    client(url, repository, tmp_path / "client").refresh()
    stamp.write_bytes(old)
    updater = client(url, repository, tmp_path / "client")
    with pytest.raises(RepositoryError):
        updater.refresh()
    assert updater is not None
    held = (tmp_path / "client/metadata/timestamp.json").read_bytes()
    assert held != old


def test_ngclient_refuses_a_repository_that_nobody_refreshed(url: str, repository: Path, tmp_path: Path) -> None:
    updater = client(url, repository, tmp_path / "client")
    from datetime import UTC, datetime, timedelta

    updater._trusted_set.reference_time = datetime.now(UTC) + timedelta(days=2)
    with pytest.raises(ExpiredMetadataError):
        updater.refresh()
