"""`kill -9` of a replica at every step: the next one finishes what it began, and devices and auditors see nothing of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import httpx
import pytest

import doomed
from postgres import Postgres
from servicekit import Kit, make_kit, replica, sign, states, submit, until
from tables import make_tables
from witness import Auditor, Device, check_published, quiet
from workshop import image

KINDS = ["embedded", "production"]


@dataclass(frozen=True)
class Death:
    """When a replica dies: at a step of one kind of thread, after something was done; 0 is never."""

    where: str
    number: int
    act: str = "sign"


class Scene:
    """A service whose replicas die one after the other, and who looks at it."""

    def __init__(self, folder: Path, kit: Kit, environment: dict[str, str]) -> None:
        self.kit, self._folder, self._environment = kit, folder, environment
        self._armed = folder / "armed"
        with self._replica(Death("publish", 0)):
            until(lambda: kit.data.objects.length("public/metadata/timestamp.json"), "for the first publication")
        self.device, self.auditor = Device(kit.data.objects, folder / "device"), Auditor(kit)
        self.paths: list[str] = []

    def play(self, deaths: Sequence[Death]) -> list[list[str]]:
        """Let a release go its way for each death; the replica after it finishes it. Returns the steps that were gone, by death."""
        begun: tuple[str, bool] | None = None
        steps = list[list[str]]()
        for death in [*deaths, Death("publish", 0)]:
            with ExitStack() as stack:
                url, process = stack.enter_context(self._replica(death))
                path = f"pump/{self._version(1)}/app.bin"
                stack.enter_context(self.device.looking(*self.paths, path))
                ci, ada, grace = (stack.enter_context(self.kit.client(url, name)) for name in ("ci", "ada", "grace"))
                if begun is not None:
                    self._finish(begun, ci, ada, grace)
                if len(steps) == len(deaths):
                    continue
                begun = self._begin(death, ci, ada, grace)
                if death.number:
                    assert until(process.poll, f"for the end at {death}") == -9
                else:
                    if death.act == "sign":
                        self._available(ada)
                    quiet(self.kit)
            steps.append(self._armed.read_text().splitlines())
            self._armed.unlink()
            self.device.look(*self.paths, path)  # nobody is there, and all is well for devices
        assert self.device.look(*self.paths) == set(self.paths)
        assert self.device.looks > len(deaths)
        return steps

    def _version(self, more: int) -> str:
        return f"1.{len(self.paths) + more}.0"

    def _begin(self, death: Death, ci: httpx.Client, ada: httpx.Client, grace: httpx.Client) -> tuple[str, bool]:
        """Begin a release; returns what was done last, and whether the service has said so."""
        image_ = image(self._version(1), seed=len(self.paths))
        self.paths.append(f"pump/{self._version(1)}/app.bin")
        if death.act == "submit":
            self._armed.touch()
            return "submit", _told(lambda: submit(ci, image_))
        assert submit(ci, image_).status_code == 201
        assert sign(ada, "release-1").status_code == 200
        quiet(self.kit)
        self._armed.touch()
        return "sign", _told(lambda: sign(grace, "release-2"))

    def _finish(self, begun: tuple[str, bool], ci: httpx.Client, ada: httpx.Client, grace: httpx.Client) -> None:
        """Let a release be finished: whoever got no answer asks again."""
        act, told = begun
        version = self._version(0)
        if act == "submit":
            there = version in states(ada)
            assert there or not told
            again = submit(ci, image(version, seed=len(self.paths) - 1))
            assert again.status_code == (200 if there else 201), again.text
            assert sign(ada, "release-1").status_code == 200
        if act == "submit" or (not told and states(ada)[version] == "drafted"):
            sign(grace, "release-2")  # which is refused where it was published at this very moment
        self._available(ada)
        quiet(self.kit)
        self.auditor.check(*self.paths)
        check_published(self.kit, self._folder / f"tree-{version}")

    def _available(self, ada: httpx.Client) -> None:
        until(lambda: states(ada)[self._version(0)] == "available", f"for {self._version(0)}")

    def _replica(self, death: Death) -> AbstractContextManager[tuple[str, Popen[bytes]]]:
        program = (str(doomed.__file__), death.where, str(death.number), str(self._armed))
        return replica(self.kit.settings.folder, self._environment, program)


def _told(act: Callable[[], httpx.Response]) -> bool:
    """Do something, and say whether the service answered that it is done."""
    try:
        answer = act()
    except httpx.HTTPError:
        return False
    assert answer.status_code in (200, 201), answer.text
    return True


@pytest.fixture(params=KINDS)
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    database, bucket = None, None
    if request.param == "production":
        postgres: Postgres = request.getfixturevalue("postgres")
        database, bucket = postgres.database(prepare=make_tables), request.getfixturevalue("bucket")
    kit = make_kit(tmp_path / "service", database, bucket)
    yield Scene(tmp_path, kit, bucket.environment if bucket else {})
    kit.data.database.close()


def test_a_release_outlives_the_replicas_that_publish_it(scene: Scene) -> None:
    scene.play([Death("publish", 3), Death("export", 4), Death("log", 3)])


@pytest.mark.deep
@pytest.mark.parametrize(
    ("where", "act"),
    [("request", "submit"), ("request", "sign"), ("publish", "sign"), ("export", "sign"), ("log", "sign")],
)
def test_a_replica_dies_at_every_step(scene: Scene, where: str, act: str) -> None:
    # The log takes what happens in one go, or in several. One has events taken, entries written, the end, and the checkpoint kept.
    count = 8 if where == "log" else len(scene.play([Death(where, 0, act)])[0])
    assert count >= 4
    done = scene.play([Death(where, number, act) for number in range(1, count + 1)])
    assert [len(gone) for gone in done] == list(range(1, count + 1))
