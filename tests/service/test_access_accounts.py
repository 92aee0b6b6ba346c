"""Accounts: what they may do, and what may not be done to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256

import pytest

from hillhold_signer.errors import SignerRefused
from hillhold_signer.log.events import Event, Kind
from hillhold_signer.service import accounts, identities, tokens
from hillhold_signer.service.access import (
    EVERY,
    ForbiddenRefused,
    NotFoundRefused,
    Role,
    UnauthenticatedRefused,
    may_read,
    require,
    require_read,
    shown,
    within,
)
from hillhold_signer.service.accounts import AccountRefused
from hillhold_verifier import canonical
from register import ADMINISTRATOR, NOW, SIGNER, SUBMITTER, Register

KEY, OTHER_KEY = "a" * 64, "b" * 64
GITHUB = "https://token.actions.githubusercontent.com"


@pytest.fixture
def register() -> Iterator[Register]:
    found = Register()
    found.account("Ada", ADMINISTRATOR)
    yield found
    found.close()


# --- roles ----------------------------------------------------------------------------------------------------------------------------


def test_a_role_on_one_line_is_none_on_another(register: Register) -> None:
    grace = register.account("Grace", SUBMITTER)
    require(grace, Role.SUBMITTER, "pump")
    for line in ("ventilator", "pum", "pumpp", "Pump", "", EVERY, "pump/1.0.0", "pump "):
        with pytest.raises(ForbiddenRefused):
            require(grace, Role.SUBMITTER, line)
        assert not may_read(grace, line)


def test_no_role_holds_another(register: Register) -> None:
    for role in Role:
        who = register.account(f"holds {role}", (role, EVERY))
        assert [other for other in Role if who.holds(other, "pump")] == [role]


def test_a_role_on_all_lines_is_one_on_each_and_on_what_belongs_to_none(register: Register) -> None:
    ada = register.who("Ada")
    for line in ("pump", "ventilator", EVERY):
        require(ada, Role.ADMINISTRATOR, line)
        require_read(ada, line)


@pytest.mark.parametrize("role", list(Role))
def test_whoever_has_any_role_on_a_line_reads_it_and_no_other(register: Register, role: Role) -> None:
    who = register.account("Grace", (role, "pump"))
    require_read(who, "pump")
    for line in ("ventilator", EVERY):
        with pytest.raises(ForbiddenRefused, match="any role on"):
            require_read(who, line)


def test_a_refusal_says_what_is_needed_and_shows_nothing_that_moves_a_cursor(register: Register) -> None:
    with pytest.raises(ForbiddenRefused) as refused:
        require(register.account("Grace", SUBMITTER), Role.SIGNER, "pump\x1b[2J\n" + "x" * 10_000)
    text = str(refused.value)
    assert text.isprintable()
    assert len(text) < 600
    assert "got Grace: submitter of pump" in text
    assert refused.value.hint
    assert refused.value.exit_code == 1


def test_scopes_give_at_most_what_is_granted_now() -> None:
    every = (Role.SUBMITTER, EVERY)
    other = (Role.SUBMITTER, "ventilator")
    assert within([every], frozenset({SUBMITTER, SIGNER})) == {SUBMITTER}
    assert within([SUBMITTER], frozenset({every})) == {SUBMITTER}
    assert within([every], frozenset({every})) == {every}
    assert within([SUBMITTER, SIGNER], frozenset({other})) == frozenset()


def test_text_of_others_is_cut_and_shown_as_ascii() -> None:
    assert shown("a\x00b\u202ec\ud800") == "a?b?c?"
    assert shown("x" * 100) == "x" * 80 + "..."


# --- accounts -------------------------------------------------------------------------------------------------------------------------


def test_each_change_can_be_recorded_and_names_what_is_so_now(register: Register) -> None:
    connection = register.connection
    changes = [
        accounts.create(connection, "Grace", machine=False, now=NOW),
        accounts.grant(connection, "Grace", Role.SIGNER, "pump"),
        accounts.add_key(connection, None, "Grace", KEY),
        identities.add_identity(connection, None, "Grace", "https://login.example", "sub=7"),
        identities.remove_identity(connection, "Grace", "https://login.example", "sub=7"),
        accounts.ungrant(connection, "Grace", Role.SIGNER, "pump"),
        accounts.remove_key(connection, "Grace", KEY),
        accounts.disable(connection, "Grace", now=NOW + 1),
    ]
    assert len({change.sha256 for change in changes}) == len(changes) - 2  # two of them lead back to what was
    for change in changes:
        Event(NOW, Kind.CONFIGURATION, "Ada", change.fields).encode()
        assert change.what.startswith("account Grace: ")
    described = accounts.find(connection, "Grace").describe()
    assert changes[-1].sha256 == sha256(canonical.canonical(described)).hexdigest()
    assert described["disabled"] == NOW + 1


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", " Ada", "Ada ", "a/b", "..", ".", "x" * 81, "Ada\n", "\x1b[2J", "A\x00", "A\u202eda", "A\u200bda"),
        *("\ud800", "\ufb01", "service", "Operator", "anonymous", "ADA", "ada", "A\u0301"),
    ],
)
def test_a_name_that_people_could_take_for_another_or_that_moves_a_cursor_is_refused(
    register: Register, name: str
) -> None:
    before = accounts.list_accounts(register.connection)
    with pytest.raises(AccountRefused) as refused:
        accounts.create(register.connection, name, machine=False, now=NOW)
    assert str(refused.value).isprintable()
    assert accounts.list_accounts(register.connection) == before


@pytest.mark.parametrize("name", ["Grace Hopper", "Zoë", "李", "o'brien", "x" * 80, "'; DROP TABLE accounts; --"])
def test_names_of_all_people_are_taken(register: Register, name: str) -> None:
    accounts.create(register.connection, name, machine=False, now=NOW)
    assert accounts.find(register.connection, name).name == name
    assert len(accounts.list_accounts(register.connection)) == 2


def test_the_name_of_a_disabled_account_is_nobody_elses(register: Register) -> None:
    register.account("Grace")
    accounts.disable(register.connection, "Grace", now=NOW)
    with pytest.raises(AccountRefused, match="takes for that of Grace"):
        register.account("grace")


@pytest.mark.parametrize("name", ["Margaret", "", "x" * 10_000, "\x00", "\ud800"])
def test_an_unknown_account_is_not_found(register: Register, name: str) -> None:
    with pytest.raises(NotFoundRefused):
        accounts.grant(register.connection, name, Role.SIGNER, "pump")


def test_the_last_administrator_stays(register: Register) -> None:
    connection = register.connection
    register.account("Alan", (Role.ADMINISTRATOR, "pump"))  # of a line is not enough
    ways: list[Callable[[], object]] = [
        lambda: accounts.disable(connection, "Ada", now=NOW),
        lambda: accounts.ungrant(connection, "Ada", *ADMINISTRATOR),
    ]
    for take in ways:
        with pytest.raises(AccountRefused, match="the last one"):
            take()
        assert register.who("Ada").holds(*ADMINISTRATOR)
    register.account("Grace", ADMINISTRATOR)
    accounts.disable(connection, "Grace", now=NOW)
    with pytest.raises(AccountRefused, match="the last one"):  # a disabled one is none
        accounts.disable(connection, "Ada", now=NOW)
    register.account("Margaret", ADMINISTRATOR)
    accounts.ungrant(connection, "Ada", *ADMINISTRATOR)
    accounts.disable(connection, "Ada", now=NOW)
    with pytest.raises(AccountRefused, match="the last one"):
        accounts.ungrant(connection, "Margaret", *ADMINISTRATOR)
    accounts.ungrant(connection, "Grace", *ADMINISTRATOR)  # who is disabled holds nothing up


def test_a_machine_does_not_administer_the_service(register: Register) -> None:
    register.account("ci", (Role.ADMINISTRATOR, "pump"), machine=True)
    with pytest.raises(AccountRefused, match="expected a person"):
        accounts.grant(register.connection, "ci", *ADMINISTRATOR)


@pytest.mark.parametrize("line", ["", "Pump", "pump/1", "../pump", "**", "pump*", "x" * 81, "p\x00"])
def test_a_grant_on_what_is_no_line_is_refused(register: Register, line: str) -> None:
    with pytest.raises(SignerRefused, match="product line"):
        accounts.grant(register.connection, "Ada", Role.SIGNER, line)
    assert register.who("Ada").grants == {ADMINISTRATOR}


def test_a_grant_twice_and_one_that_is_not_there_are_refused(register: Register) -> None:
    with pytest.raises(AccountRefused, match="one that it has not"):
        accounts.grant(register.connection, "Ada", *ADMINISTRATOR)
    with pytest.raises(AccountRefused, match="one that it has, got signer of pump"):
        accounts.ungrant(register.connection, "Ada", *SIGNER)


def test_a_key_is_one_persons(register: Register) -> None:
    connection = register.connection
    register.account("Grace")
    register.account("ci", machine=True)
    accounts.add_key(connection, None, "Ada", KEY)
    accounts.add_key(connection, None, "Ada", OTHER_KEY)
    for name in ("Grace", "Ada"):
        with pytest.raises(AccountRefused, match="a key of Ada"):
            accounts.add_key(connection, None, name, KEY)
    with pytest.raises(AccountRefused, match="expected a person"):
        accounts.add_key(connection, None, "ci", "c" * 64)
    for keyid in ("A" * 64, "a" * 63, "a" * 65, "", "g" * 64, "a" * 64 + "\n"):
        with pytest.raises(AccountRefused, match="hexadecimal"):
            accounts.add_key(connection, None, "Grace", keyid)
    assert accounts.holder(connection, KEY) == "Ada"
    with pytest.raises(AccountRefused):
        accounts.remove_key(connection, "Grace", KEY)
    assert accounts.find(connection, "Ada").keys == (KEY, OTHER_KEY)


def test_a_disabled_account_keeps_its_keys_and_takes_nothing_new(register: Register) -> None:
    connection = register.connection
    register.account("Grace", SIGNER)
    accounts.add_key(connection, None, "Grace", KEY)
    accounts.disable(connection, "Grace", now=NOW)
    assert accounts.holder(connection, KEY) == "Grace"
    assert accounts.principal(connection, accounts.find(connection, "Grace").id, ()) is None
    changes: list[Callable[[], object]] = [
        lambda: accounts.disable(connection, "Grace", now=NOW),
        lambda: accounts.grant(connection, "Grace", Role.SIGNER, EVERY),
        lambda: accounts.add_key(connection, None, "Grace", OTHER_KEY),
        lambda: identities.add_identity(connection, None, "Grace", GITHUB, "sub=1"),
    ]
    for change in changes:
        with pytest.raises(AccountRefused, match="not disabled"):
            change()


def test_a_list_has_each_account_with_its_own(register: Register) -> None:
    connection = register.connection
    register.account("Grace", SIGNER, SUBMITTER)
    accounts.add_key(connection, None, "Grace", KEY)
    register.account("ci", SUBMITTER, machine=True)
    identities.add_identity(connection, None, "ci", GITHUB, "repository=acme/pump")
    listed = accounts.list_accounts(connection)
    assert listed == [accounts.find(connection, name) for name in ("Ada", "Grace", "ci")]
    assert [one.grants for one in listed] == [{ADMINISTRATOR}, {SIGNER, SUBMITTER}, {SUBMITTER}]
    assert [one.keys for one in listed] == [(), (KEY,), ()]
    assert [one.identities for one in listed] == [(), (), ((GITHUB, "repository=acme/pump"),)]


# --- identities -----------------------------------------------------------------------------------------------------------------------


def test_an_identity_stands_for_its_account_only_if_all_its_conditions_hold(register: Register) -> None:
    connection = register.connection
    register.account("ci", SUBMITTER, machine=True)
    identities.add_identity(connection, None, "ci", GITHUB, "repository=acme/pump & ref=refs/tags/v*")
    claims = {"repository": "acme/pump", "ref": "refs/tags/v1.2.0", "sub": "whoever"}
    assert identities.check(connection, GITHUB, claims).name == "ci"
    for wrong in (
        {"repository": "acme/pump2"},
        {"repository": "evil/acme/pump"},
        {"repository": "acme/pump & ref=refs/tags/v1"},
        {"repository": "Acme/pump"},
        {"ref": "refs/heads/main"},
        {"ref": "refs/tags/v"},
        {"ref": "refs/tags/v1/../../heads/main"},
        {"ref": "refs/tags/v*/x"},
        {"ref": ""},
    ):
        with pytest.raises(UnauthenticatedRefused, match="no account"):
            identities.check(connection, GITHUB, {**claims, **wrong})
    for missing in ("repository", "ref"):
        with pytest.raises(UnauthenticatedRefused, match="no account"):
            identities.check(connection, GITHUB, {name: value for name, value in claims.items() if name != missing})
    with pytest.raises(UnauthenticatedRefused, match="no account"):
        identities.check(connection, "https://gitlab.example", claims)


def test_whoever_gave_an_identity_stands_behind_who_logs_in_by_it(register: Register) -> None:
    connection, ada = register.connection, register.who("Ada")
    grace, alan = (register.account(name, ADMINISTRATOR) for name in ("Grace", "Alan"))
    register.account("ci", SUBMITTER, machine=True)
    identities.add_identity(connection, None, "ci", GITHUB, "sub=1")
    identities.add_identity(connection, ada, "ci", GITHUB, "sub=2")
    identities.add_identity(connection, grace, "ci", GITHUB, "sub=2 & ref=x")
    ci = accounts.find(connection, "ci").id
    for claims, givers in (({"sub": "1"}, ()), ({"sub": "2"}, (ada,)), ({"sub": "2", "ref": "x"}, (ada, grace))):
        who = identities.check(connection, GITHUB, claims)
        assert who.behind == {ci, *(giver.account_id for giver in givers)}
    made = replace(alan, behind=alan.behind | ada.behind)  # Alan logged in by what Ada gave
    token = register.token("ci", by=made)
    assert tokens.check(connection, token, NOW).behind == {ci, alan.account_id, ada.account_id}
    assert accounts.principal(connection, ci, made.behind) == replace(who, behind=frozenset({ci}) | made.behind)


def test_what_stands_for_two_accounts_stands_for_none(register: Register) -> None:
    connection = register.connection
    for name, subject in (("ci", "repository=acme/pump"), ("nightly", "repository=acme/pump & ref=refs/heads/main")):
        register.account(name, SUBMITTER, machine=True)
        identities.add_identity(connection, None, name, GITHUB, subject)
    tag = {"repository": "acme/pump", "ref": "refs/tags/v1"}
    assert identities.check(connection, GITHUB, tag).name == "ci"
    with pytest.raises(UnauthenticatedRefused, match="more than one account"):
        identities.check(connection, GITHUB, {**tag, "ref": "refs/heads/main"})


def test_an_identity_is_one_accounts_however_it_is_written(register: Register) -> None:
    connection = register.connection
    register.account("Grace")
    identities.add_identity(connection, None, "Ada", GITHUB, "sub=1 & ref=x")
    with pytest.raises(AccountRefused, match="one of Ada"):
        identities.add_identity(connection, None, "Grace", GITHUB, "ref=x & sub=1")
    identities.add_identity(connection, None, "Ada", "https://login.example", "email=Ada@Example.org")
    assert identities.check(connection, "https://login.example", {"email": "ada@example.org"}).name == "Ada"
    with pytest.raises(AccountRefused, match="one that it has"):
        identities.remove_identity(connection, "Grace", GITHUB, "ref=x & sub=1")


def test_the_identity_of_a_disabled_account_is_dead_at_once(register: Register) -> None:
    connection = register.connection
    register.account("Grace")
    identities.add_identity(connection, None, "Grace", GITHUB, "sub=1")
    accounts.disable(connection, "Grace", now=NOW)
    with pytest.raises(UnauthenticatedRefused, match="disabled"):
        identities.check(connection, GITHUB, {"sub": "1"})
    identities.remove_identity(connection, "Grace", GITHUB, "sub=1")
    identities.add_identity(connection, None, "Ada", GITHUB, "sub=1")  # whoever comes back has another account


@pytest.mark.parametrize(
    "subject",
    [
        *("", "sub", "sub=", "=1", "sub=*", "ref=refs/heads/main", "ref_protected=true", "repository=acme/*"),
        *("sub=1 & sub=2", "sub=1&ref=x", "sub=1 & aud=x", "sub=1 & iss=x", "sub=1 & ", "sub=a*b", "sub=1 ", " sub=1"),
        *("sub=1\n", "sub=\x1b", "sub=é", "sub=" + "x" * 252, "sub=1 & ref=*", "email=*@acme.example"),
    ],
)
def test_conditions_that_are_malformed_or_name_nobody_are_refused(register: Register, subject: str) -> None:
    with pytest.raises(AccountRefused):
        identities.add_identity(register.connection, None, "Ada", GITHUB, subject)
    assert accounts.find(register.connection, "Ada").identities == ()


@pytest.mark.parametrize(
    ("issuer", "subject"),
    [
        *(
            ("", "sub=1"),
            ("X509", "sub=1"),
            ("ftp://x", "sub=1"),
            ("https://a b", "sub=1"),
            ("https://" + "x" * 250, "sub=1"),
        ),
        *(
            ("x509", "sub=1"),
            ("x509", "sha256=" + "A" * 64),
            ("x509", "sha256=" + "a" * 63),
            ("x509", "uri=spiffe://acme/*"),
        ),
        *(("x509", "uri=x"), ("x509", "uri=spiffe://acme & sha256=1")),
    ],
)
def test_an_identity_of_an_issuer_that_cannot_be_is_refused(register: Register, issuer: str, subject: str) -> None:
    with pytest.raises(AccountRefused):
        identities.add_identity(register.connection, None, "Ada", issuer, subject)
