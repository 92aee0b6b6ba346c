"""The drill of a lost service, run as docs/DRILLS.md has it; a device that saw what came after the back-up follows the restored service."""

from __future__ import annotations

import shutil
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import select

from guide import follow, run, sections
from hillhold_signer import Wish, add_release
from hillhold_signer.keys import load_signer
from hillhold_signer.log import FolderStore, audit, fetch_checkpoint
from hillhold_signer.service.export import Exporter
from hillhold_signer.service.holding import HeldRefused
from hillhold_signer.service.journal import Sequencer
from hillhold_signer.service.publisher import Publisher
from hillhold_signer.service.service import log_signer, open_data
from hillhold_signer.service.settings import read_settings
from hillhold_signer.service.tables import LOG_FILES
from hillhold_signer.service.unit import Data
from hillhold_verifier.sources import open_source
from linuxboard import LinuxBoard

PAGE = Path(__file__).parents[2] / "docs" / "DRILLS.md"
SIGN = "hillhold image sign zephyr.bin next.bin --key file:image.pem --version 1.1.0 --security-counter 1 --header-size 0x200"


def now() -> int:
    return int(time.time())


def phrase(name: str, _: str) -> str:
    return f"correct horse of {name}"


def open_service(folder: str) -> Data:
    return open_data(read_settings(Path(folder)))


def work(folder: str, data: Data) -> None:
    """What the worker of a replica does."""
    exporter = Exporter(data)
    exporter.run()
    exporter.close()
    Sequencer(data, [log_signer(read_settings(Path(folder)), lambda _: "")]).run()


def goes_on(data: Data) -> None:
    """After the back-up: a release, and several timestamps. Others keep what is published, and the log."""
    assert run(f"{SIGN} --slot-size 0x18000 --pad-header", now)[0] == 0
    with data.writing() as unit:
        add_release(
            unit.repository, "pump", Path("next.bin").read_bytes(), Wish("app.bin", hardware=("nrf-a",)), unit.now
        )
        for name in ("alan", "joan"):
            unit.repository.sign(load_signer(f"file:{name}.pem", None, partial(phrase, name)))
    publisher = Publisher(data, lambda _: "")
    with data.writing() as unit:
        unit.repository.publish(publisher._signers(unit.repository, unit.repository.published_root()), unit.now)
    for _ in range(3):
        publisher.renew(force=True)
    work("service", data)
    shutil.copytree("service/public", "mirror")
    with data.database.snapshot() as connection:
        for path, body in connection.execute(select(LOG_FILES.c.path, LOG_FILES.c.data)):
            file = Path("log-mirror", path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(body)
    shutil.copy("log-mirror/checkpoint", "checkpoint.txt")


def device(folder: Path) -> LinuxBoard:
    folder.mkdir()
    image, root = Path("factory/app-app.bin").read_bytes(), Path("factory/root.json").read_bytes()
    repo = SimpleNamespace(blobs={"pump/1.0.0/app.bin": image}, tree={"metadata/1.root.json": root})
    return LinuxBoard(folder, repo)  # type: ignore[arg-type]


def timestamp(board: LinuxBoard) -> int:
    held = board.device.look().state.trust.timestamp
    assert held is not None
    return held.signed.version


def test_the_drill_of_a_lost_service_runs_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    texts = dict(sections(PAGE.read_text()))
    follow(texts["The repository of these drills"], now)
    board = device(tmp_path / "device")
    assert follow(texts["The service is backed up"], now)
    data = open_service("service")
    goes_on(data)
    data.database.close()
    board.update(source=open_source("mirror"), clock=now())
    seen = timestamp(board)
    for file in Path("service").glob("hillhold.db*"):
        file.unlink()
    shutil.rmtree("service/public")

    first, _, rest = texts["The service is lost"].partition("A held service")
    assert follow(first, now)
    held = open_service("service-new")
    with pytest.raises(HeldRefused), held.writing():
        pass
    held.database.close()
    assert follow(rest, now)

    found = open_service("service-new")
    work("service-new", found)
    board.update(source=open_source("service-new/public"), clock=now())
    assert timestamp(board) == seen + 1
    with found.reading() as unit:
        assert set(unit.repository.state().line("pump").targets) >= {"pump/1.0.0/app.bin", "pump/1.1.0/app.bin"}
    found.database.close()
    mirror = FolderStore(Path("log-mirror"))
    audit(mirror, fetch_checkpoint(mirror, [log_signer(read_settings(Path("service-new")), lambda _: "").verifier]))
