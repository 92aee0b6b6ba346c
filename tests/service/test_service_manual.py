"""docs/SERVICE.md: its commands, run by bash against a real service in the order of the page; its tables, held against what there is."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import httpx
import pytest

from guide import masked, matches
from hillhold_signer.service.app import create_app
from hillhold_signer.service.oidc import Issuer
from hillhold_signer.service.service import Service
from hillhold_signer.service.settings import Settings, Tls, read_settings
from lab import BIN
from postgres import free_port
from servicekit import never_asked, until

PAGE = Path(__file__).parents[2] / "docs" / "SERVICE.md"
_BLOCK = re.compile(r"^```(console|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_KEPT = re.compile(r"export [A-Z_]+=\S.*|[A-Z_]+=\$\(.*\)|[a-z]+\(\) \{.*\}")
"""What later commands of the page need of earlier ones: a variable, a function."""


def steps(text: str) -> Iterator[tuple[str, str]]:
    """Yield (command, expected output) of the page; a command goes on in lines that begin with `> `."""
    for kind, body in _BLOCK.findall(text):
        for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:] if kind == "console" else ():
            first, *rest = part.splitlines()
            more = 0
            while more < len(rest) and rest[more].startswith("> "):
                more += 1
            yield "\n".join([first, *(line[2:] for line in rest[:more])]), "\n".join(rest[more:])


class Reader:
    """Somebody who types what the page says, answers what is asked, and compares what is printed."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self._kept: list[str] = []
        self._server: subprocess.Popen[bytes] | None = None
        path = f"{BIN}:{os.environ['PATH']}"
        self._env = {**os.environ, "PATH": path, "HILLHOLD_CONFIG": str(folder / "options" / "config.toml")}

    def type(self, command: str, expected: str) -> None:
        if command == "hillhold serve service":
            self._serve()
            return
        if _KEPT.fullmatch(command):
            self._kept.append(command)
        name = re.search(r"(?:key new |--key file:)([a-z]+)", command)
        phrase = f"correct horse of {name[1]}\n" if name else ""
        script = "\n".join(["set -o pipefail", *self._kept, command])
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self._env,
            input=2 * phrase,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        if expected:
            assert matches(done.stdout, expected), f"{command}\n{masked(done.stdout)}\n---\n{masked(expected)}"

    def _serve(self) -> None:
        words = [str(BIN / "hillhold"), "serve", "service", "--listen", f"127.0.0.1:{self.port}"]
        with (self.folder / "serve.log").open("wb") as log:
            self._server = subprocess.Popen(words, cwd=self.folder, env=self._env, stdout=log, stderr=log)
        until(self._ready, "for the service")

    def _ready(self) -> bool:
        assert self._server is not None
        assert self._server.poll() is None, (self.folder / "serve.log").read_text()
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> str:
        """End the service as systemd would; returns what it has logged."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait(60)
        return (self.folder / "serve.log").read_text()


@pytest.mark.slow
@pytest.mark.system
def test_the_manual_runs_as_it_is_written(tmp_path: Path) -> None:
    port = free_port()
    page = PAGE.read_text().replace("8480", str(port))
    ceremony = next(body for kind, body in _BLOCK.findall(page) if kind == "toml")
    (tmp_path / "ceremony.toml").write_text(ceremony)
    reader, ran = Reader(tmp_path, port), 0
    try:
        for command, expected in steps(page):
            reader.type(command, expected)
            ran += 1
    finally:
        log = reader.stop()
    assert "shutdown complete" in log
    assert "hh_" not in log
    assert ran > 80


# --- tables ---------------------------------------------------------------------------------------------------------------------------


def section(title: str) -> str:
    return PAGE.read_text().split(f"\n## {title}\n")[1].partition("\n## ")[0]


def test_the_settings_of_the_manual_are_those_that_there_are(tmp_path: Path) -> None:
    text = section("Settings")
    (block,) = [body for kind, body in _BLOCK.findall(text) if kind == "toml"]
    (tmp_path / "service.toml").write_text(block)
    found = read_settings(tmp_path)
    assert (found.url, found.max_upload, found.issuers[0].max_age) == ("https://sign.example.org", 1 << 30, 600)
    named = set(re.findall(r"`(?:\[+)?([a-z_]+)(?:\]+)?`", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)))
    there = {field.name for field in fields(Settings)} - {"folder", "issuers"} | {"issuer"}
    inner = {field.name for kind in (Tls, Issuer) for field in fields(kind)}
    assert there | inner <= named


def test_every_metric_and_every_request_stands_in_the_manual(tmp_path: Path) -> None:
    made = subprocess.run(
        [
            *(BIN / "hillhold", "service", "init", "s", "--config", _ceremony(tmp_path), "--admin", "Ada", "--demo"),
            *("--log-name", "updates.example.com/log"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    service = Service(read_settings(tmp_path / "s"), never_asked, lambda *_: None)
    schema = create_app(service).openapi()
    families = {line.split()[2] for line in service.measure().decode().splitlines() if line.startswith("# HELP")}
    service.close(10)
    operations, requests = section("Operations"), section("Requests")
    missing = [
        name
        for name in families
        if name.startswith("hillhold_") and not name.endswith("_created") and f"`{name}`" not in operations
    ]
    assert not missing
    paths = set(schema["paths"])
    assert len(paths) > 25
    assert [path for path in sorted(paths) if path not in re.sub(r"`(?:[A-Z]+|, )+", " ", requests)] == []


def _ceremony(folder: Path) -> Path:
    keys = Path(__file__).parents[2] / "keys-example"
    people = ", ".join(
        f'{{ name = "{name}", file = "{keys}/{name}-public-on-purpose.pub" }}' for name in ("root-1", "root-2")
    )
    text = "".join(f"[{role}]\nthreshold = 2\nkeys = [{people}]\n" for role in ("root", "targets"))
    for role in ("snapshot", "timestamp"):
        stem = f"{keys}/{role}-public-on-purpose"
        text += f'[{role}]\nkey = {{ file = "{stem}.pub", uri = "file:{stem}.pem" }}\n'
    (folder / "ceremony.toml").write_text(text)
    return folder / "ceremony.toml"
