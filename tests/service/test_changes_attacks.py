"""Changes of files over HTTP: what may come that way, from whom, and that everything else leaves nothing behind."""

from __future__ import annotations

import json
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from changing import ODD, PUBLISHED, WISH, adds, draft, drafted, events, everything, rows, signature, signed_of
from hillhold_signer import Repository, add_product, add_release, example_signer
from hillhold_signer.config import Config, parse_config, show_config
from hillhold_signer.errors import ServiceRefused
from hillhold_signer.keys import public_pem
from hillhold_signer.patching import NO_PATCHES
from hillhold_signer.places import Entry
from hillhold_signer.remote import RemoteStore
from hillhold_signer.service import accounts
from hillhold_signer.service.access import Role
from hillhold_signer.service.edits import MAX_OPEN
from hillhold_signer.service.tables import APPROVALS, CHANGES
from hillhold_signer.serviceclient import Service
from hillhold_verifier import canonical
from postgres import Postgres
from servicekit import Kit, make_kit, until, upload
from tables import make_tables
from workshop import image, pump

HASH = "0" * 64
LINES = ("ventilator",)


@pytest.fixture(params=["embedded", pytest.param("production", marks=pytest.mark.deep)])
def kit(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kit]:
    """SQLite and a folder; PostgreSQL and an object store."""
    if request.param == "embedded":
        made = make_kit(tmp_path / "service", None, None, *LINES)
    else:
        postgres: Postgres = request.getfixturevalue("postgres")
        made = make_kit(
            tmp_path / "service", postgres.database(prepare=make_tables), request.getfixturevalue("bucket"), *LINES
        )
    made.account("carol", (Role.SUBMITTER, "pump"))
    made.account("vera", (Role.SUBMITTER, "ventilator"), (Role.SIGNER, "ventilator"))
    made.account("lead", (Role.ADMINISTRATOR, "pump"))
    made.account("newcomer", (Role.SIGNER, "pump"))
    with made.data.writing() as unit:
        accounts.ungrant(unit.connection, "newcomer", Role.SIGNER, "pump")
    yield made
    made.data.database.close()


@pytest.fixture
def url(kit: Kit) -> Iterator[str]:
    with kit.running() as found:
        yield found


@pytest.fixture
def post(kit: Kit, url: str) -> Callable[..., httpx.Response]:
    def one(who: str, files: Mapping[str, bytes | str], removed: tuple[str, ...] = ()) -> httpx.Response:
        value = {name: data if isinstance(data, str) else b64encode(data).decode() for name, data in files.items()}
        with kit.client(url, who) as client:
            body = json.dumps({"files": value, "removed": list(removed)})  # half a surrogate pair as an escape
            return client.post("/v1/changes", content=body, headers={"Content-Type": "application/json"})

    return one


def test_a_name_that_the_layout_does_not_write_leads_nowhere(
    kit: Kit, url: str, post: Callable[..., httpx.Response]
) -> None:
    before = everything(kit)
    for name in ODD:
        for who in ("boss", "auditor") if not name.endswith("\n") else ():  # which the router cuts off
            with kit.client(url, who) as client:
                raw = "".join(f"%{byte:02x}" for byte in name.encode("utf-8", "surrogatepass"))
                for method in ("GET", "HEAD"):
                    answer = client.request(method, f"/v1/files/{raw}")
                    assert answer.status_code in (404, 405, 422), (name, answer.status_code)
        assert post("boss", {name: b"x"}).status_code in (404, 422), name
        assert post("boss", {}, (name,)).status_code in (404, 422), name
    assert everything(kit) == before


def test_what_is_published_or_staged_is_never_written_as_a_file(kit: Kit, post: Callable[..., httpx.Response]) -> None:
    before = everything(kit)
    for name in PUBLISHED:
        answer = post("boss", {name: b"x"})
        assert answer.status_code == 422
        assert "a file that comes this way" in answer.json()["detail"]
        assert post("boss", {}, (name,)).status_code == 422
    assert everything(kit) == before


def test_a_body_that_is_no_change_is_refused(kit: Kit, url: str) -> None:
    bodies = (b"", b"[]", b"{", b'{"files":[]}', b'{"files":{"hillhold.toml":7}}', b'{"files":{"hillhold.toml":"%%%"}}')
    for body in (*bodies, b'{"more":1}', b"{}", b'{"removed":["hillhold.toml"]}'):
        with kit.client(url, "boss") as client:
            answer = client.post("/v1/changes", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422, body
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_change_that_is_too_large_is_refused_before_it_is_read(kit: Kit, url: str) -> None:
    with kit.client(url, "boss") as client:
        assert client.post("/v1/changes", content=b" " * (33 << 20)).status_code == 413
        many = {f"people/{number:064x}.00": "eA==" for number in range(1001)}
        assert client.post("/v1/changes", json={"files": many}).status_code == 422


@pytest.mark.parametrize("who", ["vera", "ada", "auditor", "newcomer", "ci"])
def test_a_draft_of_a_line_comes_from_its_submitters_and_administrators_alone(
    kit: Kit, url: str, post: Callable[..., httpx.Response], who: str
) -> None:
    files = drafted(kit, url, "ci" if who == "ci" else "carol", adds())
    before = everything(kit)
    answer = post(who, files)
    if who == "ci":  # submitter of all lines
        assert answer.status_code == 200, answer.text
        return
    assert answer.status_code == 403
    assert "hint" in answer.json()
    assert everything(kit) == before
    until(lambda: f'"actor":"{who}"' in events(kit) and '"kind":"refusal"' in events(kit), "for the refusal in the log")


def test_a_draft_names_no_file_that_somebody_else_has_sent(
    kit: Kit, url: str, post: Callable[..., httpx.Response]
) -> None:
    kit.account("thief", (Role.SUBMITTER, "pump"))
    files = drafted(kit, url, "carol", adds())  # and sends the image
    before = everything(kit)
    answer = post("thief", files)
    assert answer.status_code == 422
    assert "which you have not sent" in answer.json()["detail"]
    assert everything(kit) == before
    digest = sha256(image("1.0.0")).hexdigest()
    with kit.client(url, "thief") as thief, kit.client(url, "carol") as carol:
        assert (thief.get(f"/v1/blobs/{digest}").status_code, carol.get(f"/v1/blobs/{digest}").status_code) == (
            404,
            200,
        )
        assert thief.post("/v1/uploads", json={"sha256": digest, "length": len(image("1.0.0"))}).status_code == 201
        assert upload(thief, image("1.0.0")) == digest  # who has it may use it
    assert post("thief", files).status_code == 200


@pytest.mark.parametrize("role", ["root", "targets"])
@pytest.mark.parametrize("who", ["carol", "lead", "ada", "ci"])
def test_root_and_targets_are_drafted_by_administrators_of_all(
    kit: Kit, url: str, post: Callable[..., httpx.Response], role: str, who: str
) -> None:
    def again(repository: Repository) -> None:
        with repository.edit(int(time.time())) as edit:
            edit.reissue(role)

    files = drafted(kit, url, "boss", again)
    before = everything(kit)
    assert post(who, files).status_code == 403
    assert everything(kit) == before
    assert post("boss", files).status_code == 200


def test_a_line_administrator_names_image_keys_of_that_line(kit: Kit, post: Callable[..., httpx.Response]) -> None:
    from hillhold_signer.keys import fingerprint

    key = example_signer("image").public_key
    name = f"image-keys/pump/{fingerprint(key)}.pub"
    assert post("lead", {name.replace("pump", "ventilator"): public_pem(key)}).status_code == 403
    assert post("carol", {name: public_pem(key)}).status_code == 403
    before = everything(kit)
    assert post("lead", {name: b"no key"}).status_code == 422
    assert post("lead", {f"image-keys/pump/{HASH}.pub": public_pem(key)}).status_code == 422
    assert everything(kit) == before
    assert post("lead", {name: public_pem(key)}).status_code == 200
    assert post("lead", {}, (name,)).status_code == 200
    assert post("lead", {}, (name,)).status_code == 200
    assert everything(kit) == before
    log = until(lambda: events(kit) if f"removed {name}" in events(kit) else "")
    assert log.count(f"removed {name}") == 1


def test_settings_hide_where_keys_are_and_move_none(kit: Kit, url: str, post: Callable[..., httpx.Response]) -> None:
    def config() -> Config:
        with kit.data.reading() as unit:
            return unit.repository.config()

    with kit.client(url, "boss") as client:
        seen = client.get("/v1/files/hillhold.toml")
        tree = client.get("/v1/tree").text
    assert "file2:" not in seen.text + tree
    assert parse_config(seen.content).online == {}
    before = config()
    keyid = next(iter(before.online))
    moved = replace(
        before, online={keyid: "file2:/etc/passwd", HASH: "file2:new.pem"}, expiry=replace(before.expiry, lines=777)
    )
    assert post("lead", {"hillhold.toml": show_config(moved)}).status_code == 403
    assert post("boss", {"hillhold.toml": show_config(replace(before, demo=False))}).status_code == 422
    assert post("boss", {"hillhold.toml": b"format = 99"}).status_code == 422
    assert config() == before
    assert post("boss", {"hillhold.toml": show_config(moved)}).status_code == 200
    after = config()
    assert after.expiry.lines == 777
    assert after.online == {**before.online, HASH: "file2:new.pem"}


def test_names_and_revocations_are_noted_by_administrators_of_all(
    kit: Kit, post: Callable[..., httpx.Response]
) -> None:
    person, revoked = f"people/{HASH}.0123", f"revoked/{HASH}"
    told = b'{"reason": "stolen", "since": 1}'
    before = everything(kit)
    for name, data in ((person, b"Ada\n"), (revoked, told)):
        assert post("lead", {name: data}).status_code == 403
    assert post("boss", {person: b"\x1b[2J"}).status_code == 422
    assert post("boss", {revoked: b"{}"}).status_code == 422
    assert post("boss", {person: b"Ada\n", revoked: b"{}"}).status_code == 422  # all or nothing
    assert everything(kit) == before
    assert post("boss", {person: b"Ada\n", revoked: told}).status_code == 200
    assert post("boss", {}, (revoked,)).status_code == 422  # a key does not become trusted again
    assert until(lambda: events(kit).count(revoked) if revoked in events(kit) else 0) == 1


def test_what_is_sent_twice_is_taken_once_and_answered_alike(
    kit: Kit, url: str, post: Callable[..., httpx.Response]
) -> None:
    files = drafted(kit, url, "carol", adds())
    first = post("carol", files)
    assert first.status_code == 200, first.text
    after = everything(kit)
    second = post("carol", files)
    assert (second.status_code, second.json()) == (200, first.json())
    assert everything(kit) == after
    one, two = signature(files, "release-1"), signature(files, "release-2")
    assert post("ada", one).json() == post("ada", one).json()
    assert len(rows(kit, APPROVALS)["approvals"]) == 1
    assert post("grace", two).status_code == 200
    until(lambda: published(kit, "pump") == 2, "for the publication")
    done = everything(kit)
    for who, again in (("carol", files), ("ada", one), ("grace", two)):
        assert post(who, again).status_code == 200
    assert everything(kit) == done
    until(lambda: events(kit).count('"kind":"publication"') >= 3)
    assert events(kit).count('"kind":"draft"') == 1
    assert events(kit).count('"kind":"submission"') == 1
    assert events(kit).count('"kind":"signature"') == 2


def published(kit: Kit, role: str) -> int:
    with kit.data.reading() as unit:
        return unit.repository.state().version(role)


def test_a_change_is_made_whole_or_not_at_all(kit: Kit, url: str, post: Callable[..., httpx.Response]) -> None:
    kit.account("both", (Role.SUBMITTER, "pump"), (Role.SIGNER, "pump"))
    files = drafted(kit, url, "both", adds())
    before = everything(kit)
    good, bad = signature(files, "release-1"), signature(files, "targets-1")
    assert post("both", {**files, **good, **bad}).status_code == 422
    assert everything(kit) == before
    assert post("both", {**files, **good}).status_code == 200


def test_signatures_that_do_not_count_are_refused(kit: Kit, url: str, post: Callable[..., httpx.Response]) -> None:
    files = drafted(kit, url, "carol", adds())
    assert post("carol", files).status_code == 200
    before = everything(kit)
    good = signature(files, "release-1")
    ((name, data),) = good.items()
    value = json.loads(data)

    def forged(**more: Any) -> dict[str, bytes]:
        other = canonical.dumps({**value, **more})
        return {f"drafts/{more.get('role', 'pump')}/{sha256(other).hexdigest()}.sig": other}

    stranger = example_signer("targets-1").public_key.keyid
    attempts = {
        "a key that nobody asks": (signature(files, "targets-1"), 422),
        "another's key id": (forged(keyid=example_signer("release-2").public_key.keyid), 422),
        "a stranger's key id": (forged(keyid=stranger), 422),
        "other bytes": (forged(sha256=HASH), 409),
        "a bit": (forged(sig=f"{int(value['sig'][0], 16) ^ 1:x}{value['sig'][1:]}"), 422),
        "another role": (forged(role="ventilator"), 403),
        "another name": ({f"drafts/pump/{HASH}.sig": data}, 422),
        "the role of another": ({name.replace("pump", "targets"): data}, 403),
        "no signature": ({f"drafts/pump/{sha256(b'x').hexdigest()}.sig": b"x"}, 422),
        "too much": ({f"drafts/pump/{HASH}.sig": b"x" * 40_000}, 422),
    }
    for what, (attempt, status) in attempts.items():
        answer = post("ada", attempt)
        assert answer.status_code == status, (what, answer.text)
        assert everything(kit) == before, what
    assert post("carol", good).status_code == 403  # who submits does not sign
    assert post("vera", good).status_code == 403
    # A signature on a draft that was replaced: it is stale, and another draft does not get it.
    assert post("carol", drafted(kit, url, "carol", adds("1.1.0", edits=3))).status_code == 200
    assert post("ada", good).status_code == 409


@pytest.mark.parametrize("what", ["nothing", "something that is not here"])
def test_a_draft_that_does_not_say_what_it_comes_after_undoes_nothing(
    kit: Kit, url: str, post: Callable[..., httpx.Response], what: str
) -> None:
    assert post("carol", drafted(kit, url, "carol", adds())).status_code == 200
    other = drafted(kit, url, "carol", adds("1.1.0", edits=3))
    _, signed = signed_of(other)
    del signed["targets"]["pump/1.0.0/app.bin"]
    signed["targets"] = {path: target for path, target in signed["targets"].items() if not path.endswith(".patch")}
    before = everything(kit)
    answer = post("carol", draft("pump", [] if what == "nothing" else [HASH], signed))
    assert answer.status_code == 409
    assert "run the command again" in answer.json()["hint"]
    assert everything(kit) == before


PATHS = ("ventilator/1.0.0/app.bin", "pump/../x", "pump/1.0.0/../x", "/pump/1.0.0/x", "pump/1.0.0/x/y", "x", "")


def test_drafts_that_could_not_be_published_are_refused_before_anybody_signs(
    kit: Kit, url: str, post: Callable[..., httpx.Response]
) -> None:
    files = drafted(kit, url, "carol", adds())
    after, signed = signed_of(files)
    before = everything(kit)
    target = signed["targets"]["pump/1.0.0/app.bin"]

    def other(**more: Any) -> dict[str, bytes]:
        return draft("pump", after, {**signed, **more})

    missing = {**target, "hashes": {"sha256": HASH}}
    longer = {**target, "length": target["length"] + 1}
    counter = json.loads(json.dumps(target))
    counter["custom"]["hillhold"]["security_counter"] = 101
    foreign = json.loads(json.dumps(target))
    foreign["custom"]["hillhold"]["hardware"] = ["toaster"]
    attempts = {
        "no bytes": other(targets={"pump/1.0.0/app.bin": missing}),
        "another length": other(targets={"pump/1.0.0/app.bin": longer}),
        "too high a counter": other(targets={"pump/1.0.0/app.bin": counter}),
        "foreign hardware": other(targets={"pump/1.0.0/app.bin": foreign}),
        **{f"path {path}": other(targets={path: target}) for path in PATHS},
        "expired": other(expires="2020-01-01T00:00:00Z"),
        "a control character": other(**{"x-note": "a\u202eb"}),
        "another type": other(_type="root"),
        "delegations": other(delegations={"keys": {}, "roles": []}),
        "another role": {name.replace("pump", "ventilator"): data for name, data in files.items()},
        "no line": draft("toaster", after, signed),
        "no draft": {f"drafts/pump/{sha256(b'{}').hexdigest()}.json": b"{}"},
        "another name": {f"drafts/pump/{HASH}.json": next(iter(files.values()))},
        "no version": draft("pump", after, {name: value for name, value in signed.items() if name != "version"}),
    }
    for what, attempt in attempts.items():
        answer = post("boss", attempt)
        assert 400 <= answer.status_code < 500, (what, answer.text)
        assert everything(kit) == before, what
    assert post("carol", files).status_code == 200


def test_a_key_of_another_under_a_colleagues_id_is_refused(
    kit: Kit, url: str, post: Callable[..., httpx.Response]
) -> None:
    files = drafted(
        kit, url, "boss", lambda repository: add_product(repository, replace(pump(), name="scale"), int(time.time()))
    )
    name = next(name for name in files if name.startswith("drafts/targets/"))
    value = json.loads(files[name])
    keys = value["signed"]["delegations"]["keys"]
    mine = example_signer("targets-1").public_key
    keys[example_signer("release-1").public_key.keyid] = {**mine.to_dict()}
    others = {other: data for other, data in files.items() if not other.startswith("drafts/targets/")}
    before = everything(kit)
    answer = post("boss", {**others, **draft("targets", value["after"], value["signed"])})
    assert answer.status_code == 422
    assert "another key" in answer.json()["detail"]
    assert everything(kit) == before
    assert post("boss", files).status_code == 200


def test_nobody_fills_a_role_with_drafts(kit: Kit, url: str, post: Callable[..., httpx.Response]) -> None:
    after, signed = signed_of(drafted(kit, url, "carol", adds()))
    with kit.data.writing() as unit:
        for number in range(MAX_OPEN):
            unit.store.write(f"drafts/pump/{number:064x}.1.done", b"")
    before = everything(kit)
    answer = post("carol", draft("pump", after, signed))
    assert answer.status_code == 422
    assert "publish what there is" in answer.json()["hint"]
    assert everything(kit) == before


def test_two_who_draft_at_once_lose_nothing(kit: Kit, url: str, post: Callable[..., httpx.Response]) -> None:
    first = drafted(kit, url, "carol", adds("1.0.0"))
    second = drafted(kit, url, "ci", adds("1.1.0", edits=3))
    assert post("carol", first).status_code == 200
    assert post("ci", second).status_code == 200
    with kit.data.reading() as unit:
        state = unit.repository.state()
        assert {"pump/1.0.0/app.bin", "pump/1.1.0/app.bin"} <= set(state.line("pump").targets)
        assert not state.drafts["pump"].merged  # it stands in a file, so that everybody signs the same
        accounts = {row.account for row in unit.connection.execute(select(CHANGES))}
    assert len(accounts) == 2
    clash = drafted(kit, url, "carol", adds("1.2.0", edits=4))
    assert post("ci", drafted(kit, url, "ci", adds("1.2.0", edits=5))).status_code == 200
    before = everything(kit)
    answer = post("carol", clash)
    assert answer.status_code == 409
    assert everything(kit) == before


def test_twelve_at_once_are_all_taken(kit: Kit, url: str) -> None:
    failures: list[object] = []

    def work(number: int) -> None:
        try:
            with Service(url, kit.tokens["carol"]) as service:
                repository = Repository(Entry(RemoteStore(service)))
                add_release(
                    repository,
                    "pump",
                    image(f"1.{number}.0", edits=number),
                    WISH,
                    int(time.time()),
                    patch_from=NO_PATCHES,
                )
        except ServiceRefused as error:
            failures.append(error)

    for number in range(12):
        image(f"1.{number}.0", edits=number)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    with kit.data.reading() as unit:
        listed = set(unit.repository.state().line("pump").targets)
    assert {f"pump/1.{number}.0/app.bin" for number in range(12)} <= listed


def test_people_see_the_files_of_their_lines_alone(kit: Kit, url: str, post: Callable[..., httpx.Response]) -> None:
    files = drafted(kit, url, "carol", adds())
    assert post("carol", files).status_code == 200
    (name,) = files
    for who, sees in (("carol", True), ("ada", True), ("auditor", True), ("boss", True), ("vera", False)):
        with kit.client(url, who) as client:
            tree = client.get("/v1/tree").json()["files"]
            assert (name in tree) is sees, who
            assert "public/metadata/timestamp.json" in tree
            answer = client.get(f"/v1/files/{name}")
            assert answer.status_code == (200 if sees else 403), who
            if sees:
                assert answer.content == files[name]
                assert answer.headers["etag"] == f'"{sha256(files[name]).hexdigest()}"'
                same = client.get(f"/v1/files/{name}", headers={"If-None-Match": answer.headers["etag"]})
                assert same.status_code == 304
    with kit.client(url, "newcomer") as client:
        assert client.get("/v1/tree").status_code == 403
        assert client.get("/v1/files/hillhold.toml").status_code == 403
    with httpx.Client(base_url=url) as nobody:
        for path in ("/v1/tree", "/v1/files/hillhold.toml"):
            assert nobody.get(path).status_code == 401
        assert nobody.post("/v1/changes", json={}).status_code == 401
