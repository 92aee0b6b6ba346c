"""Publishing from a large repository: CPU against python-tuf with one plain targets role, bytes for a device that keeps up, and import.

CPU, in one process, the least of several rounds; files are written to a disk and synced by `hillhold`, not by python-tuf:

    publish        `Repository.publish` of one release that has its signatures, into lines of 100 releases
    whole          `add_release`, two people's `sign`, `publish`, each as a command of its own would (nothing kept from one to the next)
    python-tuf     targets.json of as many targets: read, one release added, signed once, written; snapshot and timestamp
    python-tuf x4  the same four steps: read, add, sign, write; read, sign, write; read, verify, snapshot, timestamp

Bytes for a device of one line, after its release, which held what was current before:

    wire           timestamp, snapshot and line role as they travel (docs/FORMAT.md, "Metadata on the wire")
    +targets       wire of targets, where a new line changed them: not a part of a release
    http           the same three files as a plain HTTP client downloads them
    others=N       wire, where N other lines published in between

    PYTHONPATH=tests/support python tests/bench/publish.py [--json] [--small]
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from struct import pack
from time import perf_counter, process_time

from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from hillhold_signer import Repository, Wish, add_product, add_release, example_signer
from hillhold_signer.importing import import_releases
from hillhold_signer.patching import NO_PATCHES
from hillhold_signer.state import read_state
from hillhold_verifier.canonical import dumps
from hillhold_verifier.wire import deflate
from large import large_repository, line_name, line_team, release_entry
from workshop import NOW, image, online, pump

RELEASES = 100
ROUNDS = 5
AIMS = {"publish ratio at least": 100, "growth at most": 2, "wire bytes at most": 6000}
SERIALIZER = JSONSerializer(compact=True)


def cpu(run: Callable[[], object]) -> float:
    """Milliseconds of CPU."""
    start = process_time()
    run()
    return 1000 * (process_time() - start)


# --- Hillhold ---------------------------------------------------------------------------------------------------------


class World:
    """A repository of so many lines, of which one publishes release after release."""

    def __init__(self, folder: Path, lines: int, releases: int = RELEASES) -> None:
        self.path, self.lines = folder / f"{lines}-{releases}", lines
        large_repository(self.path, lines, releases)
        self.number, self.count = lines // 2, 0

    def steps(self, number: int | None = None) -> dict[str, Callable[[], object]]:
        """The four steps of a release, each with a repository that has read nothing yet."""
        self.count += 1
        number = self.number if number is None else number
        now, line, data = NOW + self.count, line_name(number), image(f"2.{self.count}.0", counter=2)
        one, two = line_team(number)
        return {
            "add": lambda: add_release(Repository(self.path), line, data, Wish("app.bin"), now, patch_from=NO_PATCHES),
            "sign 1": lambda: Repository(self.path).sign(one),
            "sign 2": lambda: Repository(self.path).sign(two),
            "publish": lambda: Repository(self.path).publish(online(), now),
        }

    def release(self, number: int | None = None) -> dict[str, float]:
        return {name: cpu(run) for name, run in self.steps(number).items()}

    def newest(self, role: str) -> bytes:
        state = read_state(Repository(self.path).layout)
        assert state.chain
        if role in state.chain.raw:
            return state.chain.raw[role]
        version = state.chain.lines[role].version
        return (self.path / f"public/metadata/{version}.{role}.json").read_bytes()

    def chain(self) -> dict[str, bytes]:
        return {role: self.newest(role) for role in ("timestamp", "snapshot", line_name(self.number))}


def measure_cpu(world: World, rounds: int) -> dict[str, float]:
    found = [world.release() for _ in range(rounds)]
    least = {name: min(row[name] for row in found) for name in found[0]}
    least["read"] = min(cpu(Repository(world.path).state) for _ in range(rounds))
    return {"publish": least["publish"], "whole": sum(least[n] for n in ("add", "sign 1", "sign 2", "publish"))} | {
        "read": least["read"]
    }


def measure_bytes(world: World) -> dict[str, float]:
    root, targets, before = world.newest("root"), world.newest("targets"), world.chain()
    world.release()
    after, line = world.chain(), line_name(world.number)
    # A repository keeps no older timestamp, so that a courier has none to deflate against.
    sizes = {
        "timestamp": len(deflate(after["timestamp"], b"", root)),
        "snapshot": len(deflate(after["snapshot"], before["snapshot"], root)),
        "line": len(deflate(after[line], before[line], targets)),
    }
    found: dict[str, float] = {"wire": sum(sizes.values()), **sizes, "http": sum(map(len, after.values()))}
    for count in (9, 99):
        if count < world.lines:
            snapshot = changed(after["snapshot"], count, line)
            others = len(deflate(snapshot, before["snapshot"], root))
            found[f"others={count}"] = found["wire"] - sizes["snapshot"] + others
    repository = Repository(world.path)
    add_product(repository, pump(), NOW + world.count)
    for name in ("targets-1", "targets-2", "release-1", "release-2"):
        repository.sign(example_signer(name))
    repository.publish(online(), NOW + world.count)
    found["+targets"] = len(deflate(world.newest("targets"), targets, root))
    return found


def changed(snapshot: bytes, count: int, line: str) -> bytes:
    """The snapshot after `count` other lines have published a release each."""
    value = json.loads(snapshot)
    names = sorted(value["signed"]["meta"].keys() - {f"{line}.json", "targets.json"})
    for number in range(count):
        entry = value["signed"]["meta"][names[number * len(names) // count]]
        entry["version"] += 1
        entry["hashes"]["sha256"] = sha256(b"%d" % number).hexdigest()
    return dumps(value)


# --- python-tuf -------------------------------------------------------------------------------------------------------


class Plain:
    """python-tuf with one targets role, as its documentation shows it."""

    def __init__(self, folder: Path, lines: int) -> None:
        self.folder = folder
        entries = {}
        for number in range(lines):
            for release in range(RELEASES):
                path = f"{line_name(number)}/1.{release}.0/app.bin"
                entries[path] = release_entry(path, f"1.{release}.0", f"board-{number:04}")
        expires = datetime(2027, 1, 1, tzinfo=UTC)
        self.root = Root(expires=expires)
        for role in ("targets", "snapshot", "timestamp"):
            name = "targets-1" if role == "targets" else role
            self.root.add_key(example_signer(name).public_key, role)
        self.root.add_key(example_signer("targets-2").public_key, "targets")
        self.root.roles["targets"].threshold = 2
        self.targets = folder / "targets.json"
        Metadata(Targets(1, None, expires, entries)).to_file(str(self.targets), SERIALIZER)
        self.snapshot = Metadata(Snapshot(1, None, expires))
        self.timestamp = Metadata(Timestamp(1, None, expires))

    def add_and_sign(self, count: int) -> None:
        metadata = Metadata[Targets].from_file(str(self.targets))
        path = f"{line_name(0)}/2.{count}.0/app.bin"
        metadata.signed.targets[path] = release_entry(path, f"2.{count}.0", "board-0000")
        metadata.signed.version += 1
        metadata.sign(example_signer("targets-1"))
        metadata.to_file(str(self.targets), SERIALIZER)

    def sign(self) -> None:
        metadata = Metadata[Targets].from_file(str(self.targets))
        metadata.sign(example_signer("targets-2"), append=True)
        metadata.to_file(str(self.targets), SERIALIZER)

    def list(self, *, verify: bool) -> None:
        data = self.targets.read_bytes()
        if verify:
            metadata = Metadata[Targets].from_bytes(data)
            self.root.verify_delegate("targets", metadata.signed_bytes, metadata.signatures)
        self.snapshot.signed.meta["targets.json"] = MetaFile(2, len(data), {"sha256": sha256(data).hexdigest()})
        self.snapshot.signed.version += 1
        self.snapshot.sign(example_signer("snapshot"))
        raw = self.snapshot.to_bytes(SERIALIZER)
        self.timestamp.signed.snapshot_meta = MetaFile(2, len(raw), {"sha256": sha256(raw).hexdigest()})
        self.timestamp.signed.version += 1
        self.timestamp.sign(example_signer("timestamp"))
        (self.folder / "snapshot.json").write_bytes(raw)
        self.timestamp.to_file(str(self.folder / "timestamp.json"), SERIALIZER)

    def measure(self) -> dict[str, float]:
        first, listing = cpu(lambda: self.add_and_sign(1)), cpu(lambda: self.list(verify=False))
        return {"publish": first + listing, "whole": first + cpu(self.sign) + cpu(lambda: self.list(verify=True))}


# --- import -----------------------------------------------------------------------------------------------------------


def measure_import(folder: Path, lines: int, releases: int) -> dict[str, float]:
    """Import `releases` releases into each of the lines, from small images that all differ."""
    path = folder / "import"
    large_repository(path, lines, 0)
    repository = Repository(path)
    builds = folder / "builds"
    builds.mkdir()
    whole = image("1.0.0")
    versions = [f"1.0.{n}" for n in range(releases)]
    rows = "\n".join(f"{version}.bin,{version}" for version in versions)
    table = f"file,version\n{rows}\n".encode()
    seconds = used = 0.0
    for number in range(lines):
        for n, version in enumerate(versions):
            # The version stands at offset 20 of a header of 512 bytes; whether the signature holds is for the bootloader.
            data = whole[:20] + pack("<BBH", 1, 0, n) + whole[24:512] + pack("<HH", number, n) + whole[516:]
            (builds / f"{version}.bin").write_bytes(data)
        start, begun = perf_counter(), process_time()
        done = import_releases(repository, line_name(number), builds, table, NOW)
        seconds, used = seconds + perf_counter() - start, used + process_time() - begun
        assert len(done.added) == releases
    return {"releases": lines * releases, "seconds": seconds, "cpu": used, "peak_mib": peak_mib()}


def peak_mib() -> int:
    """The most memory that this process has had, in MiB (Linux counts in KiB, macOS in bytes)."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most // 2**20 if sys.platform == "darwin" else most // 2**10)


def measure(folder: Path, *, small: bool) -> dict[str, dict[str, float]]:
    """By what is measured; CPU in milliseconds."""
    sizes, rounds = ((10, 100), 2) if small else ((10, 100, 1000), ROUNDS)
    rows: dict[str, dict[str, float]] = {}
    # First, since memory that a process has had does not fall.
    lines, releases = (2, 200) if small else (10, 1000)
    rows["import"] = measure_import(folder, lines, releases)
    for size in sizes:
        world = World(folder, size)
        rows[f"{size} lines"] = {**measure_cpu(world, rounds), **measure_bytes(world)}
    rows["one release a line"] = dict(measure_cpu(World(folder, sizes[-1], 1), rounds))
    rows["python-tuf"] = Plain(folder, sizes[-1]).measure()
    ours, theirs = rows[f"{sizes[-1]} lines"], rows["python-tuf"]
    rows["ratio"] = {name: theirs[name] / ours[name] for name in ("publish", "whole")}
    rows["ratio"]["growth by lines"] = ours["publish"] / rows[f"{sizes[0]} lines"]["publish"]
    rows["ratio"]["growth by releases"] = ours["publish"] / rows["one release a line"]["publish"]
    return rows


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), small="--small" in sys.argv)
    if "--json" in sys.argv:
        print(json.dumps(rows))
        return
    print((__doc__ or "").split("\n\n")[0])
    for name, row in rows.items():
        figures = ", ".join(f"{what} {value:,.{0 if value >= 100 else 1}f}" for what, value in row.items())
        print(f"  {name:20}{figures}")
    print(f"  {'aims':20}" + ", ".join(f"{name} {aim}" for name, aim in AIMS.items()))


if __name__ == "__main__":
    main()
