"""Two S3 endpoints on loopback, each a program of its own that ends with the test.

- `moto`: heeds If-Match and If-None-Match, as S3 does; some 500 small puts a second.
- `rclone`: on a folder, several times as fast; it ignores conditions without a word, as older stores do.

    with S3("moto") as server:
        bucket = server.bucket()
        store = obstore.store.from_url(bucket.url, **bucket.options)
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import httpx

from postgres import free_port

KEY, SECRET, REGION = "AKIAHILLHOLD", "public-on-purpose", "eu-west-1"
MOTO = Path(__file__).parents[2] / ".cache" / "moto"
BUCKETS = 1000
PATIENCE = 30.0
"""Seconds to start or stop in."""


@dataclass(frozen=True)
class Bucket:
    """A bucket, empty at first.

    Attributes:
        endpoint: URL of the server.
    """

    name: str
    endpoint: str

    @property
    def url(self) -> str:
        """As settings name it."""
        return f"s3://{self.name}"

    @property
    def options(self) -> dict[str, Any]:
        """What `obstore.store.from_url` takes beside the URL."""
        return {
            "endpoint": self.endpoint,
            "access_key_id": KEY,
            "secret_access_key": SECRET,
            "region": REGION,
            "virtual_hosted_style_request": False,
            "client_options": {"allow_http": True},
        }

    @property
    def environment(self) -> dict[str, str]:
        """The same for a process that is told by its environment."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
            "AWS_ALLOW_HTTP": "true",
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
        }

    def through(self, port: int) -> Bucket:
        """The same bucket, through a proxy on loopback."""
        return Bucket(self.name, f"http://127.0.0.1:{port}")


class S3:
    """One server.

    Attributes:
        port: of 127.0.0.1.
    """

    def __init__(self, kind: Literal["moto", "rclone"] = "moto") -> None:
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="hillhold-s3-"))
        programs = Path(sys.executable).parent
        self._count = 0
        self._kind = kind
        if kind == "moto":
            assert MOTO.exists(), "moto is missing: make system"
            self._command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        else:
            serve = ["serve", "s3", str(self._folder / "data"), "--addr", f"127.0.0.1:{self.port}"]
            told = ["--auth-key", f"{KEY},{SECRET}", "--config", "/dev/null", "--dir-cache-time", "24h", "--quiet"]
            self._command = [str(programs / "rclone"), *serve, *told]

    def __enter__(self) -> S3:
        for number in range(1, BUCKETS):  # rclone looks at its folder once
            (self._folder / "data" / f"hillhold-{number}").mkdir(parents=True)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self._folder,
                env=os.environ | {"PYTHONPATH": str(MOTO)},
            )
        end = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise AssertionError(self.log.read_text()) from None
                time.sleep(0.05)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)
        shutil.rmtree(self._folder)

    @property
    def log(self) -> Path:
        """What the server says."""
        return self._folder / "log"

    def bucket(self) -> Bucket:
        """Make a new bucket."""
        self._count += 1
        assert self._count < BUCKETS
        found = Bucket(f"hillhold-{self._count}", f"http://127.0.0.1:{self.port}")
        if self._kind == "moto":  # which asks for no signature
            place = f"<CreateBucketConfiguration><LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>"
            httpx.put(f"{found.endpoint}/{found.name}", content=place).raise_for_status()
        return found
