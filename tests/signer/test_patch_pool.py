"""The processes that make patches: what they hold, how many there are, and how they end."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from hillhold_signer import patchpool
from hillhold_signer.errors import ToolError
from hillhold_signer.making import Making
from hillhold_signer.patching import PatchFrom
from hillhold_signer.patchjob import HEADER
from hillhold_signer.patchpool import Failure, Job, PatchPool
from hillhold_verifier.patch import PatchDecoder
from patchworld import LINUX, World, children, edited, instead
from workshop import firmware


@LINUX
def test_a_process_has_no_secret_in_its_environment_its_files_or_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = random.Random(5).randbytes(24).hex()
    for name in ("HILLHOLD_TOKEN", "AWS_SECRET_ACCESS_KEY", "VAULT_TOKEN", "PYKCS11LIB", "PIN", "PGPASSWORD"):
        monkeypatch.setenv(name, secret)
    key = tmp_path / "key.pem"
    key.write_text(secret)
    with key.open("rb") as held:
        os.set_inheritable(held.fileno(), True)
        instead(
            monkeypatch,
            "import json, os\n"
            "def main():\n"
            "    found = {'environment': dict(os.environ), 'modules': sorted(sys.modules), 'files': {}}\n"
            "    for fd in os.listdir('/proc/self/fd'):\n"
            "        try: found['files'][fd] = os.readlink('/proc/self/fd/' + fd)\n"
            "        except OSError: pass\n"
            "    source = os.fdopen(0, 'rb')\n"
            "    held = source.read(20 + len(b'baseresult'))\n"
            f"    out = os.open({str(tmp_path / 'said')!r}, os.O_WRONLY | os.O_CREAT)\n"
            "    os.write(out, json.dumps(found).encode() + b'\\n')\n"
            "    memory = os.open('/proc/self/mem', os.O_RDONLY)\n"
            "    for line in open('/proc/self/maps'):\n"
            "        start, end = (int(part, 16) for part in line.split()[0].split('-'))\n"
            "        try: os.write(out, os.pread(memory, end - start, start))\n"
            "        except (OSError, OverflowError): pass\n"
            "    os.write(1, bytes([1, *bytes(7), 9]))\n",
        )
        with PatchPool(1) as pool:
            ((_, failure),) = pool.make([Job(1, b"base", b"result", tmp_path / "out")])
    assert failure is None
    assert (tmp_path / "out").read_bytes() == b"\t"
    said, memory = (tmp_path / "said").read_bytes().split(b"\n", 1)
    found = json.loads(said)
    assert set(found["environment"]) <= {*patchpool._PASSED, *patchpool._SET, "LC_CTYPE"}
    assert {path.partition(":")[0] for fd, path in found["files"].items() if fd != "3"} == {"pipe"}
    assert set(found["files"]) <= {"0", "1", "2", "3"}  # the last is the folder that it was just reading
    for module in ("cryptography", "securesystemslib", "tuf", "hillhold_signer.keys", "hillhold_signer.signatures"):
        assert module not in found["modules"]
    assert len(memory) > 1_000_000
    assert b"result" in memory
    assert secret.encode() not in memory


@LINUX
def test_a_pool_that_is_closed_ends_what_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instead(monkeypatch, "import time\ndef main(): time.sleep(600)")
    pool, world, said = PatchPool(2), World(4), []

    def run() -> None:
        with Making(tmp_path / "work", pool) as making:
            try:
                making.make(world.task(PatchFrom(None)), world.read)
            except ToolError as error:
                said.append(str(error))

    others = children()  # other tests' servers
    thread = threading.Thread(target=run)
    thread.start()
    while children() <= others:
        time.sleep(0.01)
    pool.close()
    thread.join(60)
    assert len(said) == 1
    assert children() <= others
    with pytest.raises(ToolError):
        list(pool.make([Job(1, b"", b"", tmp_path / "out")]))


@LINUX
def test_memory_bounds_how_many_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patchpool, "MEMORY", 1000)
    instead(
        monkeypatch,
        "import os, time, hillhold_signer.patchworker as w\n"
        "def lone(*_, **__):\n"
        f"    os.mkdir({str(tmp_path / 'lone')!r}); time.sleep(0.2); os.rmdir({str(tmp_path / 'lone')!r})\n"
        "    return b'patch'\n"
        "w.make_patch = lone",
    )
    with PatchPool(4) as pool:
        found = dict(pool.make(Job(number, bytes(400), bytes(400), tmp_path / str(number)) for number in range(4)))
    assert found == dict.fromkeys(range(4))  # two at once would have met


def test_one_process_makes_patch_after_patch_and_one_that_dies_costs_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = tmp_path / "started"
    instead(
        monkeypatch,
        "import hillhold_signer.patchworker as w\n"
        f"with open({str(started)!r}, 'a') as file: file.write('.')\n"
        "make = w.make_patch\n"
        "def fail(base, result, **how):\n"
        "    if base[0] == 3: raise ValueError('the third')\n"
        "    print('a library says something', flush=True)\n"
        "    return make(base, result, **how)\n"
        "w.make_patch = fail",
    )
    images = {number: bytes([number]) + firmware(1) for number in range(6)}
    with PatchPool(1) as pool:
        found = dict(pool.make(Job(number, images[number], images[0], tmp_path / str(number)) for number in images))
    failed = found.pop(3)
    assert failed is not None
    assert failed.reason.endswith("ValueError: the third")
    assert found == dict.fromkeys((0, 1, 2, 4, 5))
    assert not (tmp_path / "3").exists()
    assert started.read_text() == ".."
    for number in found:
        patch, base = (tmp_path / str(number)).read_bytes(), images[number]
        decoder = PatchDecoder(lambda at, length, base=base: base[at : at + length], len(base), len(images[0]))
        assert b"".join(decoder.feed(patch)) == images[0]


@LINUX
def test_processes_stay_for_the_next_call_and_end_with_the_pool(tmp_path: Path) -> None:
    others = children()
    with PatchPool(1) as pool:
        assert list(pool.make([Job(1, b"", b"first", tmp_path / "1")])) == [(1, None)]
        (process,) = children() - others
        assert list(pool.make([Job(2, b"", b"second", tmp_path / "2")])) == [(2, None)]
        assert children() - others == {process}
        os.kill(process, signal.SIGKILL)
        while Path(f"/proc/{process}/stat").read_text().split()[2] != "Z":
            time.sleep(0.01)
        assert list(pool.make([Job(3, b"", b"third", tmp_path / "3")])) == [(3, None)]
        assert children() - others != {process}
    assert children() <= others


@LINUX
def test_a_process_whose_parent_was_killed_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    instead(
        monkeypatch,
        "import hillhold_signer.patchworker as w\ndef hang(*_, **__):\n    while True: pass\nw.make_patch = hang",
    )
    command = patchpool.command()
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=patchpool.environment())
    process.communicate(HEADER.pack(1, 1, 1) + b"ab", timeout=60)
    assert process.returncode == -signal.SIGALRM


def test_a_process_may_be_started_wherever_the_package_lies(tmp_path: Path) -> None:
    with PatchPool(1) as pool:
        made = list(pool.make([Job("one", firmware(1), edited(firmware(1), 2), tmp_path / "one")]))
        hopeless = list(pool.make([Job("two", firmware(1), firmware(2), tmp_path / "two")]))
    assert made == [("one", None)]
    assert hopeless == [("two", Failure("next to nothing in common", hopeless=True))]
    assert [item.name for item in tmp_path.iterdir()] == ["one"]
