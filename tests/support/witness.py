"""Who looks at a signing service from outside: a device that fetches what is published, and an auditor who reads the log."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from sqlalchemy import exists, select
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface

from hillhold_signer.log.audit import audit, fetch_checkpoint
from hillhold_signer.log.checkpoint import Checkpoint
from hillhold_signer.log.events import Event, Kind
from hillhold_signer.log.note import Verifier
from hillhold_signer.log.stores import PENDING
from hillhold_signer.log.tree import Tree
from hillhold_signer.service.journal import LogReader
from hillhold_signer.service.objects import Objects
from hillhold_signer.service.service import log_signer
from hillhold_signer.service.tables import EVENTS, LOG_FILES, PUBLICATIONS
from hillhold_signer.service.unit import Data
from hillhold_signer.verify import verify_tree
from servicekit import Kit, fetched, never_asked, until

MOST = 64 * 1024 * 1024


class _FromObjects(FetcherInterface):
    """The published tree, each file as it is when it is asked for."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def _fetch(self, url: str) -> Iterator[bytes]:
        found = self._objects.read(unquote(url.removeprefix("objects:/")), MOST)
        if found is None:
            raise DownloadHTTPError(f"missing: {url}", 404)
        yield found.data


class Device:
    """A client of python-tuf, which goes on from what it trusted at its last look: nothing may go back under it.

    Attributes:
        seen: paths that it has had.
        looks: how often it has looked.
    """

    def __init__(self, objects: Objects, folder: Path) -> None:
        self._objects, self._folder = objects, folder
        folder.mkdir(parents=True)
        (folder / "targets").mkdir()
        root = objects.read("public/metadata/1.root.json", MOST)
        assert root
        (folder / "root.json").write_bytes(root.data)
        self._root: bytes | None = root.data
        self.seen: set[str] = set()
        self.looks = 0

    def look(self, *paths: str) -> set[str]:
        """Fetch what is published; returns which of these targets it lists, and all that it has listed before it lists still."""
        updater = Updater(
            str(self._folder),
            "objects:/public/metadata/",
            str(self._folder / "targets"),
            "objects:/public/targets/",
            fetcher=_FromObjects(self._objects),
            bootstrap=self._root,
        )
        updater.refresh()
        self._root = None
        found = set()
        for path in {*paths, *self.seen}:
            target = updater.get_targetinfo(path)
            if target is not None:
                updater.download_target(target, str(self._folder / "targets" / path.replace("/", "_")))
                found.add(path)
        assert self.seen <= found, f"lost: {self.seen - found}"
        self.seen |= found
        self.looks += 1
        return found

    @contextmanager
    def looking(self, *paths: str) -> Iterator[None]:
        """Look again and again; whatever it was refused is raised at the end."""
        ended, broken = threading.Event(), list[BaseException]()

        def run() -> None:
            try:
                while not ended.wait(0.01):
                    self.look(*paths)
            except BaseException as error:
                broken.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        if broken:
            raise AssertionError("a device was refused") from broken[0]


class Auditor:
    """Reads the log of a service, and keeps every checkpoint."""

    def __init__(self, kit: Kit) -> None:
        self._data = kit.data
        self._verifier: Verifier = log_signer(kit.settings, never_asked).verifier
        self._kept: list[Checkpoint] = []

    def read(self) -> list[Event]:
        """Check all of the log, and that it goes on from all checkpoints before; returns its events."""
        reader = LogReader(self._data.database)
        signed = fetch_checkpoint(reader, [self._verifier])
        audit(reader, signed, self._kept)
        self._kept.append(signed.checkpoint)
        tree = Tree(reader, signed.checkpoint.size, signed.checkpoint.root)
        return [Event.decode(entry) for index in range(tree.tiles) for entry in tree.entries(index)]

    def counted(self) -> Counter[tuple[str, ...]]:
        """Wait until each act is in the log, and say how often: submissions by path, signatures by key, publications by version."""
        until(lambda: not waiting_events(self._data), "for the log")
        found: Counter[tuple[str, ...]] = Counter()
        for event in self.read():
            fields = event.fields
            if event.kind is Kind.SUBMISSION:
                found["submission", str(fields["path"])] += 1
            elif event.kind is Kind.SIGNATURE:
                found["signature", str(fields["sha256"]), str(fields["keyid"])] += 1
            elif event.kind is Kind.PUBLICATION:
                found["publication", str(fields["role"]), str(fields["version"])] += 1
        return found

    def check(self, *paths: str) -> None:
        """Each of these was submitted once, nothing is told twice, and no publication is missing between others."""
        counted = self.counted()
        assert not {act for act, number in counted.items() if number != 1}
        assert {act[1] for act in counted if act[0] == "submission"} >= set(paths)
        with self._data.reading() as unit:
            state = unit.repository.state()
            assert state.chain
            newest = {"timestamp": state.chain.timestamp.version, "snapshot": state.chain.snapshot.version}
            for name in {"pump", *(path.partition("/")[0] for path in paths)}:
                line = state.published(name)
                assert line
                newest[name] = line.version
        for role, version in newest.items():  # the first was published before there was a service
            told = sorted(int(act[2]) for act in counted if act[:2] == ("publication", role))
            assert told == list(range(2, version + 1)), f"{role}: {told}, of {version}"


def waiting_events(data: Data) -> bool:
    """Whether something is not in the log yet, or only half."""
    with data.database.snapshot() as connection:
        pending = exists(select(LOG_FILES.c.path).where(LOG_FILES.c.path == PENDING))
        return bool(connection.execute(select(exists(select(EVENTS.c.id)) | pending)).scalar())


def check_published(kit: Kit, folder: Path) -> None:
    """The object store has just what the database has, and all of it verifies."""
    with kit.data.reading() as unit:
        names = set(unit.store.walk("public"))
        now = unit.now
    verify_tree(fetched(kit, folder), now)
    assert set(kit.data.objects.list("public")) == names


def quiet(kit: Kit) -> None:
    """Wait until all that was done is exported, and in the log."""

    def done() -> bool:
        with kit.data.database.snapshot() as connection:
            query = select(PUBLICATIONS.c.id).where(PUBLICATIONS.c.exported.is_(None))
            waiting = connection.execute(query).first()
        return waiting is None and not waiting_events(kit.data)

    until(done, "until it is quiet")
