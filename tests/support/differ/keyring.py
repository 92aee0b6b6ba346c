"""Keys of every kind for generated repositories. Derived from names, and signing without randomness: a case is the same in every run."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from hashlib import sha256
from typing import TypeAlias

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from forge import Object, canon

Private: TypeAlias = Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

COMMON = ("ed25519",)
USABLE = ("ed25519", "ed25519", "p256", "p384", "rsa")
"""Kinds that both sides can check; RSA is the slow one."""
UNUSABLE = ("future", "pkcs1", "small-rsa")
"""A key type that nobody knows, and two that only python-tuf takes."""

_SCHEMES = {
    "ed25519": ("ed25519", "ed25519"),
    "p256": ("ecdsa", "ecdsa-sha2-nistp256"),
    "p384": ("ecdsa", "ecdsa-sha2-nistp384"),
    "rsa": ("rsa", "rsassa-pss-sha256"),
    "pkcs1": ("rsa", "rsa-pkcs1v15-sha256"),
    "small-rsa": ("rsa", "rsassa-pss-sha256"),
    "future": ("lattice", "lattice-7"),
}
_RSA_KEYS = 4
_ROUNDS = 12
"""Of Miller and Rabin; nothing here has to resist anybody."""


@dataclass(frozen=True)
class Signer:
    """A private key of `kind`; `keyid` is what metadata calls it."""

    name: str
    kind: str
    keyid: str

    @property
    def entry(self) -> Object:
        """The key as metadata states it; a new object each time."""
        keytype, scheme = _SCHEMES[self.kind]
        return {"keytype": keytype, "keyval": {"public": _public(self.kind, self.name)}, "scheme": scheme}

    def alias(self, keyid: str) -> Signer:
        """The same key under another id."""
        return replace(self, keyid=keyid)

    def sign(self, payload: bytes) -> str:
        """The signature in hexadecimal."""
        return _sign(self.kind, self.name, payload)


@cache
def signer(name: str, kind: str = "ed25519") -> Signer:
    """The key of that name and kind, under the id that TUF 4.2 gives it."""
    nameless = Signer(name, kind, "")
    return Signer(name, kind, sha256(canon(nameless.entry)).hexdigest())


@lru_cache(maxsize=4096)
def _sign(kind: str, name: str, payload: bytes) -> str:
    private = _private(kind, name)
    if isinstance(private, Ed25519PrivateKey):
        return private.sign(payload).hex()
    if isinstance(private, ec.EllipticCurvePrivateKey):
        digest = hashes.SHA256() if kind == "p256" else hashes.SHA384()
        return private.sign(payload, ec.ECDSA(digest, deterministic_signing=True)).hex()
    # Without salt, PSS is deterministic; those who check take any length of salt.
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 0)
    return private.sign(payload, padding.PKCS1v15() if kind == "pkcs1" else pss, hashes.SHA256()).hex()


@cache
def _public(kind: str, name: str) -> str:
    public = _private(kind, name).public_key()
    if isinstance(public, Ed25519PublicKey):
        return public.public_bytes_raw().hex()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@cache
def _private(kind: str, name: str) -> Private:
    seed = sha256(f"{kind} {name}".encode()).digest()
    if kind in ("p256", "p384"):
        return ec.derive_private_key(int.from_bytes(seed[1:]), ec.SECP256R1() if kind == "p256" else ec.SECP384R1())
    if kind in ("rsa", "pkcs1", "small-rsa"):
        return _rsa(1024 if kind == "small-rsa" else 2048, seed[0] % _RSA_KEYS)
    return Ed25519PrivateKey.from_private_bytes(seed)


@cache
def _rsa(bits: int, number: int) -> rsa.RSAPrivateKey:
    """One of a few RSA keys: names share them, since to look for primes takes long."""
    source = random.Random(f"rsa {bits} {number}")
    p, q = _prime(source, bits // 2), _prime(source, bits // 2)
    exponent = 65537
    d = pow(exponent, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(exponent, p * q)
    coefficients = (rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q))
    return rsa.RSAPrivateNumbers(p, q, d, *coefficients, public).private_key()


def _prime(source: random.Random, bits: int) -> int:
    small = [n for n in range(3, 2000, 2) if all(n % d for d in range(3, int(n**0.5) + 1, 2))]
    while True:
        # The two highest bits, so that the product of two has all its bits.
        n = source.getrandbits(bits) | (3 << (bits - 2)) | 1
        if (
            all(n % p for p in small)
            and n % 65537 != 1
            and all(_passes(n, source.randrange(2, n)) for _ in range(_ROUNDS))
        ):
            return n


def _passes(n: int, base: int) -> bool:
    odd = n - 1
    twos = 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    x = pow(base, odd, n)
    return x in (1, n - 1) or any((x := x * x % n) == n - 1 for _ in range(twos - 1))
