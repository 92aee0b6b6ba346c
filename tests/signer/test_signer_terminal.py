"""What a person meets at the terminal, and a job that has none: questions, refusals before a passphrase, errors in one line."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import pytest
from securesystemslib.signer import CryptoSigner

from command import hillhold, uri
from hillhold_signer import NamedKey, Repository, Team, Wish, add_product, add_release
from hillhold_signer.cli import main
from hillhold_signer.keyfiles import generate, write_key
from hillhold_signer.keys import load_public
from hillhold_signer.lines import set_team
from workshop import HARDWARE, NOW, image, pump, release, started

COMMAND = [sys.executable, "-m", "hillhold_signer.cli"]
PLAN = ["--security-counter", "3", "--header-size", "0x200", "--slot-size", "0x20000", "--pad-header"]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    found = started(tmp_path / "repo")
    release(found, image("1.0.0"))
    add_release(found, "pump", image("1.1.0"), Wish("app.bin", hardware=HARDWARE[:1]), NOW)
    return found


def at_terminal(*words: object, dialogue: list[tuple[str, str]]) -> tuple[int, str]:
    """Run the command with a terminal of its own; of each pair, wait for the first and type the second."""
    master, slave = os.openpty()
    process = subprocess.Popen(
        [*COMMAND, *map(str, words)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        preexec_fn=lambda: os.login_tty(slave),
    )
    os.close(slave)
    seen = ""
    try:
        for wait, typed in [*dialogue, ("\0", "")]:
            mark = len(seen)
            while wait not in seen[mark:]:
                assert select.select([master], [], [], 30)[0], f"no {wait!r} after {seen!r}"
                try:
                    chunk = os.read(master, 4096)
                except OSError:
                    chunk = b""
                if not chunk:
                    break
                seen += chunk.decode().replace("\r\n", "\n")
            if typed:
                time.sleep(
                    0.3
                )  # a person sees the prompt before they type; what comes while readline starts can get lost
                os.write(master, typed.encode())
    except BaseException:
        process.kill()
        raise
    finally:
        os.close(master)
    return process.wait(20), seen


def without_terminal(*words: object, given: str | None = None) -> subprocess.CompletedProcess[str]:
    stdin = {"stdin": subprocess.DEVNULL} if given is None else {"input": given}
    return subprocess.run(
        [*COMMAND, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        start_new_session=True,
        **stdin,
    )


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["n\n", "\n", "\x04"])
def test_a_no_at_the_terminal_is_no_advice_about_unattended_jobs(repository: Repository, answer: str) -> None:
    code, seen = at_terminal(
        "sign", repository.layout.path, "--key", uri("release-1"), dialogue=[("Sign this? [y/N]: ", answer)]
    )
    assert code == 1
    assert seen.endswith("error: nothing was done\n")
    assert "hint" not in seen


@pytest.mark.slow
def test_ctrl_c_at_a_question_ends_its_line_first(repository: Repository) -> None:
    words = ("sign", repository.layout.path, "--key", uri("release-1"))
    code, seen = at_terminal(*words, dialogue=[("Sign this? [y/N]: ", "\x03")])
    assert code == 130
    assert seen.endswith("\nerror: interrupted\n")
    assert "hint" not in seen


@pytest.mark.slow
def test_ctrl_c_at_a_passphrase_is_not_a_broken_key(repository: Repository, tmp_path: Path) -> None:
    private, public = write_key(tmp_path / "ada", generate(), "long enough")
    public.unlink()  # with it, the key would be refused before, since nothing asks for it
    words = ("sign", repository.layout.path, "--key", f"file:{private}")
    code, seen = at_terminal(*words, dialogue=[(".pem: ", "\x03")])
    assert code == 130
    assert seen.endswith("\nerror: interrupted\n")


def test_without_a_terminal_the_question_says_what_answers_it(repository: Repository) -> None:
    refused = without_terminal("sign", repository.layout.path, "--key", uri("release-1"))
    assert refused.returncode == 1
    assert refused.stderr.endswith("error: nothing was done\nhint: unattended, --yes answers\n")


@pytest.mark.slow
def test_an_encrypted_key_without_a_terminal_is_a_usage_error(repository: Repository, tmp_path: Path) -> None:
    private, public = write_key(tmp_path / "ada", generate(), "long enough")
    public.unlink()
    words = ("sign", repository.layout.path, "--key", f"file:{private}")
    refused = without_terminal(*words)
    expected = f"error: {private} is encrypted, and there is no terminal to ask at\nhint: --passphrase-fd N\n"
    assert (refused.returncode, refused.stderr) == (2, expected)
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *COMMAND, *map(str, words)], capture_output=True, text=True
    )
    assert (closed.returncode, closed.stderr) == (2, expected)
    new = without_terminal("key", "new", tmp_path / "grace")
    assert (new.returncode, "the passphrase is needed" in new.stderr) == (2, True)
    piped = without_terminal(*words, given="long enough\ny\n")
    assert piped.returncode == 1
    assert "Warning" not in piped.stderr
    assert "no terminal" not in piped.stderr


@pytest.mark.slow
def test_a_new_passphrase_is_asked_again_in_words(tmp_path: Path) -> None:
    first, again = "Passphrase: ", "The same again: "
    dialogue = [(first, "\n"), (first, "one\n"), (again, "two\n"), (first, "short\n"), (again, "short\n")]
    code, seen = at_terminal("key", "new", tmp_path / "ada", dialogue=dialogue)
    assert code == 0
    assert "empty; --no-passphrase leaves it unencrypted; once more\n" in seen
    assert "these are two different passphrases; once more\n" in seen
    assert "\nshort: anyone who copies the file can try all of these\n" in seen
    assert "Error" not in seen
    long = hillhold("key", "new", tmp_path / "grace", answers="12345678\n12345678\n")
    assert (long.exit_code, long.stderr) == (0, "Passphrase:\nThe same again:\n")


def test_usage_errors_are_one_line() -> None:
    refused = hillhold("completion")
    assert refused.exit_code == 2
    assert "\\n" not in refused.stderr
    assert "Choose from: bash, zsh, fish" in refused.stderr


def test_a_key_named_in_the_wrong_way_is_told_the_right_one(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_key(Path("ada"), generate(), None)
    words = ("sign", repository.layout.path, "--yes", "--key")
    public = hillhold(*words, "file:ada.pub").stderr
    assert public == "error: ada.pub: expected a private key, got a public key\nhint: file:ada.pem\n"
    Path("ada.pem").rename("grace.pem")
    assert "hint" not in hillhold(*words, "file:ada.pub").stderr
    assert "hint: --key file:grace.pem\n" in hillhold(*words, "grace.pem").stderr
    assert "hint: for a PEM file: file:PATH\n" in hillhold(*words, "ada.pem").stderr


def test_a_descriptor_that_is_not_open_is_a_sentence(tmp_path: Path) -> None:
    refused = hillhold("key", "new", tmp_path / "ada", "--passphrase-fd", 998)
    assert refused.stderr.startswith("error: --passphrase-fd 998: no such descriptor is open for reading\n")


@pytest.mark.slow
def test_what_can_be_checked_is_checked_before_a_passphrase_is_asked(tmp_path: Path) -> None:
    private, _ = write_key(tmp_path / "ada", generate(), "long enough")
    assert "ada.pem exists" in without_terminal("key", "new", tmp_path / "ada").stderr
    (tmp_path / "raw.bin").write_bytes(bytes(1000))
    words = ("image", "sign", tmp_path / "raw.bin", tmp_path / "out.bin", "--key", f"file:{private}")
    assert "version" in without_terminal(*words, *PLAN, "--version", "1.0").stderr
    assert "header size" in without_terminal(*words, *PLAN, "--version", "1.0.0", "--header-size", "1").stderr
    assert "no terminal" in without_terminal(*words, *PLAN, "--version", "1.0.0").stderr


def test_an_image_is_not_put_into_an_image(tmp_path: Path) -> None:
    (tmp_path / "pump.bin").write_bytes(image("1.0.0"))
    words = ("image", "sign", tmp_path / "pump.bin", tmp_path / "out.bin", "--key", uri("image"), "--demo")
    refused = hillhold(*words, *PLAN, "--version", "1.1.0")
    assert refused.exit_code == 1
    assert "error: pump.bin is an MCUboot image already (1.0.0)\n" in refused.stderr
    (tmp_path / "pump.bin").write_bytes(image("1.0.0")[:600])
    assert "error: pump.bin is an MCUboot image already\n" in hillhold(*words, *PLAN, "--version", "1.1.0").stderr
    assert not (tmp_path / "out.bin").exists()


def test_firmware_is_told_from_a_damaged_image(tmp_path: Path) -> None:
    file = tmp_path / "zephyr.bin"
    file.write_bytes(bytes(1000))
    refused = hillhold("image", "show", file)
    assert refused.exit_code == 1
    assert refused.stderr.startswith(f"error: {file}: image magic")
    assert "no MCUboot image: `hillhold image sign`" in refused.stderr
    file.write_bytes(image("1.0.0")[:600])
    assert "hint" not in hillhold("image", "show", file).stderr


def test_the_table_of_status_is_as_wide_as_its_longest_name(repository: Repository) -> None:
    name = "pump-for-intensive-care"
    add_product(repository, replace(pump(), name=name), NOW)
    lines = hillhold("status", repository.layout.path).output.splitlines()
    rows = [line for line in lines if line.startswith(("role ", "root ", "timestamp ", name))]
    assert len(rows) == 4
    assert {line[len(name)] for line in rows} == {" "}
    assert rows[0].index("published") == len(name) + 1 == rows[1].index("1 ")


def test_each_command_has_a_help_that_fits_into_the_list() -> None:
    def commands(group: click.Group) -> Iterator[click.Command]:
        for command in group.commands.values():
            yield command
            if isinstance(command, click.Group):
                yield from commands(command)

    long = [command.name for command in commands(main) if len(command.get_short_help_str(200)) > 50]
    assert long == []
    assert "..." not in hillhold("--help").output.partition("Commands:")[2]


def test_people_are_listed_by_name(repository: Repository, tmp_path: Path) -> None:
    path = repository.layout.path
    private, public = write_key(tmp_path / "key", generate(), None)
    others = (NamedKey(f"P{at}", CryptoSigner.generate_ed25519().public_key) for at in range(1, 9))
    people = Team((NamedKey("P0", load_public(public)), *others), 2)
    names = [item.name for item in people.keys]
    set_team(repository, "pump", people, NOW)
    refused = hillhold("product", "team", path, "pump", "--remove", "nobody").stderr
    assert re.findall(r"P\d", refused) == names
    page = hillhold("root", "transcript", path).output.partition("pump, version")[2].partition("Present")[0]
    assert re.findall(r"\[ \] (P\d)", page) == names
    assert hillhold("request", path, "pump", "-o", tmp_path / "pump.request").exit_code == 0
    shown = hillhold("sign", tmp_path / "pump.request", "--key", f"file:{private}", "--yes").output
    assert re.findall(r"P\d", shown.partition("of these sign")[2].partition("\n")[0]) == names
