"""Who sees what of the page, how people sign in, and what errors say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import delete, select, update

from hillhold_signer.service import accounts, tokens
from hillhold_signer.service.access import Role
from hillhold_signer.service.page import SESSION_SECONDS, sweep
from hillhold_signer.service.page.sessions import session_reader
from hillhold_signer.service.tables import LOG_FILES, SESSIONS
from pagehouse import House, lived_in

PAGES = (
    *("/", "/drafts/pump", "/drafts/pump/request", "/drafts/targets", "/lines", "/lines/pump", "/keys"),
    *("/releases/pump/1.0.0/app.bin/proof", "/log", "/log/entries/0", "/log/entries/0/proof"),
)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, str]]:
    with House(tmp_path_factory.mktemp("house")) as house, house.served() as url:
        lived_in(house)
        yield house, url


@pytest.fixture
def nobody(lived: tuple[House, str]) -> Iterator[httpx.Client]:
    with lived[0].visitor(lived[1]) as client:
        yield client


def test_nobody_sees_anything_without_signing_in(nobody: httpx.Client) -> None:
    for path in (*PAGES, "/drafts/none", "/lines/none"):
        answer = nobody.get(path)
        assert (answer.status_code, answer.text) == (303, ""), path
        assert answer.headers["Location"].startswith("/sign-in?next=%2F")
    assert nobody.get("/", headers={"Cookie": f"hillhold={'0' * 64}"}).status_code == 303
    assert nobody.get("/", headers={"Cookie": "hillhold=%00' OR 1=1"}).status_code == 303


@pytest.mark.parametrize(
    ("who", "refused"),
    [
        ("ada", ()),
        ("margaret", ()),
        ("grace", ("/log", "/log/entries/0", "/log/entries/0/proof")),
        (
            "alan",
            ("/log", "/log/entries/0", "/log/entries/0/proof", "/lines/monitor", "/drafts/monitor", "/drafts/nothing"),
        ),
        ("ci", ("/log", "/lines/monitor", "/drafts/monitor/request", "/releases/monitor/1.0.0/app.bin/proof")),
    ],
)
def test_grants_decide_what_is_seen(lived: tuple[House, str], who: str, refused: tuple[str, ...]) -> None:
    with lived[0].visitor(lived[1], who) as client:
        for path in refused:
            assert client.get(path).status_code == 403, path
        for path in set(PAGES) - set(refused) - {path for path in PAGES if path.startswith("/log") and refused}:
            assert client.get(path).status_code == 200, path


def test_lines_of_others_are_named_nowhere_but_in_targets(lived: tuple[House, str]) -> None:
    with lived[0].visitor(lived[1], "alan") as client:
        for path in ("/", "/lines", "/keys"):
            assert "monitor" not in client.get(path).text, path
        assert "ventilator" in client.get("/drafts/targets").text
        assert "Accounts" not in client.get("/keys").text
        assert 'href="/log"' not in client.get("/").text


def test_a_token_becomes_a_session_that_the_database_cannot_give_back(lived: tuple[House, str]) -> None:
    house, url = lived
    text = house.token("ada")
    with httpx.Client(base_url=url, headers={"Origin": url}) as client:
        answer = client.post("/sign-in", data={"token": f"  {text}\n", "next": "/lines/pump"})
        assert (answer.status_code, answer.headers["Location"]) == (303, "/lines/pump")
        cookie = answer.headers["Set-Cookie"]
        for wanted in ("HttpOnly", "SameSite=strict", "Path=/", f"Max-Age={SESSION_SECONDS}"):
            assert wanted in cookie
        value = client.cookies["hillhold"]
        with house.database.snapshot() as connection:
            assert value not in connection.execute(select(SESSIONS.c.id)).scalars().all()
        assert text not in client.get("/").text
        assert client.post("/sign-out").status_code == 303
        assert client.get("/", headers={"Cookie": f"hillhold={value}"}).status_code == 303


def test_a_session_ends_with_its_time_its_token_its_account_and_its_grants(tmp_path: Path) -> None:
    with House(tmp_path) as house, house.served() as url:
        _outlive(house, url)


def _outlive(house: House, url: str) -> None:
    now = house.now
    with house.visitor(url, "margaret") as client:
        house.now = now + SESSION_SECONDS - 1
        assert client.get("/log").status_code == 200
        house.now = now + SESSION_SECONDS
        assert client.get("/log").status_code == 303
        house.now = now
        with house.database.transaction() as connection:
            accounts.ungrant(connection, "margaret", Role.AUDITOR, "*")
        assert client.get("/log").status_code == 403
        with house.database.transaction() as connection:
            accounts.grant(connection, "margaret", Role.AUDITOR, "*")
        with house.database.transaction() as connection:
            for token in tokens.list_tokens(connection, "margaret"):
                tokens.revoke(connection, None, token.id, now)
        assert client.get("/log").status_code == 303
    with house.visitor(url, "margaret") as client:
        assert client.get("/log").status_code == 200
        with house.database.transaction() as connection:
            accounts.disable(connection, "margaret", now=now)
        assert client.get("/log").status_code == 303


def test_sessions_that_are_over_are_forgotten(lived: tuple[House, str]) -> None:
    house, url = lived
    with house.visitor(url, "ada") as client, house.database.transaction() as connection:
        sweep(connection, house.now + SESSION_SECONDS - 1)
        assert session_reader(connection, client.cookies["hillhold"], house.now)
        sweep(connection, house.now + SESSION_SECONDS)
        assert connection.execute(select(SESSIONS)).all() == []


@pytest.mark.parametrize("token", ["", "hh_", "x" * 200, f"hh_{'0' * 24}_{'0' * 64}", "ж", "'; drop table tokens"])
def test_a_wrong_token_is_answered_alike(nobody: httpx.Client, token: str) -> None:
    answer = nobody.post("/sign-in", data={"token": token, "next": "/keys"})
    assert answer.status_code == 401
    assert "This token is not known here, has expired, or was revoked." in answer.text
    assert 'name="next" value="/keys"' in answer.text
    assert "Set-Cookie" not in answer.headers
    if len(token) > 10:
        assert token not in answer.text


def test_a_form_that_is_none_is_refused_and_held_in_no_memory(nobody: httpx.Client) -> None:
    for body in (b"\xff\xfe", b"token=" + b"a" * 100_000, b"&".join(b"a%d=1" % number for number in range(100)), b""):
        assert nobody.post("/sign-in", content=body).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"},
    ],
)
def test_a_form_of_another_site_changes_nothing(lived: tuple[House, str], headers: dict[str, str]) -> None:
    house, url = lived
    text = house.token("ada")
    with house.visitor(url, "ada") as client:
        del client.headers["Origin"]
        for path in ("/sign-in", "/sign-out"):
            answer = client.post(path, data={"token": text}, headers=headers)
            assert answer.status_code == 403
            assert "Set-Cookie" not in answer.headers
        assert client.get("/").status_code == 200


@pytest.mark.parametrize(
    "following",
    [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "/\t/evil.example",
        "javascript:alert(1)",
        "",
        "/x\r\nA: b",
        "/" + "a" * 600,
    ],
)
def test_signing_in_leads_to_no_other_site(lived: tuple[House, str], following: str) -> None:
    house, url = lived
    with httpx.Client(base_url=url, headers={"Origin": url}) as client:
        answer = client.post("/sign-in", data={"token": house.token("ada"), "next": following})
        assert (answer.status_code, answer.headers["Location"]) == (303, "/")
        assert 'name="next" value="/"' in client.get("/sign-in", params={"next": following}).text


def test_every_page_forbids_scripts_frames_and_caches(lived: tuple[House, str]) -> None:
    house, url = lived
    with house.visitor(url, "ada") as client:
        for path in (*PAGES, "/drafts/none", "/sign-in", "/log?before=x", "/nothing/proof"):
            answer = client.get(path)
            if answer.status_code == 404 and path == "/nothing/proof":
                continue
            policy = answer.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'"), path
            assert "frame-ancestors 'none'; base-uri 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "<script" not in answer.text
            assert "style=" not in answer.text
            assert 'href="http' not in answer.text


def test_what_does_not_change_is_kept_by_browsers_under_its_hash(nobody: httpx.Client) -> None:
    page = nobody.get("/sign-in").text
    href = page.partition('rel="stylesheet" href="')[2].partition('"')[0]
    assert nobody.get(href).headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert nobody.get(href).headers["Content-Type"].startswith("text/css")
    assert nobody.get("/static/..%2Frouter.py").status_code == 404
    assert nobody.get("/static/sign_in.html").status_code == 404


def test_over_tls_the_cookie_belongs_to_this_host_alone(lived: tuple[House, str]) -> None:
    house, url = lived
    house.url = "https://hillhold.example"
    with (
        house.served() as other,
        httpx.Client(base_url=other, headers={"Origin": "https://hillhold.example"}) as client,
    ):
        answer = client.post("/sign-in", data={"token": house.token("ada")})
        cookie = answer.headers["Set-Cookie"]
        assert cookie.startswith("__Host-hillhold=")
        assert "; Secure" in cookie
        assert "Domain" not in cookie
        value = cookie.partition("=")[2].partition(";")[0]
        page = client.get("/drafts/pump", headers={"Cookie": f"__Host-hillhold={value}"})
        assert "hillhold sign --service https://hillhold.example --role pump" in page.text
        assert client.get("/", headers={"Cookie": f"hillhold={value}"}).status_code == 303
        assert client.post("/sign-out", headers={"Origin": url}).status_code == 403
    house.url = None


def test_an_error_says_nothing_of_what_is_behind_it(lived: tuple[House, str], caplog: pytest.LogCaptureFixture) -> None:
    house, url = lived
    root = house.path / "repository" / "public" / "metadata" / "1.root.json"
    before = root.read_bytes()
    with house.visitor(url, "ada") as client:
        try:
            root.write_bytes(b"{}")
            answer = client.get("/")
        finally:
            root.write_bytes(before)
        assert answer.status_code == 500
        assert "Something went wrong" in answer.text
        for secret in (str(house.path), "root.json", "Traceback", "expected"):
            assert secret not in answer.text
        assert "Signed in as" in answer.text
        assert "DamagedRefused" in caplog.text
        root.unlink()
        root.mkdir()
        try:
            answer = client.get("/")
        finally:
            root.rmdir()
            root.write_bytes(before)
        assert answer.status_code == 503
        assert str(house.path) not in answer.text
        assert client.get("/").status_code == 200


def test_an_altered_log_is_not_shown(lived: tuple[House, str]) -> None:
    house, url = lived
    with house.visitor(url, "ada") as client:
        bundle = LOG_FILES.c.path == "tile/entries/000"
        with house.database.transaction() as connection:
            data = connection.execute(select(LOG_FILES.c.data).where(bundle)).scalar_one()
            connection.execute(update(LOG_FILES).where(bundle).values(data=data.replace(b'"ci"', b'"ic"')))
        try:
            assert client.get("/log/entries/300").status_code == 200  # in the other bundle
            for path in ("/log", "/log?before=200", "/log/entries/0", "/log/entries/0/proof"):
                answer = client.get(path)
                assert (answer.status_code, "entry 0 in tile/entries/000" in answer.text) == (500, True)
            with house.database.transaction() as connection:
                connection.execute(delete(LOG_FILES).where(LOG_FILES.c.path == "tile/0/000"))
            assert client.get("/log/entries/0").status_code == 500
        finally:
            with house.database.transaction() as connection:
                connection.execute(update(LOG_FILES).where(bundle).values(data=data))
