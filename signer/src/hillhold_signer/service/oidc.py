"""Bearer tokens of OpenID Connect issuers: CI jobs (GitHub, GitLab) and people (OpenID Connect Core 1.0; RFC 7519, RFC 8725).

Only issuers that are configured count, and only over their own keys, as their discovery names them: what a token's header says of keys
(`jku`, `x5u`, `jwk`, `x5c`) is not read, and `kid` is compared, never fetched. The signature is PyJWT's work; the claims are judged
here, since the time is an argument.

Claims: `iss`, `sub`, `aud`, `exp` and `iat` are required, `nbf` is kept where it is there (OpenID Connect has none). `aud` is this service
alone: a token for several could be sent on by each of them. Clocks may differ by `LEEWAY`.
"""

from __future__ import annotations

import json
import re
import threading
from base64 import urlsafe_b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt

from hillhold_signer.errors import ConfigRefused
from hillhold_signer.service.access import UnauthenticatedRefused, shown
from hillhold_signer.service.issuers import IssuerError
from hillhold_signer.serviceurl import is_safe_url

LEEWAY: Final = 60
"""Seconds by which an issuer's clock may differ from ours."""
MAX_AGE: Final = 3600
"""Seconds since `iat`, unless an issuer's settings say otherwise."""
DEFAULT_ALGORITHMS: Final = ("RS256", "ES256")
MAX_TOKEN: Final = 16_384
"""Characters."""
MAX_URL: Final = 255
"""Characters of an issuer's URL."""
MAX_KEYS: Final = 100
"""Keys of an issuer."""
FRESH: Final = 600
"""Seconds for which an issuer's keys are taken as they were read."""
KEPT: Final = 3600
"""Seconds for which they are still taken while the issuer cannot be reached."""
COOLDOWN: Final = 30
"""Seconds between two readings, whatever tokens name: a token with an unknown key costs an attacker nothing."""
WAIT: Final = 10
"""Seconds to wait for a reading that somebody else began."""

_FAMILIES: Final[Mapping[str, tuple[str, str | None]]] = {  # by algorithm, its `kty` and `crv`: RFC 7518, RFC 8037
    **{f"{kind}{bits}": ("RSA", None) for kind in ("RS", "PS") for bits in (256, 384, 512)},
    **{"ES256": ("EC", "P-256"), "ES384": ("EC", "P-384"), "ES512": ("EC", "P-521"), "EdDSA": ("OKP", "Ed25519")},
}
ALGORITHMS: Final = frozenset(_FAMILIES)
"""What may be configured: never `none`, nor HS*, whose key would be one that everybody knows."""

_PUBLIC: Final = ("kty", "n", "e", "crv", "x", "y")  # RFC 7518, 6.2.1 and 6.3.1; RFC 8037, 2
_COMPACT: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+")
_HINT: Final = "ask the issuer for a new token, with this service as its audience"


@dataclass(frozen=True, slots=True)
class Issuer:
    """Settings of one issuer.

    Attributes:
        url: as `iss` has it, to the letter; https (http only on loopback).
        audience: what `aud` must be: the service's own name at this issuer.
        algorithms: some of `ALGORITHMS`.
        max_age: seconds since `iat`.

    Raises:
        ConfigRefused: another kind of URL, no audience, an algorithm that is not one of these.
    """

    url: str
    audience: str
    algorithms: tuple[str, ...] = DEFAULT_ALGORITHMS
    max_age: int = MAX_AGE

    def __post_init__(self) -> None:
        if not is_safe_url(self.url) or {"?", "#"} & set(self.url) or len(self.url) > MAX_URL:
            raise ConfigRefused("issuer", expected="an https URL without query", got=repr(shown(self.url)))
        if not self.audience:
            raise ConfigRefused(f"audience of {self.url}", expected="the service's name there", got="none")
        if not self.algorithms or not ALGORITHMS.issuperset(self.algorithms):
            got = ", ".join(self.algorithms) or "none"
            raise ConfigRefused(
                f"algorithms of {self.url}", expected=f"some of {', '.join(sorted(ALGORITHMS))}", got=got
            )
        if self.max_age <= 0:
            raise ConfigRefused(f"max_age of {self.url}", expected="seconds", got=self.max_age)


@dataclass(frozen=True, slots=True)
class Verified:
    """What an issuer says of who has its token: text by claim. `email` is there only where the issuer has verified it."""

    issuer: str
    claims: Mapping[str, str]


class Issuers:
    """All issuers of a service, with the keys that they had when they were last read.

    Args:
        issuers: their settings.
        fetch: reads a URL, within a bounded time and length: `issuers.Fetcher`. Raises `IssuerError`.
    """

    def __init__(self, issuers: Sequence[Issuer], fetch: Callable[[str], bytes]) -> None:
        self._issuers = {one.url: (one, _Keys(one, fetch)) for one in issuers}

    def verify(self, token: str, now: int, monotonic: float) -> Verified:
        """Verify a token, and return what it says.

        Args:
            token: in compact form.
            now: Unix seconds.
            monotonic: seconds, for the age of keys.

        Raises:
            UnauthenticatedRefused: it is none, or not one for this service now.
            IssuerError: its issuer's keys cannot be read, and none are held.
        """
        match = _COMPACT.fullmatch(token) if len(token) <= MAX_TOKEN else None
        if match is None:
            raise UnauthenticatedRefused("a bearer token of another form")
        header, claims = _part(match[1]), _part(match[2])
        found = self._issuers.get(claims["iss"]) if isinstance(claims.get("iss"), str) else None
        if found is None:
            raise UnauthenticatedRefused("a token of an issuer that is not configured")
        issuer, keys = found
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in issuer.algorithms:
            raise _refused(issuer, "with another algorithm than its settings name")
        if "crit" in header or str(header.get("typ", "JWT")).lower() not in (
            "jwt",
            "at+jwt",
        ):  # no logout token, RFC 8725, 3.11
            raise _refused(issuer, "of another type")
        if kid is not None and not isinstance(kid, str):
            raise _refused(issuer, "whose kid is no text")
        key = keys.find(kid, algorithm, monotonic)
        try:
            jws = jwt.PyJWS(options={"enforce_minimum_key_length": True})
            jws.decode(token, key=key, algorithms=[algorithm])
        except (jwt.PyJWTError, ValueError, TypeError):
            raise _refused(issuer, "whose signature does not verify") from None
        _check_claims(issuer, claims, now)
        return Verified(issuer.url, _texts(claims))


@dataclass(frozen=True, slots=True)
class _Held:
    """Keys as they were read: JSON Web Keys by `kid`; by None, where there is but one, that one, which a token need not name."""

    keys: Mapping[str | None, Mapping[str, Any]]
    at: float


class _Keys:
    """The keys of one issuer. One thread reads at a time; the others wait for it, or take what is held."""

    def __init__(self, issuer: Issuer, fetch: Callable[[str], bytes]) -> None:
        self._issuer, self._fetch = issuer, fetch
        self._lock = threading.Lock()
        self._held: _Held | None = None
        self._tried_at = float("-inf")

    def find(self, kid: str | None, algorithm: str, at: float) -> Any:
        """Return the public key of that id, for that algorithm; raises `UnauthenticatedRefused`, `IssuerError`."""
        if not self._is_fresh(kid, at):
            if not self._lock.acquire(timeout=WAIT):
                raise IssuerError(f"{self._issuer.url} answers slowly")
            try:
                if not self._is_fresh(kid, at) and at - self._tried_at >= COOLDOWN:
                    self._tried_at = at
                    self._read(at)
            finally:
                self._lock.release()
        held = self._held
        if held is None or at - held.at > KEPT:
            raise IssuerError(f"the keys of {self._issuer.url} could not be read")
        found = held.keys.get(kid)
        if found is None:
            raise _refused(self._issuer, "by a key that the issuer does not name")
        kty, curve = _FAMILIES[algorithm]
        if found.get("kty") != kty or (curve and found.get("crv") != curve) or found.get("alg", algorithm) != algorithm:
            raise _refused(self._issuer, "by a key for another algorithm")
        try:
            return jwt.PyJWK({name: found[name] for name in _PUBLIC if name in found}, algorithm).key
        except (jwt.PyJWTError, ValueError, TypeError):
            raise _refused(self._issuer, "by a key that is malformed") from None

    def _is_fresh(self, kid: str | None, at: float) -> bool:
        held = self._held
        return held is not None and kid in held.keys and at - held.at < FRESH

    def _read(self, at: float) -> None:
        """Read them anew; where that fails, those held stay, until they are too old."""
        try:
            keys = self._named()
        except IssuerError:
            if self._held is None or at - self._held.at > KEPT:
                raise
            return
        found: dict[str | None, Mapping[str, Any]] = {
            key["kid"]: key for key in keys if isinstance(key.get("kid"), str)
        }
        if len(keys) == 1:  # OpenID Connect Core, 10.1
            found[None] = keys[0]
        self._held = _Held(found, at)

    def _named(self) -> list[dict[str, Any]]:
        """The keys for signatures that the issuer names now; raises `IssuerError`."""
        discovery = _document(self._fetch(f"{self._issuer.url.rstrip('/')}/.well-known/openid-configuration"))
        if discovery.get("issuer") != self._issuer.url:  # OpenID Connect Discovery 1.0, 4.3
            raise IssuerError(f"{self._issuer.url} says that it is another issuer")
        url = discovery.get("jwks_uri")
        if not isinstance(url, str) or not is_safe_url(url):
            raise IssuerError(f"{self._issuer.url} names no https address of its keys")
        keys = _document(self._fetch(url)).get("keys")
        if not isinstance(keys, list) or len(keys) > MAX_KEYS:
            raise IssuerError(f"{self._issuer.url} names more than {MAX_KEYS} keys, or none")
        return [key for key in keys if isinstance(key, dict) and key.get("use", "sig") == "sig"]


def _check_claims(issuer: Issuer, claims: Mapping[str, Any], now: int) -> None:
    if claims.get("aud") not in (issuer.audience, [issuer.audience]):
        raise _refused(issuer, "for another audience")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise _refused(issuer, "without sub")
    expires, issued = _time(issuer, claims, "exp"), _time(issuer, claims, "iat")
    if now >= expires + LEEWAY:
        raise _refused(issuer, "that has expired")
    if issued > now + LEEWAY or ("nbf" in claims and _time(issuer, claims, "nbf") > now + LEEWAY):
        raise _refused(issuer, "that is not valid yet")
    if now - issued > issuer.max_age + LEEWAY:
        raise _refused(issuer, f"that was issued more than {issuer.max_age} s ago")


def _time(issuer: Issuer, claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:  # NaN is not, either
        raise _refused(issuer, f"without a time in {name}")
    return value


def _texts(claims: Mapping[str, Any]) -> dict[str, str]:
    """The claims that an identity may name. Lists and objects are none."""
    found = {name: value for name, value in claims.items() if isinstance(value, str)}
    found |= {name: json.dumps(value) for name, value in claims.items() if isinstance(value, bool | int)}
    if claims.get("email_verified") is not True:
        found.pop("email", None)
    elif "email" in found:
        found["email"] = found["email"].lower()
    return found


def _part(text: str) -> dict[str, Any]:
    try:
        return _object(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, RecursionError, Base64Error):
        raise UnauthenticatedRefused("a bearer token of another form") from None


def _document(data: bytes) -> dict[str, Any]:
    try:
        return _object(data)
    except (ValueError, RecursionError):
        raise IssuerError("an issuer's answer is not a JSON object") from None


def _object(data: bytes) -> dict[str, Any]:
    """One JSON object, each name once: readers disagree on which of two counts. Raises `ValueError`, `RecursionError`."""
    value = json.loads(data.decode(), object_pairs_hook=_once)
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def _refused(issuer: Issuer, what: str) -> UnauthenticatedRefused:
    return UnauthenticatedRefused(f"a token of {issuer.url} {what}", hint=_HINT)
