"""What someone on the serial line can do with stock messages and with ours: each is refused, and the right image runs on.

As for the repository's files, each test holds afterwards, through a reset, that nothing has changed but what may.
"""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from hashlib import sha256

import pytest

from bench import CLOCK, LAYOUT, MANUAL, SWAPPING, Bench, blind, installed, unchanged
from forge import DAY
from hillhold_bootsim.application import SelfTest, Verdict
from hillhold_bootsim.layout import Layout
from hillhold_verifier.agent import APPLY, CHOOSE, METADATA
from hillhold_verifier.answers import BoardRefused, Body
from hillhold_verifier.errors import (
    ConfirmError,
    MissingError,
    OrderError,
    SlotError,
    TransferError,
    UnprovisionedError,
    WireError,
)
from hillhold_verifier.mcuboot import parse_image
from hillhold_verifier.metadata import max_bytes
from hillhold_verifier.smp import (
    HILLHOLD_GROUP,
    Group,
    ImageCommand,
    ImgMgmtErr,
    Message,
    MgmtErr,
    Op,
    OsCommand,
    encode,
)
from hillhold_verifier.smp_console import encode_console
from hillhold_verifier.wire import base_name, deflate
from offers import image, offer, started

STATE, UPLOAD, ERASE = ImageCommand.STATE, ImageCommand.UPLOAD, ImageCommand.ERASE


def is_error(answer: Body) -> bool:
    return "err" in answer or bool(answer.get("rc"))


def image_hash(data: bytes) -> bytes:
    """The hash by which stock tools name an image."""
    return parse_image(data).sha256


def upload(bench: Bench, data: bytes, *, start: int = 0, piece: int = 700, digest: bytes | None = None) -> Body:
    """Upload as a stock tool does, by default with the whole hash; return the last answer."""
    answer: Body = {}
    for at in range(start, len(data), piece):
        body: dict[str, object] = {"off": at, "data": data[at : at + piece]}
        if at == 0:
            body |= {"image": 0, "len": len(data), "sha": sha256(data).digest() if digest is None else digest}
        answer = bench.image(UPLOAD, body)
        if is_error(answer):
            break
    return answer


def with_newer(self_test: SelfTest | None = None) -> tuple[Bench, bytes]:
    """A board that runs 1.0.0 and has chosen 1.1.0; the new image."""
    bench = installed(self_test=self_test)
    data = offer(bench.repo, "1.1.0", 2)
    bench.repo.publish()
    assert bench.chosen()["path"] == "pump/1.1.0/app.bin"
    return bench, data


def on_trial() -> tuple[Bench, bytes]:
    """A board that runs 1.1.0 on trial; its own test has not passed."""
    bench, data = with_newer(MANUAL)
    assert bench.push().status["trial"] is True
    facts = bench.facts()
    assert (facts.running, facts.confirmed, facts.trial, facts.counter) == ("1.1.0", 0, True, 1)
    return bench, data


# --- upload -----------------------------------------------------------------------------------------------------------


def test_the_legitimate_way_with_stock_messages_alone() -> None:
    """After the metadata, a stock tool may do the rest."""
    bench, data = with_newer()
    assert upload(bench, data) == {"off": len(data), "match": True}
    answer = bench.image(STATE, {"hash": image_hash(data), "confirm": False})
    assert [(one["version"], one["pending"]) for one in answer["images"]] == [("1.0.0", False), ("1.1.0", True)]  # type: ignore[attr-defined]
    bench.ask(Op.WRITE, Group.OS, OsCommand.RESET)
    assert bench.facts().trial
    bench.wait(1)
    assert bench.facts_after_reset().running == "1.1.0"


def test_an_upload_without_metadata() -> None:
    bench = Bench(started())
    with unchanged(bench):
        assert upload(bench, image("1.0.0"))["err"] == {"group": 1, "rc": ImgMgmtErr.INVALID_HASH}
        assert bench.status()["code"] == MissingError.code
    assert bench.push().installed == "pump/1.0.0/app.bin"


@pytest.mark.parametrize("start", [0, 3])
def test_an_upload_without_metadata_that_states_little_or_nothing_of_its_hash(start: int) -> None:
    bench = Bench(started())
    data = image("1.0.0")
    with unchanged(bench):
        answer = upload(bench, data, digest=sha256(data).digest()[:start])
        assert answer["err"] == {"group": 1, "rc": ImgMgmtErr.INVALID_HASH}
        assert bench.status()["code"] == MissingError.code


@pytest.mark.parametrize("start", [0, 1, 3, 31])
def test_an_upload_of_another_image_that_states_little_or_nothing_of_its_hash(start: int) -> None:
    """What it states may be that of the chosen image, which is known to everybody; the content is judged by the whole."""
    bench, data = with_newer()
    other = image("9.9.9", 50)
    with unchanged(bench):
        if start:
            assert is_error(upload(bench, other, digest=sha256(other).digest()[:start]))
        assert is_error(upload(bench, other + b"x", digest=sha256(data).digest()[:start]))
    forged = other[: len(data)].ljust(len(data), b"x")
    with unchanged(bench, moved=lambda facts: replace(facts, slots=bench.facts().slots)):
        answer = upload(bench, forged, digest=sha256(data).digest()[:start])
        assert answer["err"] == {"group": 1, "rc": ImgMgmtErr.INVALID_HASH}
        assert "image hash" in bench.refusal()
        assert is_error(bench.image(STATE, {"hash": image_hash(other)}))
    assert bench.push().installed == "pump/1.1.0/app.bin"


def test_an_upload_that_goes_on_without_a_hash_with_other_content() -> None:
    """The first half by who knew the hash, the second by whoever came then: both halves are judged as one."""
    bench, data = with_newer()
    other = image("9.9.9", 50)
    bench.image(UPLOAD, {"off": 0, "len": len(data), "sha": sha256(data).digest(), "data": data[:700]})
    with unchanged(bench, moved=lambda facts: replace(facts, slots=bench.facts().slots)):
        assert bench.image(UPLOAD, {"off": 0, "len": len(data), "data": other[:700]}) == {"off": 700}
        answer = upload(bench, other[: len(data)], start=700)
        assert is_error(answer)
        assert "image hash" in bench.refusal()
        assert bench.image(UPLOAD, {"off": 0, "len": len(data), "data": b""}) == {"off": 0}, "from zero"
    assert bench.push().installed == "pump/1.1.0/app.bin"


@pytest.mark.parametrize("version", [0, 1])
def test_an_upload_of_what_the_board_did_not_choose(version: int) -> None:
    bench, _ = with_newer()
    data = image("9.9.9", 50)
    body: Body = {"image": 0, "off": 0, "len": len(data), "sha": sha256(data).digest(), "data": data[:500]}
    with unchanged(bench):
        answer = bench.image(UPLOAD, body, version=version)
        if version:
            assert answer == {"err": {"group": 1, "rc": ImgMgmtErr.INVALID_HASH}}
        else:
            assert answer["rc"] == MgmtErr.EACCESSDENIED
            assert "which this device chose" in str(answer["rsn"])
        assert bench.status()["code"] == TransferError.code


@pytest.mark.parametrize(
    "change",
    [
        {"sha": b"\0"},
        {"sha": b"\0" * 32},
        {"sha": b"\0" * 33},
        {"sha": "text"},
        {"len": None},
        {"len": -1},
        {"len": 5187},
        {"len": 5189},
        {"len": 2**63},
        {"len": True},
        {"image": -1},
        {"image": "0"},
        {"data": "text"},
        {"data": None},
        {"off": -1},
        {"off": None},
        {"off": "0"},
    ],
    ids=str,
)
def test_an_upload_whose_first_piece_is_not_in_order(change: dict[str, object]) -> None:
    bench, data = with_newer()
    body: dict[str, object] = {"image": 0, "off": 0, "len": len(data), "sha": sha256(data).digest(), "data": data[:500]}
    body = {name: value for name, value in (body | change).items() if value is not None}
    with unchanged(bench):
        assert is_error(bench.image(UPLOAD, body))


def test_an_upload_that_begins_in_the_middle_writes_nothing() -> None:
    bench, data = with_newer()
    with unchanged(bench):
        assert bench.image(UPLOAD, {"off": 700, "data": data[700:1400]}) == {"off": 0}
        assert bench.image(UPLOAD, {"off": 2**62, "data": data[:10]}) == {"off": 0}


def test_an_upload_that_is_longer_than_announced() -> None:
    bench, data = with_newer()
    with unchanged(bench, moved=lambda facts: replace(facts, slots=bench.facts().slots)):
        assert bench.image(
            UPLOAD, {"image": 0, "off": 0, "len": len(data), "sha": sha256(data).digest(), "data": data[:700]}
        ) == {"off": 700}
        for at in range(700, 4900, 700):
            assert bench.image(UPLOAD, {"off": at, "data": data[at : at + 700]}) == {"off": at + 700}
        assert is_error(bench.image(UPLOAD, {"off": 4900, "data": data[4900:] + b"more"}))
        assert bench.status()["code"] == TransferError.code
    assert bench.push().installed == "pump/1.1.0/app.bin"


def test_an_upload_of_other_content_under_an_authorised_hash() -> None:
    bench, data = with_newer()
    with unchanged(bench, moved=lambda facts: replace(facts, slots=bench.facts().slots)):
        answer = upload(bench, image("9.9.9", 50)[: len(data)], digest=sha256(data).digest())
        assert answer["err"] == {"group": 1, "rc": ImgMgmtErr.INVALID_HASH}
        assert "image hash" in bench.refusal()
        assert is_error(bench.image(STATE, {"hash": image_hash(image("9.9.9", 50)), "confirm": False}))
    assert bench.push().installed == "pump/1.1.0/app.bin"


def test_an_upload_that_is_interrupted_and_goes_on_with_other_content() -> None:
    bench, data = with_newer()
    bench.image(UPLOAD, {"image": 0, "off": 0, "len": len(data), "sha": sha256(data).digest(), "data": data[:700]})
    for at in range(700, 3500, 700):
        bench.image(UPLOAD, {"off": at, "data": data[at : at + 700]})
    bench.power_cycle()
    other = image("9.9.9", 50)
    with unchanged(bench, moved=lambda facts: replace(facts, slots=bench.facts().slots)):
        first: Body = {"image": 0, "off": 0, "len": len(data), "sha": sha256(data).digest(), "data": b""}
        offset = bench.image(UPLOAD, first)["off"]
        assert offset == 2048
        answer: Body = {}
        for at in range(2048, len(data), 700):
            answer = bench.image(UPLOAD, {"off": at, "data": other[at : min(at + 700, len(data))]})
        assert is_error(answer)
        assert "image hash" in bench.refusal()
        assert bench.image(UPLOAD, first) == {"off": 0}, "from zero"
    assert bench.push().installed == "pump/1.1.0/app.bin"


def test_an_older_image_that_is_uploaded_again() -> None:
    bench, _ = with_newer()
    bench.push()
    with unchanged(bench):
        assert is_error(upload(bench, image("1.0.0")))
        assert "nothing: no release may be installed" in bench.refusal()


# --- test, confirm, erase ---------------------------------------------------------------------------------------------


def test_a_step_back_to_the_image_that_was_confirmed_before() -> None:
    """The other slot still holds 1.0.0, whole and signed; a stock tool asks for it."""
    bench, _ = with_newer()
    bench.push()
    with unchanged(bench):
        assert is_error(bench.image(STATE, {"hash": image_hash(image("1.0.0")), "confirm": False}))
        assert is_error(bench.image(STATE, {"hash": image_hash(image("1.0.0")), "confirm": True}))


def test_testing_what_runs_or_nothing_or_something_else() -> None:
    bench, data = with_newer()
    with unchanged(bench):
        for digest in (image_hash(image("1.0.0")), image_hash(data), b"", b"\0" * 32, sha256(data).digest()):
            assert is_error(bench.image(STATE, {"hash": digest, "confirm": False}))
        assert is_error(bench.image(STATE, {}))
        assert is_error(bench.image(STATE, {"hash": "text"}))


def test_marking_is_refused_once_the_metadata_has_expired() -> None:
    bench, data = with_newer()
    upload(bench, data)
    bench.clock = CLOCK + 8 * DAY
    with unchanged(bench):
        assert is_error(bench.image(STATE, {"hash": image_hash(data), "confirm": False}))
        assert "timestamp metadata" in bench.refusal()


def test_confirming_before_the_image_has_tested_itself() -> None:
    bench, data = on_trial()
    with unchanged(bench):
        for body in ({"confirm": True}, {"confirm": True, "hash": image_hash(data)}):
            answer = bench.image(STATE, body)
            assert answer["err"] == {"group": 1, "rc": ImgMgmtErr.IMAGE_CONFIRMATION_DENIED}
            assert bench.status()["code"] == ConfirmError.code
        assert bench.image(STATE, {"confirm": True}, version=0)["rc"] == MgmtErr.EBADSTATE


def test_confirming_from_the_wire_after_its_test_and_only_what_runs() -> None:
    bench, data = with_newer(SelfTest(seconds=5, confirms=False))
    bench.push()
    bench.wait(10)
    assert bench.status()["self_tested"] is True
    assert is_error(bench.image(STATE, {"confirm": True, "hash": image_hash(image("1.0.0"))}))
    assert (bench.facts().trial, bench.facts().counter) == (True, 1)
    assert not is_error(bench.image(STATE, {"confirm": True, "hash": image_hash(data)}))
    facts = bench.facts_after_reset()
    assert (facts.running, facts.trial, facts.counter) == ("1.1.0", False, 2)


def test_confirming_what_never_ran() -> None:
    bench, data = with_newer()
    upload(bench, data)
    with unchanged(bench):
        assert is_error(bench.image(STATE, {"confirm": True, "hash": image_hash(data)}))
        assert not is_error(bench.image(STATE, {"confirm": True})), "what runs is confirmed already"


def test_the_way_back_during_a_trial() -> None:
    bench, data = on_trial()
    third = offer(bench.repo, "1.2.0", 2)
    bench.repo.publish()
    bench.check()
    with unchanged(bench):
        for command, body in (
            (ERASE, {}),
            (ERASE, {"slot": 0}),
            (ERASE, {"slot": 1}),
            (UPLOAD, {"image": 0, "off": 0, "len": len(third), "sha": sha256(third).digest(), "data": third[:99]}),
            (UPLOAD, {"image": 0, "off": 0, "len": len(data), "sha": sha256(data).digest(), "data": data[:99]}),
            (UPLOAD, {"image": 0, "off": 0, "len": len(data), "sha": sha256(data).digest()[:3], "data": data[:99]}),
            (UPLOAD, {"image": 0, "off": 0, "len": len(third), "data": third[:99]}),
            (STATE, {"hash": image_hash(image("1.0.0")), "confirm": False}),
        ):
            called = ImgMgmtErr.IMAGE_ALREADY_PENDING if command is STATE else ImgMgmtErr.NO_FREE_SLOT
            assert bench.image(command, body)["err"] == {"group": 1, "rc": called}
            assert bench.status()["code"] == SlotError.code
        assert bench.own(Op.WRITE, APPLY)["err"] == {"group": HILLHOLD_GROUP, "rc": SlotError.code}
    bench.board.self_test = SelfTest(default=Verdict.FAIL)
    bench.power_cycle()
    bench.wait(1)
    assert bench.facts_after_reset().running == "1.0.0", "the way back was there when it was needed"


def test_a_downgrade_through_a_trial() -> None:
    """While 1.1.0 is on trial its counter is not yet the device's: nothing may be put in its place meanwhile, nor after."""
    bench, _ = on_trial()
    older = offer(bench.repo, "1.0.5", 1)
    bench.repo.publish()
    with unchanged(bench):
        with pytest.raises(BoardRefused):
            bench.push()
        assert is_error(upload(bench, older))
    bench.board.self_test = SelfTest()
    bench.power_cycle()
    bench.wait(1)
    assert bench.facts().counter == 2
    with unchanged(bench):
        assert bench.push().installed is None
        assert is_error(upload(bench, older))


def test_erasing_outside_a_trial_takes_only_what_does_not_run() -> None:
    bench, data = with_newer()
    upload(bench, data)
    assert bench.image(ERASE) == {}
    facts = bench.facts_after_reset()
    assert (facts.running, facts.mark, facts.trial) == ("1.0.0", None, False)
    assert bench.push().installed == "pump/1.1.0/app.bin"


@pytest.mark.parametrize("layout", [LAYOUT, SWAPPING], ids=["remap", "swap"])
def test_erasing_the_slot_that_runs(layout: Layout) -> None:
    """Whichever slot that is for the device: the first image runs from slot 0, the next one from slot 1."""
    repo = started()
    bench = installed(repo, layout)
    for version in ("1.1.0", "1.2.0"):
        with unchanged(bench):
            for slot in (0, 2, 3, 2**32):
                assert is_error(bench.image(ERASE, {"slot": slot}))
            assert bench.image(ERASE, {"slot": 0})["err"] == {"group": 1, "rc": ImgMgmtErr.NO_FREE_SLOT}
            assert bench.image(ERASE, {"slot": 0}, version=0)["rc"] == MgmtErr.EBADSTATE
        offer(repo, version, 2)
        repo.publish()
        assert bench.push().installed


def test_erasing_the_image_that_waits_for_its_trial() -> None:
    bench, data = with_newer()
    upload(bench, data)
    bench.image(STATE, {"hash": image_hash(data), "confirm": False})
    before = bench.facts()
    for body in ({}, {"slot": 1}, {"slot": 0}):
        assert bench.image(ERASE, body)["err"] == {"group": 1, "rc": ImgMgmtErr.NO_FREE_SLOT}
    assert bench.facts() == before
    assert before.mark is not None


def test_confirming_the_image_that_waits_for_its_trial() -> None:
    """Neither it nor, as a stock tool might mean it, "whatever": nothing is confirmed that did not run."""
    bench, data = with_newer(MANUAL)
    upload(bench, data)
    bench.image(STATE, {"hash": image_hash(data), "confirm": False})
    before = bench.facts()
    pending, denied = ImgMgmtErr.IMAGE_ALREADY_PENDING, ImgMgmtErr.IMAGE_CONFIRMATION_DENIED
    assert bench.image(STATE, {"confirm": True})["err"] == {"group": 1, "rc": pending}
    assert bench.image(STATE, {"confirm": True, "hash": image_hash(data)})["err"] == {"group": 1, "rc": denied}
    assert bench.facts() == before
    assert bench.facts_after_reset().trial


def test_stock_messages_in_the_middle_of_a_trial() -> None:
    """Erase, confirm and test of either image, an upload, our own group out of order: the trial goes on as if nothing had been."""
    bench, data = on_trial()
    old = image("1.0.0")
    with unchanged(bench):
        for command, body in (
            (STATE, {"confirm": True}),
            (STATE, {"confirm": True, "hash": image_hash(old)}),
            (STATE, {"confirm": True, "hash": image_hash(data)}),
            (STATE, {"hash": image_hash(data)}),
            (STATE, {"hash": image_hash(old)}),
            (ERASE, {}),
            (ERASE, {"slot": 0}),
            (ERASE, {"slot": 1}),
            (UPLOAD, {"off": 0, "len": len(data), "data": data[:99]}),
            (UPLOAD, {"off": 0, "len": len(old), "data": old[:99]}),
        ):
            assert is_error(bench.image(command, body)), (command, body)
        assert bench.image(UPLOAD, {"off": 700, "data": data[700:800]}) == {"off": 0}
        assert bench.own(Op.WRITE, APPLY)["err"] == {"group": HILLHOLD_GROUP, "rc": SlotError.code}
        assert bench.own(Op.WRITE, METADATA, {"f": 2, "o": 5, "d": b"x"})["err"]
        assert bench.own(Op.WRITE, CHOOSE) == {"rc": MgmtErr.ENOTSUP}
    bench.board.self_test = SelfTest()
    bench.power_cycle()
    bench.wait(1)
    assert bench.facts_after_reset().running == "1.1.0"


def test_setting_the_date() -> None:
    """A date in the past would bring expired metadata back to life, one in the future lock updates out."""
    bench, data = with_newer()
    upload(bench, data)
    bench.clock = CLOCK + 8 * DAY
    with unchanged(bench):
        for text in ("2000-01-01T00:00:00", "2099-01-01T00:00:00", "now", ""):
            answer = bench.ask(Op.WRITE, Group.OS, OsCommand.DATETIME_STRING, {"datetime": text})
            assert answer["rc"] == MgmtErr.EACCESSDENIED
        assert is_error(bench.image(STATE, {"hash": image_hash(data), "confirm": False}))
        assert "timestamp metadata" in bench.refusal()


def test_a_failed_image_is_not_offered_again() -> None:
    bench, data = with_newer(SelfTest(default=Verdict.FAIL))
    bench.push()
    facts = bench.facts()
    assert (facts.running, facts.trial, facts.failed_here) == ("1.0.0", False, (sha256(data).digest(),))
    with unchanged(bench):
        assert bench.push().reasons[0][2] == "its trial failed on this device before"
        assert is_error(upload(bench, data))
        assert is_error(bench.image(STATE, {"hash": image_hash(data), "confirm": False}))


def test_a_hanging_image_is_ended_by_the_watchdog() -> None:
    bench, data = with_newer()
    bench.board.self_test = SelfTest(default=Verdict.HANG, watchdog_seconds=8)
    bench.push(reset=False)
    bench.ask(Op.WRITE, Group.OS, OsCommand.RESET)
    assert bench.facts().running == "1.1.0"
    assert bench.feed(encode_console(encode(Message(Op.READ, HILLHOLD_GROUP, 0, 0)))) == b"", "it answers nothing"
    bench.wait(0)
    bench.wait(9)
    facts = bench.facts_after_reset()
    assert (facts.running, facts.failed_here) == ("1.0.0", (sha256(data).digest(),))


# --- endless data -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("field", ["n", "l"])
def test_metadata_that_announces_too_much(number: int, field: str) -> None:
    bench, _ = with_newer()
    limit = max_bytes(("root", "timestamp", "snapshot", "targets", "pump")[number])
    with unchanged(bench):
        for length in (limit + 1, 2**32, 2**64 - 1):
            body = {"f": number, "n": 100, "l": 100, "b": base_name(b""), "d": b"", field: length}
            assert bench.own(Op.WRITE, METADATA, body)["err"] == {"group": HILLHOLD_GROUP, "rc": WireError.code}
            answer = bench.own(Op.WRITE, METADATA, {"f": number, "o": 1, "d": b"x"})
            assert answer["err"] == {"group": HILLHOLD_GROUP, "rc": OrderError.code}


def test_metadata_that_goes_on_beyond_its_end() -> None:
    bench, _ = with_newer()
    with unchanged(bench):
        body: Body = {"f": 1, "n": 1000, "l": 1000, "b": base_name(b""), "d": bytes(700)}
        assert bench.own(Op.WRITE, METADATA, body) == {"o": 700}
        answer = bench.own(Op.WRITE, METADATA, {"f": 1, "o": 700, "d": bytes(700)})
        assert answer["err"] == {"group": HILLHOLD_GROUP, "rc": WireError.code}
        answer = bench.own(Op.WRITE, METADATA, {"f": 1, "o": 1400, "d": bytes(700)})
        assert answer["err"] == {"group": HILLHOLD_GROUP, "rc": OrderError.code}


def test_a_few_bytes_that_inflate_to_very_many() -> None:
    bench, _ = with_newer()
    bomb = deflate(bytes(50_000_000), b"")
    piece = bomb[:700]
    with unchanged(bench):
        tracemalloc.start()
        answer = bench.own(
            Op.WRITE, METADATA, {"f": 4, "n": len(piece), "l": 512 * 1024, "b": base_name(b""), "d": piece}
        )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert answer["err"] == {"group": HILLHOLD_GROUP, "rc": WireError.code}
        assert peak < 4 * 1024 * 1024


def test_a_line_role_that_does_not_fit_the_board_leaves_the_old_state() -> None:
    """Signed by the quorum, within the format's limits, and larger than the area for the device's state."""
    bench, _ = with_newer()
    for number in range(100):
        bench.repo.add_release(f"2.0.{number}", b"x", counter=2, notes="n" * 200)
    bench.repo.publish()
    with unchanged(bench):
        with pytest.raises(BoardRefused, match="bytes left free"):
            bench.push()
        with pytest.raises(BoardRefused):
            bench.push()
    for number in range(100):
        bench.repo.entries.pop(f"pump/2.0.{number}/app.bin")
    bench.repo.publish()
    assert bench.push().installed == "pump/1.1.0/app.bin"


@pytest.mark.parametrize("start", [b"", b"\x06\x09", b"\x04\x14", b"\x06\x09" + b"A" * 100 + b"\n\x04\x14"])
def test_a_line_without_an_end(start: bytes) -> None:
    bench, _ = with_newer()
    bench.status()
    with unchanged(bench):
        tracemalloc.start()
        bench.feed(start)
        for _ in range(500):
            assert bench.feed(b"QUJD" * 1000) == b""
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 512 * 1024
        assert bench.feed(b"\n") == b""
        assert bench.status()["running"], "it finds its feet again"


def test_a_message_that_is_longer_than_the_boards_buffer_is_not_taken() -> None:
    bench, _ = with_newer()
    with unchanged(bench):
        frame = encode_console(encode(Message(Op.WRITE, Group.OS, OsCommand.ECHO, 1, {"d": "x" * 1500})))
        assert bench.feed(frame) == b""
        assert bench.ask(Op.WRITE, Group.OS, OsCommand.ECHO, {"d": "x" * 900}) == {"r": "x" * 900}


def test_a_board_whose_state_is_destroyed_says_who_it_is_and_refuses_the_rest() -> None:
    bench, data = with_newer()
    blind(bench, 0)
    blind(bench, 1)
    bench.power_cycle()
    assert bench.board.info is not None
    assert bench.board.info.outcome.booted is not None, "the confirmed image runs on"
    assert bench.whole_image(0) == "1.0.0"
    assert bench.own(Op.READ, 0)["magic"] == "hillhold"
    for command in (1, CHOOSE, 5):
        answer = bench.own(Op.READ, command)
        assert answer["err"] == {"group": HILLHOLD_GROUP, "rc": UnprovisionedError.code}
        assert "readable record" in str(answer["rsn"])
    for command in (METADATA, APPLY):
        assert bench.own(Op.WRITE, command, {"f": 0, "o": 0, "n": 1, "l": 1, "b": b"", "d": b"x"})["err"]
    assert is_error(upload(bench, data))
    assert is_error(bench.image(ERASE))
    assert is_error(bench.image(STATE, {"confirm": True}))
    with pytest.raises(BoardRefused, match="device state"):
        bench.push()
    assert bench.board.info.outcome.booted is not None
