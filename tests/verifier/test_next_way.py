"""Where one way to a release fails, at the source or on the board, the next one is taken; and what arrived of it is not lost."""

from __future__ import annotations

import lzma
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Final

import pytest

from bench import CLOCK, LAYOUT, Bench, Rig, confirmed_rig, installed
from hillhold_verifier.conversation import Progress
from hillhold_verifier.courier import Courier
from hillhold_verifier.errors import OperationalError
from hillhold_verifier.local import LocalUpdate
from hillhold_verifier.patch import FORMAT_VERSION, HEADER, MAGIC
from hillhold_verifier.release import NOTHING, patch_path
from hillhold_verifier.smp import ImageCommand
from hillhold_verifier.sources import Content
from offers import TreeSource, image, offer, offer_compressed, offer_patch, patch

NEW = "pump/1.1.0/app.bin"
BASE = image("1.0.0")
DATA = image("1.1.0", 2, dense=False)
OTHER = image("1.1.0", 2, seed=9, dense=False)
"""Another one, of about the same size."""
FROM: Final = {"patch": sha256(BASE).digest(), "compressed": NOTHING}
"""The base of each way that is a patch."""
SECTOR = LAYOUT.slot_sector(0)

Update = Callable[[TreeSource], tuple[list[str], int]]
"""Updates from a source; returns the steps in words, and the payload bytes that were read."""


class Unread:
    """Content that cannot be read."""

    def read(self, offset: int, length: int) -> bytes:
        raise OperationalError("target: Input/output error")


class Spoilt(TreeSource):
    """A source whose file for one path is missing, short, altered or cannot be read."""

    def __init__(self, tree: dict[str, bytes], path: str, fault: str) -> None:
        folder, _, name = path.rpartition("/")
        (file,) = (one for one in tree if one.startswith(f"targets/{folder}/") and one.endswith(f".{name}"))
        spoilt = {"short": tree[file][:10], "altered": bytes([tree[file][0] ^ 1]) + tree[file][1:]}
        left = {one: data for one, data in tree.items() if one != file or fault not in ("missing", *spoilt)}
        super().__init__({**left, **({file: spoilt[fault]} if fault in spoilt else {})})
        self._unread = path if fault == "unread" else None

    @contextmanager
    def target(self, path: str, sha256: bytes) -> Iterator[Content]:
        with super().target(path, sha256) as content:
            yield Unread() if path == self._unread else content


def over_the_line() -> tuple[Bench, Update]:
    bench = installed()

    def update(source: TreeSource) -> tuple[list[str], int]:
        steps: list[Progress] = []
        pushed = bench.run(Courier(source, steps.append).push(reset=False))
        return [step.step for step in steps], pushed.sent

    return bench, update


def by_itself() -> tuple[Rig, Update]:
    rig = confirmed_rig()

    def update(source: TreeSource) -> tuple[list[str], int]:
        steps: list[Progress] = []
        updated = LocalUpdate(rig.installer, source, CLOCK, steps.append).update()
        return [step.step for step in steps], updated.read

    return rig, update


both = pytest.mark.parametrize("kind", [over_the_line, by_itself], ids=["courier", "local"])
Kind = Callable[[], tuple[Bench | Rig, Update]]


# --- a fault of the source --------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("fault", ["missing", "short", "altered", "unread"])
@pytest.mark.parametrize("way", FROM)
def test_a_way_that_the_source_cannot_give_leads_to_the_next(kind: Kind, way: str, fault: str) -> None:
    """The image is there: a mirror that lost one file blocks nobody."""
    board, update = kind()
    offer(board.repo, "1.1.0", 2, data=DATA)
    if way == "patch":
        offer_patch(board.repo, "1.1.0", BASE, DATA)
    packed = offer_compressed(board.repo, "1.1.0", DATA)
    board.repo.publish()
    steps, read = update(Spoilt(dict(board.repo.tree), patch_path(NEW, FROM[way]), fault))
    assert read == (len(packed) if way == "patch" else len(DATA))
    assert len([step for step in steps if "the next way" in step]) == 1
    assert board.facts().mark == sha256(DATA).digest()


@both
@pytest.mark.parametrize("fault", ["missing", "short", "unread"])
def test_an_image_that_the_source_cannot_give_ends_the_update(kind: Kind, fault: str) -> None:
    """There is no further way."""
    board, update = kind()
    offer(board.repo, "1.1.0", 2, data=DATA)
    board.repo.publish()
    words = {"missing": "missing", "short": f"10 bytes, not the {len(DATA)}", "unread": "Input/output error"}
    with pytest.raises(OperationalError, match=words[fault]):
        update(Spoilt(dict(board.repo.tree), NEW, fault))


# --- what arrived is not lost -----------------------------------------------------------------------------------------


class Line(TreeSource):
    """A source that is gone once `most` bytes of a file were read since the update began: a link that never lasts for a whole image."""

    def __init__(self, tree: dict[str, bytes], most: int) -> None:
        super().__init__(tree)
        self.began: dict[str, int] = {}
        self._most = most

    @contextmanager
    def target(self, path: str, sha256: bytes) -> Iterator[Content]:
        with super().target(path, sha256) as content:
            yield Lasting(content, path, self._most, self.began) if path == NEW else content


class Lasting:
    def __init__(self, content: Content, path: str, most: int, began: dict[str, int]) -> None:
        self._content, self._path, self._most, self._began = content, path, most, began

    def read(self, offset: int, length: int) -> bytes:
        first = self._began.setdefault(self._path, offset)
        if offset - first >= self._most:
            raise OperationalError("the link is gone")
        return self._content.read(offset, min(length, 500))


@both
@pytest.mark.parametrize("fault", ["makes something else", "altered at the source"])
def test_an_image_goes_on_where_it_was_though_the_patch_is_smaller(kind: Kind, fault: str) -> None:
    """Staging the refused patch once more would erase it: the link never lasts for the whole image."""
    board, update = kind()
    offer(board.repo, "1.1.0", 2, data=DATA)
    made = patch(BASE, OTHER if fault == "makes something else" else DATA)
    board.repo.add_patch(NEW, BASE, made, algorithm="hhp2")
    board.repo.publish()
    tree = dict(board.repo.tree)
    if fault == "altered at the source":
        tree = dict(Spoilt(tree, patch_path(NEW, FROM["patch"]), "altered").tree)
    began = []
    for _ in range(2):
        line = Line(tree, SECTOR + 500)
        with pytest.raises(OperationalError, match="the link is gone"):
            update(line)
        began.append(line.began[NEW])
        board.power_cycle()
    line = Line(tree, SECTOR + 500)
    steps, _ = update(line)
    assert [*began, line.began[NEW]] == [0, SECTOR, 2 * SECTOR]
    assert not [step for step in steps if step.startswith("patch")]
    assert board.facts().mark == sha256(DATA).digest()


# --- which way is the first -------------------------------------------------------------------------------------------


def roundabout(base: bytes, result: bytes) -> bytes:
    """A patch that makes the result, and takes nothing of the base: a little larger than the result compressed."""
    length = bytes([len(result) & 0x7F | 0x80, len(result) >> 7])
    plain = b"\0" + bytes([0, 1, 0, 2]) + bytes([0, 1]) + length + b"\0" + result
    filters = [{"id": lzma.FILTER_LZMA1, "preset": 0, "dict_size": 1 << 12, "lc": 0, "lp": 0, "pb": 0}]
    head = HEADER.pack(MAGIC, FORMAT_VERSION, 0, 12, len(base), len(result))
    return head + lzma.compress(plain, lzma.FORMAT_RAW, filters=filters)


def offer_both(board: Bench | Rig, first: str) -> dict[str, bytes]:
    """Offer a release as a patch and compressed, either of which makes it, the smaller one being `first`; returns both, in this order."""
    offer(board.repo, "1.1.0", 2, data=DATA)
    made = {"patch": patch(BASE, DATA) if first == "patch" else roundabout(BASE, DATA)}
    board.repo.add_patch(NEW, BASE, made["patch"], algorithm="hhp2")
    made["compressed"] = offer_compressed(board.repo, "1.1.0", DATA)
    board.repo.publish()
    return dict(sorted(made.items(), key=lambda item: len(item[1])))


@both
@pytest.mark.parametrize("first", FROM)
def test_of_two_ways_that_both_go_the_smaller_one_is_taken(kind: Kind, first: str) -> None:
    board, update = kind()
    made = offer_both(board, first)
    sizes = [len(one) for one in made.values()]
    assert next(iter(made)) == first
    assert sizes[0] < sizes[1] < len(DATA)
    steps, read = update(TreeSource(board.repo.tree))
    assert read == sizes[0]
    assert not [step for step in steps if "the next way" in step]
    brought = {step for step in steps if step.startswith(("patch ", "image "))}
    assert brought == {f"patch {patch_path(NEW, FROM[first])}"}
    assert board.facts().mark == sha256(DATA).digest()


@both
@pytest.mark.parametrize(("first", "second"), [("patch", "compressed"), ("compressed", "patch")])
def test_a_larger_way_that_was_begun_goes_on(kind: Kind, first: str, second: str) -> None:
    board, update = kind()
    made = offer_both(board, first)[second]
    if isinstance(board, Bench):
        board.check()
        named = {"image": 0, "off": 0, "len": len(made), "sha": sha256(made).digest(), "data": made[:500]}
        assert board.image(ImageCommand.UPLOAD, named)["off"] == 500
    else:
        board.take()
        board.send(made, until=500)
    steps, read = update(TreeSource(board.repo.tree))
    assert read == len(made)
    brought = {step for step in steps if step.startswith(("patch ", "image "))}
    assert brought == {f"patch {patch_path(NEW, FROM[second])}"}
    assert board.facts().mark == sha256(DATA).digest()
