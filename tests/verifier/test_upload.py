"""The sender of an upload: windows, going back, overtaken answers, pieces that follow the line, and boards that never have enough."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from hillhold_verifier.answers import Body
from hillhold_verifier.conversation import Progress, Request, Upload
from hillhold_verifier.errors import OperationalError, SmpError
from hillhold_verifier.smp import Message, encode
from hillhold_verifier.upload import LEAST_WINDOW, MAX_SETBACKS, MIN_PIECE, RUN, Uploader

DATA = Random(7).randbytes(20_000)
FIRST: Body = {"image": 0, "len": len(DATA), "sha": b"\1" * 32}
BUFFER = 512


class Content:
    def __init__(self, data: bytes = DATA) -> None:
        self.data = data

    def read(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


class Board:
    """Takes pieces in order, and says which offset it wants."""

    def __init__(self, have: bytes = b"") -> None:
        self.have, self.named = have, False

    def take(self, request: Request) -> Body:
        offset, data = request.body["off"], request.body["data"]
        assert isinstance(offset, int)
        assert isinstance(data, bytes)
        if offset == 0:
            assert {name: request.body[name] for name in FIRST} == FIRST
            self.named = True
        assert self.named
        if offset == len(self.have):
            self.have += data
        return {"off": len(self.have)}


def upload(
    *, window: int = 4, asks: bool = False, content: Content | None = None, steps: list[Progress] | None = None
) -> Upload:
    report = (steps if steps is not None else []).append
    return Upload(content or Content(), len(DATA), FIRST, "image x", BUFFER, window, report, asks)


def taken(uploader: Uploader) -> list[Request]:
    """What may go now."""
    found = []
    while (request := uploader.take()) is not None:
        found.append(request)
    return found


def size(request: Request) -> int:
    return len(encode(Message(request.op, request.group, request.command, 0, request.body)))


def carry(uploader: Uploader, board: Board, lose: Random | None = None, rate: float = 0.0) -> int:
    """Carry to the end; requests and answers are lost at that rate. Returns how many requests there were."""
    count, line = 0, list[Request]()
    while uploader.result is None:
        line += taken(uploader)
        assert line, "nothing is under way, and it has not ended"
        request = line.pop(0)
        count += 1
        assert count < 5000
        if lose and lose.random() < rate:
            if not line:
                uploader.lost(request)
            continue
        answer = board.take(request)
        if lose and lose.random() < rate:
            if not line:
                uploader.lost(request)
            continue
        uploader.answered(request, answer)
        line = [one for one in line if any(one is each for each in uploader.pending)]
    return count


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("window", [1, 2, 8])
def test_all_of_it_arrives_once(window: int, *, asks: bool) -> None:
    steps: list[Progress] = []
    uploader, board = Uploader(upload(window=window, asks=asks, steps=steps)), Board()
    count = carry(uploader, board)
    assert (board.have, uploader.result) == (DATA, {"off": len(DATA)})
    assert count == -(-len(DATA) // 480) + asks
    assert [step.done for step in steps] == sorted({step.done for step in steps})
    assert steps[-1] == Progress("image x", len(DATA), len(DATA))


def test_the_first_request_goes_alone_and_the_board_may_hold_some_already() -> None:
    uploader = Uploader(upload(asks=True))
    (first,) = taken(uploader)
    assert first.body == {**FIRST, "off": 0, "data": b""}
    assert first.slow
    uploader.answered(first, {"off": 12_000})
    offsets = [request.body["off"] for request in taken(uploader)]
    assert offsets[0] == 12_000
    assert len(offsets) == LEAST_WINDOW


def test_a_stock_board_gets_the_head_of_the_image_in_the_first_request() -> None:
    (first,) = taken(Uploader(upload()))
    data = first.body["data"]
    assert isinstance(data, bytes)
    assert 400 < len(data) < BUFFER
    assert data == DATA[: len(data)]


def test_no_request_is_longer_than_the_board_takes() -> None:
    uploader, board = Uploader(upload()), Board()
    longest = 0
    while uploader.result is None:
        for request in taken(uploader):
            longest = max(longest, size(request))
            uploader.answered(request, board.take(request))
    assert BUFFER - 8 < longest <= BUFFER


def test_a_piece_that_is_lost_is_sent_again_from_there_and_what_was_behind_it_says_nothing_new() -> None:
    uploader, board = Uploader(upload(window=2)), Board()
    (first,) = taken(uploader)
    uploader.answered(first, board.take(first))
    lost, behind = taken(uploader)
    answer = board.take(behind)
    assert answer == {"off": lost.body["off"]}
    uploader.answered(behind, answer)
    again = taken(uploader)
    assert again[0].body["off"] == lost.body["off"]
    uploader.answered(lost, {"off": 7})  # an answer to what was overtaken
    assert taken(uploader) == []
    for request in again:
        uploader.answered(request, board.take(request))
    carry(uploader, board)
    assert board.have == DATA


def test_an_answer_that_is_lost_is_made_up_for_by_the_next_one() -> None:
    uploader, board = Uploader(upload(window=2)), Board()
    (first,) = taken(uploader)
    uploader.answered(first, board.take(first))
    unheard, heard = taken(uploader)
    board.take(unheard)
    uploader.answered(heard, board.take(heard))
    assert not any(one is unheard for one in uploader.pending)
    assert taken(uploader)[0].body["off"] == len(board.have)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("asks", [False, True])
def test_half_of_everything_is_lost(seed: int, *, asks: bool) -> None:
    uploader, board = Uploader(upload(asks=asks)), Board()
    carry(uploader, board, Random(seed), 0.3)
    assert board.have == DATA


def test_pieces_are_shorter_on_a_bad_line_and_grow_again() -> None:
    uploader, board = Uploader(upload(window=8)), Board()
    for _ in range(10):
        for request in taken(uploader):
            uploader.lost(request)
    (short,) = taken(uploader)
    assert MIN_PIECE - 9 <= size(short) <= MIN_PIECE
    uploader.answered(short, board.take(short))
    sizes = []
    while uploader.result is None:
        requests = taken(uploader)
        sizes.append((size(requests[0]), len(uploader.pending)))
        for request in requests:
            uploader.answered(request, board.take(request))
    assert MIN_PIECE - 9 <= sizes[0][0] <= MIN_PIECE + 4
    assert sizes[0][1] == LEAST_WINDOW
    assert max(most for most, _ in sizes) > 300
    assert max(window for _, window in sizes) >= LEAST_WINDOW + 1
    assert RUN > 8


def forever(uploader: Uploader, says: Callable[[int, int], int], most: int) -> None:
    """A board that says this to the end of each piece and its number."""
    count = 0
    while uploader.result is None:
        for request in taken(uploader):
            offset, data = request.body["off"], request.body["data"]
            assert isinstance(offset, int)
            assert isinstance(data, bytes)
            count += 1
            assert count < most, "it goes on for ever"
            uploader.answered(request, {"off": says(offset + len(data), count)})


def test_a_board_that_writes_whole_words_keeps_the_pieces_long() -> None:
    """MCUboot's serial recovery: a piece of 989 bytes is answered with 988."""
    uploader, have, longest = Uploader(upload()), 0, 0
    while uploader.result is None:
        for request in taken(uploader):
            offset, data = request.body["off"], request.body["data"]
            assert isinstance(offset, int)
            assert isinstance(data, bytes)
            longest = max(longest, len(data))
            if offset == have:
                end = offset + len(data)
                have = end if end == len(DATA) else end // 16 * 16
            uploader.answered(request, {"off": have})
    assert have == len(DATA)
    assert longest > 470


@pytest.mark.parametrize("off", [0, 10, 484])
def test_a_board_that_never_has_enough_is_given_up(off: int) -> None:
    with pytest.raises(OperationalError, match="the board took no more of image x than"):
        forever(Uploader(upload()), lambda _end, _count: off, 4 * (MAX_SETBACKS + 4))


def test_a_board_that_gives_back_what_it_took_is_given_up() -> None:
    with pytest.raises(OperationalError, match="took no more"):
        forever(Uploader(upload(window=1)), lambda end, count: 300 if count % 2 else end, 200)


@pytest.mark.parametrize("unit", [4, 8, 32])
def test_a_board_that_takes_whole_units_of_its_flash_only(unit: int) -> None:
    """As MCUboot's serial recovery: the rest of each piece is asked for again, which is no loss."""

    class Units(Board):
        def take(self, request: Request) -> Body:
            before, data = len(self.have), request.body["data"]
            assert isinstance(data, bytes)
            answer = super().take(request)
            if before < len(self.have) < len(DATA):
                self.have = self.have[: len(self.have) // unit * unit]
                return {"off": len(self.have)}
            return answer

    whole, board = carry(Uploader(upload(window=1)), Board()), Units()
    assert carry(Uploader(upload(window=1)), board) <= whole + 2
    assert board.have == DATA


def test_a_board_that_takes_little_of_each_piece_is_given_up() -> None:
    """One byte at a time would be a request for each byte of the image, and more of them than anybody waits for."""
    with pytest.raises(OperationalError, match="took no more"):
        forever(Uploader(upload(window=1)), lambda end, count: count, 200)


@pytest.mark.parametrize("off", [len(DATA) + 1, 2**63, -1, "7", None, True])
def test_an_offset_that_cannot_be_is_no_answer(off: object) -> None:
    uploader = Uploader(upload())
    (first,) = taken(uploader)
    with pytest.raises(SmpError, match="off"):
        uploader.answered(first, {"off": off})


@pytest.mark.parametrize("body", [{"err": {"group": 1, "rc": 24}}, {"rc": 5}, {"rc": 1, "rsn": "no"}])
def test_a_refusal_ends_it(body: Body) -> None:
    uploader = Uploader(upload())
    (first,) = taken(uploader)
    uploader.answered(first, body)
    assert (uploader.result, uploader.take()) == (body, None)


def test_the_last_answer_is_handed_on() -> None:
    uploader = Uploader(upload(asks=True))
    (first,) = taken(uploader)
    uploader.answered(first, {"off": len(DATA), "match": True})
    assert uploader.result == {"off": len(DATA), "match": True}


def test_a_source_that_ends_too_soon() -> None:
    uploader, board = Uploader(upload(content=Content(DATA[:3000]))), Board()
    with pytest.raises(OperationalError, match="image x: 3000 bytes, not the 20000"):
        carry(uploader, board)
