"""The courier: it brings the fewest files, goes on where a transfer stopped, falls back to the image, and repeats a board's words."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256

import pytest

from bench import FAILING, MANUAL, SLOT_SIZE, Bench, BoardSilent, installed
from hillhold_bootsim.application import SelfTest
from hillhold_bootsim.flash import Cut, CutAt
from hillhold_verifier.agent import CHOOSE, IDENTIFY, METADATA, STATUS
from hillhold_verifier.answers import BoardRefused, Body, plan_of, reasons_of
from hillhold_verifier.conversation import Conversation, Pause, Progress, Request, T
from hillhold_verifier.courier import RESET_POLLS, Courier, confirm_running, read_status
from hillhold_verifier.errors import ConfirmError, HillholdError, MetadataError, OperationalError, SlotError, SmpError
from hillhold_verifier.smp import HILLHOLD_GROUP, Group, ImageCommand, OsCommand
from hillhold_verifier.upload import MAX_SETBACKS, one_at_a_time
from offers import TreeSource, image, offer, offer_patch, started

OWN = HILLHOLD_GROUP


def with_newer(*, patched: bool = False, self_test: SelfTest | None = None) -> Bench:
    bench = installed(self_test=self_test)
    new = offer(bench.repo, "1.1.0", 2)
    if patched:
        offer_patch(bench.repo, "1.1.0", image("1.0.0"), new)
    bench.repo.publish()
    return bench


def watched(bench: Bench, conversation: Conversation[T]) -> tuple[T, list[Request]]:
    """Carry a conversation; return its result and every request."""
    requests: list[Request] = []

    def watching() -> Conversation[T]:
        plain = one_at_a_time(conversation)
        try:
            step = next(plain)
            while True:
                if isinstance(step, Request):
                    requests.append(step)
                step = plain.send((yield step))
        except StopIteration as end:
            result: T = end.value
            return result

    return bench.run(watching()), requests


def files_sent(requests: list[Request]) -> list[object]:
    return [one.body["f"] for one in requests if (one.group, one.command) == (OWN, METADATA) and "n" in one.body]


def bytes_sent(requests: list[Request]) -> int:
    total = 0
    for one in requests:
        data = one.body.get("data")
        total += len(data) if isinstance(data, bytes) else 0
    return total


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_the_whole_way_on_a_fresh_board() -> None:
    bench = Bench(started())
    pushed, requests = watched(bench, bench.courier().push())
    assert (pushed.installed, pushed.how, pushed.sent) == ("pump/1.0.0/app.bin", "image", len(image("1.0.0")))
    assert pushed.status["trial"] is False
    assert files_sent(requests) == [1, 2, 3, 4]
    assert bytes_sent(requests) == len(image("1.0.0"))
    assert bench.facts_after_reset().running == "1.0.0"


def test_nothing_new_is_one_look() -> None:
    bench = installed()
    pushed, requests = watched(bench, bench.courier().push())
    assert pushed.installed is None
    assert pushed.reasons == (("pump/1.0.0/app.bin", "installed", "this is the confirmed image"),)
    assert files_sent(requests) == []
    assert len(requests) == 5


def test_only_the_files_that_the_board_lacks() -> None:
    bench = with_newer()
    _, requests = watched(bench, bench.courier().push())
    assert files_sent(requests) == [1, 2, 4]
    bench.repo.publish("timestamp")
    _, requests = watched(bench, bench.courier().push())
    assert files_sent(requests) == [1]


def test_every_root_in_turn() -> None:
    bench = with_newer()
    for _ in range(3):
        bench.repo.rotate("timestamp")
    _, requests = watched(bench, bench.courier().push())
    assert files_sent(requests) == [0, 0, 0, 1, 2, 3, 4]
    assert bench.held().versions["root"] == 4


def test_a_board_that_holds_files_of_which_the_repository_knows_nothing_gets_whole_ones() -> None:
    bench = installed()
    repo = copy.deepcopy(bench.repo)
    offer(bench.repo, "1.0.5", 1)
    bench.repo.publish("targets", "line", "snapshot", "timestamp")
    bench.check()
    offer(repo, "1.1.0", 2)
    for _ in range(3):
        repo.publish("targets", "line", "snapshot", "timestamp")
    assert bench.push(repo.tree).installed == "pump/1.1.0/app.bin"


def test_the_buffer_of_the_board_bounds_every_request() -> None:
    bench = with_newer()
    conversation = one_at_a_time(bench.courier().push(reset=False))
    step, longest = next(conversation), 0
    while isinstance(step, Request):
        answer = dict(bench.ask(step.op, step.group, step.command, step.body))
        if step.group == Group.OS:
            answer["buf_size"] = 300
        longest = max(longest, sum(len(value) for value in step.body.values() if isinstance(value, bytes)))
        try:
            step = conversation.send(answer)
        except StopIteration:
            break
    assert 200 < longest < 300
    assert bench.facts().mark == sha256(image("1.1.0", 2)).digest()


def test_a_patch_where_it_is_smaller() -> None:
    bench = with_newer(patched=True)
    pushed, requests = watched(bench, bench.courier().push())
    assert (pushed.how, pushed.sent) == ("patch", bytes_sent(requests))
    assert pushed.sent < 500
    assert bench.facts_after_reset().running == "1.1.0"


def test_no_patch_where_none_is_wanted_or_it_is_larger_or_of_another_kind() -> None:
    bench = with_newer(patched=True)
    assert bench.push(patches=False).how == "image"
    bench = with_newer()
    bench.repo.add_patch("pump/1.1.0/app.bin", image("1.0.0"), bytes(9000), algorithm="hhp2")
    bench.repo.publish()
    assert bench.push().how == "image"
    bench = with_newer()
    bench.repo.add_patch("pump/1.1.0/app.bin", image("1.0.0"), b"small", algorithm="zip")
    bench.repo.publish()
    assert bench.push().how == "image"


def test_where_patch_and_image_do_not_fit_together_the_image_goes() -> None:
    bench = installed()
    data = image("1.1.0", 2, length=SLOT_SIZE - 1000)
    offer(bench.repo, "1.1.0", 2, data=data)
    offer_patch(bench.repo, "1.1.0", image("1.0.0"), data)
    bench.repo.publish()
    steps: list[Progress] = []
    pushed = bench.run(Courier(TreeSource(bench.repo.tree), steps.append).push())
    assert (pushed.how, pushed.sent) == ("image", len(data))
    assert any(step.step.startswith("patch refused (slot for image and patch: expected at least") for step in steps)
    assert bench.facts_after_reset().running == "1.1.0"


def test_progress_in_words_and_bytes() -> None:
    bench = with_newer()
    steps: list[Progress] = []
    bench.run(Courier(TreeSource(bench.repo.tree), steps.append).push())
    assert steps[0].step == "board serial-1: pump on nrf-a"
    transfers = [step for step in steps if step.total]
    assert [step.done for step in transfers] == sorted({step.done for step in transfers})
    assert (transfers[-1].done, transfers[-1].total) == (5188, 5188)
    assert steps[-1].step == "reset, trial boot"


# --- going on ---------------------------------------------------------------------------------------------------------


def test_what_was_written_before_a_cut_is_not_sent_again() -> None:
    bench = with_newer()
    courier = bench.courier()
    bench.check()
    bench.flash.power_cut = CutAt(bench.flash.operations + 24, Cut.BEFORE)
    with pytest.raises(BoardSilent):
        bench.run(courier.push())
    bench.power_cycle()
    assert bench.stored().transfer is not None
    pushed, requests = watched(bench, courier.push())
    assert files_sent(requests) == []
    assert len(image("1.1.0", 2)) - 4096 <= bytes_sent(requests) < len(image("1.1.0", 2))
    assert pushed.installed == "pump/1.1.0/app.bin"
    assert bench.facts_after_reset().running == "1.1.0"


@pytest.mark.parametrize("patched", [False, True])
def test_what_is_there_whole_is_not_sent_again(patched: bool) -> None:
    bench = with_newer(patched=patched)
    bench.push(reset=False)
    pushed, requests = watched(bench, bench.courier().push())
    assert bytes_sent(requests) == 0
    assert pushed.installed == "pump/1.1.0/app.bin"
    assert bench.facts_after_reset().running == "1.1.0"


def test_without_a_reset_the_image_stays_marked() -> None:
    bench = with_newer()
    pushed = bench.push(reset=False)
    assert (pushed.status["marked"], pushed.status["trial"]) == ("1.1.0", False)
    assert bench.facts().running == "1.0.0"


# --- how it ends ------------------------------------------------------------------------------------------------------


def test_a_trial_that_fails_is_reported_by_what_runs_then() -> None:
    bench = with_newer(self_test=FAILING)
    pushed = bench.push()
    running = pushed.status["running"]
    assert isinstance(running, list)
    assert (pushed.installed, running[0], pushed.status["failed"]) == ("pump/1.1.0/app.bin", "1.0.0", 1)


def test_a_trial_that_takes_long_is_left_to_itself() -> None:
    bench = with_newer(self_test=MANUAL)
    pushed, requests = watched(bench, bench.courier().push())
    assert pushed.status["trial"] is True
    assert sum((one.group, one.command) == (OWN, STATUS) for one in requests) == RESET_POLLS
    offer(bench.repo, "1.2.0", 2)
    bench.repo.publish()
    with pytest.raises(BoardRefused, match="only way back") as caught:
        bench.push()
    assert caught.value.board_code == SlotError.code


def test_an_image_that_waits_for_its_confirmation_is_confirmed_from_the_wire() -> None:
    bench = with_newer(self_test=SelfTest(seconds=2, confirms=False))
    pushed = bench.push()
    assert (pushed.status["trial"], pushed.status["self_tested"]) == (True, True)
    status = bench.run(confirm_running())
    assert (status["trial"], status["counter"]) == (False, 2)
    assert bench.facts_after_reset().running == "1.1.0"


def test_a_confirmation_that_is_refused_is_refused_in_the_boards_words() -> None:
    bench = with_newer(self_test=MANUAL)
    bench.push()
    with pytest.raises(BoardRefused, match="the image's own test to have passed, got not yet") as caught:
        bench.run(confirm_running())
    assert caught.value.board_code == ConfirmError.code
    assert bench.facts_after_reset().trial


def test_status_and_identity() -> None:
    bench = installed()
    identity, status = bench.run(read_status())
    assert (identity["id"], status["counter"]) == ("serial-1", 1)


# --- sources and boards that are not as they should be ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["1.root.json", "timestamp.json", "2.snapshot.json", "1.targets.json", "2.pump.json"])
def test_a_source_that_lacks_a_file(name: str) -> None:
    bench = with_newer()
    tree = {path: data for path, data in bench.repo.tree.items() if path != f"metadata/{name}"}
    before = bench.facts()
    with pytest.raises(OperationalError, match=f"lacks {name}"):
        bench.push(tree)
    assert bench.facts_after_reset() == before


@pytest.mark.parametrize("name", ["timestamp.json", "2.snapshot.json"])
def test_a_source_whose_file_is_none(name: str) -> None:
    bench = with_newer()
    with pytest.raises(MetadataError):
        bench.push({**bench.repo.tree, f"metadata/{name}": b"<html>404</html>"})


@pytest.mark.parametrize("keep", [0, 1, 3000])
def test_a_target_that_is_too_short_or_missing(keep: int) -> None:
    bench = with_newer()
    data = image("1.1.0", 2)
    name = next(name for name, blob in bench.repo.tree.items() if blob == data)
    with pytest.raises(OperationalError, match=f"{keep} bytes, not the {len(data)}"):
        bench.push({**bench.repo.tree, name: data[:keep]})
    with pytest.raises(OperationalError, match="missing"):
        bench.push({path: blob for path, blob in bench.repo.tree.items() if path != name})
    assert bench.facts_after_reset().running == "1.0.0"
    assert bench.push().installed == "pump/1.1.0/app.bin"


def test_of_a_target_that_is_too_long_no_more_is_sent_than_was_signed() -> None:
    bench = with_newer()
    data = image("1.1.0", 2)
    name = next(name for name, blob in bench.repo.tree.items() if blob == data)
    assert bench.push({**bench.repo.tree, name: data + b"more" * 300}).installed == "pump/1.1.0/app.bin"
    assert bench.facts_after_reset().running == "1.1.0"


def lying(bench: Bench, lie: Callable[[Request, Body], Body], conversation: Conversation[T]) -> T:
    """Carry a conversation with a board whose answers are changed on the way."""
    plain = one_at_a_time(conversation)
    step = next(plain)
    for _ in range(500):
        if isinstance(step, Pause):
            bench.wait(step.seconds)
            answer: Body = {}
        else:
            answer = lie(step, bench.ask(step.op, step.group, step.command, step.body))
        try:
            step = plain.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
    raise AssertionError("the courier goes on for ever")


def at(group: int, command: int, **changed: object) -> Callable[[Request, Body], Body]:
    def lie(request: Request, answer: Body) -> Body:
        if (request.group, request.command) != (group, command):
            return answer
        if plan := plan_of(answer):
            return {**answer, "plan": [{**plan[0], **changed}]}
        return {**answer, **changed}

    return lie


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (at(OWN, IDENTIFY, magic="other"), "a stock board: it has SMP, and not Hillhold's group"),
        (at(OWN, IDENTIFY, v=2), "speaks version 2 of the protocol, not 1"),
        (at(Group.IMAGE, ImageCommand.STATE, images=[]), "lists no image to test"),
        (at(Group.IMAGE, ImageCommand.STATE, images="none"), "lists no image to test"),
        (at(Group.IMAGE, ImageCommand.UPLOAD, off=0), "took no more of image pump/1.1.0/app.bin"),
        (at(OWN, 1, r=7), "lacks 7.root.json"),
    ],
)
def test_a_board_that_is_not_ours_or_out_of_its_mind(lie: Callable[[Request, Body], Body], words: str) -> None:
    bench = with_newer()
    with pytest.raises(OperationalError, match=words):
        lying(bench, lie, bench.courier().push())
    assert MAX_SETBACKS < 100


@pytest.mark.parametrize(
    "lie",
    [
        at(Group.OS, OsCommand.MCUMGR_PARAMETERS, buf_size=0),
        at(OWN, 3, base=b""),
        at(OWN, 3, base="text"),
        at(OWN, IDENTIFY, alg=[]),
        at(OWN, IDENTIFY, alg=None),
    ],
)
def test_an_answer_that_is_odd_and_harmless(lie: Callable[[Request, Body], Body]) -> None:
    bench = with_newer(patched=True)
    assert lying(bench, lie, bench.courier().push()).installed == "pump/1.1.0/app.bin"


@pytest.mark.parametrize("value", [-1, "text", None, True, 1.5, [], 2**70])
@pytest.mark.parametrize(
    ("group", "command", "name"), [(OWN, 1, "r"), (OWN, 3, "len"), (Group.IMAGE, 1, "off"), (OWN, 3, "sha")]
)
def test_an_answer_of_another_shape_is_an_error_with_a_name(group: int, command: int, name: str, value: object) -> None:
    bench = with_newer()
    with pytest.raises(HillholdError):
        lying(bench, at(group, command, **{name: value}), bench.courier().push())


@pytest.mark.parametrize(
    "held",
    [
        "nothing",
        [],
        [[0, b""]] * 4,
        [[0]] * 4,
        [0, 1, 2, 3],
        [[0, b"", 1]] * 4,
        [None] * 4,
        [["a", b""]] * 4,
        [[1, "x"]] * 4,
        [[{}, b"1234"]] * 4,
        [[1, b"1234"]] * 5,
    ],
    ids=str,
)
def test_a_list_of_held_files_that_is_wrong_or_none(held: object) -> None:
    bench = with_newer()
    with suppress(HillholdError):
        lying(bench, at(OWN, 1, h=held), bench.courier().push())
    assert bench.facts_after_reset().running in ("1.0.0", "1.1.0")
    bench.push()
    assert bench.facts_after_reset().running == "1.1.0"


def test_a_buffer_that_is_larger_than_the_boards_ends_in_silence() -> None:
    bench = with_newer()
    with pytest.raises(BoardSilent):
        lying(bench, at(Group.OS, OsCommand.MCUMGR_PARAMETERS, buf_size=10**9), bench.courier().push())
    assert bench.facts_after_reset().running == "1.0.0"


def test_reasons_of_any_shape() -> None:
    good = ("pump/1.0.0/app.bin", "refused", "because")
    assert reasons_of({"reasons": [list(good), ["short"], "text", 3]}) == (good,)
    assert reasons_of({}) == reasons_of({"reasons": "text"}) == ()


def test_the_digest_of_what_is_fetched_is_that_of_the_choice() -> None:
    bench = with_newer()
    asked: list[tuple[str, bytes]] = []

    class Source(TreeSource):
        def target(self, path: str, sha256: bytes):  # type: ignore[no-untyped-def]
            asked.append((path, sha256))
            return super().target(path, sha256)

    bench.run(Courier(Source(bench.repo.tree)).push())
    assert asked == [("pump/1.1.0/app.bin", sha256(image("1.1.0", 2)).digest())]


@pytest.mark.parametrize("length", [2**32 + 1, 2**63, 2**64 - 1])
def test_a_length_beyond_all_files_is_refused_before_any_is_read(length: int) -> None:
    """A board that then asks for an offset of more than 63 bits would have the courier end in an error of its file."""
    bench = with_newer()

    def lie(request: Request, answer: Body) -> Body:
        if (request.group, request.command) == (OWN, CHOOSE):
            return {"plan": [{**entry, "len": length} for entry in plan_of(answer)]}
        return {"off": 2**63} if request.command == ImageCommand.UPLOAD and request.group == Group.IMAGE else answer

    with pytest.raises(SmpError, match=r"length of pump/1\.1\.0/app\.bin"):
        lying(bench, lie, bench.courier().push(patches=False))
