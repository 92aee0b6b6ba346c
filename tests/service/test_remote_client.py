"""The client of a service: lost answers, broken connections, and a service that lies."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from command import hillhold, uri
from faultproxy import DROPPED, LOST, HttpProxy, Script, at, inorder, status
from hillhold_signer import Repository, Wish, add_product, add_release, example_signer, serviceclient
from hillhold_signer.edit import Edit
from hillhold_signer.errors import (
    AnchorRefused,
    ConfigRefused,
    FileRefused,
    ProductRefused,
    ReleaseRefused,
    ServiceError,
    ServiceRefused,
    SigningRefused,
    StorageError,
)
from hillhold_signer.places import Entry
from hillhold_signer.remote import RemoteStore
from hillhold_signer.roots import renew
from hillhold_signer.service.access import Role
from hillhold_signer.service.tables import CHANGES, SWEPT_BLOBS
from hillhold_signer.serviceclient import PIECE, Service
from hillhold_signer.serviceurl import check_url
from hillhold_verifier.errors import MisuseError
from liar import TOKEN, Liar, at_once, endless, entry, files_of, served
from papers import Ca
from servicekit import Kit, make_kit
from workshop import HARDWARE, NOW, ceremony, image, online, pump, release, sign_all, started, team

WISH = Wish("app.bin", hardware=HARDWARE[:1])


# --- a real service, and a way to it that fails ---------------------------------------------------------------------------------------


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    made = make_kit(tmp_path / "service")
    made.account("carol", (Role.SUBMITTER, "pump"))
    yield made
    made.data.database.close()


@pytest.fixture
def way(kit: Kit) -> Iterator[HttpProxy]:
    with kit.running() as url, HttpProxy(int(url.rpartition(":")[2])) as found:
        yield found


def through(way: HttpProxy, kit: Kit, who: str = "carol") -> Service:
    return Service(f"http://127.0.0.1:{way.port}", kit.tokens[who], sleep=at_once)


def listed(kit: Kit) -> set[str]:
    with kit.data.reading() as unit:
        return set(unit.repository.state().line("pump").targets)


SCRIPTS: dict[str, Callable[[], Script]] = {
    "the change is made, and its answer lost": lambda: at("POST", "/v1/changes", LOST),
    "and again": lambda: at("POST", "/v1/changes", LOST, LOST, DROPPED),
    "the service is busy": lambda: at("POST", "/v1/changes", status(503), status(429)),
    "a piece of an upload arrives, and its answer is lost": lambda: at("PATCH", "/v1/uploads", LOST),
    "a piece does not arrive": lambda: at("PATCH", "/v1/uploads", DROPPED, DROPPED),
    "an upload's beginning is lost": lambda: at("POST", "/v1/uploads", LOST, LOST),
    "the list is lost": lambda: at("GET", "/v1/tree", LOST, DROPPED, status(502)),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_release_is_added_once_over_a_bad_connection(kit: Kit, way: HttpProxy, name: str) -> None:
    way.script = SCRIPTS[name]()
    with through(way, kit) as service:
        add_release(Repository(Entry(RemoteStore(service))), "pump", image("1.0.0"), WISH, int(time.time()))
    assert listed(kit) == {"pump/1.0.0/app.bin"}
    with kit.data.reading() as unit:
        assert len(unit.connection.execute(select(CHANGES)).all()) == 1


def test_a_connection_that_stays_bad_is_an_operational_error_and_nothing_is_half_done(kit: Kit, way: HttpProxy) -> None:
    way.script = lambda method, path: DROPPED if path == "/v1/changes" else inorder()(method, path)
    with through(way, kit) as service, pytest.raises(ServiceError) as caught:
        add_release(Repository(Entry(RemoteStore(service))), "pump", image("1.0.0"), WISH, int(time.time()))
    assert "run the command again" in str(caught.value.hint)
    assert [path for _, path in way.seen].count("/v1/changes") == serviceclient.TRIES
    assert listed(kit) == set()


def test_a_command_that_never_heard_that_it_was_done_finds_it_done(kit: Kit, way: HttpProxy) -> None:
    way.script = at("POST", "/v1/changes", *[LOST] * serviceclient.TRIES)
    with through(way, kit) as service, pytest.raises(ServiceError):
        add_release(Repository(Entry(RemoteStore(service))), "pump", image("1.0.0"), WISH, int(time.time()))
    assert listed(kit) == {"pump/1.0.0/app.bin"}
    way.script = inorder()
    with through(way, kit) as service:
        again = add_release(Repository(Entry(RemoteStore(service))), "pump", image("1.0.0"), WISH, int(time.time()))
        assert (again.repeated, again.version) == (True, 2)
        with pytest.raises(ReleaseRefused, match="got another file"):
            add_release(Repository(Entry(RemoteStore(service))), "pump", image("1.0.0", edits=1), WISH, 0)
    with kit.data.reading() as unit:
        assert len(unit.connection.execute(select(CHANGES)).all()) == 1


def test_a_long_file_is_sent_in_pieces_and_goes_on_where_it_broke_off(kit: Kit, way: HttpProxy) -> None:
    data = bytes(range(256)) * (PIECE // 128) + b"end"  # two pieces, and a bit
    digest = sha256(data).hexdigest()
    way.script = at("PATCH", "/v1/uploads", inorder()("", ""), DROPPED, LOST)
    told: list[int] = []
    with through(way, kit) as service:
        service.upload(data, digest, lambda done, total: told.append(done))
        service.upload(data, digest)
    assert told == sorted(told)
    assert told[-1] == len(data)
    with kit.data.reading() as unit:
        assert unit.store.digest(f"staged/{digest}") is None  # nothing names it yet
        assert kit.data.objects.length(f"blobs/{digest}") == len(data)


def test_an_upload_that_has_arrived_and_was_not_put_together_is_ended(kit: Kit, way: HttpProxy) -> None:
    data = b"all of it has arrived"
    digest = sha256(data).hexdigest()
    with kit.data.database.transaction() as connection:  # its object is just being deleted
        connection.execute(SWEPT_BLOBS.insert().values(sha256=digest, time=kit.data.database.now(connection)))
    with through(way, kit) as service:
        with pytest.raises(ServiceError, match="makes no progress"):
            service.upload(data, digest)
        with kit.data.database.transaction() as connection:
            connection.execute(SWEPT_BLOBS.delete())
        service.upload(data, digest)
    assert b"".join(kit.data.objects.get(f"blobs/{digest}")) == data


def test_nothing_is_written_where_a_command_fails_half_way(kit: Kit, way: HttpProxy) -> None:
    with through(way, kit) as service:
        repository = Repository(Entry(RemoteStore(service)))
        with pytest.raises(ProductRefused):
            renew(repository, ["pump", "toaster"], int(time.time()))
        with pytest.raises(RuntimeError), repository.edit(int(time.time())) as edit:
            _half(edit)
        assert not repository.state().drafts
        with pytest.raises(MisuseError):
            repository.layout.path.store.write("people/x", b"")  # type: ignore[union-attr]
    assert ("POST", "/v1/changes") not in way.seen


def _half(edit: Edit) -> None:
    edit.reissue("pump")
    raise RuntimeError("in the middle")


def test_a_client_sees_what_it_has_written_before_it_is_sent(kit: Kit, way: HttpProxy) -> None:
    with through(way, kit, "boss") as service:
        store = RemoteStore(service)
        with store.lock():
            store.write("people/x", b"Ada")
            assert store.read("people/x", 10) == b"Ada"
            assert store.digest("people/x") == (3, sha256(b"Ada").hexdigest())
            assert "x" in store.list("people")
            assert "people/x" in store.walk("")
            with pytest.raises(FileRefused):
                store.read("people/x", 2)
            store.remove("people/x")
            assert store.read("people/x", 10) is None
            assert "x" not in store.list("people")
        assert ("POST", "/v1/changes") not in way.seen
        with pytest.raises(FileNotFoundError):
            store.open("people/x")
        assert store.open("hillhold.toml").read().startswith(b"# A Hillhold repository")


# --- a service that lies --------------------------------------------------------------------------------------------------------------


STRANGE: dict[str, Any] = {
    "no JSON": (200, {}, b"<html>"),
    "a list": (200, {}, b"[]"),
    "deep": (200, {}, b"[" * 100_000),
    "nothing": (200, {}, b""),
    "no files": (200, {}, b'{"files": 7}'),
    "no entry": (200, {}, b'{"files": {"hillhold.toml": 7}}'),
    "a name that leads up": (200, {}, json.dumps({"files": {"drafts/../../x": entry(b"x")}}).encode()),
    "a hidden way": (200, {}, json.dumps({"files": {"/etc/passwd": entry(b"x")}}).encode()),
    "a control character": (200, {}, json.dumps({"files": {"people/\x1b[2J": entry(b"x")}}).encode()),
    "a target file": (200, {}, json.dumps({"files": {"staged/" + "0" * 64: entry(b"x")}}).encode()),
    "a negative length": (200, {}, json.dumps({"files": {"people/x": {**entry(b"x"), "length": -1}}}).encode()),
    "other bytes": (200, {}, json.dumps({"files": {"people/x": {**entry(b"x"), "data": "eQ=="}}}).encode()),
    "no base64": (200, {}, json.dumps({"files": {"people/x": {**entry(b"x"), "data": "%"}}}).encode()),
    "packed": (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b"),
    "a redirect": (302, {"Location": "http://127.0.0.1:1/v1/tree"}, b""),
    "a moved host": (308, {"Location": "https://example.com/v1/tree"}, b""),
    "an error page": (500, {}, b"<html>"),
    "no status that there is": (299, {}, b""),
    "endless": endless,
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_answer_is_an_operational_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serviceclient, "MAX_ANSWER", 4 << 20)
    with Liar({"/v1/tree": STRANGE[name]}) as liar, liar.service() as service:
        with pytest.raises(ServiceError):
            Repository(Entry(RemoteStore(service))).state()
        assert {path for _, path, _ in liar.seen} == {"/v1/tree"}
        assert len(liar.seen) <= serviceclient.TRIES


def test_the_token_goes_to_the_service_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with Liar({}) as other, Liar({"/v1/tree": (307, {"Location": f"{other.url}/v1/tree"}, b"")}) as liar:
        monkeypatch.setenv("HTTP_PROXY", other.url)
        monkeypatch.setenv("ALL_PROXY", other.url)
        with liar.service() as service, pytest.raises(ServiceError, match="redirect"):
            service.get("v1/tree")
        assert liar.seen[0][2]["Authorization"] == f"Bearer {TOKEN}"
        assert other.seen == []


@pytest.mark.parametrize(
    "url",
    [
        "http://firmware.example.com",
        "http://127.0.0.1.example.com",
        "http://127.0.0.1@example.com",
        "https://user:tr0ub4dor@example.com",
        "https://example.com/?token=x",
        "https://example.com/#x",
        "ftp://example.com",
        "https://",
        "https://exa mple.com",
        "https://example.com\n",
        "https://[::1",
        "https://example.com:99999",
        "file:///etc/passwd",
    ],
)
def test_a_url_that_would_show_the_token_is_refused(url: str) -> None:
    with pytest.raises(ConfigRefused) as caught:
        check_url(url)
    assert "tr0ub4dor" not in str(caught.value)


def test_a_token_that_is_none_is_refused_and_not_shown() -> None:
    for token in ("", "short", "two words and more", "line\r\nX: y", "ä" * 20, "x" * 20_000):
        with pytest.raises(ConfigRefused) as caught:
            Service("https://example.com", token)
        assert token not in str(caught.value) or not token


@pytest.mark.parametrize(
    ("number", "kind", "says"),
    [
        (401, ServiceRefused, "HILLHOLD_TOKEN"),
        (403, ServiceRefused, "HILLHOLD_TOKEN"),
        (404, ServiceRefused, None),
        (409, ServiceRefused, None),
        (413, ServiceRefused, None),
        (422, ServiceRefused, None),
        (429, ServiceRefused, None),
        (500, ServiceError, "run the command again"),
        (503, ServiceError, "run the command again"),
    ],
)
def test_a_refusal_says_what_the_service_said(number: int, kind: type[Exception], says: str | None) -> None:
    for body, text in (
        (b'{"detail":"the \\u001b[2J reason"}', "the \x1b[2J reason"),
        (b"junk", f"status {number}"),
        (b"[]", "status"),
    ):
        with Liar({"/v1/tree": (number, {}, body)}) as liar, liar.service() as service:
            with pytest.raises(kind) as caught:
                service.get("v1/tree")
            assert text in str(caught.value)
            assert says is None or says in str(getattr(caught.value, "hint", ""))
    body = json.dumps({"detail": "x" * 10_000, "hint": "log in again"}).encode()
    with Liar({"/v1/tree": (number, {}, body)}) as liar, liar.service() as service:
        with pytest.raises(kind) as caught:
            service.get("v1/tree")
        assert len(str(caught.value)) < 1000
        assert getattr(caught.value, "hint", "") == "log in again"


def test_a_busy_service_is_asked_again_and_not_for_ever() -> None:
    slept: list[float] = []
    with Liar({"/v1/tree": (503, {"Retry-After": "7"}, b"{}")}) as liar:
        with Service(liar.url, TOKEN, sleep=slept.append) as service, pytest.raises(ServiceError):
            service.get("v1/tree")
        assert slept == [7, 7, 7]
        liar.answers["/v1/tree"] = (429, {"Retry-After": "999999"}, b"{}")
        with Service(liar.url, TOKEN, sleep=slept.append) as service, pytest.raises(ServiceRefused):
            service.get("v1/tree")
        assert slept == [7, 7, 7]


UPLOADS: dict[str, dict[str, Any]] = {
    "an id that leads elsewhere": {"/v1/uploads": (201, {}, b'{"id": "../../x", "offset": 0}')},
    "an offset beyond": {"/v1/uploads": (201, {}, b'{"id": "a", "offset": 99}')},
    "an offset before": {"/v1/uploads": (201, {}, b'{"id": "a", "offset": -1}')},
    "no offset": {"/v1/uploads": (201, {}, b'{"id": "a"}')},
    "never more": {
        "/v1/uploads": (201, {}, b'{"id": "a", "offset": 0}'),
        "/v1/uploads/a": (204, {"Upload-Offset": "0"}, b""),
    },
    "back and forth": {
        "/v1/uploads": (201, {}, b'{"id": "a", "offset": 1}'),
        "PATCH /v1/uploads/a": (409, {"Upload-Offset": "0"}, b""),
        "HEAD /v1/uploads/a": (204, {"Upload-Offset": "0"}, b""),
    },
    "gone each time": {"/v1/uploads": (201, {}, b'{"id": "a", "offset": 0}')},
    "an offset that is none": {
        "/v1/uploads": (201, {}, b'{"id": "a", "offset": 0}'),
        "/v1/uploads/a": (204, {"Upload-Offset": "many"}, b""),
    },
}


@pytest.mark.parametrize("name", UPLOADS)
def test_an_upload_that_makes_no_progress_ends(name: str) -> None:
    with Liar(UPLOADS[name]) as liar, liar.service() as service:
        with pytest.raises(ServiceError):
            service.upload(b"data", sha256(b"data").hexdigest())
        assert len(liar.seen) < 30
        assert all(path.startswith("/v1/uploads") and ".." not in path for _, path, _ in liar.seen)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """One release is published, a second is drafted."""
    found = started(tmp_path / "repo")
    release(found, image("1.0.0"))
    add_release(found, "pump", image("1.1.0", edits=5), WISH, NOW)
    return found


def test_an_honest_answer_is_taken(repository: Repository) -> None:
    with Liar(served(files_of(repository))) as liar, liar.service() as service:
        remote = Repository(Entry(RemoteStore(service)))
        assert remote.state().drafts["pump"].digest == repository.state().drafts["pump"].digest
        assert len([1 for _, path, _ in liar.seen if path == "/v1/tree"]) == 1


def test_files_that_are_not_those_of_the_list_are_refused(repository: Repository) -> None:
    files = files_of(repository)
    name = next(name for name in files if name.startswith("drafts/pump/") and name.endswith(".json"))
    for lie in (files[name] + b" ", b"", None):
        answers = served(files)
        listing = json.loads(answers["/v1/tree"][2])
        del listing["files"][name]["data"]
        answers["/v1/tree"] = (200, {}, json.dumps(listing).encode())
        answers[f"/v1/files/{name}"] = (404, {}, b"{}") if lie is None else (200, {}, lie)
        with Liar(answers) as liar, liar.service() as service, pytest.raises((ServiceError, FileRefused)):
            dict(Repository(Entry(RemoteStore(service))).state().drafts)


@pytest.fixture
def forged(tmp_path: Path) -> Repository:
    """Somebody else's repository, made with other keys of root and targets, in which the bad release is published already."""
    bad = replace(
        ceremony(),
        root=team("release-1", "release-2", threshold=2),
        targets=team("root-1", "root-2", threshold=2),
    )
    found = Repository.create(tmp_path / "forged", bad, NOW, demo=True)
    add_product(found, pump(), NOW)
    sign_all(found, "release-1", "release-2", "root-1", "root-2")
    found.publish(online(), NOW)
    release(found, image("6.6.6", seed=66))
    add_release(found, "pump", image("7.0.0", edits=5), WISH, NOW)
    return found


def test_with_ones_own_root_a_forged_repository_is_told_and_nothing_is_signed(
    repository: Repository, forged: Repository, tmp_path: Path
) -> None:
    mine = tmp_path / "kept.root.json"
    mine.write_bytes(repository.folder.metadata("1.root.json").read_bytes())
    with Liar(served(files_of(forged))) as liar:
        with liar.service() as service:
            anchored = Repository(Entry(RemoteStore(service)), anchor=mine.read_bytes())
            with pytest.raises(AnchorRefused):
                anchored.state()
            with pytest.raises(AnchorRefused):
                anchored.sign(example_signer("release-1"))
        refused = hillhold("sign", "--service", liar.url, "--key", uri("release-1"), "--root", mine, "--yes")
        assert refused.exit_code == 1
        assert "does not follow from your root" in refused.stderr
        assert "hint: sign nothing" in refused.stderr
        assert {method for method, _, _ in liar.seen} == {"GET"}
        # Without a root, it is shown as if 6.6.6 were published: so the screen says whose word that is.
        shown = hillhold("sign", "--service", liar.url, "--key", uri("release-1"), answers="n\n")
        assert "6.6.6" not in shown.stdout
        assert "! what is published stands on the word of" in shown.output
    with Liar(served(files_of(repository))) as liar:
        shown = hillhold("sign", "--service", liar.url, "--key", uri("release-1"), "--root", mine, answers="n\n")
        assert "verified from your root, up to root version 1" in shown.output
        assert "what is published is that of 2026-01-01T00:00:00Z" in shown.output
        assert "! what is published" not in shown.output


def test_with_ones_own_root_nothing_published_is_told(repository: Repository, tmp_path: Path) -> None:
    mine = repository.folder.metadata("1.root.json").read_bytes()
    files = {name: data for name, data in files_of(repository).items() if not name.startswith("public/")}
    with Liar(served(files)) as liar, liar.service() as service, pytest.raises(AnchorRefused, match="got nothing"):
        Repository(Entry(RemoteStore(service)), anchor=mine).state()


def test_a_draft_that_changes_between_screen_and_signature_is_not_signed(repository: Repository) -> None:
    with Liar(served(files_of(repository))) as liar, liar.service() as service:
        remote = Repository(Entry(RemoteStore(service)))
        shown = {role: draft.digest for role, draft in remote.state().drafts.items()}
        add_release(repository, "pump", image("6.6.6", seed=6), WISH, NOW)
        liar.answers = served(files_of(repository))
        with pytest.raises(SigningRefused, match="what was shown"):
            remote.sign(example_signer("release-1"), None, shown)
        assert {method for method, _, _ in liar.seen} == {"GET"}


def test_a_service_that_cannot_be_reached_is_an_operational_error() -> None:
    with Liar({}) as liar:
        url = liar.url
    with Service(url, TOKEN, sleep=at_once) as service, pytest.raises(StorageError):
        service.get("v1/tree")


# --- TLS ------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[Liar, Ca]]:
    """A server with TLS that wants a certificate of its clients."""
    authority = Ca(tmp_path, "company", int(time.time()))
    paper = authority.issue_server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(paper.file, paper.key)
    context.load_verify_locations(authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    with Liar({"/v1/tree": (200, {}, b'{"files": {}}')}, context) as liar:
        yield liar, authority


def test_both_sides_show_their_certificates(secure: tuple[Liar, Ca], tmp_path: Path) -> None:
    liar, authority = secure
    mine = authority.issue("ada")
    with Service(liar.url, authority=authority.file, certificate=(mine.file, mine.key)) as service:
        assert service.get("v1/tree") == {"files": {}}
    both = tmp_path / "both.pem"
    both.write_bytes(mine.file.read_bytes() + mine.key.read_bytes())
    with Service(liar.url, TOKEN, authority=authority.file, certificate=(both, None)) as service:
        assert service.get("v1/tree") == {"files": {}}


def test_a_service_that_nobody_vouches_for_gets_no_token(secure: tuple[Liar, Ca], tmp_path: Path) -> None:
    liar, authority = secure
    mine = authority.issue("ada")
    other = Ca(tmp_path, "stranger", int(time.time()))
    for trusted, url in (
        (None, liar.url),
        (other.file, liar.url),
        (authority.file, liar.url.replace("127.0.0.1", "localhost")),
    ):
        service = Service(url, TOKEN, authority=trusted, certificate=(mine.file, mine.key), sleep=at_once)
        with service, pytest.raises(ServiceError, match=r"(?i)certificate"):
            service.get("v1/tree")
    assert liar.seen == []
    with pytest.raises(ConfigRefused):
        Service(liar.url, authority=tmp_path / "none.pem")
    with pytest.raises(ConfigRefused):
        Service(liar.url, certificate=(authority.file, None))
