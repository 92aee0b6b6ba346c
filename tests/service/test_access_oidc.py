"""Bearer tokens of OpenID Connect issuers, good and hostile ones."""

from __future__ import annotations

import base64
import hmac
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hillhold_signer.errors import ConfigRefused
from hillhold_signer.service.access import UnauthenticatedRefused
from hillhold_signer.service.issuers import MAX_DOCUMENT, Fetcher, IssuerError
from hillhold_signer.service.oidc import COOLDOWN, FRESH, KEPT, LEEWAY, MAX_AGE, MAX_TOKEN, Issuer, Issuers
from idp import AUDIENCE, RSA, Answer, Idp, until
from register import NOW

DISCOVERY = "/.well-known/openid-configuration"


@pytest.fixture
def idp() -> Iterator[Idp]:
    with Idp() as found:
        yield found


def issuers(idp: Idp, *algorithms: str, deadline: float = 5, **settings: Any) -> Issuers:
    issuer = Issuer(idp.url, AUDIENCE, algorithms or ("RS256", "ES256"), **settings)
    return Issuers([issuer], Fetcher(deadline=deadline))


def refusal(found: Issuers, token: str, now: int = NOW, at: float = 0) -> str:
    with pytest.raises(UnauthenticatedRefused) as refused:
        found.verify(token, now, at)
    assert len(refused.value.reason) < 200
    assert refused.value.reason.isprintable()
    return refused.value.reason


def b64(data: object) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


# --- good tokens ----------------------------------------------------------------------------------------------------------------------


def test_a_token_says_who_has_it(idp: Idp) -> None:
    token = idp.token(
        repository="acme/pump", run_number=7, ref_protected=True, groups=["x"], nested={"a": 1}, none=None
    )
    found = issuers(idp).verify(token, NOW, 0)
    assert found.issuer == idp.url
    assert found.claims["repository"] == "acme/pump"
    assert (found.claims["run_number"], found.claims["ref_protected"]) == ("7", "true")
    assert not {"groups", "nested", "none"} & set(found.claims)


def test_a_real_provider_logs_a_person_in() -> None:
    """oidc-provider-mock: an authorization code flow of OpenID Connect Core, by its own server."""
    program = [sys.executable, "-m", "oidc_provider_mock", "--port", "0"]
    with subprocess.Popen(program, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stderr
            url = next(match[1] for line in server.stderr if (match := re.search(r"running on (http://\S+)", line)))
            drain = threading.Thread(target=server.stderr.read, daemon=True)
            drain.start()
            _log_in(url)
        finally:
            server.terminate()


def _log_in(url: str) -> None:
    with httpx.Client(base_url=url, trust_env=False) as client:
        client.put("/users/ada", json={"email": "Ada@example.org", "email_verified": True}).raise_for_status()
        asked = {
            "client_id": AUDIENCE,
            "redirect_uri": "https://hillhold.example/",
            "response_type": "code",
            "scope": "openid email",
        }
        answer = client.post("/oauth2/authorize", params=asked, data={"sub": "ada"})
        code = httpx.URL(answer.headers["Location"]).params["code"]
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": asked["redirect_uri"]}
        token = client.post("/oauth2/token", data=form, auth=(AUDIENCE, "secret")).raise_for_status().json()["id_token"]
    now = int(time.time())
    found = Issuers([Issuer(url, AUDIENCE)], Fetcher()).verify(token, now, 0)
    assert found.claims["sub"] == "ada"
    other = Issuers([Issuer(url, "another")], Fetcher())
    assert "for another audience" in refusal(other, token, now)
    assert "expired" in refusal(Issuers([Issuer(url, AUDIENCE)], Fetcher()), token, now + 7200)


def test_an_email_address_counts_only_where_the_issuer_verified_it(idp: Idp) -> None:
    found = issuers(idp)
    assert (
        found.verify(idp.token(email="Ada@Example.org", email_verified=True), NOW, 0).claims["email"]
        == "ada@example.org"
    )
    for said in (
        {},
        {"email_verified": False},
        {"email_verified": "true"},
        {"email_verified": 1},
        {"email_verified": None},
    ):
        assert "email" not in found.verify(idp.token(email="ada@example.org", **said), NOW, 0).claims


def test_elliptic_curves_do_too(idp: Idp) -> None:
    idp.keys = {"one": RSA[0], "curve": ec.generate_private_key(ec.SECP256R1())}
    assert issuers(idp).verify(idp.token(algorithm="ES256"), NOW, 0).claims["sub"] == "7"


# --- forged ones ----------------------------------------------------------------------------------------------------------------------


def test_an_unsigned_token_is_refused(idp: Idp) -> None:
    found = issuers(idp)
    for algorithm in ("none", "None", "NONE", "nOnE", "", None, 0, ["RS256"], {"RS256": 1}):
        head, body = b64({"alg": algorithm, "kid": "one"}), b64(idp.claims())
        assert "another algorithm" in refusal(found, f"{head}.{body}.AAAA")
        assert "another form" in refusal(found, f"{head}.{body}.")
    assert idp.seen == []


def test_a_token_by_the_public_key_as_a_secret_is_refused(idp: Idp) -> None:
    public = RSA[0].public_key()
    for secret in (
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(idp.jwk("one")).encode(),
    ):
        for bits in ("256", "384", "512"):
            signed = f"{b64({'alg': f'HS{bits}', 'kid': 'one'})}.{b64(idp.claims())}"
            mark = hmac.new(secret, signed.encode(), f"sha{bits}").digest()
            assert "another algorithm" in refusal(issuers(idp), f"{signed}.{b64(mark)}")
    for algorithm in ("none", "HS256", "HS512", "ES256K", "RS1", ""):
        with pytest.raises(ConfigRefused):
            Issuer(idp.url, AUDIENCE, (algorithm,))


def test_a_symmetric_key_that_an_issuer_names_signs_nothing(idp: Idp) -> None:
    idp.answers["/jwks"] = Answer(
        json.dumps({"keys": [{"kty": "oct", "k": b64(b"secret" * 8), "kid": "one"}]}).encode()
    )
    assert "another algorithm" in refusal(issuers(idp), idp.token(key=b"secret" * 8, algorithm="HS256"))
    assert "by a key for another algorithm" in refusal(issuers(idp), idp.token())


def test_a_token_by_another_key_is_refused(idp: Idp) -> None:
    assert "does not verify" in refusal(issuers(idp), idp.token(key=RSA[1]))
    good = idp.token()
    head, body, mark = good.split(".")
    other = b64({**idp.claims(), "sub": "8"})
    assert "does not verify" in refusal(issuers(idp), f"{head}.{other}.{mark}")
    assert "does not verify" in refusal(issuers(idp), f"{head}.{body}.{b64(b'')}AAAA")


def test_a_key_serves_only_its_own_algorithm(idp: Idp) -> None:
    found = issuers(idp, "RS256", "PS256", "ES256", "ES384", "EdDSA")
    idp.keys = {"rsa": RSA[0], "curve": ec.generate_private_key(ec.SECP256R1())}
    for algorithm, kid in (
        ("ES256", "rsa"),
        ("EdDSA", "rsa"),
        ("RS256", "curve"),
        ("ES384", "curve"),
        ("EdDSA", "curve"),
    ):
        token = f"{b64({'alg': algorithm, 'kid': kid})}.{b64(idp.claims())}.AAAA"
        assert "by a key for another algorithm" in refusal(found, token)
    idp.answers["/jwks"] = Answer(json.dumps({"keys": [{**idp.jwk("rsa"), "alg": "PS256"}]}).encode())
    bound = issuers(idp, "RS256", "PS256")
    assert "by a key for another algorithm" in refusal(bound, idp.token(key=RSA[0], headers={"kid": "rsa"}))
    assert bound.verify(idp.token(key=RSA[0], algorithm="PS256", headers={"kid": "rsa"}), NOW, 0).claims


def test_a_key_that_is_short_or_malformed_or_for_encryption_signs_nothing(idp: Idp) -> None:
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    idp.keys = {"one": short}
    assert "does not verify" in refusal(issuers(idp), idp.token(key=RSA[0]))
    idp.keys = {"one": RSA[0]}
    for wrong, said in (
        ({"n": "!!!"}, "malformed"),
        ({"n": 7}, "malformed"),
        ({"e": ""}, "malformed"),
        ({"kty": "EC"}, "another algorithm"),
        ({"kty": None}, "another algorithm"),
        ({"use": "enc"}, "does not name"),
        ({"kid": 7}, "does not name"),
    ):
        idp.answers["/jwks"] = Answer(json.dumps({"keys": [{**idp.jwk("one"), **wrong}, "no key", 7]}).encode())
        assert said in refusal(issuers(idp), idp.token())


def test_what_a_header_says_of_keys_is_not_read(idp: Idp) -> None:
    """jku, x5u, jwk and x5c would let whoever made the token choose its key."""
    with Idp() as evil:
        evil.keys = {"one": RSA[1]}
        found = issuers(idp)
        headers = {
            "jku": f"{evil.url}/jwks",
            "x5u": f"{evil.url}/jwks",
            "jwk": evil.jwk("one"),
            "x5c": ["AAAA"],
        }
        assert "does not verify" in refusal(found, idp.token(key=RSA[1], headers=headers))
        assert found.verify(idp.token(headers=headers), NOW, 0).claims["sub"] == "7"
        assert evil.seen == []


@pytest.mark.parametrize(
    "kid", ["../../../dev/null", "/etc/passwd", "https://evil.example/jwks", "' OR 1=1 --", "", "\x00", "x" * 9000]
)
def test_a_kid_is_compared_and_never_fetched(idp: Idp, kid: str) -> None:
    assert "does not name" in refusal(issuers(idp), idp.token(headers={"kid": kid}))
    assert idp.seen == [DISCOVERY, "/jwks"]


def test_a_header_that_must_be_understood_or_is_of_another_type_is_refused(idp: Idp) -> None:
    def token(**header: Any) -> str:
        return f"{b64({'alg': 'RS256', 'kid': 'one', **header})}.{b64(idp.claims())}.AAAA"

    found = issuers(idp)
    headers: list[dict[str, Any]] = [
        {"crit": ["exp"]},
        {"crit": []},
        {"crit": ["b64"], "b64": False},
        {"typ": "logout+jwt"},
        {"typ": 7},
        {"typ": None},
    ]
    for header in headers:
        assert "of another type" in refusal(found, token(**header))
    for kid in (7, ["one"], {"one": 1}):
        assert "whose kid is no text" in refusal(found, token(kid=kid))


@pytest.mark.parametrize(
    "token",
    [
        *("", ".", "..", "a.b", "a.b.c.d", "AAAA.AAAA.AAAA", "e30.e30.e30", "é.é.é", "a b.c.d", "e30.e30.e30\n"),
        *("e30.W10.AAAA", "W10.e30.AAAA", "A" * (MAX_TOKEN + 1)),
        *(f"{b64(b'{' * 5000)}.e30.AAAA", f"e30.{b64(b'[' * 9000)}.AAAA"),
        "e30." + b64(b'{"iss":"x","iss":"y"}') + ".AAAA",
        "e30." + b64(b'{"iss":["x"]}') + ".AAAA",
        "e30." + b64(b"\xff") + ".AAAA",
        "e30." + b64(b'{"exp":' + b"9" * 5000 + b"}") + ".AAAA",
    ],
)
def test_bytes_that_are_no_token_are_refused_and_nobody_is_asked(idp: Idp, token: str) -> None:
    reason = refusal(issuers(idp), token)
    assert "another form" in reason or "not configured" in reason
    assert idp.seen == []


# --- claims ---------------------------------------------------------------------------------------------------------------------------


def test_a_token_of_another_issuer_or_for_another_audience_is_refused(idp: Idp) -> None:
    found = issuers(idp)
    for iss in (idp.url + "/", idp.url.upper(), "https://evil.example", "", None, 7):
        body = json.dumps({**idp.claims(), "iss": iss}).encode()
        signed = jwt.api_jws.encode(body, RSA[0], "RS256", headers={"kid": "one"})
        assert "not configured" in refusal(found, signed)
    for aud in (
        "other",
        "",
        ["other"],
        [AUDIENCE, "other"],
        [AUDIENCE, AUDIENCE],
        [],
        {AUDIENCE: 1},
        None,
        True,
        AUDIENCE + " ",
    ):
        assert "another audience" in refusal(found, idp.token(aud=aud))
    assert "another audience" in refusal(found, idp.token(without=("aud",)))
    assert found.verify(idp.token(aud=[AUDIENCE]), NOW, 0).claims


def test_time_is_kept_to_the_leeway(idp: Idp) -> None:
    found = issuers(idp)
    token = idp.token()
    for now in (NOW - LEEWAY, NOW, NOW + 600 + LEEWAY - 1):
        assert found.verify(token, now, 0).claims
    assert "expired" in refusal(found, token, NOW + 600 + LEEWAY)
    assert "not valid yet" in refusal(found, token, NOW - LEEWAY - 1)
    assert "not valid yet" in refusal(found, idp.token(nbf=NOW + LEEWAY + 1))
    assert "not valid yet" in refusal(found, idp.token(iat=NOW + LEEWAY + 1))
    late = idp.token(exp=NOW + 10 * MAX_AGE)
    assert found.verify(late, NOW + MAX_AGE + LEEWAY, 0).claims
    assert "was issued more than" in refusal(found, late, NOW + MAX_AGE + LEEWAY + 1)
    assert "was issued more than 60 s" in refusal(issuers(idp, max_age=60), late, NOW + 121)
    assert found.verify(idp.token(without=("nbf",)), NOW, 0).claims


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", ["1767225600", True, -1, 2**53, float("nan"), float("inf"), [NOW], {}])
def test_a_time_that_is_none_is_refused(idp: Idp, name: str, value: object) -> None:
    body = json.dumps({**idp.claims(), name: value})
    signed = jwt.api_jws.encode(body.encode(), RSA[0], "RS256", headers={"kid": "one"})
    assert f"without a time in {name}" in refusal(issuers(idp), signed)


@pytest.mark.parametrize("name", ["exp", "iat", "sub"])
def test_a_token_without_one_of_its_claims_is_refused(idp: Idp, name: str) -> None:
    assert name in refusal(issuers(idp), idp.token(without=(name,)))


# --- keys ------------------------------------------------------------------------------------------------------------------------------


def test_keys_are_read_once_and_a_new_one_is_found(idp: Idp) -> None:
    found = issuers(idp)
    old = idp.token()
    for at in range(5):
        found.verify(old, NOW, at)
    assert idp.seen == [DISCOVERY, "/jwks"]
    idp.keys = {"one": RSA[0], "two": RSA[1]}
    new = idp.token()
    assert "does not name" in refusal(found, new, at=COOLDOWN - 1)  # they were read just now
    assert found.verify(new, NOW, COOLDOWN).claims
    assert found.verify(old, NOW, COOLDOWN).claims
    assert idp.seen == [DISCOVERY, "/jwks"] * 2


def test_unknown_keys_cost_one_reading_in_a_while(idp: Idp) -> None:
    found = issuers(idp)
    for at in range(3 * COOLDOWN):
        assert "does not name" in refusal(found, idp.token(headers={"kid": f"key {at}"}), at=at)
    assert idp.seen == [DISCOVERY, "/jwks"] * 3
    found.verify(idp.token(), NOW, 3 * COOLDOWN)


def test_a_key_that_the_issuer_withdrew_signs_nothing_once_they_are_read_again(idp: Idp) -> None:
    found = issuers(idp)
    old = idp.token()
    found.verify(old, NOW, 0)
    idp.keys = {"two": RSA[1]}
    found.verify(old, NOW, FRESH - 1)
    assert "does not name" in refusal(found, old, at=FRESH)


def test_keys_outlast_an_issuer_that_is_away_for_an_hour_and_no_longer(idp: Idp) -> None:
    found = issuers(idp)
    token = idp.token()
    found.verify(token, NOW, 0)
    idp.answers["/jwks"] = Answer(status=503)
    found.verify(token, NOW, KEPT)
    with pytest.raises(IssuerError):
        found.verify(token, NOW, KEPT + COOLDOWN)
    with pytest.raises(IssuerError):
        found.verify(token, NOW, KEPT + COOLDOWN + 1)
    del idp.answers["/jwks"]
    found.verify(token, NOW, KEPT + 2 * COOLDOWN)


def test_a_token_need_not_name_the_only_key(idp: Idp) -> None:
    token = idp.token(without=("kid",))
    assert issuers(idp).verify(token, NOW, 0).claims
    idp.keys = {"one": RSA[0], "two": RSA[1]}
    assert "does not name" in refusal(issuers(idp), token)


def test_many_at_once_read_once(idp: Idp) -> None:
    idp.answers["/jwks"] = Answer(json.dumps(idp.jwks()).encode(), pause=0.3)
    found, token = issuers(idp), idp.token()
    done: list[str] = []
    threads = [threading.Thread(target=lambda: done.append(found.verify(token, NOW, 0).issuer)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 20
    assert idp.seen == [DISCOVERY, "/jwks"]


# --- hostile issuers ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (DISCOVERY, Answer(status=404)),
        (DISCOVERY, Answer(b"not json")),
        (DISCOVERY, Answer(b"[]")),
        (DISCOVERY, Answer(b'{"issuer":"https://evil.example","jwks_uri":"https://evil.example/jwks"}')),
        (DISCOVERY, Answer(b"[" * 100_000)),
        ("/jwks", Answer(b'{"keys":7}')),
        ("/jwks", Answer(json.dumps({"keys": [{}] * 101}).encode())),
        ("/jwks", Answer(b'{"keys":[' + b" " * MAX_DOCUMENT + b"]}")),
        ("/jwks", Answer(b"", status=302, headers={"Location": "/jwks2"})),
        ("/jwks", Answer(b"\x1f\x8b", headers={"Content-Encoding": "gzip"})),
        ("/jwks", Answer(b'{"keys":[]}', headers={"Content-Length": "100"})),
    ],
)
def test_an_issuer_that_answers_otherwise_is_an_operational_error(idp: Idp, path: str, answer: Answer) -> None:
    idp.answers[path] = answer
    found = issuers(idp)
    for _ in range(2):
        with pytest.raises(IssuerError) as failed:
            found.verify(idp.token(), NOW, 0)
        assert failed.value.exit_code == 3
        assert failed.value.hint
    assert idp.seen.count(DISCOVERY) == 1  # it is not asked again at once
    assert "/jwks2" not in idp.seen


def test_an_issuer_that_says_it_is_another_is_not_believed(idp: Idp) -> None:
    """Its keys would be good ones: it is the name that is not."""
    for name in ("https://evil.example", idp.url + "/", None):
        idp.answers[DISCOVERY] = Answer(json.dumps({"issuer": name, "jwks_uri": f"{idp.url}/jwks"}).encode())
        with pytest.raises(IssuerError, match="another issuer"):
            issuers(idp).verify(idp.token(), NOW, 0)


@pytest.mark.parametrize(
    "url",
    ["http://192.0.2.1/jwks", "file:///etc/passwd", "https://user:pw@x/", "ftp://x/", "https://x/ y", "//x", "", 7],
)
def test_keys_are_read_over_https_only(idp: Idp, url: object) -> None:
    idp.answers[DISCOVERY] = Answer(json.dumps({"issuer": idp.url, "jwks_uri": url}).encode())
    with pytest.raises(IssuerError, match="names no https address"):
        issuers(idp).verify(idp.token(), NOW, 0)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"{}", pause=30),
        Answer(b" " * 1000, byte_by_byte=0.05),
        Answer(drip_headers=0.05),
    ],
)
def test_a_slow_issuer_holds_nobody_longer_than_the_deadline(idp: Idp, answer: Answer) -> None:
    idp.answers["/jwks"] = answer
    found = issuers(idp, deadline=0.5)
    began = time.monotonic()
    with pytest.raises(IssuerError):
        found.verify(idp.token(), NOW, 0)
    assert time.monotonic() - began < 2
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "issuer"])  # and no thread stays


def test_an_issuer_that_is_not_there_is_an_operational_error() -> None:
    with Idp() as idp:
        found, token = issuers(idp), idp.token()
    with pytest.raises(IssuerError, match="ConnectError"):
        found.verify(token, NOW, 0)


def test_a_claim_that_is_there_twice_is_refused(idp: Idp) -> None:
    """Readers disagree on which of two counts, and the issuer may have meant the other one."""
    for said in (b'"sub":"8","sub":"7"', b'"sub":"7","sub":"7"'):
        body = json.dumps({name: value for name, value in idp.claims().items() if name != "sub"}).encode()
        signed = jwt.api_jws.encode(body[:-1] + b"," + said + b"}", RSA[0], "RS256", headers={"kid": "one"})
        assert refusal(issuers(idp), signed) == "a bearer token of another form"


def test_a_reason_holds_nothing_of_the_token(idp: Idp) -> None:
    secret = sha256(b"x").hexdigest()
    for token in (idp.token(key=RSA[1], sub=secret), idp.token(aud=secret), idp.token(headers={"kid": secret})):
        assert secret not in refusal(issuers(idp), token)
