"""The keys of a bootloader: how an image names them, which are refused, and signatures that are almost right."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, padding, rsa, utils
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from imgtool import keys as imgtool_keys

from hillhold_verifier.errors import ImageError, ImageSignatureError, MisuseError
from hillhold_verifier.mcuboot import parse_image, verify_image
from hillhold_verifier.mcuboot_keys import KINDS, SIGNATURES, ImageKey
from imagekit import NAMES, check, private, public, reader, sign, signed_with

PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER
SPKI, PKCS1 = serialization.PublicFormat.SubjectPublicKeyInfo, serialization.PublicFormat.PKCS1
RSA = ("rsa-2048", "rsa-3072")
TLVS = dict(zip(NAMES, (0x24, 0x22, 0x20, 0x23), strict=True))


def pem(key: PublicKeyTypes, form: serialization.PublicFormat = SPKI) -> bytes:
    return key.public_bytes(PEM, form)


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NAMES, "other"])
def test_an_image_names_a_key_as_imgtool_hashes_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "key.pem").write_bytes(private(name).get_public_pem())
    command = [sys.executable, "-m", "imgtool.main", "getpubhash", "-e", "raw"]
    subprocess.run([*command, "-k", tmp_path / "key.pem", "-o", tmp_path / "hash"], check=True)
    key = public(name)
    assert key.key_hash == (tmp_path / "hash").read_bytes() == hashlib.sha256(private(name).get_public_bytes()).digest()
    assert key.key_hash == next(tlv.value for tlv in parse_image(sign(name)).tlvs if tlv.type == 0x01)


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_an_rsa_key_in_an_image_is_not_its_fingerprint(name: str) -> None:
    """MCUboot holds RSA keys in the form of PKCS#1, and hashes what it holds."""
    key = public(name)
    assert key.fingerprint == hashlib.sha256(key.der).digest()
    assert (key.key_hash == key.fingerprint) == (name not in RSA)


@pytest.mark.parametrize("name", RSA)
def test_an_image_that_names_an_rsa_key_by_its_fingerprint_is_by_no_known_key(name: str) -> None:
    data = sign(name)
    signature = parse_image(data).tlvs[-1]
    with pytest.raises(ImageSignatureError, match="image key: expected a key hash, one of"):
        check(signed_with(data, signature.type, signature.value, public(name).fingerprint), name)


def test_an_rsa_key_in_any_form_is_the_same_key() -> None:
    plain = private("rsa-2048").key.public_key()
    assert ImageKey.from_pem(pem(plain, PKCS1)) == ImageKey.from_pem(pem(plain)) == public("rsa-2048")


# --- keys that are refused --------------------------------------------------------------------------------------------


@cache
def odd_rsa(bits: int, exponent: int) -> PublicKeyTypes:
    """A modulus of that size; who can factor it does not matter here."""
    modulus = private("rsa-3072").key.public_key().public_numbers().n >> (3072 - bits) if bits <= 3072 else 1
    return rsa.RSAPublicNumbers(exponent, modulus | 1 | 1 << bits - 1).public_key()


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (odd_rsa(2048, 3), "RSA-2048 with the exponent 0x3"),
        (odd_rsa(2048, 17), "RSA-2048 with the exponent 0x11"),
        (odd_rsa(3072, 65539), "RSA-3072 with the exponent 0x10003"),
        (odd_rsa(2048, (1 << 2047) - 1), "RSA-2048 with the exponent 0x7fffffffffffffffff"),
        *((odd_rsa(bits, 65537), f"RSA-{bits}") for bits in (1024, 2047, 2049, 3071, 3073, 4096, 8192)),
        (odd_rsa(4096, 3), "RSA-4096 with the exponent 0x3"),
        (ec.derive_private_key(7, ec.SECP224R1()).public_key(), "ECDSA P-224"),
        (ec.derive_private_key(7, ec.SECP384R1()).public_key(), "ECDSA P-384"),
        (ec.derive_private_key(7, ec.SECP521R1()).public_key(), "ECDSA P-521"),
        (ec.derive_private_key(7, ec.SECP256K1()).public_key(), "ECDSA secp256k1"),
        (ed448.Ed448PrivateKey.generate().public_key(), "Ed448PublicKey"),
        (imgtool_keys.X25519.generate().key.public_key(), "X25519PublicKey"),
    ],
)
def test_other_kinds_of_key_are_refused_by_name(key: PublicKeyTypes, says: str) -> None:
    with pytest.raises(ImageSignatureError) as refused:
        ImageKey.from_pem(pem(key))
    assert str(refused.value) == f"image key: expected Ed25519, ECDSA P-256, RSA-2048 or RSA-3072, got {says}"
    # The same key put into an `ImageKey` by hand checks nothing.
    with pytest.raises(ImageSignatureError, match=KINDS):
        verify_image(parse_image(sign()), reader(sign()), [ImageKey(key.public_bytes(DER, SPKI))])


def test_a_key_too_small_to_be_loaded_is_refused() -> None:
    with pytest.raises(ImageSignatureError, match="image key"):
        ImageKey.from_pem(pem(odd_rsa(512, 65537)))


def test_an_algorithm_that_the_library_lacks_is_refused_and_said() -> None:
    unknown = bytes.fromhex("300d 3005 0603 2a0304 0304 0000 0000")
    text = b"-----BEGIN PUBLIC KEY-----\n" + b64encode(unknown) + b"\n-----END PUBLIC KEY-----\n"
    with pytest.raises(ImageSignatureError, match="image key: expected an algorithm available here, got "):
        ImageKey.from_pem(text)
    with pytest.raises(ImageSignatureError, match="image key: expected an algorithm available here, got "):
        verify_image(parse_image(sign()), reader(sign()), [ImageKey(unknown)])


def test_what_is_no_public_key_is_refused() -> None:
    own = private("rsa-2048").key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for data in (b"", b"not a key", own, public("rsa-2048").der):
        with pytest.raises(ImageSignatureError, match="expected a public key in PEM"):
            ImageKey.from_pem(data)


@pytest.mark.parametrize("name", NAMES)
def test_a_key_in_another_form_than_its_own_der_is_the_callers_bug(name: str) -> None:
    data, der = sign(name), public(name).der
    plain = private(name).key.public_key()
    wrong = [b"", der[:-1], der + b"\0", pem(plain)]
    if name in RSA:
        wrong.append(plain.public_bytes(DER, PKCS1))
        wrong.append(der.replace(bytes.fromhex("0500"), b"", 1))  # without the parameters
    if name == "ecdsa":
        wrong.append(der[:-64] + plain.public_bytes(serialization.Encoding.X962, POINT)[1:])
    for bad in wrong:
        with pytest.raises(MisuseError):
            verify_image(parse_image(data), reader(data), [ImageKey(bad)])


POINT = serialization.PublicFormat.CompressedPoint


def test_the_padding_of_an_ecdsa_signature_is_zeros_up_to_72_bytes() -> None:
    digest = b"d" * 32
    while len(good := private("ecdsa").key.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))) > 70:
        pass
    key = public("ecdsa")
    key.check(good, digest)
    key.check(good.ljust(72, b"\0"), digest)
    for bad in (good.ljust(71, b"\0"), good.ljust(73, b"\0"), good.ljust(72, b"\1"), good[:-1], b""):
        with pytest.raises(ImageSignatureError, match="expected a valid one"):
            key.check(bad, digest)


# --- signatures that are almost right ---------------------------------------------------------------------------------


def pss(salt: int, mgf: hashes.HashAlgorithm | None = None) -> padding.PSS:
    return padding.PSS(padding.MGF1(mgf or hashes.SHA256()), salt)


def rsa_signed(name: str, scheme: padding.AsymmetricPadding, hash_: hashes.HashAlgorithm | None = None) -> bytes:
    """The image with a signature made in another way, by the right key."""
    data = sign(name)
    covered = data[: parse_image(data).signed_length]
    return signed_with(data, TLVS[name], private(name).key.sign(covered, scheme, hash_ or hashes.SHA256()))


def raised(name: str, encoded: int) -> bytes:
    """A number under the private key, without any padding."""
    numbers = private(name).key.private_numbers()
    modulus = numbers.public_numbers.n
    return int(pow(encoded, numbers.d, modulus)).to_bytes(private(name).key_size() // 8, "big")


def refused(data: bytes, *names: str) -> None:
    with pytest.raises(ImageSignatureError, match="image signature: expected a valid one"):
        check(data, *names)


@pytest.mark.parametrize("name", RSA)
def test_a_signature_made_here_as_imgtool_makes_it_verifies(name: str) -> None:
    check(rsa_signed(name, pss(32)), name)


@pytest.mark.parametrize("name", RSA)
@pytest.mark.parametrize("salt", [0, 20, 31, 33, 64, 222])
def test_another_length_of_salt_is_refused(name: str, salt: int) -> None:
    refused(rsa_signed(name, pss(salt)), name)


@pytest.mark.parametrize("name", RSA)
def test_other_paddings_and_hashes_of_the_right_key_are_refused(name: str) -> None:
    for scheme, hash_ in (
        (padding.PKCS1v15(), hashes.SHA256()),
        (pss(32, hashes.SHA1()), hashes.SHA256()),
        (pss(32, hashes.SHA512()), hashes.SHA256()),
        (pss(32), hashes.SHA512()),
        (pss(32), hashes.SHA3_256()),
    ):
        refused(rsa_signed(name, scheme, hash_), name)


@pytest.mark.parametrize("name", RSA)
def test_a_signature_over_the_hash_as_a_message_is_refused(name: str) -> None:
    """As Ed25519 has it: the hash hashed once more."""
    data = sign(name)
    twice = private(name).key.sign(parse_image(data).sha256, pss(32), hashes.SHA256())
    refused(signed_with(data, TLVS[name], twice), name)


@pytest.mark.parametrize("name", RSA)
def test_a_signature_plus_the_modulus_is_refused(name: str) -> None:
    """The same number modulo n; else anybody could change the bytes of an image that verifies."""
    size, modulus = private(name).key_size() // 8, private(name).key.public_key().public_numbers().n
    data, more = sign(name), 1 << 8 * size
    while more >= 1 << 8 * size:  # until there is room for it
        more = int.from_bytes(private(name).sign(data[: parse_image(data).signed_length]), "big") + modulus
    refused(signed_with(data, TLVS[name], more.to_bytes(size, "big")), name)


@pytest.mark.parametrize("name", RSA)
def test_trivial_numbers_are_no_signatures(name: str) -> None:
    size, modulus = private(name).key_size() // 8, private(name).key.public_key().public_numbers().n
    data = sign(name)
    for number in (0, 1, 2, modulus - 1, modulus, (1 << 8 * size) - 1):
        refused(signed_with(data, TLVS[name], number.to_bytes(size, "big")), name)


@pytest.mark.parametrize("name", RSA)
def test_the_encoded_message_has_one_form(name: str) -> None:
    """EMSA-PSS put together by hand, each field once wrong; MCUboot itself does not look at the top bit."""
    data, size = sign(name), private(name).key_size() // 8
    modulus = private(name).key.public_key().public_numbers().n
    digest = parse_image(data).sha256

    def encoded(salt: bytes, *, top: int = 0, one: int = 1, end: int = 0xBC, zero: int = 0) -> int | None:
        check_ = hashlib.sha256(bytes(8) + digest + salt).digest()
        block = bytearray(size - 32 - 1 - len(salt) - 1) + bytes([one]) + salt
        block[1] |= zero
        mask = b"".join(hashlib.sha256(check_ + count.to_bytes(4, "big")).digest() for count in range(size // 32 + 1))
        masked = bytearray(a ^ b for a, b in zip(block, mask, strict=False))
        masked[0] = masked[0] & 0x7F | top
        number = int.from_bytes(bytes(masked) + check_ + bytes([end]), "big")
        return number if number < modulus else None

    good = encoded(b"s" * 32)
    assert good is not None
    check(signed_with(data, TLVS[name], raised(name, good)), name)
    for wrong in (
        encoded(b"s" * 32, one=2),
        encoded(b"s" * 32, one=0),
        encoded(b"s" * 32, end=0xBD),
        encoded(b"s" * 32, zero=1),
        next(filter(None, (encoded(bytes([at]) * 32, top=0x80) for at in range(256))), None),
        encoded(b"s" * 31),
    ):
        assert wrong is not None
        refused(signed_with(data, TLVS[name], raised(name, wrong)), name)


@pytest.mark.parametrize("signer", NAMES)
@pytest.mark.parametrize("named", NAMES)
def test_the_key_decides_the_kind_of_signature(signer: str, named: str) -> None:
    """An image whose signature is of one kind, and which names a key of another."""
    data, key = sign(signer), public(named)
    signature = parse_image(data).tlvs[-1]
    other = signed_with(data, signature.type, signature.value, key.key_hash)
    if signer == named:
        assert verify_image(parse_image(other), reader(other), [public("other"), key]) == key
        return
    with pytest.raises(
        ImageSignatureError, match=f"expected TLV {TLVS[named]:#04x}, as its key, got none of that kind"
    ):
        check(other, *NAMES)


@pytest.mark.parametrize(("signer", "kind"), [(a, b) for a in NAMES for b in TLVS.values() if TLVS[a] != b])
def test_a_signature_in_the_tlv_of_another_kind_is_refused(signer: str, kind: int) -> None:
    data = sign(signer)
    value = parse_image(data).tlvs[-1].value
    for signature in (value, value[: SIGNATURES[kind]].ljust(SIGNATURES[kind], b"\0")):
        with pytest.raises((ImageError, ImageSignatureError)):
            check(signed_with(data, kind, signature), *NAMES)


@pytest.mark.parametrize("name", RSA)
def test_a_second_key_of_the_same_size_does_not_do(name: str) -> None:
    other = imgtool_keys.RSA.generate(private(name).key_size())
    data = sign(name)
    covered = data[: parse_image(data).signed_length]
    refused(signed_with(data, TLVS[name], other.sign(covered)), name)
    with pytest.raises(ImageSignatureError, match="image key"):
        verify_image(parse_image(data), reader(data), [ImageKey.from_pem(other.get_public_pem())])


LENGTHS: list[Callable[[bytes], bytes]] = [
    lambda value: value[:-1],
    lambda value: value[1:],
    lambda value: b"\0" + value,
    lambda value: value + b"\0",
    lambda value: b"",
]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "ecdsa"])
@pytest.mark.parametrize("change", LENGTHS)
def test_a_signature_of_another_length_is_refused_before_it_is_checked(
    name: str, change: Callable[[bytes], bytes]
) -> None:
    data = sign(name)
    with pytest.raises(ImageError, match=f"length of TLV {TLVS[name]:#06x}"):
        parse_image(signed_with(data, TLVS[name], change(parse_image(data).tlvs[-1].value)))


@pytest.mark.parametrize("name", RSA)
def test_a_key_checks_no_signature_of_another_length(name: str) -> None:
    """Whoever calls `check` without `parse_image`; a signature without its leading zero is still the same number."""
    digest = b"d" * 32
    while (good := private(name).key.sign(digest, pss(32), utils.Prehashed(hashes.SHA256())))[0]:
        pass
    public(name).check(good, digest)
    for change in LENGTHS:
        with pytest.raises(ImageSignatureError, match="expected a valid one"):
            public(name).check(change(good), digest)
