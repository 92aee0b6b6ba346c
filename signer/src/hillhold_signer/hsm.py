"""Keys in a PKCS#11 token: an HSM, a smart card, SoftHSM.

    hsm:ID?label=TOKEN      ID: the key's CKA_ID as a decimal number, by default 2 (PIV slot 9c); TOKEN: where there are several

The URI and the environment variable `PYKCS11LIB`, the path of the token's PKCS#11 module, are securesystemslib's. Its own signer does
ECDSA only; `TokenSigner` takes its place, and does Ed25519 and RSA-PSS, too. The module is named by the environment alone: a URI travels in
`hillhold.toml`, and whoever may edit that file must not be able to have code loaded.

The PIN comes from the secrets handler, asked once for "PIN of URI" when the key is opened, and never again after a wrong one: a token
counts them, and locks itself. Each signature is a session of its own, as in securesystemslib: nobody stays logged in while a person reads.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from securesystemslib.signer import HSMSigner, Key, SecretsHandler, Signature, Signer, SSlibKey

from hillhold_signer.errors import KeyRefused, ToolError
from hillhold_signer.keys import fingerprint, missing_library, tuf_key
from hillhold_verifier.errors import HillholdError

SCHEME: Final = HSMSigner.SCHEME
MODULE: Final = "PYKCS11LIB"
"""Environment variable with the path of the PKCS#11 module."""

_CURVES: Final = {
    bytes.fromhex("06082a8648ce3d030107"): ec.SECP256R1(),
    bytes.fromhex("06052b81040022"): ec.SECP384R1(),
}
_ED25519: Final = (bytes.fromhex("06032b6570"), b"\x13\x0cedwards25519")
"""CKA_EC_PARAMS of Ed25519: its OID (RFC 8410), or the curve's name (PKCS#11 3.0)."""
_HASH_BITS: Final = {
    "ecdsa-sha2-nistp256": 256,
    "ecdsa-sha2-nistp384": 384,
    "rsassa-pss-sha256": 256,
    "rsassa-pss-sha384": 384,
    "rsassa-pss-sha512": 512,
}
_PIN_FAULTS: Final = {
    "PinIncorrect": "wrong PIN",
    "PinInvalid": "wrong PIN",
    "PinLenRange": "wrong PIN (its length)",
    "PinLocked": "the PIN is locked",
    "PinExpired": "the PIN has expired",
    "UserPinNotInitialized": "no PIN has been set",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key is: its CKA_ID as a number, and the label of its token (None: the only one)."""

    keyid: int
    label: str | None

    @classmethod
    def parse(cls, uri: str) -> Place:
        """Parse a URI; raises `KeyRefused`."""
        scheme, _, rest = uri.partition(":")
        path, _, query = rest.partition("?")
        try:
            options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True)) if query else {}
        except ValueError:
            options = {"": query}
        known = options.keys() <= {"label"} and all(options.values())
        if scheme != SCHEME or not re.fullmatch(r"[1-9][0-9]{0,38}|", path) or not known:
            raise KeyRefused("key URI", expected="hsm:ID?label=TOKEN, with a number as ID", got=repr(uri)[:80])
        return cls(int(path) if path else HSMSigner.SCHEME_KEYID, options.get("label"))

    def __str__(self) -> str:
        return f"{SCHEME}:{self.keyid}" + (f"?{urlencode({'label': self.label})}" if self.label else "")

    @property
    def cka_id(self) -> bytes:
        """The bytes of CKA_ID: big-endian, without leading zeros."""
        return self.keyid.to_bytes((self.keyid.bit_length() + 7) // 8, "big")


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A public key in a token, and the URI of its private part."""

    uri: str
    key: SSlibKey


class TokenSigner(Signer):
    """A key in a PKCS#11 token, named `hsm:…`; the package's root registers it with securesystemslib, in place of its `HSMSigner`."""

    SCHEME = SCHEME

    def __init__(self, place: Place, public_key: SSlibKey, pin: str) -> None:
        self._place, self._public_key, self._pin = place, public_key, pin

    @property
    def public_key(self) -> SSlibKey:
        """The public key."""
        return self._public_key

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key | None, secrets_handler: SecretsHandler | None = None
    ) -> TokenSigner:
        """Log in, and find the key; where the token shows the public part, `public_key` may be None, and must be it otherwise.

        Raises:
            KeyRefused: the URI, the PIN, no such key, one of an unknown kind, or another key than `public_key`.
            ToolError: no module, no token, or the token failed.
        """
        place = Place.parse(priv_key_uri)
        pin = secrets_handler(f"PIN of {place}") if secrets_handler else ""
        if not pin:
            raise KeyRefused(f"key {place}", expected="the token's PIN", got="none")
        with _session(place, pin) as session:
            found = _public(session, place)
            _private(session, place)
        if found and public_key and fingerprint(found) != fingerprint(public_key):
            raise KeyRefused(
                f"key {place}", expected=f"the private key of {fingerprint(public_key)[:16]}", got="another key"
            )
        # The key as the repository states it, so that its key id is the one that metadata name.
        key = public_key if isinstance(public_key, SSlibKey) else found
        if key is None:
            hint = "name it with --public FILE"
            raise KeyRefused(f"key {place}", expected="its public key in the token", got="none", hint=hint)
        if key.scheme != "ed25519" and key.scheme not in _HASH_BITS:
            raise _unknown(place, key.scheme)
        return cls(place, key, pin)

    def sign(self, payload: bytes) -> Signature:
        """Sign; only a hash of `payload` goes to the token, but for Ed25519, which takes all of it.

        Raises:
            KeyRefused: the PIN or the key has changed.
            ToolError: the token has gone, or failed.
        """
        with _session(self._place, self._pin) as session:
            value = _sign(_private(session, self._place), self._public_key.scheme, payload)
        return Signature(self._public_key.keyid, value.hex())


def find_key(uri: str, secrets: SecretsHandler | None = None) -> TokenKey:
    """Read a public key from a token, with its PIN only where it shows none without.

    Raises:
        KeyRefused: the URI, the PIN, no such key, or one of an unknown kind.
        ToolError: no module, no token, or the token failed.
    """
    place = Place.parse(uri)
    with _session(place, None) as session:
        key, label = _public(session, place), session.token.label
    if key is None and secrets is not None:
        with _session(place, secrets(f"PIN of {place}")) as session:
            key = _public(session, place)
    if key is None:
        hint = "`hillhold key list hsm:` lists what a token shows"
        raise KeyRefused(f"key {place}", expected="a public key with this ID", got="none", hint=hint)
    return TokenKey(str(Place(place.keyid, label or None)), key)


def list_keys(uri: str) -> list[TokenKey]:
    """Return the keys of usable kinds that a token shows without a PIN; the ID in `uri` does not matter; raises as `find_key`."""
    found = []
    with _session(Place.parse(uri), None) as session:
        from pkcs11 import Attribute, ObjectClass

        for item in session.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY}):
            place = Place(int.from_bytes(item[Attribute.ID], "big"), session.token.label or None)
            if (public := _crypto(item)) and place.keyid and place.cka_id == item[Attribute.ID]:
                with contextlib.suppress(KeyRefused):
                    found.append(TokenKey(str(place), tuf_key(public, f"key {place}")))
    return sorted(found, key=lambda item: item.uri)


@contextlib.contextmanager
def _session(place: Place, pin: str | None) -> Iterator[Any]:
    """Open a session, logged in where there is a PIN; whatever fails within becomes one of our errors."""
    try:
        import pkcs11
    except ImportError as error:
        raise missing_library(str(place), error) from error
    module = os.environ.get(MODULE)
    if not module:
        hint = f"such as {MODULE}=/usr/lib/softhsm/libsofthsm2.so"
        raise ToolError(f"key {place}: expected the path of a PKCS#11 module in {MODULE}, got none", hint=hint)
    try:
        flags = pkcs11.TokenFlag.TOKEN_INITIALIZED
        token = pkcs11.lib(module).get_token(token_label=place.label, token_flags=flags)
        session = token.open(user_pin=pin)
        try:
            yield session
        finally:
            with contextlib.suppress(pkcs11.PKCS11Error):  # a token that has gone cannot be left politely
                session.close()
    except HillholdError:
        raise
    except Exception as error:  # a module may fail in any way
        raise _told(error, place) from error


def _told(error: Exception, place: Place) -> HillholdError:
    """Say what a token's error means."""
    name = type(error).__name__
    if fault := _PIN_FAULTS.get(name):
        hint = "a token locks itself after a few wrong PINs; its security officer can set a new one"
        return KeyRefused(f"key {place}: {fault}", hint=hint)
    if name == "MultipleTokensReturned":
        return KeyRefused(f"key {place}", expected="one token", got="several", hint="name it: hsm:ID?label=TOKEN")
    what = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower()
    hint = "see that the token is there, then run the same command again"
    return ToolError(f"key {place}: {what}" + (f": {error}" if str(error) else ""), hint=hint)


def _public(session: Any, place: Place) -> SSlibKey | None:
    from pkcs11 import Attribute, ObjectClass

    item = _only(session, place, ObjectClass.PUBLIC_KEY)
    if item is None:
        return None
    public = _crypto(item)
    if public is None:
        raise _unknown(place, f"key type {item[Attribute.KEY_TYPE]}")
    return tuf_key(public, f"key {place}")


def _private(session: Any, place: Place) -> Any:
    from pkcs11 import ObjectClass

    item = _only(session, place, ObjectClass.PRIVATE_KEY)
    if item is None:
        raise KeyRefused(f"key {place}", expected="a private key with this ID", got="none")
    return item


def _only(session: Any, place: Place, kind: Any) -> Any:
    from pkcs11 import Attribute

    found = list(session.get_objects({Attribute.CLASS: kind, Attribute.ID: place.cka_id}))
    if len(found) > 1:
        raise KeyRefused(f"key {place}", expected="one key with this ID", got=len(found))
    return found[0] if found else None


def _crypto(item: Any) -> PublicKeyTypes | None:
    """Return a token's public key; None for a kind that is not signed with here; raises ValueError for a malformed one."""
    from pkcs11 import Attribute, KeyType

    if item.key_type == KeyType.RSA:
        exponent, modulus = (
            int.from_bytes(item[name], "big") for name in (Attribute.PUBLIC_EXPONENT, Attribute.MODULUS)
        )
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    if item.key_type not in (KeyType.EC, KeyType.EC_EDWARDS):
        return None
    curve, point = bytes(item[Attribute.EC_PARAMS]), bytes(item[Attribute.EC_POINT])
    # The point is a DER octet string, as PKCS#11 asks for; some tokens give it bare.
    if curve in _ED25519:
        return ed25519.Ed25519PublicKey.from_public_bytes(point[2:] if len(point) == 34 else point)
    if (named := _CURVES.get(curve)) is None:
        return None
    bare = 1 + 2 * named.key_size // 8
    return ec.EllipticCurvePublicKey.from_encoded_point(named, point[2:] if len(point) == bare + 2 else point)


def _sign(private: Any, scheme: str, payload: bytes) -> bytes:
    from pkcs11 import MGF, Mechanism

    if scheme == "ed25519":
        return bytes(private.sign(payload, mechanism=Mechanism.EDDSA))
    bits = _HASH_BITS[scheme]
    digest = hashlib.new(f"sha{bits}", payload).digest()
    if scheme.startswith("rsa"):
        pss = (getattr(Mechanism, f"SHA{bits}"), getattr(MGF, f"SHA{bits}"), bits // 8)
        return bytes(private.sign(digest, mechanism=Mechanism.RSA_PKCS_PSS, mechanism_param=pss))
    pair = private.sign(digest, mechanism=Mechanism.ECDSA)
    half = len(pair) // 2
    return encode_dss_signature(int.from_bytes(pair[:half], "big"), int.from_bytes(pair[half:], "big"))


def _unknown(place: Place, got: str) -> KeyRefused:
    return KeyRefused(f"key {place}", expected="Ed25519, ECDSA P-256 or P-384, or RSA", got=got)
