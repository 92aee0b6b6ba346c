"""`hillhold-device` as people use it: what it does, what it says, and with which exit code; on a board that is a process of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from hillhold_verifier.agent import CHOOSE, HELD, IDENTIFY, STATUS
from hillhold_verifier.cli import main
from hillhold_verifier.errors import MetadataError, OperationalError
from hillhold_verifier.smp import Group, Message, Op, OsCommand, decode, encode
from hillhold_verifier.smp_console import ConsoleDecoder, Packet, encode_console
from hillhold_verifier.sources import DirectorySource
from lab import BIN, TIMEOUT, Board, Done, Lab, device

Capture = pytest.CaptureFixture[str]


def call(capsys: Capture, *arguments: object) -> Done:
    """The same command within this process."""
    code = main([*map(str, arguments)])
    captured = capsys.readouterr()
    return Done(code, captured.out, captured.err)


# --- the way of an update ---------------------------------------------------------------------------------------------


def test_check_push_patch_and_a_rollback(lab: Lab, tmp_path: Path, capsys: Capture) -> None:
    with lab.board(tmp_path / "flash") as board:
        port = ("--port", board.port)
        assert call(capsys, "check", lab.one, *port).out.startswith("would install pump/1.0.0/app.bin (")
        pushed = device("push", lab.one, *port)
        assert pushed.code == 0
        assert pushed.out.startswith("installed and confirmed pump/1.0.0/app.bin: image of ")
        assert "board unit-7: pump on nrf51-a\n" in pushed.err
        again = call(capsys, "push", lab.one, *port)
        assert (again.code, again.out.splitlines()[0]) == (0, "nothing to install: the board is up to date")
        (choice,) = call(capsys, "check", lab.two, *port, "--json").json["plan"]
        assert choice["path"] == "pump/1.1.0/app.bin"
        patched = call(capsys, "push", lab.two, *port, "--json")
        assert (patched.code, patched.json["how"], patched.err) == (0, "patch", "")
        assert patched.json["payload_bytes"] < 1000
        status = call(capsys, "status", *port, "--json").json
        assert status["running"] == status["confirmed"] == ["1.1.0", choice["sha"]]

        refused = call(capsys, "push", lab.one, *port)
        assert (refused.code, refused.out) == (1, "")
        assert "error: timestamp version: expected at least 3, got 2\nhint: " in refused.err
        machine = call(capsys, "push", lab.one, *port, "--json")
        assert (machine.code, machine.err) == (1, "")
        assert machine.json["error"] == "timestamp version: expected at least 3, got 2"
        assert call(capsys, "status", *port, "--json").json["running"] == status["running"]
        assert "last refusal       timestamp version: expected at least 3" in call(capsys, "status", *port).out


def test_confirmation_over_the_wire(lab: Lab, tmp_path: Path, capsys: Capture) -> None:
    with lab.board(tmp_path / "flash", "--confirm", "wire", tcp=True) as board:
        port = ("--port", board.port)
        early = call(capsys, "confirm", *port)
        assert (early.code, early.err.splitlines()[0]) == (
            1,
            "error: confirmation: expected an image on trial, got none",
        )
        marked = call(capsys, "push", lab.one, *port, "--no-reset")
        assert marked.out.startswith("marked pump/1.0.0/app.bin")
        assert call(capsys, "status", *port, "--json").json["marked"] == "1.0.0"
        trial = call(capsys, "push", lab.one, *port)
        assert (trial.code, trial.out.splitlines()[0][:9]) == (0, "on trial:")
        assert call(capsys, "confirm", *port).out == "confirmed 1.0.0\n"
        assert call(capsys, "status", *port, "--json").json["confirmed"][0] == "1.0.0"


def test_a_trial_that_fails_goes_back(lab: Lab, tmp_path: Path, capsys: Capture) -> None:
    with lab.board(tmp_path / "flash", "--self-test", "fail") as board:
        done = call(capsys, "push", lab.one, "--port", board.port)
        assert (done.code, done.out.splitlines()[0]) == (
            1,
            "reverted: the trial of pump/1.0.0/app.bin failed; the board runs nothing",
        )
        again = call(capsys, "push", lab.one, "--port", board.port)
        assert (again.code, again.out.splitlines()[0]) == (1, "nothing to install")
        assert "passed over" in again.out


@pytest.mark.slow
def test_a_trial_that_hangs_is_waited_for(lab: Lab, tmp_path: Path, capsys: Capture) -> None:
    with lab.board(tmp_path / "flash", "--self-test", "hang") as board:
        done = call(capsys, "push", lab.one, "--port", board.port)
        assert (done.code, done.out.splitlines()[0][:8]) == (1, "reverted")
        assert "watchdog" in board.log


# --- interruptions ----------------------------------------------------------------------------------------------------


@contextmanager
def half_a_push(source: Path, port: str) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], str]]]:
    """A push on a terminal of its own, up to a third; gives the process, and what reads its errors to the end."""
    ours, theirs = os.openpty()
    command = [str(BIN / "hillhold-device"), "push", str(source), "--port", port]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    text = ""

    def more() -> str:
        nonlocal text
        try:
            text += os.read(ours, 4096).decode(errors="replace")
        except OSError:  # a terminal whose other end is closed
            return ""
        return text

    def rest() -> str:
        while more():
            pass
        return text

    watchdog = threading.Timer(TIMEOUT, process.kill)
    watchdog.start()
    try:
        while not re.search(r" 3\d % .* image pump/", text):
            assert more(), text
        yield process, rest
    finally:
        watchdog.cancel()
        process.kill()
        process.wait(TIMEOUT)
        os.close(ours)


def resumed(source: Path, board: Board) -> None:
    status = device("status", "--port", board.port, "--json").json
    assert status["transfer"].startswith("pump/1.1.0/")
    done = device("push", source, "--port", board.port, "--json")
    assert (done.code, done.json["status"]["running"][0]) == (0, "1.1.0")
    # base64 makes four bytes of three
    assert done.json["sent_bytes"] < done.json["payload_bytes"] * 4 / 3 * 0.9


@pytest.mark.skipif(sys.platform == "win32", reason="needs a terminal")
def test_ctrl_c_in_the_middle_and_on_from_there(large: Lab, tmp_path: Path) -> None:
    with large.board(tmp_path / "flash") as board:
        with half_a_push(large.two, board.port) as (process, rest):
            process.send_signal(signal.SIGINT)
            assert process.wait(TIMEOUT) == 3
            error, hint = rest().splitlines()[-2:]
        assert (error, hint[:6]) == ("error: interrupted", "hint: ")
        resumed(large.two, board)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a terminal")
def test_the_board_loses_power_in_the_middle_and_on_from_there(large: Lab, tmp_path: Path) -> None:
    with large.board(tmp_path / "flash", tcp=True) as board, half_a_push(large.two, board.port) as (process, rest):
        board.kill()
        assert process.wait(TIMEOUT) == 3
        assert "error: " in rest()
        assert "hint: " in rest()
    with large.board(tmp_path / "flash") as board:
        resumed(large.two, board)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a terminal")
def test_a_port_serves_one_program_at_a_time(large: Lab, tmp_path: Path, capsys: Capture) -> None:
    with large.board(tmp_path / "flash") as board, half_a_push(large.two, board.port) as (process, _):
        second = call(capsys, "push", large.two, "--port", board.port)
        assert (second.code, second.err.splitlines()[0]) == (3, f"error: port {board.port}: in use by another program")
        process.send_signal(signal.SIGINT)


def test_a_second_program_on_a_tcp_line_is_turned_away(large: Lab, tmp_path: Path) -> None:
    """It hears that the line is taken, at once, and not that a board is silent; the first one goes on."""
    with large.board(tmp_path / "flash", tcp=True) as board, half_a_push(large.two, board.port) as (process, _):
        second = device("push", large.two, "--port", board.port)
        assert (second.code, second.out) == (3, "")
        assert "nothing else using the port?" in second.err
        assert process.poll() is None
        process.send_signal(signal.SIGINT)


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "the following arguments are required: COMMAND"),
        (["push"], 2, "the following arguments are required: SOURCE, --port"),
        (["status", "--port", "x", "--bad"], 2, "unrecognized arguments: --bad"),
        (["status", "--port", "x", "--baud", "0"], 2, "expected a number from 1"),
        (["status", "--port", "x", "--group", "70000"], 2, "expected a number from 0 to 65535"),
        (["status", "--port", "./nope"], 3, "port ./nope: No such file or directory"),
        (["status", "--port", ""], 3, "port : "),
        (["status", "--port", "foo://x"], 3, "protocol 'foo' not known"),
        (["status", "--port", "socket://127.0.0.1:1"], 3, "Connection refused"),
        (["push", "no-folder", "--port", "x"], 3, "not a repository"),
        (["check", ".", "--port", "x"], 3, "not a repository"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_errors_are_two_lines_or_one_object(
    arguments: list[str], code: int, words: str, as_json: bool, capsys: Capture
) -> None:
    done = call(capsys, *arguments, *(["--json"] if as_json else []))
    assert done.code == code
    if as_json:
        assert done.err == ""
        assert set(done.json) == {"error", "hint", "exit"}
        assert words in done.json["error"]
        assert done.json["exit"] == code
    else:
        assert done.out == ""
        error, hint = done.err.splitlines()
        assert error.startswith("error: ")
        assert words in error
        assert hint.startswith("hint: ")


def test_a_repository_that_lacks_a_file(lab: Lab, tmp_path: Path, capsys: Capture) -> None:
    source = tmp_path / "copy"
    shutil.copytree(lab.one, source)
    (source / "metadata" / "timestamp.json").unlink()
    with lab.board(tmp_path / "flash") as board:
        done = call(capsys, "push", source, "--port", board.port)
        assert (done.code, done.err.splitlines()[-2]) == (3, "error: the repository lacks timestamp.json")
        (source / "metadata" / "timestamp.json").mkdir()
        done = call(capsys, "push", source, "--port", board.port)
        assert (done.code, done.err.splitlines()[-1]) == (3, "error: timestamp.json: Is a directory")
        (source / "metadata" / "timestamp.json").rmdir()
        shutil.copy(lab.one / "metadata" / "timestamp.json", source / "metadata")
        shutil.rmtree(source / "targets")
        done = call(capsys, "push", source, "--port", board.port)
        assert (done.code, done.err.splitlines()[-2]) == (
            3,
            "error: target pump/1.0.0/app.bin: No such file or directory",
        )


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_folder_that_cannot_be_read(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    done = call(capsys, "push", tmp_path / "closed", "--port", "x")
    assert (done.code, done.err.splitlines()[0]) == (3, f"error: {tmp_path / 'closed'}: Permission denied")


def test_output_that_nobody_reads_is_no_traceback(lab: Lab, tmp_path: Path) -> None:
    with lab.board(tmp_path / "flash") as board:
        read, write = os.pipe()
        os.close(read)
        command = [str(BIN / "hillhold-device"), "status", "--port", board.port]
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, timeout=TIMEOUT, check=False)
        os.close(write)
    assert (done.returncode, done.stderr) == (3, b"")


# --- a board that lies ------------------------------------------------------------------------------------------------


@contextmanager
def liar(answers: Mapping[tuple[int, int], Mapping[str, object]]) -> Iterator[tuple[str, list[Message]]]:
    """Something on TCP that answers what it likes; gives its port, and what it was asked."""
    asked: list[Message] = []
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(TIMEOUT)

    def serve() -> None:
        peer, _ = listener.accept()
        peer.settimeout(TIMEOUT)
        decoder = ConsoleDecoder(16384)
        with peer:
            while data := peer.recv(4096):
                for event in decoder.feed(data):
                    if isinstance(event, Packet):
                        request = decode(event.data)
                        asked.append(request)
                        body = answers.get((request.group, request.command), {})
                        op = Op.READ_RSP if request.op is Op.READ else Op.WRITE_RSP
                        peer.sendall(
                            encode_console(encode(Message(op, request.group, request.command, request.sequence, body)))
                        )

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"socket://127.0.0.1:{listener.getsockname()[1]}", asked
    finally:
        thread.join(TIMEOUT)
        listener.close()


GROUP = 0x4848
HONEST: dict[tuple[int, int], Mapping[str, object]] = {
    (Group.OS, OsCommand.MCUMGR_PARAMETERS): {"buf_size": 1024},
    (GROUP, IDENTIFY): {"magic": "hillhold", "v": 1, "product": "pump", "hardware": "nrf51-a", "id": "x", "alg": []},
    (GROUP, HELD): {"r": 1, "h": [[0, b""]] * 4},
}


def test_what_a_board_says_moves_no_cursor(capsys: Capture) -> None:
    evil = "x\x1b[2J\x1b[1;1H\r\nerror: forged\u202e"
    identity = {**HONEST[GROUP, IDENTIFY], "id": evil, "product": evil}
    status = {"running": [evil, b"1"], "marked": evil, "refusal": evil, "transfer": evil}
    with liar({**HONEST, (GROUP, IDENTIFY): identity, (GROUP, STATUS): status}) as (port, _):
        done = call(capsys, "status", "--port", port)
    assert done.code == 0
    assert done.out.replace("\n", "").isprintable()
    assert not [line for line in done.out.splitlines() if line.startswith("error:")]
    with liar({**HONEST, (GROUP, IDENTIFY): identity, (GROUP, STATUS): {"rc": 1, "rsn": evil}}) as (port, _):
        done = call(capsys, "status", "--port", port)
    assert done.code == 1
    assert done.err.replace("\n", "").isprintable()
    assert len(done.err.splitlines()) == 2


@pytest.mark.parametrize("path", ["../../secret", "/etc/passwd", "pump/../secret", "pump/1.0.0/.ssh", ""])
def test_a_board_gets_no_file_from_outside_the_repository(lab: Lab, path: str, capsys: Capture) -> None:
    choice = {"plan": [{"n": 0, "path": path, "sha": b"", "len": 6}]}
    with liar({**HONEST, (GROUP, CHOOSE): choice}) as (port, asked):
        done = call(capsys, "push", lab.one, "--port", port)
    assert done.code == 1
    assert "target path: expected PRODUCT/VERSION/FILE" in done.err
    assert not [request for request in asked if request.group == Group.IMAGE]


def test_a_source_opens_only_what_a_repository_can_hold(lab: Lab) -> None:
    source = DirectorySource(lab.one)
    with pytest.raises(MetadataError, match="SHA-256"), source.target("pump/1.0.0/app.bin", b""):
        pass
    for name in ("../boot.pub", "/etc/passwd", ".hidden", "", "1.root.json\n"):
        with pytest.raises(MetadataError, match="metadata file name"):
            source.metadata(name)
    assert source.metadata("9.root.json") is None
    with pytest.raises(OperationalError), source.target("pump/1.0.0/app.bin", bytes(32)):
        pass


def test_a_board_that_takes_nothing_is_given_up(lab: Lab, capsys: Capture) -> None:
    line = json.loads(next((lab.one / "metadata").glob("2.pump.json")).read_text())
    ((path, target),) = line["signed"]["targets"].items()
    entry = {"n": 0, "path": path, "sha": bytes.fromhex(target["hashes"]["sha256"]), "len": target["length"]}
    choice = {"plan": [entry]}
    with liar({**HONEST, (GROUP, CHOOSE): choice, (Group.IMAGE, 1): {"off": 0}}) as (port, asked):
        done = call(capsys, "push", lab.one, "--port", port)
    assert (done.code, done.err.splitlines()[-1].partition(" of")[0]) == (3, "error: the board took no more")
    assert len(asked) < 60


def test_nothing_is_written_to_what_is_not_a_board_of_ours(lab: Lab, capsys: Capture) -> None:
    for command in (["push", lab.one], ["confirm"], ["status"]):
        with liar({(Group.OS, OsCommand.MCUMGR_PARAMETERS): {"buf_size": 1024}}) as (port, asked):
            done = call(capsys, *command, "--port", port)
        assert (done.code, done.err.startswith(f"error: the board does not speak Hillhold's group {GROUP}")) == (
            3,
            True,
        )
        assert {request.op for request in asked} == {Op.READ}
