"""What an audit says of a line's releases, of its files, and of what its patches make."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256

import pytest

from forge import Repo
from hillhold_verifier.audit import Level, Report, audit
from hillhold_verifier.audit.files import PIECE
from hillhold_verifier.audit.report import TargetReport
from hillhold_verifier.errors import OperationalError
from hillhold_verifier.sources import Content
from holder import NOW
from offers import TreeSource, image, offer, offer_patch, patch, started


def judge(repo: Repo, tree: Mapping[str, bytes] | None = None, *, files: bool = True) -> Report:
    published = repo.publish() if tree is None else tree
    return audit(TreeSource(published), published["metadata/1.root.json"], NOW, files=files)


def said(report: Report, level: Level = Level.REFUSED) -> list[str]:
    return [f"{finding.where}: {finding.message}" for finding in report.findings if finding.level is level]


def target(report: Report, path: str) -> TargetReport:
    (found,) = [one for line in report.lines for one in line.targets if one.path == path]
    return found


def two_releases() -> tuple[Repo, bytes, bytes]:
    """1.0.0 and 1.1.0; not yet published."""
    repo = Repo()
    return repo, offer(repo, "1.0.0"), offer(repo, "1.1.0", 2)


APP, NEXT = "pump/1.0.0/app.bin", "pump/1.1.0/app.bin"


# --- files ------------------------------------------------------------------------------------------------------------


def file_name(repo: Repo, path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"targets/{folder}/{sha256(repo.blobs[path]).hexdigest()}.{name}"


SPOILT: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda data: data[:-1], "file length: expected 5188, got 5187"),
    (lambda data: data + b"x", "file length: expected 5188, got more"),
    (lambda data: b"", "file length: expected 5188, got 0"),
    (lambda data: b"x" + data[1:], "file sha256: expected "),
]


@pytest.mark.parametrize(("spoil", "words"), SPOILT)
def test_a_file_that_is_not_what_was_signed(spoil: Callable[[bytes], bytes], words: str) -> None:
    repo = started()
    name = file_name(repo, APP)
    report = judge(repo, {**repo.tree, name: spoil(repo.tree[name])})
    assert [text.startswith(f"{APP}: {words}") for text in said(report)] == [True]
    assert (target(report, APP).file, target(report, APP).image) == ("different", None)
    assert report.lines[0].accepted, "its metadata are good"
    assert not report.is_good(report.lines[0])


def test_a_file_that_is_missing_and_one_that_is_not_looked_at() -> None:
    repo = started()
    tree = dict(repo.tree)
    del tree[file_name(repo, APP)]
    report = judge(repo, tree)
    assert said(report) == [f"{APP}: target {APP}: missing"]
    assert target(report, APP).file == "missing"
    report = judge(repo, tree, files=False)
    assert (report.verdict, target(report, APP).file) == (Level.GOOD, "not looked at")


def test_further_hashes_are_checked_and_a_file_without_a_sha256_is_told() -> None:
    repo = started()
    repo.entries[APP]["hashes"]["sha512"] = "0" * 128
    words = said(judge(repo))
    assert len(words) == 1
    assert words[0].startswith(f"{APP}: file sha512: expected 0000000000000000…")
    del repo.entries[APP]["hashes"]["sha256"]
    report = judge(repo)
    assert said(report) == [f"{APP}: malformed: {APP} hashes: expected sha256, got others"]
    assert target(report, APP).file == "not looked at"


class Failing(TreeSource):
    """Reading a target fails half-way."""

    @contextmanager
    def target(self, path: str, sha256: bytes) -> Iterator[Content]:
        yield self

    def read(self, offset: int, length: int) -> bytes:
        raise OperationalError("target: Input/output error")


def test_a_file_that_cannot_be_read() -> None:
    tree = started().tree
    report = audit(Failing(tree), tree["metadata/1.root.json"], NOW)
    assert (report.verdict, target(report, APP).file) == (Level.UNREAD, "unread")


def test_no_more_is_read_than_was_signed_and_in_pieces() -> None:
    repo = Repo()
    path = repo.add_release("1.0.0", bytes(3 * PIECE + 5))
    asked: list[tuple[int, int]] = []

    class Endless:
        def read(self, offset: int, length: int) -> bytes:
            asked.append((offset, length))
            return bytes(length)

    class Source(TreeSource):
        @contextmanager
        def target(self, path: str, sha256: bytes) -> Iterator[Content]:
            yield Endless()

    tree = repo.publish()
    report = audit(Source(tree), tree["metadata/1.root.json"], NOW)
    assert said(report) == [f"{path}: file length: expected {3 * PIECE + 5}, got more"]
    assert max(length for _, length in asked) == PIECE
    assert max(offset + length for offset, length in asked) == 3 * PIECE + 6


# --- images -----------------------------------------------------------------------------------------------------------


def test_an_image_has_to_be_what_its_release_says() -> None:
    repo = Repo()
    offer(repo, "1.0.0", data=image("1.0.0", 2))
    offer(repo, "1.1.0", data=image("1.0.0"))
    offer(repo, "1.2.0", data=image("1.2.0") + b"more")
    offer(repo, "1.3.0", data=b"no image")
    broken = bytearray(image("1.4.0"))
    broken[100] ^= 1
    offer(repo, "1.4.0", data=bytes(broken))
    offer(repo, "1.5.0", data=image("1.0.0"), format="raw")
    offer(repo, "1.6.0", data=image("1.6.0"), format="raw")
    offer(repo, "1.7.0", data=b"raw", format="raw")
    report = judge(repo)
    assert [words.partition(", got")[0] for words in said(report)] == [
        "pump/1.0.0/app.bin: image header: expected version 1.0.0 and counter 1",
        "pump/1.1.0/app.bin: image header: expected version 1.1.0 and counter 1",
        "pump/1.2.0/app.bin: image length: expected 5192",
        "pump/1.3.0/app.bin: header: expected within 8 bytes",
        f"pump/1.4.0/app.bin: image hash: expected {_stated(bytes(broken))}",
        "pump/1.5.0/app.bin: image header: expected version 1.5.0 and counter 1",
    ]
    images = [one.image for one in report.lines[0].targets]
    assert images == ["differs"] * 6 + ["agrees", None]


def _stated(data: bytes) -> str:
    """The hash that an image states of itself (TLV 0x10, 32 bytes)."""
    at = data.index(b"\x10\x00\x20\x00", 5000)
    return data[at + 4 : at + 36].hex()


# --- patches ----------------------------------------------------------------------------------------------------------


def test_a_patch_has_to_make_exactly_its_image() -> None:
    repo, base, new = two_releases()
    offer_patch(repo, "1.1.0", base, new)
    report = judge(repo)
    (path,) = [path for path in repo.entries if path.endswith(".patch")]
    assert (report.verdict, target(report, path).makes_exactly, target(report, path).base_path) == (0, True, APP)
    repo.add_patch(NEXT, base, patch(base, image("1.1.0", 3)), algorithm="hhp2")
    report = judge(repo)
    assert [words.partition(": expected")[0] for words in said(report)] == [f"{path}: what the patch makes of {APP}"]
    assert target(report, path).makes_exactly is False


class Trickling(TreeSource):
    """A network: each read of a target has a few of the bytes that were asked for."""

    @contextmanager
    def target(self, path: str, sha256: bytes) -> Iterator[Content]:
        with super().target(path, sha256) as content:

            class Trickle:
                def read(self, offset: int, length: int) -> bytes:
                    return content.read(offset, min(length, 7))

            yield Trickle()


def test_files_that_come_in_a_trickle_are_as_good() -> None:
    repo, base, new = two_releases()
    offer_patch(repo, "1.1.0", base, new)
    tree = repo.publish()
    report = audit(Trickling(tree), tree["metadata/1.root.json"], NOW)
    (path,) = [path for path in repo.entries if path.endswith(".patch")]
    assert (said(report), target(report, APP).image, target(report, path).makes_exactly) == ([], "agrees", True)


def test_patches_that_no_device_can_use() -> None:
    repo, base, new = two_releases()
    head = f"{NEXT}.{sha256(base).hexdigest()[:16]}.patch"

    def words(data: bytes, level: Level = Level.REFUSED, **custom: object) -> list[str]:
        repo.change(repo.add_patch(NEXT, base, data, algorithm="hhp2"), **custom)
        return said(judge(repo), level)

    made = patch(base, new)
    assert words(made[:-1])[0].startswith(f"{head}: patch cut short: expected its end")
    assert words(b"XXX" + made[3:])[0].startswith(f"{head}: patch magic")
    expected = f"expected {len(base)}, the length of {APP}, got 5"
    assert words(made, base_length=5) == [f"{head}: base_length: {expected}"]
    told = [f"{head}: algorithm other: devices of this version take the whole image"]
    assert words(made, Level.WARNING, algorithm="other") == told


@pytest.mark.parametrize("spoilt", ["base", "patch"])
def test_a_patch_is_tried_only_with_the_files_that_were_signed(spoilt: str) -> None:
    repo, base, new = two_releases()
    offer_patch(repo, "1.1.0", base, new)
    repo.publish()
    (path,) = [path for path in repo.entries if path.endswith(".patch")]
    name = file_name(repo, APP if spoilt == "base" else path)
    report = judge(repo, {**repo.tree, name: b"X" + repo.tree[name][1:]})
    assert len(said(report)) == 1
    assert target(report, path).makes_exactly is None


def test_a_patch_to_nothing_listed_and_from_nothing_listed() -> None:
    repo = started()
    path = repo.add_patch(NEXT, b"gone", b"patch", algorithm="hhp2")
    assert said(judge(repo)) == [f"{path}: makes: expected a release of this line, got {NEXT}"]
    path = repo.add_patch(APP, b"pruned", b"patch", algorithm="hhp2")
    found = target(judge(repo), path)
    assert (found.findings, found.base_path, found.makes_exactly) == ((), None, None)


def test_lengths_that_no_patch_can_have() -> None:
    repo = Repo()
    repo.add_release("1.0.0", b"base")
    path = repo.add_patch(repo.add_release("1.1.0", b"new"), b"base", b"patch", algorithm="hhp2")
    repo.entries["pump/1.1.0/app.bin"]["length"] = 2**31
    assert f"{path}: patch lengths: expected at most {2**31 - 1}, got {2**31}" in said(judge(repo))


# --- what is said of releases -----------------------------------------------------------------------------------------


def rules(*releases: tuple[str, dict[str, object]], level: Level = Level.REFUSED) -> list[str]:
    """Findings on raw releases, each a version and what is said of it; its image is that of its `seed`, or its own."""
    repo = Repo(hardware=("nrf-a", "nrf-b"))
    for number, (version, custom) in enumerate(releases):
        seed = custom.pop("seed", number)
        hardware = custom.pop("hardware", ["nrf-a"])
        repo.add_release(version, f"image {seed}".encode(), file=f"{number}.bin", hardware=hardware, **custom)  # type: ignore[arg-type]
    return [words.removeprefix("pump/") for words in said(judge(repo), level)]


def test_nothing_is_said_of_releases_that_devices_can_install() -> None:
    fine: list[tuple[str, dict[str, object]]] = [
        ("1.0.0", {"withdrawn": "a bug", "crit": ["new"], "requires": {"radio": "9.0.0"}}),
        ("1.1.0", {"set": "s", "requires": {"radio": "2.0.0"}}),
        ("2.0.0", {"set": "s", "component": "radio"}),
        ("1.1.0", {"hardware": ["nrf-b"]}),
        ("1.0.1", {"downgrade_from": ["1.1.0", "7.0.0"]}),
        ("1.2.0", {"requires": {"app": "1.2.0"}, "downgrade_from": ["1.2.0"], "crit": ["hardware"]}),
    ]
    assert rules(*fine) == []
    assert rules(*fine, level=Level.WARNING) == []


@pytest.mark.parametrize(
    ("releases", "words"),
    [
        (
            [("1.0.0", {"hardware": ["x", "nrf-a"]})],
            ["1.0.0/0.bin: hardware: expected of the line's nrf-a, nrf-b, got x"],
        ),
        ([("1.0.0", {"counter": 101})], ["1.0.0/0.bin: security counter: expected at most the line's 100, got 101"]),
        ([("1.0.0", {"path": "valve/1.0.0/0.bin"})], ["valve/1.0.0/0.bin: product: expected pump, got valve"]),
        ([("1.0.0", {"kind": "new"})], ["1.0.0/0.bin: malformed: pump/1.0.0/0.bin custom.hillhold kind: "]),
        ([("1.0.0", {"v": 2})], ["1.0.0/0.bin: malformed: pump/1.0.0/0.bin custom.hillhold v: expected 1, got 2"]),
        (
            [("1.0.0", {}), ("1.0.0", {"hardware": ["nrf-a", "nrf-b"]})],
            ["1.0.0/1.bin: version 1.0.0: expected one image for a board, got pump/1.0.0/0.bin too"],
        ),
        ([("1.0.0", {}), ("1.0.0", {"seed": 0})], []),
        ([("1.0.0", {}), ("1.0.0", {"withdrawn": "bad"})], []),
        ([("1.0.0", {}), ("1.0.0", {"component": "radio"})], []),
        (
            [("1.0.0", {"downgrade_from": ["1.1.0"]}), ("1.1.0", {"downgrade_from": ["1.0.0"]})],
            [
                f"1.{n}.0/{n}.bin: downgrade_from: expected no way back, got a circle with pump/1.{1 - n}.0/"
                for n in (0, 1)
            ],
        ),
        (
            [("1.0.0", {"downgrade_from": ["1.1.0"]}), ("1.1.0", {"downgrade_from": ["1.2.0"]}), ("1.2.0", {})],
            [],
        ),
        (
            [
                ("1.0.0", {"downgrade_from": ["1.1.0"]}),
                ("1.1.0", {"downgrade_from": ["1.0.0"], "hardware": ["nrf-b"]}),
            ],
            [],
        ),
        (
            [("1.0.0", {"set": "s"})],
            ["1.0.0/0.bin: set s on nrf-a: expected a release for each of several components, got "],
        ),
        (
            [("1.0.0", {"set": "s"}), ("1.1.0", {"set": "s"})],
            [
                f"1.{n}.0/{n}.bin: set s on nrf-a: expected a release for each of several components, got two"
                for n in (0, 1)
            ],
        ),
        (
            [
                ("1.0.0", {"set": "s", "hardware": ["nrf-a", "nrf-b"]}),
                ("1.0.0", {"set": "s", "component": "radio"}),
            ],
            ["1.0.0/0.bin: set s on nrf-b: "],
        ),
        ([("1.0.0", {"requires": {"app": "2.0.0"}})], ["1.0.0/0.bin: requires app 2.0.0: and is itself app 1.0.0"]),
        (
            [("1.0.0", {"set": "s", "requires": {"radio": "2.0.0"}}), ("1.0.0", {"set": "s", "component": "radio"})],
            ["1.0.0/0.bin: requires radio 2.0.0: and its set brings radio 1.0.0"],
        ),
    ],
)
def test_releases_that_no_device_could_install_are_refused(
    releases: list[tuple[str, dict[str, object]]], words: list[str]
) -> None:
    found = rules(*[(version, dict(custom)) for version, custom in releases])
    assert len(found) == len(words), found
    for text, start in zip(found, words, strict=True):
        assert text.startswith(start)


@pytest.mark.parametrize(
    ("releases", "words"),
    [
        ([("1.0.0", {"crit": ["new"]})], ["1.0.0/0.bin: needs a device that understands new; this version does not"]),
        (
            [("1.0.0", {"withdrawn": "bad", "seed": 7}), ("1.1.0", {"seed": 7})],
            ["1.1.0/1.bin: the same image is withdrawn under another entry: no device installs it"],
        ),
        (
            [("1.0.0", {"set": "s"}), ("1.0.0", {"set": "s", "component": "radio", "withdrawn": "bad"})],
            [
                "1.0.0/0.bin: set s on nrf-a: expected a release for each of several components, and pump/1.0.0/1.bin is "
            ],
        ),
        (
            [("1.0.0", {"requires": {"radio": "1.0.0"}})],
            ["1.0.0/0.bin: requires radio 1.0.0: nothing listed is; only a "],
        ),
        (
            [("1.0.0", {"requires": {"radio": "1.0.0"}}), ("1.0.0", {"component": "radio", "hardware": ["nrf-b"]})],
            ["1.0.0/0.bin: requires radio 1.0.0: nothing listed is; only a "],
        ),
    ],
)
def test_releases_that_somebody_should_look_at_are_warned_of(
    releases: list[tuple[str, dict[str, object]]], words: list[str]
) -> None:
    found = rules(*[(version, dict(custom)) for version, custom in releases], level=Level.WARNING)
    assert len(found) == len(words), found
    for text, start in zip(found, words, strict=True):
        assert text.startswith(start)


@pytest.mark.parametrize(
    ("custom", "warned"),
    [
        ({"sbom": [{"sha256": sha256(b"parts").hexdigest()}]}, False),
        ({"notes": {"sha256": sha256(b"parts").hexdigest()}}, False),
        ({"notes": {"sha256": sha256(b"others").hexdigest()}}, True),
        ({"sbom": [None, {"sha256": "zz"}, {"sha256": 1}, 3], "notes": [1]}, True),
        ({"sbom": 7}, True),
    ],
)
def test_a_document_that_a_release_names_is_no_surprise(custom: dict[str, object], warned: bool) -> None:
    repo = started()
    repo.change(APP, **custom)
    repo.add_target("pump/1.0.0/parts.json", b"parts", {})
    repo.entries["pump/1.0.0/parts.json"]["custom"] = {}
    found = said(judge(repo), Level.WARNING)
    assert found == ["pump/1.0.0/parts.json: says nothing to Hillhold: no device looks at it"] * warned


def test_a_target_that_is_nothing_to_hillhold() -> None:
    repo = started()
    repo.entries[APP]["custom"] = {"vendor": 1}
    report = judge(repo)
    assert said(report, Level.WARNING) == [f"{APP}: says nothing to Hillhold: no device looks at it"]
    assert target(report, APP).file == "as signed"
