"""Who asks: all ways to log in by one function, what is recorded of those that fail, and how often they may."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from hillhold_signer.log.events import Event, Kind
from hillhold_signer.service import accounts, identities, tokens
from hillhold_signer.service.access import Principal, TooManyRefused, UnauthenticatedRefused
from hillhold_signer.service.authenticate import Authenticator, Limits
from hillhold_signer.service.certificates import Proxies
from hillhold_signer.service.issuers import Fetcher, IssuerError
from hillhold_signer.service.oidc import Issuer, Issuers
from hillhold_signer.service.ratelimit import Flood, Limiter
from idp import AUDIENCE, RSA, Answer, Idp
from papers import Ca
from register import ADMINISTRATOR, NOW, SIGNER, SUBMITTER, Register

ADDRESS = "192.0.2.7"
Headers = list[tuple[bytes, bytes]]


class Door:
    """A service's authenticator, and a clock that stands."""

    def __init__(self, idp: Idp, limits: Limits | None = None, flood: Flood | None = None) -> None:
        self.register = Register()
        self.register.account("Ada", ADMINISTRATOR)
        self.register.account("Grace", SIGNER)
        self.register.account("ci", SUBMITTER, machine=True)
        issuers = Issuers([Issuer(idp.url, AUDIENCE)], Fetcher())
        wide = Limits(Limiter(1, 10_000), Limiter(1, 10_000), Limiter(1, 10_000))
        self.authenticator = Authenticator(issuers, Proxies(["10.0.0.7"]), limits or wide, flood or Flood(10_000))
        self.connected = 0
        self.at = 0.0

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        self.connected += 1
        yield self.register.connection

    def enter(
        self, *headers: tuple[bytes, bytes], certificate: bytes | None = None, address: str = ADDRESS
    ) -> Principal:
        return self.authenticator.authenticate(
            self.connect,
            self.connect,
            headers=headers,
            certificate=certificate,
            address=address,
            now=NOW,
            monotonic=self.at,
        )

    def refused(
        self, *headers: tuple[bytes, bytes], certificate: bytes | None = None, address: str = ADDRESS
    ) -> UnauthenticatedRefused:
        with pytest.raises(UnauthenticatedRefused) as refused:
            self.enter(*headers, certificate=certificate, address=address)
        for actor, why in refused.value.records:
            Event(NOW, Kind.FAILED_LOGIN, actor, {"reason": why}).encode()
        return refused.value


@pytest.fixture
def idp() -> Iterator[Idp]:
    with Idp() as found:
        yield found


@pytest.fixture
def door(idp: Idp) -> Iterator[Door]:
    found = Door(idp)
    yield found
    found.register.close()


def bearer(text: str) -> tuple[bytes, bytes]:
    return b"authorization", b"Bearer " + text.encode()


def basic(user: str, password: str) -> tuple[bytes, bytes]:
    return b"authorization", b"Basic " + base64.b64encode(f"{user}:{password}".encode())


# --- ways in --------------------------------------------------------------------------------------------------------------------------


def test_a_token_opens_as_bearer_and_as_password_of_any_user(door: Door) -> None:
    text = door.register.token("Grace")
    for header in (
        bearer(text),
        (b"authorization", b"bearer  " + text.encode() + b" "),
        (b"authorization", b"BEARER " + text.encode()),
        *(basic(user, text) for user in ("", "Ada", "x" * 1000, "é")),
    ):
        assert door.enter(header).name == "Grace"


def test_a_jwt_opens_for_the_account_that_its_claims_stand_for(door: Door, idp: Idp) -> None:
    identities.add_identity(door.register.connection, None, "ci", idp.url, "repository=acme/pump & ref=refs/tags/v*")
    who = door.enter(bearer(idp.token(repository="acme/pump", ref="refs/tags/v1.2.0")))
    assert who.grants == {SUBMITTER}
    assert (who.name, who.machine, who.token) == ("ci", True, None)
    said = door.refused(bearer(idp.token(repository="acme/pump", ref="refs/heads/main")))
    assert said.reason == f"an identity of {idp.url} that stands for no account"


def test_a_certificate_opens_for_its_account(door: Door, tmp_path: Path) -> None:
    data = Ca(tmp_path, "ca", NOW).issue("ci").der
    assert "no account" in door.refused(certificate=data).reason
    identities.add_identity(door.register.connection, None, "ci", "x509", f"sha256={sha256(data).hexdigest()}")
    assert door.enter(certificate=data).name == "ci"
    proxied = (b"client-cert", b":" + base64.b64encode(data) + b":")
    assert door.enter(proxied, address="10.0.0.7").name == "ci"
    assert door.refused(proxied).records == ()  # nobody asked him; it counts as no certificate at all
    assert "malformed" in door.refused((b"client-cert", b"x"), address="10.0.0.7").reason


def test_a_wrong_header_is_not_saved_by_a_certificate(door: Door, tmp_path: Path) -> None:
    data = Ca(tmp_path, "ca", NOW).issue("ci").der
    identities.add_identity(door.register.connection, None, "ci", "x509", f"sha256={sha256(data).hexdigest()}")
    text = door.register.token("Grace")
    assert door.enter(bearer(text), certificate=data).name == "Grace"
    assert door.refused(bearer(text[:-1]), certificate=data).records
    assert door.refused((b"authorization", b""), certificate=data).records


def test_whoever_is_disabled_is_out_by_every_way_at_once(door: Door, idp: Idp, tmp_path: Path) -> None:
    data = Ca(tmp_path, "ca", NOW).issue("grace").der
    connection = door.register.connection
    identities.add_identity(connection, None, "Grace", "x509", f"sha256={sha256(data).hexdigest()}")
    identities.add_identity(connection, None, "Grace", idp.url, "sub=7")
    ways: list[tuple[Headers, bytes | None]] = [
        ([bearer(door.register.token("Grace"))], None),
        ([bearer(idp.token())], None),
        ([], data),
    ]
    for headers, certificate in ways:
        assert door.enter(*headers, certificate=certificate).name == "Grace"
    accounts.disable(connection, "Grace", now=NOW)
    for headers, certificate in ways:
        assert "disabled" in door.refused(*headers, certificate=certificate).reason


# --- and none -------------------------------------------------------------------------------------------------------------------------


def test_nobody_who_says_nothing_is_refused_and_that_is_no_failed_login(door: Door) -> None:
    said = door.refused()
    assert said.records == ()
    assert said.hint
    assert door.connected == 0


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"Bearer", b"Bearer ", b"Bearer  ", b"Basic", b"Basic !!!", b"Basic " + base64.b64encode(b"no colon")),
        *(
            b"Basic " + base64.b64encode(b"Ada:password"),
            b"Basic " + base64.b64encode(b"\xff:\xff"),
            b"Digest x",
            b"hh_x",
        ),
        *(
            b"Bearer \xff",
            b"Bearer " + b"x" * 100_000,
            b"Bearer hh_",
            b"Bearer hh_\x00",
            b"Bearer \x1b[2J",
            b"Bearer a b",
        ),
        *(b"Bearer ..", b"Bearer e30.e30.e30", b"Negotiate " + b"A" * 40_000, b"Bearer 'OR 1=1--", b"Bearer hh_%_%"),
    ],
)
def test_junk_is_refused_and_recorded_in_words_of_our_own(door: Door, value: bytes) -> None:
    said = door.refused((b"authorization", value))
    ((actor, why),) = said.records
    assert actor == ADDRESS
    assert why in (
        "an Authorization header of another form",
        "an Authorization header that is too long, or not ASCII",
        "a token of another form",
        "a bearer token of another form",
        "a token of an issuer that is not configured",
    )
    assert door.connected == 0


def test_two_headers_are_refused(door: Door) -> None:
    good = bearer(door.register.token("Grace"))
    assert door.refused(good, good).reason == "two Authorization headers"


def test_a_refusal_and_its_record_hold_no_secret(door: Door, idp: Idp) -> None:
    text = door.register.token("Grace", lifetime=1)
    forged = idp.token(key=RSA[1])
    for secret in (text, text[:-1] + ("0" if text[-1] != "0" else "1"), "hh_" + "a" * 24 + "_" + "b" * 64, forged):
        with pytest.raises(UnauthenticatedRefused) as refused:
            door.authenticator.authenticate(
                door.connect,
                door.connect,
                headers=[bearer(secret)],
                certificate=None,
                address=ADDRESS,
                now=NOW + 5,
                monotonic=0,
            )
        kept = f"{refused.value} {refused.value.hint} {refused.value.records} {refused.value.__cause__}"
        assert secret not in kept
        assert secret[-40:] not in kept


@pytest.mark.parametrize("address", ["", "x", "unix:", "<script>", "\x1b[2J", "1" * 5000, "fe80::1%\n"])
def test_an_address_that_is_none_is_written_as_unknown(door: Door, address: str) -> None:
    assert door.refused(bearer("x"), address=address).records[0][0] in ("unknown", "fe80::1")


def test_an_issuer_that_cannot_be_reached_is_no_failed_login(door: Door, idp: Idp) -> None:
    idp.answers["/jwks"] = Answer(status=500)
    with pytest.raises(IssuerError):
        door.enter(bearer(idp.token()))
    assert door.enter(bearer(door.register.token("Grace"))).name == "Grace"


# --- limits ---------------------------------------------------------------------------------------------------------------------------


def narrow(principal: float = 1000, address: float = 1000, failures: float = 1000) -> Limits:
    return Limits(Limiter(0.1, principal), Limiter(0.1, address), Limiter(0.1, failures))


def test_failed_logins_hold_up_those_of_their_address_and_of_no_other(idp: Idp) -> None:
    door = Door(idp, narrow(failures=3))
    bad, other = (bearer(f"hh_{digit * 24}_{'0' * 64}") for digit in "01")
    for _ in range(3):
        door.refused(bad)
    connected = door.connected
    with pytest.raises(TooManyRefused) as refused:
        door.enter(bad)
    assert door.connected == connected  # what failed so often is not looked at
    assert 0 < refused.value.wait <= 10
    with pytest.raises(TooManyRefused):
        door.enter(other)
    door.refused(other, address="192.0.2.8")
    door.refused(bad, address="192.0.2.8")
    door.at += refused.value.wait
    door.refused(other)
    with pytest.raises(TooManyRefused):
        door.enter(other)
    door.register.close()


def test_good_logins_pass_from_an_address_that_a_bad_script_holds_up(idp: Idp) -> None:
    door = Door(idp, narrow(failures=3))
    token = door.register.token("Grace")
    good, near = bearer(token), bearer(token[:-1] + ("0" if token[-1] != "0" else "1"))
    for _ in range(3):
        door.refused(near)
    for number in range(50):  # guesses at the same token, each another
        with pytest.raises(TooManyRefused):
            door.enter(bearer(f"{token[:-4]}{number:04x}" if not token.endswith(f"{number:04x}") else "x"))
        assert door.enter(good).name == "Grace"
    assert door.enter(bearer(door.register.token("ci"))).name == "ci"
    with pytest.raises(TooManyRefused):
        door.enter(near)
    door.register.close()


def test_failures_of_a_held_up_address_are_not_recorded_and_requests_bound_them(idp: Idp) -> None:
    door = Door(idp, narrow(failures=3, address=100))
    records, held, stopped = 0, 0, 0
    for number in range(200):
        try:
            door.enter(bearer(f"hh_{number:024x}_{'0' * 64}"))
        except TooManyRefused as error:
            held += "failed logins" in str(error)
            stopped += "requests" in str(error)
        except UnauthenticatedRefused as error:
            records += len(error.records)
    assert (records, held, stopped, door.connected) == (3, 97, 100, 100)
    door.register.close()


def test_who_logs_in_well_and_who_says_nothing_uses_up_no_failures(idp: Idp) -> None:
    door = Door(idp, narrow(failures=1))
    good = bearer(door.register.token("Grace"))
    for _ in range(50):
        door.enter(good)
        door.refused()
    door.register.close()


def test_one_principal_is_slowed_from_all_addresses_and_by_all_tokens_together(idp: Idp) -> None:
    door = Door(idp, narrow(principal=4))
    for number in range(4):
        door.enter(bearer(door.register.token("Grace")), address=f"192.0.2.{number}")
    with pytest.raises(TooManyRefused, match="too many requests"):
        door.enter(bearer(door.register.token("Grace")), address="192.0.2.99")
    assert door.enter(bearer(door.register.token("ci"))).name == "ci"
    door.register.close()


def test_one_address_is_slowed_and_behind_a_proxy_each_client_by_itself(idp: Idp) -> None:
    door = Door(idp, narrow(address=2))
    good = bearer(door.register.token("Grace"))
    for client in (b"198.51.100.1", b"198.51.100.2"):
        forwarded = (b"x-forwarded-for", client)
        for _ in range(2):
            door.enter(good, forwarded, address="10.0.0.7")
        with pytest.raises(TooManyRefused):
            door.enter(good, forwarded, address="10.0.0.7")
    for number in range(2):  # whoever is no proxy cannot take another address each time
        door.enter(good, (b"x-forwarded-for", b"203.0.113.%d" % number))
    with pytest.raises(TooManyRefused):
        door.enter(good, (b"x-forwarded-for", b"203.0.113.99"))
    door.register.close()


def test_an_attack_writes_a_bounded_number_of_events_and_loses_no_failure(idp: Idp) -> None:
    door = Door(idp, flood=Flood(most=5, window=60))
    records: list[tuple[str, str]] = []
    for number in range(1000):
        door.at = number / 10
        records += door.refused(bearer("x"), address=f"192.0.{number % 200}.1").records
    records += door.authenticator.unrecorded(1000)
    own = [why for _, why in records if why == "a bearer token of another form"]
    held = [int(why.split()[0]) for actor, why in records if actor == "service"]
    assert len(own) == 10
    assert len(own) + sum(held) == 1000
    assert door.authenticator.unrecorded(2000, all_=True) == ()
    door.register.close()


def test_a_use_of_a_token_writes_nothing_on_the_way_in(door: Door) -> None:
    issued = door.register.issued("Grace")
    for _ in range(3):
        assert door.enter(bearer(issued.text)).token == issued.token.id
    assert tokens.list_tokens(door.register.connection, "Grace")[0].used is None


# --- any bytes ------------------------------------------------------------------------------------------------------------------------

_VALUES = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=80).map(lambda data: b"Bearer " + data),
    st.binary(max_size=80).map(lambda data: b"Basic " + base64.b64encode(b"x:hh_" + data)),
    st.lists(st.binary(max_size=60), min_size=3, max_size=3).map(
        lambda parts: b"Bearer " + b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    ),
    st.lists(st.ip_addresses(), max_size=4).map(lambda hops: ", ".join(map(str, hops)).encode()),
    st.binary(max_size=80).map(lambda data: b":" + base64.b64encode(data) + b":"),
)
_HEADERS = st.lists(
    st.tuples(st.sampled_from([b"authorization", b"client-cert", b"x-forwarded-for"]), _VALUES), max_size=4
)


@given(
    headers=_HEADERS,
    address=st.sampled_from(["10.0.0.7", ADDRESS, "", "::1"]),
    certificate=st.none() | st.binary(max_size=60),
)
@hypothesis_settings(max_examples=400, deadline=None)
def test_whatever_is_sent_nobody_gets_in_and_the_record_is_clean(
    headers: Headers, address: str, certificate: bytes | None
) -> None:
    door = _CLOSED
    said = door.refused(*headers, address=address, certificate=certificate)
    assert str(said).isprintable()
    for actor, _ in said.records:
        assert actor in ("unknown", ADDRESS, "::1", "10.0.0.7") or any(
            name == b"x-forwarded-for" for name, _ in headers
        )


class _NoIssuer:
    url = "https://login.example"


_CLOSED = Door(_NoIssuer())  # type: ignore[arg-type]
