"""API tokens: who may issue them, what they are worth, and what of them is kept."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256

import pytest
from sqlalchemy import Connection, event, select

from hillhold_signer.errors import StorageError
from hillhold_signer.log.events import Event, Kind
from hillhold_signer.service import accounts, tokens
from hillhold_signer.service.access import EVERY, ForbiddenRefused, NotFoundRefused, Role, UnauthenticatedRefused
from hillhold_signer.service.accounts import AccountRefused
from hillhold_signer.service.tables import TOKENS
from register import ADMINISTRATOR, DAY, NOW, SIGNER, SUBMITTER, Register

LONG = 365 * DAY


@pytest.fixture
def register() -> Iterator[Register]:
    found = Register()
    found.account("Ada", ADMINISTRATOR)
    found.account("Grace", SUBMITTER, SIGNER)
    found.account("ci", SUBMITTER, (Role.SUBMITTER, "ventilator"), machine=True)
    yield found
    found.close()


def reason(register: Register, text: str, now: int = NOW) -> str:
    with pytest.raises(UnauthenticatedRefused) as refused:
        tokens.check(register.connection, text, now)
    return refused.value.reason


# --- what a token is ------------------------------------------------------------------------------------------------------------------


def test_a_token_logs_its_account_in_with_its_scopes(register: Register) -> None:
    issued = register.issued("Grace", SIGNER)
    who = tokens.check(register.connection, issued.text, NOW)
    assert who.grants == {SIGNER}
    assert (who.name, who.machine) == ("Grace", False)
    assert (who.token, who.until) == (issued.token.id, NOW + 90 * DAY)


def test_the_database_holds_no_secret(register: Register) -> None:
    issued = register.issued("Grace")
    match = re.fullmatch("hh_([0-9a-f]{24})_([0-9a-f]{64})", issued.text)
    assert match
    row = register.connection.execute(select(TOKENS)).one()
    assert row.id == match[1]
    assert row.secret == sha256(bytes.fromhex(match[2])).hexdigest()
    kept = repr(row) + repr(issued) + repr(issued.token) + repr(issued.change)
    kept += repr(tokens.list_tokens(register.connection)) + repr(tokens.check(register.connection, issued.text, NOW))
    assert match[2] not in kept
    assert row.secret not in repr(issued) + repr(tokens.list_tokens(register.connection))
    Event(NOW, Kind.CONFIGURATION, "Ada", issued.change.fields).encode()


def test_real_randomness_makes_other_tokens_each_time(register: Register) -> None:
    register.random = secrets.token_bytes
    texts = [register.token("Grace") for _ in range(20)]
    parsed = [tokens.parse(text) for text in texts]
    assert len({identifier for identifier, _ in parsed}) == len({secret for _, secret in parsed}) == 20


def test_text_of_another_form_is_no_token(register: Register) -> None:
    text = register.token("Grace")
    wrong = [
        *("", "hh_", "hh__", text[:-1], text + "0", text + "\n", " " + text, text.upper(), text.replace("_", "-")),
        *(text.replace("hh_", "HH_"), "hh_" + "0" * 1_000_000, text + "\x00", text.replace("a", "а"), "hh_%_%"),
        text[:3] + "'" + text[4:],
    ]
    asked = []
    event.listen(register.engine, "before_cursor_execute", lambda *found: asked.append(found))
    for one in wrong:
        assert reason(register, one) == "a token of another form"
    assert not asked  # the database is not bothered with it


def test_an_unknown_id_and_a_wrong_secret_get_one_answer_after_the_same_work(register: Register) -> None:
    text = register.token("Grace")
    expired = register.token("Grace", lifetime=1)
    revoked = register.issued("Grace")
    tokens.revoke(register.connection, None, revoked.token.id, NOW)
    wrong = [text[:3] + "0" * 24 + text[27:], *(one[:28] + "0" * 64 for one in (text, expired, revoked.text))]
    said = []
    for one in wrong:
        statements: list[str] = []

        def listen(_: object, __: object, statement: str, *___: object, into: list[str] = statements) -> None:
            into.append(statement)

        event.listen(register.engine, "before_cursor_execute", listen)
        with pytest.raises(UnauthenticatedRefused) as refused:
            tokens.check(register.connection, one, NOW + 1)
        event.remove(register.engine, "before_cursor_execute", listen)
        said.append((str(refused.value), refused.value.hint, refused.value.reason, tuple(statements)))
    assert len(set(said)) == 1
    assert len(said[0][3]) == 1


@pytest.mark.parametrize("at", range(28, 92, 7))
def test_each_digit_of_the_secret_counts(register: Register, at: int) -> None:
    text = register.token("Grace")
    other = text[:at] + ("1" if text[at] == "0" else "0") + text[at + 1 :]
    assert reason(register, other) == "an unknown token"


def test_the_secret_of_one_token_opens_no_other(register: Register) -> None:
    one, other = register.token("Grace"), register.token("ci")
    assert reason(register, one[:28] + other[28:]) == "an unknown token"


# --- when it works no more ------------------------------------------------------------------------------------------------------------


def test_a_token_works_until_its_last_second(register: Register) -> None:
    text = register.token("Grace", lifetime=60)
    assert tokens.check(register.connection, text, NOW + 59).name == "Grace"
    assert "which expired" in reason(register, text, NOW + 60)


def test_a_revoked_token_is_dead_and_its_account_lives(register: Register) -> None:
    issued, other = register.issued("Grace"), register.token("Grace")
    grace = register.who("Grace")
    change = tokens.revoke(register.connection, grace, issued.token.id, NOW + 5)
    assert change.what == f"token {issued.token.id} of Grace: revoked"
    assert reason(register, issued.text) == f"the token {issued.token.id}, which was revoked"
    assert tokens.check(register.connection, other, NOW).name == "Grace"
    with pytest.raises(AccountRefused, match="not revoked"):
        tokens.revoke(register.connection, grace, issued.token.id, NOW + 6)
    assert tokens.list_tokens(register.connection, "Grace")[0].revoked in (None, NOW + 5)


def test_the_tokens_of_a_disabled_account_are_dead_at_once(register: Register) -> None:
    text = register.token("Grace")
    accounts.disable(register.connection, "Grace", now=NOW)
    assert "of a disabled account" in reason(register, text)
    with pytest.raises(AccountRefused, match="not disabled"):
        register.token("Grace")


def test_a_withdrawn_grant_counts_at_once_and_a_new_one_adds_nothing(register: Register) -> None:
    text = register.token("Grace", SIGNER)
    accounts.ungrant(register.connection, "Grace", *SIGNER)
    assert tokens.check(register.connection, text, NOW).grants == frozenset()
    accounts.grant(register.connection, "Grace", Role.ADMINISTRATOR, "pump")
    assert tokens.check(register.connection, text, NOW).grants == frozenset()
    accounts.grant(register.connection, "Grace", *SIGNER)
    assert tokens.check(register.connection, text, NOW).grants == {SIGNER}


# --- who may issue what ---------------------------------------------------------------------------------------------------------------


def test_nobody_issues_more_than_they_hold(register: Register) -> None:
    grace = register.who("Grace")
    for scope in ((Role.ADMINISTRATOR, "pump"), (Role.SIGNER, EVERY), (Role.SIGNER, "ventilator"), ADMINISTRATOR):
        with pytest.raises(ForbiddenRefused, match="scopes of a token"):
            register.token("Grace", SIGNER, scope, by=grace)
    narrow = tokens.check(register.connection, register.token("Grace", SIGNER), NOW)
    with pytest.raises(ForbiddenRefused, match="at most signer of pump"):  # though the account is granted it
        register.token("Grace", SUBMITTER, by=narrow)
    by_default = tokens.check(register.connection, register.token("Grace", by=narrow), NOW)
    assert by_default.grants == {SIGNER}
    assert len(tokens.list_tokens(register.connection)) == 2


def test_a_token_issues_none_that_outlives_it(register: Register) -> None:
    short = tokens.check(register.connection, register.token("Grace", lifetime=DAY), NOW)
    with pytest.raises(ForbiddenRefused, match="lifetime of a token") as refused:
        register.token("Grace", lifetime=DAY + 1, by=short)
    assert refused.value.hint
    register.token("Grace", lifetime=DAY, by=short)
    by_default = tokens.issue(register.connection, short, "Grace", label="x", now=NOW + 60, random=register.random)
    assert by_default.token.expires == NOW + DAY
    register.token("Grace", lifetime=LONG, by=register.who("Grace"))  # logged in otherwise


def test_an_administrator_issues_for_machines_and_for_no_other_person(register: Register) -> None:
    """With a token of Grace's, Ada could submit as Grace, and then be the second pair of eyes herself."""
    ada = register.who("Ada")
    text = register.token("ci", SUBMITTER, by=ada)
    assert tokens.check(register.connection, text, NOW).grants == {SUBMITTER}
    with pytest.raises(ForbiddenRefused, match="one for a machine, or for oneself"):
        register.token("Grace", by=ada)
    with pytest.raises(AccountRefused, match="what ci is granted"):
        register.token("ci", SIGNER, by=ada)
    register.token("Ada", by=ada)


def test_who_is_no_administrator_issues_for_nobody_else(register: Register) -> None:
    alan = register.account("Alan", (Role.ADMINISTRATOR, "pump"))  # of a line
    narrow = tokens.check(register.connection, register.token("Grace", SIGNER), NOW)
    auditing = register.account("Margaret", (Role.AUDITOR, EVERY))
    for who in (alan, narrow, auditing):
        for name in ("ci", "Ada"):
            with pytest.raises(ForbiddenRefused):
                register.token(name, by=who)


def test_a_machine_issues_none(register: Register) -> None:
    with pytest.raises(ForbiddenRefused, match="a machine"):
        register.token("ci", by=register.who("ci"))


@pytest.mark.parametrize("lifetime", [0, -1, LONG + 1, 2**63])
def test_every_token_expires_within_a_year(register: Register, lifetime: int) -> None:
    with pytest.raises(AccountRefused, match="lifetime"):
        register.token("Grace", lifetime=lifetime)


@pytest.mark.parametrize("label", ["", "x" * 81, "a\nb", "\x1b[2J", "\u202e", "\ud800"])
def test_a_label_that_moves_a_cursor_is_refused(register: Register, label: str) -> None:
    with pytest.raises(AccountRefused, match="label"):
        tokens.issue(register.connection, None, "Grace", label=label, now=NOW, random=register.random)


def test_an_account_that_may_do_nothing_gets_no_token(register: Register) -> None:
    register.account("Alan")
    with pytest.raises(AccountRefused, match="at least one"):
        register.token("Alan")
    with pytest.raises(NotFoundRefused):
        register.token("Margaret")


def test_an_account_has_so_many_living_tokens_and_no_more(register: Register) -> None:
    first = register.issued("Grace")
    for _ in range(tokens.MAX_TOKENS - 1):
        register.token("Grace", lifetime=60)
    with pytest.raises(AccountRefused, match="at most 100"):
        register.token("Grace")
    register.token("ci")
    tokens.revoke(register.connection, None, first.token.id, NOW)
    register.token("Grace")


# --- the list -------------------------------------------------------------------------------------------------------------------------


def test_somebody_elses_token_is_not_there_unless_for_an_administrator(register: Register) -> None:
    issued = register.issued("Grace")
    unheld = [issued.token.id, "0" * 24, "", "x" * 10_000, "\x00", "%" * 24]
    said = set()
    for one in unheld:
        with pytest.raises(NotFoundRefused) as refused:
            tokens.revoke(register.connection, register.who("ci"), one, NOW)
        said.add(str(refused.value).partition(" got ")[0])
    assert len(said) == 1
    assert tokens.check(register.connection, issued.text, NOW).grants
    tokens.revoke(register.connection, register.who("Ada"), issued.token.id, NOW)
    assert "revoked" in reason(register, issued.text)


def test_a_list_is_of_one_account_or_of_all(register: Register) -> None:
    register.token("Grace", SIGNER)
    register.token("ci")
    assert {one.account for one in tokens.list_tokens(register.connection)} == {"Grace", "ci"}
    (one,) = tokens.list_tokens(register.connection, "Grace")
    assert one.describe() == {
        "id": one.id,
        "account": "Grace",
        "label": "CI",
        "scopes": [["signer", "pump"]],
        "time": NOW,
        "expires": NOW + 90 * DAY,
        "revoked": None,
        "used": None,
    }


def test_last_use_is_written_once_an_hour(register: Register) -> None:
    issued = register.issued("Grace")

    def used() -> int | None:
        return tokens.list_tokens(register.connection, "Grace")[0].used

    for at, then in ((0, 0), (3599, 0), (3600, 3600), (3600, 3600)):
        tokens.touch(register.connection, issued.token.id, NOW + at)
        assert used() == NOW + then
    tokens.touch(register.connection, "0" * 24, NOW)  # it was deleted meanwhile, say


def test_uses_are_written_together_and_none_is_lost_when_the_database_is_away(register: Register) -> None:
    one, other = register.issued("Grace").token.id, register.issued("ci").token.id
    uses = tokens.Uses()

    def used() -> dict[str, int | None]:
        return {token.id: token.used for token in tokens.list_tokens(register.connection)}

    @contextmanager
    def broken() -> Iterator[Connection]:
        yield register.connection
        uses.note(other, NOW + 9)  # meanwhile
        raise StorageError("the database is away")

    uses.note(one, NOW + 1)
    uses.note(one, NOW + 5)
    uses.note(other, NOW + 7)
    register.connection.commit()
    with pytest.raises(StorageError):
        uses.write(broken)
    register.connection.rollback()
    assert used() == {one: None, other: None}
    uses.write(register.connect)
    assert used() == {one: NOW + 5, other: NOW + 9}
    uses.write(broken)  # there is nothing to write
