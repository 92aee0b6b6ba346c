"""Patches of builds that are handed in: made outside the service's process and before its lock, and never a reason to lose a build."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from hillhold_signer.patchpool import PatchPool
from hillhold_signer.service.service import Service
from hillhold_verifier.release import patch_path
from patchworld import instead
from servicekit import Kit, make_kit, never_asked, serving, submit, until
from workshop import image

FIRST = sha256(image("1.0.0")).digest()


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    made = make_kit(tmp_path / "service")
    yield made
    made.data.database.close()


def paths(kit: Kit) -> set[str]:
    with kit.data.reading() as unit:
        return set(unit.repository.state().line("pump").targets)


def test_patches_start_from_what_a_build_names_and_the_same_build_again_changes_nothing(kit: Kit) -> None:
    second = image("1.1.0", edits=3)
    with kit.running() as url, kit.client(url, "ci") as ci:
        assert submit(ci, image("1.0.0"), patch_from=["none"]).json()["patches"] == {}
        answer = submit(ci, second, patch_from=["1.0.0"])
        assert answer.status_code == 201, answer.text
        path = patch_path("pump/1.1.0/app.bin", FIRST)
        assert set(answer.json()["patches"]) == {path}
        again = submit(ci, second, patch_from=["1.0.0"])
        assert (again.status_code, again.json()["digest"]) == (200, answer.json()["digest"])
        for wrong in (["1.0.9"], ["all", "2"], ["newest"], ["1"] * 65):
            assert submit(ci, image("1.2.0", edits=4), patch_from=wrong).status_code == 422
    assert path in paths(kit)


def test_a_build_whose_patches_cannot_be_made_goes_without_them_and_says_so(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    instead(monkeypatch, "import os, signal\ndef main(): os.kill(os.getpid(), signal.SIGKILL)")
    with kit.running() as url, kit.client(url, "ci") as ci:
        submit(ci, image("1.0.0"), patch_from=["none"])
        answer = submit(ci, image("1.1.0", edits=3))
    assert answer.status_code == 201, answer.text
    left = [item for item in answer.json()["left_out"] if item["base"]]
    assert [(item["base"], item["failed"]) for item in left] == [("pump/1.0.0/app.bin", True)]
    assert "signal 9" in left[0]["reason"]
    assert paths(kit) == {"pump/1.0.0/app.bin", "pump/1.1.0/app.bin"}


def test_others_write_while_patches_are_made(kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    answers: list[httpx.Response] = []
    with kit.running() as url, kit.client(url, "ci") as ci, kit.client(url, "ci") as other:
        submit(ci, image("1.0.0"), patch_from=["none"])
        instead(
            monkeypatch,
            "import os, time\nmake = main\ndef main():\n"
            f"    open({str(begun)!r}, 'w').close()\n"
            f"    while not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
            "    return make()",
        )
        thread = threading.Thread(target=lambda: answers.append(submit(ci, image("1.2.0", edits=3))))
        thread.start()
        until(begun.exists)
        assert submit(other, image("1.1.0", edits=5), patch_from=["none"]).status_code == 201
        go.touch()
        thread.join(60)
    assert answers[0].status_code == 201, answers[0].text
    assert len(answers[0].json()["patches"]) == 2  # also from what came in meanwhile


def test_all_builds_together_start_no_more_processes_than_one(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lone = tmp_path / "lone"
    instead(
        monkeypatch,
        f"import os, time\nmake = main\ndef main():\n    os.mkdir({str(lone)!r})\n    time.sleep(0.05)\n"
        f"    os.rmdir({str(lone)!r})\n    return make()",
    )
    service = Service(kit.settings, never_asked, lambda *_: None)
    service.patches = PatchPool(1)
    answers: list[httpx.Response] = []
    with serving(service) as url, kit.client(url, "ci") as ci:

        def act(number: int) -> None:
            answers.append(submit(ci, image(f"1.{number}.0", edits=number)))

        for first in (1, 4):
            threads = [threading.Thread(target=act, args=(first,)), threading.Thread(target=act, args=(first + 1,))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
    assert not [item for answer in answers for item in answer.json().get("left_out", []) if item["failed"]]
    assert {answer.status_code for answer in answers} <= {201, 422}  # the lower version may have come too late


def test_a_replica_that_ends_takes_no_build_whose_patches_are_not_made(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = tmp_path / "begun"
    instead(monkeypatch, f"import time\ndef main():\n    open({str(begun)!r}, 'w').close()\n    time.sleep(600)")
    service = Service(kit.settings, never_asked, lambda *_: None)
    answers: list[httpx.Response] = []
    with serving(service) as url, kit.client(url, "ci") as ci:
        thread = threading.Thread(target=lambda: answers.append(submit(ci, image("1.0.0"))))
        thread.start()
        until(begun.exists)
        service.patches.close()
        thread.join(60)
    assert answers[0].status_code == 503
    assert not paths(kit)
