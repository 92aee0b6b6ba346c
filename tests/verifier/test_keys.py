"""Keys: what verifies, what is unusable, and what counts as the same key."""

from __future__ import annotations

import sys
from base64 import b64encode
from collections.abc import Callable, Iterator

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import asymmetric, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa, x25519
from securesystemslib.signer import CryptoSigner

from forge import Object, Repo, SigningKey, ecdsa_key, key
from hillhold_verifier import keytypes
from hillhold_verifier.keys import SCHEMES, Key, usable_schemes
from hillhold_verifier.keytypes.scheme import Scheme, Usable
from hillhold_verifier.metadata import parse_root, parse_timestamp

ED = frozenset({"ed25519"})
_SPKI = b"\x30\x0c\x30\x05\x06\x03\x2a\x03\x04\x03\x03\x00\x01\x02"  # of the algorithm 1.2.3.4, which is nobody's
UNKNOWN_ALGORITHM = f"-----BEGIN PUBLIC KEY-----\n{b64encode(_SPKI).decode()}\n-----END PUBLIC KEY-----\n"
MESSAGE = b"signed"


def of(one: SigningKey) -> Key:
    entry = one.entry
    return Key(entry["keytype"], entry["scheme"], entry["keyval"]["public"])


def pem(public: object) -> str:
    assert isinstance(
        public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed448.Ed448PublicKey | x25519.X25519PublicKey
    )
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return public.public_bytes(serialization.Encoding.PEM, form).decode()


@pytest.mark.parametrize("one", [key("alice"), ecdsa_key("alice")], ids=["ed25519", "p256"])
def test_a_signature_verifies_for_its_key_message_and_bytes_only(one: SigningKey) -> None:
    signature = one.sign(MESSAGE)
    assert of(one).verifies(signature, MESSAGE) == of(one).fingerprint(SCHEMES) is not None
    other = key("bob") if one is key("alice") else ecdsa_key("bob")
    assert of(other).verifies(signature, MESSAGE) is None
    assert of(one).verifies(signature, MESSAGE + b"!") is None
    for bad in (b"", signature[:-1], signature + b"\0", b"\0" * 64, bytes([signature[0] ^ 1]) + signature[1:]):
        assert of(one).verifies(bad, MESSAGE) is None


def test_a_scheme_that_does_not_count_now_verifies_nothing() -> None:
    one = ecdsa_key("alice")
    repo = Repo()
    repo.keys["timestamp"] = [one]
    repo.publish()
    envelope = parse_timestamp(repo.files["timestamp"])
    for _ in range(2):  # in any order, and asked again
        assert envelope.signer(envelope.signatures[0], of(one), ED) is None
        assert envelope.signer(envelope.signatures[0], of(one), SCHEMES) == of(one).fingerprint(SCHEMES) is not None
        assert envelope.signer(envelope.signatures[0], of(key("alice")), SCHEMES) is None
    assert of(one).fingerprint(ED) is None


def signer_of(scheme: str) -> CryptoSigner:
    """A signer of securesystemslib's with a new key."""
    if scheme.startswith("rsassa-pss"):
        return CryptoSigner.generate_rsa(scheme=scheme)
    make: dict[str, Callable[[], CryptoSigner]] = {
        "ed25519": CryptoSigner.generate_ed25519,
        "ecdsa-sha2-nistp256": CryptoSigner.generate_ecdsa,
        "ecdsa-sha2-nistp384": lambda: CryptoSigner(ec.generate_private_key(ec.SECP384R1())),
        "ml-dsa-44/1": lambda: CryptoSigner(mldsa.MLDSA44PrivateKey.generate()),
        "ml-dsa-65/1": lambda: CryptoSigner(mldsa.MLDSA65PrivateKey.generate()),
        "ml-dsa-87/1": lambda: CryptoSigner(mldsa.MLDSA87PrivateKey.generate()),
    }
    return make[scheme]()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_what_securesystemslib_signs_verifies_and_nothing_else(scheme: str) -> None:
    signer, stranger = signer_of(scheme), signer_of(scheme)
    one, other = (
        Key(s.public_key.keytype, s.public_key.scheme, s.public_key.keyval["public"]) for s in (signer, stranger)
    )
    signature = bytes.fromhex(signer.sign(MESSAGE).signature)
    assert one.scheme == scheme
    assert one.verifies(signature, MESSAGE) == one.fingerprint(SCHEMES) is not None
    assert other.fingerprint(SCHEMES) != one.fingerprint(SCHEMES)
    assert other.verifies(signature, MESSAGE) is None
    assert one.verifies(signature, MESSAGE + b"!") is None
    assert one.verifies(signature[:-1] + bytes([signature[-1] ^ 1]), MESSAGE) is None
    assert one.fingerprint(SCHEMES - {scheme}) is None


def test_a_key_is_the_same_under_every_scheme_of_its_type() -> None:
    public = pem(rsa.generate_private_key(65537, 2048).public_key())
    found = {
        Key("rsa", f"rsassa-pss-{digest}", public).fingerprint(SCHEMES) for digest in ("sha256", "sha384", "sha512")
    }
    assert len(found) == 1
    assert None not in found


def test_both_tuf_names_of_the_ecdsa_key_type_are_known() -> None:
    one = ecdsa_key("alice")
    public = one.entry["keyval"]["public"]
    old = Key("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256", public)
    assert old.verifies(one.sign(MESSAGE), MESSAGE) == of(one).fingerprint(SCHEMES)


@pytest.mark.parametrize(
    "entry",
    [
        Key("ed25519", "ed25519", ""),
        Key("ed25519", "ed25519", "zz" * 32),
        Key("ed25519", "ed25519", "00" * 31),
        Key("ed25519", "ed25519", "00" * 33),
        Key("ed25519", "ed25519", " " * 64),
        Key("ed25519", "ed25519", "00 " * 21 + "0"),
        Key("ed25519", "ed25519", "٠" * 64),
        Key("ed25519", "ed25519", of(key("alice")).public + " "),
        Key("ed25519", "ed25519", " ".join(of(key("alice")).public)),
        Key("ecdsa", "ed25519", "00" * 32),
        Key("ed25519", "ecdsa-sha2-nistp256", "00" * 32),
        Key("ecdsa", "ecdsa-sha2-nistp256", ""),
        Key("ecdsa", "ecdsa-sha2-nistp256", "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"),
        Key("ecdsa", "ecdsa-sha2-nistp256", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"),
        Key("ecdsa", "ecdsa-sha2-nistp256", "\ud800"),
        Key("ecdsa", "ecdsa-sha2-nistp256", pem(ec.generate_private_key(ec.SECP384R1()).public_key())),
        Key("ecdsa", "ecdsa-sha2-nistp256", pem(ec.generate_private_key(ec.SECP256K1()).public_key())),
        Key("ecdsa", "ecdsa-sha2-nistp256", pem(rsa.generate_private_key(65537, 2048).public_key())),
        Key("ecdsa", "ecdsa-sha2-nistp256", pem(ed448.Ed448PrivateKey.generate().public_key())),
        Key("ecdsa", "ecdsa-sha2-nistp256", pem(x25519.X25519PrivateKey.generate().public_key())),
        Key("rsa", "rsassa-pss-sha256", pem(rsa.generate_private_key(65537, 1024).public_key())),
        Key("rsa", "rsassa-pss-sha256", pem(rsa.RSAPublicNumbers(2**64 + 1, 2**2048 - 1).public_key())),
        Key("rsa", "rsassa-pss-sha256", pem(rsa.RSAPublicNumbers(65537, 2**8192 + 1).public_key())),
        Key("rsa", "rsassa-pss-sha256", pem(ec.generate_private_key(ec.SECP256R1()).public_key())),
        Key("rsa", "rsassa-pss-sha256", pem(rsa.generate_private_key(65537, 2047).public_key())),
        Key("rsa", "rsassa-pss-sha256", pem(ed448.Ed448PrivateKey.generate().public_key())),
        Key("ecdsa", "ecdsa-sha2-nistp256", UNKNOWN_ALGORITHM),
        Key("ml-dsa", "ml-dsa-44/1", pem(ec.generate_private_key(ec.SECP256R1()).public_key())),
        Key("rsa", "rsa-pkcs1v15-sha256", pem(rsa.generate_private_key(65537, 2048).public_key())),
        Key("ecdsa", "ecdsa-sha2-nistp384", pem(ec.generate_private_key(ec.SECP256R1()).public_key())),
        Key("ml-dsa", "ml-dsa-65/1", "00"),
        Key("ml-dsa", "ml-dsa-65/1", pem(ed448.Ed448PrivateKey.generate().public_key())),
        Key("", "", ""),
    ],
    ids=lambda entry: f"{entry.keytype}-{entry.scheme}-{len(entry.public)}",
)
def test_an_unusable_key_is_no_error_and_verifies_nothing(entry: Key) -> None:
    assert entry.fingerprint(SCHEMES) is None
    assert entry.verifies(b"\0" * 64, MESSAGE) is None


def test_a_check_that_this_machines_library_lacks_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key may load, and its scheme's hash or padding be missing all the same (FIPS builds)."""

    def lacks(signature: bytes, message: bytes) -> None:
        raise UnsupportedAlgorithm("padding")

    one = Key("rsa", "rsassa-pss-sha512", "00" * 40)  # of this test alone
    loaded = Usable(one.identity() or b"", lacks)
    monkeypatch.setitem(
        keytypes.SCHEMES, "rsassa-pss-sha512", Scheme(frozenset({"rsa"}), lambda _: loaded, lambda: None)
    )
    assert one.fingerprint(SCHEMES) is not None
    assert one.verifies(b"", MESSAGE) is None


class UnknownCurve(ec.SECP384R1):
    """One that no OpenSSL has."""

    name = "secp999r1"


class Lacking:
    """An algorithm that OpenSSL was built without."""

    @staticmethod
    def from_public_bytes(value: bytes) -> object:
        raise UnsupportedAlgorithm(f"no algorithm for {len(value)} bytes")


@pytest.fixture
def anew() -> Iterator[None]:
    """What this machine can use is asked again, before and after."""
    usable_schemes.cache_clear()
    yield
    usable_schemes.cache_clear()


@pytest.mark.usefixtures("anew")
def test_this_machine_can_use_every_scheme() -> None:
    assert usable_schemes() == SCHEMES
    assert isinstance(usable_schemes(), frozenset)


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize(
    ("module", "name", "without", "scheme"),
    [
        (ec, "SECP384R1", UnknownCurve, "ecdsa-sha2-nistp384"),
        (ed25519, "Ed25519PublicKey", Lacking, "ed25519"),
        (mldsa, "MLDSA65PublicKey", Lacking, "ml-dsa-65/1"),
    ],
    ids=["P-384", "Ed25519", "ML-DSA"],
)
def test_a_scheme_whose_algorithm_is_lacking_is_none_of_those_that_can_be_used(
    monkeypatch: pytest.MonkeyPatch, module: object, name: str, without: object, scheme: str
) -> None:
    monkeypatch.setattr(module, name, without)
    assert usable_schemes() == SCHEMES - {scheme}


@pytest.mark.usefixtures("anew")
def test_a_library_that_is_older_than_an_algorithm_cannot_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(asymmetric, "mldsa")
    monkeypatch.setitem(sys.modules, mldsa.__name__, None)
    assert usable_schemes() == {name for name in SCHEMES if not name.startswith("ml-dsa")}
    public = pem(rsa.generate_private_key(65537, 2048).public_key())
    assert Key("ml-dsa", "ml-dsa-65/1", public).fingerprint(SCHEMES) is None


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_a_key_is_told_apart_where_its_algorithm_is_lacking(scheme: str) -> None:
    public = signer_of(scheme).public_key
    one = Key(public.keytype, public.scheme, public.keyval["public"])
    fingerprint = one.fingerprint(SCHEMES)
    assert one.identity() == fingerprint
    lacking = Key(one.keytype, "of-another-library", one.public)
    assert (lacking.fingerprint(SCHEMES), lacking.identity()) == (None, fingerprint)


def compressed(public: ec.EllipticCurvePublicKey) -> str:
    """A public key in PEM whose point is compressed: rare, and read by libraries."""
    whole = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    point = public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    algorithm = whole[2 : 4 + whole[3]]
    body = algorithm + bytes([3, len(point) + 1, 0]) + point
    encoded = b64encode(bytes([0x30, len(body)]) + body).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{encoded}\n-----END PUBLIC KEY-----\n"


def test_a_key_in_a_form_that_only_its_library_can_read_is_unusable() -> None:
    """A floor that it set would fall once the library cannot read it, or it would count beside itself in its usual form."""
    curve, number = ec.generate_private_key(ec.SECP256R1()).public_key(), rsa.generate_private_key(65537, 2048)
    text = compressed(curve)
    pkcs1 = (
        number.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1).decode()
    )  # "BEGIN RSA PUBLIC KEY"
    for public in (text, pkcs1):
        assert serialization.load_pem_public_key(public.encode()) is not None
    assert Key("ecdsa", "ecdsa-sha2-nistp256", pem(curve)).fingerprint(SCHEMES) is not None
    assert Key("ecdsa", "ecdsa-sha2-nistp256", text).fingerprint(SCHEMES) is None
    assert Key("rsa", "rsassa-pss-sha256", pkcs1).fingerprint(SCHEMES) is None


@pytest.mark.parametrize("public", ["zz", "-----BEGIN PUBLIC KEY-----\nA\n-----END PUBLIC KEY-----\n"])
def test_what_is_no_key_has_no_identity(public: str) -> None:
    assert Key("of-another-library", "of-another-library", public).identity() is None


def test_a_key_is_the_same_in_any_spelling() -> None:
    one, upper = of(key("alice")), of(key("alice")).public.upper()
    assert Key("ed25519", "ed25519", upper).fingerprint(SCHEMES) == one.fingerprint(SCHEMES)
    text = of(ecdsa_key("alice")).public
    spellings = [text.replace("\n", "\r\n"), "a note\n" + text + "another", text.rstrip()]
    assert {Key("ecdsa", "ecdsa-sha2-nistp256", s).fingerprint(SCHEMES) for s in spellings} == {
        of(ecdsa_key("alice")).fingerprint(SCHEMES)
    }


def test_keys_of_different_people_differ() -> None:
    everyone = [of(key("alice")), of(key("bob")), of(ecdsa_key("alice")), of(ecdsa_key("bob"))]
    assert len({one.fingerprint(SCHEMES) for one in everyone}) == 4


@pytest.mark.parametrize(("bits", "usable"), [(2047, False), (2048, True), (8192, True), (8193, False)])
def test_rsa_keys_have_2048_to_8192_bits(bits: int, usable: bool) -> None:
    public = pem(rsa.RSAPublicNumbers(65537, (1 << (bits - 1)) + 1).public_key())
    assert (Key("rsa", "rsassa-pss-sha256", public).fingerprint(SCHEMES) is not None) is usable


@pytest.mark.parametrize(("exponent", "usable"), [(2**64 - 1, True), (2**64 + 1, False)])
def test_an_exponent_has_64_bits_at_most(exponent: int, usable: bool) -> None:
    public = pem(rsa.RSAPublicNumbers(exponent, 2**2048 - 1).public_key())
    assert (Key("rsa", "rsassa-pss-sha256", public).fingerprint(SCHEMES) is not None) is usable


@pytest.mark.parametrize(("length", "usable"), [(8192, True), (8193, False)])
def test_a_public_value_has_8192_characters_at_most_and_a_longer_one_refuses_no_file(length: int, usable: bool) -> None:
    repo = Repo()
    one = ecdsa_key("timestamp-1")
    text = one.entry["keyval"]["public"]

    def lengthen(signed: Object) -> None:
        signed["keys"][one.keyid] = {**one.entry, "keyval": {"public": text.rjust(length, "\n")}}

    root = parse_root(repo.root(edit=lengthen)).signed
    assert (root.keys[one.keyid].fingerprint(SCHEMES) is not None) is usable
