"""An administrator who wants to be two people: whoever gave an account its means counts with it, and nobody stands behind a draft and all
of its signatures.

Ada administers everything, and holds a key of a line for which one signature is enough.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from approver import hand_in, made
from command import hillhold
from hillhold_signer import add_product, example_signer
from hillhold_signer.service import accounts, tokens
from hillhold_signer.service.access import EVERY, Role
from hillhold_signer.service.tables import APPROVALS
from papers import Ca
from servicekit import KEYS, Kit, make_kit, sign, states, submit, until
from workshop import image, online, pump, sign_all, team

pytestmark = pytest.mark.slow

ADMINISTRATOR = (Role.ADMINISTRATOR, EVERY)
ADA, GRACE, ALAN = "release-1", "release-2", "targets-3"


class Ward:
    """A service with the line `vent`: any of Ada, Grace and Alan may sign for it, Alan's key is nobody's yet."""

    def __init__(self, kit: Kit, url: str, folder: Path) -> None:
        self.kit, self.url, self._ca = kit, url, Ca(folder, "ca", int(time.time()))
        self._clients: list[httpx.Client] = []
        self.ada, self.grace, self.boss = (self.client(kit.tokens[name]) for name in ("ada", "grace", "boss"))

    def client(self, token: str | None = None, certificate: bytes | None = None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if certificate:
            headers["Client-Cert"] = f":{base64.b64encode(certificate).decode()}:"
        self._clients.append(httpx.Client(base_url=self.url, headers=headers, timeout=60))
        return self._clients[-1]

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def account(self, by: httpx.Client, name: str, *grants: tuple[Role, str], machine: bool = False) -> None:
        done(by.post("/v1/accounts", json={"name": name, "machine": machine}))
        for role, line in grants:
            done(by.put(f"/v1/accounts/{name}/grants/{role}/{line}"))

    def machine(self, by: httpx.Client, name: str = "robot") -> httpx.Client:
        """A machine that submits, with a token that somebody issued."""
        self.account(by, name, (Role.SUBMITTER, "vent"), machine=True)
        return self.client(self.token(by, name)["token"])

    def token(self, by: httpx.Client, name: str | None = None) -> dict[str, str]:
        answer = done(by.post("/v1/tokens", json={"label": "x", **({"account": name} if name else {})}))
        found: dict[str, str] = answer.json()
        return found

    def become(self, by: httpx.Client, name: str) -> tuple[httpx.Client, dict[str, object]]:
        """A login of somebody by a certificate of one's own; and what to send so that it ends."""
        paper = self._ca.issue(name)
        identity = {"issuer": "x509", "subject": f"sha256={sha256(paper.der).hexdigest()}"}
        done(by.post(f"/v1/accounts/{name}/identities", json=identity))
        return self.client(certificate=paper.der), {**identity, "held": False}

    def note(self, by: httpx.Client | None, name: str, key: str, *, anew: str | None = None) -> None:
        """Say that somebody holds a key (`anew`: which `anew` held); the operator does (None), or an administrator."""
        keyid = example_signer(key).public_key.keyid
        if by is not None:
            if anew:
                done(by.delete(f"/v1/accounts/{anew}/keys/{keyid}"))
            done(by.put(f"/v1/accounts/{name}/keys/{keyid}"))
            return
        with self.kit.data.writing() as unit:
            if anew:
                accounts.remove_key(unit.connection, anew, keyid)
            accounts.add_key(unit.connection, None, name, keyid)

    def waits(self) -> str:
        """Why the line's draft is not published, although it has its signatures."""
        said = self.boss.post("/v1/publications", json={}).json()
        assert said["published"] == {}
        assert states(self.boss, "vent") == {"1.0.0": "drafted"}
        role = self.boss.get("/v1/status").json()["roles"]["vent"]
        assert (role["complete"], role["four_eyes"]) == (True, False)
        found: str = said["waiting"]["vent"]
        assert found == f"four eyes are wanting: {'; '.join(role['four_eyes_why'])}"
        return found

    def published(self) -> None:
        until(lambda: states(self.boss, "vent") == {"1.0.0": "available"})


def done(answer: httpx.Response) -> httpx.Response:
    assert answer.is_success, answer.text
    return answer


def drafted(client: httpx.Client) -> None:
    assert submit(client, image("1.0.0"), "vent").status_code == 201


def signed(client: httpx.Client, *keys: str) -> None:
    for key in keys:
        assert sign(client, key, "vent").status_code == 200


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    kit = make_kit(tmp_path / "service")
    with kit.data.writing() as unit:
        line = replace(pump(), name="vent", team=team(ADA, GRACE, ALAN, threshold=1))
        add_product(unit.repository, line, unit.now)
        sign_all(unit.repository, "targets-1", "targets-2", ADA)
        unit.repository.publish(online(), unit.now)
        for name in ("ada", "grace"):
            for role in (Role.SIGNER, Role.SUBMITTER):
                accounts.grant(unit.connection, name, role, "vent")
        accounts.grant(unit.connection, "ada", *ADMINISTRATOR)
        accounts.grant(unit.connection, "boss", Role.SIGNER, "vent")
        for name in ("ada", "grace", "boss"):  # one has all that is granted now
            issued = tokens.issue(
                unit.connection,
                None,
                name,
                label="all",
                now=unit.now,
                random=lambda n, seed=name: sha256(seed.encode()).digest()[:n],  # type: ignore[misc]
            )
            kit.tokens[name] = issued.text
    kit.account("alan", (Role.SIGNER, "vent"), (Role.SUBMITTER, "vent"))
    kit.settings = replace(kit.settings, proxies=("127.0.0.1",))
    with kit.running() as url:
        found = Ward(kit, url, tmp_path)
        yield found
        found.close()
    kit.data.database.close()


# --- somebody else drafts, who is oneself -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("then", [(), ("revoke",), ("disable",), ("revoke", "disable", "another")])
def test_a_machine_is_not_somebody_else_than_who_gave_it_its_token(ward: Ward, then: Sequence[str]) -> None:
    ward.account(ward.ada, "robot", (Role.SUBMITTER, "vent"), machine=True)
    token = ward.token(ward.ada, "robot")
    drafted(ward.client(token["token"]))
    if "another" in then:  # which the operator issued
        with ward.kit.data.writing() as unit:
            tokens.issue(unit.connection, None, "robot", label="y", now=unit.now, random=lambda n: b"y" * n)
    if "revoke" in then:
        done(ward.ada.delete(f"/v1/tokens/{token['id']}"))
    if "disable" in then:
        done(ward.ada.post("/v1/accounts/robot/disable"))
    signed(ward.ada, ADA)
    assert "ada let robot in, who drafted this: somebody else has to sign, too" in ward.waits()
    signed(ward.grace, GRACE)
    ward.published()


def test_a_machine_by_a_certificate_is_not_somebody_else_either(ward: Ward) -> None:
    """The identity is one of CI's own account, whose token the operator issued."""
    robot, end = ward.become(ward.ada, "ci")
    drafted(robot)
    done(ward.ada.post("/v1/accounts/ci/identities", json=end))
    signed(ward.ada, ADA)
    assert "ada let ci in" in ward.waits()


def test_an_administrator_of_one_s_own_makes_nobody_else(ward: Ward) -> None:
    """Ada makes Eve, an administrator, who makes Zoe, an administrator, who gives a machine its token: Ada stands behind all of them."""
    by = ward.ada
    for name in ("eve", "zoe"):
        ward.account(by, name, ADMINISTRATOR)
        login, end = ward.become(by, name)
        own = ward.client(ward.token(login)["token"])  # a token of their own, which outlives the certificate
        done(by.post(f"/v1/accounts/{name}/identities", json=end))
        by = own
    robot = ward.machine(by)
    for name in ("eve", "zoe"):
        done(ward.ada.post(f"/v1/accounts/{name}/disable"))
    drafted(robot)
    signed(ward.ada, ADA)
    assert "ada let robot in" in ward.waits()
    signed(ward.grace, GRACE)
    ward.published()


@pytest.mark.parametrize("by_token", [False, True])
def test_who_logs_in_as_another_person_is_not_that_person(ward: Ward, *, by_token: bool) -> None:
    grace, end = ward.become(ward.ada, "grace")
    if by_token:
        grace = ward.client(ward.token(grace)["token"])
        done(ward.ada.post("/v1/accounts/grace/identities", json=end))
    drafted(grace)
    signed(ward.ada, ADA)
    assert "ada let grace in, who drafted this" in ward.waits()


def test_one_s_own_change_is_not_hidden_in_somebody_else_s(ward: Ward) -> None:
    """Ada's machine submits, and Grace another release: Ada stands behind a part."""
    drafted(ward.machine(ward.ada))
    assert submit(ward.grace, image("1.1.0"), "vent").status_code == 201
    signed(ward.ada, ADA)
    assert ward.boss.get("/v1/status").json()["roles"]["vent"]["four_eyes"] is False


# --- somebody else signs, who is oneself --------------------------------------------------------------------------------------------


def test_a_key_that_the_drafter_noted_as_another_s_brings_no_other_eyes(ward: Ward) -> None:
    drafted(ward.ada)
    ward.note(ward.ada, "alan", ALAN)
    signed(ward.ada, ALAN)
    said = ward.waits()
    assert "alan's key was noted by ada, who drafted this: let another administrator or the operator note it" in said
    assert "alan's signature was handed in by ada, who drafted this: let alan hand it in, too" in said
    ward.note(ward.boss, "alan", ALAN, anew="alan")
    assert "noted by" not in ward.waits()
    signed(ward.client(ward.kit.tokens["alan"]), ALAN)
    ward.published()


def test_one_s_own_key_under_another_name_is_one_s_own(ward: Ward) -> None:
    drafted(ward.ada)
    ward.note(ward.ada, "grace", ADA, anew="ada")
    grace, _ = ward.become(ward.ada, "grace")
    signed(grace, ADA)
    said = ward.waits()
    assert "grace's key was noted by ada" in said
    assert "handed in by a login that goes back to ada, who drafted this: let grace do so by a login of the" in said


def test_a_key_is_not_laundered_by_taking_it_away_and_noting_it_anew(ward: Ward) -> None:
    drafted(ward.ada)
    ward.note(ward.ada, "grace", GRACE, anew="grace")
    signed(ward.grace, GRACE)
    assert "grace's key was noted by ada" in ward.waits()
    ward.note(None, "grace", GRACE, anew="grace")
    ward.published()


def test_an_administrator_of_one_s_own_notes_keys_as_oneself(ward: Ward) -> None:
    ward.account(ward.ada, "eve", ADMINISTRATOR)
    eve, end = ward.become(ward.ada, "eve")
    ward.note(eve, "grace", GRACE, anew="grace")
    done(ward.ada.post("/v1/accounts/eve/identities", json=end))
    done(ward.ada.post("/v1/accounts/eve/disable"))
    drafted(ward.ada)
    signed(ward.grace, GRACE)
    assert "grace's key was noted by ada" in ward.waits()


@pytest.mark.parametrize("keys", [(ALAN,), (ADA, ALAN)])
def test_a_second_person_of_one_s_own_is_not_a_second_person(ward: Ward, keys: Sequence[str]) -> None:
    ward.account(ward.ada, "eve", (Role.SIGNER, "vent"), (Role.SUBMITTER, "vent"))
    ward.note(ward.ada, "eve", ALAN)
    eve, _ = ward.become(ward.ada, "eve")
    drafted(eve)
    for key in keys:
        signed(ward.ada if key == ADA else eve, key)
    assert ("ada let eve in, who drafted this" if ADA in keys else "eve drafted this") in ward.waits()
    signed(ward.grace, GRACE)
    ward.published()


def test_two_who_drafted_and_signed_are_one_where_one_noted_the_other_s_key(ward: Ward) -> None:
    drafted(ward.ada)
    assert submit(ward.grace, image("1.1.0"), "vent").status_code == 201
    ward.note(ward.ada, "grace", GRACE, anew="grace")
    signed(ward.ada, ADA)
    signed(ward.grace, GRACE)
    role = ward.boss.get("/v1/status").json()["roles"]["vent"]
    assert role["four_eyes"] is False
    assert "ada drafted this: somebody else has to sign, too" in role["four_eyes_why"]
    ward.note(ward.boss, "grace", GRACE, anew="grace")
    until(lambda: states(ward.boss, "vent") == {"1.0.0": "available", "1.1.0": "available"})


def test_a_stolen_key_needs_an_account_that_the_thief_did_not_make(ward: Ward) -> None:
    """Ada has Grace's key, too, and hands in by a login as Grace; what Grace then hands in herself counts, however often Ada does again."""
    drafted(ward.ada)
    as_grace, _ = ward.become(ward.ada, "grace")
    signed(ward.ada, GRACE)
    assert "let grace hand it in, too" in ward.waits()
    signed(as_grace, GRACE)
    assert "handed in by" in ward.waits()
    with ward.kit.data.reading() as unit:
        assert len(unit.connection.execute(select(APPROVALS)).all()) == 2
    taken = made(ward.grace, GRACE, "vent")
    assert hand_in(ward.grace, taken).json()["attached"][0]["repeated"] is True
    assert hand_in(as_grace, taken).status_code == 200
    ward.published()


def test_who_handed_in_a_signature_on_an_older_draft_has_not_handed_in_one_on_this(ward: Ward) -> None:
    ward.note(ward.ada, "grace", GRACE, anew="grace")
    drafted(ward.ada)
    signed(ward.grace, GRACE)
    ward.waits()
    assert submit(ward.ada, image("1.1.0"), "vent").status_code == 201
    ward.note(ward.boss, "grace", GRACE, anew="grace")
    signed(ward.ada, GRACE)
    role = ward.boss.get("/v1/status").json()["roles"]["vent"]
    assert [role["complete"], role["four_eyes"]] == [True, False]
    assert "grace's signature was handed in by ada" in role["four_eyes_why"][0]


@pytest.mark.parametrize("word", ["sign", "attach"])
def test_what_the_drafter_has_handed_in_its_holder_hands_in_by_a_command(
    ward: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    drafted(ward.ada)
    signed(ward.ada, GRACE)
    file = tmp_path / "grace.signature"
    file.write_text(json.dumps(made(ward.grace, GRACE, "vent"), sort_keys=True, separators=(",", ":")))
    ward.waits()
    monkeypatch.setenv("HILLHOLD_SERVICE", ward.url)
    monkeypatch.setenv("HILLHOLD_TOKEN", ward.kit.tokens["grace"])
    key = f"file2:{KEYS / f'{GRACE}-public-on-purpose.pem'}"
    said = hillhold("sign", "--key", key, "--yes") if word == "sign" else hillhold("attach", file)
    assert "already" in said.stdout, said.output
    ward.published()


def test_a_disabled_holder_s_signature_counts_for_nobody(ward: Ward) -> None:
    drafted(ward.ada)
    done(ward.boss.post("/v1/accounts/grace/disable"))
    signed(ward.boss, GRACE)
    keyid = example_signer(GRACE).public_key.keyid
    assert f"the key {keyid[:16]} is nobody's who could log in" in ward.waits()


# --- what a team does ---------------------------------------------------------------------------------------------------------------


def test_who_gave_a_machine_nothing_may_sign_alone_what_it_submits(ward: Ward) -> None:
    """Of the operator, or of an administrator who does not sign."""
    drafted(ward.machine(ward.boss))
    signed(ward.ada, ADA)
    ward.published()


def test_an_administrator_who_drafts_nothing_may_note_every_key(ward: Ward) -> None:
    """Ada and Grace drafted, both sign: somebody else has seen what each of them made."""
    for name, key in (("ada", ADA), ("grace", GRACE)):
        ward.note(ward.boss, name, key, anew=name)
    drafted(ward.ada)
    assert submit(ward.grace, image("1.1.0"), "vent").status_code == 201
    signed(ward.grace, GRACE)
    assert ward.boss.get("/v1/status").json()["roles"]["vent"]["four_eyes"] is False
    signed(ward.ada, ADA)
    until(lambda: states(ward.boss, "vent") == {"1.0.0": "available", "1.1.0": "available"})


def test_a_signature_may_be_handed_in_by_anybody_who_stands_behind_nothing(ward: Ward) -> None:
    drafted(ward.ada)
    signed(ward.boss, GRACE)
    ward.published()


def test_one_s_own_signature_is_one_s_own_whoever_hands_it_in(ward: Ward) -> None:
    drafted(ward.ada)
    signed(ward.grace, ADA)
    assert "ada drafted this: somebody else has to sign, too" in ward.waits()


def test_a_token_of_one_s_own_is_one_s_own(ward: Ward) -> None:
    drafted(ward.client(ward.token(ward.ada)["token"]))
    signed(ward.client(ward.token(ward.grace)["token"]), GRACE)
    ward.published()
