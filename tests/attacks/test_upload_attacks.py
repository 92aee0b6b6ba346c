"""What someone on the serial line can do with uploads: nothing comes into the other slot, or is tried, but what the device chose.

As for the repository's files, each test holds afterwards, through a reset, that nothing has changed but what may.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest

from bench import Bench, unchanged
from hillhold_verifier.answers import Body
from hillhold_verifier.errors import (
    MissingError,
    TransferError,
)
from hillhold_verifier.smp import (
    Group,
    ImgMgmtErr,
    MgmtErr,
    Op,
    OsCommand,
)
from offers import image, offer, started
from stocktool import STATE, UPLOAD, image_hash, is_error, upload, with_newer

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


def test_an_upload_over_the_image_that_waits_for_its_trial_takes_its_mark_first() -> None:
    """A newer release was chosen since. The power goes with its first bytes: nothing is tried that is half of each."""
    bench, data = with_newer()
    upload(bench, data)
    bench.image(STATE, {"hash": image_hash(data), "confirm": False})
    assert bench.facts().mark is not None
    newer = offer(bench.repo, "1.2.0", 2)
    bench.repo.publish()
    bench.check()
    assert bench.image(UPLOAD, {"off": 0, "len": len(newer), "data": newer[:700]}) == {"off": 700}
    facts = bench.facts_after_reset()
    assert (facts.running, facts.mark, facts.trial) == ("1.0.0", None, False)
    assert bench.push().installed == "pump/1.2.0/app.bin"
