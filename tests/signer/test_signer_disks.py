"""Disks that are full, read-only, or fail at any write: a clear error, nothing half done, and the same command works afterwards."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from command import hillhold, uri
from hillhold_signer import Repository, Wish, add_release, verify_tree
from hillhold_signer.errors import StorageError
from hillhold_signer.revocation import read_revoked
from hillhold_signer.roots import renew, revoke
from hillhold_signer.withdrawing import withdraw
from workshop import HARDWARE, NOW, image, online, release, sign_all, started, tree

WISH = Wish("app.bin", hardware=HARDWARE)


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, at: int, code: int) -> Iterator[list[int]]:
    """Make the `at`th write fail when it is to reach the disk; yields a list of how many there were."""
    count = [0]
    real = os.fsync

    def fsync(descriptor: int) -> None:
        count[0] += 1
        if count[0] == at:
            raise OSError(code, os.strerror(code))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fsync)
        yield count


@contextmanager
def read_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No file can be opened to be written, made, renamed or removed."""
    refused = OSError(errno.EROFS, os.strerror(errno.EROFS))
    real_open, real_path_open = os.open, Path.open

    def refuse(*_: object, **__: object) -> None:
        raise refused

    def os_open(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise refused
        return real_open(path, flags, *more, **named)

    def path_open(self: Path, mode: str = "r", *more: Any, **named: Any) -> Any:
        if set(mode) & set("wxa+"):
            raise refused
        return real_path_open(self, mode, *more, **named)

    with monkeypatch.context() as patch:
        patch.setattr("os.open", os_open)
        patch.setattr(Path, "open", path_open)
        for name in ("mkdir", "rename", "replace", "unlink"):
            patch.setattr(Path, name, refuse)
        yield


@pytest.fixture
def base(tmp_path: Path) -> Repository:
    """A published release; a second one that waits for its second signature."""
    repository = started(tmp_path / "base")
    release(repository, image("1.0.0"), wish=WISH)
    add_release(repository, "pump", image("1.1.0", edits=20), WISH, NOW)
    sign_all(repository, "release-1")
    return repository


def sign(repository: Repository) -> None:
    sign_all(repository, "release-2")


def publish(repository: Repository) -> None:
    sign(repository)
    repository.publish(online(), NOW)


ACTS: dict[str, Callable[[Repository], object]] = {
    "add": lambda repository: add_release(repository, "pump", image("1.2.0", edits=30), WISH, NOW),
    "withdraw": lambda repository: withdraw(repository, "pump", "1.0.0", "leaks", NOW),
    "sign": sign,
    "publish": publish,
    "refresh": lambda repository: repository.refresh(online(), NOW),
    "renew": lambda repository: renew(repository, ["targets", "pump"], NOW + 1),
    "revoke": lambda repository: revoke(repository, "root-3", "lost", NOW),
}


def error_of(act: Callable[[Repository], object], repository: Repository) -> StorageError | None:
    try:
        act(repository)
    except StorageError as error:
        return error
    return None


def is_done(repository: Repository, act: str) -> bool:
    """The folder's own entry may be what failed to reach the disk: then what was to be drafted is there, and cannot be drafted twice."""
    targets = repository.state().line("pump").targets
    if act == "add":
        return any(path.startswith("pump/1.2.0/") for path in targets)
    return act == "withdraw" and "withdrawn" in targets["pump/1.0.0/app.bin"].custom["hillhold"]


@pytest.mark.slow
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_write_that_fails_leaves_a_state_from_which_the_same_command_works(
    tmp_path: Path, base: Repository, monkeypatch: pytest.MonkeyPatch, act: str, code: int
) -> None:
    signed = base.state().drafts["pump"].digest
    at = 0
    while True:
        at += 1
        path = tmp_path / f"{act}-{at}"
        for name, data in tree(base.folder.path).items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
        repository = Repository(path)
        with failing(monkeypatch, at, code) as count:
            if not (error := error_of(ACTS[act], repository)):
                break
        assert count[0] == at
        assert error.exit_code == 3
        assert os.strerror(code) in str(error)
        verify_tree(path, NOW)
        assert not [name for name in tree(path) if name.endswith(".tmp")], at
        draft = repository.state().drafts.get("pump")
        if draft is not None and draft.digest == signed:
            assert draft.signatures, f"write {at}: a lost signature"
        if act == "publish" and "pump" not in repository.state().drafts:
            repository.publish(online(), NOW)
        elif not is_done(repository, act):
            ACTS[act](repository)
        verify_tree(path, NOW)
        assert act != "revoke" or read_revoked(repository.layout)
    assert at > 1


def test_a_repository_on_a_read_only_disk_is_read_and_says_so_when_it_is_to_change(
    tmp_path: Path, base: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = base.folder.path
    before = tree(path)
    (tmp_path / "app.bin").write_bytes(image("1.3.0", edits=3))
    keys = ["--snapshot-key", uri("snapshot"), "--timestamp-key", uri("timestamp")]
    with read_only(monkeypatch):
        for name in (["status"], ["diff"], ["root", "show"], ["release", "list"], ["verify"]):
            line = ["pump"] if name[0] == "release" else []
            said = hillhold(*name, path, *line)
            assert said.exit_code == 0, said.output
        for words in (
            ["sign", path, "--key", uri("release-2"), "--yes"],
            ["add", path, "pump", tmp_path / "app.bin", "--hardware", HARDWARE[0]],
            ["renew", path, "targets"],
            ["refresh", path, *keys],
            ["prune", path],
            ["revoke", path, "root-3", "--reason", "lost"],
        ):
            said = hillhold(*words)
            assert said.exit_code == 3, (words, said.output)
            assert said.stderr.startswith("error: cannot lock "), words
            assert "Read-only file system" in said.stderr
    assert tree(path) == before
