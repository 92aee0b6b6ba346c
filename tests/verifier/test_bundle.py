"""A bundle is read in its one byte form; every other archive is refused, and none costs memory or reaches another file."""

from __future__ import annotations

import random
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pytest

from bench import CLOCK, Bench, Rig
from hillhold_verifier.bundle import MAX_ENTRIES, MAX_NAME, BundleSource, Entry, end_record
from hillhold_verifier.courier import Courier
from hillhold_verifier.errors import BundleError, MetadataError, OperationalError
from hillhold_verifier.local import LocalUpdate
from hillhold_verifier.metadata import MAX_BYTES
from hillhold_verifier.sources import DirectorySource, Source
from offers import bundle, image, offer, offer_patch, started

CONTENT = random.Random(1).randbytes(3000)
DIGEST = sha256(CONTENT).digest()
TARGET = f"targets/pump/1.0.0/{DIGEST.hex()}.app.bin"
TREE = {"metadata/1.root.json": b"{root}", "metadata/timestamp.json": b"{time}", TARGET: CONTENT}
GOOD = bundle(TREE)


def opened(data: bytes, folder: Path) -> BundleSource:
    path = folder / "x.hillhold"
    path.write_bytes(data)
    return BundleSource(path)


def read(source: Source, start: int = 0, piece: int = 700) -> bytes:
    found = bytearray()
    with source.target("pump/1.0.0/app.bin", DIGEST) as content:
        while data := content.read(start + len(found), piece):
            found += data
    return bytes(found)


# --- what is one ------------------------------------------------------------------------------------------------------


def test_a_push_and_a_local_update(tmp_path: Path) -> None:
    repo = started()
    bench, rig = Bench(repo), Rig(repo)
    assert bench.run(Courier(opened(bundle(repo.tree), tmp_path)).push()).runs
    offer_patch(repo, "1.1.0", image("1.0.0"), offer(repo, "1.1.0", 2))
    source = opened(bundle(repo.publish()), tmp_path)
    pushed = bench.run(Courier(source).push())
    assert (pushed.how, pushed.runs) == ("patch", True)
    assert bench.facts_after_reset().running == "1.1.0"
    LocalUpdate(rig.installer, source, CLOCK).update()
    assert rig.reset().trial
    assert rig.facts().running == "1.1.0"


def test_it_says_what_the_folder_says(tmp_path: Path) -> None:
    source = opened(GOOD, tmp_path)
    with zipfile.ZipFile(tmp_path / "x.hillhold") as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "repo")
    folder = DirectorySource(tmp_path / "repo")
    for name in ("1.root.json", "2.root.json", "timestamp.json"):
        assert source.metadata(name) == folder.metadata(name)
    for start in (0, 1, 699, 2999, 3000, 3001, 10**9):
        assert read(source, start) == read(folder, start) == CONTENT[start:]


def test_what_is_not_in_it(tmp_path: Path) -> None:
    source = opened(GOOD, tmp_path)
    assert source.metadata("9.root.json") is None
    with (
        pytest.raises(OperationalError, match=r"target pump/1\.0\.0/app\.bin: not in the bundle"),
        source.target("pump/1.0.0/app.bin", bytes(32)),
    ):
        pass
    for name in ("../x.json", "/etc/passwd", "a/b"):
        with pytest.raises(MetadataError):
            source.metadata(name)
    with pytest.raises(MetadataError), source.target("../../x", DIGEST):
        pass


def test_metadata_that_is_too_long_is_seen_as_too_long(tmp_path: Path) -> None:
    source = opened(bundle({"metadata/timestamp.json": bytes(10**6)}), tmp_path)
    assert source.metadata("timestamp.json") == bytes(MAX_BYTES["timestamp"] + 1)


def test_a_bundle_that_another_takes_the_place_of(tmp_path: Path) -> None:
    """The directory was read before; contents are taken from where it said only if they are still there."""
    source = opened(GOOD, tmp_path)
    (tmp_path / "x.hillhold").write_bytes(bundle({"metadata/0.root.json": b"other", **TREE}))
    with pytest.raises(BundleError, match=r"bundle entry metadata/timestamp\.json: expected the header"):
        source.metadata("timestamp.json")
    (tmp_path / "x.hillhold").unlink()
    with pytest.raises(OperationalError, match="No such file"):
        source.metadata("timestamp.json")


def test_memory_does_not_grow_with_a_target(tmp_path: Path) -> None:
    """64 MiB of a file with a hole in it."""
    size, name = 64 * 2**20, f"targets/pump/1.0.0/{bytes(32).hex()}.app.bin"
    entry = Entry(name, size, 0, 0)
    with (tmp_path / "x.hillhold").open("wb") as file:
        file.write(entry.header())
        file.seek(entry.end)
        file.write(entry.listing() + end_record(1, len(entry.listing()), entry.end))
    tracemalloc.start()
    try:
        source = BundleSource(tmp_path / "x.hillhold")
        with source.target("pump/1.0.0/app.bin", bytes(32)) as content:
            at = 0
            while data := content.read(at, 2**16):
                at += len(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert at == size
    assert peak < 2**20


# --- what is none -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("at", range(0, len(GOOD), 7))
def test_a_bundle_that_ends_early(tmp_path: Path, at: int) -> None:
    with pytest.raises(BundleError):
        opened(GOOD[:at], tmp_path)


def contents(source: Source) -> dict[str, bytes | None]:
    """Everything in it that `TREE` has."""
    return {
        "metadata/1.root.json": source.metadata("1.root.json"),
        "metadata/timestamp.json": source.metadata("timestamp.json"),
        TARGET: read(source),
    }


def test_a_bundle_with_any_byte_changed_is_refused_or_lacks_a_file(tmp_path: Path) -> None:
    """All but contents, which have hashes. A name may become another that is good; then nobody finds it."""
    places = {at for data in TREE.values() for at in range(GOOD.index(data), GOOD.index(data) + len(data))}
    assert contents(opened(GOOD, tmp_path)) == TREE
    refused = 0
    for at in sorted({*range(len(GOOD))} - places):
        spoilt = bytearray(GOOD)
        spoilt[at] ^= 1 << at % 8
        try:
            found = contents(opened(bytes(spoilt), tmp_path))
        except BundleError:
            refused += 1
        except OperationalError as error:
            assert "not in the bundle" in str(error)  # noqa: PT017
        else:
            assert None in found.values()
    assert refused > len(GOOD) - len(places) - 150


def made(
    change: Callable[[zipfile.ZipInfo], object], tree: Mapping[str, bytes] = TREE, compression: int = zipfile.ZIP_STORED
) -> bytes:
    """An archive whose entries Python's library made a little different."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in tree.items():
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.create_version, entry.extract_version = 3, 10, 10
            entry.external_attr, entry.compress_type = 0o100644 << 16, archive.compression
            change(entry)
            archive.writestr(entry, data)
    return out.getvalue()


def same(_: zipfile.ZipInfo) -> None:
    """Change nothing."""


def setting(**fields: object) -> Callable[[zipfile.ZipInfo], None]:
    def change(entry: zipfile.ZipInfo) -> None:
        for name, value in fields.items():
            setattr(entry, name, value)

    return change


def commented() -> bytes:
    out = BytesIO(GOOD)
    with zipfile.ZipFile(out, "a") as archive:
        archive.comment = b"PK"
    return out.getvalue()


def entries(*listed: Entry, count: int | None = None, head: bytes = b"") -> bytes:
    """An archive with this directory, whatever is before it."""
    directory = b"".join(entry.listing() for entry in listed)
    return head + directory + end_record(len(listed) if count is None else count, len(directory), len(head))


def overlapping() -> bytes:
    """Two names for the same bytes, as an archive bomb has thousands."""
    first = Entry("metadata/1.root.json", 100, 0, 0)
    inner = Entry("metadata/2.root.json", 10, 0, 60)
    return entries(first, inner, head=(first.header() + inner.header()).ljust(first.end, b"\0"))


def directory_with(more: bytes) -> bytes:
    """A good archive of an empty file, but for what follows in its directory."""
    entry = Entry("metadata/1.root.json", 0, 0, 0)
    directory = entry.listing() + more
    return entry.header() + directory + end_record(1, len(directory), entry.end)


HOSTILE = {
    "deflated": made(same, compression=zipfile.ZIP_DEFLATED),
    "a compression bomb": made(same, {"metadata/1.root.json": bytes(10**7)}, compression=zipfile.ZIP_DEFLATED),
    "LZMA": made(same, compression=zipfile.ZIP_LZMA),
    "another time": made(setting(date_time=(2026, 1, 1, 0, 0, 0))),
    "another mode": made(setting(external_attr=0o100755 << 16)),
    "a symbolic link": made(setting(external_attr=0o120777 << 16)),
    "a DOS attribute": made(setting(external_attr=0o100644 << 16 | 1)),
    "another system": made(setting(create_system=0)),
    "an extra field": made(setting(extra=b"\xfe\xca\x00\x00")),
    "a comment of an entry": made(setting(comment=b"x")),
    "a comment of the archive": commented(),
    "64-bit extensions": made(setting(extract_version=45)),
    "another order": made(same, dict(reversed(TREE.items()))),
    "bytes before": b"x" + GOOD,
    "bytes behind": GOOD + b"x",
    "a program before": b"MZ" + bytes(1000) + GOOD,
    "two archives": GOOD + GOOD,
    "overlapping entries": overlapping(),
    "a name twice": entries(
        Entry("metadata/1.root.json", 0, 0, 0),
        Entry("metadata/1.root.json", 0, 0, 50),
        head=Entry("metadata/1.root.json", 0, 0, 0).header() * 2,
    ),
    "a gap": entries(
        Entry("metadata/1.root.json", 4, 0, 0), head=Entry("metadata/1.root.json", 4, 0, 0).header() + bytes(5)
    ),
    "sizes beyond the file": entries(
        Entry("metadata/1.root.json", 2**32 - 1, 0, 0), Entry("metadata/2.root.json", 4, 0, 2**32 - 1), head=bytes(100)
    ),
    "more entries than it has": entries(Entry("metadata/1.root.json", 0, 0, 0), count=2, head=bytes(50)),
    "fewer entries than it has": entries(Entry("metadata/1.root.json", 0, 0, 0), count=0, head=bytes(50)),
    "bytes between directory and end": directory_with(b"PK\x01\x02"),
    "too many entries": entries(count=MAX_ENTRIES + 1),
    "a directory elsewhere": end_record(1, 2**32 - 1, 2**32 - 1),
    "no zip archive": bytes(1000),
    "a gzip file": b"\x1f\x8b" + bytes(100),
    "nothing": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_archive_in_another_form_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError):
        opened(HOSTILE[name], tmp_path)


ENCRYPTED = bytearray(GOOD)
struct.pack_into("<H", ENCRYPTED, GOOD.index(b"PK\x01\x02") + 8, 1)

NAMES = [
    *(
        "metadata/../1.root.json",
        "../metadata/1.root.json",
        "/metadata/1.root.json",
        "metadata//1.root.json",
        "metadata/",
    ),
    *("targets/pump/1.0.0/app.bin", f"targets/pump/../{DIGEST.hex()}.app.bin", f"targets/a/b/c/{DIGEST.hex()}.x"),
    *(
        "metadata/1.root.json\0",
        "metadata/1.root.json\n",
        "metadata\\1.root.json",
        "C:/metadata/1.root.json",
        "readme.txt",
    ),
    *("metadata/1.Root.json", "metadata/1.root.json/", "metadata/ä.json", "", "metadata/" + "a" * MAX_NAME + ".json"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_no_repository_has(tmp_path: Path, name: str) -> None:
    """The name is changed within a good bundle, so nothing else is wrong with it."""
    entry = Entry(name.encode().decode("latin-1"), 0, 0, 0)
    spoilt = BytesIO()
    header = entry.header()
    spoilt.write(header)
    spoilt.write(entry.listing() + end_record(1, len(entry.listing()), len(header)))
    with pytest.raises(BundleError, match="bundle entry"):
        opened(spoilt.getvalue(), tmp_path)


def test_an_encrypted_entry(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="expected stored, without extras"):
        opened(bytes(ENCRYPTED), tmp_path)


def test_as_many_entries_as_there_may_be_and_no_more(tmp_path: Path) -> None:
    tree = {f"metadata/{number}.root.json": b"" for number in range(10_000, 10_000 + MAX_ENTRIES)}
    full = bundle(tree)
    tracemalloc.start()
    try:
        assert opened(full, tmp_path).metadata("10000.root.json") == b""
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * 2**20
    with pytest.raises(BundleError, match="at most 16384 entries"):
        opened(bundle({**tree, "metadata/timestamp.json": b""}), tmp_path)


def test_any_bytes_are_refused_or_a_bundle(tmp_path: Path) -> None:
    """Directories with random fields: nothing but a refusal comes out."""
    rng = random.Random(7)
    at = GOOD.index(b"PK\x01\x02")
    refused = 0
    for _ in range(300):
        spoilt = bytearray(GOOD)
        for _ in range(rng.randint(1, 6)):
            place = rng.randrange(at, len(GOOD))
            spoilt[place : place + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", rng.randbytes(4)])
        try:
            opened(bytes(spoilt), tmp_path)
        except BundleError:
            refused += 1
    assert refused > 290
