"""What a stock tool asks of group IMAGE, over a bench's line: uploads in pieces; and boards that have chosen a newer image.

bench, data = with_newer()
assert upload(bench, data) == {"off": len(data), "match": True}
"""

from __future__ import annotations

from hashlib import sha256

from bench import MANUAL, Bench, installed
from hillhold_bootsim.application import SelfTest
from hillhold_verifier.answers import Body
from hillhold_verifier.mcuboot import parse_image
from hillhold_verifier.smp import (
    ImageCommand,
)
from offers import offer

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
