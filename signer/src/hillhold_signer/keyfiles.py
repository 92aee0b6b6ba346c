"""Private keys in PEM files: made, written, opened.

A key file is PKCS#8 in PEM, encrypted unless someone asked for it in the clear, with `NAME.pub`, the public key in PEM, beside it.
Ed25519 is the default; RSA has 3,072 bits, about as strong as P-256.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from securesystemslib.signer import SecretsHandler

from hillhold_signer.errors import KeyRefused, PassphraseRefused
from hillhold_signer.storage import create_file, read_file

MAX_KEY_FILE: Final = 64 * 1024
"""Bytes of a PEM file; an ML-DSA-87 private key needs 8 KiB."""
TRIES: Final = 3
"""How often a person is asked for one passphrase."""

_MAKE: Final[Mapping[str, Callable[[], PrivateKeyTypes]]] = {
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ecdsa-p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ecdsa-p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "rsa-pss": lambda: rsa.generate_private_key(65537, 3072),
    "ml-dsa-44": mldsa.MLDSA44PrivateKey.generate,
    "ml-dsa-65": mldsa.MLDSA65PrivateKey.generate,
    "ml-dsa-87": mldsa.MLDSA87PrivateKey.generate,
}
KINDS: Final = tuple(_MAKE)
"""What `generate` makes."""

_PEM: Final = serialization.Encoding.PEM
_SPKI, _PKCS8 = serialization.PublicFormat.SubjectPublicKeyInfo, serialization.PrivateFormat.PKCS8
_ENCRYPTED: Final = (b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED")


@dataclass(frozen=True, slots=True)
class Person:
    """A secrets handler with a person behind it, who is asked again after a wrong passphrase; any other is asked once.

    Attributes:
        ask: asks for the secret that its argument names.
        tell: says what was wrong with the last answer.
    """

    ask: SecretsHandler
    tell: Callable[[str], None]

    def __call__(self, what: str) -> str:
        """Ask."""
        return self.ask(what)


def generate(kind: str = "ed25519") -> PrivateKeyTypes:
    """Make a private key; raises `KeyRefused` for a kind not in `KINDS`, or one that this `cryptography` lacks."""
    if kind not in _MAKE:
        raise KeyRefused("kind of key", expected=f"one of {', '.join(KINDS)}", got=kind)
    try:
        return _MAKE[kind]()
    except UnsupportedAlgorithm as error:
        raise KeyRefused("kind of key", expected="an algorithm available here", got=f"{kind}: {error}") from error


def write_key(name: Path, private: PrivateKeyTypes, passphrase: str | None) -> tuple[Path, Path]:
    """Write `NAME.pem` (only its owner may read it) and `NAME.pub`, neither of which may exist.

    Args:
        name: path without suffix.
        passphrase: None writes the private key in the clear.

    Returns:
        The paths of the private and the public file.

    Raises:
        KeyRefused: an empty passphrase.
        StorageError: a file exists or cannot be written.
    """
    if passphrase == "":
        raise KeyRefused("passphrase", expected="one that is not empty", got="an empty one")
    pem, pub = free_names(name)
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
    create_file(pem, private.private_bytes(_PEM, _PKCS8, encryption), mode=0o600)
    create_file(pub, private.public_key().public_bytes(_PEM, _SPKI), mode=0o644)
    return pem, pub


def free_names(name: Path) -> tuple[Path, Path]:
    """Return `NAME.pem` and `NAME.pub`; raises `KeyRefused` where one of them exists."""
    pem, pub = name.with_name(name.name + ".pem"), name.with_name(name.name + ".pub")
    for path in (pem, pub):
        if path.exists():
            raise KeyRefused(f"{path} exists", hint="choose another name; keys are never overwritten")
    return pem, pub


def load_private(path: Path, secrets: SecretsHandler | None) -> PrivateKeyTypes:
    """Open a private key in PEM.

    Args:
        secrets: asked for the "passphrase of PATH" where the key is encrypted; a `Person`, up to `TRIES` times.

    Raises:
        PassphraseRefused: a wrong passphrase, or none.
        KeyRefused: malformed, or of an algorithm that this `cryptography` lacks.
        StorageError: it cannot be read.
    """
    data = read_file(path, MAX_KEY_FILE)
    if b"PUBLIC KEY-----" in data and b"PRIVATE KEY-----" not in data:
        private = path.with_suffix(".pem")
        hint = f"file:{private}" if private != path and private.exists() else None
        raise KeyRefused(f"{path}", expected="a private key", got="a public key", hint=hint)
    if not is_encrypted(data):
        return _parse(data, None, path)
    if secrets is None:
        raise PassphraseRefused(f"{path}", expected="a passphrase, since the key is encrypted", got="none")
    if isinstance(secrets, Person):
        for _ in range(TRIES - 1):
            try:
                return _parse(data, secrets(f"passphrase of {path}"), path)
            except PassphraseRefused as error:
                secrets.tell(str(error))
    return _parse(data, secrets(f"passphrase of {path}"), path)


def is_encrypted(data: bytes) -> bool:
    """Say whether a PEM file holds an encrypted private key."""
    return any(mark in data for mark in _ENCRYPTED)


def _parse(data: bytes, passphrase: str | None, path: Path) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(data, passphrase.encode() if passphrase else None)
    except TypeError as error:
        raise PassphraseRefused(f"{path}", expected="a passphrase, since the key is encrypted", got="none") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        if passphrase is not None:
            hint = "try again; a forgotten passphrase cannot be recovered"
            raise PassphraseRefused(f"wrong passphrase for {path}, or a damaged file", hint=hint) from error
        raise KeyRefused(f"{path}", expected="a private key in PEM", got="something else") from error
