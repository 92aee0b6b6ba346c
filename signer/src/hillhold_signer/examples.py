"""Example keys, public on purpose, for the demo, the tests and the tutorial.

    private key (Ed25519) = SHA-256("hillhold example key, public on purpose: " + name)

Anyone can compute them, so `hillhold` refuses to sign with one, or to take one into a repository, unless `--demo` was given (`init`,
`image sign`).
The same holds for the sample keys that MCUboot publishes in its own repository and that many products shipped with.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, Key

from hillhold_signer.errors import KeyRefused, PublicKeyMaterialRefused
from hillhold_signer.keys import fingerprint

PREFIX: Final = b"hillhold example key, public on purpose: "
NAMES: Final = (
    *("root-1", "root-2", "root-3"),
    *("targets-1", "targets-2", "targets-3"),
    *("release-1", "release-2"),
    *("snapshot", "timestamp", "image", "image-2", "intruder"),
)

MCUBOOT_SAMPLES: Final = {
    "e30466f6b8470c1f29070b17f1e2d3e94d445e3f608087fdc711e4382bb538b6": "root-ec-p256.pem",
    "6bcd1e16d80e5fe13a5307e6f1de8344c7e50e537d9962ce35ef6db5e642fae8": "root-ec-p384.pem",
    "6754edab1e29affef4a05935adecbeb1a7b8b62397b31e39a61b5bfcaafd63af": "root-ed25519-2.pem",
    "b1d87d60173352b9a4808979790fc699fb4c4f83b49cf1970edd96ff4adc36a6": "root-ed25519-unknown.pem",
    "c1907fa4eac7fae3840a78902b6f0710b037e9968e5c6274a12a28790c7d4e3c": "root-ed25519.pem",
    "fc5701dc6135e1323847bdc40f04d2e5bee5833b23c29f93593d00018cfa9994": "root-rsa-2048.pem",
    "a14bcb1bf9bb821146ba32838217e476f5412621320534ffe490a1890c994660": "root-rsa-2048.pem",
    "449793fb65cd7698753d5b3f35fab15f1e3a45111ff24e1d46741de5ae12d59e": "root-rsa-3072.pem",
    "159d8b7930769d887f3ff0b4e9ec176b82313663f2ef76dc24f5e964da1bc482": "root-rsa-3072.pem",
}
"""Fingerprints of the signing keys in the root folder of https://github.com/mcu-tools/mcuboot, with their file names; of RSA keys, also
the hash by which an image names them."""


def example_private(name: str) -> Ed25519PrivateKey:
    """Return the private example key of that name; raises `KeyRefused` for a name not in `NAMES`."""
    if name not in NAMES:
        raise KeyRefused("example key", expected=f"one of {', '.join(NAMES)}", got=name)
    return Ed25519PrivateKey.from_private_bytes(sha256(PREFIX + name.encode()).digest())


def example_signer(name: str) -> CryptoSigner:
    """Return a signer with the example key of that name; raises `KeyRefused` for a name not in `NAMES`."""
    return CryptoSigner(example_private(name))


def public_name(key: Key) -> str | None:
    """Return what a key is called whose private part is public, or None; raises `KeyRefused` for a malformed key."""
    return name_of_hash(fingerprint(key))


def name_of_hash(found: str) -> str | None:
    """Return what a key is called whose private part is public, by its fingerprint or its hash in an image; else None."""
    if sample := MCUBOOT_SAMPLES.get(found):
        return f"MCUboot's published sample key {sample}"
    return _fingerprints().get(found)


def refuse_public(key: Key, *, demo: bool) -> None:
    """Refuse a key whose private part everybody has, unless this is a demo.

    Raises:
        PublicKeyMaterialRefused: it is one; by fingerprint, so whatever key id or file it comes with.
    """
    if demo or (name := public_name(key)) is None:
        return
    raise PublicKeyMaterialRefused(
        f"{name}: its private part is public",
        expected="a key of your own",
        got=fingerprint(key)[:16],
        hint="make one with `hillhold key new`; for a demo of which nothing is trusted, give --demo (`init`, `image sign`)",
    )


@lru_cache(maxsize=1)
def _fingerprints() -> dict[str, str]:
    return {fingerprint(example_signer(name).public_key): f"the example key {name!r}" for name in NAMES}
