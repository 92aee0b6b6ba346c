"""`hillhold-device` with each kind of source: a folder, a bundle that `hillhold bundle` wrote, and a web server that is not a good one."""

from __future__ import annotations

from pathlib import Path

import pytest

from hillhold_signer.bundle import write_bundle
from hillhold_verifier.cli import main
from lab import Done, Lab, run
from web import Web, cut, serve, status
from workshop import tree

Capture = pytest.CaptureFixture[str]


def call(capsys: Capture, *arguments: object) -> Done:
    code = main([*map(str, arguments)])
    captured = capsys.readouterr()
    return Done(code, captured.out, captured.err)


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_a_folder_a_bundle_and_a_server_bring_the_same(lab: Lab, tmp_path: Path, capsys: Capture) -> None:
    old, new = tmp_path / "old.hillhold", tmp_path / "new.hillhold"
    assert run("hillhold", "bundle", lab.one, "pump", "-o", old).code == 0
    write_bundle(lab.two, ["pump"], new)
    with lab.board(tmp_path / "flash") as board, Web(tree(lab.two)) as web:
        port = ("--port", board.port)
        pushed = call(capsys, "push", old, *port)
        assert (pushed.code, pushed.out.splitlines()[0][:45]) == (0, "installed and confirmed pump/1.0.0/app.bin: i")
        choices = [call(capsys, "check", source, *port, "--json").json for source in (lab.two, new, web.url)]
        assert choices[0]["plan"][0]["path"] == "pump/1.1.0/app.bin"
        assert choices[1:] == choices[:1] * 2
        web.faults = [*[serve] * 9, cut(100), status(503), cut(3000)]
        done = call(capsys, "push", web.url, *port, "--no-patch", "--json")
        assert (done.code, done.json["how"]) == (0, "image")
        again = call(capsys, "push", new, *port)
        assert (again.code, again.out.splitlines()[0]) == (0, "nothing to install: the board is up to date")


def test_what_is_said_of_a_source_that_fails(lab: Lab, tmp_path: Path, capsys: Capture) -> None:
    with lab.board(tmp_path / "flash") as board, Web({}) as web:
        port = ("--port", board.port)
        (tmp_path / "app.bin").write_bytes(b"firmware")
        secret = web.url.replace("//", "//ada:geheim@")
        web.faults = [status(401)]
        for source, code, says, hint in (
            (tmp_path / "app.bin", 1, "error: bundle: expected a zip archive", ""),
            ("ftp://ada:geheim@host/", 2, "error: URL of a repository: expected http(s)://", ""),
            (secret, 3, f"error: {web.url}metadata/1.root.json: status 401", "hint: is the URL right? for a password"),
            (secret, 3, "error: the repository lacks 1.root.json", "hint: "),
            ("http://127.0.0.1:1/", 3, "error: http://127.0.0.1:1/metadata/1.root.json: ", "hint: is the server up"),
        ):
            done = call(capsys, "check", source, *port)
            assert (done.code, done.out) == (code, "")
            assert says in done.err
            assert hint in done.err
            assert "geheim" not in done.err
