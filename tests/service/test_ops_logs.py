"""What a log line holds: what happened, and nothing that anybody could use."""

from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from hillhold_signer.service.logs import MAX_LINE, configure, hide, logger

SECRET = "s3cr3tVALUE0123456789abcdef"
TOKEN = f"hh_{'0a' * 12}_{'b7' * 32}"
PEM = "MIIEvgIBADANBgkqhkiG9w0BAQEFAASC\n"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJBZGEifQ.c2lnbmF0dXJl"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines() -> Lines:
    stream = io.StringIO()
    configure(stream, readable=False, secrets=["correct horse battery"])
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_says_when_what_and_for_which_request(lines: Lines) -> None:
    with structlog.contextvars.bound_contextvars(request="r1"):
        logger("worker").info("published", roles={"pump": 3})
    (line,) = lines()
    assert line.pop("time").endswith("Z")
    assert line == {
        "event": "published",
        "level": "info",
        "logger": "hillhold.worker",
        "request": "r1",
        "roles": {"pump": 3},
    }


LEAKS = [
    f"Authorization: Bearer {SECRET}",
    f"authorization: bearer {TOKEN}",
    f"Basic {SECRET}==",
    f"cannot use token {TOKEN}.",
    f"'{TOKEN}'",
    f"id_token {JWT}",
    f"{TOKEN}{TOKEN}",
    f"postgresql://hillhold:{SECRET}@db:5432/hillhold refused",
    f"postgresql://hillhold:p@ss/{SECRET}@db/hillhold",
    f"https://{SECRET}@example.com/",
    f"connection failed: host=db password={SECRET} user=x",
    f"password = '{SECRET} with spaces {SECRET}'",
    f"PGPASSWORD={SECRET}",
    f"hsm:2?pin={SECRET}",
    f"hsm:2?{SECRET}",
    f"pkcs11:token=a;object=b?pin-value={SECRET}",
    f"awskms:arn?role={SECRET}",
    f"envvar:X?a=b&c={SECRET}",
    f"https://bucket.example/a?X-Amz-Credential={SECRET}&X-Amz-Signature={SECRET}&X-Amz-Security-Token={SECRET}",
    f"https://blob.example/a?sv=1&sig={SECRET}",
    f"/callback?code={SECRET}&state=1",
    f'{{"client_secret": "{SECRET}"}}',
    f'{{"access_token":"{SECRET}"',
    f"AWS_SECRET_ACCESS_KEY={SECRET}",
    f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----",
    f"-----BEGIN EC PRIVATE KEY-----\n{SECRET}",
    "the passphrase is correct horse battery",
    f"postgresql://hillhold:{'x' * 20_000}{SECRET}@db/hillhold",
    f"-----BEGIN PRIVATE KEY-----\n{PEM * 600}{SECRET}\n-----END PRIVATE KEY-----\n",
    f"a {'y' * 15_990} hh_{'0a' * 12}_{SECRET}",
]
GONE = (SECRET, "b7" * 8, "correct horse", "xxxxxxxx", "MIIEvg", "eyJ")


@pytest.mark.parametrize("text", LEAKS)
def test_no_text_brings_a_secret_into_a_log(text: str) -> None:
    for readable in (False, True):
        stream = io.StringIO()
        configure(stream, readable=readable, secrets=["correct horse battery"])
        log = logger("x")
        log.info(text)
        log.info("a", value=text, nested={"deep": [text, {"deeper": (text,)}]}, raw=text.encode(), name={text: 1})
        log.warning("b", error=ValueError(text))
        logging.getLogger("library").warning("said %s", text, extra={"more": text})
        try:
            raise ValueError(text)
        except ValueError:
            log.exception("c")
            logging.getLogger("library").exception("d")
        for line in stream.getvalue().splitlines():
            assert not [gone for gone in GONE if gone in line], line
        assert len(text) > 10_000 or "ValueError" in stream.getvalue()


NAMED = ["authorization", "Authorization", "password", "db_password", "pin", "client_secret", "X-Api-Key", "cookie"]


@pytest.mark.parametrize("name", [*NAMED, "access_key_id", "passphrase", "token", "private_key", "set-cookie"])
def test_what_is_called_a_secret_is_one(lines: Lines, name: str) -> None:
    logger("x").info("a", **{name: "4711", "headers": {name: ["4711"]}})
    (line,) = lines()
    assert "4711" not in json.dumps(line)


def test_what_is_no_secret_stays() -> None:
    for text in (
        "pump/1.2.0/app.bin: expected at least 1.3.0, got 1.2.0; hint: shipping=soon",
        "https://updates.example.com/repository/metadata/timestamp.json?x=1",
        "sqlite:////var/lib/hillhold/hillhold.db",
        "hsm:2 cannot be opened",
        "Basic rules of a bearer",
        f"sha256 {'0a' * 32}",
        "token: expected one that has not expired",
    ):
        assert hide(text) == text
    assert hide(TOKEN) == f"hh_{'0a' * 12}_…"  # its id says which one it is, and opens nothing


@pytest.mark.parametrize("readable", [False, True])
def test_a_line_is_one_line_and_moves_no_cursor(readable: bool) -> None:
    stream = io.StringIO()
    configure(stream, readable=readable)
    bad = 'a\n{"event":"forged"}\r\x1b[2J\x9b\u2028\u202e\x00\x7f\ud800'
    logger("x").info(bad, **{"value": bad, bad[:20]: 1})
    written = stream.getvalue()
    assert written.count("\n") == 1
    assert not set(written) & set("\r\x1b\x9b\u2028\u202e\x00\x7f\ud800")
    if not readable:
        assert json.loads(written)["value"] == bad


def test_a_line_has_an_end(lines: Lines) -> None:
    log = logger("x")
    log.info("a" * 1_000_000)
    log.info("b", **{f"f{number}": "c" * 5_000 for number in range(500)})
    log.info("d", deep=[[[[[[["e" * 100]]]]]]], number=10**4000)
    assert all(len(json.dumps(line)) <= MAX_LINE for line in lines())
    assert lines()[0]["event"].endswith("(1000000 characters)")


def test_a_long_text_takes_no_long_time() -> None:
    start = time.process_time()
    for part in (
        "a:",
        "hh_",
        "eyJ",
        "password=",
        "a://",
        'x="',
        "-----BEGIN PRIVATE KEY-----",
        "Basic ",
        "pin-",
        "a_",
        "-",
    ):
        for text in (part * 3_000, f"{part * 50} " * 1_000, part * 100_000):
            hide(text)
    assert time.process_time() - start < 5


def test_what_cannot_say_what_it_is_ends_nothing(lines: Lines) -> None:
    class Bad:
        def __str__(self) -> str:
            raise RuntimeError

    logger("x").info("a", value=Bad())
    assert lines()[0]["value"] == "(Bad: RuntimeError)"


def test_what_cannot_be_written_is_not_shown_either(lines: Lines, capfd: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    root.handlers[:] = [found for found in root.handlers if type(found).__module__.startswith("hillhold")]
    logging.getLogger("library").warning("%d", f"password={SECRET}")
    (line,) = lines()
    assert line["event"] == "a line could not be written"
    assert SECRET not in json.dumps(line) + "".join(capfd.readouterr())


def test_a_librarys_chatter_is_left_out(lines: Lines) -> None:
    logging.getLogger("httpx").info("HTTP Request: GET https://example.com/?x=1")
    logging.getLogger("uvicorn.access").info("GET /")
    logger("x").debug("details")
    assert lines() == []
    logging.getLogger("uvicorn.error").info("started")
    assert [line["event"] for line in lines()] == ["started"]
